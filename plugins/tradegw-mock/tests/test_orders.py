"""Each order type and time in force, told as a table or a short story."""

from __future__ import annotations

import pytest
from tradegw_mock.exchange import OrdType, Reason, SelfTradePrevention, TimeInForce

from .helpers import D, World

ASKS = (("1", "100"), ("2", "101"), ("3", "102"))
"""What bob offers in the tables: quantity, price."""


@pytest.mark.parametrize(
    ("request_", "status", "cum_qty", "cum_quote", "reason"),
    [
        pytest.param({"qty": "1", "price": "99"}, "NEW", "0", "0", None, id="a limit rests"),
        pytest.param({"qty": "1", "price": "100"}, "FILLED", "1", "100", None, id="a limit takes"),
        pytest.param(
            {"qty": "2", "price": "105"}, "FILLED", "2", "201", None, id="at the maker's prices"
        ),
        pytest.param(
            {"qty": "4", "price": "101"},
            "PARTIALLY_FILLED",
            "3",
            "302",
            None,
            id="a limit takes what it may and rests",
        ),
        pytest.param(
            {"qty": "4", "price": "101", "time_in_force": TimeInForce.IOC},
            "EXPIRED",
            "3",
            "302",
            Reason.IOC_REMAINDER,
            id="IOC takes and ends",
        ),
        pytest.param(
            {"qty": "1", "price": "99", "time_in_force": TimeInForce.IOC},
            "EXPIRED",
            "0",
            "0",
            Reason.IOC_REMAINDER,
            id="IOC finds nothing",
        ),
        pytest.param(
            {"qty": "3", "price": "101", "time_in_force": TimeInForce.FOK},
            "FILLED",
            "3",
            "302",
            None,
            id="FOK gets all",
        ),
        pytest.param(
            {"qty": "3.01", "price": "101", "time_in_force": TimeInForce.FOK},
            "EXPIRED",
            "0",
            "0",
            Reason.FOK_NOT_FILLABLE,
            id="FOK gets nothing rather than a part",
        ),
        pytest.param({"qty": "3"}, "FILLED", "3", "302", None, id="market by base"),
        pytest.param(
            {"qty": "7"}, "EXPIRED", "6", "608", Reason.NO_LIQUIDITY, id="market beyond the book"
        ),
        pytest.param(
            {"qty": "7", "time_in_force": TimeInForce.FOK},
            "EXPIRED",
            "0",
            "0",
            Reason.FOK_NOT_FILLABLE,
            id="market FOK beyond the book",
        ),
        pytest.param(
            {"quote_qty": D("201")}, "FILLED", "2", "201", None, id="market by quote, exactly"
        ),
        pytest.param(
            {"quote_qty": D("101.5")},
            "FILLED",
            "1.01",
            "101.01",
            None,
            id="market by quote keeps to whole steps",
        ),
        pytest.param(
            {"quote_qty": D("700")},
            "EXPIRED",
            "6",
            "608",
            Reason.NO_LIQUIDITY,
            id="market by quote beyond the book",
        ),
    ],
)
def test_a_buy_against_three_asks(
    request_: dict[str, object], status: str, cum_qty: str, cum_quote: str, reason: str | None
) -> None:
    world = World()
    for qty, price in ASKS:
        world.place("bob", "SELL", qty, price)
    order = world.place("alice", "BUY", **request_)  # type: ignore[arg-type]
    assert (order.ord_status, order.cum_qty, order.cum_quote, order.reason) == (
        status,
        D(cum_qty),
        D(cum_quote),
        reason,
    )
    # Whatever is not held for an open remainder is free again.
    held = order.leaves_qty * (order.price or 0)
    assert world.funds("alice")["USDT"] == (D(10_000) - D(cum_quote) - held, held)
    assert world.exchange.check_invariants() == []


def test_a_market_sell_by_quote_sells_no_more_than_asked() -> None:
    world = World()
    world.place("bob", "BUY", "1", "100")
    world.place("bob", "BUY", "5", "90")
    order = world.place("alice", "SELL", quote_qty=D("145"))
    assert (order.ord_status, order.cum_qty, order.cum_quote) == ("FILLED", D("1.5"), D("145"))
    assert world.funds("alice")["BTC"] == (D("98.5"), D(0))


def test_a_quote_too_small_for_one_step_expires() -> None:
    world = World()
    world.place("bob", "SELL", "1", "1000")
    order = world.place("alice", "BUY", quote_qty=D("9.99"))
    assert (order.ord_status, order.reason) == ("EXPIRED", Reason.QUOTE_BELOW_ONE_STEP)


def test_price_goes_before_time_and_time_before_all_else() -> None:
    world = World(("alice", "bob", "carol"))
    late_but_better = ("carol", "1", "99")
    first = world.place("bob", "SELL", "1", "100")
    second = world.place("carol", "SELL", "5", "100")
    better = world.place(late_but_better[0], "SELL", *late_but_better[1:])
    world.place("alice", "BUY", "2.5", "100")
    assert [world.order(order).cum_qty for order in (better, first, second)] == [
        D(1),
        D(1),
        D("0.5"),
    ]


