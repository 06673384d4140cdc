"""What venues and the engine say about orders, and what the record keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from tradegw.model.enums import (
    CommandKind,
    EventType,
    EvidenceKind,
    ExecType,
    Liquidity,
    OrdStatus,
    Side,
)
from tradegw.model.ids import AccountName, OrderId, TradeId, VenueClientOrderId, VenueOrderId
from tradegw.model.orders import Fill, Order

__all__ = ["Balance", "Evidence", "ExecutionReport", "OrderEvent", "Position"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Why the engine believes what an event says.

    Attributes:
        detail: What was asked and answered, for people and for audits.
    """

    kind: EvidenceKind
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionReport:
    """One statement about one order, from a venue's answer, stream or query, or from the engine.

    A venue fills in what it knows and leaves out the rest.

    Attributes:
        exec_type: What happened.
        command: Which command of ours it settles, when it settles one.
        symbol: Unified symbol; needed where the order is not ours.
        ord_status: How the order stands at the venue, for `ORDER_STATUS`.
        cum_qty: Filled so far by the venue's count. A count above ours means a fill that we missed.
        trade_id: The venue's name of the fill, for `TRADE`.
        avg_px: Average price of what is filled, where the venue says so; prices inferred fills.
        order_qty: Total size at the venue, for `REPLACED` and `ORDER_STATUS`.
        terms_final: Whether nothing that we were told is later than these terms, so that they may shrink the
            order. The engine says so, of an answer to its query; a venue leaves it out.
        fee: Positive is paid.
        final: False when the venue may still take it back (dYdX best effort).
        reason: A code of ours, or the venue's own.
        transact_time_ns: By the venue's clock.
        received_time_ns: By ours.
    """

    exec_type: ExecType
    venue_order_id: VenueOrderId | None = None
    venue_client_order_id: VenueClientOrderId | None = None
    command: CommandKind | None = None
    symbol: str | None = None
    side: Side | None = None
    ord_status: OrdStatus | None = None
    cum_qty: Decimal | None = None
    avg_px: Decimal | None = None
    order_qty: Decimal | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    terms_final: bool = False
    triggered: bool | None = None
    trade_id: TradeId | None = None
    last_qty: Decimal | None = None
    last_px: Decimal | None = None
    fee: Decimal | None = None
    fee_asset: str | None = None
    liquidity: Liquidity = Liquidity.UNKNOWN
    inferred: bool = False
    final: bool = True
    reason: str = ""
    text: str = ""
    evidence: Evidence | None = None
    transact_time_ns: int = 0
    received_time_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """One fact in an account's stream. Never edited.

    Attributes:
        seq: Its number in the account's stream, without gaps; 0 until stored.
        order: The order as it stands after the event; None for events of the account.
        fill: What moved, for `TRADE`, `TRADE_CORRECT` and `UNMATCHED_FILL`.
        late: True when it came after the order had closed for good.
        attaches: Number of the `UNMATCHED_FILL` whose fill is this order's, for `FILL_ATTACHED`.
        time_ns: When we recorded it, by our clock.
        transact_time_ns: When it happened, by the venue's clock; 0 when the venue did not say.
        request_id: The request that caused it, when one did.
    """

    event_type: EventType
    account: AccountName
    time_ns: int
    seq: int = 0
    order_id: OrderId | None = None
    order: Order | None = None
    fill: Fill | None = None
    command: CommandKind | None = None
    reason: str = ""
    text: str = ""
    evidence: Evidence | None = None
    late: bool = False
    transact_time_ns: int = 0
    request_id: str = ""
    trace_id: str = ""
    attaches: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an account holds of one asset, by the venue's count."""

    account: AccountName
    asset: str
    free: Decimal
    held: Decimal
    time_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A position of one instrument, by the venue's count. Negative `qty` is short.

    Attributes:
        unexplained_qty: What of it the fills of the record do not explain; an alarm was raised.
    """

    account: AccountName
    symbol: str
    qty: Decimal
    entry_px: Decimal | None = None
    time_ns: int = 0
    unexplained_qty: Decimal = Decimal(0)
