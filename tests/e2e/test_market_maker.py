"""The example bot, embedded and remote, on an exchange in another process: three ledgers agree."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import pytest
from tradegw_mock.testing import Ledger, MockProcess

from tests.e2e.ledgers import (
    check_claim,
    exchange_trades,
    recorded_fills,
    recorded_orders,
    told_trades,
)
from tests.e2e.processes import REPOSITORY, run, serving, verify, write_config

BOT = REPOSITORY / "examples" / "market_maker.py"
DOORS = ["embedded", "remote"]


def balances(ledger: Ledger) -> dict[str, Decimal]:
    return {asset: b.free + b.held for asset, b in ledger.balances["paper"].items()}


def moved(ledger: Ledger) -> Mapping[str, Decimal]:
    """Add up what the exchange's own fills moved."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for fill in ledger.fills:
        base, quote = fill.symbol.split("/")
        sign = 1 if fill.side.value == "BUY" else -1
        sums[base] += sign * fill.qty
        sums[quote] -= sign * fill.quote_qty
        sums[fill.fee_asset] -= fill.fee
    return sums


def make_market(
    exchange: MockProcess, directory: Path, door: str, orders: int, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(BOT), "--orders", str(orders), "--at-once", "8"]
    with ExitStack() as stack:
        if door == "remote":
            config = directory / "tradegw.toml"
            served = stack.enter_context(serving(directory, config=config))
            words += ["--target", served.grpc]
        else:
            words += ["--exchange", exchange.url, "--store", f"sqlite:///{directory}/tradegw.db"]
        done = run(words, cwd=directory, timeout_s=timeout_s)
        if door == "remote":
            assert served.stop() == 0
    return done


async def trade_and_compare(
    exchange: MockProcess,
    directory: Path,
    door: str,
    orders: int,
    timeout_s: float,
    tell: Callable[[str], None],
) -> None:
    config = write_config(directory, {"mock": exchange.url}, {"paper": {"venue": "mock"}})
    with exchange.ledger() as client:
        before = balances(client.read("paper"))
    done = await asyncio.to_thread(make_market, exchange, directory, door, orders, timeout_s)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" agree") == 2, done.stdout
    with exchange.ledger() as client:
        ledger = client.read("paper")

    recorded, fills = await recorded_orders(config), await recorded_fills(config)
    # The bot's own orders, and the one that found the price.
    assert len(recorded) == orders + 1
    claim = check_claim(recorded, ledger)
    # It crosses the spread now and then: an order whose limit the exchange refuses is not there.
    assert claim.at_exchange + claim.never_arrived == orders + 1
    assert not any(order.is_open or order.in_doubt for order in recorded)
    assert told_trades(fills) == exchange_trades(ledger)
    by_exchange = moved(ledger)
    after = balances(ledger)
    for asset in after:
        assert after[asset] - before[asset] == by_exchange[asset], asset
    for asset in ("BTC", "USDT"):
        # The last digit of what the bot printed, which is its own ledger.
        told = re.search(
            rf"^{asset} +bot (\S+)  gateway (\S+)  exchange (\S+)", done.stdout, re.MULTILINE
        )
        assert told is not None, done.stdout
        assert {Decimal(text) for text in told.groups()} == {by_exchange[asset]}
    verify(config)
    tell(f"market maker, {door}: {done.stdout.strip()}")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("door", DOORS)
async def test_three_ledgers_agree(
    exchange: MockProcess, tmp_path: Path, door: str, tell: Callable[[str], None]
) -> None:
    await trade_and_compare(exchange, tmp_path, door, 500, 150, tell)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("door", DOORS)
async def test_three_ledgers_agree_after_ten_thousand_orders(
    exchange: MockProcess, tmp_path: Path, door: str, tell: Callable[[str], None]
) -> None:
    await trade_and_compare(exchange, tmp_path, door, 10_000, 1400, tell)
