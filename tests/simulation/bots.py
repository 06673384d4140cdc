"""Bots that trade through a simulated gateway, and ask again until they are answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tradegw import (
    Conflict,
    Gateway,
    InvalidOrder,
    NotFound,
    Order,
    OrderId,
    OrdType,
    Side,
    TimeInForce,
    TradegwError,
    Unavailable,
)

if TYPE_CHECKING:
    from tests.simulation.world import World

SYMBOLS = ("BTC/USDT", "ETH/USDT")
PRICES = {"BTC/USDT": 65000, "ETH/USDT": 3200}


class Gone(Exception):
    """The gateway died while it was asked."""


@dataclass
class Bot:
    """One bot of one account.

    Attributes:
        keys: What each key of its stands for.
        answers: The order that each key was answered with.
        open_calls: Calls that nobody has answered yet.
    """

    world: World
    name: str
    account: str
    rng: random.Random
    keys: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    answers: dict[str, OrderId] = field(default_factory=dict[str, OrderId])
    held: dict[OrderId, Order] = field(default_factory=dict[OrderId, Order])
    open_calls: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])
    count: int = 0

    def __post_init__(self) -> None:
        # Drawn apart, so that whether an order waits changes nothing else that is drawn.
        self.patience = random.Random(f"{self.world.seed}:{self.name}:patience")

    async def trade(self, until_s: float) -> None:
        """Act at random moments, until a time."""
        while self.world.loop.time() < until_s:
            await asyncio.sleep(self.rng.expovariate(1 / self.world.pace_s))
            self.act()

    def act(self) -> None:
        """Do something, without waiting for what comes of it."""
        (action,) = self.rng.choices(
            (
                self.place,
                self.place_again,
                self.cancel,
                self.replace,
                self.hurry,
                self.cancel_all,
                self.leave,
            ),
            (50, 6, 18, 12, 10, 1, 3),
        )
        action()

    # --- what it does ---------------------------------------------------------------------------

    def place(self) -> None:
        key = f"{self.name}-{len(self.keys)}"
        fields = self._fields()
        if (self.account, fields["symbol"]) in self.world.quiet:
            return
        self.keys[key] = fields
        self._place(key)

    def play(self, fields: dict[str, Any], then: str | None) -> None:
        """Place an order as told, and cancel or replace it once it is answered."""
        key = f"{self.name}-{len(self.keys)}"
        self.keys[key] = fields

        def follow(_: object) -> None:
            order_id = self.answers.get(key)
            order = None if order_id is None else self.held.get(order_id)
            if order is None or self.world.is_calm:
                return
            if then == "cancel":
                self._cancel(order.order_id)
            elif then == "replace":
                self._replace(order)

        self._place(key).add_done_callback(follow)

    def place_again(self) -> None:
        if self.keys:
            self._place(self.rng.choice(list(self.keys)))

    def _place(self, key: str) -> asyncio.Task[Any]:
        fields = self.keys[key]
        return self._call(
            f"places {key}",
            lambda gateway: gateway.place_order(
                account=self.account, idempotency_key=key, **fields
            ),
            key,
        )

    def cancel(self) -> None:
        if self.held:
            self._cancel(self.rng.choice(list(self.held)))

    def _cancel(self, order_id: OrderId) -> None:
        key = self._command_key()
        self._call(
            f"cancels {order_id}",
            lambda gateway: gateway.cancel_order(order_id, idempotency_key=key),
        )

    def hurry(self) -> None:
        """Ask for two things of an order at once."""
        orders = [o for o in self.held.values() if o.price is not None and o.is_open]
        if orders:
            order = self.rng.choice(orders)
            self._replace(order)
            if self.rng.random() < 0.5:
                self._replace(order)
            else:
                self._cancel(order.order_id)

    def replace(self) -> None:
        orders = [o for o in self.held.values() if o.price is not None and o.is_open]
        if orders:
            self._replace(self.rng.choice(orders))

    def _replace(self, order: Order) -> None:
        key = self._command_key()
        terms: dict[str, Any] = {}
        if self.rng.random() < 0.7 and order.price is not None:
            terms["price"] = order.price + self.rng.choice((-2, -1, 1, 2))
        if (not terms or self.rng.random() < 0.4) and order.order_qty is not None:
            terms["order_qty"] = order.order_qty + self.rng.choice(
                (Decimal("0.001"), Decimal("0.002"))
            )
        if terms:
            self._call(
                f"replaces {order.order_id} {terms}",
                lambda gateway: gateway.replace_order(order.order_id, idempotency_key=key, **terms),
            )

    def cancel_all(self) -> None:
        key = self._command_key()
        self._call(
            "cancels all",
            lambda gateway: gateway.cancel_all_orders(account=self.account, idempotency_key=key),
        )

    def leave(self) -> None:
        """Go away from what it waits for: only the waiting ends."""
        for task in tuple(self.open_calls):
            if self.rng.random() < 0.3:
                task.cancel()

    def _command_key(self) -> str:
        self.count += 1
        return f"{self.name}-command-{self.count}"

    def _fields(self) -> dict[str, Any]:
        rng = self.rng
        symbol = rng.choice(SYMBOLS)
        side = rng.choice((Side.BUY, Side.SELL))
        price = Decimal(PRICES[symbol] + rng.randint(-4, 4))
        qty = Decimal(rng.choice(("0.002", "0.004", "0.01")))
        fields: dict[str, Any] = {
            "symbol": symbol,
            "side": side,
            "ord_type": OrdType.LIMIT,
            "order_qty": qty,
            "price": price,
        }
        match rng.choices(range(8), (56, 8, 6, 8, 8, 6, 3, 5))[0]:
            case 1:
                fields["time_in_force"] = TimeInForce.IOC
            case 2:
                fields["time_in_force"] = TimeInForce.FOK
            case 3:
                fields["post_only"] = True
            case 4:
                fields |= {
                    "ord_type": OrdType.MARKET,
                    "time_in_force": TimeInForce.IOC,
                    "price": None,
                }
            case 5:
                fields |= {
                    "time_in_force": TimeInForce.GTD,
                    "expire_time_ns": self.world.clock.time_ns() + rng.randint(1, 20) * 10**9,
                }
            case 6:
                # Nobody can afford it.
                fields["order_qty"] = Decimal(5000)
            case 7:
                up = side is Side.BUY
                fields |= {
                    "ord_type": OrdType.STOP_LIMIT,
                    "trigger_price": price + (2 if up else -2),
                    "price": price + (3 if up else -3),
                }
            case _:
                pass
        if self.patience.random() < 0.2:
            fields["queue_if_unavailable_s"] = self.patience.choice((1, 5, 30))
        return {name: value for name, value in fields.items() if value is not None}

    # --- asking until there is an answer ----------------------------------------------------------

    def _call(
        self, what: str, work: Callable[[Gateway], Awaitable[Any]], key: str | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(self._until_answered(what, work, key))
        self.open_calls.add(task)
        task.add_done_callback(self.open_calls.discard)
        return task

    async def _until_answered(
        self, what: str, work: Callable[[Gateway], Awaitable[Any]], key: str | None
    ) -> None:
        tell = self.world.tell
        if self.world.is_telling:
            tell(self.name, what + (f": {self.keys[key]}" if key is not None else ""))
        wait_s = 0.05
        while True:
            try:
                answer = await self.world.ask(work)
            except (Gone, Unavailable) as e:
                if self.world.is_telling:
                    tell(self.name, f"{what}: {type(e).__name__} {e}; asks again")
                await asyncio.sleep(wait_s * self.rng.random())
                wait_s = min(wait_s * 2, 2.0)
            except (Conflict, InvalidOrder, NotFound) as e:
                if self.world.is_telling:
                    tell(self.name, f"{what}: {type(e).__name__} {e}")
                return
            except TradegwError as e:
                self.world.violate(
                    f"{self.name} {what}: a caller never sees {type(e).__name__}: {e}"
                )
                return
            else:
                self._heard(what, answer, key)
                return

    def _heard(self, what: str, answer: Any, key: str | None) -> None:
        orders = [answer] if isinstance(answer, Order) else list(answer)
        if self.world.is_telling:
            for order in orders:
                self.world.tell(self.name, f"{what}: {describe(order)}")
        for order in orders:
            if key is not None:
                held = self.answers.setdefault(key, order.order_id)
                if held != order.order_id:
                    self.world.violate(
                        f"key {key} was answered with {held}, and then with {order.order_id}"
                    )
            if order.is_open:
                self.held[order.order_id] = order
            else:
                self.held.pop(order.order_id, None)


def describe(order: Order) -> str:
    """Return an order in one line."""
    doubts = "".join(f" in doubt {d.command} ({d.why})" for d in order.in_doubt)
    pending = "" if order.pending is None else f" pending {order.pending}"
    return (
        f"{order.order_id} {order.symbol} {order.side} {order.order_qty} at {order.price} "
        f"{order.ord_status} {order.cum_qty}{pending}{doubts} {order.reason}".rstrip()
    )
