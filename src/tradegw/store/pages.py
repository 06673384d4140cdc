"""Where a listing goes on: the key of the last row of a page, opaque to callers."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from tradegw.errors import InvalidOrder
from tradegw.ports import Cursor

__all__ = [
    "END",
    "FILLS_START",
    "ORDERS_START",
    "fill_cursor",
    "fill_key",
    "order_cursor",
    "order_key",
]

END = 2**63 - 1
"""No instant comes after it, and no number."""

_LAST_ID = UUID(int=2**128 - 1)

OrderKey = tuple[int, UUID]
"""Time of creation, order id."""
FillKey = tuple[int, UUID, int]
"""The venue's time, account id, number of the event."""

ORDERS_START: OrderKey = (END, _LAST_ID)
FILLS_START: FillKey = (END, _LAST_ID, END)


def order_cursor(key: OrderKey) -> Cursor:
    """Write the key of the last order of a page."""
    return _encode("o1", str(key[0]), key[1].hex)


def order_key(cursor: Cursor | None) -> OrderKey:
    """Read the key of an order; without a cursor, one that comes before all.

    Raises:
        InvalidOrder: The cursor is not one of ours, or one of another listing.
    """
    if cursor is None:
        return ORDERS_START
    try:
        time_ns, order_id = _decode("o1", cursor, 2)
        return _number(time_ns), UUID(order_id)
    except ValueError as e:
        raise _invalid(cursor) from e


def fill_cursor(key: FillKey) -> Cursor:
    """Write the key of the last fill of a page."""
    return _encode("f1", str(key[0]), key[1].hex, str(key[2]))


def fill_key(cursor: Cursor | None) -> FillKey:
    """Read the key of a fill; without a cursor, one that comes before all.

    Raises:
        InvalidOrder: The cursor is not one of ours, or one of another listing.
    """
    if cursor is None:
        return FILLS_START
    try:
        time_ns, account_id, seq = _decode("f1", cursor, 3)
        return _number(time_ns), UUID(account_id), _number(seq)
    except ValueError as e:
        raise _invalid(cursor) from e


def _encode(*parts: str) -> Cursor:
    return Cursor(base64.urlsafe_b64encode(":".join(parts).encode()).decode().rstrip("="))


def _decode(kind: str, cursor: Cursor, count: int) -> list[str]:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found, *parts = raw.decode("ascii").split(":")
    except binascii.Error as e:
        raise ValueError(str(e)) from e
    if found != kind or len(parts) != count:
        raise ValueError(f"expected {kind} with {count} parts; found {found!r} with {len(parts)}")
    return parts


def _number(text: str) -> int:
    number = int(text)
    if not -END <= number <= END:
        raise ValueError(f"{number} is out of range")
    return number


def _invalid(cursor: Cursor) -> InvalidOrder:
    return InvalidOrder(
        f"expected the page token of an earlier page of this list; found {cursor[:80]!r}",
        reason="INVALID_PAGE_TOKEN",
    )
