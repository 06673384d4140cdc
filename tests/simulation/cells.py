"""The cells of a run: a fault, the command or question that it struck, and how the order stood by then.

How it stood at the exchange: that is what the command found; of a placement, which finds nothing, what was
there once it had been carried out. `ABSENT`: the exchange has no such order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tradegw_mock.chaos import FaultKind

Cell = tuple[str, str, str]

ABSENT = "ABSENT"
OPEN = ("NEW", "PARTIALLY_FILLED")
CLOSED = ("FILLED", "CANCELED", "REJECTED", "EXPIRED")
STATUSES = (ABSENT, *OPEN, *CLOSED)
MUTATIONS = ("place", "cancel", "replace")
QUESTIONS = ("order", "fills")
COMMANDS = (*MUTATIONS, *QUESTIONS, "open_orders", "stream")

ON_REQUESTS = (
    FaultKind.REQUEST_LOST,
    FaultKind.REQUEST_DELAYED,
    FaultKind.ANSWER_LOST,
    FaultKind.ANSWER_DELAYED,
    FaultKind.ERROR_AFTER,
    FaultKind.TOO_MANY_REQUESTS,
    FaultKind.BANNED,
    FaultKind.MAINTENANCE,
)
NEVER_CARRIED_OUT = (
    FaultKind.REQUEST_LOST,
    FaultKind.TOO_MANY_REQUESTS,
    FaultKind.BANNED,
    FaultKind.MAINTENANCE,
)
ON_STREAMS = (
    FaultKind.EVENT_DROPPED,
    FaultKind.EVENT_DUPLICATED,
    FaultKind.EVENT_REORDERED,
    FaultKind.STREAM_SILENT,
    FaultKind.DISCONNECT,
)
ON_CANCELS = (FaultKind.CANCEL_FILLED, FaultKind.FILL_AFTER_CANCEL)
IN_FLIGHT = ("KILL", "SHUTDOWN", "RESTART")
"""What strikes whatever is on its way: the gateway's death, its shutdown, the exchange's restart."""

COMMANDS_OF: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(map(str, ON_REQUESTS), (*MUTATIONS, *QUESTIONS)),
    **dict.fromkeys(map(str, ON_STREAMS), ("stream",)),
    **dict.fromkeys(map(str, ON_CANCELS), ("cancel",)),
    **dict.fromkeys(IN_FLIGHT, MUTATIONS),
    str(FaultKind.HISTORY_LAGS): ("fills",),
    str(FaultKind.NOT_FOUND): ("order", "open_orders"),
}
"""What each fault can strike that is about one order."""


@dataclass(frozen=True)
class Impossible:
    """Cells that cannot be, and why. One that is reached all the same fails its run."""

    why: str
    faults: Iterable[str]
    commands: tuple[str, ...]
    statuses: tuple[str, ...]

    def has(self, cell: Cell) -> bool:
        fault, command, status = cell
        return fault in self.faults and command in self.commands and status in self.statuses


IMPOSSIBLE = (
    Impossible(
        "what was lost on its way in, or refused at the door, was not carried out",
        NEVER_CARRIED_OUT,
        ("place",),
        (*OPEN, *CLOSED),
    ),
    Impossible(
        "a placement is one step: nobody cancels the order in it, and no trigger fires that has been passed",
        COMMANDS_OF,
        ("place",),
        ("CANCELED", "REJECTED"),
    ),
    Impossible(
        "only an order that works can fill in the way of its cancel",
        ON_CANCELS,
        ("cancel",),
        (ABSENT, *CLOSED),
    ),
    Impossible("what is not there is not hidden", (FaultKind.NOT_FOUND,), COMMANDS, (ABSENT,)),
    Impossible(
        "what is closed is in no list of open orders",
        (FaultKind.NOT_FOUND,),
        ("open_orders",),
        CLOSED,
    ),
    Impossible(
        "without a fill there is none to be late",
        (FaultKind.HISTORY_LAGS,),
        ("fills",),
        (ABSENT, "NEW", "REJECTED"),
    ),
    Impossible("what is not there has no events", ON_STREAMS, ("stream",), (ABSENT,)),
)


def why_impossible(cell: Cell) -> str | None:
    """Say why a cell cannot be reached; None: it can."""
    return next((rule.why for rule in IMPOSSIBLE if rule.has(cell)), None)


ALL: tuple[Cell, ...] = tuple(
    (fault, command, status)
    for fault, commands in COMMANDS_OF.items()
    for command in commands
    for status in STATUSES
)
POSSIBLE: tuple[Cell, ...] = tuple(cell for cell in ALL if why_impossible(cell) is None)


def weight(cell: Cell) -> float:
    """How often to aim at a cell, as a multiple of others: what chance seldom brings about, more often."""
    fault, command, status = cell
    if cell in _RAREST:
        return 6.0
    if command == "place":
        return 3.0 if status == "PARTIALLY_FILLED" else 1.0
    if fault.startswith("EVENT_") and status != "REJECTED":
        # Streams tell so much that chance strikes all of it.
        return 0.2
    if status in ("REJECTED", "EXPIRED"):
        return 2.0
    return 1.5 if command == "fills" or status in (ABSENT, "PARTIALLY_FILLED") else 1.0


_RAREST = (
    (FaultKind.HISTORY_LAGS, "fills", "EXPIRED"),
    (FaultKind.NOT_FOUND, "open_orders", "PARTIALLY_FILLED"),
)
