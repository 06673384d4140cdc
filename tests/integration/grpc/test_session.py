"""Sessions: many commands at once, an end that cancels, a lease that runs out."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from tradegw import errors
from tradegw.model import NewOrder, OrdStatus
from tradegw.trading.v1 import order_pb2, trading_gateway_pb2_grpc
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc import session as server_session
from tradegw.transports.grpc.client import RemoteGateway, connect
from tradegw.transports.grpc.errors import read_status
from tradegw.transports.grpc.server import GrpcDoor, serve

LIMIT: dict[str, Any] = {
    "account": "paper",
    "symbol": "BTC/USDT",
    "side": "buy",
    "ord_type": "limit",
    "order_qty": "0.01",
    "price": "100",
}
Stub = trading_gateway_pb2_grpc.TradingGatewayStub


def place(number: int, key: str, symbol: str = "BTC/USDT") -> pb.SessionCommand:
    return pb.SessionCommand(
        correlation_id=number,
        place=pb.PlaceOrderRequest(
            order=order_pb2.NewOrder(
                symbol=symbol,
                side="SIDE_BUY",
                order_qty="1",
                limit=order_pb2.LimitTerms(price="1"),
                idempotency_key=key,
            )
        ),
    )


async def opened(stub: Stub, **terms: Any) -> Any:
    call: Any = stub.TradeSession()
    await call.write(pb.TradeSessionRequest(open=pb.OpenSession(**terms)))
    answer = await call.read()
    assert answer.opened.session_id
    return call


async def results(call: Any, count: int) -> dict[int, pb.SessionResult]:
    found: dict[int, pb.SessionResult] = {}
    while len(found) < count:
        for result in (await call.read()).results:
            assert result.correlation_id not in found
            found[result.correlation_id] = result
    return found


async def over(fake: Any) -> None:
    """Wait until the gateway's session has ended."""
    async with asyncio.timeout(60):
        while fake.calls[-1][0] != "session over":
            fake._moved.clear()
            await fake._moved.wait()


async def test_the_same_methods_as_the_gateway(gateway: RemoteGateway, fake: Any) -> None:
    async with gateway.session() as session:
        order = await session.place_order(**LIMIT, client_order_id="c1")
        assert order == fake.orders[order.order_id]
        replaced = await session.replace_order(order.order_id, order_qty="0.02")
        assert str(replaced.order_qty) == "0.02"
        canceled = await session.cancel_order(order.order_id)
        assert canceled.ord_status is OrdStatus.CANCELED
        with pytest.raises(errors.InvalidOrder, match="exactly one of order_qty"):
            await session.place_order(**{**LIMIT, "order_qty": None})
    with pytest.raises(errors.UsageError, match="closed"):
        await session.place_order(**LIMIT)


async def test_many_at_once_each_with_its_own_answer(gateway: RemoteGateway, fake: Any) -> None:
    async with gateway.session() as session:
        orders = await asyncio.gather(
            *[session.place_order(**LIMIT, client_order_id=f"c{i}") for i in range(3000)]
        )
    assert [o.client_order_id for o in orders] == [f"c{i}" for i in range(3000)]


async def test_answers_come_as_they_are_known(stub: Stub, fake: Any) -> None:
    slow = asyncio.Event()

    async def hold(new: NewOrder) -> None:
        if new.idempotency_key == "slow":
            await slow.wait()

    fake.on_place = hold
    call = await opened(stub)
    await call.write(pb.TradeSessionRequest(commands=[place(1, "slow"), place(2, "quick")]))
    first = await results(call, 1)
    assert list(first) == [2]
    slow.set()
    assert list(await results(call, 1)) == [1]
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_every_command(stub: Stub, fake: Any) -> None:
    call = await opened(stub)
    await call.write(
        pb.TradeSessionRequest(
            commands=[
                place(1, "a"),
                pb.SessionCommand(correlation_id=2, heartbeat=pb.Heartbeat(time_ns=5)),
                pb.SessionCommand(correlation_id=3),
                pb.SessionCommand(correlation_id=4, cancel=pb.CancelOrderRequest(account="a")),
            ]
        )
    )
    found = await results(call, 4)
    order = found[1].order
    assert order.order_id
    assert found[2].heartbeat.time_ns > 5
    assert found[3].error.reason == "INVALID_FIELD"
    assert found[4].error.reason == "INVALID_FIELD"
    await call.write(
        pb.TradeSessionRequest(
            commands=[
                pb.SessionCommand(
                    correlation_id=5,
                    replace=pb.ReplaceOrderRequest(order_id=order.order_id, price="2"),
                ),
                pb.SessionCommand(correlation_id=6, cancel_all=pb.CancelAllOrdersRequest()),
            ]
        )
    )
    found = await results(call, 2)
    assert found[5].order.price == "2"
    assert [o.order_id for o in found[6].orders.orders] == [order.order_id]
    call.cancel()


