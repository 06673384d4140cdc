"""A clock that moves only when it is told to."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["VIRTUAL_START_NS", "VirtualClock"]

VIRTUAL_START_NS: Final = 1_735_689_600_000_000_000
"""Where a virtual clock begins: 2025-01-01T00:00:00Z."""


class VirtualClock:
    """Time that stands still until it is moved, and wakes who sleeps by it."""

    def __init__(self, start_ns: int = VIRTUAL_START_NS) -> None:
        self._now_ns = start_ns
        self._sleepers: dict[asyncio.Future[None], int] = {}

    def time_ns(self) -> int:
        """Return what it shows."""
        return self._now_ns

    async def sleep(self, seconds: float) -> None:
        """Wait until it has moved so far."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers[waiter] = self._now_ns + round(seconds * 1e9)
        try:
            self._wake()
            await waiter
        finally:
            self._sleepers.pop(waiter, None)

    def move_to(self, time_ns: int) -> None:
        """Move it on; it never goes back."""
        self._now_ns = max(self._now_ns, time_ns)
        self._wake()

    def _wake(self) -> None:
        due = sorted((at_ns, n) for n, at_ns in enumerate(self._sleepers.values()))
        waiters = list(self._sleepers)
        for at_ns, number in due:
            if at_ns <= self._now_ns and not waiters[number].done():
                waiters[number].set_result(None)
