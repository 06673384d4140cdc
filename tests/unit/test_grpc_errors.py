"""Exceptions and statuses, both ways."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from tradegw import errors
from tradegw.errors import TradegwError
from tradegw.transports.grpc.errors import DETAILS, SessionOver, describe, read_error, read_status
from tradegw.transports.grpc.retry import Attempts, Lost, translate

CASES = [
    (errors.InvalidOrder("x", reason="INVALID_FIELD"), StatusCode.INVALID_ARGUMENT),
    (errors.InvalidOrder("x", reason="OUT_OF_RANGE"), StatusCode.OUT_OF_RANGE),
    (errors.UnsupportedOrder("x"), StatusCode.FAILED_PRECONDITION),
    (errors.NotFound("x", reason="UNKNOWN_ORDER"), StatusCode.NOT_FOUND),
    (errors.IdempotencyKeyReused("x"), StatusCode.ALREADY_EXISTS),
    (errors.DuplicateClientOrderId("x"), StatusCode.ALREADY_EXISTS),
    (errors.Conflict("x", reason="COMMAND_PENDING"), StatusCode.FAILED_PRECONDITION),
    (errors.Unavailable("x", reason="RECONCILING"), StatusCode.UNAVAILABLE),
    (errors.Unavailable("x", reason="BUDGET_EXHAUSTED"), StatusCode.RESOURCE_EXHAUSTED),
    (errors.StoreUnavailable("x"), StatusCode.UNAVAILABLE),
    (errors.CommitUnknown("x"), StatusCode.UNKNOWN),
    (errors.StoreCorrupt("x"), StatusCode.DATA_LOSS),
    (SessionOver("x", reason="LEASE_EXPIRED"), StatusCode.ABORTED),
]


def rpc_error(code: StatusCode, text: str, trailing: Any = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), text)


@pytest.mark.parametrize(("error", "code"), CASES, ids=lambda v: getattr(v, "reason", ""))
def test_an_error_comes_back_as_the_same_class(error: TradegwError, code: StatusCode) -> None:
    failure = describe(error, "r1")
    assert failure.code is code
    assert failure.metadata["request_id"] == "r1"
    heard = read_status(rpc_error(failure.code, failure.text, failure.trailing_metadata))
    for back in (heard, read_error(failure.message)):
        assert type(back) is type(error)
        assert back is not None
        assert (back.reason, str(back)) == (error.reason, str(error))


@pytest.mark.parametrize(
    "error",
    [
        KeyError("secret-key"),
        errors.PluginError("secret-key"),
        errors.SchemaMismatch("secret-key"),
        errors.VenueRejected("secret-key"),
    ],
)
def test_what_nobody_foresaw_tells_nothing_but_the_id(error: Exception) -> None:
    failure = describe(error, "r1")
    assert (failure.code, failure.reason, failure.expected) == (
        StatusCode.INTERNAL,
        "INTERNAL",
        False,
    )
    assert "r1" in failure.text
    assert b"secret" not in failure.message.SerializeToString()
    assert not any(b"secret" in bytes(str(v), "utf-8") for _, v in failure.trailing_metadata)


def test_a_closed_gateway_looks_like_one_that_shuts_down() -> None:
    failure = describe(errors.UsageError("the gateway is closed"), "r1")
    assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "SHUTTING_DOWN")


@pytest.mark.parametrize("text", ["x" * 10_000, "€" * 10_000, "a\nb\x1b[31mc", "\ud800"])
def test_texts_fit_into_trailing_metadata_and_a_log(text: str) -> None:
    failure = describe(errors.InvalidOrder(text), "r1")
    # On the wire the text stands percent-encoded, and once more in the details.
    size = sum(len(v) for _, v in failure.trailing_metadata) + 3 * len(failure.text.encode())
    assert size < 4096
    assert failure.text.isprintable()


def test_the_reason_alone_tells_the_class_to_clients_of_other_servers() -> None:
    from tradegw.trading.v1.trading_gateway_pb2 import Error

    back = read_error(Error(code=14, reason="RECONCILING", text="x"))
    assert isinstance(back, errors.Unavailable)
    assert type(read_error(Error(code=250))) is TradegwError


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        pytest.param(StatusCode.UNAVAILABLE, "Socket closed", Lost, id="broken"),
        pytest.param(StatusCode.INTERNAL, "RST_STREAM", Lost, id="reset"),
        pytest.param(StatusCode.DEADLINE_EXCEEDED, "", Lost, id="late"),
        pytest.param(
            StatusCode.UNAVAILABLE,
            "failed to connect to all addresses; last error: refused",
            errors.Unavailable,
            id="never sent",
        ),
        pytest.param(
            StatusCode.RESOURCE_EXHAUSTED,
            "Sent message larger than max",
            errors.InvalidOrder,
            id="too long",
        ),
        pytest.param(StatusCode.UNIMPLEMENTED, "no such method", TradegwError, id="too old"),
    ],
)
def test_statuses_that_are_not_ours(code: StatusCode, text: str, expected: type[Exception]) -> None:
    assert type(translate(rpc_error(code, text))) is expected


@pytest.mark.parametrize("details", [b"", b"\xff\xff\xff", "text", b"\x08\x03"])
def test_details_that_are_not_ours_are_not_read(details: Any) -> None:
    assert read_status(rpc_error(StatusCode.NOT_FOUND, "x", ((DETAILS, details),))) is None


async def test_time_that_is_over_says_whether_something_may_be_stored() -> None:
    reading, refused, lost = (Attempts("Ask", 0.0, *keys) for keys in ((), ("k1",), ("k1",)))
    with pytest.raises(errors.Unavailable) as caught:
        await reading.failed(Lost("gone"))
    assert "idempotency" not in str(caught.value)
    with pytest.raises(errors.Unavailable, match="Nothing was stored") as caught:
        await refused.failed(errors.Unavailable("x", reason="RECONCILING"))
    assert caught.value.reason == "RECONCILING"
    with pytest.raises(errors.Unavailable, match="ask again with idempotency key 'k1'") as caught:
        await lost.failed(Lost("gone"))
    assert caught.value.reason == "OUTCOME_UNKNOWN"


async def test_what_repeating_does_not_mend_is_raised_at_once() -> None:
    with pytest.raises(errors.Conflict):
        await Attempts("Ask", 30.0, "k1").failed(errors.Conflict("closed"))
