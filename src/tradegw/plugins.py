"""Finds, checks and loads plugins, and builds the plugin manager of each account.

Entry points of the group `tradegw` are loaded one by one: one broken plugin is named, with its
distribution and version, and skipped; the others work. Two variables help to find trouble:
`TRADEGW_DISABLE_PLUGINS=name,name` skips plugins, `TRADEGW_TRACE_HOOKS=1` logs every hook call.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pluggy

from tradegw import hookspecs
from tradegw.errors import ConfigError, PluginError
from tradegw.hookspecs import Denial, SecretSource
from tradegw.markers import PROJECT
from tradegw.model import ExecutionReport, Order, OrderEvent
from tradegw.ports import SinkFactory
from tradegw.venue import (
    API_VERSION,
    Command,
    Page,
    Query,
    StreamItem,
    TranslateContext,
    Venue,
    VenueAccount,
    VenueFactory,
    VenueRequest,
)

__all__ = [
    "OUR_SECRETS",
    "VENUE_HOOKS",
    "AccountPlugins",
    "PluginInfo",
    "Plugins",
    "load_plugins",
]

log = logging.getLogger(__name__)

OUR_SECRETS = ("env", "file", "keyring")
"""Sources of secrets that are always there."""

_is_name = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII).fullmatch

VENUE_HOOKS = ("tradegw_translate", "tradegw_execute", "tradegw_stream", "tradegw_fetch")
"""The only way from the engine to a venue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One entry point that was found.

    Attributes:
        error: Why it was skipped; empty when it is loaded.
        hooks: Names of the hooks that it implements.
    """

    name: str
    module: str
    distribution: str
    version: str
    error: str = ""
    hooks: tuple[str, ...] = ()


class Plugins:
    """The plugins of one gateway."""

    def __init__(self, manager: pluggy.PluginManager, infos: Sequence[PluginInfo]) -> None:
        self.manager = manager
        self.infos = tuple(infos)
        self._factories: Mapping[str, VenueFactory[Any]] | None = None

    def venue_factories(self) -> Mapping[str, VenueFactory[Any]]:
        """Return what can be opened, by name.

        Raises:
            PluginError: Two plugins offer venues of one name.
        """
        if self._factories is None:
            factories: dict[str, VenueFactory[Any]] = {}
            for impl in self.manager.hook.tradegw_register_venues.get_hookimpls():
                for factory in self._offers(impl):
                    if factory.name in factories:
                        raise PluginError(
                            f"two plugins offer a venue {factory.name!r}; disable one of them with "
                            "TRADEGW_DISABLE_PLUGINS"
                        )
                    factories[factory.name] = factory
            self._factories = factories
        return self._factories

    def _offers(self, impl: pluggy.HookImpl) -> Iterable[VenueFactory[Any]]:
        caller = self.manager.subset_hook_caller(
            "tradegw_register_venues",
            [p for p in self.manager.get_plugins() if p is not impl.plugin],
        )
        try:
            offers: list[Sequence[VenueFactory[Any]]] = caller(api_version=API_VERSION)
        except Exception as e:  # noqa: BLE001  A plugin may raise anything, and the others still load.
            log.error("plugin %s offers no venues: %r", impl.plugin_name, e)
            return ()
        return [factory for offer in offers for factory in self._readable(impl, offer)]

    def _readable(
        self, impl: pluggy.HookImpl, offer: Sequence[VenueFactory[Any]]
    ) -> Iterable[VenueFactory[Any]]:
        """Yield what is a factory; what is not is named and skipped."""
        things: Any = offer
        if not isinstance(things, Sequence):
            things = [things]
        for factory in things:  # pyright: ignore[reportUnknownVariableType]
            if isinstance(factory, VenueFactory):
                yield factory  # pyright: ignore[reportUnknownVariableType]
            else:
                log.error(
                    "plugin %s offers a %s, not a VenueFactory; it is skipped",
                    impl.plugin_name,
                    type(factory).__name__,  # pyright: ignore[reportUnknownArgumentType]
                )

    def secret_sources(self) -> Mapping[str, Callable[[str], str]]:
        """Return what reads secrets, by the name in front of a reference.

        Raises:
            PluginError: A plugin offers what is no source, or one of a name that is taken.
        """
        sources: dict[str, Callable[[str], str]] = {}
        offers: list[Sequence[object]] = self.manager.hook.tradegw_register_secret_sources()
        for source in (source for offer in offers for source in offer):
            if not isinstance(source, SecretSource) or not _is_name(source.name):
                raise PluginError(f"expected a SecretSource with a name; found {source!r:.200}")
            if source.name in sources or source.name in OUR_SECRETS:
                raise PluginError(f"there are two sources of secrets named {source.name!r}")
            sources[source.name] = source.read
        return sources

    def sink_factories(self) -> Mapping[str, SinkFactory[Any]]:
        """Return the sinks that can be opened, by name.

        Raises:
            PluginError: A plugin offers what is no sink, or one of a name that is taken.
        """
        factories: dict[str, SinkFactory[Any]] = {}
        offers: list[Sequence[object]] = self.manager.hook.tradegw_register_event_sinks()
        for factory in (factory for offer in offers for factory in offer):
            if not isinstance(factory, SinkFactory):
                raise PluginError(f"expected a SinkFactory; found {factory!r:.200}")
            if factory.name in factories:
                raise PluginError(
                    f"two plugins offer a sink {factory.name!r}; disable one of them with "
                    "TRADEGW_DISABLE_PLUGINS"
                )
            factories[factory.name] = factory
        return factories

    def wrappers(self) -> list[object]:
        """Return fresh wrapper plugins for one account."""
        offers: list[Sequence[object]] = self.manager.hook.tradegw_register_wrappers()
        return [wrapper for offer in offers for wrapper in offer]

    def check_order(self, order: Order, account: VenueAccount) -> Denial | None:
        """Ask every plugin about an order. Any denial wins, and a check that raises is one."""
        if not self.manager.hook.tradegw_check_order.get_hookimpls():
            return None
        try:
            denials: list[Any] = self.manager.hook.tradegw_check_order(order=order, account=account)
        except Exception as e:
            log.exception("tradegw_check_order failed for order %s", order.order_id)
            return Denial(reason="CHECK_FAILED", text=f"a check failed: {type(e).__name__}: {e}")
        for denial in denials:
            if not isinstance(denial, Denial):
                return Denial(
                    reason="CHECK_FAILED",
                    text=f"a check answered {type(denial).__name__}, neither a Denial nor None",
                )
        return denials[0] if denials else None

    def on_event(self, event: OrderEvent) -> None:
        """Show an event to every observer. What they raise is logged."""
        try:
            self.manager.hook.tradegw_on_event(event=event)
        except Exception:
            log.exception("tradegw_on_event failed for %s %s", event.account, event.seq)

    @property
    def has_observers(self) -> bool:
        """Whether any plugin wants to see events."""
        return bool(self.manager.hook.tradegw_on_event.get_hookimpls())


class AccountPlugins:
    """One account's own plugin manager: exactly one venue, and every wrapper around it.

    No call made here can reach another account's venue.
    """

    def __init__(self, account: VenueAccount, venue: Venue, wrappers: Sequence[object]) -> None:
        """Register the venue and the wrappers.

        Raises:
            PluginError: A wrapper implements a venue hook without `wrapper=True`.
        """
        self.account = account
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(hookspecs)
        manager.register(venue, name=f"venue:{account.venue}")
        for wrapper in wrappers:
            manager.register(wrapper)
            for caller in manager.get_hookcallers(wrapper) or ():
                if caller.name not in VENUE_HOOKS:
                    raise PluginError(
                        f"account {account.account}: wrapper {wrapper!r} has a hook {caller.name}, which "
                        f"nobody would call: a wrapper has hooks of {', '.join(VENUE_HOOKS)}"
                    )
        for name in VENUE_HOOKS:
            impls = getattr(manager.hook, name).get_hookimpls()
            plain = [i for i in impls if not (i.wrapper or i.hookwrapper)]
            if len(plain) != 1 or plain[0].plugin is not venue:
                strangers = ", ".join(i.plugin_name for i in plain if i.plugin is not venue)
                raise PluginError(
                    f"account {account.account}: {name} must be answered by its venue alone; "
                    f"{strangers or 'nobody'} answers as well or instead (use wrapper=True)"
                )
        self._hook = manager.hook
        self._venue = venue

    @property
    def height(self) -> int | None:
        """The venue's block height as last heard; see `Venue.height`."""
        return self._venue.height

    def translate(self, command: Command, context: TranslateContext) -> VenueRequest:
        """Turn a command into a request; see `tradegw_translate`."""
        request: VenueRequest = self._hook.tradegw_translate(
            account=self.account, command=command, context=context
        )
        return request

    def execute(self, request: VenueRequest) -> Awaitable[Sequence[ExecutionReport]]:
        """Send a request; see `tradegw_execute`."""
        answer: Awaitable[Sequence[ExecutionReport]] = self._hook.tradegw_execute(
            account=self.account, request=request
        )
        return answer

    def stream(self, since: int) -> AsyncIterator[StreamItem]:
        """Open the live updates; see `tradegw_stream`."""
        items: AsyncIterator[StreamItem] = self._hook.tradegw_stream(
            account=self.account, since=since
        )
        return items

    def fetch(self, query: Query) -> Awaitable[Page[Any]]:
        """Ask the venue; see `tradegw_fetch`."""
        answer: Awaitable[Page[Any]] = self._hook.tradegw_fetch(account=self.account, query=query)
        return answer


