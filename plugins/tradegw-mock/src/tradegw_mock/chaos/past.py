"""How open orders stood a little while ago, for listings that are behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from tradegw_mock.exchange import Change, Order

__all__ = ["Past"]

KEEP: Final = 10_000


class Past:
    """The latest states of orders, up to a bound, by the time of their change.

    Args:
        keep: Changes of orders that are remembered. What is older counts as long ago: a listing is
            never further behind than what is kept.
    """

    def __init__(self, *, keep: int = KEEP) -> None:
        # The order as it stood before; None where the change made it.
        self._steps: deque[tuple[int, int, Order | None]] = deque(maxlen=keep)
        self._latest: dict[int, Order] = {}

    def begin(self, open_orders: Iterable[Order]) -> None:
        """Begin with the orders that are open now, and forget the rest."""
        self._steps.clear()
        self._latest = {order.order_id: order for order in open_orders}

    def note(self, change: Change) -> None:
        """Learn of a change, in order."""
        # Only users have events; the maker's quotes come and go by the hundred.
        users = {event.account for event in change.events}
        for order in change.orders:
            if order.account not in users:
                continue
            before = self._latest.get(order.order_id)
            self._steps.append((change.time_ns, order.order_id, before))
            if order.is_open:
                self._latest[order.order_id] = order
            else:
                self._latest.pop(order.order_id, None)

    def open_orders(self, account: str, now: Iterable[Order], time_ns: int) -> list[Order]:
        """Give the open orders of an account as they stood at a time, by rising id.

        Args:
            now: Its open orders as they stand.
        """
        found: dict[int, Order | None] = {order.order_id: order for order in now}
        for at_ns, order_id, before in reversed(self._steps):
            if at_ns <= time_ns:
                break
            if before is None or before.account == account:
                found[order_id] = before
        return [order for _, order in sorted(found.items()) if order is not None]
