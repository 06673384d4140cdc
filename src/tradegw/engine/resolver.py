"""Asks the venue about orders in doubt, or with fills unknown, until evidence decides.

What is not decided stays in doubt and visible: no number of attempts closes an order. See `absence` for what
it takes to say that an order never got there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from tradegw.engine.absence import (
    Observation,
    counts,
    is_forgotten_at_expiry,
    is_settled_after,
    proves_absence,
    proves_expiry,
)
from tradegw.engine.account import NS_PER_S, Account, AccountState
from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.inferring import infer
from tradegw.engine.terms import Asked, TermsWatch
from tradegw.errors import OutcomeUnknown, Unavailable
from tradegw.model import (
    CommandKind,
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    Order,
    OrderId,
    OrdStatus,
    VenueOrderId,
)
from tradegw.model.lifecycle import is_missing_fills
from tradegw.plugins import AccountPlugins
from tradegw.ports import VenueOrderRef
from tradegw.venue import Capabilities, FetchFills, FetchOrder, FillReporting, VenueTime

__all__ = ["ASK_AT_ONCE_MAX", "Resolver", "within"]

log = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 10.0
ASK_TIMEOUT_S = 10.0
ASK_AT_ONCE_MAX = 16


class Resolver:
    """Resolves the doubts of one account."""

    def __init__(
        self,
        account: Account,
        rng: random.Random,
        resend: Callable[[OrderId], Awaitable[None]],
    ) -> None:
        self._account = account
        self._rng = rng
        self._resend = resend
        self._past: dict[OrderId, tuple[int, int]] = {}
        self._missing: dict[OrderId, int] = {}
        self._terms = TermsWatch()
        self._waits: dict[OrderId, float] = {}
        self._due_ns: dict[OrderId, int] = {}
        self._asking: list[OrderId] = []

    async def run(self) -> None:
        """Resolve what comes up, without end."""
        account = self._account
        while True:
            account.wake_resolver.clear()
            await self._round()
            wait_s = self._next_wait_s()
            if wait_s is None:
                await account.wake_resolver.wait()
                continue
            await account.sleep_or(wait_s, account.wake_resolver)

    def _pending(self) -> list[Order]:
        account = self._account
        return [
            order
            for order in account.book
            if order.is_open and (order.in_doubt or order.order_id in account.to_ask)
        ]

    def _next_wait_s(self) -> float | None:
        pending = {order.order_id for order in self._pending()}
        kept = pending.union(self._asking)
        self._due_ns = {i: due for i, due in self._due_ns.items() if i in kept}
        self._waits = {i: wait for i, wait in self._waits.items() if i in kept}
        self._past = {i: past for i, past in self._past.items() if i in kept}
        self._missing = {i: since for i, since in self._missing.items() if i in kept}
        self._terms.keep(kept)
        if not pending:
            return None
        now_ns = self._account.clock.time_ns()
        due_ns = min(self._due_ns.get(order_id, now_ns) for order_id in pending)
        return max(0.01, (due_ns - now_ns) / NS_PER_S)

    async def _round(self) -> None:
        account = self._account
        venue = account.venue
        if venue is None or account.state in (AccountState.STARTING, AccountState.STOPPED):
            return
        now_ns = account.clock.time_ns()
        due = [o for o in self._pending() if self._due_ns.get(o.order_id, 0) <= now_ns]
        # Bounded: a thousand doubts after an outage must not become a thousand requests at once.
        places = asyncio.Semaphore(ASK_AT_ONCE_MAX)

        async def one(order: Order) -> None:
            async with places:
                await self._try(venue, order)

        await asyncio.gather(*(one(order) for order in due))

    async def _try(self, venue: AccountPlugins, order: Order) -> None:
        account = self._account
        wait_s = self._waits.get(order.order_id, FIRST_WAIT_S)
        try:
            await self.ask(venue, order.order_id)
        except Unavailable as e:
            log.warning("order %s: what the venue said is not stored: %s", order.order_id, e)
        except Exception as e:  # noqa: BLE001  A plugin may raise anything; the others are asked all the same.
            log.info("order %s stays in doubt: %s: %s", order.order_id, type(e).__name__, e)
        # Full jitter: many doubts that arose together do not ask together for ever.
        self._waits[order.order_id] = min(LONGEST_WAIT_S, wait_s * 2)
        delay_s = wait_s * self._rng.uniform(0.5, 1.0)
        self._due_ns[order.order_id] = account.clock.time_ns() + int(delay_s * NS_PER_S)

    async def ask(self, venue: AccountPlugins, order_id: OrderId) -> None:
        """Ask the venue about one open order once, and apply what it says.

        Raises:
            VenueError: The venue did not answer; nothing was learned.
        """
        account = self._account
        # Who wants it asked again while the venue answers wants a later answer than this one.
        is_wanted = order_id in account.to_ask
        account.to_ask.discard(order_id)
        self._asking.append(order_id)
        is_known = False
        try:
            is_known = await self._ask(venue, order_id)
        finally:
            self._asking.remove(order_id)
            order = account.book.find(order_id)
            if is_wanted and not is_known and order is not None and order.is_open:
                account.to_ask.add(order_id)
                account.wake_resolver.set()

    async def _ask(self, venue: AccountPlugins, order_id: OrderId) -> bool:
        """Do that. Returns whether it is known now how the order stands there."""
        account = self._account
        order, ref = account.book.find(order_id), account.book.ref(order_id)
        if order is None or ref is None or not order.is_open:
            return False
        asked = Asked(order, ref)
        reach(CrashPoint.RESOLVER_ASKING)
        page = await within(
            venue.fetch(
                FetchOrder(
                    symbol=order.symbol,
                    venue_client_order_id=ref.venue_client_order_id,
                    venue_order_id=order.venue_order_id,
                )
            )
        )
        # The stream and other commands went on meanwhile.
        order, ref = account.book.find(order_id), account.book.ref(order_id)
        if order is None or ref is None or not order.is_open:
            return False
        if ref.generation != asked.ref.generation:
            # What was asked about is no longer what stands for the order.
            return False
        reports = [_about(ref, account.received(report), page.as_of) for report in page.items]
        if order is asked.order:
            lag_s = venue.account.capabilities.visibility_lag_s
            reports = [self._terms.judge(order, r, page.as_of, lag_s=lag_s) for r in reports]
        reach(CrashPoint.RESOLVER_ANSWERED_UNJOURNALED)
        if reports:
            return await self._found(venue, order, asked, page.as_of, reports)
        return await self._not_found(venue, order, ref, page.as_of)

    async def _found(
        self,
        venue: AccountPlugins,
        order: Order,
        asked: Asked,
        as_of: VenueTime,
        reports: Sequence[ExecutionReport],
    ) -> bool:
        account = self._account
        order_id, ref = order.order_id, asked.ref
        account.observations.pop(order_id, None)
        if any(is_missing_fills(order, report) for report in reports):
            named = (report.venue_order_id for report in reports if report.venue_order_id)
            fills, _ = await self._fetch_fills(venue, order, ref, next(named, None))
            if fills:
                order = await account.apply_reports(order_id, fills)
            await self._infer(venue, order, reports)
        order = await account.apply_reports(order_id, reports, asked=asked)
        if not order.is_open:
            return True
        is_known = not any(is_missing_fills(order, report) for report in reports)
        if self._terms.awaits_look(order_id):
            is_known = False
            account.to_ask.add(order_id)
            account.wake_resolver.set()
        if account.book.ref(order_id) is not ref:
            # A later answer is wanted: of what was asked for since the venue looked, this one says nothing.
            return False
        if not self._is_command_over(ref, as_of, venue.account.capabilities):
            return is_known
        # The venue holds the order open. A cancel or replace that it can no longer take did not happen.
        is_cancelling = any(report.ord_status is OrdStatus.PENDING_CANCEL for report in reports)
        for doubt in order.in_doubt:
            refusal = _NEVER_HAPPENED.get(doubt.command)
            if refusal is None or (doubt.command is CommandKind.CANCEL and is_cancelling):
                continue
            detail = (
                f"the order stands unchanged at {as_of.time_ns}, after the command's validity ended at "
                f"{ref.command_valid_until_ns or ref.command_valid_until_height}"
            )
            evidence = Evidence(kind=EvidenceKind.ABSENT_AFTER_EXPIRY, detail=detail)
            await account.apply_reports(
                order_id, [replace(refusal, evidence=evidence)], asked=asked
            )
        return is_known

    async def _infer(
        self, venue: AccountPlugins, order: Order, reports: Sequence[ExecutionReport]
    ) -> None:
        """Infer what the venue counts and does not show, where that is all that it will ever say."""
        account = self._account
        missing = [report for report in reports if is_missing_fills(order, report)]
        if not missing:
            self._missing.pop(order.order_id, None)
            return
        if venue.account.capabilities.fills is not FillReporting.CUMULATIVE:
            now_ns = account.clock.time_ns()
            since_ns = self._missing.setdefault(order.order_id, now_ns)
            if now_ns - since_ns < int(account.settings.fill_wait_s * NS_PER_S):
                return
        inferred = infer(order, missing[-1])
        if inferred is not None:
            log.warning(
                "account %s: a fill of order %s is inferred", account.account, order.order_id
            )
            self._missing.pop(order.order_id, None)
            reach(CrashPoint.INFERRED_UNJOURNALED)
            await account.apply_reports(order.order_id, [inferred])
            reach(CrashPoint.INFERRED_UNFINISHED)

    def _is_command_over(
        self, ref: VenueOrderRef, as_of: VenueTime, capabilities: Capabilities
    ) -> bool:
        """Whether the venue can no longer take the last command of an order, and would show it if it had."""
        if not is_settled_after(
            valid_until_ns=ref.command_valid_until_ns,
            valid_until_height=ref.command_valid_until_height,
            as_of=as_of,
            capabilities=capabilities,
        ):
            return False
        height = ref.command_valid_until_height
        if height is None:
            return True
        # A lag is a time: it begins when the height was first seen to be over.
        seen = self._past.get(ref.order_id)
        if seen is None or seen[0] != height:
            seen = self._past[ref.order_id] = (height, as_of.time_ns)
        return as_of.time_ns >= seen[1] + int(capabilities.visibility_lag_s * NS_PER_S)

    async def _not_found(
        self,
        venue: AccountPlugins,
        order: Order,
        ref: VenueOrderRef,
        as_of: VenueTime,
    ) -> bool:
        account = self._account
        capabilities = venue.account.capabilities
        if is_forgotten_at_expiry(ref, capabilities):
            # In doubt or not, it is over before long, and nobody may tell of it.
            if order.order_id not in account.to_ask:
                account.to_ask.add(order.order_id)
                account.wake_resolver.set()
        elif order.acknowledged or order.cum_qty:
            return await self._out_of_sight(order, as_of, capabilities)
        fills, fills_as_of = await self._fetch_fills(venue, order, ref)
        news = [fill for fill in fills if fill.trade_id not in order.trade_ids]
        if news:
            await account.apply_reports(order.order_id, news)
            return False
        identity = account.identities.get(order.order_id, account.identity)
        now = Observation(as_of=_older(as_of, fills_as_of), identity=account.identity)
        if account.is_identified and counts(
            order, ref, now, capabilities=capabilities, identity=identity
        ):
            # The first and the last: those between prove nothing more.
            first = account.observations.get(order.order_id, ())[:1]
            account.observations[order.order_id] = (*first, now)
        seen = account.observations.get(order.order_id, ())
        if proves_expiry(order, ref, seen, capabilities=capabilities, identity=identity):
            await account.apply_reports(order.order_id, [_expired(ref, seen)])
        elif proves_absence(order, ref, seen, capabilities=capabilities, identity=identity):
            reach(CrashPoint.ABSENCE_PROVEN_UNJOURNALED)
            await account.apply_reports(order.order_id, [_absent(ref, seen)])
        else:
            await self._resend(order.order_id)
        return False

    async def _out_of_sight(
        self, order: Order, as_of: VenueTime, capabilities: Capabilities
    ) -> bool:
        """Put an order in doubt that the venue held and does not find; beyond its lag, that is no delay."""
        account = self._account
        lag_ns = int(capabilities.visibility_lag_s * NS_PER_S)
        known_since_ns = order.updated_time_ns + account.venue_offset_ns
        if order.in_doubt or as_of.time_ns <= known_since_ns + lag_ns:
            return False
        log.error(
            "ALARM order %s of %s was acknowledged, and the venue does not find it",
            order.order_id,
            account.account,
        )
        await account.lose_sight(order.order_id, "acknowledged, and the venue does not find it")
        return True

    async def _fetch_fills(
        self,
        venue: AccountPlugins,
        order: Order,
        ref: VenueOrderRef,
        venue_order_id: VenueOrderId | None = None,
    ) -> tuple[list[ExecutionReport], VenueTime]:
        """Return every fill of the order that the venue shows, and how old what it shows may be.

        Args:
            venue_order_id: The venue's name for the order, as it has just told.

        Raises:
            ValueError: The venue answers with a fill of another order, or of nobody knows which.
        """
        fills: list[ExecutionReport] = []
        venue_order_id = order.venue_order_id or venue_order_id
        query = FetchFills(
            symbol=order.symbol,
            venue_order_id=venue_order_id,
            venue_client_order_id=ref.venue_client_order_id,
        )
        oldest: VenueTime | None = None
        while True:
            page = await within(venue.fetch(query))
            oldest = page.as_of if oldest is None else _older(oldest, page.as_of)
            for item in page.items:
                report = _about(ref, self._account.received(item), page.as_of)
                if (
                    report.venue_client_order_id is None
                    and report.venue_order_id is not None
                    and report.venue_order_id != venue_order_id
                ):
                    # Counted for this order, a stranger's fill would close what is still open.
                    raise ValueError(
                        f"asked about the fills of {ref.venue_client_order_id} ({venue_order_id}); the venue "
                        f"answers with one of its order {report.venue_order_id}"
                    )
                fills.append(report)
            if page.next_cursor is None:
                return fills, oldest
            query = replace(query, cursor=page.next_cursor)


def _older(one: VenueTime, other: VenueTime) -> VenueTime:
    """Return the moment up to which two answers, perhaps of two machines, are both complete."""
    heights = [at.height for at in (one, other) if at.height is not None]
    return VenueTime(
        time_ns=min(one.time_ns, other.time_ns), height=min(heights) if heights else None
    )


def _about(ref: VenueOrderRef, report: ExecutionReport, as_of: VenueTime) -> ExecutionReport:
    """Return a report that a targeted query brought, with what was asked, if it is about that.

    Raises:
        ValueError: It names another order.
    """
    if report.venue_client_order_id not in (None, ref.venue_client_order_id):
        raise ValueError(
            f"asked about {ref.venue_client_order_id}; the venue answers about "
            f"{report.venue_client_order_id}"
        )
    is_fill = report.exec_type is ExecType.TRADE
    detail = (
        f"asked for {'the fills of ' if is_fill else ''}{ref.venue_client_order_id}; "
        f"the venue answered at {as_of.time_ns} by its clock"
    )
    kind = EvidenceKind.FILL if is_fill else EvidenceKind.VENUE_REPORT
    return replace(report, evidence=Evidence(kind=kind, detail=detail))


def _seen(ref: VenueOrderRef, seen: Sequence[Observation]) -> str:
    first, last = seen[0].as_of, seen[-1].as_of
    heights = "" if last.height is None else f", heights {first.height} and {last.height}"
    return (
        f"not found, without fills that are not counted, at {first.time_ns} and again at {last.time_ns} by "
        f"the venue's clock{heights}; valid until {ref.valid_until_ns or ref.valid_until_height}"
    )


def _absent(ref: VenueOrderRef, seen: Sequence[Observation]) -> ExecutionReport:
    return ExecutionReport(
        exec_type=ExecType.REJECTED,
        command=CommandKind.NEW,
        ord_status=OrdStatus.REJECTED,
        reason="NEVER_REACHED_VENUE",
        text="proven absent",
        evidence=Evidence(kind=EvidenceKind.ABSENT_AFTER_EXPIRY, detail=_seen(ref, seen)),
    )


def _expired(ref: VenueOrderRef, seen: Sequence[Observation]) -> ExecutionReport:
    return ExecutionReport(
        exec_type=ExecType.EXPIRED,
        ord_status=OrdStatus.EXPIRED,
        text="its time at the venue has passed",
        evidence=Evidence(kind=EvidenceKind.EXPIRY_PASSED, detail=_seen(ref, seen)),
    )


async def within(asking: Awaitable[ResultT]) -> ResultT:
    """Await a venue's answer for as long as one is worth waiting for.

    Raises:
        OutcomeUnknown: None came.
    """
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            return await asking
    except TimeoutError as e:
        raise OutcomeUnknown(f"no answer within {ASK_TIMEOUT_S} s") from e


_NEVER_HAPPENED = {
    CommandKind.CANCEL: ExecutionReport(
        exec_type=ExecType.CANCEL_REJECTED,
        command=CommandKind.CANCEL,
        reason="NEVER_REACHED_VENUE",
    ),
    CommandKind.REPLACE: ExecutionReport(
        exec_type=ExecType.REPLACE_REJECTED,
        command=CommandKind.REPLACE,
        reason="NEVER_REACHED_VENUE",
    ),
}
