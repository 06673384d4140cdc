"""Every code of the exchanges' error tables has its class and its outcome; every other code is unknown."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tradegw_rest import Definition, Draft, HttpResponse, load, names
from tradegw_rest.failures import CLASSES

from tradegw import AccountName, OutcomeUnknown, RateLimited, VenueError, VenueRejected
from tradegw.testing import an_order
from tradegw.venue import (
    Cancel,
    FetchBalances,
    Outcome,
    Submit,
    TranslateContext,
    VenueTime,
)

NAME = "0123456789abcdef0123456789abcdef"
NOW = 1_700_000_000_000_000_000

R, T, U = Outcome.REFUSED, Outcome.THROTTLED, Outcome.UNKNOWN
RAISED = {R: VenueRejected, T: RateLimited, U: OutcomeUnknown}


def binance(code: int, text: str = "?") -> Any:
    return {"code": code, "msg": text}


def kraken(text: str) -> Any:
    return {"error": [text]}


def okx(code: str) -> Any:
    return {"code": "1", "msg": "All operations failed", "data": [{"sCode": code, "sMsg": "?"}]}


def bybit(code: int) -> Any:
    return {"retCode": code, "retMsg": "?", "result": {}, "time": 1}


def coinbase(code: str) -> Any:
    return {"success": False, "error_response": {"error": code, "message": "?"}}


def bitstamp(code: str) -> Any:
    return {"status": "error", "reason": {"__all__": ["?"]}, "code": code}


Row = tuple[str, int, Any, str, Outcome]
ROWS: list[Row] = []


def add(name: str, status: int, bodies: list[Any], error_class: str, outcome: Outcome) -> None:
    ROWS.extend((name, status, body, error_class, outcome) for body in bodies)


B, K, X, Y, C, S = "binance-spot", "kraken-spot", "okx-spot", "bybit-spot", "coinbase", "bitstamp"
engine = {
    "Account has insufficient balance for requested action.": "INSUFFICIENT_FUNDS",
    "Order would immediately match and take.": "POST_ONLY_WOULD_CROSS",
    "Order would trigger immediately.": "TRIGGER_IMMEDIATE",
    "Market is closed.": "MARKET_CLOSED",
}
for words, error_class in engine.items():
    add(B, 400, [binance(-2010, words)], error_class, R)
add(B, 400, [binance(-2010, "Duplicate order sent.")], "DUPLICATE_CLIENT_ORDER_ID", U)
add(B, 400, [binance(-2011, "Unknown order sent."), binance(-2013)], "UNKNOWN_ORDER", U)
add(B, 400, [binance(-1013, "Filter failure: LOT_SIZE"), binance(-1111)], "INVALID_ORDER", R)
invalid_binance = [*range(-1106, -1099), -1108, -1111, -1112, *range(-1120, -1113), -1122, -1125]
invalid_binance += [-1127, -1128, -1130]
add(B, 400, [binance(code) for code in invalid_binance], "INVALID_ORDER", R)
add(B, 400, [binance(-1121)], "UNKNOWN_SYMBOL", R)
add(B, 429, [binance(-1003), binance(-1015), binance(-1034), {}], "RATE_LIMITED", T)
add(B, 418, [binance(-1003), {}], "RATE_LIMITED", T)
add(B, 401, [binance(code) for code in (-2014, -2015, -1022, -1002)], "AUTH", R)
add(B, 400, [binance(-1021)], "CLOCK_SKEW", R)
add(B, 503, [binance(-1008)], "BUSY", T)
add(B, 400, [binance(-1016), binance(-1001)], "MAINTENANCE", U)
add(B, 400, [binance(-1006), binance(-1007), binance(-1000)], "STATUS_UNKNOWN", U)
add(B, 504, [binance(-1007), binance(-2010, "insufficient balance"), {}], "STATUS_UNKNOWN", U)
add(B, 403, [{}], "RATE_LIMITED", T)

add(K, 200, [kraken("EOrder:Insufficient funds")], "INSUFFICIENT_FUNDS", R)
invalid = ["EOrder:Order minimum not met", "EGeneral:Invalid arguments:volume"]
add(K, 200, [kraken(text) for text in [*invalid, "EOrder:Invalid price"]], "INVALID_ORDER", R)
add(K, 200, [kraken("EQuery:Unknown asset pair")], "UNKNOWN_SYMBOL", R)
add(K, 200, [kraken("EOrder:Post only order")], "POST_ONLY_WOULD_CROSS", R)
throttled = ["EAPI:Rate limit exceeded", "EGeneral:Too many requests", "EService:Throttled: 1700"]
throttled += [
    "EOrder:Rate limit exceeded",
    "EOrder:Domain rate limit exceeded",
    "EGeneral:Temporary lockout",
]
add(K, 200, [kraken(text) for text in throttled], "RATE_LIMITED", T)
auth = [
    "EAPI:Invalid key",
    "EAPI:Invalid signature",
    "EGeneral:Permission denied",
    "EAPI:Invalid token",
]
add(K, 200, [kraken(text) for text in [*auth, "ESession:Invalid session"]], "AUTH", R)
add(K, 200, [kraken("EAPI:Invalid nonce")], "NONCE", R)
add(K, 200, [kraken("EService:Unavailable"), kraken("EService:Busy")], "MAINTENANCE", U)
modes = [
    kraken(f"EService:Market in {mode} mode") for mode in ("cancel_only", "post_only", "limit_only")
]
add(K, 200, modes, "MARKET_CLOSED", R)
add(K, 200, [kraken("EService:Deadline elapsed")], "REQUEST_EXPIRED", R)
add(K, 200, [kraken("EGeneral:Internal error")], "STATUS_UNKNOWN", U)
add(K, 520, [{}, kraken("EOrder:Insufficient funds")], "STATUS_UNKNOWN", U)

add(X, 200, [okx(code) for code in ("51008", "51119", "51127", "51131")], "INSUFFICIENT_FUNDS", R)
add(X, 200, [okx("51016")], "DUPLICATE_CLIENT_ORDER_ID", U)
add(X, 200, [okx("51603")], "UNKNOWN_ORDER", U)
add(X, 200, [okx(c) for c in ("51000", "51006", "51020", "51121", "51137")], "INVALID_ORDER", R)
add(X, 200, [okx("51001")], "UNKNOWN_SYMBOL", R)
add(X, 200, [okx("51019")], "POST_ONLY_WOULD_CROSS", R)
add(X, 200, [okx("50011"), okx("50061"), okx("51113")], "RATE_LIMITED", T)
add(X, 429, [{}, {"code": "50011", "msg": "?", "data": []}], "RATE_LIMITED", T)
add(X, 200, [okx("50013")], "BUSY", T)
add(X, 200, [okx("50102")], "CLOCK_SKEW", R)
add(X, 200, [okx(str(code)) for code in range(50100, 50115) if code != 50102], "AUTH", R)
add(X, 200, [okx("50001"), okx("50005"), okx("50026")], "MAINTENANCE", U)
add(X, 200, [okx("50004"), okx("51149")], "STATUS_UNKNOWN", U)

add(Y, 200, [bybit(170131), bybit(170033)], "INSUFFICIENT_FUNDS", R)
add(Y, 200, [bybit(170141), bybit(110072), bybit(10014)], "DUPLICATE_CLIENT_ORDER_ID", U)
add(Y, 200, [bybit(170213), bybit(110001)], "UNKNOWN_ORDER", U)
final = (170139, 170142, 170143, 170190, 110008, 110010)
add(Y, 200, [bybit(code) for code in final], "ORDER_CLOSED", U)
invalid_codes = (170124, *range(170132, 170138), 170140, 170148, 170193, 170194, 170210, 170217)
add(Y, 200, [bybit(code) for code in invalid_codes], "INVALID_ORDER", R)
add(Y, 200, [bybit(170218)], "POST_ONLY_WOULD_CROSS", R)
add(Y, 200, [bybit(10006), bybit(170222), bybit(170005)], "RATE_LIMITED", T)
add(Y, 403, [{}], "RATE_LIMITED", T)
add(Y, 429, [{}], "RATE_LIMITED", T)
add(Y, 200, [bybit(c) for c in (10003, 10004, 10005, 10007, 10010, 33004)], "AUTH", R)
add(Y, 200, [bybit(10002), bybit(-1)], "CLOCK_SKEW", R)
add(Y, 200, [bybit(c) for c in (10016, 170001, 170032, 10019)], "MAINTENANCE", U)
add(Y, 200, [bybit(c) for c in (10000, 170007, 170146, 170147)], "STATUS_UNKNOWN", U)
add(Y, 200, [bybit(c) for c in (170212, 110079, 170035)], "PROCESSING", U)

add(C, 200, [coinbase("INSUFFICIENT_FUND")], "INSUFFICIENT_FUNDS", R)
add(C, 200, [coinbase("INVALID_LIMIT_PRICE_POST_ONLY")], "POST_ONLY_WOULD_CROSS", R)
invalid_names = (
    "UNSUPPORTED_ORDER_CONFIGURATION",
    "INVALID_SIZE_PRECISION",
    "INVALID_PRICE_PRECISION",
)
add(C, 200, [coinbase(c) for c in (*invalid_names, "INVALID_ARGUMENT")], "INVALID_ORDER", R)
add(C, 200, [coinbase("ORDER_ENTRY_DISABLED")], "MARKET_CLOSED", R)
add(C, 429, [{"errors": [{"id": "rate_limit_exceeded"}]}, {}], "RATE_LIMITED", T)
add(C, 401, [{"error": "unauthorized"}, {}], "AUTH", R)
add(C, 500, [{}, coinbase("INSUFFICIENT_FUND")], "STATUS_UNKNOWN", U)

add(S, 400, [bitstamp("400.009"), bitstamp("400.075")], "INSUFFICIENT_FUNDS", R)
add(S, 400, [bitstamp("400.019")], "DUPLICATE_CLIENT_ORDER_ID", U)
add(S, 404, [bitstamp("404.001"), bitstamp("404.002")], "UNKNOWN_ORDER", U)
add(S, 404, [bitstamp("404.003"), bitstamp("400.003")], "UNKNOWN_SYMBOL", R)
sizes = ("400.020", "400.046", "400.037", "400.038", "400.039", "400.021")
add(S, 400, [bitstamp(code) for code in sizes], "INVALID_ORDER", R)
add(S, 400, [bitstamp("400.002")], "RATE_LIMITED", T)
add(S, 403, [bitstamp(f"API{n}") for n in ("0001", "0011", "0002", "0003", "0005")], "AUTH", R)
add(S, 403, [bitstamp("API0004")], "NONCE", R)
add(S, 500, [bitstamp(code) for code in ("500.001", "500.002", "500.003")], "STATUS_UNKNOWN", U)

CANCELS: list[Row] = [
    (K, 200, kraken("EOrder:Unknown order"), "UNKNOWN_ORDER", U),
    (K, 200, kraken("EOrder:Invalid order"), "UNKNOWN_ORDER", U),
    *[
        (X, 200, okx(code), "ORDER_CLOSED", U)
        for code in ("51400", "51401", "51402", "51410", "51503", "51509")
    ],
    (B, 400, binance(-2011, "Unknown order sent."), "UNKNOWN_ORDER", U),
    (
        C,
        200,
        {"results": [{"success": False, "failure_reason": "UNKNOWN_CANCEL_ORDER"}]},
        "UNKNOWN_ORDER",
        U,
    ),
]


def draft_of(definition: Definition, command: type[Submit | Cancel]) -> Draft:
    instrument = next(iter(definition.samples))
    order = an_order(
        symbol=instrument.symbol,
        price=Decimal(100),
        order_qty=Decimal(1),
        venue_order_id="1",
        venue_client_order_id=NAME,
    )
    context = TranslateContext(instrument=instrument, now=VenueTime(time_ns=NOW))
    payload = definition.translate(command(order=order), context).payload
    assert isinstance(payload, Draft)
    return payload


def response(status: int, body: Any) -> HttpResponse:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return HttpResponse(status=status, headers={}, body=raw)


def check(row: Row, command: type[Submit | Cancel]) -> None:
    name, status, body, error_class, outcome = row
    definition = load(name)
    draft = draft_of(definition, command)
    with pytest.raises(VenueError) as told:
        definition.reports(draft, response(status, body))
    assert type(told.value) is RAISED[outcome]
    assert told.value.reason == error_class


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]} {row[2]}"[:90])
def test_a_code_means_what_the_table_says(row: Row) -> None:
    check(row, Submit)


@pytest.mark.parametrize("row", CANCELS, ids=lambda row: f"{row[0]} {row[2]}"[:90])
def test_of_a_cancel(row: Row) -> None:
    """That the venue does not show the order says nothing of what became of it."""
    check(row, Cancel)


ODD: dict[str, list[Any]] = {
    B: [binance(-9999), binance(-2010, "A reason that nobody wrote down.")],
    K: [kraken("EOrder:Brand new"), kraken("WGeneral:Only a warning")],
    X: [okx("59999"), {"code": "0", "data": []}],
    Y: [bybit(999999), {"retCode": 0, "result": {}}],
    C: [coinbase("BRAND_NEW"), {"success": True}],
    S: [bitstamp("499.999"), {"status": "error", "reason": "?"}],
}


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("command", [Submit, Cancel])
@pytest.mark.parametrize("status", [200, 202, 302, 400, 404, 409, 500, 502, 599])
def test_whatever_the_table_does_not_name_is_unknown(
    name: str, command: type[Submit | Cancel], status: int
) -> None:
    definition = load(name)
    draft = draft_of(definition, command)
    for body in [*ODD[name], {}, [], None, "text", 7, b"<html>", b"", b'{"orderId":', b"\xff"]:
        with pytest.raises(OutcomeUnknown):
            definition.reports(draft, response(status, body))


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_a_question_without_an_answer_is_no_empty_page(name: str, status: int) -> None:
    definition = load(name)
    for body in [*ODD[name], {}, None, "text", b"<html>", b""]:
        asking = definition.ask(
            FetchBalances(), markets=definition.samples, account=AccountName("a"), now=lambda: NOW
        )
        next(asking)
        with pytest.raises(VenueError):
            asking.send(response(status, body))


def test_the_venues_wait_is_told() -> None:
    definition = load(B)
    told = HttpResponse(status=429, headers={"retry-after": "7"}, body=b'{"code":-1003,"msg":"?"}')
    with pytest.raises(RateLimited) as limited:
        definition.reports(draft_of(definition, Submit), told)
    assert limited.value.retry_after_s == 7.0


def test_every_class_has_an_outcome() -> None:
    assert {row[3] for row in [*ROWS, *CANCELS]} == set(CLASSES)
