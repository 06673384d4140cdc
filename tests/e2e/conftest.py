"""An exchange in a process of its own, and a way to say what was counted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tradegw_mock.testing import MockProcess


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[MockProcess]:
    """A mock exchange that forgets nothing, with the account `paper`."""
    with MockProcess(store=tmp_path / "exchange.db", accounts=["paper"]) as process:
        yield process


@pytest.fixture
def tell(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Callable[[str], None]:
    """Print a line of the report, whether output is captured or not, or one of several processes tests."""

    def write(text: str) -> None:
        request.node.user_properties.append(("told", text))
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    return write
