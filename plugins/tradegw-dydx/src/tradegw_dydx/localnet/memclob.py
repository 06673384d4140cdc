"""One node's order book: what may rest, what meets whom, what is remembered. Pure.

Not the mock exchange's matcher, which moves spot funds on hold in decimals of eight places: here an order
is margin in integers, matches are tentative until a block takes them, a new version of an order replaces it
under its own name, and the book is rebuilt when a block decided otherwise.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tradegw_dydx.localnet.ledger import Failed, Ledger, Match
from tradegw_dydx.localnet.terms import Order, OrderId, TimeInForce, refuse

__all__ = [
    "Listener",
    "Matched",
    "Memclob",
    "Opened",
    "Operation",
    "Reason",
    "Removal",
    "Removed",
    "Update",
]

_REASON: Final = "ORDER_REMOVAL_REASON_"


class Reason:
    """Why an order left the book, in the indexer's words."""

    EXPIRED: Final = _REASON + "EXPIRED"
    USER_CANCELED: Final = _REASON + "USER_CANCELED"
    UNDERCOLLATERALIZED: Final = _REASON + "UNDERCOLLATERALIZED"
    SELF_TRADE: Final = _REASON + "SELF_TRADE_ERROR"
    POST_ONLY: Final = _REASON + "POST_ONLY_WOULD_CROSS_MAKER_ORDER"
    IMMEDIATE: Final = _REASON + "IMMEDIATE_OR_CANCEL_WOULD_REST_ON_BOOK"
    REDUCE_ONLY: Final = _REASON + "REDUCE_ONLY_RESIZE"
    REPLACED: Final = _REASON + "REPLACED"
    FINAL_SETTLEMENT: Final = _REASON + "FINAL_SETTLEMENT"


@dataclass(frozen=True, slots=True)
class Removal:
    """The chain is to take a stateful order out of its state."""

    order_id: OrderId
    reason: str


Operation = Match | Removal


@dataclass(frozen=True, slots=True)
class Opened:
    """The book took an order."""

    order: Order


@dataclass(frozen=True, slots=True)
class Removed:
    """The book let an order go; final where no node can match it any more."""

    order_id: OrderId
    order: Order | None
    reason: str
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Matched:
    """A match that no block has taken yet: so much of the order would be filled."""

    order_id: OrderId
    total_filled: int


Update = Opened | Matched | Removed
Listener = Callable[[Update], None]


class _Side:
    """One side of one market: rising keys, the best first."""

    def __init__(self, *, is_buy: bool) -> None:
        self._is_buy = is_buy
        self._queue: list[tuple[int, int, OrderId]] = []

    def add(self, order: Order, arrival: int) -> None:
        insort(self._queue, (self._key(order), arrival, order.order_id), key=_place)

    def remove(self, order: Order, arrival: int) -> None:
        place = (self._key(order), arrival)
        del self._queue[bisect_left(self._queue, place, key=_place)]

    def __iter__(self) -> Iterator[OrderId]:
        return (order_id for _, _, order_id in self._queue)

    def _key(self, order: Order) -> int:
        return -order.subticks if self._is_buy else order.subticks


def _place(entry: tuple[int, int, OrderId]) -> tuple[int, int]:
    return entry[:2]


