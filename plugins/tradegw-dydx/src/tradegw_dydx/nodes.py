"""The nodes of the chain: one gRPC call, several nodes, deadlines, health by height, failover.

A call that is not answered in its node's time goes to the next node. A transaction goes there as the same
signed bytes, and what each node said of it is remembered: a node that refused a transaction once answers
"already in cache" ever after.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import grpc
import grpc.aio
from google.protobuf.message import Message

from tradegw import VenueError
from tradegw_dydx.outcomes import Attempt, Verdict
from tradegw_dydx.tx import SignedTx
from tradegw_dydx.wire.messages import (
    BroadcastTxRequest,
    BroadcastTxResponse,
    GetLatestBlockRequest,
    GetLatestBlockResponse,
)

__all__ = ["BEHIND_BLOCKS", "NoNodeAnswers", "NodeNotFound", "Nodes", "open_nodes"]

log = logging.getLogger(__name__)

BEHIND_BLOCKS: Final = 5
"""A node that is so far behind the best is asked last."""
REMEMBERED_MAX: Final = 10_000
"""Transactions whose verdicts are remembered; at ten a second a quarter of an hour, far beyond any resend."""
_SYNC: Final = 2
_HEIGHT_HEADER: Final = "x-cosmos-block-height"
_BROADCAST: Final = "/cosmos.tx.v1beta1.Service/BroadcastTx"
_LATEST_BLOCK: Final = "/cosmos.base.tendermint.v1beta1.Service/GetLatestBlock"
_ELSEWHERE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Status codes that say something of the node, not of what was asked."""
_NO_CONNECTION: Final = "failed to connect to all addresses"
"""gRPC's words when the call never had a connection to leave by."""
_ELSEWHERE_VERDICTS: Final = frozenset({"sdk/20", "clob/47"})
"""Verdicts about the node: mempool full, order book not built up yet. Another may take the same bytes."""

ResponseT = TypeVar("ResponseT", bound=Message)


class NoNodeAnswers(VenueError):
    """Every node was asked, and none answered in its time."""

    reason = "VENUE_UNAVAILABLE"


class NodeNotFound(VenueError):
    """A node answered that there is no such thing."""

    reason = "NOT_FOUND"


@dataclass(slots=True, kw_only=True)
class Node:
    """One node, and what is known of its health.

    Attributes:
        height: The last that it told, with any answer.
        chain_id: The chain that it is of, once it said. One of another chain is never asked again.
        failures: Calls in a row that it did not answer.
    """

    address: str
    channel: grpc.aio.Channel
    height: int = 0
    failures: int = 0
    chain_id: str = ""


@dataclass(slots=True, kw_only=True)
class ChainHead:
    """The newest block that a node told of."""

    height: int = 0
    time_ns: int = 0


