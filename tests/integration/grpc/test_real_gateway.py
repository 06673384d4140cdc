"""The door in front of the real thing: engine, SQLite and the mock exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio
import pytest

from tradegw import errors
from tradegw.admin.v1 import admin_pb2
from tradegw.gateway import Gateway
from tradegw.gateway.local import LocalGateway
from tradegw.gateway.metrics import Metrics
from tradegw.gateway.open import open_gateway
from tradegw.model import OrdStatus
from tradegw.trading.v1 import order_pb2
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc.client import RemoteGateway, connect
from tradegw.transports.grpc.server import serve

LIMIT: dict[str, Any] = {
    "account": "paper",
    "symbol": "BTC/USDT",
    "side": "buy",
    "ord_type": "limit",
    "order_qty": "0.01",
    "price": "20000",
}
MARKET: dict[str, Any] = {
    "account": "paper",
    "symbol": "BTC/USDT",
    "side": "buy",
    "ord_type": "market",
    "order_qty": "0.01",
}


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[LocalGateway, RemoteGateway]]:
    config = {"store": {"url": f"sqlite:///{folder}/record.db"}}
    async with (
        open_gateway(config) as local,
        serve(local, port=0, operations=local, metrics=Metrics(), grace_s=1.0) as door,
        connect(door.address, timeout_s=20.0) as remote,
    ):
        yield local, remote


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[LocalGateway, RemoteGateway]]:
    async with served(tmp_path) as gateways:
        yield gateways


async def check_record(local: LocalGateway) -> None:
    assert [problem async for problem in local.engine.store.verify()] == []


async def test_embedded_and_remote_see_the_same(
    both: tuple[LocalGateway, RemoteGateway],
) -> None:
    local, remote = both
    placed = await remote.place_order(**LIMIT, client_order_id="c1", tags={"desk": "a"})
    assert placed.ord_status is OrdStatus.NEW
    filled = await local.place_order(**MARKET)
    assert filled.ord_status is OrdStatus.FILLED
    await remote.replace_order(placed.order_id, price="20001")
    await remote.cancel_order(placed.order_id)

    async def view(gateway: Gateway) -> list[Any]:
        return [
            await gateway.get_order(placed.order_id),
            await gateway.find_order(account="paper", client_order_id="c1"),
            await gateway.list_orders(page_size=1),
            await gateway.list_order_events(placed.order_id),
            await gateway.list_fills(),
            await gateway.list_balances("paper"),
            list(await gateway.list_positions("paper")),
            await gateway.list_venues(),
            await gateway.list_instruments("mock"),
            list(await gateway.list_halts()),
        ]

    assert await view(remote) == await view(local)
    await check_record(local)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"symbol": "NO/PE"}, "UNKNOWN_SYMBOL", id="symbol"),
        pytest.param({"account": "nobody"}, "UNKNOWN_ACCOUNT", id="account"),
        pytest.param({"venue": "nowhere", "account": None}, "NO_ROUTE", id="venue"),
        pytest.param({"price": "20000.00001"}, "PRICE_OFF_TICK", id="off the tick"),
        pytest.param({"order_qty": "-1"}, "INVALID_FIELD", id="negative"),
        pytest.param({"order_qty": "0"}, "INVALID_FIELD", id="zero"),
        pytest.param({"order_qty": "NaN"}, "INVALID_FIELD", id="NaN"),
        pytest.param({"order_qty": "1e3"}, "INVALID_FIELD", id="exponent"),
        pytest.param({"order_qty": "9" * 39}, "INVALID_FIELD", id="huge"),
        pytest.param({"quote_qty": "1"}, "INVALID_QUANTITY", id="both quantities"),
        pytest.param({"order_qty": None}, "INVALID_QUANTITY", id="no quantity"),
    ],
)
async def test_bad_input_is_refused_in_the_same_words(
    both: tuple[LocalGateway, RemoteGateway],
    change: dict[str, Any],
    reason: str,
) -> None:
    local, remote = both
    said: list[tuple[type[Exception], str, str]] = []
    gateways: list[Gateway] = [local, remote]
    for gateway in gateways:
        with pytest.raises(errors.TradegwError) as caught:
            await gateway.place_order(**{**LIMIT, **change})
        said.append((type(caught.value), caught.value.reason, str(caught.value)))
    assert said[0] == said[1]
    assert said[0][1] == reason
    assert issubclass(said[0][0], errors.InvalidOrder)
    assert (await local.list_orders()).items == ()


async def test_keys_over_the_door(both: tuple[LocalGateway, RemoteGateway]) -> None:
    local, remote = both
    order = await remote.place_order(**LIMIT, idempotency_key="k1")
    assert await remote.place_order(**LIMIT, idempotency_key="k1") == order
    assert await local.place_order(**LIMIT, idempotency_key="k1") == order
    with pytest.raises(errors.IdempotencyKeyReused):
        await remote.place_order(**{**LIMIT, "price": "20001"}, idempotency_key="k1")
    first = await remote.place_order(**LIMIT, client_order_id="c1")
    assert await remote.place_order(**LIMIT, client_order_id="c1") == first
    with pytest.raises(errors.DuplicateClientOrderId):
        await remote.place_order(**LIMIT, client_order_id="c1", idempotency_key="other")
    await remote.cancel_order(order.order_id)
    with pytest.raises(errors.Conflict) as caught:
        await remote.cancel_order(order.order_id)
    assert caught.value.reason == "ORDER_CLOSED"


async def test_the_stream_is_the_ledger_through_a_restart(tmp_path: Path, wire: Any) -> None:
    """A reader that was there all along, over two lives of the gateway, has exactly the record's fills."""
    bought: list[Any] = []
    async with connect(wire.address, timeout_s=30.0) as reader:
        fills: list[Any] = []

        async def follow(count: int) -> None:
            async for batch in stream:
                fills.extend(item.fill for item in batch.fills)
                if len(fills) >= count and batch.caught_up:
                    return

        stream = reader.stream_fills()
        for life in (1, 2):
            async with AsyncExitStack() as stack:
                local, remote = await stack.enter_async_context(served(tmp_path))
                wire.target = remote.target
                bought += [await remote.place_order(**MARKET) for _ in range(5)]
                stored = (await local.list_fills(page_size=1000)).items
                async with asyncio.timeout(60):
                    await follow(len(stored))
                assert fills == list(reversed(stored)), life
                await check_record(local)
    assert sum(f.last_qty for f in fills) == sum(o.cum_qty for o in bought) == Decimal("0.1")


