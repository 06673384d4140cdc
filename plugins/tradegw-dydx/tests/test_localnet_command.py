"""`tradegw dydx localnet` as people and programs meet it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from tradegw_dydx.cli import make_app
from tradegw_dydx.localnet import Serving
from tradegw_dydx.localnet.genesis import ACCOUNTS
from tradegw_dydx.localnet.serve import for_people

from .localnet_client import Client, a_cancel, an_order

COMMAND = [sys.executable, "-m", "tradegw.transports.cli", "dydx", "localnet"]
README = Path(__file__).parents[1] / "README.md"


@contextmanager
def localnet(*words):
    """Run the command; yield its first line, and see it end well."""
    ports = ("--grpc-port", "0", "--indexer-port", "0")
    with subprocess.Popen([*COMMAND, *ports, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


async def test_the_first_line_says_what_is_served():
    with localnet("--json", "--nodes", "3", "--block-time", "0") as line:
        told = json.loads(line)
        assert list(told) == ["chain_id", "grpc", "indexer_rest", "indexer_ws", "accounts"]
        assert told["chain_id"] == "localdydxprotocol"
        assert len(told["grpc"]) == 3
        assert told["indexer_ws"] == told["indexer_rest"].replace("http", "ws") + "/v4/ws"
        assert [list(item) for item in told["accounts"]] == [["name", "address", "mnemonic"]] * 3
        assert told["accounts"][0]["name"] == "account-1"
        async with Client(told) as client:
            order = an_order()
            assert await client.place(order, node=2) == ("", 0)
            # Blocks come by command alone.
            assert await client.height(0) == 1
            assert (await client.step(5))["height"] == 6
            assert await client.height(1) == 6
            assert client.height_header == "6"
            assert await client.place(a_cancel_of(order), node=1) == ("", 0)


def a_cancel_of(order):
    """A cancel that the client can send like an order."""
    message = a_cancel(order)

    class Cancel:
        order_id = order.order_id

        def to_message(self):
            return message

    return Cancel()


def test_people_get_lines_to_copy():
    serving = Serving(
        chain_id="localdydxprotocol",
        grpc=("127.0.0.1:1", "127.0.0.1:2"),
        indexer_rest="http://127.0.0.1:3",
        indexer_ws="ws://127.0.0.1:3/v4/ws",
        accounts=ACCOUNTS,
    )
    first, nodes, indexer, admin, *accounts = for_people(serving, 0.6).splitlines()
    assert first.startswith("chain localdydxprotocol, a block every 0.6 s")
    assert nodes == "nodes    127.0.0.1:1, 127.0.0.1:2"
    assert "ws://127.0.0.1:3/v4/ws" in indexer
    assert admin.endswith("http://127.0.0.1:3/admin")
    assert ACCOUNTS[0].mnemonic in accounts[1]
    assert "by command" in for_people(serving, 0)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--nodes", "0"], "--nodes is 1 to 32; found 0"),
        (["--block-time", "-1"], "--block-time is 0 to 3600 seconds; found -1.0"),
        (["--walk-ppm", "-1"], "--walk-ppm is 0 to 100000; found -1"),
        (["--grpc-port", "99999", "--indexer-port", "0"], "port must be 0-65535"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(words, expected, capsys):
    with pytest.raises(SystemExit) as e:
        make_app()(["localnet", *words])
    assert e.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tradegw dydx: ")
    assert expected in err
    assert err.count("\n") == 1


def test_a_port_that_is_taken_is_said_in_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for ports in (
            ("--grpc-port", port, "--indexer-port", "0"),
            ("--grpc-port", "0", "--indexer-port", port),
        ):
            with pytest.raises(SystemExit) as e:
                make_app()(["localnet", *ports])
            assert e.value.code == 1
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith("tradegw dydx: ")
            assert port in err
            assert err.count("\n") == 1


# --- the README -----------------------------------------------------------------------------------


def test_the_snippets_of_the_readme_run():
    """The shell lines go to a chain on free ports; the rest of each line is as it stands there."""
    text = README.read_text()
    section = text[text.index("## A chain on your laptop") :]
    section = section[: section.index("\n## ", 3)]
    blocks = [part.split("```")[0] for part in section.split("```sh\n")[1:]]
    start, *rest = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert start == "tradegw dydx localnet --nodes 3"
    assert rest
    with localnet("--json", "--nodes", "3", "--block-time", "0.05", "--walk-ppm", "50") as line:
        told = json.loads(line)
        for shown in rest:
            done = subprocess.run(
                ["bash", "-c", shown.replace("http://127.0.0.1:3002", told["indexer_rest"])],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, (shown, done.stderr)
            assert "errors" not in json.loads(done.stdout), shown
        # Blocks come by time, and the oracle has moved: by command, then by itself.
        assert json.loads(_ask(told, "/admin"))["height"] > 10
        oracle = json.loads(_ask(told, "/v4/perpetualMarkets?ticker=BTC-USD"))
        assert oracle["markets"]["BTC-USD"]["oraclePrice"] != "89919.2"
        for python in section.split("```python\n")[1:]:
            code = python.split("```")[0].replace("127.0.0.1:9090", told["grpc"][0])
            done = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("height ")
        assert _ask(told, "/admin/faults") == "[]"


def _ask(told, path):
    with urllib.request.urlopen(told["indexer_rest"] + path, timeout=60) as answer:
        return answer.read().decode()
