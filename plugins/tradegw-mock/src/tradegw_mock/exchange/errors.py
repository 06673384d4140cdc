"""What can go wrong at the exchange.

```text
Refusal           the exchange said no; nothing changed (the audit trail keeps the request)
ExchangeError
├── ExchangeBroken   a commit or the engine failed half-way: this object takes no more requests
├── StoreError       the file cannot be used as it is
│   └── StoreInUse   another process serves it
```
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Change


class RefusalCode(StrEnum):
    """Why a request was refused."""

    UNKNOWN_ACCOUNT = "UNKNOWN_ACCOUNT"
    ACCOUNT_EXISTS = "ACCOUNT_EXISTS"
    BAD_ACCOUNT_NAME = "BAD_ACCOUNT_NAME"
    UNKNOWN_API_KEY = "UNKNOWN_API_KEY"
    BAD_API_KEY = "BAD_API_KEY"
    """It is malformed, or in use by another account."""
    UNKNOWN_SYMBOL = "UNKNOWN_SYMBOL"
    UNKNOWN_ASSET = "UNKNOWN_ASSET"
    MALFORMED = "MALFORMED"
    """Fields are missing or contradict each other."""
    BAD_CLIENT_ORDER_ID = "BAD_CLIENT_ORDER_ID"
    DUPLICATE_CLIENT_ORDER_ID = "DUPLICATE_CLIENT_ORDER_ID"
    """The account has an open order of this client order id."""
    PRICE_OFF_TICK = "PRICE_OFF_TICK"
    PRICE_OUT_OF_RANGE = "PRICE_OUT_OF_RANGE"
    QTY_OFF_STEP = "QTY_OFF_STEP"
    QTY_TOO_SMALL = "QTY_TOO_SMALL"
    QTY_TOO_LARGE = "QTY_TOO_LARGE"
    QTY_NOT_ABOVE_FILLED = "QTY_NOT_ABOVE_FILLED"
    """A replace asked for a total that the fills have reached already."""
    NOTIONAL_TOO_SMALL = "NOTIONAL_TOO_SMALL"
    AMOUNT_INVALID = "AMOUNT_INVALID"
    """A deposit or withdrawal is not positive, too large or finer than eight places."""
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    WOULD_CROSS = "WOULD_CROSS"
    """A post-only order would have taken liquidity."""
    TRIGGER_WOULD_FIRE = "TRIGGER_WOULD_FIRE"
    """The last price satisfies the trigger condition already."""
    BAD_EXPIRE_TIME = "BAD_EXPIRE_TIME"
    """It has passed already, or is beyond all clocks."""
    REQUEST_EXPIRED = "REQUEST_EXPIRED"
    """`valid_until_ns` had passed, by the exchange's clock, when the request arrived."""
    UNKNOWN_ORDER = "UNKNOWN_ORDER"
    ORDER_CLOSED = "ORDER_CLOSED"


class Refusal(Exception):
    """Say why a request was refused; it had no effect.

    `change` is the record of the refusal for the audit trail, where the request could have
    changed something; None for queries.
    """

    def __init__(self, code: RefusalCode, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.change: Change | None = None


class ExchangeError(Exception):
    """Base of failures that are not answers to a request."""


class ExchangeBroken(ExchangeError):
    """A commit or the engine failed half-way; build the exchange anew from its file."""


class StoreError(ExchangeError):
    """The file cannot be used as it is; the message says what was expected and found."""


class StoreInUse(StoreError):
    """Another process holds the file."""
