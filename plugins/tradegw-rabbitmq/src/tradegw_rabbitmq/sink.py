"""Publishes events with confirms, over a connection that is made anew when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import cast

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange

from tradegw import OrderEvent
from tradegw.ports import Sink, SinkRuntime
from tradegw_rabbitmq.commands import Commands
from tradegw_rabbitmq.config import RabbitConfig
from tradegw_rabbitmq.messages import write

__all__ = ["open_rabbit"]

CONNECT_TIMEOUT_S = 10.0
CONFIRM_TIMEOUT_S = 30.0


@asynccontextmanager
async def open_rabbit(config: RabbitConfig, runtime: SinkRuntime) -> AsyncGenerator[Sink]:
    """Open the sink. The broker may be away: publishing connects."""
    publisher = _Publisher(config, runtime)
    taking: asyncio.Task[None] | None = None
    if config.commands:
        taking = asyncio.create_task(
            Commands(config, runtime).run(), name=f"{runtime.name} commands"
        )
    try:
        yield publisher
    finally:
        if taking is not None:
            taking.cancel()
            await asyncio.wait([taking])
        await publisher.close()


class _Publisher:
    def __init__(self, config: RabbitConfig, runtime: SinkRuntime) -> None:
        self._config = config
        self._runtime = runtime
        self._connecting = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._exchanges: dict[str, AbstractExchange] = {}
        # By account: what is confirmed of a batch that is not, so that it does not come again with each try.
        self._confirmed: dict[str, set[int]] = {}

    async def publish(self, events: Sequence[OrderEvent]) -> None:
        """Publish events in order; return when the broker has confirmed them all."""
        account = events[0].account
        confirmed = self._confirmed.setdefault(account, set())
        refused: list[Exception] = []
        connection = await self._connected()
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S), asyncio.TaskGroup() as group:
                # Sent in this order: each takes its turn at the channel when its task starts.
                for event in events:
                    if event.seq not in confirmed:
                        group.create_task(self._send(event, confirmed, refused))
                await asyncio.sleep(0)
                self._runtime.sent()
        except Exception as e:
            await self._drop(connection)
            # What is told as the reason is a sentence, not the number of tasks that met it.
            why: Exception = e
            while isinstance(why, ExceptionGroup):
                why = cast("ExceptionGroup[Exception]", why).exceptions[0]
            if isinstance(why, TimeoutError):
                raise TimeoutError(f"not confirmed within {CONFIRM_TIMEOUT_S:g} s") from e
            raise why from None
        if refused:
            # The connection is fine; the broker had no queue for an event, or refused it.
            raise RuntimeError(f"the broker did not take {len(refused)} events: {refused[0]}")
        del self._confirmed[account]

    async def _send(self, event: OrderEvent, confirmed: set[int], refused: list[Exception]) -> None:
        exchange, routing_key, message = write(event, self._config)
        try:
            await self._exchanges[exchange].publish(
                message, routing_key, mandatory=self._config.mandatory
            )
        except aio_pika.exceptions.DeliveryError as e:
            refused.append(e)
        else:
            confirmed.add(event.seq)

    async def _connected(self) -> AbstractConnection:
        async with self._connecting:
            if self._connection is not None and not self._connection.is_closed:
                return self._connection
            config = self._config
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connection = await aio_pika.connect(config.url.reveal())
                channel: AbstractChannel = await connection.channel(
                    publisher_confirms=True, on_return_raises=True
                )
                self._exchanges = {
                    name: await channel.declare_exchange(
                        name, aio_pika.ExchangeType.TOPIC, durable=True
                    )
                    for name in (config.orders, config.executions)
                }
            self._connection = connection
            return connection

    async def _drop(self, connection: AbstractConnection) -> None:
        if self._connection is connection:
            self._connection = None
        with suppress(Exception):
            async with asyncio.timeout(1):
                await connection.close()

    async def close(self) -> None:
        if self._connection is not None:
            await self._drop(self._connection)
