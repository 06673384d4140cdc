"""The gateway dies at every point that has a name, one after the other, over the same record.

`test_kills` counts the orders at the first three points. Here each point is hit on purpose, those of a start
and of the resolver among them, with what the kills before have left behind: orders never sent, orders in
doubt, commands half done. Then the end is held to the claim.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path
from subprocess import CompletedProcess

import psycopg
import pytest
from tradegw_mock.testing import MockProcess

import tradegw
from tests.e2e.ledgers import (
    Folded,
    all_fills,
    all_orders,
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
from tradegw import Gateway, Order, OrdStatus, Origin
from tradegw.gateway.extensions import CrashPoint

BOT = Path(__file__).with_name("restless_bot.py")
COUNTING_BOT = Path(__file__).with_name("counting_bot.py")
BOT_CALLERS = 12
DEATH_S = 240.0

IN_FLOW = [
    CrashPoint.JOURNALED_UNSENT,
    CrashPoint.TRANSLATED_UNJOURNALED,
    CrashPoint.COMMITTED_UNPUBLISHED,
    CrashPoint.CHECKED_UNSENT,
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
    CrashPoint.OPEN_ORDERS_READ,
    CrashPoint.FILLS_READ_UNJOURNALED,
    CrashPoint.FILLS_JOURNALED_UNMARKED,
    CrashPoint.MARKED,
]
"""Reached by a gateway that finds what another has left."""

IN_OUTAGE = [CrashPoint.HELD_UNTOLD, CrashPoint.RELEASED_UNJOURNALED]
"""Reached by orders that wait for their venue."""

AT_END = [CrashPoint.DRAINING]

IN_SINKS = [point for point in CrashPoint if point.startswith(("OUTBOX_", "INBOX_"))]
"""Reached on the way to a broker and from there: the tests of the plugin rabbitmq hit them."""

OVER_STRANGERS = [
    CrashPoint.STRANGER_UNJOURNALED,
    CrashPoint.ADOPTING,
    CrashPoint.ATTACHED_UNJOURNALED,
]
"""Reached over orders that this gateway did not place."""

OVER_COUNTS = [CrashPoint.INFERRED_UNJOURNALED, CrashPoint.INFERRED_UNFINISHED]
"""Reached where a venue counts what is filled and shows no fill."""

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
    hit = {*IN_FLOW, *AT_START, *IN_OUTAGE, *AT_END, *OVER_STRANGERS, *OVER_COUNTS, *IN_SINKS}
    assert hit == set(CrashPoint)


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres18", marks=pytest.mark.long),
        pytest.param("postgres15", marks=pytest.mark.long),
    ]
)
def store(
    request: pytest.FixtureRequest, postgres_store: Callable[[str], str], tmp_path: Path
) -> str:
    """The URL of an empty store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/tradegw.db"
    return postgres_store(request.param)


class Restless(Story):
    """Orders of every kind, while their served gateway dies again and again."""

    async def turn(self, gateway: Gateway, key: str) -> Order:
        if key.endswith("-held"):
            return await hold(gateway, key)
        return await take_a_turn(gateway, key)

    async def kill_in_flow(self, point: CrashPoint, reach: int) -> None:
        self.standing.point = point.value
        await self.kill_once(reach)

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


def die_at_start(config: Path, point: CrashPoint) -> None:
    """Start a gateway that dies by itself; it may not live to say where it listens."""
    done = run(
        [*TRADEGW, "serve", "--json", "--port", "0", "--config", str(config)],
        cwd=config.parent,
        timeout_s=DEATH_S,
        TRADEGW_CRASH_AT=f"{point}:1",
    )
    assert_died_at(point, done.returncode, done.stderr)


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
                await asyncio.to_thread(die_at_start, story.config, point)
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


async def run_bot(bot: Path, config: Path, *more: str, **variables: str) -> CompletedProcess[str]:
    variables["PYTHONPATH"] = ":".join(path for path in [str(REPOSITORY), *sys.path] if path)
    words = [sys.executable, str(bot), str(config), *more]
    return await asyncio.to_thread(run, words, cwd=config.parent, timeout_s=DEATH_S, **variables)


