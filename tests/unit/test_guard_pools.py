"""Rate budgets against venues that count for themselves: never over, never idle for long."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from tradegw.engine.guard.pools import NEVER_NS, Pool, make_pool
from tradegw.venue import BudgetPool, BudgetScope, BudgetStrategy, Operation

S = 1_000_000_000
MS = 1_000_000


def a_pool(strategy: BudgetStrategy, *, limit: int = 10, window_s: float = 10.0) -> Pool:
    about = BudgetPool(
        name="p", scope=BudgetScope.IP, limit=limit, window_s=window_s, strategy=strategy, cost=1
    )
    return make_pool(about)


# --- the venue's own count, as its documentation tells it ----------------------------------------


class FixedCount:
    def __init__(self, limit: int, window_ns: int) -> None:
        self.limit, self.window_ns = limit, window_ns
        self.counts: dict[int, int] = {}

    def arrive(self, cost: int, now_ns: int) -> bool:
        window = now_ns // self.window_ns
        self.counts[window] = self.counts.get(window, 0) + cost
        return self.counts[window] <= self.limit


class SlidingCount:
    def __init__(self, limit: int, window_ns: int) -> None:
        self.limit, self.window_ns = limit, window_ns
        self.seen: deque[tuple[int, int]] = deque()

    def arrive(self, cost: int, now_ns: int) -> bool:
        while self.seen and self.seen[0][0] <= now_ns - self.window_ns:
            self.seen.popleft()
        self.seen.append((now_ns, cost))
        return sum(units for _, units in self.seen) <= self.limit


class BucketCount:
    def __init__(self, limit: int, window_ns: int) -> None:
        self.limit, self.window_ns = limit, window_ns
        self.level, self.at_ns = 0.0, 0

    def arrive(self, cost: int, now_ns: int) -> bool:
        fallen = (now_ns - self.at_ns) * self.limit / self.window_ns
        self.level, self.at_ns = max(0.0, self.level - fallen) + cost, now_ns
        return self.level <= self.limit + 1e-6


class CounterCount:
    """Falls by one at moments that only the venue knows."""

    def __init__(self, limit: int, window_ns: int) -> None:
        self.limit, self.step_ns = limit, window_ns // limit
        self.level, self.steps = 0, 0

    def arrive(self, cost: int, now_ns: int) -> bool:
        steps = (now_ns + 77 * MS) // self.step_ns
        self.level = max(0, self.level - (steps - self.steps)) + cost
        self.steps = steps
        return self.level <= self.limit


VENUES: dict[BudgetStrategy, Callable[[int, int], Any]] = {
    BudgetStrategy.FIXED_WINDOW: FixedCount,
    BudgetStrategy.SLIDING_WINDOW: SlidingCount,
    BudgetStrategy.TOKEN_BUCKET: BucketCount,
    BudgetStrategy.DECAY_COUNTER: CounterCount,
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strategy", list(BudgetStrategy))
@pytest.mark.parametrize("costs", [(1,), (1, 2, 5)], ids=["alike", "mixed"])
def test_a_saturated_budget_is_used_and_never_overrun(
    strategy: BudgetStrategy, costs: tuple[int, ...], seed: int
) -> None:
    """Requests and answers take up to 200 ms each, in any order; the clocks are 40 ms apart."""
    rng = random.Random(seed)
    limit, window_ns = 40, 10 * S
    pool = a_pool(strategy, limit=limit, window_s=10.0)
    venue = VENUES[strategy](limit, window_ns)
    skew_ns = rng.randrange(-40 * MS, 40 * MS)
    now_ns = 1_750_000_000 * S + rng.randrange(window_ns)
    begin_ns, end_ns = now_ns, now_ns + 60 * S
    on_the_way: list[tuple[int, int, int]] = []  # arrives, is answered, costs
    inbox: list[tuple[int, int]] = []
    arrived = 0
    while now_ns < end_ns:
        cost = rng.choice(costs)
        while (wait := pool.wait_ns(cost, now_ns)) or len(on_the_way) >= 20:
            # Time goes on to the next answer, or to when there is room.
            answer_ns = min((answered for _, answered, _ in on_the_way), default=NEVER_NS)
            now_ns = max(now_ns, min(answer_ns, now_ns + (wait or NEVER_NS)))
            for request in sorted(on_the_way):
                if request[1] <= now_ns:
                    on_the_way.remove(request)
                    pool.answered(request[2], now_ns)
        pool.take(cost)
        arrives_ns = now_ns + rng.randrange(1, 200) * MS
        on_the_way.append((arrives_ns, arrives_ns + rng.randrange(1, 200) * MS, cost))
        inbox.append((arrives_ns + skew_ns, cost))
        arrived += cost
    refused = [at for at, units in sorted(inbox) if not venue.arrive(units, at)]
    assert not refused, f"{len(refused)} of {len(inbox)} came too early"
    could_be = limit * (end_ns - begin_ns) / window_ns
    assert arrived >= 0.8 * could_be, f"{arrived} of {could_be}"


# --- single cases --------------------------------------------------------------------------------


def test_a_fixed_window_ends_with_the_venues_and_not_after_its_length() -> None:
    pool = a_pool(BudgetStrategy.FIXED_WINDOW)
    now_ns = 19 * S
    pool.take(10)
    pool.answered(10, now_ns)
    assert pool.wait_ns(1, now_ns) == S + pool.margin_ns
    assert pool.wait_ns(1, 20 * S + pool.margin_ns) == 0


def test_what_is_answered_around_the_end_of_a_window_counts_in_both() -> None:
    pool = a_pool(BudgetStrategy.FIXED_WINDOW)
    pool.take(4)
    pool.answered(4, 20 * S - pool.margin_ns // 2)
    assert pool.used(20 * S + pool.margin_ns) == 4
    pool.take(3)
    assert pool.used(30 * S + pool.margin_ns) == 3, "what is on its way counts on"


@pytest.mark.parametrize("strategy", list(BudgetStrategy))
def test_what_never_left_is_given_back(strategy: BudgetStrategy) -> None:
    pool = a_pool(strategy)
    pool.take(10)
    assert pool.wait_ns(1, 5 * S) == NEVER_NS, "only an answer can tell"
    pool.give_back(10)
    assert pool.used(5 * S) == 0
    assert pool.wait_ns(10, 5 * S) == 0


@pytest.mark.parametrize("strategy", list(BudgetStrategy))
def test_the_venues_higher_count_is_believed_at_once(strategy: BudgetStrategy) -> None:
    pool = a_pool(strategy)
    pool.take(1)
    pool.correct(9, 5 * S)
    assert pool.used(5 * S) >= 9
    assert pool.wait_ns(2, 5 * S)


@pytest.mark.parametrize("strategy", list(BudgetStrategy))
def test_the_venues_lower_count_is_believed_when_nothing_can_have_overtaken_it(
    strategy: BudgetStrategy,
) -> None:
    pool = a_pool(strategy)
    for _ in range(8):
        pool.take(1)
    for _ in range(6):
        pool.answered(1, 5 * S)
    pool.correct(2, 5 * S)
    assert pool.used(5 * S) >= 8, "another request is on its way"
    pool.answered(1, 5 * S)
    pool.correct(2, 5 * S)
    assert pool.used(5 * S) <= 3


def test_a_count_of_the_window_before_does_not_spoil_the_next() -> None:
    pool = a_pool(BudgetStrategy.FIXED_WINDOW)
    pool.take(1)
    pool.correct(10, 20 * S + 200 * MS)
    assert pool.wait_ns(9, 20 * S + 200 * MS) == 0


@pytest.mark.parametrize("strategy", list(BudgetStrategy))
def test_a_blocked_pool_gives_nothing_until_its_time(strategy: BudgetStrategy) -> None:
    pool = a_pool(strategy)
    pool.block(7 * S)
    assert pool.wait_ns(1, 5 * S) == 2 * S
    assert pool.wait_ns(1, 7 * S) == 0


@pytest.mark.parametrize("strategy", list(BudgetStrategy))
def test_what_costs_more_than_there_is_may_go_when_nothing_else_is_used(
    strategy: BudgetStrategy,
) -> None:
    pool = a_pool(strategy)
    assert pool.wait_ns(99, 5 * S) == 0
    pool.take(1)
    pool.answered(1, 5 * S)
    assert pool.wait_ns(99, 5 * S) > 0


def test_a_counter_falls_while_nobody_asks() -> None:
    pool = a_pool(BudgetStrategy.DECAY_COUNTER)
    pool.take(10)
    pool.answered(10, 5 * S)
    assert 0 < pool.wait_ns(1, 5 * S) <= 2 * S
    assert pool.used(100 * S) == 0


def test_new_orders_leave_room_for_cancels_where_cancels_cost() -> None:
    about = BudgetPool(
        name="weight",
        scope=BudgetScope.IP,
        limit=100,
        window_s=60.0,
        costs={Operation.CANCEL: 1, Operation.NEW: 1},
    )
    pool = make_pool(about)
    assert pool.kept == 10
    pool.take(90)
    assert pool.wait_ns(1, 5 * S, kept=pool.kept)
    assert pool.wait_ns(1, 5 * S) == 0
    free = make_pool(BudgetPool(name="o", scope=BudgetScope.IP, limit=9, window_s=1.0, cost=0))
    assert free.kept == 0


def test_a_pool_must_allow_something() -> None:
    with pytest.raises(ValueError, match="above zero"):
        BudgetPool(name="p", scope=BudgetScope.IP, limit=0, window_s=1.0)
