"""Opens an account's venue, reads its stream, and asks about every open order before new ones are taken."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from tradegw.engine.absence import LOST, Identity
from tradegw.engine.account import Account, AccountState, identity_of
from tradegw.engine.crash import CrashPoint, reach
from tradegw.engine.external import Externals
from tradegw.engine.guard import DeadManSwitch, GuardedPlugins
from tradegw.engine.positions import Positions
from tradegw.engine.reconciler import Reconciler
from tradegw.engine.resolver import Resolver, within
from tradegw.errors import Unavailable, VenueError
from tradegw.model import Balance, ExecutionReport, OrderId
from tradegw.plugins import AccountPlugins
from tradegw.venue import (
    BalanceUpdate,
    DeadMan,
    FetchBalances,
    FetchInstruments,
    FetchPositions,
    FetchServerTime,
    Operation,
    PositionUpdate,
    StreamGap,
    StreamItem,
    StreamReady,
    TranslateContext,
    Venue,
    VenueAccount,
)

__all__ = ["run_account"]

log = logging.getLogger(__name__)

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
CLOCK_EVERY_S = 30.0
BALANCES_EVERY_S = 0.5
RECONCILE_EVERY_S = 60.0
SILENT_EVERY_S = 15.0


async def run_account(
    account: Account,
    *,
    plugin: str,
    open_venue: Callable[[], AbstractAsyncContextManager[Venue]],
    rng: random.Random,
    queue: Callable[[], Awaitable[None]],
    resend: Callable[[OrderId], Awaitable[None]],
    externals: Externals,
) -> None:
    """Keep one account alive until cancelled: its venue open, its stream read, its doubts resolved.

    Args:
        queue: Looks after what waits for the venue, whether or not it is open.
        resend: Sends a placement in doubt once more, if that is allowed.
        externals: What is known of orders that are not ours.

    A part that fails is logged and begun again, and takes no other part with it.
    """
    feed = _Feed(account, rng, resend, externals)
    async with asyncio.TaskGroup() as group:
        group.create_task(_forever(account, "store watch", account.watch_store))
        group.create_task(_forever(account, "queue", queue))
        while True:
            try:
                async with open_venue() as venue:
                    await feed.serve(venue, plugin)
            except Exception as e:
                # A plugin may raise anything. Its account waits; the others trade on.
                if not isinstance(e, (VenueError, OSError)):
                    log.exception("account %s: its venue failed", account.account)
                account.set_state(AccountState.STARTING, f"the venue cannot be opened: {e}")
            finally:
                account.venue = None
            await account.clock.sleep(feed.backoff_s())


async def _forever(account: Account, what: str, run: Callable[[], Awaitable[None]]) -> None:
    delay_s = 0.1
    while True:
        try:
            await run()
        except Exception:
            log.exception("account %s: the %s failed, and begins again", account.account, what)
        await account.clock.sleep(delay_s)
        delay_s = min(delay_s * 2, LONGEST_WAIT_S)


class _Feed:
    def __init__(
        self,
        account: Account,
        rng: random.Random,
        resend: Callable[[OrderId], Awaitable[None]],
        externals: Externals,
    ) -> None:
        self._account = account
        self._rng = rng
        self._resolver = Resolver(account, rng, resend)
        self._reconciler = Reconciler(account, self._resolver, externals)
        self._positions = Positions(account)
        self._last_update_ns = 0
        self._is_live = False
        self._has_spoken = False
        self._balances_changed = asyncio.Event()
        self._positions_changed = False
        self._environment = ""
        self._wait_s = FIRST_WAIT_S

    def backoff_s(self) -> float:
        """Return how long to wait before the next attempt, longer each time, with jitter."""
        wait_s = self._wait_s
        self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
        return wait_s * self._rng.uniform(0.5, 1.0)

    async def serve(self, venue: Venue, plugin: str) -> None:
        """Serve while the venue is open."""
        account = self._account
        about = VenueAccount(
            account_id=account.record.account_id,
            account=account.account,
            venue=account.record.venue,
            plugin=plugin,
            capabilities=venue.capabilities,
        )
        if account.settings.dead_man_s is not None and not venue.capabilities.dead_man:
            raise VenueError(
                f"dead_man_s is set, and venue {about.venue} has no dead man's switch",
                reason="UNSUPPORTED",
            )
        self._check_environment(venue.environment)
        self._environment = venue.environment
        account.is_identified = False
        account.about = about
        account.guard.use(venue.capabilities)
        plugins = GuardedPlugins(about, venue, account.plugins.wrappers(), account.guard)
        await self._sample_clock(plugins)
        await self._load_instruments(plugins)
        account.venue = plugins
        self._wait_s = FIRST_WAIT_S
        account.set_state(AccountState.RECONCILING, "waiting for the venue's stream")
        account.wake_resolver.set()
        async with asyncio.TaskGroup() as group:
            for what, run in (
                ("stream", lambda: self._read_stream(plugins)),
                ("resolver", self._resolver.run),
                ("reconciler", lambda: self._reconcile_when_asked(plugins)),
                ("clock", lambda: self._keep_clock(plugins)),
                ("breaker", lambda: account.guard.probe(plugins.ask_time)),
                ("balances", self._keep_balances),
            ):
                group.create_task(_forever(account, what, run))
            if account.settings.dead_man_s is not None:
                switch = DeadManSwitch(
                    account.settings.dead_man_s,
                    tell=lambda timeout_s: self._tell_dead_man(plugins, timeout_s),
                    is_leaving=lambda: (
                        account.state is AccountState.CLOSING and account.guard.may_send
                    ),
                    clock=account.clock,
                )
                group.create_task(_forever(account, "dead man's switch", switch.keep))

    def _check_environment(self, environment: str) -> None:
        """Refuse a venue that is not the one that the account was bound to, before it is asked anything.

        Raises:
            VenueError: It is another; reason `ACCOUNT_MISMATCH`.
        """
        account = self._account
        bound = account.record.environment
        if bound and environment != bound:
            text = (
                f"account {account.account} was bound to {bound!r} of venue {account.record.venue}; the "
                f"configuration leads to {environment!r}: its orders are not there. Use another name"
            )
            log.error("ALARM account %s: ACCOUNT_MISMATCH: %s", account.account, text)
            raise VenueError(text, reason="ACCOUNT_MISMATCH")

    # --- the stream -----------------------------------------------------------------------------

    async def _read_stream(self, plugins: AccountPlugins) -> None:
        account = self._account
        items = plugins.stream(self._last_update_ns)
        try:
            async for item in items:
                await self._on_item(item)
            self._on_gap("the venue's stream ended")
        except Exception as e:
            self._on_gap(f"the venue's stream broke: {type(e).__name__}: {e}")
            if not isinstance(e, (VenueError, OSError, Unavailable)):
                log.exception("account %s: its stream broke", account.account)
        finally:
            self._is_live = False
            aclose = getattr(items, "aclose", None)
            if aclose is not None:
                await aclose()
        await account.clock.sleep(self.backoff_s())

    async def _on_item(self, item: StreamItem) -> None:
        account = self._account
        self._has_spoken = True
        match item:
            case StreamReady():
                await self._on_ready(item)
            case StreamGap():
                self._on_gap(item.why)
            case BalanceUpdate():
                for balance in item.balances:
                    self._take_balance(balance)
                self._balances_changed.set()
            case PositionUpdate():
                for position in item.positions:
                    account.positions[position.symbol] = replace(position, account=account.account)
                self._positions_changed = True
                self._balances_changed.set()
            case _:
                await self._on_report(item)

    async def _on_report(self, report: ExecutionReport) -> None:
        account = self._account
        reach(CrashPoint.REPORTED_UNJOURNALED)
        while True:
            try:
                await account.on_report(report)
            except ValueError as e:
                # Reading it by guesswork could close a live order. So the venue is asked.
                log.error("ALARM account %s: unreadable report: %s", account.account, e)
                account.wake_reconciler.set()
            except Unavailable as e:
                log.warning("account %s: a report waits for the store: %s", account.account, e)
                await account.recovered.wait()
                continue
            else:
                self._last_update_ns = max(self._last_update_ns, report.transact_time_ns)
            return

    def _on_gap(self, why: str) -> None:
        account = self._account
        self._is_live = False
        # Whoever answers from now on may be somebody else.
        account.is_identified = False
        self._reconciler.on_gap()
        # Before the stream was ever ready as well: a key that the venue does not take is seen here first.
        if account.state in (AccountState.READY, AccountState.RECONCILING):
            account.set_state(AccountState.RECONCILING, why)

    async def _on_ready(self, ready: StreamReady) -> None:
        account = self._account
        record = account.record
        if (
            record.venue_account_id
            and ready.venue_account_id
            and record.venue_account_id != ready.venue_account_id
        ):
            text = (
                f"account {account.account} was bound to {record.venue_account_id!r} of venue "
                f"{record.venue}; these credentials show {ready.venue_account_id!r}"
            )
            account.set_state(AccountState.RECONCILING, text)
            raise VenueError(text, reason="ACCOUNT_MISMATCH")
        was = identity_of(record)
        answering = Identity(
            venue_account_id=ready.venue_account_id or was.venue_account_id,
            environment=self._environment,
            instance_id=ready.instance_id or was.instance_id,
        )
        if answering != was:
            if was.instance_id and was.instance_id != answering.instance_id:
                why = f"instance {answering.instance_id} answers, it was {was.instance_id}"
                log.error("ALARM account %s: VENUE_RESET: %s", account.account, why)
                # Before the new instance is stored: cut short, this is done again at the next start.
                await account.on_venue_reset(why)
            account.record = await account.store.put_account(
                replace(
                    record,
                    venue_account_id=answering.venue_account_id,
                    environment=answering.environment,
                    instance_id=answering.instance_id,
                )
            )
            if was == Identity():
                # Nothing was known of the venue when these were stored; it is their venue now.
                account.identities = dict.fromkeys(account.identities, answering)
            elif not was.environment:
                # Bound by a release that did not ask where; what was not lost since is there.
                account.identities = {
                    order_id: who
                    if who == LOST
                    else replace(who, environment=answering.environment)
                    for order_id, who in account.identities.items()
                }
        account.identity = answering
        account.is_identified = True
        reach(CrashPoint.STREAM_READY_UNRECONCILED)
        self._is_live = True
        account.wake_reconciler.set()

    # --- reconciliation -------------------------------------------------------------------------

    async def _reconcile_when_asked(self, plugins: AccountPlugins) -> None:
        account = self._account
        while True:
            if not account.wake_reconciler.is_set():
                # Streams drop reports while they look healthy, and a silent one may be dead.
                wait_s = RECONCILE_EVERY_S if self._has_spoken else SILENT_EVERY_S
                await account.sleep_or(wait_s, account.wake_reconciler)
            account.wake_reconciler.clear()
            self._has_spoken = False
            if not self._is_live:
                continue
            try:
                await self._reconcile(plugins)
                self._wait_s = FIRST_WAIT_S
            except Exception as e:  # noqa: BLE001  A plugin may raise anything; it is asked again.
                log.info("account %s: reconciliation failed: %r", account.account, e)
                if account.state is AccountState.RECONCILING:
                    account.why = f"reconciliation is tried again: {e}"
                await account.clock.sleep(self.backoff_s())
                account.wake_reconciler.set()

    async def _reconcile(self, plugins: AccountPlugins) -> None:
        """Ask about each open order once, then take new ones; orders still in doubt do not hold that up."""
        account = self._account
        if account.failed.is_set():
            # Reading the store wakes us again.
            return
        if account.state is AccountState.READY:
            # The stream may have lost some of these while it looked healthy.
            await self._load_balances(plugins)
            await self._reconciler.ask_all(plugins)
            await self._reconciler.catch_up(plugins)
            await self._positions.look(plugins)
            return
        account.set_state(AccountState.RECONCILING, "asking the venue about every open order")
        await self._sample_clock(plugins)
        await self._load_balances(plugins)
        await self._reconciler.ask_all(plugins)
        reach(CrashPoint.RECONCILED_NOT_READY)
        if self._is_live and not account.failed.is_set():
            account.set_state(AccountState.READY)
            await self._reconciler.catch_up(plugins)
            await self._positions.look(plugins)

    # --- small upkeep ---------------------------------------------------------------------------

    async def _load_instruments(self, plugins: AccountPlugins) -> None:
        account = self._account
        page = await within(plugins.fetch(FetchInstruments()))
        account.instruments = {i.symbol: i for i in page.items}
        await account.store.put_instruments(
            account.record.venue, page.items, time_ns=account.clock.time_ns()
        )

    async def _load_balances(self, plugins: AccountPlugins) -> None:
        account = self._account
        page = await within(plugins.fetch(FetchBalances()))
        told = {balance.asset for balance in page.items}
        account.balances = {a: b for a, b in account.balances.items() if a in told}
        for balance in page.items:
            self._take_balance(balance)
        if plugins.account.capabilities.positions:
            held = await within(plugins.fetch(FetchPositions()))
            account.positions = {p.symbol: replace(p, account=account.account) for p in held.items}
            self._positions_changed = True
        self._balances_changed.set()

    def _take_balance(self, balance: Balance) -> None:
        """Remember a balance, unless a later one is known: the stream may overtake itself, or a query."""
        account = self._account
        held = account.balances.get(balance.asset)
        if held is None or held.time_ns <= balance.time_ns:
            account.balances[balance.asset] = replace(balance, account=account.account)

    async def _sample_clock(self, plugins: AccountPlugins) -> None:
        """Measure how far the venue's clock is from ours, to half of a round trip."""
        account = self._account
        sent_ns = account.clock.monotonic_ns()
        page = await within(plugins.fetch(FetchServerTime()))
        round_trip_ns = account.clock.monotonic_ns() - sent_ns
        account.venue_offset_ns = account.guard.on_clock(
            page.as_of.time_ns - (account.clock.time_ns() - round_trip_ns // 2), round_trip_ns
        )

    async def _keep_clock(self, plugins: AccountPlugins) -> None:
        doubt = self._account.guard.clock_doubt
        while True:
            await self._account.sleep_or(CLOCK_EVERY_S, doubt)
            doubt.clear()
            try:
                await self._sample_clock(plugins)
            except VenueError as e:
                log.info("account %s: no server time: %s", self._account.account, e)

    async def _tell_dead_man(self, plugins: GuardedPlugins, timeout_s: float) -> None:
        """Have the venue cancel all orders after so long, or never (0)."""
        account = self._account
        # It is about the whole account; a translation is always given some instrument.
        instrument = next(iter(account.instruments.values()))
        request = plugins.translate(
            DeadMan(timeout_s=timeout_s),
            TranslateContext(instrument=instrument, now=account.venue_now()),
        )
        await plugins.execute_in_turn(request, Operation.DEAD_MAN)

    async def _keep_balances(self) -> None:
        """Store balances now and then: they are the venue's, and can be asked for again."""
        account = self._account
        while True:
            await self._balances_changed.wait()
            self._balances_changed.clear()
            await account.store.put_balances(
                account.record.account_id, tuple(account.balances.values())
            )
            if self._positions_changed:
                self._positions_changed = False
                await account.store.put_positions(
                    account.record.account_id, tuple(account.positions.values())
                )
            await account.clock.sleep(BALANCES_EVERY_S)
