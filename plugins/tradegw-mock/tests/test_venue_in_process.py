"""The exchange in the gateway's process, as the engine meets it: through the four hooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tradegw import (
    CommandKind,
    ConfigError,
    ExecType,
    OrdStatus,
    OrdType,
    OutcomeUnknown,
    Side,
    TimeInForce,
    VenueError,
    VenueRejected,
)
from tradegw.venue import (
    BalanceUpdate,
    CancelAll,
    FetchBalances,
    FetchFills,
    FetchHistory,
    FetchOpenOrders,
    FetchPositions,
    FetchReferencePrice,
    FetchServerTime,
    StreamItem,
    StreamReady,
    Submit,
    SubmitBatch,
)

from .venue_helpers import (
    START_NS,
    D,
    Runtime,
    a_market_order,
    an_order,
    next_report,
    opened,
)


def kinds(reports: Any) -> list[str]:
    return [str(report.exec_type) for report in reports]


# --- placing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        pytest.param(an_order(), ["NEW"], id="a bid below the market rests"),
        pytest.param(a_market_order(), ["NEW", "TRADE"], id="a market order fills"),
        pytest.param(an_order(price="70000"), ["NEW", "TRADE"], id="a crossing limit fills"),
        pytest.param(
            a_market_order(order_qty=None, quote_qty="1000"),
            ["NEW", "TRADE"],
            id="a market order by quote fills",
        ),
        pytest.param(
            an_order(time_in_force=TimeInForce.IOC), ["NEW", "EXPIRED"], id="IOC finds nobody"
        ),
        pytest.param(
            an_order(time_in_force=TimeInForce.FOK, order_qty="10", price="65010"),
            ["NEW", "EXPIRED"],
            id="FOK cannot be filled whole",
        ),
        pytest.param(an_order(post_only=True), ["NEW"], id="post-only rests"),
        pytest.param(
            a_market_order(ord_type=OrdType.STOP, trigger_price="70000"), ["NEW"], id="a stop waits"
        ),
    ],
)
async def test_the_answer_carries_what_happened_at_once(order: Any, expected: list[str]) -> None:
    async with opened() as account:
        reports = await account.place(order)
    assert kinds(reports) == expected
    assert reports[0].command is CommandKind.NEW
    for report in reports:
        assert report.venue_client_order_id == "c1"
        assert report.venue_order_id == reports[0].venue_order_id
        assert report.transact_time_ns == START_NS
    filled = sum(report.last_qty or 0 for report in reports)
    assert reports[-1].cum_qty == filled


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (an_order(post_only=True, price="70000"), "WOULD_CROSS"),
        (an_order(order_qty="1000"), "INSUFFICIENT_FUNDS"),
        (an_order(price="60000.001"), "PRICE_OFF_TICK"),
        (an_order(symbol="DOGE/USDT"), "UNKNOWN_SYMBOL"),
    ],
    ids=["would cross", "no funds", "off the tick", "unknown symbol"],
)
async def test_a_refusal_is_definitive(order: Any, reason: str) -> None:
    async with opened() as account:
        with pytest.raises(VenueRejected) as e:
            await account.place(order)
        assert e.value.reason == reason
        assert await account.status("c1") is None


async def test_a_request_that_comes_late_is_refused_by_the_exchanges_clock() -> None:
    async with opened() as account:
        request = account.request(Submit(order=an_order()), "c1")
        assert request.valid_until is not None
        await account.runtime.advance(5.0)
        assert account.runtime.time_ns() == request.valid_until.time_ns
        # Up to and including the last nanosecond it is taken.
        assert kinds(await account.hooks.execute(request)) == ["NEW"]

        late = account.request(Submit(order=an_order("c2")), "c2")
        await account.runtime.advance(5.001)
        with pytest.raises(VenueRejected) as e:
            await account.hooks.execute(late)
        assert e.value.reason == "REQUEST_EXPIRED"
        assert await account.status("c2") is None


async def test_a_name_that_is_live_already_is_no_refusal() -> None:
    """Refused would close the order that is live there under that very name."""
    async with opened() as account:
        await account.place(an_order())
        with pytest.raises(OutcomeUnknown):
            await account.place(an_order())
        found = await account.status("c1")
        assert found is not None
        assert found.ord_status is OrdStatus.NEW


async def test_a_batch_answers_for_each_member() -> None:
    async with opened() as account:
        orders = (an_order(), an_order(order_qty="1000"), a_market_order())
        request = account.request(SubmitBatch(orders=orders), "b1", "b2", "b3")
        reports = await account.hooks.execute(request)
    told = [(str(r.venue_client_order_id), str(r.exec_type)) for r in reports]
    assert told == [("b1", "NEW"), ("b2", "REJECTED"), ("b3", "NEW"), ("b3", "TRADE")]


# --- cancelling and replacing ---------------------------------------------------------------------


async def test_cancel_closes_with_what_was_filled() -> None:
    async with opened() as account:
        await account.place(an_order())
        (report,) = await account.cancel(an_order())
    assert report.exec_type is ExecType.CANCELED
    assert report.command is CommandKind.CANCEL
    assert (report.ord_status, report.cum_qty) == (OrdStatus.CANCELED, 0)


async def test_replace_keeps_the_order_and_says_its_terms() -> None:
    async with opened() as account:
        (placed,) = await account.place(an_order())
        (report,) = await account.replace(an_order(), order_qty="0.02", price="61000")
        assert report.exec_type is ExecType.REPLACED
        assert report.command is CommandKind.REPLACE
        assert (report.order_qty, report.price) == (D("0.02"), D(61000))
        assert report.venue_order_id == placed.venue_order_id

        reports = await account.replace(an_order(), price="70000")
        assert kinds(reports) == ["REPLACED", "TRADE"]
        assert reports[-1].ord_status is OrdStatus.FILLED


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "never seen"])
async def test_no_such_open_order_is_no_answer_to_cancel_or_replace(is_closed: bool) -> None:
    async with opened() as account:
        if is_closed:
            await account.place(a_market_order())
        with pytest.raises(OutcomeUnknown):
            await account.cancel(an_order())
        with pytest.raises(OutcomeUnknown):
            await account.replace(an_order(), price="61000")


async def test_cancel_all_closes_every_order_of_the_account_alone() -> None:
    async with AsyncExitStack() as stack:
        mine = await stack.enter_async_context(opened())
        theirs = await stack.enter_async_context(opened(Runtime(account="other")))
        for name in ("c1", "c2"):
            await mine.place(an_order(name))
        await theirs.place(an_order("x1"))
        reports = await mine.hooks.execute(mine.request(CancelAll()))
        assert [r.venue_client_order_id for r in reports] == ["c1", "c2"]
        assert {r.exec_type for r in reports} == {ExecType.CANCELED}
        left = await theirs.hooks.fetch(FetchOpenOrders())
        assert [r.venue_client_order_id for r in left.items] == ["x1"]


# --- asking ---------------------------------------------------------------------------------------


async def test_queries_tell_what_the_answers_told() -> None:
    async with opened() as account:
        _, trade = await account.place(a_market_order("m1"))
        await account.place(an_order("c1"))

        found = await account.status("m1")
        assert found is not None
        assert found.exec_type is ExecType.ORDER_STATUS
        assert (found.ord_status, found.cum_qty) == (OrdStatus.FILLED, D("0.01"))
        fills = await account.hooks.fetch(
            FetchFills(venue_client_order_id=trade.venue_client_order_id)
        )
        assert [(f.trade_id, f.last_qty, f.last_px, f.fee) for f in fills.items] == [
            (trade.trade_id, trade.last_qty, trade.last_px, trade.fee)
        ]
        unknown = await account.hooks.fetch(FetchFills(venue_client_order_id="nobody"))  # type: ignore[arg-type]
        assert unknown.items == ()
        open_now = await account.hooks.fetch(FetchOpenOrders(symbol="BTC/USDT"))
        assert [r.venue_client_order_id for r in open_now.items] == ["c1"]
        history = await account.hooks.fetch(FetchHistory())
        assert [r.venue_client_order_id for r in history.items] == ["m1", "c1"]
        balances = {b.asset: b for b in (await account.hooks.fetch(FetchBalances())).items}
        assert balances["USDT"].held == D(600)
        assert trade.fee is not None
        assert balances["BTC"].free == D(10) + D("0.01") - trade.fee
        assert (await account.hooks.fetch(FetchPositions())).items == ()
        price = await account.hooks.fetch(FetchReferencePrice(symbol="BTC/USDT"))
        assert [(abs(p.px - 65000) < 10, p.time_ns) for p in price.items] == [(True, START_NS)]
        assert (await account.hooks.fetch(FetchReferencePrice(symbol="X/Y"))).items == ()
        time = await account.hooks.fetch(FetchServerTime())
        assert time.as_of.time_ns == account.runtime.time_ns()


async def test_pages_go_on_where_the_last_ended() -> None:
    async with opened(liquidity="none") as account:
        for number in range(1001):
            await account.place(an_order(f"c{number}", price="1000"))
        seen: list[object] = []
        query = FetchHistory()
        while True:
            page = await account.hooks.fetch(query)
            assert len(page.items) <= 500
            seen += [report.venue_client_order_id for report in page.items]
            if page.next_cursor is None:
                break
            query = FetchHistory(cursor=page.next_cursor)
        assert seen == [f"c{number}" for number in range(1001)]
        with pytest.raises(VenueError):
            await account.hooks.fetch(FetchHistory(cursor="over there"))


async def test_the_default_instruments() -> None:
    async with opened() as account:
        instruments = {i.symbol: i for i in await account.instruments()}
    assert sorted(instruments) == [
        f"{base}/{quote}" for base in ("BTC", "ETH", "SOL") for quote in ("USD", "USDT")
    ]
    btc = instruments["BTC/USDT"]
    assert (btc.base_asset, btc.quote_asset) == ("BTC", "USDT")
    assert (btc.tick_size, btc.step_size, btc.notional_min) == (D("0.01"), D("0.00001"), D(5))


async def test_without_liquidity_there_is_no_reference_price_until_both_sides_quote() -> None:
    async with opened(liquidity="none") as account:
        query = FetchReferencePrice(symbol="BTC/USDT")
        assert (await account.hooks.fetch(query)).items == ()
        await account.place(an_order("c1", price="60000"))
        assert (await account.hooks.fetch(query)).items == ()
        await account.place(an_order("c2", side=Side.SELL, price="61000"))
        assert [p.px for p in (await account.hooks.fetch(query)).items] == [D(60500)]


async def test_not_found_is_not_said_once_the_past_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An empty page would be proof that the order never got there."""
    monkeypatch.setattr("tradegw_mock.exchange.history.BOUND_ALONE", 4)
    async with opened() as account:
        assert await account.status("m0") is None
        for number in range(10):
            await account.place(a_market_order(f"m{number}"))
        assert await account.status("m9") is not None
        with pytest.raises(VenueError) as e:
            await account.status("m0")
        assert e.value.reason == "PAST_LOST"


