"""Rebuild positions from the fills that tradegw publishes to RabbitMQ.

    AMQP_URL=amqp://guest:guest@127.0.0.1:5672/ python examples/rabbitmq_positions.py

A message may come more than once, so each is counted under its id; ids and positions belong into one
transaction of your own database when they are to outlive this program.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from decimal import Decimal

import aio_pika

from tradegw.events.v1 import events_pb2
from tradegw.trading.v1 import enums_pb2


class Positions:
    """What each account holds, by account and symbol."""

    def __init__(self) -> None:
        self.held: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self._seen: set[str] = set()

    def take(self, body: bytes) -> bool:
        """Count one message; False when it had been counted before, or moves nothing."""
        event = events_pb2.Event.FromString(body)
        if event.event_id in self._seen or event.WhichOneof("kind") != "fill":
            return False
        self._seen.add(event.event_id)
        fill = event.fill.fill
        sign = 1 if fill.side == enums_pb2.SIDE_BUY else -1
        self.held[fill.account, fill.symbol] += sign * Decimal(fill.last_qty)
        return True


async def main() -> None:
    """Print the positions whenever they change, until interrupted."""
    positions = Positions()
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        exchange = await channel.declare_exchange(
            f"{os.environ.get('PREFIX', '')}executions.events.v1", "topic", durable=True
        )
        # Made for this run. A desk has a durable queue, so that it misses nothing while it is away.
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "#")
        print("ready", flush=True)
        async with queue.iterator() as messages:
            async for message in messages:
                if positions.take(message.body):
                    for (account, symbol), qty in sorted(positions.held.items()):
                        print(f"{account} {symbol} {qty}", flush=True)
                # After it is counted: what is not acknowledged comes again.
                await message.ack()


if __name__ == "__main__":
    asyncio.run(main())
