"""The native door's server. Nothing that a client sends or fails to read can stop it or fill it up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

from msgspec import Struct
from msgspec.structs import replace

from tradegw_mock.chaos import Target
from tradegw_mock.chaos.desk import ErrorAnswered, Unanswered, face
from tradegw_mock.contract import DoorCode, answer_error
from tradegw_mock.exchange import Refusal
from tradegw_mock.feed import Feed, FeedGap
from tradegw_mock.host import ExchangeAway, ExchangeFailed, Host, StreamCut
from tradegw_mock.native.limits import NativeLimits
from tradegw_mock.native.protocol import (
    REQUEST_MAX,
    AnyRequest,
    BadFrame,
    EndFrame,
    ErrorBody,
    ErrorFrame,
    EventsFrame,
    OkFrame,
    Subscribe,
    Subscribed,
    decode_request,
    encode,
)
from tradegw_mock.operations import PastLost
from tradegw_mock.requests import Answer, AnswerError, GetBalances, GetLimits, Listed

__all__ = ["DoorSettings", "NativeDoor", "open_door"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorSettings:
    """Bounds of the door.

    Attributes:
        in_flight_max: Requests of one connection that may be unanswered; more are not taken.
        subscriptions_max: Subscriptions of one connection.
        heartbeat_s: How often a subscription shows that it is alive.
        stall_s: How long a client may leave what was sent unread before it is disconnected.
        drain_s: How long closing waits for answers under way.
    """

    in_flight_max: int = 1000
    subscriptions_max: int = 16
    heartbeat_s: float = 5.0
    stall_s: float = 30.0
    drain_s: float = 5.0


@asynccontextmanager
async def open_door(
    host: Host,
    address: str,
    port: int,
    *,
    settings: DoorSettings | None = None,
    limits: NativeLimits | None = None,
) -> AsyncGenerator[NativeDoor]:
    """Listen on an address until left; then answer what is under way, and end every stream.

    Args:
        limits: What to keep and declare; None for no limits.
        port: 0 picks a free one; see `NativeDoor.address`.

    Raises:
        OSError: The address cannot be listened on.
    """
    door = NativeDoor(host, settings or DoorSettings(), limits)
    server = await asyncio.start_server(door.serve, address, port, limit=REQUEST_MAX)
    door.address = server.sockets[0].getsockname()[:2]
    stop_listening = host.faults.on_restart(door.cut)
    try:
        yield door
    finally:
        stop_listening()
        server.close()
        await door.close()
        await server.wait_closed()


class NativeDoor:
    """All connections of one door."""

    def __init__(
        self, host: Host, settings: DoorSettings, limits: NativeLimits | None = None
    ) -> None:
        self.host = host
        self.settings = settings
        self.limits = limits
        self.is_closing = False
        self.address: tuple[str, int] = ("", 0)
        self._connections: dict[_Connection, asyncio.Task[object]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        if self.is_closing:
            # It was accepted while the door closed.
            writer.transport.abort()
            return
        connection = _Connection(self, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            await connection.serve()
        except Exception:
            # One client's trouble must not be another's.
            log.exception("a connection failed")
        finally:
            await connection.close()
            del self._connections[connection]

    def cut(self) -> None:
        """Cut every connection, without a word."""
        for connection in list(self._connections):
            connection.abort()

    async def close(self) -> None:
        """Take no more requests, answer those under way, and end every stream with a word."""
        self.is_closing = True
        # Their clients wait for what was never to come in time.
        self.host.faults.end_delays()
        open_now = dict(self._connections)
        for connection in open_now:
            connection.end("the exchange shuts down")
        if open_now:
            _, late = await asyncio.wait(open_now.values(), timeout=self.settings.drain_s)
            for connection, task in open_now.items():
                if task in late:
                    connection.abort()
            if late:
                await asyncio.wait(late)


class _Connection:
    """One client."""

    def __init__(
        self, door: NativeDoor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._door = door
        self._reader = reader
        self._writer = writer
        # It is gone where the client already is.
        self._address = str((writer.get_extra_info("peername") or ("",))[0])
        self._sending = asyncio.Lock()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._ending: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._subscriptions: dict[int, tuple[asyncio.Task[None], ...]] = {}

    def abort(self) -> None:
        """Cut the connection. What is under way ends unheard."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close the connection, after the client has read what it was sent, or had its time for it."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._door.settings.drain_s):
                await self._writer.wait_closed()
        except TimeoutError:
            self.abort()
        except ConnectionError:
            pass

    def end(self, why: str) -> None:
        """End the connection, once what is under way is answered."""
        if not self._ending.done():
            self._ending.set_result(why)

    async def serve(self) -> None:
        """Serve until the client leaves or `end` is called."""
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(group))
            await asyncio.wait((reading, self._ending), return_when=asyncio.FIRST_COMPLETED)
            if self._ending.done():
                await self._idle.wait()
                reading.cancel()
            # What the client asked for before it left is carried out, heard or not.
            await self._idle.wait()
            for tasks in self._subscriptions.values():
                for task in tasks:
                    task.cancel()
        if self._ending.done():
            with suppress(ConnectionError, TimeoutError):
                for request_id in self._subscriptions:
                    await self._send(EndFrame(id=request_id, end=self._ending.result()))

    async def _read(self, group: asyncio.TaskGroup) -> None:
        with suppress(ConnectionError, TimeoutError):
            await self._read_all(group)

    async def _read_all(self, group: asyncio.TaskGroup) -> None:
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                text = f"a request has at most {REQUEST_MAX} bytes; the connection ends"
                await self._send_error(0, DoorCode.FRAME_TOO_LARGE, text)
                return
            try:
                request = decode_request(line)
            except BadFrame as e:
                await self._send_error(e.request_id, DoorCode.BAD_FRAME, str(e))
                continue
            if self._door.is_closing:
                await self._send_error(request.id, DoorCode.UNAVAILABLE, "shutting down")
            elif self._in_flight >= self._door.settings.in_flight_max:
                text = f"{self._in_flight} requests of this connection are unanswered"
                await self._send_error(request.id, DoorCode.TOO_MANY_REQUESTS, text)
            elif isinstance(request, Subscribe):
                await self._subscribe(group, request)
            else:
                self._in_flight += 1
                self._idle.clear()
                # A task each, so that requests that arrive together share a commit. They are carried out
                # in the order of their arrival, because tasks start in order.
                group.create_task(self._answer(request))

    # --- answers --------------------------------------------------------------------------------

    async def _answer(self, request: AnyRequest) -> None:
        try:
            frame = await self._carry_out(request)
            with suppress(ConnectionError, TimeoutError):
                await self._send(frame)
        except Unanswered:
            self.abort()
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def _carry_out(self, request: AnyRequest) -> Struct:
        assert not isinstance(request, Subscribe)
        answer: Answer
        limits = self._door.limits
        try:
            if limits is not None:
                limits.charge(self._address, request, self._door.host.time_ns())
            answer = await self._door.host.ask(request)
            if limits is not None and isinstance(request, GetLimits):
                assert isinstance(answer, Listed)
                answer = replace(answer, limits=limits.declared())
        except ErrorAnswered as e:
            error = answer_error(e.error)
            return _error(request.id, error.code, error.text, error.retry_after_s)
        except AnswerError as e:
            return _error(request.id, e.code, e.text, e.retry_after_s)
        except Refusal as e:
            return _error(request.id, e.code, e.text)
        except PastLost as e:
            return _error(request.id, DoorCode.PAST_LOST, str(e))
        except ExchangeAway as e:
            return _error(request.id, DoorCode.UNAVAILABLE, str(e))
        except ExchangeFailed as e:
            return _error(request.id, DoorCode.INTERNAL, str(e))
        return OkFrame(id=request.id, ok=answer)

    async def _send_error(self, request_id: int, code: str, text: str) -> None:
        await self._send(_error(request_id, code, text))

    async def _send(self, frame: Struct) -> None:
        """Send one line, after the client has read enough of those before.

        Raises:
            TimeoutError: It does not read; the connection is cut.
            ConnectionError: It is gone.
        """
        # One at a time, so that no more than one line waits beyond what the transport buffers.
        async with self._sending:
            try:
                async with asyncio.timeout(self._door.settings.stall_s):
                    await self._writer.drain()
            except TimeoutError:
                log.warning("a client does not read what it is sent, and is disconnected")
                self._writer.transport.abort()
                raise
            self._writer.write(encode(frame))

    # --- streams --------------------------------------------------------------------------------

    async def _subscribe(self, group: asyncio.TaskGroup, request: Subscribe) -> None:
        if (
            request.id in self._subscriptions
            or len(self._subscriptions) >= self._door.settings.subscriptions_max
        ):
            text = "a connection has few subscriptions, each under an id of its own"
            await self._send_error(request.id, DoorCode.BAD_FRAME, text)
            return
        host = self._door.host
        faults = host.faults
        try:
            target = Target(operation="subscribe", account=request.account)
            await face(faults.chaos.before(target), faults.sleep)
            # Refuses unknown accounts, and returns once what it shows is committed.
            now = await host.carry_out(GetBalances(account=request.account))
            feed, instance_id = host.feed(request.account), host.instance_id
        except Unanswered:
            self.abort()
            return
        except ErrorAnswered as e:
            error = answer_error(e.error)
            await self._send(_error(request.id, error.code, error.text, error.retry_after_s))
            return
        except Refusal as e:
            await self._send_error(request.id, e.code, e.text)
            return
        except (ExchangeAway, ExchangeFailed) as e:
            await self._send_error(request.id, DoorCode.UNAVAILABLE, str(e))
            return
        after, resumed = feed.last_seq, request.after is None
        if (
            request.after is not None
            and request.instance_id == instance_id
            and feed.covers(request.after)
        ):
            after, resumed = request.after, True
        answer = Subscribed(
            time_ns=now.time_ns,
            instance_id=instance_id,
            account=request.account,
            after=after,
            resumed=resumed,
        )
        await self._send(OkFrame(id=request.id, ok=answer))
        self._subscriptions[request.id] = (
            group.create_task(self._pump(request.id, request.account, feed, after)),
            group.create_task(self._beat(request.id)),
        )

    async def _pump(self, request_id: int, account: str, feed: Feed, after: int) -> None:
        """Send events until the feed ends or the client is too slow for it, which ends the connection."""
        try:
            async with aclosing(self._door.host.follow(account, feed, after)) as batches:
                async for events in batches:
                    await self._send(EventsFrame(id=request_id, events=events))
        except StreamCut:
            self.abort()
        except FeedGap as e:
            self.end(str(e))
        except (ConnectionError, TimeoutError):
            self.end("the client is gone")

    async def _beat(self, request_id: int) -> None:
        with suppress(ConnectionError, TimeoutError):
            while True:
                await asyncio.sleep(self._door.settings.heartbeat_s)
                await self._send(EventsFrame(id=request_id, events=[]))


def _error(request_id: int, code: str, text: str, retry_after_s: float | None = None) -> ErrorFrame:
    body = ErrorBody(code=code, text=text, retry_after_s=retry_after_s)
    return ErrorFrame(id=request_id, error=body)
