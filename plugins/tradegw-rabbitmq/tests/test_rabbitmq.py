"""Events and commands over a real broker: TRADEGW_TEST_AMQP_URL, else the one on the standard port."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import pytest

import tradegw
from tests.e2e.processes import serving, until
from tests.e2e.processes import tradegw as run_tradegw
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


async def test_another_message_under_a_known_id_is_buried(broker: Broker) -> None:
    dead = await broker.channel.declare_queue(
        f"{broker.prefix}orders.commands.v1.dead", durable=True
    )
    events = await broker.queue("orders.events.v1", "executions.events.v1")
    async with tradegw.open(config(broker, commands=True)) as gateway:
        await broker.command(place("c1"), message_id="m1")
        await messages(events, lambda m: any(x.correlation_id == "m1" for x in m))
        await broker.command(place("c2"), message_id="m1")
        (buried,) = await messages(dead, lambda m: len(m) == 1)
        (order,) = (await gateway.list_orders()).items
    assert order.client_order_id == "c1"
    assert buried.headers["x-tradegw-reason"] == "IDEMPOTENCY_KEY_REUSED"


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


async def test_a_header_that_counts_nonsense_does_not_come_back_for_ever(broker: Broker) -> None:
    command = events_pb2.Command()
    command.cancel_order.account, command.cancel_order.client_order_id = "paper", "nobody"
    async with tradegw.open(config(broker, commands=True)):
        await broker.command(
            command.SerializeToString(), message_id="m1", headers={"x-tradegw-attempt": "many"}
        )
        dead = await broker.channel.declare_queue(
            f"{broker.prefix}orders.commands.v1.dead", durable=True
        )
        (buried,) = await messages(dead, lambda m: len(m) == 1)
    assert buried.headers["x-tradegw-reason"] == "UNKNOWN_ORDER"


async def test_dead_letters_are_shown_and_put_back(broker: Broker, tmp_path: Path) -> None:
    async def command(*words: str) -> str:
        done = await asyncio.to_thread(
            run_tradegw,
            "rabbitmq",
            "dead-letters",
            *words,
            "--prefix",
            broker.prefix,
            cwd=tmp_path,
            TRADEGW_AMQP_URL=URL,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def shown() -> bool:
        return "INVALID_FIELD" in await command("list", "--json")

    async with tradegw.open(config(broker, commands=True)):
        await broker.command(b"\xff", message_id="poison")
        # The command fails while there is no such queue yet.
        dead = f"{broker.prefix}orders.commands.v1.dead"
        await broker.channel.declare_queue(dead, durable=True)
        await until(shown, 60, "it is buried")
    # Nobody takes commands now: it stays where it is put.
    assert await command("replay", "other") == "0 put back\n"
    assert await command("replay", "poison") == "1 put back\n"
    assert await command("list", "--json") == ""
    queue = await broker.channel.get_queue(f"{broker.prefix}orders.commands.v1")
    (again,) = await messages(queue, lambda m: len(m) == 1)
    assert (again.message_id, again.body, again.headers) == ("poison", b"\xff", {})


class Proxy:
    """Stands before the broker; may cut every connection and refuse new ones."""

    def __init__(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = urlsplit(URL)
        there, out = await asyncio.open_connection(to.hostname, to.port or 5672)
        self._writers |= {writer, out}
        await asyncio.gather(self._pipe(reader, out), self._pipe(there, writer))
        self._writers -= {writer, out}

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


# The oldest client leaves a stream behind that it was opening when the connection was cut.
@pytest.mark.filterwarnings("ignore:.*StreamWriter.__del__:pytest.PytestUnraisableExceptionWarning")
async def test_a_broker_that_is_away_holds_nothing_up_and_misses_nothing(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy()
    await proxy.open()
    to = urlsplit(URL)
    monkeypatch.setenv(
        "TEST_AMQP", f"amqp://{to.username}:{to.password}@127.0.0.1:{proxy.port}{to.path}"
    )
    queue = await broker.queue("orders.events.v1", "executions.events.v1")
    async with tradegw.open(config(broker, commands=True)) as gateway:

        async def trade(count: int) -> int:
            placed = [
                await gateway.place_order(
                    account="paper",
                    symbol="BTC/USDT",
                    side="buy",
                    ord_type="market",
                    order_qty="0.001",
                )
                for _ in range(count)
            ]
            return placed[-1].seq

        trading = asyncio.create_task(trade(60))
        await messages(queue, lambda m: len(m) >= 5)
        await proxy.cut()
        last = await trading
        last = await trade(10)
        (outbox,) = gateway.list_outboxes()  # type: ignore[attr-defined]
        assert outbox.lag_events > 0
        await broker.command(place(), message_id="m1")
        await proxy.open()
        got = await messages(
            queue,
            lambda m: (
                m[-1].correlation_id == "m1"
                or (event(m[-1]).seq >= last and any(x.correlation_id == "m1" for x in m))
            ),
        )
        await until(lambda: _has_all(gateway), 60, "the lag drains")
    seen = {event(message).seq for message in got}
    # The first five were read before the cut.
    assert seen >= set(range(6, last + 1))
    await proxy.cut()
    gc.collect()


async def _has_all(gateway: Any) -> bool:
    return all(outbox.lag_events == 0 for outbox in gateway.list_outboxes())


def write_served(directory: Path, broker: Broker) -> Path:
    file = directory / "tradegw.toml"
    file.write_text(
        f"""
