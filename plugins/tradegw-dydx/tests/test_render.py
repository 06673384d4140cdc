"""`tradegw dydx render`: the bytes of an order, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tradegw_dydx.wire import messages as wire

from .keys import M1, M2

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
V1 = {
    "symbol": "BTC/USD:USDC",
    "side": "BUY",
    "ord_type": "LIMIT",
    "order_qty": "0.01",
    "price": "64000",
    "venue_client_order_id": 12345,
    "order_flags": 0,
    "good_til_block": 1000040,
    "client_metadata": 2,
    "memo": "Client Example",
}
V2 = {
    "symbol": "ETH/USD:USDC",
    "side": "SELL",
    "ord_type": "LIMIT",
    "order_qty": "1.234",
    "price": "3103.0",
    "post_only": True,
    "venue_client_order_id": 4294967295,
    "order_flags": 64,
    "good_til_block_time": 1767225600,
    "subaccount": 3,
    "client_metadata": 2,
    "memo": "Client Example",
}
V6 = {
    "symbol": "BTC-USD",
    "side": "sell",
    "ord_type": "stop_limit",
    "time_in_force": "ioc",
    "order_qty": "0.0001",
    "price": "50000",
    "trigger_price": "55000",
    "reduce_only": True,
    "venue_client_order_id": "777",
    "good_til_block_time": 1767225600,
    "client_metadata": 2,
}
MAINNET = ("--chain-id", "dydx-mainnet-1", "--account-number", "33", "--height", "1000030")
TESTNET = ("--chain-id", "dydx-testnet-4", "--account-number", "0", "--height", "1")


@pytest.fixture
def render(tmp_path):
    def run(what, order, *args, mnemonic=M1, mode=0o600):
        words = tmp_path / "words"
        words.write_text(f"{mnemonic}\n")
        words.chmod(mode)
        text = order if isinstance(order, str) else json.dumps(order)
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "tradegw.transports.cli",
                "dydx",
                "render",
                what,
                "--order",
                text,
                "--mnemonic-file",
                str(words),
                *args,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    return run


@pytest.mark.parametrize(
    ("name", "what", "order", "args", "mnemonic"),
    [
        ("V1", "place", V1, (*MAINNET, "--sequence", "7"), M1),
        ("V2", "place", V2, (*TESTNET, "--sequence", "0"), M2),
        ("V3", "cancel", {**V1, "good_til_block": 1000041}, (*MAINNET, "--sequence", "7"), M1),
        (
            "V4",
            "cancel",
            {**V2, "good_til_block_time": 1767225660},
            (*TESTNET, "--sequence", "1"),
            M2,
        ),
        ("V6", "place", V6, (*MAINNET, "--sequence", "1765210316125"), M1),
    ],
)
def test_golden_vectors(render, name, what, order, args, mnemonic):
    done = render(what, order, *args, "--json", mnemonic=mnemonic)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert list(told) == ["order", "sign_bytes", "tx"]
    assert told["tx"] == VECTORS[name]["tx"]
    document = wire.SignDoc.FromString(bytes.fromhex(told["sign_bytes"]))
    assert document.body_bytes.hex() == VECTORS[name]["body"]
    # The order, or the name of the one to cancel, is what the message begins with.
    assert told["order"] in VECTORS[name]["msg"]
    if what == "place":
        message = wire.MsgPlaceOrder.FromString(bytes.fromhex(VECTORS[name]["msg"]))
        assert told["order"] == message.order.SerializeToString().hex()


def test_heights_and_kinds_are_chosen_when_the_order_brings_none(render):
    order = {k: v for k, v in V1.items() if k not in ("order_flags", "good_til_block")}
    done = render("place", {**order, "time_in_force": "IOC"}, *MAINNET, "--sequence", "0", "--json")
    assert done.returncode == 0, done.stderr
    placed = wire.Order.FromString(bytes.fromhex(json.loads(done.stdout)["order"]))
    assert placed.order_id.order_flags == 0
    assert placed.good_til_block == 1_000_035
    assert placed.time_in_force == 1


def test_another_market_comes_from_the_indexers_words(render):
    market = {
        "clobPairId": "7",
        "ticker": "AVAX-USD",
        "atomicResolution": -7,
        "quantumConversionExponent": -9,
        "stepBaseQuantums": 1000000,
        "subticksPerTick": 1000000,
    }
    order = {**V1, "symbol": "AVAX/USD:USDC", "order_qty": "0.3", "price": "0.29"}
    for told in (market, {"markets": {"AVAX-USD": market}}):
        done = render(
            "place",
            order,
            *MAINNET,
            "--sequence",
            "0",
            "--instrument",
            json.dumps(told),
            "--json",
        )
        assert done.returncode == 0, done.stderr
        placed = wire.Order.FromString(bytes.fromhex(json.loads(done.stdout)["order"]))
        assert (placed.order_id.clob_pair_id, placed.quantums, placed.subticks) == (
            7,
            3_000_000,
            29_000_000,
        )


@pytest.mark.parametrize(
    ("order", "more", "told"),
    [
        pytest.param({**V1, "order_qty": "0.00015"}, {}, "0.0001 and 0.0002", id="off the grid"),
        pytest.param({**V1, "time_in_force": "FOK"}, {}, "fill-or-kill", id="FOK"),
        pytest.param({**V1, "venue_client_order_id": 2**32}, {}, "4294967295", id="id too large"),
        pytest.param({**V1, "order_flags": 7}, {}, "order_flags is one of", id="no such kind"),
        pytest.param({**V1, "order_flags": 64}, {}, "found the other", id="wrong end"),
        pytest.param({**V1, "symbol": "DOGE/USD:USDC"}, {}, "--instrument", id="no sample"),
        pytest.param({**V1, "colour": "red"}, {}, "colour", id="unknown field"),
        pytest.param("{", {}, "--order cannot be read", id="no JSON"),
        pytest.param(V1, {"mnemonic": "wait"}, "12, 15, 18, 21 or 24 words", id="no mnemonic"),
        pytest.param(V1, {"mode": 0o644}, "may be read by others", id="open file"),
    ],
)
def test_refusals_are_clear(render, order, more, told):
    done = render("place", order, *MAINNET, "--sequence", "7", "--json", **more)
    assert done.returncode == 1
    assert told in done.stderr
    assert not done.stdout
    assert "mirror" not in done.stderr


def test_the_readmes_command_runs(tmp_path):
    page = Path(__file__).parent.parent.joinpath("README.md").read_text("utf-8")
    [block] = [b for b in page.split("```console\n")[1:] if "dydx render" in b]
    command = block.split("```")[0].removeprefix("$ ")
    words = tmp_path / "words"
    words.write_text(M1)
    words.chmod(0o600)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"order", "sign_bytes", "tx"}
