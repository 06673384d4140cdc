"""Streams: from any point, without gaps, filtered, as slowly as the reader likes; and the lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.engine.bench import Bench
from tradegw.engine import hub
from tradegw.errors import InvalidOrder, NotFound
from tradegw.gateway import OrderItem, StreamBatch
from tradegw.model import EventType, Fill, FillFilter, OrderFilter, OrderId, OrdStatus, Side
from tradegw.testing import ScriptedExchange, ScriptedPlugin


async def read(stream: AsyncIterator[StreamBatch]) -> list[StreamBatch]:
    """Read up to the mark that all was read."""
    batches: list[StreamBatch] = []
    async with aclosing(stream):  # type: ignore[type-var]
        async for batch in stream:
            batches.append(batch)
            if batch.caught_up:
                return batches
    raise AssertionError("the stream ended before it caught up")


def items(batches: list[StreamBatch]) -> list[OrderItem]:
    return [item for batch in batches for item in batch.orders]


def check_chain(chain: list[OrderItem], after: dict[str, int] | None = None) -> None:
    """A consumer sees a gap by `prev_seq`; there is none."""
    previous: dict[str, int] = dict(after or {})
    for item in chain:
        assert item.prev_seq == previous.get(item.account, 0)
        assert item.seq > item.prev_seq
        previous[item.account] = item.seq


async def trade(bench: Bench, n: int = 10, **fields: Any) -> None:
    """Place, fill in part and cancel."""
    for _ in range(n):
        order = await bench.place(**fields)
        exchange = bench.accounts[order.account].exchange
        placed = exchange.placed(order.venue_client_order_id)
        exchange.fill(placed, "0.25")
        await bench.order_when(order.order_id, lambda o: o.cum_qty)
        await bench.gateway.cancel_order(order.order_id)


async def test_a_stream_tells_all_in_order(bench: Bench) -> None:
    await bench.start()
    await trade(bench)
    told = items(await read(bench.gateway.stream_orders()))
    check_chain(told)
    assert [item.seq for item in told] == list(range(1, len(told) + 1))
    assert told[-1].seq == (await bench.store.get_head("paper")).seq
    events = [e async for e in _events(bench)]
    assert [item.event for item in told] == events


async def _events(bench: Bench) -> AsyncIterator[Any]:
    from tradegw.ports import EventFilter

    for event in await bench.store.list_events(EventFilter(account="paper"), limit=1000):  # type: ignore[arg-type]
        yield event


async def test_a_stream_goes_on_from_any_point(bench: Bench) -> None:
    await bench.start()
    await trade(bench, 4)
    told = items(await read(bench.gateway.stream_orders()))
    for after in range(len(told) + 1):
        rest = items(await read(bench.gateway.stream_orders(after={"paper": after})))
        assert rest == told[after:]
        check_chain(rest, {"paper": after})
    at_the_end = await read(bench.gateway.stream_orders(after={"paper": -1}))
    assert items(at_the_end) == []
    assert at_the_end[-1].position == {"paper": len(told)}


@pytest.mark.parametrize("after", [10_000, -2])
async def test_a_point_beyond_the_stream_is_refused(bench: Bench, after: int) -> None:
    await bench.start()
    with pytest.raises(InvalidOrder) as refused:
        await read(bench.gateway.stream_orders(after={"paper": after}))
    assert refused.value.reason == "OUT_OF_RANGE"
    with pytest.raises(NotFound):
        await read(bench.gateway.stream_fills(accounts=["nobody"]))


async def test_a_live_reader_hears_what_is_stored_and_when_it_caught_up(bench: Bench) -> None:
    await bench.start()
    told: list[OrderItem] = []
    marks = 0

    async def follow() -> None:
        nonlocal marks
        async for batch in bench.gateway.stream_orders():
            told.extend(batch.orders)
            marks += batch.caught_up

    reading = bench.later(follow())
    await bench.clock.until(lambda: marks == 1)
    await trade(bench, 3)
    head = (await bench.store.get_head("paper")).seq
    await bench.clock.until(lambda: told and told[-1].seq == head and marks >= 2)
    check_chain(told)
    assert len(told) == head
    reading.cancel()


async def test_a_filter_leaves_out_and_keeps_the_chain(bench: Bench) -> None:
    await bench.start()
    await trade(bench, 3)
    await trade(bench, 3, symbol="ETH/USDT")
    both = items(await read(bench.gateway.stream_orders()))
    for symbol in ("BTC/USDT", "ETH/USDT"):
        batches = await read(bench.gateway.stream_orders(symbol=symbol))
        told = items(batches)
        check_chain(told)
        assert [i.event for i in told] == [
            i.event for i in both if i.event.order is not None and i.event.order.symbol == symbol
        ]
        # Whoever resumes from here does not read again what the filter left out.
        assert batches[-1].position == {"paper": both[-1].seq}
        assert await bench.fills(symbol=symbol) == [
            f for f in await bench.fills() if f.symbol == symbol
        ]


async def test_two_accounts_have_a_chain_each(bench: Bench) -> None:
    bench.accounts["other"] = ScriptedPlugin(ScriptedExchange(bench.clock), name="elsewhere")
    await bench.start()
    await trade(bench, 2)
    await trade(bench, 3, account="other")
    await trade(bench, 1)
    told = items(await read(bench.gateway.stream_orders()))
    check_chain(told)
    assert {item.account for item in told} == {"paper", "other"}
    only = items(await read(bench.gateway.stream_orders(accounts=["other"])))
    assert only == [item for item in told if item.account == "other"]
    middle = {"paper": 4, "other": 7}
    rest = items(await read(bench.gateway.stream_orders(after=middle)))
    check_chain(rest, middle)
    assert {(i.account, i.seq) for i in rest} == {
        (i.account, i.seq) for i in told if i.seq > middle[i.account]
    }
    await bench.check_ledger()
    await bench.check_ledger("other")


async def test_a_slow_reader_beyond_the_ring_misses_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the ring in memory has dropped comes from the store: nothing is skipped, nothing twice."""
    monkeypatch.setattr(hub, "RING_MAX", 16)
    monkeypatch.setattr(hub, "BATCH_MAX", 5)
    await bench.start()
    told: list[OrderItem] = []
    go_on = asyncio.Event()

    async def follow() -> None:
        async for batch in bench.gateway.stream_orders():
            told.extend(batch.orders)
            await go_on.wait()

    await bench.place()
    reading = bench.later(follow())
    await bench.clock.until(lambda: told, step_s=0)
    await trade(bench, 12)
    head = (await bench.store.get_head("paper")).seq
    assert head > 3 * 16
    go_on.set()
    await bench.clock.until(lambda: told[-1].seq == head)
    check_chain(told)
    assert [item.seq for item in told] == list(range(1, head + 1))
    reading.cancel()
    # Fills read the same way, old ones by index and recent ones from the ring.
    await bench.check_ledger()
    for after in range(0, head, 3):
        batches = await read(bench.gateway.stream_fills(after={"paper": after}))
        fills = [item for batch in batches for item in batch.fills]
        assert all(item.seq > after for item in fills)
        assert len(fills) == sum(f.seq > after for f in await bench.fills())
        assert batches[-1].position == {"paper": head}


