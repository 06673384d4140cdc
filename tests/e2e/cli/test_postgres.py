"""The command line on a store in Postgres: made by its owner, served, and read beside its gateway."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg

from tests.e2e.cli.conftest import check_refusal
from tests.e2e.processes import serving, tradegw
from tests.postgres_servers import Server


def test_a_store_in_postgres_from_its_making_to_its_reading(
    tmp_path: Path, postgres_server: Callable[[str], Server]
) -> None:
    with postgres_server("postgres18").database() as url:
        (tmp_path / "tradegw.toml").write_text(f'[store]\nurl = "{url}"\n', "utf-8")
        check_refusal(tradegw("migrate", "check", cwd=tmp_path), 5, "SCHEMA_MISMATCH", "migrate up")
        check_refusal(
            tradegw("serve", "--port", "0", cwd=tmp_path), 5, "SCHEMA_MISMATCH", "migrate up"
        )
        done = tradegw("migrate", "up", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert tradegw("migrate", "check", cwd=tmp_path).returncode == 0
        with serving(tmp_path) as served:
            placed = tradegw(
                *("order", "place", "--target", served.grpc, "--account", "paper"),
                *("--symbol", "BTC/USDT", "--side", "buy", "--type", "market"),
                *("--qty", "0.01", "--json"),
                cwd=tmp_path,
            )
            assert placed.returncode == 0, placed.stderr
            order = json.loads(placed.stdout)
            second = tradegw("serve", "--port", "0", cwd=tmp_path)
            check_refusal(second, 5, "STORE_IN_USE", "another gateway")
            listed = json.loads(tradegw("orders", "--json", cwd=tmp_path).stdout)
            assert order["order_id"] in json.dumps(listed)
            assert served.stop() == 0
        story = tradegw("explain", order["order_id"], "--json", cwd=tmp_path)
        assert story.returncode == 0, story.stderr
        assert json.loads(tradegw("verify", "--json", cwd=tmp_path).stdout)["ok"]
        assert tradegw("doctor", cwd=tmp_path).returncode == 0
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT count(*) FROM orders").fetchone()
            assert row == (1,)
