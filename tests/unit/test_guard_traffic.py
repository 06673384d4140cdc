"""Who may send now, and who goes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tradegw.engine.guard import FREE, Lane, Permit, Rank, Traffic
from tradegw.engine.guard import traffic as traffic_module
from tradegw.errors import Unavailable
from tradegw.testing import TurnedClock
from tradegw.venue import BudgetPool, BudgetScope, BudgetStrategy, Operation, SendOrder

NEW, CANCEL, ORDER = Operation.NEW, Operation.CANCEL, Operation.ORDER


class Bench:
    """One venue's traffic under a clock to turn."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.clock = TurnedClock()
        self.traffic = Traffic(self.clock, group.create_task)
        self.group = group
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[Permit]] = []

    def lane(
        self,
        account: str = "a",
        *budgets: BudgetPool,
        key: str | None = None,
        owner: str = "",
        send_order: SendOrder = SendOrder.CONCURRENT,
    ) -> Lane:
        lane = Lane(
            self.traffic,
            account=account,
            key_id=key or account,
            owner=owner,
            venue_time_ns=self.clock.time_ns,
        )
        lane.use(budgets, send_order)
        return lane

    async def wait(
        self, name: str, lane: Lane, operation: Operation, rank: Rank, *, symbol: str = "S"
    ) -> asyncio.Task[Permit]:
        """Queue somebody up, and note when their turn comes."""

        async def take() -> Permit:
            permit = await lane.take(operation, symbol, rank, within_s=60.0)
            self.order.append(name)
            return permit

        task = self.group.create_task(take())
        self.tasks.append(task)
        await self.rest()
        return task

    async def rest(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with asyncio.TaskGroup() as group:
        bench = Bench(group)
        yield bench
        bench.traffic.close()
        for task in bench.tasks:
            task.cancel()


def a_pool(
    limit: int, scope: BudgetScope = BudgetScope.IP, name: str = "p", **fields: Any
) -> BudgetPool:
    return BudgetPool(
        name=name,
        scope=scope,
        limit=limit,
        window_s=10.0,
        strategy=BudgetStrategy.SLIDING_WINDOW,
        **fields,
    )


def use_up(lane: Lane, operation: Operation = NEW, symbol: str = "S") -> list[Permit]:
    """Take all that is to be had; nothing of it is answered."""
    taken = []
    while (permit := lane.try_take(operation, symbol, Rank.ORDER)) is not None:
        permit.sending()
        taken.append(permit)
    return taken


async def test_where_nothing_is_counted_nothing_is_done(bench: Bench) -> None:
    lane = bench.lane()
    assert lane.try_take(NEW, "S", Rank.ORDER) is FREE
    assert not bench.traffic.is_waiting


async def test_cancels_go_first_then_questions_then_orders_in_turn(bench: Bench) -> None:
    lane = bench.lane("a", send_order=SendOrder.SERIAL_PER_KEY)
    (permit,) = use_up(lane)
    waiting = [
        await bench.wait("order 1", lane, NEW, Rank.ORDER),
        await bench.wait("order 2", lane, NEW, Rank.ORDER),
        await bench.wait("replace", lane, Operation.REPLACE, Rank.ORDER),
        await bench.wait("question", lane, ORDER, Rank.QUESTION),
        await bench.wait("cancel", lane, CANCEL, Rank.CANCEL),
    ]
    assert not bench.order, "one at a time"
    permit.close()
    while any(not task.done() for task in waiting):
        await bench.rest()
        next(t for t in waiting if t.done()).result().close()
        waiting = [t for t in waiting if not (t.done() and t.result()._lane is None)]
    assert bench.order == ["cancel", "question", "order 1", "order 2", "replace"]


async def test_whoever_comes_late_does_not_pass_those_who_wait(bench: Bench) -> None:
    lane = bench.lane("a", send_order=SendOrder.MAX_IN_FLIGHT(2))
    first, second = use_up(lane)
    waiting = await bench.wait("order", lane, NEW, Rank.ORDER)
    first.close()
    assert waiting.done() or bench.traffic.is_waiting is False
    assert lane.try_take(NEW, "S", Rank.ORDER) is None
    second.close()
    (await waiting).close()
    assert lane.try_take(NEW, "S", Rank.ORDER) is not None


@pytest.mark.parametrize(
    ("scope", "other", "is_shared"),
    [
        (BudgetScope.IP, {"account": "b"}, True),
        (BudgetScope.KEY, {"account": "b", "key": "k"}, True),
        (BudgetScope.KEY, {"account": "b", "key": "l"}, False),
        (BudgetScope.ACCOUNT, {"account": "b", "key": "k"}, False),
        (BudgetScope.OWNER, {"account": "b", "owner": "o"}, True),
        (BudgetScope.OWNER, {"account": "b", "owner": "p"}, False),
    ],
)
async def test_a_pool_is_shared_by_all_of_its_scope(
    bench: Bench, scope: BudgetScope, other: dict[str, Any], is_shared: bool
) -> None:
    pool = a_pool(6, scope)
    mine = bench.lane("a", pool, key="k", owner="o")
    theirs = bench.lane(other.pop("account"), pool, **other)
    assert len(use_up(mine)) == 5, "and one is kept for a cancel"
    assert len(use_up(theirs)) == (0 if is_shared else 5)


async def test_each_symbol_of_each_account_has_its_own(bench: Bench) -> None:
    pool = a_pool(6, BudgetScope.ACCOUNT_SYMBOL)
    lane, other = bench.lane("a", pool), bench.lane("b", pool)
    assert [len(use_up(lane, symbol=s)) for s in ("S", "T", "S")] == [5, 5, 0]
    assert len(use_up(other)) == 5


async def test_one_that_waits_for_another_pool_holds_up_nobody(bench: Bench) -> None:
    shared = a_pool(100, name="weight")
    own = a_pool(4, BudgetScope.ACCOUNT, name="orders")
    lane, other = bench.lane("a", shared, own), bench.lane("b", shared, own)
    use_up(lane)
    await bench.wait("stuck", lane, NEW, Rank.ORDER)
    task = await bench.wait("free", other, NEW, Rank.ORDER)
    assert bench.order == ["free"]
    task.result().close()
    bench.clock.turn(11)
    await bench.rest()
    assert bench.order == ["free"], "without an answer its units count on"


async def test_the_dear_are_not_starved_by_the_cheap(bench: Bench) -> None:
    pool = a_pool(10, costs={ORDER: 6, Operation.HISTORY: 1}, cost=0)
    lane = bench.lane("a", pool)
    taken = [lane.try_take(Operation.HISTORY, "S", Rank.QUESTION) for _ in range(8)]
    await bench.wait("dear", lane, ORDER, Rank.QUESTION)
    await bench.wait("cheap", lane, Operation.HISTORY, Rank.QUESTION)
    for permit in taken[:3]:
        assert permit is not None
        permit.close()  # Given back: it never left.
        await bench.rest()
    assert not bench.order, "two and three are free; the dear one needs six"
    permit = taken[3]
    assert permit is not None
    permit.close()
    await bench.rest()
    assert bench.order == ["dear"]


async def test_time_alone_lets_the_next_through(bench: Bench) -> None:
    lane = bench.lane("a", a_pool(3, costs={NEW: 1}, cost=0))
    for permit in use_up(lane):
        permit.close()
    await bench.wait("order", lane, NEW, Rank.ORDER)
    await bench.clock.until(lambda: bench.order, step_s=1.0)
    assert bench.clock.monotonic_ns() >= 10_000_000_000


async def test_a_wait_has_an_end(bench: Bench) -> None:
    lane = bench.lane("a", a_pool(3, costs={NEW: 1}, cost=0))
    use_up(lane)
    waiting = asyncio.create_task(lane.take(NEW, "S", Rank.ORDER, within_s=2.0))
    await bench.clock.until(waiting.done)
    error = waiting.exception()
    assert isinstance(error, Unavailable)
    assert error.reason == "BUDGET_EXHAUSTED"
    assert not bench.traffic.is_waiting


async def test_the_queue_of_orders_is_bounded_and_no_cancel_is_held_up_by_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic_module, "QUEUE_MAX", 2)
    lane = bench.lane("a", send_order=SendOrder.SERIAL_PER_KEY)
    (permit,) = use_up(lane)
    waiting = [await bench.wait(f"order {i}", lane, NEW, Rank.ORDER) for i in range(2)]
    with pytest.raises(Unavailable) as refused:
        await lane.take(NEW, "S", Rank.ORDER, within_s=9.0)
    assert refused.value.reason == "BUDGET_EXHAUSTED"
    cancel = await bench.wait("cancel", lane, CANCEL, Rank.CANCEL)
    permit.close()
    (await cancel).close()
    assert bench.order[0] == "cancel"
    for task in waiting:
        (await task).close()


