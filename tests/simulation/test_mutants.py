"""Each deliberate defect is caught by the history of its seed, which is clean without it."""

from __future__ import annotations

import pytest

from tests.simulation.history import run_history
from tests.simulation.mutants import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", [pytest.param(m, id=m.name) for m in MUTANTS])
def test_a_defect_is_caught_by_its_seed(mutant: Mutant) -> None:
    assert not run_history(mutant.seed).violations
    with mutant.at_large():
        caught = run_history(mutant.seed).violations
    assert any(mutant.catches in violation for violation in caught), caught
    assert not run_history(mutant.seed).violations, "the defect has left something behind"
