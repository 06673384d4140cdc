"""`tradegw store archive`: the guide line by line, and what bots see afterwards, on both engines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli.conftest import check_refusal, place
from tests.e2e.processes import Served, serving, tradegw, wait_until
from tests.e2e.test_docs import named, shell
from tests.postgres_servers import Server, owner_and_gateway
from tradegw import sync
from tradegw.errors import DuplicateClientOrderId, IdempotencyKeyReused, InvalidOrder


@contextmanager
def trading(directory: Path) -> Generator[tuple[Served, Callable[..., Any]]]:
    with serving(directory) as served:
        target = ("--target", served.grpc)

        def run(*words: str, **variables: Any) -> Any:
            return tradegw(*words, *target, cwd=directory, **variables)

        wait_until(lambda: _is_ready(served, directory), 30, "paper takes orders")
        yield served, run


def _is_ready(served: Served, directory: Path) -> bool:
    done = tradegw("venues", "--json", "--target", served.grpc, cwd=directory)
    venues = json.loads(done.stdout)["venues"] if done.returncode == 0 else []
    accounts = [account for venue in venues for account in venue["accounts"]]
    return bool(accounts) and all(account["state"] == "READY" for account in accounts)


def buy(gateway: sync.Gateway, name: str, *, qty: str = "0.01", **more: Any) -> Any:
    return gateway.place_order(
        account="paper",
        symbol="BTC/USDT",
        side="BUY",
        ord_type="MARKET",
        order_qty=qty,
        client_order_id=name,
        **more,
    )


def check_what_bots_see(address: str, first: dict[str, Any], oldest: int | None = None) -> None:
    with sync.connect(address) as gateway:
        again = buy(gateway, "breakfast")
        assert (str(again.order_id), str(again.ord_status)) == (first["order_id"], "FILLED")
        with pytest.raises(IdempotencyKeyReused):
            buy(gateway, "breakfast", qty="0.02")
        with pytest.raises(DuplicateClientOrderId):
            buy(gateway, "breakfast", idempotency_key="another")
        if oldest is None:
            return
        for after in ({}, {"paper": oldest - 2}):
            with pytest.raises(InvalidOrder, match=f"oldest here is {oldest}") as refused:
                next(iter(gateway.stream_orders(accounts=["paper"], after=after)))
            assert refused.value.reason == "OUT_OF_RANGE"
        batch = next(iter(gateway.stream_orders(accounts=["paper"], after={"paper": oldest - 1})))
        assert batch.orders[0].seq == oldest


def test_a_store_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    archive = named("archive").text
    with trading(tmp_path) as (served, run):
        first = place(run, "--client-order-id", "breakfast")
        place(run, "--client-order-id", "lunch")
        check_refusal(tradegw(*archive.split("\n")[0].split()[1:], cwd=tmp_path), 5, "STORE_IN_USE")
        assert served.stop() == 0
    assert "it is the last event" in shell(named("archive-ask").text, tmp_path)
    assert list((tmp_path / "archive").iterdir()) == []
    out = shell(archive, tmp_path)
    assert out.count("no problem found") == 2
    (told,) = re.findall(r"events 1 to (\d+) are archived, and not checked", out)
    oldest = int(told) + 1
    assert len(shell(named("archive-read").text, tmp_path).splitlines()) >= 3
    assert "archived" in shell("tradegw explain breakfast", tmp_path)
    with trading(tmp_path) as (served, run):
        check_what_bots_see(served.grpc, first, oldest)
        assert served.stop() == 0


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_store_in_postgres_beside_its_gateway(
    tmp_path: Path, postgres_server: Callable[[str], Server]
) -> None:
    (tmp_path / "archive").mkdir()
    ask, archive = named("archive-ask").text, named("archive").text
    with owner_and_gateway(postgres_server("postgres18")) as url:
        owner, gateway = url("owner", "tradegw"), url("gateway", "tradegw")
        (tmp_path / "tradegw.toml").write_text(f'[store]\nurl = "{gateway}"\n', "utf-8")
        made = tradegw(
            *("migrate", "up", "--grant-to", "tradegw_gateway"),
            cwd=tmp_path,
            TRADEGW__STORE__URL=owner,
        )
        assert made.returncode == 0, made.stderr
        with trading(tmp_path) as (served, run):
            first = place(run, "--client-order-id", "breakfast")
            place(run, "--client-order-id", "lunch")
            check_refusal(tradegw(*ask.split()[1:], cwd=tmp_path), 2, "STORE_ROLE", "owns")
            out = shell(archive, tmp_path, TRADEGW__STORE__URL=owner)
            assert out.count("no problem found") == 2
            place(run, "--client-order-id", "dinner")
            # What it had recorded itself, the gateway still has in memory.
            check_what_bots_see(served.grpc, first)
            assert served.stop() == 0
        assert "no problem found" in shell(archive.strip().split("\n")[2], tmp_path)
        # Who goes back to a schema without archives would forget them.
        down = tradegw(
            *("migrate", "down", "--to", "5", "--yes"), cwd=tmp_path, TRADEGW__STORE__URL=owner
        )
        assert down.returncode != 0
        assert "archived" in down.stderr
