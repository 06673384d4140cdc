"""Gateways that share one store, each a process of its own, and bots that ask any of them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tradegw_mock.testing import MockProcess

import tradegw
from tests.e2e.ledgers import (
    Claim,
    Folded,
    check_claim,
    exchange_trades,
    recorded_fills,
    recorded_orders,
    told_trades,
)
from tests.e2e.orders import an_order, is_settled
from tests.e2e.processes import (
    REPOSITORY,
    Served,
    readiness,
    serving,
    until,
    write_config,
)
from tradegw import Gateway, Order
from tradegw.gateway.config import load_config
from tradegw.gateway.record import open_record

TTL_S = 4.0
ATTEMPT_S = 2.0
"""How long a bot waits for one gateway before it asks another, with the same key."""
PATIENCE_S = 120.0


@dataclass(eq=False)
class Replica:
    """One gateway of the fleet.

    Attributes:
        is_asked: Whether bots know of it.
    """

    name: str
    served: Served
    gateway: Gateway
    is_asked: bool = True

    @property
    def is_stopped(self) -> bool:
        """Whether the process is stopped, as by SIGSTOP."""
        stat = Path(f"/proc/{self.served.pid}/stat").read_text("ascii", "replace")
        return stat.rpartition(")")[2].split()[0] == "T"

    def go_on(self) -> None:
        self.served.tell(signal.SIGCONT)

    async def retire(self) -> None:
        """Take it from those that bots ask, and shut it down in good order."""
        self.is_asked = False
        self.served.tell(signal.SIGTERM)
        assert await self.served.ended() == 0, self.served.log.read_text("utf-8")

    async def ready(self) -> None:
        """Wait until a load balancer would send bots to it."""

        async def is_ready() -> bool:
            return (await asyncio.to_thread(readiness, self.served.http))[0] == 200

        await until(is_ready, PATIENCE_S, f"{self.name} is ready")

    async def kill(self) -> None:
        """Kill it where it stands."""
        self.is_asked = False
        self.served.tell(signal.SIGKILL)
        assert await self.served.ended() == -signal.SIGKILL

    async def holds(self) -> set[str]:
        """Return the accounts that it serves and that take orders."""
        venues = await self.gateway.list_venues()
        return {
            status.account
            for venue in venues
            for status in venue.accounts
            if status.state == "READY" and not status.holder
        }


@dataclass
class Fleet:
    """The gateways, the exchange behind them, and what the bots asked.

    Attributes:
        answers: What was answered for each key.
        takeovers: Seconds from the end of a holder to the first order that its successor placed.
    """

    exchange: MockProcess
    config: Path
    accounts: Sequence[str]
    rng: random.Random
    stack: AsyncExitStack
    replicas: list[Replica] = field(default_factory=list[Replica])
    answers: dict[str, Order] = field(default_factory=dict[str, Order])
    folded: Folded = field(default_factory=Folded)
    takeovers: list[float] = field(default_factory=list[float])
    asked: int = 0

    async def start(self, name: str, *, stop_at: str = "", source: Path | None = None) -> Replica:
        """Start a gateway, which stops itself where it is told to.

        Args:
            source: A checkout of another commit to run.
        """
        directory = self.config.parent / f"{name}-{len(self.replicas)}"
        directory.mkdir()
        variables: dict[str, Any] = {"TRADEGW_STOP_AT": stop_at} if stop_at else {}
        if source is not None:
            places = [source / "src", source / "plugins" / "tradegw-mock" / "src"]
            variables["PYTHONPATH"] = os.pathsep.join(map(str, places))
        running = serving(directory, config=self.config, **variables)
        served = await asyncio.to_thread(running.__enter__)
        self.stack.push(running.__exit__)
        gateway = await self.stack.enter_async_context(
            tradegw.connect(served.grpc, timeout_s=ATTEMPT_S)
        )
        replica = Replica(name, served, gateway)
        self.replicas.append(replica)
        return replica

    async def ask(self, key: str, account: str) -> Order:
        """Place what a key stands for through any gateway, and through another one if none answers."""
        deadline = time.monotonic() + PATIENCE_S
        fields: dict[str, Any] = {**an_order(key), "account": account}
        while True:
            replica = self.rng.choice([one for one in self.replicas if one.is_asked])
            try:
                order = await replica.gateway.place_order(**fields)
            except tradegw.Unavailable:
                # Also where it may be stored: the same key finds it.
                assert time.monotonic() < deadline, f"{key} was never answered"
                continue
            self.answers[key] = order
            return order

    async def trade(self, count: int, *, at_once: int = 16) -> None:
        """Have bots place so many orders, over all accounts."""
        numbers = iter(range(self.asked, self.asked + count))
        self.asked += count

        async def bot() -> None:
            for number in numbers:
                account = self.accounts[number % len(self.accounts)]
                await self.ask(f"k{number}-c0-o0", account)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(bot())

    async def trade_until(self, condition: Callable[[], bool], what: str) -> asyncio.Task[None]:
        """Have bots place orders until a condition holds; returns those who still wait for answers."""
        deadline = time.monotonic() + PATIENCE_S
        waiting: set[asyncio.Task[None]] = set()
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
            waiting = {task for task in waiting if not task.done()}
            if len(waiting) < 8:
                waiting.add(asyncio.create_task(self.trade(1, at_once=1)))
            await asyncio.wait(waiting, timeout=0.02, return_when=asyncio.FIRST_COMPLETED)

        async def rest() -> None:
            await asyncio.gather(*waiting)

        return asyncio.create_task(rest())

    async def taken_over(self, since: float) -> None:
        """Wait until an order of each account was placed that nobody had asked for before."""
        asks: list[asyncio.Task[None]] = []
        for account in self.accounts:
            self.asked += 1
            key = f"k{self.asked - 1}-c0-o0"

            async def one(key: str = key, account: str = account) -> None:
                await self.ask(key, account)
                self.takeovers.append(time.monotonic() - since)

            asks.append(asyncio.create_task(one()))
        await asyncio.gather(*asks)

    async def settled(self, replica: Replica) -> None:
        """Wait until every account takes orders, and nothing is in doubt."""

        async def ask() -> bool:
            try:
                return await is_settled(replica.gateway)
            except tradegw.Unavailable:
                return False

        await until(ask, PATIENCE_S, "nothing is in doubt")

    def follow(self, replica: Replica) -> asyncio.Task[None]:
        """Go on with the stream of fills at one gateway."""
        return asyncio.create_task(self.folded.read(replica.gateway))

    async def check(self, replica: Replica) -> Claim:
        """Ask every key again, and hold the end to the claim: record, streams and exchange agree."""
        await self.settled(replica)
        await self._ask_again()
        await self.folded.read(replica.gateway, to_head=True)
        orders = await recorded_orders(self.config)
        by_key = {str(order.idempotency_key): order.order_id for order in orders}
        assert len(by_key) == len(orders)
        assert by_key == {key: order.order_id for key, order in self.answers.items()}
        with self.exchange.ledger() as client:
            ledger = client.read()
        claim = check_claim(orders, ledger)
        assert told_trades(self.folded.fills) == exchange_trades(ledger)
        assert told_trades(await recorded_fills(self.config)) == exchange_trades(ledger)
        async with open_record(load_config(self.config, environ={})) as record:
            assert [problem async for problem in record.verify()] == []
        return claim

    async def _ask_again(self) -> None:
        """Ask every key again, whoever is asked: it has the same order."""
        left = iter(tuple(self.answers.items()))

        async def bot() -> None:
            for key, order in left:
                assert (await self.ask(key, order.account)).order_id == order.order_id

        async with asyncio.TaskGroup() as group:
            for _ in range(32):
                group.create_task(bot())

    def report(self, claim: Claim) -> str:
        """Say what was counted."""
        times = sorted(self.takeovers)
        p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
        return (
            f"{claim.orders} orders, {claim.at_exchange} at the exchange once, {claim.never_arrived} never "
            f"there, {claim.fills} fills; {len(times)} takeovers, p50 {statistics.median(times):.2f} s, "
            f"p99 {p99:.2f} s: all agree"
        )


@asynccontextmanager
async def fleet(
    exchange: MockProcess,
    directory: Path,
    store: str,
    accounts: Sequence[str],
    *,
    seed: int = 1,
    replicas: Mapping[str, object] | None = None,
) -> AsyncGenerator[Fleet]:
    """Yield a fleet without gateways yet; all of them end with the block."""
    config = write_config(
        directory,
        {"mock": exchange.url},
        {name: {"venue": "mock"} for name in accounts},
        store=store,
        drain_s=2.0,
    )
    said = {"enabled": "true", "ttl_s": TTL_S, "margin_s": TTL_S / 4, **(replicas or {})}
    with config.open("a", encoding="utf-8") as file:
        file.write("[replicas]\n" + "".join(f"{key} = {value}\n" for key, value in said.items()))
    async with AsyncExitStack() as stack:
        yield Fleet(exchange, config, accounts, random.Random(seed), stack)


def previous_source(directory: Path) -> Path | None:
    """Check the previous commit out; None where there is none, or none that knows of replicas."""
    here = ["git", "-C", str(REPOSITORY)]
    known = subprocess.run(
        [*here, "cat-file", "-e", "HEAD~1:src/tradegw/gateway/forwarding.py"],
        check=False,
        capture_output=True,
    )
    if known.returncode:
        return None
    directory.mkdir()
    archive = subprocess.run([*here, "archive", "HEAD~1"], check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive.stdout, check=True)
    return directory
