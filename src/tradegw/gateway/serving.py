"""Has the engine serve accounts, each from when its lease was taken until nothing of it is left.

A lease is over when it is lost, our tenure ends, or we shut down. Then nothing of the account is sent any
more, what was on its way is in doubt, and only after that the lease is given back, unless it is another's
already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from tradegw.engine.engine import Engine
from tradegw.errors import StoreUnavailable, TradegwError
from tradegw.gateway.held_leases import HeldLease, HeldLeases
from tradegw.gateway.lease_table import READ_WITHIN_S
from tradegw.gateway.waiting import first
from tradegw.model import AccountId, AccountName
from tradegw.ports import Clock, Leases

__all__ = ["Fenced", "Serving", "read_halts"]

log = logging.getLogger(__name__)

TRY_AGAIN_S: Final = 1.0
GIVE_BACK_WITHIN_S: Final = 3.0
"""How long the store may take to answer. What it leaves unanswered is tried again, or left to expire."""


class Fenced(Protocol):
    """A store that writes an account under the token of its lease."""

    async def fence(self, account_id: AccountId, token: int | None) -> None:
        """Write an account under this token from now on, or no more; see `PostgresStore.fence`."""
        ...


class Serving:
    """The accounts that are served under leases of ours, each by a task."""

    def __init__(
        self,
        *,
        held: HeldLeases,
        engine: Engine,
        store: Fenced,
        leases: Leases,
        clock: Clock,
        renew_now: Callable[[], None],
        group: asyncio.TaskGroup,
    ) -> None:
        """Make one that serves nothing until `begin`.

        Args:
            leases: Asked for nothing but to take leases back.
            renew_now: Has all leases renewed, which stores what the venues do with old requests, and tells
                whether a lease is ours still.
            group: Of the gateway's tasks.
        """
        self._held = held
        self._engine = engine
        self._store = store
        self._leases = leases
        self._clock = clock
        self._renew_now = renew_now
        self._group = group
        self._tasks: dict[AccountName, asyncio.Task[None]] = {}

    # --- serving --------------------------------------------------------------------------------

    def begin(self, lease: HeldLease) -> None:
        """Serve an account whose lease was taken, until the lease is over."""
        self._held.add(lease)
        task = self._group.create_task(self._serve(lease), name=f"lease of {lease.name}")
        self._tasks[lease.name] = task
        task.add_done_callback(lambda _: self._served(lease))

    def _served(self, lease: HeldLease) -> None:
        self._tasks.pop(lease.name, None)
        lease.tried.set()

    async def _serve(self, lease: HeldLease) -> None:
        """Serve an account until its lease is over, then leave nothing of it, and give it back."""
        try:
            await self._store.fence(lease.account_id, lease.token)
            # Whoever halts from here on finds us as the holder, and asks us.
            await read_halts(self._engine)
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
            self._held.remove(lease)

    async def _opened(self, lease: HeldLease) -> None:
        """Wait until it is known what the venue does with old requests, or the lease is over."""
        account = self._engine.account(lease.name)
        while account.about is None and not lease.over.is_set():
            account.state_changed.clear()
            await first(lease.over, account.state_changed)
        self._renew_now()

    async def _until_over(self, lease: HeldLease) -> None:
        """Wait until the lease is over."""
        failed = self._engine.account(lease.name).failed
        while not lease.over.is_set():
            await first(lease.over, failed)
            if failed.is_set():
                # Nothing could be stored: perhaps because the lease is another gateway's. A renewal tells.
                self._renew_now()
                await first(lease.over, within=self._clock.sleep(TRY_AGAIN_S))

    @property
    def opening(self) -> Sequence[asyncio.Task[None]]:
        """The tasks of accounts that are not served yet."""
        return self._tasks_of(lease for lease in self._held.going_on if not lease.is_served)

    @property
    def ceasing(self) -> Sequence[asyncio.Task[None]]:
        """The tasks of accounts whose leases are over, and not yet given back."""
        return self._tasks_of(lease for lease in self._held if lease.over.is_set())

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """The tasks of all of them."""
        return list(self._tasks.values())

    def _tasks_of(self, leases: Iterable[HeldLease]) -> Sequence[asyncio.Task[None]]:
        return [self._tasks[lease.name] for lease in leases if lease.name in self._tasks]

    # --- giving back ----------------------------------------------------------------------------

    async def _give_back(self, lease: HeldLease) -> None:
        while not lease.is_lost:
            if await self._release([lease], "yet"):
                return
            await self._clock.sleep(TRY_AGAIN_S)

    async def give_back_all(self) -> None:
        """Give back what is held and not lost, once the engine has closed and the tasks have ended."""
        leases = self._held.remove_all()
        for lease in leases:
            lease.tenure.end()
        are_written = await asyncio.gather(*(self._is_written(lease) for lease in leases))
        decided = [
            lease for lease, is_written in zip(leases, are_written, strict=True) if is_written
        ]
        await self._release([lease for lease in decided if not lease.is_lost], "and expire")

    async def _is_written(self, lease: HeldLease) -> bool:
        """Whether what was written under a lease is decided. If not in time, the lease is better kept."""
        try:
            async with asyncio.timeout(GIVE_BACK_WITHIN_S):
                await self._store.fence(lease.account_id, None)
        except (TradegwError, TimeoutError) as e:
            log.warning(
                "what was stored last of account %s is not known, and its lease is left to expire: %s",
                lease.name,
                str(e) or "no answer in time",
            )
            return False
        return True

    async def _release(self, leases: Sequence[HeldLease], or_else: str) -> bool:
        """Give leases back. Returns whether the store has answered, in time."""
        if not leases:
            return True
        try:
            async with asyncio.timeout(GIVE_BACK_WITHIN_S):
                await self._leases.release({lease.account_id: lease.token for lease in leases})
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


async def read_halts(engine: Engine) -> None:
    """Obey the halts that other gateways stored.

    Raises:
        StoreError: They cannot be read, or not in time.
    """
    try:
        async with asyncio.timeout(READ_WITHIN_S):
            await engine.halts.read()
    except TimeoutError as e:
        raise StoreUnavailable("the halts cannot be read in time") from e
