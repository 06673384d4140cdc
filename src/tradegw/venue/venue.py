"""What a venue must do. Plugin authors subclass `Venue`."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar, final, overload

from tradegw.markers import hookimpl
from tradegw.model import (
    AccountId,
    AccountName,
    Balance,
    ExecutionReport,
    Instrument,
    Position,
)
from tradegw.venue.capabilities import Capabilities
from tradegw.venue.commands import (
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
    Page,
    Query,
    ReferencePrice,
    TranslateContext,
    VenueRequest,
)
from tradegw.venue.stream import StreamItem

__all__ = [
    "API_VERSION",
    "Examined",
    "Feedback",
    "Runtime",
    "Venue",
    "VenueAccount",
    "VenueFactory",
    "Verdict",
    "around",
    "around_stream",
]

API_VERSION = 1
"""Version of the venue contract. It grows by arguments that old plugins may ignore."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueAccount:
    """The account on whose behalf a hook is called.

    Attributes:
        venue: Name of the venue in the configuration, such as `binance`.
        plugin: Name of the factory that opened it, such as `rest`.
    """

    account_id: AccountId
    account: AccountName
    venue: str
    plugin: str
    capabilities: Capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a plugin learns on the way: its connection broke or came back, the venue throttles.

    Attributes:
        healthy: Whether the venue can be reached at all. False counts as one of its outages.
        detail: For people.
        used: Units used so far, by pool, as the venue counts them.
        symbol: Whose `ACCOUNT_SYMBOL` pools `used` and `pools` are about.
        retry_after_s: The venue asks to be left alone for so long.
        pools: Which pools `retry_after_s` is about; empty means all that the account draws on.
        banned: It threatens or does worse than throttle: for `retry_after_s` nothing is sent at all.
        server_time_ns: The venue's clock, where a header tells it.
    """

    healthy: bool = True
    detail: str = ""
    used: Mapping[str, int] | None = None
    symbol: str | None = None
    retry_after_s: float | None = None
    pools: tuple[str, ...] = ()
    banned: bool = False
    server_time_ns: int | None = None


class Runtime(Protocol):
    """What the gateway lends to a venue."""

    @property
    def account(self) -> AccountName:
        """The account that is being opened."""
        ...

    @property
    def venue(self) -> str:
        """Name of the venue in the configuration."""
        ...

    @property
    def data_dir(self) -> str:
        """Directory beside the store, for what the venue itself must keep. `""` when nothing is kept."""
        ...

    @property
    def tag(self) -> str:
        """8 hex digits that mark the orders of this gateway at a venue."""
        ...

    def time_ns(self) -> int:
        """Return the time, nanoseconds since the epoch. Tests turn this clock."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait, by the same clock."""
        ...

    def feedback(self, feedback: Feedback) -> None:
        """Tell the gateway what was learned. Never blocks."""
        ...


ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueFactory(Generic[ConfigT]):
    """How to open a venue for one account.

    Attributes:
        name: What `plugin = ...` says in the configuration.
        config_type: A `msgspec.Struct` or dataclass; the venue's and the account's sections of the
            configuration are decoded into it, and unknown keys are refused. Fields whose value may be
            secret are of type `Secret`.
        open: Connects; entering it may raise `VenueError` and is then tried again.
    """

    name: str
    config_type: type[ConfigT]
    open: Callable[[ConfigT, Runtime], AbstractAsyncContextManager[Venue]]


class Verdict(StrEnum):
    """How a finding of `tradegw doctor` is meant."""

    OK = "OK"
    WARNING = "WARNING"
    """It works, and will not always."""
    PROBLEM = "PROBLEM"
    """It does not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One thing that a venue looked at; see `Venue.examine`.

    Attributes:
        check: In a word, such as `version`.
    """

    check: str
    verdict: Verdict
    detail: str


