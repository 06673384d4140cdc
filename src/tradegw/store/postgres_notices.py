"""What gateways on one store in Postgres tell each other at once: LISTEN and NOTIFY.

A notice is a hint. One that was lost is made good by whoever looks by himself now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import psycopg

from tradegw.store.postgres_connections import Connection, connect, store_error

__all__ = ["PostgresNotices"]

_CHANNEL = "tradegw"

_SEND = "SELECT pg_notify($1, note) FROM unnest($2::text[]) AS note"


class PostgresNotices:
    """A `ports.Notices`. Its methods belong to one event loop.

    On connections of its own. Not in the transactions that it tells of: commits with a NOTIFY wait for each
    other, through the whole database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._sending: Connection | None = None
        self._lock = asyncio.Lock()

    async def send(self, notes: Sequence[str]) -> None:
        """Tell everybody who listens."""
        async with self._lock:
            is_whole = False
            try:
                if self._sending is None or self._sending.closed:
                    self._sending = await connect(self._url, read_only=False)
                    # Nothing is stored here, and a hint need not wait for a disk.
                    await self._sending.execute("SET synchronous_commit = off")
                await self._sending.execute(_SEND, (_CHANNEL, list(notes)))
                is_whole = True
            except psycopg.Error as e:
                raise store_error(e, "nobody could be notified") from e
            finally:
                if not is_whole:
                    await self._let_go()

    async def listen(self) -> AsyncGenerator[str | None]:
        """Yield None once what is told from now on is heard, then what is told."""
        connection = await connect(self._url, read_only=False)
        try:
            await connection.execute(f"LISTEN {_CHANNEL}")
            yield None
            async for notice in connection.notifies():
                yield notice.payload
        except psycopg.Error as e:
            raise store_error(e, "notices are not heard") from e
        finally:
            await connection.close()

    async def close(self) -> None:
        """Let go of the connections. Safe to call twice."""
        async with self._lock:
            await self._let_go()

    async def _let_go(self) -> None:
        connection, self._sending = self._sending, None
        if connection is not None:
            await connection.close()
