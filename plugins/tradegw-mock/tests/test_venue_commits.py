"""A durable exchange in process: committed first, in company, and what happens when the file fails."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tradegw_mock.exchange import Change, Store, StoreError
from tradegw_mock.feed import Feed, FeedGap

from tradegw import NotSent, OrdStatus, OutcomeUnknown, VenueError
from tradegw.venue import FetchBalances, StreamGap, StreamItem, StreamReady

from .helpers import World
from .venue_helpers import Account, Runtime, a_market_order, an_order, next_report, opened


class Gate:
    """Stands before every commit: counts them, can hold them up, can make them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.open.set()
        self.arrived = threading.Event()
        self.commits = 0
        self.fails: Exception | None = None
        self.fails_after: Exception | None = None
        commit = Store.commit

        def gated(store: Store, changes: Sequence[Change]) -> None:
            self.arrived.set()
            assert self.open.wait(30)
            if self.fails is not None:
                raise self.fails
            commit(store, changes)
            self.commits += 1
            if self.fails_after is not None:
                raise self.fails_after

        monkeypatch.setattr(Store, "commit", gated)

    async def wait_arrived(self) -> None:
        assert await asyncio.to_thread(self.arrived.wait, 30)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


@pytest.fixture
async def account(tmp_path: Path, gate: Gate) -> AsyncIterator[Account]:
    async with opened(Runtime(data_dir=str(tmp_path))) as account:
        yield account
        gate.open.set()


async def ready(items: AsyncIterator[StreamItem]) -> None:
    assert isinstance(await anext(items), StreamReady)


def row_count(path: Path, account: str) -> int:
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        sql = "SELECT count(*) FROM orders WHERE account = ?"
        (count,) = database.execute(sql, (account,)).fetchone()
    finally:
        database.close()
    return int(count)


async def test_an_answer_is_committed_before_it_is_given(account: Account, tmp_path: Path) -> None:
    await account.place(an_order())
    assert row_count(tmp_path / "mock-exchange.db", "paper") == 1


async def test_nothing_is_answered_shown_or_told_before_it_is_committed(
    account: Account, gate: Gate
) -> None:
    items = account.hooks.stream(0)
    await ready(items)
    gate.arrived.clear()
    gate.open.clear()
    placing = asyncio.ensure_future(account.place(a_market_order()))
    told = asyncio.ensure_future(next_report(items))
    await gate.wait_arrived()
    asked = asyncio.ensure_future(account.status("c1"))
    balances = asyncio.ensure_future(account.hooks.fetch(FetchBalances()))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(task.done() for task in (placing, told, asked, balances))
    gate.open.set()
    reports = await placing
    assert (await told).exec_type == reports[0].exec_type
    found = await asked
    assert found is not None
    assert found.ord_status is OrdStatus.FILLED
    await balances


async def test_orders_that_arrive_together_share_a_commit(account: Account, gate: Gate) -> None:
    gate.arrived.clear()
    gate.open.clear()
    first = asyncio.ensure_future(account.place(an_order("first")))
    await gate.wait_arrived()
    before = gate.commits
    others = [asyncio.ensure_future(account.place(an_order(f"c{n}"))) for n in range(50)]
    for _ in range(3):
        await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, *others)
    assert gate.commits - before == 2


async def test_a_caller_who_goes_away_cancels_only_its_waiting(
    account: Account, gate: Gate
) -> None:
    gate.arrived.clear()
    gate.open.clear()
    placing = asyncio.ensure_future(account.place(an_order()))
    await gate.wait_arrived()
    placing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await placing
    gate.open.set()
    found = await account.status("c1")
    assert found is not None
    assert found.ord_status is OrdStatus.NEW


