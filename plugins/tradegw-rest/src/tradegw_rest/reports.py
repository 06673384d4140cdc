"""How rows of an answer become execution reports, balances and instruments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

from tradegw import (
    AccountName,
    Balance,
    CommandKind,
    ExecType,
    ExecutionReport,
    Instrument,
    InstrumentStatus,
    Liquidity,
    OrdStatus,
    Side,
    TranslationError,
)
from tradegw_rest.inputs import Inputs, Read
from tradegw_rest.markets import Listed
from tradegw_rest.source import Spot
from tradegw_rest.values import Compiler, to_decimal, to_text

__all__ = [
    "BALANCE_FIELDS",
    "INSTRUMENT_FIELDS",
    "REPORT_FIELDS",
    "Rows",
    "compile_balance",
    "compile_instrument",
    "compile_report",
]

ItemT = TypeVar("ItemT")


def _flag(value: Any) -> bool | None:
    return None if value is None else value is True or value == "true"


def _member(kind: type[StrEnum]) -> Callable[[Any], Any]:
    members = {member.value: member for member in kind}

    def convert(value: Any) -> Any:
        if value is None or value == "":
            return None
        try:
            return members[value]
        except (KeyError, TypeError):
            raise TranslationError(
                f"expected one of {', '.join(members)}; found {value!r:.60}"
            ) from None

    return convert


def _instant(value: Any) -> int:
    return 0 if value is None else value


REPORT_FIELDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "exec_type": _member(ExecType),
    "command": _member(CommandKind),
    "venue_order_id": lambda value: to_text(value) or None,
    "venue_client_order_id": lambda value: to_text(value) or None,
    "symbol": lambda value: to_text(value) or None,
    "side": _member(Side),
    "ord_status": _member(OrdStatus),
    "cum_qty": to_decimal,
    "order_qty": to_decimal,
    "price": to_decimal,
    "trigger_price": to_decimal,
    "triggered": _flag,
    "trade_id": lambda value: to_text(value) or None,
    "last_qty": to_decimal,
    "last_px": to_decimal,
    "fee": to_decimal,
    "fee_asset": lambda value: to_text(value) or None,
    "liquidity": _member(Liquidity),
    "final": _flag,
    "reason": lambda value: to_text(value) or "",
    "text": lambda value: to_text(value) or "",
    "transact_time_ns": _instant,
}
"""Fields of a report, and how each is read. `symbol` is the venue's name of the market there."""

# Absence of these is the absence of the field; the others have a default of their own.
_SKIP_NONE: Final = frozenset(("liquidity", "final", "triggered"))

MakeReport = Callable[[Any, Inputs, int], ExecutionReport]


def compile_report(
    spot: Spot, compiler: Compiler, *, settles: CommandKind | None = None
) -> MakeReport:
    """Compile one kind of report.

    Args:
        settles: The command that is answered. Its order's names, market and side stand in the report where
            the answer does not say them, and what reports its success settles it.
    """
    if spot.is_text:
        if spot.text() not in compiler.reports:
            spot.fail(f"no such report; the definition has {', '.join(compiler.reports) or 'none'}")
        spot = compiler.reports[spot.text()]
    constants: dict[str, Any] = {}
    fields: list[tuple[str, Read, Callable[[Any], Any]]] = []
    for name, part in spot.keys(("exec_type",), REPORT_FIELDS).items():
        if name == "symbol":
            continue
        read, convert = compiler.value(part), REPORT_FIELDS[name]
        if part.is_map and "const" in part.items():
            try:
                constants[name] = convert(part.items()["const"].text())
            except TranslationError as e:
                part.fail(str(e))
        else:
            fields.append((name, read, convert))
    read_symbol: Read | None = (
        compiler.value(spot.items()["symbol"]) if "symbol" in spot.items() else None
    )
    success = None if settles is None else _SUCCESS[settles]

    def make(row: Any, inputs: Inputs, received_time_ns: int) -> ExecutionReport:
        # What the command says of its order stands where the answer does not say otherwise.
        told: dict[str, Any] = {"received_time_ns": received_time_ns, **constants}
        if settles is not None:
            order = inputs.order
            if order is not None:
                told["side"] = order.side
                told["symbol"] = order.symbol
            if inputs.venue_client_order_id is not None:
                told["venue_client_order_id"] = inputs.venue_client_order_id
            if inputs.venue_order_id is not None:
                told["venue_order_id"] = inputs.venue_order_id
        for name, read, convert in fields:
            value = convert(read(row, inputs))
            if value is not None:
                told[name] = value
        if "exec_type" not in told:
            raise TranslationError(f"{spot.path}: expected an exec_type: {row!r:.200}")
        if settles is not None and told["exec_type"] is success:
            told.setdefault("command", settles)
        if read_symbol is not None:
            market = to_text(read_symbol(row, inputs))
            if market:
                told["symbol"] = (
                    market if inputs.markets is None else inputs.markets.unified(market)
                )
        return ExecutionReport(**told)

    return make


