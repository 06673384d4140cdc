"""What callers ask beside orders: filters, pages, places in streams. Both ways; errors as in `convert`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tradegw.model import (
    AccountName,
    ClientOrderId,
    FillFilter,
    OrderFilter,
    OrderId,
    OrdStatus,
    ReplaceTerms,
)
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc.fields import (
    ORDER_STATUS,
    SIDE,
    invalid,
    optional_text,
    read_decimal,
    read_order_id,
)

__all__ = [
    "read_fill_filter",
    "read_history_filter",
    "read_order_filter",
    "read_page_size",
    "read_positions",
    "read_terms",
    "write_fill_filter",
    "write_order_filter",
    "write_positions",
    "write_terms",
]

PAGE_DEFAULT = 100
PAGE_MAX = 1000
_CLOSED = tuple(status for status in OrdStatus if not status.is_open)


def read_page_size(size: int) -> int:
    """Return the size of a page.

    Raises:
        InvalidOrder: It is negative or above 1000.
    """
    if not 0 <= size <= PAGE_MAX:
        raise invalid(f"page_size must be 1 to {PAGE_MAX}, or 0 for {PAGE_DEFAULT}; found {size}")
    return size or PAGE_DEFAULT


def read_order_filter(message: pb.OrderFilter) -> OrderFilter:
    """Read which orders."""
    has = message.HasField
    return OrderFilter(
        accounts=_read_accounts(message.accounts),
        venue=message.venue if has("venue") else None,
        symbol=message.symbol if has("symbol") else None,
        side=SIDE.read_optional(message.side, "filter.side"),
        statuses=tuple(ORDER_STATUS.read(s, "filter.statuses") for s in message.statuses) or None,
        in_doubt=message.in_doubt if has("in_doubt") else None,
        tags=dict(message.tags),
        client_order_id=ClientOrderId(message.client_order_id) if has("client_order_id") else None,
        created_from_ns=message.created_from_ns if has("created_from_ns") else None,
        created_before_ns=message.created_before_ns if has("created_before_ns") else None,
    )


def read_history_filter(message: pb.OrderFilter) -> pb.OrderFilter:
    """Return the filter narrowed to closed orders.

    Raises:
        InvalidOrder: It names an open status.
    """
    narrowed = pb.OrderFilter()
    narrowed.CopyFrom(message)
    for number in message.statuses:
        status = ORDER_STATUS.read(number, "filter.statuses")
        if status.is_open:
            raise invalid(f"filter.statuses must be of closed orders; found {status}")
    if not message.statuses:
        narrowed.statuses.extend(ORDER_STATUS.of[status] for status in _CLOSED)
    return narrowed


def write_order_filter(where: OrderFilter) -> pb.OrderFilter:
    """Write which orders."""
    return pb.OrderFilter(
        accounts=where.accounts or (),
        venue=where.venue,
        symbol=where.symbol,
        side=SIDE.none if where.side is None else SIDE.of[where.side],
        statuses=[ORDER_STATUS.of[status] for status in where.statuses or ()],
        in_doubt=where.in_doubt,
        tags=where.tags,
        client_order_id=where.client_order_id,
        created_from_ns=where.created_from_ns,
        created_before_ns=where.created_before_ns,
    )


def read_fill_filter(message: pb.FillFilter) -> FillFilter:
    """Read which fills."""
    has = message.HasField
    return FillFilter(
        accounts=_read_accounts(message.accounts),
        venue=message.venue if has("venue") else None,
        symbol=message.symbol if has("symbol") else None,
        side=SIDE.read_optional(message.side, "filter.side"),
        order_id=read_order_id(message.order_id, "filter.order_id") if has("order_id") else None,
        from_ns=message.from_ns if has("from_ns") else None,
        before_ns=message.before_ns if has("before_ns") else None,
    )


def write_fill_filter(where: FillFilter) -> pb.FillFilter:
    """Write which fills."""
    return pb.FillFilter(
        accounts=where.accounts or (),
        venue=where.venue,
        symbol=where.symbol,
        side=SIDE.none if where.side is None else SIDE.of[where.side],
        order_id=None if where.order_id is None else str(where.order_id),
        from_ns=where.from_ns,
        before_ns=where.before_ns,
    )


def _read_accounts(names: Sequence[str]) -> tuple[AccountName, ...] | None:
    return tuple(AccountName(name) for name in names) or None


def read_positions(messages: Iterable[pb.Position]) -> dict[str, int]:
    """Read where to begin in each account.

    Raises:
        InvalidOrder: An account is named twice, or not at all, or a number is below -1.
    """
    after: dict[str, int] = {}
    for message in messages:
        if not message.account or message.account in after:
            raise invalid(f"after.account must name each account once; found {message.account!r}")
        if message.after_seq < -1:
            raise invalid(f"after.after_seq must be -1 or more; found {message.after_seq}")
        after[message.account] = message.after_seq
    return after


def write_positions(position: Mapping[str, int]) -> list[pb.Position]:
    """Write a place in each account."""
    return [pb.Position(account=account, after_seq=seq) for account, seq in position.items()]


def read_terms(message: pb.ReplaceOrderRequest) -> tuple[OrderId, ReplaceTerms]:
    """Read which order, and its new terms."""
    has = message.HasField
    return read_order_id(message.order_id), ReplaceTerms(
        order_qty=read_decimal(message.order_qty, "order_qty") if has("order_qty") else None,
        price=read_decimal(message.price, "price") if has("price") else None,
        trigger_price=read_decimal(message.trigger_price, "trigger_price")
        if has("trigger_price")
        else None,
    )


def write_terms(
    order_id: OrderId, terms: ReplaceTerms, idempotency_key: str
) -> pb.ReplaceOrderRequest:
    """Write which order, and its new terms."""
    return pb.ReplaceOrderRequest(
        order_id=str(order_id),
        order_qty=optional_text(terms.order_qty),
        price=optional_text(terms.price),
        trigger_price=optional_text(terms.trigger_price),
        idempotency_key=idempotency_key,
    )
