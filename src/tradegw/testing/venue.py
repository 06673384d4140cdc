"""The scripted exchange as a venue, and the plugin that offers it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from tradegw.errors import (
    InvalidOrder,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    UnsupportedOrder,
    VenueRejected,
)
from tradegw.markers import hookimpl
from tradegw.model import (
    AccountName,
    Balance,
    CommandKind,
    ExecutionReport,
    Instrument,
    Order,
    OrdType,
    Position,
    TimeInForce,
)
from tradegw.model.numbers import is_multiple
from tradegw.testing.exchange import Fault, Placed, Request, ScriptedExchange
from tradegw.venue import (
    Cancel,
    Capabilities,
    Command,
    ExpiryKind,
    FetchBalances,
    FetchFills,
    FetchHistory,
    FetchInstruments,
    FetchOpenOrders,
    FetchOrder,
    FetchPositions,
    FetchReferencePrice,
    FetchServerTime,
    Page,
    Query,
    ReferencePrice,
    Replace,
    ReplaceKind,
    Runtime,
    StreamItem,
    Submit,
    TranslateContext,
    Venue,
    VenueFactory,
    VenueRequest,
    VenueTime,
)

__all__ = ["CAPABILITIES", "ScriptedPlugin", "ScriptedVenue"]

CAPABILITIES = Capabilities(
    ord_types=frozenset({OrdType.MARKET, OrdType.LIMIT}),
    time_in_force=frozenset({TimeInForce.GTC, TimeInForce.IOC}),
    replace=ReplaceKind.IN_PLACE,
    expiry=ExpiryKind.TIME,
    expiry_s=5.0,
    visibility_lag_s=1.0,
)
"""What the scripted venue can do unless a test says otherwise."""

_PAGE_MAX = 20


class ScriptedVenue(Venue):
    """One account's access to a `ScriptedExchange`."""

    def __init__(
        self, exchange: ScriptedExchange, *, capabilities: Capabilities = CAPABILITIES
    ) -> None:
        self.exchange = exchange
        self._capabilities = capabilities

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return self._capabilities

    @property
    def environment(self) -> str:
        """Where it is."""
        return self.exchange.environment

    def translate(self, command: Command, context: TranslateContext) -> VenueRequest:
        """Turn a command into a request."""
        valid_until = self._valid_until(context.now)
        until_ns = until_height = None
        if valid_until is not None:
            until_height = valid_until.height
            until_ns = valid_until.time_ns if until_height is None else None
        (client_id,) = context.venue_client_order_ids
        match command:
            case Submit(order=order):
                self._check(order, context.instrument)
                payload = Request(
                    command=CommandKind.NEW,
                    client_id=client_id,
                    valid_until_ns=until_ns,
                    valid_until_height=until_height,
                    symbol=order.symbol,
                    side=order.side,
                    ord_type=order.ord_type,
                    time_in_force=order.time_in_force,
                    order_qty=order.order_qty,
                    price=order.price,
                )
            case Cancel():
                payload = Request(
                    command=CommandKind.CANCEL,
                    client_id=client_id,
                    valid_until_ns=until_ns,
                    valid_until_height=until_height,
                )
            case Replace(terms=terms):
                payload = Request(
                    command=CommandKind.REPLACE,
                    client_id=client_id,
                    valid_until_ns=until_ns,
                    valid_until_height=until_height,
                    order_qty=terms.order_qty,
                    price=terms.price,
                )
            case _:
                raise InvalidOrder(
                    f"the scripted venue has no {type(command).__name__}", reason="UNSUPPORTED"
                )
        return VenueRequest(
            payload=payload,
            valid_until=valid_until,
            digest=f"{payload.command} {client_id}",
            safe_to_repeat=payload.command is CommandKind.CANCEL,
        )

    @property
    def height(self) -> int | None:
        """Its height, where it is a chain."""
        return self.exchange.height

    def _valid_until(self, now: VenueTime) -> VenueTime | None:
        validity_s, block_s = self.exchange.request_validity_s, self.exchange.block_s
        if validity_s is None:
            return None
        if block_s is not None and now.height is not None:
            return VenueTime(time_ns=0, height=now.height + int(validity_s / block_s))
        return VenueTime(time_ns=now.time_ns + int(validity_s * 1_000_000_000))

    def _check(self, order: Order, grid: Instrument) -> None:
        can = self._capabilities
        if (
            order.ord_type not in can.ord_types
            or order.time_in_force not in can.time_in_force
            or (order.post_only and not can.post_only)
            or (order.reduce_only and not can.reduce_only)
            or order.order_qty is None
        ):
            raise UnsupportedOrder(f"no such order here: {order}")
        for value, step in ((order.price, grid.tick_size), (order.order_qty, grid.step_size)):
            if value is not None and not is_multiple(value, step):
                raise InvalidOrder(f"{value} is no multiple of {step}", reason="OFF_GRID")

    async def execute(self, request: VenueRequest) -> Sequence[ExecutionReport]:
        """Send the request, with what the script says goes wrong."""
        exchange = self.exchange
        payload = request.payload
        assert isinstance(payload, Request)
        exchange.requests.append(payload)
        if exchange.away is not None:
            raise exchange.away
        fault = exchange.next_fault(payload.command)
        match fault:
            case Fault.LOSE_REQUEST:
                raise OutcomeUnknown("the connection broke")
            case Fault.DELAY:
                exchange.in_transit.append(payload)
                raise OutcomeUnknown("the connection broke")
            case Fault.NOT_SENT:
                raise NotSent("not connected")
            case Fault.REFUSE:
                raise VenueRejected("no", reason="SCRIPTED_REFUSAL")
            case Fault.THROTTLE:
                raise RateLimited("too fast", retry_after_s=1.0)
            case _:
                reports = exchange.arrive(payload)
        match fault:
            case Fault.LOSE_ANSWER:
                raise OutcomeUnknown("the connection broke")
            case Fault.HANG:
                await asyncio.get_running_loop().create_future()
            case Fault.GARBAGE:
                return cast("Sequence[ExecutionReport]", exchange.garbage)
            case Fault.SLOW:
                await _moment()
            case Fault.REFUSE_AFTER:
                # The stream is faster than the second answer.
                await _moment()
                raise VenueRejected("duplicate", reason="DUPLICATE")
            case Fault.EMPTY:
                return ()
            case Fault.CRASH:
                raise KeyError("a mistake in the plugin")
            case _:
                pass
        return reports

    async def fetch(self, query: Query) -> Page[Any]:
        """Answer a query from the ledger."""
        exchange = self.exchange
        exchange.queries.append(query)
        if exchange.away is not None:
            raise exchange.away
        error = exchange.query_errors.popleft() if exchange.query_errors else None
        if error is not None:
            raise error
        match query:
            case FetchOrder(venue_client_order_id=name):
                if name is not None and name == exchange.unreadable:
                    return self._page([exchange.garbage])
                found = [] if exchange.hidden_orders else self._named(query)
                return self._page([exchange.status_of(o) for o in found][:1])
            case FetchOpenOrders() | FetchHistory() if exchange.empty_listings:
                return self._page([])
            case FetchOpenOrders():
                found = [o for o in exchange.shown() if o.is_open]
                return self._page([exchange.status_of(o) for o in found], query.cursor)
            case FetchHistory():
                found = [o for o in exchange.shown() if o.created_ns >= query.since_ns]
                return self._page([exchange.status_of(o) for o in found], query.cursor)
            case FetchFills():
                return self._page(self._fills(query), query.cursor)
            case FetchBalances():
                return self._page([self._balance("USDT"), self._balance("BTC")])
            case FetchInstruments():
                return self._page(exchange.instruments)
            case FetchReferencePrice(symbol=symbol):
                return self._page(self._prices(symbol))
            case FetchPositions():
                held = exchange.positions.items()
                return self._page(
                    [Position(account=AccountName(""), symbol=s, qty=q) for s, q in held]
                )
            case FetchServerTime():
                return self._page([])

    def stream(self, since: int) -> AsyncIterator[StreamItem]:
        """Yield what happens."""
        return self.exchange.stream()

    def _named(self, query: FetchOrder | FetchFills) -> list[Placed]:
        if query.venue_client_order_id is not None:
            shown = self.exchange.shown()
            return [o for o in shown if o.client_id == query.venue_client_order_id]
        return [
            o for o in self.exchange.shown() if query.venue_order_id in (None, o.venue_order_id)
        ]

    def _fills(self, query: FetchFills) -> list[ExecutionReport]:
        if self.exchange.hidden_fills:
            return []
        names = {o.venue_order_id for o in self._named(query)}
        return [
            trade
            for trade in self.exchange.trades
            if trade.venue_order_id in names
            and trade.transact_time_ns >= query.since_ns
            and query.symbol in (None, trade.symbol)
        ]

    def _balance(self, asset: str) -> Balance:
        return Balance(
            account=AccountName(""), asset=asset, free=Decimal(1_000_000), held=Decimal(0)
        )

    def _prices(self, symbol: str) -> list[ReferencePrice]:
        px = self.exchange.reference_px
        time_ns = self.exchange.time_ns() - int(self.exchange.reference_age_s * 1_000_000_000)
        return [] if px is None else [ReferencePrice(symbol=symbol, px=px, time_ns=time_ns)]

    def _page(self, items: Sequence[Any], cursor: str | None = None) -> Page[Any]:
        begin = int(cursor or 0)
        end = begin + _PAGE_MAX
        return Page(
            items=tuple(items[begin:end]),
            as_of=VenueTime(time_ns=self.exchange.time_ns(), height=self.exchange.height),
            next_cursor=str(end) if end < len(items) else None,
        )


