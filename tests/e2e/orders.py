"""The orders that stand for keys, so that everybody who sends a key again sends the same order."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import tradegw
from tradegw import Gateway, Order, OrderFilter, OrdStatus

__all__ = ["an_order", "is_settled", "take_a_turn"]


def an_order(key: str) -> dict[str, Any]:
    """Return the order of a key such as `k3-c12-o0`: resting, market, or taking more than there is."""
    number = sum(int(part[1:]) for part in key.split("-"))
    fields: dict[str, Any] = {
        "account": "paper",
        "symbol": "BTC/USDT",
        "side": "buy" if number % 2 else "sell",
        "idempotency_key": key,
    }
    match number % 3:
        case 0:
            price = "30000" if number % 2 else "130000"
            return {**fields, "ord_type": "limit", "order_qty": "0.001", "price": price}
        case 1:
            return {**fields, "ord_type": "market", "time_in_force": "IOC", "order_qty": "0.001"}
        case _:
            price = "130000" if number % 2 else "30000"
            return {**fields, "ord_type": "limit", "order_qty": "0.002", "price": price}


async def take_a_turn(gateway: Gateway, key: str) -> Order:
    """Place what a key stands for, and move and cancel it, each under a key of its own.

    Some cross and fill, some rest, some are refused. Doing it again does the same. Returns what placing
    answered.
    """
    number = sum(int(part[1:]) for part in key.split("-"))
    fields: dict[str, Any] = {
        "account": "paper",
        "symbol": "ETH/USDT",
        "side": "buy",
        "ord_type": "limit",
        "idempotency_key": key,
    }
    match number % 4:
        case 0:
            # Nobody can afford it, and the exchange says so.
            return await gateway.place_order(**fields, order_qty="90000", price="1000")
        case 1:
            return await gateway.place_order(**fields, order_qty="0.01", price="6400")
        case _:
            order = await gateway.place_order(**fields, order_qty="0.01", price="1000")
    with suppress(tradegw.Conflict):
        # Closed already, or what was asked before is still unknown.
        await gateway.replace_order(
            order.order_id, order_qty="0.02", price="1001", idempotency_key=f"{key}-replace"
        )
    if number % 8 > 3:
        with suppress(tradegw.Conflict):
            await gateway.cancel_order(order.order_id, idempotency_key=f"{key}-cancel")
    return order


async def is_settled(gateway: Gateway) -> bool:
    """Whether every account takes orders, and of none is anything unknown."""
    accounts = [account for venue in await gateway.list_venues() for account in venue.accounts]
    if any(account.state != "READY" or account.in_doubt for account in accounts):
        return False
    unanswered = OrderFilter(statuses=(OrdStatus.PENDING_NEW,))
    return not (await gateway.list_orders(unanswered)).items
