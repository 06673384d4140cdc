"""The mock exchange behind a simulated network: what arrives, when, and what comes of it.

The exchange is the plugin's own, and so are its faults. The network between it and the gateway is here; it
outlives a gateway that is killed, so that what was on its way arrives all the same.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
from tradegw_mock.chaos import Chaos, ErrorAnswer, FaultKind, LateFill, Mark, StreamFaults, Target
from tradegw_mock.contract import CAPABILITIES
from tradegw_mock.exchange import (
    BALANCES,
    INSTRUMENTS,
    Change,
    Event,
    Exchange,
    Order,
    OrderEvent,
    OrderRequest,
    OrdType,
    Refusal,
    Side,
    TimeInForce,
)
from tradegw_mock.operations import carry_out
from tradegw_mock.requests import (
    Answer,
    AnswerError,
    Cancel,
    Done,
    GetBalances,
    GetInstruments,
    GetOrder,
    GetPrice,
    GetTime,
    Listed,
    ListFills,
    ListOpenOrders,
    ListOrders,
    Mutation,
    Place,
    Question,
    Replace,
)
from tradegw_mock.translate import to_stream_item
from tradegw_mock.venue import MockVenue

from tests.simulation.cells import ABSENT, MUTATIONS
from tradegw import (
    AccountName,
    ExecutionReport,
    NotSent,
    OutcomeUnknown,
    TradeId,
    hookimpl,
)
from tradegw.testing.simulation import SimulatedClock, SimulationLoop
from tradegw.venue import (
    Page,
    Query,
    Runtime,
    StreamItem,
    StreamReady,
    Venue,
    VenueFactory,
    VenueRequest,
)

VISIBILITY_LAG_S = 1.0
HOUSE = "counterparty"
OFFERER = "offerer"
OPERATIONS: dict[type[Any], str] = {
    Place: "place",
    Cancel: "cancel",
    Replace: "replace",
    GetOrder: "order",
    ListOpenOrders: "open_orders",
    ListOrders: "orders",
    ListFills: "fills",
    GetBalances: "balances",
    GetPrice: "price",
    GetInstruments: "instruments",
    GetTime: "time",
}


@dataclass(eq=False)
class Wire:
    """One answer that somebody waits for."""

    future: asyncio.Future[Answer]

    def answer(self, answer: Answer) -> None:
        if not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Subscription:
    """One open stream of an account's events."""

    def __init__(self, network: Network, account: str) -> None:
        self.account = account
        self.filter: StreamFaults = network.chaos.open_stream(account, self.cut)
        self.last_s = 0.0
        self._network = network
        self._events: deque[Event] = deque()
        self._is_cut = False
        self._waiter: asyncio.Future[None] | None = None

    def push(self, events: Sequence[Event]) -> None:
        if not self._is_cut:
            self._events.extend(events)
            self._wake()

    def cut(self) -> None:
        self._is_cut = True
        self._wake()

    def close(self) -> None:
        self.filter.close()
        self._network.subscriptions.pop(self, None)

    async def next(self) -> Event:
        while not self._events:
            if self._is_cut:
                raise OSError("the stream's connection broke")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._events.popleft()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Network:
    """The exchange, and every connection to it.

    Attributes:
        is_down: Whether nobody can connect.
        watch: Told of each request that leaves a gateway, with the exchange's time.
        hit: Told of each fault that acted, what on, and how the order stood.
        arriving: Looks at each message that arrives, and says for how long it is held up.
        telling: Looks at each order that a stream is about to tell of.
        in_flight: What is on its way, and what it is about.
        placed: How the order of each placement stood once it was carried out, by account and name.
    """

    def __init__(self, loop: SimulationLoop, rng: random.Random, *, seed: int) -> None:
        self.loop = loop
        self.clock = SimulatedClock(loop, offset_ns=round(rng.uniform(-1.2, 1.2) * 1e9))
        self.exchange = Exchange(INSTRUMENTS, clock=self.clock.time_ns)
        self.chaos = Chaos(clock=self.clock.time_ns, seed=seed, record=self._on_mark)
        for name in (HOUSE, OFFERER):
            self.exchange.create_account(name, balances={a: b * 100 for a, b in BALANCES.items()})
        self.exchange.listen(self._on_change)
        self.is_down = False
        self.is_calm = False
        self.subscriptions: dict[Subscription, None] = {}
        self.watch: Callable[[Mutation], None] = lambda _: None
        self.hit: Callable[[str, Target, str], None] = lambda *_: None
        self.told: Callable[[str], None] = lambda _: None
        self.arriving: Callable[[Mutation | Question, Target], float] = lambda *_: 0.0
        self.telling: Callable[[str, Order], None] = lambda *_: None
        self.restarts: Callable[[], None] = lambda: None
        self._rng = rng
        self._trades: dict[str, dict[int, str]] = {}
        self._epoch = 0
        self.in_flight: dict[Wire, Target] = {}
        self.placed: dict[tuple[str, str | None], str] = {}
        self._stood: str | None = None
        # What happens here goes on when whoever asked for it is dead.
        self._context = copy_context()

    def _on_mark(self, mark: Mark) -> None:
        self.hit(mark.kind.value, mark.target, self._stood or self.stands(mark.target))

    def stands(self, target: Target) -> str:
        """Say how the order stands that something is about; `-` where it is about none."""
        if target.client_order_id is None:
            return "-"
        order = self.find(target.account, target.client_order_id)
        return ABSENT if order is None else order.ord_status.value

    def latency_s(self) -> float:
        """Return how long a message takes."""
        return self._rng.choice((0.0005, 0.002, 0.01, 0.05)) * (0.5 + self._rng.random())

    def _later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> None:
        self.loop.call_later(delay_s, callback, *args, context=self._context)

    # --- requests -------------------------------------------------------------------------------

    async def ask(self, request: Mutation | Question) -> Answer:
        """Send a request, and wait for its answer."""
        if isinstance(request, (Place, Cancel, Replace)):
            self.watch(request)
        if self.is_down and self._rng.random() < 0.5:
            raise NotSent("connection refused")
        wire = Wire(self.loop.create_future())
        self.in_flight[wire] = self.target(request)
        self._later(self.latency_s(), self._arrive, request, wire, self._epoch)
        try:
            return await wire.future
        finally:
            self.in_flight.pop(wire, None)

    def target(self, request: Mutation | Question) -> Target:
        """Say what a request is about, for faults."""
        operation = OPERATIONS[type(request)]
        name, symbol = getattr(request, "client_order_id", None), getattr(request, "symbol", None)
        if isinstance(request, Place):
            name, symbol = request.order.client_order_id, request.order.symbol
        return Target(
            operation=operation,
            account=request.account,
            symbol=symbol or "",
            client_order_id=name,
            order_id=getattr(request, "order_id", None),
        )

    def _arrive(
        self, request: Mutation | Question, wire: Wire, epoch: int, *, is_late: bool = False
    ) -> None:
        target = self.target(request)
        if not self.is_down and epoch == self._epoch:
            self.exchange.expire_due()
            held_s = self.arriving(request, target)
            if held_s and not is_late:
                self._later(held_s, partial(self._arrive, request, wire, epoch, is_late=True))
                return
        if self.is_down or epoch != self._epoch:
            self._later(self.latency_s(), wire.fail, OutcomeUnknown("the connection broke"))
            return
        outcome = self.chaos.before(target)
        if outcome.is_lost:
            self._lose(wire)
        elif outcome.error is not None:
            self._later(self.latency_s(), wire.fail, _error(outcome.error))
        elif outcome.delay_s:
            self._later(outcome.delay_s, self._carry_out, request, target, wire)
        else:
            self._carry_out(request, target, wire)

    def _carry_out(self, request: Mutation | Question, target: Target, wire: Wire) -> None:
        exchange = self.exchange
        exchange.expire_due()
        stood = None if isinstance(request, Place) else self.stands(target)
        if isinstance(request, Cancel):
            self._stood = stood
            self._fill_first(request)
            self._stood = None
        result: Answer | Exception
        try:
            result = carry_out(exchange, request, self.clock.time_ns)
        except Refusal as e:
            result = AnswerError(e.code, e.text)
        else:
            if isinstance(result, Listed):
                result = self._shown(target, result)
            elif isinstance(request, Cancel) and isinstance(result, Done):
                self._stood = stood
                self._fill_afterwards(target, result)
        if isinstance(request, Place):
            self.placed.setdefault((target.account, target.client_order_id), self.stands(target))
        self._stood = stood
        outcome = self.chaos.after(target)
        self._stood = None
        if outcome.is_lost:
            self._lose(wire)
            return
        if outcome.error is not None:
            result = _error(outcome.error)
        delay_s = self.latency_s() + outcome.delay_s
        self._later(delay_s, self._answer, wire, result, self._epoch)

    def _answer(self, wire: Wire, result: Answer | Exception, epoch: int) -> None:
        if epoch != self._epoch:
            wire.fail(OutcomeUnknown("the connection broke"))
        elif isinstance(result, Exception):
            wire.fail(result)
        else:
            wire.answer(result)

    def _lose(self, wire: Wire) -> None:
        """Let an answer never come, or the connection break."""
        if self._rng.random() < 0.5:
            self._later(self._rng.uniform(0, 2), wire.fail, OutcomeUnknown("connection reset"))

    def _shown(self, target: Target, listed: Listed) -> Listed:
        return msgspec.structs.replace(
            listed,
            orders=self.chaos.shown_orders(target, listed.orders),
            fills=tuple(self.chaos.shown_fills(target, listed.fills)),
        )

    # --- what happens at the exchange -------------------------------------------------------------

    def _fill_first(self, request: Cancel) -> None:
        order = self.find(request.account, request.client_order_id)
        if order is None or not order.is_open or order.is_waiting:
            return
        if self.chaos.on_cancel(self.target(request)):
            self.fill(order)

    def _fill_afterwards(self, target: Target, done: Done) -> None:
        order = done.order
        if order is not None and order.order_qty is not None and order.cum_qty < order.order_qty:
            self.chaos.canceled(
                msgspec.structs.replace(target, symbol=order.symbol, order_id=order.order_id)
            )

    def find(self, account: str, client_order_id: str | None) -> Order | None:
        """Return an order by the name that its owner gave it."""
        if client_order_id is None:
            return None
        try:
            return self.exchange.get_order(account, client_order_id=client_order_id)
        except Refusal:
            return None

    def users_orders(self) -> list[Order]:
        """Return what is open, of everybody but the house."""
        return [
            order
            for account in self.exchange.accounts()
            if account.name not in (HOUSE, OFFERER) and account.kind == "USER"
            for order in self.exchange.open_orders(account.name)
        ]

    def open_orders(self) -> list[Order]:
        """Return what of that works."""
        return [order for order in self.users_orders() if not order.is_waiting]

    def fill(self, order: Order, qty: Decimal | None = None) -> None:
        """Let the counterparty trade against an order, and whoever stands before it."""
        assert order.price is not None
        assert order.order_qty is not None
        self.trade(
            order.symbol,
            Side.SELL if order.side is Side.BUY else Side.BUY,
            order.leaves_qty if qty is None else min(qty, order.leaves_qty),
            order.price,
        )

    def trade(self, symbol: str, side: Side, qty: Decimal, price: Decimal) -> None:
        """Let the counterparty send an order that trades at once, as far as it can."""
        try:
            self.exchange.place(
                HOUSE,
                OrderRequest(
                    symbol=symbol,
                    side=side,
                    ord_type=OrdType.LIMIT,
                    order_qty=qty,
                    price=price,
                    time_in_force=TimeInForce.IOC,
                ),
            )
        except Refusal as e:
            self.told(f"the counterparty is refused: {e}")

    def offer_against(self, symbol: str, side: Side, qty: Decimal, price: Decimal) -> None:
        """Let somebody rest an order with which one that is about to be placed trades at once."""
        # Those who would take it away are served first.
        self.trade(symbol, Side.SELL if side is Side.BUY else Side.BUY, Decimal(1), price)
        self._place_for(
            OFFERER,
            symbol=symbol,
            side=Side.SELL if side is Side.BUY else Side.BUY,
            order_qty=qty,
            price=price,
        )

    def run_dry(self, order: Order, wall: Decimal) -> None:
        """Fire a buyer's trigger when nobody sells but at a price that nobody can pay."""
        assert order.trigger_price is not None
        symbol, qty = order.symbol, Decimal("0.001")
        for account in self.exchange.accounts():
            for other in self.exchange.open_orders(account.name, symbol=symbol):
                if other.side is Side.SELL and not other.is_waiting and account.kind == "USER":
                    self.cancel_there(other)
        self._place_for(OFFERER, symbol=symbol, side=Side.SELL, order_qty=Decimal(5), price=wall)
        self.offer_against(symbol, Side.BUY, qty, order.trigger_price)
        self.trade(symbol, Side.BUY, qty, order.trigger_price)
        for left in self.exchange.open_orders(OFFERER, symbol=symbol):
            self.cancel_there(left)

    def _place_for(self, account: str, **fields: Any) -> None:
        try:
            self.exchange.place(account, OrderRequest(ord_type=OrdType.LIMIT, **fields))
        except Refusal as e:
            self.told(f"{account} is refused: {e}")

    def cancel_there(self, order: Order) -> None:
        """Cancel an order at the venue, past the gateway."""
        try:
            self.exchange.cancel(order.account, order_id=order.order_id)
        except Refusal as e:
            self.told(f"not canceled at the venue: {e}")

    def due(self) -> None:
        """Do what faults do by themselves."""
        for action in self.chaos.due():
            if isinstance(action, LateFill):
                self.fill_outside(action.account, action.order_id)
                continue
            self.restarts()

    def fill_outside(self, account: str, order_id: int) -> None:
        """Fill an order though it was cancelled."""
        try:
            self.exchange.fill_outside(account, order_id=order_id)
        except Refusal as e:
            self.told(f"not filled after its cancel: {e}")

    # --- connections ----------------------------------------------------------------------------

    def go_down(self) -> None:
        """Cut every connection; what is on its way in either direction is lost."""
        for target in self.in_flight.values():
            if target.operation in MUTATIONS:
                self.hit("RESTART", target, self.stands(target))
        self.is_down = True
        self._epoch += 1
        self.cut_streams()

    def come_back(self) -> None:
        """Take connections again."""
        self.is_down = False

    def cut_streams(self) -> None:
        """Break every stream."""
        for subscription in tuple(self.subscriptions):
            subscription.cut()

    def subscribe(self, account: str) -> Subscription:
        """Open a stream."""
        if self.is_down:
            raise OSError("connection refused")
        subscription = Subscription(self, account)
        self.subscriptions[subscription] = None
        return subscription

    def trade_name(self, symbol: str, trade_id: int) -> str:
        """Return a trade's number among those of its symbol, as many venues count them.

        Two orders of one account may then have fills of one number.
        """
        numbers = self._trades.setdefault(symbol, {})
        return numbers.setdefault(trade_id, str(len(numbers) + 1))

    def _on_change(self, change: Change) -> None:
        for fill in change.fills:
            self.trade_name(fill.symbol, fill.trade_id)
        for subscription in tuple(self.subscriptions):
            events = [e for e in change.events if e.account == subscription.account]
            if not events:
                continue
            for event in events:
                if isinstance(event, OrderEvent):
                    self.telling(event.account, event.order)
            passed, is_cut = subscription.filter.pass_on(events)
            # A connection keeps the order of what it carries.
            at_s = max(subscription.last_s, self.loop.time() + self.latency_s())
            subscription.last_s = at_s
            if passed:
                self._later(at_s - self.loop.time(), subscription.push, passed)
            if is_cut:
                self._later(at_s - self.loop.time(), subscription.cut)


