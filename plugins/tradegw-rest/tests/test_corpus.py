"""Our requests and readings against what ccxt and the exchanges' SDKs sent and read (oracles/record.py).

Those of ccxt are compared byte for byte, signature included. SDKs order their parameters as they like, so
those are compared by name, and their signature is checked by signing their own bytes.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from tradegw_rest import Credentials, Definition, HttpResponse, Markets, load, names
from tradegw_rest.markets import Listed
from tradegw_rest.operations import COMMANDS, Draft
from tradegw_rest.render import build, read_order, sign
from tradegw_rest.wire import HttpRequest

from tradegw import AccountName, ExecType, ExecutionReport, OrdStatus
from tradegw.venue import FetchInstruments, Secret

from .verify import verify

CORPUS = Path(__file__).parent / "corpus"
MAIN = AccountName("main")


def corpus(definition: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CORPUS / f"{definition}.json").read_text("utf-8"))
    return found


def keys_of(definition: str) -> dict[str, str]:
    keys: dict[str, str] = corpus(definition)["credentials"]
    return keys


def cases() -> list[Any]:
    return [
        pytest.param(name, case, id=f"{name} {case['id']}")
        for name in names()
        for case in corpus(name)["cases"]
    ]


def credentials(record: dict[str, Any]) -> Credentials:
    keys = record["credentials"]
    return Credentials(
        key=Secret(keys["key"]),
        secret=Secret(keys["secret"]),
        passphrase=Secret(keys["passphrase"]) if "passphrase" in keys else None,
    )


_MARKETS: dict[str, Markets] = {}


def markets(definition: Definition, record: dict[str, Any]) -> Markets:
    """Return the markets as our own definition reads the venue's list of them, which ccxt read too."""
    if definition.name not in _MARKETS:
        asking = definition.ask(
            FetchInstruments(),
            markets=Markets(),
            account=MAIN,
            now=lambda: record["clock_ms"] * 10**6,
        )
        next(asking)
        with pytest.raises(StopIteration) as stop:
            asking.send(ok(record["markets"]))
        _MARKETS[definition.name] = Markets(stop.value.value.items)
    return _MARKETS[definition.name]


def ok(body: Any) -> HttpResponse:
    return HttpResponse(status=200, headers={}, body=msgspec.json.encode(body), received_time_ns=7)


def ours(name: str, case: dict[str, Any]) -> tuple[Definition, Draft, HttpRequest]:
    record, definition = corpus(name), load(name)
    known = markets(definition, record)
    order = read_order(case["order"])
    market = Listed(instrument=known.get(order.symbol), aliases=known.aliases(order.symbol))
    now_ns = record["clock_ms"] * 10**6
    draft = build(definition, case["operation"], order, market, now_ns)
    request = sign(
        definition,
        draft,
        credentials(record),
        now_ns=now_ns,
        nonce=record["credentials"].get("nonce"),
    )
    return definition, draft, request


SIGNATURE_HEADERS = {
    "x-mbx-apikey",
    "api-key",
    "api-sign",
    "ok-access-key",
    "ok-access-sign",
    "ok-access-timestamp",
    "ok-access-passphrase",
    "x-bapi-api-key",
    "x-bapi-sign",
    "x-bapi-timestamp",
    "x-bapi-recv-window",
    "x-auth",
    "x-auth-signature",
    "x-auth-nonce",
    "x-auth-timestamp",
    "x-auth-version",
}


def signed_headers(headers: dict[str, str]) -> dict[str, str]:
    return {k.lower(): v for k, v in headers.items() if k.lower() in SIGNATURE_HEADERS}


@pytest.mark.parametrize("name", names())
def test_the_corpus_is_as_big_as_promised(name: str) -> None:
    record = corpus(name)
    assert len([case for case in record["cases"] if "answer" in case]) >= 40
    # Bitstamp publishes no SDK of its own; `verify.py` is the second opinion there.
    assert len(record["oracles"]) == (1 if name == "bitstamp" else 2)


@pytest.mark.parametrize(("name", "case"), cases())
def test_a_request_is_what_the_oracle_sends(name: str, case: dict[str, Any]) -> None:
    _, _, request = ours(name, case)
    theirs, keys = case["request"], corpus(name)["credentials"]
    assert request.method == theirs["method"]
    assert urlsplit(request.url)[:3] == urlsplit(theirs["url"])[:3]
    if theirs["body"] == "foo=bar":
        # The one thing that ccxt invents: there is nothing to say.
        assert case["differs"]
        assert request.body == ""
        assert "Content-Type" not in request.headers
        verify(
            name,
            keys,
            request.method,
            request.url,
            dict(request.headers),
            "",
        )
        return
    if case["oracle"] == "ccxt" and name != "coinbase":
        assert request.url == theirs["url"]
        assert request.body == theirs["body"]
        assert signed_headers(dict(request.headers)) == signed_headers(theirs["headers"])
    elif case["oracle"] == "ccxt":
        # A token is signed with fresh randomness each time; what it covers is compared below.
        assert (request.url, request.body) == (theirs["url"], theirs["body"])
    else:
        assert parameters(request.url, request.body) == parameters(theirs["url"], theirs["body"])
        verify(
            name,
            keys,
            theirs["method"],
            theirs["url"],
            theirs["headers"],
            theirs["body"],
        )
    verify(
        name,
        keys,
        request.method,
        request.url,
        dict(request.headers),
        request.body,
    )


