"""A cancel of everything, where several gateways serve the accounts.

What to cancel is chosen by the record, once for the key; each order is cancelled where its account is served.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from uuid import UUID, uuid4

from tradegw.engine.fingerprint import fingerprint
from tradegw.engine.requests import all_of, check_same
from tradegw.errors import Conflict
from tradegw.gateway.local import PAGE_MAX, LocalGateway, check_given_key
from tradegw.model import (
    AccountName,
    Cursor,
    Order,
    OrderFilter,
    OrderId,
    OrdStatus,
    Origin,
    Side,
)
from tradegw.ports import Claim

__all__ = ["cancel_everywhere", "list_open"]

_OPEN = tuple(status for status in OrdStatus if status.is_open)


async def cancel_everywhere(
    gateway: LocalGateway,
    accounts: Iterable[AccountName],
    *,
    symbol: str | None,
    side: Side | None,
    key: str | None,
) -> Sequence[Order]:
    """Choose by the record, once for the key, then cancel each where its account is served.

    Args:
        gateway: Cancels an order wherever its account is served.
        accounts: Every configured one.
    """
    check_given_key(key)
    key = key or uuid4().hex
    digest = fingerprint(
        "cancel_all_orders", {"account": None, "venue": None, "symbol": symbol, "side": side}
    )
    engine = gateway.engine
    chosen = await list_open(gateway, accounts, symbol=symbol, side=side)
    claim = Claim(
        scope="*",
        idempotency_key=key,
        fingerprint=digest,
        operation="cancel_all_orders",
        result=json.dumps([str(order.order_id) for order in chosen]),
        created_time_ns=engine.clock.time_ns(),
    )
    taken = await engine.see_through(engine.store.put_claim(claim))
    if taken is not None:
        # The same orders as the first time.
        claim = taken.claim
        check_same(claim, digest)

    async def one(order_id: OrderId) -> Order:
        order = await gateway.get_order(order_id)
        if not order.is_open:
            return order
        try:
            return await gateway.cancel_order(order_id, idempotency_key=_derived(key, order_id))
        except Conflict:
            return await gateway.get_order(order_id)

    return await all_of(one(OrderId(UUID(text))) for text in json.loads(claim.result))


async def list_open(
    gateway: LocalGateway,
    accounts: Iterable[AccountName],
    *,
    symbol: str | None = None,
    side: Side | None = None,
) -> Sequence[Order]:
    """Return our open orders that match as the record tells them, whoever serves their accounts."""
    where = OrderFilter(accounts=tuple(accounts), symbol=symbol, side=side, statuses=_OPEN)
    found: list[Order] = []
    cursor: Cursor | None = None
    while True:
        page = await gateway.list_orders(where, page_size=PAGE_MAX, page_token=cursor)
        found += (order for order in page.items if order.origin is Origin.GATEWAY)
        cursor = page.next_cursor
        if cursor is None:
            return found


def _derived(key: str, order_id: OrderId) -> str:
    """Return the key of one order's part: the same for the same request, and fit for the wire."""
    return hashlib.sha256(f"{key}\x1f{order_id}".encode()).hexdigest()
