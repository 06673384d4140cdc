"""What one entry does to the tables: units of work, written once against `Queries`.

Each runs inside a savepoint that the caller takes back when it raises, or when nothing was to be stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from tradegw._generated.queries import Queries
from tradegw.errors import DuplicateClientOrderId, StoreCorrupt, UsageError
from tradegw.model import (
    AccountId,
    Balance,
    Fill,
    Halt,
    Instrument,
    Order,
    OrderEvent,
    OrderId,
    Position,
)
from tradegw.ports import AccountRecord, Claim, Entry, Head, InboxEntry, KeyTaken, Replayed, Stored
from tradegw.store.codec import chain, encode_event, normal, numbered
from tradegw.store.rows import (
    attach,
    insert_claim,
    insert_fill,
    insert_order,
    insert_unmatched_fill,
    put_ref,
    to_account,
    to_claim,
    to_inbox,
    to_unmatched_fill,
    update_order,
)

__all__ = [
    "append",
    "delete_halt",
    "put_account",
    "put_balances",
    "put_claim",
    "put_halt",
    "put_inbox",
    "put_instruments",
    "put_positions",
    "take_client_numbers",
]


async def append(
    queries: Queries, entry: Entry, head: Head
) -> tuple[Stored | KeyTaken | Replayed, Head]:
    """Store an entry behind `head`, and return the new head. Anything but `Stored` is to be undone.

    Raises:
        DuplicateClientOrderId: The account has an order with that client order id.
        UsageError: The entry contradicts what is stored, such as an update of an unknown order.
    """
    if entry.claim is not None and (taken := await put_claim(queries, entry.claim)) is not None:
        return taken, head
    events = tuple(numbered(event, head.seq + i) for i, event in enumerate(entry.events, 1))
    order = _order_of(entry, [event.order for event in events if event.order is not None])
    if order is not None:
        await _put_order(queries, entry, order)
    if entry.ref is not None:
        await put_ref(queries, entry.account_id, entry.ref)
    for event in events:
        payload = encode_event(event)
        digest = chain(head.hash, entry.account_id, event.seq, payload)
        await queries.insert_order_event(
            account_id=entry.account_id,
            seq=event.seq,
            order_id=event.order_id,
            event_type=str(event.event_type),
            time_ns=event.time_ns,
            payload=payload,
            prev_hash=head.hash,
            hash=digest,
        )
        head = Head(seq=event.seq, hash=digest)
        fill = event.fill
        if event.attaches:
            fill = await _attached(queries, entry.account_id, event)
        if fill is not None and not await _insert_fill(queries, entry.account_id, fill):
            return Replayed(order_id=fill.order_id, trade_id=fill.trade_id), head
    return Stored(events=events), head


def _order_of(entry: Entry, orders: Sequence[Order]) -> Order | None:
    if len({order.order_id for order in orders}) > 1:
        raise UsageError("the events of an entry tell of one order; found several")
    if not orders:
        if entry.is_new_order:
            raise UsageError("an entry for a new order has an event that carries it; found none")
        return None
    return orders[-1]


async def _put_order(queries: Queries, entry: Entry, order: Order) -> None:
    if not entry.is_new_order:
        if not await update_order(queries, entry.account_id, order):
            raise UsageError(
                f"expected order {order.order_id} of account {order.account} to be stored; it is not"
            )
    elif not await insert_order(queries, entry.account_id, order):
        raise DuplicateClientOrderId(
            f"account {order.account} has another order with client_order_id "
            f"{order.client_order_id!r}"
        )


async def _insert_fill(queries: Queries, account_id: AccountId, fill: Fill) -> int:
    if fill.order_id is None:
        return await insert_unmatched_fill(queries, account_id, fill)
    return await insert_fill(queries, account_id, OrderId(fill.order_id), fill)


async def _attached(queries: Queries, account_id: AccountId, event: OrderEvent) -> Fill:
    """Return the fill that found its order, under the number with which it entered the stream."""
    row = await queries.find_unmatched_fill(account_id=account_id, seq=event.attaches)
    if row is None or event.order is None:
        raise UsageError(f"event {event.seq} attaches {event.attaches}, which is no unmatched fill")
    return attach(to_unmatched_fill(row, event.account), event.order)


async def put_claim(queries: Queries, claim: Claim) -> KeyTaken | None:
    """Store the use of a key; return the earlier use, if there is one."""
    if await insert_claim(queries, claim):
        return None
    row = await queries.find_command(scope=claim.scope, idempotency_key=claim.idempotency_key)
    if row is None:
        raise StoreCorrupt(f"key {claim.idempotency_key!r} of {claim.scope!r} is taken by nothing")
    return KeyTaken(claim=to_claim(row))


async def put_account(queries: Queries, record: AccountRecord) -> AccountRecord:
    """Store an account, or update the one of that name, and return it as stored."""
    await queries.put_venue(venue=record.venue, plugin=record.plugin)
    await queries.put_account(
        account_id=record.account_id,
        account=record.account,
        venue=record.venue,
        venue_account_id=record.venue_account_id,
        environment=record.environment,
        instance_id=record.instance_id,
        created_time_ns=record.created_time_ns,
    )
    for row in await queries.list_accounts():
        if row.account == record.account:
            return to_account(row)
    raise StoreCorrupt(f"account {record.account!r} was stored and is not there")


async def put_instruments(
    queries: Queries, venue: str, instruments: Sequence[Instrument], time_ns: int
) -> None:
    """Replace what is known of a venue's instruments."""
    await queries.put_venue(venue=venue, plugin="")
    await queries.delete_instruments(venue=venue)
    for instrument in instruments:
        await queries.insert_instrument(
            venue=venue,
            symbol=instrument.symbol,
            venue_symbol=instrument.venue_symbol,
            base_asset=instrument.base_asset,
            quote_asset=instrument.quote_asset,
            settle_asset=instrument.settle_asset,
            tick_size=normal(instrument.tick_size),
            step_size=normal(instrument.step_size),
            qty_min=normal(instrument.qty_min),
            qty_max=normal(instrument.qty_max),
            notional_min=normal(instrument.notional_min),
            notional_max=normal(instrument.notional_max),
            contract_size=normal(instrument.contract_size),
            status=str(instrument.status),
            updated_time_ns=time_ns,
        )


