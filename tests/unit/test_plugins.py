"""Finding, checking and loading plugins: one broken one is named and skipped, and silences nobody."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tradegw import hookspecs
from tradegw.errors import ConfigError, PluginError
from tradegw.markers import hookimpl
from tradegw.model import EventType, OrderEvent
from tradegw.plugins import VENUE_HOOKS, AccountPlugins, load_plugins
from tradegw.testing import ScriptedExchange, ScriptedPlugin, ScriptedVenue, TurnedClock, an_order
from tradegw.testing.venue import CAPABILITIES
from tradegw.venue import Venue, VenueAccount, VenueFactory

ACCOUNT = VenueAccount(
    account_id=None,  # type: ignore[arg-type]
    account="paper",  # type: ignore[arg-type]
    venue="scripted",
    plugin="scripted",
    capabilities=CAPABILITIES,
)


def venue() -> ScriptedVenue:
    return ScriptedVenue(ScriptedExchange(TurnedClock()))


@asynccontextmanager
async def opened(config: Any, runtime: Any) -> AsyncGenerator[Venue]:
    yield venue()


def factory(name: str) -> VenueFactory[Any]:
    return VenueFactory(name=name, config_type=dict, open=opened)


class Offers:
    def __init__(self, *offers: Any) -> None:
        self._offers = offers

    @hookimpl
    def tradegw_register_venues(self, api_version: int) -> Any:
        return list(self._offers)


# --- entry points ------------------------------------------------------------------------------------

GOOD = """
from tradegw import hookimpl
from tradegw.venue import VenueFactory
@hookimpl
def tradegw_register_venues(api_version):
    return [VenueFactory(name="good", config_type=dict, open=None)]
