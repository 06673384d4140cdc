"""The values of the model: frozen, without floats, and their enumerations."""

from __future__ import annotations

import dataclasses
import enum
import pickle
import pkgutil
import typing
from decimal import Decimal
from importlib import import_module
from types import ModuleType
from uuid import UUID

import pytest

import tradegw.model
from tradegw.model import (
    AccountName,
    CommandKind,
    EvidenceKind,
    InDoubt,
    Order,
    OrderId,
    OrdStatus,
    OrdType,
    ReplaceTerms,
    Side,
    TimeInForce,
    TradeId,
    TriggerBy,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw.model.changes import Changes, OrderChange
from tradegw.model.enums import EventType

MODULES = [
    import_module(f"tradegw.model.{info.name}")
    for info in pkgutil.iter_modules(tradegw.model.__path__)
]
VALUES = [
    value
    for module in MODULES
    for value in vars(module).values()
    if dataclasses.is_dataclass(value)
    and isinstance(value, type)
    and value.__module__ == module.__name__
]
ENUMS = [
    value
    for module in MODULES
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, enum.Enum) and list(value)
]


def test_there_is_something_to_check() -> None:
    assert len(VALUES) >= 10
    assert len(ENUMS) >= 10


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_values_are_frozen_slotted_and_made_by_keyword(value: type) -> None:
    params = value.__dataclass_params__  # type: ignore[attr-defined]
    assert params.frozen
    assert "__slots__" in vars(value)
    assert all(field.kw_only for field in dataclasses.fields(value))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_money_is_never_a_float(value: type) -> None:
    for name, hint in typing.get_type_hints(value).items():
        # Durations are seconds, and no money.
        if not name.endswith("_s"):
            assert "float" not in str(hint), f"{value.__name__}.{name} is {hint}"
        if name.endswith(("_qty", "_px", "price", "fee")):
            assert "Decimal" in str(hint), f"{value.__name__}.{name} is {hint}"
        if name.endswith("_ns"):
            assert "int" in str(hint), f"{value.__name__}.{name} is {hint}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_public_names_exist_and_the_package_hands_on_its_own(module: ModuleType) -> None:
    assert set(module.__all__) <= set(vars(module))
    assert set(tradegw.model.__all__) <= set(vars(tradegw.model))


@pytest.mark.parametrize("kind", ENUMS, ids=lambda kind: kind.__name__)
def test_members_are_stored_and_printed_as_their_names(kind: type[enum.Enum]) -> None:
    for member in kind:
        assert member.value == member.name == str(member)


def test_members_are_found_in_either_case() -> None:
    assert Side.of("buy") is Side.BUY
    assert TimeInForce.of("GTC") is TimeInForce.GTC
    with pytest.raises(ValueError, match=r"Side is one of BUY, SELL; found 'long'"):
        Side.of("long")


def test_open_is_told_from_closed() -> None:
    assert {status for status in OrdStatus if not status.is_open} == {
        OrdStatus.FILLED,
        OrdStatus.CANCELED,
        OrdStatus.REJECTED,
        OrdStatus.EXPIRED,
    }


def test_only_closings_without_the_venues_word_are_revisable() -> None:
    assert {kind for kind in EvidenceKind if kind.is_revisable} == {
        EvidenceKind.ABSENT_AFTER_EXPIRY,
        EvidenceKind.NOT_SENT,
        EvidenceKind.OPERATOR,
    }


def test_kinds_of_order_know_their_prices() -> None:
    assert {kind for kind in OrdType if kind.has_price} == {
        OrdType.LIMIT,
        OrdType.STOP_LIMIT,
        OrdType.TAKE_PROFIT_LIMIT,
    }
    assert {kind for kind in OrdType if kind.has_trigger} == {
        OrdType.STOP,
        OrdType.STOP_LIMIT,
        OrdType.TAKE_PROFIT,
        OrdType.TAKE_PROFIT_LIMIT,
    }


def a_full_order() -> Order:
    """An order in which no field has its default."""
    order = Order(
        order_id=OrderId(UUID(int=1)),
        account=AccountName("paper"),
        venue="mock",
        symbol="BTC/USDT",
        side=Side.BUY,
        ord_type=OrdType.STOP_LIMIT,
        time_in_force=TimeInForce.GTD,
        order_qty=Decimal(10),
        quote_qty=Decimal(11),
        price=Decimal(100),
        trigger_price=Decimal(99),
        trigger_by=TriggerBy.MARK,
        trailing_offset=Decimal(1),
        expire_time_ns=1,
        post_only=True,
        reduce_only=True,
        max_slippage_bps=Decimal(5),
        client_order_id=tradegw.model.ClientOrderId("c1"),
        idempotency_key="k1",
        tags={"desk": "a"},
        ord_status=OrdStatus.PENDING_REPLACE,
        in_doubt=(InDoubt(command=CommandKind.REPLACE, since_ns=1, why="timeout"),),
        reason="R",
        text="t",
        cum_qty=Decimal(4),
        leaves_qty=Decimal(6),
        cum_quote=Decimal(400),
        avg_px=Decimal(100),
        origin=tradegw.model.Origin.EXTERNAL,
        triggered=False,
        generation=1,
        acknowledged=True,
        closed_by=EvidenceKind.OPERATOR,
        pending=CommandKind.REPLACE,
        pending_terms=ReplaceTerms(price=Decimal(101)),
        queued=True,
        venue_order_id=VenueOrderId("v1"),
        venue_client_order_id=VenueClientOrderId("vc1"),
        send_by_ns=2,
        created_time_ns=1,
        updated_time_ns=2,
        closed_time_ns=3,
        seq=4,
        trade_ids=frozenset({TradeId("t1")}),
        inferred=((TradeId("i1"), Decimal(1), Decimal(100)),),
    )
    for field in dataclasses.fields(order):
        assert getattr(order, field.name) != field.default, f"{field.name} has its default"
    return order


def test_a_change_copies_every_other_field() -> None:
    before = a_full_order()
    held = {f.name: getattr(before, f.name) for f in dataclasses.fields(Order)}
    steps = Changes(before, time_ns=9)
    steps.change(reason="X")
    steps.change(text="Y")
    steps.add(EventType.NEW)
    order, (event,) = steps.outcome
    assert {f.name: getattr(before, f.name) for f in dataclasses.fields(Order)} == held
    changed = held | {"reason": "X", "text": "Y", "updated_time_ns": 9}
    assert {f.name: getattr(order, f.name) for f in dataclasses.fields(Order)} == changed
    assert event.order is order
    steps.change(reason="Z")
    assert event.order.reason == "X", "an event is never edited"
    with pytest.raises(AssertionError, match="without an event"):
        _ = steps.outcome


def test_what_may_change_are_fields_of_an_order() -> None:
    hints = typing.get_type_hints(Order)
    for name, hint in typing.get_type_hints(OrderChange).items():
        assert hints[name] == hint


def test_an_order_survives_pickling() -> None:
    """Its copies are made without its constructor."""
    steps = Changes(a_full_order(), time_ns=9)
    steps.change(reason="X")
    steps.add(EventType.NEW)
    order, _ = steps.outcome
    again = pickle.loads(pickle.dumps(order))
    assert (again, again.trade_ids, again.inferred) == (order, order.trade_ids, order.inferred)
    with pytest.raises(dataclasses.FrozenInstanceError):
        order.reason = "Y"  # type: ignore[misc]
