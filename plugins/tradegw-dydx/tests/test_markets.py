"""Quantization: exact on the grid, refused off it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tradegw_dydx.markets import SAMPLES, Market, read_market, symbol_of, ticker_of

from tradegw import InstrumentStatus, InvalidOrder, TranslationError

D = Decimal
BTC, ETH, SOL = (SAMPLES[t] for t in ("BTC-USD", "ETH-USD", "SOL-USD"))


@pytest.mark.parametrize(
    ("market", "size", "price", "quantums", "subticks"),
    [
        pytest.param(BTC, "0.0001", "89919", 1_000_000, 8_991_900_000, id="Q1"),
        pytest.param(BTC, "0.01", "64000", 100_000_000, 6_400_000_000, id="Q2"),
        pytest.param(BTC, "1.2345", "100000", 12_345_000_000, 10_000_000_000, id="Q3"),
        pytest.param(BTC, "0.0003", "89919", 3_000_000, 8_991_900_000, id="Q6"),
        pytest.param(ETH, "0.001", "3103.0", 1_000_000, 3_103_000_000, id="Q7"),
        pytest.param(ETH, "1.234", "3103.0", 1_234_000_000, 3_103_000_000, id="Q8"),
        pytest.param(ETH, "1.001", "1866.3", 1_001_000_000, 1_866_300_000, id="Q9"),
        pytest.param(ETH, "0.01", "4.1", 10_000_000, 4_100_000, id="Q10"),
        pytest.param(SOL, "0.1", "135.30", 1_000_000, 13_530_000_000, id="Q11"),
        pytest.param(SOL, "0.3", "0.29", 3_000_000, 29_000_000, id="Q12"),
    ],
)
def test_on_the_grid(market, size, price, quantums, subticks):
    assert market.quantums(D(size)) == quantums
    assert market.subticks(D(price)) == subticks
    assert market.size_of(quantums) == D(size)
    assert market.price_of(subticks) == D(price)


@pytest.mark.parametrize(
    ("ask", "reason", "nearest"),
    [
        pytest.param(
            lambda: BTC.quantums(D("0.00015")), "QTY_OFF_STEP", "0.0001 and 0.0002", id="Q4 size"
        ),
        pytest.param(
            lambda: BTC.subticks(D("40000.5")), "PRICE_OFF_TICK", "40000 and 40001", id="Q4 price"
        ),
        pytest.param(lambda: BTC.quantums(D("0.00001")), "QTY_OFF_STEP", "0.0001", id="Q5 size"),
        pytest.param(lambda: BTC.subticks(D("0.4")), "PRICE_OFF_TICK", "1", id="Q5 price"),
        pytest.param(lambda: SOL.quantums(D(0)), "QTY_OFF_STEP", "0.1", id="nothing"),
        pytest.param(lambda: SOL.quantums(D("-0.1")), "QTY_OFF_STEP", "0.1", id="negative"),
        pytest.param(
            lambda: ETH.quantums(D("1.00000000000000001")),
            "QTY_OFF_STEP",
            "1 and 1.001",
            id="a hair off",
        ),
    ],
)
def test_off_the_grid_is_refused_with_the_nearest_that_is_on_it(ask, reason, nearest):
    with pytest.raises(InvalidOrder) as e:
        ask()
    assert e.value.reason == reason
    assert str(e.value).endswith(f"nearest: {nearest}")


def test_beyond_the_chains_integers_is_refused():
    assert BTC.quantums(D(1_844_674_407)) == 18_446_744_070_000_000_000
    with pytest.raises(InvalidOrder, match="beyond what the chain can count") as e:
        BTC.quantums(D(1_844_674_408))
    assert e.value.reason == "QTY_TOO_LARGE"


@pytest.mark.parametrize("market", [BTC, ETH, SOL], ids=lambda m: m.ticker)
def test_twenty_thousand_sizes_and_prices_of_the_grid(market: Market):
    wrong = 0
    for n in range(1, 20_001):
        size, price = market.step_size * n, market.tick_size * n
        wrong += market.quantums(size) != n * market.step_base_quantums
        wrong += market.subticks(price) != n * market.subticks_per_tick
        wrong += market.size_of(n * market.step_base_quantums) != size
        wrong += market.price_of(n * market.subticks_per_tick) != price
    assert wrong == 0


@pytest.mark.parametrize(
    ("market", "bps", "is_buy", "bound"),
    [
        (BTC, 500, True, "94416"),  # 89919.2 * 1.05 = 94415.16
        (BTC, 500, False, "85423"),  # 89919.2 * 0.95 = 85423.24
        (SOL, 0, True, "135.3"),
        (SOL, 0, False, "135.3"),
        (SOL, 9_999, False, "0.01"),
    ],
)
def test_the_bound_of_a_market_order_is_rounded_outward(market, bps, is_buy, bound):
    assert market.oracle_price is not None
    found = market.worst_price(market.oracle_price, D(bps), is_buy=is_buy)
    assert found == D(bound)
    market.subticks(found)


def test_instruments():
    instrument = BTC.to_instrument()
    assert (instrument.symbol, instrument.venue_symbol) == ("BTC/USD:USDC", "BTC-USD")
    assert (instrument.base_asset, instrument.quote_asset) == ("BTC", "USD")
    assert instrument.settle_asset == "USDC"
    assert (instrument.step_size, instrument.tick_size) == (D("0.0001"), D(1))
    assert (ETH.step_size, ETH.tick_size) == (D("0.001"), D("0.1"))
    assert (SOL.step_size, SOL.tick_size) == (D("0.1"), D("0.01"))
    assert instrument.qty_min == D("0.0001")
    assert instrument.status is InstrumentStatus.TRADING


def test_symbols():
    assert symbol_of("BTC-USD") == "BTC/USD:USDC"
    assert ticker_of("BTC/USD:USDC") == "BTC-USD"
    assert ticker_of("BTC-USD") == "BTC-USD"
    with pytest.raises(TranslationError):
        symbol_of("BTCUSD")


TOLD = {
    "clobPairId": "0",
    "ticker": "BTC-USD",
    "status": "ACTIVE",
    "oraclePrice": "89919.2",
    "atomicResolution": -10,
    "quantumConversionExponent": -9,
    "stepBaseQuantums": 1000000,
    "subticksPerTick": 100000,
}


def test_markets_are_read_from_texts_and_numbers_alike():
    assert read_market(TOLD) == BTC
    assert read_market({k: str(v) for k, v in TOLD.items()}) == BTC
    assert read_market({**TOLD, "oraclePrice": None}).oracle_price is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"clobPairId": "x"},
        {"stepBaseQuantums": 0},
        {"ticker": "BTC"},
        {"atomicResolution": None},
        {"oraclePrice": "?"},
    ],
)
def test_unreadable_markets_are_refused(wrong):
    with pytest.raises(TranslationError):
        read_market({**TOLD, **wrong})


def test_a_status_that_is_new_to_us_takes_no_orders():
    assert (
        read_market({**TOLD, "status": "DREAMING"}).to_instrument().status
        is InstrumentStatus.HALTED
    )
