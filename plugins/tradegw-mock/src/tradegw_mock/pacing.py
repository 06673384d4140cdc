"""What an exchange does by itself as time passes: orders expire, prices move, books are checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final

from tradegw_mock.exchange import Exchange, MockExchange, Replay, ReplayRow

if TYPE_CHECKING:
    from tradegw_mock.host import Host

__all__ = ["Pace"]

EXPIRY_EVERY_S: Final = 1.0
CHECK_EVERY_NS: Final = 5_000_000_000
NS_PER_MS: Final = 1_000_000
ROWS_AT_A_TIME: Final = 500
LEAST_SLEEP_S: Final = 1e-6
"""Less could round to nothing, and then time would never come."""


class Pace:
    """The steps of one exchange's time.

    Args:
        step_interval_s: Seconds between two steps of the maker; 0 holds prices still.
        catches_up: Whether a clock that jumped makes all the steps in between, or one.
    """

    def __init__(
        self,
        host: Host,
        *,
        clock: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]],
        step_interval_s: float,
        catches_up: bool,
    ) -> None:
        self.violations: tuple[str, ...] = ()
        self.checked_ns = 0
        self._host = host
        self._clock = clock
        self._sleep = sleep
        self._interval_ns = round(step_interval_s * 1e9)
        self._catches_up = catches_up
        self._mock: MockExchange | None = None
        self._next_step_ns: int | None = None
        self._next_check_ns = 0
        self._rows: Iterator[tuple[int, ReplayRow]] | None = None
        self._next_row: tuple[int, ReplayRow] | None = None
        self._rows_began_ns = 0

    def begin(self, mock: MockExchange) -> None:
        """Begin with an exchange, a new one or one that was built anew."""
        self._mock = mock
        self._next_step_ns = None
        self._rows = None
        if isinstance(mock.maker, Replay):
            self._rows = mock.maker.remaining()
            self._next_row = next(self._rows, None)
            if self._next_row is not None:
                # Where it stopped before, it goes on now.
                self._rows_began_ns = self._clock() - self._next_row[0] * NS_PER_MS
        elif mock.maker is not None and self._interval_ns:
            self._next_step_ns = self._clock() + self._interval_ns
        self.check(mock.exchange)

    def next_due_ns(self) -> int:
        """When `pass_time` has something to do."""
        times = [self._next_check_ns]
        if self._next_step_ns is not None:
            times.append(self._next_step_ns)
        if self._next_row is not None:
            times.append(self._row_due_ns(self._next_row[0]))
        return min(times)

    def _row_due_ns(self, offset_ms: int) -> int:
        return self._rows_began_ns + offset_ms * NS_PER_MS

    def pass_time(self) -> None:
        """Do what is due by now."""
        mock = self._mock
        assert mock is not None
        mock.exchange.expire_due()
        now_ns = self._clock()
        while self._next_step_ns is not None and self._next_step_ns <= now_ns:
            assert mock.maker is not None
            mock.maker.step()
            self._next_step_ns += self._interval_ns
            if not self._catches_up and self._next_step_ns <= now_ns:
                self._next_step_ns = now_ns + self._interval_ns
        self._play(mock, now_ns)
        if self._next_check_ns <= now_ns:
            self.check(mock.exchange)

    def _play(self, mock: MockExchange, now_ns: int) -> None:
        """Play the rows that are due; of many some now, and the others when time passes next."""
        for _ in range(ROWS_AT_A_TIME):
            if self._next_row is None or self._row_due_ns(self._next_row[0]) > now_ns:
                return
            assert isinstance(mock.maker, Replay)
            assert self._rows is not None
            mock.maker.play(self._next_row[1])
            self._next_row = next(self._rows, None)

    def check(self, exchange: Exchange) -> None:
        """Check that the books are in order, but for the past, which `check_invariants` reads, too."""
        self.checked_ns = self._clock()
        self._next_check_ns = self.checked_ns + CHECK_EVERY_NS
        self.violations = tuple(exchange.check_books())

    async def keep(self) -> None:
        """Let time pass without end."""
        while True:
            left_s = (self.next_due_ns() - self._clock()) / 1e9
            await self._sleep(min(max(left_s, LEAST_SLEEP_S), EXPIRY_EVERY_S))
            self._host.try_to(self._host.pass_time)
