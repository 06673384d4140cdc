"""An account's hooks behind its guard: every question takes its turn, and every answer is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.guard.guard import AccountGuard
from tradegw.engine.guard.traffic import Rank
from tradegw.errors import NotSent, OutcomeUnknown, Unavailable, VenueError
from tradegw.model import ExecutionReport
from tradegw.plugins import AccountPlugins
from tradegw.venue import (
    FetchServerTime,
    Operation,
    Page,
    Query,
    Venue,
    VenueAccount,
    VenueRequest,
)
from tradegw.venue.budgets import operation_of

__all__ = ["FETCH_TIMEOUT_S", "GuardedPlugins"]

FETCH_TIMEOUT_S = 9.0
NOTHING: Final[Mapping[str, int]] = MappingProxyType({})
ResultT = TypeVar("ResultT")


def _drawn(page: Page[Any]) -> Mapping[str, int]:
    return page.cost


class GuardedPlugins(AccountPlugins):
    """The four hooks of one account. Commands take their turn before they are translated: see `Desk`."""

    def __init__(
        self,
        account: VenueAccount,
        venue: Venue,
        wrappers: Sequence[object],
        guard: AccountGuard,
    ) -> None:
        super().__init__(account, venue, wrappers)
        self._guard = guard

    def execute(self, request: VenueRequest) -> Awaitable[Sequence[ExecutionReport]]:
        """Send a request, unless the account may be another gateway's by now; see `tradegw_execute`.

        Every request that acts at the venue leaves through here, and its bytes go when the answer is awaited:
        await it at once.

        Raises:
            NotSent: The account's lease is not ours for certain.
        """
        self._guard.check_tenure()
        reach(CrashPoint.CHECKED_UNSENT)
        return super().execute(request)

    async def fetch(self, query: Query) -> Page[Any]:
        """Ask a venue, when it is this question's turn; see `tradegw_fetch`.

        Raises:
            VenueError: No answer. While the breaker is open, at once, but for the server's time.
        """
        symbol: str | None = getattr(query, "symbol", None)
        return await self._in_turn(
            lambda: super(GuardedPlugins, self).fetch(query),
            operation_of(query),
            symbol,
            drawn=_drawn,
        )

    async def execute_in_turn(
        self, request: VenueRequest, operation: Operation
    ) -> Sequence[ExecutionReport]:
        """Send a request that is no order's, when it is its turn; see `tradegw_execute`.

        Raises:
            VenueError: It was not answered, or refused.
        """
        return await self._in_turn(
            lambda: self.execute(request), operation, None, cost=request.cost
        )

    async def _in_turn(
        self,
        call: Callable[[], Awaitable[ResultT]],
        operation: Operation,
        symbol: str | None,
        cost: Mapping[str, int] = NOTHING,
        drawn: Callable[[ResultT], Mapping[str, int]] | None = None,
    ) -> ResultT:
        guard = self._guard
        if guard.breaker.is_open and operation is not Operation.SERVER_TIME:
            raise VenueError(f"the venue is out: {guard.breaker.why}", reason="VENUE_UNAVAILABLE")
        permit = guard.try_enter(operation, symbol, Rank.QUESTION)
        if permit is None:
            try:
                permit = await guard.enter(operation, symbol, Rank.QUESTION)
            except Unavailable as e:
                raise VenueError(str(e), reason=e.reason) from e
        try:
            permit.charge(cost)
            permit.sending()
            deadline = asyncio.timeout(FETCH_TIMEOUT_S)
            try:
                async with deadline:
                    answer = await call()
            except TimeoutError as e:
                if not deadline.expired():
                    raise
                raise OutcomeUnknown(f"no answer within {FETCH_TIMEOUT_S} s") from e
            if drawn is not None:
                permit.charge(drawn(answer))
        except Exception as e:
            if isinstance(e, NotSent):
                permit.not_sent()
            guard.on_error(e)
            raise
        finally:
            permit.close()
        guard.on_answer()
        return answer

    async def ask_time(self) -> None:
        """Ask the venue whether it is there."""
        await self.fetch(FetchServerTime())


assert Operation.SERVER_TIME.is_public, "a probe must not wait for a place among the key's requests"