"""
BROKEN = {
    "at_import": "raise RuntimeError('broken at import')",
    "no_such_hook": (
        "from tradegw import hookimpl\n@hookimpl\ndef tradegw_register_venuess(api_version): ..."
    ),
    "wrong_argument": (
        "from tradegw import hookimpl\n@hookimpl\ndef tradegw_register_venues(version): ..."
    ),
    "a_venue_hook": (
        "from tradegw import hookimpl\n@hookimpl\ndef tradegw_execute(account, request): ..."
    ),
    "exits": "raise SystemExit(3)",
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Pretend that distributions are installed, with the modules that are given."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(**modules: str) -> None:
        entries: list[importlib.metadata.EntryPoint] = []
        for name, source in modules.items():
            (tmp_path / f"acme_{name}.py").write_text(source)
            info = tmp_path / f"acme_{name}-1.2.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: acme-{name}\nVersion: 1.2\n"
            )
            (info / "entry_points.txt").write_text(f"[tradegw]\n{name} = acme_{name}\n")
        for found in importlib.metadata.distributions(path=[str(tmp_path)]):
            entries.extend(found.entry_points)

        def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
            return [entry for entry in entries if entry.group == group]

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)

    yield install
    for name in set(sys.modules) - before:
        if name.startswith("acme_"):
            del sys.modules[name]


@pytest.mark.parametrize("how", sorted(BROKEN))
def test_a_broken_plugin_is_named_and_the_others_load(
    installed: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    installed(good=GOOD, bad=BROKEN[how])
    plugins = load_plugins()
    infos = {info.name: info for info in plugins.infos}
    assert infos["bad"].error
    assert (infos["bad"].distribution, infos["bad"].version) == ("acme-bad", "1.2")
    assert "acme-bad 1.2" in caplog.text
    assert not infos["good"].error
    assert infos["good"].hooks == ("tradegw_register_venues",)
    assert list(plugins.venue_factories()) == ["good"]


def test_a_plugin_can_be_left_out(installed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(good=GOOD, other=GOOD.replace("good", "other"))
    monkeypatch.setenv("TRADEGW_DISABLE_PLUGINS", " good , nobody")
    plugins = load_plugins()
    assert list(plugins.venue_factories()) == ["other"]
    assert "TRADEGW_DISABLE_PLUGINS" in {i.name: i.error for i in plugins.infos}["good"]


def test_two_venues_of_one_name_are_refused(installed: Any) -> None:
    installed(good=GOOD, other=GOOD)
    with pytest.raises(PluginError, match="two plugins offer a venue 'good'"):
        load_plugins().venue_factories()


def test_hook_calls_can_be_traced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TRADEGW_TRACE_HOOKS", "1")
    with caplog.at_level(logging.WARNING):
        load_plugins([Offers(factory("x"))]).wrappers()
    assert "tradegw_register_wrappers" in caplog.text


# --- what an embedding program hands over -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["a venue", "a hook that is none"])
def test_a_broken_plugin_of_the_programs_own_is_its_error(how: str) -> None:
    class Misspelt:
        @hookimpl
        def tradegw_register_venus(self, api_version: int) -> None: ...

    plugin: object = venue() if how == "a venue" else Misspelt()
    with pytest.raises(ConfigError):
        load_plugins([plugin])


def test_an_offer_that_fails_silences_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Fails:
        @hookimpl
        def tradegw_register_venues(self, api_version: int) -> Any:
            raise KeyError("a mistake")

    plugins = load_plugins([Offers(factory("a")), Fails(), Offers("what?", factory("b"), None)])
    assert {"a", "b"} <= set(plugins.venue_factories())
    assert "offers no venues" in caplog.text
    assert "offers a str" in caplog.text


# --- the order's own hooks ------------------------------------------------------------------------------


def test_without_checks_nothing_is_denied() -> None:
    assert load_plugins().check_order(an_order(), ACCOUNT) is None


def test_observers_cannot_hurt(caplog: pytest.LogCaptureFixture) -> None:
    class Observes:
        @hookimpl
        def tradegw_on_event(self, event: OrderEvent) -> None:
            raise KeyError("a mistake")

    plugins = load_plugins([Observes()])
    assert plugins.has_observers
    plugins.on_event(OrderEvent(event_type=EventType.NEW, account="paper", time_ns=1))  # type: ignore[arg-type]
    assert "tradegw_on_event failed" in caplog.text


# --- an account's own manager --------------------------------------------------------------------------


def test_an_account_is_answered_by_its_one_venue() -> None:
    one, two = venue(), venue()
    first, second = AccountPlugins(ACCOUNT, one, ()), AccountPlugins(ACCOUNT, two, ())
    for plugins, own in ((first, one), (second, two)):
        for name in VENUE_HOOKS:
            impls = getattr(plugins._hook, name).get_hookimpls()
            assert [impl.plugin for impl in impls] == [own]


def test_a_second_answer_is_refused() -> None:
    class Answers:
        @hookimpl
        def tradegw_fetch(self, account: VenueAccount, query: Any) -> Any:
            return None

    with pytest.raises(PluginError, match="use wrapper=True"):
        AccountPlugins(ACCOUNT, venue(), [Answers()])
    with pytest.raises(PluginError, match="use wrapper=True"):
        AccountPlugins(ACCOUNT, venue(), [venue()])


def test_a_wrapper_with_a_hook_that_nobody_calls_is_refused() -> None:
    class Confused:
        @hookimpl
        def tradegw_on_event(self, event: OrderEvent) -> None: ...

    with pytest.raises(PluginError, match="nobody would call"):
        AccountPlugins(ACCOUNT, venue(), [Confused()])


def test_a_venue_that_forgets_a_method_cannot_be_made() -> None:
    class Half(Venue):
        @property
        def capabilities(self) -> Any:
            return CAPABILITIES

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


def test_the_venue_contract_is_four_hooks() -> None:
    assert VENUE_HOOKS == (
        "tradegw_translate",
        "tradegw_execute",
        "tradegw_stream",
        "tradegw_fetch",
    )
    specs = {name for name in dir(hookspecs) if name.startswith("tradegw_")}
    assert specs - set(VENUE_HOOKS) == {
        "tradegw_register_venues",
        "tradegw_register_event_sinks",
        "tradegw_register_secret_sources",
        "tradegw_register_wrappers",
        "tradegw_cli",
        "tradegw_check_order",
        "tradegw_on_event",
    }
    # An author's own class answers them without marking anything.
    for name in VENUE_HOOKS:
        assert getattr(getattr(Venue, name), "tradegw_impl", None) is not None


def test_the_scripted_plugin_offers_its_venue() -> None:
    plugins = load_plugins([ScriptedPlugin(ScriptedExchange(TurnedClock()), name="mine")])
    assert "mine" in plugins.venue_factories()
