"""Sends requests and reads answers: keep-alive, one attempt, no redirects, bounded answers, TLS verified."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from tradegw import NotSent, OutcomeUnknown
from tradegw_rest.wire import HttpRequest, HttpResponse

__all__ = ["ANSWER_MAX", "HttpTransport", "open_http"]

ANSWER_MAX: Final = 32 * 1024 * 1024
"""Bytes of an answer, unpacked. The longest that venues give are their lists of markets."""
CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 30.0
"""A bound for questions; commands have the engine's deadline, which is shorter."""
_CHUNK: Final = 64 * 1024


class HttpTransport:
    """One venue's connections.

    Args:
        hosts: What may be connected to: hosts, with their ports where they name one.
        time_ns: The clock that answers are dated by.
    """

    def __init__(
        self, session: aiohttp.ClientSession, hosts: frozenset[str], time_ns: Callable[[], int]
    ) -> None:
        self._session = session
        self._hosts = hosts
        self._time_ns = time_ns

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send a request once, and read its answer to the end, whatever its status.

        Raises:
            NotSent: No connection came about.
            OutcomeUnknown: It may have arrived. Of a redirect only the status is read, and never followed.

        Cancellation: the request may have arrived.
        """
        host = urlsplit(request.url).netloc
        if host not in self._hosts:
            raise NotSent(f"{host} is none of the hosts of this venue", reason="HOST_NOT_ALLOWED")
        try:
            async with (
                asyncio.timeout(ANSWER_TIMEOUT_S),
                self._session.request(
                    request.method,
                    # As it was signed: what is written again might be written otherwise.
                    URL(request.url, encoded=True),
                    headers=request.headers,
                    data=request.body.encode() if request.body else None,
                    allow_redirects=False,
                ) as response,
            ):
                body = await _read(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as e:
            raise NotSent(f"no connection to {host}: {_words(e)}") from e
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            raise OutcomeUnknown(f"no answer from {host}: {_words(e)}") from e
        return HttpResponse(
            status=response.status,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=body,
            received_time_ns=self._time_ns(),
        )


@asynccontextmanager
async def open_http(
    hosts: frozenset[str], time_ns: Callable[[], int]
) -> AsyncGenerator[HttpTransport]:
    """Open connections as they are needed, and close them at the end."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
    async with aiohttp.ClientSession(
        timeout=timeout,
        connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=True,
        # What a request holds is what was signed, and nothing more.
        skip_auto_headers=("Content-Type", "User-Agent"),
        headers={"User-Agent": "tradegw"},
    ) as session:
        # aiohttp sends what it takes for idempotent a second time when a kept connection breaks. A DELETE
        # cancels an order; whether to repeat it is for the engine, which knows until when it is valid.
        session._retry_connection = False  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        yield HttpTransport(session, hosts, time_ns)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > ANSWER_MAX:
            response.close()
            raise OutcomeUnknown(f"an answer of more than {ANSWER_MAX} bytes")
    return bytes(body)


def _words(error: BaseException) -> str:
    # Never the request: its address may hold a signature.
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or ''}".rstrip(": ")
