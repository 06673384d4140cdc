"""Until when an account may be sent for, where several gateways share the store.

A lease is renewed in the store, which may be slow, and the process may be stopped for any time between two of
its instructions. So whether we may still send is asked at the last moment before every send, of a clock that
counts suspension, and counted from before the renewal was asked for. Pure but for the clock.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Tenure"]

_NS_PER_S = 1_000_000_000


class Tenure:
    """The time of one lease, from taking it to losing it or giving it back.

    Args:
        now_ns: A clock that only grows, also while the machine is suspended.
        ttl_s: How long the store keeps the lease for us after a renewal.
        margin_s: How much earlier we cease: for clocks that run apart, and for what the venue's plugin does
            between this question and the first byte.
    """

    __slots__ = ("_is_confirmed", "_is_over", "_now_ns", "_term_ns", "_until_ns")

    def __init__(self, now_ns: Callable[[], int], *, ttl_s: float, margin_s: float) -> None:
        self._now_ns = now_ns
        self._term_ns = int((ttl_s - margin_s) * _NS_PER_S)
        self._until_ns = 0
        self._is_confirmed = False
        self._is_over = False

    def renew(self, asked_ns: int) -> None:
        """Prolong it.

        Args:
            asked_ns: When the renewal was asked for, before it left.
        """
        self._until_ns = max(self._until_ns, asked_ns + self._term_ns)

    def confirm(self) -> None:
        """Let it send: the store knows whether silence alone may take the lease away."""
        self._is_confirmed = True

    def end(self) -> None:
        """End it for good."""
        self._is_over = True

    @property
    def left_ns(self) -> int:
        """How long it lasts unless it is renewed; 0 when it is over."""
        return 0 if self._is_over else max(0, self._until_ns - self._now_ns())

    @property
    def holds(self) -> bool:
        """Whether the account is ours for certain."""
        return self.left_ns > 0

    @property
    def may_send(self) -> bool:
        """Whether a request may leave now."""
        return self._is_confirmed and self.left_ns > 0
