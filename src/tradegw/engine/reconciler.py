"""Compares the record of one account with its venue: at a start, after every gap, and now and then.

Streams drop reports while they look healthy. So each open order is asked about; then the venue's open orders
are read, for those that nobody here placed, and the fills since the watermark, for those that nobody told.
A listing proves presence alone: what is missing in it is asked about by name, and closed by no silence.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from tradegw.engine.account import NS_PER_S, Account
from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.external import Externals, list_open
from tradegw.engine.resolver import ASK_AT_ONCE_MAX, Resolver, within
from tradegw.errors import StoreError, Unavailable, VenueError
from tradegw.model import (
    EventType,
    ExecutionReport,
    Order,
    OrderEvent,
    Origin,
    VenueOrderId,
)
from tradegw.model.lifecycle import is_missing_fills
from tradegw.plugins import AccountPlugins
from tradegw.ports import Entry
from tradegw.venue import FetchFills, FetchOrder, VenueTime

__all__ = ["Reconciler"]

log = logging.getLogger(__name__)

OVERLAP_S = 60.0
"""Fills are asked for again from so long before the watermark: some become visible late."""
_ASKED_MAX = 10_000


class Reconciler:
    """The reconciler of one account."""

    def __init__(self, account: Account, resolver: Resolver, externals: Externals) -> None:
        self._account = account
        self._resolver = resolver
        self._externals = externals
        self._has_read_all = False
        self._asked: set[tuple[str, VenueOrderId]] = set()

    def on_gap(self) -> None:
        """Read the fills of every symbol the next time: anything may have been missed."""
        self._has_read_all = False

    async def ask_all(self, venue: AccountPlugins) -> None:
        """Ask about each open order once.

        Raises:
            VenueError: Some could not be asked about.
        """
        account = self._account
        places = asyncio.Semaphore(ASK_AT_ONCE_MAX)
        unasked: list[Order] = []

        async def one(order: Order) -> None:
            async with places:
                try:
                    await self._resolver.ask(venue, order.order_id)
                except Exception as e:  # noqa: BLE001  Whatever it is, the others are asked.
                    log.info(
                        "account %s: no answer about %s: %s", account.account, order.order_id, e
                    )
                    unasked.append(order)

        # Commands in flight are about to be answered; asking would race with that.
        in_flight = {order_id for order_id, _ in account.in_flight}
        open_orders = [o for o in account.book if o.is_open and o.order_id not in in_flight]
        await asyncio.gather(*(one(order) for order in open_orders))
        if unasked:
            raise VenueError(f"{len(unasked)} open orders could not be asked about")

    async def catch_up(self, venue: AccountPlugins) -> None:
        """Read what the stream may have kept from us.

        Raises:
            VenueError: The venue does not tell.
            Unavailable: The store failed.
            StoreError: The store failed.
        """
        listed = await self._read_open_orders(venue)
        await self._read_fills(venue)
        await self._ask_for_strangers(venue)
        await self._follow_externals(venue, listed)

    async def _read_open_orders(
        self, venue: AccountPlugins
    ) -> dict[tuple[str | None, VenueOrderId | None], ExecutionReport]:
        listed: dict[tuple[str | None, VenueOrderId | None], ExecutionReport] = {}
        async for told in list_open(venue):
            reach(CrashPoint.OPEN_ORDERS_READ)
            try:
                report = self._account.received(told)
                listed[report.symbol, report.venue_order_id] = report
                await self._externals.see(report)
            except ValueError as e:
                log.error("ALARM account %s: unreadable open order: %s", self._account.account, e)
        return listed

    # --- fills ------------------------------------------------------------------------------------

    async def _read_fills(self, venue: AccountPlugins) -> None:
        account = self._account
        marks = dict(await account.store.list_watermarks(account.record.account_id))
        if not self._has_read_all:
            # What closed before the gap may still fill.
            account.touched = dict.fromkeys(marks, account.venue_now().time_ns) | account.touched
        overlap_ns = _overlap_ns(venue)
        for symbol in sorted(account.touched.keys() | {order.symbol for order in account.book}):
            as_of = await self._read_fills_of(venue, symbol, marks.get(symbol))
            # Not done with one reading: after a cancel came too late, its fill may show a while after it.
            if account.touched.get(symbol, as_of.time_ns) <= as_of.time_ns - overlap_ns:
                del account.touched[symbol]
        self._has_read_all = True

    async def _read_fills_of(
        self, venue: AccountPlugins, symbol: str, mark_ns: int | None
    ) -> VenueTime:
        """Read the fills since the watermark. Returns how old what was read may be."""
        account = self._account
        begin_ns = mark_ns
        if begin_ns is None:
            begin_ns = account.record.created_time_ns + account.venue_offset_ns
        query = FetchFills(symbol=symbol, since_ns=max(0, begin_ns - _overlap_ns(venue)))
        as_of: VenueTime | None = None
        while True:
            page = await within(venue.fetch(query))
            # The first page is the oldest: what happens while the others are read may be missing.
            as_of = as_of or page.as_of
            if page.items:
                reach(CrashPoint.FILLS_READ_UNJOURNALED)
            for told in page.items:
                await self._take_fill(told, symbol)
            if page.next_cursor is None:
                break
            query = replace(query, cursor=page.next_cursor)
        retention_s = venue.account.capabilities.closed_order_retention_s
        if (
            mark_ns is not None
            and retention_s is not None
            and as_of.time_ns - mark_ns > int(retention_s * NS_PER_S)
        ):
            await self._tell_gap(symbol, mark_ns, as_of)
        if mark_ns is None or as_of.time_ns > mark_ns:
            reach(CrashPoint.FILLS_JOURNALED_UNMARKED)
            await account.store.put_watermark(
                account.record.account_id, symbol, read_until_ns=as_of.time_ns
            )
            reach(CrashPoint.MARKED)
        return as_of

    async def _take_fill(self, told: ExecutionReport, symbol: str) -> None:
        try:
            await self._account.on_report(replace(told, symbol=told.symbol or symbol))
        except (ValueError, TypeError) as e:
            log.error("ALARM account %s: unreadable fill: %s", self._account.account, e)

    async def _tell_gap(self, symbol: str, mark_ns: int, as_of: VenueTime) -> None:
        """Record that the venue's memory does not reach back to where we stopped reading."""
        account = self._account
        text = (
            f"fills of {symbol} were read until {mark_ns}; at {as_of.time_ns} the venue no longer shows all "
            "since then"
        )
        log.error("ALARM account %s: HISTORY_GAP: %s", account.account, text)
        event = OrderEvent(
            event_type=EventType.HISTORY_GAP,
            account=account.account,
            time_ns=account.clock.time_ns(),
            reason="HISTORY_GAP",
            text=text,
        )
        try:
            await account.put(Entry(account_id=account.record.account_id, events=(event,)))
        except StoreError as e:
            raise Unavailable(str(e), reason=e.reason) from e

    # --- strangers --------------------------------------------------------------------------------

    async def _ask_for_strangers(self, venue: AccountPlugins) -> None:
        """Ask the venue whose the fills are that match no order: it may know the order by our name."""
        account = self._account
        for symbol, name in account.unmatched.orders():
            if (symbol, name) in self._asked:
                continue
            page = await within(venue.fetch(FetchOrder(symbol=symbol, venue_order_id=name)))
            if len(self._asked) >= _ASKED_MAX:
                self._asked.clear()
            self._asked.add((symbol, name))
            for told in page.items:
                # Ours: its order learns the venue's name of it, and with that its fills.
                await account.on_report(replace(told, symbol=told.symbol or symbol))

    async def _follow_externals(
        self,
        venue: AccountPlugins,
        listed: dict[tuple[str | None, VenueOrderId | None], ExecutionReport],
    ) -> None:
        """Ask how the orders of others stand that are no longer listed, and for their fills."""
        account = self._account
        for known in await account.store.list_known_open(account.record.account_id):
            order = known.order
            if order.origin is not Origin.EXTERNAL:
                continue
            query = FetchOrder(symbol=order.symbol, venue_order_id=order.venue_order_id)
            report = listed.get((order.symbol, order.venue_order_id))
            if report is None:
                page = await within(venue.fetch(query))
                if not page.items:
                    log.info("the venue does not find order %s of others", order.venue_order_id)
                    continue
                report = account.received(page.items[0])
            if is_missing_fills(order, report):
                await self._read_fills_of_other(venue, order)
            await account.apply_received(order.order_id, [report])

    async def _read_fills_of_other(self, venue: AccountPlugins, order: Order) -> None:
        query = FetchFills(symbol=order.symbol, venue_order_id=order.venue_order_id)
        while True:
            page = await within(venue.fetch(query))
            for told in page.items:
                await self._take_fill(
                    replace(told, venue_order_id=told.venue_order_id or order.venue_order_id),
                    order.symbol,
                )
            if page.next_cursor is None:
                return
            query = replace(query, cursor=page.next_cursor)


def _overlap_ns(venue: AccountPlugins) -> int:
    return int((OVERLAP_S + venue.account.capabilities.visibility_lag_s) * NS_PER_S)
