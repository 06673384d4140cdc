"""What one account's engine remembers: its open orders and their names at the venue.

History lives in the store, so memory does not grow with closed orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tradegw.model import ExecutionReport, Order, OrderId, VenueClientOrderId, VenueOrderId
from tradegw.ports import Known, VenueOrderRef

__all__ = ["Book"]


class Book:
    """Open orders of one account, as decided; what is decided may still be on its way to the store."""

    def __init__(self) -> None:
        self._orders: dict[OrderId, Order] = {}
        self._refs: dict[OrderId, VenueOrderRef] = {}
        self._by_client_id: dict[VenueClientOrderId, OrderId] = {}
        # Venues count their order ids anew for each symbol.
        self._by_venue_id: dict[tuple[str, VenueOrderId], OrderId] = {}

    def __len__(self) -> int:
        return len(self._orders)

    def __iter__(self) -> Iterator[Order]:
        return iter(tuple(self._orders.values()))

    def load(self, known: Iterable[Known]) -> None:
        """Forget everything, and remember these."""
        self._orders.clear()
        self._refs.clear()
        self._by_client_id.clear()
        self._by_venue_id.clear()
        for one in known:
            for ref in one.refs:
                self.put_ref(ref)
            self.put(one.order)

    def find(self, order_id: OrderId) -> Order | None:
        """Return an order as decided, or None when it is not open."""
        return self._orders.get(order_id)

    def ref(self, order_id: OrderId) -> VenueOrderRef | None:
        """Return the latest incarnation of an order."""
        return self._refs.get(order_id)

    def match(self, report: ExecutionReport) -> OrderId | None:
        """Return the open order that a report is about, by our name for it, else by the venue's."""
        if report.venue_client_order_id is not None:
            found = self._by_client_id.get(report.venue_client_order_id)
            if found is not None:
                return found
        if report.venue_order_id is not None and report.symbol is not None:
            return self._by_venue_id.get((report.symbol, report.venue_order_id))
        return None

    def put(self, order: Order) -> None:
        """Remember an order as it now stands."""
        self._orders[order.order_id] = order
        if order.venue_order_id is not None:
            self._by_venue_id[order.symbol, order.venue_order_id] = order.order_id

    def put_ref(self, ref: VenueOrderRef) -> None:
        """Remember an incarnation; the latest of an order is the one that commands go to."""
        held = self._refs.get(ref.order_id)
        if held is None or ref.generation >= held.generation:
            self._refs[ref.order_id] = ref
        self._by_client_id[ref.venue_client_order_id] = ref.order_id

    def drop(self, order: Order) -> None:
        """Forget a closed order."""
        self._orders.pop(order.order_id, None)
        self._refs.pop(order.order_id, None)
        if order.venue_order_id is not None:
            self._by_venue_id.pop((order.symbol, order.venue_order_id), None)
        if order.venue_client_order_id is not None:
            self._by_client_id.pop(order.venue_client_order_id, None)
