"""The shipped definitions trade, through a whole gateway, on doubles that enforce their exchanges' rules.

What happened is read from the double's own book, which knows nothing of the gateway. No test waits for time
to pass: the clock that gateway and double share is turned.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tradegw_mock.exchange import Order as Known
from tradegw_mock.exchange import OrdStatus as KnownStatus
from tradegw_rest import load

from tradegw import (
    Fill,
    Gateway,
    Order,
    OrdStatus,
    OrdType,
    Unavailable,
)
from tradegw.gateway.open import open_gateway
from tradegw.venue import Capabilities, ExpiryKind, ReplaceKind

from .doubles.bitstamp import Bitstamp
from .doubles.bybit import Bybit
from .doubles.coinbase import Coinbase
from .doubles.core import Double, Fault, TurningClock
from .doubles.kraken import Kraken
from .doubles.okx import Okx

PATIENCE_S = 90.0
DOUBLES: list[type[Double]] = [Kraken, Coinbase, Okx, Bybit, Bitstamp]

Trading = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture(params=DOUBLES, ids=lambda double: double.definition)
async def double(request: pytest.FixtureRequest) -> AsyncIterator[Double]:
    async with request.param(TurningClock()) as double:
        yield double


@pytest.fixture
def can(double: Double) -> Capabilities:
    return load(double.definition).capabilities


@pytest.fixture
def trading(double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trading:
    @asynccontextmanager
    async def run(**secrets: str) -> AsyncIterator[Gateway]:
        monkeypatch.setenv("TEST_SECRET", secrets.get("secret", double.secret))
        monkeypatch.setenv("TEST_PASSPHRASE", double.passphrase or "")
        monkeypatch.setenv("TEST_KEY", secrets.get("key", double.key))
        account = {"venue": "v", "api_key": "env:TEST_KEY", "api_secret": "env:TEST_SECRET"}
        if double.passphrase is not None:
            account["passphrase"] = "env:TEST_PASSPHRASE"
        config: dict[str, Any] = {
            "store": {"url": f"sqlite:///{tmp_path / 'bot.db'}"},
            "gateway": {"name": tmp_path.name, "drain_s": 0},
            "venues": {
                "v": {
                    "plugin": "rest",
                    "definition": double.definition,
                    "rest_url": f"http://{double.host}",
                    "stream_url": f"ws://{double.host}{double.stream_path}",
                    "symbols": [double.symbol],
                }
            },
            "accounts": {"main": account},
        }
        ready_s = 0.0 if secrets else PATIENCE_S
        async with open_gateway(config, clock=double.clock, ready_timeout_s=ready_s) as gateway:
            yield gateway

    return run


async def until(
    double: Double,
    holds: Callable[[], Any],
    what: str,
    *,
    hurry: bool = True,
    leap_s: float = 0.0,
) -> None:
    """Wait until something holds, and let time fly meanwhile; now and then it leaps.

    Proof takes several questions, each of many units: Kraken's budget grows by one in three seconds, and is
    used up by those who ask.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            for count in itertools.count(1):
                if not count % 100:
                    double.clock.turn(leap_s)
                held = holds()
                if await held if asyncio.iscoroutine(held) else held:
                    return
                await asyncio.sleep(0.004)
                if hurry:
                    double.clock.turn(0.15)
    except TimeoutError:
        pytest.fail(f"waited {PATIENCE_S} s in vain: {what}; refused: {double.refusals[-5:]}")


async def settled(double: Double, gateway: Gateway, order: Order, *, leap_s: float = 0.0) -> Order:
    """Return an order once nothing of it is in doubt."""

    async def is_settled() -> bool:
        return not (await gateway.get_order(order.order_id)).in_doubt

    await until(double, is_settled, "the order is settled", leap_s=leap_s)
    return await gateway.get_order(order.order_id)


async def becomes(double: Double, gateway: Gateway, order: Order, status: OrdStatus) -> Order:
    async def has_become() -> bool:
        now = await gateway.get_order(order.order_id)
        return now.ord_status is status and not now.in_doubt

    await until(double, has_become, f"the order becomes {status}")
    return await gateway.get_order(order.order_id)


