"""Several gateways on one store: any of them takes any request, tells anything, and obeys every halt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import grpc.aio
import pytest

from tests.integration.sharing import Desk, Replica, limit
from tradegw.engine.context import REQUEST, Request
from tradegw.engine.validate import new_order
from tradegw.errors import (
    IdempotencyKeyReused,
    InvalidOrder,
    NotFound,
    Unavailable,
)
from tradegw.gateway import asker, local, peers
from tradegw.gateway.api import Gateway
from tradegw.gateway.peers import Peers
from tradegw.model import AccountName, CommandKind, Order, OrderId, OrdStatus, Side
from tradegw.testing import Fault
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc.client import connect
from tradegw.transports.grpc.convert import write_new_order
from tradegw.transports.grpc.errors import FORWARDED
from tradegw.transports.grpc.peer import Peer

PATIENCE_S = 30.0


@pytest.fixture
async def desk(postgres_store: Callable[[str], str]) -> AsyncIterator[Desk]:
    made = Desk(postgres_store("postgres18"), ["a", "b", "c"])
    yield made
    await made.close()


@pytest.fixture
async def two(desk: Desk) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two replicas: the first holds a and b, the second c."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(desk.replica("one"))
        other = await stack.enter_async_context(desk.replica("two"))
        for account, replica in (("a", "one"), ("b", "one"), ("c", "two")):
            await desk.give(account, replica)
        yield one, other


async def test_whoever_is_asked_the_holder_acts(desk: Desk, two: tuple[Replica, Replica]) -> None:
    _, other = two
    gateway = other.gateway
    order = await gateway.place_order(**limit("a", idempotency_key="k"))
    assert order.ord_status is OrdStatus.NEW
    assert (await gateway.place_order(**limit("a", idempotency_key="k"))).order_id == order.order_id
    replaced = await gateway.replace_order(order.order_id, price="101")
    assert replaced.price == 101
    canceled = await gateway.cancel_order(
        account="a", client_order_id=None, order_id=order.order_id
    )
    assert canceled.ord_status is OrdStatus.CANCELED
    # By tags: routing sees every account, whoever is asked.
    routed = await gateway.place_order(**limit(None, tags={"desk": "b"}, client_order_id="mine"))
    assert routed.account == "b"
    assert await gateway.cancel_order(account="b", client_order_id="mine")
    assert len(desk.exchanges["a"].orders) == 1
    assert len(desk.exchanges["b"].orders) == 1
    with pytest.raises(IdempotencyKeyReused):
        await gateway.place_order(**limit("a", idempotency_key="k", price="99"))
    with pytest.raises(InvalidOrder, match="there is no account 'z'"):
        await gateway.place_order(**limit("z"))
    with pytest.raises(InvalidOrder, match="give account"):
        await gateway.place_order(**limit(None))
    with pytest.raises(NotFound):
        await gateway.cancel_order(account="z", client_order_id="mine")


async def test_the_record_holds_whose_request_it_was(two: tuple[Replica, Replica]) -> None:
    _, other = two
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with grpc.aio.insecure_channel(other.address) as channel:
        place: Any = channel.unary_unary(
            "/tradegw.trading.v1.TradingGateway/PlaceOrder",
            request_serializer=pb.PlaceOrderRequest.SerializeToString,
            response_deserializer=pb.PlaceOrderResponse.FromString,
        )
        request = pb.PlaceOrderRequest(order=write_new_order(new_order(limit("a"))))
        metadata = (
            ("x-request-id", "the-caller's-own"),
            ("traceparent", f"00-{trace}-00f067aa0ba902b7-01"),
        )
        answer = await place(request, metadata=metadata)
        (event, *_) = await other.gateway.list_order_events(OrderId(UUID(answer.order.order_id)))
        assert (event.request_id, event.trace_id) == ("the-caller's-own", trace)
        # One hop, and no more.
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await place(request, metadata=((FORWARDED, "1"),))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "NOT_HOLDER" in str(refused.value.trailing_metadata())


async def test_a_batch_and_a_cancel_of_everything_are_split(
    desk: Desk, two: tuple[Replica, Replica]
) -> None:
    one, other = two
    batch = [new_order(limit(name, client_order_id=f"{name}{i}")) for i in (1, 2) for name in "abc"]
    batch.insert(3, new_order(limit("z")))
    placed = await other.gateway.place_orders(batch)
    assert [
        answer.client_order_id if isinstance(answer, Order) else type(answer) for answer in placed
    ] == ["a1", "b1", "c1", InvalidOrder, "a2", "b2", "c2"]
    buys = await one.gateway.cancel_all_orders(side=Side.SELL, idempotency_key="sell")
    assert buys == []
    gone = await one.gateway.cancel_all_orders(symbol="BTC/USDT", idempotency_key="all")
    assert len(gone) == 6
    assert {order.ord_status for order in gone} == {OrdStatus.CANCELED}
    later = await other.gateway.place_order(**limit("c"))
    # The same key goes on with the same orders, whoever is asked.
    again = await other.gateway.cancel_all_orders(symbol="BTC/USDT", idempotency_key="all")
    assert {order.order_id for order in again} == {order.order_id for order in gone}
    assert (await other.gateway.get_order(later.order_id)).is_open
    with pytest.raises(IdempotencyKeyReused):
        await other.gateway.cancel_all_orders(idempotency_key="all")
    (last,) = await one.gateway.cancel_all_orders(account="c", idempotency_key="all-of-c")
    assert last.order_id == later.order_id


async def test_an_account_that_nobody_holds_is_told_from_one_that_is_not_there(
    desk: Desk, two: tuple[Replica, Replica]
) -> None:
    one, other = two
    known = await other.gateway.place_order(**limit("a", idempotency_key="k"))
    desk.table.held.pop("a")  # type: ignore[call-overload]
    await one.engine.remove_account(known.account)
    for replica in two:
        with pytest.raises(Unavailable) as refused:
            await replica.gateway.place_order(**limit("a", idempotency_key="new"))
        assert refused.value.reason == "NOT_HOLDER"
        # Known keys are answered all the same, and the record is read.
        again = await replica.gateway.place_order(**limit("a", idempotency_key="k"))
        assert again.order_id == known.order_id
        assert await replica.gateway.find_order(account="a", venue_order_id=known.venue_order_id)
        (status,) = [
            account
            for venue in await replica.gateway.list_venues()
            for account in venue.accounts
            if account.account == "a"
        ]
        assert (status.state, status.holder) == ("ELSEWHERE", "")
        assert status.head_seq > 0


async def test_a_holder_without_a_door_is_told_from_one_that_is_gone(
    desk: Desk, two: tuple[Replica, Replica]
) -> None:
    """A gateway inside a program serves its accounts, and nobody can hand a request on to it."""
    one, other = two
    known = await one.gateway.place_order(**limit("c", idempotency_key="k"))
    desk.table.addresses["two"] = ""
    with pytest.raises(
        Unavailable, match="account c is held by a gateway without a gRPC door"
    ) as no:
        await one.gateway.place_order(**limit("c"))
    assert no.value.reason == "HOLDER_WITHOUT_DOOR"
    assert (await one.gateway.place_order(**limit("c", idempotency_key="k"))) == known
    with pytest.raises(Unavailable) as no:
        await one.gateway.cancel_order(known.order_id)
    assert no.value.reason == "HOLDER_WITHOUT_DOOR"
    placed, refused = await one.gateway.place_orders(
        [new_order(limit("a")), new_order(limit("c", client_order_id="new"))]
    )
    assert isinstance(placed, Order)
    assert isinstance(refused, Unavailable)
    assert refused.reason == "HOLDER_WITHOUT_DOOR"
    # Of everything: what can be cancelled is, and the rest is named.
    with pytest.raises(Unavailable, match="account c"):
        await one.gateway.cancel_all_orders()
    assert not (await one.gateway.get_order(placed.order_id)).is_open
    # What the record tells, and what is missing.
    (venue,) = await one.gateway.list_venues()
    states = {str(status.account): status for status in venue.accounts}
    assert states["a"].state == "READY"
    assert (states["c"].state, states["c"].holder) == ("ELSEWHERE", "")
    assert "without a gRPC door" in states["c"].why
    assert await one.gateway.list_positions("c") == []
    assert (await other.gateway.place_order(**limit("c"))).ord_status is OrdStatus.NEW


async def test_a_holder_that_dies_with_the_answer_leaves_a_key_that_finds_it(
    desk: Desk, two: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forwarded request is carried out, and its answer never comes: the account moves on."""
    monkeypatch.setattr(asker, "_LOOK_AGAIN_S", 0.05)
    _, other = two
    desk.exchanges["a"].script(CommandKind.NEW, Fault.HANG)
    placing = asyncio.create_task(other.gateway.place_order(**limit("a", idempotency_key="k")))
    async with asyncio.timeout(PATIENCE_S):
        while not desk.exchanges["a"].orders:  # noqa: ASYNC110  Nobody tells.
            await asyncio.sleep(0.01)
    # It is another's by now, as far as anybody can tell.
    desk.table.held[AccountName("a")] = "two"
    with pytest.raises(Unavailable) as lost:
        await placing
    assert lost.value.reason == "OUTCOME_UNKNOWN"
    desk.table.held[AccountName("a")] = "one"
    await desk.give("a", "two")
    order = await other.gateway.place_order(**limit("a", idempotency_key="k"))
    assert order.idempotency_key == "k"
    assert len(desk.exchanges["a"].orders) == 1


