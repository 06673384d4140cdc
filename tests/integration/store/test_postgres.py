"""The life of a store in Postgres: one gateway, cut commits, restarts, roles, its schema moved."""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import psycopg
import pytest

from codegen.postgres import BundledServer, PostgresUnavailable, database, restartable_server
from tests.integration.store.conftest import Desk, StillClock, a_trade, all_events, an_order
from tests.postgres_proxy import Cut, Proxy, proxy_to
from tests.postgres_servers import NAMES, Server, make_store, unavailable
from tradegw._generated.migrations import POSTGRES
from tradegw.errors import (
    ConfigError,
    SchemaMismatch,
    StoreError,
    StoreInUse,
    StoreUnavailable,
    UsageError,
)
from tradegw.model import Halt, OrderId
from tradegw.ports import Stored
from tradegw.store import open_store, postgres, postgres_connections, postgres_lock
from tradegw.store.postgres import PostgresStore, open_postgres
from tradegw.store.postgres_advisory import AdvisoryLock
from tradegw.store.postgres_archive import open_postgres_access
from tradegw.store.postgres_schema import list_applied_postgres, migrate_postgres


@contextmanager
def in_use(match: str | None = None) -> Iterator[None]:
    """Expect to find the store in use, and do not wait long for it."""
    patience, postgres_lock._WAIT = postgres_lock._WAIT, "200ms"
    try:
        with pytest.raises(StoreInUse, match=match):
            yield
    finally:
        postgres_lock._WAIT = patience


@pytest.fixture(params=NAMES)
def url(request: pytest.FixtureRequest, postgres_store: Callable[[str], str]) -> str:
    """An empty store on each server."""
    return postgres_store(request.param)


@pytest.fixture
def one_url(postgres_store: Callable[[str], str]) -> str:
    """An empty store where the version does not matter."""
    return postgres_store(NAMES[0])


@pytest.fixture
def own_database(postgres_server: Callable[[str], Server]) -> Iterator[str]:
    """An empty database, for what cannot be taken back."""
    with postgres_server(NAMES[0]).database() as made:
        yield made


def run(url: str, *statements: str) -> None:
    """Run statements as somebody who may do everything."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def count(url: str, what: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(f"SELECT count(*) FROM {what}".encode()).fetchone()
        assert row is not None
        return int(row[0])


async def no_problems(store: Any) -> None:
    assert [problem async for problem in store.verify()] == []


# --- who may write --------------------------------------------------------------------------------


async def test_a_store_has_one_gateway(url: str) -> None:
    first = await open_postgres(url)
    with in_use(r"another gateway \(tradegw \d+ at .*\) serves"):
        await open_postgres(url)
    reader = await open_postgres(url, read_only=True)
    order = await (await Desk.open(first)).place("c1")
    assert await reader.find_order(order.order_id) == order
    for refused in (reader.subscribe, reader.readmit):
        with pytest.raises(UsageError, match="for reading"):
            refused(lambda _: None)  # type: ignore[arg-type]
    await reader.close()
    await first.close()
    await first.close()
    second = await open_postgres(url)
    assert await second.find_order(order.order_id) == order
    await second.close()


async def test_what_a_dead_gateway_had_under_way_is_over_before_the_next_reads(
    one_url: str,
) -> None:
    """Its watch is gone, and one of its connections still writes; unless it was faster to watch again."""
    first = await open_postgres(one_url)
    _terminate_watch(one_url)
    with in_use(r"(earlier|another) gateway"):
        await open_postgres(one_url)
    await first.close()
    await (await open_postgres(one_url)).close()


def _terminate_watch(url: str) -> None:
    run(
        url,
        """
        SELECT pg_terminate_backend(l.pid, 5000) FROM pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.mode = 'ExclusiveLock'
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
    )


