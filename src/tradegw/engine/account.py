"""One account's record: its open orders, and the one way to change them.

Every change of an order passes through `commit`: it is decided on the order as last decided, and stored in
that order. `commit` never suspends between deciding and handing the entry to the store, so the store's
order is the order of the decisions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, TypeVar

from tradegw.engine.absence import LOST, Identity, Observation
from tradegw.engine.book import Book
from tradegw.engine.context import REQUEST
from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.guard import AccountGuard
from tradegw.engine.intake import check_report, clean
from tradegw.engine.limits import LimitBook, Limits
from tradegw.engine.reset import lose_venue, was_lost
from tradegw.engine.terms import Asked
from tradegw.engine.unmatched import UNMATCHED_MAX, Unmatched
from tradegw.engine.venue_names import Nonces, VenueNames
from tradegw.errors import DuplicateClientOrderId, StoreError, StoreUnavailable, Unavailable
from tradegw.model import (
    AccountName,
    Balance,
    CommandKind,
    EventType,
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    Fill,
    Halt,
    Instrument,
    Order,
    OrderEvent,
    OrderId,
    Origin,
    Position,
)
from tradegw.model.copying import copier
from tradegw.model.lifecycle import Outcome, apply, is_missing_fills, put_in_doubt
from tradegw.model.strangers import attach
from tradegw.plugins import AccountPlugins, Plugins
from tradegw.ports import (
    AccountRecord,
    Claim,
    Clock,
    Entry,
    Head,
    KeyTaken,
    Known,
    Replayed,
    Store,
    Stored,
    VenueOrderRef,
)
from tradegw.venue import VenueAccount, VenueRequest, VenueTime

__all__ = ["NS_PER_S", "Account", "AccountSettings", "AccountState", "Meter", "identity_of"]

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
ResultT = TypeVar("ResultT")


class Meter(Protocol):
    """Told how long things took."""

    def venue_call(self, venue: str, operation: str, outcome: str, seconds: float) -> None:
        """Count one call of a venue."""
        ...

    def store_append(self, outcome: str, seconds: float) -> None:
        """Count one entry: from handing it over until it is durable, or not."""
        ...

    def refused(self, account: str, reason: str) -> None:
        """Count one order that was refused here, before anything left."""
        ...


class AccountState(StrEnum):
    """Whether an account takes new orders; only `READY` does."""

    STARTING = "STARTING"
    """Its venue has not been reached yet."""
    RECONCILING = "RECONCILING"
    """The venue is being asked about every open order."""
    READY = "READY"
    STOPPED = "STOPPED"
    """The store failed; what was remembered is dropped and read anew."""
    CLOSING = "CLOSING"
    """The gateway shuts down: cancels only."""


_UNAVAILABLE = {
    AccountState.STARTING: "VENUE_UNAVAILABLE",
    AccountState.RECONCILING: "RECONCILING",
    AccountState.READY: "UNAVAILABLE",
    AccountState.STOPPED: "STORE_UNAVAILABLE",
    AccountState.CLOSING: "SHUTTING_DOWN",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """What the configuration says of one account.

    Attributes:
        tag: The 8 hex digits that mark our orders at the venue.
        execute_timeout_s: How long the venue's answer is awaited before the order is in doubt.
        send_by_s: After its intent, an order is sent within this time or not at all. A command waits no
            longer for its turn.
        reference_max_age_s: How old a price may be for a limit to be judged by it.
        dead_man_s: Have the venue cancel all orders of the account when it has not heard from us for so long.
            Only for an account that nobody else trades on.
        fill_wait_s: How long a fill that the venue counts is waited for before it is inferred.
    """

    tag: str
    limits: Limits = field(default_factory=Limits)
    execute_timeout_s: float = 10.0
    send_by_s: float = 10.0
    reference_max_age_s: float = 5.0
    dead_man_s: float | None = None
    fill_wait_s: float = 30.0


class Account:
    """The record of one account. All methods are called on the gateway's loop."""

    def __init__(
        self,
        record: AccountRecord,
        settings: AccountSettings,
        *,
        store: Store,
        clock: Clock,
        plugins: Plugins,
        find_halt: Callable[[AccountName, str, str], Halt | None],
        on_head: Callable[[AccountName, Head], None],
        meter: Meter,
        guard: AccountGuard,
        nonces: Nonces,
    ) -> None:
        """Make an account that remembers nothing until `load`.

        Args:
            guard: Stands between the account and its venue.
            find_halt: Returns the halt that forbids (account, venue, symbol), if there is one.
            on_head: Told where the account's stream ends whenever the store was read.
        """
        self.record = record
        self.settings = settings
        self.store = store
        self.clock = clock
        self.plugins = plugins
        self.find_halt = find_halt
        self._on_head = on_head
        self.meter = meter
        self.guard = guard
        self.names = VenueNames(record.account_id, record.account, settings.tag, store, clock)
        self._nonces = nonces
        self.book = Book()
        self.limits = LimitBook(settings.limits)
        self.state = AccountState.STARTING
        self.why = "the venue has not been reached yet"
        self.venue: AccountPlugins | None = None
        self.about: VenueAccount | None = None
        """What the venue was when it was last open."""
        self.venue_offset_ns = 0
        self.instruments: dict[str, Instrument] = {}
        self.balances: dict[str, Balance] = {}
        self.positions: dict[str, Position] = {}
        self.unexplained: Mapping[str, Decimal] = {}
        """What the venue's positions hold beyond what the fills explain, by symbol; see `positions`."""
        self.unsent: set[OrderId] = set()
        """Intents handed to the store whose sending has not begun."""
        self.in_flight: dict[tuple[OrderId, CommandKind], asyncio.Event] = {}
        """Commands on their way to the venue; the event is set when the answer is dealt with."""
        self.identity = identity_of(record)
        """Who answers now, or did before the last gap."""
        self.is_identified = False
        """Whether the stream has said since then that it is they: "not found" proves nothing before."""
        self.identities: dict[OrderId, Identity] = {}
        """Who was asked to place each open order. Between processes the account's binding keeps it: an
        account never goes from one venue account, host or environment to another."""
        self.observations: dict[OrderId, tuple[Observation, ...]] = {}
        self._marked: set[str] = set()
        self.to_ask: set[OrderId] = set()
        """Open orders of which the venue knows more than we, though none of their commands is in doubt."""
        self.unmatched = Unmatched()
        self.touched: dict[str, int] = {}
        """Symbols of orders that closed lately, and when by the venue's clock; their fills are read again."""
        self.repeatable: dict[OrderId, VenueRequest] = {}
        """Placements in doubt that may be sent once more; see `resending`. Of this process alone."""
        self.cancels_asked: set[OrderId] = set()
        """Open orders that someone wanted cancelled, whatever became of it."""
        self.stopped_sending_ns = 0
        """Placements in doubt that were made up to then, by our clock, are not sent once more."""
        self.wake_resolver = asyncio.Event()
        self.wake_reconciler = asyncio.Event()
        self.wake_queue = asyncio.Event()
        self.state_changed = asyncio.Event()
        self.recovered = asyncio.Event()
        self.failed = asyncio.Event()
        self._storing: dict[OrderId, asyncio.Future[None]] = {}
        self._appending = 0
        self._quiet = asyncio.Event()
        # Reports of closed orders are read, applied and stored one at a time: nothing of a closed order is
        # in memory that a second report could be decided on.
        self._closed_lock = asyncio.Lock()

    @property
    def account(self) -> AccountName:
        """The account's name."""
        return self.record.account

    # --- state --------------------------------------------------------------------------------

    def set_state(self, state: AccountState, why: str = "") -> None:
        """Move to a state. Closing is for good, and a failed store stays one until it was read."""
        if self.state is AccountState.CLOSING:
            return
        if self.failed.is_set() and state not in (AccountState.STOPPED, AccountState.CLOSING):
            return
        if state is not self.state:
            log.info("account %s is %s: %s", self.account, state, why or "all is well")
        self.state, self.why = state, why
        self.state_changed.set()
        self.wake_queue.set()

    @property
    def is_open(self) -> bool:
        """Whether new orders are taken now."""
        return self.state is AccountState.READY and self.guard.refusal is None

    def admit(self) -> AccountPlugins:
        """Return the venue, if new orders are taken now.

        Raises:
            Unavailable: They are not; reason `RECONCILING`, `STORE_UNAVAILABLE`, `VENUE_UNAVAILABLE`,
                `CLOCK_SKEW` or `SHUTTING_DOWN`.
        """
        if self.state is not AccountState.READY or self.guard.refusal is not None:
            raise self.unavailable()
        assert self.venue is not None
        return self.venue

    def unavailable(self) -> Unavailable:
        """Return the error that says why nothing can be done now."""
        refusal = self.guard.refusal
        if refusal is not None and self.state not in (AccountState.STOPPED, AccountState.CLOSING):
            return Unavailable(str(refusal), reason=refusal.reason)
        return Unavailable(
            f"account {self.account} is {self.state}: {self.why}", reason=_UNAVAILABLE[self.state]
        )

    def venue_now(self) -> VenueTime:
        """Return the venue's time as far as we know it: our clock and the offset last sampled; its height."""
        return VenueTime(
            time_ns=self.clock.time_ns() + self.venue_offset_ns,
            height=None if self.venue is None else self.venue.height,
        )

    def next_nonce(self, now: VenueTime) -> int | None:
        """Return a nonce for a request, if the venue wants any."""
        if self.venue is None or not self.venue.account.capabilities.timestamp_nonces:
            return None
        return self._nonces.next(now.time_ns)

    def wake_all(self) -> None:
        """Have everyone look again who waits for the venue."""
        self.wake_queue.set()
        self.wake_resolver.set()
        self.wake_reconciler.set()

    async def sleep_or(self, seconds: float, woken: asyncio.Event) -> None:
        """Wait by the clock, or until an event is set, whichever is first."""
        waiters = {
            asyncio.ensure_future(self.clock.sleep(seconds)),
            asyncio.ensure_future(woken.wait()),
        }
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()

    # --- changing orders ------------------------------------------------------------------------

    async def commit(
        self,
        order_id: OrderId,
        change: Callable[[Order], Outcome],
        *,
        claim: Claim | None = None,
        ref: VenueOrderRef | None = None,
    ) -> Order:
        """Decide a change of an order on its latest state, and store it.

        Args:
            claim: The key that asked for it; known not to be taken.
            ref: The order's incarnation with what the command changes in it.

        Returns:
            The order as stored; unchanged when the change brought no event.

        Raises:
            Unavailable: The store failed. What was decided is forgotten; it may be stored.
        """
        if self.failed.is_set():
            raise self._store_away()
        order = self.book.find(order_id)
        if order is None:
            return await self._commit_closed(order_id, change, claim)
        after, events = change(order)
        if not events and claim is None:
            return await self._as_stored(order_id)
        self.book.put(after)
        if ref is not None:
            self.book.put_ref(ref)
        writing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._storing[order_id] = writing
        try:
            stored = await self._append(
                Entry(account_id=self.record.account_id, events=events, claim=claim, ref=ref)
            )
        finally:
            if self._storing.get(order_id) is writing:
                del self._storing[order_id]
            writing.set_result(None)
        order = _order_of(stored, after)
        if self.book.find(order_id) is after:
            if order.is_open:
                self.book.put(order)
            else:
                self.forget(order)
        return order

    async def _as_stored(self, order_id: OrderId) -> Order:
        """Return an order as it is stored, once what was decided of it is."""
        while (writing := self._storing.get(order_id)) is not None:
            # It belongs to whoever writes: their waiting is not ours to cancel.
            await asyncio.shield(writing)
        if self.failed.is_set():
            raise self._store_away()
        order = self.book.find(order_id) or await self._read(self.store.find_order(order_id))
        assert order is not None, f"order {order_id} is not stored"
        return order

    async def _commit_closed(
        self, order_id: OrderId, change: Callable[[Order], Outcome], claim: Claim | None
    ) -> Order:
        async with self._closed_lock:
            if self.book.find(order_id) is None:
                known = await self._read(
                    self.store.find_known(self.record.account_id, order_id=order_id)
                )
                assert known is not None, f"order {order_id} is not stored"
                if self.book.find(order_id) is None:
                    return await self._change_closed(known, change, claim)
        return await self.commit(order_id, change, claim=claim)

    async def _change_closed(
        self, known: Known, change: Callable[[Order], Outcome], claim: Claim | None
    ) -> Order:
        after, events = change(known.order)
        if not events and claim is None:
            return known.order
        if after.is_open and after.origin is Origin.GATEWAY:
            # Revived or adopted: from here on it is remembered like any open order.
            for ref in known.refs:
                self.book.put_ref(ref)
            self.book.put(after)
            self.identities[after.order_id] = self.identity
        stored = await self._append(
            Entry(account_id=self.record.account_id, events=events, claim=claim)
        )
        return _order_of(stored, after)

    async def put(self, entry: Entry) -> Stored | KeyTaken | Replayed:
        """Store an entry; if that fails, the account stops until the store was read.

        Raises:
            DuplicateClientOrderId: Nothing was stored, and nothing else is wrong.
            StoreError: As `Store.append`; also for what has no place in the store.
        """
        if self.failed.is_set():
            raise StoreUnavailable(self.why)
        self._appending += 1
        started_ns = self.clock.monotonic_ns()
        outcome = "failed"
        try:
            result = await self.store.append(entry)
            outcome = type(result).__name__.lower()
            return result
        except DuplicateClientOrderId:
            raise
        except StoreError as e:
            self.fail(e)
            raise
        except Exception as e:
            error = StoreUnavailable(f"{type(e).__name__}: {e}")
            self.fail(error)
            raise error from e
        finally:
            self.meter.store_append(outcome, (self.clock.monotonic_ns() - started_ns) / NS_PER_S)
            self._appending -= 1
            if not self._appending:
                self._quiet.set()

    async def _append(self, entry: Entry) -> Stored:
        try:
            result = await self.put(entry)
        except StoreError as e:
            raise Unavailable(f"the change could not be stored: {e}", reason=e.reason) from e
        if isinstance(result, (KeyTaken, Replayed)):
            # Decided on something that the store knows better. Begin anew from what is stored.
            error = StoreUnavailable(f"decided on a state that is not the stored one: {result}")
            self.fail(error)
            raise Unavailable(str(error), reason=error.reason)
        return result

    async def _read(self, reading: Awaitable[ResultT]) -> ResultT:
        """Await a question to the store; if that fails, the account stops until the store was read."""
        try:
            return await reading
        except StoreError as e:
            self.fail(e)
            raise self._store_away() from e

    def _store_away(self) -> Unavailable:
        return Unavailable(
            f"account {self.account} is {self.state}: {self.why}", reason="STORE_UNAVAILABLE"
        )

    def forget(self, order: Order) -> None:
        """Drop what is remembered of a closed order; the store keeps it."""
        self.book.drop(order)
        self.touched[order.symbol] = self.venue_now().time_ns
        self.identities.pop(order.order_id, None)
        self.observations.pop(order.order_id, None)
        self.to_ask.discard(order.order_id)
        self.repeatable.pop(order.order_id, None)
        self.cancels_asked.discard(order.order_id)

    async def mark(self, symbol: str) -> None:
        """Have a watermark from before the first order of a symbol: a start reads the fills of what has one.

        Raises:
            Unavailable: The store failed. Nothing was stored of the order.
        """
        if symbol in self._marked:
            return
        account_id = self.record.account_id
        try:
            if symbol not in await self.store.list_watermarks(account_id):
                await self.store.put_watermark(
                    account_id, symbol, read_until_ns=self.venue_now().time_ns
                )
        except StoreError as e:
            raise Unavailable(str(e), reason=e.reason) from e
        self._marked.add(symbol)

    def stop_repeating(self) -> None:
        """Send no placement once more that was made until now: a halt was asked, or the record read anew."""
        self.stopped_sending_ns = self.clock.time_ns()
        self.repeatable.clear()

    async def doubt(self, order_id: OrderId, command: CommandKind, why: str) -> Order:
        """Record that nobody knows what became of a command, and wake the resolver.

        What the stream has decided faster than the silence was long is not in doubt.
        """
        request = REQUEST.get()

        def change(order: Order) -> Outcome:
            if _is_decided(order, command):
                return order, ()
            return put_in_doubt(
                order,
                command,
                why=clean(why),
                time_ns=self.clock.time_ns(),
                request_id=request.request_id,
                trace_id=request.trace_id,
            )

        reach(CrashPoint.DOUBTED_UNJOURNALED)
        order = await self.commit(order_id, change)
        self.wake_resolver.set()
        return order

    async def lose_sight(self, order_id: OrderId, why: str) -> Order:
        """Record that the venue no longer shows an order that it acknowledged."""
        order = await self.commit(
            order_id,
            lambda order: put_in_doubt(
                order, CommandKind.NEW, why=clean(why), time_ns=self.clock.time_ns()
            ),
        )
        self.wake_resolver.set()
        return order

    async def on_venue_reset(self, why: str) -> None:
        """Put every open order in doubt: another venue than theirs answers from now on.

        Raises:
            Unavailable: The store failed; some may not be marked.
        """
        self.stop_repeating()
        for order in self.book:
            if order.is_open and order.queued_command is not CommandKind.NEW:
                await self.commit(
                    order.order_id,
                    lambda order: lose_venue(order, why=why, time_ns=self.clock.time_ns()),
                )
                self.identities[order.order_id] = LOST
                self.observations.pop(order.order_id, None)

    async def apply_reports(
        self,
        order_id: OrderId,
        reports: Iterable[ExecutionReport],
        *,
        claim: Claim | None = None,
        asked: Asked | None = None,
    ) -> Order:
        """Apply several reports of one order, stored together.

        Args:
            asked: How the order stood when the venue was asked, if these are its answer.

        Raises:
            ValueError: A report is unreadable or contradicts itself; nothing was changed.
        """
        stamped = [self.received(report) for report in reports]
        return await self.apply_received(order_id, stamped, claim=claim, asked=asked)

    async def apply_received(
        self,
        order_id: OrderId,
        stamped: Sequence[ExecutionReport],
        *,
        claim: Claim | None = None,
        asked: Asked | None = None,
    ) -> Order:
        """Do the same for reports that `received` has returned.

        Raises:
            ValueError: A report contradicts itself; nothing was changed.
        """
        request = REQUEST.get()
        # What is about to be stored without an order may be the same fill.
        await self.unmatched.settled()

        def change(order: Order) -> Outcome:
            events: tuple[OrderEvent, ...] = ()
            for told in stamped:
                ref = self.book.ref(order_id)
                report = told if asked is None else asked.current(told, order, ref)
                if report is not None:
                    order, more = self._apply(order, report)
                    events += more
            for fill in self.unmatched.of(order):
                order, more = self._attach(order, fill)
                events += more
            for event in events:
                if event.event_type in _ALARMS:
                    log.error(
                        "ALARM account %s: %s of order %s", self.account, event.event_type, order_id
                    )
            if self.book.find(order_id) is not None and any(
                order.is_open and is_missing_fills(order, report) for report in stamped
            ):
                # Until the resolver has asked: a close that waits for these fills is not told again.
                self.to_ask.add(order_id)
                self.wake_resolver.set()
            if request.request_id:
                events = tuple(
                    _copy_event(e, request_id=request.request_id, trace_id=request.trace_id)
                    for e in events
                )
            return order, events

        return await self.commit(order_id, change, claim=claim)

    def _apply(self, order: Order, report: ExecutionReport) -> Outcome:
        if report.exec_type is ExecType.TRADE and not report.inferred and len(self.unmatched):
            fill = self.unmatched.find(order, report)
            if fill is not None:
                # It is in the stream already, from when nobody knew whose it was.
                return self._attach(order, fill)
        return apply(order, report)

    def _attach(self, order: Order, fill: Fill) -> Outcome:
        reach(CrashPoint.ATTACHED_UNJOURNALED)
        self.unmatched.remove(fill)
        return attach(order, fill, time_ns=self.clock.time_ns())

    async def on_report(self, report: ExecutionReport) -> None:
        """Apply a report from the stream or an answer to whatever order it is about.

        Raises:
            ValueError: It is unreadable or contradicts itself; nothing was changed.
            Unavailable: The store failed; the report is to be applied again once it was read.
        """
        report = self.received(report)
        order_id = self.book.match(report)
        if order_id is None:
            known = await self._read(
                self.store.find_known(
                    self.record.account_id,
                    venue_client_order_id=report.venue_client_order_id,
                    venue_order_id=report.venue_order_id,
                )
            )
            # Its order may have been given a name meanwhile.
            order_id = self.book.match(report)
            if order_id is None and known is None:
                await self._on_stranger(report)
                return
            if order_id is None:
                assert known is not None
                order_id = known.order.order_id
        await self.apply_received(order_id, [report])

    async def _on_stranger(self, report: ExecutionReport) -> None:
        """Keep a fill that matches no order; its quantity enters the stream here, once."""
        if report.exec_type is not ExecType.TRADE:
            log.debug("account %s: a report of an order not ours: %r", self.account, report)
            return
        if (
            report.trade_id is None
            or report.last_qty is None
            or report.last_px is None
            or report.symbol is None
            or report.side is None
        ):
            raise ValueError(f"a fill needs trade_id, symbol, side, quantity and price: {report!r}")
        fill = Fill(
            trade_id=report.trade_id,
            account=self.account,
            venue=self.record.venue,
            symbol=report.symbol,
            side=report.side,
            last_qty=report.last_qty,
            last_px=report.last_px,
            venue_order_id=report.venue_order_id,
            fee=report.fee,
            fee_asset=report.fee_asset,
            liquidity=report.liquidity,
            transact_time_ns=report.transact_time_ns,
            received_time_ns=report.received_time_ns,
        )
        event = OrderEvent(
            event_type=EventType.UNMATCHED_FILL,
            account=self.account,
            time_ns=report.received_time_ns,
            fill=fill,
            evidence=Evidence(kind=EvidenceKind.FILL),
            transact_time_ns=report.transact_time_ns,
        )
        if self.unmatched.is_known(fill):
            return
        self.unmatched.begin(fill)
        try:
            # A replay is no fault: nothing was decided on a state of ours.
            result = await self.put(Entry(account_id=self.record.account_id, events=(event,)))
        except StoreError as e:
            raise Unavailable(f"the fill could not be stored: {e}", reason=e.reason) from e
        else:
            if isinstance(result, Stored):
                stored = result.events[-1].fill
                assert stored is not None
                self.unmatched.add(stored)
                self.wake_reconciler.set()
        finally:
            self.unmatched.end(fill)

    def received(self, report: ExecutionReport) -> ExecutionReport:
        """Return the report with the time of its receipt, checked and cleaned.

        Raises:
            ValueError: It is unreadable.
        """
        return check_report(report, received_time_ns=self.clock.time_ns())

    # --- when the store fails -------------------------------------------------------------------

    def fail(self, error: StoreError) -> None:
        """Stop the account: what is remembered may not be what is stored. Nothing is sent until `load`."""
        if not self.failed.is_set():
            log.error("account %s stops until the store is read again: %s", self.account, error)
        self.failed.set()
        self.recovered.clear()
        self.set_state(AccountState.STOPPED, f"the store failed: {error}")

    async def watch_store(self) -> None:
        """Read the account anew whenever the store failed, until that works."""
        while True:
            await self.failed.wait()
            delay_s = 0.05
            while self.failed.is_set():
                try:
                    await self.load()
                except (StoreError, Unavailable) as e:
                    self.failed.set()
                    self.set_state(AccountState.STOPPED, f"the store cannot be used: {e}")
                    await self.clock.sleep(delay_s)
                    delay_s = min(delay_s * 2, 2.0)

    async def load(self) -> None:
        """Forget everything, read the open orders, and put in doubt what may have been sent.

        An intent whose sending this process never began closes `NOT_SENT`: that much we know.

        Raises:
            StoreError, Unavailable: It could not be read or written.
        """
        # What was decided before the failure is refused or stored by now; then nothing moves while we read.
        while self._appending:
            self._quiet.clear()
            await self._quiet.wait()
        known = await self.store.list_known_open(self.record.account_id)
        head = await self.store.get_head(self.account)
        unmatched = await self._list_unmatched(head)
        # Nothing suspends from here to `load`: an entry made from what we forget would be stored.
        self.store.readmit(self.record.account_id)
        self.failed.clear()
        known = [one for one in known if one.order.origin is Origin.GATEWAY]
        self.book.load(known)
        self.unmatched.load(unmatched)
        self._on_head(self.account, head)
        self.identities = {
            k.order.order_id: LOST
            if was_lost(k.order)
            else self.identities.get(k.order.order_id, self.identity)
            for k in known
        }
        self.observations.clear()
        self.to_ask.clear()
        self.cancels_asked.clear()
        self.stop_repeating()
        if known:
            reach(CrashPoint.LOADED_UNDOUBTED)
        for one in known:
            order_id = one.order.order_id
            if order_id in self.unsent:
                self.unsent.discard(order_id)
                if one.order.queued:
                    # Its turn had not come, as far as is stored: it waits on.
                    continue
                await self.commit(order_id, self.not_sent("the store failed before it was sent"))
                continue
            for command in _unsettled(one.order):
                if (order_id, command) not in self.in_flight:
                    await self.doubt(order_id, command, "the gateway stopped before the answer")
        if self.state is AccountState.STOPPED:
            self.set_state(AccountState.RECONCILING, "the store was read again")
        self.wake_reconciler.set()
        self.recovered.set()
        self.wake_resolver.set()
        self.wake_queue.set()

    async def _list_unmatched(self, head: Head) -> Sequence[Fill]:
        found: list[Fill] = []
        after = max(0, head.seq - _UNMATCHED_WITHIN)
        while True:
            page = await self.store.list_unmatched_fills(
                self.record.account_id, after_seq=after, limit=_PAGE
            )
            found = [*found, *page][-UNMATCHED_MAX:]
            if len(page) < _PAGE:
                return found
            after = page[-1].seq

    def not_sent(
        self, why: str, *, reason: str = "NEVER_REACHED_VENUE"
    ) -> Callable[[Order], Outcome]:
        """Return the change that closes an order which never left."""
        report = ExecutionReport(
            exec_type=ExecType.REJECTED,
            command=CommandKind.NEW,
            reason=reason,
            text=clean(why),
            evidence=Evidence(kind=EvidenceKind.NOT_SENT, detail=clean(why)),
            received_time_ns=self.clock.time_ns(),
        )
        return lambda order: apply(order, report)


