"""Every fault as a client meets it: through the venue in process, and through the native door.

Each test finds what happened in the exchange's audit trail too, and the books in order.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tradegw_mock import exchange as mock
from tradegw_mock import hostfaults
from tradegw_mock.chaos import FaultSpec
from tradegw_mock.config import MockConfig
from tradegw_mock.host import Host
from tradegw_mock.inprocess import InProcessVenue
from tradegw_mock.native.protocol import Subscribe

from tradegw import (
    ExecType,
    ExecutionReport,
    OrdStatus,
    OutcomeUnknown,
    RateLimited,
    VenueError,
    VenueRejected,
)
from tradegw.venue import (
    FetchFills,
    FetchHistory,
    FetchOpenOrders,
    FetchReferencePrice,
    FetchServerTime,
    StreamGap,
    StreamItem,
    StreamReady,
)

from .native_helpers import a_wire, a_world, remote
from .venue_helpers import START_NS, Account, D, Runtime, an_order, opened

S = 1_000_000_000


class Reach:
    """One account's way to an exchange, and the clock of both."""

    def __init__(self, host: Host, account: Account, runtime: Runtime) -> None:
        self.host = host
        self.account = account
        self.runtime = runtime
        self.streams: list[Any] = []

    def listen(self) -> Listener:
        listener = Listener(self.account)
        self.streams.append(listener.items)
        return listener

    async def inject(self, kind: str, **more: Any) -> int:
        fault = await self.host.faults.inject(msgspec.convert({"kind": kind, **more}, FaultSpec))
        return fault.fault_id

    async def advance(self, seconds: float) -> None:
        await self.runtime.advance(seconds)
        self.account.runtime.now_ns = self.runtime.now_ns

    def placing(self, name: str = "c1", **more: Any) -> asyncio.Task[Any]:
        return asyncio.ensure_future(self.account.place(an_order(name, **more)))

    async def fetched(self, query: Any) -> list[ExecutionReport]:
        return list((await self.account.hooks.fetch(query)).items)

    async def fills(self, count: int) -> list[ExecutionReport]:
        """List the fills, if there are so many."""
        fills = await self.fetched(FetchFills(symbol="BTC/USDT"))
        return fills if len(fills) >= count else []

    async def fill(self, qty: str = "0.01", price: str = "60000") -> None:
        """Let somebody sell to whoever buys."""
        exchange = self.host.exchange
        if all(account.name != "other" for account in exchange.accounts()):
            await self.host.open_account("other")
        exchange.place(
            "other",
            mock.OrderRequest(
                symbol="BTC/USDT",
                side=mock.Side.SELL,
                ord_type=mock.OrdType.LIMIT,
                order_qty=D(qty),
                price=D(price),
            ),
        )

    def hits(self) -> list[tuple[str, str | None]]:
        """Read from the audit trail what was hit: kind, and client order id."""
        found: list[tuple[str, str | None]] = []
        for record in self.host.exchange.audit():
            detail = record.detail
            if isinstance(detail, mock.RequestRecord) and detail.operation == "FAULT_HIT":
                found.append((detail.arguments["kind"], detail.client_order_id))
        return found


@asynccontextmanager
async def reach_in_process() -> AsyncGenerator[Reach]:
    async with opened(liquidity="none") as account:
        assert isinstance(account.venue, InProcessVenue)
        yield Reach(account.venue._host, account, account.runtime)


@asynccontextmanager
async def reach_by_the_native_door() -> AsyncGenerator[Reach]:
    async with a_world() as world, remote(world.url) as account:
        yield Reach(world.host, account, world.runtime)


DOORS = {"in process": reach_in_process, "native": reach_by_the_native_door}


@pytest.fixture(params=DOORS)
async def reach(request: pytest.FixtureRequest) -> AsyncIterator[Reach]:
    async with DOORS[request.param]() as found:
        yield found
        for stream in found.streams:
            await stream.aclose()
        assert found.host.exchange.check_invariants() == []


async def until(condition: Awaitable[Any]) -> Any:
    async with asyncio.timeout(30):
        return await condition


