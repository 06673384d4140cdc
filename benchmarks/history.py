"""`python -m benchmarks.history [--orders N] [--open N]`: a gateway on a long record against one on a short.

On SQLite and, where a server runs, on Postgres, in one run. Each record is written by the store's own writer,
and the long one verified; each gateway is a process of its own. The short record has two pages of closed
orders and as many open ones: nothing that is compared should grow with the record. Start-up is until the open
orders are read; the mock exchange of a new process knows none of them, and its answers are not waited for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import tradegw
from benchmarks.servers import config
from codegen.postgres import database, running_server
from tradegw.gateway.clock import SystemClock
from tradegw.model import (
    AccountId,
    AccountName,
    ClientOrderId,
    ExecType,
    ExecutionReport,
    Order,
    OrderFilter,
    OrderId,
    OrdType,
    Side,
    TimeInForce,
    TradeId,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw.model.lifecycle import apply, record_intent
from tradegw.ports import AccountRecord, Claim, Entry, Stored, VenueOrderRef
from tradegw.store import SqlStore, open_store
from tradegw.store.postgres_schema import migrate_postgres

ACCOUNT = AccountName("paper")
LOOKS = 200
PAGE = 100
_TOGETHER = 512
_DAY_NS = 86_400_000_000_000


async def fill(url: str, *, closed: int, opened: int) -> None:
    """Write orders that were filled over a year, and some that rest."""
    store = await open_store(url, clock=SystemClock())
    try:
        now = time.time_ns()
        record = await store.put_account(
            AccountRecord(
                account_id=AccountId(uuid4()),
                account=ACCOUNT,
                venue="mock",
                plugin="mock",
                created_time_ns=now,
            )
        )
        total = closed + opened
        step_ns = 365 * _DAY_NS // max(total, 1)
        for first in range(0, total, _TOGETHER):
            await asyncio.gather(
                *(
                    _write(
                        store,
                        record,
                        number,
                        time_ns=now - (total - number) * step_ns,
                        is_filled=number < closed,
                    )
                    for number in range(first, min(first + _TOGETHER, total))
                )
            )
    finally:
        await store.close()


async def _write(
    store: SqlStore, record: AccountRecord, number: int, *, time_ns: int, is_filled: bool
) -> None:
    name = VenueClientOrderId(f"v-{number}")
    order = Order(
        order_id=OrderId(uuid4()),
        account=record.account,
        venue=record.venue,
        symbol="BTC/USDT",
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        time_in_force=TimeInForce.GTC,
        order_qty=Decimal("0.01"),
        leaves_qty=Decimal("0.01"),
        price=Decimal(65000),
        client_order_id=ClientOrderId(f"c-{number}"),
        idempotency_key=f"c-{number}",
        venue_client_order_id=name,
        created_time_ns=time_ns,
        updated_time_ns=time_ns,
    )
    order, events = record_intent(order, request_id="")
    claim = Claim(
        scope=record.account,
        idempotency_key=f"c-{number}",
        fingerprint="v1:history",
        operation="place_order",
        order_id=order.order_id,
        created_time_ns=time_ns,
    )
    ref = VenueOrderRef(
        order_id=order.order_id,
        generation=0,
        venue_client_order_id=name,
        order_qty=order.order_qty,
        digest="",
    )
    stored = await store.append(
        Entry(account_id=record.account_id, events=events, claim=claim, is_new_order=True, ref=ref)
    )
    assert isinstance(stored, Stored)
    report = ExecutionReport(
        exec_type=ExecType.TRADE if is_filled else ExecType.NEW,
        venue_order_id=VenueOrderId(f"x-{number}"),
        transact_time_ns=time_ns,
        received_time_ns=time_ns,
    )
    if is_filled:
        report = replace(
            report,
            trade_id=TradeId(f"t-{number}"),
            last_qty=Decimal("0.01"),
            last_px=Decimal(64999),
        )
    _, events = apply(replace(order, seq=stored.events[-1].seq), report)
    assert isinstance(
        await store.append(Entry(account_id=record.account_id, events=events)), Stored
    )


async def prove(url: str) -> int:
    """Return how many contradictions `verify` finds."""
    store = await open_store(url, clock=SystemClock(), read_only=True)
    try:
        return len([problem async for problem in store.verify()])
    finally:
        await store.close()


async def measure(url: str) -> dict[str, float]:
    """Run a gateway on a store, in this process, and ask it."""
    settings = {**config("."), "store": {"url": url}}
    begun = time.perf_counter()
    async with tradegw.open(settings, ready_timeout_s=0.001) as gateway:
        started = time.perf_counter() - begun
        now = time.time_ns()
        middle = OrderFilter(created_before_ns=now - 180 * _DAY_NS)
        page = await gateway.list_orders(middle, page_size=PAGE)
        ids: list[UUID] = [order.order_id for order in page.items]
        rng = random.Random(7)
        return {
            "start-up, ms": started * 1000,
            "GetOrderStatus, ms": await _timed(
                lambda: gateway.get_order(OrderId(rng.choice(ids))), LOOKS
            ),
            "ListOrders, first page, ms": await _timed(
                lambda: gateway.list_orders(page_size=PAGE), LOOKS // 10
            ),
            "ListOrders, a page from the middle, ms": await _timed(
                lambda: gateway.list_orders(middle, page_size=PAGE), LOOKS // 10
            ),
            "memory, MB": _memory_mb(),
        }


async def _timed(call: Any, count: int) -> float:
    took: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        await call()
        took.append(time.perf_counter() - begun)
    return median(took) * 1000


def _memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * 4096 / 1e6


def in_process(url: str) -> dict[str, float]:
    """Measure in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.history", "--measure", url],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(engine: str, urls: Sequence[str], *, closed: int, opened: int) -> None:
    """Fill two stores, and print what gateways on both are like."""
    asyncio.run(fill(urls[0], closed=2 * PAGE, opened=opened))
    begun = time.perf_counter()
    asyncio.run(fill(urls[1], closed=closed, opened=opened))
    wrote = time.perf_counter() - begun
    begun = time.perf_counter()
    problems = asyncio.run(prove(urls[1]))
    verified = time.perf_counter() - begun
    print(
        f"{engine}: {closed:,} closed and {opened:,} open orders written in {wrote:.0f} s; verify found "
        f"{problems} problems in {verified:.0f} s"
    )
    short, full = in_process(urls[0]), in_process(urls[1])
    print(f"  {'':42}{'short':>10}{'long':>10}{'ratio':>8}")
    for name, value in short.items():
        print(f"  {name:42}{value:>10.2f}{full[name]:>10.2f}{full[name] / value:>8.2f}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=1_000_000, help="closed orders")
    parser.add_argument("--open", type=int, default=1000, help="open orders")
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    parser.add_argument("--measure", metavar="URL", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(asyncio.run(measure(asked.measure))))
        return
    counts = {"closed": asked.orders, "opened": asked.open}
    if asked.only != "postgres":
        with tempfile.TemporaryDirectory() as directory:
            report("sqlite", [f"sqlite:///{directory}/{name}.db" for name in ("a", "b")], **counts)
    if asked.only != "sqlite":
        with running_server() as server, database(server) as empty, database(server) as full:
            for url in (empty, full):
                asyncio.run(migrate_postgres(url, time_ns=time.time_ns()))
            report("postgres", [empty, full], **counts)


if __name__ == "__main__":
    main()
