"""What is refused, and that a refusal has no effect; cancel and replace."""

from __future__ import annotations

from collections.abc import Callable
from decimal import localcontext
from typing import Any

import pytest
from tradegw_mock.exchange import (
    Change,
    Exchange,
    ExchangeBroken,
    OrderRequest,
    OrdType,
    Reason,
    Refusal,
    RefusalCode,
    RequestRecord,
    TimeInForce,
)

from .helpers import BTC_USDT, START_NS, SYMBOL, Clock, D, World, a_request, refusal_of

GTD = TimeInForce.GTD


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param(a_request(qty="1", price="1", symbol="X/Y"), "UNKNOWN_SYMBOL", id="symbol"),
        pytest.param(a_request(qty="1", price="100.25"), "PRICE_OFF_TICK", id="off tick"),
        pytest.param(a_request(qty="1", price="0"), "PRICE_OUT_OF_RANGE", id="price zero"),
        pytest.param(a_request(qty="1", price="-1"), "PRICE_OUT_OF_RANGE", id="price negative"),
        pytest.param(a_request(qty="1", price="NaN"), "PRICE_OUT_OF_RANGE", id="price NaN"),
        pytest.param(a_request(qty="1", price="sNaN"), "PRICE_OUT_OF_RANGE", id="price sNaN"),
        pytest.param(a_request(qty="1", price="Infinity"), "PRICE_OUT_OF_RANGE", id="infinite"),
        pytest.param(a_request(qty="1", price="1E+999999"), "PRICE_OUT_OF_RANGE", id="huge"),
        pytest.param(a_request(qty="1", price="1E-999999"), "PRICE_OFF_TICK", id="tiny"),
        pytest.param(a_request(qty="0.015", price="100"), "QTY_OFF_STEP", id="off step"),
        pytest.param(a_request(qty="0", price="100"), "QTY_TOO_SMALL", id="qty zero"),
        pytest.param(a_request(qty="-1", price="100"), "QTY_TOO_SMALL", id="qty negative"),
        pytest.param(a_request(qty="NaN", price="100"), "QTY_TOO_SMALL", id="qty NaN"),
        pytest.param(a_request(qty="10000.01", price="100"), "QTY_TOO_LARGE", id="qty large"),
        pytest.param(a_request(qty="1E+999999", price="100"), "QTY_TOO_LARGE", id="qty huge"),
        pytest.param(a_request(qty="0.01", price="99.5"), "NOTIONAL_TOO_SMALL", id="notional"),
        pytest.param(a_request(quote_qty=D("0.99")), "NOTIONAL_TOO_SMALL", id="quote notional"),
        pytest.param(a_request(quote_qty=D("2.000000001")), "QTY_OFF_STEP", id="quote too fine"),
        pytest.param(a_request(quote_qty=D("1E+20")), "QTY_TOO_LARGE", id="quote too large"),
        pytest.param(a_request(quote_qty=D(-5)), "QTY_TOO_SMALL", id="quote negative"),
        pytest.param(a_request(qty="101", price="100"), "INSUFFICIENT_FUNDS", id="buy, short"),
        pytest.param(a_request("SELL", "100.01", "1"), "INSUFFICIENT_FUNDS", id="sell, short"),
        pytest.param(a_request("SELL", "100.01"), "INSUFFICIENT_FUNDS", id="market sell, short"),
        pytest.param(a_request(quote_qty=D(10001)), "INSUFFICIENT_FUNDS", id="quote, short"),
        pytest.param(
            a_request(qty="9000"), "INSUFFICIENT_FUNDS", id="market beyond book and funds"
        ),
        pytest.param(
            a_request(qty="101", ord_type=OrdType.STOP, trigger_price=D(120)),
            "INSUFFICIENT_FUNDS",
            id="stop, short",
        ),
        pytest.param(
            a_request(qty="1", price="110", post_only=True), "WOULD_CROSS", id="post only"
        ),
        pytest.param(
            a_request(qty="1", ord_type=OrdType.STOP, trigger_price=D("100")),
            "TRIGGER_WOULD_FIRE",
            id="stop fires at once",
        ),
        pytest.param(
            a_request(
                qty="1", price="90", ord_type=OrdType.TAKE_PROFIT_LIMIT, trigger_price=D(100)
            ),
            "TRIGGER_WOULD_FIRE",
            id="profit fires at once",
        ),
        pytest.param(
            a_request(qty="1", price="90", client_order_id="taken"),
            "DUPLICATE_CLIENT_ORDER_ID",
            id="client id of an open order",
        ),
        pytest.param(
            a_request(qty="1", price="90", client_order_id="x" * 37),
            "BAD_CLIENT_ORDER_ID",
            id="long",
        ),
        pytest.param(
            a_request(qty="1", price="90", client_order_id="\udcff"),
            "BAD_CLIENT_ORDER_ID",
            id="a text that cannot be stored",
        ),
        pytest.param(
            a_request(qty="1", price="90", client_order_id=""), "BAD_CLIENT_ORDER_ID", id="empty"
        ),
        pytest.param(a_request(price="100"), "MALFORMED", id="no quantity"),
        pytest.param(
            a_request(qty="1", price="100", quote_qty=D(5)), "MALFORMED", id="both quantities"
        ),
        pytest.param(a_request(quote_qty=D(5), price="100"), "MALFORMED", id="limit by quote"),
        pytest.param(a_request(qty="1", ord_type=OrdType.LIMIT), "MALFORMED", id="limit, no price"),
        pytest.param(
            a_request(qty="1", price="1", ord_type=OrdType.MARKET), "MALFORMED", id="market, price"
        ),
        pytest.param(a_request(qty="1", ord_type=OrdType.STOP), "MALFORMED", id="stop, no trigger"),
        pytest.param(
            a_request(qty="1", price="99", trigger_price=D(1)), "MALFORMED", id="limit, trigger"
        ),
        pytest.param(
            a_request(qty="1", price="99", time_in_force=GTD), "MALFORMED", id="GTD, no end"
        ),
        pytest.param(
            a_request(qty="1", price="99", expire_time_ns=START_NS + 1), "MALFORMED", id="GTC, end"
        ),
        pytest.param(
            a_request(qty="1", time_in_force=GTD, expire_time_ns=START_NS + 1),
            "MALFORMED",
            id="market GTD",
        ),
        pytest.param(
            a_request(qty="1", price="99", time_in_force=GTD, expire_time_ns=START_NS),
            "BAD_EXPIRE_TIME",
            id="GTD in the past",
        ),
        pytest.param(
            a_request(qty="1", price="99", time_in_force=GTD, expire_time_ns=2**63),
            "BAD_EXPIRE_TIME",
            id="GTD beyond all clocks",
        ),
        pytest.param(
            a_request(qty="1", price="9", post_only=True, time_in_force=TimeInForce.IOC),
            "MALFORMED",
            id="post-only IOC",
        ),
        pytest.param(a_request(qty="1", post_only=True), "MALFORMED", id="post-only market"),
    ],
)
def test_a_refused_order_changes_nothing_but_the_audit_trail(
    request_: OrderRequest, code: str
) -> None:
    world = World()
    world.print_at("100")
    world.place("bob", "SELL", "1", "105")
    world.place("alice", "BUY", "0.1", "50", client_order_id="taken")
    funds, depth = world.funds("alice"), world.depth()
    lines = list(world.exchange.audit())
    with pytest.raises(Refusal) as caught:
        world.exchange.place("alice", request_)
    assert caught.value.code == code
    assert (world.funds("alice"), world.depth()) == (funds, depth)
    assert len(world.exchange.open_orders("alice")) == 1
    change = caught.value.change
    assert change is not None
    assert change is world.heard[-1]
    assert (change.orders, change.balances, change.events) == ((), (), ())
    [line] = list(world.exchange.audit())[len(lines) :]
    assert isinstance(line.detail, RequestRecord)
    assert (line.detail.code, line.number) == (code, lines[-1].number + 1)
    # The exchange goes on.
    assert world.place("alice", "BUY", "1", "99").ord_status == "NEW"


