"""Commands that look at the record: through the gateway, and without one."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli.conftest import Run, check_refusal, is_ready, place
from tests.e2e.processes import serving, tradegw, wait_until
from tradegw import sync


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A record that a gateway left behind, and what each look at it gave while the gateway ran."""
    directory = tmp_path_factory.mktemp("record")

    def run(*words: str, **variables: Any) -> Any:
        return tradegw(*words, cwd=directory, **variables)

    with serving(directory) as gateway:
        wait_until(lambda: is_ready(gateway), 60, "ready")
        place(run, "--client-order-id", "breakfast")
        place(run, "--client-order-id", "rests", "--price", "10000", ord_type="limit")
        assert run("order", "replace", *NAMED, "rests", "--price", "9000").returncode == 0
        assert run("order", "cancel", *NAMED, "rests").returncode == 0
        place(run, "--client-order-id", "open", "--price", "10000", ord_type="limit")
        seen = {words: json.loads(run(*words.split(), "--json").stdout) for words in LOOKS}
        assert gateway.stop() == 0
    return directory, seen


NAMED = ["--account", "paper", "--client-order-id"]
LOOKS = [
    "orders",
    "orders --open",
    "orders --status filled --account paper",
    "orders --symbol ETH/USDT",
    "orders --limit 2",
    "fills",
    "fills --order breakfast",
    "balances",
    "positions",
    "explain breakfast",
    "explain rests",
    "order status --account paper --client-order-id rests",
]


@pytest.mark.parametrize("words", LOOKS)
def test_the_record_says_the_same_without_a_gateway(
    record: tuple[Path, dict[str, Any]], words: str
) -> None:
    directory, seen = record
    done = tradegw(*words.split(), "--json", cwd=directory)
    assert done.returncode == 0, done.stderr
    said, before = json.loads(done.stdout), seen[words]
    if words == "balances":
        # The gateway may have read them anew between the look and its end.
        for now, then in zip(said["balances"], before["balances"], strict=True):
            assert now["time_ns"] >= then["time_ns"]
            now["time_ns"] = then["time_ns"]
    assert said == before


def test_orders_are_filtered(record: tuple[Path, dict[str, Any]]) -> None:
    _, seen = record

    def names(words: str) -> list[str]:
        return [order["client_order_id"] for order in seen[words]["orders"]]

    assert names("orders") == ["open", "rests", "breakfast"]
    assert names("orders --open") == ["open"]
    assert names("orders --status filled --account paper") == ["breakfast"]
    assert names("orders --symbol ETH/USDT") == []
    assert names("orders --limit 2") == ["open", "rests"]
    (fill,) = seen["fills"]["fills"]
    assert (fill["last_qty"], fill["side"], fill["liquidity"]) == ("0.01", "BUY", "TAKER")
    assert seen["fills --order breakfast"] == seen["fills"]
    usdt = next(b for b in seen["balances"]["balances"] if b["asset"] == "USDT")
    assert usdt["held"] == "100"


@pytest.mark.parametrize("words", ["orders", "fills", "balances", "explain rests"])
def test_people_get_tables(record: tuple[Path, dict[str, Any]], words: str) -> None:
    directory, _ = record
    done = tradegw(*words.split(), cwd=directory)
    assert done.returncode == 0, done.stderr
    assert "paper" in done.stdout
    assert "\x1b" not in done.stdout


def test_explain_tells_the_story(record: tuple[Path, dict[str, Any]]) -> None:
    directory, seen = record
    story = seen["explain rests"]
    kinds = [event["event_type"] for event in story["events"]]
    assert kinds == ["INTENT", "NEW", "PENDING_REPLACE", "REPLACED", "PENDING_CANCEL", "CANCELED"]
    assert story["events"][0]["request_id"]
    assert story["order"]["ord_status"] == "CANCELED"
    text = tradegw("explain", "rests", cwd=directory).stdout
    for said in (
        "BUY 0.01 BTC/USDT LIMIT at 10000 GTC",
        f"request {story['events'][0]['request_id']}",
        "stored before anything was sent",
        "replace asked",
        "price 9000",
        "cancel asked",
        "the venue said so",
        "Now: CANCELED, filled 0 of 0.01",
    ):
        assert said in text
    filled = tradegw("explain", "breakfast", cwd=directory).stdout
    assert "filled 0.01 at" in filled
    assert "as taker" in filled


def test_unknown_things_are_named(record: tuple[Path, dict[str, Any]]) -> None:
    directory, _ = record
    for words, reason in (
        (["explain", "nothing"], "UNKNOWN_ORDER"),
        (["orders", "--account", "nobody"], "UNKNOWN_ACCOUNT"),
        (["balances", "--account", "nobody"], "UNKNOWN_ACCOUNT"),
        (["order", "status", "00000000-0000-0000-0000-000000000000"], "UNKNOWN_ORDER"),
    ):
        check_refusal(tradegw(*words, cwd=directory), 1, reason)
    check_refusal(tradegw("orders", "--status", "lost", cwd=directory), 2, "INVALID_FIELD", "lost")
    check_refusal(
        tradegw("orders", "--open", "--status", "filled", cwd=directory), 2, "INVALID_FIELD"
    )


def copy_of(directory: Path, target: Path) -> Path:
    with (
        closing(sqlite3.connect(directory / "tradegw.db")) as source,
        closing(sqlite3.connect(target / "tradegw.db")) as copy,
    ):
        source.backup(copy)
    return target


def alter(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / "tradegw.db")) as connection, connection:
        triggers = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement).rowcount > 0


