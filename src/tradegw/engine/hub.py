"""Hands committed events to streams.

A reader has a position and asks for more. Recent events come from a bounded ring in memory, older ones from
the store; so memory is bounded however slow a reader is, and none is ever skipped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from tradegw.errors import InvalidOrder
from tradegw.model import AccountName, OrderEvent
from tradegw.ports import EventFilter, Head, Store

__all__ = ["Hub", "Slice"]

RING_MAX = 4096
BATCH_MAX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Some consecutive events of one account; none of them when the reader has caught up with all."""

    account: AccountName | None
    events: Sequence[OrderEvent]


@dataclass(slots=True)
class _Ring:
    head: int = 0
    events: deque[OrderEvent] = field(default_factory=lambda: deque(maxlen=RING_MAX))


class Hub:
    """The live end of every account's stream."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rings: dict[AccountName, _Ring] = {}
        self._waiting: set[asyncio.Future[None]] = set()
        self._closed = False
        store.subscribe(self._publish)

    def add_account(self, account: AccountName, head: Head) -> None:
        """Begin to serve an account whose stream ends at `head`."""
        self._rings[account] = _Ring(head=head.seq)

    def head(self, account: AccountName) -> int:
        """Return the number of the last committed event."""
        return self._rings[account].head

    def close(self) -> None:
        """End every stream, after what it has read."""
        self._closed = True
        self._wake()

    def _publish(self, events: Sequence[OrderEvent]) -> None:
        for event in events:
            ring = self._rings.get(event.account)
            if ring is None:
                continue
            assert event.seq == ring.head + 1, f"{event.account}: {event.seq} after {ring.head}"
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

        A position of -1 begins at the end. The iterator ends when the gateway shuts down.

        Raises:
            InvalidOrder: A position lies beyond the end of its stream; reason `OUT_OF_RANGE`.
        """
        position = {account: after.get(account, 0) for account in accounts}
        for account in accounts:
            head = self._rings[account].head
            if position[account] == -1:
                position[account] = head
            if not 0 <= position[account] <= head:
                raise InvalidOrder(
                    f"the stream of {account} ends at {head}; cannot resume after {position[account]}",
                    reason="OUT_OF_RANGE",
                )
        told_end = False
        while True:
            moved = False
            for account in accounts:
                events = await self._next(account, position[account])
                if events:
                    moved, told_end = True, False
                    position[account] = events[-1].seq
                    yield Slice(account=account, events=events)
            if moved:
                continue
            if not told_end:
                told_end = True
                yield Slice(account=None, events=())
                # The reader was away: look again before waiting.
                continue
            if self._closed:
                return
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)

    async def _next(self, account: AccountName, after: int) -> Sequence[OrderEvent]:
        ring = self._rings[account]
        if after >= ring.head:
            return ()
        first = ring.head - len(ring.events) + 1
        if after + 1 >= first:
            skip = after + 1 - first
            # Slicing a deque means walking it; the live end is near its tail.
            wanted = min(len(ring.events) - skip, BATCH_MAX)
            return [ring.events[i] for i in range(skip, skip + wanted)]
        return await self._store.list_events(
            EventFilter(account=account, after_seq=after), limit=BATCH_MAX
        )
