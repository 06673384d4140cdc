"""What an entry stores, what it refuses, and what other entries see of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.store.conftest import (
    START_NS,
    AnyStore,
    Desk,
    a_claim,
    a_trade,
    all_events,
    an_order,
)
from tradegw.errors import DuplicateClientOrderId, UsageError
from tradegw.model import (
    CommandKind,
    EventType,
    ExecType,
    ExecutionReport,
    Fill,
    InDoubt,
    OrderEvent,
    OrderId,
    OrdStatus,
    ReplaceTerms,
    Side,
    TradeId,
    VenueOrderId,
)
from tradegw.model.lifecycle import apply, ask_replace, put_in_doubt
from tradegw.ports import Entry, FillFilter, KeyTaken, Replayed, Stored


async def test_an_intent_is_found_as_it_was_stored(desk: Desk) -> None:
    order = an_order(tags={"desk": "a", "näme": "ü 💱"}, expire_time_ns=START_NS, post_only=True)
    result = await desk.append(desk.intent(order))
    assert [event.seq for event in result.events] == [1]
    stored = replace(order, seq=1)
    assert result.events[0].order == stored
    assert await desk.store.find_order(order.order_id) == stored
    assert await desk.store.find_order_by_client_id(desk.account_id, stored.client_order_id) == (
        stored
    )
    assert (await desk.store.find_claim("paper", "key-c1")) == a_claim(
        "key-c1", order_id=order.order_id
    )
    assert await all_events(desk) == list(result.events)


async def test_every_field_of_an_order_is_stored_and_updated(desk: Desk) -> None:
    order = await desk.place(
        order_qty=Decimal("1.50"),
        leaves_qty=Decimal("1.5"),
        trailing_offset=Decimal("0.000000000000000001"),
        max_slippage_bps=Decimal(25),
    )
    order = await desk.report(
        order, ExecutionReport(exec_type=ExecType.NEW, venue_order_id=VenueOrderId("x"))
    )
    terms = ReplaceTerms(order_qty=Decimal(2), price=Decimal("65000.10"))
    asked, events = ask_replace(order, terms, time_ns=START_NS + 5)
    doubtful, more = put_in_doubt(asked, CommandKind.REPLACE, why="silence", time_ns=START_NS + 6)
    await desk.append(Entry(account_id=desk.account_id, events=events + more))
    found = await desk.store.find_order(order.order_id)
    assert found == replace(doubtful, seq=4)
    assert found is not None
    assert found.pending_terms == terms
    assert found.in_doubt == (
        InDoubt(command=CommandKind.REPLACE, since_ns=START_NS + 6, why="silence"),
    )
    assert [problem async for problem in desk.store.verify()] == []


async def test_a_key_is_taken_once(desk: Desk) -> None:
    first = await desk.place("c1")
    second = desk.intent(an_order("c2"), claim=a_claim("key-c1", fingerprint="v1:other"))
    result = await desk.store.append(second)
    assert result == KeyTaken(claim=a_claim("key-c1", order_id=first.order_id))
    assert await desk.store.find_order(an_order("c2").order_id) is None
    assert (await desk.store.get_head(desk.account)).seq == 1


async def test_of_concurrent_uses_of_a_key_one_is_stored(desk: Desk) -> None:
    entries = [
        desk.intent(an_order(f"c{i}"), claim=a_claim("key", order_id=an_order(f"c{i}").order_id))
        for i in range(20)
    ]
    results = await asyncio.gather(*(desk.store.append(entry) for entry in entries))
    [stored] = [result for result in results if isinstance(result, Stored)]
    winner = stored.events[0].order_id
    assert [result for result in results if result is not stored] == [
        KeyTaken(claim=a_claim("key", order_id=winner))
    ] * 19
    assert len(await all_events(desk)) == 1


async def test_keys_of_different_scopes_are_different(desk: Desk) -> None:
    assert await desk.store.put_claim(a_claim("k", scope="paper")) is None
    assert await desk.store.put_claim(a_claim("k", scope="*")) is None
    taken = await desk.store.put_claim(a_claim("k", scope="*", result='{"halted": true}'))
    assert taken == KeyTaken(claim=a_claim("k", scope="*"))


async def test_a_client_order_id_is_one_orders(desk: Desk) -> None:
    await desk.place("c1")
    twin = an_order("c2", client_order_id="c1")
    entry = desk.intent(twin, claim=a_claim("another key"))
    with pytest.raises(DuplicateClientOrderId, match="'c1'"):
        await desk.store.append(entry)
    assert await desk.store.find_claim("paper", "another key") is None
    assert await desk.store.find_order(twin.order_id) is None


async def test_another_account_may_use_the_same_client_order_id(desk: Desk) -> None:
    other = await Desk.open(desk.store, "second")
    first = await desk.place("c1")
    entry = other.intent(an_order("c1", account="second"), claim=a_claim("k", scope="second"))
    await other.append(entry)
    for where, order_id in ((desk, first.order_id), (other, entry.events[0].order_id)):
        found = await desk.store.find_order_by_client_id(where.account_id, "c1")
        assert found is not None
        assert found.order_id == order_id
    assert (await desk.store.get_head(other.account)).seq == 1


async def test_orders_without_client_order_id_are_many(desk: Desk) -> None:
    for name in ("a", "b"):
        await desk.append(desk.intent(an_order(name, client_order_id=None), claim=None))
    assert len(await all_events(desk)) == 2


async def test_a_fill_counts_once(desk: Desk) -> None:
    order = await desk.place()
    known = await desk.store.find_known(desk.account_id, order_id=order.order_id)
    assert known is not None
    _, events = apply(known.order, a_trade(order, "t1", "0.004"))
    again, _ = apply(known.order, a_trade(order, "t1", "0.004"))
    await desk.append(Entry(account_id=desk.account_id, events=events))
    head = await desk.store.get_head(desk.account)
    result = await desk.store.append(Entry(account_id=desk.account_id, events=events))
    assert result == Replayed(order_id=order.order_id, trade_id=TradeId("t1"))
    assert await desk.store.get_head(desk.account) == head
    found = await desk.store.find_order(order.order_id)
    assert found is not None
    assert found.cum_qty == again.cum_qty == Decimal("0.004")
    assert len((await desk.store.list_fills(FillFilter(), limit=10)).items) == 1


async def test_two_orders_may_have_fills_of_one_name(desk: Desk) -> None:
    """A self-trade: the venue gives both sides the same trade id."""
    for name, side in (("c1", Side.BUY), ("c2", Side.SELL)):
        order = await desk.place(name, side=side)
        await desk.report(order, a_trade(order, "t1"))
    assert len((await desk.store.list_fills(FillFilter(), limit=10)).items) == 2


async def test_a_fill_of_no_order_is_stored_once(desk: Desk) -> None:
    fill = Fill(
        trade_id=TradeId("t9"),
        account=desk.account,
        venue="mock",
        symbol="BTC/USDT",
        side=Side.SELL,
        last_qty=Decimal(1),
        last_px=Decimal(2),
    )
    event = OrderEvent(
        event_type=EventType.UNMATCHED_FILL, account=desk.account, time_ns=START_NS, fill=fill
    )
    entry = Entry(account_id=desk.account_id, events=(event,))
    await desk.append(entry)
    assert await desk.store.append(entry) == Replayed(order_id=None, trade_id=TradeId("t9"))
    assert await desk.store.list_stream_fills(desk.account, after_seq=0, limit=10) == [
        replace(fill, seq=1)
    ]
    assert [problem async for problem in desk.store.verify()] == []


async def test_numbers_have_no_gaps_whatever_fails_between(desk: Desk) -> None:
    """Entries that are refused take no number, and those around them in the same commit stay whole."""
    other = await Desk.open(desk.store, "second")
    entries = []
    for i in range(30):
        entries.append(desk.intent(an_order(f"c{i}")))
        entries.append(other.intent(an_order(f"c{i}", account="second"), claim=None))
        entries.append(desk.intent(an_order(f"d{i}", client_order_id=f"c{i}"), claim=None))
        entries.append(desk.intent(an_order(f"e{i}"), claim=a_claim("key-c0")))
        entries.append(Entry(account_id=desk.account_id, events=desk.intent(an_order("x")).events))
    results = await asyncio.gather(
        *(desk.store.append(entry) for entry in entries), return_exceptions=True
    )
    kinds = [type(result) for result in results]
    assert kinds == [Stored, Stored, DuplicateClientOrderId, KeyTaken, UsageError] * 30
    for where in (desk, other):
        events = await all_events(where)
        assert [event.seq for event in events] == list(range(1, 31))
        assert [event.order.client_order_id for event in events if event.order] == [
            f"c{i}" for i in range(30)
        ]
    assert [problem async for problem in desk.store.verify()] == []


async def test_the_chain_is_what_the_documentation_says(desk: Desk) -> None:
    order = await desk.place()
    await desk.report(order, a_trade(order, "t1"))
    hashes = await desk.store.list_event_hashes(desk.account, after_seq=0, limit=10)
    from tradegw.store.codec import encode_event

    digest = b""
    for event, (seq, stored) in zip(await all_events(desk), hashes, strict=True):
        content = desk.account_id.bytes + seq.to_bytes(8, "big") + encode_event(event)
        digest = hashlib.sha256(digest + content).digest()
        assert stored == digest
    head = await desk.store.get_head(desk.account)
    assert (head.seq, head.hash) == hashes[-1]


async def test_listeners_hear_before_callers_and_in_order(desk: Desk) -> None:
    heard: list[int] = []
    returned: list[tuple[int, int]] = []

    def listen(events: Sequence[OrderEvent]) -> None:
        heard.extend(event.seq for event in events)

    async def place(i: int) -> None:
        order = await desk.place(f"c{i}")
        returned.append((order.seq, len(heard)))
        await desk.report(order, a_trade(order, "t1"))

    desk.store.subscribe(listen)
    await asyncio.gather(*(place(i) for i in range(40)))
    assert heard == list(range(1, len(await all_events(desk)) + 1))
    assert all(seq <= count for seq, count in returned)
    assert [seq for seq, _ in returned] == sorted(seq for seq, _ in returned)


async def test_a_listener_that_raises_disturbs_nobody(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[OrderEvent] = []

    def breaks(events: Sequence[OrderEvent]) -> None:
        raise RuntimeError("broken listener")

    desk.store.subscribe(breaks)
    desk.store.subscribe(heard.extend)
    await desk.place()
    assert len(heard) == 1
    assert "broken listener" in caplog.text


async def test_a_caller_who_goes_away_cancels_only_the_waiting(desk: Desk) -> None:
    async with asyncio.TaskGroup() as tasks:
        leaving = tasks.create_task(desk.store.append(desk.intent(an_order("gone"))))
        staying = tasks.create_task(desk.store.append(desk.intent(an_order("here"))))
        await asyncio.sleep(0)
        leaving.cancel()
    assert isinstance(staying.result(), Stored)
    assert [event.seq for event in await all_events(desk)] == [1, 2]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(lambda e: replace(e, is_new_order=False), "is not", id="unknown order"),
        pytest.param(lambda e: replace(e, events=()), "found none", id="no event of a new order"),
        pytest.param(
            lambda e: replace(e, events=(*e.events, *_other_events())), "several", id="two orders"
        ),
        pytest.param(
            lambda e: replace(e, claim=a_claim("k" + chr(0xD800))), "refuses", id="broken text"
        ),
        pytest.param(
            lambda e: _with_order(e, created_time_ns=2**63), "refuses", id="a number too large"
        ),
        pytest.param(lambda e: _with_order(e, venue="nowhere"), "refuses", id="unknown venue"),
        pytest.param(lambda e: _with_order(e, side="LEFT"), "refuses", id="unknown side"),
        pytest.param(
            lambda e: replace(e, ref=replace(e.ref, venue_client_order_id="v-held")),
            "refuses",
            id="a venue client id of another order",
        ),
        pytest.param(
            lambda e: replace(e, account_id=OrderId(e.events[0].order_id)),
            "refuses",
            id="unknown account",
        ),
    ],
)
async def test_what_contradicts_the_record_is_refused_alone(
    desk: Desk, spoil: Any, told: str
) -> None:
    await desk.place("held")
    good, bad, after = await asyncio.gather(
        desk.store.append(desk.intent(an_order("c1"))),
        desk.store.append(spoil(desk.intent(an_order("c2")))),
        desk.store.append(desk.intent(an_order("c3"))),
        return_exceptions=True,
    )
    assert isinstance(bad, UsageError)
    assert told in str(bad)
    assert isinstance(good, Stored)
    assert isinstance(after, Stored)
    assert after.events[0].seq == 3
    assert await desk.store.find_order(an_order("c2").order_id) is None
    assert await desk.store.find_claim("paper", "key-c2") is None


def _other_events() -> tuple[OrderEvent, ...]:
    from tradegw.model.lifecycle import record_intent

    return record_intent(an_order("another"))[1]


def _with_order(entry: Entry, **changes: Any) -> Entry:
    event = entry.events[0]
    assert event.order is not None
    return replace(entry, events=(replace(event, order=replace(event.order, **changes)),))


async def test_numbers_are_stored_exactly_and_plainly(desk: Desk) -> None:
    """A hair's breadth and a fortune, and no exponents or idle zeros in between."""
    order = await desk.place(
        price=Decimal("0.000000000000000001"),
        order_qty=Decimal("12345678901234567890.123456789012345678"),
        cum_quote=Decimal("1E+3"),
        max_slippage_bps=Decimal("1.500"),
    )
    found = await desk.store.find_order(order.order_id)
    assert found is not None
    assert [str(n) for n in (found.price, found.order_qty, found.cum_quote)] == [
        "1E-18",
        "12345678901234567890.123456789012345678",
        "1000",
    ]
    assert str(found.max_slippage_bps) == "1.5"


async def test_after_closing_nothing_is_taken(desk: Desk) -> None:
    store: AnyStore = desk.store
    pending = asyncio.ensure_future(store.append(desk.intent(an_order("c1"))))
    await asyncio.sleep(0)
    await store.close()
    assert isinstance(await pending, Stored)  # What was taken is finished first.
    await store.close()
    with pytest.raises(UsageError, match="closed"):
        await store.append(desk.intent(an_order("c2")))
    with pytest.raises(UsageError, match="closed"):
        await store.find_order(an_order("c1").order_id)


async def test_a_status_that_is_stored_is_the_status(desk: Desk) -> None:
    order = await desk.place()
    closed = await desk.report(order, a_trade(order, "t1"))
    assert closed.ord_status is OrdStatus.FILLED
    assert await desk.store.count_orders() == {OrdStatus.FILLED: 1}
