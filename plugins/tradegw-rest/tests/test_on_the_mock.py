"""The shipped Binance definition trades, through a whole gateway, on the mock exchange in another process."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tradegw_mock.testing import MockProcess

import tradegw
from tradegw import Gateway, Order, OrdStatus

PATIENCE_S = 60.0
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
def trading(
    exchange: MockProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Any]:
    (account,) = exchange.serving.accounts
    monkeypatch.setenv("TEST_KEY", account.api_key)
    monkeypatch.setenv("TEST_SECRET", account.api_secret)
    config = {
        "store": {"url": f"sqlite:///{tmp_path / 'bot.db'}"},
        "gateway": {"name": tmp_path.name},
        "venues": {
            "binance": {
                "plugin": "rest",
                "definition": "binance-spot",
                "rest_url": exchange.serving.rest,
                "stream_url": exchange.serving.ws_api,
            }
        },
        "accounts": {
            "main": {"venue": "binance", "api_key": "env:TEST_KEY", "api_secret": "env:TEST_SECRET"}
        },
    }

    @asynccontextmanager
    async def run() -> AsyncIterator[Gateway]:
        async with tradegw.open(config, ready_timeout_s=PATIENCE_S) as gateway:
            yield gateway

    return run


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
