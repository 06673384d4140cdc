"""Checks what a venue says before anything is decided on it, and cleans its words.

A plugin should read its venue's messages strictly; this is for those that do not. What passes here has a
place in the store, so that one unreadable report cannot stop an account.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter
from typing import Any

from tradegw.model import (
    CommandKind,
    Evidence,
    ExecType,
    ExecutionReport,
    Liquidity,
    OrdStatus,
    Side,
)
from tradegw.model.copying import copier
from tradegw.model.numbers import ZERO, check_decimal

__all__ = ["TEXT_MAX", "check_report", "clean"]

TEXT_MAX = 500
"""Characters of a venue's words that are kept."""
_NAME_MAX = 128
_TIME_MAX = 2**63

_DECIMALS = (
    "cum_qty",
    "avg_px",
    "order_qty",
    "price",
    "trigger_price",
    "last_qty",
    "last_px",
    "fee",
)
_NAMES = ("venue_order_id", "venue_client_order_id", "trade_id", "symbol", "fee_asset")
_TIMES = ("transact_time_ns", "received_time_ns")
_read_decimals = attrgetter(*_DECIMALS)
_read_names = attrgetter(*_NAMES)
_copy = copier(ExecutionReport)
_ENUMS: dict[str, type[StrEnum]] = {
    "command": CommandKind,
    "side": Side,
    "ord_status": OrdStatus,
}


def clean(text: str) -> str:
    """Return text from outside, bounded, with a space for each character that is not printable."""
    text = text[:TEXT_MAX]
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def check_report(report: ExecutionReport, *, received_time_ns: int) -> ExecutionReport:
    """Return a report that is fit to be decided on and stored.

    Args:
        received_time_ns: When it came, for one that does not say.

    Raises:
        ValueError: It is none, or a field of it is not what it should be.
    """
    told: Any = report
    if not isinstance(told, ExecutionReport) or not isinstance(told.exec_type, ExecType):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"expected an ExecutionReport; found {clean(repr(told)[:200])}")
    numbers: dict[str, Any] = {}
    number: Any
    for name, number in zip(_DECIMALS, _read_decimals(told), strict=True):
        if number is None:
            continue
        if not isinstance(number, Decimal):
            raise ValueError(f"{name} must be a Decimal; found {type(number).__name__}")
        # Without trailing zeros, so that live and stored ones have one text.
        normal = check_decimal(number, name)
        if normal is not number and not normal.same_quantum(number):
            numbers[name] = normal
        if number < ZERO and name != "fee":
            raise ValueError(f"{name} must not be negative; found {number}")
    text: Any
    for name, text in zip(_NAMES, _read_names(told), strict=True):
        if text is not None and not (
            isinstance(text, str) and 0 < len(text) <= _NAME_MAX and text.isprintable()
        ):
            raise ValueError(
                f"{name} must be 1 to {_NAME_MAX} printable characters; "
                f"found {clean(repr(text)[:200])}"
            )
    for name in _TIMES:
        time_ns: Any = getattr(told, name)
        if type(time_ns) is not int or not 0 <= time_ns < _TIME_MAX:
            raise ValueError(f"{name} must be nanoseconds since the epoch; found {time_ns!r:.80}")
    for name, enum in _ENUMS.items():
        member: Any = getattr(told, name)
        if member is not None and not isinstance(member, enum):
            raise ValueError(f"{name} must be a {enum.__name__}; found {member!r:.80}")
    return _stamped(report, received_time_ns, numbers)


def _stamped(
    report: ExecutionReport, received_time_ns: int, numbers: Mapping[str, Any]
) -> ExecutionReport:
    reason, text = _words(report.reason), _words(report.text)
    evidence = report.evidence
    if not isinstance(report.liquidity, Liquidity):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"liquidity must be a Liquidity; found {report.liquidity!r:.80}")
    if evidence is not None and evidence.detail != _words(evidence.detail):
        evidence = Evidence(kind=evidence.kind, detail=_words(evidence.detail))
    if (
        report.received_time_ns
        and not numbers
        and reason == report.reason
        and text == report.text
        and evidence is report.evidence
    ):
        return report
    return _copy(
        report,
        reason=reason,
        text=text,
        evidence=evidence,
        received_time_ns=report.received_time_ns or received_time_ns,
        **numbers,
    )


def _words(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError(f"expected text; found {type(text).__name__}")
    return clean(text)
