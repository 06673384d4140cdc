"""Who asked. Set by a door, carried by the event loop into every task that the request starts."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["REQUEST", "Request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request at a door.

    Attributes:
        request_id: The caller's `x-request-id`, or a UUID of ours.
        trace_id: W3C trace id, 32 hex digits, or empty.
        is_forwarded: Another gateway on the same store sent it here, and it goes no further.
    """

    request_id: str = ""
    trace_id: str = ""
    is_forwarded: bool = False


REQUEST: ContextVar[Request] = ContextVar("tradegw_request", default=Request())  # noqa: B039  Frozen.
