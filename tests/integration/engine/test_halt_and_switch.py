"""Stopping: halts in mid-flow, sessions that end, the venue's own switch; and limits that a restart keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.engine.bench import Bench, StoreFault, capabilities
from tests.integration.engine.test_guard import go_out
from tradegw.engine.limits import Limits
from tradegw.errors import NotSent, Unavailable
from tradegw.gateway import local
from tradegw.model import CommandKind, EvidenceKind, ExecutionReport, OrdStatus
from tradegw.ports import Entry
from tradegw.testing import Fault, ScriptedExchange, ScriptedPlugin, ScriptedVenue, a_new_order
from tradegw.venue import (
    Capabilities,
    Command,
    DeadMan,
    TranslateContext,
    Venue,
    VenueRequest,
)

D = Decimal


# --- halts in mid-flow -------------------------------------------------------------------------------


async def test_a_halt_in_mid_flow_cancels_what_is_ours_and_lets_nothing_more_out(
    bench: Bench,
) -> None:
    """Orders at every stage: live, on their way, being stored, waiting for their turn."""
    await bench.start()
    live = [await bench.place() for _ in range(5)]
    bench.exchange.script(CommandKind.NEW, *[Fault.SLOW] * 10)
    slow = [bench.later(bench.place()) for _ in range(10)]
    await bench.clock.until(lambda: len(bench.exchange.requests) == 15, step_s=0)
    gate = asyncio.Event()
    bench.store.gate = (gate, lambda entry: entry.is_new_order and entry.ref is not None)
    storing = [bench.later(bench.place()) for _ in range(10)]
    await bench.clock.until(lambda: list(bench.engine._members) and _storing(bench) >= 10, step_s=0)
    halting = bench.later(bench.gateway.halt(why="w", by="b", cancel_open=True))
    await bench.clock.until(lambda: bench.engine.halts.all, step_s=0)
    refused = await bench.place()
    assert refused.reason == "HALTED"
    assert not halting.done(), "what is being stored is waited for"
    gate.set()
    await halting
    orders = [*live, *await asyncio.gather(*slow), *await asyncio.gather(*storing)]
    for order in orders:
        closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
        assert closed.ord_status in (OrdStatus.CANCELED, OrdStatus.REJECTED)
        if closed.ord_status is OrdStatus.REJECTED:
            assert (closed.reason, closed.closed_by) == ("HALTED", EvidenceKind.NOT_SENT)
    assert not [placed for placed in bench.exchange.orders if placed.is_open]
    # Those that were being stored as the halt came were never sent.
    assert len(bench.exchange.sent(CommandKind.NEW)) == 15
    await bench.check_ledger()


def _storing(bench: Bench) -> int:
    (member,) = bench.engine._members
    return len(member.desk._storing)


@pytest.mark.parametrize("fault", list(StoreFault))
async def test_a_halt_ends_though_the_store_fails_under_an_order(
    bench: Bench, fault: StoreFault
) -> None:
    await bench.start()
    order = await bench.place()

    def is_new(entry: Entry) -> bool:
        return entry.is_new_order

    bench.store.fail(fault, is_new)
    placing = bench.later(bench.place())
    halting = bench.later(bench.gateway.halt(why="w", by="b", cancel_open=True))
    await bench.clock.until(lambda: halting.done() and placing.done())
    await bench.ready()
    if halting.exception() is not None:
        # The account had stopped; whoever asks again gets the rest cancelled.
        await bench.gateway.halt(why="w", by="b", cancel_open=True)
    await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert not [placed for placed in bench.exchange.orders if placed.is_open]


async def test_limits_hold_up_no_cancel(bench: Bench) -> None:
    bench.limits = Limits(
        max_order_notional=D(100), max_open_orders=3, max_orders_per_second=3, max_orders_per_day=3
    )
    await bench.start()
    orders = [await bench.place() for _ in range(3)]
    assert (await bench.place()).ord_status is OrdStatus.REJECTED
    await bench.gateway.halt(why="w", by="b")
    for order in orders:
        closed = await bench.gateway.cancel_order(order.order_id)
        assert closed.ord_status is OrdStatus.CANCELED


# --- what a restart keeps -----------------------------------------------------------------------------


async def test_the_daily_count_outlives_a_restart(bench: Bench) -> None:
    bench.limits = Limits(max_orders_per_day=3, symbols=frozenset({"BTC/USDT"}))
    await bench.start()
    await bench.place()
    filled = await bench.place()
    bench.exchange.fill(bench.exchange.placed(filled.venue_client_order_id), D(1))
    assert (await bench.place(symbol="ETH/USDT")).reason == "LIMIT_SYMBOL"
    await bench.restart()
    assert (await bench.place()).is_open, "what was refused does not count"
    assert (await bench.place()).reason == "LIMIT_ORDERS_PER_DAY"
    await bench.restart()
    assert (await bench.place()).reason == "LIMIT_ORDERS_PER_DAY"
    bench.clock.turn(86_400)
    await bench.restart()
    assert (await bench.place()).is_open


# --- sessions ------------------------------------------------------------------------------------------


async def test_a_session_cancels_its_own_and_nobody_elses(bench: Bench) -> None:
    await bench.start()
    other = await bench.place()
    async with bench.gateway.session(cancel_on_disconnect=True) as session:
        mine = [await session.place_order(a_new_order(price=D(90 + i))) for i in range(3)]
        # Asked for by the session, and refused: still not its own.
        bench.exchange.script(CommandKind.CANCEL, Fault.REFUSE)
        assert (await session.cancel_order(other.order_id)).is_open
    for order in mine:
        assert (await bench.stored(order)).ord_status is OrdStatus.CANCELED
    assert (await bench.stored(other)).is_open


async def test_what_is_open_is_cancelled_at_once_and_what_hangs_when_it_is_known(
    bench: Bench,
) -> None:
    await bench.start()
    bench.exchange.script(CommandKind.NEW, None, Fault.HANG)
    async with bench.gateway.session(cancel_on_disconnect=True) as session:
        first = await session.place_order(a_new_order())
        hangs = bench.later(session.place_order(a_new_order()))
        await bench.clock.until(lambda: len(bench.exchange.requests) == 2, step_s=0)
        closing = bench.later(session.cancel_open())
        await bench.clock.until(lambda: bench.exchange.sent(CommandKind.CANCEL), step_s=0)
        assert not hangs.done()
        await closing
    assert not (await bench.stored(first)).is_open
    assert not [placed for placed in bench.exchange.orders if placed.is_open]


async def test_a_session_that_ends_while_the_venue_is_out_leaves_its_cancels_waiting(
    bench: Bench,
) -> None:
    await bench.start()
    async with bench.gateway.session(cancel_on_disconnect=True) as session:
        order = await session.place_order(a_new_order())
        await go_out(bench)
    assert (await bench.stored(order)).queued
    bench.exchange.away = None
    await bench.order_when(order.order_id, lambda o: o.ord_status is OrdStatus.CANCELED)


async def test_a_session_that_ends_while_the_store_is_away_cancels_when_it_is_back(
    bench: Bench,
) -> None:
    await bench.start()
    async with bench.gateway.session(cancel_on_disconnect=True) as session:
        order = await session.place_order(a_new_order())
        bench.store.is_away = True
        ending = bench.later(session.cancel_open())
        await bench.turn(3.0)
        assert not ending.done()
        bench.store.is_away = False
        await bench.clock.until(ending.done)
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.ord_status is OrdStatus.CANCELED


async def test_a_long_session_remembers_what_is_open(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_PRUNE_FIRST", 8)
    await bench.start()
    async with bench.gateway.session(cancel_on_disconnect=True) as session:
        keeps = [await session.place_order(a_new_order()) for _ in range(3)]
        for _ in range(60):
            order = await session.place_order(a_new_order())
            bench.exchange.fill(bench.exchange.placed(order.venue_client_order_id), D(1))
            await bench.order_when(order.order_id, lambda o: not o.is_open, step_s=0)
        assert len(session._orders) < 20
    for order in keeps:
        assert (await bench.stored(order)).ord_status is OrdStatus.CANCELED


# --- the venue's own switch -----------------------------------------------------------------------------


class _SwitchVenue(ScriptedVenue):
    """Cancels everything of the account when it has not been told again in time."""

    told: list[float]

    def translate(self, command: Command, context: TranslateContext) -> VenueRequest:
        if isinstance(command, DeadMan):
            return VenueRequest(payload=command, valid_until=None, digest="dead man")
        return super().translate(command, context)

    async def execute(self, request: VenueRequest) -> Sequence[ExecutionReport]:
        if isinstance(request.payload, DeadMan):
            if self.exchange.away is not None:
                raise self.exchange.away
            self.told.append(request.payload.timeout_s)
            return ()
        return await super().execute(request)


def with_switch(bench: Bench, told: list[float], **changes: Any) -> None:
    def make(exchange: ScriptedExchange, can: Capabilities) -> Venue:
        venue = _SwitchVenue(exchange, capabilities=can)
        venue.told = told
        return venue

    bench.accounts["paper"] = bench.plugin = ScriptedPlugin(
        bench.exchange, capabilities=capabilities(**({"dead_man": True} | changes)), make_venue=make
    )
    plan = bench.plan
    bench.plan = lambda name, **settings: plan(name, dead_man_s=30.0, **settings)  # type: ignore[method-assign]


async def test_the_switch_is_kept_armed_and_disarmed_at_the_end(bench: Bench) -> None:
    told: list[float] = []
    with_switch(bench, told)
    await bench.start()
    order = await bench.place()
    await bench.turn(60.0)
    assert 6 <= len(told) <= 9
    assert set(told) == {30.0}
    await bench.stop()
    assert told[-1] == 0
    assert told.count(0) == 1
    await bench.start()
    assert (await bench.stored(order)).is_open


async def test_a_gateway_that_dies_leaves_the_switch_armed(bench: Bench) -> None:
    told: list[float] = []
    with_switch(bench, told)
    await bench.start()
    await bench.clock.until(lambda: told)
    await bench.crash()
    assert 0 not in told


async def test_a_switch_that_cannot_be_told_is_told_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[float] = []
    with_switch(bench, told)
    await bench.start()
    before = len(told)
    bench.exchange.away = NotSent("no")
    await bench.turn(11.0)
    assert "ALARM the dead man's switch was not armed" in caplog.text
    bench.exchange.away = None
    await bench.clock.until(lambda: len(told) > before)


async def test_without_the_switch_that_was_asked_for_the_account_takes_no_orders(
    bench: Bench,
) -> None:
    with_switch(bench, [], dead_man=False)
    await bench.start(is_ready=False)
    await bench.turn(1.0)
    with pytest.raises(Unavailable, match="has no dead man's switch"):
        await bench.place()


async def test_an_account_without_the_setting_has_no_switch(bench: Bench) -> None:
    told: list[float] = []
    with_switch(bench, told)
    del bench.plan  # type: ignore[method-assign]
    await bench.start()
    await bench.turn(60.0)
    assert not told
