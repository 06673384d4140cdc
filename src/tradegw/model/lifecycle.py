"""The life of an order, as pure functions.

`apply` takes what a venue says; `ask_cancel`, `ask_replace` and `put_in_doubt` take what we do. Each returns
the order as it then stands and the events that say what changed; nothing changed means no events.

The rules are those of docs/explanation/orders.md:

- While an order is open, `cum_qty + leaves_qty == order_qty`. Excepted are quote-sized market orders, and an
  order filled beyond `order_qty` while a replace that raises it awaits its answer: it has no leaves.
- A report seen again changes nothing. More filled than ordered is recorded, never dropped.
- Closings by the venue's report or by complete fills are final: a late acknowledgement reopens nothing, a
  late fill counts, and the late answer to a replace tells under which terms the order ended. Closings without
  a word of the venue's, because the order was never sent, is proven absent or an operator said so, are
  revisable: any later report of the venue reopens the order.
- A closing report that counts more fills than we have seen closes nothing: the fills come first, so that
  whoever sees the order closed sees all of it (`is_missing_fills`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Final

from tradegw.model.asks import ask_cancel, ask_replace, dequeue, put_in_doubt, record_intent
from tradegw.model.changes import Changes, Outcome
from tradegw.model.enums import (
    CommandKind,
    EventType,
    EvidenceKind,
    ExecType,
    OrdStatus,
    Origin,
)
from tradegw.model.ids import TradeId
from tradegw.model.numbers import CONTEXT, ZERO, average
from tradegw.model.orders import Fill, Order, ReplaceTerms
from tradegw.model.reports import Evidence, ExecutionReport

__all__ = [
    "Outcome",
    "apply",
    "ask_cancel",
    "ask_replace",
    "dequeue",
    "is_missing_fills",
    "put_in_doubt",
    "record_intent",
]


def apply(order: Order, report: ExecutionReport) -> Outcome:
    """Apply one report to the order as it stands.

    Args:
        report: What the venue, or the engine on evidence, says. `received_time_ns` dates the events.

    Returns:
        The order afterwards, and its events in order; both unchanged and empty when the report says
        nothing new.

    Raises:
        ValueError: The report contradicts itself, such as a trade without quantity, or absence claimed of
            an order that the venue acknowledged.
    """
    evidence = report.evidence
    if evidence is None:
        evidence = _FILL if report.exec_type is ExecType.TRADE else _VENUE_REPORT
    was_open = order.is_open
    reopens = not was_open and _reopens(order, report, evidence)
    late = not was_open and not reopens
    if late and report.exec_type is not ExecType.TRADE and not _tells_terms(order, report):
        return order, ()
    steps = Changes(
        order,
        time_ns=report.received_time_ns,
        transact_time_ns=report.transact_time_ns,
        command=report.command,
        evidence=evidence,
        late=late,
        reason=report.reason,
        text=report.text,
    )
    if reopens:
        _reopen(steps, report)
    if steps.order.is_open or report.exec_type is ExecType.TRADE:
        _HANDLERS[report.exec_type](steps, report)
    elif late:
        _replaced_before_the_end(steps, report)
    now = steps.order
    if _is_overfilled(now) and (now.cum_qty > order.cum_qty or not _is_overfilled(order)):
        steps.add(EventType.OVERFILL)
    return steps.outcome


def is_missing_fills(order: Order, report: ExecutionReport) -> bool:
    """Whether the venue counts more filled than we shall have seen once the report is applied."""
    counted = order.cum_qty
    if report.exec_type is ExecType.TRADE and report.trade_id not in order.trade_ids:
        # A fill of its own is not in our count yet, and is in the venue's. It consumes what was inferred.
        own = report.last_qty or ZERO
        if not report.inferred:
            for _, inferred_left, _ in order.inferred:
                own = CONTEXT.subtract(own, min(own, inferred_left))
        counted = CONTEXT.add(counted, own)
    if report.ord_status is OrdStatus.FILLED and counted.is_zero():
        return True
    if report.cum_qty is not None:
        return report.cum_qty > counted
    order_qty = report.order_qty or order.order_qty
    return report.ord_status is OrdStatus.FILLED and order_qty is not None and order_qty > counted


# --- what a report proves -------------------------------------------------------------------------

_VENUE_REPORT: Final = Evidence(kind=EvidenceKind.VENUE_REPORT)
_FILL: Final = Evidence(kind=EvidenceKind.FILL)

_BY_VENUE: Final = (
    EvidenceKind.VENUE_REPORT,
    EvidenceKind.FILL,
    EvidenceKind.IDEMPOTENT_RESEND,
)
"""Evidence that is the venue's own word."""


