"""The real store in Postgres under a simulated gateway: it runs in a thread with an event loop of its own.

The simulation stands still while a call of it is under way, so what the server takes costs no virtual time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from tests.postgres_servers import empty
from tradegw.errors import StoreUnavailable
from tradegw.store.groups import GroupCommit
from tradegw.store.postgres import PostgresStore, open_postgres
from tradegw.store.postgres_writer import Fence, PostgresDatabase
from tradegw.store.sqlstore import Work

if TYPE_CHECKING:
    from tests.simulation.store import Disk

ResultT = TypeVar("ResultT")


class _Elsewhere:
    """An event loop in a thread, which lives as long as the program."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="postgres", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run something there, and wait for it in this thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@cache
def elsewhere() -> _Elsewhere:
    """Return where all Postgres happens."""
    return _Elsewhere()


def start_empty(url: str) -> None:
    """Take everything out of a store, before a history."""
    empty(url)


def open_in_postgres(url: str, disk: Disk) -> SimulatedPostgres:
    """Open what is stored."""
    opened = elsewhere().run(open_postgres(url))
    return SimulatedPostgres(opened, disk)


class SimulatedPostgres(PostgresStore):
    """A store in Postgres, of a gateway in virtual time."""

    def __init__(self, opened: PostgresStore, disk: Disk) -> None:
        super().__init__(opened._pool, opened._lock, is_shared=False)
        self._disk = disk

    def _make_group(self, fence: Fence | None) -> GroupCommit:
        from tests.simulation.store import DiskRunner

        database = PostgresDatabase(self._pool, fence)
        return GroupCommit(
            database, DiskRunner(self._disk, in_thread=elsewhere().run), self._listeners
        )

    async def _read(self, work: Work[ResultT]) -> ResultT:
        from tests.simulation.store import StoreFault

        if self._disk.next_fault(StoreFault.READ_FAILS):
            raise StoreUnavailable("the store cannot be read")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, elsewhere().run, super()._read(work))

    async def close(self) -> None:
        """Finish what was appended, and let go of the store."""
        if self._pool.is_closing:
            return
        self._pool.is_closing = True
        for group in self._groups.values():
            await group.close()
        await asyncio.get_running_loop().run_in_executor(None, elsewhere().run, self._let_go())

    def die(self) -> None:
        """Let go of the store, as a process that dies does."""
        if not self._pool.is_closing:
            self._pool.is_closing = True
            elsewhere().run(self._let_go())

    async def _let_go(self) -> None:
        await self._pool.close()
        if self._lock is not None:
            await self._lock.release()
