"""What every double has: a real book, a server on the loopback, a clock to turn, and faults.

A double speaks one exchange's protocol, written from that exchange's documentation, and shares nothing with
our definition of it. Behind the protocol is the matching engine of `tradegw-mock`: what happens there is
real, to the last digit of every balance, and its audit trail knows nothing of the gateway.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl

from aiohttp import WSMsgType, web
from tradegw_mock.exchange import (
    Balance,
    BalanceEvent,
    Change,
    Event,
    Exchange,
    ExecType,
    Fill,
    Instrument,
    Order,
    OrderEvent,
    OrderRequest,
    OrdStatus,
    OrdType,
    Refusal,
    RefusalCode,
    Side,
)

NS_PER_S = 1_000_000_000
TRADER, CROWD, OTHER = "trader", "crowd", "other"
BID, ASK = Decimal(64000), Decimal(66000)
FEE = Decimal("0.001")


class TurningClock:
    """The time of day, plus what a test turned it by; a `ports.Clock` for the gateway as well."""

    def __init__(self) -> None:
        self._ahead_ns = 0
        self._turned = asyncio.Event()

    def time_ns(self) -> int:
        return time.time_ns() + self._ahead_ns

    def monotonic_ns(self) -> int:
        return time.monotonic_ns() + self._ahead_ns

    async def sleep(self, seconds: float) -> None:
        due_ns = self.monotonic_ns() + int(seconds * NS_PER_S)
        await asyncio.sleep(0)
        while (left_ns := due_ns - self.monotonic_ns()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_ns / NS_PER_S):
                    await self._turned.wait()

    def turn(self, seconds: float) -> None:
        """Let so much time pass at once, and wake whoever slept through it."""
        self._ahead_ns += int(seconds * NS_PER_S)
        self._turned.set()
        self._turned = asyncio.Event()


class Fault(StrEnum):
    """What may befall a request."""

    REQUEST_LOST = "REQUEST_LOST"
    """It never arrives; the connection breaks."""
    REQUEST_HELD = "REQUEST_HELD"
    """The same, and it arrives when `deliver` is called."""
    ANSWER_LOST = "ANSWER_LOST"
    """It is carried out, and the connection breaks."""
    ERROR_BEFORE = "ERROR_BEFORE"
    """A gateway answers 502, and it never arrives."""
    ERROR_AFTER = "ERROR_AFTER"
    """It is carried out, and a gateway answers 502."""
    THROTTLED = "THROTTLED"
    """The exchange answers that there were too many."""
    EMPTY = "EMPTY"
    """A listing that is empty by mistake."""


@dataclass(frozen=True)
class Call:
    """One request, as it came over the wire."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query_string(self) -> str:
        return self.target.partition("?")[2]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


class Refused(Exception):
    """The exchange says no, in its own words."""

    def __init__(self, body: Any, status: int = 200) -> None:
        super().__init__(f"{status} {body}")
        self.body = body
        self.status = status


Handler = Callable[[Call], Any]


@dataclass
class Route:
    """A path, what it does (the names of definitions' operations), and whether it needs a signature."""

    method: str
    path: str
    operation: str
    handler: Callable[..., Any]
    is_public: bool = False
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        self.pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path))


