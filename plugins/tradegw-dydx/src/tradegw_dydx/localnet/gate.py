"""A node's front: connections that can be cut, and a port that can go away, as networks have it.

gRPC's own server cannot cut a connection without a word, so it stands behind a relay that can.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

__all__ = ["Gate"]

_CHUNK: Final = 64 * 1024


class Gate:
    """Relays what comes to a port to the server behind it."""

    def __init__(self, host: str, inner_port: int) -> None:
        self._host = host
        self._inner_port = inner_port
        self._port = 0
        self._server: asyncio.Server | None = None
        self._clients: dict[int, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Where it listens, or would."""
        return f"{self._host}:{self._port}"

    @property
    def is_open(self) -> bool:
        """Tell whether it listens."""
        return self._server is not None

    async def open(self, port: int | None = None) -> None:
        """Listen; on the same port as before, unless one is given.

        Raises:
            OSError: The port is taken.
        """
        self._server = await asyncio.start_server(
            self._serve, self._host, self._port if port is None else port, family=socket.AF_INET
        )
        self._port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Stop listening, and cut every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._clients.values()):
            _abort(writer)

    async def close(self) -> None:
        """End for good."""
        self.shut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, peer: str) -> None:
        """Cut the connection that a call came by.

        Args:
            peer: What gRPC says of the caller, such as `ipv4:127.0.0.1:40000`: our own side's port.
        """
        port = int(peer.rpartition(":")[2])
        if port in self._clients:
            _abort(self._clients[port])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        inner: asyncio.StreamWriter | None = None
        port = 0
        try:
            inner_reader, inner = await asyncio.open_connection(self._host, self._inner_port)
            port = inner.get_extra_info("sockname")[1]
            self._clients[port] = writer
            pipes = [
                asyncio.create_task(_pipe(reader, inner)),
                asyncio.create_task(_pipe(inner_reader, writer)),
            ]
            try:
                # Whichever side ends, both do.
                await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pipe in pipes:
                    pipe.cancel()
                await asyncio.gather(*pipes, return_exceptions=True)
        except OSError:
            pass
        finally:
            self._clients.pop(port, None)
            self._tasks.discard(task)
            _abort(writer)
            if inner is not None:
                _abort(inner)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    transport = writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.abort()
