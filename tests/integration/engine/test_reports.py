"""What the stream tells, in whatever order, once or twice, early or late."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.engine.bench import Bench
from tradegw.engine.account import AccountState
from tradegw.model import (
    AccountName,
    Balance,
    CommandKind,
    ExecType,
    ExecutionReport,
    OrdStatus,
    OrdType,
    Side,
    TimeInForce,
    TradeId,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw.testing import Fault, a_report, a_trade
from tradegw.venue import BalanceUpdate, StreamGap

NEW, CANCEL = CommandKind.NEW, CommandKind.CANCEL


async def test_fills_overtake_the_answer(bench: Bench) -> None:
    await bench.start()
    bench.exchange.script(NEW, Fault.HANG)
    placing = bench.later(bench.place())
    await bench.clock.until(lambda: bench.exchange.orders, step_s=0)
    bench.exchange.fill(bench.exchange.orders[0], "0.4")
    bench.exchange.fill(bench.exchange.orders[0], "0.6")
    order = await placing
    assert (order.ord_status, order.cum_qty) == (OrdStatus.FILLED, Decimal(1))
    await bench.check_ledger()


async def test_an_answer_with_fills_and_the_same_fills_on_the_stream_count_once(
    bench: Bench,
) -> None:
    await bench.start()
    bench.exchange.fill_on_arrival = Decimal("0.7")
    order = await bench.place()
    assert (order.ord_status, order.cum_qty) == (OrdStatus.PARTIALLY_FILLED, Decimal("0.7"))
    bench.exchange.fill(bench.exchange.orders[0])
    await bench.order_when(order.order_id, lambda o: not o.is_open)
    await bench.check_ledger()


async def test_a_market_order_fills_in_its_answer(bench: Bench) -> None:
    await bench.start()
    order = await bench.place(
        ord_type=OrdType.MARKET, time_in_force=TimeInForce.IOC, price=None, order_qty="2"
    )
    assert (order.ord_status, order.avg_px) == (OrdStatus.FILLED, Decimal(100))
    await bench.check_ledger()


async def test_what_the_caller_is_told_is_stored(bench: Bench) -> None:
    """An answer that brings nothing new waits until what the stream brought is stored."""
    await bench.start()
    for _ in range(20):
        bench.exchange.fill_on_arrival = Decimal(1)
        order = await bench.place()
        assert order == await bench.stored(order)
        assert order.seq > 0


async def test_an_answer_that_the_stream_overtook_waits_for_the_streams_commit(
    bench: Bench,
) -> None:
    """Else the caller would be told what a failing store may yet take back."""
    await bench.start()
    is_open = asyncio.Event()
    bench.store.gate = (is_open, lambda e: any(x.event_type == "NEW" for x in e.events))
    bench.exchange.script(NEW, Fault.SLOW)
    placing = bench.later(bench.place())
    await bench.clock.until(lambda: bench.account().book and bench.exchange.orders, step_s=0)
    for _ in range(50):
        await asyncio.sleep(0)
    assert not placing.done()
    is_open.set()
    order = await placing
    assert order == await bench.stored(order)
    assert await bench.events(order) == ["INTENT", "NEW"]


async def test_every_report_twice_changes_nothing(bench: Bench) -> None:
    await bench.start()
    bench.exchange.hold()
    order = await bench.place()
    placed = bench.exchange.orders[0]
    for qty in ("0.1", "0.2", "0.7"):
        bench.exchange.fill(placed, qty)
    held = bench.exchange.held or []
    bench.exchange.release([*held, *held])
    await bench.order_when(order.order_id, lambda o: not o.is_open)
    await bench.turn(1)
    await bench.check_ledger()
    assert (await bench.events(order)).count("TRADE") == 3


@pytest.mark.parametrize("seed", range(5))
async def test_reports_in_any_order_come_to_the_same_end(bench: Bench, seed: int) -> None:
    await bench.start()
    bench.exchange.hold()
    orders = [await bench.place() for _ in range(3)]
    for placed in bench.exchange.orders:
        bench.exchange.fill(placed, "0.3")
        bench.exchange.fill(placed, "0.2")
    bench.exchange.cancel(bench.exchange.orders[0])
    bench.exchange.fill(bench.exchange.orders[1])
    held = [*(bench.exchange.held or []), *(bench.exchange.held or [])[:5]]
    random.Random(seed).shuffle(held)
    bench.exchange.release(held)
    cancelled = await bench.order_when(orders[0].order_id, lambda o: not o.is_open)
    filled = await bench.order_when(orders[1].order_id, lambda o: not o.is_open)
    open_one = await bench.order_when(orders[2].order_id, lambda o: o.cum_qty == Decimal("0.5"))
    assert (cancelled.ord_status, cancelled.cum_qty) == (OrdStatus.CANCELED, Decimal("0.5"))
    assert filled.ord_status is OrdStatus.FILLED
    assert open_one.ord_status is OrdStatus.PARTIALLY_FILLED
    await bench.check_ledger()


async def test_a_late_fill_after_the_close_counts(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    await bench.gateway.cancel_order(order.order_id)
    bench.exchange.fill(bench.exchange.orders[0], "0.4")
    late = await bench.order_when(order.order_id, lambda o: o.cum_qty)
    assert late.ord_status is OrdStatus.CANCELED
    bench.exchange.fill(bench.exchange.orders[0], "0.6")
    done = await bench.order_when(order.order_id, lambda o: o.cum_qty == 1)
    assert done.ord_status is OrdStatus.FILLED
    events = await bench.gateway.list_order_events(order.order_id)
    assert [e.late for e in events if e.event_type == "TRADE"] == [True, True]
    await bench.check_ledger()


async def test_late_fills_at_once_each_count(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    await bench.gateway.cancel_order(order.order_id)
    for _ in range(10):
        bench.exchange.fill(bench.exchange.orders[0], "0.1")
    await bench.order_when(order.order_id, lambda o: o.cum_qty == 1)
    await bench.check_ledger()


async def test_more_than_ordered_is_recorded(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.fill(bench.exchange.orders[0], "1.5")
    over = await bench.order_when(order.order_id, lambda o: o.cum_qty)
    assert over.cum_qty == Decimal("1.5")
    assert "OVERFILL" in await bench.events(order)
    await bench.check_ledger()


async def test_a_fill_that_matches_no_order_enters_the_stream_once(bench: Bench) -> None:
    await bench.start()
    stranger = a_trade(
        "x1", "0.5", symbol="BTC/USDT", side=Side.SELL, venue_order_id=VenueOrderId("foreign")
    )
    bench.exchange.tell(stranger)
    bench.exchange.tell(stranger)
    order = await bench.place()
    fills = await bench.fills()
    assert [(f.trade_id, f.order_id) for f in fills] == [("x1", None)]
    assert bench.state() is AccountState.READY
    assert order.ord_status is OrdStatus.NEW


async def test_reports_of_strangers_touch_nothing_of_ours(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.tell(
        a_report(ExecType.CANCELED, venue_client_order_id=VenueClientOrderId("foreign"))
    )
    bench.exchange.tell(a_report(ExecType.CANCELED, symbol="BTC/USDT", venue_order_id="v99"))
    # The same number in another market is another order.
    bench.exchange.tell(a_report(ExecType.CANCELED, symbol="ETH/USDT", venue_order_id="nope"))
    await bench.turn(1)
    assert (await bench.stored(order)).ord_status is OrdStatus.NEW


async def test_a_takers_answer_may_hold_fills_of_our_resting_order(bench: Bench) -> None:
    """A self-trade: the maker's fill must reach the maker, even when it has closed meanwhile."""
    await bench.start()
    resting = await bench.place(side=Side.SELL)
    maker = bench.exchange.orders[0]
    bench.exchange.fill(maker)
    await bench.order_when(resting.order_id, lambda o: not o.is_open)
    bench.exchange.answer_also = [bench.exchange.trades[0]]
    taker = await bench.place()
    assert taker.cum_qty == 0
    assert (await bench.stored(resting)).cum_qty == 1
    await bench.check_ledger()