async def is_ready(gateway: Gateway) -> bool:
    (venue,) = await gateway.list_venues()
    return all(account.state == "READY" for account in venue.accounts)


def terms(double: Double, **more: Any) -> dict[str, Any]:
    """Give an order that rests between the crowd's bid and ask."""
    wanted = {"side": "buy", "ord_type": "limit", "order_qty": "0.01", "price": "65000"}
    return {"account": "main", "symbol": double.symbol, **wanted, **more}


def market(double: Double, **more: Any) -> dict[str, Any]:
    return {"account": "main", "symbol": double.symbol, "side": "buy", "ord_type": "market", **more}


def known(double: Double, order: Order) -> list[Known]:
    """List the orders that truly bear an order's name."""
    assert order.venue_client_order_id is not None
    return [o for o in double.orders() if o.client_order_id == order.venue_client_order_id]


async def check_fills(double: Double, gateway: Gateway, count: int) -> None:
    """Check that the stream's fold is the venue's fills: each once, with its fee."""
    truth = [
        (f.qty, f.price, *double.fee(f), str(f.side), str(f.liquidity)) for f in double.fills()
    ]
    assert len(truth) == count

    async def fills() -> list[Fill]:
        return list((await gateway.list_fills()).items)

    async def are_all() -> bool:
        return len(await fills()) >= count

    await until(double, are_all, "the fills are told")
    told = [
        (f.last_qty, f.last_px, f.fee, f.fee_asset or double.quote, str(f.side), str(f.liquidity))
        for f in await fills()
    ]
    if not double.tells_liquidity:
        truth, told = [row[:-1] for row in truth], [row[:-1] for row in told]
    assert sorted(told) == sorted(truth)


async def test_it_trades(double: Double, can: Capabilities, trading: Trading) -> None:
    async with trading() as gateway:
        rests = await gateway.place_order(**terms(double, post_only=True))
        assert (rests.ord_status, rests.in_doubt) == (OrdStatus.NEW, ())
        (at_venue,) = known(double, rests)
        assert (at_venue.price, at_venue.order_qty) == (Decimal(65000), Decimal("0.01"))
        double.meet(at_venue, "0.004")
        await becomes(double, gateway, rests, OrdStatus.PARTIALLY_FILLED)
        canceled = await gateway.cancel_order(rests.order_id)
        canceled = await becomes(double, gateway, canceled, OrdStatus.CANCELED)
        assert canceled.cum_qty == Decimal("0.004")
        bought = await gateway.place_order(**market(double, order_qty="0.02"))
        bought = await becomes(double, gateway, bought, OrdStatus.FILLED)
        sold = await gateway.place_order(**market(double, side="sell", order_qty="0.01"))
        sold = await becomes(double, gateway, sold, OrdStatus.FILLED)
        assert (bought.cum_qty, bought.avg_px) == (Decimal("0.02"), Decimal(66000))
        assert (sold.cum_qty, sold.avg_px) == (Decimal("0.01"), Decimal(64000))
        by_quote = await gateway.place_order(**market(double, quote_qty="660"))
        by_quote = await becomes(double, gateway, by_quote, OrdStatus.FILLED)
        assert by_quote.cum_qty == Decimal("0.01")
        await check_fills(double, gateway, 4)

        async def balances_are_true() -> bool:
            told = {b.asset: b.free for b in await gateway.list_balances("main")}
            return all(told.get(a) == b.free for a, b in double.balances().items())

        if double.tells_balances_live:
            await until(double, balances_are_true, "the stream tells the balances")
    assert double.refusals == []


