"""Asks ccxt and the exchanges' SDKs what they would send, and writes the corpus that the tests compare with.

See README.md beside this file for the environment. Time, nonces and ids are held still; no byte is sent.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from payloads import MARKETS, MS, NAME, answer_payload, markets_payload

CORPUS = Path(__file__).parents[1] / "tests" / "corpus"
UUID = "11111111-2222-4333-8444-555555555555"
# Made for these tests; it opens nothing.
PEM = """-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY/PuoAoGCCqGSM49
AwEHoUQDQgAEPR3tU2Fta9ktY+6P9G0cWO+0kETA6SFs38GecTyudlHz6xvCdz8q
EKTcWGekdmdDPsHloRNtsiCa697B2O9IFA==
-----END EC PRIVATE KEY-----
"""
KEYS: dict[str, dict[str, str]] = {
    "binance-spot": {"key": "K", "secret": "S"},
    "kraken-spot": {
        "key": "K",
        "secret": "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==",
        "nonce": str(MS),
    },
    "okx-spot": {"key": "K", "secret": "S", "passphrase": "P"},
    "bybit-spot": {"key": "K", "secret": "S"},
    "coinbase": {"key": "organizations/o/apiKeys/k", "secret": PEM, "nonce": "00"},
    "bitstamp": {"key": "K", "secret": "S", "nonce": UUID},
}
CCXT = {
    "binance-spot": "binance",
    "kraken-spot": "kraken",
    "okx-spot": "okx",
    "bybit-spot": "bybit",
    "coinbase": "coinbase",
    "bitstamp": "bitstamp",
}
SIZES = {
    "BTC": ("0.01", "65000", "60000", "59900", "100"),
    "ETH": ("1.5", "3000.5", "2900", "2899.5", "250"),
}
SIZES_BTC_QUOTED = ("1.5", "0.05125", "0.05", "0.04999", "0.25")


# --- ccxt ------------------------------------------------------------------------------------------


class Recorder:
    """ccxt's exchange, with time held still and its HTTP taken away."""

    def __init__(self, definition: str) -> None:
        import ccxt

        self.definition = definition
        keys = KEYS[definition]
        options: dict[str, Any] = {
            "fetchMarkets": {"types": ["spot"]},
            "fetchMargins": False,
            "fetchCurrencies": False,
            "recvWindow": 5000,
        }
        if definition == "bybit-spot":
            options |= {"enableUnifiedAccount": True, "enableUnifiedMargin": False}
        if definition == "coinbase":
            options["fetchBalance"] = "v3PrivateGetBrokerageAccounts"
        config = {
            "apiKey": keys["key"],
            "secret": keys["secret"],
            "password": keys.get("passphrase"),
            "enableRateLimit": False,
            "options": options,
        }
        self.ex: Any = getattr(ccxt, CCXT[definition])(config)
        self.ex.has["fetchCurrencies"] = False
        self.ex.milliseconds = lambda: MS
        self.ex.seconds = lambda: MS // 1000
        self.ex.uuid = lambda *_: UUID
        self.ex.uuid16 = lambda *_: "1" * 16
        self.ex.uuid22 = lambda *_: "1" * 22
        if definition == "kraken-spot":
            self.ex.incrementing_nonce = lambda: MS
        self.sent: list[dict[str, Any]] = []
        self.answer: Any = None
        self.ex.fetch = self._fetch
        self.ex.load_markets()

    def _fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        self.sent.append(
            {"method": method, "url": url, "headers": dict(headers or {}), "body": body or ""}
        )
        if self.answer is None:
            return markets_payload(self.definition, url)
        return copy.deepcopy(self.answer)

    def ask(self, call: Callable[[], Any], answer: Any) -> tuple[dict[str, Any], Any]:
        """Return the request of a call, and how ccxt reads the answer."""
        self.sent.clear()
        self.answer = answer
        try:
            read = call()
        except Exception as e:  # noqa: BLE001  What ccxt makes of it is recorded as it is.
            read = {"error": f"{type(e).__name__}: {e}"[:200]}
        return self.sent[0], _summary(read)


def _summary(read: Any) -> Any:
    if isinstance(read, list):
        return [_summary(one) for one in read]
    if not isinstance(read, dict):
        return None
    if "error" in read and len(read) == 1:
        return read
    if "info" not in read:
        # Asked natively: ccxt hands the answer on as it is.
        return None
    wanted = (
        "id",
        "clientOrderId",
        "symbol",
        "side",
        "status",
        "amount",
        "filled",
        "price",
        "order",
        "takerOrMaker",
    )
    return {key: read[key] for key in wanted if read.get(key) is not None}


