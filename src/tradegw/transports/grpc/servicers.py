# ruff: noqa: N802  The methods have the names of the RPCs.
"""The services: each method reads its request, asks the gateway, and writes the answer. No decisions."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

from tradegw.admin.v1 import admin_pb2 as admin
from tradegw.admin.v1 import admin_pb2_grpc
from tradegw.errors import InvalidOrder, TradegwError
from tradegw.gateway import REQUEST, Gateway
from tradegw.model import FillFilter, Halt, NewOrder, Order, OrderFilter
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.trading.v1 import trading_gateway_pb2_grpc
from tradegw.transports.grpc.closing import Closing
from tradegw.transports.grpc.convert import (
    read_new_order,
    write_account,
    write_balance,
    write_event,
    write_fill,
    write_instrument,
    write_order,
    write_position,
    write_venue,
)
from tradegw.transports.grpc.errors import describe
from tradegw.transports.grpc.fields import ORDER_STATUS, invalid, read_order_id
from tradegw.transports.grpc.figures import Observe
from tradegw.transports.grpc.interceptor import Context
from tradegw.transports.grpc.requests import (
    read_fill_filter,
    read_history_filter,
    read_order_filter,
    read_page_size,
)
from tradegw.transports.grpc.session import cancel, cancel_all, replace, serve_session
from tradegw.transports.grpc.streams import stream_fills, stream_orders

__all__ = ["AdminServicer", "TradingGatewayServicer"]

log = logging.getLogger(__name__)

BATCH_MAX = 1000


class TradingGatewayServicer(trading_gateway_pb2_grpc.TradingGatewayServicer):
    """`tradegw.trading.v1.TradingGateway` over a gateway."""

    def __init__(self, gateway: Gateway, closing: Closing, observe: Observe) -> None:
        self._gateway = gateway
        self._closing = closing
        self._observe = observe

    async def PlaceOrder(
        self, request: pb.PlaceOrderRequest, context: Context
    ) -> pb.PlaceOrderResponse:
        order = await self._gateway.place_order(read_new_order(request.order))
        return pb.PlaceOrderResponse(order=write_order(order))

    async def PlaceOrders(
        self, request: pb.PlaceOrdersRequest, context: Context
    ) -> pb.PlaceOrdersResponse:
        if not 1 <= len(request.orders) <= BATCH_MAX:
            raise invalid(f"orders must be 1 to {BATCH_MAX}; found {len(request.orders)}")
        answers: list[pb.PlaceResult | None] = []
        orders: list[NewOrder] = []
        # One that cannot be read must not stop the rest.
        for message in request.orders:
            try:
                orders.append(read_new_order(message))
                answers.append(None)
            except InvalidOrder as e:
                answers.append(_error(e))
        placed = iter(await self._gateway.place_orders(orders) if orders else ())
        return pb.PlaceOrdersResponse(
            results=[_result(next(placed)) if answer is None else answer for answer in answers]
        )

    async def CancelOrder(
        self, request: pb.CancelOrderRequest, context: Context
    ) -> pb.CancelOrderResponse:
        return pb.CancelOrderResponse(order=write_order(await cancel(self._gateway, request)))

    async def CancelAllOrders(
        self, request: pb.CancelAllOrdersRequest, context: Context
    ) -> pb.CancelAllOrdersResponse:
        return await cancel_all(self._gateway, request)

    async def ReplaceOrder(
        self, request: pb.ReplaceOrderRequest, context: Context
    ) -> pb.ReplaceOrderResponse:
        return pb.ReplaceOrderResponse(order=write_order(await replace(self._gateway, request)))

    async def GetOrderStatus(
        self, request: pb.GetOrderStatusRequest, context: Context
    ) -> pb.GetOrderStatusResponse:
        order = await self._gateway.get_order(read_order_id(request.order_id))
        return pb.GetOrderStatusResponse(order=write_order(order))

    async def FindOrder(
        self, request: pb.FindOrderRequest, context: Context
    ) -> pb.FindOrderResponse:
        account = _required(request.account, "account")
        match request.WhichOneof("name"):
            case "client_order_id":
                order = await self._gateway.find_order(
                    account=account, client_order_id=request.client_order_id
                )
            case "venue_order_id":
                order = await self._gateway.find_order(
                    account=account, venue_order_id=request.venue_order_id
                )
            case None:
                raise invalid("name must be client_order_id or venue_order_id; found none")
        return pb.FindOrderResponse(order=None if order is None else write_order(order))

    async def ListOrders(
        self, request: pb.ListOrdersRequest, context: Context
    ) -> pb.ListOrdersResponse:
        page = await self._gateway.list_orders(
            read_order_filter(request.filter) if request.HasField("filter") else OrderFilter(),
            page_size=read_page_size(request.page_size),
            page_token=request.page_token or None,
        )
        return pb.ListOrdersResponse(
            orders=[write_order(order) for order in page.items],
            next_page_token=page.next_cursor or "",
        )

    async def GetOrderHistory(
        self, request: pb.GetOrderHistoryRequest, context: Context
    ) -> pb.GetOrderHistoryResponse:
        page = await self._gateway.list_orders(
            read_order_filter(read_history_filter(request.filter)),
            page_size=read_page_size(request.page_size),
            page_token=request.page_token or None,
        )
        return pb.GetOrderHistoryResponse(
            orders=[write_order(order) for order in page.items],
            next_page_token=page.next_cursor or "",
        )

    async def ListOrderEvents(
        self, request: pb.ListOrderEventsRequest, context: Context
    ) -> pb.ListOrderEventsResponse:
        size = read_page_size(request.page_size)
        after = _read_event_token(request.page_token)
        events = await self._gateway.list_order_events(read_order_id(request.order_id))
        # Events are only ever added at the end, and an order has few: a number is a place that stays.
        left = [event for event in events if event.seq > after]
        page = left[:size]
        return pb.ListOrderEventsResponse(
            events=[write_event(event) for event in page],
            next_page_token=f"{_EVENT_TOKEN}{page[-1].seq}" if len(left) > size else "",
        )

    async def ListFills(
        self, request: pb.ListFillsRequest, context: Context
    ) -> pb.ListFillsResponse:
        page = await self._gateway.list_fills(
            read_fill_filter(request.filter) if request.HasField("filter") else FillFilter(),
            page_size=read_page_size(request.page_size),
            page_token=request.page_token or None,
        )
        return pb.ListFillsResponse(
            fills=[write_fill(fill) for fill in page.items],
            next_page_token=page.next_cursor or "",
        )

    def StreamOrders(
        self, request: pb.StreamOrdersRequest, context: Context
    ) -> AsyncIterator[pb.StreamOrdersResponse]:
        return stream_orders(self._gateway, request, self._closing)

    def StreamFills(
        self, request: pb.StreamFillsRequest, context: Context
    ) -> AsyncIterator[pb.StreamFillsResponse]:
        return stream_fills(self._gateway, request, self._closing)

    def TradeSession(
        self, request_iterator: AsyncIterator[pb.TradeSessionRequest], context: Context
    ) -> AsyncIterator[pb.TradeSessionResponse]:
        return serve_session(self._gateway, request_iterator, self._closing, self._observe)

    async def GetBalances(
        self, request: pb.GetBalancesRequest, context: Context
    ) -> pb.GetBalancesResponse:
        balances = await self._gateway.list_balances(_required(request.account, "account"))
        return pb.GetBalancesResponse(balances=[write_balance(one) for one in balances])

    async def GetPositions(
        self, request: pb.GetPositionsRequest, context: Context
    ) -> pb.GetPositionsResponse:
        positions = await self._gateway.list_positions(_required(request.account, "account"))
        return pb.GetPositionsResponse(positions=[write_position(one) for one in positions])

    async def ClosePosition(
        self, request: pb.ClosePositionRequest, context: Context
    ) -> pb.ClosePositionResponse:
        order = await self._gateway.close_position(
            _required(request.account, "account"),
            _required(request.symbol, "symbol"),
            idempotency_key=_key(request),
        )
        return pb.ClosePositionResponse(order=None if order is None else write_order(order))

    async def ListVenues(
        self, request: pb.ListVenuesRequest, context: Context
    ) -> pb.ListVenuesResponse:
        venues = await self._gateway.list_venues()
        return pb.ListVenuesResponse(
            venues=[write_venue(venue) for venue in sorted(venues, key=lambda v: v.venue)]
        )

    async def ListInstruments(
        self, request: pb.ListInstrumentsRequest, context: Context
    ) -> pb.ListInstrumentsResponse:
        instruments = await self._gateway.list_instruments(_required(request.venue, "venue"))
        return pb.ListInstrumentsResponse(
            instruments=[
                write_instrument(one) for one in sorted(instruments, key=lambda i: i.symbol)
            ]
        )


class AdminServicer(admin_pb2_grpc.AdminServicer):
    """`tradegw.admin.v1.Admin` over a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def Halt(self, request: admin.HaltRequest, context: Context) -> admin.HaltResponse:
        halt = await self._gateway.halt(
            scope=request.scope or "*",
            why=_required(request.why, "why"),
            by=_required(request.by, "by"),
            cancel_open=request.cancel_open,
            idempotency_key=_key(request),
        )
        return admin.HaltResponse(halt=_write_halt(halt))

    async def Resume(self, request: admin.ResumeRequest, context: Context) -> admin.ResumeResponse:
        await self._gateway.resume(
            scope=request.scope or "*",
            by=_required(request.by, "by"),
            idempotency_key=_key(request),
        )
        return admin.ResumeResponse()

    async def ListHalts(
        self, request: admin.ListHaltsRequest, context: Context
    ) -> admin.ListHaltsResponse:
        halts = await self._gateway.list_halts()
        return admin.ListHaltsResponse(
            halts=[_write_halt(halt) for halt in sorted(halts, key=lambda h: h.scope)]
        )

    async def Resolve(
        self, request: admin.ResolveRequest, context: Context
    ) -> admin.ResolveResponse:
        order = await self._gateway.resolve(
            read_order_id(request.order_id),
            outcome=ORDER_STATUS.read(request.outcome, "outcome"),
            by=_required(request.by, "by"),
            why=_required(request.why, "why"),
            idempotency_key=_key(request),
        )
        return admin.ResolveResponse(order=write_order(order))

    async def Adopt(self, request: admin.AdoptRequest, context: Context) -> admin.AdoptResponse:
        orders = await self._gateway.adopt(
            _required(request.account, "account"),
            tuple(request.venue_order_ids),
            by=_required(request.by, "by"),
            why=_required(request.why, "why"),
            idempotency_key=_key(request),
        )
        return admin.AdoptResponse(orders=[write_order(order) for order in orders])

    async def ListAccounts(
        self, request: admin.ListAccountsRequest, context: Context
    ) -> admin.ListAccountsResponse:
        accounts = [one for venue in await self._gateway.list_venues() for one in venue.accounts]
        return admin.ListAccountsResponse(
            accounts=[write_account(one) for one in sorted(accounts, key=lambda a: a.account)]
        )


def _key(request: Any) -> str | None:
    return request.idempotency_key if request.HasField("idempotency_key") else None


def _required(value: str, name: str) -> str:
    if not value:
        raise invalid(f"{name} must be given; found nothing")
    return value


def _result(answer: Order | TradegwError) -> pb.PlaceResult:
    if isinstance(answer, TradegwError):
        return _error(answer)
    return pb.PlaceResult(order=write_order(answer))


def _error(error: Exception) -> pb.PlaceResult:
    return pb.PlaceResult(error=describe(error, REQUEST.get().request_id).message)


def _write_halt(halt: Halt) -> admin.Halt:
    return admin.Halt(scope=halt.scope, why=halt.why, by=halt.by, since_ns=halt.since_ns)


_EVENT_TOKEN = "seq:"  # noqa: S105  Not a secret.


def _read_event_token(token: str) -> int:
    if not token:
        return 0
    number = token.removeprefix(_EVENT_TOKEN)
    if number == token or not (number.isascii() and number.isdecimal() and len(number) < 20):
        raise InvalidOrder(
            f"page_token must be one that this method gave; found {token[:80]!r}",
            reason="INVALID_PAGE_TOKEN",
        )
    return int(number)
