"""`python -m benchmarks [--quick] [--json]`: everything in one run, as ratios."""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc.aio

import tradegw
from benchmarks import rest
from benchmarks.exchange import engine_orders, rest_orders, served
from benchmarks.measure import Figures, hammer, together
from benchmarks.processes import process
from benchmarks.servers import config
from benchmarks.slow import slow_commits
from tradegw.trading.v1 import enums_pb2, order_pb2, trading_gateway_pb2_grpc
from tradegw.trading.v1 import trading_gateway_pb2 as pb

PRICE = "50000"
ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the report."""

    name: str
    delay_ms: float
    figures: Figures
    bare: Figures | None = None
    wanted: str = ""

    @property
    def ratio(self) -> float | None:
        """Return our throughput as a part of the bare alternative's."""
        return None if self.bare is None else self.figures.per_second / self.bare.per_second


def a_request() -> pb.PlaceOrderRequest:
    """Return a limit order that rests."""
    return pb.PlaceOrderRequest(
        order=order_pb2.NewOrder(
            account="paper",
            symbol="BTC/USDT",
            side=enums_pb2.SIDE_BUY,
            time_in_force=enums_pb2.TIME_IN_FORCE_GTC,
            order_qty="0.001",
            limit=order_pb2.LimitTerms(price=PRICE),
        )
    )


async def unary(target: str, *, count: int, callers: int) -> Figures:
    """Measure PlaceOrder at an address."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub = trading_gateway_pb2_grpc.TradingGatewayStub(channel)
        request = a_request()
        return await hammer(lambda: stub.PlaceOrder(request), count=count, callers=callers)


async def session(target: str, *, count: int, in_flight: int) -> Figures:
    """Measure orders over one TradeSession."""
    async with tradegw.connect(target) as gateway, gateway.session() as trading:
        return await hammer(
            lambda: trading.place_order(
                account="paper",
                symbol="BTC/USDT",
                side="BUY",
                ord_type="LIMIT",
                order_qty="0.001",
                price=PRICE,
            ),
            count=count,
            callers=in_flight,
        )


async def embedded(directory: str, *, count: int, callers: int) -> Figures:
    """Measure place_order in this process."""
    # A venue in memory is another instance at each start, so each run has a record of its own.
    own = tempfile.mkdtemp(dir=directory)
    async with tradegw.open(config(own)) as gateway:
        qty, price = Decimal("0.001"), Decimal(PRICE)

        def call() -> Awaitable[object]:
            return gateway.place_order(
                account="paper",
                symbol="BTC/USDT",
                side="BUY",
                ord_type="LIMIT",
                order_qty=qty,
                price=price,
            )

        return await hammer(call, count=count, callers=callers)


async def bare_commits(directory: str, *, count: int, delay_ms: float) -> Figures:
    """Measure pairs of commits of one small row each, in a thread as an event loop must."""
    connection = sqlite3.connect(
        Path(directory, "bare.db"), isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, body TEXT) STRICT")

    def pair() -> None:
        for _ in range(2):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO row (body) VALUES (?)", ("x" * 600,))
            time.sleep(delay_ms / 1000)
            connection.execute("COMMIT")

    async def call() -> None:
        pair()

    try:
        return await hammer(call, count=count, callers=1)
    finally:
        connection.close()


async def replay(target: str, after: list[tuple[str, int]], *, count: int) -> Figures:
    """Measure reading `count` fills from a stream's start."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub = trading_gateway_pb2_grpc.TradingGatewayStub(channel)

        async def call() -> None:
            request = pb.StreamFillsRequest(
                after=[a_position(account, seq) for account, seq in after]
            )
            got = 0
            stream = stub.StreamFills(request)
            async with asyncio.timeout(60):
                async for message in stream:
                    got += len(message.items)
                    if got >= count:
                        break
            stream.cancel()

        figures = await hammer(call, count=5, callers=1)
    return Figures(
        count=figures.count * count,
        seconds=figures.seconds,
        p50_s=figures.p50_s,
        p99_s=figures.p99_s,
    )


def a_position(account: str, seq: int) -> Any:
    """Return a place in a stream."""
    return pb.Position(account=account, after_seq=seq)


