"""The shipped Binance definition trades, through a whole gateway, on the mock exchange in another process."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tradegw_mock.testing import MockProcess
from tradegw_rest.library import source_of

import tradegw
from tradegw import ConfigError, Gateway, Order, OrdStatus, Unavailable

PATIENCE_S = 60.0
NS_PER_S = 1_000_000_000
BTC: dict[str, Any] = {"account": "main", "symbol": "BTC/USDT"}


@pytest.fixture(scope="module")
def exchange() -> Iterator[MockProcess]:
    with MockProcess(liquidity="maker", accounts=["account-1"]) as exchange:
        yield exchange


@pytest.fixture(autouse=True)
def _well(exchange: MockProcess) -> Iterator[None]:
    """Let no fault outlive its test."""
    yield
    admin(exchange, "DELETE", "/faults")


def admin(exchange: MockProcess, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        exchange.serving.admin + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def inject(exchange: MockProcess, kind: str, **fields: Any) -> int:
    return admin(exchange, "POST", "/faults", {"kind": kind, **fields})["fault_id"]


def hits(exchange: MockProcess, fault_id: int) -> int:
    """Count from the audit trail what a fault hit; a fault that has acted as often as it may is gone."""
    records = admin(exchange, "GET", "/audit?limit=1000")["records"]
    return sum(
        1
        for record in records
        if "FAULT_HIT" in json.dumps(record) and f'"fault": "{fault_id}"' in json.dumps(record)
    )


@pytest.fixture
def trading_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[], Any]]:
    def at(exchange: MockProcess, definition: str = "binance-spot") -> Callable[[], Any]:
        (account,) = exchange.serving.accounts
        monkeypatch.setenv("TEST_KEY", account.api_key)
        monkeypatch.setenv("TEST_SECRET", account.api_secret)
        config = {
            "store": {"url": f"sqlite:///{tmp_path / 'bot.db'}"},
            "gateway": {"name": tmp_path.name},
            "venues": {
                "binance": {
                    "plugin": "rest",
                    "definition": definition,
                    "rest_url": exchange.serving.rest,
                    "stream_url": exchange.serving.ws_api,
                }
            },
            "accounts": {
                "main": {
                    "venue": "binance",
                    "api_key": "env:TEST_KEY",
                    "api_secret": "env:TEST_SECRET",
                }
            },
        }

        @asynccontextmanager
        async def run() -> AsyncIterator[Gateway]:
            async with tradegw.open(config, ready_timeout_s=PATIENCE_S) as gateway:
                yield gateway

        return run

    return at


@pytest.fixture
def trading(
    exchange: MockProcess, trading_at: Callable[..., Callable[[], Any]]
) -> Callable[[], Any]:
    return trading_at(exchange)


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await holds():  # noqa: ASYNC110  What is waited for is in another process.
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"waited {PATIENCE_S} s in vain: {what}")


async def settled(gateway: Gateway, order: Order) -> Order:
    """Return an order once nothing of it is in doubt."""

    async def is_settled() -> bool:
        return not (await gateway.get_order(order.order_id)).in_doubt

    await until(is_settled, "the order is settled")
    return await gateway.get_order(order.order_id)


def at_exchange(exchange: MockProcess, order: Order) -> list[Any]:
    with exchange.ledger() as client:
        ledger = client.read("account-1")
    return [o for o in ledger.orders if o.client_order_id == order.venue_client_order_id]


async def test_it_trades(exchange: MockProcess, trading: Callable[[], Any]) -> None:
    async with trading() as gateway:
        rests = await gateway.place_order(
            **BTC, side="buy", ord_type="limit", order_qty="0.01", price="20000", post_only=True
        )
        assert (rests.ord_status, rests.in_doubt) == (OrdStatus.NEW, ())
        filled = await gateway.place_order(**BTC, side="buy", ord_type="market", order_qty="0.01")
        assert (filled.ord_status, filled.cum_qty) == (OrdStatus.FILLED, Decimal("0.01"))
        poor = await gateway.place_order(
            **BTC, side="buy", ord_type="limit", order_qty="8000", price="20000"
        )
        assert (poor.ord_status, poor.reason) == (OrdStatus.REJECTED, "INSUFFICIENT_FUNDS")
        canceled = await gateway.cancel_order(rests.order_id)
        assert (canceled.ord_status, canceled.in_doubt) == (OrdStatus.CANCELED, ())

        async def is_told() -> bool:
            balances = {b.asset: b for b in await gateway.list_balances("main")}
            return balances["BTC"].free > Decimal(10)

        await until(is_told, "the stream tells the new balance")
        fills = (await gateway.list_fills()).items
        assert sum(fill.last_qty for fill in fills) == Decimal("0.01")
        with exchange.ledger() as client:
            ledger = client.read("account-1")
        assert {f.trade_id for f in fills} == {
            str(f.trade_id) for f in ledger.fills if f.order_id == int(filled.venue_order_id or 0)
        }


async def test_a_definition_of_ones_own_trades(
    exchange: MockProcess, trading_at: Callable[..., Any], tmp_path: Path
) -> None:
    """A file by its path, with an answer asked for that tells no fills: the stream and questions do."""
    text, _ = source_of("binance-spot")
    own = tmp_path / "definitions" / "mine.yaml"
    own.parent.mkdir()
    for shipped, mine in (
        ("definition: binance-spot", "definition: mine"),
        ("newOrderRespType: FULL", "newOrderRespType: RESULT"),
    ):
        assert text.count(shipped) == 1
        text = text.replace(shipped, mine)
    own.write_text(text, "utf-8")
    async with trading_at(exchange, str(own))() as gateway:
        order = await gateway.place_order(**BTC, side="buy", ord_type="market", order_qty="0.01")

        async def is_filled() -> bool:
            return (await gateway.get_order(order.order_id)).ord_status is OrdStatus.FILLED

        await until(is_filled, "the fills are told")
        fills = (await gateway.list_fills()).items
        assert sum(fill.last_qty for fill in fills) == Decimal("0.01")
        assert not any(fill.inferred for fill in fills)
    number = text.splitlines().index("      symbol: $venue_symbol") + 1
    own.write_text(text.replace("symbol: $venue_symbol", "symbol: $venue_smybol", 1), "utf-8")
    with pytest.raises(ConfigError, match="unknown input") as caught:
        async with trading_at(exchange, str(own))():
            pass
    assert f"{own}:{number}" in str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "ANSWER_LOST"},
        {"kind": "ERROR_AFTER", "code": -1007},
        {"kind": "ERROR_AFTER", "code": 502},
    ],
    ids=["answer lost", "-1007", "502"],
)
async def test_an_order_that_was_accepted_in_silence_is_found(
    exchange: MockProcess, trading: Callable[[], Any], fault: dict[str, Any]
) -> None:
    async with trading() as gateway:
        given = inject(exchange, route="place", **fault)
        order = await gateway.place_order(
            **BTC, side="buy", ord_type="limit", order_qty="0.01", price="20000"
        )
        order = await settled(gateway, order)
        assert order.ord_status is OrdStatus.NEW
        assert hits(exchange, given) == 1
        (known,) = at_exchange(exchange, order)
        assert str(known.order_id) == order.venue_order_id
        assert (await gateway.cancel_order(order.order_id)).ord_status is OrdStatus.CANCELED


async def test_an_order_that_never_arrived_is_proven_absent(
    exchange: MockProcess, trading: Callable[[], Any]
) -> None:
    async with trading() as gateway:
        given = inject(exchange, "REQUEST_LOST", route="place")
        order = await gateway.place_order(
            **BTC, side="buy", ord_type="limit", order_qty="0.01", price="20000"
        )
        order = await settled(gateway, order)
        assert (order.ord_status, order.reason) == (OrdStatus.REJECTED, "NEVER_REACHED_VENUE")
        assert hits(exchange, given) == 1
        assert at_exchange(exchange, order) == []


async def test_a_cancel_that_was_carried_out_in_silence_is_found(
    exchange: MockProcess, trading: Callable[[], Any]
) -> None:
    async with trading() as gateway:
        order = await gateway.place_order(
            **BTC, side="buy", ord_type="limit", order_qty="0.01", price="20000"
        )
        given = inject(exchange, "ANSWER_LOST", route="cancel")
        await gateway.cancel_order(order.order_id)
        order = await settled(gateway, order)
        assert order.ord_status is OrdStatus.CANCELED
        assert hits(exchange, given) == 1


async def test_what_happens_while_the_stream_is_away_is_caught_up_with(
    exchange: MockProcess, trading: Callable[[], Any]
) -> None:
    async with trading() as gateway:
        order = await gateway.place_order(
            **BTC, side="buy", ord_type="limit", order_qty="0.01", price="20000"
        )
        given = inject(exchange, "DISCONNECT")

        async def is_cut() -> bool:
            return hits(exchange, given) == 1

        await until(is_cut, "the stream is cut")
        # Behind the gateway's back: nobody tells it but the reconciliation after the gap.
        with exchange.ledger() as client:
            before = client.read("account-1")
        assert any(str(o.order_id) == order.venue_order_id for o in before.orders)

        async def is_ready() -> bool:
            (venue,) = await gateway.list_venues()
            return all(account.state == "READY" for account in venue.accounts)

        await until(is_ready, "the account takes orders again")
        filled = await gateway.place_order(**BTC, side="buy", ord_type="market", order_qty="0.01")
        assert filled.ord_status is OrdStatus.FILLED
        assert (await gateway.cancel_order(order.order_id)).ord_status is OrdStatus.CANCELED


# --- how fast ---------------------------------------------------------------------------------------------

RESTS: dict[str, Any] = {**BTC, "side": "buy", "ord_type": "limit", "price": "20000"}


def hit_ns(exchange: MockProcess, fault_id: int) -> int:
    """Return when a fault hit, by the exchange's clock."""
    records = admin(exchange, "GET", "/audit?limit=1000")["records"]
    (at_ns,) = (
        record["time_ns"]
        for record in records
        if "FAULT_HIT" in json.dumps(record) and f'"fault": "{fault_id}"' in json.dumps(record)
    )
    return int(at_ns)


