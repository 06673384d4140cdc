"""RabbitMQ for tests: the broker of the environment with names of one's own, and a broker of one's own.

The first is named by `TRADEGW_TEST_AMQP_URL`, or listens on the standard port, and is never stopped: what
cuts connections, or speaks TLS, is a proxy before it. The second is started from what the machine has, to be
stopped and started again.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import aio_pika
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from deploy.processes import Processes, StackError
from deploy.servers import answers, start_rabbitmq
from examples.rabbitmq_positions import Positions
from tradegw.events.v1 import events_pb2

URL = os.environ.get("TRADEGW_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
DELAYS = [0.1, 0.2]
SLOW_START_S = 180.0
_DAY = dt.timedelta(days=1)


def unavailable(why: object) -> NoReturn:
    """Skip the test, or fail it under CI."""
    if os.environ.get("TRADEGW_REQUIRE_SERVICES") == "1":
        pytest.fail(f"RabbitMQ is needed here: {why}")
    pytest.skip(f"no RabbitMQ: {why}")


class Broker:
    """A channel to a broker, and the prefix of what belongs to the test there."""

    def __init__(self, channel: Any, prefix: str) -> None:
        self.channel, self.prefix = channel, prefix

    async def queue(self, *exchanges: str, name: str | None = None) -> Any:
        """Make a queue that takes everything from some exchanges; with a name it is durable."""
        queue = await (
            self.channel.declare_queue(exclusive=True)
            if name is None
            else self.channel.declare_queue(f"{self.prefix}{name}", durable=True)
        )
        for exchange_name in exchanges:
            exchange = await self.channel.declare_exchange(
                self.prefix + exchange_name, "topic", durable=True
            )
            await queue.bind(exchange, "#")
        return queue

    async def command(self, body: bytes, **properties: Any) -> None:
        """Put a command into the queue."""
        message = aio_pika.Message(body, **properties)
        await self.channel.default_exchange.publish(message, f"{self.prefix}orders.commands.v1")

    async def dead_letters(self) -> Any:
        """Return the queue of dead letters."""
        return await self.channel.declare_queue(
            f"{self.prefix}orders.commands.v1.dead", durable=True
        )


def config(broker: Broker, **options: Any) -> dict[str, Any]:
    """Return the configuration of a gateway in memory that publishes to a broker."""
    rabbit = {"plugin": "rabbitmq", "url": "env:TEST_AMQP", "prefix": broker.prefix}
    return {
        "store": {"url": "memory://"},
        "sinks": {"rabbit": {**rabbit, "retry_delays_s": DELAYS, **options}},
    }


async def messages(queue: Any, until: Callable[[list[Any]], bool]) -> list[Any]:
    """Take messages until there are enough."""
    got: list[Any] = []
    async with asyncio.timeout(20), queue.iterator() as items:
        async for message in items:
            await message.ack()
            got.append(message)
            if until(got):
                return got
    raise AssertionError("the queue ended")


def event(message: Any) -> events_pb2.Event:
    """Read a message."""
    return events_pb2.Event.FromString(message.body)


def place(name: str = "c1", symbol: str = "BTC/USDT", qty: str = "0.01") -> bytes:
    """Write a command that places an order."""
    command = events_pb2.Command()
    order = command.place_order.order
    order.account, order.symbol, order.client_order_id = "paper", symbol, name
    order.side, order.order_qty = 1, qty  # type: ignore[assignment]
    order.market.SetInParent()
    return command.SerializeToString()


class Reader:
    """A consumer that counts each message once, by its id, as consumers should.

    Attributes:
        events: In the order in which they were seen first.
        repeated: Messages that it had had.
        positions: What the example of the guide makes of the same messages.
    """

    def __init__(self) -> None:
        self.events: list[events_pb2.Event] = []
        self.repeated = 0
        self.positions = Positions()
        self._seen: set[str] = set()

    async def read(self, queue: Any) -> None:
        """Take messages until cancelled, or until the connection is lost."""
        async with queue.iterator() as items:
            async for message in items:
                self.take(message)
                await message.ack()

    def take(self, message: Any) -> None:
        """Take one message."""
        self.positions.take(message.body)
        if message.message_id in self._seen:
            self.repeated += 1
            return
        self._seen.add(message.message_id)
        self.events.append(event(message))

    def has_all(self, last: int) -> bool:
        """Whether every event up to a number was seen."""
        return {e.seq for e in self.events} >= set(range(1, last + 1))

    def check(self, last: int) -> None:
        """Hold what was seen to the stream: every event once, and those of one order in their order."""
        assert sorted(e.seq for e in self.events) == list(range(1, last + 1))
        by_order: defaultdict[str, list[int]] = defaultdict(list)
        for e in self.events:
            by_order[e.order_id].append(e.seq)
        for order_id, seqs in by_order.items():
            assert seqs == sorted(seqs), order_id


class Proxy:
    """Stands before the broker; may cut every connection and refuse new ones, and speak TLS.

    Attributes:
        port: Of 127.0.0.1; the same after a cut.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Of the broker, through the proxy."""
        to = urlsplit(URL)
        scheme = "amqp" if self._tls is None else "amqps"
        return f"{scheme}://{to.username}:{to.password}@localhost:{self.port}{to.path}"

    async def open(self) -> None:
        """Let clients in."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Cut every connection, and let nobody in."""
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = urlsplit(URL)
        there, out = await asyncio.open_connection(to.hostname, to.port or 5672)
        self._writers |= {writer, out}
        await asyncio.gather(self._pipe(reader, out), self._pipe(there, writer))
        self._writers -= {writer, out}

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


