"""A gateway that answers at once and remembers what it was asked: the door is what is tested here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import grpc.aio
import pytest

from tradegw.errors import InvalidOrder, NotFound, TradegwError
from tradegw.gateway import (
    REQUEST,
    AccountStatus,
    FillItem,
    OrderItem,
    StreamBatch,
    VenueInfo,
    new_order,
)
from tradegw.gateway.api import OutboxStatus
from tradegw.gateway.metrics import Metrics
from tradegw.model import (
    AccountName,
    Balance,
    Cursor,
    EventType,
    Fill,
    Halt,
    Instrument,
    Listing,
    NewOrder,
    Order,
    OrderEvent,
    OrderId,
    OrdStatus,
    Position,
    Side,
    TradeId,
)
from tradegw.trading.v1 import trading_gateway_pb2_grpc
from tradegw.transports.grpc.client import RemoteGateway, connect
from tradegw.transports.grpc.server import GrpcDoor, serve

PAPER = AccountName("paper")


def order_from(new: NewOrder, *, seq: int) -> Order:
    return Order(
        order_id=OrderId(uuid4()),
        account=new.account or PAPER,
        venue="fake",
        symbol=new.symbol,
        side=new.side,
        ord_type=new.ord_type,
        time_in_force=new.time_in_force,
        order_qty=new.order_qty,
        quote_qty=new.quote_qty,
        price=new.price,
        client_order_id=new.client_order_id,
        idempotency_key=new.idempotency_key or new.client_order_id,
        tags=new.tags,
        ord_status=OrdStatus.NEW,
        leaves_qty=new.order_qty or Decimal(0),
        acknowledged=True,
        created_time_ns=1,
        updated_time_ns=2,
        send_by_ns=3,
        seq=seq,
    )


class FakeGateway:
    """Every order rests at once; every event and fill stands in a list."""

    def __init__(self) -> None:
        self.orders: dict[UUID, Order] = {}
        self.keys: dict[str, UUID] = {}
        self.events: list[OrderEvent] = []
        self.fills: list[Fill] = []
        self.calls: list[tuple[str, Any]] = []
        self.requests: list[Any] = []
        self.on_place: Callable[[NewOrder], Awaitable[None]] | None = None
        self.after_place: Callable[[Order], Awaitable[None]] | None = None
        self.store_error: Exception | None = None
        self.state = "READY"
        self.is_stopped = False
        self._moved = asyncio.Event()

    # --- orders

    async def place_order(self, order: NewOrder | None = None, /, **fields: Any) -> Order:
        new = new_order(fields) if order is None else order
        self.calls.append(("place", new))
        self.requests.append(REQUEST.get())
        if self.on_place is not None:
            await self.on_place(new)
        key = new.idempotency_key or new.client_order_id or uuid4().hex
        if key not in self.keys:
            placed = order_from(new, seq=len(self.events) + 1)
            self.keys[key] = placed.order_id
            self.put(placed, EventType.NEW)
        stored = self.orders[self.keys[key]]
        if self.after_place is not None:
            await self.after_place(stored)
        return stored

    def put(self, order: Order, event_type: EventType) -> None:
        order = replace(order, seq=len(self.events) + 1)
        self.orders[order.order_id] = order
        self.append(
            OrderEvent(
                event_type=event_type,
                account=order.account,
                time_ns=5,
                order_id=order.order_id,
                order=order,
                request_id=REQUEST.get().request_id,
            )
        )

    def append(self, event: OrderEvent) -> None:
        self.events.append(replace(event, seq=len(self.events) + 1))
        self._wake()

    def add_fill(self, order: Order) -> None:
        fill = Fill(
            trade_id=TradeId(f"t{len(self.fills)}"),
            account=order.account,
            venue=order.venue,
            symbol=order.symbol,
            side=order.side,
            last_qty=Decimal("0.01"),
            last_px=Decimal(100),
            order_id=order.order_id,
            seq=len(self.events) + 1,
        )
        self.fills.append(fill)
        self.append(
            OrderEvent(
                event_type=EventType.TRADE,
                account=order.account,
                time_ns=6,
                order_id=order.order_id,
                order=order,
                fill=fill,
            )
        )

    async def place_orders(self, orders: Sequence[NewOrder]) -> Sequence[Order | TradegwError]:
        answers: list[Order | TradegwError] = []
        for order in orders:
            try:
                answers.append(await self.place_order(order))
            except TradegwError as e:
                answers.append(e)
        return answers

    async def cancel_order(
        self,
        order_id: OrderId | None = None,
        *,
        account: str | None = None,
        client_order_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        self.calls.append(("cancel", idempotency_key))
        if order_id is None:
            found = await self.find_order(account=account or "", client_order_id=client_order_id)
            if found is None:
                raise NotFound(f"no order {client_order_id!r}", reason="UNKNOWN_ORDER")
            order_id = found.order_id
        order = await self.get_order(order_id)
        canceled = replace(
            order, ord_status=OrdStatus.CANCELED, leaves_qty=Decimal(0), closed_time_ns=9
        )
        self.put(canceled, EventType.CANCELED)
        return self.orders[order_id]

    async def cancel_all_orders(
        self,
        *,
        account: str | None = None,
        symbol: str | None = None,
        side: Side | None = None,
        idempotency_key: str | None = None,
    ) -> Sequence[Order]:
        self.calls.append(("cancel_all", (account, symbol, side, idempotency_key)))
        return [
            await self.cancel_order(o.order_id) for o in list(self.orders.values()) if o.is_open
        ]

    async def replace_order(
        self,
        order_id: OrderId,
        *,
        order_qty: Any = None,
        price: Any = None,
        trigger_price: Any = None,
        idempotency_key: str | None = None,
    ) -> Order:
        self.calls.append(("replace", (order_qty, price, trigger_price, idempotency_key)))
        order = await self.get_order(order_id)
        self.put(
            replace(order, order_qty=order_qty or order.order_qty, price=price or order.price),
            EventType.REPLACED,
        )
        return self.orders[order_id]

    async def get_order(self, order_id: OrderId) -> Order:
        try:
            return self.orders[order_id]
        except KeyError:
            raise NotFound(f"there is no order {order_id}", reason="UNKNOWN_ORDER") from None

    async def find_order(
        self, *, account: str, client_order_id: str | None = None, venue_order_id: str | None = None
    ) -> Order | None:
        return next(
            (
                o
                for o in self.orders.values()
                if o.client_order_id == client_order_id is not None
                or o.venue_order_id == venue_order_id is not None
            ),
            None,
        )

    # --- lists

    async def list_orders(
        self, where: Any = None, *, page_size: int = 100, page_token: Cursor | str | None = None
    ) -> Listing[Order]:
        self.calls.append(("list_orders", where))
        if page_token and not page_token.isdecimal():
            raise InvalidOrder(f"no such page: {page_token!r}", reason="INVALID_PAGE_TOKEN")
        begin = int(page_token or 0)
        items = list(reversed(self.orders.values()))[begin:]
        return Listing(
            items=tuple(items[:page_size]),
            next_cursor=Cursor(str(begin + page_size)) if len(items) > page_size else None,
        )

    async def list_order_events(self, order_id: OrderId) -> Sequence[OrderEvent]:
        await self.get_order(order_id)
        return [e for e in self.events if e.order_id == order_id]

    async def list_fills(
        self, where: Any = None, *, page_size: int = 100, page_token: Cursor | str | None = None
    ) -> Listing[Fill]:
        self.calls.append(("list_fills", where))
        return Listing(items=tuple(reversed(self.fills))[:page_size])

    async def list_balances(self, account: str) -> Sequence[Balance]:
        return [
            Balance(account=AccountName(account), asset="BTC", free=Decimal(1), held=Decimal(0))
        ]

    async def list_positions(self, account: str) -> Sequence[Position]:
        return [Position(account=AccountName(account), symbol="BTC/USD:USDC", qty=Decimal(-2))]

    async def close_position(
        self, account: str, symbol: str, *, idempotency_key: str | None = None
    ) -> Order | None:
        self.calls.append(("close_position", (account, symbol, idempotency_key)))
        return None

    def list_outboxes(self) -> Sequence[OutboxStatus]:
        return ()

    async def list_held(self) -> Sequence[VenueInfo]:
        return await self.list_venues()

    async def list_venues(self) -> Sequence[VenueInfo]:
        status = AccountStatus(
            account=PAPER,
            venue="fake",
            plugin="fake",
            state=self.state,
            why="" if self.state == "READY" else "waiting",
            open_orders=sum(1 for o in self.orders.values() if o.is_open),
            in_doubt=sum(1 for o in self.orders.values() if o.in_doubt),
            head_seq=len(self.events),
        )
        return [VenueInfo(venue="fake", plugin="fake", accounts=(status,))]

    async def list_instruments(self, venue: str) -> Sequence[Instrument]:
        if venue != "fake":
            raise NotFound(f"there is no venue {venue!r}", reason="UNKNOWN_VENUE")
        return [
            Instrument(
                symbol="BTC/USDT",
                venue_symbol="BTCUSDT",
                base_asset="BTC",
                quote_asset="USDT",
                tick_size=Decimal("0.01"),
            )
        ]

    # --- live

    def stream_orders(
        self,
        *,
        accounts: Sequence[str] | None = None,
        after: Mapping[str, int] | None = None,
        symbol: str | None = None,
    ) -> AsyncIterator[StreamBatch]:
        return self._stream(
            after, symbol, lambda e, prev: {"orders": (_order_item(e, prev),)}, lambda e: True
        )

    def stream_fills(
        self,
        *,
        accounts: Sequence[str] | None = None,
        after: Mapping[str, int] | None = None,
        symbol: str | None = None,
    ) -> AsyncIterator[StreamBatch]:
        return self._stream(
            after,
            symbol,
            lambda e, prev: {"fills": (_fill_item(e, prev),)},
            lambda e: e.fill is not None,
        )

    async def _stream(
        self,
        after: Mapping[str, int] | None,
        symbol: str | None,
        write: Callable[[OrderEvent, int], Any],
        wanted: Callable[[OrderEvent], bool],
    ) -> AsyncIterator[StreamBatch]:
        at = (after or {}).get(PAPER, 0)
        if at == -1:
            at = len(self.events)
        if at > len(self.events):
            raise InvalidOrder("beyond the end", reason="OUT_OF_RANGE")
        prev = at
        while True:
            while at < len(self.events):
                event = self.events[at]
                at = event.seq
                keep = wanted(event) and (
                    symbol is None or event.order is None or event.order.symbol == symbol
                )
                items: Any = write(event, prev) if keep else {}
                prev = at if keep else prev
                yield StreamBatch(position={PAPER: at}, **items)
            yield StreamBatch(position={PAPER: at}, caught_up=True)
            if at < len(self.events):
                continue
            if self.is_stopped:
                return
            self._moved.clear()
            await self._moved.wait()

    def stop(self) -> None:
        self.is_stopped = True
        self._wake()

    def _wake(self) -> None:
        self._moved.set()

    @asynccontextmanager
    async def session(
        self, *, cancel_on_disconnect: bool = False, lease_s: float | None = None
    ) -> AsyncIterator[Any]:
        session = _FakeSession(self)
        self.calls.append(("session", cancel_on_disconnect))
        try:
            yield session
        finally:
            if cancel_on_disconnect:
                for order_id in session.placed:
                    if self.orders[order_id].is_open:
                        await self.cancel_order(order_id)
            self.calls.append(("session over", len(session.placed)))
            self._wake()

    # --- control

    async def halt(
        self,
        *,
        scope: str = "*",
        why: str,
        by: str,
        cancel_open: bool = False,
        idempotency_key: str | None = None,
    ) -> Halt:
        self.calls.append(("halt", (scope, why, by, cancel_open, idempotency_key)))
        return Halt(scope=scope, why=why, by=by, since_ns=7)

    async def resume(
        self, *, scope: str = "*", by: str, idempotency_key: str | None = None
    ) -> None:
        self.calls.append(("resume", (scope, by, idempotency_key)))

    async def list_halts(self) -> Sequence[Halt]:
        return [Halt(scope="*", why="because", by="me", since_ns=7)]

    async def resolve(
        self,
        order_id: OrderId,
        *,
        outcome: str,
        by: str,
        why: str,
        idempotency_key: str | None = None,
    ) -> Order:
        self.calls.append(("resolve", (outcome, by, why, idempotency_key)))
        return await self.get_order(order_id)

    async def adopt(
        self,
        account: str,
        venue_order_ids: Sequence[str] = (),
        *,
        by: str,
        why: str,
        idempotency_key: str | None = None,
    ) -> Sequence[Order]:
        self.calls.append(("adopt", (account, tuple(venue_order_ids), by, why, idempotency_key)))
        return []

    async def aclose(self) -> None:
        self.stop()

    # --- operations

    async def ping_store(self) -> None:
        if self.store_error is not None:
            raise self.store_error

    async def count_orders(self) -> Mapping[OrdStatus, int]:
        counts: dict[OrdStatus, int] = {}
        for order in self.orders.values():
            counts[order.ord_status] = counts.get(order.ord_status, 0) + 1
        return counts


class _FakeSession:
    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway
        self.placed: list[OrderId] = []

    async def place_order(self, order: NewOrder | None = None, /, **fields: Any) -> Order:
        placed = await self._gateway.place_order(order, **fields)
        self.placed.append(placed.order_id)
        return placed

    async def cancel_order(self, order_id: OrderId, *, idempotency_key: str | None = None) -> Order:
        return await self._gateway.cancel_order(order_id, idempotency_key=idempotency_key)

    async def replace_order(self, order_id: OrderId, **terms: Any) -> Order:
        return await self._gateway.replace_order(order_id, **terms)


def _order_item(event: OrderEvent, prev: int) -> OrderItem:
    return OrderItem(account=event.account, seq=event.seq, prev_seq=prev, event=event)


def _fill_item(event: OrderEvent, prev: int) -> FillItem:
    assert event.fill is not None
    return FillItem(account=event.account, seq=event.seq, prev_seq=prev, fill=event.fill)


@pytest.fixture
def fake() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


class Wire:
    """A wire between client and door that a test cuts.

    Attributes:
        address: What the client dials.
        target: What it is connected to; None refuses.
        swallow: Whether the door's answers are lost on the way.
    """

    def __init__(self) -> None:
        self.address = ""
        self.target: str | None = None
        self.swallow = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.target is None:
            writer.transport.abort()
            return
        host, _, port = self.target.rpartition(":")
        try:
            back, forth = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, forth}
        for task in (
            asyncio.create_task(self._carry(reader, forth, lambda: False)),
            asyncio.create_task(self._carry(back, writer, lambda: self.swallow)),
        ):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        is_lost: Callable[[], bool],
    ) -> None:
        try:
            while data := await reader.read(65536):
                if not is_lost():
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    await wire.open()
    yield wire
    await wire.close()


@pytest.fixture
async def door(fake: FakeGateway, metrics: Metrics) -> AsyncIterator[GrpcDoor]:
    async with serve(fake, port=0, operations=fake, metrics=metrics, grace_s=1.0) as door:
        yield door


@pytest.fixture
async def gateway(door: GrpcDoor) -> AsyncIterator[RemoteGateway]:
    async with connect(door.address, timeout_s=10.0) as gateway:
        yield gateway


@pytest.fixture
async def channel(door: GrpcDoor) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(door.address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> trading_gateway_pb2_grpc.TradingGatewayStub:
    return trading_gateway_pb2_grpc.TradingGatewayStub(channel)


@pytest.fixture
def fake_type() -> type[FakeGateway]:
    return FakeGateway
