"""Waiting for whichever of several things comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["first"]


async def first(*events: asyncio.Event, within: Coroutine[Any, Any, None] | None = None) -> None:
    """Wait until one of some events is set, or until something has ended."""
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    ending = [] if within is None else [asyncio.ensure_future(within)]
    try:
        await asyncio.wait([*waiters, *ending], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in (*waiters, *ending):
            waiter.cancel()
