"""What the venue `mock` can do, and what its answers mean, as data."""

from __future__ import annotations

from typing import Final

from tradegw import CommandKind, OrdType, TimeInForce
from tradegw.venue import Capabilities, ExpiryKind, Outcome, OutcomeTable, ReplaceKind
from tradegw_mock.chaos import ErrorAnswer, FaultKind
from tradegw_mock.exchange import RefusalCode
from tradegw_mock.requests import BATCH_MAX, AnswerError

__all__ = ["CAPABILITIES", "ORDER_POOLS", "OUTCOMES", "VALID_FOR_S", "DoorCode", "answer_error"]

VALID_FOR_S: Final = 5.0
"""How long a request stays valid, by the exchange's clock."""

CAPABILITIES: Final = Capabilities(
    ord_types=frozenset(set(OrdType) - {OrdType.TRAILING_STOP}),
    time_in_force=frozenset(set(TimeInForce) - {TimeInForce.DAY}),
    post_only=True,
    quote_qty=True,
    replace=ReplaceKind.IN_PLACE,
    expiry=ExpiryKind.TIME,
    expiry_s=VALID_FOR_S,
    # The exchange shows an order from its answer on; this leaves room for the granularity of clocks.
    visibility_lag_s=0.2,
    # It refuses to say "not found" when it has forgotten.
    closed_order_retention_s=None,
    query_by_client_id=True,
    batch_max=BATCH_MAX,
    cancel_all=True,
)


ORDER_POOLS: Final = ("orders_10s", "orders_1d")
"""The pools that count orders, where the exchange behind a native door declares limits."""


class DoorCode:
    """Codes of the native door itself, beside the exchange's `RefusalCode`."""

    BAD_FRAME = "BAD_FRAME"
    """Not a request of the protocol. Nothing was done."""
    FRAME_TOO_LARGE = "FRAME_TOO_LARGE"
    """Longer than the limit; the connection ends, because where the next begins is unknown."""
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
    """Too many are unanswered on this connection. Nothing was done."""
    UNAVAILABLE = "UNAVAILABLE"
    """Shutting down, or the exchange's file is away. Nothing was done."""
    PAST_LOST = "PAST_LOST"
    """The exchange keeps no archive, and cannot say that it never had the order."""
    INTERNAL = "INTERNAL"
    """The exchange failed half-way. Nobody knows."""


def answer_error(error: ErrorAnswer) -> AnswerError:
    """Say in the native door's words what a fault answers with."""
    match error.kind:
        case FaultKind.TOO_MANY_REQUESTS | FaultKind.BANNED:
            code = DoorCode.TOO_MANY_REQUESTS
        case FaultKind.MAINTENANCE:
            code = DoorCode.UNAVAILABLE
        case _:
            code = DoorCode.INTERNAL
    return AnswerError(code, error.text, retry_after_s=error.retry_after_s)


_REFUSED: Final = {
    # The request named something that it should not have, or the account cannot afford it.
    RefusalCode.UNKNOWN_ACCOUNT,
    RefusalCode.UNKNOWN_SYMBOL,
    RefusalCode.MALFORMED,
    RefusalCode.BAD_CLIENT_ORDER_ID,
    RefusalCode.PRICE_OFF_TICK,
    RefusalCode.PRICE_OUT_OF_RANGE,
    RefusalCode.QTY_OFF_STEP,
    RefusalCode.QTY_TOO_SMALL,
    RefusalCode.QTY_TOO_LARGE,
    RefusalCode.QTY_NOT_ABOVE_FILLED,
    RefusalCode.NOTIONAL_TOO_SMALL,
    RefusalCode.INSUFFICIENT_FUNDS,
    RefusalCode.WOULD_CROSS,
    RefusalCode.TRIGGER_WOULD_FIRE,
    RefusalCode.BAD_EXPIRE_TIME,
    # By the exchange's own clock, so the request can have no effect any more.
    RefusalCode.REQUEST_EXPIRED,
    DoorCode.BAD_FRAME,
    DoorCode.FRAME_TOO_LARGE,
}
_THROTTLED: Final = {DoorCode.TOO_MANY_REQUESTS, DoorCode.UNAVAILABLE}

_CODES: Final = {
    **{str(code): Outcome.REFUSED for code in _REFUSED},
    **dict.fromkeys(_THROTTLED, Outcome.THROTTLED),
}

OUTCOMES: Final = OutcomeTable(codes=dict.fromkeys(CommandKind, _CODES))
"""What refusals mean. Whatever does not stand here is unknown, and the engine asks about the order:

- `DUPLICATE_CLIENT_ORDER_ID` to a placement says that an order of this name is live there: ours, since no
  other order bears it.
- `UNKNOWN_ORDER` and `ORDER_CLOSED` to a cancel or replace say nothing of what became of the order. Between
  our asking and the answer it may have filled.
- `INTERNAL` says that nobody knows.
"""
