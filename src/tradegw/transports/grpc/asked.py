"""What callers of the remote gateway ask, made fit for repeating, and the orders that they get."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import uuid4

from tradegw.errors import InvalidOrder, UsageError
from tradegw.gateway import NewOrderFields, check_fields, new_order
from tradegw.model import NewOrder, Order
from tradegw.trading.v1 import order_pb2
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc.convert import read_order, write_new_order
from tradegw.transports.grpc.retry import unreadable

__all__ = ["new_key", "order_of", "place_request", "read"]

MessageT = TypeVar("MessageT")
ValueT = TypeVar("ValueT")


def new_key() -> str:
    """Make an idempotency key."""
    return uuid4().hex


def place_request(
    order: NewOrder | None, fields: NewOrderFields
) -> tuple[pb.PlaceOrderRequest, str]:
    """Return the request for an order given in either way, and its key, made where the caller gave none.

    The order is checked as an embedded gateway checks it: what the wire cannot express is refused here.

    Raises:
        InvalidOrder: Its fields are malformed or contradict each other.
        UsageError: Both ways at once.
    """
    if order is None:
        values: Mapping[str, Any] = fields
        order = new_order(values)
    elif fields:
        raise UsageError("give a NewOrder or its fields, not both")
    else:
        check_fields(order)
    message = write_new_order(order)
    # The gateway takes the client order id for a key where there is no other.
    key = order.idempotency_key or order.client_order_id
    if key is None:
        key = message.idempotency_key = new_key()
    return pb.PlaceOrderRequest(order=message), key


def order_of(message: order_pb2.Order) -> Order:
    """Return the order of an answer.

    Raises:
        TranslationError: It cannot be read.
    """
    return read(read_order, message)


def read(how: Callable[[MessageT], ValueT], message: MessageT) -> ValueT:
    """Read a part of an answer.

    Raises:
        TranslationError: It cannot be read.
    """
    try:
        return how(message)
    except InvalidOrder as e:
        raise unreadable(e) from e
