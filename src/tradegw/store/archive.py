"""Moves the oldest events of an account, with their fills, to a file.

The file is whole and on the disk before anything is deleted; then the events leave in small transactions,
each of which moves the account's checkpoint as far as it deletes. Wherever this ends early, what is left is a
sound store and a sound file, which may overlap: to do it again does no harm.

What stays: orders as they stand, keys of requests, ids at the venue, and of each fill its key and quantities.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tradegw._generated.queries import ListOrderEventsRow, Queries
from tradegw.errors import ConfigError
from tradegw.ports import AccountRecord, Head
from tradegw.store.archive_file import ArchiveWriter, archive_name, open_archive

__all__ = ["Access", "ArchivePlan", "delete_prefix", "plan", "write_prefix"]

ResultT = TypeVar("ResultT")
Work = Callable[[Queries], Coroutine[Any, Any, ResultT]]

BATCH = 500
"""Events in one transaction: nothing that a gateway on the same server waits for lasts longer."""


class Access(Protocol):
    """A store whose archiving role we have."""

    async def read(self, work: Work[ResultT]) -> ResultT:
        """Run a unit of work inside one snapshot."""
        ...

    async def write(self, work: Work[ResultT]) -> ResultT:
        """Run a unit of work, durably, whole or not at all."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePlan:
    """What of an account may leave now.

    Attributes:
        after: The last event that left before; 0 for none.
        up_to_seq: The last event that may leave; as `after` when none may.
        head_seq: The account's last event.
        held_by: What keeps the next event here, for people.
    """

    record: AccountRecord
    after: Head
    up_to_seq: int
    head_seq: int
    held_by: str

    @property
    def events(self) -> int:
        """How many events may leave."""
        return self.up_to_seq - self.after.seq


async def plan(
    access: Access, record: AccountRecord, *, before_ns: int, sinks: Mapping[str, bool]
) -> ArchivePlan:
    """Find out how far an account may be archived.

    Up to the first event of an order that is open, of an event that some sink has not confirmed, or of one
    recorded at `before_ns` or later; and the last event of all always stays.

    Args:
        sinks: Names of sinks. True: its events are waited for, though it may never have confirmed any. False:
            it is gone for good, and nobody waits for it. One that is not named is waited for from its cursor.
    """

    async def work(queries: Queries) -> ArchivePlan:
        account_id = record.account_id
        cut = await queries.find_checkpoint(account_id=account_id)
        after = Head() if cut is None else Head(seq=cut.seq, hash=cut.hash)
        last = await queries.find_head(account_id=account_id)
        head_seq = after.seq if last is None else last.seq
        limits = [(head_seq - 1, "it is the last event")]
        opened = await queries.find_first_event_of_open(account_id=account_id)
        if opened is not None:
            limits.append((opened.seq - 1, f"order {opened.order_id} is open"))
        recent = await queries.find_first_event_since(account_id=account_id, from_ns=before_ns)
        if recent is not None:
            limits.append((recent.seq - 1, "it is too recent"))
        confirmed = {
            row.sink: row.seq for row in await queries.list_outbox_cursors(account_id=account_id)
        }
        limits += [
            (confirmed.get(sink, 0), f"sink {sink} has not confirmed it")
            for sink in confirmed.keys() | sinks.keys()
            if sinks.get(sink, True)
        ]
        up_to, why = min(limits)
        return ArchivePlan(
            record=record,
            after=after,
            up_to_seq=max(up_to, after.seq),
            head_seq=head_seq,
            held_by=why,
        )

    return await access.read(work)


async def write_prefix(access: Access, what: ArchivePlan, to: Path) -> Path:
    """Write the events to a file, durably. Nothing is deleted.

    Args:
        to: A directory, or the file itself.

    Raises:
        StoreCorrupt: The chain does not hold.
        ConfigError: The file cannot be written, or another archive has its name.
    """
    record = what.record
    path = _free_path(to, what)
    try:
        with ArchiveWriter(path, record, what.after, up_to_seq=what.up_to_seq) as writer:
            while writer.head.seq < what.up_to_seq:
                rows = await access.read(partial(_next, what, writer.head.seq))
                for row in rows:
                    writer.add(
                        seq=row.seq, payload=row.payload, prev_hash=row.prev_hash, hash=row.hash
                    )
                if not rows:
                    raise ConfigError(
                        f"events of {record.account} after {writer.head.seq} are gone: somebody else "
                        "archives them"
                    )
            writer.finish()
    except OSError as e:
        raise ConfigError(f"archive {path} cannot be written: {e.strerror or e}") from e
    return path


async def _next(what: ArchivePlan, seq: int, queries: Queries) -> list[ListOrderEventsRow]:
    return await queries.list_order_events(
        account_id=what.record.account_id,
        after_seq=seq,
        limit_rows=min(BATCH, what.up_to_seq - seq),
    )


def _free_path(to: Path, what: ArchivePlan) -> Path:
    """Return the file. One is replaced only by itself: an earlier run wrote it, and then deleted nothing."""
    path = to
    if to.is_dir():
        path = to / archive_name(
            what.record.account, after_seq=what.after.seq, up_to_seq=what.up_to_seq
        )
    if not path.exists():
        return path
    with open_archive(path) as found:
        if (found.account_id, found.after, found.up_to_seq) != (
            what.record.account_id,
            what.after,
            what.up_to_seq,
        ):
            raise ConfigError(
                f"archive {path} is there already, with other events; it stays as it is",
                reason="FILE_EXISTS",
            )
    return path


async def delete_prefix(access: Access, what: ArchivePlan, archive: str, *, time_ns: int) -> int:
    """Delete the events that were written, and keep what outlives them. Returns how many were deleted.

    Cancellation: some are deleted, and the checkpoint says which.
    """
    account_id = what.record.account_id
    deleted = 0
    seq = what.after.seq
    while seq < what.up_to_seq:
        up_to = min(seq + BATCH, what.up_to_seq)

        async def work(queries: Queries, up_to: int = up_to) -> int:
            (last,) = await queries.list_event_hashes(
                account_id=account_id, after_seq=up_to - 1, limit_rows=1
            )
            assert last.seq == up_to
            await queries.put_checkpoint(
                account_id=account_id,
                seq=up_to,
                hash=last.hash,
                archive=archive,
                archived_time_ns=time_ns,
            )
            await queries.keep_fill_keys(account_id=account_id, up_to_seq=up_to)
            await queries.delete_archived_fills(account_id=account_id, up_to_seq=up_to)
            return await queries.delete_archived_events(account_id=account_id, up_to_seq=up_to)

        deleted += await access.write(work)
        seq = up_to
    return deleted
