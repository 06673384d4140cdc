"""Assembles a gateway: the only place that chooses a store, a clock and the venues."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tradegw.engine.account import Account, AccountSettings, AccountState
from tradegw.engine.engine import Engine
from tradegw.engine.members import AccountPlan
from tradegw.engine.routing import Route
from tradegw.engine.venue_ids import gateway_tag
from tradegw.errors import ConfigError, StoreUnavailable, TradegwError, Unavailable
from tradegw.gateway.api import Gateway
from tradegw.gateway.clock import SystemClock, boottime_ns
from tradegw.gateway.config import Config, decode_plugin_config, load_config
from tradegw.gateway.following import Follower
from tradegw.gateway.forwarding import ForwardingGateway
from tradegw.gateway.held_leases import LeaseTerms
from tradegw.gateway.keeper import Keeper
from tradegw.gateway.local import LocalGateway
from tradegw.gateway.metrics import Metrics
from tradegw.gateway.peers import Peers
from tradegw.gateway.process import is_gone, this_process
from tradegw.gateway.replicas import Replicas
from tradegw.gateway.secrets import SameSecrets
from tradegw.gateway.sinks import open_sinks
from tradegw.model import AccountName
from tradegw.plugins import Plugins, load_plugins
from tradegw.ports import Clock, Store
from tradegw.store import is_postgres, open_store, sqlite_path
from tradegw.venue import Feedback, Venue

__all__ = ["RunningGateway", "open_gateway", "plan_accounts", "run_gateway", "wait_ready"]

log = logging.getLogger(__name__)

Connect = Callable[[str], Gateway]

STORE_RETRY_MAX_S = 2.0


def _refuse_to_connect(address: str) -> Gateway:
    raise Unavailable(
        f"the account is served by the gateway at {address}; ask there", reason="NOT_HOLDER"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGateway:
    """A gateway with what a door needs beside it.

    Attributes:
        store_opened: Set once the store is open and the accounts are served.
        drain: Takes no new orders and waits for the answers of those that are on their way, while the doors
            are still open for them. Leaving the context does the same, when the doors have gone.
        replicas: Our part among several gateways that share the store; None for one that is alone.
    """

    gateway: LocalGateway
    config: Config
    plugins: Plugins
    metrics: Metrics
    store_opened: asyncio.Event
    publish_addresses: Callable[[Mapping[str, str]], None]
    drain: Callable[[], Awaitable[None]]
    replicas: Replicas | None = None


@asynccontextmanager
async def open_gateway(
    config: str | Path | Mapping[str, Any] | Config | None = None,
    *,
    plugins: Sequence[object] = (),
    clock: Clock | None = None,
    ready_timeout_s: float = 10.0,
    connect: Connect = _refuse_to_connect,
) -> AsyncGenerator[LocalGateway]:
    """Open a gateway in this process.

    Args:
        config: A file, or the same as a mapping, or nothing: then `tradegw.toml` in the working directory
            if there is one, else the mock exchange with the account `paper`.
        plugins: Further plugins, beside the installed ones.
        ready_timeout_s: How long to wait until every account takes orders. One that does not by then is
            served all the same, and says `Unavailable` with why.
        connect: As for `run_gateway`.

    Raises:
        ConfigError: The configuration is wrong; the text names the key.
        StoreError: The store cannot be used: in use, corrupt, newer, read-only.

    Leaving it takes no new orders, waits `gateway.drain_s` for answers, and marks the rest in doubt.
    """
    checked = _config(config)
    async with run_gateway(
        checked,
        plugins=plugins,
        clock=clock or SystemClock(),
        wait_for_store=False,
        connect=connect,
    ) as running:
        await wait_ready(running, ready_timeout_s)
        yield running.gateway


def _config(config: str | Path | Mapping[str, Any] | Config | None) -> Config:
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        # What a program hands over is the whole of it: no file that happens to lie about is read.
        return load_config(overrides=config)
    return load_config(config)


async def wait_ready(running: RunningGateway, timeout_s: float) -> None:
    """Wait until every account takes orders, at most so long; those that do not are named in the log.

    Where several gateways share the store, every account that this one takes at its start.
    """
    engine = running.gateway.engine
    try:
        async with asyncio.timeout(timeout_s):
            if running.replicas is not None:
                await running.replicas.opened()
            for account in engine.accounts:
                while not _is_ready(account):
                    account.state_changed.clear()
                    await account.state_changed.wait()
    except TimeoutError:
        if running.replicas is not None:
            log.warning("this gateway may not have opened all accounts yet that it takes")
        for account in engine.accounts:
            if not _is_ready(account):
                log.warning("account %s is %s: %s", account.account, account.state, account.why)


def _is_ready(account: Account) -> bool:
    # READY may come before the store knows what the venue does with old requests: nothing is sent until then.
    return account.state is AccountState.READY and account.guard.may_send


@asynccontextmanager
async def run_gateway(
    config: Config,
    *,
    plugins: Sequence[object] = (),
    clock: Clock,
    wait_for_store: bool,
    connect: Connect = _refuse_to_connect,
) -> AsyncGenerator[RunningGateway]:
    """Run a gateway; it may be handed out before its store is open.

    Args:
        wait_for_store: When the store is away at the start, go on trying with a backoff and take no
            orders meanwhile. Otherwise that is an error.
        connect: Makes a connection to another gateway on the store, by its address, without any I/O. Without
            it, what another one serves is refused.

    Raises:
        ConfigError: The configuration is wrong.
        StoreError: The store cannot be used, and trying again would not help.
    """
    loaded = load_plugins(plugins)
    metrics = Metrics()
    plans = plan_accounts(config, loaded, clock)
    replicas = Replicas() if config.replicas.enabled else None
    gateway = LocalGateway() if replicas is None else _forwarding_gateway(plans, replicas, connect)
    opened = asyncio.Event()
    published: dict[str, str] = {}
    stores: list[Store] = []
    following: list[asyncio.Task[None]] = []

    def publish(addresses: Mapping[str, str]) -> None:
        published.update(addresses)
        if replicas is not None:
            replicas.listen_at(
                addresses.get("forward") or config.replicas.address or addresses["grpc"]
            )
        for store in stores:
            _publish(store, published)

    async def drain() -> None:
        if opened.is_set():
            if replicas is not None:
                await replicas.cease_taking()
            await gateway.engine.drain(config.gateway.drain_s)

    async with (
        # Around the tasks: an outbox publishes to its end while its sink is still open.
        open_sinks(config, loaded, gateway=gateway, clock=clock, opened=opened) as sinks,
        _own_tasks() as group,
    ):

        async def attach(store: Store) -> None:
            engine = Engine(
                store=store,
                clock=clock,
                plugins=loaded,
                group=group,
                rng=random.Random(),
                meter=metrics,
                sinks=sinks,
                routes=[plan.route for plan in plans] if config.replicas.enabled else (),
            )
            stores.append(store)
            _publish(store, published)
            keeper = None if replicas is None else _keeper(config, engine, store, clock, group)
            try:
                await engine.start(plans if keeper is None else ())
                if keeper is not None:
                    await keeper.start(plans)
            except (Exception, asyncio.CancelledError):
                # What was opened goes on deciding otherwise, beside the next attempt.
                await engine.close()
                if keeper is not None:
                    await keeper.close()
                raise
            gateway.attach(engine)
            if replicas is not None and keeper is not None:
                replicas.attach(keeper)
                following.append(group.create_task(_follow(config, engine, replicas, clock)))
                metrics.watch_leases(keeper)
            metrics.watch_accounts(lambda: engine.accounts, clock)
            metrics.watch_outboxes(lambda: engine.outboxes)
            opened.set()

        async def keep_trying() -> None:
            delay_s = 0.1
            while not opened.is_set():
                await clock.sleep(delay_s)
                delay_s = min(delay_s * 2, STORE_RETRY_MAX_S)
                try:
                    await attach(await _open_store(config, clock))
                except TradegwError as e:
                    log.warning("the store is away, trying again: %s", e)
                    gateway.detach(f"the store is away: {e}")
                    while stores:
                        await stores.pop().close()

        opener: asyncio.Task[None] | None = None
        try:
            try:
                await attach(await _open_store(config, clock))
            except StoreUnavailable as e:
                if not wait_for_store:
                    raise
                log.warning("the store is away, trying again: %s", e)
                gateway.detach(f"the store is away: {e}")
                opener = group.create_task(keep_trying())
            yield RunningGateway(
                gateway=gateway,
                config=config,
                plugins=loaded,
                metrics=metrics,
                store_opened=opened,
                publish_addresses=publish,
                drain=drain,
                replicas=replicas,
            )
        finally:
            for task in (*following, *([] if opener is None else [opener])):
                task.cancel()
            # Shielded by hand: a caller that is cancelled still waits for its orders' answers.
            await _uncancelled(_close(gateway, stores, replicas, config.gateway.drain_s))


@asynccontextmanager
async def _own_tasks() -> AsyncGenerator[asyncio.TaskGroup]:
    """Yield a task group that lives in a task of its own, and cancel what is left in it at the end.

    In the caller's own task a group would wrap every exception of the caller's in an `ExceptionGroup`, and a
    defect of ours would cancel the caller's code.
    """
    made: asyncio.Future[asyncio.TaskGroup] = asyncio.get_running_loop().create_future()

    async def host() -> None:
        async with asyncio.TaskGroup() as group:
            made.set_result(group)
            await asyncio.Event().wait()

    task = asyncio.create_task(host(), name="tradegw tasks")
    try:
        yield await made
    finally:
        if task.done():
            # Every part guards itself, so only a defect gets here; say so loudly, and let the body end.
            log.critical("the gateway's tasks ended early: %r", task)
        task.cancel()
        await asyncio.wait([task])


async def _close(
    gateway: LocalGateway, stores: Sequence[Store], replicas: Replicas | None, drain_s: float
) -> None:
    if replicas is not None:
        await replicas.cease_taking()
    if stores:
        try:
            engine = gateway.engine
        except Exception:  # noqa: BLE001  It never got as far as serving.
            log.debug("closing a gateway that never served")
        else:
            await engine.drain(drain_s)
            await engine.close()
    if replicas is not None:
        await replicas.close()
    await gateway.hang_up()
    gateway.detach("the gateway is closed", for_good=True)
    for store in stores:
        await store.close()


async def _uncancelled(work: Any) -> None:
    """Finish `work` even if this task is cancelled meanwhile, then let the cancellation through."""
    try:
        task = asyncio.get_running_loop().create_task(work)
    except RuntimeError:
        # The loop has ended without us, and with it whoever could close anything.
        work.close()
        return
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as e:
            if task.cancelled():
                raise
            cancelled = e
    task.result()
    if cancelled is not None:
        raise cancelled


async def _open_store(config: Config, clock: Clock) -> Store:
    """Open the store that a gateway writes."""
    return await open_store(
        config.store.url,
        clock=clock,
        connections=config.store.connections,
        is_shared=config.replicas.enabled,
    )


def _keeper(
    config: Config, engine: Engine, store: Store, clock: Clock, group: asyncio.TaskGroup
) -> Keeper:
    """Return what takes and keeps our part of the accounts."""
    from tradegw.store.postgres import PostgresStore
    from tradegw.store.postgres_leases import PostgresLeases

    assert isinstance(store, PostgresStore), "the configuration was checked"
    me = this_process()
    return Keeper(
        engine=engine,
        store=store,
        leases=PostgresLeases(config.store.url),
        taking=PostgresLeases(config.store.url),
        looking=PostgresLeases(config.store.url),
        me=me,
        is_gone=partial(is_gone, seen_by=me),
        clock=clock,
        boottime_ns=boottime_ns,
        terms=LeaseTerms(ttl_s=config.replicas.ttl_s, margin_s=config.replicas.margin_s),
        rng=random.Random(),
        group=group,
    )


def _forwarding_gateway(
    plans: Sequence[AccountPlan], replicas: Replicas, connect: Connect
) -> ForwardingGateway:
    routes = [plan.route for plan in plans]
    plugins = {plan.route.venue: plan.plugin for plan in plans}
    return ForwardingGateway(routes, plugins, replicas, Peers(connect))


async def _follow(config: Config, engine: Engine, replicas: Replicas, clock: Clock) -> None:
    """Keep up with the other gateways on the store."""
    from tradegw.store.postgres_notices import PostgresNotices

    notices = PostgresNotices(config.store.url)
    await Follower(engine, notices, clock, is_ours=replicas.is_ours).run()


def _publish(store: Store, addresses: Mapping[str, str]) -> None:
    publish = getattr(store, "publish_addresses", None)
    if publish is not None and addresses:
        publish(dict(addresses))


def _data_dir(url: str) -> str:
    """Return where venues keep files; empty where nothing is kept."""
    if is_postgres(url):
        return str(Path.cwd())
    file = sqlite_path(url)
    return "" if file is None else str(file.parent.absolute())


def plan_accounts(config: Config, plugins: Plugins, clock: Clock) -> list[AccountPlan]:
    """Return how each account is run. Opens nothing.

    Raises:
        ConfigError: A venue is one that no plugin offers, or a key is none that the plugin knows.
    """
    factories = plugins.venue_factories()
    secrets = plugins.secret_sources()
    tag = gateway_tag(config.gateway.name)
    credentials = SameSecrets()
    data_dir = _data_dir(config.store.url)
    plans: list[AccountPlan] = []
    for account in config.accounts.values():
        venue = config.venues[account.venue]
        factory = factories.get(venue.plugin)
        if factory is None:
            have = ", ".join(sorted(factories)) or "none"
            skipped = "".join(
                f"; plugin {info.name} of {info.distribution} {info.version} is skipped: {info.error}"
                for info in plugins.infos
                if info.error
            )
            raise ConfigError(
                f"venues.{venue.name}.plugin is {venue.plugin!r}, and no plugin offers it; there are "
                f"{have}{skipped}"
            )
        decode = partial(
            decode_plugin_config, factory.config_type, venue, account, config.sources, secrets
        )
        runtime = _Runtime(
            account=AccountName(account.name),
            venue=venue.name,
            data_dir=data_dir,
            tag=tag,
            clock=clock,
        )
        plans.append(
            AccountPlan(
                route=Route(account=AccountName(account.name), venue=venue.name, tags=account.tags),
                plugin=venue.plugin,
                settings=AccountSettings(
                    tag=tag,
                    limits=account.limits,
                    execute_timeout_s=account.execute_timeout_s,
                    send_by_s=account.send_by_s,
                    dead_man_s=account.dead_man_s,
                ),
                open_venue=_opener(factory.open, decode, runtime),
                key_id=credentials.name_of(decode()),
                owner=account.owner,
                listen=runtime.listen,
            )
        )
    return plans


def _opener(
    open_venue: Callable[[Any, Any], AbstractAsyncContextManager[Venue]],
    decode: Callable[[], object],
    runtime: _Runtime,
) -> Callable[[], AbstractAsyncContextManager[Venue]]:
    @asynccontextmanager
    async def opening() -> AsyncGenerator[Venue]:
        # Anew each time: a secret may have been changed where it is kept. A vault is far away.
        options = await asyncio.to_thread(decode)
        async with open_venue(options, runtime) as venue:
            yield venue

    return opening


class _Runtime:
    """What a venue gets from us; see `tradegw.venue.Runtime`."""

    def __init__(
        self, *, account: AccountName, venue: str, data_dir: str, tag: str, clock: Clock
    ) -> None:
        self.account = account
        self.venue = venue
        self.data_dir = data_dir
        self.tag = tag
        self._clock = clock
        self._listener: Callable[[Feedback], None] | None = None
        self._was_healthy = True

    def listen(self, listener: Callable[[Feedback], None]) -> None:
        """Hand what the plugin says to a listener from now on."""
        self._listener = listener

    def time_ns(self) -> int:
        """Return the time, nanoseconds since the epoch."""
        return self._clock.time_ns()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._clock.sleep(seconds)

    def feedback(self, feedback: Feedback) -> None:
        """Note what the plugin learned; see `tradegw.engine.guard`."""
        # Headers speak with every answer; a person hears of what changes.
        if feedback.healthy is not self._was_healthy or feedback.banned or not feedback.healthy:
            level = logging.INFO if feedback.healthy else logging.WARNING
            log.log(level, "venue %s of %s: %s", self.venue, self.account, feedback.detail)
        self._was_healthy = feedback.healthy
        if self._listener is not None:
            self._listener(feedback)
