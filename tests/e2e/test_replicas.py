"""Several gateways on one store in Postgres: one dies, one sleeps, and no order is lost or doubled.

The exchange is a process of its own, and its books are the witness.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tradegw_mock.testing import MockProcess

from tests.e2e.processes import until
from tests.e2e.replicas import PATIENCE_S, TTL_S, Fleet, Replica, fleet

Tell = Callable[[str], None]

ACCOUNTS = ("a", "b")
BEFORE_STOP = 20
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


async def stop_and_wake(fleet: Fleet, holder: Replica, other: Replica) -> None:
    """Have the holder stop itself while bots trade; it wakes when all that it knew is over."""
    reader = fleet.follow(other)
    waiting = await fleet.trade_until(lambda: holder.is_stopped, f"{holder.name} stops itself")
    stopped = time.monotonic()
    holder.is_asked = False
    await fleet.taken_over([other], stopped)
    await waiting
    # Past the lease, or nobody had taken over. Past `valid_until` as well: what the sleeper had stored and
    # not sent is proven absent only then.
    await fleet.settled(other)
    assert time.monotonic() - stopped > TTL_S / 2
    holder.go_on()
    holder.is_asked = True

    async def knows() -> bool:
        return not await holder.holds()

    await until(knows, PATIENCE_S, f"{holder.name} has learnt that it holds nothing")
    await fleet.trade(20)
    # It has found no gap, and goes on at another gateway.
    assert not reader.done(), reader
    reader.cancel()
    with suppress(asyncio.CancelledError):
        await reader


async def kill(fleet: Fleet, holder: Replica, other: Replica) -> None:
    """Kill the holder while bots trade."""
    waiting = await fleet.trade_until(lambda: True, "nothing")
    killed = time.monotonic()
    await holder.kill()
    await fleet.taken_over([other], killed)
    await waiting
    await fleet.trade(20)


async def test_a_holder_sleeps_another_dies_and_nothing_is_lost_or_doubled(
    replicas: Fleet, tell: Tell
) -> None:
    one = await replicas.start("one", stop_at=f"JOURNALED_UNSENT:{BEFORE_STOP}")
    await holding(one)
    two = await replicas.start("two", stop_at="SENT_UNANSWERED:60")
    await stop_and_wake(replicas, one, two)
    await stop_and_wake(replicas, two, one)
    await kill(replicas, one, two)
    tell(replicas.report(await replicas.check(two)))
