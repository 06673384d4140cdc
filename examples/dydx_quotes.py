"""Quotes both sides of a dYdX market, block after block, and at the end compares three ledgers.

    python examples/dydx_quotes.py --blocks 1000

It starts a local chain (`tradegw dydx localnet`) and makes its blocks itself, so that a thousand take
seconds. In each block the oracle's price moves, the house follows it and takes the quotes that it passes, and
the bot takes back what stands too far off and quotes anew. Its own ledger is what it added up from the stream
of fills, the gateway's is what `list_fills` says, and the chain's is what the chain holds: all three agree to
the last digit.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import tradegw
from tradegw import Fill, FillFilter, Gateway, Order, Side

ACCOUNT = "quoter"
TICKER, SYMBOL = "BTC-USD", "BTC/USD:USDC"
TICK, SIZE = Decimal(1), Decimal("0.01")
POSITION_MAX = Decimal("0.5")
AWAY_TICKS, NEAR_TICKS = 9, 15
GOOD_FOR_S = 12.0
"""Twenty blocks of 0.6 s."""


class Chain:
    """The local chain's admin door."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.told = told

    async def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask the indexer or the admin door."""
        request = urllib.request.Request(  # noqa: S310 - it comes from the chain that we started
            self.told["indexer_rest"] + path,
            data=None if body is None else json.dumps(body).encode(),
        )

        def send() -> Any:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
                return json.load(answer)

        return await asyncio.to_thread(send)

    async def holdings(self) -> tuple[Decimal, Decimal]:
        """Return the position and the collateral, as the chain has them."""
        owner = self.told["accounts"][0]["address"]
        for item in (await self.ask("/admin/ledger"))["subaccounts"]:
            if (item["owner"], item["subaccount"]) == (owner, 0):
                return Decimal(item["positions"].get(TICKER, "0")), Decimal(item["usdc"])
        raise SystemExit(f"the chain does not know {owner}")


class Ledger:
    """What fills did to the position and to the money."""

    def __init__(self) -> None:
        self.position = self.usdc = Decimal(0)
        self.fills = 0

    def count(self, fill: Fill) -> None:
        """Add one fill."""
        sign = 1 if fill.side is Side.BUY else -1
        self.position += sign * fill.last_qty
        self.usdc -= sign * fill.last_qty * fill.last_px + (fill.fee or Decimal(0))
        self.fills += 1


class Quoter:
    """Keeps a bid and an ask around a price."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.ledger = Ledger()
        self.placed = self.taken_back = 0
        self._quotes: dict[Side, Order] = {}

    async def quote(self, mid: Decimal) -> None:
        """Place the quotes that are missing, and move those that stand elsewhere."""
        for side, sign in ((Side.BUY, -1), (Side.SELL, 1)):
            price = (mid / TICK).to_integral_value() * TICK + sign * AWAY_TICKS * TICK
            held = self._quotes.get(side)
            if held is not None:
                held = await self.gateway.get_order(held.order_id)
            if held is not None and held.is_open:
                assert held.price is not None
                if abs(held.price - price) <= NEAR_TICKS * TICK:
                    continue
                # It may still fill until its last block has passed; the ledger counts what does.
                await self._take_back(held)
            if -sign * self.ledger.position < POSITION_MAX:
                self._quotes[side] = await self._place(side, price)

    async def _place(self, side: Side, price: Decimal) -> Order:
        self.placed += 1
        return await self.gateway.place_order(
            account=ACCOUNT,
            symbol=SYMBOL,
            side=side,
            ord_type="limit",
            time_in_force="GTD",
            expire_time_ns=time.time_ns() + int(GOOD_FOR_S * 1e9),
            post_only=True,
            order_qty=SIZE,
            price=price,
        )

    async def _take_back(self, order: Order) -> None:
        try:
            await self.gateway.cancel_order(order.order_id)
        except tradegw.Conflict:
            # A fill was faster.
            return
        self.taken_back += 1

    async def follow_fills(self) -> None:
        """Add up every fill from the stream, until cancelled."""
        async for batch in self.gateway.stream_fills(accounts=[ACCOUNT]):
            for item in batch.fills:
                self.ledger.count(item.fill)

    async def finish(self, chain: Chain) -> Ledger:
        """Take the quotes back, wait until nothing can fill any more, and add up what the gateway lists."""
        await self.gateway.cancel_all_orders(account=ACCOUNT)
        async with asyncio.timeout(120):
            while True:
                # A short-term order has surely ended when its last block has passed.
                await chain.ask("/admin/step", {"blocks": 10})
                orders = await self.gateway.list_orders(page_size=1000)
                listed = await self._listed()
                if (
                    not any(order.is_open for order in orders.items)
                    and listed.fills == self.ledger.fills
                ):
                    return listed
                await asyncio.sleep(0.2)

    async def _listed(self) -> Ledger:
        ledger, token = Ledger(), None
        while True:
            page = await self.gateway.list_fills(FillFilter(), page_size=1000, page_token=token)
            for fill in page.items:
                ledger.count(fill)
            token = page.next_cursor
            if token is None:
                return ledger


