"""The admin API, over HTTP: what an operator sees and does, and that it is on record."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import pytest
from tradegw_mock.admin import routes
from tradegw_mock.admin.api import Admin as Api
from tradegw_mock.config import read_address
from tradegw_mock.exchange import OrderRequest, OrdType, Side
from tradegw_mock.host import HostSettings, open_host
from tradegw_mock.native.protocol import encode
from tradegw_mock.requests import Cancel, GetOrder, Place, Request
from tradegw_mock.testing import MockProcess

from .admin_helpers import Admin
from .venue_helpers import Runtime

D = Decimal


@pytest.fixture(scope="module")
def exchange() -> Iterator[MockProcess]:
    with MockProcess(accounts=["account-1", "account-2"]) as process:
        yield process


@pytest.fixture
def admin(exchange: MockProcess) -> Admin:
    return Admin(exchange.serving.admin)


class Wire:
    """A client of the native door that asks one thing after the other."""

    def __init__(self, process: MockProcess) -> None:
        self._socket = socket.create_connection(read_address(process.url), timeout=60)
        self._lines = self._socket.makefile("rb")
        self._last_id = 0

    def ask(self, request: Request) -> Any:
        from msgspec.structs import replace

        self._last_id += 1
        self._socket.sendall(encode(replace(request, id=self._last_id)))
        line = self._lines.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def a_request(side: str = "BUY", qty: str = "0.01", price: str = "60000", **more: Any) -> Any:
    fields = {"symbol": "BTC/USDT", "ord_type": OrdType.LIMIT, "price": D(price), **more}
    return OrderRequest(side=Side(side), order_qty=D(qty), **fields)


def balances(account: dict[str, Any]) -> dict[str, tuple[Decimal, Decimal]]:
    return {b["asset"]: (D(b["free"]), D(b["held"])) for b in account["balances"]}


# --- accounts -------------------------------------------------------------------------------------


def test_accounts_are_opened_funded_and_emptied(admin: Admin) -> None:
    opened = admin.post("/accounts", name="fresh", balances={"USDT": "100.5"})
    assert balances(opened) == {"USDT": (D("100.5"), 0)}
    shown = admin.post("/accounts/fresh/deposits", asset="BTC", amount="0.25")
    assert balances(shown)["BTC"] == (D("0.25"), 0)
    shown = admin.post("/accounts/fresh/withdrawals", asset="USDT", amount="0.5")
    assert balances(shown)["USDT"] == (D(100), 0)
    shown = admin.put("/accounts/fresh/fees", maker_fee="0", taker_fee="0.002")
    assert D(shown["taker_fee"]) == D("0.002")
    listed = admin.get("/accounts")["accounts"]
    assert shown in listed
    assert {"house", "maker"} <= {account["name"] for account in listed}
    trail = admin.get("/audit", account="fresh")["records"]
    operations = [r["detail"]["operation"] for r in trail if r["detail"]["type"] == "request"]
    assert operations == ["CREATE_ACCOUNT", "DEPOSIT", "WITHDRAW", "SET_FEES"]
    assert [r["detail"]["type"] for r in trail].count("balance") == 3


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/accounts", {"name": "no blanks"}, 400, "BAD_ACCOUNT_NAME"),
        ("POST", "/accounts", {"name": "maker"}, 400, "BAD_ACCOUNT_NAME"),
        ("POST", "/accounts", {"nome": "x"}, 400, "MALFORMED"),
        ("POST", "/accounts", {"name": "x", "balances": {"BTC": "1e99"}}, 400, "AMOUNT_INVALID"),
        ("POST", "/accounts", {"name": "x", "balances": {"BTC": "NaN"}}, 400, "AMOUNT_INVALID"),
        (
            "POST",
            "/accounts/nobody/deposits",
            {"asset": "BTC", "amount": "1"},
            404,
            "UNKNOWN_ACCOUNT",
        ),
        (
            "POST",
            "/accounts/account-2/deposits",
            {"asset": "XXX", "amount": "1"},
            404,
            "UNKNOWN_ASSET",
        ),
        (
            "POST",
            "/accounts/account-2/withdrawals",
            {"asset": "BTC", "amount": "999"},
            400,
            "INSUFFICIENT_FUNDS",
        ),
        (
            "POST",
            "/accounts/account-2/keys",
            {"api_key": "only-a-key"},
            400,
            "MALFORMED",
        ),
        ("DELETE", "/accounts/account-2/keys/none", None, 404, "UNKNOWN_API_KEY"),
        ("GET", "/accounts?account=nobody", None, 404, "UNKNOWN_ACCOUNT"),
        ("GET", "/orders?account=nobody", None, 404, "UNKNOWN_ACCOUNT"),
        ("GET", "/orders?limit=5000", None, 400, "MALFORMED"),
        ("GET", "/orders?colour=red", None, 400, "MALFORMED"),
        ("GET", "/book?symbol=DOGE/USDT", None, 404, "UNKNOWN_SYMBOL"),
        ("PUT", "/prices", {"symbol": "BTC/USDT", "price": "0.001"}, 400, "PRICE_OFF_TICK"),
        ("POST", "/prices/steps", {"count": 100000}, 400, "MALFORMED"),
        ("POST", "/faults", {"kind": "GREMLINS"}, 400, "MALFORMED"),
        ("POST", "/faults", [[[[]]]], 400, "MALFORMED"),
        ("DELETE", "/faults/999", None, 404, "UNKNOWN_FAULT"),
        ("DELETE", "/faults/x", None, 400, "MALFORMED"),
        ("POST", "/clock", {"seconds": 5}, 409, "CONFLICT"),
    ],
)
def test_what_cannot_be_done_is_said(
    admin: Admin, method: str, path: str, body: Any, status: int, code: str
) -> None:
    before = admin.get("/accounts")["accounts"]
    found, problem = admin.status_of(method, path, body)
    assert (found, problem["code"]) == (status, code)
    assert problem["text"]
    names = [account["name"] for account in before]
    assert [a["name"] for a in admin.get("/accounts")["accounts"]] == names


def test_a_page_of_another_origin_cannot_post(admin: Admin) -> None:
    """What a browser sends across origins without asking first is not taken."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        status, problem = admin.status_of("POST", "/faults", {"kind": "BANNED"}, kind=kind)
        assert (status, problem["code"]) == (400, "MALFORMED")
    assert admin.get("/faults") == {"faults": []}