def test_a_stranger_is_refused() -> None:
    assert refusal_of(World().exchange, "nobody", a_request(qty="1", price="99")) == (
        RefusalCode.UNKNOWN_ACCOUNT
    )


@pytest.mark.parametrize(("late_ns", "accepted"), [(-1, True), (0, True), (1, False)])
def test_a_request_is_valid_until_its_time_and_not_after(late_ns: int, accepted: bool) -> None:
    world = World()
    until = world.clock.now_ns - late_ns
    place = a_request(qty="1", price="99", client_order_id="c")
    calls: list[Callable[[], object]] = [
        lambda: world.exchange.place("alice", place, valid_until_ns=until),
        lambda: world.exchange.replace(
            "alice", client_order_id="c", order_qty=D(2), valid_until_ns=until
        ),
        lambda: world.exchange.cancel("alice", client_order_id="c", valid_until_ns=until),
        lambda: world.exchange.cancel_all("alice", valid_until_ns=until),
    ]
    if not accepted:
        world.exchange.place("alice", place)
    for call in calls:
        if accepted:
            call()
        else:
            with pytest.raises(Refusal) as caught:
                call()
            assert caught.value.code is RefusalCode.REQUEST_EXPIRED
    if not accepted:
        [order] = world.exchange.open_orders("alice")
        assert order.order_qty == 1


