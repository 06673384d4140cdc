"""The schema of the configured store: where it stands, and taking it forwards and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tradegw._generated.migrations import SQLITE
from tradegw.errors import ConfigError
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.config import Config
from tradegw.store import sqlite_path
from tradegw.store.connections import open_reader, open_writer
from tradegw.store.lock import WriterLock
from tradegw.store.migrate import check, list_applied, migrate

__all__ = ["SchemaStep", "check_schema", "list_steps", "move_schema"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaStep:
    """One migration.

    Attributes:
        applied_time_ns: When the store took it; None when it has not.
        oldest_release: The oldest release that may run on a store that took it.
        known: Whether this release knows it.
    """

    number: int
    name: str
    oldest_release: str
    applied_time_ns: int | None
    known: bool


def list_steps(config: Config) -> Sequence[SchemaStep]:
    """Return the steps that this release knows and those that the store took.

    Raises:
        ConfigError: There is no such store.
        StoreError: It cannot be read.
    """
    connection = open_reader(_existing(config))
    try:
        applied = {row.number: row for row in list_applied(connection)}
    finally:
        connection.close()
    known = {migration.number: migration for migration in SQLITE}
    steps: list[SchemaStep] = []
    for number in sorted({*applied, *known}):
        row, migration = applied.get(number), known.get(number)
        steps.append(
            SchemaStep(
                number=number,
                name=migration.name if migration else row.name if row else "",
                oldest_release=(
                    migration.oldest_release if migration else row.oldest_release if row else ""
                ),
                applied_time_ns=row.applied_time_ns if row else None,
                known=migration is not None,
            )
        )
    return steps


def check_schema(config: Config) -> None:
    """Refuse a store that this release cannot run on.

    Raises:
        SchemaMismatch: The text says which of the two is newer.
    """
    connection = open_reader(_existing(config))
    try:
        check(list_applied(connection), SQLITE)
    finally:
        connection.close()


def move_schema(config: Config, to: int | None = None) -> Sequence[int]:
    """Take the store's schema to version `to`, the newest by default, while no gateway runs on it.

    Returns:
        The numbers of the steps that were taken, or taken back, in that order.

    Raises:
        StoreInUse: A gateway writes it.
        SchemaMismatch: A step on the way is unknown to this release.
    """
    path = _existing(config)
    lock = WriterLock(path)
    try:
        connection = open_writer(path)
        try:
            return migrate(
                connection,
                SQLITE,
                to=len(SQLITE) if to is None else to,
                time_ns=SystemClock().time_ns(),
            )
        finally:
            connection.close()
    finally:
        lock.release()


def _existing(config: Config) -> Path:
    path = sqlite_path(config.store.url)
    if path is None:
        raise ConfigError(
            f"store.url: only a file has a schema to migrate; it is {config.store.url!r}"
        )
    if not path.is_file():
        raise ConfigError(f"store {path}: expected a store; there is no such file")
    return path
