"""A gateway is asked to end while 64 callers trade, with its exchange in another process."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tradegw_mock.testing import MockProcess

import tradegw
from tests.e2e.ledgers import (
    Folded,
    check_claim,
    exchange_trades,
    recorded_fills,
    recorded_orders,
    told_trades,
)
from tests.e2e.orders import an_order, is_settled
from tests.e2e.processes import Served, readiness, serving, until, verify, wait_until, write_config
from tradegw import Order, OrderFilter, OrderId, OrdStatus
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.trading.v1 import trading_gateway_pb2_grpc
from tradegw.transports.grpc.asked import order_of, place_request
from tradegw.transports.grpc.errors import read_metadata, read_status

CALLERS = 64
WARM = 200
DRAIN_S = 8.0
LOOKS = 10
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# What gRPC itself says of a call that found no server, or one that has stopped taking calls.
_NO_SERVER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@contextmanager
def silent(exchange: MockProcess) -> Iterator[Callable[[], None]]:
    """Stop the exchange, so that whatever is on its way stays there; yields what lets it go on."""
    os.kill(exchange.pid, signal.SIGSTOP)
    try:
        yield lambda: os.kill(exchange.pid, signal.SIGCONT)
    finally:
        os.kill(exchange.pid, signal.SIGCONT)


@dataclass
class Callers:
    """64 callers on plain stubs, which repeat nothing: each call has exactly the fate that it was given.

    Attributes:
        answers: By key.
        refused: Keys, with the gateway's reason; empty text where the connection was gone.
    """

    stub: trading_gateway_pb2_grpc.TradingGatewayAsyncStub
    answers: dict[str, Order] = field(default_factory=dict[str, Order])
    refused: dict[str, str] = field(default_factory=dict[str, str])
    in_flight: set[str] = field(default_factory=set[str])

    async def call(self, caller: int) -> None:
        """Place orders until one is refused."""
        number = 0
        while await self.place(f"k0-c{caller}-o{number}"):
            number += 1

    async def place(self, key: str) -> bool:
        request, _ = place_request(None, an_order(key))  # type: ignore[arg-type]
        self.in_flight.add(key)
        try:
            answer = await self.stub.PlaceOrder(request, timeout=60)
        except grpc.aio.AioRpcError as e:
            error = read_status(e)
            if error is None and e.code() not in _NO_SERVER:
                raise
            self.refused[key] = "" if error is None else error.reason
            return False
        finally:
            self.in_flight.discard(key)
        self.answers[key] = order_of(answer.order)
        return True


@dataclass
class Watcher:
    """What health said, the numbers that the streams told, and where they said to resume."""

    told: list[int] = field(default_factory=list[int])
    orders_told: list[int] = field(default_factory=list[int])
    fills_told: list[int] = field(default_factory=list[int])
    orders_resume: int = 0
    fills_resume: int = 0

    async def health(self, channel: grpc.aio.Channel) -> None:
        request = health_pb2.HealthCheckRequest(service="tradegw.trading.v1.TradingGateway")
        try:
            async for answer in health_pb2_grpc.HealthStub(channel).Watch(request):  # type: ignore[no-untyped-call]
                self.told.append(answer.status)
        except grpc.aio.AioRpcError as e:
            if e.code() not in _NO_SERVER:
                raise

    async def orders(self, stub: trading_gateway_pb2_grpc.TradingGatewayAsyncStub) -> None:
        stream = stub.StreamOrders(pb.StreamOrdersRequest())
        self.orders_resume = await _resume_of(stream, self.orders_told)

    async def fills(self, stub: trading_gateway_pb2_grpc.TradingGatewayAsyncStub) -> None:
        stream = stub.StreamFills(pb.StreamFillsRequest())
        self.fills_resume = await _resume_of(stream, self.fills_told)


async def _resume_of(stream: Any, told: list[int]) -> int:
    """Read the numbers in a stream to its end; returns where it says to resume."""
    try:
        async for message in stream:
            told += [item.seq for item in message.items]
    except grpc.aio.AioRpcError as e:
        error = read_status(e)
        if error is None or error.reason != "SHUTTING_DOWN":
            raise
        (resume,) = [text for name, text in read_metadata(e).items() if name.startswith("resume")]
        account, _, seq = resume.partition(":")
        assert account == "paper"
        return int(seq)
    raise AssertionError("the stream ended without a word")


@asynccontextmanager
async def trading(served: Served) -> AsyncIterator[tuple[Callers, Watcher]]:
    """Have callers, readers and a health check at work, with answers already given."""
    async with (
        grpc.aio.insecure_channel(served.grpc) as channel,
        grpc.aio.insecure_channel(served.grpc) as watching,
        tradegw.connect(served.grpc) as gateway,
    ):
        # Callers on plain stubs are not repeated, so the account must take orders before they come.
        await until(lambda: is_settled(gateway), 60, "the account takes orders")
        stub = trading_gateway_pb2_grpc.TradingGatewayStub(channel)
        watch_stub = trading_gateway_pb2_grpc.TradingGatewayStub(watching)
        callers, watcher = Callers(stub), Watcher()
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            group.create_task(watcher.health(watching))
            group.create_task(watcher.orders(watch_stub))
            group.create_task(watcher.fills(watch_stub))
            for number in range(CALLERS):
                group.create_task(callers.call(number))

            async def is_warm() -> bool:
                return len(callers.answers) >= WARM and watcher.told == [SERVING]

            await until(is_warm, 60, "orders are answered")
            yield callers, watcher


async def until_all_wait(served: Served, count: int = CALLERS) -> None:
    """Wait until so many orders are stored whose answers have not come."""
    async with tradegw.connect(served.grpc) as gateway:
        waiting = OrderFilter(statuses=(OrdStatus.PENDING_NEW,))

        seen: list[frozenset[OrderId]] = []

        async def all_wait() -> bool:
            # The same ones, look after look: an answer that was on its way when the exchange stopped
            # still arrives, and its caller then waits with another order.
            orders = (await gateway.list_orders(waiting)).items
            seen.append(frozenset(order.order_id for order in orders))
            return len(orders) == count and len(set(seen[-LOOKS:])) == 1 and len(seen) >= LOOKS

        await until(all_wait, 60, "the orders wait for the exchange")


async def until_not_serving(served: Served, watcher: Watcher) -> None:
    async def has_turned() -> bool:
        return watcher.told[-1] == NOT_SERVING

    await until(has_turned, 60, "health says NOT_SERVING", every_s=0.01)
    assert watcher.told == [SERVING, NOT_SERVING]
    status, _ = await asyncio.to_thread(readiness, served.http)
    assert status == 503


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
async def test_callers_get_their_true_answers(
    exchange: MockProcess, tmp_path: Path, number: signal.Signals, tell: Callable[[str], None]
) -> None:
    accounts = {"paper": {"venue": "mock"}}
    config = write_config(tmp_path, {"mock": exchange.url}, accounts, drain_s=DRAIN_S)
    with serving(tmp_path, config=config) as served:
        async with trading(served) as (callers, watcher):
            resting = next(o for o in callers.answers.values() if o.ord_status is OrdStatus.NEW)
            with silent(exchange) as go_on:
                await until_all_wait(served)
                in_flight = set(callers.in_flight)
                assert len(in_flight) == CALLERS
                asked = time.monotonic()
                served.tell(number)
                await until_not_serving(served, watcher)
                # Said before any call was ended, with all of them on their way.
                assert callers.in_flight == in_flight
                assert not callers.refused
                assert not await callers.place("k9-c0-o0")
                assert callers.refused == {"k9-c0-o0": "SHUTTING_DOWN"}
                cancel = callers.stub.CancelOrder(
                    pb.CancelOrderRequest(order_id=str(resting.order_id)), timeout=60
                )
                go_on()
            canceled = order_of((await cancel).order)
            code = await served.ended()
            took_s = time.monotonic() - asked
    assert code == 0, served.log.read_text("utf-8")
    assert took_s < DRAIN_S, f"{took_s:.1f} s"

    orders, fills = await recorded_orders(config), await recorded_fills(config)
    with exchange.ledger() as client:
        ledger = client.read("paper")
    by_key = {str(order.idempotency_key): order for order in orders}
    assert in_flight <= set(callers.answers)
    for key, answer in callers.answers.items():
        stands = canceled if answer.order_id == resting.order_id else answer
        assert by_key[key] == stands, "the answer is what the record says"
    assert canceled.ord_status is OrdStatus.CANCELED
    assert not set(callers.refused) & set(by_key), "refused, and stored"
    assert set(callers.refused.values()) <= {"SHUTTING_DOWN", ""}
    assert not any(order.in_doubt for order in orders)
    claim = check_claim(orders, ledger)
    assert claim.never_arrived == 0
    assert told_trades(fills) == exchange_trades(ledger)
    head = verify(config)["paper"]["seq"]
    # Whoever resumes there misses nothing and hears nothing twice.
    assert watcher.orders_told == list(range(1, watcher.orders_resume + 1))
    assert watcher.fills_told == sorted(f.seq for f in fills if f.seq <= watcher.fills_resume)
    assert max(watcher.orders_resume, watcher.fills_resume) <= head
    assert watcher.fills_told
    refused = sum(reason == "SHUTTING_DOWN" for reason in callers.refused.values())
    tell(
        f"{number.name} under {CALLERS} callers: NOT_SERVING while {len(in_flight)} calls were in flight, "
        f"all answered; {len(callers.answers)} answers agree with the record, {refused} of "
        f"{len(callers.refused)} later calls had SHUTTING_DOWN, the others no server; exit 0 after "
        f"{took_s:.1f} s; streams of {head} events resume after "
        f"{watcher.orders_resume} and {watcher.fills_resume}; nothing in doubt"
    )


async def test_answers_that_do_not_come_are_in_doubt_and_settled_by_the_next_start(
    exchange: MockProcess, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    accounts = {"paper": {"venue": "mock"}}
    config = write_config(tmp_path, {"mock": exchange.url}, accounts, drain_s=1.0)
    with serving(tmp_path, config=config) as served:
        async with trading(served) as (callers, _):
            with silent(exchange):
                await until_all_wait(served)
                in_flight = set(callers.in_flight)
                asked = time.monotonic()
                served.tell(signal.SIGTERM)
                code = await served.ended()
                took_s = time.monotonic() - asked
    assert code == 0, served.log.read_text("utf-8")
    # The drain, and what it takes to tell the callers and to close.
    assert took_s < 1.0 + 3.0, f"{took_s:.1f} s"
    orders = {str(order.idempotency_key): order for order in await recorded_orders(config)}
    doubtful = {key for key, order in orders.items() if order.in_doubt}
    assert doubtful == in_flight, "exactly those whose answer had not come"
    for key in in_flight & set(callers.answers):
        assert callers.answers[key].in_doubt, "nobody is told what nobody knows"

    folded = Folded()
    with serving(tmp_path, config=config) as served:
        async with tradegw.connect(served.grpc) as gateway:
            await until(lambda: is_settled(gateway), 60, "nothing is in doubt")
            await folded.read(gateway, to_head=True)
        assert await asyncio.to_thread(served.stop) == 0
    with exchange.ledger() as client:
        ledger = client.read("paper")
    claim = check_claim(await recorded_orders(config), ledger)
    assert told_trades(folded.fills) == exchange_trades(ledger)
    verify(config)
    tell(
        f"SIGTERM with a silent exchange: exit 0 after {took_s:.1f} s, {len(doubtful)} in doubt; after the "
        f"next start none: {claim.at_exchange} at the exchange, {claim.never_arrived} never there"
    )


async def test_a_second_ctrl_c_ends_it_at_once(exchange: MockProcess, tmp_path: Path) -> None:
    config = write_config(tmp_path, {"mock": exchange.url}, {"paper": {"venue": "mock"}})
    key = "k0-c0-o0"
    with serving(tmp_path, config=config) as served, silent(exchange) as go_on:
        async with tradegw.connect(served.grpc) as gateway:
            go_on()
            await until(lambda: is_settled(gateway), 60, "the account takes orders")
            os.kill(exchange.pid, signal.SIGSTOP)
            call = asyncio.create_task(gateway.place_order(**an_order(key)))
            await until_all_wait(served, 1)
            served.tell(signal.SIGINT)
            await asyncio.to_thread(
                wait_until,
                lambda: "no new orders from now on" in served.log.read_text("utf-8"),
                10,
                "it drains",
            )
            assert served.is_alive, "it waits for the answer"
            served.tell(signal.SIGINT)
            assert await served.ended(2.0) == 130
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
    with serving(tmp_path, config=config) as served:
        async with tradegw.connect(served.grpc) as gateway:
            again = await gateway.place_order(**an_order(key))
            await until(lambda: is_settled(gateway), 60, "nothing is in doubt")
            orders = (await gateway.list_orders()).items
        assert await asyncio.to_thread(served.stop) == 0
    assert [order.order_id for order in orders] == [again.order_id]
    with exchange.ledger() as client:
        check_claim(orders, client.read("paper"))
    verify(config)
