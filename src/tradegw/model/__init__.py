"""What the things are: values, and pure functions over them. Imports nothing but the standard library."""

from tradegw.model.enums import (
    CommandKind,
    EventType,
    EvidenceKind,
    ExecType,
    InstrumentStatus,
    Liquidity,
    OrdStatus,
    OrdType,
    Origin,
    Side,
    TimeInForce,
    TriggerBy,
)
from tradegw.model.ids import (
    AccountId,
    AccountName,
    ClientOrderId,
    OrderId,
    TradeId,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw.model.instruments import Instrument
from tradegw.model.listings import Cursor, FillFilter, Halt, Listing, OrderFilter
from tradegw.model.numbers import parse_decimal, plain
from tradegw.model.orders import Fill, InDoubt, NewOrder, Order, ReplaceTerms
from tradegw.model.reports import Balance, Evidence, ExecutionReport, OrderEvent, Position

__all__ = [
    "AccountId",
    "AccountName",
    "Balance",
    "ClientOrderId",
    "CommandKind",
    "Cursor",
    "EventType",
    "Evidence",
    "EvidenceKind",
    "ExecType",
    "ExecutionReport",
    "Fill",
    "FillFilter",
    "Halt",
    "InDoubt",
    "Instrument",
    "InstrumentStatus",
    "Liquidity",
    "Listing",
    "NewOrder",
    "OrdStatus",
    "OrdType",
    "Order",
    "OrderEvent",
    "OrderFilter",
    "OrderId",
    "Origin",
    "Position",
    "ReplaceTerms",
    "Side",
    "TimeInForce",
    "TradeId",
    "TriggerBy",
    "VenueClientOrderId",
    "VenueOrderId",
    "parse_decimal",
    "plain",
]
