"""Each deliberate defect is caught by the history of a seed, which is clean without it."""

from __future__ import annotations

import pytest

from tests.simulation.history import run_history
from tests.simulation.mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", [pytest.param(m, id=m.name) for m in MUTANTS])
def test_a_defect_is_caught_by_its_seed(mutant: Mutant) -> None:
    for seed in mutant.seeds:
        with mutant.at_large():
            caught = run_history(seed).violations
        assert not run_history(seed).violations, (
            f"seed {seed} finds fault without the defect as well"
        )
        if caught:
            return
    raise AssertionError(f"seeds {mutant.seeds} catch it no more: find others, or find out why")
