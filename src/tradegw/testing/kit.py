"""The conformance kit: whether a venue keeps what the contract promises.

A plugin's test is one subclass:

```python
from tradegw.testing.kit import VenueConformance

class TestAcme(VenueConformance):
    @asynccontextmanager
    async def open_venue(self):
        async with open_acme(AcmeConfig(...), LentRuntime(clock)) as venue:
            yield venue
```

What the venue's `Capabilities` declare absent is skipped; what they declare and the venue lacks fails. Each
case has an id, `VC..`, in its name. Cases that need a hand of the subclass (`make_fill`) are skipped without.
Needs pytest and pytest-asyncio.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from tradegw.errors import InvalidOrder, NotSent, OutcomeUnknown, VenueRejected
from tradegw.model import (
    ExecType,
    ExecutionReport,
    Instrument,
    Order,
    OrdStatus,
    OrdType,
    ReplaceTerms,
    Side,
    TimeInForce,
)
from tradegw.testing.bench import VenueBench
from tradegw.venue import (
    Cancel,
    ClientIdCodec,
    ExpiryKind,
    FetchBalances,
    FetchFills,
    FetchHistory,
    FetchInstruments,
    FetchOpenOrders,
    FetchOrder,
    FetchReferencePrice,
    FetchServerTime,
    FillReporting,
    Page,
    Replace,
    ReplaceKind,
    StreamReady,
    Submit,
    SubmitBatch,
    Venue,
    VenueTime,
)

__all__ = ["VenueConformance"]

_LONG_AGO_S = 86_400


class VenueConformance(ABC):
    """Cases that every venue passes. Subclass it as `Test...` in a plugin's tests.

    Attributes:
        symbol: An instrument that trades.
        resting_px: A price at which a buy rests without filling.
        better_px: Another one, for replaces.
        order_qty: A size that the account can afford at both.
        patience_s: Seconds of the real clock for which something expected is waited for.
    """

    symbol: str = "BTC/USDT"
    resting_px: Decimal = Decimal(100)
    better_px: Decimal = Decimal(101)
    order_qty: Decimal = Decimal(1)
    patience_s: float = 60.0

    # --- what a subclass says -------------------------------------------------------------------

    @abstractmethod
    def open_venue(self) -> AbstractAsyncContextManager[Venue]:
        """Open the venue for one account, fresh for each case."""

    async def make_fill(self, venue: Venue, order: Order) -> None:
        """Let a resting order fill, in part or in full, in one trade or more."""
        pytest.skip("the subclass has no make_fill")

    async def let_pass(self, seconds: float) -> None:
        """Let the venue's time pass: turn its clock, or wait."""
        await asyncio.sleep(seconds)

    # --- the bench ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _bench(self) -> AsyncGenerator[VenueBench]:
        async with self.open_venue() as venue:
            bench = VenueBench(venue, symbol=self.symbol, patience_s=self.patience_s)
            async with bench.run():
                yield bench

    def _order(self, bench: VenueBench, **fields: Any) -> Order:
        return bench.order(**({"price": self.resting_px, "order_qty": self.order_qty, **fields}))

    async def _settle(self, bench: VenueBench) -> None:
        lag_s = bench.capabilities.visibility_lag_s
        if lag_s:
            await self.let_pass(lag_s * 1.1)

    # --- instruments, clock, balances -------------------------------------------------------------

    async def test_vc01_lists_instruments_with_their_grids(self) -> None:
        """`FetchInstruments` tells symbols in our form, with rules that are not negative."""
        async with self._bench() as bench:
            page = await bench.hooks.fetch(FetchInstruments())
            symbols = [instrument.symbol for instrument in page.items]
            assert self.symbol in symbols
            assert len(symbols) == len(set(symbols))
            for instrument in page.items:
                assert isinstance(instrument, Instrument)
                assert "/" in instrument.symbol
                for rule in ("tick_size", "step_size", "qty_min", "qty_max", "notional_min"):
                    value = getattr(instrument, rule)
                    assert isinstance(value, Decimal)
                    assert value.is_finite()
                    assert value >= 0
                assert instrument.contract_size > 0

    async def test_vc02_tells_its_own_time(self) -> None:
        """`as_of` is the venue's clock: nanoseconds, and it does not run backwards."""
        async with self._bench() as bench:
            first = (await bench.hooks.fetch(FetchServerTime())).as_of
            second = (await bench.hooks.fetch(FetchServerTime())).as_of
            assert isinstance(first.time_ns, int)
            # Between 2001 and 2128: a slip of milliseconds for nanoseconds falls out.
            assert 10**18 < first.time_ns < 5 * 10**18
            assert second.time_ns >= first.time_ns
            if bench.capabilities.expiry is ExpiryKind.HEIGHT:
                assert first.height is not None
                assert (second.height or 0) >= first.height

    async def test_vc03_tells_balances(self) -> None:
        """`FetchBalances` tells each asset once, in exact numbers."""
        async with self._bench() as bench:
            page = await bench.hooks.fetch(FetchBalances())
            assets = [balance.asset for balance in page.items]
            assert len(assets) == len(set(assets))
            for balance in page.items:
                assert isinstance(balance.free, Decimal)
                assert isinstance(balance.held, Decimal)
                assert balance.held >= 0

    async def test_vc04_tells_a_price_or_none(self) -> None:
        """`FetchReferencePrice` tells a positive price of that symbol with its age, or an empty page."""
        async with self._bench() as bench:
            page = await bench.hooks.fetch(FetchReferencePrice(symbol=self.symbol))
            for price in page.items:
                assert price.symbol == self.symbol
                assert isinstance(price.px, Decimal)
                assert price.px > 0
                assert 0 < price.time_ns <= page.as_of.time_ns

    # --- the stream -----------------------------------------------------------------------------

    async def test_vc10_the_stream_says_ready_first(self) -> None:
        """The first item is `StreamReady`."""
        async with self._bench() as bench:
            assert isinstance(bench.items[0], StreamReady)

    async def test_vc11_a_stream_can_be_closed_and_opened_again(self) -> None:
        """A second stream says ready as well, of the same account and instance."""
        async with self._bench() as bench:
            again = bench.hooks.stream(0)
            item = await asyncio.wait_for(anext(again), self.patience_s)
            await bench.close_stream(again)
            assert item == bench.items[0]

    # --- translate ------------------------------------------------------------------------------

    async def test_vc20_translation_is_pure(self) -> None:
        """The same command in the same context gives the same request, and nothing happens."""
        async with self._bench() as bench:
            order = self._order(bench)
            context = bench.context(order)
            one = bench.hooks.translate(Submit(order=order), context)
            two = bench.hooks.translate(Submit(order=order), context)
            assert one.payload == two.payload
            assert (one.valid_until, one.digest, one.cost) == (
                two.valid_until,
                two.digest,
                two.cost,
            )
            await self._settle(bench)
            if bench.capabilities.query_by_client_id:
                assert not (await bench.ask(order)).items

    async def test_vc21_requests_say_until_when_they_are_valid(self) -> None:
        """`valid_until` is there, and measured as `Capabilities.expiry` says."""
        async with self._bench() as bench:
            order = self._order(bench)
            context = bench.context(order)
            until = bench.hooks.translate(Submit(order=order), context).valid_until
            match bench.capabilities.expiry:
                case ExpiryKind.NONE:
                    assert until is None
                case ExpiryKind.TIME:
                    assert until is not None
                    assert until.time_ns > context.now.time_ns
                case ExpiryKind.HEIGHT:
                    assert until is not None
                    if until.height is None:
                        # Some kinds of request end by a time instead.
                        assert until.time_ns > context.now.time_ns
                    else:
                        assert until.height > (context.now.height or 0)

    async def test_vc22_what_is_declared_absent_is_refused(self) -> None:
        """Order types and flags that `Capabilities` lack are refused by `translate`, never dropped."""
        async with self._bench() as bench:
            can = bench.capabilities
            asked: list[dict[str, Any]] = [
                {"ord_type": kind, **_terms(kind, self.resting_px)}
                for kind in OrdType
                if kind not in can.ord_types
            ]
            asked += [
                {
                    "time_in_force": kind,
                    "expire_time_ns": 4 * 10**18 if kind is TimeInForce.GTD else None,
                }
                for kind in TimeInForce
                if kind not in can.time_in_force
            ]
            if not can.post_only:
                asked.append({"post_only": True})
            if not can.reduce_only:
                asked.append({"reduce_only": True})
            if not can.quote_qty and OrdType.MARKET in can.ord_types:
                asked.append(
                    {
                        "ord_type": OrdType.MARKET,
                        "price": None,
                        "order_qty": None,
                        "quote_qty": Decimal(1000),
                    }
                )
            for fields in asked:
                order = self._order(bench, **fields)
                try:
                    bench.hooks.translate(Submit(order=order), bench.context(order))
                except InvalidOrder:
                    continue
                pytest.fail(f"declared absent, and translated: {fields}")

    async def test_vc23_what_is_off_the_grid_is_refused(self) -> None:
        """Prices off the tick and quantities off the step are refused, never rounded."""
        async with self._bench() as bench:
            grid = bench.instrument
            if grid.tick_size:
                order = self._order(bench, price=self.resting_px + grid.tick_size / 2)
                with pytest.raises((InvalidOrder, VenueRejected)):
                    await bench.submit(order)
            if grid.step_size:
                order = self._order(bench, order_qty=self.order_qty + grid.step_size / 2)
                with pytest.raises((InvalidOrder, VenueRejected)):
                    await bench.submit(order)

    async def test_vc24_requests_hold_no_secret_in_their_digest(self) -> None:
        """`digest` is short text for logs."""
        async with self._bench() as bench:
            order = self._order(bench)
            digest = bench.hooks.translate(Submit(order=order), bench.context(order)).digest
            assert 0 < len(digest) <= 200
            assert digest.isprintable()

    # --- place, ask, cancel -----------------------------------------------------------------------

    async def test_vc30_an_order_is_placed_and_acknowledged(self) -> None:
        """The answer acknowledges the order under our name, with the venue's own."""
        async with self._bench() as bench:
            order = self._order(bench)
            reports = await bench.submit(order)
            assert reports, "an answer without report leaves the order in doubt"
            first = reports[0]
            assert first.exec_type in (ExecType.NEW, ExecType.ORDER_STATUS)
            assert first.venue_client_order_id in (None, order.venue_client_order_id)
            assert first.venue_order_id is not None
            assert first.transact_time_ns == 0 or 10**18 < first.transact_time_ns < 5 * 10**18

    async def test_vc31_the_stream_tells_of_a_placement(self) -> None:
        """What is placed is told on the stream, or is found by a query: one of them at least."""
        async with self._bench() as bench:
            order = self._order(bench)
            await bench.submit(order)
            await self._settle(bench)
            if not bench.told(order):
                page = await bench.ask(order)
                assert page.items

    async def test_vc32_an_order_is_found_by_our_name(self) -> None:
        """`FetchOrder` by client id shows the order as it stands, once the lag has passed."""
        async with self._bench() as bench:
            if not bench.capabilities.query_by_client_id:
                pytest.skip("declared absent: query_by_client_id")
            order = self._order(bench)
            await bench.submit(order)
            await self._settle(bench)
            page = await bench.hooks.fetch(
                FetchOrder(symbol=self.symbol, venue_client_order_id=order.venue_client_order_id)
            )
            report = _one(page)
            assert report.exec_type is ExecType.ORDER_STATUS
            assert report.ord_status is OrdStatus.NEW
            assert report.cum_qty == 0
            assert report.venue_client_order_id in (None, order.venue_client_order_id)

    async def test_vc33_an_order_is_found_by_the_venues_name(self) -> None:
        """`FetchOrder` by the venue's id shows the same order."""
        async with self._bench() as bench:
            order = self._order(bench)
            reports = await bench.submit(order)
            await self._settle(bench)
            page = await bench.hooks.fetch(
                FetchOrder(symbol=self.symbol, venue_order_id=reports[0].venue_order_id)
            )
            report = _one(page)
            assert report.ord_status is OrdStatus.NEW

    async def test_vc34_an_unknown_order_is_not_found(self) -> None:
        """An empty page, dated by the venue's clock: a statement, and no error."""
        async with self._bench() as bench:
            page = await bench.ask(self._order(bench))
            assert page.items == ()
            assert page.as_of.time_ns > 10**18

    async def test_vc35_open_orders_are_listed(self) -> None:
        """`FetchOpenOrders` holds what is open, page by page to an end."""
        async with self._bench() as bench:
            orders = [self._order(bench) for _ in range(3)]
            for order in orders:
                await bench.submit(order)
            await self._settle(bench)
            listed = await bench.pages(FetchOpenOrders(symbol=self.symbol))
            names = {report.venue_client_order_id for report in listed}
            assert {order.venue_client_order_id for order in orders} <= names
            assert all((r.ord_status or OrdStatus.REJECTED).is_open for r in listed)

    async def test_vc42_open_orders_say_what_they_are(self) -> None:
        """A listed order can be taken over by somebody who knows nothing of it: `tradegw adopt`."""
        async with self._bench() as bench:
            order = self._order(bench)
            await bench.submit(order)
            await self._settle(bench)
            listed = await bench.pages(FetchOpenOrders())
            (told,) = [r for r in listed if r.venue_client_order_id == order.venue_client_order_id]
            assert told.venue_order_id
            assert (told.symbol, told.side) == (order.symbol, order.side)
            assert (told.order_qty, told.price) == (order.order_qty, order.price)

    async def test_vc36_an_order_is_cancelled(self) -> None:
        """The cancel is answered or told on the stream; then the order is open nowhere."""
        async with self._bench() as bench:
            order = self._order(bench)
            placed = await bench.submit(order)
            order = replace(order, venue_order_id=placed[0].venue_order_id)
            answer = await bench.command(Cancel(order=order), order)
            await bench.until(
                lambda: any(
                    r.exec_type is ExecType.CANCELED or r.ord_status is OrdStatus.CANCELED
                    for r in (*answer, *bench.told(order))
                    if r.final
                ),
                "a final CANCELED in the answer or on the stream",
            )
            await self._settle(bench)
            listed = await bench.pages(FetchOpenOrders(symbol=self.symbol))
            assert order.venue_client_order_id not in {r.venue_client_order_id for r in listed}
            for report in (await bench.ask(order)).items:
                assert report.ord_status is OrdStatus.CANCELED

    async def test_vc37_a_cancel_of_an_unknown_order_does_not_succeed(self) -> None:
        """It is refused; or unknown, where the answer says nothing of what became of the order."""
        async with self._bench() as bench:
            order = self._order(bench)
            with pytest.raises((VenueRejected, OutcomeUnknown)):
                await bench.command(Cancel(order=order), order)

    async def test_vc38_a_second_cancel_does_not_succeed(self) -> None:
        """An order that is closed can not be cancelled again: refused, or unknown."""
        async with self._bench() as bench:
            order = self._order(bench)
            placed = await bench.submit(order)
            order = replace(order, venue_order_id=placed[0].venue_order_id)
            await bench.command(Cancel(order=order), order)
            with pytest.raises((VenueRejected, OutcomeUnknown)):
                await bench.command(Cancel(order=order), order)

    async def test_vc39_history_holds_closed_orders(self) -> None:
        """`FetchHistory` ends, and holds what was cancelled, unless the venue forgets it at once."""
        async with self._bench() as bench:
            if bench.capabilities.closed_order_retention_s == 0:
                pytest.skip("declared absent: closed_order_retention_s is 0")
            order = self._order(bench)
            placed = await bench.submit(order)
            order = replace(order, venue_order_id=placed[0].venue_order_id)
            await bench.command(Cancel(order=order), order)
            await self._settle(bench)
            listed = await bench.pages(FetchHistory(symbol=self.symbol))
            found = [r for r in listed if r.venue_client_order_id == order.venue_client_order_id]
            assert len(found) == 1, "the history tells of each order once"
            assert found[0].ord_status is OrdStatus.CANCELED

    # --- validity -------------------------------------------------------------------------------

    async def test_vc40_a_request_is_not_taken_after_its_validity(self) -> None:
        """A request that is too old is refused or never sent, and leaves no order."""
        async with self._bench() as bench:
            if bench.capabilities.expiry is not ExpiryKind.TIME:
                pytest.skip(f"expiry is by {bench.capabilities.expiry}")
            order = self._order(bench)
            context = bench.context(order)
            past = VenueTime(time_ns=context.now.time_ns - _LONG_AGO_S * 10**9)
            request = bench.hooks.translate(Submit(order=order), replace(context, now=past))
            with pytest.raises((VenueRejected, NotSent)):
                await bench.hooks.execute(request)
            await self._settle(bench)
            assert (await bench.ask(order)).items == ()

    async def test_vc41_a_request_that_waits_beyond_its_validity_is_not_taken(self) -> None:
        """The same when the time passes between `translate` and `execute`."""
        async with self._bench() as bench:
            can = bench.capabilities
            if can.expiry is not ExpiryKind.TIME:
                pytest.skip(f"expiry is by {can.expiry}")
            if type(self).let_pass is VenueConformance.let_pass:
                pytest.skip("the subclass has no let_pass of its own")
            order = self._order(bench)
            context = bench.context(order)
            request = bench.hooks.translate(Submit(order=order), context)
            assert request.valid_until is not None
            wait_s = (request.valid_until.time_ns - context.now.time_ns) / 10**9 + 1
            await self.let_pass(wait_s)
            with pytest.raises((VenueRejected, NotSent)):
                await bench.hooks.execute(request)
            assert (await bench.ask(order)).items == ()

    # --- fills ------------------------------------------------------------------------------------

    async def test_vc50_fills_have_ids_and_add_up(self) -> None:
        """Each fill on the stream has an id of its own; their sum is what a query counts."""
        async with self._bench() as bench:
            if bench.capabilities.fills is not FillReporting.EACH:
                pytest.skip("declared absent: fills with ids")
            order = self._order(bench)
            placed = await bench.submit(order)
            order = replace(order, venue_order_id=placed[0].venue_order_id)
            await self.make_fill(bench.venue, order)
            await bench.until(lambda: bench.trades(order), "a TRADE on the stream")
            await self._settle(bench)
            status = _one(await bench.ask(order))
            trades = bench.trades(order)
            assert all(t.trade_id and t.last_px and t.last_qty for t in trades)
            assert len({t.trade_id for t in trades}) == len(trades)
            assert sum(t.last_qty or 0 for t in trades) == status.cum_qty
            assert (status.cum_qty or 0) > 0

    async def test_vc51_fills_can_be_asked_for(self) -> None:
        """`FetchFills` of an order gives the fills of the stream, under the same ids."""
        async with self._bench() as bench:
            if bench.capabilities.fills is not FillReporting.EACH:
                pytest.skip("declared absent: fills with ids")
            order = self._order(bench)
            placed = await bench.submit(order)
            order = replace(order, venue_order_id=placed[0].venue_order_id)
            await self.make_fill(bench.venue, order)
            await bench.until(lambda: bench.trades(order), "a TRADE on the stream")
            await self._settle(bench)
            asked = await bench.pages(
                FetchFills(
                    symbol=self.symbol,
                    venue_order_id=order.venue_order_id,
                    venue_client_order_id=order.venue_client_order_id,
                )
            )
            told = bench.trades(order)
            assert {_fill(t) for t in asked} == {_fill(t) for t in told}
            assert all(t.exec_type is ExecType.TRADE for t in asked)
            untouched = self._order(bench)
            assert not await bench.pages(
                FetchFills(
                    symbol=self.symbol,
                    venue_client_order_id=untouched.venue_client_order_id,
                )
            )

    async def test_vc53_fills_of_a_symbol_can_be_asked_for_since_a_time(self) -> None:
        """`FetchFills` without an order gives every fill since then, under the same ids: the watermark's."""
        async with self._bench() as bench:
            if bench.capabilities.fills is not FillReporting.EACH:
                pytest.skip("declared absent: fills with ids")
            since_ns = (await bench.hooks.fetch(FetchServerTime())).as_of.time_ns
            order = self._order(bench)
            placed = await bench.submit(order)
            order = replace(order, venue_order_id=placed[0].venue_order_id)
            await self.make_fill(bench.venue, order)
            await bench.until(lambda: bench.trades(order), "a TRADE on the stream")
            await self._settle(bench)
            told = {_fill(t) for t in bench.trades(order)}
            # A second earlier: venues count time in coarser steps.
            asked = await bench.pages(
                FetchFills(symbol=self.symbol, since_ns=max(0, since_ns - 1_000_000_000))
            )
            assert told <= {_fill(t) for t in asked}
            assert all(t.venue_order_id or t.venue_client_order_id for t in asked)

    async def test_vc52_a_fee_is_exact_and_names_its_asset(self) -> None:
        """A fee that is told is a `Decimal` with its asset; positive is paid."""
        async with self._bench() as bench:
            order = self._order(bench)
            placed = await bench.submit(order)
            order = replace(order, venue_order_id=placed[0].venue_order_id)
            await self.make_fill(bench.venue, order)
            await bench.until(lambda: bench.trades(order), "a TRADE on the stream")
            for trade in bench.trades(order):
                if trade.fee is not None:
                    assert isinstance(trade.fee, Decimal)
                    assert trade.fee_asset

    # --- replace ----------------------------------------------------------------------------------

    async def test_vc60_an_order_is_replaced_in_place(self) -> None:
        """The new terms are answered or told, and a query shows them; the venue's order is the same."""
        async with self._bench() as bench:
            if bench.capabilities.replace is not ReplaceKind.IN_PLACE:
                pytest.skip(f"replace is {bench.capabilities.replace}")
            order = self._order(bench)
            placed = await bench.submit(order)
            order = replace(order, venue_order_id=placed[0].venue_order_id)
            terms = ReplaceTerms(price=self.better_px)
            answer = await bench.command(Replace(order=order, terms=terms), order)
            await bench.until(
                lambda: any(
                    r.exec_type is ExecType.REPLACED for r in (*answer, *bench.told(order))
                ),
                "REPLACED in the answer or on the stream",
            )
            await self._settle(bench)
            status = _one(await bench.ask(order))
            assert status.price == self.better_px
            assert status.order_qty in (None, self.order_qty)

    async def test_vc61_a_replace_of_an_unknown_order_places_nothing(self) -> None:
        """It is refused, or unknown."""
        async with self._bench() as bench:
            order = self._order(bench)
            command = Replace(order=order, terms=ReplaceTerms(price=self.better_px))
            if bench.capabilities.replace is not ReplaceKind.IN_PLACE:
                with pytest.raises(InvalidOrder):
                    bench.hooks.translate(command, bench.context(order))
                return
            with pytest.raises((VenueRejected, OutcomeUnknown)):
                await bench.command(command, order)
            await self._settle(bench)
            assert (await bench.ask(order)).items == ()

    # --- what else is declared ----------------------------------------------------------------------

    async def test_vc70_a_batch_is_answered_member_by_member(self) -> None:
        """A batch's answer tells of each order under our name."""
        async with self._bench() as bench:
            if bench.capabilities.batch_max < 2:
                pytest.skip("declared absent: batches")
            orders = tuple(self._order(bench) for _ in range(2))
            context = bench.context(*orders)
            request = bench.hooks.translate(SubmitBatch(orders=orders), context)
            reports = await bench.hooks.execute(request)
            assert {r.venue_client_order_id for r in reports} >= {
                order.venue_client_order_id for order in orders
            }

    async def test_vc71_an_idempotent_resend_places_one_order(self) -> None:
        """The same request twice makes one order, where the venue declares that it does."""
        async with self._bench() as bench:
            if not bench.capabilities.idempotent_resend:
                pytest.skip("declared absent: idempotent_resend")
            order = self._order(bench)
            request = bench.hooks.translate(Submit(order=order), bench.context(order))
            await bench.hooks.execute(request)
            # Refused as a duplicate, or answered anew; nothing else would be a declaration.
            with suppress(VenueRejected):
                await bench.hooks.execute(request)
            await self._settle(bench)
            listed = await bench.pages(FetchOpenOrders(symbol=self.symbol))
            names = [r.venue_client_order_id for r in listed]
            assert names.count(order.venue_client_order_id) == 1

    async def test_vc72_client_ids_of_the_declared_form_are_taken(self) -> None:
        """The whole range of the codec names orders: no letter of it is folded, none cut off."""
        async with self._bench() as bench:
            if bench.capabilities.client_id_codec is not ClientIdCodec.HEX32:
                pytest.skip(f"names are {bench.capabilities.client_id_codec}")
            for name in ("f" * 22 + uuid4().hex[:10], "0" * 22 + uuid4().hex[:10]):
                order = self._order(bench, venue_client_order_id=name)
                await bench.submit(order)
                await self._settle(bench)
                report = _one(await bench.ask(order))
                assert report.venue_client_order_id in (None, name)

    async def test_vc73_sides_are_not_mixed_up(self) -> None:
        """A buy is told as a buy."""
        async with self._bench() as bench:
            order = self._order(bench, side=Side.BUY)
            await bench.submit(order)
            await self._settle(bench)
            for report in (await bench.ask(order)).items:
                assert report.side in (None, Side.BUY)
                assert report.order_qty in (None, self.order_qty)
                assert report.price in (None, self.resting_px)


def _one(page: Page[ExecutionReport]) -> ExecutionReport:
    assert len(page.items) == 1, f"a page about one order has one report; found {page.items}"
    return page.items[0]


def _terms(kind: OrdType, px: Decimal) -> dict[str, Any]:
    return {
        "price": px if kind.has_price else None,
        "trigger_price": px if kind.has_trigger else None,
        "trailing_offset": Decimal(5) if kind is OrdType.TRAILING_STOP else None,
    }


def _fill(report: ExecutionReport) -> tuple[object, ...]:
    return (report.trade_id, report.last_qty, report.last_px)
