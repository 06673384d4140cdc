"""Proof of absence: when "not found" means that the order never got there.

Pure, so that each condition has its own test. All of these are needed (docs/explanation/in-doubt.md):

(a) nothing was ever heard of the order; (b) a targeted query answers "not found", dated by the venue's own
clock or height after `valid_until` plus the visibility lag; (c) the same venue account, host and
environment, and instance as at the intent; (d) within the time for which the venue still shows closed
orders; (e) no fills either; (f) twice, a lag apart.

Where a venue forgets what expired unfilled, absence is not claimed: the same observations prove expiry, also
of an order that was acknowledged or filled in part, because what it never filled is over (`proves_expiry`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tradegw.model import Order
from tradegw.ports import VenueOrderRef
from tradegw.venue import Capabilities, ExpiryKind, VenueTime

__all__ = [
    "LOST",
    "Identity",
    "Observation",
    "counts",
    "is_forgotten_at_expiry",
    "is_settled_after",
    "proves_absence",
    "proves_expiry",
]

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who answers.

    Attributes:
        venue_account_id: The venue's own id of the account.
        environment: Host and environment that were asked.
        instance_id: Incarnation of the venue.
    """

    venue_account_id: str = ""
    environment: str = ""
    instance_id: str = ""


LOST = Identity(instance_id="\0lost")
"""Identity of a venue that nobody can ask any more: no venue has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One targeted query that answered "not found", with the fills empty as well.

    Attributes:
        as_of: The venue's own clock and height when it answered.
        identity: Who answered.
    """

    as_of: VenueTime
    identity: Identity


def is_settled_after(
    *,
    valid_until_ns: int | None,
    valid_until_height: int | None,
    as_of: VenueTime,
    capabilities: Capabilities,
) -> bool:
    """Whether the venue, at `as_of`, can no longer take the request and would show it if it had."""
    lag_ns = int(capabilities.visibility_lag_s * _NS_PER_S)
    match capabilities.expiry:
        case ExpiryKind.TIME:
            return valid_until_ns is not None and as_of.time_ns > valid_until_ns + lag_ns
        case ExpiryKind.HEIGHT:
            if valid_until_height is None:
                return valid_until_ns is not None and as_of.time_ns > valid_until_ns + lag_ns
            return as_of.height is not None and as_of.height > valid_until_height
        case ExpiryKind.NONE:
            return False


def is_forgotten_at_expiry(ref: VenueOrderRef, capabilities: Capabilities) -> bool:
    """Whether the venue leaves no trace of this order once it has expired unfilled."""
    return capabilities.forgets_unfilled and ref.valid_until_height is not None


def proves_absence(
    order: Order,
    ref: VenueOrderRef,
    observations: tuple[Observation, ...],
    *,
    capabilities: Capabilities,
    identity: Identity,
) -> bool:
    """Whether the observations prove that the order never reached the venue, and never will.

    Args:
        identity: Who was asked to place it.
    """
    if order.acknowledged or order.cum_qty or is_forgotten_at_expiry(ref, capabilities):
        return False
    return _are_enough(order, ref, observations, capabilities=capabilities, identity=identity)


def proves_expiry(
    order: Order,
    ref: VenueOrderRef,
    observations: tuple[Observation, ...],
    *,
    capabilities: Capabilities,
    identity: Identity,
) -> bool:
    """Whether the observations prove that an order which its venue forgets at expiry is over.

    Args:
        identity: Who was asked to place it.
    """
    return is_forgotten_at_expiry(ref, capabilities) and _are_enough(
        order, ref, observations, capabilities=capabilities, identity=identity
    )


def counts(
    order: Order,
    ref: VenueOrderRef,
    seen: Observation,
    *,
    capabilities: Capabilities,
    identity: Identity,
) -> bool:
    """Whether an observation says anything: conditions (b), (c) and (d)."""
    return (
        seen.identity == identity
        and is_settled_after(
            valid_until_ns=ref.valid_until_ns,
            valid_until_height=ref.valid_until_height,
            as_of=seen.as_of,
            capabilities=capabilities,
        )
        and _is_retained(order, ref, seen, capabilities)
    )


def _are_enough(
    order: Order,
    ref: VenueOrderRef,
    observations: tuple[Observation, ...],
    *,
    capabilities: Capabilities,
    identity: Identity,
) -> bool:
    counted = [
        seen
        for seen in observations
        if counts(order, ref, seen, capabilities=capabilities, identity=identity)
    ]
    if len(counted) < 2:
        return False
    lag_ns = int(capabilities.visibility_lag_s * _NS_PER_S)
    return counted[-1].as_of.time_ns - counted[0].as_of.time_ns >= max(lag_ns, 1)


def _is_retained(
    order: Order, ref: VenueOrderRef, seen: Observation, capabilities: Capabilities
) -> bool:
    if capabilities.closed_order_retention_s is None:
        return True
    retention_ns = int(capabilities.closed_order_retention_s * _NS_PER_S)
    # It may have been placed and closed as early as the request could be made.
    earliest_ns = order.created_time_ns
    if ref.valid_until_ns is not None:
        earliest_ns = ref.valid_until_ns - int(capabilities.expiry_s * _NS_PER_S)
    return seen.as_of.time_ns < earliest_ns + retention_ns
