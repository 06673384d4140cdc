"""What can be traded, and on which grid."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from tradegw.model.enums import InstrumentStatus
from tradegw.model.numbers import ZERO

__all__ = ["Instrument"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One market of one venue. Zero means "no such rule" for every limit and for both grids.

    Attributes:
        symbol: Unified: `BTC/USDT` spot, `BTC/USD:USDC` perpetual settled in USDC.
        venue_symbol: What the venue calls it.
        tick_size: Prices are whole multiples of it, in quote units.
        step_size: Quantities are whole multiples of it, in base units.
        notional_min: Least price times quantity, in quote units.
        contract_size: Base units in one contract of the venue; 1 for spot.
        settle_asset: What profit is paid in; None for spot.
    """

    symbol: str
    venue_symbol: str
    base_asset: str
    quote_asset: str
    settle_asset: str | None = None
    tick_size: Decimal = ZERO
    step_size: Decimal = ZERO
    qty_min: Decimal = ZERO
    qty_max: Decimal = ZERO
    notional_min: Decimal = ZERO
    notional_max: Decimal = ZERO
    contract_size: Decimal = Decimal(1)
    status: InstrumentStatus = InstrumentStatus.TRADING