async def eventually(ask: Callable[[], Any]) -> Any:
    """Ask until there is an answer: the other side of a socket takes its time."""
    async with asyncio.timeout(30):
        while True:
            answer = ask()
            answer = await answer if inspect.isawaitable(answer) else answer
            if answer:
                return answer
            await asyncio.sleep(0.001)


# --- requests and answers -------------------------------------------------------------------------


async def test_request_lost(reach: Reach) -> None:
    await reach.inject("REQUEST_LOST")
    with pytest.raises(OutcomeUnknown):
        await until(reach.account.place(an_order("c1")))
    assert await reach.account.status("c1") is None
    assert reach.hits() == [("REQUEST_LOST", "c1")]


async def test_request_delayed(reach: Reach) -> None:
    """The order of a client that gave up is accepted after it asked, and was told that there is none."""
    await reach.inject("REQUEST_DELAYED", delay_s=3)
    placing = reach.placing("c1")
    await eventually(reach.hits)
    assert await reach.account.status("c1") is None
    placing.cancel()
    await asyncio.wait([placing])
    await reach.advance(3)
    status = await eventually(lambda: reach.account.status("c1"))
    assert status.ord_status is OrdStatus.NEW
    assert reach.hits() == [("REQUEST_DELAYED", "c1")]


async def test_a_request_delayed_beyond_its_time_is_refused(reach: Reach) -> None:
    await reach.inject("REQUEST_DELAYED", delay_s=6)
    placing = reach.placing("c1")
    await eventually(reach.hits)
    await reach.advance(6)
    with pytest.raises(VenueRejected) as e:
        await until(placing)
    assert e.value.reason == "REQUEST_EXPIRED"
    assert await reach.account.status("c1") is None


async def test_answer_lost(reach: Reach) -> None:
    await reach.inject("ANSWER_LOST")
    with pytest.raises(OutcomeUnknown):
        await until(reach.account.place(an_order("c1")))
    status = await reach.account.status("c1")
    assert status is not None
    assert status.ord_status is OrdStatus.NEW
    assert reach.hits() == [("ANSWER_LOST", "c1")]


async def test_even_a_refusal_gets_lost(reach: Reach) -> None:
    await reach.inject("ANSWER_LOST")
    with pytest.raises(OutcomeUnknown):
        await until(reach.account.place(an_order("c1", price="0.001")))
    assert await reach.account.status("c1") is None
    assert reach.hits() == [("ANSWER_LOST", "c1")]


async def test_answer_delayed(reach: Reach) -> None:
    await reach.inject("ANSWER_DELAYED", delay_s=20)
    placing = reach.placing("c1")
    await eventually(lambda: reach.account.status("c1"))
    assert not placing.done()
    await eventually(reach.hits)
    await reach.advance(20)
    (report,) = await until(placing)
    assert report.exec_type is ExecType.NEW
    assert reach.hits() == [("ANSWER_DELAYED", "c1")]


@pytest.mark.parametrize("code", [-1007, 502])
async def test_error_after_acceptance(reach: Reach, code: int) -> None:
    await reach.inject("ERROR_AFTER", code=code)
    with pytest.raises(OutcomeUnknown) as e:
        await until(reach.account.place(an_order("c1")))
    assert "INTERNAL" in str(e.value)
    assert (await reach.account.status("c1")) is not None
    assert reach.hits() == [("ERROR_AFTER", "c1")]


@pytest.mark.parametrize(
    ("kind", "more", "reason", "retry_after_s"),
    [
        ("TOO_MANY_REQUESTS", {"retry_after_s": 2.5}, "TOO_MANY_REQUESTS", 2.5),
        ("BANNED", {}, "TOO_MANY_REQUESTS", 120),
        ("MAINTENANCE", {}, "UNAVAILABLE", None),
    ],
)
async def test_not_taken(
    reach: Reach, kind: str, more: dict[str, Any], reason: str, retry_after_s: float | None
) -> None:
    await reach.inject(kind, route="place", **more)
    with pytest.raises(RateLimited) as e:
        await until(reach.account.place(an_order("c1")))
    assert (e.value.reason, e.value.retry_after_s) == (reason, retry_after_s)
    assert await reach.account.status("c1") is None
    assert reach.hits() == [(kind, "c1")]


