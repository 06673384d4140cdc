"""A gateway whose store fails while its accounts are opened tries again, and one attempt goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tradegw.errors import StoreUnavailable
from tradegw.gateway import open as opening
from tradegw.gateway.config import load_config
from tradegw.model import AccountId
from tradegw.ports import Known
from tradegw.store import MemoryStore
from tradegw.testing import ScriptedExchange, ScriptedPlugin
from tradegw.testing.simulation import SimulatedClock, SimulationLoop, simulate


def test_a_failed_attempt_leaves_nobody_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(loop: SimulationLoop) -> None:
        clock = SimulatedClock(loop)
        exchange = ScriptedExchange(clock)
        failures = [None, StoreUnavailable("away")]

        class Store(MemoryStore):
            async def list_known_open(self, account_id: AccountId) -> Sequence[Known]:
                if failures and (error := failures.pop(0)) is not None:
                    # The first account is open by now.
                    raise error
                return await super().list_known_open(account_id)

        async def open_store(url: str, **_: Any) -> MemoryStore:
            return Store(clock)

        monkeypatch.setattr(opening, "open_store", open_store)
        config = load_config(
            environ={},
            overrides={
                "store": {"url": "memory://"},
                "venues": {"scripted": {"plugin": "scripted"}},
                "accounts": {name: {"venue": "scripted"} for name in ("one", "two")},
            },
        )
        async with opening.run_gateway(
            config, plugins=[ScriptedPlugin(exchange)], clock=clock, wait_for_store=True
        ) as running:
            await running.store_opened.wait()
            await opening.wait_ready(running, 60)
            await clock.sleep(60)
            assert not failures
            assert len(exchange._streams) == 2
            names = [task.get_name() for task in asyncio.all_tasks()]
            assert names.count("account one") == names.count("account two") == 1

    simulate(main)
