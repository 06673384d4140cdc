"""How our client repeats calls: with the same key, after growing pauses, until the caller's time is over."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import grpc
import grpc.aio

from tradegw.errors import (
    CommitUnknown,
    IdempotencyKeyReused,
    InvalidOrder,
    TradegwError,
    TranslationError,
    Unavailable,
)
from tradegw.transports.grpc.errors import SessionOver, read_status

__all__ = [
    "OUTCOME_UNKNOWN",
    "Attempts",
    "Lost",
    "may_be_stored",
    "outcome_unknown",
    "pause_s",
    "repeat",
    "translate",
]

T = TypeVar("T")

_PAUSE_FIRST_S: Final = 0.02
_PAUSE_MAX_S: Final = 1.0

OUTCOME_UNKNOWN: Final = "OUTCOME_UNKNOWN"
"""The reason of an `Unavailable` after which the request may be stored."""

# Nobody of ours said these: the connection broke, or gRPC did.
_BROKEN: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


# What gRPC says when it has no connection to send a call over. Were the words to change, such a call would
# count as one of unknown outcome: slower to believe, never wrong.
_UNREACHED: Final = "failed to connect to all addresses"


class Lost(Exception):
    """No answer of the gateway came: whether it acted is unknown."""


def may_be_stored(error: Exception) -> bool:
    """Whether a request that ended with this error may be stored, or be stored yet."""
    return isinstance(error, (Lost, CommitUnknown, SessionOver)) or (
        # Said by a gateway that asked another one.
        isinstance(error, Unavailable) and error.reason == OUTCOME_UNKNOWN
    )


def outcome_unknown(what: str, keys: Sequence[str], last: Exception) -> Unavailable:
    """Return the error of a request that may be stored, whatever an attempt after that one said.

    Args:
        keys: Those with which to ask again, one for each part of the request.
    """
    named = ", ".join(repr(key) for key in keys)
    return Unavailable(
        f"{what}: whether it was stored is unknown; ask again with idempotency "
        f"key{'s' if len(keys) > 1 else ''} {named}. Last: {last}",
        reason=OUTCOME_UNKNOWN,
    )


def translate(error: grpc.aio.AioRpcError) -> Exception:
    """Return what a status means: one of the gateway's exceptions, or `Lost`."""
    ours = read_status(error)
    if ours is not None:
        return ours
    text = error.details() or error.code().name
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # Only gRPC itself says so without our details: a message was longer than it may be.
        return InvalidOrder(text, reason="MESSAGE_TOO_LARGE")
    if text.startswith(_UNREACHED):
        return Unavailable(text, reason="GATEWAY_UNREACHABLE")
    if error.code() in _BROKEN:
        return Lost(text)
    return TradegwError(f"{error.code().name}: {text}", reason=error.code().name)


def pause_s(attempt: int) -> float:
    """Return how long to wait: anything up to a bound that doubles with each attempt ("full jitter")."""
    return random.uniform(0, min(_PAUSE_MAX_S, _PAUSE_FIRST_S * (1 << min(attempt, 16))))


class Attempts:
    """The attempts at one call.

    Attributes:
        keys: The idempotency keys of a call that changes something; empty for one that reads.
        is_outcome_unknown: Whether one of them may have been stored.
    """

    def __init__(self, what: str, timeout_s: float, *keys: str) -> None:
        self.keys: Sequence[str] = keys
        self.is_outcome_unknown = False
        self._what = what
        self._timeout_s = timeout_s
        self._ends = time.monotonic() + timeout_s
        self._count = 0

    @property
    def left_s(self) -> float:
        """Seconds left."""
        return self._ends - time.monotonic()

    async def failed(self, error: Exception) -> None:
        """Wait before the next attempt.

        Raises:
            Unavailable: There is no time for another one, or an earlier one may have been stored and
                repeating does not help.
            TradegwError: The error, where repeating does not help.
        """
        if may_be_stored(error):
            self.is_outcome_unknown = bool(self.keys)
        elif not isinstance(error, Unavailable):
            # It says that this attempt stored nothing. What an earlier one may have left under way is not
            # settled by it, unless the key itself is known to be another request's.
            if self.is_outcome_unknown and not isinstance(error, IdempotencyKeyReused):
                raise outcome_unknown(self._what, self.keys, error) from error
            raise error
        pause = pause_s(self._count)
        self._count += 1
        if pause >= self.left_s:
            raise self._give_up(error) from error
        await asyncio.sleep(pause)

    def _give_up(self, error: Exception) -> Unavailable:
        spent = (
            f"{self._what} had no answer within {self._timeout_s:g} s and {self._count} attempts"
        )
        if self.is_outcome_unknown:
            return outcome_unknown(spent, self.keys, error)
        reason = error.reason if isinstance(error, TradegwError) else None
        stored = ""
        if self.keys:
            named = ", ".join(repr(key) for key in self.keys)
            stored = f" Nothing was stored; the key was {named}."
        return Unavailable(f"{spent}. Last: {error}.{stored}", reason=reason)


async def repeat(attempts: Attempts, call: Callable[[float], Awaitable[T]]) -> T:
    """Call until there is an answer.

    Args:
        call: Takes the seconds that it has.

    Raises:
        TradegwError: What the gateway says, where repeating does not help.
        Unavailable: The time is over. With reason `OUTCOME_UNKNOWN` it may be stored, whatever the last
            attempt said: ask with the same key.
    """
    while True:
        try:
            return await call(max(attempts.left_s, 0.001))
        except grpc.aio.AioRpcError as e:
            error = translate(e)
        except (TradegwError, Lost) as e:
            error = e
        await attempts.failed(error)


def unreadable(error: InvalidOrder) -> TranslationError:
    """Return the error of an answer that cannot be read: the request itself was fine."""
    return TranslationError(
        f"the gateway's answer cannot be read: {error}", reason="UNREADABLE_ANSWER"
    )
