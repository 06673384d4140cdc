"""What goes to an exchange and what comes back, as values; and how parameters become text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

import msgspec

from tradegw import TranslationError

__all__ = ["HttpRequest", "HttpResponse", "encode_form", "encode_json", "read_json"]


# Not frozen, though nobody changes one: freezing is most of what it takes to make one.
@dataclass(slots=True, kw_only=True)
class HttpRequest:
    """A signed request, byte for byte what is to be sent. Its headers may hold secrets, so `repr` omits them.

    Attributes:
        url: Complete, query included.
        body: UTF-8 text; empty when there is none, and then no `Content-Type` may be sent.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: str = field(repr=False, default="")


@dataclass(slots=True, kw_only=True)
class HttpResponse:
    """An answer, read to its end.

    Attributes:
        headers: Names in lower case.
        received_time_ns: By our clock.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_time_ns: int = 0


# Numbers with a fraction keep their digits; a binary float would not.
_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER: Final = msgspec.json.Encoder(decimal_format="string")
_is_safe_form = re.compile(r"[A-Za-z0-9_.~=&-]*", re.ASCII).fullmatch
_is_safe = re.compile(r"[A-Za-z0-9_.~-]*", re.ASCII).fullmatch


def read_json(body: bytes | str) -> Any:
    """Decode JSON; fractions become `Decimal`.

    Raises:
        TranslationError: It is not JSON.
    """
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError, ArithmeticError) as e:
        raise TranslationError(f"not JSON: {body[:80]!r}") from e


def encode_json(value: Any) -> str:
    """Write compact JSON, members in the order in which the definition has them."""
    return _ENCODER.encode(value).decode()


def encode_form(params: Mapping[str, Any]) -> str:
    """Write `a=1&b=2`, everything but letters, digits and `-._~` percent-encoded."""
    text = "&".join(map("=".join, params.items()))
    count = len(params)
    # Nearly always there is nothing to encode: one look at the whole instead of two at each parameter.
    if _is_safe_form(text) and text.count("=") == count and text.count("&") == max(count - 1, 0):
        return text
    return "&".join(
        [
            f"{name if _is_safe(name) else quote(name, safe='')}="
            f"{value if _is_safe(value) else quote(value, safe='')}"
            for name, value in params.items()
        ]
    )
