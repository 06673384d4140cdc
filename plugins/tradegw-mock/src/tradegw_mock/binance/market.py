"""Public market data as Binance shows it. Pure.

Source: binance-spot-api-docs, rest-api.md, "Market Data endpoints"; web-socket-streams.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

from tradegw_mock.binance.symbols import amount
from tradegw_mock.exchange import Depth
from tradegw_mock.tape import INTERVALS_MS, Candle, Day, Trade

__all__ = [
    "aggregate",
    "book_levels",
    "kline_event",
    "kline_row",
    "mini_ticker_event",
    "shown_aggregate",
    "shown_trade",
    "ticker",
    "ticker_event",
    "trade_event",
]

ZERO: Final = Decimal(0)
MS: Final = 1_000_000


def shown_trade(trade: Trade) -> dict[str, Any]:
    """Show a trade as `trades` does."""
    return {
        "id": trade.trade_id,
        "price": amount(trade.price),
        "qty": amount(trade.qty),
        "quoteQty": amount(trade.quote_qty),
        "time": trade.time_ns // MS,
        "isBuyerMaker": trade.is_buyer_maker,
        "isBestMatch": True,
    }


def aggregate(trades: Iterable[Trade]) -> Iterator[list[Trade]]:
    """Put the trades together that one taker's order made at one price and time."""
    group: list[Trade] = []
    for trade in trades:
        if group and (trade.group, trade.price, trade.time_ns) != (
            group[0].group,
            group[0].price,
            group[0].time_ns,
        ):
            yield group
            group = []
        group.append(trade)
    if group:
        yield group


def shown_aggregate(group: list[Trade]) -> dict[str, Any]:
    """Show trades put together, as `aggTrades` does. Their id is that of the first one."""
    first = group[0]
    return {
        "a": first.trade_id,
        "p": amount(first.price),
        "q": amount(sum((trade.qty for trade in group), ZERO)),
        "f": first.trade_id,
        "l": group[-1].trade_id,
        "T": first.time_ns // MS,
        "m": first.is_buyer_maker,
        "M": True,
    }


def trade_event(name: str, trade: Trade) -> dict[str, Any]:
    """Tell a trade on its stream."""
    return {
        "e": "trade",
        "E": trade.time_ns // MS,
        "s": name,
        "t": trade.trade_id,
        "p": amount(trade.price),
        "q": amount(trade.qty),
        "T": trade.time_ns // MS,
        "m": trade.is_buyer_maker,
        "M": True,
    }


def book_levels(
    levels: Iterable[tuple[Decimal, Decimal]], limit: int | None = None
) -> list[list[str]]:
    """Show one side of a book."""
    shown = [[amount(price), amount(qty)] for price, qty in levels]
    return shown if limit is None else shown[:limit]


def kline_row(candle: Candle, interval: str) -> list[Any]:
    """Show a candle as `klines` does."""
    return [
        candle.open_ms,
        amount(candle.open),
        amount(candle.high),
        amount(candle.low),
        amount(candle.close),
        amount(candle.volume),
        candle.open_ms + INTERVALS_MS[interval] - 1,
        amount(candle.quote),
        candle.count,
        amount(candle.taker_volume),
        amount(candle.taker_quote),
        "0",
    ]


def kline_event(name: str, candle: Candle, interval: str, *, now_ms: int) -> dict[str, Any]:
    """Tell a candle on its stream."""
    close_ms = candle.open_ms + INTERVALS_MS[interval] - 1
    return {
        "e": "kline",
        "E": now_ms,
        "s": name,
        "k": {
            "t": candle.open_ms,
            "T": close_ms,
            "s": name,
            "i": interval,
            "f": candle.first_id,
            "L": candle.last_id,
            "o": amount(candle.open),
            "c": amount(candle.close),
            "h": amount(candle.high),
            "l": amount(candle.low),
            "v": amount(candle.volume),
            "n": candle.count,
            "x": now_ms > close_ms,
            "q": amount(candle.quote),
            "V": amount(candle.taker_volume),
            "Q": amount(candle.taker_quote),
            "B": "0",
        },
    }


