"""Who holds what, as it was read last. Many ask at once, and few reads are made.

A read that nobody answers ends after a while, and holds up nobody but those who wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tradegw.errors import StoreUnavailable, TradegwError
from tradegw.model import AccountId
from tradegw.ports import LeaseRow, Leases

__all__ = ["READ_WITHIN_S", "LeaseTable"]

log = logging.getLogger(__name__)

READ_WITHIN_S: Final = 2.0
_NS_PER_S: Final = 1_000_000_000


@dataclass(slots=True, eq=False, kw_only=True)
class _Read:
    """One read, and what came of it: nothing, or why there are no rows."""

    asked_ns: int
    task: asyncio.Task[StoreUnavailable | None]
    is_outdated: bool = False

    def tells_since(self, since_ns: int) -> bool:
        """Whether its rows are there, and stood so at some time after that one."""
        return (
            not self.is_outdated
            and self.asked_ns > since_ns
            and self.task.done()
            and not self.task.cancelled()
            and self.task.result() is None
        )


class LeaseTable:
    """What is stored of some accounts' leases.

    Args:
        leases: Asked for nothing but rows while somebody reads.
        now_ns: A clock that only grows.
        group: Of the gateway's tasks.

    Attributes:
        account_ids: Whose leases are read.
        rows: As they were read last.
    """

    def __init__(self, leases: Leases, now_ns: Callable[[], int], group: asyncio.TaskGroup) -> None:
        self.account_ids: Sequence[AccountId] = ()
        self.rows: Mapping[AccountId, LeaseRow] = {}
        self._leases = leases
        self._now_ns = now_ns
        self._group = group
        self._read: _Read | None = None

    async def read(self, within_s: float) -> None:
        """Have `rows` tell what stood less than so long ago. Whoever asks meanwhile shares a read.

        Raises:
            StoreUnavailable: They could not be read, or not in time.

        Cancellation: the read goes on for the others.
        """
        since_ns = self._now_ns() - int(within_s * _NS_PER_S)
        mine: _Read | None = None
        while True:
            read = self._read
            if read is not None and read.tells_since(since_ns):
                return
            if read is None or read.task.done():
                read = mine = self._read = self._begin()
            await asyncio.wait([read.task])
            if read.task.cancelled():
                raise StoreUnavailable("the gateway shuts down")
            error = read.task.result()
            if error is not None:
                raise StoreUnavailable(str(error)) from error
            if read is mine and not read.is_outdated:
                return

    def distrust(self) -> None:
        """Believe nothing that was read, or is being read: it has changed."""
        if self._read is not None:
            self._read.is_outdated = True

    async def close(self) -> None:
        """End a read that is under way."""
        if self._read is not None:
            self._read.task.cancel()
            await asyncio.wait([self._read.task])

    def _begin(self) -> _Read:
        listing = self._list()
        try:
            task = self._group.create_task(listing, name="lease look")
        except RuntimeError as e:
            # The group has ended.
            listing.close()
            raise StoreUnavailable("the gateway shuts down") from e
        return _Read(asked_ns=self._now_ns(), task=task)

    async def _list(self) -> StoreUnavailable | None:
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                rows = await self._leases.list(self.account_ids)
        except TimeoutError:
            return StoreUnavailable("who holds the accounts cannot be looked up in time")
        except TradegwError as e:
            return StoreUnavailable(f"who holds the accounts cannot be looked up: {e}")
        except Exception as e:
            log.exception("a look at the leases failed")
            return StoreUnavailable(f"who holds the accounts cannot be looked up: {e!r}")
        self.rows = {row.account_id: row for row in rows}
        return None