async def trade(target: str, count: int) -> None:
    """Make so many fills."""
    async with tradegw.connect(target) as gateway:

        async def one() -> None:
            order = await gateway.place_order(
                account="paper",
                symbol="BTC/USDT",
                side="BUY",
                ord_type="MARKET",
                time_in_force="IOC",
                order_qty="0.0001",
            )
            assert order.ord_status is tradegw.OrdStatus.FILLED, order

        for _ in range(count // 50):
            await asyncio.gather(*(one() for _ in range(50)))


async def exchange_rows(count: int) -> list[Row]:
    """Measure the mock exchange alone."""
    rows = [Row(name="matching engine, in process", delay_ms=0, figures=engine_orders(5 * count))]
    async with process("http") as bare_address, served() as exchange:
        account = exchange["accounts"][0]
        key, secret = account["api_key"], account["api_secret"]
        rounds: dict[str, list[Figures]] = {"bare": [], "IOC": [], "MARKET": []}
        # In turns, so that whatever else the machine does meets them alike.
        for _ in range(ROUNDS):
            for kind, figures in rounds.items():
                address = bare_address if kind == "bare" else exchange["rest"]
                figures.append(
                    await rest_orders(address, key, secret, kind=kind, count=count // ROUNDS)
                )
    bare, *ours = (together(figures) for figures in rounds.values())
    rows.append(Row(name="bare HTTP, 16 callers", delay_ms=0, figures=bare))
    rows += [
        Row(
            name=f"Binance REST, {kind}, 16 callers",
            delay_ms=0,
            figures=figures,
            bare=bare,
            wanted=">= 0.5",
        )
        for kind, figures in zip(("IOC", "MARKET"), ours, strict=True)
    ]
    return rows


async def measure(*, quick: bool) -> list[Row]:
    """Measure everything."""
    count = 600 if quick else 6000
    rows: list[Row] = []
    bare: dict[int, Figures] = {}
    async with process("echo") as echo:
        for callers in (1, 16, 64):
            bare[callers] = await unary(echo, count=count, callers=callers)
            rows.append(
                Row(name=f"bare echo, {callers} callers", delay_ms=0, figures=bare[callers])
            )
        fills = 2000 if quick else 20_000
        bare_replay = await replay(echo, [("paper", fills)], count=fills)
    rows += await exchange_rows(count)
    for delay_ms in (0.0, 1.0):
        with tempfile.TemporaryDirectory() as directory:
            async with process("gateway", directory, str(delay_ms)) as target:
                rows += [
                    Row(
                        name=f"PlaceOrder, {callers} callers",
                        delay_ms=delay_ms,
                        figures=await unary(target, count=count, callers=callers),
                        bare=bare[callers],
                        wanted=">= 0.6" if callers == 64 else "",
                    )
                    for callers in (1, 16, 64)
                ]
                rows.append(
                    Row(
                        name="TradeSession, 64 in flight",
                        delay_ms=delay_ms,
                        figures=await session(target, count=count, in_flight=64),
                        bare=bare[64],
                        wanted=">= 1.5",
                    )
                )
                if not delay_ms:
                    await trade(target, fills)
                    rows.append(
                        Row(
                            name=f"StreamFills, replay of {fills}",
                            delay_ms=0,
                            figures=await replay(target, [], count=fills),
                            bare=bare_replay,
                            wanted=">= 0.5",
                        )
                    )
        with tempfile.TemporaryDirectory() as directory, slow_commits(delay_ms):
            commits = await bare_commits(directory, count=count // 4, delay_ms=delay_ms)
            rows.append(Row(name="two bare commits", delay_ms=delay_ms, figures=commits))
            rows += [
                Row(
                    name=f"embedded, {callers} callers",
                    delay_ms=delay_ms,
                    figures=await embedded(
                        directory, count=count // (4 if callers == 1 else 1), callers=callers
                    ),
                    bare=commits,
                    wanted=">= 0.67" if callers == 1 else "",
                )
                for callers in (1, 64)
            ]
    ours, ccxt = rest.measure(rounds=3 if quick else 15)
    rows.append(Row(name="ccxt create_order, HTTP stubbed", delay_ms=0, figures=ccxt))
    rows.append(
        Row(name="REST: translate, sign, parse", delay_ms=0, figures=ours, bare=ccxt, wanted=">= 5")
    )
    client, sent, whole = await rest.measure_loopback(count=count)
    rows.append(Row(name="bare aiohttp client, 16 callers", delay_ms=0, figures=client))
    rows += [
        Row(name=f"REST: {name}, 16 callers", delay_ms=0, figures=figures, bare=client)
        for name, figures in (("sent", sent), ("whole order", whole))
    ]
    return rows


def show(rows: list[Row], write: Callable[[str], None]) -> None:
    """Print a table."""
    write(
        f"{'':34}{'+ms/commit':>11}{'per second':>12}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>8}  wanted"
    )
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        write(
            f"{row.name:34}{row.delay_ms:>11g}{row.figures.per_second:>12,.0f}"
            f"{row.figures.p50_s * 1e3:>9.2f}{row.figures.p99_s * 1e3:>9.2f}{ratio:>8}  {row.wanted}"
        )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the calls, to see that it runs"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = asyncio.run(measure(quick=args.quick))
    if args.json:
        json.dump(
            [
                {
                    "name": row.name,
                    "commit_delay_ms": row.delay_ms,
                    "per_second": row.figures.per_second,
                    "p50_ms": row.figures.p50_s * 1e3,
                    "p99_ms": row.figures.p99_s * 1e3,
                    "ratio": row.ratio,
                    "wanted": row.wanted,
                }
                for row in rows
            ],
            sys.stdout,
        )
        print()
    else:
        show(rows, print)


if __name__ == "__main__":
    main()
