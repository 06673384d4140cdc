"""Remembers short-term orders until nothing can happen to them any more.

The chain forgets an unfilled short-term order, and the indexer with it. What is certain is its end: once the
nodes and the indexer are both past its good-til-block, every fill that it will ever have is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tradegw import VenueClientOrderId, VenueOrderId

__all__ = ["TRACKED_MAX", "ShortTermOrder", "Tracker"]

TRACKED_MAX: Final = 50_000
"""Orders whose end is awaited. Beyond it no order is sent: the indexer is out, or far behind."""


@dataclass(slots=True, kw_only=True)
class ShortTermOrder:
    """One that may still fill.

    Attributes:
        good_til_block: The last block in which it can.
        since_height: Height at which it was sent; no fill of it is older.
        is_cancelled: Whether someone asked for its end; decides what its end is called.
    """

    uuid: VenueOrderId
    name: VenueClientOrderId
    symbol: str
    good_til_block: int
    since_height: int
    is_immediate: bool = False
    is_cancelled: bool = False


@dataclass(slots=True)
class Tracker:
    """The short-term orders of one account, by their names at the indexer."""

    _orders: dict[str, ShortTermOrder] = field(default_factory=dict[str, ShortTermOrder])

    def __len__(self) -> int:
        return len(self._orders)

    def note(self, order: ShortTermOrder) -> None:
        """Remember an order before it is sent; of one replaced, the later end counts."""
        known = self._orders.get(order.uuid)
        if known is not None:
            known.good_til_block = max(known.good_til_block, order.good_til_block)
            return
        self._orders[order.uuid] = order

    def find(self, uuid: str) -> ShortTermOrder | None:
        """Return an order that may still fill."""
        return self._orders.get(uuid)

    def forget(self, uuid: str) -> None:
        """Drop an order that has ended."""
        self._orders.pop(uuid, None)

    def cancelled(self, uuid: str) -> None:
        """Note that someone asked for an order's end."""
        order = self._orders.get(uuid)
        if order is not None:
            order.is_cancelled = True

    def ended(self, height: int) -> list[ShortTermOrder]:
        """Return the orders that cannot fill any more.

        Args:
            height: Up to which both a node and the indexer know everything.
        """
        return [o for o in self._orders.values() if o.good_til_block <= height]
