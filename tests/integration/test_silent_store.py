"""A store in Postgres that takes what it is sent and never answers: a stopped server, a disk that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.postgres_proxy import proxy_to
from tradegw.errors import TradegwError, Unavailable
from tradegw.gateway import keeper, serving
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.config import load_config
from tradegw.gateway.open import RunningGateway, open_gateway, run_gateway, wait_ready
from tradegw.model import CommandKind, NewOrder, Order, OrdStatus
from tradegw.store import postgres
from tradegw.testing import Fault, ScriptedExchange, ScriptedPlugin, a_new_order

PATIENCE_S = 30.0
CLOSE_S = 15.0
"""A few timeouts, which are shorter here."""

ACCOUNTS = ("paper", "other")


def overrides(url: str, *, is_shared: bool) -> dict[str, Any]:
    return {
        "gateway": {"drain_s": 0.2},
        "store": {"url": url},
        "replicas": {"enabled": is_shared, "ttl_s": 4.0, "margin_s": 1.0},
        "venues": {"scripted": {"plugin": "scripted"}},
        "accounts": {name: {"venue": "scripted"} for name in ACCOUNTS},
    }


@asynccontextmanager
async def running_on(
    url: str, exchange: ScriptedExchange, *, is_shared: bool
) -> AsyncGenerator[RunningGateway]:
    config = load_config(environ={}, overrides=overrides(url, is_shared=is_shared))
    async with run_gateway(
        config, plugins=[ScriptedPlugin(exchange)], clock=SystemClock(), wait_for_store=False
    ) as running:
        await wait_ready(running, PATIENCE_S)
        yield running


async def test_a_gateway_is_handed_out_when_the_accounts_that_it_takes_are_open(
    postgres_store: Callable[[str], str],
) -> None:
    exchange = ScriptedExchange(SystemClock())
    config = overrides(postgres_store("postgres18"), is_shared=True)
    async with open_gateway(config, plugins=[ScriptedPlugin(exchange)]) as gateway:
        placed = await asyncio.gather(
            *(gateway.place_order(a_new_order(account=name)) for name in ACCOUNTS)
        )
    assert [order.ord_status for order in placed] == [OrdStatus.NEW] * 2


async def until_placed(running: RunningGateway, new: NewOrder) -> Order:
    """Place an order, again with the same key while the lease of the one before has not expired."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await running.gateway.place_order(new)
            except Unavailable:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("stands", "is_shared"),
    [("at rest", True), ("intent", True), ("answer", True), ("intent", False)],
)
async def test_a_gateway_ends_though_its_store_never_answers(
    postgres_store: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    stands: str,
    *,
    is_shared: bool,
) -> None:
    monkeypatch.setattr(keeper, "END_WITHIN_S", 0.5)
    monkeypatch.setattr(serving, "GIVE_BACK_WITHIN_S", 0.5)
    monkeypatch.setattr(postgres, "CLOSE_WITHIN_S", 1.0)
    url = postgres_store("postgres18")
    exchange = ScriptedExchange(SystemClock())
    new = a_new_order(account="paper", idempotency_key="of-the-intent")
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    async with proxy_to(url) as proxy:
        placing: asyncio.Task[Order] | None = None
        async with asyncio.timeout(2 * PATIENCE_S):
            async with running_on(proxy.url, exchange, is_shared=is_shared) as running:
                if stands == "answer":
                    exchange.script(CommandKind.NEW, Fault.HANG)
                    # Told by the stream, it might be stored as acknowledged before the silence begins.
                    exchange.drops = True
                    placing = asyncio.create_task(running.gateway.place_order(new))
                    while not exchange.orders:  # noqa: ASYNC110  Nobody tells.
                        await asyncio.sleep(0.01)
                if stands == "intent":
                    proxy.falls_silent_at = b"of-the-intent"
                    placing = asyncio.create_task(running.gateway.place_order(new))
                else:
                    proxy.speaks.clear()
                if stands != "answer":
                    await proxy.swallowed.wait()
                began = loop.time()
        took_s = loop.time() - began
        if placing is not None:
            (told,) = await asyncio.gather(placing, return_exceptions=True)
            assert isinstance(told, TradegwError), told
        assert took_s < CLOSE_S, took_s
        # Attempts of the pool to connect end by themselves.
        left = [
            task
            for task in asyncio.all_tasks() - before
            if "postgres_proxy" not in repr(task) and not task.get_name().startswith("pool-")
        ]
        assert left == []
        told_us = caplog.text
        assert "what was being committed may be stored, or not" in told_us or stands == "at rest"
        assert "lease" in told_us or not is_shared
        proxy.speaks.set()
        # What was left on its way arrives now, or never.
    async with asyncio.timeout(2 * PATIENCE_S):
        async with running_on(url, exchange, is_shared=is_shared) as running:
            order = await until_placed(running, new)
    assert len(exchange.orders) == 1
    assert order.idempotency_key == "of-the-intent"
