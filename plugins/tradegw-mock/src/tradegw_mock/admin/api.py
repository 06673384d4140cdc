"""What the operator may ask for. Nothing here knows of HTTP: `routes.py` serves it."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from msgspec import Struct

from tradegw_mock.admin import values as v
from tradegw_mock.auditing import fingerprint
from tradegw_mock.chaos import Fault, FaultSpec
from tradegw_mock.exchange import (
    AccountKind,
    AccountState,
    AuditRecord,
    Change,
    Fill,
    Operation,
    Order,
    Refusal,
    RefusalCode,
    RequestRecord,
    Side,
)
from tradegw_mock.host import Host
from tradegw_mock.requests import CreateApiKey, DeleteApiKey, OpenAccount

__all__ = ["Admin", "Conflict", "Endpoint"]

ZERO: Final = Decimal(0)
_SCAN_MAX: Final = 20_000
"""Lines of the trail read for one page, so that nobody waits long for it."""
_SHOWN: Final = 30
"""How many of the latest trades, orders and hits the page shows."""


class Conflict(Exception):
    """It cannot be done to this exchange, as it was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One operation of the API.

    Attributes:
        path: Below `/admin`; names in braces are fields of `query`.
        query: What stands in path and query string.
        body: What stands in the body.
        call: Does it, with query and body.
    """

    method: str
    path: str
    summary: str
    query: type[Struct]
    body: type[Struct] | None
    answer: type[Struct]
    call: Callable[[Any, Any], Awaitable[Struct]]


class Admin:
    """The operator's view of one exchange."""

    def __init__(self, host: Host) -> None:
        self._host = host
        # The trail from its end is not to be had, and a page wants the latest.
        self._trades: deque[Fill] = deque(maxlen=_SHOWN)
        self._hits: deque[AuditRecord] = deque(maxlen=_SHOWN)
        self._orders: dict[int, Order] = {}
        host.listen(self._on_change)

    def endpoints(self) -> list[Endpoint]:
        """List what may be asked for."""

        def get(path: str, query: type[Struct], answer: type[Struct], call: Any) -> Endpoint:
            return _endpoint("GET", path, query, None, answer, call)

        def act(
            method: str,
            path: str,
            query: type[Struct],
            body: type[Struct] | None,
            answer: type[Struct],
            call: Any,
        ) -> Endpoint:
            return _endpoint(method, path, query, body, answer, call)

        return [
            get("/status", v.Empty, v.Status, self.status),
            get("/overview", v.OverviewAsked, v.Overview, self.overview),
            get("/invariants", v.Empty, v.Invariants, self.invariants),
            get("/accounts", v.AccountAsked, v.Accounts, self.accounts),
            act("POST", "/accounts", v.Empty, v.NewAccount, v.AccountShown, self.open_account),
            act(
                "POST",
                "/accounts/{name}/deposits",
                v.AccountNamed,
                v.Amount,
                v.AccountShown,
                self.deposit,
            ),
            act(
                "POST",
                "/accounts/{name}/withdrawals",
                v.AccountNamed,
                v.Amount,
                v.AccountShown,
                self.withdraw,
            ),
            act(
                "PUT",
                "/accounts/{name}/fees",
                v.AccountNamed,
                v.Fees,
                v.AccountShown,
                self.set_fees,
            ),
            get("/accounts/{name}/keys", v.AccountNamed, v.Keys, self.keys),
            act(
                "POST",
                "/accounts/{name}/keys",
                v.AccountNamed,
                v.KeyAsked,
                v.KeyShown,
                self.create_key,
            ),
            act(
                "DELETE",
                "/accounts/{name}/keys/{api_key}",
                v.KeyNamed,
                None,
                v.Keys,
                self.delete_key,
            ),
            get("/orders", v.OrdersAsked, v.OrdersPage, self.orders),
            get("/trades", v.TradesAsked, v.TradesPage, self.trades),
            get("/audit", v.AuditAsked, v.AuditPage, self.audit),
            get("/audit/fingerprint", v.Empty, v.Fingerprint, self.fingerprint),
            get("/instruments", v.Empty, v.Instruments, self.instruments),
            get("/prices", v.Empty, v.Prices, self.prices),
            act("PUT", "/prices", v.Empty, v.SetPrice, v.Price, self.set_price),
            act("POST", "/prices/steps", v.Empty, v.Steps, v.Prices, self.step),
            get("/book", v.BookAsked, v.Book, self.book),
            get("/faults", v.Empty, v.Faults, self.faults),
            act("POST", "/faults", v.Empty, FaultSpec, v.FaultShown, self.inject),
            act("DELETE", "/faults", v.Empty, None, v.Faults, self.clear_faults),
            act("DELETE", "/faults/{fault_id}", v.FaultNamed, None, v.FaultShown, self.take_back),
            act("POST", "/scenarios", v.Empty, v.ScenarioAsked, v.Faults, self.play),
            act("POST", "/clock", v.Empty, v.Advance, v.Status, self.advance),
        ]

    # --- the whole ------------------------------------------------------------------------------

    async def status(self, query: v.Empty, body: None) -> v.Status:
        """Say how the exchange is."""
        return self._status()

    async def overview(self, query: v.OverviewAsked, body: None) -> v.Overview:
        """Show what the page shows, in one answer."""
        exchange = self._host.exchange
        users = [a for a in exchange.accounts() if a.kind is AccountKind.USER]
        orders = sorted(self._orders.values(), key=lambda order: order.order_id, reverse=True)
        return v.Overview(
            status=self._status(),
            prices=self._prices(),
            book=self._book(query.symbol, 10),
            trades=[fill for fill in reversed(self._trades) if fill.symbol == query.symbol],
            accounts=[self._account(account) for account in users],
            orders=orders,
            faults=self._faults(),
            hits=list(reversed(self._hits)),
            invariants=self._invariants(self._host.pace.violations),
        )

    async def invariants(self, query: v.Empty, body: None) -> v.Invariants:
        """Check all books from scratch: assets conserved, holds, no crossed book, fills of the whole past."""
        return self._invariants(tuple(self._host.exchange.check_invariants()))

    async def advance(self, query: v.Empty, body: v.Advance) -> v.Status:
        """Move a virtual clock on; what falls due on the way happens at its time."""
        if self._host.virtual is None:
            raise Conflict("the exchange runs by the wall clock; start it with --clock virtual")
        self._host.move_to(self._host.time_ns() + round(body.seconds * 1e9))
        await self._host.settle()
        return self._status()

    def _status(self) -> v.Status:
        host = self._host
        return v.Status(
            instance_id=host.instance_id,
            time_ns=host.time_ns(),
            clock="wall" if host.virtual is None else "virtual",
            seed=host.settings.seed,
            liquidity="replay" if host.settings.replay else host.settings.liquidity,
            durable=host.is_durable,
            ok=not host.pace.violations,
            audit_lines=host.exchange.audit_lines,
        )

    def _invariants(self, violations: tuple[str, ...]) -> v.Invariants:
        return v.Invariants(
            ok=not violations,
            violations=list(violations),
            checked_ns=self._host.pace.checked_ns,
            conserved=self._host.exchange.funding(),
        )

    # --- accounts -------------------------------------------------------------------------------

    async def accounts(self, query: v.AccountAsked, body: None) -> v.Accounts:
        """List accounts with their balances, those of the exchange itself included."""
        found = [a for a in self._host.exchange.accounts() if query.account in ("", a.name)]
        if query.account and not found:
            raise Refusal(
                RefusalCode.UNKNOWN_ACCOUNT, f"no account is named {query.account[:80]!r}"
            )
        return v.Accounts(accounts=[self._account(account) for account in found])

    async def open_account(self, query: v.Empty, body: v.NewAccount) -> v.AccountShown:
        """Open and fund an account; one that is open is left as it is."""
        await self._host.carry_out(
            OpenAccount(account=body.name, balances=body.balances, witness=True)
        )
        return self._named(body.name)

    async def deposit(self, query: v.AccountNamed, body: v.Amount) -> v.AccountShown:
        """Add funds to an account."""
        await self._host.act(lambda e: e.deposit(query.name, body.asset, body.amount))
        return self._named(query.name)

    async def withdraw(self, query: v.AccountNamed, body: v.Amount) -> v.AccountShown:
        """Take free funds out of an account."""
        await self._host.act(lambda e: e.withdraw(query.name, body.asset, body.amount))
        return self._named(query.name)

    async def set_fees(self, query: v.AccountNamed, body: v.Fees) -> v.AccountShown:
        """Change what an account pays from its next trade on."""
        await self._host.act(
            lambda e: e.set_fees(query.name, maker_fee=body.maker_fee, taker_fee=body.taker_fee)
        )
        return self._named(query.name)

    async def keys(self, query: v.AccountNamed, body: None) -> v.Keys:
        """List the API keys of an account."""
        return self._keys(query.name)

    async def create_key(self, query: v.AccountNamed, body: v.KeyAsked) -> v.KeyShown:
        """Give an account an API key."""
        if bool(body.api_key) != bool(body.secret):
            raise ValueError("api_key and secret go together")
        api_key = body.api_key or secrets.token_hex(32)
        await self._host.carry_out(
            CreateApiKey(
                account=query.name,
                api_key=api_key,
                secret=body.secret or secrets.token_hex(32),
                kind=body.kind,
                can_trade=body.can_trade,
                witness=True,
            )
        )
        return next(key for key in self._keys(query.name).keys if key.api_key == api_key)

    async def delete_key(self, query: v.KeyNamed, body: None) -> v.Keys:
        """Take an API key away; the others remain."""
        await self._host.carry_out(
            DeleteApiKey(account=query.name, api_key=query.api_key, witness=True)
        )
        return self._keys(query.name)

    def _keys(self, name: str) -> v.Keys:
        return v.Keys(
            keys=[
                v.KeyShown(
                    api_key=key.api_key, secret=key.secret, kind=key.kind, can_trade=key.can_trade
                )
                for key in self._host.exchange.api_keys(name)
            ]
        )

    def _named(self, name: str) -> v.AccountShown:
        return next(self._account(a) for a in self._host.exchange.accounts() if a.name == name)

    def _account(self, account: AccountState) -> v.AccountShown:
        exchange = self._host.exchange
        return v.AccountShown(
            name=account.name,
            kind=account.kind,
            maker_fee=account.maker_fee,
            taker_fee=account.taker_fee,
            open_orders=len(exchange.open_orders(account.name)),
            balances=sorted(exchange.balances(account.name).values(), key=lambda b: b.asset),
        )

    # --- orders, trades, the trail --------------------------------------------------------------

    async def orders(self, query: v.OrdersAsked, body: None) -> v.OrdersPage:
        """List orders of anyone, as they really stand; of the maker's those that traded, or are open."""
        exchange = self._host.exchange
        symbol = query.symbol or None
        if not query.open:
            page = exchange.order_history(
                query.account or None, symbol=symbol, cursor=query.after, limit=query.limit
            )
            orders = [o for o in page.orders if symbol in (None, o.symbol)]
            return v.OrdersPage(orders=orders, next_after=page.next_cursor)
        names = [query.account] if query.account else [a.name for a in exchange.accounts()]
        found = [o for name in names for o in exchange.open_orders(name, symbol=symbol)]
        found = sorted((o for o in found if o.order_id > query.after), key=lambda o: o.order_id)
        orders = found[: query.limit]
        return v.OrdersPage(
            orders=orders, next_after=orders[-1].order_id if len(found) > query.limit else None
        )

    async def trades(self, query: v.TradesAsked, body: None) -> v.TradesPage:
        """List fills of anyone."""
        fills = self._host.exchange.fills(
            query.account or None,
            symbol=query.symbol or None,
            order_id=query.order_id,
            since_trade_id=query.after,
            limit=query.limit,
        )
        more = len(fills) >= query.limit
        return v.TradesPage(fills=fills, next_after=fills[-1].trade_id if more else None)

    async def audit(self, query: v.AuditAsked, body: None) -> v.AuditPage:
        """Read the audit trail: every request with its decision, every fault, fill and balance that moved."""
        records: list[AuditRecord] = []
        last = query.after
        scanned = 0
        for record in islice(self._host.exchange.audit(after=query.after), _SCAN_MAX):
            last, scanned = record.number, scanned + 1
            is_wanted = query.account in ("", record.account) and (
                not query.operation
                or (
                    isinstance(record.detail, RequestRecord)
                    and record.detail.operation == query.operation
                )
            )
            if is_wanted:
                records.append(record)
                if len(records) == query.limit:
                    return v.AuditPage(records=records, next_after=last)
        return v.AuditPage(records=records, next_after=last if scanned == _SCAN_MAX else None)

    async def fingerprint(self, query: v.Empty, body: None) -> v.Fingerprint:
        """Hash the whole trail: equal for two runs in which the same things happened."""
        sha256, lines = await fingerprint(self._host.exchange.audit())
        return v.Fingerprint(sha256=sha256, lines=lines)

    # --- the market -----------------------------------------------------------------------------

    async def instruments(self, query: v.Empty, body: None) -> v.Instruments:
        """List what trades."""
        return v.Instruments(instruments=self._host.exchange.instruments())

    async def prices(self, query: v.Empty, body: None) -> v.Prices:
        """List the prices of all symbols."""
        return v.Prices(prices=self._prices())

    async def set_price(self, query: v.Empty, body: v.SetPrice) -> v.Price:
        """Drive a price to where it shall be: who rests there or beyond trades, and stops fire."""
        maker = self._host.maker
        if maker is None:
            raise Conflict("nobody quotes here: prices are what the users' orders make them")
        await self._host.act(lambda e: maker.set_price(body.symbol, body.price))
        return self._price(body.symbol)

    async def step(self, query: v.Empty, body: v.Steps) -> v.Prices:
        """Let the prices' paths go on by so many steps."""
        maker = self._host.maker
        if maker is None:
            raise Conflict("nobody quotes here: prices are what the users' orders make them")
        for _ in range(body.count):
            await self._host.act(lambda e: maker.step())
            # Who trades meanwhile must not wait for all of them.
            await asyncio.sleep(0)
        return v.Prices(prices=self._prices())

    async def book(self, query: v.BookAsked, body: None) -> v.Book:
        """Show a symbol's book."""
        return self._book(query.symbol, query.limit)

    def _prices(self) -> list[v.Price]:
        return [self._price(i.symbol) for i in self._host.exchange.instruments()]

    def _price(self, symbol: str) -> v.Price:
        price = self._host.exchange.reference_price(symbol)
        return v.Price(symbol=symbol, last=price.last, bid=price.bid, ask=price.ask)

    def _book(self, symbol: str, limit: int) -> v.Book:
        exchange = self._host.exchange
        depth = exchange.depth(symbol, limit=limit)
        users: dict[tuple[Side, Decimal], Decimal] = {}
        for account in exchange.accounts():
            if account.kind is AccountKind.USER:
                for order in exchange.open_orders(account.name, symbol=symbol):
                    if order.price is not None and not order.is_waiting:
                        at = order.side, order.price
                        users[at] = users.get(at, ZERO) + order.leaves_qty
        bids, asks = (
            [
                v.Level(price=price, qty=qty, users_qty=users.get((side, price), ZERO))
                for price, qty in levels
            ]
            for side, levels in ((Side.BUY, depth.bids), (Side.SELL, depth.asks))
        )
        return v.Book(symbol=symbol, bids=bids, asks=asks)

    # --- faults ---------------------------------------------------------------------------------

    async def faults(self, query: v.Empty, body: None) -> v.Faults:
        """List the faults that are active, or will be."""
        return v.Faults(faults=self._faults())

    async def inject(self, query: v.Empty, body: FaultSpec) -> v.FaultShown:
        """Let something go wrong: once, or as often and as long as the fault says."""
        return _shown(await self._host.faults.inject(body))

    async def take_back(self, query: v.FaultNamed, body: None) -> v.FaultShown:
        """End a fault; the answer says how often it acted."""
        return _shown(await self._host.faults.take_back(query.fault_id))

    async def clear_faults(self, query: v.Empty, body: None) -> v.Faults:
        """End all faults."""
        return v.Faults(faults=[_shown(f) for f in await self._host.faults.take_back_all()])

    async def play(self, query: v.Empty, body: v.ScenarioAsked) -> v.Faults:
        """Give all faults of a scenario at once; their `start_s` count from now."""
        return v.Faults(
            faults=[_shown(await self._host.faults.inject(spec)) for spec in body.fault]
        )

    def _faults(self) -> list[v.FaultShown]:
        return [_shown(fault) for fault in self._host.faults.chaos.active()]

    # --- what happened --------------------------------------------------------------------------

    def _on_change(self, change: Change) -> None:
        users = {event.account for event in change.events}
        for order in change.orders:
            if order.account in users:
                self._orders[order.order_id] = order
        while len(self._orders) > _SHOWN:
            del self._orders[min(self._orders)]
        # A trade has two sides; one tells of it.
        self._trades.extend(fill for fill in change.fills if fill.liquidity == "TAKER")
        if change.request.operation is Operation.FAULT_HIT:
            self._hits.append(change.audit()[0])


def _endpoint(
    method: str,
    path: str,
    query: type[Struct],
    body: type[Struct] | None,
    answer: type[Struct],
    call: Callable[[Any, Any], Awaitable[Struct]],
) -> Endpoint:
    assert call.__doc__ is not None
    return Endpoint(
        method=method,
        path=path,
        summary=call.__doc__.strip(),
        query=query,
        body=body,
        answer=answer,
        call=call,
    )


def _shown(fault: Fault) -> v.FaultShown:
    return v.FaultShown(
        fault_id=fault.fault_id,
        kind=fault.spec.kind,
        spec=fault.spec,
        begins_ns=fault.begins_ns,
        ends_ns=fault.ends_ns,
        hits=fault.hits,
        left=fault.left,
    )
