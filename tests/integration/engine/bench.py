"""An engine on a bench: a scripted exchange, a clock to turn, a store whose boundary can fail."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from tradegw.engine.account import Account, AccountSettings, AccountState
from tradegw.engine.engine import Engine
from tradegw.engine.limits import Limits
from tradegw.engine.members import AccountPlan
from tradegw.engine.outbox import NamedSink
from tradegw.engine.routing import Route
from tradegw.engine.venue_ids import gateway_tag
from tradegw.errors import CommitUnknown, StoreUnavailable
from tradegw.gateway.local import LocalGateway
from tradegw.gateway.metrics import Metrics
from tradegw.model import (
    AccountId,
    AccountName,
    Fill,
    Order,
    OrderEvent,
    OrderId,
    TradeId,
)
from tradegw.plugins import load_plugins
from tradegw.ports import Entry, KeyTaken, Replayed, Stored
from tradegw.store import MemoryStore, SqliteStore, open_store
from tradegw.testing import ScriptedExchange, ScriptedPlugin, TurnedClock, a_new_order
from tradegw.testing.venue import CAPABILITIES
from tradegw.venue import Capabilities, Venue

ResultT = TypeVar("ResultT")
EXECUTE_TIMEOUT_S = 0.3


class StoreFault(Enum):
    """How an entry fails at the store's boundary."""

    BEFORE = "refused before COMMIT: nothing is stored"
    LOST = "COMMIT was asked, nothing is stored, nobody knows"
    KEPT = "COMMIT was asked, it is stored, nobody knows"


