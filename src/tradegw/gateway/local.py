"""The gateway in this process: the `Gateway` protocol over the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from typing_extensions import Unpack

from tradegw.engine.validate import check_key, new_order, parse_terms
from tradegw.errors import (
    InvalidOrder,
    NotFound,
    StoreError,
    TradegwError,
    Unavailable,
    UsageError,
)
from tradegw.gateway.api import (
    AccountStatus,
    FillItem,
    NewOrderFields,
    Number,
    OrderItem,
    OutboxStatus,
    StreamBatch,
    VenueInfo,
)
from tradegw.model import (
    AccountName,
    Balance,
    ClientOrderId,
    Cursor,
    Fill,
    FillFilter,
    Halt,
    Instrument,
    Listing,
    NewOrder,
    Order,
    OrderEvent,
    OrderFilter,
    OrderId,
    OrdStatus,
    Position,
    Side,
    VenueOrderId,
    plain,
)
from tradegw.ports import AccountRecord, EventFilter

if TYPE_CHECKING:
    from tradegw.engine.account import Account
    from tradegw.engine.engine import Engine

__all__ = ["PAGE_MAX", "LocalGateway", "check_given_key", "one_order"]

log = logging.getLogger(__name__)

PAGE_MAX = 1000
_PRUNE_FIRST = 256
_CANCEL_AGAIN_S = 0.05
_CANCEL_AGAIN_MAX_S = 2.0


class LocalGateway:
    """A gateway that owns its engine. Made by `open_gateway`."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._why = "the store has not been opened yet"
        self._is_closed = False

    # --- the engine behind it -------------------------------------------------------------------

    def attach(self, engine: Engine) -> None:
        """Begin to serve with an engine whose store is open."""
        self._engine = engine

    def detach(self, why: str, *, for_good: bool = False) -> None:
        """Cease to serve, and tell whoever asks why."""
        self._engine, self._why = None, why
        self._is_closed = self._is_closed or for_good

    async def hang_up(self) -> None:
        """Let go of connections to other gateways: this one has none."""

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            Unavailable: The store is not open yet.
            UsageError: The gateway is closed.
        """
        if self._engine is None:
            if self._is_closed:
                raise UsageError("the gateway is closed")
            raise Unavailable(self._why, reason="STORE_UNAVAILABLE")
        return self._engine

    # --- orders ---------------------------------------------------------------------------------

    async def place_order(
        self, order: NewOrder | None = None, /, **fields: Unpack[NewOrderFields]
    ) -> Order:
        """Place one order, once; see `Gateway.place_order`."""
        return await self.engine.place_order(one_order(order, fields))

    async def place_orders(self, orders: Sequence[NewOrder]) -> Sequence[Order | TradegwError]:
        """Place several orders; see `Gateway.place_orders`."""
        return await self.engine.place_orders(orders)

    async def cancel_order(
        self,
        order_id: OrderId | None = None,
        *,
        account: str | None = None,
        client_order_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Cancel an order; see `Gateway.cancel_order`."""
        check_given_key(idempotency_key)
        engine = self.engine
        if order_id is not None:
            order = await self.get_order(order_id)
        elif account is not None and client_order_id is not None:
            order = await self._by_client_id(account, client_order_id)
        else:
            raise InvalidOrder(
                "give order_id, or account and client_order_id", reason="INVALID_FIELD"
            )
        return await engine.cancel_order(order, idempotency_key)

    async def _by_client_id(self, account: str, client_order_id: str) -> Order:
        found = await self.find_order(account=account, client_order_id=client_order_id)
        if found is None:
            raise NotFound(
                f"account {account} has no order {client_order_id!r}", reason="UNKNOWN_ORDER"
            )
        return found

    async def cancel_all_orders(
        self,
        *,
        account: str | None = None,
        symbol: str | None = None,
        side: Side | None = None,
        idempotency_key: str | None = None,
    ) -> Sequence[Order]:
        """Cancel our open orders that match; see `Gateway.cancel_all_orders`."""
        check_given_key(idempotency_key)
        return await self.engine.cancel_all(
            account=None if account is None else AccountName(account),
            symbol=symbol,
            side=side,
            key=idempotency_key,
        )

    async def replace_order(
        self,
        order_id: OrderId,
        *,
        order_qty: Number | None = None,
        price: Number | None = None,
        trigger_price: Number | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Give an order other terms; see `Gateway.replace_order`."""
        check_given_key(idempotency_key)
        terms = parse_terms(order_qty, price, trigger_price)
        order = await self.get_order(order_id)
        return await self.engine.replace_order(order, terms, idempotency_key)

    async def get_order(self, order_id: OrderId) -> Order:
        """Return an order as it stands; see `Gateway.get_order`."""
        return await self.engine.get_order(_uuid(order_id))

    async def find_order(
        self,
        *,
        account: str,
        client_order_id: ClientOrderId | str | None = None,
        venue_order_id: VenueOrderId | str | None = None,
    ) -> Order | None:
        """Return the order of that name, or None; see `Gateway.find_order`."""
        if (client_order_id is None) == (venue_order_id is None):
            raise InvalidOrder(
                "give exactly one of client_order_id and venue_order_id", reason="INVALID_FIELD"
            )
        account_id = (await self._record(account)).account_id
        store = self.engine.store
        if client_order_id is not None:
            return await store.find_order_by_client_id(account_id, ClientOrderId(client_order_id))
        known = await store.find_known(account_id, venue_order_id=VenueOrderId(str(venue_order_id)))
        return None if known is None else known.order

    async def resolve(
        self,
        order_id: OrderId,
        *,
        outcome: str,
        by: str,
        why: str,
        idempotency_key: str | None = None,
    ) -> Order:
        """Decide an order in doubt by hand; see `Gateway.resolve`."""
        check_given_key(idempotency_key)
        try:
            status = OrdStatus.of(outcome)
        except ValueError as e:
            raise InvalidOrder(str(e), reason="INVALID_FIELD") from e
        return await self.engine.resolve(
            _uuid(order_id), outcome=status, by=by, why=why, key=idempotency_key
        )

    async def adopt(
        self,
        account: str,
        venue_order_ids: Sequence[str] = (),
        *,
        by: str,
        why: str,
        idempotency_key: str | None = None,
    ) -> Sequence[Order]:
        """Make open orders at the venue ours; see `Gateway.adopt`."""
        check_given_key(idempotency_key)
        return await self.engine.adopt(
            account,
            [VenueOrderId(name) for name in venue_order_ids],
            by=by,
            why=why,
            key=idempotency_key,
        )

    async def close_position(
        self, account: str, symbol: str, *, idempotency_key: str | None = None
    ) -> Order | None:
        """Close a position; see `Gateway.close_position`."""
        check_given_key(idempotency_key)
        return await self.engine.close_position(account, symbol, idempotency_key)

    # --- accounts -------------------------------------------------------------------------------

    def _names(self) -> Sequence[AccountName]:
        """Return the accounts that can be asked about."""
        return [account.account for account in self.engine.accounts]

    async def _record(self, account: str) -> AccountRecord:
        """Return what is stored of an account.

        Raises:
            NotFound: There is none of that name.
        """
        return self.engine.account(account).record

    def _held(self, name: AccountName) -> Account | None:
        """Return an account that this process serves, or None."""
        return next((one for one in self.engine.accounts if one.account == name), None)

    def is_held(self, name: AccountName) -> bool:
        """Whether this process serves an account."""
        return self._held(name) is not None

    async def _read_heads(self, names: Sequence[AccountName]) -> None:
        """Have the hub know where these streams end. It does, of accounts that this process serves."""

    # --- lists ----------------------------------------------------------------------------------

    async def list_orders(
        self,
        where: OrderFilter | None = None,
        *,
        page_size: int = 100,
        page_token: Cursor | str | None = None,
    ) -> Listing[Order]:
        """Return orders, newest first; see `Gateway.list_orders`."""
        return await self.engine.store.list_orders(
            where or OrderFilter(), limit=_page_size(page_size), cursor=_cursor(page_token)
        )

    async def list_order_events(self, order_id: OrderId) -> Sequence[OrderEvent]:
        """Return the whole story of an order; see `Gateway.list_order_events`."""
        order = await self.get_order(order_id)
        events: list[OrderEvent] = []
        after = 0
        while True:
            page = await self.engine.store.list_events(
                EventFilter(account=order.account, order_id=order.order_id, after_seq=after),
                limit=PAGE_MAX,
            )
            events.extend(page)
            if len(page) < PAGE_MAX:
                return events
            after = page[-1].seq

    async def list_fills(
        self,
        where: FillFilter | None = None,
        *,
        page_size: int = 100,
        page_token: Cursor | str | None = None,
    ) -> Listing[Fill]:
        """Return fills, newest first; see `Gateway.list_fills`."""
        return await self.engine.store.list_fills(
            where or FillFilter(), limit=_page_size(page_size), cursor=_cursor(page_token)
        )

    async def list_balances(self, account: str) -> Sequence[Balance]:
        """Return the balances as the venue last reported them."""
        record = await self._record(account)
        held = self._held(record.account)
        if held is None or (held.venue is None and not held.balances):
            return await self.engine.store.list_balances(record.account_id)
        return sorted(held.balances.values(), key=lambda balance: balance.asset)

    async def list_positions(self, account: str) -> Sequence[Position]:
        """Return the positions as the venue last reported them."""
        record = await self._record(account)
        held = self._held(record.account)
        if held is None or (held.venue is None and not held.positions):
            return await self.engine.store.list_positions(record.account_id)
        # One that is gone without a fill is shown as well: it is what somebody should look at.
        shown = {s: p for s, p in held.positions.items() if p.qty or s in held.unexplained}
        for symbol, qty in held.unexplained.items():
            position = shown.get(symbol) or Position(
                account=held.account, symbol=symbol, qty=Decimal(0)
            )
            shown[symbol] = replace(position, unexplained_qty=qty)
        return [shown[symbol] for symbol in sorted(shown)]

    async def list_held(self) -> Sequence[VenueInfo]:
        """Return the states of the accounts that this process serves, from memory."""
        return await self.list_venues()

    async def list_venues(self) -> Sequence[VenueInfo]:
        """Return the configured venues with their accounts' states."""
        engine = self.engine
        venues: dict[str, list[Account]] = {}
        for account in engine.accounts:
            venues.setdefault(account.record.venue, []).append(account)
        return [
            VenueInfo(
                venue=venue,
                plugin=accounts[0].record.plugin,
                accounts=tuple(self._status(account) for account in accounts),
            )
            for venue, accounts in sorted(venues.items())
        ]

    def _status(self, account: Account) -> AccountStatus:
        return AccountStatus(
            account=account.account,
            venue=account.record.venue,
            plugin=account.record.plugin,
            state=account.state.value,
            why=account.why or _unexplained(account),
            open_orders=len(account.book),
            in_doubt=sum(1 for order in account.book if order.in_doubt),
            head_seq=self.engine.hub.head(account.account),
        )

    def list_outboxes(self) -> Sequence[OutboxStatus]:
        """Return how far each sink is behind, by account; nothing while the store has not been opened."""
        return [
            OutboxStatus(
                sink=outbox.sink,
                account=outbox.account,
                lag_events=outbox.lag_events,
                lag_s=outbox.lag_s,
                why=outbox.why,
            )
            for outbox in (() if self._engine is None else self._engine.outboxes)
        ]

    async def list_instruments(self, venue: str) -> Sequence[Instrument]:
        """Return what can be traded at a venue."""
        engine = self.engine
        for account in engine.accounts:
            if account.record.venue == venue:
                if account.instruments:
                    return sorted(account.instruments.values(), key=lambda i: i.symbol)
                return await engine.store.list_instruments(venue)
        have = ", ".join(sorted({a.record.venue for a in engine.accounts})) or "none"
        raise NotFound(f"there is no venue {venue!r}; there are {have}", reason="UNKNOWN_VENUE")

    # --- live -----------------------------------------------------------------------------------

    async def stream_orders(
        self,
        *,
        accounts: Sequence[str] | None = None,
        after: Mapping[str, int] | None = None,
        symbol: str | None = None,
    ) -> AsyncIterator[StreamBatch]:
        """Yield order events; see `Gateway.stream_orders`."""
        engine = self.engine
        names, position = await self._stream_start(accounts, after)
        previous = dict(position)
        async for part in engine.hub.read(names, position):
            items: list[OrderItem] = []
            if part.account is not None:
                for event in part.events:
                    if symbol is not None and _symbol(event) != symbol:
                        continue
                    items.append(
                        OrderItem(
                            account=part.account,
                            seq=event.seq,
                            prev_seq=previous[part.account],
                            event=event,
                        )
                    )
                    previous[part.account] = event.seq
                position[part.account] = part.events[-1].seq
            yield StreamBatch(
                orders=tuple(items),
                caught_up=part.account is None,
                position=_moved(position, part.account),
            )

    async def stream_fills(
        self,
        *,
        accounts: Sequence[str] | None = None,
        after: Mapping[str, int] | None = None,
        symbol: str | None = None,
    ) -> AsyncIterator[StreamBatch]:
        """Yield fills; see `Gateway.stream_fills`."""
        engine = self.engine
        names, position = await self._stream_start(accounts, after)
        previous = dict(position)
        async for part in engine.hub.read_fills(names, position):
            items: list[FillItem] = []
            if part.account is not None:
                for fill in part.fills:
                    if symbol is not None and fill.symbol != symbol:
                        continue
                    items.append(
                        FillItem(
                            account=part.account,
                            seq=fill.seq,
                            prev_seq=previous[part.account],
                            fill=fill,
                        )
                    )
                    previous[part.account] = fill.seq
            position.update(part.positions)
            yield StreamBatch(
                fills=tuple(items),
                caught_up=part.account is None,
                position=_moved(position, part.account),
            )

    async def _stream_start(
        self, accounts: Sequence[str] | None, after: Mapping[str, int] | None
    ) -> tuple[list[AccountName], dict[AccountName, int]]:
        names = (
            list(self._names())
            if accounts is None
            else [(await self._record(name)).account for name in accounts]
        )
        begin = dict(after or {})
        for name in begin:
            await self._record(name)
        await self._read_heads(names)
        position = {name: begin.get(name, 0) for name in names}
        for name, seq in position.items():
            if seq == -1:
                position[name] = self.engine.hub.head(name)
        return names, position

    @asynccontextmanager
    async def session(
        self, *, cancel_on_disconnect: bool = False, lease_s: float | None = None
    ) -> AsyncGenerator[LocalSession]:
        """Open a session; see `Gateway.session`. A lease means nothing within one process."""
        session = LocalSession(self, is_remembering=cancel_on_disconnect)
        try:
            yield session
        finally:
            if cancel_on_disconnect:
                await session.cancel_open()

    # --- control --------------------------------------------------------------------------------

    async def halt(
        self,
        *,
        scope: str = "*",
        why: str,
        by: str,
        cancel_open: bool = False,
        idempotency_key: str | None = None,
    ) -> Halt:
        """Refuse new orders from now on; see `Gateway.halt`."""
        check_given_key(idempotency_key)
        engine = self.engine
        halt = Halt(scope=scope, why=why, by=by, since_ns=engine.clock.time_ns())
        return await engine.halt(halt, cancel_open=cancel_open, key=idempotency_key)

    async def resume(
        self, *, scope: str = "*", by: str, idempotency_key: str | None = None
    ) -> None:
        """Lift a halt; see `Gateway.resume`."""
        check_given_key(idempotency_key)
        await self.engine.resume(scope, by=by, key=idempotency_key)

    async def list_halts(self) -> Sequence[Halt]:
        """Return the halts in force."""
        return self.engine.halts.all

    # --- operations -----------------------------------------------------------------------------

    async def ping_store(self) -> None:
        """Run a real query on the store.

        Raises:
            TradegwError: It is away.
        """
        await self.engine.store.ping()

    async def count_orders(self) -> Mapping[OrdStatus, int]:
        """Count the orders by status."""
        return await self.engine.store.count_orders()

    async def aclose(self) -> None:
        """Do nothing: `open_gateway` closes what it opened."""


class LocalSession:
    """A session within the process: it knows which orders are its own.

    Args:
        is_remembering: Whether they are to be cancelled at its end.
    """

    def __init__(self, gateway: LocalGateway, *, is_remembering: bool) -> None:
        self._gateway = gateway
        self._is_remembering = is_remembering
        self._forgetting: asyncio.Task[None] | None = None
        self._orders: dict[OrderId, AccountName] = {}
        self._prune_at = _PRUNE_FIRST
        self._placing: set[asyncio.Task[Order]] = set()

    async def place_order(
        self, order: NewOrder | None = None, /, **fields: Unpack[NewOrderFields]
    ) -> Order:
        """Place one order, as `Gateway.place_order` does."""
        # A task of its own: when whoever waits goes away, the order is placed all the same, and is ours.
        task = asyncio.create_task(self._gateway.place_order(order, **fields))
        self._placing.add(task)
        task.add_done_callback(self._placed)
        return await asyncio.shield(task)

    def _placed(self, task: asyncio.Task[Order]) -> None:
        self._placing.discard(task)
        if not task.cancelled() and task.exception() is None:
            self._note(task.result())

    async def cancel_order(self, order_id: OrderId, *, idempotency_key: str | None = None) -> Order:
        """Cancel an order, as `Gateway.cancel_order` does."""
        order = await self._gateway.cancel_order(order_id, idempotency_key=idempotency_key)
        if not order.is_open:
            self._orders.pop(order.order_id, None)
        return order

    async def replace_order(
        self,
        order_id: OrderId,
        *,
        order_qty: Number | None = None,
        price: Number | None = None,
        trigger_price: Number | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Give an order other terms, as `Gateway.replace_order` does."""
        return await self._gateway.replace_order(
            order_id,
            order_qty=order_qty,
            price=price,
            trigger_price=trigger_price,
            idempotency_key=idempotency_key,
        )

    def _note(self, order: Order) -> None:
        """Remember an order of this session while it is open."""
        if not order.is_open or not self._is_remembering:
            return
        self._orders[order.order_id] = order.account
        if len(self._orders) >= self._prune_at:
            self._orders = {i: name for i, name in self._orders.items() if self._is_open(i, name)}
            self._prune_at = max(_PRUNE_FIRST, 2 * len(self._orders))
            if self._forgetting is None or self._forgetting.done():
                self._forgetting = asyncio.create_task(self._forget_closed())

    def _is_open(self, order_id: OrderId, name: AccountName) -> bool:
        try:
            account = self._gateway.engine.account(name)
        except (TradegwError, UsageError):
            return True
        # A failed store may have made it forget.
        return account.failed.is_set() or account.book.find(order_id) is not None

    async def _forget_closed(self) -> None:
        """Forget what is closed and served by another gateway: of those no book here tells."""
        with suppress(TradegwError, UsageError):
            for order_id, name in tuple(self._orders.items()):
                if self._gateway.is_held(name):
                    continue
                if not (await self._gateway.get_order(order_id)).is_open:
                    self._orders.pop(order_id, None)
        self._prune_at = max(_PRUNE_FIRST, 2 * len(self._orders))

    async def cancel_open(self) -> None:
        """Cancel what this session placed and is still open; nobody else's.

        Returns when each cancel is answered, or stored to be sent when the venue is back.
        """
        try:
            engine = self._gateway.engine
        except (TradegwError, UsageError):
            # The gateway stopped before, and the record says how the orders stand.
            return
        # In a task of the engine: a door that is torn down must not end it half-way.
        await engine.see_through(self._cancel_open(engine))

    async def _cancel_open(self, engine: Engine) -> None:
        # What is open at once, while the venue has yet to answer for the others.
        if self._forgetting is not None:
            self._forgetting.cancel()
        while self._orders or self._placing:
            orders, self._orders = tuple(self._orders), {}
            await asyncio.gather(*(self._cancel_surely(engine, i) for i in orders))
            if self._placing and not self._orders:
                await asyncio.wait(tuple(self._placing), return_when=asyncio.FIRST_COMPLETED)
                # Their callbacks ran before ours, or run now.
                await asyncio.sleep(0)

    async def _cancel_surely(self, engine: Engine, order_id: OrderId) -> None:
        key, wait_s = uuid4().hex, _CANCEL_AGAIN_S
        while True:
            try:
                await self._gateway.cancel_order(order_id, idempotency_key=key)
            except (Unavailable, StoreError) as e:
                if engine.is_closing:
                    log.warning("order %s of a session that ended stays open: %s", order_id, e)
                    return
                await engine.clock.sleep(wait_s)
                wait_s = min(2 * wait_s, _CANCEL_AGAIN_MAX_S)
            except (TradegwError, UsageError):
                # Closed in the meantime: the record says how it stands.
                return
            else:
                return


def one_order(order: NewOrder | None, fields: NewOrderFields) -> NewOrder:
    """Return the order that was given in either way."""
    if order is None:
        values: Mapping[str, Any] = fields  # pyright: ignore[reportAssignmentType]
        return new_order(values)
    if fields:
        raise UsageError("give a NewOrder or its fields, not both")
    return order


def _uuid(order_id: OrderId | UUID | str) -> OrderId:
    if isinstance(order_id, UUID):
        return OrderId(order_id)
    try:
        return OrderId(UUID(order_id))
    except (ValueError, AttributeError, TypeError) as e:
        raise InvalidOrder(
            f"order_id must be a UUID; found {order_id!r:.80}", reason="INVALID_FIELD"
        ) from e


def check_given_key(key: str | None) -> None:
    """Refuse a key that cannot be one."""
    if key is not None:
        check_key(key, "idempotency_key")


def _page_size(page_size: int) -> int:
    if not 1 <= page_size <= PAGE_MAX:
        raise InvalidOrder(
            f"page_size must be 1 to {PAGE_MAX}; found {page_size}", reason="INVALID_FIELD"
        )
    return page_size


def _cursor(token: Cursor | str | None) -> Cursor | None:
    return Cursor(token) if token else None


def _symbol(event: OrderEvent) -> str | None:
    if event.order is not None:
        return event.order.symbol
    return event.fill.symbol if event.fill is not None else None


def _moved(
    position: Mapping[AccountName, int], account: AccountName | None
) -> Mapping[AccountName, int]:
    return dict(position) if account is None else {account: position[account]}


def _unexplained(account: Account) -> str:
    """Say which positions nobody can explain; the account trades on."""
    found = ", ".join(f"{s} by {plain(qty)}" for s, qty in sorted(account.unexplained.items()))
    return f"POSITION_MISMATCH: the venue differs from the fills: {found}" if found else ""
