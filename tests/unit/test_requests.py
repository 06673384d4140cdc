"""Requests that are made of many, and fail in part."""

from __future__ import annotations

import asyncio

import pytest

from tradegw.engine.requests import all_of
from tradegw.errors import Conflict, TradegwError, Unavailable


async def one(outcome: object, done: list[object]) -> object:
    await asyncio.sleep(0)
    done.append(outcome)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def test_all_are_done_and_answered_in_their_order() -> None:
    assert await all_of(one(n, []) for n in (1, 2, 3)) == [1, 2, 3]
    assert await all_of(()) == []


async def test_all_are_done_whatever_becomes_of_one_and_each_failure_is_told() -> None:
    outcomes = [
        1,
        Conflict("a is closed"),
        Unavailable("b is away", reason="RECONCILING"),
        Conflict("a is closed"),
        Unavailable("c is away"),
        2,
    ]
    done: list[object] = []
    with pytest.raises(TradegwError) as failed:
        await all_of(one(outcome, done) for outcome in outcomes)
    assert done == outcomes
    # Asking again helps some of them.
    assert (type(failed.value), failed.value.reason) == (Unavailable, "RECONCILING")
    assert str(failed.value) == "b is away; a is closed; c is away"


async def test_many_failures_are_told_in_part() -> None:
    with pytest.raises(Conflict, match=r"^0; 1; .*; 8; and 11 more$"):
        await all_of(one(Conflict(str(n)), []) for n in range(20))


async def test_a_defect_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError):
        await all_of([one(Conflict("a"), []), one(ZeroDivisionError(), [])])
