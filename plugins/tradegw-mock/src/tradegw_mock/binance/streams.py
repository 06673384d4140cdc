"""The streams of market data, and of an account to whoever has its listen key.

`Broadcast` makes each message once, however many listen; a connection that does not keep up is cut.

Source: binance-spot-api-docs, web-socket-streams.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from tradegw_mock.binance.api import Api
from tradegw_mock.binance.connections import (
    Connection,
    Connections,
    decode_request,
    encode,
    tell_account,
)
from tradegw_mock.binance.errors import BinanceError
from tradegw_mock.binance.topics import Topic, find_topic
from tradegw_mock.exchange import Change
from tradegw_mock.host import ExchangeAway
from tradegw_mock.tape import Trade
from tradegw_mock.web import Cutter

__all__ = ["StreamDoor"]

log = logging.getLogger(__name__)

MS: Final = 1_000_000
_QUEUE_MAX: Final = 5_000
"""Messages that a client may be behind."""
_STREAMS_MAX: Final = 1024
"""Streams of one connection."""


class _Live:
    """A topic with its listeners."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.hearers: dict[_Client, None] = {}
        self.is_due = False


class Broadcast:
    """All streams that somebody listens to."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._live: dict[str, _Live] = {}
        self._of_symbol: dict[str, set[str]] = {}
        self._due: asyncio.Queue[str] = asyncio.Queue()

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Tell, as long as the context is open."""
        stop = self._api.follow(self._on_change)
        telling = asyncio.create_task(self._tell(), name="market data streams")
        try:
            yield
        finally:
            stop()
            telling.cancel()
            await asyncio.wait([telling])

    def join(self, name: str, client: _Client) -> bool:
        """Let a client listen; False where there is no such stream."""
        live = self._live.get(name)
        if live is None:
            topic = find_topic(self._api, name)
            if topic is None:
                return False
            live = self._live[name] = _Live(topic)
            for symbol in topic.symbols:
                self._of_symbol.setdefault(symbol, set()).add(name)
        live.hearers[client] = None
        if live.topic.speaks_first:
            self._schedule(name, live, 0.0)
        return True

    def leave(self, name: str, client: _Client) -> None:
        """Let a client listen no more."""
        live = self._live.get(name)
        if live is None:
            return
        live.hearers.pop(client, None)
        if not live.hearers:
            del self._live[name]
            for symbol in live.topic.symbols:
                self._of_symbol[symbol].discard(name)

    def _on_change(self, change: Change, trades: dict[str, list[Trade]]) -> None:
        if not self._live:
            return
        moved = {order.symbol for order in change.orders} | trades.keys()
        # Of quotes that the maker has withdrawn nothing is left but their number.
        touched = self._of_symbol.keys() if change.forgotten else moved
        for symbol in touched:
            for name in self._of_symbol.get(symbol, ()):
                live = self._live[name]
                if live.topic.interval_s is not None:
                    self._schedule(name, live, live.topic.interval_s)
                for message in live.topic.of_trades(symbol, trades.get(symbol, [])):
                    self._send(name, live, message)

    def _schedule(self, name: str, live: _Live, after_s: float) -> None:
        if live.is_due:
            return
        live.is_due = True
        asyncio.get_running_loop().call_later(after_s, self._due.put_nowait, name)

    async def _tell(self) -> None:
        while True:
            name = await self._due.get()
            live = self._live.get(name)
            if live is None:
                continue
            live.is_due = False
            try:
                messages = live.topic.messages()
                # What was seen just now may not be committed yet.
                await self._api.settled()
            except (ExchangeAway, BinanceError):
                # It is built anew; what happens then is told again.
                continue
            except Exception:
                log.exception("stream %s failed", name)
                continue
            for message in messages:
                self._send(name, live, message)

    def _send(self, name: str, live: _Live, message: Any) -> None:
        payload = encode(message)
        for client in tuple(live.hearers):
            client.hear(name, payload)