def _reopens(order: Order, report: ExecutionReport, evidence: Evidence) -> bool:
    if order.closed_by is None or not order.closed_by.is_revisable:
        return False
    # The venue refusing a cancel of an order that we closed says nothing of its being there.
    says_it_exists = report.exec_type not in (
        ExecType.CANCEL_REJECTED,
        ExecType.REPLACE_REJECTED,
    )
    is_replay = report.exec_type is ExecType.TRADE and report.trade_id in order.trade_ids
    return says_it_exists and not is_replay and evidence.kind in _BY_VENUE


def _reopen(steps: Changes, report: ExecutionReport) -> None:
    steps.change(closed_by=None, closed_time_ns=None, reason="", text="")
    is_refusal = report.exec_type is ExecType.REJECTED or report.ord_status is OrdStatus.REJECTED
    if not is_refusal or _was_held(report):
        _hear(steps, report)
    _recompute(steps)
    steps.add(EventType.REVIVED)
    steps.late = not steps.order.is_open


def _was_held(report: ExecutionReport) -> bool:
    """Whether a refusal proves that the venue held the order: it gave it a name, or counts fills of it."""
    return report.venue_order_id is not None or bool(report.cum_qty)


def _hear(steps: Changes, report: ExecutionReport) -> bool:
    """Note what a report of the venue proves: it holds the order. Returns whether that is news."""
    order = steps.order
    is_news = not order.acknowledged
    if is_news:
        steps.change(acknowledged=True)
    if order.venue_order_id is None and report.venue_order_id is not None:
        steps.change(venue_order_id=report.venue_order_id)
        is_news = True
    return is_news


def _is_overfilled(order: Order) -> bool:
    return (
        order.order_qty is not None
        and order.cum_qty > order.order_qty
        and not _may_be_raised(order)
    )


def _may_be_raised(order: Order) -> bool:
    """Whether a pending replace may have raised the quantity at the venue already."""
    terms = order.pending_terms
    return (
        order.is_open
        and terms is not None
        and terms.order_qty is not None
        and order.order_qty is not None
        and terms.order_qty > order.order_qty
    )


# --- where that leaves the order ------------------------------------------------------------------


def _stand(steps: Changes) -> None:
    """Derive `leaves_qty` and the status of an open order from the rest of it."""
    order = steps.order
    if order.pending is CommandKind.CANCEL:
        status = OrdStatus.PENDING_CANCEL
    elif order.pending is CommandKind.REPLACE:
        status = OrdStatus.PENDING_REPLACE
    elif order.cum_qty:
        status = OrdStatus.PARTIALLY_FILLED
    else:
        status = OrdStatus.NEW if order.acknowledged else OrdStatus.PENDING_NEW
    leaves = ZERO
    if order.order_qty is not None and order.order_qty > order.cum_qty:
        leaves = CONTEXT.subtract(order.order_qty, order.cum_qty)
    steps.change(leaves_qty=leaves, ord_status=status)


def _recompute(steps: Changes) -> None:
    """Derive the status of an open order, and close it if it is complete."""
    order = steps.order
    if (
        order.order_qty is None
        or order.cum_qty < order.order_qty
        # More may be coming: only the answer to the replace says whether this is all.
        or _may_be_raised(order)
    ):
        _stand(steps)
    else:
        _end(steps, OrdStatus.FILLED, EvidenceKind.FILL)


