"""No input may bring the door down or leave something half done."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tradegw.admin.v1 import admin_pb2
from tradegw.gateway.metrics import Metrics
from tradegw.trading.v1 import order_pb2
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc.errors import read_status
from tradegw.transports.grpc.server import serve

SERVICES = [
    pb.DESCRIPTOR.services_by_name["TradingGateway"],
    admin_pb2.DESCRIPTOR.services_by_name["Admin"],
]
METHODS = [
    f"/{service.full_name}/{method.name}"
    for service in SERVICES
    for method in service.methods
    if not (method.client_streaming or method.server_streaming)
]
# What a defect of ours would answer with, and gRPC for an exception that got past us.
DEFECTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", "0.01", "-1", "NaN", "1e5", "9" * 60, "BTC/USDT", "paper", "\x00", "*"]
)
prices = st.builds(order_pb2.LimitTerms, price=words)
new_orders = st.builds(
    order_pb2.NewOrder,
    account=st.none() | words,
    symbol=words,
    side=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3),
    time_in_force=st.integers(-2, 9),
    order_qty=st.none() | words,
    limit=st.none() | prices,
    client_order_id=st.none() | words,
    idempotency_key=st.none() | words,
    expire_time_ns=st.none() | st.integers(-(2**63), 2**63 - 1),
    post_only=st.booleans(),
    tags=st.dictionaries(words, words, max_size=2),
)
almost = st.one_of(
    st.builds(pb.PlaceOrderRequest, order=new_orders),
    st.builds(pb.PlaceOrdersRequest, orders=st.lists(new_orders, max_size=3)),
    st.builds(pb.CancelOrderRequest, order_id=st.none() | words, account=st.none() | words),
    st.builds(pb.ReplaceOrderRequest, order_id=words, price=st.none() | words),
    st.builds(
        pb.ListOrdersRequest,
        filter=st.builds(pb.OrderFilter, statuses=st.lists(st.integers(-1, 12), max_size=3)),
        page_size=st.integers(-(2**31), 2**31 - 1),
        page_token=words,
    ),
).map(lambda message: message.SerializeToString())
payloads = st.binary(max_size=200) | almost


async def ask(channel: grpc.aio.Channel, method: str, raw: bytes) -> grpc.aio.AioRpcError | None:
    try:
        await channel.unary_unary(method)(raw, timeout=60)
    except grpc.aio.AioRpcError as e:
        return e
    return None


@pytest.mark.parametrize("method", METHODS)
def test_any_bytes_have_an_answer(method: str, fake_type: Any) -> None:
    """One server for all examples of a method: it must outlive them."""
    with asyncio.Runner() as runner:
        fake = fake_type()
        context = serve(fake, port=0, operations=fake, metrics=Metrics(), grace_s=0.5)
        door = runner.run(context.__aenter__())

        async def connected() -> grpc.aio.Channel:
            return grpc.aio.insecure_channel(door.address)

        channel = runner.run(connected())
        try:

            @given(raw=payloads)
            @settings(
                max_examples=60,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
            )
            def check(raw: bytes) -> None:
                orders = len(fake.orders)
                error = runner.run(ask(channel, method, raw))
                if error is None:
                    return
                assert error.code() not in DEFECTS, error
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    assert read_status(error) is not None, error
                # An error means that nothing was done.
                assert len(fake.orders) == orders

            check()
            assert runner.run(ask(channel, METHODS[-1], b"")) is None
        finally:
            runner.run(channel.close())
            runner.run(context.__aexit__(None, None, None))


@given(raw=st.lists(payloads, max_size=4))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_any_bytes_in_a_session_have_an_end(raw: list[bytes], fake_type: Any) -> None:
    async def talk() -> None:
        fake = fake_type()
        async with (
            serve(fake, port=0, operations=fake, metrics=Metrics(), grace_s=0.5) as door,
            grpc.aio.insecure_channel(door.address) as channel,
        ):
            call: Any = channel.stream_stream("/tradegw.trading.v1.TradingGateway/TradeSession")(
                timeout=60
            )
            try:
                opening = pb.TradeSessionRequest(open=pb.OpenSession()).SerializeToString()
                for message in (opening, *raw):
                    await call.write(message)
                await call.done_writing()
                while await call.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError as e:
                # grpcio 1.71's own client says "Internal error from Core" when we write to a call that
                # the server has ended; what the server said is the code that comes with reading.
                is_ours = e.details() == "Internal error from Core"
                assert is_ours or e.code() not in DEFECTS, e  # noqa: PT017  No error is right as well.
            except asyncio.InvalidStateError:
                # It ended while we wrote.
                assert (await call.code()) not in DEFECTS
            assert await ask(channel, METHODS[-1], b"") is None

    asyncio.run(talk())
