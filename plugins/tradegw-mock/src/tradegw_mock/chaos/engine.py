"""The fault engine: which fault acts on what, how often, and what it makes of it.

Pure: no sockets, no tasks. Time comes from the clock it is given, chance from its seed; asked the same
things in the same order it says the same. A door asks it where faults act:

    before(target)                  a request came in, nothing was done yet
    after(target)                   it was carried out, the answer has not left
    open_stream(account, cut)       a stream of events opens; `StreamFaults.pass_on` is its filter
    skew_ns(target)                 what a request is told, and judged by, when it reads the clock

The host of the exchange asks it the rest, for all doors: `on_cancel`, `due`, and what queries show
(`shown_order`, `shown_orders`, `shown_fills`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct

from tradegw_mock.chaos.faults import ABOUT, FaultKind, FaultSpec, Mark, Point, Target
from tradegw_mock.chaos.past import Past
from tradegw_mock.chaos.streams import StreamFaults
from tradegw_mock.exchange import Fill, Order

__all__ = ["Chaos", "ErrorAnswer", "Fault", "LateFill", "Outcome", "Restart", "UnknownFault"]

NS: Final = 1_000_000_000
ACTIVE_MAX: Final = 1000
_REMEMBERED_MAX: Final = 10_000


class ErrorAnswer(Struct, frozen=True, kw_only=True):
    """An error that a request is answered with instead of what became of it.

    Attributes:
        kind: ERROR_AFTER (it was carried out), TOO_MANY_REQUESTS, BANNED or MAINTENANCE (it was not).
        status: The HTTP status: 500 to 599, 429 or 418; 503 where `code` says it all.
        code: Binance's code, where it is known: -1006, -1007; -1003 for 429 and 418.
        retry_after_s: When to come back, where it says so.
    """

    kind: FaultKind
    status: int
    code: int | None = None
    retry_after_s: float | None = None
    text: str = ""


class Outcome(Struct, frozen=True, kw_only=True):
    """What faults make of a request at one point. Do, in this order: wait, then say.

    Attributes:
        delay_s: Wait for so long first.
        is_lost: Then never answer; before acceptance never carry it out either. A door that can
            cuts the connection.
        error: Or answer with this; before acceptance do not carry it out.
    """

    delay_s: float = 0.0
    is_lost: bool = False
    error: ErrorAnswer | None = None


NOTHING: Final = Outcome()


class LateFill(Struct, frozen=True, kw_only=True):
    """An order that was canceled is to fill now."""

    fault_id: int
    account: str
    order_id: int


class Restart(Struct, frozen=True, kw_only=True):
    """Every connection is to be cut now, and without `keep_streams` streams are to be forgotten."""

    fault_id: int
    keep_streams: bool


class UnknownFault(Exception):
    """No fault has this id: it was never given, or is over."""


class Fault(Struct, kw_only=True):
    """A fault that was given.

    Attributes:
        begins_ns: From when on it can act; `ends_ns`: until when, None for without end.
        hits: How often it acted.
        left: How often it may still act; None for without end.
        holds_until_ns: Until when what it did lasts, such as an order that is not found.
        has_begun: Whether its beginning was seen to, where something happens by itself then.
    """

    fault_id: int
    spec: FaultSpec
    begins_ns: int
    ends_ns: int | None
    left: int | None
    hits: int = 0
    holds_until_ns: int = 0
    has_begun: bool = False


class Chaos:
    """All faults of one exchange.

    Args:
        clock: Nanoseconds since the epoch, never set wrong by CLOCK_SKEW itself.
        seed: What chances are drawn from. Each fault draws its own, so that one more fault changes
            nothing for the others.
        record: Told of each hit, in order.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], int],
        seed: int = 1,
        record: Callable[[Mark], None] | None = None,
    ) -> None:
        self.record = record
        self.past = Past()
        self._clock = clock
        self._seed = seed
        self._faults: dict[int, Fault] = {}
        self._last_id = 0
        self._draws: dict[int, random.Random] = {}
        # What a NOT_FOUND or HISTORY_LAGS decided of an order, until that no longer matters.
        self._decided: dict[tuple[int, int], bool] = {}
        self._streams: dict[StreamFaults, None] = {}
        self._late: list[tuple[int, LateFill]] = []

    # --- faults ---------------------------------------------------------------------------------

    def inject(self, spec: FaultSpec) -> Fault:
        """Let something go wrong, from now on or from `spec.start_s` on.

        Raises:
            ValueError: Too many faults are active.
        """
        self._forget_over()
        if len(self._faults) >= ACTIVE_MAX:
            raise ValueError(f"at most {ACTIVE_MAX} faults are active at a time; remove some")
        self._last_id += 1
        begins_ns = self._clock() + round(spec.start_s * NS)
        fault = Fault(
            fault_id=self._last_id,
            spec=spec,
            begins_ns=begins_ns,
            ends_ns=None if spec.for_s is None else begins_ns + round(spec.for_s * NS),
            left=spec.limit,
        )
        self._faults[fault.fault_id] = fault
        self._draws[fault.fault_id] = random.Random(f"{self._seed}:{fault.fault_id}")
        return fault

    def remove(self, fault_id: int) -> Fault:
        """End a fault. What it has done stays done; a stream that it silenced speaks again.

        Raises:
            UnknownFault: It is none, or over.
        """
        self._forget_over()
        try:
            fault = self._faults.pop(fault_id)
        except KeyError:
            raise UnknownFault(f"no fault {fault_id} is active") from None
        del self._draws[fault_id]
        return fault

    def clear(self) -> list[Fault]:
        """End all faults."""
        self._forget_over()
        return [self.remove(fault_id) for fault_id in list(self._faults)]

    def active(self) -> list[Fault]:
        """List the faults that act, or will when their time has come."""
        self._forget_over()
        return list(self._faults.values())

    @property
    def is_active(self) -> bool:
        """Whether there is any fault at all; where there is none, a door need not ask further."""
        return bool(self._faults)

    @property
    def is_idle(self) -> bool:
        """Whether there is neither a fault nor anything left to come of one."""
        return not self._faults and not self._late

    def next_due_ns(self) -> int | None:
        """When `due` has something to do that no request brings about; None for not yet known."""
        times = [at_ns for at_ns, _ in self._late]
        times += [
            fault.begins_ns
            for fault in self._faults.values()
            if fault.spec.kind in _BY_ITSELF and not fault.has_begun
        ]
        return min(times, default=None)

    # --- requests -------------------------------------------------------------------------------

    def before(self, target: Target) -> Outcome:
        """Say what becomes of a request that came in and was not looked at yet.

        Where several faults meet it, delays add up, and the first that ends it decides.
        """
        return self._outcome(Point.BEFORE, target)

    def after(self, target: Target) -> Outcome:
        """Say what becomes of the answer to a request that was carried out, or refused by the exchange."""
        return self._outcome(Point.AFTER, target)

    def skew_ns(self, target: Target) -> int:
        """Say by how much the clock goes wrong for a request: add it to what the clock says.

        Ask once for each request, and use the sum for all that the request is told and judged by:
        the time in its answer, how old it is, until when it is valid.
        """
        skew_ns = 0
        for fault in self._meeting(Point.CLOCK, target):
            if self._hit(fault, target):
                skew_ns += round(fault.spec.parameter("offset_s") * NS)
        return skew_ns

    def _outcome(self, point: Point, target: Target) -> Outcome:
        delay_s = 0.0
        for fault in self._meeting(point, target):
            if not self._hit(fault, target):
                continue
            kind = fault.spec.kind
            if kind in _DELAYS:
                delay_s += fault.spec.parameter("delay_s")
            elif kind in _LOSSES:
                return Outcome(delay_s=delay_s, is_lost=True)
            else:
                return Outcome(delay_s=delay_s, error=_error(fault))
        return Outcome(delay_s=delay_s) if delay_s else NOTHING

    # --- streams --------------------------------------------------------------------------------

    def open_stream(
        self, account: str, cut: Callable[[], None], *, route: str = ""
    ) -> StreamFaults:
        """Open a stream of an account's events: pass what it would carry through `pass_on`.

        Args:
            cut: Called when the stream is to be cut with no event at hand; cut the connection then.
            route: The door's own name for such streams.

        Call `StreamFaults.close` when it ends.
        """
        stream = StreamFaults(self, account, cut, route)
        self._streams[stream] = None
        return stream

    def close_stream(self, stream: StreamFaults) -> None:
        """Forget a stream that ended."""
        self._streams.pop(stream, None)

    def cut_streams(self) -> None:
        """Cut every open stream."""
        for stream in list(self._streams):
            stream.cut()

    def event_fault(self, target: Target) -> Fault | None:
        """Give the fault that acts on an event; the first that does decides alone."""
        for fault in self._meeting(Point.EVENT, target):
            if self._hit(fault, target):
                return fault
        return None

    def is_lasting(self, fault_id: int) -> bool:
        """Whether what a fault did to a stream goes on: it was not removed, and its time is not over."""
        fault = self._faults.get(fault_id)
        if fault is None:
            return False
        return fault.ends_ns is None or self._clock() < fault.ends_ns

    # --- the exchange's host --------------------------------------------------------------------

    def on_cancel(self, target: Target) -> bool:
        """Say whether an order that is about to be canceled is to be filled first (CANCEL_FILLED).

        Asked only of an order that is open. The host fills it, and the exchange refuses the cancel.
        """
        for fault in self._meeting(Point.CANCEL, target):
            if fault.spec.kind is FaultKind.CANCEL_FILLED and self._hit(fault, target):
                return True
        return False

    def canceled(self, target: Target) -> None:
        """Learn that a cancel was confirmed, of an order that could have filled (FILL_AFTER_CANCEL)."""
        assert target.order_id is not None
        if len(self._late) >= _REMEMBERED_MAX:
            return
        for fault in self._meeting(Point.CANCEL, target):
            if fault.spec.kind is FaultKind.FILL_AFTER_CANCEL and self._hit(fault, target):
                late = LateFill(
                    fault_id=fault.fault_id, account=target.account, order_id=target.order_id
                )
                at_ns = self._clock() + round(fault.spec.parameter("delay_s") * NS)
                self._late.append((at_ns, late))
                return

    def due(self) -> list[LateFill | Restart]:
        """Do what is due by now, and return what the host is to do, in order of time."""
        now_ns = self._clock()
        due: list[tuple[int, LateFill | Restart]] = [
            item for item in self._late if item[0] <= now_ns
        ]
        self._late = [item for item in self._late if item[0] > now_ns]
        for fault in list(self._faults.values()):
            if fault.spec.kind not in _BY_ITSELF or fault.has_begun or fault.begins_ns > now_ns:
                continue
            fault.has_begun = True
            if fault.spec.kind is FaultKind.DISCONNECT:
                for stream in list(self._streams):
                    target = stream.target()
                    if fault.spec.meets(target) and self._hit(fault, target):
                        stream.cut()
                continue
            if self._hit(fault, Target(operation="restart")):
                keep = bool(fault.spec.parameter("keep_streams"))
                due.append((fault.begins_ns, Restart(fault_id=fault.fault_id, keep_streams=keep)))
            # It happens once; chance decides whether.
            fault.left = 0
        self._forget_over()
        return [action for _, action in sorted(due, key=lambda item: item[0])]

    def shown_order(self, target: Target, order: Order) -> Order | None:
        """Show an order that was asked for; None when it is not found yet (NOT_FOUND)."""
        shown = self.shown_orders(target, (order,))
        return shown[0] if shown else None

    def shown_orders(self, target: Target, orders: Iterable[Order]) -> tuple[Order, ...]:
        """Show what a query of orders sees (NOT_FOUND; of open orders STALE_OPEN_ORDERS, too).

        Args:
            target: The query: `order`, `orders` or `open_orders`.
            orders: What there is.
        """
        shown = tuple(orders)
        faults = self._meeting(Point.QUERY, target)
        if not faults:
            return shown
        now_ns = self._clock()
        for fault in faults:
            lag_ns = round(fault.spec.parameter("lag_s") * NS)
            if fault.spec.kind is FaultKind.STALE_OPEN_ORDERS:
                stale = tuple(
                    order
                    for order in self.past.open_orders(target.account, shown, now_ns - lag_ns)
                    if target.symbol in ("", order.symbol)
                )
                if stale != shown and self._hit(fault, target):
                    shown = stale
            elif fault.spec.kind is FaultKind.NOT_FOUND:
                shown = tuple(
                    order
                    for order in shown
                    if now_ns - order.created_time_ns >= lag_ns
                    or not self._hides(fault, target, order)
                )
        return shown

    def shown_fills(self, target: Target, fills: Sequence[Fill]) -> list[Fill]:
        """Show what a query of fills sees (HISTORY_LAGS)."""
        shown = list(fills)
        for fault in self._meeting(Point.QUERY, target):
            if fault.spec.kind is not FaultKind.HISTORY_LAGS:
                continue
            from_ns = self._clock() - round(fault.spec.parameter("lag_s") * NS)
            shown = [
                fill
                for fill in shown
                if fill.time_ns <= from_ns or not self._hides(fault, target, fill)
            ]
        return shown

    # --- counting and chance --------------------------------------------------------------------

    def _meeting(self, point: Point, target: Target) -> list[Fault]:
        if not self._faults:
            return []
        now_ns = self._clock()
        return [
            fault
            for fault in self._faults.values()
            if ABOUT[fault.spec.kind].point is point
            and fault.begins_ns <= now_ns
            and (fault.ends_ns is None or now_ns < fault.ends_ns)
            and fault.spec.meets(target)
        ]

    def _hit(self, fault: Fault, target: Target) -> bool:
        """Draw whether a fault acts; if so, count and mark it."""
        if fault.left == 0:
            return False
        probability = fault.spec.probability
        if probability < 1 and self._draws[fault.fault_id].random() >= probability:
            return False
        fault.hits += 1
        if fault.left is not None:
            fault.left -= 1
        if self.record is not None:
            self.record(Mark(fault_id=fault.fault_id, kind=fault.spec.kind, target=target))
        return True

    def _hides(self, fault: Fault, target: Target, item: Order | Fill) -> bool:
        """Whether a fault hides an order, or its fills, from queries. Decided once for each order."""
        key = fault.fault_id, item.order_id
        decided = self._decided.get(key)
        if decided is None:
            about = Target(
                operation=target.operation,
                route=target.route,
                account=item.account,
                symbol=item.symbol,
                client_order_id=item.client_order_id,
                order_id=item.order_id,
            )
            decided = self._decided[key] = fault.spec.meets(about) and self._hit(fault, about)
            if len(self._decided) > _REMEMBERED_MAX:
                del self._decided[next(iter(self._decided))]
        if decided:
            since_ns = item.created_time_ns if isinstance(item, Order) else item.time_ns
            until_ns = since_ns + round(fault.spec.parameter("lag_s") * NS)
            fault.holds_until_ns = max(fault.holds_until_ns, until_ns)
        return decided

    def _forget_over(self) -> None:
        now_ns = self._clock()
        for fault in list(self._faults.values()):
            is_over = fault.ends_ns is not None and fault.ends_ns <= now_ns
            if fault.left == 0 and fault.holds_until_ns <= now_ns:
                is_over = is_over or all(s.silenced_by != fault.fault_id for s in self._streams)
            if is_over:
                del self._faults[fault.fault_id], self._draws[fault.fault_id]


