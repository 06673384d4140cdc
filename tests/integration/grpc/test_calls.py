"""Every call through the door and back: what a remote caller gets is what an embedded one gets."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tradegw import errors
from tradegw.admin.v1 import admin_pb2, admin_pb2_grpc
from tradegw.model import FillFilter, NewOrder, OrderFilter, OrderId, OrdStatus, OrdType, Side
from tradegw.trading.v1 import order_pb2, trading_gateway_pb2_grpc
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc import health as health_module
from tradegw.transports.grpc.client import RemoteGateway, connect
from tradegw.transports.grpc.server import GrpcDoor, serve

LIMIT: dict[str, Any] = {
    "account": "paper",
    "symbol": "BTC/USDT",
    "side": "buy",
    "ord_type": "limit",
    "order_qty": "0.01",
    "price": "100",
}
ORDER = order_pb2.NewOrder(
    account="paper",
    symbol="BTC/USDT",
    side="SIDE_BUY",
    order_qty="0.01",
    limit=order_pb2.LimitTerms(price="100"),
)


async def test_the_life_of_an_order(gateway: RemoteGateway, fake: Any) -> None:
    placed = await gateway.place_order(**LIMIT, client_order_id="c1", tags={"desk": "a"})
    assert placed == fake.orders[placed.order_id]
    assert placed.tags == {"desk": "a"}
    assert await gateway.get_order(placed.order_id) == placed
    assert await gateway.find_order(account="paper", client_order_id="c1") == placed
    assert await gateway.find_order(account="paper", client_order_id="c2") is None
    replaced = await gateway.replace_order(placed.order_id, price="101")
    assert replaced.price == Decimal(101)
    canceled = await gateway.cancel_order(account="paper", client_order_id="c1")
    assert canceled.ord_status is OrdStatus.CANCELED
    assert canceled.closed_time_ns == 9
    events = await gateway.list_order_events(placed.order_id)
    assert events == fake.events
    assert [e.event_type for e in events] == ["NEW", "REPLACED", "CANCELED"]


async def test_a_new_order_is_given_whole_or_in_fields(gateway: RemoteGateway, fake: Any) -> None:
    whole = NewOrder(
        symbol="BTC/USDT", side=Side.SELL, ord_type=OrdType.MARKET, order_qty=Decimal("0.5")
    )
    assert (await gateway.place_order(whole)).side is Side.SELL
    await gateway.place_order(symbol="BTC/USDT", side="SELL", ord_type="market", order_qty="0.5")
    first, second = (new for kind, new in fake.calls if kind == "place")
    assert first.idempotency_key
    assert second.idempotency_key
    assert first.idempotency_key != second.idempotency_key
    with pytest.raises(errors.UsageError):
        await gateway.place_order(whole, price="1")


async def test_each_member_of_a_batch_has_its_answer(gateway: RemoteGateway, fake: Any) -> None:
    async def refuse(new: NewOrder) -> None:
        if new.symbol == "BAD":
            raise errors.NotFound("there is no BAD", reason="UNKNOWN_SYMBOL")

    fake.on_place = refuse
    good = NewOrder(symbol="BTC/USDT", side=Side.BUY, ord_type=OrdType.MARKET, order_qty=Decimal(1))
    bad = NewOrder(symbol="BAD", side=Side.BUY, ord_type=OrdType.MARKET, order_qty=Decimal(1))
    none = NewOrder(symbol="BTC/USDT", side=Side.BUY, ord_type=OrdType.MARKET)
    a, b, c, d = await gateway.place_orders([good, bad, none, good])
    assert a != d
    assert isinstance(b, errors.NotFound)
    assert b.reason == "UNKNOWN_SYMBOL"
    assert isinstance(c, errors.InvalidOrder)
    assert c.reason == "INVALID_QUANTITY"
    assert await gateway.place_orders([]) == []


async def test_an_unreadable_member_does_not_stop_the_batch(
    stub: trading_gateway_pb2_grpc.TradingGatewayStub, fake: Any
) -> None:
    bad = order_pb2.NewOrder(symbol="BTC/USDT", side=99, order_qty="1")  # type: ignore[arg-type]
    answer = await stub.PlaceOrders(pb.PlaceOrdersRequest(orders=[ORDER, bad, ORDER]))
    assert [r.WhichOneof("result") for r in answer.results] == ["order", "error", "order"]
    assert answer.results[1].error.reason == "INVALID_FIELD"
    assert answer.results[1].error.metadata["request_id"]


async def test_lists_and_their_filters(gateway: RemoteGateway, fake: Any) -> None:
    for _ in range(5):
        fake.add_fill(await gateway.place_order(**LIMIT))
    where = OrderFilter(statuses=(OrdStatus.NEW,), tags={"a": "b"}, in_doubt=False)
    first = await gateway.list_orders(where, page_size=3)
    rest = await gateway.list_orders(where, page_size=3, page_token=first.next_cursor)
    assert [*first.items, *rest.items] == list(reversed(fake.orders.values()))
    assert rest.next_cursor is None
    assert ("list_orders", where) in fake.calls
    fills = await gateway.list_fills(FillFilter(side=Side.BUY))
    assert list(fills.items) == list(reversed(fake.fills))
    for size in (0, -1, 1001):
        with pytest.raises(errors.InvalidOrder, match="page_size"):
            await gateway.list_orders(page_size=size)


async def test_events_are_paged(
    stub: trading_gateway_pb2_grpc.TradingGatewayStub, gateway: RemoteGateway, fake: Any
) -> None:
    order = await gateway.place_order(**LIMIT)
    for _ in range(4):
        fake.add_fill(order)
    heard: list[int] = []
    token = ""
    while True:
        page = await stub.ListOrderEvents(
            pb.ListOrderEventsRequest(order_id=str(order.order_id), page_size=2, page_token=token)
        )
        assert len(page.events) <= 2
        heard += [event.seq for event in page.events]
        token = page.next_page_token
        if not token:
            break
    assert heard == [1, 2, 3, 4, 5]
    with pytest.raises(grpc.aio.AioRpcError, match="page_token"):
        await stub.ListOrderEvents(
            pb.ListOrderEventsRequest(order_id=str(order.order_id), page_token="nonsense")
        )


async def test_the_history_is_of_closed_orders(
    stub: trading_gateway_pb2_grpc.TradingGatewayStub, fake: Any
) -> None:
    await stub.GetOrderHistory(pb.GetOrderHistoryRequest())
    (_, where) = fake.calls[-1]
    assert set(where.statuses) == {s for s in OrdStatus if not s.is_open}
    with pytest.raises(grpc.aio.AioRpcError, match="closed orders; found NEW"):
        await stub.GetOrderHistory(
            pb.GetOrderHistoryRequest(filter=pb.OrderFilter(statuses=["ORD_STATUS_NEW"]))
        )


async def test_accounts_and_venues(gateway: RemoteGateway, fake: Any) -> None:
    assert await gateway.list_balances("paper") == await fake.list_balances("paper")
    assert await gateway.list_positions("paper") == await fake.list_positions("paper")
    assert await gateway.list_venues() == await fake.list_venues()
    assert await gateway.list_instruments("fake") == await fake.list_instruments("fake")
    assert await gateway.close_position("paper", "BTC/USD:USDC") is None
    with pytest.raises(errors.NotFound) as caught:
        await gateway.list_instruments("nowhere")
    assert caught.value.reason == "UNKNOWN_VENUE"
    with pytest.raises(errors.InvalidOrder, match="account must be given"):
        await gateway.list_balances("")


async def test_control(gateway: RemoteGateway, fake: Any) -> None:
    halt = await gateway.halt(scope="account:paper", why="because", by="me", cancel_open=True)
    assert (halt.scope, halt.why, halt.by, halt.since_ns) == ("account:paper", "because", "me", 7)
    await gateway.resume(scope="account:paper", by="me")
    assert [h.scope for h in await gateway.list_halts()] == ["*"]
    order = await gateway.place_order(**LIMIT)
    await gateway.resolve(order.order_id, outcome="rejected", by="me", why="I looked")
    await gateway.cancel_all_orders(account="paper", side=Side.BUY)
    called = dict(fake.calls)
    assert called["halt"][:4] == ("account:paper", "because", "me", True)
    assert called["resume"][:2] == ("account:paper", "me")
    assert called["resolve"][:3] == ("REJECTED", "me", "I looked")
    assert called["cancel_all"][:3] == ("paper", None, Side.BUY)
    assert all(called[name][-1] for name in ("halt", "resume", "resolve", "cancel_all"))
    with pytest.raises(errors.InvalidOrder, match="OrdStatus is one of"):
        await gateway.resolve(order.order_id, outcome="maybe", by="me", why="I looked")


async def test_adopting_names_who_and_why(
    gateway: RemoteGateway, fake: Any, channel: grpc.aio.Channel
) -> None:
    assert await gateway.adopt("paper", ["v1"], by="me", why="the disk is gone") == []
    called = dict(fake.calls)["adopt"]
    assert called[:4] == ("paper", ("v1",), "me", "the disk is gone")
    assert called[4]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin_pb2_grpc.AdminStub(channel).Adopt(admin_pb2.AdoptRequest(account="paper"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_errors_are_the_same_as_embedded(gateway: RemoteGateway) -> None:
    unknown = OrderId(uuid4())
    with pytest.raises(errors.NotFound, match=f"there is no order {unknown}") as caught:
        await gateway.get_order(unknown)
    assert caught.value.reason == "UNKNOWN_ORDER"


async def test_a_closed_client_says_so(door: GrpcDoor) -> None:
    async with connect(door.address) as gateway:
        pass
    with pytest.raises(errors.UsageError, match="closed"):
        await gateway.list_venues()
    with pytest.raises(errors.UsageError, match="closed"):
        gateway.stream_orders()
    await gateway.aclose()


# --- what is the same for every call --------------------------------------------------------------


def told(metadata: Any, name: str = "x-request-id") -> Any:
    return next((value for key, value in metadata or () if key == name), None)


async def test_a_request_keeps_the_id_that_its_caller_gave(
    stub: trading_gateway_pb2_grpc.TradingGatewayStub, fake: Any
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    call = stub.PlaceOrder(
        pb.PlaceOrderRequest(order=ORDER),
        metadata=(
            ("x-request-id", "my request 1"),
            ("traceparent", f"00-{trace}-00f067aa0ba902b7-01"),
        ),
    )
    await call
    assert told(await call.initial_metadata()) == "my request 1"
    assert told(await call.trailing_metadata()) == "my request 1"
    assert (fake.requests[-1].request_id, fake.requests[-1].trace_id) == ("my request 1", trace)
    assert fake.events[-1].request_id == "my request 1"


@pytest.mark.parametrize("given", [None, "", "x" * 129])
async def test_a_request_without_a_usable_id_gets_a_uuid(
    stub: trading_gateway_pb2_grpc.TradingGatewayStub, fake: Any, given: str | None
) -> None:
    metadata = () if given is None else (("x-request-id", given),)
    call = stub.PlaceOrder(pb.PlaceOrderRequest(order=ORDER), metadata=metadata)
    await call
    request_id = told(await call.trailing_metadata())
    assert str(UUID(request_id)) == request_id == fake.requests[-1].request_id


@pytest.mark.parametrize(
    "traceparent",
    ["", "nonsense", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"ff-{'a' * 32}-00f067aa0ba902b7-01"],
)
async def test_a_trace_that_is_none_is_left_out(
    stub: trading_gateway_pb2_grpc.TradingGatewayStub, fake: Any, traceparent: str
) -> None:
    await stub.PlaceOrder(
        pb.PlaceOrderRequest(order=ORDER), metadata=(("traceparent", traceparent),)
    )
    assert fake.requests[-1].trace_id == ""


async def test_a_defect_is_logged_once_and_tells_nothing(
    stub: trading_gateway_pb2_grpc.TradingGatewayStub,
    fake: Any,
    metrics: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def break_down(_: NewOrder) -> None:
        raise ZeroDivisionError("our insides")

    fake.on_place = break_down
    call = stub.PlaceOrder(pb.PlaceOrderRequest(order=ORDER), metadata=(("x-request-id", "r7"),))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "r7" in (caught.value.details() or "")
    assert "insides" not in repr(caught.value)
    assert told(caught.value.trailing_metadata()) == "r7"
    logged = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(logged) == 1
    assert logged[0].exc_info
    assert logged[0].exc_info[0] is ZeroDivisionError
    assert vars(logged[0])["request_id"] == "r7"
    value = metrics.registry.get_sample_value
    # The server counts when the call is done with, which may be after the caller has its answer.
    labels = {"method": "PlaceOrder", "code": "INTERNAL"}
    for _ in range(10_000):
        if value("tradegw_rpc_total", labels) is not None:
            break
        await asyncio.sleep(0)
    assert value("tradegw_rpc_total", labels) == 1
    assert value("tradegw_rpc_seconds_count", {"method": "PlaceOrder"}) == 1


async def test_a_message_that_is_too_long_hurts_nobody_else(
    stub: trading_gateway_pb2_grpc.TradingGatewayStub, fake: Any, gateway: RemoteGateway
) -> None:
    huge = order_pb2.NewOrder()
    huge.CopyFrom(ORDER)
    huge.symbol = "x" * 10_000_000
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.PlaceOrder(pb.PlaceOrderRequest(order=huge))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not fake.calls
    await stub.PlaceOrder(pb.PlaceOrderRequest(order=ORDER))
    many = NewOrder(
        symbol="BTC/USDT",
        side=Side.BUY,
        ord_type=OrdType.MARKET,
        order_qty=Decimal(1),
        tags={f"t{i}": "v" * 128 for i in range(16)},
    )
    with pytest.raises(errors.InvalidOrder) as ours:
        await gateway.place_orders([many] * 5000)
    assert ours.value.reason == "MESSAGE_TOO_LARGE"


async def test_bytes_that_are_no_message_have_a_reason(channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary("/tradegw.trading.v1.TradingGateway/PlaceOrder")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\xff\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told(caught.value.trailing_metadata())
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await channel.unary_unary("/tradegw.trading.v1.TradingGateway/Nothing")(b"")
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED


# --- health, reflection ---------------------------------------------------------------------------


async def watch(stub: health_pb2_grpc.HealthStub, service: str, wanted: int) -> None:
    async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=60):
        if answer.status == wanted:
            return
    raise AssertionError("the watch ended")


async def test_health_follows_each_dependency(
    channel: grpc.aio.Channel, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    up = health_pb2.HealthCheckResponse.SERVING
    down = health_pb2.HealthCheckResponse.NOT_SERVING

    async def status(service: str) -> int:
        return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status

    for service in ("", "tradegw.trading.v1.TradingGateway", "store", "venue:fake"):
        assert await status(service) == up
    fake.state = "RECONCILING"
    await watch(stub, "venue:fake", down)
    assert await status("") == up
    fake.state = "READY"
    fake.store_error = errors.StoreUnavailable("gone")
    await watch(stub, "store", down)
    await watch(stub, "", down)
    fake.store_error = None
    await watch(stub, "", up)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await status("venue:other")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert health_module.REFRESH_S <= 1.0


async def test_health_at_the_end_is_for_good(door: GrpcDoor, channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    await door.set_not_serving()
    for service in ("", "store", "venue:fake"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    # Calls are answered as before.
    answer = await trading_gateway_pb2_grpc.TradingGatewayStub(channel).PlaceOrder(
        pb.PlaceOrderRequest(order=ORDER)
    )
    assert answer.HasField("order")


async def test_reflection_lists_the_services(channel: grpc.aio.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    answer = await call.read()
    names = {s.name for s in answer.list_services_response.service}
    assert {
        "tradegw.trading.v1.TradingGateway",
        "tradegw.admin.v1.Admin",
        "grpc.health.v1.Health",
    } <= names
    await call.done_writing()


async def test_two_doors_cannot_have_one_address(door: GrpcDoor, fake: Any, metrics: Any) -> None:
    host, _, port = door.address.rpartition(":")
    with pytest.raises(errors.ConfigError, match=port):
        async with serve(fake, host, int(port), operations=fake, metrics=metrics):
            pass
