"""The guard of one account: whether its venue is there, whether our clocks agree, and who may send now.

Around every venue the same. On the path of an order it costs a look at two fields, unless something is
counted or wrong.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from tradegw.engine.guard.backoff import Backoff
from tradegw.engine.guard.breaker import Breaker
from tradegw.engine.guard.offset import ClockOffset, Sample
from tradegw.engine.guard.traffic import FREE, Lane, Permit, Rank
from tradegw.engine.tenure import Tenure
from tradegw.errors import NotSent, OutcomeUnknown, Unavailable, VenueError
from tradegw.ports import Clock
from tradegw.venue import Capabilities, ExpiryKind, Feedback, Operation

__all__ = ["AccountGuard"]

log = logging.getLogger(__name__)

_NS_PER_S: Final = 1_000_000_000
PROBE_FIRST_S: Final = 0.5
PROBE_LONGEST_S: Final = 5.0
RETRY_AFTER_S: Final = 1.0
"""How long to leave a venue alone that throttles and does not say for how long."""
RETRY_AFTER_MAX_S: Final = 3600.0
_OUTAGES: Final = (OutcomeUnknown, NotSent, TimeoutError, OSError)


class AccountGuard:
    """What stands between one account and its venue.

    Attributes:
        lane: Who may send now.
        clock_doubt: Set when the venue's clock should be sampled anew.
        closed: Set whenever the breaker has closed.
    """

    def __init__(
        self,
        account: str,
        lane: Lane,
        *,
        clock: Clock,
        rng: random.Random,
        send_within_s: float,
        tenure: Tenure | None = None,
    ) -> None:
        """Make a guard of a venue that is not open yet.

        Args:
            send_within_s: How long a command waits for its turn.
            tenure: While it may send, so may we. None: nobody else ever serves the account.
        """
        self.lane = lane
        self.breaker = Breaker()
        self._refusal: Unavailable | None = None
        self._tenure = tenure
        self.opened = asyncio.Event()
        self.clock_doubt = asyncio.Event()
        self._account = account
        self._clock = clock
        self._backoff = Backoff(rng, first_s=PROBE_FIRST_S, longest_s=PROBE_LONGEST_S)
        self._within_s = send_within_s
        self._skew = ""
        self._window_ns = 0
        self._offset = ClockOffset()
        self._on_close: Callable[[], None] = _nothing

    # --- opening --------------------------------------------------------------------------------

    def use(self, capabilities: Capabilities) -> None:
        """Begin to guard a venue that was opened."""
        self.lane.use(capabilities.budgets, capabilities.send_order)
        by_time = capabilities.expiry is ExpiryKind.TIME
        self._window_ns = int(capabilities.expiry_s * _NS_PER_S) if by_time else 0

    def on_close(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever the breaker closes."""
        self._on_close = call

    # --- who may send ---------------------------------------------------------------------------

    @property
    def refusal(self) -> Unavailable | None:
        """Why new orders are refused now: the error to raise; None when they are taken."""
        return self._refusal if self.may_send else self._not_ours()

    @property
    def may_send(self) -> bool:
        """Whether the account is ours to send for."""
        return self._tenure is None or self._tenure.may_send

    def check_tenure(self) -> None:
        """See that the account is ours, at the last moment before a request leaves.

        Raises:
            NotSent: It is not, or may not be by now; reason `NOT_HOLDER`.
        """
        if not self.may_send:
            raise NotSent(str(self._not_ours()), reason="NOT_HOLDER")

    def _not_ours(self) -> Unavailable:
        return Unavailable(
            f"account {self._account}: the lease is not ours for certain, so nothing is sent from here",
            reason="NOT_HOLDER",
        )

    async def enter(
        self, operation: Operation, symbol: str | None, rank: Rank = Rank.ORDER
    ) -> Permit:
        """Wait for the turn of a command.

        Raises:
            Unavailable: There is no room in the venue's rate budget in time; reason `BUDGET_EXHAUSTED`.
        """
        permit = self.lane.try_take(operation, symbol, rank)
        if permit is None:
            permit = await self.lane.take(operation, symbol, rank, within_s=self._within_s)
        return permit

    def try_enter(
        self, operation: Operation, symbol: str | None, rank: Rank = Rank.ORDER
    ) -> Permit | None:
        """Return a permit, unless one must be waited for."""
        return FREE if self.lane.is_free else self.lane.try_take(operation, symbol, rank)

    # --- what is learned ------------------------------------------------------------------------

    def on_answer(self) -> None:
        """Take note that the venue answered, whatever it said."""
        if self.breaker.is_failing and self.breaker.succeed(self._clock.time_ns()):
            log.warning("account %s: the venue answers again", self._account)
            self._backoff.reset()
            self._decide()
            self._on_close()
            self.lane.traffic.pump()

    def on_error(self, error: BaseException) -> None:
        """Take note of what a call of the venue raised. Only what may be an outage counts."""
        if isinstance(error, NotSent) and error.reason == "NOT_HOLDER":
            # It says nothing of the venue.
            return
        if isinstance(error, _OUTAGES):
            self.on_outage(f"{type(error).__name__}: {error}")
        elif isinstance(error, VenueError):
            self.on_answer()
            retry_after_s: float | None = getattr(error, "retry_after_s", None)
            if retry_after_s is not None or error.reason == "VENUE_RATE_LIMITED":
                self._leave_alone(retry_after_s, (), None)

    def on_outage(self, why: str) -> None:
        """Count one sign that the venue may be out."""
        if self.breaker.fail(why, self._clock.time_ns()):
            self._opened()

    def on_feedback(self, told: Feedback) -> None:
        """Take note of what the plugin learned on the way."""
        if not told.healthy:
            self.on_outage(told.detail or "the plugin says that it cannot reach the venue")
        if told.used:
            now_ns = self.lane.venue_time_ns()
            for pool in self.lane.pools(told.symbol):
                used = told.used.get(pool.about.name)
                if used is not None:
                    pool.correct(used, now_ns)
        if told.banned:
            wait_s = _bounded(told.retry_after_s)
            until_ns = self._clock.time_ns() + int(wait_s * _NS_PER_S)
            if self.breaker.trip(f"banned for {wait_s:g} s: {told.detail}", until_ns=until_ns):
                self._opened()
        elif told.retry_after_s is not None:
            self._leave_alone(told.retry_after_s, told.pools, told.symbol)
        if told.server_time_ns is not None and self._window_ns:
            # One way only, so it may be off by a round trip: enough to say that we should look.
            off_ns = told.server_time_ns - self.lane.venue_time_ns()
            if abs(off_ns) > self._window_ns // 4:
                self.clock_doubt.set()

    def on_clock(self, offset_ns: int, round_trip_ns: int) -> int:
        """Take note of how far the venue's clock seems to be ahead of ours; return how far to take it to be.

        Beyond half of the time for which the venue takes a request, whose clock is wrong cannot be told from
        here, and a request would be refused, or live when we think it dead.
        """
        best = self._offset.add(
            Sample(
                offset_ns=offset_ns,
                round_trip_ns=round_trip_ns,
                at_ns=self._clock.monotonic_ns(),
            )
        )
        for pool in self.lane.pools():
            pool.margin_ns = max(1_000_000, best.round_trip_ns)
        skewed = bool(self._window_ns) and self._offset.is_beyond(self._window_ns // 2)
        if skewed != bool(self._skew):
            log.log(
                logging.ERROR if skewed else logging.WARNING,
                "%saccount %s: the venue's clock is %.3f s ahead of ours",
                "ALARM " if skewed else "",
                self._account,
                best.offset_ns / _NS_PER_S,
            )
        self._skew = ""
        if skewed:
            self._skew = (
                f"the venue's clock is {best.offset_ns / _NS_PER_S:.3f} s ahead of ours, more than half "
                f"of the {self._window_ns / _NS_PER_S:g} s for which it takes a request"
            )
        self._decide()
        return best.offset_ns

    def _leave_alone(
        self, retry_after_s: float | None, names: tuple[str, ...], symbol: str | None
    ) -> None:
        until_ns = self.lane.venue_time_ns() + int(_bounded(retry_after_s) * _NS_PER_S)
        for pool in self.lane.pools(symbol):
            if not names or pool.about.name in names:
                pool.block(until_ns)

    def _opened(self) -> None:
        log.error("ALARM account %s: the venue is out: %s", self._account, self.breaker.why)
        self._decide()
        self.opened.set()

    def _decide(self) -> None:
        self._refusal = None
        if self.breaker.is_open:
            self._refusal = Unavailable(
                f"account {self._account}: the venue is out: {self.breaker.why}",
                reason="VENUE_UNAVAILABLE",
            )
        elif self._skew:
            self._refusal = Unavailable(
                f"account {self._account}: {self._skew}", reason="CLOCK_SKEW"
            )

    # --- looking whether it is back ---------------------------------------------------------------

    async def probe(self, ask: Callable[[], object]) -> None:
        """While the breaker is open, ask the venue its time now and then, without end.

        Args:
            ask: Asks; its answer or failure is noted where all are.
        """
        while True:
            await self.opened.wait()
            self.opened.clear()
            while self.breaker.is_open:
                wait_ns = self.breaker.wait_ns(self._clock.time_ns())
                await self._clock.sleep(wait_ns / _NS_PER_S + self._backoff.next_s())
                if self.breaker.is_open:
                    await _quietly(ask)


async def _quietly(ask: Callable[[], object]) -> None:
    try:
        answer = ask()
        if asyncio.iscoroutine(answer) or asyncio.isfuture(answer):
            await answer
    except Exception as e:  # noqa: BLE001  A plugin may raise anything; it is noted where all are.
        log.debug("the venue is still out: %r", e)


def _bounded(retry_after_s: float | None) -> float:
    return (
        RETRY_AFTER_S if retry_after_s is None else min(RETRY_AFTER_MAX_S, max(0.0, retry_after_s))
    )


def _nothing() -> None:
    pass
