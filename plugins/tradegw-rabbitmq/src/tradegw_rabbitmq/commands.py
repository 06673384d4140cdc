"""Takes commands from a queue: each once in effect, acknowledged when that is stored."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError

from tradegw import InvalidOrder, NotFound, TradegwError, Unavailable
from tradegw.events.v1 import events_pb2
from tradegw.ports import CancelCommand, Command, PlaceCommand, SinkRuntime
from tradegw.wire import read_command
from tradegw_rabbitmq.config import RabbitConfig

__all__ = ["Commands"]

log = logging.getLogger(__name__)

ATTEMPT = "x-tradegw-attempt"
_RECONNECT_MAX_S = 10.0


class Commands:
    """The consumer of one sink."""

    def __init__(self, config: RabbitConfig, runtime: SinkRuntime) -> None:
        self._config = config
        self._runtime = runtime
        self._turns = asyncio.Semaphore(config.concurrency)
        # By order: the last lock of each, and how many hold or want it.
        self._lanes: dict[str, tuple[asyncio.Lock, int]] = {}
        self._default: AbstractExchange | None = None
        self._dead: AbstractExchange | None = None

    async def run(self) -> None:
        """Take commands until cancelled, over a connection that is made anew when it breaks."""
        bound_s = 0.1
        while True:
            try:
                await self._consume()
                bound_s = 0.1
            except Exception as e:  # noqa: BLE001  Whatever it was, the broker has the commands still.
                log.warning("sink %s takes no commands: %r", self._runtime.name, e)
            await asyncio.sleep(random.uniform(bound_s / 20, bound_s))
            bound_s = min(bound_s * 2, _RECONNECT_MAX_S)

    async def _consume(self) -> None:
        connection = await aio_pika.connect(self._config.url.reveal(), timeout=10)
        async with connection, asyncio.TaskGroup() as group:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            await channel.set_qos(prefetch_count=self._config.prefetch)
            closed = asyncio.Event()

            def on_close(*_: object) -> None:
                closed.set()

            channel.close_callbacks.add(on_close)
            queue = await self._declare(channel)

            async def take(message: AbstractIncomingMessage) -> None:
                group.create_task(self._take(message))

            await queue.consume(take)
            await closed.wait()

    async def _declare(self, channel: AbstractChannel) -> aio_pika.abc.AbstractQueue:
        config = self._config
        self._default = channel.default_exchange
        self._dead = await channel.declare_exchange(
            config.dead_exchange, aio_pika.ExchangeType.DIRECT, durable=True
        )
        dead = await channel.declare_queue(config.dead_queue, durable=True)
        await dead.bind(self._dead, config.dead_queue)
        for delay_s in config.retry_delays_s:
            await channel.declare_queue(
                config.retry_queue(delay_s),
                durable=True,
                arguments={
                    "x-message-ttl": round(delay_s * 1000),
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": config.command_queue,
                },
            )
        return await channel.declare_queue(config.command_queue, durable=True)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        try:
            command = _read(message)
            async with self._lane(_lane(command, message)), self._turns:
                await self._runtime.carry_out(
                    command,
                    message_id=message.message_id or "",
                    digest=hashlib.sha256(message.body).hexdigest(),
                    request_id=message.correlation_id or "",
                    trace_id=_trace_id(message),
                )
        except Unavailable as e:
            await self._again(message, e)
        except NotFound as e:
            # It may be of an order whose placing waits for another try.
            await self._again(message, e)
        except TradegwError as e:
            await self._bury(message, e.reason, str(e))
        except Exception as e:  # A defect of ours: the command is kept for whoever mends it.
            log.exception("a command of sink %s failed", self._runtime.name)
            await self._bury(message, "INTERNAL", repr(e))
        await message.ack()

    async def _again(self, message: AbstractIncomingMessage, why: TradegwError) -> None:
        """Put a command into the next queue of those that expire; after the last it is buried."""
        delays = self._config.retry_delays_s
        attempt = _attempt(message)
        if attempt is None or attempt >= len(delays):
            await self._bury(message, why.reason, str(why))
            return
        again = _copy(message, {ATTEMPT: attempt + 1})
        assert self._default is not None
        await self._default.publish(again, self._config.retry_queue(delays[attempt]))

    async def _bury(self, message: AbstractIncomingMessage, reason: str, text: str) -> None:
        log.warning("command %r is refused: %s %s", message.message_id, reason, text[:500])
        dead = _copy(message, {"x-tradegw-reason": reason, "x-tradegw-text": text[:500]})
        assert self._dead is not None
        await self._dead.publish(dead, self._config.dead_queue)

    @asynccontextmanager
    async def _lane(self, name: str) -> AsyncGenerator[None]:
        """Carry out the commands of one order in the order in which they came."""
        lock, users = self._lanes.get(name, (asyncio.Lock(), 0))
        self._lanes[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._lanes[name]
            if users == 1:
                del self._lanes[name]
            else:
                self._lanes[name] = (lock, users - 1)


def _read(message: AbstractIncomingMessage) -> Command:
    told = events_pb2.Command()
    try:
        if message.content_type == "application/json":
            Parse(message.body, told)
        else:
            told.ParseFromString(message.body)
    except (ParseError, DecodeError, UnicodeDecodeError) as e:
        raise InvalidOrder(f"the body is no Command: {e}", reason="INVALID_FIELD") from e
    return read_command(told)


def _attempt(message: AbstractIncomingMessage) -> int | None:
    """Return which try this is, from 0; None where the header says what we never write.

    Anybody can write a header. A number below nothing would be tried without end.
    """
    told = message.headers.get(ATTEMPT, 0)
    return told if type(told) is int and told >= 0 else None


def _lane(command: Command, message: AbstractIncomingMessage) -> str:
    if isinstance(command, PlaceCommand):
        order = command.order
        return f"{order.account}/{order.client_order_id or message.message_id}"
    if isinstance(command, CancelCommand) and command.order_id is None:
        return f"{command.account}/{command.client_order_id}"
    return str(command.order_id)


def _trace_id(message: AbstractIncomingMessage) -> str:
    parts = str(message.headers.get("traceparent", "")).split("-")
    return parts[1] if len(parts) == 4 else ""


def _copy(message: AbstractIncomingMessage, more: dict[str, str | int]) -> aio_pika.Message:
    return aio_pika.Message(
        message.body,
        content_type=message.content_type,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        headers={**message.headers, **more},
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
