"""How a venue changes an order, and what that makes of the order's incarnations there. Pure.

`IN_PLACE`: the incarnation stays. `SAME_ID`: a new request under the same name takes the place of the old one
(dYdX short-term), a generation of its own: it lives until its own `valid_until`, and so does doubt about it.
"""

from __future__ import annotations

from dataclasses import replace

from tradegw.model import CommandKind, Order, ReplaceTerms
from tradegw.ports import VenueOrderRef
from tradegw.venue import ReplaceKind

__all__ = ["CAN_REPLACE", "commanded"]

CAN_REPLACE = (ReplaceKind.IN_PLACE, ReplaceKind.SAME_ID)


def commanded(
    ref: VenueOrderRef,
    order: Order,
    command: CommandKind,
    kind: ReplaceKind,
    terms: ReplaceTerms | None,
    *,
    valid_until: tuple[int | None, int | None],
    digest: str,
) -> VenueOrderRef:
    """Return an order's incarnation as it is once a command of it is asked for.

    Args:
        ref: The latest one.
        valid_until: Venue time or height after which the venue refuses the command.
    """
    valid_until_ns, valid_until_height = valid_until
    asked = replace(
        ref,
        venue_order_id=order.venue_order_id,
        command_valid_until_ns=valid_until_ns,
        command_valid_until_height=valid_until_height,
    )
    if command is not CommandKind.REPLACE or kind is not ReplaceKind.SAME_ID:
        return asked
    order_qty = order.order_qty
    if terms is not None and terms.order_qty is not None:
        order_qty = terms.order_qty
    # Whichever of the two stands: both are over once this one is, because it is the later.
    return replace(
        asked,
        generation=ref.generation + 1,
        order_qty=order_qty,
        valid_until_ns=_later(ref.valid_until_ns, valid_until_ns),
        valid_until_height=_later(ref.valid_until_height, valid_until_height),
        digest=digest,
    )


def _later(one: int | None, other: int | None) -> int | None:
    known = [moment for moment in (one, other) if moment is not None]
    return max(known) if known else None
