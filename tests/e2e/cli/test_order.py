"""`tradegw order ...` against a running gateway."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli.conftest import Run, check_refusal, place
from tests.e2e.processes import TRADEGW, Served, environment, tradegw, wait_until

pytestmark = pytest.mark.usefixtures("served")

MARKET = ["--account", "paper", "--symbol", "BTC/USDT", "--side", "buy", "--type", "market"]
LIMIT = ["--account", "paper", "--symbol", "BTC/USDT", "--side", "BUY", "--type", "LIMIT"]


def test_a_market_order_fills_and_is_printed_in_the_models_words(run: Run) -> None:
    done = run("order", "place", *MARKET, "--qty", "0.010", "--tag", "desk=one", "--json")
    assert done.returncode == 0, done.stderr
    order = json.loads(done.stdout)
    assert order["ord_status"] == "FILLED"
    assert (order["side"], order["ord_type"], order["time_in_force"]) == ("BUY", "MARKET", "GTC")
    assert (order["order_qty"], order["cum_qty"], order["leaves_qty"]) == ("0.01", "0.01", "0")
    assert isinstance(order["avg_px"], str)
    assert isinstance(order["created_time_ns"], int)
    assert order["tags"] == {"desk": "one"}
    assert order["in_doubt"] == []
    # A key was made before the first attempt, so that the caller could have asked again.
    assert order["idempotency_key"].startswith("cli-")


def test_people_get_a_table(run: Run) -> None:
    done = run("order", "place", *MARKET, "--qty", "0.01")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert lines["ord_status"].strip() == "FILLED"
    assert lines["symbol"].strip() == "BTC/USDT"


def test_the_same_key_gives_the_same_order(run: Run) -> None:
    first = place(run, "--idempotency-key", "twice")
    assert place(run, "--idempotency-key", "twice") == first
    other = run("order", "place", *MARKET, "--qty", "0.02", "--idempotency-key", "twice")
    check_refusal(other, 1, "IDEMPOTENCY_KEY_REUSED")


def test_a_resting_order_is_replaced_and_canceled_by_its_client_order_id(run: Run) -> None:
    named = ["--account", "paper", "--client-order-id", "rests"]
    placed = place(
        run, "--price", "10000", "--client-order-id", "rests", "--tif", "gtc", ord_type="limit"
    )
    assert placed["ord_status"] == "NEW"
    replaced = run("order", "replace", *named, "--price", "11000", "--qty", "0.02", "--json")
    assert replaced.returncode == 0, replaced.stderr
    order = json.loads(replaced.stdout)
    assert (order["order_id"], order["price"]) == (placed["order_id"], "11000")
    assert order["order_qty"] == "0.02"
    seen = run("order", "status", placed["order_id"], "--json")
    assert json.loads(seen.stdout)["price"] == "11000"
    canceled = run("order", "cancel", *named, "--json")
    assert canceled.returncode == 0, canceled.stderr
    assert json.loads(canceled.stdout)["ord_status"] == "CANCELED"
    check_refusal(run("order", "cancel", *named), 1, "ORDER_CLOSED", placed["order_id"])


def test_a_rejected_order_is_the_answer_and_the_exit_code_says_so(run: Run) -> None:
    assert run("halt", "--scope", "symbol:ETH/USDT", "--why", "test").returncode == 0
    halted = [word.replace("BTC", "ETH") for word in MARKET]
    done = run("order", "place", *halted, "--qty", "0.01", "--json")
    assert run("resume", "--scope", "symbol:ETH/USDT").returncode == 0
    assert done.returncode == 1
    order = json.loads(done.stdout)
    assert (order["ord_status"], order["reason"]) == ("REJECTED", "HALTED")


@pytest.mark.parametrize(
    ("words", "code", "reason", "said"),
    [
        pytest.param([*MARKET, "--qty", "-1"], 1, "INVALID_FIELD", "-1", id="negative"),
        pytest.param([*MARKET, "--qty", "0"], 1, "INVALID_FIELD", "0", id="zero"),
        pytest.param([*MARKET, "--qty", "NaN"], 1, "INVALID_FIELD", "NaN", id="not a number"),
        pytest.param([*MARKET, "--qty", "1e-2"], 1, "INVALID_FIELD", "1e-2", id="exponent"),
        pytest.param(MARKET, 1, "INVALID_QUANTITY", "neither", id="no quantity"),
        pytest.param(
            [*MARKET, "--qty", "1", "--quote-qty", "1"], 1, "INVALID_QUANTITY", "both", id="both"
        ),
        pytest.param(
            [*LIMIT, "--qty", "0.01", "--price", "10000.001"],
            1,
            "PRICE_OFF_TICK",
            "10000",
            id="off the tick",
        ),
        pytest.param(
            [*MARKET[2:], "--account", "nobody", "--qty", "1"],
            1,
            "UNKNOWN_ACCOUNT",
            "nobody",
            id="unknown account",
        ),
        pytest.param(
            [*MARKET[:3], "X/Y", *MARKET[4:], "--qty", "1"],
            1,
            "UNKNOWN_SYMBOL",
            "X/Y",
            id="unknown symbol",
        ),
        pytest.param([*MARKET, "--qty", "1", "--tag", "x"], 2, "INVALID_FIELD", "x", id="tag"),
        pytest.param(
            [*MARKET, "--qty", "1", "--expire-time", "2030-01-01T00:00:00"],
            2,
            "INVALID_FIELD",
            "zone",
            id="a time without a zone",
        ),
        pytest.param([*MARKET, "--quantity", "1"], 2, "USAGE", "--quantity", id="unknown option"),
        pytest.param(["--symbol", "X/Y"], 2, "USAGE", "--side", id="missing option"),
        pytest.param(
            [*MARKET, "--qty", "1", "--target", "here"], 2, "INVALID_TARGET", "here", id="target"
        ),
    ],
)
def test_wrong_input_gives_one_clear_line(
    run: Run, words: list[str], code: int, reason: str, said: str
) -> None:
    check_refusal(run("order", "place", *words), code, reason, said)


def test_a_good_till_date_order_takes_iso_and_nanoseconds(run: Run) -> None:
    iso = run(
        *("order", "place", *LIMIT, "--qty", "0.01", "--price", "10000", "--tif", "GTD"),
        *("--expire-time", "2030-01-01T00:00:00.5Z", "--json"),
    )
    # The mock venue may have no GTD; then it is the capability that refuses, having read the time.
    assert iso.returncode == 0 or "GTD" in iso.stderr, iso.stderr
    if iso.returncode == 0:
        assert json.loads(iso.stdout)["expire_time_ns"] == 1_893_456_000_500_000_000


def test_the_target_is_found_in_the_option_the_environment_and_the_lock(
    run: Run, served: Served, tmp_path: Path
) -> None:
    order_id = place(run)["order_id"]
    words = ["order", "status", order_id, "--json"]
    assert tradegw(*words, "--target", served.grpc, cwd=tmp_path).returncode == 0
    assert tradegw(*words, cwd=tmp_path, TRADEGW_TARGET=served.grpc).returncode == 0
    store = f"sqlite:///{served.log.parent}/tradegw.db"
    assert tradegw("venues", cwd=tmp_path, TRADEGW__STORE__URL=store).returncode == 0


def test_without_a_gateway_the_key_is_printed(tmp_path: Path) -> None:
    words = ["order", "place", *MARKET, "--qty", "1", "--target", "127.0.0.1:1", "--timeout", "0.2"]
    done = tradegw(*words, "--idempotency-key", "mine", cwd=tmp_path)
    check_refusal(done, 3, "GATEWAY_UNREACHABLE", "idempotency_key mine")
    told = tradegw(*words, "--json", cwd=tmp_path)
    assert (told.returncode, told.stdout) == (3, "")
    error = json.loads(told.stderr)["error"]
    assert error["reason"] == "GATEWAY_UNREACHABLE"
    assert error["exit_code"] == 3
    assert error["idempotency_key"].startswith("cli-")


def test_ctrl_c_prints_the_key(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = [*TRADEGW, "order", "place", *MARKET, "--qty", "1", "--target", "127.0.0.1:1"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(words, stderr=stderr, cwd=tmp_path, env=environment())
    try:
        wait_until(lambda: b"no answer from 127.0.0.1:1 yet" in log.read_bytes(), 60, "the hint")
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 130
    finally:
        process.kill()
        process.wait()
    assert "idempotency_key cli-" in log.read_text("utf-8")
    assert "Traceback" not in log.read_text("utf-8")


def test_a_command_that_came_too_early_is_answered_when_the_gateway_is_there(
    tmp_path: Path,
) -> None:
    port = str(free_port())
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*TRADEGW, "order", "place", *MARKET, "--qty", "0.01", "--json", "--timeout", "60"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=tmp_path,
            env=environment(TRADEGW__SERVER__GRPC_PORT=port),
        )
    try:
        wait_until(lambda: b"no answer from" in log.read_bytes(), 60, "the hint")
        gateway = subprocess.Popen(
            [*TRADEGW, "serve", "--port", port, "--http-port", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
            env=environment(),
        )
        try:
            out, _ = process.communicate(timeout=60)
        finally:
            gateway.kill()
            gateway.wait()
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, log.read_text("utf-8")
    assert json.loads(out)["ord_status"] == "FILLED"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port
