"""`python -m benchmarks.dydx`: orders of dYdX, against the official client on the same local chain.

TRADEGW_DYDX_CLIENT names the Python of an environment with the official client; `nox -s dydx-client -- bench`
makes one. Both sides build, sign and place the same orders in the same run, one after the other.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tradegw_dydx.chain import fetch_account
from tradegw_dydx.nodes import open_nodes
from tradegw_dydx.orders import ChainOrder, ChainOrderId, OrderFlags
from tradegw_dydx.signing import Signer
from tradegw_dydx.tx import TxTerms, sign
from tradegw_dydx.wallet import Wallet

COUNT = 2_000
PLACED = 600
CALLERS = 32
PEER = Path(__file__).parents[1] / "plugins" / "tradegw-dydx" / "tests" / "official" / "peer.py"
CHAIN_ID = "localdydxprotocol"
HEIGHT = 20
MARKET = {
    "clobPairId": "0",
    "atomicResolution": -10,
    "quantumConversionExponent": -9,
    "stepBaseQuantums": 1_000_000,
    "subticksPerTick": 100_000,
}


def _orders(owner: str, first: int, count: int) -> list[ChainOrder]:
    """Return short-term orders that rest far from the market."""
    return [
        ChainOrder(
            order_id=ChainOrderId(
                owner=owner,
                subaccount=0,
                client_id=number,
                flags=OrderFlags.SHORT_TERM,
                clob_pair_id=0,
            ),
            side=1,
            quantums=1_000_000,
            subticks=100_000_000,
            good_til_block=HEIGHT,
            client_metadata=2,
        )
        for number in range(first, first + count)
    ]


def _question(mnemonic: str, owner: str, first: int, count: int) -> list[dict[str, Any]]:
    """Return the same orders in the words of the official client's side."""
    return [
        {
            "what": "place",
            "mnemonic": mnemonic,
            "owner": owner,
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
            "size": "0.0001",
            "price": "1000",
            "trigger": "",
            "time_in_force": 0,
            "reduce_only": False,
            "condition_type": 0,
            "good_til_block": HEIGHT,
        }
        for number in range(first, first + count)
    ]


def _theirs(python: str, asked: dict[str, Any]) -> float:
    done = subprocess.run(
        [python, PEER], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    seconds: float = json.loads(done.stdout)["seconds"]
    return seconds


def _signed(wallet: Wallet) -> float:
    terms = TxTerms(chain_id=CHAIN_ID, account_number=33, sequence=0)
    orders = _orders(wallet.address, 0, COUNT)
    started = time.perf_counter()
    for order in orders:
        sign([order.to_message()], terms, wallet)
    return time.perf_counter() - started


async def _placed(node: str, mnemonic: str, first: int, callers: int) -> float:
    """Place orders as the venue does: signed by its worker, sent by its nodes."""
    signer = await Signer.open(lambda: Wallet.from_mnemonic(mnemonic))
    async with open_nodes([node], timeout_s=20.0) as nodes:
        await nodes.look()
        owner = signer.wallet.address
        account = await fetch_account(nodes, owner)
        terms = TxTerms(chain_id=CHAIN_ID, account_number=account.number, sequence=0)
        waiting = iter(_orders(owner, first, PLACED))

        async def caller() -> None:
            for order in waiting:
                tx = await signer.sign([order.to_message()], terms)
                [attempt] = await nodes.broadcast(tx)
                assert attempt.verdict is not None
                assert attempt.verdict.code == 0, attempt

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())
        seconds = time.perf_counter() - started
    signer.close()
    return seconds


async def _serve() -> None:
    """Serve a local chain that stands still, without limits, until the caller is done."""
    from tradegw_dydx.localnet import Settings, open_localnet

    settings = Settings(house=False, short_term_limits=(), requests_per_window=100_000)
    async with open_localnet(settings) as net:
        serving = net.serving
        told = {
            "node": serving.grpc[0],
            "indexer_rest": serving.indexer_rest,
            "indexer_ws": serving.indexer_ws,
            "accounts": [[a.address, a.mnemonic] for a in serving.accounts],
        }
        print(json.dumps(told), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def _row(what: str, count: int, ours: float, theirs: float) -> None:
    print(
        f"{what}: {count / ours:.0f}/s; official client: {count / theirs:.0f}/s; "
        f"ratio {theirs / ours:.2f}"
    )


def main(args: Sequence[str]) -> None:
    """Print one line for each comparison."""
    if args == ["serve"]:
        asyncio.run(_serve())
        return
    python = os.environ.get("TRADEGW_DYDX_CLIENT")
    if not python:
        sys.exit("not run: TRADEGW_DYDX_CLIENT names no Python with the official client")
    serve = [sys.executable, "-m", "benchmarks.dydx", "serve"]
    with subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as chain:
        assert chain.stdin is not None
        assert chain.stdout is not None
        net = json.loads(chain.stdout.readline())
        owner, mnemonic = net["accounts"][0]
        wallet = Wallet.from_mnemonic(mnemonic)
        theirs = _theirs(python, {"what": "time", "orders": _question(mnemonic, owner, 0, COUNT)})
        for signer in ["coincurve", "cosmpy"] if wallet.is_fast else ["cosmpy"]:
            if signer == "cosmpy":
                wallet.sign_plainly()
            _row(f"build and sign, {signer}", COUNT, _signed(wallet), theirs)
        theirs = _theirs(
            python,
            {"what": "placements", **net, "orders": _question(mnemonic, owner, 0, PLACED)},
        )
        for round_, callers in enumerate((1, CALLERS), 1):
            node = f"http://{net['node']}"
            ours = asyncio.run(_placed(node, mnemonic, round_ * PLACED, callers))
            _row(f"placements, {callers} at once", PLACED, ours, theirs)
        chain.stdin.close()


if __name__ == "__main__":
    main(sys.argv[1:])