def test_keys_are_given_and_taken_away(admin: Admin) -> None:
    admin.post("/accounts", name="keyed")
    first = admin.post("/accounts/keyed/keys")
    second = admin.post("/accounts/keyed/keys", api_key="k" * 64, secret="s" * 64, can_trade=False)
    assert len(first["api_key"]) == len(first["secret"]) == 64
    assert second == {"api_key": "k" * 64, "secret": "s" * 64, "kind": "HMAC", "can_trade": False}
    assert admin.get("/accounts/keyed/keys")["keys"] == [first, second]
    assert admin.delete(f"/accounts/keyed/keys/{first['api_key']}")["keys"] == [second]
    # Secrets are shown to who asks for the keys, and stand nowhere else.
    trail = json.dumps(admin.get("/audit", account="keyed"))
    assert first["secret"] not in trail
    assert second["secret"] not in trail


# --- orders and prices ----------------------------------------------------------------------------


def test_orders_trades_and_prices(exchange: MockProcess, admin: Admin) -> None:
    admin.put("/prices", symbol="ETH/USDT", price="3000")
    with Wire(exchange) as wire:
        request = a_request("SELL", "2", "3100", symbol="ETH/USDT", client_order_id="rests")
        placed = wire.ask(Place(account="account-2", order=request))["ok"]["order"]
        (order,) = admin.get("/orders", account="account-2", open="true")["orders"]
        assert order["order_id"] == placed["order_id"]
        levels = admin.get("/book", symbol="ETH/USDT", limit=1000)["asks"]
        (mine,) = [level for level in levels if D(level["price"]) == 3100]
        assert D(mine["users_qty"]) == 2
        price = admin.put("/prices", symbol="ETH/USDT", price="3100")
        assert D(price["last"]) == 3100
        found = wire.ask(GetOrder(account="account-2", order_id=placed["order_id"]))
        assert found["ok"]["orders"][0]["ord_status"] == "FILLED"
    assert admin.get("/orders", account="account-2", open="true")["orders"] == []
    fills = admin.get("/trades", order_id=placed["order_id"])["fills"]
    assert sum(D(fill["qty"]) for fill in fills) == 2
    before = admin.get("/prices")["prices"]
    after = admin.post("/prices/steps", count=20)["prices"]
    assert [p["symbol"] for p in after] == [p["symbol"] for p in before]
    assert after != before
    page = admin.get("/orders", limit=1)
    assert len(page["orders"]) == 1
    again = admin.get("/orders", limit=1, after=page["next_after"] or page["orders"][0]["order_id"])
    assert page["orders"] != again["orders"]