ORDERS: list[tuple[str, dict[str, Any]]] = []
for _side in ("BUY", "SELL"):
    ORDERS += [
        (f"limit {_side}", {"side": _side, "ord_type": "LIMIT", "time_in_force": "GTC"}),
        (f"ioc {_side}", {"side": _side, "ord_type": "LIMIT", "time_in_force": "IOC"}),
        (f"fok {_side}", {"side": _side, "ord_type": "LIMIT", "time_in_force": "FOK"}),
        (f"post-only {_side}", {"side": _side, "ord_type": "LIMIT", "post_only": True}),
        (f"market {_side}", {"side": _side, "ord_type": "MARKET"}),
        (f"market by quote {_side}", {"side": _side, "ord_type": "MARKET", "quote_qty": True}),
        (f"stop {_side}", {"side": _side, "ord_type": "STOP"}),
        (f"stop-limit {_side}", {"side": _side, "ord_type": "STOP_LIMIT"}),
        (f"take-profit {_side}", {"side": _side, "ord_type": "TAKE_PROFIT"}),
        (f"take-profit-limit {_side}", {"side": _side, "ord_type": "TAKE_PROFIT_LIMIT"}),
    ]

UNSUPPORTED: dict[str, set[str]] = {
    "binance-spot": set(),
    "kraken-spot": {"market by quote SELL"},
    "okx-spot": set(),
    "bybit-spot": {"take-profit", "take-profit-limit"},
    "coinbase": {"stop", "take-profit", "market by quote SELL"},
    "bitstamp": {"stop", "stop-limit", "take-profit", "take-profit-limit", "market by quote SELL"},
}
IDS = {
    "binance-spot": "28",
    "kraken-spot": "OABC12-DEF34-GHI567",
    "okx-spot": "123",
    "bybit-spot": "1523347543495541248",
    "coinbase": "o-1",
    "bitstamp": "1234",
}
DEADLINE = "2023-11-14T22:13:30Z"


def order_of(market: tuple[str, str, str, str], kind: dict[str, Any]) -> dict[str, Any]:
    """Return an order in the gateway's field names."""
    symbol = market[0]
    sizes = SIZES_BTC_QUOTED if symbol.endswith("/BTC") else SIZES[symbol.partition("/")[0]]
    qty, price, trigger, limit, quote = sizes
    order = {"symbol": symbol, "client_order_id": NAME, "time_in_force": "GTC", **kind}
    if order.pop("quote_qty", False):
        order["quote_qty"] = quote
    else:
        order["order_qty"] = qty
    has_trigger = order["ord_type"] not in {"LIMIT", "MARKET"}
    if has_trigger:
        order["trigger_price"] = trigger
    if order["ord_type"].endswith("LIMIT"):
        order["price"] = limit if has_trigger else price
    return order


