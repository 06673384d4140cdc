"""Turns commands into requests to the exchange, and what it says into reports. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from tradegw import (
    AccountName,
    CommandKind,
    ExecType,
    ExecutionReport,
    Instrument,
    Liquidity,
    OrdStatus,
    OrdType,
    Side,
    TimeInForce,
    TradeId,
    TriggerBy,
    UnsupportedOrder,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw import Balance as VenueBalance
from tradegw import Order as GatewayOrder
from tradegw.venue import (
    BalanceUpdate,
    BudgetPool,
    BudgetScope,
    Command,
    Operation,
    Outcome,
    ReferencePrice,
    StreamItem,
    TranslateContext,
    VenueRequest,
    VenueTime,
)
from tradegw.venue import Cancel as CancelCommand
from tradegw.venue import CancelAll as CancelAllCommand
from tradegw.venue import CancelBatch as CancelBatchCommand
from tradegw.venue import DeadMan as DeadManCommand
from tradegw.venue import Replace as ReplaceCommand
from tradegw.venue import Submit as SubmitCommand
from tradegw.venue import SubmitBatch as SubmitBatchCommand
from tradegw_mock import exchange as mock
from tradegw_mock.contract import ORDER_POOLS, OUTCOMES, VALID_FOR_S
from tradegw_mock.requests import (
    Answer,
    Batch,
    BatchDone,
    Cancel,
    CancelAll,
    Done,
    LimitShown,
    Mutation,
    Place,
    Replace,
)

__all__ = [
    "command_of",
    "to_balances",
    "to_fill",
    "to_instrument",
    "to_order_status",
    "to_reference_price",
    "to_report",
    "to_reports",
    "to_stream_item",
    "translate",
]

_VALID_FOR_NS: Final = int(VALID_FOR_S * 1_000_000_000)

# Tables, not conversions by value: a new member on either side must be looked at before it trades.
_SIDES: Final = MappingProxyType({Side.BUY: mock.Side.BUY, Side.SELL: mock.Side.SELL})
_ORD_TYPES: Final = MappingProxyType(
    {
        OrdType.MARKET: mock.OrdType.MARKET,
        OrdType.LIMIT: mock.OrdType.LIMIT,
        OrdType.STOP: mock.OrdType.STOP,
        OrdType.STOP_LIMIT: mock.OrdType.STOP_LIMIT,
        OrdType.TAKE_PROFIT: mock.OrdType.TAKE_PROFIT,
        OrdType.TAKE_PROFIT_LIMIT: mock.OrdType.TAKE_PROFIT_LIMIT,
    }
)
_TIME_IN_FORCE: Final = MappingProxyType(
    {
        TimeInForce.GTC: mock.TimeInForce.GTC,
        TimeInForce.IOC: mock.TimeInForce.IOC,
        TimeInForce.FOK: mock.TimeInForce.FOK,
        TimeInForce.GTD: mock.TimeInForce.GTD,
    }
)
_OUR_SIDES: Final = {theirs: ours for ours, theirs in _SIDES.items()}
_ORD_STATUS: Final = MappingProxyType(
    {
        mock.OrdStatus.NEW: OrdStatus.NEW,
        mock.OrdStatus.PARTIALLY_FILLED: OrdStatus.PARTIALLY_FILLED,
        mock.OrdStatus.FILLED: OrdStatus.FILLED,
        mock.OrdStatus.CANCELED: OrdStatus.CANCELED,
        mock.OrdStatus.REJECTED: OrdStatus.REJECTED,
        mock.OrdStatus.EXPIRED: OrdStatus.EXPIRED,
    }
)
_EXEC_TYPES: Final = MappingProxyType(
    {
        mock.ExecType.NEW: ExecType.NEW,
        mock.ExecType.TRADE: ExecType.TRADE,
        mock.ExecType.TRIGGERED: ExecType.TRIGGERED,
        mock.ExecType.REPLACED: ExecType.REPLACED,
        mock.ExecType.CANCELED: ExecType.CANCELED,
        mock.ExecType.REJECTED: ExecType.REJECTED,
        mock.ExecType.EXPIRED: ExecType.EXPIRED,
    }
)
_LIQUIDITY: Final = MappingProxyType(
    {mock.Liquidity.MAKER: Liquidity.MAKER, mock.Liquidity.TAKER: Liquidity.TAKER}
)
_ANSWERED: Final[Mapping[mock.ExecType, CommandKind]] = MappingProxyType(
    {
        mock.ExecType.NEW: CommandKind.NEW,
        mock.ExecType.CANCELED: CommandKind.CANCEL,
        mock.ExecType.REPLACED: CommandKind.REPLACE,
    }
)
"""Which command an event settles, when it stands in the answer to a request."""
_REFUSALS: Final = MappingProxyType(
    {
        CommandKind.NEW: ExecType.REJECTED,
        CommandKind.CANCEL: ExecType.CANCEL_REJECTED,
        CommandKind.REPLACE: ExecType.REPLACE_REJECTED,
    }
)


# --- commands -------------------------------------------------------------------------------------


def translate(command: Command, context: TranslateContext, *, account: str) -> VenueRequest:
    """Turn a command into one request of an account of the exchange.

    Raises:
        UnsupportedOrder: The exchange cannot do this.
    """
    until_ns = context.now.time_ns + _VALID_FOR_NS
    names = context.venue_client_order_ids
    payload: Mutation
    cost: dict[str, int] = {}
    match command:
        case SubmitCommand():
            payload = _place(command.order, names[0], account, until_ns)
            digest = f"place {names[0]}"
        case SubmitBatchCommand():
            members = zip(command.orders, names, strict=True)
            payload = Batch(
                account=account,
                items=tuple(_place(order, name, account, until_ns) for order, name in members),
            )
            digest = f"place {len(payload.items)} from {names[0]}"
            # Each member counts, where the exchange limits orders at all.
            cost = dict.fromkeys(ORDER_POOLS, len(payload.items))
        case CancelCommand():
            name = names[0] if names else command.order.venue_client_order_id
            payload = _cancel(command.order, name, account, until_ns)
            digest = f"cancel {name}"
        case CancelBatchCommand():
            payload = Batch(
                account=account,
                items=tuple(
                    _cancel(order, name, account, until_ns)
                    for order, name in _named(command.orders, names)
                ),
            )
            digest = f"cancel {len(payload.items)}"
        case CancelAllCommand():
            payload = CancelAll(account=account, symbol=command.symbol, valid_until_ns=until_ns)
            digest = f"cancel all of {command.symbol or 'every symbol'}"
        case ReplaceCommand():
            if command.terms.trigger_price is not None:
                raise UnsupportedOrder("the mock exchange cannot move a trigger_price; cancel it")
            name = names[0] if names else command.order.venue_client_order_id
            payload = Replace(
                account=account,
                order_id=_order_id(command.order),
                client_order_id=name,
                order_qty=command.terms.order_qty,
                price=command.terms.price,
                valid_until_ns=until_ns,
            )
            digest = f"replace {name}"
        case DeadManCommand():
            raise UnsupportedOrder("the mock exchange has no dead man's switch")
    return VenueRequest(
        payload=payload,
        valid_until=VenueTime(time_ns=until_ns),
        digest=digest,
        cost=cost,
        safe_to_repeat=isinstance(command, (CancelCommand, CancelBatchCommand, CancelAllCommand)),
    )


def _named(
    orders: Sequence[GatewayOrder], names: Sequence[VenueClientOrderId]
) -> Iterator[tuple[GatewayOrder, VenueClientOrderId | None]]:
    if names:
        return zip(orders, names, strict=True)
    return ((order, order.venue_client_order_id) for order in orders)


def _place(order: GatewayOrder, name: str, account: str, until_ns: int) -> Place:
    if order.ord_type not in _ORD_TYPES or order.time_in_force not in _TIME_IN_FORCE:
        raise UnsupportedOrder(
            f"the mock exchange has no {order.ord_type} orders with {order.time_in_force}"
        )
    if order.trigger_by not in (None, TriggerBy.LAST):
        raise UnsupportedOrder(
            f"triggers of the mock exchange look at the LAST price; found {order.trigger_by}"
        )
    if order.reduce_only or order.max_slippage_bps is not None:
        raise UnsupportedOrder("the mock exchange has neither reduce_only nor max_slippage_bps")
    return Place(
        account=account,
        order=mock.OrderRequest(
            symbol=order.symbol,
            side=_SIDES[order.side],
            ord_type=_ORD_TYPES[order.ord_type],
            order_qty=order.order_qty,
            quote_qty=order.quote_qty,
            price=order.price,
            trigger_price=order.trigger_price,
            time_in_force=_TIME_IN_FORCE[order.time_in_force],
            post_only=order.post_only,
            expire_time_ns=order.expire_time_ns,
            client_order_id=name,
        ),
        valid_until_ns=until_ns,
    )


def _cancel(order: GatewayOrder, name: str | None, account: str, until_ns: int) -> Cancel:
    return Cancel(
        account=account,
        # Both names where both are known: an exchange that begins anew gives its ids again.
        order_id=_order_id(order),
        client_order_id=name,
        valid_until_ns=until_ns,
    )


def _order_id(order: GatewayOrder) -> int | None:
    return None if order.venue_order_id is None else int(order.venue_order_id)


def command_of(request: Mutation) -> CommandKind:
    """Return by which column of the outcome table a refusal of the request is read."""
    match request:
        case Cancel() | CancelAll():
            return CommandKind.CANCEL
        case Replace():
            return CommandKind.REPLACE
        case _:
            return CommandKind.NEW


# --- reports --------------------------------------------------------------------------------------


def to_reports(request: Mutation, answer: Answer) -> tuple[ExecutionReport, ...]:
    """Translate the answer to a request: acknowledgement, immediate fills, ending, in order.

    Of a batch, members whose outcome is unknown are left out.
    """
    match answer:
        case Done():
            return tuple(
                [
                    to_report(event, command=_ANSWERED.get(event.exec_type))
                    for event in answer.events
                ]
            )
        case BatchDone():
            assert isinstance(request, Batch)
            return tuple(_batch_reports(request, answer))
        case _:
            raise TypeError(f"{type(answer).__name__} answers no command")


def _batch_reports(request: Batch, answer: BatchDone) -> Iterator[ExecutionReport]:
    for member, item in zip(request.items, answer.items, strict=True):
        if item.done is not None:
            yield from to_reports(member, item.done)
            continue
        command = command_of(member)
        if OUTCOMES.outcome(command, item.code) is not Outcome.REFUSED:
            continue
        if isinstance(member, Place):
            name, symbol = member.order.client_order_id, member.order.symbol
        else:
            name, symbol = member.client_order_id, None
        yield ExecutionReport(
            exec_type=_REFUSALS[command],
            command=command,
            venue_client_order_id=None if name is None else VenueClientOrderId(name),
            symbol=symbol,
            reason=item.code,
            text=item.text,
            transact_time_ns=answer.time_ns,
        )


def to_report(event: mock.OrderEvent, *, command: CommandKind | None = None) -> ExecutionReport:
    """Translate one event of an order, fills included."""
    order, fill = event.order, event.fill
    name = order.client_order_id
    return ExecutionReport(
        exec_type=_EXEC_TYPES[event.exec_type],
        command=command,
        venue_order_id=VenueOrderId(str(order.order_id)),
        venue_client_order_id=None if name is None else VenueClientOrderId(name),
        symbol=order.symbol,
        side=_OUR_SIDES[order.side],
        ord_status=_ORD_STATUS[order.ord_status],
        cum_qty=order.cum_qty,
        order_qty=order.order_qty,
        price=order.price,
        trigger_price=order.trigger_price,
        triggered=None if order.trigger_price is None else order.triggered,
        trade_id=None if fill is None else TradeId(str(fill.trade_id)),
        last_qty=None if fill is None else fill.qty,
        last_px=None if fill is None else fill.price,
        fee=None if fill is None else fill.fee,
        fee_asset=None if fill is None else fill.fee_asset,
        liquidity=Liquidity.UNKNOWN if fill is None else _LIQUIDITY[fill.liquidity],
        reason=order.reason or "",
        transact_time_ns=event.time_ns,
    )


def to_order_status(order: mock.Order) -> ExecutionReport:
    """Translate an order as a query shows it."""
    name = order.client_order_id
    return ExecutionReport(
        exec_type=ExecType.ORDER_STATUS,
        venue_order_id=VenueOrderId(str(order.order_id)),
        venue_client_order_id=None if name is None else VenueClientOrderId(name),
        symbol=order.symbol,
        side=_OUR_SIDES[order.side],
        ord_status=_ORD_STATUS[order.ord_status],
        cum_qty=order.cum_qty,
        order_qty=order.order_qty,
        price=order.price,
        trigger_price=order.trigger_price,
        triggered=None if order.trigger_price is None else order.triggered,
        reason=order.reason or "",
        transact_time_ns=order.updated_time_ns,
    )


def to_fill(fill: mock.Fill) -> ExecutionReport:
    """Translate a fill as a query shows it; what its order counted then is not told."""
    name = fill.client_order_id
    return ExecutionReport(
        exec_type=ExecType.TRADE,
        venue_order_id=VenueOrderId(str(fill.order_id)),
        venue_client_order_id=None if name is None else VenueClientOrderId(name),
        symbol=fill.symbol,
        side=_OUR_SIDES[fill.side],
        trade_id=TradeId(str(fill.trade_id)),
        last_qty=fill.qty,
        last_px=fill.price,
        fee=fill.fee,
        fee_asset=fill.fee_asset,
        liquidity=_LIQUIDITY[fill.liquidity],
        transact_time_ns=fill.time_ns,
    )


def to_stream_item(event: mock.Event, account: AccountName) -> StreamItem:
    """Translate an event of the account's stream."""
    if isinstance(event, mock.OrderEvent):
        return to_report(event)
    return BalanceUpdate(balances=to_balances(event.balances, account, event.time_ns))


