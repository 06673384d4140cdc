"""What is held while a venue is out: orders that ask for it, and every cancel."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.engine.bench import Bench, StoreFault, capabilities
from tests.integration.engine.test_guard import go_out, restrict
from tradegw.engine import holding
from tradegw.engine.limits import Limits
from tradegw.errors import (
    Conflict,
    InvalidOrder,
    NotSent,
    Unavailable,
    UnsupportedOrder,
    VenueError,
)
from tradegw.model import CommandKind, EvidenceKind, Order, OrdStatus, OrdType, TimeInForce
from tradegw.ports import Entry
from tradegw.testing import Fault, ScriptedPlugin

D = Decimal


async def come_back(bench: Bench) -> None:
    bench.exchange.away = None
    await bench.clock.until(lambda: not bench.account().guard.breaker.is_open)
    await bench.ready()


async def hold(bench: Bench, **fields: Any) -> Order:
    order = await bench.place(**({"queue_if_unavailable_s": 60.0} | fields))
    assert (order.ord_status, order.queued, order.acknowledged) == (
        OrdStatus.PENDING_NEW,
        True,
        False,
    )
    assert not order.in_doubt
    return order


# --- orders ----------------------------------------------------------------------------------------


async def test_an_order_waits_and_is_sent_once_when_the_venue_is_back(bench: Bench) -> None:
    await bench.start()
    await go_out(bench)
    order = await hold(bench, idempotency_key="k")
    assert (await bench.stored(order)).queued
    assert order.send_by_ns == order.created_time_ns + 60_000_000_000
    await bench.turn(20.0)
    assert not bench.exchange.requests
    await come_back(bench)
    live = await bench.order_when(order.order_id, lambda o: o.acknowledged)
    assert (live.ord_status, live.queued) == (OrdStatus.NEW, False)
    (request,) = bench.exchange.sent(CommandKind.NEW)
    assert request.valid_until_ns is not None
    # Made when its turn had come, not when it was stored.
    assert request.valid_until_ns > order.created_time_ns + 20_000_000_000
    assert await bench.events(order) == ["INTENT", "DEQUEUED", "NEW"]
    # The same key, whatever the venue's state was when it was first asked.
    again = await bench.place(idempotency_key="k", queue_if_unavailable_s=60.0)
    assert again.order_id == order.order_id
    await bench.check_ledger()


async def test_an_order_that_has_waited_long_enough_expires_here(bench: Bench) -> None:
    await bench.start()
    await go_out(bench)
    order = await hold(bench, queue_if_unavailable_s=5)
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert (closed.ord_status, closed.reason) == (OrdStatus.EXPIRED, "QUEUE_EXPIRED")
    assert closed.closed_by is EvidenceKind.NOT_SENT
    assert 5.0 <= (bench.clock.time_ns() - order.created_time_ns) / 1e9 < 6.0
    await come_back(bench)
    await bench.turn(2.0)
    assert not bench.exchange.requests


async def test_without_asking_for_it_nothing_is_held(bench: Bench) -> None:
    await bench.start()
    await go_out(bench)
    with pytest.raises(Unavailable):
        await bench.place()
    assert not list(bench.account().book)


async def test_while_the_venue_is_there_asking_for_it_changes_nothing(bench: Bench) -> None:
    await bench.start()
    order = await bench.place(queue_if_unavailable_s=60.0)
    assert order.acknowledged
    assert not order.queued
    assert await bench.events(order) == ["INTENT", "NEW"]


async def test_a_venue_whose_stream_is_gone_and_that_cannot_be_opened_is_out(bench: Bench) -> None:
    await bench.start()
    bench.exchange.away = NotSent("no connection")
    bench.exchange.break_stream(OSError("gone"))
    await bench.clock.until(lambda: not bench.account().is_open, step_s=0)
    order = await hold(bench)
    bench.exchange.away = None
    await bench.order_when(order.order_id, lambda o: o.acknowledged)
    assert len(bench.exchange.orders) == 1


async def test_what_cannot_be_right_is_refused_at_once(bench: Bench) -> None:
    await bench.start()
    await go_out(bench)
    with pytest.raises(InvalidOrder) as refused:
        await bench.place(queue_if_unavailable_s=9.0, price="100.001")
    assert refused.value.reason == "PRICE_OFF_TICK"
    with pytest.raises(UnsupportedOrder):
        await bench.place(
            queue_if_unavailable_s=9.0, ord_type=OrdType.STOP, price=None, trigger_price="90"
        )
    with pytest.raises(InvalidOrder):
        await bench.place(queue_if_unavailable_s=0)
    assert not list(bench.account().book)


async def test_limits_count_what_is_held(bench: Bench) -> None:
    bench.limits = Limits(max_open_orders=2)
    await bench.start()
    await go_out(bench)
    await hold(bench)
    await hold(bench)
    third = await bench.place(queue_if_unavailable_s=60.0)
    assert (third.ord_status, third.reason) == (OrdStatus.REJECTED, "LIMIT_OPEN_ORDERS")
    assert (await bench.gateway.halt(why="w", by="b")).scope == "*"
    assert (await bench.place(queue_if_unavailable_s=60.0)).reason == "HALTED"


async def test_no_more_are_held_than_may_be(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "HELD_MAX", 3)
    await bench.start()
    await go_out(bench)
    placed = await asyncio.gather(
        *(bench.place(queue_if_unavailable_s=60.0) for _ in range(9)), return_exceptions=True
    )
    assert sum(isinstance(order, Order) for order in placed) == 3
    assert {e.reason for e in placed if isinstance(e, Unavailable)} == {"VENUE_UNAVAILABLE"}


async def test_the_price_is_judged_when_its_turn_comes(bench: Bench) -> None:
    bench.limits = Limits(price_collar_bps=D(100), max_order_notional=D(1000))
    await bench.start()
    await go_out(bench)
    far, near, dear = (
        await hold(bench, price="102"),
        await hold(bench, price="100"),
        await hold(bench, order_qty="20"),
    )
    await come_back(bench)
    await bench.order_when(near.order_id, lambda o: o.acknowledged)
    refused = await bench.order_when(far.order_id, lambda o: not o.is_open)
    assert (refused.ord_status, refused.reason) == (OrdStatus.REJECTED, "LIMIT_PRICE_COLLAR")
    assert refused.closed_by is EvidenceKind.NOT_SENT
    refused = await bench.order_when(dear.order_id, lambda o: not o.is_open)
    assert refused.reason == "LIMIT_ORDER_NOTIONAL"
    assert len(bench.exchange.requests) == 1


async def test_an_order_whose_price_cannot_be_judged_yet_waits_on(bench: Bench) -> None:
    bench.limits = Limits(price_collar_bps=D(100))
    await bench.start()
    await go_out(bench)
    order, late = await hold(bench), await hold(bench, queue_if_unavailable_s=20)
    bench.exchange.reference_px = None
    await come_back(bench)
    closed = await bench.order_when(late.order_id, lambda o: not o.is_open)
    assert closed.reason == "QUEUE_EXPIRED"
    bench.exchange.reference_px = D(100)
    await bench.order_when(order.order_id, lambda o: o.acknowledged)
    assert len(bench.exchange.requests) == 1


async def test_an_order_held_before_a_halt_is_not_sent_after_it(bench: Bench) -> None:
    await bench.start()
    await go_out(bench)
    order = await hold(bench)
    await bench.gateway.halt(why="w", by="b")
    await come_back(bench)
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert (closed.ord_status, closed.reason) == (OrdStatus.REJECTED, "HALTED")
    assert not bench.exchange.requests


async def test_what_the_venues_plugin_refuses_to_translate_is_refused_then(bench: Bench) -> None:
    await bench.start()
    await go_out(bench)
    order = await hold(bench)
    bench.plugin._capabilities = capabilities(time_in_force=frozenset({TimeInForce.IOC}))
    bench.exchange.break_stream(OSError("gone"))
    account = bench.account()
    assert account.venue is not None
    # The venue is another one than it was.
    venue = account.venue._hook.tradegw_translate.get_hookimpls()[0].plugin
    venue._capabilities = bench.plugin._capabilities
    await come_back(bench)
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert (closed.ord_status, closed.reason) == (OrdStatus.REJECTED, "UNSUPPORTED")


async def test_the_first_come_are_the_first_sent_within_the_budget(bench: Bench) -> None:
    await bench.start()
    await go_out(bench)
    held = [await hold(bench, price=str(90 + i)) for i in range(5)]
    await come_back(bench)
    for order in held:
        await bench.order_when(order.order_id, lambda o: o.acknowledged)
    assert [request.price for request in bench.exchange.sent(CommandKind.NEW)] == [
        order.price for order in held
    ]


async def test_held_orders_go_on_after_a_restart_and_doubt_nothing(bench: Bench) -> None:
    await bench.start()
    await go_out(bench)
    waits, expires = await hold(bench), await hold(bench, queue_if_unavailable_s=10.0)
    await bench.crash()
    bench.clock.turn(11.0)
    await bench.start(is_ready=False)
    closed = await bench.order_when(expires.order_id, lambda o: not o.is_open)
    assert closed.reason == "QUEUE_EXPIRED"
    assert "SENT_UNANSWERED" not in await bench.events(waits)
    bench.exchange.away = None
    await bench.order_when(waits.order_id, lambda o: o.acknowledged)
    assert len(bench.exchange.orders) == 1


@pytest.mark.parametrize("fault", list(StoreFault))
async def test_when_the_store_fails_as_its_turn_comes_it_is_sent_once_or_not_at_all(
    bench: Bench, fault: StoreFault
) -> None:
    await bench.start()
    await go_out(bench)
    order = await hold(bench)

    def is_dequeued(entry: Entry) -> bool:
        return any(e.event_type == "DEQUEUED" for e in entry.events)

    bench.store.fail(fault, is_dequeued)
    await come_back(bench)
    end = await bench.order_when(order.order_id, lambda o: o.acknowledged or not o.is_open)
    assert bench.store.has_failed
    if fault is StoreFault.KEPT:
        assert (end.ord_status, end.reason) == (OrdStatus.REJECTED, "NEVER_REACHED_VENUE")
        assert not bench.exchange.orders
    else:
        assert len(bench.exchange.orders) == 1
    await bench.check_ledger()


async def test_a_crash_between_the_news_and_the_sending_leaves_a_doubt_that_is_settled(
    bench: Bench,
) -> None:
    await bench.start()
    await go_out(bench)
    order = await hold(bench)
    bench.exchange.script(CommandKind.NEW, Fault.LOSE_REQUEST)
    await come_back(bench)
    await bench.order_when(order.order_id, lambda o: o.in_doubt)
    await bench.restart()
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.reason == "NEVER_REACHED_VENUE"
    assert len(bench.exchange.requests) == 1


# --- cancels ---------------------------------------------------------------------------------------


async def test_a_held_order_is_cancelled_without_the_venue(bench: Bench) -> None:
    await bench.start()
    await go_out(bench)
    order = await hold(bench)
    closed = await bench.gateway.cancel_order(order.order_id, idempotency_key="c")
    assert (closed.ord_status, closed.reason) == (OrdStatus.CANCELED, "CANCELED_UNSENT")
    assert closed.closed_by is EvidenceKind.NOT_SENT
    again = await bench.gateway.cancel_order(order.order_id, idempotency_key="c")
    assert again.ord_status is OrdStatus.CANCELED
    with pytest.raises(Conflict):
        await bench.gateway.cancel_order(order.order_id)
    await come_back(bench)
    await bench.turn(2.0)
    assert not bench.exchange.requests


async def test_a_cancel_and_the_turn_at_once_end_in_one_of_two_ways(bench: Bench) -> None:
    await bench.start()
    await go_out(bench)
    held = [await hold(bench) for _ in range(10)]
    bench.exchange.away = None
    tasks: list[asyncio.Task[Order]] = []
    for turn, order in enumerate(held):
        # Some before the venue is back, some while they are sent, some after.
        tasks.append(bench.later(bench.gateway.cancel_order(order.order_id)))
        await bench.turn(0.1 * (turn % 3))
    await bench.clock.until(lambda: all(task.done() for task in tasks))
    for order in held:
        await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert not [placed for placed in bench.exchange.orders if placed.is_open]
    await bench.check_ledger()


async def test_cancels_are_held_while_the_venue_is_out_and_go_first(bench: Bench) -> None:
    restrict(bench)
    await bench.start()
    orders = [await bench.place() for _ in range(3)]
    await go_out(bench)
    waiting = await hold(bench)
    for order in orders:
        asked = await bench.gateway.cancel_order(order.order_id, idempotency_key=str(order.seq))
        assert (asked.ord_status, asked.queued) == (OrdStatus.PENDING_CANCEL, True)
        assert not asked.in_doubt
    again = await bench.gateway.cancel_order(orders[0].order_id, idempotency_key=str(orders[0].seq))
    assert again.queued
    sent = len(bench.exchange.requests)
    await come_back(bench)
    for order in orders:
        await bench.order_when(order.order_id, lambda o: o.ord_status is OrdStatus.CANCELED)
    await bench.order_when(waiting.order_id, lambda o: o.acknowledged)
    commands = [request.command for request in bench.exchange.requests[sent:]]
    assert commands == [*[CommandKind.CANCEL] * 3, CommandKind.NEW]
    assert await bench.events(orders[0]) == [
        "INTENT",
        "NEW",
        "PENDING_CANCEL",
        "DEQUEUED",
        "CANCELED",
    ]


async def test_a_cancel_of_an_account_whose_venue_was_never_reached_is_held(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    await bench.crash()
    bench.plugin.open_errors = [VenueError("no")] * 20
    await bench.start(is_ready=False)
    asked = await bench.gateway.cancel_order(order.order_id)
    assert asked.queued
    await bench.restart(is_ready=False)
    bench.plugin.open_errors.clear()
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.ord_status is OrdStatus.CANCELED
    assert len(bench.exchange.sent(CommandKind.CANCEL)) == 1
    assert "SENT_UNANSWERED" not in [e for e in await bench.events(order) if e == "CANCEL"]


@pytest.mark.parametrize("fault", [Fault.NOT_SENT, Fault.THROTTLE])
async def test_a_cancel_that_the_venue_did_not_take_is_sent_again_with_a_backoff(
    bench: Bench, fault: Fault
) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.script(CommandKind.CANCEL, fault, fault, fault)
    asked = await bench.gateway.cancel_order(order.order_id)
    assert (asked.ord_status, asked.queued) == (OrdStatus.PENDING_CANCEL, True)
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.ord_status is OrdStatus.CANCELED
    assert len(bench.exchange.sent(CommandKind.CANCEL)) == 4


async def test_an_order_that_fills_while_its_cancel_waits_is_filled(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    await go_out(bench)
    await bench.gateway.cancel_order(order.order_id)
    bench.exchange.fill(bench.exchange.orders[0], D(1))
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert (closed.ord_status, closed.queued) == (OrdStatus.FILLED, False)
    await come_back(bench)
    await bench.turn(1.0)
    assert not bench.exchange.sent(CommandKind.CANCEL)


async def test_a_halt_that_cancels_returns_though_one_venue_is_dead(bench: Bench) -> None:
    other = ScriptedPlugin(type(bench.exchange)(bench.clock), name="elsewhere")
    bench.accounts["other"] = other
    await bench.start()
    dead, alive = await bench.place(), await bench.place(account="other")
    await go_out(bench)
    held = await hold(bench)
    await bench.gateway.halt(why="w", by="b", cancel_open=True)
    assert not (await bench.stored(alive)).is_open
    assert not (await bench.stored(held)).is_open
    assert (await bench.stored(dead)).queued
    await come_back(bench)
    closed = await bench.order_when(dead.order_id, lambda o: not o.is_open)
    assert closed.ord_status is OrdStatus.CANCELED
