"""Errors as Binance words them.

Source: binance-spot-api-docs, errors.md.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

__all__ = ["BinanceError"]


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
