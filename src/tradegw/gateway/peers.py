"""Connections to other gateways on the store, kept while they are of use."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tradegw.gateway.api import Gateway

__all__ = ["Peers"]

PEERS_MAX = 64
"""Connections to other gateways that are kept. Beyond, those that nobody uses are closed."""


@dataclass(slots=True)
class _Connection:
    gateway: Gateway
    users: int = 0


class Peers:
    """Connections to other gateways, by their addresses; made when they are needed, and kept.

    Args:
        connect: Makes one. It does no I/O.
    """

    def __init__(self, connect: Callable[[str], Gateway]) -> None:
        self._connect = connect
        self._connections: dict[str, _Connection] = {}

    @asynccontextmanager
    async def use(self, address: str) -> AsyncGenerator[Gateway]:
        """Yield the gateway that listens at an address."""
        # Taken out and put at the end: the first is the one that was not used for longest.
        used = self._connections.pop(address, None) or _Connection(self._connect(address))
        self._connections[address] = used
        used.users += 1
        try:
            yield used.gateway
        finally:
            used.users -= 1
            while len(self._connections) > PEERS_MAX and (idle := self._idle()):
                await self._connections.pop(idle).gateway.aclose()

    def _idle(self) -> str | None:
        return next((a for a, one in self._connections.items() if not one.users), None)

    async def close(self) -> None:
        """Close them all."""
        while self._connections:
            _, one = self._connections.popitem()
            await one.gateway.aclose()
