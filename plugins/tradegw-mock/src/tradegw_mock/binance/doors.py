"""All Binance-compatible doors of one exchange, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.routing import BaseRoute

from tradegw_mock.binance.api import Api
from tradegw_mock.binance.rest import rest_routes
from tradegw_mock.binance.socket_api import SocketApi
from tradegw_mock.binance.streams import StreamDoor
from tradegw_mock.host import Host
from tradegw_mock.settings import ServeSettings
from tradegw_mock.web import Cutter

__all__ = ["BinanceDoors"]


class BinanceDoors:
    """REST API, WebSocket API and streams.

    Args:
        seed: What ids that clients leave to the exchange are made from.
    """

    def __init__(self, host: Host, settings: ServeSettings, *, seed: int) -> None:
        self.api = Api(host, limits=settings.limits, listen_keys=settings.listen_keys, seed=seed)
        self._socket_api: SocketApi | None = None
        self._streams: StreamDoor | None = None

    def routes(self, cutter: Cutter) -> list[BaseRoute]:
        """Give the routes of all doors. To be called once, and before `run`."""
        self._socket_api = SocketApi(self.api, cutter)
        self._streams = StreamDoor(self.api, cutter)
        return [
            *rest_routes(self.api, cutter),
            *self._socket_api.routes(),
            *self._streams.routes(),
        ]

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Let the streams flow; on leaving, say to every WebSocket that the server goes."""
        assert self._socket_api is not None
        assert self._streams is not None
        async with self._streams.broadcast.run():
            try:
                yield
            finally:
                await asyncio.gather(self._socket_api.close(), self._streams.close())
