"""Whether the record and a venue hold the same terms of an order."""

from __future__ import annotations

from decimal import Decimal

from tradegw import Order


def are_terms_of(order: Order, order_qty: Decimal | None, price: Decimal | None) -> bool:
    """Whether an order of ours can have these terms at its venue.

    They are those on record. Of one that closed before a replace of it was answered, the record keeps what
    was asked beside them: it is one or the other.
    """
    asked = order.pending_terms
    return (order.order_qty, order.price) == (order_qty, price) or (
        asked is not None
        and not order.is_open
        and (asked.order_qty or order.order_qty, asked.price or order.price) == (order_qty, price)
    )
