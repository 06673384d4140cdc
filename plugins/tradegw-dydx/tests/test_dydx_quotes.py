"""The example bot on the local chain: its ledger, the gateway's and the chain's are one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BOT = Path(__file__).parents[3] / "examples" / "dydx_quotes.py"


def quote(directory, blocks, seed):
    done = subprocess.run(
        [sys.executable, str(BOT), "--blocks", str(blocks), "--seed", str(seed)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"fills\s+bot (\d+)  gateway (\d+)", done.stdout)
    assert told is not None
    assert told[1] == told[2] != "0"
    assert done.stdout.count("  agree\n") == 2
    assert f"to height {blocks + 1}\n" in done.stdout


def test_the_ledgers_agree(tmp_path):
    quote(tmp_path, blocks=80, seed=1)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_ledgers_agree_after_a_thousand_blocks(tmp_path, seed):
    quote(tmp_path, blocks=1000, seed=seed)
