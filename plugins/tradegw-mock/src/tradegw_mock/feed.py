"""The recent events of one account, for whoever follows them. Memory is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from tradegw_mock.exchange import Event

__all__ = ["Feed", "FeedGap"]

TAKE_MAX = 256


class FeedGap(Exception):
    """The follower fell behind what is kept, or the exchange began anew: events are missing."""


class Feed:
    """Events of one account by their numbers, which rise by one.

    Args:
        last_seq: Number of the latest event that is not here.
        keep: Events kept at least, once there were so many; at most twice as many are.
    """

    def __init__(self, last_seq: int, *, keep: int) -> None:
        self._base = last_seq
        self._keep = keep
        self._events: list[Event] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._ended: str | None = None

    @property
    def last_seq(self) -> int:
        """Number of the latest event."""
        return self._base + len(self._events)

    def covers(self, after: int) -> bool:
        """Whether everything after that number is here."""
        return self._base <= after <= self.last_seq

    def publish(self, event: Event) -> None:
        """Add an event and wake whoever follows.

        Raises:
            ValueError: It is not the next one.
        """
        if event.seq != self.last_seq + 1:
            raise ValueError(f"expected event {self.last_seq + 1}, found {event.seq}")
        self._events.append(event)
        if len(self._events) >= 2 * self._keep:
            del self._events[: self._keep]
            self._base += self._keep
        self._wake()

    def end(self, why: str) -> None:
        """End it: whoever follows learns why, and that there is a gap."""
        self._ended = why
        self._wake()

    async def follow(self, after: int) -> AsyncGenerator[list[Event]]:
        """Yield events after a number, without end, as many at a time as there are, up to a bound.

        None at all are yielded when someone calls `poke`.

        Raises:
            FeedGap: Events after the last that was yielded are gone.
        """
        while True:
            if self._ended is not None:
                raise FeedGap(self._ended)
            if not self.covers(after):
                raise FeedGap(
                    f"too slow: events after {after} are gone, the oldest kept is {self._base + 1}"
                )
            begin = after - self._base
            events = self._events[begin : begin + TAKE_MAX]
            if events:
                after = events[-1].seq
                yield events
            else:
                waiter = asyncio.get_running_loop().create_future()
                self._waiting.append(waiter)
                try:
                    await waiter
                finally:
                    if waiter in self._waiting:
                        self._waiting.remove(waiter)
                if self._ended is None and after == self.last_seq:
                    yield []

    def poke(self) -> None:
        """Wake whoever follows, though nothing happened."""
        self._wake()

    def _wake(self) -> None:
        if self._waiting:
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiting.clear()
