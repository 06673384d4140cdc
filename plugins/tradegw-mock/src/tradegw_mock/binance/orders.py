"""Orders on their way in and out: parameters become a request, an order becomes a report. Pure.

Source: binance-spot-api-docs, rest-api.md, "Trading endpoints" and "Account endpoints".
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from tradegw_mock.binance.errors import BinanceError, mandatory
from tradegw_mock.binance.params import Params
from tradegw_mock.binance.symbols import amount, market_max_qty
from tradegw_mock.exchange import (
    Fill,
    Instrument,
    Liquidity,
    Order,
    OrderRequest,
    OrdStatus,
    OrdType,
    Reason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

__all__ = [
    "EXPIRY_REASONS",
    "acknowledged",
    "amended",
    "cancelled",
    "order_status",
    "order_type",
    "queried",
    "read_order",
    "traded",
    "with_fills",
]

MS: Final = 1_000_000

_TYPES: Final = {
    "LIMIT": OrdType.LIMIT,
    "LIMIT_MAKER": OrdType.LIMIT,
    "MARKET": OrdType.MARKET,
    "STOP_LOSS": OrdType.STOP,
    "STOP_LOSS_LIMIT": OrdType.STOP_LIMIT,
    "TAKE_PROFIT": OrdType.TAKE_PROFIT,
    "TAKE_PROFIT_LIMIT": OrdType.TAKE_PROFIT_LIMIT,
}
_NAMES: Final = {ours: name for name, ours in _TYPES.items() if name != "LIMIT_MAKER"}
_WITH_TIME_IN_FORCE: Final = ("LIMIT", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT")
_WITH_PRICE: Final = (*_WITH_TIME_IN_FORCE, "LIMIT_MAKER")
_WITH_TRIGGER: Final = ("STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT")
_TIMES_IN_FORCE: Final = {
    "GTC": TimeInForce.GTC,
    "IOC": TimeInForce.IOC,
    "FOK": TimeInForce.FOK,
}
_RESPONSES: Final = ("ACK", "RESULT", "FULL")

EXPIRY_REASONS: Final = {
    Reason.IOC_REMAINDER: "UNFILLED_IOC_QUANTITY_EXPIRED",
    Reason.FOK_NOT_FILLABLE: "UNFILLED_FOK_ORDER_EXPIRED",
    Reason.NO_LIQUIDITY: "INSUFFICIENT_LIQUIDITY",
    Reason.QUOTE_BELOW_ONE_STEP: "INSUFFICIENT_LIQUIDITY",
    Reason.INSUFFICIENT_FUNDS_AT_TRIGGER: "REJECTED",
}


# --- in -------------------------------------------------------------------------------------------


def read_order(params: Params, instrument: Instrument) -> tuple[OrderRequest, str]:
    """Read a new order, and how much its answer shall say (`ACK`, `RESULT` or `FULL`).

    Raises:
        BinanceError: It is none, or none that this exchange takes.
    """
    side = params.one_of("side", ("BUY", "SELL"), (-1117, "Invalid side."))
    if side is None:
        raise mandatory("side")
    kind = params.one_of("type", _TYPES, (-1116, "Invalid orderType."))
    if kind is None:
        raise mandatory("type")
    _refuse_unsupported(params)
    time_in_force = TimeInForce.GTC
    if kind in _WITH_TIME_IN_FORCE:
        named = params.one_of("timeInForce", _TIMES_IN_FORCE, (-1115, "Invalid timeInForce."))
        if named is None:
            raise mandatory("timeInForce")
        time_in_force = _TIMES_IN_FORCE[named]
    else:
        params.forbid("timeInForce")
    price = _price(params, "price", needed=kind in _WITH_PRICE)
    trigger = _price(params, "stopPrice", needed=kind in _WITH_TRIGGER)
    quantity, quote = _sizes(params, kind)
    if kind == "MARKET" and quantity is not None and quantity > market_max_qty(instrument):
        raise BinanceError(-1013, "Filter failure: MARKET_LOT_SIZE")
    prevention = params.one_of("selfTradePreventionMode", tuple(SelfTradePrevention))
    request = OrderRequest(
        symbol=instrument.symbol,
        side=Side(side),
        ord_type=_TYPES[kind],
        order_qty=quantity,
        quote_qty=quote,
        price=price,
        trigger_price=trigger,
        time_in_force=time_in_force,
        post_only=kind == "LIMIT_MAKER",
        client_order_id=params.client_id("newClientOrderId"),
        self_trade_prevention=SelfTradePrevention(prevention or "EXPIRE_MAKER"),
    )
    return request, _response_type(params, kind)


def _price(params: Params, name: str, *, needed: bool) -> Decimal | None:
    if not needed:
        params.forbid(name)
        return None
    price = params.decimal(name)
    if price is None:
        raise mandatory(name)
    if not price:
        raise BinanceError(
            -1013, "Invalid price." if name == "price" else "Stop price cannot be zero."
        )
    return price


def _sizes(params: Params, kind: str) -> tuple[Decimal | None, Decimal | None]:
    quantity = params.decimal("quantity")
    if kind != "MARKET":
        params.forbid("quoteOrderQty")
        if quantity is None:
            raise mandatory("quantity")
        quote = None
    else:
        quote = params.decimal("quoteOrderQty")
        if quantity is None and quote is None:
            raise BinanceError(
                -1102,
                "Param 'quantity' or 'quoteOrderQty' must be sent, but both were empty/null!",
            )
        if quantity is not None and quote is not None:
            raise BinanceError(-1128, "Combination of optional parameters invalid.")
    if quantity is not None and not quantity:
        raise BinanceError(-1013, "Invalid quantity.")
    if quote is not None and not quote:
        raise BinanceError(-1013, "Invalid quote order qty.")
    return quantity, quote


def _refuse_unsupported(params: Params) -> None:
    """Refuse what `exchangeInfo` says is not allowed here; ignoring it would trade something else."""
    iceberg = params.decimal("icebergQty")
    if iceberg:
        raise BinanceError(-1013, "Iceberg orders are not supported for this symbol.")
    if params.integer("trailingDelta"):
        raise BinanceError(-1013, "Trailing stop orders are not supported for this symbol.")
    if params.text("pegPriceType") or params.text("pegOffsetType"):
        raise BinanceError(-1013, "Pegged orders are not supported for this symbol.")


def _response_type(params: Params, kind: str) -> str:
    named = params.one_of("newOrderRespType", _RESPONSES)
    return named or ("FULL" if kind in ("MARKET", "LIMIT") else "ACK")


# --- out ------------------------------------------------------------------------------------------


def order_type(order: Order) -> str:
    """Name an order's type."""
    return "LIMIT_MAKER" if order.post_only else _NAMES[order.ord_type]


