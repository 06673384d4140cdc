"""Ends streams from outside: their waits without a task for each, and waits until they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["Closed", "Closing"]

T = TypeVar("T")

_PARTS = 10
"""In how many parts a wait's time passes."""


class Closed(Exception):
    """The wait was ended: the door closes."""


class Closing:
    """A switch that is turned once, and ends every wait that goes through it."""

    def __init__(self) -> None:
        self._is_closed = False
        self._waits: set[asyncio.Timeout] = set()
        self._open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    def close(self) -> None:
        """End what waits now and what will."""
        self._is_closed = True
        for wait in self._waits:
            _expire(wait)

    async def closed(self) -> None:
        """Wait until everything that was `held` has ended."""
        await self._none_open.wait()

    @contextmanager
    def hold(self) -> Generator[None]:
        """Count as open."""
        self._open += 1
        self._none_open.clear()
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()

    async def wait_for(self, awaitable: Awaitable[T], *, timeout_s: float | None = None) -> T:
        """Await something that may be cancelled.

        Args:
            timeout_s: Its time. However long this process stood still (a machine that sleeps, a loop that is
                held up), that counts as a tenth of it: what came meanwhile is heard first.

        Raises:
            Closed: The door closes. What was awaited is cancelled.
            TimeoutError: `timeout_s` is over.
        """
        try:
            async with asyncio.timeout(0 if self._is_closed else None) as wait:
                self._waits.add(wait)
                patience = None if timeout_s is None else _Patience(wait, timeout_s)
                try:
                    return await awaitable
                finally:
                    self._waits.discard(wait)
                    if patience is not None:
                        patience.end()
        except TimeoutError:
            if self._is_closed:
                raise Closed from None
            raise


class _Patience:
    """Ends a wait once the loop has run for so long."""

    def __init__(self, wait: asyncio.Timeout, seconds: float) -> None:
        self._wait = wait
        self._part_s = seconds / _PARTS
        self._left = _PARTS
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._part_s, self._tick)

    def _tick(self) -> None:
        self._left -= 1
        if self._left:
            self._timer = self._loop.call_later(self._part_s, self._tick)
        else:
            _expire(self._wait)

    def end(self) -> None:
        self._timer.cancel()


def _expire(wait: asyncio.Timeout) -> None:
    if not wait.expired():
        wait.reschedule(0)
