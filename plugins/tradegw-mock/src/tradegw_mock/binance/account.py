"""What an account asks about itself: the USER_DATA endpoints, and its stream's keys."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final

from tradegw_mock.binance.api import Api, Call
from tradegw_mock.binance.errors import BinanceError
from tradegw_mock.binance.names import account_uid
from tradegw_mock.binance.orders import queried, traded
from tradegw_mock.binance.symbols import amount, filters
from tradegw_mock.exchange import AccountState, Fill, Order, Refusal, RefusalCode
from tradegw_mock.requests import (
    PAGE_MAX,
    GetBalances,
    GetOrder,
    Listed,
    ListFills,
    ListOpenOrders,
    ListOrders,
)

__all__ = [
    "account",
    "all_orders",
    "close_listen_key",
    "coins",
    "commission",
    "extend_listen_key",
    "my_filters",
    "my_trades",
    "nothing",
    "open_listen_key",
    "open_orders",
    "order_counts",
    "order_status",
    "trade_fees",
]

MS: Final = 1_000_000
ZERO: Final = Decimal(0)
_DAY_NS: Final = 86_400 * 1_000_000_000


async def order_status(api: Api, call: Call) -> Any:
    """`GET order`, `order.status`."""
    instrument = api.symbols.need(call.params)
    order_id, client_id = call.params.integer("orderId"), call.params.text("origClientOrderId")
    if order_id is None and client_id is None:
        raise BinanceError(
            -1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!"
        )
    listed = await api.ask(
        call, GetOrder(account=call.account, order_id=order_id, client_order_id=client_id)
    )
    assert isinstance(listed, Listed)
    if not listed.orders or listed.orders[0].symbol != instrument.symbol:
        raise BinanceError(-2013, "Order does not exist.")
    return queried(api.name(instrument), listed.orders[0])


async def open_orders(api: Api, call: Call) -> Any:
    """`GET openOrders`, `openOrders.status`."""
    name = call.params.text("symbol")
    symbol = None if name is None else api.symbols.get(name).symbol
    listed = await api.ask(call, ListOpenOrders(account=call.account, symbol=symbol))
    assert isinstance(listed, Listed)
    return [queried(api.symbols.name(order.symbol), order) for order in listed.orders]


async def all_orders(api: Api, call: Call) -> Any:
    """`GET allOrders`, `allOrders`."""
    params = call.params
    instrument = api.symbols.need(params)
    limit = params.limit(default=500, most=1000)
    from_id = params.integer("orderId")
    start_ns, end_ns = _window(call)
    if from_id is not None or (start_ns is None and end_ns is None):
        listed = await api.ask(
            call,
            ListOrders(
                account=call.account,
                symbol=instrument.symbol,
                after=max(0, (from_id or 0) - 1),
                limit=limit,
                newest=from_id is None,
            ),
        )
        assert isinstance(listed, Listed)
        orders = list(listed.orders)
    else:
        orders = await _orders_within(api, call, instrument.symbol, start_ns, end_ns, limit)
    name = api.name(instrument)
    return [queried(name, order) for order in orders]


async def _orders_within(
    api: Api, call: Call, symbol: str, start_ns: int | None, end_ns: int | None, limit: int
) -> list[Order]:
    """List orders made between two times: the first ones from the start on, else the last ones."""
    kept: deque[Order] = deque(maxlen=None if start_ns is not None else limit)
    after: int | None = 0
    while after is not None and (start_ns is None or len(kept) < limit):
        listed = await api.ask(
            call,
            ListOrders(
                account=call.account,
                symbol=symbol,
                # An order was updated when it was made, or later.
                since_ns=start_ns or 0,
                after=after,
                limit=PAGE_MAX,
            ),
        )
        assert isinstance(listed, Listed)
        kept.extend(
            order
            for order in listed.orders
            if order.created_time_ns >= (start_ns or 0)
            and (end_ns is None or order.created_time_ns <= end_ns)
        )
        after = listed.next_after
    return list(kept)[:limit]


async def my_trades(api: Api, call: Call) -> Any:
    """`GET myTrades`, `myTrades`."""
    params = call.params
    instrument = api.symbols.need(params)
    limit = params.limit(default=500, most=1000)
    from_id, order_id = params.integer("fromId"), params.integer("orderId")
    start_ns, end_ns = _window(call)
    has_times = start_ns is not None or end_ns is not None
    if has_times and (from_id is not None or order_id is not None):
        raise BinanceError(-1128, "Combination of optional parameters invalid.")
    if order_id is not None:
        try:
            api.host.exchange.get_order(call.account, order_id=order_id)
        except Refusal as e:
            if e.code is RefusalCode.UNKNOWN_ORDER:
                # A stranger's order has no trades of this account either.
                return []
            raise
    if has_times:
        fills = await _fills_within(api, call, instrument.symbol, start_ns, end_ns, limit)
    else:
        listed = await api.ask(
            call,
            ListFills(
                account=call.account,
                symbol=instrument.symbol,
                order_id=order_id,
                after=max(0, (from_id or 0) - 1),
                limit=limit,
                newest=from_id is None,
            ),
        )
        assert isinstance(listed, Listed)
        # Both sides of a trade with oneself are listed, and never parted.
        fills = list(listed.fills)[-limit:] if from_id is None else list(listed.fills)[:limit]
    name = api.name(instrument)
    return [traded(name, fill) for fill in fills]


async def _fills_within(
    api: Api, call: Call, symbol: str, start_ns: int | None, end_ns: int | None, limit: int
) -> list[Fill]:
    kept: deque[Fill] = deque(maxlen=None if start_ns is not None else limit)
    after: int | None = 0
    while after is not None and (start_ns is None or len(kept) < limit):
        listed = await api.ask(
            call,
            ListFills(
                account=call.account,
                symbol=symbol,
                since_ns=start_ns or 0,
                after=after,
                limit=PAGE_MAX,
            ),
        )
        assert isinstance(listed, Listed)
        kept.extend(fill for fill in listed.fills if end_ns is None or fill.time_ns <= end_ns)
        after = listed.next_after
    return list(kept)[:limit]


def _window(call: Call) -> tuple[int | None, int | None]:
    start_ns, end_ns = call.params.time_ns("startTime"), call.params.time_ns("endTime")
    if start_ns is not None and end_ns is not None and end_ns - start_ns > _DAY_NS:
        raise BinanceError(-1127, "More than 24 hours between startTime and endTime.")
    # The end is shown in milliseconds, and what happened within the last one belongs to it.
    return start_ns, None if end_ns is None else end_ns + MS - 1


# --- the account ----------------------------------------------------------------------------------


def _state(api: Api, call: Call) -> AccountState:
    (state,) = [state for state in api.host.exchange.accounts() if state.name == call.account]
    return state


async def account(api: Api, call: Call) -> Any:
    """`GET account`, `account.status`."""
    omit = call.params.flag("omitZeroBalances")
    listed = await api.ask(call, GetBalances(account=call.account))
    assert isinstance(listed, Listed)
    assert call.key is not None
    state = _state(api, call)
    has = {balance.asset: (balance.free, balance.held) for balance in listed.balances}
    if not omit:
        for instrument in api.host.exchange.instruments():
            for asset in (instrument.base, instrument.quote):
                has.setdefault(asset, (ZERO, ZERO))
    return {
        "makerCommission": int(state.maker_fee * 10_000),
        "takerCommission": int(state.taker_fee * 10_000),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {
            "maker": amount(state.maker_fee),
            "taker": amount(state.taker_fee),
            "buyer": amount(None),
            "seller": amount(None),
        },
        "canTrade": call.key.can_trade,
        "canWithdraw": True,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": listed.time_ns // MS,
        "accountType": "SPOT",
        "balances": [
            {"asset": asset, "free": amount(free), "locked": amount(held)}
            for asset, (free, held) in sorted(has.items())
            if free or held or not omit
        ],
        "permissions": ["SPOT"],
        "uid": account_uid(call.account),
    }


async def commission(api: Api, call: Call) -> Any:
    """`GET account/commission`, `account.commission`."""
    instrument = api.symbols.need(call.params)
    state = _state(api, call)
    none = dict.fromkeys(("maker", "taker", "buyer", "seller"), amount(None))
    return {
        "symbol": api.name(instrument),
        "standardCommission": {
            "maker": amount(state.maker_fee),
            "taker": amount(state.taker_fee),
            "buyer": amount(None),
            "seller": amount(None),
        },
        "specialCommission": none,
        "taxCommission": none,
        "discount": {
            "enabledForAccount": False,
            "enabledForSymbol": False,
            "discountAsset": "BNB",
            "discount": amount(None),
        },
    }


async def trade_fees(api: Api, call: Call) -> Any:
    """`GET /sapi/v1/asset/tradeFee`."""
    instruments, _ = api.symbols.chosen(call.params)
    state = _state(api, call)
    return [
        {
            "symbol": api.name(instrument),
            "makerCommission": f"{state.maker_fee.normalize():f}",
            "takerCommission": f"{state.taker_fee.normalize():f}",
        }
        for instrument in instruments
    ]


async def coins(api: Api, call: Call) -> Any:
    """`GET /sapi/v1/capital/config/getall`: the assets, which neither come nor go by a network here."""
    listed = await api.ask(call, GetBalances(account=call.account))
    assert isinstance(listed, Listed)
    has = {balance.asset: balance for balance in listed.balances}
    assets = {a: None for i in api.host.exchange.instruments() for a in (i.base, i.quote)}
    return [
        {
            "coin": asset,
            "depositAllEnable": False,
            "withdrawAllEnable": False,
            "name": asset,
            "free": amount(has[asset].free if asset in has else None),
            "locked": amount(has[asset].held if asset in has else None),
            "freeze": "0",
            "withdrawing": "0",
            "ipoing": "0",
            "ipoable": "0",
            "storage": "0",
            "isLegalMoney": False,
            "trading": True,
            "networkList": [],
        }
        for asset in assets
    ]


async def order_counts(api: Api, call: Call) -> Any:
    """`GET rateLimit/order`, `account.rateLimits.orders`."""
    return api.limits.order_limits(call.account, call.now_ns)


async def my_filters(api: Api, call: Call) -> Any:
    """`GET myFilters`, `myFilters`: those that count an account's orders."""
    instrument = api.symbols.need(call.params)
    counted = [f for f in filters(instrument) if str(f["filterType"]).startswith("MAX_NUM")]
    return {"exchangeFilters": [], "symbolFilters": counted, "assetFilters": []}


