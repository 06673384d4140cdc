"""binance-connector, deprecated and still in use: REST, and user data by listen key."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from binance.error import ClientError
from binance.spot import Spot
from binance.websocket.spot.websocket_stream import SpotWebsocketStreamClient

SYMBOL = "BTCUSDT"


@pytest.fixture
def client(serving: SimpleNamespace) -> Iterator[Spot]:
    account = serving.accounts[0]
    client = Spot(account["api_key"], account["api_secret"], base_url=serving.rest)
    yield client
    for order in client.get_open_orders(SYMBOL):
        client.cancel_order(SYMBOL, orderId=order["orderId"])


def limit(**params: Any) -> dict[str, Any]:
    order = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
    return {**order, "quantity": 0.01, "price": 60000, **params}


def test_an_order_from_beginning_to_end(client: Spot) -> None:
    placed = client.new_order(**limit(newClientOrderId="old-1"))
    assert client.get_order(SYMBOL, origClientOrderId="old-1")["orderId"] == placed["orderId"]
    client.cancel_and_replace(
        **limit(price=60001), cancelReplaceMode="STOP_ON_FAILURE", cancelOrderId=placed["orderId"]
    )
    assert len(client.get_open_orders(SYMBOL)) == 1
    client.cancel_open_orders(SYMBOL)
    filled = client.new_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.01)
    assert client.my_trades(SYMBOL, orderId=filled["orderId"])[0]["orderId"] == filled["orderId"]
    assert client.account()["canTrade"] is True
    assert client.exchange_info(symbol=SYMBOL)["symbols"][0]["symbol"] == SYMBOL


def test_refusals(client: Spot) -> None:
    with pytest.raises(ClientError) as raised:
        client.new_order(**limit(quantity=9000))
    assert (raised.value.status_code, raised.value.error_code) == (400, -2010)


def test_user_data_by_listen_key(client: Spot, serving: SimpleNamespace) -> None:
    heard: queue.Queue[dict[str, Any]] = queue.Queue()
    key = client.new_listen_key()["listenKey"]
    stream = SpotWebsocketStreamClient(
        stream_url=serving.stream.removesuffix("/ws"),
        on_message=lambda _, message: heard.put(json.loads(message)),
    )
    try:
        stream.user_data(listen_key=key)
        # What it subscribes to is answered before anything else is told.
        assert heard.get(timeout=30)["result"] is None
        placed = client.new_order(**limit())
        assert heard.get(timeout=30)["i"] == placed["orderId"]
    finally:
        stream.stop()
    assert client.renew_listen_key(key) == {}
    assert client.close_listen_key(key) == {}
