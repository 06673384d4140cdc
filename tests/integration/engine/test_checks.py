"""What is refused before anything leaves: limits, halts, the checks of plugins, capabilities, the grid."""

from __future__ import annotations

import asyncio
import decimal
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.engine.bench import Bench, capabilities
from tradegw.engine.account import AccountState
from tradegw.engine.limits import Limits
from tradegw.errors import (
    Conflict,
    InvalidOrder,
    NotFound,
    PluginError,
    TradegwError,
    Unavailable,
    UnsupportedOrder,
    VenueError,
)
from tradegw.hookspecs import Denial
from tradegw.markers import hookimpl
from tradegw.model import CommandKind, Order, OrdStatus, OrdType, Side, TimeInForce
from tradegw.testing import Fault, ScriptedExchange, ScriptedPlugin, ScriptedVenue
from tradegw.venue import Capabilities, ReplaceKind, VenueAccount

D = Decimal
MARKET: dict[str, Any] = {
    "ord_type": OrdType.MARKET,
    "price": None,
    "time_in_force": TimeInForce.IOC,
}


# --- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "fields", "reason"),
    [
        pytest.param(Limits(max_order_notional=D(99)), {}, "LIMIT_ORDER_NOTIONAL", id="notional"),
        pytest.param(
            Limits(max_order_notional=D(99)),
            MARKET,
            "LIMIT_ORDER_NOTIONAL",
            id="notional at market",
        ),
        pytest.param(Limits(max_open_orders=0), {}, "LIMIT_OPEN_ORDERS", id="open orders"),
        pytest.param(Limits(max_orders_per_second=0), {}, "LIMIT_ORDERS_PER_SECOND", id="rate"),
        pytest.param(Limits(max_orders_per_day=0), {}, "LIMIT_ORDERS_PER_DAY", id="daily count"),
        pytest.param(
            Limits(price_collar_bps=D(50)),
            {"price": "101"},
            "LIMIT_PRICE_COLLAR",
            id="a buy too high",
        ),
        pytest.param(
            Limits(price_collar_bps=D(50)),
            {"price": "99", "side": Side.SELL},
            "LIMIT_PRICE_COLLAR",
            id="a sell too low",
        ),
        pytest.param(
            Limits(symbols=frozenset({"ETH/USDT"})), {}, "LIMIT_SYMBOL", id="another symbol"
        ),
        pytest.param(Limits(reduce_only=True), {}, "LIMIT_REDUCE_ONLY", id="not reducing"),
    ],
)
async def test_a_limit_refuses_with_its_reason_and_uses_the_key(
    bench: Bench, limits: Limits, fields: dict[str, Any], reason: str
) -> None:
    bench.limits = limits
    await bench.start()
    order = await bench.place(idempotency_key="k", **fields)
    assert (order.ord_status, order.reason) == (OrdStatus.REJECTED, reason)
    assert order.text
    assert not bench.exchange.requests
    assert (await bench.place(idempotency_key="k", **fields)).order_id == order.order_id
    assert await bench.events(order) == ["REJECTED"]


@pytest.mark.parametrize(
    ("limits", "fields"),
    [
        pytest.param(Limits(max_order_notional=D(100)), {}, id="notional"),
        pytest.param(Limits(max_order_notional=D(100)), MARKET, id="notional at market"),
        pytest.param(Limits(max_open_orders=1), {}, id="open orders"),
        pytest.param(Limits(price_collar_bps=D(50)), {"price": "100.5"}, id="a buy at the edge"),
        pytest.param(Limits(price_collar_bps=D(50)), {"price": "1"}, id="a buy far below"),
        pytest.param(Limits(symbols=frozenset({"BTC/USDT"})), {}, id="its symbol"),
    ],
)
async def test_a_limit_admits_up_to_its_edge(
    bench: Bench, limits: Limits, fields: dict[str, Any]
) -> None:
    bench.limits = limits
    await bench.start()
    assert (await bench.place(**fields)).ord_status is not OrdStatus.REJECTED