_DELAYS: Final = (FaultKind.REQUEST_DELAYED, FaultKind.ANSWER_DELAYED)
_LOSSES: Final = (FaultKind.REQUEST_LOST, FaultKind.ANSWER_LOST)
_BY_ITSELF: Final = (FaultKind.DISCONNECT, FaultKind.RESTART)
"""What happens at its time, though nothing else does."""


def _error(fault: Fault) -> ErrorAnswer:
    kind, spec = fault.spec.kind, fault.spec
    if kind is FaultKind.ERROR_AFTER:
        code = int(spec.parameter("code"))
        if code < 0:
            return ErrorAnswer(kind=kind, status=503, code=code, text=_UNKNOWN[code])
        return ErrorAnswer(kind=kind, status=code, text="Internal error; unable to process.")
    if kind is FaultKind.MAINTENANCE:
        return ErrorAnswer(kind=kind, status=503, text="The exchange is being maintained.")
    status = 429 if kind is FaultKind.TOO_MANY_REQUESTS else 418
    retry_after_s = spec.parameter("retry_after_s")
    text = f"Too many requests; come back in {retry_after_s:g} s."
    return ErrorAnswer(kind=kind, status=status, code=-1003, retry_after_s=retry_after_s, text=text)


_UNKNOWN: Final = {
    -1006: "An unexpected response was received from the message bus. Execution status unknown.",
    -1007: "Timeout waiting for response from backend server. "
    "Send status unknown; execution status unknown.",
}
