"""Streams: nothing missing, nothing twice, whatever happens to the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import grpc
import grpc.aio
import pytest

from tradegw import errors
from tradegw.gateway import StreamBatch
from tradegw.model import EventType, OrderEvent
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.trading.v1 import trading_gateway_pb2_grpc
from tradegw.transports.grpc.client import RemoteGateway, connect
from tradegw.transports.grpc.errors import read_metadata, read_status
from tradegw.transports.grpc.server import GrpcDoor, serve

LIMIT: dict[str, Any] = {
    "account": "paper",
    "symbol": "BTC/USDT",
    "side": "buy",
    "ord_type": "limit",
    "order_qty": "0.01",
    "price": "100",
}


async def until(stream: AsyncIterator[StreamBatch], seq: int) -> list[StreamBatch]:
    """Read until the position is `seq`."""
    batches: list[StreamBatch] = []
    async with asyncio.timeout(60):
        async for batch in stream:
            batches.append(batch)
            if batch.position.get("paper") == seq:  # type: ignore[call-overload]
                break
    return batches


def seqs(batches: list[StreamBatch]) -> list[int]:
    items = [item for batch in batches for item in (*batch.orders, *batch.fills)]
    for before, item in pairwise(items):
        assert item.prev_seq == before.seq
    return [item.seq for item in items]


def an_event() -> OrderEvent:
    return OrderEvent(event_type=EventType.HISTORY_GAP, account="paper", time_ns=1)  # type: ignore[arg-type]


async def test_what_is_stored_then_what_happens(gateway: RemoteGateway, fake: Any) -> None:
    for _ in range(3):
        await gateway.place_order(**LIMIT)
    stream = gateway.stream_orders()
    stored = await until(stream, 3)
    assert [item.event for b in stored for item in b.orders] == fake.events
    assert (await anext(stream)).caught_up
    fake.append(an_event())
    live = await anext(stream)
    assert [(i.seq, i.prev_seq) for i in live.orders] == [(4, 3)]
    assert live.orders[0].event == fake.events[3]


async def test_fills_are_numbered_by_their_events(gateway: RemoteGateway, fake: Any) -> None:
    order = await gateway.place_order(**LIMIT)
    for _ in range(3):
        fake.append(an_event())
        fake.add_fill(order)
    batches = await until(gateway.stream_fills(), 7)
    assert seqs(batches) == [3, 5, 7]
    assert [i.fill for b in batches for i in b.fills] == fake.fills


@pytest.mark.parametrize(("after", "expected"), [(0, [1, 2, 3, 4]), (2, [3, 4]), (-1, [4])])
async def test_a_reader_begins_where_it_likes(
    gateway: RemoteGateway, fake: Any, after: int, expected: list[int]
) -> None:
    for _ in range(3):
        fake.append(an_event())
    stream = gateway.stream_orders(after={"paper": after})
    batches: list[StreamBatch] = []
    while not batches or not batches[-1].caught_up:
        batches.append(await anext(stream))
    fake.append(an_event())
    batches.append(await anext(stream))
    assert seqs(batches) == expected


async def test_a_place_beyond_the_end_is_refused(gateway: RemoteGateway) -> None:
    with pytest.raises(errors.InvalidOrder) as caught:
        await anext(gateway.stream_orders(after={"paper": 99}))
    assert caught.value.reason == "OUT_OF_RANGE"


@pytest.mark.parametrize("kind", ["orders", "fills"])
async def test_a_reader_does_not_notice_a_lost_connection(
    door: GrpcDoor, fake: Any, wire: Any, kind: str
) -> None:
    wire.target = door.address
    async with connect(wire.address, timeout_s=20.0) as gateway:
        order = await gateway.place_order(**LIMIT)
        stream = gateway.stream_orders() if kind == "orders" else gateway.stream_fills()
        batches: list[StreamBatch] = []
        for _ in range(5):
            # What the filter leaves out moves the position beyond the last item.
            fake.append(an_event())
            fake.add_fill(order)
            fake.append(an_event())
            batches += await until(stream, len(fake.events))
            wire.cut()
        fake.add_fill(order)
        batches += await until(stream, len(fake.events))
    expected = [e.seq for e in fake.events if kind == "orders" or e.fill is not None]
    assert seqs(batches) == expected


async def test_a_reader_does_not_notice_a_restarted_door(
    fake: Any, metrics: Any, wire: Any
) -> None:
    async with connect(wire.address, timeout_s=20.0) as gateway:
        stream = gateway.stream_orders()
        batches: list[StreamBatch] = []
        for round_ in range(1, 4):
            async with serve(fake, port=0, operations=fake, metrics=metrics) as door:
                wire.target = door.address
                fake.append(an_event())
                batches += await until(stream, round_)
    assert seqs(batches) == [1, 2, 3]


async def test_a_gateway_that_stays_away_ends_the_stream(wire: Any) -> None:
    async with connect(wire.address, timeout_s=0.3) as gateway:
        with pytest.raises(errors.Unavailable, match=r"resume after paper:7\."):
            await anext(gateway.stream_orders(after={"paper": 7}))


async def test_a_gap_is_noticed_and_read_again(
    fake: Any, metrics: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A door that skips an item is not believed: the client resumes after the last one that it has."""
    for _ in range(4):
        fake.append(an_event())
    told = fake.stream_orders
    opened: list[Any] = []

    async def skipping(**asked: Any) -> AsyncIterator[StreamBatch]:
        opened.append(asked["after"])
        first = len(opened) == 1
        async for batch in told(**asked):
            if first and any(item.seq == 3 for item in batch.orders):
                continue
            yield batch

    monkeypatch.setattr(fake, "stream_orders", skipping)
    async with (
        serve(fake, port=0, operations=fake, metrics=metrics) as door,
        connect(door.address) as gateway,
    ):
        assert seqs(await until(gateway.stream_orders(), 4)) == [1, 2, 3, 4]
    assert opened == [{}, {"paper": 2}]