async def nothing(api: Api, call: Call) -> Any:
    """Answer for what there is none of: order lists, allocations, other accounts than spot."""
    return []


# --- keys to the stream ---------------------------------------------------------------------------


async def open_listen_key(api: Api, call: Call) -> Any:
    """`POST userDataStream`."""
    _require_listen_keys(api)
    assert api.listen_keys is not None
    return {"listenKey": api.listen_keys.open(call.account)}


async def extend_listen_key(api: Api, call: Call) -> Any:
    """`PUT userDataStream`."""
    _require_listen_keys(api)
    assert api.listen_keys is not None
    if not api.listen_keys.extend(call.params.need("listenKey"), call.account):
        raise BinanceError(-1125, "This listenKey does not exist.")
    return {}


async def close_listen_key(api: Api, call: Call) -> Any:
    """`DELETE userDataStream`."""
    _require_listen_keys(api)
    assert api.listen_keys is not None
    if api.listen_keys.find(call.params.need("listenKey")) != call.account:
        raise BinanceError(-1125, "This listenKey does not exist.")
    api.listen_keys.close(call.account)
    return {}


def _require_listen_keys(api: Api) -> None:
    if api.listen_keys is None:
        raise BinanceError(-1020, "This operation is not supported.", status=HTTPStatus.GONE)
