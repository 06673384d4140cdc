"""Which holes in the stream's numbers mean that something is missing."""

from __future__ import annotations

import pytest
from tradegw_dydx.gaps import GapTracker

REPLY, DATA = True, False


def tracker(seen, *, expected=0):
    gaps = GapTracker()
    for _ in range(expected):
        gaps.expect_reply()
    duplicates = [gaps.see(n, is_reply=is_reply, now_s=0.0) for n, is_reply in seen]
    return gaps, duplicates


@pytest.mark.parametrize(
    ("seen", "expected", "is_gap"),
    [
        pytest.param([(1, REPLY), (2, REPLY), (3, DATA)], 2, False, id="in order"),
        pytest.param([(1, REPLY), (2, DATA), (4, DATA)], 1, True, id="one is missing"),
        pytest.param(
            [(2, DATA), (3, DATA)], 1, False, id="the answer to subscribe is still to come"
        ),
        pytest.param([(2, DATA), (3, DATA), (1, REPLY)], 1, False, id="it came late"),
        pytest.param(
            [(2, DATA), (4, DATA)], 1, True, id="one hole is the answer's, the other is not"
        ),
        pytest.param([(1, REPLY), (3, DATA), (2, DATA)], 1, False, id="two overtook each other"),
        pytest.param([], 1, False, id="nothing yet"),
    ],
)
def test_holes(seen, expected, is_gap):
    gaps, _ = tracker(seen, expected=expected)
    assert not gaps.has_gap(0.5), "messages may overtake each other a little"
    assert gaps.has_gap(1.5) is is_gap


def test_a_message_that_comes_twice_is_noticed():
    _, duplicates = tracker([(1, REPLY), (2, DATA), (2, DATA), (4, DATA), (3, DATA), (3, DATA)])
    assert duplicates == [False, False, True, False, False, True]
