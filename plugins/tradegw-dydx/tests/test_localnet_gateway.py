"""A gateway on the local chain: its record is what the chain holds, whatever went wrong between them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from tradegw_dydx.localnet import FaultKind, FaultSpec, Settings, open_localnet
from tradegw_dydx.reports import order_uuid

import tradegw
from tradegw import OrdStatus

from .keys import A1, M1

BTC, ETH, SOL = "BTC/USD:USDC", "ETH/USD:USDC", "SOL/USD:USDC"
TICKERS = {BTC: "BTC-USD", ETH: "ETH-USD", SOL: "SOL-USD"}
BLOCK_S = 0.05
# Nothing here tests the indexer's limit of requests, and all tests share an address.
CHAIN = Settings(nodes=3, requests_per_window=100_000, stateful_limits=())


def config_of(net, directory, **venue):
    """A gateway's configuration with one account, `perp`, on a local chain."""
    serving = net.serving
    return {
        "store": {"url": f"sqlite:///{directory}/tradegw.db"},
        "venues": {
            "dydx": {
                "plugin": "dydx",
                "network": "localnet",
                "nodes": list(serving.grpc),
                "indexer_rest": serving.indexer_rest,
                "indexer_ws": serving.indexer_ws,
                # Blocks come twelve times as fast as on the real chain, and the height is asked for as ever.
                "ioc_blocks": 30,
                "block_time_s": BLOCK_S,
                **venue,
            }
        },
        "accounts": {"perp": {"venue": "dydx", "mnemonic": "env:TRADEGW_TEST_MNEMONIC"}},
    }


@asynccontextmanager
async def a_gateway(net, directory, **venue):
    """Open it."""
    async with tradegw.open(config_of(net, directory, **venue)) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def words(monkeypatch):
    monkeypatch.setenv("TRADEGW_TEST_MNEMONIC", M1)


async def until(holds):
    """Wait until something holds; return it."""
    async with asyncio.timeout(120):
        while True:
            if found := await holds():
                return found
            await asyncio.sleep(0.02)


async def place(gateway, **terms):
    """Place an order as clients do: while the account is not ready, again, with the same key."""

    async def taken():
        try:
            return await gateway.place_order(account="perp", symbol=BTC, **terms)
        except tradegw.Unavailable:
            return None

    return await until(taken)


async def closed(gateway, order):
    async def is_closed():
        now = await gateway.get_order(order.order_id)
        return None if now.is_open else now

    return await until(is_closed)


def truth(net, order):
    """What the chain knows under an order's name: how many versions, and what is filled."""
    for item in net.ledger()["orders"]:
        if item["id"] == order.venue_order_id or (
            str(item["client_id"]) == order.venue_client_order_id
        ):
            return item["versions"], Decimal(item["filled"])
    return 0, Decimal(0)


def chain_positions(net):
    """The account's positions, as the chain holds them."""
    for item in net.ledger()["subaccounts"]:
        if (item["owner"], item["subaccount"]) == (A1, 0):
            return {ticker: Decimal(held) for ticker, held in item["positions"].items()}
    return {}


async def told_positions(gateway):
    return {TICKERS[p.symbol]: p.qty for p in await gateway.list_positions("perp") if p.qty}


async def fold(gateway):
    """Positions as the fills add up."""
    held = dict.fromkeys(TICKERS.values(), Decimal(0))
    token = None
    while True:
        page = await gateway.list_fills(page_size=1000, page_token=token)
        for fill in page.items:
            sign = 1 if fill.side is tradegw.Side.BUY else -1
            held[TICKERS[fill.symbol]] += sign * fill.last_qty
        token = page.next_cursor
        if token is None:
            return {ticker: qty for ticker, qty in held.items() if qty}


# --- positions ------------------------------------------------------------------------------------


