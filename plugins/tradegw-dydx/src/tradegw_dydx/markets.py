"""Markets, and the exact way from prices and sizes to the chain's integers and back. Pure.

Everything is `Decimal`: in binary floats one size in twenty of BTC's grid comes out a step too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from types import MappingProxyType
from typing import Any, Final

from tradegw import Instrument, InstrumentStatus, InvalidOrder, TranslationError

__all__ = ["QUOTE_RESOLUTION", "SAMPLES", "Market", "read_market", "symbol_of", "ticker_of"]

QUOTE_RESOLUTION: Final = -6
"""USDC counts in millionths."""
QUANTUMS_MAX: Final = 2**64 - 1
_QUOTE_ASSET: Final = "USD"
_SETTLE_ASSET: Final = "USDC"
_EXACT: Final = Context(prec=150)

_STATUS: Final[Mapping[str, InstrumentStatus]] = MappingProxyType(
    {
        "ACTIVE": InstrumentStatus.TRADING,
        "PAUSED": InstrumentStatus.HALTED,
        "CANCEL_ONLY": InstrumentStatus.CANCEL_ONLY,
        "POST_ONLY": InstrumentStatus.TRADING,
        "INITIALIZING": InstrumentStatus.HALTED,
        "FINAL_SETTLEMENT": InstrumentStatus.HALTED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """One perpetual market, with the exponents that tie its integers to decimals.

    Attributes:
        ticker: The venue's name, such as `BTC-USD`.
        oracle_price: The last that the indexer told; None before any.
        oracle_time_ns: When it told.
    """

    clob_pair_id: int
    ticker: str
    atomic_resolution: int
    quantum_conversion_exponent: int
    step_base_quantums: int
    subticks_per_tick: int
    status: str = "ACTIVE"
    oracle_price: Decimal | None = None
    oracle_time_ns: int = 0

    @property
    def symbol(self) -> str:
        """The unified symbol, such as `BTC/USD:USDC`."""
        return symbol_of(self.ticker)

    @property
    def step_size(self) -> Decimal:
        """Sizes are whole multiples of it, in base units; the least size is one."""
        return self.size_of(self.step_base_quantums)

    @property
    def tick_size(self) -> Decimal:
        """Prices are whole multiples of it, in quote units."""
        return self.price_of(self.subticks_per_tick)

    def quantums(self, size: Decimal, name: str = "order_qty") -> int:
        """Return a size in the chain's units.

        Raises:
            InvalidOrder: It is off the grid, below one step or beyond the chain's integers; the text names
                the nearest sizes that are not.
        """
        return self._whole(
            size, self.step_size, self.step_base_quantums, name, "step", "QTY_OFF_STEP"
        )

    def subticks(self, price: Decimal, name: str = "price") -> int:
        """Return a price in the chain's units.

        Raises:
            InvalidOrder: As for `quantums`.
        """
        return self._whole(
            price, self.tick_size, self.subticks_per_tick, name, "tick", "PRICE_OFF_TICK"
        )

    def size_of(self, quantums: int) -> Decimal:
        """Return a size in base units; signed, for positions."""
        return _scaled(quantums, self.atomic_resolution)

    def price_of(self, subticks: int) -> Decimal:
        """Return a price in quote units."""
        exponent = self.quantum_conversion_exponent - self.atomic_resolution + QUOTE_RESOLUTION
        return _scaled(subticks, exponent)

    def worst_price(self, reference: Decimal, bps: Decimal, *, is_buy: bool) -> Decimal:
        """Return the price beyond which a market order takes nothing, on the grid, rounded outward.

        Args:
            reference: The price that the bound is measured from.
            bps: How far, in basis points.
        """
        away = bps if is_buy else -bps
        bound = _EXACT.multiply(
            reference, _EXACT.add(Decimal(1), _EXACT.divide(away, Decimal(10_000)))
        )
        rounding = ROUND_CEILING if is_buy else ROUND_FLOOR
        ticks = _EXACT.divide(bound, self.tick_size).to_integral_value(rounding)
        # One tick is the least price there is.
        return _EXACT.multiply(max(ticks, Decimal(1)), self.tick_size).normalize(_EXACT)

    def to_instrument(self) -> Instrument:
        """Return what the gateway knows of it."""
        return Instrument(
            symbol=self.symbol,
            venue_symbol=self.ticker,
            base_asset=self.ticker.removesuffix(f"-{_QUOTE_ASSET}"),
            quote_asset=_QUOTE_ASSET,
            settle_asset=_SETTLE_ASSET,
            tick_size=self.tick_size,
            step_size=self.step_size,
            qty_min=self.step_size,
            contract_size=Decimal(1),
            # A status that is new to us takes no orders: the chain would only refuse them.
            status=_STATUS.get(self.status, InstrumentStatus.HALTED),
        )

    def _whole(
        self, value: Decimal, step: Decimal, step_units: int, name: str, grid: str, reason: str
    ) -> int:
        steps = _EXACT.divide(value, step)
        whole = steps.to_integral_value(ROUND_FLOOR)
        if steps != whole or whole < 1:
            below = _EXACT.multiply(whole, step)
            above = _EXACT.multiply(whole + 1, step)
            nearest = f"{_plain(below)} and {_plain(above)}" if whole >= 1 else _plain(step)
            raise InvalidOrder(
                f"{name} {_plain(value)} is off {self.ticker}'s {grid} of {_plain(step)}; "
                f"nearest: {nearest}",
                reason=reason,
            )
        units = int(whole) * step_units
        if units > QUANTUMS_MAX:
            raise InvalidOrder(
                f"{name} {_plain(value)} is beyond what the chain can count in {self.ticker}",
                reason="QTY_TOO_LARGE" if grid == "step" else reason,
            )
        return units


def _scaled(units: int, exponent: int) -> Decimal:
    return Decimal(units).scaleb(exponent, _EXACT).normalize(_EXACT) + 0


def _plain(value: Decimal) -> str:
    return format(value.normalize(_EXACT), "f")


def symbol_of(ticker: str) -> str:
    """Return the unified symbol of a market's ticker: `BTC-USD` is `BTC/USD:USDC`."""
    base, dash, quote = ticker.rpartition("-")
    if not dash or not base or quote != _QUOTE_ASSET:
        raise TranslationError(f"a ticker is BASE-USD; found {ticker[:80]!r}")
    return f"{base}/{quote}:{_SETTLE_ASSET}"