def place(
    rec: Recorder, market: tuple[str, str, str, str], order: dict[str, Any]
) -> tuple[Callable[[], Any], str]:
    """Return ccxt's call for an order, and why it is not the plain one where it is not."""
    ex, name = rec.ex, rec.definition
    symbol, _base, _quote, venue_symbol = market
    side = order["side"].lower()
    kind = "limit" if order["ord_type"].endswith("LIMIT") else "market"
    params: dict[str, Any] = {"client_order_id" if name == "coinbase" else "clientOrderId": NAME}
    qty, price = order.get("order_qty"), order.get("price")
    tif, trigger = order["time_in_force"], order.get("trigger_price")
    if tif != "GTC":
        params["timeInForce"] = tif
    if order.get("post_only"):
        params["postOnly"] = True
    if trigger:
        params["stopLossPrice" if order["ord_type"].startswith("STOP") else "takeProfitPrice"] = (
            trigger
        )
    by_quote = order.get("quote_qty")
    if name == "kraken-spot":
        params["deadline"] = DEADLINE
    if name == "bitstamp" and (tif != "GTC" or order.get("post_only") or by_quote):
        native: dict[str, Any] = {
            "amount": by_quote or qty,
            "client_order_id": NAME,
            "pair": venue_symbol,
        }
        if by_quote:
            return (lambda: ex.private_post_buy_instant_pair(native)), (
                "unified raises KeyError; native: /buy/instant/ takes the amount in quote units"
            )
        native["price"] = price
        native[{"IOC": "ioc_order", "FOK": "fok_order"}.get(tif, "moc_order")] = "True"
        method = getattr(ex, f"private_post_{side}_pair")
        return (lambda: method(native)), (
            "unified passes timeInForce and postOnly through, and the order becomes a plain limit order"
        )
    if name == "okx-spot":
        native = {"instId": venue_symbol, "side": side}
        if trigger:
            is_stop = order["ord_type"].startswith("STOP")
            native |= {"ordType": "conditional", "sz": qty, "tdMode": "cash", "tgtCcy": "base_ccy"}
            prefix = "sl" if is_stop else "tp"
            native |= {f"{prefix}TriggerPx": trigger, f"{prefix}OrdPx": price or "-1"}
            native |= {f"{prefix}TriggerPxType": "last", "algoClOrdId": NAME}
            return (lambda: ex.private_post_trade_order_algo(native)), (
                "unified sends tdMode cross for spot, no tgtCcy, and our name as clOrdId, which order-algo ignores"
            )
        kind = {"IOC": "ioc", "FOK": "fok"}.get(
            tif, "post_only" if order.get("post_only") else kind
        )
        native |= {"ordType": kind, "sz": by_quote or qty, "tdMode": "cash"}
        native["tgtCcy"] = "quote_ccy" if by_quote else "base_ccy"
        if price:
            native["px"] = price
        native["clOrdId"] = NAME
        return (lambda: ex.private_post_trade_order(native)), (
            "unified sends a batch of one to batch-orders; the object in it is the same"
        )
    if name == "bybit-spot" and trigger:
        params = {"clientOrderId": NAME, "triggerPrice": trigger}
    if name == "bybit-spot" and by_quote and side == "sell":
        native = {
            "symbol": venue_symbol,
            "side": "Sell",
            "orderType": "Market",
            "orderLinkId": NAME,
        }
        native |= {"category": "spot", "marketUnit": "quoteCoin", "qty": by_quote}
        return (
            lambda: ex.private_post_v5_order_create(native)
        ), "unified has no market sell by quote units"
    if name == "coinbase" and kind == "market" and not by_quote and side == "buy":
        native = {"client_order_id": NAME, "product_id": venue_symbol, "side": "BUY"}
        native["order_configuration"] = {"market_market_ioc": {"base_size": qty}}
        return (lambda: ex.v3_private_post_brokerage_orders(native)), (
            "unified writes the base amount into quote_size"
        )
    if name == "coinbase" and trigger:
        down = (order["ord_type"] == "STOP_LIMIT") == (side == "sell")
        inner = {"base_size": qty, "limit_price": price, "stop_price": trigger}
        inner["stop_direction"] = f"STOP_DIRECTION_STOP_{'DOWN' if down else 'UP'}"
        native = {"client_order_id": NAME, "product_id": venue_symbol, "side": order["side"]}
        native["order_configuration"] = {"stop_limit_stop_limit_gtc": inner}
        return (lambda: ex.v3_private_post_brokerage_orders(native)), (
            "unified adds createMarketBuyOrderRequiresPrice to the body"
        )
    if by_quote:
        if name == "binance-spot":
            return (
                lambda: ex.create_order(
                    symbol, "market", side, 1, None, {**params, "quoteOrderQty": by_quote}
                )
            ), ""
        return (lambda: ex.create_market_buy_order_with_cost(symbol, float(by_quote), params)), ""
    if name == "kraken-spot" and kind == "market" and not trigger:
        return (lambda: ex.create_order(symbol, kind, side, float(qty), None, params)), ""
    return (
        lambda: ex.create_order(
            symbol, kind, side, float(qty), float(price) if price else None, params
        )
    ), ""


