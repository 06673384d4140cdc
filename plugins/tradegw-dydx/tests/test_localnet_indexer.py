"""The local indexer's REST and streams: shapes, parameters, errors, limits."""

from __future__ import annotations

import asyncio
import json
import time

import msgspec
import pytest
import websockets
from tradegw_dydx.localnet import Settings, open_localnet

from .localnet_client import DOLLAR, SELL, STEP, WALLETS, Client, a_cancel, again, an_order, signed
from .test_localnet_faults import Stream, a_chain, a_long_term, listening
from .test_localnet_rules import T0_S

A1, A2 = WALLETS[0].address, WALLETS[1].address
MINE = f"address={A1}&subaccountNumber=0"
OK = ("", 0)


@pytest.fixture
async def client():
    async with a_chain(nodes=1) as client:
        yield client


async def test_markets(client):
    markets = (await client.get("/v4/perpetualMarkets"))["markets"]
    assert list(markets) == ["BTC-USD", "ETH-USD", "SOL-USD"]
    shown = markets["BTC-USD"]
    assert (shown["oraclePrice"], shown["tickSize"], shown["stepSize"]) == (
        "89919.2",
        "1",
        "0.0001",
    )
    assert (shown["clobPairId"], shown["stepBaseQuantums"]) == ("0", 1_000_000)
    assert (shown["initialMarginFraction"], shown["maintenanceMarginFraction"]) == ("0.02", "0.012")
    assert markets["ETH-USD"]["tickSize"] == "0.1"
    assert markets["SOL-USD"]["stepSize"] == "0.1"


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/v4/perpetualMarkets?ticker=X-USD", 404, "Unable to find a market"),
        ("/v4/perpetualMarkets?ticker=BTC-USD&market=BTC-USD", 400, "cannot both be given"),
        ("/v4/addresses/dydx1nobody", 404, "No subaccounts found for address dydx1nobody"),
        (f"/v4/addresses/{A1}/subaccountNumber/9", 404, "No subaccount found"),
        ("/v4/orders/983f3504-5914-5c5d-875a-24d837e17896", 404, "Unable to find order id"),
        ("/v4/orders", 400, "address must be"),
        (f"/v4/orders?{MINE}&returnLatestOrders=True", 400, "must be a boolean"),
        (f"/v4/orders?{MINE}&limit=1001", 400, "limit must be"),
        (f"/v4/orders?{MINE}&limit=x", 400, "limit must be"),
        (f"/v4/orders?{MINE}&goodTilBlockAfter=x", 400, ""),
        (f"/v4/fills?{MINE}&market=BTC-USD", 400, "must both be given"),
        ("/v4/orderbooks/perpetualMarket/X-USD", 404, "Unable to find a market"),
        ("/v4/trades/perpetualMarket/X-USD", 404, "Unable to find a market"),
        ("/v4/candles/perpetualMarkets/BTC-USD", 404, "has no /v4/candles"),
    ],
)
async def test_what_is_refused(client, path, status, told):
    if "goodTilBlockAfter" in path:
        assert await client.place(an_order()) == OK
    found, _, body = await client.http("GET", path)
    assert found == status
    assert told in body["errors"][0]["msg"]


async def test_an_order_from_memory_to_row_and_what_leaves_no_trace(client):
    unseen = an_order(client_id=7)
    order = an_order(client_id=8, price=89_910, client_metadata=99, time_in_force=2)
    assert await client.place(unseen) == OK
    assert await client.place(order) == OK
    shown = {o["clientId"]: o for o in await client.orders()}
    live = shown["8"]
    assert live == {
        "id": live["id"],
        "subaccountId": live["subaccountId"],
        "clientId": "8",
        "clobPairId": "0",
        "side": "BUY",
        "size": "0.01",
        "totalFilled": "0",
        "price": "89910",
        "type": "LIMIT",
        "status": "BEST_EFFORT_OPENED",
        "timeInForce": "GTT",
        "reduceOnly": False,
        "orderFlags": "0",
        "clientMetadata": "99",
        "postOnly": True,
        "ticker": "BTC-USD",
        "subaccountNumber": 0,
        "goodTilBlock": "20",
    }
    assert await client.get(f"/v4/orders/{live['id']}") == live
    await client.post("/trade", ticker="BTC-USD", side="SELL", size="0.004", price="89910")
    assert (await client.orders())[0]["totalFilled"] == "0"  # No block took it yet.
    await client.step()
    row = await client.get(f"/v4/orders/{live['id']}")
    assert (row["status"], row["totalFilled"], row["updatedAtHeight"]) == ("OPEN", "0.004", "2")
    [fill] = await client.fills()
    assert (fill["side"], fill["size"], fill["price"], fill["liquidity"]) == (
        "BUY",
        "0.004",
        "89910",
        "MAKER",
    )
    assert (fill["fee"], fill["orderId"], fill["clientMetadata"], fill["market"]) == (
        "0.035964",
        live["id"],
        "99",
        "BTC-USD",
    )
    # Cancelled, the filled one keeps its row; the other vanishes.
    assert await client.send(signed(a_cancel(order))) == OK
    assert await client.send(signed(a_cancel(unseen))) == OK
    [row] = await client.orders()
    assert (row["status"], row["removalReason"]) == (
        "BEST_EFFORT_CANCELED",
        "ORDER_REMOVAL_REASON_USER_CANCELED",
    )
    await client.step(20)
    assert [o["clientId"] for o in await client.orders()] == ["8"]


