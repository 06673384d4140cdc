"""What a request takes from a budget, where a plain number does not say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tradegw_rest.inputs import Inputs

__all__ = ["COSTS", "Cost"]

_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a request takes from one budget.

    Attributes:
        most: The dearest that it can be; all that is known before there is a request.
        of: What it is for this request; None: always `most`.
    """

    most: int
    of: Callable[[Inputs], int] | None = None

    def units(self, inputs: Inputs) -> int:
        """Return what a request with these inputs takes."""
        return self.most if self.of is None else self.of(inputs)


def _by_age(*table: tuple[int, int], base: int = 0) -> Cost:
    """Return a cost that falls with the order's age: so much below so many seconds, then `base` alone."""

    def cost(inputs: Inputs) -> int:
        order = inputs.order
        if order is None:
            return base + table[0][1]
        age_s = (inputs.now_ns - order.created_time_ns) // _NS_PER_S
        return base + next((units for below_s, units in table if age_s < below_s), 0)

    return Cost(most=base + table[0][1], of=cost)


COSTS: Final[Mapping[str, Cost]] = {
    # Source: Kraken Spot, "Trading rate limits": quick cancels cost most.
    "kraken_cancel": _by_age((5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1)),
    "kraken_amend": _by_age((5, 3), (10, 2), (15, 1), base=1),
}
"""Strategies by the name that definitions use."""
