"""Connections to Postgres, and what their errors mean. Imported only when a store is there."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, LiteralString, cast

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, errors, waiting
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.numeric import Int8Dumper
from typing_extensions import override

from tradegw._generated.queries import PostgresQueries, Queries
from tradegw.errors import ConfigError, StoreCorrupt, StoreError, StoreUnavailable

__all__ = [
    "Backend",
    "Connection",
    "Cursor",
    "FreshCursors",
    "connect",
    "conninfo_of",
    "prepare",
    "queries_on",
    "run",
    "store_error",
    "tell_durability",
]

Cursor = AsyncRawCursor[TupleRow]


_LOOK_UP_S = 0.1
"""psycopg's own: how often it looks up while it waits."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The process of the server that serves a connection."""

    pid: int
    started: Decimal
    """When, in seconds since the epoch, which no setting of a session writes in another way: numbers of
    processes come again."""


class Connection(AsyncConnection[TupleRow]):
    """A connection that was made ready by `prepare`.

    Attributes:
        backend: Who serves it; None for one that only reads.
    """

    backend: Backend | None = None

    @override
    async def wait(
        self, gen: Any, interval: float = _LOOK_UP_S, timeout: float | None = None
    ) -> Any:
        """Wait for the server. Cancelled, the connection is closed at once.

        psycopg would ask the server to cancel the statement, on a further connection, and wait for both: ten
        seconds and more with a server that is silent, which is what is mostly cancelled here.
        """
        try:
            # Its older releases know no timeout, and ask for none.
            more: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, **more)
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise


_OLDEST_SERVER = 15
_STATEMENTS = 256
"""Above the number of queries; a statement that a connection forgot is prepared again."""

# What a server that went silent is given, unless the URL says otherwise. Without these a write would wait
# for as long as the kernel likes: hours.
_PATIENCE = {
    "connect_timeout": "5",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}

# Rows that come as JSON are joined with a table by its key. A plan that reads it through would be made while
# it is small, and kept while it grows.
_PLANS = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"

# A lock of somebody's shell does not hold a write for ever, and a process that sleeps inside a transaction
# (a debugger, a stopped machine) holds no lock of ours for ever.
_LIMITS = "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'"


def conninfo_of(url: str, *, read_only: bool) -> str:
    """Return what libpq connects with: the URL, and what it leaves open.

    Raises:
        ConfigError: libpq cannot read the URL.
    """
    try:
        given = conninfo_to_dict(url)
        defaults: dict[str, Any] = {
            "application_name": f"tradegw {os.getpid()}",
            # Of several hosts the one that takes writes; a reader is content with any.
            "target_session_attrs": "any" if read_only else "read-write",
            **_PATIENCE,
        }
        return make_conninfo(url, **{k: v for k, v in defaults.items() if k not in given})
    except psycopg.ProgrammingError as e:
        # It quotes what it could not read: the URL, or the password itself.
        told = re.sub(r'"[^"]*"', "...", str(e)).strip()
        raise ConfigError(f"store.url: libpq cannot read it: {told}") from None


async def connect(url: str, *, read_only: bool) -> Connection:
    """Connect, and see that the server is one that keeps our promises.

    Raises:
        ConfigError: The URL is wrong, the server is too old, or would lose what it confirmed.
        StoreUnavailable: The server cannot be reached, or does not let us in.
    """
    try:
        connection = await Connection.connect(
            conninfo_of(url, read_only=read_only),
            autocommit=True,
            cursor_factory=AsyncRawCursor,
            row_factory=tuple_row,
        )
    except psycopg.Error as e:
        raise store_error(e, "the store cannot be reached") from e
    try:
        await prepare(connection, read_only=read_only)
    except BaseException as e:
        await connection.close()
        if isinstance(e, psycopg.Error):
            raise store_error(e, "the store cannot be used") from e
        raise
    return connection


async def prepare(connection: Connection, *, read_only: bool) -> None:
    """Make a new connection ready for the queries.

    Raises:
        ConfigError: The server is too old, would lose what it confirmed, or hides the role's own sessions.
    """
    found = connection.info.server_version // 10_000
    if found < _OLDEST_SERVER:
        raise ConfigError(
            f"store.url: expected Postgres {_OLDEST_SERVER} or newer; the server is {found}",
            reason="STORE_TOO_OLD",
        )
    # Every int as bigint: each width of a number would be another statement to prepare.
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.prepare_threshold = 0
    connection.prepared_max = _STATEMENTS
    await connection.execute(_LIMITS, prepare=False)
    if read_only:
        return
    await connection.execute(_PLANS, prepare=False)
    cursor = await connection.execute(
        """
        SELECT
            current_setting('synchronous_commit'), current_user::text, pg_backend_pid(),
            (SELECT extract(epoch FROM backend_start) FROM pg_stat_activity WHERE pid = pg_backend_pid())
        """
    )
    row = await cursor.fetchone()
    assert row is not None
    level, role, pid, started = row
    if started is None:
        # A COMMIT whose answer is lost could not be waited for: who carries it out would not be found.
        raise ConfigError(
            f"store.url: role {role} cannot see its own sessions in pg_stat_activity, and would not find out "
            "what became of a COMMIT that was cut off: log in as that role, or grant it pg_read_all_stats",
            reason="STORE_ROLE",
        )
    connection.backend = Backend(pid=pid, started=started)
    if level not in {"on", "remote_apply"}:
        raise ConfigError(
            f"store.url: expected synchronous_commit = on (or remote_apply); the server, database or "
            f"role has it at {level}, and would lose orders that it confirmed",
            reason="SYNCHRONOUS_COMMIT_OFF",
        )


async def tell_durability(url: str) -> tuple[bool, str]:
    """Say whether the server keeps what it confirmed, whichever server comes after it, and how.

    Raises:
        ConfigError, StoreUnavailable: As `connect`.
    """
    connection = await connect(url, read_only=False)
    try:
        cursor = await connection.execute(
            """
            SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
                (SELECT count(*) FROM pg_stat_replication)
            """
        )
        row = await cursor.fetchone()
    except psycopg.Error as e:
        raise store_error(e, "the store cannot be used") from e
    finally:
        await connection.close()
    assert row is not None
    level, names, followers = row
    if names:
        return True, f"synchronous_commit = {level}, confirmed by {names}"
    following = f"; {followers} follow, and none confirms" if followers else ""
    return (
        not followers,
        f"synchronous_commit = {level}, by no standby: promoting one loses orders{following}",
    )


class FreshCursors:
    """Stands for one cursor and takes a new one for each statement: a pipeline answers to who asked."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, query: LiteralString, params: Sequence[Any] | None = None) -> Cursor:
        """Run a statement, or send it, inside a pipeline."""
        cursor = cast("Cursor", self._connection.cursor())
        return await cursor.execute(query, params)


def queries_on(cursors: FreshCursors) -> Queries:
    """Return the queries on a connection, in a pipeline or not."""
    return PostgresQueries(cast("Cursor", cursors))


async def run(connection: Connection, command: str) -> None:
    """Run a command without parameters or rows."""
    text: Any = command  # psycopg wants literals: ours are commands and scripts of migrations.
    await connection.execute(text, prepare=False)


def store_error(error: Exception, what: str) -> StoreError:
    """Return the error of ours that an exception of psycopg means, before COMMIT was asked."""
    state = getattr(error, "sqlstate", None)
    text = f"{what}: {' '.join(str(error).split())}" + (f" ({state})" if state else "")
    if isinstance(error, (errors.DataCorrupted, errors.IndexCorrupted)):
        return StoreCorrupt(text)
    return StoreUnavailable(text)