async def test_an_order_that_expires_with_a_fill_is_canceled(client):
    order = an_order(price=89_910, good_til_block=3)
    assert await client.place(order) == OK
    await client.post("/trade", ticker="BTC-USD", side="SELL", size="0.004", price="89910")
    await client.step(2)
    [row] = await client.orders()
    assert (row["status"], row["totalFilled"]) == ("CANCELED", "0.004")
    assert row["removalReason"] == "ORDER_REMOVAL_REASON_EXPIRED"


async def test_lists_of_orders_are_filtered_and_sorted(client):
    for client_id, end in ((1, 15), (2, 25), (3, 20)):
        assert await client.place(an_order(client_id=client_id, good_til_block=end)) == OK
    sale = an_order(client_id=4, side=SELL, price=99_000, good_til_block=10)
    assert await client.place(sale) == OK
    assert await client.place(a_long_term(client_id=5), sequence=0) == OK
    await client.step()

    async def ids(query):
        return [o["clientId"] for o in await client.get(f"/v4/orders?{MINE}{query}")]

    assert await ids("") == ["5", "2", "3", "1", "4"]
    assert await ids("&returnLatestOrders=false") == ["4", "1", "3", "2", "5"]
    assert await ids("&limit=2") == ["5", "2"]
    assert await ids("&status=OPEN") == ["5"]
    assert await ids("&status=OPEN,BEST_EFFORT_OPENED&side=SELL") == ["4"]
    assert await ids("&goodTilBlockBeforeOrAt=15&status=BEST_EFFORT_OPENED") == ["1", "4"]
    assert await ids("&ticker=ETH-USD") == []


async def test_positions_from_opening_over_the_other_side_to_closing(client):
    async def trade(side, steps, price):
        order = an_order(side=side, quantums=steps * STEP, price=price, time_in_force=1)
        assert await client.place(again(order, good_til_block=40)) == OK
        await client.step()

    async def positions(query=""):
        return (await client.get(f"/v4/perpetualPositions?{MINE}{query}"))["positions"]

    await trade(1, 100, 95_000)
    [held] = await positions()
    assert (held["side"], held["size"], held["status"]) == ("LONG", "0.01", "OPEN")
    assert (held["entryPrice"], held["sumOpen"], held["sumClose"]) == ("89938", "0.01", "0")
    assert float(held["unrealizedPnl"]) == pytest.approx((89_919.2 - 89_938) * 0.01)
    await trade(2, 300, 80_000)
    held, closed = await positions()
    assert (held["side"], held["size"], held["maxSize"]) == ("SHORT", "-0.02", "-0.02")
    assert (closed["status"], closed["size"], closed["exitPrice"]) == ("CLOSED", "0", "89901")
    assert float(closed["realizedPnl"]) == pytest.approx((89_901 - 89_938) * 0.01)
    assert closed["closedAt"].endswith("Z")
    assert len(await positions("&status=OPEN")) == 1
    await trade(1, 200, 95_000)
    assert await positions("&status=OPEN") == []
    assert len(await positions("&status=CLOSED")) == 2
    shown = (await client.get(f"/v4/addresses/{A1}/subaccountNumber/0"))["subaccount"]
    assert shown["openPerpetualPositions"] == {}
    assert shown["equity"] == shown["freeCollateral"] == shown["assetPositions"]["USDC"]["size"]
    ledger = await client.get("/admin/ledger")
    assert ledger["subaccounts"][0]["usdc"] == shown["equity"]


