"""What a venue says is checked, cleaned and brought to one form before anything is decided on it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tradegw.engine.intake import TEXT_MAX, check_report, clean
from tradegw.model import ExecType, ExecutionReport, TradeId, plain


def a_report(**fields: object) -> ExecutionReport:
    return ExecutionReport(exec_type=ExecType.TRADE, trade_id=TradeId("1"), **fields)  # type: ignore[arg-type]


def test_numbers_lose_their_trailing_zeros() -> None:
    """A fill told live must read like the same fill from the store."""
    told = a_report(last_qty=Decimal("1.500"), last_px=Decimal("65004.00"), fee=Decimal("-0.10"))
    read = check_report(told, received_time_ns=9)
    assert [plain(n) for n in (read.last_qty, read.last_px, read.fee) if n is not None] == [
        "1.5",
        "65004",
        "-0.1",
    ]
    assert read.received_time_ns == 9


def test_a_report_in_order_is_passed_on_as_it_is() -> None:
    told = a_report(last_qty=Decimal("1.5"), received_time_ns=5)
    assert check_report(told, received_time_ns=9) is told


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"last_qty": Decimal("NaN")}, id="not a number"),
        pytest.param({"last_qty": 1.5}, id="a float"),
        pytest.param({"last_qty": Decimal(-1)}, id="negative"),
        pytest.param({"last_px": Decimal("1E+60")}, id="huge"),
        pytest.param({"symbol": ""}, id="an empty name"),
        pytest.param({"symbol": "BTC\x1b[2J"}, id="a name that steers a terminal"),
        pytest.param({"transact_time_ns": -1}, id="before the epoch"),
        pytest.param({"side": "BUY?"}, id="an unknown side"),
    ],
)
def test_what_cannot_be_read_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        check_report(a_report(**fields), received_time_ns=9)


def test_words_of_a_venue_are_bounded_and_cleaned() -> None:
    assert clean("no\x1b[2J\nfunds") == "no [2J funds"
    assert len(clean("x" * 10_000)) == TEXT_MAX
