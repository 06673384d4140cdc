"""The compiled definition, as a transport uses it: commands, questions, the stream."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tradegw_rest import (
    Credentials,
    Definition,
    Draft,
    HttpResponse,
    Markets,
    Stamp,
    StreamRefused,
    load,
)

from tradegw import AccountName, ExecType, InvalidOrder, OrdStatus, VenueError, VenueRejected
from tradegw import OutcomeUnknown as Unknown
from tradegw.testing import an_order
from tradegw.venue import (
    BalanceUpdate,
    Cancel,
    FetchBalances,
    FetchInstruments,
    FetchOrder,
    FetchServerTime,
    Secret,
    StreamReady,
    Submit,
    TranslateContext,
    VenueTime,
)

NAME = "0123456789abcdef0123456789abcdef"
NOW = 1_700_000_000_000_000_000
MAIN = AccountName("main")
KEY = Credentials(key=Secret("K"), secret=Secret("S"))


@pytest.fixture(scope="module")
def binance() -> Definition:
    return load("binance-spot")


def answer(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    return HttpResponse(
        status=status, headers=headers, body=msgspec.json.encode(body), received_time_ns=7
    )


def draft_of(definition: Definition, command: Any) -> Draft:
    context = TranslateContext(
        instrument=definition.samples.get("BTC/USDT"),
        now=VenueTime(time_ns=NOW),
        venue_client_order_ids=(NAME,),
    )
    request = definition.translate(command, context)
    assert isinstance(request.payload, Draft)
    return request.payload


def a_buy(**fields: Any) -> Any:
    return an_order(**({"price": Decimal(65000), "order_qty": Decimal("0.01")} | fields))


def test_a_limit_order_is_the_bytes_that_ccxt_sends(binance: Definition) -> None:
    draft = draft_of(binance, Submit(order=a_buy()))
    request = binance.signer(KEY).sign(draft, binance.hosts["live"].rest, Stamp(now_ns=NOW + 10**9))
    assert (request.method, request.url) == ("POST", "https://api.binance.com/api/v3/order")
    # The timestamp is that of the translation, however late it is sent: the window counts from it.
    assert request.body == (
        f"timestamp=1700000000000&symbol=BTCUSDT&side=BUY&newClientOrderId={NAME}&newOrderRespType=FULL"
        "&type=LIMIT&quantity=0.01&price=65000&timeInForce=GTC&recvWindow=5000"
        "&signature=16952ba8cd9b237f2dfceb0445be64c55dc83c93bfa1843223a7e4425590d0f1"
    )
    assert "K" not in repr(request).replace("BTC", "")


def test_an_answer_with_fills_becomes_reports(binance: Definition) -> None:
    draft = draft_of(binance, Submit(order=a_buy()))
    fill = {"price": "64999.5", "qty": "0.01", "commission": "0.1", "commissionAsset": "USDT"}
    reports = binance.reports(
        draft,
        answer(
            {
                "symbol": "BTCUSDT",
                "orderId": 28,
                "clientOrderId": NAME,
                "transactTime": 1507725176595,
                "executedQty": "0.01",
                "status": "FILLED",
                "fills": [fill | {"tradeId": 56}],
            }
        ),
    )
    assert [report.exec_type for report in reports] == [
        ExecType.NEW,
        ExecType.TRADE,
        ExecType.ORDER_STATUS,
    ]
    new, trade, end = reports
    assert (new.venue_order_id, new.venue_client_order_id, new.symbol) == ("28", NAME, "BTC/USDT")
    assert (trade.trade_id, trade.last_qty, trade.last_px) == (
        "56",
        Decimal("0.01"),
        Decimal("64999.5"),
    )
    assert (end.ord_status, end.cum_qty) == (OrdStatus.FILLED, Decimal("0.01"))
    assert trade.transact_time_ns == 1507725176595 * 10**6


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"code": -2010, "msg": "Account has insufficient balance."}, 400, VenueRejected),
        ({"code": -2010, "msg": "Duplicate order sent."}, 400, Unknown),
        ({"code": -2010, "msg": "Something new."}, 400, Unknown),
        ({"code": -1007, "msg": "Timeout waiting for response."}, 504, Unknown),
        ({"code": -2010, "msg": "Account has insufficient balance."}, 500, Unknown),
        ({"orderId": 28}, 200, Unknown),
        ({}, 200, Unknown),
        ([], 200, Unknown),
    ],
)
def test_only_a_named_refusal_is_one(
    binance: Definition, body: Any, status: int, error: type[Exception]
) -> None:
    draft = draft_of(binance, Submit(order=a_buy()))
    with pytest.raises(error):
        binance.reports(draft, answer(body, status))


def test_an_acceptance_that_cannot_be_read_is_unknown(binance: Definition) -> None:
    draft = draft_of(binance, Submit(order=a_buy()))
    odd = {"orderId": 1, "status": "NEW", "transactTime": "yesterday"}
    with pytest.raises(Unknown, match="instant"):
        binance.reports(draft, answer(odd))


def test_off_grid_is_refused(binance: Definition) -> None:
    with pytest.raises(InvalidOrder, match=r"price must be a multiple of 0\.01; found 65000\.001"):
        draft_of(binance, Submit(order=a_buy(price=Decimal("65000.001"))))


def test_a_cancel_answers_with_the_name_of_the_order(binance: Definition) -> None:
    draft = draft_of(binance, Cancel(order=a_buy(venue_order_id="28")))
    assert draft.params == {"symbol": "BTCUSDT", "orderId": "28", "origClientOrderId": NAME}
    told = {
        "orderId": 28,
        "clientOrderId": "cancel-1",
        "origClientOrderId": NAME,
        "status": "CANCELED",
        "executedQty": "0.00400000",
        "transactTime": 1,
    }
    (report,) = binance.reports(draft, answer(told))
    assert (report.exec_type, report.venue_client_order_id, report.cum_qty) == (
        ExecType.CANCELED,
        NAME,
        Decimal("0.004"),
    )


def asked(definition: Definition, query: Any, *answers: HttpResponse) -> Any:
    asking = definition.ask(query, markets=definition.samples, account=MAIN, now=lambda: NOW)
    next(asking)
    for one in answers:
        try:
            asking.send(one)
        except StopIteration as stop:
            return stop.value
    raise AssertionError("it asks for more")


def test_not_found_is_an_empty_page_and_silence_is_none(binance: Definition) -> None:
    query = FetchOrder(symbol="BTC/USDT", venue_client_order_id=NAME)  # type: ignore[arg-type]
    page = asked(binance, query, answer({"code": -2013, "msg": "Order does not exist."}, 400))
    assert page.items == ()
    assert page.as_of == VenueTime(time_ns=NOW)
    for odd in (answer({"code": -1, "msg": "?"}, 400), answer({}), answer({}, 503)):
        with pytest.raises(VenueError):
            asked(binance, query, odd)


def test_questions_are_answered(binance: Definition) -> None:
    held = {"balances": [{"asset": "BTC", "free": "1.5", "locked": "0.5"}]}
    (balance,) = asked(binance, FetchBalances(), answer(held)).items
    assert (balance.account, balance.free, balance.held) == (MAIN, Decimal("1.5"), Decimal("0.5"))
    page = asked(binance, FetchServerTime(), answer({"serverTime": 1499827319559}))
    assert page.as_of.time_ns == 1499827319559 * 10**6
    symbol = {
        "symbol": "BTCUSDT",
        "status": "TRADING",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
            {"filterType": "LOT_SIZE", "stepSize": "0.00001000", "minQty": "0", "maxQty": "9000"},
        ],
    }
    markets = Markets(asked(binance, FetchInstruments(), answer({"symbols": [symbol]})).items)
    assert markets.get("BTC/USDT").tick_size == Decimal("0.01")
    assert markets.unified("BTCUSDT") == "BTC/USDT"


def test_the_stream_logs_in_and_reports(binance: Definition) -> None:
    assert binance.stream is not None
    session = binance.stream.begin(
        account=MAIN,
        signer=binance.signer(KEY),
        stamp=lambda: Stamp(now_ns=NOW),
        markets=binance.samples,
    )
    (frame,) = session.start().send
    sent = msgspec.json.decode(frame)
    assert sent["method"] == "userDataStream.subscribe.signature"
    assert set(sent["params"]) == {"apiKey", "timestamp", "signature"}
    ready = session.receive('{"id":"1","status":200,"result":{}}', received_time_ns=1)
    assert ready.items == (StreamReady(),)
    event = {"e": "executionReport", "x": "TRADE", "X": "FILLED", "i": 4, "c": NAME, "s": "BTCUSDT"}
    event |= {"S": "BUY", "z": "1", "t": 9, "l": "1", "L": "100", "n": "0", "N": None, "m": True}
    told = session.receive(
        msgspec.json.encode({"event": event | {"T": 5}}).decode(), received_time_ns=3
    )
    (trade,) = told.items
    assert (trade.symbol, trade.trade_id, trade.cum_qty) == ("BTC/USDT", "9", Decimal(1))
    position = {"e": "outboundAccountPosition", "B": [{"a": "BTC", "f": "1", "l": "0"}]}
    told = session.receive(msgspec.json.encode({"event": position}).decode(), received_time_ns=4)
    assert isinstance(told.items[0], BalanceUpdate)
    assert session.receive('{"event":{"e":"serverShutdown"}}', received_time_ns=5).again


def test_a_refused_login_says_so(binance: Definition) -> None:
    assert binance.stream is not None
    session = binance.stream.begin(
        account=MAIN,
        signer=binance.signer(KEY),
        stamp=lambda: Stamp(now_ns=NOW),
        markets=binance.samples,
    )
    session.start()
    with pytest.raises(StreamRefused, match="Invalid API-key"):
        session.receive(
            '{"id":"1","status":401,"error":{"msg":"Invalid API-key"}}', received_time_ns=1
        )
