"""Synthetic liquidity: a maker account that quotes around a driven price.

Each symbol has a price path: a random walk on the tick grid, or what `set_price` says. The maker
keeps levels on a fixed grid around it, so that a small move shifts few quotes. Whoever rests at
the price or beyond is filled when the price gets there, and stops fire, as in a market where
others trade too. After each request that took liquidity, the levels it ate are put back.

All randomness is drawn anew from (seed, symbol, step or level): the same seed and the same number
of steps give the same path and sizes, also when a store was reopened in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from random import Random
from typing import Final

from .engine import Engine
from .errors import Refusal
from .exchange import Exchange
from .market import Draft, Market
from .matching import Reason
from .model import (
    ZERO,
    AccountKind,
    Change,
    Instrument,
    Operation,
    OrderRequest,
    OrdType,
    Side,
    TimeInForce,
)
from .rules import check_price

MAKER: Final = "maker"
LEVELS: Final = 20
"""Price levels on each side, about one basis point apart: some 20 BTC within 0.2 %."""
LEVEL_NOTIONAL: Final = (30_000, 100_000)
"""Bounds of a level's size in quote units."""
FUNDS: Final = Decimal(10**12)
"""What the maker starts with of each asset: more than users could ever take."""

_SIZES_KEPT: Final = 10_000

_STEP_SPAN: Final = Decimal("0.00005")
"""The most that one step moves the price, as a fraction of it."""


