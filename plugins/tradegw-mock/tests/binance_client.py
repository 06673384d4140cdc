"""A client of the Binance-compatible doors that hides nothing: raw requests, raw answers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import websockets
from tradegw_mock.serve import Serving
from websockets.asyncio.client import ClientConnection

Answer = tuple[int, Any, dict[str, str]]


class Rest:
    """One account's REST API.

    `offset_ms` is how far its clock is off; `window` is its `recvWindow`, for the server's default.
    """

    def __init__(
        self,
        serving: Serving,
        account: int = 0,
        *,
        offset_ms: int = 0,
        window: str | None = None,
    ) -> None:
        self.serving = serving
        self.account = serving.accounts[account]
        self.key, self.secret = self.account.api_key, self.account.api_secret
        self.offset_ms = offset_ms
        self.window = {} if window is None else {"recvWindow": window}

    def sign(self, payload: str) -> str:
        return hmac.new(self.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()

    def now_ms(self) -> int:
        return int(time.time() * 1000) + self.offset_ms

    def raw(
        self,
        method: str,
        path: str,
        query: str = "",
        body: str | None = None,
        key: str | None = None,
    ) -> Answer:
        at = urlsplit(self.serving.rest)
        assert at.hostname is not None
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=30)
        try:
            headers = {} if key is None else {"X-MBX-APIKEY": key}
            if body is not None:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            target = f"/api/v3/{path}" if not path.startswith("/") else path
            connection.request(
                method, f"{target}?{query}" if query else target, body=body, headers=headers
            )
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, json.loads(answer.read()), found
        finally:
            connection.close()

    def public(self, path: str, **params: object) -> Any:
        status, answer, _ = self.raw("GET", path, urlencode(params))
        assert status == 200, answer
        return answer

    def signed(self, method: str, path: str, *, in_body: bool = False, **params: object) -> Answer:
        """Send a signed request; its parameters go into the query, or into the body."""
        sent = urlencode({**self.window, **params, "timestamp": self.now_ms()})
        sent += f"&signature={self.sign(sent)}"
        if in_body:
            return self.raw(method, path, body=sent, key=self.key)
        return self.raw(method, path, sent, key=self.key)

    def ok(self, method: str, path: str, **params: object) -> Any:
        status, answer, _ = self.signed(method, path, **params)
        assert status == 200, answer
        return answer

    def error(self, method: str, path: str, **params: object) -> tuple[int, int, str]:
        status, answer, _ = self.signed(method, path, **params)
        assert status != 200, answer
        return status, answer["code"], answer["msg"]

    def place(self, **params: object) -> Any:
        """Place an order: by default one that rests."""
        return self.ok("POST", "order", **an_order(**params))

    def refused(self, **params: object) -> tuple[int, str]:
        """Place an order that is refused."""
        status, code, msg = self.error("POST", "order", **an_order(**params))
        assert status == 400, msg
        return code, msg


def patient(serving: Serving, account: int = 0) -> Rest:
    """Make a client whose requests are valid for as long as can be: a machine that stalls changes nothing."""
    return Rest(serving, account, window="60000")


def an_order(**params: object) -> dict[str, object]:
    """Give an order's parameters; None takes one away."""
    fields: dict[str, object] = {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.01",
        "price": "60000",
    }
    if params.get("type", "LIMIT") not in ("LIMIT", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"):
        del fields["timeInForce"]
    if params.get("type") in ("MARKET", "STOP_LOSS", "TAKE_PROFIT"):
        del fields["price"]
    if "quoteOrderQty" in params:
        del fields["quantity"]
    fields |= params
    return {name: value for name, value in fields.items() if value is not None}


class Socket:
    """One connection to the WebSocket API. Events are kept apart from answers."""

    def __init__(self, rest: Rest, connection: ClientConnection) -> None:
        self.rest = rest
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self._answers: dict[object, dict[str, Any]] = {}
        self._last_id = 0

    async def ask(self, method: str, **params: object) -> dict[str, Any]:
        self._last_id += 1
        request = {"id": self._last_id, "method": method, "params": params}
        await self.connection.send(json.dumps(request))
        while self._last_id not in self._answers:
            await self._receive()
        return self._answers.pop(self._last_id)

    async def signed(self, method: str, **params: object) -> dict[str, Any]:
        named = {**self.rest.window, **params}
        named |= {"apiKey": self.rest.key, "timestamp": self.rest.now_ms()}
        payload = "&".join(f"{name}={_text(named[name])}" for name in sorted(named))
        return await self.ask(method, **named, signature=self.rest.sign(payload))

    async def ok(self, method: str, **params: object) -> Any:
        answer = await self.signed(method, **params)
        assert answer["status"] == 200, answer
        return answer["result"]

    async def until(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many events, and give them all."""
        while len(self.events) < count:
            await self._receive()
        return self.events

    async def _receive(self) -> None:
        async with asyncio.timeout(30):
            message = json.loads(await self.connection.recv())
        if "event" in message:
            self.events.append(message)
        else:
            self._answers[message["id"]] = message


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@asynccontextmanager
async def socket_api(rest: Rest, query: str = "") -> AsyncGenerator[Socket]:
    async with websockets.connect(rest.serving.ws_api + query) as connection:
        yield Socket(rest, connection)


@asynccontextmanager
async def stream(serving: Serving, path: str = "") -> AsyncGenerator[ClientConnection]:
    """Open a stream; a path such as `/btcusdt@trade`, or `?streams=...` for combined ones."""
    base = serving.stream if not path.startswith("?") else serving.stream[:-2] + "stream"
    async with websockets.connect(base + quote(path, safe="/@?=!_")) as connection:
        yield connection
