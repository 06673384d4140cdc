"""A hundred thousand random orders: nothing appears or vanishes, and everybody is served in turn."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from decimal import Decimal

import pytest
from tradegw_mock.exchange import (
    Change,
    Exchange,
    Fill,
    Instrument,
    Liquidity,
    Order,
    OrderEvent,
    OrderRequest,
    OrdStatus,
    OrdType,
    Refusal,
    Side,
    TimeInForce,
)

from .helpers import Clock, D

ORDERS = 100_000
ACCOUNTS = ("alice", "bob", "carol", "dave", "erin")
SYMBOLS = ("BTC/USDT", "ETH/USDT")
CHECK_EVERY = 5_000


def an_instrument(symbol: str) -> Instrument:
    base, quote = symbol.split("/")
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        tick_size=D("0.5"),
        lot_step=D("0.01"),
        min_qty=D("0.01"),
        max_qty=D(1000),
        min_notional=D(1),
        max_price=D(10_000),
    )


class Queues:
    """Who rests where, in what order, as a bystander notes it from orders and fills alone.

    Of a trade it asks whether its maker was next: at the best price, and of those the first.
    """

    def __init__(self) -> None:
        self.rests: dict[tuple[str, Side], dict[Decimal, deque[int]]] = {}
        self.prices: dict[int, tuple[str, Side, Decimal]] = {}
        self.trades = 0

    def enter(self, order: Order) -> None:
        assert order.price is not None
        place = self.rests.setdefault((order.symbol, order.side), {})
        place.setdefault(order.price, deque()).append(order.order_id)
        self.prices[order.order_id] = order.symbol, order.side, order.price

    def leave(self, order_id: int) -> None:
        known = self.prices.pop(order_id, None)
        if known is None:
            return
        symbol, side, price = known
        level = self.rests[symbol, side][price]
        level.remove(order_id)
        if not level:
            del self.rests[symbol, side][price]

    def trade(self, maker: Fill) -> None:
        levels = self.rests[maker.symbol, maker.side]
        best = max(levels) if maker.side is Side.BUY else min(levels)
        assert maker.price == best, f"{maker} traded while {best} was better"
        assert levels[best][0] == maker.order_id, f"{maker} was not the first at {best}"
        self.trades += 1

    def on_change(self, change: Change) -> None:
        for event in change.events:
            if not isinstance(event, OrderEvent):
                continue
            order, fill = event.order, event.fill
            if fill is not None and fill.liquidity is Liquidity.MAKER:
                self.trade(fill)
                if not order.is_open:
                    self.leave(order.order_id)
            elif not order.is_open:
                self.leave(order.order_id)
        # What a request left over queues behind all that were there.
        placed = change.order
        if placed is not None and placed.is_open and placed.order_id not in self.prices:
            self.enter(placed)


class Market:
    """Random traders at one exchange."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.exchange = Exchange(
            [an_instrument(symbol) for symbol in SYMBOLS], clock=self.clock, history_bound=10**6
        )
        self.queues = Queues()
        self.exchange.listen(self.queues.on_change)
        self.funds = {"BTC": D(500), "ETH": D(500), "USDT": D(50_000)}
        for name in ACCOUNTS:
            fee = self.rng.choice(["0", "0.001", "0.0007"])
            self.exchange.create_account(
                name, balances=self.funds, maker_fee=D(fee), taker_fee=D("0.001")
            )
        self.accepted = self.refused = 0
        self.open: list[Order] = []

    def trade(self) -> None:
        """Place an order, or now and then cancel one."""
        rng = self.rng
        self.clock.advance(1_000_000)
        if self.open and rng.random() < 0.2:
            order = self.open.pop(rng.randrange(len(self.open)))
            self.attempt(lambda: self.exchange.cancel(order.account, order_id=order.order_id))
            return
        side, kind = rng.choice(list(Side)), rng.random()
        fields: dict[str, object] = {"ord_type": OrdType.LIMIT, "time_in_force": TimeInForce.GTC}
        price = D(rng.randrange(190, 211)) / 2
        if kind < 0.15:
            fields["ord_type"] = OrdType.MARKET
        elif kind < 0.3:
            fields["time_in_force"] = rng.choice([TimeInForce.IOC, TimeInForce.FOK])
        elif kind < 0.4:
            fields["post_only"] = True
        if fields["ord_type"] is OrdType.LIMIT:
            fields["price"] = price
        request = OrderRequest(
            symbol=rng.choice(SYMBOLS),
            side=side,
            order_qty=D(rng.randrange(1, 500)) / 100,
            **fields,  # type: ignore[arg-type]
        )
        account = rng.choice(ACCOUNTS)
        change = self.attempt(lambda: self.exchange.place(account, request))
        if change is not None and change.order is not None:
            self.accepted += 1
            if change.order.is_open:
                self.open.append(change.order)

    def attempt(self, do: Callable[[], Change]) -> Change | None:
        try:
            return do()
        except Refusal:
            self.refused += 1
            return None

    def conserved(self) -> None:
        """Add up what everybody has, from nothing but their balances."""
        for asset, amount in self.funds.items():
            total = D(0)
            for account in self.exchange.accounts():
                balance = self.exchange.balances(account.name).get(asset)
                if balance is not None:
                    assert balance.free >= 0 <= balance.held
                    total += balance.free + balance.held
            assert total == amount * len(ACCOUNTS), asset

    def not_crossed(self) -> None:
        for symbol in SYMBOLS:
            price = self.exchange.reference_price(symbol)
            assert price.bid is None or price.ask is None or price.bid < price.ask

    def fills_add_up(self) -> None:
        """Every order's fills sum to what it says, and every trade has two sides that agree."""
        filled: dict[int, tuple[Decimal, Decimal]] = {}
        trades: dict[int, list[Fill]] = {}
        for fill in self.exchange.fills(None, limit=10**7):
            qty, quote = filled.get(fill.order_id, (D(0), D(0)))
            filled[fill.order_id] = qty + fill.qty, quote + fill.qty * fill.price
            trades.setdefault(fill.trade_id, []).append(fill)
        for maker, taker in trades.values():
            assert (maker.liquidity, taker.liquidity) == (Liquidity.MAKER, Liquidity.TAKER)
            assert (maker.price, maker.qty) == (taker.price, taker.qty)
            assert maker.side is not taker.side
        orders = self.exchange.order_history(None, limit=10**7).orders
        for order in orders:
            assert filled.pop(order.order_id, (D(0), D(0))) == (order.cum_qty, order.cum_quote)
            assert (order.ord_status is OrdStatus.FILLED) == (order.cum_qty == order.order_qty)
        assert filled == {}


@pytest.mark.timeout(600)
def test_a_hundred_thousand_random_orders() -> None:
    seed = 20_260_301
    print(f"seed {seed}")  # noqa: T201  For whoever has to find out why.
    market = Market(seed)
    while market.accepted < ORDERS:
        market.trade()
        if not market.accepted % CHECK_EVERY:
            market.conserved()
            market.not_crossed()
            assert market.exchange.check_books() == []
    market.conserved()
    market.fills_add_up()
    assert market.exchange.check_invariants() == []
    assert not market.exchange.has_forgotten
    # The run is worth something only where much was traded and some was refused.
    assert market.queues.trades > ORDERS / 4
    assert 0 < market.refused < market.accepted
