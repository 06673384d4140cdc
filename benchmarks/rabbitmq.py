"""`python -m benchmarks.rabbitmq`: events to RabbitMQ with confirms, against a bare aio-pika publisher.

Both publish the same messages, persistent and with publisher confirms, to a durable queue of the same broker
(`TRADEGW_TEST_AMQP_URL`, else the one on the standard port), in turns. The bare one holds its messages ready
and has 512 on their way; the gateway reads its events from the store, writes them as messages, publishes them
and moves its cursor durably behind what is confirmed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel
from tradegw_rabbitmq.config import RabbitConfig
from tradegw_rabbitmq.messages import Outgoing, write

import tradegw
from benchmarks.servers import config
from codegen.postgres import PostgresUnavailable, database, running_server
from tradegw.gateway.local import LocalGateway
from tradegw.model import AccountName
from tradegw.ports import EventFilter
from tradegw.store.postgres_schema import migrate_postgres
from tradegw.venue import Secret

URL = os.environ.get("TRADEGW_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
URL_VARIABLE = "TRADEGW_BENCH_AMQP_URL"
IN_FLIGHT = 512
ORDERS = 5000
ROUNDS = 5
_END_TIMEOUT_S = 120


def settings(store: str, prefix: str | None) -> dict[str, Any]:
    """Return the configuration of the gateway that is measured; without a prefix it publishes nothing."""
    sink = {"plugin": "rabbitmq", "url": f"env:{URL_VARIABLE}", "prefix": prefix}
    # The name keeps the cursor, so another one publishes everything anew.
    return {**config("."), "store": {"url": store}, "sinks": {prefix: sink} if prefix else {}}


async def record(store: str, orders: int) -> list[tradegw.OrderEvent]:
    """Trade into a store; returns the events that it holds then."""
    async with tradegw.open(settings(store, None)) as gateway:

        async def one() -> None:
            await gateway.place_order(
                account="paper", symbol="BTC/USDT", side="buy", ord_type="market", order_qty="0.001"
            )

        for _ in range(0, orders, 50):
            await asyncio.gather(*(one() for _ in range(50)))
        assert isinstance(gateway, LocalGateway)
        events: list[tradegw.OrderEvent] = []
        while True:
            after = events[-1].seq if events else 0
            part = await gateway.engine.store.list_events(
                EventFilter(account=AccountName("paper"), after_seq=after), limit=IN_FLIGHT
            )
            if not part:
                return events
            events += part


@asynccontextmanager
async def queue(prefix: str) -> AsyncIterator[AbstractChannel]:
    """Make what the gateway declares, with one durable queue that takes everything; remove it afterwards."""
    named = RabbitConfig(url=Secret(""), prefix=prefix)
    connection = await aio_pika.connect(URL)
    async with connection, AsyncExitStack() as made:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        durable = await channel.declare_queue(f"{prefix}bench", durable=True)
        made.push_async_callback(durable.delete, if_unused=False, if_empty=False)
        for name in (named.orders, named.executions):
            exchange = await channel.declare_exchange(name, "topic", durable=True)
            made.push_async_callback(exchange.delete)
            await durable.bind(exchange, "#")
        yield channel


async def bare(events: Sequence[tradegw.OrderEvent]) -> float:
    """Return how many messages a second aio-pika alone publishes with confirms."""
    prefix = f"b{uuid4().hex[:8]}."
    named = RabbitConfig(url=Secret(""), prefix=prefix)
    ready = [write(event, named) for event in events]
    async with queue(prefix) as channel:
        exchanges = {
            name: await channel.get_exchange(name) for name in (named.orders, named.executions)
        }
        free = asyncio.Semaphore(IN_FLIGHT)

        async def send(outgoing: Outgoing) -> None:
            exchange, routing_key, message = outgoing
            await exchanges[exchange].publish(message, routing_key, mandatory=True)
            free.release()

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for outgoing in ready:
                await free.acquire()
                group.create_task(send(outgoing))
        return len(ready) / (time.perf_counter() - started)


async def ours(store: str) -> float:
    """Return how many events a second a gateway brings from its store to the broker, cursor and all."""
    prefix = f"o{uuid4().hex[:8]}."
    async with queue(prefix), tradegw.open(settings(store, prefix)) as gateway:
        assert isinstance(gateway, LocalGateway)
        engine = gateway.engine
        (outbox,) = engine.outboxes
        async with asyncio.timeout(_END_TIMEOUT_S):
            # What it did before the first look is left out, as is its start.
            while not (before := outbox.published):  # noqa: ASYNC110  Nobody tells.
                await asyncio.sleep(0.001)
            started = time.perf_counter()
            while outbox.lag_events:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            return (outbox.published - before) / (time.perf_counter() - started)


async def measure(name: str, store: str, *, orders: int, rounds: int) -> None:
    """Measure a store's events in turns, and print."""
    events = await record(store, orders)
    print(f"{name}: {len(events)} events of {orders} orders")
    figures: list[tuple[float, float]] = []
    for _ in range(rounds):
        figures.append((await bare(events), await ours(store)))
        print(f"  bare {figures[-1][0]:,.0f}/s, ours {figures[-1][1]:,.0f}/s")
    alone, through = (median(column) for column in zip(*figures, strict=True))
    ratio = median(mine / theirs for theirs, mine in figures)
    print(
        f"{name}: {through:,.0f} events/s with confirms; bare aio-pika {alone:,.0f}/s; ratio {ratio:.2f}"
    )


async def main() -> None:
    """Measure on each store, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth, to see that it runs")
    quick = parser.parse_args().quick
    orders, rounds = (ORDERS // 10, 2) if quick else (ORDERS, ROUNDS)
    logging.basicConfig(level=logging.WARNING)
    # A venue in memory is another instance at each start, which raises an alarm.
    logging.getLogger("tradegw.engine.feed").setLevel(logging.CRITICAL)
    os.environ[URL_VARIABLE] = URL
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "bench.db")
        await measure("SQLite", f"sqlite:///{file}", orders=orders, rounds=rounds)
    try:
        with running_server() as server, database(server) as url:
            await migrate_postgres(url, time_ns=0)
            await measure("Postgres", url, orders=orders, rounds=rounds)
    except PostgresUnavailable as e:
        print(f"Postgres: not run: {e}")


if __name__ == "__main__":
    asyncio.run(main())
