"""Groups of writes on Postgres: one transaction at a time, sent as a pipeline, and what became of its COMMIT.

A group that nothing is wrong with takes two round trips, however many statements it has: all of them with
their checks, then COMMIT.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, Protocol, cast

import psycopg
from psycopg import errors

from tradegw._generated.queries import Queries
from tradegw.errors import CommitUnknown, LeaseLost, StoreError, StoreUnavailable
from tradegw.model import AccountId
from tradegw.ports import Head
from tradegw.store.groups import Doubt, Fault, Verdict
from tradegw.store.postgres_connections import (
    Connection,
    Cursor,
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
SELECT 1 / (token = $2)::int FROM lease WHERE account_id = $1 FOR KEY SHARE
"""
"""An error unless the token is in force: then nothing that follows in the pipeline is done. The lock is weak
enough for a renewal, which changes no key, and keeps a new holder waiting until we have committed."""

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
        self._transaction_id: str | None = None
        # A COMMIT that was interrupted on the server while it waited for a standby succeeds, with a warning.
        self._warnings: list[str] = []

    @property
    def queries(self) -> Queries:
        """The queries, inside the transaction, each answered before the next is asked."""
        return queries_on(FreshCursors(self._taken()))

    async def begin(self) -> None:
        """Begin a transaction, whose statements are answered one by one."""
        async with self.together():
            pass

    async def execute(self, command: str) -> None:
        """Run SAVEPOINT, ROLLBACK TO or RELEASE."""
        await run(self._taken(), command)

    async def roll_back(self) -> None:
        """End the transaction and leave nothing of it."""
        await self._let_go(undo=True)

    async def commit(self) -> None:
        """Make the transaction durable."""
        self._warnings.clear()
        await run(self._taken(), "COMMIT")
        if self._warnings:
            raise psycopg.OperationalError(f"COMMIT was answered with {self._warnings[0]}")
        await self._let_go()

    @asynccontextmanager
    async def together(self) -> AsyncGenerator[Queries]:
        """Begin, and yield queries that are sent without waiting, their row counts taken to be one.

        Raises:
            Doubt: A row count was another.
            LeaseLost: The token in force is another, and stays so: whoever takes the lease over waits until
                this transaction has ended.
        """
        self._connection = connection = await self._connections.take()
        connection.add_notice_handler(self._hear)
        cursors = _Guessing(connection)
        async with connection.pipeline():
            await run(connection, "BEGIN")
            # It tells later whether the transaction is over.
            number = await connection.execute("SELECT pg_current_xact_id()::text")
            fence = self._fence
            held = (
                None
                if fence is None
                else await connection.execute(_IN_FORCE, (fence.account_id, fence.token))
            )
            yield queries_on(cursors)
        row = await number.fetchone()
        assert row is not None
        self._transaction_id = row[0]
        if held is not None and await held.fetchone() is None:
            raise self._lease_lost()
        if any(cursor.rowcount != 1 for cursor in cursors.guessed):
            raise Doubt

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
        """Wait until the transaction is over, however long that takes, and read what was written.

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

        Its number tells only whether it still runs: after a crash or a promotion another transaction may have
        the same. What was written tells whether it was committed. The transaction that looks writes
        something too, if only to the log: whatever a standby must confirm, it confirms in order, so what we
        saw is confirmed when this is.
        """
        connection = await self._connections.take()
        self._connection = connection
        connection.add_notice_handler(self._hear)
        try:
            if await self._is_running(connection):
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

    async def _is_running(self, connection: Connection) -> bool:
        try:
            cursor = await connection.execute(
                "SELECT pg_xact_status($1::xid8)", (self._transaction_id,)
            )
        except errors.InvalidParameterValue:
            return False  # A server that never got as far: it has lost the transaction, or never had it.
        row = await cursor.fetchone()
        return row is not None and row[0] == "in progress"

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
        if is_broken:
            # The others that nobody uses have probably died with it.
            await self._connections.weed()


class _Guessing(FreshCursors):
    """Takes each row count to be one, and remembers whose."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.guessed: list[Cursor] = []

    async def execute(self, query: LiteralString, params: Sequence[Any] | None = None) -> Cursor:
        """Send a statement."""
        return cast("Cursor", _Guess(await super().execute(query, params), self.guessed))


class _Guess:
    def __init__(self, cursor: Cursor, guessed: list[Cursor]) -> None:
        self._cursor = cursor
        self._guessed = guessed
        self.fetchone = cursor.fetchone
        self.fetchall = cursor.fetchall

    @property
    def rowcount(self) -> int:
        self._guessed.append(self._cursor)
        return 1
