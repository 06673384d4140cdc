"""Brings a database's schema forwards and back, by the steps of `sql/migrations`, on either engine."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from importlib.metadata import version
from typing import Protocol

from tradegw._generated.migrations import Migration
from tradegw._generated.queries import Queries, SchemaMigrationRow
from tradegw.errors import ConfigError, SchemaMismatch

__all__ = ["Schema", "check", "read_applied", "take_steps"]


class Schema(Protocol):
    """A database whose schema is looked at and moved."""

    @property
    def queries(self) -> Queries:
        """The queries."""
        ...

    async def list_tables(self) -> Collection[str]:
        """Return the names of the tables, ours or not."""
        ...

    async def begin(self) -> None:
        """Begin a transaction that nobody else's change of the schema runs beside."""
        ...

    async def run(self, script: str) -> None:
        """Run statements inside the transaction."""
        ...

    async def commit(self) -> None:
        """Make the transaction durable."""
        ...

    async def roll_back(self) -> None:
        """End the transaction, if there is one, and leave nothing of it."""
        ...


async def read_applied(schema: Schema) -> Sequence[SchemaMigrationRow]:
    """Return the steps that a database has taken; none for an empty one.

    Raises:
        ConfigError: The database is somebody else's.
    """
    tables = await schema.list_tables()
    if "schema_migration" in tables:
        return await schema.queries.list_schema_migrations()
    if tables:
        raise ConfigError(
            f"expected a store of tradegw, or an empty database; found one with the tables "
            f"{', '.join(sorted(tables)[:5])}"
        )
    return ()


def check(applied: Sequence[SchemaMigrationRow], known: Sequence[Migration]) -> None:
    """Refuse a schema that this release may not run on.

    Raises:
        SchemaMismatch: The schema states an oldest release that is newer than this one, or lacks steps.
    """
    release = version("tradegw")
    for row in applied:
        if row.number > len(known) and _parts(row.oldest_release) > _parts(release):
            raise SchemaMismatch(
                f"the store's schema is version {row.number} ({row.name}), for tradegw "
                f"{row.oldest_release} and newer; this is tradegw {release}, which knows version "
                f"{len(known)}"
            )
    if len(applied) < len(known):
        raise SchemaMismatch(
            f"the store's schema is version {len(applied)}; tradegw {release} needs version "
            f"{len(known)}: run `tradegw migrate up` (a gateway on a file does so when it starts)"
        )


async def take_steps(
    schema: Schema, known: Sequence[Migration], *, to: int, time_ns: int, after: str = ""
) -> Sequence[int]:
    """Take the steps from where a database stands to version `to`, all in one transaction.

    Args:
        after: Statements to run at the end of the transaction.

    Returns:
        The numbers of the steps that were taken, or taken back, in that order.

    Raises:
        SchemaMismatch: A step that is to be taken back is unknown here.
    """
    await schema.begin()
    try:
        # Read inside the transaction: another process may have been here first.
        at = len(await read_applied(schema))
        if max(at, to) > len(known):
            raise SchemaMismatch(
                f"expected schema versions up to {len(known)}, which this release knows; "
                f"asked to go from {at} to {to}"
            )
        taken: list[int] = []
        for migration in known[at:to]:
            await schema.run(migration.up)
            await schema.queries.insert_schema_migration(
                number=migration.number,
                name=migration.name,
                applied_time_ns=time_ns,
                oldest_release=migration.oldest_release,
            )
            taken.append(migration.number)
        for migration in reversed(known[to:at]):
            if migration.number > 1:  # The first one takes the table itself away.
                await schema.queries.delete_schema_migration(number=migration.number)
            await schema.run(migration.down)
            taken.append(migration.number)
        if after:
            await schema.run(after)
        await schema.commit()
    finally:
        await schema.roll_back()
    return taken


def _parts(release: str) -> tuple[int, ...]:
    # A pre-release counts as its release: 0.2.0rc1 knows what 0.2.0 knows.
    return tuple(int(part) for part in re.findall(r"\d+", release)[:3])
