"""Prices that limits are judged by: fetched from the venue, and kept while they are fresh enough."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal

from tradegw.engine.account import NS_PER_S, Account
from tradegw.model.numbers import ZERO, check_decimal
from tradegw.plugins import AccountPlugins
from tradegw.venue import FetchReferencePrice

__all__ = ["ReferencePrices"]

log = logging.getLogger(__name__)


class ReferencePrices:
    """The reference prices of one account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._held: dict[str, tuple[Decimal, int]] = {}

    def held(self, symbol: str) -> Decimal | None:
        """Return the price of a symbol that is held, if it is fresh enough."""
        held = self._held.get(symbol)
        return held[0] if held is not None and held[1] >= self._oldest_ns() else None

    def _oldest_ns(self) -> int:
        account = self._account
        return account.clock.time_ns() - int(account.settings.reference_max_age_s * NS_PER_S)

    async def fetch(self, venue: AccountPlugins, symbol: str) -> Decimal | None:
        """Return a price that is fresh enough to judge by, or None."""
        account = self._account
        held = self.held(symbol)
        if held is not None:
            return held
        oldest_ns = self._oldest_ns()
        try:
            async with asyncio.timeout(account.settings.execute_timeout_s):
                page = await venue.fetch(FetchReferencePrice(symbol=symbol))
            for price in page.items:
                time_ns = price.time_ns - account.venue_offset_ns
                px = check_decimal(price.px, "px")
                if price.symbol == symbol and px > ZERO and time_ns >= oldest_ns:
                    self._held[symbol] = (px, time_ns)
                    return px
        except Exception as e:  # noqa: BLE001  Whatever it is: there is no price, and the limit refuses.
            log.warning("account %s: no reference price of %s: %r", account.account, symbol, e)
        return None
