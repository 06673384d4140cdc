"""The guide to upgrades, line by line: a store of the last step but one, moved by its owner, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg

from tests.e2e.cli.conftest import check_refusal
from tests.e2e.processes import serving, tradegw
from tests.e2e.test_docs import named, shell
from tests.postgres_servers import Server, owner_and_gateway
from tradegw._generated.migrations import POSTGRES


def test_forwards_and_back(tmp_path: Path, postgres_server: Callable[[str], Server]) -> None:
    with owner_and_gateway(postgres_server("postgres18")) as url:
        upgrade(tmp_path, url("owner", "tradegw"), url("gateway", "tradegw"))


def upgrade(directory: Path, owner: str, gateway: str) -> None:
    (directory / "tradegw.toml").write_text(f'[store]\nurl = "{gateway}"\n', "utf-8")
    ask_status, ask_check = named("upgrade-ask").text.split("\n")[:2]
    up, back = named("upgrade-up").text, named("roll-back").text

    # As the last release left it.
    made = tradegw(
        *("migrate", "up", "--to", "2", "--grant-to", "tradegw_gateway"),
        cwd=directory,
        TRADEGW__STORE__URL=owner,
    )
    assert made.returncode == 0, made.stderr
    assert POSTGRES[2].name in shell(ask_status, directory)
    refused = tradegw(*ask_check.split()[1:], cwd=directory)
    check_refusal(refused, 5, "SCHEMA_MISMATCH", "migrate up")

    shell(up, directory, OWNER_URL=owner)
    with serving(directory) as served:
        placed = tradegw(
            *("order", "place", "--target", served.grpc, "--account", "paper", "--json"),
            *("--symbol", "BTC/USDT", "--side", "buy", "--type", "market", "--qty", "0.01"),
            cwd=directory,
        )
        assert placed.returncode == 0, placed.stderr
        # The schema may go on beside it; a release that is older than a step of it runs, if the step allows.
        assert "nothing to do" in shell(up, directory, OWNER_URL=owner)
        assert served.stop() == 0
    with psycopg.connect(owner, autocommit=True) as connection:
        newer = len(POSTGRES) + 1
        for oldest, code in (("0.1.0", 0), ("99.0.0", 5)):
            connection.execute(
                "INSERT INTO schema_migration VALUES (%s, 'newer', 0, %s)", (newer, oldest)
            )
            assert tradegw(*ask_check.split()[1:], cwd=directory).returncode == code, oldest
            connection.execute("DELETE FROM schema_migration WHERE number = %s", (newer,))

    # There is no older release to read it, so the store is moved up again before it is verified.
    down, verify = back.strip().split("\n")
    shell(down, directory, OWNER_URL=owner)
    check_refusal(
        tradegw(*ask_check.split()[1:], cwd=directory), 5, "SCHEMA_MISMATCH", "migrate up"
    )
    shell(up, directory, OWNER_URL=owner)
    assert "no problem found" in shell(verify, directory)
    orders = json.loads(tradegw("orders", "--json", cwd=directory).stdout)["orders"]
    assert [order["order_id"] for order in orders] == [json.loads(placed.stdout)["order_id"]]
