"""Histories of whole gateways in virtual time: a fixed number, and a few that nobody has seen."""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from tradegw_mock.chaos import FaultKind

from tests.postgres_servers import NAMES
from tests.simulation import __main__ as command
from tests.simulation import cells
from tests.simulation.cells import COMMANDS, COMMANDS_OF, IN_FLIGHT, POSSIBLE, STATUSES, Impossible
from tests.simulation.history import Outcome, run_history
from tests.simulation.parts import run_parts
from tests.simulation.report import Totals
from tests.simulation.world import CRASH_POINTS, NOT_REACHED
from tradegw.engine.crash import CrashPoint
from tradegw.engine.engine import Engine

FIXED = 60
FRESH = 20
ON_POSTGRES = 1
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


def run(first: int, count: int, postgres: str | None = None) -> Totals:
    totals = Totals()
    for seed in range(first, first + count):
        outcome = run_history(seed, postgres=postgres)
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


def test_a_history_leaves_no_gateway_behind() -> None:
    """Thousands run in one process, and each kills a few."""

    def alive() -> int:
        gc.collect()
        return sum(isinstance(thing, Engine) for thing in gc.get_objects())

    before = alive()
    outcome = run_history(2)
    assert outcome.counts["restarts"]
    assert alive() <= before


def test_histories_with_fresh_seeds_keep_every_promise(tell: Tell) -> None:
    first = random.randrange(10**6, 10**9)
    tell(f"fresh seeds from {first} on")
    run(first, FRESH)


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
def test_ten_thousand_histories_keep_every_promise_and_reach_every_cell(tell: Tell) -> None:
    first = random.randrange(10**6, 10**9)
    tell(f"seeds from {first} on")
    totals = Totals()
    for part, _ in run_parts(first, 10_000, 2):
        assert not part.failed, broken(part.failed[0])
        totals.merge(part)
    tell("\n".join(totals.lines()))
    assert not totals.rare()


def test_two_processes_find_what_one_does() -> None:
    alone = Totals()
    for part, used_s in run_parts(1, 2, 1):
        assert used_s > 0
        alone.merge(part)
    together = Totals()
    for part, _ in run_parts(1, 2, 2, size=1):
        together.merge(part)
    assert alone.histories == 2
    assert list(alone.lines()) == list(together.lines())


def test_the_first_broken_promise_ends_a_run_in_every_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken_part = Totals()
    broken_part.add(Outcome(4, ["lost"]))
    asked: list[Totals] = []

    def parts(*_: object, **__: object) -> Iterator[tuple[Totals, float]]:
        for part in (Totals(), broken_part, Totals()):
            asked.append(part)
            yield part, 0.5

    monkeypatch.setattr(command, "run_parts", parts)
    assert command.main(["--seeds", "30", "--first-seed", "1", "--processes", "2"]) == 1
    told = capsys.readouterr().out
    assert "python3 -m nox -s simulate -- --seed 4" in told
    assert "machine time 1 s" in told
    assert len(asked) == 2


def test_every_crash_point_is_played_or_left_out_for_a_reason() -> None:
    assert set(CRASH_POINTS) | set(NOT_REACHED) == set(CrashPoint)
    assert not set(CRASH_POINTS) & set(NOT_REACHED)


def test_every_kind_of_fault_has_its_cells_or_is_about_no_order() -> None:
    alone = {FaultKind.CLOCK_SKEW, FaultKind.STALE_OPEN_ORDERS}
    assert {*COMMANDS_OF} - {*IN_FLIGHT} == set(FaultKind) - alone - {FaultKind.RESTART}


def test_an_impossible_cell_that_is_reached_breaks_its_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everything = Impossible("none can be", COMMANDS_OF, COMMANDS, STATUSES)
    monkeypatch.setattr(cells, "IMPOSSIBLE", (everything,))
    assert any("reached though impossible" in told for told in run_history(1).violations)


def test_histories_on_postgres_keep_every_promise(
    tell: Tell, postgres_store: Callable[[str], str]
) -> None:
    """Fixed seeds, whose histories need not be equal: the server answers in the order that it likes."""
    totals = run(1, ON_POSTGRES, postgres_store(NAMES[0]))
    tell(f"on Postgres: {next(iter(totals.lines()))}")
    assert totals.mean("orders") >= 20


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("server", NAMES)
def test_more_histories_on_postgres_keep_every_promise(
    tell: Tell, postgres_store: Callable[[str], str], server: str
) -> None:
    totals = run(1, 200, postgres_store(server))
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
    struck = Counter({("ANSWER_LOST", "place", "FILLED"): 3, ("KILL", "cancel", "CANCELED"): 2})
    totals.add(Outcome(1, ["broken"], Counter(orders=4), struck))
    totals.add(Outcome(2, [], Counter(orders=2), struck))
    lines = list(totals.lines())
    assert lines[0].startswith("2 histories, 1 with violations; in each 3.0 orders")
    row = ["ANSWER_LOST", "place", *["0", "0", "0", "6", "-", "-", "0"]]
    assert any(line.split() == row for line in lines)
    assert len(totals.rare()) == len(POSSIBLE)