def _end(
    steps: Changes, status: OrdStatus, closed_by: EvidenceKind, reason: str = "", text: str = ""
) -> None:
    steps.change(
        ord_status=status,
        leaves_qty=ZERO,
        pending=None,
        # The answer of the replace that had none may still come, unless the order may be reopened.
        pending_terms=None if closed_by.is_revisable else steps.order.pending_terms,
        queued=False,
        reason=reason,
        text=text,
        closed_by=closed_by,
        closed_time_ns=steps.time_ns,
    )


# --- one handler for each kind of report ----------------------------------------------------------


def _acknowledge(steps: Changes, report: ExecutionReport) -> None:
    if _hear(steps, report):
        _stand(steps)
        steps.add(EventType.NEW)
    steps.settle(CommandKind.NEW)


def _trigger(steps: Changes, report: ExecutionReport) -> None:
    if steps.order.triggered:
        _acknowledge(steps, report)
        return
    _hear(steps, report)
    steps.change(triggered=True)
    _stand(steps)
    steps.add(EventType.TRIGGERED)
    steps.settle(CommandKind.NEW)


def _trade(steps: Changes, report: ExecutionReport) -> None:
    trade_id, last_qty, last_px = report.trade_id, report.last_qty, report.last_px
    if trade_id is None or last_qty is None or last_px is None:
        raise ValueError(
            f"a trade needs trade_id, last_qty and last_px; found {trade_id!r}, {last_qty}, {last_px}"
        )
    if not last_qty.is_finite() or last_qty <= ZERO or not last_px.is_finite():
        raise ValueError(
            "a trade needs a positive finite last_qty and a finite last_px; "
            f"found {last_qty}, {last_px}"
        )
    order = steps.order
    if trade_id in order.trade_ids:
        return
    if report.inferred:
        if report.cum_qty is not None and CONTEXT.add(order.cum_qty, last_qty) != report.cum_qty:
            # Inferred from a count that fills have moved since: adding it would count them twice.
            return
    elif order.inferred:
        _take_back_inferred(steps, report, trade_id, last_qty)
    _hear(steps, report)
    _count(steps, trade_id, last_qty, last_px)
    steps.change(triggered=True)
    if report.inferred:
        steps.change(inferred=(*order.inferred, (trade_id, last_qty, last_px)))
    order = steps.order
    if not steps.late:
        _recompute(steps)
    elif order.order_qty is not None and order.cum_qty >= order.order_qty:
        steps.change(ord_status=OrdStatus.FILLED, closed_by=EvidenceKind.FILL, reason="", text="")
    elif order.ord_status is OrdStatus.REJECTED:
        # What was filled stays filled, and "rejected" would hide it.
        steps.change(ord_status=OrdStatus.CANCELED)
    steps.add(EventType.TRADE, fill=_fill(steps.order, report, trade_id, last_qty, last_px))
    steps.settle(CommandKind.NEW)
    if (
        steps.order.is_open
        and report.ord_status is OrdStatus.FILLED
        and not is_missing_fills(steps.order, report)
    ):
        if _was_replaced(steps.order, report):
            _replaced(steps, report)
        if steps.order.is_open:
            # Only the venue knows when a quote-sized order is complete.
            _close(steps, report, OrdStatus.FILLED, EventType.FILLED)


