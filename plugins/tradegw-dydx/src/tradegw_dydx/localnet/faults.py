"""What can go wrong on purpose: kinds, and who counts them. Pure.

A fault acts at a point that a request passes, or is a condition that stands for some blocks. `times` says how
often, or for how many blocks; None means until it is taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from msgspec import Struct

__all__ = ["CONDITIONS", "Fault", "FaultKind", "FaultSpec", "Faults"]


class FaultKind(StrEnum):
    """What goes wrong."""

    # At a node's door.
    DOWN = "DOWN"
    """The node stops listening, and its connections are cut."""
    RESET = "RESET"
    """A request arrives; its connection is cut before anything is done."""
    BLACK_HOLE = "BLACK_HOLE"
    """A request arrives, nothing is done, and no answer ever comes."""
    SLOW = "SLOW"
    """A request is carried out `delay_s` late, whether its caller still waits or not."""
    REPLY_LOST = "REPLY_LOST"
    """A request is carried out, and its connection is cut before the answer."""
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    """A request is refused as one too many, in gRPC's own words."""
    # In a node.
    LAGGING = "LAGGING"
    """The node knows the chain as it was `blocks` ago."""
    SYNCING = "SYNCING"
    """The node says that it catches up."""
    OLD_WINDOW = "OLD_WINDOW"
    """The node takes short-term orders for 20 blocks alone."""
    ISOLATED = "ISOLATED"
    """The node hears no gossip and nobody hears its own; it comes when the fault is over."""
    # In the chain.
    HALT = "HALT"
    """No block is made."""
    CLOCK_SKEW = "CLOCK_SKEW"
    """The chain's clock is `offset_s` ahead (below zero: behind) of everyone else's."""
    SEQUENCE_TAKEN = "SEQUENCE_TAKEN"
    """Just before a transaction with a sequence, someone else uses that sequence."""
    NONCE_TAKEN = "NONCE_TAKEN"
    """Just before a transaction with a timestamp nonce, someone else uses that nonce."""
    TX_DROPPED = "TX_DROPPED"
    """A transaction for a block is accepted, and lost from every mempool."""
    DELIVERY_FAILS = "DELIVERY_FAILS"
    """A transaction is accepted, and fails in its block with `codespace` and `code`."""
    ORDER_REMOVED = "ORDER_REMOVED"
    """A short-term order is accepted, and removed at once for `reason`."""
    FILL_AFTER_CANCEL = "FILL_AFTER_CANCEL"
    """A short-term order whose cancel was accepted fills in the next block all the same."""
    BATCH_IGNORED = "BATCH_IGNORED"
    """A batch cancel is accepted, and cancels nothing."""
    # At the indexer's door.
    INDEXER_LAG = "INDEXER_LAG"
    """The indexer is `blocks` behind."""
    REST_STALE = "REST_STALE"
    """REST shows the indexer's state as it was when this fault was set; the stream goes on."""
    REST_ERROR = "REST_ERROR"
    """A request is answered with `status`."""
    REST_SLOW = "REST_SLOW"
    """A request is answered `delay_s` late."""
    WS_DROP = "WS_DROP"
    """Every stream is cut without a word, before its next message."""
    WS_SKIP = "WS_SKIP"
    """A message of a stream never comes, and its number is missing."""
    WS_DUPLICATE = "WS_DUPLICATE"
    """A message of a stream comes twice, under the same number."""
    WS_LATE_SUBSCRIBED = "WS_LATE_SUBSCRIBED"
    """The answer to a subscription comes after `messages` of its own updates."""
    INDEXER_RESTART = "INDEXER_RESTART"
    """Streams close with 1012, and the indexer forgets which short-term orders live."""


CONDITIONS: Final = frozenset(
    {
        FaultKind.DOWN,
        FaultKind.LAGGING,
        FaultKind.SYNCING,
        FaultKind.OLD_WINDOW,
        FaultKind.ISOLATED,
        FaultKind.HALT,
        FaultKind.CLOCK_SKEW,
        FaultKind.INDEXER_LAG,
        FaultKind.REST_STALE,
    }
)
"""Kinds that stand for some blocks, where the others meet single requests."""


