"""Carries requests out at an exchange. Both doors go through here, so they see one behaviour."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import assert_never

from msgspec.structs import replace

from tradegw_mock.chaos import Chaos, Target
from tradegw_mock.exchange import (
    BALANCES,
    AccountKind,
    Change,
    Exchange,
    Order,
    OrderEvent,
    OrdStatus,
    Refusal,
    RefusalCode,
    can_fill_outside,
)
from tradegw_mock.requests import (
    BATCH_MAX,
    PAGE,
    PAGE_MAX,
    Answer,
    Batch,
    BatchDone,
    BatchItem,
    Cancel,
    CancelAll,
    CreateApiKey,
    DeleteApiKey,
    Done,
    GetBalances,
    GetInstruments,
    GetLimits,
    GetOrder,
    GetPrice,
    GetTime,
    ListAccounts,
    ListAudit,
    Listed,
    ListFills,
    ListOpenOrders,
    ListOrders,
    Mutation,
    OpenAccount,
    Opened,
    Place,
    Question,
    Replace,
)

__all__ = ["PastLost", "answer", "carry_out", "target_of"]


class PastLost(Exception):
    """The exchange keeps no archive and has let old orders go: it cannot say that it never had one."""


def carry_out(
    exchange: Exchange,
    request: Mutation | Question,
    clock: Callable[[], int],
    faults: Chaos | None = None,
    *,
    route: str = "",
) -> Answer:
    """Carry out a request, whatever it is.

    Args:
        faults: What may go wrong at the exchange itself, whichever door the request came by: with
            cancels, and with what queries see.
        route: The door's own name of the request, for `faults`.

    Raises:
        Refusal: It had no effect.
        PastLost: Nobody can say.
    """
    match request:
        case Place():
            change = exchange.place(
                request.account, request.order, valid_until_ns=request.valid_until_ns
            )
            return _done(request.account, change)
        case Cancel():
            return _done(request.account, _cancel(exchange, request, clock, faults, route))
        case Replace():
            change = exchange.replace(
                request.account,
                order_id=request.order_id,
                client_order_id=request.client_order_id,
                order_qty=request.order_qty,
                price=request.price,
                new_client_order_id=request.new_client_order_id,
                valid_until_ns=request.valid_until_ns,
            )
            return _done(request.account, change)
        case CancelAll():
            change = exchange.cancel_all(
                request.account, symbol=request.symbol, valid_until_ns=request.valid_until_ns
            )
            if faults is not None:
                _canceled(change, "cancel_all", faults, route)
            return _done(request.account, change)
        case CreateApiKey():
            change = exchange.create_api_key(
                request.account,
                api_key=request.api_key,
                secret=request.secret,
                kind=request.kind,
                can_trade=request.can_trade,
            )
            return _done(request.account, change)
        case DeleteApiKey():
            change = exchange.delete_api_key(request.account, api_key=request.api_key)
            return _done(request.account, change)
        case Batch():
            return _batch(exchange, request, clock, faults, route)
        case OpenAccount():
            return _open_account(exchange, request, clock)
        case _:
            return answer(exchange, request, clock, faults, route=route)


def target_of(exchange: Exchange, request: Mutation | Question, *, route: str = "") -> Target:
    """Say what a request is for faults; of a cancel or replace the symbol is its order's."""
    order_id = client_order_id = None
    symbol = ""
    match request:
        case Place():
            symbol, client_order_id = request.order.symbol, request.order.client_order_id
        case Cancel() | Replace() | GetOrder():
            order_id, client_order_id = request.order_id, request.client_order_id
            order = _find(exchange, request)
            if order is not None:
                symbol, order_id = order.symbol, order.order_id
                client_order_id = order.client_order_id
        case CancelAll() | ListOpenOrders() | ListOrders() | ListFills() | GetPrice():
            symbol = request.symbol or ""
        case _:
            pass
    return Target(
        operation=str(request.__struct_config__.tag),
        account=request.account,
        symbol=symbol,
        route=route,
        client_order_id=client_order_id,
        order_id=order_id,
    )


