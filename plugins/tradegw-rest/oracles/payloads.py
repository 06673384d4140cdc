"""What the exchanges answer, in the shapes of their documentation: markets, and one answer for each operation."""

from __future__ import annotations

from typing import Any

MS = 1_700_000_000_000
NAME = "0123456789abcdef0123456789abcdef"

MARKETS: dict[str, list[tuple[str, str, str, str]]] = {
    # Unified, base, quote, the venue's name.
    "binance-spot": [("BTC/USDT", "BTC", "USDT", "BTCUSDT"), ("ETH/BTC", "ETH", "BTC", "ETHBTC")],
    "kraken-spot": [
        ("BTC/USD", "XXBT", "ZUSD", "XXBTZUSD"),
        ("ETH/USD", "XETH", "ZUSD", "XETHZUSD"),
    ],
    "okx-spot": [("BTC/USDT", "BTC", "USDT", "BTC-USDT"), ("ETH/BTC", "ETH", "BTC", "ETH-BTC")],
    "bybit-spot": [("BTC/USDT", "BTC", "USDT", "BTCUSDT"), ("ETH/USDT", "ETH", "USDT", "ETHUSDT")],
    "coinbase": [("BTC/USD", "BTC", "USD", "BTC-USD"), ("ETH/USD", "ETH", "USD", "ETH-USD")],
    "bitstamp": [("BTC/USD", "BTC", "USD", "btcusd"), ("ETH/USD", "ETH", "USD", "ethusd")],
}

# --- what the exchanges would answer ---------------------------------------------------------------


