"""Runs many histories, in as many processes as one likes: what they add up to is the same."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.synchronize import Event

from tests.simulation.history import run_history
from tests.simulation.report import Totals

PART = 10
"""So many histories a process runs before it tells."""


def run_parts(
    first: int, count: int, processes: int, *, size: int = PART, postgres: str | None = None
) -> Iterator[tuple[Totals, float]]:
    """Yield what parts of the seeds add up to, each with its machine time in seconds.

    Args:
        postgres: The URL of a store that may be emptied, which one process at a time can use.
    """
    assert processes == 1 or postgres is None
    seeds = range(first, first + count)
    if processes == 1:
        yield from (run_part(range(seed, seed + 1), postgres) for seed in seeds)
        return
    context = multiprocessing.get_context("spawn")
    is_over = context.Event()
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=heed, initargs=(is_over,)
    ) as pool:
        try:
            parts = [pool.submit(run_part, seeds[i : i + size]) for i in range(0, len(seeds), size)]
            for part in as_completed(parts):
                yield part.result()
        finally:
            # The others end with the history that they are in.
            is_over.set()
            pool.shutdown(cancel_futures=True)


_IS_OVER: list[Event] = []


def heed(is_over: Event) -> None:
    """Have this process stop when another has found something."""
    _IS_OVER.append(is_over)


def run_part(seeds: Sequence[int], postgres: str | None = None) -> tuple[Totals, float]:
    """Run some seeds, up to the first that breaks a promise."""
    totals, used_s = Totals(), time.process_time()
    for seed in seeds:
        if totals.failed or any(is_over.is_set() for is_over in _IS_OVER):
            break
        outcome = run_history(seed, postgres=postgres)
        totals.add(outcome)
    return totals, time.process_time() - used_s
