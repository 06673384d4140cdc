"""`tradegw mock serve`: the exchange in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from tradegw_mock.config import Liquidity
from tradegw_mock.host import HostSettings, open_host
from tradegw_mock.native.server import open_door

__all__ = ["ServeOptions", "Serving", "ServingAccount", "serve"]


class ServingAccount(Struct, frozen=True, kw_only=True):
    """An account that a client may use."""

    name: str


class Serving(Struct, frozen=True, kw_only=True):
    """What is served; with `--json` the first line on stdout.

    Attributes:
        native: `HOST:PORT` of the native door.
    """

    native: str
    pid: int
    accounts: list[ServingAccount]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """See `tradegw mock serve --help`."""

    host: str
    port: int
    seed: int
    store: Path | None
    liquidity: Liquidity
    accounts: tuple[str, ...]


async def serve(options: ServeOptions, announce: Callable[[Serving], None]) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is under way, end the streams and return.

    Raises:
        ExchangeError: The file cannot be used.
        Refusal: An account cannot be opened.
        OSError: The address cannot be listened on.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings = HostSettings(path=options.store, liquidity=options.liquidity, seed=options.seed)
    async with open_host(settings, clock=time.time_ns, sleep=asyncio.sleep) as host:
        for name in options.accounts:
            await host.open_account(name)
        async with open_door(host, options.host, options.port) as door:
            address, port = door.address
            shown = f"[{address}]" if ":" in address else address
            announce(
                Serving(
                    native=f"{shown}:{port}",
                    pid=os.getpid(),
                    accounts=[ServingAccount(name=name) for name in options.accounts],
                )
            )
            await stop.wait()
