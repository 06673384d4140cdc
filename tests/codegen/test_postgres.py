"""The harness leaves nothing behind."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from codegen import postgres

ROOT = Path(__file__).parents[2]


def test_a_database_is_new_and_goes(server_url: str) -> None:
    with postgres.database(server_url) as url, psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t (a integer)")
        connection.commit()
        with postgres.database(server_url) as other, psycopg.connect(other) as second:
            with pytest.raises(psycopg.errors.UndefinedTable):
                second.execute("SELECT * FROM t")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_a_database_goes_when_its_user_fails(server_url: str) -> None:
    """Also while somebody is still connected to it."""
    seen: list[str] = []

    def fail() -> None:
        with postgres.database(server_url) as url:
            seen.append(url)
            held.append(psycopg.connect(url))
            raise RuntimeError("on purpose")

    held: list[psycopg.Connection] = []
    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    held[0].close()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(seen[0])


def test_a_named_server_comes_first(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(postgres.URL_VARIABLE, server_url)
    with postgres.server(use_running=True) as url:
        assert url == server_url


def test_a_named_server_that_is_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Testing on another server than the one asked for would prove something else."""
    monkeypatch.setenv(postgres.URL_VARIABLE, "postgresql://postgres@127.0.0.1:1/postgres")
    with pytest.raises(postgres.PostgresUnavailable, match=postgres.URL_VARIABLE):
        with postgres.server(use_running=True):
            pass


def test_a_server_dies_with_a_killed_process(server_url: str) -> None:
    """Depends on `server_url` only to be skipped, or to fail, where no Postgres can be had."""
    script = (
        "import sys, psycopg\n"
        "from codegen import postgres\n"
        "with postgres.bundled_server() as url, psycopg.connect(url) as connection:\n"
        "    row = connection.execute(\n"
        "        \"SELECT current_setting('data_directory')\"\n"
        "    ).fetchone()\n"
        "    print(url, row[0], flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        url, data = process.stdout.readline().split()
        server = int((Path(data) / "postmaster.pid").read_text().split()[0])
        handle = os.pidfd_open(server)
        os.kill(process.pid, signal.SIGKILL)
    try:
        ended, _, _ = select.select([handle], [], [], 20)
        assert ended, "the server outlives the process that started it"
    finally:
        os.close(handle)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
