"""What we do with an order: store it, ask for a cancel or a replace, lose track of a command."""

from __future__ import annotations

from tradegw.model.changes import Changes, Outcome
from tradegw.model.enums import CommandKind, EventType, OrdStatus
from tradegw.model.numbers import ZERO
from tradegw.model.orders import InDoubt, Order, ReplaceTerms

__all__ = ["ask_cancel", "ask_replace", "dequeue", "put_in_doubt", "record_intent"]


def record_intent(order: Order, *, request_id: str = "", trace_id: str = "") -> Outcome:
    """Return a new order, all of it still open, with the event that stores it before any byte leaves."""
    steps = Changes(
        order,
        time_ns=order.created_time_ns,
        command=CommandKind.NEW,
        request_id=request_id,
        trace_id=trace_id,
    )
    steps.change(leaves_qty=order.order_qty or ZERO)
    steps.add(EventType.INTENT)
    return steps.outcome


def dequeue(order: Order, *, time_ns: int) -> Outcome:
    """Record that the turn of a queued command has come.

    Raises:
        ValueError: None is queued.
    """
    command = order.queued_command
    if command is None or not order.is_open:
        raise ValueError(f"order {order.order_id} ({order.ord_status}) has nothing queued")
    steps = Changes(order, time_ns=time_ns, command=command)
    steps.change(queued=False)
    steps.add(EventType.DEQUEUED)
    return steps.outcome


def ask_cancel(
    order: Order,
    *,
    time_ns: int,
    queued: bool = False,
    why: str = "",
    request_id: str = "",
    trace_id: str = "",
) -> Outcome:
    """Record that we ask for a cancel. It overtakes a pending replace.

    Args:
        queued: Whether it waits here until the venue can be asked.
        why: What it waits for, for people.

    Raises:
        ValueError: The order is closed.
    """
    if not order.is_open:
        raise ValueError(f"order {order.order_id} is closed ({order.ord_status})")
    steps = Changes(
        order,
        time_ns=time_ns,
        command=CommandKind.CANCEL,
        text=why,
        request_id=request_id,
        trace_id=trace_id,
    )
    steps.change(pending=CommandKind.CANCEL, ord_status=OrdStatus.PENDING_CANCEL, queued=queued)
    steps.add(EventType.PENDING_CANCEL)
    return steps.outcome


def ask_replace(
    order: Order, terms: ReplaceTerms, *, time_ns: int, request_id: str = "", trace_id: str = ""
) -> Outcome:
    """Record that we ask for other terms.

    Raises:
        ValueError: The order is closed, or another command is pending.
    """
    if not order.is_open or order.pending is not None:
        raise ValueError(f"order {order.order_id} is {order.ord_status}, pending {order.pending}")
    steps = Changes(
        order,
        time_ns=time_ns,
        command=CommandKind.REPLACE,
        request_id=request_id,
        trace_id=trace_id,
    )
    steps.change(
        pending=CommandKind.REPLACE, pending_terms=terms, ord_status=OrdStatus.PENDING_REPLACE
    )
    steps.add(EventType.PENDING_REPLACE)
    return steps.outcome


def put_in_doubt(
    order: Order,
    command: CommandKind,
    *,
    why: str,
    time_ns: int,
    request_id: str = "",
    trace_id: str = "",
) -> Outcome:
    """Record that nobody knows what became of a command.

    A closed order, a known doubt, and a replace that was decided meanwhile stay as they are. An order that
    the venue acknowledged can be put in doubt again, because a venue may forget: it is for the caller to know
    whether an acknowledgement has overtaken the silence.
    """
    if (
        not order.is_open
        or any(doubt.command is command for doubt in order.in_doubt)
        or (command is CommandKind.REPLACE and order.pending_terms is None)
    ):
        return order, ()
    steps = Changes(
        order,
        time_ns=time_ns,
        command=command,
        text=why,
        request_id=request_id,
        trace_id=trace_id,
    )
    doubt = InDoubt(command=command, since_ns=time_ns, why=why)
    steps.change(in_doubt=(*order.in_doubt, doubt))
    steps.add(EventType.SENT_UNANSWERED)
    return steps.outcome
