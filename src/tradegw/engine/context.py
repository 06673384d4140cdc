"""Who asked. Set by a door, carried by the event loop into every task that the request starts."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

__all__ = ["REQUEST", "REQUEST_NAME", "TRACE_ID", "Request"]

REQUEST_NAME: Final = re.compile(r"[\x20-\x7e]{1,128}", re.ASCII)
"""What a caller may name a request: printable ASCII, bounded, so that it is safe in a log."""
TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}", re.ASCII)


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
