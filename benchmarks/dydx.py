"""`python -m benchmarks.dydx`: building and signing an order, against the official client.

TRADEGW_DYDX_CLIENT names the Python of an environment with the official client; `nox -s dydx-client --
bench` makes one. Both sides build the same orders in the same run, one after the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tradegw_dydx.orders import ChainOrder, ChainOrderId, OrderFlags
from tradegw_dydx.tx import TxTerms, sign
from tradegw_dydx.wallet import Wallet

COUNT = 2_000
PEER = Path(__file__).parents[1] / "plugins" / "tradegw-dydx" / "tests" / "official" / "peer.py"
WORDS = " ".join(["abandon"] * 11 + ["about"])
CHAIN_ID = "localdydxprotocol"
MARKET = {
    "clobPairId": "0",
    "atomicResolution": -10,
    "quantumConversionExponent": -9,
    "stepBaseQuantums": 1_000_000,
    "subticksPerTick": 100_000,
}


def _ours(wallet: Wallet) -> float:
    terms = TxTerms(chain_id=CHAIN_ID, account_number=33, sequence=0)
    started = time.perf_counter()
    for number in range(COUNT):
        order = ChainOrder(
            order_id=ChainOrderId(
                owner=wallet.address,
                subaccount=0,
                client_id=number,
                flags=OrderFlags.SHORT_TERM,
                clob_pair_id=0,
            ),
            side=1,
            quantums=100_000_000,
            subticks=6_400_000_000,
            good_til_block=1_000_040,
            client_metadata=2,
        )
        sign([order.to_message()], terms, wallet)
    return time.perf_counter() - started


def _theirs(python: str) -> float:
    orders: list[dict[str, Any]] = [
        {
            "what": "place",
            "mnemonic": WORDS,
            "owner": "",
            "account_number": 33,
            "sequence": 0,
            "chain_id": CHAIN_ID,
            "memo": "",
            "authenticators": [],
            "market": MARKET,
            "subaccount": 0,
            "client_id": number,
            "flags": 0,
            "side": 1,
            "size": "0.01",
            "price": "64000",
            "trigger": "",
            "time_in_force": 0,
            "reduce_only": False,
            "condition_type": 0,
            "good_til_block": 1_000_040,
        }
        for number in range(COUNT)
    ]
    asked = json.dumps({"what": "time", "orders": orders})
    done = subprocess.run([python, PEER], input=asked, capture_output=True, text=True, check=True)
    seconds: float = json.loads(done.stdout)["seconds"]
    return seconds


def main() -> None:
    """Print one line for each signer that is installed here."""
    python = os.environ.get("TRADEGW_DYDX_CLIENT")
    if not python:
        sys.exit("not run: TRADEGW_DYDX_CLIENT names no Python with the official client")
    theirs = _theirs(python)
    wallet = Wallet.from_mnemonic(WORDS)
    signers = ["coincurve", "cosmpy"] if wallet.is_fast else ["cosmpy"]
    for signer in signers:
        if signer == "cosmpy":
            wallet.sign_plainly()
        ours = _ours(wallet)
        print(
            f"build and sign, {signer}: {COUNT / ours:.0f}/s; official client: {COUNT / theirs:.0f}/s; "
            f"ratio {theirs / ours:.2f}"
        )


if __name__ == "__main__":
    main()
