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


@pytest.mark.parametrize("via", ["unary", "session", "batch"])
async def test_an_unknown_outcome_stays_unknown_whatever_a_later_attempt_is_told(
    door: GrpcDoor, fake: Any, wire: Any, via: str
) -> None:
    """What was sent first may be under way still, when a second attempt is refused."""
    wire.target = door.address

    async def lose(_: Order) -> None:
        async def refuse(_: NewOrder) -> None:
            raise errors.Conflict("halted")

        fake.on_place = refuse
        wire.cut()

    fake.after_place = lose
    async with connect(wire.address, timeout_s=20.0) as gateway:
        if via == "batch":
            (found,) = await gateway.place_orders([new_order({**LIMIT, "client_order_id": "c1"})])
        else:
            with pytest.raises(errors.Unavailable) as caught:
                if via == "unary":
                    await gateway.place_order(**LIMIT, client_order_id="c1")
                else:
                    async with gateway.session() as session:
                        await session.place_order(**LIMIT, client_order_id="c1")
            found = caught.value
    assert isinstance(found, errors.Unavailable)
    assert found.reason == "OUTCOME_UNKNOWN"
    assert "idempotency key 'c1'" in str(found)
    assert "halted" in str(found)


async def test_a_key_of_another_request_is_told_as_such(
    door: GrpcDoor, fake: Any, wire: Any
) -> None:
    """Had the lost attempt stored anything, the key would be its own."""
    wire.target = door.address
    is_cut = False

    async def reuse(_: NewOrder) -> None:
        nonlocal is_cut
        if not is_cut:
            is_cut = True
            wire.cut()
        raise errors.IdempotencyKeyReused("another's")

    fake.on_place = reuse
    async with connect(wire.address, timeout_s=20.0) as gateway:
        with pytest.raises(errors.IdempotencyKeyReused):
            await gateway.place_order(**LIMIT, client_order_id="c1")


async def test_a_batch_without_an_answer_names_the_key_of_each(
    door: GrpcDoor, fake: Any, wire: Any
) -> None:
    wire.target = door.address
    batch = [new_order({**LIMIT, "client_order_id": f"c{i}"}) for i in range(3)]
    async with connect(wire.address, timeout_s=1.0) as gateway:
        await gateway.list_venues()
        wire.swallow = True
        with pytest.raises(errors.Unavailable, match="keys 'c0', 'c1', 'c2'") as caught:
            await gateway.place_orders(batch)
        wire.cut()
    assert caught.value.reason == "OUTCOME_UNKNOWN"


async def test_of_a_batch_only_what_may_be_stored_is_called_unknown(
    door: GrpcDoor, fake: Any, wire: Any
) -> None:
    """The first is stored; the second may be, and is not taken later; the third never was."""
    wire.target = door.address
    told: dict[str, list[errors.TradegwError]] = {
        "c1": [errors.Unavailable("lost", reason="OUTCOME_UNKNOWN")],
        "c2": [],
    }

    async def answer(new: NewOrder) -> None:
        if (left := told.get(str(new.client_order_id))) is not None:
            raise left.pop() if left else errors.Unavailable("wait", reason="RECONCILING")

    fake.on_place = answer
    batch = [new_order({**LIMIT, "client_order_id": f"c{i}"}) for i in range(3)]
    async with connect(wire.address, timeout_s=1.0) as gateway:
        stored, unknown, refused = await gateway.place_orders(batch)
    assert isinstance(stored, Order)
    assert isinstance(unknown, errors.Unavailable)
    assert isinstance(refused, errors.Unavailable)
    assert unknown.reason == "OUTCOME_UNKNOWN"
    assert "idempotency key 'c1'" in str(unknown)
    assert refused.reason == "RECONCILING"


async def test_what_a_batch_was_told_is_not_forgotten_when_the_gateway_goes_away(
    door: GrpcDoor, fake: Any, wire: Any
) -> None:
    wire.target = door.address

    async def answer(new: NewOrder) -> None:
        if new.client_order_id == "c1":
            if fake.orders and sum(kind == "place" for kind, _ in fake.calls) > 2:
                wire.swallow = True
                wire.cut()
            raise errors.Unavailable("wait", reason="RECONCILING")

    fake.on_place = answer
    batch = [new_order({**LIMIT, "client_order_id": f"c{i}"}) for i in range(2)]
    async with connect(wire.address, timeout_s=1.5) as gateway:
        stored, unknown = await gateway.place_orders(batch)
        wire.cut()
    assert isinstance(stored, Order)
    assert isinstance(unknown, errors.Unavailable)
    assert unknown.reason == "OUTCOME_UNKNOWN"
    assert "'c1'" in str(unknown)
    assert "'c0'" not in str(unknown)


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
