"""Events and commands over a real broker: TRADEGW_TEST_AMQP_URL, else the one on the standard port."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from tradegw_rabbitmq.cli import make_app

import tradegw
from tests.e2e.processes import tradegw as run_tradegw
from tests.e2e.processes import until
from tests.rabbitmq import DELAYS, URL, Broker, Proxy, Reader, config, event, messages, place
from tradegw.events.v1 import events_pb2


async def test_every_event_comes_in_order_with_its_names(broker: Broker) -> None:
    queue = await broker.queue("orders.events.v1", "executions.events.v1")
    async with tradegw.open(config(broker)) as gateway:
        orders = [
            await gateway.place_order(
                account="paper", symbol="BTC/USDT", side="buy", ord_type="market", order_qty="0.01"
            )
            for _ in range(5)
        ]
        last = orders[-1].seq
        got = await messages(queue, lambda m: event(m[-1]).seq >= last)
    told = [event(message) for message in got]
    assert [e.seq for e in told] == list(range(1, last + 1))
    assert [m.message_id for m in got] == [f"paper:{e.seq}" for e in told]
    assert all(m.headers["order_id"] == e.order_id for m, e in zip(got, told, strict=True))
    assert all(m.delivery_mode == aio_pika.DeliveryMode.PERSISTENT for m in got)
    fills = [e for m, e in zip(got, told, strict=True) if "executions" in m.exchange]
    assert fills
    assert all(e.WhichOneof("kind") == "fill" for e in fills)


async def test_an_event_that_no_queue_takes_waits_for_one(broker: Broker) -> None:
    async with tradegw.open(config(broker)) as gateway:
        await gateway.place_order(
            account="paper", symbol="BTC/USDT", side="buy", ord_type="market", order_qty="0.01"
        )
        queue = await broker.queue("orders.events.v1", "executions.events.v1")
        got = await messages(queue, lambda m: any(event(x).seq == 1 for x in m))
    assert got


async def test_a_command_has_its_effect_once(broker: Broker) -> None:
    queue = await broker.queue("orders.events.v1", "executions.events.v1")
    async with tradegw.open(config(broker, commands=True)) as gateway:
        for _ in range(3):
            await broker.command(place(), message_id="m1", correlation_id="desk-7")
        await broker.command(place("c2"), message_id="m2")
        await messages(
            queue,
            lambda m: (
                len({e.order_id for e in map(event, m) if e.event_type}) == 2
                and {x.correlation_id for x in m} >= {"desk-7", "m2"}
            ),
        )
        # What comes behind the repeated ones is taken after them.
        orders = (await gateway.list_orders()).items
    assert sorted(str(o.client_order_id) for o in orders) == ["c1", "c2"]


async def test_poison_is_buried_with_its_reason_and_delays_nobody(broker: Broker) -> None:
    events = await broker.queue("orders.events.v1", "executions.events.v1")
    async with tradegw.open(config(broker, commands=True)):
        await broker.command(b"\xff\xff\xff", message_id="poison")
        await broker.command(place(), message_id="good")
        await messages(events, lambda m: any(x.correlation_id == "good" for x in m))
        dead = await broker.dead_letters()
        (buried,) = await messages(dead, lambda m: len(m) == 1)
    assert buried.message_id == "poison"
    assert buried.headers["x-tradegw-reason"] == "INVALID_FIELD"


async def test_another_message_under_a_known_id_is_buried(broker: Broker) -> None:
    dead = await broker.dead_letters()
    events = await broker.queue("orders.events.v1", "executions.events.v1")
    async with tradegw.open(config(broker, commands=True)) as gateway:
        await broker.command(place("c1"), message_id="m1")
        await messages(events, lambda m: any(x.correlation_id == "m1" for x in m))
        await broker.command(place("c2"), message_id="m1")
        (buried,) = await messages(dead, lambda m: len(m) == 1)
        (order,) = (await gateway.list_orders()).items
    assert order.client_order_id == "c1"
    assert buried.headers["x-tradegw-reason"] == "IDEMPOTENCY_KEY_REUSED"


async def test_what_stays_unknown_is_buried_after_its_tries(broker: Broker) -> None:
    command = events_pb2.Command()
    command.cancel_order.account, command.cancel_order.client_order_id = "paper", "nobody"
    async with tradegw.open(config(broker, commands=True)):
        await broker.command(command.SerializeToString(), message_id="m1")
        dead = await broker.dead_letters()
        (buried,) = await messages(dead, lambda m: len(m) == 1)
    assert buried.headers["x-tradegw-reason"] == "UNKNOWN_ORDER"
    assert buried.headers["x-tradegw-attempt"] == len(DELAYS)


@pytest.mark.parametrize(
    "told",
    # No -1: the oldest pamqp cannot write a negative octet.
    ["many", -200, -(2**62), 2**62, True, 0.5, None, [1], {"a": 1}],
    ids=repr,
)
async def test_a_header_that_counts_nonsense_does_not_come_back_for_ever(
    broker: Broker, told: Any
) -> None:
    command = events_pb2.Command()
    command.cancel_order.account, command.cancel_order.client_order_id = "paper", "nobody"
    async with tradegw.open(config(broker, commands=True)):
        await broker.command(
            command.SerializeToString(), message_id="m1", headers={"x-tradegw-attempt": told}
        )
        dead = await broker.dead_letters()
        (buried,) = await messages(dead, lambda m: len(m) == 1)
    assert buried.headers["x-tradegw-reason"] == "UNKNOWN_ORDER"
    # As it came: it was not tried again.
    assert buried.headers["x-tradegw-attempt"] == told


async def test_dead_letters_are_shown_and_put_back(
    broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TRADEGW_AMQP_URL", URL)

    async def command(*words: str, prefix: str = broker.prefix) -> str:
        # As `tradegw rabbitmq ...` does, without a process for each.
        await asyncio.to_thread(
            make_app(),
            ["dead-letters", *words, "--prefix", prefix],
            result_action="return_value",
        )
        return capsys.readouterr().out

    async def are_buried() -> bool:
        return bool((await broker.dead_letters()).declaration_result.message_count == 2)

    async with tradegw.open(config(broker, commands=True)):
        await broker.command(b"\xff", message_id="poison")
        await broker.command(b"\xff", message_id="red\x1b[31m")
        await until(are_buried, 60, "they are buried")
        listed = await asyncio.to_thread(
            run_tradegw,
            *("rabbitmq", "dead-letters", "list", "--prefix", broker.prefix),
            cwd=tmp_path,
            TRADEGW_AMQP_URL=URL,
        )
        assert listed.returncode == 0, listed.stderr
        assert listed.stdout.count("INVALID_FIELD") == 2
        assert "\x1b" not in listed.stdout
        # They are refused again meanwhile: it must not go round with them for ever.
        assert await command("replay", "--all") == "2 put back\n"
        await until(are_buried, 60, "they are buried again")
    # Nobody takes commands now: it stays where it is put.
    assert await command("replay", "poison", "nobody") == "1 put back\n"
    (left,) = (await command("list", "--json")).splitlines()
    assert json.loads(left)["message_id"] == "red\x1b[31m"
    queue = await broker.channel.get_queue(f"{broker.prefix}orders.commands.v1")
    (again,) = await messages(queue, lambda m: len(m) == 1)
    assert (again.message_id, again.body, again.headers) == ("poison", b"\xff", {})
    with pytest.raises(tradegw.ConfigError, match=r"no queue 'no\.orders\.commands\.v1\.dead'"):
        await command("list", prefix="no.")


# The oldest client leaves a stream behind that it was opening when the connection was cut.
@pytest.mark.filterwarnings("ignore:.*StreamWriter.__del__:pytest.PytestUnraisableExceptionWarning")
async def test_a_broker_that_is_away_holds_nothing_up_and_misses_nothing(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy()
    await proxy.open()
    monkeypatch.setenv("TEST_AMQP", proxy.url)
    queue = await broker.queue("orders.events.v1", "executions.events.v1")
    reader = Reader()
    reading = asyncio.create_task(reader.read(queue))
    async with tradegw.open(config(broker, commands=True)) as gateway:

        async def trade(count: int) -> None:
            for _ in range(count):
                await gateway.place_order(
                    account="paper",
                    symbol="BTC/USDT",
                    side="buy",
                    ord_type="market",
                    order_qty="0.001",
                )

        async def has_some() -> bool:
            return len(reader.events) >= 5

        async def has_lag() -> bool:
            (outbox,) = gateway.list_outboxes()  # type: ignore[attr-defined]
            return bool(outbox.lag_events and outbox.lag_s and outbox.why)

        async def has_all() -> bool:
            (outbox,) = gateway.list_outboxes()  # type: ignore[attr-defined]
            orders = (await gateway.list_orders()).items
            return (
                len(orders) == 71
                and not any(order.is_open for order in orders)
                and not (outbox.lag_events or outbox.lag_s or outbox.why)
                and reader.has_all(max(order.seq for order in orders))
            )

        trading = asyncio.create_task(trade(60))
        await until(has_some, 60, "events come")
        await proxy.cut()
        await trading
        await trade(10)
        await until(has_lag, 60, "the lag says how much, how long, and why")
        await broker.command(place(), message_id="m1")
        await proxy.open()
        await until(has_all, 60, "the lag drains")
        last = max(order.seq for order in (await gateway.list_orders()).items)
    reading.cancel()
    await asyncio.wait([reading])
    reader.check(last)
    await proxy.cut()
    gc.collect()


async def test_the_example_rebuilds_positions_from_repeated_events(broker: Broker) -> None:
    from examples.rabbitmq_positions import Positions

    queue = await broker.queue("executions.events.v1", "orders.events.v1")
    async with tradegw.open(config(broker)) as gateway:
        for side, qty in (("buy", "0.03"), ("sell", "0.01")):
            order = await gateway.place_order(
                account="paper", symbol="BTC/USDT", side=side, ord_type="market", order_qty=qty
            )
        got = await messages(queue, lambda m: event(m[-1]).seq >= order.seq)
        fills = (await gateway.list_fills()).items
    positions = Positions()
    for message in [*got, *reversed(got)]:
        positions.take(message.body)
    expected = sum((f.last_qty if f.side == "BUY" else -f.last_qty) for f in fills)
    assert dict(positions.held) == {("paper", "BTC/USDT"): expected}
    assert expected > 0
