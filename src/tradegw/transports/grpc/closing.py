"""Ends streams from outside: their waits without a task for each, and waits until they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["Closed", "Closing"]

T = TypeVar("T")


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
            wait.reschedule(0)

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

        Raises:
            Closed: The door closes. What was awaited is cancelled.
            TimeoutError: `timeout_s` is over.
        """
        try:
            async with asyncio.timeout(0 if self._is_closed else timeout_s) as wait:
                self._waits.add(wait)
                try:
                    return await awaitable
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if self._is_closed:
                raise Closed from None
            raise
