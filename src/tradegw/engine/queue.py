"""Lets go of what is held: sends it when its turn comes, lets an order expire that has waited too long."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Any, Final

from tradegw.engine.account import NS_PER_S, Account
from tradegw.engine.guard.backoff import Backoff
from tradegw.engine.holding import HoldingDesk
from tradegw.errors import Unavailable
from tradegw.model import CommandKind, Order, OrderId

__all__ = ["Queue"]

log = logging.getLogger(__name__)

AGAIN_FIRST_S: Final = 0.2
AGAIN_LONGEST_S: Final = 10.0


class Queue:
    """What of one account waits for its venue."""

    def __init__(self, account: Account, desk: HoldingDesk, rng: random.Random) -> None:
        self._account = account
        self._desk = desk
        self._rng = rng
        self._backoffs: dict[OrderId, Backoff] = {}
        self._due_ns: dict[OrderId, int] = {}
        self._under_way: set[OrderId] = set()
        desk.on_held_again = self._put_off

    def _put_off(self, order_id: OrderId) -> None:
        """Have a command wait for a while before it is tried again."""
        backoff = self._backoffs.get(order_id)
        if backoff is None:
            backoff = self._backoffs[order_id] = Backoff(
                self._rng, first_s=AGAIN_FIRST_S, longest_s=AGAIN_LONGEST_S
            )
        now_ns = self._account.clock.time_ns()
        self._due_ns[order_id] = now_ns + int(backoff.next_s() * NS_PER_S)

    async def run(self) -> None:
        """Look after what waits, without end.

        Cancellation: what was on its way is in doubt; what waits does so at the next start.
        """
        account = self._account
        async with asyncio.TaskGroup() as group:
            while True:
                account.wake_queue.clear()
                wait_s = self._begin(group)
                if wait_s is None:
                    await account.wake_queue.wait()
                else:
                    await account.sleep_or(wait_s, account.wake_queue)

    def _begin(self, group: asyncio.TaskGroup) -> float | None:
        """Begin what can be done now. Returns when to look again; None: when something has changed."""
        account = self._account
        held = [order for order in account.book if order.queued]
        names = {order.order_id for order in held} | self._under_way
        self._due_ns = {i: due for i, due in self._due_ns.items() if i in names}
        self._backoffs = {i: backoff for i, backoff in self._backoffs.items() if i in names}
        if account.failed.is_set():
            # Reading the store wakes us.
            return None
        now_ns = account.clock.time_ns()
        next_ns: int | None = None
        # Cancels first; among themselves, orders in the order in which they came.
        held.sort(key=lambda o: (o.queued_command is CommandKind.NEW, o.created_time_ns, o.seq))
        for order in held:
            if order.order_id in self._under_way:
                continue
            due_ns = self._due_ns.get(order.order_id, 0)
            work = self._work(order, now_ns) if due_ns <= now_ns else None
            if work is not None:
                self._under_way.add(order.order_id)
                group.create_task(self._carry_out(order.order_id, work))
                continue
            moments = [due_ns] if due_ns > now_ns else []
            if order.queued_command is CommandKind.NEW:
                moments.append(order.send_by_ns)
            if moments:
                next_ns = min(moments) if next_ns is None else min(next_ns, *moments)
        return None if next_ns is None else max(0.001, (next_ns - now_ns) / NS_PER_S)

    def _work(self, order: Order, now_ns: int) -> Coroutine[Any, Any, None] | None:
        """Return what can be done for a command that waits; None: it waits on."""
        if order.queued_command is not CommandKind.NEW:
            return self._desk.release_cancel(order.order_id) if self._desk.can_command else None
        if order.send_by_ns <= now_ns:
            return self._desk.expire(order.order_id)
        return self._desk.release(order.order_id) if self._account.is_open else None

    async def _carry_out(self, order_id: OrderId, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Unavailable as e:
            # Not at once again: what is missing may be missing for a while.
            log.info("order %s waits on: %s", order_id, e)
            self._put_off(order_id)
        except Exception:
            log.exception("order %s waits on", order_id)
            self._put_off(order_id)
        finally:
            self._under_way.discard(order_id)
            self._account.wake_queue.set()
