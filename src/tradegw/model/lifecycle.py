"""The life of an order, as pure functions.

`apply` takes what a venue says; `ask_cancel`, `ask_replace` and `put_in_doubt` take what we do. Each returns
the order as it then stands and the events that say what changed; nothing changed means no events.

The rules are those of docs/explanation/orders.md:

- While an order is open, `cum_qty + leaves_qty == order_qty` (quote-sized market orders excepted).
- A report seen again changes nothing. More filled than ordered is recorded, never dropped.
- Closings by the venue's report or by complete fills are final: a late acknowledgement reopens nothing, and a
  late fill counts. Closings by proof of absence or by an operator are revisable: any later report of the
  venue reopens the order.
- A closing report that counts more fills than we have seen closes nothing: the fills come first, so that
  whoever sees the order closed sees all of it (`is_missing_fills`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Final

from tradegw.model.enums import (
    CommandKind,
    EventType,
    EvidenceKind,
    ExecType,
    OrdStatus,
)
from tradegw.model.ids import TradeId
from tradegw.model.numbers import CONTEXT, ZERO, average
from tradegw.model.orders import Fill, InDoubt, Order, ReplaceTerms
from tradegw.model.reports import Evidence, ExecutionReport, OrderEvent

__all__ = [
    "apply",
    "ask_cancel",
    "ask_replace",
    "is_missing_fills",
    "put_in_doubt",
    "record_intent",
]

Outcome = tuple[Order, tuple[OrderEvent, ...]]


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
    steps = _Steps(order, report)
    if not order.is_open and not _reopens(order, report):
        if report.exec_type is ExecType.TRADE:
            _trade(steps)
        return steps.outcome
    if not order.is_open:
        steps.reopen()
    _HANDLERS[report.exec_type](steps)
    if not steps.order.is_open:
        steps.settle(*CommandKind)
    return steps.outcome


def is_missing_fills(order: Order, report: ExecutionReport) -> bool:
    """Whether the venue counts more filled than the fills that we have seen."""
    # A fill of its own is not in our count yet, and is in the venue's.
    own = ZERO
    if report.exec_type is ExecType.TRADE and report.trade_id not in order.trade_ids:
        own = report.last_qty or ZERO
    if report.cum_qty is not None:
        return report.cum_qty > CONTEXT.add(order.cum_qty, own)
    return (
        report.ord_status is OrdStatus.FILLED
        and order.order_qty is not None
        and order.order_qty > CONTEXT.add(order.cum_qty, own)
    )


def record_intent(order: Order, *, request_id: str = "", trace_id: str = "") -> Outcome:
    """Return a new order with the event that stores it, before any byte leaves."""
    return order, (
        OrderEvent(
            event_type=EventType.INTENT,
            account=order.account,
            time_ns=order.created_time_ns,
            order_id=order.order_id,
            order=order,
            command=CommandKind.NEW,
            request_id=request_id,
            trace_id=trace_id,
        ),
    )


def ask_cancel(order: Order, *, time_ns: int, request_id: str = "", trace_id: str = "") -> Outcome:
    """Record that we ask for a cancel. It overtakes a pending replace.

    Raises:
        ValueError: The order is closed.
    """
    if not order.is_open:
        raise ValueError(f"order {order.order_id} is closed ({order.ord_status})")
    asked = replace(
        order,
        pending=CommandKind.CANCEL,
        ord_status=OrdStatus.PENDING_CANCEL,
        updated_time_ns=time_ns,
    )
    return _asked(
        asked, EventType.PENDING_CANCEL, CommandKind.CANCEL, time_ns, request_id, trace_id
    )


def ask_replace(
    order: Order, terms: ReplaceTerms, *, time_ns: int, request_id: str = "", trace_id: str = ""
) -> Outcome:
    """Record that we ask for other terms.

    Raises:
        ValueError: The order is closed, or another command is pending.
    """
    if not order.is_open or order.pending is not None:
        raise ValueError(f"order {order.order_id} is {order.ord_status}, pending {order.pending}")
    asked = replace(
        order,
        pending=CommandKind.REPLACE,
        pending_terms=terms,
        ord_status=OrdStatus.PENDING_REPLACE,
        updated_time_ns=time_ns,
    )
    return _asked(
        asked, EventType.PENDING_REPLACE, CommandKind.REPLACE, time_ns, request_id, trace_id
    )


def put_in_doubt(
    order: Order,
    command: CommandKind,
    *,
    why: str,
    time_ns: int,
    request_id: str = "",
    trace_id: str = "",
) -> Outcome:
    """Record that nobody knows what became of a command. A closed order, or a known doubt, stays as it is."""
    if not order.is_open or any(doubt.command is command for doubt in order.in_doubt):
        return order, ()
    doubtful = replace(
        order,
        in_doubt=(*order.in_doubt, InDoubt(command=command, since_ns=time_ns, why=why)),
        updated_time_ns=time_ns,
    )
    return doubtful, (
        OrderEvent(
            event_type=EventType.SENT_UNANSWERED,
            account=order.account,
            time_ns=time_ns,
            order_id=order.order_id,
            order=doubtful,
            command=command,
            text=why,
            request_id=request_id,
            trace_id=trace_id,
        ),
    )


def _asked(
    order: Order,
    event_type: EventType,
    command: CommandKind,
    time_ns: int,
    request_id: str,
    trace_id: str,
) -> Outcome:
    event = OrderEvent(
        event_type=event_type,
        account=order.account,
        time_ns=time_ns,
        order_id=order.order_id,
        order=order,
        command=command,
        request_id=request_id,
        trace_id=trace_id,
    )
    return order, (event,)


class _Steps:
    """The order as it changes under one report, and the events so far."""

    def __init__(self, order: Order, report: ExecutionReport) -> None:
        self.order = order
        self.report = report
        self.was_closed = not order.is_open
        self._events: list[OrderEvent] = []

    @property
    def outcome(self) -> Outcome:
        return self.order, tuple(self._events)

    @property
    def evidence(self) -> Evidence:
        if self.report.evidence is not None:
            return self.report.evidence
        is_fill = self.report.exec_type is ExecType.TRADE
        return _FILL if is_fill else _VENUE_REPORT

    def add(
        self,
        event_type: EventType,
        order: Order,
        *,
        fill: Fill | None = None,
        command: CommandKind | None = None,
    ) -> None:
        report = self.report
        self.order = order
        self._events.append(
            OrderEvent(
                event_type=event_type,
                account=order.account,
                time_ns=report.received_time_ns,
                order_id=order.order_id,
                order=order,
                fill=fill,
                command=command if command is not None else report.command,
                reason=report.reason,
                text=report.text,
                evidence=self.evidence,
                late=self.was_closed,
                transact_time_ns=report.transact_time_ns,
            )
        )

    def heard(self) -> Order:
        """Return the order with what any report of the venue proves: it was there."""
        order, report = self.order, self.report
        if order.acknowledged and (
            order.venue_order_id is not None or report.venue_order_id is None
        ):
            return order
        return replace(
            order,
            acknowledged=True,
            venue_order_id=order.venue_order_id or report.venue_order_id,
        )

    def settle(self, *commands: CommandKind) -> None:
        """Take the commands out of doubt, with an event for each that was in it."""
        for doubt in self.order.in_doubt:
            if doubt.command in commands:
                left = tuple(d for d in self.order.in_doubt if d is not doubt)
                order = replace(
                    self.order, in_doubt=left, updated_time_ns=self.report.received_time_ns
                )
                self.add(EventType.DOUBT_RESOLVED, order, command=doubt.command)

    def reopen(self) -> None:
        order = replace(
            self.order,
            closed_by=None,
            closed_time_ns=None,
            reason="",
            text="",
            acknowledged=True,
            venue_order_id=self.order.venue_order_id or self.report.venue_order_id,
        )
        self.add(EventType.REVIVED, self.standing(order))
        self.was_closed = False

    def close(self, order: Order, status: OrdStatus, event_type: EventType) -> None:
        report = self.report
        order = replace(
            order,
            ord_status=status,
            leaves_qty=ZERO,
            pending=None,
            pending_terms=None,
            reason=report.reason,
            text=report.text,
            closed_by=self.evidence.kind,
            closed_time_ns=report.received_time_ns,
            updated_time_ns=report.received_time_ns,
        )
        self.add(event_type, order)

    def recompute(self, order: Order) -> Order:
        """Return the order with its quantities and status recomputed, closed if it is complete."""
        order = self.standing(order)
        # A pending replace may have raised the quantity at the venue already.
        raising = (
            order.pending_terms is not None
            and order.pending_terms.order_qty is not None
            and order.order_qty is not None
            and order.pending_terms.order_qty > order.order_qty
        )
        if order.order_qty is None or order.cum_qty < order.order_qty or raising:
            return order
        return replace(
            order,
            ord_status=OrdStatus.FILLED,
            pending=None,
            pending_terms=None,
            reason="",
            text="",
            closed_by=EvidenceKind.FILL,
            closed_time_ns=self.report.received_time_ns,
        )

    def standing(self, order: Order) -> Order:
        """Return the order with `leaves_qty` and the status of an open order recomputed."""
        leaves = (
            ZERO
            if order.order_qty is None
            else max(ZERO, CONTEXT.subtract(order.order_qty, order.cum_qty))
        )
        if order.pending is CommandKind.CANCEL:
            status = OrdStatus.PENDING_CANCEL
        elif order.pending is CommandKind.REPLACE:
            status = OrdStatus.PENDING_REPLACE
        elif order.cum_qty:
            status = OrdStatus.PARTIALLY_FILLED
        else:
            status = OrdStatus.NEW if order.acknowledged else OrdStatus.PENDING_NEW
        return replace(
            order,
            leaves_qty=leaves,
            ord_status=status,
            updated_time_ns=self.report.received_time_ns,
        )


_VENUE_REPORT: Final = Evidence(kind=EvidenceKind.VENUE_REPORT)
_FILL: Final = Evidence(kind=EvidenceKind.FILL)


def _reopens(order: Order, report: ExecutionReport) -> bool:
    from_venue = report.evidence is None or report.evidence.kind in (
        EvidenceKind.VENUE_REPORT,
        EvidenceKind.FILL,
    )
    # The venue refusing a cancel of an order that we closed says nothing of its being there.
    says_it_exists = report.exec_type not in (
        ExecType.CANCEL_REJECTED,
        ExecType.REPLACE_REJECTED,
    )
    return (
        from_venue
        and says_it_exists
        and order.closed_by is not None
        and order.closed_by.is_revisable
        and not (report.exec_type is ExecType.TRADE and report.trade_id in order.trade_ids)
    )


def _acknowledge(steps: _Steps) -> None:
    before = steps.order
    order = steps.heard()
    if order is not before:
        steps.add(EventType.NEW, steps.standing(order))
    steps.settle(CommandKind.NEW)


def _trigger(steps: _Steps) -> None:
    if steps.order.triggered:
        _acknowledge(steps)
        return
    steps.add(EventType.TRIGGERED, steps.standing(replace(steps.heard(), triggered=True)))
    steps.settle(CommandKind.NEW)


def _trade(steps: _Steps) -> None:
    report = steps.report
    if report.trade_id is None or report.last_qty is None or report.last_px is None:
        raise ValueError(
            "a trade needs trade_id, last_qty and last_px; found "
            f"{report.trade_id!r}, {report.last_qty}, {report.last_px}"
        )
    if report.last_qty <= ZERO:
        raise ValueError(f"a trade needs a positive last_qty; found {report.last_qty}")
    if report.trade_id in steps.order.trade_ids:
        return
    if not report.inferred:
        _take_back_inferred(steps, report.trade_id, report.last_qty)
    order = _count(
        replace(steps.heard(), triggered=True), report.trade_id, report.last_qty, report.last_px
    )
    if report.inferred:
        entry = (report.trade_id, report.last_qty, report.last_px)
        order = replace(order, inferred=(*order.inferred, entry))
    if not steps.was_closed:
        order = steps.recompute(order)
    elif order.order_qty is not None and order.cum_qty >= order.order_qty:
        order = replace(order, ord_status=OrdStatus.FILLED, closed_by=EvidenceKind.FILL, reason="")
    fill = _fill(order, report, report.trade_id, report.last_qty, report.last_px)
    steps.add(EventType.TRADE, order, fill=fill)
    steps.settle(CommandKind.NEW)
    if order.order_qty is not None and order.cum_qty > order.order_qty:
        steps.add(EventType.OVERFILL, steps.order)


def _take_back_inferred(steps: _Steps, trade_id: TradeId, last_qty: Decimal) -> None:
    """Correct as much inferred quantity as the real fill brings, oldest first."""
    left = last_qty
    for entry in steps.order.inferred:
        inferred_id, inferred_left, px = entry
        qty = min(left, inferred_left)
        if not qty:
            break
        left = CONTEXT.subtract(left, qty)
        rest = tuple(
            (i, CONTEXT.subtract(q, qty), p) if i == inferred_id else (i, q, p)
            for i, q, p in steps.order.inferred
        )
        correction_id = TradeId(f"{inferred_id}/{trade_id}")
        order = _count(steps.order, correction_id, -qty, px)
        order = replace(order, inferred=tuple(e for e in rest if e[1]))
        fill = replace(
            _fill(order, steps.report, correction_id, -qty, px),
            inferred=True,
            corrects=inferred_id,
            fee=None,
            fee_asset=None,
        )
        steps.add(EventType.TRADE_CORRECT, order, fill=fill)


def _count(order: Order, trade_id: TradeId, qty: Decimal, px: Decimal) -> Order:
    cum_qty = CONTEXT.add(order.cum_qty, qty)
    cum_quote = CONTEXT.add(order.cum_quote, CONTEXT.multiply(qty, px))
    leaves = order.leaves_qty
    if order.order_qty is not None and order.is_open:
        leaves = max(ZERO, CONTEXT.subtract(order.order_qty, cum_qty))
    return replace(
        order,
        cum_qty=cum_qty,
        cum_quote=cum_quote,
        leaves_qty=leaves,
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
        venue_order_id=order.venue_order_id,
        fee=report.fee,
        fee_asset=report.fee_asset,
        liquidity=report.liquidity,
        inferred=report.inferred,
        transact_time_ns=report.transact_time_ns,
        received_time_ns=report.received_time_ns,
    )


def _cancel(steps: _Steps) -> None:
    if not steps.report.final:
        if steps.order.ord_status is OrdStatus.PENDING_CANCEL and steps.order.acknowledged:
            return
        order = replace(steps.heard(), pending=CommandKind.CANCEL)
        steps.add(EventType.PENDING_CANCEL, steps.standing(order))
        steps.settle(CommandKind.NEW)
        return
    _close(steps, OrdStatus.CANCELED, EventType.CANCELED)


def _expire(steps: _Steps) -> None:
    _close(steps, OrdStatus.EXPIRED, EventType.EXPIRED)


def _reject(steps: _Steps) -> None:
    order, kind = steps.order, steps.evidence.kind
    if kind in (EvidenceKind.ABSENT_AFTER_EXPIRY, EvidenceKind.NOT_SENT) and (
        order.acknowledged or order.cum_qty
    ):
        raise ValueError(f"order {order.order_id} was seen at the venue; it cannot be {kind}")
    if order.cum_qty:
        # What was filled stays filled, so "rejected" would hide it.
        _close(steps, OrdStatus.CANCELED, EventType.CANCELED)
        return
    # A refusal is no proof that the venue ever held the order.
    _close(steps, OrdStatus.REJECTED, EventType.REJECTED)


def _close(steps: _Steps, status: OrdStatus, event_type: EventType) -> None:
    if is_missing_fills(steps.order, steps.report):
        _acknowledge(steps)
        return
    is_heard = steps.evidence.kind is EvidenceKind.VENUE_REPORT and status is not OrdStatus.REJECTED
    steps.close(steps.heard() if is_heard else steps.order, status, event_type)


def _replaced(steps: _Steps) -> None:
    order, report = steps.order, steps.report
    terms = order.pending_terms or ReplaceTerms()
    order_qty = report.order_qty or terms.order_qty or order.order_qty
    price = report.price or terms.price or order.price
    trigger_price = report.trigger_price or terms.trigger_price or order.trigger_price
    unchanged = (order_qty, price, trigger_price) == (
        order.order_qty,
        order.price,
        order.trigger_price,
    )
    if unchanged and order.pending_terms is None:
        _acknowledge(steps)
        return
    order = replace(
        steps.heard(),
        order_qty=order_qty,
        price=price,
        trigger_price=trigger_price,
        pending_terms=None,
        # A cancel that overtook the replace is still pending.
        pending=None if order.pending is CommandKind.REPLACE else order.pending,
    )
    steps.add(EventType.REPLACED, steps.recompute(order))
    steps.settle(CommandKind.NEW, CommandKind.REPLACE)


def _command_rejected(command: CommandKind, event_type: EventType) -> Callable[[_Steps], None]:
    def handle(steps: _Steps) -> None:
        order = steps.order
        is_doubted = any(doubt.command is command for doubt in order.in_doubt)
        is_pending = order.pending is command or (
            command is CommandKind.REPLACE and order.pending_terms is not None
        )
        if not is_pending and not is_doubted:
            return
        # Recomputed from the quantities: what the status was before we asked may be long past.
        order = replace(
            order,
            pending=None if order.pending is command else order.pending,
            pending_terms=None if command is CommandKind.REPLACE else order.pending_terms,
        )
        if order.pending is None and order.pending_terms is not None:
            order = replace(order, pending=CommandKind.REPLACE)
        steps.add(event_type, steps.recompute(order), command=command)
        steps.settle(command)

    return handle


def _status(steps: _Steps) -> None:
    """Apply the answer to a query: the state there, without the story of how it came about."""
    order, report = steps.order, steps.report
    match report.ord_status:
        case OrdStatus.CANCELED:
            _cancel(steps)
        case OrdStatus.EXPIRED:
            _expire(steps)
        case OrdStatus.REJECTED:
            _reject(steps)
        case OrdStatus.FILLED:
            _close(steps, OrdStatus.FILLED, EventType.FILLED)
        case OrdStatus.PENDING_CANCEL:
            steps.report = replace(report, final=False)
            _cancel(steps)
        case _:
            if order.pending_terms is not None and _shows(report, order.pending_terms):
                _replaced(steps)
            elif report.triggered and not order.triggered:
                _trigger(steps)
            else:
                _acknowledge(steps)


def _shows(report: ExecutionReport, terms: ReplaceTerms) -> bool:
    """Whether the venue reports every term that the replace asked for."""
    asked = (
        (terms.order_qty, report.order_qty),
        (terms.price, report.price),
        (terms.trigger_price, report.trigger_price),
    )
    return all(want is None or want == found for want, found in asked)


_HANDLERS: Final[dict[ExecType, Callable[[_Steps], None]]] = {
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
