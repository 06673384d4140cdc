"""What all tests share: real Postgres servers, each started once, and told of at the end of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import postgres_servers

# How long an example takes tells of the machine, and of nothing that is tested.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

LONGEST = ("tests/e2e", "tests/simulation", "plugins", "tests/integration")
"""Whose files take the longest: whole processes, whole gateways, real stores."""

_VERSIONS = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session")
def postgres_server(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[str], postgres_servers.Server]]:
    """Gives the server of a name, `postgres18` or `postgres15`."""
    with ExitStack() as running:
        servers: dict[str, postgres_servers.Server] = {}

        def get(name: str) -> postgres_servers.Server:
            if name not in servers:
                servers[name] = running.enter_context(postgres_servers.serve(name))
                versions = request.config.stash.setdefault(_VERSIONS, {})
                versions[name] = servers[name].version
            return servers[name]

        yield get


@pytest.fixture(scope="session")
def _postgres_stores(
    postgres_server: Callable[[str], postgres_servers.Server],
) -> Iterator[Callable[[str], str]]:
    with ExitStack() as made:
        urls: dict[str, str] = {}

        def get(name: str) -> str:
            if name not in urls:
                urls[name] = made.enter_context(postgres_server(name).store())
            return urls[name]

        yield get


@pytest.fixture
def postgres_store(_postgres_stores: Callable[[str], str]) -> Callable[[str], str]:
    """Gives the URL of a store on the server of a name, empty at the start of the test."""

    def get(name: str) -> str:
        url = _postgres_stores(name)
        postgres_servers.empty(url)
        return url

    return get


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long first: a file stays in one process, and the last one would run alone."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    folders = (n for n, folder in enumerate(LONGEST) if item.nodeid.startswith(f"{folder}/"))
    return next(folders, len(LONGEST))


class _Told:
    """Prints what tests in other processes told, whose output nobody sees."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.when != "call" or terminal is None or not hasattr(report, "node"):
            return
        for name, text in report.user_properties:
            if name == "told":
                terminal.write_line(f"\n{report.nodeid}\n{text}")


def pytest_configure(config: pytest.Config) -> None:
    """Print what other processes tell."""
    config.pluginmanager.register(_Told(config))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Hear from a worker which servers it had."""
    versions = getattr(node, "workeroutput", {}).get("postgres", {})
    node.config.stash.setdefault(_VERSIONS, {}).update(versions)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell whoever started this worker which servers it had."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["postgres"] = session.config.stash.get(_VERSIONS, {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the versions of the servers that tests ran on."""
    for name, version in sorted(config.stash.get(_VERSIONS, {}).items()):
        terminalreporter.write_line(f"ran on {name}: PostgreSQL {version}")
