"""A proxy before Postgres that cuts connections where a test says, around the next COMMIT, or is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from urllib.parse import urlsplit, urlunsplit

_COMMIT = b"COMMIT\0"


class Cut(Enum):
    """What happens to the next COMMIT."""

    BEFORE = auto()
    """The server never sees it: both ends are cut."""
    AFTER = auto()
    """The server carries it out, and its answer is lost."""
    LATE = auto()
    """The client is cut; the server gets it when the test says so. Then it is cut, too."""


class Proxy:
    """Passes bytes on.

    Attributes:
        url: Of the server, through the proxy.
        next_cut: What happens to the next COMMIT; done once.
        is_refusing: Cuts whoever connects, and when a COMMIT is cut also those who are connected.
        refused: Released for each of them.
        commits: How many were passed on.
        speaks: Cleared, it takes connections and bytes, as the kernel of a stopped server does, and passes
            nothing on until it is set again.
        falls_silent_at: Bytes from a client at which it ceases to speak; None for none.
        swallowed: Set once it has taken something in silence.
    """

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._parts = parts
        self.url = ""
        self.next_cut: Cut | None = None
        self.is_refusing = False
        self.refused = asyncio.Semaphore(0)
        self.commits = 0
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.falls_silent_at: bytes | None = None
        self.swallowed = asyncio.Event()
        self.late = asyncio.Event()
        self.was_cut = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.is_refusing:
            self.refused.release()
            writer.transport.abort()
            return
        await self._may_speak()
        there, here = await asyncio.open_connection(*self._server)
        ends = {writer, here}
        self._writers |= ends
        answers = asyncio.ensure_future(self._pass_on(there, writer))
        try:
            with suppress(ConnectionError):
                while piece := await reader.read(65_536):
                    await self._may_speak(piece)
                    if _COMMIT in piece:
                        cut, self.next_cut = self.next_cut, None
                        if cut is not None:
                            answers.cancel()
                            await asyncio.wait([answers])
                            await self._cut(cut, piece, there, here, writer)
                            break
                        self.commits += 1
                    here.write(piece)
                    await here.drain()
        finally:
            for end in ends:
                end.transport.abort()
            self._writers -= ends
            await asyncio.wait([answers])

    async def _cut(
        self,
        cut: Cut,
        piece: bytes,
        there: asyncio.StreamReader,
        here: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> None:
        if self.is_refusing:
            self.cut_all(but=here)
        if cut is not Cut.AFTER:
            writer.transport.abort()
            self.was_cut.set()
        if cut is Cut.BEFORE:
            return
        if cut is Cut.LATE:
            await self.late.wait()
        with suppress(OSError):  # Unless it has ended before.
            here.write(piece)
            here.write_eof()
            while await there.read(65_536):
                pass  # The server ends when it has carried out what it was asked.
        writer.transport.abort()
        self.was_cut.set()

    async def _may_speak(self, piece: bytes = b"") -> None:
        if self.falls_silent_at is not None and self.falls_silent_at in piece:
            self.falls_silent_at = None
            self.speaks.clear()
        if not self.speaks.is_set():
            self.swallowed.set()
            await self.speaks.wait()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                await self.speaks.wait()
                writer.write(piece)
                await writer.drain()
            writer.close()

    def cut_all(self, *, but: asyncio.StreamWriter | None = None) -> None:
        """Cut every connection, wherever it stands; one of them may keep its way to the server."""
        for writer in self._writers - {but}:
            writer.transport.abort()


@asynccontextmanager
async def proxy_to(server_url: str) -> AsyncGenerator[Proxy]:
    """Yield a proxy that listens on a free port."""
    proxy = Proxy(server_url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    parts = proxy._parts
    proxy.url = urlunsplit(
        parts._replace(
            netloc=f"{parts.username or 'postgres'}@127.0.0.1:{port}", query="sslmode=disable"
        )
    )
    try:
        yield proxy
    finally:
        proxy.late.set()
        server.close()
        proxy.speaks.set()
        while proxy._tasks:
            # Once more after a moment: one that was silent is connected only now.
            proxy.cut_all()
            await asyncio.wait(proxy._tasks, timeout=0.1)