# --- streams -----------------------------------------------------------------------------------------


async def follow(gateway: Gateway, into: list[tuple[int, int]], until: int) -> None:
    """Read the stream of account a until so many events have come."""
    async for batch in gateway.stream_orders(accounts=["a"]):
        into += ((item.prev_seq, item.seq) for item in batch.orders)
        if len(into) >= until:
            return


@pytest.mark.parametrize("is_deaf", [False, True], ids=["told", "no notice comes"])
async def test_any_replica_serves_any_stream_without_gaps_while_the_account_moves(
    desk: Desk, *, is_deaf: bool
) -> None:
    async with desk.replica("one") as one, desk.replica("two", is_deaf=is_deaf) as other:
        await desk.give("a", "one")
        heard: dict[str, list[tuple[int, int]]] = {"one": [], "two": []}
        orders = 4
        events = 2 * orders  # Its intent, its acknowledgement.
        readers = [
            asyncio.create_task(follow(replica.gateway, heard[replica.name], events))
            for replica in (one, other)
        ]
        for i in range(orders):
            if i == orders // 2:
                await desk.give("a", "two")
            await one.gateway.place_order(**limit("a"))
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*readers)
        expected = [(seq - 1, seq) for seq in range(1, events + 1)]
        assert heard["one"][:events] == expected
        assert heard["two"][:events] == expected


