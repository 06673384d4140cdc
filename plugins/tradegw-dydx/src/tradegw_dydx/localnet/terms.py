"""Orders and cancels as the chain's modules see them, and the answers that they give."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

__all__ = [
    "ACCEPTED",
    "BatchCancel",
    "Cancel",
    "Flags",
    "Order",
    "OrderId",
    "Refused",
    "Side",
    "SubaccountId",
    "TimeInForce",
    "Verdict",
    "order_uuid",
    "refuse",
    "subaccount_uuid",
]

_NAMESPACE: Final = uuid.UUID("0f9da948-a6fb-4c45-9edc-4685c3f3317d")


class Flags(IntEnum):
    """The kinds of order."""

    SHORT_TERM = 0
    CONDITIONAL = 32
    LONG_TERM = 64
    TWAP = 128


class Side(IntEnum):
    """Which way an order goes."""

    BUY = 1
    SELL = 2


class TimeInForce(IntEnum):
    """How long an order stands."""

    UNSPECIFIED = 0
    IOC = 1
    POST_ONLY = 2
    FILL_OR_KILL = 3


@dataclass(frozen=True, slots=True)
class SubaccountId:
    """An account's part with collateral and positions of its own."""

    owner: str
    number: int


@dataclass(frozen=True, slots=True)
class OrderId:
    """The whole identity of an order; price and size are no part of it."""

    subaccount: SubaccountId
    client_id: int
    flags: int
    clob_pair_id: int

    @property
    def is_short_term(self) -> bool:
        """Tell whether it lives in the nodes' memory alone."""
        return self.flags == Flags.SHORT_TERM


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One version of an order.

    Attributes:
        digest: SHA-256 of its message; among versions that end at the same block the larger replaces.
        good_til_block: Of short-term orders; 0 otherwise. Likewise `good_til_block_time`, in seconds.
    """

    order_id: OrderId
    side: int
    quantums: int
    subticks: int
    good_til_block: int = 0
    good_til_block_time: int = 0
    time_in_force: int = TimeInForce.UNSPECIFIED
    reduce_only: bool = False
    client_metadata: int = 0
    condition_type: int = 0
    trigger_subticks: int = 0
    digest: bytes = b""

    @property
    def is_buy(self) -> bool:
        """Tell a buy from a sell."""
        return self.side == Side.BUY

    @property
    def is_immediate(self) -> bool:
        """Tell whether it never rests."""
        return self.time_in_force == TimeInForce.IOC


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """A wish to see one order gone."""

    order_id: OrderId
    good_til_block: int = 0
    good_til_block_time: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCancel:
    """A wish to see many short-term orders of one subaccount gone."""

    subaccount: SubaccountId
    batches: tuple[tuple[int, tuple[int, ...]], ...]
    good_til_block: int

    def order_ids(self) -> list[OrderId]:
        """Name them one by one."""
        return [
            OrderId(self.subaccount, client_id, Flags.SHORT_TERM, pair)
            for pair, client_ids in self.batches
            for client_id in client_ids
        ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a node says of a transaction. Code 0 is yes."""

    codespace: str = ""
    code: int = 0
    log: str = ""


ACCEPTED: Final = Verdict()


class Refused(Exception):
    """The chain says no. Nothing changed."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict.codespace} {verdict.code}: {verdict.log}")
        self.verdict = verdict


def refuse(codespace: str, code: int, log: str) -> Refused:
    """Make a refusal."""
    return Refused(Verdict(codespace, code, log))


@lru_cache(maxsize=4096)
def subaccount_uuid(subaccount: SubaccountId) -> str:
    """Return the indexer's name of a subaccount."""
    return str(uuid.uuid5(_NAMESPACE, f"{subaccount.owner}-{subaccount.number}"))


def order_uuid(order_id: OrderId) -> str:
    """Return the indexer's name of an order: a function of its identity."""
    owner = subaccount_uuid(order_id.subaccount)
    name = f"{owner}-{order_id.client_id}-{order_id.clob_pair_id}-{order_id.flags}"
    return str(uuid.uuid5(_NAMESPACE, name))
