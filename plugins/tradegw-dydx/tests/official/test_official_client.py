"""The official client, unmodified, against the local chain. It needs an environment of its own."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import msgspec
import pytest
from tradegw_dydx.localnet.genesis import Settings
from tradegw_dydx.localnet.localnet import open_localnet

PYTHON = os.environ.get("TRADEGW_DYDX_CLIENT")
pytestmark = pytest.mark.skipif(
    not PYTHON,
    reason="TRADEGW_DYDX_CLIENT names no Python with dydx-v4-client; `nox -s dydx-client` makes one",
)


async def test_it_trades() -> None:
    async with open_localnet(Settings(nodes=3)) as net:
        assert PYTHON is not None
        process = await asyncio.create_subprocess_exec(
            PYTHON,
            str(Path(__file__).with_name("trade.py")),
            msgspec.json.encode(net.serving).decode(),
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate()
        assert process.returncode == 0
        assert json.loads(told) == {
            "account_number": 1,
            "address": "dydx14zzueazeh0hj67cghhf9jypslcf9sh2n5k6art",
            "place": 0,
            "orders": [["1", "BEST_EFFORT_OPENED"]],
            "cancel": 0,
            "take": 0,
            "fills": [["BUY", "0.01", "TAKER"]],
            "positions": [["BTC-USD", "LONG", "0.01"]],
            "streamed": ["0.01"],
            "perpetuals_on_chain": 1,
            "batch_places": [0, 0],
            "batch_cancel": 0,
            "left_after_batch": [],
            "long_term": 0,
            "tx_messages": ["/dydxprotocol.clob.MsgPlaceOrder"],
            "long_term_status": ["OPEN"],
            "cancel_long_term": 0,
            "long_term_after": ["CANCELED"],
            "deposit": 0,
            "second_subaccount": "5",
            "transfer": 0,
            "add_authenticator": 0,
            "permissioned_place": 0,
            "permissioned_cancel": ["dydxaccountplus", 104],
            "pairs": 3,
            "pair": 1_000_000,
            "prices": 3,
            "price": -5,
            "perpetuals": ["BTC-USD", "ETH-USD", "SOL-USD"],
            "fees": [[100, 500]],
            "my_fee_tier": "1",
            "coins": ["adv4", "ibc/"],
            "coin": True,
            "all_subaccounts": 5,
            "tiers": 6,
            "height": "7",
            "time": ["epoch", "iso"],
            "book": [True, True],
            "trades": ["0.01"],
            "subaccounts": [0, 1],
            "assets": ["USDC"],
            "max_client_id": 2**32 - 1,
            "gaps": [],
        }
        # What it did is what the chain holds.
        ledger = net.ledger()
        assert {order["versions"] for order in ledger["orders"]} == {1}
        [first] = [item for item in ledger["subaccounts"] if item["positions"]]
        assert first["positions"] == {"BTC-USD": "0.01"}
