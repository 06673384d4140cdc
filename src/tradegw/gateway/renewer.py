"""Renews the leases of this gateway, and ends those that are another's by now or were not renewed in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from tradegw.engine.engine import Engine
from tradegw.errors import StoreError
from tradegw.gateway.held_leases import HeldLease, HeldLeases, LeaseTerms
from tradegw.gateway.lease_table import LeaseTable
from tradegw.gateway.waiting import first
from tradegw.ports import Clock, Leases
from tradegw.venue import ExpiryKind

__all__ = ["Renewer"]

log = logging.getLogger(__name__)

_NS_PER_S: Final = 1_000_000_000


class Renewer:
    """Prolongs what is held, all of it in one statement.

    Attributes:
        lost: How many leases were lost, or ended because they could not be renewed in time.
    """

    def __init__(
        self,
        *,
        held: HeldLeases,
        leases: Leases,
        table: LeaseTable,
        engine: Engine,
        clock: Clock,
        boottime_ns: Callable[[], int],
        terms: LeaseTerms,
    ) -> None:
        """Make one that renews nothing until `run`.

        Args:
            leases: Asked to renew, and for nothing else: a renewal waits for nobody.
            table: Believes nothing of what it read once a lease is another's.
            boottime_ns: A clock that only grows, and counts suspension.
        """
        self.lost = 0
        self._held = held
        self._leases = leases
        self._table = table
        self._engine = engine
        self._clock = clock
        self._boottime_ns = boottime_ns
        self._terms = terms
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Have all renewed now, however long ago that was done."""
        self._woken.set()

    async def run(self) -> None:
        """Go on until cancelled."""
        pause_s = self._terms.ttl_s / 3
        while True:
            await self._sleep(pause_s)
            self._woken.clear()
            try:
                is_done = await self._renew()
            except Exception:
                log.exception("the renewal of leases failed, and is tried again")
                is_done = False
            pause_s = self._terms.ttl_s / (3 if is_done else 12)
            for lease in self._held.going_on:
                if not lease.tenure.holds:
                    self.lost += 1
                    lease.end("its lease could not be renewed in time")

    async def _sleep(self, pause_s: float) -> None:
        """Wait until the next renewal is due, somebody asks for one, or a tenure ends."""
        left_s = [lease.tenure.left_ns / _NS_PER_S for lease in self._held.going_on]
        await first(self._woken, within=self._clock.sleep(min([pause_s, *left_s])))

    async def _renew(self) -> bool:
        """Renew all that is held, in one statement. Returns whether the store answered."""
        held = self._held.going_on
        if not held:
            return True
        opened = [lease for lease in held if lease.is_served and self._expiry(lease) is not None]
        outlive = {lease.account_id for lease in opened if self._expiry(lease) is ExpiryKind.NONE}
        asked_ns = self._boottime_ns()
        left_s = min(lease.tenure.left_ns for lease in held) / _NS_PER_S
        try:
            async with asyncio.timeout(min(max(left_s, 0.5), self._terms.ttl_s / 3)):
                kept = await self._leases.renew(
                    {lease.account_id: lease.token for lease in held},
                    self._held.me,
                    ttl_s=self._terms.ttl_s,
                    requests_expire=frozenset(lease.account_id for lease in held) - outlive,
                )
        except (StoreError, TimeoutError) as e:
            log.warning("leases are not renewed: %s", str(e) or "no answer in time")
            return False
        for lease in held:
            if lease.account_id not in kept:
                self.lost += 1
                # Whoever wants it goes elsewhere from now on: what was read of it is out of date.
                self._table.distrust()
                lease.end("its lease is another gateway's", is_lost=True)
                continue
            lease.tenure.renew(asked_ns)
            if lease in opened and not lease.tenure.may_send:
                lease.tenure.confirm()
                account = self._engine.account(lease.name)
                account.wake_all()
                account.state_changed.set()
        return True

    def _expiry(self, lease: HeldLease) -> ExpiryKind | None:
        """Return how the venue of an account refuses old requests, once it was reached."""
        about = self._engine.account(lease.name).about
        return None if about is None else about.capabilities.expiry
