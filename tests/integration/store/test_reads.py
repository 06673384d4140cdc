"""What is found again, page by page, and what a filter lets through."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.store.conftest import (
    START_NS,
    Desk,
    a_trade,
    all_events,
    an_order,
)
from tradegw.errors import InvalidOrder, NotFound
from tradegw.model import (
    AccountName,
    CommandKind,
    Cursor,
    EventType,
    ExecType,
    ExecutionReport,
    Order,
    OrderEvent,
    OrderId,
    OrdStatus,
    Origin,
    Side,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw.model.lifecycle import apply, put_in_doubt
from tradegw.ports import (
    Entry,
    EventFilter,
    FillFilter,
    Head,
    OrderFilter,
    VenueOrderRef,
)
from tradegw.store import SqliteStore

NOWHERE = OrderId(an_order("nowhere").order_id)


async def test_what_is_not_there_is_none(desk: Desk) -> None:
    assert await desk.store.find_order(NOWHERE) is None
    assert await desk.store.find_order_by_client_id(desk.account_id, "c1") is None
    assert await desk.store.find_claim("paper", "k") is None
    assert await desk.store.find_known(desk.account_id, order_id=NOWHERE) is None
    assert await desk.store.find_known(desk.account_id, venue_order_id=VenueOrderId("x")) is None
    assert await desk.store.get_head(desk.account) == Head()
    assert await desk.store.count_orders() == {}
    assert await desk.store.list_known_open(desk.account_id) == []
    with pytest.raises(NotFound, match="'nobody'"):
        await desk.store.get_head(AccountName("nobody"))
    with pytest.raises(NotFound, match="'nobody'"):
        await desk.store.list_events(EventFilter(account=AccountName("nobody")), limit=1)


async def test_an_order_is_known_by_every_name_of_every_incarnation(desk: Desk) -> None:
    order = await desk.place("c1", generation=0)
    acknowledged = await desk.report(
        order, ExecutionReport(exec_type=ExecType.NEW, venue_order_id=VenueOrderId("x1"))
    )
    second = replace(acknowledged, generation=1, venue_order_id=VenueOrderId("x2"))
    event = OrderEvent(
        event_type=EventType.REPLACED,
        account=desk.account,
        time_ns=START_NS,
        order_id=order.order_id,
        order=second,
    )
    refs = [
        VenueOrderRef(
            order_id=order.order_id,
            generation=0,
            venue_client_order_id=VenueClientOrderId("v-c1"),
            venue_order_id=VenueOrderId("x1"),
            order_qty=Decimal("0.01"),
            command_valid_until_ns=START_NS + 7,
            digest="d2",
        ),
        VenueOrderRef(
            order_id=order.order_id,
            generation=1,
            venue_client_order_id=VenueClientOrderId("v-c1-1"),
            valid_until_height=12,
            command_valid_until_height=13,
        ),
    ]
    await desk.append(Entry(account_id=desk.account_id, ref=refs[0]))
    await desk.append(Entry(account_id=desk.account_id, events=(event,), ref=refs[1]))
    names: list[dict[str, Any]] = [
        {"order_id": order.order_id},
        {"venue_client_order_id": VenueClientOrderId("v-c1")},
        {"venue_client_order_id": VenueClientOrderId("v-c1-1")},
        {"venue_order_id": VenueOrderId("x1")},
        {"venue_order_id": VenueOrderId("x2")},
    ]
    other = await Desk.open(desk.store, "second")
    for name in names:
        known = await desk.store.find_known(desk.account_id, **name)
        assert known is not None
        assert known.order == replace(second, seq=3)
        assert list(known.refs) == refs
        assert await desk.store.find_known(other.account_id, **name) is None


async def test_an_order_that_is_not_ours_is_known_by_the_venues_id(desk: Desk) -> None:
    order = an_order(
        "c1",
        client_order_id=None,
        venue_client_order_id=None,
        origin=Origin.EXTERNAL,
        venue_order_id=VenueOrderId("x7"),
    )
    await desk.append(desk.intent(order, claim=None, ref=None))
    known = await desk.store.find_known(desk.account_id, venue_order_id=VenueOrderId("x7"))
    assert known is not None
    assert (known.order, known.refs) == (replace(order, seq=1), ())


async def test_known_orders_remember_their_fills_as_the_engine_left_them(desk: Desk) -> None:
    """Inferred fills, one of them replaced in part: what the store gives is what `apply` had."""
    order = await desk.place("c1", order_qty=Decimal(10), leaves_qty=Decimal(10))
    reports = [
        a_trade(order, "i1", "2", inferred=True),
        a_trade(order, "i2", "3", inferred=True),
        a_trade(order, "t1", "4"),
    ]
    for report in reports:
        _, events = apply(order, report)
        result = await desk.append(Entry(account_id=desk.account_id, events=events))
        last = result.events[-1].order
        assert last is not None
        order = last
    known = await desk.store.find_known(desk.account_id, order_id=order.order_id)
    assert known is not None
    assert known.order == order
    assert known.order.trade_ids == order.trade_ids == {"i1", "i2", "t1", "i1/t1", "i2/t1"}
    assert known.order.inferred == order.inferred != ()
    assert [problem async for problem in desk.store.verify()] == []


async def test_open_orders_are_listed_for_a_start(desk: Desk) -> None:
    placed = [await desk.place(f"c{i}", at=i) for i in range(4)]
    await desk.report(placed[1], a_trade(placed[1], "t1"))
    partly = await desk.report(placed[2], a_trade(placed[2], "t1", "0.001"))
    known = await desk.store.list_known_open(desk.account_id)
    assert [k.order for k in known] == [placed[0], partly, placed[3]]
    assert [k.order.trade_ids for k in known] == [set(), {"t1"}, set()]
    assert all(len(k.refs) == 1 for k in known)


def test_the_database_and_the_model_agree_on_what_is_open() -> None:
    from tradegw._generated.queries import sqlite

    words = sqlite._LIST_OPEN_ORDERS.split("'")[1::2]
    assert set(words) == {str(status) for status in OrdStatus if status.is_open}


async def _mixed(desk: Desk) -> dict[str, Order]:
    """Orders that differ in everything that a filter looks at."""
    other = await Desk.open(desk.store, "second")
    placed = {
        "plain": await desk.place("plain", at=0),
        "sell": await desk.place("sell", at=1, side=Side.SELL),
        "eth": await desk.place("eth", at=2, symbol="ETH/USDT"),
        "tagged": await desk.place("tagged", at=3, tags={"desk": "a", "a.b": "1", "0": 'q"\\'}),
        "half": await desk.place("half", at=4, tags={"desk": "ab"}),
        "filled": await desk.place("filled", at=5),
        "doubt": await desk.place("doubt", at=6),
        "second": await other.place("second", at=7, idempotency_key=None),
        "twin": await other.place("plain", at=8),
    }
    placed["filled"] = await desk.report(placed["filled"], a_trade(placed["filled"], "t1"))
    _, events = put_in_doubt(placed["doubt"], CommandKind.NEW, why="silence", time_ns=START_NS)
    stored = await desk.append(Entry(account_id=desk.account_id, events=events))
    assert stored.events[0].order is not None
    placed["doubt"] = stored.events[0].order
    return placed


SECOND = AccountName("second")
PAPER = AccountName("paper")
ALL = ("twin", "second", "doubt", "filled", "half", "tagged", "eth", "sell", "plain")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        pytest.param(OrderFilter(), ALL, id="all, newest first"),
        pytest.param(OrderFilter(accounts=(SECOND,)), ("twin", "second"), id="account"),
        pytest.param(OrderFilter(accounts=(PAPER, SECOND)), ALL, id="two accounts"),
        pytest.param(OrderFilter(accounts=()), (), id="no account"),
        pytest.param(OrderFilter(accounts=(AccountName("nobody"),)), (), id="unknown account"),
        pytest.param(OrderFilter(venue="mock", side=Side.SELL), ("sell",), id="side"),
        pytest.param(OrderFilter(venue="other"), (), id="venue"),
        pytest.param(OrderFilter(symbol="ETH/USDT"), ("eth",), id="symbol"),
        pytest.param(OrderFilter(statuses=(OrdStatus.FILLED,)), ("filled",), id="closed"),
        pytest.param(OrderFilter(statuses=()), (), id="no status"),
        pytest.param(
            OrderFilter(statuses=(OrdStatus.PENDING_NEW, OrdStatus.NEW)),
            tuple(n for n in ALL if n != "filled"),
            id="open",
        ),
        pytest.param(
            OrderFilter(statuses=(OrdStatus.PENDING_NEW, OrdStatus.FILLED)), ALL, id="both"
        ),
        pytest.param(OrderFilter(in_doubt=True), ("doubt",), id="in doubt"),
        pytest.param(
            OrderFilter(in_doubt=False), tuple(n for n in ALL if n != "doubt"), id="not in doubt"
        ),
        pytest.param(OrderFilter(tags={"desk": "a"}), ("tagged",), id="tag"),
        pytest.param(OrderFilter(tags={"a.b": "1"}), ("tagged",), id="tag with a dot"),
        pytest.param(OrderFilter(tags={"0": 'q"\\'}), ("tagged",), id="tag that is a number"),
        pytest.param(OrderFilter(tags={"desk": "a", "a.b": "2"}), (), id="one of two tags"),
        pytest.param(
            OrderFilter(tags={"desk": "a"}, in_doubt=True), (), id="tag of one, doubt of another"
        ),
        pytest.param(OrderFilter(client_order_id="plain"), ("twin", "plain"), id="client id"),
        pytest.param(
            OrderFilter(client_order_id="plain", accounts=(PAPER,)), ("plain",), id="its account"
        ),
        pytest.param(
            OrderFilter(client_order_id="plain", side=Side.SELL), (), id="client id, other side"
        ),
        pytest.param(
            OrderFilter(created_from_ns=START_NS + 7 * 10**9), ("twin", "second"), id="from"
        ),
        pytest.param(
            OrderFilter(created_before_ns=START_NS + 2 * 10**9), ("sell", "plain"), id="before"
        ),
        pytest.param(
            OrderFilter(
                created_from_ns=START_NS + 10**9,
                created_before_ns=START_NS + 2 * 10**9,
                statuses=(OrdStatus.PENDING_NEW,),
            ),
            ("sell",),
            id="open, between",
        ),
        pytest.param(
            OrderFilter(created_from_ns=-(2**70), created_before_ns=2**70), ALL, id="absurd times"
        ),
        pytest.param(OrderFilter(created_before_ns=-1), (), id="before time"),
        pytest.param(OrderFilter(symbol="x' OR 1=1 --"), (), id="no injection"),
        pytest.param(OrderFilter(tags={"x' OR 1=1 --": "%"}), (), id="no injection by tag"),
    ],
)
async def test_filters_of_orders(desk: Desk, where: OrderFilter, expected: tuple[str, ...]) -> None:
    placed = await _mixed(desk)
    whole = await desk.store.list_orders(where, limit=100)
    assert [order.order_id for order in whole.items] == [placed[n].order_id for n in expected]
    assert list(whole.items) == [placed[name] for name in expected]
    assert whole.next_cursor is None
    paged: list[Order] = []
    cursor: Cursor | None = None
    while True:
        page = await desk.store.list_orders(where, limit=2, cursor=cursor)
        paged += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.items) == 2
    assert paged == list(whole.items)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        pytest.param(FillFilter(), ("f", "e", "d", "c", "b", "a"), id="all, newest first"),
        pytest.param(FillFilter(accounts=(SECOND,)), ("f",), id="account"),
        pytest.param(FillFilter(accounts=()), (), id="no account"),
        pytest.param(FillFilter(symbol="ETH/USDT"), ("e", "d"), id="symbol"),
        pytest.param(FillFilter(side=Side.SELL), ("e", "d"), id="side"),
        pytest.param(FillFilter(venue="other"), (), id="venue"),
        pytest.param(
            FillFilter(from_ns=START_NS + 3, before_ns=START_NS + 5), ("e", "d"), id="time"
        ),
        pytest.param(FillFilter(order_id=an_order("c1").order_id), ("c", "b", "a"), id="order"),
        pytest.param(
            FillFilter(order_id=an_order("c1").order_id, from_ns=START_NS + 1),
            ("c", "b"),
            id="order, from",
        ),
        pytest.param(
            FillFilter(order_id=an_order("c1").order_id, before_ns=START_NS + 1),
            ("a",),
            id="order, before",
        ),
        pytest.param(
            FillFilter(order_id=an_order("c1").order_id, accounts=(SECOND,)),
            (),
            id="order of another account",
        ),
        pytest.param(
            FillFilter(order_id=an_order("c1").order_id, side=Side.SELL), (), id="order, other side"
        ),
        pytest.param(FillFilter(order_id=NOWHERE), (), id="unknown order"),
    ],
)
async def test_filters_of_fills(desk: Desk, where: FillFilter, expected: tuple[str, ...]) -> None:
    other = await Desk.open(desk.store, "second")
    for owner, name, trades, changes in (
        (desk, "c1", "abc", {}),
        (desk, "c2", "de", {"symbol": "ETH/USDT", "side": Side.SELL}),
        (other, "c3", "f", {}),
    ):
        order = await owner.place(name, **changes)
        for trade in trades:
            time_ns = START_NS + "abcdef".index(trade)
            await owner.report(order, a_trade(order, trade, "0.001", transact_time_ns=time_ns))
    whole = await desk.store.list_fills(where, limit=100)
    assert tuple(fill.trade_id for fill in whole.items) == expected
    paged: list[str] = []
    page = await desk.store.list_fills(where, limit=2)
    while True:
        paged += [fill.trade_id for fill in page.items]
        if page.next_cursor is None:
            break
        page = await desk.store.list_fills(where, limit=2, cursor=page.next_cursor)
    assert tuple(paged) == expected


async def test_pages_stay_while_rows_are_inserted(desk: Desk) -> None:
    """Whoever pages sees each order that was there exactly once, whatever comes before or between."""
    there = [await desk.place(f"c{i}", at=i) for i in range(10)]
    seen: list[Order] = []
    cursor: Cursor | None = None
    for i in range(5):
        page = await desk.store.list_orders(OrderFilter(), limit=3, cursor=cursor)
        seen += page.items
        cursor = page.next_cursor
        await desk.place(f"new{i}", at=100 + i)
        await desk.report(there[0], a_trade(there[0], f"t{i}", "0.0001"))
        if cursor is None:
            break
    ids = [order.order_id for order in seen]
    assert ids == [order.order_id for order in reversed(there)]


async def test_orders_of_one_instant_are_paged(desk: Desk) -> None:
    placed = {(await desk.place(f"c{i}")).order_id for i in range(7)}
    found: list[OrderId] = []
    page = await desk.store.list_orders(OrderFilter(), limit=2)
    while page.next_cursor is not None:
        found += [order.order_id for order in page.items]
        page = await desk.store.list_orders(OrderFilter(), limit=2, cursor=page.next_cursor)
    found += [order.order_id for order in page.items]
    assert len(found) == 7
    assert set(found) == placed


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "ü",
        "bzE6MQ",
        "bzE6MTpub3RhbmlkZGRkZGRkZGRkZGRkZGRkZGRkZGRk",
        "=" * 9,
        "A" * 5000,
        pytest.param("ZjE6MTowMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDox", id="another list's"),
        pytest.param(
            "bzE6OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTowMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMA",
            id="a number beyond all columns",
        ),
    ],
)
async def test_a_page_token_that_is_not_ours_is_refused(desk: Desk, token: str) -> None:
    with pytest.raises(InvalidOrder) as refused:
        await desk.store.list_orders(OrderFilter(), limit=1, cursor=Cursor(token))
    assert refused.value.reason == "INVALID_PAGE_TOKEN"
    if not token.startswith("ZjE6"):
        with pytest.raises(InvalidOrder) as refused:
            await desk.store.list_fills(FillFilter(), limit=1, cursor=Cursor(token))
        assert refused.value.reason == "INVALID_PAGE_TOKEN"


async def test_events_are_read_from_any_number(desk: Desk) -> None:
    first = await desk.place("c1")
    second = await desk.place("c2")
    await desk.report(first, a_trade(first, "t1"))
    await desk.report(second, a_trade(second, "t1"))
    whole = await all_events(desk)
    assert [event.seq for event in whole] == list(range(1, len(whole) + 1))

    async def read(after: int, limit: int, order_id: OrderId | None = None) -> list[int]:
        where = EventFilter(account=desk.account, after_seq=after, order_id=order_id)
        return [event.seq for event in await desk.store.list_events(where, limit=limit)]

    assert await read(1, 2) == [2, 3]
    assert await read(len(whole), 5) == []
    assert await read(2**70, 5) == []
    assert await read(-5, 1) == [1]
    story = [event.seq for event in whole if event.order_id == first.order_id]
    assert await read(0, 99, first.order_id) == story
    assert await read(story[0], 1, first.order_id) == story[1:2]
    assert await read(0, 99, NOWHERE) == []
    fills = await desk.store.list_stream_fills(desk.account, after_seq=0, limit=9)
    assert [fill.seq for fill in fills] == [e.seq for e in whole if e.fill is not None]
    assert await desk.store.list_stream_fills(
        desk.account, after_seq=fills[0].seq, limit=9
    ) == list(fills[1:])
    assert await desk.store.list_stream_fills(desk.account, after_seq=0, limit=1) == [fills[0]]


async def test_reads_see_what_was_stored_before_them(desk: Desk) -> None:
    async def place_and_look(i: int) -> bool:
        order = await desk.place(f"c{i}")
        found = await desk.store.find_order(order.order_id)
        listed = await desk.store.list_orders(OrderFilter(), limit=100)
        return found == order and order in listed.items

    assert all(await asyncio.gather(*(place_and_look(i) for i in range(30))))


_WALKS = {
    # These look at everything of an account, or of the store, and say so.
    "_LIST_EVENT_ORDERS_MISSING",
    "_COUNT_ORDERS",
    "_LIST_ORDERS",
    "_LIST_FILLS",
}


def test_no_query_walks_the_history(path: Path, open_file: Callable[..., SqliteStore]) -> None:
    """A million closed orders must not slow down what trading needs: every query goes by an index."""
    from tradegw._generated.queries import sqlite

    stay_small = {"a", "halt", "outbox_cursor", "schema_migration"}
    asyncio.run(open_file().close())
    with closing(sqlite3.connect(path)) as connection:
        for name, text in vars(sqlite).items():
            if not name.startswith("_") or not isinstance(text, str) or name.startswith("__"):
                continue
            arguments = [None] * text.count("?")
            plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", arguments).fetchall()
            for *_, step in plan:
                if name in _WALKS:
                    # Newest first and stopped by LIMIT, or by an index that covers all.
                    assert "USE TEMP B-TREE" not in step, (name, plan)
                    continue
                verb, table = step.split()[:2]
                if table == "CONSTANT":
                    continue  # One row, of the statement's own arguments.
                assert verb != "SCAN" or table in stay_small, (name, step)
