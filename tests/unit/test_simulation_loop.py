"""The loop in virtual time: it leaps, waits for threads, repeats itself by seed, and lets processes die."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tradegw.testing.simulation import NothingHappens, SimulatedClock, SimulationLoop, simulate

HOUR_S = 3600


def test_time_leaps_to_what_is_due() -> None:
    async def main(loop: SimulationLoop) -> list[float]:
        clock = SimulatedClock(loop)
        start_ns = clock.time_ns()
        told: list[float] = []

        async def wait(seconds: float) -> None:
            await clock.sleep(seconds)
            told.append((clock.time_ns() - start_ns) / 1e9)

        async with asyncio.TaskGroup() as group:
            for seconds in (3 * HOUR_S, HOUR_S, 2 * HOUR_S):
                group.create_task(wait(seconds))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HOUR_S):
                await loop.create_future()
        return told

    assert simulate(main) == [HOUR_S, 2 * HOUR_S, 3 * HOUR_S]


def test_time_stands_still_while_a_thread_works() -> None:
    async def main(loop: SimulationLoop) -> list[float]:
        begun, told = threading.Event(), []

        def work() -> float:
            begun.wait()
            return loop.time()

        async def later() -> None:
            await asyncio.sleep(HOUR_S)
            told.append(loop.time())

        waiting = loop.create_task(later())
        answer = loop.run_in_executor(None, work)
        threading.Timer(0.01, begun.set).start()
        told.append(await answer)
        await waiting
        return told

    assert simulate(main) == [0, HOUR_S]


def test_an_error_of_a_thread_is_raised_where_it_is_awaited() -> None:
    async def main(loop: SimulationLoop) -> None:
        await loop.run_in_executor(None, lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        simulate(main)


def test_a_deadlock_is_told() -> None:
    async def main(loop: SimulationLoop) -> None:
        await loop.create_future()

    with pytest.raises(NothingHappens):
        simulate(main)


def test_a_seed_draws_the_order_and_repeats_it() -> None:
    async def main(loop: SimulationLoop) -> list[int]:
        told: list[int] = []

        async def one(number: int) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
                told.append(number)

        await asyncio.gather(*(one(number) for number in range(5)))
        return told

    assert simulate(main) == [0, 1, 2, 3, 4] * 3
    orders = {tuple(simulate(main, seed=seed)) for seed in range(20)}
    assert len(orders) > 10
    assert simulate(main, seed=7) == simulate(main, seed=7)


def test_nothing_of_a_killed_process_runs_any_more() -> None:
    told: list[Any] = []

    async def main(loop: SimulationLoop) -> None:
        process, gate = loop.process("doomed"), loop.create_future()

        async def tick() -> None:
            try:
                while True:
                    await asyncio.sleep(1)
                    told.append(loop.time())
            finally:
                told.append("finally")

        async def family() -> None:
            loop.call_later(5, told.append, "a timer")
            async with asyncio.TaskGroup() as group:
                group.create_task(tick())
                group.create_task(asyncio.shield(gate))  # type: ignore[arg-type]

        async def wait() -> None:
            await gate
            told.append("woken")

        process.run(tick())
        process.run(wait())
        loop.call_later(2.5, process.kill)
        await asyncio.sleep(10)
        assert told == [1, 2]
        gate.set_result(None)
        await asyncio.sleep(10)
        assert told == [1, 2]

    simulate(main)


def test_a_process_that_dies_in_the_middle_of_a_turn_schedules_nothing() -> None:
    told: list[str] = []

    async def main(loop: SimulationLoop) -> None:
        process = loop.process("doomed")

        async def work() -> None:
            process.kill()
            loop.call_soon(told.append, "soon")
            loop.call_later(1, told.append, "later")
            asyncio.ensure_future(asyncio.sleep(1)).add_done_callback(lambda _: told.append("done"))

        process.run(work())
        await asyncio.sleep(5)

    simulate(main)
    assert told == []
