"""A fingerprint of what happened: equal histories have equal ones."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from typing import Any, Final, cast

import msgspec

from tradegw_mock.exchange import AuditRecord

__all__ = ["fingerprint", "logical"]

# Times are the clock's, names are the client's, and texts quote both.
_NOT_LOGICAL: Final = frozenset(
    {
        "api_key",
        "client_order_id",
        "expire_time_ns",
        "text",
        "time_ns",
        "valid_until_ns",
    }
)
_AT_A_TIME: Final = 500


def logical(record: AuditRecord) -> dict[str, Any]:
    """Give the fields of a line that two runs of the same history share."""
    fields: dict[str, Any] = msgspec.to_builtins(record)
    return {name: _without(value) for name, value in fields.items() if name not in _NOT_LOGICAL}


async def fingerprint(records: Iterable[AuditRecord]) -> tuple[str, int]:
    """Hash the logical fields of a trail, a bit at a time; return SHA-256 in hex, and how many lines."""
    digest = hashlib.sha256()
    lines = 0
    for record in records:
        digest.update(msgspec.json.encode(logical(record), order="sorted") + b"\n")
        lines += 1
        if not lines % _AT_A_TIME:
            # A long trail must not hold up who trades.
            await asyncio.sleep(0)
    return digest.hexdigest(), lines


def _without(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    return {name: _without(item) for name, item in fields.items() if name not in _NOT_LOGICAL}
