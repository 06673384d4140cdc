"""Requests of a gateway whose group of tasks has ended: each is refused, and none is remembered."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tradegw import Order, Unavailable
from tradegw.engine.requests import Requests
from tradegw.ports import Claim, KeyTaken, Store


async def test_after_the_end_a_key_is_refused_each_time() -> None:
    async with asyncio.TaskGroup() as group:
        requests = Requests(cast("Store", None), group)

    async def run(claim: Claim) -> Order | KeyTaken:
        raise AssertionError(f"{claim} is carried out")

    for _ in range(2):
        with pytest.raises(Unavailable) as refused:
            await asyncio.wait_for(requests.once("paper", "k", "digest", "place_order", run), 60)
        assert refused.value.reason == "SHUTTING_DOWN"
