"""Commands to requests, events to reports, codes to outcomes: all of it pure, all of it tables."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tradegw_mock import exchange as mock
from tradegw_mock import requests
from tradegw_mock.config import MockConfig, read_address
from tradegw_mock.contract import CAPABILITIES, OUTCOMES, DoorCode
from tradegw_mock.translate import to_reports, translate

from tradegw import (
    CommandKind,
    ExecType,
    Liquidity,
    OrdStatus,
    OrdType,
    ReplaceTerms,
    Side,
    TimeInForce,
    TriggerBy,
    UnsupportedOrder,
    VenueOrderId,
)
from tradegw.venue import (
    Cancel,
    CancelAll,
    CancelBatch,
    Command,
    DeadMan,
    Outcome,
    Replace,
    Submit,
    SubmitBatch,
)

from .helpers import World
from .venue_helpers import START_NS, D, a_context, a_market_order, an_order

UNTIL_NS = START_NS + 5_000_000_000


def payload_of(command: Command, *names: str) -> Any:
    request = translate(command, a_context(START_NS, *names), account="desk")
    assert request.valid_until is not None
    assert request.valid_until.time_ns == UNTIL_NS
    return request.payload


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        pytest.param(
            an_order(),
            {"ord_type": "LIMIT", "price": D(60000), "order_qty": D("0.01")},
            id="limit",
        ),
        pytest.param(a_market_order(), {"ord_type": "MARKET", "order_qty": D("0.01")}, id="market"),
        pytest.param(
            a_market_order(order_qty=None, quote_qty="100"),
            {"ord_type": "MARKET", "quote_qty": D(100)},
            id="market by quote",
        ),
        pytest.param(
            an_order(time_in_force=TimeInForce.IOC, side=Side.SELL),
            {
                "ord_type": "LIMIT",
                "price": D(60000),
                "order_qty": D("0.01"),
                "side": "SELL",
                "time_in_force": "IOC",
            },
            id="IOC sell",
        ),
        pytest.param(
            an_order(time_in_force=TimeInForce.GTD, expire_time_ns=START_NS + 9, post_only=True),
            {
                "ord_type": "LIMIT",
                "price": D(60000),
                "order_qty": D("0.01"),
                "time_in_force": "GTD",
                "expire_time_ns": START_NS + 9,
                "post_only": True,
            },
            id="GTD post-only",
        ),
        *(
            pytest.param(
                an_order(
                    ord_type=kind,
                    price="70000" if kind.has_price else None,
                    trigger_price="69000",
                    trigger_by=TriggerBy.LAST,
                ),
                {
                    "ord_type": str(kind),
                    "order_qty": D("0.01"),
                    "price": D(70000) if kind.has_price else None,
                    "trigger_price": D(69000),
                },
                id=str(kind),
            )
            for kind in OrdType
            if kind.has_trigger
        ),
    ],
)
def test_an_order_keeps_every_field(order: Any, expected: dict[str, Any]) -> None:
    payload = payload_of(Submit(order=order), "c1")
    assert isinstance(payload, requests.Place)
    assert (payload.account, payload.valid_until_ns) == ("desk", UNTIL_NS)
    defaults = {
        "symbol": "BTC/USDT",
        "side": "BUY",
        "time_in_force": "GTC",
        "client_order_id": "c1",
        "order_qty": None,
        "quote_qty": None,
        "price": None,
        "trigger_price": None,
        "post_only": False,
        "expire_time_ns": None,
        "self_trade_prevention": "EXPIRE_TAKER",
    }
    assert msgspec.structs.asdict(payload.order) == defaults | expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(
            Cancel(order=an_order(venue_order_id=VenueOrderId("7"))),
            requests.Cancel(
                account="desk", order_id=7, client_order_id="c1", valid_until_ns=UNTIL_NS
            ),
            id="cancel by both names",
        ),
        pytest.param(
            Cancel(order=an_order()),
            requests.Cancel(account="desk", client_order_id="c1", valid_until_ns=UNTIL_NS),
            id="cancel of an order that was never acknowledged",
        ),
        pytest.param(
            Replace(order=an_order(), terms=ReplaceTerms(order_qty=D(2), price=D(3))),
            requests.Replace(
                account="desk",
                client_order_id="c1",
                order_qty=D(2),
                price=D(3),
                valid_until_ns=UNTIL_NS,
            ),
            id="replace",
        ),
        pytest.param(
            CancelAll(symbol="BTC/USDT"),
            requests.CancelAll(account="desk", symbol="BTC/USDT", valid_until_ns=UNTIL_NS),
            id="cancel all",
        ),
        pytest.param(
            CancelBatch(orders=(an_order("c1"), an_order("c2"))),
            requests.Batch(
                account="desk",
                items=(
                    requests.Cancel(account="desk", client_order_id="c1", valid_until_ns=UNTIL_NS),
                    requests.Cancel(account="desk", client_order_id="c2", valid_until_ns=UNTIL_NS),
                ),
            ),
            id="cancel several",
        ),
    ],
)
def test_other_commands(command: Command, expected: object) -> None:
    assert payload_of(command) == expected


def test_a_batch_names_each_of_its_orders() -> None:
    payload = payload_of(SubmitBatch(orders=(an_order(), an_order())), "n1", "n2")
    assert [item.order.client_order_id for item in payload.items] == ["n1", "n2"]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(Submit(order=an_order(ord_type=OrdType.TRAILING_STOP)), id="trailing stop"),
        pytest.param(Submit(order=an_order(time_in_force=TimeInForce.DAY)), id="DAY"),
        pytest.param(Submit(order=an_order(trigger_by=TriggerBy.MARK)), id="trigger by mark"),
        pytest.param(Submit(order=an_order(reduce_only=True)), id="reduce only"),
        pytest.param(Submit(order=an_order(max_slippage_bps=D(1))), id="bound on slippage"),
        pytest.param(
            Replace(order=an_order(), terms=ReplaceTerms(trigger_price=D(1))), id="other trigger"
        ),
        pytest.param(DeadMan(timeout_s=1), id="dead man's switch"),
    ],
)
def test_what_the_exchange_cannot_do_is_refused_before_it_is_stored(command: Command) -> None:
    with pytest.raises(UnsupportedOrder):
        translate(command, a_context(START_NS, "c1"), account="desk")


def test_every_kind_of_order_that_is_declared_can_be_translated() -> None:
    for kind in CAPABILITIES.ord_types:
        for time_in_force in CAPABILITIES.time_in_force:
            order = an_order(ord_type=kind, time_in_force=time_in_force)
            assert payload_of(Submit(order=order), "c1").order.ord_type == kind


# --- outcomes -------------------------------------------------------------------------------------

UNKNOWN = {"DUPLICATE_CLIENT_ORDER_ID", "UNKNOWN_ORDER", "ORDER_CLOSED"}
ELSEWHERE = {
    "ACCOUNT_EXISTS",
    "BAD_ACCOUNT_NAME",
    "UNKNOWN_ASSET",
    "AMOUNT_INVALID",
    "BAD_API_KEY",
    "UNKNOWN_API_KEY",
}
"""Codes that no placement, cancel or replace is answered with."""


@pytest.mark.parametrize("command", CommandKind)
@pytest.mark.parametrize("code", mock.RefusalCode)
def test_every_code_of_the_exchange_has_an_outcome(
    command: CommandKind, code: mock.RefusalCode
) -> None:
    expected = Outcome.UNKNOWN if code in UNKNOWN | ELSEWHERE else Outcome.REFUSED
    assert OUTCOMES.outcome(command, code) is expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (DoorCode.BAD_FRAME, Outcome.REFUSED),
        (DoorCode.FRAME_TOO_LARGE, Outcome.REFUSED),
        (DoorCode.TOO_MANY_REQUESTS, Outcome.THROTTLED),
        (DoorCode.UNAVAILABLE, Outcome.THROTTLED),
        (DoorCode.INTERNAL, Outcome.UNKNOWN),
        (DoorCode.PAST_LOST, Outcome.UNKNOWN),
        ("A_CODE_OF_TOMORROW", Outcome.UNKNOWN),
    ],
)
def test_codes_of_the_door(code: str, expected: Outcome) -> None:
    assert {OUTCOMES.outcome(command, code) for command in CommandKind} == {expected}


# --- reports --------------------------------------------------------------------------------------


def test_an_answer_tells_acknowledgement_fills_and_ending_in_order() -> None:
    world = World()
    world.place("bob", "SELL", "0.03", "100", client_order_id="theirs")
    order = world.place(
        "alice",
        "BUY",
        "0.05",
        "100",
        client_order_id="ours",
        time_in_force=mock.TimeInForce.IOC,
    )
    events = tuple(
        event
        for event in world.heard[-1].events
        if isinstance(event, mock.OrderEvent) and event.account == "alice"
    )
    request = requests.Place(order=mock.OrderRequest(**an_exchange_order()))
    done = requests.Done(time_ns=1, order=order, events=events)
    acknowledged, traded, ended = to_reports(request, done)

    assert acknowledged.exec_type is ExecType.NEW
    assert acknowledged.command is CommandKind.NEW
    assert (acknowledged.ord_status, acknowledged.cum_qty) == (OrdStatus.NEW, 0)
    assert traded.exec_type is ExecType.TRADE
    assert (traded.last_qty, traded.last_px, traded.cum_qty) == (D("0.03"), D(100), D("0.03"))
    assert (traded.trade_id, traded.liquidity) == ("1", Liquidity.TAKER)
    assert (traded.fee, traded.fee_asset) == (0, "BTC")
    assert ended.exec_type is ExecType.EXPIRED
    assert (ended.ord_status, ended.cum_qty) == (OrdStatus.EXPIRED, D("0.03"))
    assert ended.reason == "IOC_REMAINDER"
    for report in (acknowledged, traded, ended):
        assert report.venue_order_id == str(order.order_id)
        assert report.venue_client_order_id == "ours"
        assert report.symbol == "BTC/USDT"
        assert report.side is Side.BUY
        assert report.transact_time_ns == world.clock.now_ns


def an_exchange_order() -> dict[str, Any]:
    return {
        "symbol": "BTC/USDT",
        "side": mock.Side.BUY,
        "ord_type": mock.OrdType.LIMIT,
        "client_order_id": "c1",
    }


def test_a_batch_reports_refusals_and_leaves_out_what_is_unknown() -> None:
    place = requests.Place(order=mock.OrderRequest(**an_exchange_order()))
    request = requests.Batch(items=(place, place, requests.Cancel(client_order_id="c2")))
    answer = requests.BatchDone(
        time_ns=5,
        items=(
            requests.BatchItem(code="INSUFFICIENT_FUNDS", text="poor"),
            requests.BatchItem(code="DUPLICATE_CLIENT_ORDER_ID", text="there is one"),
            requests.BatchItem(code="REQUEST_EXPIRED", text="late"),
        ),
    )
    refused, late = to_reports(request, answer)
    assert refused.exec_type is ExecType.REJECTED
    assert (refused.venue_client_order_id, refused.reason) == ("c1", "INSUFFICIENT_FUNDS")
    assert late.exec_type is ExecType.CANCEL_REJECTED
    assert (late.venue_client_order_id, late.reason) == ("c2", "REQUEST_EXPIRED")


# --- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("127.0.0.1:8101", ("127.0.0.1", 8101)),
        ("tcp://exchange.local:1", ("exchange.local", 1)),
        ("[::1]:8101", ("::1", 8101)),
    ],
)
def test_an_address(url: str, expected: tuple[str, int]) -> None:
    assert read_address(url) == expected


@pytest.mark.parametrize(
    "config",
    [
        {"url": "127.0.0.1"},
        {"url": "http://127.0.0.1:80"},
        {"url": "127.0.0.1:65536"},
        {"url": "127.0.0.1:0"},
        {"url": ":8101"},
        {"url": "127.0.0.1:8101", "seed": 2},
        {"url": "127.0.0.1:8101", "durable": False},
        {"balances": {"BTC": "1e9"}},
        {"balances": {"BTC": "-1"}},
        {"liquidity": "plenty"},
        {"step_interval_s": -1.0},
        {"sed": 1},
    ],
)
def test_a_wrong_setting_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(config, MockConfig)
