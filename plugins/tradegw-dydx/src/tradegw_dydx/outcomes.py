"""What a node's verdict on a transaction means for the order. Pure; the table of (codespace, code).

A verdict is that of CheckTx on one node. A code that stands nowhere is unknown, never refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tradegw import CommandKind
from tradegw.venue import Outcome, OutcomeTable

__all__ = ["IN_CACHE", "OUTCOMES", "WRONG_SEQUENCE", "Attempt", "Verdict", "judge"]

NEW, CANCEL, REPLACE = CommandKind.NEW, CommandKind.CANCEL, CommandKind.REPLACE


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A node's answer to a transaction.

    Attributes:
        code: 0 is accepted; other numbers mean different things in different codespaces.
    """

    codespace: str
    code: int
    log: str = ""

    @property
    def key(self) -> str:
        """The reason code, such as `clob/2003`; `0` for an acceptance."""
        return f"{self.codespace}/{self.code}" if self.code else "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One sending of the same signed bytes to one node.

    Attributes:
        verdict: None when the node did not answer.
        is_unsent: No connection was made, so that nothing can have arrived.
    """

    node: str
    verdict: Verdict | None
    is_unsent: bool = False
    error: str = ""


IN_CACHE: Final = "sdk/19"
WRONG_SEQUENCE: Final = "sdk/32"

# Refusals of every message of the order book, by codespace. The chain's own words stand in the log.
_REFUSED_EVERYWHERE: Final[Mapping[str, Sequence[int]]] = {
    "clob": (
        *(3, 4, 5, 6, 8, 10, 11, 12, 17, 27, 34, 36, 37, 42, 43, 44, 45, 46, 48, 49, 50),
        *(2001, 2002, 2003, 2005),
        *(3000, 3001, 3002, 3003, 3004, 3007, 3008, 3009),
        *(6000, 6001, 6002, 9000, 9001, 9002, 9003, 10001, 11000),
    ),
    # Decoding, signature, funds, key, address, gas, memo, fee, request, size, height, extension, sequence.
    "sdk": (2, 4, 5, 8, 9, 11, 12, 13, 18, 21, 22, 30, 31, 32, 35, 38, 41),
    "dydxaccountplus": (1, 3, 4, 6, 100, 101, 102, 103, 104, 105),
    "subaccounts": (102, 200, 201),
    "sending": (*range(1, 9), 1101),
}
_THROTTLED: Final = ("clob/5001", "clob/47", "sdk/20")
"""Too fast; the order book of a node that has just started; its mempool is full."""


def _column(**own: Sequence[str]) -> Mapping[str, Outcome]:
    column = {
        f"{space}/{code}": Outcome.REFUSED
        for space, codes in _REFUSED_EVERYWHERE.items()
        for code in codes
    }
    column |= dict.fromkeys(_THROTTLED, Outcome.THROTTLED)
    for outcome, codes in own.items():
        column |= dict.fromkeys(codes, Outcome(outcome))
    return column | {"0": Outcome.ACCEPTED}


OUTCOMES: Final = OutcomeTable(
    codes={
        # 7: cancelled before it came. 20: the name rests or matched already. 24, 2004: it filled already;
        # 3005: it is in the chain's state. Of a first sending these tell of another order of that name.
        NEW: _column(
            REFUSED=["clob/7", "clob/20", "clob/24", "clob/2000", "clob/2004", "clob/3005"],
        ),
        # 9, 32: a cancel is under way. 2, 3006, 3010: there is nothing to cancel any more.
        CANCEL: _column(
            ACCEPTED=["clob/9", "clob/32"],
            REFUSED=["clob/2", "clob/29", "clob/3006", "clob/3010"],
        ),
        REPLACE: _column(
            REFUSED=["clob/7", "clob/20", "clob/24", "clob/2000", "clob/2004", "clob/3005"],
        ),
    }
)
"""Of a first sending. What it means after one that nobody answered, `judge` says."""

_ARRIVED_EARLIER: Final[Mapping[CommandKind, frozenset[str]]] = {
    NEW: frozenset({"clob/20", "clob/24", "clob/30", "clob/2004", "clob/3005"}),
    REPLACE: frozenset({"clob/20", "clob/24", "clob/30", "clob/2004"}),
    CANCEL: frozenset({"clob/9", "clob/32", "clob/3006", "clob/3010"}),
}
"""Answers to a repetition that only an earlier arrival explains."""


def judge(command: CommandKind, attempts: Sequence[Attempt]) -> tuple[Outcome, Verdict | None]:
    """Return what all sendings of the same bytes together say, and the verdict that decided.

    A node that took them decides. A node that has them in its cache, though we never sent them there, had
    them from one that took them. A refusal decides only where every sending was answered or never left:
    else a node that stayed silent may have taken them.
    """
    refused: Verdict | None = None
    refusal = Outcome.UNKNOWN
    silent: set[str] = set()
    is_doubtful = False
    for attempt in attempts:
        verdict = attempt.verdict
        if verdict is None:
            if not attempt.is_unsent:
                silent.add(attempt.node)
            continue
        outcome = OUTCOMES.outcome(command, verdict.key)
        if outcome is Outcome.ACCEPTED:
            return Outcome.ACCEPTED, verdict
        if silent and verdict.key in _ARRIVED_EARLIER[command]:
            return Outcome.ACCEPTED, verdict
        if verdict.key == IN_CACHE and silent - {attempt.node}:
            return Outcome.ACCEPTED, verdict
        if outcome is Outcome.UNKNOWN:
            is_doubtful = True
            continue
        refused, refusal = verdict, outcome
    if silent or is_doubtful or refused is None:
        return Outcome.UNKNOWN, refused
    return refusal, refused
