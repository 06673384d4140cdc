"""Puts a local chain together: the core, its doors, the clock that makes blocks."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Final

from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from tradegw_dydx.localnet.admin import (
    admin_routes,
    find_pair,
    finite,
    ledger_json,
    quantums_of,
    side_of,
    subticks_of,
)
from tradegw_dydx.localnet.faults import FaultKind, Faults
from tradegw_dydx.localnet.gate import Gate
from tradegw_dydx.localnet.genesis import GenesisAccount, Settings
from tradegw_dydx.localnet.grpc_door import NodeDoor, serve_node
from tradegw_dydx.localnet.indexer import Indexer, levels
from tradegw_dydx.localnet.network import Network, Told
from tradegw_dydx.localnet.rest import Rest
from tradegw_dydx.localnet.streams import Hub
from tradegw_dydx.localnet.views import EXACT, Json, plain, price_of, size_of
from tradegw_dydx.localnet.web import WebServer, serve_web

__all__ = ["Localnet", "Serving", "open_localnet"]

NS_PER_S: Final = 1_000_000_000


class Serving(Struct, frozen=True, kw_only=True):
    """What a program is told when all doors listen."""

    chain_id: str
    grpc: tuple[str, ...]
    indexer_rest: str
    indexer_ws: str
    accounts: tuple[GenesisAccount, ...]


class Localnet:
    """A chain with its doors.

    Attributes:
        block_time_s: Seconds between blocks; 0 makes them by command alone.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        block_time_s: float,
        clock: Callable[[], int],
    ) -> None:
        self.settings = settings
        self.block_time_s = block_time_s
        self.faults = Faults()
        self._clock = clock
        self._waiting: deque[Told] = deque()
        self._head = 0
        self._hub: Hub | None = None
        self._books: dict[str, tuple[dict[int, int], dict[int, int]]] = {}
        self._books_due = False
        self._gates: list[Gate] = []
        self._web: WebServer | None = None
        self._pace_changed = asyncio.Event()
        self._opening = asyncio.Lock()
        self.indexer = Indexer(self._publish)
        self.network = Network(settings, clock=clock, faults=self.faults, sink=self._hear)
        self.rest = Rest(self.indexer, self.faults, settings)
        self._hub = Hub(self.faults, self._initial)
        self.doors = [NodeDoor(self.network, node, self.faults) for node in self.network.nodes]
        self.faults.listen(self._apply)

    @property
    def grpc_addresses(self) -> list[str]:
        """Where the nodes listen."""
        return [gate.address for gate in self._gates]

    @property
    def serving(self) -> Serving:
        """What a program is told."""
        assert self._web is not None
        return Serving(
            chain_id=self.settings.chain_id,
            grpc=tuple(self.grpc_addresses),
            indexer_rest=f"http://{self._web.address}",
            indexer_ws=f"ws://{self._web.address}/v4/ws",
            accounts=self.settings.accounts,
        )

    # Commands

    async def step(self, blocks: int = 1) -> None:
        """Make blocks now. Other tasks get their turn after each."""
        for _ in range(blocks):
            self.network.step()
            await asyncio.sleep(0)
        await self.settle()

    def set_block_time(self, block_time_s: float) -> None:
        """Make blocks at another pace; 0 by command alone."""
        if not 0 <= block_time_s <= 3600:
            raise ValueError(f"block_time_s is 0 to 3600; found {block_time_s}")
        self.block_time_s = block_time_s
        self._pace_changed.set()

    def set_oracle(self, ticker: str, price: Decimal) -> None:
        """Move an oracle's price; the next block shows it.

        Raises:
            LookupError: There is no such market.
            ValueError: The price has more places than the oracle, or is not above zero.
        """
        pair = find_pair(self.network, ticker)
        told = finite(price).scaleb(-pair.price_exponent, EXACT)
        if told <= 0 or told != told.to_integral_value():
            raise ValueError(
                f"an oracle price of {ticker} has {-pair.price_exponent} places at most"
            )
        pair.oracle_price = int(told)

    def trade(self, ticker: str, side: str, size: Decimal, price: Decimal) -> None:
        """Let the house take what rests at a price or better; the next block books it.

        Raises:
            LookupError: There is no such market.
            ValueError: Size or price are off its grid.
        """
        pair = find_pair(self.network, ticker)
        self.network.trade(
            pair.clob_pair_id, side_of(side), quantums_of(pair, size), subticks_of(pair, price)
        )

    def ledger(self) -> Json:
        """Return the chain's truth."""
        return ledger_json(self.network)

    async def settle(self) -> None:
        """Wait until the doors are as the faults want them."""
        async with self._opening:
            for number, gate in enumerate(self._gates):
                if not gate.is_open and self._is_up(number):
                    await gate.open()

    # Serving

    @asynccontextmanager
    async def serve(self, host: str, grpc_port: int, indexer_port: int) -> AsyncGenerator[Localnet]:
        """Open all doors, and make blocks, until left.

        Args:
            grpc_port: Of the first node; the others follow it. 0 picks free ones.

        Raises:
            OSError: A port is taken.
        """
        async with AsyncExitStack() as stack:
            for number, door in enumerate(self.doors):
                port = grpc_port + number if grpc_port else 0
                self._gates.append(await stack.enter_async_context(serve_node(door, host, port)))
            app = Starlette(
                routes=[
                    *self.rest.routes(),
                    *admin_routes(self),
                    WebSocketRoute("/v4/ws", self._stream),
                ],
                exception_handlers={404: _not_found},
            )
            self._web = await stack.enter_async_context(
                serve_web(app, host, indexer_port, ping_s=self.settings.websocket_ping_s)
            )
            making = asyncio.create_task(self._make_blocks(), name="blocks")
            try:
                yield self
            finally:
                making.cancel()
                await asyncio.gather(making, return_exceptions=True)

    async def _make_blocks(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._pace_changed.clear()
            due = max(due + self.block_time_s, loop.time())
            try:
                wait_s = None if not self.block_time_s else due - loop.time()
                await asyncio.wait_for(self._pace_changed.wait(), wait_s)
                due = loop.time()
            except TimeoutError:
                await self.step()

    async def _stream(self, websocket: WebSocket) -> None:
        assert self._hub is not None
        client = websocket.client
        assert client is not None

        def cut() -> None:
            assert self._web is not None
            self._web.cut((client.host, client.port))

        await self._hub.serve(websocket, cut)

    # The indexer's news

    def _hear(self, told: Told) -> None:
        self._waiting.append(told)
        self._head = max(self._head, told.height)
        self._release()

    def _release(self) -> None:
        lag = self.faults.standing(FaultKind.INDEXER_LAG)
        blocks = self.settings.lag_blocks if lag is None else lag.blocks
        lag_ns = int(self.settings.lag_s * NS_PER_S)
        while self._waiting:
            told = self._waiting[0]
            # What a chain begins with is known to everyone.
            if told.height > max(1, self._head - blocks):
                break
            left_ns = told.time_ns + lag_ns - self._clock() if lag_ns else 0
            if left_ns > 0:
                asyncio.get_running_loop().call_later(left_ns / NS_PER_S, self._release)
                break
            self.indexer.hear(self._waiting.popleft())
        if self._hub is not None and not self._books_due and self._hub.subjects("v4_orderbook"):
            self._books_due = True
            asyncio.get_running_loop().call_soon(self._publish_books)

    def _publish(self, channel: str, subject: str, contents: Json) -> None:
        if self._hub is not None:
            self._hub.publish(channel, subject, contents)

    def _initial(self, channel: str, subject: str) -> Json:
        contents = self.rest.initial(channel, subject)
        if channel == "v4_orderbook":
            self._books.setdefault(subject, self._levels(subject))
        return contents

    def _levels(self, ticker: str) -> tuple[dict[int, int], dict[int, int]]:
        pair = find_pair(self.network, ticker)
        state = self.indexer.state
        return (
            levels(state, pair.clob_pair_id, is_buy=True),
            levels(state, pair.clob_pair_id, is_buy=False),
        )

    def _publish_books(self) -> None:
        self._books_due = False
        assert self._hub is not None
        wanted = self._hub.subjects("v4_orderbook")
        for ticker in [name for name in self._books if name not in wanted]:
            del self._books[ticker]
        for ticker in wanted:
            before = self._books.get(ticker, ({}, {}))
            now = self._books[ticker] = self._levels(ticker)
            pair = find_pair(self.network, ticker)
            changes: Json = {}
            for name, old, new in zip(("bids", "asks"), before, now, strict=True):
                moved = [
                    [plain(price_of(pair, price)), plain(size_of(pair, new.get(price, 0)))]
                    for price in sorted(old.keys() | new.keys())
                    if old.get(price, 0) != new.get(price, 0)
                ]
                if moved:
                    changes[name] = moved
            if changes:
                self._publish("v4_orderbook", ticker, changes)

    # Faults at the doors

    def _is_up(self, number: int) -> bool:
        return self.faults.standing(FaultKind.DOWN, node=number) is None

    def _apply(self) -> None:
        for number, gate in enumerate(self._gates):
            if gate.is_open and not self._is_up(number):
                gate.shut()
        if self.faults.take(FaultKind.INDEXER_RESTART) is not None:
            assert self._hub is not None
            self.indexer.forget_live()
            self._hub.close_all("Service Restart")
        self._release()


def _not_found(request: Request, error: Exception) -> JSONResponse:
    text = f"the local indexer has no {request.url.path[:200]}"
    return JSONResponse({"errors": [{"msg": text}]}, 404)


@asynccontextmanager
async def open_localnet(
    settings: Settings | None = None,
    *,
    block_time_s: float = 0.0,
    host: str = "127.0.0.1",
    grpc_port: int = 0,
    indexer_port: int = 0,
    clock: Callable[[], int] = time.time_ns,
) -> AsyncGenerator[Localnet]:
    """Serve a local chain from this process, until left.

    Args:
        block_time_s: Seconds between blocks; 0 makes them by `step` alone.
        clock: What the chain takes for now, in ns.

    Raises:
        OSError: A port is taken.
    """
    localnet = Localnet(settings or Settings(), block_time_s=block_time_s, clock=clock)
    async with localnet.serve(host, grpc_port, indexer_port):
        yield localnet
