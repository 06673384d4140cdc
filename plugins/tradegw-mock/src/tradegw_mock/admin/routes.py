"""The admin API over HTTP, with health, readiness, metrics, and the page at `/`."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tradegw_mock.admin.api import Admin, Conflict, Endpoint
from tradegw_mock.admin.metrics import MockMetrics
from tradegw_mock.admin.openapi import describe
from tradegw_mock.admin.values import Problem
from tradegw_mock.chaos import UnknownFault
from tradegw_mock.exchange import Refusal
from tradegw_mock.host import ExchangeAway, ExchangeFailed, Host

__all__ = ["routes"]

log = logging.getLogger(__name__)

_BODY_MAX: Final = 256 * 1024
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PAGE: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:"
)

_encode = msgspec.json.Encoder().encode


def routes(host: Host) -> list[BaseRoute]:
    """Give the routes: `/admin/...`, `/healthz`, `/readyz`, `/metrics`, and the page at `/`."""
    endpoints = Admin(host).endpoints()
    metrics = MockMetrics(host)
    described = _encode(describe(endpoints))

    async def openapi(request: Request) -> Response:
        return Response(described, media_type="application/json")

    async def healthz(request: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(request: Request) -> Response:
        parts = _readiness(host)
        ready = all(found == "ok" for found in parts.values())
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return _json({"status": "ok" if ready else "not ready", **parts}, status)

    async def shown_metrics(request: Request) -> Response:
        return Response(metrics.text(), media_type=_METRICS_TYPE)

    return [
        *[
            Route(
                f"/admin{endpoint.path}",
                _handler(endpoint),
                methods=[endpoint.method],
                name=endpoint.call.__name__,
            )
            for endpoint in endpoints
        ],
        Route("/admin/openapi.json", openapi),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", shown_metrics),
        *[_static(path, name, kind) for path, (name, kind) in _PAGE.items()],
    ]


def _readiness(host: Host) -> dict[str, str]:
    try:
        _ = host.exchange
    except ExchangeAway as e:
        return {"exchange": str(e)}
    return {"exchange": "ok", "invariants": "; ".join(host.pace.violations) or "ok"}


def _handler(endpoint: Endpoint) -> Any:
    in_path = re.findall(r"\{(\w+)\}", endpoint.path)

    async def handle(request: Request) -> Response:
        try:
            asked = {
                **request.query_params,
                **{name: request.path_params[name] for name in in_path},
            }
            query = msgspec.convert(asked, endpoint.query, strict=False)
            body = None
            if endpoint.body is not None:
                # A page of some other origin cannot send this without asking first, and is not answered.
                _require_json(request)
                body = msgspec.json.decode(await _read(request), type=endpoint.body)
            return _json(await endpoint.call(query, body))
        except Refusal as e:
            unknown = e.code.startswith("UNKNOWN")
            status = HTTPStatus.NOT_FOUND if unknown else HTTPStatus.BAD_REQUEST
            return _problem(status, e.code, e.text)
        except UnknownFault as e:
            return _problem(HTTPStatus.NOT_FOUND, "UNKNOWN_FAULT", str(e))
        except Conflict as e:
            return _problem(HTTPStatus.CONFLICT, "CONFLICT", str(e))
        except (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError) as e:
            return _problem(HTTPStatus.BAD_REQUEST, "MALFORMED", str(e))
        except (ExchangeAway, ExchangeFailed) as e:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", str(e))

    return handle


def _require_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ValueError(f"content-type is application/json; found {kind[:80]!r}")


async def _read(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_MAX:
            raise ValueError(f"a body has at most {_BODY_MAX} bytes; found more")
    return body


def _static(path: str, name: str, kind: str) -> Route:
    content = files("tradegw_mock.admin").joinpath("page", name).read_bytes()

    async def serve(request: Request) -> Response:
        headers = {"content-security-policy": _POLICY, "cache-control": "no-cache"}
        return Response(content, media_type=kind, headers=headers)

    return Route(path, serve)


def _json(value: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(_encode(value), status, media_type="application/json")


def _problem(status: int, code: str, text: str) -> Response:
    return _json(Problem(code=code, text=text), status)
