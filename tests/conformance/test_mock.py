"""The conformance kit on the mock exchange, in this process and in one of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tradegw_mock.config import MockConfig
from tradegw_mock.testing import MockProcess

from tradegw.gateway.clock import SystemClock
from tradegw.model import Order, OrdType, Side, TimeInForce
from tradegw.plugins import load_plugins
from tradegw.ports import Clock
from tradegw.testing import LentRuntime, TurnedClock
from tradegw.testing.bench import VenueBench
from tradegw.testing.kit import VenueConformance
from tradegw.venue import Venue


class _Mock(VenueConformance):
    symbol = "BTC/USDT"
    # Far below what the seeded maker quotes, and on its grid.
    resting_px = Decimal(10_000)
    better_px = Decimal(10_010)
    order_qty = Decimal("0.01")

    def open_mock(
        self, config: MockConfig, clock: Clock, account: str, data_dir: str = ""
    ) -> AbstractAsyncContextManager[Venue]:
        """Open it by its entry point, as a gateway does."""
        factory = load_plugins().venue_factories()["mock"]
        opened: AbstractAsyncContextManager[Venue] = factory.open(
            config, LentRuntime(clock, account=account, venue="mock", data_dir=data_dir)
        )
        return opened

    def other(self) -> AbstractAsyncContextManager[Venue]:
        """Open another account of the same exchange."""
        raise NotImplementedError

    async def make_fill(self, venue: Venue, order: Order) -> None:
        """Sell to the resting order, in two parts."""
        assert order.order_qty is not None
        async with self.other() as seller:
            bench = VenueBench(seller, symbol=self.symbol)
            async with bench.run():
                for _ in range(2):
                    sale = bench.order(
                        side=Side.SELL,
                        ord_type=OrdType.LIMIT,
                        time_in_force=TimeInForce.IOC,
                        order_qty=order.order_qty / 4,
                        price=order.price,
                    )
                    await bench.submit(sale)


class TestMockInProcess(_Mock):
    """The exchange in the gateway's own process, under a clock that the test turns."""

    # Without the maker nobody else bids, so that a sale meets the order under test.
    config = MockConfig(liquidity="none")

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.data_dir = str(tmp_path)

    @asynccontextmanager
    async def open_venue(self) -> AsyncGenerator[Venue]:
        self.clock = TurnedClock()
        async with self.open_mock(self.config, self.clock, "paper", self.data_dir) as venue:
            yield venue

    def other(self) -> AbstractAsyncContextManager[Venue]:
        return self.open_mock(self.config, self.clock, "other", self.data_dir)

    async def let_pass(self, seconds: float) -> None:
        self.clock.turn(seconds)


_CASES = itertools.count()


@pytest.fixture(scope="module")
def exchange() -> Iterator[MockProcess]:
    with MockProcess(liquidity="none") as process:
        yield process


class TestMockInAProcessOfItsOwn(_Mock):
    """The same exchange behind its native door, by the real clock."""

    @pytest.fixture(autouse=True)
    def _place(self, exchange: MockProcess, request: pytest.FixtureRequest) -> None:
        self.config = MockConfig(url=exchange.url)
        # An account of its own for each case, which bids above what the cases before it left behind.
        self.name = request.node.name.replace("test_", "")[:40]
        self.resting_px = Decimal(10_000 + 20 * next(_CASES))
        self.better_px = self.resting_px + 10

    def open_venue(self) -> AbstractAsyncContextManager[Venue]:
        return self.open_mock(self.config, SystemClock(), self.name)

    def other(self) -> AbstractAsyncContextManager[Venue]:
        return self.open_mock(self.config, SystemClock(), f"{self.name}-other")


def test_the_kit_reaches_the_mock_by_its_entry_point_alone() -> None:
    infos: dict[str, Any] = {info.name: info for info in load_plugins().infos}
    assert infos["mock"].distribution == "tradegw-mock"
    assert not infos["mock"].error
