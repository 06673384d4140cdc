"""The REST door: HTTP requests become calls, and their outcomes answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tradegw_mock.host import Host

__all__ = ["routes"]

_encode = msgspec.json.Encoder().encode

Endpoint = Callable[[Request], Awaitable[Any]]


def routes(host: Host) -> list[BaseRoute]:
    """Give the routes of the door."""

    async def ping(request: Request) -> Response:
        return _json({})

    async def time(request: Request) -> Response:
        return _json({"serverTime": host.time_ns() // 1_000_000})

    return [Route("/api/v3/ping", ping), Route("/api/v3/time", time)]


def _json(value: Any) -> Response:
    return Response(_encode(value), media_type="application/json")
