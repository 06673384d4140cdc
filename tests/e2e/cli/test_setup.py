"""Commands that set up: init, config, migrate, plugins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli.conftest import check_refusal
from tests.e2e.processes import serving, tradegw


def settings(directory: Path, *words: str, **variables: Any) -> dict[str, dict[str, Any]]:
    done = tradegw("config", "check", "--json", *words, cwd=directory, **variables)
    assert done.returncode == 0, done.stderr
    return {row["key"]: row for row in json.loads(done.stdout)["settings"]}


def test_init_writes_what_serve_runs_with_and_never_overwrites(tmp_path: Path) -> None:
    without = settings(tmp_path)
    done = tradegw("init", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "tradegw.toml"
    assert file.read_text("utf-8") == tradegw("config", "print-default", cwd=tmp_path).stdout
    # Everything but the venue and the account is commented out, and they are the defaults.
    values = {key: row["value"] for key, row in settings(tmp_path).items()}
    assert values == {key: row["value"] for key, row in without.items()}
    file.write_text("# mine\n", "utf-8")
    check_refusal(tradegw("init", cwd=tmp_path), 2, "FILE_EXISTS", "tradegw.toml")
    assert file.read_text("utf-8") == "# mine\n"


def test_what_init_comments_out_is_the_default(tmp_path: Path) -> None:
    """Uncommenting every key changes nothing, but for the two that are examples."""
    without = settings(tmp_path)
    text = tradegw("config", "print-default", cwd=tmp_path).stdout
    lines = [
        line.removeprefix("# ") if " = " in line and not line.endswith(".") else line
        for line in text.splitlines()
    ]
    assert sum(a != b for a, b in zip(lines, text.splitlines(), strict=True)) >= 10
    (tmp_path / "tradegw.toml").write_text("\n".join(lines) + "\n", "utf-8")
    for key, row in settings(tmp_path).items():
        if "tags" not in key and "limits" not in key:
            assert row["value"] == without[key]["value"], key


def test_config_check_says_what_is_in_force_and_from_where(tmp_path: Path) -> None:
    (tmp_path / "tradegw.toml").write_text("[gateway]\ndrain_s = 3.5\n", "utf-8")
    found = settings(tmp_path, TRADEGW__LOG__LEVEL="DEBUG")
    assert found["gateway.drain_s"] == {
        "key": "gateway.drain_s",
        "value": 3.5,
        "source": "tradegw.toml",
    }
    assert found["log.level"]["source"] == "$TRADEGW__LOG__LEVEL"
    assert found["store.url"]["source"] == "the default"
    assert "gateway.drain_s" in tradegw("config", "check", cwd=tmp_path).stdout


def test_config_check_refuses_what_serve_would_refuse(tmp_path: Path) -> None:
    (tmp_path / "tradegw.toml").write_text(
        "[venues.x]\nplugin = 'mock'\nliquidty = 'none'\n[accounts.a]\nvenue = 'x'\n", "utf-8"
    )
    done = tradegw("config", "check", cwd=tmp_path)
    check_refusal(done, 2, "CONFIG_INVALID", "venues.x.liquidty")


def test_migrations_go_back_and_forth_while_no_gateway_runs(tmp_path: Path) -> None:
    check_refusal(tradegw("migrate", "status", cwd=tmp_path), 2, "CONFIG_INVALID", "tradegw.db")
    with serving(tmp_path) as gateway:
        check_refusal(tradegw("migrate", "up", cwd=tmp_path), 5, "STORE_IN_USE", str(gateway.pid))
        assert gateway.stop() == 0
    steps = json.loads(tradegw("migrate", "status", "--json", cwd=tmp_path).stdout)["steps"]
    assert steps
    assert all(step["applied_time_ns"] for step in steps)
    assert tradegw("migrate", "check", cwd=tmp_path).returncode == 0
    back = ["migrate", "down", "--to", "0"]
    check_refusal(tradegw(*back, cwd=tmp_path), 2, "NOT_CONFIRMED", "--yes")
    assert tradegw("migrate", "check", cwd=tmp_path).returncode == 0
    done = tradegw(*back, "--yes", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["steps"] == [step["number"] for step in reversed(steps)]
    check_refusal(tradegw("migrate", "check", cwd=tmp_path), 5, "SCHEMA_MISMATCH")
    assert tradegw("migrate", "up", cwd=tmp_path).returncode == 0
    assert tradegw("migrate", "check", cwd=tmp_path).returncode == 0


def test_plugins_are_listed_with_why_one_is_skipped(tmp_path: Path) -> None:
    listed = json.loads(tradegw("plugins", "--json", cwd=tmp_path).stdout)["plugins"]
    (mock,) = [plugin for plugin in listed if plugin["name"] == "mock"]
    assert (mock["name"], mock["distribution"], mock["error"]) == ("mock", "tradegw-mock", "")
    assert "tradegw_register_venues" in mock["hooks"]
    done = tradegw("plugins", cwd=tmp_path, TRADEGW_DISABLE_PLUGINS="mock")
    assert done.returncode == 0
    assert "disabled by TRADEGW_DISABLE_PLUGINS" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["--help"], [], ["-h"]])
def test_help_lists_every_command_and_exit_code(tmp_path: Path, words: list[str]) -> None:
    done = tradegw(*words, cwd=tmp_path)
    assert done.returncode == 0
    for line in ("order place", "serve", "migrate up", "mock", "Exit codes", "130"):
        assert line in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["ordr"], "order", id="a near miss"),
        pytest.param(["order", "plaice"], "place", id="below a group"),
        pytest.param(["orders", "extra"], "extra", id="too many words"),
        pytest.param(["orders", "--limit", "many"], "many", id="not a number"),
    ],
)
def test_a_wrong_command_line_is_said_on_one_line(
    tmp_path: Path, words: list[str], said: str
) -> None:
    check_refusal(tradegw(*words, cwd=tmp_path), 2, "USAGE", said)


def test_a_plugin_whose_commands_fail_is_named_and_the_others_work(tmp_path: Path) -> None:
    (tmp_path / "broken_cli.py").write_text(
        "from tradegw import hookimpl\n\n\n"
        "@hookimpl\ndef tradegw_cli(app):\n    raise KeyError('no such thing')\n",
        "utf-8",
    )
    info = tmp_path / "broken_cli-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: broken-cli\nVersion: 1.0\n", "utf-8"
    )
    (info / "entry_points.txt").write_text("[tradegw]\nbroken = broken_cli\n", "utf-8")
    done = tradegw("mock", "serve", "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0
    assert "mock serve" in done.stdout
    assert "plugin broken adds no commands: KeyError('no such thing')" in done.stderr