async def test_clock_skew(reach: Reach) -> None:
    """What is told and judged by the clock is wrong by the offset; what is on record is not."""
    await reach.inject("CLOCK_SKEW", offset_s=10, times=2)
    page = await reach.account.hooks.fetch(FetchServerTime())
    assert page.as_of.time_ns == START_NS + 10 * S
    with pytest.raises(VenueRejected) as e:
        await until(reach.account.place(an_order("c1")))
    assert e.value.reason == "REQUEST_EXPIRED"
    (report,) = await reach.account.place(an_order("c1"))
    assert report.transact_time_ns == START_NS
    assert reach.hits() == [("CLOCK_SKEW", None), ("CLOCK_SKEW", "c1")]


async def test_a_clock_that_is_behind_takes_what_is_too_old(reach: Reach) -> None:
    await reach.inject("CLOCK_SKEW", offset_s=-10, route="place")
    request = reach.account.request(*placed("c1"))
    await reach.advance(8)
    (report,) = await reach.account.hooks.execute(request)
    assert report.ord_status is OrdStatus.NEW


def placed(name: str) -> tuple[Any, Any]:
    from tradegw.venue import Submit

    order = an_order(name)
    return Submit(order=order), order.venue_client_order_id


# --- cancels and queries --------------------------------------------------------------------------


async def test_cancel_rejected_because_it_filled(reach: Reach) -> None:
    await reach.inject("CANCEL_FILLED")
    order = an_order("c1")
    await reach.account.place(order)
    with pytest.raises(OutcomeUnknown) as e:
        await until(reach.account.cancel(order))
    assert "ORDER_CLOSED" in str(e.value)
    status = await reach.account.status("c1")
    assert status is not None
    assert (status.ord_status, status.cum_qty) == (OrdStatus.FILLED, D("0.01"))
    (fill,) = await reach.fetched(FetchFills(symbol="BTC/USDT"))
    assert (fill.last_qty, fill.last_px) == (D("0.01"), D(60000))
    assert reach.hits() == [("CANCEL_FILLED", "c1")]


@pytest.mark.parametrize("by", ["cancel", "cancel_all"])
async def test_a_fill_after_a_cancel(reach: Reach, by: str) -> None:
    await reach.inject("FILL_AFTER_CANCEL", delay_s=2)
    order = an_order("c1", order_qty="0.02")
    await reach.account.place(order)
    await reach.fill("0.01")
    if by == "cancel":
        (report,) = await reach.account.cancel(order)
        assert (report.exec_type, report.cum_qty) == (ExecType.CANCELED, D("0.01"))
    else:
        from tradegw_mock.requests import CancelAll

        await reach.host.ask(CancelAll(account="paper"))
    status = await reach.account.status("c1")
    assert status is not None
    assert (status.ord_status, status.cum_qty) == (OrdStatus.CANCELED, D("0.01"))
    await reach.advance(2)
    fills = await eventually(lambda: reach.fills(2))
    assert [fill.last_qty for fill in fills] == [D("0.01"), D("0.01")]
    status = await reach.account.status("c1")
    assert status is not None
    assert (status.ord_status, status.cum_qty) == (OrdStatus.FILLED, D("0.02"))
    assert reach.hits() == [("FILL_AFTER_CANCEL", "c1")]


async def test_a_late_fill_that_the_account_cannot_pay_is_on_record(reach: Reach) -> None:
    await reach.inject("FILL_AFTER_CANCEL", delay_s=2)
    order = an_order("c1")
    await reach.account.place(order)
    await reach.account.cancel(order)
    exchange = reach.host.exchange
    free = exchange.balances("paper")["USDT"].free
    exchange.withdraw("paper", "USDT", free)
    await reach.advance(2)
    assert (await reach.fetched(FetchFills(symbol="BTC/USDT"))) == []
    refused = [
        record.detail.code
        for record in exchange.audit()
        if isinstance(record.detail, mock.RequestRecord)
        and record.detail.operation == "FILL_OUTSIDE"
    ]
    assert refused == ["INSUFFICIENT_FUNDS"]


