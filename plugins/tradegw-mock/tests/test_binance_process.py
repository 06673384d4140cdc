"""The Binance-compatible doors of a process that is killed, attacked, or has other doors beside them."""

from __future__ import annotations

import asyncio
import json
import threading
from http.client import HTTPException
from pathlib import Path

import pytest
import websockets
from tradegw_mock.native.client import open_client
from tradegw_mock.requests import CreateApiKey, Place, Request
from tradegw_mock.testing import MockProcess

from .binance_client import an_order, patient, socket_api
from .helpers import a_request

QUIET = {"step_interval_s": 0, "limits": {"enforced": False}}


def test_kill_and_restart_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    """Many clients at once, the process killed among them; each looks for its orders afterwards."""
    with MockProcess(store=tmp_path / "exchange.db", config=QUIET) as exchange:
        rest = patient(exchange.serving)
        answered: dict[str, dict[str, object]] = {}
        unknown: set[str] = set()
        half_way = threading.Event()

        def trade(trader: int) -> None:
            for number in range(200):
                name = f"t{trader}-{number}"
                kind = "MARKET" if number % 2 else "LIMIT"
                try:
                    placed = rest.place(type=kind, newClientOrderId=name, newOrderRespType="FULL")
                except (OSError, HTTPException):
                    # Nobody knows, and nobody is there any more.
                    unknown.add(name)
                    return
                answered[name] = placed
                if len(answered) >= 60:
                    half_way.set()

        traders = [threading.Thread(target=trade, args=(number,)) for number in range(4)]
        for trader in traders:
            trader.start()
        assert half_way.wait(60)
        exchange.kill()
        for trader in traders:
            trader.join(60)
        assert unknown
        exchange.start()
        again = patient(exchange.serving)
        assert (again.key, again.secret) == (rest.key, rest.secret)
        shown = {
            o["clientOrderId"]: o
            for o in again.ok("GET", "allOrders", symbol="BTCUSDT", limit=1000)
        }
        assert set(answered) <= set(shown) <= set(answered) | unknown
        for name, placed in answered.items():
            for field in ("orderId", "status", "executedQty", "cummulativeQuoteQty", "price"):
                assert shown[name][field] == placed[field]
        trades = again.ok("GET", "myTrades", symbol="BTCUSDT", limit=1000)
        told = {t["id"] for t in trades}
        for placed in answered.values():
            fills = placed["fills"]
            assert isinstance(fills, list)
            assert {fill["tradeId"] for fill in fills} <= told
        with exchange.ledger() as ledger:
            books = ledger.read("account-1")
        assert {o.client_order_id for o in books.orders} == set(shown)
        for name in unknown - set(shown):
            assert again.error("GET", "order", symbol="BTCUSDT", origClientOrderId=name)[1] == -2013


async def test_both_doors_see_one_market_and_one_set_of_accounts() -> None:
    with MockProcess(config=QUIET | {"liquidity": "none"}) as exchange:
        alice = patient(exchange.serving)
        host, port = exchange.url.rsplit(":", 1)
        sold = Place(account="account-1", order=a_request("SELL", "0.01", "60000"))
        async with socket_api(alice) as socket:
            await socket.ok("userDataStream.subscribe.signature")
            async with open_client(host, int(port)) as native:
                await native.ask(sold)
                # What comes by the native door is told, shown and canceled here.
                events = [event["event"] for event in await socket.until(2)]
                assert [event.get("x") for event in events] == ["NEW", None]
                assert alice.public("depth", symbol="BTCUSDT")["asks"][0][0] == "60000.00000000"
                (order,) = alice.ok("GET", "openOrders")
                assert order["side"] == "SELL"
                assert alice.ok("DELETE", "openOrders", symbol="BTCUSDT")[0]["status"] == "CANCELED"


def test_keys_are_no_business_of_the_native_door() -> None:
    """It asks nobody who he is, so it must give no keys away and take none."""
    with MockProcess() as exchange:
        with exchange.ledger() as ledger:
            trail = repr(list(ledger.audit()))
        account = exchange.serving.accounts[0]
        assert account.api_key in trail
        assert account.api_secret not in trail
        assert issubclass(CreateApiKey, Request)


@pytest.mark.parametrize("attack", ["unread", "half a frame", "many frames", "huge frame"])
async def test_one_client_does_no_harm_to_another(attack: str) -> None:
    with MockProcess(config=QUIET) as exchange:
        rest = patient(exchange.serving)
        async with websockets.connect(exchange.serving.ws_api, max_queue=1) as hostile:
            match attack:
                case "unread":
                    for number in range(500):
                        await hostile.send(json.dumps({"id": number, "method": "exchangeInfo"}))
                case "half a frame":
                    hostile.transport.write(b"\x81\xfe\xff\xff")
                case "many frames":
                    for _ in range(2000):
                        await hostile.send("x")
                case _:
                    with pytest.raises(websockets.ConnectionClosed):
                        await hostile.send("x" * 300_000)
                        await hostile.recv()
            async with socket_api(rest) as socket:
                assert (await socket.ok("order.place", **an_order()))["status"] == "NEW"
            assert await asyncio.to_thread(rest.ok, "GET", "openOrders", symbol="BTCUSDT")
        assert await asyncio.to_thread(exchange.stop) == 0
