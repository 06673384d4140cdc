"""Single fields of messages: enumerations, decimals, ids. What cannot be read is named, never guessed."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from tradegw.errors import InvalidOrder
from tradegw.model import (
    CommandKind,
    EventType,
    EvidenceKind,
    InstrumentStatus,
    Liquidity,
    OrderId,
    OrdStatus,
    OrdType,
    Origin,
    Side,
    TimeInForce,
    TriggerBy,
    parse_decimal,
)
from tradegw.trading.v1 import enums_pb2 as enums

__all__ = [
    "COMMAND",
    "EVENT_TYPE",
    "EVIDENCE",
    "INSTRUMENT_STATUS",
    "LIQUIDITY",
    "ORDER_STATUS",
    "ORDER_TYPE",
    "ORIGIN",
    "SIDE",
    "TIME_IN_FORCE",
    "TRIGGER_BY",
    "Codes",
    "invalid",
    "optional_text",
    "read_decimal",
    "read_order_id",
    "text",
]

MemberT = TypeVar("MemberT", bound=StrEnum)
NumberT = TypeVar("NumberT", bound=int)
NumberT_co = TypeVar("NumberT_co", covariant=True)


class _Wire(Protocol[NumberT_co]):
    # The name is protobuf's.
    def Value(self, name: str, /) -> NumberT_co: ...  # noqa: N802


class Codes(Generic[MemberT, NumberT]):
    """The numbers of an enumeration's members on the wire.

    Attributes:
        of: Member to number.
        none: The number that says nothing.
    """

    __slots__ = ("_members", "_names", "none", "of")

    def __init__(self, members: Iterable[MemberT], wire: _Wire[NumberT], prefix: str) -> None:
        self.of: dict[MemberT, NumberT] = {m: wire.Value(f"{prefix}_{m.name}") for m in members}
        self.none: NumberT = wire.Value(f"{prefix}_UNSPECIFIED")
        self._members: dict[int, MemberT] = {number: m for m, number in self.of.items()}
        self._names = ", ".join(f"{prefix}_{m.name}" for m in self.of)

    def read(self, number: int, name: str) -> MemberT:
        """Return the member of a field that must be said.

        Raises:
            InvalidOrder: It is not said, or the number is unknown; reason `INVALID_FIELD`.
        """
        member = self._members.get(number)
        if member is None:
            found = "nothing" if number == self.none else f"the number {number}"
            raise invalid(f"{name} must be one of {self._names}; found {found}")
        return member

    def read_optional(self, number: int, name: str) -> MemberT | None:
        """Return the member, or None when the field is not said.

        Raises:
            InvalidOrder: The number is unknown; reason `INVALID_FIELD`.
        """
        return None if number == self.none else self.read(number, name)


SIDE = Codes(Side, enums.Side, "SIDE")
ORDER_TYPE = Codes(OrdType, enums.OrdType, "ORD_TYPE")
TIME_IN_FORCE = Codes(TimeInForce, enums.TimeInForce, "TIME_IN_FORCE")
TRIGGER_BY = Codes(TriggerBy, enums.TriggerBy, "TRIGGER_BY")
ORDER_STATUS = Codes(OrdStatus, enums.OrdStatus, "ORD_STATUS")
COMMAND = Codes(CommandKind, enums.CommandKind, "COMMAND_KIND")
ORIGIN = Codes(Origin, enums.Origin, "ORIGIN")
LIQUIDITY = Codes(Liquidity, enums.Liquidity, "LIQUIDITY")
EVIDENCE = Codes(EvidenceKind, enums.EvidenceKind, "EVIDENCE_KIND")
EVENT_TYPE = Codes(EventType, enums.EventType, "EVENT_TYPE")
INSTRUMENT_STATUS = Codes(InstrumentStatus, enums.InstrumentStatus, "INSTRUMENT_STATUS")


def invalid(text: str) -> InvalidOrder:
    """Return the error of a field that cannot be read."""
    return InvalidOrder(text, reason="INVALID_FIELD")


def text(number: Decimal) -> str:
    """Write a decimal without exponent."""
    return format(number, "f")


def optional_text(number: Decimal | None) -> str | None:
    """Write a decimal, if there is one."""
    return None if number is None else format(number, "f")


def read_decimal(value: str, name: str) -> Decimal:
    """Read a decimal.

    Raises:
        InvalidOrder: It is not a plain decimal; reason `INVALID_FIELD`.
    """
    try:
        return parse_decimal(value, name)
    except ValueError as e:
        raise invalid(str(e)) from e


def read_order_id(value: str, name: str = "order_id") -> OrderId:
    """Read an id of ours.

    Raises:
        InvalidOrder: It is not a UUID; reason `INVALID_FIELD`.
    """
    # UUID() also takes braces and `urn:uuid:`, which are not how we write it.
    if len(value) in (32, 36):
        try:
            return OrderId(UUID(value))
        except ValueError:
            pass
    raise invalid(
        f"{name} must be a UUID such as 2b1d5b2e-6d6d-4b0e-8f51-2c3ab67ad1a0; found {value[:80]!r}"
    )
