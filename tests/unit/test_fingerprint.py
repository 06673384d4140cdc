"""Fingerprints: the same request has the same one, another request another one, for ever."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradegw.engine.fingerprint import fingerprint, fingerprint_order
from tradegw.model import NewOrder, OrdType, Side, TimeInForce, TriggerBy
from tradegw.testing import a_new_order

D = Decimal
OTHER: dict[str, Any] = {
    "symbol": "ETH/USDT",
    "side": Side.SELL,
    "ord_type": OrdType.STOP,
    "account": "other",
    "venue": "v",
    "time_in_force": TimeInForce.IOC,
    "order_qty": D(2),
    "quote_qty": D(5),
    "price": D(101),
    "trigger_price": D(7),
    "trigger_by": TriggerBy.MARK,
    "trailing_offset": D(3),
    "expire_time_ns": 5,
    "post_only": True,
    "reduce_only": True,
    "max_slippage_bps": D(1),
    "queue_if_unavailable_s": 30.0,
    "client_order_id": "c",
    "tags": {"a": "b"},
}


def test_the_table_has_every_field() -> None:
    assert {f.name for f in fields(NewOrder)} == {*OTHER, "idempotency_key"}


@pytest.mark.parametrize("name", OTHER)
def test_every_field_counts(name: str) -> None:
    assert fingerprint_order(a_new_order(**{name: OTHER[name]})) != fingerprint_order(a_new_order())


def test_every_field_has_a_place_of_its_own() -> None:
    found = [fingerprint_order(a_new_order(**{name: value})) for name, value in OTHER.items()]
    assert len(set(found)) == len(OTHER)


@pytest.mark.parametrize(
    "same",
    [
        {"idempotency_key": "k"},
        {"price": D("100.00")},
        {"price": D("1E+2")},
        {"post_only": False},
        {"time_in_force": TimeInForce.GTC},
        {"tags": {}},
    ],
)
def test_what_says_the_same_is_the_same(same: dict[str, Any]) -> None:
    assert fingerprint_order(a_new_order(**same)) == fingerprint_order(a_new_order())


def test_tags_have_no_order_and_no_seams() -> None:
    one = a_new_order(tags={"a": "1", "b": "2"})
    two = a_new_order(tags={"b": "2", "a": "1"})
    assert fingerprint_order(one) == fingerprint_order(two)
    seams = [{"a": "bc"}, {"ab": "c"}, {"a": "b", "c": ""}, {"a": "1:b"}, {"a1": ":b"}]
    assert len({fingerprint_order(a_new_order(tags=tags)) for tags in seams}) == len(seams)


def test_a_fingerprint_stays_what_it_was() -> None:
    """It is stored: a change would make old keys look reused. A new form needs a new version."""
    assert fingerprint_order(a_new_order(client_order_id="c", tags={"a": "b"})) == GOLDEN
    assert fingerprint("cancel_order", {"order_id": "x"}) == GOLDEN_CANCEL


GOLDEN = "1:0efb4f552061b61bde76e0956a2f41337ee161dfab950004935b4c47aded3999"
GOLDEN_CANCEL = "1:5e28e4ba37a54cc2af927a57e8327dbb836af4a4028b9665e2b93341c03c793b"


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4))
def test_operations_and_values_do_not_run_into_each_other(values: dict[str, str]) -> None:
    one = fingerprint("op", values)
    assert one == fingerprint("op", dict(reversed(values.items())))
    assert one != fingerprint("op2", values)
    assert one != fingerprint("op", {**values, "one more": "x"})


def test_seconds_are_the_same_however_they_came() -> None:
    """The wire makes a float of what an embedding program gave as an int."""
    assert fingerprint_order(a_new_order(queue_if_unavailable_s=30)) == fingerprint_order(
        a_new_order(queue_if_unavailable_s=30.0)
    )
