"""Archiving the configured store: which accounts, how far, and into what files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tradegw.errors import ConfigError, NotFound
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.config import Config
from tradegw.model import AccountName, OrderEvent
from tradegw.ports import AccountRecord
from tradegw.store import is_postgres, open_sqlite, sqlite_path
from tradegw.store.archive import Access, ArchivePlan, delete_prefix, plan, write_prefix
from tradegw.store.archive_file import Archive, open_archive
from tradegw.store.codec import decode_event
from tradegw.store.rows import to_account

__all__ = ["Archived", "archive_store", "open_archive", "read_archive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """What became of one account.

    Attributes:
        after_seq: The last event that had left before.
        up_to_seq: The last event that has left now, or would.
        head_seq: The account's last event.
        held_by: What keeps the next event in the store.
        path: The file; None where nothing leaves, or nothing was to be done.
        is_done: Whether the events have left the store.
    """

    account: AccountName
    after_seq: int
    up_to_seq: int
    head_seq: int
    held_by: str
    path: Path | None = None
    is_done: bool = False

    @property
    def events(self) -> int:
        """How many events leave."""
        return self.up_to_seq - self.after_seq


async def archive_store(
    config: Config,
    *,
    before_ns: int,
    to: Path,
    account: str | None = None,
    without_sinks: Sequence[str] = (),
    dry_run: bool = False,
) -> Sequence[Archived]:
    """Move the oldest events of every account, or of one, from the configured store to files.

    A file's while no gateway runs on it. In Postgres beside gateways, as the role that owns the tables.

    Args:
        before_ns: Events recorded then or later stay.
        to: A directory; or, for one account, the file.
        without_sinks: Sinks that are gone for good, and whose place in the streams need not be kept.
        dry_run: Only say what would leave.

    Raises:
        ConfigError: There is no such store or directory, the role may not, or the file has other events.
        NotFound: There is no such account.
        StoreInUse: A gateway writes the file, or somebody archives already.
        StoreCorrupt: A chain does not hold. The account stays as it is.
    """
    _check_target(to, account)
    clock = SystemClock()
    sinks = {name: name not in without_sinks for name in {*config.sinks, *without_sinks}}
    async with _open_access(config, clock) as access:
        found: list[Archived] = []
        for record in await _records(access, account):
            what = await plan(access, record, before_ns=before_ns, sinks=sinks)
            path = None
            if what.events and not dry_run:
                path = await write_prefix(access, what, to)
                await delete_prefix(access, what, path.name, time_ns=clock.time_ns())
            found.append(_archived(what, path))
        return found


def _check_target(to: Path, account: str | None) -> None:
    if not to.is_dir() and (account is None or not to.parent.is_dir()):
        raise ConfigError(
            f"expected --to to be a directory, or a file in one for a single account; found {to}",
            reason="INVALID_FIELD",
        )


def _archived(what: ArchivePlan, path: Path | None) -> Archived:
    return Archived(
        account=what.record.account,
        after_seq=what.after.seq,
        up_to_seq=what.up_to_seq,
        head_seq=what.head_seq,
        held_by=what.held_by,
        path=path,
        is_done=path is not None,
    )


async def _records(access: Access, account: str | None) -> Sequence[AccountRecord]:
    records = [to_account(row) for row in await access.read(lambda q: q.list_accounts())]
    if account is None:
        return records
    chosen = [record for record in records if record.account == account]
    if not chosen:
        known = ", ".join(sorted(record.account for record in records)) or "none"
        raise NotFound(
            f"there is no account {account!r}; there are {known}", reason="UNKNOWN_ACCOUNT"
        )
    return chosen


@asynccontextmanager
async def _open_access(config: Config, clock: SystemClock) -> AsyncGenerator[Access]:
    url = config.store.url
    if is_postgres(url):
        from tradegw.store.postgres_archive import open_postgres_access

        async with open_postgres_access(url) as access:
            yield access
        return
    path = sqlite_path(url)
    if path is None or not path.is_file():
        raise ConfigError(
            f"store.url: expected a store to archive; there is none at {config.store.shown_url!r}"
        )
    store = open_sqlite(path, clock=clock)
    try:
        yield store.access
    finally:
        await store.close()


@contextmanager
def read_archive(path: Path) -> Generator[tuple[Archive, Iterator[OrderEvent]]]:
    """Open an archive, with its events, each checked against the one before.

    Raises:
        ConfigError: There is no such file, or it is of another release.
        StoreCorrupt: It was altered, or its end is missing; while it is read too.
    """
    with open_archive(path) as archive:
        yield archive, (decode_event(event.payload.encode()) for event in archive.events())