async def test_many_at_once_over_one_session(both: tuple[LocalGateway, RemoteGateway]) -> None:
    local, remote = both
    async with remote.session(cancel_on_disconnect=True) as session:
        orders = await asyncio.gather(
            *[
                session.place_order(**{**LIMIT, "order_qty": "0.001"}, client_order_id=f"c{i}")
                for i in range(200)
            ]
        )
        assert {o.ord_status for o in orders} == {OrdStatus.NEW}
        assert len({o.order_id for o in orders}) == 200
    for order in orders:
        assert (await local.get_order(order.order_id)).ord_status is OrdStatus.CANCELED
    await check_record(local)


def a_mutation(random: Random, raw: bytes) -> bytes:
    """Return the message with some bytes changed, left out or put in."""
    mutable = bytearray(raw)
    for _ in range(random.randint(0, 4)):
        at = random.randrange(len(mutable) + 1)
        match random.randrange(3):
            case 0 if at < len(mutable):
                mutable[at] = random.randrange(256)
            case 1 if at < len(mutable):
                del mutable[at : at + random.randint(1, 4)]
            case _:
                mutable[at:at] = random.randbytes(random.randint(1, 4))
    return bytes(mutable)


async def test_no_input_leaves_anything_half_written(
    both: tuple[LocalGateway, RemoteGateway],
) -> None:
    """Mutated requests to every unary method: each has an answer, and the record stays whole."""
    local, remote = both
    seed = Random().randrange(2**32)
    print("seed", seed)  # noqa: T201  Shown when it fails.
    random = Random(seed)
    order = await remote.place_order(**LIMIT, client_order_id="c1")
    order_id = str(order.order_id)
    new = order_pb2.NewOrder(
        account="paper",
        symbol="BTC/USDT",
        side="SIDE_BUY",
        order_qty="0.01",
        limit=order_pb2.LimitTerms(price="20000"),
        client_order_id="c2",
    )
    seeds: dict[str, list[Any]] = {
        "PlaceOrder": [pb.PlaceOrderRequest(order=new)],
        "PlaceOrders": [pb.PlaceOrdersRequest(orders=[new, new])],
        "CancelOrder": [pb.CancelOrderRequest(order_id=order_id, idempotency_key="x")],
        "ReplaceOrder": [pb.ReplaceOrderRequest(order_id=order_id, price="20001")],
        "FindOrder": [pb.FindOrderRequest(account="paper", client_order_id="c1")],
        "GetOrderStatus": [pb.GetOrderStatusRequest(order_id=order_id)],
        "ListOrders": [pb.ListOrdersRequest(page_size=5, page_token="x")],
        "ClosePosition": [pb.ClosePositionRequest(account="paper", symbol="BTC/USDT")],
        "Halt": [admin_pb2.HaltRequest(scope="symbol:X", why="w", by="b")],
        "Resume": [admin_pb2.ResumeRequest(scope="symbol:X", by="b")],
        "Resolve": [
            admin_pb2.ResolveRequest(
                order_id=order_id, outcome="ORD_STATUS_CANCELED", by="b", why="w"
            )
        ],
    }
    services = (
        pb.DESCRIPTOR.services_by_name["TradingGateway"],
        admin_pb2.DESCRIPTOR.services_by_name["Admin"],
    )
    asked = 0
    async with grpc.aio.insecure_channel(remote.target) as channel:
        for service in services:
            for method in service.methods:
                if method.server_streaming:
                    continue
                call = channel.unary_unary(f"/{service.full_name}/{method.name}")
                for _ in range(30):
                    [message] = seeds.get(method.name, [None])
                    raw = b"" if message is None else message.SerializeToString()
                    asked += 1
                    try:
                        await call(a_mutation(random, raw), timeout=60)
                    except grpc.aio.AioRpcError as e:
                        # No error is right as well.
                        assert e.code() not in (  # noqa: PT017
                            grpc.StatusCode.INTERNAL,
                            grpc.StatusCode.UNKNOWN,
                            grpc.StatusCode.DEADLINE_EXCEEDED,
                        ), (method.name, e)
    assert asked > 400
    assert (await remote.get_order(order.order_id)).order_id == order.order_id
    await check_record(local)
