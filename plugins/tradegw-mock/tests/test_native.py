"""The native door, over real sockets: what it says, what it survives, what its client makes of a cut."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tradegw_mock import exchange as mock
from tradegw_mock.exchange import Refusal
from tradegw_mock.host import ExchangeAway, ExchangeFailed
from tradegw_mock.native.protocol import REQUEST_MAX, BadFrame, Subscribe, decode_request, encode
from tradegw_mock.native.server import DoorSettings
from tradegw_mock.operations import PastLost
from tradegw_mock.requests import GetTime, OpenAccount, Place

from tradegw import (
    ExecType,
    NotSent,
    OrdStatus,
    OutcomeUnknown,
    RateLimited,
    Side,
    VenueRejected,
)
from tradegw.venue import FetchServerTime, StreamGap, StreamItem, StreamReady, Submit

from .native_helpers import World, a_wire, a_world, remote
from .venue_helpers import (
    D,
    a_market_order,
    an_order,
    next_report,
)

# --- what it says ---------------------------------------------------------------------------------


async def test_a_remote_venue_trades_as_one_in_process() -> None:
    async with a_world(liquidity="maker") as world, remote(world.url) as account:
        items = account.hooks.stream(0)
        ready = await anext(items)
        assert ready == StreamReady(instance_id=world.host.instance_id, venue_account_id="paper")
        acknowledged, trade = await account.place(a_market_order("m1"))
        assert acknowledged.exec_type is ExecType.NEW
        assert trade.exec_type is ExecType.TRADE
        assert (trade.last_qty, trade.fee_asset) == (D("0.01"), "BTC")
        told = [await next_report(items), await next_report(items)]
        assert [(r.exec_type, r.trade_id) for r in told] == [
            (ExecType.NEW, None),
            (ExecType.TRADE, trade.trade_id),
        ]
        await account.place(an_order("c1"))
        replaced = await account.replace(an_order("c1"), price="61000")
        assert [r.exec_type for r in replaced] == [ExecType.REPLACED]
        cancelled = await account.cancel(an_order("c1"))
        assert [r.exec_type for r in cancelled] == [ExecType.CANCELED]
        found = await account.status("c1")
        assert found is not None
        assert found.ord_status is OrdStatus.CANCELED
        assert await account.status("nobody") is None
        time = await account.hooks.fetch(FetchServerTime())
        assert time.as_of.time_ns == world.now_ns


async def test_refusals_cross_the_wire() -> None:
    async with a_world() as world, remote(world.url) as account:
        with pytest.raises(VenueRejected) as e:
            await account.place(an_order(order_qty="1000"))
        assert e.value.reason == "INSUFFICIENT_FUNDS"
        with pytest.raises(OutcomeUnknown):
            await account.cancel(an_order("nobody"))


async def test_the_exchange_refuses_what_comes_late_by_its_own_clock() -> None:
    """However the sender's clock stands: the request names the time, and the receiver looks at it."""
    async with a_world() as world, remote(world.url) as account:
        request = account.request(Submit(order=an_order()), "c1")
        world.now_ns += 5_000_000_001
        with pytest.raises(VenueRejected) as e:
            await account.hooks.execute(request)
        assert e.value.reason == "REQUEST_EXPIRED"
        assert await account.status("c1") is None


async def test_requests_of_a_connection_are_carried_out_in_order() -> None:
    async with a_world() as world, a_wire(world) as wire:
        await wire.ask(OpenAccount(id=1, account="a"))
        places = [Place(id=n, account="a", order=an_exchange_order(f"c{n}")) for n in range(2, 102)]
        wire.writer.write(b"".join(encode(place) for place in places))
        answers = [await wire.read() for _ in places]
        by_id = {answer["id"]: answer["ok"]["order"]["order_id"] for answer in answers}
        assert [by_id[n] for n in range(2, 102)] == sorted(by_id.values())


def an_exchange_order(name: str, **more: Any) -> mock.OrderRequest:
    fields: dict[str, Any] = {
        "symbol": "BTC/USDT",
        "side": mock.Side.BUY,
        "ord_type": mock.OrdType.LIMIT,
        "order_qty": D("0.01"),
        "price": D(60000),
        "client_order_id": name,
    }
    return mock.OrderRequest(**(fields | more))


# --- what it survives -----------------------------------------------------------------------------


def place(**fields: object) -> bytes:
    order = {
        "symbol": "BTC/USDT",
        "side": "BUY",
        "ord_type": "LIMIT",
        "order_qty": "1",
        "price": "1",
    }
    request = {"op": "place", "id": 9, "account": "a", "order": order | fields}
    return json.dumps(request).encode() + b"\n"


