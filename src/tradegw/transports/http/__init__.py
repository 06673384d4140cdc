"""The HTTP side door."""

from tradegw.transports.http.server import HttpDoor, serve_http

__all__ = ["HttpDoor", "serve_http"]
