"""Events as messages of `tradegw.events.v1`, and commands from there, for plugins that carry them. Pure."""

from __future__ import annotations

from tradegw.errors import InvalidOrder
from tradegw.events.v1 import events_pb2
from tradegw.model import EventType, OrderEvent, ReplaceTerms
from tradegw.ports import CancelCommand, Command, PlaceCommand, ReplaceCommand
from tradegw.transports.grpc.convert import read_new_order, write_event
from tradegw.transports.grpc.fields import read_decimal, read_order_id

__all__ = ["read_command", "write_message"]

_REFUSED = (EventType.CANCEL_REJECTED, EventType.REPLACE_REJECTED)


def write_message(event: OrderEvent) -> events_pb2.Event:
    """Write a stored event."""
    told = write_event(event)
    message = events_pb2.Event(
        event_id=f"{event.account}:{event.seq}",
        account=event.account,
        seq=event.seq,
        time_ns=event.time_ns,
        event_type=told.event_type,
        order_id=told.order_id if told.HasField("order_id") else None,
        request_id=event.request_id,
        trace_id=event.trace_id,
    )
    order = told.order if told.HasField("order") else None
    if event.fill is not None:
        message.fill.CopyFrom(events_pb2.Fill(fill=told.fill, order=order, late=event.late))
    elif event.order is None:
        message.account_notice.CopyFrom(
            events_pb2.AccountNotice(reason=event.reason, text=event.text)
        )
    elif event.event_type is EventType.NEW:
        message.order_accepted.CopyFrom(events_pb2.OrderAccepted(order=order))
    elif event.event_type in _REFUSED:
        message.cancel_rejected.CopyFrom(
            events_pb2.CancelRejected(
                order=order, command=told.command, reason=event.reason, text=event.text
            )
        )
    else:
        message.order_updated.CopyFrom(
            events_pb2.OrderUpdated(
                order=order,
                reason=event.reason,
                text=event.text,
                command=told.command,
                evidence=told.evidence if told.HasField("evidence") else None,
                late=event.late,
                attaches=event.attaches,
            )
        )
    return message


def read_command(message: events_pb2.Command) -> Command:
    """Read what is asked.

    Raises:
        InvalidOrder: It cannot be read; reason `INVALID_FIELD`.
    """
    match message.WhichOneof("command"):
        case "place_order":
            return PlaceCommand(order=read_new_order(message.place_order.order))
        case "cancel_order":
            cancel = message.cancel_order
            has = cancel.HasField
            return CancelCommand(
                order_id=read_order_id(cancel.order_id) if has("order_id") else None,
                account=cancel.account if has("account") else None,
                client_order_id=cancel.client_order_id if has("client_order_id") else None,
                idempotency_key=cancel.idempotency_key if has("idempotency_key") else None,
            )
        case "replace_order":
            terms = message.replace_order
            given = terms.HasField
            return ReplaceCommand(
                order_id=read_order_id(terms.order_id),
                terms=ReplaceTerms(
                    order_qty=read_decimal(terms.order_qty, "order_qty")
                    if given("order_qty")
                    else None,
                    price=read_decimal(terms.price, "price") if given("price") else None,
                    trigger_price=read_decimal(terms.trigger_price, "trigger_price")
                    if given("trigger_price")
                    else None,
                ),
                idempotency_key=terms.idempotency_key if given("idempotency_key") else None,
            )
        case None:
            raise InvalidOrder(
                "command must be one of place_order, cancel_order and replace_order; found none",
                reason="INVALID_FIELD",
            )
