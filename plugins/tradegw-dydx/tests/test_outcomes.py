"""What each code means, and what several answers to the same bytes mean together."""

from __future__ import annotations

import pytest
from tradegw_dydx.outcomes import OUTCOMES, Attempt, Verdict, judge

from tradegw import CommandKind
from tradegw.venue import Outcome

NEW, CANCEL, REPLACE = CommandKind.NEW, CommandKind.CANCEL, CommandKind.REPLACE
ACCEPTED, REFUSED, THROTTLED, UNKNOWN = (
    Outcome.ACCEPTED,
    Outcome.REFUSED,
    Outcome.THROTTLED,
    Outcome.UNKNOWN,
)

# code -> outcome of a first sending of a placement, of a cancel. Every code of the chain's tables.
CLOB = {
    2: (UNKNOWN, REFUSED),
    **dict.fromkeys((3, 4, 5, 6, 8, 10, 11, 12, 17, 27, 34, 36, 37), (REFUSED, REFUSED)),
    7: (REFUSED, UNKNOWN),
    9: (UNKNOWN, ACCEPTED),
    20: (REFUSED, UNKNOWN),
    24: (REFUSED, UNKNOWN),
    29: (UNKNOWN, REFUSED),
    30: (UNKNOWN, UNKNOWN),
    32: (UNKNOWN, ACCEPTED),
    **dict.fromkeys((42, 43, 44, 45, 46, 48, 49, 50), (REFUSED, REFUSED)),
    47: (THROTTLED, THROTTLED),
    2000: (REFUSED, UNKNOWN),
    2004: (REFUSED, UNKNOWN),
    **dict.fromkeys((2001, 2002, 2003, 2005), (REFUSED, REFUSED)),
    **dict.fromkeys((3000, 3001, 3002, 3003, 3004, 3007, 3008, 3009), (REFUSED, REFUSED)),
    3005: (REFUSED, UNKNOWN),
    3006: (UNKNOWN, REFUSED),
    3010: (UNKNOWN, REFUSED),
    5001: (THROTTLED, THROTTLED),
    **dict.fromkeys((6000, 6001, 6002, 9000, 9001, 9002, 9003), (REFUSED, REFUSED)),
    **dict.fromkeys((10001, 11000), (REFUSED, REFUSED)),
    # Of liquidations and of the operations queue: nothing that an order of ours can be answered with.
    **dict.fromkeys((*range(1000, 1023), *range(4000, 4009)), (UNKNOWN, UNKNOWN)),
}
SDK = {
    **dict.fromkeys((2, 4, 5, 8, 9, 11, 12, 13, 18, 21, 22), (REFUSED, REFUSED)),
    19: (UNKNOWN, UNKNOWN),
    20: (THROTTLED, THROTTLED),
    **dict.fromkeys((30, 31, 32, 35, 38, 41), (REFUSED, REFUSED)),
    111222: (UNKNOWN, UNKNOWN),
}
OTHERS = {
    "dydxaccountplus": (1, 3, 4, 6, 100, 101, 102, 103, 104, 105),
    "subaccounts": (102, 200, 201),
    "sending": (1, 2, 3, 4, 5, 6, 7, 8, 1101),
}
ROWS = [
    *(("clob", code, *outcomes) for code, outcomes in CLOB.items()),
    *(("sdk", code, *outcomes) for code, outcomes in SDK.items()),
    *((space, code, REFUSED, REFUSED) for space, codes in OTHERS.items() for code in codes),
    ("undefined", 1, UNKNOWN, UNKNOWN),
    ("clob", 99_999, UNKNOWN, UNKNOWN),
    ("somewhere", 3, UNKNOWN, UNKNOWN),
    ("", 0, ACCEPTED, ACCEPTED),
]


@pytest.mark.parametrize(("space", "code", "of_new", "of_cancel"), ROWS)
def test_every_code(space, code, of_new, of_cancel):
    key = Verdict(codespace=space, code=code).key
    assert OUTCOMES.outcome(NEW, key) is of_new
    assert OUTCOMES.outcome(CANCEL, key) is of_cancel
    assert OUTCOMES.outcome(REPLACE, key) is of_new


