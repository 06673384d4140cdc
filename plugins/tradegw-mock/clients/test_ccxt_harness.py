"""ccxt's own live tests, as its wheel brings them, pointed here by its URL override.

The harness refuses to run out of `site-packages`, so its files are laid out anew. It is told to test the
sandbox, whose addresses are ours: it insists that those of the real exchange stand as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ccxt
import pytest

SYMBOL = "BTC/USDT"

NOT_HERE = "asks other parts of Binance than spot trading, which are not here"
SKIPPED: dict[str, str | dict[str, str]] = {
    # ccxt's own list says so too, for the real exchange.
    "orderBook": {"timestamp": "Binance gives the book no time"},
    "fetchDeposits": NOT_HERE,
    "fetchWithdrawals": NOT_HERE,
    "fetchTransfers": NOT_HERE,
    "fetchBorrowInterest": NOT_HERE,
    "fetchLeverageTiers": "of futures",
    "fetchMarginModes": "of futures; ccxt itself refuses it for spot",
    "fetchLedger": "of futures; ccxt itself refuses it for spot",
    "fetchLedgerEntry": "of futures; ccxt itself refuses it for spot",
}
"""What is not asked, and why. Nor is `createOrder`: in Python ccxt's test of it adds a number to a text."""

PUBLIC = {
    "fetchCurrencies",
    "fetchTicker",
    "fetchTickers",
    "fetchLastPrices",
    "fetchOHLCV",
    "fetchTrades",
    "fetchOrderBook",
    "fetchStatus",
}
PRIVATE = {
    "fetchBalance",
    "fetchTradingFees",
    "fetchOrders",
    "fetchOpenOrders",
    "fetchClosedOrders",
    "fetchMyTrades",
}
WATCHED = {
    "watchOHLCV",
    "watchTicker",
    "watchTickers",
    "watchBidsAsks",
    "watchOrderBook",
    "watchTrades",
    "watchBalance",
    "watchMyTrades",
    "watchOrders",
}


@pytest.fixture
def harness(tmp_path: Path, serving: SimpleNamespace) -> Path:
    """Lay the harness out; give the folder to run it in."""
    package = Path(ccxt.__file__).parent
    there = tmp_path / "python" / "ccxt"
    there.mkdir(parents=True)
    for child in package.iterdir():
        if child.name == "test":
            shutil.copytree(child, there / "test")
        else:
            (there / child.name).symlink_to(child)
    account = serving.accounts[0]
    api = {"public": f"{serving.rest}/api/v3", "private": f"{serving.rest}/api/v3"}
    sockets = {"spot": serving.stream, "ws-api": {"spot": serving.ws_api}}
    settings = {
        "apiKey": account["api_key"],
        "secret": account["api_secret"],
        "urls": {"test": {**api, "sapi": f"{serving.rest}/sapi/v1", "ws": sockets}},
        "options": {"fetchMarkets": {"types": ["spot"]}},
        "has": dict.fromkeys(("swap", "future", "option", "margin"), False),
    }
    (tmp_path / "keys.local.json").write_text(json.dumps({"binance": settings}))
    (tmp_path / "skip-tests.json").write_text(json.dumps({"binance": {"skipMethods": SKIPPED}}))
    return there / "test"


def run(harness: Path, *words: str) -> set[str]:
    """Run the harness; give the methods that it has tested to the end."""
    done = subprocess.run(
        [sys.executable, "tests_init.py", "--sandbox", "--info", *words, "binance", SYMBOL],
        cwd=harness,
        env={**os.environ, "PYTHONPATH": str(harness.parents[1])},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[TEST_FAILURE]" not in done.stdout, done.stdout
    assert "[TEST_WARNING]" not in done.stdout, done.stdout
    return {
        line.split()[4]
        for line in done.stdout.splitlines()
        if line.startswith("[INFO] TESTING DONE")
    }


@pytest.fixture
def activity(serving: SimpleNamespace, point: Any) -> Any:
    """Trade beside the harness, which only looks."""
    exchange = point("ccxt", {"ccxt": ccxt})["exchange"]
    exchange.enableRateLimit = False
    exchange.create_order(SYMBOL, "limit", "buy", 0.01, 60000)
    exchange.create_order(SYMBOL, "market", "buy", 0.01)
    exchange.cancel_all_orders(SYMBOL)
    stop = threading.Event()

    def trade() -> None:
        while not stop.wait(0.5):
            exchange.create_order(SYMBOL, "market", "buy", 0.01)
            exchange.create_order(SYMBOL, "market", "sell", 0.01)

    trading = threading.Thread(target=trade)
    trading.start()
    yield
    stop.set()
    trading.join(30)
    assert not trading.is_alive()


@pytest.mark.usefixtures("activity")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["--sync", "--private"], PUBLIC | PRIVATE, id="sync"),
        pytest.param(["--private"], PUBLIC | PRIVATE, id="async"),
        # It watches for half a minute.
        pytest.param(["--ws", "--private"], WATCHED, id="pro", marks=pytest.mark.long),
    ],
)
def test_the_live_tests_of_ccxt(harness: Path, words: list[str], expected: set[str]) -> None:
    tested = run(harness, *words)
    assert tested >= expected, expected - tested
