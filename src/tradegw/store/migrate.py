"""The schema of a SQLite database, forwards and back."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence

from tradegw._generated.migrations import Migration
from tradegw._generated.queries import Queries, SchemaMigrationRow, SqliteQueries
from tradegw.store.connections import drive
from tradegw.store.steps import check, read_applied, take_steps

__all__ = ["check", "list_applied", "migrate"]


def list_applied(connection: sqlite3.Connection) -> Sequence[SchemaMigrationRow]:
    """Return the steps that a database has taken; see `steps.read_applied`."""
    return drive(read_applied(_SqliteSchema(connection)))


def migrate(
    connection: sqlite3.Connection, known: Sequence[Migration], *, to: int, time_ns: int
) -> Sequence[int]:
    """Take the steps from where a database stands to version `to`; see `steps.take_steps`."""
    return drive(take_steps(_SqliteSchema(connection), known, to=to, time_ns=time_ns))


class _SqliteSchema:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queries = SqliteQueries(connection)

    @property
    def queries(self) -> Queries:
        return self._queries

    async def list_tables(self) -> Collection[str]:
        found = self._connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {name for (name,) in found}

    async def begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    async def run(self, script: str) -> None:
        # `executescript` would commit what is open.
        for statement in _statements(script):
            self._connection.execute(statement)

    async def commit(self) -> None:
        self._connection.execute("COMMIT")

    async def roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _statements(script: str) -> Iterator[str]:
    *pieces, rest = script.split(";")
    statement = ""
    for piece in pieces:
        statement += f"{piece};"
        # A semicolon inside a trigger, a string or a comment ends nothing.
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if (statement + rest).strip():
        yield statement + rest