def test_the_table_names_no_code_that_this_test_does_not():
    named = {f"{space}/{code}" for space, code, *_ in ROWS} | {"0"}
    for column in OUTCOMES.codes.values():
        assert set(column) <= named


def said(node, space, code):
    return Attempt(node=node, verdict=Verdict(codespace=space, code=code))


def silent(node):
    return Attempt(node=node, verdict=None, error="DEADLINE_EXCEEDED")


def unsent(node):
    return Attempt(node=node, verdict=None, is_unsent=True, error="UNAVAILABLE")


OK = ("", 0)
CASES = [
    pytest.param(NEW, [], UNKNOWN, id="nobody was asked"),
    pytest.param(NEW, [said("a", *OK)], ACCEPTED, id="taken"),
    pytest.param(NEW, [said("a", "clob", 2003)], REFUSED, id="refused"),
    pytest.param(NEW, [silent("a")], UNKNOWN, id="silence is no refusal"),
    pytest.param(NEW, [unsent("a")], UNKNOWN, id="no connection: the sender tells this apart"),
    pytest.param(
        NEW, [unsent("a"), said("b", "clob", 2003)], REFUSED, id="one is down, one refuses"
    ),
    pytest.param(NEW, [silent("a"), said("b", *OK)], ACCEPTED, id="the second takes it"),
    pytest.param(
        NEW, [silent("a"), said("b", "clob", 2003)], UNKNOWN, id="the first may have taken it"
    ),
    pytest.param(NEW, [silent("a"), said("b", "clob", 10)], UNKNOWN, id="late at the second"),
    pytest.param(
        NEW, [silent("a"), said("b", "sdk", 19)], ACCEPTED, id="gossip brought it to the second"
    ),
    pytest.param(NEW, [silent("a"), said("b", "clob", 20)], ACCEPTED, id="it rests at the second"),
    pytest.param(NEW, [silent("a"), said("b", "clob", 24)], ACCEPTED, id="it filled already"),
    pytest.param(
        NEW, [silent("a"), said("b", "clob", 2004)], ACCEPTED, id="it was immediate, and filled"
    ),
    pytest.param(NEW, [silent("a"), said("b", "clob", 3005)], ACCEPTED, id="it is in the state"),
    pytest.param(
        NEW, [silent("a"), said("b", "sdk", 32)], UNKNOWN, id="its number is used, maybe by it"
    ),
    pytest.param(NEW, [said("a", "sdk", 19)], UNKNOWN, id="known there, and nobody knows as what"),
    pytest.param(
        NEW, [silent("a"), said("a", "sdk", 19)], UNKNOWN, id="the silent one knows it: as what?"
    ),
    pytest.param(
        NEW, [said("a", "clob", 2003), said("a", "sdk", 19)], UNKNOWN, id="asked twice by mistake"
    ),
    pytest.param(NEW, [said("a", "clob", 20)], REFUSED, id="another order has that name"),
    pytest.param(
        NEW, [said("a", "clob", 47), said("b", *OK)], ACCEPTED, id="the first just started"
    ),
    pytest.param(NEW, [said("a", "sdk", 20)], THROTTLED, id="mempool full"),
    pytest.param(NEW, [said("a", "sdk", 20), silent("b")], UNKNOWN, id="full, then silent"),
    pytest.param(NEW, [said("a", "clob", 1001)], UNKNOWN, id="a code that stands nowhere"),
    pytest.param(CANCEL, [said("a", "clob", 9)], ACCEPTED, id="a cancel is under way"),
    pytest.param(CANCEL, [said("a", "clob", 3006)], REFUSED, id="nothing to cancel"),
    pytest.param(
        CANCEL, [silent("a"), said("b", "clob", 3006)], ACCEPTED, id="cancelled by the first"
    ),
    pytest.param(REPLACE, [said("a", "clob", 20)], REFUSED, id="not a valid replacement"),
    pytest.param(
        REPLACE, [silent("a"), said("b", "clob", 20)], ACCEPTED, id="replaced by the first"
    ),
]


@pytest.mark.parametrize(("command", "attempts", "expected"), CASES)
def test_all_answers_together(command, attempts, expected):
    assert judge(command, attempts)[0] is expected
