"""Values for tests: each has sensible fields, and takes those that the test is about."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

from tradegw.model import (
    AccountName,
    ExecType,
    ExecutionReport,
    Fill,
    Instrument,
    NewOrder,
    Order,
    OrderId,
    OrdType,
    Side,
    TimeInForce,
    TradeId,
)
from tradegw.model.lifecycle import record_intent

__all__ = ["a_fill", "a_new_order", "a_report", "a_trade", "an_instrument", "an_order"]


def an_instrument(**fields: Any) -> Instrument:
    """Return BTC/USDT with a tick of 0.01 and a step of 0.0001."""
    asked: dict[str, Any] = {
        "symbol": "BTC/USDT",
        "venue_symbol": "BTCUSDT",
        "base_asset": "BTC",
        "quote_asset": "USDT",
        "tick_size": Decimal("0.01"),
        "step_size": Decimal("0.0001"),
        "qty_min": Decimal("0.0001"),
    }
    return Instrument(**(asked | fields))


def a_new_order(**fields: Any) -> NewOrder:
    """Return a request to buy 1 BTC at 100 on account `paper`. Give numbers as `Decimal`."""
    asked: dict[str, Any] = {
        "account": AccountName("paper"),
        "symbol": "BTC/USDT",
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "order_qty": Decimal(1),
        "price": Decimal(100),
    }
    return NewOrder(**(asked | fields))


def an_order(**fields: Any) -> Order:
    """Return an order as it stands once its intent is stored: to buy 1 BTC at 100."""
    asked: dict[str, Any] = {
        "order_id": OrderId(uuid4()),
        "account": AccountName("paper"),
        "venue": "scripted",
        "symbol": "BTC/USDT",
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "order_qty": Decimal(1),
        "price": Decimal(100),
        "created_time_ns": 1,
    }
    return record_intent(Order(**(asked | fields)))[0]


def a_report(exec_type: ExecType, **fields: Any) -> ExecutionReport:
    """Return a report, received at the 7th nanosecond."""
    told: dict[str, Any] = {"received_time_ns": 7}
    return ExecutionReport(exec_type=exec_type, **(told | fields))


def a_trade(trade_id: str, qty: str, px: str = "100", **fields: Any) -> ExecutionReport:
    """Return the report of a fill."""
    return a_report(
        ExecType.TRADE,
        trade_id=TradeId(trade_id),
        last_qty=Decimal(qty),
        last_px=Decimal(px),
        **fields,
    )


def a_fill(**fields: Any) -> Fill:
    """Return a fill of 1 BTC at 100."""
    asked: dict[str, Any] = {
        "trade_id": TradeId("t1"),
        "account": AccountName("paper"),
        "venue": "scripted",
        "symbol": "BTC/USDT",
        "side": Side.BUY,
        "last_qty": Decimal(1),
        "last_px": Decimal(100),
    }
    return Fill(**(asked | fields))
