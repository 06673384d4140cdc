"""The exchange as it comes: six symbols, funded accounts, a maker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from .exchange import Exchange
from .maker import Maker
from .model import Instrument
from .store import Store


def _instrument(base: str, quote: str, tick: str, step: str, max_qty: str) -> Instrument:
    return Instrument(
        symbol=f"{base}/{quote}",
        base=base,
        quote=quote,
        tick_size=Decimal(tick),
        lot_step=Decimal(step),
        min_qty=Decimal(step),
        # Large enough that an account runs out of funds before it runs into a size limit.
        max_qty=Decimal(max_qty),
        min_notional=Decimal(5),
        max_price=Decimal(10000000),
    )


INSTRUMENTS: Final[tuple[Instrument, ...]] = tuple(
    _instrument(base, quote, tick, step, max_qty)
    for base, tick, step, max_qty in (
        ("BTC", "0.01", "0.00001", "100000"),
        ("ETH", "0.01", "0.0001", "1000000"),
        ("SOL", "0.01", "0.001", "10000000"),
    )
    for quote in ("USDT", "USD")
)

START_PRICES: Final[Mapping[str, Decimal]] = MappingProxyType(
    {
        f"{base}/{quote}": price
        for base, price in (
            ("BTC", Decimal(65000)),
            ("ETH", Decimal(3200)),
            ("SOL", Decimal(150)),
        )
        for quote in ("USDT", "USD")
    }
)

BALANCES: Final[Mapping[str, Decimal]] = MappingProxyType(
    {
        "BTC": Decimal(10),
        "ETH": Decimal(100),
        "SOL": Decimal(1000),
        "USD": Decimal(1_000_000),
        "USDT": Decimal(1_000_000),
    }
)


class MockExchange(Struct, frozen=True, kw_only=True):
    """An exchange with what belongs to it: the maker and the store, where it has them."""

    exchange: Exchange
    maker: Maker | None
    store: Store | None

    def close(self) -> None:
        """Close the store; the exchange must not be used any more."""
        if self.store is not None:
            self.store.close()


def default_exchange(
    *,
    clock: Callable[[], int],
    accounts: Sequence[str] | Mapping[str, Mapping[str, Decimal]] = (),
    instruments: Iterable[Instrument] = INSTRUMENTS,
    start_prices: Mapping[str, Decimal] = START_PRICES,
    seed: int | None = 0,
    path: str | Path | None = None,
) -> MockExchange:
    """Set an exchange up, or go on with the one in a file.

    With a file each change is committed before its call returns. Accounts that the file has
    already are left as they are.

    Args:
        clock: Nanoseconds since the epoch.
        accounts: Names (funded with `BALANCES`), or names with what they start with.
        instruments: What trades.
        start_prices: Where the maker's price paths begin.
        seed: The maker's seed; None for no maker, where only the users' own orders meet.
        path: The file; None or ":memory:" for an exchange that forgets.

    Raises:
        StoreInUse: Another process serves the file.
        StoreError: The file is not one of ours, or cannot be used.
    """
    instruments = tuple(instruments)
    symbols = {instrument.symbol for instrument in instruments}
    prices = {symbol: price for symbol, price in start_prices.items() if symbol in symbols}
    store: Store | None = None
    if path is not None and str(path) != ":memory:":
        store = Store(path, clock=clock)
    try:
        exchange = Exchange(
            instruments,
            clock=clock,
            state=None if store is None else store.load(),
            archive=store,
            journal=None if store is None else store.commit_one,
        )
        known = {account.name for account in exchange.accounts()}
        for name, balances in _funds(accounts).items():
            if name not in known:
                exchange.create_account(name, balances=balances)
        maker = None
        if seed is not None:
            maker = Maker(exchange, seed=seed, start_prices=prices)
    except BaseException:
        if store is not None:
            store.close()
        raise
    return MockExchange(exchange=exchange, maker=maker, store=store)


def _funds(
    accounts: Sequence[str] | Mapping[str, Mapping[str, Decimal]],
) -> Mapping[str, Mapping[str, Decimal]]:
    return accounts if isinstance(accounts, Mapping) else dict.fromkeys(accounts, BALANCES)
