"""The table of an order's life: every state against every report, and the stories behind single cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tradegw.model import (
    AccountName,
    ClientOrderId,
    CommandKind,
    EventType,
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    Fill,
    Liquidity,
    Order,
    OrderEvent,
    OrderId,
    OrdStatus,
    OrdType,
    Origin,
    ReplaceTerms,
    Side,
    TimeInForce,
    TradeId,
    VenueOrderId,
)
from tradegw.model.lifecycle import (
    apply,
    ask_cancel,
    ask_replace,
    is_missing_fills,
    put_in_doubt,
    record_intent,
)

D = Decimal
RAISED = ReplaceTerms(order_qty=D(20), price=D(101))


def an_order(**fields: Any) -> Order:
    asked: dict[str, Any] = {
        "order_id": OrderId(UUID(int=1)),
        "account": AccountName("paper"),
        "venue": "mock",
        "symbol": "BTC/USDT",
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "order_qty": D(10),
        "price": D(100),
        "created_time_ns": 1,
    }
    order = Order(**(asked | fields))
    return record_intent(order)[0]


def a_report(
    exec_type: ExecType, kind: EvidenceKind | None = None, **fields: Any
) -> ExecutionReport:
    evidence = None if kind is None else Evidence(kind=kind)
    told: dict[str, Any] = {"evidence": evidence, "received_time_ns": 7} | fields
    return ExecutionReport(exec_type=exec_type, **told)


def a_fill(trade_id: str, qty: object, px: object = 100, **fields: Any) -> ExecutionReport:
    return a_report(
        ExecType.TRADE,
        trade_id=TradeId(trade_id),
        last_qty=D(str(qty)),
        last_px=D(str(px)),
        **fields,
    )


def a_status(ord_status: OrdStatus, **fields: Any) -> ExecutionReport:
    return a_report(ExecType.ORDER_STATUS, ord_status=ord_status, **fields)


def after(order: Order, *reports: ExecutionReport) -> Order:
    for report in reports:
        order, _ = apply(order, report)
    return order


def doubting(order: Order, command: CommandKind) -> Order:
    return put_in_doubt(order, command, why="no answer", time_ns=5)[0]


def cancelling(order: Order) -> Order:
    return ask_cancel(order, time_ns=4)[0]


def replacing(order: Order, terms: ReplaceTerms = RAISED) -> Order:
    return ask_replace(order, terms, time_ns=4)[0]


def types(events: tuple[OrderEvent, ...]) -> list[str]:
    return [event.event_type.value for event in events]


ACK = a_report(ExecType.NEW, venue_order_id=VenueOrderId("v1"))


def live(**fields: Any) -> Order:
    return after(an_order(**fields), ACK)


def part() -> Order:
    return after(live(), a_fill("t1", 4))


STATES: dict[str, Callable[[], Order]] = {
    "pending new": an_order,
    "pending new in doubt": lambda: doubting(an_order(), CommandKind.NEW),
    "new": live,
    "new in doubt": lambda: doubting(live(), CommandKind.NEW),
    "untriggered": lambda: live(ord_type=OrdType.STOP_LIMIT, trigger_price=D(99), triggered=False),
    "partly filled": part,
    "pending cancel": lambda: cancelling(live()),
    "pending cancel unheard": lambda: cancelling(an_order()),
    "pending cancel in doubt": lambda: doubting(cancelling(part()), CommandKind.CANCEL),
    "pending cancel by the venue": lambda: after(live(), a_report(ExecType.CANCELED, final=False)),
    "pending replace": lambda: replacing(part()),
    "pending replace in doubt": lambda: doubting(replacing(part()), CommandKind.REPLACE),
    "pending replace complete": lambda: after(replacing(live()), a_fill("t1", 10)),
    "cancel overtook replace": lambda: cancelling(replacing(live())),
    "filled": lambda: after(live(), a_fill("t1", 10)),
    "canceled": lambda: after(live(), a_report(ExecType.CANCELED)),
    "canceled partly filled": lambda: after(part(), a_report(ExecType.CANCELED)),
    "rejected": lambda: after(an_order(), a_report(ExecType.REJECTED, reason="FUNDS")),
    "expired": lambda: after(live(), a_report(ExecType.EXPIRED)),
    "expired unheard": lambda: after(
        an_order(), a_report(ExecType.EXPIRED, EvidenceKind.EXPIRY_PASSED)
    ),
    "never sent": lambda: after(an_order(), a_report(ExecType.REJECTED, EvidenceKind.NOT_SENT)),
    "absent": lambda: after(
        an_order(), a_report(ExecType.REJECTED, EvidenceKind.ABSENT_AFTER_EXPIRY)
    ),
    "closed by operator": lambda: after(part(), a_report(ExecType.CANCELED, EvidenceKind.OPERATOR)),
    "quote sized": lambda: after(
        live(order_qty=None, quote_qty=D(1000), ord_type=OrdType.MARKET, price=None),
        a_fill("t1", 4),
    ),
}


def _rest(order: Order) -> D:
    left = D(0) if order.order_qty is None else order.order_qty - order.cum_qty
    return left or D(1)


# "ahead": the venue counts one more filled than we do; "equal": as many.
REPORTS: dict[str, Callable[[Order], ExecutionReport]] = {
    "ack": lambda o: ACK,
    "triggered": lambda o: a_report(ExecType.TRIGGERED),
    "fill": lambda o: a_fill("t9", 1),
    "fill rest": lambda o: a_fill("t9", _rest(o)),
    "fill over": lambda o: a_fill("t9", 11),
    "fill again": lambda o: a_fill("t1", 4),
    "canceled": lambda o: a_report(ExecType.CANCELED),
    "canceled equal": lambda o: a_report(ExecType.CANCELED, cum_qty=o.cum_qty),
    "canceled ahead": lambda o: a_report(ExecType.CANCELED, cum_qty=o.cum_qty + 1),
    "canceled maybe": lambda o: a_report(ExecType.CANCELED, final=False),
    "canceled by operator": lambda o: a_report(ExecType.CANCELED, EvidenceKind.OPERATOR),
    "rejected": lambda o: a_report(ExecType.REJECTED),
    "rejected maybe": lambda o: a_report(ExecType.REJECTED, final=False),
    "rejected unsent": lambda o: a_report(ExecType.REJECTED, EvidenceKind.NOT_SENT),
    "rejected absent": lambda o: a_report(ExecType.REJECTED, EvidenceKind.ABSENT_AFTER_EXPIRY),
    "canceled absent": lambda o: a_report(ExecType.CANCELED, EvidenceKind.ABSENT_AFTER_EXPIRY),
    "expired": lambda o: a_report(ExecType.EXPIRED),
    "expired ahead": lambda o: a_report(ExecType.EXPIRED, cum_qty=o.cum_qty + 1),
    "expired maybe": lambda o: a_report(ExecType.EXPIRED, final=False),
    "expiry passed": lambda o: a_report(ExecType.EXPIRED, EvidenceKind.EXPIRY_PASSED),
    "replaced": lambda o: a_report(ExecType.REPLACED, order_qty=D(20), price=D(101)),
    "replaced bare": lambda o: a_report(ExecType.REPLACED),
    "cancel refused": lambda o: a_report(ExecType.CANCEL_REJECTED),
    "replace refused": lambda o: a_report(ExecType.REPLACE_REJECTED),
    "status pending new": lambda o: a_status(OrdStatus.PENDING_NEW),
    "status new": lambda o: a_status(OrdStatus.NEW, cum_qty=o.cum_qty),
    "status triggered": lambda o: a_status(OrdStatus.NEW, triggered=True),
    "status replaced": lambda o: a_status(OrdStatus.NEW, order_qty=D(20), price=D(101)),
    "status partly filled": lambda o: a_status(OrdStatus.PARTIALLY_FILLED, cum_qty=o.cum_qty),
    "status partly filled ahead": lambda o: a_status(
        OrdStatus.PARTIALLY_FILLED, cum_qty=o.cum_qty + 1
    ),
    "status pending cancel": lambda o: a_status(OrdStatus.PENDING_CANCEL),
    "status pending replace": lambda o: a_status(OrdStatus.PENDING_REPLACE),
    "status filled": lambda o: a_status(OrdStatus.FILLED),
    "status filled equal": lambda o: a_status(OrdStatus.FILLED, cum_qty=o.cum_qty),
    "status filled ahead": lambda o: a_status(OrdStatus.FILLED, cum_qty=o.cum_qty + 1),
    "status canceled equal": lambda o: a_status(OrdStatus.CANCELED, cum_qty=o.cum_qty),
    "status canceled ahead": lambda o: a_status(OrdStatus.CANCELED, cum_qty=o.cum_qty + 1),
    "status rejected": lambda o: a_status(OrdStatus.REJECTED),
    "status rejected ahead": lambda o: a_status(OrdStatus.REJECTED, cum_qty=o.cum_qty + 1),
    "status expired equal": lambda o: a_status(OrdStatus.EXPIRED, cum_qty=o.cum_qty),
    "status expired ahead": lambda o: a_status(OrdStatus.EXPIRED, cum_qty=o.cum_qty + 1),
}

# Groups of reports that mean the same to most states.
ALIVE = """ack, triggered, replaced bare, status pending new, status new, status triggered,
    status partly filled, status partly filled ahead, status pending replace"""
AHEAD = """canceled ahead, expired ahead, status canceled ahead, status expired ahead,
    status rejected ahead, status filled ahead, status filled"""
CANCELED = "canceled, canceled equal, status canceled equal, canceled by operator"
EXPIRED = "expired, expiry passed, status expired equal"
REFUSED = "rejected, status rejected"
NOT_THERE = "rejected unsent, rejected absent, canceled absent"
MAYBE = "canceled maybe, expired maybe, status pending cancel"
DENIED = "cancel refused, replace refused"

# For each state: reports, and what becomes of it: the status, then the events. "=" is the status before, and
# "the rest" are the reports that no other row names.
TABLE: dict[str, dict[str, str]] = {
    "pending new": {
        f"{ALIVE}, {AHEAD}, status filled equal": "NEW NEW",
        "fill": "PARTIALLY_FILLED TRADE",
        "fill rest": "FILLED TRADE",
        "fill over": "FILLED TRADE OVERFILL",
        CANCELED: "CANCELED CANCELED",
        "canceled absent": "CANCELED CANCELED",
        MAYBE: "PENDING_CANCEL PENDING_CANCEL",
        f"{REFUSED}, rejected unsent, rejected absent": "REJECTED REJECTED",
        EXPIRED: "EXPIRED EXPIRED",
        "replaced, status replaced": "NEW REPLACED",
        f"{DENIED}, rejected maybe": "=",
    },
    "pending new in doubt": {
        f"{ALIVE}, {AHEAD}, status filled equal": "NEW NEW DOUBT_RESOLVED",
        "fill": "PARTIALLY_FILLED TRADE DOUBT_RESOLVED",
        "fill rest": "FILLED TRADE DOUBT_RESOLVED",
        "fill over": "FILLED TRADE DOUBT_RESOLVED OVERFILL",
        CANCELED: "CANCELED CANCELED DOUBT_RESOLVED",
        "canceled absent": "CANCELED CANCELED DOUBT_RESOLVED",
        MAYBE: "PENDING_CANCEL PENDING_CANCEL DOUBT_RESOLVED",
        f"{REFUSED}, rejected unsent, rejected absent": "REJECTED REJECTED DOUBT_RESOLVED",
        EXPIRED: "EXPIRED EXPIRED DOUBT_RESOLVED",
        "replaced, status replaced": "NEW REPLACED DOUBT_RESOLVED",
        f"{DENIED}, rejected maybe": "=",
    },
    "new": {
        f"{ALIVE}, {AHEAD}, status filled equal, {DENIED}, rejected maybe": "=",
        "fill": "PARTIALLY_FILLED TRADE",
        "fill rest": "FILLED TRADE",
        "fill over": "FILLED TRADE OVERFILL",
        CANCELED: "CANCELED CANCELED",
        MAYBE: "PENDING_CANCEL PENDING_CANCEL",
        REFUSED: "REJECTED REJECTED",
        NOT_THERE: "raises",
        EXPIRED: "EXPIRED EXPIRED",
        "replaced, status replaced": "NEW REPLACED",
    },
    "new in doubt": {  # The venue came back as another instance.
        f"{ALIVE}, {AHEAD}, status filled equal": "NEW DOUBT_RESOLVED",
        f"{DENIED}, rejected maybe": "=",
        "fill": "PARTIALLY_FILLED TRADE DOUBT_RESOLVED",
        "fill rest": "FILLED TRADE DOUBT_RESOLVED",
        "fill over": "FILLED TRADE DOUBT_RESOLVED OVERFILL",
        CANCELED: "CANCELED CANCELED DOUBT_RESOLVED",
        MAYBE: "PENDING_CANCEL PENDING_CANCEL DOUBT_RESOLVED",
        REFUSED: "REJECTED REJECTED DOUBT_RESOLVED",
        NOT_THERE: "raises",
        EXPIRED: "EXPIRED EXPIRED DOUBT_RESOLVED",
        "replaced, status replaced": "NEW REPLACED DOUBT_RESOLVED",
    },
    "untriggered": {
        """ack, replaced bare, status pending new, status new,
        status partly filled, status partly filled ahead, status pending replace""": "=",
        f"{AHEAD}, status filled equal, {DENIED}, rejected maybe": "=",
        "triggered, status triggered": "NEW TRIGGERED",
        "fill": "PARTIALLY_FILLED TRADE",
        "fill rest": "FILLED TRADE",
        "fill over": "FILLED TRADE OVERFILL",
        CANCELED: "CANCELED CANCELED",
        MAYBE: "PENDING_CANCEL PENDING_CANCEL",
        REFUSED: "REJECTED REJECTED",
        NOT_THERE: "raises",
        EXPIRED: "EXPIRED EXPIRED",
        "replaced, status replaced": "NEW REPLACED",
    },
    "partly filled": {
        f"{ALIVE}, {AHEAD}, {DENIED}, rejected maybe, fill again": "=",
        "fill": "PARTIALLY_FILLED TRADE",
        "fill rest": "FILLED TRADE",
        "fill over": "FILLED TRADE OVERFILL",
        f"{CANCELED}, {REFUSED}": "CANCELED CANCELED",
        MAYBE: "PENDING_CANCEL PENDING_CANCEL",
        NOT_THERE: "raises",
        EXPIRED: "EXPIRED EXPIRED",
        "status filled equal": "FILLED FILLED",
        "replaced, status replaced": "PARTIALLY_FILLED REPLACED",
    },
    "pending cancel": {
        f"{ALIVE}, {AHEAD}, {MAYBE}, status filled equal, replace refused, rejected maybe": "=",
        "fill": "PENDING_CANCEL TRADE",
        "fill rest": "FILLED TRADE",
        "fill over": "FILLED TRADE OVERFILL",
        CANCELED: "CANCELED CANCELED",
        REFUSED: "REJECTED REJECTED",
        NOT_THERE: "raises",
        EXPIRED: "EXPIRED EXPIRED",
        "replaced, status replaced": "PENDING_CANCEL REPLACED",
        "cancel refused": "NEW CANCEL_REJECTED",
    },
    "pending cancel unheard": {
        f"{ALIVE}, {AHEAD}, {MAYBE}, status filled equal": "PENDING_CANCEL NEW",
        "replace refused, rejected maybe": "=",
        "fill": "PENDING_CANCEL TRADE",
        "fill rest": "FILLED TRADE",
        "fill over": "FILLED TRADE OVERFILL",
        CANCELED: "CANCELED CANCELED",
        "canceled absent": "CANCELED CANCELED",
        f"{REFUSED}, rejected unsent, rejected absent": "REJECTED REJECTED",
        EXPIRED: "EXPIRED EXPIRED",
        "replaced, status replaced": "PENDING_CANCEL REPLACED",
        "cancel refused": "PENDING_NEW CANCEL_REJECTED",
    },
    "pending cancel in doubt": {
        f"{ALIVE}, {AHEAD}, {MAYBE}, replace refused, rejected maybe, fill again": "=",
        "fill": "PENDING_CANCEL TRADE",
        "fill rest": "FILLED TRADE DOUBT_RESOLVED",
        "fill over": "FILLED TRADE DOUBT_RESOLVED OVERFILL",
        f"{CANCELED}, {REFUSED}": "CANCELED CANCELED DOUBT_RESOLVED",
        NOT_THERE: "raises",
        EXPIRED: "EXPIRED EXPIRED DOUBT_RESOLVED",
        "status filled equal": "FILLED FILLED DOUBT_RESOLVED",
        "replaced, status replaced": "PENDING_CANCEL REPLACED",
        "cancel refused": "PARTIALLY_FILLED CANCEL_REJECTED DOUBT_RESOLVED",
    },
    "pending cancel by the venue": {
        f"{ALIVE}, {AHEAD}, {MAYBE}, status filled equal, replace refused, rejected maybe": "=",
        "fill": "PENDING_CANCEL TRADE",
        "fill rest": "FILLED TRADE",
        "fill over": "FILLED TRADE OVERFILL",
        CANCELED: "CANCELED CANCELED",
        REFUSED: "REJECTED REJECTED",
        NOT_THERE: "raises",
        EXPIRED: "EXPIRED EXPIRED",
        "replaced, status replaced": "PENDING_CANCEL REPLACED",
        "cancel refused": "NEW CANCEL_REJECTED",
    },
    "pending replace": {
        """ack, triggered, status pending new, status new, status triggered, status partly filled,
        status partly filled ahead, status pending replace""": "=",
        f"{AHEAD}, cancel refused, rejected maybe, fill again": "=",
        # Each of these may be within the new quantity.
        "fill, fill rest, fill over": "PENDING_REPLACE TRADE",
        f"{CANCELED}, {REFUSED}": "CANCELED CANCELED",
        MAYBE: "PENDING_CANCEL PENDING_CANCEL",
        NOT_THERE: "raises",
        EXPIRED: "EXPIRED EXPIRED",
        "status filled equal": "FILLED FILLED",
        "replaced, replaced bare, status replaced": "PARTIALLY_FILLED REPLACED",
        "replace refused": "PARTIALLY_FILLED REPLACE_REJECTED",
    },
    "pending replace in doubt": {
        """ack, triggered, status pending new, status new, status triggered, status partly filled,
        status partly filled ahead, status pending replace""": "=",
        f"{AHEAD}, cancel refused, rejected maybe, fill again": "=",
        "fill, fill rest, fill over": "PENDING_REPLACE TRADE",
        f"{CANCELED}, {REFUSED}": "CANCELED CANCELED DOUBT_RESOLVED",
        MAYBE: "PENDING_CANCEL PENDING_CANCEL",
        NOT_THERE: "raises",
        EXPIRED: "EXPIRED EXPIRED DOUBT_RESOLVED",
        "status filled equal": "FILLED FILLED DOUBT_RESOLVED",
        "replaced, replaced bare, status replaced": "PARTIALLY_FILLED REPLACED DOUBT_RESOLVED",
        "replace refused": "PARTIALLY_FILLED REPLACE_REJECTED DOUBT_RESOLVED",
    },
    "pending replace complete": {
        """ack, triggered, status pending new, status new, status triggered, status partly filled,
        status partly filled ahead, status pending replace""": "=",
        """canceled ahead, expired ahead, status canceled ahead, status expired ahead,
        status rejected ahead, status filled ahead""": "=",
        "cancel refused, rejected maybe, fill again": "=",
        "fill, fill rest, fill over": "PENDING_REPLACE TRADE",
        f"{CANCELED}, {REFUSED}": "CANCELED CANCELED",
        MAYBE: "PENDING_CANCEL PENDING_CANCEL",
        NOT_THERE: "raises",
        EXPIRED: "EXPIRED EXPIRED",
        "status filled, status filled equal": "FILLED FILLED",
        "replaced, replaced bare, status replaced": "PARTIALLY_FILLED REPLACED",
        "replace refused": "FILLED REPLACE_REJECTED",
    },
    "cancel overtook replace": {
        """ack, triggered, status pending new, status new, status triggered, status partly filled,
        status partly filled ahead, status pending replace""": "=",
        f"{AHEAD}, {MAYBE}, status filled equal, rejected maybe": "=",
        "fill, fill rest, fill over": "PENDING_CANCEL TRADE",
        CANCELED: "CANCELED CANCELED",
        REFUSED: "REJECTED REJECTED",
        NOT_THERE: "raises",
        EXPIRED: "EXPIRED EXPIRED",
        "replaced, replaced bare, status replaced": "PENDING_CANCEL REPLACED",
        "replace refused": "PENDING_CANCEL REPLACE_REJECTED",
        "cancel refused": "PENDING_REPLACE CANCEL_REJECTED",
    },
    "filled": {
        "fill, fill rest, fill over": "FILLED TRADE OVERFILL",
        "the rest": "=",
    },
    "canceled": {
        "fill": "CANCELED TRADE",
        "fill rest": "FILLED TRADE",
        "fill over": "FILLED TRADE OVERFILL",
        "the rest": "=",
    },
    "canceled partly filled": {
        "fill": "CANCELED TRADE",
        "fill rest": "FILLED TRADE",
        "fill over": "FILLED TRADE OVERFILL",
        "the rest": "=",
    },
    "rejected": {
        "fill": "CANCELED TRADE",
        "fill rest": "FILLED TRADE",
        "fill over": "FILLED TRADE OVERFILL",
        "the rest": "=",
    },
    "expired": {
        "fill": "EXPIRED TRADE",
        "fill rest": "FILLED TRADE",
        "fill over": "FILLED TRADE OVERFILL",
        "the rest": "=",
    },
    "expired unheard": {
        "fill": "EXPIRED TRADE",
        "fill rest": "FILLED TRADE",
        "fill over": "FILLED TRADE OVERFILL",
        "the rest": "=",
    },
    "closed by operator": {
        f"{ALIVE}, {AHEAD}": "PARTIALLY_FILLED REVIVED",
        "fill": "PARTIALLY_FILLED REVIVED TRADE",
        "fill rest": "FILLED REVIVED TRADE",
        "fill over": "FILLED REVIVED TRADE OVERFILL",
        f"canceled, canceled equal, status canceled equal, {REFUSED}": "CANCELED REVIVED CANCELED",
        MAYBE: "PENDING_CANCEL REVIVED PENDING_CANCEL",
        "expired, status expired equal": "EXPIRED REVIVED EXPIRED",
        "status filled equal": "FILLED REVIVED FILLED",
        "replaced, status replaced": "PARTIALLY_FILLED REVIVED REPLACED",
        "rejected maybe": "PARTIALLY_FILLED REVIVED",
        f"{DENIED}, {NOT_THERE}, canceled by operator, expiry passed, fill again": "=",
    },
    "quote sized": {
        """ack, triggered, replaced bare, status pending new, status new, status triggered,
        status replaced, status partly filled, status partly filled ahead,
        status pending replace""": "=",
        """canceled ahead, expired ahead, status canceled ahead, status expired ahead,
        status rejected ahead, status filled ahead""": "=",
        f"{DENIED}, rejected maybe, fill again": "=",
        "fill, fill rest, fill over": "PARTIALLY_FILLED TRADE",
        f"{CANCELED}, {REFUSED}": "CANCELED CANCELED",
        MAYBE: "PENDING_CANCEL PENDING_CANCEL",
        NOT_THERE: "raises",
        EXPIRED: "EXPIRED EXPIRED",
        "status filled, status filled equal": "FILLED FILLED",
        "replaced": "PARTIALLY_FILLED REPLACED",
    },
}
# Neither was the venue's word, and neither order was ever heard of.
TABLE["never sent"] = TABLE["absent"] = {
    f"{ALIVE}, {AHEAD}, status filled equal": "NEW REVIVED",
    "fill": "PARTIALLY_FILLED REVIVED TRADE",
    "fill rest": "FILLED REVIVED TRADE",
    "fill over": "FILLED REVIVED TRADE OVERFILL",
    "canceled, canceled equal, status canceled equal": "CANCELED REVIVED CANCELED",
    MAYBE: "PENDING_CANCEL REVIVED PENDING_CANCEL",
    REFUSED: "REJECTED REVIVED REJECTED",
    "expired, status expired equal": "EXPIRED REVIVED EXPIRED",
    "replaced, status replaced": "NEW REVIVED REPLACED",
    "rejected maybe": "PENDING_NEW REVIVED",
    f"{DENIED}, {NOT_THERE}, canceled by operator, expiry passed": "=",
}


def _cells() -> Iterator[object]:
    for state, rows in TABLE.items():
        todo = [name for name in REPORTS if name != "fill again" or STATES[state]().trade_ids]
        for names, expected in rows.items():
            if names == "the rest":
                continue
            for name in (part.strip() for part in names.split(",")):
                todo.remove(name)
                yield pytest.param(state, name, expected, id=f"{state} | {name}")
        if "the rest" in rows:
            for name in todo:
                yield pytest.param(state, name, rows["the rest"], id=f"{state} | {name}")
        else:
            assert not todo, f"{state} has no row for {todo}"


def test_table_covers_every_state() -> None:
    assert TABLE.keys() == STATES.keys()


@pytest.mark.parametrize(
    ("status", "states"),
    [
        (OrdStatus.PENDING_NEW, "pending new, pending new in doubt"),
        (OrdStatus.NEW, "new, new in doubt, untriggered"),
        (OrdStatus.PARTIALLY_FILLED, "partly filled, quote sized"),
        (OrdStatus.FILLED, "filled"),
        (
            OrdStatus.PENDING_CANCEL,
            """pending cancel, pending cancel unheard, pending cancel in doubt,
            pending cancel by the venue, cancel overtook replace""",
        ),
        (
            OrdStatus.PENDING_REPLACE,
            "pending replace, pending replace in doubt, pending replace complete",
        ),
        (OrdStatus.CANCELED, "canceled, canceled partly filled, closed by operator"),
        (OrdStatus.REJECTED, "rejected, never sent, absent"),
        (OrdStatus.EXPIRED, "expired, expired unheard"),
    ],
)
def test_states_stand_where_they_should(status: OrdStatus, states: str) -> None:
    assert {name for name in STATES if STATES[name]().ord_status is status} == {
        name.strip() for name in states.split(",")
    }
    for name in states.split(","):
        assert bool(STATES[name.strip()]().in_doubt) == ("in doubt" in name)


@pytest.mark.parametrize(("state", "report", "expected"), list(_cells()))
def test_report_moves_order(state: str, report: str, expected: str) -> None:
    before = STATES[state]()
    told = REPORTS[report](before)
    if expected == "raises":
        with pytest.raises(ValueError, match="seen at the venue"):
            apply(before, told)
        return
    order, events = apply(before, told)
    if expected == "=":
        assert events == ()
        assert order is before
        return
    status, *expected_events = expected.split()
    assert (order.ord_status.value, types(events)) == (status, expected_events)
    assert events[-1].order == order
    assert order.updated_time_ns == 7
    again = apply(order, told)
    assert again == (order, ()), "seen again, it changes nothing"


# --- quantities -----------------------------------------------------------------------------------


def test_fill_moves_quantities_and_average() -> None:
    order = after(live(), a_fill("t1", "4", "100"), a_fill("t2", "2", "103"))
    assert (order.cum_qty, order.leaves_qty, order.cum_quote) == (D(6), D(4), D(606))
    assert order.avg_px == D(101)


def test_intent_has_all_of_it_open() -> None:
    order, (event,) = record_intent(an_order(leaves_qty=D(3)), request_id="r1", trace_id="x1")
    assert (order.leaves_qty, order.ord_status) == (D(10), OrdStatus.PENDING_NEW)
    assert (event.event_type, event.order, event.command) == (
        EventType.INTENT,
        order,
        CommandKind.NEW,
    )
    assert (event.request_id, event.trace_id, event.time_ns) == ("r1", "x1", 1)


def test_fill_tells_all_that_the_venue_said() -> None:
    order = live(client_order_id=ClientOrderId("c1"))
    report = a_fill(
        "t1",
        4,
        101,
        fee=D("0.1"),
        fee_asset="BNB",
        liquidity=Liquidity.MAKER,
        transact_time_ns=6,
        inferred=True,
    )
    _, (event,) = apply(order, report)
    assert event.fill == Fill(
        trade_id=TradeId("t1"),
        account=order.account,
        venue="mock",
        symbol="BTC/USDT",
        side=Side.BUY,
        last_qty=D(4),
        last_px=D(101),
        order_id=order.order_id,
        client_order_id=ClientOrderId("c1"),
        venue_order_id=VenueOrderId("v1"),
        fee=D("0.1"),
        fee_asset="BNB",
        liquidity=Liquidity.MAKER,
        inferred=True,
        transact_time_ns=6,
        received_time_ns=7,
    )


def test_untriggered_order_that_fills_was_triggered() -> None:
    assert not STATES["untriggered"]().triggered
    for report in (a_fill("t1", 1), a_report(ExecType.TRIGGERED)):
        assert after(STATES["untriggered"](), report).triggered


def test_trigger_acknowledges_too() -> None:
    unheard = doubting(an_order(triggered=False), CommandKind.NEW)
    order, events = apply(unheard, a_report(ExecType.TRIGGERED))
    assert types(events) == ["TRIGGERED", "DOUBT_RESOLVED"]
    assert (order.acknowledged, order.ord_status, order.in_doubt) == (True, OrdStatus.NEW, ())


def test_long_quantities_lose_no_digit() -> None:
    """Python's own operators round to 28 digits, and a correction is a negated quantity."""
    qty = "12345678901234567890.123456789012345678"
    order = after(an_order(order_qty=D(qty)), a_fill("i1", qty, inferred=True))
    order, events = apply(order, a_fill("t1", qty))
    assert events[0].fill is not None
    assert events[0].fill.last_qty == D(f"-{qty}")
    assert order.cum_qty == D(qty)


