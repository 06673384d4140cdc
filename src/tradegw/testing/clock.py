"""A clock that stands still until a test turns it."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

__all__ = ["TurnedClock"]

NS_PER_S = 1_000_000_000


class TurnedClock:
    """A `ports.Clock` that tests turn: whoever sleeps by it wakes when it is turned so far.

    Args:
        busy: Whether somebody is at work whom `until` must not overtake, such as a store's thread: the clock
            stands meanwhile, so that no limit of time passes because a machine is slow.
    """

    def __init__(
        self,
        *,
        time_ns: int = 1_750_000_000 * NS_PER_S,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._busy = busy
        self._start_ns = time_ns
        self._now_ns = time_ns
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    def time_ns(self) -> int:
        """Return nanoseconds since the epoch, UTC."""
        return self._now_ns

    def monotonic_ns(self) -> int:
        """Return nanoseconds since the clock was made."""
        return self._now_ns - self._start_ns

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was turned by so much."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        due_ns = self._now_ns + int(seconds * NS_PER_S)
        heapq.heappush(self._sleepers, (due_ns, self._count, future))
        await future

    @property
    def sleepers(self) -> int:
        """How many sleep by this clock now."""
        return sum(1 for _, _, future in self._sleepers if not future.done())

    def turn(self, seconds: float) -> None:
        """Turn the clock, and wake in the order of their times those whose sleep ends within."""
        until_ns = self._now_ns + int(seconds * NS_PER_S)
        while self._sleepers and self._sleepers[0][0] <= until_ns:
            due_ns, _, future = heapq.heappop(self._sleepers)
            self._now_ns = max(self._now_ns, due_ns)
            if not future.done():
                future.set_result(None)
        self._now_ns = until_ns

    async def until(
        self, condition: Callable[[], object], *, step_s: float = 0.1, patience_s: float = 60.0
    ) -> None:
        """Turn the clock step by step until a condition holds.

        Between steps the event loop runs, so that whoever woke gets on; threads get a moment as well.

        Args:
            patience_s: Seconds of the real clock after which the test has failed.

        Raises:
            AssertionError: It did not come to hold.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + patience_s
        while True:
            for _ in range(_TURNS_OF_THE_LOOP):
                if condition():
                    return
                await asyncio.sleep(0)
            assert loop.time() < give_up_at, f"waited {patience_s} s in vain for {_name(condition)}"
            if not self._busy():
                self.turn(step_s)
            await asyncio.sleep(_MOMENT_S)


_TURNS_OF_THE_LOOP = 10
_MOMENT_S = 0.0005
"""Real time for threads (a store's writer) between two steps."""


def _name(condition: Callable[[], object]) -> str:
    code = getattr(condition, "__code__", None)
    return repr(condition) if code is None else f"{code.co_filename}:{code.co_firstlineno}"
