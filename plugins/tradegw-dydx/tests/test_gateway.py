"""A whole gateway on a small chain: orders, their ends, positions closed once, a restart."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from tradegw_dydx.orders import ChainOrderId, OrderFlags
from tradegw_dydx.reports import order_uuid
from tradegw_dydx.wire import messages as wire

import tradegw
from tradegw import EvidenceKind, OrdStatus

from .fakes import Chain, Indexer, Node, serving_indexer, serving_node
from .keys import A1, M1

D = Decimal
SYMBOL = "BTC/USD:USDC"
PATIENCE_S = 40


@dataclass
class SmallChain:
    """One maker of endless depth: an immediate order fills at its limit, unless `fills` is off.

    Attributes:
        placed: Every order that the chain took.
        position: What it says that the account holds.
    """

    chain: Chain
    node: Node
    indexer: Indexer
    config: dict[str, Any]
    fills: bool = True
    placed: list[wire.Order] = field(default_factory=list)
    position: Decimal = Decimal(0)
    todo: asyncio.Queue[wire.Order] = field(default_factory=asyncio.Queue)

    def judge(self, tx: wire.Tx) -> tuple[str, int, str]:
        packed = tx.body.messages[0]
        if not packed.type_url.endswith("MsgPlaceOrder"):
            return "", 0, ""
        order = wire.MsgPlaceOrder.FromString(packed.value).order
        size = D(order.quantums).scaleb(-10)
        signed = size if order.side == 1 else -size
        if order.reduce_only and (not self.position or (self.position > 0) == (signed > 0)):
            return "clob", 2001, "reduce-only order would increase the position"
        if order.reduce_only and abs(signed) > abs(self.position):
            signed = -self.position
        self.placed.append(order)
        if self.fills and order.time_in_force == 1:
            self.position += signed
            self.todo.put_nowait(order)
        return "", 0, ""

    async def run(self) -> None:
        """Have the indexer tell, a moment later, what was filled; and make blocks."""
        number = 0
        while True:
            try:
                async with asyncio.timeout(0.1):
                    order = await self.todo.get()
            except TimeoutError:
                await self.step()
                continue
            number += 1
            uuid = order_uuid(
                ChainOrderId(
                    owner=A1,
                    subaccount=0,
                    client_id=order.order_id.client_id,
                    flags=OrderFlags(order.order_id.order_flags),
                    clob_pair_id=order.order_id.clob_pair_id,
                )
            )
            size = str(D(order.quantums).scaleb(-10))
            side = "BUY" if order.side == 1 else "SELL"
            fill = {
                "id": f"t{number}",
                "orderId": uuid,
                "side": side,
                "liquidity": "TAKER",
                "market": "BTC-USD",
                "price": str(D(order.subticks).scaleb(-5)),
                "size": size,
                "fee": "0.1",
                "createdAt": "2026-11-26T16:00:00.000Z",
                "createdAtHeight": str(self.indexer.height + 1),
            }
            told = {
                "id": uuid,
                "clientId": str(order.order_id.client_id),
                "clobPairId": "0",
                "side": side,
                "size": size,
                "totalFilled": size,
                "price": str(D(order.subticks).scaleb(-5)),
                "status": "FILLED",
                "orderFlags": "0",
                "ticker": "BTC-USD",
                "clientMetadata": str(order.client_metadata),
            }
            self.indexer.fills.append(fill)
            self.indexer.orders[uuid] = told
            assert self.indexer.subaccount is not None
            self.indexer.subaccount["openPerpetualPositions"] = (
                {
                    "BTC-USD": {
                        "market": "BTC-USD",
                        "status": "OPEN",
                        "side": "LONG" if self.position > 0 else "SHORT",
                        "size": str(self.position),
                    }
                }
                if self.position
                else {}
            )
            await self.step({"orders": [told], "fills": [fill]})

    async def step(self, contents: dict[str, Any] | None = None) -> None:
        self.chain.height += 1
        self.chain.time_s = int(time.time())
        if contents is not None:
            await self.indexer.push(contents)
        await self.indexer.to_height(self.chain.height)


@asynccontextmanager
async def small_chain(tmp_path, monkeypatch):
    monkeypatch.setenv("DYDX_TEST_WORDS", M1)
    chain = Chain()
    async with serving_node(chain) as node, serving_indexer() as indexer:
        config = {
            "store": {"url": f"sqlite:///{tmp_path}/t.db"},
            "venues": {
                "dydx": {
                    "plugin": "dydx",
                    "network": "localnet",
                    "nodes": [node.address],
                    "indexer_rest": indexer.url,
                    "indexer_ws": indexer.ws_url,
                }
            },
            "accounts": {"perp": {"venue": "dydx", "mnemonic": "env:DYDX_TEST_WORDS"}},
        }
        small = SmallChain(chain, node, indexer, config)
        chain.judge = small.judge
        running = asyncio.create_task(small.run())
        try:
            yield small
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.fixture
async def small(tmp_path, monkeypatch):
    async with small_chain(tmp_path, monkeypatch) as made:
        yield made


@asynccontextmanager
async def a_gateway(small):
    async with tradegw.open(small.config, ready_timeout_s=PATIENCE_S) as gateway:
        yield gateway


async def ended(gateway, order):
    """Wait until an order has ended, and return it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            order = await gateway.get_order(order.order_id)
            if not order.is_open:
                return order
            await asyncio.sleep(0.05)


