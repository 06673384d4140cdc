"""Named places at which a test kills the process, or stops it.

`TRADEGW_CRASH_AT=NAME:n` sends SIGKILL to this process when the place is reached for the n-th time;
`TRADEGW_STOP_AT=NAME:n` sends SIGSTOP instead, and whoever sends SIGCONT has it go on from there.
Without the variables a place costs two comparisons.
"""

from __future__ import annotations

import os
import signal
import sys
from enum import StrEnum

from tradegw.errors import ConfigError

__all__ = ["CrashPoint", "is_armed", "reach"]


class CrashPoint(StrEnum):
    """Every place: an order's way first, what happens beside it, what goes to sinks and comes from there, a
    start and an end."""

    TRANSLATED_UNJOURNALED = "TRANSLATED_UNJOURNALED"
    """A new order has passed its checks and has a request. Nothing is stored, the key is free."""
    COMMITTED_UNPUBLISHED = "COMMITTED_UNPUBLISHED"
    """Events are durable. No stream has shown them, and whoever stored them has not been told."""
    JOURNALED_UNSENT = "JOURNALED_UNSENT"
    """The intent is durable, no byte has left."""
    COMMAND_JOURNALED_UNSENT = "COMMAND_JOURNALED_UNSENT"
    """That a cancel or replace is asked is durable, no byte of it has left."""
    CHECKED_UNSENT = "CHECKED_UNSENT"
    """Nothing forbids a request, nothing more is asked, and no byte of it has left."""
    SENT_UNANSWERED = "SENT_UNANSWERED"
    """The request is on its way, the answer has not been read."""
    ANSWERED_UNJOURNALED = "ANSWERED_UNJOURNALED"
    """The answer was read, and is not stored."""
    REFUSED_UNJOURNALED = "REFUSED_UNJOURNALED"
    """A refusal was read, and is not stored."""
    DOUBTED_UNJOURNALED = "DOUBTED_UNJOURNALED"
    """No answer came, and that nobody knows is not stored."""
    APPLIED_UNTOLD = "APPLIED_UNTOLD"
    """What came of a request is stored, and its caller has not been told."""

    HELD_UNTOLD = "HELD_UNTOLD"
    """An order or cancel that waits for its venue is durable, without a request; its caller was not told."""
    RELEASED_UNJOURNALED = "RELEASED_UNJOURNALED"
    """The turn of one that waited has come and it has a request, which is not stored."""

    REPORTED_UNJOURNALED = "REPORTED_UNJOURNALED"
    """The venue's stream has told something that is not stored."""
    RESOLVER_ASKING = "RESOLVER_ASKING"
    """An order is about to be asked about."""
    RESOLVER_ANSWERED_UNJOURNALED = "RESOLVER_ANSWERED_UNJOURNALED"
    """The venue has said how an order stands, and it is not stored."""
    ABSENCE_PROVEN_UNJOURNALED = "ABSENCE_PROVEN_UNJOURNALED"
    """An order is proven absent, and its closing is not stored."""

    OUTBOX_UNPUBLISHED = "OUTBOX_UNPUBLISHED"
    """Events were read for a sink, which has heard nothing of them."""
    OUTBOX_UNCONFIRMED = "OUTBOX_UNCONFIRMED"
    """Events are on their way to a sink, and it has not confirmed them."""
    OUTBOX_UNMARKED = "OUTBOX_UNMARKED"
    """A sink has confirmed events, and its cursor stands before them."""
    INBOX_UNCOMMITTED = "INBOX_UNCOMMITTED"
    """A command came as a message, and nothing of it is stored."""
    INBOX_UNMARKED = "INBOX_UNMARKED"
    """A message has taken effect, and that it did is not stored."""
    INBOX_UNACKNOWLEDGED = "INBOX_UNACKNOWLEDGED"
    """A message is stored as having taken effect, and its sender has not been told."""
    OPEN_ORDERS_READ = "OPEN_ORDERS_READ"
    """The venue has listed some open orders, and what is news among them is not stored."""
    STRANGER_UNJOURNALED = "STRANGER_UNJOURNALED"
    """An order that is not ours was seen, and is not stored."""
    FILLS_READ_UNJOURNALED = "FILLS_READ_UNJOURNALED"
    """The venue has shown fills since the watermark, and none of them is stored."""
    FILLS_JOURNALED_UNMARKED = "FILLS_JOURNALED_UNMARKED"
    """They are stored, and the watermark is where it was."""
    MARKED = "MARKED"
    """The watermark is stored, and the fills of other symbols are not read."""
    INFERRED_UNJOURNALED = "INFERRED_UNJOURNALED"
    """A fill was inferred, and is not stored."""
    INFERRED_UNFINISHED = "INFERRED_UNFINISHED"
    """An inferred fill is stored, and the report that told of it is not."""
    ATTACHED_UNJOURNALED = "ATTACHED_UNJOURNALED"
    """A fill that matched no order has found it, and that is not stored."""
    ADOPTING = "ADOPTING"
    """It is stored which orders are to be adopted, and the next of them is not ours yet."""

    LOADED_UNDOUBTED = "LOADED_UNDOUBTED"
    """The record was read, and what the last process left unanswered is not yet in doubt."""
    STREAM_READY_UNRECONCILED = "STREAM_READY_UNRECONCILED"
    """The venue's stream is live, and nothing was asked about yet."""
    RECONCILED_NOT_READY = "RECONCILED_NOT_READY"
    """Every open order was asked about, and the account takes no new ones yet."""
    DRAINING = "DRAINING"
    """The gateway shuts down: it takes no new orders, and has waited for no answer yet."""


class _Armed:
    def __init__(self, text: str, variable: str = "TRADEGW_CRASH_AT") -> None:
        name, _, count = text.partition(":")
        try:
            self.point = CrashPoint(name)
            self.left = int(count or "1")
        except ValueError:
            known = ", ".join(CrashPoint)
            raise ConfigError(
                f"{variable} is NAME:n with a name of {known}; found {text!r}"
            ) from None

    def is_now(self, point: CrashPoint) -> bool:
        """Whether this is the place, and has been reached as often as was told."""
        if self.point is not point:
            return False
        self.left -= 1
        return self.left <= 0


_armed = _Armed(os.environ["TRADEGW_CRASH_AT"]) if os.environ.get("TRADEGW_CRASH_AT") else None
_stopping = (
    _Armed(os.environ["TRADEGW_STOP_AT"], "TRADEGW_STOP_AT")
    if os.environ.get("TRADEGW_STOP_AT")
    else None
)


def is_armed(point: CrashPoint) -> bool:
    """Whether this process will die or stop at the point."""
    return any(armed is not None and armed.point is point for armed in (_armed, _stopping))


def reach(point: CrashPoint) -> None:
    """Die or stop here, if armed for here."""
    if _armed is not None and _armed.is_now(point):
        _die(point)
    if _stopping is not None and _stopping.is_now(point):
        _stop(point)


def _die(point: CrashPoint) -> None:
    # The tester counts the orders that stood at the point from the record and the exchange.
    _tell(f"crash point {point} reached")
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(point: CrashPoint) -> None:
    global _stopping  # noqa: PLW0603  Once: whoever lets it go on wants to see what it does then.
    _stopping = None
    _tell(f"stop point {point} reached")
    os.kill(os.getpid(), signal.SIGSTOP)


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
