"""The guard with real processes: limits, halts, bots that are killed or frozen, a venue that is dead."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from tradegw_mock.testing import MockProcess

import tradegw
from tests.e2e.ledgers import all_fills, all_orders, check_claim, exchange_trades, told_trades
from tests.e2e.orders import is_settled
from tests.e2e.processes import REPOSITORY, environment, serving, until, write_config
from tests.e2e.processes import tradegw as run_tradegw
from tradegw import Gateway, Order, OrderId, OrdStatus, Origin, Unavailable

BOT = Path(__file__).with_name("leased_bot.py")
RESTS: dict[str, Any] = {
    "account": "paper",
    "symbol": "BTC/USDT",
    "side": "buy",
    "ord_type": "limit",
    "order_qty": "0.001",
    "price": "30000",
}


# --- limits, from deposit to settled balance -----------------------------------------------------------


LIMITS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "notional": ({"max_order_notional": "100"}, {"order_qty": "1"}, "LIMIT_ORDER_NOTIONAL"),
    "collar": ({"price_collar_bps": "2000"}, {"price": "900000"}, "LIMIT_PRICE_COLLAR"),
    "symbols": (
        {"symbols": ["BTC/USDT"]},
        {"symbol": "ETH/USDT", "price": "1000", "order_qty": "0.01"},
        "LIMIT_SYMBOL",
    ),
    "open": ({"max_open_orders": 1}, {}, "LIMIT_OPEN_ORDERS"),
    "day": ({"max_orders_per_day": 12}, {}, "LIMIT_ORDERS_PER_DAY"),
    "second": ({"max_orders_per_second": 2}, {}, "LIMIT_ORDERS_PER_SECOND"),
    "reduce": ({"reduce_only": True}, {}, "LIMIT_REDUCE_ONLY"),
}
"""For each account its limits, what is beyond them, and the reason of the refusal."""


async def test_each_limit_refuses_with_its_code_while_good_orders_flow(
    exchange: MockProcess, tmp_path: Path
) -> None:
    """At the end the balance is the deposit and what was traded, at the exchange and here."""
    accounts = {
        name: {"venue": "mock", "exchange_account": name, "limits": limits}
        for name, (limits, _, _) in LIMITS.items()
    }
    free = {"venue": "mock", "exchange_account": "free"}
    config = write_config(tmp_path, {"mock": exchange.url}, {**accounts, "free": free})
    async with tradegw.open(config) as gateway:
        deposit = await _balances(gateway, "free")
        await asyncio.gather(
            _buy(gateway, 10), *(_exceed(gateway, name, *LIMITS[name][1:]) for name in LIMITS)
        )
        await until(lambda: is_settled(gateway), 60, "nothing is in doubt")
        orders, fills = await all_orders(gateway), await all_fills(gateway)
        spent = sum((f.last_qty * f.last_px for f in fills), Decimal(0))
        fees = dict.fromkeys(("BTC", "USDT"), Decimal(0))
        for fill in fills:
            if fill.fee is not None and fill.fee_asset is not None:
                fees[fill.fee_asset] += fill.fee

        async def is_settled_up() -> bool:
            now = await _balances(gateway, "free")
            return (
                now["BTC"] == deposit["BTC"] + Decimal("0.01") - fees["BTC"]
                and now["USDT"] == deposit["USDT"] - spent - fees["USDT"]
            )

        await until(is_settled_up, 60, "the balance is the deposit and the fills")
    with exchange.ledger() as client:
        ledger = client.read()
    sent = [order for order in orders if order.acknowledged]
    assert check_claim(sent, ledger).at_exchange == len(sent) == len(ledger.orders)
    assert told_trades(fills) == exchange_trades(ledger)


async def _buy(gateway: Gateway, count: int) -> None:
    for _ in range(count):
        order = await gateway.place_order(
            account="free",
            symbol="BTC/USDT",
            side="buy",
            ord_type="market",
            time_in_force="IOC",
            order_qty="0.001",
        )
        assert order.ord_status is OrdStatus.FILLED, (order.reason, order.text)


async def _exceed(gateway: Gateway, account: str, bad: dict[str, Any], reason: str) -> None:
    """Go on until a limit has refused three times. It never refuses a cancel."""
    reasons: Counter[str] = Counter()
    still_open: list[Order] = []
    while reasons[reason] < 3:
        order = await gateway.place_order(**(RESTS | bad | {"account": account}))
        reasons[order.reason] += 1
        assert reasons[""] < 100
        if order.is_open:
            assert order.ord_status is OrdStatus.NEW
            still_open.append(order)
            if len(still_open) > 1:
                closed = await gateway.cancel_order(still_open.pop().order_id)
                assert closed.ord_status is OrdStatus.CANCELED
        else:
            assert order.ord_status is OrdStatus.REJECTED
            events = await gateway.list_order_events(order.order_id)
            assert [(e.event_type, e.reason) for e in events] == [("REJECTED", reason)]
            if still_open:
                # At once, while the limit stands.
                closed = await gateway.cancel_order(still_open.pop().order_id)
                assert closed.ord_status is OrdStatus.CANCELED
    assert set(reasons) <= {"", reason}
    for order in still_open:
        assert not (await gateway.cancel_order(order.order_id)).is_open


async def _balances(gateway: Gateway, account: str) -> dict[str, Decimal]:
    """Return all that the account has, held for orders or not."""
    return {b.asset: b.free + b.held for b in await gateway.list_balances(account)}


# --- halts ----------------------------------------------------------------------------------------------


async def test_a_halt_in_mid_flow_cancels_what_is_ours_and_holds_up_no_cancel(
    exchange: MockProcess, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """Callers trade through a served gateway; another one has an order on the same account."""
    (tmp_path / "theirs").mkdir()
    paper = {"paper": {"venue": "mock"}}
    free = {"free": {"venue": "mock", "exchange_account": "free"}}
    config = write_config(tmp_path, {"mock": exchange.url}, paper | free)
    theirs = write_config(tmp_path / "theirs", {"mock": exchange.url}, paper)
    with serving(tmp_path, config=config) as served:
        async with tradegw.open(theirs) as other, tradegw.connect(served.grpc) as gateway:
            await until(lambda: is_settled(gateway), 60, "the accounts are ready")
            deposit = await _balances(gateway, "paper")
            strangers = await other.place_order(**RESTS)

            placed: list[Order] = []
            flow = [asyncio.create_task(_place_until_halted(gateway, placed)) for _ in range(16)]
            buys = asyncio.create_task(_buy(gateway, 10))

            async def is_in_flow() -> bool:
                return len(placed) > 48

            await until(is_in_flow, 60, "callers trade", every_s=0)
            await gateway.halt(scope="account:paper", why="drill", by="ops", cancel_open=True)
            await asyncio.gather(*flow, buys)

            async def are_closed() -> bool:
                return not any(o.is_open for o in await _own_orders(gateway))

            await until(are_closed, 60, "what is ours is cancelled")
            ends = Counter(
                "HALTED" if order.reason == "HALTED" else order.ord_status.value
                for order in await _own_orders(gateway)
            )
            assert ends.keys() == {"CANCELED", "HALTED"}
            await _buy(gateway, 2)
            assert (await other.get_order(strangers.order_id)).ord_status is OrdStatus.NEW

            await gateway.resume(scope="account:paper", by="ops")
            rests = [await gateway.place_order(**RESTS) for _ in range(5)]
            await gateway.halt(why="drill", by="ops")
            for order in rests:
                assert (await gateway.place_order(**RESTS)).reason == "HALTED"
                closed = await gateway.cancel_order(order.order_id)
                assert closed.ord_status is OrdStatus.CANCELED
            assert (await other.get_order(strangers.order_id)).ord_status is OrdStatus.NEW
            await other.cancel_order(strangers.order_id)

            async def is_given_back() -> bool:
                balances = await gateway.list_balances("paper")
                return {b.asset: b.free for b in balances} == deposit

            await until(is_given_back, 60, "nothing is held for an order")
            sent = [
                o
                for o in await all_orders(gateway)
                if o.acknowledged and o.origin is Origin.GATEWAY
            ]
        assert await asyncio.to_thread(served.stop) == 0
    with exchange.ledger() as client:
        ledger = client.read()
    ours = [o for o in ledger.orders if o.client_order_id != strangers.venue_client_order_id]
    assert (
        check_claim(sent, msgspec.structs.replace(ledger, orders=ours)).at_exchange
        == len(sent)
        == len(ours)
    )
    tell(f"a halt in mid-flow: {dict(ends)}")


async def _place_until_halted(gateway: Gateway, placed: list[Order]) -> None:
    refused = 0
    while refused < 3:
        order = await gateway.place_order(**RESTS)
        placed.append(order)
        refused += order.reason == "HALTED"


async def _own_orders(gateway: Gateway) -> list[Order]:
    orders = await all_orders(gateway)
    return [o for o in orders if o.account == "paper" and o.origin is Origin.GATEWAY]


# --- bots that vanish -----------------------------------------------------------------------------------


@contextmanager
def a_bot(target: str, lease_s: float, orders: int) -> Iterator[tuple[Any, list[OrderId]]]:
    process = subprocess.Popen(
        [sys.executable, str(BOT), target, str(lease_s), str(orders)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        env=environment(PYTHONPATH=str(REPOSITORY)),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the bot ended early"
        yield process, [OrderId(UUID(text)) for text in json.loads(line)]
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("end", ["killed", "frozen"])
async def test_a_bot_that_vanishes_takes_its_own_orders_with_it(
    exchange: MockProcess, tmp_path: Path, end: str, tell: Callable[[str], None]
) -> None:
    """Killed, its connection breaks; frozen, only its lease tells."""
    lease_s = 3.0
    config = write_config(tmp_path, {"mock": exchange.url}, {"paper": {"venue": "mock"}})
    with serving(tmp_path, config=config) as served:
        async with tradegw.connect(served.grpc) as gateway:
            mine = await gateway.place_order(**RESTS)
            with (
                a_bot(served.grpc, lease_s, 8) as (stays, kept),
                a_bot(served.grpc, lease_s, 8) as (vanishes, lost),
            ):
                vanishes.send_signal(signal.SIGKILL if end == "killed" else signal.SIGSTOP)
                began = time.monotonic()

                async def are_gone() -> bool:
                    orders = [await gateway.get_order(order_id) for order_id in lost]
                    return all(order.ord_status is OrdStatus.CANCELED for order in orders)

                # However slow this machine is: what is tested is that it comes, and to whom.
                await until(are_gone, 60, "the vanished bot's orders are cancelled")
                took_s = time.monotonic() - began
                assert stays.poll() is None
                for order_id in (*kept, mine.order_id):
                    assert (await gateway.get_order(order_id)).is_open
                tell(f"bot {end}: 8 orders cancelled after {took_s:.1f} s, lease {lease_s:g} s")
        assert await asyncio.to_thread(served.stop) == 0
    with exchange.ledger() as client:
        # Those of the bot that stayed were cancelled by the shut-down, the others by nobody.
        still = [order for order in client.read().orders if order.is_open]
    assert len(still) == 1


# --- a dead venue ---------------------------------------------------------------------------------------


async def test_a_dead_venue_and_a_live_gateway(tmp_path: Path, tell: Callable[[str], None]) -> None:
    """One exchange is killed: the other trades on, nothing hangs, and what waited is sent once it is back."""
    with (
        MockProcess(store=tmp_path / "dead.db", accounts=["paper"], seed=1) as dead,
        MockProcess(store=tmp_path / "alive.db", accounts=["paper"], seed=2) as alive,
    ):
        config = write_config(
            tmp_path,
            {"mock-dead": dead.url, "mock-alive": alive.url},
            {
                "dead": {"venue": "mock-dead", "exchange_account": "paper"},
                "alive": {"venue": "mock-alive", "exchange_account": "paper"},
            },
        )
        async with tradegw.open(config) as gateway:
            live = [await gateway.place_order(**(RESTS | {"account": "dead"})) for _ in range(3)]
            dead.kill()

            async def is_known_dead() -> bool:
                order = RESTS | {"account": "dead", "queue_if_unavailable_s": 120.0}
                try:
                    return (await gateway.place_order(**order)).queued
                except Unavailable:
                    return False

            await until(is_known_dead, 60, "the venue is known to be out")
            begun = time.monotonic()
            with pytest.raises(Unavailable):
                await gateway.place_order(**(RESTS | {"account": "dead"}))
            for order in live:
                asked = await gateway.cancel_order(order.order_id)
                assert (asked.ord_status, asked.queued) == (OrdStatus.PENDING_CANCEL, True)
            for _ in range(50):
                order = await gateway.place_order(**(RESTS | {"account": "alive"}))
                assert order.ord_status is OrdStatus.NEW
                assert not (await gateway.cancel_order(order.order_id)).is_open
            took_s = time.monotonic() - begun
            dead.start()

            async def is_done() -> bool:
                orders = await all_orders(gateway)
                ours = [order for order in orders if order.account == "dead"]
                return not any(
                    order.queued or order.in_doubt or order.ord_status is OrdStatus.PENDING_CANCEL
                    for order in ours
                )

            await until(is_done, 60, "what waited has been sent")
            for order in live:
                assert (await gateway.get_order(order.order_id)).ord_status is OrdStatus.CANCELED
            orders = [order for order in await all_orders(gateway) if order.account == "dead"]
        with dead.ledger() as client:
            claim = check_claim([o for o in orders if o.acknowledged], client.read())
        assert claim.at_exchange == claim.orders
        assert sum(order.is_open for order in orders) == 1
        tell(f"a dead venue: 50 orders and cancels at the other one in {took_s:.1f} s")


async def test_what_waits_outlives_the_gateway_and_comes_by_every_door(
    exchange: MockProcess, tmp_path: Path
) -> None:
    config = write_config(tmp_path, {"mock": exchange.url}, {"paper": {"venue": "mock"}})
    words = [
        *("order", "place", "--account", "paper", "--symbol", "BTC/USDT", "--side", "buy"),
        *("--type", "limit", "--qty", "0.001", "--price", "30000", "--json"),
        *("--queue-if-unavailable", "600", "--config", str(config)),
    ]
    with serving(tmp_path, config=config) as served:
        async with tradegw.connect(served.grpc) as gateway:
            live = await gateway.place_order(**RESTS)
            exchange.kill()
            placed: list[Order] = []

            async def is_held() -> bool:
                placed.append(await gateway.place_order(**RESTS, queue_if_unavailable_s=600))
                return placed[-1].queued

            await until(is_held, 60, "an order waits for its venue")
            held = placed[-1].order_id
            done = await asyncio.to_thread(run_tradegw, *words, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            by_command = json.loads(done.stdout)
            assert (by_command["ord_status"], by_command["queued"]) == ("PENDING_NEW", True)
            cancelled = await gateway.place_order(**RESTS, queue_if_unavailable_s=600)
            closed = await gateway.cancel_order(cancelled.order_id)
            assert (closed.ord_status, closed.reason) == (OrdStatus.CANCELED, "CANCELED_UNSENT")
            assert (await gateway.cancel_order(live.order_id)).queued
        served.tell(signal.SIGKILL)
        await served.ended()
    exchange.start()
    with serving(tmp_path, config=config) as served:
        async with tradegw.connect(served.grpc) as gateway:

            async def is_done() -> bool:
                orders = await all_orders(gateway)
                return not any(
                    o.queued or o.in_doubt or o.pending or o.ord_status is OrdStatus.PENDING_NEW
                    for o in orders
                )

            await until(is_done, 60, "what waited has been sent, and answered")
            for order_id in (held, OrderId(UUID(by_command["order_id"]))):
                assert (await gateway.get_order(order_id)).ord_status is OrdStatus.NEW
            assert (await gateway.get_order(live.order_id)).ord_status is OrdStatus.CANCELED
            orders = await all_orders(gateway)
    with exchange.ledger() as client:
        claim = check_claim([o for o in orders if o.acknowledged], client.read())
    assert claim.at_exchange == claim.orders


# --- at Binance's published limits ------------------------------------------------------------------------


@pytest.mark.long
async def test_twenty_tasks_at_binances_limits(
    tmp_path: Path, tell: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """100 orders in ten seconds, 6000 of weight a minute: no 429, the budget used, cancels in time."""
    seconds, limit = 65.0, 100
    caplog.set_level(logging.INFO)
    with MockProcess(
        store=tmp_path / "exchange.db",
        accounts=["paper"],
        config={"limits": {"native": True, "orders_per_10_seconds": limit}},
    ) as exchange:
        config = write_config(tmp_path, {"mock": exchange.url}, {"paper": {"venue": "mock"}})
        waits_s: list[float] = []
        async with tradegw.open(config) as gateway:
            end = time.monotonic() + seconds

            async def trade(number: int) -> None:
                count = number
                while time.monotonic() < end:
                    try:
                        order = await gateway.place_order(**RESTS)
                    except Unavailable as e:
                        if e.reason != "BUDGET_EXHAUSTED":
                            raise
                        continue
                    assert order.ord_status is OrdStatus.NEW, (order.reason, order.text)
                    count += 1
                    if count % 2:
                        begun = time.monotonic()
                        closed = await gateway.cancel_order(order.order_id)
                        waits_s.append(time.monotonic() - begun)
                        assert closed.ord_status is OrdStatus.CANCELED

            await asyncio.gather(*(trade(number) for number in range(20)))
            orders = await all_orders(gateway)
        with exchange.ledger() as client:
            ledger = client.read()
    refused = [o for o in orders if "TOO_MANY" in f"{o.reason} {o.text}"]
    assert not refused, refused[0]
    assert "TOO_MANY" not in caplog.text
    windows = Counter(order.created_time_ns // 10_000_000_000 for order in ledger.orders)
    used = [windows[window] / limit for window in sorted(windows)[1:-1]]
    waits_s.sort()
    tell(
        f"20 tasks for {seconds:g} s: {len(ledger.orders)} orders, budget used "
        f"{min(used):.0%} to {max(used):.0%} in {len(used)} windows, no 429; {len(waits_s)} cancels, "
        f"p50 {waits_s[len(waits_s) // 2]:.3f} s, p99 {waits_s[int(len(waits_s) * 0.99)]:.3f} s"
    )
    assert max(used) <= 1
    assert min(used) >= 0.8
