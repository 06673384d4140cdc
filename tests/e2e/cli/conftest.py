"""One gateway for the tests that only ask it, and how a command's end is checked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import Served, readiness, serving, tradegw, wait_until

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Served]:
    """A gateway without configuration: the mock exchange in process, the account `paper`."""
    with serving(home) as gateway:
        wait_until(lambda: is_ready(gateway), 60, "paper takes orders")
        yield gateway


@pytest.fixture
def run(home: Path) -> Run:
    """Run a command in the gateway's directory."""

    def command(*args: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        return tradegw(*args, cwd=home, **variables)

    return command


def is_ready(gateway: Served) -> bool:
    return readiness(gateway.http)[0] == 200


def place(run: Run, *more: str, qty: str = "0.01", ord_type: str = "market") -> dict[str, Any]:
    """Place an order that is expected to be taken; returns it."""
    words = ["--account", "paper", "--symbol", "BTC/USDT", "--side", "buy", "--type", ord_type]
    done = run("order", "place", *words, "--qty", qty, "--json", *more)
    assert done.returncode == 0, done.stderr
    order: dict[str, Any] = json.loads(done.stdout)
    return order


def check_refusal(
    done: subprocess.CompletedProcess[str], code: int, reason: str, *words: str
) -> None:
    """Check that a command ended with one clear line on stderr, and nothing on stdout."""
    assert (done.returncode, done.stdout) == (code, ""), done
    lines = [line for line in done.stderr.splitlines() if line.startswith("tradegw: ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"tradegw: {reason}: "), done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]
