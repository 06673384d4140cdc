"""What the gateway measures, in Prometheus's terms. Each gateway has a registry of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from tradegw.engine.guard import Rank
from tradegw.model import CommandKind
from tradegw.ports import Clock

if TYPE_CHECKING:
    from tradegw.engine.account import Account
    from tradegw.engine.outbox import Outbox
    from tradegw.gateway.keeper import Keeper

__all__ = ["Metrics", "tradegw_version"]

_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NS_PER_S = 1_000_000_000


def tradegw_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("tradegw")
    except PackageNotFoundError:
        return "unknown"


class Metrics:
    """The metrics of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rpc_seconds = Histogram(
            "tradegw_rpc_seconds",
            "Time to answer a call at the gRPC door.",
            ["method"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.rpc_total = Counter(
            "tradegw_rpc",
            "Calls answered at the gRPC door, by status code.",
            ["method", "code"],
            registry=self.registry,
        )
        self.venue_call_seconds = Histogram(
            "tradegw_venue_call_seconds",
            "Time until a venue answered a command, by outcome.",
            ["venue", "operation", "outcome"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.store_append_seconds = Histogram(
            "tradegw_store_append_seconds",
            "Time until an entry was durable, from handing it to the store; many share a commit.",
            ["outcome"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.orders_refused = Counter(
            "tradegw_orders_refused",
            "New orders refused here, by reason: limits, halts, rules, budgets, a venue that is out.",
            ["account", "reason"],
            registry=self.registry,
        )
        self.registry.register(_BuildInfo())
        # The labelled figures, once they are known: finding one costs more than counting.
        self._venue_times: dict[tuple[str, str, str], Histogram] = {}
        self._store_times: dict[str, Histogram] = {}

    def venue_call(self, venue: str, operation: str, outcome: str, seconds: float) -> None:
        """Count one call of a venue."""
        key = (venue, operation, outcome)
        time = self._venue_times.get(key)
        if time is None:
            time = self._venue_times[key] = self.venue_call_seconds.labels(*key)
        time.observe(seconds)

    def store_append(self, outcome: str, seconds: float) -> None:
        """Count one entry handed to the store."""
        time = self._store_times.get(outcome)
        if time is None:
            time = self._store_times[outcome] = self.store_append_seconds.labels(outcome)
        time.observe(seconds)

    def refused(self, account: str, reason: str) -> None:
        """Count one order that was refused here."""
        self.orders_refused.labels(account, reason).inc()

    def watch_accounts(self, accounts: Callable[[], Sequence[Account]], clock: Clock) -> None:
        """Report open orders, doubts and states of the accounts whenever somebody reads."""
        self.registry.register(_Accounts(accounts, clock))
        self.registry.register(_Guards(accounts))

    def watch_leases(self, keeper: Keeper) -> None:
        """Report the leases of this gateway whenever somebody reads."""
        self.registry.register(_Leases(keeper))

    def watch_outboxes(self, outboxes: Callable[[], Sequence[Outbox]]) -> None:
        """Report how far the sinks are behind whenever somebody reads."""
        self.registry.register(_Outboxes(outboxes))


class _BuildInfo(Collector):
    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily(
            "tradegw_build", "What is running.", value={"version": tradegw_version()}
        )


class _Accounts(Collector):
    def __init__(self, accounts: Callable[[], Sequence[Account]], clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        labels = ["account", "venue"]
        open_orders = GaugeMetricFamily(
            "tradegw_orders_open", "Open orders, those in doubt included.", labels=labels
        )
        in_doubt = GaugeMetricFamily(
            "tradegw_orders_in_doubt", "Orders of which nobody knows something.", labels=labels
        )
        oldest = GaugeMetricFamily(
            "tradegw_orders_in_doubt_oldest_seconds", "Age of the oldest doubt.", labels=labels
        )
        ready = GaugeMetricFamily(
            "tradegw_account_ready", "1 while the account takes new orders.", labels=labels
        )
        unexplained = GaugeMetricFamily(
            "tradegw_position_unexplained",
            "What the venue holds beyond what the fills explain, where that is not nothing.",
            labels=[*labels, "symbol"],
        )
        now_ns = self._clock.time_ns()
        for account in self._accounts():
            names = [account.account, account.record.venue]
            doubts = [order for order in account.book if order.in_doubt]
            since_ns = min((d.since_ns for o in doubts for d in o.in_doubt), default=now_ns)
            open_orders.add_metric(names, len(account.book))
            in_doubt.add_metric(names, len(doubts))
            oldest.add_metric(names, (now_ns - since_ns) / _NS_PER_S)
            ready.add_metric(names, 1 if account.state == "READY" else 0)
            for symbol, qty in account.unexplained.items():
                unexplained.add_metric([*names, symbol], float(qty))
        yield from (open_orders, in_doubt, oldest, ready, unexplained)


class _Guards(Collector):
    """What stands between the accounts and their venues."""

    def __init__(self, accounts: Callable[[], Sequence[Account]]) -> None:
        self._accounts = accounts

    def collect(self) -> Iterable[Metric]:
        labels = ["account", "venue"]
        breaker = GaugeMetricFamily(
            "tradegw_breaker_open", "1 while the breaker is open: the venue is out.", labels=labels
        )
        opened = CounterMetricFamily(
            "tradegw_breaker_opened", "How often the breaker has opened.", labels=labels
        )
        offset = GaugeMetricFamily(
            "tradegw_venue_clock_offset_seconds",
            "How far the venue's clock is ahead of ours.",
            labels=labels,
        )
        held = GaugeMetricFamily(
            "tradegw_orders_held",
            "Orders of which a command waits here until the venue is back.",
            labels=[*labels, "command"],
        )
        waiting = GaugeMetricFamily(
            "tradegw_queue_waiting",
            "Requests that wait for the venue's rate budget or for their turn, by who goes first.",
            labels=[*labels, "rank"],
        )
        shared = ["venue", "pool", "scope", "shared_by"]
        used = GaugeMetricFamily(
            "tradegw_budget_used", "Units of a rate budget that count now.", labels=shared
        )
        limit = GaugeMetricFamily(
            "tradegw_budget_limit",
            "Units of a rate budget that are ours: the whole, or our part among replicas.",
            labels=shared,
        )
        told: set[int] = set()
        for account in self._accounts():
            names = [account.account, account.record.venue]
            guard, lane = account.guard, account.guard.lane
            breaker.add_metric(names, guard.breaker.is_open)
            opened.add_metric(names, guard.breaker.opened)
            offset.add_metric(names, account.venue_offset_ns / _NS_PER_S)
            commands = [order.queued_command for order in account.book if order.queued]
            for command in CommandKind.NEW, CommandKind.CANCEL:
                held.add_metric([*names, command], commands.count(command))
            for rank in Rank:
                waiting.add_metric([*names, rank.name], lane.traffic.waiting(lane, rank))
            if id(lane.traffic) in told:
                continue
            told.add(id(lane.traffic))
            now_ns = lane.venue_time_ns()
            for pool, by in lane.traffic.all_pools():
                key = [account.record.venue, pool.about.name, pool.about.scope, by]
                used.add_metric(key, pool.used(now_ns))
                limit.add_metric(key, pool.limit)
        yield from (breaker, opened, offset, held, waiting, used, limit)


class _Outboxes(Collector):
    """How far the sinks are behind."""

    def __init__(self, outboxes: Callable[[], Sequence[Outbox]]) -> None:
        self._outboxes = outboxes

    def collect(self) -> Iterable[Metric]:
        labels = ["sink", "account"]
        events = GaugeMetricFamily(
            "tradegw_outbox_lag_events", "Events that a sink has not confirmed.", labels=labels
        )
        seconds = GaugeMetricFamily(
            "tradegw_outbox_lag_seconds",
            "Age of the oldest event that is on its way to a sink.",
            labels=labels,
        )
        published = CounterMetricFamily(
            "tradegw_outbox_published",
            "Events that a sink has confirmed since the start, repeated ones included.",
            labels=labels,
        )
        for outbox in self._outboxes():
            names = [outbox.sink, outbox.account]
            events.add_metric(names, outbox.lag_events)
            seconds.add_metric(names, outbox.lag_s)
            published.add_metric(names, outbox.published)
        yield from (events, seconds, published)


class _Leases(Collector):
    """What this gateway holds, where several share the store."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def collect(self) -> Iterable[Metric]:
        left = GaugeMetricFamily(
            "tradegw_lease_left_seconds",
            "How long this gateway may send for an account that it holds, unless the lease is renewed.",
            labels=["account"],
        )
        for account, left_s in self._keeper.tenures():
            left.add_metric([account], left_s)
        yield left
        yield GaugeMetricFamily(
            "tradegw_replicas",
            "Gateways that hold accounts now, this one included.",
            value=self._keeper.sharers,
        )
        yield CounterMetricFamily(
            "tradegw_leases_taken", "Leases that this gateway took.", value=self._keeper.taken
        )
        yield CounterMetricFamily(
            "tradegw_leases_lost",
            "Leases that another gateway took from this one, or that could not be renewed in time.",
            value=self._keeper.lost,
        )