async def kill_bot(
    exchange: MockProcess, directory: Path, points: Sequence[CrashPoint], rounds: int, tell: Tell
) -> None:
    config = write_config(directory, {"mock": exchange.url}, {"paper": {"venue": "mock"}})
    hits: Counter[str] = Counter()

    orders = 0
    for number in range(rounds):
        for point in points:
            # What an earlier run placed is answered from the record, so each run needs more.
            orders += 4
            many = (
                8 + number if point in IN_FLOW and point is not CrashPoint.JOURNALED_UNSENT else 1
            )
            more = ["leave"] if point is CrashPoint.DRAINING else []
            words = [str(BOT_CALLERS), str(orders), *more]
            done = await run_bot(BOT, config, *words, TRADEGW_CRASH_AT=f"{point}:{many}")
            assert_died_at(point, done.returncode, done.stderr)
            hits[point.value] += 1
    done = await run_bot(BOT, config, str(BOT_CALLERS), str(orders))
    assert done.returncode == 0, done.stderr
    recorded, ledger = await recorded_orders(config), read(exchange)
    claim = check_claim(recorded, ledger)
    assert json.loads(done.stdout) == {str(o.idempotency_key): str(o.order_id) for o in recorded}
    assert len(recorded) == BOT_CALLERS * orders
    assert told_trades(await recorded_fills(config)) == exchange_trades(ledger)
    verify(config)
    tell(
        f"embedded: {claim.orders} orders, {claim.never_arrived} never there; killed at {dict(hits)}"
    )


@pytest.mark.timeout(900)
async def test_a_gateway_dies_over_orders_of_others(tmp_path: Path, tell: Tell, store: str) -> None:
    """Another gateway trades on the same account. Each of its orders and fills enters the record once."""
    with MockProcess(
        store=tmp_path / "exchange.db", liquidity="none", accounts=["paper", "another"]
    ) as exchange:
        await die_over_strangers(exchange, tmp_path, tell, store)


async def die_over_strangers(
    exchange: MockProcess, directory: Path, tell: Tell, store: str
) -> None:
    for name in ("ours", "theirs"):
        (directory / name).mkdir()
    accounts = {"paper": {"venue": "mock"}, "another": {"venue": "mock"}}
    venues = {"mock": exchange.url}
    config = write_config(directory / "ours", venues, {"paper": accounts["paper"]}, store=store)
    theirs = write_config(directory / "theirs", venues, accounts)
    terms = {"symbol": "ETH/USDT", "ord_type": "limit", "order_qty": "0.01"}
    hits: Counter[str] = Counter()

    @asynccontextmanager
    async def dying(point: CrashPoint, count: int = 1) -> AsyncIterator[Gateway]:
        """Have a gateway that is to die before the block is left."""
        crash_at = f"{point}:{count}"
        with serving(directory / "ours", config=config, crash_at=crash_at) as served:
            async with tradegw.connect(served.grpc) as gateway:
                await until(lambda: is_settled(gateway), SETTLE_S, "the account is ready")
                yield gateway
                code = await served.ended(SETTLE_S)
        assert_died_at(point, code, served.log.read_text("utf-8"))
        hits[point.value] += 1

    async with tradegw.open(theirs) as other:

        async def bid(price: str) -> Order:
            return await other.place_order(account="paper", side="buy", price=price, **terms)

        async def offer(price: str) -> Order:
            less = terms | {"order_qty": "0.006"}
            return await other.place_order(account="another", side="sell", price=price, **less)

        async def die(point: CrashPoint) -> None:
            await asyncio.to_thread(die_at_start, config, point)
            hits[point.value] += 1

        rests = [await bid("1000") for _ in range(3)]
        for point in (CrashPoint.OPEN_ORDERS_READ, CrashPoint.STRANGER_UNJOURNALED):
            await die(point)
            assert await recorded_orders(config) == []

        adopt = {"by": "ops", "why": "the disk is gone", "idempotency_key": "a"}
        async with dying(CrashPoint.ADOPTING, 2) as gateway:
            adopting = asyncio.create_task(gateway.adopt("paper", **adopt))
        adopting.cancel()
        await asyncio.gather(adopting, return_exceptions=True)
        origins = Counter(order.origin for order in await recorded_orders(config))
        assert origins == {Origin.GATEWAY: 1, Origin.EXTERNAL: 2}

        async with dying(CrashPoint.ATTACHED_UNJOURNALED):
            # Filled as it comes, before anyone here could list it; the rest of it stays open.
            await offer("1001")
            partly = await bid("1001")
        await other.cancel_order(partly.order_id)
        await until(lambda: is_settled(other), SETTLE_S, "the other gateway knows all")

        # What was traded while nobody was here is told by the fills since the watermark alone.
        await offer("1002")
        whole = await bid("1002")
        assert whole.ord_status is OrdStatus.PARTIALLY_FILLED
        await other.cancel_order(whole.order_id)
        strangers, mark_ns = read_so_far(store)
        await die(CrashPoint.FILLS_READ_UNJOURNALED)
        assert read_so_far(store) == (strangers, mark_ns)
        await die(CrashPoint.FILLS_JOURNALED_UNMARKED)
        assert read_so_far(store) == (strangers + 1, mark_ns)
        await die(CrashPoint.MARKED)
        assert read_so_far(store)[0] == strangers + 1
        assert read_so_far(store)[1] > mark_ns

    with serving(directory / "ours", config=config) as served:
        async with tradegw.connect(served.grpc) as gateway:
            await until(lambda: is_settled(gateway), SETTLE_S, "the account is ready")
            adopted = await gateway.adopt("paper", **adopt)
            assert {o.venue_order_id for o in adopted} == {o.venue_order_id for o in rests}
            assert all(order.origin is Origin.GATEWAY for order in adopted)

            async def told() -> Order:
                orders = await all_orders(gateway)
                return next(o for o in orders if o.venue_order_id == partly.venue_order_id)

            async def is_closed() -> bool:
                return not (await told()).is_open

            await until(is_closed, SETTLE_S, "the order of others is closed")
            order = await told()
            assert (order.origin, order.cum_qty) == (Origin.EXTERNAL, Decimal("0.006"))
            assert len(await all_orders(gateway)) == len(rests) + 1
            assert [fill.last_px for fill in await all_fills(gateway)] == [1001]
            # Whose the other one was nobody here ever knew; the stream has it all the same.
            folded = Folded()
            await folded.read(gateway, to_head=True)
            assert told_trades(folded.fills) == exchange_trades(read(exchange))
    verify(config)
    tell(f"over orders of others: killed at {dict(hits)}")


