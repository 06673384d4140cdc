"""What a venue's stream carries, besides execution reports."""

from __future__ import annotations

from dataclasses import dataclass

from tradegw.model import Balance, ExecutionReport, Position

__all__ = ["BalanceUpdate", "PositionUpdate", "StreamGap", "StreamItem", "StreamReady"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReady:
    """The stream is live. All that happens from here on comes through it, until a gap.

    Attributes:
        instance_id: Which incarnation of the venue answers, where it says so; another one than before
            puts its orders in doubt.
        venue_account_id: The venue's own id of the account; must be the one the account was bound to.
    """

    instance_id: str = ""
    venue_account_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamGap:
    """Something was or may have been missed. Another `StreamReady` follows when it is live again."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceUpdate:
    """New balances of some assets."""

    balances: tuple[Balance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionUpdate:
    """New positions of some instruments."""

    positions: tuple[Position, ...]


StreamItem = ExecutionReport | BalanceUpdate | PositionUpdate | StreamGap | StreamReady
