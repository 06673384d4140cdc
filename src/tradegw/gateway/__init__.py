"""What is running: the one room that chooses implementations."""

from tradegw.engine.context import REQUEST, Request
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
]
