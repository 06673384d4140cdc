"""A store in Postgres: a transaction for each account's waiting entries, accounts beside each other.

Its schema is made and moved by `tradegw migrate`, as a role that may; this runs as one that may not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncRawCursor
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, PoolClosed

from tradegw._generated.migrations import POSTGRES
from tradegw.errors import LeaseLost, StoreError, StoreInUse, StoreUnavailable, UsageError
from tradegw.model import AccountId, OrderEvent
from tradegw.ports import AccountRecord, Entry, KeyTaken, Replayed, Stored
from tradegw.store import writes
from tradegw.store.groups import GroupCommit, Listener, LoopRunner
from tradegw.store.postgres_connections import (
    Connection,
    FreshCursors,
    connect,
    conninfo_of,
    prepare,
    queries_on,
    run,
    store_error,
)
from tradegw.store.postgres_lock import GatewayLock
from tradegw.store.postgres_schema import PostgresSchema
from tradegw.store.postgres_writer import Fence, PostgresDatabase
from tradegw.store.sqlstore import SqlStore, Work
from tradegw.store.steps import check, read_applied

__all__ = ["CONNECTIONS", "PostgresStore", "open_postgres"]

_log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

CONNECTIONS = 10

CLOSE_WITHIN_S = 5.0
"""How long closing waits for what is being committed. A server that is silent may be so for ever."""

_TAKE_TIMEOUT_S = 5.0
"""How long a write or a read waits for a connection. Then the store is away."""

_POOL_CLOSE_S = 2.0

_RECONNECT_S = 2.0
"""The pool's own attempts end soon, and whoever wants a connection begins anew: its pauses would grow."""


async def open_postgres(
    url: str, *, connections: int = CONNECTIONS, read_only: bool = False, is_shared: bool = False
) -> PostgresStore:
    """Open a store in Postgres, whose schema must be one that this release runs on.

    Args:
        url: libpq's, with all that libpq knows: several hosts, TLS, timeouts.
        connections: The most to open, beside the one that holds the lock.
        read_only: Read beside whoever writes, on any server.
        is_shared: Serve it beside other gateways that do. An account can be written once `fence` was told
            under which token of its lease.

    Raises:
        ConfigError: The URL is wrong, the database is another program's, the server is older than 15, or
            `synchronous_commit` is below `on`.
        StoreInUse: Another gateway serves the store, and shares it with nobody or we would not.
        SchemaMismatch: It is for another release, or was never made.
        StoreUnavailable: The server cannot be reached, or does not let us in.
    """
    lock = None if read_only else GatewayLock(url, is_shared=is_shared)
    if lock is not None:
        await lock.take()
    try:
        connection = await connect(url, read_only=read_only)
        try:
            check(await read_applied(PostgresSchema(connection)), POSTGRES)
        except psycopg.Error as e:
            raise store_error(e, "the store cannot be read") from e
        finally:
            await connection.close()
        pool = _Pool(url, lock, size=connections, read_only=read_only)
        await pool.open()
    except BaseException:
        if lock is not None:
            await lock.release()
        raise
    return PostgresStore(pool, lock, is_shared=is_shared)


