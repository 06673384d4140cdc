"""Rate budgets as their venue counts them, one class for each strategy. Pure: the venue's time is passed in.

The venue counts a request when it arrives, some time between our sending it and our hearing of it. So what
is on its way counts in full, and begins to be forgotten when it is answered: we may count a little longer
than the venue, never shorter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Final

from tradegw.venue import BudgetPool, BudgetStrategy, Operation

__all__ = ["NEVER_NS", "Pool", "make_pool"]

_NS_PER_S: Final = 1_000_000_000
NEVER_NS: Final = 1 << 62
"""A wait that only an answer can end."""

MARGIN_NS: Final = 50_000_000
"""How wrong we may be about the venue's clock before it was measured."""


class Pool(ABC):
    """What is used of one budget.

    Attributes:
        margin_ns: How far our idea of the venue's clock may be off.
        limit: Units that are ours: the whole, or our part of it.
        kept: Units that new orders leave to cancels and questions about orders in doubt.
    """

    def __init__(self, about: BudgetPool) -> None:
        self.about = about
        self.margin_ns = MARGIN_NS
        self._window_ns = int(about.window_s * _NS_PER_S)
        self._on_their_way = 0
        self._count = 0
        self._blocked_until_ns = 0
        self._sharers = 1
        self.limit = about.limit
        self.kept = 0
        self.divide(1)

    def divide(self, sharers: int) -> None:
        """Take no more than our part: so many gateways draw on the same budget."""
        self._sharers = sharers
        self.limit = limit = max(1, self.about.limit // sharers)
        cancel = self.about.cost_of(Operation.CANCEL)
        # Where cancels draw nothing, they cannot be held up.
        self.kept = min(limit // 2, max(cancel, limit // 10)) if cancel else 0

    # --- drawing --------------------------------------------------------------------------------

    def wait_ns(self, cost: int, now_ns: int, *, kept: int = 0) -> int:
        """Return how long until `cost` units may be drawn; 0 means now, `NEVER_NS` after an answer.

        Args:
            kept: Units to leave.
        """
        if now_ns < self._blocked_until_ns:
            return self._blocked_until_ns - now_ns
        if not cost:
            return 0
        most = self.limit - kept
        if most < 1:
            return NEVER_NS
        # Dearer than all there is: when nothing else is used, the venue may take it.
        room = most - min(cost, most) - self._on_their_way
        return self._wait_ns(room, now_ns) if room >= 0 else NEVER_NS

    def take(self, cost: int) -> None:
        """Draw units for a request that is about to leave."""
        self._on_their_way += cost
        self._count += 1

    def answered(self, cost: int, now_ns: int) -> None:
        """Take note that a request was heard of, or given up: it is on its way no more."""
        self._on_their_way -= cost
        self._count -= 1
        if cost:
            self._settle(cost, now_ns)

    def give_back(self, cost: int) -> None:
        """Return units whose request never left."""
        self._on_their_way -= cost
        self._count -= 1

    # --- what the venue says --------------------------------------------------------------------

    def used(self, now_ns: int) -> int:
        """Return the units that count now."""
        return self._on_their_way + self._settled(now_ns)

    def correct(self, used: int, now_ns: int) -> None:
        """Follow the venue's own count.

        More is believed at once: others draw on it too. Less is believed when nothing else is on its way,
        because an answer that was overtaken tells of an earlier state. Where gateways share, it counts what
        all of them used: ours is as much of our part as that is of the whole.
        """
        used = -(-used // self._sharers)
        ours = self.used(now_ns)
        if used > ours:
            self._settle(used - ours, now_ns)
        elif used < ours and self._count <= 1:
            self._reset(max(0, used - self._on_their_way), now_ns)

    def block(self, until_ns: int) -> None:
        """Draw nothing until then: the venue said so."""
        self._blocked_until_ns = max(self._blocked_until_ns, until_ns)

    # --- how it counts --------------------------------------------------------------------------

    @abstractmethod
    def _settled(self, now_ns: int) -> int:
        """Return the units of answered requests that still count."""

    @abstractmethod
    def _wait_ns(self, room: int, now_ns: int) -> int:
        """Return how long until at most `room` units of answered requests count."""

    @abstractmethod
    def _settle(self, cost: int, now_ns: int) -> None:
        """Count the units of a request that was answered now."""

    @abstractmethod
    def _reset(self, settled: int, now_ns: int) -> None:
        """Have so many units of answered requests count."""


class _FixedWindow(Pool):
    """Windows of the venue's clock. One begins for us when it has surely begun there."""

    def __init__(self, about: BudgetPool) -> None:
        super().__init__(about)
        self._window = -1
        self._used = 0
        # Settled around the end of the window: the venue may count them in the next.
        self._lately: deque[tuple[int, int]] = deque()

    def _begin(self, now_ns: int) -> int:
        """Return when the present window began for us."""
        return now_ns // self._window_ns * self._window_ns + self.margin_ns

    def _turn(self, now_ns: int) -> None:
        begin_ns = self._begin(now_ns)
        window = now_ns // self._window_ns - (now_ns < begin_ns)
        if window <= self._window:
            return
        edge_ns = window * self._window_ns - self.margin_ns
        self._window = window
        self._used = sum(cost for settled_ns, cost in self._lately if settled_ns >= edge_ns)
        self._lately.clear()

    def _settled(self, now_ns: int) -> int:
        self._turn(now_ns)
        return self._used

    def _wait_ns(self, room: int, now_ns: int) -> int:
        if self._settled(now_ns) <= room:
            return 0
        return (self._window + 1) * self._window_ns + self.margin_ns - now_ns

    def _settle(self, cost: int, now_ns: int) -> None:
        self._turn(now_ns)
        self._used += cost
        if now_ns >= (self._window + 1) * self._window_ns - self.margin_ns:
            self._lately.append((now_ns, cost))

    def correct(self, used: int, now_ns: int) -> None:
        """Follow the venue's own count, unless it may be of the window that has just ended."""
        self._turn(now_ns)
        if now_ns - self._window * self._window_ns >= min(_NS_PER_S, self._window_ns // 4):
            super().correct(used, now_ns)

    def _reset(self, settled: int, now_ns: int) -> None:
        self._turn(now_ns)
        self._used = settled


class _SlidingWindow(Pool):
    """The last `window_s` seconds. Answers of one moment share an entry, so entries are bounded."""

    def __init__(self, about: BudgetPool) -> None:
        super().__init__(about)
        self._entries: deque[tuple[int, int]] = deque()
        self._used = 0
        self._grain_ns = max(1, self._window_ns // 1000)

    def _settled(self, now_ns: int) -> int:
        entries = self._entries
        while entries and entries[0][0] + self._window_ns <= now_ns:
            self._used -= entries.popleft()[1]
        return self._used

    def _wait_ns(self, room: int, now_ns: int) -> int:
        over = self._settled(now_ns) - room
        if over <= 0:
            return 0
        for settled_ns, cost in self._entries:
            over -= cost
            if over <= 0:
                return settled_ns + self._window_ns - now_ns
        return NEVER_NS

    def _settle(self, cost: int, now_ns: int) -> None:
        self._settled(now_ns)
        self._used += cost
        # Rounded up: it counts a little longer.
        moment_ns = -(-now_ns // self._grain_ns) * self._grain_ns
        if self._entries and self._entries[-1][0] >= moment_ns:
            moment_ns, before = self._entries.pop()
            cost += before
        self._entries.append((moment_ns, cost))

    def _reset(self, settled: int, now_ns: int) -> None:
        self._entries.clear()
        self._used = 0
        if settled:
            self._settle(settled, now_ns)


class _TokenBucket(Pool):
    """A level that falls evenly: held in units times the window, so that no fraction is lost."""

    def __init__(self, about: BudgetPool) -> None:
        super().__init__(about)
        self._level = 0
        self._at_ns = 0

    def _fall(self, now_ns: int) -> int:
        if now_ns > self._at_ns:
            fallen = (now_ns - self._at_ns) * self.limit
            self._level = max(0, self._level - fallen)
            self._at_ns = now_ns
        return self._level

    def _settled(self, now_ns: int) -> int:
        return -(-self._fall(now_ns) // self._window_ns)

    def _wait_ns(self, room: int, now_ns: int) -> int:
        over = self._fall(now_ns) - room * self._window_ns
        return max(0, -(-over // self.limit))

    def _settle(self, cost: int, now_ns: int) -> None:
        self._level = self._fall(now_ns) + cost * self._window_ns

    def _reset(self, settled: int, now_ns: int) -> None:
        self._fall(now_ns)
        self._level = settled * self._window_ns


class _DecayCounter(_TokenBucket):
    """Falls by whole units, and we do not know at which moments: it may be one unit behind us."""

    def _settled(self, now_ns: int) -> int:
        settled = super()._settled(now_ns)
        return settled + 1 if settled else 0

    def _wait_ns(self, room: int, now_ns: int) -> int:
        if not self._fall(now_ns):
            return 0
        return super()._wait_ns(max(0, room - 1), now_ns)


_STRATEGIES: Final[dict[BudgetStrategy, type[Pool]]] = {
    BudgetStrategy.FIXED_WINDOW: _FixedWindow,
    BudgetStrategy.SLIDING_WINDOW: _SlidingWindow,
    BudgetStrategy.TOKEN_BUCKET: _TokenBucket,
    BudgetStrategy.DECAY_COUNTER: _DecayCounter,
}


def make_pool(about: BudgetPool) -> Pool:
    """Return a pool of which nothing is used."""
    return _STRATEGIES[about.strategy](about)
