"""The live end of streams, by itself: a ring in memory in front of a store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradegw.engine import hub as hub_module
from tradegw.engine.hub import Hub
from tradegw.errors import UsageError
from tradegw.model import AccountName, EventType, Fill, OrderEvent
from tradegw.ports import EventFilter, Head, Store
from tradegw.testing import a_fill

PAPER = AccountName("paper")


class OneStream:
    """As much of a store as a hub reads."""

    def __init__(self) -> None:
        self.events: list[OrderEvent] = []
        self.is_closed = False
        self.reads = 0
        self._listener: Callable[[Sequence[OrderEvent]], None] = lambda _: None

    def subscribe(self, listener: Callable[[Sequence[OrderEvent]], None]) -> None:
        self._listener = listener

    def add(self, count: int = 1, *, announced: bool = True) -> None:
        new: list[OrderEvent] = []
        for _ in range(count):
            seq = len(self.events) + 1
            fill = replace(a_fill(last_qty=Decimal(seq)), seq=seq) if seq % 3 == 0 else None
            event = OrderEvent(
                event_type=EventType.TRADE, account=PAPER, time_ns=seq, seq=seq, fill=fill
            )
            self.events.append(event)
            new.append(event)
        if announced:
            self._listener(new)

    async def list_events(self, where: EventFilter, *, limit: int) -> Sequence[OrderEvent]:
        self._read()
        return self.events[where.after_seq : where.after_seq + limit]

    async def list_stream_fills(
        self, account: AccountName, *, after_seq: int, limit: int
    ) -> Sequence[Fill]:
        self._read()
        fills = [e.fill for e in self.events[after_seq:] if e.fill is not None]
        return fills[:limit]

    def _read(self) -> None:
        self.reads += 1
        if self.is_closed:
            raise UsageError("the store is closed")


def made() -> tuple[Hub, OneStream]:
    store = OneStream()
    hub = Hub(cast("Store", store))
    hub.add_account(PAPER)
    return hub, store


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "RING_MAX", 5)
    monkeypatch.setattr(hub_module, "BATCH_MAX", 3)


async def to_the_end(hub: Hub, after: int = 0) -> list[int]:
    found: list[int] = []
    async for part in hub.read([PAPER], {PAPER: after}):
        if part.account is None:
            return found
        found.extend(event.seq for event in part.events)
    return found


async def fills_to_the_end(hub: Hub, after: int = 0) -> list[int]:
    found: list[int] = []
    async for part in hub.read_fills([PAPER], {PAPER: after}):
        if part.account is None:
            assert part.positions == {PAPER: hub.head(PAPER)}
            return found
        found.extend(fill.seq for fill in part.fills)
    return found


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 7, 30])
async def test_every_position_reads_the_rest(count: int) -> None:
    hub, store = made()
    for _ in range(count):
        store.add()
    for after in range(count + 1):
        assert await to_the_end(hub, after) == list(range(after + 1, count + 1))
        assert await fills_to_the_end(hub, after) == [
            seq for seq in range(after + 1, count + 1) if seq % 3 == 0
        ]


async def test_recent_events_are_read_without_the_store() -> None:
    hub, store = made()
    store.add(20)
    assert await to_the_end(hub, 15) == [16, 17, 18, 19, 20]
    assert store.reads == 0
    assert await to_the_end(hub, 14) == [15, 16, 17, 18, 19, 20]
    assert store.reads


async def test_a_commit_that_was_not_announced_is_read_from_the_store() -> None:
    hub, store = made()
    store.add(3)
    store.add(2, announced=False)
    assert await to_the_end(hub) == [1, 2, 3]
    hub.advance(PAPER, Head(seq=5))
    assert await to_the_end(hub) == [1, 2, 3, 4, 5]
    store.add(2)
    assert await to_the_end(hub) == [1, 2, 3, 4, 5, 6, 7]


async def test_an_announcement_of_what_was_looked_up_before_repeats_nothing() -> None:
    """Another gateway's look into the store was faster than the answer to our own commit."""
    hub, store = made()
    store.add(3)
    hub.advance(PAPER, Head(seq=5))
    store.add(3)
    assert hub.head(PAPER) == 6
    assert await to_the_end(hub) == [1, 2, 3, 4, 5, 6]
    assert await to_the_end(hub, 5) == [6]
    assert await fills_to_the_end(hub) == [3, 6]


async def test_the_next_announcement_tells_of_the_one_that_was_lost() -> None:
    hub, store = made()
    store.add(3)
    store.add(2, announced=False)
    store.add(1)
    assert await to_the_end(hub) == [1, 2, 3, 4, 5, 6]
    assert await to_the_end(hub, 4) == [5, 6]
    assert await fills_to_the_end(hub) == [3, 6]


async def test_an_old_head_moves_nothing() -> None:
    hub, store = made()
    store.add(5)
    hub.advance(PAPER, Head(seq=3))
    assert hub.head(PAPER) == 5
    assert await to_the_end(hub) == [1, 2, 3, 4, 5]


async def test_a_waiting_reader_is_woken_by_what_was_not_announced() -> None:
    hub, store = made()
    told: list[int] = []

    async def follow() -> None:
        async for part in hub.read([PAPER], {}):
            told.extend(event.seq for event in part.events)

    reading = asyncio.create_task(follow())
    await asyncio.sleep(0)
    store.add(1, announced=False)
    hub.advance(PAPER, Head(seq=1))
    for _ in range(5):
        await asyncio.sleep(0)
    assert told == [1]
    hub.close()
    await reading


async def test_closing_ends_readers_and_a_closed_store_does_not_hurt_them() -> None:
    hub, store = made()
    store.add(20)
    slow = hub.read([PAPER], {})
    slow_fills = hub.read_fills([PAPER], {})
    await anext(slow)
    await anext(slow_fills)
    hub.close()
    store.is_closed = True
    assert [part async for part in slow] == []
    assert [part async for part in slow_fills] == []


async def test_a_store_that_fails_in_earnest_is_not_taken_for_the_end() -> None:
    hub, store = made()
    store.add(20)
    store.is_closed = True
    with pytest.raises(UsageError):
        await to_the_end(hub)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 7), st.booleans(), st.integers(0, 4)), min_size=1, max_size=12
    )
)
def test_readers_at_any_pace_miss_nothing(script: list[tuple[int, bool, int]]) -> None:
    async def run() -> None:
        hub, store = made()
        heard: dict[int, list[Any]] = {1: [], 2: []}

        async def follow(pace: int) -> None:
            async for part in hub.read([PAPER], {}):
                heard[pace].extend(event.seq for event in part.events)
                for _ in range(pace):
                    await asyncio.sleep(0)

        readers = [asyncio.create_task(follow(pace)) for pace in heard]
        for count, is_announced, turns in script:
            store.add(count, announced=is_announced)
            for _ in range(turns):
                await asyncio.sleep(0)
        hub.advance(PAPER, Head(seq=len(store.events)))
        # Closing ends them after what is stored.
        hub.close()
        await asyncio.gather(*readers)
        expected = list(range(1, len(store.events) + 1))
        assert heard == {1: expected, 2: expected}

    asyncio.run(run())
