"""What messages carry, how the broker is spoken to, and what bounds the work: over a real broker."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc.aio
import pytest
from google.protobuf.json_format import MessageToJson, Parse
from tradegw_rabbitmq.commands import Commands
from tradegw_rabbitmq.config import RabbitConfig
from tradegw_rabbitmq.sink import open_rabbit

import tradegw
from tests.e2e.processes import REPOSITORY, until
from tests.rabbitmq import (
    DELAYS,
    URL,
    Broker,
    Proxy,
    config,
    event,
    messages,
    place,
    write_certificates,
)
from tradegw.events.v1 import events_pb2
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.config import load_config
from tradegw.gateway.open import run_gateway, wait_ready
from tradegw.gateway.sinks import plan_sinks
from tradegw.plugins import load_plugins
from tradegw.trading.v1 import trading_gateway_pb2, trading_gateway_pb2_grpc
from tradegw.transports.grpc.server import serve
from tradegw.venue import Secret

BOTH = ("orders.events.v1", "executions.events.v1")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def buy(gateway: tradegw.Gateway) -> tradegw.Order:
    return await gateway.place_order(
        account="paper", symbol="BTC/USDT", side="buy", ord_type="market", order_qty="0.001"
    )


def seqs(got: Sequence[Any]) -> set[int]:
    return {event(message).seq for message in got}


async def test_a_request_is_followed_from_its_caller_to_every_message(broker: Broker) -> None:
    queue = await broker.queue(*BOTH)
    command = events_pb2.Command.FromString(place())
    loaded = load_config(overrides=config(broker))
    async with (
        run_gateway(loaded, clock=SystemClock(), wait_for_store=False) as running,
        serve(running.gateway, port=0, operations=running.gateway, metrics=running.metrics) as door,
        grpc.aio.insecure_channel(door.address) as channel,
    ):
        await wait_ready(running, 20)
        answer = await trading_gateway_pb2_grpc.TradingGatewayStub(channel).PlaceOrder(
            trading_gateway_pb2.PlaceOrderRequest(order=command.place_order.order),
            metadata=(
                ("x-request-id", "desk-7/42"),
                ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),
            ),
        )
        last = answer.order.seq
        got = await messages(queue, lambda m: seqs(m) >= set(range(1, last + 1)))
    assert len(got) > 1
    for message in got:
        told = event(message)
        assert message.message_id == f"paper:{told.seq}"
        assert message.correlation_id == told.request_id == "desk-7/42"
        assert message.headers["order_id"] == answer.order.order_id
        version, trace, span, flags = message.headers["traceparent"].split("-")
        assert (version, trace, flags) == ("00", TRACE, "01")
        assert len(span) == 16
        assert told.trace_id == TRACE


async def test_json_out_and_in(broker: Broker) -> None:
    queue = await broker.queue(*BOTH)
    body = MessageToJson(events_pb2.Command.FromString(place())).encode()
    async with tradegw.open(config(broker, format="json", commands=True)) as gateway:
        await broker.command(body, message_id="m1", content_type="application/json")

        got = await messages(queue, lambda m: any("executions" in x.exchange for x in m))
        (order,) = (await gateway.list_orders()).items
    assert {m.content_type for m in got} == {"application/json"}
    for message in got:
        told = Parse(message.body, events_pb2.Event())
        assert (told.event_id, told.order_id) == (message.message_id, str(order.order_id))
    # Decimals are text: no reader makes binary fractions of them.
    (fill,) = (json.loads(m.body)["fill"]["fill"] for m in got if "executions" in m.exchange)
    assert fill["last_qty"] == "0.01"


async def test_odd_names_keep_no_command_from_its_effect(broker: Broker, any_store: str) -> None:
    """Names from outside go to the record, to logs, and on to other programs."""
    queue = await broker.queue(*BOTH)
    dead = await broker.dead_letters()
    settings = {**config(broker, commands=True), "store": {"url": any_store}}
    long = "m" * 128
    async with tradegw.open(settings) as gateway:
        await broker.command(place("c0"), message_id="nul\0", correlation_id="c0")
        await broker.command(place("c1"), message_id="m" * 129, correlation_id="c1")
        for _ in range(2):
            await broker.command(place("c3"), message_id=long, correlation_id="c3")
        await broker.command(place("c4"), message_id="m4", correlation_id="\x1b[31m\0\n")
        await broker.command(
            place("c5"), message_id="m5", headers={"traceparent": f"00-{'é' * 32}-{'0' * 16}-01"}
        )
        got = await messages(queue, lambda m: {x.correlation_id for x in m} >= {"c3", "m4", "m5"})
        buried = await messages(dead, lambda m: len(m) == 2)
        orders = (await gateway.list_orders()).items
    assert sorted(str(o.client_order_id) for o in orders) == ["c3", "c4", "c5"]
    assert {x.correlation_id for x in got} == {"c3", "m4", "m5"}
    assert not any("traceparent" in x.headers for x in got)
    assert {x.correlation_id for x in buried} == {"c0", "c1"}
    for letter in buried:
        assert letter.headers["x-tradegw-reason"] == "INVALID_FIELD"
        assert "message_id" in letter.headers["x-tradegw-text"]
        # At once: nothing that comes again would make it better.
        assert "x-tradegw-attempt" not in letter.headers


class Held:
    """A gateway that holds every command until it is told to let them go."""

    name = "rabbit"

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun: list[str] = []
        self.at_once = 0
        self.at_once_max = 0

    def sent(self) -> None: ...

    async def carry_out(self, command: object, *, message_id: str, **_: str) -> None:
        self.begun.append(message_id)
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        await self.gate.wait()
        self.at_once -= 1


async def test_prefetch_and_concurrency_bound_what_is_taken(broker: Broker) -> None:
    held = Held()
    options = RabbitConfig(url=Secret(URL), prefix=broker.prefix, prefetch=5, concurrency=2)
    queue = await broker.channel.get_queue(f"{broker.prefix}orders.commands.v1")

    async def left() -> int:
        again = await broker.channel.declare_queue(queue.name, passive=True)
        return int(again.declaration_result.message_count)

    async def is_full() -> bool:
        return await left() == 7 and len(held.begun) == 2

    async def is_empty() -> bool:
        return await left() == 0 and len(held.begun) == 12 and not held.at_once

    for number in range(12):
        # The first two are of one order: carried out in turn, they leave a place to the third.
        name = "c0" if number < 2 else f"c{number}"
        await broker.command(place(name), message_id=f"m{number}")
    taking = asyncio.create_task(Commands(options, held).run())
    try:
        await until(is_full, 20, "as much is taken as may be")
        assert held.begun == ["m0", "m2"]
        held.gate.set()
        await until(is_empty, 20, "the rest is taken")
    finally:
        taking.cancel()
        await asyncio.wait([taking])
    assert held.at_once_max == 2
    assert held.begun.index("m0") < held.begun.index("m1")


async def test_what_is_confirmed_does_not_come_again_with_what_is_not(broker: Broker) -> None:
    """Without a queue for some events, the queue of the others would grow with every try."""
    async with tradegw.open({"store": {"url": "memory://"}}) as gateway:
        order = await buy(gateway)
        events = await gateway.list_order_events(order.order_id)
    fills = await broker.queue("executions.events.v1")
    options = RabbitConfig(url=Secret(URL), prefix=broker.prefix)
    async with open_rabbit(options, Held()) as sink:
        for _ in range(3):
            with pytest.raises(RuntimeError, match="the broker did not take 2 events"):
                await sink.publish(events)
        everything = await broker.queue("orders.events.v1")
        await sink.publish(events)
        # Confirmed as a whole: what comes now is another batch.
        await sink.publish(events)
    wanted = [e.seq for e in events if e.fill is not None]
    got = await messages(fills, lambda m: len(m) == 2 * len(wanted))
    assert [event(m).seq for m in got] == wanted * 2
    others = [e.seq for e in events if e.fill is None]
    got = await messages(everything, lambda m: len(m) == 2 * len(others))
    assert [event(m).seq for m in got] == others * 2


async def test_the_settings_of_the_guide(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = Path("docs/how-to/publish-to-rabbitmq.md")
    text = (REPOSITORY / guide).read_text("utf-8")
    short, whole = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    monkeypatch.setenv("AMQP_URL", URL)
    plugins = load_plugins()
    loaded = load_config(overrides={**tomllib.loads(short), "store": {"url": "memory://"}})
    ((_, _, defaults),) = plan_sinks(loaded, plugins)
    settings = {**tomllib.loads(whole), "store": {"url": "memory://"}}
    ((_, _, told),) = plan_sinks(load_config(overrides=settings), plugins)
    names = set(RabbitConfig.__struct_fields__) - {"url"}
    without = {name: getattr(told, name) for name in names}
    assert without == {name: getattr(defaults, name) for name in without}
    assert set(tomllib.loads(whole)["sinks"]["rabbit"]) == {"plugin", "url", *without}
    # And they run, under a prefix of the test's.
    queue = await broker.queue(*BOTH)
    settings["sinks"]["rabbit"] |= {"prefix": broker.prefix, "retry_delays_s": DELAYS}
    async with tradegw.open(settings) as gateway:
        order = await buy(gateway)
        await messages(queue, lambda m: seqs(m) >= set(range(1, order.seq + 1)))


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[Proxy]:
    """The broker behind TLS, as `localhost`, by an authority of its own."""
    proxy = Proxy(write_certificates(tmp_path))
    await proxy.open()
    yield proxy
    await proxy.cut()


async def test_tls_by_a_known_authority(
    broker: Broker, tls: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_AMQP", f"{tls.url}?cafile={tmp_path}/ca.pem")
    queue = await broker.queue(*BOTH)
    async with tradegw.open(config(broker, commands=True)) as gateway:
        await broker.command(place(), message_id="m1")
        await messages(queue, lambda m: any(x.correlation_id == "m1" for x in m))
        assert (await gateway.list_orders()).items


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda url, at: f"{url}?cafile={at}/other.pem", id="another authority"),
        pytest.param(lambda url, _: url, id="an authority that the machine does not know"),
        pytest.param(
            lambda url, at: f"{url.replace('localhost', '127.0.0.1')}?cafile={at}/ca.pem",
            id="another name",
        ),
    ],
)
# A handshake that is refused leaves its half-open stream to the collector.
@pytest.mark.filterwarnings("ignore:.*StreamWriter.__del__:pytest.PytestUnraisableExceptionWarning")
async def test_tls_that_cannot_be_verified_gets_nothing(
    broker: Broker,
    tls: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[str, Path], str],
) -> None:
    url = change(tls.url, tmp_path)
    password = urlsplit(url).password
    monkeypatch.setenv("TEST_AMQP", url)
    queue = await broker.queue(*BOTH)
    async with tradegw.open(config(broker, commands=True)) as gateway:
        await broker.command(place(), message_id="m1")
        # The order path does not hang on it.
        assert (await buy(gateway)).ord_status is tradegw.OrdStatus.FILLED

        async def says_why() -> bool:
            # On a busy machine the first handshakes may be too slow to fail.
            return "CERTIFICATE_VERIFY_FAILED" in gateway.list_outboxes()[0].why  # type: ignore[attr-defined]

        await until(says_why, 60, "the sink says why")
        assert len((await gateway.list_orders()).items) == 1
        assert await queue.get(fail=False) is None
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    assert f":{password}@" not in caplog.text
