"""Sends stored requests of one account to its venue, and stores what came of each, whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from tradegw.engine.account import NS_PER_S, Account
from tradegw.engine.context import REQUEST
from tradegw.engine.crash import CrashPoint, is_armed, reach
from tradegw.engine.guard import FREE, Permit
from tradegw.engine.intake import clean
from tradegw.engine.translating import has_passed
from tradegw.errors import (
    NotSent,
    OutcomeUnknown,
    RateLimited,
    StoreError,
    Unavailable,
    VenueError,
    VenueRejected,
)
from tradegw.model import (
    CommandKind,
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    Order,
    OrderId,
)
from tradegw.model.lifecycle import Outcome, apply
from tradegw.venue import VenueRequest

__all__ = ["SendingDesk"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_REFUSALS = {
    CommandKind.NEW: ExecType.REJECTED,
    CommandKind.CANCEL: ExecType.CANCEL_REJECTED,
    CommandKind.REPLACE: ExecType.REPLACE_REJECTED,
}


class SendingDesk:
    """Sends what is stored. Each method runs in a task of the gateway, never in the caller's."""

    def __init__(self, account: Account) -> None:
        self._account = account

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
        if until is not None and has_passed(until, account.venue_now()):
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


async def _started(awaitable: Awaitable[T]) -> Awaitable[T]:
    """Let an awaitable run to its first wait, so that its bytes have left. For armed crash points."""

    async def wait() -> T:
        return await awaitable

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    return task
