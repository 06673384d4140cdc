"""The faults of one exchange that is served: given, taken back, played when they are due, on record."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from tradegw_mock.chaos import Chaos, Fault, FaultSpec, LateFill, Mark, Restart
from tradegw_mock.chaos.desk import Unanswered
from tradegw_mock.exchange import AccountKind, Exchange, Operation, Refusal

if TYPE_CHECKING:
    from tradegw_mock.host import Host

__all__ = ["HostFaults"]

HELD_BACK_MAX: Final = 10_000
"""Requests and answers held back at a time; further ones are lost."""

AnswerT = TypeVar("AnswerT")

log = logging.getLogger(__name__)


class HostFaults:
    """All faults of a host.

    Attributes:
        chaos: The engine that doors ask. Give and take back faults here instead, so that the audit trail
            knows of it.

    Args:
        seed: What chances are drawn from.
    """

    def __init__(
        self,
        host: Host,
        *,
        clock: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]],
        seed: int,
    ) -> None:
        self.chaos = Chaos(clock=clock, seed=seed, record=self._record_hit)
        self._host = host
        self._clock = clock
        self._sleep = sleep
        self._waker: tuple[int, asyncio.Task[None]] | None = None
        self._restarting: dict[Callable[[], None], None] = {}
        self._forgetting: list[Callable[[], None]] = []
        self._delays: set[asyncio.Future[None]] = set()
        self._apart: set[asyncio.Task[Any]] = set()

    def watch(self, exchange: Exchange) -> None:
        """Begin with an exchange, a new one or one that was built anew."""
        users = (a.name for a in exchange.accounts() if a.kind is AccountKind.USER)
        self.chaos.past.begin(order for name in users for order in exchange.open_orders(name))
        exchange.listen(self.chaos.past.note)

    async def close(self) -> None:
        """Let nothing more happen by itself."""
        self.end_delays()
        for task in list(self._apart):
            task.cancel()
        if self._waker is not None:
            self._waker[1].cancel()
            await asyncio.wait([self._waker[1]])

    async def inject(self, spec: FaultSpec) -> Fault:
        """Let something go wrong, from now on or from `spec.start_s` on.

        Raises:
            ValueError: Too many faults are active.
            ExchangeAway: The exchange is away; there is no such fault.
            ExchangeFailed: Nobody knows.
        """
        exchange = self._host.exchange
        fault = self.chaos.inject(spec)
        said = {"fault": str(fault.fault_id), **_said(spec)}
        self._note(exchange, Operation.FAULT_GIVEN, spec.account or None, said)
        self._host.try_to(self.pass_time)
        self.wake()
        await self._host.settle()
        return fault

    async def take_back(self, fault_id: int) -> Fault:
        """End a fault.

        Raises:
            UnknownFault: It is none, or over.
            ExchangeAway, ExchangeFailed: As `inject`.
        """
        exchange = self._host.exchange
        fault = self.chaos.remove(fault_id)
        self._note_taken_back(exchange, fault)
        await self._host.settle()
        return fault

    async def take_back_all(self) -> list[Fault]:
        """End all faults; returns those that were active.

        Raises:
            ExchangeAway, ExchangeFailed: As `inject`.
        """
        exchange = self._host.exchange
        # At once: one that ended by itself meanwhile could not be taken back.
        faults = self.chaos.clear()
        for fault in faults:
            self._note_taken_back(exchange, fault)
        await self._host.settle()
        return faults

    def _note_taken_back(self, exchange: Exchange, fault: Fault) -> None:
        said = {
            "fault": str(fault.fault_id),
            "kind": str(fault.spec.kind),
            "hits": str(fault.hits),
        }
        self._note(exchange, Operation.FAULT_TAKEN_BACK, fault.spec.account or None, said)

    async def apart(self, answer: Coroutine[Any, Any, AnswerT]) -> AnswerT:
        """Wait for an answer that comes, or is lost, whether or not somebody still waits for it.

        A request that is on its way arrives, though its sender gave up.
        """
        task = asyncio.create_task(answer)
        self._apart.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._apart.discard(task)
        if not task.cancelled():
            # Whoever waited has it; if nobody did, nobody misses it.
            task.exception()

    async def sleep(self, seconds: float) -> None:
        """Hold a request or its answer back.

        Raises:
            Unanswered: Delays were ended, or too many are held back already: it is lost.
        """
        if len(self._delays) >= HELD_BACK_MAX:
            raise Unanswered
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        self._delays.add(ended)
        try:
            await asyncio.wait((sleeping, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            self._delays.discard(ended)
        if ended.done():
            raise Unanswered

    def end_delays(self) -> None:
        """Lose all that is held back: requests that were not carried out yet never are."""
        for ended in self._delays:
            if not ended.done():
                ended.set_result(None)

    def on_restart(self, cut: Callable[[], None]) -> Callable[[], None]:
        """Have a door cut all its connections when a restart is played; call the result to stop."""
        self._restarting[cut] = None
        return lambda: self._restarting.pop(cut, None)

    def on_streams_lost(self, forget: Callable[[], None]) -> None:
        """Have a door forget its streams' state when a restart loses it."""
        self._forgetting.append(forget)

    def pass_time(self) -> None:
        """Let happen what is due by now."""
        if self.chaos.is_idle:
            return
        for action in self.chaos.due():
            match action:
                case LateFill():
                    # Where its funds are spent meanwhile, the refusal is in the audit trail.
                    with contextlib.suppress(Refusal):
                        self._host.exchange.fill_outside(action.account, order_id=action.order_id)
                case Restart():
                    if not action.keep_streams:
                        self._host.forget_feeds()
                        for forget in self._forgetting:
                            forget()
                    self.end_delays()
                    self.chaos.cut_streams()
                    for cut in list(self._restarting):
                        cut()

    def wake(self) -> None:
        """See to it that something happens when the next fault is due by itself."""
        if self.chaos.is_idle:
            return
        next_ns = self.chaos.next_due_ns()
        if next_ns is None or (self._waker is not None and self._waker[0] <= next_ns):
            return
        if self._waker is not None:
            self._waker[1].cancel()
        self._waker = next_ns, asyncio.create_task(self._wake_at(next_ns))

    async def _wake_at(self, time_ns: int) -> None:
        while (left_ns := time_ns - self._clock()) > 0:
            # Less could round to nothing, and then time would never come.
            await self._sleep(max(left_ns, 1000) / 1e9)
        self._waker = None
        self._host.try_to(self._host.pass_time)
        self.wake()

    def _record_hit(self, mark: Mark) -> None:
        target = mark.target
        said = {
            "fault": str(mark.fault_id),
            "kind": str(mark.kind),
            "operation": target.operation,
            "route": target.route,
            "symbol": target.symbol,
        }

        def note() -> None:
            self._host.exchange.note_fault(
                Operation.FAULT_HIT,
                target.account or None,
                client_order_id=target.client_order_id,
                order_id=target.order_id,
                arguments={name: text for name, text in said.items() if text},
            )

        # A fault must not fail who meets it in another way than it says.
        self._host.try_to(note)

    def _note(
        self, exchange: Exchange, operation: Operation, account: str | None, said: dict[str, str]
    ) -> None:
        self._host.try_to(lambda: exchange.note_fault(operation, account, arguments=said))


def _said(spec: FaultSpec) -> dict[str, str]:
    """Write what was asked for, without what was left open."""
    return {name: str(value) for name, value in msgspec.to_builtins(spec).items()}