@pytest.mark.parametrize(
    "error",
    [StoreError("the disk is full"), RuntimeError("a defect")],
    ids=["a full disk", "a defect"],
)
@pytest.mark.parametrize("was_done", [False, True], ids=["not committed", "committed all the same"])
async def test_a_failing_file_leaves_the_outcome_unknown_and_the_exchange_comes_back(
    account: Account, gate: Gate, was_done: bool, error: Exception
) -> None:
    await account.place(an_order("c0"))
    items = account.hooks.stream(0)
    await ready(items)
    if was_done:
        gate.fails_after = error
    else:
        gate.fails = error
    with pytest.raises(OutcomeUnknown):
        await account.place(an_order("c1"))
    gate.fails = gate.fails_after = None
    item: Any = await anext(items)
    assert isinstance(item, StreamGap)
    await ready(items)
    # It is built anew from the file, which knows what happened.
    assert (await account.status("c1") is not None) is was_done
    assert await account.status("c0") is not None
    await account.place(an_order("c2"))
    report = await next_report(items)
    assert report.venue_client_order_id == "c2"


async def test_while_the_file_is_away_nothing_is_taken(account: Account, gate: Gate) -> None:
    gate.fails = StoreError("the disk is full")
    with pytest.raises(OutcomeUnknown):
        await account.place(an_order("c1"))
    with pytest.raises(NotSent):
        await account.place(an_order("c2"))
    with pytest.raises(VenueError):
        await account.status("c2")
    items = account.hooks.stream(0)
    waiting = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.fails = None
    while not waiting.done():
        await account.runtime.advance(1.0)
    assert isinstance(await waiting, StreamReady)
    await account.place(an_order("c2"))


async def test_a_broken_exchange_in_memory_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    async with opened() as account:
        items = account.hooks.stream(0)
        first = await anext(items)
        await account.place(an_order("c1"))
        await next_report(items)
        with monkeypatch.context() as patched:
            patched.setattr("tradegw_mock.exchange.engine.Engine.place", broken)
            with pytest.raises(OutcomeUnknown):
                await account.place(an_order("c2"))
        while not isinstance(await anext(items), StreamGap):
            pass
        again = await anext(items)
        assert isinstance(first, StreamReady)
        assert isinstance(again, StreamReady)
        assert again.instance_id != first.instance_id
        assert await account.status("c1") is None
        # The account is there, and funded.
        await account.place(an_order("c3"))


# --- the feed -------------------------------------------------------------------------------------


def events_of(count: int) -> list[Any]:
    world = World()
    for number in range(count):
        world.place("alice", "BUY", "0.01", "100", client_order_id=f"c{number}")
    return [e for change in world.heard for e in change.events if e.account == "alice"][:count]


async def test_a_feed_gives_what_comes_after_a_number() -> None:
    events = events_of(6)
    feed = Feed(events[0].seq - 1, keep=100)
    for event in events[:4]:
        feed.publish(event)
    follower = feed.follow(events[1].seq)
    assert await anext(follower) == events[2:4]
    following = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    feed.publish(events[4])
    assert await following == [events[4]]


async def test_who_falls_behind_learns_of_the_gap() -> None:
    events = events_of(20)
    feed = Feed(events[0].seq - 1, keep=5)
    follower = feed.follow(feed.last_seq)
    feed.publish(events[0])
    assert await anext(follower) == events[:1]
    for event in events[1:]:
        feed.publish(event)
    with pytest.raises(FeedGap, match="too slow"):
        await anext(follower)
    # The latest are kept, and memory is bounded.
    assert feed.covers(events[-1].seq - 5)
    assert not feed.covers(events[-1].seq - 10)
    assert not feed.covers(events[-1].seq + 1)


async def test_an_event_out_of_turn_is_a_defect() -> None:
    first, second, *_ = events_of(2)
    feed = Feed(first.seq - 1, keep=5)
    with pytest.raises(ValueError, match="expected event"):
        feed.publish(second)


async def test_a_feed_that_ends_says_why() -> None:
    feed = Feed(0, keep=5)
    following = asyncio.ensure_future(anext(feed.follow(0)))
    await asyncio.sleep(0)
    feed.end("the exchange is closed")
    with pytest.raises(FeedGap, match="closed"):
        await following
