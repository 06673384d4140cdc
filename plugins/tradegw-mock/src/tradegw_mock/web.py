"""Serves an ASGI application as a guest in somebody else's event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Protocol

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

__all__ = ["Cutter", "WebServer", "serve_web"]

_GRACE_S: Final = 5
_KEEP_S: Final = 120
_FRAME_MAX: Final = 256 * 1024


class Cutter(Protocol):
    """Who can cut a client's connection."""

    def cut(self, client: tuple[str, int]) -> None:
        """Cut it without a word, as a network does."""
        ...


class WebServer:
    """What is served.

    Attributes:
        address: Address and port that it listens on.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.server: _Server | None = None

    def cut(self, client: tuple[str, int]) -> None:
        """Cut a client's connection without a word, as a network does."""
        for connection in self._connections():
            # Not all of uvicorn's protocols know it; ours, chosen below, do.
            if getattr(connection, "client", None) == client:
                connection.transport.abort()

    def cut_all(self) -> None:
        """Cut every connection, but those of the operator, who asked for it and wants to see."""
        for connection in self._connections():
            scope: dict[str, Any] = getattr(connection, "scope", None) or {}
            if not str(scope.get("path", "")).startswith("/admin/"):
                connection.transport.abort()

    def _connections(self) -> list[Any]:
        assert self.server is not None
        return list(self.server.server_state.connections)


@asynccontextmanager
async def serve_web(
    make_app: Callable[[Cutter], ASGIApp], address: str, port: int
) -> AsyncGenerator[WebServer]:
    """Serve HTTP and WebSockets until left; then requests in flight get five seconds.

    Args:
        make_app: Makes the application, which may cut its clients' connections.
        port: 0 picks a free one.

    Raises:
        OSError: The address cannot be listened on.
    """
    # Bound here, so that the port is known and a failure is ours to explain.
    listening = _listen(address, port)
    try:
        web = WebServer(listening.getsockname()[:2])
        server = web.server = _Server(
            uvicorn.Config(
                make_app(web),
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
                # Clients keep connections for longer than uvicorn's five seconds, and one that is closed
                # just as they use it again leaves them in doubt about an order.
                timeout_keep_alive=_KEEP_S,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="http door")
        waiting = asyncio.create_task(server.ready.wait())
        try:
            await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
                raise OSError(f"HTTP cannot serve on {address}:{port}")
            yield web
        finally:
            waiting.cancel()
            server.should_exit = True
            await serving
    finally:
        listening.close()


def _listen(address: str, port: int) -> socket.socket:
    family, _, _, _, found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    # With its protocol named, or asyncio would not know it for TCP and leave Nagle's algorithm on: each
    # answer would wait 40 ms for an acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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
