"""What a stream of market data tells: its name is read, its messages are made. Nothing is sent here.

Source: binance-spot-api-docs, web-socket-streams.md.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from decimal import Decimal
from typing import Any, Final

from typing_extensions import override

from tradegw_mock.binance.api import Api
from tradegw_mock.binance.market import (
    aggregate,
    book_levels,
    kline_event,
    mini_ticker_event,
    shown_aggregate,
    ticker_event,
    trade_event,
)
from tradegw_mock.binance.symbols import amount
from tradegw_mock.exchange import Depth
from tradegw_mock.tape import INTERVALS_MS, Trade

__all__ = ["Topic", "find_topic"]

MS: Final = 1_000_000
_DAY_MS: Final = 86_400_000
_BOOK_MAX: Final = 5000
_NAME: Final = re.compile(
    r"([a-z0-9]{1,20})@([a-zA-Z]+?)(5|10|20)?(_[0-9]{1,2}[smhdwM])?(@100ms|@1000ms)?"
)


class Topic(ABC):
    """One stream, as long as somebody listens.

    Attributes:
        symbols: Whose changes it tells of.
        interval_s: How often it speaks at most; None: with each trade.
        speaks_first: Whether a new listener is told at once how things stand.
    """

    interval_s: float | None = 1.0
    speaks_first = True

    def __init__(self, api: Api, symbols: list[str]) -> None:
        self.api = api
        self.symbols = symbols

    @abstractmethod
    def messages(self) -> list[Any]:
        """Make the next messages: none when there is nothing to tell."""

    def of_trades(self, symbol: str, trades: list[Trade]) -> list[Any]:
        """Make the messages that trades cause at once."""
        return []


def find_topic(api: Api, name: str) -> Topic | None:
    """Find what a stream's name stands for; None for what there is not."""
    if name == "!ticker@arr":
        return _AllTickers(api, is_mini=False)
    if name == "!miniTicker@arr":
        return _AllTickers(api, is_mini=True)
    if name == "!bookTicker":
        return _AllBookTickers(api)
    matched = _NAME.fullmatch(name)
    if matched is None:
        return None
    lower, kind, levels, interval, speed = matched.groups()
    instrument = api.symbols.find(lower.upper())
    if instrument is None:
        return None
    symbol = instrument.symbol
    if kind == "depth":
        interval_s = 0.1 if speed == "@100ms" else 1.0
        if interval is not None:
            return None
        if levels is None:
            return _DiffDepth(api, symbol, interval_s)
        return _PartialDepth(api, symbol, interval_s, int(levels))
    if levels is not None or speed is not None:
        return None
    if kind == "kline" and interval is not None and interval[1:] in INTERVALS_MS:
        return _Kline(api, symbol, interval[1:])
    if interval is not None:
        return None
    made: type[_OfSymbol] | None = _KINDS.get(kind)
    return None if made is None else made(api, symbol)


class _OfSymbol(Topic):
    def __init__(self, api: Api, symbol: str) -> None:
        super().__init__(api, [symbol])
        self.symbol = symbol
        self.name = api.symbols.name(symbol)

    def now_ms(self) -> int:
        return self.api.host.time_ns() // MS

    def book(self, limit: int) -> Depth:
        return self.api.host.exchange.depth(self.symbol, limit=limit)

    def last_price(self) -> Decimal | None:
        return self.api.host.exchange.reference_price(self.symbol).last


class _Trades(_OfSymbol):
    interval_s = None
    speaks_first = False

    @override
    def messages(self) -> list[Any]:
        return []

    @override
    def of_trades(self, symbol: str, trades: list[Trade]) -> list[Any]:
        return [trade_event(self.name, trade) for trade in trades]


