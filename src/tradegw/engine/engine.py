"""What is asked of a gateway's accounts: routing, commands, halts. A request outlives its caller."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID, uuid4

from tradegw.engine.account import Account, AccountState, Meter
from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.fingerprint import fingerprint, fingerprint_order
from tradegw.engine.halts import ANY_SCOPE, Halts
from tradegw.engine.hub import Hub
from tradegw.engine.members import AccountPlan, Member, Members
from tradegw.engine.outbox import NamedSink, Outbox
from tradegw.engine.requests import Requests, all_of, check_same
from tradegw.engine.routing import Route, pick_account
from tradegw.engine.tenure import Tenure
from tradegw.engine.validate import check_fields
from tradegw.errors import (
    Conflict,
    InvalidOrder,
    NotFound,
    TradegwError,
    Unavailable,
    UnsupportedOrder,
    VenueError,
)
from tradegw.model import (
    AccountName,
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    Halt,
    NewOrder,
    Order,
    OrderEvent,
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
from tradegw.venue import FetchPositions

__all__ = ["Engine"]

log = logging.getLogger(__name__)
T = TypeVar("T")


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
        routes: Sequence[Route] = (),
    ) -> None:
        """Make an engine without accounts.

        Args:
            routes: Every configured account, where other gateways may serve some of them.
        """
        self.store = store
        self.clock = clock
        self.plugins = plugins
        self.hub = Hub(store)
        self.halts = Halts(store, self._stop_repeating)
        self._members = Members(
            store=store,
            clock=clock,
            plugins=plugins,
            hub=self.hub,
            group=group,
            rng=rng,
            meter=meter,
            sinks=sinks,
            find_halt=self.halts.find,
            routes=routes,
        )
        self._requests = Requests(store, group)
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
        await self.halts.read()
        for plan in plans:
            await self._members.add(plan)

    async def add_account(self, plan: AccountPlan, tenure: Tenure | None = None) -> None:
        """Begin to serve an account; see `Members.add`."""
        await self._members.add(plan, tenure)

    async def register(self, plan: AccountPlan) -> AccountRecord:
        """Return an account as it is stored, whoever serves it; see `Members.register`."""
        return await self._members.register(plan)

    def divide_budgets(self, sharers: int) -> None:
        """Leave to other gateways their part of the rate budgets; see `Members.divide`."""
        self._members.divide(sharers)

    async def remove_account(self, name: AccountName) -> None:
        """Cease to serve an account; see `Members.remove`."""
        await self._members.remove(name)

    @property
    def accounts(self) -> Sequence[Account]:
        """The accounts that are served."""
        return [member.account for member in self._members]

    @property
    def outboxes(self) -> Sequence[Outbox]:
        """Every account's way to every sink."""
        return [outbox for member in self._members for outbox, _ in member.outboxes]

    def plan(self, name: AccountName) -> AccountPlan:
        """Return how an account is run."""
        return self._members.get(name).plan

    def account(self, name: str) -> Account:
        """Return an account.

        Raises:
            NotFound: There is none of that name.
        """
        return self._members.get(name).account

    # --- orders ---------------------------------------------------------------------------------

    async def place_order(self, new: NewOrder) -> Order:
        """Place one order, once; see `Gateway.place_order`."""
        check_fields(new)
        key = new.idempotency_key or new.client_order_id
        scope = ANY_SCOPE if new.account is None else new.account

        async def run(claim: Claim) -> Order | KeyTaken:
            if self._is_closing:
                raise Unavailable("the gateway shuts down", reason="SHUTTING_DOWN")
            member = self._members.get(pick_account(new, self._members.routes))
            return await member.carry_out(member.desk.place(new, claim))

        return await self._requests.once(scope, key, fingerprint_order(new), "place_order", run)

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
            member = self._members.get(order.account)
            return await member.carry_out(member.desk.cancel(order_id, claim))

        digest = fingerprint("cancel_order", {"order_id": order_id})
        return await self._requests.once(order.account, key, digest, "cancel_order", run)

    async def replace_order(self, order: Order, terms: ReplaceTerms, key: str | None) -> Order:
        """Give an order that was found other terms; see `Gateway.replace_order`."""
        order_id = order.order_id

        async def run(claim: Claim) -> Order | KeyTaken:
            _check_commandable(order)
            member = self._members.get(order.account)
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
        return await self._requests.once(order.account, key, digest, "replace_order", run)

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
        return await self._requests.owned(
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
            self._members.get(account)
        scope = ANY_SCOPE if account is None else account
        digest = fingerprint(
            "cancel_all_orders",
            {"account": account, "venue": venue, "symbol": symbol, "side": side},
        )
        key = key or uuid4().hex
        chosen = [
            order
            for member in self._members
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
            check_same(taken.claim, digest)
            order_ids = [OrderId(UUID(text)) for text in json.loads(taken.claim.result)]

        async def one(order_id: OrderId) -> Order:
            order = await self.get_order(order_id)
            if not order.is_open:
                return order
            try:
                return await self.cancel_order(order, _derived(key, str(order_id)))
            except Conflict:
                return await self.get_order(order_id)

        return await all_of(one(order_id) for order_id in order_ids)

    async def close_position(self, account: str, symbol: str, key: str | None) -> Order | None:
        """Close a position with a reduce-only market order; see `Gateway.close_position`."""
        member = self._members.get(account)
        digest = fingerprint("close_position", {"account": account, "symbol": symbol})
        if key is not None:
            known = await self.store.find_claim(account, key)
            if known is not None:
                return await self._requests.answer(known, digest)
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
        return await self._requests.once(
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
        member = self._members.get(order.account)
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
        return await self._requests.once(order.account, key, digest, "resolve", run)

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
        member = self._members.get(account)
        work = self._adopt(member, venue_order_ids, by=by, why=why, key=key)
        return await self._requests.owned(member.carry_out(work))

    async def _adopt(
        self,
        member: Member,
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
            check_same(known, digest)
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
                check_same(taken.claim, digest)
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

    async def in_doubt(self) -> Sequence[Order]:
        """Return the orders in doubt, as they are remembered."""
        return [o for account in self.accounts for o in account.book if o.in_doubt]

    # --- halts ----------------------------------------------------------------------------------

    async def halt(self, halt: Halt, *, cancel_open: bool, key: str | None) -> Halt:
        """Refuse new orders in a scope, durably; see `Gateway.halt`."""
        return await self._requests.owned(self._halt(halt, cancel_open=cancel_open, key=key))

    async def _halt(self, halt: Halt, *, cancel_open: bool, key: str | None) -> Halt:
        kind, _, name = halt.scope.partition(":")
        if halt.scope != ANY_SCOPE and (kind not in ("account", "venue", "symbol") or not name):
            raise InvalidOrder(
                f"scope is *, account:NAME, venue:NAME or symbol:NAME; found {halt.scope!r}",
                reason="INVALID_FIELD",
            )
        if kind == "account" and not self._members.knows(name):
            self._members.get(name)
        self._stop_repeating()
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
            check_same(taken.claim, digest)
            # An answer to COMMIT that was lost may have kept it from us, or another gateway stored it.
            await self.halts.read()
        else:
            self.halts.put(halt)
        if cancel_open:
            # Also when it was asked before: whoever asks again may not have heard that all is cancelled.
            await self._cancel_halted(kind, name, _derived(key, "cancel"))
        return self.halts.get(halt.scope) or halt

    async def _cancel_halted(self, kind: str, name: str, key: str) -> None:
        """Cancel in a halt's scope, account by account: other gateways, with the same key, cancel theirs."""

        async def one(member: Member) -> Sequence[Order]:
            # What passed its checks before the halt is cancelled as well. Each account waits for its own.
            await member.desk.until_stored()
            return await self._cancel_all(
                account=member.account.account,
                venue=None,
                symbol=name if kind == "symbol" else None,
                side=None,
                key=key,
            )

        await all_of(
            one(member)
            for member in self._members
            if (kind != "account" or member.account.account == name)
            and (kind != "venue" or member.account.record.venue == name)
        )

    def _stop_repeating(self) -> None:
        for member in self._members:
            # Of any scope: the few seconds in which a silence might be ended by asking again are no loss.
            member.account.stop_repeating()

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
            check_same(known, digest)
            # It may have been lifted by another gateway.
            await self.halts.read()
            return
        if self.halts.get(scope) is None:
            raise NotFound(f"there is no halt of {scope}", reason="UNKNOWN_HALT")
        await self.store.delete_halt(scope, claim)
        self.halts.drop(scope)
        log.warning("RESUME of %s by %s", scope, by)

    async def see_through(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work in a task of the engine, which a shut-down waits for like for any request."""
        return await self._requests.owned(work)

    @property
    def is_closing(self) -> bool:
        """Whether new orders are taken no more."""
        return self._is_closing

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
        # Cancels that come meanwhile are waited for as well.
        await self._requests.finish(drain_s)

    async def close(self) -> None:
        """End streams after what is stored, and the accounts' tasks. Follows `drain`."""
        self.hub.close()
        await self._members.close()
        if self._observers is not None:
            await self._observed.join()
            self._observers.cancel()


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
