"""Errors as Binance words them.

Source: binance-spot-api-docs, errors.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from tradegw_mock.exchange import Refusal, RefusalCode

__all__ = ["BinanceError", "mandatory", "refused"]


class BinanceError(Exception):
    """Answer a request with an error.

    Attributes:
        status: The HTTP status; the WebSocket API repeats it.
        data: What stands beside code and text in some errors.
        retry_after_s: Seconds to wait, where the answer says so.
    """

    def __init__(
        self,
        code: int,
        msg: str,
        *,
        status: int = HTTPStatus.BAD_REQUEST,
        data: dict[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {msg}")
        self.code = code
        self.msg = msg
        self.status = status
        self.data = data
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """Give the JSON object that says it."""
        body: dict[str, Any] = {"code": self.code, "msg": self.msg}
        if self.data is not None:
            body["data"] = self.data
        return body


def mandatory(name: str) -> BinanceError:
    """Make the error for a parameter that is missing or malformed."""
    return BinanceError(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


_FILTER: Final = -1013
_REJECTED: Final = -2010

_WORDS: Final[Mapping[RefusalCode, tuple[int, str]]] = {
    RefusalCode.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    RefusalCode.MALFORMED: (-1014, "Unsupported order combination."),
    RefusalCode.BAD_CLIENT_ORDER_ID: (
        -1100,
        (
            "Illegal characters found in parameter 'newClientOrderId'; "
            "legal range is '^[a-zA-Z0-9-_]{1,36}$'."
        ),
    ),
    RefusalCode.DUPLICATE_CLIENT_ORDER_ID: (_REJECTED, "Duplicate order sent."),
    RefusalCode.PRICE_OFF_TICK: (_FILTER, "Filter failure: PRICE_FILTER"),
    RefusalCode.PRICE_OUT_OF_RANGE: (_FILTER, "Filter failure: PRICE_FILTER"),
    RefusalCode.QTY_OFF_STEP: (_FILTER, "Filter failure: LOT_SIZE"),
    RefusalCode.QTY_TOO_SMALL: (_FILTER, "Filter failure: LOT_SIZE"),
    RefusalCode.QTY_TOO_LARGE: (_FILTER, "Filter failure: LOT_SIZE"),
    RefusalCode.NOTIONAL_TOO_SMALL: (_FILTER, "Filter failure: NOTIONAL"),
    RefusalCode.INSUFFICIENT_FUNDS: (
        _REJECTED,
        "Account has insufficient balance for requested action.",
    ),
    RefusalCode.WOULD_CROSS: (_REJECTED, "Order would immediately match and take."),
    RefusalCode.TRIGGER_WOULD_FIRE: (_REJECTED, "Order would trigger immediately."),
    RefusalCode.REQUEST_EXPIRED: (
        -1021,
        "Timestamp for this request is outside of the recvWindow.",
    ),
    RefusalCode.QTY_NOT_ABOVE_FILLED: (
        -2038,
        "The requested action would change no state; rejecting.",
    ),
    RefusalCode.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
    RefusalCode.ORDER_CLOSED: (-2011, "Unknown order sent."),
    # The account of a key was there when the key was checked.
    RefusalCode.UNKNOWN_ACCOUNT: (-2015, "Invalid API-key, IP, or permissions for action."),
}


def refused(refusal: Refusal) -> BinanceError:
    """Word a refusal of the exchange."""
    code, msg = _WORDS.get(refusal.code, (-1013, refusal.text))
    return BinanceError(code, msg)