@pytest.mark.parametrize(
    "fields",
    [
        {"last_qty": None},
        {"last_px": None},
        {"trade_id": None},
        {"last_qty": D(0)},
        {"last_qty": D(-1)},
        {"last_qty": D("NaN")},
        {"last_qty": D("Infinity")},
        {"last_px": D("NaN")},
    ],
    ids=str,
)
@pytest.mark.parametrize("state", ["new", "filled", "absent"])
def test_unreadable_fill_is_refused(state: str, fields: dict[str, Any]) -> None:
    told: dict[str, Any] = {"trade_id": TradeId("t9"), "last_qty": D(1), "last_px": D(1)} | fields
    with pytest.raises(ValueError, match="a trade needs"):
        apply(STATES[state](), a_report(ExecType.TRADE, **told))


def test_status_without_status_is_refused() -> None:
    with pytest.raises(ValueError, match="needs ord_status"):
        apply(live(), a_report(ExecType.ORDER_STATUS))


# --- closings -------------------------------------------------------------------------------------


def test_closing_keeps_reason_evidence_and_time() -> None:
    report = a_report(
        ExecType.REJECTED,
        reason="FUNDS",
        text="not enough",
        transact_time_ns=6,
        command=CommandKind.NEW,
    )
    order, (event,) = apply(an_order(), report)
    assert (order.reason, order.text, order.closed_time_ns) == ("FUNDS", "not enough", 7)
    assert order.closed_by is EvidenceKind.VENUE_REPORT
    assert not order.acknowledged, "a refusal does not prove that the venue held it"
    assert (event.reason, event.text, event.command) == ("FUNDS", "not enough", CommandKind.NEW)
    assert (event.evidence, event.late) == (Evidence(kind=EvidenceKind.VENUE_REPORT), False)
    assert (event.time_ns, event.transact_time_ns) == (7, 6)


