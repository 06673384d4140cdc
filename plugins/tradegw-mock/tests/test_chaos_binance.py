"""Every fault as a client of the Binance-compatible doors meets it, and as the audit trail tells it.

The exchange goes by a virtual clock, so that "later" is when the test says so.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tradegw_mock.testing import MockProcess
from websockets.exceptions import ConnectionClosed

from .admin_helpers import Admin
from .binance_client import Rest, Socket, an_order, socket_api, stream

NOT_FOUND = (400, -2013, "Order does not exist.")
BROKEN = (http.client.HTTPException, ConnectionError)


class VirtualRest(Rest):
    """Its clock is the exchange's."""

    def now_ms(self) -> int:
        time: int = self.public("time")["serverTime"]
        return time


class Desk:
    """One account at one exchange, its operator, and what the faults of a test hit."""

    def __init__(self, process: MockProcess, number: int) -> None:
        self.admin = Admin(process.serving.admin)
        self.rest = VirtualRest(process.serving)
        self.name = f"n{number}"
        self._hits_before = len(self.admin.hits())

    def inject(self, kind: str, **more: Any) -> int:
        fault: int = self.admin.post("/faults", kind=kind, account="alice", **more)["fault_id"]
        return fault

    def place(self, name: str = "", **more: Any) -> Any:
        return self.rest.place(newClientOrderId=name or self.name, **more)

    def status(self, name: str = "") -> Any:
        return self.rest.ok("GET", "order", symbol="BTCUSDT", origClientOrderId=name or self.name)

    def missing(self, name: str = "") -> tuple[int, int, str]:
        return self.rest.error(
            "GET", "order", symbol="BTCUSDT", origClientOrderId=name or self.name
        )

    def advance(self, seconds: float) -> None:
        self.admin.post("/clock", seconds=seconds)

    def hits(self) -> list[tuple[str, str | None]]:
        found = self.admin.hits()[self._hits_before :]
        return [(hit["arguments"]["kind"], hit["client_order_id"]) for hit in found]


@pytest.fixture(scope="module")
def exchange() -> Iterator[MockProcess]:
    config = {"step_interval_s": 0, "limits": {"enforced": False}, "listen_keys": True}
    options = ["--clock", "virtual"]
    with MockProcess(accounts=["alice"], config=config, options=options) as process:
        yield process


@pytest.fixture
def desk(exchange: MockProcess, request: pytest.FixtureRequest) -> Iterator[Desk]:
    desk = Desk(exchange, abs(hash(request.node.nodeid)) % 10**9)
    yield desk
    desk.admin.delete("/faults")
    desk.rest.signed("DELETE", "openOrders", symbol="BTCUSDT")
    assert desk.admin.get("/invariants")["violations"] == []


