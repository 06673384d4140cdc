"""Looks out for accounts that are free, and takes them: one at a time, and leaving the others their share.

Free is what was never taken or was given back, and what its holder can send nothing for any more: it is
silent and the venue refuses its old requests, or its process has ended.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Final

from tradegw.engine.engine import Engine
from tradegw.engine.members import AccountPlan
from tradegw.engine.tenure import Tenure
from tradegw.errors import StoreError, TradegwError
from tradegw.gateway.held_leases import HeldLease, HeldLeases, LeaseTerms
from tradegw.gateway.lease_table import LeaseTable
from tradegw.gateway.serving import Serving, read_halts
from tradegw.model import AccountId, AccountName
from tradegw.ports import Clock, LeaseHolder, LeaseRow, Leases

__all__ = ["LOOK_EVERY_S", "LookOut"]

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
HESITATE_S: Final = 1.0
"""How long, on average, a gateway that has its share leaves a free account to the others."""

TAKE_WITHIN_S: Final = 15.0
"""Longer than a lock is waited for in the store."""

_NS_PER_S: Final = 1_000_000_000


class LookOut:
    """Sees who holds what, and has served what it could take.

    Attributes:
        sharers: How many gateways hold accounts now, ourselves included.
        taken: How many leases were taken so far.
        has_looked: Set once a look has left nothing that is ours to take.
    """

    def __init__(
        self,
        *,
        accounts: Mapping[AccountName, tuple[AccountPlan, AccountId]],
        held: HeldLeases,
        serving: Serving,
        table: LeaseTable,
        leases: Leases,
        is_gone: Callable[[LeaseHolder], bool],
        engine: Engine,
        clock: Clock,
        boottime_ns: Callable[[], int],
        terms: LeaseTerms,
        rng: random.Random,
    ) -> None:
        """Make one that takes nothing until it looks.

        Args:
            accounts: What there is to take, as it stands at each look.
            leases: Asked to take, and for nothing else: that may wait until what an old holder had under way
                in the store has ended.
            is_gone: Whether a holder's process has ended for certain.
            boottime_ns: A clock that only grows, and counts suspension.
        """
        self.sharers = 1
        self.taken = 0
        self.has_looked = asyncio.Event()
        self._accounts = accounts
        self._held = held
        self._serving = serving
        self._table = table
        self._leases = leases
        self._is_gone = is_gone
        self._engine = engine
        self._clock = clock
        self._boottime_ns = boottime_ns
        self._terms = terms
        self._rng = rng
        self._free_until_ns: dict[AccountName, int] = {}

    async def run(self) -> None:
        """Look every now and then, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except StoreError as e:
                log.warning("the leases cannot be looked at: %s", e)
            except Exception:
                log.exception("the look-out for free accounts failed, and goes on")

    async def look(self) -> None:
        """See who holds what, and take what is free.

        Raises:
            StoreError: The leases, or the halts, cannot be read.
        """
        while True:
            await self._table.read(0.0)
            rows = self._table.rows.values()
            live = {row.by.holder for row in rows if not row.is_expired} - {""}
            self.sharers = len(live | {self._held.me.holder})
            self._engine.divide_budgets(self.sharers)
            # Halts of which another gateway was asked.
            await read_halts(self._engine)
            # One at a time, and then a look again: others that start at this moment get theirs.
            if not await self._take_one():
                if not self._free_until_ns:
                    self.has_looked.set()
                return

    async def _take_one(self) -> bool:
        names = list(self._accounts)
        self._rng.shuffle(names)
        for name in names:
            plan, account_id = self._accounts[name]
            row = self._table.rows.get(account_id)
            is_held = self._held.find(name) is not None
            if is_held or not (row is None or self._may_take(row)):
                self._free_until_ns.pop(name, None)
                continue
            if self._hesitates(name):
                continue
            if await self._take(plan, account_id):
                return True
        return False

    def _may_take(self, row: LeaseRow) -> bool:
        by = row.by
        return (
            not by.holder
            # Of ours nothing is left, or it would be held.
            or by.holder == self._held.me.holder
            or (row.is_expired and row.requests_expire)
            or self._is_gone(by)
        )

    def _hesitates(self, name: AccountName) -> bool:
        """Whether to leave a free account to the others for now: we have our share, and they may not."""
        share = -(-len(self._accounts) // max(2, self.sharers))
        if len(self._held) < share:
            return False
        now_ns = self._boottime_ns()
        wait_s = HESITATE_S * self._rng.uniform(0.5, 1.5)
        return now_ns < self._free_until_ns.setdefault(name, now_ns + int(wait_s * _NS_PER_S))

    async def _take(self, plan: AccountPlan, account_id: AccountId) -> bool:
        asked_ns = self._boottime_ns()
        me = self._held.me
        try:
            async with asyncio.timeout(TAKE_WITHIN_S):
                row = await self._leases.take(
                    account_id, me, ttl_s=self._terms.ttl_s, may_take=self._may_take
                )
        except (TradegwError, TimeoutError) as e:
            told = str(e) or "no answer in time"
            log.warning("the lease of account %s cannot be taken: %s", plan.route.account, told)
            return False
        if row.by.holder != me.holder:
            return False
        tenure = Tenure(self._boottime_ns, ttl_s=self._terms.ttl_s, margin_s=self._terms.margin_s)
        tenure.renew(asked_ns)
        lease = HeldLease(plan=plan, account_id=account_id, token=row.token, tenure=tenure)
        log.info("account %s is ours, under token %d", lease.name, row.token)
        self.taken += 1
        self._free_until_ns.pop(lease.name, None)
        self._serving.begin(lease)
        return True
