"""The schema of the configured store: where it stands, and taking it forwards and back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tradegw._generated.migrations import POSTGRES, SQLITE, Migration
from tradegw._generated.queries import SchemaMigrationRow
from tradegw.errors import ConfigError
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.config import Config
from tradegw.store import is_postgres, migrate_sqlite, sqlite_path
from tradegw.store.connections import open_reader
from tradegw.store.migrate import list_applied
from tradegw.store.steps import check

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


async def list_steps(config: Config) -> Sequence[SchemaStep]:
    """Return the steps that this release knows and those that the store took.

    Raises:
        ConfigError: There is no such store.
        StoreError: It cannot be read.
    """
    applied = {row.number: row for row in await _applied(config)}
    known = {migration.number: migration for migration in _known(config)}
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


async def check_schema(config: Config) -> None:
    """Refuse a store that this release cannot run on.

    Raises:
        SchemaMismatch: The text says which of the two is newer.
    """
    check(await _applied(config), _known(config))


async def move_schema(
    config: Config, to: int | None = None, *, grant_to: str | None = None
) -> Sequence[int]:
    """Take the store's schema to version `to`, the newest by default.

    A file's while no gateway runs on it. In Postgres beside gateways of releases that may run on both, one
    process at a time, and as a role that may change tables, which a gateway's should not.

    Args:
        grant_to: A role in Postgres that is given what a gateway needs.

    Returns:
        The numbers of the steps that were taken, or taken back, in that order.

    Raises:
        StoreInUse: A gateway writes the file.
        SchemaMismatch: A step on the way is unknown to this release.
        ConfigError: There is no such store, or it knows no roles.
    """
    clock = SystemClock()
    if is_postgres(config.store.url):
        from tradegw.store.postgres_schema import migrate_postgres

        return await migrate_postgres(
            config.store.url, to=to, time_ns=clock.time_ns(), grant_to=grant_to
        )
    if grant_to is not None:
        raise ConfigError("only a store in Postgres has roles", reason="INVALID_FIELD")
    return migrate_sqlite(_existing(config), clock=clock, to=to)


def _known(config: Config) -> Sequence[Migration]:
    return POSTGRES if is_postgres(config.store.url) else SQLITE


async def _applied(config: Config) -> Sequence[SchemaMigrationRow]:
    if is_postgres(config.store.url):
        from tradegw.store.postgres_schema import list_applied_postgres

        return await list_applied_postgres(config.store.url)
    with closing(open_reader(_existing(config))) as connection:
        return list_applied(connection)


def _existing(config: Config) -> Path:
    path = sqlite_path(config.store.url)
    if path is None:
        raise ConfigError(
            f"store.url: only a file or a database has a schema to migrate; it is {config.store.shown_url!r}"
        )
    if not path.is_file():
        raise ConfigError(f"store {path}: expected a store; there is no such file")
    return path