def other_cases(
    rec: Recorder, market: tuple[str, str, str, str]
) -> list[tuple[str, str, dict[str, Any], Callable[[], Any], str]]:
    """Return the cases that place nothing: label, operation, order, call, why not the plain call."""
    ex, name = rec.ex, rec.definition
    symbol, _, _, venue = market
    id_ = IDS[name]
    by_id = {"symbol": symbol, "ord_type": "LIMIT", "price": "100", "venue_order_id": id_}
    by_name = {"symbol": symbol, "ord_type": "LIMIT", "price": "100", "client_order_id": NAME}
    just = {"symbol": symbol}
    cid = {"clientOrderId": NAME}
    found: list[tuple[str, str, dict[str, Any], Callable[[], Any], str]] = [
        ("cancel by id", "cancel", by_id, lambda: ex.cancel_order(id_, symbol), ""),
        ("open orders", "open_orders", just, lambda: ex.fetch_open_orders(symbol), ""),
    ]

    def add(
        label: str, operation: str, order: dict[str, Any], call: Callable[[], Any], why: str = ""
    ) -> None:
        found.append((label, operation, order, call, why))

    terms = {"order_qty": "0.02", "price": "100"}
    match name:
        case "binance-spot":
            add("cancel by name", "cancel", by_name, lambda: ex.cancel_order(None, symbol, cid))
            add("cancel all", "cancel_all", just, lambda: ex.cancel_all_orders(symbol))
            add("order by id", "order", by_id, lambda: ex.fetch_order(id_, symbol))
            add("order by name", "order", by_name, lambda: ex.fetch_order(None, symbol, cid))
            add("history", "history", just, lambda: ex.fetch_orders(symbol, None, 1000))
            add("fills", "fills", just, lambda: ex.fetch_my_trades(symbol, None, 1000))
            add(
                "fills of an order",
                "fills",
                by_id,
                lambda: ex.private_get_mytrades({"symbol": venue, "orderId": id_, "limit": "1000"}),
            )
            add(
                "balances",
                "balances",
                just,
                lambda: ex.private_get_account({"omitZeroBalances": "true"}),
            )
        case "kraken-spot":
            pair = {"cl_ord_id": NAME}
            add("cancel by name", "cancel", by_name, lambda: ex.cancel_order(None, symbol, cid))
            add(
                "amend by id",
                "replace",
                by_id | terms,
                lambda: ex.edit_order(
                    id_, symbol, "limit", "buy", 0.02, 100, {"deadline": DEADLINE}
                ),
            )
            add(
                "amend by name",
                "replace",
                by_name | terms,
                lambda: ex.private_post_amendorder(
                    pair | {"order_qty": "0.02", "limit_price": "100", "deadline": DEADLINE}
                ),
                "unified editOrder takes an id alone",
            )
            add(
                "order by id",
                "order",
                by_id,
                lambda: ex.private_post_queryorders({"txid": id_}),
                "unified adds trades=True, in Python's spelling",
            )
            add(
                "order by name",
                "order",
                by_name,
                lambda: ex.private_post_openorders(pair),
                "unified sends txid=None and the name as userref",
            )
            add("history", "history", just, lambda: ex.fetch_closed_orders(symbol))
            add("fills", "fills", just, lambda: ex.fetch_my_trades(symbol))
            add("balances", "balances", just, ex.fetch_balance)
            add("stream token", "stream_token", just, ex.private_post_getwebsocketstoken)
        case "okx-spot":
            stop = by_id | {"ord_type": "STOP", "trigger_price": "90"}
            add("cancel by name", "cancel", by_name, lambda: ex.cancel_order(None, symbol, cid))
            add(
                "cancel a stop",
                "cancel",
                stop,
                lambda: ex.private_post_trade_cancel_algos([{"instId": venue, "algoId": id_}]),
            )
            add(
                "amend by id",
                "replace",
                by_id | terms,
                lambda: ex.edit_order(id_, symbol, "limit", "buy", 0.02, 100),
            )
            add(
                "amend by name",
                "replace",
                by_name | terms,
                lambda: ex.private_post_trade_amend_order(
                    {"instId": venue, "clOrdId": NAME, "newSz": "0.02", "newPx": "100"}
                ),
            )
            add("order by id", "order", by_id, lambda: ex.fetch_order(id_, symbol))
            add("order by name", "order", by_name, lambda: ex.fetch_order(None, symbol, cid))
            add(
                "history",
                "history",
                just,
                lambda: ex.private_get_trade_orders_history({"instId": venue, "instType": "SPOT"}),
                "unified asks for one state at a time",
            )
            add("fills", "fills", just, lambda: ex.fetch_my_trades(symbol))
            add("balances", "balances", just, ex.fetch_balance)
        case "bybit-spot":
            why = "unified sends clientOrderId, which the venue does not know"
            add(
                "cancel by name",
                "cancel",
                by_name,
                lambda: ex.private_post_v5_order_cancel(
                    {
                        "symbol": venue,
                        "orderFilter": "Order",
                        "orderLinkId": NAME,
                        "category": "spot",
                    }
                ),
                why,
            )
            add(
                "cancel a stop",
                "cancel",
                by_id | {"ord_type": "STOP", "trigger_price": "90"},
                lambda: ex.cancel_order(id_, symbol, {"orderFilter": "StopOrder"}),
            )
            add("cancel all", "cancel_all", just, lambda: ex.cancel_all_orders(symbol))
            add(
                "amend by id",
                "replace",
                by_id | terms,
                lambda: ex.edit_order(id_, symbol, "limit", "buy", 0.02, 100),
            )
            add(
                "amend by name",
                "replace",
                by_name | terms,
                lambda: ex.private_post_v5_order_amend(
                    {
                        "symbol": venue,
                        "orderLinkId": NAME,
                        "category": "spot",
                        "qty": "0.02",
                        "price": "100",
                    }
                ),
                why,
            )
            add(
                "order by id",
                "order",
                by_id,
                lambda: ex.private_get_v5_order_realtime(
                    {"symbol": venue, "category": "spot", "orderId": id_}
                ),
                "unified refuses fetchOrder without an acknowledgement option",
            )
            add(
                "order by name",
                "order",
                by_name,
                lambda: ex.private_get_v5_order_realtime(
                    {"symbol": venue, "category": "spot", "orderLinkId": NAME}
                ),
                why,
            )
            add(
                "history",
                "history",
                just,
                lambda: ex.private_get_v5_order_history(
                    {"symbol": venue, "category": "spot", "limit": "50"}
                ),
                "unified asks for one state at a time",
            )
            add("fills", "fills", just, lambda: ex.fetch_my_trades(symbol, None, 100))
            add("balances", "balances", just, ex.fetch_balance)
            found[1] = (
                "open orders",
                "open_orders",
                just,
                lambda: ex.private_get_v5_order_realtime(
                    {"symbol": venue, "category": "spot", "openOnly": "0", "limit": "50"}
                ),
                "unified leaves openOnly and limit to the venue",
            )
        case "coinbase":
            add(
                "edit",
                "replace",
                by_id | terms,
                lambda: ex.edit_order(id_, symbol, "limit", "buy", 0.02, 100),
            )
            names = "unified uses names that the reference no longer has, product_id and order_id"
            add("order by id", "order", by_id, lambda: ex.fetch_order(id_, symbol))
            add(
                "history",
                "history",
                just,
                lambda: ex.parse_orders(
                    ex.v3_private_get_brokerage_orders_historical_batch(
                        {"product_ids": venue, "limit": "100"}
                    )["orders"],
                    ex.market(symbol),
                ),
                names,
            )
            add(
                "fills of an order",
                "fills",
                by_id,
                lambda: ex.v3_private_get_brokerage_orders_historical_fills(
                    {"order_ids": id_, "product_ids": venue, "limit": "100"}
                ),
                names,
            )
            add(
                "fills",
                "fills",
                just,
                lambda: ex.parse_trades(
                    ex.v3_private_get_brokerage_orders_historical_fills(
                        {"product_ids": venue, "limit": "100"}
                    )["fills"],
                    ex.market(symbol),
                ),
                names,
            )
            add(
                "balances",
                "balances",
                just,
                lambda: ex.v3_private_get_brokerage_accounts({"limit": "250"}),
            )
            found[1] = (
                "open orders",
                "open_orders",
                just,
                lambda: ex.v3_private_get_brokerage_orders_historical_batch(
                    {"order_status": "OPEN", "product_ids": venue, "limit": "100"}
                ),
                names,
            )
        case _:
            body = "ccxt sends foo=bar where there is nothing to say; without a body there is no content type"
            add(
                "cancel by name",
                "cancel",
                by_name,
                lambda: ex.private_post_cancel_order({"client_order_id": NAME}),
                "unified sends id=None and clientOrderId",
            )
            add("cancel all", "cancel_all", just, lambda: ex.cancel_all_orders(symbol), body)
            add("order by id", "order", by_id, lambda: ex.fetch_order(id_, symbol))
            add("order by name", "order", by_name, lambda: ex.fetch_order(None, symbol, cid))
            add(
                "fills",
                "fills",
                just,
                lambda: ex.private_post_user_transactions_pair(
                    {"pair": venue, "limit": "1000", "sort": "asc"}
                ),
            )
            add("balances", "balances", just, ex.fetch_balance, body)
            add("stream token", "stream_token", just, ex.private_post_websockets_token, body)
            found[1] = (
                "open orders",
                "open_orders",
                just,
                lambda: ex.private_post_open_orders_pair({"pair": venue}),
                body,
            )
    return found


