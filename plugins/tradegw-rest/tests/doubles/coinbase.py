"""Coinbase Advanced Trade: REST, and the user channel of its WebSocket.

Source: docs.cdp.coinbase.com, "Advanced Trade API" (Authentication, Orders, Accounts, Public, WebSocket), and
coinbase-advanced-py 1.8.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
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


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


_KEY = ec.generate_private_key(ec.SECP256R1())
_WORDS = {
    RefusalCode.INSUFFICIENT_FUNDS: "INSUFFICIENT_FUND",
    RefusalCode.WOULD_CROSS: "INVALID_LIMIT_PRICE_POST_ONLY",
    RefusalCode.QTY_OFF_STEP: "INVALID_SIZE_PRECISION",
    RefusalCode.PRICE_OFF_TICK: "INVALID_PRICE_PRECISION",
    RefusalCode.UNKNOWN_SYMBOL: "INVALID_PRODUCT_ID",
}
_STATUS = {
    OrdStatus.NEW: "OPEN",
    OrdStatus.PARTIALLY_FILLED: "OPEN",
    OrdStatus.FILLED: "FILLED",
    OrdStatus.REJECTED: "FAILED",
}
# The name of the only member of `order_configuration` says what kind of order it is.
_KINDS: dict[str, tuple[OrdType, TimeInForce, set[str]]] = {
    "market_market_ioc": (OrdType.MARKET, TimeInForce.GTC, {"base_size", "quote_size"}),
    "limit_limit_gtc": (OrdType.LIMIT, TimeInForce.GTC, {"base_size", "limit_price", "post_only"}),
    "limit_limit_fok": (OrdType.LIMIT, TimeInForce.FOK, {"base_size", "limit_price"}),
    "sor_limit_ioc": (OrdType.LIMIT, TimeInForce.IOC, {"base_size", "limit_price"}),
    "stop_limit_stop_limit_gtc": (
        OrdType.STOP_LIMIT,
        TimeInForce.GTC,
        {"base_size", "limit_price", "stop_price", "stop_direction"},
    ),
}


class Coinbase(Double):
    """One account at Coinbase."""

    definition = "coinbase"
    symbol = "BTC/USD"
    tick = "0.01"
    step = "0.000001"
    key = "organizations/o/apiKeys/k"
    secret = _pem(_KEY)
    wrong_secret = _pem(ec.generate_private_key(ec.SECP256R1()))
    stream_path = "/"
    tells_balances_live = False
    says_no_key = "authentication failure"

    def routes(self) -> Iterator[Route]:
        base = "/api/v3/brokerage"
        for method, path, operation, handler in (
            ("POST", "orders", "place", self._create),
            ("POST", "orders/batch_cancel", "cancel", self._cancel),
            ("POST", "orders/edit", "replace", self._edit),
            ("GET", "orders/historical/batch", "open_orders", self._batch),
            ("GET", "orders/historical/fills", "fills", self._fills),
            ("GET", "orders/historical/{order_id}", "order", self._order),
            ("GET", "accounts", "balances", self._accounts),
        ):
            yield Route(method, f"{base}/{path}", operation, handler)
        for path, operation, handler in (
            ("market/products", "instruments", self._products),
            ("market/products/BTC-USD/ticker", "reference_price", self._ticker),
            ("time", "server_time", self._time),
        ):
            yield Route("GET", f"{base}/{path}", operation, handler, is_public=True)

    # --- manners ----------------------------------------------------------------------------------

    def authenticate(self, call: Call) -> None:
        scheme, _, token = call.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not self._is_good(token, f"{call.method} {self.host}{call.path}"):
            raise Refused("Unauthorized", 401)
        if call.body and call.content_type != "application/json":
            raise _invalid("content type")

    def _is_good(self, token: str, uri: str | None) -> bool:
        """Check a JSON web token: algorithm, key, times, what it is for, signature; no one twice."""
        parts = token.split(".")
        if len(parts) != 3 or token in self._tokens:
            return False
        head, claims = (json.loads(_decode(part)) for part in parts[:2])
        if (head.get("alg"), head.get("kid")) != ("ES256", self.key) or not head.get("nonce"):
            return False
        now_s = self.now_ns() // NS_PER_S
        if (claims.get("iss"), claims.get("sub")) != ("cdp", self.key):
            return False
        if not claims["nbf"] <= now_s < claims["exp"] <= claims["nbf"] + 120:
            return False
        if claims.get("uri") != uri:
            return False
        raw = _decode(parts[2])
        signature = encode_dss_signature(
            int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        )
        message = f"{parts[0]}.{parts[1]}".encode()
        try:
            _KEY.public_key().verify(signature, message, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        self._tokens.add(token)
        return True

    @property
    def _tokens(self) -> set[str]:
        tokens: set[str] = self.__dict__.setdefault("_used", set())
        return tokens

    def refusal(self, refusal: Refusal, operation: str) -> Refused:
        word = _WORDS.get(refusal.code, "INVALID_ARGUMENT")
        if operation == "replace":
            return Refused({"success": False, "errors": [{"edit_failure_reason": word}]})
        failure = {"error": word, "message": word, "new_order_failure_reason": word}
        return Refused(
            {
                "success": False,
                "failure_reason": "UNKNOWN_FAILURE_REASON",
                "error_response": failure,
            }
        )

    def throttled(self) -> Refused:
        return Refused({"errors": [{"id": "rate_limit_exceeded", "message": "Too many"}]}, 429)

    # --- commands ---------------------------------------------------------------------------------

    def _create(self, call: Call) -> Any:
        body = json.loads(call.body)
        name = body.get("client_order_id")
        if not name or body.get("side") not in {"BUY", "SELL"}:
            raise _invalid("client_order_id, side")
        if body.get("product_id") != "BTC-USD":
            raise Refusal(RefusalCode.UNKNOWN_SYMBOL, "-")
        order = self.find(name=name)
        if order is None:
            order = self.exchange.place(TRADER, self._request(body)).order
        # Of a name that was used before: the order that it made, and no other.
        assert order is not None
        told = {"order_id": _id(order), "product_id": "BTC-USD", "side": str(order.side)}
        return {
            "success": True,
            "failure_reason": "UNKNOWN_FAILURE_REASON",
            "order_id": _id(order),
            "success_response": told | {"client_order_id": name},
            "order_configuration": body["order_configuration"],
        }

    def _request(self, body: dict[str, Any]) -> OrderRequest:
        ((word, terms),) = body["order_configuration"].items()
        side = Side(body["side"])
        if word not in _KINDS:
            raise _invalid("UNSUPPORTED_ORDER_CONFIGURATION")
        kind, force, fields = _KINDS[word]
        if not terms.keys() <= fields:
            raise _invalid("unknown field")
        if kind is OrdType.STOP_LIMIT:
            rising = {"STOP_DIRECTION_STOP_UP": True, "STOP_DIRECTION_STOP_DOWN": False}
            if rising[terms["stop_direction"]] != (side is Side.BUY):
                kind = OrdType.TAKE_PROFIT_LIMIT
        wrong = _invalid("size or price")
        return OrderRequest(
            symbol=self.symbol,
            side=side,
            ord_type=kind,
            order_qty=amount(terms["base_size"], wrong) if "base_size" in terms else None,
            quote_qty=amount(terms["quote_size"], wrong) if "quote_size" in terms else None,
            price=amount(terms["limit_price"], wrong) if "limit_price" in fields else None,
            trigger_price=amount(terms["stop_price"], wrong) if "stop_price" in fields else None,
            time_in_force=force,
            post_only=terms.get("post_only", False) is True,
            client_order_id=body["client_order_id"],
        )

    def _find(self, text: str) -> Order | None:
        return self.find(order_id=int(text.rpartition("-")[2]))

    def _cancel(self, call: Call) -> Any:
        rows: list[dict[str, Any]] = []
        for order_id in json.loads(call.body)["order_ids"]:
            order = self._find(order_id)
            is_fine = order is not None and order.is_open
            if is_fine and order is not None:
                self.exchange.cancel(TRADER, order_id=order.order_id)
            why = "UNKNOWN_CANCEL_FAILURE_REASON" if is_fine else "UNKNOWN_CANCEL_ORDER"
            rows.append({"success": is_fine, "failure_reason": why, "order_id": order_id})
        return {"results": rows}

    def _edit(self, call: Call) -> Any:
        body = json.loads(call.body)
        order = self._find(body["order_id"])
        if order is None or not order.is_open:
            failure = {"edit_failure_reason": "ONLY_OPEN_ORDERS_CAN_BE_EDITED"}
            raise Refused({"success": False, "errors": [failure]})
        self.exchange.replace(
            TRADER,
            order_id=order.order_id,
            order_qty=Decimal(body["size"]) if "size" in body else None,
            price=Decimal(body["price"]) if "price" in body else None,
        )
        return {"success": True, "errors": []}

    # --- questions --------------------------------------------------------------------------------

    def _status(self, order: Order) -> str:
        return _STATUS.get(order.ord_status, "CANCELLED")

    def _row(self, order: Order) -> dict[str, Any]:
        terms: dict[str, Any] = {}
        if order.order_qty is not None:
            terms["base_size"] = plain(order.order_qty)
        if order.quote_qty is not None:
            terms["quote_size"] = plain(order.quote_qty)
        if order.price is not None:
            terms["limit_price"] = plain(order.price)
        if order.trigger_price is not None:
            terms["stop_price"] = plain(order.trigger_price)
        kind = OrdType.STOP_LIMIT if order.trigger_price else order.ord_type
        word = next(
            word
            for word, (known, force, _) in _KINDS.items()
            if (known, force) == (kind, order.time_in_force)
        )
        fees = sum((self.fee(fill)[0] for fill in self.fills_of(order)), Decimal(0))
        return {
            "order_id": _id(order),
            "product_id": "BTC-USD",
            "client_order_id": order.client_order_id,
            "side": str(order.side),
            "status": self._status(order),
            "filled_size": plain(order.cum_qty),
            "filled_value": plain(order.cum_quote),
            "average_filled_price": plain(self.average(order)),
            "total_fees": plain(fees),
            "order_configuration": {word: terms},
            "size_in_quote": order.quote_qty is not None,
            "reject_reason": "REJECT_REASON_UNSPECIFIED",
            "cancel_message": "",
            "created_time": _at(order.created_time_ns),
            "last_fill_time": _at(order.updated_time_ns) if order.cum_qty else None,
        }

    def _order(self, call: Call, order_id: str) -> Any:
        order = self._find(order_id)
        if order is None:
            words = {"error": "NOT_FOUND", "error_details": "-", "message": "order not found"}
            raise Refused(words, 404)
        return {"order": self._row(order)}

    def _batch(self, call: Call) -> Any:
        query = parse_qs(call.query_string)
        if not set(query.get("product_ids", ["BTC-USD"])) <= {"BTC-USD"}:
            return {"orders": [], "has_next": False, "cursor": ""}
        orders = self.open_orders() if "OPEN" in query.get("order_status", []) else self.orders()
        rows = [self._row(order) for order in reversed(orders)]
        page, cursor = _page(rows, call)
        return {"orders": page, "has_next": bool(cursor), "cursor": cursor}

    def _fills(self, call: Call) -> Any:
        query = parse_qs(call.query_string)
        since = query.get("start_sequence_timestamp", [""])[0]
        rows: list[dict[str, Any]] = []
        for fill in reversed(self.fills()):
            row = self._fill(fill)
            # Names that are not in the documentation, such as `order_id`, filter nothing.
            if row["order_id"] in query.get("order_ids", [row["order_id"]]) and since <= _at(
                fill.time_ns
            ):
                rows.append(row)
        page, cursor = _page(rows, call)
        return {"fills": page, "cursor": cursor}

    def _fill(self, fill: Fill) -> dict[str, Any]:
        order = self.exchange.get_order(TRADER, order_id=fill.order_id)
        in_quote = order.quote_qty is not None
        return {
            "entry_id": f"entry-{fill.trade_id}",
            "trade_id": f"trade-{fill.trade_id}",
            "order_id": _id(order),
            "trade_time": _at(fill.time_ns),
            "trade_type": "FILL",
            "price": plain(fill.price),
            "size": plain(fill.quote_qty if in_quote else fill.qty),
            "size_in_quote": in_quote,
            "commission": plain(self.fee(fill)[0]),
            "product_id": "BTC-USD",
            "sequence_timestamp": _at(fill.time_ns),
            "liquidity_indicator": "MAKER" if fill.liquidity is Liquidity.MAKER else "TAKER",
            "side": str(fill.side),
        }

    def _accounts(self, call: Call) -> Any:
        rows = [
            {
                "uuid": f"account-{asset}",
                "currency": asset,
                "available_balance": {"value": plain(balance.free), "currency": asset},
                "hold": {"value": plain(balance.held), "currency": asset},
            }
            for asset, balance in self.balances().items()
        ]
        return {"accounts": rows, "has_next": False, "cursor": "", "size": len(rows)}

    def _products(self, call: Call) -> Any:
        row = {
            "product_id": "BTC-USD",
            "base_currency_id": "BTC",
            "quote_currency_id": "USD",
            "price_increment": self.tick,
            "quote_increment": "0.01",
            "base_increment": self.step,
            "base_min_size": plain(self.instrument.min_qty),
            "base_max_size": plain(self.instrument.max_qty),
            "quote_min_size": "5",
            "trading_disabled": False,
            "is_disabled": False,
            "view_only": False,
            "cancel_only": False,
        }
        return {"products": [row], "num_products": 1}

    def _ticker(self, call: Call) -> Any:
        return {"trades": [], "best_bid": plain(BID), "best_ask": plain(ASK)}

    def _time(self, call: Call) -> Any:
        now_ns = self.now_ns()
        return {
            "iso": _at(now_ns),
            "epochSeconds": str(now_ns // NS_PER_S),
            "epochMillis": str(now_ns // 1_000_000),
        }

    # --- stream -----------------------------------------------------------------------------------

    def _send(self, connection: Connection, channel: str, events: list[Any]) -> None:
        head = {"channel": channel, "client_id": "", "timestamp": _at(self.now_ns())}
        connection.send(head | {"sequence_num": connection.sequence, "events": events})
        connection.sequence += 1

    def hear(self, connection: Connection, text: str) -> None:
        message = json.loads(text)
        if message["type"] != "subscribe" or not self._is_good(message["jwt"], None):
            connection.send({"type": "error", "message": "authentication failure"})
            return
        channel = message["channel"]
        connection.topics.add(channel)
        self.logins += channel == "user"
        events = [{"subscriptions": {topic: ["u"] for topic in sorted(connection.topics)}}]
        self._send(connection, "subscriptions", events)
        if channel == "user":
            rows = [self._update(order) for order in self.exchange.open_orders(TRADER)]
            self._send(connection, "user", [{"type": "snapshot", "orders": rows}])
        if channel == "heartbeats":
            self._send(connection, "heartbeats", [{"heartbeat_counter": 1}])

    def _update(self, order: Order) -> dict[str, Any]:
        row: dict[str, Any] = {
            "order_id": _id(order),
            "client_order_id": order.client_order_id,
            "cumulative_quantity": plain(order.cum_qty),
            "leaves_quantity": plain(order.leaves_qty),
            "avg_price": plain(self.average(order)),
            "total_fees": "0",
            "status": self._status(order),
            "product_id": "BTC-USD",
            "order_side": str(order.side),
            "order_type": "Limit" if order.price else "Market",
            "cancel_reason": "",
            "reject_reason": "",
            "creation_time": _at(order.created_time_ns),
        }
        if order.price is not None:
            row["limit_price"] = plain(order.price)
        return row

    def tell_order(self, connection: Connection, event: OrderEvent) -> None:
        if "user" in connection.topics:
            orders = [self._update(event.order)]
            self._send(connection, "user", [{"type": "update", "orders": orders}])


def _id(order: Order) -> str:
    return f"00000000-0000-4000-8000-{order.order_id:012}"


def _at(ns: int) -> str:
    at = datetime.fromtimestamp(ns // NS_PER_S, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ns % NS_PER_S // 1000:06}Z"


def _page(rows: list[dict[str, Any]], call: Call) -> tuple[list[dict[str, Any]], str]:
    begin, limit = int(call.query.get("cursor", "0")), int(call.query.get("limit", "100"))
    end = begin + limit
    return rows[begin:end], str(end) if end < len(rows) else ""


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _invalid(text: str) -> Refused:
    return Refused({"error": "INVALID_ARGUMENT", "error_details": text, "message": text}, 400)
