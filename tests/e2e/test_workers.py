"""`tradegw serve --workers`: several processes behind one pair of ports; and a process stopped at a point."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tradegw_mock.testing import MockProcess

import tradegw
from tests.e2e.orders import an_order
from tests.e2e.processes import readiness, serving, until, wait_until, write_config
from tests.e2e.processes import tradegw as run_tradegw
from tradegw import OrdStatus

WAIT_S = 60.0
ACCOUNTS = {name: {"venue": "exchange", "exchange_account": "paper"} for name in ("one", "two")}


def leases(url: str) -> Mapping[str, tuple[str, int]]:
    """Return who holds each account: holder and pid."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT a.account, l.holder, l.pid FROM lease AS l JOIN account AS a USING (account_id)"
        ).fetchall()
    return {account: (holder, pid) for account, holder, pid in rows}


def holders(url: str) -> set[int]:
    return {pid for holder, pid in leases(url).values() if holder}


def test_workers_share_ports_and_accounts_and_one_that_dies_is_started_anew(
    exchange: MockProcess, tmp_path: Path, postgres_store: Callable[[str], str]
) -> None:
    url = postgres_store("postgres18")
    config = write_config(tmp_path, {"exchange": exchange.url}, ACCOUNTS, store=url)
    with serving(tmp_path, "--workers", "2", config=config) as served:
        workers = set(served.announced["workers"])
        assert len(workers) == 2
        assert served.pid not in workers
        wait_until(lambda: len(leases(url)) == 2 and holders(url) <= workers, WAIT_S, "are held")
        wait_until(lambda: readiness(served.http)[0] == 200, WAIT_S, "are ready")
        doomed = leases(url)["one"][1]
        os.kill(doomed, signal.SIGKILL)
        # Long before the lease expires: whoever is on the same machine sees that it is gone.
        wait_until(lambda: doomed not in holders(url), WAIT_S, "are taken over")
        log = served.log.read_text("utf-8")
        assert f"process {doomed}, ended with -9" in log
        wait_until(
            lambda: served.log.read_text("utf-8").count('"event": "listening"') == 3,
            WAIT_S,
            "another worker listens",
        )
        assert served.stop() == 0
    assert {holder for holder, _ in leases(url).values()} == {""}, "given back"


def test_workers_need_a_store_that_can_be_shared(tmp_path: Path) -> None:
    done = run_tradegw("serve", "--workers", "2", "--json", cwd=tmp_path)
    assert done.returncode == 2
    error: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["reason"] == "REPLICAS_NEED_POSTGRES"
    assert not done.stdout


@pytest.mark.long
def test_a_worker_that_cannot_start_ends_all(
    exchange: MockProcess, tmp_path: Path, postgres_store: Callable[[str], str]
) -> None:
    """What it says of it is what is said; trying again would mend nothing."""
    url = postgres_store("postgres18")
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO venue VALUES ('elsewhere', 'rest')")
        connection.execute(
            "INSERT INTO account VALUES (gen_random_uuid(), 'one', 'elsewhere', '', '', '', 0)"
        )
    config = write_config(tmp_path, {"exchange": exchange.url}, ACCOUNTS, store=url)
    done = run_tradegw("serve", "--workers", "2", "--config", str(config), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "ACCOUNT_MISMATCH" in done.stderr


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="who is stopped is read there")
async def test_a_process_may_be_stopped_at_a_point_and_goes_on_from_there(
    exchange: MockProcess, tmp_path: Path
) -> None:
    accounts = {"paper": {"venue": "exchange"}}
    config = write_config(tmp_path, {"exchange": exchange.url}, accounts)
    with serving(tmp_path, config=config, TRADEGW_STOP_AT="CHECKED_UNSENT:1") as served:
        wait_until(lambda: readiness(served.http)[0] == 200, WAIT_S, "the account is ready")
        async with tradegw.connect(served.grpc) as gateway:
            placing = asyncio.create_task(gateway.place_order(**an_order("k1-c1-o1")))  # type: ignore[arg-type]
            await until(lambda: _is_stopped(served.pid), WAIT_S, "it stands at the point")
            assert "stop point CHECKED_UNSENT reached" in served.log.read_text("utf-8")
            with exchange.ledger() as ledger:
                assert list(ledger.orders("paper")) == []
            served.tell(signal.SIGCONT)
            order = await placing
            assert order.ord_status is OrdStatus.NEW
        assert served.stop() == 0


async def _is_stopped(pid: int) -> bool:
    stat = await asyncio.to_thread(Path(f"/proc/{pid}/stat").read_text, "ascii")
    return stat.rpartition(")")[2].split()[0] == "T"
