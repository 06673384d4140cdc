"""Runs one coroutine many times from several callers at once, and says how long each took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

__all__ = ["Figures", "hammer", "together"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a run took; latencies in seconds."""

    count: int
    seconds: float
    p50_s: float
    p99_s: float

    @property
    def per_second(self) -> float:
        """Return the throughput."""
        return self.count / self.seconds


def together(rounds: Sequence[Figures]) -> Figures:
    """Sum several runs of the same thing up: all calls in all the time, latencies of the middle run."""
    middle = sorted(rounds, key=lambda figures: figures.p50_s)[len(rounds) // 2]
    return Figures(
        count=sum(figures.count for figures in rounds),
        seconds=sum(figures.seconds for figures in rounds),
        p50_s=middle.p50_s,
        p99_s=middle.p99_s,
    )


async def hammer(call: Callable[[], Awaitable[object]], *, count: int, callers: int) -> Figures:
    """Make `count` calls, `callers` at a time, after a warm-up of a tenth."""
    await _run(call, max(callers, count // 10), callers)
    started = time.perf_counter()
    taken = await _run(call, count, callers)
    seconds = time.perf_counter() - started
    taken.sort()
    return Figures(
        count=count,
        seconds=seconds,
        p50_s=taken[len(taken) // 2],
        p99_s=taken[min(len(taken) - 1, len(taken) * 99 // 100)],
    )


async def _run(call: Callable[[], Awaitable[object]], count: int, callers: int) -> list[float]:
    left = count
    taken: list[float] = []

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            started = time.perf_counter()
            await call()
            taken.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return taken
