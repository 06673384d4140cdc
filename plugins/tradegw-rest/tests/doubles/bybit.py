"""Bybit v5, category spot of a unified account: REST, and the private WebSocket.

Source: bybit-exchange/docs v5, "Integration Guidance", "Trade" (place, amend, cancel, cancel all, open
orders, order history, trade history), "Account" (wallet balance), "Websocket Stream", "Error Codes", "Enums".
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator
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

from .core import ASK, BID, TRADER, Call, Connection, Double, Refused, Route, amount, plain

_WEEK_MS = 7 * 24 * 3600 * 1000
_CODES = {
    RefusalCode.INSUFFICIENT_FUNDS: 170131,
    RefusalCode.UNKNOWN_ORDER: 170213,
    RefusalCode.QTY_TOO_SMALL: 170136,
    RefusalCode.QTY_OFF_STEP: 170137,
    RefusalCode.PRICE_OFF_TICK: 170134,
    RefusalCode.NOTIONAL_TOO_SMALL: 170140,
    RefusalCode.DUPLICATE_CLIENT_ORDER_ID: 170141,
}


class Bybit(Double):
    """One account at Bybit."""

    definition = "bybit-spot"
    symbol = "BTC/USDT"
    tick = "0.01"
    step = "0.000001"
    secret = "bybit-secret"
    stream_path = "/v5/private"
    has_received_fees = True
    says_no_key = "Params Error"

    def routes(self) -> Iterator[Route]:
        for path, operation, handler in (
            ("order/create", "place", self._create),
            ("order/cancel", "cancel", self._cancel),
            ("order/cancel-all", "cancel_all", self._cancel_all),
            ("order/amend", "replace", self._amend),
        ):
            yield Route("POST", f"/v5/{path}", operation, handler)
        for path, operation, handler in (
            ("order/realtime", "open_orders", self._realtime),
            ("order/history", "history", self._history),
            ("execution/list", "fills", self._executions),
            ("account/wallet-balance", "balances", self._wallet),
        ):
            yield Route("GET", f"/v5/{path}", operation, handler)
        for path, operation, handler in (
            ("instruments-info", "instruments", self._instruments),
            ("tickers", "reference_price", self._tickers),
            ("time", "server_time", self._time),
        ):
            yield Route("GET", f"/v5/market/{path}", operation, handler, is_public=True)

    @property
    def asked(self) -> int:
        return self._arrived["open_orders"]

    # --- manners ----------------------------------------------------------------------------------

    def authenticate(self, call: Call) -> None:
        headers = call.headers
        if headers.get("X-BAPI-API-KEY") != self.key:
            raise self._error(10003)
        stamp, window = (headers.get(f"X-BAPI-{name}", "") for name in ("TIMESTAMP", "RECV-WINDOW"))
        if not stamp.isdigit() or not window.isdigit():
            raise self._error(10001)
        if not self.now_ms - int(window) <= int(stamp) < self.now_ms + 1000:
            raise self._error(10002)
        what = call.body.decode() if call.method == "POST" else call.query_string
        if headers.get("X-BAPI-SIGN") != self._sign(stamp + self.key + window + what):
            raise self._error(10004)
        if call.method == "POST" and call.content_type != "application/json":
            raise self._error(10001)

    def _sign(self, text: str) -> str:
        return hmac.new(self.secret.encode(), text.encode(), "sha256").hexdigest()

    def _error(self, code: int) -> Refused:
        body = {"retCode": code, "retMsg": f"error {code}", "result": {}, "retExtInfo": {}}
        return Refused(body | {"time": self.now_ms})

    def refusal(self, refusal: Refusal, operation: str) -> Refused:
        if refusal.code is RefusalCode.ORDER_CLOSED:
            # 170142: canceled. 170139: filled.
            return self._error(170139 if "FILLED" in refusal.text else 170142)
        return self._error(_CODES.get(refusal.code, 10001))

    def throttled(self) -> Refused:
        return self._error(10006)

    def _ok(self, result: Any) -> Any:
        body = {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}}
        return body | {"time": self.now_ms}

    def _done(self, order: Order) -> Any:
        ids = {"orderId": str(order.order_id), "orderLinkId": order.client_order_id or ""}
        return self._ok(ids)

    # --- commands ---------------------------------------------------------------------------------

    def _create(self, call: Call) -> Any:
        body = json.loads(call.body)
        if body.get("category") != "spot" or body.get("symbol") != "BTCUSDT":
            raise self._error(170121)
        if body.get("side") not in {"Buy", "Sell"} or not all(
            isinstance(value, str) for value in body.values()
        ):
            raise self._error(10001)
        side = Side(body["side"].upper())
        is_limit = {"Limit": True, "Market": False}[body["orderType"]]
        has_trigger = body.get("orderFilter", "Order") == "StopOrder"
        if has_trigger != ("triggerPrice" in body):
            raise self._error(10001)
        name = body.get("orderLinkId")
        if name is not None and self.find(name=name) is not None:
            # Not among the open ones alone.
            raise self._error(170141)
        qty = amount(body.get("qty"), self._error(170136))
        unit = body.get("marketUnit", "quoteCoin" if side is Side.BUY else "baseCoin")
        in_quote = not is_limit and unit == "quoteCoin"
        force = body.get("timeInForce", "GTC")
        kinds = {
            (False, False): OrdType.MARKET,
            (True, False): OrdType.LIMIT,
            (False, True): OrdType.STOP,
            (True, True): OrdType.STOP_LIMIT,
        }
        kind = kinds[is_limit, has_trigger]
        trigger = None
        if has_trigger:
            trigger = amount(body["triggerPrice"], self._error(170134))
            last = self.exchange.reference_price(self.symbol).last or (BID + ASK) / 2
            if (trigger < last) != (side is Side.SELL):
                # Triggers fire in the direction in which the price stands from them.
                kinds = {OrdType.STOP: OrdType.TAKE_PROFIT}
                kind = kinds.get(kind, OrdType.TAKE_PROFIT_LIMIT)
        request = OrderRequest(
            symbol=self.symbol,
            side=side,
            ord_type=kind,
            order_qty=None if in_quote else qty,
            quote_qty=qty if in_quote else None,
            price=amount(body.get("price"), self._error(170134)) if is_limit else None,
            trigger_price=trigger,
            time_in_force=TimeInForce(force) if force in {"IOC", "FOK"} else TimeInForce.GTC,
            post_only=force == "PostOnly",
            client_order_id=name,
        )
        try:
            order = self.exchange.place(TRADER, request).order
        except Refusal as e:
            if e.code is not RefusalCode.WOULD_CROSS:
                raise
            # Acknowledged, and cancelled with EC_PostOnlyWillTakeLiquidity.
            order = self.bury(request)
        assert order is not None
        return self._done(order)

    def _named(self, row: dict[str, str]) -> Order:
        order_id = row.get("orderId")
        return self.get(
            order_id=None if order_id is None else int(order_id), name=row.get("orderLinkId")
        )

    def _cancel(self, call: Call) -> Any:
        body = json.loads(call.body)
        order = self._named(body)
        wanted = "StopOrder" if order.is_waiting else "Order"
        if order.is_open and body.get("orderFilter", "Order") != wanted:
            raise self._error(170213)
        self.exchange.cancel(TRADER, order_id=order.order_id)
        return self._done(order)

    def _cancel_all(self, call: Call) -> Any:
        self.exchange.cancel_all(TRADER)
        return self._ok({"success": "1"})

    def _amend(self, call: Call) -> Any:
        body = json.loads(call.body)
        order = self._named(body)
        self.exchange.replace(
            TRADER,
            order_id=order.order_id,
            order_qty=amount(body["qty"], self._error(170136)) if "qty" in body else None,
            price=amount(body["price"], self._error(170134)) if "price" in body else None,
        )
        return self._done(order)

    # --- questions --------------------------------------------------------------------------------

    def _row(self, order: Order) -> dict[str, Any]:
        status = {
            OrdStatus.NEW: "Untriggered" if order.is_waiting else "New",
            OrdStatus.PARTIALLY_FILLED: "PartiallyFilled",
            OrdStatus.FILLED: "Filled",
            OrdStatus.REJECTED: "Rejected",
        }.get(order.ord_status)
        if status is None:
            status = "PartiallyFilledCanceled" if order.cum_qty else "Cancelled"
            if order.trigger_price is not None and not order.triggered:
                status = "Deactivated"
        is_market = order.price is None
        unit = ("baseCoin" if order.order_qty else "quoteCoin") if is_market else ""
        force = "PostOnly" if order.post_only else str(order.time_in_force)
        return {
            "orderId": str(order.order_id),
            "orderLinkId": order.client_order_id or "",
            "symbol": "BTCUSDT",
            "side": order.side.title(),
            "orderType": "Market" if is_market else "Limit",
            "orderStatus": status,
            "timeInForce": "IOC" if is_market else force,
            "price": plain(order.price or Decimal(0)),
            "qty": plain(order.order_qty or order.quote_qty or Decimal(0)),
            "marketUnit": unit,
            "stopOrderType": "Stop" if order.trigger_price else "",
            "triggerPrice": plain(order.trigger_price or Decimal(0)),
            "cumExecQty": plain(order.cum_qty),
            "cumExecValue": plain(order.cum_quote),
            "avgPrice": plain(self.average(order)) if order.cum_qty else "",
            "leavesQty": plain(order.leaves_qty),
            "rejectReason": "EC_NoError" if order.reason is None else f"EC_{order.reason}",
            "cancelType": "UNKNOWN",
            "createdTime": str(order.created_time_ns // 1_000_000),
            "updatedTime": str(order.updated_time_ns // 1_000_000),
        }

    def _listed(self, orders: list[Order], call: Call) -> Any:
        query = call.query
        if query.get("category") != "spot":
            raise self._error(10001)
        rows = [
            self._row(order)
            for order in reversed(orders)
            if query.get("orderId") in {None, str(order.order_id)}
            and query.get("orderLinkId") in {None, order.client_order_id}
        ]
        return self._page(rows, query, 50)

    def _page(self, rows: list[Any], query: dict[str, str], most: int) -> Any:
        begin, limit = int(query.get("cursor", "0")), min(int(query.get("limit", "20")), most)
        end = begin + limit
        cursor = str(end) if end < len(rows) else ""
        return self._ok({"category": "spot", "list": rows[begin:end], "nextPageCursor": cursor})

    def _realtime(self, call: Call) -> Any:
        return self._listed(self.open_orders(), call)

    def _history(self, call: Call) -> Any:
        return self._listed([order for order in self.orders() if not order.is_open], call)

    def _execution(self, fill: Fill) -> dict[str, Any]:
        fee, asset = self.fee(fill)
        return {
            "symbol": "BTCUSDT",
            "orderId": str(fill.order_id),
            "orderLinkId": fill.client_order_id or "",
            "side": fill.side.title(),
            "execId": f"exec-{fill.trade_id}",
            "execType": "Trade",
            "execQty": plain(fill.qty),
            "execPrice": plain(fill.price),
            "execFee": plain(fee),
            "feeCurrency": asset,
            "isMaker": fill.liquidity is Liquidity.MAKER,
            "execTime": str(fill.time_ns // 1_000_000),
        }

    def _executions(self, call: Call) -> Any:
        query = call.query
        # With a beginning and no end: seven days from there, and no more.
        begin = int(query.get("startTime", self.now_ms - _WEEK_MS))
        end = int(query.get("endTime", begin + _WEEK_MS))
        if end - begin > _WEEK_MS:
            raise self._error(10001)
        rows = [
            self._execution(fill)
            for fill in reversed(self.fills())
            if begin <= fill.time_ns // 1_000_000 <= end
            and query.get("orderId") in {None, str(fill.order_id)}
            and query.get("orderLinkId") in {None, fill.client_order_id}
        ]
        return self._page(rows, query, 100)

    def _coins(self) -> list[dict[str, str]]:
        return [
            {
                "coin": asset,
                "walletBalance": plain(balance.free + balance.held),
                "locked": plain(balance.held),
            }
            for asset, balance in self.balances().items()
        ]

    def _wallet(self, call: Call) -> Any:
        if call.query.get("accountType") != "UNIFIED":
            raise self._error(10001)
        return self._ok({"list": [{"accountType": "UNIFIED", "coin": self._coins()}]})

    def _instruments(self, call: Call) -> Any:
        row = {
            "symbol": "BTCUSDT",
            "baseCoin": "BTC",
            "quoteCoin": "USDT",
            "status": "Trading",
            "lotSizeFilter": {
                "basePrecision": self.step,
                "quotePrecision": "0.00000001",
                "minOrderQty": plain(self.instrument.min_qty),
                "maxOrderQty": plain(self.instrument.max_qty),
                "minOrderAmt": "5",
                "maxOrderAmt": "8000000",
            },
            "priceFilter": {"tickSize": self.tick},
        }
        return self._ok({"category": "spot", "list": [row]})

    def _tickers(self, call: Call) -> Any:
        row = {"symbol": "BTCUSDT", "bid1Price": plain(BID), "ask1Price": plain(ASK)}
        return self._ok({"category": "spot", "list": [row]})

    def _time(self, call: Call) -> Any:
        now_ns = self.now_ns()
        seconds = str(now_ns // 1_000_000_000)
        return self._ok({"timeSecond": seconds, "timeNano": str(now_ns)})

    # --- stream -----------------------------------------------------------------------------------

    def hear(self, connection: Connection, text: str) -> None:
        message = json.loads(text)
        match message["op"]:
            case "ping":
                connection.send({"op": "pong", "args": [str(self.now_ms)], "conn_id": "c"})
            case "auth":
                key, expires, sign = message["args"]
                connection.is_known = (
                    key == self.key
                    and int(expires) > self.now_ms
                    and sign == self._sign(f"GET/realtime{expires}")
                )
                self.logins += connection.is_known
                words = "" if connection.is_known else "Params Error"
                answer = {"success": connection.is_known, "ret_msg": words, "op": "auth"}
                connection.send(answer | {"conn_id": "c"})
            case "subscribe":
                known = {"order.spot", "execution.spot", "wallet"}
                is_fine = connection.is_known and set(message["args"]) <= known
                if is_fine:
                    connection.topics |= set(message["args"])
                connection.send({"success": is_fine, "ret_msg": "", "op": "subscribe"})

    def _push(self, connection: Connection, topic: str, rows: list[Any]) -> None:
        if topic in connection.topics:
            head = {"id": "p", "topic": topic, "creationTime": self.now_ms}
            connection.send(head | {"data": rows})

    def tell_balances(self, connection: Connection) -> None:
        row = {"accountType": "UNIFIED", "coin": self._coins()}
        self._push(connection, "wallet", [row])

    def tell_order(self, connection: Connection, event: OrderEvent) -> None:
        if event.fill is not None:
            self._push(connection, "execution.spot", [self._execution(event.fill)])
        row = self._row(event.order)
        if event.exec_type is ExecType.TRIGGERED:
            row["orderStatus"] = "Triggered"
        self._push(connection, "order.spot", [row])
