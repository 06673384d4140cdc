"""Events and commands over a real broker: TRADEGW_TEST_AMQP_URL, else the one on the standard port."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import aio_pika
import pytest

import tradegw
from tradegw.events.v1 import events_pb2

URL = os.environ.get("TRADEGW_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
DELAYS = [0.1, 0.2]


class Broker:
    def __init__(self, channel: Any, prefix: str) -> None:
        self.channel, self.prefix = channel, prefix

    async def queue(self, *exchanges: str) -> Any:
        queue = await self.channel.declare_queue(exclusive=True)
        for name in exchanges:
            exchange = await self.channel.declare_exchange(
                self.prefix + name, "topic", durable=True
            )
            await queue.bind(exchange, "#")
        return queue

    async def command(self, body: bytes, **properties: Any) -> None:
        message = aio_pika.Message(body, **properties)
        await self.channel.default_exchange.publish(message, f"{self.prefix}orders.commands.v1")


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    monkeypatch.setenv("TEST_AMQP", URL)
    try:
        connection = await aio_pika.connect(URL, timeout=5)
    except OSError as e:
        if os.environ.get("TRADEGW_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(f"no RabbitMQ: {e}")
    prefix = f"t{uuid4().hex[:8]}."
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue(f"{prefix}orders.commands.v1", durable=True)
        yield Broker(channel, prefix)
        names = ["", ".dead", *(f".retry.{round(d * 1000)}" for d in DELAYS)]
        for name in names:
            await channel.queue_delete(f"{prefix}orders.commands.v1{name}")
        for name in ("orders.events.v1", "executions.events.v1", "dead.v1"):
            await channel.exchange_delete(prefix + name)


def config(broker: Broker, **options: Any) -> dict[str, Any]:
    rabbit = {"plugin": "rabbitmq", "url": "env:TEST_AMQP", "prefix": broker.prefix}
    return {
        "store": {"url": "memory://"},
        "sinks": {"rabbit": {**rabbit, "retry_delays_s": DELAYS, **options}},
    }


async def messages(queue: Any, until: Callable[[list[Any]], bool]) -> list[Any]:
    got: list[Any] = []
    async with asyncio.timeout(20), queue.iterator() as items:
        async for message in items:
            await message.ack()
            got.append(message)
            if until(got):
                return got
    raise AssertionError("the queue ended")


def event(message: Any) -> events_pb2.Event:
    return events_pb2.Event.FromString(message.body)


def place(name: str = "c1", symbol: str = "BTC/USDT", qty: str = "0.01") -> bytes:
    command = events_pb2.Command()
    order = command.place_order.order
    order.account, order.symbol, order.client_order_id = "paper", symbol, name
    order.side, order.order_qty = 1, qty
    order.market.SetInParent()
    return command.SerializeToString()


async def test_every_event_comes_in_order_with_its_names(broker: Broker) -> None:
    queue = await broker.queue("orders.events.v1", "executions.events.v1")
    async with tradegw.open(config(broker)) as gateway:
        orders = [
            await gateway.place_order(
                account="paper", symbol="BTC/USDT", side="buy", ord_type="market", order_qty="0.01"
            )
            for _ in range(5)
        ]
        last = orders[-1].seq
        got = await messages(queue, lambda m: event(m[-1]).seq >= last)
    told = [event(message) for message in got]
    assert [e.seq for e in told] == list(range(1, last + 1))
    assert [m.message_id for m in got] == [f"paper:{e.seq}" for e in told]
    assert all(m.headers["order_id"] == e.order_id for m, e in zip(got, told, strict=True))
    assert all(m.delivery_mode == aio_pika.DeliveryMode.PERSISTENT for m in got)
    fills = [e for m, e in zip(got, told, strict=True) if "executions" in m.exchange]
    assert fills
    assert all(e.WhichOneof("kind") == "fill" for e in fills)


async def test_an_event_that_no_queue_takes_waits_for_one(broker: Broker) -> None:
    async with tradegw.open(config(broker)) as gateway:
        await gateway.place_order(
            account="paper", symbol="BTC/USDT", side="buy", ord_type="market", order_qty="0.01"
        )
        queue = await broker.queue("orders.events.v1", "executions.events.v1")
        got = await messages(queue, lambda m: any(event(x).seq == 1 for x in m))
    assert got


async def test_a_command_has_its_effect_once(broker: Broker) -> None:
    queue = await broker.queue("orders.events.v1", "executions.events.v1")
    async with tradegw.open(config(broker, commands=True)) as gateway:
        for _ in range(3):
            await broker.command(place(), message_id="m1", correlation_id="desk-7")
        await broker.command(place("c2"), message_id="m2")
        await messages(
            queue,
            lambda m: (
                len({e.order_id for e in map(event, m) if e.event_type}) == 2
                and {x.correlation_id for x in m} >= {"desk-7", "m2"}
            ),
        )
        # What comes behind the repeated ones is taken after them.
        orders = (await gateway.list_orders()).items
    assert sorted(str(o.client_order_id) for o in orders) == ["c1", "c2"]


async def test_poison_is_buried_with_its_reason_and_delays_nobody(broker: Broker) -> None:
    events = await broker.queue("orders.events.v1", "executions.events.v1")
    async with tradegw.open(config(broker, commands=True)):
        await broker.command(b"\xff\xff\xff", message_id="poison")
        await broker.command(place(), message_id="good")
        await messages(events, lambda m: any(x.correlation_id == "good" for x in m))
        dead = await broker.channel.declare_queue(
            f"{broker.prefix}orders.commands.v1.dead", durable=True
        )
        (buried,) = await messages(dead, lambda m: len(m) == 1)
    assert buried.message_id == "poison"
    assert buried.headers["x-tradegw-reason"] == "INVALID_FIELD"


async def test_what_stays_unknown_is_buried_after_its_tries(broker: Broker) -> None:
    command = events_pb2.Command()
    command.cancel_order.account, command.cancel_order.client_order_id = "paper", "nobody"
    async with tradegw.open(config(broker, commands=True)):
        await broker.command(command.SerializeToString(), message_id="m1")
        dead = await broker.channel.declare_queue(
            f"{broker.prefix}orders.commands.v1.dead", durable=True
        )
        (buried,) = await messages(dead, lambda m: len(m) == 1)
    assert buried.headers["x-tradegw-reason"] == "UNKNOWN_ORDER"
    assert buried.headers["x-tradegw-attempt"] == len(DELAYS)
