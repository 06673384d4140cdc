"""`tradegw watch`: what happens, as it happens."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tradegw.errors import Unavailable
from tradegw.gateway.api import Gateway, VenueInfo
from tradegw.model import (
    AccountName,
    Balance,
    Fill,
    Order,
    OrderEvent,
    OrderFilter,
    OrderId,
    OrdStatus,
    plain,
)
from tradegw.transports.cli.asking import Asking, find_target
from tradegw.transports.cli.explain import event_fields, tell
from tradegw.transports.cli.show import (
    console,
    instant,
    number,
    print_json,
    styled_state,
    styled_status,
)
from tradegw.transports.cli.values import clean

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Blotter", "watch"]

_ASKING = Asking()
_OPEN: Final = tuple(status for status in OrdStatus if status.is_open)
_ORDERS_MAX: Final = 1000
_FILLS_MAX: Final = 50
_POLL_S: Final = 1.0
_PAINT_S: Final = 0.125
"""A busy account moves faster than anyone reads."""
_PAUSE_S: Final = 0.5
_WIDE: Final = 120
"""Columns from which on ids and times are shown in full."""
_ID_NARROW: Final = 10


async def watch(*, account: Sequence[str] = (), asking: Asking = _ASKING) -> None:
    """Show open orders, those in doubt first, fills, balances and venues, live. q or Ctrl-C leaves.

    Where stdout is no terminal it prints one line for each event from now on; with --json one JSON object.
    When the gateway goes away, it waits, and goes on where it was: no event is missed.

    For example:

        tradegw watch

        tradegw watch --account paper --json | jq .ord_status

    Args:
        account: Only this account. May be repeated.
    """
    target = await find_target(asking)
    from tradegw.transports.grpc.client import connect

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for which in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(which, stop.set)
    async with connect(target, timeout_s=asking.timeout) as gateway:
        blotter = Blotter(target, tuple(account))
        await blotter.load(gateway)
        work = [asyncio.create_task(_follow(blotter, gateway, as_json=asking.json))]
        live = sys.stdout.isatty() and not asking.json
        if live:
            work.append(asyncio.create_task(_poll(blotter, gateway)))
            work.append(asyncio.create_task(_paint(blotter, stop)))
        ended = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([*work, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*work, ended):
                task.cancel()
            results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


class Blotter:
    """What is shown, and how events change it."""

    def __init__(self, target: str, accounts: Sequence[str]) -> None:
        self._target = target
        self._accounts = accounts
        self.orders: dict[OrderId, Order] = {}
        self.fills: deque[Fill] = deque(maxlen=_FILLS_MAX)
        self.balances: Sequence[Balance] = ()
        self.venues: Sequence[VenueInfo] = ()
        self.position: dict[str, int] = {}
        self.away = ""
        self.is_changed = True

    @property
    def names(self) -> list[str]:
        """The accounts that are watched."""
        known = [status.account for venue in self.venues for status in venue.accounts]
        return list(self._accounts) or [str(name) for name in known]

    async def load(self, gateway: Gateway) -> None:
        """Read how everything stands."""
        # The numbers first: what happens while the rest is read comes in the stream again, to no effect.
        self.venues = await gateway.list_venues()
        heads = {str(s.account): s.head_seq for venue in self.venues for s in venue.accounts}
        self.position = {name: heads.get(name, 0) for name in self.names}
        wanted = tuple(AccountName(name) for name in self._accounts) or None
        orders = await gateway.list_orders(
            OrderFilter(accounts=wanted, statuses=_OPEN), page_size=_ORDERS_MAX
        )
        self.orders = {order.order_id: order for order in orders.items}
        fills = await gateway.list_fills(page_size=_FILLS_MAX)
        self.fills.extend(f for f in fills.items if wanted is None or f.account in wanted)
        await self.poll(gateway)

    async def poll(self, gateway: Gateway) -> None:
        """Read again what no event tells."""
        self.venues = await gateway.list_venues()
        self.balances = [b for name in self.names for b in await gateway.list_balances(name)]
        self.away = ""
        self.is_changed = True

    def apply(self, event: OrderEvent) -> None:
        """Take an event in."""
        self.is_changed = True
        if event.order is not None:
            if event.order.is_open:
                self.orders[event.order.order_id] = event.order
            else:
                self.orders.pop(event.order.order_id, None)
        if event.fill is not None and all(
            (fill.account, fill.seq) != (event.fill.account, event.fill.seq) for fill in self.fills
        ):
            self.fills.appendleft(event.fill)

    def render(self, width: int, height: int) -> RenderableType:
        """Return the picture, for a terminal of so many columns and lines."""
        from rich.console import Group
        from rich.text import Text

        head = Text.assemble(
            ("tradegw ", "bold"), (clean(self._target), "cyan"), ("   q leaves", "dim")
        )
        if self.away:
            head.append(f"   {clean(self.away)}; trying again", "bold yellow")
        others = 15 + len(self.balances) + sum(len(venue.accounts) for venue in self.venues)
        rows = max(6, height - others)
        shown_fills = max(3, rows // 3)
        return Group(
            head,
            *self._venue_table(),
            *self._order_table(rows - shown_fills, narrow=width < _WIDE),
            *self._fill_table(shown_fills, narrow=width < _WIDE),
            *self._balance_table(),
        )

    def _order_table(self, rows: int, *, narrow: bool) -> list[RenderableType]:
        # In doubt first, and those the longest; then the newest.
        orders = sorted(
            self.orders.values(),
            key=lambda o: (0, o.in_doubt[0].since_ns) if o.in_doubt else (1, -o.created_time_ns),
        )
        doubts = sum(1 for order in orders if order.in_doubt)
        table = _table(
            f"open orders: {len(orders)}" + f", {doubts} in doubt" * bool(doubts),
            [
                "created",
                "account",
                "symbol",
                "side",
                "type",
                "*qty",
                "*price",
                "*filled",
                "status",
                "id",
            ],
        )
        for order in orders[:rows]:
            table.add_row(
                _clock(order.created_time_ns, narrow=narrow),
                *_texts(order.account, order.symbol, order.side, order.ord_type),
                number(order.order_qty if order.order_qty is not None else order.quote_qty),
                number(order.price if order.price is not None else order.trigger_price),
                plain(order.cum_qty),
                styled_status(order),
                *_texts(_short(order.client_order_id or str(order.order_id), narrow=narrow)),
            )
        return [table, *_more(len(orders) - rows)]

    def _fill_table(self, rows: int, *, narrow: bool) -> list[RenderableType]:
        table = _table(
            "fills", ["time", "account", "symbol", "side", "*qty", "*px", "*fee", "made", "order"]
        )
        for fill in list(self.fills)[:rows]:
            name = fill.client_order_id or str(fill.order_id or "unmatched")
            fee = "-" if fill.fee is None else f"{plain(fill.fee)} {fill.fee_asset or ''}"
            table.add_row(
                _clock(fill.transact_time_ns or fill.received_time_ns, narrow=narrow),
                *_texts(fill.account, fill.symbol, fill.side),
                plain(fill.last_qty),
                plain(fill.last_px),
                *_texts(fee, fill.liquidity, _short(name, narrow=narrow)),
            )
        return [table]

    def _balance_table(self) -> list[RenderableType]:
        table = _table("balances", ["account", "asset", "*free", "*held"])
        for balance in self.balances:
            table.add_row(
                *_texts(balance.account, balance.asset), plain(balance.free), plain(balance.held)
            )
        return [table]

    def _venue_table(self) -> list[RenderableType]:
        table = _table("venues", ["venue", "account", "state", "*open", "*in doubt", "why"])
        for venue in self.venues:
            for status in venue.accounts:
                table.add_row(
                    *_texts(venue.venue, status.account),
                    styled_state(status.state),
                    str(status.open_orders),
                    str(status.in_doubt),
                    *_texts(status.why),
                )
        return [table]


def _clock(time_ns: int, *, narrow: bool) -> str:
    return instant(time_ns)[11 : 19 if narrow else 23]


def _short(name: str, *, narrow: bool) -> str:
    return f"{name[: _ID_NARROW - 1]}…" if narrow and len(name) > _ID_NARROW else name


def _table(title: str, columns: Sequence[str]) -> Any:
    from rich.table import Table

    table = Table(
        title=f"\n{title}",
        title_justify="left",
        title_style="bold",
        box=None,
        header_style="dim",
        pad_edge=False,
    )
    for column in columns:
        right = column.startswith("*")
        table.add_column(
            column.lstrip("*"),
            justify="right" if right else "left",
            no_wrap=True,
        )
    return table


def _texts(*texts: str) -> list[Any]:
    from rich.text import Text

    return [Text(clean(text)) for text in texts]


def _more(count: int) -> list[RenderableType]:
    from rich.text import Text

    return [Text(f"... and {count} more", style="dim")] if count > 0 else []


async def _follow(blotter: Blotter, gateway: Gateway, *, as_json: bool) -> None:
    live = sys.stdout.isatty() and not as_json
    async for event in _events(blotter, gateway):
        blotter.apply(event)
        if as_json:
            print_json(event_fields(event))
        elif not live:
            where = f"{instant(event.time_ns)} {event.account}:{event.seq} {event.order_id or '-'}"
            print(clean(f"{where} {event.event_type}: {tell(event)}", limit=2000), flush=True)


async def _events(blotter: Blotter, gateway: Gateway) -> AsyncIterator[OrderEvent]:
    """Yield events for ever; when the gateway goes away, go on after the last one that was read."""
    position = blotter.position
    while True:
        try:
            async for batch in gateway.stream_orders(
                accounts=blotter.names or None, after=dict(position)
            ):
                for item in batch.orders:
                    yield item.event
                position.update({str(name): seq for name, seq in batch.position.items()})
        except Unavailable as e:
            blotter.away, blotter.is_changed = str(e), True
        await asyncio.sleep(_PAUSE_S)


async def _poll(blotter: Blotter, gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(_POLL_S)
        try:
            await blotter.poll(gateway)
        except Unavailable as e:
            blotter.away, blotter.is_changed = str(e), True


async def _paint(blotter: Blotter, stop: asyncio.Event) -> None:
    from rich.live import Live

    out = console()
    with _keys(stop), Live(console=out, screen=True, auto_refresh=False) as live:
        size = (0, 0)
        while True:
            width, height = out.size
            if blotter.is_changed or size != (width, height):
                blotter.is_changed, size = False, (width, height)
                live.update(blotter.render(width, height), refresh=True)
            await asyncio.sleep(_PAINT_S)


@contextmanager
def _keys(stop: asyncio.Event) -> Generator[None]:
    """Hear q while the context is open; the terminal is then as it was."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    loop, keyboard = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def heard() -> None:
        if b"q" in os.read(keyboard, 64).lower():
            stop.set()

    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, heard)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