def markets_payload(definition: str, url: str) -> Any:
    """Return the exchange's own list of markets."""
    rows = MARKETS[definition]
    match definition:
        case "binance-spot":
            return {
                "timezone": "UTC",
                "serverTime": MS,
                "rateLimits": [],
                "exchangeFilters": [],
                "symbols": [
                    {
                        "symbol": name,
                        "status": "TRADING",
                        "baseAsset": base,
                        "quoteAsset": quote,
                        "baseAssetPrecision": 8,
                        "quotePrecision": 8,
                        "quoteAssetPrecision": 8,
                        "orderTypes": [
                            "LIMIT",
                            "LIMIT_MAKER",
                            "MARKET",
                            "STOP_LOSS",
                            "STOP_LOSS_LIMIT",
                        ]
                        + ["TAKE_PROFIT", "TAKE_PROFIT_LIMIT"],
                        "isSpotTradingAllowed": True,
                        "isMarginTradingAllowed": False,
                        "filters": [
                            {
                                "filterType": "PRICE_FILTER",
                                "minPrice": "0.00001",
                                "maxPrice": "1000000",
                            }
                            | {"tickSize": "0.01" if quote == "USDT" else "0.00001"},
                            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000"}
                            | {"stepSize": "0.00001" if base == "BTC" else "0.0001"},
                            {
                                "filterType": "NOTIONAL",
                                "minNotional": "0.0001",
                                "maxNotional": "9000000",
                            },
                        ],
                        "permissions": [],
                        "permissionSets": [["SPOT"]],
                    }
                    for _, base, quote, name in rows
                ],
            }
        case "kraken-spot":
            return {
                "error": [],
                "result": {
                    name: {
                        "altname": name.replace("XXBTZ", "XBT").replace("XETHZ", "ETH"),
                        "wsname": symbol.replace("BTC", "XBT"),
                        "base": base,
                        "quote": quote,
                        "pair_decimals": 1 if base == "XXBT" else 2,
                        "cost_decimals": 5,
                        "lot_decimals": 8,
                        "lot_multiplier": 1,
                        "leverage_buy": [],
                        "leverage_sell": [],
                        "fees": [[0, 0.4]],
                        "fees_maker": [[0, 0.25]],
                        "ordermin": "0.00005",
                        "costmin": "0.5",
                        "tick_size": "0.1" if base == "XXBT" else "0.01",
                        "status": "online",
                    }
                    for symbol, base, quote, name in rows
                },
            }
        case "okx-spot":
            return {
                "code": "0",
                "msg": "",
                "data": [
                    {
                        "instType": "SPOT",
                        "instId": name,
                        "baseCcy": base,
                        "quoteCcy": quote,
                        "tickSz": "0.1" if quote == "USDT" else "0.00001",
                        "lotSz": "0.00000001" if base == "BTC" else "0.000001",
                        "minSz": "0.00001",
                        "state": "live",
                        "maxLmtSz": "9999",
                        "maxMktSz": "1000000",
                        "lever": "10",
                        "listTime": "1",
                    }
                    | dict.fromkeys(
                        ("ctVal", "uly", "settleCcy", "ctMult", "ctValCcy", "expTime"), ""
                    )
                    for _, base, quote, name in rows
                ],
            }
        case "bybit-spot":
            return {
                "retCode": 0,
                "retMsg": "OK",
                "time": MS,
                "result": {
                    "category": "spot",
                    "list": [
                        {
                            "symbol": name,
                            "baseCoin": base,
                            "quoteCoin": quote,
                            "innovation": "0",
                            "status": "Trading",
                            "marginTrading": "none",
                            "lotSizeFilter": {
                                "basePrecision": "0.000001" if base == "BTC" else "0.00001",
                                "quotePrecision": "0.0000001",
                                "minOrderQty": "0.000011",
                                "maxOrderQty": "83",
                                "minOrderAmt": "5",
                                "maxOrderAmt": "8000000",
                            },
                            "priceFilter": {"tickSize": "0.01"},
                        }
                        for _, base, quote, name in rows
                    ],
                },
            }
        case "coinbase":
            if "transaction_summary" in url:
                return {"fee_tier": {"maker_fee_rate": "0.004", "taker_fee_rate": "0.006"}}
            if "FUTURE" in url:
                return {"products": [], "num_products": 0}
            return {
                "num_products": 2,
                "products": [
                    {
                        "product_id": name,
                        "price": "65000",
                        "base_increment": "0.00000001",
                        "quote_increment": "0.01",
                        "price_increment": "0.01",
                        "quote_min_size": "1",
                        "quote_max_size": "150000000",
                        "base_min_size": "0.00000001",
                        "base_max_size": "3400",
                        "status": "online",
                        "product_type": "SPOT",
                        "quote_currency_id": quote,
                        "base_currency_id": base,
                        "base_name": base,
                        "quote_name": quote,
                    }
                    | dict.fromkeys(
                        ("cancel_only", "limit_only", "post_only", "trading_disabled")
                        + ("auction_mode", "view_only", "is_disabled", "new"),
                        False,
                    )
                    for _, base, quote, name in rows
                ],
            }
        case _:
            return [
                {
                    "name": symbol,
                    "market_symbol": name,
                    "base_currency": base,
                    "base_decimals": 8,
                    "counter_currency": quote,
                    "counter_decimals": 0 if base == "BTC" else 1,
                    "minimum_order_value": "10 USD",
                    "trading": "Enabled",
                    "instant_order_counter_decimals": 2,
                    "instant_and_market_orders": "Enabled",
                    "description": symbol,
                    "market_type": "SPOT",
                }
                for symbol, base, quote, name in rows
            ]


