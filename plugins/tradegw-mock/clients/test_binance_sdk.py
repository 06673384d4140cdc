"""binance-sdk-spot, Binance's own: REST, WebSocket API with the user data stream, market streams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_common.errors import BadRequestError, UnauthorizedError
from binance_sdk_spot.spot import Spot

SYMBOL = "BTCUSDT"
LIMIT: dict[str, Any] = {
    "symbol": SYMBOL,
    "side": "BUY",
    "type": "LIMIT",
    "time_in_force": "GTC",
    "quantity": 0.01,
    "price": 60000,
}


@pytest.fixture
def client(point: Any) -> Iterator[Spot]:
    names = {
        "Spot": Spot,
        "ConfigurationRestAPI": ConfigurationRestAPI,
        "ConfigurationWebSocketAPI": ConfigurationWebSocketAPI,
        "ConfigurationWebSocketStreams": ConfigurationWebSocketStreams,
    }
    client: Spot = point("binance-sdk-spot", names)["client"]
    yield client
    for order in client.rest_api.get_open_orders(symbol=SYMBOL).data():
        client.rest_api.delete_order(symbol=SYMBOL, order_id=order.order_id)


def test_an_order_from_beginning_to_end(client: Spot) -> None:
    rest = client.rest_api
    placed = rest.new_order(**LIMIT, new_client_order_id="sdk-1").data()
    assert (placed.status, placed.client_order_id) == ("NEW", "sdk-1")
    found = rest.get_order(symbol=SYMBOL, orig_client_order_id="sdk-1").data()
    assert found.order_id == placed.order_id
    amended = rest.order_amend_keep_priority(
        symbol=SYMBOL, order_id=placed.order_id, new_qty=0.005
    ).data()
    assert amended.amended_order.qty == "0.00500000"
    replaced = rest.order_cancel_replace(
        **{**LIMIT, "price": 60001},
        cancel_replace_mode="STOP_ON_FAILURE",
        cancel_order_id=placed.order_id,
    ).data()
    assert replaced.cancel_result == "SUCCESS"
    assert len(rest.get_open_orders(symbol=SYMBOL).data()) == 1
    rest.delete_open_orders(symbol=SYMBOL)
    assert rest.get_open_orders(symbol=SYMBOL).data() == []
    filled = rest.new_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.01).data()
    assert filled.status == "FILLED"
    trades = rest.my_trades(symbol=SYMBOL, order_id=filled.order_id).data()
    assert [trade.id for trade in trades] == [fill.trade_id for fill in filled.fills]
    stop = rest.new_order(**{**LIMIT, "type": "STOP_LOSS_LIMIT", "stop_price": 70000}).data()
    assert stop.order_id > filled.order_id
    balances = {item.asset: item for item in rest.get_account().data().balances}
    assert float(balances["USDT"].free) > 0


def test_market_data_fits_its_models(client: Spot) -> None:
    rest = client.rest_api
    assert {symbol.symbol for symbol in rest.exchange_info().data().symbols} >= {SYMBOL}
    assert rest.time().data().server_time > 0
    assert len(rest.depth(symbol=SYMBOL, limit=5).data().asks) == 5
    assert rest.klines(symbol=SYMBOL, interval="1m").data() is not None
    assert rest.ticker24hr(symbol=SYMBOL).data() is not None
    assert rest.get_trades(symbol=SYMBOL).data() is not None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"quantity": 9000}, "Account has insufficient balance"),
        ({"price": 60000.001}, "Filter failure: PRICE_FILTER"),
        ({"quantity": 0.010001}, "Filter failure: LOT_SIZE"),
        ({"symbol": "NONE"}, "Invalid symbol."),
    ],
)
def test_refusals(client: Spot, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        client.rest_api.new_order(**{**LIMIT, **changed})


def test_a_key_that_is_none(serving: Any) -> None:
    config = ConfigurationRestAPI(api_key="a" * 64, api_secret="b", base_path=serving.rest)
    with pytest.raises(UnauthorizedError):
        Spot(config_rest_api=config).rest_api.get_account()


async def test_the_websocket_api_and_the_user_stream(client: Spot) -> None:
    connection = await client.websocket_api.create_connection()
    try:
        subscribed = await connection.user_data_stream_subscribe_signature()
        events: asyncio.Queue[Any] = asyncio.Queue()
        subscribed.stream.on("message", events.put_nowait)
        placed = (await connection.order_place(**LIMIT)).data().result
        assert placed.status == "NEW"
        first = await asyncio.wait_for(events.get(), 30)
        assert (first.actual_instance.x, first.actual_instance.i) == ("NEW", placed.order_id)
        status = await connection.order_status(symbol=SYMBOL, order_id=placed.order_id)
        assert status.data().result.status == "NEW"
        gone = await connection.order_cancel(symbol=SYMBOL, order_id=placed.order_id)
        assert gone.data().result.status == "CANCELED"
        assert (await connection.account_status()).data().result.can_trade is True
    finally:
        await client.websocket_api.close_connection()


async def test_market_streams(client: Spot) -> None:
    connection = await client.websocket_streams.create_connection()
    try:
        stream = await connection.trade(symbol="btcusdt")
        trades: asyncio.Queue[Any] = asyncio.Queue()
        stream.on("message", trades.put_nowait)
        trade = await asyncio.wait_for(trades.get(), 30)
        assert float(trade.p) > 0
    finally:
        await client.websocket_streams.close_connection()
