"""Collateral, positions and what of each order is filled; how a match moves them. Integers throughout."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Final

from tradegw_dydx.localnet.terms import Order, OrderId, SubaccountId

__all__ = ["STATUS_NAMES", "Failed", "Fill", "Ledger", "Match", "Pair", "Status", "Subaccount"]

_PPM: Final = 1_000_000
_QUOTE_RESOLUTION: Final = -6


class Status:
    """What a market allows, by the chain's numbers."""

    ACTIVE: Final = 1
    PAUSED: Final = 2
    CANCEL_ONLY: Final = 3
    POST_ONLY: Final = 4
    INITIALIZING: Final = 5
    FINAL_SETTLEMENT: Final = 6


STATUS_NAMES: Final = {
    Status.ACTIVE: "ACTIVE",
    Status.PAUSED: "PAUSED",
    Status.CANCEL_ONLY: "CANCEL_ONLY",
    Status.POST_ONLY: "POST_ONLY",
    Status.INITIALIZING: "INITIALIZING",
    Status.FINAL_SETTLEMENT: "FINAL_SETTLEMENT",
}


@dataclass(slots=True, kw_only=True)
class Pair:
    """One perpetual market: its parameters, and its oracle price, which moves.

    Attributes:
        oracle_price: In 10 ** `price_exponent` dollars for a whole unit.
    """

    clob_pair_id: int
    ticker: str
    atomic_resolution: int
    quantum_conversion_exponent: int
    step_base_quantums: int
    subticks_per_tick: int
    price_exponent: int
    oracle_price: int
    initial_margin_ppm: int
    maintenance_margin_ppm: int
    status: int = Status.ACTIVE

    def quote_quantums(self, quantums: int, subticks: int) -> int:
        """Return the millionths of a dollar that a size costs at a price, rounded down."""
        return _shifted(quantums * subticks, self.quantum_conversion_exponent)

    def value(self, quantums: int) -> int:
        """Return what a position is worth at the oracle's price, in millionths of a dollar."""
        exponent = self.price_exponent + self.atomic_resolution - _QUOTE_RESOLUTION
        return _shifted(quantums * self.oracle_price, exponent)

    @property
    def oracle_subticks(self) -> Fraction:
        """The oracle's price in the market's own unit, which need not be whole."""
        exponent = (
            self.price_exponent
            - self.quantum_conversion_exponent
            + self.atomic_resolution
            - _QUOTE_RESOLUTION
        )
        return Fraction(self.oracle_price) * Fraction(10) ** exponent


def _shifted(value: int, exponent: int) -> int:
    scale: int = 10 ** abs(exponent)
    return value * scale if exponent >= 0 else value // scale