async def test_after_200_random_trades_positions_are_the_chains(tmp_path):
    rng = random.Random(20)
    prices = {BTC: (89_919, "0.0001"), ETH: (3_103, "0.001"), SOL: (135, "0.1")}
    async with (
        open_localnet(CHAIN, block_time_s=BLOCK_S) as net,
        a_gateway(net, tmp_path) as gateway,
    ):

        async def trade(number):
            symbol = rng.choice([*prices])
            mid, step = prices[symbol]
            side = rng.choice(["buy", "sell"])
            away = rng.choice(["0.97", "1.03"]) if number % 4 else "1"
            terms = {
                "account": "perp",
                "symbol": symbol,
                "side": side,
                "order_qty": Decimal(step) * rng.randint(1, 20),
                "time_in_force": "IOC",
                "client_order_id": f"t{number}",
            }
            if number % 2:
                return await gateway.place_order(**terms, ord_type="market")
            price = (mid * Decimal(away)).quantize(Decimal(1))
            return await gateway.place_order(**terms, ord_type="limit", price=price)

        orders = []
        for first in range(0, 200, 10):
            orders += await asyncio.gather(*(trade(first + i) for i in range(10)))
        orders = [await closed(gateway, order) for order in orders]
        assert {o.ord_status for o in orders} == {OrdStatus.FILLED, OrdStatus.CANCELED}
        for order in orders:
            assert truth(net, order) == (1, order.cum_qty), order
        held = chain_positions(net)
        assert held
        assert await fold(gateway) == held

        async def agree():
            return await told_positions(gateway) == held

        # They follow by the indexer's stream, a moment after the fills.
        assert await until(agree)


async def test_closing_twice_with_one_key_closes_once_and_never_flips(tmp_path):
    async with (
        open_localnet(CHAIN, block_time_s=BLOCK_S) as net,
        a_gateway(net, tmp_path) as gateway,
    ):
        for side, sign in (("sell", -1), ("buy", 1)):
            opened = await gateway.place_order(
                account="perp",
                symbol=BTC,
                side=side,
                ord_type="market",
                time_in_force="IOC",
                order_qty="0.02",
            )
            assert (await closed(gateway, opened)).ord_status is OrdStatus.FILLED
            assert chain_positions(net) == {"BTC-USD": sign * Decimal("0.02")}

            async def is_told(expected=sign * Decimal("0.02")):
                return await told_positions(gateway) == {"BTC-USD": expected}

            assert await until(is_told)
            first, second = await asyncio.gather(
                *(gateway.close_position("perp", BTC, idempotency_key=side) for _ in range(2))
            )
            assert first.order_id == second.order_id
            assert (await closed(gateway, first)).ord_status is OrdStatus.FILLED
            again = await gateway.close_position("perp", BTC, idempotency_key=side)
            assert again.order_id == first.order_id
            assert chain_positions(net) == {}
            assert truth(net, again) == (1, Decimal("0.02"))
        assert len(net.ledger()["orders"]) == 4


async def test_two_who_close_at_once_do_not_turn_the_position_round(tmp_path):
    """Two keys are two orders; the chain reduces, and no more."""
    async with (
        open_localnet(CHAIN, block_time_s=BLOCK_S) as net,
        a_gateway(net, tmp_path) as gateway,
    ):
        await closed(
            gateway,
            await gateway.place_order(
                account="perp",
                symbol=BTC,
                side="buy",
                ord_type="market",
                time_in_force="IOC",
                order_qty="0.02",
            ),
        )

        async def is_told():
            return await told_positions(gateway)

        await until(is_told)
        both = await asyncio.gather(
            *(gateway.close_position("perp", BTC, idempotency_key=key) for key in "ab")
        )
        for order in both:
            if order is not None:
                done = await closed(gateway, order)
                assert truth(net, done)[1] == done.cum_qty
        assert chain_positions(net) == {}


# --- faults ---------------------------------------------------------------------------------------

SEND = "BroadcastTx"
ALL = 3
"""As many as there are nodes: nobody's answer arrives."""


def taker(**terms):
    return {"ord_type": "market", "time_in_force": "IOC", "side": "buy", **terms}


def bid(seconds=1.5, **terms):
    """A bid below the market, short-term."""
    return {
        "ord_type": "limit",
        "time_in_force": "GTD",
        "expire_time_ns": time.time_ns() + int(seconds * 1e9),
        "price": "80000",
        "side": "buy",
        **terms,
    }


