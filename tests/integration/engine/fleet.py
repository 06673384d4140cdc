"""Several gateways in one process, over one store in Postgres and one exchange.

Each has a clock of its own for its leases, which stands still until a test turns it: a gateway whose clock
nobody turns is one that was stopped, as far as its leases go. The venue's clock is everybody's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import psycopg

from tradegw.engine.account import AccountSettings, AccountState
from tradegw.engine.engine import Engine
from tradegw.engine.limits import Limits
from tradegw.engine.members import AccountPlan
from tradegw.engine.routing import Route
from tradegw.engine.venue_ids import gateway_tag
from tradegw.gateway.held_leases import LeaseTerms
from tradegw.gateway.keeper import Keeper
from tradegw.gateway.local import LocalGateway
from tradegw.gateway.metrics import Metrics
from tradegw.model import AccountName, ExecutionReport, Order
from tradegw.plugins import load_plugins
from tradegw.ports import LeaseHolder
from tradegw.store.postgres import open_postgres
from tradegw.store.postgres_leases import PostgresLeases
from tradegw.testing import ScriptedExchange, ScriptedPlugin, TurnedClock, a_new_order
from tradegw.testing.venue import CAPABILITIES, ScriptedVenue
from tradegw.venue import Capabilities, Venue, VenueRequest

TERMS = LeaseTerms(ttl_s=10.0, margin_s=2.0)
TENURE_S = TERMS.ttl_s - TERMS.margin_s
PATIENCE_S = 20.0


class _GatedVenue(ScriptedVenue):
    """A venue whose requests stand at a gate: checked, and not a byte sent."""

    def __init__(
        self, exchange: ScriptedExchange, capabilities: Capabilities, replica: Replica
    ) -> None:
        super().__init__(exchange, capabilities=capabilities)
        self._replica = replica

    async def execute(self, request: VenueRequest) -> Sequence[ExecutionReport]:
        self._replica.at_gate += 1
        await self._replica.gate.wait()
        return await super().execute(request)


class Replica:
    """One gateway.

    Attributes:
        gate: Lets requests out; it is open unless a test closes it.
        at_gate: How many requests came to it.
        clock: What its leases go by.
    """

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet = fleet
        self.name = name
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_gate = 0
        self.clock = TurnedClock()
        self.gateway = LocalGateway()
        self.me = LeaseHolder(
            holder=name, host="here", pid=1, process_start=1, address=f"{name}:50051"
        )
        self._stop = asyncio.Event()

    async def start(self) -> Replica:
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner = asyncio.create_task(self._run(started))
        await asyncio.wait([self._runner, started], return_when=asyncio.FIRST_COMPLETED)
        if self._runner.done():
            self._runner.result()
        return self

    async def stop(self) -> None:
        """Shut down in good order."""
        self.gate.set()
        self._stop.set()
        await self._runner

    async def _run(self, started: asyncio.Future[None]) -> None:
        fleet = self.fleet
        store = await open_postgres(fleet.url, is_shared=True, connections=4)
        plans = [fleet.plan(name, self) for name in fleet.accounts]
        async with asyncio.TaskGroup() as group:
            self.engine = Engine(
                store=store,
                clock=fleet.clock,
                plugins=load_plugins(),
                group=group,
                rng=random.Random(1),
                meter=Metrics(),
                routes=[plan.route for plan in plans],
            )
            self.keeper = Keeper(
                engine=self.engine,
                store=store,
                leases=PostgresLeases(fleet.url),
                taking=PostgresLeases(fleet.url),
                looking=PostgresLeases(fleet.url),
                me=self.me,
                is_gone=lambda by: by.holder in fleet.gone,
                clock=self.clock,
                boottime_ns=self.clock.monotonic_ns,
                terms=TERMS,
                rng=random.Random(self.name),
                group=group,
            )
            await self.engine.start(())
            await self.keeper.start(plans)
            self.gateway.attach(self.engine)
            started.set_result(None)
            await self._stop.wait()
            await self.keeper.cease_taking()
            await self.engine.drain(0.2)
            await self.engine.close()
            await self.keeper.close()
        self.gateway.detach("closed", for_good=True)
        await store.close()

    # --- asking ---------------------------------------------------------------------------------

    @property
    def held(self) -> set[str]:
        """The accounts that it serves."""
        return {name for name in self.fleet.accounts if self.keeper.is_ours(AccountName(name))}

    def is_ready(self, name: str = "paper") -> bool:
        if name not in self.held:
            return False
        account = self.engine.account(name)
        return account.state is AccountState.READY and account.is_open

    async def ready(self, name: str = "paper") -> Replica:
        """Wait until it takes orders for an account."""
        await self.fleet.until(lambda: self.is_ready(name))
        return self

    async def place(self, **fields: Any) -> Order:
        return await self.gateway.place_order(a_new_order(**fields))

    async def rest(self) -> None:
        """Wait until it has looked and renewed as its clock says that it should, and sleeps."""
        await self.fleet.until(lambda: self.clock.sleepers == 2)

    def look(self) -> None:
        """Have it look at the leases, and take what is free: a little more than a second passes for it."""
        self.clock.turn(1.01)


class Fleet:
    """All of them.

    Attributes:
        gone: Holders whose processes are known to have ended.
    """

    def __init__(self, url: str, capabilities: Capabilities = CAPABILITIES) -> None:
        self.url = url
        self.clock = TurnedClock()
        self.exchange = ScriptedExchange(self.clock)
        self.capabilities = capabilities
        self.accounts = ["paper"]
        self.gone: set[str] = set()
        self._all: list[Replica] = []

    def plan(self, name: str, replica: Replica) -> AccountPlan:
        plugin = ScriptedPlugin(
            self.exchange,
            capabilities=self.capabilities,
            make_venue=lambda exchange, can: _GatedVenue(exchange, can, replica),
        )

        def open_venue() -> AbstractAsyncContextManager[Venue]:
            return plugin.open(None, None)

        return AccountPlan(
            route=Route(account=AccountName(name), venue=plugin.name, tags={}),
            plugin=plugin.name,
            settings=AccountSettings(
                tag=gateway_tag("fleet"), limits=Limits(), execute_timeout_s=30.0
            ),
            open_venue=open_venue,
        )

    async def start(self, name: str) -> Replica:
        replica = Replica(self, name)
        self._all.append(replica)
        return await replica.start()

    async def stop(self, replica: Replica) -> None:
        self._all.remove(replica)
        await replica.stop()

    async def close(self) -> None:
        for replica in self._all:
            await replica.stop()
        store = await open_postgres(self.url, read_only=True)
        problems = [problem async for problem in store.verify()]
        await store.close()
        assert problems == []

    async def until(self, condition: Callable[[], object], *, step_s: float = 0.0) -> None:
        """Wait until a condition holds; with `step_s` the venue's clock is turned all the while."""
        await self.clock.until(condition, step_s=step_s, patience_s=PATIENCE_S)

    async def order_when(
        self, order: Order, condition: Callable[[Order], object], *, step_s: float = 0.0
    ) -> Order:
        """Wait until an order as stored meets a condition, and return it."""
        store = await open_postgres(self.url, read_only=True)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + PATIENCE_S
        try:
            while True:
                found = await store.find_order(order.order_id)
                if found is not None and condition(found):
                    return found
                assert loop.time() < give_up_at, f"waited in vain; it stands at {found}"
                self.clock.turn(step_s)
                await asyncio.sleep(0.001)
        finally:
            await store.close()

    async def expire(self) -> None:
        """Let the time of every lease end by the store's clock."""
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            await connection.execute("UPDATE lease SET expires_ns = 0")

    async def lease(self, column: str) -> Any:
        """Return what is stored of the lease of the only account."""
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            cursor = await connection.execute(f"SELECT {column} FROM lease".encode())
            (row,) = await cursor.fetchall()
            return row[0]


@asynccontextmanager
async def a_fleet(url: str, capabilities: Capabilities = CAPABILITIES) -> AsyncGenerator[Fleet]:
    """Yield a fleet without gateways; those that a test starts are stopped, and the record is checked."""
    fleet = Fleet(url, capabilities)
    yield fleet
    await fleet.close()
