"""One simulated world: an exchange, a network, a store, a gateway that dies and comes back, and bots."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from tradegw_mock.chaos import FaultKind, FaultSpec, Target
from tradegw_mock.contract import VALID_FOR_S
from tradegw_mock.exchange import Side
from tradegw_mock.requests import Mutation, Place

import tradegw
import tradegw.gateway.open as opening
import tradegw.plugins
from tests.simulation.bots import PRICES, Bot, Gone
from tests.simulation.cells import MUTATIONS, ON_REQUESTS
from tests.simulation.director import Director
from tests.simulation.exchange import Network, SimulatedPlugin
from tests.simulation.store import Disk, StoreFault, StoreKind
from tradegw import Fill, Gateway, OrderEvent
from tradegw.engine import crash
from tradegw.engine.account import AccountState
from tradegw.engine.crash import CrashPoint
from tradegw.engine.engine import Engine
from tradegw.gateway.config import load_config
from tradegw.gateway.local import LocalGateway
from tradegw.store.sqlstore import SqlStore
from tradegw.testing.simulation import Process, SimulatedClock, SimulationLoop

T = TypeVar("T")

ACCOUNTS = ("left", "right")
LATE_FILLS = 0.15
"""Share of the histories that end with a fill of which only a list tells, and late."""


class Killed(BaseException):
    """The process is dead; whatever catches this belongs to it, and changes nothing any more."""


class World:
    """What a history happens in.

    Attributes:
        story: What happened, when, and to whom, if anybody wants to know.
        violations: What must not happen, and did.
        counts: What happened how often.
        struck: Faults with what they hit: (fault, operation, account, venue client order id, how the order
            stood at the exchange).
        quiet: Accounts and symbols for which nobody places orders any more.
        fills: What the stream of fills told, across every restart.
        events: The same of the stream of order events.
    """

    current: World | None = None

    def __init__(
        self,
        loop: SimulationLoop,
        seed: int,
        directory: Path,
        *,
        is_telling: bool,
        postgres: str | None = None,
    ) -> None:
        self.loop = loop
        self.seed = seed
        self.rng = random.Random(f"{seed}:world")
        self.is_telling = is_telling
        self.story: list[tuple[float, str, str]] = []
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self.struck: list[tuple[str, str, str, str | None, str]] = []
        self.fills: list[Fill] = []
        self.events: list[OrderEvent] = []
        self.positions: dict[str, dict[str, int]] = {"fills": {}, "orders": {}}
        self.pace_s = 0.95
        kinds = (StoreKind.INLINE, *[StoreKind.SLOW] * 6, StoreKind.FILE)
        self.disk = Disk(self.rng.choice(kinds), self.rng, directory, postgres)
        self.disk.hits = lambda fault: self._on_hit(fault.value, Target(operation="store"))
        self.network = Network(loop, self.rng, seed=seed)
        self.network.watch = self._watch
        self.network.hit = self._on_hit
        self.network.told = lambda text: self.tell("exchange", text)
        self.network.restarts = self.restart_exchange
        self.director = Director(self)
        self.network.arriving = self.director.arriving
        self.network.telling = self.director.telling
        if is_telling:
            self.network.exchange.listen(self._tell_change)
        self._offset_ns = round(self.rng.uniform(-0.6, 0.6) * 1e9)
        self.clock = SimulatedClock(loop, offset_ns=self._offset_ns)
        self.plugin = SimulatedPlugin(self.network)
        self.config = load_config(
            environ={},
            overrides={
                "gateway": {"name": "simulated", "drain_s": 2.0},
                "store": {"url": "memory://"},
                "venues": {"simulated": {"plugin": "simulated"}},
                "accounts": {
                    name: {"venue": "simulated", "execute_timeout_s": 3.0} for name in ACCOUNTS
                },
            },
        )
        for name in ACCOUNTS:
            self.network.exchange.create_account(name, balances=BALANCES)
        self.bots = [
            Bot(self, f"bot{i}", ACCOUNTS[i % len(ACCOUNTS)], random.Random(f"{seed}:bot{i}"))
            for i in range(3)
        ]
        self.process: Process | None = None
        self.gateway: LocalGateway | None = None
        self.sent: set[str] = set()
        self.clock_was_set = False
        self.is_calm = False
        self.quiet: set[tuple[str, str]] = set()
        self._waiting: set[asyncio.Future[Any]] = set()
        self._stop: asyncio.Event | None = None
        self._mourners: list[asyncio.Future[None]] = []
        self._chores: set[asyncio.Task[None]] = set()

    # --- telling --------------------------------------------------------------------------------

    def tell(self, who: str, what: str) -> None:
        """Add to the story."""
        if self.is_telling:
            self.story.append((self.loop.time(), who, what))

    def violate(self, what: str) -> None:
        """Note what must not happen."""
        self.violations.append(f"at {self.loop.time():.3f} s: {what}")
        self.tell("VIOLATION", what)

    def _on_hit(self, fault: str, target: Target, stood: str = "-") -> None:
        self.counts["faults"] += 1
        self._strike(fault, target.operation, target.account, target.client_order_id, stood)
        if self.is_telling:
            self.tell("fault", f"{fault} on {target.operation} {target.client_order_id or ''}")

    def _strike(
        self, fault: str, operation: str, account: str, name: str | None, stood: str
    ) -> None:
        self.struck.append((fault, operation, account, name, stood))
        if operation != "place":
            self.director.struck((fault, operation, stood))

    def _tell_change(self, change: Any) -> None:
        for event in change.events:
            if (order := getattr(event, "order", None)) is not None:
                fill = "" if event.fill is None else f" {event.fill.qty} at {event.fill.price}"
                self.tell(
                    "exchange",
                    f"{event.exec_type.value}{fill}: {order.client_order_id} of {order.account} "
                    f"{order.ord_status.value} {order.cum_qty} of {order.order_qty} at {order.price}",
                )

    # --- what must hold at every moment -----------------------------------------------------------

    def _watch(self, request: Mutation) -> None:
        """Look at a request as it leaves the gateway."""
        if self.process is None or not self.process.is_alive:
            raise Killed
        name = (
            request.order.client_order_id if isinstance(request, Place) else request.client_order_id
        )  # type: ignore[union-attr]
        if self.is_telling:
            self.tell("gateway", f"sends {type(request).__name__} {name}")
        assert name is not None
        if isinstance(request, Place):
            self.counts["orders"] += 1
            if name in self.sent:
                self.violate(f"{name} was sent a second time")
            self.sent.add(name)
        if self.disk.has_order(name) is False:
            self.violate(f"{name} was sent before it was durable")
        until_ns = request.valid_until_ns  # type: ignore[union-attr]
        if self.clock_was_set:
            # It cannot know then what the venue's clock says, and the venue will judge.
            return
        # It knows the venue's clock to half of a round trip.
        if until_ns is None or self.network.clock.time_ns() > until_ns + 500_000_000:
            self.violate(f"{type(request).__name__} {name} was sent after its validity")

    # --- the gateway ----------------------------------------------------------------------------

    async def start_gateway(self) -> None:
        """Start a gateway over what is stored. It may die on the way."""
        assert self.process is None
        self.counts["starts"] += 1
        process = self.process = self.loop.process(f"gateway {self.counts['starts']}")
        self.tell("gateway", "starts")
        stop = self._stop = asyncio.Event()
        process.run(self._run_gateway(stop))

    async def _run_gateway(self, stop: asyncio.Event) -> None:
        async with opening.run_gateway(
            self.config, plugins=[self.plugin], clock=self.clock, wait_for_store=True
        ) as running:
            self.gateway = running.gateway
            assert self.process is not None
            for kind in ("fills", "orders"):
                self.process.run(self._read_stream(kind))
            await stop.wait()
        self.gateway = None
        self._ended("has shut down")

    def arm(self, point: CrashPoint, count: int) -> None:
        """Let the gateway die when it reaches a point for the n-th time."""
        crash._armed = crash._Armed(f"{point}:{count}")

    def die(self, point: CrashPoint) -> None:
        """Die here: for `crash._die`."""
        crash._armed = None
        self.counts[f"crash {point}"] += 1
        self.kill(f"dies at {point}")
        raise Killed

    def kill(self, why: str = "is killed") -> None:
        """Kill the gateway where it stands. What is on the wire stays on the wire."""
        process = self.process
        if process is None:
            return
        crash._armed = None
        self._strike_in_flight("KILL")
        process.kill()
        self.counts["restarts"] += 1
        self._ended(why)
        for subscription in tuple(self.network.subscriptions):
            subscription.close()

    def stop(self) -> None:
        """Ask the gateway to shut down."""
        if self._stop is not None and not self._stop.is_set():
            self.tell("gateway", "is asked to shut down")
            self._strike_in_flight("SHUTDOWN")
            self.counts["restarts"] += 1
            self._stop.set()

    def _strike_in_flight(self, fault: str) -> None:
        """Count the commands that a restart finds on their way."""
        for account in self._accounts():
            for order_id, command in account.in_flight:
                order = account.book.find(order_id)
                if order is not None:
                    operation = {"NEW": "place"}.get(command.value, command.value.lower())
                    name = order.venue_client_order_id
                    about = Target(
                        operation=operation, account=account.account, client_order_id=name
                    )
                    stood = self.network.stands(about)
                    self._strike(fault, operation, account.account, name, stood)

    def _ended(self, how: str) -> None:
        self.tell("gateway", how)
        self.process = self.gateway = self._stop = None
        for waiter in self._mourners:
            if not waiter.done():
                waiter.set_result(None)
        self._mourners.clear()
        self.disk.drop()
        for future in tuple(self._waiting):
            if not future.done():
                future.set_exception(Gone("the gateway is gone"))
        self._waiting.clear()

    async def ask(self, work: Callable[[Gateway], Awaitable[T]]) -> T:
        """Have the gateway do something, as a client in another process does.

        Raises:
            Gone: There is none, or it died before it answered.
        """
        gateway, process = self.gateway, self.process
        if gateway is None or process is None:
            raise Gone("connection refused")
        answer: asyncio.Future[T] = self.loop.create_future()
        self._waiting.add(answer)

        async def inside() -> None:
            try:
                result = await work(gateway)
            except Exception as e:  # noqa: BLE001
                if not answer.done():
                    answer.set_exception(e)
            else:
                if not answer.done():
                    answer.set_result(result)

        task = process.run(inside())
        try:
            return await answer
        except asyncio.CancelledError:
            # The door learns that its caller has gone.
            if process.is_alive:
                task.cancel()
            raise
        finally:
            self._waiting.discard(answer)

    def _accounts(self) -> Sequence[Any]:
        return [] if self.engine is None else self.engine.accounts

    @property
    def engine(self) -> Engine | None:
        """The engine of the gateway that runs."""
        return None if self.gateway is None else self.gateway._engine

    async def _read_stream(self, kind: str) -> None:
        """Read a stream of the gateway from where it was left, and look for gaps."""
        gateway = self.gateway
        assert gateway is not None
        position = self.positions[kind]
        while True:
            try:
                last = dict(position)
                stream = gateway.stream_fills if kind == "fills" else gateway.stream_orders
                async for batch in stream(accounts=ACCOUNTS, after=dict(position)):
                    for item in batch.fills if kind == "fills" else batch.orders:
                        held = last.get(item.account, 0)
                        if item.prev_seq != held or item.seq <= held:
                            self.violate(
                                f"a gap in the stream of {kind} of {item.account}: held {held}, then "
                                f"{item.prev_seq} and {item.seq}"
                            )
                        durable = self.disk.head(item.account)
                        if durable is not None and item.seq > durable:
                            self.violate(
                                f"{item.account} {item.seq} was told before it was durable"
                            )
                        last[item.account] = item.seq
                    self.fills.extend(item.fill for item in batch.fills)
                    self.events.extend(item.event for item in batch.orders)
                    position.update(batch.position)
                return
            except tradegw.TradegwError as e:
                # Such as one whose account is read anew; a reader comes again.
                self.tell("reader", f"{kind}: {type(e).__name__} {e}")
                await asyncio.sleep(0.1)

    # --- the market -----------------------------------------------------------------------------

    async def move_market(self, until_s: float) -> None:
        """Let the counterparty trade, and now and then the account's owner interfere."""
        rng, network = self.rng, self.network
        while self.loop.time() < until_s:
            await asyncio.sleep(rng.expovariate(1 / 0.5))
            orders = network.open_orders()
            chance = rng.random()
            if orders and chance < 0.5:
                order = rng.choice(orders)
                share = rng.choice((None, None, Decimal("0.001"), Decimal("0.002")))
                network.fill(order, share)
            elif orders and chance < 0.55:
                network.cancel_there(rng.choice(orders))
            else:
                symbol = rng.choice(list(PRICES))
                price = Decimal(PRICES[symbol] + rng.randint(-5, 5))
                side = rng.choice((Side.BUY, Side.SELL))
                network.trade(symbol, side, Decimal("0.005"), price)
            network.due()

    # --- faults ---------------------------------------------------------------------------------

    def plan_faults(self, storm_s: float) -> None:
        """Draw what will go wrong, and when."""
        rng = self.rng
        self.director.plan(storm_s)
        for _ in range(rng.randint(3, 9)):
            self.network.chaos.inject(self._fault(storm_s))
        if self.disk.kind is not StoreKind.INLINE:
            for _ in range(rng.choice((0, 0, 1, 2, 4))):
                at_s = rng.uniform(0.5, storm_s)
                self.loop.call_at(at_s, self.disk.faults.append, rng.choice(list(StoreFault)))
        if rng.random() < 0.3:
            self._conspire(rng.uniform(0.5, storm_s * 0.7))
        for _ in range(rng.choice((0, 0, 1))):
            at_s, by_s = rng.uniform(0, storm_s), rng.choice((0.3, 1.5, 6.0)) * rng.choice((-1, 1))
            self.loop.call_at(at_s, self._step_clock, by_s)
            self.loop.call_at(at_s + rng.uniform(2, 10), self._step_clock, -by_s)
        # Drawn apart, so that the others stay as they are.
        late = random.Random(f"{self.seed}:late")
        if late.random() < LATE_FILLS:
            self._conspire_late(storm_s - late.uniform(2.2, 4.0), late)

    def _conspire_late(self, at_s: float, rng: random.Random) -> None:
        """Let a cancelled order fill all the same while nobody tells of it, once its fills were read.

        Nobody places orders of its symbol any more: as long as one is open, fills of that are read anyway.
        """
        account, symbol = rng.choice(ACCOUNTS), rng.choice(list(PRICES))
        read_s, fill_s = at_s + rng.uniform(0.3, 0.6), at_s + rng.uniform(1.5, 2.0)
        inject, call_at = self.network.chaos.inject, self.loop.call_at
        inject(FaultSpec(kind=FaultKind.EVENT_DROPPED, start_s=fill_s - 0.05, for_s=0.1))
        if rng.random() < 0.5:
            inject(FaultSpec(kind=FaultKind.HISTORY_LAGS, lag_s=0.9, start_s=at_s, for_s=4.0))
            call_at(fill_s - rng.uniform(0, 0.3), self.network.cut_streams)
        call_at(at_s, self._cancel_for_now, account, symbol, fill_s)
        call_at(read_s, self.network.cut_streams)

    def _cancel_for_now(self, account: str, symbol: str, fill_s: float) -> None:
        orders = [
            order
            for order in self.network.users_orders()
            if (order.account, order.symbol) == (account, symbol)
        ]
        for order in orders:
            self.network.cancel_there(order)
        self.quiet.add((account, symbol))
        worked = [order for order in orders if not order.is_waiting]
        if worked:
            self.loop.call_at(fill_s, self.network.fill_outside, account, worked[0].order_id)

    def _conspire(self, at_s: float) -> None:
        """Let an order arrive as late as it may, while something makes it look as if it had not."""
        rng, inject = self.rng, self.network.chaos.inject
        late_s = VALID_FOR_S - rng.choice((0.02, 0.1, 0.5, 1.5))
        inject(
            FaultSpec(
                kind=FaultKind.REQUEST_DELAYED,
                route="place",
                delay_s=late_s,
                start_s=at_s,
                times=rng.randint(1, 6),
            )
        )
        if rng.random() < 0.6:
            inject(FaultSpec(kind=FaultKind.NOT_FOUND, lag_s=0.9, start_s=at_s, for_s=8.0))
        if rng.random() < 0.5:
            inject(FaultSpec(kind=FaultKind.STREAM_SILENT, start_s=at_s, for_s=9.0))
        if rng.random() < 0.4:
            by_s = rng.choice((2.0, 4.0, 6.0))
            self.loop.call_at(at_s + rng.uniform(0.5, 3.0), self._step_clock, by_s)
            self.loop.call_at(at_s + rng.uniform(7, 10), self._step_clock, -by_s)

    def _fault(self, storm_s: float) -> FaultSpec:
        rng = self.rng
        kind = rng.choice(FAULTS)
        fields: dict[str, Any] = {"kind": kind, "start_s": rng.uniform(0, storm_s * 0.9)}
        if kind in ON_REQUESTS:
            fields["route"] = rng.choice(MUTATIONS)
            if rng.random() < 0.25:
                fields["route"] = rng.choice(("order", "fills", "open_orders", "balances", ""))
        match kind:
            case FaultKind.REQUEST_DELAYED | FaultKind.ANSWER_DELAYED:
                fields["delay_s"] = rng.choice((0.3, 1.0, 2.5, 4.5, 6.0, 12.0))
            case FaultKind.ERROR_AFTER:
                fields["code"] = rng.choice((500, 502, 504, -1006, -1007))
            case FaultKind.NOT_FOUND | FaultKind.HISTORY_LAGS:
                fields["lag_s"] = rng.uniform(0.1, 0.9)
            case FaultKind.STALE_OPEN_ORDERS:
                fields["lag_s"] = rng.uniform(0.5, 10)
            case FaultKind.DISCONNECT | FaultKind.RESTART:
                return FaultSpec(**fields)
            case _:
                pass
        if rng.random() < 0.4:
            fields["times"] = rng.randint(1, 3)
        else:
            fields |= {
                "probability": rng.choice((0.2, 0.5, 1.0)),
                "for_s": rng.choice((0.5, 2.0, 6.0)),
            }
        return FaultSpec(**fields)

    def _step_clock(self, by_s: float) -> None:
        if self.is_calm:
            return
        self.clock_was_set = True
        self._on_hit("OUR_CLOCK_SET", Target(operation=f"{by_s:+.1f} s"))
        self.clock.offset_ns += round(by_s * 1e9)

    def restart_exchange(self) -> None:
        """Let the exchange go down for a while."""
        for_s = self.rng.uniform(0.2, 3)
        self.tell("exchange", f"goes down for {for_s:.2f} s")
        self.network.go_down()
        self.loop.call_later(for_s, self.network.come_back)

    async def restart_now_and_then(self, storm_s: float) -> None:
        """Kill and start the gateway, at moments or points that are drawn."""
        rng = self.rng
        times = sorted(rng.uniform(1, storm_s) for _ in range(rng.choice((0, 1, 1, 1, 2))))
        for at_s in times:
            await asyncio.sleep(max(0.0, at_s - self.loop.time()))
            how = rng.random()
            if how < 0.5:
                self.arm(rng.choice(CRASH_POINTS), rng.choice((1, 1, 2, 5)))
                await self._until_gone(6.0)
                self.kill()
            elif how < 0.85:
                self.kill()
            else:
                self.stop()
                await self._until_gone(30.0)
                self.kill()
            await self._bring_up()

    async def _until_gone(self, patience_s: float) -> None:
        if self.process is None:
            return
        gone: asyncio.Future[None] = self.loop.create_future()
        self._mourners.append(gone)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await gone

    async def _bring_up(self) -> None:
        await asyncio.sleep(self.rng.choice((0.01, 0.3, 3.0)))
        if self.process is not None:
            return
        await self.start_gateway()
        if self.rng.random() < 0.2:
            # It dies again while it is still finding out.
            self.arm(self.rng.choice(CRASH_POINTS), 1)
            await self._until_gone(4.0)
            crash._armed = None
            await asyncio.sleep(0.1)
            if self.process is None:
                await self.start_gateway()

    def kill_and_bring_up(self) -> None:
        """Kill the gateway, and let somebody notice before long."""
        if self.process is not None:
            self.kill()
            self._notice()

    def shut_down_and_bring_up(self) -> None:
        """Ask the gateway to shut down; it is started again when it has, and killed when it does not."""
        if self.process is None:
            return
        process = self.process
        self.stop()

        async def see_it_end() -> None:
            await self._until_gone(20.0)
            if self.process is process:
                self.kill()
            self._notice()

        self._chores.add(self.loop.create_task(see_it_end()))

    def _notice(self) -> None:
        self._chores.add(self.loop.create_task(self._bring_up()))

    # --- the end --------------------------------------------------------------------------------

    def calm_down(self) -> None:
        """Let nothing go wrong from now on."""
        self.tell("world", "calms down")
        crash._armed = None
        self.director.stop()
        self.network.chaos.clear()
        self.network.come_back()
        self.disk.faults.clear()
        self.is_calm = True
        # Clocks that are far apart are a fault as well: no order is taken with them.
        self.clock.offset_ns = self._offset_ns

    def unsettled(self) -> str:
        """Say what is not settled yet; empty when everything is."""
        engine = self.engine
        if engine is None:
            return "no gateway serves"
        for account in engine.accounts:
            if account.state is not AccountState.READY:
                return f"account {account.account} is {account.state}: {account.why}"
            for order in account.book:
                if order.in_doubt or order.pending is not None:
                    return f"in doubt: {order}"
        if engine._requests._tasks:
            return "requests are under way"
        for bot in self.bots:
            if bot.open_calls:
                return f"{bot.name} waits"
        return ""


