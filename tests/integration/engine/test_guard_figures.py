"""The guard's figures."""

from __future__ import annotations

from tests.integration.engine.bench import Bench
from tests.integration.engine.test_guard import go_out, orders_pool, restrict
from tests.integration.engine.test_queue import hold
from tradegw.engine.limits import Limits
from tradegw.gateway.metrics import Metrics
from tradegw.model import CommandKind
from tradegw.testing import Fault


async def test_the_guards_figures() -> None:
    bench = Bench("memory://")
    try:
        restrict(bench, budgets=(orders_pool(10),))
        bench.limits = Limits(max_open_orders=8)
        await bench.start()
        metrics = Metrics()
        metrics.watch_accounts(lambda: bench.engine.accounts, bench.clock)
        meter = bench.account().meter
        assert isinstance(meter, Metrics)

        def figure(name: str, registry: Metrics = metrics, **labels: str) -> float | None:
            found = registry.registry.get_sample_value(name, labels)
            return None if found is None else float(found)

        at = {"account": "paper", "venue": "scripted"}
        pool = {"venue": "scripted", "pool": "orders", "scope": "ACCOUNT", "shared_by": "paper"}
        bench.exchange.script(CommandKind.NEW, None, Fault.NOT_SENT)
        order = await bench.place()
        await bench.place()
        assert figure("tradegw_budget_used", **pool) == 1
        assert figure("tradegw_budget_limit", **pool) == 10
        assert figure("tradegw_breaker_open", **at) == 0
        await go_out(bench)
        await hold(bench)
        await bench.gateway.cancel_order(order.order_id)
        assert figure("tradegw_breaker_open", **at) == 1
        assert figure("tradegw_breaker_opened_total", **at) == 1
        assert figure("tradegw_orders_held", **at, command="NEW") == 1
        assert figure("tradegw_orders_held", **at, command="CANCEL") == 1
        assert figure("tradegw_queue_waiting", **at, rank="ORDER") == 0
        await bench.gateway.halt(why="w", by="b")
        await bench.place(queue_if_unavailable_s=9.0)
        assert figure("tradegw_orders_refused_total", meter, account="paper", reason="HALTED") == 1
    finally:
        await bench.close()
