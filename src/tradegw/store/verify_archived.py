"""Proves what was archived: the files of an account, up to its checkpoint, and what the store kept of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Self
from uuid import UUID

from tradegw._generated.queries import ListArchivedFillsAfterRow, Queries
from tradegw.errors import StoreCorrupt
from tradegw.model import AccountId, AccountName, Fill, OrderEvent
from tradegw.ports import AccountRecord, Head, Problem, ProblemKind
from tradegw.store.archive_file import open_archive
from tradegw.store.codec import decode_event
from tradegw.store.pages import END
from tradegw.store.rows import attach, to_order, to_unmatched_fill

__all__ = ["ArchivedChain", "ArchivedFile", "KeptFill", "by_account"]

_CHUNK = 500


class _Read(Protocol):
    def __call__(self, work: Callable[[Queries], Any], /) -> Awaitable[Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedFile:
    """A file, and which events it says it holds."""

    path: Path
    account: AccountName
    after: Head
    up_to_seq: int


def by_account(paths: Sequence[Path]) -> dict[AccountId, list[ArchivedFile]]:
    """Look into each file, and sort them by whose they are and where they begin.

    Raises:
        ConfigError: There is no such file, or it is of another release.
        StoreCorrupt: It is no archive.
    """
    found: dict[AccountId, list[ArchivedFile]] = {}
    for path in paths:
        with open_archive(path) as archive:
            found.setdefault(archive.account_id, []).append(
                ArchivedFile(
                    path=path,
                    account=archive.account,
                    after=archive.after,
                    up_to_seq=archive.up_to_seq,
                )
            )
    for files in found.values():
        files.sort(key=lambda file: (file.after.seq, file.up_to_seq))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFill:
    """What the store keeps of a fill when its event is archived."""

    order_id: UUID | None
    trade_id: str
    last_qty: Decimal
    last_px: Decimal
    inferred: bool
    corrects: str | None

    @classmethod
    def of(cls, fill: Fill) -> Self:
        """Return what is kept of a fill."""
        return cls(**{field.name: getattr(fill, field.name) for field in fields(cls)})

    @classmethod
    def of_row(cls, row: ListArchivedFillsAfterRow) -> Self:
        """Return what was kept."""
        return cls(**{field.name: getattr(row, field.name) for field in fields(cls)})

    def difference(self, kept: KeptFill) -> str:
        """Say in what the store differs from the event."""
        return "; ".join(
            f"the event says {field.name} {getattr(self, field.name)!r}, kept is "
            f"{getattr(kept, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(kept, field.name)
        )


class ArchivedChain:
    """The archived events of an account, as far as their files were given."""

    def __init__(self, account: AccountRecord, files: Sequence[ArchivedFile]) -> None:
        self._account = account
        self._files = files
        # Orders whose last event was seen; it decides nothing unless all events were.
        self._told: set[UUID] = set()
        self._is_whole = False
        self._end_seq = 0
        # Fills that found their order after they came, and whose event that says so has not been seen yet.
        self._attached: dict[int, KeptFill] = {}
        self._problems: list[Problem] = []

    def lacks(self, order_id: UUID, seq: int) -> bool:
        """Whether the files were given up to that event, and none tells how the order came to stand so.

        What was archived after we read them is in a file that nobody could give.
        """
        return self._is_whole and seq <= self._end_seq and order_id not in self._told

    async def check(self, read: _Read) -> AsyncIterator[Problem]:
        """Yield whatever contradicts."""
        if not self._files:
            return
        cut = await read(
            lambda queries: queries.find_checkpoint(account_id=self._account.account_id)
        )
        end = Head() if cut is None else Head(seq=cut.seq, hash=cut.hash)
        self._end_seq = end.seq
        try:
            events = self._events(end)
            while chunk := list(islice(events, _CHUNK)):
                await read(partial(self._check, chunk))
                for problem in self._take():
                    yield problem
        except StoreCorrupt as e:
            self._add(ProblemKind.ARCHIVE, 0, str(e))
        await read(self._check_left)
        for problem in self._take():
            yield problem

    def _events(self, end: Head) -> Iterator[OrderEvent]:
        """Yield the events up to the checkpoint, each once, and tell where the files do not meet."""
        head = Head()
        for file in self._files:
            if file.after.seq > head.seq:
                break
            with open_archive(file.path) as archive:
                for event in archive.events():
                    if event.seq > end.seq:
                        # Written, and not deleted: it is checked where it still is.
                        break
                    if event.seq == head.seq + 1 and event.prev_hash != head.hash.hex():
                        self._add(
                            ProblemKind.HASH,
                            event.seq,
                            f"archive {file.path} follows {event.prev_hash!r}; the event before has "
                            f"{head.hash.hex()!r}",
                        )
                    if event.seq > head.seq:
                        head = Head(seq=event.seq, hash=bytes.fromhex(event.hash))
                        yield decode_event(event.payload.encode())
        if head.seq < end.seq:
            self._add(
                ProblemKind.GAP,
                head.seq + 1,
                f"events {head.seq + 1} to {end.seq} are archived, and in none of the files that were given",
            )
        elif head.hash != end.hash:
            self._add(
                ProblemKind.HASH,
                end.seq,
                f"the checkpoint has the hash {end.hash.hex()}; the archived event has {head.hash.hex()}",
            )
        else:
            self._is_whole = True

    async def _check(self, events: Sequence[OrderEvent], queries: Queries) -> None:
        account_id, account = self._account.account_id, self._account.account
        after, up_to = events[0].seq - 1, events[-1].seq
        kept = {
            row.seq: KeptFill.of_row(row)
            for row in await queries.list_archived_fills_after(
                account_id=account_id, after_seq=after, up_to_seq=up_to
            )
        }
        unmatched = {
            row.seq: to_unmatched_fill(row, account)
            for row in await queries.list_unmatched_fills_after(
                account_id=account_id, after_seq=after, up_to_seq=up_to, limit_rows=END
            )
        }
        for seq in kept.keys() & unmatched.keys():
            self._attached[seq] = kept.pop(seq)
        for event in events:
            if event.order_id is not None:
                await self._check_order(queries, event)
            if event.attaches:
                await self._check_attached(queries, event)
            if event.fill is None:
                continue
            if event.fill.order_id is None:
                difference = (
                    "is not there"
                    if event.seq not in unmatched
                    else ""
                    if unmatched.pop(event.seq) == event.fill
                    else "differs"
                )
            elif event.seq not in kept:
                difference = "is not there"
            else:
                difference = KeptFill.of(event.fill).difference(kept.pop(event.seq))
            if difference:
                self._add(
                    ProblemKind.FILL_MISSING
                    if difference == "is not there"
                    else ProblemKind.FILL_DIFFERS,
                    event.seq,
                    f"fill {event.fill.trade_id} of order {event.fill.order_id}: {difference}",
                )
        left: dict[int, str] = {seq: fill.trade_id for seq, fill in kept.items()}
        left |= {seq: fill.trade_id for seq, fill in unmatched.items()}
        for seq, trade_id in left.items():
            self._add(ProblemKind.UNEXPECTED_ROW, seq, f"fill {trade_id} is in no event")

    async def _check_order(self, queries: Queries, event: OrderEvent) -> None:
        assert event.order_id is not None
        row = await queries.find_order(order_id=event.order_id)
        if row is None:
            self._add(
                ProblemKind.ORDER_MISSING,
                event.seq,
                f"order {event.order_id} is in an archived event and nowhere else",
            )
        elif row.seq == event.seq:
            self._told.add(event.order_id)
            stored = to_order(row, self._account.account, ())
            if event.order is not None and event.order != stored:
                told = [
                    field.name
                    for field in fields(stored)
                    if field.compare
                    and getattr(stored, field.name) != getattr(event.order, field.name)
                ]
                self._add(
                    ProblemKind.ORDER_DIFFERS,
                    event.seq,
                    f"order {event.order_id} differs from its last event in {', '.join(told)}",
                )

    async def _check_attached(self, queries: Queries, event: OrderEvent) -> None:
        kept = self._attached.pop(event.attaches, None)
        came = await queries.find_unmatched_fill(
            account_id=self._account.account_id, seq=event.attaches
        )
        if kept is None or came is None or event.order is None:
            self._add(
                ProblemKind.FILL_MISSING,
                event.attaches,
                f"a fill was given to order {event.order_id}, and is not there",
            )
            return
        told = attach(to_unmatched_fill(came, self._account.account), event.order)
        if difference := KeptFill.of(told).difference(kept):
            self._add(
                ProblemKind.FILL_DIFFERS,
                event.attaches,
                f"fill {told.trade_id} of order {told.order_id}: {difference}",
            )

    async def _check_left(self, queries: Queries) -> None:
        """Look among the events that are still stored for those that gave fills to their orders."""
        for seq, kept in self._attached.items():
            assert kept.order_id is not None
            story = await queries.list_events_of_order(
                account_id=self._account.account_id,
                order_id=kept.order_id,
                after_seq=seq,
                limit_rows=END,
            )
            if not any(decode_event(told.payload).attaches == seq for told in story):
                self._add(
                    ProblemKind.UNEXPECTED_ROW,
                    seq,
                    f"fill {kept.trade_id} was given to order {kept.order_id} by no event",
                )

    def _take(self) -> Sequence[Problem]:
        problems, self._problems = self._problems, []
        return problems

    def _add(self, kind: ProblemKind, seq: int, detail: str) -> None:
        self._problems.append(
            Problem(kind=kind, account=self._account.account, seq=seq, detail=detail)
        )
