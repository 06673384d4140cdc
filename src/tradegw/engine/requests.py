"""Carries requests out, each once for its key, in tasks that outlive the callers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from tradegw.errors import (
    IdempotencyKeyReused,
    NotFound,
    StoreError,
    TradegwError,
    Unavailable,
)
from tradegw.model import Order, OrderId
from tradegw.ports import Claim, KeyTaken, Store

__all__ = ["Requests", "all_of", "check_same", "end"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_PATIENCE_S = 1.0

_TOLD_MAX = 8
"""How many further failures of one request are told in its error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    fingerprint: str
    future: asyncio.Future[Order]


class Requests:
    """The requests of one gateway that are under way. Each runs in a task of the given group."""

    def __init__(self, store: Store, group: asyncio.TaskGroup) -> None:
        self._store = store
        self._group = group
        self._running: dict[tuple[str, str], _Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def once(
        self,
        scope: str,
        key: str | None,
        digest: str,
        operation: str,
        run: Callable[[Claim], Awaitable[Order | KeyTaken]],
    ) -> Order:
        """Carry a request out once for its key; a second call with the key waits for the first.

        Raises:
            IdempotencyKeyReused: The key belongs to another request.
        """
        is_given = key is not None
        key = key or uuid4().hex
        token = (scope, key)
        running = self._running.get(token)
        if running is None:
            future: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
            running = _Running(fingerprint=digest, future=future)
            claim = Claim(scope=scope, idempotency_key=key, fingerprint=digest, operation=operation)
            task = self._start(future, self._claimed(claim, is_given, run))
            # Nothing suspends in between: the task has not begun.
            self._running[token] = running
            task.add_done_callback(lambda _: self._running.pop(token))
        elif running.fingerprint != digest:
            raise _reused(key)
        return await asyncio.shield(running.future)

    async def owned(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work in a task of the engine: a caller who goes away cancels only its own waiting."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._start(future, work)
        try:
            return await asyncio.shield(future)
        except StoreError as e:
            # Also where it may be stored: the same key goes on with it.
            raise Unavailable(f"the store cannot be used: {e}", reason=e.reason) from e

    def _start(self, future: asyncio.Future[T], work: Coroutine[Any, Any, T]) -> asyncio.Task[None]:
        carrying = self._carry_out(future, work)
        try:
            task = self._group.create_task(carrying)
        except RuntimeError as e:
            # The group has ended, and nobody carries anything out any more.
            carrying.close()
            work.close()
            raise Unavailable("the gateway shut down; ask again", reason="SHUTTING_DOWN") from e
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _carry_out(self, future: asyncio.Future[T], work: Coroutine[Any, Any, T]) -> None:
        try:
            future.set_result(await work)
        except BaseException as e:
            if isinstance(e, asyncio.CancelledError):
                error = Unavailable("the gateway shut down; ask again", reason="SHUTTING_DOWN")
                future.set_exception(error)
            else:
                # The caller gets it, whatever it is.
                future.set_exception(e)
            # Whoever asked may be gone; then nobody retrieves it, and that is no fault.
            future.exception()
            if not isinstance(e, Exception):
                raise

    async def _claimed(
        self,
        claim: Claim,
        is_given: bool,
        run: Callable[[Claim], Awaitable[Order | KeyTaken]],
    ) -> Order:
        try:
            result = await run(claim)
        except TradegwError as e:
            # A key that is known gets its order, whatever would stand in its way now.
            try:
                known = (
                    await self._store.find_claim(claim.scope, claim.idempotency_key)
                    if is_given
                    else None
                )
            except StoreError:
                known = None
            if known is not None:
                return await self.answer(known, claim.fingerprint)
            if isinstance(e, StoreError):
                raise Unavailable(f"the store cannot be used: {e}", reason=e.reason) from e
            raise
        if isinstance(result, KeyTaken):
            return await self.answer(result.claim, claim.fingerprint)
        return result

    async def answer(self, claim: Claim, digest: str) -> Order:
        """Return the order that a key was used for.

        Raises:
            IdempotencyKeyReused: It was used for another request.
        """
        check_same(claim, digest)
        assert claim.order_id is not None, f"{claim.operation} names no order"
        return await self._order(claim.order_id)

    async def _order(self, order_id: OrderId) -> Order:
        order = await self._store.find_order(order_id)
        if order is None:
            raise NotFound(f"there is no order {order_id}", reason="UNKNOWN_ORDER")
        return order

    async def finish(self, within_s: float) -> None:
        """Wait for what is under way, and for what comes meanwhile; then end the rest."""
        deadline = asyncio.get_running_loop().time() + within_s
        while self._tasks and (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(tuple(self._tasks), timeout=left_s)
        await end(self._tasks)


async def end(requests: set[asyncio.Task[Any]]) -> None:
    """Cancel requests until they have ended: each puts in doubt what it may have sent."""
    while requests:
        for task in tuple(requests):
            task.cancel()
        # Once more after a while: one that waits for a store that is away has taken the first for
        # a reason to store something.
        await asyncio.wait(tuple(requests), timeout=_PATIENCE_S)


async def all_of(works: Iterable[Awaitable[T]]) -> Sequence[T]:
    """Do all of these, whatever becomes of one: this is what stops a bot that has gone wild.

    Returns:
        What each returned, in their order.

    Raises:
        TradegwError: At least one failed, and all have ended. It is the first of those after which asking
            again helps, or the first of all, and its text tells of the others.
    """
    answers = await asyncio.gather(*works, return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    if not failures:
        return [answer for answer in answers if not isinstance(answer, BaseException)]
    for failure in failures:
        if not isinstance(failure, TradegwError):
            # A defect, or the end of the gateway: nothing that a caller's error could tell.
            raise failure
    first = next((e for e in failures if isinstance(e, Unavailable)), failures[0])
    others = list(dict.fromkeys(text for e in failures if (text := str(e)) != str(first)))
    log.warning("%d of %d requests failed: %s", len(failures), len(answers), first)
    if not others:
        raise first
    shown = "; ".join(others[:_TOLD_MAX])
    more = f"; and {len(others) - _TOLD_MAX} more" if len(others) > _TOLD_MAX else ""
    raise _with_text(first, f"{first}; {shown}{more}") from first


def _with_text(error: BaseException, text: str) -> TradegwError:
    assert isinstance(error, TradegwError)
    return type(error)(text, reason=error.reason)


def check_same(claim: Claim, digest: str) -> None:
    """Refuse a key that belongs to another request.

    Raises:
        IdempotencyKeyReused: It does.
    """
    if claim.fingerprint != digest:
        raise _reused(claim.idempotency_key)


def _reused(key: str) -> IdempotencyKeyReused:
    return IdempotencyKeyReused(
        f"idempotency key {key!r} belongs to a request with other parameters; use a new key for a new "
        "request"
    )