[store]
url = "sqlite:///{directory}/tradegw.db"
[sinks.rabbit]
plugin = "rabbitmq"
url = "env:TEST_AMQP"
prefix = "{broker.prefix}"
commands = true
retry_delays_s = {DELAYS}
"""
    )
    return file


@pytest.mark.parametrize("point", ["OUTBOX_UNPUBLISHED", "OUTBOX_UNCONFIRMED", "OUTBOX_UNMARKED"])
async def test_a_gateway_dies_while_it_publishes(
    broker: Broker, tmp_path: Path, point: str
) -> None:
    file = write_served(tmp_path, broker)
    queue = await broker.queue("orders.events.v1", "executions.events.v1")
    with serving(tmp_path, config=file, crash_at=f"{point}:2") as served:
        await broker.command(place(), message_id="m1")
        assert await served.ended() == -signal.SIGKILL
        assert f"crash point {point} reached" in served.log.read_text()
    with serving(tmp_path, config=file) as served:
        async with tradegw.connect(served.grpc) as gateway:
            await until(lambda: _placed(gateway), 60, "the order is there")
            (order,) = (await gateway.list_orders()).items
            ids = {f"paper:{n}" for n in range(1, order.seq + 1)}
            await messages(queue, lambda m: {x.message_id for x in m} >= ids)
            assert len((await gateway.list_orders()).items) == 1


async def _placed(gateway: tradegw.Gateway) -> bool:
    orders = (await gateway.list_orders()).items
    return bool(orders) and not any(order.is_open for order in orders)


@pytest.mark.parametrize("point", ["INBOX_UNCOMMITTED", "INBOX_UNMARKED", "INBOX_UNACKNOWLEDGED"])
async def test_a_gateway_dies_over_a_command(broker: Broker, tmp_path: Path, point: str) -> None:
    file = write_served(tmp_path, broker)
    queue = await broker.queue("orders.events.v1", "executions.events.v1")
    with serving(tmp_path, config=file, crash_at=f"{point}:1") as served:
        await broker.command(place(), message_id="m1")
        assert await served.ended() == -signal.SIGKILL
        assert f"crash point {point} reached" in served.log.read_text()
    with serving(tmp_path, config=file) as served:
        # The one behind it is taken after it: the first had its turn again.
        await broker.command(place("c2"), message_id="m2")
        await messages(
            queue,
            lambda m: {x.correlation_id for x in m} >= {"m1", "m2"} and event(m[-1]).event_type > 1,
        )
        async with tradegw.connect(served.grpc) as gateway:
            orders = (await gateway.list_orders()).items
            assert sorted(str(order.client_order_id) for order in orders) == ["c1", "c2"]


async def test_the_example_rebuilds_positions_from_repeated_events(broker: Broker) -> None:
    from examples.rabbitmq_positions import Positions

    queue = await broker.queue("executions.events.v1", "orders.events.v1")
    async with tradegw.open(config(broker)) as gateway:
        for side, qty in (("buy", "0.03"), ("sell", "0.01")):
            order = await gateway.place_order(
                account="paper", symbol="BTC/USDT", side=side, ord_type="market", order_qty=qty
            )
        got = await messages(queue, lambda m: event(m[-1]).seq >= order.seq)
        fills = (await gateway.list_fills()).items
    positions = Positions()
    for message in [*got, *reversed(got)]:
        positions.take(message.body)
    expected = sum((f.last_qty if f.side == "BUY" else -f.last_qty) for f in fills)
    assert dict(positions.held) == {("paper", "BTC/USDT"): expected}
    assert expected > 0
