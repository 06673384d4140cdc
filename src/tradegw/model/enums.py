"""Enumerations, in the words of FIX. The value of each member is what is stored and printed."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

__all__ = [
    "CommandKind",
    "EventType",
    "EvidenceKind",
    "ExecType",
    "InstrumentStatus",
    "Liquidity",
    "OrdStatus",
    "OrdType",
    "Origin",
    "Side",
    "TimeInForce",
    "TriggerBy",
]


class _Enum(StrEnum):
    @classmethod
    def of(cls, text: str) -> Self:
        """Return the member that `text` names, in either case.

        Raises:
            ValueError: There is none. The text says which there are.
        """
        try:
            return cls(text.upper())
        except ValueError:
            known = ", ".join(cls)
            raise ValueError(f"{cls.__name__} is one of {known}; found {text!r}") from None


class Side(_Enum):
    """Which way (FIX 54)."""

    BUY = "BUY"
    SELL = "SELL"


class OrdType(_Enum):
    """Kind of order (FIX 40). Those with a trigger rest unseen until their trigger price trades."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"
    TAKE_PROFIT = "TAKE_PROFIT"
    TAKE_PROFIT_LIMIT = "TAKE_PROFIT_LIMIT"
    TRAILING_STOP = "TRAILING_STOP"

    @property
    def has_price(self) -> bool:
        """Whether it carries a limit price."""
        return self in _WITH_PRICE

    @property
    def has_trigger(self) -> bool:
        """Whether it carries a trigger price."""
        return self in _WITH_TRIGGER


_WITH_PRICE = {OrdType.LIMIT, OrdType.STOP_LIMIT, OrdType.TAKE_PROFIT_LIMIT}
_WITH_TRIGGER = {
    OrdType.STOP,
    OrdType.STOP_LIMIT,
    OrdType.TAKE_PROFIT,
    OrdType.TAKE_PROFIT_LIMIT,
}


class TimeInForce(_Enum):
    """How long it stays (FIX 59)."""

    GTC = "GTC"
    """Until cancelled."""
    IOC = "IOC"
    """Fill what can be filled at once, cancel the rest."""
    FOK = "FOK"
    """Fill all at once or nothing."""
    GTD = "GTD"
    """Until `expire_time_ns`."""
    DAY = "DAY"
    """Until the venue's day ends."""


class TriggerBy(_Enum):
    """Which price pulls a trigger."""

    LAST = "LAST"
    MARK = "MARK"
    INDEX = "INDEX"


class OrdStatus(_Enum):
    """Where an order stands (FIX 39). `PENDING_*` means that we asked; `in_doubt` beside it says that
    answers never came."""

    PENDING_NEW = "PENDING_NEW"
    """Stored; the venue has not confirmed it. It may be live."""
    NEW = "NEW"
    """Live at the venue, nothing filled. A stop not yet triggered is `NEW` with `triggered` false."""
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    """Live, filled in part."""
    FILLED = "FILLED"
    """Closed: filled in full."""
    PENDING_CANCEL = "PENDING_CANCEL"
    """Live; we asked for a cancel, or the venue reports one that is not final yet."""
    PENDING_REPLACE = "PENDING_REPLACE"
    """Live; we asked for other terms."""
    CANCELED = "CANCELED"
    """Closed: cancelled, perhaps after partial fills."""
    REJECTED = "REJECTED"
    """Closed: refused here or there; nothing filled."""
    EXPIRED = "EXPIRED"
    """Closed: its time ended, perhaps after partial fills."""

    @property
    def is_open(self) -> bool:
        """Whether the order may still fill. The one place that tells open from closed."""
        return self not in _CLOSED


_CLOSED = {OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.REJECTED, OrdStatus.EXPIRED}


