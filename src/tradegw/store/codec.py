"""Events as bytes, for ever: what the chain hashes and what the record is rebuilt from.

A payload is one JSON object: `v`, then the fields of `OrderEvent` in their order, those at their default
left out, decimals as plain text, enumerations by value. The order is whole, as it stands after the event,
so that any event can be read without those before it; only what the fills tell (`trade_ids`, `inferred`)
is left to them.

The fields are read off the classes: a field that is added to the model is stored from then on, and absent
in older payloads, where its default stands for it. Renaming one needs a new `v`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from decimal import Context, Decimal
from operator import attrgetter
from typing import Any, get_type_hints

import msgspec

from tradegw.errors import StoreCorrupt
from tradegw.model import AccountId, Fill, InDoubt, Order, OrderEvent, ReplaceTerms, plain
from tradegw.model.copying import copier

__all__ = [
    "chain",
    "decode_event",
    "encode_event",
    "in_doubt_from",
    "in_doubt_text",
    "normal",
    "numbered",
    "tags_from",
    "tags_text",
    "terms_from",
    "terms_text",
]

_VERSION = b'{"v":1,'
_WIDE = Context(prec=200)


def normal(number: Decimal) -> Decimal:
    """Take trailing zeros off, so that equal numbers have one text."""
    text = str(number)
    if "E" not in text and (text[-1] != "0" or "." not in text) and text != "-0":
        return number
    return number.normalize(_WIDE) if number else Decimal(0)


def chain(prev_hash: bytes, account_id: AccountId, seq: int, payload: bytes) -> bytes:
    """Return the hash of an event: its place and its payload, bound to all events before it."""
    digest = hashlib.sha256(prev_hash)
    digest.update(account_id.bytes + seq.to_bytes(8, "big") + payload)
    return digest.digest()


# --- writing --------------------------------------------------------------------------------------


def encode_event(event: OrderEvent) -> bytes:
    """Write an event that has its number."""
    return _ENCODE({"v": 1, **_facts(_EVENT, event)})


def _facts(plan: _Plan, value: object) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for (name, default, write), item in zip(plan.fields, plan.read(value), strict=True):
        if item is default or item == default:
            continue
        found[name] = item if write is None else write(item)
    return found


def _write_decimal(number: Decimal) -> str:
    return plain(normal(number))


def _write_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(tags.items()))


class _Plan:
    """How the fields of one class are written."""

    def __init__(
        self,
        cls: type[Any],
        *,
        leave_out: frozenset[str] = frozenset(),
        writers: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        hints = get_type_hints(cls)
        self.fields: list[tuple[str, object, Callable[[Any], Any] | None]] = []
        for field in fields(cls):
            if field.name in leave_out:
                continue
            default: object = field.default
            if field.default_factory is not MISSING:
                default = field.default_factory()
            write = (writers or {}).get(field.name)
            if write is None and hints[field.name] in {Decimal, Decimal | None}:
                write = _write_decimal
            self.fields.append((field.name, default, write))
        self.read = attrgetter(*(name for name, _, _ in self.fields))


_ENCODE = msgspec.json.Encoder().encode
_TERMS = _Plan(ReplaceTerms)
_ORDER = _Plan(
    Order,
    leave_out=frozenset({"trade_ids", "inferred"}),
    writers={"tags": _write_tags, "pending_terms": lambda terms: _facts(_TERMS, terms)},
)
_FILL = _Plan(Fill)
_EVENT = _Plan(
    OrderEvent,
    writers={
        "order": lambda order: _facts(_ORDER, order),
        "fill": lambda fill: _facts(_FILL, fill),
    },
)


# --- numbering ------------------------------------------------------------------------------------

_copy_order = copier(Order)
_copy_fill = copier(Fill)
_copy_event = copier(OrderEvent)


def numbered(event: OrderEvent, seq: int) -> OrderEvent:
    """Return the event with its number, which its order and its fill carry as well."""
    return _copy_event(
        event,
        seq=seq,
        order=None if event.order is None else _copy_order(event.order, seq=seq),
        fill=None if event.fill is None else _copy_fill(event.fill, seq=seq),
    )


# --- reading --------------------------------------------------------------------------------------

_DECODE: Callable[[bytes], OrderEvent] = msgspec.json.Decoder(OrderEvent).decode


def decode_event(payload: bytes) -> OrderEvent:
    """Read an event: equal to the one that was written.

    Raises:
        StoreCorrupt: It is not a payload, or one of a version that this program does not know.
    """
    if not payload.startswith(_VERSION):
        raise StoreCorrupt(
            f"expected an event that begins with {_VERSION!r}; found {payload[:20]!r}"
        )
    try:
        return _DECODE(payload)
    except (msgspec.DecodeError, UnicodeError) as e:
        raise StoreCorrupt(f"unreadable event: {e}") from e


# --- columns that hold JSON -----------------------------------------------------------------------

_TAGS = msgspec.json.Decoder(dict[str, str]).decode
_IN_DOUBT = msgspec.json.Decoder(tuple[InDoubt, ...]).decode
_TERMS_DECODE = msgspec.json.Decoder(ReplaceTerms).decode


def tags_text(tags: Mapping[str, str]) -> str:
    """Write tags as a JSON object, sorted by name."""
    return _ENCODE(_write_tags(tags)).decode() if tags else "{}"


def tags_from(text: str) -> Mapping[str, str]:
    """Read tags."""
    return _TAGS(text)


def in_doubt_text(in_doubt: tuple[InDoubt, ...]) -> str:
    """Write the commands in doubt as a JSON array."""
    return _ENCODE(in_doubt).decode() if in_doubt else "[]"


def in_doubt_from(text: str) -> tuple[InDoubt, ...]:
    """Read the commands in doubt."""
    return () if text == "[]" else _IN_DOUBT(text)


def terms_text(terms: ReplaceTerms | None) -> str | None:
    """Write the terms of a pending replace as a JSON object."""
    return None if terms is None else _ENCODE(_facts(_TERMS, terms)).decode()


def terms_from(text: str | None) -> ReplaceTerms | None:
    """Read the terms of a pending replace."""
    return None if text is None else _TERMS_DECODE(text)