BALANCES = {
    "BTC": Decimal(10),
    "ETH": Decimal(100),
    "SOL": Decimal(1000),
    "USD": Decimal(1_000_000),
    "USDT": Decimal(1_000_000),
}

NOT_PLAYED = {
    # By a clock that answers wrongly for a while no venue could prove anything.
    FaultKind.CLOCK_SKEW,
}
FAULTS = [kind for kind in FaultKind if kind not in NOT_PLAYED]

CRASH_POINTS = (
    CrashPoint.TRANSLATED_UNJOURNALED,
    CrashPoint.COMMITTED_UNPUBLISHED,
    CrashPoint.JOURNALED_UNSENT,
    CrashPoint.COMMAND_JOURNALED_UNSENT,
    CrashPoint.SENT_UNANSWERED,
    CrashPoint.ANSWERED_UNJOURNALED,
    CrashPoint.REFUSED_UNJOURNALED,
    CrashPoint.DOUBTED_UNJOURNALED,
    CrashPoint.APPLIED_UNTOLD,
    CrashPoint.HELD_UNTOLD,
    CrashPoint.RELEASED_UNJOURNALED,
    CrashPoint.REPORTED_UNJOURNALED,
    CrashPoint.RESOLVER_ASKING,
    CrashPoint.RESOLVER_ANSWERED_UNJOURNALED,
    CrashPoint.ABSENCE_PROVEN_UNJOURNALED,
    CrashPoint.OPEN_ORDERS_READ,
    CrashPoint.FILLS_READ_UNJOURNALED,
    CrashPoint.FILLS_JOURNALED_UNMARKED,
    CrashPoint.MARKED,
    CrashPoint.LOADED_UNDOUBTED,
    CrashPoint.STREAM_READY_UNRECONCILED,
    CrashPoint.RECONCILED_NOT_READY,
    CrashPoint.DRAINING,
)
"""Where a gateway dies. Not all that there are: a new one would move what every seed draws."""

