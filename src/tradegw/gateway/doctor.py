"""Looks at everything that trading needs, and says what is wrong. It places nothing and changes nothing."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from tradegw.engine.members import AccountPlan
from tradegw.errors import ConfigError, StoreError, TradegwError
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.config import Config, StoreConfig
from tradegw.gateway.leases import LeaseState, list_leases
from tradegw.gateway.open import plan_accounts
from tradegw.gateway.record import find_running, has_record
from tradegw.gateway.schema import check_schema
from tradegw.plugins import Plugins, load_plugins
from tradegw.ports import Clock
from tradegw.store import is_postgres, sqlite_path
from tradegw.venue import (
    ExpiryKind,
    FetchBalances,
    FetchInstruments,
    FetchOpenOrders,
    FetchServerTime,
    Venue,
    Verdict,
)

__all__ = ["Finding", "Verdict", "examine"]

ResultT = TypeVar("ResultT")

_ASK_TIMEOUT_S: Final = 15.0
_DISK_LEAST: Final = 1024**3
_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What was looked at, such as `store` or `account main`.
        check: Which of its sides.
    """

    subject: str
    check: str
    verdict: Verdict
    detail: str


async def examine(config: Config, *, venue: str | None = None) -> AsyncIterator[Finding]:
    """Yield what is found, one by one: plugins, the store, and each account's venue.

    Venues are connected to as a gateway would, with the accounts' own keys, and are only asked.

    Args:
        venue: Only the accounts of this venue.

    Raises:
        ConfigError: The configuration is wrong, or has no such venue.
    """
    if venue is not None and venue not in config.venues:
        known = ", ".join(sorted(config.venues)) or "none"
        raise ConfigError(f"there is no venue {venue!r} in the configuration; there are {known}")
    plugins = load_plugins()
    for finding in _plugins(plugins):
        yield finding
    for finding in await _store(config):
        yield finding
    # Nothing of ours is kept of this, and nothing that a running gateway keeps is touched.
    detached = replace(config, store=StoreConfig(url="memory://"))
    clock = SystemClock()
    for plan in plan_accounts(detached, plugins, clock):
        if venue is None or plan.route.venue == venue:
            async for finding in _account(plan, clock):
                yield finding


def _plugins(plugins: Plugins) -> Sequence[Finding]:
    return [
        Finding(
            subject=f"plugin {info.name}",
            check="loaded",
            verdict=Verdict.PROBLEM if info.error else Verdict.OK,
            detail=info.error or f"{info.distribution} {info.version}",
        )
        for info in plugins.infos
    ]


async def _server(config: Config) -> Sequence[Finding]:
    from tradegw.store.postgres_connections import tell_durability

    async def durable() -> tuple[Verdict, str]:
        is_kept, detail = await tell_durability(config.store.url)
        return Verdict.OK if is_kept else Verdict.WARNING, detail

    async def schema() -> tuple[Verdict, str]:
        await check_schema(config)
        return Verdict.OK, "it fits this release"

    found: list[Finding] = []
    for check in (durable, schema):
        try:
            verdict, detail = await check()
        except (StoreError, ConfigError) as e:
            verdict, detail = Verdict.PROBLEM, str(e)
        found.append(Finding(subject="store", check=check.__name__, verdict=verdict, detail=detail))
    if config.replicas.enabled:
        found.append(await _leases(config))
    return found


async def _leases(config: Config) -> Finding:
    try:
        leases = await list_leases(config)
    except (StoreError, ConfigError) as e:
        verdict, detail = Verdict.PROBLEM, str(e)
    else:
        stuck = [lease.account for lease in leases if lease.state is LeaseState.STUCK]
        verdict = Verdict.PROBLEM if stuck else Verdict.OK
        detail = ", ".join(f"{lease.account} {lease.state}" for lease in leases)
        if stuck:
            detail += "; nobody takes over what is STUCK: see `tradegw lease release --help`"
    return Finding(subject="store", check="leases", verdict=verdict, detail=detail)


