"""The leases of accounts in Postgres, on a connection of their own.

What is written under a lease checks its token: see `postgres_writer.Fence`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from tradegw.model import AccountId
from tradegw.ports import LeaseHolder, LeaseRow
from tradegw.store.postgres_connections import Connection, connect, store_error

__all__ = ["PostgresLeases"]

_log = logging.getLogger(__name__)

_SELECT = """
SELECT
    account_id, token, holder, address, host, pid, process_start, requests_expire,
    expires_ns <= (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint
FROM lease
"""

_READ = _SELECT + "WHERE account_id = $1\n"

_LIST = _SELECT + "WHERE account_id = ANY ($1::uuid[])\n"

# Nothing is sent under a new token before a renewal has said what the venue does with old requests.
_TAKE = """
UPDATE lease SET
    token = token + 1, holder = $2, address = $3, host = $4, pid = $5, process_start = $6,
    requests_expire = true,
    expires_ns = (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint + $7
WHERE account_id = $1
RETURNING token
"""

# Not by its token alone: an operator may have given a lease back in the name of a holder that was stopped,
# and that holder, waking up, must not have it again beside whoever is about to take it.
_RENEW = """
UPDATE lease AS l SET
    address = $3,
    expires_ns = (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint + $4,
    requests_expire = l.account_id = ANY ($5::uuid[])
FROM unnest($1::uuid[], $2::bigint[]) AS held (account_id, token)
WHERE l.account_id = held.account_id AND l.token = held.token AND l.holder = $6
RETURNING l.account_id
"""

_RELEASE = """
UPDATE lease AS l SET holder = '', expires_ns = 0
FROM unnest($1::uuid[], $2::bigint[]) AS held (account_id, token)
WHERE l.account_id = held.account_id AND l.token = held.token
"""

_RELEASE_EXPIRED = """
UPDATE lease SET holder = '', expires_ns = 0
WHERE
    account_id = $1 AND token = $2
    AND expires_ns <= (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint
RETURNING account_id
"""


_WAIT_FOR_HOLDER_S = 2.0

# Not those that wait as well, such as another gateway that wants the lease. Found first and ended then: a
# function in a WHERE may be called for rows that its other conditions leave out.
_END_BLOCKERS = """
WITH blockers AS MATERIALIZED (
    SELECT pid FROM pg_stat_activity
    WHERE pid = ANY (pg_blocking_pids($1::int)) AND wait_event_type IS DISTINCT FROM 'Lock'
)
SELECT pid, pg_terminate_backend(pid) FROM blockers
"""


class PostgresLeases:
    """A `ports.Leases`. Its methods belong to one event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    async def take(
        self,
        account_id: AccountId,
        by: LeaseHolder,
        *,
        ttl_s: float,
        may_take: Callable[[LeaseRow], bool],
    ) -> LeaseRow:
        """Return the lease: ours under a new token if it was free, else as it stands."""
        async with self._connected() as connection:
            found = await _read(connection, account_id, _READ)
            # Looked at first: the lock below keeps the holder's writes waiting.
            if found is not None and not may_take(found):
                return found
            async with connection.transaction():
                await connection.execute(
                    """
                    INSERT INTO lease (
                        account_id, token, holder, address, host, pid, process_start, requests_expire,
                        expires_ns
                    ) VALUES ($1, 0, '', '', '', 0, 0, false, 0)
                    ON CONFLICT (account_id) DO NOTHING
                    """,
                    (account_id,),
                )
                async with self._ending_what_is_in_the_way(connection):
                    found = await _read(connection, account_id, _READ + "FOR UPDATE")
                assert found is not None, f"the lease of account {account_id} has gone"
                if not may_take(found):
                    return found
                cursor = await connection.execute(
                    _TAKE,
                    (
                        account_id,
                        by.holder,
                        by.address,
                        by.host,
                        by.pid,
                        by.process_start,
                        int(ttl_s * 1e9),
                    ),
                )
                row = await cursor.fetchone()
                assert row is not None
            return LeaseRow(
                account_id=account_id, token=row[0], by=by, requests_expire=True, is_expired=False
            )

    async def renew(
        self,
        held: Mapping[AccountId, int],
        by: LeaseHolder,
        *,
        ttl_s: float,
        requests_expire: frozenset[AccountId],
    ) -> frozenset[AccountId]:
        """Prolong leases by their tokens. Returns those that are ours still."""
        async with self._connected() as connection:
            cursor = await connection.execute(
                _RENEW,
                (
                    list(held),
                    list(held.values()),
                    by.address,
                    int(ttl_s * 1e9),
                    list(requests_expire),
                    by.holder,
                ),
            )
            return frozenset(AccountId(row[0]) for row in await cursor.fetchall())

    async def release(self, held: Mapping[AccountId, int]) -> None:
        """Give leases back."""
        async with self._connected() as connection:
            await connection.execute(_RELEASE, (list(held), list(held.values())))

    async def list(self, account_ids: Sequence[AccountId]) -> Sequence[LeaseRow]:
        """Return the leases of accounts as they stand; of those that never had one, nothing."""
        async with self._connected() as connection:
            cursor = await connection.execute(_LIST, (list(account_ids),))
            return [_lease(row) for row in await cursor.fetchall()]

    async def release_expired(self, row: LeaseRow) -> bool:
        """Give back in its holder's name a lease that has expired."""
        async with self._connected() as connection:
            cursor = await connection.execute(_RELEASE_EXPIRED, (row.account_id, row.token))
            return await cursor.fetchone() is not None

    async def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @asynccontextmanager
    async def _ending_what_is_in_the_way(self, connection: Connection) -> AsyncGenerator[None]:
        """End the server's sessions that have kept this connection waiting for longer than a commit takes.

        An old holder that was stopped in mid-transaction holds its lock on the lease for as long as it
        sleeps: the server counts it as busy, since it waits for the rest of a pipeline, and not as idle. What
        it was writing is undone with its session, and it finds that out when it wakes.
        """
        ending = asyncio.create_task(self._end_blockers(connection.info.backend_pid))
        try:
            yield
        finally:
            ending.cancel()
            await asyncio.wait([ending])
            if not ending.cancelled() and (error := ending.exception()) is not None:
                _log.warning("what is in the way of a lease cannot be ended: %s", error)

    async def _end_blockers(self, waiting_pid: int) -> None:
        await asyncio.sleep(_WAIT_FOR_HOLDER_S)
        connection = await connect(self._url, read_only=False)
        try:
            while True:
                cursor = await connection.execute(_END_BLOCKERS, (waiting_pid,))
                if ended := [row[0] for row in await cursor.fetchall()]:
                    _log.warning("sessions of an old holder were ended: %s", ended)
                await asyncio.sleep(_WAIT_FOR_HOLDER_S)
        finally:
            await connection.close()

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Connection]:
        async with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = await connect(self._url, read_only=False)
            is_whole = False
            try:
                yield self._connection
                is_whole = True
            except psycopg.Error as e:
                raise store_error(e, "the leases cannot be used") from e
            finally:
                if not is_whole:
                    # Whatever it was in the middle of: a new one begins at the beginning.
                    await self.close()


async def _read(
    connection: Connection, account_id: AccountId, query: LiteralString
) -> LeaseRow | None:
    cursor = await connection.execute(query, (account_id,))
    row = await cursor.fetchone()
    return None if row is None else _lease(row)


def _lease(row: TupleRow) -> LeaseRow:
    return LeaseRow(
        account_id=AccountId(row[0]),
        token=row[1],
        by=LeaseHolder(
            holder=row[2], address=row[3], host=row[4], pid=row[5], process_start=row[6]
        ),
        requests_expire=row[7],
        is_expired=row[8],
    )
