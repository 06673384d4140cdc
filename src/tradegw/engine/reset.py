"""When a venue comes back as another instance: its open orders are in doubt, and stay marked.

The mark is stored with the doubt. The new instance may say that it knows nothing of an order; that proves
nothing about the instance that took it, not even after a restart of ours.
"""

from __future__ import annotations

from tradegw.engine.intake import clean
from tradegw.model import CommandKind, EventType, InDoubt, Order
from tradegw.model.changes import Changes, Outcome

__all__ = ["lose_venue", "was_lost"]

_MARK = "VENUE_RESET"


def lose_venue(order: Order, *, why: str, time_ns: int) -> Outcome:
    """Return an open order in doubt because its venue is gone, with the event that says so."""
    if not order.is_open or was_lost(order):
        return order, ()
    placement = next((d for d in order.in_doubt if d.command is CommandKind.NEW), None)
    doubt = InDoubt(
        command=CommandKind.NEW,
        since_ns=time_ns if placement is None else placement.since_ns,
        why=clean(f"{_MARK}: {why}"),
    )
    steps = Changes(order, time_ns=time_ns, command=CommandKind.NEW, reason=_MARK, text=clean(why))
    steps.change(in_doubt=(doubt, *(d for d in order.in_doubt if d is not placement)))
    steps.add(EventType.VENUE_RESET)
    return steps.outcome


def was_lost(order: Order) -> bool:
    """Whether the venue that the order was sent to is gone."""
    return any(d.why.startswith(_MARK) for d in order.in_doubt)
