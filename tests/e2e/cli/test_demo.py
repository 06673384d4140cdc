"""`tradegw demo`: it passes, it counts, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from tests.e2e.cli.conftest import check_refusal
from tests.e2e.processes import TRADEGW, environment, tradegw, wait_until


def processes_in(directory: Path) -> list[int]:
    """Return the processes whose working directory is there."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                where = (entry / "cwd").readlink()
            except OSError:
                continue
            if where == directory:
                found.append(int(entry.name))
    return found


def test_every_number_agrees(tmp_path: Path) -> None:
    done = tradegw("demo", "--dir", "demo", "--json", cwd=tmp_path, timeout_s=100)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["ok"]
    assert all(check["ok"] and check["gateway"] == check["exchange"] for check in told["checks"])
    counted = {check["what"]: check["exchange"] for check in told["checks"]}
    assert counted["how the gateway died"] == "SIGKILL"
    assert counted["where it died"] == "SENT_UNANSWERED"
    assert counted["orders for the key that was sent twice"] == "1"
    assert processes_in(tmp_path / "demo") == []
    # Its record tells the same afterwards.
    shown = tradegw("explain", "demo-none", "--config", "tradegw.toml", cwd=tmp_path / "demo")
    assert shown.returncode == 1
    listed = tradegw("orders", "--json", cwd=tmp_path / "demo")
    assert len(json.loads(listed.stdout)["orders"]) == 3
    used = tradegw("demo", "--dir", "demo", cwd=tmp_path)
    check_refusal(used, 2, "CONFIG_INVALID", "empty")


def test_ctrl_c_ends_the_children(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    process = subprocess.Popen(
        [*TRADEGW, "demo", "--dir", str(directory)],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: len(processes_in(directory)) == 2, 60, "exchange and gateway run")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
        for pid in processes_in(directory):
            os.kill(pid, signal.SIGKILL)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors
    assert processes_in(directory) == []


def test_without_the_mock_exchange_it_says_what_to_install(tmp_path: Path) -> None:
    done = tradegw("demo", cwd=tmp_path, TRADEGW_DISABLE_PLUGINS="mock")
    check_refusal(done, 2, "CONFIG_INVALID", "pip install tradegw-mock")