def test_fees_are_taken_from_what_is_received_and_go_to_the_house() -> None:
    world = World(maker_fee=D("0.001"), taker_fee=D("0.002"))
    world.place("bob", "SELL", "2", "100")
    taken = world.place("alice", "BUY", "2", "100")
    [fill] = world.fills(taken)
    assert (fill.fee, fill.fee_asset, fill.liquidity) == (D("0.004"), "BTC", "TAKER")
    assert world.funds("alice") == {"BTC": (D("101.996"), D(0)), "USDT": (D(9800), D(0))}
    assert world.funds("bob") == {"BTC": (D(98), D(0)), "USDT": (D("10199.8"), D(0))}
    assert world.funds("house") == {"USDT": (D("0.2"), D(0)), "BTC": (D("0.004"), D(0))}
    assert world.exchange.check_invariants() == []


@pytest.mark.parametrize(
    ("qty", "price", "bought", "sold"),
    [
        pytest.param("0.11", "100", "0.00013580", "0.01358024", id="rounded down to eight places"),
        pytest.param("1", "100", "0.00123456", "0.12345678", id="exact in quote"),
    ],
)
def test_fees_are_rounded_down(qty: str, price: str, bought: str, sold: str) -> None:
    rate = D("0.0012345678")
    world = World(maker_fee=rate, taker_fee=rate)
    sale = world.place("bob", "SELL", qty, price)
    purchase = world.place("alice", "BUY", qty, price)
    assert [fill.fee for fill in world.fills(purchase)] == [D(bought)]
    assert [fill.fee for fill in world.fills(sale)] == [D(sold)]
    assert world.exchange.check_invariants() == []


def test_post_only_rests_at_its_price() -> None:
    world = World()
    world.place("bob", "SELL", "1", "100")
    order = world.place("alice", "BUY", "1", "99.5", post_only=True)
    assert order.ord_status == "NEW"
    assert world.depth() == ([("99.5", "1")], [("100", "1")])


def test_gtd_ends_at_its_time_and_gives_the_hold_back() -> None:
    world = World()
    end = world.clock.now_ns + 10
    order = world.place(
        "alice", "BUY", "1", "100", time_in_force=TimeInForce.GTD, expire_time_ns=end
    )
    world.clock.advance(9)
    assert world.exchange.expire_due() is None
    world.clock.advance(1)
    change = world.exchange.expire_due()
    assert change is not None
    assert (world.order(order).ord_status, world.order(order).reason) == (
        "EXPIRED",
        Reason.EXPIRE_TIME,
    )
    assert world.funds("alice")["USDT"] == (D(10_000), D(0))


def test_an_order_past_its_time_never_trades_again() -> None:
    """The next request ends it first, timer or no timer."""
    world = World()
    end = world.clock.now_ns + 10
    gone = world.place(
        "alice", "BUY", "1", "100", time_in_force=TimeInForce.GTD, expire_time_ns=end
    )
    world.clock.advance(10)
    assert world.place("bob", "SELL", "1", "100").cum_qty == 0
    assert world.order(gone).ord_status == "EXPIRED"


# Stops


@pytest.mark.parametrize(
    ("side", "ord_type", "fires_at", "holds_at"),
    [
        pytest.param("BUY", OrdType.STOP, "110", "109.5", id="a buy stop fires from below"),
        pytest.param("SELL", OrdType.STOP, "110", "110.5", id="a sell stop fires from above"),
        pytest.param("BUY", OrdType.TAKE_PROFIT, "110", "110.5", id="a buy profit from above"),
        pytest.param("SELL", OrdType.TAKE_PROFIT, "110", "109.5", id="a sell profit from below"),
    ],
)
def test_a_trigger_fires_at_its_price(
    side: str, ord_type: OrdType, fires_at: str, holds_at: str
) -> None:
    world = World()
    world.print_at(holds_at)
    order = world.place("alice", side, "1", ord_type=ord_type, trigger_price=D("110"))
    assert (order.ord_status, order.triggered, order.is_waiting) == ("NEW", False, True)
    world.print_at(holds_at)
    assert world.order(order).is_waiting
    other = world.place("bob", "BUY" if side == "SELL" else "SELL", "5", "110")
    world.print_at(fires_at)
    done = world.order(order)
    assert (done.ord_status, done.triggered, done.cum_qty) == ("FILLED", True, D(1))
    assert world.order(other).cum_qty >= 1
    assert world.exchange.check_invariants() == []


@pytest.mark.parametrize("ord_type", [OrdType.STOP_LIMIT, OrdType.TAKE_PROFIT_LIMIT])
def test_a_triggered_limit_rests_at_its_limit(ord_type: OrdType) -> None:
    world = World()
    side = "BUY" if ord_type is OrdType.STOP_LIMIT else "SELL"
    order = world.place("alice", side, "1", "120", ord_type=ord_type, trigger_price=D("110"))
    assert world.depth() == ([], [])
    world.print_at("110")
    assert world.order(order).triggered
    assert ("120", "1") in world.depth()[0 if side == "BUY" else 1]
    assert world.exchange.check_invariants() == []


