"""The indexer's streams: connections, subscriptions, and the numbers of their messages.

One counter per connection, raised by each subscribe and unsubscribe when it is read and by each message of
data. `subscribed` carries the number that was reserved when its request was read, so it may come after later
ones; a listener that takes that for a gap is wrong.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.websockets import WebSocket, WebSocketDisconnect

from tradegw_dydx.localnet.faults import FaultKind, Faults
from tradegw_dydx.localnet.views import Json

__all__ = ["Hub", "Initial"]

CHANNELS: Final = {
    # How many of one kind a connection may have, and the version of its messages.
    "v4_subaccounts": (256, "3.0.0"),
    "v4_parent_subaccounts": (256, "3.0.0"),
    "v4_orderbook": (32, "1.0.0"),
    "v4_trades": (32, "2.1.0"),
    "v4_markets": (32, "1.0.0"),
    "v4_candles": (32, "1.0.0"),
    "v4_block_height": (1, "1.0.0"),
}
_WITHOUT_ID: Final = ("v4_markets", "v4_block_height")
_BATCH_S: Final = 0.25
_QUEUE_MAX: Final = 10_000
_SUBSCRIBES_PER_S: Final = 2
_INVALID_PER_S: Final = 2
_POLICY: Final = 1008
_RESTART: Final = 1012

Initial = Callable[[str, str], Json]
"""Gives a channel's first contents; raises LookupError for what there is none of."""


class _Said(Struct):
    """What a listener may say."""

    type: str = ""
    channel: str = ""
    id: str = ""
    batched: bool = False


