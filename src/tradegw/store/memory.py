"""A store that is gone with its process, for tests and trials: SQLite in memory, without threads or files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tradegw._generated.migrations import SQLITE
from tradegw._generated.queries import SqliteQueries
from tradegw.errors import UsageError
from tradegw.model import AccountId, OrderEvent
from tradegw.ports import Clock, Entry, KeyTaken, Replayed, Stored
from tradegw.store.connections import drive, open_memory
from tradegw.store.groups import GroupCommit, InlineRunner
from tradegw.store.migrate import migrate
from tradegw.store.sqlite_writer import SqliteDatabase
from tradegw.store.sqlstore import SqlStore, Work

__all__ = ["MemoryStore", "open_memory_store"]

ResultT = TypeVar("ResultT")


def open_memory_store(*, clock: Clock) -> MemoryStore:
    """Open an empty store."""
    return MemoryStore(clock)


class MemoryStore(SqlStore):
    """Made by `open_memory_store`. Commits at once, on the event loop: no transaction is ever seen open."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._connection = open_memory()
        migrate(self._connection, SQLITE, to=len(SQLITE), time_ns=clock.time_ns())
        self._queries = SqliteQueries(self._connection)
        self._group = GroupCommit(SqliteDatabase(self._connection), InlineRunner())
        self._is_closed = False

    def subscribe(self, listener: Callable[[Sequence[OrderEvent]], None]) -> None:
        """Call `listener` with the events of each commit."""
        self._group.subscribe(listener)

    def readmit(self, account_id: AccountId) -> None:
        """Take entries of an account again, after a commit that it was part of failed."""
        self._group.readmit(account_id)

    async def append(self, entry: Entry) -> Stored | KeyTaken | Replayed:
        """Store an entry, whole or not at all."""
        return await self._group.append(entry)

    async def close(self) -> None:
        """Forget everything. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._group.close()
        self._connection.close()

    async def _write(self, work: Work[ResultT], account_id: AccountId | None = None) -> ResultT:
        return await self._group.write(work)

    async def _read(self, work: Work[ResultT]) -> ResultT:
        if self._is_closed:
            raise UsageError("the store is closed")
        return drive(work(self._queries))

    async def _look(self, work: Work[ResultT]) -> ResultT:
        return await self._read(work)