BAD_FRAMES = {
    "empty": b"\n",
    "no JSON": b"hello\n",
    "no UTF-8": b'{"op":"\xff\xfe"}\n',
    "no object": b"[1]\n",
    "no op": b'{"id":9}\n',
    "unknown op": b'{"op":"drop_tables","id":9}\n',
    "unknown field": b'{"op":"time","id":9,"now":true}\n',
    "id of another kind": b'{"op":"time","id":"9"}\n',
    "huge id": b'{"op":"time","id":' + b"9" * 40 + b"}\n",
    "deeply nested": b"[" * 100_000 + b"\n",
    "deeply nested in a field": b'{"op":"time","id":9,"account":' + b"[" * 50_000 + b"\n",
    "side of tomorrow": place(side="BORROW"),
    "NaN": place(price="NaN"),
    "signalling NaN": place(order_qty="sNaN"),
    "infinite": place(price="-Infinity"),
    "huge exponent": place(price="1E+999999"),
    "tiny exponent": place(order_qty="1E-999999"),
    "too many digits": place(price="1" * 100),
    "huge time": place(expire_time_ns=10**30),
    "long name": place(client_order_id="x" * 2000),
}


@pytest.mark.parametrize("line", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
async def test_a_bad_frame_is_answered_and_does_no_harm(line: bytes) -> None:
    async with a_world() as world, a_wire(world) as wire:
        await wire.ask(OpenAccount(id=1, account="a"))
        answer = await wire.ask(line)
        assert answer["error"]["code"] == "BAD_FRAME"
        assert answer["error"]["text"]
        # The same connection goes on, and the exchange still trades.
        done = await wire.ask(Place(id=10, account="a", order=an_exchange_order("c1")))
        assert done["ok"]["order"]["ord_status"] == "NEW"


async def test_an_endless_line_ends_its_connection_alone() -> None:
    async with a_world() as world, a_wire(world) as wire, a_wire(world) as other:
        wire.writer.write(b"x" * (REQUEST_MAX + 10))
        answer = await wire.read()
        assert answer["error"]["code"] == "FRAME_TOO_LARGE"
        assert await wire.read() is None
        assert "ok" in await other.ask(GetTime(id=1))


@pytest.mark.parametrize("begun", [b"", b'{"op":"ti'], ids=["at once", "within a frame"])
async def test_a_client_that_leaves_disturbs_nobody(begun: bytes) -> None:
    async with a_world() as world, a_wire(world) as other:
        async with a_wire(world) as wire:
            wire.writer.write(begun)
        assert "ok" in await other.ask(GetTime(id=1))


async def test_a_request_is_carried_out_even_when_its_client_left() -> None:
    async with a_world() as world:
        reader, writer = await asyncio.open_connection(*world.door.address)
        writer.write(encode(OpenAccount(id=1, account="a")))
        await reader.readline()
        writer.write(encode(Place(id=2, account="a", order=an_exchange_order("c1"))))
        writer.close()
        await writer.wait_closed()
        async with remote(world.url, "a") as account:
            # Another connection: this one may be read first.
            while (found := await account.status("c1")) is None:
                pass
            assert found.ord_status is OrdStatus.NEW


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
numbers = st.one_of(
    st.decimals(allow_nan=True, allow_infinity=True).map(str),
    st.integers(min_value=-(10**9), max_value=10**9).map(str),
    st.sampled_from(["65000", "0.01", "60000.005", "0", "-1", "1e3", "0.000000001", "100000"]),
    json_values,
)
FIELDS = {
    "symbol": st.sampled_from(["BTC/USDT", "ETH/USD", "", "X"]) | json_values,
    "side": st.sampled_from(["BUY", "SELL"]) | json_values,
    "ord_type": st.sampled_from(list(mock.OrdType)) | json_values,
    "time_in_force": st.sampled_from(list(mock.TimeInForce)),
    "order_qty": numbers,
    "quote_qty": numbers,
    "price": numbers,
    "trigger_price": numbers,
    "client_order_id": st.text(max_size=40) | st.sampled_from(["c1", "c2"]),
    "expire_time_ns": st.integers() | json_values,
    "post_only": st.booleans(),
}
orders = st.lists(st.sampled_from(sorted(FIELDS)), unique=True).flatmap(
    lambda names: st.fixed_dictionaries(
        {name: FIELDS[name] for name in {"symbol", "side", "ord_type", *names}}
    )
)
frames = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda op, fields: json.dumps({"account": "a"} | fields | {"op": op}).encode(),
        st.sampled_from(
            [
                "open_account",
                "place",
                "cancel",
                "replace",
                "cancel_all",
                "batch",
                "time",
                "instruments",
                "price",
                "order",
                "open_orders",
                "orders",
                "fills",
                "balances",
                "accounts",
                "audit",
                "subscribe",
            ]
        ),
        st.dictionaries(
            st.sampled_from(
                [
                    "account",
                    "id",
                    "order",
                    "order_id",
                    "client_order_id",
                    "symbol",
                    "since_ns",
                    "after",
                    "items",
                    "balances",
                    "price",
                    "order_qty",
                    "valid_until_ns",
                    "instance_id",
                ]
            ),
            numbers | st.integers(),
            max_size=4,
        ),
    ),
    orders.map(lambda order: json.dumps({"op": "place", "account": "a", "order": order}).encode()),
)


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(frames, max_size=12))
def test_no_line_breaks_the_exchange(lines: list[bytes]) -> None:
    async def story() -> None:
        async with a_world(liquidity="maker") as world:
            await world.host.open_account("a")
            for line in lines:
                try:
                    request = decode_request(line)
                except BadFrame:
                    continue
                if isinstance(request, Subscribe):
                    continue
                try:
                    encode(await world.host.carry_out(request))
                except (Refusal, PastLost):
                    continue
                except (ExchangeAway, ExchangeFailed) as e:
                    raise AssertionError(f"{line!r} broke the exchange") from e
            name = an_exchange_order("afterwards", price=D(60000), order_qty=D("0.0001"))
            await world.host.open_account("z")
            await world.host.carry_out(Place(account="z", order=name))

    asyncio.run(story())