async def test_an_answer_without_our_name_is_about_what_we_asked(bench: Bench) -> None:
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.garbage = [ExecutionReport(exec_type=ExecType.NEW)]
    bench.exchange.script(NEW, Fault.GARBAGE)
    assert (await bench.place()).ord_status is OrdStatus.NEW


UNREADABLE: list[Any] = [
    pytest.param({"what": 1}, id="a dict"),
    pytest.param(a_trade("t", "NaN"), id="a quantity that is no number"),
    pytest.param(a_trade("t", "-1"), id="a negative quantity"),
    pytest.param(a_trade("t", "1E+60"), id="a quantity beyond all measure"),
    pytest.param(replace(a_trade("t", "1"), trade_id=TradeId("x" * 999)), id="a name without end"),
    pytest.param(replace(a_trade("t", "1"), trade_id=TradeId("\ud800")), id="half a character"),
    pytest.param(a_report(ExecType.TRADE), id="a trade without quantity"),
    pytest.param(a_report(ExecType.ORDER_STATUS), id="a status without status"),
    pytest.param(a_report(ExecType.NEW, transact_time_ns=2**70), id="a time beyond all time"),
    pytest.param(a_report(ExecType.NEW, cum_qty=1.5), id="a float"),
]


@pytest.mark.parametrize("nonsense", UNREADABLE)
async def test_nonsense_on_the_stream_is_named_and_passed_over(
    bench: Bench, nonsense: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.start()
    order = await bench.place()
    about = nonsense
    if isinstance(nonsense, ExecutionReport):
        about = replace(nonsense, venue_client_order_id=order.venue_client_order_id)
    bench.exchange.tell(about)
    bench.exchange.fill(bench.exchange.orders[0])
    await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert "unreadable" in caplog.text
    await bench.check_ledger()


@pytest.mark.parametrize("nonsense", UNREADABLE)
async def test_nonsense_in_an_answer_leaves_the_order_in_doubt(bench: Bench, nonsense: Any) -> None:
    await bench.start()
    bench.exchange.hold()
    bench.exchange.garbage = [nonsense]
    bench.exchange.script(NEW, Fault.GARBAGE)
    order = await bench.place()
    assert [d.command for d in order.in_doubt] == [NEW]
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.ord_status is OrdStatus.NEW
    bench.exchange.release()
    await bench.check_ledger()


async def test_a_venues_words_are_bounded_and_clean(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.tell(
        a_report(
            ExecType.CANCELED,
            venue_client_order_id=order.venue_client_order_id,
            reason="R\x1b[31m\ud800" + "x" * 5000,
            text="\x00\n" + "y" * 5000,
        )
    )
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.reason.isprintable()
    assert closed.text.isprintable()
    assert len(closed.reason) <= 500
    assert len(closed.text) <= 500


async def test_a_count_above_ours_asks_for_the_fills(bench: Bench) -> None:
    """A stream that drops a fill and tells the close: the fills come first, then the close."""
    await bench.start()
    order = await bench.place()
    bench.exchange.drops = True
    bench.exchange.fill(bench.exchange.orders[0], "0.4")
    bench.exchange.drops = False
    bench.exchange.cancel(bench.exchange.orders[0])
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert (closed.ord_status, closed.cum_qty) == (OrdStatus.CANCELED, Decimal("0.4"))
    await bench.check_ledger()


async def test_what_a_gap_hid_is_found_after_it(bench: Bench) -> None:
    await bench.start()
    orders = [await bench.place() for _ in range(30)]
    bench.exchange.break_stream(ConnectionResetError("gone"))
    for placed in bench.exchange.orders[:10]:
        bench.exchange.fill(placed, "0.5")
    for placed in bench.exchange.orders[10:20]:
        bench.exchange.cancel(placed)
    await bench.clock.until(lambda: bench.state() is AccountState.RECONCILING)
    await bench.ready()
    assert all([(await bench.stored(o)).cum_qty == Decimal("0.5") for o in orders[:10]])
    assert all([not (await bench.stored(o)).is_open for o in orders[10:20]])
    await bench.check_ledger()


async def test_new_orders_wait_for_the_gap_to_close(bench: Bench) -> None:
    await bench.start()
    bench.exchange.tell(StreamGap(why="resubscribing"))
    await bench.clock.until(lambda: bench.state() is AccountState.RECONCILING)
    await bench.turn(2)
    assert bench.state() is AccountState.RECONCILING
    # Still away, for another reason: a login that is refused, say.
    bench.exchange.tell(StreamGap(why="the key was revoked"))
    await bench.clock.until(lambda: bench.account().why == "the key was revoked")
    bench.exchange.tell(bench.exchange.ready())
    await bench.ready()


async def test_a_stream_that_raises_anything_closes_the_account_until_it_is_back(
    bench: Bench,
) -> None:
    await bench.start()
    bench.exchange.break_stream(KeyError("a mistake in the plugin"))
    await bench.clock.until(lambda: bench.state() is AccountState.RECONCILING, step_s=0)
    await bench.ready()
    assert (await bench.place()).ord_status is OrdStatus.NEW


async def test_balances_of_the_stream_are_shown_and_stored(bench: Bench) -> None:
    await bench.start()
    held = await bench.gateway.list_balances("paper")
    assert {b.asset for b in held} == {"USDT", "BTC"}
    update = Balance(account="?", asset="USDT", free=Decimal(5), held=Decimal(1))  # type: ignore[arg-type]
    bench.exchange.tell(BalanceUpdate(balances=(update,)))
    await bench.clock.until(lambda: bench.account().balances["USDT"].free == 5)
    await bench.turn(2)
    record = bench.account().record
    stored = {b.asset: b for b in await bench.store.list_balances(record.account_id)}
    assert (stored["USDT"].free, stored["USDT"].account) == (Decimal(5), "paper")


async def test_a_balance_that_was_overtaken_is_not_believed(bench: Bench) -> None:
    await bench.start()

    def told(free: int, time_ns: int) -> BalanceUpdate:
        balance = Balance(
            account=AccountName("?"),
            asset="USDT",
            free=Decimal(free),
            held=Decimal(0),
            time_ns=time_ns,
        )
        return BalanceUpdate(balances=(balance,))

    for update in (told(7, 20), told(5, 10), told(9, 20)):
        bench.exchange.tell(update)
    await bench.clock.until(lambda: bench.account().balances["USDT"].free == 9)
    for update in (told(5, 10), told(11, 21)):
        bench.exchange.tell(update)
    await bench.clock.until(lambda: bench.account().balances["USDT"].free != 9)
    assert bench.account().balances["USDT"].free == 11


async def test_balances_that_the_stream_lost_are_asked_for(bench: Bench) -> None:
    await bench.start()
    lost = Balance(
        account=AccountName("?"), asset="USDT", free=Decimal(5), held=Decimal(1), time_ns=0
    )
    bench.exchange.tell(BalanceUpdate(balances=(lost,)))
    await bench.clock.until(lambda: bench.account().balances["USDT"].free == 5)
    bench.account().wake_reconciler.set()
    await bench.clock.until(lambda: bench.account().balances["USDT"].free == 1_000_000)


async def test_a_query_corrects_terms_that_reports_in_disorder_left(bench: Bench) -> None:
    """Two replaces; the stream tells the second, and then the first once more."""
    await bench.start()
    order = await bench.place()
    await bench.gateway.replace_order(order.order_id, price="101")
    old = bench.exchange._report(ExecType.REPLACED, bench.exchange.orders[0])
    await bench.gateway.replace_order(order.order_id, price="102")
    bench.exchange.tell(old)
    await bench.order_when(order.order_id, lambda o: o.price == 101, step_s=0)
    bench.account().wake_reconciler.set()
    await bench.order_when(order.order_id, lambda o: o.price == 102)


async def test_terms_of_a_query_that_was_overtaken_are_not_believed(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    gate = asyncio.Event()
    fetch = bench.account().venue.fetch  # type: ignore[union-attr]

    async def late(query: object) -> object:
        page = await fetch(query)  # type: ignore[call-overload]
        await gate.wait()
        return page

    bench.account().venue.fetch = late  # type: ignore[union-attr, assignment, method-assign]
    asked = len(bench.exchange.queries)
    bench.account().to_ask.add(order.order_id)
    bench.account().wake_resolver.set()
    await bench.clock.until(lambda: len(bench.exchange.queries) > asked)
    await bench.gateway.replace_order(order.order_id, price="102")
    gate.set()
    await bench.clock.until(lambda: order.order_id not in bench.account().to_ask)
    assert (await bench.stored(order)).price == 102
