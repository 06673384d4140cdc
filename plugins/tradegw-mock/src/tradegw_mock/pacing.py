"""What an exchange does by itself as time passes: orders expire, prices move, books are checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from tradegw_mock.exchange import Exchange, MockExchange

if TYPE_CHECKING:
    from tradegw_mock.host import Host

__all__ = ["Pace"]

EXPIRY_EVERY_S: Final = 1.0
CHECK_EVERY_NS: Final = 5_000_000_000
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

    def begin(self, mock: MockExchange) -> None:
        """Begin with an exchange, a new one or one that was built anew."""
        self._mock = mock
        self._next_step_ns = None
        if mock.maker is not None and self._interval_ns:
            self._next_step_ns = self._clock() + self._interval_ns
        self.check(mock.exchange)

    def next_due_ns(self) -> int:
        """When `pass_time` has something to do."""
        if self._next_step_ns is None:
            return self._next_check_ns
        return min(self._next_step_ns, self._next_check_ns)

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
        if self._next_check_ns <= now_ns:
            self.check(mock.exchange)

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
