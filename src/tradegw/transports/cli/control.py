"""Commands that operate: halt, resume, resolve."""

from __future__ import annotations

import getpass
import socket

from tradegw.model import plain
from tradegw.transports.cli.asking import Asking, connected, find_order_id, new_key, telling
from tradegw.transports.cli.show import console, instant, print_json, show_order, show_table
from tradegw.transports.cli.values import clean

__all__ = ["adopt", "halt", "halts", "resolve", "resume"]

_ASKING = Asking()


async def halt(
    *,
    why: str,
    by: str | None = None,
    scope: str = "*",
    cancel_open: bool = False,
    idempotency_key: str | None = None,
    asking: Asking = _ASKING,
) -> None:
    """Refuse new orders from now on, durably: it survives a restart, until `tradegw resume`.

    For example:

        tradegw halt --why "prices look wrong"

        tradegw halt --scope symbol:BTC/USDT --why "exchange maintenance" --cancel-open

    Args:
        why: The reason, for the record.
        by: Who asks. Default: the user of this terminal.
        scope: What to halt: * (all), account:NAME, venue:NAME or symbol:NAME.
        cancel_open: Also cancel our open orders in the scope.
        idempotency_key: Makes asking again safe. One is made when none is given.
    """
    key = idempotency_key or new_key()
    with telling(key):
        async with connected(asking) as gateway:
            made = await gateway.halt(
                scope=scope,
                why=why,
                by=by or _who(),
                cancel_open=cancel_open,
                idempotency_key=key,
            )
    if asking.json:
        print_json(made)
    else:
        text = f"halted {made.scope} since {instant(made.since_ns)}, by {made.by}: {made.why}"
        console().print(clean(text), style="bold yellow")


async def resume(
    *,
    scope: str = "*",
    by: str | None = None,
    idempotency_key: str | None = None,
    asking: Asking = _ASKING,
) -> None:
    """Lift a halt.

    For example:

        tradegw resume

        tradegw resume --scope symbol:BTC/USDT

    Args:
        scope: The halt to lift, as it was given to `tradegw halt`.
        by: Who asks. Default: the user of this terminal.
        idempotency_key: Makes asking again safe. One is made when none is given.
    """
    key = idempotency_key or new_key()
    with telling(key):
        async with connected(asking) as gateway:
            await gateway.resume(scope=scope, by=by or _who(), idempotency_key=key)
    if asking.json:
        print_json({"scope": scope, "resumed": True})
    else:
        console().print(clean(f"resumed {scope}"), style="green")


async def halts(*, asking: Asking = _ASKING) -> None:
    """List the halts in force.

    For example:

        tradegw halts
    """
    async with connected(asking) as gateway:
        found = await gateway.list_halts()
    if asking.json:
        print_json({"halts": found})
    elif not found:
        console().print("no halts")
    else:
        show_table(
            ["scope", "since", "by", "why"],
            [[halt.scope, instant(halt.since_ns), halt.by, halt.why] for halt in found],
        )


async def resolve(
    order: str,
    /,
    *,
    outcome: str,
    why: str,
    by: str | None = None,
    idempotency_key: str | None = None,
    asking: Asking = _ASKING,
) -> None:
    """Decide an order in doubt by hand. The record keeps who and why; a later report may revise it.

    For example:

        tradegw resolve 6f1ce0a2-3f1d-4a55-9df6-6b2a8e2f9d10 --outcome rejected
            --why "support ticket 4711 says that it never arrived"

    Args:
        order: The order's id, or its client order id.
        outcome: rejected (it never got there), canceled or expired.
        why: What you know, and from where.
        by: Who decides. Default: the user of this terminal.
        idempotency_key: Makes asking again safe. One is made when none is given.
    """
    key = idempotency_key or new_key()
    with telling(key):
        async with connected(asking) as gateway:
            order_id = await find_order_id(gateway, order)
            after = await gateway.resolve(
                order_id, outcome=outcome, by=by or _who(), why=why, idempotency_key=key
            )
    show_order(after, as_json=asking.json)


async def adopt(
    account: str,
    *,
    why: str = "the record was lost",
    venue_order_id: list[str] | None = None,
    by: str | None = None,
    idempotency_key: str | None = None,
    asking: Asking = _ASKING,
) -> None:
    """Make open orders at the venue ours, after the record was lost, or to take over what others placed.

    For example:

        tradegw adopt --account paper

        tradegw adopt paper --venue-order-id 4711 --why "placed by hand"

    Args:
        account: The account that they are in.
        why: The reason, for the record.
        venue_order_id: The venue's name of an order; may be given several times. Default: every open order
            whose client id carries this gateway's tag.
        by: Who asks. Default: the user of this terminal.
        idempotency_key: Makes asking again safe. One is made when none is given.
    """
    key = idempotency_key or new_key()
    with telling(key):
        async with connected(asking) as gateway:
            orders = await gateway.adopt(
                account, venue_order_id or (), by=by or _who(), why=why, idempotency_key=key
            )
    if asking.json:
        print_json({"orders": orders})
    elif not orders:
        console().print("nothing to adopt")
    else:
        show_table(
            ["order", "venue order", "symbol", "side", "quantity", "price", "status"],
            [
                [
                    str(order.order_id),
                    clean(order.venue_order_id or ""),
                    order.symbol,
                    order.side,
                    "" if order.order_qty is None else plain(order.order_qty),
                    "" if order.price is None else plain(order.price),
                    order.ord_status,
                ]
                for order in orders
            ],
        )


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