def record_ccxt(definition: str) -> list[dict[str, Any]]:
    """Return the cases of ccxt."""
    rec = Recorder(definition)
    cases: list[dict[str, Any]] = []

    def add(
        label: str,
        operation: str,
        order: dict[str, Any],
        call: Callable[[], Any],
        why: str,
        market: Any,
    ) -> None:
        full = order if "ord_type" in order else order | {"ord_type": "LIMIT"}
        answer = answer_payload(definition, operation, market, full)
        request, read = rec.ask(call, answer)
        case = {
            "id": f"ccxt {label} {market[0]}",
            "oracle": "ccxt",
            "operation": operation,
            "order": order,
            "request": request,
            "answer": answer,
            "read": read,
        }
        if why:
            case["differs"] = why
        cases.append(case)

    for market in MARKETS[definition]:
        for label, kind in ORDERS:
            if (
                label in UNSUPPORTED[definition]
                or label.rpartition(" ")[0] in UNSUPPORTED[definition]
            ):
                continue
            order = order_of(market, kind)
            call, why = place(rec, market, order)
            add(label, "place", order, call, why, market)
        for label, operation, order, call, why in other_cases(rec, market):
            add(label, operation, order, call, why, market)
    return cases


# --- the exchanges' own SDKs -----------------------------------------------------------------------