class ExecType(_Enum):
    """What just happened to an order (FIX 150), as a venue or our own engine reports it."""

    NEW = "NEW"
    """The venue holds the order."""
    TRIGGERED = "TRIGGERED"
    """Its trigger price traded."""
    TRADE = "TRADE"
    """It was filled by `last_qty` at `last_px`."""
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    """The venue refused the order, or closed it without its ever having been live."""
    EXPIRED = "EXPIRED"
    REPLACED = "REPLACED"
    """The venue holds new terms: `order_qty`, `price`, `trigger_price`."""
    CANCEL_REJECTED = "CANCEL_REJECTED"
    REPLACE_REJECTED = "REPLACE_REJECTED"
    ORDER_STATUS = "ORDER_STATUS"
    """An answer to a query: how the order stands there, in `ord_status` and `cum_qty`."""


class Liquidity(_Enum):
    """Whether a fill made or took."""

    MAKER = "MAKER"
    TAKER = "TAKER"
    UNKNOWN = "UNKNOWN"


class Origin(_Enum):
    """Who placed the order."""

    GATEWAY = "GATEWAY"
    EXTERNAL = "EXTERNAL"
    """Somebody else, seen at the venue. Shown, never touched unless adopted."""


class CommandKind(_Enum):
    """What was asked of the venue."""

    NEW = "NEW"
    CANCEL = "CANCEL"
    REPLACE = "REPLACE"


class EvidenceKind(_Enum):
    """What decided an order's fate (DESIGN section 6)."""

    VENUE_REPORT = "VENUE_REPORT"
    FILL = "FILL"
    ABSENT_AFTER_EXPIRY = "ABSENT_AFTER_EXPIRY"
    EXPIRY_PASSED = "EXPIRY_PASSED"
    NOT_SENT = "NOT_SENT"
    IDEMPOTENT_RESEND = "IDEMPOTENT_RESEND"
    OPERATOR = "OPERATOR"

    @property
    def is_revisable(self) -> bool:
        """Whether a later report of the venue reopens an order that was closed on this."""
        return self in _REVISABLE


_REVISABLE = {
    EvidenceKind.ABSENT_AFTER_EXPIRY,
    EvidenceKind.NOT_SENT,
    EvidenceKind.OPERATOR,
}


class InstrumentStatus(_Enum):
    """Whether an instrument trades."""

    TRADING = "TRADING"
    CANCEL_ONLY = "CANCEL_ONLY"
    HALTED = "HALTED"


class EventType(_Enum):
    """What an event in an account's stream says."""

    INTENT = "INTENT"
    """The order was stored, before any byte left."""
    SENT_UNANSWERED = "SENT_UNANSWERED"
    """A command went into doubt: the venue was asked, and nobody knows."""
    DOUBT_RESOLVED = "DOUBT_RESOLVED"
    """Evidence decided a command that was in doubt."""
    NEW = "NEW"
    TRIGGERED = "TRIGGERED"
    TRADE = "TRADE"
    TRADE_CORRECT = "TRADE_CORRECT"
    """An inferred fill was taken back, because the real one arrived (in the same transaction)."""
    FILLED = "FILLED"
    """The venue says that it is complete, every fill being known (quote-sized orders)."""
    PENDING_CANCEL = "PENDING_CANCEL"
    CANCELED = "CANCELED"
    CANCEL_REJECTED = "CANCEL_REJECTED"
    PENDING_REPLACE = "PENDING_REPLACE"
    REPLACED = "REPLACED"
    REPLACE_REJECTED = "REPLACE_REJECTED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    REVIVED = "REVIVED"
    """An order closed on proof of absence, or by an operator, turned up after all. Alarm."""
    OVERFILL = "OVERFILL"
    """More was filled than ordered. Recorded beside the trade. Alarm."""
    EXTERNAL = "EXTERNAL"
    """An order that is not ours was seen at the venue."""
    ADOPTED = "ADOPTED"
    UNMATCHED_FILL = "UNMATCHED_FILL"
    """A fill that matches no order; its quantity enters the stream here, once."""
    FILL_ATTACHED = "FILL_ATTACHED"
    """An unmatched fill found its order. Carries no quantity."""
    DEQUEUED = "DEQUEUED"
    """The turn of a command that had waited here has come: it is sent next."""
    HISTORY_GAP = "HISTORY_GAP"
    VENUE_RESET = "VENUE_RESET"
