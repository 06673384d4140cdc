"""Sends a placement in doubt once more, where the venue declares that this can never make a second order.

Resending is placing, so it has the limits of placing: before the order's `send_by`, while the account takes
orders, and never after a cancel or a halt was asked, nor across a restart: requests are remembered by the
process that sent them, and by no other. It is the same request, valid until the same moment.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from tradegw.engine.account import AccountState
from tradegw.engine.desk import Desk
from tradegw.model import (
    CommandKind,
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    Order,
    OrderId,
    OrdStatus,
)
from tradegw.venue import Operation

__all__ = ["ResendingDesk"]

log = logging.getLogger(__name__)


class ResendingDesk(Desk):
    """A desk that can send a placement once more."""

    async def resend(self, order_id: OrderId) -> None:
        """Send a placement in doubt again if that is allowed, and store what came of it.

        Only an acceptance counts: a refusal of the repetition may be due to the first request's success.
        """
        account = self._account
        order = account.book.find(order_id)
        request = account.repeatable.get(order_id)
        if order is None or request is None or not self._may_repeat(order):
            return
        # Never in a queue: what waits for its turn may outlive the reasons to send it.
        permit = account.guard.try_enter(Operation.NEW, order.symbol)
        if permit is None:
            return
        key = (order_id, CommandKind.NEW)
        # A cancel that comes now waits for the answer, as it would for the first one's.
        done = account.in_flight[key] = asyncio.Event()
        try:
            permit.charge(request.cost)
            reports = await self._execute(CommandKind.NEW, request, permit)
            accepted = [_evident(r) for r in reports if not _is_refusal(r)]
            if accepted:
                await self._apply_answer(order_id, CommandKind.NEW, accepted)
        except Exception as e:  # noqa: BLE001  Whatever it is, it decides nothing about the first request.
            log.info("order %s was sent again, which decided nothing: %r", order_id, e)
        finally:
            permit.close()
            done.set()
            if account.in_flight.get(key) is done:
                del account.in_flight[key]

    def _may_repeat(self, order: Order) -> bool:
        account = self._account
        venue = account.venue
        return (
            venue is not None
            and venue.account.capabilities.idempotent_resend
            and account.state is AccountState.READY
            and order.is_open
            and not order.acknowledged
            and not order.cum_qty
            and any(doubt.command is CommandKind.NEW for doubt in order.in_doubt)
            and order.pending is None
            and order.order_id not in account.cancels_asked
            and (order.order_id, CommandKind.NEW) not in account.in_flight
            and order.created_time_ns > account.stopped_sending_ns
            and account.clock.time_ns() < order.send_by_ns
            and account.identities.get(order.order_id) == account.identity
            and account.find_halt(account.account, account.record.venue, order.symbol) is None
        )


def _is_refusal(report: ExecutionReport) -> bool:
    return report.exec_type is ExecType.REJECTED or report.ord_status is OrdStatus.REJECTED


def _evident(report: ExecutionReport) -> ExecutionReport:
    if report.exec_type is ExecType.TRADE:
        return report
    detail = "the venue's answer when the same request was sent again"
    return replace(report, evidence=Evidence(kind=EvidenceKind.IDEMPOTENT_RESEND, detail=detail))
