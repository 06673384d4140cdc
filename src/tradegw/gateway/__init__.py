"""What is running: the one room that chooses implementations."""

from tradegw.engine.context import REQUEST, REQUEST_NAME, Request
from tradegw.engine.validate import check_fields, new_order, parse_terms
from tradegw.gateway.api import (
    AccountStatus,
    FillItem,
    Gateway,
    NewOrderFields,
    Number,
    OrderItem,
    Session,
    StreamBatch,
    VenueInfo,
)

__all__ = [
    "REQUEST",
    "REQUEST_NAME",
    "AccountStatus",
    "FillItem",
    "Gateway",
    "NewOrderFields",
    "Number",
    "OrderItem",
    "Request",
    "Session",
    "StreamBatch",
    "VenueInfo",
    "check_fields",
    "new_order",
    "parse_terms",
]
