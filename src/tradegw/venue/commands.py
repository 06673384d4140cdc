"""What the engine asks of a venue, the request that a plugin makes of it, and the queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Generic

from typing_extensions import TypeVar

from tradegw.model import (
    Balance,
    ExecutionReport,
    Instrument,
    Order,
    Position,
    ReplaceTerms,
    VenueClientOrderId,
    VenueOrderId,
)

__all__ = [
    "Cancel",
    "CancelAll",
    "CancelBatch",
    "Command",
    "DeadMan",
    "FetchBalances",
    "FetchFills",
    "FetchHistory",
    "FetchInstruments",
    "FetchOpenOrders",
    "FetchOrder",
    "FetchPositions",
    "FetchReferencePrice",
    "FetchServerTime",
    "Page",
    "Query",
    "ReferencePrice",
    "Replace",
    "Submit",
    "SubmitBatch",
    "TranslateContext",
    "VenueRequest",
    "VenueTime",
]


# --- commands -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Place `order`, under the name in the context."""

    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitBatch:
    """Place several orders in one request."""

    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Cancel `order`."""

    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelBatch:
    """Cancel several orders in one request."""

    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAll:
    """Cancel every order of the account, ours or not. Only for accounts that are `exclusive`."""

    symbol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Give `order` other terms."""

    order: Order
    terms: ReplaceTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadMan:
    """Have the venue cancel every order of the account unless told again within `timeout_s`; 0 disarms."""

    timeout_s: float


Command = Submit | SubmitBatch | Cancel | CancelBatch | CancelAll | Replace | DeadMan


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueTime:
    """The venue's own notion of now: its clock, and its block height where it has one."""

    time_ns: int
    height: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslateContext:
    """All that a pure translation may depend on besides the command.

    Attributes:
        now: The venue's clock (ours plus the sampled offset) and height.
        venue_client_order_ids: Names for the orders of a `Submit`, in order; one for each member.
        placed_until: For a command on orders, of each member what its placement was valid until: whether
            that is a height or a time may tell what kind of order it is at the venue.
        nonce: Milliseconds by the venue's clock, raised until they are later than any nonce before in this
            gateway, where the expiry of a request hangs on it.
    """

    instrument: Instrument
    now: VenueTime
    venue_client_order_ids: tuple[VenueClientOrderId, ...] = ()
    placed_until: tuple[VenueTime | None, ...] = ()
    nonce: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueRequest:
    """One unsigned request, made before anything is stored, and stored before it is sent.

    Only the plugin reads `payload`. The rest is the engine's.

    Attributes:
        valid_until: Venue time or height after which the venue refuses the request; None when it never
            does, which means that an unanswered request stays in doubt until an operator decides.
        cost: Units drawn from each budget pool, by the pool's name.
        safe_to_repeat: Whether carrying it out twice does no more than once (cancels).
        digest: Short text that identifies the request in logs; holds no secret.
    """

    payload: object
    valid_until: VenueTime | None
    digest: str
    cost: dict[str, int] = field(default_factory=dict[str, int])
    safe_to_repeat: bool = False


# --- queries --------------------------------------------------------------------------------------

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T_co]):
    """One answer of a listing.

    Attributes:
        as_of: The venue's own clock or height when it answered; dates what it does not show.
        next_cursor: Ask again with it for more; None at the end.
        cost: Units that the question drew from each budget that it names, where that is not what its
            operation declares.
    """

    items: tuple[T_co, ...]
    as_of: VenueTime
    next_cursor: str | None = None
    cost: Mapping[str, int] = field(default_factory=dict[str, int], compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOrder:
    """Ask about one order. Answered by a page of one report, or of none when the venue has none."""

    symbol: str
    venue_client_order_id: VenueClientOrderId | None = None
    venue_order_id: VenueOrderId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOpenOrders:
    """Ask for the open orders. Answered by `Page[ExecutionReport]`; never proves absence."""

    symbol: str | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchHistory:
    """Ask for orders of any status, oldest first. Answered by `Page[ExecutionReport]`."""

    symbol: str | None = None
    since_ns: int = 0
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchFills:
    """Ask for fills, oldest first. Answered by `Page[ExecutionReport]` of `TRADE` reports."""

    symbol: str | None = None
    venue_order_id: VenueOrderId | None = None
    venue_client_order_id: VenueClientOrderId | None = None
    since_ns: int = 0
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchBalances:
    """Ask for the balances. Answered by `Page[Balance]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPositions:
    """Ask for the positions. Answered by `Page[Position]`; empty on spot venues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchInstruments:
    """Ask what can be traded. Answered by `Page[Instrument]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePrice:
    """A price to measure others against, in quote units, and when the venue knew it."""

    symbol: str
    px: Decimal
    time_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchReferencePrice:
    """Ask for a price. Answered by `Page[ReferencePrice]`, empty when the venue has none."""

    symbol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchServerTime:
    """Ask for the venue's clock. Answered by an empty page; its `as_of` is the answer."""


Query = (
    FetchOrder
    | FetchOpenOrders
    | FetchHistory
    | FetchFills
    | FetchBalances
    | FetchPositions
    | FetchInstruments
    | FetchReferencePrice
    | FetchServerTime
)
Answer = (
    Page[ExecutionReport] | Page[Balance] | Page[Position] | Page[Instrument] | Page[ReferencePrice]
)
Reports = Sequence[ExecutionReport]