def test_stops_fire_each_other_in_order_of_acceptance() -> None:
    """The first stop's trade reaches the second stop, all within the one request."""
    world = World(("alice", "bob", "carol"))
    world.place("bob", "SELL", "1", "105")
    world.place("bob", "SELL", "1", "110")
    first = world.place("alice", "BUY", "1", ord_type=OrdType.STOP, trigger_price=D("100"))
    second = world.place("carol", "BUY", "1", ord_type=OrdType.STOP, trigger_price=D("105"))
    world.print_at("100")
    assert [fill.price for fill in world.fills(first)] == [D(105)]
    assert [fill.price for fill in world.fills(second)] == [D(110)]
    last = world.heard[-1]
    assert {fill.order_id for fill in last.fills} >= {first.order_id, second.order_id}


def test_stops_of_one_print_go_to_work_in_order_of_acceptance() -> None:
    world = World(("alice", "bob", "carol"))
    world.place("bob", "SELL", "1", "105")
    first = world.place("carol", "BUY", "1", ord_type=OrdType.STOP, trigger_price=D("100"))
    second = world.place("alice", "BUY", "1", ord_type=OrdType.STOP, trigger_price=D("99"))
    world.print_at("100")
    assert [world.order(order).ord_status for order in (first, second)] == ["FILLED", "EXPIRED"]


def test_a_sweep_fires_stops_at_every_price_that_it_printed() -> None:
    """From 99.5, low enough for the sell stop, to 110, high enough for the buy stop."""
    world = World()
    world.print_at("105")
    stop = world.place("alice", "SELL", "1", ord_type=OrdType.STOP, trigger_price=D("100"))
    rise = world.place("alice", "BUY", "1", ord_type=OrdType.STOP, trigger_price=D("110"))
    world.place("bob", "SELL", "1", "99.5")
    world.place("bob", "SELL", "1", "110")
    world.place("bob", "BUY", "2", "90")
    world.exchange.create_account("carol", balances={"USDT": D(1000)})
    world.place("carol", "BUY", "2", "110")
    assert world.order(stop).triggered
    assert world.order(rise).triggered


def test_a_stop_buy_that_its_gap_made_unaffordable_is_rejected() -> None:
    world = World()
    world.place("bob", "SELL", "50", "250")
    stop = world.place("alice", "BUY", "50", ord_type=OrdType.STOP, trigger_price=D("100"))
    assert world.funds("alice")["USDT"] == (D(5000), D(5000))
    world.print_at("100")
    done = world.order(stop)
    assert (done.ord_status, done.reason, done.cum_qty) == (
        "REJECTED",
        Reason.INSUFFICIENT_FUNDS_AT_TRIGGER,
        D(0),
    )
    assert world.funds("alice")["USDT"] == (D(10_000), D(0))


# Self-trade prevention


@pytest.mark.parametrize(
    ("mode", "taker", "own", "other"),
    [
        (SelfTradePrevention.EXPIRE_TAKER, ("EXPIRED", "1"), ("NEW", "0"), ("NEW", "0")),
        (SelfTradePrevention.EXPIRE_MAKER, ("FILLED", "3"), ("EXPIRED", "0"), ("FILLED", "2")),
        (SelfTradePrevention.EXPIRE_BOTH, ("EXPIRED", "1"), ("EXPIRED", "0"), ("NEW", "0")),
        (SelfTradePrevention.NONE, ("FILLED", "3"), ("FILLED", "2"), ("NEW", "0")),
    ],
)
def test_self_trade_prevention(
    mode: SelfTradePrevention,
    taker: tuple[str, str],
    own: tuple[str, str],
    other: tuple[str, str],
) -> None:
    world = World()
    world.place("bob", "SELL", "1", "100")
    mine = world.place("alice", "SELL", "2", "101")
    theirs = world.place("bob", "SELL", "2", "101")
    order = world.place("alice", "BUY", "3", "105", self_trade_prevention=mode)
    found = [
        (item.ord_status, item.cum_qty)
        for item in (world.order(order), world.order(mine), world.order(theirs))
    ]
    assert found == [(status, D(qty)) for status, qty in (taker, own, other)]
    if mode is not SelfTradePrevention.NONE and order.ord_status == "EXPIRED":
        assert order.reason == Reason.SELF_TRADE_PREVENTION
    assert world.exchange.check_invariants() == []


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        (SelfTradePrevention.EXPIRE_TAKER, "EXPIRED"),
        (SelfTradePrevention.EXPIRE_BOTH, "EXPIRED"),
        (SelfTradePrevention.EXPIRE_MAKER, "FILLED"),
        (SelfTradePrevention.NONE, "FILLED"),
    ],
)
def test_fok_counts_what_self_trade_prevention_lets_it_take(
    mode: SelfTradePrevention, status: str
) -> None:
    world = World()
    world.place("alice", "SELL", "2", "100")
    world.place("bob", "SELL", "2", "100")
    order = world.place(
        "alice", "BUY", "2", "100", time_in_force=TimeInForce.FOK, self_trade_prevention=mode
    )
    assert (order.ord_status, order.cum_qty) == (status, D(2) if status == "FILLED" else D(0))
