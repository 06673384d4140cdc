"""Serves one exchange on an event loop: commits what it does, tells who follows, lets its time pass.

With a file, nothing that happened is answered, shown or told before it is committed. Requests that
arrive together share a commit. When the file fails, the exchange is built anew from what it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TypeVar

from tradegw_mock.building import HostSettings, build
from tradegw_mock.chaos import Scenario, read_scenario
from tradegw_mock.chaos.desk import ask
from tradegw_mock.clocks import VirtualClock
from tradegw_mock.exchange import (
    Change,
    Event,
    Exchange,
    Maker,
    MockExchange,
    Refusal,
)
from tradegw_mock.feed import Feed
from tradegw_mock.feeds import Feeds, StreamCut, follow
from tradegw_mock.hostfaults import HostFaults
from tradegw_mock.operations import PastLost, carry_out, target_of
from tradegw_mock.pacing import Pace
from tradegw_mock.requests import (
    Answer,
    CreateApiKey,
    DeleteApiKey,
    Mutation,
    OpenAccount,
    Question,
)

__all__ = ["ExchangeAway", "ExchangeFailed", "Host", "HostSettings", "StreamCut", "open_host"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Clock = Callable[[], int]
Sleep = Callable[[float], Awaitable[None]]

VIRTUAL_TICK_NS = 1_000_000
"""By how much a request moves a virtual clock on."""
REOPEN_FIRST_S = 0.1
REOPEN_MAX_S = 5.0


class ExchangeAway(Exception):
    """The exchange cannot be reached now. The request had no effect."""


class ExchangeFailed(Exception):
    """The exchange failed while the request was under way. Nobody knows its effect."""


@asynccontextmanager
async def open_host(
    settings: HostSettings,
    *,
    clock: Clock,
    sleep: Sleep,
    virtual: VirtualClock | None = None,
) -> AsyncGenerator[Host]:
    """Open an exchange and serve it.

    Args:
        virtual: The clock, where it is one that stands still: each request moves it on by a millisecond,
            and `Host.move_to` as far as it is told.

    Raises:
        ExchangeError: Its file cannot be used.
    """
    host = Host(settings, clock=clock, sleep=sleep, virtual=virtual)
    try:
        await host.open()
        yield host
    finally:
        await host.close()


class Host:
    """One exchange, served. All methods are called on one event loop.

    Args:
        clock: The exchange's own clock, nanoseconds since the epoch.
        sleep: Waits, by the same clock.
        virtual: See `open_host`.

    Attributes:
        faults: What goes wrong on purpose.
        pace: What it does by itself, and what its own checks found.
    """

    def __init__(
        self,
        settings: HostSettings,
        *,
        clock: Clock,
        sleep: Sleep,
        virtual: VirtualClock | None = None,
    ) -> None:
        self.settings = settings
        self.virtual = virtual
        self._clock = clock
        self._sleep = sleep
        # One thread: sqlite3 blocks, and one commit at a time is all that there may be.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="mock-exchange")
        self._mock: MockExchange | None = None
        self._failure: BaseException | None = None
        self._failed = asyncio.Event()
        self._back = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._committer: asyncio.Task[None] | None = None
        self._feeds = Feeds(keep=settings.feed_keep)
        self._accounts: dict[str, OpenAccount] = {}
        self._api_keys: dict[str, CreateApiKey] = {}
        self._pending: list[Change] = []
        self._has_pending = asyncio.Event()
        self._latest = 0
        self._committed = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._listeners: list[Callable[[Change], None]] = []
        self.faults = HostFaults(self, clock=clock, sleep=sleep, seed=settings.seed)
        self.pace = Pace(
            self,
            clock=clock,
            sleep=sleep,
            step_interval_s=settings.step_interval_s,
            catches_up=virtual is not None,
        )

    # --- opening and closing --------------------------------------------------------------------

    async def open(self) -> None:
        """Open the exchange, and let its time pass.

        Raises:
            ExchangeError: Its file cannot be used.
            ScenarioError: The scenario cannot be read.
        """
        scenario = (
            Scenario() if self.settings.scenario is None else read_scenario(self.settings.scenario)
        )
        await self._build()
        self._committer = asyncio.create_task(self._keep_committing())
        for fault in scenario.fault:
            await self.faults.inject(fault)
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Commit what happened, end every stream, and let go of the file."""
        await _cancel(self._keeper)
        await self.faults.close()
        if self._failure is None and self._latest > self._committed:
            with contextlib.suppress(ExchangeFailed):
                await self._until_committed()
        await _cancel(self._committer)
        self._stop(ExchangeAway("the exchange is closed"))
        mock, self._mock = self._mock, None
        if mock is not None:
            self._worker.submit(mock.close)
        # A build that was cancelled on the way closes what it opened, in the same thread.
        await asyncio.get_running_loop().run_in_executor(None, self._worker.shutdown)

    async def _build(self) -> None:
        if self.settings.path is None:
            mock = build(self.settings, self._clock)
        else:
            building = self._worker.submit(build, self.settings, self._clock)
            try:
                mock = await asyncio.wrap_future(building)
            except asyncio.CancelledError:
                building.add_done_callback(_close_built)
                raise
        exchange = mock.exchange
        self._mock = mock
        self._feeds.begin(exchange)
        self._latest = self._committed = 0
        self._failure = None
        self._failed.clear()
        self.faults.watch(exchange)
        self.pace.begin(mock)
        exchange.listen(self._on_change)
        try:
            # An exchange without a file has forgotten its accounts too.
            for opened in self._accounts.values():
                carry_out(exchange, opened, self._clock)
            for key in self._api_keys.values():
                carry_out(exchange, key, self._clock)
        except BaseException as e:
            self._stop(e)
            raise
        self._back.set()

    # --- requests -------------------------------------------------------------------------------

    @property
    def is_durable(self) -> bool:
        """Whether what it did survives this process."""
        return self.settings.path is not None

    def time_ns(self) -> int:
        """Return the exchange's clock."""
        return self._clock()

    @property
    def instance_id(self) -> str:
        """Which incarnation of the exchange answers.

        Raises:
            ExchangeAway: None does.
        """
        return self.exchange.instance_id

    async def open_account(self, name: str, balances: dict[str, Decimal] | None = None) -> None:
        """Open and fund an account, unless it is open.

        Raises:
            Refusal: The name or an asset will not do.
            ExchangeAway, ExchangeFailed: As `carry_out`.
        """
        await self.carry_out(OpenAccount(account=name, balances=balances))

    async def ask(self, request: Mutation | Question, *, route: str = "") -> Answer:
        """Carry a request out as a client meets it: with whatever faults make of it on the way.

        Args:
            route: The door's own name of the request, for faults to match.

        Raises:
            Unanswered, ErrorAnswered: Of the faults.
            Refusal, PastLost, ExchangeAway, ExchangeFailed: As `carry_out`.

        Cancellation: a request that faults delay on its way in is carried out all the same.
        """
        if request.witness or not self.faults.chaos.is_active:
            return await self.carry_out(request, route=route)
        return await self.faults.apart(
            ask(
                self.faults.chaos,
                request,
                target_of(self.exchange, request, route=route),
                lambda shown: self.carry_out(shown, route=route),
                self.faults.sleep,
            )
        )

    async def carry_out(self, request: Mutation | Question, *, route: str = "") -> Answer:
        """Carry a request out; what it did, and all that the answer shows, is committed.

        Of faults those take part that happen at the exchange itself: to cancels, and to what queries see.

        Raises:
            Refusal: The exchange said no.
            PastLost: It cannot say.
            ExchangeAway: It had no effect.
            ExchangeFailed: Nobody knows.

        Cancellation: the request has been carried out; only the waiting for the commit ends.
        """
        if self.virtual is not None and not request.witness:
            self.move_to(self._clock() + VIRTUAL_TICK_NS)
        answer = await self.act(
            lambda exchange: carry_out(
                exchange, request, self._clock, self.faults.chaos, route=route
            )
        )
        self._remember(request)
        return answer

    async def act(self, do: Callable[[Exchange], T]) -> T:
        """Do something at the exchange; what it did, and all that it shows, is committed.

        Raises:
            Exception: As `carry_out`.
        """
        exchange = self.exchange
        try:
            try:
                self.pass_time()
                return do(exchange)
            finally:
                self.faults.wake()
                await self.settle()
        except (Refusal, PastLost, ExchangeFailed):
            raise
        except Exception as e:
            # Whatever it is, the exchange cannot be vouched for any more.
            self._stop(e)
            raise ExchangeFailed(f"the exchange failed: {e!r}") from e

    def _remember(self, request: Mutation | Question) -> None:
        """Remember what an exchange without a file would have forgotten when it is built anew."""
        match request:
            case OpenAccount():
                self._accounts[request.account] = request
            case CreateApiKey():
                self._api_keys[request.api_key] = request
            case DeleteApiKey():
                self._api_keys.pop(request.api_key, None)
            case _:
                pass

    async def settle(self) -> None:
        """Wait until all that happened so far is committed.

        Raises:
            ExchangeFailed: Nobody knows whether it is.
        """
        if self._latest > self._committed:
            await self._until_committed()

    def pass_time(self) -> None:
        """Let happen what is due by now.

        Raises:
            ExchangeAway: The exchange is away.
        """
        _ = self.exchange
        self.pace.pass_time()
        self.faults.pass_time()

    def move_to(self, time_ns: int) -> None:
        """Move a virtual clock on, and let happen what comes in between, each at its time.

        Raises:
            ExchangeAway, ExchangeFailed: The exchange is away; so is the rest of the way.
        """
        assert self.virtual is not None, "only a virtual clock can be moved"
        while (due_ns := self._next_due_ns()) <= time_ns:
            self.virtual.move_to(due_ns)
            self.try_to(self.pass_time)
            _ = self.exchange
        self.virtual.move_to(time_ns)

    def _next_due_ns(self) -> int:
        by_fault = self.faults.chaos.next_due_ns()
        by_pace = self.pace.next_due_ns()
        return by_pace if by_fault is None else min(by_fault, by_pace)

    @property
    def maker(self) -> Maker | None:
        """Who quotes; None where nobody does.

        Raises:
            ExchangeAway: The exchange is away.
        """
        _ = self.exchange
        assert self._mock is not None
        return self._mock.maker

    @property
    def exchange(self) -> Exchange:
        """The exchange itself, to look at. What it shows may not be committed yet.

        Raises:
            ExchangeAway: There is none now.
        """
        if self._mock is None or self._failure is not None:
            raise ExchangeAway(f"the exchange is away: {self._failure or 'closed'}")
        return self._mock.exchange

    # --- events ---------------------------------------------------------------------------------

    def feed(self, account: str) -> Feed:
        """Return the events of an account. It ends when the exchange fails or closes; get it anew then.

        Raises:
            ExchangeAway: The exchange is away; see `wait_back`.
        """
        _ = self.exchange
        return self._feeds.get(account)

    async def wait_back(self) -> None:
        """Wait until the exchange is there, after it failed."""
        await self._back.wait()

    async def follow(
        self, account: str, feed: Feed, after: int, *, route: str = ""
    ) -> AsyncGenerator[list[Event]]:
        """Yield the events that a client's stream carries; see `Feed.follow`.

        Raises:
            FeedGap: Events are gone, or the exchange began anew.
            StreamCut: A fault cuts the stream.
        """
        stream = follow(feed, self.faults.chaos, account, after, route=route)
        async with contextlib.aclosing(stream) as batches:
            async for events in batches:
                yield events

    def forget_feeds(self) -> None:
        """End every stream, and let nobody resume one beyond now."""
        self._feeds.forget("the exchange was started again")

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Hear of each change once it is committed, in order; call the result to stop."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _on_change(self, change: Change) -> None:
        self._latest = change.number
        if self._mock is not None and self._mock.store is not None:
            self._pending.append(change)
            self._has_pending.set()
        else:
            self._committed = change.number
            self._tell(change)

    def _tell(self, change: Change) -> None:
        self._feeds.publish(change)
        for listener in tuple(self._listeners):
            listener(change)

    # --- commits --------------------------------------------------------------------------------

    async def _until_committed(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((self._latest, waiter))
        await waiter

    async def _keep_committing(self) -> None:
        while True:
            await self._has_pending.wait()
            self._has_pending.clear()
            batch, self._pending = self._pending, []
            mock = self._mock
            if not batch or mock is None or mock.store is None:
                continue
            try:
                await asyncio.wrap_future(self._worker.submit(mock.store.commit, batch))
                # If it failed meanwhile, whoever waited was told so.
                if self._failure is None and self._mock is mock:
                    self._on_committed(mock.exchange, batch)
            except Exception as e:  # noqa: BLE001  Whatever it is, whoever waits must hear of it.
                self._stop(e)

    def _on_committed(self, exchange: Exchange, batch: list[Change]) -> None:
        self._committed = batch[-1].number
        exchange.committed(self._committed)
        for change in batch:
            self._tell(change)
        while self._waiters and self._waiters[0][0] <= self._committed:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _stop(self, failure: BaseException) -> None:
        """Take no more requests, and tell everyone who waits that nobody knows."""
        if self._failure is not None:
            return
        self._failure = failure
        self._back.clear()
        self._pending.clear()
        while self._waiters:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(ExchangeFailed(f"the exchange failed: {failure}"))
        self._feeds.end(str(failure))
        self._failed.set()

    # --- time passes ----------------------------------------------------------------------------

    async def _keep(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_open())
            if self.virtual is None:
                group.create_task(self.pace.keep())

    async def _keep_open(self) -> None:
        delay_s = REOPEN_FIRST_S
        while True:
            await self._failed.wait()
            log.error("the mock exchange failed, and is built anew: %s", self._failure)
            mock, self._mock = self._mock, None
            if mock is not None:
                await asyncio.wrap_future(self._worker.submit(mock.close))
            try:
                await self._build()
                delay_s = REOPEN_FIRST_S
            except Exception as e:  # noqa: BLE001  Until it is there again, or nobody wants it any more.
                log.error("the mock exchange cannot be built anew: %r", e)
                await self._sleep(delay_s)
                delay_s = min(delay_s * 2, REOPEN_MAX_S)

    def try_to(self, act: Callable[[], object]) -> None:
        """Let the exchange do something that nobody waits for. When it fails, it is built anew."""
        if self._mock is None or self._failure is not None:
            return
        try:
            act()
        except Exception as e:  # noqa: BLE001  As in `act`: it cannot be vouched for any more.
            self._stop(e)


async def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("a task of the mock exchange had failed: %r", failure)


def _close_built(built: Future[MockExchange]) -> None:
    if not built.cancelled() and built.exception() is None:
        built.result().close()
