"""Proof of absence, as a table: every condition alone suffices to refuse it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tradegw.engine.absence import LOST, Identity, Observation, is_settled_after, proves_absence
from tradegw.engine.reset import lose_venue, was_lost
from tradegw.model import CommandKind, EventType, InDoubt
from tradegw.model.lifecycle import put_in_doubt
from tradegw.ports import VenueOrderRef
from tradegw.testing import an_order
from tradegw.testing.venue import CAPABILITIES
from tradegw.venue import ExpiryKind, VenueTime

S = 1_000_000_000
WHO = Identity(venue_account_id="account", environment="live host", instance_id="instance")
ORDER = an_order()
REF = VenueOrderRef(
    order_id=ORDER.order_id,
    generation=0,
    venue_client_order_id="c",  # type: ignore[arg-type]
    valid_until_ns=100 * S,
)
# Valid until 100 s, with a lag of 1 s: from beyond 101 s on "not found" counts, and again 1 s later.
CAN = replace(CAPABILITIES, expiry_s=5.0, visibility_lag_s=1.0, closed_order_retention_s=60.0)


def seen(at_s: float, who: Identity = WHO, height: int | None = None) -> Observation:
    return Observation(as_of=VenueTime(time_ns=int(at_s * S), height=height), identity=who)


def _who(**changes: str) -> Identity:
    return replace(WHO, **changes)


def proves(*observations: Observation, **changes: Any) -> bool:
    asked: dict[str, Any] = {
        "order": ORDER,
        "ref": REF,
        "capabilities": CAN,
        "identity": WHO,
    } | changes
    return proves_absence(
        asked["order"],
        asked["ref"],
        observations,
        capabilities=asked["capabilities"],
        identity=asked["identity"],
    )


def test_all_conditions_together_prove_it() -> None:
    assert proves(seen(101.1), seen(102.2))


@pytest.mark.parametrize(
    ("observations", "changes"),
    [
        pytest.param(
            [102, 104], {"order": replace(ORDER, acknowledged=True)}, id="(a) acknowledged"
        ),
        pytest.param([102, 104], {"order": replace(ORDER, cum_qty=Decimal(1))}, id="(a) filled"),
        pytest.param([99, 100], {}, id="(b) while it was valid"),
        pytest.param([100.5, 101], {}, id="(b) within the lag"),
        pytest.param([100.5, 102], {}, id="(b) one of them within the lag"),
        pytest.param([102, 104], {"ref": replace(REF, valid_until_ns=None)}, id="(b) no validity"),
        pytest.param(
            [102, 104],
            {"capabilities": replace(CAN, expiry=ExpiryKind.NONE)},
            id="(b) a venue without expiry",
        ),
        pytest.param(
            [102, 104], {"identity": _who(instance_id="other")}, id="(c) another instance"
        ),
        pytest.param(
            [102, 104], {"identity": _who(venue_account_id="other")}, id="(c) another account"
        ),
        pytest.param(
            [102, 104], {"identity": _who(environment="test host")}, id="(c) another host"
        ),
        pytest.param([102, 104], {"identity": LOST}, id="(c) a venue that is gone"),
        pytest.param([155.1, 160], {}, id="(d) beyond the venue's memory"),
        pytest.param([102, 156], {}, id="(d) one of them beyond it"),
        pytest.param([102], {}, id="(f) once"),
        pytest.param([102, 102.9], {}, id="(f) less than a lag apart"),
        pytest.param([], {}, id="(f) never"),
    ],
)
def test_each_condition_is_needed(observations: list[float], changes: dict[str, Any]) -> None:
    assert not proves(*(seen(at_s) for at_s in observations), **changes)


def test_what_another_instance_did_not_find_does_not_count() -> None:
    other = _who(instance_id="other")
    assert not proves(seen(102, other), seen(104))
    assert not proves(seen(102), seen(104, other))
    assert proves(seen(102, other), seen(104), seen(106))


def test_without_a_stated_memory_the_venue_remembers() -> None:
    forever = replace(CAN, closed_order_retention_s=None)
    assert proves(seen(10_000), seen(20_000), capabilities=forever)


def test_without_lag_two_answers_are_two() -> None:
    none = replace(CAN, visibility_lag_s=0.0)
    assert not proves(seen(101), seen(101), capabilities=none)
    assert proves(seen(101), seen(101.000001), capabilities=none)


@pytest.mark.parametrize(
    ("kind", "as_of", "expected"),
    [
        (ExpiryKind.TIME, VenueTime(time_ns=101 * S), False),
        (ExpiryKind.TIME, VenueTime(time_ns=101 * S + 1), True),
        (ExpiryKind.HEIGHT, VenueTime(time_ns=500 * S), False),
        (ExpiryKind.HEIGHT, VenueTime(time_ns=0, height=7), False),
        (ExpiryKind.HEIGHT, VenueTime(time_ns=0, height=8), True),
        (ExpiryKind.NONE, VenueTime(time_ns=500 * S, height=500), False),
    ],
)
def test_a_request_ends_by_the_venues_own_measure(
    kind: ExpiryKind, as_of: VenueTime, expected: bool
) -> None:
    capabilities = replace(CAN, expiry=kind)
    for until_ns, height in ((100 * S, 7), (None, None)):
        found = is_settled_after(
            valid_until_ns=until_ns,
            valid_until_height=height,
            as_of=as_of,
            capabilities=capabilities,
        )
        assert found == (expected and until_ns is not None)


# --- a venue that is gone ----------------------------------------------------------------------------


def test_a_reset_marks_an_order_once_and_keeps_since_when_it_was_in_doubt() -> None:
    doubtful, _ = put_in_doubt(ORDER, CommandKind.NEW, why="silence", time_ns=5)
    lost, events = lose_venue(doubtful, why="instance 2 answers", time_ns=9)
    assert [e.event_type for e in events] == [EventType.VENUE_RESET]
    assert [(d.command, d.since_ns) for d in lost.in_doubt] == [(CommandKind.NEW, 5)]
    assert was_lost(lost)
    assert not was_lost(doubtful)
    assert lose_venue(lost, why="instance 3 answers", time_ns=11) == (lost, ())


def test_a_reset_keeps_the_other_doubts() -> None:
    cancelling = InDoubt(command=CommandKind.CANCEL, since_ns=3, why="silence")
    order = replace(ORDER, acknowledged=True, pending=CommandKind.CANCEL, in_doubt=(cancelling,))
    lost, _ = lose_venue(order, why="instance 2", time_ns=9)
    assert [d.command for d in lost.in_doubt] == [CommandKind.NEW, CommandKind.CANCEL]
