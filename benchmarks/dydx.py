"""`python -m benchmarks.dydx`: orders of dYdX, against the official client on the same local chain.

TRADEGW_DYDX_CLIENT names the Python of an environment with the official client; `nox -s dydx-client -- bench`
makes one. Both sides build, sign and place the same orders in the same run, one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tradegw_dydx.chain import fetch_account
from tradegw_dydx.nodes import open_nodes
from tradegw_dydx.orders import ChainOrder, ChainOrderId, OrderFlags
from tradegw_dydx.signing import Signer
from tradegw_dydx.tx import TxTerms, sign
from tradegw_dydx.wallet import Wallet

import tradegw

COUNT = 2_000
PLACED = 600
CALLERS = 32
DEADLINE_S = 1.0
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


class _Hole:
    """A node's door that passes everything on until it falls silent: then it takes all and says nothing."""

    def __init__(self) -> None:
        self.is_silent = False
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, node: str) -> AsyncIterator[str]:
        """Listen; yields the address."""
        host, port = node.rsplit(":", 1)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            theirs, ours = await asyncio.open_connection(host, int(port))
            for source, sink in ((reader, ours), (theirs, writer)):
                task = asyncio.create_task(self._pass(source, sink))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                if not self.is_silent:
                    sink.write(data)


async def _longest_gap_s(until: asyncio.Event) -> float:
    """Return for how long at most the loop was not free, until an event."""
    longest_s, last_s = 0.0, time.perf_counter()
    while not until.is_set():
        await asyncio.sleep(0.001)
        now_s = time.perf_counter()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    return longest_s


async def _silence(net: dict[str, Any], scratch: Path) -> str:
    """Place orders through a gateway whose node never answers; tell how the loop and the callers fared."""
    words = scratch / "words"
    words.touch(mode=0o600)
    words.write_text(net["accounts"][1][1])
    hole = _Hole()
    async with (
        hole.open(net["node"]) as node,
        tradegw.open(
            {
                "store": {"url": f"sqlite:///{scratch}/tradegw.db"},
                "venues": {
                    "dydx": {
                        "plugin": "dydx",
                        "network": "localnet",
                        "nodes": [node],
                        "indexer_rest": net["indexer_rest"],
                        "indexer_ws": net["indexer_ws"],
                    }
                },
                "accounts": {"quiet": {"venue": "dydx", "mnemonic": f"file:{words}"}},
            }
        ) as gateway,
    ):
        while (await gateway.list_venues())[0].accounts[0].state != "READY":  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.05)
        done = asyncio.Event()
        idle = asyncio.create_task(_longest_gap_s(done))
        await asyncio.sleep(2)
        done.set()
        idle_s = await idle
        hole.is_silent = True
        done.clear()
        busy = asyncio.create_task(_longest_gap_s(done))
        waited: list[float] = []

        async def place() -> None:
            started = time.perf_counter()
            with contextlib.suppress(TimeoutError, tradegw.Unavailable):
                async with asyncio.timeout(DEADLINE_S):
                    await gateway.place_order(
                        account="quiet",
                        symbol="BTC/USD:USDC",
                        side="buy",
                        ord_type="market",
                        time_in_force="IOC",
                        order_qty="0.001",
                    )
            waited.append(time.perf_counter() - started)

        for _ in range(5):
            await asyncio.gather(*(place() for _ in range(CALLERS)))
        done.set()
        busy_s = await busy
    return (
        f"a node that never answers, {CALLERS} callers: loop not free for at most {busy_s * 1e3:.0f} ms "
        f"(idle: {idle_s * 1e3:.0f} ms); callers with a deadline of {DEADLINE_S:.0f} s waited at most "
        f"{max(waited):.2f} s"
    )


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
        with tempfile.TemporaryDirectory() as scratch:
            print(asyncio.run(_silence(net, Path(scratch))))
        chain.stdin.close()


if __name__ == "__main__":
    main(sys.argv[1:])