# --- halts -------------------------------------------------------------------------------------------


async def test_a_halt_holds_everywhere_once_it_is_answered(
    desk: Desk, two: tuple[Replica, Replica]
) -> None:
    one, other = two
    placed = [await one.gateway.place_order(**limit(name)) for name in "abc"]
    await one.gateway.halt(why="w", by="b", cancel_open=True, idempotency_key="stop")
    for order in placed:
        assert not (await one.gateway.get_order(order.order_id)).is_open
    for name in "abc":
        refused = await one.gateway.place_order(**limit(name))
        assert (refused.ord_status, refused.reason) == (OrdStatus.REJECTED, "HALTED")
    assert [halt.scope for halt in await other.gateway.list_halts()] == ["*"]
    # Asked of the other one, with the same key.
    await other.gateway.halt(why="w", by="b", cancel_open=True, idempotency_key="stop")
    await other.gateway.resume(by="b")
    for name in "abc":
        assert (await one.gateway.place_order(**limit(name))).ord_status is OrdStatus.NEW
    with pytest.raises(NotFound):
        await one.gateway.resume(by="b")


async def test_a_halt_that_is_told_to_nobody_is_heard_of(
    desk: Desk, two: tuple[Replica, Replica]
) -> None:
    """Stored by a gateway whose words to the others are lost: they look by themselves."""
    one, other = two
    REQUEST.set(Request(is_forwarded=True))  # As if it were not its turn to ask the others.
    await one.gateway.halt(scope="account:c", why="w", by="b")
    async with asyncio.timeout(PATIENCE_S):
        while not other.engine.halts.all:  # noqa: ASYNC110  Nobody tells.
            await asyncio.sleep(0.01)
    refused = await other.gateway.place_order(**limit("c"))
    assert refused.reason == "HALTED"


async def test_a_halt_says_who_did_not_confirm_it(desk: Desk, two: tuple[Replica, Replica]) -> None:
    one, _ = two
    desk.table.addresses["two"] = "127.0.0.1:1"
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1") as silent:
        await one.gateway.halt(why="w", by="b", idempotency_key="stop")
    assert silent.value.reason == "HALT_UNCONFIRMED"
    assert (await one.gateway.place_order(**limit("a"))).reason == "HALTED"


