"""Which terms an order has at the venue, when reports that overtook each other left other ones here.

A late answer of an earlier replace looks like news. Only a query can tell, and only one that is later than
all that we were told: a look finds other terms than ours; the next, more than the visibility lag later by the
venue's own clock, finds them again while nothing has changed here. What we were told had happened before the
first look was answered, so the second shows it. No clock of ours has a say.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from tradegw.model import CommandKind, ExecType, ExecutionReport, Order, OrderId, OrdStatus
from tradegw.ports import VenueOrderRef
from tradegw.venue import VenueTime

__all__ = ["Asked", "TermsWatch"]

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Asked:
    """How an order stood when the venue was asked about it.

    Attributes:
        ref: Its incarnation at the venue: another object from the next command on.
    """

    order: Order
    ref: VenueOrderRef

    def current(
        self, report: ExecutionReport, order: Order, ref: VenueOrderRef | None
    ) -> ExecutionReport | None:
        """Return what is true still of what the venue said: no terms that a replace may have made old ones.

        Args:
            order: As it stands when the answer is applied, which may be long after it came.
            ref: Likewise. None: the order has closed.

        Returns:
            None where nothing is: another incarnation stands for the order, the cancel is decided, or what is
            refused is not the last command.
        """
        if ref is not None and ref.generation != self.ref.generation:
            return None
        if report.exec_type in (ExecType.CANCEL_REJECTED, ExecType.REPLACE_REJECTED):
            # Of a command that was asked for since, the answer says nothing.
            return report if ref is self.ref else None
        status = report.ord_status
        if report.exec_type is not ExecType.ORDER_STATUS or status is None or not status.is_open:
            # The terms of what has ended do not grow old.
            return report
        if status is OrdStatus.PENDING_CANCEL and order.pending is not self.order.pending:
            return None
        # A cancel makes another object of the incarnation as well, and changes no terms.
        is_replaced = ref is not self.ref and order.pending is not CommandKind.CANCEL
        if not is_replaced and _terms(order) == _terms(self.order):
            return report
        return replace(report, price=None, trigger_price=None, order_qty=None, terms_final=False)


def _terms(order: Order) -> tuple[object, ...]:
    return order.order_qty, order.price, order.trigger_price, order.pending_terms


class TermsWatch:
    """Remembers the first look that found other terms than ours, of each order."""

    def __init__(self) -> None:
        self._looks: dict[OrderId, tuple[Order, int]] = {}

    def keep(self, order_ids: Collection[OrderId]) -> None:
        """Forget all but these."""
        self._looks = {i: look for i, look in self._looks.items() if i in order_ids}

    def judge(
        self, order: Order, report: ExecutionReport, as_of: VenueTime, *, lag_s: float
    ) -> ExecutionReport:
        """Return the answer to a query, with `terms_final` where its terms are the latest.

        Args:
            order: As it stood all the while between question and answer.
        """
        if not _is_other(order, report):
            self._looks.pop(order.order_id, None)
            return report
        seen, first_ns = self._looks.get(order.order_id, (None, 0))
        if seen is not order:
            self._looks[order.order_id] = (order, as_of.time_ns)
            return report
        if as_of.time_ns - first_ns <= int(lag_s * _NS_PER_S):
            return report
        del self._looks[order.order_id]
        return replace(
            report,
            terms_final=True,
            text=f"the venue showed these terms at {first_ns} and again at {as_of.time_ns} by its clock",
        )

    def awaits_look(self, order_id: OrderId) -> bool:
        """Whether the order is to be asked about again."""
        return order_id in self._looks


def _is_other(order: Order, report: ExecutionReport) -> bool:
    """Whether the venue shows an open order whose terms nobody here is changing, smaller than ours."""
    return (
        report.exec_type is ExecType.ORDER_STATUS
        and report.ord_status is not None
        and report.ord_status.is_open
        and order.pending is None
        and order.pending_terms is None
        and not order.in_doubt
        and order.order_qty is not None
        and report.order_qty is not None
        and order.cum_qty < report.order_qty < order.order_qty
    )
