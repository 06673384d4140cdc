"""Orders and fills that are not ours, or not known to be: seen, taken over, given to their order."""

from __future__ import annotations

from dataclasses import replace

from tradegw.model.changes import Changes, Outcome
from tradegw.model.enums import (
    EventType,
    EvidenceKind,
    ExecType,
    OrdStatus,
    OrdType,
    Origin,
    TimeInForce,
)
from tradegw.model.ids import AccountName, OrderId
from tradegw.model.lifecycle import apply
from tradegw.model.numbers import ZERO
from tradegw.model.orders import Fill, Order
from tradegw.model.reports import Evidence, ExecutionReport

__all__ = ["adopt", "attach", "record_external"]


def record_external(
    order_id: OrderId,
    report: ExecutionReport,
    *,
    account: AccountName,
    venue: str,
    generation: int,
    time_ns: int,
) -> Outcome:
    """Return an open order that somebody else placed, as far as the venue tells, with its first event.

    What is filled of it comes with its fills. The venue's report does not say what kind of order it is beyond
    its prices, nor how long it stays.

    Raises:
        ValueError: The report does not name the order, its symbol and its side.
    """
    if report.venue_order_id is None or report.symbol is None or report.side is None:
        raise ValueError(f"an order of somebody else needs a name, a symbol and a side: {report!r}")
    order = Order(
        order_id=order_id,
        account=account,
        venue=venue,
        symbol=report.symbol,
        side=report.side,
        ord_type=_ord_type(report),
        time_in_force=TimeInForce.GTC,
        order_qty=report.order_qty,
        price=report.price,
        trigger_price=report.trigger_price,
        leaves_qty=report.order_qty or ZERO,
        origin=Origin.EXTERNAL,
        triggered=report.trigger_price is None or bool(report.triggered),
        generation=generation,
        venue_order_id=report.venue_order_id,
        venue_client_order_id=report.venue_client_order_id,
        created_time_ns=time_ns,
        updated_time_ns=time_ns,
    )
    steps = Changes(
        order,
        time_ns=time_ns,
        transact_time_ns=report.transact_time_ns,
        evidence=Evidence(kind=EvidenceKind.VENUE_REPORT, detail="among the venue's open orders"),
    )
    steps.change(acknowledged=True, ord_status=OrdStatus.NEW)
    steps.add(EventType.EXTERNAL)
    return steps.outcome


def _ord_type(report: ExecutionReport) -> OrdType:
    if report.trigger_price is not None:
        return OrdType.STOP if report.price is None else OrdType.STOP_LIMIT
    return OrdType.MARKET if report.price is None else OrdType.LIMIT


def adopt(order: Order, *, by: str, why: str, time_ns: int) -> Outcome:
    """Return an order of somebody else as one of ours. One that is ours, or closed, stays as it is."""
    if order.origin is not Origin.EXTERNAL or not order.is_open:
        return order, ()
    steps = Changes(
        order,
        time_ns=time_ns,
        text=why,
        evidence=Evidence(kind=EvidenceKind.OPERATOR, detail=f"{by}: {why}"),
    )
    steps.change(origin=Origin.GATEWAY)
    steps.add(EventType.ADOPTED)
    return steps.outcome


def attach(order: Order, fill: Fill, *, time_ns: int) -> Outcome:
    """Give an order a fill that entered the stream before anyone knew whose it was.

    The order counts it like any other; the event carries no quantity, because the stream has it already.
    """
    report = ExecutionReport(
        exec_type=ExecType.TRADE,
        venue_order_id=fill.venue_order_id,
        trade_id=fill.trade_id,
        last_qty=fill.last_qty,
        last_px=fill.last_px,
        fee=fill.fee,
        fee_asset=fill.fee_asset,
        liquidity=fill.liquidity,
        transact_time_ns=fill.transact_time_ns,
        received_time_ns=time_ns,
    )
    after, events = apply(order, report)
    return after, tuple(
        replace(event, event_type=EventType.FILL_ATTACHED, fill=None, attaches=fill.seq)
        if event.event_type is EventType.TRADE
        else event
        for event in events
    )
