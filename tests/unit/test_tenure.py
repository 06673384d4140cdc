"""Until when we may send: counted from before the renewal was asked for, on a clock that tests turn."""

from __future__ import annotations

import pytest

from tradegw.engine.tenure import Tenure

S = 1_000_000_000


class Hands:
    """A clock."""

    now_ns = 1_000 * S

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def tenure(hands: Hands) -> Tenure:
    """One that was renewed now, and may send for eight seconds."""
    made = Tenure(hands, ttl_s=10.0, margin_s=2.0)
    made.renew(hands.now_ns)
    made.confirm()
    return made


def test_before_it_was_ever_renewed_it_holds_nothing(hands: Hands) -> None:
    made = Tenure(hands, ttl_s=10.0, margin_s=2.0)
    made.confirm()
    assert not made.holds
    assert not made.may_send


def test_it_ends_a_margin_before_the_lease(hands: Hands, tenure: Tenure) -> None:
    hands.now_ns += 8 * S - 1
    assert tenure.may_send
    assert tenure.left_ns == 1
    hands.now_ns += 1
    assert not tenure.may_send
    assert not tenure.holds
    assert tenure.left_ns == 0


def test_a_renewal_counts_from_when_it_was_asked_for(hands: Hands, tenure: Tenure) -> None:
    asked_ns = hands.now_ns + 3 * S
    hands.now_ns += 7 * S  # The answer took four seconds.
    tenure.renew(asked_ns)
    assert tenure.left_ns == 4 * S


def test_a_renewal_whose_answer_came_late_takes_nothing_away(hands: Hands, tenure: Tenure) -> None:
    tenure.renew(hands.now_ns - 5 * S)
    assert tenure.left_ns == 8 * S


def test_after_a_pause_that_nobody_noticed_a_renewal_lets_it_send_again(
    hands: Hands, tenure: Tenure
) -> None:
    """The lease is the same one still, so nobody else has had it in between."""
    hands.now_ns += 3600 * S
    assert not tenure.may_send
    tenure.renew(hands.now_ns)
    assert tenure.may_send


def test_before_it_is_confirmed_it_holds_and_does_not_send(hands: Hands) -> None:
    made = Tenure(hands, ttl_s=10.0, margin_s=2.0)
    made.renew(hands.now_ns)
    assert made.holds
    assert not made.may_send


def test_what_has_ended_is_not_renewed(hands: Hands, tenure: Tenure) -> None:
    tenure.end()
    tenure.renew(hands.now_ns)
    assert not tenure.holds
    assert not tenure.may_send
