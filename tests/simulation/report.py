"""What many histories add up to, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.simulation.history import Outcome

STATUSES = ("NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "REJECTED", "EXPIRED")
COMMANDS = ("place", "cancel", "replace", "order", "fills", "stream")


class Totals:
    """Sums of histories.

    Attributes:
        cells: How the orders that faults struck ended: (fault, command, status), with counts.
    """

    def __init__(self) -> None:
        self.histories = 0
        self.counts: Counter[str] = Counter()
        self.cells: Counter[tuple[str, str, str]] = Counter()
        self.failed: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Add one history."""
        self.histories += 1
        self.counts += outcome.counts
        self.cells += outcome.cells
        if outcome.violations:
            self.failed.append(outcome)

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
        yield "what faults struck, and how those orders ended:"
        yield from self._table()

    def _table(self) -> Iterable[str]:
        yield f"  {'fault':18} {'on':9}" + "".join(f"{status:>18}" for status in STATUSES)
        rows: dict[tuple[str, str], Counter[str]] = {}
        alone: Counter[tuple[str, str]] = Counter()
        for (fault, command, status), count in self.cells.items():
            if status == "-":
                alone[fault, command] += count
            elif command in COMMANDS:
                rows.setdefault((fault, command), Counter())[status] += count
        for (fault, command), row in sorted(rows.items()):
            yield f"  {fault:18} {command:9}" + "".join(f"{row[status]:18}" for status in STATUSES)
        yield "faults that met no order, such as a query for balances:"
        by_fault: Counter[str] = Counter()
        for (fault, _), count in alone.items():
            by_fault[fault] += count
        for fault, count in sorted(by_fault.items()):
            yield f"  {fault:28} {count:10}"


def story_lines(story: Sequence[tuple[float, str, str]]) -> Iterable[str]:
    """Return a story for people."""
    for at_s, who, what in story:
        yield f"{at_s:10.3f}  {who:10} {what}"
