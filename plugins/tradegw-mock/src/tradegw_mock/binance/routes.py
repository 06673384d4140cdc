"""Which endpoint answers which path of the REST API and which method of the WebSocket API.

Source: binance-spot-api-docs, rest-api.md and web-socket-api.md; that placements and cancels cost nothing
when they succeed: its changelog of 2026-03-27.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from tradegw_mock.binance import account, public, trading
from tradegw_mock.binance.api import Api, Call, Endpoint, Security
from tradegw_mock.binance.params import Params

__all__ = ["METHODS", "REST"]

_NONE, _KEY, _SIGNED, _TRADE = Security.NONE, Security.KEY, Security.SIGNED, Security.TRADE


def _open_orders_weight(params: Params) -> int:
    return 6 if params.get("symbol") else 80


def _my_trades_weight(params: Params) -> int:
    return 5 if params.get("orderId") else 20


def _endpoint(
    operation: str,
    weight: int | Callable[[Params], int],
    security: Security,
    handler: Callable[[Api, Call], Awaitable[Any]],
    *,
    is_free: bool = False,
) -> Endpoint:
    return Endpoint(
        operation=operation, weight=weight, security=security, handler=handler, is_free=is_free
    )


_PING = _endpoint("ping", 1, _NONE, public.ping)
_TIME = _endpoint("time", 1, _NONE, public.time)
_INFO = _endpoint("instruments", 20, _NONE, public.exchange_info)
_DEPTH = _endpoint("depth", public.depth_weight, _NONE, public.depth)
_TRADES = _endpoint("trades", 25, _NONE, public.trades)
_AGG_TRADES = _endpoint("trades", 4, _NONE, public.agg_trades)
_KLINES = _endpoint("klines", 2, _NONE, public.klines)
_AVG_PRICE = _endpoint("price", 2, _NONE, public.average_price)
_TICKER_24H = _endpoint("ticker", public.ticker_weight, _NONE, public.ticker_24h)
_ROLLING = _endpoint("ticker", 4, _NONE, public.rolling_ticker)
_PRICE = _endpoint("price", public.symbols_weight, _NONE, public.price_ticker)
_BOOK_TICKER = _endpoint("price", public.symbols_weight, _NONE, public.book_ticker)

_PLACE = _endpoint("place", 1, _TRADE, trading.place, is_free=True)
_TEST = _endpoint("test", 1, _TRADE, trading.test)
_CANCEL = _endpoint("cancel", 1, _TRADE, trading.cancel, is_free=True)
_CANCEL_ALL = _endpoint("cancel_all", 1, _TRADE, trading.cancel_all, is_free=True)
_CANCEL_REPLACE = _endpoint("replace", 1, _TRADE, trading.cancel_replace, is_free=True)
_AMEND = _endpoint("replace", 4, _TRADE, trading.amend)
_REFUSE_LIST = _endpoint("place", 1, _TRADE, trading.refuse_list)

_ORDER = _endpoint("order", 4, _SIGNED, account.order_status)
_OPEN_ORDERS = _endpoint("open_orders", _open_orders_weight, _SIGNED, account.open_orders)
_ALL_ORDERS = _endpoint("orders", 20, _SIGNED, account.all_orders)
_MY_TRADES = _endpoint("fills", _my_trades_weight, _SIGNED, account.my_trades)
_ACCOUNT = _endpoint("balances", 20, _SIGNED, account.account)
_COMMISSION = _endpoint("balances", 20, _SIGNED, account.commission)
_ORDER_COUNTS = _endpoint("limits", 40, _SIGNED, account.order_counts)
_MY_FILTERS = _endpoint("instruments", 40, _SIGNED, account.my_filters)
_NO_LISTS = _endpoint("orders", 6, _SIGNED, account.nothing)

_LISTEN_KEY_OPEN = _endpoint("subscribe", 2, _KEY, account.open_listen_key)
_LISTEN_KEY_EXTEND = _endpoint("subscribe", 2, _KEY, account.extend_listen_key)
_LISTEN_KEY_CLOSE = _endpoint("subscribe", 2, _KEY, account.close_listen_key)

_V3: Final[Mapping[tuple[str, str], Endpoint]] = {
    ("GET", "ping"): _PING,
    ("GET", "time"): _TIME,
    ("GET", "exchangeInfo"): _INFO,
    ("GET", "depth"): _DEPTH,
    ("GET", "trades"): _TRADES,
    ("GET", "historicalTrades"): _TRADES,
    ("GET", "aggTrades"): _AGG_TRADES,
    ("GET", "klines"): _KLINES,
    ("GET", "uiKlines"): _KLINES,
    ("GET", "avgPrice"): _AVG_PRICE,
    ("GET", "ticker/24hr"): _TICKER_24H,
    ("GET", "ticker/tradingDay"): _ROLLING,
    ("GET", "ticker"): _ROLLING,
    ("GET", "ticker/price"): _PRICE,
    ("GET", "ticker/bookTicker"): _BOOK_TICKER,
    ("POST", "order"): _PLACE,
    ("POST", "order/test"): _TEST,
    ("DELETE", "order"): _CANCEL,
    ("GET", "order"): _ORDER,
    ("POST", "order/cancelReplace"): _CANCEL_REPLACE,
    ("PUT", "order/amend/keepPriority"): _AMEND,
    ("GET", "openOrders"): _OPEN_ORDERS,
    ("DELETE", "openOrders"): _CANCEL_ALL,
    ("GET", "allOrders"): _ALL_ORDERS,
    ("GET", "myTrades"): _MY_TRADES,
    ("GET", "account"): _ACCOUNT,
    ("GET", "account/commission"): _COMMISSION,
    ("GET", "rateLimit/order"): _ORDER_COUNTS,
    ("GET", "myFilters"): _MY_FILTERS,
    ("GET", "myPreventedMatches"): _NO_LISTS,
    ("GET", "myAllocations"): _NO_LISTS,
    ("GET", "openOrderList"): _NO_LISTS,
    ("GET", "allOrderList"): _NO_LISTS,
    ("POST", "order/oco"): _REFUSE_LIST,
    ("POST", "orderList/oco"): _REFUSE_LIST,
    ("POST", "orderList/oto"): _REFUSE_LIST,
    ("POST", "orderList/otoco"): _REFUSE_LIST,
    ("POST", "userDataStream"): _LISTEN_KEY_OPEN,
    ("PUT", "userDataStream"): _LISTEN_KEY_EXTEND,
    ("DELETE", "userDataStream"): _LISTEN_KEY_CLOSE,
}

# What ccxt asks of other parts of Binance while it loads markets, as one who trades spot alone.
_ELSEWHERE: Final[Mapping[tuple[str, str], Endpoint]] = {
    ("GET", "/sapi/v1/system/status"): _endpoint("ping", 1, _NONE, public.system_status),
    ("GET", "/sapi/v1/capital/config/getall"): _endpoint("balances", 10, _SIGNED, account.coins),
    ("GET", "/sapi/v1/asset/tradeFee"): _endpoint("balances", 1, _SIGNED, account.trade_fees),
    ("GET", "/sapi/v1/margin/allPairs"): _endpoint("instruments", 1, _KEY, account.nothing),
    ("GET", "/sapi/v1/margin/isolated/allPairs"): _endpoint(
        "instruments", 10, _KEY, account.nothing
    ),
    ("GET", "/fapi/v1/exchangeInfo"): _endpoint("instruments", 1, _NONE, public.no_symbols),
    ("GET", "/dapi/v1/exchangeInfo"): _endpoint("instruments", 1, _NONE, public.no_symbols),
}

REST: Final[Mapping[tuple[str, str], Endpoint]] = {
    **{(method, f"/api/v3/{path}"): endpoint for (method, path), endpoint in _V3.items()},
    **_ELSEWHERE,
}

METHODS: Final[Mapping[str, Endpoint]] = {
    "ping": _PING,
    "time": _TIME,
    "exchangeInfo": _INFO,
    "depth": _DEPTH,
    "trades.recent": _TRADES,
    "trades.historical": _TRADES,
    "trades.aggregate": _AGG_TRADES,
    "klines": _KLINES,
    "uiKlines": _KLINES,
    "avgPrice": _AVG_PRICE,
    "ticker.24hr": _TICKER_24H,
    "ticker.tradingDay": _ROLLING,
    "ticker": _ROLLING,
    "ticker.price": _PRICE,
    "ticker.book": _BOOK_TICKER,
    "order.place": _PLACE,
    "order.test": _TEST,
    "order.cancel": _CANCEL,
    "order.status": _ORDER,
    "order.cancelReplace": _CANCEL_REPLACE,
    "order.amend.keepPriority": _AMEND,
    "openOrders.status": _OPEN_ORDERS,
    "openOrders.cancelAll": _CANCEL_ALL,
    "allOrders": _ALL_ORDERS,
    "myTrades": _MY_TRADES,
    "account.status": _ACCOUNT,
    "account.commission": _COMMISSION,
    "account.rateLimits.orders": _ORDER_COUNTS,
    "myFilters": _MY_FILTERS,
    "myPreventedMatches": _NO_LISTS,
    "myAllocations": _NO_LISTS,
    "openOrderLists.status": _NO_LISTS,
    "allOrderLists": _NO_LISTS,
    "orderList.place": _REFUSE_LIST,
    "orderList.place.oco": _REFUSE_LIST,
    "orderList.place.oto": _REFUSE_LIST,
    "orderList.place.otoco": _REFUSE_LIST,
    "userDataStream.start": _LISTEN_KEY_OPEN,
    "userDataStream.ping": _LISTEN_KEY_EXTEND,
    "userDataStream.stop": _LISTEN_KEY_CLOSE,
}
