"""`tradegw mock serve` as people and other processes meet it: started, killed, started again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from tradegw_mock.config import MockConfig, read_address
from tradegw_mock.native.remote import open_remote
from tradegw_mock.requests import AnswerError
from tradegw_mock.testing import LedgerClient, MockProcess

from tradegw import ExecType, OrdStatus, OutcomeUnknown, VenueError
from tradegw.venue import StreamGap, StreamReady

from .venue_helpers import (
    Account,
    D,
    ImpatientRuntime,
    Runtime,
    a_market_order,
    an_order,
    next_report,
)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tradegw_mock", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class WallRuntime(ImpatientRuntime):
    """Its clock is that of the process on the other side."""

    def time_ns(self) -> int:
        import time

        return time.time_ns()


@asynccontextmanager
async def remote(url: str, runtime: Runtime | None = None) -> AsyncGenerator[Account]:
    runtime = runtime or WallRuntime(account="account-1")
    async with open_remote(MockConfig(url=url), runtime, rng=random.Random(1)) as venue:
        yield Account(venue, runtime)


def test_the_first_line_says_what_is_served() -> None:
    with MockProcess(accounts=["a", "b"]) as exchange:
        serving = exchange._serving
        assert serving is not None
        assert serving.pid == exchange.pid
        assert [account.name for account in serving.accounts] == ["a", "b"]
        host, port = read_address(serving.native)
        assert host == "127.0.0.1"
        at = serving.rest.removeprefix("http://")
        assert (serving.ws_api, serving.stream) == (f"ws://{at}/ws-api/v3", f"ws://{at}/ws")
        assert serving.admin == f"http://{at}/admin"
        with urllib.request.urlopen(f"{serving.rest}/api/v3/ping", timeout=10) as answer:
            assert json.load(answer) == {}
        with socket.create_connection((host, port), timeout=10):
            pass
        with exchange.ledger() as ledger:
            books = ledger.read()
        assert [account.name for account in books.accounts] == ["a", "b"]
        assert books.balances["a"]["BTC"].free == 10
        assert exchange.stop() == 0


def test_people_get_a_line_to_copy(tmp_path: Path) -> None:
    path = tmp_path / "exchange.db"
    command = [sys.executable, "-m", "tradegw_mock", "serve", "--port", "0", "--store", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first, second, third, last = (process.stdout.readline() for _ in range(4))
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
    assert "http://127.0.0.1:" in first
    assert "account-1: key " in second
    assert "account-2: key " in third
    assert 'url = "127.0.0.1:' in last
    assert str(path) in last


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["serve", "--store", "/proc/none/exchange.db"], "cannot be opened"),
        (["serve", "--config", "/proc/none/mock.toml"], "/proc/none/mock.toml"),
        (["ledger", "--url", "127.0.0.1:1"], "refused"),
        (["ledger", "--url", "nowhere"], "HOST:PORT"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(words: list[str], expected: str) -> None:
    done = run(*words, *(["--port", "0"] if words[0] == "serve" else []))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("tradegw mock: ")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('accounts = [{name = "maker"}]', "exchange's own"),
        ('accounts = [{name = "no blanks"}]', "BAD_ACCOUNT_NAME"),
        ('accounts = [{name = "a", balances = {USDT = "many"}}]', "balances.USDT"),
        ('accounts = [{name = "a", api_key = "k2345678"}]', "go together"),
        ('accounts = [{name = "a", api_key = "k", api_secret = "s"}]', "BAD_API_KEY"),
        ("liquidity = 1", "liquidity"),
        ("native_port = 70000", "native_port"),
        ("step_interval_s = -1", "step_interval_s"),
        ("nonsense = 1", "nonsense"),
        ("= 1", "mock.toml"),
    ],
)
def test_settings_that_cannot_be_are_said_in_one_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = tmp_path / "mock.toml"
    path.write_text(text)
    done = run("serve", "--port", "0", "--config", str(path))
    assert done.returncode == 1
    assert done.stderr.startswith("tradegw mock: ")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_or_a_file_in_use_is_said(tmp_path: Path) -> None:
    path = tmp_path / "exchange.db"
    with MockProcess(store=path) as exchange:
        done = run("serve", "--port", "0", "--store", str(path))
        assert done.returncode == 1
        assert "another process" in done.stderr
        done = run("serve", "--port", str(read_address(exchange.url)[1]))
        assert done.returncode == 1
        assert "in use" in done.stderr


async def test_kill_and_restart_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    """Many orders on their way, the process killed among them, and its own books compared."""
    with MockProcess(store=tmp_path / "exchange.db") as exchange:
        answered: dict[str, Decimal] = {}
        unknown: list[str] = []
        async with remote(exchange.url) as account:
            half_way = asyncio.Event()

            async def trade(name: str) -> None:
                order = a_market_order(name) if name.endswith("m") else an_order(name)
                try:
                    reports = await account.place(order)
                except OutcomeUnknown:
                    unknown.append(name)
                    return
                except VenueError:
                    return
                assert reports[-1].cum_qty is not None
                answered[name] = reports[-1].cum_qty
                if len(answered) == 100:
                    half_way.set()

            async with asyncio.TaskGroup() as group:
                for number in range(400):
                    group.create_task(trade(f"c{number}{'m' if number % 2 else ''}"))
                await half_way.wait()
                exchange.kill()
            assert len(answered) >= 100
            exchange.start()
            with exchange.ledger() as ledger:
                books = ledger.read("account-1")
            orders = {order.client_order_id: order for order in books.orders}
            assert {name: orders[name].cum_qty for name in answered} == answered
            # Each once; those of whom nobody knew are there or not, whole.
            assert len(orders) == len(books.orders)
            assert set(orders) <= set(answered) | set(unknown)
            for order in books.orders:
                fills = [fill.qty for fill in books.fills if fill.order_id == order.order_id]
                assert sum(fills, Decimal(0)) == order.cum_qty
            for name in unknown:
                found = await account.status(name)
                assert (found is not None) == (name in orders)
        assert exchange.stop() == 0


@pytest.mark.parametrize("durable", [True, False])
def test_keys_stay_the_same_over_a_restart(tmp_path: Path, *, durable: bool) -> None:
    """A bot's configuration still fits."""
    store = tmp_path / "exchange.db" if durable else None
    with MockProcess(store=store, accounts=["a", "b"]) as exchange:
        first = exchange.serving
        exchange.kill()
        exchange.start()
        again = exchange.serving
        assert first.accounts == again.accounts
        assert (first.rest, first.native) == (again.rest, again.native)
        keys = {account.api_key for account in first.accounts}
        assert len(keys) == 2
        assert all(len(a.api_key) == len(a.api_secret) == 64 for a in first.accounts)
        with exchange.ledger() as ledger:
            trail = repr(list(ledger.audit()))
        assert first.accounts[0].api_secret not in trail
        assert first.accounts[0].api_secret not in repr(first)
    account = {"name": "a", "api_key": "mine-0001", "api_secret": "secret"}
    with MockProcess(store=store, config={"accounts": [account]}) as exchange:
        assert exchange.serving.accounts[0].api_key == "mine-0001"


