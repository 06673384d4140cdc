"""python-binance: synchronous, asynchronous, and its socket manager."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from binance import AsyncClient, BinanceSocketManager, Client
from binance.exceptions import BinanceAPIException

SYMBOL = "BTCUSDT"


@pytest.fixture
def account(point: Any, serving: SimpleNamespace) -> dict[str, str]:
    classes = {"Client": Client, "AsyncClient": AsyncClient}
    point("python-binance", {**classes, "BinanceSocketManager": BinanceSocketManager})
    return {
        "api_key": serving.accounts[0]["api_key"],
        "api_secret": serving.accounts[0]["api_secret"],
    }


class Either:
    """Either client, awaited where that is needed."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        async def call(**params: Any) -> Any:
            method = getattr(self.client, name)
            if isinstance(self.client, AsyncClient):
                return await method(**params)
            return await asyncio.to_thread(method, **params)

        return call


@pytest.fixture(params=["sync", "async"])
async def client(request: pytest.FixtureRequest, account: dict[str, str]) -> AsyncIterator[Either]:
    if request.param == "sync":
        either = Either(await asyncio.to_thread(Client, **account))
    else:
        either = Either(await AsyncClient.create(**account))
    yield either
    for order in await either.get_open_orders(symbol=SYMBOL):
        await either.cancel_order(symbol=SYMBOL, orderId=order["orderId"])
    if request.param == "async":
        await either.client.close_connection()


def limit(**params: Any) -> dict[str, Any]:
    return {"symbol": SYMBOL, "quantity": "0.01", "price": "60000", **params}


async def test_markets(client: Either) -> None:
    info = await client.get_exchange_info()
    assert {symbol["symbol"] for symbol in info["symbols"]} >= {"BTCUSDT", "ETHUSD"}
    assert (await client.get_symbol_info(symbol=SYMBOL))["baseAsset"] == "BTC"
    assert float((await client.get_symbol_ticker(symbol=SYMBOL))["price"]) > 0
    assert len((await client.get_order_book(symbol=SYMBOL, limit=5))["bids"]) == 5
    assert float((await client.get_ticker(symbol=SYMBOL))["lastPrice"]) > 0
    assert float((await client.get_avg_price(symbol=SYMBOL))["price"]) > 0
    assert isinstance(await client.get_klines(symbol=SYMBOL, interval="1m"), list)


async def test_an_order_from_beginning_to_end(client: Either) -> None:
    mine = f"pb-{id(client)}"
    placed = await client.order_limit_buy(**limit(newClientOrderId=mine))
    assert (placed["status"], placed["clientOrderId"]) == ("NEW", mine)
    assert (await client.get_order(symbol=SYMBOL, origClientOrderId=mine))["orderId"] == placed[
        "orderId"
    ]
    replaced = await client.cancel_replace_order(
        **limit(price="60001"),
        side="BUY",
        type="LIMIT",
        timeInForce="GTC",
        cancelReplaceMode="STOP_ON_FAILURE",
        cancelOrderId=placed["orderId"],
    )
    new = replaced["newOrderResponse"]["orderId"]
    assert [o["orderId"] for o in await client.get_open_orders(symbol=SYMBOL)] == [new]
    gone = await client.cancel_order(symbol=SYMBOL, orderId=new)
    assert gone["status"] == "CANCELED"
    history = await client.get_all_orders(symbol=SYMBOL, limit=2)
    assert [o["status"] for o in history] == ["CANCELED", "CANCELED"]
    assert (
        await client.create_test_order(**limit(), side="BUY", type="LIMIT", timeInForce="GTC") == {}
    )


async def test_a_market_order_and_its_trades(client: Either) -> None:
    before = await client.get_asset_balance(asset="BTC")
    order = await client.order_market_buy(symbol=SYMBOL, quantity="0.01")
    assert order["status"] == "FILLED"
    trades = await client.get_my_trades(symbol=SYMBOL, orderId=order["orderId"])
    assert [t["id"] for t in trades] == [f["tradeId"] for f in order["fills"]]
    after = await client.get_asset_balance(asset="BTC")
    assert float(after["free"]) - float(before["free"]) == pytest.approx(0.00999)
    account = await client.get_account()
    assert account["canTrade"] is True


async def test_stop_limit_post_only_and_cancel_all(client: Either) -> None:
    await client.create_order(
        **limit(stopPrice="50001", price="50000"),
        side="SELL",
        type="STOP_LOSS_LIMIT",
        timeInForce="GTC",
    )
    await client.create_order(**limit(), side="BUY", type="LIMIT_MAKER")
    kinds = {o["type"] for o in await client.get_open_orders(symbol=SYMBOL)}
    assert kinds == {"STOP_LOSS_LIMIT", "LIMIT_MAKER"}
    await client.cancel_all_open_orders(symbol=SYMBOL)
    assert await client.get_open_orders(symbol=SYMBOL) == []


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        ({"quantity": "9000"}, -2010, "Account has insufficient balance for requested action."),
        ({"price": "60000.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"quantity": "0.010001"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.00001"}, -1013, "Filter failure: NOTIONAL"),
        ({"symbol": "NONE"}, -1121, "Invalid symbol."),
    ],
)
async def test_refusals(client: Either, changed: dict[str, str], code: int, message: str) -> None:
    with pytest.raises(BinanceAPIException) as raised:
        await client.order_limit_buy(**limit(**changed))
    assert (raised.value.code, raised.value.message) == (code, message)
    assert raised.value.status_code == 400


async def test_a_market_order_beyond_its_filter(client: Either) -> None:
    with pytest.raises(BinanceAPIException, match="Filter failure: MARKET_LOT_SIZE"):
        await client.order_market_buy(symbol=SYMBOL, quantity="60000")


@pytest.fixture
async def manager(account: dict[str, str]) -> AsyncIterator[BinanceSocketManager]:
    client = await AsyncClient.create(**account)
    yield BinanceSocketManager(client)
    await client.close_connection()


async def test_the_user_socket(manager: BinanceSocketManager) -> None:
    client = manager._client
    async with manager.user_socket() as socket:
        placed = await client.order_market_buy(symbol=SYMBOL, quantity="0.01")
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["e"] != "outboundAccountPosition":
            message = await socket.recv()
            seen.append(message.get("event", message))
        assert [event.get("x", event["e"]) for event in seen] == [
            "NEW",
            "TRADE",
            "outboundAccountPosition",
        ]
        assert {event["i"] for event in seen[:-1]} == {placed["orderId"]}


async def test_market_sockets(manager: BinanceSocketManager) -> None:
    for socket, field in (
        (manager.trade_socket(SYMBOL), "p"),
        (manager.symbol_ticker_socket(SYMBOL), "c"),
        (manager.depth_socket(SYMBOL, depth="5"), "bids"),
        (manager.kline_socket(SYMBOL), "k"),
    ):
        async with socket as stream:
            assert field in await stream.recv()
    async with manager.multiplex_socket(["btcusdt@trade", "ethusdt@trade"]) as stream:
        assert (await stream.recv())["stream"] in {"btcusdt@trade", "ethusdt@trade"}


async def test_orders_over_the_websocket(manager: BinanceSocketManager) -> None:
    client = manager._client
    placed = await client.ws_create_order(**limit(), side="BUY", type="LIMIT", timeInForce="GTC")
    assert placed["status"] == "NEW"
    found = await client.ws_get_order(symbol=SYMBOL, orderId=placed["orderId"])
    assert found["orderId"] == placed["orderId"]
    gone = await client.ws_cancel_order(symbol=SYMBOL, orderId=placed["orderId"])
    assert gone["status"] == "CANCELED"
