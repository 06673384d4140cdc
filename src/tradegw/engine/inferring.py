"""Fills that a venue counts and does not show: inferred from the growth of its count. Pure.

Only where a venue reports cumulative quantities alone, or after a while and a targeted query that still shows
no fill. A real fill that comes after all takes the inferred quantity back, in one transaction.
"""

from __future__ import annotations

from decimal import Decimal

from tradegw.model import (
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    Order,
    OrdStatus,
    TradeId,
    plain,
)
from tradegw.model.numbers import CONTEXT, ZERO, average

__all__ = ["infer"]


def infer(order: Order, report: ExecutionReport) -> ExecutionReport | None:
    """Return the fill that explains what the venue counts above what we have seen; None: it cannot be priced.

    Its name is derived from the order and both counts, so that inferring twice counts once.

    Args:
        report: How the order stands at the venue.
    """
    told = report.cum_qty
    if told is None and report.ord_status is OrdStatus.FILLED:
        told = report.order_qty or order.order_qty
    if told is None or told <= order.cum_qty:
        return None
    qty = CONTEXT.subtract(told, order.cum_qty)
    px = _price(order, report, told, qty)
    if px is None:
        return None
    before, after = plain(order.cum_qty), plain(told)
    return ExecutionReport(
        exec_type=ExecType.TRADE,
        venue_order_id=report.venue_order_id,
        venue_client_order_id=report.venue_client_order_id,
        # The order is whole in it: a fill's name is unique within one order alone.
        trade_id=TradeId(f"inferred:{before}:{after}"),
        last_qty=qty,
        last_px=px,
        cum_qty=told,
        inferred=True,
        evidence=Evidence(
            kind=EvidenceKind.VENUE_REPORT,
            detail=f"the venue counts {after} filled, and shows no fill beyond {before}",
        ),
        transact_time_ns=report.transact_time_ns,
        received_time_ns=report.received_time_ns,
    )


def _price(order: Order, report: ExecutionReport, told: Decimal, qty: Decimal) -> Decimal | None:
    if report.avg_px is not None:
        rest = CONTEXT.subtract(CONTEXT.multiply(report.avg_px, told), order.cum_quote)
        px = average(rest, qty)
        if px is not None and px > ZERO:
            return px
    # The worst that it can have been; the real fill corrects it.
    return report.avg_px or order.price
