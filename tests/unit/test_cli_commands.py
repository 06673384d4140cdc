"""Every command is there, explains itself, and costs nothing before it is called."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tradegw.transports.cli.app import COMMANDS, CommandInfo, build_app

paths = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.path)


def function_of(command: CommandInfo) -> Callable[..., Any]:
    module, _, name = command.function.partition(":")
    function: Callable[..., Any] = getattr(
        importlib.import_module(f"tradegw.transports.cli.{module}"), name
    )
    return function


@paths
def test_every_command_has_help_with_an_example(command: CommandInfo) -> None:
    text = inspect.cleandoc(function_of(command).__doc__ or "")
    assert "For example:" in text
    examples = text.partition("For example:")[2]
    assert re.search(rf"^    (\w+=\S+ )?tradegw {command.path}\b", examples, re.MULTILINE)


@paths
def test_every_option_is_explained(command: CommandInfo) -> None:
    function = function_of(command)
    # Python 3.13 takes a docstring's indentation away, the others leave it.
    text = inspect.cleandoc(function.__doc__ or "")
    # Those two are the same everywhere, and explained where they are defined.
    for name in set(inspect.signature(function).parameters) - {"asking", "json"}:
        assert re.search(rf"^    {name}: \S", text, re.MULTILINE), name


@paths
def test_the_application_knows_the_command(
    command: CommandInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = [*command.path.split(), "--help"]
    app = build_app(tokens, with_plugins=False)
    app(tokens)
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: tradegw {command.path}")
    assert "For example:" in shown


def test_help_imports_nothing_heavy() -> None:
    """It must appear at once: neither a door nor a store is loaded to list the commands."""
    program = (
        "import sys\n"
        "from tradegw.transports.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as e:\n    assert e.code == 0\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(re.findall(r"'(\w+)'", done.stderr))
    assert "cyclopts" in loaded
    heavy = {"grpc", "google", "sqlite3", "psycopg", "rich", "starlette", "uvicorn", "structlog"}
    assert not heavy & loaded
