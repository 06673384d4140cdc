"""Which kind of order the chain gets."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tradegw_dydx.markets import SAMPLES
from tradegw_dydx.orders import OrderFlags, Owner, Policy, cancel_height, choose

from tradegw import InvalidOrder, NewOrder, OrdType, Side, TimeInForce, TriggerBy, UnsupportedOrder
from tradegw.venue import VenueTime

from .keys import A1

D = Decimal
BTC = SAMPLES["BTC-USD"]
NOW_S = 1_767_000_000
NOW = VenueTime(time_ns=NOW_S * 10**9, height=1000)
CAP_S = NOW_S + 95 * 86_400
SHORT, LONG, CONDITIONAL = OrderFlags.SHORT_TERM, OrderFlags.LONG_TERM, OrderFlags.CONDITIONAL


def order(**fields):
    given = {
        "symbol": BTC.symbol,
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "order_qty": D("0.01"),
        "price": D(64_000),
    }
    return NewOrder(**{**given, **fields})


def chosen(terms, *, now=NOW, **more):
    return choose(
        terms,
        owner=Owner(address=A1, subaccount=3, metadata=77),
        client_id=5,
        market=BTC,
        now=now,
        policy=Policy(),
        reference_px=more.pop("reference_px", D("89919.2")),
        **more,
    )


IOC, GTC, GTD, DAY = TimeInForce.IOC, TimeInForce.GTC, TimeInForce.GTD, TimeInForce.DAY
STOP = {"ord_type": OrdType.STOP, "price": None, "trigger_price": D(60_000)}


@pytest.mark.parametrize(
    ("fields", "flags", "height", "time_s", "tif"),
    [
        pytest.param({"time_in_force": IOC}, SHORT, 1005, None, 1, id="IOC"),
        pytest.param(
            {"ord_type": OrdType.MARKET, "price": None}, SHORT, 1005, None, 1, id="MARKET"
        ),
        pytest.param(
            {"time_in_force": GTD, "expire_time_ns": NOW.time_ns + 6 * 10**9},
            SHORT,
            1010,
            None,
            0,
            id="GTD within the window",
        ),
        pytest.param(
            {"time_in_force": GTD, "expire_time_ns": NOW.time_ns + 24 * 10**9, "post_only": True},
            SHORT,
            1040,
            None,
            2,
            id="GTD at the window's end, post-only",
        ),
        pytest.param(
            {"time_in_force": GTD, "expire_time_ns": NOW.time_ns + 25 * 10**9},
            LONG,
            None,
            NOW_S + 25,
            0,
            id="GTD beyond the window",
        ),
        pytest.param({}, LONG, None, CAP_S - 600, 0, id="GTC"),
        pytest.param({"post_only": True}, LONG, None, CAP_S - 600, 2, id="GTC post-only"),
        pytest.param(
            {"time_in_force": DAY}, LONG, None, (NOW_S // 86_400 + 1) * 86_400, 0, id="DAY"
        ),
        pytest.param(STOP, CONDITIONAL, None, CAP_S - 600, 1, id="STOP"),
        pytest.param(
            {**STOP, "ord_type": OrdType.STOP_LIMIT, "price": D(59_000)},
            CONDITIONAL,
            None,
            CAP_S - 600,
            0,
            id="STOP_LIMIT",
        ),
        pytest.param(
            {
                **STOP,
                "ord_type": OrdType.TAKE_PROFIT_LIMIT,
                "price": D(59_000),
                "time_in_force": IOC,
            },
            CONDITIONAL,
            None,
            CAP_S - 600,
            1,
            id="TAKE_PROFIT_LIMIT IOC",
        ),
    ],
)
def test_kinds_and_ends(fields, flags, height, time_s, tif):
    found = chosen(order(**fields))
    assert found.order_id.flags is flags
    assert (found.good_til_block, found.good_til_block_time) == (height, time_s)
    assert found.time_in_force == tif
    assert (found.order_id.subaccount, found.client_metadata) == (3, 77)


@pytest.mark.parametrize(
    ("side", "fields", "subticks"),
    [
        (Side.BUY, {}, 9_441_600_000),
        (Side.SELL, {}, 8_542_300_000),
        (Side.BUY, {"max_slippage_bps": D(10)}, 9_001_000_000),  # 89919.2 * 1.001 = 90009.12
    ],
)
def test_a_market_order_is_bounded_by_the_oracle(side, fields, subticks):
    found = chosen(order(side=side, ord_type=OrdType.MARKET, price=None, **fields))
    assert found.subticks == subticks


def test_a_triggered_market_order_is_bounded_by_its_trigger():
    found = chosen(order(**STOP, side=Side.SELL, reduce_only=True), reference_px=None)
    assert found.subticks == 5_700_000_000
    assert found.trigger_subticks == 6_000_000_000
    assert found.condition_type == 1
    assert found.reduce_only


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"time_in_force": TimeInForce.FOK}, "fill-or-kill"),
        ({"reduce_only": True}, "reduce_only with immediate orders alone"),
        ({"order_qty": None, "quote_qty": D(5)}, "sized in base units"),
        ({**STOP, "trigger_by": TriggerBy.LAST}, "oracle's price"),
        (
            {"ord_type": OrdType.TRAILING_STOP, "price": None, "trailing_offset": D(5)},
            "no trailing stops",
        ),
    ],
)
def test_what_the_chain_has_not(fields, told):
    with pytest.raises(UnsupportedOrder, match=told):
        chosen(order(**fields))


@pytest.mark.parametrize(
    ("fields", "more", "reason"),
    [
        ({"order_qty": D("0.00015")}, {}, "QTY_OFF_STEP"),
        ({"price": D("0.5")}, {}, "PRICE_OFF_TICK"),
        ({**STOP, "trigger_price": D("60000.5")}, {}, "PRICE_OFF_TICK"),
        ({"ord_type": OrdType.MARKET, "price": None}, {"reference_px": None}, "NO_REFERENCE_PRICE"),
        ({"time_in_force": IOC}, {"now": VenueTime(time_ns=NOW.time_ns)}, "NO_BLOCK_HEIGHT"),
        (
            {"time_in_force": GTD, "expire_time_ns": NOW.time_ns + 10**8},
            {},
            "INVALID_FIELD",
        ),
        ({"time_in_force": GTD, "expire_time_ns": CAP_S * 10**9}, {}, "INVALID_FIELD"),
        ({"time_in_force": GTD, "expire_time_ns": NOW.time_ns - 1}, {}, "INVALID_FIELD"),
    ],
)
def test_what_cannot_be_expressed(fields, more, reason):
    with pytest.raises(InvalidOrder) as e:
        chosen(order(**fields), **more)
    assert e.value.reason == reason


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        pytest.param(1030, 1030, id="never below the order's own: that would be a silent no-op"),
        pytest.param(1002, 1005, id="time enough to arrive"),
        pytest.param(None, 1040, id="an order whose end is not known: the latest there is"),
    ],
)
def test_the_height_of_a_cancel(own, expected):
    assert cancel_height(own, NOW, Policy()) == expected