async def test_commands_in_the_first_message(stub: Stub, fake: Any) -> None:
    call: Any = stub.TradeSession()
    await call.write(pb.TradeSessionRequest(open=pb.OpenSession(), commands=[place(9, "k")]))
    assert (await call.read()).HasField("opened")
    assert list(await results(call, 1)) == [9]
    call.cancel()


@pytest.mark.parametrize("how", ["half-close", "hang up"])
@pytest.mark.parametrize("cancels", [True, False])
async def test_an_end_cancels_the_sessions_own_orders(
    stub: Stub, fake: Any, gateway: RemoteGateway, how: str, cancels: bool
) -> None:
    others = await gateway.place_order(**LIMIT)
    call = await opened(stub, cancel_on_disconnect=cancels)
    await call.write(pb.TradeSessionRequest(commands=[place(1, "a"), place(2, "b")]))
    await results(call, 2)
    if how == "half-close":
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    else:
        call.cancel()
    await over(fake)
    own = [o for o in fake.orders.values() if o.order_id != others.order_id]
    assert [o.is_open for o in own] == [not cancels] * 2
    assert fake.orders[others.order_id].is_open


async def test_an_order_on_its_way_is_cancelled_too(stub: Stub, fake: Any) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_: NewOrder) -> None:
        begun.set()
        await go_on.wait()

    fake.on_place = hold
    call = await opened(stub, cancel_on_disconnect=True)
    await call.write(pb.TradeSessionRequest(commands=[place(1, "a")]))
    await begun.wait()
    call.cancel()
    go_on.set()
    await over(fake)
    assert [o.ord_status for o in fake.orders.values()] == [OrdStatus.CANCELED]


