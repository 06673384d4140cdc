"""Tells whether a message of the indexer's stream was lost. Pure.

Each connection numbers its messages. A request to subscribe takes a number when it arrives, and its answer
may come after later numbers; every other hole means that something is missing.

Source: reference of the indexer's WebSocket, "Gap detection".
"""

from __future__ import annotations

from typing import Final

__all__ = ["HOLE_S", "GapTracker"]

HOLE_S: Final = 1.0
"""Messages may overtake each other a little."""
_HOLES_MAX: Final = 10_000


class GapTracker:
    """The numbers of one connection. It begins with the message `connected`, which has number 0."""

    def __init__(self) -> None:
        self._newest = 0
        self._missing: dict[int, float] = {}
        self._pending = 0

    def expect_reply(self) -> None:
        """Note that a request was sent, whose answer has a number of its own."""
        self._pending += 1

    def see(self, number: int, *, is_reply: bool, now_s: float) -> bool:
        """Note a message; returns whether it was seen before."""
        if is_reply:
            self._pending = max(0, self._pending - 1)
        if number > self._newest:
            for hole in range(self._newest + 1, min(number, self._newest + _HOLES_MAX)):
                self._missing[hole] = now_s
            self._newest = number
            return False
        return self._missing.pop(number, None) is None and not is_reply

    def has_gap(self, now_s: float) -> bool:
        """Whether a number is missing for longer than messages overtake each other."""
        old = sum(now_s - since > HOLE_S for since in self._missing.values())
        # As many as there are answers to come may be theirs.
        return old > self._pending
