"""The one object that a bot talks to, embedded or remote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, TypedDict

from typing_extensions import Unpack

from tradegw.errors import TradegwError
from tradegw.model import (
    AccountName,
    Balance,
    ClientOrderId,
    Cursor,
    Fill,
    FillFilter,
    Halt,
    Instrument,
    Listing,
    NewOrder,
    Order,
    OrderEvent,
    OrderFilter,
    OrderId,
    OrdType,
    Position,
    Side,
    TimeInForce,
    TriggerBy,
    VenueOrderId,
)

__all__ = [
    "AccountStatus",
    "FillItem",
    "Gateway",
    "NewOrderFields",
    "Number",
    "OrderItem",
    "OutboxStatus",
    "Session",
    "StreamBatch",
    "VenueInfo",
]

Number = Decimal | str | int
"""A decimal, or its plain text. Never a float: its digits are not those that were written."""


class NewOrderFields(TypedDict, total=False):
    """The fields of `NewOrder` as keyword arguments, with text for numbers and names in either case."""

    account: str | None
    venue: str | None
    symbol: str
    side: Side | str
    ord_type: OrdType | str
    time_in_force: TimeInForce | str
    order_qty: Number | None
    quote_qty: Number | None
    price: Number | None
    trigger_price: Number | None
    trigger_by: TriggerBy | str | None
    trailing_offset: Number | None
    expire_time_ns: int | None
    post_only: bool
    reduce_only: bool
    max_slippage_bps: Number | None
    queue_if_unavailable_s: float | None
    client_order_id: str | None
    idempotency_key: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderItem:
    """One event in a stream of orders.

    Attributes:
        seq: Its number in the account's stream.
        prev_seq: Number of the item before it in this stream and filter; a reader that holds another one
            has missed something.
    """

    account: AccountName
    seq: int
    prev_seq: int
    event: OrderEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class FillItem:
    """One fill in a stream of fills; `seq` and `prev_seq` as in `OrderItem`."""

    account: AccountName
    seq: int
    prev_seq: int
    fill: Fill


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBatch:
    """What a stream hands over at once.

    Attributes:
        caught_up: True when, after these items, the reader has all that is stored.
        position: For each account, the number to resume after. Items that the filter left out count.
    """

    orders: tuple[OrderItem, ...] = ()
    fills: tuple[FillItem, ...] = ()
    caught_up: bool = False
    position: Mapping[AccountName, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountStatus:
    """Whether an account takes orders.

    Attributes:
        state: `STARTING RECONCILING READY STOPPED CLOSING`, or `ELSEWHERE` when another gateway serves it, or
            none does, and nobody tells more; only `READY` takes new orders.
        why: What it waits for, when it is not ready.
        open_orders, in_doubt: 0 where the state is `ELSEWHERE`: unknown.
        head_seq: Number of the last event in its stream.
        holder: Address of the gateway that serves it; empty when that is the one that was asked, or none.
    """

    account: AccountName
    venue: str
    plugin: str
    state: str
    why: str
    open_orders: int
    in_doubt: int
    head_seq: int
    holder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueInfo:
    """A configured venue and its accounts."""

    venue: str
    plugin: str
    accounts: tuple[AccountStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """How far a sink is behind an account's stream.

    Attributes:
        lag_events: How many events it has not confirmed.
        lag_s: Age of the oldest of them that is on its way.
        why: Why it confirms nothing now; empty when it does.
    """

    sink: str
    account: AccountName
    lag_events: int
    lag_s: float
    why: str


class Session(Protocol):
    """Many commands in flight over one connection; each method answers as the gateway's does."""

    async def place_order(
        self, order: NewOrder | None = None, /, **fields: Unpack[NewOrderFields]
    ) -> Order: ...

    async def cancel_order(
        self, order_id: OrderId, *, idempotency_key: str | None = None
    ) -> Order: ...

    async def replace_order(
        self,
        order_id: OrderId,
        *,
        order_qty: Number | None = None,
        price: Number | None = None,
        trigger_price: Number | None = None,
        idempotency_key: str | None = None,
    ) -> Order: ...


