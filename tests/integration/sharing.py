"""Gateways that share one store in Postgres, in one process; who holds which account is up to the test."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tradegw.engine.account import AccountSettings
from tradegw.engine.engine import Engine
from tradegw.engine.members import AccountPlan
from tradegw.engine.routing import Route
from tradegw.engine.venue_ids import gateway_tag
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.following import Follower
from tradegw.gateway.forwarding import ForwardingGateway
from tradegw.gateway.metrics import Metrics
from tradegw.gateway.peers import Peers
from tradegw.model import AccountId, AccountName
from tradegw.plugins import load_plugins
from tradegw.ports import AccountRecord, LeaseHolder
from tradegw.store.postgres import PostgresStore, open_postgres
from tradegw.store.postgres_leases import PostgresLeases
from tradegw.store.postgres_notices import PostgresNotices
from tradegw.testing import ScriptedExchange, ScriptedPlugin
from tradegw.transports.grpc.peer import Peer
from tradegw.transports.grpc.server import serve

TTL_S = 60.0


@dataclass
class Table:
    """Who holds what, for every replica to see."""

    held: dict[AccountName, str] = field(default_factory=dict[AccountName, str])
    addresses: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class View:
    """A `Holders`: the table as one replica reads it."""

    table: Table
    name: str

    def is_ours(self, account: AccountName) -> bool:
        return self.table.held.get(account) == self.name

    async def address_of(self, account: AccountName) -> str | None:
        return self.table.addresses.get(self.table.held.get(account, ""))


class DeafNotices(PostgresNotices):
    """Hears nothing of what is told, as when every notice is lost."""

    async def listen(self) -> AsyncGenerator[str | None]:
        yield None
        await asyncio.Event().wait()


@dataclass
class Replica:
    """One of the gateways."""

    name: str
    gateway: ForwardingGateway
    engine: Engine
    store: PostgresStore
    address: str


class Desk:
    """The replicas, and the exchange behind them."""

    def __init__(self, url: str, accounts: Sequence[str]) -> None:
        self.clock = SystemClock()
        self.table = Table()
        self.exchanges = {name: ScriptedExchange(self.clock) for name in accounts}
        self.plans = [self._plan(name) for name in accounts]
        self.replicas: dict[str, Replica] = {}
        self._url = url
        self._leases = PostgresLeases(url)
        self._ids: dict[AccountName, AccountId] = {}

    def _plan(self, name: str) -> AccountPlan:
        plugin = ScriptedPlugin(self.exchanges[name])
        return AccountPlan(
            route=Route(account=AccountName(name), venue=plugin.name, tags={"desk": name}),
            plugin=plugin.name,
            settings=AccountSettings(tag=gateway_tag("bench")),
            open_venue=lambda: plugin.open(None, None),  # type: ignore[arg-type]
        )

    @asynccontextmanager
    async def replica(self, name: str, *, is_deaf: bool = False) -> AsyncGenerator[Replica]:
        """Run a replica that holds nothing yet."""
        async with AsyncExitStack() as stack:
            store = await open_postgres(self._url, is_shared=True)
            stack.push_async_callback(store.close)
            group = await stack.enter_async_context(asyncio.TaskGroup())
            routes = [plan.route for plan in self.plans]
            engine = Engine(
                store=store,
                clock=self.clock,
                plugins=load_plugins(()),
                group=group,
                rng=random.Random(1),
                meter=Metrics(),
                routes=routes,
            )
            await engine.start([])
            peers = Peers(Peer)
            stack.push_async_callback(peers.close)
            view = View(self.table, name)
            gateway = ForwardingGateway(
                routes, {plan.route.venue: plan.plugin for plan in self.plans}, view, peers
            )
            notices = (DeafNotices if is_deaf else PostgresNotices)(self._url)
            follower = Follower(engine, notices, self.clock, is_ours=view.is_ours)
            following = group.create_task(follower.run())
            gateway.attach(engine)
            door = await stack.enter_async_context(
                serve(gateway, port=0, operations=gateway, metrics=Metrics(), grace_s=1.0)
            )
            self.table.addresses[name] = door.address
            self.replicas[name] = made = Replica(name, gateway, engine, store, door.address)
            try:
                yield made
            finally:
                following.cancel()
                await engine.drain(1.0)
                await engine.close()

    async def give(self, account: str, to: str) -> None:
        """Move an account to a replica."""
        name = AccountName(account)
        before = self.table.held.pop(name, None)
        if before is not None:
            await self.replicas[before].engine.remove_account(name)
            await self.replicas[before].store.fence(self._ids[name], None)
        replica = self.replicas[to]
        plan = next(plan for plan in self.plans if plan.route.account == name)
        record = await replica.store.put_account(
            AccountRecord(
                account_id=self._ids.get(name) or AccountId(uuid4()),
                account=name,
                venue=plan.route.venue,
                plugin=plan.plugin,
                created_time_ns=self.clock.time_ns(),
            )
        )
        self._ids[name] = record.account_id
        holder = LeaseHolder(holder=to, host="here", pid=1, process_start=1)
        row = await self._leases.take(
            record.account_id, holder, ttl_s=TTL_S, may_take=lambda _: True
        )
        await replica.store.fence(record.account_id, row.token)
        await replica.engine.add_account(plan)
        self.table.held[name] = to
        held = replica.engine.account(account)
        while held.state != "READY":
            held.state_changed.clear()
            await held.state_changed.wait()

    async def close(self) -> None:
        await self._leases.close()


def limit(account: str | None = "a", **more: Any) -> dict[str, Any]:
    """Return the fields of an order that rests."""
    fields: dict[str, Any] = {
        "account": account,
        "symbol": "BTC/USDT",
        "side": "buy",
        "ord_type": "limit",
        "order_qty": "1",
        "price": "100",
    }
    return {**fields, **more}
