"""A small market maker. It quotes both sides of one market, and at the end compares three ledgers.

    python examples/market_maker.py                      # embedded: the gateway is in this process
    python examples/market_maker.py --target HOST:PORT   # remote: the same bot against `tradegw serve`

Its own ledger is what it added up from the stream of fills. The gateway's is what `list_fills` says.
The exchange's is what the exchange itself tells of the account's balances. All three must agree
to the last digit.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

import tradegw
from tradegw import FillFilter, Gateway, Order, Side

TICK = Decimal("0.01")


@dataclass
class Ledger:
    """What fills did to each asset: bought and sold amounts, less fees."""

    base: str
    quote: str
    moved: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    fills: int = 0

    def count(self, fill: tradegw.Fill) -> None:
        """Add one fill."""
        sign = 1 if fill.side is Side.BUY else -1
        self.moved[self.base] += sign * fill.last_qty
        self.moved[self.quote] -= sign * fill.last_qty * fill.last_px
        if fill.fee is not None and fill.fee_asset is not None:
            self.moved[fill.fee_asset] -= fill.fee
        self.fills += 1

    def settled(self) -> Mapping[str, Decimal]:
        """Return what moved, without zeros."""
        return {asset: amount for asset, amount in sorted(self.moved.items()) if amount}


class MarketMaker:
    """Keeps some bids and asks around a price that it follows from its own fills."""

    def __init__(self, gateway: Gateway, account: str, symbol: str, seed: int) -> None:
        self.gateway = gateway
        self.account = account
        self.symbol = symbol
        self.rng = Random(seed)
        base, quote = symbol.split("/")
        self.ledger = Ledger(base, quote)
        self.mid = Decimal(0)
        self.statuses: Counter[str] = Counter()
        self._moved = asyncio.Event()

    async def run(self, orders: int, at_once: int) -> None:
        """Quote until so many orders were placed."""
        await self._find_price()
        left = orders

        async def quote() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                order = await self._place()
                if order.is_open and not order.in_doubt:
                    order = await self._cancel(order)
                self.statuses[order.ord_status.value] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(quote())
        await self.gateway.cancel_all_orders(account=self.account)

    async def _find_price(self) -> None:
        taste = await self.gateway.place_order(
            account=self.account,
            symbol=self.symbol,
            side="buy",
            ord_type="market",
            time_in_force="IOC",
            order_qty="0.001",
        )
        if taste.avg_px is None:
            raise SystemExit(f"no price: {taste.ord_status} {taste.reason} {taste.text}")
        self.mid = taste.avg_px.quantize(TICK)

    async def _place(self) -> Order:
        side = self.rng.choice([Side.BUY, Side.SELL])
        # Some quotes cross the spread and trade at once, others rest and are taken or cancelled.
        away = TICK * self.rng.randint(-2000, 4000)
        price = self.mid - away if side is Side.BUY else self.mid + away
        return await self.gateway.place_order(
            account=self.account,
            symbol=self.symbol,
            side=side,
            ord_type="limit",
            order_qty=Decimal(self.rng.randint(1, 20)) / 1000,
            price=price,
            tags={"bot": "market-maker"},
        )

    async def _cancel(self, order: Order) -> Order:
        try:
            return await self.gateway.cancel_order(order.order_id)
        except tradegw.Conflict:
            # A fill was faster.
            return await self.gateway.get_order(order.order_id)

    async def follow_fills(self) -> None:
        """Add up every fill from the stream, until cancelled."""
        async for batch in self.gateway.stream_fills(accounts=[self.account]):
            for item in batch.fills:
                if item.fill.symbol == self.symbol:
                    self.ledger.count(item.fill)
                    self.mid = item.fill.last_px
            self._moved.set()

    async def has_counted(self, fills: int) -> None:
        """Wait until the stream has brought so many fills."""
        async with asyncio.timeout(60):
            while self.ledger.fills < fills:
                self._moved.clear()
                await self._moved.wait()


async def gateway_ledger(gateway: Gateway, bot: MarketMaker) -> Ledger:
    """Add up the fills that the gateway lists."""
    ledger = Ledger(bot.ledger.base, bot.ledger.quote)
    token = None
    while True:
        page = await gateway.list_fills(
            FillFilter(accounts=(tradegw.AccountName(bot.account),), symbol=bot.symbol),
            page_size=1000,
            page_token=token,
        )
        for fill in page.items:
            ledger.count(fill)
        token = page.next_cursor
        if token is None:
            return ledger


async def exchange_balances(gateway: Gateway, account: str) -> dict[str, Decimal]:
    """Return the account's balances as the exchange tells them."""
    return {b.asset: b.free + b.held for b in await gateway.list_balances(account)}


def open_door(args: argparse.Namespace) -> AbstractAsyncContextManager[Gateway]:
    """Return the gateway. This is the one line in which embedded and remote differ."""
    if args.target:
        return tradegw.connect(args.target)
    mock: dict[str, Any] = (
        {"plugin": "mock", "url": args.exchange} if args.exchange else {"plugin": "mock"}
    )
    return tradegw.open(
        {
            "store": {"url": args.store},
            "venues": {"mock": mock},
            "accounts": {args.account: {"venue": "mock"}},
        }
    )


async def run(args: argparse.Namespace) -> int:
    """Trade, compare, and return how many numbers disagree."""
    async with open_door(args) as gateway:
        bot = MarketMaker(gateway, args.account, args.symbol, args.seed)
        before = await exchange_balances(gateway, args.account)
        earlier = await gateway_ledger(gateway, bot)
        async with asyncio.TaskGroup() as group:
            follower = group.create_task(bot.follow_fills())
            await bot.run(args.orders, args.at_once)
            listed = await gateway_ledger(gateway, bot)
            await bot.has_counted(listed.fills)
            follower.cancel()
        expected = {
            asset: before.get(asset, Decimal(0)) + listed.moved[asset] - earlier.moved[asset]
            for asset in (bot.ledger.base, bot.ledger.quote)
        }
        # Balances follow by the venue's stream, a moment after the fills.
        for _ in range(200):
            after = await exchange_balances(gateway, args.account)
            if all(after.get(asset) == amount for asset, amount in expected.items()):
                break
            await asyncio.sleep(0.05)

        print(f"orders   {args.orders}: {dict(sorted(bot.statuses.items()))}")
        wrong = 0
        for asset in (bot.ledger.base, bot.ledger.quote):
            own, gate = bot.ledger.moved[asset], listed.moved[asset]
            venue = (
                after.get(asset, Decimal(0)) - before.get(asset, Decimal(0)) + earlier.moved[asset]
            )
            agrees = own == gate == venue
            wrong += not agrees
            print(
                f"{asset:8} bot {own}  gateway {gate}  exchange {venue}  {'agree' if agrees else 'DIFFER'}"
            )
        print(f"fills    bot {bot.ledger.fills}  gateway {listed.fills}")
        return wrong + (bot.ledger.fills != listed.fills)


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--target", help="HOST:PORT of a served gateway; without it, embedded")
    parser.add_argument(
        "--exchange", help="embedded: HOST:PORT of `tradegw mock serve`; without it, in process"
    )
    parser.add_argument(
        "--store", default="sqlite:///market-maker.db", help="embedded: the store's URL"
    )
    parser.add_argument("--account", default="paper")
    parser.add_argument("--symbol", default="BTC/USDT")
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
