"""Checks that need nothing but the request: its fields, the instrument's grid, the venue's capabilities.

Each refusal says what was expected and what was found. Nothing is rounded: an order that is not the one
that was asked for is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Any

from tradegw.errors import InvalidOrder, UnsupportedOrder
from tradegw.model import (
    Instrument,
    InstrumentStatus,
    NewOrder,
    Order,
    OrdType,
    ReplaceTerms,
    Side,
    TimeInForce,
    TriggerBy,
    parse_decimal,
    plain,
)
from tradegw.model.numbers import CONTEXT, ZERO, is_multiple
from tradegw.venue import Capabilities

__all__ = [
    "check_capabilities",
    "check_fields",
    "check_grid",
    "check_key",
    "check_replace",
    "new_order",
    "parse_terms",
]

_NAME = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)
# The quotient of two numbers of 38 digits can have many more.
_WIDE = Context(prec=4 * 38)
_TAGS_MAX = 16
_TAG_MAX = 128
_TIME_MAX = 2**63
_QUEUE_MAX_S = 86_400
_NUMBERS = (
    "order_qty",
    "quote_qty",
    "price",
    "trigger_price",
    "trailing_offset",
    "max_slippage_bps",
)


def new_order(fields: Mapping[str, Any]) -> NewOrder:
    """Build a `NewOrder` from keyword arguments, with text for numbers and names in either case.

    Raises:
        InvalidOrder: A field is unknown, malformed, missing, or contradicts another.
    """
    values = {name: value for name, value in fields.items() if value is not None}
    try:
        for name in _NUMBERS:
            if name in values:
                values[name] = parse_decimal(values[name], name)
        for name, enum in _ENUMS.items():
            if name in values:
                values[name] = enum.of(str(values[name]))
        if "queue_if_unavailable_s" in values:
            values["queue_if_unavailable_s"] = float(values["queue_if_unavailable_s"])
        order = NewOrder(**values)
    except ValueError as e:
        raise InvalidOrder(str(e), reason="INVALID_FIELD") from e
    except TypeError as e:
        missing = {"symbol", "side", "ord_type"} - set(values)
        known = set(NewOrder.__dataclass_fields__)
        unknown = sorted(set(values) - known)
        if unknown:
            text = f"an order has no field {unknown[0]!r}; it has {', '.join(sorted(known))}"
        elif missing:
            text = f"an order needs {', '.join(sorted(missing))}"
        else:
            text = str(e)
        raise InvalidOrder(text, reason="INVALID_FIELD") from e
    check_fields(order)
    return order


_ENUMS: dict[str, Any] = {
    "side": Side,
    "ord_type": OrdType,
    "time_in_force": TimeInForce,
    "trigger_by": TriggerBy,
}


def check_fields(order: NewOrder) -> None:
    """Refuse an order whose fields are malformed or contradict each other.

    Raises:
        InvalidOrder: With reason `INVALID_FIELD` or `INVALID_QUANTITY`.
    """
    for name in _NUMBERS:
        value = getattr(order, name)
        if value is None:
            continue
        if not isinstance(value, Decimal):
            raise _invalid(f"{name} must be a Decimal; found {value!r:.80}")
        try:
            parse_decimal(value, name)
        except ValueError as e:
            raise InvalidOrder(str(e), reason="INVALID_FIELD") from e
        if value <= ZERO:
            raise _invalid(f"{name} must be above zero; found {plain(value)}")
    if (order.order_qty is None) == (order.quote_qty is None):
        found = "neither" if order.order_qty is None else "both"
        raise InvalidOrder(
            f"give exactly one of order_qty and quote_qty; found {found}",
            reason="INVALID_QUANTITY",
        )
    if order.quote_qty is not None and order.ord_type is not OrdType.MARKET:
        raise InvalidOrder(
            f"quote_qty is for MARKET orders; found {order.ord_type}", reason="INVALID_QUANTITY"
        )
    _check_terms(order)
    expire_time_ns: Any = order.expire_time_ns
    if expire_time_ns is not None and (
        type(expire_time_ns) is not int or not 0 < expire_time_ns < _TIME_MAX
    ):
        raise _invalid(
            f"expire_time_ns must be nanoseconds since the epoch; found {expire_time_ns!r:.80}"
        )
    _check_queue(order.queue_if_unavailable_s)
    for name in ("client_order_id", "idempotency_key"):
        value = getattr(order, name)
        if value is not None:
            check_key(value, name)
    symbol: Any = order.symbol
    if not isinstance(symbol, str) or not symbol or len(symbol) > 64:
        raise _invalid(f"symbol must be text such as BTC/USDT; found {symbol!r:.80}")
    _check_tags(order.tags)


def _check_queue(seconds: Any) -> None:
    if seconds is not None and not (
        isinstance(seconds, (int, float)) and 0 < seconds <= _QUEUE_MAX_S
    ):
        raise _invalid(
            f"queue_if_unavailable_s must be above 0 and at most {_QUEUE_MAX_S} seconds; "
            f"found {seconds!r:.80}"
        )


def _check_tags(tags: Any) -> None:
    if not isinstance(tags, Mapping):
        raise _invalid(f"tags must be a mapping of names to texts; found {tags!r:.80}")
    if len(tags) > _TAGS_MAX:  # pyright: ignore[reportUnknownArgumentType]
        raise _invalid(f"at most {_TAGS_MAX} tags; found {len(tags)}")  # pyright: ignore[reportUnknownArgumentType]
    name: Any
    value: Any
    for name, value in tags.items():  # pyright: ignore[reportUnknownVariableType]
        if not (
            isinstance(name, str)
            and _NAME.fullmatch(name)
            and isinstance(value, str)
            and len(value) <= _TAG_MAX
            and value.isprintable()
        ):
            raise _invalid(
                "a tag is a name of 1 to 64 printable ASCII characters and a text of at most "
                f"{_TAG_MAX} printable ones; found {name!r:.80}: {value!r:.160}"
            )


def _check_terms(order: NewOrder) -> None:
    for name, wanted in (
        ("price", order.ord_type.has_price),
        ("trigger_price", order.ord_type.has_trigger),
        ("trailing_offset", order.ord_type is OrdType.TRAILING_STOP),
        ("expire_time_ns", order.time_in_force is TimeInForce.GTD),
    ):
        if wanted != (getattr(order, name) is not None):
            verb = "needs" if wanted else "takes no"
            kind = order.time_in_force if name == "expire_time_ns" else order.ord_type
            raise _invalid(f"{kind} {verb} {name}")
    if order.post_only and order.ord_type is not OrdType.LIMIT:
        raise _invalid(f"post_only is for LIMIT orders; found {order.ord_type}")
    if order.post_only and order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
        raise _invalid(f"post_only contradicts {order.time_in_force}")
    if order.max_slippage_bps is not None and order.ord_type is not OrdType.MARKET:
        raise _invalid(f"max_slippage_bps is for MARKET orders; found {order.ord_type}")
    if order.trigger_by is not None and not (
        order.ord_type.has_trigger or order.ord_type is OrdType.TRAILING_STOP
    ):
        raise _invalid(f"{order.ord_type} takes no trigger_by")


def check_key(value: str, name: str) -> None:
    """Refuse a key or a client order id that is not 1 to 64 printable ASCII characters.

    Raises:
        InvalidOrder: With reason `INVALID_FIELD`.
    """
    given: Any = value
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise _invalid(
            f"{name} must be 1 to 64 printable ASCII characters without spaces; found {given!r:.80}"
        )


def check_capabilities(order: NewOrder, capabilities: Capabilities, venue: str) -> None:
    """Refuse what the venue cannot do.

    Raises:
        UnsupportedOrder: The text names the venue and what it lacks.
    """
    lacks: str | None = None
    if order.ord_type not in capabilities.ord_types:
        lacks = f"{order.ord_type} orders; it has {', '.join(sorted(capabilities.ord_types))}"
    elif order.time_in_force not in capabilities.time_in_force:
        have = ", ".join(sorted(capabilities.time_in_force))
        lacks = f"time in force {order.time_in_force}; it has {have}"
    elif order.post_only and not capabilities.post_only:
        lacks = "post-only orders"
    elif order.reduce_only and not capabilities.reduce_only:
        lacks = "reduce-only orders"
    elif order.quote_qty is not None and not capabilities.quote_qty:
        lacks = "orders sized in quote units"
    elif order.max_slippage_bps is not None and not capabilities.max_slippage:
        lacks = "a bound on slippage"
    if lacks is not None:
        raise UnsupportedOrder(f"venue {venue} has no {lacks}")


def check_grid(
    instrument: Instrument,
    *,
    order_qty: Decimal | None,
    price: Decimal | None,
    trigger_price: Decimal | None,
) -> None:
    """Refuse what does not fit the instrument's rules, naming the nearest values that do.

    Raises:
        InvalidOrder: With reason `PRICE_OFF_TICK`, `QTY_OFF_STEP`, `QTY_TOO_SMALL`, `QTY_TOO_LARGE`,
            `NOTIONAL_TOO_SMALL`, `NOTIONAL_TOO_LARGE` or `INSTRUMENT_NOT_TRADING`.
    """
    if instrument.status is not InstrumentStatus.TRADING:
        raise InvalidOrder(
            f"{instrument.symbol} is {instrument.status}; only TRADING takes new orders",
            reason="INSTRUMENT_NOT_TRADING",
        )
    for name, value in (("price", price), ("trigger_price", trigger_price)):
        if value is not None and not is_multiple(value, instrument.tick_size):
            raise InvalidOrder(
                f"{name} {plain(value)} is off the tick of {plain(instrument.tick_size)}; "
                f"nearest are {_nearest(value, instrument.tick_size)}",
                reason="PRICE_OFF_TICK",
            )
    if order_qty is None:
        return
    if not is_multiple(order_qty, instrument.step_size):
        raise InvalidOrder(
            f"order_qty {plain(order_qty)} is off the step of {plain(instrument.step_size)}; "
            f"nearest are {_nearest(order_qty, instrument.step_size)}",
            reason="QTY_OFF_STEP",
        )
    if instrument.qty_min and order_qty < instrument.qty_min:
        raise InvalidOrder(
            f"order_qty {plain(order_qty)} is below the least of {plain(instrument.qty_min)}",
            reason="QTY_TOO_SMALL",
        )
    if instrument.qty_max and order_qty > instrument.qty_max:
        raise InvalidOrder(
            f"order_qty {plain(order_qty)} is above the most of {plain(instrument.qty_max)}",
            reason="QTY_TOO_LARGE",
        )
    if price is None:
        return
    notional = CONTEXT.multiply(order_qty, price)
    if instrument.notional_min and notional < instrument.notional_min:
        raise InvalidOrder(
            f"price times quantity is {plain(notional)}, below the least of "
            f"{plain(instrument.notional_min)}",
            reason="NOTIONAL_TOO_SMALL",
        )
    if instrument.notional_max and notional > instrument.notional_max:
        raise InvalidOrder(
            f"price times quantity is {plain(notional)}, above the most of "
            f"{plain(instrument.notional_max)}",
            reason="NOTIONAL_TOO_LARGE",
        )


def check_replace(order: Order, terms: ReplaceTerms) -> None:
    """Refuse terms that the order cannot have.

    Raises:
        InvalidOrder: No term is given, or one does not belong to this kind of order, or is not positive,
            or the new total is not above what is filled.
    """
    given = {
        "order_qty": terms.order_qty,
        "price": terms.price,
        "trigger_price": terms.trigger_price,
    }
    if all(value is None for value in given.values()):
        raise _invalid("give at least one of order_qty, price and trigger_price")
    for name, value in given.items():
        if value is not None and value <= ZERO:
            raise _invalid(f"{name} must be above zero; found {plain(value)}")
        if value is not None and getattr(order, name) is None:
            raise _invalid(f"a {order.ord_type} order has no {name} to replace")
    if terms.order_qty is not None and terms.order_qty <= order.cum_qty:
        raise InvalidOrder(
            f"order_qty is the new total and must be above the {plain(order.cum_qty)} filled; "
            f"found {plain(terms.order_qty)}",
            reason="INVALID_QUANTITY",
        )


def parse_terms(order_qty: Any, price: Any, trigger_price: Any) -> ReplaceTerms:
    """Read replace terms as callers write them.

    Raises:
        InvalidOrder: One is not a plain decimal.
    """
    try:
        return ReplaceTerms(
            order_qty=None if order_qty is None else parse_decimal(order_qty, "order_qty"),
            price=None if price is None else parse_decimal(price, "price"),
            trigger_price=None
            if trigger_price is None
            else parse_decimal(trigger_price, "trigger_price"),
        )
    except ValueError as e:
        raise _invalid(str(e)) from e


def _nearest(value: Decimal, step: Decimal) -> str:
    below = _WIDE.multiply(_WIDE.divide_int(value, step), step)
    above = _WIDE.add(below, step)
    return f"{plain(below)} and {plain(above)}" if below else plain(above)


def _invalid(text: str) -> InvalidOrder:
    return InvalidOrder(text, reason="INVALID_FIELD")