def test_verify_finds_nothing_in_a_true_record(record: tuple[Path, dict[str, Any]]) -> None:
    directory, _ = record
    done = tradegw("verify", "--json", cwd=directory)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["ok"], said["problems"]) == (True, [])
    assert said["accounts"]["paper"]["seq"] == 11
    assert "no problem found" in tradegw("verify", cwd=directory).stdout


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        pytest.param("UPDATE fill SET last_px = '1'", "FILL_DIFFERS", id="a fill"),
        pytest.param(
            "UPDATE orders SET price = '1' WHERE client_order_id = 'open'",
            "ORDER_DIFFERS",
            id="an order",
        ),
        pytest.param(
            "UPDATE order_event SET payload = x'7b7d' WHERE seq = 2", "HASH", id="an event"
        ),
    ],
)
def test_verify_finds_an_alteration(
    record: tuple[Path, dict[str, Any]], tmp_path: Path, statement: str, kind: str
) -> None:
    copy = copy_of(record[0], tmp_path)
    alter(copy, statement)
    done = tradegw("verify", "--json", cwd=copy)
    assert done.returncode == 1
    assert kind in {problem["kind"] for problem in json.loads(done.stdout)["problems"]}
    people = tradegw("verify", cwd=copy)
    assert people.returncode == 1
    assert kind in people.stdout


def test_the_anchor_is_written_compared_and_kept_when_it_differs(
    record: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    copy = copy_of(record[0], tmp_path)
    anchor = tmp_path / "anchor.json"
    words = ["verify", "--anchor", str(anchor), "--json"]
    assert tradegw(*words, cwd=copy).returncode == 0
    heads = json.loads(anchor.read_text("utf-8"))["accounts"]
    assert heads["paper"]["seq"] == 11
    assert tradegw(*words, cwd=copy).returncode == 0
    for forged in (
        {"paper": {"seq": 11, "hash": "00" * 32}},
        {"paper": {"seq": 12, "hash": heads["paper"]["hash"]}},
    ):
        text = json.dumps({"accounts": forged})
        anchor.write_text(text, "utf-8")
        done = tradegw(*words, cwd=copy)
        assert done.returncode == 1
        (problem,) = json.loads(done.stdout)["problems"]
        assert problem["kind"] == "ANCHOR"
        assert anchor.read_text("utf-8") == text
    anchor.write_text("{}", "utf-8")
    check_refusal(tradegw(*words[:-1], cwd=copy), 2, "CONFIG_INVALID", "anchor.json")


def test_without_a_store_there_is_nothing_to_verify(tmp_path: Path) -> None:
    check_refusal(tradegw("verify", cwd=tmp_path), 2, "CONFIG_INVALID", "tradegw.db")
    assert list(tmp_path.iterdir()) == []


def test_venues_and_instruments_are_listed(run: Run, served: object) -> None:
    venues = json.loads(run("venues", "--json").stdout)["venues"]
    assert venues[0]["accounts"][0]["account"] == "paper"
    assert "READY" in run("venues").stdout
    listed = json.loads(run("instruments", "mock", "--json").stdout)["instruments"]
    assert {"BTC/USDT", "ETH/USD"} <= {instrument["symbol"] for instrument in listed}
    assert "BTC/USDT" in run("instruments", "mock").stdout
    check_refusal(run("instruments", "nowhere"), 1, "UNKNOWN_VENUE", "nowhere")


def test_halts_are_listed_and_lifted(run: Run, served: object) -> None:
    made = json.loads(run("halt", "--why", "a test", "--by", "me", "--json").stdout)
    assert (made["scope"], made["by"], made["why"]) == ("*", "me", "a test")
    assert json.loads(run("halts", "--json").stdout)["halts"] == [made]
    assert "a test" in run("halts").stdout
    assert run("resume").returncode == 0
    check_refusal(run("resume"), 1, "UNKNOWN_HALT")
    check_refusal(run("halt", "--why", "x", "--scope", "all"), 1, "INVALID_FIELD", "all")


def test_only_an_order_in_doubt_is_resolved(run: Run, served: object) -> None:
    order = place(run)
    words = ["resolve", order["order_id"], "--outcome", "canceled", "--why", "a test"]
    check_refusal(run(*words), 1, "NOT_IN_DOUBT", order["order_id"])


def test_a_spot_venue_has_no_positions_to_close(run: Run, served: object) -> None:
    assert json.loads(run("positions", "--json").stdout) == {"positions": []}
    words = ["positions", "--close", "BTC/USDT"]
    check_refusal(run(*words, "--account", "paper"), 1, "UNSUPPORTED")
    # There is but one account, so it need not be named.
    check_refusal(run(*words), 1, "UNSUPPORTED")


def test_the_record_of_an_embedded_gateway_is_read_and_its_orders_are_its_own(
    tmp_path: Path,
) -> None:
    config = {
        "store": {"url": f"sqlite:///{tmp_path}/tradegw.db"},
        "venues": {"mock": {"plugin": "mock"}},
        "accounts": {"paper": {"venue": "mock"}},
    }
    with sync.open(config) as gateway:
        order = gateway.place_order(
            account="paper", symbol="BTC/USDT", side="buy", ord_type="market", order_qty="0.01"
        )
        listed = json.loads(tradegw("orders", "--json", cwd=tmp_path).stdout)["orders"]
        assert [one["order_id"] for one in listed] == [str(order.order_id)]
        words = ["order", "cancel", str(order.order_id), "--timeout", "0.2"]
        check_refusal(tradegw(*words, cwd=tmp_path), 3, "NO_GATEWAY", str(os.getpid()))
