"""Binance's limits on the native door: kept like on its other doors, and declared to who asks.

Both count in the same `Limits`, so an account has one order count, and an address one weight, whichever
door it comes by.
"""

from __future__ import annotations

from typing import Final

from tradegw_mock.binance.errors import BinanceError
from tradegw_mock.binance.limits import Limits
from tradegw_mock.contract import ORDER_POOLS, DoorCode
from tradegw_mock.requests import (
    AnswerError,
    Batch,
    LimitShown,
    ListOpenOrders,
    Mutation,
    Place,
    Question,
)

__all__ = ["NativeLimits"]

WEIGHTS: Final = {
    "order": 4,
    "open_orders": 6,
    "orders": 20,
    "fills": 20,
    "balances": 20,
    "instruments": 20,
    "price": 2,
    "subscribe": 2,
}
"""What Binance charges for the like; anything else is 1."""
_OPEN_ORDERS_OF_ALL: Final = 80


class NativeLimits:
    """What a request costs, and who must wait."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def charge(self, address: str, request: Mutation | Question, now_ns: int) -> None:
        """Charge a request to its address, and orders to their account.

        Raises:
            AnswerError: It is too much; nothing was done.
        """
        if request.witness:
            return
        try:
            self._limits.charge(address, _weight(request), now_ns)
            for _ in range(_orders(request)):
                self._limits.check_orders(request.account, now_ns)
                self._limits.ordered(request.account, now_ns)
        except BinanceError as e:
            raise AnswerError(
                DoorCode.TOO_MANY_REQUESTS, e.msg, retry_after_s=e.retry_after_s
            ) from e

    def declared(self) -> tuple[LimitShown, ...]:
        """Say what the limits are, and what each operation draws on them at most."""
        settings = self._limits.settings
        weights = {**WEIGHTS, "open_orders": _OPEN_ORDERS_OF_ALL, "batch": 1}
        # Of a batch each member counts; the client says how many there are.
        orders = {"place": 1, "batch": 1}
        in_10_s, in_a_day = ORDER_POOLS
        return (
            LimitShown(
                name="request_weight",
                scope="IP",
                limit=settings.request_weight_per_minute,
                window_s=60,
                costs=weights,
                cost=1,
            ),
            LimitShown(
                name=in_10_s,
                scope="ACCOUNT",
                limit=settings.orders_per_10_seconds,
                window_s=10,
                costs=orders,
                cost=0,
            ),
            LimitShown(
                name=in_a_day,
                scope="ACCOUNT",
                limit=settings.orders_per_day,
                window_s=86_400,
                costs=orders,
                cost=0,
            ),
        )


def _weight(request: Mutation | Question) -> int:
    if isinstance(request, ListOpenOrders) and request.symbol is None:
        return _OPEN_ORDERS_OF_ALL
    return WEIGHTS.get(str(request.__struct_config__.tag), 1)


def _orders(request: Mutation | Question) -> int:
    match request:
        case Place():
            return 1
        case Batch():
            return sum(isinstance(item, Place) for item in request.items)
        case _:
            return 0
