"""`tradegw rest render`, as it is typed: every definition, and what is wrong said in words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

CORPUS = Path(__file__).parent / "corpus"
KEY = ("--key", "K", "--secret", "S", "--clock-ms", "1700000000000")
LIMIT = {
    "symbol": "BTC/USDT",
    "side": "buy",
    "ord_type": "limit",
    "order_qty": "0.01",
    "price": "65000",
}


def render(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tradegw.transports.cli", "rest", "render", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_key_in_pem_is_given_as_it_is() -> None:
    """It begins with dashes, and is no option."""
    pem = (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        .decode()
    )
    order = json.dumps(LIMIT | {"symbol": "BTC/USD", "client_order_id": "0" * 32})
    done = render("coinbase", "place", "--order", order, "--key", "k", "--secret", pem, "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert set(shown) == {"method", "url", "headers", "body"}
    assert shown["headers"]["Authorization"].startswith("Bearer ")
    assert json.loads(shown["body"])["client_order_id"] == "0" * 32


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(("binance", "place"), "binance-spot, bitstamp", id="no such definition"),
        pytest.param(("./none.yaml", "place"), "cannot be read", id="no such file"),
        pytest.param(("binance-spot", "plase"), "operation is one of place", id="operation"),
        pytest.param(("binance-spot", "place"), "needs --order", id="no order"),
        pytest.param(
            ("binance-spot", "place", "--order", "{"), "--order must be JSON", id="no JSON"
        ),
        pytest.param(
            ("binance-spot", "place", "--order", json.dumps(LIMIT | {"side": "by"})),
            "side: Side is one of BUY, SELL; found 'by'",
            id="side",
        ),
        pytest.param(
            ("binance-spot", "place", "--order", json.dumps(LIMIT | {"price": "65000.001"})),
            "price must be a multiple of 0.01; found 65000.001",
            id="off the grid",
        ),
        pytest.param(
            ("binance-spot", "place", "--order", json.dumps(LIMIT | {"qty": "1"})),
            "unknown field 'qty'",
            id="field",
        ),
        pytest.param(
            ("binance-spot", "place", "--order", json.dumps(LIMIT | {"symbol": "DOGE/USDT"})),
            "give --instrument",
            id="no such sample",
        ),
        pytest.param(
            ("kraken-spot", "place", "--order", json.dumps(LIMIT | {"symbol": "BTC/USD"})),
            "must be base64",
            id="secret",
        ),
        pytest.param(
            ("okx-spot", "place", "--order", json.dumps(LIMIT)), "passphrase", id="passphrase"
        ),
        pytest.param(("binance-spot", "api_version"), "has no api_version", id="not there"),
    ],
)
def test_what_is_wrong_is_said(words: tuple[str, ...], told: str) -> None:
    done = render(*words, *KEY, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_shown_is_what_ccxt_sends() -> None:
    corpus = json.loads((CORPUS / "binance-spot.json").read_text("utf-8"))
    case: dict[str, Any] = corpus["cases"][0]
    assert (case["oracle"], case["operation"]) == ("ccxt", "place")
    done = render("binance-spot", "place", "--order", json.dumps(case["order"]), *KEY, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == case["request"]
