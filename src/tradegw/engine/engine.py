"""All accounts of one gateway: routing, idempotency, halts, and the tasks that carry requests out.

A request runs in a task of the engine. A caller who goes away cancels only its own waiting.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from uuid import UUID, uuid4

from tradegw.engine.account import Account, AccountSettings, AccountState, Meter
from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.external import Externals
from tradegw.engine.feed import run_account
from tradegw.engine.fingerprint import fingerprint, fingerprint_order
from tradegw.engine.guard import AccountGuard, Lane, Traffic
from tradegw.engine.holding import HoldingDesk
from tradegw.engine.hub import Hub
from tradegw.engine.limits import start_of_day_ns
from tradegw.engine.outbox import NamedSink, Outbox
from tradegw.engine.outbox import end as end_outboxes
from tradegw.engine.queue import Queue
from tradegw.engine.routing import Route, pick_account
from tradegw.engine.validate import check_fields
from tradegw.engine.venue_names import Nonces
from tradegw.errors import (
    Conflict,
    IdempotencyKeyReused,
    InvalidOrder,
    NotFound,
    StoreError,
    TradegwError,
    Unavailable,
    UnsupportedOrder,
    VenueError,
)
from tradegw.model import (
    AccountId,
    AccountName,
    ClientOrderId,
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    Halt,
    NewOrder,
    Order,
    OrderEvent,
    OrderFilter,
    OrderId,
    OrdStatus,
    OrdType,
    Origin,
    Position,
    ReplaceTerms,
    Side,
    TimeInForce,
    VenueOrderId,
)
from tradegw.model.numbers import ZERO
from tradegw.plugins import Plugins
from tradegw.ports import AccountRecord, Claim, Clock, KeyTaken, Store
from tradegw.venue import Feedback, FetchPositions, Venue

__all__ = ["AccountPlan", "Engine"]

log = logging.getLogger(__name__)
T = TypeVar("T")

ANY_SCOPE = "*"
_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPlan:
    """How to run one account.

    Attributes:
        plugin: Name of the venue's factory.
        key_id: Names its credentials, without telling them; accounts with the same share what a venue grants
            to a key. Empty: it shares with nobody.
        owner: Names who it belongs to; accounts of one owner share what a venue grants to an owner.
        listen: Has the plugin's feedback handed to a listener.
    """

    route: Route
    plugin: str
    settings: AccountSettings
    open_venue: Callable[[], AbstractAsyncContextManager[Venue]]
    key_id: str = ""
    owner: str = ""
    listen: Callable[[Callable[[Feedback], None]], None] | None = None


@dataclass(slots=True)
class _Member:
    plan: AccountPlan
    account: Account
    desk: HoldingDesk
    externals: Externals
    task: asyncio.Task[None]
    outboxes: list[tuple[Outbox, asyncio.Task[None]]]
    requests: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])

    async def carry_out(self, work: Awaitable[T]) -> T:
        """Await work on the account in the present task, which ends before the account is removed."""
        task = asyncio.current_task()
        assert task is not None
        self.requests.add(task)
        try:
            return await work
        finally:
            self.requests.discard(task)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    fingerprint: str
    future: asyncio.Future[Order]


class Engine:
    """The engine of one gateway. It lives within an `asyncio.TaskGroup` that its owner keeps."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        plugins: Plugins,
        group: asyncio.TaskGroup,
        rng: random.Random,
        meter: Meter,
        sinks: Sequence[NamedSink] = (),
    ) -> None:
        self.store = store
        self.clock = clock
        self.plugins = plugins
        self.hub = Hub(store)
        self._group = group
        self._rng = rng
        self._meter = meter
        self._sinks = tuple(sinks)
        self._members: dict[AccountName, _Member] = {}
        self._opening: set[AccountName] = set()
        self._traffic: dict[str, Traffic] = {}
        self._nonces = Nonces()
        self._halts: dict[str, Halt] = {}
        self._running: dict[tuple[str, str], _Running] = {}
        self._requests: set[asyncio.Task[None]] = set()
        # Unbounded, because an event must not be dropped; observers are synchronous, so it drains at once.
        self._observed: asyncio.Queue[OrderEvent] = asyncio.Queue()
        self._is_closing = False
        self._observers: asyncio.Task[None] | None = None
        if plugins.has_observers:
            store.subscribe(self._observe)
            self._observers = group.create_task(self._show_observers())

    # --- accounts -------------------------------------------------------------------------------

    async def start(self, plans: Iterable[AccountPlan]) -> None:
        """Read the halts and open the accounts.

        Raises:
            StoreError: The store cannot be used.
        """
        self._halts = {halt.scope: halt for halt in await self.store.list_halts()}
        for plan in plans:
            await self.add_account(plan)

    async def add_account(self, plan: AccountPlan) -> None:
        """Begin to serve an account; the others are not disturbed.

        Raises:
            InvalidOrder: There is one of that name; reason `DUPLICATE_ACCOUNT`.
            StoreError: The store cannot be used.
        """
        name = plan.route.account
        if name in self._members or name in self._opening:
            raise InvalidOrder(f"there is an account {name!r} already", reason="DUPLICATE_ACCOUNT")
        self._opening.add(name)
        try:
            await self._open_account(plan)
        finally:
            self._opening.discard(name)

    async def _open_account(self, plan: AccountPlan) -> None:
        name = plan.route.account
        stored = {record.account: record for record in await self.store.list_accounts()}
        record = stored.get(name)
        if record is None:
            record = await self.store.put_account(
                AccountRecord(
                    account_id=AccountId(uuid4()),
                    account=name,
                    venue=plan.route.venue,
                    plugin=plan.plugin,
                    created_time_ns=self.clock.time_ns(),
                )
            )
        elif (record.venue, record.plugin) != (plan.route.venue, plan.plugin):
            raise InvalidOrder(
                f"account {name!r} was bound to venue {record.venue} ({record.plugin}); its orders are "
                f"there. The configuration says {plan.route.venue} ({plan.plugin}): use another name",
                reason="ACCOUNT_MISMATCH",
            )
        account = Account(
            record,
            plan.settings,
            store=self.store,
            clock=self.clock,
            plugins=self.plugins,
            find_halt=self._find_halt,
            on_head=self.hub.advance,
            meter=self._meter,
            guard=self._guard(plan, record.venue, lambda: account.venue_now().time_ns),
            nonces=self._nonces,
        )
        if plan.listen is not None:
            plan.listen(account.guard.on_feedback)
        self.hub.add_account(name)
        try:
            await account.load()
        except Unavailable as e:
            if not account.failed.is_set():
                raise
            # It was read, and what that left in doubt could not be stored: it is read anew until it can.
            log.warning("account %s is read again: %s", name, e)
        if plan.settings.limits.max_orders_per_day is not None:
            await self._count_today(account)
        desk = HoldingDesk(account)
        externals = Externals(account)
        account.guard.on_close(account.wake_all)
        task = self._group.create_task(
            run_account(
                account,
                plugin=plan.plugin,
                open_venue=plan.open_venue,
                rng=self._rng,
                queue=Queue(account, desk, self._rng).run,
                resend=desk.resend,
                externals=externals,
            ),
            name=f"account {name}",
        )
        self._members[name] = _Member(
            plan=plan,
            account=account,
            desk=desk,
            externals=externals,
            task=task,
            outboxes=[self._start_outbox(sink, record) for sink in self._sinks],
        )

    def _start_outbox(
        self, sink: NamedSink, record: AccountRecord
    ) -> tuple[Outbox, asyncio.Task[None]]:
        outbox = Outbox(
            sink, record, store=self.store, hub=self.hub, clock=self.clock, rng=self._rng
        )
        name = f"outbox of {record.account} to {sink.name}"
        return outbox, self._group.create_task(outbox.run(), name=name)

    async def _count_today(self, account: Account) -> None:
        """Count the orders of today that may have reached the venue: a restart forgives nothing."""
        now_ns = self.clock.time_ns()
        where = OrderFilter(accounts=(account.account,), created_from_ns=start_of_day_ns(now_ns))
        count, cursor = 0, None
        while True:
            page = await self.store.list_orders(where, limit=1000, cursor=cursor)
            count += sum(_was_granted(order) for order in page.items)
            cursor = page.next_cursor
            if cursor is None:
                break
        account.limits.restore(count, now_ns=now_ns)

    def _guard(
        self, plan: AccountPlan, venue: str, venue_time_ns: Callable[[], int]
    ) -> AccountGuard:
        traffic = self._traffic.get(venue)
        if traffic is None:
            traffic = self._traffic[venue] = Traffic(self.clock, self._group.create_task)
        name = plan.route.account
        return AccountGuard(
            name,
            Lane(
                traffic,
                account=name,
                key_id=plan.key_id or f"account {name}",
                owner=plan.owner,
                venue_time_ns=venue_time_ns,
            ),
            clock=self.clock,
            rng=self._rng,
            send_within_s=plan.settings.send_by_s,
        )

    async def remove_account(self, name: AccountName) -> None:
        """Cease to serve an account. Its orders stay as they are; what is on its way ends in doubt.

        Returns when nothing of it is under way any more, so that it may be added anew.

        Raises:
            NotFound: There is none of that name.
        """
        member = self._members.get(name)
        if member is None or name in self._opening:
            raise NotFound(f"there is no account {name!r}", reason="UNKNOWN_ACCOUNT")
        # Until the end nobody else may add an account of that name: two would decide on its orders.
        self._opening.add(name)
        try:
            del self._members[name]
            member.account.set_state(AccountState.CLOSING, "the account is removed")
            await _end(member.requests)
            member.task.cancel()
            await asyncio.wait([member.task])
            await end_outboxes([task for _, task in member.outboxes], 0.0)
        finally:
            self._opening.discard(name)

    @property
    def accounts(self) -> Sequence[Account]:
        """The accounts that are served."""
        return [member.account for member in self._members.values()]

    @property
    def outboxes(self) -> Sequence[Outbox]:
        """Every account's way to every sink."""
        return [outbox for member in self._members.values() for outbox, _ in member.outboxes]

    def plan(self, name: AccountName) -> AccountPlan:
        """Return how an account is run."""
        return self._member(name).plan

    def account(self, name: str) -> Account:
        """Return an account.

        Raises:
            NotFound: There is none of that name.
        """
        return self._member(name).account

    def _member(self, name: str) -> _Member:
        member = self._members.get(AccountName(name))
        if member is None:
            known = ", ".join(sorted(self._members)) or "none"
            raise NotFound(
                f"there is no account {name!r}; there are {known}", reason="UNKNOWN_ACCOUNT"
            )
        return member

    # --- orders ---------------------------------------------------------------------------------

    async def place_order(self, new: NewOrder) -> Order:
        """Place one order, once; see `Gateway.place_order`."""
        check_fields(new)
        key = new.idempotency_key or new.client_order_id
        scope = ANY_SCOPE if new.account is None else new.account

        async def run(claim: Claim) -> Order | KeyTaken:
            if self._is_closing:
                raise Unavailable("the gateway shuts down", reason="SHUTTING_DOWN")
            routes = [member.plan.route for member in self._members.values()]
            member = self._members[pick_account(new, routes)]
            return await member.carry_out(member.desk.place(new, claim))

        return await self._once(scope, key, fingerprint_order(new), "place_order", run)

    async def place_orders(self, orders: Sequence[NewOrder]) -> Sequence[Order | TradegwError]:
        """Place several orders at once; one answer for each."""

        async def one(new: NewOrder) -> Order | TradegwError:
            try:
                return await self.place_order(new)
            except TradegwError as e:
                return e

        return await asyncio.gather(*(one(new) for new in orders))

    async def cancel_order(self, order: Order, key: str | None) -> Order:
        """Cancel an order that was found; see `Gateway.cancel_order`."""
        order_id = order.order_id

        async def run(claim: Claim) -> Order | KeyTaken:
            _check_commandable(order)
            member = self._member(order.account)
            return await member.carry_out(member.desk.cancel(order_id, claim))

        digest = fingerprint("cancel_order", {"order_id": order_id})
        return await self._once(order.account, key, digest, "cancel_order", run)

    async def replace_order(self, order: Order, terms: ReplaceTerms, key: str | None) -> Order:
        """Give an order that was found other terms; see `Gateway.replace_order`."""
        order_id = order.order_id

        async def run(claim: Claim) -> Order | KeyTaken:
            _check_commandable(order)
            member = self._member(order.account)
            return await member.carry_out(member.desk.replace(order_id, terms, claim))

        digest = fingerprint(
            "replace_order",
            {
                "order_id": order_id,
                "order_qty": terms.order_qty,
                "price": terms.price,
                "trigger_price": terms.trigger_price,
            },
        )
        return await self._once(order.account, key, digest, "replace_order", run)

    async def cancel_all(
        self,
        *,
        account: AccountName | None,
        venue: str | None = None,
        symbol: str | None,
        side: Side | None,
        key: str | None,
    ) -> Sequence[Order]:
        """Cancel our open orders that match, one by one. The same key goes on with the same orders.

        Raises:
            TradegwError: One could not be cancelled. The others were, as far as they could be.
        """
        return await self._owned(
            self._cancel_all(account=account, venue=venue, symbol=symbol, side=side, key=key)
        )

    async def _cancel_all(
        self,
        *,
        account: AccountName | None,
        venue: str | None,
        symbol: str | None,
        side: Side | None,
        key: str | None,
    ) -> Sequence[Order]:
        if account is not None:
            self._member(account)
        scope = ANY_SCOPE if account is None else account
        digest = fingerprint(
            "cancel_all_orders",
            {"account": account, "venue": venue, "symbol": symbol, "side": side},
        )
        key = key or uuid4().hex
        chosen = [
            order
            for member in self._members.values()
            if account in (None, member.account.account)
            and venue in (None, member.account.record.venue)
            for order in member.account.book
            if order.is_open and symbol in (None, order.symbol) and side in (None, order.side)
        ]
        claim = Claim(
            scope=scope,
            idempotency_key=key,
            fingerprint=digest,
            operation="cancel_all_orders",
            result=json.dumps([str(order.order_id) for order in chosen]),
            created_time_ns=self.clock.time_ns(),
        )
        taken = await self.store.put_claim(claim)
        order_ids = [order.order_id for order in chosen]
        if taken is not None:
            _check_same(taken.claim, digest)
            order_ids = [OrderId(UUID(text)) for text in json.loads(taken.claim.result)]

        async def one(order_id: OrderId) -> Order:
            order = await self.get_order(order_id)
            if not order.is_open:
                return order
            try:
                return await self.cancel_order(order, _derived(key, str(order_id)))
            except Conflict:
                return await self.get_order(order_id)

        # All of them, whatever becomes of one: this is what stops a bot that has gone wild.
        answers = await asyncio.gather(
            *(one(order_id) for order_id in order_ids), return_exceptions=True
        )
        orders = [answer for answer in answers if isinstance(answer, Order)]
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return orders

    async def close_position(self, account: str, symbol: str, key: str | None) -> Order | None:
        """Close a position with a reduce-only market order; see `Gateway.close_position`."""
        member = self._member(account)
        digest = fingerprint("close_position", {"account": account, "symbol": symbol})
        if key is not None:
            known = await self.store.find_claim(account, key)
            if known is not None:
                return await self._answer(known, digest)
        venue = member.account.admit()
        if not venue.account.capabilities.positions:
            raise UnsupportedOrder(f"venue {member.account.record.venue} has no positions")
        try:
            async with asyncio.timeout(member.account.settings.execute_timeout_s):
                page = await venue.fetch(FetchPositions())
        except (VenueError, TimeoutError) as e:
            raise Unavailable(
                f"the venue does not tell its positions: {e}", reason="VENUE_UNAVAILABLE"
            ) from e
        held: list[Position] = [p for p in page.items if p.symbol == symbol and p.qty]
        if not held:
            return None
        new = NewOrder(
            account=member.account.account,
            symbol=symbol,
            side=Side.SELL if held[0].qty > ZERO else Side.BUY,
            ord_type=OrdType.MARKET,
            time_in_force=TimeInForce.IOC,
            order_qty=held[0].qty.copy_abs(),
            reduce_only=True,
        )
        return await self._once(
            account,
            key,
            digest,
            "close_position",
            lambda claim: member.carry_out(member.desk.place(new, claim)),
        )

    async def resolve(
        self, order_id: OrderId, *, outcome: OrdStatus, by: str, why: str, key: str | None
    ) -> Order:
        """Close an order in doubt on an operator's word; see `Gateway.resolve`."""
        order = await self.get_order(order_id)
        exec_type = {
            OrdStatus.REJECTED: ExecType.REJECTED,
            OrdStatus.CANCELED: ExecType.CANCELED,
            OrdStatus.EXPIRED: ExecType.EXPIRED,
        }.get(outcome)
        if exec_type is None:
            raise InvalidOrder(
                f"outcome is REJECTED, CANCELED or EXPIRED; found {outcome}", reason="INVALID_FIELD"
            )
        if not by or not why:
            raise InvalidOrder("say by whom and why", reason="INVALID_FIELD")
        member = self._member(order.account)
        account = member.account

        async def run(claim: Claim) -> Order | KeyTaken:
            known = await self.store.find_claim(claim.scope, claim.idempotency_key)
            if known is not None:
                return KeyTaken(claim=known)
            held = account.book.find(order_id)
            if held is None or not held.in_doubt:
                raise Conflict(f"order {order_id} is not in doubt", reason="NOT_IN_DOUBT")
            report = ExecutionReport(
                exec_type=exec_type,
                reason="OPERATOR",
                text=why,
                evidence=Evidence(kind=EvidenceKind.OPERATOR, detail=f"{by}: {why}"),
            )
            claim = replace(claim, order_id=order_id, created_time_ns=self.clock.time_ns())
            return await member.carry_out(account.apply_reports(order_id, [report], claim=claim))

        digest = fingerprint("resolve", {"order_id": order_id, "outcome": outcome})
        return await self._once(order.account, key, digest, "resolve", run)

    async def adopt(
        self,
        account: str,
        venue_order_ids: Sequence[VenueOrderId],
        *,
        by: str,
        why: str,
        key: str | None,
    ) -> Sequence[Order]:
        """Make open orders of an account ours that the record does not know as such; see `Gateway.adopt`."""
        if not by or not why:
            raise InvalidOrder("say by whom and why", reason="INVALID_FIELD")
        member = self._member(account)
        work = self._adopt(member, venue_order_ids, by=by, why=why, key=key)
        return await self._owned(member.carry_out(work))

    async def _adopt(
        self,
        member: _Member,
        venue_order_ids: Sequence[VenueOrderId],
        *,
        by: str,
        why: str,
        key: str | None,
    ) -> Sequence[Order]:
        name = member.account.account
        digest = fingerprint("adopt", {"account": name, "venue_order_ids": list(venue_order_ids)})
        known = None if key is None else await self.store.find_claim(name, key)
        if known is not None:
            _check_same(known, digest)
            order_ids = [OrderId(UUID(text)) for text in json.loads(known.result)]
        else:
            try:
                order_ids = await member.externals.choose(member.account.admit(), venue_order_ids)
            except VenueError as e:
                raise Unavailable(
                    f"the venue does not tell its open orders: {e}", reason="VENUE_UNAVAILABLE"
                ) from e
            claim = Claim(
                scope=name,
                idempotency_key=key or uuid4().hex,
                fingerprint=digest,
                operation="adopt",
                result=json.dumps([str(order_id) for order_id in order_ids]),
                created_time_ns=self.clock.time_ns(),
            )
            taken = await self.store.put_claim(claim)
            if taken is not None:
                _check_same(taken.claim, digest)
                order_ids = [OrderId(UUID(text)) for text in json.loads(taken.claim.result)]
        log.warning("ADOPT of %d orders of %s by %s: %s", len(order_ids), name, by, why)
        return [await member.externals.adopt(order_id, by=by, why=why) for order_id in order_ids]

    async def get_order(self, order_id: OrderId) -> Order:
        """Return an order as stored.

        Raises:
            NotFound: There is none.
        """
        order = await self.store.find_order(order_id)
        if order is None:
            raise NotFound(f"there is no order {order_id}", reason="UNKNOWN_ORDER")
        return order

    async def find_by_client_id(self, account: str, client_order_id: str) -> Order | None:
        """Return the order that the caller named so, or None."""
        record = self._member(account).account.record
        return await self.store.find_order_by_client_id(
            record.account_id, ClientOrderId(client_order_id)
        )

    async def in_doubt(self) -> Sequence[Order]:
        """Return the orders in doubt, as they are remembered."""
        return [o for account in self.accounts for o in account.book if o.in_doubt]

    # --- halts ----------------------------------------------------------------------------------

    async def halt(self, halt: Halt, *, cancel_open: bool, key: str | None) -> Halt:
        """Refuse new orders in a scope, durably; see `Gateway.halt`."""
        return await self._owned(self._halt(halt, cancel_open=cancel_open, key=key))

    async def _halt(self, halt: Halt, *, cancel_open: bool, key: str | None) -> Halt:
        kind, _, name = halt.scope.partition(":")
        if halt.scope != ANY_SCOPE and (kind not in ("account", "venue", "symbol") or not name):
            raise InvalidOrder(
                f"scope is *, account:NAME, venue:NAME or symbol:NAME; found {halt.scope!r}",
                reason="INVALID_FIELD",
            )
        if kind == "account":
            self._member(name)
        for member in self._members.values():
            # Of any scope: the few seconds in which a silence might be ended by asking again are no loss.
            member.account.stop_repeating()
        digest = fingerprint("halt", {"scope": halt.scope, "cancel_open": cancel_open})
        key = key or uuid4().hex
        claim = Claim(
            scope=ANY_SCOPE,
            idempotency_key=key,
            fingerprint=digest,
            operation="halt",
            created_time_ns=self.clock.time_ns(),
        )
        taken = await self.store.put_halt(halt, claim)
        if taken is not None:
            _check_same(taken.claim, digest)
            # An answer to COMMIT that was lost may have kept it from us.
            self._halts = {known.scope: known for known in await self.store.list_halts()}
        else:
            self._halts[halt.scope] = halt
            log.warning("HALT of %s by %s: %s", halt.scope, halt.by, halt.why)
        if cancel_open:
            # What passed its checks before the halt is cancelled as well.
            await asyncio.gather(*(m.desk.until_stored() for m in self._members.values()))
            # Also when it was asked before: whoever asks again may not have heard that all is cancelled.
            await self._cancel_all(
                account=AccountName(name) if kind == "account" else None,
                venue=name if kind == "venue" else None,
                symbol=name if kind == "symbol" else None,
                side=None,
                key=_derived(key, "cancel"),
            )
        return self._halts.get(halt.scope, halt)

    async def resume(self, scope: str, *, by: str, key: str | None) -> None:
        """Lift a halt; see `Gateway.resume`."""
        digest = fingerprint("resume", {"scope": scope})
        claim = Claim(
            scope=ANY_SCOPE,
            idempotency_key=key or uuid4().hex,
            fingerprint=digest,
            operation="resume",
            created_time_ns=self.clock.time_ns(),
        )
        known = await self.store.find_claim(claim.scope, claim.idempotency_key)
        if known is not None:
            _check_same(known, digest)
            return
        if scope not in self._halts:
            raise NotFound(f"there is no halt of {scope}", reason="UNKNOWN_HALT")
        await self.store.delete_halt(scope, claim)
        self._halts.pop(scope, None)
        log.warning("RESUME of %s by %s", scope, by)

    @property
    def halts(self) -> Sequence[Halt]:
        """The halts in force."""
        return tuple(self._halts.values())

    def _find_halt(self, account: AccountName, venue: str, symbol: str) -> Halt | None:
        if not self._halts:
            return None
        for scope in (ANY_SCOPE, f"account:{account}", f"venue:{venue}", f"symbol:{symbol}"):
            if scope in self._halts:
                return self._halts[scope]
        return None

    # --- once -----------------------------------------------------------------------------------

    async def _once(
        self,
        scope: str,
        key: str | None,
        digest: str,
        operation: str,
        run: Callable[[Claim], Awaitable[Order | KeyTaken]],
    ) -> Order:
        """Carry a request out once for its key; a second call with the key waits for the first.

        Raises:
            IdempotencyKeyReused: The key belongs to another request.
        """
        is_given = key is not None
        key = key or uuid4().hex
        token = (scope, key)
        running = self._running.get(token)
        if running is None:
            future: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
            running = _Running(fingerprint=digest, future=future)
            self._running[token] = running
            claim = Claim(scope=scope, idempotency_key=key, fingerprint=digest, operation=operation)
            task = self._start(future, self._claimed(claim, is_given, run))
            task.add_done_callback(lambda _: self._running.pop(token))
        elif running.fingerprint != digest:
            raise _reused(key)
        return await asyncio.shield(running.future)

    async def see_through(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work in a task of the engine, which a shut-down waits for like for any request."""
        return await self._owned(work)

    @property
    def is_closing(self) -> bool:
        """Whether new orders are taken no more."""
        return self._is_closing

    async def _owned(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work in a task of the engine: a caller who goes away cancels only its own waiting."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._start(future, work)
        try:
            return await asyncio.shield(future)
        except StoreError as e:
            # Also where it may be stored: the same key goes on with it.
            raise Unavailable(f"the store cannot be used: {e}", reason=e.reason) from e

    def _start(self, future: asyncio.Future[T], work: Coroutine[Any, Any, T]) -> asyncio.Task[None]:
        task = self._group.create_task(self._carry_out(future, work))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        return task

    async def _carry_out(self, future: asyncio.Future[T], work: Coroutine[Any, Any, T]) -> None:
        try:
            future.set_result(await work)
        except BaseException as e:
            if isinstance(e, asyncio.CancelledError):
                error = Unavailable("the gateway shut down; ask again", reason="SHUTTING_DOWN")
                future.set_exception(error)
            else:
                # The caller gets it, whatever it is.
                future.set_exception(e)
            # Whoever asked may be gone; then nobody retrieves it, and that is no fault.
            future.exception()
            if not isinstance(e, Exception):
                raise

    async def _claimed(
        self,
        claim: Claim,
        is_given: bool,
        run: Callable[[Claim], Awaitable[Order | KeyTaken]],
    ) -> Order:
        try:
            result = await run(claim)
        except TradegwError as e:
            # A key that is known gets its order, whatever would stand in its way now.
            try:
                known = (
                    await self.store.find_claim(claim.scope, claim.idempotency_key)
                    if is_given
                    else None
                )
            except StoreError:
                known = None
            if known is not None:
                return await self._answer(known, claim.fingerprint)
            if isinstance(e, StoreError):
                raise Unavailable(f"the store cannot be used: {e}", reason=e.reason) from e
            raise
        if isinstance(result, KeyTaken):
            return await self._answer(result.claim, claim.fingerprint)
        return result

    async def _answer(self, claim: Claim, digest: str) -> Order:
        _check_same(claim, digest)
        assert claim.order_id is not None, f"{claim.operation} names no order"
        return await self.get_order(claim.order_id)

    # --- observers ------------------------------------------------------------------------------

    def _observe(self, events: Sequence[OrderEvent]) -> None:
        for event in events:
            self._observed.put_nowait(event)

    async def _show_observers(self) -> None:
        while True:
            self.plugins.on_event(await self._observed.get())
            self._observed.task_done()

    # --- shutting down --------------------------------------------------------------------------

    async def drain(self, drain_s: float) -> None:
        """Take no new orders, wait for answers, and put in doubt what has none when time is up.

        Cancels are taken all the while. Safe to call twice.
        """
        self._is_closing = True
        for account in self.accounts:
            account.set_state(AccountState.CLOSING, "the gateway shuts down")
        reach(CrashPoint.DRAINING)
        deadline = asyncio.get_running_loop().time() + drain_s
        # Cancels that come meanwhile are waited for as well.
        while self._requests and (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(tuple(self._requests), timeout=left_s)
        await _end(self._requests)

    async def close(self) -> None:
        """End streams after what is stored, and the accounts' tasks. Follows `drain`."""
        self.hub.close()
        for member in self._members.values():
            member.task.cancel()
        for traffic in self._traffic.values():
            traffic.close()
        if self._members:
            await asyncio.wait([member.task for member in self._members.values()])
        # Their streams end after what is stored, so a sink that is there gets all of it.
        outboxes = [task for member in self._members.values() for _, task in member.outboxes]
        await end_outboxes(outboxes, _PATIENCE_S)
        if self._observers is not None:
            await self._observed.join()
            self._observers.cancel()


async def _end(requests: set[asyncio.Task[Any]]) -> None:
    """Cancel requests until they have ended: each puts in doubt what it may have sent."""
    while requests:
        for task in tuple(requests):
            task.cancel()
        # Once more after a while: one that waits for a store that is away has taken the first for
        # a reason to store something.
        await asyncio.wait(tuple(requests), timeout=_PATIENCE_S)


def _was_granted(order: Order) -> bool:
    """Whether an order passed its checks, so that the limits were charged with it."""
    is_denied = (
        order.ord_status is OrdStatus.REJECTED
        and order.closed_by is EvidenceKind.NOT_SENT
        and order.reason != "NEVER_REACHED_VENUE"
    )
    return order.origin is Origin.GATEWAY and not is_denied


def _check_commandable(order: Order) -> None:
    if not order.is_open:
        raise Conflict(
            f"order {order.order_id} is {order.ord_status} already", reason="ORDER_CLOSED"
        )
    if order.origin is Origin.EXTERNAL:
        raise Conflict(
            f"order {order.order_id} is not ours; adopt it first", reason="EXTERNAL_ORDER"
        )


def _derived(key: str, part: str) -> str:
    # A separator that no caller's key can hold keeps derived keys apart from them.
    return f"{key}\x1f{part}"


def _check_same(claim: Claim, digest: str) -> None:
    if claim.fingerprint != digest:
        raise _reused(claim.idempotency_key)


def _reused(key: str) -> IdempotencyKeyReused:
    return IdempotencyKeyReused(
        f"idempotency key {key!r} belongs to a request with other parameters; use a new key for a new "
        "request"
    )
