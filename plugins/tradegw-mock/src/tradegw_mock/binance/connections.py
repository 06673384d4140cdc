"""What all WebSocket connections of these doors share: sending in order, and an end with a word."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from tradegw_mock.binance.api import Api
from tradegw_mock.binance.events import to_events
from tradegw_mock.feed import Feed, FeedGap
from tradegw_mock.host import StreamCut
from tradegw_mock.web import Cutter

__all__ = ["Connection", "Connections", "decode_request", "encode", "tell_account"]

log = logging.getLogger(__name__)

STALL_S: Final = 30.0
"""How long a client may leave what it was sent unread."""
GOING_AWAY: Final = 1001

encode = msgspec.json.Encoder().encode
# Fractions stay the texts that they were, because those texts are signed.
_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=str)


def decode_request(text: str) -> dict[str, Any] | None:
    """Read a request; None for what is none."""
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


class Connection:
    """One WebSocket.

    Attributes:
        address: Whom it comes from.
    """

    def __init__(self, websocket: WebSocket, cutter: Cutter) -> None:
        self._websocket = websocket
        self._cutter = cutter
        self._client = (
            ("", 0) if websocket.client is None else (websocket.client.host, websocket.client.port)
        )
        self._sending = asyncio.Lock()
        self.address = self._client[0]

    def cut(self) -> None:
        """Cut it without a word."""
        self._cutter.cut(self._client)

    async def send(self, frame: bytes) -> None:
        """Send one text frame, after those before.

        Raises:
            ConnectionError: The client is gone, or does not read.
        """
        async with self._sending:
            if self._websocket.application_state is not WebSocketState.CONNECTED:
                raise ConnectionError("the connection is closed")
            try:
                async with asyncio.timeout(STALL_S):
                    await self._websocket.send_text(frame.decode())
            except TimeoutError as e:
                self.cut()
                raise ConnectionError("the client does not read what it is sent") from e
            except (WebSocketDisconnect, RuntimeError, OSError) as e:
                raise ConnectionError("the client is gone") from e

    async def receive(self) -> str | None:
        """Give the next frame; None when the client has gone."""
        while True:
            try:
                message = await self._websocket.receive()
            except RuntimeError:
                return None
            if message["type"] == "websocket.disconnect":
                return None
            text = message.get("text")
            if text is not None:
                return str(text)
            raw = message.get("bytes")
            if raw is not None:
                return bytes(raw).decode(errors="replace")

    async def close(self, last_frame: bytes) -> None:
        """Say a last word, and close."""
        try:
            await self.send(last_frame)
            async with self._sending:
                await self._websocket.close(GOING_AWAY)
        except (ConnectionError, RuntimeError):
            pass


class Connections:
    """All that are open, so that a shutdown can tell them.

    Args:
        last_frame: Makes the word that a connection ends with.
    """

    def __init__(self, cutter: Cutter, last_frame: Callable[[Connection], bytes]) -> None:
        self._cutter = cutter
        self._last_frame = last_frame
        self._open: set[Connection] = set()

    @asynccontextmanager
    async def accept(self, websocket: WebSocket) -> AsyncGenerator[Connection]:
        """Take a connection, for as long as the context is open."""
        await websocket.accept()
        connection = Connection(websocket, self._cutter)
        self._open.add(connection)
        try:
            yield connection
        finally:
            self._open.discard(connection)

    async def close(self) -> None:
        """Say to every client that the server goes, and close."""
        await asyncio.gather(*(c.close(self._last_frame(c)) for c in tuple(self._open)))


async def tell_account(
    api: Api,
    connection: Connection,
    account: str,
    feed: Feed,
    after: int,
    wrap: Callable[[dict[str, Any]], Any],
    *,
    route: str,
) -> None:
    """Send an account's events after a number, until the client is gone or they are.

    Args:
        wrap: What is sent around each event.
        route: The stream's name, by which faults meet it.
    """
    try:
        async with aclosing(api.host.follow(account, feed, after, route=route)) as batches:
            async for events in batches:
                for event in events:
                    for told in to_events(event, api.symbols.name, api.cancel_ids):
                        await connection.send(encode(wrap(told)))
    except (FeedGap, StreamCut):
        # Events are missing. Cutting says so: whoever comes back asks how its orders stand.
        connection.cut()
    except ConnectionError:
        pass
