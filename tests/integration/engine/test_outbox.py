"""Events reach a sink in order, at least once, whatever fails, and hold nothing up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.integration.engine.bench import Bench
from tests.integration.engine.test_streams import items, read
from tradegw.engine.outbox import NamedSink
from tradegw.model import OrderEvent, OrdStatus


class ListSink:
    """Keeps what it confirmed; may be away, or slow."""

    def __init__(self) -> None:
        self.events: list[OrderEvent] = []
        self.is_away = False
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def publish(self, events: Sequence[OrderEvent]) -> None:
        self.asked += 1
        await self.gate.wait()
        if self.is_away:
            raise ConnectionError("the sink is away")
        self.events.extend(events)

    @property
    def numbers(self) -> list[int]:
        return [event.seq for event in self.events]


async def start(bench: Bench) -> ListSink:
    sink = ListSink()
    bench.sinks = [NamedSink(name="list", sink=sink)]
    await bench.start()
    return sink


async def confirmed(bench: Bench) -> None:
    """Turn the clock until the sink has all, and its cursor says so."""
    await bench.clock.until(lambda: all(o.lag_events == 0 for o in bench.engine.outboxes))


async def test_a_sink_gets_the_stream(bench: Bench) -> None:
    sink = await start(bench)
    for _ in range(5):
        order = await bench.place()
        await bench.gateway.cancel_order(order.order_id)
    await confirmed(bench)
    told = items(await read(bench.gateway.stream_orders()))
    assert sink.events == [item.event for item in told]
    record = bench.account().record
    assert await bench.store.get_outbox_cursor("list", record.account_id) == told[-1].seq


async def test_after_a_restart_it_goes_on_behind_the_cursor(bench: Bench) -> None:
    sink = await start(bench)
    await bench.place()
    await confirmed(bench)
    await bench.restart()
    await bench.place()
    await confirmed(bench)
    assert sink.numbers == list(range(1, len(sink.numbers) + 1))


async def test_what_was_confirmed_and_not_marked_comes_again(bench: Bench) -> None:
    sink = await start(bench)
    await bench.place()
    await confirmed(bench)
    before = len(sink.events)
    sink.gate.clear()
    asked = sink.asked
    await bench.place()
    await bench.clock.until(lambda: sink.asked > asked)
    await bench.crash()
    sink.gate.set()
    await bench.start()
    await confirmed(bench)
    assert sink.numbers[:before] == list(range(1, before + 1))
    # Nothing is left out; what may have been under way is told anew.
    assert set(sink.numbers) == set(range(1, bench.engine.hub.head(bench.account().account) + 1))


async def test_orders_do_not_wait_for_a_sink_that_is_away(bench: Bench) -> None:
    sink = await start(bench)
    sink.is_away = True
    orders = [await bench.place() for _ in range(20)]
    assert all(order.ord_status is OrdStatus.NEW for order in orders)
    (outbox,) = bench.engine.outboxes
    await bench.clock.until(lambda: outbox.why)
    assert "the sink is away" in outbox.why
    assert outbox.lag_events >= 20
    (told,) = bench.gateway.list_outboxes()
    assert (told.sink, told.account, told.why) == ("list", "paper", outbox.why)
    await bench.turn(5)
    assert outbox.lag_s >= 4
    sink.is_away = False
    await confirmed(bench)
    assert sink.numbers == list(range(1, len(sink.numbers) + 1))
    assert (outbox.why, outbox.lag_s) == ("", 0.0)


async def test_a_store_that_is_away_is_waited_for(bench: Bench) -> None:
    sink = await start(bench)
    await confirmed(bench)
    sink.gate.clear()
    await bench.place()
    (outbox,) = bench.engine.outboxes
    bench.store.is_away = True
    sink.gate.set()
    await bench.clock.until(lambda: outbox.why)
    bench.store.is_away = False
    await confirmed(bench)
    assert set(sink.numbers) == set(range(1, max(sink.numbers) + 1))


async def test_closing_publishes_what_is_stored(bench: Bench) -> None:
    sink = await start(bench)
    await bench.place()
    head = bench.engine.hub.head
    name = bench.account().account
    await bench.stop()
    assert sink.numbers[-1] == head(name)


async def test_idle_outboxes_ask_nobody(bench: Bench) -> None:
    sink = await start(bench)
    await bench.place()
    await confirmed(bench)
    asked = sink.asked
    await bench.turn(60, step_s=1)
    assert sink.asked == asked


async def test_an_account_that_is_removed_publishes_no_more(bench: Bench) -> None:
    await start(bench)
    await bench.place()
    await bench.engine.remove_account(bench.account().account)
    assert not bench.engine.outboxes