class Later:
    """What a thread does meanwhile, and how it ended."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._do = do
        self.result: Any = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._do()
        except BaseException as e:  # noqa: BLE001  Whoever waits wants to know.
            self.result = e

    def wait(self) -> Any:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.result


def eventually(ask: Callable[[], Any]) -> Any:
    for _ in range(3000):
        if answer := ask():
            return answer
        threading.Event().wait(0.01)
    raise TimeoutError("never came true")


# --- requests and answers -------------------------------------------------------------------------


def test_request_lost(desk: Desk) -> None:
    desk.inject("REQUEST_LOST")
    with pytest.raises(BROKEN):
        desk.place()
    assert desk.missing() == NOT_FOUND
    assert desk.hits() == [("REQUEST_LOST", desk.name)]


def test_request_delayed(desk: Desk) -> None:
    """It is not there when its sender looks, and accepted afterwards."""
    desk.inject("REQUEST_DELAYED", delay_s=3)
    placing = Later(desk.place)
    eventually(desk.hits)
    assert desk.missing() == NOT_FOUND
    desk.advance(3)
    assert placing.wait()["status"] == "NEW"
    assert desk.status()["status"] == "NEW"
    assert desk.hits() == [("REQUEST_DELAYED", desk.name)]


def test_a_request_delayed_beyond_its_window_is_refused(desk: Desk) -> None:
    desk.inject("REQUEST_DELAYED", delay_s=6)
    placing = Later(lambda: desk.rest.error("POST", "order", **an_order()))
    eventually(desk.hits)
    desk.advance(6)
    status, code, text = placing.wait()
    assert (status, code) == (400, -1021)
    assert "recvWindow" in text


def test_answer_lost(desk: Desk) -> None:
    desk.inject("ANSWER_LOST")
    with pytest.raises(BROKEN):
        desk.place()
    assert desk.status()["status"] == "NEW"
    assert desk.hits() == [("ANSWER_LOST", desk.name)]


def test_an_order_without_a_name_is_found_by_what_was_hit(desk: Desk) -> None:
    desk.inject("ANSWER_LOST")
    with pytest.raises(BROKEN):
        desk.rest.place()
    order_id = int(desk.admin.hits()[-1]["arguments"]["order_id"])
    order = desk.rest.ok("GET", "order", symbol="BTCUSDT", orderId=order_id)
    assert order["status"] == "NEW"


def test_answer_delayed(desk: Desk) -> None:
    desk.inject("ANSWER_DELAYED", delay_s=60)
    placing = Later(desk.place)
    eventually(desk.hits)
    assert desk.status()["status"] == "NEW"
    assert placing.result is None
    desk.advance(60)
    assert placing.wait()["status"] == "NEW"
    assert desk.hits() == [("ANSWER_DELAYED", desk.name)]


@pytest.mark.parametrize("code", [-1007, -1006, 500, 502, 503])
def test_error_after_acceptance(desk: Desk, code: int) -> None:
    desk.inject("ERROR_AFTER", code=code)
    status, answer, _ = desk.rest.signed("POST", "order", **an_order(newClientOrderId=desk.name))
    if code < 0:
        assert status >= 400
        assert answer["code"] == code
        assert "unknown" in answer["msg"].lower()
    else:
        assert status == code
    assert desk.status()["status"] == "NEW"
    assert desk.hits() == [("ERROR_AFTER", desk.name)]


@pytest.mark.parametrize(
    ("kind", "more", "status", "retry_after"),
    [
        ("TOO_MANY_REQUESTS", {"retry_after_s": 7}, 429, "7"),
        ("BANNED", {}, 418, "120"),
        ("MAINTENANCE", {}, 503, None),
    ],
)
def test_not_taken(
    desk: Desk, kind: str, more: dict[str, Any], status: int, retry_after: str | None
) -> None:
    desk.inject(kind, route="place", **more)
    found, answer, headers = desk.rest.signed(
        "POST", "order", **an_order(newClientOrderId=desk.name)
    )
    assert found == status
    assert set(answer) >= {"code", "msg"}
    assert headers.get("retry-after") == retry_after
    assert desk.missing() == NOT_FOUND
    assert desk.hits() == [(kind, desk.name)]


def test_clock_skew(desk: Desk) -> None:
    """An exchange ten seconds ahead finds every request too old."""
    desk.inject("CLOCK_SKEW", offset_s=10, route="POST /api/v3/order")
    status, code, _ = desk.rest.error("POST", "order", **an_order(newClientOrderId=desk.name))
    assert (status, code) == (400, -1021)
    assert desk.missing() == NOT_FOUND
    assert desk.hits() == [("CLOCK_SKEW", desk.name)]
    desk.admin.post("/faults", kind="CLOCK_SKEW", offset_s=-50, route="GET /api/v3/time")
    behind = desk.rest.public("time")["serverTime"]
    assert 49_000 < desk.rest.public("time")["serverTime"] - behind < 51_000


# --- cancels and queries --------------------------------------------------------------------------


def test_cancel_rejected_because_it_filled(desk: Desk) -> None:
    desk.inject("CANCEL_FILLED")
    desk.place()
    named = {"symbol": "BTCUSDT", "origClientOrderId": desk.name}
    assert desk.rest.error("DELETE", "order", **named) == (400, -2011, "Unknown order sent.")
    order = desk.status()
    assert (order["status"], order["executedQty"]) == ("FILLED", "0.01000000")
    assert desk.hits() == [("CANCEL_FILLED", desk.name)]


def test_a_fill_after_a_cancel(desk: Desk) -> None:
    desk.inject("FILL_AFTER_CANCEL", delay_s=2)
    placed = desk.place()
    named = {"symbol": "BTCUSDT", "origClientOrderId": desk.name}
    assert desk.rest.ok("DELETE", "order", **named)["status"] == "CANCELED"
    assert desk.status()["status"] == "CANCELED"
    desk.advance(2)
    assert desk.status()["status"] == "FILLED"
    trades = desk.rest.ok("GET", "myTrades", symbol="BTCUSDT", orderId=placed["orderId"])
    assert [trade["qty"] for trade in trades] == ["0.01000000"]
    assert desk.hits() == [("FILL_AFTER_CANCEL", desk.name)]


def test_stale_open_orders(desk: Desk) -> None:
    # What tests before this one had open is long ago.
    desk.advance(5)
    desk.inject("STALE_OPEN_ORDERS", lag_s=5, times=0)
    desk.place()
    assert desk.rest.ok("GET", "openOrders", symbol="BTCUSDT") == []
    assert desk.status()["status"] == "NEW"
    desk.advance(5)
    (order,) = desk.rest.ok("GET", "openOrders", symbol="BTCUSDT")
    assert order["clientOrderId"] == desk.name
    assert ("STALE_OPEN_ORDERS", None) in desk.hits()


def test_trade_history_lags(desk: Desk) -> None:
    desk.inject("HISTORY_LAGS", lag_s=5)
    filled = desk.rest.place(type="MARKET", newClientOrderId=desk.name)
    named = {"symbol": "BTCUSDT", "orderId": filled["orderId"]}
    assert desk.status()["status"] == "FILLED"
    assert desk.rest.ok("GET", "myTrades", **named) == []
    desk.advance(5)
    assert len(desk.rest.ok("GET", "myTrades", **named)) == 1
    assert desk.hits() == [("HISTORY_LAGS", desk.name)]


def test_not_found_for_a_while(desk: Desk) -> None:
    desk.inject("NOT_FOUND", lag_s=2)
    desk.place()
    assert desk.missing() == NOT_FOUND
    assert desk.rest.ok("GET", "openOrders", symbol="BTCUSDT") == []
    desk.advance(2)
    assert desk.status()["status"] == "NEW"
    assert desk.hits() == [("NOT_FOUND", desk.name)]


# --- streams --------------------------------------------------------------------------------------


async def ran(do: Callable[..., Any], *args: Any, **more: Any) -> Any:
    return await asyncio.to_thread(do, *args, **more)


async def heard(socket: Socket, count: int) -> list[tuple[str, str]]:
    """Wait for so many reports of orders, and give status and name of each."""
    while len(reports := orders_in(socket)) < count:
        await socket.until(len(socket.events) + 1)
    return reports


def orders_in(socket: Socket) -> list[tuple[str, str]]:
    events = [message["event"] for message in socket.events]
    return [(e["X"], e["c"]) for e in events if e["e"] == "executionReport"]


async def subscribed(socket: Socket) -> None:
    await socket.ok("userDataStream.subscribe.signature")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("EVENT_DROPPED", ["b", "c"]),
        ("EVENT_DUPLICATED", ["a", "a", "b", "c"]),
        ("EVENT_REORDERED", ["a", "b", "c"]),
    ],
)
async def test_what_a_stream_carries(desk: Desk, kind: str, expected: list[str]) -> None:
    async with socket_api(desk.rest) as socket:
        await subscribed(socket)
        await ran(desk.inject, kind, symbol="BTC/USDT")
        for name in ("a", "b", "c"):
            await ran(desk.place, f"{desk.name}-{name}")
        told = await heard(socket, len(expected))
        assert told == [("NEW", f"{desk.name}-{name}") for name in expected]
        kinds = [message["event"]["e"] for message in socket.events]
        if kind == "EVENT_REORDERED":
            # The order's balances came first.
            assert kinds[:2] == ["outboundAccountPosition", "executionReport"]
        else:
            assert kinds[0] == ("outboundAccountPosition" if kind == "EVENT_DROPPED" else kinds[0])
    assert await ran(desk.hits) == [(kind, f"{desk.name}-a")]


async def test_a_silent_stream_still_answers_pings(desk: Desk) -> None:
    async with socket_api(desk.rest) as socket:
        await subscribed(socket)
        await ran(desk.inject, "STREAM_SILENT")
        await ran(desk.place)
        assert await ran(desk.hits) == [("STREAM_SILENT", desk.name)]
        async with asyncio.timeout(30):
            await (await socket.connection.ping())
        assert (await socket.ask("ping"))["result"] == {}
        assert socket.events == []
    async with socket_api(desk.rest) as socket:
        await subscribed(socket)
        await ran(desk.place, f"{desk.name}-2")
        assert await heard(socket, 1) == [("NEW", f"{desk.name}-2")]


@pytest.mark.parametrize(
    ("kind", "more", "status", "code", "is_there"),
    [
        ("ERROR_AFTER", {}, None, -1007, True),
        ("ERROR_AFTER", {"code": 502}, 502, None, True),
        ("TOO_MANY_REQUESTS", {}, 429, -1003, False),
        ("BANNED", {}, 418, -1003, False),
        ("MAINTENANCE", {"route": "order.place"}, 503, None, False),
    ],
)
async def test_errors_of_the_websocket_api(
    desk: Desk,
    kind: str,
    more: dict[str, Any],
    status: int | None,
    code: int | None,
    is_there: bool,
) -> None:
    await ran(desk.inject, kind, **{"route": "place", **more})
    async with socket_api(desk.rest) as socket:
        answer = await socket.signed("order.place", **an_order(newClientOrderId=desk.name))
        assert status in (None, answer["status"])
        assert answer["status"] >= 400
        assert code in (None, answer["error"]["code"])
        # The connection lives on.
        assert (await socket.ask("ping"))["result"] == {}
    if is_there:
        assert (await ran(desk.status))["status"] == "NEW"
    else:
        assert await ran(desk.missing) == NOT_FOUND
    assert await ran(desk.hits) == [(kind, desk.name)]


@pytest.mark.parametrize(("kind", "is_there"), [("REQUEST_LOST", False), ("ANSWER_LOST", True)])
async def test_losses_on_the_websocket_api(desk: Desk, kind: str, is_there: bool) -> None:
    await ran(desk.inject, kind)
    async with socket_api(desk.rest) as socket:
        placing = socket.signed("order.place", **an_order(newClientOrderId=desk.name))
        async with asyncio.timeout(30):
            with pytest.raises(ConnectionClosed):
                await placing
    if is_there:
        assert (await ran(desk.status))["status"] == "NEW"
    else:
        assert await ran(desk.missing) == NOT_FOUND
    assert await ran(desk.hits) == [(kind, desk.name)]


async def closes(read: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(ConnectionClosed):
            while True:
                await read()


async def test_a_stream_is_cut(desk: Desk) -> None:
    async with socket_api(desk.rest) as socket:
        await subscribed(socket)
        await ran(desk.inject, "DISCONNECT")
        await closes(socket.connection.recv)
    assert await ran(desk.hits) == [("DISCONNECT", None)]


@pytest.mark.parametrize("keep_streams", [True, False])
async def test_a_restart(desk: Desk, keep_streams: bool) -> None:
    """All connections are cut; a listen key outlives it, unless the streams' state is lost."""
    _, answer, _ = await ran(desk.rest.raw, "POST", "userDataStream", "", None, desk.rest.key)
    key = answer["listenKey"]
    async with socket_api(desk.rest) as socket, stream(desk.rest.serving, f"/{key}") as follows:
        await subscribed(socket)
        await ran(desk.admin.post, "/faults", kind="RESTART", keep_streams=keep_streams)
        await closes(socket.connection.recv)
        await closes(follows.recv)
    status, _, _ = await ran(
        desk.rest.raw, "PUT", "userDataStream", f"listenKey={key}", None, desk.rest.key
    )
    assert (status == 200) == keep_streams
    assert await ran(desk.hits) == [("RESTART", None)]
    assert (await ran(desk.place))["status"] == "NEW"