async def test_the_end_says_where_to_resume(
    stub: trading_gateway_pb2_grpc.TradingGatewayStub, fake: Any
) -> None:
    for _ in range(3):
        fake.append(an_event())
    call = stub.StreamOrders(pb.StreamOrdersRequest())
    while not (await call.read()).caught_up:
        pass
    fake.stop()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read():
            pass
    error = read_status(caught.value)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error is not None
    assert error.reason == "SHUTTING_DOWN"
    assert read_metadata(caught.value)["resume_after"] == "paper:3"


async def test_a_closing_door_ends_streams_in_the_same_way(fake: Any, metrics: Any) -> None:
    async with serve(fake, port=0, operations=fake, metrics=metrics) as door:
        async with grpc.aio.insecure_channel(door.address) as channel:
            stub = trading_gateway_pb2_grpc.TradingGatewayStub(channel)
            fake.append(an_event())
            call = stub.StreamOrders(pb.StreamOrdersRequest())
            while not (await call.read()).caught_up:
                pass
            await door.close_streams()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert read_metadata(caught.value)["resume_after"] == "paper:1"


async def test_a_reader_that_does_not_read_holds_up_nothing(
    stub: trading_gateway_pb2_grpc.TradingGatewayStub,
    gateway: RemoteGateway,
    fake: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gateway's stream is asked only as fast as the reader reads, so nothing piles up in memory."""
    # More than the windows of the connection hold, which grow to some megabytes.
    order = replace(await gateway.place_order(**LIMIT), text="x" * 50_000)
    for _ in range(1000):
        fake.put(order, EventType.NEW)
    asked = 0
    told = fake.stream_orders

    async def counting(**what: Any) -> AsyncIterator[StreamBatch]:
        nonlocal asked
        async for batch in told(**what):
            asked += 1
            yield batch

    monkeypatch.setattr(fake, "stream_orders", counting)
    call = stub.StreamOrders(pb.StreamOrdersRequest())
    await call.read()
    at = -1
    while at != asked:
        # As many calls as it takes until the stream moves no more: a fast one and a stuck one at once.
        at = asked
        for _ in range(20):
            await gateway.get_order(order.order_id)
    assert asked < 800
    read = 1
    while not (await call.read()).caught_up:
        read += 1
    assert read >= 1001
    call.cancel()


async def test_a_reader_that_goes_away_closes_the_gateways_stream(
    gateway: RemoteGateway, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = asyncio.Event()
    told = fake.stream_orders

    async def watched(**what: Any) -> AsyncIterator[StreamBatch]:
        try:
            async for batch in told(**what):
                yield batch
        finally:
            closed.set()

    monkeypatch.setattr(fake, "stream_orders", watched)
    stream: Any = gateway.stream_orders()
    await anext(stream)
    await stream.aclose()
    async with asyncio.timeout(60):
        await closed.wait()


async def test_a_long_batch_is_cut_to_what_callers_take(
    stub: trading_gateway_pb2_grpc.TradingGatewayStub,
    gateway: RemoteGateway,
    fake: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = replace(await gateway.place_order(**LIMIT), text="x" * 50_000)
    for _ in range(199):
        fake.put(order, EventType.NEW)
    told = fake.stream_orders

    async def joined(**what: Any) -> AsyncIterator[StreamBatch]:
        items: list[Any] = []
        async for batch in told(**what):
            items += batch.orders
            if batch.caught_up:
                yield replace(batch, orders=tuple(items))
                items = []

    monkeypatch.setattr(fake, "stream_orders", joined)
    call = stub.StreamOrders(pb.StreamOrdersRequest())
    lengths: list[int] = []
    at = 0
    while at < 200:
        response = await call.read()
        lengths.append(len(response.items))
        at = response.items[-1].seq
        assert [(p.account, p.after_seq) for p in response.position] == [("paper", at)]
        assert response.caught_up == (at == 200)
    call.cancel()
    assert len(lengths) > 5
    assert sum(lengths) == 200
    assert seqs(await until(gateway.stream_orders(), 200)) == list(range(1, 201))