async def until(condition):
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


def place(gateway, **fields):
    given = {
        "account": "perp",
        "symbol": SYMBOL,
        "side": "BUY",
        "ord_type": "LIMIT",
        "time_in_force": "IOC",
        "order_qty": "0.01",
        "price": "64000",
    }
    return gateway.place_order(**{**given, **fields})


async def test_an_order_fills_and_another_ends_unfilled(small):
    async with a_gateway(small) as gateway:
        filled = await ended(gateway, await place(gateway))
        assert (filled.ord_status, filled.avg_px) == (OrdStatus.FILLED, D(64_000))
        small.fills = False
        empty = await ended(gateway, await place(gateway))
        assert (empty.ord_status, empty.cum_qty) == (OrdStatus.CANCELED, D(0))
        assert empty.closed_by is EvidenceKind.EXPIRY_PASSED
        names = {int(o.venue_client_order_id) for o in (filled, empty)}
        assert names == {order.order_id.client_id for order in small.placed}


async def test_a_refusal_is_an_order_with_the_chains_reason(small):
    async with a_gateway(small) as gateway:
        small.chain.judge = lambda tx: ("clob", 2003, "post-only would cross")
        order = await place(gateway)
        assert (order.ord_status, order.reason) == (OrdStatus.REJECTED, "clob/2003")


async def test_off_the_grid_nothing_is_stored(small):
    async with a_gateway(small) as gateway:
        with pytest.raises(tradegw.InvalidOrder, match=r"0\.0001 and 0\.0002"):
            await place(gateway, order_qty="0.00015")
        with pytest.raises(tradegw.UnsupportedOrder):
            await place(gateway, time_in_force="FOK")
        assert not (await gateway.list_orders()).items


async def test_a_position_is_closed_once_and_never_turned(small):
    async with a_gateway(small) as gateway:
        await ended(gateway, await place(gateway, order_qty="0.03"))
        await until(lambda: gateway.list_positions("perp"))
        first, second = await asyncio.gather(
            *(gateway.close_position("perp", SYMBOL, idempotency_key="close-1") for _ in range(2))
        )
        assert first.order_id == second.order_id
        closed = await ended(gateway, first)
        assert (closed.ord_status, closed.side, closed.cum_qty) == ("FILLED", "SELL", D("0.03"))
        assert closed.reduce_only
        again = await gateway.close_position("perp", SYMBOL, idempotency_key="close-1")
        assert again.order_id == first.order_id

        async def is_flat():
            return await gateway.close_position("perp", SYMBOL) is None

        await until(is_flat)
        assert small.position == 0
        assert sum(order.side == 2 for order in small.placed) == 1


async def test_an_unanswered_order_ends_by_height(small):
    small.config["venues"]["dydx"]["node_timeout_s"] = 0.3
    async with a_gateway(small) as gateway:
        small.node.mode = "loses"
        order = await place(gateway)
        small.node.mode = "answers"
        # It was taken, and fills: the stream says so, though nobody ever answered.
        filled = await ended(gateway, order)
        assert filled.ord_status is OrdStatus.FILLED
        assert len(small.placed) == 1


async def test_names_are_not_used_again_after_a_restart(small):
    small.fills = False
    for _ in range(2):
        async with a_gateway(small) as gateway:
            await ended(gateway, await place(gateway))
    names = [order.order_id.client_id for order in small.placed]
    assert len(names) == len(set(names)) == 2


async def tradegw_says(*args, cwd):
    """Run a command of `tradegw --json`, and return what it printed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tradegw.transports.cli",
        *args,
        "--json",
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(child.communicate(), PATIENCE_S)
    assert child.returncode == 0, (args, out, err)
    return json.loads(out)


@asynccontextmanager
async def serving(config, directory):
    """Run `tradegw serve` in a process of its own, and yield its address."""
    venue = "\n".join(f"{k} = {json.dumps(v)}" for k, v in config["venues"]["dydx"].items())
    account = "\n".join(f"{k} = {json.dumps(v)}" for k, v in config["accounts"]["perp"].items())
    (directory / "tradegw.toml").write_text(f"[venues.dydx]\n{venue}\n[accounts.perp]\n{account}\n")
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tradegw.transports.cli",
        "serve",
        "--port",
        "0",
        "--json",
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        line = await asyncio.wait_for(child.stdout.readline(), PATIENCE_S)
        yield json.loads(line)["grpc"]
    finally:
        child.terminate()
        await asyncio.wait_for(child.wait(), PATIENCE_S)
    assert child.returncode == 0


async def test_positions_are_shown_and_closed_at_the_command_line(small, tmp_path):
    async with serving(small.config, tmp_path) as target, tradegw.connect(target) as gateway:
        await ended(gateway, await place(gateway, order_qty="0.03"))

        async def is_shown():
            told = await tradegw_says("positions", "--target", target, cwd=tmp_path)
            return [(p["symbol"], p["qty"]) for p in told["positions"]] == [(SYMBOL, "0.03")]

        await until(is_shown)
        ask = ("positions", "--target", target, "--close", SYMBOL, "--idempotency-key", "k1")
        closing = await tradegw_says(*ask, cwd=tmp_path)
        again = await tradegw_says(*ask, cwd=tmp_path)
        assert again["order_id"] == closing["order_id"]
        assert closing["reduce_only"] is True
        assert small.position == 0
