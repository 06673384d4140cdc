"""Run histories by their seeds, and tell what came of them.

python -m tests.simulation --seeds 1000 [--first-seed S] [--processes N]
python -m tests.simulation --seed S                 the story of one
python -m tests.simulation --mutant NAME --seeds N  the first seed that catches a defect
python -m tests.simulation --mutant NAME --test ID  a test, which is to fail with the defect
python -m tests.simulation --store postgres ...     with a store on a server of its own, or at a URL
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from contextlib import ExitStack

import pytest

from codegen.postgres import throwaway_database
from tests.postgres_servers import make_store
from tests.simulation.history import Outcome, run_history
from tests.simulation.mutants import MUTANTS
from tests.simulation.parts import run_parts
from tests.simulation.report import Totals, story_lines

TELL_EVERY_S = 30.0


def main(words: list[str] | None = None) -> int:
    """Run what the command line asks for. Returns the exit code: 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first-seed", type=int, help="the first; a fresh one unless it is given")
    parser.add_argument("--seed", type=int, help="one, and its story")
    parser.add_argument("--mutant", choices=[m.name for m in MUTANTS], help="with this defect")
    parser.add_argument("--test", help="no history: this test of pytest's")
    parser.add_argument("--for-s", type=float, help="begin no more histories after so many seconds")
    parser.add_argument("--processes", type=int, default=1, help="run so many side by side")
    parser.add_argument("--store", help="postgres, or the URL of a store that may be emptied")
    args = parser.parse_args(words)
    with ExitStack() as stack:
        postgres: str | None = args.store
        if postgres == "postgres":
            url = stack.enter_context(throwaway_database())
            make_store(url)
            postgres = url
        if args.mutant:
            mutant = next(m for m in MUTANTS if m.name == args.mutant)
            stack.enter_context(mutant.at_large())
        if args.test is not None:
            return pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", args.test])
        if args.seed is not None:
            return tell(run_history(args.seed, is_telling=True, postgres=postgres))
        first = random.randrange(10**9) if args.first_seed is None else args.first_seed
        return run_many(
            first,
            args.seeds,
            is_hunting=bool(args.mutant),
            for_s=args.for_s,
            processes=1 if args.mutant or postgres else args.processes,
            postgres=postgres,
        )


def tell(outcome: Outcome) -> int:
    """Print the story of a history."""
    for line in story_lines(outcome.story):
        say(line)
    say(f"seed {outcome.seed}: {len(outcome.violations)} violations")
    for violation in outcome.violations:
        say(f"  {violation}")
    return 1 if outcome.violations else 0


def run_many(
    first: int,
    count: int,
    *,
    is_hunting: bool,
    for_s: float | None,
    processes: int,
    postgres: str | None,
) -> int:
    """Run seeds from `first` on, and stop at the first that breaks a promise."""
    started, told = time.monotonic(), time.monotonic()
    say(f"seeds {first} to {first + count - 1}")
    totals, used_s = Totals(), 0.0
    for part, part_s in run_parts(first, count, processes, postgres=postgres):
        totals.merge(part)
        used_s += part_s
        now = time.monotonic()
        for outcome in part.failed:
            say(f"seed {outcome.seed} breaks a promise; its story:")
            say(f"  python3 -m nox -s simulate -- --seed {outcome.seed}")
            for violation in outcome.violations[:5]:
                say(f"  {violation}")
        if part.failed or (for_s is not None and now - started > for_s):
            break
        if now - told > TELL_EVERY_S:
            told = now
            say(f"{totals.histories} histories, machine time {used_s:.0f} s")
    if is_hunting and totals.failed:
        return 1
    for line in totals.lines():
        say(line)
    say(
        f"machine time {used_s:.0f} s, {60 * totals.histories / max(0.01, used_s):.0f} histories a minute "
        f"of it; on the wall {time.monotonic() - started:.0f} s, in {processes} processes"
    )
    return 1 if totals.failed else 0


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if "PYTHONHASHSEED" not in os.environ:
        # The order of names in a set must not hang on the process either.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    sys.exit(main())
