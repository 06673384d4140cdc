"""Frames of the native door: one JSON object on each line. README.md documents them for people."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from tradegw_mock.exchange import Event
from tradegw_mock.requests import (
    Answer,
    AnswerT,
    Batch,
    Cancel,
    CancelAll,
    GetBalances,
    GetInstruments,
    GetLimits,
    GetOrder,
    GetPrice,
    GetTime,
    ListAccounts,
    ListAudit,
    ListFills,
    ListOpenOrders,
    ListOrders,
    OpenAccount,
    Place,
    Replace,
    Request,
)

__all__ = [
    "ANSWER_MAX",
    "REQUEST_MAX",
    "BadFrame",
    "EndFrame",
    "ErrorBody",
    "ErrorFrame",
    "EventsFrame",
    "OkFrame",
    "Subscribe",
    "Subscribed",
    "decode_answer",
    "decode_frame",
    "decode_request",
    "encode",
]

REQUEST_MAX: Final = 256 * 1024
"""Bytes in one request, its newline included."""
ANSWER_MAX: Final = 16 * 1024 * 1024
"""Bytes in one line of the server, at most."""

_INT_MAX: Final = 2**63 - 1
_TEXT_MAX: Final = 1000
_DIGITS_MAX: Final = 60


class Subscribe(Request, frozen=True, kw_only=True, tag="subscribe"):
    """Follow the account's events, from now on or from where an earlier subscription ended.

    Attributes:
        after: Number of the last event that was read; None for none.
        instance_id: Whose number that is.
    """

    after: int | None = None
    instance_id: str = ""


class Subscribed(Answer, frozen=True, kw_only=True):
    """Events after the number `after` follow.

    Attributes:
        resumed: Whether nothing is missing between what was asked for and what follows.
    """

    instance_id: str
    account: str
    after: int
    resumed: bool


class ErrorBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was not answered with what it asked for; when to come back, where that is said."""

    code: str
    text: str
    retry_after_s: float | None = None


class OkFrame(Struct, frozen=True, kw_only=True):
    """The answer to a request."""

    id: int
    ok: Answer


class ErrorFrame(Struct, frozen=True, kw_only=True):
    """Or why there is none. `id` is 0 where the request's could not be read."""

    id: int
    error: ErrorBody


class EventsFrame(Struct, frozen=True, kw_only=True):
    """Events of a subscription, under its id; without any to show that the line is alive."""

    id: int
    events: list[Event]


class EndFrame(Struct, frozen=True, kw_only=True):
    """A subscription ended, and the connection with it."""

    id: int
    end: str


class ServerFrame(Struct, frozen=True, kw_only=True):
    """Any line of the server, as a client reads it. `ok` is empty where there is none."""

    id: int
    ok: Raw = Raw()
    error: ErrorBody | None = None
    events: list[Event] | None = None
    end: str | None = None


AnyRequest = (
    OpenAccount
    | Place
    | Cancel
    | Replace
    | CancelAll
    | Batch
    | GetTime
    | GetInstruments
    | GetPrice
    | GetOrder
    | ListOpenOrders
    | ListOrders
    | ListFills
    | GetBalances
    | GetLimits
    | ListAccounts
    | ListAudit
    | Subscribe
)


class BadFrame(Exception):
    """A line that is no request; `request_id` is its id, or 0."""

    def __init__(self, text: str, request_id: int) -> None:
        super().__init__(text)
        self.request_id = request_id


class _OnlyId(Struct, frozen=True):
    id: int = 0


_encoder = msgspec.json.Encoder()
_requests: msgspec.json.Decoder[AnyRequest] = msgspec.json.Decoder(AnyRequest)
_ids: msgspec.json.Decoder[_OnlyId] = msgspec.json.Decoder(_OnlyId)
_frames: msgspec.json.Decoder[ServerFrame] = msgspec.json.Decoder(ServerFrame)


def encode(frame: Struct) -> bytes:
    """Write one line."""
    return _encoder.encode(frame) + b"\n"


def decode_request(line: bytes) -> AnyRequest:
    """Read one line of a client.

    Raises:
        BadFrame: It is no request, or holds a number or text that no request has.
    """
    try:
        request = _requests.decode(line)
        _check(request, "request")
    except (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError) as e:
        raise BadFrame(f"not a request: {e}", _read_id(line)) from e
    return request


def _read_id(line: bytes) -> int:
    try:
        request_id = _ids.decode(line).id
    except (msgspec.DecodeError, ValueError, RecursionError):
        return 0
    return request_id if 0 <= request_id <= _INT_MAX else 0


def _check(value: Any, name: str) -> None:
    """Refuse what no rule of the exchange was made for: its own rules judge the rest.

    Raises:
        ValueError: The text names the field.
    """
    match value:
        case Decimal():
            digits, exponent = value.as_tuple()[1:]
            if not isinstance(exponent, int):
                raise ValueError(f"{name} must be a finite number; found {value}")
            if len(digits) > _DIGITS_MAX or not -_DIGITS_MAX <= exponent <= _DIGITS_MAX:
                raise ValueError(f"{name} must have at most {_DIGITS_MAX} digits; found more")
        case int():
            if not -_INT_MAX <= value <= _INT_MAX:
                raise ValueError(f"{name} must fit in 64 bits; found more")
        case str():
            if len(value) > _TEXT_MAX:
                raise ValueError(f"{name} must have at most {_TEXT_MAX} characters; found more")
        case tuple():
            for item in value:  # pyright: ignore[reportUnknownVariableType]
                _check(item, name)
        case dict():
            for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
                _check(key, name)
                _check(item, f"{name}.{key}")
        case Struct():
            for field in value.__struct_fields__:
                _check(getattr(value, field), field)
        case _:
            pass


def decode_frame(line: bytes) -> ServerFrame:
    """Read one line of the server.

    Raises:
        ValueError: It is none.
    """
    try:
        return _frames.decode(line)
    except msgspec.DecodeError as e:
        raise ValueError(f"unreadable line of the mock exchange: {e}") from e


def decode_answer(raw: Raw, kind: type[AnswerT]) -> AnswerT:
    """Read what stands under `ok`.

    Raises:
        ValueError: It is not what was expected.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as e:
        raise ValueError(f"unreadable answer of the mock exchange: {e}") from e