def _take_back_inferred(
    steps: Changes, report: ExecutionReport, trade_id: TradeId, last_qty: Decimal
) -> None:
    """Correct as much inferred quantity as the real fill brings, oldest first."""
    left = last_qty
    for inferred_id, inferred_left, px in steps.order.inferred:
        qty = min(left, inferred_left)
        if not qty:
            break
        left = CONTEXT.subtract(left, qty)
        rest = tuple(
            (i, CONTEXT.subtract(q, qty), p) if i == inferred_id else (i, q, p)
            for i, q, p in steps.order.inferred
        )
        correction_id = TradeId(f"{inferred_id}/{trade_id}")
        taken = qty.copy_negate()
        _count(steps, correction_id, taken, px)
        steps.change(inferred=tuple(entry for entry in rest if entry[1]))
        if not steps.late:
            _stand(steps)
        fill = replace(
            _fill(steps.order, report, correction_id, taken, px),
            inferred=True,
            corrects=inferred_id,
            fee=None,
            fee_asset=None,
        )
        steps.add(EventType.TRADE_CORRECT, fill=fill)


def _count(steps: Changes, trade_id: TradeId, qty: Decimal, px: Decimal) -> None:
    order = steps.order
    cum_qty = CONTEXT.add(order.cum_qty, qty)
    cum_quote = CONTEXT.add(order.cum_quote, CONTEXT.multiply(qty, px))
    steps.change(
        cum_qty=cum_qty,
        cum_quote=cum_quote,
        avg_px=average(cum_quote, cum_qty),
        trade_ids=order.trade_ids | {trade_id},
    )


def _fill(
    order: Order, report: ExecutionReport, trade_id: TradeId, qty: Decimal, px: Decimal
) -> Fill:
    return Fill(
        trade_id=trade_id,
        account=order.account,
        venue=order.venue,
        symbol=order.symbol,
        side=order.side,
        last_qty=qty,
        last_px=px,
        order_id=order.order_id,
        client_order_id=order.client_order_id,
        # An order replaced by another at the venue still gets fills of the one before.
        venue_order_id=report.venue_order_id or order.venue_order_id,
        fee=report.fee,
        fee_asset=report.fee_asset,
        liquidity=report.liquidity,
        inferred=report.inferred,
        transact_time_ns=report.transact_time_ns,
        received_time_ns=report.received_time_ns,
    )


def _cancel(steps: Changes, report: ExecutionReport) -> None:
    _finish(steps, report, OrdStatus.CANCELED, EventType.CANCELED)


def _expire(steps: Changes, report: ExecutionReport) -> None:
    _finish(steps, report, OrdStatus.EXPIRED, EventType.EXPIRED)


def _finish(
    steps: Changes, report: ExecutionReport, status: OrdStatus, event_type: EventType
) -> None:
    terms = steps.order.pending_terms
    if report.final and terms is not None and _shows(report, terms):
        # The replace that this end overtook, or whose answer was lost: the venue had taken it.
        _replaced(steps, report)
        if not steps.order.is_open:
            return
    if report.final:
        _close(steps, report, status, event_type)
    elif steps.order.pending is CommandKind.CANCEL:
        _acknowledge(steps, report)
    else:
        _hear(steps, report)
        steps.change(pending=CommandKind.CANCEL)
        _stand(steps)
        steps.add(EventType.PENDING_CANCEL)
        steps.settle(CommandKind.NEW)


def _reject(steps: Changes, report: ExecutionReport) -> None:
    if _kind(steps) is EvidenceKind.NOT_SENT and steps.order.acknowledged:
        raise ValueError(
            f"order {steps.order.order_id} was seen at the venue; it cannot be NOT_SENT"
        )
    if not report.final:
        return
    if steps.order.cum_qty:
        # What was filled stays filled, so "rejected" would hide it.
        _close(steps, report, OrdStatus.CANCELED, EventType.CANCELED)
    else:
        _close(steps, report, OrdStatus.REJECTED, EventType.REJECTED)


def _close(
    steps: Changes, report: ExecutionReport, status: OrdStatus, event_type: EventType
) -> None:
    kind = _kind(steps)
    if kind is EvidenceKind.ABSENT_AFTER_EXPIRY and steps.order.acknowledged:
        raise ValueError(
            f"order {steps.order.order_id} was seen at the venue; its absence proves nothing"
        )
    if not report.final or is_missing_fills(steps.order, report):
        if kind in _BY_VENUE:
            _acknowledge(steps, report)
        return
    if kind in _BY_VENUE and (status is not OrdStatus.REJECTED or _was_held(report)):
        _hear(steps, report)
    _end(steps, status, kind, report.reason, report.text)
    steps.add(event_type)


