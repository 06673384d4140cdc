"""Messages of `tradegw.trading.v1` and the values of `model`, both ways. Pure.

What comes from outside is checked here field by field; an unknown number of an enumeration, a missing
`oneof`, a malformed decimal or id raises `InvalidOrder` with reason `INVALID_FIELD`, naming the field, what
was expected and what was found. Whether the fields fit together is for the gateway to say, as it does
to an embedded caller.
"""

from __future__ import annotations

from decimal import Decimal

from tradegw.gateway.api import AccountStatus, VenueInfo
from tradegw.model import (
    AccountName,
    Balance,
    ClientOrderId,
    Evidence,
    Fill,
    InDoubt,
    Instrument,
    NewOrder,
    Order,
    OrderEvent,
    OrdType,
    Position,
    ReplaceTerms,
    TimeInForce,
    TradeId,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw.model.orders import NO_TAGS
from tradegw.trading.v1 import account_pb2, enums_pb2, order_pb2
from tradegw.transports.grpc.fields import (
    COMMAND,
    EVENT_TYPE,
    EVIDENCE,
    INSTRUMENT_STATUS,
    LIQUIDITY,
    ORDER_STATUS,
    ORDER_TYPE,
    ORIGIN,
    SIDE,
    TIME_IN_FORCE,
    TRIGGER_BY,
    invalid,
    optional_text,
    read_decimal,
    read_order_id,
    text,
)

__all__ = [
    "read_balance",
    "read_event",
    "read_fill",
    "read_instrument",
    "read_new_order",
    "read_order",
    "read_position",
    "read_venue",
    "write_account",
    "write_balance",
    "write_event",
    "write_fill",
    "write_instrument",
    "write_new_order",
    "write_order",
    "write_position",
    "write_venue",
]


# --- what a caller asks for -----------------------------------------------------------------------


def read_new_order(message: order_pb2.NewOrder) -> NewOrder:
    """Read what a caller asks for.

    Raises:
        InvalidOrder: A field cannot be read; reason `INVALID_FIELD`.
    """
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    trailing_offset: Decimal | None = None
    trigger_by = enums_pb2.TRIGGER_BY_UNSPECIFIED
    # By how often each is asked for.
    match message.WhichOneof("pricing"):
        case "limit":
            ord_type = OrdType.LIMIT
            price = read_decimal(message.limit.price, "price")
        case "market":
            ord_type = OrdType.MARKET
        case "stop":
            ord_type = OrdType.STOP
            trigger_price = read_decimal(message.stop.trigger_price, "trigger_price")
            trigger_by = message.stop.trigger_by
        case "stop_limit":
            ord_type = OrdType.STOP_LIMIT
            price = read_decimal(message.stop_limit.price, "price")
            trigger_price = read_decimal(message.stop_limit.trigger_price, "trigger_price")
            trigger_by = message.stop_limit.trigger_by
        case "take_profit":
            ord_type = OrdType.TAKE_PROFIT
            trigger_price = read_decimal(message.take_profit.trigger_price, "trigger_price")
            trigger_by = message.take_profit.trigger_by
        case "take_profit_limit":
            ord_type = OrdType.TAKE_PROFIT_LIMIT
            price = read_decimal(message.take_profit_limit.price, "price")
            trigger_price = read_decimal(message.take_profit_limit.trigger_price, "trigger_price")
            trigger_by = message.take_profit_limit.trigger_by
        case "trailing_stop":
            ord_type = OrdType.TRAILING_STOP
            trailing_offset = read_decimal(message.trailing_stop.trailing_offset, "trailing_offset")
            trigger_by = message.trailing_stop.trigger_by
        case None:
            raise invalid(
                "pricing must be one of market, limit, stop, stop_limit, take_profit, "
                "take_profit_limit and trailing_stop; found none"
            )
    sized_by = message.WhichOneof("quantity")
    has = message.HasField
    return NewOrder(
        symbol=message.symbol,
        side=SIDE.read(message.side, "side"),
        ord_type=ord_type,
        account=AccountName(message.account) if has("account") else None,
        venue=message.venue if has("venue") else None,
        time_in_force=TIME_IN_FORCE.read_optional(message.time_in_force, "time_in_force")
        or TimeInForce.GTC,
        order_qty=read_decimal(message.order_qty, "order_qty") if sized_by == "order_qty" else None,
        quote_qty=read_decimal(message.quote_qty, "quote_qty") if sized_by == "quote_qty" else None,
        price=price,
        trigger_price=trigger_price,
        trigger_by=TRIGGER_BY.read_optional(trigger_by, "trigger_by") if trigger_by else None,
        trailing_offset=trailing_offset,
        expire_time_ns=message.expire_time_ns if has("expire_time_ns") else None,
        post_only=message.post_only,
        reduce_only=message.reduce_only,
        max_slippage_bps=read_decimal(message.max_slippage_bps, "max_slippage_bps")
        if has("max_slippage_bps")
        else None,
        client_order_id=ClientOrderId(message.client_order_id) if has("client_order_id") else None,
        idempotency_key=message.idempotency_key if has("idempotency_key") else None,
        tags=dict(message.tags) if message.tags else NO_TAGS,
        queue_if_unavailable_s=message.queue_if_unavailable_s
        if has("queue_if_unavailable_s")
        else None,
    )


def write_new_order(order: NewOrder) -> order_pb2.NewOrder:
    """Write what a caller asks for. The order's fields fit together: `check_fields` has said so."""
    message = order_pb2.NewOrder(
        account=order.account,
        venue=order.venue,
        symbol=order.symbol,
        side=SIDE.of[order.side],
        time_in_force=TIME_IN_FORCE.of[order.time_in_force],
        client_order_id=order.client_order_id,
        idempotency_key=order.idempotency_key,
        expire_time_ns=order.expire_time_ns,
        post_only=order.post_only,
        reduce_only=order.reduce_only,
        max_slippage_bps=optional_text(order.max_slippage_bps),
        queue_if_unavailable_s=order.queue_if_unavailable_s,
    )
    if order.order_qty is not None:
        message.order_qty = text(order.order_qty)
    if order.quote_qty is not None:
        message.quote_qty = text(order.quote_qty)
    if order.tags:
        message.tags.update(order.tags)
    price = optional_text(order.price) or ""
    trigger_price = optional_text(order.trigger_price) or ""
    trigger_by = TRIGGER_BY.none if order.trigger_by is None else TRIGGER_BY.of[order.trigger_by]
    match order.ord_type:
        case OrdType.LIMIT:
            message.limit.CopyFrom(order_pb2.LimitTerms(price=price))
        case OrdType.MARKET:
            message.market.SetInParent()
        case OrdType.STOP:
            message.stop.CopyFrom(
                order_pb2.StopTerms(trigger_price=trigger_price, trigger_by=trigger_by)
            )
        case OrdType.STOP_LIMIT:
            message.stop_limit.CopyFrom(
                order_pb2.StopLimitTerms(
                    price=price, trigger_price=trigger_price, trigger_by=trigger_by
                )
            )
        case OrdType.TAKE_PROFIT:
            message.take_profit.CopyFrom(
                order_pb2.TakeProfitTerms(trigger_price=trigger_price, trigger_by=trigger_by)
            )
        case OrdType.TAKE_PROFIT_LIMIT:
            message.take_profit_limit.CopyFrom(
                order_pb2.TakeProfitLimitTerms(
                    price=price, trigger_price=trigger_price, trigger_by=trigger_by
                )
            )
        case OrdType.TRAILING_STOP:
            message.trailing_stop.CopyFrom(
                order_pb2.TrailingStopTerms(
                    trailing_offset=optional_text(order.trailing_offset) or "",
                    trigger_by=trigger_by,
                )
            )
    return message


# --- orders ---------------------------------------------------------------------------------------


def write_order(order: Order) -> order_pb2.Order:
    """Write an order as it stands."""
    message = order_pb2.Order(
        order_id=str(order.order_id),
        account=order.account,
        venue=order.venue,
        symbol=order.symbol,
        side=SIDE.of[order.side],
        ord_type=ORDER_TYPE.of[order.ord_type],
        time_in_force=TIME_IN_FORCE.of[order.time_in_force],
        ord_status=ORDER_STATUS.of[order.ord_status],
        order_qty=optional_text(order.order_qty),
        price=optional_text(order.price),
        cum_qty=text(order.cum_qty),
        leaves_qty=text(order.leaves_qty),
        avg_px=optional_text(order.avg_px),
        seq=order.seq,
        cum_quote=text(order.cum_quote),
        triggered=order.triggered,
        client_order_id=order.client_order_id,
        idempotency_key=order.idempotency_key,
        venue_order_id=order.venue_order_id,
        venue_client_order_id=order.venue_client_order_id,
        origin=ORIGIN.of[order.origin],
        acknowledged=order.acknowledged,
        created_time_ns=order.created_time_ns,
        updated_time_ns=order.updated_time_ns,
        closed_time_ns=order.closed_time_ns,
        send_by_ns=order.send_by_ns,
    )
    # What most orders have not: asking is cheaper than passing a default.
    if order.in_doubt:
        message.in_doubt.extend(
            order_pb2.InDoubt(command=COMMAND.of[d.command], since_ns=d.since_ns, why=d.why)
            for d in order.in_doubt
        )
    if order.quote_qty is not None:
        message.quote_qty = text(order.quote_qty)
    if order.trigger_price is not None:
        message.trigger_price = text(order.trigger_price)
    if order.trigger_by is not None:
        message.trigger_by = TRIGGER_BY.of[order.trigger_by]
    if order.trailing_offset is not None:
        message.trailing_offset = text(order.trailing_offset)
    if order.expire_time_ns is not None:
        message.expire_time_ns = order.expire_time_ns
    if order.post_only:
        message.post_only = True
    if order.reduce_only:
        message.reduce_only = True
    if order.max_slippage_bps is not None:
        message.max_slippage_bps = text(order.max_slippage_bps)
    if order.tags:
        message.tags.update(order.tags)
    if order.generation:
        message.generation = order.generation
    if order.reason:
        message.reason = order.reason
    if order.text:
        message.text = order.text
    if order.closed_by is not None:
        message.closed_by = EVIDENCE.of[order.closed_by]
    if order.pending is not None:
        message.pending = COMMAND.of[order.pending]
    if order.queued:
        message.queued = True
    if order.pending_terms is not None:
        message.pending_terms.CopyFrom(
            order_pb2.ReplaceTerms(
                order_qty=optional_text(order.pending_terms.order_qty),
                price=optional_text(order.pending_terms.price),
                trigger_price=optional_text(order.pending_terms.trigger_price),
            )
        )
    return message


def read_order(message: order_pb2.Order) -> Order:
    """Read an order as it stands. `trade_ids` and `inferred` stay with the gateway.

    Raises:
        InvalidOrder: A field cannot be read.
    """
    has = message.HasField
    return Order(
        order_id=read_order_id(message.order_id),
        account=AccountName(message.account),
        venue=message.venue,
        symbol=message.symbol,
        side=SIDE.read(message.side, "side"),
        ord_type=ORDER_TYPE.read(message.ord_type, "ord_type"),
        time_in_force=TIME_IN_FORCE.read(message.time_in_force, "time_in_force"),
        order_qty=read_decimal(message.order_qty, "order_qty") if has("order_qty") else None,
        quote_qty=read_decimal(message.quote_qty, "quote_qty") if has("quote_qty") else None,
        price=read_decimal(message.price, "price") if has("price") else None,
        trigger_price=read_decimal(message.trigger_price, "trigger_price")
        if has("trigger_price")
        else None,
        trigger_by=TRIGGER_BY.read_optional(message.trigger_by, "trigger_by"),
        trailing_offset=read_decimal(message.trailing_offset, "trailing_offset")
        if has("trailing_offset")
        else None,
        expire_time_ns=message.expire_time_ns if has("expire_time_ns") else None,
        post_only=message.post_only,
        reduce_only=message.reduce_only,
        max_slippage_bps=read_decimal(message.max_slippage_bps, "max_slippage_bps")
        if has("max_slippage_bps")
        else None,
        client_order_id=ClientOrderId(message.client_order_id) if has("client_order_id") else None,
        idempotency_key=message.idempotency_key if has("idempotency_key") else None,
        tags=dict(message.tags) if message.tags else NO_TAGS,
        ord_status=ORDER_STATUS.read(message.ord_status, "ord_status"),
        in_doubt=tuple(
            InDoubt(
                command=COMMAND.read(d.command, "in_doubt.command"), since_ns=d.since_ns, why=d.why
            )
            for d in message.in_doubt
        )
        if message.in_doubt
        else (),
        reason=message.reason,
        text=message.text,
        cum_qty=read_decimal(message.cum_qty, "cum_qty"),
        leaves_qty=read_decimal(message.leaves_qty, "leaves_qty"),
        cum_quote=read_decimal(message.cum_quote, "cum_quote"),
        avg_px=read_decimal(message.avg_px, "avg_px") if has("avg_px") else None,
        origin=ORIGIN.read(message.origin, "origin"),
        triggered=message.triggered,
        generation=message.generation,
        acknowledged=message.acknowledged,
        closed_by=EVIDENCE.read_optional(message.closed_by, "closed_by"),
        pending=COMMAND.read_optional(message.pending, "pending"),
        pending_terms=_read_terms(message.pending_terms) if has("pending_terms") else None,
        queued=message.queued,
        venue_order_id=VenueOrderId(message.venue_order_id) if has("venue_order_id") else None,
        venue_client_order_id=VenueClientOrderId(message.venue_client_order_id)
        if has("venue_client_order_id")
        else None,
        send_by_ns=message.send_by_ns,
        created_time_ns=message.created_time_ns,
        updated_time_ns=message.updated_time_ns,
        closed_time_ns=message.closed_time_ns if has("closed_time_ns") else None,
        seq=message.seq,
    )


def _read_terms(message: order_pb2.ReplaceTerms) -> ReplaceTerms:
    has = message.HasField
    return ReplaceTerms(
        order_qty=read_decimal(message.order_qty, "order_qty") if has("order_qty") else None,
        price=read_decimal(message.price, "price") if has("price") else None,
        trigger_price=read_decimal(message.trigger_price, "trigger_price")
        if has("trigger_price")
        else None,
    )


# --- fills and events -----------------------------------------------------------------------------


def write_fill(fill: Fill) -> order_pb2.Fill:
    """Write a fill."""
    return order_pb2.Fill(
        account=fill.account,
        venue=fill.venue,
        symbol=fill.symbol,
        side=SIDE.of[fill.side],
        order_id=None if fill.order_id is None else str(fill.order_id),
        client_order_id=fill.client_order_id,
        venue_order_id=fill.venue_order_id,
        trade_id=fill.trade_id,
        last_qty=text(fill.last_qty),
        last_px=text(fill.last_px),
        fee=optional_text(fill.fee),
        fee_asset=fill.fee_asset,
        liquidity=LIQUIDITY.of[fill.liquidity],
        seq=fill.seq,
        transact_time_ns=fill.transact_time_ns,
        received_time_ns=fill.received_time_ns,
        inferred=fill.inferred,
        corrects=fill.corrects,
    )


def read_fill(message: order_pb2.Fill) -> Fill:
    """Read a fill.

    Raises:
        InvalidOrder: A field cannot be read.
    """
    has = message.HasField
    return Fill(
        trade_id=TradeId(message.trade_id),
        account=AccountName(message.account),
        venue=message.venue,
        symbol=message.symbol,
        side=SIDE.read(message.side, "side"),
        last_qty=read_decimal(message.last_qty, "last_qty"),
        last_px=read_decimal(message.last_px, "last_px"),
        order_id=read_order_id(message.order_id) if has("order_id") else None,
        client_order_id=ClientOrderId(message.client_order_id) if has("client_order_id") else None,
        venue_order_id=VenueOrderId(message.venue_order_id) if has("venue_order_id") else None,
        fee=read_decimal(message.fee, "fee") if has("fee") else None,
        fee_asset=message.fee_asset if has("fee_asset") else None,
        liquidity=LIQUIDITY.read(message.liquidity, "liquidity"),
        inferred=message.inferred,
        corrects=TradeId(message.corrects) if has("corrects") else None,
        transact_time_ns=message.transact_time_ns,
        received_time_ns=message.received_time_ns,
        seq=message.seq,
    )


def write_event(event: OrderEvent) -> order_pb2.OrderEvent:
    """Write an event. Its hash stays in the record."""
    return order_pb2.OrderEvent(
        account=event.account,
        seq=event.seq,
        event_type=EVENT_TYPE.of[event.event_type],
        order_id=None if event.order_id is None else str(event.order_id),
        order=None if event.order is None else write_order(event.order),
        fill=None if event.fill is None else write_fill(event.fill),
        time_ns=event.time_ns,
        transact_time_ns=event.transact_time_ns,
        command=COMMAND.none if event.command is None else COMMAND.of[event.command],
        reason=event.reason,
        text=event.text,
        evidence=None
        if event.evidence is None
        else order_pb2.Evidence(
            kind=EVIDENCE.of[event.evidence.kind], detail=event.evidence.detail
        ),
        late=event.late,
        request_id=event.request_id,
        trace_id=event.trace_id,
        attaches=event.attaches,
    )


def read_event(message: order_pb2.OrderEvent) -> OrderEvent:
    """Read an event.

    Raises:
        InvalidOrder: A field cannot be read.
    """
    has = message.HasField
    return OrderEvent(
        event_type=EVENT_TYPE.read(message.event_type, "event_type"),
        account=AccountName(message.account),
        time_ns=message.time_ns,
        seq=message.seq,
        order_id=read_order_id(message.order_id) if has("order_id") else None,
        order=read_order(message.order) if has("order") else None,
        fill=read_fill(message.fill) if has("fill") else None,
        command=COMMAND.read_optional(message.command, "command"),
        reason=message.reason,
        text=message.text,
        evidence=Evidence(
            kind=EVIDENCE.read(message.evidence.kind, "evidence.kind"),
            detail=message.evidence.detail,
        )
        if has("evidence")
        else None,
        late=message.late,
        transact_time_ns=message.transact_time_ns,
        request_id=message.request_id,
        trace_id=message.trace_id,
        attaches=message.attaches,
    )


# --- accounts and venues --------------------------------------------------------------------------


def write_balance(balance: Balance) -> account_pb2.Balance:
    """Write a balance."""
    return account_pb2.Balance(
        account=balance.account,
        asset=balance.asset,
        free=text(balance.free),
        held=text(balance.held),
        time_ns=balance.time_ns,
    )


def read_balance(message: account_pb2.Balance) -> Balance:
    """Read a balance.

    Raises:
        InvalidOrder: A field cannot be read.
    """
    return Balance(
        account=AccountName(message.account),
        asset=message.asset,
        free=read_decimal(message.free, "free"),
        held=read_decimal(message.held, "held"),
        time_ns=message.time_ns,
    )


def write_position(position: Position) -> account_pb2.InstrumentPosition:
    """Write a position."""
    return account_pb2.InstrumentPosition(
        account=position.account,
        symbol=position.symbol,
        qty=text(position.qty),
        entry_px=optional_text(position.entry_px),
        time_ns=position.time_ns,
        unexplained_qty=text(position.unexplained_qty),
    )


def read_position(message: account_pb2.InstrumentPosition) -> Position:
    """Read a position.

    Raises:
        InvalidOrder: A field cannot be read.
    """
    return Position(
        account=AccountName(message.account),
        symbol=message.symbol,
        qty=read_decimal(message.qty, "qty"),
        entry_px=read_decimal(message.entry_px, "entry_px")
        if message.HasField("entry_px")
        else None,
        time_ns=message.time_ns,
        unexplained_qty=read_decimal(message.unexplained_qty or "0", "unexplained_qty"),
    )


def write_instrument(instrument: Instrument) -> account_pb2.Instrument:
    """Write an instrument."""
    return account_pb2.Instrument(
        symbol=instrument.symbol,
        venue_symbol=instrument.venue_symbol,
        base_asset=instrument.base_asset,
        quote_asset=instrument.quote_asset,
        settle_asset=instrument.settle_asset,
        tick_size=text(instrument.tick_size),
        step_size=text(instrument.step_size),
        qty_min=text(instrument.qty_min),
        qty_max=text(instrument.qty_max),
        notional_min=text(instrument.notional_min),
        notional_max=text(instrument.notional_max),
        contract_size=text(instrument.contract_size),
        status=INSTRUMENT_STATUS.of[instrument.status],
    )


def read_instrument(message: account_pb2.Instrument) -> Instrument:
    """Read an instrument.

    Raises:
        InvalidOrder: A field cannot be read.
    """
    return Instrument(
        symbol=message.symbol,
        venue_symbol=message.venue_symbol,
        base_asset=message.base_asset,
        quote_asset=message.quote_asset,
        settle_asset=message.settle_asset if message.HasField("settle_asset") else None,
        tick_size=read_decimal(message.tick_size, "tick_size"),
        step_size=read_decimal(message.step_size, "step_size"),
        qty_min=read_decimal(message.qty_min, "qty_min"),
        qty_max=read_decimal(message.qty_max, "qty_max"),
        notional_min=read_decimal(message.notional_min, "notional_min"),
        notional_max=read_decimal(message.notional_max, "notional_max"),
        contract_size=read_decimal(message.contract_size, "contract_size"),
        status=INSTRUMENT_STATUS.read(message.status, "status"),
    )


_STATE_PREFIX = "ACCOUNT_STATE_"


def write_account(account: AccountStatus) -> account_pb2.AccountStatus:
    """Write an account's state."""
    return account_pb2.AccountStatus(
        account=account.account,
        venue=account.venue,
        plugin=account.plugin,
        state=enums_pb2.AccountState.Value(_STATE_PREFIX + account.state),
        why=account.why,
        open_orders=account.open_orders,
        in_doubt=account.in_doubt,
        head_seq=account.head_seq,
        holder=account.holder,
    )


def write_venue(venue: VenueInfo) -> account_pb2.Venue:
    """Write a venue and its accounts."""
    return account_pb2.Venue(
        venue=venue.venue,
        plugin=venue.plugin,
        accounts=[write_account(account) for account in venue.accounts],
    )


def read_venue(message: account_pb2.Venue) -> VenueInfo:
    """Read a venue and its accounts.

    Raises:
        InvalidOrder: A field cannot be read.
    """
    return VenueInfo(
        venue=message.venue,
        plugin=message.plugin,
        accounts=tuple(_read_account(account) for account in message.accounts),
    )


def _read_account(message: account_pb2.AccountStatus) -> AccountStatus:
    try:
        state = enums_pb2.AccountState.Name(message.state)
    except ValueError:
        raise invalid(f"state must be a known one; found the number {message.state}") from None
    return AccountStatus(
        account=AccountName(message.account),
        venue=message.venue,
        plugin=message.plugin,
        state=state.removeprefix(_STATE_PREFIX),
        why=message.why,
        open_orders=message.open_orders,
        in_doubt=message.in_doubt,
        head_seq=message.head_seq,
        holder=message.holder,
    )