async def test_a_halt_is_not_confirmed_for_a_holder_without_a_door(
    desk: Desk, two: tuple[Replica, Replica]
) -> None:
    one, other = two
    placed = [await one.gateway.place_order(**limit(name)) for name in "abc"]
    desk.table.addresses["two"] = ""
    with pytest.raises(Unavailable) as silent:
        await one.gateway.halt(why="w", by="b", cancel_open=True, idempotency_key="stop")
    assert silent.value.reason == "HALT_UNCONFIRMED"
    told = str(silent.value)
    assert "the halt is in force here and stored" in told
    assert "the holder of account c, which has no gRPC door" in told
    assert "1 open orders of account c" in told
    assert "account a" not in told
    is_open = [(await one.gateway.get_order(order.order_id)).is_open for order in placed]
    assert is_open == [False, False, True]
    # Where it concerns nothing of theirs, they need not be asked.
    await one.gateway.halt(scope="account:a", why="w", by="b", cancel_open=True)
    # It hears of the halt from the store.
    async with asyncio.timeout(PATIENCE_S):
        while not other.engine.halts.all:  # noqa: ASYNC110  Nobody tells.
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("scope", ["*", "account:c", "venue:scripted", "symbol:BTC/USDT"])
async def test_open_orders_that_nobody_cancels_keep_a_halt_unconfirmed(
    desk: Desk, two: tuple[Replica, Replica], scope: str
) -> None:
    """Its holder has gone, and the next one has not come: nobody is left to say that he will not cancel."""
    one, other = two
    left = await one.gateway.place_order(**limit("c"))
    desk.table.held.pop(AccountName("c"))
    await other.engine.remove_account(left.account)
    halt: dict[str, Any] = {
        "scope": scope,
        "why": "w",
        "by": "b",
        "cancel_open": True,
        "idempotency_key": "stop",
    }
    with pytest.raises(
        Unavailable, match="stored; not confirmed: 1 open orders of account c"
    ) as no:
        await one.gateway.halt(**halt)
    assert no.value.reason == "HALT_UNCONFIRMED"
    assert [found.scope for found in await other.gateway.list_halts()] == [scope]
    # What is asked to be cancelled, and what was never to be, keep nobody waiting.
    await one.gateway.halt(scope="account:a", why="w", by="b", cancel_open=True)
    await one.gateway.halt(scope="symbol:ETH/USDT", why="w", by="b", cancel_open=True)
    await desk.give("c", "two")
    assert (await one.gateway.halt(**halt)).scope == scope
    assert not (await one.gateway.get_order(left.order_id)).is_open


async def test_a_halt_that_cannot_cancel_all_here_cancels_elsewhere(
    two: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = two
    placed = [await one.gateway.place_order(**limit(name)) for name in "ac"]

    async def away(*_: object) -> None:
        raise Unavailable("a is read again", reason="RECONCILING")

    monkeypatch.setattr(one.engine, "_cancel_halted", away)
    with pytest.raises(Unavailable, match="a is read again") as no:
        await one.gateway.halt(why="w", by="b", cancel_open=True)
    assert no.value.reason == "HALT_UNCONFIRMED"
    assert not (await one.gateway.get_order(placed[1].order_id)).is_open
    assert (await one.gateway.place_order(**limit("a"))).reason == "HALTED"


# --- sessions, connections ---------------------------------------------------------------------------


async def test_a_session_reaches_every_account_and_cancels_everywhere(
    desk: Desk, two: tuple[Replica, Replica]
) -> None:
    one, other = two
    async with connect(other.address, timeout_s=20.0) as remote:
        async with remote.session(cancel_on_disconnect=True) as session:
            placed = [await session.place_order(**limit(name)) for name in "ac"]
            assert {order.ord_status for order in placed} == {OrdStatus.NEW}
        for order in placed:
            assert (await one.gateway.get_order(order.order_id)).ord_status is OrdStatus.CANCELED


async def test_states_of_accounts_come_from_their_holders(two: tuple[Replica, Replica]) -> None:
    one, other = two
    await one.gateway.place_order(**limit("a"))
    for replica in two:
        (venue,) = await replica.gateway.list_venues()
        states = {str(status.account): status for status in venue.accounts}
        assert {name: status.state for name, status in states.items()} == dict.fromkeys(
            "abc", "READY"
        )
        assert states["a"].open_orders == 1
        at = {name: status.holder for name, status in states.items()}
        mine = "" if replica is one else one.address
        assert at == {"a": mine, "b": mine, "c": other.address if replica is one else ""}
        (held,) = await replica.gateway.list_held()
        assert len(held.accounts) == (2 if replica is one else 1)


async def test_connections_are_kept_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEERS_MAX", 2)
    made: list[str] = []
    pool = Peers(lambda address: made.append(address) or Peer(address))  # type: ignore[func-returns-value]
    async with pool.use("h:1") as first, pool.use("h:2"), pool.use("h:3"):
        async with pool.use("h:1") as again:
            assert again is first
    async with pool.use("h:1") as kept:
        assert kept is first
    assert made == ["h:1", "h:2", "h:3"]
    async with pool.use("h:3"):
        pass
    assert made == ["h:1", "h:2", "h:3", "h:3"], "the first that nobody used was let go"
    await pool.close()


async def test_a_session_forgets_what_is_closed_elsewhere(
    two: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_PRUNE_FIRST", 4)
    _, other = two
    async with other.gateway.session(cancel_on_disconnect=True) as session:
        for _ in range(12):
            order = await session.place_order(**limit("a"))
            await other.gateway.cancel_order(order.order_id)
        async with asyncio.timeout(PATIENCE_S):
            while len(session._orders) > 8:  # noqa: ASYNC110  # pyright: ignore[reportPrivateUsage]
                await asyncio.sleep(0.01)
    async with other.gateway.session() as session:
        await session.place_order(**limit("a"))
        kept = session._orders  # pyright: ignore[reportPrivateUsage]
        assert not kept, "nothing is to be cancelled at its end"
