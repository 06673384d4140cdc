"""A node and an indexer for tests of the client: they say what a test tells them to, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from aiohttp import WSMsgType, web
from tradegw_dydx.config import DydxConfig
from tradegw_dydx.venue import DydxVenue, open_dydx
from tradegw_dydx.wire import messages as wire

from tradegw.testing import LentRuntime
from tradegw.venue import Secret

from .keys import A1, M1

CHAIN_ID = "localdydxprotocol"
MARKETS = {
    "BTC-USD": {
        "clobPairId": "0",
        "ticker": "BTC-USD",
        "status": "ACTIVE",
        "oraclePrice": "89919.2",
        "atomicResolution": -10,
        "quantumConversionExponent": -9,
        "stepBaseQuantums": 1000000,
        "subticksPerTick": 100000,
    },
    "ETH-USD": {
        "clobPairId": "1",
        "ticker": "ETH-USD",
        "status": "ACTIVE",
        "oraclePrice": "3103.01",
        "atomicResolution": -9,
        "quantumConversionExponent": -9,
        "stepBaseQuantums": 1000000,
        "subticksPerTick": 100000,
    },
}


@dataclass
class Chain:
    """What all nodes share.

    Attributes:
        judge: Decides on a transaction: codespace, code, log.
        taken: Transactions that were accepted, by hash.
        includes: Whether stateful transactions get into a block at once, and with which code.
    """

    height: int = 1000
    time_s: int = field(default_factory=lambda: int(time.time()))
    account_number: int = 33
    sequence: int = 7
    judge: Callable[[wire.Tx], tuple[str, int, str]] = lambda tx: ("", 0, "")
    includes: bool = True
    block_code: tuple[str, int, str] = ("", 0, "")
    taken: dict[str, wire.Tx] = field(default_factory=dict)
    included: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    stateful: dict[bytes, int] = field(default_factory=dict)


class Node:
    """One node.

    Attributes:
        mode: `answers`, `silent` (never), `loses` (acts, then never answers) or `exhausted`.
        calls: Methods called, oldest first.
        lag: Blocks that it is behind.
    """

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.mode = "answers"
        self.calls: list[str] = []
        self.lag = 0
        self.chain_id = CHAIN_ID
        self.cache: set[bytes] = set()
        self.address = ""

    @property
    def broadcasts(self) -> int:
        return sum(call.endswith("/BroadcastTx") for call in self.calls)

    async def serve(self, method: str, request: Any, context: Any) -> Any:
        self.calls.append(method)
        if self.mode == "silent":
            await asyncio.Event().wait()
        if self.mode == "exhausted":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests")
        height = self.chain.height - self.lag
        await context.send_initial_metadata((("x-cosmos-block-height", str(height)),))
        answer = await getattr(self, METHODS[method][1])(request, context)
        if self.mode == "loses" and method.endswith("/BroadcastTx"):
            await asyncio.Event().wait()
        return answer

    async def _latest_block(self, request: Any, context: Any) -> Any:
        header = wire.Header(
            chain_id=self.chain_id,
            height=self.chain.height - self.lag,
            time=wire.Timestamp(seconds=self.chain.time_s),
        )
        return wire.GetLatestBlockResponse(block=wire.Block(header=header))

    async def _account(self, request: Any, context: Any) -> Any:
        if request.address != A1:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"account {request.address} not found")
        account = wire.BaseAccount(
            address=request.address,
            account_number=self.chain.account_number,
            sequence=self.chain.sequence,
        )
        return wire.QueryAccountResponse(
            account=wire.Any(
                type_url="/cosmos.auth.v1beta1.BaseAccount", value=account.SerializeToString()
            )
        )

    async def _broadcast(self, request: Any, context: Any) -> Any:
        assert request.mode == 2
        tx_hash = hashlib.sha256(request.tx_bytes).hexdigest().upper()
        if request.tx_bytes in self.cache:
            codespace, code, log = "sdk", 19, ""
        else:
            self.cache.add(request.tx_bytes)
            tx = wire.Tx.FromString(request.tx_bytes)
            codespace, code, log = self.chain.judge(tx)
            if not code:
                self.chain.taken[tx_hash] = tx
                if self.chain.includes:
                    self.chain.included[tx_hash] = self.chain.block_code
        return wire.BroadcastTxResponse(
            tx_response=wire.TxResponse(txhash=tx_hash, codespace=codespace, code=code, raw_log=log)
        )

    async def _get_tx(self, request: Any, context: Any) -> Any:
        found = self.chain.included.get(request.hash)
        if found is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"tx not found: {request.hash}")
        codespace, code, log = found
        return wire.GetTxResponse(
            tx_response=wire.TxResponse(
                height=self.chain.height, codespace=codespace, code=code, raw_log=log
            )
        )

    async def _stateful_order(self, request: Any, context: Any) -> Any:
        filled = self.chain.stateful.get(request.order_id.SerializeToString())
        if filled is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "not found")
        return wire.QueryStatefulOrderResponse(
            order_placement=wire.LongTermOrderPlacement(), fill_amount=filled, triggered=True
        )


METHODS = {
    "/cosmos.base.tendermint.v1beta1.Service/GetLatestBlock": (
        wire.GetLatestBlockRequest,
        "_latest_block",
    ),
    "/cosmos.auth.v1beta1.Query/Account": (wire.QueryAccountRequest, "_account"),
    "/cosmos.tx.v1beta1.Service/BroadcastTx": (wire.BroadcastTxRequest, "_broadcast"),
    "/cosmos.tx.v1beta1.Service/GetTx": (wire.GetTxRequest, "_get_tx"),
    "/dydxprotocol.clob.Query/StatefulOrder": (
        wire.QueryStatefulOrderRequest,
        "_stateful_order",
    ),
}


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, node: Node) -> None:
        self._node = node

    def service(self, details: Any) -> Any:
        method = details.method
        if method not in METHODS:
            return None

        async def answer(message: Any, context: Any) -> Any:
            return await self._node.serve(method, message, context)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=METHODS[method][0].FromString,
            response_serializer=lambda m: m.SerializeToString(),
        )


@asynccontextmanager
async def serving_node(chain: Chain) -> AsyncIterator[Node]:
    node = Node(chain)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Handler(node),))
    port = server.add_insecure_port("127.0.0.1:0")
    node.address = f"http://127.0.0.1:{port}"
    await server.start()
    try:
        yield node
    finally:
        await server.stop(0)


class Indexer:
    """REST and WebSocket of one indexer.

    Attributes:
        refusal: Status and headers of every REST answer, when it refuses.
        asked: Paths with their queries, oldest first.
    """

    def __init__(self) -> None:
        self.height = 1000
        self.markets: dict[str, Any] = {ticker: dict(m) for ticker, m in MARKETS.items()}
        self.orders: dict[str, dict[str, Any]] = {}
        self.fills: list[dict[str, Any]] = []
        self.subaccount: dict[str, Any] | None = {
            "equity": "1000",
            "freeCollateral": "900",
            "openPerpetualPositions": {},
        }
        self.refusal: tuple[int, dict[str, str]] | None = None
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""
        self.sockets: list[web.WebSocketResponse] = []
        self._numbers: dict[web.WebSocketResponse, int] = {}
        self.subscribed = asyncio.Event()

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws") + "/v4/ws"

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v4/ws", self._ws)
        app.router.add_get("/{path:.*}", self._rest)
        return app

    async def _rest(self, request: web.Request) -> web.Response:
        path, query = request.path, dict(request.query)
        self.asked.append((path, query))
        if self.refusal is not None:
            status, headers = self.refusal
            return web.json_response({"errors": [{"msg": "no"}]}, status=status, headers=headers)
        if path == "/v4/height":
            return web.json_response({"height": str(self.height), "time": "2027-01-15T08:00:00Z"})
        if path == "/v4/perpetualMarkets":
            ticker = query.get("ticker")
            kept = {t: m for t, m in self.markets.items() if ticker in (None, t)}
            return web.json_response({"markets": kept})
        if path.startswith("/v4/addresses/"):
            if self.subaccount is None:
                return web.json_response({"errors": [{"msg": "No subaccount"}]}, status=404)
            return web.json_response({"subaccount": self.subaccount})
        if path == "/v4/fills":
            assert ("market" in query) == ("marketType" in query)
            most = int(query.get("createdBeforeOrAtHeight", 2**31))
            kept_fills = [
                f
                for f in reversed(self.fills)
                if int(f["createdAtHeight"]) <= most
                and query.get("market", f["market"]) == f["market"]
            ]
            return web.json_response({"fills": kept_fills[: int(query["limit"])]})
        if path == "/v4/orders":
            wanted = query.get("status", "").split(",")
            return web.json_response(
                [o for o in self.orders.values() if wanted == [""] or o["status"] in wanted]
            )
        order = self.orders.get(path.rpartition("/")[2])
        if order is None:
            return web.json_response({"errors": [{"msg": "Unable to find order id"}]}, status=404)
        return web.json_response(order)

    async def _ws(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._numbers[socket] = 0
        self.sockets.append(socket)
        await socket.send_json({"type": "connected", "connection_id": "c", "message_id": 0})
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            asked = message.json()
            contents: dict[str, Any] = {"orders": [], "blockHeight": str(self.height)}
            if asked["channel"] == "v4_block_height":
                contents = {"height": str(self.height), "time": "2027-01-15T08:00:00Z"}
            await self._send(
                socket,
                type="subscribed",
                channel=asked["channel"],
                contents=contents,
                **({"id": asked["id"]} if "id" in asked else {}),
            )
            if asked["channel"] == "v4_block_height":
                self.subscribed.set()
        self.sockets.remove(socket)
        return socket

    async def _send(self, socket: web.WebSocketResponse, **message: Any) -> None:
        self._numbers[socket] += 1
        await socket.send_json(
            {"connection_id": "c", "message_id": self._numbers[socket], **message}
        )

    async def push(self, contents: dict[str, Any], *, channel: str = "v4_subaccounts") -> None:
        """Tell every listener something."""
        for socket in list(self.sockets):
            await self._send(
                socket, type="channel_data", channel=channel, version="3.0.0", contents=contents
            )

    def skip(self) -> None:
        """Lose a message."""
        for socket in self.sockets:
            self._numbers[socket] += 1

    async def to_height(self, height: int) -> None:
        """Process blocks up to a height."""
        self.height = height
        await self.push(
            {"blockHeight": str(height), "time": "2027-01-15T08:00:00Z"}, channel="v4_block_height"
        )

    async def cut(self) -> None:
        """Drop every connection."""
        self.subscribed.clear()
        for socket in list(self.sockets):
            await socket.close(code=1012)


@asynccontextmanager
async def serving_indexer() -> AsyncIterator[Indexer]:
    indexer = Indexer()
    runner = web.AppRunner(indexer.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]
    indexer.url = f"http://127.0.0.1:{port}"
    try:
        yield indexer
    finally:
        await runner.cleanup()


class RealClock:
    """The machine's clock."""

    def time_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class World:
    """A chain with its nodes, an indexer, and the venue that uses them."""

    chain: Chain
    nodes: list[Node]
    indexer: Indexer
    config: DydxConfig
    runtime: LentRuntime
    venue: DydxVenue

    @property
    def metadata(self) -> int:
        return int(self.runtime.tag, 16)

    async def to_height(self, height: int) -> None:
        """Make blocks up to a height, and have the indexer process them."""
        self.chain.height = height
        await self.indexer.to_height(height)


@asynccontextmanager
async def a_world(*, node_count: int = 1, **settings: Any) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        chain = Chain()
        served = [await stack.enter_async_context(serving_node(chain)) for _ in range(node_count)]
        indexer = await stack.enter_async_context(serving_indexer())
        config = DydxConfig(
            **{
                "network": "localnet",
                "nodes": tuple(node.address for node in served),
                "indexer_rest": indexer.url,
                "indexer_ws": indexer.ws_url,
                "mnemonic": Secret(M1),
                **settings,
            }
        )
        runtime = LentRuntime(RealClock(), account="main", venue="dydx")
        venue = await stack.enter_async_context(open_dydx(config, runtime))
        yield World(chain, served, indexer, config, runtime, venue)