@pytest.mark.parametrize(
    ("kind", "acknowledged"), [(None, True), (EvidenceKind.EXPIRY_PASSED, False)]
)
def test_only_the_venues_closing_proves_that_it_held_the_order(
    kind: EvidenceKind | None, acknowledged: bool
) -> None:
    order, _ = apply(
        an_order(), a_report(ExecType.EXPIRED, kind, venue_order_id=VenueOrderId("v1"))
    )
    assert order.acknowledged is acknowledged
    assert (order.venue_order_id == "v1") is acknowledged


def test_closing_by_fills_names_the_fill_as_evidence() -> None:
    order, (event,) = apply(live(), a_fill("t1", 10))
    assert (order.closed_by, order.closed_time_ns) == (EvidenceKind.FILL, 7)
    assert event.evidence == Evidence(kind=EvidenceKind.FILL)


def test_closed_order_has_no_doubts_in_any_event() -> None:
    before = doubting(doubting(cancelling(an_order()), CommandKind.NEW), CommandKind.CANCEL)
    order, events = apply(before, a_report(ExecType.CANCELED))
    assert types(events) == ["CANCELED", "DOUBT_RESOLVED", "DOUBT_RESOLVED"]
    assert [e.command for e in events[1:]] == [CommandKind.NEW, CommandKind.CANCEL]
    assert all(e.order == order and not order.in_doubt for e in events)