async def test_a_gateway_that_lost_every_connection_goes_on(url: str) -> None:
    store = await open_postgres(url)
    desk = await Desk.open(store)
    order = await desk.place("c1")
    _terminate_all(url)
    for i in range(3):
        await desk.place(f"d{i}")
    filled = await desk.report(order, a_trade(order, "t1"))
    assert filled.seq == 5
    with in_use():
        await open_postgres(url)
    await no_problems(store)
    await store.close()


def _terminate_all(url: str) -> None:
    run(
        url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


async def test_a_gateway_whose_place_was_taken_writes_no_more(
    one_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_TAKE_TIMEOUT_S", 0.5)
    first = await open_postgres(one_url)
    desk = await Desk.open(first)
    await desk.place("c1")
    async with proxy_to(one_url) as proxy:
        # Its connections die, and another gateway is faster than its next write.
        _terminate_all(one_url)
        second = await open_postgres(proxy.url)
        with in_use():
            await desk.place("c2")
        other = await Desk.open(second)
        assert (await other.place("c2")).seq == 2
        await second.close()
    await first.close()


async def test_a_write_by_somebody_else_stops_the_account(one_url: str) -> None:
    """Our numbers are used: what the engine remembers is out of date, whoever wrote."""
    store = await open_postgres(one_url)
    desk = await Desk.open(store)
    await desk.place("c1")
    run(
        one_url,
        "INSERT INTO order_event (account_id, seq, event_type, time_ns, payload, prev_hash, hash) "
        f"VALUES ('{desk.account_id}', 2, 'HISTORY_GAP', 0, '', '', '')",
    )
    with pytest.raises(StoreUnavailable, match="order_event_pkey"):
        await desk.place("c2")
    with pytest.raises(StoreUnavailable, match="read anew"):
        await desk.place("c2")
    store.readmit(desk.account_id)
    assert (await desk.place("c2")).seq == 3
    await store.close()


def test_every_lock_has_a_number_of_its_own() -> None:
    """And keeps it: another release may hold it at the same time."""
    assert {lock.name: f"{lock:x}" for lock in AdvisoryLock} == {
        "GATEWAY": "74706701",
        "WRITERS": "74706702",
        "SCHEMA": "74706703",
        "SHARERS": "74706704",
        "ARCHIVE": "74706705",
    }


@pytest.mark.parametrize("is_shared", [False, True], ids=["alone", "shared"])
async def test_gateways_come_and_go_while_somebody_archives(one_url: str, is_shared: bool) -> None:
    store = await open_postgres(one_url, is_shared=is_shared)
    await store.put_halt(Halt(scope="*", why="x", by="me", since_ns=1))
    async with open_postgres_access(one_url):
        with pytest.raises(StoreInUse, match="archives the store already"):
            async with open_postgres_access(one_url):
                pass
        # Its connections come back, and hold what they must to write.
        _terminate_all_but_archive(one_url)
        await store.delete_halt("*")
        await store.close()
        await (await open_postgres(one_url, is_shared=is_shared)).close()


def _terminate_all_but_archive(url: str) -> None:
    run(
        url,
        f"""
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND pid NOT IN (
            SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {AdvisoryLock.ARCHIVE}
        )
        """,
    )


# --- what cannot be opened ------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["off", "local", "remote_write"])
async def test_a_server_that_would_lose_orders_is_refused(own_database: str, level: str) -> None:
    make_store(own_database)
    name = urlsplit(own_database).path[1:]
    run(own_database, f"ALTER DATABASE {name} SET synchronous_commit = {level}")
    with pytest.raises(ConfigError, match=rf"at {level}") as raised:
        await open_postgres(own_database)
    assert raised.value.reason == "SYNCHRONOUS_COMMIT_OFF"
    # It may be read.
    await (await open_postgres(own_database, read_only=True)).close()


async def test_an_old_server_is_refused(one_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_connections, "_OLDEST_SERVER", 99)
    with pytest.raises(ConfigError, match="expected Postgres 99 or newer") as raised:
        await open_postgres(one_url)
    assert raised.value.reason == "STORE_TOO_OLD"


async def test_a_server_that_is_not_there() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await open_store("postgresql://nobody@127.0.0.1:1/x", clock=StillClock())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cret@[::1/tradegw",
        "postgresql://u:s3cret%zz@localhost/tradegw",
        "postgresql://u:s3cret@localhost/tradegw?bogus=1",
    ],
)
def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    """libpq quotes what it stumbled over, and that may be the password."""
    with pytest.raises(ConfigError, match="libpq cannot read it: ") as raised:
        postgres_connections.conninfo_of(url, read_only=False)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


async def test_a_database_without_a_store(own_database: str) -> None:
    with pytest.raises(SchemaMismatch, match="migrate up"):
        await open_postgres(own_database)
    run(own_database, "CREATE TABLE cats (name text)")
    with pytest.raises(ConfigError, match="cats"):
        await open_postgres(own_database)
    with pytest.raises(ConfigError, match="cats"):
        await migrate_postgres(own_database, time_ns=1)


# --- groups ---------------------------------------------------------------------------------------


async def test_a_cancelled_reader_is_cancelled_whatever_the_pool_makes_of_it(one_url: str) -> None:
    """Before Python 3.12 the pool's `wait_for` may return in spite of it; then a gateway never closed."""
    store = await open_postgres(one_url)
    taking, take = asyncio.Event(), store._pool._take

    async def take_in_spite_of_it() -> Any:
        taking.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return await take()

    store._pool._take = take_in_spite_of_it  # type: ignore[method-assign]
    reading = asyncio.create_task(store.list_halts())
    await taking.wait()
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    store._pool._take = take  # type: ignore[method-assign]
    assert await store.list_halts() == []
    await store.close()


async def test_writes_that_wait_together_share_a_commit(url: str) -> None:
    async with proxy_to(url) as proxy:
        store = await open_postgres(proxy.url)
        heard: list[int] = []
        store.subscribe(lambda events: heard.append(len(events)))
        desk, other = await Desk.open(store), await Desk.open(store, "second")
        before = proxy.commits
        await asyncio.gather(
            *(desk.place(f"c{i}") for i in range(64)), *(other.place(f"c{i}") for i in range(8))
        )
        assert proxy.commits - before == 2
        assert sorted(heard) == [8, 64]
        await no_problems(store)
        await store.close()


async def test_one_bad_write_leaves_the_others_of_its_group(url: str) -> None:
    store = await open_postgres(url)
    desk = await Desk.open(store)
    await desk.place("taken")
    twin = an_order("twin", client_order_id=an_order("taken").client_order_id)
    entries = [
        desk.intent(an_order("a")),
        desk.intent(twin, claim=None),
        desk.intent(an_order("b", reason="nul \0")),
        desk.intent(an_order("c")),
    ]
    results = await asyncio.gather(*map(store.append, entries), return_exceptions=True)
    assert [type(result).__name__ for result in results] == [
        "Stored",
        "DuplicateClientOrderId",
        "UsageError",
        "Stored",
    ]
    assert [event.seq for event in await all_events(desk)] == [1, 2, 3]
    await no_problems(store)
    await store.close()


# --- a commit that was cut ------------------------------------------------------------------------


@pytest.fixture
async def proxied(url: str) -> AsyncIterator[tuple[Proxy, PostgresStore, Desk]]:
    async with proxy_to(url) as proxy:
        store = await open_postgres(proxy.url)
        desk = await Desk.open(store)
        await desk.place("kept")
        yield proxy, store, desk
        await store.close()


async def test_a_commit_that_was_carried_out_is_found_stored(
    proxied: tuple[Proxy, PostgresStore, Desk],
) -> None:
    proxy, store, desk = proxied
    heard: list[int] = []
    store.subscribe(lambda events: heard.extend(event.seq for event in events))
    proxy.next_cut = Cut.AFTER
    order = await desk.place("c1")
    assert proxy.was_cut.is_set()
    assert heard == [2]
    assert await store.find_order(order.order_id) == order
    assert (await desk.place("c2")).seq == 3
    await no_problems(store)


async def test_a_commit_that_never_arrived_is_found_undone(
    proxied: tuple[Proxy, PostgresStore, Desk],
) -> None:
    proxy, store, desk = proxied
    heard: list[int] = []
    store.subscribe(lambda events: heard.extend(event.seq for event in events))
    proxy.next_cut = Cut.BEFORE
    with pytest.raises(StoreUnavailable, match="undone"):
        await desk.place("c1")
    with pytest.raises(StoreUnavailable, match="read anew"):
        await desk.place("c1")
    assert heard == []
    assert await store.find_order(an_order("c1").order_id) is None
    store.readmit(desk.account_id)
    assert (await desk.place("c1")).seq == 2
    await no_problems(store)


async def test_nobody_is_answered_while_nobody_knows(
    proxied: tuple[Proxy, PostgresStore, Desk],
) -> None:
    """It was carried out, and the server cannot be asked: neither that nor the contrary is told."""
    proxy, store, desk = proxied
    proxy.next_cut, proxy.is_refusing = Cut.AFTER, True
    placing = asyncio.ensure_future(desk.place("c1"))
    await proxy.was_cut.wait()
    behind = asyncio.ensure_future(desk.place("c2"))
    for _ in range(3):
        await proxy.refused.acquire()
    assert not placing.done()
    assert not behind.done()
    proxy.is_refusing = False
    assert (await placing).seq == 2
    assert (await behind).seq == 3
    await no_problems(store)


async def test_what_is_on_its_way_while_we_look_is_never_carried_out(
    proxied: tuple[Proxy, PostgresStore, Desk],
) -> None:
    """The server would get COMMIT long after we lost it, and what we read before would be a lie."""
    proxy, store, desk = proxied
    proxy.next_cut = Cut.LATE
    with pytest.raises(StoreUnavailable, match="undone"):
        await desk.place("c1")
    proxy.was_cut.clear()
    proxy.late.set()
    await proxy.was_cut.wait()
    assert await store.find_order(an_order("c1").order_id) is None
    store.readmit(desk.account_id)
    assert (await desk.place("c1")).seq == 2
    await no_problems(store)


async def test_a_backend_is_known_again_however_the_server_writes_its_time(
    postgres_server: Callable[[str], Server],
) -> None:
    """15 reads IST as the time of Israel: a backend that is not recognised would be taken for ended."""
    with postgres_server("postgres15").store() as url:
        name = urlsplit(url).path[1:]
        run(
            url,
            f"ALTER DATABASE {name} SET datestyle = 'SQL, DMY'",
            f"ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'",
        )
        async with proxy_to(url) as proxy:
            store = await open_postgres(proxy.url)
            desk = await Desk.open(store)
            proxy.next_cut = Cut.LATE
            with pytest.raises(StoreUnavailable, match="undone"):
                await desk.place("c1")
            proxy.was_cut.clear()
            proxy.late.set()
            await proxy.was_cut.wait()
            assert await store.find_order(an_order("c1").order_id) is None
            await store.close()


async def test_small_facts_are_written_again_when_their_commit_was_cut(
    proxied: tuple[Proxy, PostgresStore, Desk],
) -> None:
    proxy, store, desk = proxied
    for cut in (Cut.BEFORE, Cut.AFTER):
        proxy.next_cut = cut
        await store.put_halt(Halt(scope="*", why=cut.name, by="me", since_ns=1))
        assert [halt.why for halt in await store.list_halts()] == [cut.name]
        proxy.next_cut = cut
        first = await store.take_client_numbers(desk.account_id, count=10, first=1)
        assert proxy.next_cut is None
        second = await store.take_client_numbers(desk.account_id, count=10, first=1)
        assert first.stop <= second.start


async def test_a_store_that_is_closed_while_nobody_knows_says_so(one_url: str) -> None:
    async with proxy_to(one_url) as proxy:
        store = await open_postgres(proxy.url)
        desk = await Desk.open(store)
        proxy.next_cut, proxy.is_refusing = Cut.BEFORE, True
        placing = asyncio.ensure_future(desk.place("c1"))
        await proxy.was_cut.wait()
        await store.close()
        with pytest.raises(StoreError) as raised:
            await placing
        assert raised.value.reason == "COMMIT_UNKNOWN"


async def test_a_connection_cut_anywhere_loses_and_doubles_nothing(
    proxied: tuple[Proxy, PostgresStore, Desk],
) -> None:
    """Cuts among a stream of placements: each ends stored or says that it is not, and that is so."""
    proxy, store, desk = proxied
    told: dict[OrderId, bool] = {}

    async def place(name: str) -> None:
        order = an_order(name)
        try:
            result = await store.append(desk.intent(order))
        except StoreUnavailable:
            told[order.order_id] = False
            store.readmit(desk.account_id)
        else:
            told[order.order_id] = isinstance(result, Stored)

    for round_ in range(12):
        proxy.next_cut = [Cut.AFTER, None, Cut.BEFORE][round_ % 3]
        placing = [asyncio.ensure_future(place(f"r{round_}-{i}")) for i in range(8)]
        if round_ % 3 == 1:
            for _ in range(round_):  # Somewhere between the first byte and the last answer.
                await asyncio.sleep(0)
            proxy.cut_all()
        await asyncio.gather(*placing)
    for order_id, is_stored in told.items():
        assert (await store.find_order(order_id) is not None) == is_stored
    assert {True, False} == set(told.values())
    await no_problems(store)


async def test_a_commit_whose_wait_for_a_standby_was_interrupted_is_not_taken_for_done() -> None:
    """The server then says COMMIT, with a warning: promoting the standby would lose the order."""
    try:
        with restartable_server() as server, database(server.url) as url:
            make_store(url)
            try:
                await _interrupt(server.url, url)
            finally:  # Or nothing could ever be committed again, dropping the database included.
                run(server.url, *_NO_STANDBY)
    except PostgresUnavailable as e:
        unavailable(NAMES[0], e)


_NO_STANDBY = ("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")


async def _interrupt(admin: str, url: str) -> None:
    store = await open_postgres(url)
    desk = await Desk.open(store)
    run(admin, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    placing = asyncio.ensure_future(desk.place("c1"))
    with psycopg.connect(admin, autocommit=True) as connection:

        async def waiting() -> int:
            """Return who waits for the standby, once somebody does."""
            while True:
                row = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                ).fetchone()
                if row is not None:
                    return int(row[0])
                await asyncio.sleep(0.01)

        for _ in range(3):  # The commit itself, and those that ask what became of it.
            connection.execute("SELECT pg_cancel_backend(%s)", (await waiting(),))
        await waiting()
        assert not placing.done()
    run(admin, *_NO_STANDBY)
    assert (await placing).seq == 1
    await no_problems(store)
    await store.close()


async def test_a_server_that_is_taken_away_under_load_loses_and_doubles_nothing() -> None:
    """Stopped in order, and killed: what was told is so, and the gateway goes on by itself."""
    try:
        with restartable_server() as server, database(server.url) as url:
            make_store(url)
            await _take_away(server, url)
    except PostgresUnavailable as e:
        unavailable(NAMES[0], e)


async def _take_away(server: BundledServer, url: str) -> None:
    store = await open_postgres(url)
    desks = [await Desk.open(store, f"a{i}") for i in range(3)]
    late = await Desk.open(store, "late")
    told: dict[OrderId, bool] = {}
    stored: asyncio.Queue[None] = asyncio.Queue()
    errors: set[str] = set()
    is_over = False

    async def trade(desk: Desk, caller: int) -> None:
        number = 0
        while not is_over:
            number += 1
            order = an_order(f"{caller}-{number}", account=desk.account)
            try:
                await desk.append(desk.intent(order))
                told[order.order_id] = True
                stored.put_nowait(None)
            except StoreUnavailable as e:
                told[order.order_id] = False
                errors.add(e.reason)
                store.readmit(desk.account_id)

    async def is_refused() -> None:
        """Begin while nobody is there; who was asking already may wait for the next server, and be served."""
        order = an_order(f"late-{len(told)}", account=late.account)
        with pytest.raises(StoreUnavailable) as caught:
            await late.append(late.intent(order))
        told[order.order_id] = False
        errors.add(caught.value.reason)
        store.readmit(late.account_id)

    async def trades(count: int) -> None:
        while not stored.empty():
            stored.get_nowait()
        for _ in range(count):
            await stored.get()

    async with asyncio.TaskGroup() as group:
        for caller in range(12):
            group.create_task(trade(desks[caller % 3], caller))
        for take_away in (server.crash, server.stop):
            await trades(60)
            await asyncio.to_thread(take_away)
            await is_refused()
            await asyncio.to_thread(server.start)
        await trades(60)
        is_over = True
    for order_id, is_stored in told.items():
        assert (await store.find_order(order_id) is not None) == is_stored
    assert errors == {"STORE_UNAVAILABLE"}
    await no_problems(store)
    await store.close()


# --- the schema and its roles ---------------------------------------------------------------------


async def test_the_schema_goes_forwards_and_back(own_database: str) -> None:
    every = list(range(1, len(POSTGRES) + 1))
    assert await migrate_postgres(own_database, time_ns=5) == every
    assert await migrate_postgres(own_database, time_ns=6) == []
    applied = await list_applied_postgres(own_database)
    assert [(row.number, row.applied_time_ns) for row in applied] == [(n, 5) for n in every]
    assert await migrate_postgres(own_database, to=1, time_ns=7) == every[:0:-1]
    with pytest.raises(SchemaMismatch, match="migrate up"):
        await open_postgres(own_database)
    assert await migrate_postgres(own_database, to=0, time_ns=8) == [1]
    assert count(own_database, "pg_tables WHERE schemaname = 'public'") == 0


async def test_those_who_migrate_at_once_take_turns(own_database: str) -> None:
    taken = await asyncio.gather(*(migrate_postgres(own_database, time_ns=1) for _ in range(4)))
    assert sorted(map(len, taken)) == [0, 0, 0, len(POSTGRES)]


async def test_a_schema_of_a_newer_release(own_database: str) -> None:
    make_store(own_database)
    newer = len(POSTGRES) + 1
    run(own_database, f"INSERT INTO schema_migration VALUES ({newer}, 'more', 0, '0.0.1')")
    await (await open_postgres(own_database)).close()
    with pytest.raises(SchemaMismatch, match=f"up to {len(POSTGRES)}"):
        await migrate_postgres(own_database, to=0, time_ns=1)
    run(own_database, "UPDATE schema_migration SET oldest_release = '99.0.0' WHERE name = 'more'")
    for read_only in (False, True):
        with pytest.raises(SchemaMismatch, match=r"99\.0\.0 and newer"):
            await open_postgres(own_database, read_only=read_only)


@pytest.fixture(params=NAMES)
def roles(
    request: pytest.FixtureRequest, postgres_server: Callable[[str], Server]
) -> Iterator[tuple[str, str]]:
    """The URLs of an owner and of a gateway, of a database without tables."""
    with postgres_server(request.param).database() as made:
        name = urlsplit(made).path[1:]
        owner, gateway = f"o_{name[-12:]}", f"g_{name[-12:]}"
        run(
            made,
            f"CREATE ROLE {owner} LOGIN",
            f"CREATE ROLE {gateway} LOGIN",
            f"ALTER DATABASE {name} OWNER TO {owner}",
        )
        try:
            yield _as(made, owner), _as(made, gateway)
        finally:
            _terminate_all(made)
            run(
                made,
                f"DROP OWNED BY {owner}, {gateway}",
                "ALTER DATABASE " + name + " OWNER TO postgres",
            )
            run(made, f"DROP ROLE {owner}, {gateway}")


def _as(url: str, role: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))


