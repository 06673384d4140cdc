"""Whatever comes, in whatever order: what must always hold of an order and its events.

Two claims are tested. The invariants (`check`) hold after each step, also for reports that no honest venue
would send. And for one consistent history of a venue, the end is the same in any order of delivery and with
any repetition, provided that

- every report of the history is delivered at least once, and a query of the final state comes last, as
  reconciliation asks it: a closing that overtakes fills closes nothing, so somebody has to ask again;
- closing reports carry the venue's count (`cum_qty`), so that one that overtakes fills can be told;
- there is at most one replace, asked before its answer arrives: a second one's answers are told from the
  first one's by their terms while it is pending (tests/unit/test_lifecycle.py), and not afterwards.

The end is compared in status, quantities, average and fills. How it came about, and what `text` says, differ.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from hypothesis import event, given
from hypothesis import strategies as st

from tradegw.model import (
    AccountName,
    CommandKind,
    EventType,
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    Order,
    OrderEvent,
    OrderId,
    OrdStatus,
    OrdType,
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

STEP = Decimal("0.001")
PRICES = st.integers(1, 10**9).map(lambda ticks: ticks * Decimal("0.01"))
QUANTITIES = st.integers(1, 20).map(lambda steps: steps * STEP)
Outcome = tuple[Order, tuple[OrderEvent, ...]]
ALL_FIELDS = tuple(f.name for f in fields(Order))


def a_new_order(order_qty: Decimal | None, *, triggered: bool = True) -> Order:
    order = Order(
        order_id=OrderId(UUID(int=1)),
        account=AccountName("paper"),
        venue="mock",
        symbol="BTC/USDT",
        side=Side.SELL,
        ord_type=OrdType.LIMIT,
        time_in_force=TimeInForce.GTC,
        order_qty=order_qty,
        quote_qty=Decimal(1000) if order_qty is None else None,
        price=Decimal(100),
        triggered=triggered,
    )
    return record_intent(order)[0]


def all_of(order: Order) -> tuple[object, ...]:
    """Every field, those that `==` leaves out included."""
    return tuple(getattr(order, name) for name in ALL_FIELDS)


@dataclass
class Fold:
    """What a reader of the events knows."""

    qty: Fraction = Fraction(0)
    quote: Fraction = Fraction(0)

    def read(self, events: tuple[OrderEvent, ...]) -> None:
        for told in events:
            assert (told.fill is not None) == (
                told.event_type in (EventType.TRADE, EventType.TRADE_CORRECT)
            )
            if told.fill is not None:
                self.qty += Fraction(told.fill.last_qty)
                self.quote += Fraction(told.fill.last_qty) * Fraction(told.fill.last_px)
                assert told.order is not None
                assert Fraction(told.order.cum_qty) == self.qty


def check(before: Order, outcome: Outcome, fold: Fold) -> Order:
    """Assert what holds after each step, and return the order."""
    order, events = outcome
    if all_of(order) == all_of(before):
        # A cancel may be asked for again, and that is told.
        assert all(told.event_type is EventType.PENDING_CANCEL for told in events)
    else:
        assert events
    if events:
        last = events[-1].order
        assert last is not None
        assert all_of(last) == all_of(order)
    fold.read(events)
    assert Fraction(order.cum_qty) == fold.qty
    assert order.cum_qty >= before.cum_qty
    if order.cum_qty:
        exact = fold.quote / fold.qty
        assert order.avg_px is not None
        assert abs(Fraction(order.avg_px) - exact) <= Fraction(1, 2 * 10**18)
    else:
        assert order.avg_px is None
    for told in events:
        assert told.order is not None
        if told.event_type is not EventType.TRADE_CORRECT:
            # Between a correction and its trade, which are stored together, quantity is missing.
            check_standing(told.order)
        assert told.order.updated_time_ns == told.time_ns
    return order


def check_standing(order: Order) -> None:
    status = order.ord_status
    if not order.is_open:
        assert order.leaves_qty == 0
        assert (order.pending, order.in_doubt) == (None, ())
        assert order.closed_by is not None
        assert not order.closed_by.is_revisable or order.pending_terms is None
        assert order.closed_time_ns is not None
    else:
        assert (order.closed_by, order.closed_time_ns) == (None, None)
        raised = order.pending_terms.order_qty if order.pending_terms is not None else None
        if order.order_qty is None or (raised is not None and order.cum_qty > order.order_qty):
            assert order.leaves_qty == 0
        else:
            assert order.cum_qty + order.leaves_qty == order.order_qty
        assert (order.pending is CommandKind.CANCEL) == (status is OrdStatus.PENDING_CANCEL)
        assert (order.pending is CommandKind.REPLACE) == (status is OrdStatus.PENDING_REPLACE)
        assert order.pending is not None or order.pending_terms is None
        if order.pending is None and order.order_qty is not None:
            assert order.cum_qty < order.order_qty
    if status in (OrdStatus.PENDING_NEW, OrdStatus.NEW, OrdStatus.REJECTED):
        assert order.cum_qty == 0
    if status in (OrdStatus.PARTIALLY_FILLED, OrdStatus.FILLED):
        assert order.cum_qty > 0
    if status in (OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED):
        assert order.acknowledged
    assert len({doubt.command for doubt in order.in_doubt}) == len(order.in_doubt)
    assert sum((left for _, left, _ in order.inferred), Decimal(0)) <= order.cum_qty


# --- anything at all ------------------------------------------------------------------------------

MAYBE_QTY = st.none() | QUANTITIES
REPORTS = st.builds(
    ExecutionReport,
    exec_type=st.sampled_from([e for e in ExecType if e is not ExecType.TRADE]),
    ord_status=st.none() | st.sampled_from(OrdStatus),
    venue_order_id=st.none() | st.sampled_from(["v1", "v2"]).map(VenueOrderId),
    command=st.none() | st.sampled_from(CommandKind),
    cum_qty=MAYBE_QTY,
    order_qty=MAYBE_QTY,
    price=st.none() | PRICES,
    triggered=st.none() | st.booleans(),
    final=st.booleans(),
    reason=st.sampled_from(["", "FUNDS"]),
    evidence=st.none() | st.builds(Evidence, kind=st.sampled_from(EvidenceKind)),
    received_time_ns=st.integers(1, 9),
)
FILLS = st.builds(
    ExecutionReport,
    exec_type=st.just(ExecType.TRADE),
    ord_status=st.none() | st.sampled_from(OrdStatus),
    trade_id=st.sampled_from("abcdefgh").map(TradeId),
    last_qty=QUANTITIES,
    last_px=PRICES,
    cum_qty=MAYBE_QTY,
    inferred=st.booleans(),
    received_time_ns=st.integers(1, 9),
)
TERMS = st.builds(ReplaceTerms, order_qty=MAYBE_QTY, price=st.none() | PRICES)
COMMANDS = st.sampled_from(["cancel", "doubt NEW", "doubt CANCEL", "doubt REPLACE"])


def do(order: Order, step: ExecutionReport | ReplaceTerms | str) -> Outcome:
    try:
        if isinstance(step, ExecutionReport):
            return apply(order, step)
        if isinstance(step, ReplaceTerms):
            return ask_replace(order, step, time_ns=3)
        if step == "cancel":
            return ask_cancel(order, time_ns=3)
        return put_in_doubt(order, CommandKind.of(step.split()[1]), why="silence", time_ns=3)
    except ValueError:
        return order, ()


@given(
    st.none() | QUANTITIES,
    st.booleans(),
    st.lists(REPORTS | FILLS | TERMS | COMMANDS, max_size=25),
)
def test_invariants_hold_whatever_comes(
    order_qty: Decimal | None,
    triggered: bool,
    steps: list[ExecutionReport | ReplaceTerms | str],
) -> None:
    order, fold = a_new_order(order_qty, triggered=triggered), Fold()
    for step in steps:
        held = all_of(order)
        order_after = check(order, do(order, step), fold)
        assert all_of(order) == held, "an order was changed in place"
        order = order_after
        if isinstance(step, ExecutionReport):
            assert do(order, step) == (order, ()), "a report seen again changed something"


@given(QUANTITIES, st.lists(REPORTS | FILLS, max_size=8), REPORTS | FILLS)
def test_missing_fills_are_those_missing_after_the_report(
    order_qty: Decimal, steps: list[ExecutionReport], report: ExecutionReport
) -> None:
    """It answers for the state after the report, so it is the same whether asked before or after."""
    order = a_new_order(order_qty)
    for step in steps:
        order, _ = do(order, step)
    if report.inferred:  # One from an old count is not applied.
        report = replace(report, cum_qty=None)
    if report.ord_status is OrdStatus.FILLED and report.order_qty is None:
        report = replace(report, order_qty=order_qty)  # Which a replace might change.
    assert is_missing_fills(order, report) == is_missing_fills(do(order, report)[0], report)


# --- one honest venue -----------------------------------------------------------------------------


@dataclass
class History:
    """What one venue told about one order, and what we had asked before the first of it arrived."""

    asked: Order
    reports: list[ExecutionReport]
    query: ExecutionReport


@st.composite
def histories(draw: st.DrawFn) -> History:
    order_qty = STEP * draw(st.integers(4, 20))
    triggered = draw(st.booleans())
    order = a_new_order(order_qty, triggered=triggered)
    reports: list[ExecutionReport] = []
    cum = Decimal(0)

    def tell(exec_type: ExecType, **told: Any) -> None:
        reports.append(
            ExecutionReport(
                exec_type=exec_type,
                venue_order_id=VenueOrderId("v1"),
                cum_qty=cum,
                received_time_ns=2,
                **told,
            )
        )

    def fill(up_to: Decimal) -> None:
        nonlocal cum
        while cum < up_to and draw(st.integers(0, 3)):
            qty = STEP * draw(st.integers(1, min(6, int((up_to - cum) / STEP))))
            cum += qty
            tell(
                ExecType.TRADE,
                trade_id=TradeId(f"t{len(reports)}"),
                last_qty=qty,
                last_px=draw(PRICES),
            )

    if draw(st.booleans()):
        order, _ = put_in_doubt(order, CommandKind.NEW, why="silence", time_ns=1)
    target = draw(st.none() | QUANTITIES)
    if target is not None:
        order, _ = ask_replace(order, ReplaceTerms(order_qty=target), time_ns=1)
        if draw(st.booleans()):
            order, _ = put_in_doubt(order, CommandKind.REPLACE, why="silence", time_ns=1)
    asks_cancel = draw(st.booleans())
    if asks_cancel:
        order, _ = ask_cancel(order, time_ns=1)

    if draw(st.booleans()):
        tell(ExecType.NEW)
    if not triggered:
        tell(ExecType.TRIGGERED)
    if target is None:
        fill(order_qty)
    else:
        is_replaced = draw(st.booleans())
        fill(min(order_qty, target) if is_replaced else order_qty)
        if is_replaced:
            tell(ExecType.REPLACED, order_qty=target)
            order_qty = target
        else:
            tell(ExecType.REPLACE_REJECTED)
        fill(order_qty)
    status = OrdStatus.PARTIALLY_FILLED if cum else OrdStatus.NEW
    if cum == order_qty:
        status = OrdStatus.FILLED
        if asks_cancel and draw(st.booleans()):
            tell(ExecType.CANCEL_REJECTED)
    elif asks_cancel and draw(st.booleans()):
        tell(ExecType.CANCEL_REJECTED)
    elif draw(st.booleans()):
        if draw(st.booleans()):
            tell(ExecType.CANCELED, final=False)
        status = draw(st.sampled_from([OrdStatus.CANCELED, OrdStatus.EXPIRED]))
        tell(ExecType(status.value))
    elif not cum and not reports and draw(st.booleans()):
        status = OrdStatus.REJECTED
        tell(ExecType.REJECTED)
    query = ExecutionReport(
        exec_type=ExecType.ORDER_STATUS,
        ord_status=status,
        venue_order_id=VenueOrderId("v1"),
        cum_qty=cum,
        order_qty=order_qty,
        triggered=True,
        received_time_ns=3,
    )
    return History(asked=order, reports=reports, query=query)


def deliver(order: Order, reports: list[ExecutionReport]) -> tuple[Order, frozenset[object]]:
    """Apply all of them, checking each step, and return the order with its fills."""
    fold, fills = Fold(), set[object]()
    for report in reports:
        outcome = apply(order, report)
        order = check(order, outcome, fold)
        fills |= {
            (told.fill.trade_id, told.fill.last_qty, told.fill.last_px)
            for told in outcome[1]
            if told.fill is not None
        }
    return order, frozenset(fills)


def end_of(order: Order) -> tuple[object, ...]:
    return (
        order.ord_status,
        order.cum_qty,
        order.leaves_qty,
        order.avg_px,
        order.trade_ids,
        order.acknowledged,
        order.in_doubt,
    )


@given(histories(), st.data())
def test_any_order_of_delivery_ends_the_same(history: History, data: st.DataObject) -> None:
    told = history.reports
    expected, expected_fills = deliver(history.asked, [*told, history.query])
    again = data.draw(st.lists(st.sampled_from([*told, history.query]), max_size=6))
    shuffled = data.draw(st.permutations([*told, *again]))
    order, fills = deliver(history.asked, [*shuffled, history.query])
    event(f"ends {expected.ord_status}")
    assert end_of(order) == end_of(expected)
    assert fills == expected_fills
    assert order.ord_status is history.query.ord_status or order.pending is not None
    assert order.cum_qty == history.query.cum_qty


@given(histories())
def test_the_record_of_an_honest_venue_has_no_alarm(history: History) -> None:
    order = history.asked
    for report in [*history.reports, history.query]:
        order, events = apply(order, report)
        assert not {e.event_type for e in events} & {EventType.OVERFILL, EventType.REVIVED}
        assert not any(e.late for e in events)


@given(histories(), st.data())
def test_a_venue_that_counts_ends_like_one_that_tells_each_fill(
    history: History, data: st.DataObject
) -> None:
    """Fills are inferred from counts that come at any point; the real ones come in any order."""
    fills = [r for r in history.reports if r.exec_type is ExecType.TRADE]
    counts = (
        data.draw(st.lists(st.sampled_from([f.cum_qty for f in fills]), max_size=4))
        if fills
        else []
    )
    steps = data.draw(st.permutations([*fills, *counts]))
    order, fold = history.asked, Fold()
    for number, step in enumerate(steps):
        if isinstance(step, ExecutionReport):
            report = step
        elif step is None or step <= order.cum_qty:
            continue
        else:
            report = ExecutionReport(
                exec_type=ExecType.TRADE,
                trade_id=TradeId(f"i{number}"),
                last_qty=step - order.cum_qty,
                last_px=Decimal(100),
                cum_qty=step,
                inferred=True,
                received_time_ns=4,
            )
        counted = max(order.cum_qty, history.query.cum_qty or Decimal(0))
        order = check(order, apply(order, report), fold)
        assert order.cum_qty <= counted, "more than the venue ever counted"
    real, _ = deliver(history.asked, fills)
    assert (order.cum_qty, order.avg_px, order.inferred) == (real.cum_qty, real.avg_px, ())
