"""The example's source of secrets, against a vault's double: a key of an exchange, and its rotation."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tradegw_mock.testing import MockProcess

import tradegw
from examples import vault_secrets
from tradegw.errors import ConfigError

TOKEN = "the vault's token"


class Vault(ThreadingHTTPServer):
    """Answers like the key-value engine, version 2."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.held: dict[str, dict[str, str]] = {}
        self.reads = 0


class _Handler(BaseHTTPRequestHandler):
    server: Vault

    def do_GET(self) -> None:
        entry = self.server.held.get(self.path.removeprefix("/v1/secret/data/"))
        if self.headers["X-Vault-Token"] != TOKEN:
            self.send_error(403)
        elif entry is None:
            self.send_error(404)
        else:
            self.server.reads += 1
            body = json.dumps({"data": {"data": entry, "metadata": {"version": 1}}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    server = Vault()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(token))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def config(directory: Path, exchange: MockProcess) -> dict[str, object]:
    return {
        "store": {"url": f"sqlite:///{directory / 'bot.db'}"},
        "venues": {
            "binance": {
                "plugin": "rest",
                "definition": "binance-spot",
                "rest_url": exchange.serving.rest,
                "stream_url": exchange.serving.ws_api,
            }
        },
        "accounts": {
            "main": {
                "venue": "binance",
                "api_key": "vault:trading/binance#key",
                "api_secret": "vault:trading/binance#secret",
            }
        },
    }


async def test_a_key_comes_from_the_vault_and_a_rotated_one_is_used(
    vault: Vault, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with MockProcess(accounts=["account-1"]) as exchange:
        (account,) = exchange.serving.accounts
        vault.held["trading/binance"] = {"key": account.api_key, "secret": "not yet the right one"}
        async with tradegw.open(
            config(tmp_path, exchange), plugins=[vault_secrets], ready_timeout_s=0.5
        ) as gateway:
            (venue,) = await gateway.list_venues()
            assert venue.accounts[0].state != "READY"
            before = vault.reads
            # The vault has the right one from now on, and the venue is opened anew until it works.
            vault.held["trading/binance"]["secret"] = account.api_secret
        async with tradegw.open(
            config(tmp_path, exchange), plugins=[vault_secrets], ready_timeout_s=60
        ) as gateway:
            order = await gateway.place_order(
                account="main", symbol="BTC/USDT", side="buy", ord_type="market", order_qty="0.01"
            )
            assert order.cum_qty == order.order_qty
        assert vault.reads > before
    assert account.api_secret not in caplog.text


async def test_a_secret_that_is_not_there_is_told_by_name(vault: Vault, tmp_path: Path) -> None:
    with MockProcess(accounts=["account-1"]) as exchange:
        with pytest.raises(ConfigError) as wrong:
            await asyncio.wait_for(_open(config(tmp_path, exchange)), 60)
    assert wrong.value.reason == "SECRET_MISSING"
    assert "accounts.main.api_key" in str(wrong.value)
    assert TOKEN not in str(wrong.value)


async def _open(settings: dict[str, object]) -> None:
    async with tradegw.open(settings, plugins=[vault_secrets]):
        pytest.fail("it has no key")
