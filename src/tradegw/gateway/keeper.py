"""Keeps this gateway's leases, where several gateways share the store: takes, renews and gives back accounts.

Each by a part of its own: the `LookOut` takes what is free, the `Renewer` renews what is held, and `Serving`
has it served until it is given back. Here they are put together, started and ended. It is also told here who
holds what.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from tradegw.engine.engine import Engine
from tradegw.engine.members import AccountPlan
from tradegw.gateway.held_leases import HeldLeases, LeaseTerms
from tradegw.gateway.lease_table import LeaseTable
from tradegw.gateway.lookout import LOOK_EVERY_S, LookOut
from tradegw.gateway.renewer import Renewer
from tradegw.gateway.serving import Fenced, Serving
from tradegw.model import AccountId, AccountName
from tradegw.ports import Clock, LeaseHolder, Leases

__all__ = ["Keeper"]

END_WITHIN_S: Final = 3.0
"""How long we wait for tasks to end, when we shut down."""

_NS_PER_S: Final = 1_000_000_000


class Keeper:
    """The leases of one gateway, and who holds the others (`Holders`)."""

    def __init__(
        self,
        *,
        engine: Engine,
        store: Fenced,
        leases: Leases,
        taking: Leases,
        looking: Leases,
        me: LeaseHolder,
        is_gone: Callable[[LeaseHolder], bool],
        clock: Clock,
        boottime_ns: Callable[[], int],
        terms: LeaseTerms,
        rng: random.Random,
        group: asyncio.TaskGroup,
    ) -> None:
        """Make a keeper that holds nothing until `start`.

        Args:
            leases: Renews, on a connection for which nothing else waits. Closed with the keeper.
            taking: Takes, on a connection of its own: that may wait until what an old holder had under way in
                the store has ended, and no renewal may wait for it. Closed with the keeper.
            looking: Lists, and gives back, on a third one: nor may a renewal wait for a look that nobody
                answers. Closed with the keeper.
            is_gone: Whether a holder's process has ended for certain.
            boottime_ns: A clock that only grows, and counts suspension.
            group: Of the gateway's tasks.
        """
        self._engine = engine
        self._connections = (leases, taking, looking)
        self._group = group
        self._accounts: dict[AccountName, tuple[AccountPlan, AccountId]] = {}
        self._held = HeldLeases(me)
        self._table = LeaseTable(looking, boottime_ns, group)
        self._renewer = Renewer(
            held=self._held,
            leases=leases,
            table=self._table,
            engine=engine,
            clock=clock,
            boottime_ns=boottime_ns,
            terms=terms,
        )
        self._serving = Serving(
            held=self._held,
            engine=engine,
            store=store,
            leases=looking,
            clock=clock,
            renew_now=self._renewer.wake,
            group=group,
        )
        self._look_out = LookOut(
            accounts=self._accounts,
            held=self._held,
            serving=self._serving,
            table=self._table,
            leases=taking,
            is_gone=is_gone,
            engine=engine,
            clock=clock,
            boottime_ns=boottime_ns,
            terms=terms,
            rng=rng,
        )
        self._looking: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    # --- running --------------------------------------------------------------------------------

    async def start(self, plans: Iterable[AccountPlan]) -> None:
        """Know the accounts, take what is free now, and look after it from here on.

        Raises:
            InvalidOrder: An account was bound to another venue; reason `ACCOUNT_MISMATCH`.
            StoreError: The store cannot be used.
        """
        for plan in plans:
            record = await self._engine.register(plan)
            self._accounts[plan.route.account] = plan, record.account_id
        self._table.account_ids = [account_id for _, account_id in self._accounts.values()]
        await self._look_out.look()
        self._renewing = self._group.create_task(self._renewer.run(), name="lease renewals")
        self._looking = self._group.create_task(self._look_out.run(), name="lease look-out")

    async def opened(self) -> None:
        """Wait for the end of the first round: what was ours to take is taken, and its opening was tried.

        Not for what other gateways hold, nor for what cannot be taken from one that is silent.
        """
        await self._look_out.has_looked.wait()
        for lease in self._held:
            await lease.tried.wait()

    def listen_at(self, address: str) -> None:
        """Say where this gateway's gRPC door listens, for those who forward requests to us."""
        self._held.me = replace(self._held.me, address=address)
        self._renewer.wake()

    async def cease_taking(self) -> None:
        """Take no further account. Those that are held are served and renewed as before."""
        looking, self._looking = self._looking, None
        await _end([*self._serving.opening, *([] if looking is None else [looking])])

    async def close(self) -> None:
        """Give back what is held, once the engine has closed. Safe to call twice."""
        await self.cease_taking()
        if ceasing := self._serving.ceasing:
            await asyncio.wait(ceasing, timeout=END_WITHIN_S)
        renewing, self._renewing = self._renewing, None
        await _end([*self._serving.tasks, *([] if renewing is None else [renewing])])
        await self._serving.give_back_all()
        await self._table.close()
        for connection in self._connections:
            await connection.close()

    # --- who holds what -------------------------------------------------------------------------

    def is_ours(self, account: AccountName) -> bool:
        """Whether this gateway serves the account, and may still send for it; see `Holders`."""
        lease = self._held.find(account)
        return lease is not None and lease.is_served and lease.tenure.holds

    async def address_of(self, account: AccountName) -> str | None:
        """Return where the holder's gRPC door listens; see `Holders`."""
        me = self._held.me
        if self.is_ours(account):
            return me.address
        known = self._accounts.get(account)
        if known is None:
            return None
        await self._table.read(LOOK_EVERY_S)
        row = self._table.rows.get(known[1])
        if row is None or row.is_expired or row.by.holder in ("", me.holder):
            return None
        return row.by.address

    def tenures(self) -> Sequence[tuple[AccountName, float]]:
        """Return the accounts that are ours, and for how many seconds unless they are renewed."""
        return [
            (lease.name, lease.tenure.left_ns / _NS_PER_S)
            for lease in self._held
            if lease.is_served
        ]

    @property
    def sharers(self) -> int:
        """How many gateways hold accounts now, ourselves included."""
        return self._look_out.sharers

    @property
    def taken(self) -> int:
        """How many leases were taken so far."""
        return self._look_out.taken

    @property
    def lost(self) -> int:
        """How many were lost, or ended because they could not be renewed in time."""
        return self._renewer.lost


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=END_WITHIN_S)
