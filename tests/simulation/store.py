"""The store of a simulated gateway: the real one, with delays, failures, and a file or memory that stays.

What was committed outlives the gateway; all else goes with it.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable, Coroutine
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from tests.simulation.postgres import SimulatedPostgres, open_in_postgres, start_empty
from tradegw._generated.migrations import SQLITE
from tradegw._generated.queries import SqliteQueries
from tradegw.errors import CommitUnknown, StoreError, StoreUnavailable
from tradegw.store import MemoryStore, SqliteStore, open_sqlite
from tradegw.store.connections import drive, open_memory
from tradegw.store.groups import Done, Group, GroupCommit, InlineRunner, Runner
from tradegw.store.migrate import migrate
from tradegw.store.sqlite_writer import SqliteDatabase
from tradegw.store.sqlstore import SqlStore, Work
from tradegw.testing.simulation import SimulatedClock

ResultT = TypeVar("ResultT")


class StoreKind(StrEnum):
    """Which store a history has."""

    INLINE = "INLINE"
    """In memory, and committing in the turn of the loop in which it is asked."""
    SLOW = "SLOW"
    """In memory, with the delays and failures of a disk."""
    FILE = "FILE"
    """A file, with the threads of the real store, and the same delays and failures."""
    POSTGRES = "POSTGRES"
    """A database on a real server, with the same delays and failures. Two runs of a seed may differ."""


class StoreFault(StrEnum):
    """How a commit fails."""

    STORE_REFUSES = "STORE_REFUSES"
    """Before COMMIT: nothing is stored, and that is known."""
    COMMIT_LOST = "COMMIT_LOST"
    """COMMIT was asked, nothing is stored, nobody knows."""
    COMMIT_KEPT = "COMMIT_KEPT"
    """COMMIT was asked, it is stored, nobody knows."""
    COMMIT_SLOW = "COMMIT_SLOW"
    """It takes seconds."""
    READ_FAILS = "READ_FAILS"
    """A question to the store fails."""


class Disk:
    """What is behind a store: how long it takes, and what fails next.

    Attributes:
        faults: What fails, in order: one for each commit or read that comes.
        hits: Told of each failure.
    """

    def __init__(
        self, kind: StoreKind, rng: random.Random, directory: Path, postgres: str | None = None
    ) -> None:
        self.kind = kind = kind if postgres is None else StoreKind.POSTGRES
        self._postgres = postgres
        self.faults: list[StoreFault] = []
        self.hits: Callable[[StoreFault], None] = lambda _: None
        self._rng = rng
        self._file = directory / "tradegw.db"
        self._memory: sqlite3.Connection | None = None
        self._store: SqlStore | None = None
        if postgres is not None:
            start_empty(postgres)
        elif kind is StoreKind.FILE:
            _make_file(self._file)
        else:
            self._memory = open_memory()
            self._memory.deserialize(_template())
            self._memory.execute("PRAGMA foreign_keys = ON")

    def delay_s(self) -> float:
        """Return how long a step takes: mostly little."""
        return self._rng.choice((0.0, 0.0002, 0.001, 0.003)) * self._rng.random()

    def next_fault(self, *kinds: StoreFault) -> StoreFault | None:
        """Return what fails now, if it is of these kinds."""
        if self.faults and self.faults[0] in kinds:
            fault = self.faults.pop(0)
            self.hits(fault)
            return fault
        return None

    def open(self, clock: SimulatedClock) -> SqlStore:
        """Open what is stored."""
        if self._memory is not None:
            self._store = _Reopened(self._memory, self)
        elif self._postgres is not None:
            self._store = open_in_postgres(self._postgres, self)
        else:
            store = open_sqlite(self._file, clock=clock)
            group = store._group
            assert group is not None
            group._runner.close()
            group._runner = DiskRunner(self, in_thread=drive)
            self._store = store
        return self._store

    def has_order(self, venue_client_order_id: str) -> bool | None:
        """Whether an order of that name is durable; None if this store cannot tell at once."""
        if self._memory is None:
            return None
        found = self._memory.execute(
            "SELECT 1 FROM venue_order_ref WHERE venue_client_order_id = ?",
            (venue_client_order_id,),
        )
        return found.fetchone() is not None

    def head(self, account: str) -> int | None:
        """Return the number of the last durable event; None if this store cannot tell at once."""
        if self._memory is None:
            return None
        found = self._memory.execute(
            "SELECT max(e.seq) FROM order_event e JOIN account a USING (account_id) "
            "WHERE a.account = ?",
            (account,),
        )
        (seq,) = found.fetchone()
        return seq or 0

    def drop(self) -> None:
        """Let go of the store, as a process that dies does. What was committed stays."""
        store, self._store = self._store, None
        if isinstance(store, SqliteStore):
            store._is_closed = True
            store._close()
        elif isinstance(store, SimulatedPostgres):
            store.die()

    def close(self) -> None:
        """Forget everything."""
        self.drop()
        if self._memory is not None:
            self._memory.close()


@cache
def _template() -> bytes:
    memory = open_memory()
    migrate(memory, SQLITE, to=len(SQLITE), time_ns=0)
    image = memory.serialize()
    memory.close()
    return image


_FILES: dict[Path, Path] = {}


def _make_file(path: Path) -> None:
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    template = _FILES.get(path.parent)
    if template is None:
        template = _FILES[path.parent] = path.parent / "template.db"
        template.write_bytes(_template())
    shutil.copyfile(template, path)


class DiskRunner(Runner):
    """Runs groups after a while, tells after another while, and fails as planned.

    Args:
        in_thread: Carries a group out in a thread; without it they are carried out on the loop, at once.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        in_thread: Callable[[Coroutine[Any, Any, StoreError | None]], StoreError | None] | None,
    ) -> None:
        self._disk = disk
        self._in_thread = in_thread

    def run(self, group: Group, done: Done) -> None:
        loop = asyncio.get_running_loop()
        delay_s = self._disk.delay_s()
        if self._disk.next_fault(StoreFault.COMMIT_SLOW):
            delay_s += self._disk._rng.choice((1.0, 4.0, 7.0, 12.0))
        loop.call_later(delay_s, self._carry_out, group, done)

    def _carry_out(self, group: Group, done: Done) -> None:
        loop = asyncio.get_running_loop()
        fault = self._disk.next_fault(
            StoreFault.STORE_REFUSES, StoreFault.COMMIT_LOST, StoreFault.COMMIT_KEPT
        )
        delay_s = self._disk.delay_s()
        if fault is StoreFault.STORE_REFUSES:
            loop.call_later(delay_s, done, StoreUnavailable("refused before COMMIT"))
            return
        if fault is StoreFault.COMMIT_LOST:
            loop.call_later(delay_s, done, CommitUnknown("the answer to COMMIT was lost"))
            return

        def tell(error: StoreError | None) -> None:
            if fault is StoreFault.COMMIT_KEPT and error is None:
                error = CommitUnknown("the answer to COMMIT was lost")
            done(error)

        if (run := self._in_thread) is not None:
            running = loop.run_in_executor(None, lambda: run(group()))
            running.add_done_callback(lambda f: loop.call_later(delay_s, tell, f.result()))
        else:
            loop.call_later(delay_s, tell, drive(group()))

    def close(self) -> None:
        """Nothing is left to stop."""


class _Reopened(MemoryStore):
    """A memory store over a connection that outlives it."""

    def __init__(self, connection: sqlite3.Connection, disk: Disk) -> None:
        SqlStore.__init__(self)
        self._connection = connection
        self._queries = SqliteQueries(connection)
        is_slow = disk.kind is StoreKind.SLOW
        self._disk = disk if is_slow else None
        self._group = GroupCommit(
            SqliteDatabase(connection),
            DiskRunner(disk, in_thread=None) if is_slow else InlineRunner(),
        )
        self._is_closed = False

    async def close(self) -> None:
        """Finish what was appended; the connection stays."""
        if not self._is_closed:
            self._is_closed = True
            await self._group.close()

    async def _read(self, work: Work[ResultT]) -> ResultT:
        if self._disk is not None:
            await asyncio.sleep(self._disk.delay_s())
            if self._disk.next_fault(StoreFault.READ_FAILS):
                raise StoreUnavailable("the store cannot be read")
        return await super()._read(work)

    async def _look(self, work: Work[ResultT]) -> ResultT:
        if self._disk is not None and self._disk.next_fault(StoreFault.READ_FAILS):
            raise StoreUnavailable("the store cannot be read")
        return await MemoryStore._read(self, work)