async def test_many_readers_at_their_own_pace(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "RING_MAX", 8)
    monkeypatch.setattr(hub, "BATCH_MAX", 3)
    await bench.start()
    heard: list[list[int]] = [[] for _ in range(6)]

    async def follow(n: int) -> None:
        async for batch in bench.gateway.stream_orders():
            for item in batch.orders:
                heard[n].append(item.seq)
                for _ in range(n):
                    await asyncio.sleep(0)

    readers = [bench.later(follow(n)) for n in range(6)]
    await trade(bench, 8)
    head = (await bench.store.get_head("paper")).seq
    await bench.clock.until(lambda: all(h and h[-1] == head for h in heard))
    assert heard == [list(range(1, head + 1))] * 6
    for reader in readers:
        reader.cancel()


async def test_streams_end_with_the_gateway_after_what_is_stored(bench: Bench) -> None:
    await bench.start()
    await trade(bench, 2)
    told: list[OrderItem] = []

    async def follow() -> None:
        async for batch in bench.gateway.stream_orders():
            told.extend(batch.orders)

    reading = bench.later(follow())
    await bench.clock.until(lambda: told, step_s=0)
    head = (await bench.store.get_head("paper")).seq
    await bench.stop()
    await reading
    assert told[-1].seq == head


async def test_a_slow_reader_at_the_end_of_the_gateway_is_told_to_resume(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "RING_MAX", 4)
    monkeypatch.setattr(hub, "BATCH_MAX", 2)
    await bench.start()
    await trade(bench, 4)
    stream = bench.gateway.stream_orders()
    first = await anext(stream)
    await bench.stop()
    told = [*first.orders]
    position = dict(first.position)
    async for batch in stream:
        told.extend(batch.orders)
        position.update(batch.position)
    check_chain(told)
    await bench.start()
    rest = items(await read(bench.gateway.stream_orders(after=position)))  # type: ignore[arg-type]
    check_chain([*told, *rest])
    assert [i.seq for i in (*told, *rest)] == list(range(1, len(told) + len(rest) + 1))


