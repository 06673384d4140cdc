"""What each definition says of its exchange's rate limits, and what requests and answers say of them."""

from __future__ import annotations

from typing import Any

import pytest
from tradegw_rest import HttpResponse, load
from tradegw_rest.inputs import Inputs
from tradegw_rest.library import names

from tradegw.testing import an_order
from tradegw.venue import (
    BudgetScope,
    BudgetStrategy,
    Cancel,
    Operation,
    Outcome,
    TranslateContext,
    VenueTime,
)

S = 1_000_000_000
FIXED, SLIDING = BudgetStrategy.FIXED_WINDOW, BudgetStrategy.SLIDING_WINDOW
DECAY = BudgetStrategy.DECAY_COUNTER

PUBLISHED: dict[str, dict[str, tuple[BudgetScope, BudgetStrategy, int, float]]] = {
    "binance-spot": {
        "weight": (BudgetScope.IP, FIXED, 6000, 60),
        "orders_10s": (BudgetScope.ACCOUNT, FIXED, 100, 10),
        "orders_day": (BudgetScope.ACCOUNT, FIXED, 200_000, 86_400),
    },
    # The Starter tier: up to 60, one a second; calls up to 15, one in three seconds.
    "kraken-spot": {
        "trading": (BudgetScope.ACCOUNT_SYMBOL, DECAY, 60, 60),
        "calls": (BudgetScope.KEY, DECAY, 15, 45),
    },
    "coinbase": {
        "private": (BudgetScope.OWNER, SLIDING, 30, 1),
        "public": (BudgetScope.IP, SLIDING, 10, 1),
    },
    "okx-spot": {
        "place": (BudgetScope.ACCOUNT_SYMBOL, SLIDING, 60, 2),
        "cancel": (BudgetScope.ACCOUNT_SYMBOL, SLIDING, 60, 2),
        "amend": (BudgetScope.ACCOUNT_SYMBOL, SLIDING, 60, 2),
        "algo": (BudgetScope.ACCOUNT, SLIDING, 20, 2),
        "query": (BudgetScope.ACCOUNT, SLIDING, 60, 2),
        "history": (BudgetScope.ACCOUNT, SLIDING, 40, 2),
    },
    "bybit-spot": {
        "create": (BudgetScope.ACCOUNT, SLIDING, 20, 1),
        "cancel": (BudgetScope.ACCOUNT, SLIDING, 20, 1),
        "amend": (BudgetScope.ACCOUNT, SLIDING, 10, 1),
        "query": (BudgetScope.ACCOUNT, SLIDING, 50, 1),
        "ip": (BudgetScope.IP, SLIDING, 600, 5),
    },
    "bitstamp": {
        "requests": (BudgetScope.KEY, SLIDING, 400, 1),
        "requests_10m": (BudgetScope.KEY, SLIDING, 10_000, 600),
    },
}


def test_every_shipped_definition_is_in_the_table() -> None:
    assert set(PUBLISHED) == set(names())


@pytest.mark.parametrize("name", PUBLISHED)
def test_budgets_are_what_the_exchange_publishes(name: str) -> None:
    found = {
        pool.name: (pool.scope, pool.strategy, pool.limit, pool.window_s)
        for pool in load(name).capabilities.budgets
    }
    assert found == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "operation", "drawn"),
    [
        ("binance-spot", Operation.NEW, {"weight": 1, "orders_10s": 1, "orders_day": 1}),
        ("binance-spot", Operation.CANCEL, {"weight": 1, "orders_10s": 0, "orders_day": 0}),
        # Two looks, and the time between them.
        ("binance-spot", Operation.ORDER, {"weight": 9, "orders_10s": 0, "orders_day": 0}),
        ("binance-spot", Operation.OPEN_ORDERS, {"weight": 80, "orders_10s": 0, "orders_day": 0}),
        ("kraken-spot", Operation.NEW, {"trading": 1, "calls": 0}),
        ("kraken-spot", Operation.CANCEL, {"trading": 8, "calls": 0}),
        ("kraken-spot", Operation.REPLACE, {"trading": 4, "calls": 0}),
        ("kraken-spot", Operation.HISTORY, {"trading": 0, "calls": 2}),
        # A stop draws on another budget than a limit order; which it is, the request says.
        (
            "okx-spot",
            Operation.NEW,
            {"place": 1, "algo": 1, "cancel": 0, "amend": 0, "query": 0, "history": 0},
        ),
        (
            "bybit-spot",
            Operation.REPLACE,
            {"create": 0, "cancel": 0, "amend": 1, "query": 0, "ip": 1},
        ),
    ],
)
def test_an_operation_draws_at_most(name: str, operation: Operation, drawn: dict[str, int]) -> None:
    pools = load(name).capabilities.budgets
    assert {pool.name: pool.cost_of(operation) for pool in pools} == drawn


