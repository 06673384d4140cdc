"""Kraken spot: REST, and WebSocket v2 for executions and balances.

Source: docs.kraken.com, "Spot REST authentication", "Add order", "Amend order", "Client order identifiers",
"Executions", "Balances", "API errors".
"""

from __future__ import annotations

import base64
import hashlib
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

_TYPES = {
    "market": OrdType.MARKET,
    "limit": OrdType.LIMIT,
    "stop-loss": OrdType.STOP,
    "stop-loss-limit": OrdType.STOP_LIMIT,
    "take-profit": OrdType.TAKE_PROFIT,
    "take-profit-limit": OrdType.TAKE_PROFIT_LIMIT,
}
_WORDS = {
    RefusalCode.INSUFFICIENT_FUNDS: "EOrder:Insufficient funds",
    RefusalCode.WOULD_CROSS: "EOrder:Post only order",
    RefusalCode.UNKNOWN_ORDER: "EOrder:Unknown order",
    RefusalCode.ORDER_CLOSED: "EOrder:Unknown order",
    RefusalCode.QTY_TOO_SMALL: "EOrder:Order minimum not met",
    RefusalCode.NOTIONAL_TOO_SMALL: "EOrder:Cost minimum not met",
    RefusalCode.PRICE_OFF_TICK: "EOrder:Tick size check failed",
    RefusalCode.DUPLICATE_CLIENT_ORDER_ID: "EOrder:Duplicate cl_ord_id",
}
_CLIENT_ID = re.compile(
    r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[!-~]{1,18}", re.ASCII
)
_STATUS = {
    OrdStatus.NEW: "open",
    OrdStatus.PARTIALLY_FILLED: "open",
    OrdStatus.FILLED: "closed",
    OrdStatus.CANCELED: "canceled",
    OrdStatus.REJECTED: "canceled",
    OrdStatus.EXPIRED: "canceled",
}


