"""What is the same for every call: its id and trace, its errors, its log line, its figures.

One layer, because each costs: a handler is wrapped once, at its first call, and every later call pays for
nothing but the work itself.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import uuid4

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from tradegw.errors import InvalidOrder
from tradegw.gateway import REQUEST, REQUEST_NAME, Request
from tradegw.transports.grpc.errors import FORWARDED, REQUEST_ID, Failure, describe
from tradegw.transports.grpc.figures import Observe

__all__ = ["Context", "Interceptor", "Interrupted", "Unreadable"]

log = logging.getLogger(__name__)

OURS: Final = "/tradegw."
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?",
    re.ASCII,
)

_OURS_TO_MEND: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}

Context = grpc.aio.ServicerContext[Any, Any]
Unary = Callable[[Any, Context], Awaitable[Any]]
Stream = Callable[[Any, Context], AsyncIterator[Any]]
Deserializer = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a message of a stream that is no message of its type."""

    error: InvalidOrder


class Interceptor(grpc.aio.ServerInterceptor):
    """Gives each call of our services an id, a trace, an honest error, a log line, a place in the figures.

    The id comes back in the trailing metadata of every call. In the initial metadata it comes back for
    streams, and for unary calls that brought one: sending it ahead of an answer is one more write for each
    call, a fifth of what a bare call costs the server.
    """

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the wrapped handler of a method; None for one that nobody serves."""
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is not None:
            return handler
        bare = await continuation(handler_call_details)
        # None is not kept, or callers could fill the memory with names.
        if bare is None or not method.startswith(OURS):
            return bare
        handler = self._handlers[method] = self._wrap(method, bare)
        return handler

    def _wrap(
        self, method: str, bare: grpc.RpcMethodHandler[Any, Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        name = method.rpartition("/")[2]
        parse: Deserializer = bare.request_deserializer  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        write: Any = bare.response_serializer
        if bare.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                cast("Any", self._stream(name, cast("Any", bare.stream_stream), None)),
                request_deserializer=lambda raw: _parse_member(raw, parse),
                response_serializer=write,
            )
        # The request stays bytes until we have it: what cannot be parsed is an error with a reason, too.
        if bare.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                cast("Any", self._stream(name, cast("Any", bare.unary_stream), parse)),
                response_serializer=write,
            )
        return grpc.unary_unary_rpc_method_handler(
            cast("Any", self._unary(name, cast("Any", bare.unary_unary), parse)),
            response_serializer=write,
        )

    def _unary(self, name: str, answer: Unary, parse: Deserializer) -> Unary:
        observe = self._observe
        now = time.perf_counter

        async def unary(raw: bytes, context: Context) -> Message:
            started = now()
            request, echo = _identify(context)
            # The call has a task of its own: nothing has to be put back.
            REQUEST.set(request)
            metadata = ((REQUEST_ID, request.request_id),)
            context.set_trailing_metadata(metadata)
            code = "OK"
            try:
                if echo:
                    await context.send_initial_metadata(metadata)
                response: Message = await answer(_parse(raw, parse), context)
                return response
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except grpc.aio.AbortError:
                code = context.code().name
                raise
            except Exception as e:  # noqa: BLE001  The last stop of whatever goes wrong; it is logged.
                failure = _explain(name, request, e)
                code = failure.code.name
                await context.abort(failure.code, failure.text, failure.trailing_metadata)
            finally:
                took = now() - started
                observe(name, code, took)
                if log.isEnabledFor(logging.DEBUG):
                    _log(name, code, request, took)

        return unary

    def _stream(self, name: str, answer: Stream, parse: Deserializer | None) -> Unary:
        async def stream(request: Any, context: Context) -> None:
            started = time.perf_counter()
            who, _ = _identify(context)
            REQUEST.set(who)
            metadata = ((REQUEST_ID, who.request_id),)
            context.set_trailing_metadata(metadata)
            code = "OK"
            try:
                await context.send_initial_metadata(metadata)
                asked = request if parse is None else _parse(request, parse)
                # Written here and not yielded to the server, which would leave a generator that nobody closes
                # when the caller goes away between two messages.
                async with aclosing(cast("Any", answer(asked, context))) as responses:
                    async for response in responses:
                        await context.write(response)
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except Exception as e:  # noqa: BLE001  As above.
                if context.done():
                    # The caller went away while we wrote.
                    code = "CANCELLED"
                    return
                failure = _explain(name, who, e)
                code = failure.code.name
                await context.abort(failure.code, failure.text, failure.trailing_metadata)
            finally:
                self._observe(name, code, None)
                if log.isEnabledFor(logging.DEBUG):
                    _log(name, code, who, time.perf_counter() - started)

        return stream


class Interrupted(Exception):
    """Ends a stream with an error and something more for its caller to know.

    Attributes:
        error: What is told.
        metadata: Beside it, such as where to resume.
    """

    def __init__(self, error: Exception, metadata: dict[str, str]) -> None:
        super().__init__(str(error))
        self.error = error
        self.metadata = metadata


def _explain(name: str, request: Request, error: Exception) -> Failure:
    """Return what the wire says of the error; what is our own fault goes to the log as well."""
    if isinstance(error, Interrupted):
        cause, extra = error.error, error.metadata
    else:
        cause, extra = error, {}
    failure = describe(cause, request.request_id, extra)
    who = {"request_id": request.request_id, "trace_id": request.trace_id}
    if not failure.expected:
        log.error("%s failed unexpectedly", name, exc_info=cause, extra=who)
    elif failure.code in _OURS_TO_MEND:
        log.warning("%s: %s: %s", name, failure.reason, failure.text, extra=who)
    return failure


def _log(name: str, code: str, request: Request, took_s: float) -> None:
    log.debug(
        "%s %s in %.1f ms",
        name,
        code,
        took_s * 1e3,
        extra={"request_id": request.request_id, "trace_id": request.trace_id},
    )


def _parse(raw: bytes, parse: Deserializer) -> Any:
    try:
        return parse(raw)
    except DecodeError as e:
        raise InvalidOrder(
            f"the request must be a message of the method's type; found {len(raw)} bytes that are not",
            reason="MALFORMED_MESSAGE",
        ) from e


def _parse_member(raw: bytes, parse: Deserializer) -> Any:
    try:
        return _parse(raw, parse)
    except InvalidOrder as e:
        return Unreadable(e)


def _identify(context: Context) -> tuple[Request, bool]:
    """Return who asks, and whether the caller named the request itself."""
    request_id = ""
    trace_id = ""
    is_forwarded = False
    for key, value in cast("Any", context.invocation_metadata() or ()):
        if key == REQUEST_ID:
            if isinstance(value, str) and REQUEST_NAME.fullmatch(value):
                request_id = value
        elif key == "traceparent":
            found = _TRACEPARENT.fullmatch(value) if isinstance(value, str) else None
            trace_id = found[1] if found else ""
        elif key == FORWARDED:
            is_forwarded = True
    asked = Request(
        request_id=request_id or str(uuid4()), trace_id=trace_id, is_forwarded=is_forwarded
    )
    return asked, bool(request_id)
