"""Messages and values, both ways."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradegw.errors import InvalidOrder
from tradegw.gateway import AccountStatus, VenueInfo
from tradegw.model import (
    Balance,
    CommandKind,
    EventType,
    Evidence,
    EvidenceKind,
    Fill,
    InDoubt,
    Instrument,
    InstrumentStatus,
    Liquidity,
    NewOrder,
    Order,
    OrderEvent,
    OrderFilter,
    OrdStatus,
    OrdType,
    Origin,
    Position,
    ReplaceTerms,
    Side,
    TimeInForce,
    TriggerBy,
    parse_decimal,
)
from tradegw.trading.v1 import enums_pb2, order_pb2
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc import convert, requests

ANY: Any = None

# Protobuf strings are Unicode without surrogates.
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
some_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
numbers = st.decimals(
    min_value=-(10**19), max_value=10**19, allow_nan=False, allow_infinity=False, places=18
).map(parse_decimal)
instants = st.integers(0, 2**63 - 1)
maybe_text = st.none() | text
maybe_number = st.none() | numbers
tags = st.dictionaries(some_text, text, max_size=3)


def in_doubt() -> st.SearchStrategy[InDoubt]:
    return st.builds(InDoubt, command=st.sampled_from(CommandKind), since_ns=instants, why=text)


orders = st.builds(
    Order,
    order_id=st.uuids(),
    account=text,
    venue=text,
    symbol=text,
    side=st.sampled_from(Side),
    ord_type=st.sampled_from(OrdType),
    time_in_force=st.sampled_from(TimeInForce),
    order_qty=maybe_number,
    quote_qty=maybe_number,
    price=maybe_number,
    trigger_price=maybe_number,
    trigger_by=st.none() | st.sampled_from(TriggerBy),
    trailing_offset=maybe_number,
    expire_time_ns=st.none() | instants,
    post_only=st.booleans(),
    reduce_only=st.booleans(),
    max_slippage_bps=maybe_number,
    client_order_id=maybe_text,
    idempotency_key=maybe_text,
    tags=tags,
    ord_status=st.sampled_from(OrdStatus),
    queued=st.booleans(),
    in_doubt=st.lists(in_doubt(), max_size=2).map(tuple),
    reason=text,
    text=text,
    cum_qty=numbers,
    leaves_qty=numbers,
    cum_quote=numbers,
    avg_px=maybe_number,
    origin=st.sampled_from(Origin),
    triggered=st.booleans(),
    generation=st.integers(0, 2**31 - 1),
    acknowledged=st.booleans(),
    closed_by=st.none() | st.sampled_from(EvidenceKind),
    pending=st.none() | st.sampled_from(CommandKind),
    pending_terms=st.none()
    | st.builds(
        ReplaceTerms, order_qty=maybe_number, price=maybe_number, trigger_price=maybe_number
    ),
    venue_order_id=maybe_text,
    venue_client_order_id=maybe_text,
    send_by_ns=instants,
    created_time_ns=instants,
    updated_time_ns=instants,
    closed_time_ns=st.none() | instants,
    seq=instants,
    # These two stay with the gateway.
    trade_ids=st.just(frozenset()),
    inferred=st.just(()),
)
fills = st.builds(
    Fill,
    trade_id=text,
    account=text,
    venue=text,
    symbol=text,
    side=st.sampled_from(Side),
    last_qty=numbers,
    last_px=numbers,
    order_id=st.none() | st.uuids(),
    client_order_id=maybe_text,
    venue_order_id=maybe_text,
    fee=maybe_number,
    fee_asset=maybe_text,
    liquidity=st.sampled_from(Liquidity),
    inferred=st.booleans(),
    corrects=maybe_text,
    transact_time_ns=instants,
    received_time_ns=instants,
    seq=instants,
)
events = st.builds(
    OrderEvent,
    event_type=st.sampled_from(EventType),
    account=text,
    time_ns=instants,
    seq=instants,
    order_id=st.none() | st.uuids(),
    order=st.none() | orders,
    fill=st.none() | fills,
    command=st.none() | st.sampled_from(CommandKind),
    reason=text,
    text=text,
    evidence=st.none() | st.builds(Evidence, kind=st.sampled_from(EvidenceKind), detail=text),
    late=st.booleans(),
    transact_time_ns=instants,
    request_id=text,
    trace_id=text,
    attaches=instants,
)


@st.composite
def new_orders(draw: st.DrawFn) -> NewOrder:
    """Orders whose fields fit together, as far as the wire is concerned."""
    ord_type = draw(st.sampled_from(OrdType))
    by_quote = draw(st.booleans())
    triggers = ord_type.has_trigger or ord_type is OrdType.TRAILING_STOP
    return NewOrder(
        symbol=draw(text),
        side=draw(st.sampled_from(Side)),
        ord_type=ord_type,
        account=draw(maybe_text),  # type: ignore[arg-type]
        venue=draw(maybe_text),
        time_in_force=draw(st.sampled_from(TimeInForce)),
        order_qty=None if by_quote else draw(numbers),
        quote_qty=draw(numbers) if by_quote else None,
        price=draw(numbers) if ord_type.has_price else None,
        trigger_price=draw(numbers) if ord_type.has_trigger else None,
        trigger_by=draw(st.none() | st.sampled_from(TriggerBy)) if triggers else None,
        trailing_offset=draw(numbers) if ord_type is OrdType.TRAILING_STOP else None,
        expire_time_ns=draw(st.none() | instants),
        post_only=draw(st.booleans()),
        reduce_only=draw(st.booleans()),
        max_slippage_bps=draw(maybe_number),
        queue_if_unavailable_s=draw(st.none() | st.floats(min_value=0.001, max_value=86_400)),
        client_order_id=draw(maybe_text),  # type: ignore[arg-type]
        idempotency_key=draw(maybe_text),
        tags=draw(tags),
    )


def over_the_wire(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


@given(orders)
def test_an_order_comes_back(order: Order) -> None:
    assert convert.read_order(over_the_wire(convert.write_order(order))) == order


@given(new_orders())
def test_a_new_order_comes_back(order: NewOrder) -> None:
    assert convert.read_new_order(over_the_wire(convert.write_new_order(order))) == order


@given(fills)
def test_a_fill_comes_back(fill: Fill) -> None:
    assert convert.read_fill(over_the_wire(convert.write_fill(fill))) == fill


@given(events)
def test_an_event_comes_back(event: OrderEvent) -> None:
    assert convert.read_event(over_the_wire(convert.write_event(event))) == event


@given(st.builds(Balance, account=text, asset=text, free=numbers, held=numbers, time_ns=instants))
def test_a_balance_comes_back(balance: Balance) -> None:
    assert convert.read_balance(over_the_wire(convert.write_balance(balance))) == balance


@given(
    st.builds(
        Position,
        account=text,
        symbol=text,
        qty=numbers,
        entry_px=maybe_number,
        time_ns=instants,
    )
)
def test_a_position_comes_back(position: Position) -> None:
    assert convert.read_position(over_the_wire(convert.write_position(position))) == position


@given(
    st.builds(
        Instrument,
        symbol=text,
        venue_symbol=text,
        base_asset=text,
        quote_asset=text,
        settle_asset=maybe_text,
        tick_size=numbers,
        step_size=numbers,
        qty_min=numbers,
        qty_max=numbers,
        notional_min=numbers,
        notional_max=numbers,
        contract_size=numbers,
        status=st.sampled_from(InstrumentStatus),
    )
)
def test_an_instrument_comes_back(instrument: Instrument) -> None:
    assert (
        convert.read_instrument(over_the_wire(convert.write_instrument(instrument))) == instrument
    )


@given(
    st.builds(
        OrderFilter,
        accounts=st.none() | st.lists(text, min_size=1, max_size=3).map(tuple),
        venue=maybe_text,
        symbol=maybe_text,
        side=st.none() | st.sampled_from(Side),
        statuses=st.none()
        | st.lists(st.sampled_from(OrdStatus), min_size=1, max_size=3).map(tuple),
        in_doubt=st.none() | st.booleans(),
        tags=tags,
        client_order_id=maybe_text,
        created_from_ns=st.none() | instants,
        created_before_ns=st.none() | instants,
    )
)
def test_a_filter_comes_back(where: OrderFilter) -> None:
    message = over_the_wire(requests.write_order_filter(where))
    assert requests.read_order_filter(message) == where


@pytest.mark.parametrize("state", ["STARTING", "RECONCILING", "READY", "STOPPED"])
def test_a_venue_comes_back(state: str) -> None:
    status = AccountStatus(
        account="a",  # type: ignore[arg-type]
        venue="v",
        plugin="p",
        state=state,
        why="w",
        open_orders=1,
        in_doubt=2,
        head_seq=3,
    )
    venue = VenueInfo(venue="v", plugin="p", accounts=(status,))
    assert convert.read_venue(over_the_wire(convert.write_venue(venue))) == venue


def a_message(**change: Any) -> order_pb2.NewOrder:
    fields: dict[str, Any] = {
        "symbol": "BTC/USDT",
        "side": enums_pb2.SIDE_BUY,
        "order_qty": "0.01",
        "limit": order_pb2.LimitTerms(price="100"),
    }
    return order_pb2.NewOrder(**{**fields, **change})


@pytest.mark.parametrize(
    ("change", "expected", "found"),
    [
        pytest.param({"side": 0}, "side must be one of SIDE_BUY", "nothing", id="no side"),
        pytest.param({"side": 99}, "side must be one of SIDE_BUY", "number 99", id="unknown side"),
        pytest.param({"side": -1}, "side must be one of SIDE_BUY", "number -1", id="negative side"),
        pytest.param({"time_in_force": 77}, "time_in_force must be one of", "77", id="unknown tif"),
        pytest.param({"limit": None}, "pricing must be one of market", "none", id="no pricing"),
        pytest.param(
            {"limit": order_pb2.LimitTerms()}, "price must be a plain decimal", "''", id="no price"
        ),
        pytest.param({"order_qty": "1e9"}, "order_qty must be a plain", "'1e9'", id="exponent"),
        pytest.param({"order_qty": "NaN"}, "order_qty must be a plain", "'NaN'", id="NaN"),
        pytest.param({"order_qty": "Infinity"}, "order_qty must be", "'Infinity'", id="infinite"),
        pytest.param({"order_qty": ""}, "order_qty must be a plain", "''", id="empty"),
        pytest.param({"order_qty": "9" * 200}, "order_qty must be", "'999", id="huge"),
        pytest.param({"order_qty": "٣"}, "order_qty must be a plain", "'٣'", id="other digits"),
        pytest.param(
            {"quote_qty": "0x1", "order_qty": None}, "quote_qty must be", "'0x1'", id="hexadecimal"
        ),
        pytest.param({"max_slippage_bps": "many"}, "max_slippage_bps must be", "'many'", id="word"),
        pytest.param(
            {"limit": None, "stop": order_pb2.StopTerms(trigger_price="1", trigger_by=9)},
            "trigger_by must be one of TRIGGER_BY_LAST",
            "number 9",
            id="unknown trigger",
        ),
        pytest.param(
            {"limit": None, "trailing_stop": order_pb2.TrailingStopTerms()},
            "trailing_offset must be",
            "''",
            id="no offset",
        ),
    ],
)
def test_what_cannot_be_read_is_named(change: dict[str, Any], expected: str, found: str) -> None:
    message = over_the_wire(a_message(**change))
    with pytest.raises(InvalidOrder) as caught:
        convert.read_new_order(message)
    assert caught.value.reason == "INVALID_FIELD"
    assert expected in str(caught.value)
    assert found in str(caught.value).partition("found ")[2]


def test_no_quantity_is_left_to_the_gateway_which_says_the_same_to_all() -> None:
    order = convert.read_new_order(a_message(order_qty=None))
    assert order.order_qty is None
    assert order.quote_qty is None


@pytest.mark.parametrize(
    "value", ["", "1", "x" * 36, "{2b1d5b2e-6d6d-4b0e-8f51-2c3ab67ad1a0}", "2b1d5b2e" * 5]
)
def test_what_is_no_id_is_refused(value: str) -> None:
    with pytest.raises(InvalidOrder, match="order_id must be a UUID"):
        requests.read_terms(pb.ReplaceOrderRequest(order_id=value))


@pytest.mark.parametrize(
    ("read", "message"),
    [
        pytest.param(requests.read_page_size, -1, id="a negative page"),
        pytest.param(requests.read_page_size, 1001, id="a page too long"),
        pytest.param(
            requests.read_positions, [pb.Position(account="a", after_seq=-2)], id="below the end"
        ),
        pytest.param(requests.read_positions, [pb.Position(after_seq=1)], id="nobody's position"),
        pytest.param(
            requests.read_positions,
            [pb.Position(account="a"), pb.Position(account="a")],
            id="two positions of one",
        ),
        pytest.param(
            requests.read_history_filter, pb.OrderFilter(statuses=[2]), id="a history of the open"
        ),
        pytest.param(
            requests.read_order_filter, pb.OrderFilter(statuses=[0]), id="a status not said"
        ),
        pytest.param(requests.read_order_filter, pb.OrderFilter(side=5), id="an unknown side"),
        pytest.param(
            requests.read_fill_filter, pb.FillFilter(order_id="x"), id="fills of no order"
        ),
    ],
)
def test_requests_that_make_no_sense_are_refused(read: Callable[[Any], Any], message: Any) -> None:
    with pytest.raises(InvalidOrder) as caught:
        read(message)
    assert caught.value.reason == "INVALID_FIELD"
    assert "found" in str(caught.value)


def test_a_history_without_statuses_is_of_all_closed_ones() -> None:
    where = requests.read_order_filter(requests.read_history_filter(pb.OrderFilter(symbol="X")))
    assert where.symbol == "X"
    assert where.statuses is not None
    assert set(where.statuses) == {s for s in OrdStatus if not s.is_open}


def test_the_wire_has_no_exponents() -> None:
    balance = Balance(account="a", asset="b", free=Decimal("1E-7"), held=Decimal("1E+3"))  # type: ignore[arg-type]
    message = convert.write_balance(balance)
    assert (message.free, message.held) == ("0.0000001", "1000")