def read_so_far(store: str) -> tuple[int, int]:
    """Return how many fills came before their orders were known, and the watermark of the one symbol."""
    statement = (
        "SELECT (SELECT count(*) FROM unmatched_fill), (SELECT read_until_ns FROM watermark)"
    )
    if store.startswith("sqlite"):
        with closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as db:
            ((fills, read_until_ns),) = db.execute(statement)
    else:
        with psycopg.connect(store) as postgres:
            ((fills, read_until_ns),) = postgres.execute(statement)
    return fills, read_until_ns


@pytest.mark.timeout(900)
async def test_a_bot_dies_over_a_fill_that_its_venue_only_counts(
    exchange: MockProcess, tmp_path: Path, tell: Tell, store: str
) -> None:
    config = write_config(
        tmp_path,
        {"mock": exchange.url},
        {"paper": {"venue": "mock"}},
        plugin="counting",
        store=store,
    )
    hits: Counter[str] = Counter()
    for point in OVER_COUNTS:
        done = await run_bot(COUNTING_BOT, config, TRADEGW_CRASH_AT=f"{point}:1")
        assert_died_at(point, done.returncode, done.stderr)
        hits[point.value] += 1
    done = await run_bot(COUNTING_BOT, config)
    assert done.returncode == 0, done.stderr
    fills = json.loads(done.stdout)
    assert all(inferred for _, _, inferred in fills)
    (order,) = await recorded_orders(config)
    at_exchange = sum((fill.qty for fill in read(exchange).fills), Decimal(0))
    assert sum(Decimal(qty) for _, qty, _ in fills) == order.cum_qty == at_exchange > 0
    verify(config)
    tell(f"over fills that are counted alone: killed at {dict(hits)}")


@pytest.mark.timeout(900)
async def test_a_served_gateway_dies_at_every_point(
    exchange: MockProcess, tmp_path: Path, tell: Tell
) -> None:
    await kill_served(exchange, tmp_path, ALL, 1, tell)


@pytest.mark.timeout(900)
async def test_a_gateway_on_postgres_dies_at_some_points(
    exchange: MockProcess,
    tmp_path: Path,
    tell: Tell,
    postgres_store: Callable[[str], str],
) -> None:
    await kill_served(exchange, tmp_path, SOME, 1, tell, postgres_store("postgres18"))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("server", ["postgres18", "postgres15"])
async def test_a_gateway_on_postgres_dies_at_every_point(
    exchange: MockProcess,
    tmp_path: Path,
    tell: Tell,
    postgres_store: Callable[[str], str],
    server: str,
) -> None:
    points = [*ALL, *IN_OUTAGE]
    await kill_served(exchange, tmp_path, points, 1, tell, postgres_store(server))


@pytest.mark.timeout(900)
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
