"""What faults make of the events that one stream carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tradegw_mock.chaos.faults import STREAM, FaultKind, Target
from tradegw_mock.exchange import Event, OrderEvent

if TYPE_CHECKING:
    from tradegw_mock.chaos.engine import Chaos

__all__ = ["StreamFaults"]


class StreamFaults:
    """The filter of one open stream; `Chaos.open_stream` makes it."""

    def __init__(self, chaos: Chaos, account: str, cut: Callable[[], None], route: str) -> None:
        self.account = account
        self.route = route
        self.cut = cut
        self.silenced_by: int | None = None
        self._chaos = chaos
        self._held: Event | None = None

    def pass_on(self, events: Sequence[Event]) -> tuple[list[Event], bool]:
        """Return what of these events the stream carries now, and whether it is cut after them.

        An event that is to come after the next one waits for that.
        """
        passed: list[Event] = []
        for event in events:
            if self.silenced_by is not None and self._chaos.is_lasting(self.silenced_by):
                continue
            self.silenced_by = None
            fault = self._chaos.event_fault(self.target(event))
            kind = None if fault is None else fault.spec.kind
            if kind is FaultKind.DISCONNECT:
                return passed, True
            if kind is FaultKind.STREAM_SILENT:
                assert fault is not None
                self.silenced_by = fault.fault_id
                continue
            if kind is FaultKind.EVENT_DROPPED:
                continue
            if kind is FaultKind.EVENT_REORDERED and self._held is None:
                self._held = event
                continue
            passed.append(event)
            if kind is FaultKind.EVENT_DUPLICATED:
                passed.append(event)
            if self._held is not None:
                passed.append(self._held)
                self._held = None
        return passed, False

    def close(self) -> None:
        """End the stream."""
        self._chaos.close_stream(self)

    def target(self, event: Event | None = None) -> Target:
        """Say what an event, or the stream itself, is for faults."""
        if not isinstance(event, OrderEvent):
            return Target(operation=STREAM, account=self.account, route=self.route)
        return Target(
            operation=STREAM,
            account=self.account,
            symbol=event.order.symbol,
            route=self.route,
            client_order_id=event.order.client_order_id,
            order_id=event.order.order_id,
        )