def test_late_fill_completes_a_canceled_order() -> None:
    closed = after(live(), a_report(ExecType.CANCELED, reason="ASKED", text="by us"))
    order, (event,) = apply(closed, a_fill("t1", 10, received_time_ns=9))
    assert (order.ord_status, order.cum_qty, order.leaves_qty) == (OrdStatus.FILLED, D(10), D(0))
    assert (order.reason, order.text, order.closed_by) == ("", "", EvidenceKind.FILL)
    assert event.late
    assert (order.closed_time_ns, order.updated_time_ns) == (7, 9)


def test_late_fill_of_a_refused_order_is_not_hidden_behind_rejected() -> None:
    order, (event,) = apply(STATES["rejected"](), a_fill("t1", 4))
    assert (order.ord_status, order.cum_qty, order.reason) == (OrdStatus.CANCELED, D(4), "FUNDS")
    assert order.acknowledged
    assert event.late


def test_overfill_is_alarmed_again_only_when_more_comes() -> None:
    order, events = apply(live(), a_fill("t1", 12))
    assert types(events) == ["TRADE", "OVERFILL"]
    assert (order.cum_qty, order.leaves_qty, order.ord_status) == (D(12), D(0), OrdStatus.FILLED)
    order, events = apply(order, a_fill("t2", 1))
    assert types(events) == ["TRADE", "OVERFILL"]
    assert order.cum_qty == D(13)


