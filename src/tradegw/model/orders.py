"""Orders as callers ask for them and as they stand, and their fills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from tradegw.model.enums import (
    CommandKind,
    EvidenceKind,
    Liquidity,
    OrdStatus,
    OrdType,
    Origin,
    Side,
    TimeInForce,
    TriggerBy,
)
from tradegw.model.ids import (
    AccountName,
    ClientOrderId,
    OrderId,
    TradeId,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw.model.numbers import ZERO

__all__ = ["Fill", "InDoubt", "NewOrder", "Order", "ReplaceTerms"]

NO_TAGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """What a caller asks for. Made by `new_order`, which checks it and takes text for numbers.

    Give `account`, or leave it out and let the routing rules pick exactly one by `venue` or `tags`.

    Attributes:
        symbol: Unified symbol, such as `BTC/USDT`.
        order_qty: Size in base units. Exactly one of `order_qty` and `quote_qty` is set.
        quote_qty: Size in quote units, for market orders of venues that have them.
        price: Limit price in quote units.
        trigger_price: Price that activates a stop or take-profit order.
        trailing_offset: Distance in quote units of a trailing stop.
        expire_time_ns: End of a `GTD` order, nanoseconds since the epoch.
        max_slippage_bps: Worst acceptable price of a market order, in basis points from the reference.
        queue_if_unavailable_s: While the venue is out, store the order all the same, and send it once when
            the venue is back; after so many seconds it expires here. None: it is refused with
            `VENUE_UNAVAILABLE`.
        client_order_id: The caller's name for the order, unique within the account.
        idempotency_key: Makes this call safe to repeat. Default: `client_order_id`, else one is made.
    """

    symbol: str
    side: Side
    ord_type: OrdType
    account: AccountName | None = None
    venue: str | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    order_qty: Decimal | None = None
    quote_qty: Decimal | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    trigger_by: TriggerBy | None = None
    trailing_offset: Decimal | None = None
    expire_time_ns: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    max_slippage_bps: Decimal | None = None
    queue_if_unavailable_s: float | None = None
    client_order_id: ClientOrderId | None = None
    idempotency_key: str | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class InDoubt:
    """A command whose outcome nobody knows.

    Attributes:
        since_ns: When it went into doubt, by our clock.
        why: What happened, for people.
    """

    command: CommandKind
    since_ns: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceTerms:
    """New terms of an order; None leaves a term as it is.

    Attributes:
        order_qty: The new total, fills included.
    """

    order_qty: Decimal | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as it stands. Immutable: every change is another value, made by `apply`.

    Attributes:
        order_id: Ours, unique for ever.
        order_qty: Size in base units. None for quote-sized market orders.
        in_doubt: Commands whose outcome nobody knows; empty when all is known. Such an order is open.
        reason: Code of why it was refused, closed or cancelled; empty otherwise.
        text: The same for people, cleaned and bounded. May hold the venue's words.
        cum_qty: Filled so far, in base units. Never shrinks, except by the correction of an inferred fill.
        leaves_qty: Still open. Zero once closed.
        cum_quote: Sum of price times quantity over the fills, in quote units.
        avg_px: `cum_quote / cum_qty`, half-even to 18 places; None before the first fill.
        triggered: False while a stop waits for its trigger.
        generation: Incarnation at the venue, raised by a cancel-and-new replace.
        acknowledged: Whether the venue was ever heard to hold it. Absence is never proven for such.
        closed_by: What closed it; decides whether a later report reopens it.
        pending: The one command that the venue was asked and has not settled.
        pending_terms: The terms that a pending replace asked for; of a closed order, those of a replace whose
            answer had not come when it closed. Should it come, the terms become these, and it is None.
        queued: Whether its placement, or its pending cancel, waits here: the venue has not been asked.
        send_by_ns: Until when the engine may send it, by our clock.
        trade_ids: Fills already counted, so that a replay changes nothing.
        inferred: Inferred fills not yet replaced by real ones: (trade id, quantity left, price).
        seq: Number of its last event in the account's stream.
    """

    order_id: OrderId
    account: AccountName
    venue: str
    symbol: str
    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce
    order_qty: Decimal | None = None
    quote_qty: Decimal | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    trigger_by: TriggerBy | None = None
    trailing_offset: Decimal | None = None
    expire_time_ns: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    max_slippage_bps: Decimal | None = None
    client_order_id: ClientOrderId | None = None
    idempotency_key: str | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    ord_status: OrdStatus = OrdStatus.PENDING_NEW
    in_doubt: tuple[InDoubt, ...] = ()
    reason: str = ""
    text: str = ""
    cum_qty: Decimal = ZERO
    leaves_qty: Decimal = ZERO
    cum_quote: Decimal = ZERO
    avg_px: Decimal | None = None
    origin: Origin = Origin.GATEWAY
    triggered: bool = True
    generation: int = 0
    acknowledged: bool = False
    closed_by: EvidenceKind | None = None
    pending: CommandKind | None = None
    pending_terms: ReplaceTerms | None = None
    queued: bool = False
    venue_order_id: VenueOrderId | None = None
    venue_client_order_id: VenueClientOrderId | None = None
    send_by_ns: int = 0
    created_time_ns: int = 0
    updated_time_ns: int = 0
    closed_time_ns: int | None = None
    seq: int = 0
    trade_ids: frozenset[TradeId] = field(default=frozenset(), repr=False, compare=False)
    inferred: tuple[tuple[TradeId, Decimal, Decimal], ...] = field(
        default=(), repr=False, compare=False
    )

    @property
    def queued_command(self) -> CommandKind | None:
        """Which of its commands waits here, if one does."""
        if not self.queued:
            return None
        return CommandKind.NEW if self.pending is None else self.pending

    @property
    def is_open(self) -> bool:
        """Whether it may still fill, as far as anyone knows."""
        return self.ord_status.is_open


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One fill (FIX trade). A correction is a further fill with a negative quantity.

    Attributes:
        trade_id: The venue's; derived by us when `inferred`. Unique within the order.
        order_id: None while no order is known for it.
        last_qty: Base units. Negative only in a correction.
        last_px: Quote units for one base unit.
        fee: Positive is paid, negative is a rebate; None when the venue has not said.
        inferred: True when the venue reported only a cumulative quantity.
        corrects: Trade id of the inferred fill that this takes back.
        transact_time_ns: When, by the venue's clock.
        received_time_ns: When we heard, by ours.
        seq: Number of its event in the account's stream.
    """

    trade_id: TradeId
    account: AccountName
    venue: str
    symbol: str
    side: Side
    last_qty: Decimal
    last_px: Decimal
    order_id: OrderId | None = None
    client_order_id: ClientOrderId | None = None
    venue_order_id: VenueOrderId | None = None
    fee: Decimal | None = None
    fee_asset: str | None = None
    liquidity: Liquidity = Liquidity.UNKNOWN
    inferred: bool = False
    corrects: TradeId | None = None
    transact_time_ns: int = 0
    received_time_ns: int = 0
    seq: int = 0
