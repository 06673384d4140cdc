"""Commands that look: orders, fills, balances, positions, venues, instruments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Parameter

from tradegw.errors import ConfigError
from tradegw.gateway.api import Gateway
from tradegw.gateway.record import Record
from tradegw.model import (
    AccountName,
    ClientOrderId,
    Cursor,
    Fill,
    FillFilter,
    Listing,
    Order,
    OrderFilter,
    OrderId,
    OrdStatus,
    Position,
    Side,
    plain,
)
from tradegw.transports.cli.asking import (
    Asking,
    connected,
    find_order_id,
    new_key,
    reading,
    telling,
)
from tradegw.transports.cli.exits import ExitCode
from tradegw.transports.cli.show import (
    console,
    instant,
    number,
    print_json,
    show_order,
    show_table,
    styled_state,
    styled_status,
)

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["balances", "fills", "instruments", "orders", "positions", "venues"]

_ASKING = Asking()
_PAGE_MAX = 1000

ItemT = TypeVar("ItemT")


async def orders(
    *,
    is_open: Annotated[bool, Parameter(name="--open")] = False,
    in_doubt: bool = False,
    account: Sequence[str] = (),
    venue: str | None = None,
    symbol: str | None = None,
    side: str | None = None,
    status: Sequence[str] = (),
    client_order_id: str | None = None,
    limit: int = 50,
    asking: Asking = _ASKING,
) -> None:
    """List orders, open and closed, newest first.

    Asks the gateway; where none writes the configured store, reads the store itself.

    For example:

        tradegw orders --open

        tradegw orders --account paper --status filled --limit 10 --json

    Args:
        is_open: Only those that may still fill.
        in_doubt: Only those of which nobody knows something.
        account: Only of this account. May be repeated.
        venue: Only at this venue.
        symbol: Only of this symbol.
        side: buy or sell.
        status: Only with this status, such as filled. May be repeated.
        client_order_id: Only with this client order id.
        limit: How many at most (50).
    """
    try:
        statuses = tuple(OrdStatus.of(text) for text in status)
        which_side = None if side is None else Side.of(side)
    except ValueError as e:
        raise ConfigError(str(e), reason="INVALID_FIELD") from e
    if is_open:
        statuses = tuple(s for s in statuses or OrdStatus if s.is_open)
        if not statuses:
            raise ConfigError(
                "--open and --status contradict each other: the statuses are of closed orders",
                reason="INVALID_FIELD",
            )
    where = OrderFilter(
        accounts=_accounts(account),
        venue=venue,
        symbol=symbol,
        side=which_side,
        statuses=statuses or None,
        in_doubt=True if in_doubt else None,
        client_order_id=None if client_order_id is None else ClientOrderId(client_order_id),
    )
    async with reading(asking) as source:
        found = await pages(
            lambda size, token: source.list_orders(where, page_size=size, page_token=token), limit
        )
    if asking.json:
        print_json({"orders": found})
    elif not found:
        console().print("no orders")
    else:
        show_orders(found)


def show_orders(orders: Sequence[Order]) -> None:
    """Print a table of orders."""
    show_table(
        [
            *("created", "order_id", "account", "symbol", "side", "type"),
            *("qty", "price", "filled", "avg_px", "status", "reason"),
        ],
        [_order_row(order) for order in orders],
        right=["qty", "price", "filled", "avg_px"],
    )


def _order_row(order: Order) -> list[str | Text]:
    size = number(order.order_qty)
    if order.quote_qty is not None:
        size = f"{plain(order.quote_qty)} quote"
    return [
        instant(order.created_time_ns),
        str(order.order_id),
        order.account,
        order.symbol,
        order.side.value,
        order.ord_type.value,
        size,
        number(order.price if order.price is not None else order.trigger_price),
        plain(order.cum_qty),
        number(order.avg_px),
        styled_status(order),
        order.reason,
    ]


async def fills(
    *,
    account: Sequence[str] = (),
    venue: str | None = None,
    symbol: str | None = None,
    side: str | None = None,
    order: str | None = None,
    limit: int = 50,
    asking: Asking = _ASKING,
) -> None:
    """List fills, newest first.

    Asks the gateway; where none writes the configured store, reads the store itself.

    For example:

        tradegw fills

        tradegw fills --account paper --symbol BTC/USDT --json

    Args:
        account: Only of this account. May be repeated.
        venue: Only at this venue.
        symbol: Only of this symbol.
        side: buy or sell.
        order: Only of this order, by its id or client order id.
        limit: How many at most (50).
    """
    try:
        which_side = None if side is None else Side.of(side)
    except ValueError as e:
        raise ConfigError(str(e), reason="INVALID_FIELD") from e
    async with reading(asking) as source:
        order_id: OrderId | None = None
        if order is not None:
            order_id = await find_order_id(source, order, account[0] if account else None)
        where = FillFilter(
            accounts=_accounts(account),
            venue=venue,
            symbol=symbol,
            side=which_side,
            order_id=order_id,
        )
        found = await pages(
            lambda size, token: source.list_fills(where, page_size=size, page_token=token), limit
        )
    if asking.json:
        print_json({"fills": found})
    elif not found:
        console().print("no fills")
    else:
        show_fills(found)


def show_fills(fills: Sequence[Fill]) -> None:
    """Print a table of fills."""
    show_table(
        [
            "time",
            "account",
            "symbol",
            "side",
            "qty",
            "px",
            "fee",
            "made",
            "order_id",
            "trade_id",
            "note",
        ],
        [
            [
                instant(fill.transact_time_ns or fill.received_time_ns),
                fill.account,
                fill.symbol,
                fill.side.value,
                plain(fill.last_qty),
                plain(fill.last_px),
                "-" if fill.fee is None else f"{plain(fill.fee)} {fill.fee_asset or ''}".rstrip(),
                fill.liquidity.value,
                "unmatched" if fill.order_id is None else str(fill.order_id),
                fill.trade_id,
                f"takes back {fill.corrects}" if fill.corrects else "inferred" * fill.inferred,
            ]
            for fill in fills
        ],
        right=["qty", "px", "fee"],
    )


async def balances(*, account: Sequence[str] = (), asking: Asking = _ASKING) -> None:
    """Show what each account holds, as its venue last reported.

    For example:

        tradegw balances

        tradegw balances --account paper --json

    Args:
        account: Only this account. May be repeated.
    """
    async with reading(asking) as source:
        names = list(account) or await _all_accounts(source)
        found = [b for name in names for b in await source.list_balances(name)]
    if asking.json:
        print_json({"balances": found})
    elif not found:
        console().print("no balances")
    else:
        show_table(
            ["account", "asset", "free", "held", "as of"],
            [[b.account, b.asset, plain(b.free), plain(b.held), instant(b.time_ns)] for b in found],
            right=["free", "held"],
        )


async def positions(
    *,
    account: Sequence[str] = (),
    close: str | None = None,
    idempotency_key: str | None = None,
    asking: Asking = _ASKING,
) -> int:
    """Show open positions, as their venues last reported, or close one of them.

    For example:

        tradegw positions

        tradegw positions --account main --close BTC/USD:USDC

    Args:
        account: Only this account. May be repeated; --close needs exactly one, unless there is but one.
        close: Close the position of this symbol with a reduce-only market order, and print that order.
        idempotency_key: Makes asking again for the same --close safe. One is made when none is given.
    """
    if close is not None:
        return await _close_position(account, close, idempotency_key or new_key(), asking)
    async with reading(asking) as source:
        names = list(account) or await _all_accounts(source)
        found: list[Position] = [p for name in names for p in await source.list_positions(name)]
    if asking.json:
        print_json({"positions": found})
    elif not found:
        console().print("no positions")
    else:
        show_table(
            ["account", "symbol", "qty", "unexplained", "entry_px", "as of"],
            [
                [
                    p.account,
                    p.symbol,
                    plain(p.qty),
                    plain(p.unexplained_qty) if p.unexplained_qty else "",
                    number(p.entry_px),
                    instant(p.time_ns),
                ]
                for p in found
            ],
            right=["qty", "unexplained", "entry_px"],
        )
    return ExitCode.OK


async def _close_position(account: Sequence[str], symbol: str, key: str, asking: Asking) -> int:
    with telling(key):
        async with connected(asking) as gateway:
            names = list(account) or await _all_accounts(gateway)
            if len(names) != 1:
                raise ConfigError(
                    f"--close needs exactly one --account; found {len(names)}",
                    reason="INVALID_FIELD",
                )
            order = await gateway.close_position(names[0], symbol, idempotency_key=key)
    if order is None:
        if asking.json:
            print_json(None)
        else:
            console().print(f"account {names[0]} has no position in {symbol}")
        return ExitCode.OK
    show_order(order, as_json=asking.json)
    if order.ord_status is OrdStatus.REJECTED:
        return ExitCode.REFUSED
    return ExitCode.IN_DOUBT if order.in_doubt else ExitCode.OK


async def venues(*, asking: Asking = _ASKING) -> None:
    """Show the configured venues, and whether their accounts take orders.

    For example:

        tradegw venues

        tradegw venues --json
    """
    async with connected(asking) as gateway:
        found = await gateway.list_venues()
    if asking.json:
        print_json({"venues": found})
        return
    # Of gateways that share a store; others have nobody to name.
    is_shared = any(status.holder for venue in found for status in venue.accounts)
    show_table(
        [
            *("venue", "plugin", "account", "state", "open", "in doubt", "last event", "why"),
            *(["holder"] if is_shared else []),
        ],
        [
            [
                venue.venue,
                venue.plugin,
                status.account,
                styled_state(status.state),
                str(status.open_orders),
                str(status.in_doubt),
                str(status.head_seq),
                status.why,
                *([status.holder or "this one"] if is_shared else []),
            ]
            for venue in found
            for status in venue.accounts
        ],
        right=["open", "in doubt", "last event"],
    )


async def instruments(venue: str, /, *, asking: Asking = _ASKING) -> None:
    """Show what can be traded at a venue, and on which grid.

    For example:

        tradegw instruments mock

    Args:
        venue: Name of a configured venue.
    """
    async with connected(asking) as gateway:
        found = await gateway.list_instruments(venue)
    if asking.json:
        print_json({"instruments": found})
        return
    show_table(
        ["symbol", "at the venue", "tick", "step", "min qty", "max qty", "min notional", "status"],
        [
            [
                i.symbol,
                i.venue_symbol,
                plain(i.tick_size),
                plain(i.step_size),
                plain(i.qty_min),
                plain(i.qty_max),
                plain(i.notional_min),
                i.status.value,
            ]
            for i in found
        ],
        right=["tick", "step", "min qty", "max qty", "min notional"],
    )


async def pages(
    ask: Callable[[int, Cursor | str | None], Awaitable[Listing[ItemT]]], limit: int
) -> list[ItemT]:
    """Read as many pages as hold `limit` items.

    Raises:
        ConfigError: The limit is not above zero.
    """
    if limit < 1:
        raise ConfigError(f"--limit must be above zero; found {limit}", reason="INVALID_FIELD")
    items: list[ItemT] = []
    token: Cursor | None = None
    while len(items) < limit:
        page = await ask(min(limit - len(items), _PAGE_MAX), token)
        items.extend(page.items)
        token = page.next_cursor
        if token is None:
            break
    return items


def _accounts(names: Sequence[str]) -> tuple[AccountName, ...] | None:
    return tuple(AccountName(name) for name in names) or None


async def _all_accounts(source: Gateway | Record) -> list[str]:
    if isinstance(source, Record):
        return [record.account for record in await source.list_accounts()]
    return [status.account for venue in await source.list_venues() for status in venue.accounts]
