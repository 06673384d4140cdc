"""What is remembered of the past: closed orders, fills, the audit trail.

Memory holds the recent part, up to a bound, and everything that no store has committed yet. An
`Archive` (the store) answers for the rest, so that a long history costs no memory. Without an
archive the oldest beyond the bound is lost; `History.lost` tells.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from .model import AuditRecord, Change, Fill, Order

BOUND_ALONE: Final = 200_000
"""Closed orders, fills and audit lines kept of each when there is no archive."""
BOUND_WITH_ARCHIVE: Final = 10_000
"""The same, beside an archive."""


class Archive(Protocol):
    """A durable past, as last committed; of orders it tells the closed ones.

    Lists begin after a cursor, and hold at most `limit`: the first ones by rising number or, of
    those with `newest`, the last ones by falling number.
    """

    def find_order(self, order_id: int) -> Order | None:
        """Find a closed order."""
        ...

    def find_latest(self, account: str, client_order_id: str) -> Order | None:
        """Find the latest closed order of a client order id."""
        ...

    def list_orders(
        self,
        account: str | None,
        symbol: str | None,
        since_ns: int,
        after: int,
        limit: int,
        *,
        newest: bool = False,
    ) -> list[Order]:
        """List closed orders updated at or after a time."""
        ...

    def list_fills(
        self,
        account: str | None,
        symbol: str | None,
        order_id: int | None,
        after: int,
        limit: int,
        *,
        newest: bool = False,
    ) -> list[Fill]:
        """List fills; `after` is a trade id."""
        ...

    def list_audit(self, after: int, limit: int) -> list[AuditRecord]:
        """List the audit trail."""
        ...


_T = TypeVar("_T")


class _Recent(Generic[_T]):
    """Items by rising number, of which the oldest can be dropped."""

    def __init__(self, number_of: Callable[[_T], int]) -> None:
        self.items: list[_T] = []
        self._number_of = number_of

    def after(self, number: int) -> list[_T]:
        """Give the items beyond a number."""
        return self.items[bisect_right(self.items, number, key=self._number_of) :]

    def trim(self, keep: int, committed: int) -> list[_T]:
        """Drop the oldest beyond `keep` that are committed; a quarter more may stay for speed."""
        surplus = len(self.items) - keep
        if surplus * 4 <= keep:
            return []
        surplus = min(surplus, bisect_right(self.items, committed, key=self._number_of))
        dropped = self.items[:surplus]
        del self.items[:surplus]
        return dropped


class History:
    """The recent past in memory, and the archive behind it."""

    def __init__(self, archive: Archive | None = None, bound: int | None = None) -> None:
        self._archive = archive
        self._bound = bound or (BOUND_WITH_ARCHIVE if archive else BOUND_ALONE)
        self._closed: dict[int, Order] = {}
        self._closed_ids: dict[str | None, list[int]] = {None: []}
        self._latest: dict[tuple[str, str], int] = {}
        # In order of closing, with the change that closed them, for dropping the oldest.
        self._closings: deque[tuple[int, int]] = deque()
        self._fills: _Recent[Fill] = _Recent(lambda fill: fill.trade_id)
        self._fills_of_account: dict[str, list[Fill]] = {}
        self._fills_of_order: dict[int, list[Fill]] = {}
        # The lines of the trail are written when someone reads them.
        self._changes: _Recent[Change] = _Recent(lambda change: change.counters.audit)
        self._marks: deque[tuple[int, int, int]] = deque()
        self._committed_change = 0
        self._committed_trade = 0
        self._committed_audit = 0
        self.lost = False
        """Whether something was dropped that no archive has."""

    def add(self, change: Change) -> None:
        """Remember a change."""
        for order in change.orders:
            if not order.is_open:
                self._add_closed(order, change.number)
        for fill in change.fills:
            self._fills.items.append(fill)
            self._fills_of_account.setdefault(fill.account, []).append(fill)
            self._fills_of_order.setdefault(fill.order_id, []).append(fill)
        self._changes.items.append(change)
        counters = change.counters
        if self._archive is None:
            self._committed_change = change.number
            self._committed_trade = counters.trade_id
            self._committed_audit = counters.audit
        else:
            self._marks.append((change.number, counters.trade_id, counters.audit))
        self._trim()

    def committed(self, change_number: int) -> None:
        """Learn that the archive has everything up to a change."""
        while self._marks and self._marks[0][0] <= change_number:
            mark = self._marks.popleft()
            self._committed_change, self._committed_trade, self._committed_audit = mark
        self._trim()

    def find_order(self, order_id: int) -> Order | None:
        """Find a closed order."""
        order = self._closed.get(order_id)
        if order is None and self._archive is not None:
            order = self._archive.find_order(order_id)
        return order

    def find_latest(self, account: str, client_order_id: str) -> Order | None:
        """Find the latest closed order of a client order id."""
        order_id = self._latest.get((account, client_order_id))
        if order_id is not None:
            return self._closed[order_id]
        if self._archive is not None:
            return self._archive.find_latest(account, client_order_id)
        return None

    def list_orders(
        self,
        open_orders: list[Order],
        *,
        account: str | None,
        symbol: str | None,
        since_ns: int,
        after: int,
        limit: int,
        newest: bool = False,
    ) -> list[Order]:
        """List the first orders, or the newest, by rising id; memory knows the open ones best."""
        found: dict[int, Order] = {}
        if self._archive is not None:
            rows = self._archive.list_orders(account, symbol, since_ns, after, limit, newest=newest)
            found = {order.order_id: order for order in rows}

        def wanted(order: Order) -> bool:
            return (symbol is None or order.symbol == symbol) and order.updated_time_ns >= since_ns

        ids = self._closed_ids.get(account, [])
        taken = 0
        indices = range(bisect_right(ids, after), len(ids))
        for index in reversed(indices) if newest else indices:
            order = self._closed[ids[index]]
            if wanted(order):
                found[order.order_id] = order
                taken += 1
                if taken == limit:
                    break
        for order in open_orders:
            if order.order_id > after and wanted(order):
                found[order.order_id] = order
        numbers = sorted(found)
        numbers = numbers[-limit:] if newest else numbers[:limit]
        return [found[order_id] for order_id in numbers]

    def list_fills(
        self,
        *,
        account: str | None,
        symbol: str | None,
        order_id: int | None,
        after: int,
        limit: int,
        newest: bool = False,
    ) -> list[Fill]:
        """List the first fills, or the newest, by rising trade id, the maker's side of a trade first.

        One more than `limit` come where the cut would part the two sides of a trade.
        """
        found: dict[tuple[int, str], Fill] = {}
        if self._archive is not None:
            rows = self._archive.list_fills(
                account, symbol, order_id, after, limit + 1, newest=newest
            )
            found = {(fill.trade_id, fill.liquidity): fill for fill in rows}
        if order_id is not None:
            recent = self._fills_of_order.get(order_id, [])
        elif account is not None:
            recent = self._fills_of_account.get(account, [])
        else:
            recent = self._fills.items
        taken = 0
        indices = range(bisect_right(recent, after, key=_trade_id_of), len(recent))
        for index in reversed(indices) if newest else indices:
            fill = recent[index]
            if account is not None and fill.account != account:
                continue
            if symbol is None or fill.symbol == symbol:
                found[fill.trade_id, fill.liquidity] = fill
                taken += 1
                if taken > limit:
                    break
        keys = sorted(found)
        if newest:
            keys = keys[-limit - 1 :]
            if len(keys) > limit and keys[0][0] != keys[1][0]:
                del keys[0]
            return [found[key] for key in keys]
        keys = keys[: limit + 1]
        if len(keys) > limit and keys[-1][0] != keys[-2][0]:
            keys.pop()
        return [found[key] for key in keys]

    def audit(self, after: int) -> Iterator[AuditRecord]:
        """Walk the audit trail beyond a number."""
        if self._archive is not None:
            while rows := self._archive.list_audit(after, 1000):
                yield from rows
                after = rows[-1].number
        for change in self._changes.after(after):
            for record in change.audit():
                if record.number > after:
                    yield record

    def _add_closed(self, order: Order, change_number: int) -> None:
        order_id = order.order_id
        if order_id in self._closed:
            # A late fill changed an order that had closed; it may go when that is committed.
            self._closed[order_id] = order
            self._closings.remove(next(item for item in self._closings if item[1] == order_id))
            self._closings.append((change_number, order_id))
            return
        self._closed[order_id] = order
        insort(self._closed_ids[None], order_id)
        insort(self._closed_ids.setdefault(order.account, []), order_id)
        if order.client_order_id is not None:
            self._latest[order.account, order.client_order_id] = order_id
        self._closings.append((change_number, order_id))

    def _trim(self) -> None:
        dropped = self._trim_closed()
        fills = self._fills.trim(2 * self._bound, self._committed_trade)
        if fills:
            dropped = True
            # Each list has its fills in the same order, so those dropped are its first.
            for account, count in Counter(fill.account for fill in fills).items():
                del self._fills_of_account[account][:count]
            for order_id, count in Counter(fill.order_id for fill in fills).items():
                del self._fills_of_order[order_id][:count]
                if not self._fills_of_order[order_id]:
                    del self._fills_of_order[order_id]
        if self._changes.trim(2 * self._bound, self._committed_audit):
            dropped = True
        if dropped and self._archive is None:
            self.lost = True

    def _trim_closed(self) -> bool:
        """Drop the oldest closings; a quarter more than the bound may stay for speed."""
        surplus = len(self._closings) - self._bound
        if surplus * 4 <= self._bound:
            return False
        gone: set[int] = set()
        accounts: set[str | None] = {None}
        while len(gone) < surplus and self._closings[0][0] <= self._committed_change:
            _, order_id = self._closings.popleft()
            order = self._closed.pop(order_id)
            gone.add(order_id)
            accounts.add(order.account)
            key = (order.account, order.client_order_id or "")
            if self._latest.get(key) == order_id:
                del self._latest[key]
        for account in accounts if gone else ():
            self._closed_ids[account] = [
                order_id for order_id in self._closed_ids[account] if order_id not in gone
            ]
        return bool(gone)


def _trade_id_of(fill: Fill) -> int:
    return fill.trade_id