def to_balances(
    balances: Sequence[mock.Balance | mock.BalanceChange], account: AccountName, time_ns: int
) -> tuple[VenueBalance, ...]:
    """Translate balances."""
    return tuple(
        [
            VenueBalance(account=account, asset=b.asset, free=b.free, held=b.held, time_ns=time_ns)
            for b in balances
        ]
    )


def to_budget(limit: LimitShown) -> BudgetPool:
    """Translate a limit that the exchange declares."""
    return BudgetPool(
        name=limit.name,
        scope=BudgetScope(limit.scope),
        limit=limit.limit,
        window_s=limit.window_s,
        costs={
            operation: limit.costs[name]
            for operation, name in _NATIVE_OPERATIONS.items()
            if name in limit.costs
        },
        cost=limit.cost,
    )


def to_instrument(instrument: mock.Instrument) -> Instrument:
    """Translate an instrument."""
    return Instrument(
        symbol=instrument.symbol,
        venue_symbol=instrument.symbol,
        base_asset=instrument.base,
        quote_asset=instrument.quote,
        tick_size=instrument.tick_size,
        step_size=instrument.lot_step,
        qty_min=instrument.min_qty,
        qty_max=instrument.max_qty,
        notional_min=instrument.min_notional,
        contract_size=Decimal(1),
    )


def to_reference_price(price: mock.ReferencePrice, time_ns: int) -> ReferencePrice | None:
    """Translate the middle of the touch; None where a side is empty.

    The last price will not do: the exchange does not say how old it is.
    """
    mid = price.mid
    return None if mid is None else ReferencePrice(symbol=price.symbol, px=mid, time_ns=time_ns)


_NATIVE_OPERATIONS: Final = {
    Operation.NEW: "place",
    Operation.NEW_BATCH: "batch",
    Operation.ORDER: "order",
    Operation.OPEN_ORDERS: "open_orders",
    Operation.HISTORY: "orders",
    Operation.FILLS: "fills",
    Operation.BALANCES: "balances",
    Operation.INSTRUMENTS: "instruments",
    Operation.REFERENCE_PRICE: "price",
}