@dataclass(slots=True)
class Subaccount:
    """Collateral in millionths of a dollar, and signed positions by market."""

    usdc: int = 0
    positions: dict[int, int] = field(default_factory=dict[int, int])

    def copy(self) -> Subaccount:
        """Return another of the same content."""
        return Subaccount(self.usdc, dict(self.positions))

    def move(self, pair_id: int, quantums: int, usdc: int) -> None:
        """Add to a position and to the collateral."""
        self.usdc += usdc
        held = self.positions.get(pair_id, 0) + quantums
        if held:
            self.positions[pair_id] = held
        else:
            self.positions.pop(pair_id, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A taker met a maker, at the maker's price."""

    taker: Order
    maker: Order
    quantums: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One side of a match, as it is booked.

    Attributes:
        quote_quantums: What the size cost.
        fee: In millionths of a dollar; below zero it is a rebate.
        position_before: Of the subaccount in this market.
        total_filled: Of the order, this fill included.
    """

    order: Order
    is_taker: bool
    quantums: int
    subticks: int
    quote_quantums: int
    fee: int
    position_before: int
    total_filled: int


class Failed(Enum):
    """Whose collateral does not bear a match."""

    TAKER = "taker"
    MAKER = "maker"


class Ledger:
    """What all money and sizes hang on. The chain has one; a node has its own, ahead of it by its matches."""

    def __init__(self, pairs: dict[int, Pair], *, taker_fee_ppm: int, maker_fee_ppm: int) -> None:
        self.pairs = pairs
        self.subaccounts: dict[SubaccountId, Subaccount] = {}
        self.filled: dict[OrderId, int] = {}
        self._taker_fee_ppm = taker_fee_ppm
        self._maker_fee_ppm = maker_fee_ppm

    def copy(self) -> Ledger:
        """Return another of the same content, over the same markets."""
        other = Ledger(
            self.pairs, taker_fee_ppm=self._taker_fee_ppm, maker_fee_ppm=self._maker_fee_ppm
        )
        other.subaccounts = {key: item.copy() for key, item in self.subaccounts.items()}
        other.filled = dict(self.filled)
        return other

    def subaccount(self, subaccount: SubaccountId) -> Subaccount:
        """Return a subaccount, empty when it was never used."""
        return self.subaccounts.get(subaccount) or Subaccount()

    def position(self, subaccount: SubaccountId, pair_id: int) -> int:
        """Return a signed position."""
        return self.subaccount(subaccount).positions.get(pair_id, 0)

    def remaining(self, order: Order) -> int:
        """Return what of an order is not filled; zero also when it shrank below that."""
        return max(0, order.quantums - self.filled.get(order.order_id, 0))

    def equity(self, subaccount: Subaccount) -> int:
        """Return total net collateral, in millionths of a dollar."""
        return subaccount.usdc + sum(
            self.pairs[pair].value(held) for pair, held in subaccount.positions.items()
        )

    def free_collateral(self, subaccount: Subaccount) -> int:
        """Return equity less the initial margin of all positions."""
        required = sum(
            -(-abs(self.pairs[pair].value(held)) * self.pairs[pair].initial_margin_ppm // _PPM)
            for pair, held in subaccount.positions.items()
        )
        return self.equity(subaccount) - required

    def bears(self, order: Order, quantums: int, subticks: int, *, is_taker: bool) -> bool:
        """Tell whether the owner's collateral bears a fill."""
        before = self.subaccount(order.order_id.subaccount)
        pair = self.pairs[order.order_id.clob_pair_id]
        after = before.copy()
        quote = pair.quote_quantums(quantums, subticks)
        sign = 1 if order.is_buy else -1
        after.move(pair.clob_pair_id, sign * quantums, -sign * quote - self._fee(quote, is_taker))
        free = self.free_collateral(after)
        if free >= 0:
            return True
        # Under water already: what only reduces the position is welcome.
        held = before.positions.get(pair.clob_pair_id, 0)
        left = after.positions.get(pair.clob_pair_id, 0)
        reduces = abs(left) < abs(held) and left * held >= 0
        return reduces and free >= self.free_collateral(before)

    def bears_resting(self, order: Order, quantums: int) -> bool:
        """Tell whether the owner's collateral bears what is left of an order.

        Judged at the worse of its price and the oracle's: a bid far below the market earns nothing yet.
        """
        oracle = self.pairs[order.order_id.clob_pair_id].oracle_subticks
        worse = (
            max(order.subticks, math.ceil(oracle))
            if order.is_buy
            else min(order.subticks, math.floor(oracle))
        )
        return self.bears(order, quantums, worse, is_taker=False)

    def find_failure(self, match: Match) -> Failed | None:
        """Return whose collateral does not bear a match."""
        subticks = match.maker.subticks
        if not self.bears(match.taker, match.quantums, subticks, is_taker=True):
            return Failed.TAKER
        if not self.bears(match.maker, match.quantums, subticks, is_taker=False):
            return Failed.MAKER
        return None

    def book(self, match: Match) -> tuple[Fill, Fill]:
        """Move positions, collateral and filled sizes; the maker's fill comes first."""
        return self._book(match, match.maker, is_taker=False), self._book(
            match, match.taker, is_taker=True
        )

    def _book(self, match: Match, order: Order, *, is_taker: bool) -> Fill:
        order_id = order.order_id
        pair = self.pairs[order_id.clob_pair_id]
        subaccount = self.subaccounts.setdefault(order_id.subaccount, Subaccount())
        quote = pair.quote_quantums(match.quantums, match.maker.subticks)
        fee = self._fee(quote, is_taker)
        sign = 1 if order.is_buy else -1
        before = subaccount.positions.get(pair.clob_pair_id, 0)
        subaccount.move(pair.clob_pair_id, sign * match.quantums, -sign * quote - fee)
        self.filled[order_id] = self.filled.get(order_id, 0) + match.quantums
        return Fill(
            order=order,
            is_taker=is_taker,
            quantums=match.quantums,
            subticks=match.maker.subticks,
            quote_quantums=quote,
            fee=fee,
            position_before=before,
            total_filled=self.filled[order_id],
        )

    def _fee(self, quote_quantums: int, is_taker: bool) -> int:
        ppm = self._taker_fee_ppm if is_taker else self._maker_fee_ppm
        return -(-quote_quantums * ppm // _PPM)
