"""`tradegw serve`: what it prints, how it refuses to start, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tradegw_mock.testing import MockProcess

from tests.e2e.cli.conftest import check_refusal, is_ready
from tests.e2e.processes import (
    TRADEGW,
    Served,
    environment,
    serving,
    tradegw,
    wait_until,
    write_config,
)

ORDER = [*("order", "place", "--account", "paper", "--symbol", "BTC/USDT"), "--side", "buy"]
MARKET = [*ORDER, "--type", "market", "--qty", "0.01", "--json"]


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            code: int = answer.status
    except urllib.error.HTTPError as e:
        e.close()
        code = e.code
    return code


@contextmanager
def started(cwd: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the test."""
    process = subprocess.Popen(
        [*TRADEGW, *words],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_first_line_says_where_the_doors_are_and_sigterm_ends_it(tmp_path: Path) -> None:
    with serving(tmp_path) as gateway:
        assert set(gateway.announced) == {"grpc", "http", "pid", "store"}
        assert gateway.announced["pid"] == gateway.pid
        assert gateway.announced["store"] == "sqlite:///tradegw.db"
        assert status_of(f"http://{gateway.http}/healthz") == 200
        wait_until(lambda: status_of(f"http://{gateway.http}/readyz") == 200, 60, "ready")
        assert gateway.stop() == 0
    out = (tmp_path / "serve-0.out").read_text("utf-8").splitlines()
    assert len(out) == 1


def test_logs_are_json_lines_with_ids_service_version_and_environment(tmp_path: Path) -> None:
    with serving(tmp_path, TRADEGW__GATEWAY__ENVIRONMENT="staging") as gateway:
        wait_until(lambda: is_ready(gateway), 60, "ready")
        assert gateway.stop() == 0
        records = [json.loads(line) for line in gateway.log.read_text("utf-8").splitlines()]
    assert records
    for record in records:
        assert {"time", "level", "event", "logger", "version"} <= set(record)
        assert (record["service"], record["environment"]) == ("tradegw", "staging")
    listening = next(record for record in records if record["event"] == "listening")
    assert listening["grpc"] == gateway.grpc


def test_people_read_where_it_listens_and_how_to_place_an_order(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(12)]
    text = "".join(lines)
    assert "paper at mock" in text
    assert "tradegw order place --target 127.0.0.1:" in text


def test_port_zero_frees_both_doors_unless_the_other_is_given(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(tmp_path, "--http-port", str(port)) as gateway:
        assert gateway.http == f"127.0.0.1:{port}"
        assert not gateway.grpc.endswith(":50051")


def test_a_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    with serving(tmp_path) as gateway:
        done = tradegw("serve", "--port", "0", cwd=tmp_path)
        check_refusal(done, 5, "STORE_IN_USE", str(gateway.pid), gateway.grpc)


@pytest.mark.parametrize("option", ["--port", "--http-port"])
def test_a_port_in_use_is_said_and_nothing_stays_behind(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = ["--port", "0", option, port] if option == "--http-port" else [option, port]
        if option == "--port":
            words += ["--http-port", "0"]
        check_refusal(tradegw("serve", *words, cwd=tmp_path), 2, "ADDRESS_UNUSABLE", port)
    with serving(tmp_path) as gateway:
        assert gateway.stop() == 0


def a_newer_store(path: Path) -> None:
    with serving(path.parent) as gateway:
        assert gateway.stop() == 0
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO schema_migration (number, name, applied_time_ns, oldest_release) "
            "VALUES (999, 'later', 1, '99.0.0')"
        )


def rubbish(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def a_strangers_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")


@pytest.mark.parametrize(
    ("make", "code", "reason", "said"),
    [
        pytest.param(rubbish, 5, "STORE_CORRUPT", "tradegw.db", id="corrupt"),
        pytest.param(a_newer_store, 5, "SCHEMA_MISMATCH", "99.0.0", id="newer"),
        pytest.param(a_strangers_database, 2, "CONFIG_INVALID", "recipes", id="somebody else's"),
    ],
)
def test_a_store_that_cannot_be_used_is_said(
    tmp_path: Path, make: Callable[[Path], None], code: int, reason: str, said: str
) -> None:
    make(tmp_path / "tradegw.db")
    before = (tmp_path / "tradegw.db").read_bytes()
    check_refusal(tradegw("serve", "--port", "0", cwd=tmp_path), code, reason, said)
    assert (tmp_path / "tradegw.db").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "variables", "said"),
    [
        pytest.param("[gatway]\n", {}, "gatway", id="unknown section"),
        pytest.param("[gateway]\ndrain = 1\n", {}, "drain", id="unknown key"),
        pytest.param("[server]\ngrpc_port = 'x'\n", {}, "grpc_port", id="wrong type"),
        pytest.param("[server]\ngrpc_port = 70000\n", {}, "grpc_port", id="no such port"),
        pytest.param("[", {}, "not TOML", id="not TOML"),
        pytest.param("[log]\nlevel = 'LOUD'\n", {}, "log.level", id="log level"),
        pytest.param("[store]\nurl = 'file'\n", {}, "store.url", id="store url"),
        pytest.param(
            "[venues.x]\nplugin = 'nobody'\n[accounts.a]\nvenue = 'x'\n", {}, "nobody", id="plugin"
        ),
        pytest.param("", {"TRADEGW__LOG__LEVL": "INFO"}, "TRADEGW__LOG__LEVL", id="variable"),
    ],
)
def test_a_wrong_configuration_names_the_key(
    tmp_path: Path, text: str, variables: dict[str, Any], said: str
) -> None:
    (tmp_path / "tradegw.toml").write_text(text, "utf-8")
    done = tradegw("serve", cwd=tmp_path, **variables)
    check_refusal(done, 2, "CONFIG_INVALID", said)


def test_the_store_away_at_the_start_keeps_the_doors_open_and_takes_no_order(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tradegw.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        with serving(tmp_path) as gateway:
            assert status_of(f"http://{gateway.http}/healthz") == 200
            assert status_of(f"http://{gateway.http}/readyz") == 503
            words = [*MARKET, "--timeout", "0.5", "--target", gateway.grpc]
            done = tradegw(*words, cwd=tmp_path)
            assert (done.returncode, done.stdout) == (3, "")
            assert json.loads(done.stderr)["error"]["idempotency_key"]
            holder.execute("ROLLBACK")
            holder.close()
            wait_until(lambda: status_of(f"http://{gateway.http}/readyz") == 200, 60, "ready")
            assert tradegw(*MARKET, cwd=tmp_path).returncode == 0
            assert gateway.stop() == 0


@pytest.fixture
def silent(exchange: MockProcess, tmp_path: Path) -> Iterator[tuple[Served, MockProcess]]:
    """A gateway whose exchange is there and can be made silent by SIGSTOP."""
    config = write_config(tmp_path, {"mock": exchange.url}, {"paper": {"venue": "mock"}})
    with serving(tmp_path, config=config) as gateway:
        wait_until(lambda: is_ready(gateway), 60, "ready")
        try:
            yield gateway, exchange
        finally:
            os.kill(exchange.pid, signal.SIGCONT)


def test_sigterm_awaits_the_true_answer_and_refuses_new_orders(
    silent: tuple[Served, MockProcess], tmp_path: Path
) -> None:
    gateway, exchange = silent
    os.kill(exchange.pid, signal.SIGSTOP)
    with started(tmp_path, *MARKET, "--client-order-id", "under-way") as order:
        wait_until(lambda: is_stored(tmp_path, "under-way"), 60, "the order is stored")
        gateway.tell(signal.SIGTERM)
        wait_until(lambda: status_of(f"http://{gateway.http}/readyz") == 503, 60, "not ready")
        late = tradegw(*MARKET, "--timeout", "0.5", "--target", gateway.grpc, cwd=tmp_path)
        assert late.returncode == 3
        assert json.loads(late.stderr)["error"]["reason"] == "SHUTTING_DOWN"
        os.kill(exchange.pid, signal.SIGCONT)
        out, errors = order.communicate(timeout=60)
        assert order.returncode == 0, errors
        assert json.loads(out)["ord_status"] == "FILLED"
    assert gateway.wait() == 0
    listed = json.loads(tradegw("orders", "--json", cwd=tmp_path).stdout)["orders"]
    assert [order["client_order_id"] for order in listed] == ["under-way"]


def test_a_second_ctrl_c_ends_it_at_once(
    silent: tuple[Served, MockProcess], tmp_path: Path
) -> None:
    gateway, exchange = silent
    os.kill(exchange.pid, signal.SIGSTOP)
    with started(tmp_path, *MARKET, "--client-order-id", "under-way"):
        wait_until(lambda: is_stored(tmp_path, "under-way"), 60, "the order is stored")
        gateway.tell(signal.SIGINT)
        wait_until(lambda: status_of(f"http://{gateway.http}/readyz") == 503, 60, "not ready")
        assert gateway.is_alive
        gateway.tell(signal.SIGINT)
        assert gateway.wait(5) == 130


def is_stored(directory: Path, client_order_id: str) -> bool:
    words = ["--account", "paper", "--client-order-id", client_order_id]
    return tradegw("order", "status", *words, cwd=directory).returncode == 0
