"""Checks of requests: what is expected and what was found, and nothing rounded."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.engine.bench import capabilities
from tradegw.engine.validate import (
    check_capabilities,
    check_fields,
    check_grid,
    check_key,
    check_replace,
    new_order,
    parse_terms,
)
from tradegw.errors import InvalidOrder, UnsupportedOrder
from tradegw.model import (
    InstrumentStatus,
    OrdType,
    ReplaceTerms,
    Side,
    TimeInForce,
    TriggerBy,
)
from tradegw.testing import a_new_order, an_instrument, an_order

D = Decimal
LIMIT: dict[str, Any] = {
    "symbol": "BTC/USDT",
    "side": "buy",
    "ord_type": "limit",
    "order_qty": "0.01",
    "price": "65000",
}


def test_text_and_either_case_make_an_order() -> None:
    order = new_order({**LIMIT, "time_in_force": "ioc", "tags": {"a": "b"}, "venue": None})
    assert (order.side, order.ord_type, order.time_in_force) == (
        Side.BUY,
        OrdType.LIMIT,
        TimeInForce.IOC,
    )
    assert (order.order_qty, order.price) == (D("0.01"), D(65000))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"side": "hold"}, "Side is one of BUY, SELL; found 'hold'", id="side"),
        pytest.param({"side": 1}, "Side is one of", id="a side that is no text"),
        pytest.param({"ord_type": "limt"}, "OrdType is one of", id="type"),
        pytest.param({"symbol": None}, "an order needs symbol", id="no symbol"),
        pytest.param({"pric": "5"}, "an order has no field 'pric'", id="a misspelt field"),
        pytest.param({"order_qty": 0.1}, "never a float", id="a float"),
        pytest.param({"order_qty": True}, "never a bool", id="a bool"),
        pytest.param({"order_qty": "1e3"}, "without exponent", id="an exponent"),
        pytest.param({"order_qty": "1,5"}, "plain decimal", id="a comma"),
        pytest.param({"order_qty": "NaN"}, "plain decimal", id="no number"),
        pytest.param({"order_qty": "٣"}, "plain decimal", id="other digits"),
        pytest.param({"order_qty": ""}, "plain decimal", id="nothing"),
        pytest.param({"order_qty": "9" * 39}, "at most 38 digits", id="too many digits"),
        pytest.param({"order_qty": "0." + "0" * 18 + "1"}, "at most 18 digits", id="too fine"),
        pytest.param({"order_qty": "0"}, "above zero", id="zero"),
        pytest.param({"order_qty": "-0.0"}, "above zero", id="less than nothing, nearly"),
        pytest.param({"order_qty": "-1"}, "above zero", id="negative"),
        pytest.param({"order_qty": None}, "exactly one of order_qty and quote_qty", id="neither"),
        pytest.param({"quote_qty": "5"}, "exactly one of order_qty and quote_qty", id="both"),
        pytest.param(
            {"order_qty": None, "quote_qty": "5"}, "quote_qty is for MARKET", id="quote at a limit"
        ),
        pytest.param({"price": None}, "LIMIT needs price", id="no price"),
        pytest.param({"ord_type": "market"}, "MARKET takes no price", id="a price at market"),
        pytest.param({"trigger_price": "5"}, "LIMIT takes no trigger_price", id="a stray trigger"),
        pytest.param({"ord_type": "stop_limit"}, "STOP_LIMIT needs trigger_price", id="no trigger"),
        pytest.param(
            {"ord_type": "trailing_stop", "price": None}, "needs trailing_offset", id="no offset"
        ),
        pytest.param({"time_in_force": "gtd"}, "GTD needs expire_time_ns", id="no end"),
        pytest.param({"expire_time_ns": 5}, "GTC takes no expire_time_ns", id="a stray end"),
        pytest.param(
            {"time_in_force": "gtd", "expire_time_ns": 0}, "nanoseconds since", id="an end long ago"
        ),
        pytest.param(
            {"time_in_force": "gtd", "expire_time_ns": 2**63}, "nanoseconds since", id="no end ever"
        ),
        pytest.param(
            {"time_in_force": "gtd", "expire_time_ns": 1.5}, "nanoseconds since", id="a float end"
        ),
        pytest.param(
            {"ord_type": "market", "price": None, "post_only": True}, "post_only is for", id="post"
        ),
        pytest.param(
            {"post_only": True, "time_in_force": "ioc"}, "post_only contradicts IOC", id="post ioc"
        ),
        pytest.param({"max_slippage_bps": "5"}, "is for MARKET orders", id="slippage at a limit"),
        pytest.param(
            {"trigger_by": "last"}, "takes no trigger_by", id="a stray trigger price kind"
        ),
        pytest.param({"client_order_id": ""}, "1 to 64 printable", id="an empty name"),
        pytest.param({"client_order_id": "x" * 65}, "1 to 64 printable", id="a long name"),
        pytest.param({"idempotency_key": "a b"}, "1 to 64 printable", id="a key with a space"),
        pytest.param({"idempotency_key": "ä"}, "1 to 64 printable", id="a key beyond ASCII"),
        pytest.param({"idempotency_key": "a\x1fb"}, "1 to 64 printable", id="a derived key"),
        pytest.param({"idempotency_key": 5}, "1 to 64 printable", id="a key that is no text"),
        pytest.param({"symbol": ""}, "symbol must be text", id="an empty symbol"),
        pytest.param({"symbol": "x" * 65}, "symbol must be text", id="a long symbol"),
        pytest.param({"symbol": 5}, "symbol must be text", id="a symbol that is no text"),
        pytest.param({"tags": {"": "x"}}, "a tag is", id="a tag without name"),
        pytest.param({"tags": {"a": "x" * 129}}, "a tag is", id="a long tag"),
        pytest.param({"tags": {"a": "\ud800"}}, "a tag is", id="half a character"),
        pytest.param({"tags": {"a": 1}}, "a tag is", id="a tag that is no text"),
        pytest.param({"tags": {f"t{i}": "x" for i in range(17)}}, "at most 16 tags", id="17 tags"),
        pytest.param({"tags": "a=b"}, "tags must be a mapping", id="tags that are text"),
    ],
)
def test_a_malformed_order_is_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidOrder) as refused:
        new_order({**LIMIT, **changes})
    assert expected in str(refused.value)
    assert refused.value.reason in ("INVALID_FIELD", "INVALID_QUANTITY")


def test_an_order_made_by_hand_is_held_to_the_same() -> None:
    check_fields(a_new_order())
    for wrong in ({"order_qty": "1"}, {"order_qty": 1}, {"price": D("Infinity")}):
        with pytest.raises(InvalidOrder):
            check_fields(a_new_order(**wrong))


def test_keys_that_fit() -> None:
    for key in ("a", "x" * 64, "!~", "{}"):
        check_key(key, "key")


# --- the grid ---------------------------------------------------------------------------------------

GRID = an_instrument(
    tick_size=D("0.5"),
    step_size=D("0.01"),
    qty_min=D("0.02"),
    qty_max=D(5),
    notional_min=D(10),
    notional_max=D(100),
)


@pytest.mark.parametrize(
    ("qty", "price", "reason", "text"),
    [
        ("1", "10.3", "PRICE_OFF_TICK", "nearest are 10.0 and 10.5"),
        ("1", "0.3", "PRICE_OFF_TICK", "nearest are 0.5"),
        ("1.005", "10", "QTY_OFF_STEP", "nearest are 1.00 and 1.01"),
        ("0.01", "10", "QTY_TOO_SMALL", "0.02"),
        ("5.01", "10", "QTY_TOO_LARGE", "5"),
        ("0.5", "10", "NOTIONAL_TOO_SMALL", "5"),
        ("5", "20.5", "NOTIONAL_TOO_LARGE", "102.5"),
    ],
)
def test_what_is_off_the_grid_is_refused_with_what_would_fit(
    qty: str, price: str, reason: str, text: str
) -> None:
    with pytest.raises(InvalidOrder) as refused:
        check_grid(GRID, order_qty=D(qty), price=D(price), trigger_price=None)
    assert refused.value.reason == reason
    assert text in str(refused.value)


def test_a_price_beyond_all_measure_is_refused_like_any_other() -> None:
    grid = an_instrument(tick_size=D("0.04"))
    with pytest.raises(InvalidOrder) as refused:
        check_grid(grid, order_qty=D(1), price=D("9" * 37 + ".5"), trigger_price=None)
    assert refused.value.reason == "PRICE_OFF_TICK"


def test_what_is_on_the_grid_passes() -> None:
    check_grid(GRID, order_qty=D("1.00"), price=D("10.50"), trigger_price=D("11"))
    check_grid(GRID, order_qty=None, price=None, trigger_price=None)
    free = an_instrument(tick_size=D(0), step_size=D(0), qty_min=D(0))
    check_grid(free, order_qty=D("0.123456789"), price=D("0.1"), trigger_price=None)
    with pytest.raises(InvalidOrder):
        check_grid(GRID, order_qty=D(1), price=D("10.5"), trigger_price=D("11.1"))


@pytest.mark.parametrize("status", [s for s in InstrumentStatus if s != "TRADING"])
def test_an_instrument_that_does_not_trade_takes_nothing(status: InstrumentStatus) -> None:
    with pytest.raises(InvalidOrder) as refused:
        check_grid(replace(GRID, status=status), order_qty=D(1), price=D(20), trigger_price=None)
    assert refused.value.reason == "INSTRUMENT_NOT_TRADING"


# --- capabilities -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"ord_type": OrdType.STOP, "price": None, "trigger_price": D(1)},
        {"time_in_force": TimeInForce.FOK},
        {"post_only": True},
        {"reduce_only": True},
        {"ord_type": OrdType.MARKET, "price": None, "order_qty": None, "quote_qty": D(5)},
        {"ord_type": OrdType.MARKET, "price": None, "max_slippage_bps": D(5)},
    ],
)
def test_what_a_venue_cannot_do_is_refused(fields: dict[str, Any]) -> None:
    order = a_new_order(**fields)
    with pytest.raises(UnsupportedOrder, match="acme"):
        check_capabilities(order, capabilities(), "acme")
    can = capabilities(
        ord_types=frozenset(OrdType),
        time_in_force=frozenset(TimeInForce),
        post_only=True,
        reduce_only=True,
        quote_qty=True,
        max_slippage=True,
    )
    check_capabilities(order, can, "acme")


# --- replacing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({}, "give at least one"),
        ({"price": D(0)}, "above zero"),
        ({"trigger_price": D(5)}, "has no trigger_price"),
        ({"order_qty": D("0.4")}, "must be above the 0.4 filled"),
    ],
)
def test_terms_that_cannot_be_are_refused(terms: dict[str, Any], expected: str) -> None:
    order = replace(an_order(), cum_qty=D("0.4"))
    with pytest.raises(InvalidOrder) as refused:
        check_replace(order, ReplaceTerms(**terms))
    assert expected in str(refused.value)


def test_terms_that_fit() -> None:
    order = replace(an_order(), cum_qty=D("0.4"))
    check_replace(order, ReplaceTerms(order_qty=D("0.5"), price=D(7)))
    stop = an_order(
        ord_type=OrdType.STOP, price=None, trigger_price=D(5), trigger_by=TriggerBy.LAST
    )
    check_replace(stop, ReplaceTerms(trigger_price=D(7)))


def test_terms_are_read_as_callers_write_them() -> None:
    assert parse_terms("1.50", None, 7) == ReplaceTerms(order_qty=D("1.5"), trigger_price=D(7))
    with pytest.raises(InvalidOrder):
        parse_terms(None, 1.5, None)