async def test_the_stream_survives_a_restart(tmp_path: Path) -> None:
    with MockProcess(store=tmp_path / "exchange.db") as exchange:
        async with remote(exchange.url) as account:
            items = account.hooks.stream(0)
            first = await anext(items)
            await account.place(an_order("c1"))
            assert (await next_report(items)).venue_client_order_id == "c1"
            exchange.kill()
            exchange.start()
            while not isinstance(item := await anext(items), StreamGap):
                pass
            again = await anext(items)
            assert isinstance(first, StreamReady)
            assert isinstance(again, StreamReady)
            assert again.instance_id == first.instance_id
            (cancelled,) = await account.cancel(an_order("c1"))
            assert cancelled.exec_type is ExecType.CANCELED
            assert (await next_report(items)).exec_type is ExecType.CANCELED
            assert item.why


async def test_an_exchange_that_forgets_begins_anew() -> None:
    with MockProcess() as exchange:
        async with remote(exchange.url) as account:
            items = account.hooks.stream(0)
            first = await anext(items)
            await account.place(an_order("c1"))
            exchange.kill()
            exchange.start()
            while not isinstance(again := await anext(items), StreamReady):
                pass
            assert isinstance(first, StreamReady)
            assert again.instance_id != first.instance_id
            assert await account.status("c1") is None


async def test_sigterm_ends_streams_with_a_word() -> None:
    with MockProcess() as exchange:
        async with remote(exchange.url) as account:
            items = account.hooks.stream(0)
            assert isinstance(await anext(items), StreamReady)
            reports = await account.place(a_market_order())
            assert reports[-1].ord_status is OrdStatus.FILLED
            stopping = asyncio.create_task(asyncio.to_thread(exchange.stop))
            while not isinstance(item := await anext(items), StreamGap):
                pass
            assert "shuts down" in item.why
            assert await stopping == 0


async def test_the_ledger_command_prints_the_exchanges_own_books(tmp_path: Path) -> None:
    with MockProcess(store=tmp_path / "exchange.db") as exchange:
        async with remote(exchange.url) as account:
            await account.place(a_market_order("m1"))
            await account.place(an_order("c1"))
        done = await asyncio.to_thread(
            run, "ledger", "--url", exchange.url, "--account", "account-1", "--json"
        )
        assert done.returncode == 0, done.stderr
        books = json.loads(done.stdout)
        assert [(o["client_order_id"], o["ord_status"]) for o in books["orders"]] == [
            ("m1", "FILLED"),
            ("c1", "NEW"),
        ]
        assert [f["qty"] for f in books["fills"]] == ["0.01"]
        assert D(books["balances"]["account-1"]["USDT"]["held"]) == 600

        people = await asyncio.to_thread(run, "ledger", "--url", exchange.url)
        assert "order" in people.stdout
        assert "balance account-1 USDT" in people.stdout
        audit = await asyncio.to_thread(run, "ledger", "--url", exchange.url, "--audit")
        lines = [json.loads(line) for line in audit.stdout.splitlines()]
        placed = [x for x in lines if x["detail"].get("operation") == "PLACE"]
        assert [x["detail"]["client_order_id"] for x in placed] == ["m1", "c1"]
        with LedgerClient(exchange.url) as ledger:
            assert len(list(ledger.audit("account-1"))) < len(list(ledger.audit()))
            with pytest.raises(AnswerError):
                ledger.balances("nobody")


def test_a_mock_that_does_not_start_says_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="exit 1"):
        MockProcess(store=tmp_path / "no" / "such" / "folder.db").start()


def test_no_process_is_left_behind() -> None:
    with MockProcess() as exchange:
        pid = exchange.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
