"""Takes new orders of one account: checks them, stores them, and has them sent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from uuid import uuid4

from tradegw.engine.account import NS_PER_S, Account
from tradegw.engine.commanding import CommandingDesk
from tradegw.engine.context import REQUEST
from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.guard import FREE, Permit
from tradegw.engine.intake import clean
from tradegw.engine.translating import translate, valid_until
from tradegw.engine.validate import check_capabilities, check_grid
from tradegw.errors import CommitUnknown, StoreError, Unavailable
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
    VenueClientOrderId,
)
from tradegw.model.lifecycle import apply, record_intent
from tradegw.model.numbers import ZERO
from tradegw.ports import Claim, Entry, KeyTaken, Replayed, VenueOrderRef
from tradegw.venue import (
    Operation,
    Submit,
    TranslateContext,
    VenueAccount,
    VenueRequest,
)

__all__ = ["Desk"]

_TURNS_MAX = 3
"""How often an order takes its turn with a price that has grown old meanwhile."""


class Desk(CommandingDesk):
    """New orders of one account, and commands to them."""

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._storing: set[OrderId] = set()
        self._stored = asyncio.Event()

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
            reference_px = await self._prices.fetch(venue, new.symbol)
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
                held = self._prices.held(new.symbol)
                if held is not None:
                    return permit, held
            except BaseException:
                permit.close()
                raise
            # Not while holding a place that a cancel may wait for.
            permit.close()
            await self._prices.fetch(venue, new.symbol)
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
        request = translate(
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
        valid_until_ns, valid_until_height = valid_until(request)
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
