"""Groups of writes on Postgres: one transaction at a time, sent as a pipeline, and what became of its COMMIT.

A group that nothing is wrong with takes one round trip, COMMIT included, however many entries it has: the
server itself checks what they take for granted, and carries out nothing that stands behind an error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from tradegw._generated.queries import Queries
from tradegw.errors import CommitUnknown, LeaseLost, StoreError, StoreUnavailable
from tradegw.model import AccountId
from tradegw.ports import Head
from tradegw.store.groups import CommitFailed, Doubt, Fault, Verdict
from tradegw.store.postgres_batch import Batch
from tradegw.store.postgres_connections import (
    Backend,
    Connection,
    FreshCursors,
    queries_on,
    run,
    store_error,
)

__all__ = ["Connections", "Fence", "PostgresDatabase"]

_log = logging.getLogger(__name__)

_ASK_AGAIN_S = 0.05
_ASK_AGAIN_MAX_S = 1.0

_FENCE = "order_event_pkey"
"""Broken when somebody else wrote to the account: our numbers, and what we remember, are out of date."""

_IN_FORCE = """
WITH held AS (SELECT token FROM lease WHERE account_id = $1 FOR KEY SHARE)
SELECT 1 / count(*) FROM held WHERE token = $2
"""
"""An error unless the token is in force: then nothing that follows in the pipeline is done. The lock is weak
enough for a renewal, which changes no key, and keeps a new holder waiting until we have committed."""

_END = """
SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
WHERE pid = $1 AND extract(epoch FROM backend_start) = $2::numeric AND pid <> pg_backend_pid()
"""

_PASSING = (errors.DeadlockDetected, errors.SerializationFailure)


class Connections(Protocol):
    """Where connections for writing come from."""

    async def take(self) -> Connection:
        """Return one that nobody else uses."""
        ...

    async def give_back(self, connection: Connection) -> None:
        """Take it back, in whatever state it is."""
        ...

    async def weed(self) -> None:
        """Look through those that nobody uses, and replace the dead."""
        ...

    @property
    def is_closing(self) -> bool:
        """Whether the store is being closed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Under which token an account is written."""

    account_id: AccountId
    token: int


class PostgresDatabase:
    """A `groups.Database`: the transactions of one account, or those of none.

    Args:
        fence: Write only while this is the token in force. None: nobody else may write.
    """

    Error = psycopg.Error

    def __init__(self, connections: Connections, fence: Fence | None = None) -> None:
        self._connections = connections
        self._fence = fence
        self._connection: Connection | None = None
        self._backend: Backend | None = None
        # A COMMIT that was interrupted on the server while it waited for a standby succeeds, with a warning.
        self._warnings: list[str] = []

    @property
    def queries(self) -> Queries:
        """The queries, inside the transaction, each answered before the next is asked."""
        return queries_on(FreshCursors(self._taken()))

    async def begin(self) -> None:
        """Begin a transaction, whose statements are answered one by one."""
        connection = await self._take()
        async with connection.pipeline():
            await self._begin(connection)

    async def execute(self, command: str) -> None:
        """Run SAVEPOINT, ROLLBACK TO or RELEASE."""
        await run(self._taken(), command)

    async def roll_back(self) -> None:
        """End the transaction and leave nothing of it."""
        await self._let_go(undo=True)

    async def commit(self) -> None:
        """Make the transaction durable.

        Raises:
            CommitFailed: It may be durable, or not.
        """
        try:
            await run(self._taken(), "COMMIT")
        except psycopg.Error as e:
            raise CommitFailed from e
        await self._end()

    @asynccontextmanager
    async def together(self) -> AsyncGenerator[Queries]:
        """Begin, yield queries that are sent without waiting and taken to concern one row each, and commit.

        Raises:
            Doubt: A row count was another.
            CommitFailed: It may be durable, or not.
        """
        connection = await self._take()
        batch = Batch(connection)
        doubt: Doubt | None = None
        is_asked = False
        try:
            async with connection.pipeline() as pipeline:
                await self._begin(connection)
                try:
                    yield batch
                    await batch.send()
                    if batch.guessed:
                        await pipeline.sync()
                        if any(cursor.rowcount != 1 for cursor in batch.guessed):
                            raise Doubt
                    is_asked = True
                    await run(connection, "COMMIT")
                except Doubt as e:
                    doubt = e  # An error that the pipeline still has to tell says more.
        except psycopg.Error as e:
            # Inside a transaction that failed: COMMIT stood behind the error, and was not carried out.
            if is_asked and connection.info.transaction_status is not TransactionStatus.INERROR:
                raise CommitFailed from e
            raise
        if doubt is not None:
            raise doubt
        await self._end()

    async def _take(self) -> Connection:
        self._connection = connection = await self._connections.take()
        self._backend = connection.backend
        self._warnings.clear()
        connection.add_notice_handler(self._hear)
        return connection

    async def _begin(self, connection: Connection) -> None:
        await run(connection, "BEGIN")
        if (fence := self._fence) is not None:
            await connection.execute(_IN_FORCE, (fence.account_id, fence.token))

    async def _end(self) -> None:
        """Believe what COMMIT said."""
        if self._warnings:
            raise CommitFailed from psycopg.OperationalError(
                f"COMMIT was answered with {self._warnings[0]}"
            )
        await self._let_go()

    def fault(self, error: Exception) -> Fault:
        """Say whose an exception is."""
        if isinstance(error, _PASSING) or self._taken_is_broken():
            return Fault.PASSING
        if isinstance(error, errors.DivisionByZero):
            return Fault.DATABASE  # `_IN_FORCE`: nothing else divides.
        if isinstance(error, errors.UniqueViolation) and error.diag.constraint_name == _FENCE:
            return Fault.DATABASE
        # In a pipeline the first error speaks for itself, and those after it say only that there was one.
        if isinstance(error, (psycopg.IntegrityError, psycopg.DataError, errors.PipelineAborted)):
            return Fault.JOB
        return Fault.DATABASE

    def explain(self, error: Exception) -> StoreError:
        """Return the error of ours that an exception means, before COMMIT was asked."""
        if self._fence is not None and isinstance(error, errors.DivisionByZero):
            return self._lease_lost()
        return store_error(error, "nothing was stored")

    def _lease_lost(self) -> LeaseLost:
        assert self._fence is not None
        return LeaseLost(
            f"nothing was stored: the lease of account {self._fence.account_id} is another gateway's; our "
            f"token was {self._fence.token}"
        )

    async def find_out(
        self, error: Exception, heads: Mapping[AccountId, Head]
    ) -> StoreError | Verdict:
        """End the connection on the server, however long that takes, and read what was written.

        Until then nobody is answered, and nothing else of the account is written. Only closing the store
        ends the wait.
        """
        await self._let_go()
        text = f"COMMIT failed: {' '.join(str(error).split())}"
        _log.warning("%s; finding out what it left", text)
        delay_s = _ASK_AGAIN_S
        while not self._connections.is_closing:
            try:
                is_stored = await self._ask(heads)
            except (psycopg.Error, StoreError) as e:
                _log.warning("the store cannot be asked what a COMMIT left: %s", e)
                is_stored = None
            if is_stored is not None:
                _log.warning("that COMMIT is found %s", "stored" if is_stored else "undone")
                if not heads:
                    return Verdict.AGAIN
                return Verdict.STORED if is_stored else StoreUnavailable(f"{text}; it was undone")
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _ASK_AGAIN_MAX_S)
        return CommitUnknown(text)

    async def _ask(self, heads: Mapping[AccountId, Head]) -> bool | None:
        """Look for the last event of each account. None: the transaction is not over yet.

        It is when nobody serves its connection any more: what is still on its way to the server is never read
        there then. What was written tells whether it was committed. The transaction that looks writes
        something too, if only to the log: whatever a standby must confirm, it confirms in order, so what we
        saw is confirmed when this is.
        """
        connection = await self._connections.take()
        self._connection = connection
        connection.add_notice_handler(self._hear)
        try:
            if not await self._is_ended(connection):
                return None
            await run(connection, "BEGIN")
            await connection.execute("SELECT pg_logical_emit_message(true, 'tradegw', 'asked')")
            queries = queries_on(FreshCursors(connection))
            found = [
                await queries.list_event_hashes(
                    account_id=account_id, after_seq=head.seq - 1, limit_rows=1
                )
                for account_id, head in heads.items()
            ]
            self._warnings.clear()
            await run(connection, "COMMIT")
            if self._warnings:
                return None
        finally:
            await self._let_go(undo=True)
        are = [
            [row.hash for row in rows] == [head.hash]
            for rows, head in zip(found, heads.values(), strict=True)
        ]
        assert len(set(are)) <= 1, f"half of a transaction is stored: {heads}"
        return all(are)

    async def _is_ended(self, connection: Connection) -> bool:
        """End who served the transaction. Not there: it has ended, or it was another server's."""
        backend = self._backend
        assert backend is not None, "a connection for writing knows its backend"
        cursor = await connection.execute(_END, (backend.pid, backend.started))
        return all(row[0] for row in await cursor.fetchall())

    def _hear(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            self._warnings.append(f"{diagnostic.message_primary} {diagnostic.message_detail or ''}")

    def _taken(self) -> Connection:
        assert self._connection is not None, "no transaction is open"
        return self._connection

    def _taken_is_broken(self) -> bool:
        return self._connection is not None and self._connection.broken

    async def _let_go(self, *, undo: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.remove_notice_handler(self._hear)
        try:
            if undo and not connection.closed:
                await run(connection, "ROLLBACK")
        except psycopg.Error:
            await connection.close()
        is_broken = connection.closed
        await self._connections.give_back(connection)
        if is_broken and not self._connections.is_closing:
            # The others that nobody uses have probably died with it.
            await self._connections.weed()
