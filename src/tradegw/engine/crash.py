"""Named places at which a test kills the process.

`TRADEGW_CRASH_AT=NAME:n` sends SIGKILL to this process when the place is reached for the n-th time.
Without the variable a place costs one comparison.
"""

from __future__ import annotations

import os
import signal
import sys
from enum import StrEnum

from tradegw.errors import ConfigError

__all__ = ["CrashPoint", "is_armed", "reach"]


class CrashPoint(StrEnum):
    """Every place, in the order in which an order passes them."""

    JOURNALED_UNSENT = "JOURNALED_UNSENT"
    """The intent is durable, no byte has left."""
    SENT_UNANSWERED = "SENT_UNANSWERED"
    """The request is on its way, the answer has not been read."""
    ANSWERED_UNJOURNALED = "ANSWERED_UNJOURNALED"
    """The answer was read, and is not stored."""


class _Armed:
    def __init__(self, text: str) -> None:
        name, _, count = text.partition(":")
        try:
            self.point = CrashPoint(name)
            self.left = int(count or "1")
        except ValueError:
            known = ", ".join(CrashPoint)
            raise ConfigError(
                f"TRADEGW_CRASH_AT is NAME:n with a name of {known}; found {text!r}"
            ) from None


_armed = _Armed(os.environ["TRADEGW_CRASH_AT"]) if os.environ.get("TRADEGW_CRASH_AT") else None


def is_armed(point: CrashPoint) -> bool:
    """Whether this process will die at the point."""
    return _armed is not None and _armed.point is point


def reach(point: CrashPoint) -> None:
    """Die here, if armed for here."""
    if _armed is None or _armed.point is not point:
        return
    _armed.left -= 1
    if _armed.left <= 0:
        # The tester counts the orders that stood at the point from the record and the exchange.
        sys.stderr.write(f"crash point {point} reached\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