async def test_times_in_force(double: Double, trading: Trading) -> None:
    async with trading() as gateway:
        for force in ("IOC", "FOK"):
            order = await gateway.place_order(**terms(double, time_in_force=force))
            await until_closed(double, gateway, order)
            order = await gateway.get_order(order.order_id)
            assert order.ord_status in {OrdStatus.CANCELED, OrdStatus.EXPIRED}
            assert order.cum_qty == 0
        filled = await gateway.place_order(**terms(double, price="66000", time_in_force="FOK"))
        await becomes(double, gateway, filled, OrdStatus.FILLED)
        crossing = await gateway.place_order(**terms(double, price="66000", post_only=True))
        await until_closed(double, gateway, crossing)
        crossing = await gateway.get_order(crossing.order_id)
        assert crossing.ord_status in {OrdStatus.CANCELED, OrdStatus.REJECTED}
        poor = await gateway.place_order(**terms(double, order_qty="20"))
        assert (poor.ord_status, poor.reason) == (OrdStatus.REJECTED, "INSUFFICIENT_FUNDS")
        await check_fills(double, gateway, 1)


async def until_closed(double: Double, gateway: Gateway, order: Order) -> None:
    async def is_closed() -> bool:
        now = await gateway.get_order(order.order_id)
        return not now.is_open and not now.in_doubt

    await until(double, is_closed, "the order closes")


async def test_a_replace_keeps_what_was_filled(
    double: Double, can: Capabilities, trading: Trading
) -> None:
    if can.replace is not ReplaceKind.IN_PLACE:
        pytest.skip("it replaces by cancel and new, which is the engine's and not its definition's")
    async with trading() as gateway:
        order = await gateway.place_order(**terms(double))
        (at_venue,) = known(double, order)
        double.meet(at_venue, "0.004")
        await becomes(double, gateway, order, OrdStatus.PARTIALLY_FILLED)
        await gateway.replace_order(order.order_id, order_qty="0.03", price="65001")

        async def is_replaced() -> bool:
            now = await gateway.get_order(order.order_id)
            return now.price == Decimal(65001) and now.ord_status is OrdStatus.PARTIALLY_FILLED

        await until(double, is_replaced, "the order has its new terms")
        now = await gateway.get_order(order.order_id)
        assert (now.order_qty, now.leaves_qty) == (Decimal("0.03"), Decimal("0.026"))
        (working,) = double.exchange.open_orders("trader")
        assert (working.price, working.leaves_qty) == (Decimal(65001), Decimal("0.026"))
        assert working.order_id == at_venue.order_id
        double.meet(working, "0.026")
        await becomes(double, gateway, order, OrdStatus.FILLED)
        await check_fills(double, gateway, 2)


async def test_a_stop_waits_and_fires(double: Double, can: Capabilities, trading: Trading) -> None:
    kinds = {OrdType.STOP, OrdType.STOP_LIMIT} & can.ord_types
    async with trading() as gateway:
        for kind in sorted(kinds):
            limit = {"price": "63000"} if kind is OrdType.STOP_LIMIT else {}
            stop = {"side": "sell", "ord_type": kind, "order_qty": "0.01", "trigger_price": "64500"}
            double.trade_at("65000")
            fires = await gateway.place_order(account="main", symbol=double.symbol, **stop, **limit)
            idle = await gateway.place_order(
                account="main", symbol=double.symbol, **(stop | {"trigger_price": "1000"}), **limit
            )
            assert (fires.ord_status, idle.ord_status) == (OrdStatus.NEW, OrdStatus.NEW)
            idle = await gateway.cancel_order(idle.order_id)
            await becomes(double, gateway, idle, OrdStatus.CANCELED)
            double.trade_at("64400")
            fires = await becomes(double, gateway, fires, OrdStatus.FILLED)
            assert fires.avg_px == Decimal(64000)
        await check_fills(double, gateway, len(kinds))


# --- in doubt -------------------------------------------------------------------------------------

TAKEN = [Fault.ANSWER_LOST, Fault.ERROR_AFTER]
LOST = [Fault.REQUEST_LOST, Fault.ERROR_BEFORE]