async def test_the_last_place_is_taken_once(bench: Bench) -> None:
    bench.limits = Limits(max_open_orders=1)
    await bench.start()
    orders = await asyncio.gather(*(bench.place() for _ in range(50)))
    assert [o.reason for o in orders].count("LIMIT_OPEN_ORDERS") == 49
    assert len(bench.exchange.orders) == 1
    (live,) = [o for o in orders if o.is_open]
    await bench.gateway.cancel_order(live.order_id)
    assert (await bench.place()).is_open


async def test_the_rate_is_counted_once_under_concurrency(bench: Bench) -> None:
    bench.limits = Limits(max_orders_per_second=3)
    await bench.start()
    orders = await asyncio.gather(*(bench.place() for _ in range(20)))
    assert sum(o.is_open for o in orders) == 3
    bench.clock.turn(1.0)
    assert (await bench.place()).is_open


async def test_the_daily_count_starts_anew_at_midnight(bench: Bench) -> None:
    bench.limits = Limits(max_orders_per_day=2)
    await bench.start()
    assert [(await bench.place()).is_open for _ in range(3)] == [True, True, False]
    bench.clock.turn(86_400)
    assert (await bench.place()).is_open


async def test_an_order_in_doubt_holds_its_place(bench: Bench) -> None:
    bench.limits = Limits(max_open_orders=1)
    await bench.start()
    bench.exchange.script(CommandKind.NEW, Fault.LOSE_REQUEST)
    doubtful = await bench.place()
    assert (await bench.place()).reason == "LIMIT_OPEN_ORDERS"
    await bench.order_when(doubtful.order_id, lambda o: not o.is_open)
    assert (await bench.place()).is_open


async def test_what_was_not_stored_gives_its_place_back(bench: Bench) -> None:
    bench.limits = Limits(max_open_orders=1, max_orders_per_second=1)
    await bench.start()
    first = await bench.place(idempotency_key="k")
    bench.clock.turn(1)
    # A known key takes nothing.
    assert (await bench.place(idempotency_key="k")).order_id == first.order_id
    await bench.gateway.cancel_order(first.order_id)
    assert (await bench.place()).is_open


@pytest.mark.parametrize("trouble", ["none", "old", "error", "garbage"])
async def test_without_a_fresh_price_a_limit_refuses(bench: Bench, trouble: str) -> None:
    bench.limits = Limits(price_collar_bps=D(50))
    await bench.start()
    if trouble == "none":
        bench.exchange.reference_px = None
    elif trouble == "old":
        bench.exchange.reference_age_s = 60.0
    elif trouble == "error":
        bench.exchange.query_errors.append(VenueError("no"))
    else:
        bench.exchange.reference_px = "what?"  # type: ignore[assignment]
    assert (await bench.place()).reason == "NO_REFERENCE_PRICE"


async def test_a_replace_is_held_to_the_limits_of_size_and_price(bench: Bench) -> None:
    bench.limits = Limits(max_order_notional=D(150), price_collar_bps=D(1000))
    await bench.start()
    order = await bench.place()
    with pytest.raises(InvalidOrder) as refused:
        await bench.gateway.replace_order(order.order_id, order_qty="2")
    assert refused.value.reason == "LIMIT_ORDER_NOTIONAL"
    with pytest.raises(InvalidOrder) as refused:
        await bench.gateway.replace_order(order.order_id, price="111")
    assert refused.value.reason == "LIMIT_PRICE_COLLAR"
    assert not bench.exchange.sent(CommandKind.REPLACE)
    assert (await bench.gateway.replace_order(order.order_id, price="109")).price == 109


async def test_limits_are_exact_whatever_the_programs_own_decimal_context(bench: Bench) -> None:
    bench.limits = Limits(price_collar_bps=D(1), max_order_notional=D("100.0100"))
    await bench.start()
    with decimal.localcontext() as context:
        context.prec = 3
        assert (await bench.place(price="100.01")).is_open
        assert (await bench.place(price="100.02")).reason == "LIMIT_ORDER_NOTIONAL"


# --- halts -----------------------------------------------------------------------------------------


def two_accounts(bench: Bench) -> None:
    exchange = ScriptedExchange(bench.clock)
    bench.accounts["other"] = ScriptedPlugin(exchange, name="elsewhere")