_copy_event = copier(OrderEvent)
_PAGE = 1000
_UNMATCHED_WITHIN = 50_000
"""Among so many of the latest events, fills that found no order are remembered."""
_ALARMS = (EventType.REVIVED, EventType.OVERFILL)


def identity_of(record: AccountRecord) -> Identity:
    """Return what an account is bound to, and the incarnation that was last seen."""
    return Identity(
        venue_account_id=record.venue_account_id,
        environment=record.environment,
        instance_id=record.instance_id,
    )


def _is_decided(order: Order, command: CommandKind) -> bool:
    """Whether a command that nobody answered is known to be settled all the same."""
    if command is CommandKind.NEW:
        return order.acknowledged
    if command is CommandKind.CANCEL:
        return order.pending is not CommandKind.CANCEL
    return order.pending_terms is None or not order.is_open


def _order_of(stored: Stored, after: Order) -> Order:
    order = stored.events[-1].order if stored.events else None
    return after if order is None else order


def _unsettled(order: Order) -> list[CommandKind]:
    """Return the commands of an order that were asked and not settled, and are not in doubt yet."""
    asked: list[CommandKind] = [] if order.acknowledged else [CommandKind.NEW]
    if order.pending is not None:
        asked.append(order.pending)
    if order.pending_terms is not None and CommandKind.REPLACE not in asked:
        # A cancel has overtaken it.
        asked.append(CommandKind.REPLACE)
    doubted = {doubt.command for doubt in order.in_doubt}
    # Of what waits here we know that the venue was not asked.
    return [c for c in asked if c not in doubted and c is not order.queued_command]