async def test_a_name_used_again_stays_with_its_new_order(reach: Reach) -> None:
    """The late fill of an order leaves alone the open one of the same client order id."""
    await reach.inject("FILL_AFTER_CANCEL", delay_s=2)
    first = an_order("c1")
    await reach.account.place(first)
    await reach.account.cancel(first)
    await reach.account.place(an_order("c1"))
    await reach.advance(2)
    await eventually(lambda: reach.fills(1))
    (second,) = await reach.fetched(FetchOpenOrders())
    status = await reach.account.status("c1")
    assert status is not None
    assert status.venue_order_id == second.venue_order_id
    assert reach.host.exchange.check_invariants() == []
    await reach.account.cancel(an_order("c1"))


async def test_stale_open_orders(reach: Reach) -> None:
    await reach.inject("STALE_OPEN_ORDERS", lag_s=5, times=0)
    first, second = an_order("c1"), an_order("c2")
    await reach.account.place(first)
    await reach.advance(5)
    await reach.account.place(second)
    await reach.account.cancel(first)

    async def names() -> list[str | None]:
        return [o.venue_client_order_id for o in await reach.fetched(FetchOpenOrders())]

    assert await names() == ["c1"]
    await reach.advance(5)
    assert await names() == ["c2"]
    assert reach.hits() == [("STALE_OPEN_ORDERS", None)]


async def test_trade_history_lags(reach: Reach) -> None:
    await reach.inject("HISTORY_LAGS", lag_s=5)
    await reach.account.place(an_order("c1"))
    await reach.fill()
    status = await reach.account.status("c1")
    assert status is not None
    assert status.ord_status is OrdStatus.FILLED
    assert await reach.fetched(FetchFills(symbol="BTC/USDT")) == []
    await reach.advance(5)
    assert len(await reach.fetched(FetchFills(symbol="BTC/USDT"))) == 1
    assert reach.hits() == [("HISTORY_LAGS", "c1")]


async def test_not_found_for_a_while(reach: Reach) -> None:
    await reach.inject("NOT_FOUND", lag_s=2)
    await reach.account.place(an_order("c1"))
    assert await reach.account.status("c1") is None
    assert await reach.fetched(FetchOpenOrders()) == []
    assert await reach.fetched(FetchHistory(symbol="BTC/USDT")) == []
    await reach.advance(2)
    assert await reach.account.status("c1") is not None
    assert len(await reach.fetched(FetchOpenOrders())) == 1
    assert reach.hits() == [("NOT_FOUND", "c1")]


# --- streams --------------------------------------------------------------------------------------


class Listener:
    """What a client hears of its stream, as the reconciler would: reports, and the gaps between them."""

    def __init__(self, account: Account) -> None:
        self.items: AsyncIterator[StreamItem] = account.hooks.stream(0)

    async def ready(self) -> StreamReady:
        item = await until(anext(self.items))
        assert isinstance(item, StreamReady)
        return item

    async def next(self) -> str:
        """Give the next item in a word."""
        while True:
            item = await until(anext(self.items))
            if isinstance(item, StreamGap):
                return "gap"
            if isinstance(item, StreamReady):
                return "ready"
            if isinstance(item, ExecutionReport):
                return f"{item.exec_type} {item.venue_client_order_id}"

    async def hear(self, count: int) -> list[str]:
        return [await self.next() for _ in range(count)]