class Kraken(Double):
    """One account at Kraken. It calls bitcoin XBT, but for its second WebSocket API."""

    definition = "kraken-spot"
    symbol = "BTC/USD"
    tick = "0.1"
    step = "0.0000001"
    stream_path = "/v2"
    tells_balances_live = False
    says_no_key = "EAPI:Invalid signature"
    secret = base64.b64encode(b"kraken's secret has sixty-four bytes").decode()

    _nonce = 0

    def routes(self) -> Iterator[Route]:
        def private(name: str, operation: str, handler: Any) -> Route:
            return Route("POST", f"/0/private/{name}", operation, handler)

        yield private("AddOrder", "place", self._place)
        yield private("CancelOrder", "cancel", self._cancel)
        yield private("CancelAll", "cancel_all", self._cancel_all)
        yield private("AmendOrder", "replace", self._amend)
        yield private("QueryOrders", "order", self._query)
        yield private("OpenOrders", "open_orders", self._open)
        yield private("ClosedOrders", "history", self._closed)
        yield private("TradesHistory", "fills", self._trades)
        yield private("BalanceEx", "balances", self._balances)
        yield private("GetWebSocketsToken", "stream_token", self._token)
        for name, operation, handler in (
            ("AssetPairs", "instruments", self._pairs),
            ("Ticker", "reference_price", self._ticker),
            ("Time", "server_time", self._time),
        ):
            yield Route("GET", f"/0/public/{name}", operation, handler, is_public=True)

    @property
    def asked(self) -> int:
        # By our name: first the open orders are asked, then the closed ones.
        return self._arrived["order"] + self._arrived["open_orders"]

    # --- manners ----------------------------------------------------------------------------------

    def authenticate(self, call: Call) -> None:
        if call.headers.get("API-Key") != self.key:
            raise _error("EAPI:Invalid key")
        if call.content_type != "application/x-www-form-urlencoded":
            # The body is read as a form or as JSON; what is neither has no nonce. JSON is not spoken here.
            raise _error("EAPI:Invalid nonce")
        nonce = call.form().get("nonce", "")
        digest = hashlib.sha256(nonce.encode() + call.body).digest()
        wanted = hmac.new(base64.b64decode(self.secret), call.path.encode() + digest, "sha512")
        told = call.headers.get("API-Sign", "")
        if not hmac.compare_digest(base64.b64encode(wanted.digest()).decode(), told):
            raise _error("EAPI:Invalid signature")
        if not nonce.isdigit() or not self._nonce < int(nonce) < 2**64:
            raise _error("EAPI:Invalid nonce")
        self._nonce = int(nonce)

    def refusal(self, refusal: Refusal, operation: str) -> Refused:
        return _error(_WORDS.get(refusal.code, "EGeneral:Invalid arguments"))

    def throttled(self) -> Refused:
        return _error("EOrder:Rate limit exceeded")

    def _check_deadline(self, form: dict[str, str]) -> None:
        text = form.get("deadline")
        if text is None:
            return
        deadline_ns = int(datetime.fromisoformat(text).timestamp() * NS_PER_S)
        if deadline_ns <= self.now_ns():
            raise _error("EService:Deadline elapsed")
        if not 2 * NS_PER_S <= deadline_ns - self.now_ns() <= 60 * NS_PER_S:
            raise _error("EGeneral:Invalid arguments:deadline")

    # --- commands ---------------------------------------------------------------------------------

    def _place(self, call: Call) -> Any:
        form = call.form()
        if form.get("pair") not in {self.pair, "XBTUSD"}:
            raise _error("EQuery:Unknown asset pair")
        kind = _TYPES.get(form.get("ordertype", ""))
        if kind is None or form.get("type") not in {"buy", "sell"}:
            raise _error("EGeneral:Invalid arguments")
        if not _CLIENT_ID.fullmatch(form.get("cl_ord_id", "-")) or "userref" in form:
            raise _error("EGeneral:Invalid arguments:cl_ord_id")
        self._check_deadline(form)
        flags = set(filter(None, form.get("oflags", "").split(",")))
        side = Side(form["type"].upper())
        in_quote = "viqc" in flags
        if in_quote and (kind is not OrdType.MARKET or side is not Side.BUY):
            raise _error("EGeneral:Invalid arguments:oflags")
        volume = amount(form.get("volume"), _error("EGeneral:Invalid arguments:volume"))
        price = form.get("price")
        wrong = _error("EOrder:Invalid price")
        has_trigger = kind not in {OrdType.MARKET, OrdType.LIMIT}
        is_limit = kind in {OrdType.LIMIT, OrdType.STOP_LIMIT, OrdType.TAKE_PROFIT_LIMIT}
        limit = form.get("price2") if has_trigger else price
        change = self.exchange.place(
            TRADER,
            OrderRequest(
                symbol=self.symbol,
                side=side,
                ord_type=kind,
                order_qty=None if in_quote else volume,
                quote_qty=volume if in_quote else None,
                price=amount(limit, wrong) if is_limit else None,
                trigger_price=amount(price, wrong) if has_trigger else None,
                time_in_force=TimeInForce(form.get("timeinforce", "GTC")),
                post_only="post" in flags,
                client_order_id=form.get("cl_ord_id"),
            ),
        )
        assert change.order is not None
        descr = {"order": f"{form['type']} {form['volume']} XBTUSD @ {form['ordertype']}"}
        return _ok({"descr": descr, "txid": [txid(change.order.order_id)]})

    def _named(self, form: dict[str, str]) -> dict[str, Any]:
        if "txid" in form:
            return {"order_id": _order_id(form["txid"])}
        return {"client_order_id": form.get("cl_ord_id")}

    def _cancel(self, call: Call) -> Any:
        self.exchange.cancel(TRADER, **self._named(call.form()))
        return _ok({"count": 1})

    def _cancel_all(self, call: Call) -> Any:
        change = self.exchange.cancel_all(TRADER)
        return _ok({"count": len(change.orders)})

    def _amend(self, call: Call) -> Any:
        form = call.form()
        self._check_deadline(form)
        wrong = _error("EGeneral:Invalid arguments")
        change = self.exchange.replace(
            TRADER,
            **self._named(form),
            order_qty=amount(form["order_qty"], wrong) if "order_qty" in form else None,
            price=amount(form["limit_price"], wrong) if "limit_price" in form else None,
        )
        return _ok({"amend_id": f"TDOUBL-{change.number:05}-AMENDX"})

    # --- questions --------------------------------------------------------------------------------

    @property
    def pair(self) -> str:
        return "XXBTZUSD"

    def _row(self, order: Order) -> dict[str, Any]:
        kind = next(word for word, kind in _TYPES.items() if kind is order.ord_type)
        prices = [order.trigger_price, order.price] if order.trigger_price else [order.price, None]
        flags = ["fciq"] + ["post"] * order.post_only + ["viqc"] * (order.order_qty is None)
        row: dict[str, Any] = {
            "refid": None,
            "userref": 0,
            "cl_ord_id": order.client_order_id,
            "status": _STATUS[order.ord_status],
            "opentm": order.created_time_ns / NS_PER_S,
            "descr": {
                "pair": "XBTUSD",
                "type": order.side.lower(),
                "ordertype": kind,
                "price": plain(prices[0] or Decimal(0)),
                "price2": plain(prices[1] or Decimal(0)),
                "leverage": "none",
            },
            "vol": plain(order.order_qty or order.quote_qty or Decimal(0)),
            "vol_exec": plain(order.cum_qty),
            "cost": plain(order.cum_quote),
            "fee": plain(sum((self.fee(fill)[0] for fill in self.fills_of(order)), Decimal(0))),
            "price": plain(self.average(order)),
            "oflags": ",".join(flags),
        }
        if not order.is_open:
            row |= {"closetm": order.updated_time_ns / NS_PER_S, "reason": order.reason}
        return row

    def _listed(self, orders: list[Order], name: str | None) -> dict[str, Any]:
        named = [order for order in orders if name is None or order.client_order_id == name]
        return {txid(order.order_id): self._row(order) for order in reversed(named)}

    def _query(self, call: Call) -> Any:
        order = self.find(order_id=_order_id(call.form().get("txid", "")))
        if order is None:
            raise _error("EOrder:Invalid order")
        return _ok({txid(order.order_id): self._row(order)})

    def _open(self, call: Call) -> Any:
        return _ok({"open": self._listed(self.open_orders(), call.form().get("cl_ord_id"))})

    def _closed(self, call: Call) -> Any:
        form = call.form()
        closed = [order for order in self.orders() if not order.is_open]
        rows = self._listed(closed, form.get("cl_ord_id"))
        start = Decimal(form.get("start", "0"))
        rows = {key: row for key, row in rows.items() if Decimal(row["closetm"]) > start}
        return _ok({"closed": _page(rows, form), "count": len(rows)})

    def _trade(self, fill: Fill) -> dict[str, Any]:
        return {
            "ordertxid": txid(fill.order_id),
            "pair": self.pair,
            "time": fill.time_ns / NS_PER_S,
            "type": fill.side.lower(),
            "ordertype": "limit",
            "price": plain(fill.price),
            "cost": plain(fill.quote_qty),
            "fee": plain(self.fee(fill)[0]),
            "vol": plain(fill.qty),
            "margin": "0.00000",
            "misc": "",
            "trade_id": fill.trade_id,
            "maker": fill.liquidity is Liquidity.MAKER,
        }

    def _trades(self, call: Call) -> Any:
        form = call.form()
        start_ns = Decimal(form.get("start", "0")) * NS_PER_S
        rows = {
            trade_txid(fill): self._trade(fill)
            for fill in reversed(self.fills())
            if fill.time_ns > start_ns
        }
        return _ok({"trades": _page(rows, form), "count": len(rows)})

    def _balances(self, call: Call) -> Any:
        return _ok(
            {
                {"BTC": "XXBT", "USD": "ZUSD"}[asset]: {
                    "balance": plain(balance.free + balance.held),
                    "hold_trade": plain(balance.held),
                }
                for asset, balance in self.balances().items()
            }
        )

    def _token(self, call: Call) -> Any:
        return _ok({"token": "t0ken", "expires": 900})

    def _pairs(self, call: Call) -> Any:
        row = {
            "altname": "XBTUSD",
            "wsname": "XBT/USD",
            "base": "XXBT",
            "quote": "ZUSD",
            "pair_decimals": 1,
            "lot_decimals": 7,
            "tick_size": self.tick,
            "ordermin": plain(self.instrument.min_qty),
            "costmin": plain(self.instrument.min_notional),
            "status": "online",
        }
        return _ok({self.pair: row})

    def _ticker(self, call: Call) -> Any:
        return _ok({self.pair: {"a": [plain(ASK), "10", "10"], "b": [plain(BID), "10", "10"]}})

    def _time(self, call: Call) -> Any:
        return _ok({"unixtime": self.now_ns() // NS_PER_S, "rfc1123": "-"})

    # --- stream -----------------------------------------------------------------------------------

    def greet(self, connection: Connection) -> None:
        connection.send({"channel": "status", "type": "update", "data": [{"system": "online"}]})

    def hear(self, connection: Connection, text: str) -> None:
        message = json.loads(text)
        if message["method"] == "ping":
            connection.send({"method": "pong"})
            return
        assert message["method"] == "subscribe"
        params = message["params"]
        channel = params["channel"]
        answer: dict[str, Any] = {"method": "subscribe", "success": params["token"] == "t0ken"}
        if not answer["success"]:
            connection.send(answer | {"error": "ESession:Invalid session"})
            return
        self.logins += channel == "executions"
        connection.topics.add(channel)
        connection.send(answer | {"result": {"channel": channel}})
        if channel == "balances":
            rows = [
                {"asset": asset, "balance": float(balance.free + balance.held)}
                for asset, balance in self.balances().items()
            ]
            connection.send({"channel": channel, "type": "snapshot", "sequence": 1, "data": rows})
            return
        snapshot = []
        if params.get("snap_trades"):
            known = {order.order_id: order for order in self.orders()}
            snapshot += [self._execution(known[f.order_id], f) for f in self.fills()[-50:]]
        if params.get("snap_orders"):
            for order in self.exchange.open_orders(TRADER):
                snapshot.append(self._execution(order) | {"exec_type": "new"})
        self._send(connection, "snapshot", snapshot)

    def _send(self, connection: Connection, kind: str, rows: list[Any]) -> None:
        connection.sequence += 1
        connection.send(
            {
                "channel": "executions",
                "type": kind,
                "sequence": connection.sequence,
                "data": rows,
            }
        )

    def _execution(self, order: Order, fill: Fill | None = None) -> dict[str, Any]:
        status = order.ord_status.lower().replace("rejected", "canceled")
        row: dict[str, Any] = {
            "order_id": txid(order.order_id),
            "cl_ord_id": order.client_order_id,
            "symbol": self.symbol,
            "side": order.side.lower(),
            "order_status": status,
            "cum_qty": float(order.cum_qty),
            "timestamp": _iso(order.updated_time_ns),
        }
        if order.order_qty is not None:
            row["order_qty"] = float(order.order_qty)
        if order.price is not None:
            row["limit_price"] = float(order.price)
        if fill is not None:
            fee, asset = self.fee(fill)
            row |= {
                "exec_type": "trade",
                # It says so even of the last fill.
                "order_status": "partially_filled",
                "exec_id": trade_txid(fill),
                "trade_id": fill.trade_id,
                "last_qty": float(fill.qty),
                "last_price": float(fill.price),
                "liquidity_ind": "m" if fill.liquidity is Liquidity.MAKER else "t",
                "fees": [{"asset": asset, "qty": float(fee)}],
                "timestamp": _iso(fill.time_ns),
            }
        return row

    def tell_order(self, connection: Connection, event: OrderEvent) -> None:
        if "executions" not in connection.topics:
            return
        order = event.order
        rows: list[dict[str, Any]] = []
        match event.exec_type:
            case ExecType.NEW:
                rows = [
                    self._execution(order) | {"exec_type": "pending_new"},
                    self._execution(order) | {"exec_type": "new"},
                ]
            case ExecType.TRADE:
                rows = [self._execution(order, event.fill)]
                if order.ord_status is OrdStatus.FILLED:
                    rows.append(self._execution(order) | {"exec_type": "filled"})
            case ExecType.REPLACED:
                rows = [self._execution(order) | {"exec_type": "amended"}]
            case ExecType.CANCELED | ExecType.EXPIRED | ExecType.REJECTED:
                # An order that finds nobody is canceled; it expires at its own time only.
                rows = [
                    self._execution(order)
                    | {"exec_type": "canceled", "order_status": "canceled", "reason": order.reason}
                ]
            case ExecType.TRIGGERED:
                rows = [self._execution(order) | {"exec_type": "status", "triggered": True}]
        for row in rows:
            self._send(connection, "update", [row])


def txid(order_id: int) -> str:
    return f"ODOUBL-{order_id:05}-KRAKEN"


def trade_txid(fill: Fill) -> str:
    return f"TDOUBL-{fill.trade_id:05}-KRAKEN"


def _order_id(text: str) -> int:
    found = re.fullmatch(r"ODOUBL-(\d{5})-KRAKEN", text)
    if found is None:
        raise _error("EOrder:Invalid order")
    return int(found[1])


def _page(rows: dict[str, Any], form: dict[str, str]) -> dict[str, Any]:
    begin = int(form.get("ofs", "0"))
    return dict(list(rows.items())[begin : begin + 50])


def _iso(ns: int) -> str:
    at = datetime.fromtimestamp(ns // NS_PER_S, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ns % NS_PER_S // 1000:06}Z"


def _ok(result: Any) -> Any:
    return {"error": [], "result": result}


def _error(text: str) -> Refused:
    return Refused({"error": [text]})
