"""The indexer's stream of one subaccount: connected, read, checked for gaps, begun again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec
import websockets
from websockets.asyncio.client import ClientConnection

from tradegw import TranslationError, VenueError
from tradegw.venue import Feedback, Runtime, StreamGap, StreamReady
from tradegw_dydx.gaps import GapTracker

__all__ = ["Contents", "Heights", "StreamSource", "subscribe"]

log = logging.getLogger(__name__)

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 10.0
SUBSCRIBE_TIMEOUT_S: Final = 25.0
"""The answer waits for the indexer's REST API, up to 20 s."""
CHECK_EVERY_S: Final = 1.0
SILENCE_MAX_S: Final = 60.0
"""A block height comes twice a second. A stream that is silent so long is dead, pings or not."""
_MESSAGE_MAX: Final = 16 * 1024 * 1024
_SUBACCOUNTS: Final = "v4_subaccounts"
_HEIGHTS: Final = "v4_block_height"

Contents = Mapping[str, Any]
"""What one message says of the subaccount."""
StreamSource = Contents | StreamReady | StreamGap


class Heights:
    """The newest block that the indexer told of."""

    def __init__(self) -> None:
        self.height = 0
        self.time_s = 0.0
        """When it was told, by the event loop's clock."""

    def see(self, value: Any) -> None:
        """Note a height, in whichever of its forms."""
        try:
            self.height = max(self.height, int(value))
            self.time_s = asyncio.get_running_loop().time()
        except (TypeError, ValueError):
            log.debug("no height: %r", value)


class _Broken(Exception):
    """The stream cannot be relied on; begin again."""


async def subscribe(
    url: str, address: str, subaccount: int, heights: Heights, runtime: Runtime, rng: random.Random
) -> AsyncIterator[StreamSource]:
    """Yield ready, what the stream says, a gap, ready again, without end.

    The first contents after each ready are a snapshot, without fills: fetch those of the time between.
    """
    ready = StreamReady(venue_account_id=f"{address}/{subaccount}")
    wait_s = FIRST_WAIT_S
    while True:
        is_live = False
        try:
            async with websockets.connect(
                url,
                open_timeout=CONNECT_TIMEOUT_S,
                ping_interval=20,
                ping_timeout=20,
                max_size=_MESSAGE_MAX,
                user_agent_header="tradegw-dydx",
            ) as socket:
                reader = _Reader(socket, f"{address}/{subaccount}", heights)
                first = await reader.begin()
                runtime.feedback(Feedback(healthy=True, detail=f"stream from {url}"))
                yield ready
                is_live, wait_s = True, FIRST_WAIT_S
                yield first
                while True:
                    async for contents in reader.read():
                        yield contents
        except (
            _Broken,
            OSError,
            TimeoutError,
            websockets.exceptions.WebSocketException,
            VenueError,
            TranslationError,
        ) as e:
            why = f"{type(e).__name__}: {e}"
            runtime.feedback(Feedback(healthy=False, detail=f"stream from {url}: {why}"))
            if is_live:
                yield StreamGap(why=why)
        await runtime.sleep(wait_s * rng.uniform(0.5, 1.0))
        wait_s = min(wait_s * 2, LONGEST_WAIT_S)


class _Reader:
    """One connection."""

    def __init__(self, socket: ClientConnection, subaccount: str, heights: Heights) -> None:
        self._socket = socket
        self._subaccount = subaccount
        self._heights = heights
        self._gaps = GapTracker()
        self._early: list[Contents] = []
        self._last_s = 0.0

    async def begin(self) -> Contents:
        """Subscribe, and return the snapshot; what came before it is read after it."""
        loop = asyncio.get_running_loop()
        self._last_s = loop.time()
        async with asyncio.timeout(SUBSCRIBE_TIMEOUT_S):
            hello = _decode(await self._socket.recv())
            if hello.get("type") != "connected":
                raise _Broken(f"expected connected; found {hello.get('type')!r}")
            for request in (
                {"channel": _SUBACCOUNTS, "id": self._subaccount, "batched": False},
                {"channel": _HEIGHTS, "batched": False},
            ):
                self._gaps.expect_reply()
                await self._socket.send(
                    msgspec.json.encode({"type": "subscribe", **request}).decode()
                )
            while True:
                message = _decode(await self._socket.recv())
                if not self._note(message):
                    continue
                channel = message.get("channel")
                if message["type"] == "subscribed" and channel == _SUBACCOUNTS:
                    return _contents(message.get("contents"))
                self._early.extend(self._open(message))

    async def read(self) -> AsyncIterator[Contents]:
        """Yield what comes within a moment, and check that nothing is missing."""
        early, self._early = self._early, []
        for contents in early:
            yield contents
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CHECK_EVERY_S):
                text = await self._socket.recv()
        except TimeoutError:
            text = None
        now_s = loop.time()
        if text is not None:
            self._last_s = now_s
            message = _decode(text)
            if self._note(message):
                for contents in self._open(message):
                    yield contents
        elif now_s - self._last_s > SILENCE_MAX_S:
            raise _Broken(f"nothing came for {SILENCE_MAX_S} s")
        if self._gaps.has_gap(now_s):
            raise _Broken("a message is missing")

    def _note(self, message: Mapping[str, Any]) -> bool:
        """Note a message's number; returns whether there is anything to read in it."""
        kind = message.get("type")
        if kind == "error":
            raise _Broken(f"the indexer says: {str(message.get('message'))[:300]}")
        number = message.get("message_id")
        if not isinstance(number, int):
            raise TranslationError(f"a message without message_id: {message!r:.200}")
        is_reply = kind in ("subscribed", "unsubscribed")
        now_s = asyncio.get_running_loop().time()
        return not self._gaps.see(number, is_reply=is_reply, now_s=now_s)

    def _open(self, message: Mapping[str, Any]) -> list[Contents]:
        kind, channel = message.get("type"), message.get("channel")
        contents = message.get("contents")
        parts = contents if kind == "channel_batch_data" else [contents]
        if not isinstance(parts, list):
            raise TranslationError(f"a batch is a list: {message!r:.200}")
        found = [_contents(part) for part in parts]  # pyright: ignore[reportUnknownVariableType]
        for part in found:
            if "blockHeight" in part or (channel == _HEIGHTS and "height" in part):
                self._heights.see(part.get("blockHeight", part.get("height")))
        return found if channel == _SUBACCOUNTS else []


def _decode(text: str | bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError) as e:
        raise TranslationError(f"the stream sent no JSON object: {text[:200]!r}") from e


def _contents(contents: Any) -> Contents:
    if contents is None:
        return {}
    if not isinstance(contents, dict):
        raise TranslationError(f"contents are an object: {contents!r:.200}")
    return contents  # pyright: ignore[reportUnknownVariableType]
