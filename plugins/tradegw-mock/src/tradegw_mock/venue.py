"""The venue `mock`, but for how its exchange is reached."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from tradegw import AccountName, ExecutionReport, RateLimited, VenueError, VenueOrderId
from tradegw.venue import (
    Capabilities,
    Command,
    FetchBalances,
    FetchFills,
    FetchHistory,
    FetchInstruments,
    FetchOpenOrders,
    FetchOrder,
    FetchPositions,
    FetchReferencePrice,
    FetchServerTime,
    Outcome,
    Page,
    Query,
    TranslateContext,
    Venue,
    VenueRequest,
    VenueTime,
)
from tradegw_mock.contract import CAPABILITIES, OUTCOMES
from tradegw_mock.exchange import RefusalCode
from tradegw_mock.requests import (
    Answer,
    AnswerError,
    Batch,
    Cancel,
    CancelAll,
    GetBalances,
    GetInstruments,
    GetOrder,
    GetPrice,
    GetTime,
    Listed,
    ListFills,
    ListOpenOrders,
    ListOrders,
    Mutation,
    OpenAccount,
    Place,
    Question,
    Replace,
)
from tradegw_mock.translate import (
    command_of,
    to_balances,
    to_fill,
    to_instrument,
    to_order_status,
    to_reference_price,
    to_reports,
    translate,
)

__all__ = ["MockVenue"]

ItemT = TypeVar("ItemT")
_MUTATIONS = (Place, Cancel, Replace, CancelAll, Batch, OpenAccount)


class MockVenue(Venue):
    """One account's access to a mock exchange.

    Args:
        account: Its name here.
        exchange_account: Its name at the exchange.
    """

    def __init__(self, account: AccountName, exchange_account: str) -> None:
        self.account = account
        self.exchange_account = exchange_account

    @property
    def capabilities(self) -> Capabilities:
        """What the exchange can do."""
        return CAPABILITIES

    def translate(self, command: Command, context: TranslateContext) -> VenueRequest:
        """Turn a command into one request, valid for five seconds of the exchange's clock."""
        return translate(command, context, account=self.exchange_account)

    async def execute(self, request: VenueRequest) -> Sequence[ExecutionReport]:
        """Send the request. The answer carries its immediate fills."""
        payload = request.payload
        assert isinstance(payload, _MUTATIONS), "a request that `translate` did not make"
        try:
            answer = await self._ask(payload)
        except AnswerError as e:
            command = command_of(payload)
            if OUTCOMES.outcome(command, e.code) is Outcome.THROTTLED:
                raise RateLimited(e.text, reason=e.code, retry_after_s=e.retry_after_s) from e
            OUTCOMES.fail(command, e.code, e.text)
        return to_reports(payload, answer)

    @abstractmethod
    async def _ask(self, request: Mutation | Question) -> Answer:
        """Ask the exchange.

        Raises:
            AnswerError: It answered with a refusal.
            NotSent: No byte left.
            OutcomeUnknown: It may have acted.
        """

    async def fetch(self, query: Query) -> Page[Any]:
        """Answer a query, dated by the exchange's own clock."""
        try:
            return await self._fetch(query)
        except AnswerError as e:
            raise VenueError(str(e), reason=e.code) from e

    async def _fetch(self, query: Query) -> Page[Any]:
        match query:
            case FetchOrder():
                return await self._fetch_order(query)
            case FetchFills():
                return await self._fetch_fills(query)
            case FetchOpenOrders():
                listed = await self._list(
                    ListOpenOrders(account=self.exchange_account, symbol=query.symbol)
                )
                return _page(listed, map(to_order_status, listed.orders))
            case FetchHistory():
                listed = await self._list(
                    ListOrders(
                        account=self.exchange_account,
                        symbol=query.symbol,
                        since_ns=query.since_ns,
                        after=_read_cursor(query.cursor),
                    )
                )
                return _page(listed, map(to_order_status, listed.orders))
            case FetchBalances():
                listed = await self._list(GetBalances(account=self.exchange_account))
                return _page(listed, to_balances(listed.balances, self.account, listed.time_ns))
            case FetchPositions():
                return _page(await self._list(GetTime()), ())
            case FetchInstruments():
                listed = await self._list(GetInstruments())
                return _page(listed, map(to_instrument, listed.instruments))
            case FetchReferencePrice():
                return await self._fetch_price(query)
            case FetchServerTime():
                return _page(await self._list(GetTime()), ())

    async def _fetch_order(self, query: FetchOrder) -> Page[ExecutionReport]:
        listed = await self._list(
            GetOrder(
                account=self.exchange_account,
                order_id=_read_order_id(query.venue_order_id),
                client_order_id=query.venue_client_order_id,
            )
        )
        return _page(listed, map(to_order_status, listed.orders))

    async def _fetch_fills(self, query: FetchFills) -> Page[ExecutionReport]:
        listed = await self._list(
            ListFills(
                account=self.exchange_account,
                symbol=query.symbol,
                order_id=_read_order_id(query.venue_order_id),
                client_order_id=query.venue_client_order_id,
                since_ns=query.since_ns,
                after=_read_cursor(query.cursor),
            )
        )
        return _page(listed, map(to_fill, listed.fills))

    async def _fetch_price(self, query: FetchReferencePrice) -> Page[Any]:
        try:
            listed = await self._list(GetPrice(symbol=query.symbol))
        except AnswerError as e:
            if e.code != RefusalCode.UNKNOWN_SYMBOL:
                raise
            return _page(await self._list(GetTime()), ())
        found = (to_reference_price(price, listed.time_ns) for price in listed.prices)
        return _page(listed, (price for price in found if price is not None))

    async def _list(self, request: Question) -> Listed:
        answer = await self._ask(request)
        assert isinstance(answer, Listed)
        return answer


def _page(listed: Listed, items: Iterable[ItemT]) -> Page[ItemT]:
    return Page(
        items=tuple(items),
        as_of=VenueTime(time_ns=listed.time_ns),
        next_cursor=None if listed.next_after is None else str(listed.next_after),
    )


def _read_order_id(order_id: VenueOrderId | None) -> int | None:
    if order_id is None:
        return None
    if not (order_id.isascii() and order_id.isdigit()):
        raise VenueError(f"the mock exchange numbers its orders; found {order_id[:40]!r}")
    return int(order_id)


def _read_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit()):
        raise VenueError(f"not a cursor of the mock exchange: {cursor[:40]!r}")
    return int(cursor)
