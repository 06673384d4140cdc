"""How our client repeats calls: with the same key, after growing pauses, until the caller's time is over."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import grpc
import grpc.aio

from tradegw.errors import (
    CommitUnknown,
    InvalidOrder,
    TradegwError,
    TranslationError,
    Unavailable,
)
from tradegw.transports.grpc.errors import SessionOver, read_status

__all__ = ["OUTCOME_UNKNOWN", "Attempts", "Lost", "pause_s", "repeat", "translate"]

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
        key: The idempotency key of a call that changes something; None for one that reads.
    """

    def __init__(self, what: str, timeout_s: float, key: str | None = None) -> None:
        self.key = key
        self._what = what
        self._timeout_s = timeout_s
        self._ends = time.monotonic() + timeout_s
        self._count = 0
        self._is_outcome_unknown = False

    @property
    def left_s(self) -> float:
        """Seconds left."""
        return self._ends - time.monotonic()

    async def failed(self, error: Exception) -> None:
        """Wait before the next attempt.

        Raises:
            Unavailable: There is no time for another one.
            TradegwError: The error, where repeating does not help.
        """
        if isinstance(error, (Lost, CommitUnknown, SessionOver)):
            self._is_outcome_unknown = self._is_outcome_unknown or self.key is not None
        elif not isinstance(error, Unavailable):
            raise error
        elif error.reason == OUTCOME_UNKNOWN:
            # Said by a gateway that asked another one.
            self._is_outcome_unknown = self._is_outcome_unknown or self.key is not None
        pause = pause_s(self._count)
        self._count += 1
        if pause >= self.left_s:
            raise self._give_up(error) from error
        await asyncio.sleep(pause)

    def _give_up(self, error: Exception) -> Unavailable:
        spent = (
            f"{self._what} had no answer within {self._timeout_s:g} s and {self._count} attempts"
        )
        if self._is_outcome_unknown:
            return Unavailable(
                f"{spent}: whether it was stored is unknown; ask again with idempotency key "
                f"{self.key!r}. Last: {error}",
                reason=OUTCOME_UNKNOWN,
            )
        reason = error.reason if isinstance(error, TradegwError) else None
        stored = "" if self.key is None else f" Nothing was stored; the key was {self.key!r}."
        return Unavailable(f"{spent}. Last: {error}.{stored}", reason=reason)


async def repeat(attempts: Attempts, call: Callable[[float], Awaitable[T]]) -> T:
    """Call until there is an answer.

    Args:
        call: Takes the seconds that it has.

    Raises:
        TradegwError: What the gateway says, where repeating does not help.
        Unavailable: The time is over. With reason `OUTCOME_UNKNOWN` it may be stored: ask with the same key.
    """
    while True:
        try:
            return await call(max(attempts.left_s, 0.001))
        except grpc.aio.AioRpcError as e:
            error = translate(e)
        except (Unavailable, CommitUnknown, SessionOver, Lost) as e:
            error = e
        await attempts.failed(error)


def unreadable(error: InvalidOrder) -> TranslationError:
    """Return the error of an answer that cannot be read: the request itself was fine."""
    return TranslationError(
        f"the gateway's answer cannot be read: {error}", reason="UNREADABLE_ANSWER"
    )
