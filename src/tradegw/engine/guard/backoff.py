"""How long to wait before asking again."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Waits that double up to a bound, each drawn anew from zero to its bound (full jitter).

    Many that failed together do not come back together. Only for what is safe to repeat.
    """

    def __init__(self, rng: random.Random, *, first_s: float, longest_s: float) -> None:
        self._rng = rng
        self._first_s = first_s
        self._longest_s = longest_s
        self._bound_s = first_s

    def reset(self) -> None:
        """Begin with short waits again."""
        self._bound_s = self._first_s

    def next_s(self) -> float:
        """Return how long to wait now."""
        bound_s = self._bound_s
        self._bound_s = min(self._longest_s, bound_s * 2)
        # Never nothing at all: a loop that fails at once must not spin.
        return max(bound_s / 20, self._rng.uniform(0, bound_s))
