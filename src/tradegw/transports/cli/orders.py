"""`tradegw order ...`: single orders."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cyclopts import Parameter

from tradegw.errors import ConfigError
from tradegw.model import Order, OrdStatus
from tradegw.transports.cli.asking import (
    Asking,
    connected,
    new_key,
    reading,
    telling,
    wanted_order,
)
from tradegw.transports.cli.exits import ExitCode
from tradegw.transports.cli.show import show_order

__all__ = ["cancel", "place", "replace", "status"]

_ASKING = Asking()

Text = Annotated[str | None, Parameter(allow_leading_hyphen=True)]
_NS_PER_US = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def place(
    *,
    symbol: str,
    side: str,
    ord_type: Annotated[str, Parameter(name="--type")],
    account: str | None = None,
    venue: str | None = None,
    qty: Text = None,
    quote_qty: Text = None,
    price: Text = None,
    trigger_price: Text = None,
    trigger_by: str | None = None,
    trailing_offset: Text = None,
    max_slippage_bps: Text = None,
    tif: str = "GTC",
    expire_time: str | None = None,
    post_only: bool = False,
    reduce_only: bool = False,
    queue_if_unavailable: float | None = None,
    tag: Sequence[str] = (),
    idempotency_key: str | None = None,
    client_order_id: str | None = None,
    asking: Asking = _ASKING,
) -> int:
    """Place an order, once, and print it as it stands after the venue's answer.

    A request that cannot be answered is repeated with the same key for --timeout seconds. If no answer came
    by then, the key is printed: give it with --idempotency-key, and the same order is meant.

    For example:
        tradegw order place --account paper --symbol BTC/USDT --side buy --type market --qty 0.01

        tradegw order place --account paper --symbol BTC/USDT --side sell --type limit
            --qty 0.01 --price 70000

    Exits with 1 when the order was refused (REJECTED), with 4 when nobody knows (in doubt).

    Args:
        symbol: What to trade, such as BTC/USDT.
        side: buy or sell.
        ord_type: market, limit, stop, stop_limit, take_profit, take_profit_limit or trailing_stop.
        account: Account that places it. Without it, the routing rules pick exactly one.
        venue: Venue to route to, when no account is given.
        qty: Size in base units, such as 0.01.
        quote_qty: Size in quote units, instead of --qty; market orders only.
        price: Limit price.
        trigger_price: Price that activates a stop or take-profit order.
        trigger_by: Which price is watched: last, mark or index.
        trailing_offset: Distance of a trailing stop, in quote units.
        max_slippage_bps: Worst acceptable price of a market order, in basis points.
        tif: How long it stays: GTC (the default), IOC, FOK, GTD or DAY.
        expire_time: End of a GTD order: ISO 8601 with a zone, or nanoseconds since the epoch.
        post_only: Make, never take.
        reduce_only: Only make a position smaller.
        queue_if_unavailable: While the venue is out, keep the order for so many seconds, and send it once
            when the venue is back, instead of refusing it.
        tag: A label, name=value. May be repeated.
        idempotency_key: Makes asking again safe. One is made when none is given.
        client_order_id: Your name for the order, unique within the account.
    """
    key = idempotency_key or client_order_id or new_key()
    expire_time_ns = None if expire_time is None else _instant(expire_time)
    tags = _tags(tag)
    with telling(key):
        async with connected(asking) as gateway:
            order = await gateway.place_order(
                account=account,
                venue=venue,
                symbol=symbol,
                side=side,
                ord_type=ord_type,
                time_in_force=tif,
                order_qty=qty,
                quote_qty=quote_qty,
                price=price,
                trigger_price=trigger_price,
                trigger_by=trigger_by,
                trailing_offset=trailing_offset,
                max_slippage_bps=max_slippage_bps,
                expire_time_ns=expire_time_ns,
                post_only=post_only,
                reduce_only=reduce_only,
                queue_if_unavailable_s=queue_if_unavailable,
                client_order_id=client_order_id,
                idempotency_key=key,
                tags=tags,
            )
    show_order(order, as_json=asking.json)
    return _outcome(order)


async def cancel(
    order: str | None = None,
    /,
    *,
    account: str | None = None,
    client_order_id: str | None = None,
    idempotency_key: str | None = None,
    asking: Asking = _ASKING,
) -> int:
    """Cancel an order, named by its id, or by account and client order id; print it as it then stands.

    For example:
        tradegw order cancel 6f1ce0a2-3f1d-4a55-9df6-6b2a8e2f9d10

        tradegw order cancel --account paper --client-order-id c1

    Exits with 1 when it was closed already, or filled before the cancel; with 4 when nobody knows.

    Args:
        order: The order's id.
        account: Account of the client order id.
        client_order_id: Your name for the order.
        idempotency_key: Makes asking again safe. One is made when none is given.
    """
    key = idempotency_key or new_key()
    with telling(key):
        async with connected(asking) as gateway:
            order_id = await wanted_order(gateway, order, account, client_order_id)
            after = await gateway.cancel_order(order_id, idempotency_key=key)
    show_order(after, as_json=asking.json)
    return ExitCode.REFUSED if after.ord_status is OrdStatus.FILLED else _outcome(after)


async def replace(
    order: str | None = None,
    /,
    *,
    account: str | None = None,
    client_order_id: str | None = None,
    qty: Text = None,
    price: Text = None,
    trigger_price: Text = None,
    idempotency_key: str | None = None,
    asking: Asking = _ASKING,
) -> int:
    """Give an order another quantity or price; print it as it then stands.

    For example:
        tradegw order replace 6f1ce0a2-3f1d-4a55-9df6-6b2a8e2f9d10 --price 64000

        tradegw order replace --account paper --client-order-id c1 --qty 0.02

    Args:
        order: The order's id.
        account: Account of the client order id.
        client_order_id: Your name for the order.
        qty: The new total in base units, fills included.
        price: The new limit price.
        trigger_price: The new trigger price.
        idempotency_key: Makes asking again safe. One is made when none is given.
    """
    key = idempotency_key or new_key()
    with telling(key):
        async with connected(asking) as gateway:
            order_id = await wanted_order(gateway, order, account, client_order_id)
            after = await gateway.replace_order(
                order_id,
                order_qty=qty,
                price=price,
                trigger_price=trigger_price,
                idempotency_key=key,
            )
    show_order(after, as_json=asking.json)
    return _outcome(after)


async def status(
    order: str | None = None,
    /,
    *,
    account: str | None = None,
    client_order_id: str | None = None,
    asking: Asking = _ASKING,
) -> None:
    """Show an order as it stands, from the gateway, or from the store where none runs.

    For example:
        tradegw order status 6f1ce0a2-3f1d-4a55-9df6-6b2a8e2f9d10

        tradegw order status --account paper --client-order-id c1 --json

    Args:
        order: The order's id.
        account: Account of the client order id.
        client_order_id: Your name for the order.
    """
    async with reading(asking) as source:
        order_id = await wanted_order(source, order, account, client_order_id)
        found = await source.get_order(order_id)
    show_order(found, as_json=asking.json)


def _outcome(order: Order) -> ExitCode:
    if order.ord_status is OrdStatus.REJECTED:
        return ExitCode.REFUSED
    return ExitCode.IN_DOUBT if order.in_doubt else ExitCode.OK


def _tags(texts: Sequence[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(
                f"--tag is name=value, such as strategy=maker; found {text[:80]!r}",
                reason="INVALID_FIELD",
            )
        tags[name] = value
    return tags


def _instant(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ConfigError(
            "--expire-time is ISO 8601 with a zone, such as 2030-01-31T12:00:00Z, or nanoseconds since "
            f"the epoch; found {text[:80]!r}",
            reason="INVALID_FIELD",
        )
    return (instant - _EPOCH) // timedelta(microseconds=1) * _NS_PER_US
