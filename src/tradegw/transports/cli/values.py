"""Values of the model as JSON: the field names of the model, decimals as text, enumerations upper case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, cast
from uuid import UUID

from tradegw.model import plain

__all__ = ["clean", "jsonable", "to_json"]


def jsonable(value: Any) -> Any:
    """Return `value` made of what JSON has.

    Fields that a value keeps for itself (`repr=False`, such as the fills that an order has counted) are left
    out. Bytes are written in hex.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in fields(value) if f.repr}
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return _jsonable_mapping(cast("Mapping[Any, Any]", value))  # type: ignore[redundant-cast]
    if isinstance(value, (list, tuple)):
        return [jsonable(element) for element in cast("Sequence[Any]", value)]
    return value


def _jsonable_mapping(items: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): jsonable(item) for key, item in items.items()}


def to_json(value: Any) -> str:
    """Return `value` as JSON on one line."""
    return json.dumps(jsonable(value), ensure_ascii=False, separators=(", ", ": "))


def clean(text: str, *, limit: int = 400) -> str:
    """Return text from outside, fit for a terminal: bounded, and without control characters."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