class Maker:
    """Quote an exchange's symbols around driven prices.

    Opens the account `maker` where it is missing, starts the path of symbols that have none, and
    refills the book from now on.

    Args:
        exchange: Where to quote.
        seed: What the path and the sizes are drawn from.
        start_prices: The price where the path of each symbol begins; others are not quoted.
    """

    def __init__(
        self, exchange: Exchange, *, seed: int, start_prices: Mapping[str, Decimal]
    ) -> None:
        self._exchange = exchange
        self._seed = seed
        self._symbols = tuple(start_prices)
        self._sizes: dict[tuple[str, Side, Decimal], Decimal] = {}
        self._grids: dict[str, tuple[Decimal, dict[tuple[Side, Decimal], None]]] = {}
        if all(account.name != MAKER for account in exchange.accounts()):
            assets = sorted({a for i in exchange.instruments() for a in (i.base, i.quote)})
            exchange.create_account(
                MAKER,
                kind=AccountKind.MAKER,
                balances=dict.fromkeys(assets, FUNDS),
                maker_fee=ZERO,
                taker_fee=ZERO,
            )
        for symbol, price in start_prices.items():
            if exchange.market_state(symbol).path_price is None:
                self.set_price(symbol, price)
        exchange.provide_liquidity(self)

    def step(self) -> Change:
        """Let time pass: move every price by one step of its path, and quote anew."""

        def act(draft: Draft, engine: Engine) -> None:
            for symbol in self._symbols:
                market = engine.market(symbol)
                market.path_step += 1
                self._quote(engine, draft, market, self._next_price(market))

        return self._exchange.run_internal(Operation.MAKER_STEP, MAKER, act)

    def set_price(self, symbol: str, price: Decimal) -> Change:
        """Drive a price to where it shall be; its path goes on from there.

        Raises:
            Refusal: UNKNOWN_SYMBOL, PRICE_OUT_OF_RANGE, PRICE_OFF_TICK.
        """

        def act(draft: Draft, engine: Engine) -> None:
            market = engine.market(symbol)
            check_price(market.instrument, price, "price")
            self._quote(engine, draft, market, price)

        arguments = {"symbol": symbol, "price": str(price)}
        return self._exchange.run_internal(Operation.SET_PRICE, MAKER, act, arguments=arguments)

    def refill(self, engine: Engine, draft: Draft) -> None:
        """Put back the levels that trades have eaten by half or more.

        A level that a user's resting order now stands on or beyond stays empty until the next
        step: the user's order comes first.
        """
        for symbol in {fill.symbol: None for fill in draft.fills}:
            self._refill(engine, draft, symbol)

    def _refill(self, engine: Engine, draft: Draft, symbol: str) -> None:
        eaten = {
            (fill.side, fill.price): None
            for fill in draft.fills
            if fill.account == MAKER and fill.symbol == symbol
        }
        market = engine.markets[symbol]
        for side, price in eaten:
            if (side, price) in self._wanted(market):
                self._fill_level(engine, draft, market, side, price)

    def _next_price(self, market: Market) -> Decimal:
        instrument = market.instrument
        price = market.path_price
        assert price is not None
        span = max(1, int(price * _STEP_SPAN // instrument.tick_size))
        rng = Random(f"{self._seed}:{instrument.symbol}:step:{market.path_step}")
        moved = price + rng.randint(-span, span) * instrument.tick_size
        # The path stays where the grid has room for levels below it.
        floor = instrument.tick_size * (LEVELS + 1)
        return min(max(moved, floor), instrument.max_price / 2)

    def _quote(self, engine: Engine, draft: Draft, market: Market, price: Decimal) -> None:
        self._move(engine, draft, market, price)
        for side in (Side.BUY, Side.SELL):
            self._sweep(engine, draft, market, side, price)
        self._mark(engine, draft, market, price)
        self._fill_levels(engine, draft, market)

    def _move(self, engine: Engine, draft: Draft, market: Market, price: Decimal) -> None:
        """Let the path come to a price, and withdraw what is not to be quoted there."""
        market.path_price = price
        draft.markets[market.instrument.symbol] = market
        wanted = self._wanted(market)
        for (side, level), order_id in list(market.quotes.items()):
            if (side, level) not in wanted:
                del market.quotes[side, level]
                order = engine.open.get(order_id)
                if order is not None:
                    engine.cancel(draft, order, reason=Reason.QUOTE_WITHDRAWN)

    def _fill_levels(self, engine: Engine, draft: Draft, market: Market) -> None:
        for side, level in self._wanted(market):
            self._fill_level(engine, draft, market, side, level)

    def _mark(self, engine: Engine, draft: Draft, market: Market, price: Decimal) -> None:
        """Let others trade at the price, a little of what stands there."""
        last = market.last_price
        if price == last:
            return
        rng = Random(f"{self._seed}:{market.instrument.symbol}:print:{market.path_step}:{price:f}")
        qty = self._least_qty(market, price) * rng.randint(1, 200)
        side = Side.BUY if last is None or price > last else Side.SELL
        engine.mark(draft, market, price, side=side, qty=min(qty, market.instrument.max_qty))

    def _sweep(
        self, engine: Engine, draft: Draft, market: Market, side: Side, price: Decimal
    ) -> None:
        """Trade with everyone who rests at the price or beyond."""
        instrument = market.instrument
        resting = market.other_side(side)
        while resting.crossed_by(price):
            total = ZERO
            for level in resting.levels():
                if level.price < price if resting.is_bid else level.price > price:
                    break
                total += level.total
            # What is more than rests there expires unused.
            qty = min(max(total, self._least_qty(market, price)), instrument.max_qty)
            if not self._place(engine, draft, market, side, price, qty, TimeInForce.IOC):
                return

    def _fill_level(
        self, engine: Engine, draft: Draft, market: Market, side: Side, price: Decimal
    ) -> None:
        size = self._size(market, side, price)
        order = engine.open.get(market.quotes.get((side, price), 0))
        if order is not None:
            if order.leaves_qty * 2 >= size:
                return
            engine.cancel(draft, order, reason=Reason.QUOTE_WITHDRAWN)
        if not market.other_side(side).crossed_by(price) and self._place(
            engine, draft, market, side, price, size, TimeInForce.GTC
        ):
            market.quotes[side, price] = engine.order_id

    def _place(
        self,
        engine: Engine,
        draft: Draft,
        market: Market,
        side: Side,
        price: Decimal,
        qty: Decimal,
        time_in_force: TimeInForce,
    ) -> bool:
        request = OrderRequest(
            symbol=market.instrument.symbol,
            side=side,
            ord_type=OrdType.LIMIT,
            order_qty=qty,
            price=price,
            time_in_force=time_in_force,
        )
        try:
            engine.place(draft, engine.ledger.accounts[MAKER], request)
        except Refusal:
            # Out of funds or beyond the instrument's bounds: the level stays empty.
            return False
        return True

    def _wanted(self, market: Market) -> dict[tuple[Side, Decimal], None]:
        """Give the levels around the present price, those at the touch first."""
        price = market.path_price
        assert price is not None
        known = self._grids.get(market.instrument.symbol)
        if known is None or known[0] != price:
            known = price, dict.fromkeys(_levels(market.instrument, price))
            self._grids[market.instrument.symbol] = known
        return known[1]

    def _size(self, market: Market, side: Side, price: Decimal) -> Decimal:
        instrument = market.instrument
        # The same for a price whenever it is asked for, which is after each trade; drawing it costs more
        # than the trade.
        key = instrument.symbol, side, price
        size = self._sizes.get(key)
        if size is None:
            rng = Random(f"{self._seed}:{instrument.symbol}:{side}:{price:f}")
            notional = Decimal(rng.randrange(*LEVEL_NOTIONAL))
            qty = notional // (price * instrument.lot_step) * instrument.lot_step
            size = min(max(qty, self._least_qty(market, price)), instrument.max_qty)
            if len(self._sizes) >= _SIZES_KEPT:
                self._sizes.clear()
            self._sizes[key] = size
        return size

    def _least_qty(self, market: Market, price: Decimal) -> Decimal:
        instrument = market.instrument
        step = instrument.lot_step
        return max(instrument.min_qty, (instrument.min_notional // (price * step) + 1) * step)


def _levels(instrument: Instrument, price: Decimal) -> Iterator[tuple[Side, Decimal]]:
    spacing = _spacing(price, instrument.tick_size)
    half = spacing / 2
    bid = (price - half) // spacing * spacing
    ask = (price + half) // spacing * spacing
    if ask < price + half:
        ask += spacing
    for number in range(LEVELS):
        if bid - number * spacing > 0:
            yield Side.BUY, bid - number * spacing
        if ask + number * spacing <= instrument.max_price:
            yield Side.SELL, ask + number * spacing


def _spacing(price: Decimal, tick_size: Decimal) -> Decimal:
    """Give one basis point of a price, in one digit, so that it seldom changes."""
    point = price.scaleb(-4)
    exponent = point.adjusted()
    digit = Decimal(int(point.scaleb(-exponent)))
    return max(digit.scaleb(exponent) // tick_size * tick_size, tick_size)
