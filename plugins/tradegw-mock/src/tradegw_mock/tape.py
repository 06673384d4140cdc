"""The public market data of what trades: recent trades, candles, the last day. Memory is bounded.

It hears of each committed change, and knows nothing of doors.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from msgspec import Struct

from tradegw_mock.exchange import OUTSIDE, Change, Exchange, Fill, Liquidity, Side

__all__ = ["INTERVALS_MS", "Candle", "Day", "Tape", "Trade"]

ZERO: Final = Decimal(0)
MS: Final = 1_000_000
_TRADES_KEPT: Final = 10_000
_SECOND_MS: Final = 1000
_MINUTE_MS: Final = 60 * _SECOND_MS
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS
_WEEK_MS: Final = 7 * _DAY_MS
_MONDAY_MS: Final = 4 * _DAY_MS
"""The first Monday since the epoch, where weeks begin."""

INTERVALS_MS: Final = {
    "1s": _SECOND_MS,
    "1m": _MINUTE_MS,
    "3m": 3 * _MINUTE_MS,
    "5m": 5 * _MINUTE_MS,
    "15m": 15 * _MINUTE_MS,
    "30m": 30 * _MINUTE_MS,
    "1h": _HOUR_MS,
    "2h": 2 * _HOUR_MS,
    "4h": 4 * _HOUR_MS,
    "6h": 6 * _HOUR_MS,
    "8h": 8 * _HOUR_MS,
    "12h": 12 * _HOUR_MS,
    "1d": _DAY_MS,
    "3d": 3 * _DAY_MS,
    "1w": _WEEK_MS,
    # By length alone: a month of the calendar would be the only one of its kind.
    "1M": 30 * _DAY_MS,
}
_KEPT: Final = {_SECOND_MS: 1000, _MINUTE_MS: 2000, _HOUR_MS: 1000, _DAY_MS: 1000}
"""Candles kept of each length that is recorded; the others are made of them."""


class Trade(Struct, frozen=True, kw_only=True, gc=False):
    """One trade. `group` is the same for trades of one taker's order at one price."""

    trade_id: int
    price: Decimal
    qty: Decimal
    quote_qty: Decimal
    time_ns: int
    is_buyer_maker: bool
    group: int


class Candle(Struct, kw_only=True):
    """What traded from `open_ms` on, for as long as the interval."""

    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO
    quote: Decimal = ZERO
    taker_volume: Decimal = ZERO
    taker_quote: Decimal = ZERO
    count: int = 0
    first_id: int = 0
    last_id: int = 0

    def add_trade(self, trade: Trade) -> None:
        """Take in a trade after it."""
        price, qty = trade.price, trade.qty
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.close = price
        self.volume += qty
        self.quote += trade.quote_qty
        if not trade.is_buyer_maker:
            self.taker_volume += qty
            self.taker_quote += trade.quote_qty
        self.count += 1
        self.last_id = trade.trade_id

    def add(self, other: Candle) -> None:
        """Take in what traded after it."""
        self.high = max(self.high, other.high)
        self.low = min(self.low, other.low)
        self.close = other.close
        self.volume += other.volume
        self.quote += other.quote
        self.taker_volume += other.taker_volume
        self.taker_quote += other.taker_quote
        self.count += other.count
        self.last_id = other.last_id


class Day(Struct, frozen=True, kw_only=True):
    """The last 24 hours of a symbol; `candle` is None when nothing traded in them."""

    candle: Candle | None
    last: Trade | None


class _Symbol:
    def __init__(self) -> None:
        self.trades: deque[Trade] = deque(maxlen=_TRADES_KEPT)
        self.candles: dict[int, deque[Candle]] = {
            length: deque(maxlen=kept) for length, kept in _KEPT.items()
        }

    def add(self, trade: Trade) -> None:
        self.trades.append(trade)
        time_ms = trade.time_ns // MS
        for length, candles in self.candles.items():
            open_ms = time_ms - time_ms % length
            # A clock that was set back must not bring candles out of order.
            if not candles or candles[-1].open_ms < open_ms:
                candles.append(_candle_of(trade, open_ms))
            else:
                candles[-1].add_trade(trade)