# --- bounds ---------------------------------------------------------------------------------------


async def test_more_unanswered_requests_than_allowed_are_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_world(door=DoorSettings(in_flight_max=2)) as world, remote(world.url) as account:
        gate = asyncio.Event()
        carry_out: Callable[..., Awaitable[Any]] = world.host.carry_out

        async def held(request: Any, **more: Any) -> Any:
            await gate.wait()
            return await carry_out(request, **more)

        monkeypatch.setattr(world.host, "carry_out", held)
        taken = [asyncio.ensure_future(account.place(an_order(f"c{n}"))) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RateLimited) as e:
            await account.place(an_order("c3"))
        assert e.value.reason == "TOO_MANY_REQUESTS"
        gate.set()
        await asyncio.gather(*taken)
        assert await account.status("c1") is not None
        assert await account.status("c3") is None


async def test_a_subscriber_that_does_not_read_is_disconnected() -> None:
    async with a_world(door=DoorSettings(stall_s=0.1), feed_keep=100_000) as world:
        await world.host.open_account("a")
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, world.door.address)
        # A reader that stops when it holds little, and nobody takes anything out.
        reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
        try:
            writer.write(encode(Subscribe(id=1, account="a")))
            assert b"resumed" in await reader.readline()
            number = 0
            while len(world.door._connections) == 1:
                for _ in range(100):
                    number += 1
                    order = an_exchange_order(f"c{number}", price=D(1000))
                    await world.host.carry_out(Place(account="a", order=order))
                    await world.host.carry_out(
                        decode_request(
                            b'{"op":"cancel","account":"a","client_order_id":"c%d"}' % number
                        )  # type: ignore[arg-type]
                    )
                await asyncio.sleep(0)
            assert not world.door._connections
        finally:
            writer.transport.abort()


async def test_a_subscriber_that_falls_behind_is_told_so() -> None:
    async with a_world(feed_keep=4) as world, a_wire(world) as wire:
        await wire.ask(OpenAccount(id=1, account="a"))
        await wire.ask(Subscribe(id=2, account="a"))
        # All at once, so that none can be sent in between.
        for number in range(20):
            order = an_exchange_order(f"c{number}", price=D(1000))
            await world.host.carry_out(Place(account="a", order=order))
        frame = await wire.read()
        assert frame["id"] == 2
        assert "too slow" in frame["end"]
        assert await wire.read() is None


async def test_heartbeats_show_that_a_quiet_stream_lives() -> None:
    async with a_world(door=DoorSettings(heartbeat_s=0.01)) as world, a_wire(world) as wire:
        await wire.ask(OpenAccount(id=1, account="a"))
        await wire.ask(Subscribe(id=2, account="a"))
        assert await wire.read() == {"id": 2, "events": []}


# --- subscriptions --------------------------------------------------------------------------------


