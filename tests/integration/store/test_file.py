"""The life of a SQLite file: reopened, killed, locked, read beside its writer, migrated, damaged, full."""

# ruff: noqa: ASYNC240  The files are a test's own, and small.

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from tests.integration.store.conftest import (
    Desk,
    StillClock,
    a_trade,
    all_events,
    an_order,
    tamper,
)
from tradegw._generated.migrations import SQLITE
from tradegw.errors import (
    CommitUnknown,
    ConfigError,
    SchemaMismatch,
    StoreCorrupt,
    StoreInUse,
    StoreUnavailable,
    UsageError,
)
from tradegw.model import Order, OrderId, OrdStatus
from tradegw.ports import OrderFilter, Stored
from tradegw.store import (
    LockHolder,
    SqliteStore,
    migrate_sqlite,
    open_sqlite,
    open_store,
    read_lock,
    writes,
)
from tradegw.store.connections import open_writer
from tradegw.store.groups import GroupCommit, InlineRunner
from tradegw.store.migrate import list_applied, migrate
from tradegw.store.sqlite_writer import SqliteDatabase

OpenFile = Callable[..., SqliteStore]


async def _place(store: SqliteStore, *names: str) -> tuple[Desk, list[Order]]:
    desk = await Desk.open(store)
    return desk, [await desk.place(name) for name in names]


# --- what stays -----------------------------------------------------------------------------------


async def test_the_record_survives_a_restart(open_file: OpenFile) -> None:
    store = open_file()
    desk, [order] = await _place(store, "c1")
    before = await store.get_head(desk.account)
    await store.close()
    store = open_file()
    desk = await Desk.open(store)
    assert await store.find_order(order.order_id) == order
    assert await store.get_head(desk.account) == before
    filled = await desk.report(order, a_trade(order, "t1"))
    assert filled.seq == 2
    assert [problem async for problem in store.verify()] == []
    await store.close()


def test_each_commit_reaches_the_disk(path: Path) -> None:
    with closing(open_writer(path)) as writer:
        for pragma, expected in (("synchronous", 2), ("journal_mode", "wal"), ("foreign_keys", 1)):
            assert writer.execute(f"PRAGMA {pragma}").fetchone() == (expected,)


async def test_writes_that_wait_together_share_a_commit(file_store: SqliteStore) -> None:
    commits: list[int] = []
    file_store.subscribe(lambda events: commits.append(len(events)))
    desk = await Desk.open(file_store)
    await asyncio.gather(*(desk.place(f"c{i}") for i in range(64)))
    assert sum(commits) == 64
    assert len(commits) == 1


