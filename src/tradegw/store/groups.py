"""Group commit: whatever waits while one commit is under way shares the next.

What a group does is written once, as a coroutine over a `Database`. On SQLite it never suspends, and runs in
one thread; on Postgres it runs on the event loop. There the queue only hands it over, and tells everybody
what became of it.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tradegw._generated.queries import Queries
from tradegw.errors import CommitUnknown, StoreError, StoreUnavailable, TradegwError, UsageError
from tradegw.model import AccountId, OrderEvent
from tradegw.ports import Entry, Head, KeyTaken, Replayed, Stored
from tradegw.store import writes
from tradegw.store.connections import drive

__all__ = [
    "CommitFailed",
    "Database",
    "Done",
    "Doubt",
    "Fault",
    "Group",
    "GroupCommit",
    "InlineRunner",
    "LoopRunner",
    "Runner",
    "ThreadRunner",
    "Verdict",
]

_log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")
Listener = Callable[[Sequence[OrderEvent]], None]
Work = Callable[[Queries], Coroutine[Any, Any, Any]]
Group = Callable[[], Coroutine[Any, Any, StoreError | None]]
Done = Callable[[StoreError | None], None]

GROUP_MAX = 512
"""Writes in one commit: bounds how long the first of them waits for the last."""

_CANCEL_AGAIN_S = 0.2

WAITING_MAX = 65_536
"""Writes that may wait. Beyond, `StoreUnavailable` says so at once."""


class Fault(enum.Enum):
    """Whose an exception of a driver is, before COMMIT was asked."""

    JOB = enum.auto()
    """The statement's: such as text or a number that has no place in a column."""
    DATABASE = enum.auto()
    """The database's: the whole group fails."""
    PASSING = enum.auto()
    """The database's, and the same group may pass at once: a deadlock, a connection that had died."""


class Doubt(Exception):
    """A statement of a whole group's did not do what nearly always it does: begin anew, one by one."""


class CommitFailed(Exception):
    """COMMIT was asked, and something else came than that it was done. The cause is the driver's error."""


class Database(Protocol):
    """Where one group at a time becomes a transaction."""

    @property
    def Error(self) -> type[Exception]:  # noqa: N802  A class, as in the drivers.
        """What the driver raises."""
        ...

    async def begin(self) -> None:
        """Begin a transaction."""
        ...

    async def execute(self, command: str) -> None:
        """Run SAVEPOINT, ROLLBACK TO or RELEASE."""
        ...

    async def roll_back(self) -> None:
        """End the transaction and leave nothing of it. Raises nothing; may be called without one."""
        ...

    async def commit(self) -> None:
        """Make the transaction durable.

        Raises:
            CommitFailed: It may be durable, or not.
        """
        ...

    @property
    def queries(self) -> Queries:
        """The queries, inside the transaction, each answered before the next is asked."""
        ...

    def together(self) -> AbstractAsyncContextManager[Queries]:
        """Begin a transaction, yield its queries, and make it durable, unless the block raises.

        They may be sent as late as with COMMIT. A row count among them may be a guess, the usual one.

        Raises:
            Doubt: At the end: a guess was wrong, and COMMIT was not asked.
            CommitFailed: At the end: it may be durable, or not.
        """
        ...

    def fault(self, error: Exception) -> Fault:
        """Say whose an exception is."""
        ...

    def explain(self, error: Exception) -> StoreError:
        """Return the error of ours that an exception of the driver means, before COMMIT was asked."""
        ...

    async def find_out(
        self, error: Exception, heads: Mapping[AccountId, Head]
    ) -> StoreError | Verdict:
        """Say what a failed COMMIT left behind.

        Args:
            heads: Where the accounts' streams would end.
        """
        ...


class Verdict(enum.Enum):
    """What a COMMIT that failed left behind, when that is known."""

    STORED = enum.auto()
    AGAIN = enum.auto()
    """The transaction is over, and what it did may be done twice: run the group again."""