def _kind(steps: Changes) -> EvidenceKind:
    assert steps.evidence is not None
    return steps.evidence.kind


def _replaced(steps: Changes, report: ExecutionReport) -> None:
    order, asked = steps.order, steps.order.pending_terms
    terms = asked or ReplaceTerms()
    if asked and report.command is not CommandKind.REPLACE and not _agrees(report, asked):
        # An earlier replace, seen again. The pending one still awaits its answer.
        _acknowledge(steps, report)
        return
    order_qty = report.order_qty or terms.order_qty or order.order_qty
    price = report.price or terms.price or order.price
    trigger_price = report.trigger_price or terms.trigger_price or order.trigger_price
    if (
        asked is None
        and order.origin is Origin.GATEWAY
        and order.order_qty is not None
        and order_qty is not None
    ):
        # Nobody here asked for it now: it may be an old one seen again, and to shrink on that could count a
        # live order as complete. Terms that are known to be the latest may, but not below what is filled.
        may_shrink = report.terms_final and order_qty > order.cum_qty
        order_qty = order_qty if may_shrink else max(order_qty, order.order_qty)
    told, known = (
        (order_qty, price, trigger_price),
        (
            order.order_qty,
            order.price,
            order.trigger_price,
        ),
    )
    if asked is None and told == known:
        _acknowledge(steps, report)
        return
    _hear(steps, report)
    steps.change(
        order_qty=order_qty,
        price=price,
        trigger_price=trigger_price,
        pending_terms=None,
        # A cancel that overtook the replace is still pending.
        pending=None if order.pending is CommandKind.REPLACE else order.pending,
        # Some venues give the new terms a new id.
        venue_order_id=report.venue_order_id or order.venue_order_id,
    )
    _recompute(steps)
    steps.add(EventType.REPLACED)
    steps.settle(CommandKind.NEW, CommandKind.REPLACE)


def _tells_terms(order: Order, report: ExecutionReport) -> bool:
    """Whether a report tells of the replace that had no answer yet when the venue closed the order."""
    terms = order.pending_terms
    if terms is None:
        return False
    if report.exec_type is ExecType.ORDER_STATUS:
        # Terms that the order has anyway say nothing of what became of the replace.
        return _shows(report, terms) and _changes(order, terms)
    return (
        report.exec_type is ExecType.REPLACED
        and report.command is CommandKind.REPLACE
        and _agrees(report, terms)
    )


def _changes(order: Order, terms: ReplaceTerms) -> bool:
    """Whether a replace asks for other terms than the order has."""
    asked = (terms.order_qty, terms.price, terms.trigger_price)
    had = (order.order_qty, order.price, order.trigger_price)
    return any(want not in (None, has) for want, has in zip(asked, had, strict=True))


def _replaced_before_the_end(steps: Changes, report: ExecutionReport) -> None:
    """Take over the terms under which a closed order ended; its status and fills are what they are."""
    order, terms = steps.order, steps.order.pending_terms
    assert terms is not None
    order_qty = report.order_qty or terms.order_qty or order.order_qty
    is_filled = order.ord_status is OrdStatus.FILLED
    if order_qty is None or order_qty < order.cum_qty or (is_filled and order_qty > order.cum_qty):
        order_qty = order.order_qty
    _hear(steps, report)
    steps.change(
        order_qty=order_qty,
        price=report.price or terms.price or order.price,
        trigger_price=report.trigger_price or terms.trigger_price or order.trigger_price,
        pending_terms=None,
        venue_order_id=report.venue_order_id or order.venue_order_id,
    )
    steps.add(EventType.REPLACED)


