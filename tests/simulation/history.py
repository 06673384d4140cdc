"""One history: a storm of some seconds, then calm, then the question whether every promise was kept."""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.simulation.cells import ABSENT, Cell, why_impossible
from tests.simulation.invariants import check
from tests.simulation.world import Killed, World, held_still
from tradegw.testing.simulation import SimulationLoop, simulate

STORM_S = 16.0
CALM_S = 150.0
"""Longer than two rounds of the slowest upkeep, by which a loss in silence is found."""
PATIENCE_S = 900.0


@dataclass
class Outcome:
    """What came of a history.

    Attributes:
        cells: What faults struck: (fault, command, how the order stood), with counts.
        ends: How those orders ended: (fault, command, status), with counts.
    """

    seed: int
    violations: list[str]
    counts: Counter[str] = field(default_factory=Counter[str])
    cells: Counter[Cell] = field(default_factory=Counter[Cell])
    ends: Counter[Cell] = field(default_factory=Counter[Cell])
    story: list[tuple[float, str, str]] = field(default_factory=list[tuple[float, str, str]])


class _Teller(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.tell("log", f"{record.levelname} {record.getMessage()}")


def run_history(seed: int, *, is_telling: bool = False, postgres: str | None = None) -> Outcome:
    """Run the history of a seed.

    Args:
        postgres: URL of a store that it may empty and use; two runs may differ then.
    """
    with held_still(seed):
        rng = random.Random(f"{seed}:loop")

        async def main(loop: SimulationLoop) -> Outcome:
            return await _live(loop, seed, is_telling=is_telling, postgres=postgres)

        order = rng.randrange(2**32) if rng.random() < 0.5 else None
        disabled = logging.root.manager.disable
        # Also while tasks of the dead are put away, which have last words.
        logging.disable(logging.CRITICAL)
        try:
            return simulate(main, seed=order, thread_delay_s=lambda: rng.random() * 0.002)
        finally:
            logging.disable(disabled)


async def _live(
    loop: SimulationLoop, seed: int, *, is_telling: bool, postgres: str | None
) -> Outcome:
    world = World.current = World(
        loop, seed, _directory(), is_telling=is_telling, postgres=postgres
    )
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    with ExitStack() as stack:
        if is_telling:
            teller = _Teller(world)
            logger = logging.getLogger("tradegw")
            logger.addHandler(teller)
            stack.callback(logger.removeHandler, teller)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.INFO)
            stack.callback(logging.disable, logging.CRITICAL)
            logging.disable(logging.NOTSET)
        try:
            orders = await _storm(world)
            cells, ends = _cells(world), _ends(world, orders)
        finally:
            World.current = None
            world.kill("is no longer needed")
            world.disk.close()
    for cell in cells:
        if (why := why_impossible(cell)) is not None:
            world.violate(f"reached though impossible, for {why}: {' '.join(cell)}")
    for context in errors:
        error = context.get("exception")
        if "Exception in callback" in context["message"] and not isinstance(error, Killed):
            world.violate(f"{context['message']}: {error!r}")
    return Outcome(
        seed=seed,
        violations=world.violations,
        counts=world.counts,
        cells=cells,
        ends=ends,
        story=world.story,
    )


async def _storm(world: World) -> list[Any]:
    storm_s = STORM_S
    await world.start_gateway()
    world.plan_faults(storm_s)
    await asyncio.gather(
        *(bot.trade(storm_s) for bot in world.bots),
        world.move_market(storm_s),
        world.restart_now_and_then(storm_s),
    )
    world.calm_down()
    calm_s = world.loop.time() + CALM_S
    while (world.unsettled() or world.loop.time() < calm_s) and (
        world.loop.time() < storm_s + PATIENCE_S
    ):
        await asyncio.sleep(1.0)
        if world.process is None:
            await world.start_gateway()
    return await check(world)


def _cells(world: World) -> Counter[Cell]:
    """Tell what faults struck, and how the order stood; what a placement made is known by now."""
    cells: Counter[Cell] = Counter()
    for fault, operation, account, name, stood in world.struck:
        status = stood
        if operation == "place":
            status = world.network.placed.get((account, name), ABSENT)
        cells[fault, operation, status] += 1
    return cells


def _ends(world: World, orders: list[Any]) -> Counter[Cell]:
    """Tell how the orders ended that faults struck; where none was, what they met alone."""
    by_name = {order.venue_client_order_id: order for order in orders}
    ends: Counter[Cell] = Counter()
    for fault, operation, _, name, _ in world.struck:
        order = by_name.get(name)
        ends[fault, operation, "-" if order is None else order.ord_status.value] += 1
    return ends


@cache
def _directory() -> Path:
    """Return a directory for store files, in memory where there is such a place."""
    shared = Path("/dev/shm")
    made = tempfile.TemporaryDirectory(
        prefix="tradegw-simulation-", dir=shared if shared.is_dir() else None
    )
    _KEPT.append(made)
    return Path(made.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []
