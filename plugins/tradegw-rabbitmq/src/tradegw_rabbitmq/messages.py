"""Events as messages: where they go, under which name, with which properties. Pure."""

from __future__ import annotations

from typing import NamedTuple

import aio_pika
from aio_pika.abc import HeadersType
from google.protobuf.json_format import MessageToJson

from tradegw import OrderEvent
from tradegw.wire import write_message
from tradegw_rabbitmq.config import RabbitConfig

__all__ = ["Outgoing", "write"]


class Outgoing(NamedTuple):
    """A message and its way."""

    exchange: str
    routing_key: str
    message: aio_pika.Message


def write(event: OrderEvent, config: RabbitConfig) -> Outgoing:
    """Write an event as the message that a broker gets."""
    told = write_message(event)
    is_json = config.format == "json"
    headers: HeadersType = {}
    if event.order_id is not None:
        headers["order_id"] = str(event.order_id)
    if event.trace_id:
        # The trace alone is recorded; its last 16 digits stand for the span that caused the event.
        headers["traceparent"] = f"00-{event.trace_id}-{event.trace_id[-16:]}-01"
    message = aio_pika.Message(
        MessageToJson(told, preserving_proto_field_name=True).encode()
        if is_json
        else told.SerializeToString(),
        content_type="application/json" if is_json else "application/x-protobuf",
        message_id=told.event_id,
        correlation_id=event.request_id or None,
        headers=headers,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        type=f"tradegw.events.v1.{told.WhichOneof('kind')}",
    )
    venue = "" if event.order is None else event.order.venue
    if event.fill is not None:
        venue = event.fill.venue
    words = (event.account, venue, event.event_type.value)
    return Outgoing(
        config.orders if event.fill is None else config.executions,
        ".".join(word.replace(".", "-") or "-" for word in words),
        message,
    )
