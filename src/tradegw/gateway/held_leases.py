"""The leases that this gateway holds, each from when it was taken until nothing of it is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tradegw.engine.members import AccountPlan
from tradegw.engine.tenure import Tenure
from tradegw.model import AccountId, AccountName
from tradegw.ports import LeaseHolder

__all__ = ["HeldLease", "HeldLeases", "LeaseTerms"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """For how long leases are taken, and how much earlier their holder ceases to send."""

    ttl_s: float
    margin_s: float


@dataclass(slots=True, eq=False, kw_only=True)
class HeldLease:
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
        """The account that is leased."""
        return self.plan.route.account

    def end(self, why: str, *, is_lost: bool = False) -> None:
        """Cease to serve the account: not a byte leaves for it from here on."""
        self.tenure.end()
        self.is_lost = self.is_lost or is_lost
        if not self.over.is_set():
            log.warning("account %s is served no more: %s", self.name, why)
            self.over.set()


class HeldLeases:
    """All leases of ours, also those that are over and of which something is left.

    Attributes:
        me: Who holds them, as the others read it.
    """

    def __init__(self, me: LeaseHolder) -> None:
        self.me = me
        self._leases: dict[AccountName, HeldLease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[HeldLease]:
        # A copy: whoever iterates may wait in between.
        return iter(tuple(self._leases.values()))

    @property
    def going_on(self) -> Sequence[HeldLease]:
        """Those that are not over."""
        return [lease for lease in self._leases.values() if not lease.over.is_set()]

    def find(self, account: AccountName) -> HeldLease | None:
        """Return the lease of an account, or None."""
        return self._leases.get(account)

    def add(self, lease: HeldLease) -> None:
        """Hold a lease that was taken."""
        self._leases[lease.name] = lease

    def remove(self, lease: HeldLease) -> None:
        """Forget a lease of which nothing is left."""
        del self._leases[lease.name]

    def remove_all(self) -> Sequence[HeldLease]:
        """Forget all of them, and return what there was."""
        leases, self._leases = list(self._leases.values()), {}
        return leases
