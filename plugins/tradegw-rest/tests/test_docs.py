"""The definition in the guide, and the seventh exchange: checked, and rendered by the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from tradegw_rest import load, names
from tradegw_rest.cases import run_cases
from tradegw_rest.compiling import compile_definition
from tradegw_rest.source import read_source

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "mexc-spot.yaml"
GUIDE = ROOT / "docs" / "how-to" / "write-a-definition.md"
NAME = "0123456789abcdef0123456789abcdef"


def tradegw(*args: str, code: int = 0) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("tradegw")), *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def test_the_guide(tmp_path: Path) -> None:
    page = GUIDE.read_text("utf-8")
    (text,) = re.findall(r"<!-- test: definition -->\n```yaml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "acme.yaml"
    file.write_text(text, "utf-8")
    assert "3 of 3 cases hold" in tradegw("rest", "check", str(file))
    (order,) = re.findall(r"--order '(.*?)'", page)
    args = (
        "--key",
        "K",
        "--secret",
        "S",
        "--clock-ms",
        "1700000000000",
        "--json",
        "--order",
        order,
    )
    sent = json.loads(tradegw("rest", "render", str(file), "place", *args))
    assert sorted(sent) == ["body", "headers", "method", "url"]
    assert sent["headers"]["X-ACME-KEY"] == "K"
    assert "&name=mine1&" in sent["body"]
    broken = file.with_name("broken.yaml")
    broken.write_text(text.replace("grid: tick", "grid: nearest"), "utf-8")
    assert f"{broken}:" in tradegw("rest", "check", str(broken), code=1)
    wrong = file.with_name("wrong.yaml")
    wrong.write_text(text.replace('venue_order_id: "7"', 'venue_order_id: "8"'), "utf-8")
    assert "expected '8', found '7'" in tradegw("rest", "check", str(wrong), code=1)


def test_the_seventh_exchange() -> None:
    top = read_source(EXAMPLE.read_text("utf-8"), str(EXAMPLE))
    outcomes = list(run_cases(top, compile_definition(top)))
    assert len(outcomes) == 5
    assert [one for one in outcomes if one.problem] == []


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"side": "BUY", "order_qty": "0.01", "price": "65000"}, {"type": "LIMIT"}),
        (
            {"side": "BUY", "order_qty": "0.01", "price": "65000", "time_in_force": "IOC"},
            {"type": "IMMEDIATE_OR_CANCEL"},
        ),
        (
            {"side": "SELL", "order_qty": "0.01", "price": "65000", "post_only": True},
            {"type": "LIMIT_MAKER"},
        ),
        ({"side": "SELL", "order_qty": "0.01", "ord_type": "MARKET"}, {"type": "MARKET"}),
    ],
)
def test_the_seventh_sends_what_ccxt_sends(fields: dict[str, Any], sent: dict[str, str]) -> None:
    """As ccxt 4.5.90 sent it, the order of the parameters aside."""
    from tradegw_rest import Credentials
    from tradegw_rest.render import render

    from tradegw.venue import Secret

    request = render(
        load(str(EXAMPLE)),
        "place",
        order={"symbol": "BTC/USDT", "client_order_id": NAME, **fields},
        instrument=None,
        credentials=Credentials(key=Secret("K"), secret=Secret("S")),
        clock_ms=1_700_000_000_000,
    )
    assert request.headers == {"X-MEXC-APIKEY": "K"}
    found = dict(parse_qsl(urlsplit(request.url).query))
    signature = found.pop("signature")
    assert len(signature) == 64
    wanted = {
        "symbol": "BTCUSDT",
        "side": fields["side"],
        "quantity": "0.01",
        "newClientOrderId": NAME,
        **sent,
    }
    if "price" in fields:
        wanted["price"] = fields["price"]
    assert found == wanted | {"timestamp": "1700000000000", "recvWindow": "5000"}


def test_the_command_line_lists_and_checks_what_ships() -> None:
    listed = json.loads(tradegw("rest", "definitions", "--json"))["definitions"]
    assert [row["definition"] for row in listed] == list(names())
    assert {row["checked"] for row in listed} != {""}
    told = json.loads(tradegw("rest", "check", "okx-spot", "--json"))
    assert told["ok"] is True


def test_the_command_line_refuses_in_words() -> None:
    order = '{"symbol": "BTC/USDT", "side": "BUY", "order_qty": "0.01", "price": "0.001"}'
    args = (
        "rest",
        "render",
        "binance-spot",
        "place",
        "--key",
        "K",
        "--secret",
        "hidden",
        "--order",
    )
    told = tradegw(*args, order, code=1)
    assert "price must be a multiple of 0.01; found 0.001" in told
    assert "hidden" not in told
    assert "no sample of 'DOGE/USDT'" in tradegw(*args, order.replace("BTC", "DOGE"), code=1)
    given = '{"venue_symbol": "DOGEUSDT", "tick_size": "0.001", "step_size": "0.01"}'
    sent = tradegw(*args, order.replace("BTC", "DOGE"), "--instrument", given, "--json")
    assert "symbol=DOGEUSDT" in json.loads(sent)["body"]