# The native door numbers events and its client goes back for those that are missing; in process nobody
# notices, as with the venues that number nothing.
@pytest.mark.parametrize(
    ("kind", "heard"),
    [
        (
            "EVENT_DROPPED",
            {
                "in process": ["NEW c2", "NEW c3"],
                "native": ["gap", "ready", "NEW c1", "NEW c2", "NEW c3"],
            },
        ),
        (
            "EVENT_DUPLICATED",
            {
                "in process": ["NEW c1", "NEW c1", "NEW c2", "NEW c3"],
                "native": ["gap", "ready", "NEW c1", "NEW c2", "NEW c3"],
            },
        ),
        (
            "EVENT_REORDERED",
            {
                "in process": ["NEW c1", "NEW c2", "NEW c3"],
                "native": ["gap", "ready", "NEW c1", "NEW c2", "NEW c3"],
            },
        ),
        (
            "DISCONNECT",
            {
                "in process": ["gap", "ready", "NEW c2", "NEW c3"],
                "native": ["gap", "ready", "NEW c1", "NEW c2", "NEW c3"],
            },
        ),
    ],
)
async def test_what_a_stream_carries(
    request: pytest.FixtureRequest, reach: Reach, kind: str, heard: dict[str, list[str]]
) -> None:
    listener = reach.listen()
    await listener.ready()
    expected = heard[request.node.callspec.params["reach"]]
    # On the order's own event, not on that of its balances.
    await reach.inject(kind, symbol="BTC/USDT")
    await reach.account.place(an_order("c1"))
    told: list[str] = []
    if expected[0] == "gap":
        told += await listener.hear(2)
    for name in ("c2", "c3"):
        await reach.account.place(an_order(name))
    told += await listener.hear(len(expected) - len(told))
    assert told == expected
    assert reach.hits() == [(kind, "c1")]


async def test_a_cut_comes_at_once(reach: Reach) -> None:
    listener = reach.listen()
    await listener.ready()
    hearing = asyncio.ensure_future(listener.hear(2))
    await asyncio.sleep(0)
    await reach.inject("DISCONNECT", account="paper")
    assert await until(hearing) == ["gap", "ready"]
    assert reach.hits() == [("DISCONNECT", None)]


async def test_maintenance_keeps_streams_out() -> None:
    """Who wants to follow is refused like everyone, and comes back."""
    async with a_world() as world, a_wire(world) as wire:
        await world.host.open_account("a")
        spec = msgspec.convert({"kind": "MAINTENANCE"}, FaultSpec)
        await world.host.faults.inject(spec)
        answer = await wire.ask(Subscribe(id=1, account="a"))
        assert answer["error"]["code"] == "UNAVAILABLE"
        answer = await wire.ask(Subscribe(id=1, account="a"))
        assert answer["ok"]["resumed"] is True
        await world.host.faults.inject(
            msgspec.convert({"kind": "REQUEST_LOST", "route": "subscribe"}, FaultSpec)
        )
        assert await wire.ask(Subscribe(id=2, account="a")) is None


async def test_silence_ends_when_the_fault_is_taken_back(reach: Reach) -> None:
    listener = reach.listen()
    await listener.ready()
    fault_id = await reach.inject("STREAM_SILENT")
    hearing = asyncio.ensure_future(listener.next())
    await reach.account.place(an_order("c1"))
    await eventually(reach.hits)
    await reach.account.place(an_order("c2"))
    assert not hearing.done()
    await reach.host.faults.take_back(fault_id)
    await reach.account.place(an_order("c3"))
    # The native client misses what came before, and fetches it.
    assert await until(hearing) in ("NEW c3", "gap")
    assert len(reach.hits()) == 1


@pytest.mark.parametrize("keep_streams", [True, False])
async def test_a_restart(request: pytest.FixtureRequest, reach: Reach, keep_streams: bool) -> None:
    """Everybody is cut off. Who comes back hears what was missed, unless the stream is forgotten."""
    listener = reach.listen()
    await listener.ready()
    await reach.account.place(an_order("c1"))
    assert await listener.next() == "NEW c1"
    hearing = asyncio.ensure_future(listener.next())
    await asyncio.sleep(0)
    feed = reach.host.feed("paper")
    await reach.inject("RESTART", keep_streams=keep_streams)
    assert await until(hearing) == "gap"
    assert (reach.host.feed("paper") is feed) == keep_streams
    assert await listener.next() == "ready"
    await reach.account.place(an_order("c2"))
    assert await listener.next() == "NEW c2"
    assert reach.hits() == [("RESTART", None)]


