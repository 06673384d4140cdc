"""Exceptions and gRPC statuses, both ways.

    InvalidOrder            INVALID_ARGUMENT; OUT_OF_RANGE where that is the reason
    UnsupportedOrder        FAILED_PRECONDITION: the request is well formed, another venue may take it
    NotFound                NOT_FOUND
    IdempotencyKeyReused    ALREADY_EXISTS
    DuplicateClientOrderId  ALREADY_EXISTS
    Conflict                FAILED_PRECONDITION
    Unavailable             UNAVAILABLE; RESOURCE_EXHAUSTED where a budget is used up
    UsageError              UNAVAILABLE: the gateway is closed behind a door that still answers
    StoreUnavailable        UNAVAILABLE
    CommitUnknown           UNKNOWN: nobody knows whether it was stored
    StoreCorrupt            DATA_LOSS
    SessionOver             ABORTED
    anything else           INTERNAL, saying nothing but the request's id; the log has the rest

UNIMPLEMENTED stays what gRPC says of methods that a server does not have. Each status carries one
`google.rpc.ErrorInfo` with the reason, and in its metadata `kind`: the name of the exception's class, so that
our client raises what an embedded gateway would have raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from tradegw.errors import (
    CommitUnknown,
    Conflict,
    DuplicateClientOrderId,
    IdempotencyKeyReused,
    InvalidOrder,
    NotFound,
    StoreCorrupt,
    StoreUnavailable,
    TradegwError,
    Unavailable,
    UnsupportedOrder,
    UsageError,
)
from tradegw.trading.v1.trading_gateway_pb2 import Error

__all__ = [
    "DOMAIN",
    "FORWARDED",
    "REQUEST_ID",
    "Failure",
    "SessionOver",
    "describe",
    "read_error",
    "read_status",
]

DOMAIN: Final = "tradegw"
REQUEST_ID: Final = "x-request-id"
FORWARDED: Final = "x-tradegw-forwarded"
"""Marks what one gateway asks another on the same store: it is answered there or not at all."""

DETAILS: Final = "grpc-status-details-bin"

# All of a call's trailing metadata must stay well below 8 KiB, or peers drop it; the text stands there twice.
TEXT_BYTES_MAX: Final = 800


class SessionOver(TradegwError):
    """The session ended; what was asked in it and not answered may be stored. Ask with the same keys."""

    reason = "SESSION_OVER"


# The first that fits holds: special ones stand before general ones.
_CODES: Final[tuple[tuple[type[TradegwError], grpc.StatusCode], ...]] = (
    (UnsupportedOrder, grpc.StatusCode.FAILED_PRECONDITION),
    (InvalidOrder, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (IdempotencyKeyReused, grpc.StatusCode.ALREADY_EXISTS),
    (DuplicateClientOrderId, grpc.StatusCode.ALREADY_EXISTS),
    (Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (StoreUnavailable, grpc.StatusCode.UNAVAILABLE),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (CommitUnknown, grpc.StatusCode.UNKNOWN),
    (StoreCorrupt, grpc.StatusCode.DATA_LOSS),
    (SessionOver, grpc.StatusCode.ABORTED),
)
_BY_REASON: Final = {
    "OUT_OF_RANGE": grpc.StatusCode.OUT_OF_RANGE,
    "BUDGET_EXHAUSTED": grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_KINDS: Final[dict[str, type[TradegwError]]] = {
    TradegwError.__name__: TradegwError,
    **{kind.__name__: kind for kind, _ in _CODES},
}

# For servers of other makes, or older ones, that name no kind.
_BY_CODE: Final[dict[grpc.StatusCode, type[TradegwError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidOrder,
    grpc.StatusCode.OUT_OF_RANGE: InvalidOrder,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Unavailable,
    grpc.StatusCode.DATA_LOSS: StoreCorrupt,
}
_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as the wire tells it.

    Attributes:
        expected: Whether the gateway foresaw it; otherwise the log should have it whole.
    """

    code: grpc.StatusCode
    reason: str
    text: str
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    expected: bool = True

    @property
    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The rich status, for trailing metadata, with the request's id."""
        info = ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        detail = AnyMessage()
        detail.Pack(info)
        status = Status(code=self.number, message=self.text, details=[detail])
        request_id = self.metadata.get("request_id", "")
        return ((REQUEST_ID, request_id), (DETAILS, status.SerializeToString()))

    @property
    def number(self) -> int:
        """The code as a number."""
        return _number(self.code)

    @property
    def message(self) -> Error:
        """The same as a member of a batch or a session."""
        return Error(
            code=self.number, reason=self.reason, text=self.text, metadata=dict(self.metadata)
        )


def describe(error: Exception, request_id: str, extra: Mapping[str, str] | None = None) -> Failure:
    """Return what the wire says of an exception. Of one that nobody foresaw it says nothing but the id."""
    metadata = {"request_id": request_id, **(extra or {})}
    if isinstance(error, UsageError):
        error = Unavailable(str(error), reason="SHUTTING_DOWN")
    for kind, code in _CODES:
        if isinstance(error, kind):
            return Failure(
                code=_BY_REASON.get(error.reason, code),
                reason=error.reason,
                text=_bounded(str(error)),
                metadata={**metadata, "kind": kind.__name__},
            )
    return Failure(
        code=grpc.StatusCode.INTERNAL,
        reason="INTERNAL",
        text=f"a defect of the gateway; its log has more under request {request_id}",
        metadata={**metadata, "kind": TradegwError.__name__},
        expected=False,
    )


def read_error(message: Error) -> TradegwError:
    """Return the exception of one member of a batch or a session."""
    code = _BY_NUMBER.get(message.code, grpc.StatusCode.UNKNOWN)
    return _exception(code, message.reason, message.text, message.metadata)


def read_status(error: grpc.aio.AioRpcError) -> TradegwError | None:
    """Return the exception that our server reported, or None when the status is not one of ours."""
    info = _error_info(error)
    if info is None:
        return None
    return _exception(error.code(), info.reason, error.details() or "", info.metadata)


def read_metadata(error: grpc.aio.AioRpcError) -> Mapping[str, str]:
    """Return the metadata of our server's `ErrorInfo`; empty when the status is not one of ours."""
    info = _error_info(error)
    return {} if info is None else info.metadata


def _error_info(error: grpc.aio.AioRpcError) -> ErrorInfo | None:
    trailing: Any = error.trailing_metadata()
    details = next((value for key, value in trailing or () if key == DETAILS), None)
    if not isinstance(details, bytes):
        return None
    try:
        status = Status.FromString(details)
        for detail in status.details:
            info = ErrorInfo()
            # False when the detail is of another type.
            if detail.Unpack(info) and info.domain == DOMAIN:
                return info
    except DecodeError:
        return None
    return None


def _exception(
    code: grpc.StatusCode, reason: str, text: str, metadata: Mapping[str, str]
) -> TradegwError:
    kind = _KINDS.get(metadata.get("kind", "")) or _BY_CODE.get(code, TradegwError)
    return kind(text, reason=reason or None)


def _number(code: grpc.StatusCode) -> int:
    number: int = code.value[0]
    return number


def _bounded(text: str) -> str:
    """Cut text to what trailing metadata can carry, and take out what would break a line of a log."""
    if len(text) * 4 > TEXT_BYTES_MAX:
        raw = text.encode("utf-8", "replace")
        if len(raw) > TEXT_BYTES_MAX:
            text = raw[: TEXT_BYTES_MAX - 3].decode("utf-8", "ignore") + "..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