def order_status(order: Order) -> str:
    """Name an order's status."""
    if order.ord_status is OrdStatus.REJECTED:
        # Accepted once, and impossible when its trigger fired: Binance says why in `expiryReason`.
        return "EXPIRED"
    if order.ord_status is OrdStatus.EXPIRED and order.reason == Reason.SELF_TRADE_PREVENTION:
        return "EXPIRED_IN_MATCH"
    return str(order.ord_status)


def acknowledged(name: str, order: Order, *, time_ns: int) -> dict[str, Any]:
    """Answer a placement, briefly (ACK)."""
    return {
        "symbol": name,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id or "",
        "transactTime": time_ns // MS,
    }


def _told(order: Order) -> dict[str, Any]:
    told: dict[str, Any] = {
        "price": amount(order.price),
        # A market order by quote has bought what it has bought.
        "origQty": amount(order.cum_qty if order.order_qty is None else order.order_qty),
        "executedQty": amount(order.cum_qty),
        "origQuoteOrderQty": amount(order.quote_qty),
        "cummulativeQuoteQty": amount(order.cum_quote),
        "status": order_status(order),
        "timeInForce": str(order.time_in_force),
        "type": order_type(order),
        "side": str(order.side),
    }
    if order.trigger_price is not None:
        told["stopPrice"] = amount(order.trigger_price)
    expiry = EXPIRY_REASONS.get(order.reason or "")
    if expiry is not None:
        told["expiryReason"] = expiry
    return told