@contextmanager
def a_local_chain(blocks_by: str) -> Iterator[Chain]:
    """Run a local chain on free ports, until left."""
    command = [sys.executable, "-m", "tradegw.transports.cli", "dydx", "localnet", "--json"]
    command += [
        "--nodes",
        "3",
        "--grpc-port",
        "0",
        "--indexer-port",
        "0",
        "--block-time",
        blocks_by,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit("the local chain does not start; is tradegw-dydx installed?")
            yield Chain(json.loads(line))
        finally:
            process.terminate()


def open_gateway(chain: Chain, directory: Path) -> contextlib.AbstractAsyncContextManager[Gateway]:
    """Return a gateway in this process with one account on the chain."""
    words = directory / "words"
    words.touch(mode=0o600)
    words.write_text(chain.told["accounts"][0]["mnemonic"])
    return tradegw.open(
        {
            "store": {"url": f"sqlite:///{directory}/tradegw.db"},
            "venues": {
                "dydx": {
                    "plugin": "dydx",
                    "network": "localnet",
                    "nodes": chain.told["grpc"],
                    "indexer_rest": chain.told["indexer_rest"],
                    "indexer_ws": chain.told["indexer_ws"],
                }
            },
            "accounts": {ACCOUNT: {"venue": "dydx", "mnemonic": f"file:{words}"}},
        }
    )


async def run(args: argparse.Namespace, chain: Chain, directory: Path) -> int:
    """Quote, compare, and return how many numbers disagree."""
    rng = Random(args.seed)
    mid = Decimal(90_000)
    _, usdc_before = await chain.holdings()
    async with open_gateway(chain, directory) as gateway, asyncio.TaskGroup() as group:
        bot = Quoter(gateway)
        follower = group.create_task(bot.follow_fills())
        for _ in range(args.blocks):
            mid += TICK * rng.randint(-25, 25)
            await chain.ask("/admin/oracle", {"ticker": TICKER, "price": str(mid)})
            # The house moves first: whoever quotes is late.
            height = (await chain.ask("/admin/step", {"blocks": 1}))["height"]
            await bot.quote(mid)
        listed = await bot.finish(chain)
        follower.cancel()
    position, usdc = await chain.holdings()
    print(f"blocks    {args.blocks}, to height {height}")
    print(f"quotes    placed {bot.placed}, taken back {bot.taken_back}")
    print(f"fills     bot {bot.ledger.fills}  gateway {listed.fills}")
    wrong = int(bot.ledger.fills != listed.fills or not listed.fills)
    for name, own, gate, venue in (
        (TICKER, bot.ledger.position, listed.position, position),
        ("USDC", bot.ledger.usdc, listed.usdc, usdc - usdc_before),
    ):
        agrees = own == gate == venue
        wrong += not agrees
        shown = "agree" if agrees else "DIFFER"
        print(f"{name:9} bot {own:f}  gateway {gate:f}  chain {venue:f}  {shown}")
    return wrong


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, a_local_chain("0") as chain:
        return asyncio.run(run(args, chain, Path(scratch)))


if __name__ == "__main__":
    sys.exit(main())