async def test_a_gateway_trades_as_a_role_that_cannot_rewrite_history(
    roles: tuple[str, str],
) -> None:
    owner, gateway = roles
    grantee = urlsplit(gateway).username
    await migrate_postgres(owner, time_ns=1, grant_to=grantee)
    store = await open_postgres(gateway)
    desk = await Desk.open(store)
    order = await desk.place("c1")
    await desk.report(order, a_trade(order, "t1"))
    await store.put_halt(Halt(scope="*", why="x", by="me", since_ns=1))
    await store.delete_halt("*")
    await no_problems(store)
    await store.close()
    statements = [
        f"{verb} {table}{rest}"
        for table in ("order_event", "fill")
        for verb, rest in (
            ("UPDATE", " SET seq = seq"),
            ("DELETE FROM", ""),
            ("TRUNCATE", " CASCADE"),
            ("DROP TABLE", " CASCADE"),
            ("ALTER TABLE", " DISABLE TRIGGER ALL"),
        )
    ]
    statements += [
        "CREATE TABLE mine (x int)",
        "INSERT INTO schema_migration VALUES (99, 'x', 0, '9')",
        "UPDATE schema_migration SET oldest_release = '9'",
        "SET session_replication_role = replica",
    ]
    for statement in statements:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(gateway, statement)
    with pytest.raises(StoreUnavailable, match=r"permission denied|must be owner"):
        await migrate_postgres(gateway, to=0, time_ns=1)


