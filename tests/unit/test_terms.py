"""When the terms that a query shows are the latest."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.unit.test_lifecycle import a_report, a_status, doubting, live, part
from tradegw.engine.terms import Asked, TermsWatch
from tradegw.model import (
    CommandKind,
    ExecType,
    ExecutionReport,
    Order,
    OrdStatus,
    ReplaceTerms,
    VenueClientOrderId,
)
from tradegw.model.lifecycle import ask_cancel, ask_replace
from tradegw.ports import VenueOrderRef
from tradegw.venue import VenueTime

SMALLER = a_status(OrdStatus.NEW, order_qty=Decimal(6))
LAG_S = 1.0


def looks(watch: TermsWatch, order: Order, *at_s: float) -> list[bool]:
    told = [watch.judge(order, SMALLER, VenueTime(time_ns=int(s * 1e9)), lag_s=LAG_S) for s in at_s]
    return [report.terms_final for report in told]


@pytest.mark.parametrize(
    ("at_s", "expected"),
    [
        pytest.param((5,), [False], id="one look may be old"),
        pytest.param((5, 5.5, 6), [False] * 3, id="so may another within the lag"),
        pytest.param((5, 6.1), [False, True], id="a lag later, it is not"),
        pytest.param((5, 6.1, 6.2), [False, True, False], id="told once"),
        pytest.param((5, 3, 6.1), [False, False, True], id="a clock that goes back proves nothing"),
    ],
)
def test_two_looks_a_lag_apart_are_needed(at_s: tuple[float, ...], expected: list[bool]) -> None:
    assert looks(TermsWatch(), live(), *at_s) == expected


def test_what_changes_here_begins_anew() -> None:
    watch, order = TermsWatch(), live()
    assert looks(watch, order, 5) == [False]
    assert watch.awaits_look(order.order_id)
    assert looks(watch, replace(order), 7, 7.5) == [False, False]


def test_a_look_that_finds_our_terms_begins_anew() -> None:
    watch, order = TermsWatch(), live()
    assert looks(watch, order, 5) == [False]
    same = a_status(OrdStatus.NEW, order_qty=order.order_qty)
    assert not watch.judge(order, same, VenueTime(time_ns=6), lag_s=LAG_S).terms_final
    assert not watch.awaits_look(order.order_id)
    assert looks(watch, order, 7) == [False]


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(
            ask_replace(live(), ReplaceTerms(order_qty=Decimal(6)), time_ns=4)[0], id="replace"
        ),
        pytest.param(ask_cancel(live(), time_ns=4)[0], id="cancel"),
        pytest.param(doubting(live(), CommandKind.NEW), id="doubt"),
        pytest.param(live(order_qty=Decimal(6)), id="the same size"),
        pytest.param(live(order_qty=Decimal(5)), id="a larger one, which is believed at once"),
        pytest.param(replace(part(), cum_qty=Decimal(6)), id="one that is filled"),
    ],
)
def test_nothing_to_settle(order: Order) -> None:
    assert looks(TermsWatch(), order, 5, 7) == [False, False]


REF = VenueOrderRef(
    order_id=live().order_id,
    generation=0,
    venue_client_order_id=VenueClientOrderId("c1"),
)
ASKED = Asked(live(), REF)
OTHER = a_status(OrdStatus.NEW, order_qty=Decimal(12), price=Decimal(99))
NO_TERMS = replace(OTHER, order_qty=None, price=None)
CANCELLING, _ = ask_cancel(live(), time_ns=6)
REPLACING, _ = ask_replace(live(), ReplaceTerms(price=Decimal(101)), time_ns=6)


@pytest.mark.parametrize(
    ("order", "ref", "report", "expected"),
    [
        pytest.param(live(), REF, OTHER, OTHER, id="nothing changed"),
        pytest.param(part(), REF, OTHER, OTHER, id="but for fills"),
        pytest.param(REPLACING, replace(REF), OTHER, NO_TERMS, id="a replace was begun"),
        pytest.param(live(), replace(REF), OTHER, NO_TERMS, id="and answered, to the same terms"),
        pytest.param(
            replace(live(), price=Decimal(101)),
            REF,
            OTHER,
            NO_TERMS,
            id="an earlier one was answered",
        ),
        pytest.param(CANCELLING, replace(REF), OTHER, OTHER, id="a cancel was begun"),
        pytest.param(
            REPLACING,
            replace(REF),
            ended := a_status(OrdStatus.CANCELED, price=Decimal(99)),
            ended,
            id="what has ended does not change",
        ),
        pytest.param(
            REPLACING,
            replace(REF, generation=1),
            ended,
            None,
            id="another incarnation stands for it",
        ),
        pytest.param(
            CANCELLING,
            REF,
            refused := a_report(ExecType.CANCEL_REJECTED, command=CommandKind.CANCEL),
            refused,
            id="the last command is refused",
        ),
        pytest.param(CANCELLING, replace(REF), refused, None, id="or one before it"),
        pytest.param(
            live(),
            REF,
            a_status(OrdStatus.PENDING_CANCEL),
            a_status(OrdStatus.PENDING_CANCEL),
            id="somebody cancels",
        ),
        pytest.param(
            CANCELLING,
            REF,
            a_status(OrdStatus.PENDING_CANCEL),
            None,
            id="that cancel may be decided",
        ),
    ],
)
def test_what_is_true_still_of_an_answer(
    order: Order,
    ref: VenueOrderRef,
    report: ExecutionReport,
    expected: ExecutionReport | None,
) -> None:
    assert ASKED.current(report, order, ref) == expected