@pytest.mark.parametrize("shown", [D(12), None])
def test_an_order_that_is_complete_beyond_its_size_was_raised(shown: D | None) -> None:
    """The answer of the replace that raised it is slower than the fill. No alarm: the venue was asked to."""
    asked, _ = ask_replace(live(), ReplaceTerms(order_qty=D(12), price=D(99)), time_ns=6)
    filled = a_fill("t1", 12, ord_status=OrdStatus.FILLED, cum_qty=D(12), order_qty=shown)
    order, events = apply(asked, filled)
    assert types(events) == ["TRADE", "REPLACED"]
    assert (order.order_qty, order.cum_qty, order.ord_status) == (D(12), D(12), OrdStatus.FILLED)
    assert order.price == D(99)
    assert order.pending_terms is None


def test_a_query_tells_that_an_order_was_raised_and_is_complete() -> None:
    """Venues whose orders show no size."""
    asked, _ = ask_replace(live(), ReplaceTerms(order_qty=D(12)), time_ns=6)
    filled = after(asked, a_fill("t1", 12))
    order, events = apply(filled, a_status(OrdStatus.FILLED, cum_qty=D(12)))
    assert types(events) == ["REPLACED"]
    assert (order.order_qty, order.ord_status) == (D(12), OrdStatus.FILLED)


def test_an_order_that_is_complete_below_its_size_was_lowered() -> None:
    asked, _ = ask_replace(live(), ReplaceTerms(order_qty=D(5)), time_ns=6)
    order, events = apply(asked, a_fill("t1", 5, ord_status=OrdStatus.FILLED, cum_qty=D(5)))
    assert types(events) == ["TRADE", "REPLACED"]
    assert (order.order_qty, order.cum_qty, order.ord_status) == (D(5), D(5), OrdStatus.FILLED)


def test_a_query_tells_under_which_terms_an_order_ended() -> None:
    """Its fills were applied first, and have closed the order."""
    asked, _ = ask_replace(live(), ReplaceTerms(price=D(101)), time_ns=6)
    filled = after(asked, a_fill("t1", 10, 101))
    assert (filled.ord_status, filled.price) == (OrdStatus.FILLED, D(100))
    told = a_status(OrdStatus.FILLED, cum_qty=D(10), order_qty=D(10), price=D(101))
    order, events = apply(filled, told)
    assert [(e.event_type, e.late) for e in events] == [(EventType.REPLACED, True)]
    assert (order.price, order.pending_terms) == (D(101), None)
    assert apply(filled, dataclasses.replace(told, price=D(100))) == (filled, ())


def test_terms_that_an_order_has_anyway_do_not_tell_of_its_replace() -> None:
    asked, _ = ask_replace(live(), ReplaceTerms(order_qty=D(10)), time_ns=6)
    filled = after(asked, a_fill("t1", 10))
    assert apply(filled, a_status(OrdStatus.FILLED, order_qty=D(10))) == (filled, ())


def test_an_order_that_is_filled_beyond_what_was_asked_is_alarmed() -> None:
    asked, _ = ask_replace(live(), ReplaceTerms(order_qty=D(12)), time_ns=6)
    filled = a_fill("t1", 13, ord_status=OrdStatus.FILLED, cum_qty=D(13))
    order, events = apply(asked, filled)
    assert types(events) == ["TRADE", "FILLED", "OVERFILL"]
    assert (order.order_qty, order.cum_qty) == (D(10), D(13))


def test_the_late_answer_of_a_replace_explains_what_was_filled() -> None:
    asked, _ = ask_replace(live(), ReplaceTerms(order_qty=D(12)), time_ns=6)
    closed = after(asked, a_fill("t1", 6), a_report(ExecType.CANCELED))
    filled = after(closed, a_fill("t2", 6))
    assert (filled.ord_status, filled.order_qty) == (OrdStatus.FILLED, D(10))
    answer = a_report(ExecType.REPLACED, command=CommandKind.REPLACE, order_qty=D(12))
    order, events = apply(filled, answer)
    assert types(events) == ["REPLACED"]
    assert (order.order_qty, order.cum_qty) == (D(12), D(12))


def test_acknowledged_order_cannot_be_absent() -> None:
    for kind in (EvidenceKind.ABSENT_AFTER_EXPIRY, EvidenceKind.NOT_SENT):
        with pytest.raises(ValueError, match="seen at the venue"):
            apply(live(), a_report(ExecType.REJECTED, kind))


def test_revival_makes_it_open_again_and_says_so() -> None:
    for state in ("absent", "never sent", "closed by operator"):
        order, events = apply(STATES[state](), ACK)
        assert types(events) == ["REVIVED"]
        assert not events[0].late, "it had not closed for good"
        assert order.is_open
        assert order.acknowledged
        assert (order.closed_by, order.closed_time_ns, order.reason) == (None, None, "")
        assert order.cum_qty + order.leaves_qty == D(10)
        assert order.venue_order_id == "v1"


def test_resent_order_revives_too() -> None:
    """The venue's answer to a resend is the venue's word."""
    report = a_report(ExecType.NEW, EvidenceKind.IDEMPOTENT_RESEND)
    assert types(apply(STATES["absent"](), report)[1]) == ["REVIVED"]


def test_late_refusal_does_not_claim_that_the_order_was_there() -> None:
    order, events = apply(STATES["absent"](), a_report(ExecType.REJECTED, reason="FUNDS"))
    assert types(events) == ["REVIVED", "REJECTED"]
    assert not order.acknowledged
    assert (order.closed_by, order.reason) == (EvidenceKind.VENUE_REPORT, "FUNDS")


def test_revived_order_that_is_complete_is_filled() -> None:
    """An operator closed it while a replace that raises it was pending."""
    closed = after(
        STATES["pending replace complete"](), a_report(ExecType.CANCELED, EvidenceKind.OPERATOR)
    )
    for report in (ACK, a_report(ExecType.TRIGGERED), a_status(OrdStatus.NEW)):
        order, events = apply(closed, report)
        assert types(events) == ["REVIVED"]
        assert (order.ord_status, order.closed_by) == (OrdStatus.FILLED, EvidenceKind.FILL)
    order, events = apply(closed, a_fill("t9", 1))
    assert types(events) == ["REVIVED", "TRADE", "OVERFILL"]
    assert [e.late for e in events] == [False, True, True]


def test_an_operator_cannot_acknowledge_by_closing_too_early() -> None:
    """Fills are missing: the order stays as it is, and the operator's word proves no presence."""
    report = a_status(
        OrdStatus.FILLED, evidence=Evidence(kind=EvidenceKind.OPERATOR), cum_qty=D(10)
    )
    assert apply(an_order(), report)[1] == ()


def test_status_that_is_not_final_does_not_fill() -> None:
    assert apply(part(), a_status(OrdStatus.FILLED, cum_qty=D(4), final=False))[1] == ()


def test_venue_order_id_is_learned_once_and_kept() -> None:
    heard = after(an_order(), a_fill("t1", 1))
    assert heard.venue_order_id is None
    order, events = apply(heard, ACK)
    assert (types(events), order.venue_order_id) == (["NEW"], "v1")
    assert order.ord_status is OrdStatus.PARTIALLY_FILLED
    other = a_report(ExecType.NEW, venue_order_id=VenueOrderId("v2"))
    assert apply(order, other) == (order, ())