class _AggTrades(_Trades):
    @override
    def of_trades(self, symbol: str, trades: list[Trade]) -> list[Any]:
        return [
            {"e": "aggTrade", "E": group[0].time_ns // MS, "s": self.name, **shown_aggregate(group)}
            for group in aggregate(trades)
        ]


class _Ticker(_OfSymbol):
    @override
    def messages(self) -> list[Any]:
        now_ns = self.api.host.time_ns()
        return [
            ticker_event(
                self.name,
                self.api.tape.day(self.symbol, now_ns),
                self.book(1),
                self.last_price(),
                now_ms=now_ns // MS,
                window_ms=_DAY_MS,
            )
        ]


class _MiniTicker(_OfSymbol):
    @override
    def messages(self) -> list[Any]:
        now_ns = self.api.host.time_ns()
        return [
            mini_ticker_event(
                self.name,
                self.api.tape.day(self.symbol, now_ns),
                self.last_price(),
                now_ms=now_ns // MS,
                window_ms=_DAY_MS,
            )
        ]


class _AveragePrice(_OfSymbol):
    @override
    def messages(self) -> list[Any]:
        now_ns = self.api.host.time_ns()
        last = self.api.tape.last(self.symbol)
        price = self.api.tape.average(self.symbol, now_ns) or self.last_price()
        return [
            {
                "e": "avgPrice",
                "E": now_ns // MS,
                "s": self.name,
                "i": "5m",
                "w": amount(price),
                "T": (now_ns if last is None else last.time_ns) // MS,
            }
        ]


class _BookTicker(_OfSymbol):
    # In real time, but not more often than anybody can look.
    interval_s = 0.01

    def __init__(self, api: Api, symbol: str) -> None:
        super().__init__(api, symbol)
        self._told: object = None

    @override
    def messages(self) -> list[Any]:
        book = self.book(1)
        if not book.bids or not book.asks or book == self._told:
            return []
        self._told = book
        (bid, bid_qty), (ask, ask_qty) = book.bids[0], book.asks[0]
        return [
            {
                "u": self.api.host.exchange.last_change,
                "s": self.name,
                "b": amount(bid),
                "B": amount(bid_qty),
                "a": amount(ask),
                "A": amount(ask_qty),
            }
        ]


class _Kline(_OfSymbol):
    def __init__(self, api: Api, symbol: str, interval: str) -> None:
        super().__init__(api, symbol)
        self._interval = interval
        self._from_ms = 0

    @override
    def messages(self) -> list[Any]:
        candles = self.api.tape.candles(self.symbol, self._interval)
        # The one told last once more, closed now, before the one that follows it.
        latest = candles[-2:] if self._from_ms else candles[-1:]
        now_ms = self.now_ms()
        told = [
            kline_event(self.name, candle, self._interval, now_ms=now_ms)
            for candle in latest
            if candle.open_ms >= self._from_ms
        ]
        if told:
            candle = told[-1]["k"]
            self._from_ms = candle["T"] + 1 if candle["x"] else candle["t"]
        return told


class _PartialDepth(_OfSymbol):
    def __init__(self, api: Api, symbol: str, interval_s: float, levels: int) -> None:
        super().__init__(api, symbol)
        self.interval_s = interval_s
        self._levels = levels

    @override
    def messages(self) -> list[Any]:
        book = self.book(self._levels)
        return [
            {
                "lastUpdateId": self.api.host.exchange.last_change,
                "bids": book_levels(book.bids),
                "asks": book_levels(book.asks),
            }
        ]


class _DiffDepth(_OfSymbol):
    """What changed in the book since the last message. Changes of the exchange number the updates."""

    speaks_first = False

    def __init__(self, api: Api, symbol: str, interval_s: float) -> None:
        super().__init__(api, symbol)
        self.interval_s = interval_s
        self._bids, self._asks = self._levels()
        self._last_update = api.host.exchange.last_change

    @override
    def messages(self) -> list[Any]:
        bids, asks = self._levels()
        changed = _changed(self._bids, bids), _changed(self._asks, asks)
        self._bids, self._asks = bids, asks
        if not changed[0] and not changed[1]:
            return []
        first, self._last_update = self._last_update + 1, self.api.host.exchange.last_change
        return [
            {
                "e": "depthUpdate",
                "E": self.now_ms(),
                "s": self.name,
                "U": first,
                "u": self._last_update,
                "b": changed[0],
                "a": changed[1],
            }
        ]

    def _levels(self) -> tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]:
        book = self.book(_BOOK_MAX)
        return dict(book.bids), dict(book.asks)


def _changed(before: dict[Decimal, Decimal], now: dict[Decimal, Decimal]) -> list[list[str]]:
    changed = [(price, qty) for price, qty in now.items() if before.get(price) != qty]
    changed += [(price, Decimal(0)) for price in before if price not in now]
    return [[amount(price), amount(qty)] for price, qty in changed]


class _All(Topic):
    def __init__(self, api: Api) -> None:
        super().__init__(api, [i.symbol for i in api.host.exchange.instruments()])


class _AllTickers(_All):
    def __init__(self, api: Api, *, is_mini: bool) -> None:
        super().__init__(api)
        kind = _MiniTicker if is_mini else _Ticker
        self._tickers = [kind(api, symbol) for symbol in self.symbols]

    @override
    def messages(self) -> list[Any]:
        return [[told for each in self._tickers for told in each.messages()]]


class _AllBookTickers(_All):
    interval_s = 0.01

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._tickers = [_BookTicker(api, symbol) for symbol in self.symbols]

    @override
    def messages(self) -> list[Any]:
        return [told for each in self._tickers for told in each.messages()]


_KINDS: Final[dict[str, type[_OfSymbol]]] = {
    "trade": _Trades,
    "aggTrade": _AggTrades,
    "ticker": _Ticker,
    "miniTicker": _MiniTicker,
    "avgPrice": _AveragePrice,
    "bookTicker": _BookTicker,
}
