"""Events of an account as its user data stream tells them. Pure.

Source: binance-spot-api-docs, user-data-stream.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tradegw_mock.binance.orders import EXPIRY_REASONS, order_status, order_type
from tradegw_mock.binance.symbols import amount
from tradegw_mock.exchange import Event, ExecType, Liquidity, OrderEvent

__all__ = ["CancelIds", "to_events"]

MS: Final = 1_000_000
_KEPT: Final = 10_000


class CancelIds:
    """What clients called their cancels, which the exchange itself does not keep: a bounded memory."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def add(self, order_id: int, cancel_id: str) -> None:
        """Remember what an order was canceled under."""
        self._names[order_id] = cancel_id
        if len(self._names) > _KEPT:
            del self._names[next(iter(self._names))]

    def discard(self, order_id: int) -> None:
        """Forget a name, because the cancel was refused."""
        self._names.pop(order_id, None)

    def find(self, order_id: int) -> str | None:
        """Find what an order was canceled under; None where the cancel had no name here."""
        return self._names.get(order_id)


def to_events(
    event: Event, name_of: Callable[[str], str], cancel_ids: CancelIds
) -> list[dict[str, Any]]:
    """Tell an event of the exchange in Binance's: one, or several where funds came or went."""
    if isinstance(event, OrderEvent):
        return [_execution_report(event, name_of(event.order.symbol), cancel_ids)]
    time_ms = event.time_ns // MS
    position = {
        "e": "outboundAccountPosition",
        "E": time_ms,
        "u": time_ms,
        "B": [
            {"a": item.asset, "f": amount(item.free), "l": amount(item.held)}
            for item in event.balances
        ],
    }
    if not event.is_funding:
        return [position]
    return [
        {
            "e": "balanceUpdate",
            "E": time_ms,
            "a": item.asset,
            "d": amount(item.free_delta + item.held_delta),
            "T": time_ms,
        }
        for item in event.balances
    ] + [position]


def _execution_report(event: OrderEvent, name: str, cancel_ids: CancelIds) -> dict[str, Any]:
    order, fill, time_ms = event.order, event.fill, event.time_ns // MS
    client_id, original_id = order.client_order_id or "", ""
    if event.exec_type is ExecType.CANCELED:
        client_id, original_id = cancel_ids.find(order.order_id) or client_id, client_id
    report: dict[str, Any] = {
        "e": "executionReport",
        "E": time_ms,
        "s": name,
        "c": client_id,
        "S": str(order.side),
        "o": order_type(order),
        "f": str(order.time_in_force),
        "q": amount(order.cum_qty if order.order_qty is None else order.order_qty),
        "p": amount(order.price),
        "P": amount(order.trigger_price),
        "F": "0.00000000",
        "g": -1,
        "C": original_id,
        "x": _execution_type(event),
        "X": order_status(order),
        "r": "NONE",
        "i": order.order_id,
        "l": amount(None if fill is None else fill.qty),
        "z": amount(order.cum_qty),
        "L": amount(None if fill is None else fill.price),
        "n": "0" if fill is None else amount(fill.fee),
        "N": None if fill is None else fill.fee_asset,
        "T": time_ms,
        "t": -1 if fill is None else fill.trade_id,
        "I": event.seq,
        "w": order.is_open and not order.is_waiting,
        "m": fill is not None and fill.liquidity is Liquidity.MAKER,
        "M": fill is not None,
        "O": order.created_time_ns // MS,
        "Z": amount(order.cum_quote),
        "Y": amount(None if fill is None else fill.quote_qty),
        "Q": amount(order.quote_qty),
        "V": str(order.self_trade_prevention),
    }
    if order.working_time_ns is not None:
        report["W"] = order.working_time_ns // MS
    expiry = EXPIRY_REASONS.get(order.reason or "")
    if expiry is not None:
        report["eR"] = expiry
    return report


def _execution_type(event: OrderEvent) -> str:
    match event.exec_type:
        case ExecType.TRIGGERED:
            # A stop that goes to work is new once more, on the book now.
            return "NEW"
        case ExecType.REJECTED:
            return "EXPIRED"
        case ExecType.EXPIRED if order_status(event.order) == "EXPIRED_IN_MATCH":
            return "TRADE_PREVENTION"
        case _:
            return str(event.exec_type)