def test_a_client_order_id_is_free_again_once_its_order_closed() -> None:
    """As on Binance: a doubled order shows in the ledger, and the latest answers to the id."""
    world = World()
    first = world.place("alice", "BUY", "1", "99", client_order_id="c")
    world.exchange.cancel("alice", client_order_id="c")
    assert world.exchange.get_order("alice", client_order_id="c").order_id == first.order_id
    second = world.place("alice", "BUY", "1", "98", client_order_id="c")
    assert world.exchange.get_order("alice", client_order_id="c").order_id == second.order_id
    world.exchange.cancel("alice", client_order_id="c")
    assert world.exchange.get_order("alice", client_order_id="c").order_id == second.order_id
    assert len(world.exchange.order_history("alice").orders) == 2
    # Another account may use it at any time.
    world.place("bob", "BUY", "1", "98", client_order_id="c")


# Cancel


def test_cancel_gives_the_hold_back() -> None:
    world = World()
    order = world.place("alice", "BUY", "2", "100")
    assert world.funds("alice")["USDT"] == (D(9800), D(200))
    world.place("bob", "SELL", "0.5", "100")
    change = world.exchange.cancel("alice", order_id=order.order_id)
    assert change.order is not None
    assert (change.order.ord_status, change.order.cum_qty, change.order.reason) == (
        "CANCELED",
        D("0.5"),
        Reason.USER_CANCEL,
    )
    assert world.funds("alice")["USDT"] == (D(9950), D(0))
    assert world.depth() == ([], [])


@pytest.mark.parametrize(
    ("account", "ids", "code"),
    [
        pytest.param("alice", {"order_id": 999}, "UNKNOWN_ORDER", id="no such id"),
        pytest.param("alice", {"client_order_id": "nix"}, "UNKNOWN_ORDER", id="no such client id"),
        pytest.param("bob", {"order_id": 1}, "UNKNOWN_ORDER", id="a stranger's"),
        pytest.param("bob", {"client_order_id": "c"}, "UNKNOWN_ORDER", id="a stranger's client id"),
        pytest.param("alice", {"order_id": 2}, "ORDER_CLOSED", id="closed"),
        pytest.param("alice", {"client_order_id": "d"}, "ORDER_CLOSED", id="closed, by client id"),
        pytest.param(
            "alice",
            {"order_id": 1, "client_order_id": "d"},
            "UNKNOWN_ORDER",
            id="ids of two orders",
        ),
        pytest.param("alice", {}, "MALFORMED", id="no id"),
        pytest.param("nobody", {"order_id": 1}, "UNKNOWN_ACCOUNT", id="no account"),
    ],
)
def test_cancel_and_replace_name_an_own_open_order(
    account: str, ids: dict[str, Any], code: str
) -> None:
    world = World()
    world.place("alice", "BUY", "1", "99", client_order_id="c")
    world.place("alice", "BUY", "1", "98", client_order_id="d")
    world.exchange.cancel("alice", client_order_id="d")
    calls: list[Callable[..., object]] = [world.exchange.cancel, world.exchange.replace]
    for call in calls:
        with pytest.raises(Refusal) as caught:
            call(account, **ids)
        assert caught.value.code == code
    assert len(world.exchange.open_orders("alice")) == 1


