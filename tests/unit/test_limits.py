"""Limits: judged and taken in one step."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tradegw.engine.limits import LimitBook, Limits
from tradegw.model import OrdType, Side
from tradegw.testing import a_new_order

D = Decimal
S = 1_000_000_000


def reason(limits: Limits, *, open_orders: int = 0, px: str | None = None, **fields: Any) -> str:
    denial = LimitBook(limits).reserve(
        a_new_order(**fields),
        open_orders=open_orders,
        reference_px=None if px is None else D(px),
        now_ns=S,
    )
    return "" if denial is None else denial.reason


MARKET = {"ord_type": OrdType.MARKET, "price": None}
SELL = {"side": Side.SELL}
NOTIONAL = Limits(max_order_notional=D(100))
COLLAR = Limits(price_collar_bps=D(100))


@pytest.mark.parametrize(
    ("limits", "kwargs", "expected"),
    [
        pytest.param(Limits(), {}, "", id="no limit"),
        pytest.param(NOTIONAL, {}, "", id="at the edge"),
        pytest.param(NOTIONAL, {"order_qty": D("1.0001")}, "LIMIT_ORDER_NOTIONAL", id="above"),
        pytest.param(NOTIONAL, MARKET, "NO_REFERENCE_PRICE", id="a market order without a price"),
        pytest.param(NOTIONAL, {**MARKET, "px": "100"}, "", id="a market order at the edge"),
        pytest.param(NOTIONAL, {**MARKET, "px": "100.01"}, "LIMIT_ORDER_NOTIONAL", id="and above"),
        pytest.param(
            NOTIONAL,
            {**MARKET, "order_qty": None, "quote_qty": D(100)},
            "",
            id="sized in quote: no price is needed",
        ),
        pytest.param(
            NOTIONAL,
            {**MARKET, "order_qty": None, "quote_qty": D(101)},
            "LIMIT_ORDER_NOTIONAL",
            id="sized in quote, above",
        ),
        pytest.param(COLLAR, {}, "NO_REFERENCE_PRICE", id="a collar without a price"),
        pytest.param(COLLAR, {"px": "100", "price": D(101)}, "", id="a buy at the collar"),
        pytest.param(COLLAR, {"px": "100", "price": D("101.01")}, "LIMIT_PRICE_COLLAR", id="over"),
        pytest.param(COLLAR, {"px": "100", "price": D(1)}, "", id="a buy far below waits"),
        pytest.param(COLLAR, {**SELL, "px": "100", "price": D(99)}, "", id="a sell at the collar"),
        pytest.param(
            COLLAR, {**SELL, "px": "100", "price": D("98.99")}, "LIMIT_PRICE_COLLAR", id="under"
        ),
        pytest.param(
            COLLAR, {**SELL, "px": "100", "price": D(500)}, "", id="a sell far above waits"
        ),
        pytest.param(COLLAR, MARKET, "", id="a market order has no price to judge"),
        pytest.param(Limits(max_open_orders=2), {"open_orders": 1}, "", id="a place is left"),
        pytest.param(
            Limits(max_open_orders=2), {"open_orders": 2}, "LIMIT_OPEN_ORDERS", id="none is left"
        ),
        pytest.param(Limits(symbols=frozenset()), {}, "LIMIT_SYMBOL", id="no symbol at all"),
        pytest.param(Limits(reduce_only=True), {"reduce_only": True}, "", id="reducing"),
    ],
)
def test_an_order_is_judged(limits: Limits, kwargs: dict[str, Any], expected: str) -> None:
    assert reason(limits, **kwargs) == expected


def take(book: LimitBook, now_ns: int, **fields: Any) -> str:
    denial = book.reserve(a_new_order(**fields), open_orders=0, reference_px=None, now_ns=now_ns)
    return "" if denial is None else denial.reason


def test_the_rate_counts_any_second() -> None:
    book = LimitBook(Limits(max_orders_per_second=2))
    assert [take(book, t) for t in (0, S // 2, S - 1)] == ["", "", "LIMIT_ORDERS_PER_SECOND"]
    assert take(book, S) == ""
    assert take(book, S + 1) == "LIMIT_ORDERS_PER_SECOND"
    assert take(book, S + S // 2) == ""


def test_a_refusal_takes_nothing() -> None:
    book = LimitBook(Limits(max_orders_per_second=1, max_orders_per_day=2, symbols=frozenset("x")))
    for _ in range(5):
        assert take(book, 0) == "LIMIT_SYMBOL"
    assert take(book, 0, symbol="x") == ""
    for _ in range(5):
        assert take(book, 0, symbol="x") == "LIMIT_ORDERS_PER_SECOND"
    assert take(book, S, symbol="x") == ""
    assert take(book, 2 * S, symbol="x") == "LIMIT_ORDERS_PER_DAY"


def test_what_was_not_stored_is_given_back() -> None:
    book = LimitBook(Limits(max_orders_per_second=1, max_orders_per_day=1))
    assert take(book, 0) == ""
    book.release()
    assert take(book, 0) == ""
    assert take(book, 0) != ""


def test_the_day_ends_at_midnight_utc() -> None:
    book = LimitBook(Limits(max_orders_per_day=1))
    midnight = 86_400 * S
    assert take(book, midnight - 1) == ""
    assert take(book, midnight - 1) == "LIMIT_ORDERS_PER_DAY"
    assert take(book, midnight) == ""


def test_a_stop_is_as_large_as_where_it_triggers() -> None:
    stop: dict[str, Any] = {"ord_type": OrdType.STOP, "price": None, "trigger_price": D(200)}
    assert reason(NOTIONAL, px="100", **stop) == "LIMIT_ORDER_NOTIONAL"
    assert reason(Limits(max_order_notional=D(200)), px="100", **stop) == ""


def test_the_count_of_a_day_that_had_begun_goes_on() -> None:
    book = LimitBook(Limits(max_orders_per_day=3))
    book.restore(2, now_ns=S)
    assert [take(book, S), take(book, S)] == ["", "LIMIT_ORDERS_PER_DAY"]
    assert take(book, 86_400 * S) == ""