class Gateway(Protocol):
    """One order API over many venues. `tradegw.open` and `tradegw.connect` both give one.

    Every method may raise `Unavailable` (try again with the same key) and `UsageError` (it is closed).

    Once an order is stored, the order is the answer and never an exception: look at `ord_status`,
    `reason` and `in_doubt`.

    Cancellation: a caller who goes away cancels only the waiting. What was stored is carried out.
    """

    async def place_order(
        self, order: NewOrder | None = None, /, **fields: Unpack[NewOrderFields]
    ) -> Order:
        """Place one order, once, and return it as it stands after the venue's answer.

        Give a `NewOrder`, or its fields. Repeating the call with the same `idempotency_key` (or
        `client_order_id`) and the same fields gives the same order, never a second one.

        Returns:
            The stored order: live, filled, `REJECTED` with a `reason`, or with `in_doubt` when the venue
            was asked and nobody knows.

        Raises:
            InvalidOrder: Nothing was stored or sent, the key is free.
            IdempotencyKeyReused: The key belongs to a request with other fields.
            DuplicateClientOrderId: The client order id belongs to another key's order.
        """
        ...

    async def place_orders(self, orders: Sequence[NewOrder]) -> Sequence[Order | TradegwError]:
        """Place several orders; one answer for each, in order. One that fails does not stop the rest."""
        ...

    async def cancel_order(
        self,
        order_id: OrderId | None = None,
        *,
        account: str | None = None,
        client_order_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Cancel an order, by our id, or by account and client order id.

        Returns:
            The order as it stands: `CANCELED`, `FILLED` when a fill was faster, or still open with
            the cancel pending or in doubt.

        Raises:
            NotFound: There is no such order.
            Conflict: It is closed already; reason `ORDER_CLOSED`.
        """
        ...

    async def cancel_all_orders(
        self,
        *,
        account: str | None = None,
        symbol: str | None = None,
        side: Side | None = None,
        idempotency_key: str | None = None,
    ) -> Sequence[Order]:
        """Cancel every open order of ours that matches, one by one; return them as they then stand."""
        ...

    async def replace_order(
        self,
        order_id: OrderId,
        *,
        order_qty: Number | None = None,
        price: Number | None = None,
        trigger_price: Number | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Give an order other terms. `order_qty` is the new total, fills included.

        Raises:
            NotFound: There is no such order.
            Conflict: It is closed, or another command is pending.
            UnsupportedOrder: The venue cannot replace.
        """
        ...

    async def get_order(self, order_id: OrderId) -> Order:
        """Return an order as it stands.

        Raises:
            NotFound: There is no such order.
        """
        ...

    async def find_order(
        self,
        *,
        account: str,
        client_order_id: ClientOrderId | str | None = None,
        venue_order_id: VenueOrderId | str | None = None,
    ) -> Order | None:
        """Return the order of that name, or None."""
        ...

    async def list_orders(
        self,
        where: OrderFilter | None = None,
        *,
        page_size: int = 100,
        page_token: Cursor | str | None = None,
    ) -> Listing[Order]:
        """Return orders, newest first, at most 1000 a page. Pages are stable while orders arrive."""
        ...

    async def list_order_events(self, order_id: OrderId) -> Sequence[OrderEvent]:
        """Return the whole story of an order, oldest first.

        Raises:
            NotFound: There is no such order.
        """
        ...

    async def list_fills(
        self,
        where: FillFilter | None = None,
        *,
        page_size: int = 100,
        page_token: Cursor | str | None = None,
    ) -> Listing[Fill]:
        """Return fills, newest first, at most 1000 a page."""
        ...

    def stream_orders(
        self,
        *,
        accounts: Sequence[str] | None = None,
        after: Mapping[str, int] | None = None,
        symbol: str | None = None,
    ) -> AsyncIterator[StreamBatch]:
        """Yield order events, first those stored after `after`, then live ones, without end.

        Args:
            accounts: Which; None means all.
            after: For each account the number after which to begin; accounts that are left out begin at
                their start. Use `{account: -1}` to begin at the end.

        The stream is the ledger: folding it gives exactly what the venue did. A slow reader holds up
        nobody and misses nothing: what it has not read is read from the store when it comes for it.
        """
        ...

    def stream_fills(
        self,
        *,
        accounts: Sequence[str] | None = None,
        after: Mapping[str, int] | None = None,
        symbol: str | None = None,
    ) -> AsyncIterator[StreamBatch]:
        """Yield fills in the same way, corrections and unmatched ones included."""
        ...

    def session(
        self, *, cancel_on_disconnect: bool = False, lease_s: float | None = None
    ) -> AbstractAsyncContextManager[Session]:
        """Open a session.

        Args:
            cancel_on_disconnect: Cancel the session's open orders when it ends, however it ends.
            lease_s: Remote only: without a heartbeat for so long the session counts as ended.
        """
        ...

    async def list_balances(self, account: str) -> Sequence[Balance]:
        """Return the balances as the venue last reported them."""
        ...

    async def list_positions(self, account: str) -> Sequence[Position]:
        """Return the positions as the venue last reported them; empty on spot venues."""
        ...

    async def close_position(
        self, account: str, symbol: str, *, idempotency_key: str | None = None
    ) -> Order | None:
        """Close a position with a reduce-only market order; None when there is none to close.

        Raises:
            UnsupportedOrder: The venue has no positions.
        """
        ...

    async def list_venues(self) -> Sequence[VenueInfo]:
        """Return the configured venues with their accounts' states."""
        ...

    async def list_instruments(self, venue: str) -> Sequence[Instrument]:
        """Return what can be traded at a venue.

        Raises:
            NotFound: No such venue is configured.
        """
        ...

    async def halt(
        self,
        *,
        scope: str = "*",
        why: str,
        by: str,
        cancel_open: bool = False,
        idempotency_key: str | None = None,
    ) -> Halt:
        """Refuse new orders from now on, durably; survives a restart.

        Args:
            scope: `*`, `account:NAME`, `venue:NAME` or `symbol:NAME`.
            cancel_open: Also cancel our open orders in the scope, one by one.
        """
        ...

    async def resume(
        self, *, scope: str = "*", by: str, idempotency_key: str | None = None
    ) -> None:
        """Lift the halt of that scope.

        Raises:
            NotFound: There is none.
        """
        ...

    async def list_halts(self) -> Sequence[Halt]: ...

    async def resolve(
        self,
        order_id: OrderId,
        *,
        outcome: str,
        by: str,
        why: str,
        idempotency_key: str | None = None,
    ) -> Order:
        """Decide an order in doubt by hand. The record keeps who and why; a later report may revise it.

        Args:
            outcome: `REJECTED` (it never got there), `CANCELED` or `EXPIRED`.

        Raises:
            Conflict: The order is not in doubt.
        """
        ...

    async def adopt(
        self,
        account: str,
        venue_order_ids: Sequence[str] = (),
        *,
        by: str,
        why: str,
        idempotency_key: str | None = None,
    ) -> Sequence[Order]:
        """Make open orders at the venue ours that the record does not know as ours.

        For a record that was lost: they come under new order ids, with their fills. Who and why is kept.

        Args:
            venue_order_ids: The venue's names of them. Default: every open order whose client id carries this
                gateway's tag.

        Returns:
            What was adopted. Orders that were ours already are left out.

        Raises:
            NotFound: The venue holds no open order of such a name.
            InvalidOrder: One has no client id at the venue, so that it could not be commanded.
            Unavailable: The account does not take orders, or the venue does not tell.
        """
        ...

    async def aclose(self) -> None:
        """Stop taking orders, wait for answers, and let go of everything. Safe to call twice."""
        ...
