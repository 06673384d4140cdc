"""One gateway for each store in Postgres, or several that share it by leases: advisory locks.

The gateway's watch connection holds the first lock for as long as it lives: alone, or with others that share
the store. Every connection that writes holds a second one with its own kind: one for a gateway that is alone,
another for those that share. A gateway that starts takes the first, then waits until nobody holds the second
that could write beside it: what a dead gateway's connections had under way is over before anything is read.
Gateways that share need not wait for each other's: a lease's token keeps those out.
"""

from __future__ import annotations

import asyncio

from psycopg import errors

from tradegw.errors import StoreInUse
from tradegw.store.postgres_advisory import AdvisoryLock
from tradegw.store.postgres_connections import Connection, connect

__all__ = ["GatewayLock"]

_WAIT = "3s"


class GatewayLock:
    """Held from `take` to `release`. Its methods belong to one event loop.

    Args:
        is_shared: With other gateways that say so too.
    """

    def __init__(self, url: str, *, is_shared: bool = False) -> None:
        self._url = url
        self._is_shared = is_shared
        self._watch: Connection | None = None
        self._retaking = asyncio.Lock()

    async def take(self) -> None:
        """Become the store's one gateway, or one of those that share it.

        Raises:
            StoreInUse: Another process is, and one of the two does not share.
            ConfigError, StoreUnavailable: As `connect`.
        """
        watch = await connect(self._url, read_only=False)
        try:
            await self._lock(watch)
        except BaseException:
            await watch.close()
            raise
        self._watch = watch

    async def join(self, connection: Connection) -> None:
        """Let a connection write: it is seen by whoever wants to be the gateway next.

        Raises:
            StoreInUse: Another process became the gateway while we had no connection.
        """
        await connection.execute(
            "SELECT pg_advisory_lock_shared($1::int, hashtext(current_schema()))",
            (AdvisoryLock.SHARERS if self._is_shared else AdvisoryLock.WRITERS,),
        )
        async with self._retaking:
            if await self._is_held(connection):
                return
            # The watch connection broke, as all do when the server restarts. If another process was faster,
            # it waits for this connection to go.
            await self.release()
            watch = await connect(self._url, read_only=False)
            try:
                await _take(watch, AdvisoryLock.GATEWAY, is_shared=self._is_shared)
            except BaseException:
                await watch.close()
                raise
            self._watch = watch

    async def release(self) -> None:
        """Let go."""
        if self._watch is not None:
            watch, self._watch = self._watch, None
            await watch.close()

    async def _is_held(self, connection: Connection) -> bool:
        if self._watch is None or self._watch.closed:
            return False
        cursor = await connection.execute(
            """
            SELECT 1 FROM pg_locks
            WHERE locktype = 'advisory' AND granted AND classid = $1 AND pid = $2
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            """,
            (AdvisoryLock.GATEWAY, self._watch.info.backend_pid),
        )
        return await cursor.fetchone() is not None

    async def _lock(self, watch: Connection) -> None:
        await _take(watch, AdvisoryLock.GATEWAY, is_shared=self._is_shared)
        for writers in (
            (AdvisoryLock.WRITERS,)
            if self._is_shared
            else (AdvisoryLock.WRITERS, AdvisoryLock.SHARERS)
        ):
            await _take(watch, writers)
            await watch.execute(
                "SELECT pg_advisory_unlock($1::int, hashtext(current_schema()))", (writers,)
            )


async def _take(watch: Connection, lock: AdvisoryLock, *, is_shared: bool = False) -> None:
    # Not at once: the server needs a moment to see that a process has died.
    await watch.execute("SELECT set_config('lock_timeout', $1, false)", (_WAIT,))
    try:
        await watch.execute(
            "SELECT pg_advisory_lock_shared($1::int, hashtext(current_schema()))"
            if is_shared
            else "SELECT pg_advisory_lock($1::int, hashtext(current_schema()))",
            (lock,),
        )
    except errors.LockNotAvailable as e:
        who = await _who(watch, lock)
        raise StoreInUse(
            f"another gateway{who} serves the store; a store has one gateway"
            if lock is AdvisoryLock.GATEWAY
            else f"connections of an earlier gateway{who} still write the store"
        ) from e


async def _who(connection: Connection, lock: AdvisoryLock) -> str:
    cursor = await connection.execute(
        """
        SELECT a.application_name, a.client_addr::text
        FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $1
        AND l.pid <> pg_backend_pid() AND a.datname = current_database()
        """,
        (lock,),
    )
    row = await cursor.fetchone()
    # Roles do not see each other's names.
    return "" if row is None or not row[0] else f" ({row[0]} at {row[1] or 'this machine'})"