async def test_a_role_that_does_not_see_its_own_sessions_is_refused(
    roles: tuple[str, str],
) -> None:
    """Once it has become another role. What it had under way could not be found, and so not be ended."""
    owner, gateway = roles
    await migrate_postgres(owner, time_ns=1, grant_to=urlsplit(gateway).username)
    become = f"{gateway}?options=-c%20role%3D{urlsplit(gateway).username}"
    await (await open_postgres(become)).close()
    another = "pg_read_all_data"
    run(
        owner.replace(urlsplit(owner).username or "", "postgres"),
        f"GRANT {another} TO {urlsplit(gateway).username}",
    )
    become = f"{gateway}?options=-c%20role%3D{another}"
    with pytest.raises(ConfigError, match=f"role {another} cannot see its own sessions") as raised:
        await open_postgres(become)
    assert raised.value.reason == "STORE_ROLE"
    await (await open_postgres(become, read_only=True)).close()


# --- indexes --------------------------------------------------------------------------------------

_HISTORY = """
SET session_replication_role = replica;
INSERT INTO venue VALUES ('mock', 'mock');
INSERT INTO account
SELECT ('00000000-0000-0000-0000-00000000000' || a)::uuid, 'a' || a, 'mock', '', '', '', 0
FROM generate_series(1, 3) AS a;
CREATE TEMP TABLE made AS
SELECT n, gen_random_uuid() AS order_id,
    ('00000000-0000-0000-0000-00000000000' || 1 + n % 3)::uuid AS account_id
FROM generate_series(1, 20000) AS n;
INSERT INTO orders (
    order_id, account_id, venue, symbol, side, ord_type, time_in_force, post_only, reduce_only,
    client_order_id, tags, ord_status, in_doubt, reason, text, cum_qty, leaves_qty, cum_quote, origin,
    triggered, generation, acknowledged, queued, venue_order_id, send_by_ns, created_time_ns,
    updated_time_ns, seq
)
SELECT
    order_id, account_id, 'mock', 'BTC/USDT', 'BUY', 'LIMIT', 'GTC', false, false, 'c' || n, '{}',
    CASE WHEN n % 1000 = 0 THEN 'NEW' ELSE 'FILLED' END, '[]', '', '', 1, 0, 1, 'GATEWAY', false, 0, true,
    false, 'x' || n, 0, n, n, n
FROM made;
INSERT INTO venue_order_ref (
    order_id, generation, account_id, id_scope, venue_client_order_id, venue_order_id, digest
)
SELECT order_id, 0, account_id, 'account', 'v' || n, 'x' || n, '' FROM made;
INSERT INTO command SELECT account_id, 'k' || n, '', 'place_order', order_id, '', n FROM made;
INSERT INTO order_event
SELECT account_id, n, order_id, 'NEW', n, 'payload', 'hash', 'hash' FROM made;
INSERT INTO fill (
    account_id, order_id, trade_id, seq, venue, symbol, side, last_qty, last_px, liquidity, inferred,
    transact_time_ns, received_time_ns
)
SELECT
    account_id, order_id, 't' || n, n, 'mock', 'BTC/USDT', 'BUY', 1, 1, 'MAKER', false, n, n
FROM made;
INSERT INTO unmatched_fill (
    account_id, symbol, side, venue_order_id, trade_id, seq, venue, last_qty, last_px, liquidity, inferred,
    transact_time_ns, received_time_ns
)
SELECT account_id, 'BTC/USDT', 'BUY', 'x' || n, 't' || n, n, 'mock', 1, 1, 'MAKER', false, n, n
FROM made;
ANALYZE;
"""

