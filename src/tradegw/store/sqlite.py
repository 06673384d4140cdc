"""The default store: one SQLite file, one writer process, group commit.

Writes go through `groups.GroupCommit`. Reads have connections of their own, which see everything that was
committed before them: short ones run on the event loop, where a thread would cost ten times the query, and
long ones in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tradegw._generated.migrations import SQLITE
from tradegw._generated.queries import SqliteQueries
from tradegw.errors import StoreUnavailable, UsageError
from tradegw.model import AccountId, OrderEvent
from tradegw.ports import Clock, Entry, KeyTaken, Replayed, Stored
from tradegw.store.connections import drive, open_reader, open_writer, store_error
from tradegw.store.groups import GroupCommit, ThreadRunner
from tradegw.store.lock import WriterLock
from tradegw.store.migrate import check, list_applied, migrate
from tradegw.store.sqlite_writer import SqliteDatabase
from tradegw.store.sqlstore import SqlStore, Work

__all__ = ["SqliteStore", "migrate_sqlite", "open_sqlite"]

ResultT = TypeVar("ResultT")

_READERS = 2


def open_sqlite(path: Path, *, clock: Clock, read_only: bool = False) -> SqliteStore:
    """Open a store file; made and brought to the present schema if need be, unless `read_only`.

    Blocks for some milliseconds.

    Args:
        read_only: Take no lock, and read beside whoever writes. The schema must be one that this release
            can read.

    Raises:
        ConfigError: The file is missing, may not be written, or belongs to another program.
        StoreInUse: Another process writes it.
        SchemaMismatch: It is for another release.
        StoreCorrupt: It is no database, or a damaged one.
        StoreUnavailable: It cannot be used now, such as on a full disk.
    """
    path = path.absolute()  # Whoever changes the working directory later changes nothing here.
    with contextlib.ExitStack() as opened:
        writer: sqlite3.Connection | None = None
        lock: WriterLock | None = None
        if not read_only:
            if path.parent.is_dir():
                lock = WriterLock(path)
                opened.callback(lock.release)
            _refuse_strangers(path)
            writer = open_writer(path)
            opened.callback(writer.close)
            try:
                if len(list_applied(writer)) < len(SQLITE):
                    migrate(writer, SQLITE, to=len(SQLITE), time_ns=clock.time_ns())
            except sqlite3.Error as e:
                raise store_error(e, f"store {path} cannot be migrated") from e
        readers = [open_reader(path) for _ in range(1 + _READERS)]
        for reader in readers:
            opened.callback(reader.close)
        try:
            check(list_applied(readers[0]), SQLITE)
        except sqlite3.Error as e:
            raise store_error(e, f"store {path} cannot be read") from e
        store = SqliteStore(path, writer=writer, readers=readers, lock=lock)
        opened.pop_all()
    return store


def migrate_sqlite(path: Path, *, clock: Clock, to: int | None = None) -> Sequence[int]:
    """Bring a store file's schema to version `to`, by default the newest, forwards or back.

    Returns:
        The numbers of the steps that were taken, or taken back, in that order.

    Raises:
        StoreInUse: A process writes the store.
        SchemaMismatch: A step that is to be taken back is unknown to this release.
        StoreError, ConfigError: As `open_sqlite`.
    """
    with contextlib.ExitStack() as opened:
        if path.parent.is_dir():
            opened.callback(WriterLock(path).release)
        _refuse_strangers(path)
        writer = opened.enter_context(contextlib.closing(open_writer(path)))
        try:
            return migrate(
                writer, SQLITE, to=len(SQLITE) if to is None else to, time_ns=clock.time_ns()
            )
        except sqlite3.Error as e:
            raise store_error(e, f"store {path} cannot be migrated") from e


def _refuse_strangers(path: Path) -> None:
    """Look before opening for writing: that alone turns a file into a WAL database.

    Raises:
        ConfigError: The file is another program's database. It is left as it is.
        StoreCorrupt: It is no database.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    with contextlib.closing(open_reader(path)) as reader:
        try:
            list_applied(reader)
        except sqlite3.Error as e:
            raise store_error(e, f"store {path} cannot be read") from e


class SqliteStore(SqlStore):
    """A store in a file. Made by `open_sqlite`.

    Its methods belong to one event loop.
    """

    def __init__(
        self,
        path: Path,
        *,
        writer: sqlite3.Connection | None,
        readers: Sequence[sqlite3.Connection],
        lock: WriterLock | None,
    ) -> None:
        super().__init__()
        self._path = path
        self._inode = path.stat().st_ino
        self._writer = writer
        self._group: GroupCommit | None = None
        if writer is not None:
            self._group = GroupCommit(SqliteDatabase(writer), ThreadRunner())
        self._lock = lock
        self._looker, *pool = readers
        self._pool: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for reader in pool:
            self._pool.put(reader)
        self._threads = ThreadPoolExecutor(len(pool), thread_name_prefix="tradegw-read")
        self._is_closed = False

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def publish_addresses(self, addresses: Mapping[str, str]) -> None:
        """Tell other processes where this gateway listens, in the lock file; see `lock.read_lock`."""
        if self._lock is None:
            raise UsageError("the store was opened for reading, and has no lock")
        self._lock.publish(addresses)

    def subscribe(self, listener: Callable[[Sequence[OrderEvent]], None]) -> None:
        """Call `listener` with the events of each commit."""
        self._writing().subscribe(listener)

    def readmit(self, account_id: AccountId) -> None:
        """Take entries of an account again, after a commit that it was part of failed."""
        self._writing().readmit(account_id)

    async def append(self, entry: Entry) -> Stored | KeyTaken | Replayed:
        """Store an entry, durably, whole or not at all."""
        return await self._writing().append(entry)

    async def ping(self) -> None:
        """Run a real query, and see that the file is still the one that is named.

        Raises:
            StoreError: It failed, or the file was moved away: what is written there would be lost.
        """
        await super().ping()
        try:
            inode = self._path.stat().st_ino
        except OSError as e:
            raise StoreUnavailable(f"store {self._path}: {e.strerror}") from e
        if inode != self._inode:
            raise StoreUnavailable(f"store {self._path}: another file has taken its place")

    async def close(self) -> None:
        """Finish what was appended, and let go of the file. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._group is not None:
            await self._group.close()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._threads.shutdown()
        self._looker.close()
        with contextlib.suppress(queue.Empty):
            while True:
                self._pool.get_nowait().close()
        # Last, because the last connection to close tidies the log up, and readers may not.
        if self._writer is not None:
            self._writer.close()
        if self._lock is not None:
            self._lock.release()

    async def _write(self, work: Work[ResultT], account_id: AccountId | None = None) -> ResultT:
        return await self._writing().write(work)

    async def _look(self, work: Work[ResultT]) -> ResultT:
        self._check_open()
        return self._run(self._looker, work)

    async def _read(self, work: Work[ResultT]) -> ResultT:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._borrow, work)

    def _borrow(self, work: Work[ResultT]) -> ResultT:
        connection = self._pool.get()
        try:
            return self._run(connection, work)
        finally:
            self._pool.put(connection)

    def _run(self, connection: sqlite3.Connection, work: Work[ResultT]) -> ResultT:
        try:
            with _snapshot(connection):
                return drive(work(SqliteQueries(connection)))
        except sqlite3.Error as e:
            raise store_error(e, f"store {self._path} cannot be read") from e

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError("the store is closed")

    def _writing(self) -> GroupCommit:
        self._check_open()
        if self._group is None:
            raise UsageError("the store was opened for reading")
        return self._group


@contextlib.contextmanager
def _snapshot(connection: sqlite3.Connection) -> Generator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
