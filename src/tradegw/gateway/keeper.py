"""Keeps this gateway's leases, where several gateways share the store: takes, renews and gives back accounts.

An account is served from the moment its lease is ours until the lease is lost, our tenure ends, or we shut
down. Then nothing of it is sent any more, what was on its way is in doubt, and only after that the lease is
given back, unless it is another's already.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from tradegw.engine.engine import Engine
from tradegw.engine.members import AccountPlan
from tradegw.engine.tenure import Tenure
from tradegw.errors import StoreError, StoreUnavailable, TradegwError
from tradegw.gateway.lease_table import READ_WITHIN_S, LeaseTable
from tradegw.model import AccountId, AccountName
from tradegw.ports import Clock, LeaseHolder, LeaseRow, Leases
from tradegw.venue import ExpiryKind

__all__ = ["Fenced", "Keeper", "LeaseTerms"]

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
HESITATE_S: Final = 1.0
"""How long, on average, a gateway that has its share leaves a free account to the others."""

TAKE_WITHIN_S: Final = 15.0
"""Longer than a lock is waited for in the store."""

CLOSE_WITHIN_S: Final = 3.0
_NS_PER_S: Final = 1_000_000_000


class Fenced(Protocol):
    """A store that writes an account under the token of its lease."""

    async def fence(self, account_id: AccountId, token: int | None) -> None:
        """Write an account under this token from now on, or no more; see `PostgresStore.fence`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """For how long leases are taken, and how much earlier their holder ceases to send."""

    ttl_s: float
    margin_s: float