def answer_payload(
    definition: str, operation: str, market: tuple[str, str, str, str], order: dict[str, Any]
) -> Any:
    """Return what the exchange would answer, in the shape of its documentation."""
    symbol, base, quote, name = market
    side = order.get("side", "BUY")
    qty, price = order.get("order_qty", "0.01"), order.get("price", "100")
    match definition, operation:
        case "binance-spot", "place":
            return {
                "symbol": name,
                "orderId": 28,
                "orderListId": -1,
                "clientOrderId": NAME,
                "transactTime": MS,
                "price": price,
                "origQty": qty,
                "executedQty": qty if order["ord_type"] == "MARKET" else "0.00000000",
                "cummulativeQuoteQty": "0.00000000",
                "status": "FILLED" if order["ord_type"] == "MARKET" else "NEW",
                "timeInForce": "GTC",
                "type": "LIMIT",
                "side": side,
                "fills": [
                    {
                        "price": "100.5",
                        "qty": qty,
                        "commission": "0.001",
                        "commissionAsset": base,
                        "tradeId": 56,
                    }
                ]
                if order["ord_type"] == "MARKET"
                else [],
            }
        case "binance-spot", "cancel":
            return {
                "symbol": name,
                "origClientOrderId": NAME,
                "orderId": 28,
                "orderListId": -1,
                "clientOrderId": "cancel-1",
                "transactTime": MS,
                "price": "100",
                "origQty": "1",
                "executedQty": "0.25",
                "cummulativeQuoteQty": "25",
                "status": "CANCELED",
                "timeInForce": "GTC",
                "type": "LIMIT",
                "side": "BUY",
            }
        case "binance-spot", "cancel_all":
            return [answer_payload(definition, "cancel", market, order)]
        case "binance-spot", ("order" | "open_orders" | "history"):
            row = {
                "symbol": name,
                "orderId": 28,
                "orderListId": -1,
                "clientOrderId": NAME,
                "price": "100.5",
                "origQty": "1.00000000",
                "executedQty": "0.25000000",
                "cummulativeQuoteQty": "25.125",
                "status": "PARTIALLY_FILLED" if operation != "history" else "CANCELED",
                "timeInForce": "GTC",
                "type": "LIMIT",
                "side": "SELL",
                "stopPrice": "0.0",
                "icebergQty": "0.0",
                "time": MS,
                "updateTime": MS + 5,
                "isWorking": True,
                "origQuoteOrderQty": "0.00000000",
            }
            return row if operation == "order" else [row]
        case "binance-spot", "fills":
            return [
                {
                    "symbol": name,
                    "id": 56,
                    "orderId": 28,
                    "price": "100.5",
                    "qty": "0.25",
                    "quoteQty": "25.125",
                    "commission": "0.001",
                    "commissionAsset": base,
                    "time": MS,
                    "isBuyer": True,
                    "isMaker": False,
                    "isBestMatch": True,
                }
            ]
        case "binance-spot", "balances":
            return {"updateTime": MS, "balances": [{"asset": base, "free": "1.5", "locked": "0.5"}]}
        case "kraken-spot", "place":
            return {
                "error": [],
                "result": {"descr": {"order": "buy"}, "txid": ["OABC12-DEF34-GHI567"]},
            }
        case "kraken-spot", "cancel":
            return {"error": [], "result": {"count": 1}}
        case "kraken-spot", "cancel_all":
            return {"error": [], "result": {"count": 2}}
        case "kraken-spot", "replace":
            return {"error": [], "result": {"amend_id": "TEZA4R-DSDGT-IJBOJK"}}
        case "kraken-spot", ("order" | "open_orders" | "history"):
            row = {
                "refid": None,
                "userref": None,
                "cl_ord_id": NAME,
                "status": {"order": "open", "open_orders": "open", "history": "closed"}[operation],
                "opentm": 1700000000.5,
                "descr": {
                    "pair": name.replace("XXBTZ", "XBT").replace("XETHZ", "ETH"),
                    "type": "sell",
                    "ordertype": "limit",
                    "price": "100.5",
                    "price2": "0",
                    "leverage": "none",
                },
                "vol": "1.00000000",
                "vol_exec": "0.25000000" if operation != "history" else "1.00000000",
                "cost": "25.125",
                "fee": "0.04",
                "price": "100.5",
                "misc": "",
                "oflags": "fciq",
            }
            by_name = "client_order_id" in order
            key = {"order": "open" if by_name else "", "open_orders": "open", "history": "closed"}[
                operation
            ]
            rows = {"OABC12-DEF34-GHI567": row}
            return {"error": [], "result": {key: rows, "count": 1} if key else rows}
        case "kraken-spot", "fills":
            row = {
                "ordertxid": "OABC12-DEF34-GHI567",
                "pair": name,
                "time": 1700000000.25,
                "type": "buy",
                "ordertype": "limit",
                "price": "100.5",
                "cost": "25.125",
                "fee": "0.04",
                "vol": "0.25",
                "margin": "0",
                "misc": "",
                "maker": True,
            }
            return {"error": [], "result": {"trades": {"TABC12": row}, "count": 1}}
        case "kraken-spot", "balances":
            return {"error": [], "result": {base: {"balance": "2.0", "hold_trade": "0.5"}}}
        case "okx-spot", ("place" | "cancel" | "replace"):
            row = {
                "ordId": "123",
                "clOrdId": NAME,
                "tag": "",
                "ts": str(MS),
                "sCode": "0",
                "sMsg": "",
            }
            if order["ord_type"] not in {"MARKET", "LIMIT"}:
                row = {"algoId": "123", "algoClOrdId": NAME, "tag": "", "sCode": "0", "sMsg": ""}
            return {"code": "0", "msg": "", "data": [row]}
        case "okx-spot", ("order" | "open_orders" | "history"):
            row = {
                "instType": "SPOT",
                "instId": name,
                "ordId": "123",
                "clOrdId": NAME,
                "tag": "",
                "px": "100.5",
                "sz": "1",
                "ordType": "limit",
                "side": "sell",
                "tdMode": "cash",
                "accFillSz": "0.25" if operation != "history" else "1",
                "fillPx": "100.5",
                "avgPx": "100.5",
                "state": "partially_filled" if operation != "history" else "filled",
                "fee": "-0.04",
                "feeCcy": quote,
                "tgtCcy": "",
                "cTime": str(MS),
                "uTime": str(MS + 5),
                "algoClOrdId": "",
                "algoId": "",
                "cancelSource": "",
            }
            return {"code": "0", "msg": "", "data": [row]}
        case "okx-spot", "fills":
            row = {
                "instType": "SPOT",
                "instId": name,
                "tradeId": "56",
                "ordId": "123",
                "clOrdId": NAME,
                "billId": "9",
                "tag": "",
                "fillPx": "100.5",
                "fillSz": "0.25",
                "side": "buy",
                "execType": "T",
                "feeCcy": base,
                "fee": "-0.001",
                "ts": str(MS),
                "fillTime": str(MS),
            }
            return {"code": "0", "msg": "", "data": [row]}
        case "okx-spot", "balances":
            detail = {
                "ccy": base,
                "availBal": "1.5",
                "frozenBal": "0.5",
                "eq": "2.0",
                "cashBal": "2.0",
            }
            return {"code": "0", "msg": "", "data": [{"uTime": str(MS), "details": [detail]}]}
        case "bybit-spot", ("place" | "cancel" | "replace"):
            return _bybit({"orderId": "1523347543495541248", "orderLinkId": NAME})
        case "bybit-spot", "cancel_all":
            return _bybit(
                {"list": [{"orderId": "1523347543495541248", "orderLinkId": NAME}], "success": "1"}
            )
        case "bybit-spot", ("order" | "open_orders" | "history"):
            row = {
                "orderId": "1523347543495541248",
                "orderLinkId": NAME,
                "symbol": name,
                "price": "100.5",
                "qty": "1",
                "side": "Sell",
                "orderStatus": "PartiallyFilled" if operation != "history" else "Filled",
                "rejectReason": "EC_NoError",
                "avgPrice": "100.5",
                "leavesQty": "0.75",
                "cumExecQty": "0.25" if operation != "history" else "1",
                "cumExecValue": "25.125",
                "cumExecFee": "0.04",
                "timeInForce": "GTC",
                "orderType": "Limit",
                "stopOrderType": "",
                "triggerPrice": "0.00",
                "createdTime": str(MS),
                "updatedTime": str(MS + 5),
            }
            return _bybit({"category": "spot", "list": [row], "nextPageCursor": ""})
        case "bybit-spot", "fills":
            row = {
                "symbol": name,
                "orderId": "1523347543495541248",
                "orderLinkId": NAME,
                "side": "Buy",
                "orderPrice": "100.5",
                "orderQty": "1",
                "orderType": "Limit",
                "execFee": "0.001",
                "feeCurrency": base,
                "execId": "2290000000056",
                "execPrice": "100.5",
                "execQty": "0.25",
                "execType": "Trade",
                "execValue": "25.125",
                "execTime": str(MS),
                "isMaker": False,
            }
            return _bybit({"category": "spot", "list": [row], "nextPageCursor": ""})
        case "bybit-spot", "balances":
            coin = {"coin": base, "walletBalance": "2.0", "locked": "0.5", "equity": "2.0"}
            return _bybit({"list": [{"accountType": "UNIFIED", "coin": [coin]}]})
        case "coinbase", "place":
            success = {"order_id": "o-1", "product_id": name, "side": side, "client_order_id": NAME}
            return {
                "success": True,
                "failure_reason": "UNKNOWN_FAILURE_REASON",
                "order_id": "o-1",
                "success_response": success,
                "order_configuration": {},
            }
        case "coinbase", "cancel":
            return {
                "results": [
                    {
                        "success": True,
                        "failure_reason": "UNKNOWN_CANCEL_FAILURE_REASON",
                        "order_id": "o-1",
                    }
                ]
            }
        case "coinbase", "replace":
            return {"success": True, "errors": []}
        case "coinbase", ("order" | "open_orders" | "history"):
            row = {
                "order_id": "o-1",
                "product_id": name,
                "client_order_id": NAME,
                "order_configuration": {
                    "limit_limit_gtc": {
                        "base_size": "1",
                        "limit_price": "100.5",
                        "post_only": False,
                    }
                },
                "side": "SELL",
                "status": "OPEN" if operation != "history" else "FILLED",
                "time_in_force": "GOOD_UNTIL_CANCELLED",
                "created_time": "2023-11-14T22:13:20.123456Z",
                "completion_percentage": "25",
                "filled_size": "0.25" if operation != "history" else "1",
                "average_filled_price": "100.5",
                "number_of_fills": "1",
                "filled_value": "25.125",
                "total_fees": "0.04",
                "order_type": "LIMIT",
                "settled": False,
            }
            if operation == "order":
                return {"order": row}
            return {"orders": [row], "has_next": False, "cursor": "", "sequence": "0"}
        case "coinbase", "fills":
            row = {
                "entry_id": "e-56",
                "trade_id": "t-56",
                "order_id": "o-1",
                "trade_time": "2023-11-14T22:13:20Z",
                "trade_type": "FILL",
                "price": "100.5",
                "size": "0.25",
                "commission": "0.04",
                "product_id": name,
                "liquidity_indicator": "TAKER",
                "size_in_quote": False,
                "side": "BUY",
            }
            return {"fills": [row], "cursor": ""}
        case "coinbase", "balances":
            row = {
                "uuid": "u-1",
                "currency": base,
                "available_balance": {"value": "1.5", "currency": base},
                "hold": {"value": "0.5", "currency": base},
            }
            return {"accounts": [row], "has_next": False, "cursor": ""}
        case "bitstamp", ("place" | "replace"):
            return {
                "id": "1234",
                "market": symbol,
                "type": "0" if side == "BUY" else "1",
                "datetime": "2023-11-14 22:13:20.000000",
                "price": price,
                "amount": qty,
                "client_order_id": NAME,
            }
        case "bitstamp", "cancel":
            return {
                "id": 1234,
                "amount": "1",
                "price": "100",
                "type": 0,
                "status": "Canceled",
                "market": symbol,
            }
        case "bitstamp", "cancel_all":
            return {
                "success": True,
                "canceled": [{"id": 1234, "amount": 1, "price": 100, "type": 0, "market": symbol}],
            }
        case "bitstamp", "order":
            return {
                "id": 1234,
                "datetime": "2023-11-14 22:13:20",
                "type": "1",
                "status": "Open",
                "market": symbol,
                "amount_remaining": "0.75",
                "client_order_id": NAME,
                "transactions": [
                    {"tid": 56, "price": "100.5", base.lower(): "0.25", quote.lower(): "25.125"}
                    | {"fee": "0.04", "datetime": "2023-11-14 22:13:20", "type": 2}
                ],
            }
        case "bitstamp", "open_orders":
            row = {
                "id": "1234",
                "datetime": "2023-11-14 22:13:20",
                "type": "1",
                "price": "100.5",
                "amount": "0.75",
                "amount_at_create": "1.00",
                "currency_pair": symbol,
                "market": symbol,
                "client_order_id": NAME,
            }
            return [row]
        case "bitstamp", "fills":
            row = {
                "id": 56,
                "datetime": "2023-11-14 22:13:20.000000",
                "type": "2",
                "fee": "0.04",
                "order_id": 1234,
                base.lower(): "0.25",
                quote.lower(): "-25.125",
                f"{base.lower()}_{quote.lower()}": "100.5",
            }
            return [row]
        case "bitstamp", "balances":
            return [
                {"currency": base.lower(), "total": "2.0", "available": "1.5", "reserved": "0.5"}
            ]
        case _:
            return {}


def _bybit(result: Any) -> Any:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": MS}