@pytest.mark.parametrize(
    ("scope", "stopped"),
    [
        ("*", {"paper BTC", "paper ETH", "other BTC"}),
        ("account:paper", {"paper BTC", "paper ETH"}),
        ("venue:elsewhere", {"other BTC"}),
        ("symbol:BTC/USDT", {"paper BTC", "other BTC"}),
    ],
)
async def test_a_halt_stops_its_scope_and_no_more(
    bench: Bench, scope: str, stopped: set[str]
) -> None:
    two_accounts(bench)
    await bench.start()
    await bench.gateway.halt(scope=scope, why="test", by="me")

    async def found() -> set[str]:
        asked = [("paper", "BTC"), ("paper", "ETH"), ("other", "BTC")]
        orders = [await bench.place(account=a, symbol=f"{s}/USDT") for a, s in asked]
        return {
            f"{a} {s}"
            for (a, s), o in zip(asked, orders, strict=True)
            if o.ord_status is OrdStatus.REJECTED and o.reason == "HALTED"
        }

    assert await found() == stopped
    await bench.restart()
    assert await found() == stopped, "a halt survives a restart"
    await bench.gateway.resume(scope=scope, by="me")
    assert await found() == set()


async def test_a_halt_can_cancel_what_is_open_in_its_scope(bench: Bench) -> None:
    two_accounts(bench)
    await bench.start()
    mine = await bench.place()
    other = await bench.place(account="other")
    await bench.gateway.halt(scope="account:paper", why="test", by="me", cancel_open=True)
    assert (await bench.stored(mine)).ord_status is OrdStatus.CANCELED
    assert (await bench.stored(other)).ord_status is OrdStatus.NEW