def _append_until_killed(path: Path, run: int, *, lines: int) -> dict[UUID, str]:
    """Let another process write, kill it after so many answers, and return what it was answered."""
    script = Path(__file__).with_name("appender.py")
    process = subprocess.Popen(
        [sys.executable, script, path, str(run)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    told: dict[UUID, str] = {}
    with process:
        for line in itertools.islice(process.stdout, lines):
            what, name = line.split()
            told[UUID(name)] = what
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:
            if line.endswith("\n"):
                what, name = line.split()
                told[UUID(name)] = what
    assert process.returncode == -signal.SIGKILL
    return told


async def test_what_returned_survives_a_kill(path: Path, open_file: OpenFile) -> None:
    """Three times killed in mid-write: everything that was answered is there, and the chain holds."""
    told: dict[UUID, str] = {}
    for run in range(3):
        told.update(_append_until_killed(path, run, lines=150 + 37 * run))
        assert read_lock(path) is None
    assert len(told) > 200
    store = open_file()
    for order_id, what in told.items():
        found = await store.find_order(OrderId(order_id))
        assert found is not None
        assert what == "placed" or found.ord_status is OrdStatus.FILLED
    assert [problem async for problem in store.verify()] == []
    await store.close()


# --- one writer, many readers ---------------------------------------------------------------------


async def test_a_second_writer_is_told_who_the_first_is(path: Path, open_file: OpenFile) -> None:
    store = open_file()
    assert read_lock(path) == LockHolder(pid=os.getpid())
    store.publish_addresses({"grpc": "127.0.0.1:50051"})
    holder = LockHolder(pid=os.getpid(), addresses={"grpc": "127.0.0.1:50051"})
    assert read_lock(path) == holder
    link = path.with_name("link.db")
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(StoreInUse, match=rf"process {os.getpid()} at grpc 127\.0\.0\.1:50051"):
            await open_store(f"sqlite:///{name}", clock=StillClock())
    await store.close()
    assert read_lock(path) is None
    await open_file().close()


def test_nobody_holds_a_store_that_does_not_exist(path: Path) -> None:
    assert read_lock(path) is None


async def test_a_second_process_is_kept_out(path: Path, open_file: OpenFile) -> None:
    store = open_file()
    script = (
        "import sys, pathlib; from tradegw.store import open_sqlite; "
        "open_sqlite(pathlib.Path(sys.argv[1]), clock=None)"
    )
    command = [sys.executable, "-c", script, str(path)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert b"StoreInUse" in said
    assert str(os.getpid()) in said.decode()
    await store.close()


async def test_readers_read_beside_the_writer(open_file: OpenFile) -> None:
    store = open_file()
    reader = open_file(read_only=True)
    desk, [order] = await _place(store, "c1")
    assert await reader.find_order(order.order_id) == order
    filled = await desk.report(order, a_trade(order, "t1"))
    listed = await reader.list_orders(OrderFilter(), limit=5)
    assert listed.items == (filled,)
    assert [problem async for problem in reader.verify()] == []
    with pytest.raises(UsageError, match="for reading"):
        await reader.append(desk.intent(an_order("c2")))
    with pytest.raises(UsageError, match="for reading"):
        reader.publish_addresses({})
    await reader.close()
    await store.close()


async def test_a_reader_needs_no_writer(open_file: OpenFile) -> None:
    store = open_file()
    _, [order] = await _place(store, "c1")
    await store.close()
    reader = open_file(read_only=True)
    assert await reader.find_order(order.order_id) == order
    await reader.close()


# --- what cannot be opened ------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database(path: Path, open_file: OpenFile, read_only: bool) -> None:
    path.write_bytes(b"This is a letter, and not a database at all. " * 100)
    with pytest.raises(StoreCorrupt, match="not a database"):
        open_file(read_only=read_only)
    assert path.read_bytes().startswith(b"This is a letter")


async def test_damage_inside_is_told_where_it_is_met(path: Path, open_file: OpenFile) -> None:
    store = open_file()
    desk = await Desk.open(store)
    for i in range(40):
        await desk.place(f"c{i}")
    await store.close()
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    with pytest.raises(StoreCorrupt):
        store = open_file()
        try:
            async for _ in store.verify():
                pass
        finally:
            await store.close()


def test_a_database_of_somebody_else(path: Path, open_file: OpenFile) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE holiday_pictures (name TEXT)")
    with pytest.raises(ConfigError, match="holiday_pictures"):
        open_file()
    with pytest.raises(ConfigError, match="holiday_pictures"):
        open_file(read_only=True)


async def test_a_newer_schema(path: Path, open_file: OpenFile) -> None:
    await open_file().close()
    newer = len(SQLITE) + 1
    tamper(path, f"INSERT INTO schema_migration VALUES ({newer}, 'future', 1, '99.1.0')")
    for read_only in (False, True):
        with pytest.raises(SchemaMismatch, match=rf"version {newer} \(future\).*99\.1\.0.*0\.1\.0"):
            open_file(read_only=read_only)


async def test_a_newer_schema_that_admits_this_release(path: Path, open_file: OpenFile) -> None:
    await open_file().close()
    tamper(path, f"INSERT INTO schema_migration VALUES ({len(SQLITE) + 1}, 'more', 1, '0.1.0')")
    await open_file().close()


def test_a_reader_does_not_migrate(path: Path, open_file: OpenFile) -> None:
    path.touch()
    with pytest.raises(SchemaMismatch, match="version 0"):
        open_file(read_only=True)
    assert path.stat().st_size == 0


def test_nothing_to_read(path: Path, open_file: OpenFile) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        open_file(read_only=True)
    assert not path.exists()


def test_no_directory(path: Path) -> None:
    with pytest.raises(ConfigError, match="directory"):
        open_sqlite(path / "deeper" / "store.db", clock=StillClock())


def test_a_directory_in_the_files_place(path: Path, open_file: OpenFile) -> None:
    path.mkdir()
    with pytest.raises(ConfigError, match="expected a file"):
        open_file()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "sqlite:///FILE"),
        ("sqlite:///", "sqlite:///FILE"),
        ("sqlite://x.db", "sqlite:///FILE"),
        ("mysql://x", "mysql://x"),
        ("postgresql://x?colour=red", "libpq cannot read"),
    ],
)
async def test_urls_that_name_no_store(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        await open_store(url, clock=StillClock())


async def test_urls_that_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("memory://", "sqlite:///here.db", f"sqlite:///{tmp_path}/there.db"):
        store = await open_store(url, clock=StillClock())
        await store.ping()
        await store.close()
    assert {file.name for file in tmp_path.glob("*.db")} == {"here.db", "there.db"}


@pytest.fixture
def archive() -> Iterator[Path]:
    """A directory that any user can reach."""
    directory = Path(tempfile.mkdtemp(prefix="tradegw-test-", dir="/tmp"))
    try:
        yield directory
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


@contextmanager
def _somebody_else() -> Iterator[None]:
    """Root may write anywhere, so root becomes somebody who may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_read_only_place_is_read_and_not_written(archive: Path) -> None:
    path = archive / "store.db"
    store = open_sqlite(path, clock=StillClock())
    _, orders = await _place(store, "c1", "c2")
    await store.close()
    archive.chmod(0o555)
    with _somebody_else():
        with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
            open_sqlite(path, clock=StillClock())
        reader = open_sqlite(path, clock=StillClock(), read_only=True)
        listed = await reader.list_orders(OrderFilter(), limit=9)
        await reader.close()
    assert {order.order_id for order in listed.items} == {order.order_id for order in orders}


async def test_a_read_only_file_is_not_written(archive: Path) -> None:
    path = archive / "store.db"
    await open_sqlite(path, clock=StillClock()).close()
    archive.chmod(0o755)
    path.chmod(0o444)
    path.with_name("store.db.lock").chmod(0o666)
    with _somebody_else(), pytest.raises(ConfigError, match="it is read-only"):
        open_sqlite(path, clock=StillClock())


# --- migrations -----------------------------------------------------------------------------------


def test_migrations_run_forwards_and_back(path: Path) -> None:
    with closing(open_writer(path)) as writer:
        assert migrate(writer, SQLITE, to=len(SQLITE), time_ns=7) == list(range(1, len(SQLITE) + 1))
        assert [row.applied_time_ns for row in list_applied(writer)] == [7] * len(SQLITE)
        assert migrate(writer, SQLITE, to=len(SQLITE), time_ns=8) == []
        assert migrate(writer, SQLITE, to=0, time_ns=9) == list(range(len(SQLITE), 0, -1))
        assert writer.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
        assert list_applied(writer) == ()


async def test_a_store_that_is_written_is_not_migrated(path: Path, open_file: OpenFile) -> None:
    store = open_file()
    with pytest.raises(StoreInUse):
        migrate_sqlite(path, clock=StillClock(), to=0)
    await store.ping()
    await store.close()
    assert migrate_sqlite(path, clock=StillClock(), to=0) == list(range(len(SQLITE), 0, -1))
    assert migrate_sqlite(path, clock=StillClock()) == list(range(1, len(SQLITE) + 1))
    await open_file().close()


def test_a_migration_that_fails_leaves_the_schema_as_it_was(path: Path) -> None:
    broken = replace(SQLITE[0], number=len(SQLITE) + 1, up="CREATE TABLE more (x TEXT); NONSENSE;")
    with closing(open_writer(path)) as writer:
        migrate(writer, SQLITE, to=len(SQLITE), time_ns=7)
        with pytest.raises(sqlite3.OperationalError, match="NONSENSE"):
            migrate(writer, (*SQLITE, broken), to=len(SQLITE) + 1, time_ns=8)
        assert len(list_applied(writer)) == len(SQLITE)
        tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'more'"
        assert writer.execute(tables).fetchone() == (0,)


def test_an_unknown_schema_is_not_taken_back(path: Path) -> None:
    with closing(open_writer(path)) as writer:
        migrate(writer, SQLITE, to=len(SQLITE), time_ns=7)
        with pytest.raises(SchemaMismatch, match="up to 0"):
            migrate(writer, (), to=0, time_ns=8)


# --- when the disk fails --------------------------------------------------------------------------


@contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size`: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_at_commit_loses_nothing_and_passes(
    path: Path, file_store: SqliteStore
) -> None:
    """COMMIT itself cannot write. Nothing is pretended, and with room again it goes on."""
    desk, [kept] = await _place(file_store, "kept")
    other = await Desk.open(file_store, "second")
    heard: list[int] = []
    file_store.subscribe(lambda events: heard.extend(event.seq for event in events))
    while (log := path.with_name("store.db-wal").stat().st_size) < 300_000:
        await desk.report(kept, a_trade(kept, f"t{log}", "0.0000001"))
    head = await file_store.get_head(desk.account)
    heard.clear()
    with _file_size_limit(log):
        results = await asyncio.gather(
            *(desk.store.append(desk.intent(an_order(f"c{i}"))) for i in range(5)),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [StoreUnavailable] * 5
        assert "COMMIT failed" in str(results[0])
        # Reading goes on, and shows what was stored and nothing else.
        assert await file_store.find_order(kept.order_id) is not None
        assert await file_store.find_order(an_order("c0").order_id) is None
        assert await file_store.find_claim("paper", "key-c0") is None
    assert heard == []
    assert await file_store.get_head(desk.account) == head
    # What the account's engine remembers may be wrong now: it takes nothing until it was read anew.
    with pytest.raises(StoreUnavailable, match="read anew"):
        await desk.store.append(desk.intent(an_order("c0")))
    assert (await other.place("c0")).seq == 1
    file_store.readmit(desk.account_id)
    again = await desk.append(desk.intent(an_order("c0")))
    assert again.events[0].seq == head.seq + 1
    assert [problem async for problem in file_store.verify()] == []


async def test_a_full_database_before_commit(file_store: SqliteStore) -> None:
    """The database has no more pages: statements fail, COMMIT is never asked."""
    desk, _ = await _place(file_store, "kept")
    assert file_store._writer is not None
    (pages,) = file_store._writer.execute("PRAGMA page_count").fetchone()
    file_store._writer.execute(f"PRAGMA max_page_count = {pages}")
    stored = 0
    with pytest.raises(StoreUnavailable, match="SQLITE_FULL"):
        for i in range(200):
            await desk.place(f"c{i}")
            stored += 1
    assert stored < 200
    file_store._writer.execute("PRAGMA max_page_count = 1000000")
    file_store.readmit(desk.account_id)
    await desk.place(f"c{stored}")
    assert len(await all_events(desk)) == stored + 2
    assert [problem async for problem in file_store.verify()] == []


async def test_entries_that_waited_behind_a_failure_are_refused(file_store: SqliteStore) -> None:
    """They were made from a state that was never stored, so they must not slip in behind it."""
    desk, _ = await _place(file_store, "kept")
    assert file_store._writer is not None
    (pages,) = file_store._writer.execute("PRAGMA page_count").fetchone()
    file_store._writer.execute(f"PRAGMA max_page_count = {pages}")
    first = [
        asyncio.ensure_future(desk.store.append(desk.intent(an_order(f"c{i}")))) for i in range(512)
    ]
    behind = asyncio.ensure_future(desk.store.append(desk.intent(an_order("behind"))))
    results = await asyncio.gather(*first, return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    with pytest.raises(StoreUnavailable, match="read anew"):
        await behind
    assert len(await all_events(desk)) == 1


class _Fragile(sqlite3.Connection):
    """A database whose COMMIT fails as it is told."""

    fails: str = ""

    def execute(self, sql: str, *args: object) -> sqlite3.Cursor:  # type: ignore[override]
        if sql != "COMMIT" or not self.fails:
            return super().execute(sql, *args)  # type: ignore[arg-type]
        if self.fails != "SQLITE_FULL":
            super().execute(sql)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        error.sqlite_errorname = self.fails
        raise error


@pytest.mark.parametrize(
    ("fails", "expected"),
    [
        pytest.param("SQLITE_FULL", StoreUnavailable, id="nothing was written"),
        pytest.param("SQLITE_IOERR_FSYNC", CommitUnknown, id="the disk would not say"),
        pytest.param("SQLITE_IOERR", CommitUnknown, id="written, and the answer lost"),
    ],
)
async def test_a_commit_that_fails_is_unknown_unless_it_is_undone(
    path: Path, fails: str, expected: type[Exception]
) -> None:
    connection = sqlite3.connect(path, isolation_level=None, factory=_Fragile)
    try:
        migrate(connection, SQLITE, to=len(SQLITE), time_ns=1)
        group = GroupCommit(SqliteDatabase(connection), InlineRunner())
        record = Desk.record_of("paper")
        await group.write(lambda q: writes.put_account(q, record))
        desk = Desk(None, record)  # type: ignore[arg-type]
        connection.fails = fails
        with pytest.raises(expected) as raised:
            await group.append(desk.intent(an_order("c1")))
        assert type(raised.value) is expected
        connection.fails = ""
        group.readmit(record.account_id)
        result = await group.append(desk.intent(an_order("c2")))
        assert isinstance(result, Stored)
        assert result.events[0].seq == (2 if fails == "SQLITE_IOERR" else 1) + (
            fails == "SQLITE_IOERR_FSYNC"
        )
        await group.close()
    finally:
        connection.close()


async def test_a_database_that_somebody_else_locks(path: Path, file_store: SqliteStore) -> None:
    desk, _ = await _place(file_store, "kept")
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await desk.place("c1")
    file_store.readmit(desk.account_id)
    assert (await desk.place("c1")).seq == 2


async def test_a_file_that_was_moved_away_is_noticed(path: Path, file_store: SqliteStore) -> None:
    await file_store.ping()
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(StoreUnavailable, match="No such file"):
        await file_store.ping()
    path.write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="another file"):
        await file_store.ping()


def test_the_lock_file_is_json(path: Path, open_file: OpenFile) -> None:
    async def run() -> None:
        store = open_file()
        found = json.loads(path.with_name("store.db.lock").read_text())
        assert found == {"pid": os.getpid(), "addresses": {}}
        await store.close()

    asyncio.run(run())
