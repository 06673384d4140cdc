"""What the leases of the configured accounts are, for people, and giving one back in its holder's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tradegw.errors import ConfigError, Conflict, NotFound
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.config import Config
from tradegw.gateway.process import is_gone, this_process
from tradegw.model import AccountName
from tradegw.ports import LeaseRow
from tradegw.store import is_postgres, open_store

__all__ = ["LeaseState", "LeaseStatus", "list_leases", "release_lease"]


class LeaseState(StrEnum):
    """How a lease stands."""

    FREE = "FREE"
    """Nobody holds it: it was given back, or never taken."""
    HELD = "HELD"
    """Its holder renews it."""
    EXPIRED = "EXPIRED"
    """Its holder is silent or gone; the next gateway that looks takes it."""
    STUCK = "STUCK"
    """Its holder is silent, and may still send when it wakes: the venue refuses no old request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStatus:
    """The lease of one account."""

    account: AccountName
    state: LeaseState
    address: str = ""
    host: str = ""
    pid: int = 0
    token: int = 0


async def list_leases(config: Config) -> Sequence[LeaseStatus]:
    """Return the leases of the configured accounts, in the order of their names.

    Raises:
        ConfigError: The store is none that gateways share.
        StoreError: It cannot be read.
    """
    rows = await _read(config)
    return [_status(AccountName(name), rows.get(name)) for name in sorted(config.accounts)]


async def release_lease(config: Config, account: str) -> None:
    """Give a lease back that has expired, in its holder's name: its process will never send again.

    Raises:
        NotFound: There is no such account, or it never had a lease.
        Conflict: The lease was renewed lately; reason `LEASE_HELD`.
        ConfigError, StoreError: As `list_leases`.
    """
    row = (await _read(config)).get(account)
    if account not in config.accounts or row is None:
        raise NotFound(f"there is no lease of an account {account!r}", reason="UNKNOWN_ACCOUNT")
    if not row.by.holder:
        return
    from tradegw.store.postgres_leases import PostgresLeases

    leases = PostgresLeases(config.store.url)
    try:
        is_done = await leases.release_expired(row)
    finally:
        await leases.close()
    if not is_done:
        raise Conflict(
            f"the lease of account {account} was renewed lately by process {row.by.pid} on {row.by.host}: "
            "end that process first",
            reason="LEASE_HELD",
        )


async def _read(config: Config) -> dict[str, LeaseRow]:
    """Return the leases by account."""
    if not is_postgres(config.store.url):
        raise ConfigError(
            f"leases are of a store that gateways share; this one is {config.store.shown_url}",
            reason="REPLICAS_NEED_POSTGRES",
        )
    from tradegw.store.postgres_leases import PostgresLeases

    store = await open_store(config.store.url, clock=SystemClock(), read_only=True)
    try:
        names = {record.account_id: record.account for record in await store.list_accounts()}
    finally:
        await store.close()
    leases = PostgresLeases(config.store.url)
    try:
        return {names[row.account_id]: row for row in await leases.list(list(names))}
    finally:
        await leases.close()


def _status(account: AccountName, row: LeaseRow | None) -> LeaseStatus:
    if row is None or not row.by.holder:
        return LeaseStatus(
            account=account, state=LeaseState.FREE, token=0 if row is None else row.token
        )
    if not row.is_expired:
        state = LeaseState.HELD
    elif row.requests_expire or is_gone(row.by, seen_by=this_process()):
        state = LeaseState.EXPIRED
    else:
        state = LeaseState.STUCK
    return LeaseStatus(
        account=account,
        state=state,
        address=row.by.address,
        host=row.by.host,
        pid=row.by.pid,
        token=row.token,
    )
