"""SQLite connections, and what their errors mean. The one module that knows the sqlite3 module's ways."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from tradegw.errors import ConfigError, StoreCorrupt, StoreError, StoreUnavailable

__all__ = ["drive", "open_memory", "open_reader", "open_writer", "store_error"]

ResultT = TypeVar("ResultT")

_STATEMENTS = 256
"""Above the number of queries; a statement that a connection forgot is parsed again."""

_BUSY_MS = 1000

_CHECKPOINT_PAGES = 4000
"""Some 16 MB of log, read again after a crash in a moment."""

_CACHE_KIB = 64 * 1024

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def drive(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a unit of work to its end. On SQLite it never suspends."""
    try:
        work.send(None)
    except StopIteration as e:
        result: ResultT = e.value
        return result
    work.close()
    raise AssertionError("a unit of work suspended, and SQLite has nothing to wait for")


def open_writer(path: Path) -> sqlite3.Connection:
    """Open a file for writing; make it if there is none. `synchronous` is FULL, or this raises.

    Raises:
        ConfigError: The file or its directory cannot be written.
        StoreCorrupt: The file is no database, or a damaged one.
        StoreUnavailable: The file cannot be used now.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"store {path}: expected a directory {path.parent}; there is none")
    if path.exists() and not path.is_file():
        raise ConfigError(f"store {path}: expected a file; found something else")
    if not _may_write(path if path.exists() else path.parent):
        raise ConfigError(f"store {path}: expected to be allowed to write; it is read-only")
    try:
        connection = _connect(f"file:{quote(str(path))}?mode=rwc")
        try:
            _check(connection, path, "journal_mode = WAL", "wal")
            # Each commit reaches the disk before anybody is told of it.
            _check(connection, path, "synchronous = FULL", 2)
            _check(connection, path, "foreign_keys = ON", 1)
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            # A page that many commits touch is carried over to the database once, not each time.
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            # For a moment of somebody's sqlite3 shell; other gateways are kept out by the lock.
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as e:
        raise store_error(e, f"store {path} cannot be opened for writing") from e
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a file for reading, beside whoever writes it.

    Raises:
        ConfigError: There is no such file.
        StoreCorrupt: The file is no database, or a damaged one.
        StoreUnavailable: The file cannot be read.
    """
    if not path.is_file():
        raise ConfigError(f"store {path}: expected a database; there is no such file")
    uri = f"file:{quote(str(path))}?mode=ro"
    if not _may_write(path.parent) and not path.with_name(f"{path.name}-wal").exists():
        # Readers of a WAL database make files beside it. Here nobody can, so nobody writes either.
        uri += "&immutable=1"
    try:
        connection = _connect(uri)
        try:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as e:
        raise store_error(e, f"store {path} cannot be read") from e
    return connection


def open_memory() -> sqlite3.Connection:
    """Open a database that lives as long as its connection."""
    connection = _connect("file::memory:")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def store_error(error: sqlite3.Error, what: str) -> StoreError:
    """Return the error of ours that an error of SQLite means, before COMMIT was asked."""
    name = getattr(error, "sqlite_errorname", None)
    text = f"{what}: {error}" + (f" ({name})" if name else "")
    code = getattr(error, "sqlite_errorcode", None) or 0
    if code & 0xFF in _CORRUPT:
        return StoreCorrupt(text)
    return StoreUnavailable(text)


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        # Handed from thread to thread, used by one at a time.
        check_same_thread=False,
        cached_statements=_STATEMENTS,
    )


def _check(connection: sqlite3.Connection, path: Path, setting: str, expected: object) -> None:
    name = setting.partition(" ")[0]
    connection.execute(f"PRAGMA {setting}")
    (found,) = connection.execute(f"PRAGMA {name}").fetchone()
    if found != expected:
        raise StoreUnavailable(
            f"store {path}: expected PRAGMA {name} to be {expected!r}; found {found!r}"
        )
