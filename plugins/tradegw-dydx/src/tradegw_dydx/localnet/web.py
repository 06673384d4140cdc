"""Serves the indexer's HTTP and WebSockets as a guest in somebody else's event loop."""

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

_GRACE_S: Final = 2
_PONG_S: Final = 10.0


class WebServer:
    """What is served.

    Attributes:
        address: `HOST:PORT` that it listens on.
    """

    def __init__(self, server: _Server, address: str) -> None:
        self.address = address
        self._server = server

    def cut(self, client: tuple[str, int]) -> None:
        """Cut a client's connection without a word, as a network does."""
        for connection in list(self._server.server_state.connections):
            # Not all of uvicorn's protocols know it; ours, chosen below, do.
            if getattr(connection, "client", None) == client:
                connection.transport.abort()


@asynccontextmanager
async def serve_web(
    app: ASGIApp, host: str, port: int, *, ping_s: float
) -> AsyncGenerator[WebServer]:
    """Serve until left.

    Args:
        port: 0 picks a free one.
        ping_s: Between pings of a stream; one that is not answered in ten seconds ends it with 1011.

    Raises:
        OSError: The port is taken.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Bound here, so that the port is known and a failure is ours to explain.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as e:
            raise OSError(f"the indexer cannot listen on {host}:{port}: {e}") from e
        listening.setblocking(False)
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                http="h11",
                ws="websockets-sansio",
                ws_ping_interval=ping_s,
                ws_ping_timeout=_PONG_S,
                ws_per_message_deflate=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="indexer door")
        waiting = asyncio.create_task(server.ready.wait())
        try:
            await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
                raise OSError(f"the indexer cannot serve on {host}:{port}")
            yield WebServer(server, f"{host}:{listening.getsockname()[1]}")
        finally:
            waiting.cancel()
            server.should_exit = True
            await serving
    finally:
        listening.close()


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
