"""Hands committed events to streams.

A reader has a position and asks for more. Recent events come from a bounded ring in memory, older ones from
the store; so memory is bounded however slow a reader is, and none is ever skipped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from tradegw.engine.crash import CrashPoint, reach
from tradegw.errors import InvalidOrder, UsageError
from tradegw.model import AccountName, Fill, OrderEvent
from tradegw.ports import EventFilter, Head, Store

__all__ = ["FillSlice", "Hub", "Slice"]

RING_MAX = 4096
BATCH_MAX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Some consecutive events of one account; none of them when the reader has caught up with all."""

    account: AccountName | None
    events: Sequence[OrderEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class FillSlice:
    """Fills of one account; with `account` None the reader has caught up with all.

    Attributes:
        positions: Numbers after which to go on, of the accounts that moved; events without fills count.
    """

    account: AccountName | None
    fills: Sequence[Fill]
    positions: Mapping[AccountName, int]


@dataclass(slots=True)
class _Ring:
    head: int = 0
    events: deque[OrderEvent] = field(default_factory=lambda: deque(maxlen=RING_MAX))


class Hub:
    """The live end of every account's stream."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rings: dict[AccountName, _Ring] = {}
        self._waiting: dict[asyncio.Future[None], Collection[AccountName]] = {}
        self._is_closed = False
        store.subscribe(self._publish)

    def add_account(self, account: AccountName) -> None:
        """Begin to serve an account; `advance` tells where its stream ends."""
        self._rings.setdefault(account, _Ring())

    def advance(self, account: AccountName, head: Head) -> None:
        """Take note of events that were stored without being announced: a commit whose answer was lost."""
        ring = self._rings[account]
        if head.seq > ring.head:
            # Whoever needs what lies between finds it in the store.
            ring.events.clear()
            ring.head = head.seq
            self._wake()

    def head(self, account: AccountName) -> int:
        """Return the number of the last committed event."""
        return self._rings[account].head

    def has_account(self, account: AccountName) -> bool:
        """Whether an account was ever added."""
        return account in self._rings

    @property
    def awaited(self) -> frozenset[AccountName]:
        """The accounts whose next event some reader waits for."""
        return frozenset(name for accounts in self._waiting.values() for name in accounts)

    def close(self) -> None:
        """End every stream, after what it has read."""
        self._is_closed = True
        self._wake()

    def _publish(self, events: Sequence[OrderEvent]) -> None:
        reach(CrashPoint.COMMITTED_UNPUBLISHED)
        for event in events:
            ring = self._rings.get(event.account)
            if ring is None:
                continue
            if event.seq <= ring.head:
                # `advance` was told of it first, by whoever looked into the store.
                continue
            if event.seq != ring.head + 1:
                ring.events.clear()
            ring.head = event.seq
            ring.events.append(event)
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    async def read(
        self, accounts: Sequence[AccountName], after: Mapping[AccountName, int]
    ) -> AsyncIterator[Slice]:
        """Yield slices from `after` on; an empty slice of no account marks the end of what is stored.

        The iterator ends when the gateway shuts down.

        Raises:
            InvalidOrder: A position lies beyond the end of its stream; reason `OUT_OF_RANGE`.
        """
        position = self._start(accounts, after)
        told_end = False
        while True:
            moved = False
            for account in accounts:
                try:
                    events = await self._next(account, position[account])
                except UsageError:
                    if self._is_closed:
                        # The store is closed as well. Whoever reads has a number to resume from.
                        return
                    raise
                if events:
                    moved, told_end = True, False
                    position[account] = events[-1].seq
                    yield Slice(account=account, events=events)
            if moved:
                continue
            if not told_end:
                told_end = True
                yield Slice(account=None, events=())
            elif not await self._more(position):
                return

    async def read_fills(
        self, accounts: Sequence[AccountName], after: Mapping[AccountName, int]
    ) -> AsyncIterator[FillSlice]:
        """Yield fills in the same way. Old ones are read by index, without decoding events."""
        position = self._start(accounts, after)
        told_end = False
        while True:
            moved = False
            for account in accounts:
                try:
                    part = await self._next_fills(account, position[account])
                except UsageError:
                    if self._is_closed:
                        return
                    raise
                if part.positions[account] == position[account]:
                    continue
                moved = True
                position.update(part.positions)
                if part.fills:
                    told_end = False
                    yield part
            if moved:
                continue
            if not told_end:
                told_end = True
                yield FillSlice(account=None, fills=(), positions=dict(position))
            elif not await self._more(position):
                return

    def _start(
        self, accounts: Sequence[AccountName], after: Mapping[AccountName, int]
    ) -> dict[AccountName, int]:
        position = {account: after.get(account, 0) for account in accounts}
        for account, seq in position.items():
            head = self._rings[account].head
            if not 0 <= seq <= head:
                raise InvalidOrder(
                    f"the stream of {account} ends at {head}; cannot resume after {seq}",
                    reason="OUT_OF_RANGE",
                )
        return position

    async def _more(self, position: Mapping[AccountName, int]) -> bool:
        """Wait for more than `position`; False when there will be none."""
        while True:
            # The reader was away in between: look before waiting.
            if any(self._rings[account].head > seq for account, seq in position.items()):
                return True
            if self._is_closed:
                return False
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[waiting] = position.keys()
            try:
                await waiting
            finally:
                self._waiting.pop(waiting, None)

    async def _next(self, account: AccountName, after: int) -> Sequence[OrderEvent]:
        ring = self._rings[account]
        if after >= ring.head:
            return ()
        first = ring.head - len(ring.events) + 1
        if after + 1 < first:
            return await self._store.list_events(
                EventFilter(account=account, after_seq=after), limit=BATCH_MAX
            )
        skip = after + 1 - first
        wanted = min(len(ring.events) - skip, BATCH_MAX)
        # Not by index: a deque finds the middle by walking there, each time.
        return list(islice(ring.events, skip, skip + wanted))

    async def _next_fills(self, account: AccountName, after: int) -> FillSlice:
        ring = self._rings[account]
        head = ring.head
        if after >= head or after + 1 >= head - len(ring.events) + 1:
            events = await self._next(account, after)
            fills = [e.fill for e in events if e.fill is not None]
            position = events[-1].seq if events else after
            return FillSlice(account=account, fills=fills, positions={account: position})
        stored = await self._store.list_stream_fills(account, after_seq=after, limit=BATCH_MAX)
        # Fewer than asked for: all fills up to the head, as it was before reading, are among them.
        is_all = len(stored) < BATCH_MAX
        position = max(head, stored[-1].seq if stored else 0) if is_all else stored[-1].seq
        return FillSlice(account=account, fills=stored, positions={account: position})