class Venue(ABC):
    """One account's access to one venue.

    A subclass says what it can do in `capabilities` and implements the four abstract methods; the hook
    implementations below call them and are not to be touched. `translate` is pure. `execute` and `fetch`
    may raise `VenueRejected`, `RateLimited`, `NotSent` and `OutcomeUnknown`; anything else that escapes
    `execute` counts as `OutcomeUnknown`.
    """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the venue can do. Constant while it is open."""

    @property
    def height(self) -> int | None:
        """The venue's block height as last heard, where it has one. Asks nobody; read at each translation."""
        return None

    @property
    def environment(self) -> str:
        """Which of the venue's worlds is asked: host and environment, or the name of the chain.

        An account is bound to the first that it is opened with. Another one is never traded on, nor believed
        about orders of the first. `""` where the venue's `instance_id` says as much.
        """
        return ""

    @abstractmethod
    def translate(self, command: Command, context: TranslateContext) -> VenueRequest:
        """Turn a command into one unsigned request. Pure: no I/O, no clock, no randomness.

        Raises:
            InvalidOrder: The venue cannot do this. Nothing has been stored.
        """

    @abstractmethod
    async def execute(self, request: VenueRequest) -> Sequence[ExecutionReport]:
        """Sign and send the request, and return what the venue answered.

        The answer of a batch has one report for each member; a missing one is unknown.

        Raises:
            VenueRejected: The venue said no.
            RateLimited: The venue did not take it.
            NotSent: No byte left.
            OutcomeUnknown: Anything else. It may be live.

        Cancellation: the request may have been sent; the engine treats it as unknown.
        """

    @abstractmethod
    async def fetch(self, query: Query) -> Page[Any]:
        """Answer a query. The page's `as_of` is the venue's own clock or height.

        Raises:
            VenueError: No answer, or one that says nothing. Never an empty page in its place: an empty
                page is a statement of the venue.
        """

    @abstractmethod
    def stream(self, since: int) -> AsyncIterator[StreamItem]:
        """Yield `StreamReady`, then changes; after a break `StreamGap`, then `StreamReady` anew.

        Args:
            since: Time in nanoseconds of the last update that was read; 0 when none was.
        """

    async def examine(self) -> Sequence[Examined]:
        """Look at what this venue alone knows how to look at, for `tradegw doctor`.

        Such as the version of its API, and what the key may do. Clock, markets, balances and open orders are
        looked at without it. Changes nothing.
        """
        return ()

    @final
    @hookimpl
    def tradegw_translate(
        self, account: VenueAccount, command: Command, context: TranslateContext
    ) -> VenueRequest:
        return self.translate(command, context)

    @final
    @hookimpl
    def tradegw_execute(
        self, account: VenueAccount, request: VenueRequest
    ) -> Awaitable[Sequence[ExecutionReport]]:
        return self.execute(request)

    @final
    @hookimpl
    def tradegw_stream(self, account: VenueAccount, since: int) -> AsyncIterator[StreamItem]:
        return self.stream(since)

    @final
    @hookimpl
    def tradegw_fetch(self, account: VenueAccount, query: Query) -> Awaitable[Page[Any]]:
        return self.fetch(query)


class VenueCalls(Protocol):
    """The four hooks of one account, with every wrapper around them."""

    def translate(self, command: Command, context: TranslateContext) -> VenueRequest: ...

    def execute(self, request: VenueRequest) -> Awaitable[Sequence[ExecutionReport]]: ...

    def stream(self, since: int) -> AsyncIterator[StreamItem]: ...

    @overload
    def fetch(
        self, query: FetchOrder | FetchOpenOrders | FetchHistory | FetchFills
    ) -> Awaitable[Page[ExecutionReport]]: ...
    @overload
    def fetch(self, query: FetchBalances) -> Awaitable[Page[Balance]]: ...
    @overload
    def fetch(self, query: FetchPositions) -> Awaitable[Page[Position]]: ...
    @overload
    def fetch(self, query: FetchInstruments) -> Awaitable[Page[Instrument]]: ...
    @overload
    def fetch(self, query: FetchReferencePrice) -> Awaitable[Page[ReferencePrice]]: ...
    @overload
    def fetch(self, query: FetchServerTime) -> Awaitable[Page[Any]]: ...


ResultT = TypeVar("ResultT")


async def around(
    awaitable: Awaitable[ResultT],
    *,
    before: Callable[[], Awaitable[None]] | None = None,
    after: Callable[[ResultT], Awaitable[ResultT]] | None = None,
) -> ResultT:
    """Await a wrapped call with something before and after it, for hook wrappers.

    A wrapper of `tradegw_execute` or `tradegw_fetch` gets an awaitable from its inner call and must hand
    one on. `before` may raise, and then the inner call is never awaited: raise `NotSent` there.
    What `after` raises counts like the venue's own failure: raise `OutcomeUnknown` to lose an answer.

    Cancellation: carried to whichever part is running; an inner coroutine never started is closed.
    """
    try:
        if before is not None:
            await before()
    except BaseException:
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise
    result = await awaitable
    return result if after is None else await after(result)


async def around_stream(
    items: AsyncIterator[StreamItem],
    each: Callable[[StreamItem], AsyncIterator[StreamItem]],
) -> AsyncIterator[StreamItem]:
    """Pass every item of a wrapped stream through `each`, which yields what is to be seen instead.

    Closing the result closes the inner stream as well.
    """
    try:
        async for item in items:
            async for changed in each(item):
                yield changed
    finally:
        aclose = getattr(items, "aclose", None)
        if aclose is not None:
            await aclose()
