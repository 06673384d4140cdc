"""Fingerprints of requests: the same key with the same fingerprint is the same request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal

from tradegw.model import NewOrder, plain
from tradegw.model.numbers import check_decimal

__all__ = ["fingerprint", "fingerprint_order"]

VERSION = "1"

# The key itself is not part of what it stands for.
_DEFAULTS = tuple(
    (field.name, None if field.name == "tags" else field.default)
    for field in fields(NewOrder)
    if field.name != "idempotency_key"
)


def fingerprint_order(order: NewOrder) -> str:
    """Return the versioned digest of what the caller set; decimals normalised, no defaults.

    A default that changes in a later release changes no fingerprint.
    """
    values: dict[str, object] = {}
    for name, default in _DEFAULTS:
        value = getattr(order, name)
        if value is not default and value != default and not (name == "tags" and not value):
            values[name] = value
    return fingerprint("place_order", values)


def fingerprint(operation: str, values: Mapping[str, object]) -> str:
    """Return the versioned digest of an operation and what the caller set; None counts as not set."""
    digest = hashlib.sha256(operation.encode())
    for name, value in sorted(values.items()):
        if value is not None:
            # Lengths keep ("a", "bc") and ("ab", "c") apart.
            text = _text(value)
            digest.update(f"\x1f{name}={len(text)}:{text}".encode())
    return f"{VERSION}:{digest.hexdigest()}"


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(check_decimal(value))
    if isinstance(value, float) and value.is_integer():
        # The wire makes 30.0 of 30.
        return str(int(value))
    if isinstance(value, Mapping):
        items: list[tuple[str, str]] = sorted((str(k), str(v)) for k, v in value.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return "".join(f"{len(k)}:{k}{len(v)}:{v}" for k, v in items)
    return str(value)
