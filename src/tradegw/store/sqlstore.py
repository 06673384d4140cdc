"""A `ports.Store` over SQL, whatever the engine: `sqlite` and `memory` say how work reaches the database."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tradegw._generated.queries import Queries
from tradegw.model import (
    AccountId,
    AccountName,
    Balance,
    ClientOrderId,
    Fill,
    Halt,
    Instrument,
    Order,
    OrderEvent,
    OrderId,
    OrdStatus,
    Position,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw.ports import (
    AccountRecord,
    Claim,
    Cursor,
    Entry,
    EventFilter,
    FillFilter,
    Head,
    InboxEntry,
    KeyTaken,
    Known,
    Listing,
    OrderFilter,
    Problem,
    Replayed,
    Stored,
)
from tradegw.store import verify, writes
from tradegw.store.archive import Access
from tradegw.store.reads import Accounts, Reads
from tradegw.store.rows import to_inbox

__all__ = ["SqlStore"]

ResultT = TypeVar("ResultT")
Work = Callable[[Queries], Coroutine[Any, Any, ResultT]]


class SqlStore(abc.ABC):
    """The methods of `ports.Store`, by five that an engine gives."""

    def __init__(self) -> None:
        self._accounts = Accounts()

    # --- what an engine gives ---------------------------------------------------------------------

    @abc.abstractmethod
    def subscribe(self, listener: Callable[[Sequence[OrderEvent]], None]) -> None:
        """Call `listener` with the events of each commit."""

    @abc.abstractmethod
    async def append(self, entry: Entry) -> Stored | KeyTaken | Replayed:
        """Store an entry, durably, whole or not at all."""

    @abc.abstractmethod
    def readmit(self, account_id: AccountId) -> None:
        """Take entries of an account again, after a commit that it was part of failed."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Finish what was appended, and let go of the store."""

    @abc.abstractmethod
    async def _write(self, work: Work[ResultT], account_id: AccountId | None = None) -> ResultT:
        """Run a unit of work, durably, whole or not at all.

        Args:
            account_id: Whose facts it writes, if they are one account's.
        """

    @abc.abstractmethod
    async def _read(self, work: Work[ResultT]) -> ResultT:
        """Run a unit of work that may take long inside one snapshot."""

    @abc.abstractmethod
    async def _look(self, work: Work[ResultT]) -> ResultT:
        """Run a unit of work that looks at a few rows by their keys inside one snapshot."""

    # --- writing ----------------------------------------------------------------------------------

    async def put_account(self, record: AccountRecord) -> AccountRecord:
        """Store an account, or update the one of that name, and return it as stored."""
        return await self._write(lambda q: writes.put_account(q, record))

    async def put_instruments(
        self, venue: str, instruments: Sequence[Instrument], *, time_ns: int
    ) -> None:
        """Replace what is known of a venue's instruments."""
        await self._write(lambda q: writes.put_instruments(q, venue, instruments, time_ns))

    async def take_client_numbers(self, account_id: AccountId, *, count: int, first: int) -> range:
        """Take `count` numbers that no order of the account was ever named by, durably."""
        return await self._write(
            lambda q: writes.take_client_numbers(q, account_id, count, first), account_id
        )

    async def put_balances(self, account_id: AccountId, balances: Sequence[Balance]) -> None:
        """Store the balances that are given; others stay as they are."""
        await self._write(lambda q: writes.put_balances(q, account_id, balances), account_id)

    async def put_positions(self, account_id: AccountId, positions: Sequence[Position]) -> None:
        """Store the positions that are given; others stay as they are."""
        await self._write(lambda q: writes.put_positions(q, account_id, positions), account_id)

    async def put_watermark(
        self, account_id: AccountId, symbol: str, *, read_until_ns: int
    ) -> None:
        """Remember until when, by the venue's clock, the fills of a symbol were read."""
        await self._write(
            lambda q: q.put_watermark(
                account_id=account_id, symbol=symbol, read_until_ns=read_until_ns
            ),
            account_id,
        )

    async def list_watermarks(self, account_id: AccountId) -> Mapping[str, int]:
        """Return until when fills were read, by symbol."""
        return await self._look(lambda q: self._on(q).list_watermarks(account_id))

    async def put_outbox_cursor(self, sink: str, account_id: AccountId, *, seq: int) -> None:
        """Remember up to which event a sink has confirmed. It never goes back."""
        await self._write(lambda q: q.put_outbox_cursor(sink=sink, account_id=account_id, seq=seq))

    async def get_outbox_cursor(self, sink: str, account_id: AccountId) -> int:
        """Return up to which event a sink has confirmed; 0 before the first."""
        row = await self._look(lambda q: q.find_outbox_cursor(sink=sink, account_id=account_id))
        return 0 if row is None else row.seq

    async def put_inbox(self, entry: InboxEntry) -> InboxEntry | None:
        """Remember that a message has taken effect. Returns what was remembered before, if it was."""
        return await self._write(lambda q: writes.put_inbox(q, entry))

    async def find_inbox(self, source: str, message_id: str) -> InboxEntry | None:
        """Return what is remembered of a message."""
        row = await self._look(lambda q: q.find_inbox(source=source, message_id=message_id))
        return None if row is None else to_inbox(row)

    async def list_unmatched_fills(
        self, account_id: AccountId, *, after_seq: int, limit: int
    ) -> Sequence[Fill]:
        """Return fills that have found no order yet, those with numbers above `after_seq`, in that order."""
        return await self._read(
            lambda q: self._on(q).list_unmatched_fills(account_id, after_seq, limit)
        )

    async def put_halt(self, halt: Halt, claim: Claim | None = None) -> KeyTaken | None:
        """Store a halt, and the key that asked for it. A halt of the same scope is replaced."""
        return await self._write(lambda q: writes.put_halt(q, halt, claim))

    async def delete_halt(self, scope: str, claim: Claim | None = None) -> KeyTaken | None:
        """End a halt, and store the key that asked for it."""
        return await self._write(lambda q: writes.delete_halt(q, scope, claim))

    async def put_claim(self, claim: Claim) -> KeyTaken | None:
        """Store the use of a key that made no order. Returns the earlier use, if there is one."""
        return await self._write(lambda q: writes.put_claim(q, claim))

    # --- a few rows -------------------------------------------------------------------------------

    async def list_accounts(self) -> Sequence[AccountRecord]:
        """Return every account, in the order of their names."""
        return await self._look(lambda q: self._on(q).list_accounts())

    async def list_halts(self) -> Sequence[Halt]:
        """Return every halt, in the order of their scopes."""
        return await self._look(lambda q: self._on(q).list_halts())

    async def find_claim(self, scope: str, idempotency_key: str) -> Claim | None:
        """Return the use of a key."""
        return await self._look(lambda q: self._on(q).find_claim(scope, idempotency_key))

    async def find_order(self, order_id: OrderId) -> Order | None:
        """Return an order as it stands."""
        return await self._look(lambda q: self._on(q).find_order(order_id))

    async def find_order_by_client_id(
        self, account_id: AccountId, client_order_id: ClientOrderId
    ) -> Order | None:
        """Return the order that an account has under a client order id."""
        return await self._look(
            lambda q: self._on(q).find_order_by_client_id(account_id, client_order_id)
        )

    async def find_known(
        self,
        account_id: AccountId,
        *,
        order_id: OrderId | None = None,
        venue_client_order_id: VenueClientOrderId | None = None,
        venue_order_id: VenueOrderId | None = None,
    ) -> Known | None:
        """Return an order with all that applying a report to it needs, by the first id that is given."""
        return await self._look(
            lambda q: self._on(q).find_known(
                account_id, order_id, venue_client_order_id, venue_order_id
            )
        )

    async def get_head(self, account: AccountName) -> Head:
        """Return the committed end of the account's stream.

        Raises:
            NotFound: There is no account of that name.
        """
        return await self._look(lambda q: self._on(q).get_head(account))

    async def get_checkpoint(self, account: AccountName) -> Head:
        """Return the last event of the account that was archived.

        Raises:
            NotFound: There is no account of that name.
        """
        return await self._look(lambda q: self._on(q).get_checkpoint(account))

    # --- many -------------------------------------------------------------------------------------

    async def list_balances(self, account_id: AccountId) -> Sequence[Balance]:
        """Return an account's balances, in the order of the assets' names."""
        return await self._read(lambda q: self._on(q).list_balances(account_id))

    async def list_positions(self, account_id: AccountId) -> Sequence[Position]:
        """Return an account's positions, in the order of their symbols."""
        return await self._read(lambda q: self._on(q).list_positions(account_id))

    async def list_instruments(self, venue: str) -> Sequence[Instrument]:
        """Return a venue's instruments, in the order of their symbols."""
        return await self._read(lambda q: self._on(q).list_instruments(venue))

    async def list_known_open(self, account_id: AccountId) -> Sequence[Known]:
        """Return every open order of the account, oldest first."""
        return await self._read(lambda q: self._on(q).list_known_open(account_id))

    async def list_orders(
        self, where: OrderFilter, *, limit: int, cursor: Cursor | None = None
    ) -> Listing[Order]:
        """Return orders, newest first.

        Raises:
            InvalidOrder: The cursor is not one of ours; reason `INVALID_PAGE_TOKEN`.
        """
        return await self._read(lambda q: self._on(q).list_orders(where, limit, cursor))

    async def list_fills(
        self, where: FillFilter, *, limit: int, cursor: Cursor | None = None
    ) -> Listing[Fill]:
        """Return fills, newest first by the venue's clock.

        Raises:
            InvalidOrder: The cursor is not one of ours; reason `INVALID_PAGE_TOKEN`.
        """
        return await self._read(lambda q: self._on(q).list_fills(where, limit, cursor))

    async def list_events(self, where: EventFilter, *, limit: int) -> Sequence[OrderEvent]:
        """Return events in the order of their numbers; of an order, those that are not archived.

        Raises:
            NotFound: There is no account of that name.
            InvalidOrder: The event after `after_seq` is archived; reason `OUT_OF_RANGE`.
        """
        return await self._read(lambda q: self._on(q).list_events(where, limit))

    async def list_stream_fills(
        self, account: AccountName, *, after_seq: int, limit: int
    ) -> Sequence[Fill]:
        """Return the account's fills whose event has a number above `after_seq`, in that order.

        Raises:
            NotFound: There is no account of that name.
            InvalidOrder: The event after `after_seq` is archived; reason `OUT_OF_RANGE`.
        """
        return await self._read(lambda q: self._on(q).list_stream_fills(account, after_seq, limit))

    async def list_event_hashes(
        self, account: AccountName, *, after_seq: int, limit: int
    ) -> Sequence[tuple[int, bytes]]:
        """Return numbers and hashes of events, for anchors.

        Raises:
            NotFound: There is no account of that name.
        """
        return await self._read(lambda q: self._on(q).list_event_hashes(account, after_seq, limit))

    async def count_orders(self) -> Mapping[OrdStatus, int]:
        """Count the orders by status; a status that no order has is absent."""
        return await self._read(lambda q: self._on(q).count_orders())

    async def ping(self) -> None:
        """Run a real query.

        Raises:
            StoreError: It failed.
        """
        await self._read(lambda q: self._on(q).ping())

    def verify(self, archives: Sequence[Path] = ()) -> AsyncIterator[Problem]:
        """Check every chain, compare orders and fills with the events, and yield what contradicts.

        Args:
            archives: Files with the events before the checkpoints. Chains whose files are given are checked
                from the beginning.
        """
        return verify.verify(self._read, archives)

    @property
    def access(self) -> Access:
        """The way to this store for whoever archives it, while nobody else writes it."""
        return _Access(self._read, self._write)

    def _on(self, queries: Queries) -> Reads:
        return Reads(queries, self._accounts)


class _Access:
    def __init__(self, read: Callable[..., Any], write: Callable[..., Any]) -> None:
        self.read = read
        self.write = write
