"""Bitstamp v2: REST, and the private channels of its WebSocket.

Source: Bitstamp API v2 reference ("Authentication", "Orders", "Transactions", "Account balances", "Markets",
"Websocket tokens"; WebSocket API v2, "Private channels"), as read through JKorf/Bitstamp.Net.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tradegw_mock.exchange import (
    ExecType,
    Fill,
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
    RefusalCode.INSUFFICIENT_FUNDS: "400.009",
    RefusalCode.DUPLICATE_CLIENT_ORDER_ID: "400.019",
    RefusalCode.UNKNOWN_ORDER: "404.002",
    RefusalCode.ORDER_CLOSED: "404.002",
    RefusalCode.PRICE_OFF_TICK: "400.021",
    RefusalCode.NOTIONAL_TOO_SMALL: "400.020",
    RefusalCode.QTY_TOO_SMALL: "400.037",
    RefusalCode.QTY_OFF_STEP: "400.046",
}
_FIRST_ID = 1_400_000_000_000_000
_TOKEN, _USER = "t0ken", 7


class Bitstamp(Double):
    """One account at Bitstamp."""

    definition = "bitstamp"
    symbol = "BTC/USD"
    tick = "1"
    step = "0.00000001"
    secret = "bitstamp-secret"
    stream_path = "/"
    tells_liquidity = False
    tells_balances_live = False
    says_no_key = "API0005"

    def routes(self) -> Iterator[Route]:
        for path, operation, handler in (
            ("buy/instant/{market}/", "place", self._instant),
            ("{side}/market/{market}/", "place", self._market),
            ("cancel_order/", "cancel", self._cancel),
            ("cancel_all_orders/(?:btcusd/)?", "cancel_all", self._cancel_all),
            ("order_status/", "order", self._status),
            ("open_orders/{market}/", "open_orders", self._open),
            ("user_transactions/{market}/", "fills", self._transactions),
            ("account_balances/", "balances", self._balances),
            ("websockets_token/", "stream_token", self._token),
            # The last, because its shape fits others.
            ("{side}/{market}/", "place", self._limit),
        ):
            yield Route("POST", f"/api/v2/{path}", operation, handler)
        yield Route("GET", "/api/v2/markets/", "instruments", self._markets, is_public=True)
        yield Route("GET", "/api/v2/ticker/btcusd/", "server_time", self._ticker, is_public=True)

    # --- manners ----------------------------------------------------------------------------------

    def authenticate(self, call: Call) -> None:
        headers = call.headers
        if headers.get("X-Auth") != f"BITSTAMP {self.key}":
            raise _error("API0001", 403)
        nonce, stamp = headers.get("X-Auth-Nonce", ""), headers.get("X-Auth-Timestamp", "")
        if headers.get("X-Auth-Version") != "v2" or not stamp.isdigit():
            raise _error("API0005", 403)
        if abs(int(stamp) - self.now_ms) > 150_000:
            raise _error("API0005", 403)
        content_type = headers.get("Content-Type", "")
        if bool(content_type) != bool(call.body):
            raise _error("API0005", 403)
        if call.body and content_type != "application/x-www-form-urlencoded":
            raise _error("API0005", 403)
        # Every part as it was sent, one after the other.
        text = f"BITSTAMP {self.key}{call.method}{self.host}{call.path}{call.query_string}"
        text += content_type + nonce + stamp + "v2" + call.body.decode()
        sign = hmac.new(self.secret.encode(), text.encode(), "sha256").hexdigest()
        if not hmac.compare_digest(headers.get("X-Auth-Signature", "").lower(), sign):
            raise _error("API0005", 403)
        if not re.fullmatch(r"[0-9a-f-]{36}", nonce) or nonce in self._nonces:
            raise _error("API0004", 403)
        self._nonces.add(nonce)

    @property
    def _nonces(self) -> set[str]:
        nonces: set[str] = self.__dict__.setdefault("_used", set())
        return nonces

    def refusal(self, refusal: Refusal, operation: str) -> Refused:
        code = _CODES.get(refusal.code, "400.001")
        return _error(code, int(code[:3]))

    def throttled(self) -> Refused:
        return _error("400.002", 400)

    # --- commands ---------------------------------------------------------------------------------

    def _place(self, side: str, market: str, form: dict[str, str], **more: Any) -> Any:
        if market != "btcusd" or side not in {"buy", "sell"}:
            raise _error("404.003", 404)
        name = form.get("client_order_id")
        if name is not None and self.find(name=name) is not None:
            # Once, and never again.
            raise _error("400.019", 400)
        request = OrderRequest(
            symbol=self.symbol, side=Side(side.upper()), client_order_id=name, **more
        )
        try:
            order = self.exchange.place(TRADER, request).order
        except Refusal as e:
            if e.code is not RefusalCode.WOULD_CROSS:
                raise
            order = self.bury(request)
        assert order is not None
        return {
            "id": str(_id(order)),
            "market": "BTC/USD",
            "datetime": _at(order.created_time_ns),
            "type": _side(order.side),
            "price": plain(order.price or ASK),
            "amount": form["amount"],
            "client_order_id": name,
        }

    def _instant(self, call: Call, market: str) -> Any:
        form = call.form()
        value = amount(form.get("amount"), _error("400.037", 400))
        return self._place("buy", market, form, ord_type=OrdType.MARKET, quote_qty=value)

    def _market(self, call: Call, side: str, market: str) -> Any:
        form = call.form()
        qty = amount(form.get("amount"), _error("400.037", 400))
        return self._place(side, market, form, ord_type=OrdType.MARKET, order_qty=qty)

    def _limit(self, call: Call, side: str, market: str) -> Any:
        form = call.form()
        force = TimeInForce.GTC
        for word in ("ioc", "fok"):
            if form.get(f"{word}_order") == "True":
                force = TimeInForce(word.upper())
        return self._place(
            side,
            market,
            form,
            ord_type=OrdType.LIMIT,
            order_qty=amount(form.get("amount"), _error("400.037", 400)),
            price=amount(form.get("price"), _error("400.021", 400)),
            time_in_force=force,
            post_only=form.get("moc_order") == "True",
        )

    def _named(self, form: dict[str, str]) -> Order:
        if "id" in form:
            return self.get(order_id=int(form["id"]) - _FIRST_ID)
        return self.get(name=form.get("client_order_id", ""))

    def _cancel(self, call: Call) -> Any:
        order = self._named(call.form())
        self.exchange.cancel(TRADER, order_id=order.order_id)
        return {
            "id": _id(order),
            "amount": float(order.leaves_qty),
            "price": float(order.price or 0),
            "type": int(_side(order.side)),
            "market": "BTC/USD",
            "status": "Canceled",
        }

    def _cancel_all(self, call: Call) -> Any:
        orders = self.exchange.open_orders(TRADER)
        self.exchange.cancel_all(TRADER)
        rows = [{"id": _id(order), "currency_pair": "BTC/USD"} for order in orders]
        return {"canceled": rows, "success": True}

    # --- questions --------------------------------------------------------------------------------

    def _status(self, call: Call) -> Any:
        order = self._named(call.form())
        rows = [
            {
                "tid": fill.trade_id,
                "price": plain(fill.price),
                "btc": plain(fill.qty),
                "usd": plain(fill.quote_qty),
                "fee": plain(self.fee(fill)[0]),
                "datetime": _at(fill.time_ns),
                "type": 2,
            }
            for fill in self.fills_of(order)
        ]
        status = "Open" if order.is_open else "Canceled"
        if order.ord_status is OrdStatus.FILLED:
            status = "Finished"
        left = (order.order_qty or order.cum_qty) - order.cum_qty
        return {
            "id": _id(order),
            "datetime": _at(order.created_time_ns),
            "type": _side(order.side),
            "status": status,
            "market": "BTC/USD",
            "transactions": rows,
            "amount_remaining": plain(left),
            "client_order_id": order.client_order_id,
        }

    def _open(self, call: Call, market: str) -> Any:
        if market not in {"all", "btcusd"}:
            raise _error("404.003", 404)
        return [
            {
                "id": str(_id(order)),
                "datetime": _at(order.created_time_ns),
                "type": _side(order.side),
                "subtype": "0",
                "price": plain(order.price or Decimal(0)),
                "amount": plain(order.leaves_qty),
                "amount_at_create": plain(order.order_qty or Decimal(0)),
                "currency_pair": "BTC/USD",
                "market": "BTC/USD",
                "client_order_id": order.client_order_id,
            }
            for order in reversed(self.open_orders())
        ]

    def _transactions(self, call: Call, market: str) -> Any:
        form = call.form()
        since_s = int(form.get("since_timestamp", "0"))
        offset, limit = int(form.get("offset", "0")), int(form.get("limit", "100"))
        if limit > 1000 or offset > 200_000:
            raise _error("400.001", 400)
        fills = [f for f in self.fills() if f.time_ns // NS_PER_S >= since_s]
        if form.get("sort", "desc") == "desc":
            fills.reverse()
        deposit = {"id": 1, "type": "0", "datetime": _at(self.now_ns()), "usd": "5", "fee": "0"}
        rows = [self._transaction(fill) for fill in fills]
        return [deposit, *rows][offset : offset + limit]

    def _transaction(self, fill: Fill) -> dict[str, Any]:
        sign = 1 if fill.side is Side.BUY else -1
        return {
            "id": fill.trade_id,
            "order_id": fill.order_id + _FIRST_ID,
            "datetime": _at(fill.time_ns),
            "type": "2",
            "btc": plain(fill.qty * sign),
            "usd": plain(fill.quote_qty * -sign),
            "btc_usd": plain(fill.price),
            "fee": plain(self.fee(fill)[0]),
        }

    def _balances(self, call: Call) -> Any:
        return [
            {
                "currency": asset.lower(),
                "total": plain(balance.free + balance.held),
                "available": plain(balance.free),
                "reserved": plain(balance.held),
            }
            for asset, balance in self.balances().items()
        ]

    def _token(self, call: Call) -> Any:
        return {"token": _TOKEN, "valid_sec": 60, "user_id": _USER}

    def _markets(self, call: Call) -> Any:
        row = {
            "name": "BTC/USD",
            "market_symbol": "btcusd",
            "base_currency": "BTC",
            "base_decimals": 8,
            "counter_currency": "USD",
            "counter_decimals": 0,
            "minimum_order_value": "10",
            "trading": "Enabled",
            "market_type": "SPOT",
        }
        return [row]

    def _ticker(self, call: Call) -> Any:
        return {"bid": plain(BID), "ask": plain(ASK), "timestamp": str(self.now_ns() // NS_PER_S)}

    # --- stream -----------------------------------------------------------------------------------

    def hear(self, connection: Connection, text: str) -> None:
        message = json.loads(text)
        if message["event"] == "bts:heartbeat":
            connection.send({"event": "bts:heartbeat", "data": {"status": "success"}})
            return
        data = message["data"]
        kind = re.fullmatch(rf"private-my_(orders|trades)_btcusd-{_USER}", data["channel"])
        if kind is None or data["auth"] != _TOKEN:
            words = {"code": 4009, "message": "Connection is unauthorized."}
            connection.send({"event": "bts:error", "data": words})
            return
        self.logins += kind[1] == "orders"
        connection.topics.add(kind[1])
        answer = {"event": "bts:subscription_succeeded", "channel": data["channel"], "data": {}}
        connection.send(answer)

    def _push(self, connection: Connection, kind: str, event: str, data: Any) -> None:
        if kind in connection.topics:
            channel = f"private-my_{kind}_btcusd-{_USER}"
            connection.send({"event": event, "channel": channel, "data": data})

    def tell_order(self, connection: Connection, event: OrderEvent) -> None:
        order = event.order
        left = (order.order_qty or order.cum_qty) - order.cum_qty
        micro = str(order.updated_time_ns // 1000)
        row = {
            "id": _id(order),
            "id_str": str(_id(order)),
            "client_order_id": order.client_order_id,
            "order_type": int(_side(order.side)),
            "datetime": str(order.updated_time_ns // NS_PER_S),
            "microtimestamp": micro,
            "amount": float(left),
            "amount_str": plain(left),
            "amount_traded": plain(order.cum_qty),
            "amount_at_create": plain(order.order_qty or Decimal(0)),
            "price": float(order.price or 0),
        }
        fill = event.fill
        if fill is not None:
            trade = {
                "id": fill.trade_id,
                "order_id": fill.order_id + _FIRST_ID,
                "client_order_id": fill.client_order_id,
                "amount": plain(fill.qty),
                "price": plain(fill.price),
                "fee": plain(self.fee(fill)[0]),
                "side": fill.side.lower(),
                "microtimestamp": str(fill.time_ns // 1000),
            }
            self._push(connection, "trades", "trade", trade)
        if event.exec_type is ExecType.NEW:
            self._push(connection, "orders", "order_created", row)
        elif order.is_open:
            self._push(connection, "orders", "order_changed", row)
        else:
            self._push(connection, "orders", "order_deleted", row)


def _id(order: Order) -> int:
    return order.order_id + _FIRST_ID


def _side(side: Side) -> str:
    return "0" if side is Side.BUY else "1"


def _at(ns: int) -> str:
    at = datetime.fromtimestamp(ns // NS_PER_S, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{ns % NS_PER_S // 1000:06}"


def _error(code: str, status: int) -> Refused:
    return Refused(
        {"status": "error", "reason": {"__all__": [f"error {code}"]}, "code": code}, status
    )
