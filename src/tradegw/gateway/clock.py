"""The real clock."""

from __future__ import annotations

import asyncio
import time

__all__ = ["SystemClock", "boottime_ns"]

# Linux stops its monotonic clock while the machine sleeps; others do not, or have no other.
_BOOTTIME: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Time as the operating system tells it."""

    def time_ns(self) -> int:
        """Return nanoseconds since the epoch, UTC."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Return nanoseconds that only grow."""
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def boottime_ns() -> int:
    """Return nanoseconds that only grow, also while the machine is suspended."""
    return time.clock_gettime_ns(_BOOTTIME)
