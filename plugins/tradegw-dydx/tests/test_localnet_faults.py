"""Each fault from a plain client's side, over real sockets: what it sees, and what the chain then holds."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from contextlib import asynccontextmanager

import grpc
import msgspec
import pytest
import websockets
from tradegw_dydx.localnet import FaultKind, Settings, open_localnet
from tradegw_dydx.wire import messages as wire

from .localnet_client import (
    DOLLAR,
    SELL,
    STEP,
    WALLETS,
    Client,
    a_cancel,
    again,
    an_order,
    signed,
)

OK = ("", 0)
CACHED = ("sdk", 19)
A1 = WALLETS[0].address


@asynccontextmanager
async def a_chain(**settings):
    """A chain whose blocks come by command, with a client."""
    async with open_localnet(Settings(**{"nodes": 2, **settings})) as net:
        async with Client(json.loads(msgspec.json.encode(net.serving))) as client:
            yield client


@pytest.fixture
async def client():
    async with a_chain() as client:
        yield client


def a_long_term(seconds=600, **changes):
    return an_order(flags=64, good_til_block_time=int(time.time()) + seconds, **changes)


def hash_of(tx_bytes):
    return hashlib.sha256(tx_bytes).hexdigest().upper()


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as e:
        await call
    return e.value.code()


# --- sequences and clocks -------------------------------------------------------------------------


async def test_someone_else_uses_the_account(client):
    await client.fault("SEQUENCE_TAKEN")
    order = a_long_term()
    assert await client.place(order, sequence=0) == ("sdk", 32)
    assert "account sequence mismatch, expected 1, got 0" in client.log
    assert await client.sequence() == 1
    assert await client.place(order, sequence=1) == OK


async def test_a_nonce_that_is_taken_or_out_of_its_window(client):
    nonce = int(time.time() * 1000)
    await client.fault("NONCE_TAKEN")
    assert await client.place(a_long_term(), sequence=nonce) == ("sdk", 32)
    assert client.log.startswith(f"timestamp nonce {nonce} rejected")
    assert await client.place(a_long_term(), sequence=nonce - 40_000) == ("sdk", 32)
    assert "not within valid time window" in client.log
    assert await client.place(a_long_term(), sequence=nonce + 1) == OK


@pytest.mark.parametrize("offset_s", [40, -40])
async def test_a_clock_that_is_wrong(client, offset_s):
    await client.fault("CLOCK_SKEW", offset_s=offset_s, times=None)
    await client.step()
    assert await client.place(a_long_term(), sequence=int(time.time() * 1000)) == ("sdk", 32)
    assert "not within valid time window" in client.log
    block = await client.latest_block()
    assert await client.place(a_long_term(), sequence=block.time.seconds * 1000) == OK


# --- nodes ----------------------------------------------------------------------------------------


async def test_a_node_that_is_down_and_comes_back(client):
    fault = await client.fault("DOWN", node=0, times=None)
    tx_bytes = signed(an_order())
    assert await failure(client.send(tx_bytes)) is grpc.StatusCode.UNAVAILABLE
    assert await client.send(tx_bytes, node=1) == OK
    status, _, _ = await client.http("DELETE", f"/admin/faults/{fault['fault_id']}")
    assert status == 200
    # A new channel: the old one waits a moment before it tries again.
    async with Client(client.serving) as fresh:
        assert await fresh.send(tx_bytes) == CACHED


async def test_a_node_is_down_for_some_blocks(client):
    await client.fault("DOWN", node=1, times=2)
    assert await failure(client.height(node=1)) is grpc.StatusCode.UNAVAILABLE
    await client.step(2)
    [fault] = await client.get("/admin/faults")
    assert (fault["left"], fault["hits"]) == (0, 2)
    async with Client(client.serving) as fresh:
        assert await fresh.height(node=1) == 3


async def test_a_connection_that_is_reset_before_anything_is_done(client):
    await client.fault("RESET", method="BroadcastTx")
    order = an_order()
    tx_bytes = signed(order)
    assert await failure(client.send(tx_bytes)) is grpc.StatusCode.UNAVAILABLE
    assert await client.truth(order) is None
    assert await client.send(tx_bytes) == OK
    assert await client.truth(order) == (1, "0")


async def test_a_reply_that_is_lost(client):
    """The retry finds the order in the cache there, and resting elsewhere; it is there once."""
    await client.fault("REPLY_LOST", method="BroadcastTx")
    order = an_order()
    tx_bytes = signed(order)
    assert await failure(client.send(tx_bytes)) is grpc.StatusCode.UNAVAILABLE
    assert await client.truth(order) == (1, "0")
    assert await client.send(tx_bytes) == CACHED
    assert await client.send(tx_bytes, node=1) == CACHED
    assert await client.send(signed(order, memo="signed anew"), node=1) == ("clob", 20)
    assert await client.truth(order) == (1, "0")


async def test_a_reply_that_is_lost_of_a_transaction(client):
    await client.fault("REPLY_LOST", method="BroadcastTx")
    order = a_long_term()
    tx_bytes = signed(order, sequence=0)
    assert await failure(client.send(tx_bytes)) is grpc.StatusCode.UNAVAILABLE
    assert await client.send(tx_bytes) == CACHED
    # Another message with the sequence: it is used already, by ourselves.
    assert await client.send(signed(a_long_term(), sequence=0)) == ("sdk", 32)
    await client.step()
    assert (await client.get_tx(hash_of(tx_bytes))).code == 0
    assert await client.truth(order) == (1, "0")


async def test_a_black_hole_ends_by_the_clients_own_deadline(client):
    await client.fault("BLACK_HOLE", node=0)
    order = an_order()
    tx_bytes = signed(order)
    code = await failure(client.send(tx_bytes, deadline_s=0.2))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await client.truth(order) is None
    assert await client.send(tx_bytes) == OK


async def test_a_slow_node_does_what_it_was_asked_late(client):
    await client.fault("SLOW", node=0, method="BroadcastTx", delay_s=0.3)
    order = an_order()
    tx_bytes = signed(order)
    code = await failure(client.send(tx_bytes, deadline_s=0.1))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    # Given up by its caller, it is carried out all the same.
    async with asyncio.timeout(60):
        while await client.truth(order) is None:
            pass
    assert await client.send(tx_bytes) == CACHED


async def test_refused_bytes_are_in_the_cache_too(client):
    order = an_order(good_til_block=1)
    tx_bytes = signed(order)
    assert await client.send(tx_bytes) == ("clob", 10)
    assert await client.send(tx_bytes) == CACHED
    assert await client.truth(order) is None
    # The other node never saw them, and says why.
    assert await client.send(tx_bytes, node=1) == ("clob", 10)


async def test_too_many_requests_of_one_node(client):
    await client.fault("RESOURCE_EXHAUSTED", node=0, after=2, times=2)
    assert await client.height() == 1
    assert await client.height() == 1
    for _ in range(2):
        assert await failure(client.height()) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await client.height(node=1) == 1
    assert await client.height() == 1


async def test_a_node_that_lags_and_one_that_syncs(client):
    await client.step(30)
    await client.fault("LAGGING", node=1, blocks=10, times=None)
    await client.fault("SYNCING", node=1, times=None)
    assert (await client.height(0), await client.height(1)) == (31, 21)
    assert client.height_header == "21"
    # Each judges by the height that it knows.
    assert await client.place(an_order(good_til_block=25), node=0) == ("clob", 10)
    assert await client.place(an_order(good_til_block=25), node=1) == OK
    assert await client.place(an_order(good_til_block=70), node=1) == ("clob", 11)
    assert await client.place(an_order(good_til_block=70), node=0) == OK
    syncing = await client.call(
        "/cosmos.base.tendermint.v1beta1.Service/GetSyncing",
        wire.GetSyncingRequest(),
        wire.GetSyncingResponse,
        node=1,
    )
    assert syncing.syncing


async def test_a_node_with_the_old_window(client):
    await client.fault("OLD_WINDOW", node=0, times=None)
    order = an_order(good_til_block=30)
    assert await client.place(order, node=0) == ("clob", 11)
    assert "ShortBlockWindow 20" in client.log
    assert await client.place(order, node=1, memo="there") == OK
    await client.end_faults()
    assert await client.place(again(order, good_til_block=31), node=0) == OK


# --- the chain ------------------------------------------------------------------------------------


async def test_a_chain_that_stands_still(client):
    order = an_order(good_til_block=3)
    assert await client.place(order) == OK
    await client.fault("HALT", times=5)
    await client.step(5)
    assert await client.height() == 1
    # It may still fill.
    assert [o["status"] for o in await client.orders()] == ["BEST_EFFORT_OPENED"]
    await client.step(2)
    assert await client.height() == 3
    assert await client.orders() == []


async def test_a_transaction_is_found_after_its_block_and_may_have_failed_there(client):
    await client.fault("DELIVERY_FAILS", code=3005)
    tx_bytes = signed(a_long_term(), sequence=0)
    assert await client.send(tx_bytes) == OK
    assert await failure(client.get_tx(hash_of(tx_bytes))) is grpc.StatusCode.NOT_FOUND
    await client.step()
    found = await client.get_tx(hash_of(tx_bytes))
    assert (found.codespace, found.code, found.height) == ("clob", 3005, 2)
    assert await client.sequence() == 1
    assert await client.orders() == []


async def test_a_transaction_that_the_mempools_lost(client):
    await client.fault("TX_DROPPED")
    order = a_long_term()
    tx_bytes = signed(order, sequence=0)
    assert await client.send(tx_bytes) == OK
    await client.step(3)
    assert await failure(client.get_tx(hash_of(tx_bytes))) is grpc.StatusCode.NOT_FOUND
    assert await client.sequence() == 0
    assert await client.send(signed(order, sequence=0, memo="anew")) == OK
    await client.step()
    assert [o["status"] for o in await client.orders()] == ["OPEN"]


async def test_immediate_orders_that_find_nobody_or_too_little():
    async with a_chain(house=False) as client, listening(client) as stream:
        nobody = an_order(time_in_force=1)
        assert await client.place(nobody) == OK
        removed = await stream.order(nobody, "BEST_EFFORT_CANCELED")
        assert removed["removalReason"].endswith("IMMEDIATE_OR_CANCEL_WOULD_REST_ON_BOOK")
        ask = an_order(trader=1, side=SELL, price=85_000, quantums=40 * STEP)
        assert await client.place(ask) == OK
        partial = an_order(price=85_000, time_in_force=1)
        assert await client.place(partial) == OK
        await client.step()
        told = await stream.order(partial, "CANCELED")
        assert (told["totalFilled"], told["size"]) == ("0.004", "0.01")
        assert await client.truth(partial) == (1, "0.004")


async def test_client_ids_that_are_used_twice(client):
    order = an_order()
    assert await client.place(order) == OK
    for changes in ({"good_til_block": 19}, {"side": SELL, "subticks": 99_000 * DOLLAR}):
        assert await client.place(again(order, **{"good_til_block": 21, **changes})) == ("clob", 20)
    assert await client.place(order, memo="the same") == ("clob", 20)
    stateful = a_long_term()
    assert await client.place(stateful, sequence=0) == OK
    assert await client.place(stateful, sequence=1) == ("clob", 3005)
    await client.step()
    assert await client.place(stateful, sequence=1, memo="later") == ("clob", 3005)
    assert await client.truth(order) == (1, "0")


async def test_a_cancel_that_ends_too_early_cancels_nothing(client):
    order = an_order(price=89_910)
    assert await client.place(order) == OK
    assert await client.send(signed(a_cancel(order, good_til_block=19))) == OK
    await client.post("/trade", ticker="BTC-USD", side="SELL", size="0.01", price="89910")
    await client.step()
    assert await client.truth(order) == (1, "0.01")
    assert [fill["orderId"] for fill in await client.fills()]


async def test_a_cancelled_order_fills_all_the_same(client):
    async with listening(client) as stream:
        order = an_order()
        assert await client.place(order) == OK
        await client.fault("FILL_AFTER_CANCEL")
        assert await client.send(signed(a_cancel(order))) == OK
        await stream.order(order, "BEST_EFFORT_CANCELED")
        await client.step()
        told = await stream.order(order, "FILLED")
        assert told["totalFilled"] == "0.01"
        assert [(f["side"], f["size"], f["price"]) for f in await client.fills()] == [
            ("BUY", "0.01", "80000")
        ]
        assert await client.truth(order) == (1, "0.01")


async def test_a_batch_cancel_that_does_nothing_says_yes(client):
    order = an_order()
    assert await client.place(order) == OK
    batch = wire.MsgBatchCancel(
        subaccount_id=wire.SubaccountId(owner=A1),
        short_term_cancels=[wire.OrderBatch(clob_pair_id=0, client_ids=[order.order_id.client_id])],
        good_til_block=20,
    )
    await client.fault("BATCH_IGNORED")
    assert await client.send(signed(batch)) == OK
    assert len(await client.orders()) == 1
    assert await client.send(signed(batch, memo="again")) == OK
    assert await client.orders() == []


async def test_orders_that_are_removed_after_they_were_accepted(client):
    async with listening(client) as stream:
        await client.fault("ORDER_REMOVED")
        order = an_order()
        assert await client.place(order) == OK
        removed = await stream.order(order, "BEST_EFFORT_CANCELED")
        assert removed["removalReason"].endswith("UNDERCOLLATERALIZED")
        assert await client.orders() == []
        # A long-term order that must not take, and would: the chain removes it a block later.
        crossing = a_long_term(price=95_000, time_in_force=2)
        assert await client.place(crossing, sequence=0) == OK
        await client.step()
        await stream.order(crossing, "OPEN")
        await client.step()
        removed = await stream.order(crossing, "CANCELED")
        assert removed["removalReason"].endswith("POST_ONLY_WOULD_CROSS_MAKER_ORDER")


async def test_a_market_changes_its_tick_or_stops(client):
    await client.post("/market", ticker="BTC-USD", subticks_per_tick=5 * DOLLAR)
    assert await client.place(an_order(price=80_001)) == ("clob", 12)
    assert await client.place(an_order(price=80_005)) == OK
    await client.step()
    market = (await client.get("/v4/perpetualMarkets?ticker=BTC-USD"))["markets"]["BTC-USD"]
    assert (market["tickSize"], market["subticksPerTick"]) == ("5", 5 * DOLLAR)
    for status in ("PAUSED", "FINAL_SETTLEMENT"):
        await client.post("/market", ticker="BTC-USD", status=status)
        assert await client.place(an_order(price=80_005)) == ("clob", 34)


# --- the indexer ----------------------------------------------------------------------------------


class Stream:
    """A listener: everything that it heard, in order."""

    def __init__(self, socket) -> None:
        self.socket = socket
        self.messages = []

    async def next(self):
        async with asyncio.timeout(60):
            message = json.loads(await self.socket.recv())
        self.messages.append(message)
        return message

    async def until(self, fits):
        for message in self.messages:
            if fits(message):
                return message
        while not fits(message := await self.next()):
            pass
        return message

    async def order(self, order, status):
        """Wait until the stream tells that an order has a status; return what it told."""

        def told(message):
            return [
                item
                for item in (message.get("contents") or {}).get("orders", [])
                if message["type"] == "channel_data"
                and item["clientId"] == str(order.order_id.client_id)
                and item["status"] == status
            ]

        return told(await self.until(told))[0]

    def missing(self):
        numbers = {m["message_id"] for m in self.messages}
        return sorted(set(range(max(numbers) + 1)) - numbers)


@asynccontextmanager
async def listening(client, channel="v4_subaccounts", subject=f"{A1}/0", *, batched=False):
    async with websockets.connect(client.serving["indexer_ws"]) as socket:
        stream = Stream(socket)
        assert (await stream.next())["type"] == "connected"
        await socket.send(
            json.dumps({"type": "subscribe", "channel": channel, "id": subject, "batched": batched})
        )
        if not await _is_late(client):
            assert (await stream.next())["type"] == "subscribed"
        yield stream


async def _is_late(client):
    return any(f["spec"]["kind"] == "WS_LATE_SUBSCRIBED" for f in await client.get("/admin/faults"))


async def test_an_indexer_that_lags(client):
    await client.fault("INDEXER_LAG", blocks=3, times=None)
    order = an_order(price=89_950, time_in_force=1)
    assert await client.place(order) == OK
    await client.step(3)
    assert (await client.get("/v4/height"))["height"] == "1"
    assert await client.fills() == []
    await client.step()
    assert (await client.get("/v4/height"))["height"] == "2"
    assert len(await client.fills()) == 1


async def test_a_stream_that_is_cut_and_the_fills_meanwhile(client):
    async with listening(client) as stream:
        await client.fault("WS_DROP")
        assert await client.place(an_order(price=89_950, time_in_force=1)) == OK
        with pytest.raises(websockets.ConnectionClosedError):
            while True:
                await stream.next()
    await client.step()
    async with listening(client) as stream:
        # The first message of a new subscription brings no fills; REST has them.
        first = stream.messages[-1]["contents"]
        assert "fills" not in first
        assert first["subaccount"]["openPerpetualPositions"]["BTC-USD"]["size"] == "0.01"
    assert len(await client.fills()) == 1


async def test_a_message_that_never_comes_leaves_its_number_missing(client):
    async with listening(client) as stream:
        await client.fault("WS_SKIP")
        lost, heard = an_order(), an_order()
        assert await client.place(lost) == OK
        assert await client.place(heard) == OK
        await stream.order(heard, "BEST_EFFORT_OPENED")
        assert stream.missing() == [2]


async def test_a_message_that_comes_twice(client):
    async with listening(client) as stream:
        await client.fault("WS_DUPLICATE")
        order, other = an_order(), an_order()
        assert await client.place(order) == OK
        assert await client.place(other) == OK
        await stream.order(other, "BEST_EFFORT_OPENED")
        twice = [m for m in stream.messages if m["message_id"] == 2]
        assert len(twice) == 2
        assert twice[0] == twice[1]


async def test_a_subscription_that_is_answered_late_is_no_gap(client):
    await client.fault("WS_LATE_SUBSCRIBED", messages=1)
    async with listening(client) as stream:
        # A second subscription, answered at once, says that the first was read.
        await stream.socket.send(json.dumps({"type": "subscribe", "channel": "v4_markets"}))
        await stream.until(lambda m: m["type"] == "subscribed")
        assert await client.place(an_order()) == OK
        await stream.until(lambda m: m["type"] == "subscribed" and m["channel"] == "v4_subaccounts")
        assert [m["message_id"] for m in stream.messages] == [0, 2, 3, 1]


async def test_an_indexer_that_starts_again_forgets_what_lives(client):
    async with listening(client) as stream:
        order = an_order()
        assert await client.place(order) == OK
        await client.fault("INDEXER_RESTART")
        with pytest.raises(websockets.ConnectionClosed) as e:
            while True:
                await stream.next()
        assert e.value.rcvd is not None
        assert e.value.rcvd.code == 1012
    assert await client.orders() == []
    await client.post("/trade", ticker="BTC-USD", side="SELL", size="0.0001", price="80000")
    await client.step()
    # It still rests: nobody told the nodes.
    assert (await client.get("/admin"))["nodes"][0]["resting"] >= 1


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_rest_that_answers_with_an_error(client, status):
    await client.fault("REST_ERROR", status=status, method="/v4/orders", times=2)
    for _ in range(2):
        code, _, body = await client.http("GET", f"/v4/orders?address={A1}")
        assert code == status
        assert body["errors"][0]["msg"]
    assert await client.orders() == []


async def test_too_many_requests_say_when_to_come_back_in_milliseconds():
    async with a_chain(requests_per_window=3) as client:
        for left in ("2", "1", "0"):
            status, headers, _ = await client.http("GET", "/v4/time")
            assert (status, headers["RateLimit-Remaining"]) == (200, left)
        status, headers, body = await client.http("GET", "/v4/height")
        assert (status, body) == (429, {"errors": [{"msg": "Too many requests"}]})
        assert 0 < int(headers["Retry-After"]) <= 10_000
        assert abs(int(headers["RateLimit-Reset"]) / 1000 - time.time()) < 60
        assert headers["RateLimit-Limit"] == "3"


async def test_rest_that_is_behind_its_own_stream(client):
    async with listening(client) as stream:
        await client.fault("REST_STALE", times=None)
        order = an_order()
        assert await client.place(order) == OK
        await stream.order(order, "BEST_EFFORT_OPENED")
        assert await client.orders() == []
        await client.end_faults()
        assert len(await client.orders()) == 1


async def test_a_slow_rest(client):
    await client.fault("REST_SLOW", delay_s=0.2)
    before = time.monotonic()
    assert await client.orders() == []
    assert time.monotonic() - before >= 0.2


# --- the admin door -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/faults", {"kind": "NONSENSE"}, "Invalid enum value"),
        ("/faults", {"kind": "DOWN", "times": 0}, "times is at least 1, or null; found 0"),
        ("/faults", {"kind": "REST_ERROR", "status": 200}, "status is 400 to 599"),
        ("/faults", {"kind": "DOWN", "nodes": 1}, "unknown field"),
        ("/step", {"blocks": 0}, "blocks is 1 to 10000; found 0"),
        ("/oracle", {"ticker": "BTC-USD", "price": "0.0000001"}, "has 5 places at most"),
        ("/oracle", {"ticker": "BTC-USD", "price": "NaN"}, "NaN"),
        ("/market", {"ticker": "BTC-USD", "status": "OPEN"}, "status is one of"),
        ("/market", {"ticker": "BTC-USD", "subticks_per_tick": 0}, "at least 1"),
        (
            "/trade",
            {"ticker": "BTC-USD", "side": "UP", "size": "1", "price": "1"},
            "side is BUY or SELL",
        ),
        (
            "/trade",
            {"ticker": "BTC-USD", "side": "BUY", "size": "0.00001", "price": "1"},
            "off the grid",
        ),
        ("/block-time", {"block_time_s": -1}, "block_time_s is 0 to 3600"),
    ],
)
async def test_what_the_admin_door_cannot_do_it_says(client, path, body, expected):
    status, _, answer = await client.http("POST", f"/admin{path}", body)
    assert status == 400
    assert expected in answer["errors"][0]["msg"]


async def test_what_the_admin_door_does_not_know(client):
    for method, path, body in (
        ("DELETE", "/faults/7", None),
        ("POST", "/oracle", {"ticker": "X-USD", "price": "1"}),
    ):
        status, _, _ = await client.http(method, f"/admin{path}", body)
        assert status == 404


async def test_a_fault_meets_whom_it_names(client):
    mine, other = an_order(), an_order()
    await client.fault("RESET", client_id=mine.order_id.client_id, node=1)
    assert await client.place(other, node=1) == OK
    assert await client.place(mine, node=0, memo="a") == OK
    assert await failure(client.place(mine, node=1)) is grpc.StatusCode.UNAVAILABLE


def test_every_fault_is_named_in_the_readme():
    from .test_localnet_command import README

    text = README.read_text()
    assert [kind for kind in FaultKind if f"`{kind}`" not in text] == []
