"""The gRPC door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tradegw.admin.v1 import admin_pb2, admin_pb2_grpc
from tradegw.errors import ConfigError
from tradegw.gateway import Gateway
from tradegw.gateway.metrics import Metrics
from tradegw.trading.v1 import trading_gateway_pb2, trading_gateway_pb2_grpc
from tradegw.transports.grpc.closing import Closing
from tradegw.transports.grpc.figures import observer
from tradegw.transports.grpc.health import Health
from tradegw.transports.grpc.interceptor import Interceptor
from tradegw.transports.grpc.servicers import AdminServicer, TradingGatewayServicer
from tradegw.transports.readiness import Operations

__all__ = ["GrpcDoor", "serve"]

MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # An answer to a page is bounded by the page; a list of instruments is as long as the venue's.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 4096),
    # A caller whose machine died sends nothing: its session must end within a bound all the same.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)


class GrpcDoor:
    """An open door.

    Attributes:
        address: `host:port` that it listens on.
        own_address: The same of the one that it shares with no other process; empty if it shares none.
    """

    def __init__(
        self, address: str, health: Health, closing: Closing, *, own_address: str = ""
    ) -> None:
        self.address = address
        self.own_address = own_address
        self._health = health
        self._closing = closing

    async def set_not_serving(self) -> None:
        """Tell health checks that the gateway shuts down. Calls are answered as before."""
        await self._health.set_not_serving()

    async def close_streams(self, timeout_s: float = 5.0) -> None:
        """End streams with a place to resume from, and sessions after what is in flight.

        To be called before the gateway is closed: sessions cancel their orders now, where that was asked for.
        Those that have not ended by `timeout_s` are ended with the server.
        """
        self._closing.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._closing.closed()


@asynccontextmanager
async def serve(
    gateway: Gateway,
    host: str = "127.0.0.1",
    port: int = 50051,
    *,
    operations: Operations,
    metrics: Metrics,
    grace_s: float = 5.0,
    own_host: str | None = None,
) -> AsyncGenerator[GrpcDoor]:
    """Serve a gateway over gRPC while the context is open.

    On leaving: health says NOT_SERVING, streams and sessions end, no new call is taken, and calls in flight
    get up to `grace_s` for their answers. The gateway is not closed.

    Args:
        port: 0 takes a free one.
        operations: What health is read from, twice a second; the gateway in this process.
        own_host: Share the port with other processes, each of which gets some of the callers, and listen on a
            free port of this address as well.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    closing = Closing()
    health = Health(operations, closing)
    observe = observer(metrics)
    # Unless it is shared on purpose, a second server on the port must fail, not take half of the callers.
    shared = [("grpc.so_reuseport", int(own_host is not None))]
    server = grpc.aio.server(interceptors=[Interceptor(observe)], options=[*_OPTIONS, *shared])
    trading_gateway_pb2_grpc.add_TradingGatewayServicer_to_server(
        TradingGatewayServicer(gateway, closing, observe), server
    )
    admin_pb2_grpc.add_AdminServicer_to_server(AdminServicer(gateway), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    reflection.enable_server_reflection(
        [
            *(file.services_by_name[name].full_name for file, name in _SERVICES),
            reflection.SERVICE_NAME,
        ],
        server,
    )
    bound = _listen(server, host, port)
    own_address = "" if own_host is None else f"{own_host}:{_listen(server, own_host, 0)}"
    await health.refresh()
    await server.start()
    keeper = asyncio.create_task(health.keep(), name="grpc health")
    door = GrpcDoor(f"{host}:{bound}", health, closing, own_address=own_address)
    try:
        yield door
    finally:
        await door.set_not_serving()
        await door.close_streams(grace_s)
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        await server.stop(grace_s)


def _listen(server: grpc.aio.Server, host: str, port: int) -> int:
    try:
        return server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as e:
        raise ConfigError(
            f"gRPC cannot listen on {host}:{port}: {e}", reason="ADDRESS_UNUSABLE"
        ) from e


_SERVICES: Final = (
    (trading_gateway_pb2.DESCRIPTOR, "TradingGateway"),
    (admin_pb2.DESCRIPTOR, "Admin"),
    (health_pb2.DESCRIPTOR, "Health"),
)
