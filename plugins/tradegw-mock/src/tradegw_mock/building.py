"""How an exchange is served, and how one is built from that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tradegw_mock.config import Liquidity
from tradegw_mock.exchange import (
    INSTRUMENTS,
    MAKER,
    START_PRICES,
    Change,
    Exchange,
    Maker,
    MockExchange,
    Replay,
    ReplayFile,
    Store,
)

__all__ = ["HostSettings", "build"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """How an exchange is served.

    Attributes:
        path: Its file; None for an exchange that forgets.
        scenario: A file of faults that begin with it; None for none.
        replay: A file of trades and book updates that takes the maker's place; None for none.
        step_interval_s: Seconds between two steps of the maker; 0 holds prices still.
        feed_keep: Events of each account kept for those who come back.
        seed: What the maker's prices and sizes, and the chances of faults, are drawn from.
    """

    path: Path | None = None
    replay: Path | None = None
    scenario: Path | None = None
    liquidity: Liquidity = "maker"
    seed: int = 1
    step_interval_s: float = 1.0
    feed_keep: int = 10_000


def build(settings: HostSettings, clock: Callable[[], int]) -> MockExchange:
    """Build an exchange, from its file where it has one; what that took is committed."""
    store = None if settings.path is None else Store(settings.path, clock=clock)
    try:
        made: list[Change] = []
        exchange = Exchange(
            INSTRUMENTS,
            clock=clock,
            state=None if store is None else store.load(),
            archive=store,
        )
        stop_listening = exchange.listen(made.append)
        maker: Maker | None = None
        if settings.replay is not None:
            file = ReplayFile(settings.replay, exchange.instruments())
            maker = Replay(exchange, file, seed=settings.seed)
        elif settings.liquidity == "maker":
            maker = Maker(exchange, seed=settings.seed, start_prices=START_PRICES)
        elif any(account.name == MAKER for account in exchange.accounts()):
            # The file was served with a maker before. Its quotes would stand for ever.
            exchange.cancel_all(MAKER)
        stop_listening()
        if store is not None and made:
            store.commit(made)
            exchange.committed(made[-1].number)
    except BaseException:
        if store is not None:
            store.close()
        raise
    return MockExchange(exchange=exchange, maker=maker, store=store)
