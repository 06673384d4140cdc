"""Proves the record: every chain link by link, and that `orders` and `fill` say what the events say.

Works through the events a chunk at a time, each in one snapshot, so that a gateway may go on writing. What
is removed from the very end of an account's stream shows where an order or a fill still tells of it;
otherwise only against an anchor that was kept elsewhere.

A chain begins at its checkpoint, or, with the files of what was archived, at its beginning: `archived` checks
those. What was last told of in a file is compared with nothing when the file is not given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID

from tradegw._generated.queries import ListOrderEventsRow, Queries
from tradegw.errors import StoreCorrupt
from tradegw.model import Fill, Order, OrderEvent
from tradegw.ports import AccountRecord, Head, Problem, ProblemKind
from tradegw.store.codec import chain, decode_event
from tradegw.store.pages import END
from tradegw.store.rows import attach, to_account, to_fill, to_order, to_unmatched_fill
from tradegw.store.verify_archived import ArchivedChain, KeptFill, by_account

__all__ = ["verify"]

_CHUNK = 500

ResultT = TypeVar("ResultT")


class Read(Protocol):
    """Runs a unit of work inside one snapshot."""

    def __call__(self, work: Callable[[Queries], Any], /) -> Awaitable[Any]: ...


async def verify(read: Read, archives: Sequence[Path] = ()) -> AsyncIterator[Problem]:
    """Yield whatever contradicts.

    Args:
        archives: Files with what was archived, in any order; they may overlap.
    """
    accounts: Sequence[AccountRecord] = await read(_accounts)
    files = by_account(archives)
    for account in accounts:
        archived = ArchivedChain(account, files.pop(account.account_id, ()))
        async for problem in archived.check(read):
            yield problem
        chunk = _Chunk(account=account, head=Head())
        while True:
            await read(chunk.check)
            for problem in chunk.problems:
                yield problem
            if chunk.is_last:
                break
            chunk = _Chunk(account=account, head=chunk.head)
        for problem in await read(_Missing(account)):
            yield problem
        after = UUID(int=0)
        while True:
            orders = _Orders(account=account, after=after, archived=archived)
            await read(orders.check)
            for problem in orders.problems:
                yield problem
            if orders.last is None:
                break
            after = orders.last
    for strange in files.values():
        for path in strange:
            yield Problem(
                kind=ProblemKind.ARCHIVE,
                account=path.account,
                detail=f"archive {path.path} is of an account that the store does not know",
            )


async def _accounts(queries: Queries) -> Sequence[AccountRecord]:
    return [to_account(row) for row in await queries.list_accounts()]


class _Chunk:
    """The next events of an account: their chain, what they say, and the fills that they brought."""

    def __init__(self, *, account: AccountRecord, head: Head) -> None:
        self._account = account
        self._after = head.seq
        self.head = head
        self.is_last = False
        self.problems: list[Problem] = []

    async def check(self, queries: Queries) -> None:
        account_id = self._account.account_id
        cut = await queries.find_checkpoint(account_id=account_id)
        if cut is not None and self._after < cut.seq:
            # Here at the start, or later: what follows was archived while we read.
            self._after, self.head = cut.seq, Head(seq=cut.seq, hash=cut.hash)
        rows = await queries.list_order_events(
            account_id=account_id, after_seq=self._after, limit_rows=_CHUNK
        )
        self.is_last = len(rows) < _CHUNK
        fills: dict[int, Fill] = {}
        attached: list[OrderEvent] = []
        for row in rows:
            self._check_link(row)
            event = self._read(row)
            if event is not None and event.fill is not None:
                fills[row.seq] = event.fill
            if event is not None and event.attaches:
                attached.append(event)
            self.head = Head(seq=row.seq, hash=row.hash)
        # Behind the last event there may be fills whose events were taken away.
        up_to = END if self.is_last else self.head.seq
        stored = [
            to_fill(row, self._account.account)
            for row in await queries.list_fills_after(
                account_id=account_id, after_seq=self._after, up_to_seq=up_to, limit_rows=END
            )
        ]
        stored += [
            to_unmatched_fill(row, self._account.account)
            for row in await queries.list_unmatched_fills_after(
                account_id=account_id, after_seq=self._after, up_to_seq=up_to, limit_rows=END
            )
        ]
        self._compare(fills, stored)
        await self._check_attached(queries, attached, up_to)

    async def _check_attached(
        self, queries: Queries, attached: Sequence[OrderEvent], up_to: int
    ) -> None:
        """Compare the fills that found their order later with the events that say so."""
        account_id, account = self._account.account_id, self._account.account
        for row in await queries.list_attached_fills_after(
            account_id=account_id, after_seq=self._after, up_to_seq=up_to, limit_rows=END
        ):
            fill = to_fill(row, account)
            story = await queries.list_events_of_order(
                account_id=account_id, order_id=row.order_id, after_seq=row.seq, limit_rows=END
            )
            if not any(decode_event(told.payload).attaches == row.seq for told in story):
                self._add(
                    ProblemKind.UNEXPECTED_ROW,
                    row.seq,
                    f"fill {fill.trade_id} was given to order {fill.order_id} by no event",
                )
        for event in attached:
            came = await queries.find_unmatched_fill(account_id=account_id, seq=event.attaches)
            before = event.attaches - 1
            rows = await queries.list_attached_fills_after(
                account_id=account_id, after_seq=before, up_to_seq=event.attaches, limit_rows=1
            )
            kept = await queries.list_archived_fills_after(
                account_id=account_id, after_seq=before, up_to_seq=event.attaches
            )
            if came is None or event.order is None or not (rows or kept):
                self._add(
                    ProblemKind.FILL_MISSING,
                    event.attaches,
                    f"a fill was given to order {event.order_id}, and is not there",
                )
                continue
            told = attach(to_unmatched_fill(came, account), event.order)
            difference = (
                _difference(told, to_fill(rows[0], account))
                if rows
                else KeptFill.of(told).difference(KeptFill.of_row(kept[0]))
            )
            if difference:
                self._add(
                    ProblemKind.FILL_DIFFERS,
                    event.attaches,
                    f"fill {told.trade_id} of order {told.order_id}: {difference}",
                )

    def _check_link(self, row: ListOrderEventsRow) -> None:
        if row.seq != self.head.seq + 1:
            self._add(
                ProblemKind.GAP,
                row.seq,
                f"expected event {self.head.seq + 1}; the next is {row.seq}",
            )
        elif row.prev_hash != self.head.hash:
            self._add(
                ProblemKind.HASH,
                row.seq,
                f"follows {row.prev_hash.hex()!r}; the event before has {self.head.hash.hex()!r}",
            )
        found = chain(row.prev_hash, self._account.account_id, row.seq, row.payload)
        if found != row.hash:
            self._add(
                ProblemKind.HASH,
                row.seq,
                f"its content has the hash {found.hex()}; stored is {row.hash.hex()}",
            )

    def _read(self, row: ListOrderEventsRow) -> OrderEvent | None:
        try:
            event = decode_event(row.payload)
        except StoreCorrupt as e:
            self._add(ProblemKind.PAYLOAD, row.seq, str(e))
            return None
        said = (event.seq, event.order_id, str(event.event_type), event.time_ns, event.account)
        columns = (row.seq, row.order_id, row.event_type, row.time_ns, self._account.account)
        if said != columns:
            self._add(
                ProblemKind.PAYLOAD, row.seq, f"the payload says {said}; the columns say {columns}"
            )
        return event

    def _compare(self, expected: dict[int, Fill], stored: Sequence[Fill]) -> None:
        for fill in stored:
            told = expected.pop(fill.seq, None)
            if told is None:
                self._add(
                    ProblemKind.UNEXPECTED_ROW,
                    fill.seq,
                    f"fill {fill.trade_id} of order {fill.order_id} is in no event",
                )
            elif told != fill:
                self._add(
                    ProblemKind.FILL_DIFFERS,
                    fill.seq,
                    f"fill {fill.trade_id} of order {fill.order_id}: {_difference(told, fill)}",
                )
        for seq, told in expected.items():
            self._add(
                ProblemKind.FILL_MISSING,
                seq,
                f"fill {told.trade_id} of order {told.order_id} is in an event and nowhere else",
            )

    def _add(self, kind: ProblemKind, seq: int, detail: str) -> None:
        self.problems.append(
            Problem(kind=kind, account=self._account.account, seq=seq, detail=detail)
        )


class _Missing:
    """Orders that events tell of, and that are not there."""

    def __init__(self, account: AccountRecord) -> None:
        self._account = account

    async def __call__(self, queries: Queries) -> Sequence[Problem]:
        return [
            Problem(
                kind=ProblemKind.ORDER_MISSING,
                account=self._account.account,
                seq=row.seq,
                detail=f"order {row.order_id} is in an event and nowhere else",
            )
            for row in await queries.list_event_orders_missing(account_id=self._account.account_id)
        ]


class _Orders:
    """Some orders of an account, each against the last event that tells of it."""

    def __init__(self, *, account: AccountRecord, after: UUID, archived: ArchivedChain) -> None:
        self._account = account
        self._after = after
        self._archived = archived
        self.last: UUID | None = None
        self.problems: list[Problem] = []

    async def check(self, queries: Queries) -> None:
        for row in await queries.list_orders_after(
            account_id=self._account.account_id, order_id=self._after, limit_rows=_CHUNK
        ):
            self.last = row.order_id
            try:
                await self._check_one(queries, row.order_id)
            except StoreCorrupt:
                continue  # An unreadable payload: the chain told of it.

    async def _check_one(self, queries: Queries, order_id: UUID) -> None:
        row = await queries.find_order(order_id=order_id)
        assert row is not None
        stored = to_order(row, self._account.account, ())
        last = await queries.find_last_event_of_order(order_id=order_id)
        if last is None:
            cut = await queries.find_checkpoint(account_id=self._account.account_id)
            if cut is None or stored.seq > cut.seq or self._archived.lacks(order_id, stored.seq):
                self._add(ProblemKind.UNEXPECTED_ROW, stored, f"order {order_id} is in no event")
            return
        told = decode_event(last.payload).order
        if told is None:
            told = stored
        if told != stored:
            self._add(
                ProblemKind.ORDER_DIFFERS,
                stored,
                f"order {order_id}: {_difference(told, stored)}",
            )

    def _add(self, kind: ProblemKind, order: Order, detail: str) -> None:
        self.problems.append(
            Problem(kind=kind, account=self._account.account, seq=order.seq, detail=detail)
        )


def _difference(told: Order | Fill, stored: Order | Fill) -> str:
    return "; ".join(_differing_fields(told, stored))


def _differing_fields(told: Order | Fill, stored: Order | Fill) -> Iterator[str]:
    for field in fields(told):
        said, found = getattr(told, field.name), getattr(stored, field.name)
        if field.compare and said != found:
            yield f"the event says {field.name} {said!r}, the row {found!r}"
