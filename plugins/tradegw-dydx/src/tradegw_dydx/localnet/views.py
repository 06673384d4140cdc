"""The indexer's JSON: decimals as text, heights as text, what is not known left out. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any, Final

from tradegw_dydx.localnet.ledger import STATUS_NAMES, Pair
from tradegw_dydx.localnet.terms import (
    Flags,
    Order,
    OrderId,
    SubaccountId,
    TimeInForce,
    order_uuid,
    subaccount_uuid,
)

__all__ = [
    "Json",
    "OrderRow",
    "Position",
    "iso",
    "market_json",
    "order_json",
    "plain",
    "position_json",
    "price_of",
    "size_of",
]

Json = dict[str, Any]
EXACT: Final = Context(prec=100)
_QUOTE_RESOLUTION: Final = -6
_STOP_LOSS: Final = 1


def plain(value: Decimal) -> str:
    """Write a decimal without exponent and without zeros at its end."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def size_of(pair: Pair, quantums: int) -> Decimal:
    """Return a size in whole units."""
    return Decimal(quantums).scaleb(pair.atomic_resolution, EXACT)


def price_of(pair: Pair, subticks: int) -> Decimal:
    """Return a price in dollars."""
    exponent = pair.quantum_conversion_exponent - pair.atomic_resolution + _QUOTE_RESOLUTION
    return Decimal(subticks).scaleb(exponent, EXACT)


def dollars(quote_quantums: int) -> Decimal:
    """Return an amount in dollars."""
    return Decimal(quote_quantums).scaleb(_QUOTE_RESOLUTION, EXACT)


def oracle_of(pair: Pair) -> Decimal:
    """Return the oracle's price in dollars."""
    return Decimal(pair.oracle_price).scaleb(pair.price_exponent, EXACT)


