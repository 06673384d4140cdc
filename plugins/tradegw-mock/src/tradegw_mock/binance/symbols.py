"""What trades, as Binance names and describes it."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from tradegw_mock.binance.errors import BinanceError, mandatory
from tradegw_mock.binance.params import Params
from tradegw_mock.exchange import Instrument

__all__ = ["MAX_ALGO_ORDERS", "MAX_ORDERS", "ORDER_TYPES", "Symbols", "amount"]

ORDER_TYPES: Final = (
    "LIMIT",
    "LIMIT_MAKER",
    "MARKET",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
)
MAX_ORDERS: Final = 1000
"""Open orders of an account on a symbol."""
MAX_ALGO_ORDERS: Final = 100
"""Those of them that wait for a trigger."""


def amount(value: Decimal | None) -> str:
    """Write an amount with eight places; none at all is zero."""
    return "0.00000000" if value is None else f"{value:.8f}"


class Symbols:
    """The names on both sides: `BTC/USDT` at the exchange is `BTCUSDT` here."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._by_name = {f"{i.base}{i.quote}": i for i in instruments}
        self._names = {i.symbol: name for name, i in self._by_name.items()}

    def __iter__(self) -> Any:
        return iter(self._by_name)

    def name(self, symbol: str) -> str:
        """Give Binance's name of the exchange's symbol."""
        return self._names[symbol]

    def find(self, name: str) -> Instrument | None:
        """Find what trades under a name of Binance's."""
        return self._by_name.get(name)

    def get(self, name: str) -> Instrument:
        """Give what trades under a name of Binance's.

        Raises:
            BinanceError: Nothing does.
        """
        found = self._by_name.get(name)
        if found is None:
            raise BinanceError(-1121, "Invalid symbol.")
        return found

    def need(self, params: Params) -> Instrument:
        """Give the instrument that a request must name.

        Raises:
            BinanceError: It names none.
        """
        return self.get(params.need("symbol"))

    def chosen(self, params: Params, *, needed: bool = False) -> tuple[list[Instrument], bool]:
        """Give the instruments of `symbol` or `symbols`, else all; and whether it is one alone.

        Raises:
            BinanceError: A symbol is unknown, both are sent, or none where one is needed.
        """
        one, many = params.text("symbol"), params.names("symbols")
        if one is not None and many is not None:
            raise BinanceError(-1128, "Combination of optional parameters invalid.")
        if one is not None:
            return [self.get(one)], True
        if many is not None:
            if len(set(many)) != len(many):
                raise BinanceError(-1151, "Symbol is present multiple times in the list.")
            if not many:
                raise mandatory("symbols")
            return [self.get(name) for name in many], False
        if needed:
            raise BinanceError(
                -1102, "Param 'symbol' or 'symbols' must be sent, but both were empty/null!"
            )
        return list(self._by_name.values()), False


def describe(name: str, instrument: Instrument) -> dict[str, Any]:
    """Describe an instrument as `exchangeInfo` does."""
    return {
        "symbol": name,
        "status": "TRADING",
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": list(ORDER_TYPES),
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": filters(instrument),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }


def filters(instrument: Instrument) -> list[dict[str, Any]]:
    """Give the filters that an order must pass."""
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": amount(instrument.tick_size),
            "maxPrice": amount(instrument.max_price),
            "tickSize": amount(instrument.tick_size),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": amount(instrument.min_qty),
            "maxQty": amount(instrument.max_qty),
            "stepSize": amount(instrument.lot_step),
        },
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": amount(instrument.min_qty),
            "maxQty": amount(market_max_qty(instrument)),
            "stepSize": amount(instrument.lot_step),
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": amount(instrument.min_notional),
            "applyMinToMarket": True,
            "maxNotional": amount(instrument.max_qty * instrument.max_price),
            "applyMaxToMarket": False,
            "avgPriceMins": 0,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": MAX_ORDERS},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": MAX_ALGO_ORDERS},
    ]


def market_max_qty(instrument: Instrument) -> Decimal:
    """Give the most that a market order may ask for: half of what others may."""
    return instrument.max_qty / 2
