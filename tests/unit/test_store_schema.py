"""The tables say what the model says."""

from __future__ import annotations

import re
from dataclasses import fields
from enum import StrEnum

import pytest

from tradegw._generated.migrations import POSTGRES, SQLITE, Migration
from tradegw._generated.queries import FillRow, OrdersRow, UnmatchedFillRow
from tradegw.model import (
    CommandKind,
    EventType,
    EvidenceKind,
    Fill,
    InstrumentStatus,
    Liquidity,
    Order,
    OrdStatus,
    OrdType,
    Origin,
    Side,
    TimeInForce,
    TriggerBy,
)

ENUMERATIONS: dict[str, type[StrEnum]] = {
    "side": Side,
    "ord_type": OrdType,
    "time_in_force": TimeInForce,
    "trigger_by": TriggerBy,
    "ord_status": OrdStatus,
    "origin": Origin,
    "closed_by": EvidenceKind,
    "pending": CommandKind,
    "event_type": EventType,
    "liquidity": Liquidity,
    "status": InstrumentStatus,
}


@pytest.mark.parametrize(
    "migrations", [pytest.param(SQLITE, id="sqlite"), pytest.param(POSTGRES, id="postgres")]
)
def test_enumerations_are_checked_by_the_database(migrations: tuple[Migration, ...]) -> None:
    """Each check admits exactly the members of the model's enumeration: a new member needs a migration."""
    found: set[str] = set()
    for check in re.finditer(r"CHECK \((.*?)\n? *\)+,?\n", migrations[0].up, re.DOTALL):
        columns = set(re.findall(r"(\w+) (?:=|IN)", check[1]))
        words = re.findall(r"'(\w+)'", check[1])
        if not words:
            continue
        [column] = columns
        found.add(column)
        assert sorted(words) == sorted(ENUMERATIONS[column]), column
    assert found == set(ENUMERATIONS)


@pytest.mark.parametrize(
    ("row", "model", "left_out"),
    [
        # What the fills tell is not told twice.
        pytest.param(OrdersRow, Order, {"trade_ids", "inferred"}, id="orders"),
        pytest.param(FillRow, Fill, set[str](), id="fill"),
        pytest.param(UnmatchedFillRow, Fill, {"order_id"}, id="unmatched_fill"),
    ],
)
def test_every_field_has_its_column(
    row: type[OrdersRow | FillRow | UnmatchedFillRow],
    model: type[Order | Fill],
    left_out: set[str],
) -> None:
    columns = {field.name for field in fields(row)}
    expected = {field.name for field in fields(model)} - left_out - {"account"}
    assert columns == expected | {"account_id"}
