"""How often the table of leases is read, for however many who ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import pytest

from tradegw.errors import ConfigError, StoreUnavailable
from tradegw.gateway import lease_table
from tradegw.gateway.lease_table import LeaseTable
from tradegw.model import AccountId
from tradegw.ports import LeaseHolder, LeaseRow

ACCOUNT = AccountId(uuid4())
S = 1_000_000_000


class Leases:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.error: Exception | None = None

    async def list(self, account_ids: Sequence[AccountId]) -> Sequence[LeaseRow]:
        self.asked += 1
        token = self.asked
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        by = LeaseHolder(holder="one", host="here", pid=1, process_start=1)
        return [
            LeaseRow(
                account_id=account_id, token=token, by=by, requests_expire=True, is_expired=False
            )
            for account_id in account_ids
        ]


class Bench:
    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.now_ns = 100 * S
        self.leases = Leases()
        self.group = group
        self.table = LeaseTable(self.leases, lambda: self.now_ns, group)  # type: ignore[arg-type]
        self.table.account_ids = [ACCOUNT]

    async def asking(self, within_s: float) -> asyncio.Task[None]:
        """Return a reader who has asked."""
        task = asyncio.create_task(self.table.read(within_s))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    @property
    def token(self) -> int:
        return self.table.rows[ACCOUNT].token


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with asyncio.TaskGroup() as group:
        bench = Bench(group)
        yield bench
        await bench.table.close()


async def test_those_who_ask_at_once_share_a_read_and_one_that_is_fresh_is_used_again(
    bench: Bench,
) -> None:
    await asyncio.gather(*(bench.table.read(1.0) for _ in range(100)))
    assert (bench.leases.asked, bench.token) == (1, 1)
    bench.now_ns += S - 1
    await bench.table.read(1.0)
    assert bench.leases.asked == 1
    bench.now_ns += 1
    await bench.table.read(1.0)
    assert bench.leases.asked == 2
    await bench.table.read(0.0)
    assert bench.leases.asked == 3, "as it stands now"


async def test_a_read_that_began_too_long_ago_is_not_shared(bench: Bench) -> None:
    bench.leases.may_answer.clear()
    first = await bench.asking(1.0)
    bench.now_ns += 2 * S
    late = [await bench.asking(1.0) for _ in range(10)]
    assert bench.leases.asked == 1, "one at a time"
    bench.leases.may_answer.set()
    await asyncio.gather(first, *late)
    assert (bench.leases.asked, bench.token) == (2, 2)


async def test_what_has_changed_is_read_anew(bench: Bench) -> None:
    await bench.table.read(1.0)
    bench.table.distrust()
    bench.leases.may_answer.clear()
    reader = await bench.asking(1.0)
    assert bench.leases.asked == 2
    bench.table.distrust()
    bench.leases.may_answer.set()
    await reader
    assert (bench.leases.asked, bench.token) == (3, 3), "also what was being read"


async def test_a_reader_who_goes_away_takes_the_answer_from_nobody(bench: Bench) -> None:
    bench.leases.may_answer.clear()
    first, other = await bench.asking(1.0), await bench.asking(1.0)
    first.cancel()
    bench.leases.may_answer.set()
    await other
    assert first.cancelled()
    assert bench.leases.asked == 1


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ConfigError("away"), KeyError("away")])
async def test_a_failure_is_told_to_those_who_waited_and_to_nobody_later(
    bench: Bench, error: Exception
) -> None:
    bench.leases.error = error
    told = await asyncio.gather(*(bench.table.read(1.0) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in told] == [StoreUnavailable] * 3
    assert "away" in str(told[0])
    assert bench.leases.asked == 1
    bench.leases.error = None
    await bench.table.read(1.0)
    assert bench.leases.asked == 2


async def test_a_read_that_nobody_answers_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_table, "READ_WITHIN_S", 0.01)
    bench.leases.may_answer.clear()
    with pytest.raises(StoreUnavailable, match="in time"):
        await bench.table.read(1.0)


async def test_a_shut_down_ends_a_read(bench: Bench) -> None:
    bench.leases.may_answer.clear()
    reader = await bench.asking(1.0)
    await bench.table.close()
    with pytest.raises(StoreUnavailable, match="shuts down"):
        await reader
