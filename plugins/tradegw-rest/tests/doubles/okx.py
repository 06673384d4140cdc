"""OKX v5, spot in cash mode: REST, and the private WebSocket.

Source: OKX docs-v5, "REST Authentication", "Transaction Timeouts", "Order Book Trading" (Trade, Algo
Trading), "Trading Account", "WebSocket" (login, orders, orders-algo, account), "Error Code".
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

from tradegw_mock.exchange import (
    Fill,
    Liquidity,
    Order,
    OrderEvent,
    OrderRequest,
    OrdStatus,
    OrdType,
    Refusal,
    RefusalCode,
    Side,
    TimeInForce,
)

from .core import (
    ASK,
    BID,
    NS_PER_S,
    TRADER,
    Call,
    Connection,
    Double,
    Refused,
    Route,
    amount,
    plain,
)

_CODES = {
    RefusalCode.INSUFFICIENT_FUNDS: "51008",
    RefusalCode.UNKNOWN_SYMBOL: "51001",
    RefusalCode.DUPLICATE_CLIENT_ORDER_ID: "51016",
    RefusalCode.QTY_TOO_SMALL: "51020",
    RefusalCode.QTY_OFF_STEP: "51121",
    RefusalCode.PRICE_OUT_OF_RANGE: "51006",
}
_GONE = {"cancel": "51400", "replace": "51503", "order": "51603"}
_STATES = {
    OrdStatus.NEW: "live",
    OrdStatus.PARTIALLY_FILLED: "partially_filled",
    OrdStatus.FILLED: "filled",
    # IOC and FOK that found nobody, and post-only that would have taken, are canceled too.
    OrdStatus.CANCELED: "canceled",
    OrdStatus.EXPIRED: "canceled",
    OrdStatus.REJECTED: "canceled",
}
_FIRST_ALGO = 1_000_000


class Okx(Double):
    """One account at OKX."""

    definition = "okx-spot"
    symbol = "BTC/USDT"
    tick = "0.1"
    step = "0.0000001"
    passphrase = "open sesame"
    secret = "okx-secret"
    stream_path = "/ws/v5/private"
    has_received_fees = True
    says_no_key = "Login failed"

    def routes(self) -> Iterator[Route]:
        post = [
            ("trade/order", "place", self._place),
            ("trade/cancel-order", "cancel", self._cancel),
            ("trade/amend-order", "replace", self._amend),
            ("trade/order-algo", "place", self._place_algo),
            ("trade/cancel-algos", "cancel", self._cancel_algo),
        ]
        get = [
            ("trade/order", "order", self._order),
            ("trade/order-algo", "order", self._algo),
            ("trade/orders-pending", "open_orders", self._pending),
            ("trade/orders-algo-pending", "open_algos", self._algos),
            ("trade/orders-history", "history", self._history),
            ("trade/fills-history", "fills", self._fills),
            ("account/balance", "balances", self._balances),
        ]
        public = [
            ("public/instruments", "instruments", self._instruments),
            ("market/ticker", "reference_price", self._ticker),
            ("public/time", "server_time", self._time),
        ]
        for path, operation, handler in post:
            yield Route("POST", f"/api/v5/{path}", operation, handler)
        for path, operation, handler in get:
            yield Route("GET", f"/api/v5/{path}", operation, handler)
        for path, operation, handler in public:
            yield Route("GET", f"/api/v5/{path}", operation, handler, is_public=True)

    # --- manners ----------------------------------------------------------------------------------

    def authenticate(self, call: Call) -> None:
        empty = {"KEY": "50103", "PASSPHRASE": "50104", "SIGN": "50106", "TIMESTAMP": "50107"}
        given = {name: call.headers.get(f"OK-ACCESS-{name}", "") for name in empty}
        for name, code in empty.items():
            if not given[name]:
                raise _denied(code, 401)
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", given["TIMESTAMP"]):
            raise _denied("50112", 401)
        at_s = datetime.fromisoformat(given["TIMESTAMP"]).timestamp()
        if abs(at_s - self.now_ns() / NS_PER_S) > 30:
            raise _denied("50102", 401)
        if given["KEY"] != self.key:
            raise _denied("50111", 401)
        if given["PASSPHRASE"] != self.passphrase:
            raise _denied("50105", 401)
        text = given["TIMESTAMP"] + call.method + call.target + call.body.decode()
        if given["SIGN"] != self._sign(text):
            raise _denied("50113", 401)
        if call.method == "POST" and call.content_type != "application/json":
            raise _denied("50006", 400)

    def _sign(self, text: str) -> str:
        return base64.b64encode(
            hmac.new(self.secret.encode(), text.encode(), "sha256").digest()
        ).decode()

    def refusal(self, refusal: Refusal, operation: str) -> Refused:
        if refusal.code in {RefusalCode.UNKNOWN_ORDER, RefusalCode.ORDER_CLOSED}:
            code = _GONE[operation]
        else:
            code = _CODES.get(refusal.code, "51000")
        if operation == "order":
            return _denied(code)
        return _item(code)

    def throttled(self) -> Refused:
        return _denied("50011", 429)

    def _check_expiry(self, call: Call) -> None:
        text = call.headers.get("expTime")
        if text is not None and int(text) < self.now_ms:
            raise _denied("50036")

    # --- commands ---------------------------------------------------------------------------------

    def _request(self, body: dict[str, str], kind: OrdType, **more: Any) -> OrderRequest:
        if body.get("instId") != "BTC-USDT":
            raise _item("51001")
        if body.get("tdMode") != "cash" or body.get("side") not in {"buy", "sell"}:
            raise _item("51000")
        side = Side(body["side"].upper())
        unit = body.get("tgtCcy", "quote_ccy" if side is Side.BUY else "base_ccy")
        size = amount(body.get("sz"), _item("51000"))
        in_quote = kind is OrdType.MARKET and unit == "quote_ccy"
        return OrderRequest(
            symbol=self.symbol,
            side=side,
            ord_type=kind,
            order_qty=None if in_quote else size,
            quote_qty=size if in_quote else None,
            **more,
        )

    def _place(self, call: Call) -> Any:
        self._check_expiry(call)
        body = json.loads(call.body)
        name = body.get("clOrdId", "")
        if not re.fullmatch(r"[A-Za-z0-9]{0,32}", name):
            raise _item("51000")
        word = body.get("ordType")
        if word not in {"market", "limit", "post_only", "fok", "ioc"}:
            raise _item("51000")
        is_limit = word != "market"
        force = TimeInForce(word.upper()) if word in {"fok", "ioc"} else TimeInForce.GTC
        price = amount(body.get("px"), _item("51000")) if is_limit else None
        request = self._request(
            body,
            OrdType.LIMIT if is_limit else OrdType.MARKET,
            price=price,
            time_in_force=force,
            post_only=word == "post_only",
            client_order_id=name or None,
        )
        try:
            order = self.exchange.place(TRADER, request).order
        except Refusal as e:
            if e.code is not RefusalCode.WOULD_CROSS:
                raise
            # It is taken, and cancelled before it trades.
            order = self.bury(request)
        assert order is not None
        return self._done(order)

    def _done(self, order: Order) -> Any:
        row = {"ordId": str(order.order_id), "clOrdId": order.client_order_id or "", "tag": ""}
        row |= {"ts": str(self.now_ms), "sCode": "0", "sMsg": ""}
        return _ok([row]) | {"inTime": "1", "outTime": "2"}

    def _named(self, row: dict[str, str]) -> dict[str, Any]:
        if row.get("ordId"):
            return {"order_id": int(row["ordId"])}
        return {"client_order_id": row.get("clOrdId")}

    def _cancel(self, call: Call) -> Any:
        body = json.loads(call.body)
        named = self._named(body)
        order = self.exchange.get_order(TRADER, **named)
        if order.is_waiting:
            raise _item("51400")
        self.exchange.cancel(TRADER, **named)
        return self._done(order)

    def _amend(self, call: Call) -> Any:
        self._check_expiry(call)
        body = json.loads(call.body)
        named = self._named(body)
        order = self.exchange.get_order(TRADER, **named)
        self.exchange.replace(
            TRADER,
            **named,
            order_qty=amount(body["newSz"], _item("51000")) if "newSz" in body else None,
            price=amount(body["newPx"], _item("51000")) if "newPx" in body else None,
        )
        return self._done(order)

    # Orders with a trigger have ids of their own; once triggered, an order with another id does the work.

    def _place_algo(self, call: Call) -> Any:
        body = json.loads(call.body)
        if body.get("ordType") != "conditional" or "clOrdId" in body:
            raise _item("51000")
        prefix = "sl" if "slTriggerPx" in body else "tp"
        trigger = amount(body.get(f"{prefix}TriggerPx"), _item("51000"))
        limit = body.get(f"{prefix}OrdPx")
        kind = OrdType.STOP if prefix == "sl" else OrdType.TAKE_PROFIT
        if limit != "-1":
            kind = OrdType.STOP_LIMIT if prefix == "sl" else OrdType.TAKE_PROFIT_LIMIT
        request = self._request(
            body,
            kind,
            price=None if limit == "-1" else amount(limit, _item("51000")),
            trigger_price=trigger,
            client_order_id=body.get("algoClOrdId"),
        )
        order = self.exchange.place(TRADER, request).order
        assert order is not None
        return self._algo_done(order)

    def _algo_done(self, order: Order) -> Any:
        row = {"algoId": str(order.order_id + _FIRST_ALGO), "sCode": "0", "sMsg": ""}
        return _ok([row | {"algoClOrdId": order.client_order_id or ""}])

    def _find_algo(self, row: dict[str, str]) -> Order | None:
        if row.get("algoId"):
            order = self.find(order_id=int(row["algoId"]) - _FIRST_ALGO)
        else:
            order = self.find(name=row.get("algoClOrdId", ""))
        return order if order is not None and order.trigger_price is not None else None

    def _cancel_algo(self, call: Call) -> Any:
        (row,) = json.loads(call.body)
        order = self._find_algo(row)
        if order is None or not order.is_waiting:
            raise _item("51400")
        self.exchange.cancel(TRADER, order_id=order.order_id)
        return self._algo_done(order)

    # --- questions --------------------------------------------------------------------------------

    def _row(self, order: Order, fill: Fill | None = None) -> dict[str, Any]:
        kind = "market" if order.price is None else "limit"
        if order.time_in_force is not TimeInForce.GTC:
            kind = order.time_in_force.lower()
        if order.post_only:
            kind = "post_only"
        # What a trigger made bears the name of its algo order, and none of its own.
        own = "" if order.trigger_price else order.client_order_id or ""
        size = order.order_qty or order.quote_qty or Decimal(0)
        row = {
            "instType": "SPOT",
            "instId": "BTC-USDT",
            "ordId": str(order.order_id),
            "clOrdId": own,
            "algoId": str(order.order_id + _FIRST_ALGO) if order.trigger_price else "",
            "algoClOrdId": (order.client_order_id or "") if order.trigger_price else "",
            "tgtCcy": "" if kind != "market" else "base_ccy" if order.order_qty else "quote_ccy",
            "px": "" if order.price is None else plain(order.price),
            "sz": plain(size),
            "ordType": kind,
            "side": order.side.lower(),
            "tdMode": "cash",
            "state": _STATES[order.ord_status],
            "accFillSz": plain(order.cum_qty),
            "avgPx": plain(self.average(order)) if order.cum_qty else "",
            "cancelSource": "" if _STATES[order.ord_status] != "canceled" else "1",
            "cTime": str(order.created_time_ns // 1_000_000),
            "uTime": str(order.updated_time_ns // 1_000_000),
            "tradeId": "",
            "fillSz": "",
            "fillPx": "",
            "fillTime": "",
            "fee": "0",
            "feeCcy": "",
        }
        if fill is not None:
            fee, asset = self.fee(fill)
            row |= {
                "tradeId": str(fill.trade_id),
                "fillSz": plain(fill.qty),
                "fillPx": plain(fill.price),
                "fillTime": str(fill.time_ns // 1_000_000),
                "fillFee": plain(-fee),
                "fillFeeCcy": asset,
                "execType": "M" if fill.liquidity is Liquidity.MAKER else "T",
            }
        return row

    def _algo_row(self, order: Order) -> dict[str, Any]:
        is_stop = order.ord_type in {OrdType.STOP, OrdType.STOP_LIMIT}
        prefix = "sl" if is_stop else "tp"
        state = "live" if order.is_waiting else "effective" if order.triggered else "canceled"
        row = dict.fromkeys(
            ("slTriggerPx", "slOrdPx", "tpTriggerPx", "tpOrdPx", "ordId", "actualSz"), ""
        )
        return row | {
            "instType": "SPOT",
            "instId": "BTC-USDT",
            "algoId": str(order.order_id + _FIRST_ALGO),
            "algoClOrdId": order.client_order_id or "",
            "ordId": str(order.order_id) if order.triggered else "",
            "ordType": "conditional",
            "side": order.side.lower(),
            "sz": plain(order.order_qty or Decimal(0)),
            "state": state,
            f"{prefix}TriggerPx": plain(order.trigger_price or Decimal(0)),
            f"{prefix}OrdPx": "-1" if order.price is None else plain(order.price),
            "cTime": str(order.created_time_ns // 1_000_000),
            "uTime": str(order.updated_time_ns // 1_000_000),
        }

    def _order(self, call: Call) -> Any:
        query = call.query
        named = self._named(query)
        order = self.get(order_id=named.get("order_id"), name=named.get("client_order_id"))
        if query.get("instId") != "BTC-USDT":
            raise _denied("51001")
        if order.trigger_price is not None and (not order.triggered or "ordId" not in query):
            raise _denied("51603")
        return _ok([self._row(order)])

    def _algo(self, call: Call) -> Any:
        order = self._find_algo(call.query)
        if order is None:
            raise _denied("51603")
        return _ok([self._algo_row(order)])

    def _pending(self, call: Call) -> Any:
        rows = [self._row(o) for o in reversed(self.open_orders()) if not o.is_waiting]
        return _ok(_page(rows, call, "ordId"))

    def _algos(self, call: Call) -> Any:
        orders = reversed(self.exchange.open_orders(TRADER))
        return _ok(_page([self._algo_row(o) for o in orders if o.is_waiting], call, "algoId"))

    def _history(self, call: Call) -> Any:
        orders = [o for o in reversed(self.orders()) if not o.is_open]
        return _ok(_page([self._row(order) for order in orders], call, "ordId"))

    def _fills(self, call: Call) -> Any:
        query = call.query
        rows: list[dict[str, Any]] = []
        for fill in reversed(self.fills()):
            if query.get("ordId") not in {None, str(fill.order_id)}:
                continue
            if fill.time_ns // 1_000_000 < int(query.get("begin", "0")):
                continue
            fee, asset = self.fee(fill)
            order = self.exchange.get_order(TRADER, order_id=fill.order_id)
            rows.append(
                {
                    "instType": "SPOT",
                    "instId": "BTC-USDT",
                    "tradeId": str(fill.trade_id),
                    "ordId": str(fill.order_id),
                    "clOrdId": "" if order.trigger_price else fill.client_order_id or "",
                    "billId": str(fill.trade_id + 5_000_000),
                    "fillPx": plain(fill.price),
                    "fillSz": plain(fill.qty),
                    "side": fill.side.lower(),
                    "execType": "M" if fill.liquidity is Liquidity.MAKER else "T",
                    "feeCcy": asset,
                    "fee": plain(-fee),
                    "ts": str(fill.time_ns // 1_000_000),
                    "fillTime": str(fill.time_ns // 1_000_000),
                }
            )
        return _ok(_page(rows, call, "billId"))

    def _details(self) -> list[dict[str, str]]:
        return [
            {
                "ccy": asset,
                "availBal": plain(balance.free),
                "frozenBal": plain(balance.held),
                "cashBal": plain(balance.free + balance.held),
            }
            for asset, balance in self.balances().items()
        ]

    def _balances(self, call: Call) -> Any:
        return _ok([{"uTime": str(self.now_ms), "details": self._details()}])

    def _instruments(self, call: Call) -> Any:
        row = {
            "instType": "SPOT",
            "instId": "BTC-USDT",
            "baseCcy": "BTC",
            "quoteCcy": "USDT",
            "tickSz": self.tick,
            "lotSz": self.step,
            "minSz": plain(self.instrument.min_qty),
            "maxLmtSz": plain(self.instrument.max_qty),
            "maxMktSz": plain(self.instrument.max_qty),
            "state": "live",
        }
        return _ok([row])

    def _ticker(self, call: Call) -> Any:
        return _ok([{"askPx": plain(ASK), "bidPx": plain(BID), "ts": str(self.now_ms)}])

    def _time(self, call: Call) -> Any:
        return _ok([{"ts": str(self.now_ms)}])

    # --- stream -----------------------------------------------------------------------------------

    def hear(self, connection: Connection, text: str) -> None:
        if text == "ping":
            connection.send("pong")
            return
        message = json.loads(text)
        (arg,) = message["args"]
        if message["op"] == "login":
            connection.is_known = (
                (arg["apiKey"], arg["passphrase"]) == (self.key, self.passphrase)
                # In seconds here, and the text that is signed is that of a REST request.
                and abs(int(arg["timestamp"]) - self.now_ns() // NS_PER_S) <= 30
                and arg["sign"] == self._sign(f"{arg['timestamp']}GET/users/self/verify")
            )
            self.logins += connection.is_known
            if connection.is_known:
                connection.send({"event": "login", "code": "0", "msg": "", "connId": "c"})
            else:
                connection.send({"event": "error", "code": "60009", "msg": "Login failed."})
            return
        channel = arg["channel"]
        if not connection.is_known:
            connection.send({"event": "error", "code": "60011", "msg": "Please log in."})
            return
        assert channel == "account" or arg["instType"] == "SPOT"
        connection.topics.add(channel)
        connection.send({"event": "subscribe", "arg": arg, "connId": "c"})
        if channel == "account":
            self.tell_balances(connection)

    def tell_balances(self, connection: Connection) -> None:
        if "account" in connection.topics:
            data = [{"uTime": str(self.now_ms), "details": self._details()}]
            connection.send({"arg": {"channel": "account"}, "data": data})

    def tell_order(self, connection: Connection, event: OrderEvent) -> None:
        order = event.order
        if order.trigger_price is not None and event.fill is None:
            arg = {"channel": "orders-algo", "instType": "SPOT"}
            if "orders-algo" in connection.topics:
                connection.send({"arg": arg, "data": [self._algo_row(order)]})
            if not order.triggered:
                return
        if "orders" in connection.topics:
            arg = {"channel": "orders", "instType": "SPOT", "uid": "1"}
            connection.send({"arg": arg, "data": [self._row(order, event.fill)]})


def _page(rows: list[dict[str, Any]], call: Call, key: str) -> list[dict[str, Any]]:
    after = call.query.get("after")
    with suppress(TypeError, ValueError):
        rows = [row for row in rows if int(row[key]) < int(after or "")]
    return rows[:100]


def _ok(data: Any) -> dict[str, Any]:
    return {"code": "0", "msg": "", "data": data}


def _item(code: str) -> Refused:
    row = {"ordId": "", "clOrdId": "", "tag": "", "ts": "1", "sCode": code, "sMsg": f"error {code}"}
    return Refused({"code": "1", "msg": "All operations failed", "data": [row]})


def _denied(code: str, status: int = 200) -> Refused:
    return Refused({"code": code, "msg": f"error {code}", "data": []}, status)
