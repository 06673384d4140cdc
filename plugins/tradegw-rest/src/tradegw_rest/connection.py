"""Holds a private stream's connection: sends what the session says, hands it what comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tradegw import VenueError
from tradegw.venue import StreamItem
from tradegw_rest.streams import Received, StreamRecipe, StreamSession

__all__ = ["MESSAGE_MAX", "run_connection"]

MESSAGE_MAX: Final = 4 * 1024 * 1024
OPEN_TIMEOUT_S: Final = 10.0


class _Connect(connect):
    """Connects where it was told to, and nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Follow no redirect: the login would go to whoever sent it."""
        return exc


async def run_connection(
    url: str,
    session: StreamSession,
    recipe: StreamRecipe,
    *,
    hosts: frozenset[str],
    headers: tuple[tuple[str, str], ...],
    time_ns: Callable[[], int],
) -> AsyncIterator[StreamItem]:
    """Yield what one connection tells, until it ends.

    Raises:
        VenueError: Why it ended. The next one begins with a new session.
        TranslationError: A message that should be understood is not.
    """
    host = urlsplit(url).netloc
    if host not in hosts:
        raise VenueError(f"{host} is none of the hosts of this venue", reason="HOST_NOT_ALLOWED")
    try:
        async with _Connect(
            url,
            additional_headers=list(headers),
            user_agent_header="tradegw",
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=2.0,
            ping_interval=20.0,
            ping_timeout=20.0,
            max_size=MESSAGE_MAX,
            proxy=None,
        ) as socket:
            async for received in _messages(socket, session, recipe, time_ns):
                for item in received.items:
                    yield item
                if received.again:
                    raise VenueError(received.again, reason="STREAM_ENDED")
    except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError) as e:
        raise VenueError(
            f"the stream at {host} ended: {type(e).__name__}", reason="STREAM_ENDED"
        ) from e


async def _messages(
    socket: ClientConnection,
    session: StreamSession,
    recipe: StreamRecipe,
    time_ns: Callable[[], int],
) -> AsyncIterator[Received]:
    loop = asyncio.get_running_loop()
    begun = heard = said = loop.time()
    received = session.start()
    while True:
        for text in received.send:
            await socket.send(text)
            said = loop.time()
        yield received
        deadlines = [heard + recipe.silence_s]
        if recipe.heartbeat_s is not None:
            deadlines.append(said + recipe.heartbeat_s)
        if recipe.lifetime_s is not None:
            deadlines.append(begun + recipe.lifetime_s)
        try:
            async with asyncio.timeout_at(min(deadlines)):
                # Receiving may be cancelled: nothing is lost.
                message = await socket.recv()
        except TimeoutError:
            received = _on_time(session, recipe, begun=begun, heard=heard, now=loop.time())
        else:
            heard = loop.time()
            received = session.receive(message, received_time_ns=time_ns())


def _on_time(
    session: StreamSession, recipe: StreamRecipe, *, begun: float, heard: float, now: float
) -> Received:
    if now >= heard + recipe.silence_s:
        return Received(again=f"nothing came for {recipe.silence_s:g} s")
    if recipe.lifetime_s is not None and now >= begun + recipe.lifetime_s:
        return Received(again=f"it stood for {recipe.lifetime_s:g} s")
    beat = session.heartbeat()
    return Received(send=() if beat is None else (beat,))