def test_an_account_runs_out_of_funds_before_it_meets_a_size_limit(exchange: MockProcess) -> None:
    with Wire(exchange) as wire:
        answer = wire.ask(Place(account="account-1", order=a_request("BUY", "9000", "60000")))
    assert answer["error"]["code"] == "INSUFFICIENT_FUNDS"


# --- faults ---------------------------------------------------------------------------------------


def test_faults_are_given_counted_and_taken_back(exchange: MockProcess, admin: Admin) -> None:
    """What was hit is counted from the audit trail; the orders are there, their answers are not."""
    hit_before = len(admin.hits())
    given = admin.post("/faults", kind="ANSWER_LOST", account="account-1", times=2)
    assert given["left"] == 2
    for number in range(2):
        with Wire(exchange) as wire:
            request = a_request(client_order_id=f"lost-{number}")
            assert wire.ask(Place(account="account-1", order=request)) is None
    with Wire(exchange) as wire:
        answer = wire.ask(Place(account="account-1", order=a_request(client_order_id="heard")))
        assert answer["ok"]["order"]["ord_status"] == "NEW"
    hits = admin.hits()[hit_before:]
    assert [(hit["arguments"]["kind"], hit["client_order_id"]) for hit in hits] == [
        ("ANSWER_LOST", "lost-0"),
        ("ANSWER_LOST", "lost-1"),
    ]
    names = [o["client_order_id"] for o in admin.get("/orders", account="account-1")["orders"]]
    assert names[-3:] == ["lost-0", "lost-1", "heard"]
    assert [int(hit["arguments"]["order_id"]) for hit in hits] == [
        o["order_id"] for o in admin.get("/orders", account="account-1")["orders"]
    ][-3:-1]
    assert admin.get("/faults")["faults"] == []
    played = admin.post(
        "/scenarios",
        name="two",
        fault=[{"kind": "BANNED", "start_s": 3600}, {"kind": "NOT_FOUND", "for_s": 3600}],
    )
    assert [fault["kind"] for fault in played["faults"]] == ["BANNED", "NOT_FOUND"]
    first, second = admin.get("/faults")["faults"]
    assert admin.delete(f"/faults/{first['fault_id']}")["hits"] == 0
    assert admin.delete("/faults")["faults"] == [second]


def test_the_overview_is_all_that_the_page_needs(admin: Admin) -> None:
    shown = admin.get("/overview", symbol="BTC/USDT")
    assert shown["status"]["ok"] is True
    assert len(shown["book"]["bids"]) == len(shown["book"]["asks"]) == 10
    assert {"account-1", "account-2"} <= {account["name"] for account in shown["accounts"]}


# --- what it says of itself -----------------------------------------------------------------------


def test_it_describes_itself(exchange: MockProcess, admin: Admin) -> None:
    described = admin.get("/openapi.json")
    assert described["openapi"] == "3.1.0"
    operations = [(p, m, o) for p, found in described["paths"].items() for m, o in found.items()]
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(set(ids)) == len(ids) > 20
    for path, method, operation in operations:
        assert operation["summary"].endswith("."), path
        named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))
        # Every one is served: it refuses what it does not know, with the shape that it says.
        sent = re.sub(r"\{\w+\}", "none", path).removeprefix("/admin")
        _, answer = admin.status_of(method.upper(), f"{sent}?no_such=1")
        assert set(answer) == {"code", "text"}, (path, answer)
    for reference in re.findall(r'"\$ref": "([^"]*)"', json.dumps(described)):
        place: Any = described
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
    assert "delay_s" in described["components"]["schemas"]["FaultSpec"]["properties"]


def test_health_readiness_and_metrics(exchange: MockProcess) -> None:
    base = exchange.serving.rest
    for path in ("/healthz", "/readyz"):
        with urlopen(base + path, timeout=60) as answer:
            assert json.load(answer)["status"] == "ok"
    with urlopen(base + "/metrics", timeout=60) as answer:
        text = answer.read().decode()
    assert "tradegw_mock_violations 0.0" in text
    assert 'tradegw_mock_requests_total{decision="accepted",operation="CREATE_ACCOUNT"}' in text
    assert 'tradegw_mock_open_orders{account="account-1"}' in text


async def test_broken_books_are_found_and_reported() -> None:
    """The server checks that nothing appears or vanishes; a satoshi too much is said everywhere."""
    runtime = Runtime()
    settings = HostSettings(liquidity="none")
    async with open_host(settings, clock=runtime.time_ns, sleep=runtime.sleep) as host:
        await host.open_account("a")
        api = Api(host)
        assert (await api.invariants(None, None)).ok  # type: ignore[arg-type]
        assert routes._readiness(host)["invariants"] == "ok"
        host.exchange._ledger.accounts["a"].wallets["BTC"].free += D("0.00000001")
        for _ in range(12):
            await runtime.advance(1)
        assert "BTC" in routes._readiness(host)["invariants"]
        assert not (await api.status(None, None)).ok  # type: ignore[arg-type]
        (said,) = (await api.invariants(None, None)).violations  # type: ignore[arg-type]
        assert "10.00000001 BTC" in said


