"""Starting, stopping, dying; accounts that come and go; callers that go away."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from tests.integration.engine.bench import Bench, StoreFault
from tradegw.engine import desk, sending
from tradegw.engine.account import AccountState
from tradegw.engine.crash import CrashPoint
from tradegw.errors import InvalidOrder, NotFound, Unavailable, UsageError, VenueError
from tradegw.markers import hookimpl
from tradegw.model import CommandKind, EvidenceKind, OrderEvent, OrdStatus, ReplaceTerms
from tradegw.testing import Fault, ScriptedExchange, ScriptedPlugin, venue

NEW, CANCEL, REPLACE = CommandKind.NEW, CommandKind.CANCEL, CommandKind.REPLACE


# --- callers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
async def test_a_caller_who_goes_away_cancels_only_its_waiting(bench: Bench, turns: int) -> None:
    await bench.start()
    placing = bench.later(bench.place(idempotency_key="k"))
    for _ in range(turns):
        await asyncio.sleep(0)
    placing.cancel()
    await asyncio.wait([placing])
    # Asked again with its key: the order that the first call was carried out for, or the first one.
    order = await bench.place(idempotency_key="k")
    assert order.ord_status is OrdStatus.NEW
    assert len(bench.exchange.orders) == 1


async def test_a_caller_who_goes_away_while_the_venue_is_silent(bench: Bench) -> None:
    await bench.start()
    bench.exchange.hold()
    bench.exchange.script(NEW, Fault.HANG)
    placing = bench.later(bench.place(client_order_id="c"))
    await bench.clock.until(lambda: bench.exchange.requests, step_s=0)
    placing.cancel()
    order = await bench.gateway.find_order(account="paper", client_order_id="c")
    assert order is not None
    found = await bench.order_when(order.order_id, lambda o: o.ord_status is OrdStatus.NEW)
    assert not found.in_doubt


async def test_cancel_all_goes_on_without_its_caller(bench: Bench) -> None:
    await bench.start()
    orders = [await bench.place() for _ in range(5)]
    asking = bench.later(bench.gateway.cancel_all_orders())
    await asyncio.sleep(0)
    asking.cancel()
    for order in orders:
        await bench.order_when(order.order_id, lambda o: not o.is_open)


async def test_a_halt_that_cancels_goes_on_without_its_caller(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    asking = bench.later(bench.gateway.halt(why="test", by="me", cancel_open=True))
    await asyncio.sleep(0)
    asking.cancel()
    await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert await bench.gateway.list_halts()


async def test_a_session_that_ends_cancels_what_it_was_still_placing(bench: Bench) -> None:
    await bench.start()
    bench.exchange.hold()
    bench.exchange.script(NEW, Fault.HANG)

    async def trade() -> None:
        async with bench.gateway.session(cancel_on_disconnect=True) as session:
            await session.place_order(
                account="paper",
                symbol="BTC/USDT",
                side="BUY",
                ord_type="LIMIT",
                order_qty="1",
                price="100",
                client_order_id="c",
            )

    trading = bench.later(trade())
    await bench.clock.until(lambda: bench.exchange.requests, step_s=0)
    trading.cancel()
    await asyncio.wait([trading])
    order = await bench.gateway.find_order(account="paper", client_order_id="c")
    assert order is not None
    assert order.ord_status is OrdStatus.CANCELED


async def test_a_session_cancels_its_own_orders_and_nobody_elses(bench: Bench) -> None:
    await bench.start()
    other = await bench.place()
    async with bench.gateway.session(cancel_on_disconnect=True) as session:
        mine = await session.place_order(
            account="paper",
            symbol="BTC/USDT",
            side="SELL",
            ord_type="LIMIT",
            order_qty="1",
            price="100",
        )
    assert (await bench.stored(mine)).ord_status is OrdStatus.CANCELED
    assert (await bench.stored(other)).ord_status is OrdStatus.NEW


# --- shutting down ----------------------------------------------------------------------------------


async def test_a_shut_down_waits_for_answers(bench: Bench) -> None:
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.script(NEW, *[Fault.SLOW] * 8)
    placing = [bench.later(bench.place()) for _ in range(8)]
    await bench.clock.until(lambda: len(bench.exchange.requests) == 8, step_s=0)
    await bench.stop()
    orders = [await task for task in placing]
    assert {o.ord_status for o in orders} == {OrdStatus.NEW}
    assert not any(o.in_doubt for o in orders)


async def test_a_shut_down_marks_the_rest_in_doubt_and_tells_the_caller(bench: Bench) -> None:
    await bench.start()
    bench.drain_s = 0.02
    bench.exchange.hold()
    bench.exchange.script(NEW, Fault.HANG)
    placing = bench.later(bench.place(idempotency_key="k"))
    await bench.clock.until(lambda: bench.exchange.requests, step_s=0)
    await bench.stop()
    order = await placing
    assert [d.command for d in order.in_doubt] == [NEW]
    bench.exchange.held = None
    await bench.start()
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.ord_status is OrdStatus.NEW
    await bench.check_ledger()


async def test_a_shut_down_ends_though_the_store_is_away(bench: Bench) -> None:
    await bench.start()
    bench.drain_s = 0.02
    bench.exchange.hold()
    bench.exchange.script(NEW, Fault.HANG)
    placing = bench.later(bench.place(idempotency_key="k"))
    await bench.clock.until(lambda: bench.exchange.requests, step_s=0)
    bench.store.is_away = True
    await asyncio.wait_for(bench.stop(), 60)
    with pytest.raises(Unavailable):
        await placing
    bench.exchange.held = None
    await bench.start()
    order = await bench.place(idempotency_key="k")
    await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert len(bench.exchange.orders) == 1


async def test_while_shutting_down_cancels_are_taken_and_orders_are_not(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.hold()
    bench.exchange.script(NEW, Fault.HANG)
    bench.later(bench.place())
    await bench.clock.until(lambda: len(bench.exchange.requests) == 2, step_s=0)
    stopping = bench.later(bench.stop())
    await bench.clock.until(lambda: bench.state() is AccountState.CLOSING, step_s=0)
    with pytest.raises(Unavailable) as refused:
        await bench.place()
    assert refused.value.reason == "SHUTTING_DOWN"
    closed = await bench.gateway.cancel_order(order.order_id)
    assert closed.ord_status is OrdStatus.CANCELED
    await stopping
    with pytest.raises(UsageError):
        await bench.place()


class _Observer:
    def __init__(self) -> None:
        self.seen: list[OrderEvent] = []

    @hookimpl
    def tradegw_on_event(self, event: OrderEvent) -> None:
        self.seen.append(event)
        raise RuntimeError("an observer's own mistake")


async def test_observers_see_every_event_and_hold_up_nobody(bench: Bench) -> None:
    observer = _Observer()
    bench.extra_plugins.append(observer)
    await bench.start()
    order = await bench.place()
    await bench.gateway.cancel_order(order.order_id)
    head = bench.engine.hub.head(order.account)
    await asyncio.wait_for(bench.stop(), 60)
    assert [event.seq for event in observer.seen] == list(range(1, head + 1))


# --- dying -----------------------------------------------------------------------------------------


def die_at(bench: Bench, monkeypatch: pytest.MonkeyPatch, point: CrashPoint) -> asyncio.Event:
    """Let nothing be stored and nothing leave from the point on, as if the process were gone."""
    died = asyncio.Event()

    def reach(here: CrashPoint) -> None:
        if here is point and not died.is_set():
            bench.store.is_dead = True
            died.set()
            raise asyncio.CancelledError

    for room in (desk, sending):
        monkeypatch.setattr(room, "reach", reach)
    return died


async def test_death_between_the_journal_and_the_send(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.start()
    died = die_at(bench, monkeypatch, CrashPoint.JOURNALED_UNSENT)
    bench.later(bench.place(idempotency_key="k"))
    await died.wait()
    await bench.restart()
    order = await bench.place(idempotency_key="k")
    assert [d.command for d in order.in_doubt] == [NEW], "this process cannot know"
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.closed_by is EvidenceKind.ABSENT_AFTER_EXPIRY
    assert not bench.exchange.requests
    await bench.check_ledger()


@pytest.mark.parametrize("filled", ["0", "0.4", "1"])
async def test_death_between_the_send_and_the_answer(bench: Bench, filled: str) -> None:
    await bench.start()
    bench.exchange.hold()
    bench.exchange.fill_on_arrival = Decimal(filled)
    bench.exchange.script(NEW, Fault.HANG)
    bench.later(bench.place(idempotency_key="k"))
    await bench.clock.until(lambda: bench.exchange.orders, step_s=0)
    bench.exchange.held = None
    await bench.restart()
    order = await bench.place(idempotency_key="k")
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.cum_qty == Decimal(filled)
    assert len(bench.exchange.sent(NEW)) == 1
    await bench.check_ledger()


@pytest.mark.parametrize("fault", [None, Fault.REFUSE])
async def test_death_between_the_answer_and_the_journal(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: Fault | None
) -> None:
    await bench.start()
    bench.exchange.drops = True
    if fault is None:
        died = die_at(bench, monkeypatch, CrashPoint.ANSWERED_UNJOURNALED)
        bench.later(bench.place(idempotency_key="k"))
        await died.wait()
    else:
        bench.exchange.script(NEW, fault)
        bench.store.fail(
            StoreFault.LOST, lambda e: any(x.event_type == "REJECTED" for x in e.events)
        )
        bench.later(bench.place(idempotency_key="k"))
        await bench.clock.until(lambda: bench.store.has_failed, step_s=0)
    bench.exchange.drops = False
    await bench.restart()
    order = await bench.place(idempotency_key="k")
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.ord_status is (OrdStatus.NEW if fault is None else OrdStatus.REJECTED)
    assert len(bench.exchange.sent(NEW)) == 1
    await bench.check_ledger()


@pytest.mark.parametrize("command", [CANCEL, REPLACE])
@pytest.mark.parametrize("fault", [Fault.LOSE_REQUEST, Fault.HANG])
async def test_death_while_a_command_is_on_its_way(
    bench: Bench, command: CommandKind, fault: Fault
) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.drops = True
    bench.exchange.script(command, fault)
    if command is CANCEL:
        bench.later(bench.gateway.cancel_order(order.order_id))
    else:
        bench.later(bench.gateway.replace_order(order.order_id, price="101"))
    await bench.clock.until(lambda: bench.exchange.sent(command), step_s=0)
    await bench.restart()
    stood = await bench.order_when(order.order_id, lambda o: not o.in_doubt and not o.pending)
    placed = bench.exchange.orders[0]
    assert stood.is_open == placed.is_open
    if stood.is_open:
        assert stood.price == placed.price
    await bench.check_ledger()


async def test_many_deaths_double_nothing(bench: Bench) -> None:
    await bench.start()
    keys = [f"k{i}" for i in range(12)]
    for round_ in range(4):
        bench.exchange.script(
            NEW, None, Fault.LOSE_ANSWER, Fault.LOSE_REQUEST, Fault.HANG, Fault.DELAY
        )
        for key in keys:
            bench.later(bench.place(idempotency_key=key))
        for _ in range(3 + 5 * round_):
            await asyncio.sleep(0)
        await bench.restart()
        bench.exchange.calm()
    orders = [await bench.place(idempotency_key=key) for key in keys]
    for order in orders:
        await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    bench.exchange.deliver()
    assert len({o.order_id for o in orders}) == 12
    await bench.check_ledger()


# --- accounts that come and go ------------------------------------------------------------------------


def another(bench: Bench, name: str) -> ScriptedExchange:
    exchange = ScriptedExchange(bench.clock)
    bench.accounts[name] = ScriptedPlugin(exchange, name=f"venue-{name}")
    return exchange


async def test_accounts_come_and_go_while_others_trade(bench: Bench) -> None:
    await bench.start()
    placed = 0
    is_done = False

    async def trade() -> None:
        nonlocal placed
        while not is_done:
            order = await bench.place(idempotency_key=f"k{placed}")
            assert order.ord_status is OrdStatus.NEW
            placed += 1

    trading = bench.later(trade())
    for round_ in range(3):
        name = f"guest{round_}"
        exchange = another(bench, name)
        await bench.engine.add_account(bench.plan(name))
        await bench.ready(name)
        order = await bench.place(account=name)
        assert order.venue == f"venue-{name}"
        before = placed
        await bench.engine.remove_account(order.account)
        del bench.accounts[name]
        assert not exchange.is_listened_to
        with pytest.raises(InvalidOrder):
            await bench.place(account=name)
        assert (await bench.stored(order)).is_open, "its orders stay as they are"
        await bench.clock.until(lambda before=before: placed > before, step_s=0)  # type: ignore[misc]
    is_done = True
    await trading
    await bench.check_ledger()


async def test_an_account_that_is_removed_and_added_again_goes_on(bench: Bench) -> None:
    await bench.start()
    bench.exchange.hold()
    bench.exchange.script(NEW, Fault.HANG)
    placing = bench.later(bench.place())
    await bench.clock.until(lambda: bench.exchange.requests, step_s=0)
    old = bench.account()
    await bench.engine.remove_account(old.account)
    assert not old.in_flight, "nothing of it is under way any more"
    order = await placing
    assert order.in_doubt, "what was on its way ends in doubt"
    bench.exchange.held = None
    await bench.engine.add_account(bench.plan("paper"))
    await bench.ready()
    await bench.order_when(order.order_id, lambda o: o.ord_status is OrdStatus.NEW)
    bench.exchange.fill(bench.exchange.orders[0])
    await bench.order_when(order.order_id, lambda o: not o.is_open)
    await bench.check_ledger()


async def test_an_account_is_added_once(bench: Bench) -> None:
    await bench.start()
    another(bench, "guest")
    results = await asyncio.gather(
        *(bench.engine.add_account(bench.plan("guest")) for _ in range(3)), return_exceptions=True
    )
    assert sum(isinstance(r, InvalidOrder) for r in results) == 2
    with pytest.raises(NotFound):
        await bench.engine.remove_account("nobody")  # type: ignore[arg-type]


async def test_an_account_stays_at_its_venue(bench: Bench) -> None:
    await bench.start()
    await bench.engine.remove_account(bench.account().account)
    another(bench, "paper")
    with pytest.raises(InvalidOrder, match="bound to venue scripted"):
        await bench.engine.add_account(bench.plan("paper"))
    bench.accounts["paper"] = bench.plugin


async def test_one_account_that_cannot_connect_disturbs_no_other(bench: Bench) -> None:
    another(bench, "broken")
    broken = bench.accounts["broken"]
    broken.open_errors.extend([VenueError("no"), KeyError("no"), OSError("no")] * 5)
    await bench.start(is_ready=False)
    await bench.ready("paper")
    assert (await bench.place()).ord_status is OrdStatus.NEW
    with pytest.raises(Unavailable) as refused:
        await bench.place(account="broken")
    assert refused.value.reason == "VENUE_UNAVAILABLE"
    broken.open_errors.clear()
    await bench.ready("broken")
    assert (await bench.place(account="broken")).ord_status is OrdStatus.NEW
    await bench.check_ledger("broken")


async def test_one_account_whose_store_writes_fail_disturbs_no_other(bench: Bench) -> None:
    another(bench, "other")
    await bench.start()
    paper = bench.account().record.account_id
    bench.store.fail(StoreFault.LOST, lambda entry: entry.account_id == paper)
    placing = bench.later(bench.place())
    assert (await bench.place(account="other")).ord_status is OrdStatus.NEW
    with pytest.raises(Unavailable):
        await placing
    await bench.ready()


async def test_death_while_a_replace_and_the_cancel_that_overtook_it_are_on_their_way(
    bench: Bench,
) -> None:
    """Both are asked about: a replace that stayed pending for ever would stand in the way of the next."""
    await bench.start()
    order = await bench.place()
    for command in (REPLACE, CANCEL):
        bench.exchange.script(command, Fault.HANG if command is REPLACE else Fault.LOSE_REQUEST)
    bench.exchange.drops = True
    replacing = bench.gateway.replace_order(order.order_id, price="101")
    bench.later(replacing)
    await bench.clock.until(lambda: bench.exchange.sent(REPLACE), step_s=0)
    # As if it had not arrived.
    bench.exchange.orders[0].price = Decimal(100)
    bench.later(bench.gateway.cancel_order(order.order_id))
    await bench.clock.until(lambda: bench.exchange.sent(CANCEL), step_s=0)
    await bench.restart()
    stood = await bench.order_when(
        order.order_id, lambda o: not (o.in_doubt or o.pending or o.pending_terms)
    )
    assert (stood.ord_status, stood.price) == (OrdStatus.NEW, 100)
    again = await bench.gateway.replace_order(order.order_id, price="102")
    assert again.price == 102
    await bench.check_ledger()


async def test_an_order_that_fills_before_its_replace_is_answered_ends_with_the_new_price(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream's fill, which closes the order, tells no price of it; the answer that comes later does."""
    await bench.start()
    order = await bench.place()
    answer = asyncio.Event()
    monkeypatch.setattr(venue, "_moment", answer.wait)
    bench.exchange.hold()
    bench.exchange.script(REPLACE, Fault.SLOW)
    replacing = bench.later(bench.gateway.replace_order(order.order_id, price="101"))
    await bench.clock.until(lambda: bench.exchange.orders[0].price == 101, step_s=0)
    bench.exchange.fill(bench.exchange.orders[0], px="101")
    bench.exchange.release(bench.exchange.trades)
    filled = await bench.order_when(order.order_id, lambda o: not o.is_open, step_s=0)
    assert (filled.price, filled.pending_terms) == (100, ReplaceTerms(price=Decimal(101)))
    answer.set()
    answered = await replacing
    assert (answered.ord_status, answered.price) == (OrdStatus.FILLED, 101)
    await bench.check_ledger()


async def test_the_answer_of_a_replace_is_not_taken_for_that_of_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream tells of the first at once, so nothing is pending; its answer is still on its way."""
    await bench.start()
    order = await bench.place()
    answer = asyncio.Event()
    monkeypatch.setattr(venue, "_moment", answer.wait)
    bench.exchange.script(REPLACE, Fault.SLOW)
    first = bench.later(bench.gateway.replace_order(order.order_id, price="101"))
    await bench.order_when(order.order_id, lambda o: o.price == 101, step_s=0)
    second = bench.later(bench.gateway.replace_order(order.order_id, price="102"))
    for _ in range(20):
        await asyncio.sleep(0)
    answer.set()
    assert (await first).price == 101
    assert (await second).price == 102
    assert (await bench.stored(order)).price == 102
    await bench.check_ledger()