class Taken(Exception):
    """Carries a request out of an SDK, before it is sent."""


def sdk_calls(
    definition: str,
) -> tuple[str, list[tuple[str, str, dict[str, Any], Callable[[], Any]]]]:
    """Return the SDK's name and its calls."""
    keys = KEYS[definition]
    market = MARKETS[definition][0]
    symbol, _, _, venue = market
    limit = order_of(market, {"side": "BUY", "ord_type": "LIMIT"})
    sell = order_of(market, {"side": "SELL", "ord_type": "MARKET"})
    quote = order_of(market, {"side": "BUY", "ord_type": "MARKET", "quote_qty": True})
    ioc = order_of(market, {"side": "BUY", "ord_type": "LIMIT", "time_in_force": "IOC"})
    post = order_of(market, {"side": "SELL", "ord_type": "LIMIT", "post_only": True})
    by_id = {"symbol": symbol, "ord_type": "LIMIT", "price": "100", "venue_order_id": "1234"}
    by_name = {"symbol": symbol, "ord_type": "LIMIT", "price": "100", "client_order_id": NAME}
    match definition:
        case "binance-spot":
            from binance_common.configuration import ConfigurationRestAPI
            from binance_sdk_spot.spot import Spot

            client = Spot(
                config_rest_api=ConfigurationRestAPI(api_key=keys["key"], api_secret=keys["secret"])
            ).rest_api
            common: dict[str, Any] = {
                "symbol": venue,
                "new_client_order_id": NAME,
                "new_order_resp_type": "FULL",
                "recv_window": 5000,
            }
            return "binance-sdk-spot", [
                (
                    "limit",
                    "place",
                    limit,
                    lambda: client.new_order(
                        side="BUY",
                        type="LIMIT",
                        time_in_force="GTC",
                        quantity=0.01,
                        price=65000,
                        **common,
                    ),
                ),
                (
                    "ioc",
                    "place",
                    ioc,
                    lambda: client.new_order(
                        side="BUY",
                        type="LIMIT",
                        time_in_force="IOC",
                        quantity=0.01,
                        price=65000,
                        **common,
                    ),
                ),
                (
                    "post-only",
                    "place",
                    post,
                    lambda: client.new_order(
                        side="SELL", type="LIMIT_MAKER", quantity=0.01, price=65000, **common
                    ),
                ),
                (
                    "market",
                    "place",
                    sell,
                    lambda: client.new_order(side="SELL", type="MARKET", quantity=0.01, **common),
                ),
                (
                    "market by quote",
                    "place",
                    quote,
                    lambda: client.new_order(
                        side="BUY", type="MARKET", quote_order_qty=100, **common
                    ),
                ),
                (
                    "cancel by id",
                    "cancel",
                    by_id,
                    lambda: client.delete_order(symbol=venue, order_id=1234, recv_window=5000),
                ),
                (
                    "order by name",
                    "order",
                    by_name,
                    lambda: client.get_order(
                        symbol=venue, orig_client_order_id=NAME, recv_window=5000
                    ),
                ),
                (
                    "open orders",
                    "open_orders",
                    {"symbol": symbol},
                    lambda: client.get_open_orders(symbol=venue, recv_window=5000),
                ),
            ]
        case "kraken-spot":
            from kraken.spot import Trade, User

            trade, user = (
                Trade(key=keys["key"], secret=keys["secret"]),
                User(key=keys["key"], secret=keys["secret"]),
            )
            for one in (trade, user):
                one.get_nonce = lambda: str(MS)
            extra = {"cl_ord_id": NAME}
            return "python-kraken-sdk", [
                (
                    "limit",
                    "place",
                    limit,
                    lambda: trade.create_order(
                        ordertype="limit",
                        side="buy",
                        pair=venue,
                        volume="0.01",
                        price="65000",
                        deadline=DEADLINE,
                        extra_params=extra,
                    ),
                ),
                (
                    "ioc",
                    "place",
                    ioc,
                    lambda: trade.create_order(
                        ordertype="limit",
                        side="buy",
                        pair=venue,
                        volume="0.01",
                        price="65000",
                        timeinforce="IOC",
                        deadline=DEADLINE,
                        extra_params=extra,
                    ),
                ),
                (
                    "post-only",
                    "place",
                    post,
                    lambda: trade.create_order(
                        ordertype="limit",
                        side="sell",
                        pair=venue,
                        volume="0.01",
                        price="65000",
                        oflags=["post"],
                        deadline=DEADLINE,
                        extra_params=extra,
                    ),
                ),
                (
                    "market",
                    "place",
                    sell,
                    lambda: trade.create_order(
                        ordertype="market",
                        side="sell",
                        pair=venue,
                        volume="0.01",
                        deadline=DEADLINE,
                        extra_params=extra,
                    ),
                ),
                ("cancel by id", "cancel", by_id, lambda: trade.cancel_order(txid="1234")),
                (
                    "order by id",
                    "order",
                    by_id,
                    lambda: user.request("POST", "/0/private/QueryOrders", params={"txid": "1234"}),
                ),
            ]
        case "okx-spot":
            import okx.Account
            import okx.Trade
            import okx.utils

            okx.utils.get_timestamp = lambda: "2023-11-14T22:13:20.000Z"
            args = (keys["key"], keys["secret"], keys["passphrase"])
            trade = okx.Trade.TradeAPI(*args, flag="0", domain="https://www.okx.com")
            account = okx.Account.AccountAPI(*args, flag="0", domain="https://www.okx.com")
            common = {"instId": venue, "tdMode": "cash", "clOrdId": NAME}
            return "python-okx", [
                (
                    "limit",
                    "place",
                    limit,
                    lambda: trade.place_order(
                        side="buy",
                        ordType="limit",
                        sz="0.01",
                        px="65000",
                        tgtCcy="base_ccy",
                        **common,
                    ),
                ),
                (
                    "ioc",
                    "place",
                    ioc,
                    lambda: trade.place_order(
                        side="buy",
                        ordType="ioc",
                        sz="0.01",
                        px="65000",
                        tgtCcy="base_ccy",
                        **common,
                    ),
                ),
                (
                    "post-only",
                    "place",
                    post,
                    lambda: trade.place_order(
                        side="sell",
                        ordType="post_only",
                        sz="0.01",
                        px="65000",
                        tgtCcy="base_ccy",
                        **common,
                    ),
                ),
                (
                    "market",
                    "place",
                    sell,
                    lambda: trade.place_order(
                        side="sell", ordType="market", sz="0.01", tgtCcy="base_ccy", **common
                    ),
                ),
                (
                    "market by quote",
                    "place",
                    quote,
                    lambda: trade.place_order(
                        side="buy", ordType="market", sz="100", tgtCcy="quote_ccy", **common
                    ),
                ),
                (
                    "cancel by id",
                    "cancel",
                    by_id,
                    lambda: trade.cancel_order(instId=venue, ordId="1234"),
                ),
                (
                    "order by name",
                    "order",
                    by_name,
                    lambda: trade.get_order(instId=venue, clOrdId=NAME),
                ),
                ("balances", "balances", {"symbol": symbol}, account.get_account_balance),
            ]
        case "bybit-spot":
            from pybit.unified_trading import HTTP

            client = HTTP(api_key=keys["key"], api_secret=keys["secret"], recv_window=5000)
            common = {"category": "spot", "symbol": venue, "orderLinkId": NAME}
            return "pybit", [
                (
                    "limit",
                    "place",
                    limit,
                    lambda: client.place_order(
                        side="Buy", orderType="Limit", qty="0.01", price="65000", **common
                    ),
                ),
                (
                    "ioc",
                    "place",
                    ioc,
                    lambda: client.place_order(
                        side="Buy",
                        orderType="Limit",
                        qty="0.01",
                        price="65000",
                        timeInForce="IOC",
                        **common,
                    ),
                ),
                (
                    "post-only",
                    "place",
                    post,
                    lambda: client.place_order(
                        side="Sell",
                        orderType="Limit",
                        qty="0.01",
                        price="65000",
                        timeInForce="PostOnly",
                        **common,
                    ),
                ),
                (
                    "market",
                    "place",
                    sell,
                    lambda: client.place_order(
                        side="Sell", orderType="Market", qty="0.01", marketUnit="baseCoin", **common
                    ),
                ),
                (
                    "market by quote",
                    "place",
                    quote,
                    lambda: client.place_order(side="Buy", orderType="Market", qty="100", **common),
                ),
                (
                    "cancel by id",
                    "cancel",
                    by_id,
                    lambda: client.cancel_order(
                        category="spot", symbol=venue, orderId="1234", orderFilter="Order"
                    ),
                ),
                (
                    "order by name",
                    "order",
                    by_name,
                    lambda: client.get_open_orders(category="spot", symbol=venue, orderLinkId=NAME),
                ),
                (
                    "balances",
                    "balances",
                    {"symbol": symbol},
                    lambda: client.get_wallet_balance(accountType="UNIFIED"),
                ),
            ]
        case "coinbase":
            from coinbase.rest import RESTClient

            client = RESTClient(api_key=keys["key"], api_secret=keys["secret"])
            return "coinbase-advanced-py", [
                (
                    "limit",
                    "place",
                    limit,
                    lambda: client.limit_order_gtc_buy(NAME, venue, "0.01", "65000"),
                ),
                (
                    "ioc",
                    "place",
                    ioc,
                    lambda: client.limit_order_ioc_buy(NAME, venue, "0.01", "65000"),
                ),
                (
                    "post-only",
                    "place",
                    post,
                    lambda: client.limit_order_gtc_sell(
                        NAME, venue, "0.01", "65000", post_only=True
                    ),
                ),
                ("market", "place", sell, lambda: client.market_order_sell(NAME, venue, "0.01")),
                (
                    "market by quote",
                    "place",
                    quote,
                    lambda: client.market_order_buy(NAME, venue, quote_size="100"),
                ),
                ("cancel by id", "cancel", by_id, lambda: client.cancel_orders(["1234"])),
                ("order by id", "order", by_id, lambda: client.get_order("1234")),
                (
                    "open orders",
                    "open_orders",
                    {"symbol": symbol},
                    lambda: client.list_orders(
                        order_status=["OPEN"], product_ids=[venue], limit=100
                    ),
                ),
                (
                    "fills of an order",
                    "fills",
                    by_id,
                    lambda: client.get_fills(order_ids=["1234"], product_ids=[venue], limit=100),
                ),
                (
                    "balances",
                    "balances",
                    {"symbol": symbol},
                    lambda: client.get_accounts(limit=250),
                ),
            ]
        case _:
            return "", []


