"""Takes commands for one account: checks them, stores them, sends them, and stores what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import uuid4

from tradegw.engine.account import NS_PER_S, Account, AccountState
from tradegw.engine.context import REQUEST
from tradegw.engine.crash import CrashPoint, is_armed, reach
from tradegw.engine.guard import FREE, Permit, Rank
from tradegw.engine.intake import clean
from tradegw.engine.replacing import CAN_REPLACE, commanded
from tradegw.engine.validate import check_capabilities, check_grid, check_replace
from tradegw.errors import (
    CommitUnknown,
    Conflict,
    InvalidOrder,
    NotSent,
    OutcomeUnknown,
    PluginError,
    RateLimited,
    StoreError,
    TradegwError,
    Unavailable,
    UnsupportedOrder,
    VenueError,
    VenueRejected,
)
from tradegw.hookspecs import Denial
from tradegw.model import (
    CommandKind,
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    Instrument,
    NewOrder,
    Order,
    OrderEvent,
    OrderId,
    ReplaceTerms,
    VenueClientOrderId,
)
from tradegw.model.lifecycle import Outcome, apply, ask_cancel, ask_replace, record_intent
from tradegw.model.numbers import ZERO, check_decimal
from tradegw.plugins import AccountPlugins
from tradegw.ports import Claim, Entry, KeyTaken, Replayed, VenueOrderRef
from tradegw.venue import (
    Cancel,
    Command,
    FetchReferencePrice,
    Operation,
    Replace,
    Submit,
    TranslateContext,
    VenueAccount,
    VenueRequest,
    VenueTime,
)

__all__ = ["Desk"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_TURNS_MAX = 3
"""How often an order takes its turn with a price that has grown old meanwhile."""
_REFUSALS = {
    CommandKind.NEW: ExecType.REJECTED,
    CommandKind.CANCEL: ExecType.CANCEL_REJECTED,
    CommandKind.REPLACE: ExecType.REPLACE_REJECTED,
}


class Desk:
    """Commands of one account. Each method runs in a task of the gateway, never in the caller's."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._storing: set[OrderId] = set()
        self._stored = asyncio.Event()
        self._reference: dict[str, tuple[Decimal, int]] = {}

    # --- placing --------------------------------------------------------------------------------

    async def place(self, new: NewOrder, claim: Claim) -> Order | KeyTaken:
        """Check, store, send and apply one new order.

        Returns:
            The order as it then stands, or the earlier use of its key.

        Raises:
            InvalidOrder: Nothing was stored.
            DuplicateClientOrderId: Nothing was stored.
            Unavailable: Nothing was stored.

        Cancellation: the order is put in doubt if it may have been sent.
        """
        account = self._account
        venue = account.admit()
        instrument = self._instrument(new.symbol)
        check_capabilities(new, venue.account.capabilities, account.record.venue)
        check_grid(
            instrument,
            order_qty=new.order_qty,
            price=new.price,
            trigger_price=new.trigger_price,
        )
        reference_px = None
        if account.limits.needs_reference_price(new):
            reference_px = await self._reference_price(venue, new.symbol)
            venue = account.admit()
        permit = account.guard.try_enter(Operation.NEW, new.symbol)
        if permit is None:
            permit, reference_px = await self._wait_turn(new)
        try:
            return await self._place(new, claim, instrument, reference_px, permit)
        finally:
            permit.close()

    async def until_stored(self) -> None:
        """Wait until every order that has passed its checks by now is stored, or will not be."""
        left = set(self._storing)
        while left & self._storing:
            self._stored.clear()
            await self._stored.wait()

    async def _wait_turn(self, new: NewOrder) -> tuple[Permit, Decimal | None]:
        """Wait for the turn of an order, with a price that is fresh when it comes, if one is needed."""
        account = self._account
        for _ in range(_TURNS_MAX):
            permit = await account.guard.enter(Operation.NEW, new.symbol)
            try:
                venue = account.admit()
                if not account.limits.needs_reference_price(new):
                    return permit, None
                held = self._held_price(new.symbol)
                if held is not None:
                    return permit, held
            except BaseException:
                permit.close()
                raise
            # Not while holding a place that a cancel may wait for.
            permit.close()
            await self._reference_price(venue, new.symbol)
            account.admit()
        return FREE, None

    async def _place(
        self,
        new: NewOrder,
        claim: Claim,
        instrument: Instrument,
        reference_px: Decimal | None,
        permit: Permit,
    ) -> Order | KeyTaken:
        account = self._account
        order_id = OrderId(uuid4())
        codec = account.admit().account.capabilities.client_id_codec
        name = await account.names.take(codec, order_id, 0)
        await account.mark(new.symbol)
        venue = account.admit()
        order = self._make_order(new, claim, order_id, name)
        now = account.venue_now()
        request = _translate(
            venue,
            Submit(order=order),
            TranslateContext(
                instrument=instrument,
                now=now,
                venue_client_order_ids=(name,),
                nonce=account.next_nonce(now),
            ),
        )
        permit.charge(request.cost)
        denial = self._deny(new, order, venue.account, reference_px)
        if denial is not None:
            return await self._store_denied(order, claim, denial)
        reach(CrashPoint.TRANSLATED_UNJOURNALED)
        self._storing.add(order_id)
        try:
            stored = await self._store_intent(order, claim, request)
        except BaseException:
            account.limits.release()
            raise
        finally:
            self._storing.discard(order_id)
            self._stored.set()
        if isinstance(stored, KeyTaken):
            account.limits.release()
            return stored
        return await self._send_new(stored, request, permit)

    def _make_order(
        self, new: NewOrder, claim: Claim, order_id: OrderId, name: VenueClientOrderId
    ) -> Order:
        account = self._account
        now_ns = account.clock.time_ns()
        return Order(
            order_id=order_id,
            account=account.account,
            venue=account.record.venue,
            symbol=new.symbol,
            side=new.side,
            ord_type=new.ord_type,
            time_in_force=new.time_in_force,
            order_qty=new.order_qty,
            quote_qty=new.quote_qty,
            price=new.price,
            trigger_price=new.trigger_price,
            trigger_by=new.trigger_by,
            trailing_offset=new.trailing_offset,
            expire_time_ns=new.expire_time_ns,
            post_only=new.post_only,
            reduce_only=new.reduce_only,
            max_slippage_bps=new.max_slippage_bps,
            client_order_id=new.client_order_id,
            idempotency_key=claim.idempotency_key,
            # A copy: the caller may go on using its mapping.
            tags=MappingProxyType(dict(new.tags)) if new.tags else new.tags,
            leaves_qty=new.order_qty if new.order_qty is not None else ZERO,
            triggered=not (new.ord_type.has_trigger or new.trailing_offset is not None),
            venue_client_order_id=name,
            send_by_ns=now_ns + int(account.settings.send_by_s * NS_PER_S),
            created_time_ns=now_ns,
            updated_time_ns=now_ns,
        )

    def _halted(self, symbol: str) -> Denial | None:
        account = self._account
        halt = account.find_halt(account.account, account.record.venue, symbol)
        return (
            None
            if halt is None
            else Denial(reason="HALTED", text=f"halted by {halt.by}: {halt.why}")
        )

    def _deny(
        self,
        new: NewOrder,
        order: Order,
        about: VenueAccount,
        reference_px: Decimal | None,
        *,
        is_price_judged: bool = True,
    ) -> Denial | None:
        account = self._account
        denial = self._halted(new.symbol)
        if denial is None:
            denial = account.plugins.check_order(order, about)
        if denial is not None:
            return denial
        # Last, because it takes what it grants. Nothing suspends between here and the journal.
        return account.limits.reserve(
            new,
            open_orders=len(account.book) + len(self._storing),
            reference_px=reference_px,
            now_ns=account.clock.time_ns(),
            is_price_judged=is_price_judged,
        )

    async def _store_denied(self, order: Order, claim: Claim, denial: Denial) -> Order | KeyTaken:
        self._account.meter.refused(self._account.account, denial.reason)
        report = ExecutionReport(
            exec_type=ExecType.REJECTED,
            command=CommandKind.NEW,
            reason=clean(denial.reason),
            text=clean(denial.text),
            evidence=Evidence(kind=EvidenceKind.NOT_SENT, detail="refused before sending"),
            received_time_ns=self._account.clock.time_ns(),
        )
        context = REQUEST.get()
        _, events = apply(order, report)
        stamped = tuple(
            replace(e, request_id=context.request_id, trace_id=context.trace_id) for e in events
        )
        return await self._append_new(order, stamped, claim, None)

    async def _store_intent(
        self, order: Order, claim: Claim, request: VenueRequest
    ) -> Order | KeyTaken:
        context = REQUEST.get()
        _, events = record_intent(order, request_id=context.request_id, trace_id=context.trace_id)
        ref = self._first_ref(order, request)
        account = self._account
        account.unsent.add(order.order_id)
        try:
            stored = await self._append_new(order, events, claim, ref)
        except BaseException:
            account.unsent.discard(order.order_id)
            raise
        if isinstance(stored, KeyTaken):
            account.unsent.discard(order.order_id)
        elif order.order_id in account.unsent:
            account.book.put_ref(ref)
            account.book.put(stored)
            account.identities[stored.order_id] = account.identity
        return stored

    def _first_ref(self, order: Order, request: VenueRequest) -> VenueOrderRef:
        assert order.venue_client_order_id is not None
        valid_until_ns, valid_until_height = _valid_until(request)
        return VenueOrderRef(
            order_id=order.order_id,
            generation=0,
            venue_client_order_id=order.venue_client_order_id,
            order_qty=order.order_qty,
            valid_until_ns=valid_until_ns,
            valid_until_height=valid_until_height,
            digest=request.digest,
        )

    async def _append_new(
        self,
        order: Order,
        events: tuple[OrderEvent, ...],
        claim: Claim,
        ref: VenueOrderRef | None,
    ) -> Order | KeyTaken:
        account = self._account
        entry = Entry(
            account_id=account.record.account_id,
            events=events,
            claim=replace(claim, order_id=order.order_id, created_time_ns=order.created_time_ns),
            is_new_order=True,
            ref=ref,
        )
        try:
            result = await account.put(entry)
        except CommitUnknown as e:
            # Whether it is stored decides what the caller may be told; so the caller waits.
            known = await self._after_recovery(order.order_id)
            if known is None:
                raise Unavailable(str(e), reason=e.reason) from e
            return known
        except StoreError as e:
            raise Unavailable(str(e), reason=e.reason) from e
        if isinstance(result, KeyTaken):
            return result
        assert not isinstance(result, Replayed), "a new order has no fills"
        stored = result.events[-1].order
        assert stored is not None
        return stored

    async def _send_new(self, order: Order, request: VenueRequest, permit: Permit) -> Order:
        account = self._account
        order_id = order.order_id
        reach(CrashPoint.JOURNALED_UNSENT)
        if account.failed.is_set():
            # Another order's commit failed in the meantime: nothing is sent until the store was read.
            await account.recovered.wait()
        if order_id not in account.unsent:
            # `load` was here, and closed it as never sent.
            return await self._after_recovery(order_id) or order
        account.unsent.discard(order_id)
        if account.clock.time_ns() > order.send_by_ns:
            return await account.commit(order_id, account.not_sent("its time to send had passed"))
        halted = self._halted(order.symbol)
        if halted is not None:
            # Since it was checked: not a byte leaves after a halt.
            return await account.commit(
                order_id, account.not_sent(halted.text, reason=halted.reason)
            )
        return await self._send(order_id, CommandKind.NEW, request, permit)

    # --- cancelling and replacing ---------------------------------------------------------------

    async def cancel(self, order_id: OrderId, claim: Claim) -> Order | KeyTaken:
        """Ask the venue to cancel an open order; waits for the answer of its placement first.

        Raises:
            Conflict: The order is closed.
            Unavailable: The venue has not been reached, or the store is away.
        """
        account = self._account
        if account.book.find(order_id) is not None:
            account.cancels_asked.add(order_id)
        # The venue would not know an order that is still on its way.
        await self._settled(order_id, CommandKind.NEW)
        key = (order_id, CommandKind.CANCEL)
        while (same := account.in_flight.get(key)) is not None:
            await same.wait()
            if account.book.find(order_id) is None:
                return await self._claim_closed(order_id, claim)
        # From here on, so that another cancel waits for this one's look at the store as well.
        done = account.in_flight[key] = asyncio.Event()
        permit = FREE
        try:
            self._commanding()
            order = self._open_order(order_id)
            permit = await account.guard.enter(Operation.CANCEL, order.symbol, Rank.CANCEL)
            venue = self._commanding()
            order = self._open_order(order_id)
            request = self._translate_command(venue, Cancel(order=order), order)
            permit.charge(request.cost)
            earlier = await self._ask(
                order_id,
                CommandKind.CANCEL,
                claim,
                request,
                lambda order: ask_cancel(
                    order,
                    time_ns=account.clock.time_ns(),
                    request_id=REQUEST.get().request_id,
                    trace_id=REQUEST.get().trace_id,
                ),
            )
            if earlier is not None:
                return earlier
            reach(CrashPoint.COMMAND_JOURNALED_UNSENT)
            return await self._send(order_id, CommandKind.CANCEL, request, permit)
        finally:
            permit.close()
            done.set()
            if account.in_flight.get(key) is done:
                del account.in_flight[key]

    async def _claim_closed(self, order_id: OrderId, claim: Claim) -> Order | KeyTaken:
        """Keep the key of a cancel that another cancel made needless."""
        account = self._account
        taken = await account.store.put_claim(
            replace(claim, order_id=order_id, created_time_ns=account.clock.time_ns())
        )
        if taken is not None:
            return taken
        order = await account.store.find_order(order_id)
        assert order is not None
        return order

    async def replace(
        self, order_id: OrderId, terms: ReplaceTerms, claim: Claim
    ) -> Order | KeyTaken:
        """Ask the venue for other terms of an open order.

        Raises:
            UnsupportedOrder: The venue cannot replace.
            Conflict: The order is closed, or another command is pending.
            InvalidOrder: The terms do not fit.
            Unavailable: Not now.
        """
        account = self._account
        venue = account.admit()
        await self._settled(order_id, CommandKind.NEW)
        order = self._open_order(order_id)
        self._check_replaceable(order, venue, terms)
        replaced = _replaced(order, terms)
        check_grid(
            self._instrument(order.symbol),
            order_qty=replaced.order_qty,
            price=replaced.price,
            trigger_price=replaced.trigger_price,
        )
        halt = account.find_halt(account.account, account.record.venue, order.symbol)
        if halt is not None:
            raise Unavailable(f"halted by {halt.by}: {halt.why}", reason="HALTED")
        reference_px = None
        if account.limits.needs_reference_price(replaced):
            reference_px = await self._reference_price(venue, order.symbol)
            venue = account.admit()
        denial = account.limits.judge_price(replaced, reference_px)
        if denial is not None:
            raise InvalidOrder(denial.text, reason=denial.reason)
        permit = account.guard.try_enter(Operation.REPLACE, order.symbol)
        if permit is None:
            permit = await account.guard.enter(Operation.REPLACE, order.symbol)
        try:
            return await self._replace(order_id, terms, claim, permit)
        finally:
            permit.close()

    async def _replace(
        self, order_id: OrderId, terms: ReplaceTerms, claim: Claim, permit: Permit
    ) -> Order | KeyTaken:
        account = self._account
        venue = account.admit()
        order = self._open_order(order_id)
        request = self._translate_command(venue, Replace(order=order, terms=terms), order)
        permit.charge(request.cost)
        earlier = await self._ask(
            order_id,
            CommandKind.REPLACE,
            claim,
            request,
            lambda order: ask_replace(
                order,
                terms,
                time_ns=account.clock.time_ns(),
                request_id=REQUEST.get().request_id,
                trace_id=REQUEST.get().trace_id,
            ),
            terms=terms,
            check=lambda order: self._check_replaceable(order, venue, terms),
        )
        if earlier is not None:
            return earlier
        reach(CrashPoint.COMMAND_JOURNALED_UNSENT)
        return await self._send(order_id, CommandKind.REPLACE, request, permit)

    def _check_replaceable(self, order: Order, venue: AccountPlugins, terms: ReplaceTerms) -> None:
        if venue.account.capabilities.replace not in CAN_REPLACE:
            raise UnsupportedOrder(f"venue {self._account.record.venue} cannot replace an order")
        if order.pending is not None:
            raise Conflict(
                f"order {order.order_id} waits for its {order.pending}", reason="COMMAND_PENDING"
            )
        check_replace(order, terms)

    async def _ask(
        self,
        order_id: OrderId,
        command: CommandKind,
        claim: Claim,
        request: VenueRequest,
        change: Callable[[Order], Outcome],
        *,
        terms: ReplaceTerms | None = None,
        check: Callable[[Order], None] | None = None,
    ) -> KeyTaken | Order | None:
        """Store that the venue is to be asked. None: it is to be sent now; else what to answer."""
        account = self._account
        earlier = await account.store.find_claim(claim.scope, claim.idempotency_key)
        if earlier is not None:
            return KeyTaken(claim=earlier)
        # The look-up took a moment: the order may be another one now.
        order = self._open_order(order_id)
        if check is not None:
            check(order)
        try:
            await account.commit(
                order_id,
                change,
                claim=replace(claim, order_id=order_id, created_time_ns=account.clock.time_ns()),
                ref=self._commanded_ref(order, request, command, terms),
            )
        except Unavailable:
            await account.recovered.wait()
            if await account.store.find_claim(claim.scope, claim.idempotency_key) is None:
                raise
            # It is stored after all, key and all, and was not sent: so it is answered.
            unsent = NotSent("the store failed before it was sent")
            return await account.commit(order_id, self._refused(command, unsent))
        return None

    def _commanded_ref(
        self,
        order: Order,
        request: VenueRequest,
        command: CommandKind = CommandKind.CANCEL,
        terms: ReplaceTerms | None = None,
    ) -> VenueOrderRef:
        """Return the order's incarnation with the validity of the command that goes to it."""
        account = self._account
        ref = account.book.ref(order.order_id)
        assert ref is not None
        assert account.about is not None
        return commanded(
            ref,
            order,
            command,
            account.about.capabilities.replace,
            terms,
            valid_until=_valid_until(request),
            digest=request.digest,
        )

    async def _settled(self, order_id: OrderId, command: CommandKind) -> None:
        under_way = self._account.in_flight.get((order_id, command))
        if under_way is not None:
            await under_way.wait()

    def _commanding(self) -> AccountPlugins:
        account = self._account
        if account.venue is None or account.state in (AccountState.STARTING, AccountState.STOPPED):
            raise account.unavailable()
        return account.venue

    def _open_order(self, order_id: OrderId) -> Order:
        order = self._account.book.find(order_id)
        if order is None or not order.is_open:
            raise Conflict(f"order {order_id} is closed", reason="ORDER_CLOSED")
        return order

    def _translate_command(
        self, venue: AccountPlugins, command: Command, order: Order
    ) -> VenueRequest:
        account = self._account
        ref = account.book.ref(order.order_id)
        # An order that has waited here has no incarnation yet; it will be known by its own name.
        name = order.venue_client_order_id if ref is None else ref.venue_client_order_id
        now = account.venue_now()
        return _translate(
            venue,
            command,
            TranslateContext(
                instrument=self._instrument(order.symbol),
                now=now,
                venue_client_order_ids=() if name is None else (name,),
                placed_until=() if ref is None else (_placed_until(ref),),
                nonce=account.next_nonce(now),
            ),
        )

    # --- sending --------------------------------------------------------------------------------

    async def _send(
        self,
        order_id: OrderId,
        command: CommandKind,
        request: VenueRequest,
        permit: Permit = FREE,
    ) -> Order:
        """Send a stored request, and store what came of it, whatever happens."""
        try:
            order = await self._send_once(order_id, command, request, permit)
        except Unavailable:
            # What came of it could not be stored. The order is: once the store is back, it is the
            # answer, in doubt until the resolver has asked.
            known = await self._after_recovery(order_id)
            assert known is not None, f"order {order_id} was stored before it was sent"
            return known
        reach(CrashPoint.APPLIED_UNTOLD)
        return order

    async def _after_recovery(self, order_id: OrderId) -> Order | None:
        """Wait until the store was read again, and return the order as it is stored."""
        account = self._account
        while True:
            await account.recovered.wait()
            try:
                return await account.store.find_order(order_id)
            except StoreError as e:
                account.fail(e)

    async def _send_once(
        self, order_id: OrderId, command: CommandKind, request: VenueRequest, permit: Permit
    ) -> Order:
        account = self._account
        key = (order_id, command)
        done = account.in_flight.setdefault(key, asyncio.Event())
        try:
            try:
                reports = await self._execute(command, request, permit)
            except (VenueRejected, RateLimited, NotSent) as e:
                reach(CrashPoint.REFUSED_UNJOURNALED)
                return await self._apply_refusal(order_id, command, e)
            except Exception as e:  # noqa: BLE001  Silence is not refusal, and neither is a surprise.
                if command is CommandKind.NEW:
                    account.repeatable[order_id] = request
                return await account.doubt(order_id, command, f"{type(e).__name__}: {e}")
            except asyncio.CancelledError:
                return await self._on_cancelled(order_id, command)
            reach(CrashPoint.ANSWERED_UNJOURNALED)
            if not reports:
                return await account.doubt(order_id, command, "the venue's answer held no report")
            return await self._apply_answer(order_id, command, reports)
        finally:
            done.set()
            if account.in_flight.get(key) is done:
                del account.in_flight[key]

    async def _on_cancelled(self, order_id: OrderId, command: CommandKind) -> Order:
        """Answer with an order in doubt: its request may be on its way."""
        task = asyncio.current_task()
        is_ours = task is not None and task.cancelling() > 0
        why = "the gateway shut down" if is_ours else "the plugin cancelled its own call"
        try:
            # Nothing is left to do for this task but this, so it may end as if it had not been cancelled.
            return await self._account.doubt(order_id, command, f"{why} before the answer")
        except Unavailable as e:
            if is_ours:
                # Nobody waits for the store now. The next start finds the order unanswered.
                raise asyncio.CancelledError from e
            raise

    async def _apply_refusal(
        self, order_id: OrderId, command: CommandKind, error: VenueError
    ) -> Order:
        account = self._account
        order = account.book.find(order_id)
        if command is CommandKind.NEW and order is not None and order.acknowledged:
            # The stream has shown it: such a refusal is of a repetition, and must not lose the order.
            return await account.lose_sight(
                order_id, f"refused ({error.reason}: {error}), though the venue holds it"
            )
        stood = await account.commit(order_id, self._refused(command, error))
        if stood.is_open and isinstance(error, VenueRejected):
            # "No such order" may mean that it has filled, and that the stream has not told us yet.
            account.to_ask.add(order_id)
            account.wake_resolver.set()
        return stood

    async def _apply_answer(
        self, order_id: OrderId, command: CommandKind, reports: Sequence[ExecutionReport]
    ) -> Order:
        account = self._account
        own: list[ExecutionReport] = []
        others: list[ExecutionReport] = []
        try:
            for report in map(account.received, reports):
                (own if self._is_about(order_id, report) else others).append(report)
            order = await account.apply_received(order_id, own)
        except (ValueError, TypeError) as e:
            return await account.doubt(order_id, command, f"the venue's answer is unreadable: {e}")
        for report in others:
            try:
                await account.on_report(report)
            except ValueError as e:
                log.error("ALARM account %s: unreadable report: %s", account.account, e)
        return order

    def _is_about(self, order_id: OrderId, report: ExecutionReport) -> bool:
        """Whether a report in an answer is about the order that was asked for.

        One without our name for an order is, unless the venue's name says otherwise. One with another name
        is not, known or not: a taker's answer may hold the fills of a resting order of ours.
        """
        if report.venue_client_order_id is not None:
            ref = self._account.book.ref(order_id)
            return ref is None or report.venue_client_order_id == ref.venue_client_order_id
        return self._account.book.match(report) in (order_id, None)

    async def _execute(
        self, command: CommandKind, request: VenueRequest, permit: Permit
    ) -> Sequence[ExecutionReport]:
        account = self._account
        assert account.venue is not None
        until = request.valid_until
        if until is not None and _has_passed(until, account.venue_now()):
            raise NotSent("the request's validity ended before it could be sent")
        started_ns = account.clock.monotonic_ns()
        outcome = "unknown"
        guard = account.guard
        permit.sending()
        deadline = asyncio.timeout(account.settings.execute_timeout_s)
        try:
            async with deadline:
                answer = account.venue.execute(request)
                if is_armed(CrashPoint.SENT_UNANSWERED):
                    answer = await _started(answer)
                    reach(CrashPoint.SENT_UNANSWERED)
                reports = await answer
            outcome = "accepted"
            guard.on_answer()
        except TimeoutError as e:
            guard.on_error(e)
            if not deadline.expired():
                raise
            raise OutcomeUnknown(f"no answer within {account.settings.execute_timeout_s} s") from e
        except (VenueRejected, RateLimited, NotSent) as e:
            guard.on_error(e)
            if isinstance(e, NotSent):
                permit.not_sent()
            outcome = e.reason.lower() if isinstance(e, NotSent) else type(e).__name__.lower()
            raise
        except Exception as e:
            guard.on_error(e)
            raise
        finally:
            # The answer's place is free for the next before what it says is stored.
            permit.close()
            seconds = (account.clock.monotonic_ns() - started_ns) / NS_PER_S
            account.meter.venue_call(account.record.venue, command.value, outcome, seconds)
        return reports

    def _refused(self, command: CommandKind, error: VenueError) -> Callable[[Order], Outcome]:
        is_unsent = isinstance(error, NotSent)
        reason = (
            "NEVER_REACHED_VENUE"
            if is_unsent and command is CommandKind.NEW
            else clean(error.reason)
        )
        report = ExecutionReport(
            exec_type=_REFUSALS[command],
            command=command,
            reason=reason,
            text=clean(str(error)),
            evidence=Evidence(
                kind=EvidenceKind.NOT_SENT if is_unsent else EvidenceKind.VENUE_REPORT,
                detail=clean(str(error)),
            ),
            received_time_ns=self._account.clock.time_ns(),
        )
        context = REQUEST.get()

        def change(order: Order) -> Outcome:
            after, events = apply(order, report)
            return after, tuple(
                replace(e, request_id=context.request_id, trace_id=context.trace_id) for e in events
            )

        return change

    # --- what checks need -----------------------------------------------------------------------

    def _instrument(self, symbol: str) -> Instrument:
        account = self._account
        instrument = account.instruments.get(symbol)
        if instrument is None:
            known = ", ".join(sorted(account.instruments)[:20]) or "none"
            raise InvalidOrder(
                f"venue {account.record.venue} has no symbol {symbol!r}; it has {known}",
                reason="UNKNOWN_SYMBOL",
            )
        return instrument

    def _held_price(self, symbol: str) -> Decimal | None:
        held = self._reference.get(symbol)
        return held[0] if held is not None and held[1] >= self._oldest_ns() else None

    def _oldest_ns(self) -> int:
        account = self._account
        return account.clock.time_ns() - int(account.settings.reference_max_age_s * NS_PER_S)

    async def _reference_price(self, venue: AccountPlugins, symbol: str) -> Decimal | None:
        """Return a price that is fresh enough to judge by, or None."""
        account = self._account
        held = self._held_price(symbol)
        if held is not None:
            return held
        oldest_ns = self._oldest_ns()
        try:
            async with asyncio.timeout(account.settings.execute_timeout_s):
                page = await venue.fetch(FetchReferencePrice(symbol=symbol))
            for price in page.items:
                time_ns = price.time_ns - account.venue_offset_ns
                px = check_decimal(price.px, "px")
                if price.symbol == symbol and px > ZERO and time_ns >= oldest_ns:
                    self._reference[symbol] = (px, time_ns)
                    return px
        except Exception as e:  # noqa: BLE001  Whatever it is: there is no price, and the limit refuses.
            log.warning("account %s: no reference price of %s: %r", account.account, symbol, e)
        return None