# --- missing fills --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "report", "expected"),
    [
        pytest.param(part(), a_status(OrdStatus.NEW, cum_qty=D(4)), False, id="as many"),
        pytest.param(part(), a_status(OrdStatus.NEW, cum_qty=D(5)), True, id="more"),
        pytest.param(part(), a_status(OrdStatus.NEW, cum_qty=D(3)), False, id="an old count"),
        pytest.param(part(), a_status(OrdStatus.NEW), False, id="no count"),
        pytest.param(part(), a_fill("t2", 1, cum_qty=D(5)), False, id="a fill and itself"),
        pytest.param(part(), a_fill("t2", 1, cum_qty=D(6)), True, id="a fill and another"),
        pytest.param(part(), a_fill("t1", 4, cum_qty=D(4)), False, id="a replay"),
        pytest.param(part(), a_fill("t1", 4, cum_qty=D(5)), True, id="a replay and another"),
        pytest.param(part(), a_status(OrdStatus.FILLED), True, id="filled, by the size"),
        pytest.param(
            part(),
            a_status(OrdStatus.FILLED, order_qty=D(4)),
            False,
            id="filled, of a lowered size",
        ),
        pytest.param(
            live(), a_status(OrdStatus.FILLED, cum_qty=D(0)), True, id="filled of nothing"
        ),
        pytest.param(
            after(live(), a_fill("i1", 4, inferred=True)),
            a_fill("t1", 4, cum_qty=D(4)),
            False,
            id="a real fill of the inferred",
        ),
        pytest.param(
            after(live(), a_fill("i1", 4, inferred=True)),
            a_fill("t2", 4, cum_qty=D(8)),
            True,
            id="a real fill of another: the inferred one is consumed, and not replaced",
        ),
        pytest.param(
            STATES["quote sized"](), a_status(OrdStatus.FILLED), False, id="quote-sized, no count"
        ),
        pytest.param(
            STATES["quote sized"](),
            a_status(OrdStatus.FILLED, cum_qty=D(5)),
            True,
            id="quote-sized, more",
        ),
        pytest.param(
            STATES["canceled"](), a_status(OrdStatus.CANCELED, cum_qty=D(1)), True, id="closed"
        ),
    ],
)
def test_is_missing_fills(order: Order, report: ExecutionReport, expected: bool) -> None:
    assert is_missing_fills(order, report) is expected


def test_closing_ahead_closes_once_the_fills_are_there() -> None:
    told = a_report(ExecType.CANCELED, cum_qty=D(5))
    order, events = apply(part(), told)
    assert events == ()
    order, _ = apply(order, a_fill("t2", 1))
    order, events = apply(order, told)
    assert types(events) == ["CANCELED"]
    assert (order.cum_qty, order.ord_status) == (D(5), OrdStatus.CANCELED)


# --- inferred fills -------------------------------------------------------------------------------


def _moved(events: tuple[OrderEvent, ...]) -> list[tuple[str, D, D]]:
    return [
        (e.event_type.value, e.fill.last_qty, e.fill.last_px) for e in events if e.fill is not None
    ]


INFERRED = a_fill("i1", 5, 100, inferred=True)


def test_real_fill_replaces_the_inferred_exactly() -> None:
    order, events = apply(
        after(live(), INFERRED), a_fill("t1", 5, 102, fee=D("0.1"), fee_asset="BNB")
    )
    assert _moved(events) == [("TRADE_CORRECT", D(-5), D(100)), ("TRADE", D(5), D(102))]
    assert (order.cum_qty, order.avg_px, order.inferred) == (D(5), D(102), ())
    correction, trade = (e.fill for e in events)
    assert correction is not None
    assert trade is not None
    assert (correction.corrects, correction.inferred) == ("i1", True)
    assert (correction.fee, correction.fee_asset) == (None, None)
    assert (trade.corrects, trade.inferred, trade.fee) == (None, False, D("0.1"))
    assert correction.trade_id not in ("i1", "t1")
    between = events[0].order
    assert between is not None
    assert (between.cum_qty, between.leaves_qty, between.avg_px) == (D(0), D(10), None)
    assert between.ord_status is OrdStatus.NEW
    assert not any(e.late for e in events)


def test_smaller_real_fills_consume_it_bit_by_bit() -> None:
    order = after(live(), INFERRED)
    order, events = apply(order, a_fill("t1", 2, 101))
    assert _moved(events) == [("TRADE_CORRECT", D(-2), D(100)), ("TRADE", D(2), D(101))]
    assert (order.cum_qty, order.inferred) == (D(5), (("i1", D(3), D(100)),))
    order, events = apply(order, a_fill("t2", 3, 102))
    assert _moved(events) == [("TRADE_CORRECT", D(-3), D(100)), ("TRADE", D(3), D(102))]
    assert (order.cum_qty, order.inferred, order.avg_px) == (D(5), (), D("101.6"))
    for replay in (INFERRED, a_fill("t1", 2, 101), a_fill("t2", 3, 102)):
        assert apply(order, replay) == (order, ())


def test_larger_real_fill_adds_the_difference() -> None:
    order, events = apply(after(live(), INFERRED), a_fill("t1", 7, 102))
    assert _moved(events) == [("TRADE_CORRECT", D(-5), D(100)), ("TRADE", D(7), D(102))]
    assert (order.cum_qty, order.avg_px) == (D(7), D(102))


def test_one_real_fill_consumes_several_inferred_oldest_first() -> None:
    order = after(live(), a_fill("i1", 2, 100, inferred=True), a_fill("i2", 4, 101, inferred=True))
    order, events = apply(order, a_fill("t1", 5, 102))
    assert _moved(events) == [
        ("TRADE_CORRECT", D(-2), D(100)),
        ("TRADE_CORRECT", D(-3), D(101)),
        ("TRADE", D(5), D(102)),
    ]
    assert (order.cum_qty, order.inferred) == (D(6), (("i2", D(1), D(101)),))


def test_real_fill_after_an_inferred_close_moves_nothing_and_stays_filled() -> None:
    order = after(live(), a_fill("i1", 10, 100, inferred=True))
    assert order.ord_status is OrdStatus.FILLED
    order, events = apply(order, a_fill("t1", 4, 103))
    assert types(events) == ["TRADE_CORRECT", "TRADE"]
    assert all(e.late for e in events)
    assert (order.cum_qty, order.ord_status, order.leaves_qty) == (D(10), OrdStatus.FILLED, D(0))
    assert order.avg_px == D("101.2")


def test_overfill_known_by_inference_is_not_alarmed_again() -> None:
    order, events = apply(live(), a_fill("i1", 12, inferred=True))
    assert types(events) == ["TRADE", "OVERFILL"]
    order, events = apply(order, a_fill("t1", 12))
    assert types(events) == ["TRADE_CORRECT", "TRADE"]


def test_inference_from_a_count_that_moved_counts_nothing_twice() -> None:
    """The real fill came while the engine inferred it."""
    order = after(live(), a_fill("t1", 5))
    stale = a_fill("i1", 5, inferred=True, cum_qty=D(5))
    assert apply(order, stale) == (order, ())
    fresh = a_fill("i2", 2, inferred=True, cum_qty=D(7))
    assert apply(order, fresh)[0].cum_qty == D(7)


# --- cancel and replace ---------------------------------------------------------------------------


def test_cancel_overtakes_replace_and_each_is_answered() -> None:
    order = STATES["cancel overtook replace"]()
    assert (order.pending, order.pending_terms) == (CommandKind.CANCEL, RAISED)
    order, events = apply(order, REPORTS["replaced"](order))
    assert types(events) == ["REPLACED"]
    assert (order.order_qty, order.pending, order.pending_terms) == (
        D(20),
        CommandKind.CANCEL,
        None,
    )
    order, _ = apply(order, a_report(ExecType.CANCEL_REJECTED))
    assert (order.ord_status, order.pending) == (OrdStatus.NEW, None)


def test_refused_cancel_returns_to_the_replace_that_it_overtook() -> None:
    order, _ = apply(STATES["cancel overtook replace"](), a_report(ExecType.CANCEL_REJECTED))
    assert (order.pending, order.pending_terms) == (CommandKind.REPLACE, RAISED)