@pytest.mark.parametrize("fault", TAKEN)
async def test_an_order_that_was_taken_in_silence_is_found(
    double: Double, trading: Trading, fault: Fault
) -> None:
    async with trading() as gateway:
        double.is_mute = True
        double.inject(fault, "place")
        order = await gateway.place_order(**terms(double))
        assert order.ord_status is OrdStatus.PENDING_NEW
        assert [doubt.command for doubt in order.in_doubt] == ["NEW"]
        order = await settled(double, gateway, order)
        assert order.ord_status is OrdStatus.NEW
        assert double.is_spared
        (at_venue,) = known(double, order)
        assert at_venue.is_open
        assert len(double.orders()) == 1
        # It has the venue's name of it, and can be cancelled.
        order = await gateway.cancel_order(order.order_id)
        await becomes(double, gateway, order, OrdStatus.CANCELED)
        assert known(double, order)[0].ord_status is KnownStatus.CANCELED


async def test_an_order_that_was_filled_in_silence_is_found_with_its_fill(
    double: Double, trading: Trading
) -> None:
    async with trading() as gateway:
        double.is_mute = True
        double.inject(Fault.ANSWER_LOST, "place")
        order = await gateway.place_order(**market(double, order_qty="0.02"))
        assert order.in_doubt
        order = await becomes(double, gateway, order, OrdStatus.FILLED)
        assert len(known(double, order)) == 1
        await check_fills(double, gateway, 1)


@pytest.mark.parametrize("fault", LOST)
async def test_an_order_that_never_arrived(
    double: Double, can: Capabilities, trading: Trading, fault: Fault
) -> None:
    """Proven absent where requests expire, sent again where that is harmless, else left in doubt."""
    async with trading() as gateway:
        double.inject(fault, "place")
        order = await gateway.place_order(**terms(double))
        assert order.in_doubt
        if can.expiry is ExpiryKind.TIME:
            order = await settled(double, gateway, order, leap_s=60)
            assert (order.ord_status, order.reason) == (OrdStatus.REJECTED, "NEVER_REACHED_VENUE")
            assert double.orders() == []
        elif can.idempotent_resend:
            order = await settled(double, gateway, order)
            assert order.ord_status is OrdStatus.NEW
            assert len(known(double, order)) == 1
        else:
            asked = double.asked
            await until(
                double, lambda: double.asked > asked + 4, "it is asked about again and again"
            )
            double.clock.turn(3600)
            await until(double, lambda: double.asked > asked + 8, "an hour later too")
            order = await gateway.get_order(order.order_id)
            assert order.ord_status is OrdStatus.PENDING_NEW
            assert order.in_doubt


async def test_no_absence_is_claimed_while_the_request_may_still_arrive(
    double: Double, can: Capabilities, trading: Trading
) -> None:
    if can.expiry is not ExpiryKind.TIME:
        pytest.skip("its requests do not expire: absence is never claimed")
    async with trading() as gateway:
        asked = double.asked
        double.inject(Fault.REQUEST_HELD, "place")
        order = await gateway.place_order(**terms(double))
        await until(double, lambda: double.asked > asked, "it is asked about", hurry=False)
        double.clock.turn(can.expiry_s - 3)
        assert (await gateway.get_order(order.order_id)).in_doubt
        double.deliver()
        order = await settled(double, gateway, order)
        assert order.ord_status is OrdStatus.NEW
        assert len(known(double, order)) == 1


async def test_what_arrives_after_the_proof_is_refused_by_the_venue(
    double: Double, can: Capabilities, trading: Trading
) -> None:
    if can.expiry is not ExpiryKind.TIME:
        pytest.skip("its requests do not expire: absence is never claimed")
    async with trading() as gateway:
        double.inject(Fault.REQUEST_HELD, "place")
        order = await gateway.place_order(**terms(double))
        order = await settled(double, gateway, order, leap_s=60)
        assert order.reason == "NEVER_REACHED_VENUE"
        before = len(double.refusals)
        double.deliver()
        assert len(double.refusals) == before + 1
        assert double.orders() == []