async def test_a_subscription_goes_on_where_it_ended() -> None:
    async with a_world() as world, a_wire(world) as trader:
        await trader.ask(OpenAccount(id=1, account="a"))
        async with a_wire(world) as wire:
            answer = await wire.ask(Subscribe(id=1, account="a"))
            await trader.ask(Place(id=2, account="a", order=an_exchange_order("c1")))
            first = await wire.read()
            last_seq = first["events"][-1]["seq"]
            assert last_seq == answer["ok"]["after"] + len(first["events"])
        await trader.ask(Place(id=3, account="a", order=an_exchange_order("c2")))
        async with a_wire(world) as wire:
            instance_id = answer["ok"]["instance_id"]
            request = Subscribe(id=1, account="a", after=last_seq, instance_id=instance_id)
            answer = await wire.ask(request)
            assert answer["ok"]["resumed"] is True
            missed = (await wire.read())["events"]
            assert missed[0]["seq"] == last_seq + 1
            assert missed[0]["order"]["client_order_id"] == "c2"


@pytest.mark.parametrize(
    ("after", "instance_id"),
    [
        pytest.param(0, None, id="too long ago"),
        pytest.param(10**6, None, id="never happened"),
        pytest.param(12, "another", id="of another exchange"),
    ],
)
async def test_a_subscription_that_cannot_be_resumed_says_so(
    after: int, instance_id: str | None
) -> None:
    async with a_world(feed_keep=5) as world, a_wire(world) as wire:
        await wire.ask(OpenAccount(id=1, account="a"))
        for number in range(2, 12):
            order = an_exchange_order(f"c{number}")
            await wire.ask(Place(id=number, account="a", order=order))
        request = Subscribe(
            id=99,
            account="a",
            after=after,
            instance_id=instance_id or world.host.instance_id,
        )
        answer = (await wire.ask(request))["ok"]
        assert answer["resumed"] is False
        # One event when it was opened, and two for each order: the order's and the balances'.
        assert answer["after"] == 21


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (Subscribe(id=2, account="nobody"), "UNKNOWN_ACCOUNT"),
        (Subscribe(id=1, account="a"), "BAD_FRAME"),
    ],
    ids=["unknown account", "id in use"],
)
async def test_a_subscription_that_is_refused(line: Subscribe, code: str) -> None:
    async with a_world() as world, a_wire(world) as wire:
        await wire.ask(OpenAccount(id=5, account="a"))
        await wire.ask(Subscribe(id=1, account="a"))
        answer = await wire.ask(line)
        assert answer["error"]["code"] == code


# --- cuts -----------------------------------------------------------------------------------------