async def test_a_halt_lets_cancels_through_and_replaces_not(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    await bench.gateway.halt(why="test", by="me")
    with pytest.raises(Unavailable) as refused:
        await bench.gateway.replace_order(order.order_id, price="101")
    assert refused.value.reason == "HALTED"
    assert (await bench.gateway.cancel_order(order.order_id)).ord_status is OrdStatus.CANCELED


@pytest.mark.parametrize("scope", ["", "paper", "account:", "planet:earth", "account:nobody"])
async def test_a_halt_of_nothing_is_refused(bench: Bench, scope: str) -> None:
    await bench.start()
    with pytest.raises((InvalidOrder, NotFound)):
        await bench.gateway.halt(scope=scope, why="test", by="me")
    with pytest.raises(NotFound):
        await bench.gateway.resume(scope=scope, by="me")


async def test_cancel_all_cancels_the_others_though_one_cannot_be(bench: Bench) -> None:
    two_accounts(bench)
    await bench.start()
    mine = await bench.place()
    await bench.place(account="other")
    bench.account("other").set_state(AccountState.STOPPED, "for the test")
    with pytest.raises(Unavailable):
        await bench.gateway.cancel_all_orders()
    assert (await bench.stored(mine)).ord_status is OrdStatus.CANCELED


# --- the checks of plugins ---------------------------------------------------------------------------


class _Check:
    def __init__(self, check: Callable[[Order], Any]) -> None:
        self._check = check

    @hookimpl
    def tradegw_check_order(self, order: Order, account: VenueAccount) -> Denial | None:
        answer: Denial | None = self._check(order)
        return answer


def _raise(order: Order) -> None:
    raise ZeroDivisionError("a rule's own mistake")


@pytest.mark.parametrize(
    ("checks", "reason"),
    [
        ([lambda o: None], ""),
        ([lambda o: Denial(reason="DESK_RULE", text="not today")], "DESK_RULE"),
        ([lambda o: None, lambda o: Denial(reason="DESK_RULE"), lambda o: None], "DESK_RULE"),
        ([_raise], "CHECK_FAILED"),
        ([lambda o: None, _raise], "CHECK_FAILED"),
        ([lambda o: "no"], "CHECK_FAILED"),
        ([lambda o: True], "CHECK_FAILED"),
    ],
)
async def test_any_denial_wins_and_a_check_that_raises_is_one(
    bench: Bench, checks: list[Callable[[Order], Any]], reason: str
) -> None:
    bench.extra_plugins.extend(_Check(check) for check in checks)
    await bench.start()
    order = await bench.place(idempotency_key="k")
    assert order.reason == reason
    assert bool(bench.exchange.requests) == (not reason)
    assert (await bench.place(idempotency_key="k")).order_id == order.order_id


# --- what a plugin gets wrong before anything is stored -------------------------------------------------


class _Broken(ScriptedVenue):
    def translate(self, command: Any, context: Any) -> Any:
        answer = super().translate(command, context)
        match self.exchange.garbage:
            case "raise":
                raise KeyError("a mistake in the plugin")
            case "refuse":
                raise InvalidOrder("not this one", reason="SCRIPTED")
            case "nothing":
                return None
            case _:
                return answer


def _broken(exchange: ScriptedExchange, can: Capabilities) -> ScriptedVenue:
    return _Broken(exchange, capabilities=can)


@pytest.mark.parametrize(
    ("how", "error"), [("raise", PluginError), ("nothing", PluginError), ("refuse", InvalidOrder)]
)
async def test_a_translation_that_fails_stores_nothing(
    bench: Bench, how: str, error: type[TradegwError]
) -> None:
    bench.limits = Limits(max_open_orders=1, max_orders_per_second=1)
    bench.accounts["paper"] = ScriptedPlugin(bench.exchange, make_venue=_broken)
    await bench.start()
    bench.exchange.garbage = how
    for _ in range(3):
        with pytest.raises(error):
            await bench.place(idempotency_key="k")
    bench.exchange.garbage = "fine"
    order = await bench.place(idempotency_key="k")
    assert order.ord_status is OrdStatus.NEW, "the key and the place in the limits are free"
    bench.exchange.garbage = how
    assert (await bench.place(idempotency_key="k")).order_id == order.order_id
    with pytest.raises(error):
        await bench.gateway.cancel_order(order.order_id)
    assert (await bench.stored(order)).ord_status is OrdStatus.NEW


# --- capabilities, the grid, the state --------------------------------------------------------------------


def _replace(**terms: Any) -> Callable[[Bench, Order], Awaitable[Order]]:
    return lambda bench, order: bench.gateway.replace_order(order.order_id, **terms)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"symbol": "DOGE/USDT"}, "UNKNOWN_SYMBOL"),
        ({"account": "nobody"}, "UNKNOWN_ACCOUNT"),
        ({"price": "100.001"}, "PRICE_OFF_TICK"),
        ({"order_qty": "0.00001"}, "QTY_OFF_STEP"),
        ({"order_qty": "0"}, "INVALID_FIELD"),
        ({"order_qty": "-1"}, "INVALID_FIELD"),
        ({"order_qty": D("NaN")}, "INVALID_FIELD"),
        ({"order_qty": D("Infinity")}, "INVALID_FIELD"),
        ({"order_qty": D("1E+60")}, "INVALID_FIELD"),
        ({"order_qty": 1.5}, "INVALID_FIELD"),
        ({"order_qty": None}, "INVALID_QUANTITY"),
        ({"quote_qty": "5"}, "INVALID_QUANTITY"),
        ({"price": None}, "INVALID_FIELD"),
        ({"time_in_force": TimeInForce.GTD, "expire_time_ns": 2**70}, "INVALID_FIELD"),
        ({"tags": {"a": 1}}, "INVALID_FIELD"),
        ({"client_order_id": "a b"}, "INVALID_FIELD"),
        ({"post_only": True}, "UNSUPPORTED"),
        ({"reduce_only": True}, "UNSUPPORTED"),
        ({"time_in_force": TimeInForce.FOK}, "UNSUPPORTED"),
        ({"venue": "elsewhere"}, "NO_ROUTE"),
    ],
)
async def test_bad_input_is_refused_with_its_reason_and_stores_nothing(
    bench: Bench, fields: dict[str, Any], reason: str
) -> None:
    await bench.start()
    with pytest.raises(InvalidOrder) as refused:
        await bench.place(idempotency_key="k", **fields)
    assert refused.value.reason == reason
    assert not bench.exchange.requests
    assert not (await bench.gateway.list_orders()).items
    assert (await bench.place(idempotency_key="k")).ord_status is OrdStatus.NEW


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"price": "100.001"},
        {"price": "0"},
        {"order_qty": "0.4"},
        {"trigger_price": "1"},
        {"price": "1e2"},
    ],
)
async def test_replaces_that_cannot_be_are_refused(bench: Bench, terms: dict[str, str]) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.fill(bench.exchange.orders[0], "0.5")
    await bench.order_when(order.order_id, lambda o: o.cum_qty)
    with pytest.raises(InvalidOrder):
        await bench.gateway.replace_order(order.order_id, **terms)
    assert not bench.exchange.sent(CommandKind.REPLACE)


