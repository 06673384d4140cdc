"""What one account hears: the stream, the fills that it missed, the ends of short-term orders."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from decimal import Decimal
from typing import Any, Final

from tradegw import (
    Evidence,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    Position,
    TranslationError,
    VenueError,
)
from tradegw.venue import (
    BalanceUpdate,
    PositionUpdate,
    Runtime,
    StreamGap,
    StreamItem,
    StreamReady,
)
from tradegw_dydx.indexer import Indexer
from tradegw_dydx.nodes import Nodes
from tradegw_dydx.orders import Owner
from tradegw_dydx.queries import Queries
from tradegw_dydx.reports import Names, to_balances, to_fill, to_order, to_positions
from tradegw_dydx.stream import Contents, Heights, subscribe
from tradegw_dydx.tracking import ShortTermOrder, Tracker

__all__ = ["Feed"]

log = logging.getLogger(__name__)

SETTLE_EVERY_S: Final = 0.5
QUEUED_MAX: Final = 10_000
"""Stream items that nobody has read yet; the stream waits for its reader then."""
OVERLAP_BLOCKS: Final = 200
"""A stream may be dead for a minute before it is noticed; fills of that time are asked for again."""
_OVERLAP_NS: Final = 60 * 1_000_000_000
_ZERO: Final = Decimal(0)
Run = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Feed:
    """The stream of one account.

    Args:
        run: Runs something beside the calls, until it ends or the venue is closed.
    """

    def __init__(
        self,
        *,
        url: str,
        owner: Owner,
        runtime: Runtime,
        nodes: Nodes,
        indexer: Indexer,
        queries: Queries,
        names: Names,
        tracker: Tracker,
        heights: Heights,
        rng: random.Random,
        run: Run,
    ) -> None:
        self._url = url
        self._owner = owner
        self._runtime = runtime
        self._nodes = nodes
        self._indexer = indexer
        self._queries = queries
        self._names = names
        self._tracker = tracker
        self._heights = heights
        self._rng = rng
        self._run = run
        self._readers: list[asyncio.Queue[StreamItem]] = []
        self._kept: deque[StreamItem] = deque(maxlen=QUEUED_MAX)
        self._are_balances_old = False
        self._heard_height = 0
        self._held: set[str] = set()

    async def tell(self, item: StreamItem) -> None:
        """Put something into every stream that is read; while none is, it is kept for the next."""
        if not self._readers:
            self._kept.append(item)
        for queue in self._readers:
            await queue.put(item)

    async def items(self, since_ns: int) -> AsyncIterator[StreamItem]:
        """Yield what is heard.

        Raises:
            VenueError: Something that was said cannot be read; begin again.
        """
        queue: asyncio.Queue[StreamItem] = asyncio.Queue(QUEUED_MAX)
        pump = self._run(self._pump(queue, since_ns))
        try:
            while True:
                item = asyncio.ensure_future(queue.get())
                await asyncio.wait({item, pump}, return_when=asyncio.FIRST_COMPLETED)
                if not item.done():
                    item.cancel()
                    pump.result()
                    raise VenueError("the stream ended")
                yield item.result()
        finally:
            pump.cancel()
            if queue in self._readers:
                self._readers.remove(queue)
            if not self._readers:
                # What it said of orders is still to be read; what it said of itself is not true any more.
                self._kept.extend(
                    item
                    for item in _drained(queue)
                    if not isinstance(item, (StreamReady, StreamGap))
                )

    async def _pump(self, queue: asyncio.Queue[StreamItem], since_ns: int) -> None:
        """Read the indexer's stream into a queue."""
        try:
            async for item in subscribe(
                self._url,
                self._owner.address,
                self._owner.subaccount,
                self._heights,
                self._runtime,
                self._rng,
            ):
                if isinstance(item, StreamReady):
                    await queue.put(item)
                    if queue not in self._readers:
                        self._readers.append(queue)
                    while self._kept:
                        await queue.put(self._kept.popleft())
                    for fill in await self._missed_fills(since_ns):
                        await queue.put(fill)
                elif isinstance(item, StreamGap):
                    await queue.put(item)
                else:
                    for said in self._read(item):
                        await queue.put(said)
                    # Only by the subaccount's own messages: heights have a channel of their own, which may
                    # live on while this one loses something.
                    self._heard_height = max(self._heard_height, self._heights.height)
        except (VenueError, TranslationError) as e:
            # Not as an error of this task, which would take the whole venue with it.
            log.error("ALARM account %s: the stream cannot be read: %s", self._runtime.account, e)
            await queue.put(StreamGap(why=str(e)))

    async def _missed_fills(self, since_ns: int) -> list[ExecutionReport]:
        """Return the fills of the time in which nobody listened: a snapshot has none."""
        if self._heard_height:
            height = max(0, self._heard_height - OVERLAP_BLOCKS)
            told = await self._queries.fills_since(since_ns=0, since_height=height)
        elif since_ns:
            told = await self._queries.fills_since(since_ns=since_ns - _OVERLAP_NS, since_height=0)
        else:
            return []
        return [to_fill(fill, self._names) for fill in told]

    def _read(self, contents: Contents) -> list[StreamItem]:
        items: list[StreamItem] = []
        orders = contents.get("orders") or ()
        for order in orders:
            # Before the fills, which do not tell the name.
            self._names.read(order)
        items += [to_fill(fill, self._names) for fill in contents.get("fills") or ()]
        for order in orders:
            report = to_order(order, self._names)
            if report is not None:
                items.append(report)
        positions = contents.get("perpetualPositions")
        if positions:
            items.append(PositionUpdate(positions=to_positions(positions, self._runtime.account)))
        if contents.get("fills") or contents.get("assetPositions") or contents.get("transfers"):
            self._are_balances_old = True
        return items

    # --- ends, and balances -----------------------------------------------------------------------

    async def keep_settling(self) -> None:
        """Tell the end of short-term orders, and new balances, without end."""
        while True:
            await self._runtime.sleep(SETTLE_EVERY_S)
            try:
                await self.settle()
                if self._are_balances_old:
                    self._are_balances_old = False
                    await self._tell_subaccount()
            except VenueError as e:
                log.info("account %s: the indexer does not answer: %s", self._runtime.account, e)
            except TranslationError as e:
                log.error("ALARM account %s: %s", self._runtime.account, e)

    async def _tell_subaccount(self) -> None:
        """Tell balances and positions as they stand; what is no longer held stands at zero."""
        account = self._runtime.account
        told = await self._indexer.subaccount()
        positions = to_positions(told.get("openPerpetualPositions") or {}, account)
        held = {position.symbol for position in positions}
        gone = tuple(
            Position(account=account, symbol=symbol, qty=_ZERO) for symbol in self._held - held
        )
        self._held = held
        await self.tell(BalanceUpdate(balances=to_balances(told, account)))
        if positions or gone:
            await self.tell(PositionUpdate(positions=(*positions, *gone)))

    async def settle(self) -> None:
        """Tell the end of each short-term order whose good-til-block nodes and indexer have passed.

        Raises:
            VenueError: The indexer does not say; nothing has ended.
        """
        if not self._tracker.ended(await self._queries.known_height()):
            return
        # Asked where the fills are asked: the stream may be ahead of it.
        height = min(await self._indexer.height(), self._nodes.head.height)
        ended = self._tracker.ended(height)
        if not ended:
            return
        told = await self._queries.fills_since(
            since_ns=0, since_height=min(order.since_height for order in ended)
        )
        fills = [to_fill(fill, self._names) for fill in told]
        for order in ended:
            own = [fill for fill in fills if fill.venue_order_id == order.uuid]
            for fill in own:
                await self.tell(fill)
            await self.tell(_end(order, own, height))
            self._tracker.forget(order.uuid)


def _drained(queue: asyncio.Queue[StreamItem]) -> list[StreamItem]:
    items: list[StreamItem] = []
    while not queue.empty():
        items.append(queue.get_nowait())
    return items


def _end(order: ShortTermOrder, fills: Sequence[ExecutionReport], height: int) -> ExecutionReport:
    was_asked = order.is_cancelled or order.is_immediate
    return ExecutionReport(
        exec_type=ExecType.CANCELED if was_asked else ExecType.EXPIRED,
        venue_order_id=order.uuid,
        venue_client_order_id=order.name,
        symbol=order.symbol,
        cum_qty=sum((f.last_qty for f in fills if f.last_qty is not None), start=_ZERO),
        reason="GOOD_TIL_BLOCK_PASSED",
        evidence=Evidence(
            kind=EvidenceKind.EXPIRY_PASSED,
            detail=f"good until block {order.good_til_block}; a node and the indexer are at {height}, "
            f"and its {len(fills)} fills are read",
        ),
    )