async def test_too_many_requests_are_waited_out(
    exchange: MockProcess, trading: Callable[[], Any]
) -> None:
    """The order that was refused closes; the next leaves when the exchange said, and not before."""
    async with trading() as gateway:
        given = inject(exchange, "TOO_MANY_REQUESTS", route="place", retry_after_s=2)
        refused = await gateway.place_order(**RESTS, order_qty="0.01")
        assert (refused.ord_status, refused.in_doubt) == (OrdStatus.REJECTED, ())
        assert refused.reason == "RATE_LIMITED"
        assert at_exchange(exchange, refused) == []
        later = await gateway.place_order(**RESTS, order_qty="0.01")
        assert later.ord_status is OrdStatus.NEW
        (known,) = at_exchange(exchange, later)
        # The header has whole seconds.
        assert known.created_time_ns - hit_ns(exchange, given) >= 1.9 * NS_PER_S
        closed = await gateway.cancel_order(later.order_id)
        assert closed.ord_status is OrdStatus.CANCELED


async def test_a_cancel_that_was_too_fast_is_sent_again(
    exchange: MockProcess, trading: Callable[[], Any]
) -> None:
    async with trading() as gateway:
        order = await gateway.place_order(**RESTS, order_qty="0.01")
        given = inject(exchange, "TOO_MANY_REQUESTS", route="cancel", retry_after_s=1)
        await gateway.cancel_order(order.order_id)

        async def is_canceled() -> bool:
            return (await gateway.get_order(order.order_id)).ord_status is OrdStatus.CANCELED

        await until(is_canceled, "the cancel is sent again")
        assert hits(exchange, given) == 1
        assert (await gateway.get_order(order.order_id)).in_doubt == ()