class Proxy:
    """Stands between client and server, and can cut."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.url = ""
        self.accepts = True
        self.answers = True
        self._pipes: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[Proxy]:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        address, port = self.server.sockets[0].getsockname()[:2]
        self.url = f"{address}:{port}"
        try:
            yield self
        finally:
            self.server.close()
            self.cut()

    def cut(self) -> None:
        for pipe in self._pipes:
            pipe.transport.abort()
        self._pipes.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.accepts:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(*self.target)
        self._pipes += [writer, back]
        await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer, is_answer=True))

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65536):
                if is_answer and not self.answers:
                    self.cut()
                    return
                writer.write(chunk)
        writer.close()


@asynccontextmanager
async def a_proxy(world: World) -> AsyncGenerator[Proxy]:
    async with Proxy(world.door.address).serving() as proxy:
        yield proxy


async def test_a_connection_cut_before_the_answer_leaves_the_outcome_unknown() -> None:
    async with a_world() as world, a_proxy(world) as proxy, remote(proxy.url) as account:
        proxy.answers = False
        with pytest.raises(OutcomeUnknown):
            await account.place(an_order())
        proxy.answers = True
        # It is live there. The next request connects anew by itself.
        found = await account.status("c1")
        assert found is not None
        assert found.ord_status is OrdStatus.NEW


async def test_without_connection_nothing_was_sent() -> None:
    async with a_world() as world:
        url = world.url
        async with a_proxy(world) as proxy, remote(proxy.url) as account:
            items = account.hooks.stream(0)
            assert isinstance(await anext(items), StreamReady)
            proxy.accepts = False
            proxy.cut()
            # By now the client has heard of the cut, on both of its connections.
            assert isinstance(await next_other(items), StreamGap)
            proxy.server.close()
            await proxy.server.wait_closed()
            with pytest.raises(NotSent):
                await account.place(an_order())
    with pytest.raises(NotSent):
        async with remote(url):
            pass


async def test_a_cut_stream_says_gap_then_ready_and_loses_nothing() -> None:
    async with (
        a_world() as world,
        a_proxy(world) as proxy,
        remote(proxy.url) as account,
        remote(world.url) as same_account,
    ):
        items = account.hooks.stream(0)
        assert isinstance(await anext(items), StreamReady)
        await same_account.place(an_order("c1"))
        assert (await next_report(items)).venue_client_order_id == "c1"
        proxy.accepts = False
        proxy.cut()
        assert isinstance(await next_other(items), StreamGap)
        reading = asyncio.ensure_future(next_other(items))
        await same_account.place(an_order("c2"))
        proxy.accepts = True
        assert isinstance(await reading, StreamReady)
        assert (await next_report(items)).venue_client_order_id == "c2"
        assert [f.healthy for f in account.runtime.heard][::-1][0]


async def test_a_stream_that_cannot_be_resumed_fetches_the_fills_that_it_missed() -> None:
    async with (
        a_world(feed_keep=4) as world,
        a_proxy(world) as proxy,
        remote(proxy.url) as account,
        remote(world.url) as same_account,
        remote(world.url, "other") as other,
    ):
        items = account.hooks.stream(0)
        assert isinstance(await anext(items), StreamReady)
        await other.place(an_order("o1", side=Side.SELL, order_qty="1"))
        await same_account.place(an_order("c0"))
        seen = [await next_report(items), await next_report(items)]
        assert [r.exec_type for r in seen] == [ExecType.NEW, ExecType.TRADE]
        proxy.accepts = False
        proxy.cut()
        assert isinstance(await next_other(items), StreamGap)
        for number in range(1, 11):
            await same_account.place(an_order(f"c{number}"))
        proxy.accepts = True
        assert isinstance(await next_other(items), StreamReady)
        told = [await next_report(items) for _ in range(10)]
        assert {r.exec_type for r in told} == {ExecType.TRADE}
        assert [r.venue_client_order_id for r in told] == [f"c{n}" for n in range(1, 11)]


async def next_other(items: AsyncIterator[StreamItem]) -> StreamItem:
    """Read on to the next ready or gap."""
    async with asyncio.timeout(20):
        while True:
            item = await anext(items)
            if isinstance(item, (StreamReady, StreamGap)):
                return item


async def test_an_exchange_that_began_anew_shows_another_instance() -> None:
    async with (
        a_world() as first,
        a_world() as second,
        a_proxy(first) as proxy,
        remote(proxy.url) as account,
    ):
        items = account.hooks.stream(0)
        before = await anext(items)
        await account.place(an_order("c1"))
        proxy.target = second.door.address
        proxy.cut()
        assert isinstance(await next_other(items), StreamGap)
        after = await next_other(items)
        assert isinstance(before, StreamReady)
        assert isinstance(after, StreamReady)
        assert after.instance_id != before.instance_id
        # It knows nothing of the order; the account was opened again.
        assert await account.status("c1") is None
        await account.place(an_order("c2"))


# --- closing --------------------------------------------------------------------------------------


async def test_closing_answers_what_is_under_way_and_ends_streams_with_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_world() as world, a_wire(world) as wire, a_wire(world) as watcher:
        await wire.ask(OpenAccount(id=1, account="a"))
        await watcher.ask(Subscribe(id=1, account="a"))
        gate, arrived = asyncio.Event(), asyncio.Event()
        carry_out: Callable[..., Awaitable[Any]] = world.host.carry_out

        async def held(request: Any, **more: Any) -> Any:
            arrived.set()
            await gate.wait()
            return await carry_out(request, **more)

        monkeypatch.setattr(world.host, "carry_out", held)
        wire.writer.write(encode(Place(id=2, account="a", order=an_exchange_order("c1"))))
        await arrived.wait()
        closing = asyncio.ensure_future(world.door.close())
        await asyncio.sleep(0)
        late = await wire.ask(Place(id=3, account="a", order=an_exchange_order("c2")))
        assert late["error"]["code"] == "UNAVAILABLE"
        gate.set()
        answer = await wire.read()
        assert (answer["id"], answer["ok"]["order"]["ord_status"]) == (2, "NEW")
        await closing
        assert await wire.read() is None
        frame = await watcher.read()
        while "end" not in frame:
            frame = await watcher.read()
        assert "shuts down" in frame["end"]
        assert await watcher.read() is None


def test_decimals_cross_the_wire_as_text() -> None:
    line = encode(Place(id=1, account="a", order=an_exchange_order("c1", price=Decimal("0.10"))))
    assert json.loads(line)["order"]["price"] == "0.10"
    assert decode_request(line) == Place(
        id=1, account="a", order=an_exchange_order("c1", price=Decimal("0.10"))
    )
