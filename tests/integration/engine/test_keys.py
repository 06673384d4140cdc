"""Idempotency: a key stands for one request, whatever happens in between."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from tests.integration.engine.bench import Bench
from tradegw.engine.account import AccountState
from tradegw.errors import (
    Conflict,
    DuplicateClientOrderId,
    IdempotencyKeyReused,
    InvalidOrder,
    Unavailable,
)
from tradegw.model import CommandKind, OrdStatus
from tradegw.testing import Fault


async def test_a_key_used_twice_gives_the_same_order_as_it_now_stands(bench: Bench) -> None:
    await bench.start()
    first = await bench.place(idempotency_key="k")
    bench.exchange.fill(bench.exchange.placed(first.venue_client_order_id), "0.4")
    await bench.order_when(first.order_id, lambda o: o.cum_qty)
    again = await bench.place(idempotency_key="k")
    assert again.order_id == first.order_id
    assert (again.ord_status, again.cum_qty) == (OrdStatus.PARTIALLY_FILLED, Decimal("0.4"))
    assert len(bench.exchange.sent(CommandKind.NEW)) == 1
    await bench.check_ledger()


async def test_a_key_used_fifty_times_at_once_places_one_order(bench: Bench) -> None:
    await bench.start()
    orders = await asyncio.gather(*(bench.place(idempotency_key="k") for _ in range(50)))
    assert len({order.order_id for order in orders}) == 1
    assert len(bench.exchange.orders) == 1


async def test_keys_of_their_own_place_orders_of_their_own(bench: Bench) -> None:
    await bench.start()
    orders = await asyncio.gather(*(bench.place(idempotency_key=f"k{i}") for i in range(20)))
    assert len({order.order_id for order in orders}) == 20
    assert len(bench.exchange.orders) == 20


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"price": "101"}, id="another price"),
        pytest.param({"order_qty": "2"}, id="another quantity"),
        pytest.param({"client_order_id": "c"}, id="a client order id"),
        pytest.param({"tags": {"desk": "a"}}, id="a tag"),
    ],
)
async def test_a_key_with_other_parameters_is_refused(
    bench: Bench, other: dict[str, object]
) -> None:
    await bench.start()
    order = await bench.place(idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        await bench.place(idempotency_key="k", **other)
    assert (await bench.place(idempotency_key="k")).order_id == order.order_id
    assert len(bench.exchange.orders) == 1


async def test_a_key_with_other_parameters_is_refused_while_the_first_call_runs(
    bench: Bench,
) -> None:
    await bench.start()
    bench.exchange.hold()
    bench.exchange.script(CommandKind.NEW, Fault.HANG)
    first = bench.later(bench.place(idempotency_key="k"))
    await bench.clock.until(lambda: bench.exchange.requests, step_s=0)
    with pytest.raises(IdempotencyKeyReused):
        await bench.place(idempotency_key="k", price="101")
    assert (await first).in_doubt


async def test_equal_numbers_are_the_same_request(bench: Bench) -> None:
    await bench.start()
    first = await bench.place(idempotency_key="k", price="100.50")
    again = await bench.place(idempotency_key="k", price="100.5")
    assert first.order_id == again.order_id


async def test_a_key_outlives_the_order(bench: Bench) -> None:
    await bench.start()
    order = await bench.place(idempotency_key="k")
    await bench.gateway.cancel_order(order.order_id)
    again = await bench.place(idempotency_key="k")
    assert (again.order_id, again.ord_status) == (order.order_id, OrdStatus.CANCELED)
    assert len(bench.exchange.orders) == 1


async def test_a_key_outlives_the_gateway(bench: Bench) -> None:
    await bench.start()
    order = await bench.place(idempotency_key="k")
    await bench.restart()
    again = await bench.place(idempotency_key="k")
    assert again.order_id == order.order_id
    assert len(bench.exchange.orders) == 1


async def test_a_known_key_is_answered_while_reconciling_and_a_new_one_is_not(
    bench: Bench,
) -> None:
    await bench.start()
    order = await bench.place(idempotency_key="k")
    bench.exchange.query_errors.extend([OSError("away")] * 1000)
    await bench.restart(is_ready=False)
    assert bench.state() is not AccountState.READY
    assert (await bench.place(idempotency_key="k")).order_id == order.order_id
    with pytest.raises(Unavailable):
        await bench.place(idempotency_key="new")
    bench.exchange.calm()
    await bench.ready()
    assert (await bench.place(idempotency_key="new")).ord_status is OrdStatus.NEW


async def test_a_known_key_is_answered_while_halted(bench: Bench) -> None:
    await bench.start()
    order = await bench.place(idempotency_key="k")
    await bench.gateway.halt(why="test", by="me")
    assert (await bench.place(idempotency_key="k")).order_id == order.order_id
    refused = await bench.place(idempotency_key="new")
    assert (refused.ord_status, refused.reason) == (OrdStatus.REJECTED, "HALTED")
    await bench.gateway.resume(by="me")
    again = await bench.place(idempotency_key="new")
    assert again.order_id == refused.order_id, "a refusal that is stored uses its key"


async def test_a_known_key_is_answered_when_its_account_is_gone(bench: Bench) -> None:
    await bench.start()
    order = await bench.place(idempotency_key="k")
    await bench.engine.remove_account(order.account)
    assert (await bench.place(idempotency_key="k")).order_id == order.order_id


async def test_a_key_of_a_request_that_was_not_stored_is_free(bench: Bench) -> None:
    await bench.start()
    with pytest.raises(InvalidOrder, match="off the tick"):
        await bench.place(idempotency_key="k", price="100.001")
    assert (await bench.place(idempotency_key="k")).ord_status is OrdStatus.NEW


async def test_a_client_order_id_under_another_key_is_refused(bench: Bench) -> None:
    await bench.start()
    await bench.place(client_order_id="c", idempotency_key="k1")
    with pytest.raises(DuplicateClientOrderId):
        await bench.place(client_order_id="c", idempotency_key="k2")
    assert len(bench.exchange.orders) == 1
    # The refused key is free.
    assert (await bench.place(idempotency_key="k2")).is_open


async def test_a_client_order_id_is_a_key_of_its_own(bench: Bench) -> None:
    await bench.start()
    first = await bench.place(client_order_id="c")
    assert (await bench.place(client_order_id="c")).order_id == first.order_id
    with pytest.raises(IdempotencyKeyReused):
        await bench.place(client_order_id="c", price="99")
    found = await bench.gateway.find_order(account="paper", client_order_id="c")
    assert found is not None
    assert found.order_id == first.order_id


async def test_client_order_ids_at_once_under_several_keys_place_one_order(bench: Bench) -> None:
    await bench.start()
    results = await asyncio.gather(
        *(bench.place(client_order_id="c", idempotency_key=f"k{i}") for i in range(10)),
        return_exceptions=True,
    )
    refused = [r for r in results if isinstance(r, DuplicateClientOrderId)]
    assert len(refused) == 9
    assert len(bench.exchange.orders) == 1


async def test_a_cancel_has_a_key_too(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    first = await bench.gateway.cancel_order(order.order_id, idempotency_key="x")
    again = await bench.gateway.cancel_order(order.order_id, idempotency_key="x")
    assert first.ord_status is again.ord_status is OrdStatus.CANCELED
    assert len(bench.exchange.sent(CommandKind.CANCEL)) == 1
    with pytest.raises(Conflict):
        await bench.gateway.cancel_order(order.order_id, idempotency_key="y")


async def test_a_replace_has_a_key_too(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    first = await bench.gateway.replace_order(order.order_id, price="101", idempotency_key="x")
    again = await bench.gateway.replace_order(order.order_id, price="101", idempotency_key="x")
    assert first.price == again.price == Decimal(101)
    assert len(bench.exchange.sent(CommandKind.REPLACE)) == 1
    with pytest.raises(IdempotencyKeyReused):
        await bench.gateway.replace_order(order.order_id, price="102", idempotency_key="x")
    with pytest.raises(IdempotencyKeyReused):
        await bench.gateway.cancel_order(order.order_id, idempotency_key="x")


async def test_cancel_all_goes_on_with_the_orders_that_it_began_with(bench: Bench) -> None:
    await bench.start()
    orders = [await bench.place() for _ in range(3)]
    bench.exchange.script(CommandKind.CANCEL, None, Fault.LOSE_REQUEST, None)
    done = await bench.gateway.cancel_all_orders(account="paper", idempotency_key="all")
    assert {o.order_id for o in done} == {o.order_id for o in orders}
    assert sorted(o.ord_status for o in done).count(OrdStatus.CANCELED) == 2
    later = await bench.place()
    again = await bench.gateway.cancel_all_orders(account="paper", idempotency_key="all")
    assert {o.order_id for o in again} == {o.order_id for o in orders}
    assert (await bench.stored(later)).ord_status is OrdStatus.NEW
    with pytest.raises(IdempotencyKeyReused):
        await bench.gateway.cancel_all_orders(
            symbol="BTC/USDT", idempotency_key="all", account="paper"
        )


async def test_halt_and_resume_have_keys_too(bench: Bench) -> None:
    await bench.start()
    await bench.gateway.halt(why="test", by="me", idempotency_key="h")
    await bench.gateway.resume(by="me", idempotency_key="r")
    # The same halt, asked again by a client that never heard the answer, halts nothing anew.
    await bench.gateway.halt(why="test", by="me", idempotency_key="h")
    assert not await bench.gateway.list_halts()
    await bench.gateway.resume(by="me", idempotency_key="r")
    with pytest.raises(IdempotencyKeyReused):
        await bench.gateway.halt(scope="account:paper", why="test", by="me", idempotency_key="h")
