"""The schema of a store in Postgres: as it stands, and moved by the role that owns it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager

import psycopg
from psycopg import sql

from tradegw._generated.migrations import POSTGRES
from tradegw._generated.queries import Queries, SchemaMigrationRow
from tradegw.store.postgres_advisory import AdvisoryLock
from tradegw.store.postgres_connections import (
    Connection,
    FreshCursors,
    connect,
    queries_on,
    run,
    store_error,
)
from tradegw.store.steps import read_applied, take_steps

__all__ = ["PostgresSchema", "list_applied_postgres", "migrate_postgres"]

_APPEND_ONLY = ("order_event", "fill")
_OWNERS = ("schema_migration", "chain_checkpoint", "archived_fill")


async def migrate_postgres(
    url: str, *, to: int | None = None, time_ns: int, grant_to: str | None = None
) -> Sequence[int]:
    """Bring a store's schema to version `to`, by default the newest, forwards or back.

    Args:
        url: As the role that owns the schema, or shall.
        grant_to: A role that is given what a gateway needs of the tables, and no more.

    Returns:
        The numbers of the steps that were taken, or taken back, in that order.

    Raises:
        SchemaMismatch: A step that is to be taken back is unknown to this release.
        ConfigError: The database is another program's, or as `connect`.
        StoreUnavailable: The server cannot be reached, or refuses.
    """
    async with _schema(url, read_only=False) as schema:
        return await take_steps(
            schema,
            POSTGRES,
            to=len(POSTGRES) if to is None else to,
            time_ns=time_ns,
            after="" if grant_to is None else _grants(grant_to),
        )


async def list_applied_postgres(url: str) -> Sequence[SchemaMigrationRow]:
    """Return the steps that a store has taken; see `steps.read_applied`."""
    async with _schema(url, read_only=True) as schema:
        return await read_applied(schema)


@asynccontextmanager
async def _schema(url: str, *, read_only: bool) -> AsyncGenerator[PostgresSchema]:
    connection = await connect(url, read_only=read_only)
    try:
        yield PostgresSchema(connection)
    except psycopg.Error as e:
        raise store_error(e, "the store's schema cannot be used") from e
    finally:
        await connection.close()


class PostgresSchema:
    """A `steps.Schema`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def queries(self) -> Queries:
        """The queries."""
        return queries_on(FreshCursors(self._connection))

    async def list_tables(self) -> Collection[str]:
        """Return the names of the tables in the schema where ours are, or would be."""
        cursor = await self._connection.execute(
            "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()"
        )
        return {row[0] for row in await cursor.fetchall()}

    async def begin(self) -> None:
        """Begin a transaction, when nobody else moves the schema."""
        await run(self._connection, "BEGIN")
        # Long steps of another process are waited for.
        await run(self._connection, "SET LOCAL lock_timeout = 0")
        await self._connection.execute(
            "SELECT pg_advisory_xact_lock($1::int, hashtext(current_schema()))",
            (AdvisoryLock.SCHEMA,),
        )

    async def run(self, script: str) -> None:
        """Run statements inside the transaction."""
        await run(self._connection, script)

    async def commit(self) -> None:
        """Make the transaction durable."""
        await run(self._connection, "COMMIT")

    async def roll_back(self) -> None:
        """End the transaction, if there is one."""
        if self._connection.info.transaction_status in {
            psycopg.pq.TransactionStatus.INTRANS,
            psycopg.pq.TransactionStatus.INERROR,
        }:
            await run(self._connection, "ROLLBACK")


def _grants(role: str) -> str:
    """Return statements that give a role what a gateway needs, and take what it must not have."""
    name = sql.Identifier(role).as_string()
    tables = "ALL TABLES IN SCHEMA %I"
    statements = [
        ("", f"GRANT USAGE ON SCHEMA %I TO {name}"),
        ("", f"REVOKE ALL ON {tables} FROM {name}"),
        ("", f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {name}"),
        *((table, f"REVOKE UPDATE, DELETE ON %I.{table} FROM {name}") for table in _APPEND_ONLY),
        # What may be deleted is said by the owner, who archives.
        *((table, f"REVOKE INSERT, UPDATE, DELETE ON %I.{table} FROM {name}") for table in _OWNERS),
    ]
    executed = "".join(_execute(statement, table) for table, statement in statements)
    return f"DO $grants$ BEGIN {executed} END $grants$"


def _execute(statement: str, table: str) -> str:
    """Return what executes a statement, if its table is there: an older schema has fewer."""
    text = f"EXECUTE format({sql.Literal(statement).as_string()}, current_schema());"
    if not table:
        return text
    return f"IF to_regclass(format('%I.{table}', current_schema())) IS NOT NULL THEN {text} END IF;"
