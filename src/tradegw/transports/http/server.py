"""The side door: is it alive, is it ready, how does it do. Nothing here trades."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Final

import uvicorn
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typing_extensions import override

from tradegw.errors import ConfigError, TradegwError
from tradegw.gateway.metrics import Metrics, tradegw_version
from tradegw.transports.http.problem import problem
from tradegw.transports.readiness import Operations, Readiness, check, is_venue_ready

__all__ = ["HttpDoor", "serve_http"]

log = logging.getLogger(__name__)

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_GRACE_S: Final = 3


class HttpDoor:
    """An open door.

    Attributes:
        address: `host:port` that it listens on.
    """

    def __init__(self, address: str, views: _Views) -> None:
        self.address = address
        self._views = views

    def set_not_serving(self) -> None:
        """Answer `/readyz` with 503 from now on: the gateway shuts down."""
        self._views.is_stopping = True


@asynccontextmanager
async def serve_http(
    operations: Operations,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    metrics: Metrics,
    is_shared: bool = False,
) -> AsyncGenerator[HttpDoor]:
    """Serve health, readiness, metrics and counts over HTTP while the context is open.

    It runs in this event loop and touches no signal handler. On leaving, requests in flight get 3 seconds.

    Args:
        operations: What is asked; the gateway in this process.
        port: 0 takes a free one.
        is_shared: Share the port with other processes, each of which gets some of the callers.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    views = _Views(operations, metrics)
    # Bound here, so that the port is known and a failure is ours to explain.
    listening = _listen(host, port, is_shared=is_shared)
    try:
        server = _Server(
            uvicorn.Config(
                views.app(),
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
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
                raise ConfigError(f"HTTP cannot serve on {host}:{port}", reason="ADDRESS_UNUSABLE")
            bound = listening.getsockname()[1]
            yield HttpDoor(f"{host}:{bound}", views)
        finally:
            waiting.cancel()
            server.should_exit = True
            await serving
    finally:
        listening.close()


def _listen(host: str, port: int, *, is_shared: bool) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With its protocol named, or asyncio would not know it for TCP and leave Nagle's algorithm on: each
        # answer over a kept connection would wait 40 ms for an acknowledgement.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as e:
        raise _unusable(host, port, e) from e
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
        listening.setblocking(False)
    except OSError as e:
        listening.close()
        raise _unusable(host, port, e) from e
    return listening


def _unusable(host: str, port: int, error: OSError) -> ConfigError:
    return ConfigError(f"HTTP cannot listen on {host}:{port}: {error}", reason="ADDRESS_UNUSABLE")


class _Server(uvicorn.Server):
    """Uvicorn as a guest in somebody else's process."""

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


class _Views:
    def __init__(self, operations: Operations, metrics: Metrics) -> None:
        self._operations = operations
        self._metrics = metrics
        self.is_stopping = False

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/healthz", self.healthz),
                Route("/readyz", self.readyz),
                Route("/metrics", self.metrics),
                Route("/orders/count", self.count_orders),
            ],
            exception_handlers={
                HTTPException: _on_http_error,
                TradegwError: _on_our_error,
                Exception: _on_defect,
            },
        )

    async def healthz(self, request: Request) -> Response:
        """Say that the process is alive. Asks nothing of anybody: a restart mends no store."""
        return JSONResponse({"status": "alive", "version": tradegw_version()})

    async def readyz(self, request: Request) -> Response:
        """Say how each dependency stands: 200 when the store works and every account takes orders, else 503.

        A gateway with one venue away still serves the others (the gRPC health service tells them apart);
        here the strict answer is the useful one, because whoever deploys it wants to know that all is well.
        """
        state = await check(self._operations)
        is_ready = state.is_ready and not self.is_stopping
        return JSONResponse(
            _describe(state, is_ready=is_ready, is_stopping=self.is_stopping),
            HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE,
        )

    async def metrics(self, request: Request) -> Response:
        """Give all figures in Prometheus' text format."""
        # On the loop's own thread: the gauges read what belongs to it.
        text = generate_latest(self._metrics.registry)
        return Response(text, headers={"content-type": _METRICS_TYPE})

    async def count_orders(self, request: Request) -> Response:
        """Count the stored orders."""
        by_status = await self._operations.count_orders()
        venues = await self._operations.list_held()
        return JSONResponse(
            {
                "count": sum(by_status.values()),
                "open": sum(n for status, n in by_status.items() if status.is_open),
                "in_doubt": sum(a.in_doubt for venue in venues for a in venue.accounts),
                "by_status": {status.value: n for status, n in sorted(by_status.items())},
            }
        )


def _describe(state: Readiness, *, is_ready: bool, is_stopping: bool) -> dict[str, object]:
    return {
        "ready": is_ready,
        "stopping": is_stopping,
        "store": {
            "ready": not state.store_why,
            "seconds": round(state.store_s, 6),
            "why": state.store_why,
        },
        "venues": [
            {
                "venue": venue.venue,
                "plugin": venue.plugin,
                "ready": is_venue_ready(venue),
                "accounts": [
                    {"account": a.account, "state": a.state, "why": a.why} for a in venue.accounts
                ],
            }
            for venue in state.venues
        ],
        # Beside what decides: a sink that is away gets its events later.
        "sinks": [
            {
                "sink": outbox.sink,
                "account": outbox.account,
                "lag_events": outbox.lag_events,
                "lag_seconds": round(outbox.lag_s, 3),
                "why": outbox.why,
            }
            for outbox in state.outboxes
        ],
    }


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = HTTPStatus(error.status_code).name
    return problem(error.status_code, reason, error.detail, headers=error.headers)


async def _on_our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TradegwError)
    log.warning("%s %s: %s: %s", request.method, request.url.path, error.reason, error)
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, error.reason, str(error))


async def _on_defect(request: Request, error: Exception) -> Response:
    # The server logs it with its traceback; the caller learns nothing of our insides.
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", "a defect of the gateway; its log has more"
    )