class _Summary:
    """A day in figures; one without trades stands where the last price is."""

    def __init__(self, day: Day, last_price: Decimal | None, now_ms: int, window_ms: int) -> None:
        candle = day.candle
        still = last_price or ZERO
        self.open = still if candle is None else candle.open
        self.high = still if candle is None else candle.high
        self.low = still if candle is None else candle.low
        self.last = still if candle is None else candle.close
        self.volume = ZERO if candle is None else candle.volume
        self.quote = ZERO if candle is None else candle.quote
        self.count = 0 if candle is None else candle.count
        self.first_id = -1 if candle is None else candle.first_id
        self.last_id = -1 if candle is None else candle.last_id
        self.change = self.last - self.open
        self.percent = self.change * 100 / self.open if self.open else ZERO
        self.average = self.quote / self.volume if self.volume else self.last
        self.last_qty = ZERO if day.last is None else day.last.qty
        self.open_ms = now_ms - window_ms
        self.close_ms = now_ms


def ticker(
    name: str,
    day: Day,
    depth: Depth | None,
    last_price: Decimal | None,
    *,
    now_ms: int,
    window_ms: int,
    is_mini: bool,
) -> dict[str, Any]:
    """Sum a window of time up as `ticker/24hr` does; without `depth`, as `ticker` does."""
    told = _Summary(day, last_price, now_ms, window_ms)
    shown: dict[str, Any] = {"symbol": name}
    if not is_mini:
        shown |= {
            "priceChange": amount(told.change),
            "priceChangePercent": f"{told.percent:.3f}",
            "weightedAvgPrice": amount(told.average),
        }
        if depth is not None:
            bid, ask = _touch(depth)
            shown |= {
                "prevClosePrice": amount(told.open),
                "lastPrice": amount(told.last),
                "lastQty": amount(told.last_qty),
                "bidPrice": amount(bid[0]),
                "bidQty": amount(bid[1]),
                "askPrice": amount(ask[0]),
                "askQty": amount(ask[1]),
            }
    shown |= {
        "openPrice": amount(told.open),
        "highPrice": amount(told.high),
        "lowPrice": amount(told.low),
        "lastPrice": amount(told.last),
        "volume": amount(told.volume),
        "quoteVolume": amount(told.quote),
        "openTime": told.open_ms,
        "closeTime": told.close_ms,
        "firstId": told.first_id,
        "lastId": told.last_id,
        "count": told.count,
    }
    return shown


def ticker_event(
    name: str, day: Day, depth: Depth, last_price: Decimal | None, *, now_ms: int, window_ms: int
) -> dict[str, Any]:
    """Tell the last day on its stream."""
    told = _Summary(day, last_price, now_ms, window_ms)
    bid, ask = _touch(depth)
    return {
        "e": "24hrTicker",
        "E": now_ms,
        "s": name,
        "p": amount(told.change),
        "P": f"{told.percent:.3f}",
        "w": amount(told.average),
        "x": amount(told.open),
        "c": amount(told.last),
        "Q": amount(told.last_qty),
        "b": amount(bid[0]),
        "B": amount(bid[1]),
        "a": amount(ask[0]),
        "A": amount(ask[1]),
        "o": amount(told.open),
        "h": amount(told.high),
        "l": amount(told.low),
        "v": amount(told.volume),
        "q": amount(told.quote),
        "O": told.open_ms,
        "C": told.close_ms,
        "F": told.first_id,
        "L": told.last_id,
        "n": told.count,
    }


def mini_ticker_event(
    name: str, day: Day, last_price: Decimal | None, *, now_ms: int, window_ms: int
) -> dict[str, Any]:
    """Tell the last day on its stream, briefly."""
    told = _Summary(day, last_price, now_ms, window_ms)
    return {
        "e": "24hrMiniTicker",
        "E": now_ms,
        "s": name,
        "c": amount(told.last),
        "o": amount(told.open),
        "h": amount(told.high),
        "l": amount(told.low),
        "v": amount(told.volume),
        "q": amount(told.quote),
    }


def _touch(depth: Depth) -> tuple[tuple[Decimal, Decimal], tuple[Decimal, Decimal]]:
    nothing = (ZERO, ZERO)
    return (
        depth.bids[0] if depth.bids else nothing,
        depth.asks[0] if depth.asks else nothing,
    )
