"""What anybody may ask: the endpoints without security."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from tradegw_mock.binance.api import Api, Call
from tradegw_mock.binance.errors import BinanceError, mandatory
from tradegw_mock.binance.market import (
    aggregate,
    book_levels,
    kline_row,
    shown_aggregate,
    shown_trade,
    ticker,
)
from tradegw_mock.binance.params import Params
from tradegw_mock.binance.symbols import amount, describe
from tradegw_mock.exchange import Instrument
from tradegw_mock.tape import INTERVALS_MS

__all__ = [
    "agg_trades",
    "average_price",
    "book_ticker",
    "depth",
    "depth_weight",
    "exchange_info",
    "klines",
    "no_symbols",
    "ping",
    "price_ticker",
    "rolling_ticker",
    "symbols_weight",
    "system_status",
    "ticker_24h",
    "ticker_weight",
    "time",
    "trades",
]

MS: Final = 1_000_000
_DAY_MS: Final = 86_400_000
_WINDOW: Final = re.compile(r"([1-9][0-9]?)([mhd])")
_UNITS_MS: Final = {"m": 60_000, "h": 3_600_000, "d": _DAY_MS}
_INVALID_INTERVAL: Final = (-1120, "Invalid interval.")
_DEPTH_MAX: Final = 5000


async def ping(api: Api, call: Call) -> Any:
    """`GET ping`."""
    return {}


async def time(api: Api, call: Call) -> Any:
    """`GET time`."""
    return {"serverTime": call.now_ns // MS}


async def system_status(api: Api, call: Call) -> Any:
    """`GET /sapi/v1/system/status`."""
    return {"status": 0, "msg": "normal"}


async def exchange_info(api: Api, call: Call) -> Any:
    """`GET exchangeInfo`: rules, limits, and what trades."""
    params = call.params
    instruments, _ = api.symbols.chosen(params)
    permissions = params.text("permissions")
    named = params.text("symbol") is not None or params.text("symbols") is not None
    if permissions is not None and named:
        raise BinanceError(-1128, "Combination of optional parameters invalid.")
    status = params.one_of(
        "symbolStatus", ("TRADING", "HALT", "BREAK"), (-1122, "Invalid symbolStatus.")
    )
    if (permissions is not None and "SPOT" not in permissions) or status in ("HALT", "BREAK"):
        instruments = []
    return {
        "timezone": "UTC",
        "serverTime": call.now_ns // MS,
        "rateLimits": api.limits.declared(),
        "exchangeFilters": [],
        "symbols": [describe(api.name(instrument), instrument) for instrument in instruments],
    }


async def no_symbols(api: Api, call: Call) -> Any:
    """`exchangeInfo` of the futures, of which there are none."""
    return {
        "timezone": "UTC",
        "serverTime": call.now_ns // MS,
        "rateLimits": [],
        "exchangeFilters": [],
        "symbols": [],
    }


# --- the book and the trades ----------------------------------------------------------------------


def depth_weight(params: Params) -> int:
    """Weigh a request for the book by how much of it is wanted."""
    limit = params.get("limit", "100")
    size = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 9 else 0
    return 5 if size <= 100 else 25 if size <= 500 else 50 if size <= 1000 else 250


async def depth(api: Api, call: Call) -> Any:
    """`GET depth`."""
    instrument = api.symbols.need(call.params)
    limit = call.params.limit(default=100, most=_DEPTH_MAX)
    exchange = api.host.exchange
    book, number = exchange.depth(instrument.symbol, limit=limit), exchange.last_change
    await api.settled()
    return {
        "lastUpdateId": number,
        "bids": book_levels(book.bids),
        "asks": book_levels(book.asks),
    }


async def trades(api: Api, call: Call) -> Any:
    """`GET trades`, `historicalTrades`."""
    instrument = api.symbols.need(call.params)
    limit = call.params.limit(default=500, most=1000)
    from_id = call.params.integer("fromId")
    found = api.tape.trades(instrument.symbol, limit=limit, from_id=from_id)
    return [shown_trade(trade) for trade in found]


async def agg_trades(api: Api, call: Call) -> Any:
    """`GET aggTrades`."""
    params = call.params
    instrument = api.symbols.need(params)
    limit, from_id = params.limit(default=500, most=1000), params.integer("fromId")
    start_ns, end_ns = params.time_ns("startTime"), params.time_ns("endTime")
    groups = [
        group
        for group in aggregate(api.tape.all_trades(instrument.symbol))
        if (from_id is None or group[0].trade_id >= from_id)
        and (start_ns is None or group[0].time_ns >= start_ns)
        and (end_ns is None or group[0].time_ns // MS <= end_ns // MS)
    ]
    first = from_id is not None or start_ns is not None
    return [shown_aggregate(group) for group in (groups[:limit] if first else groups[-limit:])]


async def klines(api: Api, call: Call) -> Any:
    """`GET klines`, `uiKlines`: in UTC, whatever `timeZone` says of the larger intervals."""
    params = call.params
    instrument = api.symbols.need(params)
    interval = params.one_of("interval", INTERVALS_MS, _INVALID_INTERVAL)
    if interval is None:
        raise mandatory("interval")
    limit = params.limit(default=500, most=1000)
    start_ns, end_ns = params.time_ns("startTime"), params.time_ns("endTime")
    candles = [
        candle
        for candle in api.tape.candles(instrument.symbol, interval)
        if (start_ns is None or candle.open_ms >= start_ns // MS)
        and (end_ns is None or candle.open_ms <= end_ns // MS)
    ]
    chosen = candles[:limit] if start_ns is not None else candles[-limit:]
    return [kline_row(candle, interval) for candle in chosen]


async def average_price(api: Api, call: Call) -> Any:
    """`GET avgPrice`."""
    instrument = api.symbols.need(call.params)
    last = api.tape.last(instrument.symbol)
    price = api.tape.average(instrument.symbol, call.now_ns) or _last_price(api, instrument)
    return {
        "mins": 5,
        "price": amount(price),
        "closeTime": call.now_ns // MS if last is None else last.time_ns // MS,
    }


def _last_price(api: Api, instrument: Instrument) -> Decimal | None:
    return api.host.exchange.reference_price(instrument.symbol).last


# --- tickers --------------------------------------------------------------------------------------


def ticker_weight(params: Params) -> int:
    """Weigh `ticker/24hr` by how many symbols it is about."""
    return 2 if params.get("symbol") or params.get("symbols") else 80


def symbols_weight(params: Params) -> int:
    """Weigh the prices of one symbol, or of more."""
    return 2 if params.get("symbol") else 4


def _is_mini(params: Params) -> bool:
    kind = params.one_of("type", ("FULL", "MINI"), (-1139, "Invalid ticker type."))
    return kind == "MINI"


async def ticker_24h(api: Api, call: Call) -> Any:
    """`GET ticker/24hr`."""
    chosen, is_one = api.symbols.chosen(call.params)
    is_mini = _is_mini(call.params)
    shown = [
        ticker(
            api.name(instrument),
            api.tape.day(instrument.symbol, call.now_ns),
            api.host.exchange.depth(instrument.symbol, limit=1),
            _last_price(api, instrument),
            now_ms=call.now_ns // MS,
            window_ms=_DAY_MS,
            is_mini=is_mini,
        )
        for instrument in chosen
    ]
    return shown[0] if is_one else shown


async def rolling_ticker(api: Api, call: Call) -> Any:
    """`GET ticker`, `ticker/tradingDay`: a window of the caller's choice, to the minute."""
    params = call.params
    chosen, is_one = api.symbols.chosen(params, needed=True)
    is_mini = _is_mini(params)
    size = params.text("windowSize") or "1d"
    matched = _WINDOW.fullmatch(size)
    if matched is None or (matched[2] == "d" and int(matched[1]) > 7):
        raise BinanceError(-1130, "Data sent for parameter 'windowSize' is not valid.")
    window_ms = int(matched[1]) * _UNITS_MS[matched[2]]
    shown = [
        ticker(
            api.name(instrument),
            api.tape.day(instrument.symbol, call.now_ns, window_ms=window_ms),
            None,
            _last_price(api, instrument),
            now_ms=call.now_ns // MS,
            window_ms=window_ms,
            is_mini=is_mini,
        )
        for instrument in chosen
    ]
    return shown[0] if is_one else shown


async def price_ticker(api: Api, call: Call) -> Any:
    """`GET ticker/price`."""
    chosen, is_one = api.symbols.chosen(call.params)
    shown = [
        {"symbol": api.name(instrument), "price": amount(_last_price(api, instrument))}
        for instrument in chosen
    ]
    return shown[0] if is_one else shown


async def book_ticker(api: Api, call: Call) -> Any:
    """`GET ticker/bookTicker`."""
    chosen, is_one = api.symbols.chosen(call.params)
    shown: list[dict[str, Any]] = []
    nothing = (None, None)
    for instrument in chosen:
        book = api.host.exchange.depth(instrument.symbol, limit=1)
        bid, ask = book.bids[0] if book.bids else nothing, book.asks[0] if book.asks else nothing
        shown.append(
            {
                "symbol": api.name(instrument),
                "bidPrice": amount(bid[0]),
                "bidQty": amount(bid[1]),
                "askPrice": amount(ask[0]),
                "askQty": amount(ask[1]),
            }
        )
    await api.settled()
    return shown[0] if is_one else shown
