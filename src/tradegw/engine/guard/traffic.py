"""Who may send now: the budgets and places of one venue, and the queues before them.

Decided without awaiting; whoever cannot be let through at once waits on a `Ticket`. Cancels go first, then
questions about orders, then new orders, each in the order of arrival. One that waits keeps what it needs
from those behind it, and holds up nobody who needs something else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from enum import IntEnum
from itertools import count
from typing import Any, Final

from tradegw.engine.guard.pools import NEVER_NS, Pool, make_pool
from tradegw.errors import Unavailable
from tradegw.ports import Clock
from tradegw.venue import BudgetPool, BudgetScope, Operation, SendOrder

__all__ = ["FREE", "QUEUE_MAX", "Lane", "Permit", "Rank", "Traffic"]

_NS_PER_S: Final = 1_000_000_000
_WIDE: Final = {BudgetScope.IP, BudgetScope.KEY, BudgetScope.OWNER}
"""Budgets that accounts of several gateways may draw on."""

QUEUE_MAX: Final = 1000
"""Orders of one account that wait for the budget. Cancels and questions are bounded by what is open."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Rank(IntEnum):
    """Who goes first."""

    CANCEL = 0
    QUESTION = 1
    ORDER = 2


class _Places:
    """How many requests of one key are on their way, of those that may be."""

    __slots__ = ("limit", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0


class Permit:
    """The right to send one request. What it has drawn is given back unless something was sent."""

    __slots__ = ("_charges", "_is_sent", "_lane", "_places")

    def __init__(
        self, lane: Lane, charges: Sequence[tuple[Pool, int]], places: _Places | None
    ) -> None:
        self._lane: Lane | None = lane
        self._charges = charges
        self._places = places
        self._is_sent = False

    def charge(self, cost: Mapping[str, int]) -> None:
        """Draw what the request costs by its own word instead, from the pools that it names."""
        if not cost or self._lane is None:
            return
        charges = list(self._charges)
        for i, (pool, drawn) in enumerate(charges):
            units = cost.get(pool.about.name, drawn)
            if units != drawn:
                pool.give_back(drawn)
                pool.take(units)
                charges[i] = (pool, units)
        self._charges = charges

    def sending(self) -> None:
        """Say that it is about to leave: from here on the venue may count it."""
        self._is_sent = True

    def not_sent(self) -> None:
        """Say that it never left after all."""
        self._is_sent = False

    def close(self) -> None:
        """Give the place back, and what was drawn if nothing left. Safe to call twice."""
        lane, self._lane = self._lane, None
        if lane is None:
            return
        now_ns = lane.venue_time_ns()
        for pool, cost in self._charges:
            if self._is_sent:
                pool.answered(cost, now_ns)
            else:
                pool.give_back(cost)
        if self._places is not None:
            self._places.taken -= 1
        lane.traffic.pump()


class _Free(Permit):
    """The permit where nothing is counted."""

    def __init__(self) -> None:
        pass

    def charge(self, cost: Mapping[str, int]) -> None:
        """Draw nothing."""

    def sending(self) -> None:
        """Count nothing."""

    def not_sent(self) -> None:
        """Count nothing."""

    def close(self) -> None:
        """Give nothing back."""


FREE: Final[Permit] = _Free()


class _Ticket:
    __slots__ = ("charges", "deadline_ns", "future", "lane", "number", "places", "rank")

    def __init__(
        self,
        lane: Lane,
        rank: Rank,
        number: int,
        charges: Sequence[tuple[Pool, int]],
        places: _Places | None,
        deadline_ns: int,
    ) -> None:
        self.lane = lane
        self.rank = rank
        self.number = number
        self.charges = charges
        self.places = places
        self.deadline_ns = deadline_ns
        self.future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()


class Lane:
    """One account's way to its venue.

    Args:
        key_id: Names its credentials; accounts with the same share places and `KEY` pools.
        owner: Names who it belongs to, for `OWNER` pools.
        venue_time_ns: Returns the venue's time as far as we know it.
    """

    def __init__(
        self,
        traffic: Traffic,
        *,
        account: str,
        key_id: str,
        owner: str,
        venue_time_ns: Callable[[], int],
    ) -> None:
        self.traffic = traffic
        self.venue_time_ns = venue_time_ns
        self._names = {
            BudgetScope.IP: "",
            BudgetScope.KEY: key_id,
            BudgetScope.ACCOUNT: account,
            BudgetScope.OWNER: owner,
        }
        self._account = account
        self._key_id = key_id
        self._budgets: tuple[BudgetPool, ...] = ()
        self._places: _Places | None = None
        self._needs: dict[tuple[Operation, str | None], list[tuple[Pool, int]]] = {}
        self.is_free = True

    def use(self, budgets: tuple[BudgetPool, ...], send_order: SendOrder) -> None:
        """Begin to count as the venue says that it does. What is used already stays so."""
        self._budgets = budgets
        self._places = self.traffic.places(self._key_id, send_order)
        self._needs.clear()
        self.is_free = not budgets and self._places is None

    def try_take(self, operation: Operation, symbol: str | None, rank: Rank) -> Permit | None:
        """Return a permit if one is to be had at once, and nobody waits for what it needs."""
        if self.is_free:
            return FREE
        if self.traffic.is_waiting:
            return None
        charges, places = self._need(operation, symbol)
        now_ns = self.venue_time_ns()
        if wait_ns(charges, places, rank, now_ns, _NOTHING):
            return None
        return _grant(self, charges, places)

    async def take(
        self, operation: Operation, symbol: str | None, rank: Rank, *, within_s: float
    ) -> Permit:
        """Wait for a permit.

        Raises:
            Unavailable: Too many wait, or none was to be had in time; reason `BUDGET_EXHAUSTED`.

        Cancellation: leaves the queue.
        """
        charges, places = self._need(operation, symbol)
        return await self.traffic.wait(self, operation, symbol, rank, charges, places, within_s)

    def pools(self, symbol: str | None = None) -> Iterator[Pool]:
        """Yield the pools that the account draws on; with a symbol, that symbol's as well."""
        for about in self._budgets:
            if about.scope is BudgetScope.ACCOUNT_SYMBOL:
                if symbol is not None:
                    yield self._pool(about, symbol)
            else:
                yield self._pool(about, None)

    def _need(
        self, operation: Operation, symbol: str | None
    ) -> tuple[list[tuple[Pool, int]], _Places | None]:
        known = self._needs.get((operation, symbol))
        if known is None:
            known = self._needs[operation, symbol] = [
                (self._pool(about, symbol), cost)
                for about in self._budgets
                if (cost := about.cost_of(operation))
                and (symbol is not None or about.scope is not BudgetScope.ACCOUNT_SYMBOL)
            ]
        return known, None if operation.is_public else self._places

    def _pool(self, about: BudgetPool, symbol: str | None) -> Pool:
        if about.scope is BudgetScope.ACCOUNT_SYMBOL:
            return self.traffic.pool(about, f"{self._account}\0{symbol}")
        return self.traffic.pool(about, self._names[about.scope])


class Traffic:
    """All that the accounts of one venue share.

    Args:
        spawn: Starts a task that its owner keeps.
    """

    def __init__(self, clock: Clock, spawn: Spawn) -> None:
        self._clock = clock
        self._spawn = spawn
        self._pools: dict[tuple[str, str, str], Pool] = {}
        self._sharers = 1
        self._places: dict[str, _Places] = {}
        self._queues: dict[tuple[Rank, Lane, Operation, str | None], deque[_Ticket]] = {}
        self._numbers = count()
        self._timers: dict[int, asyncio.Task[None]] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether anybody waits."""
        return bool(self._queues)

    def waiting(self, lane: Lane, rank: Rank) -> int:
        """Return how many of an account wait."""
        return sum(len(q) for key, q in self._queues.items() if key[0] is rank and key[1] is lane)

    def all_pools(self) -> Iterator[tuple[Pool, str]]:
        """Yield every pool, with the names of those who share it; empty: all accounts of the venue."""
        for (_, _, shared_by), pool in self._pools.items():
            yield pool, shared_by.replace("\0", " ")

    def pool(self, about: BudgetPool, shared_by: str) -> Pool:
        """Return the pool that all of one scope share."""
        key = (about.name, about.scope, shared_by)
        pool = self._pools.get(key)
        if pool is None or pool.about != about:
            pool = self._pools[key] = make_pool(about)
            if about.scope in _WIDE:
                pool.divide(self._sharers)
        return pool

    def divide(self, sharers: int) -> None:
        """Take no more than our part of what is wider than an account: so many gateways draw on it."""
        if sharers == self._sharers:
            return
        self._sharers = sharers
        for pool in self._pools.values():
            if pool.about.scope in _WIDE:
                pool.divide(sharers)
        self.pump()

    def places(self, key_id: str, send_order: SendOrder) -> _Places | None:
        """Return the places of one key; None when there are as many as one likes."""
        if send_order.in_flight_max is None:
            return None
        places = self._places.setdefault(key_id, _Places(send_order.in_flight_max))
        places.limit = send_order.in_flight_max
        return places

    async def wait(
        self,
        lane: Lane,
        operation: Operation,
        symbol: str | None,
        rank: Rank,
        charges: Sequence[tuple[Pool, int]],
        places: _Places | None,
        within_s: float,
    ) -> Permit:
        """Queue for a permit; see `Lane.take`."""
        if rank is Rank.ORDER and self.waiting(lane, rank) >= QUEUE_MAX:
            raise Unavailable(
                f"{QUEUE_MAX} orders wait for the venue's rate budget", reason="BUDGET_EXHAUSTED"
            )
        deadline_ns = self._clock.monotonic_ns() + int(within_s * _NS_PER_S)
        ticket = _Ticket(lane, rank, next(self._numbers), charges, places, deadline_ns)
        self._queues.setdefault((rank, lane, operation, symbol), deque()).append(ticket)
        self.pump()
        try:
            return await ticket.future
        except asyncio.CancelledError:
            if ticket.future.done() and not ticket.future.cancelled():
                # Granted, and nobody takes it.
                ticket.future.result().close()
            else:
                ticket.future.cancel()
                self.pump()
            raise

    def pump(self) -> None:
        """Let through whoever can go, in order; have somebody look again when the next one can."""
        if not self._queues:
            return
        mono_ns = self._clock.monotonic_ns()
        due_ns = NEVER_NS
        kept: dict[object, int] = {}
        for key, queue in sorted(self._queues.items(), key=_by_turn):
            due_ns = min(due_ns, self._drain(queue, mono_ns, kept))
            if not queue:
                del self._queues[key]
        if due_ns < NEVER_NS:
            self._look_again_at(due_ns)

    def _drain(self, queue: deque[_Ticket], mono_ns: int, kept: dict[object, int]) -> int:
        """Let through from the front of one queue; return when to look again."""
        while queue:
            ticket = queue[0]
            if ticket.future.done():
                queue.popleft()
                continue
            now_ns = ticket.lane.venue_time_ns()
            wait = wait_ns(ticket.charges, ticket.places, ticket.rank, now_ns, kept)
            if not wait:
                queue.popleft()
                ticket.future.set_result(_grant(ticket.lane, ticket.charges, ticket.places))
                continue
            if ticket.deadline_ns <= mono_ns:
                queue.popleft()
                ticket.future.set_exception(
                    Unavailable(
                        "the venue's rate budget leaves no room for it in time",
                        reason="BUDGET_EXHAUSTED",
                    )
                )
                continue
            for pool, cost in ticket.charges:
                kept[pool] = kept.get(pool, 0) + cost
            if ticket.places is not None:
                kept[ticket.places] = kept.get(ticket.places, 0) + 1
            return min(mono_ns + wait, ticket.deadline_ns)
        return NEVER_NS

    def _look_again_at(self, due_ns: int) -> None:
        if any(at_ns <= due_ns for at_ns in self._timers):
            return
        self._timers[due_ns] = self._spawn(self._look_again(due_ns))

    async def _look_again(self, due_ns: int) -> None:
        try:
            wait_s = (due_ns - self._clock.monotonic_ns()) / _NS_PER_S
            # A hair more: a clock of floats may wake a moment early.
            await self._clock.sleep(max(0.0, wait_s) + 0.0005)
        finally:
            self._timers.pop(due_ns, None)
        self.pump()

    def close(self) -> None:
        """End what looks after the queues. Whoever waits is somebody's task, and ends with it."""
        for timer in tuple(self._timers.values()):
            timer.cancel()


_NOTHING: Final[Mapping[object, int]] = {}


def wait_ns(
    charges: Sequence[tuple[Pool, int]],
    places: _Places | None,
    rank: Rank,
    now_ns: int,
    kept: Mapping[object, int],
) -> int:
    """Return how long a request must wait; 0 means that it may go.

    Args:
        kept: What those before it wait for.
    """
    if places is not None and places.taken + kept.get(places, 0) >= places.limit:
        return NEVER_NS
    longest = 0
    for pool, cost in charges:
        # Of what is kept for cancels, questions may have a half: they are many when all is in doubt.
        share = (0, pool.kept // 2, pool.kept)[rank]
        wait = pool.wait_ns(cost, now_ns, kept=share + kept.get(pool, 0))
        longest = max(longest, wait)
    return longest


def _grant(lane: Lane, charges: Sequence[tuple[Pool, int]], places: _Places | None) -> Permit:
    for pool, cost in charges:
        pool.take(cost)
    if places is not None:
        places.taken += 1
    return Permit(lane, charges, places)


def _by_turn(item: tuple[tuple[Rank, Lane, Operation, str | None], deque[_Ticket]]) -> Any:
    (rank, *_), queue = item
    return rank, queue[0].number if queue else 0
