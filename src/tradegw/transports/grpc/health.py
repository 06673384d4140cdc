"""The standard health service, one service name for each dependency.

`""` and `tradegw.trading.v1.TradingGateway` serve while requests are taken; `store` while its query works;
`venue:NAME` while every account at the venue takes orders. One venue that is away does not turn the whole
gateway away from callers of the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import grpc
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from typing_extensions import override

from tradegw.transports.grpc.closing import Closed, Closing
from tradegw.transports.readiness import Operations, Readiness, check, is_venue_ready

__all__ = ["Health"]

log = logging.getLogger(__name__)

TRADING: Final = "tradegw.trading.v1.TradingGateway"
REFRESH_S: Final = 0.5

_STATUS = {
    True: HealthCheckResponse.SERVING,
    False: HealthCheckResponse.NOT_SERVING,
}


class Health:
    """Keeps the health service true.

    Attributes:
        servicer: To be added to a server.
    """

    def __init__(self, operations: Operations, closing: Closing) -> None:
        self.servicer = _Servicer(closing)
        self._operations = operations
        self._told: dict[str, bool] = {}
        self._is_stopping = False

    async def refresh(self) -> None:
        """Ask every dependency, and tell what changed."""
        try:
            serving = _services(await check(self._operations))
        except Exception:
            log.exception("the state of the gateway could not be read")
            serving = dict.fromkeys({"", TRADING, *self._told}, False)
        # One that is gone from the configuration is not healthy either.
        await self._tell({**dict.fromkeys(self._told, False), **serving})

    async def keep(self) -> None:
        """Refresh twice a second, for ever."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_S)

    async def set_not_serving(self) -> None:
        """Say NOT_SERVING of everything, for good: the gateway shuts down."""
        self._is_stopping = True
        await self._tell(dict.fromkeys({"", TRADING, *self._told}, False))

    async def _tell(self, serving: Mapping[str, bool]) -> None:
        for name, is_serving in serving.items():
            told = is_serving and not self._is_stopping
            if self._told.get(name) is not told:
                self._told[name] = told
                await self.servicer.set(name, _STATUS[told])


class _Servicer(health.aio.HealthServicer):
    """The standard one, whose watchers do not hold up a server that ends."""

    def __init__(self, closing: Closing) -> None:
        super().__init__()
        self._closing = closing

    @override
    async def Watch(self, request: HealthCheckRequest, context: Any) -> None:
        with self._closing.hold():
            try:
                await self._closing.wait_for(super().Watch(request, context))
            except Closed:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the gateway shuts down")


def _services(state: Readiness) -> dict[str, bool]:
    return {
        "": not state.store_why,
        TRADING: not state.store_why,
        "store": not state.store_why,
        **{f"venue:{venue.venue}": is_venue_ready(venue) for venue in state.venues},
    }
