"""Limits of one account. They are checked and reserved in one step, so that two orders at once cannot
both take the last place."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from decimal import Decimal

from tradegw.hookspecs import Denial
from tradegw.model import NewOrder, Side, plain
from tradegw.model.numbers import CONTEXT

__all__ = ["LimitBook", "Limits", "start_of_day_ns"]

_NS_PER_S = 1_000_000_000
_NS_PER_DAY = 86_400 * _NS_PER_S


def start_of_day_ns(now_ns: int) -> int:
    """Return when the day of an instant began, UTC."""
    return now_ns // _NS_PER_DAY * _NS_PER_DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an account may do. None means no limit.

    Attributes:
        max_order_notional: Price times quantity of one order, in quote units.
        max_open_orders: Open orders at once; orders in doubt count.
        max_orders_per_second: New orders in any second.
        max_orders_per_day: New orders since midnight UTC.
        price_collar_bps: How far a buy's price may stand above the reference price, or a sell's below, in
            basis points.
        symbols: The only symbols that may be traded.
        reduce_only: Only orders that reduce a position.
    """

    max_order_notional: Decimal | None = None
    max_open_orders: int | None = None
    max_orders_per_second: int | None = None
    max_orders_per_day: int | None = None
    price_collar_bps: Decimal | None = None
    symbols: frozenset[str] | None = None
    reduce_only: bool = False


class LimitBook:
    """The limits of one account with what is used of them."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._recent: deque[int] = deque()
        self._day = -1
        self._day_count = 0

    def restore(self, day_count: int, *, now_ns: int) -> None:
        """Take into account how many orders were placed today, before a restart."""
        self._day, self._day_count = now_ns // _NS_PER_DAY, day_count

    def needs_reference_price(self, order: NewOrder) -> bool:
        """Whether judging this order takes a price of the market."""
        limits = self.limits
        if order.price is not None:
            return limits.price_collar_bps is not None
        return limits.max_order_notional is not None and order.quote_qty is None

    def reserve(
        self,
        order: NewOrder,
        *,
        open_orders: int,
        reference_px: Decimal | None,
        now_ns: int,
        is_price_judged: bool = True,
    ) -> Denial | None:
        """Take what the order needs, or say why not. Nothing is taken when it is denied.

        Args:
            open_orders: Orders that are open or on their way, without this one.
            reference_px: A fresh price of the market, where `needs_reference_price`.
            is_price_judged: Whether size and price are judged now; otherwise by `judge_price`, later.
        """
        limits = self.limits
        denial = self._judge(order, open_orders)
        if denial is None and is_price_judged:
            denial = self.judge_price(order, reference_px)
        if denial is not None:
            return denial
        day = now_ns // _NS_PER_DAY
        if day != self._day:
            self._day, self._day_count = day, 0
        while self._recent and self._recent[0] <= now_ns - _NS_PER_S:
            self._recent.popleft()
        if (
            limits.max_orders_per_second is not None
            and len(self._recent) >= limits.max_orders_per_second
        ):
            return Denial(
                reason="LIMIT_ORDERS_PER_SECOND",
                text=f"at most {limits.max_orders_per_second} orders a second",
            )
        if limits.max_orders_per_day is not None and self._day_count >= limits.max_orders_per_day:
            return Denial(
                reason="LIMIT_ORDERS_PER_DAY",
                text=f"at most {limits.max_orders_per_day} orders a day (UTC)",
            )
        if limits.max_orders_per_second is not None:
            self._recent.append(now_ns)
        self._day_count += 1
        return None

    def _judge(self, order: NewOrder, open_orders: int) -> Denial | None:
        limits = self.limits
        if limits.symbols is not None and order.symbol not in limits.symbols:
            allowed = ", ".join(sorted(limits.symbols))
            return Denial(
                reason="LIMIT_SYMBOL", text=f"only {allowed} may be traded; found {order.symbol}"
            )
        if limits.reduce_only and not order.reduce_only:
            return Denial(reason="LIMIT_REDUCE_ONLY", text="only reduce-only orders are taken")
        if limits.max_open_orders is not None and open_orders >= limits.max_open_orders:
            return Denial(
                reason="LIMIT_OPEN_ORDERS", text=f"at most {limits.max_open_orders} open orders"
            )
        return None

    def judge_price(self, order: NewOrder, reference_px: Decimal | None) -> Denial | None:
        """Say why an order is too large or too far from the market, if it is.

        Args:
            reference_px: A fresh price of the market, where `needs_reference_price`.
        """
        limits = self.limits
        if self.needs_reference_price(order) and reference_px is None:
            return Denial(
                reason="NO_REFERENCE_PRICE",
                text=f"a limit needs a fresh price of {order.symbol}, and there is none",
            )
        if limits.max_order_notional is not None:
            notional = order.quote_qty
            if notional is None:
                assert order.order_qty is not None
                px = order.price if order.price is not None else reference_px
                assert px is not None
                if order.trigger_price is not None:
                    # It trades when the price is there, wherever it is now.
                    px = max(px, order.trigger_price)
                notional = CONTEXT.multiply(order.order_qty, px)
            if notional > limits.max_order_notional:
                return Denial(
                    reason="LIMIT_ORDER_NOTIONAL",
                    text=f"at most {plain(limits.max_order_notional)} in one order; "
                    f"found {plain(notional)}",
                )
        if limits.price_collar_bps is not None and order.price is not None:
            assert reference_px is not None
            # In our own context: the program that we are embedded in may have changed the ambient one.
            share = CONTEXT.divide(limits.price_collar_bps, Decimal(10_000))
            room = CONTEXT.multiply(reference_px, share)
            is_buy = order.side is Side.BUY
            bound = (CONTEXT.add if is_buy else CONTEXT.subtract)(reference_px, room)
            if order.price > bound if is_buy else order.price < bound:
                return Denial(
                    reason="LIMIT_PRICE_COLLAR",
                    text=f"{order.side} at {plain(order.price)} is beyond {plain(bound)}, "
                    f"{plain(limits.price_collar_bps)} bps from {plain(reference_px)}",
                )
        return None

    def release(self) -> None:
        """Give back a reservation whose order was never stored."""
        if self._recent:
            self._recent.pop()
        self._day_count = max(0, self._day_count - 1)
