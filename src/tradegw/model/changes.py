"""An order while it changes, and the events that say how."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, TypedDict, Unpack

from tradegw.model.copying import copier, setters
from tradegw.model.enums import CommandKind, EventType, EvidenceKind, OrdStatus, Origin
from tradegw.model.ids import TradeId, VenueOrderId
from tradegw.model.orders import Fill, InDoubt, Order, ReplaceTerms
from tradegw.model.reports import Evidence, OrderEvent

__all__ = ["Changes", "OrderChange", "Outcome"]

Outcome = tuple[Order, tuple[OrderEvent, ...]]
"""An order as it then stands, and the events that say what changed; nothing changed means no events."""


class OrderChange(TypedDict, total=False):
    """What may change in the life of an order. Everything else is as it was asked for."""

    order_qty: Decimal | None
    price: Decimal | None
    trigger_price: Decimal | None
    ord_status: OrdStatus
    in_doubt: tuple[InDoubt, ...]
    reason: str
    text: str
    cum_qty: Decimal
    leaves_qty: Decimal
    cum_quote: Decimal
    avg_px: Decimal | None
    origin: Origin
    triggered: bool
    acknowledged: bool
    closed_by: EvidenceKind | None
    pending: CommandKind | None
    pending_terms: ReplaceTerms | None
    queued: bool
    venue_order_id: VenueOrderId | None
    updated_time_ns: int
    closed_time_ns: int | None
    trade_ids: frozenset[TradeId]
    inferred: tuple[tuple[TradeId, Decimal, Decimal], ...]


class Changes:
    """Collects what one report or one command does to an order.

    `change` alters the order, `add` says why in an event. Each event carries the order as it stands after it.

    Attributes:
        order: As it stands now.
        late: Whether it had closed for good before.
    """

    __slots__ = (
        "_command",
        "_events",
        "_is_draft",
        "_reason",
        "_request_id",
        "_text",
        "_trace_id",
        "_transact_time_ns",
        "evidence",
        "late",
        "order",
        "time_ns",
    )

    def __init__(
        self,
        order: Order,
        *,
        time_ns: int,
        transact_time_ns: int = 0,
        command: CommandKind | None = None,
        evidence: Evidence | None = None,
        late: bool = False,
        reason: str = "",
        text: str = "",
        request_id: str = "",
        trace_id: str = "",
    ) -> None:
        self.order = order
        self.time_ns = time_ns
        self.evidence = evidence
        self.late = late
        self._transact_time_ns = transact_time_ns
        self._command = command
        self._reason = reason
        self._text = text
        self._request_id = request_id
        self._trace_id = trace_id
        self._is_draft = False
        self._events: list[OrderEvent] = []

    @property
    def outcome(self) -> Outcome:
        """The order and its events so far. Every change was told in an event."""
        assert not self._is_draft, "a change without an event"
        return self.order, tuple(self._events)

    def change(self, **changes: Unpack[OrderChange]) -> None:
        """Alter the order. The next event tells it."""
        if not self._is_draft:
            self.order = _copy(self.order)
            self._is_draft = True
        # Nobody else holds the copy until an event carries it: one copy serves all changes of an event.
        for name, value in changes.items():
            _PUT[name](self.order, value)

    def add(
        self,
        event_type: EventType,
        *,
        fill: Fill | None = None,
        command: CommandKind | None = None,
    ) -> None:
        """Say what happened. An event that closes the order takes every command out of doubt as well."""
        decided: tuple[InDoubt, ...] = ()
        if self.order.in_doubt and not self.order.is_open:
            decided = self.order.in_doubt
            self.change(in_doubt=())
        if self._is_draft:
            self.change(updated_time_ns=self.time_ns)
            self._is_draft = False
        order = self.order
        self._events.append(
            OrderEvent(
                event_type=event_type,
                account=order.account,
                time_ns=self.time_ns,
                order_id=order.order_id,
                order=order,
                fill=fill,
                command=command if command is not None else self._command,
                reason=self._reason,
                text=self._text,
                evidence=self.evidence,
                late=self.late,
                transact_time_ns=self._transact_time_ns,
                request_id=self._request_id,
                trace_id=self._trace_id,
            )
        )
        for doubt in decided:
            self.add(EventType.DOUBT_RESOLVED, command=doubt.command)

    def settle(self, *commands: CommandKind) -> None:
        """Take the commands out of doubt, with an event for each that was in it."""
        for doubt in self.order.in_doubt:
            if doubt.command in commands:
                self.change(in_doubt=tuple(d for d in self.order.in_doubt if d is not doubt))
                self.add(EventType.DOUBT_RESOLVED, command=doubt.command)


_copy: Final = copier(Order)
_PUT: Final = setters(Order)
