"""Events as bytes: what is written is read back, and old bytes stay readable for ever."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradegw.errors import StoreCorrupt
from tradegw.model import (
    AccountName,
    CommandKind,
    EventType,
    Evidence,
    EvidenceKind,
    Fill,
    InDoubt,
    Liquidity,
    Order,
    OrderEvent,
    OrderId,
    OrdStatus,
    OrdType,
    Origin,
    ReplaceTerms,
    Side,
    TimeInForce,
    TriggerBy,
)
from tradegw.store import codec
from tradegw.store.codec import (
    decode_event,
    encode_event,
    in_doubt_from,
    in_doubt_text,
    normal,
    numbered,
    tags_from,
    tags_text,
    terms_from,
    terms_text,
)

# As the model allows them: at most 38 digits, 18 of them fraction; sums and products may carry zeros.
decimals = st.decimals(
    min_value=Decimal("-1e19"), max_value=Decimal("1e19"), places=18
) | st.sampled_from(
    [
        Decimal(text)
        for text in ("0", "-0", "0.00", "1E+3", "1E-18", "1.0E-7", "0.10", "100", "-2.50")
    ]
)
# UTF-8 has no half characters; the doors refuse them.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
times = st.integers(0, 2**63 - 1)
terms = st.builds(
    ReplaceTerms,
    order_qty=st.none() | decimals,
    price=st.none() | decimals,
    trigger_price=st.none() | decimals,
)
doubts = st.builds(InDoubt, command=st.sampled_from(CommandKind), since_ns=times, why=texts)
tags = st.dictionaries(texts, texts, max_size=3)
orders = st.builds(
    Order,
    order_id=st.uuids(),
    account=texts,
    venue=texts,
    symbol=texts,
    side=st.sampled_from(Side),
    ord_type=st.sampled_from(OrdType),
    time_in_force=st.sampled_from(TimeInForce),
    order_qty=st.none() | decimals,
    quote_qty=st.none() | decimals,
    price=st.none() | decimals,
    trigger_by=st.none() | st.sampled_from(TriggerBy),
    expire_time_ns=st.none() | times,
    post_only=st.booleans(),
    client_order_id=st.none() | texts,
    tags=tags,
    ord_status=st.sampled_from(OrdStatus),
    in_doubt=st.lists(doubts, max_size=2).map(tuple),
    text=texts,
    cum_qty=decimals,
    cum_quote=decimals,
    avg_px=st.none() | decimals,
    origin=st.sampled_from(Origin),
    triggered=st.booleans(),
    generation=st.integers(0, 255),
    closed_by=st.none() | st.sampled_from(EvidenceKind),
    pending=st.none() | st.sampled_from(CommandKind),
    pending_terms=st.none() | terms,
    created_time_ns=times,
    closed_time_ns=st.none() | times,
)
fills = st.builds(
    Fill,
    trade_id=texts,
    account=texts,
    venue=texts,
    symbol=texts,
    side=st.sampled_from(Side),
    last_qty=decimals,
    last_px=decimals,
    order_id=st.none() | st.uuids(),
    fee=st.none() | decimals,
    liquidity=st.sampled_from(Liquidity),
    inferred=st.booleans(),
    corrects=st.none() | texts,
    transact_time_ns=times,
)
events = st.builds(
    OrderEvent,
    event_type=st.sampled_from(EventType),
    account=texts,
    time_ns=times,
    order_id=st.none() | st.uuids(),
    order=st.none() | orders,
    fill=st.none() | fills,
    command=st.none() | st.sampled_from(CommandKind),
    text=texts,
    evidence=st.none() | st.builds(Evidence, kind=st.sampled_from(EvidenceKind), detail=texts),
    late=st.booleans(),
    request_id=texts,
    attaches=times,
)


@given(events, st.integers(1, 2**62))
def test_decoding_undoes_encoding(event: OrderEvent, seq: int) -> None:
    event = numbered(event, seq)
    payload = encode_event(event)
    assert decode_event(payload) == event
    assert encode_event(decode_event(payload)) == payload


@given(events, st.integers(1, 2**62))
def test_a_number_is_given_to_all_that_carries_one(event: OrderEvent, seq: int) -> None:
    found = numbered(event, seq)
    assert found == replace(
        event,
        seq=seq,
        order=None if event.order is None else replace(event.order, seq=seq),
        fill=None if event.fill is None else replace(event.fill, seq=seq),
    )
    assert event.seq == 0  # The one that came in is left as it was.
    if event.order is not None:
        assert found.order is not None
        assert found.order.trade_ids == event.order.trade_ids
        assert event.order.seq == 0


@given(decimals)
def test_equal_numbers_have_one_text(number: Decimal) -> None:
    text = format(normal(number), "f")
    assert Decimal(text) == number
    assert "e" not in text.lower()
    assert not ("." in text and text.endswith(("0", ".")))
    assert text != "-0"
    assert format(normal(Decimal(f"{text}00" if "." in text else f"{text}.00")), "f") == text


def test_written_bytes_stay_as_they_are() -> None:
    """The bytes of version 1. They are hashed in every record there is: this test never changes."""
    order = Order(
        order_id=OrderId(UUID(int=1)),
        account=AccountName("paper"),
        venue="mock",
        symbol="BTC/USDT",
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        time_in_force=TimeInForce.GTC,
        order_qty=Decimal("0.10"),
        price=Decimal("1E+3"),
        tags={"b": "2", "a": "1"},
        ord_status=OrdStatus.PENDING_REPLACE,
        pending_terms=ReplaceTerms(price=Decimal("0.0000001")),
        in_doubt=(InDoubt(command=CommandKind.REPLACE, since_ns=5, why='"silence"'),),
        cum_qty=Decimal("0.05"),
    )
    fill = Fill(
        trade_id="t1",  # type: ignore[arg-type]
        account=AccountName("paper"),
        venue="mock",
        symbol="BTC/USDT",
        side=Side.BUY,
        last_qty=Decimal("0.050"),
        last_px=Decimal(1000),
        fee=Decimal("-0.0"),
    )
    event = OrderEvent(
        event_type=EventType.TRADE,
        account=AccountName("paper"),
        time_ns=7,
        order_id=order.order_id,
        order=order,
        fill=fill,
        evidence=Evidence(kind=EvidenceKind.FILL),
        text="é",
    )
    assert encode_event(numbered(event, 3)).decode() == (
        '{"v":1,"event_type":"TRADE","account":"paper","time_ns":7,"seq":3,'
        '"order_id":"00000000-0000-0000-0000-000000000001",'
        '"order":{"order_id":"00000000-0000-0000-0000-000000000001","account":"paper",'
        '"venue":"mock","symbol":"BTC/USDT","side":"BUY","ord_type":"LIMIT",'
        '"time_in_force":"GTC","order_qty":"0.1","price":"1000","tags":{"a":"1","b":"2"},'
        '"ord_status":"PENDING_REPLACE",'
        '"in_doubt":[{"command":"REPLACE","since_ns":5,"why":"\\"silence\\""}],'
        '"cum_qty":"0.05","pending_terms":{"price":"0.0000001"},"seq":3},'
        '"fill":{"trade_id":"t1","account":"paper","venue":"mock","symbol":"BTC/USDT",'
        '"side":"BUY","last_qty":"0.05","last_px":"1000","fee":"0","seq":3},'
        '"text":"é","evidence":{"kind":"FILL","detail":""}}'
    )


@pytest.mark.parametrize("cls", [OrderEvent, Order, Fill])
def test_every_fact_is_written(cls: type[Any]) -> None:
    """A field that is added to the model must not be lost: it is written as soon as it is not its default."""
    plan = {OrderEvent: codec._EVENT, Order: codec._ORDER, Fill: codec._FILL}[cls]
    # What the fills tell of an order is left to them.
    left_out = {"trade_ids", "inferred"} if cls is Order else set[str]()
    written = {name for name, _, _ in plan.fields}
    assert written == {field.name for field in fields(cls)} - left_out


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"v":2,"event_type":"NEW"}',
        b'{"v":1,',
        b'{"v":1,"event_type":"BORN"}',
        b'{"v":1,"event_type":"NEW","account":"a","time_ns":"soon"}',
    ],
)
def test_what_is_no_event_is_refused(payload: bytes) -> None:
    with pytest.raises(StoreCorrupt):
        decode_event(payload)


@given(tags)
def test_tags_in_a_column(value: dict[str, str]) -> None:
    text = tags_text(value)
    assert tags_from(text) == value
    assert list(json.loads(text)) == sorted(value)


@given(st.lists(doubts, max_size=2).map(tuple))
def test_doubts_in_a_column(value: tuple[InDoubt, ...]) -> None:
    assert in_doubt_from(in_doubt_text(value)) == value
    assert (in_doubt_text(value) == "[]") is (value == ())


@given(st.none() | terms)
def test_terms_in_a_column(value: ReplaceTerms | None) -> None:
    assert terms_from(terms_text(value)) == value