def lasting():
    return {"ord_type": "limit", "time_in_force": "GTC", "price": "80000", "side": "buy"}


FAULTS = [
    ("nothing", None, taker),
    ("reset", FaultSpec(kind=FaultKind.RESET, method=SEND), taker),
    ("reset everywhere", FaultSpec(kind=FaultKind.RESET, method=SEND, times=ALL), taker),
    ("reply lost", FaultSpec(kind=FaultKind.REPLY_LOST, method=SEND), taker),
    ("reply lost everywhere", FaultSpec(kind=FaultKind.REPLY_LOST, method=SEND, times=ALL), taker),
    ("reply lost, resting", FaultSpec(kind=FaultKind.REPLY_LOST, method=SEND, times=ALL), bid),
    ("reply lost, lasting", FaultSpec(kind=FaultKind.REPLY_LOST, method=SEND, times=ALL), lasting),
    ("black hole", FaultSpec(kind=FaultKind.BLACK_HOLE, method=SEND), taker),
    ("black hole everywhere", FaultSpec(kind=FaultKind.BLACK_HOLE, method=SEND, times=ALL), taker),
    ("slow", FaultSpec(kind=FaultKind.SLOW, method=SEND, delay_s=0.8), taker),
    ("slow everywhere", FaultSpec(kind=FaultKind.SLOW, method=SEND, delay_s=0.8, times=ALL), bid),
    ("exhausted", FaultSpec(kind=FaultKind.RESOURCE_EXHAUSTED, method=SEND), taker),
    (
        "exhausted everywhere",
        FaultSpec(kind=FaultKind.RESOURCE_EXHAUSTED, method=SEND, times=ALL),
        taker,
    ),
    ("down", FaultSpec(kind=FaultKind.DOWN, node=0, times=5), taker),
    ("lagging", FaultSpec(kind=FaultKind.LAGGING, node=0, times=5, blocks=8), taker),
    ("isolated", FaultSpec(kind=FaultKind.ISOLATED, node=0, times=5), taker),
    ("old window", FaultSpec(kind=FaultKind.OLD_WINDOW, node=0, times=5), taker),
    ("halt", FaultSpec(kind=FaultKind.HALT, times=5), taker),
    ("nonce taken", FaultSpec(kind=FaultKind.NONCE_TAKEN), lasting),
    ("fails in its block", FaultSpec(kind=FaultKind.DELIVERY_FAILS, code=3007), lasting),
    ("removed", FaultSpec(kind=FaultKind.ORDER_REMOVED), bid),
    ("indexer lags", FaultSpec(kind=FaultKind.INDEXER_LAG, blocks=5, times=8), taker),
    ("stream cut", FaultSpec(kind=FaultKind.WS_DROP, method="v4_subaccounts"), taker),
    ("message missing", FaultSpec(kind=FaultKind.WS_SKIP, method="v4_subaccounts", after=1), taker),
    (
        "message twice",
        FaultSpec(kind=FaultKind.WS_DUPLICATE, method="v4_subaccounts", times=4),
        taker,
    ),
    ("indexer restarts", FaultSpec(kind=FaultKind.INDEXER_RESTART), taker),
    ("REST fails", FaultSpec(kind=FaultKind.REST_ERROR, status=500, times=3), taker),
    ("REST too fast", FaultSpec(kind=FaultKind.REST_ERROR, status=429, times=2), taker),
    ("REST stale", FaultSpec(kind=FaultKind.REST_STALE, times=10), taker),
]


