"""Whole programs in one thread under a clock that nobody waits for: `simulate` runs a coroutine so.

Time stands still while anything can run, and then leaps to the next moment at which something is due. Calls
in threads are waited for before it does. What runs when is drawn from a seed, and from nothing else, so that
a seed replays a history. A `Process` groups tasks that die together, as those of a killed program do.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import threading
import warnings
from asyncio import base_events, events
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_threads
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

__all__ = ["NothingHappens", "Process", "SimulatedClock", "SimulationLoop", "simulate"]

T = TypeVar("T")

NS_PER_S = 1_000_000_000
_FAREWELLS_MAX = 20
EPOCH_NS = 1_750_000_000 * NS_PER_S

_PROCESS: ContextVar[Process | None] = ContextVar("tradegw_simulated_process", default=None)


class NothingHappens(Exception):
    """Everybody waits for somebody, and nothing is due: a deadlock."""


class Process:
    """Tasks that die together. What they start belongs to it, callbacks and timers included.

    Attributes:
        is_alive: Whether it was not killed.
    """

    def __init__(self, loop: SimulationLoop, name: str) -> None:
        self.name = name
        self.is_alive = True
        self._loop = loop
        self._tasks: list[asyncio.Task[Any]] = []
        self._context = copy_context()
        self._context.run(_PROCESS.set, self)

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task of the process."""
        assert self.is_alive, f"process {self.name} is dead"
        return self._loop.create_task(work, context=self._context.copy())

    def kill(self) -> None:
        """End it where it stands: no cleanup, no goodbye. Nothing of it runs any more.

        A call that it has in a thread may still be carried out; its result goes nowhere.
        """
        if self.is_alive:
            self.is_alive = False
            self._loop.bury(self)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Take note of a task, so that it is put away when the simulation ends."""
        self._tasks.append(task)

    def put_away(self) -> None:
        """Let go of its tasks, when the loop is closed and nothing that they do matters any more."""
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
                _close(task.get_coro())
        self._tasks.clear()


class _Task(asyncio.Task[T]):
    """A task whose place in a set does not hang on where it lies in memory."""

    __slots__ = ("_number",)

    def __init__(self, *args: Any, number: int, **kwargs: Any) -> None:
        self._number = number
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Future(asyncio.Future[T]):
    """The same for a future."""

    __slots__ = ("_number",)

    def __init__(self, *, loop: SimulationLoop, number: int) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulationLoop(base_events.BaseEventLoop):
    """An event loop in virtual time, without sockets.

    Args:
        seed: What the order of things that could happen at once is drawn from; None keeps the order in
            which they became ready, as asyncio does.
        thread_delay_s: Returns how long, in virtual time, a call in a thread takes.
    """

    def __init__(
        self, seed: int | None = None, *, thread_delay_s: Callable[[], float] | None = None
    ) -> None:
        super().__init__()
        self.turns = 0
        # BaseEventLoop's own: what runs next, and what is due later, as a heap.
        self._ready: deque[events.Handle]
        self._scheduled: list[events.TimerHandle]
        self._rng = None if seed is None else random.Random(seed)
        self._thread_delay_s = thread_delay_s
        self._now = 0.0
        self._numbers = 0
        self._calls: list[tuple[Future[Any], asyncio.Future[Any]]] = []
        self._from_threads: deque[events.Handle] = deque()
        self._owner = threading.get_ident()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="simulated")
        self._is_over = False
        self._processes: list[Process] = []
        # What BaseEventLoop asks for events of sockets: here for the next moment.
        self._selector = self
        self.set_task_factory(self._make_task)

    # --- time -----------------------------------------------------------------------------------

    def time(self) -> float:
        """Return the virtual time in seconds, from 0."""
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Wait for threads; then, if nothing can run, let time leap to what is due next.

        Raises:
            NothingHappens: Nothing is ever due.
        """
        self.turns += 1
        if self._calls:
            self._finish_calls()
        ready = self._ready
        while self._from_threads:
            ready.append(self._from_threads.popleft())
        if ready:
            if self._rng is not None and len(ready) > 1:
                shuffled = list(ready)
                self._rng.shuffle(shuffled)
                ready.clear()
                ready.extend(shuffled)
            return []
        if timeout is None:
            raise NothingHappens(f"at {self._now} s nothing can happen any more")
        if timeout > 0:
            scheduled = self._scheduled
            self._now = max(self._now, scheduled[0].when())
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: there are no sockets."""

    def _write_to_self(self) -> None:
        """Do nothing: whoever calls from a thread is waited for."""

    # --- threads --------------------------------------------------------------------------------

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run something in a thread. The loop stands still until it is done."""
        future: asyncio.Future[T] = self.create_future()
        pool = self._threads if executor is None else executor
        self._calls.append((pool.submit(func, *args), future))
        return future

    def _finish_calls(self) -> None:
        calls, self._calls = self._calls, []
        wait_for_threads([worker for worker, _ in calls])
        for worker, future in calls:
            if self._thread_delay_s is None:
                _copy(worker, future)
            else:
                self.call_later(self._thread_delay_s(), _copy, worker, future)

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.Handle:
        """Call something on the loop, from any thread."""
        if threading.get_ident() == self._owner:
            return self.call_soon(callback, *args, context=context)
        handle = events.Handle(callback, args, self, context)
        self._from_threads.append(handle)
        return handle

    # --- processes ------------------------------------------------------------------------------

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> events.Handle:
        """Call something in the next turn, unless its process is dead."""
        if context is None:
            context = copy_context()
        if self._is_dead(context):
            return _cancelled(events.Handle(callback, args, self, context))
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> events.TimerHandle:
        """Call something at a moment, unless its process is dead by then."""
        if context is None:
            context = copy_context()
        if self._is_dead(context):
            timer = events.TimerHandle(when, callback, args, self, context)
            timer._cancelled = True  # noqa: SLF001
            return timer
        return super().call_at(when, callback, *args, context=context)

    def _is_dead(self, context: Context) -> bool:
        process = context.get(_PROCESS)
        return self._is_over or (process is not None and not process.is_alive)

    def process(self, name: str) -> Process:
        """Return a new process."""
        process = Process(self, name)
        self._processes.append(process)
        return process

    def bury(self, process: Process) -> None:
        """Drop all that a process would still have done."""
        ready = self._ready
        scheduled = self._scheduled
        for handle in ready:
            if handle._context.get(_PROCESS) is process:  # type: ignore[attr-defined]  # noqa: SLF001
                handle.cancel()
        kept = [h for h in scheduled if h._context.get(_PROCESS) is not process]  # type: ignore[attr-defined]  # noqa: SLF001
        scheduled[:] = kept
        heapq.heapify(scheduled)

    # --- tasks ----------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future with a number of its own."""
        self._numbers += 1
        return _Future(loop=self, number=self._numbers)

    def _make_task(self, loop: Any, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        self._numbers += 1
        task: asyncio.Task[Any] = _Task(coro, loop=self, number=self._numbers, **kwargs)
        process = (kwargs.get("context") or copy_context()).get(_PROCESS)
        if process is not None:
            process.adopt(task)
        return task

    def end(self) -> None:
        """Put away what is left, without letting any of it do anything more."""
        self._is_over = True
        self._threads.shutdown()
        self.set_exception_handler(lambda loop, context: None)
        self.close()
        for process in self._processes:
            process.put_away()


def _close(coroutine: Any) -> None:
    """Close a coroutine that may await something on its way out, and then something else."""
    # What it leaves behind is let go of in here, so that nobody is told of it later.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(_FAREWELLS_MAX):
            with suppress(BaseException):
                coroutine.close()
                return


def _copy(worker: Future[Any], future: asyncio.Future[Any]) -> None:
    if future.done():
        return
    error = worker.exception()
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(worker.result())


def _cancelled(handle: events.Handle) -> events.Handle:
    handle.cancel()
    return handle


class SimulatedClock:
    """A `ports.Clock` in the virtual time of a loop.

    Attributes:
        offset_ns: How far it is from the true time. It may be set, as an administrator sets a clock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, offset_ns: int = 0) -> None:
        self.offset_ns = offset_ns
        self._loop = loop

    def time_ns(self) -> int:
        """Return nanoseconds since the epoch, UTC."""
        return EPOCH_NS + self.offset_ns + self.monotonic_ns()

    def monotonic_ns(self) -> int:
        """Return nanoseconds since the simulation began."""
        return round(self._loop.time() * NS_PER_S)

    async def sleep(self, seconds: float) -> None:
        """Wait, in virtual time."""
        await asyncio.sleep(seconds)


def simulate(
    main: Callable[[SimulationLoop], Coroutine[Any, Any, T]],
    *,
    seed: int | None = None,
    thread_delay_s: Callable[[], float] | None = None,
) -> T:
    """Run a coroutine to its end in virtual time, and return what it returned.

    ```python
    async def main(loop: SimulationLoop) -> float:
        await asyncio.sleep(3600)
        return loop.time()


    assert simulate(main) == 3600
    ```
    """
    loop = SimulationLoop(seed, thread_delay_s=thread_delay_s)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.end()
