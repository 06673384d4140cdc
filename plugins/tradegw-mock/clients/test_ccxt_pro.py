"""ccxt.pro: what it watches arrives, and orders go over its WebSocket, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import ccxt.pro
import pytest

SYMBOL = "BTC/USDT"


@pytest.fixture
async def exchange(point: Any) -> AsyncIterator[Any]:
    exchange = point("ccxt", {"ccxt": ccxt.pro})["exchange"]
    point("ccxt.pro", {"exchange": exchange})
    exchange.enableRateLimit = False
    await exchange.load_markets()
    yield exchange
    for order in await exchange.fetch_open_orders(SYMBOL):
        await exchange.cancel_order(order["id"], SYMBOL)
    await exchange.close()


async def when(watch: Any, is_it: Any) -> Any:
    """Watch until something is so."""
    while True:
        found = await watch()
        if is_it(found):
            return found


async def while_trading(exchange: Any, *watches: Any) -> list[Any]:
    """Watch, and trade until each watch has seen something: nobody says when a subscription is in force."""
    tasks = [asyncio.create_task(watch) for watch in watches]
    while not all(task.done() for task in tasks):
        await exchange.create_order(SYMBOL, "market", "buy", 0.01)
        await asyncio.wait(tasks, timeout=0.5)
    return [task.result() for task in tasks]


async def test_orders_trades_and_balances(exchange: Any) -> None:
    balance, orders, trades = await while_trading(
        exchange,
        exchange.watch_balance(),
        when(
            lambda: exchange.watch_orders(SYMBOL),
            lambda seen: any(o["status"] == "closed" for o in seen),
        ),
        exchange.watch_my_trades(SYMBOL),
    )
    closed = [o for o in orders if o["status"] == "closed"][-1]
    assert (closed["filled"], closed["remaining"]) == (0.01, 0)
    assert trades[-1]["amount"] == 0.01
    assert trades[-1]["fee"]["currency"] == "BTC"
    known = {t["id"] for t in await exchange.fetch_my_trades(SYMBOL)}
    assert {t["id"] for t in trades} <= known
    assert balance["BTC"]["total"] > 0


async def test_an_order_that_is_canceled(exchange: Any) -> None:
    await while_trading(exchange, exchange.watch_orders(SYMBOL))

    def seen(status: str) -> asyncio.Task[Any]:
        def found(orders: list[Any]) -> list[Any]:
            return [o for o in orders if (o["clientOrderId"], o["status"]) == ("watched", status)]

        return asyncio.create_task(when(lambda: exchange.watch_orders(SYMBOL), found))

    # Watched before it happens: ccxt waits for what comes next.
    opened, canceled = seen("open"), seen("canceled")
    await asyncio.sleep(0)
    placed = await exchange.create_order(
        SYMBOL, "limit", "buy", 0.01, 60000, {"clientOrderId": "watched"}
    )
    await opened
    await exchange.cancel_order(placed["id"], SYMBOL)
    assert placed["id"] in {o["id"] for o in await canceled}


async def test_market_data(exchange: Any) -> None:
    ticker = await exchange.watch_ticker(SYMBOL)
    assert ticker["last"] > 0
    book = await exchange.watch_order_book(SYMBOL)
    assert book["bids"][0][0] < book["asks"][0][0]
    assert book["nonce"] > 0
    trades = await exchange.watch_trades(SYMBOL)
    assert trades[-1]["amount"] > 0
    candles = await exchange.watch_ohlcv(SYMBOL, "1m")
    assert len(candles[-1]) == 6
    tickers = await exchange.watch_tickers([SYMBOL, "ETH/USDT"])
    assert tickers
    both = await exchange.watch_bids_asks([SYMBOL])
    assert both[SYMBOL]["bid"] > 0


async def test_a_watched_book_stays_equal(exchange: Any) -> None:
    """Hundreds of levels moved, and the local book is the exchange's."""
    await exchange.watch_order_book(SYMBOL)
    for number in range(30):
        await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 50000 + number)
    await when(
        lambda: exchange.watch_order_book(SYMBOL),
        lambda book: [50029.0, 0.01] in book["bids"],
    )
    await exchange.cancel_all_orders(SYMBOL)
    book = await when(
        lambda: exchange.watch_order_book(SYMBOL),
        lambda book: all(price > 50029 for price, _ in book["bids"]),
    )
    assert book["bids"][0][0] < book["asks"][0][0]


async def test_orders_over_the_websocket(exchange: Any) -> None:
    placed = await exchange.create_order_ws(SYMBOL, "limit", "buy", 0.01, 60000)
    assert placed["status"] == "open"
    assert [o["id"] for o in await exchange.fetch_open_orders_ws(SYMBOL)] == [placed["id"]]
    assert (await exchange.fetch_order_ws(placed["id"], SYMBOL))["price"] == 60000
    gone = await exchange.cancel_order_ws(placed["id"], SYMBOL)
    assert gone["status"] == "canceled"
    with pytest.raises(ccxt.InsufficientFunds):
        await exchange.create_order_ws(SYMBOL, "limit", "buy", 9000, 60000)
    filled = await exchange.create_order_ws(SYMBOL, "market", "buy", 0.01)
    assert filled["status"] == "closed"
    assert await exchange.fetch_my_trades_ws(SYMBOL)
