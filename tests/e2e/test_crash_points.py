"""The gateway dies at every point that has a name, one after the other, over the same record.

`test_kills` counts the orders at the first three points. Here each point is hit on purpose, those of a start
and of the resolver among them, with what the kills before have left behind: orders never sent, orders in
doubt, commands half done. Then the end is held to the claim.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tradegw_mock.testing import MockProcess

import tradegw
from tests.e2e.ledgers import (
    check_claim,
    exchange_trades,
    recorded_fills,
    recorded_orders,
    told_trades,
)
from tests.e2e.orders import is_settled, take_a_turn
from tests.e2e.processes import (
    REPOSITORY,
    TRADEGW,
    run,
    serving,
    until,
    verify,
    write_config,
)
from tests.e2e.test_kills import SETTLE_S, Story, Tell, read
from tradegw import Gateway, Order
from tradegw.gateway.extensions import CrashPoint

BOT = Path(__file__).with_name("restless_bot.py")
BOT_CALLERS = 12
DEATH_S = 120.0

IN_FLOW = [
    CrashPoint.JOURNALED_UNSENT,
    CrashPoint.TRANSLATED_UNJOURNALED,
    CrashPoint.COMMITTED_UNPUBLISHED,
    CrashPoint.SENT_UNANSWERED,
    CrashPoint.ANSWERED_UNJOURNALED,
    CrashPoint.REFUSED_UNJOURNALED,
    CrashPoint.APPLIED_UNTOLD,
    CrashPoint.COMMAND_JOURNALED_UNSENT,
    CrashPoint.REPORTED_UNJOURNALED,
]
"""Reached while callers trade."""

AT_START = [
    CrashPoint.LOADED_UNDOUBTED,
    CrashPoint.DOUBTED_UNJOURNALED,
    CrashPoint.STREAM_READY_UNRECONCILED,
    CrashPoint.RESOLVER_ASKING,
    CrashPoint.RESOLVER_ANSWERED_UNJOURNALED,
    CrashPoint.RECONCILED_NOT_READY,
    CrashPoint.ABSENCE_PROVEN_UNJOURNALED,
]
"""Reached by a gateway that finds what another has left."""

IN_OUTAGE = [CrashPoint.HELD_UNTOLD, CrashPoint.RELEASED_UNJOURNALED]
"""Reached by orders that wait for their venue."""

AT_END = [CrashPoint.DRAINING]

IN_SINKS = [point for point in CrashPoint if point.startswith(("OUTBOX_", "INBOX_"))]
"""Reached on the way to a broker and from there: the tests of the plugin rabbitmq hit them."""

ALL = [
    *IN_FLOW,
    # However slowly it went so far: orders of which nobody knows, for those who find them.
    CrashPoint.JOURNALED_UNSENT,
    *AT_START,
    *AT_END,
]

SOME = [
    CrashPoint.COMMITTED_UNPUBLISHED,
    CrashPoint.COMMAND_JOURNALED_UNSENT,
    CrashPoint.APPLIED_UNTOLD,
    CrashPoint.JOURNALED_UNSENT,
    CrashPoint.ABSENCE_PROVEN_UNJOURNALED,
    CrashPoint.DRAINING,
]


def test_every_point_is_hit_here() -> None:
    assert {*IN_FLOW, *AT_START, *IN_OUTAGE, *AT_END, *IN_SINKS} == set(CrashPoint)


class Restless(Story):
    """Orders of every kind, while their served gateway dies again and again."""

    async def turn(self, gateway: Gateway, key: str) -> Order:
        if key.endswith("-held"):
            return await hold(gateway, key)
        return await take_a_turn(gateway, key)

    async def kill_in_flow(self, point: CrashPoint, reach: int) -> None:
        self.standing.point = point.value
        await self.kill_once(reach)

    def kill_at_start(self, point: CrashPoint) -> None:
        """Start a gateway that dies by itself; it may not live to say where it listens."""
        done = run(
            [*TRADEGW, "serve", "--json", "--port", "0", "--config", str(self.config)],
            cwd=self.config.parent,
            timeout_s=DEATH_S,
            TRADEGW_CRASH_AT=f"{point}:1",
        )
        assert_died_at(point, done.returncode, done.stderr)

    async def kill_in_outage(self, point: CrashPoint) -> None:
        """Take the exchange away, have orders wait for it, bring it back: the gateway dies on the way."""
        key = f"k{self.standing.kills}-held"
        self.keys.append(key)
        with serving(self.config.parent, config=self.config, crash_at=f"{point}:1") as served:
            async with tradegw.connect(served.grpc) as gateway:
                await until(lambda: is_settled(gateway), SETTLE_S, "the venue is known")
                self.exchange.kill()
                try:
                    held = asyncio.create_task(self.turn(gateway, key))
                    dying = asyncio.create_task(served.ended(SETTLE_S))
                    await asyncio.wait({held, dying}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    self.exchange.start()
                try:
                    code = await dying
                finally:
                    held.cancel()
                    await asyncio.gather(held, return_exceptions=True)
        assert_died_at(point, code, served.log.read_text("utf-8"))
        self.standing.kills += 1

    async def kill_at_end(self, point: CrashPoint) -> None:
        """Have callers place orders, ask the gateway to end, and see it die on the way out."""
        with serving(self.config.parent, config=self.config, crash_at=f"{point}:1") as served:
            async with tradegw.connect(served.grpc) as gateway:
                tasks = [asyncio.create_task(self._call(gateway, i)) for i in range(16)]
                before = len(self.keys)
                await until(lambda: self._more(before + 64), SETTLE_S, "callers trade", every_s=0)
                served.tell(signal.SIGTERM)
                try:
                    code = await served.ended(SETTLE_S)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
        assert_died_at(point, code, served.log.read_text("utf-8"))
        self.standing.kills += 1

    async def _more(self, count: int) -> bool:
        return len(self.keys) >= count


async def hold(gateway: Gateway, key: str) -> Order:
    """Place an order that waits for its venue if it must."""
    return await gateway.place_order(
        account="paper",
        symbol="ETH/USDT",
        side="buy",
        ord_type="limit",
        order_qty="0.01",
        price="1000",
        idempotency_key=key,
        queue_if_unavailable_s=300,
    )


def assert_died_at(point: CrashPoint, code: int, text: str) -> None:
    assert code == -signal.SIGKILL, text
    assert f"crash point {point} reached" in text


async def kill_served(
    exchange: MockProcess,
    directory: Path,
    points: Sequence[CrashPoint],
    rounds: int,
    tell: Tell,
    store: str | None = None,
) -> None:
    story = Restless(exchange, directory, points[0].value, store)
    hits: Counter[str] = Counter()
    for number in range(rounds):
        for point in points:
            if point in IN_FLOW:
                # An intent has most company when the first of its commit is the one that dies.
                many = 1 if point is CrashPoint.JOURNALED_UNSENT else 24
                await story.kill_in_flow(point, many + 3 * number)
            elif point in AT_START:
                await asyncio.to_thread(story.kill_at_start, point)
            elif point in IN_OUTAGE:
                await story.kill_in_outage(point)
            else:
                await story.kill_at_end(point)
            hits[point.value] += 1
    claim, _ = await story.settle()
    tell(
        f"served: {claim.orders} orders, {claim.never_arrived} never there; killed at {dict(hits)}"
    )
    assert claim.orders > 24


async def kill_bot(
    exchange: MockProcess, directory: Path, points: Sequence[CrashPoint], rounds: int, tell: Tell
) -> None:
    config = write_config(directory, {"mock": exchange.url}, {"paper": {"venue": "mock"}})
    hits: Counter[str] = Counter()

    async def run_bot(orders: int, *more: str, **variables: str) -> tuple[int, str, str]:
        words = [sys.executable, str(BOT), str(config), str(BOT_CALLERS), str(orders), *more]
        paths = [str(REPOSITORY), *sys.path]
        variables["PYTHONPATH"] = ":".join(path for path in paths if path)
        done = await asyncio.to_thread(run, words, cwd=directory, timeout_s=DEATH_S, **variables)
        return done.returncode, done.stdout, done.stderr

    orders = 0
    for number in range(rounds):
        for point in points:
            # What an earlier run placed is answered from the record, so each run needs more.
            orders += 4
            many = (
                8 + number if point in IN_FLOW and point is not CrashPoint.JOURNALED_UNSENT else 1
            )
            more = ["leave"] if point is CrashPoint.DRAINING else []
            code, _, text = await run_bot(orders, *more, TRADEGW_CRASH_AT=f"{point}:{many}")
            assert_died_at(point, code, text)
            hits[point.value] += 1
    code, answers, text = await run_bot(orders)
    assert code == 0, text
    recorded, ledger = await recorded_orders(config), read(exchange)
    claim = check_claim(recorded, ledger)
    assert json.loads(answers) == {str(o.idempotency_key): str(o.order_id) for o in recorded}
    assert len(recorded) == BOT_CALLERS * orders
    assert told_trades(await recorded_fills(config)) == exchange_trades(ledger)
    verify(config)
    tell(
        f"embedded: {claim.orders} orders, {claim.never_arrived} never there; killed at {dict(hits)}"
    )


@pytest.mark.timeout(400)
async def test_a_served_gateway_dies_at_every_point(
    exchange: MockProcess, tmp_path: Path, tell: Tell
) -> None:
    await kill_served(exchange, tmp_path, ALL, 1, tell)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "server", ["postgres18", pytest.param("postgres15", marks=pytest.mark.long)]
)
async def test_a_gateway_on_postgres_dies_at_every_point(
    exchange: MockProcess,
    tmp_path: Path,
    tell: Tell,
    postgres_store: Callable[[str], str],
    server: str,
) -> None:
    await kill_served(exchange, tmp_path, [*ALL, *IN_OUTAGE], 1, tell, postgres_store(server))


@pytest.mark.timeout(400)
async def test_a_bot_dies_at_some_points(exchange: MockProcess, tmp_path: Path, tell: Tell) -> None:
    await kill_bot(exchange, tmp_path, SOME, 1, tell)


@pytest.mark.long
@pytest.mark.timeout(3000)
async def test_a_served_gateway_dies_ten_times_at_every_point(
    exchange: MockProcess, tmp_path: Path, tell: Tell
) -> None:
    await kill_served(exchange, tmp_path, ALL, 10, tell)


@pytest.mark.long
@pytest.mark.timeout(3000)
async def test_a_bot_dies_ten_times_at_every_point(
    exchange: MockProcess, tmp_path: Path, tell: Tell
) -> None:
    await kill_bot(exchange, tmp_path, ALL, 10, tell)
