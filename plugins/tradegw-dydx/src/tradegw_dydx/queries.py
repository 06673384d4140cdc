"""Answers the engine's questions, from the indexer and the chain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, assert_never

from tradegw import (
    AccountName,
    ExecType,
    ExecutionReport,
    OrdStatus,
    VenueClientOrderId,
    VenueError,
    VenueOrderId,
)
from tradegw.venue import (
    FetchBalances,
    FetchFills,
    FetchHistory,
    FetchInstruments,
    FetchOpenOrders,
    FetchOrder,
    FetchPositions,
    FetchReferencePrice,
    FetchServerTime,
    Page,
    Query,
    ReferencePrice,
    VenueTime,
)
from tradegw_dydx.chain import find_stateful
from tradegw_dydx.indexer import PAGE_MAX, Indexer, IndexerNotFound
from tradegw_dydx.markets import Market, ticker_of
from tradegw_dydx.nodes import Nodes
from tradegw_dydx.orders import CLIENT_ID_MAX, ChainOrderId, OrderFlags, Owner
from tradegw_dydx.reports import Names, order_uuid, to_balances, to_fill, to_order, to_positions
from tradegw_dydx.stream import Heights
from tradegw_dydx.tracking import ShortTermOrder, Tracker

__all__ = ["Queries"]

NS_PER_S: Final = 1_000_000_000
PAGES_MAX: Final = 20
"""Pages of fills that one question may take: twenty thousand fills."""
HEIGHT_AGE_MAX_S: Final = 3.0
ORACLE_AGE_S: Final = 3.0
_BLOCK_S: Final = 2
"""No chain of these is slower; a lag of blocks is dated by it."""
_FLAGS: Final = (OrderFlags.SHORT_TERM, OrderFlags.LONG_TERM, OrderFlags.CONDITIONAL)


class Queries:
    """What one account can be told.

    Attributes:
        markets: The markets by ticker, as last told.
    """

    def __init__(
        self,
        *,
        account: AccountName,
        owner: Owner,
        nodes: Nodes,
        indexer: Indexer,
        names: Names,
        tracker: Tracker,
        heights: Heights,
    ) -> None:
        self.markets: Mapping[str, Market] = {}
        self._account = account
        self._owner = owner
        self._nodes = nodes
        self._indexer = indexer
        self._names = names
        self._tracker = tracker
        self._heights = heights

    async def refresh_markets(self, ticker: str | None = None) -> None:
        """Read the markets, or one of them, anew.

        Raises:
            VenueError: The indexer does not tell.
        """
        # By the chain's clock, before it is asked: it may be a little older than that, never younger.
        time_ns = self._nodes.head.time_ns
        told = await self._indexer.markets(ticker)
        fresh = {t: replace(market, oracle_time_ns=time_ns) for t, market in told.items()}
        self.markets = fresh if ticker is None else {**self.markets, **fresh}

    async def known_height(self) -> int:
        """Return the height up to which a node and the indexer both know everything.

        Raises:
            VenueError: The indexer does not tell.
        """
        heights = self._heights
        if asyncio.get_running_loop().time() - heights.time_s > HEIGHT_AGE_MAX_S:
            heights.see(await self._indexer.height())
        return min(heights.height, self._nodes.head.height)

    async def as_of(self) -> VenueTime:
        """Return the moment that an answer is dated by: what came later may be missing in it."""
        head = self._nodes.head
        height = await self.known_height()
        return VenueTime(
            time_ns=head.time_ns - max(0, head.height - height) * _BLOCK_S * NS_PER_S,
            height=height,
        )

    async def fetch(self, query: Query) -> Page[Any]:
        """Answer a question.

        Raises:
            VenueError: No answer, or one that says nothing.
        """
        if isinstance(query, FetchServerTime):
            await self._nodes.look()
            head = self._nodes.head
            return Page(items=(), as_of=VenueTime(time_ns=head.time_ns, height=head.height))
        # Dated before it is asked: what happens meanwhile is not claimed to be absent.
        as_of = await self.as_of()
        return Page(items=await self._items(query, as_of), as_of=as_of)

    async def _items(self, query: Query, as_of: VenueTime) -> tuple[Any, ...]:
        match query:
            case FetchOrder():
                return await self._order(query)
            case FetchFills():
                return await self._fills(query)
            case FetchOpenOrders():
                status = "OPEN,UNTRIGGERED,BEST_EFFORT_OPENED"
                return self._reports(
                    await self._indexer.orders(**_market(query.symbol), status=status)
                )
            case FetchHistory():
                told = self._reports(await self._indexer.orders(**_market(query.symbol)))
                since = [r for r in told if r.transact_time_ns >= query.since_ns]
                return tuple(sorted(since, key=lambda r: r.transact_time_ns))
            case FetchBalances():
                held = await self._subaccount()
                return to_balances(held, self._account) if held else ()
            case FetchPositions():
                held = await self._subaccount()
                return to_positions(held.get("openPerpetualPositions", {}), self._account)
            case FetchInstruments():
                await self.refresh_markets()
                return tuple(market.to_instrument() for market in self.markets.values())
            case FetchReferencePrice():
                return await self._reference_price(query.symbol, as_of)
            case FetchServerTime():
                return ()
            case _:
                assert_never(query)

    async def _subaccount(self) -> Mapping[str, Any]:
        try:
            return await self._indexer.subaccount()
        except IndexerNotFound:
            # It never had anything.
            return {}

    async def _reference_price(self, symbol: str, as_of: VenueTime) -> tuple[ReferencePrice, ...]:
        ticker = ticker_of(symbol)
        market = self.markets.get(ticker)
        oldest_ns = self._nodes.head.time_ns - int(ORACLE_AGE_S * NS_PER_S)
        if market is None or market.oracle_time_ns < oldest_ns:
            await self.refresh_markets(ticker)
            market = self.markets.get(ticker)
        if market is None or market.oracle_price is None:
            return ()
        time_ns = min(market.oracle_time_ns, as_of.time_ns)
        return (ReferencePrice(symbol=symbol, px=market.oracle_price, time_ns=time_ns),)

    # --- orders and fills -------------------------------------------------------------------------

    async def _order(self, query: FetchOrder) -> tuple[ExecutionReport, ...]:
        ids = self._ids(query.symbol, query.venue_client_order_id)
        uuids = (
            [query.venue_order_id]
            if query.venue_order_id is not None
            else [order_uuid(order_id) for order_id in ids]
        )
        for uuid in uuids:
            try:
                told = await self._indexer.order(uuid)
            except IndexerNotFound:
                continue
            if query.venue_client_order_id is not None:
                self._names.learn(uuid, query.venue_client_order_id)
            self._remember(told)
            report = to_order(told, self._names)
            return () if report is None else (report,)
        for order_id in ids:
            if order_id.flags is OrderFlags.SHORT_TERM:
                continue
            found = await find_stateful(self._nodes, order_id)
            if found is not None:
                market = self.markets[ticker_of(query.symbol)]
                cum_qty = market.size_of(found.fill_amount)
                return (
                    ExecutionReport(
                        exec_type=ExecType.ORDER_STATUS,
                        venue_order_id=order_uuid(order_id),
                        venue_client_order_id=query.venue_client_order_id,
                        symbol=query.symbol,
                        ord_status=OrdStatus.PARTIALLY_FILLED if cum_qty else OrdStatus.NEW,
                        cum_qty=cum_qty,
                        triggered=None
                        if order_id.flags is OrderFlags.LONG_TERM
                        else found.triggered,
                    ),
                )
        return ()

    async def _fills(self, query: FetchFills) -> tuple[ExecutionReport, ...]:
        uuids: set[str] = set()
        if query.venue_order_id is not None:
            uuids.add(query.venue_order_id)
        if query.venue_client_order_id is not None and query.symbol is not None:
            for order_id in self._ids(query.symbol, query.venue_client_order_id):
                uuid = order_uuid(order_id)
                uuids.add(uuid)
                self._names.learn(uuid, query.venue_client_order_id)
        told = await self.fills_since(since_ns=query.since_ns, since_height=0, symbol=query.symbol)
        return tuple(
            report
            for report in (to_fill(fill, self._names) for fill in told)
            if not uuids or report.venue_order_id in uuids
        )

    async def fills_since(
        self, *, since_ns: int, since_height: int, symbol: str | None = None
    ) -> list[Mapping[str, Any]]:
        """Return the fills since a time and a height, oldest first, each once.

        Raises:
            VenueError: There are too many to read, or the indexer does not tell.
        """
        filters = _fill_filters(symbol)
        found: dict[str, Mapping[str, Any]] = {}
        for _ in range(PAGES_MAX):
            page = await self._indexer.fills(**filters)
            fresh = [fill for fill in page if str(fill.get("id")) not in found]
            found.update((str(fill.get("id")), fill) for fill in fresh)
            if len(page) < PAGE_MAX or _reaches(page[-1], since_ns, since_height):
                kept = [f for f in found.values() if not _reaches(f, since_ns, since_height)]
                return kept[::-1]
            if not fresh:
                raise VenueError("more fills in one block than the indexer tells at once")
            # Inclusive: the rest of that block comes again, and is known by its ids.
            filters["createdBeforeOrAtHeight"] = str(page[-1].get("createdAtHeight"))
        raise VenueError(f"more than {PAGES_MAX * PAGE_MAX} fills; ask for a shorter time")

    def _ids(self, symbol: str, name: VenueClientOrderId | None) -> list[ChainOrderId]:
        """Return every name that an order of ours can have on the chain: its kind is part of it."""
        market = self.markets.get(ticker_of(symbol))
        if name is None or market is None or not name.isdigit() or int(name) > CLIENT_ID_MAX:
            return []
        return [
            ChainOrderId(
                owner=self._owner.address,
                subaccount=self._owner.subaccount,
                client_id=int(name),
                flags=flags,
                clob_pair_id=market.clob_pair_id,
            )
            for flags in _FLAGS
        ]

    def _reports(self, told: Sequence[Mapping[str, Any]]) -> tuple[ExecutionReport, ...]:
        reports: list[ExecutionReport] = []
        for one in told:
            self._remember(one)
            report = to_order(one, self._names)
            if report is not None:
                reports.append(report)
        return tuple(reports)

    def _remember(self, told: Mapping[str, Any]) -> None:
        """Watch a short-term order of ours that was placed before this start."""
        name = self._names.read(told)
        until = told.get("goodTilBlock")
        if name is None or until is None or told.get("status") == "FILLED":
            return
        report = to_order(told, self._names)
        if report is None or report.symbol is None:
            return
        self._tracker.note(
            ShortTermOrder(
                uuid=VenueOrderId(str(told["id"])),
                name=name,
                symbol=report.symbol,
                good_til_block=int(until),
                # No short-term order is older than its window.
                since_height=max(0, int(until) - 100),
            )
        )


def _reaches(fill: Mapping[str, Any], since_ns: int, since_height: int) -> bool:
    """Whether a fill is from before what was asked for."""
    if int(str(fill.get("createdAtHeight", 0))) < since_height:
        return True
    return bool(since_ns) and to_fill(fill, Names(0)).transact_time_ns < since_ns


def _market(symbol: str | None) -> dict[str, str]:
    return {} if symbol is None else {"ticker": ticker_of(symbol)}


def _fill_filters(symbol: str | None) -> dict[str, str]:
    # Both or neither, says the indexer.
    return {} if symbol is None else {"market": ticker_of(symbol), "marketType": "PERPETUAL"}
