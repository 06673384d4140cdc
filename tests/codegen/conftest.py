"""A Postgres for the tests of the generators: the one that generation itself uses."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from codegen import postgres

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    try:
        with postgres.bundled_server() as url:
            yield url
    except postgres.PostgresUnavailable as e:
        if os.environ.get("TRADEGW_REQUIRE_SERVICES") == "1":
            pytest.fail(f"a Postgres is required: {e}")
        pytest.skip(str(e))


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    with postgres.database(server_url) as url:
        yield url
