"""One venue on a bench: its four hooks as a gateway calls them, and its stream read along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

from tradegw.engine.venue_ids import gateway_tag, hex32
from tradegw.model import (
    AccountId,
    AccountName,
    ExecType,
    ExecutionReport,
    Instrument,
    Order,
    OrderId,
    VenueClientOrderId,
)
from tradegw.plugins import AccountPlugins
from tradegw.testing.builders import an_order
from tradegw.venue import (
    Capabilities,
    ClientIdCodec,
    Command,
    FetchFills,
    FetchHistory,
    FetchInstruments,
    FetchOpenOrders,
    FetchOrder,
    FetchServerTime,
    Page,
    StreamItem,
    StreamReady,
    Submit,
    TranslateContext,
    Venue,
    VenueAccount,
    VenueTime,
)

__all__ = ["VenueBench"]


class VenueBench:
    """A venue under test, reached through its hooks alone.

    Attributes:
        items: What its stream told, oldest first.
        hooks: The four hooks.
    """

    def __init__(self, venue: Venue, *, symbol: str, patience_s: float = 60.0) -> None:
        about = VenueAccount(
            account_id=AccountId(uuid4()),
            account=AccountName("paper"),
            venue="venue",
            plugin="venue",
            capabilities=venue.capabilities,
        )
        self.venue = venue
        self.hooks = AccountPlugins(about, venue, ())
        self.items: list[StreamItem] = []
        self._symbol = symbol
        self._patience_s = patience_s
        self._news = asyncio.Event()
        self._tag = gateway_tag("conformance")
        self._count = uuid4().int % 2**20
        self._now = VenueTime(time_ns=0)
        self.instrument: Instrument

    @property
    def capabilities(self) -> Capabilities:
        """What the venue says that it can do."""
        return self.venue.capabilities

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Read the stream along, from when it is ready."""
        page = await self.hooks.fetch(FetchInstruments())
        self.instrument = next(i for i in page.items if i.symbol == self._symbol)
        self._now = (await self.hooks.fetch(FetchServerTime())).as_of
        stream = self.hooks.stream(0)
        reading = asyncio.create_task(self._read(stream))
        try:
            await self.until(
                lambda: any(isinstance(item, StreamReady) for item in self.items), "StreamReady"
            )
            yield
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            await self.close_stream(stream)

    async def _read(self, stream: AsyncIterator[StreamItem]) -> None:
        async for item in stream:
            self.items.append(item)
            self._news.set()

    async def close_stream(self, stream: AsyncIterator[StreamItem]) -> None:
        """Close a stream, as a gateway does."""
        aclose = getattr(stream, "aclose", None)
        if aclose is not None:
            await aclose()

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something that the stream will tell.

        Raises:
            AssertionError: It did not, in time.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"waited {self._patience_s} s in vain for {what}") from None

    # --- orders ---------------------------------------------------------------------------------

    def order(self, **fields: Any) -> Order:
        """Return an order to buy, with a name at the venue of the declared form."""
        order_id = OrderId(uuid4())
        return an_order(
            **(
                {
                    "order_id": order_id,
                    "symbol": self._symbol,
                    "venue_client_order_id": self._name(order_id),
                }
                | fields
            )
        )

    def _name(self, order_id: OrderId) -> VenueClientOrderId:
        if self.capabilities.client_id_codec is ClientIdCodec.HEX32:
            return hex32(self._tag, order_id, 0)
        self._count += 1
        return VenueClientOrderId(str(self._count))

    def context(self, *orders: Order) -> TranslateContext:
        """Return what a translation may depend on, by the venue's clock when the bench was set up."""
        names = [o.venue_client_order_id for o in orders]
        return TranslateContext(
            instrument=self.instrument,
            now=self._now,
            venue_client_order_ids=tuple(name for name in names if name is not None),
        )

    async def submit(self, order: Order) -> Sequence[ExecutionReport]:
        """Place an order."""
        return await self.command(Submit(order=order), order)

    async def command(self, command: Command, order: Order) -> Sequence[ExecutionReport]:
        """Translate a command by the venue's time of now, and send it."""
        now = (await self.hooks.fetch(FetchServerTime())).as_of
        request = self.hooks.translate(command, replace(self.context(order), now=now))
        return await self.hooks.execute(request)

    async def ask(self, order: Order) -> Page[ExecutionReport]:
        """Ask about an order, by all the names that it has."""
        return await self.hooks.fetch(
            FetchOrder(
                symbol=order.symbol,
                venue_client_order_id=order.venue_client_order_id,
                venue_order_id=order.venue_order_id,
            )
        )

    async def pages(
        self, query: FetchOpenOrders | FetchHistory | FetchFills
    ) -> list[ExecutionReport]:
        """Read a listing to its end."""
        found: list[ExecutionReport] = []
        seen: set[str] = set()
        while True:
            page = await self.hooks.fetch(query)
            found.extend(page.items)
            if page.next_cursor is None:
                return found
            assert page.next_cursor not in seen, "a listing that goes round in circles"
            seen.add(page.next_cursor)
            query = replace(query, cursor=page.next_cursor)

    # --- what the stream told -------------------------------------------------------------------

    def told(self, order: Order) -> list[ExecutionReport]:
        """Return the reports of an order on the stream."""
        return [
            item
            for item in self.items
            if isinstance(item, ExecutionReport)
            and (
                item.venue_client_order_id == order.venue_client_order_id
                or (
                    item.venue_client_order_id is None
                    and item.venue_order_id is not None
                    and item.venue_order_id == order.venue_order_id
                )
            )
        ]

    def trades(self, order: Order) -> list[ExecutionReport]:
        """Return the fills of an order on the stream."""
        return [report for report in self.told(order) if report.exec_type is ExecType.TRADE]
