"""What the indexer says, as reports."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tradegw_dydx.orders import ChainOrderId, OrderFlags
from tradegw_dydx.reports import (
    Names,
    order_uuid,
    subaccount_uuid,
    to_balances,
    to_fill,
    to_order,
    to_positions,
)

from tradegw import (
    AccountName,
    ExecType,
    Liquidity,
    OrdStatus,
    Side,
    TranslationError,
)

from .keys import A1, A2

D = Decimal
REAL = "dydx1n56z5fhmemtffzkt2eqyf9kuc7ycjfs86mvqy7"
TOLD = {
    "id": "983f3504-5914-5c5d-875a-24d837e17896",
    "clientId": "12345",
    "clobPairId": "0",
    "side": "BUY",
    "size": "0.01",
    "totalFilled": "0",
    "price": "64000",
    "status": "BEST_EFFORT_OPENED",
    "orderFlags": "0",
    "ticker": "BTC-USD",
    "clientMetadata": "7",
    "goodTilBlock": "1040",
}


def an_id(owner, client_id, pair=0, flags=OrderFlags.SHORT_TERM, subaccount=0):
    return ChainOrderId(
        owner=owner, subaccount=subaccount, client_id=client_id, flags=flags, clob_pair_id=pair
    )


@pytest.mark.parametrize(
    ("order_id", "uuid"),
    [
        (an_id(REAL, 1700756032), "0f0981cb-152e-57d3-bea9-4d8e0dd5ed35"),
        (an_id(REAL, 2501724362), "8e2be4a2-86c6-5a32-a081-b223778c3e33"),
        (an_id(REAL, 426627592), "47077318-e213-572f-9af1-c17b3fe1a784"),
        (an_id(A1, 12345), "983f3504-5914-5c5d-875a-24d837e17896"),
        (
            an_id(A2, 2**32 - 1, 1, OrderFlags.LONG_TERM, 3),
            "de29bf90-bb19-588a-a721-a7472737bc97",
        ),
    ],
)
def test_the_indexers_name_of_an_order_is_known_beforehand(order_id, uuid):
    assert order_uuid(order_id) == uuid


def test_the_indexers_name_of_a_subaccount():
    assert str(subaccount_uuid(REAL, 0)) == "5113b9c6-885f-5f80-a2cc-ae0d93795419"
    assert str(subaccount_uuid(A1, 0)) == "8586bcf6-1f58-5ec9-a0bc-e53db273e7b0"


LONG = {"orderFlags": "64", "goodTilBlock": None}


@pytest.mark.parametrize(
    ("changes", "exec_type", "ord_status", "final"),
    [
        ({}, ExecType.ORDER_STATUS, OrdStatus.NEW, True),
        ({"totalFilled": "0.004"}, ExecType.ORDER_STATUS, OrdStatus.PARTIALLY_FILLED, True),
        ({"status": "OPEN", **LONG}, ExecType.ORDER_STATUS, OrdStatus.NEW, True),
        (
            {"status": "FILLED", "totalFilled": "0.01"},
            ExecType.ORDER_STATUS,
            OrdStatus.FILLED,
            True,
        ),
        # May fill until its good-til-block has passed, whatever the indexer says.
        ({"status": "BEST_EFFORT_CANCELED"}, ExecType.CANCELED, None, False),
        ({"status": "CANCELED"}, ExecType.CANCELED, None, False),
        (
            {"status": "CANCELED", "removalReason": "ORDER_REMOVAL_REASON_EXPIRED"},
            ExecType.EXPIRED,
            None,
            False,
        ),
        ({"status": "CANCELED", **LONG}, ExecType.CANCELED, OrdStatus.CANCELED, True),
        ({"status": "BEST_EFFORT_CANCELED", **LONG}, ExecType.CANCELED, None, False),
        (
            {"status": "CANCELED", "removalReason": "ORDER_REMOVAL_REASON_EXPIRED", **LONG},
            ExecType.EXPIRED,
            OrdStatus.EXPIRED,
            True,
        ),
    ],
)
def test_statuses(changes, exec_type, ord_status, final):
    report = to_order({**TOLD, **changes}, Names(7))
    assert report is not None
    assert (report.exec_type, report.ord_status, report.final) == (exec_type, ord_status, final)
    assert report.symbol == "BTC/USD:USDC"
    assert report.venue_client_order_id == "12345"


def test_an_untriggered_order_is_open_and_waits():
    report = to_order({**TOLD, "status": "UNTRIGGERED", "orderFlags": "32"}, Names(7))
    assert report is not None
    assert (report.ord_status, report.triggered) == (OrdStatus.NEW, False)


def test_a_replacement_is_no_end():
    told = {
        **TOLD,
        "status": "BEST_EFFORT_CANCELED",
        "removalReason": "ORDER_REMOVAL_REASON_REPLACED",
    }
    assert to_order(told, Names(7)) is None


def test_a_removal_with_hardly_any_field():
    names = Names(7)
    told = {
        "id": TOLD["id"],
        "clientId": "12345",
        "status": "BEST_EFFORT_CANCELED",
        "orderFlags": "0",
        "ticker": "BTC-USD",
        "removalReason": "ORDER_REMOVAL_REASON_USER_CANCELED",
    }
    report = to_order(told, names)
    assert report is not None
    assert report.venue_client_order_id is None, "whose it is, is not said"
    names.learn(TOLD["id"], "12345")
    report = to_order(told, names)
    assert report is not None
    assert (report.venue_client_order_id, report.reason) == ("12345", "USER_CANCELED")


def test_an_order_with_another_mark_is_not_ours():
    report = to_order({**TOLD, "clientMetadata": "2"}, Names(7))
    assert report is not None
    assert report.venue_client_order_id is None


@pytest.mark.parametrize(
    "changes", [{"status": "DREAMING"}, {"size": "x"}, {"ticker": "BTC"}, {"side": "HOLD"}]
)
def test_what_cannot_be_read_is_refused(changes):
    with pytest.raises(TranslationError):
        to_order({**TOLD, **changes}, Names(7))


FILL = {
    "id": "f1",
    "side": "SELL",
    "liquidity": "MAKER",
    "market": "BTC-USD",
    "price": "64000",
    "size": "0.004",
    "fee": "-0.02",
    "createdAt": "2026-11-26T16:00:00.123Z",
    "createdAtHeight": "1001",
    "orderId": TOLD["id"],
}


def test_fills_of_rest_and_stream_are_the_same():
    names = Names(7)
    names.learn(TOLD["id"], "12345")
    streamed = {("ticker" if k == "market" else k): v for k, v in FILL.items()}
    report = to_fill(FILL, names)
    assert to_fill(streamed, names) == report
    assert (report.trade_id, report.last_qty, report.last_px) == ("f1", D("0.004"), D(64_000))
    assert (report.fee, report.fee_asset, report.liquidity) == (D("-0.02"), "USDC", Liquidity.MAKER)
    assert (report.side, report.venue_client_order_id) == (Side.SELL, "12345")
    assert report.transact_time_ns == 1_795_708_800_123_000_000


def test_positions_and_balances():
    account = AccountName("main")
    told = {
        "BTC-USD": {"market": "BTC-USD", "status": "OPEN", "side": "SHORT", "size": "-0.5"},
        "ETH-USD": {
            "market": "ETH-USD",
            "status": "OPEN",
            "side": "LONG",
            "size": "2",
            "entryPrice": "3000",
        },
        "SOL-USD": {"market": "SOL-USD", "status": "CLOSED", "side": "LONG", "size": "1"},
    }
    expected = [D("-0.5"), D(2), D(0)]
    assert [p.qty for p in to_positions(told, account)] == expected
    assert [p.qty for p in to_positions(list(told.values()), account)] == expected
    [balance] = to_balances({"equity": "1000.5", "freeCollateral": "900"}, account)
    assert (balance.asset, balance.free, balance.held) == ("USDC", D(900), D("100.5"))
    with pytest.raises(TranslationError):
        to_positions([{"market": "BTC-USD", "side": "UP", "size": "1"}], account)
