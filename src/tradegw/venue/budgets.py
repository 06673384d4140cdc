"""What a venue allows in a time, as data: pools of units that its operations draw on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from tradegw.venue.commands import (
    Cancel,
    CancelAll,
    CancelBatch,
    DeadMan,
    FetchBalances,
    FetchFills,
    FetchHistory,
    FetchInstruments,
    FetchOpenOrders,
    FetchOrder,
    FetchPositions,
    FetchReferencePrice,
    FetchServerTime,
    Query,
    Replace,
    Submit,
    SubmitBatch,
)

__all__ = [
    "OPERATIONS",
    "BudgetPool",
    "BudgetScope",
    "BudgetStrategy",
    "Operation",
    "operation_of",
]


class Operation(StrEnum):
    """What is asked of a venue, as far as its budgets tell apart."""

    NEW = "NEW"
    NEW_BATCH = "NEW_BATCH"
    CANCEL = "CANCEL"
    CANCEL_BATCH = "CANCEL_BATCH"
    CANCEL_ALL = "CANCEL_ALL"
    REPLACE = "REPLACE"
    DEAD_MAN = "DEAD_MAN"
    ORDER = "ORDER"
    OPEN_ORDERS = "OPEN_ORDERS"
    HISTORY = "HISTORY"
    FILLS = "FILLS"
    BALANCES = "BALANCES"
    POSITIONS = "POSITIONS"
    INSTRUMENTS = "INSTRUMENTS"
    REFERENCE_PRICE = "REFERENCE_PRICE"
    SERVER_TIME = "SERVER_TIME"

    @property
    def is_public(self) -> bool:
        """Whether no key signs it, so that it has no place in the order of a key's requests."""
        return self in _PUBLIC


_PUBLIC: Final = frozenset(
    {Operation.INSTRUMENTS, Operation.REFERENCE_PRICE, Operation.SERVER_TIME}
)

OPERATIONS: Final[Mapping[type[Any], Operation]] = {
    Submit: Operation.NEW,
    SubmitBatch: Operation.NEW_BATCH,
    Cancel: Operation.CANCEL,
    CancelBatch: Operation.CANCEL_BATCH,
    CancelAll: Operation.CANCEL_ALL,
    Replace: Operation.REPLACE,
    DeadMan: Operation.DEAD_MAN,
    FetchOrder: Operation.ORDER,
    FetchOpenOrders: Operation.OPEN_ORDERS,
    FetchHistory: Operation.HISTORY,
    FetchFills: Operation.FILLS,
    FetchBalances: Operation.BALANCES,
    FetchPositions: Operation.POSITIONS,
    FetchInstruments: Operation.INSTRUMENTS,
    FetchReferencePrice: Operation.REFERENCE_PRICE,
    FetchServerTime: Operation.SERVER_TIME,
}
"""The operation of each command and query."""


def operation_of(query: Query) -> Operation:
    """Return the operation that a query is."""
    return OPERATIONS[type(query)]


class BudgetScope(StrEnum):
    """Who shares a rate budget."""

    IP = "IP"
    """All accounts of the venue in this gateway."""
    KEY = "KEY"
    """All accounts with the same credentials."""
    ACCOUNT = "ACCOUNT"
    ACCOUNT_SYMBOL = "ACCOUNT_SYMBOL"
    """Each symbol of each account has its own."""
    OWNER = "OWNER"
    """All accounts of the venue that the configuration gives the same `owner`."""


class BudgetStrategy(StrEnum):
    """How the venue counts."""

    FIXED_WINDOW = "FIXED_WINDOW"
    """Anew in each window of its clock; windows are counted from 1970 on (Binance)."""
    SLIDING_WINDOW = "SLIDING_WINDOW"
    """What was in the last `window_s` seconds, at any moment (OKX, Bybit)."""
    TOKEN_BUCKET = "TOKEN_BUCKET"  # noqa: S105  No password.
    """`limit` at once, and `limit / window_s` a second for ever. A leaky bucket is the same."""
    DECAY_COUNTER = "DECAY_COUNTER"
    """A counter up to `limit` that falls by whole units, `limit / window_s` a second (Kraken)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPool:
    """A rate limit of the venue: at most `limit` units in `window_s` seconds, counted by `strategy`.

    Attributes:
        costs: Units that an operation draws, where that is not `cost`. The dearest that it can be: what a
            request really costs, `VenueRequest.cost` may say, and the venue's own count corrects it.
        cost: Units that any other operation draws.
    """

    name: str
    scope: BudgetScope
    limit: int
    window_s: float
    strategy: BudgetStrategy = BudgetStrategy.FIXED_WINDOW
    costs: Mapping[Operation, int] = field(default_factory=dict[Operation, int])
    cost: int = 1

    def __post_init__(self) -> None:
        if self.limit < 1 or self.window_s <= 0:
            raise ValueError(
                f"pool {self.name!r}: limit and window_s must be above zero; "
                f"found {self.limit} and {self.window_s}"
            )

    def cost_of(self, operation: Operation) -> int:
        """Return the units that an operation draws."""
        return self.costs.get(operation, self.cost)
