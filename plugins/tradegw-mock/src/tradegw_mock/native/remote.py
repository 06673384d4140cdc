"""The venue `mock` with its exchange in another process, reached through the native door."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace as replace_fields

from msgspec.structs import replace

from tradegw import ExecutionReport, VenueError
from tradegw.venue import Capabilities, Feedback, Runtime, StreamGap, StreamItem, StreamReady
from tradegw_mock.config import MockConfig, read_address
from tradegw_mock.contract import CAPABILITIES
from tradegw_mock.exchange import OrderEvent
from tradegw_mock.native.client import NativeClient, Subscription, open_client, subscribe
from tradegw_mock.native.protocol import Subscribe
from tradegw_mock.requests import (
    Answer,
    AnswerError,
    GetLimits,
    Listed,
    ListFills,
    Mutation,
    OpenAccount,
    Question,
)
from tradegw_mock.translate import to_budget, to_fill, to_stream_item
from tradegw_mock.venue import MockVenue

__all__ = ["RemoteVenue", "open_remote"]

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 5.0


@asynccontextmanager
async def open_remote(
    config: MockConfig, runtime: Runtime, *, rng: random.Random | None = None
) -> AsyncGenerator[RemoteVenue]:
    """Open an account at the exchange behind `config.url`.

    Raises:
        VenueError: It cannot be reached, or refuses the account.
    """
    host, port = read_address(config.url)
    async with open_client(host, port) as client:
        venue = RemoteVenue(config, runtime, client, rng or random.Random())
        await venue.open_account()
        yield venue


class RemoteVenue(MockVenue):
    """One account's access to an exchange in another process."""

    def __init__(
        self, config: MockConfig, runtime: Runtime, client: NativeClient, rng: random.Random
    ) -> None:
        super().__init__(runtime.account, config.exchange_account or runtime.account)
        self._address = read_address(config.url)
        self._balances = config.read_balances()
        self._runtime = runtime
        self._client = client
        self._rng = rng
        self._capabilities = CAPABILITIES

    async def _ask(self, request: Mutation | Question) -> Answer:
        return await self._client.ask(request)

    async def open_account(self) -> None:
        """Open the account there, unless it is open.

        Raises:
            VenueError: It cannot be.
        """
        try:
            await self._ask(OpenAccount(account=self.exchange_account, balances=self._balances))
        except AnswerError as e:
            text = f"account {self.exchange_account!r} cannot be opened: {e}"
            raise VenueError(text, reason=e.code) from e

        try:
            listed = await self._ask(GetLimits())
        except AnswerError:
            # It is of a time when there were none.
            return
        assert isinstance(listed, Listed)
        self._capabilities = replace_fields(
            CAPABILITIES, budgets=tuple(map(to_budget, listed.limits))
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the exchange can do, and what it says that it allows in a time."""
        return self._capabilities

    async def stream(self, since: int) -> AsyncIterator[StreamItem]:
        """Yield the account's events; after a cut, those that came meanwhile."""
        host, port = self._address
        request = Subscribe(id=1, account=self.exchange_account)
        since_ns = last_trade_id = 0
        wait_s = FIRST_WAIT_S
        while True:
            is_live = False
            try:
                # An exchange that keeps nothing has forgotten the account.
                await self.open_account()
                async with subscribe(host, port, request) as stream:
                    about = stream.about
                    self._runtime.feedback(
                        Feedback(healthy=True, detail=f"stream from {host}:{port}")
                    )
                    yield StreamReady(
                        instance_id=about.instance_id, venue_account_id=self.exchange_account
                    )
                    is_live, wait_s = True, FIRST_WAIT_S
                    if request.instance_id != about.instance_id:
                        # Its trades are numbered anew.
                        last_trade_id = 0
                    elif not about.resumed:
                        async for fill in self._fills_since(since_ns, last_trade_id):
                            yield fill
                    since_ns = about.time_ns
                    while True:
                        request = _resume(request, stream)
                        for event in await stream.read():
                            if isinstance(event, OrderEvent) and event.fill is not None:
                                last_trade_id = event.fill.trade_id
                            yield to_stream_item(event, self.account)
            except (VenueError, OSError) as e:
                self._runtime.feedback(Feedback(healthy=False, detail=str(e)))
                if is_live:
                    yield StreamGap(why=str(e))
            await self._runtime.sleep(wait_s * self._rng.uniform(0.5, 1.0))
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def _fills_since(self, since_ns: int, after: int) -> AsyncGenerator[ExecutionReport]:
        """Yield the fills that a stream which could not be resumed has missed."""
        cursor: int | None = after
        while cursor is not None:
            query = ListFills(account=self.exchange_account, since_ns=since_ns, after=cursor)
            try:
                listed = await self._ask(query)
            except AnswerError as e:
                raise VenueError(str(e), reason=e.code) from e
            assert isinstance(listed, Listed)
            for fill in listed.fills:
                yield to_fill(fill)
            cursor = listed.next_after


def _resume(request: Subscribe, stream: Subscription) -> Subscribe:
    return replace(request, after=stream.last_seq, instance_id=stream.about.instance_id)
