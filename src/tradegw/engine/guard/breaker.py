"""A circuit breaker that counts the venue's outages alone. Pure: time is passed in.

An answer of any kind, a refusal as well, says that the venue is there. What says that it may not be: no
connection, no answer in time, a connection that breaks, or the plugin's own word. One cut breaks many
requests at once and is over in a moment, so it takes several failures that go on for a while.
"""

from __future__ import annotations

__all__ = ["FAILURES_MIN", "OUTAGE_S", "Breaker"]

_NS_PER_S = 1_000_000_000
FAILURES_MIN = 5
OUTAGE_S = 1.0


class Breaker:
    """The breaker of one account's way to its venue.

    Attributes:
        is_open: Whether nothing is sent but the question whether the venue is back.
        why: What it opened on, for people.
        opened: How often it has opened.
    """

    __slots__ = ("_failing_since_ns", "_failures", "_until_ns", "is_open", "opened", "why")

    def __init__(self) -> None:
        self.is_open = False
        self.why = ""
        self.opened = 0
        self._failures = 0
        self._failing_since_ns = 0
        self._until_ns = 0

    @property
    def is_failing(self) -> bool:
        """Whether a success would change anything."""
        return self._failures > 0 or self.is_open

    def fail(self, why: str, now_ns: int) -> bool:
        """Count a failure. Returns whether the breaker opened on it."""
        if not self._failures:
            self._failing_since_ns = now_ns
        self._failures += 1
        lasted_ns = now_ns - self._failing_since_ns
        if self.is_open or self._failures < FAILURES_MIN or lasted_ns < OUTAGE_S * _NS_PER_S:
            return False
        self._open(f"{self._failures} failures and no answer: {why}")
        return True

    def trip(self, why: str, *, until_ns: int) -> bool:
        """Open for a time that the venue named: a ban. Returns whether it was closed before."""
        self._until_ns = max(self._until_ns, until_ns)
        was_closed = not self.is_open
        if was_closed:
            self._open(why)
        return was_closed

    def succeed(self, now_ns: int) -> bool:
        """Take note of an answer. Returns whether the breaker closed on it."""
        self._failures = 0
        # While a ban lasts, an answer to what was sent before says nothing.
        if not self.is_open or now_ns < self._until_ns:
            return False
        self.is_open, self.why = False, ""
        return True

    def wait_ns(self, now_ns: int) -> int:
        """Return how long to wait at least before asking whether the venue is back."""
        return max(0, self._until_ns - now_ns)

    def _open(self, why: str) -> None:
        self.is_open, self.why = True, why
        self.opened += 1
