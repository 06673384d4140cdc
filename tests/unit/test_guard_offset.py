"""How far the venue's clock is ahead, from samples of unequal worth."""

from __future__ import annotations

import pytest

from tradegw.engine.guard.offset import KEEP_NS, ClockOffset, Sample

S = 1_000_000_000
MS = 1_000_000


def a_sample(offset_s: float, round_trip_s: float, at_s: float = 0.0) -> Sample:
    return Sample(
        offset_ns=int(offset_s * S), round_trip_ns=int(round_trip_s * S), at_ns=int(at_s * S)
    )


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        pytest.param((1.0, 0.1), (1.02, 0.08), 1.02, id="a quicker one"),
        pytest.param((1.0, 0.1), (2.4, 3.0), 1.0, id="a slow one that may be as wrong as it looks"),
        pytest.param((1.0, 0.1), (3.0, 0.2), 3.0, id="a clock was set"),
        pytest.param((1.0, 0.1), (1.3, 0.7, KEEP_NS / S + 1), 1.3, id="the old one is too old"),
    ],
)
def test_the_better_sample_counts(
    first: tuple[float, ...], second: tuple[float, ...], counts: float
) -> None:
    offset = ClockOffset()
    offset.add(a_sample(*first))
    assert offset.add(a_sample(*second)).offset_ns == pytest.approx(counts * S)


def test_only_what_is_sure_is_beyond_a_bound() -> None:
    offset = ClockOffset()
    assert not offset.is_beyond(0)
    offset.add(a_sample(2.6, 0.6))
    assert not offset.is_beyond(int(2.5 * S))
    offset.add(a_sample(2.6, 0.1))
    assert offset.is_beyond(int(2.5 * S))
