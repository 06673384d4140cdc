"""Instants as exchanges write them, to and from nanoseconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tradegw import TranslationError

__all__ = ["TIME_FORMATS", "TIME_READERS", "iso"]

NS_PER_S: Final = 1_000_000_000
_UNITS: Final = {"s": NS_PER_S, "ms": 1_000_000, "us": 1000, "ns": 1}
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)


def iso(ns: int, digits: int = 3) -> str:
    """Write an instant as `2020-12-08T09:08:57.715Z`."""
    seconds, rest = divmod(ns, NS_PER_S)
    at = datetime.fromtimestamp(seconds, UTC)
    text = at.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}"[: 20 + digits] + "Z" if digits else f"{text}Z"


def _writer(ns_per_unit: int) -> Callable[[int], str]:
    return lambda ns: str(ns // ns_per_unit)


TIME_FORMATS: Final[Mapping[str, Callable[[int], str]]] = {
    **{name: _writer(size) for name, size in _UNITS.items()},
    "iso": lambda ns: iso(ns, 0),
    "iso_ms": iso,
}
"""How requests write an instant."""


def _reader(ns_per_unit: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is int:
            return value * ns_per_unit
        try:
            # A fraction is kept to the nanosecond: Kraken writes float seconds.
            return int(Decimal(value) * ns_per_unit)
        except (InvalidOperation, TypeError, ValueError, OverflowError) as e:
            raise TranslationError(f"expected an instant in numbers, found {value!r:.60}") from e

    return read


def _read_iso(value: Any) -> int:
    found = _ISO.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise TranslationError(
            f"expected an instant such as 2020-12-08T09:08:57Z, found {value!r:.60}"
        )
    *parts, fraction, zone = found.groups()
    try:
        # Without a zone it is UTC: Bitstamp writes so.
        at = datetime.fromisoformat(
            f"{parts[0]}-{parts[1]}-{parts[2]}T{parts[3]}:{parts[4]}:{parts[5]}"
            f"{'+00:00' if zone in {None, 'Z'} else zone}"
        )
    except ValueError as e:
        raise TranslationError(f"expected an instant, found {value!r:.60}") from e
    return int(at.timestamp()) * NS_PER_S + int((fraction or "0").ljust(9, "0"))


TIME_READERS: Final[Mapping[str, Callable[[Any], int]]] = {
    **{name: _reader(size) for name, size in _UNITS.items()},
    "iso": _read_iso,
}
"""How instants in answers are read."""