class Tape:
    """All symbols.

    Args:
        symbols: What trades.
    """

    def __init__(self, symbols: Iterable[str]) -> None:
        self._symbols = {symbol: _Symbol() for symbol in symbols}

    def load(self, exchange: Exchange) -> None:
        """Take over what accounts have traded lately, as the exchange remembers it.

        Trades among others are no account's, and are not remembered.
        """
        after = max(0, exchange.last_trade_id - _TRADES_KEPT)
        fills = exchange.fills(None, since_trade_id=after, limit=2 * _TRADES_KEPT)
        for fill in fills:
            self._add_fill(fill)

    def on_change(self, change: Change) -> dict[str, list[Trade]]:
        """Record the trades of a change; give them by symbol."""
        if not change.fills and not change.prints:
            return {}
        made: list[tuple[str, Trade]] = [
            (
                item.symbol,
                Trade(
                    trade_id=item.trade_id,
                    price=item.price,
                    qty=item.qty,
                    quote_qty=item.price * item.qty,
                    time_ns=item.time_ns,
                    is_buyer_maker=item.side is Side.SELL,
                    group=-item.trade_id,
                ),
            )
            for item in change.prints
        ]
        made += [(fill.symbol, _trade_of(fill)) for fill in change.fills if _is_public(fill)]
        made.sort(key=lambda item: item[1].trade_id)
        told: dict[str, list[Trade]] = {}
        for symbol, trade in made:
            self._symbols[symbol].add(trade)
            told.setdefault(symbol, []).append(trade)
        return told

    def _add_fill(self, fill: Fill) -> None:
        if _is_public(fill) and fill.symbol in self._symbols:
            self._symbols[fill.symbol].add(_trade_of(fill))

    # --- queries --------------------------------------------------------------------------------

    def trades(self, symbol: str, *, limit: int, from_id: int | None = None) -> list[Trade]:
        """Give the latest trades, or the first ones from an id on; oldest first."""
        trades = self._symbols[symbol].trades
        if from_id is None:
            return list(trades)[-limit:]
        wanted = (trade for trade in trades if trade.trade_id >= from_id)
        return list(itertools.islice(wanted, limit))

    def all_trades(self, symbol: str) -> list[Trade]:
        """Give all trades that are kept, oldest first."""
        return list(self._symbols[symbol].trades)

    def last(self, symbol: str) -> Trade | None:
        """Give the latest trade."""
        trades = self._symbols[symbol].trades
        return trades[-1] if trades else None

    def candles(self, symbol: str, interval: str) -> list[Candle]:
        """Give the candles of an interval, oldest first; where nothing traded there is none."""
        length = INTERVALS_MS[interval]
        base = max(kept for kept in _KEPT if kept <= length and not length % kept)
        recorded = self._symbols[symbol].candles[base]
        if base == length:
            return list(recorded)
        offset = _MONDAY_MS if length == _WEEK_MS else 0
        made: list[Candle] = []
        for candle in recorded:
            open_ms = candle.open_ms - (candle.open_ms - offset) % length
            if made and made[-1].open_ms == open_ms:
                made[-1].add(candle)
            else:
                made.append(_copy(candle, open_ms))
        return made

    def day(self, symbol: str, now_ns: int, *, window_ms: int = _DAY_MS) -> Day:
        """Sum up the last 24 hours, or another window, to the minute."""
        since_ms = now_ns // MS - window_ms
        total: Candle | None = None
        length = _MINUTE_MS if window_ms <= _DAY_MS else _HOUR_MS
        for candle in self._symbols[symbol].candles[length]:
            if candle.open_ms + length <= since_ms:
                continue
            if total is None:
                total = _copy(candle, candle.open_ms)
            else:
                total.add(candle)
        return Day(candle=total, last=self.last(symbol))

    def average(self, symbol: str, now_ns: int, *, minutes: int = 5) -> Decimal | None:
        """Give the price of the last minutes, weighted by volume; the last one where nothing traded."""
        day = self.day(symbol, now_ns, window_ms=minutes * _MINUTE_MS)
        if day.candle is not None and day.candle.volume:
            return day.candle.quote / day.candle.volume
        return None if day.last is None else day.last.price


def _is_public(fill: Fill) -> bool:
    """Tell whether a fill stands for a trade of the market: one side of it, and none outside the book."""
    return fill.liquidity is Liquidity.TAKER and fill.account != OUTSIDE


def _trade_of(fill: Fill) -> Trade:
    return Trade(
        trade_id=fill.trade_id,
        price=fill.price,
        qty=fill.qty,
        quote_qty=fill.quote_qty,
        time_ns=fill.time_ns,
        is_buyer_maker=fill.side is Side.SELL,
        group=fill.order_id,
    )


def _candle_of(trade: Trade, open_ms: int) -> Candle:
    taken = not trade.is_buyer_maker
    return Candle(
        open_ms=open_ms,
        open=trade.price,
        high=trade.price,
        low=trade.price,
        close=trade.price,
        volume=trade.qty,
        quote=trade.quote_qty,
        taker_volume=trade.qty if taken else ZERO,
        taker_quote=trade.quote_qty if taken else ZERO,
        count=1,
        first_id=trade.trade_id,
        last_id=trade.trade_id,
    )


def _copy(candle: Candle, open_ms: int) -> Candle:
    return Candle(
        open_ms=open_ms,
        **{name: getattr(candle, name) for name in candle.__struct_fields__ if name != "open_ms"},
    )
