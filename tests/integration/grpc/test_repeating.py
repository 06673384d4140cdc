"""Without an answer our client asks again, with the same key, and says what it cannot know."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tradegw import errors
from tradegw.gateway import new_order
from tradegw.model import NewOrder, Order, OrdStatus
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


class Failing:
    """Fails some times, then lets everything through; keeps the keys that it saw."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times = error, times
        self.keys: list[str | None] = []

    async def __call__(self, new: NewOrder) -> None:
        self.keys.append(new.idempotency_key or new.client_order_id)
        if self.times:
            self.times -= 1
            raise self.error


@pytest.mark.parametrize("via", ["unary", "session"])
@pytest.mark.parametrize(
    "error",
    [
        errors.Unavailable("wait", reason="RECONCILING"),
        errors.Unavailable("wait", reason="BUDGET_EXHAUSTED"),
        errors.StoreUnavailable("away"),
        errors.CommitUnknown("who knows"),
    ],
    ids=lambda e: e.reason,
)
async def test_what_may_pass_is_asked_again_with_the_same_key(
    gateway: RemoteGateway, fake: Any, error: Exception, via: str
) -> None:
    fake.on_place = failing = Failing(error, 3)
    if via == "unary":
        order = await gateway.place_order(**LIMIT)
    else:
        async with gateway.session() as session:
            order = await session.place_order(**LIMIT)
    assert order.ord_status is OrdStatus.NEW
    assert len(failing.keys) == 4
    assert len(set(failing.keys)) == 1
    assert failing.keys[0]


async def test_a_client_order_id_is_a_key(gateway: RemoteGateway, fake: Any) -> None:
    fake.on_place = failing = Failing(errors.Unavailable("wait"), 1)
    await gateway.place_order(**LIMIT, client_order_id="c1")
    assert failing.keys == ["c1", "c1"]
    assert fake.calls[-1][1].idempotency_key is None


async def test_what_cannot_pass_is_asked_once(gateway: RemoteGateway, fake: Any) -> None:
    fake.on_place = failing = Failing(errors.Conflict("no"), 1)
    with pytest.raises(errors.Conflict):
        await gateway.place_order(**LIMIT)
    assert len(failing.keys) == 1


async def test_members_of_a_batch_are_asked_again_alone(gateway: RemoteGateway, fake: Any) -> None:
    fake.on_place = failing = Failing(errors.Unavailable("wait"), 2)
    new = new_order({"symbol": "X", "side": "buy", "ord_type": "market", "order_qty": 1})
    a, b, c = await gateway.place_orders([new, new, new])
    assert all(isinstance(order, Order) for order in (a, b, c))
    assert len(fake.orders) == 3
    # Three in the first attempt; only the two that were not taken in the second.
    assert len(failing.keys) == 5
    assert len(set(failing.keys)) == 3


@pytest.mark.parametrize("via", ["unary", "session"])
async def test_a_lost_answer_is_asked_for_again_and_nothing_is_doubled(
    door: GrpcDoor, fake: Any, wire: Any, via: str
) -> None:
    wire.target = door.address
    lost: list[Order] = []

    async def lose(order: Order) -> None:
        if not lost:
            lost.append(order)
            wire.cut()

    fake.after_place = lose
    async with connect(wire.address, timeout_s=20.0) as gateway:
        if via == "unary":
            order = await gateway.place_order(**LIMIT)
        else:
            async with gateway.session() as session:
                order = await session.place_order(**LIMIT)
    assert lost == [order]
    assert len(fake.orders) == 1
    assert sum(1 for kind, _ in fake.calls if kind == "place") == 2


@pytest.mark.parametrize("via", ["unary", "session"])
async def test_an_answer_that_never_comes_is_an_unknown_outcome(
    door: GrpcDoor, fake: Any, wire: Any, via: str
) -> None:
    wire.target = door.address
    async with connect(wire.address, timeout_s=1.0) as gateway:
        await gateway.list_venues()
        with pytest.raises(errors.Unavailable) as caught:
            if via == "unary":
                wire.swallow = True
                await gateway.place_order(**LIMIT)
            else:
                async with gateway.session() as session:
                    wire.swallow = True
                    await session.place_order(**LIMIT)
        wire.cut()
    assert caught.value.reason == "OUTCOME_UNKNOWN"
    found = re.search(r"idempotency key '(\w+)'", str(caught.value))
    assert found
    wire.swallow = False
    async with connect(wire.address, timeout_s=10.0) as gateway:
        order = await gateway.place_order(**LIMIT, idempotency_key=found[1])
    assert fake.orders == {order.order_id: order}


async def test_a_gateway_that_is_not_there_got_nothing(wire: Any) -> None:
    wire.target = None
    async with connect(wire.address, timeout_s=0.3) as gateway:
        with pytest.raises(errors.Unavailable) as caught:
            await gateway.list_venues()
    assert "idempotency" not in str(caught.value)


async def test_a_gateway_that_comes_later_is_found(fake: Any, metrics: Any, wire: Any) -> None:
    async with connect(wire.address, timeout_s=20.0) as gateway:
        placing = asyncio.ensure_future(gateway.place_order(**LIMIT))
        async with serve(fake, port=0, operations=fake, metrics=metrics) as door:
            wire.target = door.address
            assert (await placing).ord_status is OrdStatus.NEW


async def test_a_caller_who_goes_away_cancels_only_the_waiting(
    gateway: RemoteGateway, fake: Any
) -> None:
    begun, finish, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(_: NewOrder) -> None:
        async def in_a_task_of_the_gateway() -> None:
            begun.set()
            await finish.wait()
            done.set()

        await asyncio.shield(asyncio.ensure_future(in_a_task_of_the_gateway()))

    fake.on_place = slow
    placing = asyncio.ensure_future(gateway.place_order(**LIMIT))
    await begun.wait()
    placing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await placing
    finish.set()
    await asyncio.wait_for(done.wait(), 60)
