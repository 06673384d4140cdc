"""Random trading through random faults: the books stay straight, and the trail counts what was hit."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tradegw_mock.chaos import Fault, FaultKind, FaultSpec
from tradegw_mock.chaos.desk import ErrorAnswered, Unanswered
from tradegw_mock.exchange import (
    Exchange,
    OrderEvent,
    OrderRequest,
    OrdType,
    Refusal,
    RequestRecord,
    Side,
)
from tradegw_mock.feed import FeedGap
from tradegw_mock.host import Host, HostSettings, StreamCut, open_host
from tradegw_mock.requests import (
    Batch,
    Cancel,
    CancelAll,
    GetOrder,
    ListFills,
    ListOpenOrders,
    Place,
    Replace,
    Request,
)

from .venue_helpers import D, Runtime

STEPS = 300
ACCOUNTS = ("alice", "bob")
SYMBOLS = ("BTC/USDT", "ETH/USDT")


class Night:
    """Two traders, somebody who injects faults, and who follows the streams, all by chance."""

    def __init__(self, host: Host, runtime: Runtime, seed: int) -> None:
        self.host = host
        self.runtime = runtime
        self.rng = random.Random(seed)
        self.given: list[Fault] = []
        self.outcomes: Counter[str] = Counter()
        self.names = 0

    def a_fault(self) -> FaultSpec:
        rng = self.rng
        kind = rng.choice(list(FaultKind))
        return FaultSpec(
            kind=kind,
            account=rng.choice(["", *ACCOUNTS]),
            symbol=rng.choice(["", "", *SYMBOLS]),
            route=rng.choice(["", "", "*", "place"]),
            times=rng.choice([None, 0, 1, 3]),
            probability=rng.choice([1.0, 0.5]),
            start_s=rng.choice([0.0, 0.5]),
            for_s=rng.choice([None, 2.0]),
            keep_streams=rng.choice([True, False]) if kind is FaultKind.RESTART else None,
        )

    def a_request(self) -> Request:
        rng = self.rng
        account, name = rng.choice(ACCOUNTS), f"c{rng.randint(0, max(self.names, 1))}"
        match rng.randrange(10):
            case 0 | 1:
                return Cancel(account=account, client_order_id=name)
            case 2:
                return Replace(account=account, client_order_id=name, order_qty=D("0.03"))
            case 3:
                return rng.choice(
                    [
                        CancelAll(account=account),
                        ListOpenOrders(account=account),
                        ListFills(account=account),
                        GetOrder(account=account, client_order_id=name),
                        Batch(account=account, items=(self.a_place(account),)),
                    ]
                )
            case _:
                return self.a_place(account)

    def a_place(self, account: str) -> Place:
        rng = self.rng
        self.names += 1
        symbol = rng.choice(SYMBOLS)
        base = D(100 if symbol == "BTC/USDT" else 50)
        request = OrderRequest(
            symbol=symbol,
            side=rng.choice(list(Side)),
            ord_type=OrdType.LIMIT,
            order_qty=D(rng.randrange(10, 300)) / 100,
            price=base + rng.randrange(-5, 6),
            client_order_id=f"c{self.names}",
        )
        until_ns = self.runtime.now_ns + 5_000_000_000
        return Place(account=account, order=request, valid_until_ns=until_ns)

    async def ask(self, request: Any) -> None:
        try:
            await self.host.ask(request)
        except (Unanswered, ErrorAnswered, Refusal) as e:
            self.outcomes[type(e).__name__] += 1
        else:
            self.outcomes["answered"] += 1

    async def follow(self, account: str) -> None:
        """Read a stream; whatever it carries, each event is one that happened."""
        while True:
            feed = self.host.feed(account)
            after = feed.last_seq
            try:
                async for events in self.host.follow(account, feed, after):
                    for event in events:
                        assert event.account == account
                        assert after < event.seq <= feed.last_seq
                        if isinstance(event, OrderEvent) and event.fill is not None:
                            assert event.fill.account == account
            except (StreamCut, FeedGap):
                self.outcomes["cut"] += 1

    async def run(self) -> None:
        asked: list[asyncio.Task[None]] = []
        following = [asyncio.create_task(self.follow(account)) for account in ACCOUNTS]
        try:
            for _ in range(STEPS):
                if self.rng.random() < 0.1:
                    self.given.append(await self.host.faults.inject(self.a_fault()))
                if self.rng.random() < 0.03:
                    await self.host.faults.take_back_all()
                asked.append(asyncio.create_task(self.ask(self.a_request())))
                await asyncio.sleep(0)
                await self.runtime.advance(self.rng.choice([0.0, 0.01, 0.3]))
                assert self.host.exchange.check_books() == []
            # Whatever was held back comes now; the delays of several faults add up.
            while not all(task.done() for task in asked):
                await self.runtime.advance(1)
            for task in asked:
                task.result()
            for task in following:
                assert not task.done(), task.exception()
        finally:
            for task in following:
                task.cancel()
            await asyncio.wait(following)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
async def test_books_stay_straight_through_any_night(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "exchange.db"
    runtime = Runtime()
    settings = HostSettings(path=path, liquidity="none", seed=seed)
    funds = {"BTC": D(100), "ETH": D(100), "USDT": D(10_000)}
    async with open_host(settings, clock=runtime.time_ns, sleep=runtime.sleep) as host:
        for name in ACCOUNTS:
            await host.open_account(name, funds)
        night = Night(host, runtime, seed)
        await night.run()
        assert host.exchange.check_invariants() == []
        assert host.pace.violations == ()
        hits = Counter(
            int(detail.arguments["fault"])
            for record in host.exchange.audit()
            if isinstance(detail := record.detail, RequestRecord)
            and detail.operation == "FAULT_HIT"
        )
        assert hits == Counter({f.fault_id: f.hits for f in night.given if f.hits})
        assert len(hits) > 5, "much went wrong"
        assert night.outcomes["answered"] > STEPS / 4
        before = told(host.exchange)
    # The same from the file, as after a kill: nothing that was told is other than on disk.
    async with open_host(settings, clock=runtime.time_ns, sleep=runtime.sleep) as host:
        assert told(host.exchange) == before
        assert host.exchange.check_invariants() == []


async def test_streams_that_are_lost_before_a_commit_go_on_with_it(tmp_path: Path) -> None:
    """What had happened and was not on disk yet is told by the new streams, and breaks nothing."""
    runtime = Runtime()
    settings = HostSettings(path=tmp_path / "exchange.db", liquidity="none")
    async with open_host(settings, clock=runtime.time_ns, sleep=runtime.sleep) as host:
        await host.open_account("alice", {"USDT": D(1000)})
        night = Night(host, runtime, seed=1)
        order = night.a_place("alice").order
        host.exchange.place("alice", order)
        host.forget_feeds()
        feed = host.feed("alice")
        batches = host.follow("alice", feed, feed.last_seq)
        async with asyncio.timeout(30):
            await host.settle()
            events = await anext(batches)
        await batches.aclose()
        assert [event.seq for event in events] == [2, 3]
        assert host.exchange.check_invariants() == []


def told(exchange: Exchange) -> Any:
    return (
        exchange.order_history(None, limit=10**6).orders,
        exchange.fills(None, limit=10**6),
        {
            (account.name, asset): (balance.free, balance.held)
            for account in exchange.accounts()
            for asset, balance in exchange.balances(account.name).items()
            if balance.free or balance.held
        },
    )