class Runner(Protocol):
    """Where groups run, one at a time."""

    def run(self, group: Group, done: Done) -> None:
        """Run a group, and call `done` on the event loop with what it returned."""
        ...

    def close(self) -> None:
        """Stop. No group is running."""
        ...

    async def abandon(self) -> None:
        """End the group that is running, wherever it stands, if it can be ended."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class _Job:
    """One write that waits, with what came of it."""

    work: Work | None
    entry: Entry | None
    future: asyncio.Future[Any]
    outcome: Any = None
    error: Exception | None = None


class GroupCommit:
    """The one writer of some accounts: on SQLite of all, on Postgres of one.

    A failure of a whole group stops the accounts in it, until `readmit`: their later entries were made from
    a state that was never stored.

    Args:
        database: Where groups are written. Only they use it.
        runner: Where they run.
        listeners: Told of each commit; `subscribe` adds to it.
    """

    def __init__(
        self, database: Database, runner: Runner, listeners: list[Listener] | None = None
    ) -> None:
        self._database = database
        self._runner = runner
        self._listeners: list[Listener] = [] if listeners is None else listeners
        self._waiting: deque[_Job] = deque()
        self._group: list[_Job] = []
        self._is_scheduled = False
        # As committed, and as the group under way would have them. Only groups use these two.
        self._heads: dict[AccountId, Head] = {}
        self._new_heads: dict[AccountId, Head] = {}
        self._stopped: set[AccountId] = set()
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with the events of each commit."""
        self._listeners.append(listener)

    def readmit(self, account_id: AccountId) -> None:
        """Take entries of an account again."""
        self._stopped.discard(account_id)

    async def append(self, entry: Entry) -> Stored | KeyTaken | Replayed:
        """Store an entry with the next commit."""
        if entry.account_id in self._stopped:
            raise _stopped(entry.account_id)
        result: Stored | KeyTaken | Replayed = await self._submit(None, entry)
        return result

    async def write(self, work: Callable[[Queries], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """Run a unit of work with the next commit, and return what it returned."""
        result: ResultT = await self._submit(work, None)
        return result

    async def close(self) -> None:
        """Refuse further writes, and wait until those that were taken are done.

        Cancellation: they are under way as before; `close` and `abandon` may be called again.
        """
        self._is_closed = True
        await self._idle.wait()
        self._runner.close()

    async def abandon(self) -> None:
        """Wait no more: what is being committed may be stored, or not, and what waits for its turn is not."""
        self._is_closed = True
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.error = StoreUnavailable(
                "nothing was stored: the store was closed before its turn came"
            )
            _settle(job)
        await self._runner.abandon()
        await self._idle.wait()

    # --- on the event loop ------------------------------------------------------------------------

    def _submit(self, work: Work | None, entry: Entry | None) -> asyncio.Future[Any]:
        if self._is_closed:
            raise UsageError("the store is closed")
        if len(self._waiting) >= WAITING_MAX:
            raise StoreUnavailable(f"{WAITING_MAX} writes wait for the store already")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Job(work=work, entry=entry, future=future))
        self._idle.clear()
        if not self._is_scheduled and not self._group:
            self._schedule(loop)
        return future

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not at once: whoever writes in this turn of the loop shares the commit.
        self._is_scheduled = True
        loop.call_soon(self._start)

    def _start(self) -> None:
        self._is_scheduled = False
        for _ in range(min(GROUP_MAX, len(self._waiting))):
            job = self._waiting.popleft()
            # Made from a state that was never stored, as it turned out while this waited.
            if job.entry is not None and job.entry.account_id in self._stopped:
                job.error = _stopped(job.entry.account_id)
                _settle(job)
            else:
                self._group.append(job)
        if self._group:
            self._runner.run(self._commit, self._finish)
        else:
            self._go_on()

    def _finish(self, error: StoreError | None) -> None:
        """Tell everybody what became of the group."""
        group, self._group = self._group, []
        if error is not None:
            for job in group:
                if job.entry is not None:
                    self._stopped.add(job.entry.account_id)
                # Whoever failed alone is told why; nothing of theirs was to be stored anyhow.
                if job.error is None:
                    job.error = type(error)(str(error))
                    job.error.__cause__ = error.__cause__
        else:
            self._publish([event for job in group for event in _events(job)])
        for job in group:
            _settle(job)
        self._go_on()

    def _publish(self, events: Sequence[OrderEvent]) -> None:
        if not events:
            return
        for listener in self._listeners:
            try:
                listener(events)
            except Exception:  # noqa: BLE001
                # It is stored, whatever a listener makes of it, and the others are to hear of it.
                _log.exception("a listener of the store raised")

    def _go_on(self) -> None:
        if self._waiting:
            self._schedule(asyncio.get_running_loop())
        else:
            self._idle.set()

    # --- where the group runs ---------------------------------------------------------------------

    async def _commit(self) -> StoreError | None:
        """Run the group in one transaction. Returns why nothing of it was stored, if nothing was."""
        may_repeat = True
        while True:
            outcome = await self._try_commit(may_repeat=may_repeat)
            if outcome is not Verdict.AGAIN:
                break
            may_repeat = False
            self._forget()
        error = None if outcome is Verdict.STORED else outcome
        if error is None:
            self._heads.update(self._new_heads)
        else:
            self._heads.clear()
        self._new_heads.clear()
        return error

    async def _try_commit(self, *, may_repeat: bool) -> Verdict | StoreError:
        database = self._database
        try:
            if not await self._run_all():
                await database.roll_back()
                self._forget()
                await database.begin()
                for job in self._group:
                    await self._run(job)
                await database.commit()
        except CommitFailed as e:
            error = e.__cause__
            assert isinstance(error, database.Error)
            outcome = await database.find_out(error, self._new_heads)
            if isinstance(outcome, StoreError):
                outcome.__cause__ = error
            return outcome
        except StoreError as e:
            await database.roll_back()
            return e
        except asyncio.CancelledError:
            await database.roll_back()
            raise
        except database.Error as e:
            fault = database.fault(e)
            await database.roll_back()
            if may_repeat and fault is Fault.PASSING:
                return Verdict.AGAIN
            explained = database.explain(e)
            explained.__cause__ = e
            return explained
        return Verdict.STORED

    def _forget(self) -> None:
        """Let the jobs be as if they had never been tried."""
        self._new_heads.clear()
        for job in self._group:
            job.error = job.outcome = None

    async def _run_all(self) -> bool:
        """Begin, run the jobs in a row, and commit. False: one of them left something that must not stay.

        Nearly always all of them are stored, and a savepoint for each is a third of the statements.

        Raises:
            CommitFailed: They may be durable, or not.
            Database.Error: The database failed, not a job.
        """
        try:
            async with self._database.together() as queries:
                for job in self._group:
                    await self._try(job, queries)
                    if job.error is not None or isinstance(job.outcome, (KeyTaken, Replayed)):
                        raise Doubt
        except Doubt:
            return False
        except self._database.Error as e:
            if self._database.fault(e) is Fault.JOB:
                return False
            raise
        return True

    async def _run(self, job: _Job) -> None:
        """Run one job in a savepoint: what fails here leaves nothing, and the others as they are.

        Raises:
            Database.Error: The database failed, not the job.
        """
        execute = self._database.execute
        await execute("SAVEPOINT job")
        await self._try(job, self._database.queries)
        if job.error is not None or isinstance(job.outcome, (KeyTaken, Replayed)):
            await execute("ROLLBACK TO job")
        await execute("RELEASE job")

    async def _try(self, job: _Job, queries: Queries) -> None:
        """Run one job, and remember what came of it.

        Raises:
            Database.Error: The database failed, not the job.
        """
        try:
            if job.entry is not None:
                await self._append(job, job.entry, queries)
            elif job.work is not None:
                job.outcome = await job.work(queries)
        except (TradegwError, UsageError) as e:
            job.error = e
        except Exception as e:
            if isinstance(e, self._database.Error) and self._database.fault(e) is not Fault.JOB:
                raise
            # Such as text or a number that has no place in a column.
            job.error = UsageError(f"the database refuses what was to be stored: {e!r}")
            job.error.__cause__ = e

    async def _append(self, job: _Job, entry: Entry, queries: Queries) -> None:
        account_id = entry.account_id
        head = self._new_heads.get(account_id) or self._heads.get(account_id)
        if head is None:
            row = await queries.find_head(account_id=account_id)
            head = Head() if row is None else Head(seq=row.seq, hash=row.hash)
        job.outcome, new_head = await writes.append(queries, entry, head)
        if isinstance(job.outcome, Stored):
            self._new_heads[account_id] = new_head


def _events(job: _Job) -> Sequence[OrderEvent]:
    return job.outcome.events if isinstance(job.outcome, Stored) and job.error is None else ()


def _settle(job: _Job) -> None:
    if job.future.done():  # Cancelled: whoever waited has gone.
        return
    if job.error is not None:
        job.future.set_exception(job.error)
    else:
        job.future.set_result(job.outcome)


def _stopped(account_id: AccountId) -> StoreUnavailable:
    return StoreUnavailable(
        f"account {account_id} takes no entries since a commit of it failed, until it is read anew"
    )


class InlineRunner:
    """Runs groups at once. For memory, where nothing waits for a disk."""

    def run(self, group: Group, done: Done) -> None:
        """Run a group, and call `done` before returning."""
        done(drive(group()))

    def close(self) -> None:
        """Nothing is left to stop."""

    async def abandon(self) -> None:
        """Nothing is ever running."""


class ThreadRunner:
    """Runs groups in a thread of its own."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        # A daemon: a program that forgets to close the store still ends. What was answered is on disk.
        self._thread = threading.Thread(target=self._work, name="tradegw-writer", daemon=True)
        self._thread.start()

    def run(self, group: Group, done: Done) -> None:
        """Run a group in the thread, and call `done` on the loop that runs now."""
        self._asked.put((asyncio.get_running_loop(), group, done))

    def close(self) -> None:
        """End the thread."""
        self._asked.put(None)
        self._thread.join()

    async def abandon(self) -> None:
        """Wait all the same: a thread that waits for a disk cannot be ended."""

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            loop, group, done = asked
            result = drive(group())
            with suppress(RuntimeError):  # The loop is closed: nobody is left to be told.
                loop.call_soon_threadsafe(done, result)


class LoopRunner:
    """Runs groups on the event loop, where they wait for a server. Nobody who waits for one can cancel it."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def run(self, group: Group, done: Done) -> None:
        """Run a group in a task, and call `done` with what it returned."""

        async def run() -> None:
            try:
                error = await group()
            except asyncio.CancelledError:
                error = CommitUnknown("the store was closed before it had answered")
            except Exception as e:  # noqa: BLE001  Whoever waits must be told, and the queue go on.
                _log.critical("a group of writes failed in a way that nobody foresaw", exc_info=e)
                error = CommitUnknown(f"a defect: {e!r}")
            done(error)

        self._task = asyncio.get_running_loop().create_task(run(), name="tradegw commit")

    def close(self) -> None:
        """Nothing is left to stop."""

    async def abandon(self) -> None:
        """Cancel the group that is running, until it has ended."""
        while (task := self._task) is not None and not task.done():
            task.cancel()
            # Once more after a moment: on its way out it may wait for the server again.
            await asyncio.wait([task], timeout=_CANCEL_AGAIN_S)


_Asked = tuple[asyncio.AbstractEventLoop, Group, Done]
