"""Commands that are held here because their venue is out: stored, without a request, until their turn comes.

An order that asked for it (`queue_if_unavailable_s`), and every cancel. The record says of each that the
venue has not been asked, so a restart goes on with it and doubts nothing. When its turn comes it is
translated; its request is stored with the news that it waits no more; and only then it is sent, once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Final
from uuid import uuid4

from tradegw.engine.account import NS_PER_S, Account, AccountState
from tradegw.engine.context import REQUEST
from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.guard import Permit, Rank
from tradegw.engine.intake import clean
from tradegw.engine.resending import ResendingDesk
from tradegw.engine.validate import check_capabilities, check_grid
from tradegw.errors import (
    Conflict,
    InvalidOrder,
    NotSent,
    PluginError,
    RateLimited,
    Unavailable,
    VenueError,
)
from tradegw.hookspecs import Denial
from tradegw.model import (
    CommandKind,
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    NewOrder,
    Order,
    OrderId,
)
from tradegw.model.lifecycle import Outcome, apply, ask_cancel, dequeue, record_intent
from tradegw.ports import Claim, KeyTaken
from tradegw.venue import Cancel, Operation, Submit, VenueRequest

__all__ = ["HELD_MAX", "HoldingDesk"]

log = logging.getLogger(__name__)

HELD_MAX: Final = 1000
"""Orders of one account that may wait for its venue."""
_OUT: Final = ("VENUE_UNAVAILABLE", "RECONCILING")


class HoldingDesk(ResendingDesk):
    """A desk that holds what its venue cannot be asked now.

    Attributes:
        on_held_again: Told of a cancel that the venue did not take, and that waits again.
    """

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self.on_held_again: Callable[[OrderId], None] = _nothing

    # --- holding --------------------------------------------------------------------------------

    @property
    def can_command(self) -> bool:
        """Whether the venue can be asked to cancel."""
        account = self._account
        return (
            account.venue is not None
            and account.state not in (AccountState.STARTING, AccountState.STOPPED)
            and not account.guard.breaker.is_open
        )

    @property
    def _can_hold(self) -> bool:
        """Whether an order can be checked and kept: it is the venue alone that is missing."""
        account = self._account
        return (
            account.about is not None
            and bool(account.instruments)
            and account.state
            in (AccountState.STARTING, AccountState.RECONCILING, AccountState.READY)
        )

    async def place(self, new: NewOrder, claim: Claim) -> Order | KeyTaken:
        """Place an order, or hold it if it asks for that and its venue is out; see `Desk.place`."""
        try:
            return await super().place(new, claim)
        except Unavailable as e:
            if new.queue_if_unavailable_s is None or e.reason not in _OUT or not self._can_hold:
                self._account.meter.refused(self._account.account, e.reason)
                raise
        return await self._hold_order(new, claim, new.queue_if_unavailable_s)

    async def cancel(self, order_id: OrderId, claim: Claim) -> Order | KeyTaken:
        """Cancel an order, or hold the cancel while the venue cannot be asked; see `Desk.cancel`.

        An order that is held here itself is cancelled at once.
        """
        account = self._account
        order = account.book.find(order_id)
        if order is not None:
            account.cancels_asked.add(order_id)
        if order is not None and (order.queued or not self.can_command):
            return await self._hold_cancel(order_id, claim)
        try:
            return await super().cancel(order_id, claim)
        except Unavailable as e:
            if e.reason not in (*_OUT, "BUDGET_EXHAUSTED"):
                raise
        return await self._hold_cancel(order_id, claim)

    async def _hold_order(self, new: NewOrder, claim: Claim, keep_s: float) -> Order | KeyTaken:
        """Check an order as far as that can be done now, and store it without a request."""
        account = self._account
        about = account.about
        assert about is not None, "`_can_hold` was asked"
        check_capabilities(new, about.capabilities, account.record.venue)
        check_grid(
            self._instrument(new.symbol),
            order_qty=new.order_qty,
            price=new.price,
            trigger_price=new.trigger_price,
        )
        order_id = OrderId(uuid4())
        name = await account.names.take(about.capabilities.client_id_codec, order_id, 0)
        await account.mark(new.symbol)
        # Nothing suspends between here and the reservation of its place.
        held = sum(order.queued_command is CommandKind.NEW for order in account.book)
        if held + len(self._storing) >= HELD_MAX:
            raise Unavailable(
                f"account {account.account}: {HELD_MAX} orders wait for the venue already",
                reason="VENUE_UNAVAILABLE",
            )
        made = self._make_order(new, claim, order_id, name)
        order = replace(made, queued=True, send_by_ns=made.created_time_ns + int(keep_s * NS_PER_S))
        # Its price is judged when its turn comes: there is none to judge by now.
        denial = self._deny(new, order, about, None, is_price_judged=False)
        if denial is not None:
            return await self._store_denied(order, claim, denial)
        self._storing.add(order_id)
        try:
            stored = await self._store_held(order, claim)
        except BaseException:
            account.limits.release()
            raise
        finally:
            self._storing.discard(order_id)
            self._stored.set()
        if isinstance(stored, KeyTaken):
            account.limits.release()
        account.wake_queue.set()
        return stored

    async def _store_held(self, order: Order, claim: Claim) -> Order | KeyTaken:
        account = self._account
        context = REQUEST.get()
        _, events = record_intent(order, request_id=context.request_id, trace_id=context.trace_id)
        account.unsent.add(order.order_id)
        try:
            stored = await self._append_new(order, events, claim, None)
            reach(CrashPoint.HELD_UNTOLD)
            if not isinstance(stored, KeyTaken) and order.order_id in account.unsent:
                account.book.put(stored)
        finally:
            account.unsent.discard(order.order_id)
        return stored

    async def _hold_cancel(self, order_id: OrderId, claim: Claim) -> Order | KeyTaken:
        account = self._account
        if account.state is AccountState.STOPPED:
            raise account.unavailable()
        earlier = await account.store.find_claim(claim.scope, claim.idempotency_key)
        if earlier is not None:
            return KeyTaken(claim=earlier)
        self._open_order(order_id)
        claim = replace(claim, order_id=order_id, created_time_ns=account.clock.time_ns())
        try:
            stood = await account.commit(order_id, self._held_cancel, claim=claim)
        except Unavailable:
            await account.recovered.wait()
            if await account.store.find_claim(claim.scope, claim.idempotency_key) is None:
                raise
            found = await account.store.find_order(order_id)
            assert found is not None, f"order {order_id} was stored before its cancel"
            stood = found
        reach(CrashPoint.HELD_UNTOLD)
        account.wake_queue.set()
        return stood

    def _held_cancel(self, order: Order) -> Outcome:
        """Decide what a cancel that is not sent now does to an order."""
        if order.queued_command is CommandKind.NEW:
            text = "cancelled while it waited for its venue"
            return self._ended(ExecType.CANCELED, "CANCELED_UNSENT", text)(order)
        if order.queued or not order.is_open:
            return order, ()
        context = REQUEST.get()
        return ask_cancel(
            order,
            time_ns=self._account.clock.time_ns(),
            queued=True,
            why="the venue cannot be asked now",
            request_id=context.request_id,
            trace_id=context.trace_id,
        )

    async def _apply_refusal(
        self, order_id: OrderId, command: CommandKind, error: VenueError
    ) -> Order:
        if command is not CommandKind.CANCEL or not isinstance(error, (NotSent, RateLimited)):
            return await super()._apply_refusal(order_id, command, error)
        # The venue did not take it, and to send it again is harmless: it stays asked, and waits.
        why = clean(f"{error.reason}: {error}")

        def change(order: Order) -> Outcome:
            if not order.is_open or order.pending is not CommandKind.CANCEL:
                return order, ()
            return ask_cancel(order, time_ns=self._account.clock.time_ns(), queued=True, why=why)

        self.on_held_again(order_id)
        order = await self._account.commit(order_id, change)
        self._account.wake_queue.set()
        return order

    # --- letting go -----------------------------------------------------------------------------

    async def expire(self, order_id: OrderId) -> None:
        """Close an order that has waited for as long as it was to wait."""
        text = "the venue was out for as long as it was to wait"
        change = self._ended(ExecType.EXPIRED, "QUEUE_EXPIRED", text)
        await self._account.commit(order_id, _if_waiting(change))

    async def release(self, order_id: OrderId) -> None:
        """Send an order whose turn has come, unless it must not be sent any more.

        Raises:
            Unavailable: Not now after all.
        """
        account = self._account
        order = account.book.find(order_id)
        if order is None:
            return
        new = _as_new(order)
        px = None
        if account.limits.needs_reference_price(new):
            px = await self._prices.fetch(account.admit(), order.symbol)
        permit = await account.guard.enter(Operation.NEW, order.symbol)
        try:
            await self._release(order_id, new, px, permit)
        finally:
            permit.close()

    async def _release(
        self, order_id: OrderId, new: NewOrder, px: Decimal | None, permit: Permit
    ) -> None:
        account = self._account
        venue = account.admit()
        order = account.book.find(order_id)
        if order is None or order.queued_command is not CommandKind.NEW:
            return
        denial = self._halted(order.symbol) or account.limits.judge_price(new, px)
        if denial is not None and denial.reason == "NO_REFERENCE_PRICE":
            # It has time: a market that has just come back may have no price yet.
            raise Unavailable(denial.text, reason=denial.reason)
        if denial is None:
            try:
                request = self._translate_command(venue, Submit(order=order), order)
            except (InvalidOrder, PluginError) as e:
                denial = Denial(reason=e.reason, text=str(e))
            else:
                permit.charge(request.cost)
                await self._send_held(order, request, permit)
                return
        account.meter.refused(account.account, denial.reason)
        change = self._ended(ExecType.REJECTED, denial.reason, denial.text)
        await account.commit(order_id, _if_waiting(change))

    async def _send_held(self, order: Order, request: VenueRequest, permit: Permit) -> None:
        account = self._account
        order_id = order.order_id
        key = (order_id, CommandKind.NEW)
        # From here on a cancel waits for the answer, like that of any order on its way.
        done = account.in_flight[key] = asyncio.Event()
        account.unsent.add(order_id)
        account.identities[order_id] = account.identity
        reach(CrashPoint.RELEASED_UNJOURNALED)
        try:
            stored = await account.commit(
                order_id,
                lambda order: dequeue(order, time_ns=account.clock.time_ns()),
                ref=self._first_ref(order, request),
            )
            await self._send_new(stored, request, permit)
        finally:
            account.unsent.discard(order_id)
            done.set()
            if account.in_flight.get(key) is done:
                del account.in_flight[key]

    async def release_cancel(self, order_id: OrderId) -> None:
        """Send a cancel whose turn has come.

        Raises:
            Unavailable: Not now after all.
        """
        account = self._account
        await self._settled(order_id, CommandKind.NEW)
        await self._settled(order_id, CommandKind.CANCEL)
        with suppress(Conflict):
            order = self._open_order(order_id)
            permit = await account.guard.enter(Operation.CANCEL, order.symbol, Rank.CANCEL)
            try:
                await self._release_cancel(order_id, permit)
            finally:
                permit.close()

    async def _release_cancel(self, order_id: OrderId, permit: Permit) -> None:
        account = self._account
        if not self.can_command:
            raise account.unavailable()
        venue = self._commanding()
        order = self._open_order(order_id)
        if order.queued_command is not CommandKind.CANCEL:
            return
        request = self._translate_command(venue, Cancel(order=order), order)
        permit.charge(request.cost)
        key = (order_id, CommandKind.CANCEL)
        done = account.in_flight[key] = asyncio.Event()
        reach(CrashPoint.RELEASED_UNJOURNALED)
        try:
            await account.commit(
                order_id,
                lambda order: dequeue(order, time_ns=account.clock.time_ns()),
                ref=self._commanded_ref(order, request),
            )
            await self._send(order_id, CommandKind.CANCEL, request, permit)
        finally:
            done.set()
            if account.in_flight.get(key) is done:
                del account.in_flight[key]

    def _ended(self, exec_type: ExecType, reason: str, text: str) -> Callable[[Order], Outcome]:
        """Return the change that closes an order which waited here, so that no venue has seen it."""
        report = ExecutionReport(
            exec_type=exec_type,
            command=CommandKind.CANCEL if exec_type is ExecType.CANCELED else CommandKind.NEW,
            reason=clean(reason),
            text=clean(text),
            evidence=Evidence(kind=EvidenceKind.NOT_SENT, detail="it waited here all the while"),
            received_time_ns=self._account.clock.time_ns(),
        )
        return lambda order: apply(order, report)


def _if_waiting(change: Callable[[Order], Outcome]) -> Callable[[Order], Outcome]:
    """Return the change of an order that still waits; whatever was faster stands."""

    def decide(order: Order) -> Outcome:
        return change(order) if order.queued_command is CommandKind.NEW else (order, ())

    return decide


def _as_new(order: Order) -> NewOrder:
    """Return what an order asks for, for the rules that judge requests."""
    return NewOrder(
        account=order.account,
        symbol=order.symbol,
        side=order.side,
        ord_type=order.ord_type,
        order_qty=order.order_qty,
        quote_qty=order.quote_qty,
        price=order.price,
        trigger_price=order.trigger_price,
        reduce_only=order.reduce_only,
    )


def _nothing(_: OrderId) -> None:
    pass
