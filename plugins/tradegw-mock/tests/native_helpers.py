"""An exchange behind a native door, and clients of it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from msgspec import Struct
from tradegw_mock.config import MockConfig
from tradegw_mock.host import Host, HostSettings, open_host
from tradegw_mock.native.protocol import encode
from tradegw_mock.native.remote import open_remote
from tradegw_mock.native.server import DoorSettings, NativeDoor, open_door

from .venue_helpers import Account, ImpatientRuntime, Runtime


class World:
    """An exchange behind a native door, its clock turned by the test."""

    def __init__(self, host: Host, door: NativeDoor, runtime: Runtime) -> None:
        self.host = host
        self.door = door
        self.runtime = runtime

    @property
    def now_ns(self) -> int:
        return self.runtime.now_ns

    @now_ns.setter
    def now_ns(self, now_ns: int) -> None:
        self.runtime.now_ns = now_ns

    @property
    def url(self) -> str:
        address, port = self.door.address
        return f"{address}:{port}"


@asynccontextmanager
async def a_world(
    *, door: DoorSettings | None = None, liquidity: Any = "none", port: int = 0, **more: Any
) -> AsyncGenerator[World]:
    runtime = Runtime()
    served = HostSettings(liquidity=liquidity, **more)
    async with open_host(served, clock=runtime.time_ns, sleep=runtime.sleep) as host:
        async with open_door(host, "127.0.0.1", port, settings=door) as opened:
            yield World(host, opened, runtime)


@asynccontextmanager
async def remote(url: str, name: str = "paper") -> AsyncGenerator[Account]:
    runtime = ImpatientRuntime(account=name)
    async with open_remote(MockConfig(url=url), runtime, rng=random.Random(1)) as venue:
        yield Account(venue, runtime)


class Wire:
    """A client that says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self) -> Any:
        async with asyncio.timeout(20):
            line = await self.reader.readline()
        return json.loads(line) if line else None

    async def ask(self, line: bytes | Struct) -> Any:
        self.writer.write(encode(line) if isinstance(line, Struct) else line)
        return await self.read()


@asynccontextmanager
async def a_wire(world: World) -> AsyncGenerator[Wire]:
    reader, writer = await asyncio.open_connection(*world.door.address, limit=2**24)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
