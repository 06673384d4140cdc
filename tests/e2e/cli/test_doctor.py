"""`tradegw doctor` finds what would keep an account from trading, and touches nothing."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tradegw_mock.testing import MockProcess
from tradegw_rest.library import source_of

from tests.e2e.cli.conftest import check_refusal
from tests.e2e.processes import tradegw

REST = """
[venues.binance]
plugin = "rest"
definition = "binance-spot"
rest_url = "{rest}"

[accounts.main]
venue = "binance"
api_key = "env:TEST_KEY"
api_secret = "env:TEST_SECRET"
"""


def findings(
    directory: Path, *words: str, code: int = 0, **variables: Any
) -> dict[tuple[str, str], tuple[str, str]]:
    done = tradegw("doctor", "--json", *words, cwd=directory, **variables)
    assert done.returncode == code, (done.stdout, done.stderr)
    found = json.loads(done.stdout)["findings"]
    return {(f["subject"], f["check"]): (f["verdict"], f["detail"]) for f in found}


def test_all_is_well_and_nothing_is_left_behind(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert {verdict for verdict, _ in found.values()} == {"OK"}
    assert "made at the first start" in found["store", "schema"][1]
    for check in ("clock", "instruments", "key", "orders"):
        assert ("account paper at mock", check) in found
    assert list(tmp_path.iterdir()) == []
    assert "GiB free" in tradegw("doctor", cwd=tmp_path).stdout


def test_a_venue_that_is_not_configured(tmp_path: Path) -> None:
    done = tradegw("doctor", "--venue", "nowhere", cwd=tmp_path)
    check_refusal(done, 2, "CONFIG_INVALID", "nowhere", "mock")


def test_a_record_that_is_gone_with_the_gateway(tmp_path: Path) -> None:
    found = findings(tmp_path, TRADEGW__STORE__URL="memory://")
    assert found["store", "durable"][0] == "WARNING"


def test_a_key_a_clock_and_a_venue_that_is_away(tmp_path: Path) -> None:
    subject = "account main at binance"
    with MockProcess(accounts=["account-1"]) as exchange:
        (account,) = exchange.serving.accounts
        config = REST.format(rest=exchange.serving.rest)
        (tmp_path / "tradegw.toml").write_text(config, "utf-8")
        good = {"TEST_KEY": account.api_key, "TEST_SECRET": account.api_secret}
        found = findings(tmp_path, "--venue", "binance", **good)
        assert found[subject, "key"][0] == "OK"
        assert found[subject, "instruments"][0] == "OK"
        assert found[subject, "permissions"] == ("OK", "the key may trade")
        verdict, detail = found[subject, "version"]
        assert (verdict, "checked against v3, 2026-07-21" in detail) == ("OK", True)

        bad = good | {"TEST_SECRET": "another"}
        found = findings(tmp_path, "--venue", "binance", code=1, **bad)
        assert found[subject, "key"][0] == "PROBLEM"
        # What needs no key is well all the same.
        assert found[subject, "clock"][0] == "OK"

        fault = {"kind": "CLOCK_SKEW", "offset_s": 3.0, "times": 0}
        urllib.request.urlopen(
            urllib.request.Request(
                f"{exchange.serving.admin}/faults",
                data=json.dumps(fault).encode(),
                headers={"Content-Type": "application/json"},
            ),
            timeout=60,
        ).close()
        found = findings(tmp_path, "--venue", "binance", code=1, **good)
        verdict, detail = found[subject, "clock"]
        assert (verdict, "more than half" in detail) == ("PROBLEM", True)
    found = findings(tmp_path, "--venue", "binance", code=1, **good)
    assert found[subject, "clock"][0] == "PROBLEM"


# --- what an exchange tells of itself ------------------------------------------------------------------

VERSION = """
  api_version:
    request: GET /api/v3/version
    signed: false
    version: api.version

  # Of the account;"""


@contextmanager
def answering(answers: Mapping[str, Any]) -> Iterator[str]:
    """Serve these answers by their paths; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            body = json.dumps({"code": -1, "msg": "no such path"} if found is None else found)
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("version", "account", "expected"),
    [
        pytest.param(
            {"api": {"version": "v3"}},
            {"canTrade": True},
            {"version": ("OK", "runs the same"), "permissions": ("OK", "may trade")},
            id="as it was checked",
        ),
        pytest.param(
            {"api": {"version": "v4"}},
            {"canTrade": False},
            {"version": ("WARNING", "runs v4"), "permissions": ("PROBLEM", "may not trade")},
            id="another version, and a key that only reads",
        ),
        pytest.param(
            None,
            {"canTrade": True},
            {"version": ("PROBLEM", "no such path"), "permissions": ("OK", "may trade")},
            id="it does not tell",
        ),
    ],
)
def test_what_an_exchange_tells_of_itself(
    tmp_path: Path, version: Any, account: Any, expected: dict[str, tuple[str, str]]
) -> None:
    text, _ = source_of("binance-spot")
    assert text.count("\n  # Of the account;") == 1
    own = tmp_path / "mine.yaml"
    own.write_text(text.replace("\n  # Of the account;", VERSION), "utf-8")
    answers = {
        "/api/v3/version": version,
        "/api/v3/account": {**account, "balances": [{"asset": "BTC", "free": "1", "locked": "0"}]},
        "/api/v3/time": {"serverTime": time.time_ns() // 1_000_000},
        "/api/v3/openOrders": [],
        "/api/v3/exchangeInfo": {"symbols": []},
    }
    with answering(answers) as rest:
        config = REST.format(rest=rest).replace('"binance-spot"', f'"{own}"')
        (tmp_path / "tradegw.toml").write_text(config, "utf-8")
        # It lists no markets: a problem of its own.
        found = findings(
            tmp_path, "--venue", "binance", code=1, TEST_KEY="key", TEST_SECRET="secret"
        )
    for check, (verdict, words) in expected.items():
        got = found["account main at binance", check]
        assert (got[0], words in got[1]) == (verdict, True), got
    assert found["account main at binance", "instruments"][0] == "PROBLEM"
