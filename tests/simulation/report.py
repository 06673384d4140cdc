"""What many histories add up to, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.simulation.cells import COMMANDS, POSSIBLE, STATUSES, Cell, why_impossible
from tests.simulation.history import Outcome

ENDS = ("NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "REJECTED", "EXPIRED")
ENOUGH = 100
"""So often each cell is to be reached in ten thousand histories."""


class Totals:
    """Sums of histories.

    Attributes:
        cells: What faults struck: (fault, command, how the order stood), with counts.
        ends: How those orders ended: (fault, command, status), with counts.
    """

    def __init__(self) -> None:
        self.histories = 0
        self.counts: Counter[str] = Counter()
        self.cells: Counter[Cell] = Counter()
        self.ends: Counter[Cell] = Counter()
        self.failed: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Add one history."""
        self.histories += 1
        self.counts += outcome.counts
        self.cells += outcome.cells
        self.ends += outcome.ends
        if outcome.violations:
            self.failed.append(outcome)

    def merge(self, other: Totals) -> None:
        """Add what other histories add up to."""
        self.histories += other.histories
        self.counts += other.counts
        self.cells += other.cells
        self.ends += other.ends
        self.failed = sorted((*self.failed, *other.failed), key=lambda outcome: outcome.seed)

    def mean(self, what: str) -> float:
        """Return how often something happened in a history."""
        return self.counts[what] / max(1, self.histories)

    def lines(self) -> Iterable[str]:
        """Say it in lines."""
        yield (
            f"{self.histories} histories, {len(self.failed)} with violations; in each "
            f"{self.mean('orders'):.1f} orders sent, {self.mean('faults'):.1f} faults, "
            f"{self.mean('restarts'):.1f} restarts"
        )
        crashes = {k.removeprefix("crash "): n for k, n in self.counts.items() if "crash " in k}
        yield f"gateways killed at named points: {sum(crashes.values())}"
        for point, count in sorted(crashes.items()):
            yield f"  {point:34} {count:8}"
        yield "what faults struck, and how the order stood at the exchange; -: it cannot be"
        yield from _table(self.cells, STATUSES)
        rare = self.rare()
        yield (
            f"{len(POSSIBLE) - len(rare)} of {len(POSSIBLE)} cells reached {ENOUGH} times or more; "
            f"the rarest {min((self.cells[c] for c in POSSIBLE), default=0)} times"
        )
        if self.histories >= 100 * ENOUGH:
            yield from (f"  {' '.join(cell)}: {self.cells[cell]}" for cell in rare)
        yield "how those orders ended:"
        yield from _table(self.ends, ENDS, is_ends=True)
        yield "faults that met no order, such as a query for balances:"
        alone: Counter[str] = Counter()
        for (fault, _, status), count in self.cells.items():
            if status == "-":
                alone[fault] += count
        for fault, count in sorted(alone.items()):
            yield f"  {fault:28} {count:10}"

    def rare(self) -> list[Cell]:
        """List the cells that were not reached often enough, of those that can be."""
        return [cell for cell in POSSIBLE if self.cells[cell] < ENOUGH]


def _table(
    cells: Counter[Cell], statuses: Sequence[str], *, is_ends: bool = False
) -> Iterable[str]:
    yield f"  {'fault':16} {'on':11}" + "".join(f"{status:>17}" for status in statuses)
    rows = sorted({(fault, command) for fault, command, _ in (*cells, *POSSIBLE)})
    for fault, command in rows:
        if command not in COMMANDS or not any(cells[fault, command, s] for s in statuses):
            continue
        row = (
            "-"
            if not is_ends and why_impossible((fault, command, status))
            else cells[fault, command, status]
            for status in statuses
        )
        yield f"  {fault:16} {command:11}" + "".join(f"{count:>17}" for count in row)


def story_lines(story: Sequence[tuple[float, str, str]]) -> Iterable[str]:
    """Return a story for people."""
    for at_s, who, what in story:
        yield f"{at_s:10.3f}  {who:10} {what}"