# Set by the signature or the clock, or left to the venue's default.
IGNORED = {"signature", "timestamp", "recvWindow", "nonce"}
# python-kraken-sdk spells out what the exchange does anyway.
DEFAULTS = {
    ("reduce_only", "False"),
    ("starttm", "0"),
    ("stp_type", "cancel-newest"),
    ("validate", "False"),
}


def parameters(url: str, body: str) -> dict[str, str]:
    found: dict[str, Any] = dict(parse_qsl(urlsplit(url).query))
    if body.startswith(("{", "[")):
        found |= json.loads(body, parse_float=str)
    else:
        found |= dict(parse_qsl(body))
    return {
        key: str(value)
        for key, value in found.items()
        # python-okx sends what it was not given as empty text; Binance's SDK its 65000 as 65000.0.
        if key not in IGNORED and value not in ("", [], None) and (key, str(value)) not in DEFAULTS
    }


STATUS = {
    "open": {OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED},
    "closed": {OrdStatus.FILLED},
    "canceled": {OrdStatus.CANCELED},
}


@pytest.mark.parametrize(("name", "case"), [case for case in cases() if "answer" in case.values[1]])
def test_an_answer_says_what_the_oracle_reads(name: str, case: dict[str, Any]) -> None:
    definition, draft, _ = ours(name, case)
    if case["operation"] == "stream_token":
        assert definition.token(
            draft, ok(case["answer"] or {"result": {"token": "t"}, "token": "t"})
        )
        return
    response = ok(case["answer"])
    if case["operation"] in COMMANDS:
        told: Any = definition.reports(draft, response)
    else:
        # The account's markets are known when an answer is read.
        draft.inputs.markets = markets(definition, corpus(name))
        told = definition.page(draft, response, MAIN).items
    read = case["read"]
    if case["operation"] == "balances":
        (balance,) = told
        assert (balance.free, balance.held) == (Decimal("1.5"), Decimal("0.5"))
        return
    if case["operation"] == "cancel_all":
        return
    assert told
    rows = read if isinstance(read, list) else [read]
    if not rows or rows == [None] or "error" in (rows[0] or {}):
        # The oracle was asked natively, and read nothing.
        check_alone(case, told[0])
        return
    agree(case, rows[0] or {}, told)


def check_alone(case: dict[str, Any], report: ExecutionReport) -> None:
    assert report.symbol == case["order"]["symbol"]
    assert report.venue_order_id or report.venue_client_order_id


def agree(case: dict[str, Any], read: dict[str, Any], told: Any) -> None:
    first: ExecutionReport = told[0]
    assert first.symbol == read.get("symbol", case["order"]["symbol"])
    if first.exec_type is ExecType.TRADE:
        assert first.trade_id in {read["id"], "e-56"}
        assert first.venue_order_id == read["order"]
        assert (first.last_qty, first.last_px) == (
            Decimal(str(read["amount"])),
            Decimal(str(read["price"])),
        )
        assert first.side is None or first.side.lower() == read["side"]
        if "takerOrMaker" in read and first.liquidity != "UNKNOWN":
            assert first.liquidity.lower() == read["takerOrMaker"]
        return
    # What ccxt returns of an amendment is not the order's id.
    if case["operation"] == "replace":
        return
    if first.venue_order_id is not None and "id" in read:
        assert first.venue_order_id == read["id"]
    # In the answer to a cancel ccxt returns the cancel's own id.
    if "clientOrderId" in read and case["operation"] != "cancel":
        assert first.venue_client_order_id == read["clientOrderId"]
    if first.exec_type is ExecType.ORDER_STATUS:
        assert first.ord_status in STATUS[read["status"]]
        if "side" in read:
            assert first.side is not None
            assert first.side.lower() == read["side"]
        if first.cum_qty is not None and "filled" in read:
            assert first.cum_qty == Decimal(str(read["filled"]))
        if first.price is not None and "price" in read:
            assert first.price == Decimal(str(read["price"]))
        if first.order_qty is not None and "amount" in read:
            assert first.order_qty == Decimal(str(read["amount"]))