# --- the stream -----------------------------------------------------------------------------------


async def read_ready(items: AsyncIterator[StreamItem]) -> StreamReady:
    first = await anext(items)
    assert isinstance(first, StreamReady)
    return first


async def test_the_stream_begins_ready_and_tells_everything_in_order() -> None:
    async with opened() as account:
        items = account.hooks.stream(0)
        ready = await read_ready(items)
        assert ready.venue_account_id == "paper"
        assert ready.instance_id
        answer = await account.place(a_market_order())
        told = [await next_report(items) for _ in answer]
        assert [(r.exec_type, r.trade_id, r.cum_qty) for r in told] == [
            (r.exec_type, r.trade_id, r.cum_qty) for r in answer
        ]
        balances = await anext(items)
        assert isinstance(balances, BalanceUpdate)
        assert {b.asset for b in balances.balances} == {"BTC", "USDT"}
        assert {b.account for b in balances.balances} == {"paper"}


async def test_a_stop_that_fires_is_told_by_the_stream() -> None:
    async with opened(liquidity="none") as account:
        async with opened(Runtime(account="other"), liquidity="none") as other:
            items = account.hooks.stream(0)
            await read_ready(items)
            await account.place(a_market_order("s1", ord_type=OrdType.STOP, trigger_price="65000"))
            for name, side, price in (("a", Side.SELL, "65000"), ("b", Side.SELL, "65010")):
                await other.place(an_order(name, side=side, price=price, order_qty="0.02"))
            async with opened(Runtime(account="third"), liquidity="none") as third:
                await third.place(an_order("t", price="65000", order_qty="0.02"))
            told = [await next_report(items) for _ in range(3)]
            assert kinds(told) == ["NEW", "TRIGGERED", "TRADE"]
            assert [r.triggered for r in told] == [False, True, True]


