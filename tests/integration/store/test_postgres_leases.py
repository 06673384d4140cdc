"""Leases in Postgres: who holds an account, and that nobody writes it under an old token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.integration.store.conftest import Desk
from tests.postgres_servers import NAMES
from tradegw.errors import LeaseLost, StoreInUse
from tradegw.model import Balance
from tradegw.ports import LeaseHolder, LeaseRow
from tradegw.store import postgres_leases, postgres_lock
from tradegw.store.postgres import PostgresStore, open_postgres
from tradegw.store.postgres_leases import PostgresLeases

ONE = LeaseHolder(holder="one", host="here", pid=1, process_start=1, address="127.0.0.1:1")
TWO = LeaseHolder(holder="two", host="there", pid=2, process_start=2, address="127.0.0.1:2")
TTL_S = 60.0


@pytest.fixture(params=NAMES)
def url(request: pytest.FixtureRequest, postgres_store: Callable[[str], str]) -> str:
    """An empty store on each server."""
    return postgres_store(request.param)


@pytest.fixture
async def leases(url: str) -> AsyncIterator[PostgresLeases]:
    made = PostgresLeases(url)
    yield made
    await made.close()


@pytest.fixture
async def stores(url: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    """Two gateways' stores, on one database."""
    first, second = [await open_postgres(url, is_shared=True) for _ in range(2)]
    yield first, second
    await first.close()
    await second.close()


def is_free(row: LeaseRow) -> bool:
    return row.is_expired or not row.by.holder


async def hold(desk: Desk, store: PostgresStore, leases: PostgresLeases, by: LeaseHolder) -> int:
    """Take the account's lease, whoever has it, and write under its token."""
    row = await leases.take(desk.account_id, by, ttl_s=TTL_S, may_take=lambda _: True)
    await store.fence(desk.account_id, row.token)
    return row.token


async def test_an_account_has_one_holder(
    stores: tuple[PostgresStore, PostgresStore], leases: PostgresLeases
) -> None:
    account_id = (await Desk.open(stores[0])).account_id
    first = await leases.take(account_id, ONE, ttl_s=TTL_S, may_take=is_free)
    assert (first.by, first.token) == (ONE, 1)
    refused = await leases.take(account_id, TWO, ttl_s=TTL_S, may_take=is_free)
    assert refused == first
    moved = replace(ONE, address="127.0.0.1:3")
    kept = await leases.renew(
        {account_id: 1}, moved, ttl_s=TTL_S, requests_expire=frozenset({account_id})
    )
    assert kept == {account_id}
    refused = await leases.take(account_id, TWO, ttl_s=TTL_S, may_take=is_free)
    assert (refused.by, refused.requests_expire, refused.is_expired) == (moved, True, False)
    await leases.release({account_id: 1})
    second = await leases.take(account_id, TWO, ttl_s=TTL_S, may_take=is_free)
    assert (second.by, second.token) == (TWO, 2)
    # Whoever comes back late neither prolongs nor gives back what is another's.
    assert not await leases.renew({account_id: 1}, ONE, ttl_s=TTL_S, requests_expire=frozenset())
    await leases.release({account_id: 1})
    assert (await leases.take(account_id, ONE, ttl_s=TTL_S, may_take=is_free)).by == TWO


async def test_a_lease_expires_by_the_stores_clock_and_lives_on_while_nobody_took_it(
    stores: tuple[PostgresStore, PostgresStore], leases: PostgresLeases
) -> None:
    account_id = (await Desk.open(stores[0])).account_id
    await leases.take(account_id, ONE, ttl_s=0, may_take=is_free)
    found: list[LeaseRow] = []
    await leases.take(account_id, TWO, ttl_s=TTL_S, may_take=lambda row: bool(found.append(row)))
    assert [row.is_expired for row in found] == [True]
    kept = await leases.renew({account_id: 1}, ONE, ttl_s=TTL_S, requests_expire=frozenset())
    assert kept == {account_id}


async def test_a_lease_that_an_operator_released_is_not_revived_by_its_holder(
    stores: tuple[PostgresStore, PostgresStore], leases: PostgresLeases
) -> None:
    """It was stopped for long, and wakes before anybody has taken the account."""
    account_id = (await Desk.open(stores[0])).account_id
    row = await leases.take(account_id, ONE, ttl_s=0, may_take=is_free)
    assert await leases.release_expired(row)
    kept = await leases.renew(
        {account_id: row.token}, ONE, ttl_s=TTL_S, requests_expire=frozenset()
    )
    assert not kept
    (found,) = await leases.list([account_id])
    assert (found.by.holder, found.is_expired) == ("", True)
    assert (await leases.take(account_id, TWO, ttl_s=TTL_S, may_take=is_free)).by == TWO


