"""Everything that is served on the HTTP port, put together: one application, one port."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Direct", "make_web_app"]


class Direct(Mount):
    """A mount, one word deep, whose application answers whatever comes, errors included.

    Its requests go past the framework's routing and its handling of errors, which would cost each order
    as much as reading it does.
    """


def make_web_app(*parts: Sequence[BaseRoute]) -> ASGIApp:
    """Put the routes and mounts of all parts together; the first that matches a path serves it."""
    routes = [route for part in parts for route in part]
    direct = {route.path: route.app for route in routes if isinstance(route, Direct)}
    framework = Starlette(routes=routes)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp | None = None
        if scope["type"] == "http":
            first, _, _ = scope["path"][1:].partition("/")
            app = direct.get(f"/{first}")
        await (app or framework)(scope, receive, send)

    return serve
