"""The server's side of a session: many commands in flight over one stream, each answered when it is known."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final
from uuid import uuid4

from tradegw.errors import TradegwError, Unavailable
from tradegw.gateway import REQUEST, Gateway, Session
from tradegw.model import Order
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc.closing import Closed, Closing
from tradegw.transports.grpc.convert import read_new_order, write_order
from tradegw.transports.grpc.errors import SessionOver, describe
from tradegw.transports.grpc.fields import SIDE, invalid, read_order_id
from tradegw.transports.grpc.figures import Observe
from tradegw.transports.grpc.interceptor import Unreadable
from tradegw.transports.grpc.requests import read_terms

__all__ = ["IN_FLIGHT_MAX", "cancel", "cancel_all", "replace", "serve_session"]

log = logging.getLogger(__name__)

IN_FLIGHT_MAX: Final = 1024
"""Commands that were begun and whose results have not left. At the bound no more are begun."""

WAITING_MAX: Final = 4096
"""Commands that were read and not begun. At the bound nothing more is read; below it we hear who is alive."""

_RESULTS_MAX: Final = 256
# Callers take messages of 4 MiB by default; one result may be long by itself, but must not be joined by more.
_RESULTS_BYTES: Final = 1024 * 1024
_LEASE_MAX_MS: Final = 86_400_000


async def cancel(gateway: Gateway, request: pb.CancelOrderRequest) -> Order:
    """Cancel by our id, or by account and client order id."""
    key = request.idempotency_key if request.HasField("idempotency_key") else None
    if request.HasField("order_id"):
        if request.HasField("account") or request.HasField("client_order_id"):
            raise invalid("give order_id, or account and client_order_id; found both")
        return await gateway.cancel_order(read_order_id(request.order_id), idempotency_key=key)
    if not (request.HasField("account") and request.HasField("client_order_id")):
        raise invalid("give order_id, or account and client_order_id; found neither in full")
    return await gateway.cancel_order(
        account=request.account, client_order_id=request.client_order_id, idempotency_key=key
    )


async def replace(gateway: Gateway, request: pb.ReplaceOrderRequest) -> Order:
    """Give an order other terms."""
    order_id, terms = read_terms(request)
    return await gateway.replace_order(
        order_id,
        order_qty=terms.order_qty,
        price=terms.price,
        trigger_price=terms.trigger_price,
        idempotency_key=request.idempotency_key if request.HasField("idempotency_key") else None,
    )


async def cancel_all(
    gateway: Gateway, request: pb.CancelAllOrdersRequest
) -> pb.CancelAllOrdersResponse:
    """Cancel every open order that matches."""
    orders = await gateway.cancel_all_orders(
        account=request.account if request.HasField("account") else None,
        symbol=request.symbol if request.HasField("symbol") else None,
        side=SIDE.read_optional(request.side, "side"),
        idempotency_key=request.idempotency_key if request.HasField("idempotency_key") else None,
    )
    return pb.CancelAllOrdersResponse(orders=[write_order(order) for order in orders])


async def serve_session(
    gateway: Gateway,
    requests: AsyncIterator[pb.TradeSessionRequest | Unreadable],
    closing: Closing,
    observe: Observe,
) -> AsyncIterator[pb.TradeSessionResponse]:
    """Serve one session until its caller ends it, its lease runs out, or the door closes.

    A caller that half-closes, and a door that closes, get the results of what is in flight. Otherwise the
    waiting is dropped, and what was stored is carried out. With `cancel_on_disconnect` the session's open
    orders are cancelled at once, and those that are being placed as soon as they are known.

    Raises:
        InvalidOrder: The caller does not keep to the protocol.
        SessionOver: The lease ran out; reason `LEASE_EXPIRED`.
        Unavailable: The door closes; reason `SHUTTING_DOWN`.
    """
    try:
        first = await closing.wait_for(anext(requests))
    except StopAsyncIteration:
        return
    except Closed:
        raise _shutting_down() from None
    if isinstance(first, Unreadable):
        raise first.error
    if not first.HasField("open"):
        raise invalid("open must be set in a session's first message; found it unset")
    lease_s = _read_lease(first.open)
    opened = pb.SessionOpened(session_id=str(uuid4()))
    if lease_s is not None:
        opened.lease_ms = first.open.lease_ms
    async with AsyncExitStack() as stack:
        stack.enter_context(closing.hold())
        session = await stack.enter_async_context(
            gateway.session(cancel_on_disconnect=first.open.cancel_on_disconnect)
        )
        desk = _Desk(gateway, session, observe)
        yield pb.TradeSessionResponse(opened=opened)
        reader = asyncio.create_task(desk.read(first, requests, closing, lease_s))
        reader.add_done_callback(desk.wake)
        try:
            async for results in desk.results(reader):
                yield pb.TradeSessionResponse(results=results)
        finally:
            reader.cancel()
            await desk.drop()
            await asyncio.wait([reader])
    if (error := reader.result()) is not None:
        log.info("session %s ends: %s", opened.session_id, error)
        raise error


def _read_lease(message: pb.OpenSession) -> float | None:
    if not message.HasField("lease_ms"):
        return None
    if not 1 <= message.lease_ms <= _LEASE_MAX_MS:
        raise invalid(f"open.lease_ms must be 1 to {_LEASE_MAX_MS}; found {message.lease_ms}")
    return message.lease_ms / 1000


def _shutting_down() -> Unavailable:
    return Unavailable("the gateway shuts down", reason="SHUTTING_DOWN")


class _Desk:
    """The commands of one session."""

    def __init__(self, gateway: Gateway, session: Session, observe: Observe) -> None:
        self._gateway = gateway
        self._session = session
        self._observe = observe
        self._request_id = REQUEST.get().request_id
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: deque[pb.SessionResult] = deque()
        self._waiting: deque[pb.SessionCommand] = deque()  # Read, and not begun.
        self._held = 0  # Begun, and its result has not left.
        self._woken = asyncio.Event()
        self._room = asyncio.Event()
        self._is_over = False

    def wake(self, _: object = None) -> None:
        """Have `results` look again."""
        self._woken.set()

    async def read(
        self,
        first: pb.TradeSessionRequest,
        requests: AsyncIterator[pb.TradeSessionRequest | Unreadable],
        closing: Closing,
        lease_s: float | None,
    ) -> TradegwError | None:
        """Begin commands as they come; return why there will be no more, None when the caller is done."""
        message = first
        while True:
            self._waiting.extend(message.commands)
            self._begin()
            try:
                if len(self._waiting) >= WAITING_MAX:
                    # Nobody listens now, so the results that leave have to be the sign of life.
                    await self._room_for_more(closing, lease_s)
                heard = await closing.wait_for(anext(requests), timeout_s=lease_s)
            except StopAsyncIteration:
                return await self._begin_the_rest(closing)
            except Closed:
                return _shutting_down()
            except TimeoutError:
                self._is_over = True
                return SessionOver(
                    f"the session ended: nothing was heard for its lease of {lease_s:g} s",
                    reason="LEASE_EXPIRED",
                )
            if isinstance(heard, Unreadable):
                self._is_over = True
                return heard.error
            if heard.HasField("open"):
                self._is_over = True
                return invalid("open must be set in a session's first message alone; found another")
            message = heard

    def _begin(self) -> None:
        """Begin what waits, as far as the bound lets us."""
        while self._waiting and self._held < IN_FLIGHT_MAX and not self._is_over:
            self._held += 1
            task = asyncio.create_task(self._carry_out(self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _begin_the_rest(self, closing: Closing) -> TradegwError | None:
        try:
            while self._waiting:
                await self._room_for_more(closing, None)
        except Closed:
            return _shutting_down()
        return None

    async def _room_for_more(self, closing: Closing, lease_s: float | None) -> None:
        self._room.clear()
        await closing.wait_for(self._room.wait(), timeout_s=lease_s)

    async def results(
        self, reader: asyncio.Task[TradegwError | None]
    ) -> AsyncIterator[list[pb.SessionResult]]:
        """Yield what is known, as much at once as there is, until nothing more can come."""
        results = self._results
        while True:
            while results:
                batch = [results.popleft()]
                size = batch[0].ByteSize()
                while results and len(batch) < _RESULTS_MAX and size < _RESULTS_BYTES:
                    batch.append(results.popleft())
                    size += batch[-1].ByteSize()
                yield batch
                self._held -= len(batch)
                self._begin()
                self._room.set()
            if reader.done() and (self._is_over or not self._tasks):
                return
            self._woken.clear()
            await self._woken.wait()

    async def drop(self) -> None:
        """Let go of what is in flight: it is carried out all the same. What was not begun is not."""
        self._waiting.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _carry_out(self, command: pb.SessionCommand) -> None:
        started = time.perf_counter()
        kind = command.WhichOneof("command")
        result = pb.SessionResult(correlation_id=command.correlation_id)
        code = "OK"
        try:
            match kind:
                case "place":
                    order = await self._session.place_order(read_new_order(command.place.order))
                    result.order.CopyFrom(write_order(order))
                case "cancel":
                    result.order.CopyFrom(write_order(await cancel(self._gateway, command.cancel)))
                case "replace":
                    order = await replace(self._gateway, command.replace)
                    result.order.CopyFrom(write_order(order))
                case "cancel_all":
                    result.orders.CopyFrom(await cancel_all(self._gateway, command.cancel_all))
                case "heartbeat":
                    result.heartbeat.time_ns = time.time_ns()
                case None:
                    raise invalid(
                        "command must be place, cancel, replace, cancel_all or heartbeat; found none"
                    )
        except Exception as e:
            failure = describe(e, self._request_id)
            code = failure.code.name
            if not failure.expected:
                log.exception(
                    "a session's %s failed unexpectedly",
                    kind,
                    extra={"request_id": self._request_id},
                )
            result.error.CopyFrom(failure.message)
        self._results.append(result)
        self._woken.set()
        self._observe(f"TradeSession.{kind}", code, time.perf_counter() - started)
