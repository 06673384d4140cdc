"""Counts and times calls."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Histogram

from tradegw.gateway.metrics import Metrics

__all__ = ["Observe", "observer"]

Observe = Callable[[str, str, float | None], None]
"""Takes a method, the name of its gRPC status, and the seconds that it took; None for a stream."""


def observer(metrics: Metrics) -> Observe:
    """Return what counts calls. It remembers the labelled figures: finding one costs more than counting."""
    times: dict[str, Histogram] = {}
    counts: dict[tuple[str, str], Counter] = {}

    def observe(method: str, code: str, seconds: float | None) -> None:
        count = counts.get((method, code))
        if count is None:
            count = counts[method, code] = metrics.rpc_total.labels(method, code)
        count.inc()
        if seconds is not None:
            time = times.get(method)
            if time is None:
                time = times[method] = metrics.rpc_seconds.labels(method)
            time.observe(seconds)

    return observe