async def test_a_good_til_date_order_ends_when_only_time_passes() -> None:
    async with opened(liquidity="none") as account:
        items = account.hooks.stream(0)
        await read_ready(items)
        expire_time_ns = START_NS + 10_000_000_000
        await account.place(an_order(time_in_force=TimeInForce.GTD, expire_time_ns=expire_time_ns))
        await account.runtime.advance(11.0)
        told = [await next_report(items), await next_report(items)]
        assert kinds(told) == ["NEW", "EXPIRED"]
        assert told[1].transact_time_ns == expire_time_ns
        assert told[1].reason == "EXPIRE_TIME"


# --- one exchange for all accounts of a venue -----------------------------------------------------


async def test_accounts_of_a_venue_meet_in_one_book() -> None:
    async with AsyncExitStack() as stack:
        buyer, seller = [
            await stack.enter_async_context(opened(Runtime(account=name), liquidity="none"))
            for name in ("buyer", "seller")
        ]
        items = buyer.hooks.stream(0)
        await read_ready(items)
        await buyer.place(an_order("b1"))
        reports = await seller.place(an_order("s1", side=Side.SELL))
        assert kinds(reports) == ["NEW", "TRADE"]
        told = [await next_report(items), await next_report(items)]
        assert kinds(told) == ["NEW", "TRADE"]
        assert told[1].trade_id == reports[1].trade_id
        # Neither sees the other's order.
        assert await seller.status("b1") is None


