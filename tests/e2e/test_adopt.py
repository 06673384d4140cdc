"""The record is lost, and the exchange has the orders still: `tradegw adopt` has them back."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tradegw_mock.serve import ServingAccount
from tradegw_mock.testing import MockProcess

from tests.e2e.processes import readiness, serving, tradegw, wait_until

CONFIG = """
[gateway]
name = "desk-1"
[store]
url = "sqlite:///{directory}/tradegw.db"
"""
REST = """
[venues.binance]
plugin = "rest"
definition = "binance-spot"
rest_url = "{rest}"
stream_url = "{stream}"
[accounts.main]
venue = "binance"
api_key = "env:TEST_KEY"
api_secret = "env:TEST_SECRET"
"""
NATIVE = """
[venues.native]
plugin = "mock"
url = "{native}"
[accounts.main]
venue = "native"
exchange_account = "ours"
"""
PRICES = ("20000", "20001", "20002")


def place_by_hand(exchange: MockProcess, account: ServingAccount, **terms: str) -> None:
    """Place an order past every gateway, with a signature of our own."""
    terms |= {"symbol": "BTCUSDT", "type": "LIMIT", "timeInForce": "GTC"}
    text = urlencode(terms | {"timestamp": str(time.time_ns() // 1_000_000)})
    signature = hmac.digest(account.api_secret.encode(), text.encode(), hashlib.sha256).hex()
    request = urllib.request.Request(
        f"{exchange.serving.rest}/api/v3/order",
        data=f"{text}&signature={signature}".encode(),
        headers={"X-MBX-APIKEY": account.api_key},
    )
    urllib.request.urlopen(request, timeout=30).close()


def at_exchange(exchange: MockProcess) -> dict[str, Any]:
    with exchange.ledger() as client:
        return {order.client_order_id: order for order in client.read("ours").orders}


@pytest.mark.parametrize("venue", [REST, NATIVE], ids=["rest", "native"])
def test_orders_outlive_the_record(tmp_path: Path, venue: str) -> None:
    with MockProcess(liquidity="none", accounts=["ours", "another"]) as exchange:
        ours, another = exchange.serving.accounts
        config = tmp_path / "tradegw.toml"
        serves = exchange.serving
        text = (CONFIG + venue).format(
            directory=tmp_path, rest=serves.rest, stream=serves.ws_api, native=exchange.url
        )
        config.write_text(text, "utf-8")
        key = {"TEST_KEY": ours.api_key, "TEST_SECRET": ours.api_secret}

        def ask(*words: str, code: int = 0) -> Any:
            done = tradegw(*words, "--json", cwd=tmp_path)
            assert done.returncode == code, (done.stdout, done.stderr)
            return json.loads(done.stdout)

        def place(price: str) -> Any:
            return ask(
                *("order", "place", "--account", "main", "--symbol", "BTC/USDT", "--side", "buy"),
                *("--type", "limit", "--qty", "0.01", "--price", price),
            )

        with serving(tmp_path, config=config, **key) as served:
            wait_until(lambda: readiness(served.http)[0] == 200, 60, "the account is ready")
            before = {order["venue_order_id"]: order for order in map(place, PRICES)}
            assert {order["ord_status"] for order in before.values()} == {"NEW"}
        for file in tmp_path.glob("tradegw.db*"):
            file.unlink()
        # While nobody looks, the best of them is filled in part, and others of the account come to rest.
        place_by_hand(exchange, another, side="SELL", quantity="0.004", price="20002")
        stranger = "0123456789abcdef0123456789abcdef"
        for name in ("by-hand", stranger):
            place_by_hand(
                exchange, ours, side="BUY", quantity="0.01", price="19000", newClientOrderId=name
            )

        with serving(tmp_path, config=config, **key) as served:
            wait_until(lambda: readiness(served.http)[0] == 200, 60, "the account is ready")
            adopted = ask("adopt", "--account", "main")["orders"]
            assert {order["venue_order_id"] for order in adopted} == set(before)
            for order in adopted:
                known = before[order["venue_order_id"]]
                assert order["origin"] == "GATEWAY"
                assert order["venue_client_order_id"] == known["venue_client_order_id"]
                assert Decimal(order["price"]) == Decimal(known["price"])

            def filled() -> list[Any]:
                found: list[Any] = ask("fills", "--account", "main")["fills"]
                return found

            wait_until(lambda: len(filled()) == 1, 60, "the fill is told")
            (fill,) = filled()
            best = next(o for o in adopted if Decimal(o["price"]) == Decimal(20002))
            assert fill["order_id"] == best["order_id"]
            assert Decimal(fill["last_qty"]) == Decimal("0.004")
            assert not fill["inferred"]
            # Asking again finds nothing more to do.
            again = ask("adopt", "--account", "main")["orders"]
            assert {order["order_id"] for order in again} <= {o["order_id"] for o in adopted}
            for order in adopted:
                closed = ask("order", "cancel", order["order_id"])
                assert closed["ord_status"] == "CANCELED", closed
            assert Decimal(ask("order", "status", best["order_id"])["cum_qty"]) == Decimal("0.004")
            # One of the others, by its name: with no tag of ours, or with another's.
            wanted = str(at_exchange(exchange)["by-hand"].order_id)
            (taken,) = ask("adopt", "--account", "main", "--venue-order-id", wanted)["orders"]
            assert (taken["venue_order_id"], taken["origin"]) == (wanted, "GATEWAY")
        left = at_exchange(exchange)
        mine = {order["venue_client_order_id"] for order in before.values()}
        assert {left[name].ord_status for name in mine} == {"CANCELED"}
        assert {left[name].ord_status for name in ("by-hand", stranger)} == {"NEW"}