# --- time, chance and history ---------------------------------------------------------------------


SCENARIO = """
[[fault]]
kind = "ERROR_AFTER"
probability = 0.3
[[fault]]
kind = "NOT_FOUND"
probability = 0.5
lag_s = 0.02
[[fault]]
kind = "CANCEL_FILLED"
probability = 0.4
[[fault]]
kind = "FILL_AFTER_CANCEL"
probability = 0.4
delay_s = 0.005
"""


def a_history(directory: Path, seed: int) -> tuple[str, int, set[str]]:
    """Trade through a night of faults by a virtual clock; give the fingerprint of the trail."""
    scenario = directory / "scenario.toml"
    scenario.write_text(SCENARIO)
    options = ["--clock", "virtual", "--scenario", str(scenario)]
    with MockProcess(seed=seed, options=options) as process, Wire(process) as wire:
        admin = Admin(process.serving.admin)
        for number in range(60):
            name = f"{directory.name}-{number}"
            request = a_request("BUY", "0.01", str(64990 + number), client_order_id=name)
            wire.ask(Place(account="account-1", order=request))
            wire.ask(GetOrder(account="account-1", client_order_id=name))
            if number % 2:
                wire.ask(Cancel(account="account-1", client_order_id=name))
            if number % 10 == 9:
                admin.post("/clock", seconds=2.5)
        found = admin.get("/audit/fingerprint")
        kinds = {hit["arguments"]["kind"] for hit in admin.hits()}
        assert admin.get("/invariants")["ok"]
        return found["sha256"], found["lines"], kinds


def test_the_same_seed_gives_the_same_history(tmp_path: Path) -> None:
    runs = []
    for name, seed in (("first", 7), ("second", 7), ("other", 8)):
        (tmp_path / name).mkdir()
        runs.append(a_history(tmp_path / name, seed))
    first, second, other = runs
    assert first == second
    assert first[0] != other[0]
    assert first[2] == {"ERROR_AFTER", "NOT_FOUND", "CANCEL_FILLED", "FILL_AFTER_CANCEL"}


def test_a_scenario_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    from .test_serve import run

    path = tmp_path / "scenario.toml"
    path.write_text('[[fault]]\nkind = "GREMLINS"\n')
    done = run("serve", "--port", "0", "--scenario", str(path))
    assert done.returncode == 1
    assert "GREMLINS" in done.stderr
    assert str(path) in done.stderr
    assert done.stderr.count("\n") == 1


# --- kills ----------------------------------------------------------------------------------------


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Orders, cancels, late fills, deposits, faults on record: all that was answered is there again."""
    with MockProcess(store=tmp_path / "exchange.db", liquidity="none") as process:
        admin = Admin(process.serving.admin)
        for life in range(3):
            admin.post("/accounts/account-1/deposits", asset="USDT", amount="100000")
            admin.post("/faults", kind="FILL_AFTER_CANCEL", delay_s=0)
            admin.post("/faults", kind="ERROR_AFTER")
            with Wire(process) as wire:
                names = [f"life-{life}-{number}" for number in range(10)]
                for name in names:
                    wire.ask(Place(account="account-1", order=a_request(client_order_id=name)))
                wire.ask(Cancel(account="account-1", client_order_id=names[0]))
                # The late fill is due at once: the next request finds it.
                found = wire.ask(GetOrder(account="account-1", client_order_id=names[0]))
                assert found["ok"]["orders"][0]["ord_status"] == "FILLED"
                expected = told(admin)
                process.kill()
            process.start()
            assert told(admin) == expected
            assert admin.get("/invariants")["ok"]
        assert len(expected["hits"]) == 6
        assert process.stop() == 0


def told(admin: Admin) -> dict[str, Any]:
    """Read everything that is to survive."""
    return {
        # Of a balance that came and went within one request no trace is kept.
        "balances": {
            (a["name"], asset): amounts
            for a in admin.get("/accounts")["accounts"]
            for asset, amounts in balances(a).items()
            if any(amounts)
        },
        "orders": admin.get("/orders", limit=1000)["orders"],
        "trades": admin.get("/trades")["fills"],
        "hits": admin.hits(),
    }
