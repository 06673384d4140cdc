"""Commits that take longer, for machines whose disk makes fsync look free."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tradegw.store import sqlite as store

__all__ = ["slow_commits"]


@contextmanager
def slow_commits(delay_ms: float) -> Iterator[None]:
    """Add some milliseconds to each commit of the stores opened meanwhile, and assert that they are durable."""
    before = store.open_writer

    def slowed(path: Path) -> sqlite3.Connection:
        connection = before(path)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        if delay_ms:
            connection.set_trace_callback(wait)
        return connection

    def wait(statement: str) -> None:
        if statement == "COMMIT":
            time.sleep(delay_ms / 1000)

    store.open_writer = slowed
    try:
        yield
    finally:
        store.open_writer = before
