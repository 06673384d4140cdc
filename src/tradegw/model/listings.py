"""Which orders and fills a list holds, and one page of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tradegw.model.enums import OrdStatus, Side
from tradegw.model.ids import AccountName, ClientOrderId, OrderId

__all__ = ["Cursor", "FillFilter", "Halt", "Listing", "OrderFilter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFilter:
    """Which orders. None means any; a tuple means any of these. Times are of creation, in ns."""

    accounts: tuple[AccountName, ...] | None = None
    venue: str | None = None
    symbol: str | None = None
    side: Side | None = None
    statuses: tuple[OrdStatus, ...] | None = None
    in_doubt: bool | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    client_order_id: ClientOrderId | None = None
    created_from_ns: int | None = None
    created_before_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FillFilter:
    """Which fills. None means any. Times are of the venue's clock, in ns."""

    accounts: tuple[AccountName, ...] | None = None
    venue: str | None = None
    symbol: str | None = None
    side: Side | None = None
    order_id: OrderId | None = None
    from_ns: int | None = None
    before_ns: int | None = None


ItemT = TypeVar("ItemT")


class Cursor(str):
    """Where a listing goes on. Opaque to callers; stable while rows are inserted."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[ItemT]):
    """One page."""

    items: tuple[ItemT, ...]
    next_cursor: Cursor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """A stop of new orders.

    Attributes:
        scope: `*`, `account:NAME`, `venue:NAME` or `symbol:NAME`.
        by: Who asked for it.
    """

    scope: str
    why: str
    by: str
    since_ns: int
