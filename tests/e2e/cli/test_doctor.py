"""`tradegw doctor` finds what would keep an account from trading, and touches nothing."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from tradegw_mock.testing import MockProcess

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
            timeout=30,
        ).close()
        found = findings(tmp_path, "--venue", "binance", code=1, **good)
        verdict, detail = found[subject, "clock"]
        assert (verdict, "more than half" in detail) == ("PROBLEM", True)
    found = findings(tmp_path, "--venue", "binance", code=1, **good)
    assert found[subject, "clock"][0] == "PROBLEM"