class FaultyStore:
    """A store that fails on command, and keeps the contract of `ports.Store` while it does.

    Attributes:
        calls: How many calls are with the real store now.
    """

    def __init__(self, inner: MemoryStore | SqliteStore) -> None:
        self.inner = inner
        self.entries: list[Entry] = []
        self.is_dead = False
        self.is_away = False
        self.reads_fail = 0
        self.gate: tuple[asyncio.Event, Callable[[Entry], bool]] | None = None
        self.calls = 0
        self._faults: list[tuple[StoreFault, Callable[[Entry], bool]]] = []
        self._stopped: set[AccountId] = set()
        self._listeners: list[Callable[[Sequence[OrderEvent]], None]] = []
        inner.subscribe(self._hear)

    def fail(self, fault: StoreFault, when: Callable[[Entry], bool] = lambda _: True) -> None:
        """Let the next entry that fits fail."""
        self._faults.append((fault, when))

    @property
    def has_failed(self) -> bool:
        """Whether every planned failure has happened."""
        return not self._faults

    def subscribe(self, listener: Callable[[Sequence[OrderEvent]], None]) -> None:
        self._listeners.append(listener)

    def _hear(self, events: Sequence[OrderEvent]) -> None:
        if self.is_dead:
            return
        for listener in self._listeners:
            listener(events)

    def readmit(self, account_id: AccountId) -> None:
        self._stopped.discard(account_id)
        self.inner.readmit(account_id)

    async def append(self, entry: Entry) -> Stored | KeyTaken | Replayed:
        if self.is_dead:
            await asyncio.get_running_loop().create_future()
        if self.is_away:
            self._stopped.add(entry.account_id)
            raise StoreUnavailable("the store is away")
        if entry.account_id in self._stopped:
            raise StoreUnavailable("the account is stopped")
        self.entries.append(entry)
        for planned in self._faults:
            fault, when = planned
            if when(entry):
                self._faults.remove(planned)
                return await self._failing(fault, entry)
        if self.gate is not None and self.gate[1](entry):
            await self.gate[0].wait()
        with self._calling():
            return await self.inner.append(entry)

    @contextmanager
    def _calling(self) -> Iterator[None]:
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1

    async def _failing(self, fault: StoreFault, entry: Entry) -> Stored | KeyTaken | Replayed:
        self._stopped.add(entry.account_id)
        if fault is StoreFault.KEPT:
            # A commit whose answer was lost is not announced: the store does not know of it either.
            listeners, self._listeners = self._listeners, []
            try:
                with self._calling():
                    await self.inner.append(entry)
            finally:
                self._listeners = listeners
        else:
            await asyncio.sleep(0)
        if fault is StoreFault.BEFORE:
            raise StoreUnavailable("refused before COMMIT")
        raise CommitUnknown("the answer to COMMIT was lost")

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        if name in ("verify", "close") or not callable(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.is_dead:
                await asyncio.get_running_loop().create_future()
            if self.is_away:
                raise StoreUnavailable("the store is away")
            if self.reads_fail and name.startswith(("find_", "list_", "get_")):
                self.reads_fail -= 1
                raise StoreUnavailable("the store cannot be read")
            with self._calling():
                return await method(*args, **kwargs)

        return call


class Bench:
    """One engine after another, over one store and one exchange."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = TurnedClock(busy=self._store_is_busy)
        self.exchange = ScriptedExchange(self.clock)
        self.plugin = ScriptedPlugin(self.exchange)
        self.extra_plugins: list[object] = []
        self.sinks: list[NamedSink] = []
        self.limits = Limits()
        self.accounts: dict[str, ScriptedPlugin] = {"paper": self.plugin}
        self.tags: dict[str, dict[str, str]] = {}
        self.seed = 1
        self._inner: MemoryStore | SqliteStore | None = None
        self._runner: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._left: set[asyncio.Task[Any]] = set()

    def _store_is_busy(self) -> bool:
        # A store's thread works in real time: whoever waits for it must not find hours gone by.
        return self._runner is not None and self.store.calls > 0

    # --- running --------------------------------------------------------------------------------

    async def start(self, *, is_ready: bool = True) -> LocalGateway:
        """Open the store and run an engine over it."""
        if self._inner is None:
            self._inner = await open_store(self.url, clock=self.clock)
        self.store = FaultyStore(self._inner)
        self.gateway = LocalGateway()
        self._stop = asyncio.Event()
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner = asyncio.create_task(self._run(self.store, self._stop, started))
        await asyncio.wait([self._runner, started], return_when=asyncio.FIRST_COMPLETED)
        if self._runner.done():
            self._runner.result()
        if is_ready:
            await self.ready()
        return self.gateway

    async def _run(
        self, store: FaultyStore, stop: asyncio.Event, started: asyncio.Future[None]
    ) -> None:
        async with asyncio.TaskGroup() as group:
            engine = Engine(
                store=store,
                clock=self.clock,
                plugins=load_plugins(self.extra_plugins),
                group=group,
                rng=random.Random(self.seed),
                meter=Metrics(),
                sinks=self.sinks,
            )
            self.engine = engine
            await engine.start([self.plan(name) for name in self.accounts])
            self.gateway.attach(engine)
            started.set_result(None)
            await stop.wait()
            await engine.drain(self.drain_s)
            await engine.close()

    drain_s = 1.0

    def plan(self, name: str, **settings: Any) -> AccountPlan:
        """Return how to run an account."""
        plugin = self.accounts[name]
        fields: dict[str, Any] = {
            "tag": gateway_tag("bench"),
            "limits": self.limits,
            "execute_timeout_s": EXECUTE_TIMEOUT_S,
        }

        def open_venue() -> AbstractAsyncContextManager[Venue]:
            return plugin.open(None, None)

        return AccountPlan(
            route=Route(account=AccountName(name), venue=plugin.name, tags=self.tags.get(name, {})),
            plugin=plugin.name,
            settings=AccountSettings(**(fields | settings)),
            open_venue=open_venue,
        )

    async def ready(self, *names: str) -> None:
        """Turn the clock until the accounts take orders."""
        for name in names or tuple(self.accounts):
            account = self.account(name)
            await self.clock.until(partial(_is_ready, account))

    def account(self, name: str = "paper") -> Account:
        return self.engine.account(name)

    def state(self, name: str = "paper") -> AccountState:
        return self.account(name).state

    async def stop(self) -> None:
        """Shut down as a program does, and close the store."""
        if self._runner is not None:
            self._stop.set()
            await self._runner
            self._runner = None
            self.gateway.detach("closed", for_good=True)
        if isinstance(self._inner, SqliteStore):
            await self._inner.close()
            self._inner = None

    async def crash(self) -> None:
        """End at once: nothing more is stored, and nothing more leaves."""
        self.store.is_dead = True
        assert self._runner is not None
        self._left.add(self._runner)
        self._left.update(t for t in asyncio.all_tasks() if t is not asyncio.current_task())
        self._runner = None
        for account in self.engine.accounts:
            account.venue = None
        for plugin in self.accounts.values():
            plugin.exchange._streams.clear()
        if isinstance(self._inner, SqliteStore):
            await self._inner.close()
            self._inner = None

    async def restart(self, *, is_ready: bool = True) -> LocalGateway:
        """Crash, and start anew over what is stored."""
        await self.crash()
        return await self.start(is_ready=is_ready)

    async def lose_record(self) -> LocalGateway:
        """Crash, and start anew over an empty store: the disk is gone."""
        await self.crash()
        self._inner = None
        for path in Path(self.url.removeprefix("sqlite:///")).parent.glob("bench.db*"):
            path.unlink()
        return await self.start()

    async def close(self) -> None:
        """Clean up after a test, and check the record."""
        if self._runner is not None:
            self.store.is_away = False
            self._stop.set()
            await self._runner
        for task in self._left:
            # Twice: the first cancellation may be answered by an attempt to store something.
            for _ in range(5):
                task.cancel()
                await asyncio.wait([task], timeout=0.01)
                if task.done():
                    break
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        if self._inner is None:
            self._inner = await open_store(self.url, clock=self.clock)
        problems = [problem async for problem in self._inner.verify()]
        await self._inner.close()
        assert problems == []

    # --- asking ---------------------------------------------------------------------------------

    async def place(self, **fields: Any) -> Order:
        """Place an order to buy 1 BTC at 100, or as the fields say."""
        return await self.gateway.place_order(a_new_order(**_decimals(fields)))

    def later(self, work: Coroutine[Any, Any, ResultT]) -> asyncio.Task[ResultT]:
        """Run something beside the test."""
        task = asyncio.create_task(work)
        # Whoever crashes the gateway leaves callers behind that nobody asks any more.
        task.add_done_callback(lambda t: None if t.cancelled() else t.exception())
        return task

    async def order_when(
        self, order_id: OrderId, condition: Callable[[Order], object], *, step_s: float = 0.1
    ) -> Order:
        """Turn the clock until the stored order meets a condition, and return it."""
        assert self._inner is not None
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + 60.0
        while True:
            for _ in range(10):
                await asyncio.sleep(0)
            order = await self._inner.find_order(order_id)
            if order is not None and condition(order):
                await self._announced(order.account)
                return order
            assert loop.time() < give_up_at, f"waited in vain; it stands at {order}"
            if not self._store_is_busy():
                self.clock.turn(step_s)
            await asyncio.sleep(0.0005)

    async def stored(self, order: Order | OrderId) -> Order:
        """Return an order as it is stored."""
        assert self._inner is not None
        order_id = order if isinstance(order, UUID) else order.order_id
        found = await self._inner.find_order(OrderId(order_id))
        assert found is not None
        return found

    async def events(self, order: Order) -> list[str]:
        """Return what happened to an order, in order."""
        return [str(e.event_type) for e in await self.gateway.list_order_events(order.order_id)]

    async def turn(self, seconds: float, *, step_s: float = 0.1) -> None:
        """Turn the clock, letting everybody act in between."""
        end_ns = self.clock.time_ns() + int(seconds * 1e9)
        await self.clock.until(lambda: self.clock.time_ns() >= end_ns, step_s=step_s)

    async def fills(self, account: str = "paper", **where: Any) -> list[Fill]:
        """Read the stream of fills from its start to its head."""
        await self._announced(AccountName(account))
        found: list[Fill] = []
        previous = 0
        stream: AsyncIterator[Any] = self.gateway.stream_fills(accounts=[account], **where)
        async for batch in stream:
            for item in batch.fills:
                assert item.prev_seq == previous < item.seq
                previous = item.seq
                found.append(item.fill)
            if batch.caught_up:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        return found

    async def _announced(self, account: AccountName) -> None:
        # A commit can be read a moment before whoever asked for it is told.
        head = await self.store.inner.get_head(account)
        await self.clock.until(lambda: self.engine.hub.head(account) >= head.seq, step_s=0)
        for _ in range(5):
            await asyncio.sleep(0)

    async def check_ledger(self, account: str = "paper") -> None:
        """The stream's fills are the exchange's; nothing was doubled; each order adds up."""
        exchange = self.accounts[account].exchange
        fills = await self.fills(account)
        told = sorted((t.trade_id, t.last_qty, t.last_px) for t in exchange.trades)
        assert sorted((f.trade_id, f.last_qty, f.last_px) for f in fills) == told
        names = [placed.client_id for placed in exchange.orders]
        assert len(names) == len(set(names)), "an order was doubled"
        for placed in exchange.orders:
            known = await self._known(account, placed.client_id)
            sums = sum((t.last_qty or Decimal(0) for t in exchange.fills_of(placed)), Decimal(0))
            assert known.cum_qty == placed.cum_qty == sums
            if placed.is_open:
                assert known.is_open, f"{known.ord_status} here, {placed.status} there"

    async def _known(self, account: str, client_id: str) -> Order:
        assert self._inner is not None
        record = self.account(account).record
        known = await self._inner.find_known(
            record.account_id,
            venue_client_order_id=client_id,  # type: ignore[arg-type]
        )
        assert known is not None
        return known.order


def _is_ready(account: Account) -> bool:
    return account.state is AccountState.READY


def trade_ids(fills: Sequence[Fill]) -> list[TradeId]:
    return [fill.trade_id for fill in fills]


def _decimals(fields: dict[str, Any]) -> dict[str, Any]:
    numbers = {"order_qty", "price", "quote_qty", "trigger_price", "max_slippage_bps"}
    return {
        name: Decimal(value) if name in numbers and isinstance(value, str) else value
        for name, value in fields.items()
    }


def capabilities(**changes: Any) -> Capabilities:
    """Return what the scripted venue can do, but for some changes."""
    return replace(CAPABILITIES, **changes)
