"""Liquidity from a file: trades and book updates of another market, played again.

The file is CSV with the header `time_ms,kind,symbol,side,price,qty`, in order of time:

- `trade`: somebody else traded `qty` at `price`; `side` is the taker's. The last price moves there and
  stops fire. A user's order beyond the price is filled whole; one at the price, on the other side of the
  taker, by at most `qty`.
- `book`: from now on `qty` rests at `price`; 0 takes it away. `side` is BUY for bids, SELL for asks. An
  order that this meets in the book trades.

A symbol without `book` rows is quoted around its last trade, as the synthetic maker does.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from .engine import Engine
from .errors import ExchangeError, Refusal
from .exchange import Exchange
from .maker import MAKER, Maker
from .market import Draft, Market
from .matching import Reason
from .model import Change, Instrument, Operation, Side, TimeInForce, Value
from .rules import check_price, check_qty

COLUMNS: Final = ("time_ms", "kind", "symbol", "side", "price", "qty")
_KINDS: Final = ("trade", "book")


class ReplayError(ExchangeError):
    """A file to replay cannot be read; the text names it, and the line."""


class ReplayRow(Value, frozen=True):
    """One line: what happened when."""

    time_ms: int
    kind: str
    symbol: str
    side: Side
    price: Decimal
    qty: Decimal


class ReplayFile:
    """A file that was read once, line by line, and found in order.

    Args:
        instruments: What trades: prices and quantities must be on their grids, and are never rounded.

    Raises:
        ReplayError: It is not; nothing is played then.
    """

    def __init__(self, path: Path, instruments: list[Instrument]) -> None:
        self.path = path
        self._instruments = {instrument.symbol: instrument for instrument in instruments}
        self.booked: set[str] = set()
        """Symbols whose book the file tells."""
        self.first_trades: dict[str, Decimal] = {}
        """The price of the first trade of each other symbol."""
        first: dict[str, Decimal] = {}
        for row in self.rows():
            if row.kind == "book":
                self.booked.add(row.symbol)
            else:
                first.setdefault(row.symbol, row.price)
        self.first_trades = {s: price for s, price in first.items() if s not in self.booked}
        if not first and not self.booked:
            raise ReplayError(f"{path}: expected rows below the header, found none")

    def rows(self) -> Iterator[ReplayRow]:
        """Read it from the beginning, keeping one line in memory.

        Raises:
            ReplayError: See the class.
        """
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                lines = csv.reader(file)
                header = tuple(next(lines, ()))
                if header != COLUMNS:
                    raise ReplayError(
                        f"{self.path}: expected the header {','.join(COLUMNS)}, found {','.join(header)!r}"
                    )
                time_ms = 0
                for columns in lines:
                    row = self._read(columns, f"{self.path}, line {lines.line_num}")
                    if row.time_ms < time_ms:
                        raise ReplayError(
                            f"{self.path}, line {lines.line_num}: expected time_ms of at least "
                            f"{time_ms}, found {row.time_ms}"
                        )
                    time_ms = row.time_ms
                    yield row
        except (OSError, UnicodeDecodeError, csv.Error) as e:
            raise ReplayError(f"{self.path}: {e}") from e

    def _read(self, columns: list[str], where: str) -> ReplayRow:
        if len(columns) != len(COLUMNS):
            raise ReplayError(f"{where}: expected {len(COLUMNS)} columns, found {len(columns)}")
        time_ms, kind, symbol, side, price, qty = columns
        instrument = self._instruments.get(symbol)
        if instrument is None:
            raise ReplayError(f"{where}: no symbol {symbol!r} trades here")
        if kind not in _KINDS:
            raise ReplayError(f"{where}: expected trade or book, found {kind!r}")
        try:
            row = ReplayRow(
                time_ms=int(time_ms),
                kind=kind,
                symbol=symbol,
                side=Side(side),
                price=Decimal(price),
                qty=Decimal(qty),
            )
            check_price(instrument, row.price, "price")
            if kind == "trade" or row.qty:
                check_qty(instrument, row.qty)
        except (ValueError, InvalidOperation, Refusal) as e:
            raise ReplayError(f"{where}: {e}") from e
        if not 0 <= row.time_ms < 2**53:
            raise ReplayError(f"{where}: expected milliseconds, found {time_ms}")
        return row


class Replay(Maker):
    """Play a file at an exchange. `path_step` of each market counts its rows, also over restarts.

    Args:
        seed: What the sizes of quotes are drawn from where the file tells no book.
    """

    def __init__(self, exchange: Exchange, file: ReplayFile, *, seed: int) -> None:
        super().__init__(exchange, seed=seed, start_prices=file.first_trades)
        self._file = file

    def remaining(self) -> Iterator[tuple[int, ReplayRow]]:
        """Give the rows that were not played yet, each with its milliseconds since the first of the file."""
        played = {
            symbol: self._exchange.market_state(symbol).path_step
            for symbol in (*self._file.booked, *self._file.first_trades)
        }
        begin_ms: int | None = None
        for row in self._file.rows():
            if begin_ms is None:
                begin_ms = row.time_ms
            if played[row.symbol]:
                played[row.symbol] -= 1
            else:
                yield row.time_ms - begin_ms, row

    def play(self, row: ReplayRow) -> Change:
        """Let happen what a row says."""

        def act(draft: Draft, engine: Engine) -> None:
            market = engine.market(row.symbol)
            market.path_step += 1
            draft.markets[row.symbol] = market
            if row.kind == "book":
                self._set_level(engine, draft, market, row)
            else:
                self._trade(engine, draft, market, row)

        arguments = {name: str(getattr(row, name)) for name in COLUMNS if name != "time_ms"}
        return self._exchange.run_internal(Operation.REPLAY, MAKER, act, arguments=arguments)

    def refill(self, engine: Engine, draft: Draft) -> None:
        """Put back eaten levels of quotes, but where the file tells the book."""
        for symbol in {fill.symbol for fill in draft.fills} - self._file.booked:
            self._refill(engine, draft, symbol)

    def _set_level(self, engine: Engine, draft: Draft, market: Market, row: ReplayRow) -> None:
        self._withdraw(engine, draft, market, row.side, row.price)
        if not row.qty:
            return
        other = Side.SELL if row.side is Side.BUY else Side.BUY
        for side, price in list(market.quotes):
            # The book that the file tells was never crossed; ours is not, on the way to it.
            if side is other and (
                price <= row.price if row.side is Side.BUY else price >= row.price
            ):
                self._withdraw(engine, draft, market, side, price)
        gtc = TimeInForce.GTC
        if self._place(engine, draft, market, row.side, row.price, row.qty, gtc):
            market.quotes[row.side, row.price] = engine.order_id

    def _trade(self, engine: Engine, draft: Draft, market: Market, row: ReplayRow) -> None:
        tick = market.instrument.tick_size
        booked = row.symbol in self._file.booked
        if not booked:
            self._move(engine, draft, market, row.price)
        # Its own quotes in the way are lifted out, and put back below.
        lifted = [
            (side, price, engine.open[order_id].leaves_qty)
            for (side, price), order_id in market.quotes.items()
            if order_id in engine.open
            and (price >= row.price if side is Side.BUY else price <= row.price)
        ]
        for side, price, _ in lifted:
            self._withdraw(engine, draft, market, side, price)
        self._sweep(engine, draft, market, Side.SELL, row.price + tick)
        if row.price > tick:
            self._sweep(engine, draft, market, Side.BUY, row.price - tick)
        if market.other_side(row.side).crossed_by(row.price):
            ioc = TimeInForce.IOC
            self._place(engine, draft, market, row.side, row.price, row.qty, ioc)
        engine.mark(draft, market, row.price, side=row.side, qty=row.qty)
        if not booked:
            self._fill_levels(engine, draft, market)
            return
        for side, price, qty in lifted:
            if not market.other_side(side).crossed_by(price) and self._place(
                engine, draft, market, side, price, qty, TimeInForce.GTC
            ):
                market.quotes[side, price] = engine.order_id

    def _withdraw(
        self, engine: Engine, draft: Draft, market: Market, side: Side, price: Decimal
    ) -> None:
        order = engine.open.get(market.quotes.pop((side, price), 0))
        if order is not None:
            engine.cancel(draft, order, reason=Reason.QUOTE_WITHDRAWN)
