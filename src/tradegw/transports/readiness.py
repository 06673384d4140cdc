"""What the doors ask of a running gateway beside its orders: is it ready, and how does it do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tradegw.errors import TradegwError
from tradegw.gateway.api import OutboxStatus, VenueInfo
from tradegw.model import OrdStatus

__all__ = ["Operations", "Readiness", "check", "is_venue_ready"]

PING_TIMEOUT_S = 2.0


class Operations(Protocol):
    """What a door needs of the gateway that runs in this process. `LocalGateway` has it."""

    async def ping_store(self) -> None:
        """Run a real query in the store.

        Raises:
            Exception: It cannot be used; the text says why.
        """
        ...

    async def list_held(self) -> Sequence[VenueInfo]:
        """Return the venues with the states of the accounts that this process serves, from memory.

        Raises:
            TradegwError: There are none yet: the store has not been opened.
        """
        ...

    def list_outboxes(self) -> Sequence[OutboxStatus]:
        """Return how far each sink is behind, by account; nothing while the store has not been opened."""
        ...

    async def count_orders(self) -> Mapping[OrdStatus, int]:
        """Count the stored orders by status."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """How each dependency stands.

    Attributes:
        store_why: Why the store cannot be used; empty when it can.
        store_s: How long its query took.
        outboxes: How far the sinks are behind. They hold nothing up: what they have not had, they will get.
    """

    store_why: str
    store_s: float
    venues: Sequence[VenueInfo]
    outboxes: Sequence[OutboxStatus] = ()

    @property
    def is_ready(self) -> bool:
        """Whether all is well: the store works, and every account takes orders."""
        return not self.store_why and all(is_venue_ready(venue) for venue in self.venues)


def is_venue_ready(venue: VenueInfo) -> bool:
    """Whether every account at the venue takes orders."""
    return all(account.state == "READY" for account in venue.accounts)


async def check(operations: Operations) -> Readiness:
    """Ask every dependency how it is, within two seconds. Never raises what they raise."""
    started = time.perf_counter()
    why = ""
    try:
        async with asyncio.timeout(PING_TIMEOUT_S):
            await operations.ping_store()
    except TimeoutError:
        why = f"no answer within {PING_TIMEOUT_S:g} s"
    except Exception as e:  # noqa: BLE001  Whatever it says, the store cannot be used.
        why = f"{type(e).__name__}: {e}"[:500]
    took = time.perf_counter() - started
    try:
        venues = await operations.list_held()
    except TradegwError as e:
        # Without a store nobody knows the accounts; the store's own line says so in most cases.
        venues, why = (), why or str(e)
    return Readiness(
        store_why=why, store_s=took, venues=venues, outboxes=operations.list_outboxes()
    )