async def test_a_lease_runs_out_in_silence(stub: Stub, fake: Any) -> None:
    call = await opened(stub, cancel_on_disconnect=True, lease_ms=300)
    await call.write(pb.TradeSessionRequest(commands=[place(1, "a")]))
    await results(call, 1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    error = read_status(caught.value)
    assert error is not None
    assert error.reason == "LEASE_EXPIRED"
    assert not any(o.is_open for o in fake.orders.values())


async def test_a_gateway_that_stood_still_hears_first_what_came_meanwhile(
    stub: Stub, fake: Any
) -> None:
    """A stall of the gateway is no silence of its callers: it must not cost them their orders."""
    lease_s = 0.4
    call = await opened(stub, cancel_on_disconnect=True, lease_ms=int(lease_s * 1000))
    await call.write(pb.TradeSessionRequest(commands=[place(1, "a")]))
    await results(call, 1)
    for number in range(2, 4):
        time.sleep(2 * lease_s)  # noqa: ASYNC251  That nothing runs is what is tested.
        await call.write(pb.TradeSessionRequest(commands=[place(number, f"k{number}")]))
        assert list(await results(call, 1)) == [number]
    assert all(o.is_open for o in fake.orders.values())
    call.cancel()


async def test_our_client_keeps_its_lease(gateway: RemoteGateway, fake: Any) -> None:
    async with gateway.session(lease_s=0.3, cancel_on_disconnect=True) as session:
        first = await session.place_order(**LIMIT)
        loop = asyncio.get_running_loop()
        ends = loop.time() + 1.0
        while loop.time() < ends:
            await gateway.get_order(first.order_id)
        assert fake.orders[first.order_id].is_open
    assert not fake.orders[first.order_id].is_open
    assert sum(1 for kind, _ in fake.calls if kind == "session") == 1


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(pb.TradeSessionRequest(commands=[place(1, "a")]), "INVALID_FIELD", id="open"),
        pytest.param(
            pb.TradeSessionRequest(open=pb.OpenSession(lease_ms=0)), "INVALID_FIELD", id="no lease"
        ),
        pytest.param(
            pb.TradeSessionRequest(open=pb.OpenSession(lease_ms=10**12)),
            "INVALID_FIELD",
            id="a lease of years",
        ),
        pytest.param(b"\xff\xff\xff", "MALFORMED_MESSAGE", id="bytes"),
    ],
)
async def test_a_session_begins_with_its_terms(
    channel: grpc.aio.Channel, fake: Any, message: Any, reason: str
) -> None:
    raw = message if isinstance(message, bytes) else message.SerializeToString()
    call: Any = channel.stream_stream("/tradegw.trading.v1.TradingGateway/TradeSession")()
    await call.write(raw)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    error = read_status(caught.value)
    assert error is not None
    assert (caught.value.code(), error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert not fake.calls


async def test_a_second_opening_ends_it(stub: Stub, fake: Any) -> None:
    call = await opened(stub)
    await call.write(pb.TradeSessionRequest(open=pb.OpenSession()))
    with pytest.raises(grpc.aio.AioRpcError, match="first message alone"):
        await call.read()


async def test_the_bound_of_commands_in_flight(
    stub: Stub, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_session, "IN_FLIGHT_MAX", 8)
    gate = asyncio.Event()
    waiting = 0
    most = 0

    async def hold(_: NewOrder) -> None:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await gate.wait()
        waiting -= 1

    fake.on_place = hold
    call = await opened(stub)
    await call.write(pb.TradeSessionRequest(commands=[place(i, f"k{i}") for i in range(100)]))
    async with asyncio.timeout(60):
        while waiting < 8:
            await stub.ListVenues(pb.ListVenuesRequest())
    gate.set()
    assert len(await results(call, 100)) == 100
    assert most == 8
    call.cancel()


async def test_a_closing_door_answers_first(fake: Any, metrics: Any) -> None:
    """What is in flight gets its true answer; then the session says that the gateway shuts down."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_: NewOrder) -> None:
        begun.set()
        await go_on.wait()

    fake.on_place = hold
    async with (
        serve(fake, port=0, operations=fake, metrics=metrics) as door,
        grpc.aio.insecure_channel(door.address) as channel,
    ):
        call = await opened(Stub(channel), cancel_on_disconnect=True)
        await call.write(pb.TradeSessionRequest(commands=[place(1, "a")]))
        await begun.wait()
        closing = asyncio.ensure_future(door.close_streams())
        await asyncio.sleep(0)
        go_on.set()
        assert (await results(call, 1))[1].HasField("order")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        error = read_status(caught.value)
        assert error is not None
        assert error.reason == "SHUTTING_DOWN"
        await closing
        # When the door says that its streams are closed, the orders have been cancelled.
        assert fake.calls[-1][0] == "session over"
        assert not any(o.is_open for o in fake.orders.values())


async def test_a_lost_connection_is_a_new_session(door: GrpcDoor, fake: Any, wire: Any) -> None:
    wire.target = door.address
    async with connect(wire.address, timeout_s=20.0) as gateway:
        async with gateway.session(cancel_on_disconnect=True) as session:
            first = await session.place_order(**LIMIT)
            wire.cut()
            await over(fake)
            assert not fake.orders[first.order_id].is_open
            second = await session.place_order(**LIMIT)
            assert fake.orders[second.order_id].is_open
        assert not fake.orders[second.order_id].is_open


async def test_an_error_inside_is_logged_and_tells_nothing(
    stub: Stub, fake: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def break_down(_: NewOrder) -> None:
        raise ZeroDivisionError("our insides")

    fake.on_place = break_down
    call = await opened(stub)
    await call.write(pb.TradeSessionRequest(commands=[place(1, "a")]))
    result = (await results(call, 1))[1]
    assert (result.error.code, result.error.reason) == (13, "INTERNAL")
    assert b"insides" not in result.SerializeToString()
    assert "our insides" in caplog.text
    fake.on_place = None
    await call.write(pb.TradeSessionRequest(commands=[place(2, "b")]))
    assert (await results(call, 1))[2].HasField("order")
    call.cancel()


async def test_a_caller_that_reads_nothing_is_not_read(
    stub: Stub, fake: Any, gateway: RemoteGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results that have not left count as in flight, so they cannot pile up."""
    placed = 0
    place_order = fake.place_order

    async def verbose(new: NewOrder) -> Any:
        nonlocal placed
        placed += 1
        return replace(await place_order(new), text="x" * 50_000)

    monkeypatch.setattr(fake, "place_order", verbose)
    call = await opened(stub)

    async def pour() -> None:
        for n in range(0, 5000, 100):
            commands = [place(n + i, f"k{n + i}") for i in range(100)]
            await call.write(pb.TradeSessionRequest(commands=commands))

    pouring = asyncio.ensure_future(pour())
    at = -1
    while at != placed or not placed:
        at = placed
        for _ in range(30):
            await gateway.list_venues()
    # The bound, and what the windows of the connection hold.
    assert placed < 1024 + 1000
    heard = await results(call, 5000)
    assert len(heard) == placed == 5000
    await pouring
    call.cancel()


@pytest.mark.parametrize("is_alive", [True, False], ids=["alive", "frozen"])
async def test_the_lease_runs_while_the_bound_holds_commands_up(
    stub: Stub, fake: Any, monkeypatch: pytest.MonkeyPatch, is_alive: bool
) -> None:
    """A bot that is frozen with a full pipe must not keep its orders; one that is alive must."""
    monkeypatch.setattr(server_session, "IN_FLIGHT_MAX", 2)
    gate = asyncio.Event()

    async def hold(new: NewOrder) -> None:
        if new.idempotency_key != "first":
            await gate.wait()

    fake.on_place = hold
    call = await opened(stub, cancel_on_disconnect=True, lease_ms=2000)
    await call.write(pb.TradeSessionRequest(commands=[place(1, "first")]))
    await results(call, 1)
    await call.write(pb.TradeSessionRequest(commands=[place(i, f"k{i}") for i in range(2, 20)]))
    if is_alive:
        beats = 0
        begin = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < begin + 3.0:
            beats += 1
            beat = pb.SessionCommand(correlation_id=1000 + beats, heartbeat=pb.Heartbeat(time_ns=1))
            await call.write(pb.TradeSessionRequest(commands=[beat]))
            await stub.ListVenues(pb.ListVenuesRequest())
            await asyncio.sleep(0.02)
        gate.set()
        assert len(await results(call, 18 + beats)) == 18 + beats
        call.cancel()
        return
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    error = read_status(caught.value)
    assert error is not None
    assert error.reason == "LEASE_EXPIRED"
    gate.set()
    await over(fake)
    assert not any(o.is_open for o in fake.orders.values())
    # What had not begun never was.
    assert len(fake.orders) <= 3


async def test_the_bound_of_commands_that_wait_to_begin(
    stub: Stub, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it nobody is listened to, so only results that leave say that somebody is there."""
    monkeypatch.setattr(server_session, "IN_FLIGHT_MAX", 2)
    monkeypatch.setattr(server_session, "WAITING_MAX", 4)
    gate = asyncio.Event()

    async def hold(_: NewOrder) -> None:
        await gate.wait()

    fake.on_place = hold
    call = await opened(stub)
    for i in range(5):
        commands = [place(10 * i + k, f"k{10 * i + k}") for k in range(10)]
        await call.write(pb.TradeSessionRequest(commands=commands))
    await call.done_writing()
    gate.set()
    assert len(await results(call, 50)) == 50
    assert await call.read() is grpc.aio.EOF
