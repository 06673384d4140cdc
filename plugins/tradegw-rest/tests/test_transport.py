"""The transport: one attempt, no redirect, bounded answers, and no doubt about what may have arrived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tradegw_rest import HttpRequest, HttpResponse
from tradegw_rest import transport as transport_module
from tradegw_rest.config import RestConfig
from tradegw_rest.transport import HttpTransport, open_http

from tradegw import NotSent, OutcomeUnknown

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Used: 7\r\n\r\n{}"


class Server:
    """Speaks HTTP by hand, so that it can fail in any place."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.answers: list[bytes | None] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                self.heard.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if self.answers else OK
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def request(self, method: str = "POST", path: str = "/x", **fields: Any) -> HttpRequest:
        return HttpRequest(
            method=method, url=f"http://127.0.0.1:{self.port}{path}", headers={}, **fields
        )


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as listening:
        made.port = listening.sockets[0].getsockname()[1]
        yield made
        listening.close()


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[HttpTransport]:
    async with open_http(frozenset({f"127.0.0.1:{server.port}"}), lambda: 5) as transport:
        yield transport


async def test_what_was_signed_is_what_is_sent(server: Server) -> None:
    async with connected(server) as transport:
        answer = await transport.send(
            server.request(path="/a/b%2Fc?q=a%20b+c~&z=%C3%A9", body="x=1&y=%7E")
        )
    assert answer == HttpResponse(
        status=200,
        headers={"content-length": "2", "x-used": "7"},
        body=b"{}",
        received_time_ns=5,
    )
    (heard,) = server.heard
    assert heard.startswith(b"POST /a/b%2Fc?q=a%20b+c~&z=%C3%A9 HTTP/1.1\r\n")
    assert heard.endswith(b"\r\n\r\nx=1&y=%7E")
    assert b"content-type" not in heard.lower()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_nothing_is_repeated_where_a_kept_connection_breaks(
    server: Server, method: str
) -> None:
    async with connected(server) as transport:
        await transport.send(server.request())
        server.answers.append(None)
        with pytest.raises(OutcomeUnknown):
            await transport.send(server.request(method))
    assert [one.split(b" ", 1)[0].decode() for one in server.heard] == ["POST", method]


async def test_a_redirect_is_an_answer_and_is_not_followed(server: Server) -> None:
    server.answers.append(
        b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:9/y\r\nContent-Length: 0\r\n\r\n"
    )
    async with connected(server) as transport:
        assert (await transport.send(server.request())).status == 307
    assert len(server.heard) == 1


async def test_only_the_hosts_of_the_venue_are_connected_to(server: Server) -> None:
    async with open_http(frozenset({"127.0.0.1:1"}), lambda: 5) as transport:
        with pytest.raises(NotSent) as caught:
            await transport.send(server.request())
    assert caught.value.reason == "HOST_NOT_ALLOWED"
    assert server.heard == []


async def test_nobody_there_got_nothing(server: Server) -> None:
    request = server.request()
    async with connected(server) as transport:
        server.port = 1
        async with open_http(frozenset({"127.0.0.1:1"}), lambda: 5) as other:
            with pytest.raises(NotSent):
                await other.send(server.request())
        assert (await transport.send(request)).status == 200


async def test_an_answer_that_breaks_off_or_never_ends_says_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(server) as transport:
        server.answers += [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", None]
        monkeypatch.setattr(transport_module, "ANSWER_TIMEOUT_S", 0.3)
        with pytest.raises(OutcomeUnknown):
            await transport.send(server.request())
        monkeypatch.undo()
        monkeypatch.setattr(transport_module, "ANSWER_MAX", 10)
        server.answers[:] = [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + b"x" * 99]
        with pytest.raises(OutcomeUnknown, match="more than 10 bytes"):
            await transport.send(server.request())


async def test_no_error_holds_the_address_that_was_signed(server: Server) -> None:
    server.answers.append(None)
    async with connected(server) as transport:
        with pytest.raises(OutcomeUnknown) as caught:
            await transport.send(server.request(path="/x?signature=secret"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"rest_url": "http://api.example.com"}, "https://"),
        ({"rest_url": "ftp://127.0.0.1"}, "https://"),
        ({"rest_url": "https://api.example.com/v1"}, "without a path"),
        ({"rest_url": "https://user:word@api.example.com"}, "HOST"),
        ({"stream_url": "ws://stream.example.com/ws"}, "wss://"),
        ({"stream_url": "https://stream.example.com/ws"}, "wss://"),
        ({"definition": ""}, "definition"),
    ],
)
def test_what_is_not_encrypted_stays_on_this_machine(fields: dict[str, str], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        RestConfig(**({"definition": "binance-spot"} | fields))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8100", "http://localhost:8100", "http://[::1]:8"]
)
def test_a_server_on_this_machine_needs_no_encryption(url: str) -> None:
    assert RestConfig(definition="binance-spot", rest_url=url).rest_url == url