_KEPT_MAX: Final = 1000
"""Those that are over make room, oldest first."""


class FaultSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault as someone asks for it.

    Attributes:
        times: How often it acts; of a condition, for how many blocks. None: until taken back.
        after: How many that it fits pass first.
        node: Number of the node, from 0; None for any.
        method: Of gRPC, such as `BroadcastTx`; None for any. Of REST, the start of the path.
        client_id: Of the order that a transaction is about; None for any.
    """

    kind: FaultKind
    times: int | None = 1
    after: int = 0
    node: int | None = None
    method: str | None = None
    client_id: int | None = None
    delay_s: float = 1.0
    blocks: int = 5
    offset_s: float = 40.0
    codespace: str = "clob"
    code: int = 3007
    reason: str = "ORDER_REMOVAL_REASON_UNDERCOLLATERALIZED"
    status: int = 500
    messages: int = 1

    def __post_init__(self) -> None:
        if self.times is not None and self.times < 1:
            raise ValueError(f"times is at least 1, or null; found {self.times}")
        for name in ("after", "delay_s", "blocks", "messages"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is not below 0; found {getattr(self, name)}")
        if not 400 <= self.status <= 599:
            raise ValueError(f"status is 400 to 599; found {self.status}")


class Fault(Struct, kw_only=True):
    """A fault that stands.

    Attributes:
        left: How often it acts still; None without end.
    """

    fault_id: int
    spec: FaultSpec
    left: int | None
    passed: int = 0
    hits: int = 0

    @property
    def is_over(self) -> bool:
        """Tell whether it has acted as often as it should."""
        return self.left == 0


class Faults:
    """All faults that stand or stood."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._last_id = 0
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call whenever a condition may have changed."""
        self._listeners.append(listener)

    def add(self, spec: FaultSpec) -> Fault:
        """Let something go wrong.

        Raises:
            ValueError: Too many faults stand.
        """
        self._last_id += 1
        if len(self._faults) >= _KEPT_MAX:
            over = [fault.fault_id for fault in self._faults.values() if fault.is_over]
            if not over:
                raise ValueError(f"{_KEPT_MAX} faults stand already; take some back")
            del self._faults[over[0]]
        fault = Fault(fault_id=self._last_id, spec=spec, left=spec.times)
        self._faults[fault.fault_id] = fault
        self._changed()
        return fault

    def remove(self, fault_id: int) -> Fault | None:
        """Take a fault back; None when there is none of that number."""
        fault = self._faults.pop(fault_id, None)
        self._changed()
        return fault

    def clear(self) -> None:
        """Take all back."""
        self._faults.clear()
        self._changed()

    def list_faults(self) -> list[Fault]:
        """List them, those that are over included."""
        return list(self._faults.values())

    def take(
        self,
        kind: FaultKind,
        *,
        node: int | None = None,
        method: str | None = None,
        client_ids: frozenset[int] = frozenset(),
    ) -> FaultSpec | None:
        """Return the fault that acts on what passes here, and count it."""
        for fault in self._faults.values():
            spec = fault.spec
            if (
                spec.kind is not kind
                or fault.is_over
                or (spec.node is not None and node is not None and spec.node != node)
                or (spec.method is not None and not (method or "").startswith(spec.method))
                or (spec.client_id is not None and spec.client_id not in client_ids)
            ):
                continue
            fault.passed += 1
            if fault.passed <= spec.after:
                continue
            fault.hits += 1
            if fault.left is not None:
                fault.left -= 1
            return spec
        return None

    def standing(self, kind: FaultKind, *, node: int | None = None) -> FaultSpec | None:
        """Return the condition of a kind that stands."""
        for fault in self._faults.values():
            spec = fault.spec
            if spec.kind is kind and not fault.is_over and spec.node in (None, node):
                return spec
        return None

    def pass_block(self) -> None:
        """Let a block pass, made or not: conditions draw to their end."""
        for fault in self._faults.values():
            if fault.spec.kind in CONDITIONS and not fault.is_over:
                fault.hits += 1
                if fault.left is not None:
                    fault.left -= 1
        self._changed()

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()