class PostgresStore(SqlStore):
    """A store in Postgres. Made by `open_postgres`.

    Its methods belong to one event loop.
    """

    def __init__(self, pool: _Pool, lock: GatewayLock | None, *, is_shared: bool) -> None:
        super().__init__()
        self._is_shared = is_shared
        self._pool = pool
        self._lock = lock
        self._listeners: list[Listener] = []
        self._groups: dict[AccountId | None, GroupCommit] = {}
        self._leaving: set[GroupCommit] = set()

    def subscribe(self, listener: Callable[[Sequence[OrderEvent]], None]) -> None:
        """Call `listener` with the events of each commit."""
        self._check_writing()
        self._listeners.append(listener)

    def readmit(self, account_id: AccountId) -> None:
        """Take entries of an account again, after a commit that it was part of failed."""
        self._group(account_id).readmit(account_id)

    async def append(self, entry: Entry) -> Stored | KeyTaken | Replayed:
        """Store an entry, durably, whole or not at all."""
        return await self._group(entry.account_id).append(entry)

    async def close(self) -> None:
        """Finish what was appended, and let go of the store. Safe to call twice.

        What the server does not answer for in time may be stored, or not: `CommitUnknown`.
        """
        if self._pool.is_closing:
            return
        self._pool.is_closing = True
        await asyncio.gather(*map(_end, (*self._groups.values(), *self._leaving)))
        await self._pool.close()
        if self._lock is not None:
            await self._lock.release()

    async def put_account(self, record: AccountRecord) -> AccountRecord:
        """Store an account, or update the one of that name, under its lease if that is ours."""
        held = record.account_id if record.account_id in self._groups else None
        return await self._write(lambda q: writes.put_account(q, record), held)

    async def fence(self, account_id: AccountId, token: int | None) -> None:
        """Write an account under this token from now on, or no more. For a store that gateways share.

        What was appended under an earlier token is decided when this returns.
        """
        group = self._groups.pop(account_id, None)
        if group is not None:
            self._leaving.add(group)
            await group.close()
            self._leaving.discard(group)
        if token is not None:
            self._groups[account_id] = self._make_group(Fence(account_id=account_id, token=token))

    async def _write(self, work: Work[ResultT], account_id: AccountId | None = None) -> ResultT:
        return await self._group(account_id if self._is_shared else None).write(work)

    async def _look(self, work: Work[ResultT]) -> ResultT:
        return await self._read(work)

    async def _read(self, work: Work[ResultT]) -> ResultT:
        if self._pool.is_closing:
            raise UsageError("the store is closed")
        asked = _cancellations()
        try:
            return await self._read_once(work)
        finally:
            if _cancellations() > asked:
                # Whatever else came of it. Before Python 3.12 `asyncio.wait_for`, by which the pool waits,
                # may return in spite of it; and whoever asked would then wait for what nobody ends.
                raise asyncio.CancelledError

    async def _read_once(self, work: Work[ResultT]) -> ResultT:
        try:
            async with self._pool.reading() as connection:
                return await work(queries_on(FreshCursors(connection)))
        except psycopg.Error as e:
            raise store_error(e, "the store cannot be read") from e

    def _group(self, account_id: AccountId | None) -> GroupCommit:
        """Return who writes an account; None: who writes small facts beside the orders."""
        self._check_writing()
        group = self._groups.get(account_id)
        if group is None:
            if self._is_shared and account_id is not None:
                raise LeaseLost(f"this gateway does not hold the lease of account {account_id}")
            group = self._groups[account_id] = self._make_group(None)
        return group

    def _make_group(self, fence: Fence | None) -> GroupCommit:
        return GroupCommit(PostgresDatabase(self._pool, fence), LoopRunner(), self._listeners)

    def _check_writing(self) -> None:
        if self._pool.is_closing:
            raise UsageError("the store is closed")
        if self._lock is None:
            raise UsageError("the store was opened for reading")


async def _end(group: GroupCommit) -> None:
    try:
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await group.close()
    except TimeoutError:
        _log.warning(
            "the store has not answered for %g s, and is closed: what was being committed may be stored, or "
            "not; the next start tells",
            CLOSE_WITHIN_S,
        )
        await group.abandon()


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


class _Pool:
    """The store's connections. Readers get half of them, so that they keep no writer waiting."""

    def __init__(self, url: str, lock: GatewayLock | None, *, size: int, read_only: bool) -> None:
        self.is_closing = False
        self._lock = lock
        self._read_only = read_only
        self._readers = asyncio.Semaphore(max(1, size if read_only else size // 2))
        self._failure: Exception | None = None
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            conninfo_of(url, read_only=read_only),
            connection_class=Connection,
            kwargs={
                "autocommit": True,
                "cursor_factory": AsyncRawCursor,
                "row_factory": tuple_row,
            },
            min_size=1,
            max_size=max(2, size),
            open=False,
            configure=self._configure,
            timeout=_TAKE_TIMEOUT_S,
            reconnect_timeout=_RECONNECT_S,
        )

    async def open(self) -> None:
        await self._pool.open()
        await self.give_back(await self._take())

    async def close(self) -> None:
        # Longer than attempts to connect are worth now; it closes all the same.
        await self._pool.close(timeout=_POOL_CLOSE_S)

    async def take(self) -> Connection:
        """Return a connection for writing.

        Raises:
            StoreError: There is none.
        """
        return await self._take()

    async def give_back(self, connection: Connection) -> None:
        await self._pool.putconn(connection)

    async def weed(self) -> None:
        try:
            await self._pool.check()
        except psycopg.Error as e:
            _log.debug("looking through the connections: %s", e)

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Connection]:
        """Yield a connection in a snapshot, in a pipeline: it begins with the first question."""
        async with self._readers:
            connection = await self._take()
            is_whole = False
            try:
                async with connection.pipeline():
                    await run(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    yield connection
                    await run(connection, "COMMIT")
                is_whole = True
            finally:
                if not is_whole:
                    # Cancelled or failed, at any point of a pipeline: cheaper to replace than to mend.
                    await connection.close()
                await self.give_back(connection)

    async def _take(self) -> Connection:
        try:
            return await self._pool.getconn()
        except PoolClosed as e:
            raise StoreUnavailable("the store is closed") from e
        except psycopg.OperationalError as e:
            failure = self._failure
            if isinstance(failure, StoreInUse):
                raise StoreInUse(str(failure)) from failure
            raise StoreUnavailable(
                f"no connection to the store within {_TAKE_TIMEOUT_S:g} s"
                + (f": {' '.join(str(failure).split())}" if failure else "")
            ) from e

    async def _configure(self, connection: Any) -> None:
        try:
            await prepare(connection, read_only=self._read_only)
            if self._lock is not None:
                await self._lock.join(connection)
        except BaseException as e:
            self._failure = e if isinstance(e, (StoreError, psycopg.Error)) else None
            await connection.close()
            raise
        self._failure = None
