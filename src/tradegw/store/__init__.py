"""Remembers: a durable record of orders behind `ports.Store`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tradegw.errors import ConfigError
from tradegw.ports import Clock
from tradegw.store.lock import LockHolder, read_lock
from tradegw.store.memory import MemoryStore, open_memory_store
from tradegw.store.sqlite import SqliteStore, migrate_sqlite, open_sqlite

__all__ = [
    "LockHolder",
    "MemoryStore",
    "SqliteStore",
    "migrate_sqlite",
    "open_memory_store",
    "open_sqlite",
    "open_store",
    "read_lock",
    "sqlite_path",
]


async def open_store(
    url: str, *, clock: Clock, read_only: bool = False
) -> SqliteStore | MemoryStore:
    """Open the store that a URL names.

    Args:
        url: `sqlite:///tradegw.db` (below the working directory), `sqlite:////var/lib/tradegw.db`
            (absolute) or `memory://`.
        read_only: Read beside whoever writes; see `open_sqlite`.

    Raises:
        ConfigError: The URL names no store, or the file cannot be what is asked.
        StoreError: As `open_sqlite`.
    """
    if url == "memory://":
        return open_memory_store(clock=clock)
    path = sqlite_path(url)
    if path is None:
        if url.startswith(("postgres://", "postgresql://")):
            raise ConfigError("store.url: a store in Postgres is not yet built")
        raise ConfigError(
            f"store.url: expected sqlite:///FILE, sqlite:////ABSOLUTE/FILE or memory://; found {url!r}"
        )
    return await asyncio.to_thread(open_sqlite, path, clock=clock, read_only=read_only)


def sqlite_path(url: str) -> Path | None:
    """Return the file that a `sqlite:///` URL names; None for any other URL."""
    name = url.removeprefix("sqlite:///")
    return Path(name) if name not in {url, ""} else None
