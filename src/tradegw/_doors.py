"""The two ways to a gateway. What they need is imported when they are called, to keep start-up fast."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tradegw.gateway.api import Gateway

__all__ = ["connect", "open"]


@asynccontextmanager
async def open(  # noqa: A001  `tradegw.open(...)` is how it reads best.
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    plugins: Sequence[object] = (),
    ready_timeout_s: float = 10.0,
) -> AsyncGenerator[Gateway]:
    """Open a gateway in this process.

    Args:
        config: A TOML file, or the same as a mapping. Without it: `tradegw.toml` in the working directory
            if there is one, else the mock exchange with the funded account `paper` and a record in
            `tradegw.db`.
        plugins: Further plugins, beside the installed ones.
        ready_timeout_s: How long to wait until every account takes orders. One that does not by then is
            served all the same, and says `Unavailable` with why.

    Raises:
        ConfigError: The configuration is wrong; the text names the key.
        StoreError: The store cannot be used: in use, corrupt, newer than this program, read-only.

    Leaving it takes no new orders, waits for answers (`gateway.drain_s`), and marks the rest in doubt.
    """
    from tradegw.gateway.open import open_gateway

    async with open_gateway(
        config, plugins=plugins, ready_timeout_s=ready_timeout_s, connect=_connect_peer
    ) as gateway:
        yield gateway


@asynccontextmanager
async def connect(
    target: str = "127.0.0.1:50051", *, timeout_s: float = 30.0
) -> AsyncGenerator[Gateway]:
    """Connect to a gateway that is served elsewhere (`tradegw serve`).

    Args:
        target: `HOST:PORT` of its gRPC door.
        timeout_s: How long a call is repeated, with the same key, while the gateway is unavailable.

    Raises:
        Unavailable: From a call, not from here: the gateway could not be reached in time. Whether it was
            carried out is unknown; ask again with the same key.
    """
    from tradegw.transports.grpc.client import connect as connect_grpc

    async with connect_grpc(target, timeout_s=timeout_s) as gateway:
        yield gateway


def _connect_peer(address: str) -> Gateway:
    from tradegw.transports.grpc.peer import Peer

    return Peer(address)