@pytest.mark.parametrize("route", ["place", "order"], ids=["an order", "a question"])
async def test_a_ban_is_sat_out(
    exchange: MockProcess,
    trading: Callable[[], Any],
    route: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever met it: nothing is sent until it ends, and then trading goes on."""
    async with trading() as gateway:
        banned = inject(exchange, "BANNED", route=route, retry_after_s=2)
        if route == "order":
            # An answer that never comes makes the resolver ask, if the stream does not tell first.
            inject(exchange, "ANSWER_LOST", route="place")
            inject(exchange, "EVENT_DROPPED", times=4)
        first = await gateway.place_order(**RESTS, order_qty="0.01")

        async def is_hit() -> bool:
            return hits(exchange, banned) == 1

        await until(is_hit, "the ban")

        async def is_known() -> bool:
            return "banned for" in caplog.text

        # What left before the answer with the ban was here is no part of this.
        await until(is_known, "the answer with the ban")

        async def is_out() -> bool:
            try:
                order = await gateway.place_order(**RESTS, order_qty="0.01")
            except Unavailable as e:
                if e.reason != "VENUE_UNAVAILABLE":
                    raise
                return False
            (known,) = at_exchange(exchange, order)
            assert known.created_time_ns - hit_ns(exchange, banned) >= 1.9 * NS_PER_S
            return True

        assert not await is_out()
        await until(is_out, "the end of the ban")
        first = await settled(gateway, first)
        expected = OrdStatus.REJECTED if route == "place" else OrdStatus.NEW
        assert first.ord_status is expected
        assert len(at_exchange(exchange, first)) == (expected is OrdStatus.NEW)


@pytest.mark.long
async def test_twenty_tasks_at_binances_limits(
    trading_at: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """100 orders in ten seconds, 6000 of weight a minute: no 429, four fifths used, cancels in time."""
    seconds, limit = 65.0, 100
    caplog.set_level(logging.INFO)
    waits_s: list[float] = []
    with MockProcess(liquidity="maker", accounts=["account-1"]) as exchange:
        async with trading_at(exchange)() as gateway:
            end = time.monotonic() + seconds

            async def trade(number: int) -> None:
                count = number
                while time.monotonic() < end:
                    try:
                        order = await gateway.place_order(**RESTS, order_qty="0.001")
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
        with exchange.ledger() as client:
            ledger = client.read("account-1")
    assert "RATE_LIMITED" not in caplog.text
    assert "-1015" not in caplog.text
    windows = Counter(order.created_time_ns // (10 * NS_PER_S) for order in ledger.orders)
    used = [windows[window] / limit for window in sorted(windows)[1:-1]]
    assert len(used) >= 4
    assert 0.8 <= min(used) <= max(used) <= 1, used
    assert len(waits_s) >= 100
