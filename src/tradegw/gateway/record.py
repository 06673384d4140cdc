"""The record without a gateway: who writes it now, and reading it beside them.

What a command line needs to answer from the store alone. The gateway itself is assembled in `open`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from tradegw.errors import ConfigError, InvalidOrder, NotFound
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.config import Config
from tradegw.model import (
    AccountName,
    Balance,
    ClientOrderId,
    Cursor,
    Fill,
    FillFilter,
    Listing,
    Order,
    OrderEvent,
    OrderFilter,
    OrderId,
    Position,
    VenueOrderId,
)
from tradegw.ports import AccountRecord, EventFilter, Head, Problem, Store
from tradegw.store import LockHolder, is_postgres, open_store, read_lock, sqlite_path
from tradegw.store.verify_archived import by_account

__all__ = ["Record", "find_running", "has_record", "open_record"]

_PAGE_MAX = 1000


def find_running(config: Config) -> LockHolder | None:
    """Return the process that writes the configured file now, with its addresses; None when none does.

    Who writes a store in Postgres may be anywhere: its address is configured, or named by the caller.
    """
    path = sqlite_path(config.store.url)
    return None if path is None else read_lock(path)


def has_record(config: Config) -> bool:
    """Whether the configured store can be read without a gateway: in Postgres, or a file that exists."""
    if is_postgres(config.store.url):
        return True
    path = sqlite_path(config.store.url)
    return path is not None and path.is_file()


@asynccontextmanager
async def open_record(config: Config) -> AsyncGenerator[Record]:
    """Open the configured store for reading, beside whoever writes it.

    Raises:
        ConfigError: There is no such store, or it is one that only its own process can read.
        StoreError: It cannot be read: corrupt, or of another release.
    """
    if config.store.url == "memory://":
        raise ConfigError("store.url is memory://, which only the gateway that holds it can read")
    store = await open_store(config.store.url, clock=SystemClock(), read_only=True)
    try:
        yield Record(store)
    finally:
        await store.close()


class Record:
    """What is stored, with the reading methods of `Gateway`. Made by `open_record`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list_accounts(self) -> Sequence[AccountRecord]:
        """Return every account that was ever served."""
        return await self._store.list_accounts()

    async def get_order(self, order_id: OrderId) -> Order:
        """Return an order as stored; see `Gateway.get_order`."""
        order = await self._store.find_order(_uuid(order_id))
        if order is None:
            raise NotFound(f"there is no order {order_id}", reason="UNKNOWN_ORDER")
        return order

    async def find_order(
        self,
        *,
        account: str,
        client_order_id: ClientOrderId | str | None = None,
        venue_order_id: VenueOrderId | str | None = None,
    ) -> Order | None:
        """Return the order of that name, or None; see `Gateway.find_order`."""
        record = await self._account(account)
        if client_order_id is not None:
            return await self._store.find_order_by_client_id(
                record.account_id, ClientOrderId(client_order_id)
            )
        known = await self._store.find_known(
            record.account_id, venue_order_id=VenueOrderId(str(venue_order_id))
        )
        return None if known is None else known.order

    async def list_orders(
        self,
        where: OrderFilter | None = None,
        *,
        page_size: int = 100,
        page_token: Cursor | str | None = None,
    ) -> Listing[Order]:
        """Return orders, newest first; see `Gateway.list_orders`."""
        where = where or OrderFilter()
        await self._check_accounts(where.accounts)
        return await self._store.list_orders(where, limit=page_size, cursor=_cursor(page_token))

    async def list_fills(
        self,
        where: FillFilter | None = None,
        *,
        page_size: int = 100,
        page_token: Cursor | str | None = None,
    ) -> Listing[Fill]:
        """Return fills, newest first; see `Gateway.list_fills`."""
        where = where or FillFilter()
        await self._check_accounts(where.accounts)
        return await self._store.list_fills(where, limit=page_size, cursor=_cursor(page_token))

    async def list_order_events(self, order_id: OrderId) -> Sequence[OrderEvent]:
        """Return the whole story of an order; see `Gateway.list_order_events`."""
        order = await self.get_order(order_id)
        events: list[OrderEvent] = []
        after = 0
        while True:
            page = await self._store.list_events(
                EventFilter(account=order.account, order_id=order.order_id, after_seq=after),
                limit=_PAGE_MAX,
            )
            events.extend(page)
            if len(page) < _PAGE_MAX:
                return events
            after = page[-1].seq

    async def list_balances(self, account: str) -> Sequence[Balance]:
        """Return the balances as the venue last reported them to a gateway."""
        return await self._store.list_balances((await self._account(account)).account_id)

    async def list_positions(self, account: str) -> Sequence[Position]:
        """Return the positions as the venue last reported them to a gateway."""
        return await self._store.list_positions((await self._account(account)).account_id)

    async def heads(self) -> Mapping[AccountName, Head]:
        """Return the end of each account's stream, with its hash."""
        return {
            record.account: await self._store.get_head(record.account)
            for record in await self._store.list_accounts()
        }

    async def find_hash(self, account: AccountName, seq: int) -> bytes | None:
        """Return the hash of an event, or None when there is none of that number, or it is archived."""
        cut = await self._store.get_checkpoint(account)
        if seq == cut.seq:
            return cut.hash
        found = await self._store.list_event_hashes(account, after_seq=seq - 1, limit=1)
        return found[0][1] if found and found[0][0] == seq else None

    async def checkpoints(self) -> Mapping[str, Head]:
        """Return the last event of each account that was archived; others are left out."""
        found = {
            record.account: await self._store.get_checkpoint(record.account)
            for record in await self._store.list_accounts()
        }
        return {account: head for account, head in found.items() if head.seq}

    async def accounts_in(self, archives: Sequence[Path]) -> frozenset[AccountName]:
        """Return those of our accounts of which there is a file among these.

        Raises:
            ConfigError: There is no such file, or it is of another release.
            StoreCorrupt: It is no archive.
        """
        found = await asyncio.to_thread(by_account, archives)
        return frozenset(
            record.account
            for record in await self._store.list_accounts()
            if record.account_id in found
        )

    def verify(self, archives: Sequence[Path] = ()) -> AsyncIterator[Problem]:
        """Yield whatever in the record contradicts the rest of it.

        Args:
            archives: Files with what was archived.
        """
        return self._store.verify(archives)

    async def _account(self, name: str) -> AccountRecord:
        records = await self._store.list_accounts()
        for record in records:
            if record.account == name:
                return record
        known = ", ".join(sorted(record.account for record in records)) or "none"
        raise NotFound(f"there is no account {name!r}; there are {known}", reason="UNKNOWN_ACCOUNT")

    async def _check_accounts(self, names: Sequence[AccountName] | None) -> None:
        for name in names or ():
            await self._account(name)


def _uuid(order_id: OrderId | str) -> OrderId:
    try:
        return OrderId(UUID(str(order_id)))
    except ValueError as e:
        raise InvalidOrder(
            f"order_id must be a UUID; found {order_id!r:.80}", reason="INVALID_FIELD"
        ) from e


def _cursor(token: Cursor | str | None) -> Cursor | None:
    return Cursor(token) if token else None
