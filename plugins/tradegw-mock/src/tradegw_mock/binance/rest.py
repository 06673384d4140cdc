"""The REST door: HTTP requests become calls, and their outcomes answers."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from tradegw_mock.app import Direct
from tradegw_mock.binance.api import Api, Call, Cut
from tradegw_mock.binance.errors import BinanceError
from tradegw_mock.binance.params import from_form
from tradegw_mock.binance.routes import REST
from tradegw_mock.binance.signing import rest_payload
from tradegw_mock.web import Cutter

__all__ = ["RestDoor", "rest_routes"]

log = logging.getLogger(__name__)

_BODY_MAX: Final = 64 * 1024
_PREFIXES: Final = ("/api", "/sapi", "/fapi", "/dapi")
_Headers = list[tuple[bytes, bytes]]

_encode = msgspec.json.Encoder().encode


def rest_routes(api: Api, cutter: Cutter) -> list[BaseRoute]:
    """Give the routes of the door."""
    door = RestDoor(api, cutter)
    return [Direct(prefix, app=door) for prefix in _PREFIXES]


class RestDoor:
    """An ASGI application.

    A plain one, because each order passes here: a request object for each would cost as much as the
    order itself.
    """

    def __init__(self, api: Api, cutter: Cutter) -> None:
        self._api = api
        self._cutter = cutter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        client = scope.get("client") or ("", 0)
        address = client[0]
        headers: _Headers = [(b"content-type", b"application/json;charset=UTF-8")]
        status: int = HTTPStatus.OK
        api_key = _api_key(scope)
        call: Call | None = None
        answer: Any
        try:
            call = await self._read(scope, receive, address, api_key)
            answer = await self._api.call(call)
        except Cut:
            self._cutter.cut(client)
            return
        except BinanceError as e:
            status, answer = e.status, e.body()
            if e.retry_after_s is not None:
                headers.append((b"retry-after", str(math.ceil(e.retry_after_s)).encode()))
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            answer = {
                "code": -1000,
                "msg": "An unknown error occurred while processing the request.",
            }
        self._count(headers, address, call)
        body = _encode(answer)
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _read(
        self, scope: Scope, receive: Receive, address: str, api_key: str | None
    ) -> Call:
        method, path = scope["method"], scope["path"]
        endpoint = REST.get((method, path))
        if endpoint is None:
            raise BinanceError(
                -1020,
                f"This operation is not supported: {method} {path[:100]}",
                status=HTTPStatus.NOT_FOUND,
            )
        query: bytes = scope["query_string"]
        body = b"" if method == "GET" else await _body(receive)
        params = from_form(query, body)
        return Call(
            endpoint=endpoint,
            params=params,
            route=f"{method} {path}",
            address=address,
            api_key=api_key,
            payload=rest_payload(query, body) if "signature" in params else b"",
        )

    def _count(self, headers: _Headers, address: str, call: Call | None) -> None:
        now_ns, limits = self._api.host.time_ns(), self._api.limits
        used = str(limits.used_weight(address, now_ns)).encode()
        headers.append((b"x-mbx-used-weight", used))
        headers.append((b"x-mbx-used-weight-1m", used))
        if call is not None and call.has_ordered:
            ten_seconds, day = limits.order_counts(call.account, now_ns)
            headers.append((b"x-mbx-order-count-10s", str(ten_seconds).encode()))
            headers.append((b"x-mbx-order-count-1d", str(day).encode()))


def _api_key(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-mbx-apikey":
            return str(value, "latin-1")
    return None


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            # It never came whole, so nothing is done.
            raise Cut
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > _BODY_MAX:
            raise BinanceError(
                -1101,
                "Too many parameters sent for this endpoint.",
                status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
