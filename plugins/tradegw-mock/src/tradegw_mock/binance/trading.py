"""Placing, canceling, replacing and amending: what the TRADE endpoints do."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from msgspec.structs import replace

from tradegw_mock.binance.api import Api, Call
from tradegw_mock.binance.errors import BinanceError, mandatory, refused
from tradegw_mock.binance.orders import amended, cancelled, read_order, with_fills
from tradegw_mock.binance.params import Params
from tradegw_mock.binance.symbols import MAX_ALGO_ORDERS, MAX_ORDERS, amount
from tradegw_mock.exchange import (
    ExecType,
    Instrument,
    Order,
    OrderRequest,
    OrdStatus,
    Refusal,
)
from tradegw_mock.requests import Cancel, CancelAll, Done, Place, Replace

__all__ = ["amend", "cancel", "cancel_all", "cancel_replace", "place", "refuse_list", "test"]

_RESTRICTIONS: Final = {
    "ONLY_NEW": OrdStatus.NEW,
    "ONLY_PARTIALLY_FILLED": OrdStatus.PARTIALLY_FILLED,
}
_UNKNOWN: Final = (-2011, "Unknown order sent.")


async def place(api: Api, call: Call) -> Any:
    """`POST order`, `order.place`."""
    instrument = api.symbols.need(call.params)
    request, response = read_order(call.params, instrument)
    _check_room(api, call, request)
    return await _place(api, call, request, response)


async def test(api: Api, call: Call) -> Any:
    """`POST order/test`, `order.test`: look at an order, and place nothing."""
    instrument = api.symbols.need(call.params)
    request, _ = read_order(call.params, instrument)
    try:
        api.host.exchange.check_order(call.account, request)
    except Refusal as e:
        raise refused(e) from e
    if not call.params.flag("computeCommissionRates"):
        return {}
    (state,) = [a for a in api.host.exchange.accounts() if a.name == call.account]
    rates = {"maker": amount(state.maker_fee), "taker": amount(state.taker_fee)}
    nothing = {"maker": amount(None), "taker": amount(None)}
    return {
        "standardCommissionForOrder": rates,
        "specialCommissionForOrder": nothing,
        "taxCommissionForOrder": nothing,
        "discount": {
            "enabledForAccount": False,
            "enabledForSymbol": False,
            "discountAsset": "BNB",
            "discount": amount(None),
        },
    }


def _check_room(api: Api, call: Call, request: OrderRequest) -> None:
    """Refuse an order of an account that has too many: placed lately, or open."""
    api.limits.check_orders(call.account, call.now_ns)
    exchange = api.host.exchange
    if exchange.count_open_orders(call.account) < min(MAX_ORDERS, MAX_ALGO_ORDERS):
        return
    there = exchange.open_orders(call.account, symbol=request.symbol)
    if len(there) >= MAX_ORDERS:
        raise BinanceError(-1013, "Filter failure: MAX_NUM_ORDERS")
    if request.trigger_price is not None:
        waiting = sum(order.is_waiting for order in there)
        if waiting >= MAX_ALGO_ORDERS:
            raise BinanceError(-1013, "Filter failure: MAX_NUM_ALGO_ORDERS")


async def _place(api: Api, call: Call, request: OrderRequest, response: str) -> dict[str, Any]:
    if request.client_order_id is None:
        request = replace(request, client_order_id=api.make_id())
    # Counted first: the fill that takes it off again may be told before the answer is.
    api.limits.ordered(call.account, call.now_ns)
    try:
        done = await api.ask(
            call, Place(account=call.account, order=request, valid_until_ns=call.valid_until_ns)
        )
    except BinanceError as e:
        if e.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            api.limits.filled(call.account, call.now_ns)
        raise
    assert isinstance(done, Done)
    assert done.order is not None
    call.has_ordered = True
    return with_fills(
        api.symbols.name(done.order.symbol),
        done.order,
        [event.fill for event in done.events if event.fill is not None],
        time_ns=done.time_ns,
        response=response,
    )


# --- canceling ------------------------------------------------------------------------------------


async def cancel(api: Api, call: Call) -> Any:
    """`DELETE order`, `order.cancel`."""
    instrument = api.symbols.need(call.params)
    order = _find(api, call, instrument, "orderId", "origClientOrderId")
    return await _cancel(api, call, order, call.params.client_id("newClientOrderId"))


def _find(
    api: Api,
    call: Call,
    instrument: Instrument,
    id_name: str,
    client_id_name: str,
    *,
    unknown: tuple[int, str] = _UNKNOWN,
) -> Order:
    """Find the order that a request names.

    Raises:
        BinanceError: It names none, or one that is not there.
    """
    order_id, client_id = call.params.integer(id_name), call.params.text(client_id_name)
    if order_id is None and client_id is None:
        raise BinanceError(
            -1102,
            f"Param '{client_id_name}' or '{id_name}' must be sent, but both were empty/null!",
        )
    exchange = api.host.exchange
    try:
        if order_id is not None:
            order = exchange.get_order(call.account, order_id=order_id)
            if client_id is not None and order.client_order_id != client_id:
                raise BinanceError(-2039, "Client order ID is not correct for this order ID.")
        else:
            order = exchange.get_order(call.account, client_order_id=client_id)
    except Refusal as e:
        raise BinanceError(*unknown) from e
    if order.symbol != instrument.symbol:
        raise BinanceError(*unknown)
    return order


async def _cancel(api: Api, call: Call, order: Order, cancel_id: str | None) -> dict[str, Any]:
    restriction = call.params.one_of(
        "cancelRestrictions", _RESTRICTIONS, (-1145, "Invalid cancelRestrictions")
    )
    wanted = None if restriction is None else _RESTRICTIONS[restriction]
    if wanted is not None and order.is_open and order.ord_status is not wanted:
        raise BinanceError(-2011, "Order was not canceled due to cancel restrictions.")
    if cancel_id is None:
        cancel_id = api.make_id()
    request = Cancel(
        account=call.account, order_id=order.order_id, valid_until_ns=call.valid_until_ns
    )
    done = await _cancel_as(api, call, request, [order], cancel_id)
    assert done.order is not None
    return cancelled(api.symbols.name(order.symbol), done.order, cancel_id, time_ns=done.time_ns)


async def _cancel_as(
    api: Api, call: Call, request: Cancel | CancelAll, orders: list[Order], cancel_id: str
) -> Done:
    """Cancel orders under a name, which the stream tells."""
    named = [order.order_id for order in orders if order.is_open]
    for order_id in named:
        # Said before it is done, because the stream tells of it before the answer is there.
        api.cancel_ids.add(order_id, cancel_id)
    try:
        done = await api.ask(call, request)
    except BinanceError as e:
        if e.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            for order_id in named:
                api.cancel_ids.discard(order_id)
        raise
    assert isinstance(done, Done)
    return done


async def cancel_all(api: Api, call: Call) -> Any:
    """`DELETE openOrders`, `openOrders.cancelAll`."""
    instrument = api.symbols.need(call.params)
    there = api.host.exchange.open_orders(call.account, symbol=instrument.symbol)
    if not there:
        raise BinanceError(*_UNKNOWN)
    cancel_id = api.make_id()
    request = CancelAll(
        account=call.account, symbol=instrument.symbol, valid_until_ns=call.valid_until_ns
    )
    done = await _cancel_as(api, call, request, there, cancel_id)
    name = api.name(instrument)
    return [
        cancelled(name, event.order, cancel_id, time_ns=done.time_ns)
        for event in done.events
        if event.exec_type is ExecType.CANCELED
    ]


async def cancel_replace(api: Api, call: Call) -> Any:
    """`POST order/cancelReplace`, `order.cancelReplace`: a cancel, then a new order."""
    params = call.params
    instrument = api.symbols.need(params)
    mode = params.one_of("cancelReplaceMode", ("STOP_ON_FAILURE", "ALLOW_FAILURE"))
    if mode is None:
        raise mandatory("cancelReplaceMode")
    request, response = read_order(params, instrument)
    if params.text("cancelOrderId") is None and params.text("cancelOrigClientOrderId") is None:
        raise BinanceError(
            -1102,
            "Param 'cancelOrigClientOrderId' or 'cancelOrderId' must be sent, "
            "but both were empty/null!",
        )
    # Filters and order count are looked at before anything is done.
    try:
        api.host.exchange.check_order(call.account, request)
    except Refusal as e:
        raise refused(e) from e
    too_many: BinanceError | None = None
    try:
        api.limits.check_orders(call.account, call.now_ns)
    except BinanceError as e:
        if not _cancels_anyway(params):
            raise
        too_many = e

    cancel_result: dict[str, Any]
    try:
        order = _find(api, call, instrument, "cancelOrderId", "cancelOrigClientOrderId")
        cancel_result = await _cancel(api, call, order, params.client_id("cancelNewClientOrderId"))
        is_cancelled = True
    except BinanceError as e:
        _raise_unknown(e)
        cancel_result, is_cancelled = e.body(), False
        if mode == "STOP_ON_FAILURE":
            raise _replaced(cancel_result, None, "FAILURE", "NOT_ATTEMPTED") from e
    try:
        if too_many is not None:
            raise too_many
        _check_room(api, call, request)
        new = await _place(api, call, request, response)
    except BinanceError as e:
        _raise_unknown(e)
        raise _replaced(
            cancel_result,
            e.body(),
            "SUCCESS" if is_cancelled else "FAILURE",
            "FAILURE",
            status=HTTPStatus.TOO_MANY_REQUESTS if too_many is not None else None,
        ) from e
    if not is_cancelled:
        raise _replaced(cancel_result, new, "FAILURE", "SUCCESS")
    return {
        "cancelResult": "SUCCESS",
        "newOrderResult": "SUCCESS",
        "cancelResponse": cancel_result,
        "newOrderResponse": new,
    }


def _cancels_anyway(params: Params) -> bool:
    mode = params.one_of("orderRateLimitExceededMode", ("DO_NOTHING", "CANCEL_ONLY"))
    return mode == "CANCEL_ONLY"


def _raise_unknown(error: BinanceError) -> None:
    """Let an error through that says nothing of what happened: it must not read as a failure."""
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise error


def _replaced(
    cancel_result: dict[str, Any],
    new_result: dict[str, Any] | None,
    cancel_word: str,
    new_word: str,
    *,
    status: int | None = None,
) -> BinanceError:
    is_partial = "SUCCESS" in (cancel_word, new_word)
    return BinanceError(
        -2021 if is_partial else -2022,
        "Order cancel-replace partially failed." if is_partial else "Order cancel-replace failed.",
        status=status or (HTTPStatus.CONFLICT if is_partial else HTTPStatus.BAD_REQUEST),
        data={
            "cancelResult": cancel_word,
            "newOrderResult": new_word,
            "cancelResponse": cancel_result,
            "newOrderResponse": new_result,
        },
    )


# --- amending -------------------------------------------------------------------------------------


async def amend(api: Api, call: Call) -> Any:
    """`PUT order/amend/keepPriority`, `order.amend.keepPriority`: a smaller quantity, in its place."""
    params = call.params
    instrument = api.symbols.need(params)
    quantity = params.decimal("newQty")
    if quantity is None:
        raise mandatory("newQty")
    order = _find(api, call, instrument, "orderId", "origClientOrderId")
    if not order.is_open:
        raise BinanceError(*_UNKNOWN)
    if order.order_qty is None or quantity > order.order_qty:
        raise BinanceError(-2038, "Order amend (quantity increase) is not supported.")
    if quantity == order.order_qty:
        raise BinanceError(-2038, "The requested action would change no state; rejecting.")
    done = await api.ask(
        call,
        Replace(
            account=call.account,
            order_id=order.order_id,
            order_qty=quantity,
            new_client_order_id=params.client_id("newClientOrderId") or api.make_id(),
            valid_until_ns=call.valid_until_ns,
        ),
    )
    assert isinstance(done, Done)
    assert done.order is not None
    return amended(
        api.name(instrument),
        done.order,
        order.client_order_id,
        execution_id=done.events[0].seq,
        time_ns=done.time_ns,
    )


async def refuse_list(api: Api, call: Call) -> Any:
    """`POST orderList/...`: `exchangeInfo` says that there are none."""
    api.symbols.need(call.params)
    raise BinanceError(-1013, "OCO orders are not supported for this symbol")