async def test_folding_the_fills_gives_the_lists_and_the_ledger(bench: Bench) -> None:
    await bench.start()
    await trade(bench, 6)
    streamed = await bench.fills()
    listed: list[Fill] = []
    token = None
    while True:
        page = await bench.gateway.list_fills(FillFilter(), page_size=4, page_token=token)
        listed.extend(page.items)
        token = page.next_cursor
        if token is None:
            break
    assert sorted(listed, key=lambda f: f.seq) == streamed
    assert sum(f.last_qty for f in streamed) == Decimal("1.5")
    await bench.check_ledger()


async def test_pages_are_stable_while_orders_arrive(bench: Bench) -> None:
    await bench.start()
    before = []
    for _ in range(9):
        bench.clock.turn(0.001)
        before.append((await bench.place()).order_id)
    seen: list[OrderId] = []
    token = None
    while True:
        page = await bench.gateway.list_orders(page_size=2, page_token=token)
        seen.extend(o.order_id for o in page.items)
        bench.clock.turn(0.001)
        await bench.place()
        token = page.next_cursor
        if token is None:
            break
    assert seen == list(reversed(before))


async def test_lists_filter(bench: Bench) -> None:
    await bench.start()
    await bench.place(side=Side.SELL, tags={"desk": "a"})
    await bench.place(symbol="ETH/USDT", tags={"desk": "b"})
    cancelled = await bench.place()
    await bench.gateway.cancel_order(cancelled.order_id)

    async def count(**where: Any) -> int:
        return len((await bench.gateway.list_orders(OrderFilter(**where))).items)

    assert await count() == 3
    assert await count(side=Side.SELL) == 1
    assert await count(symbol="ETH/USDT") == 1
    assert await count(statuses=(OrdStatus.CANCELED,)) == 1
    assert await count(tags={"desk": "b"}) == 1
    assert await count(tags={"desk": "c"}) == 0
    assert await count(accounts=("paper",)) == 3
    assert await count(in_doubt=True) == 0


@pytest.mark.parametrize("size", [0, -1, 1001])
async def test_page_sizes_are_bounded(bench: Bench, size: int) -> None:
    await bench.start()
    with pytest.raises(InvalidOrder):
        await bench.gateway.list_orders(page_size=size)
    with pytest.raises(InvalidOrder):
        await bench.gateway.list_fills(page_size=size)


async def test_an_order_is_there_after_it_closed(bench: Bench) -> None:
    await bench.start()
    order = await bench.place(client_order_id="c")
    bench.exchange.fill(bench.exchange.orders[0])
    await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert order.order_id not in {o.order_id for o in bench.account().book}
    got = await bench.gateway.get_order(order.order_id)
    assert got.ord_status is OrdStatus.FILLED
    assert await bench.gateway.find_order(account="paper", client_order_id="c") == got
    assert await bench.gateway.find_order(account="paper", venue_order_id="v1") == got
    events = await bench.gateway.list_order_events(order.order_id)
    assert [e.event_type for e in events] == [EventType.INTENT, EventType.NEW, EventType.TRADE]
    assert events[-1].order == got