def _command_rejected(
    command: CommandKind, event_type: EventType
) -> Callable[[Changes, ExecutionReport], None]:
    def handle(steps: Changes, report: ExecutionReport) -> None:
        order = steps.order
        is_doubted = any(doubt.command is command for doubt in order.in_doubt)
        is_pending = order.pending is command or (
            command is CommandKind.REPLACE and order.pending_terms is not None
        )
        if not is_pending and not is_doubted:
            return
        terms = None if command is CommandKind.REPLACE else order.pending_terms
        pending = None if order.pending is command else order.pending
        if pending is None and terms is not None:
            # The replace that the cancel overtook.
            pending = CommandKind.REPLACE
        # A cancel that waits here goes on waiting when the replace that it overtook is refused.
        queued = order.queued and pending is order.pending
        steps.change(pending=pending, pending_terms=terms, queued=queued)
        # Recomputed from the quantities: what the status was before we asked may be long past.
        _recompute(steps)
        steps.add(event_type, command=command)
        steps.settle(command)

    return handle


def _status(steps: Changes, report: ExecutionReport) -> None:
    """Apply the answer to a query: the state there, without the story of how it came about."""
    if report.ord_status is None:
        raise ValueError("an ORDER_STATUS needs ord_status; found none")
    terms = steps.order.pending_terms
    if _was_replaced(steps.order, report):
        _replaced(steps, report)
        if not steps.order.is_open:
            return
    match report.ord_status:
        case OrdStatus.CANCELED:
            _cancel(steps, report)
        case OrdStatus.EXPIRED:
            _expire(steps, report)
        case OrdStatus.REJECTED:
            _reject(steps, report)
        case OrdStatus.FILLED:
            _close(steps, report, OrdStatus.FILLED, EventType.FILLED)
        case OrdStatus.PENDING_CANCEL:
            _cancel(steps, replace(report, final=False))
        case _:
            if report.triggered and not steps.order.triggered:
                _trigger(steps, report)
            if terms is None and steps.order.price is not None:
                # Answers of replaces that overtook each other may have left other terms here than there.
                _replaced(steps, report)
            else:
                _acknowledge(steps, report)


def _was_replaced(order: Order, report: ExecutionReport) -> bool:
    """Whether a report can only be true if the replace that has no answer yet was carried out."""
    terms = order.pending_terms
    if terms is None:
        return False
    return _shows(report, terms) or (
        # Complete, at the size that the replace asked for.
        report.ord_status is OrdStatus.FILLED
        and order.order_qty != order.cum_qty == terms.order_qty
        and _agrees(report, terms)
        and not is_missing_fills(order, report)
    )


def _shows(report: ExecutionReport, terms: ReplaceTerms) -> bool:
    """Whether the venue reports every term that the replace asked for."""
    return all(want is None or want == found for want, found in _compare(report, terms))


def _agrees(report: ExecutionReport, terms: ReplaceTerms) -> bool:
    """Whether the venue reports no term other than the replace asked for."""
    return all(None in (want, found) or want == found for want, found in _compare(report, terms))


def _compare(
    report: ExecutionReport, terms: ReplaceTerms
) -> tuple[tuple[Decimal | None, Decimal | None], ...]:
    return (
        (terms.order_qty, report.order_qty),
        (terms.price, report.price),
        (terms.trigger_price, report.trigger_price),
    )


_HANDLERS: Final[dict[ExecType, Callable[[Changes, ExecutionReport], None]]] = {
    ExecType.NEW: _acknowledge,
    ExecType.TRIGGERED: _trigger,
    ExecType.TRADE: _trade,
    ExecType.CANCELED: _cancel,
    ExecType.REJECTED: _reject,
    ExecType.EXPIRED: _expire,
    ExecType.REPLACED: _replaced,
    ExecType.CANCEL_REJECTED: _command_rejected(CommandKind.CANCEL, EventType.CANCEL_REJECTED),
    ExecType.REPLACE_REJECTED: _command_rejected(CommandKind.REPLACE, EventType.REPLACE_REJECTED),
    ExecType.ORDER_STATUS: _status,
}
