"""Prints answers: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tradegw.model import Order, OrdStatus, plain
from tradegw.transports.cli.values import clean, jsonable, to_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = [
    "console",
    "instant",
    "number",
    "print_json",
    "show_order",
    "show_table",
    "styled_status",
]

_NS_PER_S = 1_000_000_000
_WIDTH_PIPED = 400
"""Columns where the output is no terminal: nothing is cut off then."""

_STYLES: Final = {
    OrdStatus.FILLED: "green",
    OrdStatus.NEW: "cyan",
    OrdStatus.PARTIALLY_FILLED: "cyan",
    OrdStatus.PENDING_NEW: "yellow",
    OrdStatus.PENDING_CANCEL: "yellow",
    OrdStatus.PENDING_REPLACE: "yellow",
    OrdStatus.CANCELED: "dim",
    OrdStatus.EXPIRED: "dim",
    OrdStatus.REJECTED: "red",
}


def console() -> Console:
    """Return where text for people goes. It takes no text for markup."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_PIPED
    return Console(markup=False, highlight=False, emoji=False, width=width)


def print_json(value: Any) -> None:
    """Print one line of JSON."""
    print(to_json(value), flush=True)


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: Sequence[str] = ()
) -> None:
    """Print a table. Text is cleaned here; columns named in `right` hold numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(c if isinstance(c, Text) else Text(clean(c)) for c in row))
    console().print(table)


def show_order(order: Order, *, as_json: bool) -> None:
    """Print one order."""
    if as_json:
        print_json(order)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in jsonable(order).items():
        if value in (None, "", [], {}, False) or name in _QUIET:
            continue
        if name == "ord_status":
            table.add_row(name, styled_status(order))
        elif name.endswith("_ns"):
            table.add_row(name.removesuffix("_ns"), instant(value))
        elif name == "in_doubt":
            for doubt in order.in_doubt:
                text = f"{doubt.command} since {instant(doubt.since_ns)}: {doubt.why}"
                table.add_row(name, Text(clean(text), style="bold yellow"))
        elif name == "tags":
            table.add_row(name, Text(clean(", ".join(f"{k}={v}" for k, v in value.items()))))
        else:
            table.add_row(name, Text(clean(str(value))))
    console().print(table)


_QUIET: Final = {"cum_quote", "generation", "acknowledged", "seq", "send_by_ns", "triggered"}
"""What an order carries for programs."""


def styled_status(order: Order) -> Text:
    """Return the order's status as text that stands out when it should."""
    from rich.text import Text

    if order.in_doubt:
        asked = ", ".join(doubt.command for doubt in order.in_doubt)
        return Text(f"{order.ord_status} (in doubt: {asked})", style="bold yellow")
    waits = " (waits for its venue)" * order.queued
    return Text(f"{order.ord_status}{waits}", style=_STYLES[order.ord_status])


def styled_state(state: str) -> Text:
    """Return an account's state as text that stands out when it takes no orders."""
    from rich.text import Text

    return Text(clean(state), style="green" if state == "READY" else "bold yellow")


def number(value: Decimal | None) -> str:
    """Return a decimal for a column; a dash for none."""
    return "-" if value is None else plain(value)


def instant(time_ns: int | None) -> str:
    """Return an instant for people, in UTC, to the millisecond; a dash for none."""
    if not time_ns:
        return "-"
    seconds, rest = divmod(time_ns, _NS_PER_S)
    at = datetime.fromtimestamp(seconds, tz=UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{rest // 1_000_000:03d}Z"
