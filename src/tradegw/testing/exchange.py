"""A small exchange in memory that misbehaves on command. It keeps a ledger, which tests compare with.

It matches nothing: orders rest until a test fills, cancels or expires them. Market orders fill on arrival.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from tradegw.errors import VenueRejected
from tradegw.model import (
    CommandKind,
    ExecType,
    ExecutionReport,
    Instrument,
    Liquidity,
    OrdStatus,
    OrdType,
    Side,
    TimeInForce,
    TradeId,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw.ports import Clock
from tradegw.testing.builders import an_instrument
from tradegw.venue import BalanceUpdate, Query, StreamGap, StreamItem, StreamReady

__all__ = ["Fault", "Placed", "Request", "ScriptedExchange"]

ZERO = Decimal(0)


class Fault(StrEnum):
    """What goes wrong with one request."""

    LOSE_REQUEST = "LOSE_REQUEST"
    """It never arrives, and the sender hears nothing."""
    LOSE_ANSWER = "LOSE_ANSWER"
    """It is carried out, and the sender hears nothing."""
    DELAY = "DELAY"
    """The sender hears nothing; it arrives when `deliver` is called, and is refused if it is too old then."""
    SLOW = "SLOW"
    """It is carried out, and the answer takes a moment."""
    HANG = "HANG"
    """It is carried out, and no answer comes as long as anyone waits."""
    NOT_SENT = "NOT_SENT"
    REFUSE = "REFUSE"
    REFUSE_AFTER = "REFUSE_AFTER"
    """It is carried out, and the sender is told that it was refused: a repetition inside the plugin."""
    THROTTLE = "THROTTLE"
    GARBAGE = "GARBAGE"
    """It is carried out, and the answer is `ScriptedExchange.garbage`."""
    EMPTY = "EMPTY"
    """It is carried out, and the answer holds no report."""
    CRASH = "CRASH"
    """It is carried out, and the plugin raises an error of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it travels."""

    command: CommandKind
    client_id: VenueClientOrderId
    valid_until_ns: int | None
    valid_until_height: int | None = None
    symbol: str = ""
    side: Side = Side.BUY
    ord_type: OrdType = OrdType.LIMIT
    time_in_force: TimeInForce = TimeInForce.GTC
    order_qty: Decimal | None = None
    price: Decimal | None = None


@dataclass(slots=True, kw_only=True)
class Placed:
    """An order in the exchange's ledger."""

    venue_order_id: VenueOrderId
    client_id: VenueClientOrderId
    symbol: str
    side: Side
    order_qty: Decimal
    price: Decimal | None
    created_ns: int
    until_height: int | None = None
    cum_qty: Decimal = ZERO
    status: OrdStatus = OrdStatus.NEW
    is_forgotten: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it can still fill."""
        return self.status.is_open


class ScriptedExchange:
    """The exchange. It outlives the venues that connect to it, as a real one outlives a gateway.

    Attributes:
        orders: Every order that was ever accepted, oldest first.
        trades: Every fill, oldest first.
        requests: Every request that a venue sent, whether or not it arrived.
        queries: Every query that was asked.
        in_transit: Requests that were delayed.
        held: Stream items that wait for `release`, or None while nothing is held.
        visibility_lag_s: For how long queries do not show a new order.
        request_validity_s: How long a request is valid; None: for ever.
        block_s: Makes it a chain with blocks of so many seconds: requests are valid until a height, at which
            orders expire, and unfilled ones are forgotten.
        clock_offset_s: How far its clock is ahead of ours.
        fill_on_arrival: Quantity of the next orders that fills at once; market orders fill in full.
        answer_also: Reports that the next answer to a placement holds beside its own.
        garbage: What a garbled answer holds.
        query_errors: Raised by the next queries, one each; None lets one through.
        away: Raised by every request and query, while the exchange cannot be reached.
        empty_listings: Whether listings of orders are empty, by mistake.
        hidden_fills: Whether queries for fills find none.
        hidden_orders: Whether queries for orders find none; those for fills do.
        idempotent: Whether a placement under a known client id is answered with the order that is there.
        unreadable: An order about which a query is answered by nonsense.
        drops: Whether the stream loses what happens, while it looks healthy.
        reference_px: What it tells as the price of everything; None: it tells none.
        reference_age_s: How old that price is.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        instruments: Sequence[Instrument] = (),
        instance_id: str = "instance-1",
        account_id: str = "account-1",
    ) -> None:
        self.clock = clock
        self.instruments = tuple(instruments) or (
            an_instrument(),
            an_instrument(symbol="ETH/USDT", venue_symbol="ETHUSDT", base_asset="ETH"),
        )
        self.instance_id = instance_id
        self.account_id = account_id
        self.environment = "scripted"
        self.positions: dict[str, Decimal] = {}
        self.orders: list[Placed] = []
        self.trades: list[ExecutionReport] = []
        self.requests: list[Request] = []
        self.queries: list[Query] = []
        self.in_transit: list[Request] = []
        self.held: list[StreamItem] | None = None
        self.visibility_lag_s = 0.0
        self.request_validity_s: float | None = 5.0
        self.block_s: float | None = None
        self.clock_offset_s = 0.0
        self.fill_on_arrival = ZERO
        self.answer_also: list[ExecutionReport] = []
        self.garbage: object = "what?"
        self.query_errors: deque[Exception | None] = deque()
        self.away: Exception | None = None
        self.empty_listings = False
        self.hidden_fills = False
        self.hidden_orders = False
        self.idempotent = False
        self.unreadable: VenueClientOrderId | None = None
        self.drops = False
        self.reference_px: Decimal | None = Decimal(100)
        self.reference_age_s = 0.0
        self._faults: dict[CommandKind, deque[Fault | None]] = {k: deque() for k in CommandKind}
        self._always: dict[CommandKind, Fault] = {}
        self._streams: set[asyncio.Queue[StreamItem | Exception]] = set()

    # --- the script -----------------------------------------------------------------------------

    def script(self, command: CommandKind, *faults: Fault | None) -> None:
        """Let the next requests of this kind go wrong, one after the other; None lets one through."""
        self._faults[command].extend(faults)

    def always(self, command: CommandKind, fault: Fault) -> None:
        """Let every request of this kind go wrong until `calm`."""
        self._always[command] = fault

    def calm(self) -> None:
        """Forget every fault that is to come, and lose no more of the stream."""
        self._always.clear()
        self.query_errors.clear()
        self.drops = False
        for faults in self._faults.values():
            faults.clear()

    def next_fault(self, command: CommandKind) -> Fault | None:
        """Return what goes wrong with a request that is made now."""
        faults = self._faults[command]
        return faults.popleft() if faults else self._always.get(command)

    # --- its own time ---------------------------------------------------------------------------

    def time_ns(self) -> int:
        """Return the exchange's time."""
        return self.clock.time_ns() + int(self.clock_offset_s * 1_000_000_000)

    @property
    def height(self) -> int | None:
        """The height of its last block, where it is a chain."""
        return (
            None if self.block_s is None else int(self.time_ns() / (self.block_s * 1_000_000_000))
        )

    # --- the ledger -----------------------------------------------------------------------------

    def placed(self, client_id: VenueClientOrderId | str | None) -> Placed:
        """Return the one order under a client id.

        Raises:
            AssertionError: There is none, or more than one: it was doubled.
        """
        found = [order for order in self.orders if order.client_id == client_id]
        assert len(found) == 1, f"{len(found)} orders under {client_id}"
        return found[0]

    def fills_of(self, placed: Placed) -> list[ExecutionReport]:
        """Return the fills of an order."""
        return [t for t in self.trades if t.venue_order_id == placed.venue_order_id]

    def sent(self, command: CommandKind) -> list[Request]:
        """Return the requests of one kind that were sent."""
        return [request for request in self.requests if request.command is command]

    # --- what happens at the exchange -------------------------------------------------------------

    def arrive(self, request: Request) -> list[ExecutionReport]:
        """Carry a request out, and tell the streams.

        Raises:
            VenueRejected: It is too old, or the order is not there.
        """
        until_ns = request.valid_until_ns
        if until_ns is not None and self.time_ns() > until_ns:
            raise VenueRejected("the request is too old", reason="REQUEST_EXPIRED")
        height = self.height
        if (
            height is not None
            and request.valid_until_height is not None
            and height > request.valid_until_height
        ):
            raise VenueRejected("the request is too old", reason="REQUEST_EXPIRED")
        match request.command:
            case CommandKind.NEW:
                return self._accept(request)
            case CommandKind.CANCEL:
                return [self.cancel(self._open(request.client_id), command=CommandKind.CANCEL)]
            case CommandKind.REPLACE:
                return [self._replace(request)]

    def deliver(self) -> list[VenueRejected]:
        """Let the delayed requests arrive. Returns why those that were refused were refused."""
        refusals: list[VenueRejected] = []
        requests, self.in_transit = self.in_transit, []
        for request in requests:
            try:
                self.arrive(request)
            except VenueRejected as e:
                refusals.append(e)
        return refusals

    def fill(self, placed: Placed, qty: Decimal | str | None = None, px: str = "100") -> TradeId:
        """Fill an order, closed or not, by `qty` or what is left; returns the trade's id."""
        left = placed.order_qty - placed.cum_qty
        return self._trade(placed, left if qty is None else Decimal(qty), Decimal(px))

    def cancel(self, placed: Placed, *, command: CommandKind | None = None) -> ExecutionReport:
        """Cancel an order."""
        placed.status = OrdStatus.CANCELED
        return self._told(self._report(ExecType.CANCELED, placed, command))

    def expire(self, placed: Placed) -> None:
        """Let an order's time end."""
        placed.status = OrdStatus.EXPIRED
        self._told(self._report(ExecType.EXPIRED, placed))

    def reset(self, instance_id: str) -> None:
        """Come back as another instance that knows of nothing."""
        self.instance_id = instance_id
        for placed in self.orders:
            placed.is_forgotten = True
        self.break_stream(ConnectionResetError("the exchange restarted"))

    def _accept(self, request: Request) -> list[ExecutionReport]:
        assert request.order_qty is not None
        placed = Placed(
            venue_order_id=VenueOrderId(f"v{len(self.orders) + 1}"),
            client_id=request.client_id,
            symbol=request.symbol,
            side=request.side,
            order_qty=request.order_qty,
            price=request.price,
            created_ns=self.time_ns(),
            until_height=request.valid_until_height,
        )
        if self.idempotent:
            for known in self.orders:
                if known.client_id == request.client_id:
                    return [self._report(ExecType.NEW, known, CommandKind.NEW)]
        self.orders.append(placed)
        before = len(self.trades)
        reports = [self._told(self._report(ExecType.NEW, placed, CommandKind.NEW))]
        is_market = request.ord_type is OrdType.MARKET
        at_once = placed.order_qty if is_market else min(self.fill_on_arrival, placed.order_qty)
        if at_once:
            self._trade(placed, at_once, placed.price or self.reference_px or Decimal(1))
        reports.extend(self.trades[before:])
        reports.extend(self.answer_also)
        self.answer_also = []
        if placed.is_open and request.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            reports.append(self.cancel(placed))
        return reports

    def _replace(self, request: Request) -> ExecutionReport:
        placed = self._open(request.client_id)
        order_qty = request.order_qty or placed.order_qty
        if order_qty <= placed.cum_qty:
            raise VenueRejected("filled already", reason="TOO_LATE")
        placed.order_qty, placed.price = order_qty, request.price or placed.price
        if request.valid_until_height is not None:
            placed.until_height = request.valid_until_height
        return self._told(self._report(ExecType.REPLACED, placed, CommandKind.REPLACE))

    def _open(self, client_id: VenueClientOrderId) -> Placed:
        for placed in self.orders:
            if placed.client_id == client_id and placed.is_open and not placed.is_forgotten:
                return placed
        raise VenueRejected(f"no open order {client_id}", reason="UNKNOWN_ORDER")

    def _trade(self, placed: Placed, qty: Decimal, px: Decimal) -> TradeId:
        placed.cum_qty += qty
        if placed.cum_qty >= placed.order_qty:
            placed.status = OrdStatus.FILLED
        elif placed.is_open:
            placed.status = OrdStatus.PARTIALLY_FILLED
        trade_id = TradeId(f"t{len(self.trades) + 1}")
        trade = replace(
            self._report(ExecType.TRADE, placed),
            trade_id=trade_id,
            last_qty=qty,
            last_px=px,
            fee=ZERO,
            fee_asset="USDT",
            liquidity=Liquidity.MAKER,
        )
        self.trades.append(trade)
        self._told(trade)
        return trade_id

    def _report(
        self, exec_type: ExecType, placed: Placed, command: CommandKind | None = None
    ) -> ExecutionReport:
        return ExecutionReport(
            exec_type=exec_type,
            command=command,
            venue_order_id=placed.venue_order_id,
            venue_client_order_id=placed.client_id,
            symbol=placed.symbol,
            side=placed.side,
            cum_qty=placed.cum_qty,
            order_qty=placed.order_qty,
            price=placed.price,
            transact_time_ns=self.time_ns(),
        )

    # --- what queries show ----------------------------------------------------------------------

    def shown(self) -> list[Placed]:
        """Return the orders that a query shows now."""
        since_ns = self.time_ns() - int(self.visibility_lag_s * 1_000_000_000)
        self._pass_blocks()
        return [o for o in self.orders if not o.is_forgotten and o.created_ns <= since_ns]

    def _pass_blocks(self) -> None:
        height = self.height
        for placed in self.orders:
            until = placed.until_height
            if placed.is_open and height is not None and until is not None and height > until:
                placed.status = OrdStatus.EXPIRED
                placed.is_forgotten = not placed.cum_qty

    def status_of(self, placed: Placed) -> ExecutionReport:
        """Return how an order stands."""
        return replace(self._report(ExecType.ORDER_STATUS, placed), ord_status=placed.status)

    # --- the stream -----------------------------------------------------------------------------

    async def stream(self) -> AsyncIterator[StreamItem]:
        """Yield `StreamReady`, then what happens while it is read."""
        queue: asyncio.Queue[StreamItem | Exception] = asyncio.Queue()
        self._streams.add(queue)
        try:
            yield self.ready()
            while True:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self._streams.discard(queue)

    @property
    def is_listened_to(self) -> bool:
        """Whether anyone reads the stream."""
        return bool(self._streams)

    def ready(self) -> StreamReady:
        """Return what a stream begins with."""
        return StreamReady(instance_id=self.instance_id, venue_account_id=self.account_id)

    def hold(self) -> None:
        """Keep back what the stream would tell from now on, in `held`."""
        self.held = [] if self.held is None else self.held

    def release(self, items: Iterable[StreamItem] | None = None) -> None:
        """Tell what was held, or `items` in its place: reordered, doubled, in part."""
        held, self.held = self.held or [], None
        for item in held if items is None else items:
            self.tell(item)

    def tell(self, item: StreamItem | Exception) -> None:
        """Put something into the stream; an exception breaks it."""
        if isinstance(item, Exception):
            for queue in self._streams:
                queue.put_nowait(item)
        elif self.held is not None:
            self.held.append(item)
        elif not self.drops:
            for queue in self._streams:
                queue.put_nowait(item)

    def break_stream(self, error: Exception) -> None:
        """Break every stream. What happens before anyone reads again is not told."""
        self.tell(error)
        self._streams.clear()

    def gap(self, why: str = "a gap") -> None:
        """Say that something may have been missed, and then that it is live again."""
        self.tell(StreamGap(why=why))
        self.tell(self.ready())

    def tell_balances(self, update: BalanceUpdate) -> None:
        """Put new balances into the stream."""
        self.tell(update)

    def _told(self, report: ExecutionReport) -> ExecutionReport:
        self.tell(report)
        return report