def _find(exchange: Exchange, request: Cancel | Replace | GetOrder) -> Order | None:
    try:
        return exchange.get_order(
            request.account, order_id=request.order_id, client_order_id=request.client_order_id
        )
    except Refusal:
        return None


def _cancel(
    exchange: Exchange,
    request: Cancel,
    clock: Callable[[], int],
    faults: Chaos | None,
    route: str,
) -> Change:
    in_time = request.valid_until_ns is None or clock() <= request.valid_until_ns
    if faults is not None and in_time:
        order = _find(exchange, request)
        if order is not None and order.is_open and can_fill_outside(order):
            target = target_of(exchange, request, route=route)
            if faults.on_cancel(target):
                exchange.fill_outside(request.account, order_id=order.order_id)
    change = exchange.cancel(
        request.account,
        order_id=request.order_id,
        client_order_id=request.client_order_id,
        valid_until_ns=request.valid_until_ns,
    )
    if faults is not None:
        _canceled(change, "cancel", faults, route)
    return change


def _canceled(change: Change, operation: str, faults: Chaos, route: str) -> None:
    """Tell the faults which orders a request has canceled."""
    for order in change.orders:
        canceled = order.ord_status is OrdStatus.CANCELED and order.account == change.account
        if canceled and can_fill_outside(order):
            faults.canceled(
                Target(
                    operation=operation,
                    account=order.account,
                    symbol=order.symbol,
                    route=route,
                    client_order_id=order.client_order_id,
                    order_id=order.order_id,
                )
            )


def _done(account: str, change: Change) -> Done:
    order = change.order
    return Done(
        time_ns=change.time_ns,
        order=order,
        # Others of the account that the request moved, such as its stops, are told by the stream alone.
        events=tuple(
            [
                event
                for event in change.events
                if isinstance(event, OrderEvent)
                and event.account == account
                and (order is None or event.order.order_id == order.order_id)
            ]
        ),
    )


def _batch(
    exchange: Exchange,
    request: Batch,
    clock: Callable[[], int],
    faults: Chaos | None,
    route: str,
) -> BatchDone:
    if len(request.items) > BATCH_MAX:
        raise Refusal(
            RefusalCode.MALFORMED,
            f"a batch has at most {BATCH_MAX} items, found {len(request.items)}",
        )
    items: list[BatchItem] = []
    for item in request.items:
        if item.account != request.account:
            code, text = RefusalCode.MALFORMED, "an item of a batch is of the batch's account"
            items.append(BatchItem(code=code, text=text))
            continue
        try:
            done = carry_out(exchange, item, clock, faults, route=route)
        except Refusal as e:
            items.append(BatchItem(code=e.code, text=e.text))
        else:
            assert isinstance(done, Done)
            items.append(BatchItem(done=done))
    return BatchDone(time_ns=clock(), items=tuple(items))


def _open_account(exchange: Exchange, request: OpenAccount, clock: Callable[[], int]) -> Opened:
    known = next((a for a in exchange.accounts() if a.name == request.account), None)
    if known is None:
        balances = BALANCES if request.balances is None else request.balances
        exchange.create_account(request.account, balances=balances)
    elif known.kind is not AccountKind.USER:
        raise Refusal(
            RefusalCode.BAD_ACCOUNT_NAME, f"account {request.account!r} is the exchange's own"
        )
    return Opened(time_ns=clock(), instance_id=exchange.instance_id, account=request.account)


def answer(
    exchange: Exchange,
    request: Question,
    clock: Callable[[], int],
    faults: Chaos | None = None,
    *,
    route: str = "",
) -> Listed:
    """Answer a request that only asks.

    Raises:
        Refusal: The account or symbol is unknown.
        PastLost: Nobody can say.
    """
    listed = _answer(exchange, request, clock)
    if faults is None or request.witness or not request.account:
        return listed
    match request:
        case GetOrder() | ListOpenOrders() | ListOrders():
            target = target_of(exchange, request, route=route)
            shown = faults.shown_orders(target, listed.orders)
            return listed if shown == listed.orders else replace(listed, orders=shown)
        case ListFills():
            target = target_of(exchange, request, route=route)
            fills = tuple(faults.shown_fills(target, listed.fills))
            return listed if fills == listed.fills else replace(listed, fills=fills)
        case _:
            return listed