@dataclass(slots=True, eq=False, kw_only=True)
class _Lease:
    """One lease of ours, until nothing of it is left."""

    plan: AccountPlan
    account_id: AccountId
    token: int
    tenure: Tenure
    over: asyncio.Event = field(default_factory=asyncio.Event)
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once its account was opened, or could not be."""
    is_lost: bool = False
    is_served: bool = False

    @property
    def name(self) -> AccountName:
        return self.plan.route.account

    def end(self, why: str, *, is_lost: bool = False) -> None:
        """Cease to serve the account: not a byte leaves for it from here on."""
        self.tenure.end()
        self.is_lost = self.is_lost or is_lost
        if not self.over.is_set():
            log.warning("account %s is served no more: %s", self.name, why)
            self.over.set()


class Keeper:
    """The leases of one gateway, and who holds the others (`Holders`).

    Attributes:
        sharers: How many gateways hold accounts now, ourselves included.
        taken: How many leases were taken so far.
        lost: How many were lost, or ended because they could not be renewed in time.
    """

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
        self.sharers = 1
        self.taken = 0
        self.lost = 0
        self._engine = engine
        self._store = store
        self._renewing = leases
        self._taking = taking
        self._looking = looking
        self._table = LeaseTable(looking, boottime_ns, group)
        self._me = me
        self._is_gone = is_gone
        self._clock = clock
        self._boottime_ns = boottime_ns
        self._terms = terms
        self._rng = rng
        self._group = group
        self._accounts: dict[AccountName, tuple[AccountPlan, AccountId]] = {}
        self._leases: dict[AccountName, _Lease] = {}
        self._serving: dict[AccountName, asyncio.Task[None]] = {}
        # Set once a look has left nothing that is ours to take.
        self._has_looked = asyncio.Event()
        self._free_until_ns: dict[AccountName, int] = {}
        self._wake_renewal = asyncio.Event()
        self._looker: asyncio.Task[None] | None = None
        self._renewer: asyncio.Task[None] | None = None

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
        await self._look()
        self._renewer = self._group.create_task(self._keep_renewing(), name="lease renewals")
        self._looker = self._group.create_task(self._keep_looking(), name="lease look-out")

    async def opened(self) -> None:
        """Wait for the end of the first round: what was ours to take is taken, and its opening was tried.

        Not for what other gateways hold, nor for what cannot be taken from one that is silent.
        """
        await self._has_looked.wait()
        for lease in tuple(self._leases.values()):
            await lease.tried.wait()

    def listen_at(self, address: str) -> None:
        """Say where this gateway's gRPC door listens, for those who forward requests to us."""
        self._me = replace(self._me, address=address)
        self._wake_renewal.set()

    async def cease_taking(self) -> None:
        """Take no further account. Those that are held are served and renewed as before."""
        looker, self._looker = self._looker, None
        opening = [
            self._serving[lease.name]
            for lease in self._held()
            if not lease.is_served and lease.name in self._serving
        ]
        await _end([*opening, *([] if looker is None else [looker])])

    async def close(self) -> None:
        """Give back what is held, once the engine has closed. Safe to call twice."""
        await self.cease_taking()
        ceasing = [
            self._serving[lease.name]
            for lease in self._leases.values()
            if lease.over.is_set() and lease.name in self._serving
        ]
        if ceasing:
            await asyncio.wait(ceasing, timeout=CLOSE_WITHIN_S)
        renewer, self._renewer = self._renewer, None
        await _end([*self._serving.values(), *([] if renewer is None else [renewer])])
        leases, self._leases = list(self._leases.values()), {}
        for lease in leases:
            lease.tenure.end()
        are_written = await asyncio.gather(*(self._is_written(lease) for lease in leases))
        decided = [
            lease for lease, is_written in zip(leases, are_written, strict=True) if is_written
        ]
        await self._release([lease for lease in decided if not lease.is_lost], "and expire")
        await self._table.close()
        for connection in (self._renewing, self._taking, self._looking):
            await connection.close()

    async def _is_written(self, lease: _Lease) -> bool:
        """Whether what was written under a lease is decided. If not in time, the lease is better kept."""
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._store.fence(lease.account_id, None)
        except (TradegwError, TimeoutError) as e:
            log.warning(
                "what was stored last of account %s is not known, and its lease is left to expire: %s",
                lease.name,
                str(e) or "no answer in time",
            )
            return False
        return True

    async def _release(self, leases: Sequence[_Lease], or_else: str) -> bool:
        """Give leases back. Returns whether the store has answered, in time."""
        if not leases:
            return True
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._looking.release({lease.account_id: lease.token for lease in leases})
        except (TradegwError, TimeoutError) as e:
            names = ", ".join(lease.name for lease in leases)
            log.warning(
                "the leases of %s are not given back, %s: %s",
                names,
                or_else,
                str(e) or "no answer in time",
            )
            return False
        return True

    # --- who holds what -------------------------------------------------------------------------

    def is_ours(self, account: AccountName) -> bool:
        """Whether this gateway serves the account, and may still send for it; see `Holders`."""
        lease = self._leases.get(account)
        return lease is not None and lease.is_served and lease.tenure.holds

    async def address_of(self, account: AccountName) -> str | None:
        """Return where the holder's gRPC door listens; see `Holders`."""
        if self.is_ours(account):
            return self._me.address
        known = self._accounts.get(account)
        if known is None:
            return None
        await self._read(LOOK_EVERY_S)
        row = self._table.rows.get(known[1])
        if row is None or row.is_expired or row.by.holder in ("", self._me.holder):
            return None
        return row.by.address

    def tenures(self) -> Sequence[tuple[AccountName, float]]:
        """Return the accounts that are ours, and for how many seconds unless they are renewed."""
        return [
            (lease.name, lease.tenure.left_ns / _NS_PER_S)
            for lease in self._leases.values()
            if lease.is_served
        ]

    async def _read(self, within_s: float) -> None:
        """Know who holds what, as it stood less than so long ago.

        Raises:
            StoreUnavailable: It cannot be read, or not in time.
        """
        await self._table.read(within_s)

    async def _read_halts(self) -> None:
        """Obey the halts that other gateways stored.

        Raises:
            StoreError: They cannot be read, or not in time.
        """
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                await self._engine.halts.read()
        except TimeoutError as e:
            raise StoreUnavailable("the halts cannot be read in time") from e

    # --- taking ---------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            try:
                await self._look()
            except StoreError as e:
                log.warning("the leases cannot be looked at: %s", e)
            except Exception:
                log.exception("the look-out for free accounts failed, and goes on")

    async def _look(self) -> None:
        """See who holds what, and take what is free."""
        while True:
            await self._read(0.0)
            rows = self._table.rows.values()
            live = {row.by.holder for row in rows if not row.is_expired} - {""}
            self.sharers = len(live | {self._me.holder})
            self._engine.divide_budgets(self.sharers)
            # Halts of which another gateway was asked.
            await self._read_halts()
            # One at a time, and then a look again: others that start at this moment get theirs.
            if not await self._take_one():
                if not self._free_until_ns:
                    self._has_looked.set()
                return

    async def _take_one(self) -> bool:
        names = list(self._accounts)
        self._rng.shuffle(names)
        for name in names:
            plan, account_id = self._accounts[name]
            row = self._table.rows.get(account_id)
            if name in self._leases or not (row is None or self._may_take(row)):
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
            # Of ours nothing is left, or it would be among `_leases`.
            or by.holder == self._me.holder
            or (row.is_expired and row.requests_expire)
            or self._is_gone(by)
        )

    def _hesitates(self, name: AccountName) -> bool:
        """Whether to leave a free account to the others for now: we have our share, and they may not."""
        share = -(-len(self._accounts) // max(2, self.sharers))
        if len(self._leases) < share:
            return False
        now_ns = self._boottime_ns()
        wait_s = HESITATE_S * self._rng.uniform(0.5, 1.5)
        return now_ns < self._free_until_ns.setdefault(name, now_ns + int(wait_s * _NS_PER_S))

    async def _take(self, plan: AccountPlan, account_id: AccountId) -> bool:
        asked_ns = self._boottime_ns()
        try:
            async with asyncio.timeout(TAKE_WITHIN_S):
                row = await self._taking.take(
                    account_id, self._me, ttl_s=self._terms.ttl_s, may_take=self._may_take
                )
        except (TradegwError, TimeoutError) as e:
            told = str(e) or "no answer in time"
            log.warning("the lease of account %s cannot be taken: %s", plan.route.account, told)
            return False
        if row.by.holder != self._me.holder:
            return False
        tenure = Tenure(self._boottime_ns, ttl_s=self._terms.ttl_s, margin_s=self._terms.margin_s)
        tenure.renew(asked_ns)
        lease = _Lease(plan=plan, account_id=account_id, token=row.token, tenure=tenure)
        log.info("account %s is ours, under token %d", lease.name, row.token)
        self.taken += 1
        self._free_until_ns.pop(lease.name, None)
        self._leases[lease.name] = lease
        task = self._group.create_task(self._serve(lease), name=f"lease of {lease.name}")
        self._serving[lease.name] = task
        task.add_done_callback(lambda _: self._served(lease))
        return True

    def _served(self, lease: _Lease) -> None:
        self._serving.pop(lease.name, None)
        lease.tried.set()

    # --- holding --------------------------------------------------------------------------------

    async def _serve(self, lease: _Lease) -> None:
        """Serve an account until its lease is over, then leave nothing of it, and give it back."""
        try:
            await self._store.fence(lease.account_id, lease.token)
            # Whoever halts from here on finds us as the holder, and asks us.
            await self._read_halts()
            await self._engine.add_account(lease.plan, lease.tenure)
            lease.is_served = True
            lease.tried.set()
            await self._opened(lease)
            await self._until_over(lease)
        except TradegwError as e:
            lease.end(f"it cannot be opened: {e}")
        except Exception as e:
            log.exception("account %s cannot be served", lease.name)
            lease.end(f"it cannot be served: {e!r}")
        lease.tried.set()
        try:
            if lease.is_served:
                await self._engine.remove_account(lease.name)
                lease.is_served = False
            await self._store.fence(lease.account_id, None)
            await self._give_back(lease)
        except Exception:
            # Held by name until the end of this process, and by nobody in fact: it expires.
            log.exception("account %s is not given back", lease.name)
        else:
            del self._leases[lease.name]

    async def _opened(self, lease: _Lease) -> None:
        """Wait until it is known what the venue does with old requests, or the lease is over."""
        account = self._engine.account(lease.name)
        while account.about is None and not lease.over.is_set():
            account.state_changed.clear()
            await _first(lease.over, account.state_changed)
        self._wake_renewal.set()

    async def _until_over(self, lease: _Lease) -> None:
        """Wait until the lease is over."""
        failed = self._engine.account(lease.name).failed
        while not lease.over.is_set():
            await _first(lease.over, failed)
            if failed.is_set():
                # Nothing could be stored: perhaps because the lease is another gateway's. A renewal tells.
                self._wake_renewal.set()
                await _first(lease.over, within=self._clock.sleep(LOOK_EVERY_S))

    async def _give_back(self, lease: _Lease) -> None:
        while not lease.is_lost:
            if await self._release([lease], "yet"):
                return
            await self._clock.sleep(LOOK_EVERY_S)

    async def _keep_renewing(self) -> None:
        pause_s = self._terms.ttl_s / 3
        while True:
            await self._sleep(pause_s)
            self._wake_renewal.clear()
            try:
                is_done = await self._renew()
            except Exception:
                log.exception("the renewal of leases failed, and is tried again")
                is_done = False
            pause_s = self._terms.ttl_s / (3 if is_done else 12)
            for lease in tuple(self._leases.values()):
                if not lease.over.is_set() and not lease.tenure.holds:
                    self.lost += 1
                    lease.end("its lease could not be renewed in time")

    async def _sleep(self, pause_s: float) -> None:
        """Wait until the next renewal is due, somebody asks for one, or a tenure ends."""
        left_s = [lease.tenure.left_ns / _NS_PER_S for lease in self._held()]
        await _first(self._wake_renewal, within=self._clock.sleep(min([pause_s, *left_s])))

    def _held(self) -> list[_Lease]:
        return [lease for lease in self._leases.values() if not lease.over.is_set()]

    async def _renew(self) -> bool:
        """Renew all that is held, in one statement. Returns whether the store answered."""
        held = self._held()
        if not held:
            return True
        opened = [lease for lease in held if lease.is_served and self._expiry(lease) is not None]
        outlive = {lease.account_id for lease in opened if self._expiry(lease) is ExpiryKind.NONE}
        asked_ns = self._boottime_ns()
        left_s = min(lease.tenure.left_ns for lease in held) / _NS_PER_S
        try:
            async with asyncio.timeout(min(max(left_s, 0.5), self._terms.ttl_s / 3)):
                kept = await self._renewing.renew(
                    {lease.account_id: lease.token for lease in held},
                    self._me,
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

    def _expiry(self, lease: _Lease) -> ExpiryKind | None:
        """Return how the venue of an account refuses old requests, once it was reached."""
        about = self._engine.account(lease.name).about
        return None if about is None else about.capabilities.expiry


async def _first(*events: asyncio.Event, within: Coroutine[Any, Any, None] | None = None) -> None:
    """Wait until one of some events is set, or until something has ended."""
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    ending = [] if within is None else [asyncio.ensure_future(within)]
    try:
        await asyncio.wait([*waiters, *ending], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in (*waiters, *ending):
            waiter.cancel()


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_WITHIN_S)
