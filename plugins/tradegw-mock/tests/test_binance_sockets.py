"""The Binance-compatible WebSocket API and streams, as frames on a socket."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import websockets
from tradegw_mock.testing import MockProcess
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from .binance_client import Rest, Socket, an_order, patient, socket_api, stream

D8 = "0.00000000"


@pytest.fixture(scope="module")
def exchange() -> Iterator[MockProcess]:
    config = {"step_interval_s": 0, "limits": {"enforced": False}}
    with MockProcess(accounts=["alice", "bob"], config=config) as process:
        yield process


@pytest.fixture
def alice(exchange: MockProcess) -> Iterator[Rest]:
    rest = patient(exchange.serving)
    yield rest
    rest.signed("DELETE", "openOrders", symbol="BTCUSDT")


@pytest.fixture
def bob(exchange: MockProcess) -> Rest:
    return patient(exchange.serving, 1)


async def subscribe(socket: Socket) -> int:
    return int((await socket.ok("userDataStream.subscribe.signature"))["subscriptionId"])


# --- requests -------------------------------------------------------------------------------------


async def test_every_request_of_the_rest_api_is_here_too(alice: Rest) -> None:
    async with socket_api(alice) as socket:
        assert (await socket.ask("ping"))["result"] == {}
        assert "serverTime" in (await socket.ask("time"))["result"]
        info = (await socket.ask("exchangeInfo", symbols=["BTCUSDT"]))["result"]
        assert [symbol["symbol"] for symbol in info["symbols"]] == ["BTCUSDT"]
        order = await socket.ok("order.place", **an_order(newClientOrderId="ws-1"))
        assert (order["status"], order["clientOrderId"]) == ("NEW", "ws-1")
        named = {"symbol": "BTCUSDT", "orderId": order["orderId"]}
        assert (await socket.ok("order.status", **named))["status"] == "NEW"
        assert len(await socket.ok("openOrders.status", symbol="BTCUSDT")) == 1
        amended = await socket.ok("order.amend.keepPriority", **named, newQty="0.005")
        assert amended["amendedOrder"]["qty"] == "0.00500000"
        replaced = await socket.ok(
            "order.cancelReplace",
            **an_order(price="61000"),
            cancelReplaceMode="STOP_ON_FAILURE",
            cancelOrderId=order["orderId"],
        )
        new = replaced["newOrderResponse"]["orderId"]
        gone = await socket.ok("order.cancel", symbol="BTCUSDT", orderId=new)
        assert gone["status"] == "CANCELED"
        await socket.ok("order.place", **an_order())
        assert len(await socket.ok("openOrders.cancelAll", symbol="BTCUSDT")) == 1
        filled = await socket.ok("order.place", **an_order(type="MARKET"))
        trades = await socket.ok("myTrades", symbol="BTCUSDT", orderId=filled["orderId"])
        assert [trade["id"] for trade in trades] == [f["tradeId"] for f in filled["fills"]]
        assert (await socket.ok("order.test", **an_order())) == {}
        assert "balances" in await socket.ok("account.status")
        assert len(await socket.ok("allOrders", symbol="BTCUSDT", limit=2)) == 2
        assert len(await socket.ok("account.rateLimits.orders")) == 2


@pytest.mark.parametrize(
    ("frame", "status", "code"),
    [
        ("{", 400, -1135),
        ("[]", 400, -1135),
        ('{"id":1,"method":"ping","params":[1]}', 400, -1135),
        ('{"id":1,"method":"nothing"}', 400, -1020),
        ('{"id":1}', 400, -1020),
        ('{"id":1,"method":"order.place"}', 401, -2014),
        ('{"id":1,"method":"order.place","params":{"apiKey":"x"}}', 401, -2015),
    ],
)
async def test_requests_that_are_none(alice: Rest, frame: str, status: int, code: int) -> None:
    async with websockets.connect(alice.serving.ws_api) as connection:
        await connection.send(frame)
        answer = json.loads(await connection.recv())
        assert (answer["status"], answer["error"]["code"]) == (status, code)
        await connection.send('{"id":"next","method":"ping"}')
        answer = json.loads(await connection.recv())
        assert (answer["id"], answer["status"]) == ("next", 200)


async def test_ids_come_back_as_they_were(alice: Rest) -> None:
    async with websockets.connect(alice.serving.ws_api) as connection:
        for sent in ("a", 7, None, 1.5):
            await connection.send(json.dumps({"id": sent, "method": "v3/ping"}))
            assert json.loads(await connection.recv())["id"] in {sent, str(sent)}


async def test_limits_are_told_unless_they_are_not_wanted(alice: Rest) -> None:
    async with socket_api(alice) as socket:
        answer = await socket.signed("order.place", **an_order())
        kinds = [item["rateLimitType"] for item in answer["rateLimits"]]
        assert kinds == ["ORDERS", "ORDERS", "REQUEST_WEIGHT"]
        assert "rateLimits" not in await socket.ask("time", returnRateLimits=False)
    async with socket_api(alice, "?returnRateLimits=false") as socket:
        assert "rateLimits" not in await socket.ask("time")
        assert "rateLimits" in await socket.ask("time", returnRateLimits=True)


async def test_a_session_need_not_sign(alice: Rest) -> None:
    async with socket_api(alice) as socket:
        assert (await socket.ask("session.status"))["result"]["apiKey"] is None
        refused = await socket.ask("userDataStream.subscribe")
        assert refused["status"] == 401
        wrong = await socket.ask(
            "session.logon", apiKey=alice.key, timestamp=alice.now_ms(), signature="00"
        )
        assert wrong["error"]["code"] == -1022
        status = await socket.ok("session.logon")
        assert (status["apiKey"], status["userDataStream"]) == (alice.key, False)
        order = await socket.ask(
            "order.place", **an_order(), timestamp=alice.now_ms(), recvWindow=60000
        )
        assert order["result"]["status"] == "NEW"
        untimed = await socket.ask("order.place", **an_order())
        assert untimed["error"]["code"] == -1102
        assert (await socket.ask("userDataStream.subscribe"))["result"] == {"subscriptionId": 0}
        again = await socket.ask("userDataStream.subscribe")
        assert again["error"]["code"] == -2035
        assert (await socket.ask("session.subscriptions"))["result"] == [{"subscriptionId": 0}]
        assert (await socket.ask("session.logout"))["result"]["userDataStream"] is False
        assert (await socket.ask("order.place", **an_order()))["status"] == 401


async def test_answers_to_orders_sent_together(alice: Rest) -> None:
    """Many at once over one connection: each is answered, and they are carried out in order."""
    async with socket_api(alice) as socket:
        requests = []
        for number in range(50):
            named = {
                **an_order(newClientOrderId=f"p{number}"),
                "apiKey": alice.key,
                "recvWindow": 60000,
                "timestamp": alice.now_ms(),
            }
            payload = "&".join(f"{name}={named[name]}" for name in sorted(named))
            named["signature"] = alice.sign(payload)
            requests.append({"id": number, "method": "order.place", "params": named})
        for request in requests:
            await socket.connection.send(json.dumps(request))
        answers = {}
        for _ in requests:
            answer = json.loads(await socket.connection.recv())
            answers[answer["id"]] = answer["result"]["orderId"]
        ids = [answers[number] for number in range(50)]
        assert ids == sorted(ids)


# --- the user data stream -------------------------------------------------------------------------

REPORT = set("eEscSofqpPFgCxXrilzLnNTtIwmMOZYQV")


async def test_an_order_is_told_from_its_beginning_to_its_end(alice: Rest) -> None:
    async with socket_api(alice) as socket:
        number = await subscribe(socket)
        placed = await socket.ok("order.place", **an_order(newClientOrderId="told"))
        await socket.ok(
            "order.cancel", symbol="BTCUSDT", orderId=placed["orderId"], newClientOrderId="cancel-9"
        )
        events = await socket.until(4)
        assert {event["subscriptionId"] for event in events} == {number}
        new, held, gone, freed = (event["event"] for event in events)
        assert [new["e"], held["e"], gone["e"], freed["e"]] == [
            "executionReport",
            "outboundAccountPosition",
        ] * 2
        assert set(new) >= REPORT
        assert (new["x"], new["X"], new["c"], new["C"], new["t"], new["N"]) == (
            "NEW",
            "NEW",
            "told",
            "",
            -1,
            None,
        )
        assert (new["w"], new["m"], new["i"]) == (True, False, placed["orderId"])
        assert [item["a"] for item in held["B"]] == ["USDT"]
        assert held["B"][0]["l"] == "600.00000000"
        assert (gone["x"], gone["X"], gone["c"], gone["C"]) == (
            "CANCELED",
            "CANCELED",
            "cancel-9",
            "told",
        )
        assert freed["B"][0]["l"] == D8


async def test_fills_come_between_new_and_the_balances(alice: Rest) -> None:
    async with socket_api(alice) as socket:
        await subscribe(socket)
        placed = await socket.ok("order.place", **an_order(type="MARKET", quantity="3"))
        count = len(placed["fills"])
        assert count > 1
        events = [event["event"] for event in await socket.until(count + 2)]
        assert [event.get("x", event["e"]) for event in events] == [
            "NEW",
            *["TRADE"] * count,
            "outboundAccountPosition",
        ]
        trades = events[1:-1]
        assert [(t["t"], t["L"], t["l"], t["n"]) for t in trades] == [
            (f["tradeId"], f["price"], f["qty"], f["commission"]) for f in placed["fills"]
        ]
        assert [t["X"] for t in trades] == [*["PARTIALLY_FILLED"] * (count - 1), "FILLED"]
        assert trades[-1]["z"] == placed["executedQty"]
        assert trades[-1]["Z"] == placed["cummulativeQuoteQty"]
        numbers = [event["I"] for event in events[:-1]]
        assert numbers == sorted(set(numbers))
        assert {item["a"] for item in events[-1]["B"]} == {"BTC", "USDT"}


async def test_a_stranger_hears_nothing_and_both_sides_hear_of_a_trade(
    alice: Rest, bob: Rest
) -> None:
    async with socket_api(alice) as mine, socket_api(bob) as other:
        await subscribe(mine)
        await subscribe(other)
        best = float((await mine.ask("ticker.book", symbol="BTCUSDT"))["result"]["askPrice"])
        price = f"{best - 0.01:.2f}"
        await mine.ok("order.place", **an_order(type="LIMIT_MAKER", side="SELL", price=price))
        await mine.until(2)
        assert other.events == []
        taken = await other.ok("order.place", **an_order(price=price))
        assert taken["status"] == "FILLED"
        maker = [event["event"] for event in await mine.until(4)][2]
        taker = [event["event"] for event in await other.until(3)][1]
        assert (maker["t"], maker["m"], taker["m"]) == (taker["t"], True, False)


@pytest.mark.parametrize("kind", ["IOC", "FOK"])
async def test_expiry_is_told_with_its_reason(alice: Rest, kind: str) -> None:
    async with socket_api(alice) as socket:
        await subscribe(socket)
        await socket.ok("order.place", **an_order(timeInForce=kind))
        events = [event["event"] for event in await socket.until(2)]
        assert [event["x"] for event in events] == ["NEW", "EXPIRED"]
        assert events[1]["eR"].startswith(f"UNFILLED_{kind}")


async def test_unsubscribing_ends_it(alice: Rest) -> None:
    async with socket_api(alice) as socket:
        number = await subscribe(socket)
        unknown = await socket.ask("userDataStream.unsubscribe", subscriptionId=99)
        assert unknown["error"]["code"] == -2036
        assert (await socket.ask("userDataStream.unsubscribe", subscriptionId=number))[
            "result"
        ] == {}
        await socket.ok("order.place", **an_order())
        await socket.ok("openOrders.cancelAll", symbol="BTCUSDT")
        assert socket.events == []
        assert await subscribe(socket) == number + 1


# --- streams --------------------------------------------------------------------------------------


async def receive(connection: ClientConnection) -> Any:
    async with asyncio.timeout(30):
        return json.loads(await connection.recv())


async def test_trades_are_streamed(alice: Rest) -> None:
    async with stream(alice.serving, "/btcusdt@trade/btcusdt@aggTrade") as connection:
        placed = await asyncio.to_thread(alice.place, type="MARKET", quantity="0.01")
        told = [await receive(connection) for _ in range(2)]
        by_kind = {message["e"]: message for message in told}
        assert set(by_kind) == {"trade", "aggTrade"}
        assert by_kind["trade"]["t"] == placed["fills"][0]["tradeId"]
        assert by_kind["aggTrade"]["q"] == "0.01000000"
        assert by_kind["trade"]["m"] is False


async def test_a_local_book_stays_equal(alice: Rest, exchange: MockProcess) -> None:
    """As Binance says to do it: buffer, snapshot, drop what is older, apply the rest without a gap."""
    async with stream(exchange.serving, "/btcusdt@depth@100ms") as connection:
        await asyncio.to_thread(alice.place, price="50000")
        first = await receive(connection)
        snapshot = await asyncio.to_thread(alice.public, "depth", symbol="BTCUSDT", limit=5000)
        sides = {"b": dict(snapshot["bids"]), "a": dict(snapshot["asks"])}
        last = snapshot["lastUpdateId"]
        for number in range(5):
            await asyncio.to_thread(alice.place, price=str(50001 + number))
        await asyncio.to_thread(alice.ok, "DELETE", "openOrders", symbol="BTCUSDT")
        target = await asyncio.to_thread(alice.public, "depth", symbol="BTCUSDT", limit=5000)
        messages = [first]
        while messages[-1]["u"] < target["lastUpdateId"]:
            messages.append(await receive(connection))
        for before, after in itertools.pairwise(messages):
            assert after["U"] == before["u"] + 1
        for message in messages:
            if message["u"] <= last:
                continue
            assert message["U"] <= last + 1
            for side, levels in sides.items():
                for price, qty in message[side]:
                    levels[price] = qty
                    if qty == D8:
                        del levels[price]
            last = message["u"]
        for side, name in (("b", "bids"), ("a", "asks")):
            assert sides[side] == dict(target[name])


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("btcusdt@ticker", {"e", "c", "b", "a", "v", "n"}),
        ("btcusdt@miniTicker", {"e", "c", "o", "h", "l", "v", "q"}),
        ("btcusdt@bookTicker", {"u", "s", "b", "B", "a", "A"}),
        ("btcusdt@avgPrice", {"e", "w", "i"}),
        ("btcusdt@depth5", {"lastUpdateId", "bids", "asks"}),
        ("btcusdt@depth20@100ms", {"lastUpdateId", "bids", "asks"}),
        ("btcusdt@kline_1m", {"e", "k"}),
        ("!bookTicker", {"u", "s", "b"}),
    ],
)
async def test_streams_say_at_once_how_things_stand(
    alice: Rest, name: str, fields: set[str]
) -> None:
    await asyncio.to_thread(alice.place, type="MARKET", quantity="0.01")
    async with stream(alice.serving, f"/{name}") as connection:
        message = await receive(connection)
        assert set(message) >= fields


async def test_all_tickers_come_as_a_list(alice: Rest) -> None:
    async with stream(alice.serving, "?streams=!miniTicker@arr") as connection:
        message = await receive(connection)
        assert message["stream"] == "!miniTicker@arr"
        assert len(message["data"]) == 6


async def test_subscribing_and_leaving(alice: Rest) -> None:
    async with stream(alice.serving) as connection:

        async def ask(method: str, params: object, number: object = 1) -> Any:
            await connection.send(json.dumps({"method": method, "params": params, "id": number}))
            while "result" not in (answer := await receive(connection)) and "code" not in answer:
                pass
            return answer

        assert await ask("SUBSCRIBE", ["btcusdt@trade", "nothing@trade"]) == {
            "result": None,
            "id": 1,
        }
        assert (await ask("LIST_SUBSCRIPTIONS", []))["result"] == ["btcusdt@trade"]
        assert (await ask("GET_PROPERTY", ["combined"]))["result"] is False
        assert (await ask("SET_PROPERTY", ["combined", True]))["result"] is None
        await asyncio.to_thread(alice.place, type="MARKET", quantity="0.01")
        assert (await receive(connection))["stream"] == "btcusdt@trade"
        assert (await ask("UNSUBSCRIBE", ["btcusdt@trade"], "x"))["id"] == "x"
        assert (await ask("LIST_SUBSCRIPTIONS", []))["result"] == []
        for method, params, code in [
            ("NOTHING", [], 2),
            ("SUBSCRIBE", "btcusdt@trade", 2),
            ("SET_PROPERTY", ["combined", 1], 1),
            ("SET_PROPERTY", ["other", True], 0),
        ]:
            assert (await ask(method, params))["code"] == code
        await connection.send("{")
        assert (await receive(connection))["code"] == 3


async def test_an_account_is_told_by_its_listen_key(alice: Rest) -> None:
    key = alice.raw("POST", "userDataStream", key=alice.key)[1]["listenKey"]
    async with (
        stream(alice.serving, f"/{key}") as raw,
        stream(alice.serving, f"?streams={key}") as combined,
    ):
        await asyncio.to_thread(alice.place)
        assert (await receive(raw))["x"] == "NEW"
        message = await receive(combined)
        assert (message["stream"], message["data"]["x"]) == (key, "NEW")


async def test_a_shutdown_is_announced() -> None:
    with MockProcess() as exchange:
        rest = patient(exchange.serving)
        async with socket_api(rest) as socket, stream(rest.serving) as market:
            await subscribe(socket)
            stopping = asyncio.create_task(asyncio.to_thread(exchange.stop))
            last = await receive(socket.connection)
            assert last["event"]["e"] == "serverShutdown"
            assert (await receive(market))["e"] == "serverShutdown"
            for connection in (socket.connection, market):
                with pytest.raises(ConnectionClosed):
                    await connection.recv()
            assert await stopping == 0


async def test_candles_close_before_the_next_one_begins() -> None:
    with MockProcess(config={"step_interval_s": 0.2}) as exchange:
        async with stream(exchange.serving, "/btcusdt@kline_1s") as connection:
            told: dict[int, list[bool]] = {}
            while sum(True in closed for closed in told.values()) < 2:
                candle = (await receive(connection))["k"]
                told.setdefault(candle["t"], []).append(candle["x"])
            for closed in told.values():
                assert True not in closed[:-1]