async def test_a_venue_that_cannot_replace_refuses(bench: Bench) -> None:
    can = capabilities(replace=ReplaceKind.NONE)
    bench.accounts["paper"] = ScriptedPlugin(bench.exchange, capabilities=can)
    await bench.start()
    order = await bench.place()
    with pytest.raises(UnsupportedOrder):
        await bench.gateway.replace_order(order.order_id, price="101")


async def test_one_command_at_a_time(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.script(CommandKind.REPLACE, Fault.LOSE_REQUEST)
    await bench.gateway.replace_order(order.order_id, price="101")
    with pytest.raises(Conflict) as refused:
        await bench.gateway.replace_order(order.order_id, price="102")
    assert refused.value.reason == "COMMAND_PENDING"


async def test_what_is_not_there_is_said_to_be_not_there(bench: Bench) -> None:
    from uuid import uuid4

    await bench.start()
    unknown: Any = uuid4()
    with pytest.raises(NotFound):
        await bench.gateway.get_order(unknown)
    with pytest.raises(NotFound):
        await bench.gateway.cancel_order(unknown)
    with pytest.raises(NotFound):
        await bench.gateway.replace_order(unknown, price="1")
    with pytest.raises(InvalidOrder):
        await bench.gateway.cancel_order("what?")  # type: ignore[arg-type]
    with pytest.raises(InvalidOrder):
        await bench.gateway.cancel_order()
    assert await bench.gateway.find_order(account="paper", client_order_id="c") is None
    with pytest.raises(NotFound):
        await bench.gateway.find_order(account="nobody", client_order_id="c")


# --- an operator's word -------------------------------------------------------------------------------


async def test_an_operator_decides_an_order_in_doubt_and_may_be_wrong(bench: Bench) -> None:
    await bench.start()
    bench.exchange.hold()
    bench.exchange.visibility_lag_s = 1000
    bench.exchange.script(CommandKind.NEW, Fault.LOSE_ANSWER)
    order = await bench.place()
    closed = await bench.gateway.resolve(
        order.order_id, outcome="rejected", by="me", why="phoned them", idempotency_key="r"
    )
    assert (closed.ord_status, closed.reason) == (OrdStatus.REJECTED, "OPERATOR")
    again = await bench.gateway.resolve(
        order.order_id, outcome="rejected", by="me", why="phoned them", idempotency_key="r"
    )
    assert again.ord_status is OrdStatus.REJECTED
    with pytest.raises(Conflict):
        await bench.gateway.resolve(order.order_id, outcome="rejected", by="me", why="once more")
    bench.exchange.release()
    revived = await bench.order_when(order.order_id, lambda o: o.is_open)
    assert revived.ord_status is OrdStatus.NEW
    await bench.check_ledger()


async def test_an_operator_needs_a_doubt_a_name_and_a_reason(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    with pytest.raises(Conflict) as refused:
        await bench.gateway.resolve(order.order_id, outcome="CANCELED", by="me", why="so")
    assert refused.value.reason == "NOT_IN_DOUBT"
    for bad in ({"outcome": "FILLED"}, {"outcome": "what"}, {"by": ""}, {"why": ""}):
        asked = {"outcome": "CANCELED", "by": "me", "why": "so"} | bad
        with pytest.raises(InvalidOrder):
            await bench.gateway.resolve(order.order_id, **asked)
