"""Publishes events with confirms, over a connection that is made anew when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, HeadersType
from google.protobuf.json_format import MessageToJson

from tradegw import OrderEvent
from tradegw.ports import Sink, SinkRuntime
from tradegw.wire import write_message
from tradegw_rabbitmq.commands import Commands
from tradegw_rabbitmq.config import RabbitConfig

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

    async def publish(self, events: Sequence[OrderEvent]) -> None:
        """Publish events in order; return when the broker has confirmed them all."""
        connection = await self._connected()
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S), asyncio.TaskGroup() as group:
                # Sent in this order: each takes its turn at the channel when its task starts.
                for event in events:
                    group.create_task(self._send(event))
                await asyncio.sleep(0)
                self._runtime.sent()
        except* aio_pika.exceptions.DeliveryError as group_error:
            # The connection is fine; the broker had no queue for an event, or refused it.
            first: BaseException = group_error
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise RuntimeError(f"the broker did not take an event: {first}") from None
        except* Exception:
            await self._drop(connection)
            raise

    async def _send(self, event: OrderEvent) -> None:
        config = self._config
        told = write_message(event)
        is_json = config.format == "json"
        headers: HeadersType = {}
        if event.order_id is not None:
            headers["order_id"] = str(event.order_id)
        if event.trace_id:
            # The trace alone is recorded; its last 16 digits stand for the span that caused the event.
            headers["traceparent"] = f"00-{event.trace_id}-{event.trace_id[-16:]}-01"
        message = aio_pika.Message(
            MessageToJson(told, preserving_proto_field_name=True).encode()
            if is_json
            else told.SerializeToString(),
            content_type="application/json" if is_json else "application/x-protobuf",
            message_id=told.event_id,
            correlation_id=event.request_id or None,
            headers=headers,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            type=f"tradegw.events.v1.{told.WhichOneof('kind')}",
        )
        venue = "" if event.order is None else event.order.venue
        if event.fill is not None:
            venue = event.fill.venue
        words = (event.account, venue, event.event_type.value)
        exchange = self._exchanges[config.orders if event.fill is None else config.executions]
        await exchange.publish(
            message,
            ".".join(word.replace(".", "-") or "-" for word in words),
            mandatory=config.mandatory,
        )

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
