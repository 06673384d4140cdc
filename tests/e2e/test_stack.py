"""`nox -s dev-up` and `dev-down`: the whole stack with local servers, and nothing left of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.engines import NOT_RUN
from deploy.processes import Processes
from deploy.servers import postgres_url
from tests.e2e.processes import REPOSITORY, environment, run, tradegw, wait_until


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not below pytest's own, which nobody else can walk through: as root, Postgres runs as another user.
    made = Path(tempfile.mkdtemp(prefix="tradegw-stack-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    Processes(made).stop()
    shutil.rmtree(made)


@pytest.fixture
def path_without_engine(tmp_path: Path) -> str:
    """Commands that are all there, but a client of containers that reaches no engine."""
    for name in ("docker", "podman"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"


def stack(command: str, folder: Path, path: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "deploy.stack", command, str(folder)]
    return run(words, cwd=REPOSITORY, timeout_s=110, PATH=path)


def published(http_port: int) -> float:
    """Return how many events the broker has confirmed."""
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    return sum(
        float(number)
        for number in re.findall(r"^tradegw_outbox_published_total\S* (\S+)$", page, re.MULTILINE)
    )


def test_the_stack_trades_and_leaves_nothing_behind(folder: Path, path_without_engine: str) -> None:
    started = stack("up", folder, path_without_engine)
    assert started.returncode == 0, started.stderr
    ports = json.loads((folder / "ports.json").read_text("utf-8"))
    running = Processes(folder).running()
    assert [name for name in running if name not in {"epmd", "rabbitmq", "redis"}] == [
        "postgres",
        "exchange",
        "gateway",
    ]
    # What is not installed is said to be so, and what is installed runs.
    for name in ("rabbitmq", "redis"):
        assert (name in running) != (f"{name:9} not started" in started.stdout)

    target = f"127.0.0.1:{ports['grpc']}"
    assert f"--target {target}" in started.stdout
    placed = tradegw(
        *("order", "place", "--target", target, "--account", "paper", "--symbol", "BTC/USDT"),
        *("--side", "buy", "--type", "market", "--qty", "0.01", "--json"),
        cwd=folder,
    )
    assert placed.returncode == 0, placed.stderr
    order = json.loads(placed.stdout)
    assert order["ord_status"] == "FILLED"
    # The exchange's own books, in its own process.
    books = tradegw("mock", "ledger", "--url", f"127.0.0.1:{ports['native']}", "--json", cwd=folder)
    assert order["venue_order_id"] in books.stdout
    url = postgres_url("gateway", folder / "secrets", ports["postgres"])
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (1,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM fill")

    if "rabbitmq" in running:
        # Every event of the order went out, and was confirmed.
        wait_until(lambda: published(ports["http"]) >= order["seq"], 60, "the events are published")

    again = stack("up", folder, path_without_engine)
    assert again.returncode == 1
    assert "it runs already" in again.stderr
    stopped = stack("down", folder, path_without_engine)
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout.split(":")[1].split(", ")[-1].strip() == "postgres"
    assert Processes(folder).running() == []
    assert "nothing ran" in stack("down", folder, path_without_engine).stdout


def test_a_part_that_does_not_start_takes_the_others_with_it(
    folder: Path, path_without_engine: str
) -> None:
    """Here the exchange, in whose file something else stands."""
    (folder / "exchange.db").write_text("not a database", "utf-8")
    started = stack("up", folder, path_without_engine)
    assert started.returncode == 1
    assert "exchange ended" in started.stderr
    assert Processes(folder).running() == []
    assert not list((folder / "pids").iterdir())


def test_a_pid_that_is_anothers_by_now_is_let_be(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        ours = Processes(tmp_path)
        ours.start("sleeper", ["sleep", "1000"], cwd=tmp_path, env=environment())
        assert ours.running() == ["sleeper"]
        (tmp_path / "pids" / "01-stale").write_text(f"{other.pid} 15 1\n", "utf-8")
        assert ours.running() == ["sleeper"]
        assert ours.stop() == ["sleeper"]
        assert other.poll() is None, "it is not ours"
    finally:
        other.communicate(b"\n")
    assert other.returncode == 0


def test_image_says_that_it_was_not_run(path_without_engine: str) -> None:
    words = [sys.executable, "-m", "deploy.image"]
    done = run(words, cwd=REPOSITORY, PATH=path_without_engine)
    assert done.returncode == NOT_RUN
    assert done.stdout.startswith("not run: no container engine answers")