def iso(time_ns: int) -> str:
    """Write an instant as JavaScript does, in milliseconds."""
    at = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{time_ns // 1_000_000 % 1000:03d}Z"


@dataclass(slots=True, kw_only=True)
class OrderRow:
    """An order as the indexer knows it.

    Attributes:
        is_stored: It has a row in the database; else it is only remembered while it lives.
        matched: What a node has matched, whether a block took it yet or not.
    """

    order: Order
    status: str
    total_filled: int = 0
    matched: int = 0
    is_stored: bool = False
    created_height: int | None = None
    updated_height: int = 0
    updated_ns: int = 0
    removal_reason: str | None = None


@dataclass(slots=True, kw_only=True)
class Position:
    """One position, from its opening until it is closed or turns to the other side."""

    subaccount: SubaccountId
    clob_pair_id: int
    opened_height: int
    opened_ns: int
    size: Decimal = field(default_factory=Decimal)
    max_size: Decimal = field(default_factory=Decimal)
    sum_open: Decimal = field(default_factory=Decimal)
    sum_close: Decimal = field(default_factory=Decimal)
    opened_value: Decimal = field(default_factory=Decimal)
    closed_value: Decimal = field(default_factory=Decimal)
    closed_height: int | None = None
    closed_ns: int | None = None

    @property
    def entry_price(self) -> Decimal:
        """The average price at which it was opened."""
        return EXACT.divide(self.opened_value, self.sum_open) if self.sum_open else Decimal(0)

    @property
    def exit_price(self) -> Decimal | None:
        """The average price at which it was closed, as far as it was."""
        return EXACT.divide(self.closed_value, self.sum_close) if self.sum_close else None

    @property
    def realized(self) -> Decimal:
        """What the closed part has earned."""
        if self.exit_price is None:
            return Decimal(0)
        sign = 1 if self.is_long else -1
        return sign * (self.exit_price - self.entry_price) * self.sum_close

    @property
    def is_long(self) -> bool:
        """Tell a long position from a short one, also when it is closed."""
        return self.max_size > 0


def market_json(pair: Pair) -> Json:
    """Show a market as `/v4/perpetualMarkets` does."""
    margin = Decimal(pair.initial_margin_ppm).scaleb(-6)
    return {
        "clobPairId": str(pair.clob_pair_id),
        "ticker": pair.ticker,
        "status": STATUS_NAMES[pair.status],
        "oraclePrice": plain(oracle_of(pair)),
        "priceChange24H": "0",
        "volume24H": "0",
        "trades24H": 0,
        "nextFundingRate": "0",
        "initialMarginFraction": plain(margin),
        "maintenanceMarginFraction": plain(Decimal(pair.maintenance_margin_ppm).scaleb(-6)),
        "openInterest": "0",
        "atomicResolution": pair.atomic_resolution,
        "quantumConversionExponent": pair.quantum_conversion_exponent,
        "tickSize": plain(price_of(pair, pair.subticks_per_tick)),
        "stepSize": plain(size_of(pair, pair.step_base_quantums)),
        "stepBaseQuantums": pair.step_base_quantums,
        "subticksPerTick": pair.subticks_per_tick,
        "marketType": "CROSS",
        "openInterestLowerCap": "0",
        "openInterestUpperCap": "0",
        "baseOpenInterest": "0",
        "defaultFundingRate1H": "0",
    }


def _type_of(order: Order) -> str:
    if order.order_id.flags != Flags.CONDITIONAL:
        return "LIMIT"
    if order.condition_type == _STOP_LOSS:
        return "STOP_MARKET" if order.is_immediate else "STOP_LIMIT"
    return "TAKE_PROFIT_MARKET" if order.is_immediate else "TAKE_PROFIT"


def order_json(row: OrderRow, pair: Pair, *, is_stream: bool = False) -> Json:
    """Show an order, as REST does or as a stream does."""
    order = row.order
    order_id = order.order_id
    shown: Json = {
        "id": order_uuid(order_id),
        "subaccountId": subaccount_uuid(order_id.subaccount),
        "clientId": str(order_id.client_id),
        "clobPairId": str(order_id.clob_pair_id),
        "side": "BUY" if order.is_buy else "SELL",
        "size": plain(size_of(pair, order.quantums)),
        "totalFilled": plain(size_of(pair, row.total_filled)),
        "price": plain(price_of(pair, order.subticks)),
        "type": _type_of(order),
        "status": row.status,
        "timeInForce": "IOC" if order.is_immediate else "GTT",
        "reduceOnly": order.reduce_only,
        "orderFlags": str(order_id.flags),
        "clientMetadata": str(order.client_metadata),
        "postOnly": order.time_in_force == TimeInForce.POST_ONLY,
        "ticker": pair.ticker,
    }
    if not is_stream:
        shown["subaccountNumber"] = order_id.subaccount.number
    if order_id.is_short_term:
        shown["goodTilBlock"] = str(order.good_til_block)
    else:
        shown["goodTilBlockTime"] = iso(order.good_til_block_time * 1_000_000_000)
        if row.created_height is not None:
            shown["createdAtHeight"] = str(row.created_height)
    if order.trigger_subticks:
        shown["triggerPrice"] = plain(price_of(pair, order.trigger_subticks))
    if row.is_stored:
        shown["updatedAt"] = iso(row.updated_ns)
        shown["updatedAtHeight"] = str(row.updated_height)
    if row.removal_reason is not None:
        shown["removalReason"] = row.removal_reason
    return shown


def unknown_order_json(order_id: OrderId, pair: Pair, status: str, reason: str) -> Json:
    """Show that an order was removed of which the indexer never heard."""
    return {
        "id": order_uuid(order_id),
        "subaccountId": subaccount_uuid(order_id.subaccount),
        "clientId": str(order_id.client_id),
        "clobPairId": str(order_id.clob_pair_id),
        "status": status,
        "orderFlags": str(order_id.flags),
        "ticker": pair.ticker,
        "removalReason": reason,
    }


def position_json(position: Position, pair: Pair) -> Json:
    """Show a position, as REST does."""
    is_open = position.closed_height is None
    sign = 1 if position.is_long else -1
    unrealized = Decimal(0)
    if is_open:
        unrealized = (oracle_of(pair) - position.entry_price) * position.size
    shown: Json = {
        "market": pair.ticker,
        "status": "OPEN" if is_open else "CLOSED",
        "side": "LONG" if sign > 0 else "SHORT",
        "size": plain(position.size),
        "maxSize": plain(position.max_size),
        "entryPrice": plain(_rounded(position.entry_price)),
        "realizedPnl": plain(_rounded(position.realized)),
        "unrealizedPnl": plain(_rounded(unrealized)),
        "createdAt": iso(position.opened_ns),
        "createdAtHeight": str(position.opened_height),
        "sumOpen": plain(position.sum_open),
        "sumClose": plain(position.sum_close),
        "netFunding": "0",
        "subaccountNumber": position.subaccount.number,
    }
    if position.exit_price is not None:
        shown["exitPrice"] = plain(_rounded(position.exit_price))
    if position.closed_ns is not None:
        shown["closedAt"] = iso(position.closed_ns)
    return shown


def position_stream_json(position: Position, pair: Pair) -> Json:
    """Show a position, as a stream does."""
    shown = position_json(position, pair)
    for name in ("createdAt", "createdAtHeight", "closedAt"):
        shown.pop(name, None)
    opened = f"{position.opened_height}-{position.clob_pair_id}"
    shown["address"] = position.subaccount.owner
    shown["positionId"] = f"{subaccount_uuid(position.subaccount)}-{opened}"
    return shown


def _rounded(value: Decimal) -> Decimal:
    return round(value, 12)


def asset_json(subaccount: SubaccountId, usdc: int) -> Json:
    """Show the collateral of a subaccount."""
    return {
        "symbol": "USDC",
        "side": "LONG" if usdc >= 0 else "SHORT",
        "size": plain(abs(dollars(usdc))),
        "assetId": "0",
        "subaccountNumber": subaccount.number,
    }
