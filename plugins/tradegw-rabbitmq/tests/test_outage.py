"""RabbitMQ is away for a minute, and orders go on: nothing lost, nothing doubled in effect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aio_pika
import pytest

import tradegw
from tests import postgres_servers
from tests.e2e.ledgers import all_fills, all_orders
from tests.e2e.processes import until
from tests.rabbitmq import Broker, Node, Reader, config, own_node, place

AWAY_S = 60.0
CALLERS = 4
PAUSE_S = 0.05
"""Between the orders of one caller, so that the load is a load and not the machine's limit."""
COMMANDS = 20

Tell = Callable[[str], None]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A broker of the test's own: no other is ever stopped."""
    folder = tmp_path / "broker"
    folder.mkdir()
    with own_node(folder) as running:
        yield running


@dataclass
class Load:
    """Callers that trade without end, and what became of it.

    Attributes:
        placed: When each order was answered, and how long that took; in seconds.
    """

    gateway: tradegw.Gateway
    placed: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._trade(number))

    async def _trade(self, number: int) -> None:
        turn = number
        while True:
            started = time.monotonic()
            if turn % 3:
                await self._place(ord_type="market", side="buy" if turn % 2 else "sell")
            else:
                order = await self._place(ord_type="limit", side="buy", price="30000")
                await self.gateway.cancel_order(order.order_id)
            self.placed.append((time.monotonic(), time.monotonic() - started))
            turn += 1
            await asyncio.sleep(PAUSE_S)

    async def _place(self, **fields: Any) -> tradegw.Order:
        return await self.gateway.place_order(
            account="paper", symbol="BTC/USDT", order_qty="0.001", **fields
        )


async def read_on(url: str, name: str, reader: Reader) -> None:
    """Read a queue for ever, over a connection that is made anew when it breaks."""
    while True:
        with suppress(aio_pika.exceptions.AMQPError, OSError, asyncio.TimeoutError):
            connection = await aio_pika.connect(url, timeout=5)
            async with connection:
                channel = await connection.channel()
                await reader.read(await channel.get_queue(name))
        await asyncio.sleep(0.1)


async def stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.fixture(params=["sqlite", "postgres18"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    # Beside a store that is no file the mock venue keeps its own in the working directory.
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/tradegw.db"
        return
    with postgres_servers.serve(request.param) as server, server.store() as url:
        yield url


async def declare(url: str) -> None:
    """Make the durable queues that a desk has, before it trades."""
    connection = await aio_pika.connect(url, timeout=10)
    async with connection:
        broker = Broker(await connection.channel(), "")
        await broker.queue("orders.events.v1", "executions.events.v1", name="desk")
        await broker.queue(name="orders.commands.v1")


async def send_commands(url: str) -> None:
    """Put commands into the queue, each twice."""
    connection = await aio_pika.connect(url, timeout=10)
    async with connection:
        broker = Broker(await connection.channel(), "")
        for number in range(COMMANDS):
            for _ in range(2):
                await broker.command(
                    place(f"c{number}", qty="0.001"),
                    message_id=f"m{number}",
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                )


# The oldest client leaves a stream behind that it was opening when the connection was cut.
@pytest.mark.filterwarnings("ignore:.*StreamWriter.__del__:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.long
@pytest.mark.timeout(900)
async def test_the_broker_is_away_for_a_minute_under_load(
    node: Node, store: str, monkeypatch: pytest.MonkeyPatch, tell: Tell
) -> None:
    monkeypatch.setenv("TEST_AMQP", node.url)
    await declare(node.url)
    reader = Reader()
    settings = {**config(Broker(None, ""), commands=True), "store": {"url": store}}
    async with tradegw.open(settings) as gateway:

        def outbox() -> Any:
            return gateway.list_outboxes()[0]  # type: ignore[attr-defined]

        before = await held(gateway)
        load = Load(gateway)
        reading = asyncio.create_task(read_on(node.url, "desk", reader))
        trading = asyncio.create_task(load.run())
        try:

            async def is_under_way() -> bool:
                return len(reader.events) > 100

            await until(is_under_way, 60, "events come")
            await send_commands(node.url)
            went = time.monotonic()
            await asyncio.to_thread(node.stop)
            most_events, most_s = 0, 0.0
            while time.monotonic() - went < AWAY_S:
                assert not trading.done()
                most_events = max(most_events, outbox().lag_events)
                most_s = max(most_s, outbox().lag_s)
                await asyncio.sleep(0.1)
            why = outbox().why
            came = time.monotonic()
            await asyncio.to_thread(node.start)
            started = time.monotonic()

            waited = max(o.seq for o in await all_orders(gateway))

            async def has_drained() -> bool:
                # What had waited; of what is placed meanwhile some is always on its way.
                return reader.has_all(waited)

            await until(has_drained, 300, "the lag drains under load", every_s=1)
            drained_s = time.monotonic() - started
            if not trading.done():
                await stop(trading)

            async def is_told() -> bool:
                orders = await all_orders(gateway)
                by_command = [o for o in orders if o.client_order_id is not None]
                return (
                    len(by_command) == COMMANDS
                    and not any(o.is_open for o in by_command)
                    and not outbox().lag_events
                    and reader.has_all(max(o.seq for o in orders))
                )

            await until(is_told, 300, "all of it is told")
        finally:
            await stop(*(task for task in (trading, reading) if not task.done()))
        orders, fills = await all_orders(gateway), await all_fills(gateway)
        after = await held(gateway)
    away = [took for at, took in load.placed if went < at < came]
    tell(
        f"RabbitMQ away for {came - went:.0f} s on {store.partition(':')[0]}: {len(away)} turns of orders"
        f" meanwhile, the slowest {max(away) * 1000:.0f} ms; lag up to {most_events} events and"
        f" {most_s:.0f} s, drained in {drained_s:.1f} s; {len(reader.events)} events,"
        f" {reader.repeated} repeated"
    )
    # Orders went on through all of it, and the lag said how much waited, how long, and why.
    assert len(away) > AWAY_S
    assert most_events > len(away)
    assert most_s > AWAY_S / 2
    assert why
    # Nothing lost, nothing doubled in effect, order per order.
    reader.check(max(o.seq for o in orders))
    told = [e.fill.fill.trade_id for e in reader.events if e.HasField("fill")]
    assert sorted(told) == sorted(fill.trade_id for fill in fills)
    # What a consumer makes of the messages is what the venue holds.
    fees = sum((f.fee or Decimal(0) for f in fills if f.fee_asset == "BTC"), Decimal(0))
    assert reader.positions.held["paper", "BTC/USDT"] == after - before + fees


async def held(gateway: tradegw.Gateway) -> Decimal:
    """Return what the venue says that the account holds."""
    (bitcoin,) = [b for b in await gateway.list_balances("paper") if b.asset == "BTC"]
    return bitcoin.free + bitcoin.held