@pytest.mark.parametrize("is_granted", [False, True], ids=["in the queue", "just granted"])
async def test_whoever_goes_away_leaves_its_place_to_the_next(
    bench: Bench, is_granted: bool
) -> None:
    lane = bench.lane("a", send_order=SendOrder.SERIAL_PER_KEY)
    (permit,) = use_up(lane)
    first = asyncio.create_task(lane.take(NEW, "S", Rank.ORDER, within_s=9.0))
    await bench.rest()
    second = await bench.wait("second", lane, NEW, Rank.ORDER)
    if is_granted:
        permit.close()
        first.cancel()
    else:
        first.cancel()
        await bench.rest()
        permit.close()
    await bench.rest()
    assert first.cancelled()
    (await second).close()
    assert not bench.traffic.is_waiting


async def test_the_price_that_a_request_says_takes_the_place_of_the_declared_one(
    bench: Bench,
) -> None:
    lane = bench.lane("a", a_pool(10, costs={CANCEL: 8}, cost=0))
    permit = lane.try_take(CANCEL, "S", Rank.CANCEL)
    assert permit is not None
    assert lane.try_take(CANCEL, "S", Rank.CANCEL) is None
    permit.charge({"p": 1, "no pool of ours": 5})
    assert lane.try_take(CANCEL, "S", Rank.CANCEL) is not None
    (pool,) = lane.pools()
    permit.close()
    assert pool.used(bench.clock.time_ns()) == 8, "nothing of the first was sent"


async def test_questions_that_no_key_signs_take_no_place(bench: Bench) -> None:
    lane = bench.lane("a", send_order=SendOrder.SERIAL_PER_KEY)
    use_up(lane)
    assert lane.try_take(Operation.SERVER_TIME, None, Rank.QUESTION) is not None
    assert lane.try_take(ORDER, "S", Rank.QUESTION) is None


async def test_accounts_of_one_key_send_one_at_a_time(bench: Bench) -> None:
    serial = SendOrder.SERIAL_PER_KEY
    one = bench.lane("a", key="k", send_order=serial)
    same = bench.lane("b", key="k", send_order=serial)
    other = bench.lane("c", key="l", send_order=serial)
    use_up(one)
    assert same.try_take(NEW, "S", Rank.ORDER) is None
    assert other.try_take(NEW, "S", Rank.ORDER) is not None
