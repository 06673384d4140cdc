"""Several gateways on one store in Postgres: one dies, one sleeps, and no order is lost or doubled.

The exchange is a process of its own, and its books are the witness.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from tradegw_mock.testing import MockProcess

from tests.e2e.processes import tradegw, until
from tests.e2e.replicas import PATIENCE_S, TTL_S, Fleet, Replica, fleet, previous_source

Tell = Callable[[str], None]

ACCOUNTS = ("a", "b")
BEFORE_STOP = 10
"""Orders of a gateway before it stops itself."""


@pytest.fixture
def shared_exchange(tmp_path: Path) -> Iterator[MockProcess]:
    with MockProcess(store=tmp_path / "exchange.db", accounts=list(ACCOUNTS)) as process:
        yield process


@pytest.fixture
async def replicas(
    shared_exchange: MockProcess, tmp_path: Path, postgres_store: Callable[[str], str]
) -> AsyncIterator[Fleet]:
    async with fleet(shared_exchange, tmp_path, postgres_store("postgres18"), ACCOUNTS) as made:
        yield made


async def holding(replica: Replica) -> None:
    """Wait until a gateway serves every account."""

    async def all_of_them() -> bool:
        return await replica.holds() == set(ACCOUNTS)

    await until(all_of_them, PATIENCE_S, f"{replica.name} serves every account")


async def stop_and_wake(fleet: Fleet, holder: Replica, *others: Replica) -> None:
    """Have the holder stop itself while bots trade; it wakes when all that it knew is over."""
    reader = fleet.follow(others[0])
    waiting = await fleet.trade_until(lambda: holder.is_stopped, f"{holder.name} stops itself")
    stopped = time.monotonic()
    holder.is_asked = False
    await fleet.taken_over(stopped)
    await waiting
    # Past the lease, or nobody had taken over. Past `valid_until` as well: what the sleeper had stored and
    # not sent is proven absent only then.
    await fleet.settled(others[0])
    assert time.monotonic() - stopped > TTL_S / 2
    holder.go_on()
    holder.is_asked = True

    async def knows() -> bool:
        return not await holder.holds()

    await until(knows, PATIENCE_S, f"{holder.name} has learnt that it holds nothing")
    await fleet.trade(10)
    await end(reader)


async def kill(fleet: Fleet, holder: Replica, others: Sequence[Replica]) -> None:
    """Kill the holder in the middle of what bots place."""
    reader = fleet.follow(others[0])
    answered = len(fleet.answers) + 5
    waiting = await fleet.trade_until(lambda: len(fleet.answers) >= answered, "bots trade")
    trading = asyncio.create_task(fleet.trade(50))
    killed = time.monotonic()
    await holder.kill()
    await fleet.taken_over(killed)
    await asyncio.gather(waiting, trading)
    await end(reader)


async def end(reader: asyncio.Task[None]) -> None:
    """End a reader that has found no gap; the stream goes on at another gateway."""
    assert not reader.done(), reader
    reader.cancel()
    with suppress(asyncio.CancelledError):
        await reader


@pytest.mark.timeout(600)
async def test_a_holder_sleeps_another_dies_and_nothing_is_lost_or_doubled(
    replicas: Fleet, tell: Tell
) -> None:
    one = await replicas.start("one", stop_at=f"JOURNALED_UNSENT:{BEFORE_STOP}")
    await holding(one)
    two = await replicas.start("two", stop_at="SENT_UNANSWERED:40")
    await stop_and_wake(replicas, one, two)
    await stop_and_wake(replicas, two, one)
    await kill(replicas, one, [two])
    tell(replicas.report(await replicas.check(two)))


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_twenty_of_each_among_three(replicas: Fleet, tell: Tell) -> None:
    """Ten thousand orders, while holders sleep at either side of their sending, and die."""
    stops = Counter[str]()
    kills = 0
    rounds = 20
    standby = await replicas.start("standby")
    await holding(standby)
    while min(stops["JOURNALED_UNSENT"], stops["SENT_UNANSWERED"], kills) < rounds:
        point = ("JOURNALED_UNSENT", "SENT_UNANSWERED")[kills % 2]
        # Not among the orders that are placed while the other one dies.
        sleeper = await replicas.start("sleeper", stop_at=f"{point}:{80 + kills}")
        # Whoever holds the accounts dies, so that the sleeper gets them, as the only one that is there.
        await kill(replicas, standby, [sleeper])
        kills += 1
        await holding(sleeper)
        heirs = [await replicas.start(name) for name in ("heir", "other")]
        await stop_and_wake(replicas, sleeper, *heirs)
        stops[point] += 1
        await replicas.trade(10_000 // (2 * rounds))
        # The sleeper and one heir go; who is left serves everything.
        for gone in (sleeper, heirs[1]):
            await gone.retire()
        standby = heirs[0]
        await holding(standby)
    claim = await replicas.check(standby)
    assert claim.orders >= 10_000
    tell(f"{dict(stops)} stops and {kills} kills among three gateways: {replicas.report(claim)}")


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_replaced_one_by_one_under_load_and_back(
    replicas: Fleet, tmp_path: Path, tell: Tell
) -> None:
    """Two gateways of the previous commit, then the present one in their places; and back."""
    previous = previous_source(tmp_path / "previous")
    running = [await replicas.start(name, source=previous) for name in ("one", "two")]
    for replica in running:
        await replica.ready()
    over = asyncio.Event()

    async def keep_trading() -> None:
        while not over.is_set():
            await replicas.trade(32)

    trading = asyncio.create_task(keep_trading())
    done = await asyncio.to_thread(
        tradegw,
        *("migrate", "up", "--config", str(replicas.config)),
        cwd=tmp_path,
        timeout_s=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    for source in (None, previous):
        for place in range(len(running)):
            successor = await replicas.start(f"{place}", source=source)
            await successor.ready()
            await running[place].retire()
            running[place] = successor
    over.set()
    await trading
    claim = await replicas.check(running[0])
    what = "the previous commit" if previous else "the same commit, for want of a previous one"
    tell(
        f"two gateways of {what} replaced one by one, and back: {claim.orders} orders, "
        f"{claim.at_exchange} at the exchange once, {claim.fills} fills: all agree"
    )
