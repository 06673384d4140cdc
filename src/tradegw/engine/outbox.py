"""Brings an account's events to a sink: in order, at least once, off the order path.

The cursor is the only thing that is kept, and it moves after the sink has confirmed. While the sink is away
nothing piles up here: what it has not had is read from the store when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass

from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.guard.backoff import Backoff
from tradegw.engine.hub import Hub
from tradegw.ports import AccountRecord, Clock, Sink, Store

__all__ = ["NamedSink", "Outbox", "end"]

log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.1
RETRY_LONGEST_S = 10.0
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSink:
    """A sink as the configuration names it. The name keeps its cursors: another name begins anew."""

    name: str
    sink: Sink


class Outbox:
    """One account's way to one sink. Run by whoever serves the account, and by nobody else.

    Attributes:
        why: Why nothing is confirmed now; empty when all is well.
        published: Events confirmed since the start, repeated ones included.
    """

    def __init__(
        self,
        to: NamedSink,
        record: AccountRecord,
        *,
        store: Store,
        hub: Hub,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.sink = to.name
        self.account = record.account
        self.why = ""
        self.published = 0
        self._account_id = record.account_id
        self._to = to.sink
        self._store = store
        self._hub = hub
        self._clock = clock
        self._backoff = Backoff(rng, first_s=RETRY_FIRST_S, longest_s=RETRY_LONGEST_S)
        # Up to which event the sink has confirmed; unknown until the cursor was read.
        self._confirmed: int | None = None
        # When the oldest event was recorded that it was asked to confirm, and has not.
        self._waiting_since_ns: int | None = None

    @property
    def lag_events(self) -> int:
        """How many events the sink has not confirmed."""
        return max(0, self._hub.head(self.account) - (self._confirmed or 0))

    @property
    def lag_s(self) -> float:
        """Age of the oldest event that is on its way to the sink; 0 when there is none."""
        if self._waiting_since_ns is None:
            return 0.0
        return max(0.0, (self._clock.time_ns() - self._waiting_since_ns) / _NS_PER_S)

    async def run(self) -> None:
        """Publish until the account's stream ends, whatever fails meanwhile.

        Cancellation: what the sink has not confirmed comes again at the next start.
        """
        while True:
            try:
                await self._publish()
            except Exception as e:  # noqa: BLE001  A sink may raise anything; the events stay where they are.
                why = f"{type(e).__name__}: {e}"[:500]
                if why != self.why:
                    log.warning(
                        "sink %s has not got events of %s: %s", self.sink, self.account, why
                    )
                self.why = why
                await self._clock.sleep(self._backoff.next_s())
            else:
                return

    async def _publish(self) -> None:
        after = await self._store.get_outbox_cursor(self.sink, self._account_id)
        if not after:
            # A sink that is new gets what is here. One that has confirmed something holds its next event
            # here: archiving goes no further than the slowest.
            after = (await self._store.get_checkpoint(self.account)).seq
            if after:
                log.warning(
                    "sink %s is new: events of %s up to %s are archived, and it does not get them",
                    *(self.sink, self.account, after),
                )
        self._confirmed = after
        async for part in self._hub.read([self.account], {self.account: after}):
            if not part.events:
                self._all_is_well()
                continue
            self._waiting_since_ns = part.events[0].time_ns
            reach(CrashPoint.OUTBOX_UNPUBLISHED)
            await self._to.publish(part.events)
            reach(CrashPoint.OUTBOX_UNMARKED)
            seq = part.events[-1].seq
            await self._store.put_outbox_cursor(self.sink, self._account_id, seq=seq)
            self._confirmed = seq
            self._waiting_since_ns = None
            self.published += len(part.events)
            self._all_is_well()

    def _all_is_well(self) -> None:
        if self.why:
            log.info("sink %s gets events of %s again", self.sink, self.account)
        self.why = ""
        self._backoff.reset()


async def end(tasks: list[asyncio.Task[None]], patience_s: float) -> None:
    """Wait a little for outboxes whose streams have ended, then cancel them."""
    if not tasks:
        return
    _, left = await asyncio.wait(tasks, timeout=patience_s)
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)