def _translate(venue: AccountPlugins, command: Command, context: TranslateContext) -> VenueRequest:
    """Translate, and tell a plugin's refusal from its mistakes. Nothing has been stored.

    Raises:
        InvalidOrder: The venue cannot do this.
        PluginError: The plugin failed.
    """
    try:
        request: Any = venue.translate(command, context)
    except TradegwError:
        raise
    except Exception as e:
        raise PluginError(
            f"plugin {venue.account.plugin} failed to translate: {type(e).__name__}: {e}"
        ) from e
    if not isinstance(request, VenueRequest):
        raise PluginError(
            f"plugin {venue.account.plugin} translated to {type(request).__name__}, not VenueRequest"
        )
    return request


def _replaced(order: Order, terms: ReplaceTerms) -> NewOrder:
    """Return what an order asks for once it has other terms, for the rules that judge requests."""
    return NewOrder(
        account=order.account,
        symbol=order.symbol,
        side=order.side,
        ord_type=order.ord_type,
        order_qty=order.order_qty if terms.order_qty is None else terms.order_qty,
        price=order.price if terms.price is None else terms.price,
        trigger_price=order.trigger_price if terms.trigger_price is None else terms.trigger_price,
    )


def _has_passed(until: VenueTime, now: VenueTime) -> bool:
    if until.height is not None:
        return now.height is not None and now.height >= until.height
    return now.time_ns >= until.time_ns


def _placed_until(ref: VenueOrderRef) -> VenueTime | None:
    if ref.valid_until_height is not None:
        return VenueTime(time_ns=ref.valid_until_ns or 0, height=ref.valid_until_height)
    return None if ref.valid_until_ns is None else VenueTime(time_ns=ref.valid_until_ns)


def _valid_until(request: VenueRequest) -> tuple[int | None, int | None]:
    until = request.valid_until
    if until is None:
        return None, None
    return (None, until.height) if until.height is not None else (until.time_ns, None)


async def _started(awaitable: Awaitable[T]) -> Awaitable[T]:
    """Let an awaitable run to its first wait, so that its bytes have left. For armed crash points."""

    async def wait() -> T:
        return await awaitable

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    return task
