"""Unmodified exchange clients trade here, each in an environment of its own: `nox -s clients` makes them.

The exchange runs in another process, by the Python that `TRADEGW_MOCK_PYTHON` names.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PYTHON = os.environ.get("TRADEGW_MOCK_PYTHON", "")
README = Path(__file__).parents[1] / "README.md"

# Where the repository's own tests are run, these clients are not installed.
collect_ignore_glob = [] if PYTHON else ["test_*.py"]

_SNIPPETS = ("ccxt", "ccxt.pro", "python-binance", "binance-sdk-spot")


Point = Callable[[str, Mapping[str, Any]], dict[str, Any]]


@pytest.fixture(scope="session")
def point(serving: SimpleNamespace) -> Point:
    """Point a client here as the README says it: the client's name, and what is imported for it."""
    return lambda client, names: _pointed(client, serving, names)


def _pointed(client: str, serving: SimpleNamespace, names: Mapping[str, Any]) -> dict[str, Any]:
    """Run what the README says; give the names that it leaves."""
    section = README.read_text("utf-8").split("## The Binance-compatible doors")[1]
    blocks = re.findall(
        r"^```python\n(.*?)^```$", section.split("\n## ")[0], re.MULTILINE | re.DOTALL
    )
    found = dict(names)
    found |= {"rest": serving.rest, "ws_api": serving.ws_api, "stream": serving.stream}
    account = serving.accounts[0]
    found |= {"key": account["api_key"], "secret": account["api_secret"]}
    exec(dict(zip(_SNIPPETS, blocks, strict=True))[client], found)
    return found


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """An exchange with its defaults, but for the limits: clients together are faster than one trader."""
    config = tmp_path_factory.mktemp("mock") / "mock.toml"
    config.write_text("step_interval_s = 0.2\n[limits]\nenforced = false\n")
    command = [PYTHON, "-m", "tradegw_mock", "serve", "--port", "0", "--json"]
    with subprocess.Popen([*command, "--config", str(config)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield SimpleNamespace(**json.loads(process.stdout.readline()))
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