def test_an_order_that_ends_with_the_terms_of_an_unanswered_replace_has_them() -> None:
    order = replacing(live(), ReplaceTerms(price=D(99)))
    told = {"price": D(99), "order_qty": order.order_qty}
    ended, events = apply(order, a_report(ExecType.CANCELED, **told))
    assert types(events) == ["REPLACED", "CANCELED"]
    assert (ended.ord_status, ended.price) == (OrdStatus.CANCELED, D(99))
    ended, events = apply(order, a_report(ExecType.CANCELED, price=order.price))
    assert types(events) == ["CANCELED"]
    assert ended.price == order.price


ANSWER = CommandKind.REPLACE


def test_late_answer_of_a_replace_tells_under_which_terms_the_order_ended() -> None:
    asked = replacing(live(), ReplaceTerms(price=D(99)))
    filled = after(asked, a_fill("t1", 10, 99))
    assert (filled.ord_status, filled.price) == (OrdStatus.FILLED, live().price)
    told, events = apply(filled, a_report(ExecType.REPLACED, command=ANSWER, price=D(99)))
    assert [(e.event_type, e.late) for e in events] == [(EventType.REPLACED, True)]
    assert (told.ord_status, told.price, told.pending_terms) == (OrdStatus.FILLED, D(99), None)
    again = a_report(ExecType.REPLACED, command=ANSWER, price=D(99))
    assert apply(told, again) == (told, ())


def test_what_is_no_answer_to_the_last_replace_changes_no_closed_order() -> None:
    """An earlier replace's answer, the stream's replay of one, and one that nobody here asked for."""
    asked = after(replacing(live(), ReplaceTerms(price=D(99))), a_fill("t1", 10, 99))
    for order, report in (
        (asked, a_report(ExecType.REPLACED, command=ANSWER, price=D(98))),
        (asked, a_report(ExecType.REPLACED, price=D(99))),
        (after(live(), a_fill("t1", 10)), a_report(ExecType.REPLACED, command=ANSWER, price=D(99))),
    ):
        assert apply(order, report) == (order, ())


def test_late_answer_of_a_replace_makes_no_order_smaller_than_its_fills() -> None:
    order = after(
        replacing(live(), ReplaceTerms(order_qty=D(20))),
        a_fill("t1", 4),
        a_report(ExecType.CANCELED, cum_qty=D(4)),
    )
    for told, expected in ((D(20), D(20)), (D(4), D(4)), (D(3), D(10))):
        answer = a_report(ExecType.REPLACED, command=ANSWER, order_qty=told)
        terms = ReplaceTerms(order_qty=told)
        ended, events = apply(dataclasses.replace(order, pending_terms=terms), answer)
        assert types(events) == ["REPLACED"]
        assert (ended.order_qty, ended.cum_qty, ended.leaves_qty) == (expected, D(4), D(0))


def test_late_fill_beyond_a_closed_order_is_an_alarm_whatever_its_last_replace_asked() -> None:
    order = after(replacing(live(), ReplaceTerms(order_qty=D(20))), a_report(ExecType.CANCELED))
    _, events = apply(order, a_fill("t1", 12))
    assert types(events) == ["TRADE", "OVERFILL"]


def test_absence_forgets_the_replace_that_was_pending() -> None:
    """Should the order turn up after all, nothing is pending."""
    order = dataclasses.replace(STATES["pending replace"](), acknowledged=False)
    gone, _ = apply(order, a_report(ExecType.REJECTED, EvidenceKind.ABSENT_AFTER_EXPIRY))
    assert (gone.is_open, gone.pending_terms) == (False, None)


def test_a_refusal_with_the_venues_own_name_for_the_order_proves_that_it_held_it() -> None:
    order = STATES["pending new"]()
    refused, _ = apply(order, a_report(ExecType.REJECTED))
    assert not refused.acknowledged
    held, _ = apply(order, a_report(ExecType.REJECTED, venue_order_id=VenueOrderId("v9")))
    assert (held.ord_status, held.acknowledged) == (OrdStatus.REJECTED, True)


def test_cancel_that_waits_here_goes_on_waiting_when_the_replace_it_overtook_is_refused() -> None:
    order, _ = ask_cancel(STATES["pending replace"](), time_ns=1, queued=True, why="throttled")
    order, events = apply(order, a_report(ExecType.REPLACE_REJECTED))
    assert types(events) == ["REPLACE_REJECTED"]
    assert (order.queued_command, order.pending_terms) == (CommandKind.CANCEL, None)
    order, _ = apply(order, a_report(ExecType.CANCEL_REJECTED))
    assert (order.queued_command, order.pending) == (None, None)


def test_raising_replace_keeps_a_complete_order_open_until_it_is_answered() -> None:
    order = STATES["pending replace complete"]()
    assert (order.ord_status, order.leaves_qty) == (OrdStatus.PENDING_REPLACE, D(0))
    raised, events = apply(order, a_report(ExecType.REPLACED, order_qty=D(20), price=D(101)))
    assert types(events) == ["REPLACED"]
    assert (raised.leaves_qty, raised.price) == (D(10), D(101))
    refused, events = apply(order, a_report(ExecType.REPLACE_REJECTED))
    assert types(events) == ["REPLACE_REJECTED"]
    assert (refused.ord_status, refused.pending_terms) == (OrdStatus.FILLED, None)


def test_replace_that_does_not_raise_keeps_nothing_open() -> None:
    for terms in (ReplaceTerms(price=D(99)), ReplaceTerms(order_qty=D(10), price=D(99))):
        order, events = apply(replacing(live(), terms), a_fill("t1", 10))
        assert (types(events), order.ord_status) == (["TRADE"], OrdStatus.FILLED)


def test_fill_beyond_a_pending_raise_is_an_overfill_only_if_the_raise_is_refused() -> None:
    order, events = apply(STATES["pending replace"](), a_fill("t2", 8))
    assert types(events) == ["TRADE"]
    assert (order.cum_qty, order.leaves_qty) == (D(12), D(0))
    raised = after(order, a_report(ExecType.REPLACED))
    assert (raised.order_qty, raised.leaves_qty) == (D(20), D(8))
    refused, events = apply(order, a_report(ExecType.REPLACE_REJECTED))
    assert types(events) == ["REPLACE_REJECTED", "OVERFILL"]
    assert refused.ord_status is OrdStatus.FILLED


def test_lowering_replace_completes() -> None:
    order = replacing(part(), ReplaceTerms(order_qty=D(4)))
    order, events = apply(order, a_report(ExecType.REPLACED, order_qty=D(4)))
    assert types(events) == ["REPLACED"]
    assert (order.ord_status, order.order_qty) == (OrdStatus.FILLED, D(4))


def test_earlier_replace_seen_again_does_not_answer_the_next() -> None:
    first = a_report(ExecType.REPLACED, order_qty=D(20), price=D(101))
    order = after(STATES["pending replace"](), first)
    order = replacing(order, ReplaceTerms(order_qty=D(30)))
    assert apply(order, first) == (order, ())
    order = after(order, a_report(ExecType.REPLACED, order_qty=D(30)))
    assert (order.order_qty, order.pending) == (D(30), None)
    shrunk, _ = apply(order, first)
    assert shrunk.order_qty == D(30), "seen again, it does not shrink a live order"


@pytest.mark.parametrize(
    ("told", "cum_qty", "expected"),
    [
        pytest.param(a_status(OrdStatus.NEW, order_qty=D(6)), 4, 10, id="a query may be old"),
        pytest.param(
            a_status(OrdStatus.NEW, order_qty=D(6), terms_final=True), 4, 6, id="the latest shrink"
        ),
        pytest.param(
            a_status(OrdStatus.NEW, order_qty=D(12), terms_final=True), 4, 12, id="the latest grow"
        ),
        pytest.param(
            a_status(OrdStatus.NEW, order_qty=D(4), terms_final=True),
            4,
            10,
            id="never to what is filled, which would close a live order",
        ),
        pytest.param(
            a_status(OrdStatus.NEW, order_qty=D(3), terms_final=True), 4, 10, id="nor below it"
        ),
    ],
)
def test_latest_terms_are_the_venues(told: ExecutionReport, cum_qty: int, expected: int) -> None:
    order, events = apply(part(), told)
    assert (order.order_qty, order.cum_qty) == (D(expected), D(cum_qty))
    assert order.leaves_qty == D(expected - cum_qty)
    assert types(events) == ([] if expected == 10 else ["REPLACED"])


