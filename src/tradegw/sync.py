"""The gateway for programs without asyncio: the same methods, each of which blocks until its answer is there.

    with tradegw.sync.connect("127.0.0.1:50051") as gateway:
        order = gateway.place_order(account="paper", symbol="BTC/USDT", side="buy", ord_type="market",
                                    order_qty="0.01")

One background thread runs the event loop; any number of threads may call. Ctrl-C in a call ends the waiting
and nothing else: what was stored is carried out, and the gateway goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from typing_extensions import Unpack

import tradegw
from tradegw.errors import TradegwError, UsageError
from tradegw.gateway import (
    Gateway,
    NewOrderFields,
    Number,
    Session,
    StreamBatch,
    VenueInfo,
)
from tradegw.model import (
    Balance,
    ClientOrderId,
    Cursor,
    Fill,
    FillFilter,
    Halt,
    Instrument,
    Listing,
    NewOrder,
    Order,
    OrderEvent,
    OrderFilter,
    OrderId,
    Position,
    Side,
    VenueOrderId,
)

__all__ = ["SyncGateway", "SyncSession", "SyncStream", "connect", "open"]

T = TypeVar("T")


@contextmanager
def open(  # noqa: A001  Named as its twin `tradegw.open`.
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    plugins: Sequence[object] = (),
    ready_timeout_s: float = 10.0,
) -> Generator[SyncGateway]:
    """Open a gateway in this process; see `tradegw.open`.

    Raises:
        ConfigError: The configuration is wrong; the text names the key.
        StoreError: The store cannot be used: in use, corrupt, newer than this program, read-only.
    """
    yield from _run(lambda: tradegw.open(config, plugins=plugins, ready_timeout_s=ready_timeout_s))


@contextmanager
def connect(target: str = "127.0.0.1:50051", *, timeout_s: float = 30.0) -> Generator[SyncGateway]:
    """Connect to a gateway that is served elsewhere; see `tradegw.connect`."""
    yield from _run(lambda: tradegw.connect(target, timeout_s=timeout_s))


def _run(opener: Callable[[], AbstractAsyncContextManager[Gateway]]) -> Generator[SyncGateway]:
    loop = _Loop()
    try:
        held = _Held(loop, opener)
        try:
            yield SyncGateway(loop, held.value)
        finally:
            held.release()
    finally:
        loop.close()


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.is_closed = False
        # A daemon, so that a program which forgets to close can still end; the record is made for that.
        self._thread = threading.Thread(target=self._run, name="tradegw", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` in the loop, and wait for its result.

        Ctrl-C, or any other exception in this thread, cancels the waiting for it.

        Raises:
            UsageError: The gateway is closed, or this is the loop's own thread, which would wait for itself.
        """
        future = self.submit(work)
        try:
            return future.result()
        except CancelledError:
            raise UsageError("the gateway was closed during the call") from None
        except BaseException:
            future.cancel()
            raise

    def submit(self, work: Callable[[], Awaitable[T]]) -> Future[T]:
        """Start `work` in the loop."""
        if self.is_closed:
            raise UsageError("the gateway is closed")
        if threading.current_thread() is self._thread:
            raise UsageError("a blocking call from the loop's own thread would wait for itself")

        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def close(self) -> None:
        """End what runs, and the thread."""
        if self.is_closed:
            return
        self.is_closed = True
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Held:
    """An asynchronous context manager, entered and left in one task of the loop, as task groups need it."""

    def __init__(self, loop: _Loop, opener: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._loop = loop
        self._opened: Future[Any] = Future()
        self._release = asyncio.Event()
        self._task = loop.submit(lambda: self._hold(opener))
        try:
            self.value = self._opened.result()
        except BaseException:
            self._task.cancel()
            raise

    async def _hold(self, opener: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        try:
            async with opener() as value:
                self._opened.set_result(value)
                await self._release.wait()
        except BaseException as e:
            if self._opened.done():
                raise
            # Whoever opens it hears of it there.
            self._opened.set_exception(e)

    def release(self) -> None:
        """Leave it, and wait until it has been left."""

        async def let_go() -> None:
            self._release.set()

        if not self._task.done():
            self._loop.call(let_go)
        self._task.result()


class SyncGateway:
    """The `Gateway` whose methods block. Made by `open` and `connect`; safe to call from several threads."""

    def __init__(self, loop: _Loop, gateway: Gateway) -> None:
        self._loop = loop
        self._gateway = gateway

    def place_order(
        self, order: NewOrder | None = None, /, **fields: Unpack[NewOrderFields]
    ) -> Order:
        """Place one order, once; see `Gateway.place_order`.

        Ctrl-C leaves the outcome open: ask again with the same `idempotency_key`.
        """
        return self._loop.call(lambda: self._gateway.place_order(order, **fields))

    def place_orders(self, orders: Sequence[NewOrder]) -> Sequence[Order | TradegwError]:
        """Place several orders; see `Gateway.place_orders`."""
        return self._loop.call(lambda: self._gateway.place_orders(orders))

    def cancel_order(
        self,
        order_id: OrderId | None = None,
        *,
        account: str | None = None,
        client_order_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Cancel an order; see `Gateway.cancel_order`."""
        return self._loop.call(
            lambda: self._gateway.cancel_order(
                order_id,
                account=account,
                client_order_id=client_order_id,
                idempotency_key=idempotency_key,
            )
        )

    def cancel_all_orders(
        self,
        *,
        account: str | None = None,
        symbol: str | None = None,
        side: Side | None = None,
        idempotency_key: str | None = None,
    ) -> Sequence[Order]:
        """Cancel every open order of ours that matches; see `Gateway.cancel_all_orders`."""
        return self._loop.call(
            lambda: self._gateway.cancel_all_orders(
                account=account, symbol=symbol, side=side, idempotency_key=idempotency_key
            )
        )

    def replace_order(
        self,
        order_id: OrderId,
        *,
        order_qty: Number | None = None,
        price: Number | None = None,
        trigger_price: Number | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Give an order other terms; see `Gateway.replace_order`."""
        return self._loop.call(
            lambda: self._gateway.replace_order(
                order_id,
                order_qty=order_qty,
                price=price,
                trigger_price=trigger_price,
                idempotency_key=idempotency_key,
            )
        )

    def get_order(self, order_id: OrderId) -> Order:
        """Return an order as it stands; see `Gateway.get_order`."""
        return self._loop.call(lambda: self._gateway.get_order(order_id))

    def find_order(
        self,
        *,
        account: str,
        client_order_id: ClientOrderId | str | None = None,
        venue_order_id: VenueOrderId | str | None = None,
    ) -> Order | None:
        """Return the order of that name, or None; see `Gateway.find_order`."""
        return self._loop.call(
            lambda: self._gateway.find_order(
                account=account, client_order_id=client_order_id, venue_order_id=venue_order_id
            )
        )

    def list_orders(
        self,
        where: OrderFilter | None = None,
        *,
        page_size: int = 100,
        page_token: Cursor | str | None = None,
    ) -> Listing[Order]:
        """Return orders, newest first; see `Gateway.list_orders`."""
        return self._loop.call(
            lambda: self._gateway.list_orders(where, page_size=page_size, page_token=page_token)
        )

    def list_order_events(self, order_id: OrderId) -> Sequence[OrderEvent]:
        """Return the whole story of an order; see `Gateway.list_order_events`."""
        return self._loop.call(lambda: self._gateway.list_order_events(order_id))

    def list_fills(
        self,
        where: FillFilter | None = None,
        *,
        page_size: int = 100,
        page_token: Cursor | str | None = None,
    ) -> Listing[Fill]:
        """Return fills, newest first; see `Gateway.list_fills`."""
        return self._loop.call(
            lambda: self._gateway.list_fills(where, page_size=page_size, page_token=page_token)
        )

    def stream_orders(
        self,
        *,
        accounts: Sequence[str] | None = None,
        after: Mapping[str, int] | None = None,
        symbol: str | None = None,
    ) -> SyncStream:
        """Iterate over order events, without end; see `Gateway.stream_orders`. Close it when done."""
        return SyncStream(
            self._loop,
            lambda: self._gateway.stream_orders(accounts=accounts, after=after, symbol=symbol),
        )

    def stream_fills(
        self,
        *,
        accounts: Sequence[str] | None = None,
        after: Mapping[str, int] | None = None,
        symbol: str | None = None,
    ) -> SyncStream:
        """Iterate over fills, without end; see `Gateway.stream_fills`. Close it when done."""
        return SyncStream(
            self._loop,
            lambda: self._gateway.stream_fills(accounts=accounts, after=after, symbol=symbol),
        )

    @contextmanager
    def session(
        self, *, cancel_on_disconnect: bool = False, lease_s: float | None = None
    ) -> Generator[SyncSession]:
        """Open a session; see `Gateway.session`."""
        held = _Held(
            self._loop,
            lambda: self._gateway.session(
                cancel_on_disconnect=cancel_on_disconnect, lease_s=lease_s
            ),
        )
        try:
            yield SyncSession(self._loop, held.value)
        finally:
            held.release()

    def list_balances(self, account: str) -> Sequence[Balance]:
        """Return the balances as the venue last reported them."""
        return self._loop.call(lambda: self._gateway.list_balances(account))

    def list_positions(self, account: str) -> Sequence[Position]:
        """Return the positions as the venue last reported them; empty on spot venues."""
        return self._loop.call(lambda: self._gateway.list_positions(account))

    def close_position(
        self, account: str, symbol: str, *, idempotency_key: str | None = None
    ) -> Order | None:
        """Close a position; see `Gateway.close_position`."""
        return self._loop.call(
            lambda: self._gateway.close_position(account, symbol, idempotency_key=idempotency_key)
        )

    def list_venues(self) -> Sequence[VenueInfo]:
        """Return the configured venues with their accounts' states."""
        return self._loop.call(self._gateway.list_venues)

    def list_instruments(self, venue: str) -> Sequence[Instrument]:
        """Return what can be traded at a venue; see `Gateway.list_instruments`."""
        return self._loop.call(lambda: self._gateway.list_instruments(venue))

    def halt(
        self,
        *,
        scope: str = "*",
        why: str,
        by: str,
        cancel_open: bool = False,
        idempotency_key: str | None = None,
    ) -> Halt:
        """Refuse new orders from now on, durably; see `Gateway.halt`."""
        return self._loop.call(
            lambda: self._gateway.halt(
                scope=scope,
                why=why,
                by=by,
                cancel_open=cancel_open,
                idempotency_key=idempotency_key,
            )
        )

    def resume(self, *, scope: str = "*", by: str, idempotency_key: str | None = None) -> None:
        """Lift the halt of that scope; see `Gateway.resume`."""
        self._loop.call(
            lambda: self._gateway.resume(scope=scope, by=by, idempotency_key=idempotency_key)
        )

    def list_halts(self) -> Sequence[Halt]:
        """Return the halts in force."""
        return self._loop.call(self._gateway.list_halts)

    def resolve(
        self,
        order_id: OrderId,
        *,
        outcome: str,
        by: str,
        why: str,
        idempotency_key: str | None = None,
    ) -> Order:
        """Decide an order in doubt by hand; see `Gateway.resolve`."""
        return self._loop.call(
            lambda: self._gateway.resolve(
                order_id, outcome=outcome, by=by, why=why, idempotency_key=idempotency_key
            )
        )

    def adopt(
        self,
        account: str,
        venue_order_ids: Sequence[str] = (),
        *,
        by: str,
        why: str,
        idempotency_key: str | None = None,
    ) -> Sequence[Order]:
        """Make open orders at the venue ours; see `Gateway.adopt`."""
        return self._loop.call(
            lambda: self._gateway.adopt(
                account, venue_order_ids, by=by, why=why, idempotency_key=idempotency_key
            )
        )


class SyncSession:
    """A `Session` whose methods block."""

    def __init__(self, loop: _Loop, session: Session) -> None:
        self._loop = loop
        self._session = session

    def place_order(
        self, order: NewOrder | None = None, /, **fields: Unpack[NewOrderFields]
    ) -> Order:
        """Place one order; see `Gateway.place_order`."""
        return self._loop.call(lambda: self._session.place_order(order, **fields))

    def cancel_order(self, order_id: OrderId, *, idempotency_key: str | None = None) -> Order:
        """Cancel an order; see `Gateway.cancel_order`."""
        return self._loop.call(
            lambda: self._session.cancel_order(order_id, idempotency_key=idempotency_key)
        )

    def replace_order(
        self,
        order_id: OrderId,
        *,
        order_qty: Number | None = None,
        price: Number | None = None,
        trigger_price: Number | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Give an order other terms; see `Gateway.replace_order`."""
        return self._loop.call(
            lambda: self._session.replace_order(
                order_id,
                order_qty=order_qty,
                price=price,
                trigger_price=trigger_price,
                idempotency_key=idempotency_key,
            )
        )


class SyncStream(Iterator[StreamBatch]):
    """A stream as a blocking iterator, and a context manager that closes it.

    One thread reads it. Another may close it: the reader's waiting then ends as if the stream had. A batch
    whose waiting Ctrl-C ended is lost to this iterator: go on with a new stream after the last `position`.
    """

    def __init__(self, loop: _Loop, opener: Callable[[], AsyncIterator[StreamBatch]]) -> None:
        self._loop = loop
        self._opener = opener
        self._batches: AsyncIterator[StreamBatch] | None = None
        self._reading: asyncio.Task[Any] | None = None
        self._is_closed = False

    def __next__(self) -> StreamBatch:
        """Wait for the next batch.

        Raises:
            StopIteration: The stream ended, or was closed.
        """
        if self._is_closed:
            raise StopIteration
        future = self._loop.submit(self._next)
        try:
            batch = future.result()
        except CancelledError:
            batch = None
        except BaseException:
            future.cancel()
            self._is_closed = True
            raise
        if batch is None:
            self._is_closed = True
            raise StopIteration
        return batch

    async def _next(self) -> StreamBatch | None:
        if self._batches is None:
            self._batches = self._opener()
        self._reading = asyncio.current_task()
        try:
            return await anext(self._batches, None)
        finally:
            self._reading = None

    def close(self) -> None:
        """End the stream. Safe to call twice, and from another thread than the reader's."""
        self._is_closed = True
        if not self._loop.is_closed:
            self._loop.call(self._shut)

    async def _shut(self) -> None:
        reading = self._reading
        if reading is not None:
            # An iterator cannot be closed while it runs.
            reading.cancel()
            await asyncio.wait([reading])
        aclose = getattr(self._batches, "aclose", None)
        if aclose is not None:
            await aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
