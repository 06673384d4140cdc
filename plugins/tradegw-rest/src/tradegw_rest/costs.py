"""What a request takes from a budget, where a plain number does not say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tradegw_rest.inputs import Inputs

__all__ = ["COSTS", "Cost", "fixed"]

Cost = Callable[[Inputs], int]
_NS_PER_S: Final = 1_000_000_000


def fixed(units: int) -> Cost:
    """Return a cost that is always the same."""
    return lambda inputs: units


def _by_age(table: tuple[tuple[int, int], ...]) -> Cost:
    def cost(inputs: Inputs) -> int:
        order = inputs.order
        if order is None:
            return table[0][1]
        age_s = (inputs.now_ns - order.created_time_ns) // _NS_PER_S
        for below_s, units in table:
            if age_s < below_s:
                return units
        return 0

    return cost


COSTS: Final[Mapping[str, Cost]] = {
    # Source: Kraken Spot, "Trading rate limits": quick cancels cost most.
    "kraken_cancel": _by_age(((5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1))),
    "kraken_amend": lambda inputs: 1 + _by_age(((5, 3), (10, 2), (15, 1)))(inputs),
}
"""Strategies by the name that definitions use."""