def test_latest_terms_do_not_answer_a_pending_replace() -> None:
    order = STATES["pending replace"]()
    assert apply(order, a_status(OrdStatus.NEW, order_qty=D(9), terms_final=True)) == (order, ())


def test_a_triggered_stop_has_the_terms_of_the_venue_as_well() -> None:
    stop = STATES["untriggered"]()
    told = a_status(OrdStatus.NEW, triggered=True, order_qty=D(6), terms_final=True)
    order, events = apply(stop, told)
    assert types(events) == ["TRIGGERED", "REPLACED"]
    assert (order.triggered, order.order_qty) == (True, D(6))


def test_earlier_replace_seen_again_still_proves_that_the_venue_holds_the_order() -> None:
    order = replacing(an_order(), ReplaceTerms(order_qty=D(30)))
    order, events = apply(order, a_report(ExecType.REPLACED, order_qty=D(20)))
    assert (types(events), order.order_qty, order.acknowledged) == (["NEW"], D(10), True)


@pytest.mark.parametrize(
    "report",
    [
        a_report(ExecType.REPLACED, trigger_price=D(98)),
        a_report(ExecType.REPLACED),
        a_status(OrdStatus.NEW, trigger_price=D(98)),
    ],
)
def test_trigger_can_be_replaced_alone(report: ExecutionReport) -> None:
    stop = replacing(STATES["untriggered"](), ReplaceTerms(trigger_price=D(98)))
    order, events = apply(stop, report)
    assert types(events) == ["REPLACED"]
    assert (order.trigger_price, order.price, order.order_qty) == (D(98), D(100), D(10))
    assert not order.triggered


def test_the_answer_to_a_replace_rules_even_with_other_terms() -> None:
    """Only its own answer says so; on the stream it would be an earlier replace, seen again."""
    answer = a_report(ExecType.REPLACED, order_qty=D(19), command=CommandKind.REPLACE)
    order = after(STATES["pending replace"](), answer)
    assert (order.order_qty, order.pending) == (D(19), None)


def test_somebody_elses_order_is_as_its_owner_amends_it() -> None:
    order = live(origin=Origin.EXTERNAL)
    order = after(order, a_report(ExecType.REPLACED, order_qty=D(5), price=D(99)))
    assert (order.order_qty, order.leaves_qty, order.price) == (D(5), D(5), D(99))


def test_replaced_order_may_have_another_id() -> None:
    report = a_report(ExecType.REPLACED, venue_order_id=VenueOrderId("v2"))
    order = after(STATES["pending replace"](), report)
    assert order.venue_order_id == "v2"
    old = a_fill("t5", 1, venue_order_id=VenueOrderId("v1"))
    order, (event,) = apply(order, old)
    assert event.fill is not None
    assert (event.fill.venue_order_id, order.venue_order_id) == ("v1", "v2")


def test_query_that_shows_the_new_terms_and_the_end_tells_both() -> None:
    report = a_status(OrdStatus.CANCELED, order_qty=D(20), price=D(101), cum_qty=D(4))
    order, events = apply(STATES["pending replace in doubt"](), report)
    assert types(events) == ["REPLACED", "DOUBT_RESOLVED", "CANCELED"]
    assert (order.order_qty, order.ord_status) == (D(20), OrdStatus.CANCELED)


def test_query_that_shows_lower_terms_fills_the_order_and_no_end_follows() -> None:
    order = replacing(part(), ReplaceTerms(order_qty=D(4)))
    order, events = apply(order, a_status(OrdStatus.CANCELED, order_qty=D(4), cum_qty=D(4)))
    assert (types(events), order.ord_status) == (["REPLACED"], OrdStatus.FILLED)


def test_query_that_shows_some_of_the_terms_settles_nothing() -> None:
    order = STATES["pending replace"]()
    assert apply(order, a_status(OrdStatus.NEW, order_qty=D(20))) == (order, ())


def test_cancel_refused_as_never_sent_says_nothing_of_the_order() -> None:
    report = a_report(ExecType.CANCEL_REJECTED, EvidenceKind.NOT_SENT)
    order, (event,) = apply(STATES["pending cancel"](), report)
    assert (order.ord_status, event.evidence) == (
        OrdStatus.NEW,
        Evidence(kind=EvidenceKind.NOT_SENT),
    )


# --- what we do -----------------------------------------------------------------------------------


def test_asking_is_told() -> None:
    order, (event,) = ask_cancel(part(), time_ns=4, request_id="r1", trace_id="x1")
    assert (event.event_type, event.command, event.order) == (
        EventType.PENDING_CANCEL,
        CommandKind.CANCEL,
        order,
    )
    assert (event.request_id, event.trace_id, order.updated_time_ns) == ("r1", "x1", 4)
    assert not event.late
    order, (event,) = ask_replace(part(), RAISED, time_ns=4, request_id="r1", trace_id="x1")
    assert (event.event_type, event.command, event.order) == (
        EventType.PENDING_REPLACE,
        CommandKind.REPLACE,
        order,
    )
    assert (event.request_id, event.trace_id, order.updated_time_ns) == ("r1", "x1", 4)
    assert (order.ord_status, order.pending_terms) == (OrdStatus.PENDING_REPLACE, RAISED)
    order, (event,) = put_in_doubt(
        part(), CommandKind.NEW, why="reset", time_ns=5, request_id="r1", trace_id="x1"
    )
    assert (event.request_id, event.trace_id, order.updated_time_ns) == ("r1", "x1", 5)


@pytest.mark.parametrize("state", [name for name in STATES if not STATES[name]().is_open])
def test_closed_order_takes_no_command(state: str) -> None:
    order = STATES[state]()
    with pytest.raises(ValueError, match="is closed"):
        ask_cancel(order, time_ns=4)
    with pytest.raises(ValueError, match=order.ord_status.value):
        ask_replace(order, RAISED, time_ns=4)
    for command in CommandKind:
        assert put_in_doubt(order, command, why="", time_ns=4) == (order, ())


def test_replace_waits_for_what_is_pending() -> None:
    for state in ("pending cancel", "pending replace", "cancel overtook replace"):
        with pytest.raises(ValueError, match="pending"):
            ask_replace(STATES[state](), RAISED, time_ns=4)


def test_doubts_stand_beside_the_status() -> None:
    order, (event,) = put_in_doubt(an_order(), CommandKind.NEW, why="timeout", time_ns=5)
    assert (event.event_type, event.text, event.order) == (
        EventType.SENT_UNANSWERED,
        "timeout",
        order,
    )
    assert (order.ord_status, order.in_doubt[0].since_ns) == (OrdStatus.PENDING_NEW, 5)
    assert put_in_doubt(order, CommandKind.NEW, why="again", time_ns=6) == (order, ())
    order, _ = put_in_doubt(cancelling(order), CommandKind.CANCEL, why="", time_ns=6)
    assert [d.command for d in order.in_doubt] == [CommandKind.NEW, CommandKind.CANCEL]
    order = after(order, ACK)
    assert [d.command for d in order.in_doubt] == [CommandKind.CANCEL]


def test_replace_that_was_answered_cannot_fall_in_doubt() -> None:
    order = after(STATES["pending replace"](), a_report(ExecType.REPLACED))
    assert put_in_doubt(order, CommandKind.REPLACE, why="timeout", time_ns=5) == (order, ())


# --- quote-sized market orders --------------------------------------------------------------------


def test_quote_sized_order_closes_by_its_last_fill() -> None:
    order = STATES["quote sized"]()
    assert (order.leaves_qty, order.ord_status) == (D(0), OrdStatus.PARTIALLY_FILLED)
    last = a_fill("t2", 6, cum_qty=D(10), ord_status=OrdStatus.FILLED)
    order, events = apply(order, last)
    assert types(events) == ["TRADE", "FILLED"]
    assert (order.ord_status, order.cum_qty) == (OrdStatus.FILLED, D(10))


def test_quote_sized_order_waits_for_the_fills_before_its_last() -> None:
    last = a_fill("t2", 6, cum_qty=D(10), ord_status=OrdStatus.FILLED)
    order = after(live(order_qty=None, quote_qty=D(1000), ord_type=OrdType.MARKET), last)
    assert order.is_open
    order = after(order, a_fill("t1", 4, cum_qty=D(4), ord_status=OrdStatus.PARTIALLY_FILLED))
    assert order.is_open
    order, events = apply(order, a_status(OrdStatus.FILLED, cum_qty=D(10)))
    assert types(events) == ["FILLED"]
