"""Serves an ASGI application as a guest in somebody else's event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

__all__ = ["WebServer", "serve_web"]

_GRACE_S: Final = 5
_FRAME_MAX: Final = 256 * 1024


class WebServer:
    """What is served.

    Attributes:
        address: Address and port that it listens on.
    """

    def __init__(self, server: _Server, address: tuple[str, int]) -> None:
        self.address = address
        self._server = server

    def cut(self, client: tuple[str, int]) -> None:
        """Cut a client's connection without a word, as a network does."""
        for connection in list(self._server.server_state.connections):
            # Not all of uvicorn's protocols know it; ours, chosen below, do.
            if getattr(connection, "client", None) == client:
                connection.transport.abort()

    def cut_all(self) -> None:
        """Cut every connection."""
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()


@asynccontextmanager
async def serve_web(app: ASGIApp, address: str, port: int) -> AsyncGenerator[WebServer]:
    """Serve HTTP and WebSockets until left; then requests in flight get five seconds.

    Args:
        port: 0 picks a free one.

    Raises:
        OSError: The address cannot be listened on.
    """
    # Bound here, so that the port is known and a failure is ours to explain.
    listening = _listen(address, port)
    try:
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                http="h11",
                ws="websockets-sansio",
                ws_max_size=_FRAME_MAX,
                # As Binance does: a ping every 20 s, and a minute for the answer.
                ws_ping_interval=20.0,
                ws_ping_timeout=60.0,
                # A frame for each event: packing them would cost more than the loopback.
                ws_per_message_deflate=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="http door")
        waiting = asyncio.create_task(server.ready.wait())
        try:
            await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
                raise OSError(f"HTTP cannot serve on {address}:{port}")
            yield WebServer(server, listening.getsockname()[:2])
        finally:
            waiting.cancel()
            server.should_exit = True
            await serving
    finally:
        listening.close()


def _listen(address: str, port: int) -> socket.socket:
    family, _, _, _, found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(found)
        listening.setblocking(False)
    except OSError as e:
        listening.close()
        raise OSError(f"HTTP cannot listen on {address}:{port}: {e}") from e
    return listening


class _Server(uvicorn.Server):
    """Uvicorn as a guest."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        # The host decides what a signal means.
        yield

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