class Memclob:
    """The orders that a node knows, over a ledger that is ahead of the chain's by this node's matches.

    Attributes:
        operations: Matches and removals since the last block, which the node proposes if its turn comes.
        cancels: Until which block a cancel holds.
    """

    def __init__(self, ledger: Ledger, listener: Listener | None = None) -> None:
        self.ledger = ledger
        self.operations: list[Operation] = []
        self.cancels: dict[OrderId, int] = {}
        self._resting: dict[OrderId, tuple[Order, int]] = {}
        self._matched: dict[OrderId, tuple[Order, int]] = {}
        self._books: dict[tuple[int, bool], _Side] = {}
        self._arrivals = 0
        self._listener = listener

    # What it knows

    def resting(self) -> list[Order]:
        """List what rests, in order of arrival."""
        return [order for order, _ in sorted(self._resting.values(), key=lambda entry: entry[1])]

    def find(self, order_id: OrderId) -> Order | None:
        """Return a resting order."""
        entry = self._resting.get(order_id)
        return None if entry is None else entry[0]

    def depth(self, clob_pair_id: int, *, is_buy: bool) -> dict[int, int]:
        """Return what is left at each price, best first."""
        levels: dict[int, int] = {}
        for order_id in self._side(clob_pair_id, is_buy):
            order = self._resting[order_id][0]
            left = self.ledger.remaining(order)
            levels[order.subticks] = levels.get(order.subticks, 0) + left
        return levels

    # What changes it

    def place(self, order: Order) -> None:
        """Take an order in: let it match, and rest what may rest.

        What does not fill is no error: an immediate order's rest, and a taker without collateral, are
        let go, and only the listener hears of it.

        Raises:
            Refused: Nothing changed.
        """
        known = self._resting.get(order.order_id)
        self._check(order, None if known is None else known[0])
        if order.time_in_force == TimeInForce.POST_ONLY and self._would_cross(order):
            raise refuse("clob", 2003, "Post-only order would cross one or more maker orders")
        if known is not None:
            self._unlink(order.order_id)
            self._tell(Removed(order.order_id, known[0], Reason.REPLACED))
        self._arrivals += 1
        self._tell(Opened(order))
        self._work(order, self._arrivals)

    def cancel(self, order_id: OrderId, good_til_block: int) -> None:
        """Remember a cancel of a short-term order, and let the order go if it ends no later.

        Raises:
            Refused: A cancel that holds as long is known.
        """
        if self.cancels.get(order_id, 0) >= good_til_block:
            raise refuse(
                "clob",
                9,
                "A cancellation with a greater than or equal to GoodTilBlock already exists",
            )
        self.cancels[order_id] = good_til_block
        order = self.find(order_id)
        if order is None:
            if order_id not in self._matched:
                self._tell(Removed(order_id, None, Reason.USER_CANCELED))
        elif order.good_til_block <= good_til_block:
            self.remove(order_id, Reason.USER_CANCELED)
        # Else the chain says nothing, and the order stays.

    def remove(self, order_id: OrderId, reason: str, *, is_final: bool = False) -> None:
        """Let a resting order go."""
        order = self._unlink(order_id)
        self._tell(Removed(order_id, order, reason, is_final))

    def admit(self, order: Order) -> None:
        """Take in an order of the chain's state, from which only the chain can remove it."""
        if order.time_in_force == TimeInForce.POST_ONLY and self._would_cross(order):
            self._let_go(order, Reason.POST_ONLY)
            return
        self._arrivals += 1
        self._work(order, self._arrivals)

    def drop(self, order_id: OrderId) -> None:
        """Let an order go without a word, if it rests."""
        if order_id in self._resting:
            self._unlink(order_id)

    def rebuild(self, ledger: Ledger, keeps: Callable[[Order], bool]) -> None:
        """Start anew over another ledger, with the orders that it still makes sense to keep.

        They come in the order of their arrival, and match anew.
        """
        known = {**self._matched, **self._resting}
        again = sorted(known.values(), key=lambda entry: entry[1])
        self.ledger = ledger
        self.operations = []
        self._resting, self._matched, self._books = {}, {}, {}
        for order, arrival in again:
            if keeps(order) and ledger.remaining(order):
                if order.is_immediate and ledger.filled.get(order.order_id):
                    continue
                if order.time_in_force == TimeInForce.POST_ONLY and self._would_cross(order):
                    self._let_go(order, Reason.POST_ONLY)
                    continue
                self._work(order, arrival)

    def settle(self, ledger: Ledger) -> None:
        """Go on over another ledger: a block took exactly this node's operations."""
        self.ledger = ledger
        self.operations = []
        self._matched = {}

    # Within

    def _check(self, order: Order, known: Order | None) -> None:
        order_id = order.order_id
        if order_id.is_short_term and self.cancels.get(order_id, 0) >= order.good_til_block:
            raise refuse("clob", 7, "An order with this id was canceled, with a later end")
        filled = self.ledger.filled.get(order_id, 0)
        if order.is_immediate and filled:
            if known is not None:
                raise refuse("clob", 20, "IOC cannot replace an order that is partly filled")
            raise refuse("clob", 2004, "IOC order is already filled, remaining size is cancelled")
        if known is None and order_id in self._matched:
            known = self._matched[order_id][0]
        if known is not None:
            newer = (order.good_til_block, order.digest) > (known.good_til_block, known.digest)
            same_terms = (order.side, order.time_in_force, order.reduce_only) == (
                known.side,
                known.time_in_force,
                known.reduce_only,
            )
            if not self.ledger.remaining(order) and order.digest == known.digest:
                raise refuse("clob", 24, "Order is fully filled")
            if not newer or not same_terms:
                raise refuse("clob", 20, "Replacement order is not valid")
        if not self.ledger.remaining(order):
            raise refuse("clob", 24, "Order is fully filled")
        if order.reduce_only:
            position = self.ledger.position(order_id.subaccount, order_id.clob_pair_id)
            if position == 0 or (position > 0) == order.is_buy:
                raise refuse("clob", 2001, "Reduce-only orders cannot increase the position size")

    def _work(self, order: Order, arrival: int) -> None:
        reason = self._match(order, arrival)
        if reason is not None:
            self._let_go(order, reason)
        elif self.ledger.remaining(order):
            if order.is_immediate:
                self._let_go(order, Reason.IMMEDIATE)
                return
            left = self.ledger.remaining(order)
            if not self.ledger.bears_resting(order, left):
                self._let_go(order, Reason.UNDERCOLLATERALIZED)
                return
            self._resting[order.order_id] = (order, arrival)
            self._side(order.order_id.clob_pair_id, order.is_buy).add(order, arrival)

    def _match(self, order: Order, arrival: int) -> str | None:
        """Let an order take; return why it must go, if it must."""
        order_id = order.order_id
        left = self.ledger.remaining(order)
        is_resized = False
        if order.reduce_only:
            held = abs(self.ledger.position(order_id.subaccount, order_id.clob_pair_id))
            is_resized, left = held < left, min(held, left)
        while left:
            maker = self._best_against(order)
            if maker is None:
                return None
            if maker.order_id.subaccount == order_id.subaccount:
                self._let_go(maker, Reason.SELF_TRADE)
                continue
            size = min(left, self.ledger.remaining(maker))
            match = Match(taker=order, maker=maker, quantums=size)
            failed = self.ledger.find_failure(match)
            if failed is Failed.TAKER:
                return Reason.UNDERCOLLATERALIZED
            if failed is Failed.MAKER:
                self._let_go(maker, Reason.UNDERCOLLATERALIZED)
                continue
            self.ledger.book(match)
            self.operations.append(match)
            for matched in (order_id, maker.order_id):
                self._tell(Matched(matched, self.ledger.filled[matched]))
            self._matched[order_id] = (order, arrival)
            self._matched[maker.order_id] = self._resting[maker.order_id]
            if not self.ledger.remaining(maker):
                self._unlink(maker.order_id)
            left -= size
        return Reason.REDUCE_ONLY if is_resized else None

    def _let_go(self, order: Order, reason: str) -> None:
        if order.order_id in self._resting:
            self._unlink(order.order_id)
        if not order.order_id.is_short_term:
            self.operations.append(Removal(order.order_id, reason))
        else:
            self._tell(Removed(order.order_id, order, reason))

    def _would_cross(self, order: Order) -> bool:
        return self._best_against(order) is not None

    def _best_against(self, order: Order) -> Order | None:
        for order_id in self._side(order.order_id.clob_pair_id, not order.is_buy):
            maker = self._resting[order_id][0]
            crosses = (
                maker.subticks <= order.subticks
                if order.is_buy
                else maker.subticks >= order.subticks
            )
            return maker if crosses else None
        return None

    def _unlink(self, order_id: OrderId) -> Order:
        order, arrival = self._resting.pop(order_id)
        self._side(order_id.clob_pair_id, order.is_buy).remove(order, arrival)
        return order

    def _side(self, clob_pair_id: int, is_buy: bool) -> _Side:
        key = (clob_pair_id, is_buy)
        side = self._books.get(key)
        if side is None:
            side = self._books[key] = _Side(is_buy=is_buy)
        return side

    def _tell(self, update: Update) -> None:
        if self._listener is not None:
            self._listener(update)