async def test_whatever_goes_wrong_the_record_ends_as_the_chain_is(tmp_path):
    """One fault after the other, an order in each; no order twice, and every fill known."""
    async with (
        open_localnet(CHAIN, block_time_s=BLOCK_S) as net,
        a_gateway(net, tmp_path, node_timeout_s=0.3) as gateway,
    ):
        placed = {}
        for number, (name, spec, terms) in enumerate(FAULTS):
            fault = None if spec is None else net.faults.add(spec)
            placed[name] = await place(
                gateway,
                order_qty=Decimal("0.0001") * (number + 1),
                client_order_id=name.replace(" ", "-").replace(",", ""),
                **terms(),
            )
            if fault is not None:

                async def has_acted(fault=fault):
                    return fault.hits

                assert await until(has_acted), name
        # What rests in the chain's state is asked to go.
        for name, order in placed.items():
            now = await gateway.get_order(order.order_id)
            if now.is_open and now.time_in_force is tradegw.TimeInForce.GTC and not now.in_doubt:
                placed[name] = await gateway.cancel_order(now.order_id)
        ended = {name: await closed(gateway, order) for name, order in placed.items()}
        # The chain knows no order but these.
        known = {order.venue_client_order_id for order in ended.values()}
        assert {str(item["client_id"]) for item in net.ledger()["orders"]} <= known
        for name, order in ended.items():
            versions, filled = truth(net, order)
            assert versions <= 1, (name, order)
            assert order.cum_qty == filled, (name, order, versions)
            if order.ord_status is OrdStatus.REJECTED:
                assert versions == 0 or name == "fails in its block", (name, order)
            if order.ord_status is OrdStatus.FILLED:
                assert versions == 1, (name, order)
        statuses = {name: order.ord_status.value for name, order in ended.items()}
        assert statuses["nothing"] == "FILLED"
        assert statuses["nonce taken"] == "REJECTED"
        assert statuses["fails in its block"] == "REJECTED"
        assert statuses["reply lost"] == "FILLED"
        assert statuses["reply lost everywhere"] == "FILLED"
        assert await fold(gateway) == chain_positions(net)


async def test_a_fill_after_a_cancel_is_counted(tmp_path):
    async with (
        open_localnet(CHAIN, block_time_s=BLOCK_S) as net,
        a_gateway(net, tmp_path) as gateway,
    ):
        order = await gateway.place_order(account="perp", symbol=BTC, order_qty="0.01", **bid())
        fault = net.faults.add(FaultSpec(kind=FaultKind.FILL_AFTER_CANCEL))
        cancelled = await gateway.cancel_order(order.order_id)
        assert cancelled.ord_status is OrdStatus.PENDING_CANCEL
        order = await closed(gateway, order)
        assert (order.ord_status, order.cum_qty) == (OrdStatus.FILLED, Decimal("0.01"))
        assert fault.hits == 1
        assert truth(net, order) == (1, Decimal("0.01"))
        assert await fold(gateway) == chain_positions(net) == {"BTC-USD": Decimal("0.01")}


async def test_what_filled_while_the_gateway_was_away_is_known_when_it_is_back(tmp_path):
    # The test makes the blocks: twenty of them are good for twelve seconds, whenever they come.
    async with open_localnet(CHAIN) as net:
        async with a_gateway(net, tmp_path, block_time_s=0.6) as gateway:
            filled = await place(gateway, order_qty="0.01", **bid(12))
            assert filled.ord_status is OrdStatus.NEW
            long_term = asyncio.create_task(place(gateway, order_qty="0.03", **lasting()))

            async def is_taken():
                return net.network.nodes[0].mempool

            await until(is_taken)
            await net.step()
            await long_term
            lasting_order = long_term.result()
            assert lasting_order.ord_status is OrdStatus.NEW
        # From the first bid all, from the lasting one half; they stand at one price, in that order.
        net.trade("BTC-USD", "SELL", Decimal("0.025"), Decimal(80000))
        await net.step(60)
        net.set_block_time(BLOCK_S)
        async with a_gateway(net, tmp_path) as gateway:
            first = await closed(gateway, filled)
            assert (first.ord_status, first.cum_qty) == (OrdStatus.FILLED, Decimal("0.01"))

            async def is_counted():
                now = await gateway.get_order(lasting_order.order_id)
                return now.cum_qty == Decimal("0.015")

            assert await until(is_counted)
            assert await fold(gateway) == chain_positions(net) == {"BTC-USD": Decimal("0.025")}


