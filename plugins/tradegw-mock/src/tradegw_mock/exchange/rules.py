"""Whether a request is well-formed: fields, grid, sizes. Pure; funds and the book come later."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from .errors import Refusal, RefusalCode
from .model import AMOUNT_STEP, Instrument, OrderRequest, OrdType, TimeInForce

# Tuples, because a search by identity is faster than the hash of an enumeration's member.
LIMIT_TYPES: Final = (OrdType.LIMIT, OrdType.STOP_LIMIT, OrdType.TAKE_PROFIT_LIMIT)
TRIGGER_TYPES: Final = (
    OrdType.STOP,
    OrdType.STOP_LIMIT,
    OrdType.TAKE_PROFIT,
    OrdType.TAKE_PROFIT_LIMIT,
)
STOP_TYPES: Final = (OrdType.STOP, OrdType.STOP_LIMIT)

_GTD: Final = TimeInForce.GTD

# What Binance allows, so that ids made for it fit here.
_CLIENT_ORDER_ID: Final = re.compile(r"[a-zA-Z0-9._:/-]{1,36}")


def check_request(
    instrument: Instrument, request: OrderRequest, *, now_ns: int, last_price: Decimal | None
) -> None:
    """Refuse a request that could not be an order on any state of book and funds.

    Raises:
        Refusal: MALFORMED, BAD_CLIENT_ORDER_ID, BAD_EXPIRE_TIME, or a price, quantity or
            notional code.
    """
    _check_fields(request)
    if request.expire_time_ns is not None and not now_ns < request.expire_time_ns < 2**63:
        raise Refusal(
            RefusalCode.BAD_EXPIRE_TIME,
            f"expire_time_ns is after {now_ns} and below 2**63, found {request.expire_time_ns}",
        )
    price, trigger = request.price, request.trigger_price
    if price is not None:
        check_price(instrument, price, "price")
    if trigger is not None:
        check_price(instrument, trigger, "trigger_price")
    expected = price or trigger or last_price
    if request.order_qty is not None:
        check_qty(instrument, request.order_qty)
        if expected is not None:
            check_notional(instrument, request.order_qty * expected)
    else:
        assert request.quote_qty is not None
        _check_quote_qty(instrument, request.quote_qty)


def _check_fields(request: OrderRequest) -> None:
    if request.client_order_id is not None:
        check_client_order_id(request.client_order_id)
    has_limit = request.ord_type in LIMIT_TYPES
    if has_limit != (request.price is not None):
        raise _malformed(request, "price is missing" if has_limit else "price is not for this type")
    has_trigger = request.ord_type in TRIGGER_TYPES
    if has_trigger != (request.trigger_price is not None):
        raise _malformed(
            request,
            "trigger_price is missing" if has_trigger else "trigger_price is not for this type",
        )
    if (request.order_qty is None) == (request.quote_qty is None):
        raise _malformed(request, "exactly one of order_qty and quote_qty is expected")
    if has_limit and request.quote_qty is not None:
        raise _malformed(request, "quote_qty is for market orders, stops included")
    time_in_force = request.time_in_force
    if (time_in_force is _GTD) != (request.expire_time_ns is not None):
        raise _malformed(request, "expire_time_ns and GTD go together")
    if time_in_force is _GTD and request.ord_type is OrdType.MARKET:
        raise _malformed(request, "a market order does not wait")
    if request.post_only and request.ord_type is not OrdType.LIMIT:
        raise _malformed(request, "post_only is for LIMIT")
    if request.post_only and time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
        raise _malformed(request, f"post_only and {time_in_force} exclude each other")


def _malformed(request: OrderRequest, text: str) -> Refusal:
    return Refusal(RefusalCode.MALFORMED, f"{request.ord_type} order: {text}")


def check_client_order_id(client_order_id: str) -> None:
    """Refuse a client order id that is none.

    Raises:
        Refusal: BAD_CLIENT_ORDER_ID.
    """
    if not _CLIENT_ORDER_ID.fullmatch(client_order_id):
        raise Refusal(
            RefusalCode.BAD_CLIENT_ORDER_ID,
            f"a client order id has 1 to 36 letters, digits or .:/_-, found {client_order_id[:40]!r}",
        )


def check_price(instrument: Instrument, price: Decimal, field: str) -> None:
    """Refuse a price off the grid.

    Raises:
        Refusal: PRICE_OUT_OF_RANGE, PRICE_OFF_TICK.
    """
    if not price.is_finite() or not 0 < price <= instrument.max_price:
        raise Refusal(
            RefusalCode.PRICE_OUT_OF_RANGE,
            f"{field} is above 0 and at most {instrument.max_price:f}, found {price}",
        )
    if price % instrument.tick_size:
        raise Refusal(
            RefusalCode.PRICE_OFF_TICK,
            f"{field} is a multiple of {instrument.tick_size:f}, found {price}",
        )


def check_qty(instrument: Instrument, qty: Decimal) -> None:
    """Refuse a base quantity off the grid.

    Raises:
        Refusal: QTY_TOO_SMALL, QTY_TOO_LARGE, QTY_OFF_STEP.
    """
    if not qty.is_finite() or qty < instrument.min_qty:
        raise Refusal(
            RefusalCode.QTY_TOO_SMALL,
            f"order_qty is at least {instrument.min_qty:f}, found {qty}",
        )
    if qty > instrument.max_qty:
        raise Refusal(
            RefusalCode.QTY_TOO_LARGE, f"order_qty is at most {instrument.max_qty:f}, found {qty}"
        )
    if qty % instrument.lot_step:
        raise Refusal(
            RefusalCode.QTY_OFF_STEP,
            f"order_qty is a multiple of {instrument.lot_step:f}, found {qty}",
        )


def check_notional(instrument: Instrument, notional: Decimal) -> None:
    """Refuse an order too small in quote units.

    Raises:
        Refusal: NOTIONAL_TOO_SMALL.
    """
    if notional < instrument.min_notional:
        raise Refusal(
            RefusalCode.NOTIONAL_TOO_SMALL,
            f"price times quantity is at least {instrument.min_notional:f} {instrument.quote}, "
            f"found {notional:f}",
        )


def _check_quote_qty(instrument: Instrument, quote_qty: Decimal) -> None:
    if not quote_qty.is_finite() or quote_qty <= 0:
        raise Refusal(RefusalCode.QTY_TOO_SMALL, f"quote_qty is above 0, found {quote_qty}")
    largest = instrument.max_qty * instrument.max_price
    if quote_qty > largest:
        raise Refusal(
            RefusalCode.QTY_TOO_LARGE, f"quote_qty is at most {largest:f}, found {quote_qty}"
        )
    if quote_qty % AMOUNT_STEP:
        raise Refusal(
            RefusalCode.QTY_OFF_STEP,
            f"quote_qty is a multiple of {AMOUNT_STEP:f}, found {quote_qty}",
        )
    check_notional(instrument, quote_qty)