_WALKS = {"_LIST_EVENT_ORDERS_MISSING", "_COUNT_ORDERS"}
"""These look at everything of an account, or of the store, and say so."""

_BIG = {"orders", "venue_order_ref", "command", "order_event", "fill", "unmatched_fill"}

_NEWEST_FIRST = {
    "_LIST_ORDERS": f"(15000, '{UUID(int=0)}', 0, {', '.join(['NULL'] * 7)}, 100)",
    "_LIST_FILLS": f"(15000, '{UUID(int=0)}', 0, 0, {', '.join(['NULL'] * 4)}, 100)",
}
"""With values: stopped by LIMIT, they would read everything if they sorted first."""


@pytest.mark.parametrize("name", NAMES)
def test_every_query_goes_by_an_index(postgres_server: Callable[[str], Server], name: str) -> None:
    """A million closed orders must not slow down what trading needs: nothing big is read through."""
    from tradegw._generated.queries import postgres as queries

    texts = {k: v for k, v in vars(queries).items() if k.isupper() and isinstance(v, str)}
    scanned: set[str] = set()
    with postgres_server(name).store() as url, psycopg.connect(url) as connection:
        for statement in _HISTORY.split(";\n"):
            connection.execute(statement.encode())
        connection.commit()
        for query, text in texts.items():
            if query in _WALKS:
                continue
            # Another way than by index is also taken where values are not known beforehand.
            mode = "force_custom_plan" if query in _NEWEST_FIRST else "force_generic_plan"
            connection.execute(f"SET plan_cache_mode = {mode}".encode())
            parameters = max((int(n) for n in re.findall(r"\$(\d+)", text)), default=0)
            values = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
            connection.execute(f"PREPARE q AS {text}".encode())
            row = connection.execute(
                f"EXPLAIN (FORMAT JSON) EXECUTE q{_NEWEST_FIRST.get(query, values)}".encode()
            ).fetchone()
            connection.execute("DEALLOCATE q")
            assert row is not None
            for node in _nodes(row[0][0]["Plan"]):
                table = node.get("Relation Name")
                assert node["Node Type"] != "Seq Scan" or table not in _BIG, (query, node)
                assert node["Node Type"] != "Sort" or query not in _NEWEST_FIRST, (query, node)
                scanned.add(table)
    assert scanned >= _BIG


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)