def _answer(exchange: Exchange, request: Question, clock: Callable[[], int]) -> Listed:
    now_ns, instance_id = clock(), exchange.instance_id
    match request:
        case GetTime() | GetLimits():
            return Listed(time_ns=now_ns, instance_id=instance_id)
        case GetOrder():
            return _one_order(exchange, request, now_ns)
        case ListFills():
            return _fills(exchange, request, now_ns)
        case ListOrders():
            page = exchange.order_history(
                request.account or None,
                symbol=request.symbol,
                since_ns=request.since_ns,
                cursor=request.after,
                limit=_page(request.limit),
                newest=request.newest,
            )
            return Listed(
                time_ns=now_ns,
                instance_id=instance_id,
                orders=page.orders,
                next_after=page.next_cursor,
            )
        case ListOpenOrders():
            orders = exchange.open_orders(request.account, symbol=request.symbol)
            return Listed(time_ns=now_ns, instance_id=instance_id, orders=tuple(orders))
        case GetBalances():
            balances = exchange.balances(request.account).values()
            return Listed(time_ns=now_ns, instance_id=instance_id, balances=tuple(balances))
        case GetInstruments():
            instruments = tuple(exchange.instruments())
            return Listed(time_ns=now_ns, instance_id=instance_id, instruments=instruments)
        case GetPrice():
            prices = (exchange.reference_price(request.symbol),)
            return Listed(time_ns=now_ns, instance_id=instance_id, prices=prices)
        case ListAccounts():
            accounts = tuple(exchange.accounts())
            return Listed(time_ns=now_ns, instance_id=instance_id, accounts=accounts)
        case ListAudit():
            records = tuple(islice(exchange.audit(after=request.after), PAGE))
            return Listed(
                time_ns=now_ns,
                instance_id=instance_id,
                audit=tuple(
                    record for record in records if request.account in ("", record.account)
                ),
                next_after=records[-1].number if len(records) == PAGE else None,
            )
        case _:
            assert_never(request)


def _page(limit: int) -> int:
    return max(1, min(limit, PAGE_MAX))


def _one_order(exchange: Exchange, request: GetOrder, now_ns: int) -> Listed:
    try:
        order = exchange.get_order(
            request.account, order_id=request.order_id, client_order_id=request.client_order_id
        )
    except Refusal as e:
        if e.code is not RefusalCode.UNKNOWN_ORDER:
            raise
        if exchange.has_forgotten:
            raise PastLost(f"not found, but old orders are forgotten here: {e.text}") from e
        return Listed(time_ns=now_ns, instance_id=exchange.instance_id)
    return Listed(time_ns=now_ns, instance_id=exchange.instance_id, orders=(order,))


def _fills(exchange: Exchange, request: ListFills, now_ns: int) -> Listed:
    order_id = request.order_id
    if order_id is not None or request.client_order_id is not None:
        found = _one_order(
            exchange,
            GetOrder(
                account=request.account,
                order_id=order_id,
                client_order_id=request.client_order_id,
            ),
            now_ns,
        )
        if not found.orders:
            return found
        order_id = found.orders[0].order_id
    fills = exchange.fills(
        request.account or None,
        symbol=request.symbol,
        order_id=order_id,
        since_trade_id=request.after,
        limit=_page(request.limit),
        newest=request.newest,
    )
    more = len(fills) >= _page(request.limit) and not request.newest
    return Listed(
        time_ns=now_ns,
        instance_id=exchange.instance_id,
        fills=tuple(fill for fill in fills if fill.time_ns >= request.since_ns),
        next_after=fills[-1].trade_id if more else None,
    )