async def test_venues_of_other_names_are_other_exchanges() -> None:
    async with (
        opened(Runtime(venue="one"), liquidity="none") as one,
        opened(Runtime(venue="two"), liquidity="none") as two,
    ):
        await one.place(an_order("b1"))
        assert kinds(await two.place(an_order("s1", side=Side.SELL))) == ["NEW"]


async def test_accounts_of_a_venue_must_agree_on_their_exchange() -> None:
    async with opened(seed=1):
        with pytest.raises(ConfigError, match="seed"):
            async with opened(Runtime(account="other"), seed=2):
                pass


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"exchange_account": "maker"}, "exchange's own"),
        ({"exchange_account": "no blanks"}, "BAD_ACCOUNT_NAME"),
        ({"balances": {"DOGE": "1"}}, "UNKNOWN_ASSET"),
    ],
)
async def test_an_account_that_cannot_be_opened(config: dict[str, Any], word: str) -> None:
    with pytest.raises(VenueError, match=word):
        async with opened(**config):
            pass


async def test_an_account_starts_with_what_it_is_given() -> None:
    async with opened(exchange_account="desk-7", balances={"USDT": "5000"}) as account:
        page = await account.hooks.fetch(FetchBalances())
        assert [(b.account, b.asset, b.free) for b in page.items] == [("paper", "USDT", D(5000))]
        assert (await read_ready(account.hooks.stream(0))).venue_account_id == "desk-7"


async def test_the_same_seed_gives_the_same_market() -> None:
    async def prices(seed: int) -> list[object]:
        async with opened(seed=seed) as account:
            seen: list[object] = []
            for number in range(5):
                await account.runtime.advance(1.0)
                reports = await account.place(a_market_order(f"m{number}", order_qty="0.5"))
                seen += [(r.last_px, r.last_qty) for r in reports]
            return seen

    first = await prices(7)
    assert first == await prices(7)
    assert first != await prices(8)


async def test_prices_hold_still_when_asked_to() -> None:
    async with opened(step_interval_s=0) as account:
        query = FetchReferencePrice(symbol="BTC/USDT")
        before = (await account.hooks.fetch(query)).items[0].px
        await account.runtime.advance(100.0)
        assert (await account.hooks.fetch(query)).items[0].px == before


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- durable --------------------------------------------------------------------------------------


async def test_a_durable_exchange_goes_on_where_it_ended(tmp_path: Path) -> None:
    runtime = Runtime(data_dir=str(tmp_path), venue="mock/1")
    async with opened(runtime) as account:
        await account.place(a_market_order("m1"))
        await account.place(an_order("c1"))
        first = await read_ready(account.hooks.stream(0))
        before = (await account.hooks.fetch(FetchBalances())).items
    assert "mock%2F1-exchange.db" in files_in(tmp_path)
    async with opened(runtime) as account:
        assert (await read_ready(account.hooks.stream(0))).instance_id == first.instance_id
        assert (await account.hooks.fetch(FetchBalances())).items == before
        filled, resting = await account.status("m1"), await account.status("c1")
        assert filled is not None
        assert filled.ord_status is OrdStatus.FILLED
        assert resting is not None
        assert resting.ord_status is OrdStatus.NEW


async def test_an_exchange_in_memory_is_another_one_each_time(tmp_path: Path) -> None:
    runtime = Runtime(data_dir=str(tmp_path))
    instances: set[str] = set()
    for _ in range(2):
        async with opened(runtime, durable=False) as account:
            instances.add((await read_ready(account.hooks.stream(0))).instance_id)
    assert len(instances) == 2
    assert files_in(tmp_path) == []


async def test_a_file_that_another_process_serves_is_refused(tmp_path: Path) -> None:
    async with opened(Runtime(data_dir=str(tmp_path))):
        link = tmp_path / "link"
        link.symlink_to(tmp_path)
        with pytest.raises(VenueError, match="another process"):
            # By another way to the same file, as another gateway would.
            async with opened(Runtime(data_dir=str(link))):
                pass


async def test_old_quotes_do_not_outlive_their_maker(tmp_path: Path) -> None:
    runtime = Runtime(data_dir=str(tmp_path))
    async with opened(runtime):
        pass
    async with opened(runtime, liquidity="none") as account:
        assert kinds(await account.place(a_market_order())) == ["NEW", "EXPIRED"]
