"""The parameters of a request, read with the errors that Binance gives for what is missing or malformed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from tradegw_mock.binance.errors import BinanceError, mandatory

__all__ = ["Params", "from_form", "from_json"]

_DECIMAL: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_DECIMAL_RANGE: Final = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
_INT: Final = re.compile(r"[0-9]{1,20}")
_INT_RANGE: Final = "^[0-9]{1,20}$"
_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,36}")
_ID_RANGE: Final = "^[a-zA-Z0-9-_]{1,36}$"
_PLAIN: Final = re.compile(
    rb"[a-zA-Z0-9_.-]+=[a-zA-Z0-9_.-]*(&[a-zA-Z0-9_.-]+=[a-zA-Z0-9_.-]*){0,99}"
)
_PLACES: Final = 8
_INT_MAX: Final = 2**63 - 1


class Params(Mapping[str, str]):
    """Parameters by name, as texts."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def text(self, name: str) -> str | None:
        """Give a parameter, None without it.

        Raises:
            BinanceError: It is empty.
        """
        value = self._values.get(name)
        if value == "":
            raise BinanceError(-1105, f"Parameter '{name}' was empty.")
        return value

    def need(self, name: str) -> str:
        """Give a parameter that must be there.

        Raises:
            BinanceError: It is not.
        """
        value = self._values.get(name)
        if not value:
            raise mandatory(name)
        return value

    def decimal(self, name: str) -> Decimal | None:
        """Give an amount, of at most eight places.

        Raises:
            BinanceError: It is none.
        """
        value = self.text(name)
        if value is None:
            return None
        if not _DECIMAL.fullmatch(value):
            raise _illegal(name, _DECIMAL_RANGE)
        if len(value.partition(".")[2].rstrip("0")) > _PLACES:
            raise BinanceError(-1111, f"Parameter '{name}' has too much precision.")
        return Decimal(value)

    def integer(self, name: str) -> int | None:
        """Give a whole number, at least 0.

        Raises:
            BinanceError: It is none.
        """
        value = self.text(name)
        if value is None:
            return None
        if not _INT.fullmatch(value):
            raise _illegal(name, _INT_RANGE)
        number = int(value)
        if number > _INT_MAX:
            raise BinanceError(-1108, f"Parameter '{name}' overflowed.")
        return number

    def limit(self, *, default: int, most: int) -> int:
        """Give how many items are wanted; more than `most` are not to be had.

        Raises:
            BinanceError: It is no number above 0.
        """
        value = self.integer("limit")
        if value is None:
            return default
        if not value:
            raise BinanceError(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(value, most)

    def time_ns(self, name: str) -> int | None:
        """Give an instant, which is sent in milliseconds or microseconds.

        Raises:
            BinanceError: It is none.
        """
        value = self.integer(name)
        return None if value is None else to_ns(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Give a yes or no.

        Raises:
            BinanceError: It is neither.
        """
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise _illegal(name, "true, false")
        return value.lower() == "true"

    def client_id(self, name: str) -> str | None:
        """Give an id that a client chose.

        Raises:
            BinanceError: It is none.
        """
        value = self.text(name)
        if value is not None and not _ID.fullmatch(value):
            raise _illegal(name, _ID_RANGE)
        return value

    def one_of(
        self, name: str, known: Collection[str], error: tuple[int, str] | None = None
    ) -> str | None:
        """Give one of the known words.

        Args:
            error: Code and text for another; None for the usual one.

        Raises:
            BinanceError: It is another.
        """
        value = self.text(name)
        if value is not None and value not in known:
            raise BinanceError(
                *(error or (-1130, f"Data sent for parameter '{name}' is not valid."))
            )
        return value

    def forbid(self, *names: str) -> None:
        """Refuse parameters that do not belong here.

        Raises:
            BinanceError: One was sent.
        """
        for name in names:
            if self._values.get(name):
                raise BinanceError(-1106, f"Parameter '{name}' sent when not required.")

    def names(self, name: str) -> list[str] | None:
        """Give a JSON array of texts; None without it.

        Raises:
            BinanceError: It is none.
        """
        value = self.text(name)
        if value is None:
            return None
        try:
            return msgspec.json.decode(value, type=list[str])
        except msgspec.DecodeError:
            raise _illegal(name, r'^\["[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}\]$') from None


def to_ns(value: int) -> int:
    """Read an instant in milliseconds or, where it is too large for those, in microseconds."""
    return value * 1_000_000 if value < 10**14 else value * 1_000


def _illegal(name: str, legal: str) -> BinanceError:
    return BinanceError(
        -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
    )


def from_form(query: bytes, body: bytes) -> Params:
    """Read the parameters of a REST request. The query wins where both name one.

    Raises:
        BinanceError: One is named twice, or is no text.
    """
    if not query or not body:
        return Params(_form(query or body))
    return Params({**_form(body), **_form(query)})


def _form(raw: bytes) -> dict[str, str]:
    if not raw:
        return {}
    if _PLAIN.fullmatch(raw):
        # Nothing is percent-encoded, as in most orders; five times faster than the library.
        plain = [part.partition("=") for part in raw.decode().split("&")]
        values = {name: value for name, _, value in plain}
        if len(values) != len(plain):
            raise BinanceError(-1101, "Duplicate values for a parameter detected.")
        return values
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100
        )
    except ValueError:
        raise BinanceError(-1100, "Illegal characters found in a parameter.") from None
    values = dict(pairs)
    if len(values) != len(pairs):
        raise BinanceError(-1101, "Duplicate values for a parameter detected.")
    return values


def from_json(params: Mapping[str, Any]) -> Params:
    """Read the parameters of a request to the WebSocket API: the texts that are signed, too.

    Numbers with a fraction must have been decoded as texts, so that they stay as they were sent.
    """
    return Params({name: _json_text(value) for name, value in params.items() if value is not None})


def _json_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
