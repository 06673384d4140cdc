"""Everything that is served on the HTTP port, put together: one application, one port."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute

__all__ = ["make_web_app"]


def make_web_app(*parts: Sequence[BaseRoute]) -> Starlette:
    """Put the routes and mounts of all parts together; the first that matches a path serves it."""
    return Starlette(routes=[route for part in parts for route in part])
