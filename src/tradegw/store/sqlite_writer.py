"""Groups of writes on SQLite: one connection, whose statements are answered at once."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress

from tradegw._generated.queries import Queries, SqliteQueries
from tradegw.errors import CommitUnknown, StoreError, StoreUnavailable
from tradegw.model import AccountId
from tradegw.ports import Head
from tradegw.store.connections import store_error
from tradegw.store.groups import CommitFailed, Fault, Verdict

__all__ = ["SqliteDatabase"]

_JOBS_FAULT = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)


class SqliteDatabase:
    """A `groups.Database`. Nothing of it ever suspends.

    Args:
        connection: For writing, in autocommit mode.
    """

    Error = sqlite3.Error

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queries: Queries = SqliteQueries(connection)

    @property
    def queries(self) -> Queries:
        """The queries, inside the transaction."""
        return self._queries

    async def begin(self) -> None:
        """Begin a transaction that will write."""
        self._connection.execute("BEGIN IMMEDIATE")

    async def execute(self, command: str) -> None:
        """Run SAVEPOINT, ROLLBACK TO or RELEASE."""
        self._connection.execute(command)

    async def roll_back(self) -> None:
        """End the transaction and leave nothing of it."""
        self._roll_back()

    async def commit(self) -> None:
        """Make the transaction durable."""
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as e:
            raise CommitFailed from e

    @asynccontextmanager
    async def together(self) -> AsyncGenerator[Queries]:
        """Begin, yield the queries, of which each is answered at once, and commit."""
        await self.begin()
        yield self._queries
        await self.commit()

    def fault(self, error: Exception) -> Fault:
        """Say whose an exception is. A mistake in a statement is found before the database is touched."""
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, _JOBS_FAULT):
            return Fault.DATABASE
        return Fault.JOB

    def explain(self, error: Exception) -> StoreError:
        """Return the error of ours that an exception means, before COMMIT was asked."""
        assert isinstance(error, sqlite3.Error)
        return store_error(error, "nothing was stored")

    async def find_out(
        self, error: Exception, heads: Mapping[AccountId, Head]
    ) -> StoreError | Verdict:
        """Say what a failed COMMIT left behind, after undoing what can be undone.

        SQLite rolls back by itself when COMMIT fails, and in WAL mode nothing of a transaction counts before
        its last page is written. A failing fsync comes after that page, though: a power cut would decide
        whether it was stored. So it would if anything of the transaction still showed.
        """
        assert isinstance(error, sqlite3.Error)
        text = f"COMMIT failed: {error} ({error.sqlite_errorname})"
        is_undone = False
        if self._roll_back() and "FSYNC" not in error.sqlite_errorname:
            with suppress(sqlite3.Error):
                is_undone = not [
                    account_id
                    for account_id, head in heads.items()
                    if await self._seq(account_id) >= head.seq
                ]
        return StoreUnavailable(text) if is_undone else CommitUnknown(text)

    async def _seq(self, account_id: AccountId) -> int:
        row = await self._queries.find_head(account_id=account_id)
        return 0 if row is None else row.seq

    def _roll_back(self) -> bool:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        return not self._connection.in_transaction
