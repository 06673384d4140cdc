"""Weights, orders and bans: counted by the calendar, declared, and enforced on the wire."""

from __future__ import annotations

import pytest
from tradegw_mock.binance.errors import BinanceError
from tradegw_mock.binance.limits import Limits, LimitSettings
from tradegw_mock.testing import MockProcess

from .binance_client import an_order, patient, socket_api

NS = 1_000_000_000
START_NS = 1_795_000_040 * NS  # Twenty seconds into a minute.


def refused(limits: Limits, now_ns: int, weight: int = 1) -> BinanceError | None:
    try:
        limits.charge("1.2.3.4", weight, now_ns)
    except BinanceError as e:
        return e
    return None


def test_weight_is_of_an_address_and_a_minute() -> None:
    limits = Limits(LimitSettings(request_weight_per_minute=100))
    assert refused(limits, START_NS, 60) is None
    assert refused(limits, START_NS, 40) is None
    error = refused(limits, START_NS + NS)
    assert error is not None
    assert (error.status, error.code, error.retry_after_s) == (429, -1003, 39)
    limits.charge("5.6.7.8", 100, START_NS)
    assert refused(limits, START_NS + 40 * NS, 100) is None
    assert limits.used_weight("1.2.3.4", START_NS + 40 * NS) == 100


def test_what_succeeds_and_is_free_is_given_back() -> None:
    limits = Limits(LimitSettings(request_weight_per_minute=1))
    for _ in range(10):
        assert refused(limits, START_NS) is None
        limits.refund("1.2.3.4", 1, START_NS)


def test_who_goes_on_all_the_same_is_banned_longer_each_time() -> None:
    limits = Limits(LimitSettings(request_weight_per_minute=1))
    now_ns, lengths = START_NS, []
    for _ in range(3):
        while (error := refused(limits, now_ns)) is None or error.status == 429:
            pass
        assert (error.status, error.code) == (418, -1003)
        assert error.retry_after_s is not None
        lengths.append(error.retry_after_s)
        assert refused(limits, now_ns + NS) is not None
        now_ns += int(error.retry_after_s) * NS
    assert lengths == [120, 240, 480]


def test_raw_requests_count_too() -> None:
    limits = Limits(LimitSettings(raw_requests_per_5_minutes=3))
    assert [refused(limits, START_NS, 0) is None for _ in range(4)] == [True] * 3 + [False]


def test_orders_that_fill_do_not_count() -> None:
    limits = Limits(LimitSettings(orders_per_10_seconds=2, orders_per_day=3))
    for _ in range(5):
        limits.check_orders("a", START_NS)
        limits.ordered("a", START_NS)
        limits.filled("a", START_NS)
    for _ in range(2):
        limits.check_orders("a", START_NS)
        limits.ordered("a", START_NS)
    with pytest.raises(BinanceError, match="current limit is 2 orders per 10 SECOND") as error:
        limits.check_orders("a", START_NS)
    assert (error.value.status, error.value.code, error.value.retry_after_s) == (429, -1015, 10)
    limits.check_orders("b", START_NS)
    later_ns = START_NS + 10 * NS
    limits.check_orders("a", later_ns)
    limits.ordered("a", later_ns)
    with pytest.raises(BinanceError, match="current limit is 3 orders per 1 DAY"):
        limits.check_orders("a", later_ns)


def test_limits_that_are_not_enforced_are_counted_all_the_same() -> None:
    limits = Limits(
        LimitSettings(enforced=False, request_weight_per_minute=1, orders_per_10_seconds=1)
    )
    for _ in range(300):
        assert refused(limits, START_NS) is None
        limits.check_orders("a", START_NS)
        limits.ordered("a", START_NS)
    assert limits.used_weight("1.2.3.4", START_NS) == 300
    assert limits.order_counts("a", START_NS) == (300, 300)


def test_memory_is_bounded() -> None:
    limits = Limits(LimitSettings())
    for number in range(11_000):
        limits.charge(f"host-{number}", 1, START_NS)
        limits.ordered(f"account-{number}", START_NS)
    assert len(limits._addresses) == len(limits._accounts) == 10_000


def test_limits_are_settings_above_zero() -> None:
    with pytest.raises(ValueError, match="orders_per_day is at least 1; found 0"):
        LimitSettings(orders_per_day=0)


async def test_limits_on_the_wire() -> None:
    settings = {"orders_per_day": 3, "request_weight_per_minute": 2000}
    with MockProcess(config={"step_interval_s": 0, "limits": settings}) as exchange:
        rest = patient(exchange.serving)
        declared = rest.public("exchangeInfo")["rateLimits"]
        limits = {(item["rateLimitType"], item["interval"]): item["limit"] for item in declared}
        assert limits["ORDERS", "DAY"] == 3
        assert limits["REQUEST_WEIGHT", "MINUTE"] == 2000

        rest.place(type="MARKET")
        _, _, headers = rest.signed("POST", "order", **an_order())
        assert headers["x-mbx-order-count-1d"] == "1"
        assert "x-mbx-order-count-10s" in headers
        used = int(headers["x-mbx-used-weight-1m"])
        _, _, headers = rest.signed("GET", "account")
        assert int(headers["x-mbx-used-weight-1m"]) in {used + 20, 20}
        rest.place()
        rest.place()
        status, answer, headers = rest.signed("POST", "order", **an_order())
        assert (status, answer["code"]) == (429, -1015)
        assert int(headers["retry-after"]) > 0
        replace = {"cancelReplaceMode": "STOP_ON_FAILURE", "cancelOrderId": 1}
        assert rest.error("POST", "order/cancelReplace", **an_order(**replace))[:2] == (429, -1015)
        async with socket_api(rest) as socket:
            refused = await socket.signed("order.place", **an_order())
            assert (refused["status"], refused["error"]["code"]) == (429, -1015)
            assert refused["error"]["data"]["retryAfter"] > refused["error"]["data"]["serverTime"]
            # 80 each: the minute's weight is used up soon, whenever it began.
            while (answer := await socket.signed("openOrders.status"))["status"] == 200:
                pass
            assert (answer["status"], answer["error"]["code"]) == (429, -1003)
