"""Archiving a store in Postgres: as the role that owns it, on one connection, beside gateways that go on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg

from tradegw._generated.migrations import POSTGRES
from tradegw.errors import ConfigError, StoreInUse
from tradegw.store.archive import Work
from tradegw.store.postgres_advisory import AdvisoryLock
from tradegw.store.postgres_connections import (
    Connection,
    FreshCursors,
    connect,
    queries_on,
    run,
    store_error,
)
from tradegw.store.postgres_schema import PostgresSchema
from tradegw.store.steps import check, read_applied

__all__ = ["PostgresAccess", "open_postgres_access"]

ResultT = TypeVar("ResultT")


@asynccontextmanager
async def open_postgres_access(url: str) -> AsyncGenerator[PostgresAccess]:
    """Open a store for archiving.

    Raises:
        ConfigError: The role may not delete, or as `connect`.
        StoreInUse: Somebody archives it already.
        SchemaMismatch: It is for another release.
        StoreUnavailable: The server cannot be reached, or refuses.
    """
    connection = await connect(url, read_only=False)
    try:
        try:
            check(await read_applied(PostgresSchema(connection)), POSTGRES)
            await _check_role(connection)
            await _lock(connection)
        except psycopg.Error as e:
            raise store_error(e, "the store cannot be archived") from e
        yield PostgresAccess(connection)
    finally:
        await connection.close()


async def _check_role(connection: Connection) -> None:
    cursor = await connection.execute(
        "SELECT current_user::text, has_table_privilege('order_event', 'DELETE')"
        " AND has_table_privilege('fill', 'DELETE')"
        " AND has_table_privilege('chain_checkpoint', 'INSERT')"
    )
    row = await cursor.fetchone()
    assert row is not None
    if not row[1]:
        raise ConfigError(
            f"store.url: role {row[0]} may not delete events, as a gateway's must not; archive as the role "
            "that owns the tables",
            reason="STORE_ROLE",
        )


async def _lock(connection: Connection) -> None:
    cursor = await connection.execute(
        "SELECT pg_try_advisory_lock($1::int, hashtext(current_schema()))", (AdvisoryLock.ARCHIVE,)
    )
    row = await cursor.fetchone()
    if row is None or not row[0]:
        raise StoreInUse("somebody archives the store already")


class PostgresAccess:
    """An `archive.Access`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, work: Work[ResultT]) -> ResultT:
        """Run a unit of work inside one snapshot."""
        return await self._run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", work)

    async def write(self, work: Work[ResultT]) -> ResultT:
        """Run a unit of work, durably, whole or not at all."""
        return await self._run("BEGIN", work)

    async def _run(self, begin: str, work: Work[ResultT]) -> ResultT:
        connection = self._connection
        try:
            await run(connection, begin)
            try:
                result = await work(queries_on(FreshCursors(connection)))
            except BaseException:
                if not connection.closed:
                    await run(connection, "ROLLBACK")
                raise
            await run(connection, "COMMIT")
        except psycopg.Error as e:
            raise store_error(e, "archiving stopped; it may be started again") from e
        return result
