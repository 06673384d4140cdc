"""The WebSocket API: requests and answers over one connection, and the user data stream beside them.

Source: binance-spot-api-docs, web-socket-api.md.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any, Final, cast

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from tradegw_mock.binance import account
from tradegw_mock.binance.api import Api, Call, Cut, Endpoint, Security
from tradegw_mock.binance.connections import (
    Connection,
    Connections,
    decode_request,
    encode,
    tell_account,
)
from tradegw_mock.binance.errors import BinanceError
from tradegw_mock.binance.params import Params, from_json
from tradegw_mock.binance.routes import METHODS
from tradegw_mock.binance.signing import socket_payload
from tradegw_mock.exchange import ApiKey
from tradegw_mock.feed import Feed
from tradegw_mock.host import ExchangeAway
from tradegw_mock.web import Cutter

__all__ = ["SocketApi"]

log = logging.getLogger(__name__)

MS: Final = 1_000_000
_CONNECT_WEIGHT: Final = 2
_IN_FLIGHT_MAX: Final = 1000
_SUBSCRIPTIONS_MAX: Final = 1000
_SUBSCRIPTIONS_EVER: Final = 65_535

_OPEN: Final = Endpoint(
    operation="session", weight=2, security=Security.NONE, handler=account.nothing
)
_LOGON: Final = Endpoint(
    operation="session", weight=2, security=Security.SIGNED, handler=account.nothing
)
_SUBSCRIBE: Final = Endpoint(
    operation="subscribe", weight=2, security=Security.SIGNED, handler=account.nothing
)
_SUBSCRIBE_SESSION: Final = Endpoint(
    operation="subscribe", weight=2, security=Security.KEY, handler=account.nothing
)
_OF_SESSION: Final = {
    "session.logon": _LOGON,
    "session.status": _OPEN,
    "session.logout": _OPEN,
    "session.subscriptions": _OPEN,
    "userDataStream.subscribe": _SUBSCRIBE_SESSION,
    "userDataStream.subscribe.signature": _SUBSCRIBE,
    "userDataStream.unsubscribe": _OPEN,
}


class SocketApi:
    """All connections to the WebSocket API."""

    def __init__(self, api: Api, cutter: Cutter) -> None:
        self._api = api
        self._connections = Connections(cutter, self._last_frame)

    def routes(self) -> list[BaseRoute]:
        """Give the routes of the door."""
        return [WebSocketRoute("/ws-api/v3", self._serve)]

    async def close(self) -> None:
        """Say to every client that the server goes, and close."""
        await self._connections.close()

    def _last_frame(self, connection: Connection) -> bytes:
        time_ms = self._api.host.time_ns() // MS
        return encode({"event": {"e": "serverShutdown", "E": time_ms}})

    async def _serve(self, websocket: WebSocket) -> None:
        async with self._connections.accept(websocket) as connection:
            shown = websocket.query_params.get("returnRateLimits", "true") != "false"
            await _Session(self._api, connection, shows_limits=shown).serve()


class _Session:
    """One connection: who has logged in, and what it listens to."""

    def __init__(self, api: Api, connection: Connection, *, shows_limits: bool) -> None:
        self._api = api
        self._connection = connection
        self._shows_limits = shows_limits
        self._connected_ms = api.host.time_ns() // MS
        self._key: ApiKey | None = None
        self._authorized_ms: int | None = None
        self._subscriptions: dict[int, tuple[str, bool, asyncio.Task[None]]] = {}
        self._last_subscription = -1
        self._in_flight = 0

    async def serve(self) -> None:
        """Answer requests until the client leaves."""
        try:
            self._api.limits.charge(
                self._connection.address, _CONNECT_WEIGHT, self._api.host.time_ns()
            )
        except BinanceError as e:
            await self._send_error(None, e, returns_limits=False)
            self._connection.cut()
            return
        async with asyncio.TaskGroup() as group:
            while (text := await self._connection.receive()) is not None:
                if self._in_flight >= _IN_FLIGHT_MAX:
                    error = BinanceError(
                        -1003, "Too many requests queued.", status=HTTPStatus.TOO_MANY_REQUESTS
                    )
                    await self._send_error(None, error, returns_limits=False)
                    continue
                self._in_flight += 1
                # A task each, so that those that arrive together share a commit. They are carried out in
                # the order of their arrival, because tasks start in order.
                group.create_task(self._answer(group, text))
            for _, _, task in self._subscriptions.values():
                task.cancel()

    async def _answer(self, group: asyncio.TaskGroup, text: str) -> None:
        try:
            await self._answer_request(group, text)
        except Cut:
            self._connection.cut()
        except ConnectionError:
            pass
        finally:
            self._in_flight -= 1

    async def _answer_request(self, group: asyncio.TaskGroup, text: str) -> None:
        request = decode_request(text)
        request_id: Any = None
        returns_limits = self._shows_limits
        call: Call | None = None
        starting: tuple[int, str, bool] | None = None
        result: Any
        try:
            if request is None:
                raise BinanceError(-1135, "Invalid JSON Request")
            request_id = request.get("id")
            params = _params(request)
            returns_limits = params.flag("returnRateLimits", default=self._shows_limits)
            method = str(request.get("method", "")).removeprefix("v3/")
            endpoint = METHODS.get(method) or _OF_SESSION.get(method)
            if endpoint is None:
                raise BinanceError(-1020, f"This operation is not supported: {method[:100]}")
            call = self._call(method, endpoint, params)
            result = await self._api.call(call)
            if method in _OF_SESSION:
                result, starting = self._session(method, call)
        except BinanceError as e:
            await self._send_error(request_id, e, returns_limits=returns_limits, call=call)
            return
        except Cut:
            raise
        except Exception:
            log.exception("a request to the WebSocket API failed")
            error = BinanceError(
                -1000,
                "An unknown error occurred while processing the request.",
                status=HTTPStatus.INTERNAL_SERVER_ERROR,
            )
            await self._send_error(request_id, error, returns_limits=returns_limits, call=call)
            return
        frame: dict[str, Any] = {"id": request_id, "status": HTTPStatus.OK, "result": result}
        if returns_limits:
            frame["rateLimits"] = self._limits(call)
        if starting is None:
            await self._connection.send(encode(frame))
            return
        # From now on nothing that happens is missed, though the answer leaves first.
        number, name, is_session = starting
        answered = asyncio.Event()
        feed = self._api.host.feed(name)
        task = group.create_task(
            self._tell(number, name, feed, feed.last_seq, answered, call.route)
        )
        self._subscriptions[number] = name, is_session, task
        await self._connection.send(encode(frame))
        answered.set()

    async def _tell(
        self,
        number: int,
        name: str,
        feed: Feed,
        after: int,
        answered: asyncio.Event,
        route: str,
    ) -> None:
        await answered.wait()
        await tell_account(
            self._api,
            self._connection,
            name,
            feed,
            after,
            lambda event: {"subscriptionId": number, "event": event},
            route=route,
        )

    def _call(self, method: str, endpoint: Endpoint, params: Params) -> Call:
        is_signed = "signature" in params or method in (
            "session.logon",
            "userDataStream.subscribe.signature",
        )
        is_session = self._key is not None and not is_signed and "apiKey" not in params
        return Call(
            endpoint=endpoint,
            params=params,
            route=method,
            address=self._connection.address,
            api_key=params.get("apiKey"),
            payload=socket_payload(params) if is_signed else b"",
            session=self._key if is_session else None,
        )

    async def _send_error(
        self,
        request_id: Any,
        error: BinanceError,
        *,
        returns_limits: bool,
        call: Call | None = None,
    ) -> None:
        body = error.body()
        if error.retry_after_s is not None:
            now_ms = self._api.host.time_ns() // MS
            body["data"] = {
                "serverTime": now_ms,
                "retryAfter": now_ms + int(error.retry_after_s * 1000),
            }
        frame: dict[str, Any] = {"id": request_id, "status": int(error.status), "error": body}
        if returns_limits:
            frame["rateLimits"] = self._limits(call)
        await self._connection.send(encode(frame))

    def _limits(self, call: Call | None) -> list[dict[str, Any]]:
        now_ns, limits = self._api.host.time_ns(), self._api.limits
        shown = [limits.weight_limit(self._connection.address, now_ns)]
        if call is not None and call.has_ordered:
            shown = limits.order_limits(call.account, now_ns) + shown
        return shown

    # --- the session ----------------------------------------------------------------------------

    def _session(self, method: str, call: Call) -> tuple[Any, tuple[int, str, bool] | None]:
        """Do what concerns the connection itself; give the answer, and the subscription to start.

        Raises:
            BinanceError: It cannot be.
        """
        match method:
            case "session.logon":
                self._key = call.key
                self._authorized_ms = self._api.host.time_ns() // MS
                return self._status(), None
            case "session.logout":
                self._key = self._authorized_ms = None
                for number, (_, is_session, _) in list(self._subscriptions.items()):
                    if is_session:
                        self._end(number)
                return self._status(), None
            case "session.status":
                return self._status(), None
            case "session.subscriptions":
                return [{"subscriptionId": number} for number in self._subscriptions], None
            case "userDataStream.unsubscribe":
                self._unsubscribe(call.params)
                return {}, None
            case _:
                number = self._next_subscription(call.account)
                is_session = call.session is not None
                return {"subscriptionId": number}, (number, call.account, is_session)

    def _status(self) -> dict[str, Any]:
        return {
            "apiKey": None if self._key is None else self._key.api_key,
            "authorizedSince": self._authorized_ms,
            "connectedSince": self._connected_ms,
            "returnRateLimits": self._shows_limits,
            "serverTime": self._api.host.time_ns() // MS,
            "userDataStream": bool(self._subscriptions),
        }

    def _next_subscription(self, name: str) -> int:
        for number, (known, _, task) in list(self._subscriptions.items()):
            if task.done():
                del self._subscriptions[number]
            elif known == name:
                raise BinanceError(-2035, "User Data Stream subscription already active.")
        full = len(self._subscriptions) >= _SUBSCRIPTIONS_MAX
        if full or self._last_subscription >= _SUBSCRIPTIONS_EVER:
            raise BinanceError(-2042, "Maximum subscription ID reached for this connection.")
        try:
            self._api.host.feed(name)
        except ExchangeAway as e:
            raise BinanceError(
                -1008,
                "Server is currently overloaded with other requests. "
                "Please try again in a few minutes.",
                status=HTTPStatus.SERVICE_UNAVAILABLE,
            ) from e
        self._last_subscription += 1
        return self._last_subscription

    def _unsubscribe(self, params: Params) -> None:
        number = params.integer("subscriptionId")
        if number is not None and number not in self._subscriptions:
            raise BinanceError(-2036, "User Data Stream subscription not active.")
        for ending in list(self._subscriptions) if number is None else [number]:
            self._end(ending)

    def _end(self, number: int) -> None:
        _, _, task = self._subscriptions.pop(number)
        task.cancel()


def _params(request: dict[str, Any]) -> Params:
    params: object = request.get("params") or {}
    if not isinstance(params, dict):
        raise BinanceError(-1135, "JSON sent for parameter 'params' is not valid")
    return from_json(cast("dict[str, Any]", params))
