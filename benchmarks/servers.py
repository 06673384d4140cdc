"""The processes that are measured: the gateway, and the bare echo of the same messages.

`python -m benchmarks.servers echo|http|gateway [DIRECTORY] [COMMIT_DELAY_MS]` prints its address on one line
and serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tradegw_mock.web import serve_web

from benchmarks.exchange import ANSWER
from benchmarks.slow import slow_commits
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.config import load_config
from tradegw.gateway.open import run_gateway, wait_ready
from tradegw.trading.v1 import order_pb2, trading_gateway_pb2_grpc
from tradegw.trading.v1 import trading_gateway_pb2 as pb
from tradegw.transports.grpc.server import serve

__all__ = ["an_answer", "config"]


def config(directory: str) -> dict[str, Any]:
    """Return the configuration that is measured: everything durable but the mock venue's own commit."""
    return {
        "store": {"url": f"sqlite:///{Path(directory).absolute()}/bench.db"},
        "venues": {"mock": {"plugin": "mock", "durable": False, "step_interval_s": 0}},
        "accounts": {
            "paper": {"venue": "mock", "balances": {"USDT": "1000000000000", "BTC": "1000000000"}}
        },
    }


def an_answer(request: pb.PlaceOrderRequest) -> pb.PlaceOrderResponse:
    """Return an answer of the size that the gateway gives."""
    new = request.order
    now = time.time_ns()
    order = order_pb2.Order(
        order_id="0b8f6e0c-6f7b-4c8e-9b1a-2f6f3f0a5d11",
        account=new.account,
        venue="mock",
        symbol=new.symbol,
        side=new.side,
        time_in_force=new.time_in_force,
        order_qty=new.order_qty,
        price=new.limit.price,
        client_order_id=new.client_order_id,
        idempotency_key=new.idempotency_key,
        cum_qty="0",
        leaves_qty=new.order_qty,
        venue_order_id="123456",
        venue_client_order_id="9636d05899407db9392e9217f5057b00",
        created_time_ns=now,
        updated_time_ns=now,
        seq=1,
    )
    return pb.PlaceOrderResponse(order=order)


class _Echo(trading_gateway_pb2_grpc.TradingGatewayServicer):
    async def PlaceOrder(  # noqa: N802  gRPC's name.
        self,
        request: pb.PlaceOrderRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> pb.PlaceOrderResponse:
        return an_answer(request)

    async def StreamFills(  # noqa: N802
        self,
        request: pb.StreamFillsRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[pb.StreamFillsResponse]:
        """Send as many fills as `after` says, in messages of the size that the gateway uses."""
        count = request.after[0].after_seq
        fill = order_pb2.Fill(
            trade_id="1234567",
            account="paper",
            venue="mock",
            symbol="BTC/USDT",
            last_qty="0.001",
            last_px="65000.01",
            order_id="0b8f6e0c-6f7b-4c8e-9b1a-2f6f3f0a5d11",
            venue_order_id="123456",
            fee="0.000001",
            fee_asset="BTC",
            transact_time_ns=time.time_ns(),
            received_time_ns=time.time_ns(),
        )
        for first in range(0, count, 512):
            yield pb.StreamFillsResponse(
                items=[
                    pb.FillItem(account="paper", seq=seq, prev_seq=seq - 1, fill=fill)
                    for seq in range(first, min(first + 512, count))
                ]
            )


async def _until_closed() -> None:
    await asyncio.to_thread(sys.stdin.read)


async def _echo() -> None:
    server = grpc.aio.server()
    trading_gateway_pb2_grpc.add_TradingGatewayServicer_to_server(_Echo(), server)  # type: ignore[abstract]  # It answers two methods alone.
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await _until_closed()
    await server.stop(None)


async def _http() -> None:
    """Serve what `benchmarks.exchange` compares a REST API with: a route that reads and answers JSON."""

    async def order(request: Request) -> Response:
        await request.body()
        return JSONResponse(ANSWER)

    app = Starlette(routes=[Route("/api/v3/order", order, methods=["POST"])])
    async with serve_web(lambda _: app, "127.0.0.1", 0) as web:
        print(f"http://127.0.0.1:{web.address[1]}", flush=True)
        await _until_closed()


async def _gateway(directory: str, delay_ms: float) -> None:
    with slow_commits(delay_ms):
        loaded = load_config(overrides=config(directory))
        async with (
            run_gateway(loaded, clock=SystemClock(), wait_for_store=False) as running,
            serve(
                running.gateway,
                port=0,
                operations=running.gateway,
                metrics=running.metrics,
            ) as door,
        ):
            await wait_ready(running, 10)
            print(door.address, flush=True)
            await _until_closed()


def main() -> None:
    """Serve what the command line says."""
    logging.basicConfig(level=logging.WARNING)
    what, *rest = sys.argv[1:]
    if what == "echo":
        asyncio.run(_echo())
    elif what == "http":
        asyncio.run(_http())
    else:
        asyncio.run(_gateway(rest[0], float(rest[1])))


if __name__ == "__main__":
    main()