class _Close(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _Connection:
    """One listener: what it subscribed to, and what is still to be sent."""

    def __init__(self, hub: Hub, cut: Callable[[], None]) -> None:
        self.connection_id = str(uuid.uuid4())
        self.subscriptions: dict[tuple[str, str], bool] = {}
        self.queue: asyncio.Queue[str | _Close] = asyncio.Queue(_QUEUE_MAX)
        self.cut = cut
        self._hub = hub
        self._message_id = 0
        self._batches: dict[tuple[str, str], list[Json]] = {}
        self._late: list[tuple[int, str]] = []
        self._recent: dict[tuple[str, str], deque[float]] = {}
        self._invalid: deque[float] = deque()

    def put(self, message: Json) -> None:
        """Let a message be sent."""
        self._put_text(json.dumps({"connection_id": self.connection_id, **message}))

    def _put_text(self, text: str) -> None:
        try:
            self.queue.put_nowait(text)
        except asyncio.QueueFull:
            # It reads too slowly; what it misses it must fetch.
            self.cut()

    def greet(self) -> None:
        """Say hello."""
        self.put({"type": "connected", "message_id": 0})

    def close(self, code: int, reason: str) -> None:
        """Close after what waits was sent."""
        try:
            self.queue.put_nowait(_Close(code, reason))
        except asyncio.QueueFull:
            self.cut()

    # What a listener says

    def hear(self, text: str) -> None:
        """Carry out one message of the listener.

        Raises:
            _Close: It says too much.
        """
        try:
            told = msgspec.json.decode(text, type=_Said)
        except msgspec.DecodeError:
            self._complain("Invalid message: could not parse", {})
            return
        channel, subject, kind = told.channel, told.id, told.type
        if kind == "ping":
            return
        if kind not in ("subscribe", "unsubscribe"):
            self._complain(f"Invalid message type: {kind}", {})
            return
        if channel not in CHANNELS:
            self._complain(f"Invalid channel: {channel}", {})
            return
        if channel in _WITHOUT_ID:
            subject = channel
        elif not subject:
            self._complain(f"Invalid id: {subject}", {"channel": channel})
            return
        key = (channel, subject)
        if kind == "unsubscribe":
            self._message_id += 1
            self.subscriptions.pop(key, None)
            self._batches.pop(key, None)
            self.put({"type": "unsubscribed", "message_id": self._message_id, **_name(key)})
            return
        self._subscribe(key, is_batched=told.batched)

    def _subscribe(self, key: tuple[str, str], *, is_batched: bool) -> None:
        now = asyncio.get_running_loop().time()
        recent = self._recent.setdefault(key, deque())
        if _is_too_fast(recent, now, _SUBSCRIBES_PER_S):
            raise _Close(_POLICY, "Too many subscribe attempts for channel " + "-".join(key))
        self._message_id += 1
        number = self._message_id
        if key in self.subscriptions:
            self._say_error(
                f"Invalid subscribe message: already subscribed ({key[0]}-{key[1]})", _name(key)
            )
            return
        count = sum(1 for channel, _ in self.subscriptions if channel == key[0])
        if count >= CHANNELS[key[0]][0]:
            self._say_error(f"Per-connection subscription limit reached for {key[0]}", _name(key))
            return
        try:
            contents = self._hub.initial(*key)
        except LookupError as e:
            self._say_error(str(e.args[0]), _name(key))
            return
        self.subscriptions[key] = is_batched
        text = json.dumps(
            {
                "type": "subscribed",
                "connection_id": self.connection_id,
                "message_id": number,
                **_name(key),
                "contents": contents,
            }
        )
        late = self._hub.faults.take(FaultKind.WS_LATE_SUBSCRIBED, method=key[0])
        if late is not None and late.messages:
            self._late.append((late.messages, text))
        else:
            self._put_text(text)

    def _complain(self, message: str, about: Json) -> None:
        now = asyncio.get_running_loop().time()
        if _is_too_fast(self._invalid, now, _INVALID_PER_S):
            raise _Close(_POLICY, "Too many invalid messages")
        self._say_error(message, about)

    def _say_error(self, message: str, about: Json) -> None:
        self.put({"type": "error", "message": message, "message_id": self._message_id, **about})

    # What it is told

    def tell(self, key: tuple[str, str], contents: Json) -> None:
        """Send one piece of data, now or with the next batch."""
        if self.subscriptions[key]:
            batch = self._batches.get(key)
            if batch is None:
                self._batches[key] = [contents]
                asyncio.get_running_loop().call_later(_BATCH_S, self._flush, key)
            else:
                batch.append(contents)
            return
        self._send_data(key, {"type": "channel_data", "contents": contents})

    def _flush(self, key: tuple[str, str]) -> None:
        batch = self._batches.pop(key, None)
        if batch:
            self._send_data(key, {"type": "channel_batch_data", "contents": batch})

    def _send_data(self, key: tuple[str, str], message: Json) -> None:
        self._message_id += 1
        faults = self._hub.faults
        if faults.take(FaultKind.WS_DROP, method=key[0]) is not None:
            self.cut()
            return
        if faults.take(FaultKind.WS_SKIP, method=key[0]) is not None:
            return
        named = {
            **message,
            "message_id": self._message_id,
            "version": CHANNELS[key[0]][1],
            **_name(key),
        }
        self.put(named)
        if faults.take(FaultKind.WS_DUPLICATE, method=key[0]) is not None:
            self.put(named)
        waiting, self._late = self._late, []
        for left, text in waiting:
            if left > 1:
                self._late.append((left - 1, text))
            else:
                self._put_text(text)


def _name(key: tuple[str, str]) -> Json:
    channel, subject = key
    return {"channel": channel} if channel in _WITHOUT_ID else {"channel": channel, "id": subject}


def _is_too_fast(times: deque[float], now: float, limit: int) -> bool:
    while times and times[0] <= now - 1:
        times.popleft()
    times.append(now)
    return len(times) > limit


class Hub:
    """All listeners.

    Attributes:
        initial: Gives the first contents of a channel.
    """

    def __init__(self, faults: Faults, initial: Initial) -> None:
        self.faults = faults
        self.initial = initial
        self._connections: set[_Connection] = set()

    def publish(self, channel: str, subject: str, contents: Json) -> None:
        """Tell one piece of data to everyone who subscribed to it."""
        key = (channel, subject)
        for connection in tuple(self._connections):
            if key in connection.subscriptions:
                connection.tell(key, contents)

    def subjects(self, channel: str) -> set[str]:
        """Return what of a channel somebody listens to."""
        return {
            subject
            for connection in self._connections
            for name, subject in connection.subscriptions
            if name == channel
        }

    def close_all(self, reason: str) -> None:
        """Close every stream, as a service does that starts again."""
        for connection in tuple(self._connections):
            connection.close(_RESTART, reason)

    async def serve(self, socket: WebSocket, cut: Callable[[], None]) -> None:
        """Serve one listener until either side ends it."""
        await socket.accept()
        connection = _Connection(self, cut)
        connection.greet()
        self._connections.add(connection)
        writing = asyncio.create_task(_write(socket, connection))
        reading = asyncio.create_task(_read(socket, connection))
        try:
            await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            for task in (writing, reading):
                task.cancel()
            await asyncio.gather(writing, reading, return_exceptions=True)


async def _read(socket: WebSocket, connection: _Connection) -> None:
    try:
        while True:
            connection.hear(await socket.receive_text())
    except _Close as e:
        connection.close(e.code, str(e))
        # The writer closes, after what is still to be said.
        await asyncio.Event().wait()
    except (WebSocketDisconnect, RuntimeError, KeyError):
        return


async def _write(socket: WebSocket, connection: _Connection) -> None:
    try:
        while True:
            item: Any = await connection.queue.get()
            if isinstance(item, _Close):
                await socket.close(item.code, str(item))
                return
            await socket.send_text(item)
    except (WebSocketDisconnect, RuntimeError, OSError):
        return