def load_plugins(extra: Sequence[object] = ()) -> Plugins:
    """Load the installed plugins, and `extra` ones that an embedding program hands over.

    Raises:
        ConfigError: One of `extra` is broken: its author stands here and can mend it.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    if os.environ.get("TRADEGW_TRACE_HOOKS") == "1":
        manager.trace.root.setwriter(lambda text: log.warning("hook %s", text.rstrip()))
        manager.enable_tracing()
    skipped = {n.strip() for n in os.environ.get("TRADEGW_DISABLE_PLUGINS", "").split(",")} - {""}
    found = sorted(
        importlib.metadata.entry_points(group=PROJECT), key=lambda entry: (entry.name, entry.value)
    )
    infos = [
        _info(entry, error="disabled by TRADEGW_DISABLE_PLUGINS")
        if entry.name in skipped
        else _load(manager, entry)
        for entry in found
    ]
    for plugin in extra:
        try:
            manager.register(plugin)
            _check(manager, plugin)
        except Exception as e:
            raise ConfigError(f"plugin {plugin!r} cannot be used: {e}") from e
    return Plugins(manager, infos)


def _load(manager: pluggy.PluginManager, entry: importlib.metadata.EntryPoint) -> PluginInfo:
    try:
        module = entry.load()
        if manager.is_registered(module):
            return _info(entry, error="its module is registered under another name")
        manager.register(module, name=entry.name)
        _check(manager, module)
    except (Exception, SystemExit) as e:  # noqa: BLE001  An import may raise anything; the rest load.
        if manager.has_plugin(entry.name):
            manager.unregister(name=entry.name)
        info = _info(entry, error=f"{type(e).__name__}: {e}")
        log.error(
            "plugin %s of %s %s is skipped: %s",
            info.name,
            info.distribution,
            info.version,
            info.error,
        )
        return info
    callers = manager.get_hookcallers(module) or ()
    return _info(entry, hooks=tuple(sorted(c.name for c in callers)))


def _check(manager: pluggy.PluginManager, plugin: object) -> None:
    for caller in manager.get_hookcallers(plugin) or ():
        if not caller.has_spec():
            raise PluginError(f"there is no hook {caller.name!r}; see docs/reference/hooks.md")
        if caller.name in VENUE_HOOKS:
            raise PluginError(
                f"{caller.name} belongs to one account: subclass tradegw.venue.Venue and offer it in "
                "tradegw_register_venues, or offer a wrapper in tradegw_register_wrappers"
            )


def _info(
    entry: importlib.metadata.EntryPoint, *, error: str = "", hooks: tuple[str, ...] = ()
) -> PluginInfo:
    return PluginInfo(
        name=entry.name,
        module=entry.value,
        distribution=entry.dist.name if entry.dist else "?",
        version=entry.dist.version if entry.dist else "?",
        error=error,
        hooks=hooks,
    )
