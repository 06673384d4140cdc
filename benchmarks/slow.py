"""Commits that take longer, for machines whose disk makes fsync look free."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from tradegw.store.connections import open_writer

__all__ = ["slow_commits"]


@contextmanager
def slow_commits(delay_ms: float) -> Iterator[None]:
    """Add some milliseconds to each commit of the stores opened meanwhile; asserts that they are durable."""

    def slowed(path: Path) -> sqlite3.Connection:
        connection = open_writer(path)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        if delay_ms:
            connection.set_trace_callback(wait)
        return connection

    def wait(statement: str) -> None:
        if statement == "COMMIT":
            time.sleep(delay_ms / 1000)

    with patch("tradegw.store.sqlite.open_writer", slowed):
        yield