async def test_a_restart_loses_what_is_on_its_way(reach: Reach) -> None:
    await reach.inject("REQUEST_DELAYED", delay_s=100)
    placing = reach.placing("c1")
    await eventually(reach.hits)
    await reach.inject("RESTART")
    with pytest.raises(OutcomeUnknown):
        await until(placing)
    await reach.advance(200)
    assert await reach.account.status("c1") is None


async def test_closing_waits_for_no_delay() -> None:
    async with a_world() as world, remote(world.url) as account:
        reach = Reach(world.host, account, world.runtime)
        await reach.inject("ANSWER_DELAYED", delay_s=3600)
        placing = reach.placing("c1")
        await eventually(reach.hits)
        await until(world.door.close())
        with pytest.raises(OutcomeUnknown):
            await until(placing)


async def test_what_is_held_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood through a delay costs no more memory than the bound; what is beyond is lost."""
    monkeypatch.setattr(hostfaults, "HELD_BACK_MAX", 3)
    async with reach_in_process() as reach:
        await reach.inject("REQUEST_DELAYED", times=0, delay_s=2)
        placing = [reach.placing(f"c{number}") for number in range(5)]
        await eventually(lambda: sum(task.done() for task in placing) == 2)
        await reach.advance(2)
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*placing, return_exceptions=True)
        assert sum(isinstance(outcome, OutcomeUnknown) for outcome in outcomes) == 2
        assert len(await reach.fetched(FetchOpenOrders())) == 3


# --- on record ------------------------------------------------------------------------------------


async def test_faults_given_and_taken_back_are_on_record(reach: Reach) -> None:
    fault_id = await reach.inject("ANSWER_DELAYED", account="paper", times=3, delay_s=2)
    await reach.host.faults.take_back(fault_id)
    lines = [
        (record.account, detail.operation, detail.arguments)
        for record in reach.host.exchange.audit()
        if isinstance(detail := record.detail, mock.RequestRecord)
        and detail.operation.startswith("FAULT")
    ]
    given = {
        "fault": "1",
        "kind": "ANSWER_DELAYED",
        "account": "paper",
        "times": "3",
        "delay_s": "2.0",
    }
    taken = {"fault": "1", "kind": "ANSWER_DELAYED", "hits": "0"}
    assert lines == [("paper", "FAULT_GIVEN", given), ("paper", "FAULT_TAKEN_BACK", taken)]


async def test_a_witness_meets_no_fault(reach: Reach) -> None:
    from tradegw_mock.requests import ListOrders

    await reach.inject("MAINTENANCE", times=0)
    await reach.inject("NOT_FOUND", times=0, lag_s=100)
    listed: Any = await reach.host.ask(ListOrders(account="paper", witness=True))
    assert listed.orders == ()
    assert reach.hits() == []


# --- as somebody configures it --------------------------------------------------------------------


async def test_a_scenario_plays_in_the_gateways_own_process(tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text('[[fault]]\nkind = "ANSWER_LOST"\naccount = "paper"\n')
    async with opened(liquidity="none", scenario=str(path)) as account:
        with pytest.raises(OutcomeUnknown):
            await account.place(an_order("c1"))
        status = await account.status("c1")
        assert status is not None
        assert status.ord_status is OrdStatus.NEW


@pytest.mark.parametrize("name", ["scenario", "replay"])
async def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, name: str) -> None:
    missing = str(tmp_path / "none")
    with pytest.raises(VenueError, match="none"):
        async with opened(**{name: missing}):
            pass
    with pytest.raises(ValueError, match="for the process behind url"):
        MockConfig(url="127.0.0.1:1", **{name: missing})


async def test_a_file_is_replayed_in_the_gateways_own_process(tmp_path: Path) -> None:
    path = tmp_path / "market.csv"
    path.write_text("time_ms,kind,symbol,side,price,qty\n0,trade,BTC/USDT,BUY,50000,1\n")
    async with opened(replay=str(path)) as account:
        (price,) = (await account.hooks.fetch(FetchReferencePrice(symbol="BTC/USDT"))).items
        assert 49_990 < price.px < 50_010
