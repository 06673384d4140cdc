"""The venue against a node and an indexer over real sockets."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import pytest
from msgspec import structs
from tradegw_dydx.markets import SAMPLES
from tradegw_dydx.nodes import open_nodes
from tradegw_dydx.orders import ChainOrderId, OrderFlags
from tradegw_dydx.reports import order_uuid
from tradegw_dydx.venue import open_dydx
from tradegw_dydx.wire import messages as wire

from tradegw import (
    CommandKind,
    ConfigError,
    EvidenceKind,
    ExecType,
    InvalidOrder,
    NotSent,
    OrderId,
    OrdStatus,
    OrdType,
    OutcomeUnknown,
    RateLimited,
    ReplaceTerms,
    Side,
    TimeInForce,
    UnsupportedOrder,
    VenueClientOrderId,
    VenueError,
    VenueRejected,
)
from tradegw.testing import LentRuntime, an_order
from tradegw.venue import (
    BalanceUpdate,
    Cancel,
    CancelBatch,
    FetchBalances,
    FetchFills,
    FetchInstruments,
    FetchOpenOrders,
    FetchOrder,
    FetchPositions,
    FetchReferencePrice,
    FetchServerTime,
    PositionUpdate,
    Replace,
    StreamGap,
    StreamReady,
    Submit,
    TranslateContext,
    VenueTime,
)

from .fakes import RealClock, World, a_world
from .keys import A1, A2, M2

D = Decimal
SYMBOL = "BTC/USD:USDC"
PATIENCE_S = 30


def ioc(number, **fields):
    given = {
        "order_id": OrderId(uuid4()),
        "symbol": SYMBOL,
        "ord_type": OrdType.LIMIT,
        "time_in_force": TimeInForce.IOC,
        "order_qty": D("0.01"),
        "price": D(64_000),
        "venue_client_order_id": VenueClientOrderId(str(number)),
    }
    return an_order(**{**given, **fields})


def resting(number, **fields):
    return ioc(
        number,
        **{
            "time_in_force": TimeInForce.GTD,
            "expire_time_ns": time.time_ns() + 10 * 10**9,
            **fields,
        },
    )


def context(world: World, *orders, placed_until=(), nonce=None):
    return TranslateContext(
        instrument=SAMPLES["BTC-USD"].to_instrument(),
        now=VenueTime(time_ns=world.chain.time_s * 10**9, height=world.venue.height),
        venue_client_order_ids=tuple(o.venue_client_order_id for o in orders),
        placed_until=placed_until,
        nonce=nonce,
    )


def place(world, order, **more):
    return world.venue.translate(Submit(order=order), context(world, order, **more))


def uuid_of(number, flags=OrderFlags.SHORT_TERM):
    return order_uuid(
        ChainOrderId(owner=A1, subaccount=0, client_id=number, flags=flags, clob_pair_id=0)
    )


def message_of(tx, kind):
    [packed] = tx.body.messages
    assert packed.type_url == f"/{kind.DESCRIPTOR.full_name}"
    return kind.FromString(packed.value)


class Reader:
    """Reads a stream along."""

    def __init__(self, world):
        self.items = []
        self._news = asyncio.Event()
        self._stream = world.venue.stream(0)
        self._task = asyncio.create_task(self._read())

    async def _read(self):
        async for item in self._stream:
            self.items.append(item)
            self._news.set()

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = [item for item in self.items if condition(item)]
                if found:
                    return found[0]
                self._news.clear()
                await self._news.wait()

    async def close(self):
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._stream.aclose()


@pytest.fixture
async def world():
    async with a_world() as made:
        yield made


@pytest.fixture
async def reader(world):
    made = Reader(world)
    await made.until(lambda item: isinstance(item, StreamReady))
    await asyncio.wait_for(world.indexer.subscribed.wait(), PATIENCE_S)
    yield made
    await made.close()


# --- sending --------------------------------------------------------------------------------------


async def test_a_short_term_order_costs_one_call(world):
    request = place(world, ioc(5))
    assert request.valid_until is not None
    assert request.valid_until.height == 1008
    before = list(world.nodes[0].calls)
    [report] = await world.venue.execute(request)
    [called] = [
        call for call in world.nodes[0].calls[len(before) :] if not call.endswith("/GetLatestBlock")
    ]
    assert called.endswith("/BroadcastTx")
    assert (report.exec_type, report.command) == (ExecType.NEW, CommandKind.NEW)
    assert report.venue_order_id == uuid_of(5)
    [tx] = world.chain.taken.values()
    order = message_of(tx, wire.MsgPlaceOrder).order
    assert (order.good_til_block, order.quantums, order.subticks) == (1008, 10**8, 6_400_000_000)
    assert order.client_metadata == world.metadata
    assert order.order_id.subaccount_id.owner == A1


@pytest.mark.parametrize(
    ("codespace", "code", "error"),
    [
        ("clob", 2003, VenueRejected),
        ("clob", 5001, RateLimited),
        ("sdk", 4, VenueRejected),
        ("clob", 1001, OutcomeUnknown),
        ("undefined", 1, OutcomeUnknown),
    ],
)
async def test_verdicts(world, codespace, code, error):
    world.chain.judge = lambda tx: (codespace, code, "the chain's words")
    with pytest.raises(error) as e:
        await world.venue.execute(place(world, ioc(5)))
    if error is not OutcomeUnknown:
        assert e.value.reason == f"{codespace}/{code}"
        assert str(e.value) == "the chain's words"


async def test_what_was_refused_once_stays_refused(world):
    world.chain.judge = lambda tx: ("clob", 2003, "would cross")
    request = place(world, ioc(5))
    for _ in range(3):
        # The node would say "in cache" the second time, which is what it says of accepted ones too.
        with pytest.raises(VenueRejected) as e:
            await world.venue.execute(request)
        assert e.value.reason == "clob/2003"
    assert world.nodes[0].broadcasts == 1


async def test_past_its_height_nothing_is_sent(world):
    request = place(world, ioc(5))
    world.chain.height = 1008
    await world.venue.fetch(FetchServerTime())
    with pytest.raises(NotSent):
        await world.venue.execute(request)
    assert world.nodes[0].broadcasts == 0


async def test_a_node_that_is_gone_is_not_sent_to(world):
    request = place(world, ioc(5))
    async with open_nodes(["http://127.0.0.1:9"], timeout_s=5.0) as nodes:
        world.venue._sender._nodes = nodes
        with pytest.raises(NotSent):
            await world.venue.execute(request)


async def test_failover_sends_the_same_bytes():
    async with a_world(node_count=3, node_timeout_s=0.3) as world:
        request = place(world, ioc(5))
        world.nodes[0].mode = "silent"
        world.nodes[1].mode = "exhausted"
        [report] = await world.venue.execute(request)
        assert report.exec_type is ExecType.NEW
        # Those that did not answer a look meanwhile are asked last, and so not at all.
        assert all(node.broadcasts <= 1 for node in world.nodes)
        assert len(world.chain.taken) == 1


async def test_a_reply_that_is_lost_doubles_nothing():
    async with a_world(node_count=2, node_timeout_s=0.3) as world:
        request = place(world, ioc(5))
        world.nodes[0].mode = "loses"
        # The second has them by gossip.
        world.nodes[1].cache = world.nodes[0].cache
        [report] = await world.venue.execute(request)
        assert report.exec_type is ExecType.NEW
        assert len(world.chain.taken) == 1


async def test_a_reply_that_is_lost_and_a_refusal_elsewhere_stay_unknown():
    async with a_world(node_count=2, node_timeout_s=0.3) as world:
        request = place(world, ioc(5))
        world.nodes[0].mode = "loses"
        verdicts = iter([("", 0, ""), ("clob", 10, "too late")])
        world.chain.judge = lambda tx: next(verdicts)
        with pytest.raises(OutcomeUnknown):
            await world.venue.execute(request)
        # Carried out again, it is the same bytes: nobody takes them twice.
        world.nodes[0].mode = "answers"
        with pytest.raises(OutcomeUnknown):
            await world.venue.execute(request)
        assert len(world.chain.taken) == 1


async def test_a_node_that_never_answers_blocks_nobody():
    async with a_world(node_timeout_s=30.0) as world:
        request = place(world, ioc(5))
        world.nodes[0].mode = "silent"
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await world.venue.execute(request)
        ticking.cancel()
        # Of a hundred. The loop of a client that waits in it ticks once.
        assert ticks > 10
        # What may have arrived is not signed anew.
        signed = request.payload.signed
        world.nodes[0].mode = "answers"
        [report] = await world.venue.execute(request)
        assert report.exec_type is ExecType.NEW
        assert request.payload.signed is signed


# --- stateful orders ------------------------------------------------------------------------------


async def test_a_long_term_order_is_answered_from_its_block(world):
    nonce = world.chain.time_s * 1000 + 5
    request = place(world, ioc(6, time_in_force=TimeInForce.GTC), nonce=nonce)
    assert request.valid_until == VenueTime(time_ns=(nonce + 30_000) * 1_000_000)
    [report] = await world.venue.execute(request)
    assert report.venue_order_id == uuid_of(6, OrderFlags.LONG_TERM)
    [tx] = world.chain.taken.values()
    assert tx.auth_info.signer_infos[0].sequence == nonce
    assert message_of(tx, wire.MsgPlaceOrder).order.order_id.order_flags == 64


async def test_a_block_may_refuse_what_the_node_took(world):
    world.chain.block_code = ("clob", 3007, "undercollateralized")
    with pytest.raises(VenueRejected) as e:
        await world.venue.execute(place(world, ioc(6, time_in_force=TimeInForce.GTC)))
    assert e.value.reason == "clob/3007"


async def test_taken_and_in_no_block_is_unknown():
    async with a_world(inclusion_wait_s=0.5) as world:
        world.chain.includes = False
        with pytest.raises(OutcomeUnknown, match="is in no block"):
            await world.venue.execute(place(world, ioc(6, time_in_force=TimeInForce.GTC)))


async def test_what_a_block_says_later_is_told():
    async with a_world(inclusion_wait_s=0.3) as world:
        reader = Reader(world)
        world.chain.includes = False
        for number, verdict in ((6, ("", 0, "")), (7, ("clob", 3007, "undercollateralized"))):
            with pytest.raises(OutcomeUnknown):
                await world.venue.execute(place(world, ioc(number, time_in_force=TimeInForce.GTC)))
            world.chain.included[list(world.chain.taken)[-1]] = verdict
        taken = await reader.until(lambda i: getattr(i, "venue_client_order_id", None) == "6")
        assert (taken.exec_type, taken.command) == (ExecType.NEW, CommandKind.NEW)
        refused = await reader.until(lambda i: getattr(i, "venue_client_order_id", None) == "7")
        assert (refused.exec_type, refused.reason) == (ExecType.REJECTED, "clob/3007")
        await reader.close()


async def test_account_sequences_count_what_was_taken():
    async with a_world(sequences="account") as world:
        for number in (1, 2, 3):
            await world.venue.execute(place(world, ioc(number, time_in_force=TimeInForce.GTC)))
        used = [tx.auth_info.signer_infos[0].sequence for tx in world.chain.taken.values()]
        assert used == [7, 8, 9]
        asked = sum(call.endswith("/Account") for call in world.nodes[0].calls)
        assert asked == 1


async def test_account_sequences_are_read_anew_when_someone_else_used_one():
    async with a_world(sequences="account") as world:
        world.chain.sequence = 11

        def judge(tx):
            sequence = tx.auth_info.signer_infos[0].sequence
            return ("", 0, "") if sequence == 11 else ("sdk", 32, "account sequence mismatch")

        world.chain.judge = judge
        [report] = await world.venue.execute(place(world, ioc(1, time_in_force=TimeInForce.GTC)))
        assert report.exec_type is ExecType.NEW
        assert len(world.chain.taken) == 1


async def test_account_sequences_are_never_signed_anew_while_an_outcome_is_unknown():
    async with a_world(sequences="account", inclusion_wait_s=0.3) as world:
        world.chain.includes = False
        request = place(world, ioc(1, time_in_force=TimeInForce.GTC))
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                await world.venue.execute(request)
        assert len(world.chain.taken) == 1


# --- cancel and replace ---------------------------------------------------------------------------


async def test_a_cancel_lives_as_long_as_its_order(world):
    order = resting(5)
    until = VenueTime(time_ns=0, height=1016)
    request = world.venue.translate(
        Cancel(order=order), context(world, order, placed_until=(until,))
    )
    assert request.safe_to_repeat
    [report] = await world.venue.execute(request)
    assert (report.exec_type, report.final) == (ExecType.CANCELED, False)
    [tx] = world.chain.taken.values()
    message = message_of(tx, wire.MsgCancelOrder)
    assert (message.good_til_block, message.order_id.order_flags) == (1016, 0)


async def test_a_long_term_order_is_cancelled_as_one(world):
    order = ioc(6, time_in_force=TimeInForce.GTC)
    request = world.venue.translate(
        Cancel(order=order), context(world, order, placed_until=(VenueTime(time_ns=5),), nonce=7)
    )
    await world.venue.execute(request)
    [tx] = world.chain.taken.values()
    message = message_of(tx, wire.MsgCancelOrder)
    assert message.order_id.order_flags == 64
    assert message.good_til_block_time > world.chain.time_s + 94 * 86_400


async def test_many_are_cancelled_at_once(world):
    orders = [resting(n) for n in (5, 6, 7)]
    until = tuple(VenueTime(time_ns=0, height=h) for h in (1010, 1016, 1012))
    request = world.venue.translate(
        CancelBatch(orders=tuple(orders)), context(world, *orders, placed_until=until)
    )
    reports = await world.venue.execute(request)
    assert [r.venue_client_order_id for r in reports] == ["5", "6", "7"]
    assert {(r.exec_type, r.final) for r in reports} == {(ExecType.CANCELED, False)}
    [tx] = world.chain.taken.values()
    message = message_of(tx, wire.MsgBatchCancel)
    assert list(message.short_term_cancels[0].client_ids) == [5, 6, 7]
    assert message.good_til_block == 1016


async def test_a_replacement_has_the_same_name_and_ends_later(world):
    order = resting(5, post_only=True)
    await world.venue.execute(place(world, order))
    request = world.venue.translate(
        Replace(order=order, terms=ReplaceTerms(price=D(63_000))),
        context(world, order, placed_until=(VenueTime(time_ns=0, height=1016),)),
    )
    [report] = await world.venue.execute(request)
    assert (report.exec_type, report.price, report.order_qty) == (
        ExecType.REPLACED,
        D(63_000),
        D("0.01"),
    )
    first, second = (message_of(tx, wire.MsgPlaceOrder).order for tx in world.chain.taken.values())
    assert first.order_id == second.order_id
    assert (first.time_in_force, second.time_in_force) == (2, 2)
    assert (second.good_til_block, second.subticks) == (1017, 6_300_000_000)


async def test_what_cannot_be_replaced(world):
    order = ioc(6, time_in_force=TimeInForce.GTC)
    command = Replace(order=order, terms=ReplaceTerms(price=D(63_000)))
    with pytest.raises(UnsupportedOrder, match="short-term orders alone"):
        world.venue.translate(command, context(world, order, placed_until=(VenueTime(time_ns=5),)))
    with pytest.raises(InvalidOrder, match="as late as the chain allows"):
        world.venue.translate(
            replace(command, order=resting(5)),
            context(world, order, placed_until=(VenueTime(time_ns=0, height=1040),)),
        )


# --- stream and finality --------------------------------------------------------------------------


def told(number, status, **fields):
    return {
        "id": uuid_of(number),
        "clientId": str(number),
        "clobPairId": "0",
        "side": "BUY",
        "size": "0.01",
        "price": "64000",
        "status": status,
        "orderFlags": "0",
        "ticker": "BTC-USD",
        "goodTilBlock": "1008",
        **fields,
    }


def a_fill(number, trade, size, height=1001):
    return {
        "id": trade,
        "orderId": uuid_of(number),
        "side": "BUY",
        "liquidity": "TAKER",
        "market": "BTC-USD",
        "price": "64000",
        "size": size,
        "fee": "0.1",
        "createdAt": "2026-11-26T16:00:00.000Z",
        "createdAtHeight": str(height),
    }


async def test_fills_bear_our_name_though_the_indexer_tells_none(world, reader):
    await world.venue.execute(place(world, ioc(5)))
    await world.indexer.push({"fills": [a_fill(5, "t1", "0.004")]})
    report = await reader.until(lambda item: getattr(item, "trade_id", None) == "t1")
    assert (report.venue_client_order_id, report.last_qty) == ("5", D("0.004"))
    balances = await reader.until(lambda item: isinstance(item, BalanceUpdate))
    assert balances.balances[0].free == D(900)


async def test_positions_come_with_the_stream(world, reader):
    await world.indexer.push(
        {
            "perpetualPositions": [
                {"market": "BTC-USD", "status": "OPEN", "side": "SHORT", "size": "-0.3"}
            ]
        }
    )
    update = await reader.until(lambda item: isinstance(item, PositionUpdate))
    assert update.positions[0].qty == D("-0.3")


async def test_the_end_of_a_short_term_order_is_told_when_both_heights_have_passed_it(
    world, reader
):
    await world.venue.execute(place(world, ioc(5)))
    await world.indexer.push({"orders": [told(5, "BEST_EFFORT_CANCELED")]})
    report = await reader.until(lambda item: getattr(item, "exec_type", None) is ExecType.CANCELED)
    assert not report.final
    # A fill that the stream lost.
    world.indexer.fills.append(a_fill(5, "t9", "0.003", height=1007))
    # The nodes are past it, the indexer is not.
    world.chain.height = 1020
    await world.venue.fetch(FetchServerTime())
    await world.indexer.to_height(1007)
    await world.venue._feed.settle()
    assert not [i for i in reader.items if getattr(i, "evidence", None) is not None]
    await world.indexer.to_height(1008)
    end = await reader.until(lambda item: getattr(item, "evidence", None) is not None)
    assert (end.exec_type, end.final, end.cum_qty) == (ExecType.CANCELED, True, D("0.003"))
    assert end.evidence.kind is EvidenceKind.EXPIRY_PASSED
    trades = [i for i in reader.items if getattr(i, "trade_id", None) == "t9"]
    assert trades, "its fills come before its end"
    assert reader.items.index(trades[0]) < reader.items.index(end)


async def test_an_order_that_expires_by_itself_is_expired(world, reader):
    await world.venue.execute(place(world, resting(5)))
    await world.to_height(1020)
    end = await reader.until(lambda item: getattr(item, "evidence", None) is not None)
    assert (end.exec_type, end.cum_qty) == (ExecType.EXPIRED, D(0))


async def test_a_refused_order_has_no_end_to_tell(world, reader):
    world.chain.judge = lambda tx: ("clob", 2003, "would cross")
    with pytest.raises(VenueRejected):
        await world.venue.execute(place(world, ioc(5)))
    assert len(world.venue._tracker) == 0


async def test_an_unanswered_order_has_its_end_told():
    async with a_world(node_timeout_s=0.2) as world:
        reader = Reader(world)
        await reader.until(lambda item: isinstance(item, StreamReady))
        await asyncio.wait_for(world.indexer.subscribed.wait(), PATIENCE_S)
        world.nodes[0].mode = "silent"
        with pytest.raises(OutcomeUnknown):
            await world.venue.execute(place(world, ioc(5)))
        world.nodes[0].mode = "answers"
        await world.to_height(1008)
        end = await reader.until(lambda item: getattr(item, "evidence", None) is not None)
        assert end.venue_client_order_id == "5"
        await reader.close()


@pytest.mark.parametrize("how", ["cut", "skip"])
async def test_after_a_gap_the_missed_fills_come_once_each(world, reader, how):
    await world.venue.execute(place(world, ioc(5)))
    world.indexer.fills = [a_fill(5, "t1", "0.002", height=1001)]
    await world.indexer.push({"fills": [a_fill(5, "t1", "0.002", height=1001)]})
    await reader.until(lambda item: getattr(item, "trade_id", None) == "t1")
    # The one that is missed is older than one that is heard before the gap is noticed.
    world.indexer.fills.append(a_fill(5, "t2", "0.003", height=1002))
    late = a_fill(5, "t3", "0.001", height=1004)
    world.indexer.fills.append(late)
    if how == "skip":
        world.indexer.skip()
    await world.indexer.push({"fills": [late], "blockHeight": "1004"})
    await reader.until(lambda item: getattr(item, "trade_id", None) == "t3")
    if how == "cut":
        await world.indexer.cut()
    await reader.until(lambda item: isinstance(item, StreamGap))
    report = await reader.until(lambda item: getattr(item, "trade_id", None) == "t2")
    assert report.venue_client_order_id == "5"
    assert sum(isinstance(item, StreamReady) for item in reader.items) == 2


# --- questions ------------------------------------------------------------------------------------


async def test_an_order_is_found_by_its_client_id_whatever_its_kind(world):
    name = VenueClientOrderId("6")
    query = FetchOrder(symbol=SYMBOL, venue_client_order_id=name)
    assert (await world.venue.fetch(query)).items == ()
    uuid = uuid_of(6, OrderFlags.LONG_TERM)
    world.indexer.orders[uuid] = {
        **told(6, "OPEN", orderFlags="64", totalFilled="0.004"),
        "id": uuid,
        "goodTilBlock": None,
    }
    page = await world.venue.fetch(query)
    [report] = page.items
    assert (report.ord_status, report.cum_qty) == (OrdStatus.PARTIALLY_FILLED, D("0.004"))
    assert report.venue_client_order_id == "6"
    assert page.as_of.height == 1000


async def test_the_chain_knows_a_stateful_order_before_the_indexer(world):
    order_id = ChainOrderId(
        owner=A1, subaccount=0, client_id=6, flags=OrderFlags.LONG_TERM, clob_pair_id=0
    )
    world.chain.stateful[order_id.to_message().SerializeToString()] = 40_000_000
    query = FetchOrder(symbol=SYMBOL, venue_client_order_id=VenueClientOrderId("6"))
    [report] = (await world.venue.fetch(query)).items
    assert (report.ord_status, report.cum_qty) == (OrdStatus.PARTIALLY_FILLED, D("0.004"))


async def test_an_answer_is_dated_by_the_slower_of_node_and_indexer(world):
    world.indexer.height = 990
    world.venue.queries._heights.time_s = 0.0
    page = await world.venue.fetch(FetchOpenOrders())
    assert page.as_of.height == 990
    assert page.as_of.time_ns < world.chain.time_s * 10**9


@pytest.mark.parametrize("status", [429, 500, 403])
async def test_an_indexer_that_refuses_says_nothing(world, status):
    world.indexer.refusal = (status, {"Retry-After": "1500"})
    query = FetchOrder(symbol=SYMBOL, venue_client_order_id=VenueClientOrderId("6"))
    with pytest.raises(VenueError) as e:
        await world.venue.fetch(query)
    if status == 429:
        assert isinstance(e.value, RateLimited)
        assert e.value.retry_after_s == 1.5


async def test_fills_are_read_through_all_pages(world):
    world.indexer.fills = [a_fill(5, f"t{n}", "0.001", height=1 + n // 10) for n in range(2_500)]
    page = await world.venue.fetch(
        FetchFills(symbol=SYMBOL, venue_client_order_id=VenueClientOrderId("5"))
    )
    assert [r.trade_id for r in page.items] == [f"t{n}" for n in range(2_500)]
    other = await world.venue.fetch(
        FetchFills(symbol=SYMBOL, venue_client_order_id=VenueClientOrderId("6"))
    )
    assert other.items == ()


async def test_what_else_can_be_asked(world):
    world.indexer.subaccount["openPerpetualPositions"] = {
        "BTC-USD": {"market": "BTC-USD", "status": "OPEN", "side": "SHORT", "size": "-0.3"}
    }
    instruments = (await world.venue.fetch(FetchInstruments())).items
    assert {i.symbol for i in instruments} == {"BTC/USD:USDC", "ETH/USD:USDC"}
    [balance] = (await world.venue.fetch(FetchBalances())).items
    assert (balance.asset, balance.free, balance.held) == ("USDC", D(900), D(100))
    [position] = (await world.venue.fetch(FetchPositions())).items
    assert (position.symbol, position.qty) == (SYMBOL, D("-0.3"))
    [price] = (await world.venue.fetch(FetchReferencePrice(symbol=SYMBOL))).items
    assert price.px == D("89919.2")
    now = (await world.venue.fetch(FetchServerTime())).as_of
    assert (now.height, now.time_ns) == (1000, world.chain.time_s * 10**9)
    world.indexer.subaccount = None
    assert (await world.venue.fetch(FetchPositions())).items == ()


async def test_a_market_order_is_bounded_by_the_oracles_price(world):
    await world.venue.execute(place(world, ioc(5, ord_type=OrdType.MARKET, price=None)))
    sell = ioc(6, ord_type=OrdType.MARKET, price=None, side=Side.SELL, reduce_only=True)
    await world.venue.execute(place(world, sell))
    buy, sell = (message_of(tx, wire.MsgPlaceOrder).order for tx in world.chain.taken.values())
    assert (buy.subticks, sell.subticks) == (9_441_600_000, 8_542_300_000)
    assert (buy.reduce_only, sell.reduce_only) == (False, True)


# --- opening --------------------------------------------------------------------------------------


async def test_a_permitted_key_signs_for_another_address(world):
    from tradegw.venue import Secret

    async with a_world(mnemonic=Secret(M2), address=A1, authenticators=(7,)) as permitted:
        await permitted.venue.execute(place(permitted, ioc(5)))
        [tx] = permitted.chain.taken.values()
        [extension] = tx.body.non_critical_extension_options
        assert wire.TxExtension.FromString(extension.value).selected_authenticators == [7]
        order = message_of(tx, wire.MsgPlaceOrder).order
        assert order.order_id.subaccount_id.owner == A1


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"address": A2}, ConfigError, "give the authenticators"),
        ({"address": "dydx1x"}, ConfigError, "bech32"),
        ({"chain_id": "dydx-mainnet-1"}, ConfigError, "the nodes are of"),
        ({"nodes": ("http://127.0.0.1:9",)}, VenueError, "no node answers"),
        ({"indexer_rest": "http://127.0.0.1:9"}, VenueError, "indexer"),
    ],
)
async def test_what_cannot_be_opened(settings, error, told):
    with pytest.raises(BaseException) as e:
        async with a_world(**settings):
            pass
    errors = e.value.exceptions if isinstance(e.value, BaseExceptionGroup) else [e.value]
    assert isinstance(errors[0], error)
    assert told in str(errors[0])


async def test_two_accounts_never_share_a_subaccount(world):
    other = LentRuntime(RealClock(), account="other", venue="dydx")
    with pytest.raises(ConfigError, match="main and other are both subaccount 0"):
        async with open_dydx(world.config, other):
            pass
    async with open_dydx(structs.replace(world.config, subaccount=1), other) as venue:
        assert venue.owner.subaccount == 1


async def test_a_wrong_mnemonic_is_refused_and_not_shown():
    from tradegw.venue import Secret

    with pytest.raises(ConfigError, match="checksum") as e:
        async with a_world(mnemonic=Secret(" ".join(["abandon"] * 12))):
            pass
    assert "abandon" not in str(e.value)
