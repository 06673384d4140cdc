"""A gateway dies on the way to the broker and from there: everything arrives, once in effect."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from tradegw_mock.testing import MockProcess

import tradegw
from tests import postgres_servers
from tests.e2e.ledgers import all_orders, check_claim, exchange_trades, recorded_orders, told_trades
from tests.e2e.processes import (
    TRADEGW,
    Served,
    readiness,
    run,
    serving,
    until,
    verify,
    write_config,
)
from tests.rabbitmq import DELAYS, Broker, Reader, place
from tradegw.engine.crash import CrashPoint
from tradegw.transports.grpc.convert import read_fill

PUBLISHER = [
    CrashPoint.OUTBOX_UNPUBLISHED,
    CrashPoint.OUTBOX_UNCONFIRMED,
    CrashPoint.OUTBOX_UNMARKED,
]
CONSUMER = [
    CrashPoint.INBOX_UNCOMMITTED,
    CrashPoint.INBOX_UNMARKED,
    CrashPoint.INBOX_UNACKNOWLEDGED,
]
AT_ONCE = 4
"""Commands for each death, each sent twice."""
DEATH_S = 100
PATIENCE = DELAYS[-1:] * 500
"""A command that comes while the account is not ready yet is tried again until it is."""

Tell = Callable[[str], None]


def write_served(directory: Path, exchange: MockProcess, broker: Broker, store: str | None) -> Path:
    file = write_config(
        directory, {"mock": exchange.url}, {"paper": {"venue": "mock"}}, store=store
    )
    with file.open("a", encoding="utf-8") as more:
        more.write(
            f"""
[sinks.rabbit]
plugin = "rabbitmq"
url = "env:TEST_AMQP"
prefix = "{broker.prefix}"
commands = true
retry_delays_s = {PATIENCE}
"""
        )
    return file


class Story:
    """Commands go in and events come out, while the served gateway between them dies again and again."""

    def __init__(self, broker: Broker, exchange: MockProcess, config: Path) -> None:
        self.broker = broker
        self.exchange = exchange
        self.config = config
        self.names: list[str] = []
        self.hits: Counter[str] = Counter()
        self.reader = Reader()

    async def kill_at(self, point: CrashPoint, reached: int) -> None:
        """Send commands, and serve until the gateway dies as the point is reached for the n-th time."""
        for _ in range(AT_ONCE):
            name = f"c{len(self.names)}"
            self.names.append(name)
            for _ in range(2):
                await self.broker.command(place(name, qty="0.001"), message_id=name)
        # It may die before it says that it serves: what the last one left undone comes first.
        words = [*TRADEGW, "serve", "--json", "--port", "0", "--config", str(self.config)]
        done = await asyncio.to_thread(
            run,
            words,
            cwd=self.config.parent,
            timeout_s=DEATH_S,
            TRADEGW_CRASH_AT=f"{point}:{reached}",
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert f"crash point {point} reached" in done.stderr
        self.hits[point.value] += 1

    async def settle(self) -> None:
        """Let one live, and hold what came of it all to record, exchange and messages."""
        with serving(self.config.parent, config=self.config) as served:
            async with tradegw.connect(served.grpc) as gateway:
                await until(lambda: self._is_settled(gateway, served), 100, "everything arrives")
                orders = await all_orders(gateway)
            served.stop()
        assert sorted(str(o.client_order_id) for o in orders) == sorted(self.names)
        with self.exchange.ledger() as client:
            ledger = client.read("paper")
        claim = check_claim(await recorded_orders(self.config), ledger)
        # An intent that was stored and never sent is an answer as well: it stays rejected.
        assert claim.orders == claim.at_exchange + claim.never_arrived == len(self.names)
        assert claim.fills > 0
        events = self.reader.events
        self.reader.check(max(e.seq for e in events))
        # Known by its command in every event that it caused, whoever finished it.
        told = {e.order_id: e.request_id for e in events if e.request_id}
        assert set(told.values()) == set(self.names)
        fills = [read_fill(e.fill.fill) for e in events if e.HasField("fill")]
        assert told_trades(fills) == exchange_trades(ledger)
        held = sum((fill.qty for fill in ledger.fills), Decimal(0))
        assert dict(self.reader.positions.held) == {("paper", "BTC/USDT"): held}
        verify(self.config)
        assert (await self.broker.dead_letters()).declaration_result.message_count == 0

    async def _is_settled(self, gateway: tradegw.Gateway, served: Served) -> bool:
        orders = await all_orders(gateway)
        if len(orders) < len(self.names) or any(order.is_open for order in orders):
            return False
        _, told = await asyncio.to_thread(readiness, served.http)
        (outbox,) = told["sinks"]
        return not outbox["lag_events"] and self.reader.has_all(max(o.seq for o in orders))


@contextmanager
def store_of(name: str) -> Iterator[str | None]:
    if name == "sqlite":
        yield None
        return
    with postgres_servers.serve(name) as server, server.store() as url:
        yield url


async def kill(
    broker: Broker, tmp_path: Path, store: str, points: Sequence[CrashPoint], rounds: int
) -> Story:
    queue = await broker.queue("orders.events.v1", "executions.events.v1")
    with (
        MockProcess(store=tmp_path / "exchange.db", accounts=["paper"]) as exchange,
        store_of(store) as url,
    ):
        story = Story(broker, exchange, write_served(tmp_path, exchange, broker, url))
        reading = asyncio.create_task(story.reader.read(queue))
        try:
            for number in range(rounds):
                for point in points:
                    await story.kill_at(point, 1 + number % 3)
            await story.settle()
        finally:
            reading.cancel()
            await asyncio.wait([reading])
    assert story.hits == {point.value: rounds for point in points}
    return story


def report(story: Story, store: str, tell: Tell) -> None:
    tell(
        f"to RabbitMQ and from there, on {store}: killed at {dict(story.hits)}; {len(story.names)} commands,"
        f" each sent twice, {len(story.reader.events)} events, {story.reader.repeated} repeated"
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("store", "points"),
    [
        pytest.param("sqlite", [*PUBLISHER, *CONSUMER], id="sqlite"),
        pytest.param(
            "postgres15", [PUBLISHER[-1], CONSUMER[1]], id="postgres", marks=pytest.mark.long
        ),
    ],
)
async def test_a_gateway_dies_between_store_and_broker(
    broker: Broker, tmp_path: Path, tell: Tell, store: str, points: Sequence[CrashPoint]
) -> None:
    report(await kill(broker, tmp_path, store, points, 1), store, tell)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("store", ["sqlite", "postgres18", "postgres15"])
async def test_a_gateway_dies_ten_times_at_every_point_between_store_and_broker(
    broker: Broker, tmp_path: Path, tell: Tell, store: str
) -> None:
    report(await kill(broker, tmp_path, store, [*PUBLISHER, *CONSUMER], 10), store, tell)
