"""What the tests of the plugin share: a broker, with names of their own there."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest

from tests import postgres_servers
from tests.rabbitmq import DELAYS, URL, Broker, unavailable


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    monkeypatch.setenv("TEST_AMQP", URL)
    try:
        connection = await aio_pika.connect(URL, timeout=5)
    except OSError as e:
        unavailable(e)
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


@pytest.fixture(params=["memory", "postgres"])
def any_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The URL of an empty store."""
    # Beside a store that is no file the mock venue keeps its own in the working directory.
    monkeypatch.chdir(tmp_path)
    if request.param == "memory":
        yield "memory://"
        return
    with postgres_servers.serve("postgres15") as server, server.store() as url:
        yield url


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a line of the report, whether output is captured or not."""

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    return write