def ticker_of(symbol: str) -> str:
    """Return the ticker of a unified symbol; a ticker is taken as it is."""
    pair, colon, settle = symbol.partition(":")
    if colon and settle == _SETTLE_ASSET:
        return pair.replace("/", "-")
    return symbol


def read_market(told: Mapping[str, Any]) -> Market:
    """Read a market as the indexer describes it, in `/v4/perpetualMarkets`.

    Numbers come as text or as numbers, and more of them may change from one to the other.

    Raises:
        TranslationError: A field is missing or malformed.
    """
    try:
        oracle = told.get("oraclePrice")
        market = Market(
            clob_pair_id=int(told["clobPairId"]),
            ticker=str(told["ticker"]),
            atomic_resolution=int(told["atomicResolution"]),
            quantum_conversion_exponent=int(told["quantumConversionExponent"]),
            step_base_quantums=int(told["stepBaseQuantums"]),
            subticks_per_tick=int(told["subticksPerTick"]),
            status=str(told.get("status", "ACTIVE")),
            oracle_price=None if oracle is None else Decimal(str(oracle)),
        )
    except (KeyError, ValueError, ArithmeticError, TypeError) as e:
        raise TranslationError(f"unreadable market {told!r:.300}: {e!r}") from e
    if market.step_base_quantums < 1 or market.subticks_per_tick < 1:
        raise TranslationError(f"market {market.ticker} has a step or a tick of zero")
    symbol_of(market.ticker)
    return market


SAMPLES: Final[Mapping[str, Market]] = MappingProxyType(
    {
        market.ticker: market
        for market in (
            Market(
                clob_pair_id=0,
                ticker="BTC-USD",
                atomic_resolution=-10,
                quantum_conversion_exponent=-9,
                step_base_quantums=1_000_000,
                subticks_per_tick=100_000,
                oracle_price=Decimal("89919.2"),
            ),
            Market(
                clob_pair_id=1,
                ticker="ETH-USD",
                atomic_resolution=-9,
                quantum_conversion_exponent=-9,
                step_base_quantums=1_000_000,
                subticks_per_tick=100_000,
                oracle_price=Decimal("3103.01"),
            ),
            Market(
                clob_pair_id=5,
                ticker="SOL-USD",
                atomic_resolution=-7,
                quantum_conversion_exponent=-9,
                step_base_quantums=1_000_000,
                subticks_per_tick=1_000_000,
                oracle_price=Decimal("135.3"),
            ),
        )
    }
)
"""Three markets as they were at the end of 2025, for what is computed without a network."""
