"""What the exchange measures, in Prometheus's terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tradegw_mock.exchange import AccountKind, Change, Operation
from tradegw_mock.host import ExchangeAway, Host

__all__ = ["MockMetrics"]


class MockMetrics(Collector):
    """Counts since this process began, and how things stand."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._requests: Counter[tuple[str, str]] = Counter()
        self._hits: Counter[str] = Counter()
        self._fills = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        host.listen(self._on_change)

    def text(self) -> bytes:
        """Write all in the text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Collect all."""
        requests = CounterMetricFamily(
            "tradegw_mock_requests",
            "Requests that could change something, by operation and decision.",
            labels=["operation", "decision"],
        )
        for (operation, decision), count in sorted(self._requests.items()):
            requests.add_metric([operation, decision], count)
        yield requests
        hits = CounterMetricFamily(
            "tradegw_mock_fault_hits", "How often faults acted, by kind.", labels=["kind"]
        )
        for kind, count in sorted(self._hits.items()):
            hits.add_metric([kind], count)
        yield hits
        yield CounterMetricFamily(
            "tradegw_mock_fills", "Fills, both sides of each trade.", value=self._fills
        )
        faults = self._host.faults.chaos.active()
        yield GaugeMetricFamily("tradegw_mock_faults_active", "Faults now.", value=len(faults))
        broken = len(self._host.pace.violations)
        yield GaugeMetricFamily(
            "tradegw_mock_violations",
            "Invariants that the exchange found broken when it last checked itself: 0, ever.",
            value=broken,
        )
        try:
            exchange = self._host.exchange
        except ExchangeAway:
            yield GaugeMetricFamily("tradegw_mock_up", "Whether the exchange is there.", value=0)
            return
        yield GaugeMetricFamily("tradegw_mock_up", "Whether the exchange is there.", value=1)
        opened = GaugeMetricFamily(
            "tradegw_mock_open_orders", "Open orders of users.", labels=["account"]
        )
        for account in exchange.accounts():
            if account.kind is AccountKind.USER:
                opened.add_metric([account.name], len(exchange.open_orders(account.name)))
        yield opened
        yield GaugeMetricFamily(
            "tradegw_mock_audit_lines", "Lines of the audit trail.", value=exchange.audit_lines
        )

    def _on_change(self, change: Change) -> None:
        request = change.request
        if request.operation is Operation.FAULT_HIT:
            self._hits[request.arguments["kind"]] += 1
        else:
            decision = "accepted" if request.code is None else str(request.code)
            self._requests[request.operation, decision] += 1
        self._fills += len(change.fills)
