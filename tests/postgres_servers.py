"""Real Postgres servers for tests: one of version 18, and the one of the environment, usually 15.

The first is started from the development dependency that holds it; the second is named by
`TRADEGW_TEST_POSTGRES_URL`, or listens on the standard port, or is started from what the machine has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import NoReturn

import psycopg
import pytest

from codegen import postgres
from tradegw._generated.migrations import POSTGRES

NAMES = ("postgres18", "postgres15")


class Server:
    """A server, as somebody who may do everything there."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url) as connection:
            (self.version,) = connection.execute("SHOW server_version").fetchone() or ("",)

    @contextmanager
    def database(self) -> Generator[str]:
        """Yield the URL of a new database, and drop it afterwards."""
        with postgres.database(self.url) as url:
            yield url

    @contextmanager
    def store(self) -> Generator[str]:
        """Yield the URL of a database that holds an empty store."""
        with self.database() as url:
            make_store(url)
            yield url


@contextmanager
def owner_and_gateway(server: Server) -> Generator[Callable[[str, str], str]]:
    """Make the two roles of the guides and the database `tradegw`, and take them away afterwards.

    Yields what gives the URL of `owner` or `gateway` in a database.
    """
    host = server.url.partition("@")[2].partition("/")[0]
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("CREATE ROLE tradegw_owner LOGIN")
        admin.execute("CREATE ROLE tradegw_gateway LOGIN")
        admin.execute("CREATE DATABASE tradegw OWNER tradegw_owner")
        try:
            yield lambda role, database: f"postgresql://tradegw_{role}@{host}/{database}"
        finally:
            admin.execute("DROP DATABASE IF EXISTS tradegw WITH (FORCE)")
            admin.execute("DROP DATABASE IF EXISTS tradegw_restored WITH (FORCE)")
            admin.execute("DROP ROLE tradegw_owner")
            admin.execute("DROP ROLE tradegw_gateway")


def make_store(url: str) -> None:
    """Take every step of the schema in an empty database."""
    with psycopg.connect(url) as connection:
        for migration in POSTGRES:
            connection.execute(migration.up.encode())
            connection.execute(
                "INSERT INTO schema_migration VALUES (%s, %s, 0, %s)",
                (migration.number, migration.name, migration.oldest_release),
            )


def empty(url: str) -> None:
    """Take everything out of a store but its schema."""
    with psycopg.connect(url) as connection:
        # Without the triggers that keep the ledger as it is.
        connection.execute("SET session_replication_role = replica")
        for (table,) in connection.execute(
            "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall():
            if table != "schema_migration":
                connection.execute(f'DELETE FROM "{table}"'.encode())


@contextmanager
def serve(name: str) -> Generator[Server]:
    """Yield the server of that name; skip the test, or fail under CI, where none can be had."""
    try:
        with (
            postgres.bundled_server() if name == "postgres18" else postgres.running_server() as url
        ):
            yield Server(url)
    except postgres.PostgresUnavailable as e:
        unavailable(name, e)


def unavailable(name: str, error: Exception) -> NoReturn:
    """Skip the test, or fail it under CI."""
    if os.environ.get("TRADEGW_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{name} is needed here: {error}")
    pytest.skip(f"no {name}: {error}")