@pytest.mark.parametrize("fault", [*TAKEN, *LOST])
async def test_a_cancel_in_doubt_ends_in_the_venues_true_state(
    double: Double, trading: Trading, fault: Fault
) -> None:
    async with trading() as gateway:
        order = await gateway.place_order(**terms(double))
        double.is_mute = True
        double.inject(fault, "cancel")
        asked = await gateway.cancel_order(order.order_id)
        assert [doubt.command for doubt in asked.in_doubt] == ["CANCEL"]

        async def agrees() -> bool:
            now = await gateway.get_order(order.order_id)
            (at_venue,) = known(double, order)
            return not now.in_doubt and now.is_open == at_venue.is_open

        if fault in TAKEN or can_expire(double, "cancel"):
            await until(double, agrees, "the gateway agrees with the venue")
        else:
            # No proof that it will not arrive: it stays in doubt, and may be asked again.
            double.clock.turn(60)
            await gateway.cancel_order(order.order_id)
            await until(double, agrees, "the second cancel ends it")
        (at_venue,) = known(double, order)
        now = await gateway.get_order(order.order_id)
        if fault in TAKEN:
            assert (now.ord_status, at_venue.ord_status) == (
                OrdStatus.CANCELED,
                KnownStatus.CANCELED,
            )
        assert double.is_spared


def can_expire(double: Double, operation: str) -> bool:
    definition = load(double.definition)
    return definition.capabilities.expiry is ExpiryKind.TIME and not any(
        alternative.never_expires for alternative in definition.operations[operation]
    )


@pytest.mark.parametrize("fault", [*TAKEN, *LOST])
async def test_a_replace_in_doubt_ends_in_the_venues_true_state(
    double: Double, can: Capabilities, trading: Trading, fault: Fault
) -> None:
    if can.replace is not ReplaceKind.IN_PLACE:
        pytest.skip("it replaces by cancel and new, which is the engine's and not its definition's")
    async with trading() as gateway:
        order = await gateway.place_order(**terms(double))
        double.is_mute = True
        double.inject(fault, "replace")
        asked = await gateway.replace_order(order.order_id, order_qty="0.02", price="65002")
        assert [doubt.command for doubt in asked.in_doubt] == ["REPLACE"]
        (at_venue,) = known(double, order)
        expected = Decimal(65002) if fault in TAKEN else Decimal(65000)
        assert at_venue.price == expected
        if fault in TAKEN or can_expire(double, "replace"):
            now = await settled(double, gateway, order)
            assert (now.ord_status, now.price) == (OrdStatus.NEW, expected)
            assert now.order_qty == at_venue.order_qty


# --- streams --------------------------------------------------------------------------------------


async def test_fills_in_a_gap_of_the_stream_are_found_once(
    double: Double, trading: Trading
) -> None:
    async with trading() as gateway:
        part = await gateway.place_order(**terms(double))
        whole = await gateway.place_order(**terms(double, price="64900"))
        before = await gateway.place_order(**market(double, order_qty="0.01"))
        await becomes(double, gateway, before, OrdStatus.FILLED)
        logins = double.logins
        double.is_unreachable = True
        double.cut_streams()
        await until(double, lambda: not double.connections, "the stream is cut", hurry=False)
        # The better price first.
        double.meet(known(double, part)[0], "0.004")
        double.exchange.fill_outside("trader", order_id=known(double, whole)[0].order_id)
        double.is_unreachable = False
        await until(double, lambda: double.logins > logins, "it logs in again")
        await until(double, lambda: is_ready(gateway), "the account takes orders again")
        await becomes(double, gateway, part, OrdStatus.PARTIALLY_FILLED)
        await becomes(double, gateway, whole, OrdStatus.FILLED)
        await check_fills(double, gateway, 3)
        # The new stream tells what happens on it.
        double.meet(known(double, part)[0], "0.006")
        await becomes(double, gateway, part, OrdStatus.FILLED)
        await check_fills(double, gateway, 4)


async def test_a_stream_that_says_everything_twice_doubles_nothing(
    double: Double, trading: Trading
) -> None:
    async with trading() as gateway:
        double.is_stuttering = True
        order = await gateway.place_order(**terms(double))
        double.meet(known(double, order)[0], "0.004")
        double.meet(known(double, order)[0], "0.006")
        order = await becomes(double, gateway, order, OrdStatus.FILLED)
        assert order.cum_qty == Decimal("0.01")
        await check_fills(double, gateway, 2)


