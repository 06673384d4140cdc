"""The native door's client: requests over one connection, and one connection for each stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from itertools import count

from msgspec.structs import replace

from tradegw import NotSent, OutcomeUnknown, VenueError
from tradegw_mock.exchange import Event
from tradegw_mock.native.protocol import (
    ANSWER_MAX,
    ServerFrame,
    Subscribe,
    Subscribed,
    decode_answer,
    decode_frame,
    encode,
)
from tradegw_mock.requests import Answer, AnswerError, Mutation, Question, expected_answer

__all__ = ["NativeClient", "Subscription", "open_client", "subscribe"]

CONNECT_TIMEOUT_S = 5.0
SILENCE_MAX_S = 15.0
"""A stream that shows no sign of life for so long is dead; the server's heartbeat is a third of it."""


class _Link:
    """One connection with the requests that await their answers on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.pending: dict[int, asyncio.Future[ServerFrame]] = {}
        self.broken: str | None = None
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        why = "the connection was closed"
        try:
            while line := await reader.readline():
                frame = decode_frame(line)
                waiter = self.pending.get(frame.id)
                if waiter is not None and not waiter.done():
                    waiter.set_result(frame)
                elif frame.id == 0 and frame.error is not None:
                    why = f"{frame.error.code}: {frame.error.text}"
                    break
        except (OSError, ValueError) as e:
            why = f"the connection broke: {e}"
        except asyncio.CancelledError:
            why = "the client was closed"
            raise
        finally:
            self.broken = why
            self.writer.transport.abort()
            for waiter in self.pending.values():
                if not waiter.done():
                    waiter.set_exception(OutcomeUnknown(f"{why}, and no answer had come"))

    async def close(self) -> None:
        """Cut the connection. Who awaits an answer learns that nobody knows."""
        self._reading.cancel()
        await asyncio.wait([self._reading])


@asynccontextmanager
async def open_client(host: str, port: int) -> AsyncGenerator[NativeClient]:
    """Make a client; it connects when it is first used, and anew after a cut."""
    client = NativeClient(host, port)
    try:
        yield client
    finally:
        await client.close()


class NativeClient:
    """Asks a native door. Deadlines are the caller's."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()
        self._ids = count(1)

    async def ask(self, request: Mutation | Question) -> Answer:
        """Send a request and return its answer.

        Raises:
            AnswerError: The server answered with an error.
            NotSent: No byte left: there was no connection, and none could be had.
            OutcomeUnknown: The connection broke before the answer came, or it could not be read.

        Cancellation: the request may have been sent.
        """
        link = self._link
        if link is None or link.broken is not None:
            link = await self._connect()
        try:
            # Waits only when much is unread by the server; the next line but one then writes at once.
            await link.writer.drain()
        except ConnectionError as e:
            raise NotSent(f"the connection to {self._host}:{self._port} broke: {e}") from e
        if link.broken is not None or link.writer.is_closing():
            raise NotSent(f"the connection to {self._host}:{self._port} broke: {link.broken}")
        request_id = next(self._ids)
        waiter: asyncio.Future[ServerFrame] = asyncio.get_running_loop().create_future()
        link.pending[request_id] = waiter
        try:
            link.writer.write(encode(replace(request, id=request_id)))
            frame = await waiter
        finally:
            del link.pending[request_id]
        if frame.error is not None:
            error = frame.error
            raise AnswerError(error.code, error.text, retry_after_s=error.retry_after_s)
        try:
            if not bytes(frame.ok):
                raise ValueError("an answer has ok or error; found neither")
            return decode_answer(frame.ok, expected_answer(request))
        except ValueError as e:
            raise OutcomeUnknown(str(e)) from e

    async def close(self) -> None:
        """Cut the connection. Who awaits an answer learns that nobody knows."""
        if self._link is not None:
            await self._link.close()

    async def _connect(self) -> _Link:
        async with self._connecting:
            if self._link is None or self._link.broken is not None:
                self._link = _Link(*await _connect(self._host, self._port))
            return self._link


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await asyncio.open_connection(host, port, limit=ANSWER_MAX)
    except (OSError, TimeoutError) as e:
        raise NotSent(f"no connection to {host}:{port}: {e or type(e).__name__}") from e


class Subscription:
    """One stream, from where `about.after` says."""

    def __init__(self, about: Subscribed, reader: asyncio.StreamReader) -> None:
        self.about = about
        self.last_seq = about.after
        self._reader = reader

    async def read(self) -> list[Event]:
        """Wait for the next events; without any, the line is merely alive.

        Raises:
            VenueError: The stream ended, broke, fell silent, or an event is missing.

        Cancellation: safe; nothing is lost but what was read in part.
        """
        frame = await _read_frame(self._reader)
        if frame.end is not None:
            raise VenueError(f"the exchange ended the stream: {frame.end}")
        events = frame.events
        if events is None:
            raise VenueError("a stream carries events; found something else")
        for event in events:
            if event.seq != self.last_seq + 1:
                raise VenueError(f"expected event {self.last_seq + 1}, found {event.seq}")
            self.last_seq = event.seq
        return events


@asynccontextmanager
async def subscribe(host: str, port: int, request: Subscribe) -> AsyncGenerator[Subscription]:
    """Follow an account's events on a connection of their own.

    Raises:
        VenueError: No connection, or the server refused.
    """
    reader, writer = await _connect(host, port)
    try:
        writer.write(encode(request))
        frame = await _read_frame(reader)
        if frame.error is not None:
            raise VenueError(frame.error.text, reason=frame.error.code)
        if not bytes(frame.ok):
            raise VenueError("a subscription is answered with ok or error; found neither")
        try:
            about = decode_answer(frame.ok, Subscribed)
        except ValueError as e:
            raise VenueError(str(e)) from e
        yield Subscription(about, reader)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def _read_frame(reader: asyncio.StreamReader) -> ServerFrame:
    try:
        async with asyncio.timeout(SILENCE_MAX_S):
            line = await reader.readline()
        if not line:
            raise VenueError("the connection was closed")
        return decode_frame(line)
    except TimeoutError as e:
        raise VenueError(f"the exchange was silent for {SILENCE_MAX_S} s") from e
    except (OSError, ValueError) as e:
        raise VenueError(f"the stream broke: {e}") from e
