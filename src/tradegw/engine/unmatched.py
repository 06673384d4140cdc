"""Fills that have found no order yet: each is in the stream once, and must not enter it with its order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from tradegw.model import ExecutionReport, Fill, Order, Side, TradeId, VenueOrderId

__all__ = ["UNMATCHED_MAX", "Unmatched"]

UNMATCHED_MAX: Final = 10_000
"""As many are remembered, the latest. Older ones stay as they are in the record: some other program's."""

_OrderKey = tuple[str, Side, VenueOrderId | None]
_Key = tuple[_OrderKey, TradeId]


class Unmatched:
    """The unmatched fills of one account."""

    def __init__(self) -> None:
        self._fills: dict[_Key, Fill] = {}
        self._of_order: dict[_OrderKey, dict[_Key, Fill]] = {}
        self._arriving: dict[_Key, asyncio.Future[None]] = {}

    def __len__(self) -> int:
        return len(self._fills)

    def load(self, fills: Iterable[Fill]) -> None:
        """Forget everything, and remember these."""
        self._fills.clear()
        self._of_order.clear()
        for fill in fills:
            self.add(fill)

    def add(self, fill: Fill) -> None:
        """Remember a fill as it is stored."""
        key = _key(fill)
        self._fills[key] = fill
        self._of_order.setdefault(key[0], {})[key] = fill
        if len(self._fills) > UNMATCHED_MAX:
            self.remove(next(iter(self._fills.values())))

    def remove(self, fill: Fill) -> None:
        """Forget a fill that found its order."""
        key = _key(fill)
        self._fills.pop(key, None)
        siblings = self._of_order.get(key[0], {})
        siblings.pop(key, None)
        if not siblings:
            self._of_order.pop(key[0], None)

    def orders(self) -> Sequence[tuple[str, VenueOrderId]]:
        """Return symbol and the venue's name of the orders that are wanted."""
        return [(symbol, name) for symbol, _, name in self._of_order if name is not None]

    def of(self, order: Order) -> Sequence[Fill]:
        """Return the fills that are an order's, by the venue's name of it."""
        if not self._fills or order.venue_order_id is None:
            return ()
        found = self._of_order.get((order.symbol, order.side, order.venue_order_id), {})
        return [fill for fill in found.values() if fill.trade_id not in order.trade_ids]

    def find(self, order: Order, report: ExecutionReport) -> Fill | None:
        """Return the fill that a trade of an order tells of again, if it came without the order's name."""
        if not self._fills or report.trade_id is None:
            return None
        for name in (report.venue_order_id, order.venue_order_id, None):
            found = self._fills.get(((order.symbol, order.side, name), report.trade_id))
            if found is not None:
                return found
        return None

    # --- on their way to the store ----------------------------------------------------------------

    def is_known(self, fill: Fill) -> bool:
        """Whether it is stored, or about to be."""
        key = _key(fill)
        return key in self._fills or key in self._arriving

    def begin(self, fill: Fill) -> None:
        """Note that a fill is being stored."""
        self._arriving[_key(fill)] = asyncio.get_running_loop().create_future()

    def end(self, fill: Fill) -> None:
        """Note that it is stored, or failed to be."""
        arriving = self._arriving.pop(_key(fill), None)
        if arriving is not None:
            arriving.set_result(None)

    async def settled(self) -> None:
        """Wait until no fill is being stored."""
        while self._arriving:
            await asyncio.wait(tuple(self._arriving.values()))


def _key(fill: Fill) -> _Key:
    return (fill.symbol, fill.side, fill.venue_order_id), fill.trade_id
