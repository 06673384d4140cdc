"""How one gateway asks another on the same store: once, in the name of whoever asked it."""

from __future__ import annotations

import secrets
from typing import Any, TypeVar

import grpc
import grpc.aio
from typing_extensions import override

from tradegw.errors import Unavailable
from tradegw.gateway import REQUEST
from tradegw.transports.grpc.client import RemoteGateway
from tradegw.transports.grpc.errors import FORWARDED, REQUEST_ID
from tradegw.transports.grpc.retry import OUTCOME_UNKNOWN, Attempts, Lost, translate

__all__ = ["Peer"]

MessageT = TypeVar("MessageT")


class Peer(RemoteGateway):
    """Another gateway on our store. Each call is made once: repeating is up to whoever asked us.

    A call whose answer is lost raises `Unavailable` with reason `OUTCOME_UNKNOWN`: the same request with the
    same key is safe, wherever it is taken then.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target, timeout_s=0.0)

    @override
    async def _repeat(
        self,
        attempts: Attempts,
        method: grpc.aio.UnaryUnaryMultiCallable[Any, MessageT],
        request: Any,
    ) -> MessageT:
        self._check_open()
        try:
            # Without a deadline of its own: it ends with whoever waits for it.
            return await method(request, metadata=_metadata())
        except grpc.aio.AioRpcError as e:
            error = translate(e)
            if isinstance(error, Lost):
                raise Unavailable(
                    f"the gateway at {self.target} was asked, and its answer was lost: {error}; ask "
                    "again with the same key",
                    reason=OUTCOME_UNKNOWN,
                ) from e
            raise error from e


def _metadata() -> tuple[tuple[str, str], ...]:
    asked = REQUEST.get()
    metadata = [(FORWARDED, "1")]
    if asked.request_id:
        metadata.append((REQUEST_ID, asked.request_id))
    if asked.trace_id:
        # A span of ours within the caller's trace.
        metadata.append(("traceparent", f"00-{asked.trace_id}-{secrets.token_hex(8)}-01"))
    return tuple(metadata)
