"""A bot whose venue counts what is filled and shows no fill. To be killed and run again.

    python counting_bot.py CONFIG

It buys at the market under one key, waits until the order is closed, and prints its fills.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from tradegw_mock.config import MockConfig
from tradegw_mock.native.remote import open_remote

import tradegw
from tests.e2e.processes import until
from tradegw import ExecType, ExecutionReport, FillFilter, OrdStatus, hookimpl
from tradegw.venue import (
    Capabilities,
    Command,
    FetchFills,
    FillReporting,
    Page,
    Query,
    Runtime,
    StreamItem,
    TranslateContext,
    Venue,
    VenueFactory,
    VenueRequest,
)

SETTLE_S = 120.0


class Counting(Venue):
    """A mock exchange that tells quantities alone."""

    def __init__(self, inner: Venue) -> None:
        self._inner = inner

    @property
    def capabilities(self) -> Capabilities:
        return replace(self._inner.capabilities, fills=FillReporting.CUMULATIVE)

    def translate(self, command: Command, context: TranslateContext) -> VenueRequest:
        return self._inner.translate(command, context)

    async def execute(self, request: VenueRequest) -> Sequence[ExecutionReport]:
        return [_counted(report) for report in await self._inner.execute(request)]

    async def fetch(self, query: Query) -> Page[Any]:
        page = await self._inner.fetch(query)
        return replace(page, items=()) if isinstance(query, FetchFills) else page

    async def stream(self, since: int) -> AsyncIterator[StreamItem]:
        async for item in self._inner.stream(since):
            yield _counted(item) if isinstance(item, ExecutionReport) else item


def _counted(report: ExecutionReport) -> ExecutionReport:
    if report.exec_type is not ExecType.TRADE:
        return report
    return ExecutionReport(
        exec_type=ExecType.ORDER_STATUS,
        ord_status=OrdStatus.PARTIALLY_FILLED,
        venue_order_id=report.venue_order_id,
        venue_client_order_id=report.venue_client_order_id,
        symbol=report.symbol,
        cum_qty=report.cum_qty or report.last_qty,
        transact_time_ns=report.transact_time_ns,
    )


class CountingPlugin:
    @hookimpl
    def tradegw_register_venues(self, api_version: int) -> Sequence[VenueFactory[Any]]:
        return [VenueFactory(name="counting", config_type=MockConfig, open=self.open)]

    @asynccontextmanager
    async def open(self, config: MockConfig, runtime: Runtime) -> AsyncGenerator[Venue]:
        async with open_remote(config, runtime) as inner:
            yield Counting(inner)


async def main(config: str) -> None:
    async with tradegw.open(
        config, plugins=[CountingPlugin()], ready_timeout_s=SETTLE_S
    ) as gateway:
        order = await gateway.place_order(
            account="paper",
            symbol="BTC/USDT",
            side="buy",
            ord_type="limit",
            order_qty="0.002",
            price="130000",
            idempotency_key="k",
        )

        async def is_closed() -> bool:
            return not (await gateway.get_order(order.order_id)).is_open

        await until(is_closed, SETTLE_S, "the order is closed")
        fills = (await gateway.list_fills(FillFilter(order_id=order.order_id))).items
    json.dump([[f.trade_id, str(f.last_qty), f.inferred] for f in fills], sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
