"""Pagers: how a listing goes on. Each takes the answer and its rows, and yields the next cursor or None."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tradegw_rest.inputs import Inputs
from tradegw_rest.source import Spot
from tradegw_rest.values import Compiler, to_decimal, to_text

__all__ = ["PAGERS", "Pager", "no_more"]

Keyed = Sequence[tuple[str | None, Any]]
Pager = Callable[[Any, Keyed, Inputs], str | None]


def no_more(answer: Any, rows: Keyed, inputs: Inputs) -> str | None:
    """Say that the listing ends here."""
    return None


def _cursor(spot: Spot, answers: Compiler) -> Pager:
    """The answer names the next cursor; an empty one ends the listing."""
    items = spot.keys(("pager", "at"))
    at = answers.value(items["at"])

    def pager(answer: Any, rows: Keyed, inputs: Inputs) -> str | None:
        return to_text(at(answer, inputs)) or None

    return pager


def _after_last(spot: Spot, answers: Compiler) -> Pager:
    """A full page goes on after its last row in the venue's order: `at` in it, plus `plus`."""
    items = spot.keys(("pager", "at", "full"), ("plus",))
    at, full = answers.value(items["at"]), items["full"].whole()
    plus = items["plus"].whole() if "plus" in items else 0
    newest_first = False

    def pager(answer: Any, rows: Keyed, inputs: Inputs) -> str | None:
        if len(rows) < full:
            return None
        inputs.key, row = rows[0 if newest_first else -1]
        value = at(row, inputs)
        return str(int(value) + plus) if plus else to_text(value)

    return pager


def _before_first(spot: Spot, answers: Compiler) -> Pager:
    """Of a listing with the latest first: a full page goes on before its earliest row."""
    items = spot.keys(("pager", "at", "full"))
    at, full = answers.value(items["at"]), items["full"].whole()

    def pager(answer: Any, rows: Keyed, inputs: Inputs) -> str | None:
        if len(rows) < full:
            return None
        inputs.key, row = rows[0]
        return to_text(at(row, inputs))

    return pager


def _offset(spot: Spot, answers: Compiler) -> Pager:
    """The cursor counts rows: a full page goes on behind it, or until `total` is reached."""
    items = spot.keys(("pager",), ("full", "total"))
    if ("full" in items) == ("total" in items):
        spot.fail("expected full or total, one of them")
    full = items["full"].whole() if "full" in items else None
    total = answers.value(items["total"]) if "total" in items else None

    def pager(answer: Any, rows: Keyed, inputs: Inputs) -> str | None:
        seen = int(inputs.cursor or "0") + len(rows)
        if total is None:
            return str(seen) if full is not None and len(rows) >= full else None
        count = to_decimal(total(answer, inputs))
        return str(seen) if rows and count is not None and seen < count else None

    return pager


PAGERS: Final[Mapping[str, Callable[[Spot, Compiler], Pager]]] = {
    "cursor": _cursor,
    "after_last": _after_last,
    "before_first": _before_first,
    "offset": _offset,
}
"""Pagers by the name that definitions use."""
