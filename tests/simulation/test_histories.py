"""Histories of whole gateways in virtual time: a fixed number, and a few that nobody has seen."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from tests.simulation.history import Outcome, run_history
from tests.simulation.report import Totals

FIXED = 30
FRESH = 8
REPLAYED = (3, 8)
"""One of each kind of store among them."""

Tell = Callable[[str], None]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Print a line of the report, whether output is captured or not."""

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    return write


def run(first: int, count: int) -> Totals:
    totals = Totals()
    for seed in range(first, first + count):
        outcome = run_history(seed)
        totals.add(outcome)
        assert not outcome.violations, broken(outcome)
    return totals


def broken(outcome: Outcome) -> str:
    told = "\n".join(outcome.violations)
    return f"seed {outcome.seed}; its story: nox -s simulate -- --seed {outcome.seed}\n{told}"


def test_histories_with_fixed_seeds_keep_every_promise(tell: Tell) -> None:
    totals = run(1, FIXED)
    tell(next(iter(totals.lines())))
    # Of what is drawn there must be enough for a promise to be at stake.
    assert totals.mean("orders") >= 30
    assert totals.mean("faults") >= 3
    assert totals.mean("restarts") >= 1
    assert sum(n for what, n in totals.counts.items() if what.startswith("crash ")) > FIXED / 4


def test_histories_with_fresh_seeds_keep_every_promise(tell: Tell) -> None:
    first = random.randrange(10**6, 10**9)
    tell(f"fresh seeds from {first} on")
    run(first, FRESH)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_ten_thousand_histories_keep_every_promise(tell: Tell) -> None:
    first = random.randrange(10**6, 10**9)
    tell(f"seeds from {first} on")
    totals = run(first, 10_000)
    tell("\n".join(totals.lines()))


@pytest.mark.parametrize("seed", REPLAYED)
def test_a_seed_replays_its_history(seed: int) -> None:
    """In this process, and in others, whose sets of names have another order."""
    told = json.loads(json.dumps(run_history(seed, is_telling=True).story))
    assert len(told) > 100
    program = (
        "import json, sys; from tests.simulation.history import run_history;"
        f"json.dump(run_history({seed}, is_telling=True).story, sys.stdout)"
    )
    for variable in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": variable, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            timeout=100,
        )
        again = json.loads(done.stdout)
        differing = next(
            (pair for pair in zip(told, again, strict=False) if pair[0] != pair[1]), None
        )
        assert differing is None, differing
        assert len(told) == len(again)


def test_the_table_tells_what_faults_struck() -> None:
    totals = Totals()
    cells = Counter({("ANSWER_LOST", "place", "FILLED"): 3, ("KILL", "cancel", "CANCELED"): 2})
    totals.add(Outcome(1, ["broken"], Counter(orders=4), cells))
    totals.add(Outcome(2, [], Counter(orders=2), cells))
    lines = list(totals.lines())
    assert lines[0].startswith("2 histories, 1 with violations; in each 3.0 orders")
    assert any(
        line.split() == ["ANSWER_LOST", "place", *["0", "0", "6", "0", "0", "0"]] for line in lines
    )