NOT_REACHED = (
    # Nothing happens in between that a history could see: dying at JOURNALED_UNSENT is the same.
    CrashPoint.CHECKED_UNSENT,
    # There are no sinks, and no messages.
    CrashPoint.OUTBOX_UNPUBLISHED,
    CrashPoint.OUTBOX_UNCONFIRMED,
    CrashPoint.OUTBOX_UNMARKED,
    CrashPoint.INBOX_UNCOMMITTED,
    CrashPoint.INBOX_UNMARKED,
    CrashPoint.INBOX_UNACKNOWLEDGED,
    # All orders are ours.
    CrashPoint.STRANGER_UNJOURNALED,
    CrashPoint.ADOPTING,
    # The venue shows each fill.
    CrashPoint.INFERRED_UNJOURNALED,
    CrashPoint.INFERRED_UNFINISHED,
    CrashPoint.ATTACHED_UNJOURNALED,
)


@contextlib.contextmanager
def held_still(seed: int) -> Generator[None]:
    """Take from the process whatever would differ between two runs of a seed."""
    rng = random.Random(f"{seed}:process")
    kept = (os.urandom, opening.open_store, opening.random, crash._die, crash._armed)  # type: ignore[attr-defined]
    entry_points = tradegw.plugins.importlib.metadata.entry_points  # type: ignore[attr-defined]

    async def open_store(url: str, **_: Any) -> SqlStore:
        world = World.current
        assert world is not None
        world.disk.drop()
        return world.disk.open(world.clock)

    def die(point: CrashPoint) -> None:
        assert World.current is not None
        World.current.die(point)

    def seeded(*args: Any) -> random.Random:
        return random.Random(*args) if args else random.Random(rng.random())

    os.urandom = rng.randbytes
    opening.open_store = open_store  # type: ignore[assignment]
    opening.random = types.SimpleNamespace(Random=seeded)  # type: ignore[attr-defined]
    crash._die = die
    # Looking for installed plugins anew at each start would take most of the time.
    tradegw.plugins.importlib.metadata.entry_points = lambda **_: ()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        os.urandom, opening.open_store, opening.random, crash._die, crash._armed = kept  # type: ignore[attr-defined]
        tradegw.plugins.importlib.metadata.entry_points = entry_points  # type: ignore[attr-defined]
