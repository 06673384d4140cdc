"""The conformance kit on the local chain."""

from __future__ import annotations

from contextlib import asynccontextmanager
from decimal import Decimal

from tradegw_dydx.config import DydxConfig
from tradegw_dydx.localnet import Settings, open_localnet
from tradegw_dydx.venue import open_dydx

from tradegw.testing import LentRuntime
from tradegw.testing.kit import VenueConformance
from tradegw.venue import Secret

from .fakes import RealClock
from .keys import M1

BLOCK_S = 0.05
CHAIN = Settings(requests_per_window=100_000, stateful_limits=())


class TestDydx(VenueConformance):
    symbol = "BTC/USD:USDC"
    resting_px = Decimal(10_000)
    better_px = Decimal(10_010)
    order_qty = Decimal("0.01")
    patience_s = 40.0

    @asynccontextmanager
    async def open_venue(self):
        async with open_localnet(CHAIN, block_time_s=BLOCK_S) as net:
            self.net = net
            config = DydxConfig(
                network="localnet",
                nodes=tuple(f"http://{address}" for address in net.serving.grpc),
                indexer_rest=net.serving.indexer_rest,
                indexer_ws=net.serving.indexer_ws,
                mnemonic=Secret(M1),
            )
            runtime = LentRuntime(RealClock(), account="main", venue="dydx")
            async with open_dydx(config, runtime) as venue:
                yield venue

    async def let_pass(self, seconds: float) -> None:
        """Make the blocks that the time would have brought."""
        await self.net.step(10)