@dataclass(slots=True)
class Nodes:
    """All nodes of one chain. Used on one event loop; nothing here blocks it."""

    nodes: list[Node]
    timeout_s: float
    chain_id: str = ""
    head: ChainHead = field(default_factory=ChainHead)
    _sent: OrderedDict[str, list[Attempt]] = field(default_factory=OrderedDict[str, list[Attempt]])

    def ranked(self) -> list[Node]:
        """Return the nodes, best first: those that answer and keep up, in the order that they were given."""
        own = [node for node in self.nodes if not self._is_foreign(node)]
        best = max((node.height for node in own), default=0)
        return sorted(
            own,
            key=lambda n: (n.failures > 0, n.height < best - BEHIND_BLOCKS, n.failures),
        )

    def _is_foreign(self, node: Node) -> bool:
        return bool(self.chain_id and node.chain_id) and node.chain_id != self.chain_id

    async def ask(self, method: str, request: Message, response: type[ResponseT]) -> ResponseT:
        """Ask one node after the other until one answers.

        Raises:
            NodeNotFound: A node answered that there is none.
            NoNodeAnswers: None did.
            VenueError: A node refused the question.
        """
        errors: list[str] = []
        for node in self.ranked():
            try:
                return await self._call(node, method, request, response)
            except grpc.aio.AioRpcError as e:
                if e.code() is grpc.StatusCode.NOT_FOUND:
                    raise NodeNotFound(str(e.details())) from e
                if e.code() not in _ELSEWHERE:
                    raise VenueError(
                        f"{method} at {node.address}: {e.code().name}: {e.details()}",
                        reason=e.code().name,
                    ) from e
                errors.append(f"{node.address}: {e.code().name}: {e.details()}")
        raise NoNodeAnswers(f"{method}: no node answers: {'; '.join(errors)}")

    async def broadcast(self, tx: SignedTx) -> Sequence[Attempt]:
        """Send a transaction until a node says what it thinks of it, and return all that was ever tried.

        The same bytes go to each node once; in a later call again to those that did not answer.

        Cancellation: it may have been sent; the attempt stays remembered as one without an answer.
        """
        attempts = self._sent.setdefault(tx.hash, [])
        self._sent.move_to_end(tx.hash)
        while len(self._sent) > REMEMBERED_MAX:
            self._sent.popitem(last=False)
        answered = {attempt.node for attempt in attempts if attempt.verdict is not None}
        request = BroadcastTxRequest(tx_bytes=tx.tx_bytes, mode=_SYNC)
        for node in self.ranked():
            if any(_is_decided(attempt) for attempt in attempts):
                break
            if node.address in answered:
                continue
            # Noted before it is sent: whatever happens, we know that we tried.
            attempts.append(Attempt(node=node.address, verdict=None))
            attempts[-1] = await self._send_to(node, request)
        return tuple(attempts)

    async def _send_to(self, node: Node, request: BroadcastTxRequest) -> Attempt:
        try:
            answer = await self._call(node, _BROADCAST, request, BroadcastTxResponse)
        except grpc.aio.AioRpcError as e:
            details = e.details() or ""
            return Attempt(
                node=node.address,
                verdict=None,
                is_unsent=e.code() is grpc.StatusCode.UNAVAILABLE and _NO_CONNECTION in details,
                error=f"{e.code().name}: {details}",
            )
        told = answer.tx_response
        return Attempt(
            node=node.address,
            verdict=Verdict(codespace=told.codespace, code=told.code, log=told.raw_log),
        )

    async def look(self) -> None:
        """Ask every node for its newest block, and so learn which are well."""
        await asyncio.gather(*(self.look_at(node) for node in self.nodes))

    async def look_at(self, node: Node) -> None:
        """Ask one node for its newest block; whether it answers, its failures tell."""
        try:
            block = await self._call(
                node, _LATEST_BLOCK, GetLatestBlockRequest(), GetLatestBlockResponse
            )
        except grpc.aio.AioRpcError as e:
            log.debug("node %s: %s", node.address, e.code())
            return
        header = block.block.header
        node.chain_id = header.chain_id
        if self._is_foreign(node):
            log.error("ALARM node %s is of chain %s: never used", node.address, node.chain_id)
            return
        node.height = max(node.height, header.height)
        if header.height >= self.head.height:
            self.head.height = header.height
            self.head.time_ns = header.time.seconds * 1_000_000_000 + header.time.nanos

    async def _call(
        self, node: Node, method: str, request: Message, response: type[ResponseT]
    ) -> ResponseT:
        ask = node.channel.unary_unary(
            method,
            request_serializer=_serialize,
            response_deserializer=response.FromString,
        )
        call = ask(request, timeout=self.timeout_s)
        try:
            answer: ResponseT = await call
        except grpc.aio.AioRpcError as e:
            if e.code() in _ELSEWHERE:
                node.failures += 1
            raise
        node.failures = 0
        self._note_height(node, await call.initial_metadata())
        return answer

    def _note_height(self, node: Node, metadata: Any) -> None:
        if node.chain_id != self.chain_id and self.chain_id:
            # Of which chain this height is, has not been said.
            return
        for key, value in metadata or ():
            if key == _HEIGHT_HEADER and str(value).isdigit():
                node.height = max(node.height, int(value))
                # Its time is learned with the next look; an older one claims less.
                self.head.height = max(self.head.height, node.height)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _is_decided(attempt: Attempt) -> bool:
    return attempt.verdict is not None and attempt.verdict.key not in _ELSEWHERE_VERDICTS


@asynccontextmanager
async def open_nodes(
    addresses: Sequence[str], *, timeout_s: float, chain_id: str = ""
) -> AsyncGenerator[Nodes]:
    """Open a channel to each node. Nothing is sent before the first call.

    Args:
        chain_id: Nodes of another chain are not used; empty means that any will do.
    """
    nodes = [Node(address=address, channel=_channel(address)) for address in addresses]
    try:
        yield Nodes(nodes, timeout_s, chain_id)
    finally:
        await asyncio.gather(*(node.channel.close() for node in nodes))


def _channel(address: str) -> grpc.aio.Channel:
    url = urlsplit(address if "://" in address else f"//{address}")
    is_plain = url.scheme == "http" or (
        not url.scheme and url.hostname in ("127.0.0.1", "localhost", "::1")
    )
    options = (
        # A node that went away is tried again within seconds, not minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.keepalive_time_ms", 30_000),
    )
    if is_plain:
        return grpc.aio.insecure_channel(url.netloc, options=options)
    target = url.netloc if url.port else f"{url.netloc}:443"
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=options)