def test_cancel_all_is_one_change() -> None:
    world = World()
    world.place("alice", "BUY", "1", "99")
    world.place("alice", "SELL", "1", "101")
    world.place("alice", "BUY", "1", ord_type=OrdType.STOP, trigger_price=D(110))
    other = world.place("bob", "BUY", "1", "98")
    change = world.exchange.cancel_all("alice", symbol=SYMBOL)
    assert [order.ord_status for order in change.orders] == ["CANCELED"] * 3
    assert world.exchange.open_orders("alice") == []
    assert world.order(other).is_open
    assert world.exchange.cancel_all("alice").orders == ()
    assert world.exchange.check_invariants() == []


# Replace


@pytest.mark.parametrize(
    ("changes", "next_filled"),
    [
        pytest.param({"order_qty": D("0.5")}, "alice", id="a smaller quantity keeps its place"),
        pytest.param({"order_qty": D(1), "price": D(99)}, "alice", id="nothing new keeps it too"),
        pytest.param({"order_qty": D(2)}, "bob", id="a larger quantity goes behind"),
        pytest.param({"price": D("98.5")}, "bob", id="a worse price goes behind"),
        pytest.param({"price": D("99.5")}, "alice", id="a better price goes before"),
    ],
)
def test_replace_and_the_queue(changes: dict[str, Any], next_filled: str) -> None:
    world = World(("alice", "bob", "carol"))
    mine = world.place("alice", "BUY", "1", "99")
    theirs = world.place("bob", "BUY", "1", "99")
    change = world.exchange.replace("alice", order_id=mine.order_id, **changes)
    assert change.order is not None
    assert change.order.order_id == mine.order_id
    held = change.order.order_qty * change.order.price  # type: ignore[operator]
    assert world.funds("alice")["USDT"] == (D(10_000) - held, held)
    world.place("carol", "SELL", "0.02", "90")
    filled = {"alice": mine, "bob": theirs}[next_filled]
    assert world.order(filled).cum_qty == D("0.02")
    assert world.exchange.check_invariants() == []


def test_replace_counts_fills_in_the_total() -> None:
    world = World()
    order = world.place("alice", "BUY", "2", "99")
    world.place("bob", "SELL", "1", "99")
    with pytest.raises(Refusal) as caught:
        world.exchange.replace("alice", order_id=order.order_id, order_qty=D(1))
    assert caught.value.code is RefusalCode.QTY_NOT_ABOVE_FILLED
    change = world.exchange.replace("alice", order_id=order.order_id, order_qty=D("1.5"))
    assert change.order is not None
    assert (change.order.ord_status, change.order.leaves_qty) == ("PARTIALLY_FILLED", D("0.5"))
    assert world.funds("alice")["USDT"] == (D("9851.5"), D("49.5"))


def test_a_replace_that_crosses_trades_at_once() -> None:
    world = World()
    world.place("bob", "SELL", "1", "101")
    order = world.place("alice", "BUY", "2", "99")
    change = world.exchange.replace("alice", order_id=order.order_id, price=D(102))
    assert change.order is not None
    assert (change.order.ord_status, change.order.cum_quote) == ("PARTIALLY_FILLED", D(101))
    assert world.depth() == ([("102", "1")], [])
    assert world.exchange.check_invariants() == []


@pytest.mark.parametrize(
    ("placed", "changes", "code"),
    [
        ({"qty": "1", "price": "99"}, {"order_qty": D(102)}, "INSUFFICIENT_FUNDS"),
        ({"qty": "1", "price": "99"}, {"price": D(10_001)}, "INSUFFICIENT_FUNDS"),
        ({"qty": "1", "price": "99"}, {"price": D("99.25")}, "PRICE_OFF_TICK"),
        ({"qty": "1", "price": "99"}, {"order_qty": D("0.015")}, "QTY_OFF_STEP"),
        ({"qty": "1", "price": "99"}, {"order_qty": D("0.01")}, "NOTIONAL_TOO_SMALL"),
        ({"qty": "1", "price": "99", "post_only": True}, {"price": D(105)}, "WOULD_CROSS"),
        (
            {"qty": "1", "ord_type": OrdType.STOP, "trigger_price": D(110)},
            {"price": D(99)},
            "MALFORMED",
        ),
        (
            {"quote_qty": D(50), "ord_type": OrdType.STOP, "trigger_price": D(110)},
            {"order_qty": D(1)},
            "MALFORMED",
        ),
    ],
)
def test_a_refused_replace_leaves_the_order_as_it_was(
    placed: dict[str, object], changes: dict[str, Any], code: str
) -> None:
    world = World()
    world.place("bob", "SELL", "1", "105")
    order = world.place("alice", "BUY", **placed)  # type: ignore[arg-type]
    funds = world.funds("alice")
    with pytest.raises(Refusal) as caught:
        world.exchange.replace("alice", order_id=order.order_id, **changes)
    assert caught.value.code == code
    assert world.order(order) == world.exchange.open_orders("alice")[0]
    assert world.order(order).order_qty == order.order_qty
    assert world.funds("alice") == funds
    assert world.exchange.check_invariants() == []