async def put_balances(
    queries: Queries, account_id: AccountId, balances: Sequence[Balance]
) -> None:
    """Store the balances that are given; others stay as they are."""
    for balance in balances:
        await queries.put_balance(
            account_id=account_id,
            asset=balance.asset,
            free=normal(balance.free),
            held=normal(balance.held),
            time_ns=balance.time_ns,
        )


async def put_positions(
    queries: Queries, account_id: AccountId, positions: Sequence[Position]
) -> None:
    """Store the positions that are given; others stay as they are."""
    for position in positions:
        await queries.put_position(
            account_id=account_id,
            symbol=position.symbol,
            qty=normal(position.qty),
            entry_px=None if position.entry_px is None else normal(position.entry_px),
            time_ns=position.time_ns,
        )


async def put_halt(queries: Queries, halt: Halt, claim: Claim | None) -> KeyTaken | None:
    """Store a halt, and the key that asked for it."""
    if claim is not None and (taken := await put_claim(queries, claim)) is not None:
        return taken
    await queries.put_halt(
        scope=halt.scope, why=halt.why, halted_by=halt.by, since_ns=halt.since_ns
    )
    return None


async def delete_halt(queries: Queries, scope: str, claim: Claim | None) -> KeyTaken | None:
    """End a halt, and store the key that asked for it."""
    if claim is not None and (taken := await put_claim(queries, claim)) is not None:
        return taken
    await queries.delete_halt(scope=scope)
    return None


async def put_inbox(queries: Queries, entry: InboxEntry) -> InboxEntry | None:
    """Remember that a message has taken effect. Returns what was remembered before, if it was."""
    if await queries.insert_inbox(
        source=entry.source,
        message_id=entry.message_id,
        digest=entry.digest,
        order_id=entry.order_id,
        taken_time_ns=entry.taken_time_ns,
    ):
        return None
    row = await queries.find_inbox(source=entry.source, message_id=entry.message_id)
    if row is None:
        raise StoreCorrupt(f"message {entry.message_id!r} of {entry.source} is and is not there")
    return to_inbox(row)


async def take_client_numbers(
    queries: Queries, account_id: AccountId, count: int, first: int
) -> range:
    """Take numbers that no order of the account was ever named by."""
    row = await queries.take_client_numbers(
        account_id=account_id, first_end=first + count, count=count
    )
    if row is None:
        raise StoreCorrupt(f"no numbers could be taken for account {account_id}")
    return range(row.next_number - count, row.next_number)
