"""What a gateway lends to a venue, for tests of a venue by itself."""

from __future__ import annotations

from tradegw.model import AccountName
from tradegw.ports import Clock
from tradegw.venue import Feedback

__all__ = ["LentRuntime"]


class LentRuntime:
    """A `tradegw.venue.Runtime` for one account.

    Attributes:
        heard: What the venue told the gateway, oldest first.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        account: str = "paper",
        venue: str = "venue",
        data_dir: str = "",
        tag: str = "c0ffee00",
    ) -> None:
        self.account = AccountName(account)
        self.venue = venue
        self.data_dir = data_dir
        self.tag = tag
        self.heard: list[Feedback] = []
        self._clock = clock

    def time_ns(self) -> int:
        """Return the time, nanoseconds since the epoch."""
        return self._clock.time_ns()

    async def sleep(self, seconds: float) -> None:
        """Wait, by the same clock."""
        await self._clock.sleep(seconds)

    def feedback(self, feedback: Feedback) -> None:
        """Note what the venue learned."""
        self.heard.append(feedback)
