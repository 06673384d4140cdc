"""Twenty tasks that want more than their venue allows: no request too many, the budget used, cancels in time.

The venue keeps Binance's limits by the mock exchange's own code, under a clock to turn: requests and answers
take up to 150 ms each, and the clocks are apart. The same at a real door in real time: tests/e2e.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from tradegw_mock.binance.errors import BinanceError
from tradegw_mock.binance.limits import Limits, LimitSettings
from tradegw_mock.native.limits import WEIGHTS

from tests.integration.engine.bench import Bench, capabilities
from tradegw.errors import RateLimited
from tradegw.model import CommandKind, ExecutionReport, OrdStatus
from tradegw.testing import ScriptedExchange, ScriptedPlugin, ScriptedVenue
from tradegw.venue import (
    BudgetPool,
    BudgetScope,
    Capabilities,
    Feedback,
    FetchFills,
    FetchOpenOrders,
    FetchOrder,
    Operation,
    Page,
    Query,
    Venue,
    VenueRequest,
)

S = 1_000_000_000
_QUERY_WEIGHTS: dict[type[Any], int] = {
    FetchOrder: WEIGHTS["order"],
    FetchFills: WEIGHTS["fills"],
    FetchOpenOrders: 80,
}


def budgets(settings: LimitSettings) -> tuple[BudgetPool, ...]:
    """What Binance publishes, with what its operations weigh."""
    orders = {Operation.NEW: 1}
    return (
        BudgetPool(
            name="weight",
            scope=BudgetScope.IP,
            limit=settings.request_weight_per_minute,
            window_s=60.0,
            costs={Operation.ORDER: 4, Operation.FILLS: 20, Operation.OPEN_ORDERS: 80},
        ),
        BudgetPool(
            name="orders",
            scope=BudgetScope.ACCOUNT,
            limit=settings.orders_per_10_seconds,
            window_s=10.0,
            costs=orders,
            cost=0,
        ),
        BudgetPool(
            name="orders of a day",
            scope=BudgetScope.ACCOUNT,
            limit=settings.orders_per_day,
            window_s=86_400.0,
            costs=orders,
            cost=0,
        ),
    )


class LimitedVenue(ScriptedVenue):
    """Takes its time, and keeps Binance's limits when a request arrives."""

    def __init__(self, exchange: ScriptedExchange, can: Capabilities, world: World) -> None:
        super().__init__(exchange, capabilities=can)
        self._world = world

    async def execute(self, request: VenueRequest) -> Sequence[ExecutionReport]:
        await self._world.travel()
        is_new = request.payload.command is CommandKind.NEW  # type: ignore[attr-defined]
        self._world.charge(1, is_new=is_new)
        reports = await super().execute(request)
        await self._world.travel()
        return reports

    async def fetch(self, query: Query) -> Page[Any]:
        if self._world.is_saturating:
            await self._world.travel()
        self._world.charge(_QUERY_WEIGHTS.get(type(query), 1), is_new=False)
        return await super().fetch(query)


class World:
    """A limited venue, and what happened at it."""

    def __init__(self, bench: Bench, seed: int, settings: LimitSettings) -> None:
        self.bench = bench
        self.rng = random.Random(seed)
        self.settings = settings
        self.limits = Limits(settings)
        self.refused: list[str] = []
        self.orders: dict[int, int] = {}
        self.weights: dict[int, int] = {}
        self.is_saturating = False
        bench.exchange.clock_offset_s = self.rng.uniform(-0.5, 0.5)
        bench.accounts["paper"] = bench.plugin = ScriptedPlugin(
            bench.exchange,
            capabilities=capabilities(budgets=budgets(settings)),
            make_venue=self._make,
        )
        plan = bench.plan
        # Time is the clock's that is turned; the real one only ends a test that hangs.
        bench.plan = lambda name, **_: plan(name, execute_timeout_s=60.0, send_by_s=120.0)  # type: ignore[method-assign]

    def _make(self, exchange: ScriptedExchange, can: Capabilities) -> Venue:
        return LimitedVenue(exchange, can, self)

    async def travel(self) -> None:
        await self.bench.clock.sleep(self.rng.uniform(0.005, 0.15))

    def charge(self, weight: int, *, is_new: bool) -> None:
        now_ns = self.bench.exchange.time_ns()
        try:
            self.limits.charge("ip", weight, now_ns)
            if is_new:
                self.limits.check_orders("paper", now_ns)
                self.limits.ordered("paper", now_ns)
        except BinanceError as e:
            self.refused.append(f"{now_ns}: {e.msg}")
            raise RateLimited(e.msg, retry_after_s=e.retry_after_s) from e
        self.weights[now_ns // (60 * S)] = self.limits.used_weight("ip", now_ns)
        self.orders[now_ns // (10 * S)] = self.limits.order_counts("paper", now_ns)[0]
        if self.is_saturating and self.rng.random() < 0.5:
            # A header, which may be read late.
            used = {"weight": self.limits.used_weight("ip", now_ns)}
            used["orders"] = self.limits.order_counts("paper", now_ns)[0]
            self.bench.account().guard.on_feedback(Feedback(used=used))


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 20))]
)
@pytest.mark.parametrize(
    ("settings", "cancels_every", "seconds"),
    [
        pytest.param(LimitSettings(orders_per_10_seconds=50), 2, 45.0, id="orders are scarce"),
        pytest.param(
            LimitSettings(request_weight_per_minute=400, orders_per_10_seconds=1000),
            15,
            150.0,
            id="weight is scarce",
        ),
    ],
)
async def test_twenty_tasks_at_the_limit(
    settings: LimitSettings, cancels_every: int, seconds: float, seed: int
) -> None:
    bench = Bench("memory://")
    world = World(bench, seed, settings)
    clock = bench.clock
    waits_s: list[float] = []
    try:
        await bench.start()
        world.is_saturating = True
        end_ns = clock.time_ns() + int(seconds * S)

        async def trade(number: int) -> None:
            for count in range(10_000):
                if clock.time_ns() >= end_ns:
                    return
                order = await bench.place()
                assert order.ord_status is OrdStatus.NEW, (order.reason, order.in_doubt)
                if (count + number) % cancels_every == 0:
                    begin_ns = clock.time_ns()
                    closed = await bench.gateway.cancel_order(order.order_id)
                    waits_s.append((clock.time_ns() - begin_ns) / S)
                    assert closed.ord_status is OrdStatus.CANCELED

        tasks = [bench.later(trade(number)) for number in range(20)]
        await clock.until(
            lambda: clock.time_ns() >= end_ns or any(t.done() for t in tasks),
            step_s=0.03,
            patience_s=100.0,
        )
        for task in tasks:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.wait(tasks)
        assert not world.refused, world.refused[:3]
        counts, length_s, limit = (
            (world.orders, 10, settings.orders_per_10_seconds)
            if settings.orders_per_10_seconds < 100
            else (world.weights, 60, settings.request_weight_per_minute)
        )
        whole = sorted(counts)[1:-1]
        assert whole, f"no window of {length_s} s was seen from its beginning to its end"
        used = [counts[window] / limit for window in whole]
        assert min(used) >= 0.8, used
        waits_s.sort()
        assert len(waits_s) >= 10
        # Two ways of at most 150 ms, and the steps of the clock.
        assert waits_s[int(len(waits_s) * 0.99)] < 1.0, waits_s[-5:]
    finally:
        await bench.close()