async def test_nothing_is_written_under_an_old_token(
    stores: tuple[PostgresStore, PostgresStore], leases: PostgresLeases
) -> None:
    old, new = stores
    desk = await Desk.open(old)
    with pytest.raises(LeaseLost, match="does not hold"):
        await desk.place("c0")
    await hold(desk, old, leases, ONE)
    await desk.place("c1")
    other = Desk(new, desk.record)
    await hold(other, new, leases, TWO)
    with pytest.raises(LeaseLost, match="our token was 1"):
        await desk.place("c2")
    balance = Balance(account=desk.account, asset="BTC", free=Decimal(1), held=Decimal(0))
    for late in (
        lambda: old.put_balances(desk.account_id, [balance]),
        lambda: old.put_watermark(desk.account_id, "BTC/USDT", read_until_ns=1),
        lambda: old.take_client_numbers(desk.account_id, count=1, first=1),
    ):
        with pytest.raises(LeaseLost):
            await late()
    assert (await other.place("c2")).seq == 2
    # Back again, under another token: what the first one remembers of the chain is forgotten.
    await hold(desk, old, leases, ONE)
    assert (await desk.place("c3")).seq == 3
    with pytest.raises(LeaseLost):
        await other.place("c4")
    assert [problem async for problem in new.verify()] == []


async def test_a_lease_is_not_taken_while_its_holder_writes(
    url: str, stores: tuple[PostgresStore, PostgresStore], leases: PostgresLeases
) -> None:
    """A commit under way is over before the next holder reads, and none begins after."""
    old, new = stores
    desk, other = await Desk.open(old), Desk(new, (await Desk.open(new)).record)
    token = await hold(desk, old, leases, ONE)
    async with await psycopg.AsyncConnection.connect(url) as writing:
        await writing.execute(
            "SELECT 1 FROM lease WHERE account_id = %s FOR KEY SHARE", [desk.account_id]
        )
        # A renewal need not wait for it; a new holder must.
        kept = await leases.renew(
            {desk.account_id: token}, ONE, ttl_s=TTL_S, requests_expire=frozenset()
        )
        assert kept
        taking = asyncio.create_task(hold(other, new, leases, TWO))
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as watching:
            while not await _is_waited_for(watching):
                await asyncio.wait([taking], timeout=0.01)
        assert not taking.done()
        await writing.commit()
    assert await taking == token + 1
    with pytest.raises(LeaseLost):
        await desk.place("c1")
    await other.place("c1")


async def _is_waited_for(watching: psycopg.AsyncConnection[Any]) -> bool:
    cursor = await watching.execute(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%' "
        "AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    return await cursor.fetchone() is not None


async def test_many_orders_at_once_share_a_token_and_a_commit(
    stores: tuple[PostgresStore, PostgresStore], leases: PostgresLeases
) -> None:
    desk = await Desk.open(stores[0])
    await hold(desk, stores[0], leases, ONE)
    orders = await asyncio.gather(*(desk.place(f"c{i}") for i in range(50)))
    assert {order.seq for order in orders} == set(range(1, 51))


async def test_a_gateway_that_is_alone_and_those_that_share_exclude_each_other(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_lock, "_WAIT", "200ms")
    alone = await open_postgres(url)
    with pytest.raises(StoreInUse):
        await open_postgres(url, is_shared=True)
    await alone.close()
    sharing = await open_postgres(url, is_shared=True)
    with pytest.raises(StoreInUse, match="has one gateway"):
        await open_postgres(url)
    await sharing.close()
    await (await open_postgres(url)).close()


async def test_leases_are_listed_and_an_expired_one_may_be_given_back_by_somebody_else(
    stores: tuple[PostgresStore, PostgresStore], leases: PostgresLeases
) -> None:
    account_id = (await Desk.open(stores[0])).account_id
    assert await leases.list([account_id]) == []
    held = await leases.take(account_id, ONE, ttl_s=TTL_S, may_take=is_free)
    assert await leases.list([account_id]) == [held]
    assert not await leases.release_expired(held), "its holder lives"
    await leases.renew({account_id: 1}, ONE, ttl_s=0, requests_expire=frozenset())
    (expired,) = await leases.list([account_id])
    assert expired == replace(held, is_expired=True, requests_expire=False)
    await leases.renew({account_id: 1}, ONE, ttl_s=TTL_S, requests_expire=frozenset())
    assert not await leases.release_expired(expired), "prolonged since it was read"
    await leases.renew({account_id: 1}, ONE, ttl_s=0, requests_expire=frozenset())
    assert await leases.release_expired(expired)
    (released,) = await leases.list([account_id])
    assert (released.by.holder, released.is_expired) == ("", True)


async def test_a_holder_that_sleeps_in_mid_transaction_is_in_nobodys_way(
    url: str,
    stores: tuple[PostgresStore, PostgresStore],
    leases: PostgresLeases,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its session is ended, and no other: the server would wait for the rest of its pipeline for ever."""
    monkeypatch.setattr(postgres_leases, "_WAIT_FOR_HOLDER_S", 0.05)
    desk = await Desk.open(stores[0])
    await hold(desk, stores[0], leases, ONE)
    async with (
        await psycopg.AsyncConnection.connect(url) as sleeper,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as bystander,
    ):
        await sleeper.execute(
            "SELECT 1 FROM lease WHERE account_id = %s FOR KEY SHARE", (desk.account_id,)
        )
        row = await leases.take(desk.account_id, TWO, ttl_s=TTL_S, may_take=lambda _: True)
        assert row.by == TWO
        with pytest.raises(psycopg.OperationalError):
            await sleeper.execute("SELECT 1")
        await bystander.execute("SELECT 1")
        await stores[0].ping()
