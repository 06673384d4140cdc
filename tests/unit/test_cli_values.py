"""What the command line prints: JSON in the model's words, clean text, exit codes, log lines."""

from __future__ import annotations

import json
import logging
import sys
from decimal import Decimal
from uuid import UUID

import pytest

from tradegw import errors
from tradegw.gateway import REQUEST, Request
from tradegw.model import CommandKind, InDoubt, TradeId
from tradegw.testing import an_order
from tradegw.transports.cli.exits import EXIT_MEANINGS, ExitCode, exit_code
from tradegw.transports.cli.logs import JsonFormatter, TextFormatter
from tradegw.transports.cli.values import clean, jsonable, to_json


def test_an_order_becomes_json_in_its_own_field_names() -> None:
    order = an_order(
        order_qty=Decimal("0.10"),
        price=Decimal("6.5E+4"),
        in_doubt=(InDoubt(command=CommandKind.NEW, since_ns=1, why="silence"),),
        trade_ids=frozenset({TradeId("t1")}),
    )
    told = json.loads(to_json(order))
    assert (told["order_qty"], told["price"]) == ("0.10", "65000")
    assert told["side"] == "BUY"
    assert UUID(told["order_id"]) == order.order_id
    assert told["in_doubt"] == [{"command": "NEW", "since_ns": 1, "why": "silence"}]
    # What an order keeps for itself is nobody's business.
    assert not {"trade_ids", "inferred"} & set(told)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\x00\xff", "00ff"),
        ((Decimal("1E-7"), None, True, 3), ["0.0000001", None, True, 3]),
        ({CommandKind.NEW: Decimal("1.50")}, {"NEW": "1.50"}),
    ],
)
def test_values_become_what_json_has(value: object, expected: object) -> None:
    assert jsonable(value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, ümlaut", "plain text, ümlaut"),
        ("\x1b[31mred\x07", "\ufffd[31mred\ufffd"),
        ("one\ntwo\u202eowt", "one\ufffdtwo\ufffdowt"),
        ("x" * 11, "x" * 9 + "…"),
    ],
)
def test_text_from_outside_is_bounded_and_has_no_control_characters(
    text: str, expected: str
) -> None:
    assert clean(text, limit=10 if text.startswith("xx") else 400) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ConfigError("x"), ExitCode.USAGE),
        (errors.PluginError("x"), ExitCode.USAGE),
        (errors.InvalidOrder("x"), ExitCode.REFUSED),
        (errors.UnsupportedOrder("x"), ExitCode.REFUSED),
        (errors.NotFound("x"), ExitCode.REFUSED),
        (errors.Conflict("x"), ExitCode.REFUSED),
        (errors.IdempotencyKeyReused("x"), ExitCode.REFUSED),
        (errors.Unavailable("x"), ExitCode.UNAVAILABLE),
        (errors.StoreUnavailable("x"), ExitCode.UNAVAILABLE),
        # Whether it was stored is open, and only asking again tells.
        (errors.CommitUnknown("x"), ExitCode.IN_DOUBT),
        (errors.StoreInUse("x"), ExitCode.STORE),
        (errors.StoreCorrupt("x"), ExitCode.STORE),
        (errors.SchemaMismatch("x"), ExitCode.STORE),
        (errors.TradegwError("x"), ExitCode.DEFECT),
    ],
)
def test_every_error_has_its_exit_code(error: errors.TradegwError, expected: ExitCode) -> None:
    assert exit_code(error) is expected


def test_every_exit_code_is_explained() -> None:
    assert set(EXIT_MEANINGS) == set(ExitCode)


def a_record(message: str, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("tradegw.x", logging.WARNING, __file__, 1, message, (), None)
    record.__dict__.update(extra)
    return record


def test_a_log_line_is_one_json_object_with_who_where_and_what() -> None:
    token = REQUEST.set(Request(request_id="r1", trace_id="t1"))
    try:
        line = JsonFormatter("staging").format(a_record("a\nb\x1b", order_id=UUID(int=1), n=2))
    finally:
        REQUEST.reset(token)
    assert "\n" not in line
    fields = json.loads(line)
    assert fields["event"] == "a\ufffdb\ufffd"
    assert (fields["level"], fields["logger"]) == ("WARNING", "tradegw.x")
    assert (fields["service"], fields["environment"]) == ("tradegw", "staging")
    assert (fields["request_id"], fields["trace_id"]) == ("r1", "t1")
    assert (fields["order_id"], fields["n"]) == (str(UUID(int=1)), 2)
    assert fields["time"].endswith("Z")


def test_what_was_raised_is_kept() -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        record = a_record("failed")
        record.exc_info = sys.exc_info()
    assert "no such thing" in json.loads(JsonFormatter("x").format(record))["exception"]
    assert "no such thing" in TextFormatter().format(record)


def test_a_text_line_is_for_people() -> None:
    line = TextFormatter().format(a_record("listening", grpc="127.0.0.1:1"))
    assert line.endswith("WARNING listening  [grpc=127.0.0.1:1]")