async def test_fills_page_back_and_forth(client):
    for _ in range(5):
        assert await client.place(an_order(quantums=STEP, price=95_000, time_in_force=1)) == OK
        await client.step()
    newest = await client.fills()
    heights = [int(f["createdAtHeight"]) for f in newest]
    assert heights == [6, 5, 4, 3, 2]

    async def fills(query):
        return await client.get(f"/v4/fills?{MINE}{query}")

    told = await fills("&createdBeforeOrAtHeight=4&limit=2")
    assert [f["createdAtHeight"] for f in told["fills"]] == ["4", "3"]
    told = await fills("&page=2&limit=2")
    assert [f["createdAtHeight"] for f in told["fills"]] == ["4", "5"]
    assert (told["pageSize"], told["totalResults"], told["offset"]) == (2, 5, 2)
    assert len((await fills("&market=ETH-USD&marketType=PERPETUAL"))["fills"]) == 0
    assert len((await fills("&market=BTC-USD&marketType=PERPETUAL"))["fills"]) == 5
    trades = (await client.get("/v4/trades/perpetualMarket/BTC-USD"))["trades"]
    assert [t["createdAtHeight"] for t in trades] == ["6", "5", "4", "3", "2"]


async def test_stateful_orders_have_their_words(client):
    stop = an_order(
        flags=32,
        good_til_block_time=int(time.time()) + 600,
        side=SELL,
        price=80_000,
        time_in_force=1,
        condition_type=1,
        trigger_subticks=85_000 * DOLLAR,
    )
    async with listening(client) as stream:
        assert await client.place(stop, sequence=0) == OK
        assert await client.orders() == []
        await client.step()
        told = await stream.order(stop, "UNTRIGGERED")
        assert (told["type"], told["triggerPrice"]) == ("STOP_MARKET", "85000")
        assert told["createdAtHeight"] == "2"
        await client.post("/oracle", ticker="BTC-USD", price="84990")
        await client.step()
        await stream.order(stop, "OPEN")
        await client.step()
        filled = await stream.order(stop, "FILLED")
        assert filled["totalFilled"] == "0.01"


async def test_an_indexer_that_is_behind_by_settings():
    now_ns = T0_S * 10**9
    settings = Settings(lag_blocks=2, lag_s=5.0)
    async with open_localnet(settings, clock=lambda: now_ns) as net:
        async with Client(json.loads(msgspec.json.encode(net.serving))) as client:
            assert await client.place(an_order(good_til_block=40)) == OK
            await client.step(2)
            assert await client.orders() == []  # Two blocks behind, and five seconds.
            now_ns += 5 * 10**9
            await client.step()
            assert len(await client.orders()) == 1
            assert (await client.get("/v4/height"))["height"] == "1"
            now_ns += 5 * 10**9
            await client.step()
            assert (await client.get("/v4/height"))["height"] == "3"


# --- streams --------------------------------------------------------------------------------------


async def test_a_subaccounts_stream_tells_what_happens_in_order(client):
    async with listening(client) as stream:
        connected, subscribed = stream.messages
        assert connected["message_id"] == 0
        assert subscribed["contents"]["blockHeight"] == "1"
        assert subscribed["contents"]["orders"] == []
        assert subscribed["contents"]["subaccount"]["equity"] == "100000"
        order = an_order(price=95_000, quantums=4_000 * STEP, time_in_force=1)
        assert await client.place(order) == OK
        await stream.order(order, "BEST_EFFORT_OPENED")
        await client.step()
        await stream.order(order, "FILLED")
        message = stream.messages[-1]
        assert (message["type"], message["version"]) == ("channel_data", "3.0.0")
        assert message["id"] == f"{A1}/0"
        contents = message["contents"]
        # One message for an order in a block, with all its fills: two levels of the house.
        assert [f["size"] for f in contents["fills"]] == ["0.2223", "0.1777"]
        assert {f["ticker"] for f in contents["fills"]} == {"BTC-USD"}
        assert all("market" not in f and int(f["eventId"], 16) for f in contents["fills"])
        assert contents["perpetualPositions"][0]["size"] == "0.4"
        assert contents["blockHeight"] == "2"
        told = await stream.until(lambda m: "assetPositions" in m.get("contents", {}))
        assert told["contents"]["assetPositions"][0]["symbol"] == "USDC"
        assert stream.missing() == []


async def test_a_replacement_is_told_as_removed_and_opened(client):
    async with listening(client) as stream:
        order = an_order()
        assert await client.place(order) == OK
        assert await client.place(again(order, good_til_block=21, quantums=200 * STEP)) == OK
        removed = await stream.order(order, "BEST_EFFORT_CANCELED")
        assert removed["removalReason"] == "ORDER_REMOVAL_REASON_REPLACED"
        told = (await stream.next())["contents"]["orders"][0]
        assert (told["status"], told["size"]) == ("BEST_EFFORT_OPENED", "0.02")
        assert [o["size"] for o in await client.orders()] == ["0.02"]


