"""A director: sees to it that rare things happen as well.

Chance alone lets most faults strike placements, and orders that filled long ago. So each history aims at some
cells, drawn among all that can be, the rare ones more often. For each the director lets a bot do what leads
there; and when a command or question that fits arrives at the exchange, the market brings the order where it
is to stand, and the fault acts on that very message.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tradegw_mock import exchange as mock
from tradegw_mock.chaos import FaultKind, FaultSpec, Target
from tradegw_mock.requests import Cancel, GetOrder, Mutation, Place, Question, Replace

from tests.simulation.bots import PRICES, Bot
from tests.simulation.cells import (
    ABSENT,
    CLOSED,
    IN_FLIGHT,
    NEVER_CARRIED_OUT,
    POSSIBLE,
    QUESTIONS,
    Cell,
    weight,
)
from tradegw import OrdType, Side, TimeInForce

if TYPE_CHECKING:
    from tests.simulation.world import World

AIMS = 10
"""In each history."""
WEIGHTS = tuple(weight(cell) for cell in POSSIBLE)
TRIES = 3
EACH_S = 4.0
"""After so long a bot tries again."""
WALL = Decimal(10_000_000)
"""The highest price that there is: nobody can pay it."""


@dataclass(eq=False)
class Aim:
    """One cell to be reached."""

    fault: str
    command: str
    status: str
    tries: int = 0
    is_over: bool = False
    is_armed: bool = False

    @property
    def cell(self) -> Cell:
        return self.fault, self.command, self.status


class Director:
    """The director of one history."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(f"{world.seed}:director")
        self._network = world.network
        self._aims: list[Aim] = []

    def plan(self, storm_s: float) -> None:
        """Draw what to aim at, and when."""
        for cell in self._rng.choices(POSSIBLE, WEIGHTS, k=AIMS):
            aim = Aim(*cell)
            self._world.loop.call_at(self._rng.uniform(0.5, storm_s * 0.75), self._begin, aim)

    def struck(self, cell: Cell) -> None:
        """Learn which cell was reached."""
        for aim in self._aims:
            if aim.cell == cell:
                aim.is_over = True
                self._aims.remove(aim)
                return

    def stop(self) -> None:
        """Aim at nothing more."""
        self._aims.clear()

    # --- what leads there -------------------------------------------------------------------------

    def _begin(self, aim: Aim) -> None:
        if not self._world.is_calm:
            self._aims.append(aim)
            self._try(aim)

    def _try(self, aim: Aim) -> None:
        if aim.is_over or self._world.is_calm or aim.tries == TRIES:
            return
        aim.tries += 1
        self._world.loop.call_later(EACH_S, self._try, aim)
        bot = self._rng.choice(self._world.bots)
        fields = self._order_for(bot, aim)
        if (bot.account, fields["symbol"]) in self._world.quiet:
            return
        bot.play(fields, aim.command if aim.command in ("cancel", "replace") else None)
        self._open_the_way(aim, bot)

    def _order_for(self, bot: Bot, aim: Aim) -> dict[str, Any]:
        """Return the terms of an order that can come to stand as aimed."""
        rng = self._rng
        symbol = rng.choice(tuple(PRICES))
        side = rng.choice((Side.BUY, Side.SELL))
        # Behind what others ask for, so that it rests.
        away = rng.randint(3, 9) * (-1 if side is Side.BUY else 1)
        fields: dict[str, Any] = {
            "symbol": symbol,
            "side": side,
            "ord_type": OrdType.LIMIT,
            "order_qty": Decimal("0.01"),
            "price": Decimal(PRICES[symbol] + away),
        }
        match aim.status:
            case "EXPIRED" if aim.command == "place":
                fields["time_in_force"] = rng.choice((TimeInForce.IOC, TimeInForce.FOK))
            case "EXPIRED":
                fields |= {
                    "time_in_force": TimeInForce.GTD,
                    "expire_time_ns": self._network.clock.time_ns()
                    + rng.randint(1500, 4000) * 10**6,
                }
            case "REJECTED":
                fields |= {
                    "side": Side.BUY,
                    "ord_type": OrdType.STOP,
                    "order_qty": Decimal("0.5") if symbol.startswith("BTC") else Decimal(5),
                    "trigger_price": Decimal(PRICES[symbol] + rng.randint(8, 12)),
                }
                del fields["price"]
            case "ABSENT" if aim.command == "place" and aim.fault not in NEVER_CARRIED_OUT:
                # Nobody can afford it.
                fields["order_qty"] = Decimal(5000)
            case _:
                pass
        return fields

    def _open_the_way(self, aim: Aim, bot: Bot) -> None:
        """Let something else go wrong first, without which the gateway would not come to ask."""

        def inject(kind: FaultKind, **fields: Any) -> None:
            self._network.chaos.inject(FaultSpec(kind=kind, account=bot.account, **fields))

        if aim.status == ABSENT and aim.command != "place":
            inject(FaultKind.REQUEST_LOST, route="place", times=1)
        elif aim.command in (*QUESTIONS, "open_orders"):
            inject(FaultKind.ERROR_AFTER, route="place", code=502, times=1)
            if aim.command == "fills":
                # Neither found nor heard of, so that its fills are asked for.
                inject(FaultKind.NOT_FOUND, route="order", lag_s=0.9, for_s=2.0)
                inject(FaultKind.STREAM_SILENT, for_s=2.0)
            elif aim.command == "open_orders":
                self._world.loop.call_later(0.2, self._network.cut_streams)
        elif aim.command == "stream" and aim.status in CLOSED:
            self._world.loop.call_later(self._rng.uniform(0.2, 2.0), self._end_some, aim)

    def _end_some(self, aim: Aim) -> None:
        """Let the market do to some order what the stream is to tell of."""
        orders = [o for o in self._network.users_orders() if self._can_bring(o, aim.status)]
        if orders and not aim.is_over:
            self._arm(aim, account=orders[-1].account, symbol=orders[-1].symbol)
            self._bring(orders[-1], aim.status)

    # --- at the exchange --------------------------------------------------------------------------

    def arriving(self, request: Mutation | Question, target: Target) -> float:
        """Look at a message that arrives. Returns for how long it is to be held up, in seconds."""
        for aim in tuple(self._aims):
            if aim.command != target.operation:
                continue
            if isinstance(request, Place):
                if self._prepare(request, aim):
                    return 0.0
            elif isinstance(request, (Cancel, Replace, GetOrder)) or target.client_order_id:
                order = self._network.find(target.account, target.client_order_id)
                if order is None:
                    if aim.status == ABSENT:
                        self._act(aim, target)
                        return 0.0
                elif self._waits_for_its_end(order, aim):
                    self._fill_some(order, aim)
                    assert order.expire_time_ns is not None
                    left_ns = order.expire_time_ns - self._network.clock.time_ns()
                    return left_ns / 1e9 + 0.001
                elif self._can_bring(order, aim.status):
                    self._fill_some(order, aim)
                    if self._bring(order, aim.status):
                        self._act(aim, target)
                        return 0.0
            elif aim.command in QUESTIONS:
                # About no order of its own.
                continue
            else:
                self._act(aim, target)
                return 0.0
        return 0.0

    def telling(self, account: str, order: mock.Order) -> None:
        """Look at an order whose event is about to go out on a stream."""
        for aim in self._aims:
            if (
                aim.command == "stream"
                and aim.status == order.ord_status.value
                and not aim.is_armed
            ):
                self._arm(aim, account=account, symbol=order.symbol)
                aim.is_armed = True
                return

    def _prepare(self, request: Place, aim: Aim) -> bool:
        """Let a placement come out as aimed, as far as it hangs on the market."""
        order, network = request.order, self._network
        if aim.status in ("FILLED", "PARTIALLY_FILLED"):
            if order.price is None or order.order_qty is None or order.trigger_price is not None:
                return False
            if order.post_only or order.time_in_force is not mock.TimeInForce.GTC:
                return False
            share = order.order_qty if aim.status == "FILLED" else Decimal("0.001")
            network.offer_against(order.symbol, order.side, share, order.price)
        elif not _comes_out(order, aim):
            return False
        self._act(aim, network.target(request))
        return True

    def _waits_for_its_end(self, order: mock.Order, aim: Aim) -> bool:
        if aim.status != "EXPIRED" or not order.is_open or order.expire_time_ns is None:
            return False
        return order.expire_time_ns - self._network.clock.time_ns() < 4_000_000_000

    def _fill_some(self, order: mock.Order, aim: Aim) -> None:
        """Give a fault of fills one to act on."""
        if aim.fault == FaultKind.HISTORY_LAGS and self._can_bring(order, "PARTIALLY_FILLED"):
            self._bring(order, "PARTIALLY_FILLED")

    def _can_bring(self, order: mock.Order, status: str) -> bool:
        if order.ord_status.value == status:
            return True
        if not order.is_open:
            return False
        match status:
            case "PARTIALLY_FILLED":
                can = order.order_qty is not None and order.order_qty > Decimal("0.001")
                return can and order.ord_status.value == "NEW" and not order.is_waiting
            case "FILLED":
                return order.price is not None and not order.is_waiting
            case "CANCELED":
                return True
            case "REJECTED":
                return order.is_waiting and order.price is None and order.side is mock.Side.BUY
            case _:
                return False

    def _bring(self, order: mock.Order, status: str) -> bool:
        """Let the market, or the account's owner, bring an order to where it is to stand."""
        network = self._network
        if order.ord_status.value == status:
            return True
        match status:
            case "PARTIALLY_FILLED":
                network.fill(order, Decimal("0.001"))
            case "FILLED":
                network.fill_outside(order.account, order.order_id)
            case "CANCELED":
                network.cancel_there(order)
            case "REJECTED":
                network.run_dry(order, WALL)
            case _:
                pass
        found = network.find(order.account, order.client_order_id)
        return found is not None and found.ord_status.value == status

    # --- faults -----------------------------------------------------------------------------------

    def _act(self, aim: Aim, target: Target) -> None:
        """Let the fault act on the message that is arriving."""
        if aim.command == "place":
            # How it comes out shows later.
            self._aims.remove(aim)
            aim.is_over = True
        if aim.fault in IN_FLIGHT:
            world = self._world
            strike = {
                "KILL": world.kill_and_bring_up,
                "SHUTDOWN": world.shut_down_and_bring_up,
                "RESTART": world.restart_exchange,
            }[aim.fault]
            # Once it is carried out if that is no matter, else before.
            if aim.command == "place" or self._rng.random() < 0.3:
                world.loop.call_soon(strike)
            else:
                strike()
            return
        self._arm(aim, account=target.account, route=target.operation)

    def _arm(self, aim: Aim, **about: Any) -> None:
        rng = self._rng
        fields: dict[str, Any] = {"kind": FaultKind(aim.fault), "times": 1, **about}
        match fields["kind"]:
            case FaultKind.REQUEST_DELAYED | FaultKind.ANSWER_DELAYED:
                fields["delay_s"] = rng.choice((0.3, 1.0, 2.5, 4.5))
            case FaultKind.ERROR_AFTER:
                fields["code"] = rng.choice((500, 502, 504, -1006, -1007))
            case FaultKind.NOT_FOUND | FaultKind.HISTORY_LAGS:
                fields["lag_s"] = rng.uniform(0.5, 0.9)
            case _:
                pass
        self._network.chaos.inject(FaultSpec(**fields, for_s=3.0))


def _comes_out(order: mock.OrderRequest, aim: Aim) -> bool:
    """Whether a placement is of the kind that comes out as aimed while nobody trades with it."""
    match aim.status:
        case "NEW":
            return order.time_in_force is mock.TimeInForce.GTC
        case "EXPIRED":
            return order.time_in_force in (mock.TimeInForce.IOC, mock.TimeInForce.FOK)
        case "ABSENT" if aim.fault not in NEVER_CARRIED_OUT:
            return order.order_qty is not None and order.order_qty > 1000
        case _:
            return True
