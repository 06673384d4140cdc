"""The HTTP side door."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tradegw.errors import ConfigError, StoreUnavailable, TradegwError, Unavailable
from tradegw.gateway import AccountStatus, VenueInfo
from tradegw.gateway.api import OutboxStatus
from tradegw.gateway.metrics import Metrics
from tradegw.model import AccountName, OrdStatus
from tradegw.transports import readiness
from tradegw.transports.http import HttpDoor, serve_http


@dataclass
class Operations:
    """A gateway's state, as a test wants it."""

    states: dict[str, str] = field(default_factory=lambda: {"a": "READY", "b": "READY"})
    ping: Any = None
    counts: dict[OrdStatus, int] = field(default_factory=dict)
    count_error: Exception | None = None
    venues_error: TradegwError | None = None

    async def ping_store(self) -> None:
        if isinstance(self.ping, Exception):
            raise self.ping
        if self.ping is not None:
            await self.ping.wait()

    def list_outboxes(self) -> Sequence[OutboxStatus]:
        return ()

    async def list_held(self) -> Sequence[VenueInfo]:
        if self.venues_error is not None:
            raise self.venues_error
        return [
            VenueInfo(
                venue=f"venue-{name}",
                plugin="fake",
                accounts=(
                    AccountStatus(
                        account=AccountName(name),
                        venue=f"venue-{name}",
                        plugin="fake",
                        state=state,
                        why="" if state == "READY" else "asking the venue",
                        open_orders=2,
                        in_doubt=1,
                        head_seq=7,
                    ),
                ),
            )
            for name, state in self.states.items()
        ]

    async def count_orders(self) -> Mapping[OrdStatus, int]:
        if self.count_error is not None:
            raise self.count_error
        return self.counts


@dataclass
class Answer:
    status: int
    kind: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(door: HttpDoor, path: str, method: str = "GET") -> Answer:
    host, _, port = door.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {door.address}\r\nConnection: close\r\n\r\n".encode()
        )
        raw = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return Answer(int(lines[0].split()[1]), headers.get("content-type", ""), body)


@pytest.fixture
def operations() -> Operations:
    return Operations()


@pytest.fixture
async def door(operations: Operations) -> AsyncIterator[HttpDoor]:
    async with serve_http(operations, port=0, metrics=Metrics()) as door:
        yield door


async def test_alive_whatever_the_store_does(door: HttpDoor, operations: Operations) -> None:
    operations.ping = StoreUnavailable("gone")
    answer = await ask(door, "/healthz")
    assert (answer.status, answer.json["status"]) == (200, "alive")


async def test_ready_when_all_is_well(door: HttpDoor) -> None:
    answer = await ask(door, "/readyz")
    assert answer.status == 200
    assert answer.json["ready"] is True
    assert answer.json["store"]["ready"] is True
    assert answer.json["store"]["seconds"] >= 0
    assert answer.json["venues"][0] == {
        "venue": "venue-a",
        "plugin": "fake",
        "ready": True,
        "accounts": [{"account": "a", "state": "READY", "why": ""}],
    }


@pytest.mark.parametrize("state", ["STARTING", "RECONCILING", "STOPPED"])
async def test_one_account_that_is_not_ready_is_named(
    door: HttpDoor, operations: Operations, state: str
) -> None:
    operations.states["b"] = state
    answer = await ask(door, "/readyz")
    assert answer.status == 503
    assert [venue["ready"] for venue in answer.json["venues"]] == [True, False]
    assert answer.json["venues"][1]["accounts"] == [
        {"account": "b", "state": state, "why": "asking the venue"}
    ]


async def test_not_ready_without_a_store(door: HttpDoor, operations: Operations) -> None:
    operations.ping = StoreUnavailable("the disk is gone")
    answer = await ask(door, "/readyz")
    assert answer.status == 503
    assert answer.json["store"]["why"] == "StoreUnavailable: the disk is gone"
    operations.ping = None
    assert (await ask(door, "/readyz")).status == 200


async def test_a_store_that_does_not_answer_is_no_store(
    door: HttpDoor, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "PING_TIMEOUT_S", 0.05)
    operations.ping = asyncio.Event()
    answer = await ask(door, "/readyz")
    assert answer.status == 503
    assert answer.json["store"]["why"] == "no answer within 0.05 s"


async def test_no_venues_are_known_before_the_store_is_open(
    door: HttpDoor, operations: Operations
) -> None:
    operations.ping = operations.venues_error = Unavailable("not opened yet")
    answer = await ask(door, "/readyz")
    assert (answer.status, answer.json["venues"]) == (503, [])


async def test_not_ready_while_shutting_down(door: HttpDoor) -> None:
    door.set_not_serving()
    answer = await ask(door, "/readyz")
    assert (answer.status, answer.json["stopping"]) == (503, True)
    assert (await ask(door, "/healthz")).status == 200


async def test_orders_are_counted(door: HttpDoor, operations: Operations) -> None:
    operations.counts = {OrdStatus.NEW: 2, OrdStatus.FILLED: 5, OrdStatus.PENDING_NEW: 1}
    answer = await ask(door, "/orders/count")
    assert answer.json == {
        "count": 8,
        "open": 3,
        "in_doubt": 2,
        "by_status": {"FILLED": 5, "NEW": 2, "PENDING_NEW": 1},
    }


async def test_figures_are_those_of_the_gateway(operations: Operations) -> None:
    metrics = Metrics()
    metrics.venue_call("mock", "Submit", "OK", 0.002)
    async with serve_http(operations, port=0, metrics=metrics) as door:
        answer = await ask(door, "/metrics")
    assert answer.status == 200
    assert answer.kind.startswith("text/plain; version=")
    text = answer.body.decode()
    assert (
        'tradegw_venue_call_seconds_count{operation="Submit",outcome="OK",venue="mock"} 1.0' in text
    )
    assert "tradegw_build_info{version=" in text


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("GET", "/", 404, "NOT_FOUND"),
        ("POST", "/healthz", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/orders/count", 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_wrong_requests_are_problems(
    door: HttpDoor, method: str, path: str, status: int, reason: str
) -> None:
    answer = await ask(door, path, method)
    assert answer.status == status
    assert answer.kind == "application/problem+json"
    assert (answer.json["status"], answer.json["reason"]) == (status, reason)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (StoreUnavailable("gone"), 503, "STORE_UNAVAILABLE"),
        (ZeroDivisionError("our insides"), 500, "INTERNAL"),
    ],
)
async def test_errors_are_problems(
    door: HttpDoor, operations: Operations, error: Exception, status: int, reason: str
) -> None:
    operations.count_error = error
    answer = await ask(door, "/orders/count")
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert b"insides" not in answer.body
    operations.count_error = None
    assert (await ask(door, "/orders/count")).status == 200


async def test_signals_are_left_alone(operations: Operations) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    async with serve_http(operations, port=0, metrics=Metrics()):
        assert {number: signal.getsignal(number) for number in before} == before


async def test_an_address_that_is_taken(door: HttpDoor, operations: Operations) -> None:
    host, _, port = door.address.rpartition(":")
    with pytest.raises(ConfigError, match=port):
        async with serve_http(operations, host, int(port), metrics=Metrics()):
            pass


async def test_an_address_that_is_none(operations: Operations) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        async with serve_http(operations, "256.256.256.256", 0, metrics=Metrics()):
            pass


async def test_the_door_closes(operations: Operations) -> None:
    async with serve_http(operations, port=0, metrics=Metrics()) as door:
        pass
    with pytest.raises(OSError, match="onnect"):
        await ask(door, "/healthz")