async def test_an_empty_listing_closes_nothing(double: Double, trading: Trading) -> None:
    async with trading() as gateway:
        order = await gateway.place_order(**terms(double))
        listed = double.accepted["open_orders"]
        double.inject(Fault.EMPTY, "open_orders")
        double.cut_streams()
        await until(
            double, lambda: double.accepted["open_orders"] > listed, "open orders are listed"
        )
        await until(double, lambda: is_ready(gateway), "the account takes orders again")
        assert double.is_spared
        order = await gateway.get_order(order.order_id)
        assert (order.ord_status, order.in_doubt) == (OrdStatus.NEW, ())


# --- refusals -------------------------------------------------------------------------------------


async def test_a_wrong_secret_is_refused_and_told(double: Double, trading: Trading) -> None:
    async with trading(secret=double.wrong_secret) as gateway:

        async def is_told() -> bool:
            (venue,) = await gateway.list_venues()
            (account,) = venue.accounts
            return account.state != "READY" and double.says_no_key in account.why

        await until(double, is_told, "the account says why")
        assert double.logins == 0
        with pytest.raises(Unavailable):
            await gateway.place_order(**terms(double))
    assert sum(double.accepted[name] for name in ("place", "open_orders", "balances")) == 0


async def test_what_is_throttled_was_not_taken(double: Double, trading: Trading) -> None:
    async with trading() as gateway:
        double.inject(Fault.THROTTLED, "place")
        order = await gateway.place_order(**terms(double))
        assert double.orders() == []
        order = await gateway.get_order(order.order_id)
        assert order.ord_status is OrdStatus.REJECTED
        assert order.reason == "RATE_LIMITED"
        double.clock.turn(120)
        again = await gateway.place_order(**terms(double))
        assert again.ord_status is OrdStatus.NEW


async def test_requests_are_dated_by_the_venues_clock(double: Double, trading: Trading) -> None:
    """Two seconds are forgiven, in either direction; an hour is not, where requests expire."""
    double.skew_ns = -2_000_000_000
    async with trading() as gateway:
        order = await gateway.place_order(**terms(double))
        assert order.ord_status is OrdStatus.NEW
        await gateway.cancel_order(order.order_id)
        await becomes(double, gateway, order, OrdStatus.CANCELED)
        assert double.refusals == []


async def test_a_clock_far_from_ours_takes_no_orders(
    double: Double, can: Capabilities, trading: Trading
) -> None:
    double.skew_ns = 3_600_000_000_000
    async with trading() as gateway:
        if can.expiry is ExpiryKind.TIME:
            with pytest.raises(Unavailable) as told:
                await gateway.place_order(**terms(double))
            assert told.value.reason == "CLOCK_SKEW"
        else:
            order = await gateway.place_order(**terms(double))
            assert order.ord_status is OrdStatus.NEW
    assert double.refusals == []


# --- the doubles themselves -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    ["nothing", "body", "headers", "content type", "a minute later", "ten minutes later"],
)
async def test_a_double_takes_no_request_that_its_exchange_would_refuse(
    double: Double, can: Capabilities, trading: Trading, change: str
) -> None:
    """What proves something about the gateway must be strict itself: this one is tried with what is wrong."""
    async with trading() as gateway:
        await gateway.place_order(**terms(double))
        refused = len(double.refusals)
        last = double.last("place")
        match change:
            case "body":
                assert last.body.count(b"0.01") == 1
                double.replay("place", body=last.body.replace(b"0.01", b"0.02"))
            case "headers":
                double.replay("place", headers={})
            case "content type":
                double.replay("place", headers={**last.headers, "Content-Type": "text/plain"})
            case "a minute later" | "ten minutes later":
                double.clock.turn(60 if "a minute" in change else 600)
                double.replay("place")
            case _:
                double.replay("place")
    # Of Coinbase a token serves once; elsewhere nonces, times and names of orders do not serve twice.
    assert len(double.refusals) == refused + 1
    assert len(double.orders()) == 1
