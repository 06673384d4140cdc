"""What the how-to and the README say to write, is read as they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tradegw_dydx.config import DydxConfig

PLUGIN = Path(__file__).parent.parent
HOW_TO = PLUGIN.parent.parent / "docs" / "how-to" / "trade-dydx.md"
README = PLUGIN / "README.md"


def blocks(page, language):
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize("text", [*blocks(HOW_TO, "toml"), *blocks(README, "toml")])
def test_configurations(tmp_path, text):
    (tmp_path / "tradegw.toml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "tradegw.transports.cli", "config", "check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"DYDX_MNEMONIC": "words words", "DYDX_TRADING_KEY": "00" * 32},
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "words words" not in done.stdout


def test_every_setting_is_told():
    rows = re.findall(r"^\| (`.*?) \|", README.read_text("utf-8"), re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    settings = {field.name for field in msgspec.structs.fields(DydxConfig)}
    assert settings <= told
