"""The comparison of positions with the fold of fills, as stories of looks: (second, held, filled since)."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tradegw.engine.positions import PositionCheck
from tradegw.model import AccountName, Fill, Position, Side, TradeId

S = 1_000_000_000
FILL = Fill(
    trade_id=TradeId("1"),
    account=AccountName("paper"),
    venue="scripted",
    symbol="P",
    side=Side.BUY,
    last_qty=Decimal(1),
    last_px=Decimal(100),
)


def look(check: PositionCheck, at_s: float, held: str, filled: str) -> tuple[str, bool]:
    """Return what is unexplained, and whether a difference is new."""
    qty = Decimal(filled)
    if qty:
        side = Side.BUY if qty > 0 else Side.SELL
        check.count([replace(FILL, side=side, last_qty=abs(qty))])
    told = [Position(account=AccountName("paper"), symbol="P", qty=Decimal(held))]
    unexplained, fresh = check.compare(
        told if Decimal(held) else [], time_ns=int(at_s * S), lag_ns=5 * S
    )
    assert fresh <= {"P"}
    return str(unexplained.get("P", "")), bool(fresh)


@pytest.mark.parametrize(
    ("looks", "expected", "is_fresh"),
    [
        pytest.param([(0, "0", "0"), (10, "0", "0")], "", False, id="nothing"),
        pytest.param([(0, "3", "0"), (10, "3", "0"), (20, "3", "0")], "", False, id="held before"),
        pytest.param([(0, "3", "0"), (10, "3", "0"), (20, "4", "1")], "", False, id="a fill"),
        pytest.param([(0, "0", "0"), (10, "1", "1"), (20, "0", "-1")], "", False, id="and back"),
        pytest.param([(0, "3", "0"), (10, "3", "0"), (20, "4", "0")], "", True, id="seen once"),
        pytest.param(
            [(0, "3", "0"), (10, "3", "0"), (20, "4", "0"), (24, "4", "0")],
            "",
            True,
            id="seen twice within the lag",
        ),
        pytest.param(
            [(0, "3", "0"), (10, "3", "0"), (20, "4", "0"), (26, "4", "0")],
            "1",
            False,
            id="and stays",
        ),
        pytest.param(
            [(0, "3", "0"), (10, "3", "0"), (20, "0", "0"), (26, "0", "0")],
            "-3",
            False,
            id="gone without a fill",
        ),
        pytest.param(
            [(0, "0", "0"), (10, "0", "0"), (20, "2", "0"), (30, "2", "0")],
            "2",
            False,
            id="a market where nothing was held",
        ),
        pytest.param(
            [(0, "3", "0"), (10, "3", "0"), (20, "4", "0"), (30, "4", "0"), (40, "4", "1")],
            "",
            False,
            id="explained by a fill that came late",
        ),
        pytest.param(
            [(0, "3", "0"), (1, "3", "1"), (2, "4", "0"), (10, "4", "0"), (20, "4", "0")],
            "",
            False,
            id="a fill that the first position did not show yet",
        ),
        pytest.param(
            [
                (0, "0", "0"),
                (10, "0", "0"),
                (20, "1", "0"),
                (30, "0", "0"),
                (40, "1", "0"),
                (44, "1", "0"),
            ],
            "",
            True,
            id="a difference that comes and goes",
        ),
    ],
)
def test_what_is_unexplained(
    looks: list[tuple[float, str, str]], expected: str, is_fresh: bool
) -> None:
    check = PositionCheck()
    *before, last = looks
    for at_s, held, filled in before:
        look(check, at_s, held, filled)
    assert look(check, *last) == (expected, is_fresh)


def test_a_correction_takes_back_what_was_inferred() -> None:
    check = PositionCheck()
    look(check, 0, "0", "0")
    look(check, 10, "0", "0")
    check.count([replace(FILL, last_qty=Decimal(1)), replace(FILL, last_qty=Decimal(-1))])
    check.count([FILL])
    assert look(check, 20, "1", "0") == ("", False)