def test_a_waiting_stop_is_replaced_in_place() -> None:
    world = World()
    order = world.place(
        "alice", "BUY", "1", "120", ord_type=OrdType.STOP_LIMIT, trigger_price=D(110)
    )
    world.exchange.replace("alice", order_id=order.order_id, order_qty=D(2), price=D(115))
    assert world.funds("alice")["USDT"] == (D(9770), D(230))
    world.print_at("110")
    assert world.depth() == ([("115", "2")], [])


# Accounts


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "Infinity", "1E+16", "0.000000001"])
def test_amounts_are_what_balances_can_show(amount: str) -> None:
    world = World()
    for call in (world.exchange.deposit, world.exchange.withdraw):
        with pytest.raises(Refusal) as caught:
            call("alice", "USDT", D(amount))
        assert caught.value.code is RefusalCode.AMOUNT_INVALID
    assert world.funds("alice")["USDT"] == (D(10_000), D(0))


def test_only_free_funds_leave() -> None:
    world = World()
    world.place("alice", "BUY", "1", "100")
    with pytest.raises(Refusal) as caught:
        world.exchange.withdraw("alice", "USDT", D("9900.01"))
    assert caught.value.code is RefusalCode.INSUFFICIENT_FUNDS
    world.exchange.withdraw("alice", "USDT", D(9900))
    world.exchange.deposit("alice", "USDT", D(7))
    assert world.funds("alice")["USDT"] == (D(7), D(100))
    assert world.exchange.check_invariants() == []


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "\udcff", "naïve"])
def test_account_names_are_plain(name: str) -> None:
    with pytest.raises(Refusal) as caught:
        World().exchange.create_account(name)
    assert caught.value.code is RefusalCode.BAD_ACCOUNT_NAME


def test_an_account_is_created_whole_or_not_at_all() -> None:
    world = World()
    for funds in ({"XRP": D(1)}, {"BTC": D(1), "USDT": D(-1)}):
        with pytest.raises(Refusal):
            world.exchange.create_account("carol", balances=funds)
        assert "carol" not in {account.name for account in world.exchange.accounts()}
    with pytest.raises(Refusal) as caught:
        world.exchange.create_account("alice")
    assert caught.value.code is RefusalCode.ACCOUNT_EXISTS


# The frame


def test_the_callers_decimal_context_does_not_matter() -> None:
    with localcontext(prec=3):
        world = World(taker_fee=D("0.001"))
        world.place("bob", "SELL", "12.34", "123.5")
        world.place("alice", "BUY", "12.34", "123.5")
    assert world.funds("alice") == {
        "BTC": (D("112.32766"), D(0)),
        "USDT": (D("8476.01"), D(0)),
    }


def test_a_failed_commit_stops_the_exchange() -> None:
    """Nobody heard of the change, so nothing may follow on it."""

    def full(change: object) -> None:
        raise OSError("disk full")

    heard: list[object] = []
    exchange = Exchange([BTC_USDT], clock=Clock(), journal=full)
    exchange.listen(heard.append)
    with pytest.raises(OSError, match="disk full"):
        exchange.create_account("alice")
    with pytest.raises(ExchangeBroken, match="disk full"):
        exchange.create_account("bob")
    assert heard == []


def test_a_listener_must_not_trade() -> None:
    world = World()

    def trade(change: Change) -> None:
        world.place("bob", "BUY", "1", "99")

    world.exchange.listen(trade)
    with pytest.raises(RuntimeError, match="listener"):
        world.place("alice", "BUY", "1", "99")
