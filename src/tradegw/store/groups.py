"""Group commit: whatever waits while one commit is under way shares the next.

A group runs in one thread, from BEGIN to COMMIT; the event loop only hands it over and tells everybody what
became of it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tradegw._generated.queries import Queries, SqliteQueries
from tradegw.errors import CommitUnknown, StoreError, StoreUnavailable, TradegwError, UsageError
from tradegw.model import AccountId, OrderEvent
from tradegw.ports import Entry, Head, KeyTaken, Replayed, Stored
from tradegw.store import writes
from tradegw.store.connections import drive, store_error

__all__ = ["GroupCommit", "InlineRunner", "Runner", "ThreadRunner"]

_log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")
Listener = Callable[[Sequence[OrderEvent]], None]
Work = Callable[[Queries], Coroutine[Any, Any, Any]]

GROUP_MAX = 512
"""Writes in one commit: bounds how long the first of them waits for the last."""

_JOBS_FAULT = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)

WAITING_MAX = 65_536
"""Writes that may wait. Beyond, `StoreUnavailable` says so at once."""


class Runner(Protocol):
    """Where groups run, one at a time."""

    def run(
        self, group: Callable[[], StoreError | None], done: Callable[[StoreError | None], None]
    ) -> None:
        """Run a group, and call `done` on the event loop with what it returned."""
        ...

    def close(self) -> None:
        """Stop. No group is running."""
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
    """The one writer of a database.

    A failure of a whole group stops the accounts in it, until `readmit`: their later entries were made from
    a state that was never stored.

    Args:
        connection: For writing, in autocommit mode. Only groups use it.
        runner: Where they run.
    """

    def __init__(self, connection: sqlite3.Connection, runner: Runner) -> None:
        self._connection = connection
        self._runner = runner
        self._queries = SqliteQueries(connection)
        self._listeners: list[Listener] = []
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
        """Refuse further writes, and wait until those that were taken are done."""
        self._is_closed = True
        await self._idle.wait()
        self._runner.close()

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

    def _commit(self) -> StoreError | None:
        """Run the group in one transaction. Returns why nothing of it was stored, if nothing was."""
        execute = self._connection.execute
        error: StoreError | None = None
        try:
            execute("BEGIN IMMEDIATE")
            if not self._run_all():
                execute("ROLLBACK")
                self._new_heads.clear()
                execute("BEGIN IMMEDIATE")
                for job in self._group:
                    self._run(job)
        except sqlite3.Error as e:
            error = store_error(e, "nothing was stored")
            error.__cause__ = e
            self._roll_back()
        else:
            try:
                execute("COMMIT")
            except sqlite3.Error as e:
                error = self._judge(e)
                error.__cause__ = e
        if error is None:
            self._heads.update(self._new_heads)
        else:
            self._heads.clear()
        self._new_heads.clear()
        return error

    def _run_all(self) -> bool:
        """Run the jobs in a row. False: one of them left something that must not stay; begin anew.

        Nearly always all of them are stored, and a savepoint for each is a third of the statements.

        Raises:
            sqlite3.Error: The database failed, not a job.
        """
        for job in self._group:
            self._try(job)
            if job.error is not None or isinstance(job.outcome, (KeyTaken, Replayed)):
                for tried in self._group:
                    tried.error = tried.outcome = None
                return False
        return True

    def _run(self, job: _Job) -> None:
        """Run one job in a savepoint: what fails here leaves nothing, and the others as they are.

        Raises:
            sqlite3.Error: The database failed, not the job.
        """
        execute = self._connection.execute
        execute("SAVEPOINT job")
        self._try(job)
        if job.error is not None or isinstance(job.outcome, (KeyTaken, Replayed)):
            execute("ROLLBACK TO job")
        execute("RELEASE job")

    def _try(self, job: _Job) -> None:
        """Run one job, and remember what came of it.

        Raises:
            sqlite3.Error: The database failed, not the job.
        """
        try:
            if job.entry is not None:
                self._append(job, job.entry)
            elif job.work is not None:
                job.outcome = drive(job.work(self._queries))
        except (TradegwError, UsageError) as e:
            job.error = e
        except Exception as e:
            if isinstance(e, sqlite3.DatabaseError) and not isinstance(e, _JOBS_FAULT):
                raise
            # Such as text or a number that has no place in a column.
            job.error = UsageError(f"the database refuses what was to be stored: {e!r}")
            job.error.__cause__ = e

    def _append(self, job: _Job, entry: Entry) -> None:
        account_id = entry.account_id
        head = self._new_heads.get(account_id) or self._heads.get(account_id)
        if head is None:
            head = self._read_head(account_id)
        job.outcome, new_head = drive(writes.append(self._queries, entry, head))
        if isinstance(job.outcome, Stored):
            self._new_heads[account_id] = new_head

    def _read_head(self, account_id: AccountId) -> Head:
        row = drive(self._queries.find_head(account_id=account_id))
        return Head() if row is None else Head(seq=row.seq, hash=row.hash)

    def _judge(self, error: sqlite3.Error) -> StoreError:
        """Say what a failed COMMIT left behind, after undoing what can be undone.

        SQLite rolls back by itself when COMMIT fails, and in WAL mode nothing of a transaction counts before
        its last page is written. A failing fsync comes after that page, though: a power cut would decide
        whether it was stored. So it would if anything of the transaction still showed.
        """
        text = f"COMMIT failed: {error} ({error.sqlite_errorname})"
        is_undone = False
        if self._roll_back() and "FSYNC" not in error.sqlite_errorname:
            with suppress(sqlite3.Error):
                is_undone = all(
                    self._read_head(account_id).seq < head.seq
                    for account_id, head in self._new_heads.items()
                )
        return StoreUnavailable(text) if is_undone else CommitUnknown(text)

    def _roll_back(self) -> bool:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        return not self._connection.in_transaction


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

    def run(
        self, group: Callable[[], StoreError | None], done: Callable[[StoreError | None], None]
    ) -> None:
        """Run a group, and call `done` before returning."""
        done(group())

    def close(self) -> None:
        """Nothing is left to stop."""


class ThreadRunner:
    """Runs groups in a thread of its own."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        # A daemon: a program that forgets to close the store still ends. What was answered is on disk.
        self._thread = threading.Thread(target=self._work, name="tradegw-writer", daemon=True)
        self._thread.start()

    def run(
        self, group: Callable[[], StoreError | None], done: Callable[[StoreError | None], None]
    ) -> None:
        """Run a group in the thread, and call `done` on the loop that runs now."""
        self._asked.put((asyncio.get_running_loop(), group, done))

    def close(self) -> None:
        """End the thread."""
        self._asked.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            loop, group, done = asked
            result = group()
            with suppress(RuntimeError):  # The loop is closed: nobody is left to be told.
                loop.call_soon_threadsafe(done, result)


_Asked = tuple[
    asyncio.AbstractEventLoop,
    Callable[[], StoreError | None],
    Callable[[StoreError | None], None],
]
