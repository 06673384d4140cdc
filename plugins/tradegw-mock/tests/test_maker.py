"""The synthetic maker: there when needed, driven, the same for the same seed."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest
from tradegw_mock.exchange import (
    BALANCES,
    INSTRUMENTS,
    MAKER,
    START_PRICES,
    MockExchange,
    OrderRequest,
    OrdType,
    RefusalCode,
    Side,
    default_exchange,
)

from .helpers import Clock, D, refusal_of


def a_mock(seed: int | None = 1) -> MockExchange:
    return default_exchange(clock=Clock(), accounts=["alice", "bob"], seed=seed)


def order(
    side: Side,
    qty: str,
    price: Decimal | None = None,
    *,
    symbol: str = "BTC/USDT",
    trigger_price: Decimal | None = None,
) -> OrderRequest:
    ord_type = OrdType.MARKET if price is None else OrdType.LIMIT
    return OrderRequest(
        symbol=symbol,
        side=side,
        ord_type=OrdType.STOP if trigger_price is not None else ord_type,
        order_qty=D(qty),
        price=price,
        trigger_price=trigger_price,
    )


@pytest.mark.parametrize("symbol", [instrument.symbol for instrument in INSTRUMENTS])
def test_every_symbol_has_a_book_around_its_price(symbol: str) -> None:
    exchange = a_mock().exchange
    depth = exchange.depth(symbol)
    start = START_PRICES[symbol]
    assert len(depth.bids) == len(depth.asks) == 20
    assert start * D("0.999") < depth.bids[0][0] < start < depth.asks[0][0] < start * D("1.001")
    assert exchange.reference_price(symbol).last == start


def test_nine_thousand_btc_run_out_of_funds_before_anything_else() -> None:
    exchange = a_mock().exchange
    for request in (
        order(Side.BUY, "9000"),
        order(Side.BUY, "9000", D(65000)),
        order(Side.SELL, "9000"),
    ):
        assert refusal_of(exchange, "alice", request) is RefusalCode.INSUFFICIENT_FUNDS


def test_a_small_limit_at_the_start_price_is_near_the_touch() -> None:
    exchange = a_mock().exchange
    change = exchange.place("alice", order(Side.BUY, "0.01", D(65000)))
    assert change.order is not None
    price = exchange.reference_price("BTC/USDT")
    assert price.bid is not None
    assert price.ask is not None
    assert price.ask - D(65000) < 65
    assert price.bid >= D(65000) - 65


def test_modest_market_orders_always_fill() -> None:
    mock = a_mock()
    mock.exchange.create_account("rich", balances=dict.fromkeys(BALANCES, D(10**9)))
    rng = Random(3)
    for number in range(400):
        side = Side.BUY if number % 2 else Side.SELL
        symbol = rng.choice(sorted(START_PRICES))
        qty = {"BTC": "1.5", "ETH": "20", "SOL": "400"}[symbol[:3]]
        change = mock.exchange.place("rich", order(side, qty, symbol=symbol))
        assert change.order is not None
        assert change.order.ord_status == "FILLED", change.order
        if number % 7 == 0 and mock.maker is not None:
            mock.maker.step()
    assert mock.exchange.check_invariants() == []


def test_a_level_that_was_eaten_comes_back() -> None:
    exchange = a_mock().exchange
    before = exchange.depth("BTC/USDT")
    exchange.place("alice", order(Side.SELL, str(before.bids[0][1] + before.bids[1][1])))
    assert exchange.depth("BTC/USDT") == before


def test_the_same_seed_gives_the_same_market() -> None:
    first, second, other = a_mock(5), a_mock(5), a_mock(6)
    for mock in (first, second, other):
        assert mock.maker is not None
        for _ in range(50):
            mock.maker.step()
    depths = [
        [mock.exchange.depth(symbol) for symbol in START_PRICES] for mock in (first, second, other)
    ]
    assert depths[0] == depths[1] != depths[2]
    trails = [list(mock.exchange.audit()) for mock in (first, second)]
    assert trails[0] == trails[1]


def test_a_driven_price_fills_who_rests_there_and_fires_stops() -> None:
    mock = a_mock()
    assert mock.maker is not None
    at_price = mock.exchange.place("alice", order(Side.BUY, "0.5", D(64000))).order
    beyond = mock.exchange.place("bob", order(Side.BUY, "3", D(64500))).order
    below = mock.exchange.place("alice", order(Side.BUY, "0.5", D(63900))).order
    stop = mock.exchange.place("bob", order(Side.SELL, "1", trigger_price=D(64200))).order
    mock.maker.set_price("BTC/USDT", D(64000))

    def now(placed: object) -> str:
        assert placed is not None
        return mock.exchange.get_order(placed.account, order_id=placed.order_id).ord_status  # type: ignore[attr-defined]

    assert [now(placed) for placed in (at_price, beyond, below, stop)] == [
        "FILLED",
        "FILLED",
        "NEW",
        "FILLED",
    ]
    price = mock.exchange.reference_price("BTC/USDT")
    assert price.mid is not None
    assert abs(price.mid - 64000) < 64
    assert mock.exchange.check_invariants() == []


@pytest.mark.parametrize("price", ["0.01", "0.22", "10000000", "123.45"])
def test_any_price_on_the_grid_can_be_driven(price: str) -> None:
    mock = a_mock()
    assert mock.maker is not None
    mock.maker.set_price("SOL/USD", D(price))
    for _ in range(20):
        mock.maker.step()
    assert mock.exchange.check_invariants() == []
    assert mock.exchange.reference_price("SOL/USD").ask is not None or price == "10000000"


def test_re_quoting_leaves_no_trace_behind() -> None:
    """Hours of steps must not fill the memory with quotes that nobody took."""
    mock = a_mock()
    assert mock.maker is not None
    for _ in range(300):
        mock.maker.step()
    assert len(mock.exchange.open_orders(MAKER)) <= 6 * 40
    assert mock.exchange.order_history("alice").orders == ()
    history = mock.exchange.order_history(MAKER, limit=10_000).orders
    assert all(item.is_open for item in history)
    quotes = [market.quotes for market in mock.exchange._engine.markets.values()]
    assert all(len(item) <= 40 for item in quotes)


def test_without_a_maker_only_users_meet() -> None:
    mock = a_mock(None)
    assert mock.maker is None
    change = mock.exchange.place("alice", order(Side.BUY, "1"))
    assert change.order is not None
    assert change.order.ord_status == "EXPIRED"
    mock.exchange.place("alice", order(Side.BUY, "1", D(65000)))
    mock.exchange.place("bob", order(Side.SELL, "1", D(65000)))
    assert mock.exchange.balances("alice")["BTC"].free == BALANCES["BTC"] + D("0.999")


def test_twenty_thousand_orders_keep_the_books_straight() -> None:
    """Many accounts, every symbol, the maker among them. More, without it: test_volume.py."""
    rng = Random(11)
    names = [f"user-{number}" for number in range(8)]
    mock = default_exchange(clock=Clock(), accounts=names, seed=11)
    assert mock.maker is not None
    exchange = mock.exchange
    symbols = sorted(START_PRICES)
    sides = list(Side)
    placed = refused = 0
    while placed < 20_000:
        symbol = rng.choice(symbols)
        base = START_PRICES[symbol]
        price = None if rng.random() < 0.2 else base + base * D(rng.randint(-20, 20)) / 10_000
        request = order(rng.choice(sides), f"{rng.randint(2, 50) / D(10)}", price, symbol=symbol)
        placed += 1
        name = rng.choice(names)
        refused += refusal_of(exchange, name, request) is not None
        if rng.random() < 0.1:
            exchange.cancel_all(name)
        if placed % 1000 == 0:
            mock.maker.step()
        if placed % 5_000 == 0:
            assert exchange.check_invariants() == []
    assert refused < placed / 2
    assert exchange.fills(None, limit=1)
