"""Brings a database's schema forwards and back, by the steps of `sql/migrations`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from tradegw._generated.migrations import Migration
from tradegw._generated.queries import SchemaMigrationRow, SqliteQueries
from tradegw.errors import ConfigError, SchemaMismatch
from tradegw.store.connections import drive

__all__ = ["check", "list_applied", "migrate"]


def list_applied(connection: sqlite3.Connection) -> Sequence[SchemaMigrationRow]:
    """Return the steps that a database has taken; none for an empty one.

    Raises:
        ConfigError: The database is somebody else's.
    """
    tables = {
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    }
    if "schema_migration" in tables:
        return drive(SqliteQueries(connection).list_schema_migrations())
    if tables:
        raise ConfigError(
            f"expected a store of tradegw, or an empty file; found a database with the tables "
            f"{', '.join(sorted(tables)[:5])}"
        )
    return ()


def check(applied: Sequence[SchemaMigrationRow], known: Sequence[Migration]) -> None:
    """Refuse a schema that this release may not run on.

    Raises:
        SchemaMismatch: The schema states an oldest release that is newer than this one, or lacks steps.
    """
    release = version("tradegw")
    for row in applied:
        if row.number > len(known) and _parts(row.oldest_release) > _parts(release):
            raise SchemaMismatch(
                f"the store's schema is version {row.number} ({row.name}), for tradegw "
                f"{row.oldest_release} and newer; this is tradegw {release}, which knows version "
                f"{len(known)}"
            )
    if len(applied) < len(known):
        raise SchemaMismatch(
            f"the store's schema is version {len(applied)}; tradegw {release} needs version "
            f"{len(known)}: start the gateway, or run `tradegw migrate`"
        )


def migrate(
    connection: sqlite3.Connection, known: Sequence[Migration], *, to: int, time_ns: int
) -> Sequence[int]:
    """Take the steps from where a database stands to version `to`, all in one transaction.

    Returns:
        The numbers of the steps that were taken, or taken back, in that order.

    Raises:
        SchemaMismatch: A step that is to be taken back is unknown here.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read inside the transaction: another process may have been here first.
        at = len(list_applied(connection))
        if max(at, to) > len(known):
            raise SchemaMismatch(
                f"expected schema versions up to {len(known)}, which this release knows; "
                f"asked to go from {at} to {to}"
            )
        taken: list[int] = []
        for migration in known[at:to]:
            _run(connection, migration.up)
            drive(
                SqliteQueries(connection).insert_schema_migration(
                    number=migration.number,
                    name=migration.name,
                    applied_time_ns=time_ns,
                    oldest_release=migration.oldest_release,
                )
            )
            taken.append(migration.number)
        for migration in reversed(known[to:at]):
            if migration.number > 1:  # The first one takes the table itself away.
                drive(SqliteQueries(connection).delete_schema_migration(number=migration.number))
            _run(connection, migration.down)
            taken.append(migration.number)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return taken


def _run(connection: sqlite3.Connection, script: str) -> None:
    # `executescript` would commit what is open.
    for statement in _statements(script):
        connection.execute(statement)


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


def _parts(release: str) -> tuple[int, ...]:
    # A pre-release counts as its release: 0.2.0rc1 knows what 0.2.0 knows.
    return tuple(int(part) for part in re.findall(r"\d+", release)[:3])
