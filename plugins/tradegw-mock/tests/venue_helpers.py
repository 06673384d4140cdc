"""A gateway's side of a venue, for tests: a runtime whose clock they turn, orders, and the four hooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from tradegw_mock.config import MockConfig
from tradegw_mock.hooks import tradegw_register_venues
from tradegw_mock.venue import MockVenue

from tradegw import (
    AccountName,
    ExecutionReport,
    Instrument,
    Order,
    OrderId,
    OrdType,
    ReplaceTerms,
    Side,
    TimeInForce,
    VenueClientOrderId,
)
from tradegw.model import AccountId
from tradegw.plugins import AccountPlugins
from tradegw.venue import (
    BalanceUpdate,
    Cancel,
    Command,
    Feedback,
    FetchInstruments,
    FetchOrder,
    Replace,
    StreamItem,
    Submit,
    TranslateContext,
    VenueAccount,
    VenueRequest,
    VenueTime,
)

D = Decimal
START_NS = 1_700_000_000_000_000_000


class Runtime:
    """Lent to a venue under test. Its clock stands still until turned, and so do those who sleep."""

    def __init__(self, *, account: str = "paper", venue: str = "mock", data_dir: str = "") -> None:
        self.account = AccountName(account)
        self.venue = venue
        self.data_dir = data_dir
        self.now_ns = START_NS
        self.heard: list[Feedback] = []
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def time_ns(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_ns + int(seconds * 1e9), waiter))
        await waiter

    def feedback(self, feedback: Feedback) -> None:
        self.heard.append(feedback)

    async def advance(self, seconds: float) -> None:
        """Turn the clock, waking sleepers in order, each at its time."""
        end_ns = self.now_ns + int(seconds * 1e9)
        while True:
            await asyncio.sleep(0)
            due = [sleeper for sleeper in self._sleepers if sleeper[0] <= end_ns]
            if not due:
                break
            first = min(due, key=lambda sleeper: sleeper[0])
            self._sleepers.remove(first)
            self.now_ns = max(self.now_ns, first[0])
            if not first[1].done():
                first[1].set_result(None)
        self.now_ns = end_ns


class ImpatientRuntime(Runtime):
    """Of those who sleep nobody waits: for back-offs."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.001)


def an_order(name: str = "c1", **more: Any) -> Order:
    """Make an order: a LIMIT to buy 0.01 BTC at 60000, unless told otherwise."""
    fields: dict[str, Any] = {
        "order_id": OrderId(uuid4()),
        "account": AccountName("paper"),
        "venue": "mock",
        "symbol": "BTC/USDT",
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "order_qty": D("0.01"),
        "price": D(60000),
        "venue_client_order_id": VenueClientOrderId(name),
    }
    fields |= more
    for field in ("order_qty", "quote_qty", "price", "trigger_price"):
        if isinstance(fields.get(field), str):
            fields[field] = D(fields[field])
    return Order(**fields)


def a_market_order(name: str = "c1", **more: Any) -> Order:
    return an_order(name, **({"ord_type": OrdType.MARKET, "price": None} | more))


INSTRUMENT = Instrument(
    symbol="BTC/USDT", venue_symbol="BTC/USDT", base_asset="BTC", quote_asset="USDT"
)


def a_context(now_ns: int = START_NS, *names: str) -> TranslateContext:
    return TranslateContext(
        instrument=INSTRUMENT,
        now=VenueTime(time_ns=now_ns),
        venue_client_order_ids=tuple(VenueClientOrderId(name) for name in names),
    )


class Account:
    """One account, reached as the engine reaches it: through the four hooks and nothing else."""

    def __init__(self, venue: MockVenue, runtime: Runtime) -> None:
        self.venue = venue
        self.runtime = runtime
        about = VenueAccount(
            account_id=AccountId(UUID(int=1)),
            account=runtime.account,
            venue=runtime.venue,
            plugin="mock",
            capabilities=venue.capabilities,
        )
        self.hooks = AccountPlugins(about, venue, ())

    def request(self, command: Command, *names: str) -> VenueRequest:
        return self.hooks.translate(command, a_context(self.runtime.time_ns(), *names))

    async def place(self, order: Order) -> Sequence[ExecutionReport]:
        assert order.venue_client_order_id is not None
        request = self.request(Submit(order=order), order.venue_client_order_id)
        return await self.hooks.execute(request)

    async def cancel(self, order: Order) -> Sequence[ExecutionReport]:
        return await self.hooks.execute(self.request(Cancel(order=order)))

    async def replace(self, order: Order, **terms: str) -> Sequence[ExecutionReport]:
        wanted = ReplaceTerms(**{name: D(value) for name, value in terms.items()})
        return await self.hooks.execute(self.request(Replace(order=order, terms=wanted)))

    async def status(self, name: str) -> ExecutionReport | None:
        query = FetchOrder(symbol="BTC/USDT", venue_client_order_id=VenueClientOrderId(name))
        page = await self.hooks.fetch(query)
        return page.items[0] if page.items else None

    async def instruments(self) -> tuple[Instrument, ...]:
        return (await self.hooks.fetch(FetchInstruments())).items


@asynccontextmanager
async def opened(runtime: Runtime | None = None, **config: Any) -> AsyncGenerator[Account]:
    """Open an account through what the plugin registers."""
    runtime = runtime or Runtime()
    (factory,) = tradegw_register_venues(api_version=1)
    async with factory.open(MockConfig(**config), runtime) as venue:
        assert isinstance(venue, MockVenue)
        yield Account(venue, runtime)


async def next_report(items: AsyncIterator[StreamItem]) -> ExecutionReport:
    """Read on to the next report; balances may come between."""
    async for item in items:
        if isinstance(item, ExecutionReport):
            return item
        assert isinstance(item, BalanceUpdate), item
    raise AssertionError("the stream ended")
