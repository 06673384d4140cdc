"""Rows of the tables, to values of the model and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Protocol

from tradegw._generated.queries import (
    CommandRow,
    FillRow,
    InboxRow,
    ListAccountsRow,
    ListFillsCountedRow,
    ListInstrumentsRow,
    ListVenueOrderRefsRow,
    OrdersRow,
    Queries,
    UnmatchedFillRow,
)
from tradegw.model import (
    AccountId,
    AccountName,
    ClientOrderId,
    CommandKind,
    EvidenceKind,
    Fill,
    Instrument,
    InstrumentStatus,
    Liquidity,
    Order,
    OrderId,
    OrdStatus,
    OrdType,
    Origin,
    Side,
    TimeInForce,
    TradeId,
    TriggerBy,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw.ports import AccountRecord, Claim, InboxEntry, VenueOrderRef
from tradegw.store.codec import (
    in_doubt_from,
    in_doubt_text,
    normal,
    tags_from,
    tags_text,
    terms_from,
    terms_text,
)

__all__ = [
    "attach",
    "insert_claim",
    "insert_fill",
    "insert_order",
    "insert_unmatched_fill",
    "put_ref",
    "to_account",
    "to_claim",
    "to_fill",
    "to_inbox",
    "to_inferred",
    "to_instrument",
    "to_order",
    "to_ref",
    "to_unmatched_fill",
    "update_order",
]


def _normal(number: Decimal | None) -> Decimal | None:
    return None if number is None else normal(number)


def _text(member: object) -> str | None:
    # Of the plain type: the sqlite3 module looks for an adapter for any other, at every call.
    return None if member is None else str(member)


async def insert_order(queries: Queries, account_id: AccountId, order: Order) -> int:
    """Store a new order. Zero rows: its client order id is taken."""
    return await queries.insert_order(
        order_id=order.order_id,
        account_id=account_id,
        venue=order.venue,
        symbol=order.symbol,
        side=str(order.side),
        ord_type=str(order.ord_type),
        time_in_force=str(order.time_in_force),
        order_qty=_normal(order.order_qty),
        quote_qty=_normal(order.quote_qty),
        price=_normal(order.price),
        trigger_price=_normal(order.trigger_price),
        trigger_by=_text(order.trigger_by),
        trailing_offset=_normal(order.trailing_offset),
        expire_time_ns=order.expire_time_ns,
        post_only=order.post_only,
        reduce_only=order.reduce_only,
        max_slippage_bps=_normal(order.max_slippage_bps),
        client_order_id=order.client_order_id,
        idempotency_key=order.idempotency_key,
        tags=tags_text(order.tags),
        ord_status=str(order.ord_status),
        in_doubt=in_doubt_text(order.in_doubt),
        reason=order.reason,
        text=order.text,
        cum_qty=normal(order.cum_qty),
        leaves_qty=normal(order.leaves_qty),
        cum_quote=normal(order.cum_quote),
        avg_px=_normal(order.avg_px),
        origin=str(order.origin),
        triggered=order.triggered,
        generation=order.generation,
        acknowledged=order.acknowledged,
        closed_by=_text(order.closed_by),
        pending=_text(order.pending),
        pending_terms=terms_text(order.pending_terms),
        queued=order.queued,
        venue_order_id=order.venue_order_id,
        venue_client_order_id=order.venue_client_order_id,
        send_by_ns=order.send_by_ns,
        created_time_ns=order.created_time_ns,
        updated_time_ns=order.updated_time_ns,
        closed_time_ns=order.closed_time_ns,
        seq=order.seq,
    )


async def update_order(queries: Queries, account_id: AccountId, order: Order) -> int:
    """Store an order as it stands. Zero rows: the account has no such order."""
    return await queries.update_order(
        order_id=order.order_id,
        account_id=account_id,
        order_qty=_normal(order.order_qty),
        price=_normal(order.price),
        trigger_price=_normal(order.trigger_price),
        ord_status=str(order.ord_status),
        in_doubt=in_doubt_text(order.in_doubt),
        reason=order.reason,
        text=order.text,
        cum_qty=normal(order.cum_qty),
        leaves_qty=normal(order.leaves_qty),
        cum_quote=normal(order.cum_quote),
        avg_px=_normal(order.avg_px),
        origin=str(order.origin),
        triggered=order.triggered,
        generation=order.generation,
        acknowledged=order.acknowledged,
        closed_by=_text(order.closed_by),
        pending=_text(order.pending),
        pending_terms=terms_text(order.pending_terms),
        queued=order.queued,
        venue_order_id=order.venue_order_id,
        venue_client_order_id=order.venue_client_order_id,
        send_by_ns=order.send_by_ns,
        updated_time_ns=order.updated_time_ns,
        closed_time_ns=order.closed_time_ns,
        seq=order.seq,
    )


def to_order(row: OrdersRow, account: AccountName, counted: Sequence[ListFillsCountedRow]) -> Order:
    """Read an order, with what its fills tell."""
    return Order(
        order_id=OrderId(row.order_id),
        account=account,
        venue=row.venue,
        symbol=row.symbol,
        side=Side(row.side),
        ord_type=OrdType(row.ord_type),
        time_in_force=TimeInForce(row.time_in_force),
        order_qty=row.order_qty,
        quote_qty=row.quote_qty,
        price=row.price,
        trigger_price=row.trigger_price,
        trigger_by=None if row.trigger_by is None else TriggerBy(row.trigger_by),
        trailing_offset=row.trailing_offset,
        expire_time_ns=row.expire_time_ns,
        post_only=row.post_only,
        reduce_only=row.reduce_only,
        max_slippage_bps=row.max_slippage_bps,
        client_order_id=None if row.client_order_id is None else ClientOrderId(row.client_order_id),
        idempotency_key=row.idempotency_key,
        tags=tags_from(row.tags),
        ord_status=OrdStatus(row.ord_status),
        in_doubt=in_doubt_from(row.in_doubt),
        reason=row.reason,
        text=row.text,
        cum_qty=row.cum_qty,
        leaves_qty=row.leaves_qty,
        cum_quote=row.cum_quote,
        avg_px=row.avg_px,
        origin=Origin(row.origin),
        triggered=row.triggered,
        generation=row.generation,
        acknowledged=row.acknowledged,
        closed_by=None if row.closed_by is None else EvidenceKind(row.closed_by),
        pending=None if row.pending is None else CommandKind(row.pending),
        pending_terms=terms_from(row.pending_terms),
        queued=row.queued,
        venue_order_id=_venue_order_id(row.venue_order_id),
        venue_client_order_id=(
            None
            if row.venue_client_order_id is None
            else VenueClientOrderId(row.venue_client_order_id)
        ),
        send_by_ns=row.send_by_ns,
        created_time_ns=row.created_time_ns,
        updated_time_ns=row.updated_time_ns,
        closed_time_ns=row.closed_time_ns,
        seq=row.seq,
        trade_ids=frozenset(TradeId(fill.trade_id) for fill in counted),
        inferred=to_inferred(counted),
    )


def to_inferred(
    counted: Sequence[ListFillsCountedRow],
) -> tuple[tuple[TradeId, Decimal, Decimal], ...]:
    """Return the inferred fills that no real one has replaced in full: id, quantity left, price.

    What corrects a fill came after it.
    """
    left: dict[str, tuple[Decimal, Decimal]] = {}
    for fill in sorted(counted, key=lambda fill: fill.seq):
        if fill.corrects is not None:
            qty, px = left.get(fill.corrects, (Decimal(0), fill.last_px))
            left[fill.corrects] = (qty + fill.last_qty, px)
        elif fill.inferred:
            left[fill.trade_id] = (fill.last_qty, fill.last_px)
    return tuple((TradeId(name), qty, px) for name, (qty, px) in left.items() if qty)


class _FillColumns(Protocol):
    """What `fill` and `unmatched_fill` have in common."""

    @property
    def trade_id(self) -> str: ...
    @property
    def venue(self) -> str: ...
    @property
    def symbol(self) -> str: ...
    @property
    def side(self) -> str: ...
    @property
    def last_qty(self) -> Decimal: ...
    @property
    def last_px(self) -> Decimal: ...
    @property
    def client_order_id(self) -> str | None: ...
    @property
    def venue_order_id(self) -> str | None: ...
    @property
    def fee(self) -> Decimal | None: ...
    @property
    def fee_asset(self) -> str | None: ...
    @property
    def liquidity(self) -> str: ...
    @property
    def inferred(self) -> bool: ...
    @property
    def corrects(self) -> str | None: ...
    @property
    def transact_time_ns(self) -> int: ...
    @property
    def received_time_ns(self) -> int: ...
    @property
    def seq(self) -> int: ...


async def insert_fill(
    queries: Queries, account_id: AccountId, order_id: OrderId, fill: Fill
) -> int:
    """Store a fill of an order. Zero rows: it is stored already."""
    return await queries.insert_fill(
        account_id=account_id,
        order_id=order_id,
        trade_id=fill.trade_id,
        seq=fill.seq,
        venue=fill.venue,
        symbol=fill.symbol,
        side=str(fill.side),
        last_qty=normal(fill.last_qty),
        last_px=normal(fill.last_px),
        client_order_id=fill.client_order_id,
        venue_order_id=fill.venue_order_id,
        fee=_normal(fill.fee),
        fee_asset=fill.fee_asset,
        liquidity=str(fill.liquidity),
        inferred=fill.inferred,
        corrects=fill.corrects,
        transact_time_ns=fill.transact_time_ns,
        received_time_ns=fill.received_time_ns,
    )


async def insert_unmatched_fill(queries: Queries, account_id: AccountId, fill: Fill) -> int:
    """Store a fill that matches no order. Zero rows: it is stored already."""
    return await queries.insert_unmatched_fill(
        account_id=account_id,
        symbol=fill.symbol,
        side=str(fill.side),
        venue_order_id=fill.venue_order_id or "",
        trade_id=fill.trade_id,
        seq=fill.seq,
        venue=fill.venue,
        last_qty=normal(fill.last_qty),
        last_px=normal(fill.last_px),
        client_order_id=fill.client_order_id,
        fee=_normal(fill.fee),
        fee_asset=fill.fee_asset,
        liquidity=str(fill.liquidity),
        inferred=fill.inferred,
        corrects=fill.corrects,
        transact_time_ns=fill.transact_time_ns,
        received_time_ns=fill.received_time_ns,
    )


def to_fill(row: FillRow, account: AccountName) -> Fill:
    """Read a fill of an order."""
    return _fill(row, account, OrderId(row.order_id))


def to_unmatched_fill(row: UnmatchedFillRow, account: AccountName) -> Fill:
    """Read a fill that matches no order."""
    return _fill(row, account, None)


def attach(fill: Fill, order: Order) -> Fill:
    """Return an unmatched fill as that of the order that it found."""
    return replace(fill, order_id=order.order_id, client_order_id=order.client_order_id)


def _fill(row: _FillColumns, account: AccountName, order_id: OrderId | None) -> Fill:
    return Fill(
        trade_id=TradeId(row.trade_id),
        account=account,
        venue=row.venue,
        symbol=row.symbol,
        side=Side(row.side),
        last_qty=row.last_qty,
        last_px=row.last_px,
        order_id=order_id,
        client_order_id=None if row.client_order_id is None else ClientOrderId(row.client_order_id),
        venue_order_id=_venue_order_id(row.venue_order_id or None),
        fee=row.fee,
        fee_asset=row.fee_asset,
        liquidity=Liquidity(row.liquidity),
        inferred=row.inferred,
        corrects=None if row.corrects is None else TradeId(row.corrects),
        transact_time_ns=row.transact_time_ns,
        received_time_ns=row.received_time_ns,
        seq=row.seq,
    )


async def put_ref(queries: Queries, account_id: AccountId, ref: VenueOrderRef) -> None:
    """Store an incarnation of an order, or what became of it."""
    await queries.put_venue_order_ref(
        order_id=ref.order_id,
        generation=ref.generation,
        account_id=account_id,
        id_scope=ref.id_scope,
        venue_client_order_id=ref.venue_client_order_id,
        venue_order_id=ref.venue_order_id,
        order_qty=_normal(ref.order_qty),
        valid_until_ns=ref.valid_until_ns,
        valid_until_height=ref.valid_until_height,
        command_valid_until_ns=ref.command_valid_until_ns,
        command_valid_until_height=ref.command_valid_until_height,
        digest=ref.digest,
    )


def to_ref(row: ListVenueOrderRefsRow) -> VenueOrderRef:
    """Read an incarnation of an order."""
    return VenueOrderRef(
        order_id=OrderId(row.order_id),
        generation=row.generation,
        venue_client_order_id=VenueClientOrderId(row.venue_client_order_id),
        id_scope=row.id_scope,
        venue_order_id=_venue_order_id(row.venue_order_id),
        order_qty=row.order_qty,
        valid_until_ns=row.valid_until_ns,
        valid_until_height=row.valid_until_height,
        command_valid_until_ns=row.command_valid_until_ns,
        command_valid_until_height=row.command_valid_until_height,
        digest=row.digest,
    )


async def insert_claim(queries: Queries, claim: Claim) -> int:
    """Store the use of a key. Zero rows: it was used before."""
    return await queries.insert_command(
        scope=claim.scope,
        idempotency_key=claim.idempotency_key,
        fingerprint=claim.fingerprint,
        operation=claim.operation,
        order_id=claim.order_id,
        result=claim.result,
        created_time_ns=claim.created_time_ns,
    )


def to_claim(row: CommandRow) -> Claim:
    """Read the use of a key."""
    return Claim(
        scope=row.scope,
        idempotency_key=row.idempotency_key,
        fingerprint=row.fingerprint,
        operation=row.operation,
        order_id=None if row.order_id is None else OrderId(row.order_id),
        result=row.result,
        created_time_ns=row.created_time_ns,
    )


def to_inbox(row: InboxRow) -> InboxEntry:
    """Read what is remembered of a message."""
    return InboxEntry(
        source=row.source,
        message_id=row.message_id,
        digest=row.digest,
        order_id=None if row.order_id is None else OrderId(row.order_id),
        taken_time_ns=row.taken_time_ns,
    )


def to_account(row: ListAccountsRow) -> AccountRecord:
    """Read an account."""
    return AccountRecord(
        account_id=AccountId(row.account_id),
        account=AccountName(row.account),
        venue=row.venue,
        plugin=row.plugin,
        venue_account_id=row.venue_account_id,
        environment=row.environment,
        instance_id=row.instance_id,
        created_time_ns=row.created_time_ns,
    )


def to_instrument(row: ListInstrumentsRow) -> Instrument:
    """Read an instrument."""
    return Instrument(
        symbol=row.symbol,
        venue_symbol=row.venue_symbol,
        base_asset=row.base_asset,
        quote_asset=row.quote_asset,
        settle_asset=row.settle_asset,
        tick_size=row.tick_size,
        step_size=row.step_size,
        qty_min=row.qty_min,
        qty_max=row.qty_max,
        notional_min=row.notional_min,
        notional_max=row.notional_max,
        contract_size=row.contract_size,
        status=InstrumentStatus(row.status),
    )


def _venue_order_id(text: str | None) -> VenueOrderId | None:
    return None if text is None else VenueOrderId(text)