@pytest.mark.parametrize(
    ("age_s", "units"), [(0, 8), (5, 6), (10, 5), (15, 4), (45, 2), (90, 1), (300, 0)]
)
def test_a_cancel_at_kraken_is_cheaper_the_older_its_order(age_s: int, units: int) -> None:
    kraken = load("kraken-spot")
    instrument = next(iter(kraken.samples))
    order = an_order(symbol=instrument.symbol, created_time_ns=1000 * S, venue_order_id="O1")
    context = TranslateContext(
        instrument=instrument, now=VenueTime(time_ns=(1000 + age_s) * S), venue_client_order_ids=()
    )
    assert kraken.translate(Cancel(order=order), context).cost == {"trading": units}


def test_a_request_of_one_kind_says_that_it_draws_nothing_of_the_others() -> None:
    okx = load("okx-spot")
    cost: dict[str, Any] = {one.path: one.fixed_cost for one in okx.operations["place"]}
    assert cost == {
        "/api/v5/trade/order": {"algo": 0, "place": 1},
        "/api/v5/trade/order-algo": {"algo": 1, "place": 0},
    }


@pytest.mark.parametrize(
    ("name", "operation", "headers", "used"),
    [
        (
            "binance-spot",
            "place",
            {"x-mbx-used-weight-1m": "17", "x-mbx-order-count-10s": "3"},
            {"weight": 17, "orders_10s": 3},
        ),
        ("bybit-spot", "place", {"x-bapi-limit-status": "18"}, {"create": 2}),
        ("bybit-spot", "cancel", {"x-bapi-limit-status": "18"}, {"cancel": 2}),
        ("bybit-spot", "replace", {"x-bapi-limit-status": "9"}, {"amend": 1}),
        # Each question has a limit of its own there.
        ("bybit-spot", "order", {"x-bapi-limit-status": "49"}, {}),
        # A customer who may do more than is published has not used less than nothing.
        ("bybit-spot", "place", {"x-bapi-limit-status": "39"}, {"create": 0}),
        ("coinbase", "place", {"x-ratelimit-remaining": "28"}, {"private": 2}),
        ("coinbase", "reference_price", {"x-ratelimit-remaining": "4"}, {"public": 6}),
        ("coinbase", "place", {"x-ratelimit-remaining": "many"}, {}),
        ("kraken-spot", "place", {"x-ratelimit-remaining": "4"}, {}),
    ],
)
def test_headers_tell_what_is_used(
    name: str, operation: str, headers: dict[str, str], used: dict[str, int]
) -> None:
    definition = load(name)
    asked = definition.operations[operation][0]
    response = HttpResponse(status=200, headers=headers, body=b"{}")
    assert definition.used(asked, response) == used


@pytest.mark.parametrize(
    ("name", "status", "headers", "answer", "wait_s"),
    [
        ("binance-spot", 429, {"retry-after": "7"}, {"code": -1003, "msg": "Too many"}, 7.0),
        ("binance-spot", 418, {"retry-after": "120"}, {"code": -1003, "msg": "Banned"}, 120.0),
        ("binance-spot", 429, {}, {"code": -1015, "msg": "Too many new orders"}, None),
        # It says so nowhere but in its documentation.
        ("bybit-spot", 403, {}, {}, 600.0),
        ("bybit-spot", 429, {}, {}, None),
        ("kraken-spot", 200, {}, {"error": ["EGeneral:Temporary lockout"]}, 900.0),
        ("kraken-spot", 200, {}, {"error": ["EAPI:Rate limit exceeded"]}, None),
    ],
)
def test_how_long_to_wait(
    name: str, status: int, headers: dict[str, str], answer: Any, wait_s: float | None
) -> None:
    definition = load(name)
    inputs = Inputs(now_ns=1)
    response = HttpResponse(status=status, headers=headers, body=b"")
    inputs.root = answer
    failure = definition.errors.classify("place", response, answer, inputs)
    assert failure.outcome is Outcome.THROTTLED
    assert failure.retry_after_s == wait_s