CHILD = """
import asyncio, json, sys
import tradegw

async def main():
    async with tradegw.open(json.loads(sys.argv[1])) as gateway:
        await gateway.place_order(
            account="perp", symbol="BTC/USD:USDC", side="buy", ord_type="market",
            time_in_force="IOC", order_qty="0.01", client_order_id="once",
        )

asyncio.run(main())
"""


async def killed_at(point, net, directory):
    """Let a gateway in another process place an order, and die at a point on the way."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CHILD,
        json.dumps(config_of(net, directory)),
        env={**os.environ, "TRADEGW_CRASH_AT": f"{point}:1"},
    )
    assert await process.wait() < 0, "it did not die"


async def found_once(net, directory):
    """Open the gateway again; see its one order closed, and return it."""
    async with a_gateway(net, directory) as gateway:
        order = await gateway.find_order(account="perp", client_order_id="once")
        assert order is not None
        done = await closed(gateway, order)
        versions, filled = truth(net, done)
        assert versions <= 1
        assert done.cum_qty == filled
        assert len(net.ledger()["orders"]) == versions
        assert await fold(gateway) == chain_positions(net)
        return done


async def test_a_gateway_that_was_killed_finds_its_order_filled_once(tmp_path):
    async with open_localnet(CHAIN, block_time_s=BLOCK_S) as net:
        await killed_at("ANSWERED_UNJOURNALED", net, tmp_path)
        done = await found_once(net, tmp_path)
        assert (done.ord_status, done.cum_qty) == (OrdStatus.FILLED, Decimal("0.01"))


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", ["JOURNALED_UNSENT", "SENT_UNANSWERED"])
async def test_a_gateway_that_was_killed_sends_nothing_when_it_is_back(tmp_path, point):
    async with open_localnet(CHAIN, block_time_s=BLOCK_S) as net:
        await killed_at(point, net, tmp_path)
        before = len(net.ledger()["orders"])
        done = await found_once(net, tmp_path)
        # Whether the bytes had left is chance at the second point; after it, nothing leaves.
        assert len(net.ledger()["orders"]) == before
        assert done.ord_status in (
            OrdStatus.FILLED if before else OrdStatus.EXPIRED,
            OrdStatus.REJECTED,
        )


CANCEL_FAULTS = [
    FaultSpec(kind=FaultKind.RESET, method=SEND, times=ALL),
    FaultSpec(kind=FaultKind.REPLY_LOST, method=SEND, times=ALL),
    FaultSpec(kind=FaultKind.BLACK_HOLE, method=SEND),
    FaultSpec(kind=FaultKind.RESOURCE_EXHAUSTED, method=SEND, times=ALL),
]


async def test_a_cancel_whose_answer_is_lost_ends_in_what_the_chain_knows(tmp_path):
    async with (
        open_localnet(CHAIN, block_time_s=BLOCK_S) as net,
        a_gateway(net, tmp_path, node_timeout_s=0.3) as gateway,
    ):
        orders = []
        for number, spec in enumerate(CANCEL_FAULTS):
            order = await place(gateway, order_qty="0.01", **bid(price=str(80_000 + number)))
            assert order.ord_status is OrdStatus.NEW
            fault = net.faults.add(spec)
            await gateway.cancel_order(order.order_id)
            assert fault.hits
            orders.append(order)
        # Those that still rest are sold to.
        net.faults.clear()
        net.trade("BTC-USD", "SELL", Decimal("0.04"), Decimal(80_000))
        for order in orders:
            done = await closed(gateway, order)
            versions, filled = truth(net, done)
            assert (versions, done.cum_qty) == (1, filled), done
            assert not done.in_doubt
        assert await fold(gateway) == chain_positions(net)


def test_the_names_of_orders_are_the_indexers():
    """The double computes them by itself."""
    from tradegw_dydx.localnet.terms import OrderId, SubaccountId
    from tradegw_dydx.localnet.terms import order_uuid as their_uuid
    from tradegw_dydx.orders import ChainOrderId, OrderFlags

    for client_id, pair, flags, number in ((12345, 0, 0, 0), (2**32 - 1, 1, 64, 3)):
        ours = ChainOrderId(
            owner=A1,
            subaccount=number,
            client_id=client_id,
            flags=OrderFlags(flags),
            clob_pair_id=pair,
        )
        theirs = OrderId(SubaccountId(A1, number), client_id, flags, pair)
        assert order_uuid(ours) == their_uuid(theirs)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_transaction_that_was_lost_is_proven_absent(tmp_path):
    """Taken by a node and in no block: in doubt until its number is too old for any."""
    async with (
        open_localnet(CHAIN, block_time_s=BLOCK_S) as net,
        a_gateway(net, tmp_path, inclusion_wait_s=0.5) as gateway,
    ):
        net.faults.add(FaultSpec(kind=FaultKind.TX_DROPPED, times=None))
        order = await place(gateway, order_qty="0.01", **lasting())
        assert order.in_doubt
        net.faults.clear()
        done = await closed(gateway, order)
        assert (done.ord_status, done.reason) == (OrdStatus.REJECTED, "NEVER_REACHED_VENUE")
        assert net.ledger()["subaccounts"][0]["positions"] == {}
        assert not any(item["in_state"] for item in net.ledger()["orders"])


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_what_expired_while_the_gateway_was_away_is_closed_when_it_is_back(tmp_path):
    async with open_localnet(CHAIN) as net:
        async with a_gateway(net, tmp_path, block_time_s=0.6) as gateway:
            order = await place(gateway, order_qty="0.02", **bid(12))
            assert order.ord_status is OrdStatus.NEW
        await net.step(60)
        net.set_block_time(BLOCK_S)
        async with a_gateway(net, tmp_path) as gateway:
            done = await closed(gateway, order)
            assert (done.ord_status, done.cum_qty) == (OrdStatus.EXPIRED, 0)
            assert done.closed_by is tradegw.EvidenceKind.EXPIRY_PASSED


# --- replacing ------------------------------------------------------------------------------------


async def test_a_short_term_order_is_replaced_under_its_name(tmp_path):
    async with (
        open_localnet(CHAIN, block_time_s=BLOCK_S) as net,
        a_gateway(net, tmp_path) as gateway,
    ):
        order = await place(gateway, order_qty="0.01", **bid())
        replaced = await gateway.replace_order(order.order_id, order_qty="0.02", price="80001")
        assert (replaced.order_qty, replaced.price) == (Decimal("0.02"), Decimal(80_001))
        assert replaced.venue_client_order_id == order.venue_client_order_id
        assert truth(net, order) == (2, 0)
        net.trade("BTC-USD", "SELL", Decimal("0.02"), Decimal(80_001))
        ended = await closed(gateway, order)
        assert (ended.ord_status, ended.cum_qty) == (OrdStatus.FILLED, Decimal("0.02"))
        assert truth(net, order) == (2, Decimal("0.02"))
        assert await fold(gateway) == chain_positions(net) == {"BTC-USD": Decimal("0.02")}


@pytest.mark.parametrize("spec", CANCEL_FAULTS)
async def test_a_replace_whose_answer_is_lost_ends_in_what_the_chain_holds(tmp_path, spec):
    """Whichever version the chain holds, its fills are ours, and there is one order."""
    async with (
        open_localnet(CHAIN, block_time_s=BLOCK_S) as net,
        a_gateway(net, tmp_path, node_timeout_s=0.3) as gateway,
    ):
        order = await place(gateway, order_qty="0.01", **bid())
        fault = net.faults.add(spec)
        await gateway.replace_order(order.order_id, order_qty="0.02", price="80001")
        assert fault.hits
        net.faults.clear()
        net.trade("BTC-USD", "SELL", Decimal("0.02"), Decimal(80_000))
        ended = await closed(gateway, order)
        versions, filled = truth(net, ended)
        assert ended.cum_qty == filled == versions * Decimal("0.01")
        assert not ended.in_doubt
        assert await fold(gateway) == chain_positions(net)