# --- the process ----------------------------------------------------------------------------------


def test_a_client_by_the_wall_clock_may_trade_in_virtual_time(desk: Desk) -> None:
    """An unmodified client knows nothing of other times; what it sends is not too old, nor too new."""
    order = Rest(desk.rest.serving).place(newClientOrderId=desk.name)
    assert order["status"] == "NEW"


def a_night(seed: int) -> tuple[str, int]:
    """Trade through faults over REST, one request after the other; give the trail's fingerprint."""
    options = ["--clock", "virtual"]
    with MockProcess(accounts=["alice"], seed=seed, options=options) as process:
        desk = Desk(process, 0)
        for kind in ("ERROR_AFTER", "NOT_FOUND", "CANCEL_FILLED"):
            desk.admin.post("/faults", kind=kind, probability=0.4)
        wall = Rest(process.serving)
        for number in range(30):
            # The client leaves the order's name to the exchange.
            _, order, _ = wall.signed("POST", "order", **an_order(price=str(64000 + number * 50)))
            wall.signed("GET", "openOrders", symbol="BTCUSDT")
            if "orderId" in order:
                wall.signed("DELETE", "order", symbol="BTCUSDT", orderId=order["orderId"])
            desk.advance(1)
        found = desk.admin.get("/audit/fingerprint")
        return found["sha256"], found["lines"]


def test_the_same_seed_gives_the_same_history_over_rest() -> None:
    assert a_night(3) == a_night(3) != a_night(4)


def test_a_stop_waits_for_no_delayed_answer() -> None:
    """SIGTERM with answers held back for an hour: they are lost, streams end, the exit is clean."""
    with MockProcess(accounts=["alice"]) as process:
        admin = Admin(process.serving.admin)
        admin.post("/faults", kind="ANSWER_DELAYED", delay_s=3600)
        admin.post("/faults", kind="REQUEST_DELAYED", delay_s=3600)
        rest = Rest(process.serving)
        waiting = [Later(rest.place), Later(lambda: rest.place(symbol="ETHUSDT", price="3000"))]
        eventually(lambda: len(admin.hits()) == 2)
        assert process.stop() == 0
        for later in waiting:
            assert isinstance(later.wait(), BROKEN)