def record_sdk(definition: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the name of the exchange's SDK, and its cases."""
    import httpx
    import requests

    taken: list[dict[str, Any]] = []

    def take(method: str, url: Any, headers: Any, body: Any) -> None:
        text = body.decode() if isinstance(body, bytes) else body or ""
        taken.append({"method": method, "url": str(url), "headers": dict(headers), "body": text})
        raise Taken

    def requests_send(self: Any, request: Any, **_: Any) -> Any:
        take(request.method, request.url, request.headers, request.body)

    def httpx_send(self: Any, request: Any, **_: Any) -> Any:
        take(request.method, request.url, request.headers, request.content)

    real = time.time
    requests.Session.send = requests_send  # type: ignore[method-assign]
    httpx.Client.send = httpx_send  # type: ignore[method-assign]
    time.time = lambda: MS / 1000
    cases: list[dict[str, Any]] = []
    try:
        name, calls = sdk_calls(definition)
        for label, operation, order, call in calls:
            taken.clear()
            # The SDKs wrap `Taken` in errors of their own.
            with suppress(BaseException):
                call()
            if not taken:
                raise SystemExit(f"{name} sent nothing for {label}")
            cases.append(
                {
                    "id": f"{name} {label}",
                    "oracle": name,
                    "operation": operation,
                    "order": order,
                    "request": taken[0],
                }
            )
    finally:
        time.time = real
    return name, cases


def main() -> None:
    """Record what was asked for, or everything."""
    CORPUS.mkdir(exist_ok=True)
    for definition in sys.argv[1:] or list(CCXT):
        cases = record_ccxt(definition)
        oracles = {"ccxt": version("ccxt")}
        name, more = record_sdk(definition)
        if name:
            oracles[name] = version(name)
        corpus = {
            "definition": definition,
            "oracles": oracles,
            "clock_ms": MS,
            "credentials": KEYS[definition],
            "markets": markets_payload(definition, ""),
            "cases": cases + more,
        }
        path = CORPUS / f"{definition}.json"
        path.write_text(
            json.dumps(corpus, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8"
        )
        print(f"{path.name}: {len(cases)} of ccxt, {len(more)} of {name or 'no SDK'}")


if __name__ == "__main__":
    main()