async def _store(config: Config) -> Sequence[Finding]:
    url, path = config.store.shown_url, sqlite_path(config.store.url)
    if is_postgres(config.store.url):
        return await _server(config)
    if path is None:
        return [
            Finding(
                subject="store",
                check="durable",
                verdict=Verdict.WARNING,
                detail=f"{url}: the record is gone when the gateway ends",
            )
        ]
    found: list[Finding] = []
    if has_record(config):
        try:
            await check_schema(config)
            verdict, detail = Verdict.OK, f"{url} fits this release"
        except StoreError as e:
            verdict, detail = Verdict.PROBLEM, str(e)
    else:
        verdict, detail = Verdict.OK, f"{url} is made at the first start"
    found.append(Finding(subject="store", check="schema", verdict=verdict, detail=detail))
    holder = find_running(config)
    writer = "nobody writes it now" if holder is None else f"process {holder.pid} writes it"
    found.append(Finding(subject="store", check="writer", verdict=Verdict.OK, detail=writer))
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError as e:
        found.append(
            Finding(
                subject="store",
                check="disk",
                verdict=Verdict.PROBLEM,
                detail=f"{path.parent}: {e.strerror or e}",
            )
        )
    else:
        found.append(
            Finding(
                subject="store",
                check="disk",
                verdict=Verdict.WARNING if free < _DISK_LEAST else Verdict.OK,
                detail=f"{free / 1024**3:.1f} GiB free",
            )
        )
    return found


async def _account(plan: AccountPlan, clock: Clock) -> AsyncIterator[Finding]:
    subject = f"account {plan.route.account} at {plan.route.venue}"
    try:
        async with plan.open_venue() as venue:
            for check in (_clock, _instruments, _key, _orders):
                try:
                    verdict, detail = await check(venue, clock)
                except (TradegwError, OSError, TimeoutError) as e:
                    verdict = Verdict.PROBLEM
                    detail = str(e) or f"no answer within {_ASK_TIMEOUT_S:g} s"
                yield Finding(
                    subject=subject,
                    check=check.__name__.removeprefix("_"),
                    verdict=verdict,
                    detail=detail,
                )
            for examined in await _within(venue.examine()):
                yield Finding(
                    subject=subject,
                    check=examined.check,
                    verdict=examined.verdict,
                    detail=examined.detail,
                )
    except (TradegwError, OSError, TimeoutError) as e:
        yield Finding(subject=subject, check="opens", verdict=Verdict.PROBLEM, detail=str(e))


async def _clock(venue: Venue, clock: Clock) -> tuple[Verdict, str]:
    sent_ns = clock.time_ns()
    page = await _within(venue.fetch(FetchServerTime()))
    back_ns = clock.time_ns()
    off_s = (page.as_of.time_ns - (sent_ns + back_ns) / 2) / _NS_PER_S
    detail = (
        f"{off_s:+.3f} s from ours, after a round trip of {(back_ns - sent_ns) / _NS_PER_S:.3f} s"
    )
    capabilities = venue.capabilities
    if capabilities.expiry is ExpiryKind.TIME and abs(off_s) > capabilities.expiry_s / 2:
        return Verdict.PROBLEM, f"{detail}: more than half of the time for which it takes a request"
    if abs(off_s) > 1:
        return Verdict.WARNING, f"{detail}: keep this machine's clock by NTP"
    return Verdict.OK, detail


async def _instruments(venue: Venue, clock: Clock) -> tuple[Verdict, str]:
    page = await _within(venue.fetch(FetchInstruments()))
    if not page.items:
        return Verdict.PROBLEM, "it lists nothing that can be traded"
    return Verdict.OK, f"{len(page.items)} listed"


async def _key(venue: Venue, clock: Clock) -> tuple[Verdict, str]:
    page = await _within(venue.fetch(FetchBalances()))
    held = [balance.asset for balance in page.items if balance.free or balance.held]
    if not held:
        return Verdict.WARNING, "it reads the account, which holds nothing"
    return Verdict.OK, f"it reads the account, which holds {', '.join(sorted(held)[:10])}"


async def _orders(venue: Venue, clock: Clock) -> tuple[Verdict, str]:
    page = await _within(venue.fetch(FetchOpenOrders()))
    more = "" if page.next_cursor is None else " or more"
    return Verdict.OK, f"{len(page.items)}{more} open at the venue"


async def _within(asking: Awaitable[ResultT]) -> ResultT:
    async with asyncio.timeout(_ASK_TIMEOUT_S):
        return await asking