class StreamDoor:
    """All connections to the streams."""

    def __init__(self, api: Api, cutter: Cutter) -> None:
        self._api = api
        self._connections = Connections(cutter, self._last_frame)
        self._combined: set[Connection] = set()
        self.broadcast = Broadcast(api)

    def routes(self) -> list[BaseRoute]:
        """Give the routes of the door."""
        return [
            WebSocketRoute("/ws", self._serve_raw),
            WebSocketRoute("/ws/{names:path}", self._serve_raw),
            WebSocketRoute("/stream", self._serve_combined),
        ]

    async def close(self) -> None:
        """Say to every client that the server goes, and close."""
        await self._connections.close()

    def _last_frame(self, connection: Connection) -> bytes:
        told = {"e": "serverShutdown", "E": self._api.host.time_ns() // MS}
        if connection in self._combined:
            return encode({"stream": "!serverShutdown", "data": told})
        return encode(told)

    async def _serve_raw(self, websocket: WebSocket) -> None:
        names = str(websocket.path_params.get("names", "")).split("/")
        await self._serve(websocket, names, is_combined=False)

    async def _serve_combined(self, websocket: WebSocket) -> None:
        names = websocket.query_params.get("streams", "").split("/")
        await self._serve(websocket, names, is_combined=True)

    async def _serve(self, websocket: WebSocket, names: list[str], *, is_combined: bool) -> None:
        async with self._connections.accept(websocket) as connection:
            client = _Client(self._api, self.broadcast, connection, is_combined=is_combined)
            if is_combined:
                self._combined.add(connection)
            try:
                await client.serve([name for name in names if name])
            finally:
                self._combined.discard(connection)


class _Client:
    """One connection: the streams it listens to, and the messages it has still to be sent."""

    def __init__(
        self, api: Api, broadcast: Broadcast, connection: Connection, *, is_combined: bool
    ) -> None:
        self._api = api
        self._broadcast = broadcast
        self._connection = connection
        self._is_combined = is_combined
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(_QUEUE_MAX)
        self._names: dict[str, None] = {}
        self._accounts: dict[str, asyncio.Task[None]] = {}

    def hear(self, name: str, payload: bytes) -> None:
        """Take a message, to be sent when its turn comes."""
        if self._is_combined:
            payload = b'{"stream":' + encode(name) + b',"data":' + payload + b"}"
        try:
            self._queue.put_nowait(payload)
        except asyncio.QueueFull:
            # Skipping messages would be a lie; the client is to come back and look.
            self._connection.cut()

    async def serve(self, names: list[str]) -> None:
        """Serve until the client leaves."""
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send())
            try:
                for name in names[:_STREAMS_MAX]:
                    self._join(group, name)
                while (text := await self._connection.receive()) is not None:
                    self._queue.put_nowait(encode(self._answer(group, text)))
            except asyncio.QueueFull:
                self._connection.cut()
            finally:
                for name in self._names:
                    self._broadcast.leave(name, self)
                for task in (sending, *self._accounts.values()):
                    task.cancel()

    async def _send(self) -> None:
        try:
            while True:
                await self._connection.send(await self._queue.get())
        except ConnectionError:
            self._connection.cut()

    def _join(self, group: asyncio.TaskGroup, name: str) -> None:
        """Listen to a stream. One that is not there stays silent, as it does at Binance."""
        if name in self._names or name in self._accounts:
            return
        if self._broadcast.join(name, self):
            self._names[name] = None
            return
        keys = self._api.listen_keys
        account = None if keys is None else keys.find(name)
        if account is None:
            return
        feed = self._api.host.feed(account)
        self._accounts[name] = group.create_task(
            tell_account(
                self._api,
                self._connection,
                account,
                feed,
                feed.last_seq,
                lambda event: {"stream": name, "data": event} if self._is_combined else event,
                route="userDataStream",
            )
        )

    # --- requests -------------------------------------------------------------------------------

    def _answer(self, group: asyncio.TaskGroup, text: str) -> dict[str, Any]:
        request = decode_request(text)
        if request is None:
            return {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}
        request_id, params = request.get("id"), request.get("params", [])
        match request.get("method"):
            case "SUBSCRIBE" | "UNSUBSCRIBE" as method if _is_names(params):
                if method == "UNSUBSCRIBE":
                    for name in params:
                        self._leave(name)
                elif len(self._names) + len(params) > _STREAMS_MAX:
                    return _failed(2, "Invalid request: too many parameters", request_id)
                else:
                    for name in params:
                        self._join(group, name)
                return {"result": None, "id": request_id}
            case "LIST_SUBSCRIPTIONS":
                return {"result": [*self._names, *self._accounts], "id": request_id}
            case "SET_PROPERTY":
                match params:
                    case ["combined", bool() as is_combined]:
                        self._is_combined = is_combined
                        return {"result": None, "id": request_id}
                    case ["combined", _]:
                        return _failed(1, "Invalid value type: expected Boolean", request_id)
                    case _:
                        return _failed(0, "Unknown property", request_id)
            case "GET_PROPERTY":
                if params == ["combined"]:
                    return {"result": self._is_combined, "id": request_id}
                return _failed(0, "Unknown property", request_id)
            case None:
                return _failed(2, "Invalid request: missing field `method`", request_id)
            case method:
                words = (
                    f"Invalid request: unknown variant {str(method)[:40]}, expected one of "
                    "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"
                )
                return _failed(2, words, request_id)

    def _leave(self, name: str) -> None:
        if name in self._names:
            del self._names[name]
            self._broadcast.leave(name, self)
        task = self._accounts.pop(name, None)
        if task is not None:
            task.cancel()


def _is_names(params: object) -> bool:
    return isinstance(params, list) and all(isinstance(name, str) for name in params)  # pyright: ignore[reportUnknownVariableType]


def _failed(code: int, msg: str, request_id: object) -> dict[str, Any]:
    return {"code": code, "msg": msg, "id": request_id}
