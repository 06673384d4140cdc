"""The benchmarks run through. What they measure is no test: machines are shared, and differ."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.e2e.processes import REPOSITORY, environment, run

DURABLE = {
    "PlaceOrder, 1 callers",
    "PlaceOrder, 16 callers",
    "PlaceOrder, 64 callers",
    "TradeSession, 64 in flight",
    "two bare commits",
    "embedded, 1 callers",
    "embedded, 64 callers",
}
ALONE = {
    "bare echo, 1 callers",
    "bare echo, 16 callers",
    "bare echo, 64 callers",
    "bare HTTP, 16 callers",
    "matching engine, in process",
    "two bare commits",
    "ccxt create_order, HTTP stubbed",
    "bare aiohttp client, 16 callers",
}
"""What others are measured against, and what nothing is like."""
OURS = {
    "Binance REST, IOC, 16 callers",
    "Binance REST, MARKET, 16 callers",
    "REST: translate, sign, parse",
    "REST: sent, 16 callers",
    "REST: whole order, 16 callers",
}
TIMEOUT_S = 200


@pytest.mark.timeout(TIMEOUT_S + 40)
def test_benchmarks_run_through(tell: Callable[[str], None]) -> None:
    # In a session of its own, so that its servers can be ended with it.
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--quick", "--json"],
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, err
    rows = json.loads(out)
    by_delay: dict[float, set[str]] = {}
    for row in rows:
        by_delay.setdefault(row["commit_delay_ms"], set()).add(row["name"])
        assert row["per_second"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert (row["ratio"] is None) == (row["name"] in ALONE), row
    # Every durable row is measured again where a commit takes a millisecond longer.
    assert by_delay[1.0] == DURABLE
    replays = {name for name in by_delay[0.0] if name.startswith("StreamFills, replay of ")}
    assert len(replays) == 1
    assert by_delay[0.0] == DURABLE | ALONE | OURS | replays
    lines = [
        f"{row['name']:32} +{row['commit_delay_ms']:g} ms {row['per_second']:9,.0f}/s  "
        f"p50 {row['p50_ms']:7.2f} ms  p99 {row['p99_ms']:7.2f} ms"
        + ("" if row["ratio"] is None else f"  {row['ratio']:.2f} of bare")
        + (f" (wanted {row['wanted']})" if row["wanted"] else "")
        for row in rows
    ]
    tell("\n".join(lines))


@pytest.mark.long
def test_the_benchmark_of_rabbitmq_runs_through(tell: Callable[[str], None]) -> None:
    done = run(
        [sys.executable, "-m", "benchmarks.rabbitmq", "--quick"], cwd=REPOSITORY, timeout_s=100
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(
        r"^(\w+): .* events/s with confirms; .* ratio [\d.]+$", done.stdout, re.MULTILINE
    )
    assert rows == ["SQLite", "Postgres"]
    tell(done.stdout)
