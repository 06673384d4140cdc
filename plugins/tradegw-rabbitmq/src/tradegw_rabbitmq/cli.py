"""`tradegw rabbitmq ...`: what became of refused commands. What is heavy is imported inside the commands."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from tradegw import ConfigError

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

__all__ = ["make_app"]

QUEUE = "orders.commands.v1"
URL_VARIABLE = "TRADEGW_AMQP_URL"


def make_app() -> App:
    """Make the commands."""
    app = App(name="rabbitmq", help="Look after what went to RabbitMQ.")
    dead = App(name="dead-letters", help="Commands that were refused.")
    dead.command(_list, name="list")
    dead.command(_replay, name="replay")
    app.command(dead)
    return app


def _list(
    *,
    prefix: str = "",
    limit: int = 100,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show refused commands with their reasons. They stay where they are.

    The broker's URL is read from the variable TRADEGW_AMQP_URL.

    Parameters
    ----------
    prefix
        As in the configuration of the sink.
    limit
        At most so many, the oldest first.
    json
        One JSON object for each line.
    """
    asyncio.run(_show(prefix, limit, as_json=json))


def _replay(*message_ids: str, prefix: str = "", all: bool = False) -> None:  # noqa: A002  --all
    """Put refused commands back into the queue of commands, under their own ids.

    One that had its effect already, by another way, has none again. The URL is read from TRADEGW_AMQP_URL.

    Parameters
    ----------
    message_ids
        Which.
    prefix
        As in the configuration of the sink.
    all
        All of them.
    """
    if all == bool(message_ids):
        raise ConfigError("give the ids of messages, or --all")
    count = asyncio.run(_put_back(prefix, None if all else set(message_ids)))
    sys.stdout.write(f"{count} put back\n")


async def _show(prefix: str, limit: int, *, as_json: bool) -> None:
    import msgspec

    async with _channel() as channel, aclosing(_letters(channel, prefix, limit)) as letters:
        # Whatever is not acknowledged goes back to its place when the channel closes.
        async for message in letters:
            facts = {
                "message_id": message.message_id or "",
                "reason": str(message.headers.get("x-tradegw-reason", "")),
                "text": str(message.headers.get("x-tradegw-text", "")),
            }
            line = (
                msgspec.json.encode(facts).decode()
                if as_json
                else "  ".join(map(_clean, facts.values()))
            )
            sys.stdout.write(f"{line}\n")


def _clean(text: str) -> str:
    """Return text of a stranger's, fit for a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


async def _put_back(prefix: str, message_ids: set[str] | None) -> int:
    import aio_pika

    count = 0
    async with _channel() as channel, aclosing(_letters(channel, prefix, None)) as letters:
        async for message in letters:
            if message_ids is not None and message.message_id not in message_ids:
                continue
            again = aio_pika.Message(
                message.body,
                content_type=message.content_type,
                message_id=message.message_id,
                correlation_id=message.correlation_id,
                headers={k: v for k, v in message.headers.items() if not k.startswith("x-")},
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            # Confirmed before it is taken away: dying in between leaves it twice, with one effect.
            await channel.default_exchange.publish(again, f"{prefix}{QUEUE}")
            await message.ack()
            count += 1
    return count


async def _letters(
    channel: AbstractChannel, prefix: str, limit: int | None
) -> AsyncGenerator[AbstractIncomingMessage]:
    import aio_pika

    name = f"{prefix}{QUEUE}.dead"
    try:
        queue = await channel.declare_queue(name, passive=True)
    except aio_pika.exceptions.ChannelNotFoundEntity as e:
        raise ConfigError(
            f"the broker has no queue {name!r}: no gateway took commands there; is the prefix right?"
        ) from e
    # No more than are there now: what is put back may be refused again, and comes to the end of the queue.
    there = queue.declaration_result.message_count or 0
    for _ in range(there if limit is None else min(there, limit)):
        message = await queue.get(fail=False)
        if message is None:
            return
        yield message


@asynccontextmanager
async def _channel() -> AsyncGenerator[AbstractChannel]:
    import aio_pika

    url = os.environ.get(URL_VARIABLE)
    if not url:
        raise ConfigError(f"set {URL_VARIABLE} to the broker's URL")
    try:
        connection = await aio_pika.connect(url, timeout=10)
    except (OSError, aio_pika.exceptions.AMQPError) as e:
        # Not its text: it may hold the URL, and so the password.
        raise ConfigError(f"the broker of {URL_VARIABLE} cannot be used: {type(e).__name__}") from e
    async with connection:
        yield await connection.channel(publisher_confirms=True, on_return_raises=True)
