"""What a venue can do, as data. The engine refuses the rest before anything is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from tradegw.model import OrdType, TimeInForce
from tradegw.venue.budgets import BudgetPool

__all__ = [
    "Capabilities",
    "ClientIdCodec",
    "ExpiryKind",
    "FillReporting",
    "ReplaceKind",
    "SendOrder",
]


class ReplaceKind(StrEnum):
    """How the venue changes an order."""

    IN_PLACE = "IN_PLACE"
    """One request; the venue's order keeps its id."""
    SAME_ID = "SAME_ID"
    """A new request under the same client id replaces the old (dYdX short-term)."""
    CANCEL_THEN_NEW = "CANCEL_THEN_NEW"
    """The engine cancels, waits for final evidence of what was filled, and places the rest anew."""
    NONE = "NONE"


class ExpiryKind(StrEnum):
    """By what the venue measures `valid_until`."""

    TIME = "TIME"
    HEIGHT = "HEIGHT"
    """By its block height; requests that name a time instead, by its clock."""
    NONE = "NONE"
    """It takes requests however late they come, so absence can never be proven."""


class FillReporting(StrEnum):
    """What the venue says of fills."""

    EACH = "EACH"
    """Every fill, with an id."""
    CUMULATIVE = "CUMULATIVE"
    """Only the total filled; the engine infers fills from its growth."""


class ClientIdCodec(StrEnum):
    """Where names of orders at the venue come from."""

    HEX32 = "HEX32"
    """32 hex digits: 8 of the gateway's tag, 22 of the order id, 2 of the generation."""
    UINT32 = "UINT32"
    """A number from a block reserved in the store, never used again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOrder:
    """How many requests of one key may be on their way at once.

    `SendOrder.CONCURRENT`, `SendOrder.SERIAL_PER_KEY` (rising nonces) or `SendOrder.MAX_IN_FLIGHT(n)`.

    Attributes:
        in_flight_max: None means any number; 1 keeps them in order.
    """

    in_flight_max: int | None = None

    CONCURRENT: ClassVar[SendOrder]
    SERIAL_PER_KEY: ClassVar[SendOrder]

    @classmethod
    def MAX_IN_FLIGHT(cls, n: int) -> SendOrder:  # noqa: N802  One of the three, and called so.
        """At most `n` at once."""
        return cls(in_flight_max=n)


SendOrder.CONCURRENT = SendOrder()
SendOrder.SERIAL_PER_KEY = SendOrder(in_flight_max=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one venue can do.

    Attributes:
        expiry: By what the venue measures `valid_until`; decides whether absence can be proven.
        expiry_s: How long a request stays valid, for people; `translate` sets the exact moment.
        visibility_lag_s: How long after acceptance a query may still not show an order.
        closed_order_retention_s: How long closed orders can be queried; None means for ever.
        forgets_unfilled: Whether an order that was placed until a height lives no longer than that, and
            leaves no trace if nothing of it was filled (dYdX short-term): absence is not claimed of such.
        idempotent_resend: Whether sending the same request again can never make a second order.
        timestamp_nonces: Whether the expiry of requests hangs on a nonce that `translate` is to be given.
        query_by_client_id: Whether `FetchOrder` takes our own name for an order.
        batch_max: Most orders in one `SubmitBatch` or `CancelBatch`; 1 means no batches.
    """

    ord_types: frozenset[OrdType]
    time_in_force: frozenset[TimeInForce]
    post_only: bool = False
    reduce_only: bool = False
    quote_qty: bool = False
    max_slippage: bool = False
    replace: ReplaceKind = ReplaceKind.NONE
    expiry: ExpiryKind = ExpiryKind.NONE
    expiry_s: float = 0.0
    visibility_lag_s: float = 0.0
    closed_order_retention_s: float | None = None
    forgets_unfilled: bool = False
    idempotent_resend: bool = False
    timestamp_nonces: bool = False
    query_by_client_id: bool = True
    fills: FillReporting = FillReporting.EACH
    client_id_codec: ClientIdCodec = ClientIdCodec.HEX32
    client_id_scope: str = "account"
    send_order: SendOrder = field(default_factory=SendOrder)
    batch_max: int = 1
    cancel_all: bool = False
    dead_man: bool = False
    positions: bool = False
    budgets: tuple[BudgetPool, ...] = ()
