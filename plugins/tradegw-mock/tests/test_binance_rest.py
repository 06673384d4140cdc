"""The Binance-compatible REST API, as bytes on a socket: who may, what is refused and how, what is told."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from tradegw_mock.testing import MockProcess

from .binance_client import Rest, an_order, patient

D8 = "0.00000000"


@pytest.fixture(scope="module")
def exchange() -> Iterator[MockProcess]:
    config = {"step_interval_s": 0, "limits": {"enforced": False}}
    with MockProcess(accounts=["alice", "bob"], config=config) as process:
        yield process


@pytest.fixture
def alice(exchange: MockProcess) -> Iterator[Rest]:
    rest = patient(exchange.serving)
    yield rest
    for symbol in ("BTCUSDT", "ETHUSDT"):
        rest.signed("DELETE", "openOrders", symbol=symbol)


@pytest.fixture
def bob(exchange: MockProcess) -> Rest:
    return patient(exchange.serving, 1)


# --- who may --------------------------------------------------------------------------------------


def test_access(alice: Rest) -> None:
    good = urlencode({"timestamp": alice.now_ms(), "recvWindow": 60000})
    signed = f"{good}&signature={alice.sign(good)}"
    missing = "Mandatory parameter '{}' was not sent, was empty/null, or malformed."
    assert alice.raw("GET", "account", signed, key=alice.key)[0] == 200
    for query, key, status, code, msg in [
        (signed, None, 401, -2014, "API-key format invalid."),
        (signed, "A" * 64, 401, -2015, "Invalid API-key, IP, or permissions for action."),
        ("", alice.key, 400, -1102, missing.format("timestamp")),
        (good, alice.key, 400, -1102, missing.format("signature")),
        (f"{good}&signature=00", alice.key, 400, -1022, "Signature for this request is not valid."),
        (
            f"{signed}&x=1",
            alice.key,
            400,
            -1022,
            "Signature for this request is not valid.",
        ),
    ]:
        found, answer, _ = alice.raw("GET", "account", query, key=key)
        assert (found, answer) == (status, {"code": code, "msg": msg})


@pytest.mark.parametrize(
    ("offset_ms", "window", "msg"),
    [
        (-6_000, None, "Timestamp for this request is outside of the recvWindow."),
        (-3_000, "2000.5", "Timestamp for this request is outside of the recvWindow."),
        (30_000, None, "Timestamp for this request was 1000ms ahead of the server's time."),
        (-6_000, "59000", None),
        (-400, "59000.123", None),
    ],
)
def test_timing(exchange: MockProcess, offset_ms: int, window: str | None, msg: str | None) -> None:
    rest = Rest(exchange.serving, offset_ms=offset_ms, window=window)
    status, answer, _ = rest.signed("GET", "account")
    expected = (200, None) if msg is None else (400, {"code": -1021, "msg": msg})
    assert (status, answer if msg else None) == expected


@pytest.mark.parametrize("window", ["60001", "1.2345", "-1", "x"])
def test_windows_that_are_none(alice: Rest, window: str) -> None:
    _, code, _ = alice.error("GET", "account", recvWindow=window)
    assert code in {-1131, -1111, -1100}


def test_microseconds(alice: Rest) -> None:
    query = urlencode({"timestamp": alice.now_ms() * 1000, "recvWindow": 60000})
    query += f"&signature={alice.sign(query)}"
    assert alice.raw("GET", "account", query, key=alice.key)[0] == 200


def test_parameters_go_in_the_query_the_body_or_both(alice: Rest) -> None:
    for in_body in (False, True):
        answer = alice.signed("POST", "order", in_body=in_body, **an_order())[1]
        gone = alice.signed(
            "DELETE", "order", in_body=in_body, symbol="BTCUSDT", orderId=answer["orderId"]
        )
        assert gone[1]["status"] == "CANCELED"
    query = "symbol=BTCUSDT&side=BUY&type=LIMIT&recvWindow=60000"
    body = f"timeInForce=GTC&quantity=0.01&price=60000&timestamp={alice.now_ms()}&symbol=NONE"
    body += f"&signature={alice.sign(query + body)}"
    status, answer, _ = alice.raw("POST", "order", query, body, key=alice.key)
    assert (status, answer["symbol"]) == (200, "BTCUSDT")


def test_what_there_is_not(alice: Rest) -> None:
    for method, path in (("GET", "nothing"), ("PATCH", "order"), ("GET", "/sapi/v1/nothing")):
        status, answer, _ = alice.raw(method, path)
        assert (status, answer["code"]) == (404, -1020)
    status, answer, _ = alice.raw("POST", "order", body="x" * 100_000, key=alice.key)
    assert (status, answer["code"]) == (413, -1101)


# --- orders ---------------------------------------------------------------------------------------

MANDATORY = "Mandatory parameter '{}' was not sent, was empty/null, or malformed."


@pytest.mark.parametrize(
    ("params", "code", "msg"),
    [
        ({"symbol": None}, -1102, MANDATORY.format("symbol")),
        ({"symbol": "NONE"}, -1121, "Invalid symbol."),
        ({"side": None}, -1102, MANDATORY.format("side")),
        ({"side": "LONG"}, -1117, "Invalid side."),
        ({"type": "LIMITED"}, -1116, "Invalid orderType."),
        ({"timeInForce": None}, -1102, MANDATORY.format("timeInForce")),
        ({"timeInForce": "GTX"}, -1115, "Invalid timeInForce."),
        ({"type": "MARKET", "timeInForce": "GTC"}, -1106, "'timeInForce' sent when not required."),
        ({"type": "MARKET", "price": "1"}, -1106, "Parameter 'price' sent when not required."),
        ({"type": "LIMIT_MAKER", "timeInForce": "GTC"}, -1106, "'timeInForce' sent when not"),
        ({"stopPrice": "1"}, -1106, "Parameter 'stopPrice' sent when not required."),
        ({"quantity": None}, -1102, MANDATORY.format("quantity")),
        ({"price": None}, -1102, MANDATORY.format("price")),
        ({"type": "STOP_LOSS_LIMIT"}, -1102, MANDATORY.format("stopPrice")),
        (
            {"type": "MARKET", "quantity": None},
            -1102,
            "Param 'quantity' or 'quoteOrderQty' must be",
        ),
        (
            {"type": "MARKET", "quoteOrderQty": "10", "quantity": "1"},
            -1128,
            "Combination of optional parameters invalid.",
        ),
        (
            {"quantity": "-1"},
            -1100,
            "Illegal characters found in parameter 'quantity'; legal range",
        ),
        (
            {"quantity": "1e3"},
            -1100,
            "Illegal characters found in parameter 'quantity'; legal range",
        ),
        ({"quantity": ""}, -1105, "Parameter 'quantity' was empty."),
        ({"quantity": "0.000000001"}, -1111, "Parameter 'quantity' has too much precision."),
        ({"price": "60000.123456789"}, -1111, "Parameter 'price' has too much precision."),
        ({"quantity": "0"}, -1013, "Invalid quantity."),
        ({"price": "0"}, -1013, "Invalid price."),
        ({"price": "60000.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"price": "10000001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"quantity": "0.000001"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.0100001"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "100000.1"}, -1013, "Filter failure: LOT_SIZE"),
        ({"type": "MARKET", "quantity": "50001"}, -1013, "Filter failure: MARKET_LOT_SIZE"),
        ({"quantity": "0.00001"}, -1013, "Filter failure: NOTIONAL"),
        ({"type": "MARKET", "quoteOrderQty": "4.99"}, -1013, "Filter failure: NOTIONAL"),
        ({"quantity": "9000"}, -2010, "Account has insufficient balance for requested action."),
        (
            {"type": "MARKET", "quantity": "9000", "side": "SELL"},
            -2010,
            "Account has insufficient balance for requested action.",
        ),
        (
            {"type": "LIMIT_MAKER", "price": "66000"},
            -2010,
            "Order would immediately match and take.",
        ),
        (
            {"type": "STOP_LOSS_LIMIT", "stopPrice": "64000"},
            -2010,
            "Order would trigger immediately.",
        ),
        ({"icebergQty": "0.001"}, -1013, "Iceberg orders are not supported for this symbol."),
        (
            {"type": "STOP_LOSS", "stopPrice": "66000", "trailingDelta": "100"},
            -1013,
            "Trailing stop orders are not supported for this symbol.",
        ),
        ({"newClientOrderId": "a" * 37}, -1100, "parameter 'newClientOrderId'; legal range is"),
        ({"newClientOrderId": "a b"}, -1100, "parameter 'newClientOrderId'; legal range is"),
        ({"selfTradePreventionMode": "X"}, -1130, "'selfTradePreventionMode' is not valid."),
        ({"newOrderRespType": "X"}, -1130, "'newOrderRespType' is not valid."),
    ],
)
def test_orders_that_are_refused(
    alice: Rest, params: dict[str, object], code: int, msg: str
) -> None:
    before = alice.ok("GET", "account")["balances"]
    found, text = alice.refused(**params)
    assert found == code, text
    assert msg in text
    if code != -2010:
        # What only the book or the funds refuse passes the test.
        assert alice.error("POST", "order/test", **an_order(**params))[1] == code
    else:
        assert alice.ok("POST", "order/test", **an_order(**params)) == {}
    assert alice.ok("GET", "account")["balances"] == before


def test_a_client_id_is_once_among_open_orders(alice: Rest) -> None:
    first = alice.place(newClientOrderId="mine")
    assert alice.refused(newClientOrderId="mine") == (-2010, "Duplicate order sent.")
    alice.ok("DELETE", "order", symbol="BTCUSDT", origClientOrderId="mine")
    again = alice.place(newClientOrderId="mine")
    assert again["orderId"] > first["orderId"]
    found = alice.ok("GET", "order", symbol="BTCUSDT", origClientOrderId="mine")
    assert (found["orderId"], found["status"]) == (again["orderId"], "NEW")
    old = alice.ok("GET", "order", symbol="BTCUSDT", orderId=first["orderId"])
    assert (old["clientOrderId"], old["status"]) == ("mine", "CANCELED")


def test_how_much_an_answer_says(alice: Rest) -> None:
    ack = {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}
    full = alice.place(type="MARKET", quantity="0.01")
    assert set(alice.place(type="LIMIT_MAKER")) == ack
    assert set(alice.place(newOrderRespType="ACK")) == ack
    assert set(alice.place(newOrderRespType="RESULT")) == set(full) - {"fills"}
    assert full["status"] == "FILLED"
    (fill,) = full["fills"]
    assert set(fill) == {"price", "qty", "commission", "commissionAsset", "tradeId"}
    assert fill["qty"] == full["executedQty"] == "0.01000000"
    assert fill["commissionAsset"] == "BTC"
    assert fill["commission"] == "0.00001000"
    assert full["price"] == D8
    assert isinstance(full["orderId"], int)
    assert len(full["clientOrderId"]) == 22


def test_a_market_order_by_quote(alice: Rest) -> None:
    order = alice.place(type="MARKET", quoteOrderQty="100")
    assert order["status"] == "FILLED"
    assert order["origQuoteOrderQty"] == "100.00000000"
    assert 99 < float(order["cummulativeQuoteQty"]) <= 100
    assert order["origQty"] == order["executedQty"]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"timeInForce": "IOC"}, "UNFILLED_IOC_QUANTITY_EXPIRED"),
        ({"timeInForce": "FOK"}, "UNFILLED_FOK_ORDER_EXPIRED"),
    ],
)
def test_orders_that_expire_at_once(alice: Rest, params: dict[str, object], reason: str) -> None:
    order = alice.place(**params)
    assert (order["status"], order["expiryReason"]) == ("EXPIRED", reason)


def test_stops_wait_and_are_told_so(alice: Rest) -> None:
    stop = alice.place(
        type="STOP_LOSS_LIMIT", side="SELL", stopPrice="61000", newOrderRespType="RESULT"
    )
    assert (stop["type"], stop["stopPrice"], stop["status"]) == (
        "STOP_LOSS_LIMIT",
        "61000.00000000",
        "NEW",
    )
    found = alice.ok("GET", "order", symbol="BTCUSDT", orderId=stop["orderId"])
    assert (found["isWorking"], found["workingTime"]) == (False, -1)
    for kind, trigger, price in (
        ("STOP_LOSS", "66000", None),
        ("TAKE_PROFIT", "61000", None),
        ("TAKE_PROFIT_LIMIT", "61000", "61000"),
    ):
        placed = alice.place(type=kind, stopPrice=trigger, price=price, newOrderRespType="RESULT")
        assert (placed["type"], placed["status"]) == (kind, "NEW")
    assert len(alice.ok("GET", "openOrders")) == 4


def test_self_trade_prevention(alice: Rest) -> None:
    resting = alice.place(price="64999", type="LIMIT_MAKER")
    taker = alice.place(side="SELL", price="64999", selfTradePreventionMode="EXPIRE_TAKER")
    assert taker["status"] in {"EXPIRED_IN_MATCH", "FILLED"}
    found = alice.ok("GET", "order", symbol="BTCUSDT", orderId=resting["orderId"])
    assert found["status"] == "NEW"


# --- canceling ------------------------------------------------------------------------------------


def test_a_cancel_has_an_id_of_its_own(alice: Rest) -> None:
    alice.place(newClientOrderId="mine")
    gone = alice.ok(
        "DELETE", "order", symbol="BTCUSDT", origClientOrderId="mine", newClientOrderId="cancel-1"
    )
    assert (gone["origClientOrderId"], gone["clientOrderId"]) == ("mine", "cancel-1")
    assert (gone["status"], gone["executedQty"]) == ("CANCELED", D8)


def test_cancels_that_are_refused(alice: Rest, bob: Rest) -> None:
    order = alice.place(newClientOrderId="mine")
    unknown = (400, -2011, "Unknown order sent.")
    for rest, params, expected in [
        (alice, {"orderId": 999_999}, unknown),
        (alice, {"origClientOrderId": "nobody's"}, unknown),
        (bob, {"orderId": order["orderId"]}, unknown),
        (alice, {"orderId": order["orderId"], "symbol": "ETHUSDT"}, unknown),
    ]:
        assert rest.error("DELETE", "order", **{"symbol": "BTCUSDT", **params}) == expected
    assert alice.error("DELETE", "order", symbol="BTCUSDT")[1] == -1102
    both = {"orderId": order["orderId"], "origClientOrderId": "other"}
    assert alice.error("DELETE", "order", symbol="BTCUSDT", **both)[1] == -2039
    restricted = {"orderId": order["orderId"], "cancelRestrictions": "ONLY_PARTIALLY_FILLED"}
    assert alice.error("DELETE", "order", symbol="BTCUSDT", **restricted) == (
        400,
        -2011,
        "Order was not canceled due to cancel restrictions.",
    )
    assert alice.error("DELETE", "order", symbol="BTCUSDT", cancelRestrictions="X", orderId=1)[
        1
    ] in {-1145, -2011}
    alice.ok("DELETE", "order", symbol="BTCUSDT", orderId=order["orderId"])
    again = {"symbol": "BTCUSDT", "orderId": order["orderId"]}
    assert alice.error("DELETE", "order", **again) == unknown


def test_cancel_all_is_of_one_symbol(alice: Rest) -> None:
    ids = {alice.place()["orderId"] for _ in range(3)}
    other = alice.place(symbol="ETHUSDT", price="2000")["orderId"]
    gone = alice.ok("DELETE", "openOrders", symbol="BTCUSDT")
    assert {order["orderId"] for order in gone} == ids
    assert {order["status"] for order in gone} == {"CANCELED"}
    assert [order["orderId"] for order in alice.ok("GET", "openOrders")] == [other]
    assert alice.error("DELETE", "openOrders", symbol="BTCUSDT")[1] == -2011
    assert alice.error("DELETE", "openOrders")[1] == -1102


REPLACEMENT = {"cancelReplaceMode": "STOP_ON_FAILURE", "price": "61000"}


def test_cancel_replace(alice: Rest) -> None:
    old = alice.place(newClientOrderId="old")
    done = alice.ok(
        "POST",
        "order/cancelReplace",
        **an_order(**REPLACEMENT, cancelOrigClientOrderId="old", newClientOrderId="new"),
    )
    assert (done["cancelResult"], done["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    assert done["cancelResponse"]["orderId"] == old["orderId"]
    assert done["newOrderResponse"]["clientOrderId"] == "new"
    assert [order["price"] for order in alice.ok("GET", "openOrders")] == ["61000.00000000"]


@pytest.mark.parametrize(
    ("mode", "there", "price", "status", "code", "words"),
    [
        ("STOP_ON_FAILURE", False, "61000", 400, -2022, ("FAILURE", "NOT_ATTEMPTED")),
        ("ALLOW_FAILURE", False, "61000", 409, -2021, ("FAILURE", "SUCCESS")),
        ("ALLOW_FAILURE", False, "900000", 400, -2022, ("FAILURE", "FAILURE")),
        ("STOP_ON_FAILURE", True, "900000", 409, -2021, ("SUCCESS", "FAILURE")),
    ],
)
def test_cancel_replace_that_fails(
    alice: Rest,
    mode: str,
    there: bool,
    price: str,
    status: int,
    code: int,
    words: tuple[str, str],
) -> None:
    order_id = alice.place()["orderId"] if there else 999_999
    params = an_order(price=price, quantity="10", type="LIMIT_MAKER")
    found, answer, _ = alice.signed(
        "POST",
        "order/cancelReplace",
        **params,
        cancelReplaceMode=mode,
        cancelOrderId=order_id,
    )
    assert (found, answer["code"]) == (status, code)
    data = answer["data"]
    assert (data["cancelResult"], data["newOrderResult"]) == words
    if words[1] == "NOT_ATTEMPTED":
        assert data["newOrderResponse"] is None
    if words[0] == "FAILURE":
        assert data["cancelResponse"] == {"code": -2011, "msg": "Unknown order sent."}
    if words[1] == "FAILURE":
        assert data["newOrderResponse"]["code"] == -2010


def test_a_replacement_that_a_filter_refuses_cancels_nothing(alice: Rest) -> None:
    order = alice.place()
    params = an_order(price="61000.001", cancelReplaceMode="STOP_ON_FAILURE")
    assert alice.error("POST", "order/cancelReplace", **params, cancelOrderId=order["orderId"])[
        1:
    ] == (-1013, "Filter failure: PRICE_FILTER")
    assert len(alice.ok("GET", "openOrders")) == 1


def test_amend_keeps_the_place_and_changes_the_name(alice: Rest) -> None:
    order = alice.place(newClientOrderId="first", quantity="0.02")
    path, named = "order/amend/keepPriority", {"symbol": "BTCUSDT", "orderId": order["orderId"]}
    done = alice.ok("PUT", path, **named, newQty="0.01", newClientOrderId="second")
    amended = done["amendedOrder"]
    assert (amended["origClientOrderId"], amended["clientOrderId"]) == ("first", "second")
    assert (amended["qty"], amended["status"]) == ("0.01000000", "NEW")
    for quantity, msg in [
        ("0.01", "The requested action would change no state; rejecting."),
        ("0.02", "Order amend (quantity increase) is not supported."),
    ]:
        assert alice.error("PUT", path, **named, newQty=quantity)[1:] == (-2038, msg)
    found = alice.ok("GET", "order", symbol="BTCUSDT", origClientOrderId="second")
    assert (found["orderId"], found["origQty"]) == (order["orderId"], "0.01000000")
    assert alice.error("GET", "order", symbol="BTCUSDT", origClientOrderId="first")[1] == -2013


# --- queries --------------------------------------------------------------------------------------


def test_queries_that_find_nothing(alice: Rest, bob: Rest) -> None:
    order = alice.place()
    gone = (400, -2013, "Order does not exist.")
    assert bob.error("GET", "order", symbol="BTCUSDT", orderId=order["orderId"]) == gone
    assert alice.error("GET", "order", symbol="ETHUSDT", orderId=order["orderId"]) == gone
    assert alice.error("GET", "order", symbol="BTCUSDT")[1] == -1102
    assert bob.ok("GET", "myTrades", symbol="BTCUSDT", orderId=order["orderId"]) == []
    assert alice.error("GET", "openOrders", symbol="NONE")[1:] == (-1121, "Invalid symbol.")


def test_lists_begin_where_they_are_told(exchange: MockProcess) -> None:
    bob = patient(exchange.serving, 1)
    orders = [bob.place(symbol="SOLUSDT", type="MARKET", quantity="1") for _ in range(5)]
    ids = [order["orderId"] for order in orders]

    def listed(path: str, **params: object) -> list[int]:
        return [row["orderId"] for row in bob.ok("GET", path, symbol="SOLUSDT", **params)]

    for path in ("allOrders", "myTrades"):
        assert listed(path) == ids
        assert listed(path, limit=2) == ids[-2:]
        start = orders[0]["transactTime"]
        assert listed(path, startTime=start, limit=3) == ids[:3]
        assert listed(path, startTime=start * 1000) == ids
        assert listed(path, endTime=start - 1) == []
        assert listed(path, endTime=orders[-1]["transactTime"], limit=2) == ids[-2:]
        assert bob.error("GET", path, symbol="SOLUSDT", limit=0)[1] == -1130
        too_long = {"startTime": start - 90_000_000, "endTime": start}
        assert bob.error("GET", path, symbol="SOLUSDT", **too_long)[1] == -1127
    assert listed("allOrders", orderId=ids[2]) == ids[2:]
    assert listed("allOrders", orderId=ids[1], limit=2) == ids[1:3]
    trades = bob.ok("GET", "myTrades", symbol="SOLUSDT")
    assert listed("myTrades", fromId=trades[3]["id"]) == ids[3:]
    assert listed("myTrades", orderId=ids[1]) == [ids[1]]
    assert {(t["isBuyer"], t["isMaker"]) for t in trades} == {(True, False)}
    assert bob.error("GET", "myTrades", symbol="SOLUSDT", fromId=1, startTime=1)[1] == -1128


def test_the_account(alice: Rest) -> None:
    alice.place(quantity="0.5")
    account = alice.ok("GET", "account")
    balances = {item["asset"]: item for item in account["balances"]}
    assert balances["USDT"]["locked"] == "30000.00000000"
    assert account["canTrade"] is True
    assert account["accountType"] == "SPOT"
    assert account["commissionRates"]["taker"] == "0.00100000"
    assert all(isinstance(item["free"], str) for item in balances.values())
    fees = alice.ok("GET", "account/commission", symbol="BTCUSDT")
    assert fees["standardCommission"]["maker"] == "0.00100000"


# --- market data ----------------------------------------------------------------------------------


def test_what_trades(alice: Rest) -> None:
    info = alice.public("exchangeInfo")
    names = [symbol["symbol"] for symbol in info["symbols"]]
    assert names == ["BTCUSDT", "BTCUSD", "ETHUSDT", "ETHUSD", "SOLUSDT", "SOLUSD"]
    kinds = {limit["rateLimitType"] for limit in info["rateLimits"]}
    assert kinds == {"REQUEST_WEIGHT", "ORDERS", "RAW_REQUESTS"}
    (bitcoin,) = alice.public("exchangeInfo", symbol="BTCUSDT")["symbols"]
    filters = {item["filterType"]: item for item in bitcoin["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert float(filters["LOT_SIZE"]["maxQty"]) >= 9000
    assert float(filters["MARKET_LOT_SIZE"]["maxQty"]) >= 9000
    assert float(filters["NOTIONAL"]["maxNotional"]) >= 9000 * 65000
    two = alice.public("exchangeInfo", symbols='["ETHUSDT","BTCUSDT"]')["symbols"]
    assert [symbol["symbol"] for symbol in two] == ["ETHUSDT", "BTCUSDT"]
    assert alice.public("exchangeInfo", permissions="MARGIN")["symbols"] == []
    for query, code in [
        ("symbol=NONE", -1121),
        ('symbols=["NONE"]', -1121),
        ("symbols=NONE", -1100),
        ('symbols=["BTCUSDT","BTCUSDT"]', -1151),
        ('symbol=BTCUSDT&symbols=["BTCUSDT"]', -1128),
    ]:
        status, answer, _ = alice.raw("GET", "exchangeInfo", query.replace('"', "%22"))
        assert (status, answer["code"]) == (400, code)


def test_trades_are_public(alice: Rest, bob: Rest) -> None:
    mine = bob.place(symbol="ETHUSDT", type="MARKET", quantity="30")
    shown = alice.public("trades", symbol="ETHUSDT", limit=len(mine["fills"]))
    assert [(t["id"], t["price"], t["qty"]) for t in shown] == [
        (f["tradeId"], f["price"], f["qty"]) for f in mine["fills"]
    ]
    assert len(shown) > 1
    assert {t["isBuyerMaker"] for t in shown} == {False}
    groups = alice.public("aggTrades", symbol="ETHUSDT", fromId=shown[0]["id"])
    assert sum(float(g["q"]) for g in groups) == 30
    old = alice.public("historicalTrades", symbol="ETHUSDT", fromId=shown[1]["id"])
    assert old[0]["id"] == shown[1]["id"]
    for interval in ("1s", "1m", "3m", "1h", "2h", "1d", "1w", "1M"):
        rows = alice.public("klines", symbol="ETHUSDT", interval=interval)
        row = rows[-1]
        assert len(row) == 12
        assert float(row[3]) <= float(row[4]) <= float(row[2])
        if interval != "1s":
            assert float(row[5]) >= 30
    assert alice.raw("GET", "klines", "symbol=ETHUSDT&interval=7m")[1]["code"] == -1120
    day = alice.public("ticker/24hr", symbol="ETHUSDT")
    assert float(day["volume"]) >= 30
    assert day["lastPrice"] == mine["fills"][-1]["price"]
    assert day["lastId"] == mine["fills"][-1]["tradeId"]
    assert alice.public("ticker/price", symbol="ETHUSDT")["price"] == day["lastPrice"]
    assert float(alice.public("avgPrice", symbol="ETHUSDT")["price"]) > 0
    assert len(alice.public("ticker/24hr")) == 6
    assert alice.public("ticker", symbol="ETHUSDT", windowSize="1h")["count"] >= len(shown)
    mini = alice.public("ticker/24hr", symbol="ETHUSDT", type="MINI")
    assert "bidPrice" not in mini


def test_the_book(alice: Rest) -> None:
    alice.place(price="64999.99", quantity="0.12345")
    book = alice.public("depth", symbol="BTCUSDT")
    assert book["bids"][0] == ["64999.99000000", "0.12345000"]
    assert float(book["asks"][0][0]) > 64999.99
    assert len(alice.public("depth", symbol="BTCUSDT", limit=5)["bids"]) == 5
    touch = alice.public("ticker/bookTicker", symbol="BTCUSDT")
    assert touch["bidPrice"] == "64999.99000000"


# --- keys to streams, other parts of Binance ------------------------------------------------------


def test_listen_keys(alice: Rest, bob: Rest) -> None:
    key = alice.raw("POST", "userDataStream", key=alice.key)[1]["listenKey"]
    assert alice.raw("POST", "userDataStream", key=alice.key)[1]["listenKey"] == key
    kept = alice.raw("PUT", "userDataStream", f"listenKey={key}", key=alice.key)
    assert kept[:2] == (200, {})
    for method in ("PUT", "DELETE"):
        status, answer, _ = bob.raw(method, "userDataStream", f"listenKey={key}", key=bob.key)
        assert (status, answer["code"]) == (400, -1125)
    assert alice.raw("DELETE", "userDataStream", f"listenKey={key}", key=alice.key)[0] == 200
    assert alice.raw("PUT", "userDataStream", f"listenKey={key}", key=alice.key)[0] == 400
    assert alice.raw("POST", "userDataStream")[0] == 401


def test_what_a_client_asks_of_other_parts(alice: Rest) -> None:
    assert alice.ok("GET", "/sapi/v1/margin/allPairs") == []
    assert {coin["coin"] for coin in alice.ok("GET", "/sapi/v1/capital/config/getall")} == {
        "BTC",
        "ETH",
        "SOL",
        "USD",
        "USDT",
    }
    assert len(alice.ok("GET", "/sapi/v1/asset/tradeFee")) == 6
    for path in ("/fapi/v1/exchangeInfo", "/dapi/v1/exchangeInfo"):
        assert alice.public(path)["symbols"] == []
    assert alice.public("/sapi/v1/system/status") == {"status": 0, "msg": "normal"}
    assert alice.ok("GET", "openOrderList") == []
    assert alice.error("POST", "orderList/oco", symbol="BTCUSDT")[1] == -1013
