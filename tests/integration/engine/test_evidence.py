"""What decides an order besides a report and proof of absence: expiry where the venue forgets, a resend."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.integration.engine.bench import Bench, capabilities
from tradegw.model import CommandKind, EvidenceKind, ExecType, OrdStatus
from tradegw.testing import Fault, ScriptedPlugin, a_report
from tradegw.venue import ExpiryKind

NEW, CANCEL = CommandKind.NEW, CommandKind.CANCEL


def use_chain(bench: Bench) -> None:
    """Let the venue be a chain that forgets what expired unfilled: orders live for five blocks."""
    bench.exchange.block_s = 1.0
    bench.accounts["paper"] = bench.plugin = ScriptedPlugin(
        bench.exchange, capabilities=capabilities(expiry=ExpiryKind.HEIGHT, forgets_unfilled=True)
    )


def use_idempotent(bench: Bench, **changes: object) -> None:
    """Let a placement under a known name be answered with the order that is there."""
    bench.exchange.idempotent = True
    bench.exchange.request_validity_s = 60.0
    bench.accounts["paper"] = bench.plugin = ScriptedPlugin(
        bench.exchange,
        capabilities=capabilities(idempotent_resend=True, expiry_s=60.0, **changes),
    )


# --- a venue that forgets at expiry -----------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.LOSE_REQUEST, Fault.LOSE_ANSWER])
async def test_an_unanswered_order_of_a_forgetful_venue_ends_expired(
    bench: Bench, fault: Fault
) -> None:
    """Nobody can say whether it was ever there; that it is over is certain."""
    use_chain(bench)
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.hidden_orders = True
    bench.exchange.script(NEW, fault)
    order = await bench.place()
    await bench.turn(4)
    assert (await bench.stored(order)).in_doubt
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert (closed.ord_status, closed.closed_by) == (OrdStatus.EXPIRED, EvidenceKind.EXPIRY_PASSED)
    assert not closed.in_doubt
    events = await bench.gateway.list_order_events(order.order_id)
    evidence = next(e.evidence for e in events if e.event_type == "EXPIRED")
    assert evidence is not None
    assert "heights" in evidence.detail
    assert closed.closed_time_ns is not None
    # Six blocks, and a lag of a second between the two looks that count.
    assert closed.closed_time_ns - closed.created_time_ns > 6_000_000_000


async def test_an_acknowledged_order_of_a_forgetful_venue_ends_expired(bench: Bench) -> None:
    use_chain(bench)
    await bench.start()
    order = await bench.place()
    assert order.ord_status is OrdStatus.NEW
    await bench.turn(8)
    bench.exchange.gap()
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.closed_by is EvidenceKind.EXPIRY_PASSED
    assert not closed.cum_qty


async def test_fills_are_read_before_expiry_is_believed(bench: Bench) -> None:
    use_chain(bench)
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.hidden_orders = True
    bench.exchange.fill_on_arrival = Decimal("0.25")
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    order = await bench.place()
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert (closed.ord_status, closed.cum_qty) == (OrdStatus.EXPIRED, Decimal("0.25"))
    await bench.check_ledger()


async def test_a_fill_after_expiry_counts(bench: Bench) -> None:
    """A fill that the venue shows too late is late, not lost."""
    use_chain(bench)
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.hidden_orders = True
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    order = await bench.place()
    await bench.order_when(order.order_id, lambda o: not o.is_open)
    bench.exchange.calm()
    bench.exchange.fill(bench.exchange.orders[0], "0.5")
    late = await bench.order_when(order.order_id, lambda o: o.cum_qty)
    assert (late.ord_status, late.cum_qty) == (OrdStatus.EXPIRED, Decimal("0.5"))
    await bench.check_ledger()


async def test_a_cancel_by_height_is_over_a_lag_after_its_height(bench: Bench) -> None:
    bench.exchange.block_s = 1.0
    bench.accounts["paper"] = bench.plugin = ScriptedPlugin(
        bench.exchange,
        capabilities=capabilities(expiry=ExpiryKind.HEIGHT, visibility_lag_s=4.0),
    )
    await bench.start()
    order = await bench.place()
    # It outlives its cancel here.
    bench.exchange.orders[0].until_height = None
    bench.exchange.script(CANCEL, Fault.LOSE_REQUEST)
    await bench.gateway.cancel_order(order.order_id)
    await bench.turn(8)
    assert (await bench.stored(order)).in_doubt
    stood = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert stood.ord_status is OrdStatus.NEW


async def test_a_lag_longer_than_the_longest_pause_does_not_hold_up_the_proof(
    bench: Bench,
) -> None:
    """The first look that counts is remembered, however many follow it."""
    bench.accounts["paper"] = bench.plugin = ScriptedPlugin(
        bench.exchange, capabilities=capabilities(visibility_lag_s=150.0)
    )
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    await bench.turn(290, step_s=1.0)
    assert (await bench.stored(order)).in_doubt
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open, step_s=1.0)
    assert closed.closed_by is EvidenceKind.ABSENT_AFTER_EXPIRY


async def test_absence_is_proven_anew_after_a_restart(bench: Bench) -> None:
    """What was observed may be lost: two looks of one process are needed."""
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    await bench.clock.until(
        lambda: len(bench.account().observations.get(order.order_id, ())) == 1, step_s=0.05
    )
    bench.clock.turn(0.9)
    restarted_ns = bench.clock.time_ns()
    await bench.restart(is_ready=False)
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.closed_by is EvidenceKind.ABSENT_AFTER_EXPIRY
    assert closed.closed_time_ns is not None
    assert closed.closed_time_ns - restarted_ns >= 1_000_000_000


# --- an operator -------------------------------------------------------------------------------------


async def test_what_an_operator_closed_is_revived_by_the_venue(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    closed = await bench.gateway.resolve(
        order.order_id, outcome="REJECTED", by="ops", why="ticket 4711"
    )
    assert (closed.ord_status, closed.closed_by) == (OrdStatus.REJECTED, EvidenceKind.OPERATOR)
    events = await bench.gateway.list_order_events(order.order_id)
    assert [e.evidence.detail for e in events if e.event_type == "REJECTED" and e.evidence] == [
        "ops: ticket 4711"
    ]
    bench.exchange.tell(a_report(ExecType.NEW, venue_client_order_id=order.venue_client_order_id))
    revived = await bench.order_when(order.order_id, lambda o: o.is_open)
    assert revived.ord_status is OrdStatus.NEW
    assert "ALARM" in caplog.text


async def test_evidence_says_what_was_asked(bench: Bench) -> None:
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    order = await bench.place()
    await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    events = await bench.gateway.list_order_events(order.order_id)
    (evidence,) = [e.evidence for e in events if e.event_type == "NEW"]
    assert evidence is not None
    assert order.venue_client_order_id is not None
    assert order.venue_client_order_id in evidence.detail


# --- sending again ------------------------------------------------------------------------------------


async def test_an_order_is_sent_again_where_that_is_declared(bench: Bench) -> None:
    use_idempotent(bench)
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.visibility_lag_s = 1000.0
    await bench.turn(1)
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    assert order.in_doubt
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.ord_status is OrdStatus.NEW
    first, again = bench.exchange.sent(NEW)
    assert first == again
    assert len(bench.exchange.orders) == 1
    events = await bench.gateway.list_order_events(order.order_id)
    kinds = [e.evidence.kind for e in events if e.event_type == "NEW" and e.evidence]
    assert kinds == [EvidenceKind.IDEMPOTENT_RESEND]


async def test_sent_again_it_is_not_doubled(bench: Bench) -> None:
    use_idempotent(bench)
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.visibility_lag_s = 1000.0
    await bench.turn(1)
    bench.exchange.script(NEW, Fault.LOSE_ANSWER, Fault.LOSE_ANSWER)
    order = await bench.place()
    await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert len(bench.exchange.sent(NEW)) == 3
    assert len(bench.exchange.orders) == 1


async def test_a_refused_repetition_decides_nothing(bench: Bench) -> None:
    """It may be refused because the first one took the money."""
    use_idempotent(bench)
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.visibility_lag_s = 2.0
    await bench.turn(1)
    bench.exchange.script(NEW, Fault.LOSE_ANSWER, *[Fault.REFUSE] * 20)
    order = await bench.place()
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.ord_status is OrdStatus.NEW
    assert len(bench.exchange.sent(NEW)) > 1
    assert len(bench.exchange.orders) == 1


async def _doubt(bench: Bench) -> object:
    """Leave an order in doubt that nobody has asked about yet."""
    await bench.turn(1)
    bench.exchange.visibility_lag_s = 1000.0
    bench.exchange.drops = True
    bench.exchange.always(NEW, Fault.LOSE_REQUEST)
    return await bench.place()


async def test_nothing_is_sent_again_where_it_is_not_declared(bench: Bench) -> None:
    await bench.start()
    await _doubt(bench)
    await bench.turn(20)
    assert len(bench.exchange.sent(NEW)) == 1


async def test_nothing_is_sent_again_after_send_by(bench: Bench) -> None:
    use_idempotent(bench)
    await bench.start()
    order = await _doubt(bench)
    await bench.turn(12)
    sent = len(bench.exchange.sent(NEW))
    assert sent > 1
    await bench.turn(30)
    assert len(bench.exchange.sent(NEW)) == sent
    assert (await bench.stored(order)).in_doubt  # type: ignore[arg-type]


async def test_nothing_is_sent_again_after_a_cancel_was_asked(bench: Bench) -> None:
    use_idempotent(bench)
    await bench.start()
    order = await _doubt(bench)
    bench.exchange.script(CANCEL, Fault.REFUSE)
    sent = len(bench.exchange.sent(NEW))
    # Refused: nothing of the cancel is left in the order's state, and still it was asked.
    stood = await bench.gateway.cancel_order(order.order_id)  # type: ignore[attr-defined]
    assert stood.is_open
    assert stood.pending is None
    await bench.turn(12)
    assert len(bench.exchange.sent(NEW)) == sent


async def test_nothing_is_sent_again_after_a_halt_was_asked(bench: Bench) -> None:
    use_idempotent(bench)
    await bench.start()
    await _doubt(bench)
    sent = len(bench.exchange.sent(NEW))
    await bench.gateway.halt(scope="*", why="test", by="ops")
    await bench.gateway.resume(scope="*", by="ops")
    await bench.turn(12)
    assert len(bench.exchange.sent(NEW)) == sent


async def test_nothing_is_sent_again_across_a_restart(bench: Bench) -> None:
    use_idempotent(bench)
    await bench.start()
    await _doubt(bench)
    await bench.restart()
    sent = len(bench.exchange.sent(NEW))
    await bench.turn(12)
    assert len(bench.exchange.sent(NEW)) == sent
