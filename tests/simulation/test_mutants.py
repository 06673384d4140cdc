"""Each deliberate defect is caught by the history of a seed, or by a test, which is clean without it."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.simulation.history import run_history
from tests.simulation.mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", [pytest.param(m, id=m.name) for m in MUTANTS if m.seeds])
def test_a_defect_is_caught_by_its_seed(mutant: Mutant) -> None:
    for seed in mutant.seeds:
        with mutant.at_large():
            caught = run_history(seed).violations
        assert is_clean(seed), f"seed {seed} finds fault without the defect as well"
        if caught:
            return
    raise AssertionError(f"seeds {mutant.seeds} catch it no more: find others, or find out why")


@cache
def is_clean(seed: int) -> bool:
    """Whether a seed finds nothing where there is no defect; once for all the defects that it catches."""
    return not run_history(seed).violations


@pytest.mark.timeout(320)
@pytest.mark.parametrize("mutant", [pytest.param(m, id=m.name) for m in MUTANTS if m.test])
def test_a_defect_is_caught_by_a_test(mutant: Mutant) -> None:
    """In a process of its own, for it is to fail there. Without the defect it passes with all the others."""
    assert mutant.test is not None
    words = [sys.executable, "-m", "tests.simulation"]
    words += ["--mutant", mutant.name, "--test", mutant.test]
    done = subprocess.run(
        words,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "1 failed in" in done.stdout
