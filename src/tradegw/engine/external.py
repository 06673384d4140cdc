"""Orders at our account that we did not place, or no longer know that we did: shown, adopted on demand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from uuid import uuid4

from tradegw.engine.account import Account
from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.venue_ids import is_ours
from tradegw.errors import InvalidOrder, NotFound, StoreError, Unavailable
from tradegw.model import ExecutionReport, Order, OrderId, Origin, VenueOrderId
from tradegw.model.strangers import adopt, record_external
from tradegw.plugins import AccountPlugins
from tradegw.ports import Entry, Known, Stored, VenueOrderRef
from tradegw.venue import FetchOpenOrders

__all__ = ["Externals", "list_open"]

log = logging.getLogger(__name__)


class Externals:
    """What one account knows of other people's orders. They are in the store alone, and in no limit."""

    def __init__(self, account: Account) -> None:
        self._account = account
        # Two that see the same order at once would store it twice.
        self._seeing = asyncio.Lock()

    async def see(self, told: ExecutionReport) -> Order | None:
        """Take note of an open order that the venue tells of; return it unless it is one of ours.

        One that we closed without the venue's word is revived by this.

        Raises:
            ValueError: The report is unreadable.
            Unavailable: The store failed.
        """
        account = self._account
        report = account.received(told)
        async with self._seeing:
            if account.book.match(report) is not None:
                return None
            known = await self._find(report)
            if known is None:
                return await self._take(report)
        await account.on_report(report)
        return known.order if known.order.origin is Origin.EXTERNAL else None

    async def _find(self, report: ExecutionReport) -> Known | None:
        account = self._account
        try:
            for name in ("venue_client_order_id", "venue_order_id"):
                value = getattr(report, name)
                if value is None:
                    continue
                known = await account.store.find_known(account.record.account_id, **{name: value})
                if known is not None and known.order.symbol in (report.symbol, None):
                    return known
        except StoreError as e:
            account.fail(e)
            raise Unavailable(str(e), reason=e.reason) from e
        return None

    async def _take(self, report: ExecutionReport) -> Order:
        account = self._account
        name = report.venue_client_order_id
        generation = 0
        if name is not None and is_ours(account.settings.tag, name):
            generation = int(name[-2:], 16)
        order, events = record_external(
            OrderId(uuid4()),
            report,
            account=account.account,
            venue=account.record.venue,
            generation=generation,
            time_ns=account.clock.time_ns(),
        )
        ref = None
        if name is not None:
            ref = VenueOrderRef(
                order_id=order.order_id,
                generation=generation,
                venue_client_order_id=name,
                venue_order_id=order.venue_order_id,
                order_qty=order.order_qty,
            )
        entry = Entry(
            account_id=account.record.account_id, events=events, is_new_order=True, ref=ref
        )
        reach(CrashPoint.STRANGER_UNJOURNALED)
        try:
            result = await account.put(entry)
        except StoreError as e:
            raise Unavailable(f"the order could not be stored: {e}", reason=e.reason) from e
        assert isinstance(result, Stored), "it has neither key nor fill"
        log.warning(
            "account %s: order %s (%s) at the venue is not ours",
            account.account,
            order.venue_order_id,
            name,
        )
        return result.events[-1].order or order

    async def choose(
        self, venue: AccountPlugins, venue_order_ids: Sequence[VenueOrderId]
    ) -> list[OrderId]:
        """Return which of the orders that the venue holds open are to be adopted.

        Args:
            venue_order_ids: The venue's names of them; none: all whose name carries our tag.

        Raises:
            NotFound: The venue holds no open order of such a name; reason `UNKNOWN_ORDER`.
            InvalidOrder: One has no client id at the venue, so that it could not be commanded.
            VenueError: The venue does not tell.
            Unavailable: The store failed.
        """
        tag = self._account.settings.tag
        wanted = set(venue_order_ids)
        chosen: list[OrderId] = []
        async for told in list_open(venue):
            order = await self.see(told)
            name = told.venue_client_order_id
            if wanted:
                is_wanted = told.venue_order_id in wanted
                wanted.discard(told.venue_order_id or VenueOrderId(""))
            else:
                is_wanted = name is not None and is_ours(tag, name)
            if order is None or not is_wanted:
                continue
            if name is None:
                raise InvalidOrder(
                    f"order {told.venue_order_id} has no client id at the venue; it cannot be adopted",
                    reason="NO_CLIENT_ORDER_ID",
                )
            chosen.append(order.order_id)
        if wanted:
            raise NotFound(
                f"the venue holds no open order {', '.join(sorted(wanted))}", reason="UNKNOWN_ORDER"
            )
        return chosen

    async def adopt(self, order_id: OrderId, *, by: str, why: str) -> Order:
        """Make an order ours. From then on it is asked about, commanded and counted like any other.

        Raises:
            Unavailable: The store failed.
        """
        account = self._account
        reach(CrashPoint.ADOPTING)
        order = await account.commit(
            order_id,
            lambda order: adopt(order, by=by, why=why, time_ns=account.clock.time_ns()),
        )
        if account.book.find(order_id) is not None:
            # With its fills, which may be from before anyone here knew of it.
            account.to_ask.add(order_id)
            account.wake_resolver.set()
        return order


async def list_open(venue: AccountPlugins) -> AsyncIterator[ExecutionReport]:
    """Yield the orders that the venue lists as open. What is missing there is not thereby closed.

    Raises:
        VenueError: The venue does not tell.
    """
    query = FetchOpenOrders()
    while True:
        page = await venue.fetch(query)
        for report in page.items:
            yield report
        if page.next_cursor is None:
            return
        query = replace(query, cursor=page.next_cursor)
