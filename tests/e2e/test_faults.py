"""Every kind of fault times every command, on an exchange in another process: none lost, none doubled."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tradegw_mock.chaos import FaultKind
from tradegw_mock.testing import MockProcess

import tradegw
from tests.e2e.faults import PLANS, TIMEOUT_S, Cell, Doubts, Trail, quantile
from tests.e2e.ledgers import Folded, all_orders, check_claim, exchange_trades, told_trades
from tests.e2e.processes import until
from tradegw import Gateway, OrderFilter, OrdStatus

SETTLED_WITHIN_S = 480.0
KINDS_AT_ONCE = 3
PENDING = (OrdStatus.PENDING_NEW, OrdStatus.PENDING_CANCEL, OrdStatus.PENDING_REPLACE)
FUNDS = {"BTC": "1000", "USDT": "100000000"}


def group(kinds: Sequence[FaultKind]) -> list[tuple[FaultKind, ...]]:
    """Restarts hit everybody, so they are played alone."""
    others = [kind for kind in kinds if kind is not FaultKind.RESTART]
    return [tuple(others), (FaultKind.RESTART,)]


async def play(
    directory: Path, kinds: Sequence[FaultKind], wanted: int, tell: Callable[[str], None]
) -> None:
    """Play kinds of fault, each until so many orders were hit, and hold the record to the exchange's books.

    Args:
        wanted: Of each kind; shared by the commands that it can meet.
    """
    started = time.monotonic()
    with MockProcess(seed=7) as exchange:
        cells = [
            Cell(kind, command, Trail(exchange))
            for kind in kinds
            for command in PLANS[kind].commands
        ]
        config = {
            "store": {"url": f"sqlite:///{directory}/tradegw.db"},
            "venues": {"mock": {"plugin": "mock", "url": exchange.url}},
            "accounts": {
                cell.account: {"venue": "mock", "execute_timeout_s": TIMEOUT_S, "balances": FUNDS}
                for cell in cells
            },
        }
        async with tradegw.open(config) as gateway:
            places = asyncio.Semaphore(KINDS_AT_ONCE)

            async def of_kind(kind: FaultKind) -> None:
                async with places:
                    mine = [cell for cell in cells if cell.kind is kind]
                    await asyncio.gather(
                        *(cell.play(gateway, -(-wanted // len(mine))) for cell in mine)
                    )

            await asyncio.gather(*(of_kind(kind) for kind in kinds))
            judged = [await judge(gateway, exchange, cell) for cell in cells]
    report = [row for row, _ in judged]
    for kind in kinds:
        assert sum(row["hit"] for row in report if row["kind"] == kind) >= wanted, kind
        doubts = [s for row, doubts in judged if row["kind"] == kind for s in doubts]
        report.append(whole([row for row in report if row["kind"] == kind], doubts))
    (directory / "faults.json").write_text(json.dumps(report, indent=1), "utf-8")
    tell(table(report) + f"\n{time.monotonic() - started:.0f} s; {directory}/faults.json")


def whole(rows: Sequence[dict[str, Any]], doubts: Sequence[float]) -> dict[str, Any]:
    """Add the commands of a kind up."""
    sums = ("sent", "hit", "orders", "never_arrived", "fills", "in_doubt")
    ended: Counter[str] = Counter()
    for row in rows:
        ended += row["ended"]
    return {
        "kind": rows[0]["kind"],
        "command": "all",
        **{name: sum(row[name] for row in rows) for name in sums},
        "ended": ended,
        "p50_s": quantile(doubts, 0.5),
        "p99_s": quantile(doubts, 0.99),
    }


async def judge(
    gateway: Gateway, exchange: MockProcess, cell: Cell
) -> tuple[dict[str, Any], list[float]]:
    """Wait until nothing of a cell is in doubt; then its orders and fills are the exchange's, each once.

    Returns: What is told of the cell, and for how long each of its commands was in doubt, in seconds.
    """
    folded, where = Folded(), OrderFilter(accounts=(cell.account,))
    ledger = None

    async def agree() -> bool:
        nonlocal ledger
        accounts = [a for venue in await gateway.list_venues() for a in venue.accounts]
        status = next(a for a in accounts if a.account == cell.account)
        if status.state != "READY" or status.in_doubt:
            return False
        # A cancel that was throttled waits here to be sent again: that is no doubt, and no end either.
        if (await gateway.list_orders(replace(where, statuses=PENDING), page_size=1)).items:
            return False
        with exchange.ledger() as client:
            ledger = client.read(cell.account)
        await folded.read(gateway, to_head=True, accounts=[cell.account])
        return told_trades(folded.fills) == exchange_trades(ledger)

    await until(agree, SETTLED_WITHIN_S, f"{cell.account}: nothing in doubt, and all fills told")
    assert ledger is not None
    orders = await all_orders(gateway, where)
    claim = check_claim(orders, ledger)
    assert not any(order.in_doubt for order in orders)
    doubts = (await Doubts.read(gateway, cell.account)).seconds[cell.command]
    row = {
        "kind": cell.kind,
        "command": cell.command,
        "sent": cell.sent,
        "hit": len(cell.hit),
        "orders": claim.orders,
        "never_arrived": claim.never_arrived,
        "fills": claim.fills,
        "ended": Counter(order.ord_status.value for order in orders),
        "in_doubt": len(doubts),
        "p50_s": quantile(doubts, 0.5),
        "p99_s": quantile(doubts, 0.99),
    }
    return row, doubts


def table(report: Sequence[dict[str, Any]]) -> str:
    """Lay the report out for people: each command of a kind, and the kind as a whole."""
    report = sorted(report, key=lambda row: row["kind"])
    head = ("fault", "command", "sent", "hit", "absent", "fills", "in doubt", "p50 s", "p99 s")
    lines = ["{:18} {:8}{:>7}{:>7}{:>7}{:>7}{:>9}{:>8}{:>8}".format(*head)]
    lines += [
        f"{r['kind']:18} {r['command']:8}{r['sent']:7}{r['hit']:7}{r['never_arrived']:7}{r['fills']:7}"
        f"{r['in_doubt']:9}{r['p50_s']:8.2f}{r['p99_s']:8.2f}"
        for r in report
    ]
    return "\n".join(lines)


def test_every_kind_of_fault_has_a_plan() -> None:
    assert set(PLANS) == set(FaultKind)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kinds", group([*FaultKind]), ids=["faults", "restarts"])
async def test_what_a_fault_hits_is_neither_lost_nor_doubled(
    tmp_path: Path, tell: Callable[[str], None], kinds: Sequence[FaultKind]
) -> None:
    await play(tmp_path, kinds, 300, tell)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kinds", [(kind,) for kind in FaultKind], ids=lambda kinds: kinds[0].value)
async def test_ten_thousand_orders_hit_by_each_kind_of_fault(
    tmp_path: Path, tell: Callable[[str], None], kinds: Sequence[FaultKind]
) -> None:
    await play(tmp_path, kinds, 10_000, tell)
