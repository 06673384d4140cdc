"""How far the venue's clock is ahead of ours. Pure: time is passed in.

A sample tells it to half of its round trip. One that came back quickly is worth more than a later one that
did not, unless both cannot be true: then somebody has set a clock.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ClockOffset", "Sample"]

KEEP_NS = 300_000_000_000
"""How long a sample may stand for the present: clocks drift apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question about the time.

    Attributes:
        offset_ns: How far the venue is ahead of us, if both ways took equally long.
        round_trip_ns: How long both ways took.
        at_ns: When, by a clock of ours that nobody sets.
    """

    offset_ns: int
    round_trip_ns: int
    at_ns: int

    @property
    def error_ns(self) -> int:
        """How far off it may be, either way."""
        return self.round_trip_ns // 2


class ClockOffset:
    """The best that is known of the offset.

    Attributes:
        best: The sample that counts; None before the first.
    """

    def __init__(self) -> None:
        self.best: Sample | None = None

    def add(self, sample: Sample) -> Sample:
        """Take a sample into account, and return the one that counts now."""
        best = self.best
        if (
            best is None
            or sample.at_ns - best.at_ns > KEEP_NS
            or sample.round_trip_ns <= best.round_trip_ns
            or abs(sample.offset_ns - best.offset_ns) > sample.error_ns + best.error_ns
        ):
            self.best = best = sample
        return best

    def is_beyond(self, bound_ns: int) -> bool:
        """Whether the clocks are surely farther apart than a bound."""
        best = self.best
        return best is not None and abs(best.offset_ns) - best.error_ns > bound_ns
