"""Positions are the venue's: what the fills do not explain is told, and repaired by nobody."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.integration.engine.bench import Bench, capabilities
from tradegw.gateway.metrics import Metrics
from tradegw.testing import ScriptedPlugin


def use_positions(bench: Bench) -> None:
    bench.accounts["paper"] = bench.plugin = ScriptedPlugin(
        bench.exchange, capabilities=capabilities(positions=True)
    )


def gauge(bench: Bench) -> float | None:
    metrics = Metrics()
    metrics.watch_accounts(lambda: bench.engine.accounts, bench.clock)
    labels = {"account": "paper", "venue": "scripted", "symbol": "BTC/USDT"}
    return metrics.registry.get_sample_value("tradegw_position_unexplained", labels)


async def why(bench: Bench) -> str:
    (venue,) = await bench.gateway.list_venues()
    return venue.accounts[0].why


async def test_a_position_that_the_fills_explain_is_no_matter(bench: Bench) -> None:
    use_positions(bench)
    bench.exchange.positions["BTC/USDT"] = Decimal(7)
    await bench.start()
    await bench.turn(40, step_s=1.0)
    await bench.place()
    bench.exchange.fill(bench.exchange.orders[0], "0.4")
    bench.exchange.positions["BTC/USDT"] = Decimal("7.4")
    await bench.turn(200, step_s=1.0)
    assert (gauge(bench), await why(bench)) == (None, "")


async def test_a_position_that_nobody_explains_is_told_until_it_is(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A liquidation, say: the venue is right, and no fill is invented for it."""
    use_positions(bench)
    bench.exchange.positions["BTC/USDT"] = Decimal(7)
    await bench.start()
    order = await bench.place()
    await bench.turn(130, step_s=1.0)
    bench.exchange.positions["BTC/USDT"] = Decimal(2)
    await bench.clock.until(lambda: bench.account().unexplained, step_s=1.0)
    assert "ALARM account paper: POSITION_MISMATCH" in caplog.text
    assert gauge(bench) == -5
    assert "POSITION_MISMATCH" in await why(bench)
    assert await bench.fills() == []
    (shown,) = await bench.gateway.list_positions("paper")
    assert (shown.qty, shown.unexplained_qty) == (2, -5)
    # Nothing is held up by it.
    assert bench.state() == "READY"
    assert not (await bench.gateway.cancel_order(order.order_id)).is_open
    assert caplog.text.count("ALARM") == 1
    bench.exchange.positions.clear()
    await bench.clock.until(lambda: gauge(bench) == -7, step_s=1.0)
    (shown,) = await bench.gateway.list_positions("paper")
    assert (shown.qty, shown.unexplained_qty) == (0, -7)
    bench.exchange.positions["BTC/USDT"] = Decimal(7)
    await bench.clock.until(lambda: not bench.account().unexplained, step_s=1.0)
    assert (gauge(bench), await why(bench)) == (None, "")


async def test_a_difference_has_the_fills_read_before_anybody_is_alarmed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream dropped a late fill of a closed order: the position is the first to tell."""
    use_positions(bench)
    await bench.start()
    order = await bench.place()
    await bench.gateway.cancel_order(order.order_id)
    await bench.turn(130, step_s=1.0)
    bench.exchange.drops = True
    bench.exchange.fill(bench.exchange.orders[0], "0.4")
    bench.exchange.positions["BTC/USDT"] = Decimal("0.4")
    bench.exchange.calm()
    await bench.order_when(order.order_id, lambda o: o.cum_qty, step_s=1.0)
    await bench.turn(130, step_s=1.0)
    assert "ALARM" not in caplog.text
    await bench.check_ledger()