def _error(error: ErrorAnswer) -> Exception:
    match error.kind:
        case FaultKind.TOO_MANY_REQUESTS | FaultKind.BANNED:
            return AnswerError("TOO_MANY_REQUESTS", error.text)
        case FaultKind.MAINTENANCE:
            return AnswerError("UNAVAILABLE", error.text)
        case _:
            return OutcomeUnknown(f"{error.status} {error.code}: {error.text}")


class SimulatedVenue(MockVenue):
    """The venue `mock`, reached through the network."""

    def __init__(self, account: AccountName, network: Network) -> None:
        super().__init__(account, account)
        self._network = network

    @property
    def capabilities(self) -> Any:
        """Those of the mock, with the lag that faults make use of."""
        return replace(CAPABILITIES, visibility_lag_s=VISIBILITY_LAG_S)

    async def _ask(self, request: Mutation | Question) -> Answer:
        return await self._network.ask(request)

    async def execute(self, request: VenueRequest) -> Sequence[ExecutionReport]:
        """Send a request."""
        return [self._named(report) for report in await super().execute(request)]

    async def fetch(self, query: Query) -> Page[Any]:
        """Answer a query."""
        page = await super().fetch(query)
        items = [self._named(i) if isinstance(i, ExecutionReport) else i for i in page.items]
        return replace(page, items=tuple(items))

    def _named(self, report: ExecutionReport) -> ExecutionReport:
        if report.trade_id is None:
            return report
        assert report.symbol is not None
        name = self._network.trade_name(report.symbol, int(report.trade_id))
        return replace(report, trade_id=TradeId(name))

    async def stream(self, since: int) -> AsyncIterator[StreamItem]:
        """Yield what the network brings."""
        network = self._network
        subscription = network.subscribe(self.exchange_account)
        try:
            await asyncio.sleep(network.latency_s())
            yield StreamReady(
                instance_id=network.exchange.instance_id, venue_account_id=self.exchange_account
            )
            while True:
                item = to_stream_item(await subscription.next(), self.account)
                yield self._named(item) if isinstance(item, ExecutionReport) else item
        finally:
            subscription.close()


class NoOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The simulated venue takes none."""


class SimulatedPlugin:
    """Offers the venue `simulated`."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @hookimpl
    def tradegw_register_venues(self, api_version: int) -> Sequence[VenueFactory[Any]]:
        return [VenueFactory(name="simulated", config_type=NoOptions, open=self.open)]

    @asynccontextmanager
    async def open(self, config: object, runtime: Runtime) -> AsyncGenerator[Venue]:
        if self._network.is_down:
            raise OSError("connection refused")
        yield SimulatedVenue(runtime.account, self._network)