_SUCCESS: Final = {
    CommandKind.NEW: ExecType.NEW,
    CommandKind.CANCEL: ExecType.CANCELED,
    CommandKind.REPLACE: ExecType.REPLACED,
}


class Rows:
    """Where the rows of an answer stand, and which of them count.

    Keys: `rows` (a path to a list, or to one row), `entries` (a path to an object whose members are rows;
    `$key` is the key of each), `keep` (a condition on a row).
    """

    KEYS: Final = ("rows", "entries", "keep", "newest_first")

    def __init__(self, items: Mapping[str, Spot], compiler: Compiler) -> None:
        if "rows" in items and "entries" in items:
            items["entries"].fail("rows and entries exclude each other")
        self._where = "answer"
        self._get: Callable[[Any], Any] = lambda row: row
        self._is_entries = "entries" in items
        for key in ("rows", "entries"):
            if key in items:
                self._where = items[key].path
                self._get = compiler.path(items[key], items[key].text())
        self._keep = compiler.condition(items["keep"]) if "keep" in items else None
        self._is_reversed = "newest_first" in items and items["newest_first"].flag()

    def all(self, answer: Any) -> list[tuple[str | None, Any]]:
        """Return every row with its key, the last to happen last, before any is left out.

        Raises:
            TranslationError: There are no rows where they should stand. That is no statement of the venue
                that it has none.
        """
        found = self._get(answer)
        rows: list[tuple[str | None, Any]]
        if self._is_entries and isinstance(found, dict):
            rows = list(found.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        elif isinstance(found, list):
            rows = [(None, row) for row in found]  # pyright: ignore[reportUnknownVariableType]
        elif isinstance(found, dict):
            rows = [(None, found)]
        else:
            raise TranslationError(f"{self._where}: expected rows, found {found!r:.80}")
        return rows[::-1] if self._is_reversed else rows

    def kept(self, rows: list[tuple[str | None, Any]], inputs: Inputs) -> Iterator[Any]:
        """Iterate over the rows that count, with `$key` set for each."""
        for key, row in rows:
            inputs.key = key
            if self._keep is None or self._keep(row, inputs):
                yield row


BALANCE_FIELDS: Final = ("asset", "free", "held", "total")
INSTRUMENT_FIELDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "symbol": to_text,
    "venue_symbol": to_text,
    "base_asset": to_text,
    "quote_asset": to_text,
    "tick_size": to_decimal,
    "step_size": to_decimal,
    "qty_min": to_decimal,
    "qty_max": to_decimal,
    "notional_min": to_decimal,
    "notional_max": to_decimal,
    "status": _member(InstrumentStatus),
}


def compile_balance(
    spot: Spot, compiler: Compiler
) -> Callable[[Any, Inputs, AccountName, int], Balance]:
    """Compile how a row becomes a balance: `free`, and `held` or `total`."""
    items = spot.keys(("asset", "free"), ("held", "total"))
    if ("held" in items) == ("total" in items):
        spot.fail("expected held or total, one of them")
    asset, free = compiler.value(items["asset"]), compiler.value(items["free"])
    is_total = "total" in items
    other = compiler.value(items["total" if is_total else "held"])

    def make(row: Any, inputs: Inputs, account: AccountName, time_ns: int) -> Balance:
        name, number = to_text(asset(row, inputs)), to_decimal(free(row, inputs))
        rest = to_decimal(other(row, inputs))
        if not name or number is None or rest is None:
            raise TranslationError(f"{spot.path}: unreadable balance: {row!r:.200}")
        held = rest - number if is_total else rest
        return Balance(account=account, asset=name, free=number, held=held, time_ns=time_ns)

    return make


def compile_instrument(spot: Spot, compiler: Compiler) -> Callable[[Any, Inputs], Listed]:
    """Compile how a row becomes a market."""
    needed = ("venue_symbol", "base_asset", "quote_asset", "tick_size", "step_size")
    items = spot.keys(needed, ("aliases", *(k for k in INSTRUMENT_FIELDS if k not in needed)))
    fields = [
        (name, compiler.value(items[name]), convert)
        for name, convert in INSTRUMENT_FIELDS.items()
        if name in items
    ]
    aliases = (
        [compiler.value(part) for part in items["aliases"].each()] if "aliases" in items else []
    )

    def make(row: Any, inputs: Inputs) -> Listed:
        told: dict[str, Any] = {}
        for name, read, convert in fields:
            value = convert(read(row, inputs))
            if value is not None:
                told[name] = value
        for name in needed:
            if name not in told:
                raise TranslationError(f"{spot.path}: {name} is missing: {row!r:.200}")
        told.setdefault("symbol", f"{told['base_asset']}/{told['quote_asset']}")
        names = (to_text(read(row, inputs)) for read in aliases)
        return Listed(
            instrument=Instrument(**told), aliases=tuple([name for name in names if name])
        )

    return make
