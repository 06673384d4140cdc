"""ccxt, synchronous and not: the same steps by both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import ccxt
import ccxt.async_support
import pytest

SYMBOL = "BTC/USDT"


class Client:
    """Either client, awaited where that is needed."""

    def __init__(self, exchange: Any) -> None:
        self.exchange = exchange

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **params: Any) -> Any:
            method = getattr(self.exchange, name)
            if isinstance(self.exchange, ccxt.async_support.binance):
                return await method(*args, **params)
            return await asyncio.to_thread(method, *args, **params)

        return call


@pytest.fixture(params=["sync", "async"])
async def client(request: pytest.FixtureRequest, point: Any) -> AsyncIterator[Client]:
    module = ccxt if request.param == "sync" else ccxt.async_support
    client = Client(point("ccxt", {"ccxt": module})["exchange"])
    client.exchange.enableRateLimit = False  # It would sleep most of the time.
    yield client
    for order in await client.fetch_open_orders(SYMBOL):
        await client.cancel_order(order["id"], SYMBOL)
    if request.param == "async":
        await client.close()


async def test_markets(client: Client) -> None:
    markets = await client.load_markets()
    assert set(markets) >= {"BTC/USDT", "BTC/USD", "ETH/USDT", "SOL/USD"}
    bitcoin = markets[SYMBOL]
    assert bitcoin["active"] is True
    assert bitcoin["precision"] == {**bitcoin["precision"], "amount": 1e-05, "price": 0.01}
    assert bitcoin["limits"]["cost"]["min"] == 5
    assert (await client.fetch_ticker(SYMBOL))["last"] > 0
    assert (await client.fetch_order_book(SYMBOL))["bids"][0][1] > 0
    assert abs(await client.fetch_time() - client.exchange.milliseconds()) < 60_000
    assert (await client.fetch_status())["status"] == "ok"


async def test_a_limit_order_from_beginning_to_end(client: Client) -> None:
    placed = await client.create_order(
        SYMBOL, "limit", "buy", 0.01, 60000, {"clientOrderId": f"mine-{id(client)}"}
    )
    assert (placed["status"], placed["filled"], placed["remaining"]) == ("open", 0, 0.01)
    assert [o["id"] for o in await client.fetch_open_orders(SYMBOL)] == [placed["id"]]
    by_client_id = await client.fetch_order(
        None, SYMBOL, {"origClientOrderId": placed["clientOrderId"]}
    )
    assert by_client_id["id"] == placed["id"]
    amended = await client.edit_order(placed["id"], SYMBOL, "limit", "buy", 0.02, 60001)
    assert (amended["price"], amended["amount"]) == (60001, 0.02)
    assert amended["id"] != placed["id"]
    assert (await client.fetch_order(placed["id"], SYMBOL))["status"] == "canceled"
    await client.cancel_order(amended["id"], SYMBOL)
    assert await client.fetch_open_orders(SYMBOL) == []
    closed = await client.fetch_orders(SYMBOL)
    assert [o["status"] for o in closed[-2:]] == ["canceled", "canceled"]


async def test_a_market_order_and_its_trades(client: Client) -> None:
    before = await client.fetch_balance()
    order = await client.create_order(SYMBOL, "market", "buy", 0.01)
    assert (order["status"], order["filled"]) == ("closed", 0.01)
    assert order["cost"] == pytest.approx(order["average"] * 0.01)
    (trade,) = order["trades"]
    assert trade["fee"] == {"cost": 1e-05, "currency": "BTC"} | {
        k: v for k, v in trade["fee"].items() if k == "rate"
    }
    mine = await client.fetch_my_trades(SYMBOL, None, 1)
    assert (mine[0]["id"], mine[0]["order"]) == (trade["id"], order["id"])
    assert mine[0]["takerOrMaker"] == "taker"
    assert [t["order"] for t in await client.fetch_order_trades(order["id"], SYMBOL)] == [
        order["id"]
    ]
    after = await client.fetch_balance()
    assert after["BTC"]["total"] - before["BTC"]["total"] == pytest.approx(0.01 - 1e-05)
    assert before["USDT"]["total"] - after["USDT"]["total"] == pytest.approx(order["cost"])


async def test_stop_limit_and_post_only(client: Client) -> None:
    stop = await client.create_order(SYMBOL, "limit", "sell", 0.01, 50000, {"stopLossPrice": 50001})
    maker = await client.create_order(SYMBOL, "limit", "buy", 0.01, 60000, {"postOnly": True})
    both = {o["id"]: o for o in await client.fetch_open_orders(SYMBOL)}
    assert set(both) == {stop["id"], maker["id"]}
    assert both[stop["id"]]["triggerPrice"] == 50001
    assert both[stop["id"]]["type"] == "limit"
    assert both[maker["id"]]["postOnly"] is True
    await client.cancel_all_orders(SYMBOL)
    assert await client.fetch_open_orders(SYMBOL) == []


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (("limit", "buy", 9000, 60000), ccxt.InsufficientFunds),
        (("market", "sell", 9000, None), ccxt.InsufficientFunds),
        (("limit", "buy", 0.01, 66000, {"postOnly": True}), ccxt.OrderImmediatelyFillable),
        (
            ("limit", "buy", 0.01, 60000, {"stopLossPrice": 50000}),
            ccxt.OrderImmediatelyFillable,
        ),
        (
            ("limit", "buy", 0.00001, 60000),
            ccxt.BadRequest,
        ),  # NOTIONAL, of which ccxt knows the code alone
        (("limit", "buy", 200000, 60000), ccxt.InvalidOrder),  # LOT_SIZE
        (("limit", "buy", 0.01, 20000000), ccxt.InvalidOrder),  # PRICE_FILTER
        (("market", "buy", 60000, None), ccxt.InvalidOrder),  # MARKET_LOT_SIZE
        (("limit", "buy", 0.01, 60000, {"recvWindow": 70000}), ccxt.ExchangeError),
    ],
)
async def test_refusals_have_their_exceptions(
    client: Client, order: tuple[Any, ...], expected: type[Exception]
) -> None:
    with pytest.raises(expected) as raised:
        await client.create_order(SYMBOL, *order)
    assert raised.type is expected or expected is ccxt.ExchangeError


async def test_other_refusals(client: Client) -> None:
    await client.load_markets()
    with pytest.raises(ccxt.OrderNotFound):
        await client.fetch_order("999999999", SYMBOL)
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order("999999999", SYMBOL)
    await client.create_order(SYMBOL, "limit", "buy", 0.01, 60000, {"clientOrderId": "twice"})
    with pytest.raises(ccxt.InvalidOrder, match="Duplicate order sent"):
        await client.create_order(SYMBOL, "limit", "buy", 0.01, 60000, {"clientOrderId": "twice"})
    secret, client.exchange.secret = client.exchange.secret, "wrong"
    try:
        with pytest.raises(ccxt.AuthenticationError):
            await client.fetch_balance()
    finally:
        client.exchange.secret = secret


@pytest.mark.parametrize("refusal", ["PRICE_FILTER", "LOT_SIZE"])
async def test_what_the_client_would_have_rounded(client: Client, refusal: str) -> None:
    """Off the grid: ccxt rounds by itself, so the request goes past its helpers."""
    await client.load_markets()
    off = {"price": "60000.001"} if refusal == "PRICE_FILTER" else {"quantity": "0.010001"}
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
    order |= {"price": "60000", "quantity": "0.01", **off}
    with pytest.raises(ccxt.InvalidOrder, match=f"Filter failure: {refusal}"):
        await client.private_post_order(order)