async def _moment() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """The scripted venue takes no options."""


class ScriptedPlugin:
    """Offers one exchange as the venue `scripted`. Hand it to `tradegw.open(..., plugins=[...])`.

    Attributes:
        open_errors: Raised by the next attempts to open the venue, one each.
    """

    def __init__(
        self,
        exchange: ScriptedExchange,
        *,
        name: str = "scripted",
        capabilities: Capabilities = CAPABILITIES,
        make_venue: Callable[[ScriptedExchange, Capabilities], Venue] | None = None,
    ) -> None:
        self.exchange = exchange
        self.name = name
        self.open_errors: list[Exception] = []
        self._capabilities = capabilities
        self._make_venue = make_venue

    @hookimpl
    def tradegw_register_venues(self, api_version: int) -> Sequence[VenueFactory[Any]]:
        """Offer the venue."""
        return [VenueFactory(name=self.name, config_type=_Settings, open=self.open)]

    @asynccontextmanager
    async def open(self, config: object, runtime: Runtime | None) -> AsyncGenerator[Venue]:
        """Connect, unless `open_errors` says otherwise."""
        if self.open_errors:
            raise self.open_errors.pop(0)
        if self._make_venue is not None:
            yield self._make_venue(self.exchange, self._capabilities)
        else:
            yield ScriptedVenue(self.exchange, capabilities=self._capabilities)
