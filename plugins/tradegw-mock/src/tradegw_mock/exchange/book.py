"""The order book of one symbol: price-time priority, each operation cheap.

A side is a sorted list of price keys and a dict of levels; a level is a linked queue. Finding the
best level, joining a level, and cancelling are O(1); a new level costs a bisection.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from decimal import Decimal

from msgspec import Struct

from .model import ZERO, SelfTradePrevention


class Entry:
    """A resting order's place in its level's queue."""

    __slots__ = ("account", "following", "leaves", "level", "order_id", "previous")

    def __init__(self, order_id: int, account: str, leaves: Decimal, level: Level) -> None:
        self.order_id = order_id
        self.account = account
        self.leaves = leaves
        self.level = level
        self.previous: Entry | None = None
        self.following: Entry | None = None


class Level:
    """The orders at one price, oldest first, and the sum of what they leave."""

    __slots__ = ("first", "key", "last", "price", "total")

    def __init__(self, price: Decimal, key: Decimal) -> None:
        self.price = price
        self.key = key
        self.total = ZERO
        self.first: Entry | None = None
        self.last: Entry | None = None

    def __iter__(self) -> Iterator[Entry]:
        entry = self.first
        while entry is not None:
            yield entry
            entry = entry.following


class BookSide:
    """One side of a book."""

    def __init__(self, *, is_bid: bool) -> None:
        self.is_bid = is_bid
        # Rising keys, best last: a bid's key is its price, an ask's is the negative of it.
        self._keys: list[Decimal] = []
        self._levels: dict[Decimal, Level] = {}
        self._entries: dict[int, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, order_id: int) -> bool:
        return order_id in self._entries

    def best(self) -> Level | None:
        """Give the level with the first claim to trade."""
        return self._levels[self._keys[-1]] if self._keys else None

    def levels(self) -> Iterator[Level]:
        """Walk the levels, best first."""
        for key in reversed(self._keys):
            yield self._levels[key]

    def entry(self, order_id: int) -> Entry:
        """Give the place of a resting order."""
        return self._entries[order_id]

    def crossed_by(self, price: Decimal) -> bool:
        """Tell whether an order of the other side at this price would trade here."""
        if not self._keys:
            return False
        best = self._keys[-1]
        return best >= price if self.is_bid else best >= price.copy_negate()

    def add(self, order_id: int, account: str, price: Decimal, leaves: Decimal) -> None:
        """Queue an order at the end of its level."""
        key = price if self.is_bid else price.copy_negate()
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = Level(price, key)
            insort(self._keys, key)
        entry = self._entries[order_id] = Entry(order_id, account, leaves, level)
        if level.last is None:
            level.first = entry
        else:
            level.last.following = entry
            entry.previous = level.last
        level.last = entry
        level.total += leaves

    def reduce(self, entry: Entry, qty: Decimal) -> None:
        """Take a quantity off an order, which keeps its place; at nothing it leaves the book."""
        entry.leaves -= qty
        entry.level.total -= qty
        if not entry.leaves:
            self._unlink(entry)

    def remove(self, order_id: int) -> None:
        """Take an order out of the book."""
        entry = self._entries[order_id]
        entry.level.total -= entry.leaves
        self._unlink(entry)

    def _unlink(self, entry: Entry) -> None:
        level = entry.level
        del self._entries[entry.order_id]
        if entry.previous is None:
            level.first = entry.following
        else:
            entry.previous.following = entry.following
        if entry.following is None:
            level.last = entry.previous
        else:
            entry.following.previous = entry.previous
        if level.first is None:
            del self._levels[level.key]
            if self._keys[-1] == level.key:
                self._keys.pop()
            else:
                del self._keys[bisect_left(self._keys, level.key)]


class Walk(Struct, frozen=True, kw_only=True):
    """What a taker would get now. `complete` when nothing that could trade would be left over."""

    qty: Decimal
    quote: Decimal
    worst: Decimal | None
    complete: bool


def walk(
    side: BookSide,
    *,
    account: str,
    prevention: SelfTradePrevention,
    limit: Decimal | None,
    qty: Decimal | None,
    quote: Decimal | None,
    step: Decimal,
) -> Walk:
    """Add up what an order would take from `side`, without taking it.

    Follows the same rules as the matching itself: price limit, self-trade prevention, and for an
    order sized by `quote` whole steps of base at each price.
    """
    got = spent = ZERO
    worst: Decimal | None = None
    for level in side.levels():
        if limit is not None and not _reaches(side, level, limit):
            break
        for entry in level:
            if entry.account == account and prevention is not SelfTradePrevention.NONE:
                if prevention is SelfTradePrevention.EXPIRE_MAKER:
                    continue
                return Walk(qty=got, quote=spent, worst=worst or level.price, complete=False)
            if qty is not None:
                wanted = qty - got
            else:
                assert quote is not None
                wanted = affordable(quote - spent, level.price, step)
            taken = min(wanted, entry.leaves)
            got += taken
            spent += taken * level.price
            worst = level.price
            if qty is not None:
                complete = got == qty
            else:
                assert quote is not None
                complete = not affordable(quote - spent, worst, step)
            if complete:
                return Walk(qty=got, quote=spent, worst=worst, complete=True)
    return Walk(qty=got, quote=spent, worst=worst, complete=False)


def affordable(quote: Decimal, price: Decimal, step: Decimal) -> Decimal:
    """Give the most whole steps of base that an amount of quote buys at a price."""
    return quote // (price * step) * step


def _reaches(side: BookSide, level: Level, limit: Decimal) -> bool:
    return level.price >= limit if side.is_bid else level.price <= limit


class Triggers:
    """The untriggered stops of one symbol.

    `rising` ones fire when a trade prints at or above their trigger, `falling` ones at or below.
    """

    def __init__(self) -> None:
        self._rising: list[tuple[Decimal, int]] = []
        self._falling: list[tuple[Decimal, int]] = []

    def __len__(self) -> int:
        return len(self._rising) + len(self._falling)

    def add(self, order_id: int, trigger: Decimal, *, rising: bool) -> None:
        """Let an order wait for its trigger."""
        insort(self._rising if rising else self._falling, (trigger, order_id))

    def remove(self, order_id: int, trigger: Decimal, *, rising: bool) -> None:
        """Let an order wait no longer."""
        waiting = self._rising if rising else self._falling
        del waiting[bisect_left(waiting, (trigger, order_id))]

    def take(self, low: Decimal, high: Decimal) -> list[int]:
        """Take out the orders that trades between two prices fire, in order of acceptance."""
        reached = bisect_right(self._rising, high, key=_trigger_of)
        dropped = bisect_left(self._falling, low, key=_trigger_of)
        fired = [order_id for _, order_id in self._rising[:reached]]
        fired += [order_id for _, order_id in self._falling[dropped:]]
        if fired:
            del self._rising[:reached]
            del self._falling[dropped:]
            fired.sort()
        return fired


def _trigger_of(waiting: tuple[Decimal, int]) -> Decimal:
    return waiting[0]