async def test_a_cancel_of_what_nobody_saw_is_told_in_few_words(client):
    async with listening(client) as stream:
        order = an_order(client_id=4711)
        assert await client.send(signed(a_cancel(order))) == OK
        told = await stream.order(order, "BEST_EFFORT_CANCELED")
        assert sorted(told) == [
            "clientId",
            "clobPairId",
            "id",
            "orderFlags",
            "removalReason",
            "status",
            "subaccountId",
            "ticker",
        ]


async def test_the_book_is_told_as_it_changes(client):
    async with listening(client, "v4_orderbook", "BTC-USD", batched=True) as stream:
        first = stream.messages[-1]["contents"]
        assert [len(first[side]) for side in ("bids", "asks")] == [5, 5]
        assert first["bids"][0] == {"price": "89901", "size": "0.2224"}
        order = an_order(price=89_905)
        assert await client.place(order) == OK
        message = await stream.until(lambda m: m["type"] == "channel_batch_data")
        assert message["contents"] == [{"bids": [["89905", "0.01"]]}]
        assert await client.send(signed(a_cancel(order))) == OK
        message = await stream.next()
        assert message["contents"] == [{"bids": [["89905", "0"]]}]


async def test_markets_and_heights_are_told(client):
    async with listening(client, "v4_markets", "") as stream:
        assert "id" not in stream.messages[-1]
        await stream.socket.send(json.dumps({"type": "subscribe", "channel": "v4_block_height"}))
        told = await stream.until(lambda m: m.get("channel") == "v4_block_height")
        assert told["contents"]["height"] == "1"
        await client.post("/oracle", ticker="ETH-USD", price="3200")
        await client.step()
        told = await stream.until(lambda m: "oraclePrices" in m.get("contents", {}))
        assert told["contents"]["oraclePrices"]["ETH-USD"]["oraclePrice"] == "3200"
        told = await stream.until(lambda m: "blockHeight" in m.get("contents", {}))
        assert told["contents"]["blockHeight"] == "2"
        await client.post("/market", ticker="SOL-USD", status="PAUSED")
        await client.step()
        told = await stream.until(lambda m: "trading" in m.get("contents", {}))
        assert told["contents"]["trading"]["SOL-USD"]["status"] == "PAUSED"


async def test_unknown_subaccounts_are_empty_and_mistakes_are_errors(client):
    async with websockets.connect(client.serving["indexer_ws"]) as socket:
        stream = Stream(socket)
        await stream.next()

        async def say(**message):
            await socket.send(json.dumps(message))
            return await stream.next()

        sub = {"type": "subscribe", "channel": "v4_subaccounts"}
        assert (await say(**sub, id="dydx1nobody/0"))["contents"] == {}
        told = await say(**sub, id="dydx1nobody/0")
        assert (told["type"], told["message_id"]) == ("error", 2)
        assert "already subscribed" in told["message"]
        told = await say(type="unsubscribe", channel="v4_subaccounts", id="dydx1nobody/0")
        assert (told["type"], told["message_id"]) == ("unsubscribed", 3)
        assert "Invalid id" in (await say(type="subscribe", channel="v4_subaccounts"))["message"]
        await socket.send(json.dumps({"type": "ping"}))
        assert (
            "no channel v4_candles"
            in (await say(type="subscribe", channel="v4_candles", id="BTC-USD/1MIN"))["message"]
        )


@pytest.mark.parametrize(
    "message",
    ["nonsense", json.dumps({"type": "subscribe", "channel": "v4_subaccounts", "id": f"{A2}/0"})],
)
async def test_who_asks_too_often_is_closed(client, message):
    async with websockets.connect(client.serving["indexer_ws"]) as socket:
        with pytest.raises(websockets.ConnectionClosed) as e:
            for _ in range(1000):
                await socket.send(message)
            async with asyncio.timeout(60):
                while True:
                    await socket.recv()
        assert e.value.rcvd is not None
        assert e.value.rcvd.code == 1008


async def test_only_so_many_of_a_kind(client):
    async with websockets.connect(client.serving["indexer_ws"]) as socket:
        stream = Stream(socket)
        for number in range(258):
            await socket.send(
                json.dumps(
                    {"type": "subscribe", "channel": "v4_subaccounts", "id": f"{A1}/{number}"}
                )
            )
        told = await stream.until(lambda m: m["type"] == "error")
        assert "limit reached" in told["message"]
        assert sum(m["type"] == "subscribed" for m in stream.messages) == 256
