"""When the breaker opens and closes."""

from __future__ import annotations

import random

import pytest

from tradegw.engine.guard.backoff import Backoff
from tradegw.engine.guard.breaker import FAILURES_MIN, Breaker

S = 1_000_000_000


def fail(breaker: Breaker, times: int, *, from_s: float = 0.0, every_s: float = 0.5) -> bool:
    """Fail some times; say whether the last one opened it."""
    return [breaker.fail("no", int((from_s + i * every_s) * S)) for i in range(times)][-1]


def test_failures_that_go_on_open_it_once() -> None:
    breaker = Breaker()
    assert fail(breaker, FAILURES_MIN)
    assert breaker.is_open
    assert not fail(breaker, 1, from_s=9.0)
    assert breaker.opened == 1


def test_one_cut_that_breaks_many_requests_does_not() -> None:
    breaker = Breaker()
    assert not fail(breaker, 1000, every_s=0.0)
    assert not breaker.is_open


def test_a_few_failures_far_apart_do_not() -> None:
    breaker = Breaker()
    assert not fail(breaker, FAILURES_MIN - 1, every_s=100.0)


def test_an_answer_in_between_begins_the_count_anew() -> None:
    breaker = Breaker()
    fail(breaker, FAILURES_MIN - 1)
    assert not breaker.succeed(2 * S)
    assert not fail(breaker, FAILURES_MIN - 1, from_s=3.0)
    assert not breaker.is_open


def test_an_answer_closes_it() -> None:
    breaker = Breaker()
    fail(breaker, FAILURES_MIN)
    assert breaker.succeed(9 * S)
    assert not breaker.is_open
    assert not breaker.is_failing


def test_a_ban_lasts_as_long_as_the_venue_said_whoever_answers() -> None:
    breaker = Breaker()
    assert breaker.trip("banned", until_ns=60 * S)
    assert not breaker.succeed(59 * S)
    assert breaker.is_open
    assert breaker.wait_ns(50 * S) == 10 * S
    assert breaker.succeed(60 * S)


@pytest.mark.parametrize("seed", range(3))
def test_waits_are_drawn_from_bounds_that_double(seed: int) -> None:
    backoff = Backoff(random.Random(seed), first_s=1.0, longest_s=8.0)
    waits = [backoff.next_s() for _ in range(2000)]
    assert all(w <= bound for w, bound in zip(waits, [1, 2, 4, *[8] * 1997], strict=True))
    assert min(waits) > 0
    late = waits[3:]
    # Full jitter: from next to nothing to all of it.
    assert min(late) < 1.0
    assert max(late) > 7.0
    backoff.reset()
    assert backoff.next_s() <= 1.0
