"""Errors on HTTP. Source: RFC 9457, "Problem Details for HTTP APIs"."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse

__all__ = ["problem"]


def problem(
    status: int, reason: str, detail: str, *, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return an error; `reason` is a stable code in upper case, `detail` is for people."""
    return JSONResponse(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": int(status),
            "reason": reason,
            "detail": detail,
        },
        int(status),
        headers,
        media_type="application/problem+json",
    )
