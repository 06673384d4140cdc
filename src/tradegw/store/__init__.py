"""Remembers: a durable record of orders behind `ports.Store`."""

from __future__ import annotations

import asyncio

from tradegw.errors import ConfigError
from tradegw.ports import Clock
from tradegw.store.lock import LockHolder, read_lock
from tradegw.store.memory import MemoryStore, open_memory_store
from tradegw.store.sqlite import SqliteStore, migrate_sqlite, open_sqlite
from tradegw.store.sqlstore import SqlStore
from tradegw.store.urls import is_postgres, shown_url, sqlite_path

__all__ = [
    "LockHolder",
    "MemoryStore",
    "SqlStore",
    "SqliteStore",
    "is_postgres",
    "migrate_sqlite",
    "open_memory_store",
    "open_sqlite",
    "open_store",
    "read_lock",
    "shown_url",
    "sqlite_path",
]


async def open_store(
    url: str,
    *,
    clock: Clock,
    read_only: bool = False,
    connections: int | None = None,
    is_shared: bool = False,
) -> SqlStore:
    """Open the store that a URL names.

    Args:
        url: `sqlite:///tradegw.db` (below the working directory), `sqlite:////var/lib/tradegw.db`
            (absolute), `postgresql://...` as libpq reads it, or `memory://`.
        read_only: Read beside whoever writes; see `open_sqlite`.
        connections: The most that a store on a server opens.
        is_shared: With other gateways; only a store on a server can be.

    Raises:
        ConfigError: The URL names no store, or the file cannot be what is asked.
        StoreError: As `open_sqlite`.
    """
    if url == "memory://":
        return open_memory_store(clock=clock)
    path = sqlite_path(url)
    if path is None:
        if is_postgres(url):
            from tradegw.store.postgres import CONNECTIONS, open_postgres

            return await open_postgres(
                url,
                connections=connections or CONNECTIONS,
                read_only=read_only,
                is_shared=is_shared,
            )
        raise ConfigError(
            f"store.url: expected sqlite:///FILE, sqlite:////ABSOLUTE/FILE, postgresql://... or "
            f"memory://; found {shown_url(url)!r}"
        )
    return await asyncio.to_thread(open_sqlite, path, clock=clock, read_only=read_only)
