"""The remote gateway: the `Gateway` protocol over a gRPC connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeVar

import grpc.aio
from typing_extensions import Unpack

from tradegw.admin.v1 import admin_pb2 as admin
from tradegw.admin.v1 import admin_pb2_grpc
from tradegw.errors import (
    CommitUnknown,
    IdempotencyKeyReused,
    InvalidOrder,
    TradegwError,
    Unavailable,
    UsageError,
)
from tradegw.gateway import (
    NewOrderFields,
    Number,
    Session,
    StreamBatch,
    VenueInfo,
    parse_terms,
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
    OrdStatus,
    Position,
    Side,
    VenueOrderId,
)
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.trading.v1 import trading_gateway_pb2_grpc
from tradegw.transports.grpc.asked import new_key, order_of, place_request, read
from tradegw.transports.grpc.convert import (
    read_balance,
    read_event,
    read_fill,
    read_instrument,
    read_position,
    read_venue,
)
from tradegw.transports.grpc.errors import read_error
from tradegw.transports.grpc.fields import ORDER_STATUS, SIDE
from tradegw.transports.grpc.remote_session import RemoteSession
from tradegw.transports.grpc.remote_stream import follow_fills, follow_orders
from tradegw.transports.grpc.requests import (
    write_fill_filter,
    write_order_filter,
    write_terms,
)
from tradegw.transports.grpc.retry import Attempts, may_be_stored, outcome_unknown, repeat

__all__ = ["RemoteGateway", "connect"]

MessageT = TypeVar("MessageT")

OPTIONS: Final = (
    # The server's answers are bounded by pages, but for lists of instruments and of cancelled orders.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    # We repeat by ourselves, with keys.
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Two clients in one process must not share the fate of one connection.
    ("grpc.use_local_subchannel_pool", 1),
)


@asynccontextmanager
async def connect(target: str, *, timeout_s: float = 30.0) -> AsyncGenerator[RemoteGateway]:
    """Connect to a gateway; it is the same object as an embedded one.

    The connection is made when it is needed, and made again when it breaks.

    Args:
        target: `HOST:PORT`.
        timeout_s: How long each call is repeated, with the same idempotency key, while the gateway cannot be
            reached or does not take it; and how long a stream may be without a connection. Afterwards
            `Unavailable`; with reason `OUTCOME_UNKNOWN` the call may have been stored, and the text names
            the key to ask again with.
    """
    gateway = RemoteGateway(target, timeout_s=timeout_s)
    try:
        yield gateway
    finally:
        await gateway.aclose()


class RemoteGateway:
    """A gateway in another process. Made by `connect`; what each method does, `Gateway` says."""

    def __init__(self, target: str, *, timeout_s: float = 30.0) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._is_closed = False
        self._channel = grpc.aio.insecure_channel(target, options=OPTIONS)
        self._trading = trading_gateway_pb2_grpc.TradingGatewayStub(self._channel)
        self._admin = admin_pb2_grpc.AdminStub(self._channel)

    # --- orders ---------------------------------------------------------------------------------

    async def place_order(
        self, order: NewOrder | None = None, /, **fields: Unpack[NewOrderFields]
    ) -> Order:
        """Place one order, once; see `Gateway.place_order`."""
        request, key = place_request(order, fields)
        answer = await self._ask(self._trading.PlaceOrder, request, key)
        return order_of(answer.order)

    async def place_orders(self, orders: Sequence[NewOrder]) -> Sequence[Order | TradegwError]:
        """Place several orders; see `Gateway.place_orders`. Those that are not taken now are repeated.

        Raises:
            Unavailable: The time is over, and no answer ever came. With reason `OUTCOME_UNKNOWN` some may be
                stored; the text names the key of each. After an answer each has its own, and its own error.
        """
        answers: dict[int, Order | TradegwError] = {}
        asked: dict[int, pb.PlaceOrderRequest] = {}
        keys: dict[int, str] = {}
        for i, order in enumerate(orders):
            try:
                asked[i], keys[i] = place_request(order, {})
            except InvalidOrder as e:
                answers[i] = e
        attempts = Attempts("PlaceOrders", self._timeout_s)
        # Those that are left, and that an attempt may have stored.
        unknown: set[int] = set()

        def settle(i: int, error: TradegwError) -> None:
            is_settled = i not in unknown or isinstance(error, IdempotencyKeyReused)
            answers[i] = error if is_settled else outcome_unknown("PlaceOrders", [keys[i]], error)

        is_answered = False
        while asked:
            numbers = list(asked)
            attempts.keys = [keys[i] for i in numbers]
            attempts.is_outcome_unknown = False
            request = pb.PlaceOrdersRequest(orders=[asked[i].order for i in numbers])
            try:
                response = await self._repeat(attempts, self._trading.PlaceOrders, request)
            except TradegwError as e:
                if not is_answered:
                    raise
                unknown.update(numbers if may_be_stored(e) else ())
                for i in numbers:
                    settle(i, e)
                break
            is_answered = True
            unknown.update(numbers if attempts.is_outcome_unknown else ())
            again: TradegwError | None = None
            for i, result in zip(numbers, response.results, strict=True):
                if result.HasField("order"):
                    answers[i] = order_of(result.order)
                    del asked[i]
                    continue
                error = read_error(result.error)
                if may_be_stored(error):
                    unknown.add(i)
                settle(i, error)
                if isinstance(error, (Unavailable, CommitUnknown)):
                    again = error
                else:
                    del asked[i]
            if again is not None:
                try:
                    await attempts.failed(again)
                except Unavailable:
                    # The time is over. Each of those that are left has its own error already.
                    break
        return [answers[i] for i in range(len(orders))]

    async def cancel_order(
        self,
        order_id: OrderId | None = None,
        *,
        account: str | None = None,
        client_order_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Cancel an order; see `Gateway.cancel_order`."""
        key = idempotency_key or new_key()
        request = pb.CancelOrderRequest(
            order_id=None if order_id is None else str(order_id),
            account=account,
            client_order_id=client_order_id,
            idempotency_key=key,
        )
        answer = await self._ask(self._trading.CancelOrder, request, key)
        return order_of(answer.order)

    async def cancel_all_orders(
        self,
        *,
        account: str | None = None,
        symbol: str | None = None,
        side: Side | None = None,
        idempotency_key: str | None = None,
    ) -> Sequence[Order]:
        """Cancel our open orders that match; see `Gateway.cancel_all_orders`."""
        key = idempotency_key or new_key()
        request = pb.CancelAllOrdersRequest(
            account=account,
            symbol=symbol,
            side=SIDE.none if side is None else SIDE.of[side],
            idempotency_key=key,
        )
        answer = await self._ask(self._trading.CancelAllOrders, request, key)
        return [order_of(order) for order in answer.orders]

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
        answer = await self._ask(self._trading.ReplaceOrder, request, key)
        return order_of(answer.order)

    async def get_order(self, order_id: OrderId) -> Order:
        """Return an order as it stands; see `Gateway.get_order`."""
        request = pb.GetOrderStatusRequest(order_id=str(order_id))
        answer = await self._ask(self._trading.GetOrderStatus, request)
        return order_of(answer.order)

    async def find_order(
        self,
        *,
        account: str,
        client_order_id: ClientOrderId | str | None = None,
        venue_order_id: VenueOrderId | str | None = None,
    ) -> Order | None:
        """Return the order of that name, or None; see `Gateway.find_order`."""
        if (client_order_id is None) == (venue_order_id is None):
            raise InvalidOrder(
                "give exactly one of client_order_id and venue_order_id", reason="INVALID_FIELD"
            )
        request = pb.FindOrderRequest(account=account)
        if client_order_id is not None:
            request.client_order_id = client_order_id
        elif venue_order_id is not None:
            request.venue_order_id = venue_order_id
        answer = await self._ask(self._trading.FindOrder, request)
        return order_of(answer.order) if answer.HasField("order") else None

    async def resolve(
        self,
        order_id: OrderId,
        *,
        outcome: str,
        by: str,
        why: str,
        idempotency_key: str | None = None,
    ) -> Order:
        """Decide an order in doubt by hand; see `Gateway.resolve`."""
        key = idempotency_key or new_key()
        try:
            status = OrdStatus.of(outcome)
        except ValueError as e:
            raise InvalidOrder(str(e), reason="INVALID_FIELD") from e
        request = admin.ResolveRequest(
            order_id=str(order_id),
            outcome=ORDER_STATUS.of[status],
            by=by,
            why=why,
            idempotency_key=key,
        )
        answer = await self._ask(self._admin.Resolve, request, key)
        return order_of(answer.order)

    async def adopt(
        self,
        account: str,
        venue_order_ids: Sequence[str] = (),
        *,
        by: str,
        why: str,
        idempotency_key: str | None = None,
    ) -> Sequence[Order]:
        """Make open orders at the venue ours; see `Gateway.adopt`."""
        key = idempotency_key or new_key()
        request = admin.AdoptRequest(
            account=account,
            venue_order_ids=venue_order_ids,
            by=by,
            why=why,
            idempotency_key=key,
        )
        answer = await self._ask(self._admin.Adopt, request, key)
        return [order_of(order) for order in answer.orders]

    async def close_position(
        self, account: str, symbol: str, *, idempotency_key: str | None = None
    ) -> Order | None:
        """Close a position; see `Gateway.close_position`."""
        key = idempotency_key or new_key()
        request = pb.ClosePositionRequest(account=account, symbol=symbol, idempotency_key=key)
        answer = await self._ask(self._trading.ClosePosition, request, key)
        return order_of(answer.order) if answer.HasField("order") else None

    # --- lists ----------------------------------------------------------------------------------

    async def list_orders(
        self,
        where: OrderFilter | None = None,
        *,
        page_size: int = 100,
        page_token: Cursor | str | None = None,
    ) -> Listing[Order]:
        """Return orders, newest first; see `Gateway.list_orders`."""
        request = pb.ListOrdersRequest(
            filter=None if where is None else write_order_filter(where),
            page_size=_page_size(page_size),
            page_token=page_token or "",
        )
        answer = await self._ask(self._trading.ListOrders, request)
        return Listing(
            items=tuple(order_of(order) for order in answer.orders),
            next_cursor=Cursor(answer.next_page_token) if answer.next_page_token else None,
        )

    async def list_order_events(self, order_id: OrderId) -> Sequence[OrderEvent]:
        """Return the whole story of an order; see `Gateway.list_order_events`."""
        events: list[OrderEvent] = []
        token = ""
        while True:
            request = pb.ListOrderEventsRequest(
                order_id=str(order_id), page_size=1000, page_token=token
            )
            answer = await self._ask(self._trading.ListOrderEvents, request)
            events.extend(read(read_event, event) for event in answer.events)
            token = answer.next_page_token
            if not token:
                return events

    async def list_fills(
        self,
        where: FillFilter | None = None,
        *,
        page_size: int = 100,
        page_token: Cursor | str | None = None,
    ) -> Listing[Fill]:
        """Return fills, newest first; see `Gateway.list_fills`."""
        request = pb.ListFillsRequest(
            filter=None if where is None else write_fill_filter(where),
            page_size=_page_size(page_size),
            page_token=page_token or "",
        )
        answer = await self._ask(self._trading.ListFills, request)
        return Listing(
            items=tuple(read(read_fill, fill) for fill in answer.fills),
            next_cursor=Cursor(answer.next_page_token) if answer.next_page_token else None,
        )

    async def list_balances(self, account: str) -> Sequence[Balance]:
        """Return the balances as the venue last reported them."""
        request = pb.GetBalancesRequest(account=account)
        answer = await self._ask(self._trading.GetBalances, request)
        return [read(read_balance, balance) for balance in answer.balances]

    async def list_positions(self, account: str) -> Sequence[Position]:
        """Return the positions as the venue last reported them."""
        request = pb.GetPositionsRequest(account=account)
        answer = await self._ask(self._trading.GetPositions, request)
        return [read(read_position, position) for position in answer.positions]

    async def list_venues(self) -> Sequence[VenueInfo]:
        """Return the configured venues with their accounts' states."""
        answer = await self._ask(self._trading.ListVenues, pb.ListVenuesRequest())
        return [read(read_venue, venue) for venue in answer.venues]

    async def list_instruments(self, venue: str) -> Sequence[Instrument]:
        """Return what can be traded at a venue; see `Gateway.list_instruments`."""
        request = pb.ListInstrumentsRequest(venue=venue)
        answer = await self._ask(self._trading.ListInstruments, request)
        return [read(read_instrument, instrument) for instrument in answer.instruments]

    # --- live -----------------------------------------------------------------------------------

    def stream_orders(
        self,
        *,
        accounts: Sequence[str] | None = None,
        after: Mapping[str, int] | None = None,
        symbol: str | None = None,
    ) -> AsyncIterator[StreamBatch]:
        """Yield order events, across lost connections; see `Gateway.stream_orders`.

        Raises:
            Unavailable: The gateway could not be reached for the connection's `timeout_s`.
        """
        self._check_open()
        return follow_orders(
            self._trading.StreamOrders,
            accounts=accounts,
            after=after,
            symbol=symbol,
            timeout_s=self._timeout_s,
        )

    def stream_fills(
        self,
        *,
        accounts: Sequence[str] | None = None,
        after: Mapping[str, int] | None = None,
        symbol: str | None = None,
    ) -> AsyncIterator[StreamBatch]:
        """Yield fills, across lost connections; see `stream_orders`."""
        self._check_open()
        return follow_fills(
            self._trading.StreamFills,
            accounts=accounts,
            after=after,
            symbol=symbol,
            timeout_s=self._timeout_s,
        )

    def session(
        self, *, cancel_on_disconnect: bool = False, lease_s: float | None = None
    ) -> AbstractAsyncContextManager[Session]:
        """Open a session; see `Gateway.session`.

        It is opened again when the connection breaks: the old one's end cancels its orders where that was
        asked for, and commands without an answer are repeated, with their keys, in the new one.
        """
        self._check_open()
        return RemoteSession(
            self._trading.TradeSession,
            cancel_on_disconnect=cancel_on_disconnect,
            lease_s=lease_s,
            timeout_s=self._timeout_s,
        )

    # --- control --------------------------------------------------------------------------------

    async def halt(
        self,
        *,
        scope: str = "*",
        why: str,
        by: str,
        cancel_open: bool = False,
        idempotency_key: str | None = None,
    ) -> Halt:
        """Refuse new orders from now on; see `Gateway.halt`."""
        key = idempotency_key or new_key()
        request = admin.HaltRequest(
            scope=scope, why=why, by=by, cancel_open=cancel_open, idempotency_key=key
        )
        return _read_halt((await self._ask(self._admin.Halt, request, key)).halt)

    async def resume(
        self, *, scope: str = "*", by: str, idempotency_key: str | None = None
    ) -> None:
        """Lift a halt; see `Gateway.resume`."""
        key = idempotency_key or new_key()
        request = admin.ResumeRequest(scope=scope, by=by, idempotency_key=key)
        await self._ask(self._admin.Resume, request, key)

    async def list_halts(self) -> Sequence[Halt]:
        """Return the halts in force."""
        answer = await self._ask(self._admin.ListHalts, admin.ListHaltsRequest())
        return [_read_halt(halt) for halt in answer.halts]

    async def aclose(self) -> None:
        """Let go of the connection. The gateway itself goes on."""
        self._is_closed = True
        await self._channel.close()

    # --- calls ----------------------------------------------------------------------------------

    async def _ask(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Any, MessageT],
        request: Any,
        key: str | None = None,
    ) -> MessageT:
        return await self._repeat(
            Attempts(
                type(request).__name__.removesuffix("Request"),
                self._timeout_s,
                *(() if key is None else (key,)),
            ),
            method,
            request,
        )

    async def _repeat(
        self,
        attempts: Attempts,
        method: grpc.aio.UnaryUnaryMultiCallable[Any, MessageT],
        request: Any,
    ) -> MessageT:
        self._check_open()

        def call(left_s: float) -> Awaitable[MessageT]:
            # Not waiting for the connection: the attempt fails at once, and we know that nothing was sent.
            return method(request, timeout=left_s)

        return await repeat(attempts, call)

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError("the gateway is closed")


def _page_size(page_size: int) -> int:
    # On the wire 0 means "not said", which embedded callers cannot say.
    if page_size < 1:
        raise InvalidOrder(
            f"page_size must be 1 to 1000; found {page_size}", reason="INVALID_FIELD"
        )
    return page_size


def _read_halt(halt: admin.Halt) -> Halt:
    return Halt(scope=halt.scope, why=halt.why, by=halt.by, since_ns=halt.since_ns)