# --- a broker of one's own ------------------------------------------------------------------------


class Node:
    """A broker that can be stopped and started again at the same address.

    Attributes:
        url: As somebody who may do everything.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        names = ("rabbitmq", "rabbitmq_dist", "epmd")
        self._ports = dict(zip(names, _free_ports(len(names)), strict=True))
        self._running = Processes(folder)
        self.url = f"amqp://guest:guest@127.0.0.1:{self._ports['rabbitmq']}/"
        # How full the machine's disk is is not the test's matter: little is written here.
        (folder / "rabbitmq.conf").write_text("disk_free_limit.absolute = 1MB\n", "utf-8")

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            StackError: It is not installed, or does not start.
        """
        try:
            if not start_rabbitmq(self._running, self._folder, self._folder, self._ports):
                raise StackError("rabbitmq-server is not installed")
        except StackError:
            # Starting takes it seconds of work, which a busy machine turns into minutes.
            if "rabbitmq" not in self._running.running():
                raise
            self._running.wait("rabbitmq", self._answers, SLOW_START_S)

    def _answers(self) -> bool:
        # Its greeting, Connection.Start, is a frame of type 1.
        return answers(self._ports["rabbitmq"], b"AMQP\x00\x00\x09\x01").startswith(b"\x01")

    def stop(self) -> None:
        """Cut every connection and stop it in order. What is durable is there at the next start."""
        self._running.stop()


@contextmanager
def own_node(folder: Path) -> Generator[Node]:
    """Run a broker in a folder; skip the test, or fail under CI, where none can be had."""
    node = Node(folder)
    try:
        try:
            node.start()
        except StackError as e:
            unavailable(e)
        yield node
    finally:
        node.stop()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as open_ones:
        probes = [open_ones.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


# --- TLS ------------------------------------------------------------------------------------------


def write_certificates(folder: Path) -> ssl.SSLContext:
    """Write `ca.pem`, and `other.pem`, of an authority that signed nothing here.

    Returns what a server called `localhost` needs, whose certificate the first signed.
    """
    ca_key, ca = _certificate("a test's authority")
    key, server = _certificate("localhost", by=(ca_key, ca))
    _, other = _certificate("another authority")
    for name, certificate in (("ca.pem", ca), ("server.pem", server), ("other.pem", other)):
        (folder / name).write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


def _certificate(
    name: str, by: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by[1].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if by is not None:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False
        )
    return key, builder.sign(key if by is None else by[0], hashes.SHA256())
