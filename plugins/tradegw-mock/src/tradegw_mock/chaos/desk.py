"""How a door asks the exchange while faults act: what both sides of a request's acceptance share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec.structs import replace

from tradegw_mock.chaos.engine import Chaos, ErrorAnswer, Outcome
from tradegw_mock.chaos.faults import Target
from tradegw_mock.exchange import Refusal
from tradegw_mock.requests import (
    Answer,
    Batch,
    BatchDone,
    Cancel,
    CancelAll,
    Done,
    Mutation,
    Place,
    Question,
    Replace,
)

__all__ = ["ErrorAnswered", "Unanswered", "ask", "face"]

Sleep = Callable[[float], Awaitable[None]]
RequestT = TypeVar("RequestT", bound=Mutation | Question)


class Unanswered(Exception):
    """No answer is to be given, ever. A door that can cuts the connection."""


class ErrorAnswered(Exception):
    """Faults give the answer, whatever became of the request."""

    def __init__(self, error: ErrorAnswer) -> None:
        super().__init__(error.text)
        self.error = error


async def face(outcome: Outcome, sleep: Sleep) -> None:
    """Let happen what faults make of a request: wait, then say.

    Raises:
        Unanswered, ErrorAnswered: It ends here. What was not carried out yet must not be.
    """
    if outcome.delay_s:
        await sleep(outcome.delay_s)
    if outcome.is_lost:
        raise Unanswered
    if outcome.error is not None:
        raise ErrorAnswered(outcome.error)


async def ask(
    chaos: Chaos,
    request: RequestT,
    target: Target,
    carry_out: Callable[[RequestT], Awaitable[Answer]],
    sleep: Sleep,
) -> Answer:
    """Carry a request out, with whatever faults make of it on its way in and out.

    Args:
        target: Says what the request is for faults.
        carry_out: Does it.
        sleep: Waits, by the exchange's clock.

    Raises:
        Unanswered, ErrorAnswered: Of the faults.
        Exception: Whatever `carry_out` raises. A `Refusal` is an answer, and may get lost like one.
    """
    skew_ns = chaos.skew_ns(target)
    await face(chaos.before(target), sleep)
    try:
        answer = await carry_out(_read_at(request, skew_ns))
    except Refusal:
        await face(chaos.after(target), sleep)
        raise
    if isinstance(answer, Done) and answer.order is not None:
        target = replace(target, order_id=answer.order.order_id)
    await face(chaos.after(target), sleep)
    return _dated(answer, skew_ns)


def _read_at(request: RequestT, skew_ns: int) -> RequestT:
    """Let a clock that goes wrong judge until when the request is valid."""
    if not skew_ns:
        return request
    match request:
        case Batch():
            items = tuple(_read_at(item, skew_ns) for item in request.items)
            return replace(request, items=items)
        case Place() | Cancel() | Replace() | CancelAll():
            if request.valid_until_ns is None:
                return request
            return replace(request, valid_until_ns=request.valid_until_ns - skew_ns)
        case _:
            return request


def _dated(answer: Answer, skew_ns: int) -> Answer:
    """Date an answer by a clock that goes wrong."""
    if not skew_ns:
        return answer
    answer = replace(answer, time_ns=answer.time_ns + skew_ns)
    if isinstance(answer, BatchDone):
        items = tuple(
            item if item.done is None else replace(item, done=_dated(item.done, skew_ns))
            for item in answer.items
        )
        answer = replace(answer, items=items)
    return answer
