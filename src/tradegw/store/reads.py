"""What is asked of the tables, written once against `Queries`. Each runs inside one snapshot."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from tradegw._generated.queries import FillRow, Queries
from tradegw.errors import InvalidOrder, NotFound, StoreCorrupt
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
    EventFilter,
    FillFilter,
    Head,
    Known,
    Listing,
    OrderFilter,
)
from tradegw.store.codec import decode_event, tags_text
from tradegw.store.pages import (
    END,
    fill_cursor,
    fill_key,
    order_cursor,
    order_key,
)
from tradegw.store.rows import (
    to_account,
    to_claim,
    to_fill,
    to_instrument,
    to_order,
    to_ref,
    to_unmatched_fill,
)

__all__ = ["Accounts", "Reads"]


class Accounts:
    """Names and ids of accounts, remembered: neither ever changes."""

    def __init__(self) -> None:
        self._names: dict[UUID, AccountName] = {}
        self._ids: dict[AccountName, AccountId] = {}

    async def name(self, queries: Queries, account_id: UUID) -> AccountName:
        """Return the name of an account that a row refers to."""
        if account_id not in self._names:
            await self._read(queries)
        try:
            return self._names[account_id]
        except KeyError:
            raise StoreCorrupt(
                f"a row refers to account {account_id}, which is not there"
            ) from None

    async def find_id(self, queries: Queries, name: AccountName) -> AccountId | None:
        """Return the id of an account, if there is one of that name."""
        if name not in self._ids:
            await self._read(queries)
        return self._ids.get(name)

    async def get_id(self, queries: Queries, name: AccountName) -> AccountId:
        """Return the id of an account.

        Raises:
            NotFound: There is none of that name.
        """
        found = await self.find_id(queries, name)
        if found is None:
            raise NotFound(f"no account {name!r} in the store", reason="ACCOUNT_NOT_FOUND")
        return found

    async def all_ids(self, queries: Queries) -> tuple[AccountId, ...]:
        """Return the id of every account."""
        await self._read(queries)
        return tuple(self._ids.values())

    async def _read(self, queries: Queries) -> None:
        for row in await queries.list_accounts():
            self._names[row.account_id] = AccountName(row.account)
            self._ids[AccountName(row.account)] = AccountId(row.account_id)


class Reads:
    """The questions of `ports.Store`, on one `Queries`."""

    __slots__ = ("_accounts", "_queries")

    def __init__(self, queries: Queries, accounts: Accounts) -> None:
        self._queries = queries
        self._accounts = accounts

    async def list_accounts(self) -> Sequence[AccountRecord]:
        return [to_account(row) for row in await self._queries.list_accounts()]

    async def list_halts(self) -> Sequence[Halt]:
        return [
            Halt(scope=row.scope, why=row.why, by=row.halted_by, since_ns=row.since_ns)
            for row in await self._queries.list_halts()
        ]

    async def list_balances(self, account_id: AccountId) -> Sequence[Balance]:
        account = await self._accounts.name(self._queries, account_id)
        return [
            Balance(
                account=account, asset=row.asset, free=row.free, held=row.held, time_ns=row.time_ns
            )
            for row in await self._queries.list_balances(account_id=account_id)
        ]

    async def list_positions(self, account_id: AccountId) -> Sequence[Position]:
        account = await self._accounts.name(self._queries, account_id)
        return [
            Position(
                account=account,
                symbol=row.symbol,
                qty=row.qty,
                entry_px=row.entry_px,
                time_ns=row.time_ns,
            )
            for row in await self._queries.list_positions(account_id=account_id)
        ]

    async def list_instruments(self, venue: str) -> Sequence[Instrument]:
        return [to_instrument(row) for row in await self._queries.list_instruments(venue=venue)]

    async def find_claim(self, scope: str, idempotency_key: str) -> Claim | None:
        row = await self._queries.find_command(scope=scope, idempotency_key=idempotency_key)
        return None if row is None else to_claim(row)

    # --- orders -----------------------------------------------------------------------------------

    async def find_order(self, order_id: OrderId) -> Order | None:
        row = await self._queries.find_order(order_id=order_id)
        if row is None:
            return None
        counted = await self._queries.list_fills_counted(
            account_id=row.account_id, order_id=order_id
        )
        return to_order(row, await self._accounts.name(self._queries, row.account_id), counted)

    async def find_order_by_client_id(
        self, account_id: AccountId, client_order_id: ClientOrderId
    ) -> Order | None:
        row = await self._queries.find_order_id_by_client_order_id(
            account_id=account_id, client_order_id=client_order_id
        )
        return None if row is None else await self.find_order(OrderId(row.order_id))

    async def find_known(
        self,
        account_id: AccountId,
        order_id: OrderId | None,
        venue_client_order_id: VenueClientOrderId | None,
        venue_order_id: VenueOrderId | None,
    ) -> Known | None:
        found: UUID | None = order_id
        if found is None and venue_client_order_id is not None:
            row = await self._queries.find_order_id_by_venue_client_order_id(
                account_id=account_id, venue_client_order_id=venue_client_order_id
            )
            found = None if row is None else row.order_id
        elif found is None and venue_order_id is not None:
            ref = await self._queries.find_order_id_by_venue_order_id(
                account_id=account_id, venue_order_id=venue_order_id
            )
            # An order that is not ours has no incarnation of our making.
            order = ref or await self._queries.find_order_id_at_venue(
                account_id=account_id, venue_order_id=venue_order_id
            )
            found = None if order is None else order.order_id
        return None if found is None else await self._known(account_id, found)

    async def list_known_open(self, account_id: AccountId) -> Sequence[Known]:
        found: list[Known] = []
        for row in await self._queries.list_open_orders(account_id=account_id):
            known = await self._known(account_id, row.order_id)
            assert known is not None
            found.append(known)
        return found

    async def _known(self, account_id: AccountId, order_id: UUID) -> Known | None:
        row = await self._queries.find_order(order_id=order_id)
        if row is None or row.account_id != account_id:
            return None
        counted = await self._queries.list_fills_counted(account_id=account_id, order_id=order_id)
        refs = await self._queries.list_venue_order_refs(order_id=order_id)
        account = await self._accounts.name(self._queries, account_id)
        return Known(order=to_order(row, account, counted), refs=tuple(to_ref(ref) for ref in refs))

    async def list_orders(
        self, where: OrderFilter, limit: int, cursor: Cursor | None
    ) -> Listing[Order]:
        key = order_key(cursor)
        account_ids = await self._account_ids(where.accounts)
        if where.created_before_ns is not None:
            key = min(key, (_clamp(where.created_before_ns), UUID(int=0)))
        if where.client_order_id is not None or _is_open_only(where):
            orders = await self._list_few(where, account_ids, key, limit + 1)
        else:
            orders = await self._list_many(where, account_ids, key, limit + 1)
        page = tuple(orders[:limit])
        if len(orders) <= limit or not page:
            return Listing(items=page)
        last = page[-1]
        return Listing(items=page, next_cursor=order_cursor((last.created_time_ns, last.order_id)))

    async def _list_many(
        self,
        where: OrderFilter,
        account_ids: tuple[AccountId, ...] | None,
        before: tuple[int, UUID],
        limit: int,
    ) -> list[Order]:
        """Walk the orders from the newest back, and let the database leave out what does not fit."""
        rows = await self._queries.list_orders(
            before_ns=before[0],
            before_order_id=before[1],
            from_ns=_clamp(where.created_from_ns or 0),
            account_ids=_json(account_ids),
            statuses=_json(where.statuses),
            venue=where.venue,
            symbol=where.symbol,
            side=None if where.side is None else str(where.side),
            in_doubt=where.in_doubt,
            tags=tags_text(where.tags),
            limit_rows=limit,
        )
        return [await self._get_order(row.order_id) for row in rows]

    async def _list_few(
        self,
        where: OrderFilter,
        account_ids: tuple[AccountId, ...] | None,
        before: tuple[int, UUID],
        limit: int,
    ) -> list[Order]:
        """Start from the few orders that an index names: open ones, or those of one client order id.

        Walking back through years of closed orders would find the same, slowly.
        """
        keys: list[tuple[int, UUID]] = []
        if account_ids is None:
            account_ids = await self._accounts.all_ids(self._queries)
        for account_id in account_ids:
            if where.client_order_id is not None:
                found = await self._queries.find_order_id_by_client_order_id(
                    account_id=account_id, client_order_id=where.client_order_id
                )
                if found is not None:
                    order = await self._get_order(found.order_id)
                    keys.append((order.created_time_ns, order.order_id))
            else:
                rows = await self._queries.list_open_orders(account_id=account_id)
                keys += [(row.created_time_ns, row.order_id) for row in rows]
        orders: list[Order] = []
        for key in sorted((key for key in keys if key < before), reverse=True):
            order = await self._get_order(key[1])
            if _passes(order, where):
                orders.append(order)
                if len(orders) == limit:
                    break
        return orders

    async def _get_order(self, order_id: UUID) -> Order:
        order = await self.find_order(OrderId(order_id))
        # Same snapshot: what a listing names is there.
        assert order is not None
        return order

    async def _account_ids(
        self, names: Sequence[AccountName] | None
    ) -> tuple[AccountId, ...] | None:
        if names is None:
            return None
        found = [await self._accounts.find_id(self._queries, name) for name in names]
        return tuple(account_id for account_id in found if account_id is not None)

    async def count_orders(self) -> Mapping[OrdStatus, int]:
        return {OrdStatus(row.ord_status): row.orders for row in await self._queries.count_orders()}

    # --- fills ------------------------------------------------------------------------------------

    async def list_fills(
        self, where: FillFilter, limit: int, cursor: Cursor | None
    ) -> Listing[Fill]:
        key = fill_key(cursor)
        if where.before_ns is not None:
            key = min(key, (_clamp(where.before_ns), UUID(int=0), 0))
        if where.order_id is not None:
            rows = await self._list_fills_of_order(where, where.order_id, key, limit + 1)
        else:
            rows = await self._queries.list_fills(
                before_ns=key[0],
                before_account_id=key[1],
                before_seq=key[2],
                from_ns=_clamp(where.from_ns or 0),
                account_ids=_json(await self._account_ids(where.accounts)),
                venue=where.venue,
                symbol=where.symbol,
                side=None if where.side is None else str(where.side),
                limit_rows=limit + 1,
            )
        page = tuple([await self._to_fill(row) for row in rows[:limit]])
        if len(rows) <= limit or not page:
            return Listing(items=page)
        last = rows[limit - 1]
        return Listing(
            items=page,
            next_cursor=fill_cursor((last.transact_time_ns, last.account_id, last.seq)),
        )

    async def _list_fills_of_order(
        self, where: FillFilter, order_id: OrderId, key: tuple[int, UUID, int], limit: int
    ) -> list[FillRow]:
        order = await self._queries.find_order(order_id=order_id)
        if order is None:
            return []
        # A fill has the account, venue, symbol and side of its order.
        account = await self._accounts.name(self._queries, order.account_id)
        fits = (
            (where.accounts is None or account in where.accounts)
            and where.venue in (None, order.venue)
            and where.symbol in (None, order.symbol)
            and where.side in (None, order.side)
        )
        if not fits:
            return []
        return await self._queries.list_fills_of_order(
            account_id=order.account_id,
            order_id=order_id,
            before_ns=key[0],
            before_seq=key[2],
            from_ns=_clamp(where.from_ns or 0),
            limit_rows=limit,
        )

    async def _to_fill(self, row: FillRow) -> Fill:
        return to_fill(row, await self._accounts.name(self._queries, row.account_id))

    async def list_stream_fills(
        self, account: AccountName, after_seq: int, limit: int
    ) -> Sequence[Fill]:
        account_id = await self._accounts.get_id(self._queries, account)
        after = _clamp(after_seq)
        await self._check_archived(account, account_id, after)
        fills = await self._queries.list_fills_after(
            account_id=account_id, after_seq=after, up_to_seq=END, limit_rows=limit
        )
        unmatched = await self._queries.list_unmatched_fills_after(
            account_id=account_id, after_seq=after, up_to_seq=END, limit_rows=limit
        )
        merged = heapq.merge(
            [to_fill(row, account) for row in fills],
            [to_unmatched_fill(row, account) for row in unmatched],
            key=lambda fill: fill.seq,
        )
        return list(merged)[:limit]

    async def list_unmatched_fills(
        self, account_id: AccountId, after_seq: int, limit: int
    ) -> Sequence[Fill]:
        account = await self._accounts.name(self._queries, account_id)
        rows = await self._queries.list_unattached_fills_after(
            account_id=account_id, after_seq=_clamp(after_seq), limit_rows=limit
        )
        return [to_unmatched_fill(row, account) for row in rows]

    async def list_watermarks(self, account_id: AccountId) -> Mapping[str, int]:
        rows = await self._queries.list_watermarks(account_id=account_id)
        return {row.symbol: row.read_until_ns for row in rows}

    # --- events -----------------------------------------------------------------------------------

    async def list_events(self, where: EventFilter, limit: int) -> Sequence[OrderEvent]:
        account_id = await self._accounts.get_id(self._queries, where.account)
        after = _clamp(where.after_seq)
        if where.order_id is not None:
            story = await self._queries.list_events_of_order(
                account_id=account_id, order_id=where.order_id, after_seq=after, limit_rows=limit
            )
            return [decode_event(row.payload) for row in story]
        await self._check_archived(where.account, account_id, after)
        rows = await self._queries.list_order_events(
            account_id=account_id, after_seq=after, limit_rows=limit
        )
        return [decode_event(row.payload) for row in rows]

    async def _check_archived(self, account: AccountName, account_id: UUID, after: int) -> None:
        """Refuse to go on after an event when the next one has left: there would be a gap."""
        cut = await self._queries.find_checkpoint(account_id=account_id)
        if cut is not None and after < cut.seq:
            raise InvalidOrder(
                f"the events of {account} up to {cut.seq} are archived; the oldest here is "
                f"{cut.seq + 1}, and cannot follow after {after}",
                reason="OUT_OF_RANGE",
            )

    async def get_checkpoint(self, account: AccountName) -> Head:
        account_id = await self._accounts.get_id(self._queries, account)
        row = await self._queries.find_checkpoint(account_id=account_id)
        return Head() if row is None else Head(seq=row.seq, hash=row.hash)

    async def list_event_hashes(
        self, account: AccountName, after_seq: int, limit: int
    ) -> Sequence[tuple[int, bytes]]:
        rows = await self._queries.list_event_hashes(
            account_id=await self._accounts.get_id(self._queries, account),
            after_seq=_clamp(after_seq),
            limit_rows=limit,
        )
        return [(row.seq, row.hash) for row in rows]

    async def get_head(self, account: AccountName) -> Head:
        account_id = await self._accounts.get_id(self._queries, account)
        row = await self._queries.find_head(account_id=account_id)
        return Head() if row is None else Head(seq=row.seq, hash=row.hash)

    async def ping(self) -> None:
        await self._queries.ping()


def _is_open_only(where: OrderFilter) -> bool:
    # An order in doubt is open.
    return where.in_doubt is True or (
        where.statuses is not None and all(status.is_open for status in where.statuses)
    )


def _passes(order: Order, where: OrderFilter) -> bool:
    return (
        where.venue in (None, order.venue)
        and where.symbol in (None, order.symbol)
        and where.side in (None, order.side)
        and (where.statuses is None or order.ord_status in where.statuses)
        and where.in_doubt in (None, bool(order.in_doubt))
        and all(order.tags.get(name) == value for name, value in where.tags.items())
        and where.client_order_id in (None, order.client_order_id)
        and order.created_time_ns >= (where.created_from_ns or 0)
    )


def _json(values: Sequence[object] | None) -> str | None:
    return None if values is None else msgspec.json.encode([str(v) for v in values]).decode()


def _clamp(number: int) -> int:
    """Bring a number from outside into the range of a column, where it lets through the same rows."""
    return max(0, min(number, END))
