"""The markets of a venue, found by our name and by any of the venue's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tradegw import Instrument, NotFound

__all__ = ["Listed", "Markets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One market as the venue lists it.

    Attributes:
        aliases: Further names that the venue uses for it, such as Kraken's `XBTUSD` and `XBT/USD`.
    """

    instrument: Instrument
    aliases: tuple[str, ...] = ()


class Markets:
    """The markets that a venue lists. A later name never replaces an earlier one."""

    def __init__(self, listed: Iterable[Listed] = ()) -> None:
        self._by_symbol: dict[str, Listed] = {}
        self._by_venue_symbol: dict[str, Listed] = {}
        for market in listed:
            self._by_symbol.setdefault(market.instrument.symbol, market)
            self._by_venue_symbol.setdefault(market.instrument.venue_symbol, market)
        for market in self._by_symbol.values():
            for alias in market.aliases:
                self._by_venue_symbol.setdefault(alias, market)

    def __iter__(self) -> Iterator[Instrument]:
        return (market.instrument for market in self._by_symbol.values())

    def __len__(self) -> int:
        return len(self._by_symbol)

    def find(self, symbol: str) -> Instrument | None:
        """Return the market of a unified symbol, or None."""
        market = self._by_symbol.get(symbol)
        return None if market is None else market.instrument

    def get(self, symbol: str) -> Instrument:
        """Return the market of a unified symbol.

        Raises:
            NotFound: The venue has no such market.
        """
        market = self._by_symbol.get(symbol)
        if market is None:
            raise NotFound(f"no market {symbol!r}", reason="UNKNOWN_SYMBOL")
        return market.instrument

    def aliases(self, symbol: str) -> tuple[str, ...]:
        """Return the venue's further names of a market."""
        market = self._by_symbol.get(symbol)
        return () if market is None else market.aliases

    def unified(self, venue_symbol: str) -> str:
        """Return our name of one of the venue's markets; an unlisted one keeps the venue's name."""
        market = self._by_venue_symbol.get(venue_symbol)
        return venue_symbol if market is None else market.instrument.symbol