class Connection:
    """One private stream. What it is told leaves in order."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.request = request
        self.socket = socket
        self.topics: set[str] = set()
        self.is_known = False
        self.sequence = 0
        self._waiting: asyncio.Queue[str] = asyncio.Queue()

    def send(self, message: Any) -> None:
        self._waiting.put_nowait(message if isinstance(message, str) else json.dumps(message))

    async def write(self) -> None:
        while True:
            await self.socket.send_str(await self._waiting.get())


class Double(ABC):
    """An exchange, of whose protocol a subclass knows the words.

    Attributes:
        accepted: How often each operation was carried out.
        refusals: What was refused, in the exchange's words: a test that expects none can say so.
        is_mute: Streams stand and say nothing of what happens.
        is_stuttering: Streams say everything twice.
        is_unreachable: No stream can be opened.
    """

    definition: ClassVar[str]
    symbol: ClassVar[str]
    tick: ClassVar[str]
    step: ClassVar[str]
    key: ClassVar[str] = "double-key"
    secret: ClassVar[str]
    passphrase: ClassVar[str | None] = None
    stream_path: ClassVar[str]
    # Whether fees are of what is received; else of quote units.
    has_received_fees: ClassVar[bool] = False
    tells_liquidity: ClassVar[bool] = True
    tells_balances_live: ClassVar[bool] = True
    says_no_key: ClassVar[str]
    wrong_secret: ClassVar[str] = "d3Jvbmc="

    def __init__(self, clock: TurningClock) -> None:
        self.clock = clock
        self.skew_ns = 0
        base, quote = self.symbol.split("/")
        self.base, self.quote = base, quote
        self.instrument = Instrument(
            symbol=self.symbol,
            base=base,
            quote=quote,
            tick_size=Decimal(self.tick),
            lot_step=Decimal(self.step),
            min_qty=Decimal("0.0001"),
            max_qty=Decimal(1000),
            min_notional=Decimal(5),
            max_price=Decimal(10_000_000),
        )
        self.exchange = Exchange([self.instrument], clock=self.now_ns)
        fee = FEE if self.has_received_fees else Decimal(0)
        self.exchange.create_account(
            TRADER,
            balances={base: Decimal(10), quote: Decimal(1_000_000)},
            maker_fee=fee,
            taker_fee=fee,
        )
        for name in (CROWD, OTHER):
            self.exchange.create_account(
                name, balances={base: Decimal(1000), quote: Decimal(100_000_000)}
            )
        self.crowd(Side.BUY, "10", BID)
        self.crowd(Side.SELL, "10", ASK)
        self.accepted: Counter[str] = Counter()
        self._arrived: Counter[str] = Counter()
        self._last: dict[str, Call] = {}
        self.refusals: list[str] = []
        self.is_mute = self.is_stuttering = self.is_unreachable = False
        self.connections: list[Connection] = []
        self.logins = 0
        self._stillborn: list[Order] = []
        self._routes = list(self.routes())
        self._faults: dict[str, list[Fault]] = {}
        self._held: list[tuple[Route, Call]] = []
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.exchange.listen(self._on_change)

    # --- what a dialect says ----------------------------------------------------------------------

    @abstractmethod
    def routes(self) -> Iterator[Route]:
        """Iterate over the paths that it serves."""

    @abstractmethod
    def authenticate(self, call: Call) -> None:
        """Check key, signature, time and nonce.

        Raises:
            Refused: In the exchange's words.
        """

    @abstractmethod
    def refusal(self, refusal: Refusal, operation: str) -> Refused:
        """Say what the engine refused, in the exchange's words."""

    @abstractmethod
    def throttled(self) -> Refused:
        """Say that there were too many requests."""

    @abstractmethod
    def hear(self, connection: Connection, text: str) -> None:
        """Act on what came over a stream."""

    @abstractmethod
    def tell_order(self, connection: Connection, event: OrderEvent) -> None:
        """Tell a stream what happened to an order."""

    def tell_balances(self, connection: Connection) -> None:  # noqa: B027
        """Tell a stream the balances; not every exchange does."""

    def greet(self, connection: Connection) -> None:  # noqa: B027
        """Say what is said to whoever connects."""

    # --- what a dialect leans on ------------------------------------------------------------------

    def now_ns(self) -> int:
        """The exchange's own time."""
        return self.clock.time_ns() + self.skew_ns

    @property
    def now_ms(self) -> int:
        return self.now_ns() // 1_000_000

    @property
    def asked(self) -> int:
        """How often orders were asked about, whatever the answer."""
        return self._arrived["order"]

    def find(self, *, order_id: int | None = None, name: str | None = None) -> Order | None:
        with suppress(Refusal):
            return self.exchange.get_order(TRADER, order_id=order_id, client_order_id=name)
        for order in self._stillborn:
            if order.order_id == order_id or (order_id is None and order.client_order_id == name):
                return order
        return None

    def get(self, *, order_id: int | None = None, name: str | None = None) -> Order:
        order = self.find(order_id=order_id, name=name)
        if order is None:
            raise Refusal(RefusalCode.UNKNOWN_ORDER, "no such order")
        return order

    def orders(self) -> list[Order]:
        """List the trader's orders, the oldest first."""
        return [*self.exchange.order_history(TRADER).orders, *self._stillborn]

    def bury(self, request: OrderRequest) -> Order:
        """Make an order that is taken and cancelled in one breath, as post-only ones that would take are."""
        now_ns = self.now_ns()
        order = Order(
            order_id=900_000 + len(self._stillborn),
            account=TRADER,
            symbol=request.symbol,
            client_order_id=request.client_order_id,
            side=request.side,
            ord_type=request.ord_type,
            time_in_force=request.time_in_force,
            order_qty=request.order_qty,
            quote_qty=None,
            price=request.price,
            trigger_price=None,
            triggered=False,
            post_only=True,
            expire_time_ns=None,
            self_trade_prevention=request.self_trade_prevention,
            ord_status=OrdStatus.CANCELED,
            cum_qty=Decimal(0),
            cum_quote=Decimal(0),
            held=Decimal(0),
            priority=0,
            created_time_ns=now_ns,
            updated_time_ns=now_ns,
            working_time_ns=None,
            reason="POST_ONLY",
        )
        self._stillborn.append(order)
        event = OrderEvent(
            account=TRADER, seq=0, time_ns=now_ns, exec_type=ExecType.CANCELED, order=order
        )
        self._tell(event)
        return order

    def open_orders(self) -> list[Order]:
        """List what is open, unless a fault hides it."""
        if self._take("open_orders", Fault.EMPTY):
            return []
        return self.exchange.open_orders(TRADER)

    def fills(self) -> list[Fill]:
        """List the trader's fills, the oldest first."""
        return self.exchange.fills(TRADER)

    def fills_of(self, order: Order) -> list[Fill]:
        return [fill for fill in self.fills() if fill.order_id == order.order_id]

    def balances(self) -> dict[str, Balance]:
        return self.exchange.balances(TRADER)

    def fee(self, fill: Fill) -> tuple[Decimal, str]:
        if self.has_received_fees:
            return fill.fee, fill.fee_asset
        return fill.quote_qty * FEE, self.quote

    def average(self, order: Order) -> Decimal:
        return order.cum_quote / order.cum_qty if order.cum_qty else Decimal(0)

    # --- the rest of the market -------------------------------------------------------------------

    def crowd(self, side: Side, qty: str, price: Decimal, *, account: str = CROWD) -> None:
        """Let others place an order."""
        request = OrderRequest(
            symbol=self.symbol,
            side=side,
            ord_type=OrdType.LIMIT,
            order_qty=Decimal(qty),
            price=price,
        )
        self.exchange.place(account, request)

    def meet(self, order: Order, qty: str) -> None:
        """Let others trade with the trader's resting order, of which so much is filled."""
        assert order.price is not None
        side = Side.SELL if order.side is Side.BUY else Side.BUY
        self.crowd(side, qty, order.price)

    def trade_at(self, price: str) -> None:
        """Let others trade among themselves, which moves the last price."""
        self.crowd(Side.BUY, "0.001", Decimal(price), account=OTHER)
        self.crowd(Side.SELL, "0.001", Decimal(price))

    # --- faults -----------------------------------------------------------------------------------

    def inject(self, fault: Fault, operation: str) -> None:
        """Let the next request of an operation meet a fault."""
        self._faults.setdefault(operation, []).append(fault)

    @property
    def is_spared(self) -> bool:
        """Whether every fault has hit."""
        return not any(self._faults.values())

    def deliver(self) -> list[Any]:
        """Let what was held arrive now, and return the answers that nobody waits for."""
        held, self._held = self._held, []
        return [self._act(route, call)[1] for route, call in held]

    def last(self, operation: str) -> Call:
        """Return the last request of an operation, as it came."""
        return self._last[operation]

    def replay(self, operation: str, **changes: Any) -> Any:
        """Let the last request of an operation arrive again, changed or not, and return the answer."""
        call = replace(self._last[operation], **changes)
        route = self._route(call)
        assert route is not None
        return self._act(route, call)[1]

    def cut_streams(self) -> None:
        """Break every stream, without a word."""
        for connection in self.connections:
            transport = connection.request.transport
            assert transport is not None
            transport.abort()

    def _take(self, operation: str, *kinds: Fault) -> Fault | None:
        waiting = self._faults.get(operation)
        if waiting and waiting[0] in kinds:
            return waiting.pop(0)
        return None

    # --- serving ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get(self.stream_path, self._serve_stream)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        # Nothing that happened may have broken the books of this witness.
        assert self.exchange.check_invariants() == []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = Call(
            method=request.method,
            target=request.raw_path,
            headers=request.headers,
            body=await request.read(),
        )
        route = self._route(call)
        if route is None:
            self.refusals.append(f"no such path: {call.method} {call.target}")
            return web.Response(status=404, text="<html>not found</html>", content_type="text/html")
        fault = self._take(route.operation, *(set(Fault) - {Fault.EMPTY}))
        if fault in {Fault.REQUEST_LOST, Fault.REQUEST_HELD}:
            if fault is Fault.REQUEST_HELD:
                self._held.append((route, call))
            return _broken(request)
        if fault is Fault.ERROR_BEFORE:
            return _bad_gateway()
        if fault is Fault.THROTTLED:
            refused = self.throttled()
            return web.json_response(refused.body, status=refused.status)
        status, answer = self._act(route, call)
        if fault is Fault.ANSWER_LOST:
            return _broken(request)
        if fault is Fault.ERROR_AFTER:
            return _bad_gateway()
        return web.json_response(answer, status=status)

    def _route(self, call: Call) -> Route | None:
        for route in self._routes:
            if route.method == call.method and route.pattern.fullmatch(call.path):
                return route
        return None

    def _act(self, route: Route, call: Call) -> tuple[int, Any]:
        found = route.pattern.fullmatch(call.path)
        assert found is not None
        self._arrived[route.operation] += 1
        self._last[route.operation] = call
        try:
            if not route.is_public:
                self.authenticate(call)
            answer = route.handler(call, **found.groupdict())
        except Refusal as e:
            refused = self.refusal(e, route.operation)
        except Refused as e:
            refused = e
        else:
            self.accepted[route.operation] += 1
            return 200, answer
        self.refusals.append(f"{route.operation}: {refused}")
        return refused.status, refused.body

    async def _serve_stream(self, request: web.Request) -> web.StreamResponse:
        if self.is_unreachable:
            return _broken(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = Connection(request, socket)
        self.connections.append(connection)
        writing = asyncio.create_task(connection.write())
        try:
            self.greet(connection)
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self.hear(connection, message.data)
        finally:
            self.connections.remove(connection)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        return socket

    def _on_change(self, change: Change) -> None:
        for event in change.events:
            if event.account == TRADER:
                self._tell(event)

    def _tell(self, event: Event) -> None:
        if self.is_mute:
            return
        for connection in self.connections:
            for _ in range(2 if self.is_stuttering else 1):
                if isinstance(event, BalanceEvent):
                    self.tell_balances(connection)
                else:
                    self.tell_order(connection, event)


def _broken(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=500)


def _bad_gateway() -> web.Response:
    return web.Response(status=502, text="<html>Bad Gateway</html>", content_type="text/html")


def amount(text: str | None, wrong: Refused) -> Decimal:
    """Read a plain positive decimal, as exchanges want them."""
    if text is None or not re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII) or not Decimal(text):
        raise wrong
    return Decimal(text)


def plain(value: Decimal) -> str:
    return format(value, "f")


__all__ = [
    "ASK",
    "BID",
    "CROWD",
    "FEE",
    "NS_PER_S",
    "OTHER",
    "TRADER",
    "Call",
    "Connection",
    "Double",
    "Fault",
    "RefusalCode",
    "Refused",
    "Route",
    "TurningClock",
    "amount",
    "plain",
]
