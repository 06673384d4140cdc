"""The guard around a venue: outages, clocks that differ, budgets, and who goes first."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.engine.bench import Bench, capabilities
from tradegw.errors import NotSent, OutcomeUnknown, Unavailable
from tradegw.model import CommandKind, OrdStatus
from tradegw.testing import Fault, ScriptedExchange, ScriptedPlugin
from tradegw.venue import (
    BudgetPool,
    BudgetScope,
    BudgetStrategy,
    ExpiryKind,
    Feedback,
    Operation,
    SendOrder,
)


async def go_out(bench: Bench, error: Exception | None = None) -> None:
    """Take the exchange away, and let the account notice."""
    bench.exchange.away = error or NotSent("no connection")
    guard = bench.account().guard
    for _ in range(10):
        guard.on_error(bench.exchange.away)
        bench.clock.turn(0.2)
    assert guard.breaker.is_open


def restrict(bench: Bench, **changes: Any) -> None:
    bench.accounts["paper"] = bench.plugin = ScriptedPlugin(
        bench.exchange, capabilities=capabilities(**changes)
    )


def second_account(bench: Bench) -> ScriptedExchange:
    exchange = ScriptedExchange(bench.clock)
    bench.accounts["other"] = ScriptedPlugin(exchange, name="elsewhere")
    return exchange


# --- outages ---------------------------------------------------------------------------------------


async def test_a_venue_that_is_out_is_found_out_by_its_silence(bench: Bench) -> None:
    await bench.start()
    bench.exchange.away = NotSent("no connection")
    tried = 0
    while not bench.account().guard.breaker.is_open:
        assert (await bench.place()).reason == "NEVER_REACHED_VENUE"
        tried += 1
        assert tried < 30
        bench.clock.turn(0.2)
    with pytest.raises(Unavailable) as refused:
        await bench.place()
    assert refused.value.reason == "VENUE_UNAVAILABLE"


async def test_new_orders_are_refused_at_once_and_their_key_is_free(bench: Bench) -> None:
    await bench.start()
    await go_out(bench)
    sent = len(bench.exchange.requests)
    for _ in range(20):
        with pytest.raises(Unavailable) as refused:
            await bench.place(idempotency_key="k")
        assert refused.value.reason == "VENUE_UNAVAILABLE"
    assert len(bench.exchange.requests) == sent
    bench.exchange.away = None
    await bench.clock.until(lambda: not bench.account().guard.breaker.is_open)
    await bench.ready()
    assert (await bench.place(idempotency_key="k")).is_open


async def test_only_the_question_whether_it_is_back_is_asked_meanwhile(bench: Bench) -> None:
    await bench.start()
    await bench.place()
    await go_out(bench)
    bench.account().wake_reconciler.set()
    asked = len(bench.exchange.queries)
    await bench.turn(60.0)
    probes = bench.exchange.queries[asked:]
    assert {type(query).__name__ for query in probes} == {"FetchServerTime"}
    # Five seconds apart at most, drawn with full jitter; the clock that is sampled asks now and then, too.
    assert 10 <= len(probes) <= 60


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.THROTTLE, Fault.CRASH, Fault.EMPTY])
async def test_what_is_no_outage_opens_nothing(bench: Bench, fault: Fault) -> None:
    await bench.start()
    bench.exchange.always(CommandKind.NEW, fault)
    for _ in range(30):
        await bench.place()
        bench.clock.turn(0.2)
    assert not bench.account().guard.breaker.is_open


async def test_an_answer_to_a_question_says_that_the_venue_is_there(bench: Bench) -> None:
    await bench.start()
    bench.exchange.always(CommandKind.NEW, Fault.LOSE_REQUEST)
    for _ in range(30):
        await bench.place()
        await bench.turn(0.2)
    assert not bench.account().guard.breaker.is_open


async def test_a_dead_venue_slows_no_other(bench: Bench) -> None:
    second_account(bench)
    await bench.start()
    bench.exchange.always(CommandKind.NEW, Fault.HANG)
    hung = [bench.later(bench.place()) for _ in range(50)]
    for _ in range(20):
        # Without the clock being turned: nothing of it waits for anything of the dead one.
        assert (await bench.place(account="other")).is_open
    assert len(hung) == 50
    await go_out(bench, OutcomeUnknown("silence"))
    assert (await bench.place(account="other")).is_open
    assert not bench.account("other").guard.breaker.is_open


async def test_the_plugins_word_counts_and_so_does_a_ban(bench: Bench) -> None:
    await bench.start()
    guard = bench.account().guard
    for _ in range(10):
        guard.on_feedback(Feedback(healthy=False, detail="maintenance"))
        bench.clock.turn(0.2)
    with pytest.raises(Unavailable, match="maintenance"):
        await bench.place()
    await bench.clock.until(lambda: not guard.breaker.is_open)
    guard.on_feedback(Feedback(banned=True, retry_after_s=30.0, detail="418"))
    with pytest.raises(Unavailable, match="418"):
        await bench.place()
    asked = len(bench.exchange.queries)
    await bench.turn(29.0)
    assert guard.breaker.is_open
    assert len(bench.exchange.queries) <= asked + 2, "a ban is left to pass"
    await bench.clock.until(lambda: not guard.breaker.is_open)


# --- clocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset_s", [2.6, -2.6])
async def test_a_clock_beyond_half_the_window_refuses_new_orders(
    bench: Bench, offset_s: float
) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.clock_offset_s = offset_s
    await bench.turn(31.0)
    with pytest.raises(Unavailable) as refused:
        await bench.place()
    assert refused.value.reason == "CLOCK_SKEW"
    assert (await bench.gateway.cancel_order(order.order_id)).ord_status is OrdStatus.CANCELED
    bench.exchange.clock_offset_s = offset_s / 2
    await bench.turn(31.0)
    assert (await bench.place()).is_open


async def test_a_venue_without_a_window_has_no_skew(bench: Bench) -> None:
    restrict(bench, expiry=ExpiryKind.NONE, expiry_s=0.0)
    bench.exchange.clock_offset_s = 3600.0
    await bench.start()
    assert (await bench.place()).is_open


async def test_a_header_that_tells_another_time_has_the_clock_sampled_at_once(
    bench: Bench,
) -> None:
    await bench.start()
    bench.exchange.clock_offset_s = 9.0
    told_ns = bench.exchange.time_ns()
    bench.account().guard.on_feedback(Feedback(server_time_ns=told_ns))
    await bench.clock.until(lambda: bench.account().guard.refusal is not None, step_s=0.0)
    with pytest.raises(Unavailable) as refused:
        await bench.place()
    assert refused.value.reason == "CLOCK_SKEW"


# --- budgets ---------------------------------------------------------------------------------------


def orders_pool(limit: int, **fields: Any) -> BudgetPool:
    return BudgetPool(
        **(
            {
                "name": "orders",
                "scope": BudgetScope.ACCOUNT,
                "limit": limit,
                "window_s": 10.0,
                "strategy": BudgetStrategy.SLIDING_WINDOW,
                "costs": {Operation.NEW: 1},
                "cost": 0,
            }
            | fields
        )
    )


async def test_orders_beyond_the_budget_wait_and_cancels_do_not(bench: Bench) -> None:
    restrict(bench, budgets=(orders_pool(3),))
    await bench.start()
    tasks = [bench.later(bench.place()) for _ in range(8)]
    await bench.clock.until(lambda: len(bench.exchange.orders) == 3, step_s=0)
    await bench.clock.until(lambda: sum(task.done() for task in tasks) == 3, step_s=0)
    first = next(task.result() for task in tasks if task.done())
    assert (await bench.gateway.cancel_order(first.order_id)).ord_status is OrdStatus.CANCELED
    await bench.clock.until(lambda: len(bench.exchange.orders) == 6)
    # The rest would have to wait for longer than an order may.
    await bench.clock.until(lambda: all(task.done() for task in tasks))
    errors = [e for task in tasks if (e := task.exception()) is not None]
    assert all(isinstance(e, Unavailable) and e.reason == "BUDGET_EXHAUSTED" for e in errors)
    assert len(bench.exchange.orders) + len(errors) == 8


async def test_a_venue_that_throttles_is_left_alone_for_as_long_as_it_says(bench: Bench) -> None:
    restrict(bench, budgets=(orders_pool(100),))
    await bench.start()
    bench.exchange.script(CommandKind.NEW, Fault.THROTTLE)
    assert (await bench.place()).reason == "VENUE_RATE_LIMITED"
    task = bench.later(bench.place())
    await bench.turn(0.9)
    assert not task.done()
    assert len(bench.exchange.requests) == 1
    await bench.clock.until(task.done)
    assert task.result().is_open


async def test_the_venues_own_count_is_followed(bench: Bench) -> None:
    restrict(bench, budgets=(orders_pool(10),))
    await bench.start()
    guard = bench.account().guard
    guard.on_feedback(Feedback(used={"orders": 9, "unknown": 4}))
    assert (await bench.place()).is_open
    task = bench.later(bench.place())
    await bench.turn(5.0)
    assert not task.done()
    await bench.clock.until(task.done)


@pytest.mark.parametrize("in_flight_max", [1, 3])
async def test_no_more_are_on_their_way_than_the_venue_takes_and_a_cancel_is_next(
    bench: Bench, in_flight_max: int
) -> None:
    restrict(bench, send_order=SendOrder.MAX_IN_FLIGHT(in_flight_max))
    await bench.start()
    order = await bench.place()
    bench.exchange.always(CommandKind.NEW, Fault.HANG)
    tasks = [bench.later(bench.place()) for _ in range(6)]
    await bench.clock.until(lambda: len(bench.exchange.requests) == 1 + in_flight_max, step_s=0)
    cancel = bench.later(bench.gateway.cancel_order(order.order_id))
    await bench.clock.until(lambda: bench.exchange.sent(CommandKind.CANCEL), step_s=0)
    assert len(bench.exchange.sent(CommandKind.NEW)) < 7
    assert (await cancel).ord_status is OrdStatus.CANCELED
    bench.exchange.calm()
    await bench.clock.until(lambda: all(task.done() for task in tasks), step_s=0)
    assert len(bench.exchange.orders) == 7


async def test_what_is_refused_here_gives_its_turn_back(bench: Bench) -> None:
    restrict(bench, budgets=(orders_pool(1),), send_order=SendOrder.SERIAL_PER_KEY)
    await bench.start()
    halt = await bench.gateway.halt(why="w", by="b")
    assert halt.scope == "*"
    for _ in range(5):
        assert (await bench.place()).reason == "HALTED"
    await bench.gateway.resume(by="b")
    bench.exchange.script(CommandKind.NEW, Fault.NOT_SENT)
    assert (await bench.place()).reason == "NEVER_REACHED_VENUE"
    assert (await bench.place()).is_open