def with_fills(
    name: str, order: Order, fills: Iterable[Fill], *, time_ns: int, response: str
) -> dict[str, Any]:
    """Answer a placement, as much as was asked for."""
    answer = acknowledged(name, order, time_ns=time_ns)
    if response == "ACK":
        return answer
    answer |= _told(order)
    if order.working_time_ns is not None:
        answer["workingTime"] = order.working_time_ns // MS
    if response == "FULL":
        answer["fills"] = [
            {
                "price": amount(fill.price),
                "qty": amount(fill.qty),
                "commission": amount(fill.fee),
                "commissionAsset": fill.fee_asset,
                "tradeId": fill.trade_id,
            }
            for fill in fills
        ]
    answer["selfTradePreventionMode"] = str(order.self_trade_prevention)
    return answer


def cancelled(name: str, order: Order, cancel_id: str, *, time_ns: int) -> dict[str, Any]:
    """Answer a cancel: `clientOrderId` is the cancel's own."""
    return {
        "symbol": name,
        "origClientOrderId": order.client_order_id or "",
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": cancel_id,
        "transactTime": time_ns // MS,
        **_told(order),
        "selfTradePreventionMode": str(order.self_trade_prevention),
    }


def queried(name: str, order: Order) -> dict[str, Any]:
    """Answer a query of an order."""
    return {
        "symbol": name,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id or "",
        **_told(order),
        "stopPrice": amount(order.trigger_price),
        "icebergQty": "0.00000000",
        "time": order.created_time_ns // MS,
        "updateTime": order.updated_time_ns // MS,
        "isWorking": order.working_time_ns is not None,
        "workingTime": -1 if order.working_time_ns is None else order.working_time_ns // MS,
        "selfTradePreventionMode": str(order.self_trade_prevention),
    }


def amended(
    name: str, order: Order, original_id: str | None, *, execution_id: int, time_ns: int
) -> dict[str, Any]:
    """Answer an amendment."""
    report: dict[str, Any] = {
        "symbol": name,
        "orderId": order.order_id,
        "orderListId": -1,
        "origClientOrderId": original_id or "",
        "clientOrderId": order.client_order_id or "",
        "price": amount(order.price),
        "qty": amount(order.order_qty),
        "executedQty": amount(order.cum_qty),
        "preventedQty": "0.00000000",
        "quoteOrderQty": "0.00000000",
        "cumulativeQuoteQty": amount(order.cum_quote),
        "status": order_status(order),
        "timeInForce": str(order.time_in_force),
        "type": order_type(order),
        "side": str(order.side),
        "selfTradePreventionMode": str(order.self_trade_prevention),
    }
    if order.working_time_ns is not None:
        report["workingTime"] = order.working_time_ns // MS
    return {"transactTime": time_ns // MS, "executionId": execution_id, "amendedOrder": report}


def traded(name: str, fill: Fill) -> dict[str, Any]:
    """Show one of an account's own trades."""
    return {
        "symbol": name,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "orderListId": -1,
        "price": amount(fill.price),
        "qty": amount(fill.qty),
        "quoteQty": amount(fill.quote_qty),
        "commission": amount(fill.fee),
        "commissionAsset": fill.fee_asset,
        "time": fill.time_ns // MS,
        "isBuyer": fill.side is Side.BUY,
        "isMaker": fill.liquidity is Liquidity.MAKER,
        "isBestMatch": True,
    }
