"""Takes cancels and replaces of one account: checks them, stores them, and has them sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from tradegw.engine.account import Account, AccountState
from tradegw.engine.context import REQUEST
from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.guard import FREE, Permit, Rank
from tradegw.engine.prices import ReferencePrices
from tradegw.engine.replacing import CAN_REPLACE, commanded
from tradegw.engine.sending import SendingDesk
from tradegw.engine.translating import placed_until, translate, valid_until
from tradegw.engine.validate import check_grid, check_replace
from tradegw.errors import (
    Conflict,
    InvalidOrder,
    NotSent,
    Unavailable,
    UnsupportedOrder,
)
from tradegw.model import (
    CommandKind,
    Instrument,
    NewOrder,
    Order,
    OrderId,
    ReplaceTerms,
)
from tradegw.model.lifecycle import Outcome, ask_cancel, ask_replace
from tradegw.plugins import AccountPlugins
from tradegw.ports import Claim, KeyTaken, VenueOrderRef
from tradegw.venue import (
    Cancel,
    Command,
    Operation,
    Replace,
    TranslateContext,
    VenueRequest,
)

__all__ = ["CommandingDesk"]


class CommandingDesk(SendingDesk):
    """Commands to orders that are open."""

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._prices = ReferencePrices(account)

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
            earlier = await self._find_key(claim)
            if earlier is not None:
                return earlier
            venue = self._commanding()
            order = self._open_order(order_id)
            request = self._translate_command(venue, Cancel(order=order), order)
            permit.charge(request.cost)
            answered = await self._ask(
                order,
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
            if answered is not None:
                return answered
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
        """Ask the venue for other terms of an open order; waits for the answers of what was asked before.

        Raises:
            UnsupportedOrder: The venue cannot replace.
            Conflict: The order is closed, or another command is pending.
            InvalidOrder: The terms do not fit.
            Unavailable: Not now.
        """
        account = self._account
        venue = account.admit()
        await self._settled(order_id, CommandKind.NEW)
        # The stream may have told of the replace before, and its answer still be on its way: were it taken
        # for an answer to this one, or applied after it, the record would hold the old terms.
        await self._settled(order_id, CommandKind.REPLACE)
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
            reference_px = await self._prices.fetch(venue, order.symbol)
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
        earlier = await self._find_key(claim)
        if earlier is not None:
            return earlier
        # The look-up took a moment: the order may be another one now.
        venue = account.admit()
        order = self._open_order(order_id)
        self._check_replaceable(order, venue, terms)
        request = self._translate_command(venue, Replace(order=order, terms=terms), order)
        permit.charge(request.cost)
        answered = await self._ask(
            order,
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
        )
        if answered is not None:
            return answered
        reach(CrashPoint.COMMAND_JOURNALED_UNSENT)
        return await self._send(order_id, CommandKind.REPLACE, request, permit)

    def _check_replaceable(self, order: Order, venue: AccountPlugins, terms: ReplaceTerms) -> None:
        if venue.account.capabilities.replace not in CAN_REPLACE:
            raise UnsupportedOrder(f"venue {self._account.record.venue} cannot replace an order")
        pending = order.pending
        if pending is None and (order.order_id, CommandKind.REPLACE) in self._account.in_flight:
            pending = CommandKind.REPLACE
        if pending is not None:
            raise Conflict(
                f"order {order.order_id} waits for its {pending}", reason="COMMAND_PENDING"
            )
        check_replace(order, terms)

    async def _find_key(self, claim: Claim) -> KeyTaken | None:
        earlier = await self._account.store.find_claim(claim.scope, claim.idempotency_key)
        return None if earlier is None else KeyTaken(claim=earlier)

    async def _ask(
        self,
        order: Order,
        command: CommandKind,
        claim: Claim,
        request: VenueRequest,
        change: Callable[[Order], Outcome],
        *,
        terms: ReplaceTerms | None = None,
    ) -> Order | None:
        """Store that the venue is to be asked. None: it is to be sent now; else what to answer.

        The request is what was made of the order as it stands, and nobody else may come in between: a cancel
        made of an order that was replaced since is one that its venue may pass over in silence.
        """
        account, order_id = self._account, order.order_id
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
            valid_until=valid_until(request),
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
        return translate(
            venue,
            command,
            TranslateContext(
                instrument=self._instrument(order.symbol),
                now=now,
                venue_client_order_ids=() if name is None else (name,),
                placed_until=() if ref is None else (placed_until(ref),),
                nonce=account.next_nonce(now),
            ),
        )

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
