"""`python -m benchmarks.postgres`: durable placements on Postgres against pgbench's single-row commits.

Both in one run on one server: the one of the environment (`TRADEGW_TEST_POSTGRES_URL`, or the standard port),
which should have `fsync` on. A placement is two commits, the intent and the venue's answer.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

import tradegw
from benchmarks.measure import Figures, hammer
from benchmarks.servers import config
from codegen.postgres import database, running_server
from tradegw.store.postgres_schema import migrate_postgres

COUNT = 3000
SECONDS = 5
_SCRIPT = "INSERT INTO row (body) VALUES (repeat('x', 600));\n"


def single_rows(url: str, *, clients: int) -> float:
    """Return how many single-row commits a second pgbench makes."""
    pgbench = shutil.which("pgbench")
    if pgbench is None:
        sys.exit("pgbench is not installed; it comes with Postgres")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS row (id bigserial PRIMARY KEY, body text)")
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "row.sql")
        script.write_text(_SCRIPT, "utf-8")
        words = ["-n", "-M", "prepared", "-c", str(clients), "-T", str(SECONDS), "-f", str(script)]
        done = subprocess.run([pgbench, *words, url], capture_output=True, text=True, check=True)
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


async def placements(url: str, *, callers: int) -> Figures:
    """Measure orders that an embedded gateway places, each durable."""
    settings = {**config("."), "store": {"url": url}}
    async with tradegw.open(settings) as gateway:

        async def call() -> None:
            await gateway.place_order(
                account="paper",
                symbol="BTC/USDT",
                side="buy",
                ord_type="limit",
                order_qty="0.001",
                price="50000",
            )

        return await hammer(call, count=COUNT // (1 if callers > 1 else 4), callers=callers)


def main() -> None:
    """Measure, and print."""
    with running_server() as server, database(server) as rows:
        with psycopg.connect(rows) as connection:
            shown = connection.execute(
                "SELECT current_setting('server_version'), current_setting('fsync')"
            ).fetchone()
        assert shown is not None
        print(f"PostgreSQL {shown[0]}, fsync {shown[1]}")
        for number in (1, 64):
            clients = min(number, 16)
            bare = single_rows(rows, clients=clients)
            # A store of its own each: the mock venue in memory would come back as another exchange.
            with database(server) as url:
                asyncio.run(migrate_postgres(url, time_ns=0))
                figures = asyncio.run(placements(url, callers=number))
            print(
                f"{number} callers: {figures.per_second:.0f} placements/s, p50 "
                f"{figures.p50_s * 1000:.2f} ms, p99 {figures.p99_s * 1000:.2f} ms; pgbench with {clients} "
                f"clients {bare:.0f} commits/s; ratio {figures.per_second / bare:.2f}"
            )


if __name__ == "__main__":
    main()
