"""What each exchange that tells says of a key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tradegw_rest import HttpResponse, load

from tradegw import VenueError

NOW_NS = 1_700_000_000_000_000_000


def bybit(read_only: int, *spot: str) -> dict[str, Any]:
    return {"retCode": 0, "result": {"readOnly": read_only, "permissions": {"Spot": list(spot)}}}


def okx(perm: str) -> dict[str, Any]:
    return {"code": "0", "msg": "", "data": [{"perm": perm, "acctLv": "1"}]}


def coinbase(*, trade: bool, transfer: bool) -> dict[str, Any]:
    return {"can_view": True, "can_trade": trade, "can_transfer": transfer}


@pytest.mark.parametrize(
    ("name", "answer", "trades", "withdraws"),
    [
        ("binance-spot", {"canTrade": True, "canWithdraw": True, "balances": []}, True, False),
        ("binance-spot", {"canTrade": False, "balances": []}, False, False),
        ("bybit-spot", bybit(0, "SpotTrade"), True, False),
        ("bybit-spot", bybit(1, "SpotTrade"), False, False),
        ("bybit-spot", bybit(0), False, False),
        ("okx-spot", okx("read_only"), False, False),
        ("okx-spot", okx("read_only,trade"), True, False),
        ("okx-spot", okx("read_only,withdraw,trade"), True, True),
        ("okx-spot", okx("read_only,withdraw"), False, False),
        ("coinbase", coinbase(trade=True, transfer=False), True, False),
        ("coinbase", coinbase(trade=False, transfer=False), False, False),
        ("coinbase", coinbase(trade=True, transfer=True), True, True),
    ],
)
def test_what_a_key_may_do(name: str, answer: Any, trades: bool, withdraws: bool) -> None:
    definition = load(name)
    draft = definition.plain_draft("key_permissions", NOW_NS)
    response = HttpResponse(status=200, headers={}, body=json.dumps(answer).encode())
    assert definition.permissions(draft, response) == (trades, withdraws)


@pytest.mark.parametrize(
    ("name", "status", "answer"),
    [
        ("binance-spot", 401, {"code": -2015, "msg": "Invalid API-key."}),
        ("bybit-spot", 200, {"retCode": 10003, "retMsg": "API key is invalid."}),
        ("okx-spot", 200, {"code": "50111", "msg": "Invalid OK-ACCESS-KEY", "data": []}),
        ("coinbase", 401, {"error": "unauthorized", "message": "Unauthorized"}),
    ],
)
def test_a_wrong_key_is_no_answer(name: str, status: int, answer: Any) -> None:
    definition = load(name)
    draft = definition.plain_draft("key_permissions", NOW_NS)
    response = HttpResponse(status=status, headers={}, body=json.dumps(answer).encode())
    with pytest.raises(VenueError) as caught:
        definition.permissions(draft, response)
    assert caught.value.reason == "AUTH"
