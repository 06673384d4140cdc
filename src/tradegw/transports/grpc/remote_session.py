"""The client's side of a session: commands go out together, results come back as they are known."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import grpc.aio
from typing_extensions import Unpack

from tradegw.errors import TradegwError, UsageError
from tradegw.gateway import NewOrderFields, Number, parse_terms
from tradegw.model import NewOrder, Order, OrderId
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc.asked import new_key, order_of, place_request
from tradegw.transports.grpc.errors import read_error
from tradegw.transports.grpc.requests import write_terms
from tradegw.transports.grpc.retry import Attempts, Lost, repeat, translate

__all__ = ["RemoteSession"]

log = logging.getLogger(__name__)

_COMMANDS_MAX: Final = 256

Call = grpc.aio.StreamStreamCall[pb.TradeSessionRequest, pb.TradeSessionResponse]


class RemoteSession:
    """A session at a remote gateway. Open it with `async with`."""

    def __init__(
        self,
        method: Callable[[], Call],
        *,
        cancel_on_disconnect: bool,
        lease_s: float | None,
        timeout_s: float,
    ) -> None:
        self._method = method
        self._lease_s = lease_s
        self._open = pb.OpenSession(
            cancel_on_disconnect=cancel_on_disconnect,
            lease_ms=None if lease_s is None else max(1, int(lease_s * 1000)),
        )
        self._timeout_s = timeout_s
        self._link: _Link | None = None
        self._opening = asyncio.Lock()
        self._is_over = False

    async def __aenter__(self) -> Self:
        await repeat(Attempts("TradeSession", self._timeout_s), lambda _: self._connect())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the session; its open orders are cancelled by then, where that was asked for."""
        self._is_over = True
        if self._link is not None:
            await self._link.end(self._timeout_s)

    async def place_order(
        self, order: NewOrder | None = None, /, **fields: Unpack[NewOrderFields]
    ) -> Order:
        """Place one order, once; see `Gateway.place_order`."""
        request, key = place_request(order, fields)
        result = await self._ask("PlaceOrder", pb.SessionCommand(place=request), key)
        return order_of(result.order)

    async def cancel_order(self, order_id: OrderId, *, idempotency_key: str | None = None) -> Order:
        """Cancel an order; see `Gateway.cancel_order`."""
        key = idempotency_key or new_key()
        request = pb.CancelOrderRequest(order_id=str(order_id), idempotency_key=key)
        result = await self._ask("CancelOrder", pb.SessionCommand(cancel=request), key)
        return order_of(result.order)

    async def replace_order(
        self,
        order_id: OrderId,
        *,
        order_qty: Number | None = None,
        price: Number | None = None,
        trigger_price: Number | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Give an order other terms; see `Gateway.replace_order`."""
        key = idempotency_key or new_key()
        request = write_terms(order_id, parse_terms(order_qty, price, trigger_price), key)
        result = await self._ask("ReplaceOrder", pb.SessionCommand(replace=request), key)
        return order_of(result.order)

    async def _ask(self, what: str, command: pb.SessionCommand, key: str) -> pb.SessionResult:
        if self._is_over:
            raise UsageError("the session is closed")
        attempts = Attempts(what, self._timeout_s, key)
        return await repeat(attempts, lambda left_s: self._try(command, left_s))

    async def _try(self, command: pb.SessionCommand, left_s: float) -> pb.SessionResult:
        try:
            async with asyncio.timeout(left_s):
                link = self._link
                if link is None or link.is_broken:
                    link = await self._connect()
                result = await link.ask(command)
        except TimeoutError:
            raise Lost("no answer in time") from None
        if result.HasField("error"):
            raise read_error(result.error)
        return result

    async def _connect(self) -> _Link:
        async with self._opening:
            if self._link is None or self._link.is_broken:
                if self._is_over:
                    raise UsageError("the session is closed")
                self._link = await _Link.open(self._method(), self._open, self._lease_s)
            return self._link


class _Link:
    """One connection of a session."""

    def __init__(self, call: Call, lease_s: float | None) -> None:
        self.is_broken = False
        self._call = call
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[pb.SessionResult]] = {}
        self._outbox: deque[pb.SessionCommand] = deque()
        self._woken = asyncio.Event()
        self._writer = asyncio.create_task(self._write(lease_s))
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, call: Call, message: pb.OpenSession, lease_s: float | None) -> _Link:
        """Open a session on a new call."""
        try:
            await call.write(pb.TradeSessionRequest(open=message))
            answer = await call.read()
        except asyncio.InvalidStateError:
            # Over before it began; reading says why.
            answer = await call.read()
        except BaseException:
            call.cancel()
            raise
        if not isinstance(answer, pb.TradeSessionResponse):
            raise Lost("the session ended before it was open")
        return cls(call, lease_s)

    async def ask(self, command: pb.SessionCommand) -> pb.SessionResult:
        """Send a command and wait for its result.

        Raises:
            Lost: The connection broke.
            TradegwError: The gateway ended the session, and says why.
        """
        number = next(self._numbers)
        command.correlation_id = number
        answer: asyncio.Future[pb.SessionResult] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._outbox.append(command)
        self._woken.set()
        try:
            return await answer
        finally:
            self._asked.pop(number, None)

    async def end(self, timeout_s: float) -> None:
        """Say that nothing more comes, and wait until the gateway has closed the session."""
        self._writer.cancel()
        try:
            async with asyncio.timeout(timeout_s):
                await _say_done(self._call)
                await asyncio.wait([self._writer, self._reader])
        except TimeoutError:
            log.warning("the gateway did not end the session within %g s", timeout_s)
        finally:
            self._call.cancel()
            self._reader.cancel()

    async def _write(self, lease_s: float | None) -> None:
        outbox = self._outbox
        # Three signs of life for each lease: one may be late.
        pulse_s = None if lease_s is None else lease_s / 3
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                if not outbox:
                    self._woken.clear()
                    try:
                        async with asyncio.timeout(pulse_s):
                            await self._woken.wait()
                    except TimeoutError:
                        beat = pb.Heartbeat(time_ns=time.time_ns())
                        outbox.append(pb.SessionCommand(heartbeat=beat))
                commands = [outbox.popleft() for _ in range(min(len(outbox), _COMMANDS_MAX))]
                # Everything that was asked while this is being written goes out together, next time.
                await self._call.write(pb.TradeSessionRequest(commands=commands))
        # The reader learns why.

    async def _read(self) -> None:
        error: Exception = Lost("the session ended")
        try:
            while isinstance(answer := await self._call.read(), pb.TradeSessionResponse):
                for result in answer.results:
                    asked = self._asked.get(result.correlation_id)
                    if asked is not None and not asked.done():
                        asked.set_result(result)
        except grpc.aio.AioRpcError as e:
            error = translate(e)
        finally:
            self._break(error)

    def _break(self, error: Exception) -> None:
        self.is_broken = True
        self._writer.cancel()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(_uncertain(error))


async def _say_done(call: Call) -> None:
    try:
        await call.done_writing()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Otherwise it is the call that was cancelled.
    except Exception as e:  # noqa: BLE001  grpcio lets internal errors out here that `write` explains.
        # The other side was faster: the call is over, and its reader says why.
        log.debug("the session had ended already: %r", e)


def _uncertain(error: Exception) -> Exception:
    """Return what a session's end means for a command without an answer: nobody knows what became of it."""
    text = f"the session ended before the answer: {error}"
    return Lost(text) if isinstance(error, (Lost, TradegwError)) else error
