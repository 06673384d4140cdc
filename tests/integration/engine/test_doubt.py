"""Silence leaves an order in doubt, and only evidence decides it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from tests.integration.engine.bench import Bench, capabilities
from tradegw.engine.account import AccountState
from tradegw.engine.resolver import Resolver
from tradegw.errors import Unavailable, VenueError
from tradegw.model import (
    CommandKind,
    EvidenceKind,
    ExecType,
    ExecutionReport,
    Order,
    OrderId,
    OrdStatus,
    TradeId,
    VenueClientOrderId,
)
from tradegw.testing import Fault, ScriptedPlugin, ScriptedVenue
from tradegw.venue import ExpiryKind, FetchFills, Page

NEW, CANCEL, REPLACE = CommandKind.NEW, CommandKind.CANCEL, CommandKind.REPLACE
SILENT = [Fault.LOSE_ANSWER, Fault.HANG, Fault.CRASH, Fault.EMPTY, Fault.GARBAGE]


def use(bench: Bench, **changes: Any) -> None:
    """Let the venue have other capabilities."""
    plugin = ScriptedPlugin(bench.exchange, capabilities=capabilities(**changes))
    bench.accounts["paper"] = bench.plugin = plugin


# --- a placement that nobody answers --------------------------------------------------------------


@pytest.mark.parametrize("fault", SILENT)
async def test_an_accepted_order_whose_answer_is_lost_is_found(bench: Bench, fault: Fault) -> None:
    await bench.start()
    bench.exchange.hold()
    bench.exchange.script(NEW, fault)
    order = await bench.place()
    assert [d.command for d in order.in_doubt] == [NEW]
    assert order.ord_status is OrdStatus.PENDING_NEW
    assert await bench.stored(order) == order
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.ord_status is OrdStatus.NEW
    assert found.venue_order_id == "v1"
    assert len(bench.exchange.sent(NEW)) == 1
    await bench.check_ledger()


async def test_an_acknowledgement_on_the_stream_decides_as_well(bench: Bench) -> None:
    await bench.start()
    bench.exchange.script(NEW, Fault.HANG)
    order = await bench.place()
    # The stream was faster than the silence was long: there is nothing to doubt.
    assert order.ord_status is OrdStatus.NEW
    assert not order.in_doubt
    assert "SENT_UNANSWERED" not in await bench.events(order)


async def test_a_filled_order_whose_answer_is_lost_is_found_with_its_fill(bench: Bench) -> None:
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.fill_on_arrival = Decimal(1)
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    order = await bench.place()
    found = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert (found.ord_status, found.cum_qty) == (OrdStatus.FILLED, Decimal(1))
    assert found.closed_by is EvidenceKind.FILL
    await bench.check_ledger()


async def test_an_order_that_the_venue_keeps_as_rejected_is_found_rejected(bench: Bench) -> None:
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.visibility_lag_s = 0.5
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    order = await bench.place()
    bench.exchange.placed(order.venue_client_order_id).status = OrdStatus.REJECTED
    found = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert found.ord_status is OrdStatus.REJECTED
    assert found.closed_by is EvidenceKind.VENUE_REPORT


async def test_an_order_in_doubt_counts_as_open_and_blocks_nobody(bench: Bench) -> None:
    await bench.start()
    bench.exchange.visibility_lag_s = 1000.0
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    doubtful = await bench.place()
    assert doubtful.in_doubt
    assert (await bench.place()).ord_status is OrdStatus.NEW
    (status,) = (await bench.gateway.list_venues())[0].accounts
    assert (status.open_orders, status.in_doubt) == (2, 1)


# --- proof of absence: each condition has its own test -----------------------------------------------


async def test_an_order_that_never_arrived_is_proven_absent(bench: Bench) -> None:
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert (closed.ord_status, closed.reason) == (OrdStatus.REJECTED, "NEVER_REACHED_VENUE")
    assert closed.closed_by is EvidenceKind.ABSENT_AFTER_EXPIRY
    # Not before its validity of 5 s and the lag of 1 s had passed, and then a lag apart.
    assert closed.closed_time_ns is not None
    assert closed.closed_time_ns - closed.created_time_ns > 7_000_000_000
    events = await bench.gateway.list_order_events(order.order_id)
    evidence = next(e.evidence for e in events if e.event_type == "REJECTED")
    assert evidence is not None
    assert "not found" in evidence.detail
    assert len(bench.exchange.sent(NEW)) == 1, "nothing was sent again"
    await bench.check_ledger()


async def test_a_delayed_request_is_never_accepted_after_absence_was_proven(bench: Bench) -> None:
    await bench.start()
    bench.exchange.script(NEW, Fault.DELAY)
    order = await bench.place()
    await bench.order_when(order.order_id, lambda o: not o.is_open)
    (refusal,) = bench.exchange.deliver()
    assert refusal.reason == "REQUEST_EXPIRED"
    assert not bench.exchange.orders


async def test_a_delayed_request_that_arrives_in_time_is_found(bench: Bench) -> None:
    await bench.start()
    bench.exchange.script(NEW, Fault.DELAY)
    order = await bench.place()
    await bench.turn(4.5)
    assert (await bench.stored(order)).in_doubt
    bench.exchange.drops = True
    assert bench.exchange.deliver() == []
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.ord_status is OrdStatus.NEW
    await bench.check_ledger()


async def test_a_an_acknowledged_order_is_never_absent(bench: Bench) -> None:
    """(a) Nothing was ever heard of it."""
    await bench.start()
    order = await bench.place()
    # Beyond the visibility lag: before, it may just not show yet.
    await bench.turn(1.5)
    bench.exchange.placed(order.venue_client_order_id).is_forgotten = True
    bench.exchange.gap()
    doubtful = await bench.order_when(order.order_id, lambda o: o.in_doubt)
    assert doubtful.acknowledged
    await bench.turn(60)
    stood = await bench.stored(order)
    assert stood.is_open
    assert stood.in_doubt
    # It was only out of sight: when the venue shows it again, the doubt ends.
    bench.exchange.placed(order.venue_client_order_id).is_forgotten = False
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.ord_status is OrdStatus.NEW


async def test_b_not_found_before_the_validity_ended_proves_nothing(bench: Bench) -> None:
    """(b) Dated after `valid_until` plus the visibility lag."""
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    await bench.turn(5.9)
    assert (await bench.stored(order)).in_doubt


async def test_b_the_venues_clock_counts_and_not_ours(bench: Bench) -> None:
    """(b) Dated by the venue's own clock: ours may run ahead."""
    bench.exchange.request_validity_s = 5.0
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    # From here on the venue's clock lags; what it answers is dated before the validity's end.
    for _ in range(200):
        bench.exchange.clock_offset_s -= 0.1
        await bench.turn(0.1)
    assert (await bench.stored(order)).in_doubt
    bench.exchange.clock_offset_s = 0.0
    await bench.order_when(order.order_id, lambda o: not o.is_open)


async def test_b_a_venue_without_request_expiry_never_proves_absence(bench: Bench) -> None:
    """(b) No `valid_until`, no proof: the order stays in doubt and visible."""
    use(bench, expiry=ExpiryKind.NONE)
    bench.exchange.request_validity_s = None
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    await bench.turn(120, step_s=1.0)
    assert (await bench.stored(order)).in_doubt
    assert [o.order_id for o in await bench.engine.in_doubt()] == [order.order_id]


async def test_c_another_instance_of_the_venue_proves_nothing(bench: Bench) -> None:
    """(c) From the venue account and instance that the intent was for."""
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    bench.exchange.visibility_lag_s = 1000.0
    bench.exchange.drops = True
    order = await bench.place()
    bench.exchange.reset("instance-2")
    bench.exchange.drops = False
    await bench.turn(60)
    stood = await bench.stored(order)
    assert stood.in_doubt
    assert "VENUE_RESET" in await bench.events(order)


async def test_c_not_even_after_a_restart(bench: Bench) -> None:
    """(c) What the intent was for outlives the process that stored it."""
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    bench.exchange.visibility_lag_s = 1000.0
    bench.exchange.drops = True
    order = await bench.place()
    bench.exchange.reset("instance-2")
    bench.exchange.drops = False
    await bench.turn(1)
    await bench.restart()
    await bench.turn(60)
    assert (await bench.stored(order)).in_doubt


async def test_c_not_when_the_venue_was_reset_while_we_were_away(bench: Bench) -> None:
    """(c) Seen at the first connection after."""
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    bench.exchange.visibility_lag_s = 1000.0
    bench.exchange.drops = True
    order = await bench.place()
    await bench.crash()
    bench.exchange.reset("instance-2")
    await bench.start()
    await bench.turn(60)
    assert (await bench.stored(order)).in_doubt
    await bench.restart()
    await bench.turn(60)
    assert (await bench.stored(order)).in_doubt


async def test_a_reset_puts_acknowledged_orders_in_doubt(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.reset("instance-2")
    doubtful = await bench.order_when(order.order_id, lambda o: o.in_doubt)
    assert "VENUE_RESET" in doubtful.in_doubt[0].why
    assert doubtful.is_open


async def test_another_account_of_the_venue_is_not_traded_on(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.account_id = "account-2"
    bench.exchange.break_stream(OSError("reconnect"))
    await bench.clock.until(lambda: "account-2" in bench.account().why)
    assert bench.state() != "READY"
    assert not (await bench.stored(order)).in_doubt


async def _move(bench: Bench, **to: str) -> Order:
    """Leave an order in doubt, and have the gateway start anew, led to somewhere else."""
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    assert order.in_doubt
    await bench.crash()
    for name, value in to.items():
        setattr(bench.exchange, name, value)
    await bench.start(is_ready=False)
    return order


@pytest.mark.parametrize(
    "to",
    [
        pytest.param({"environment": "test"}, id="environment"),
        pytest.param({"environment": ""}, id="no environment"),
        pytest.param({"account_id": "account-2"}, id="account"),
    ],
)
async def test_c_another_account_host_or_environment_proves_nothing(
    bench: Bench, to: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """(c) The account is bound to where its intents went; elsewhere nothing is believed, nor traded."""
    home = {name: getattr(bench.exchange, name) for name in to}
    order = await _move(bench, **to)
    await bench.turn(60)
    assert bench.state() is not AccountState.READY
    assert "was bound to" in bench.account().why
    assert (await bench.stored(order)).in_doubt
    with pytest.raises(Unavailable):
        await bench.place()
    for name, value in home.items():
        setattr(bench.exchange, name, value)
    # Where it was placed, it is soon known that it never arrived.
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.closed_by is EvidenceKind.ABSENT_AFTER_EXPIRY


async def test_c_the_first_environment_is_stored_with_the_account(bench: Bench) -> None:
    """A rotated key that shows the same is taken; it is the same binding after a restart."""
    await bench.start()
    (record,) = await bench.store.list_accounts()
    assert (record.venue_account_id, record.environment) == ("account-1", "scripted")
    await bench.restart()
    await bench.place()
    (again,) = await bench.store.list_accounts()
    assert again == record


async def test_d_beyond_the_venues_memory_nothing_is_proven(bench: Bench) -> None:
    """(d) Within the time for which the venue still shows closed orders."""
    use(bench, closed_order_retention_s=30.0)
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    await bench.crash()
    bench.clock.turn(31)
    await bench.start()
    await bench.turn(60)
    assert (await bench.stored(order)).in_doubt


async def test_e_a_fill_of_the_order_speaks_against_its_absence(bench: Bench) -> None:
    """(e) The fills of the whole window are empty too."""
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.fill_on_arrival = Decimal("0.25")
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    bench.exchange.hidden_orders = True
    order = await bench.place()
    found = await bench.order_when(order.order_id, lambda o: o.cum_qty)
    assert found.acknowledged
    await bench.turn(30)
    stood = await bench.stored(order)
    assert stood.is_open
    assert stood.cum_qty == Decimal("0.25")


async def test_e_the_fills_of_others_are_not_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A venue that was not told its own name for an order may list everybody's fills, without our names."""

    def everybodys(venue: ScriptedVenue, query: FetchFills) -> list[ExecutionReport]:
        return [replace(trade, venue_client_order_id=None) for trade in venue.exchange.trades]

    monkeypatch.setattr(ScriptedVenue, "_fills", everybodys)
    await bench.start()
    bench.exchange.fill_on_arrival = Decimal(1)
    await bench.place(order_qty=Decimal(1))
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place(order_qty=Decimal(1))
    await bench.turn(60)
    stood = await bench.stored(order)
    assert (stood.cum_qty, bool(stood.in_doubt)) == (Decimal(0), True)


async def test_f_once_is_not_enough(bench: Bench) -> None:
    """(f) Twice, a lag apart."""
    use(bench, visibility_lag_s=20.0)
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    await bench.turn(44, step_s=0.5)
    assert (await bench.stored(order)).in_doubt
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.closed_time_ns is not None
    assert closed.closed_time_ns - closed.created_time_ns >= 45_000_000_000


async def test_an_answer_that_fails_proves_nothing(bench: Bench) -> None:
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    bench.exchange.query_errors.extend([VenueError("no"), KeyError("no"), OSError("no")] * 20)
    await bench.turn(20)
    assert (await bench.stored(order)).in_doubt
    bench.exchange.calm()
    await bench.order_when(order.order_id, lambda o: not o.is_open)


async def test_one_order_that_cannot_be_read_does_not_hold_up_the_others(bench: Bench) -> None:
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.visibility_lag_s = 0.5
    bench.exchange.always(NEW, Fault.LOSE_ANSWER)
    orders = [await bench.place() for _ in range(3)]
    bench.exchange.unreadable = VenueClientOrderId(orders[0].venue_client_order_id or "")
    for order in orders[1:]:
        await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert (await bench.stored(orders[0])).in_doubt
    bench.exchange.unreadable = None
    await bench.order_when(orders[0].order_id, lambda o: not o.in_doubt)


async def test_an_order_that_was_proven_absent_is_revived(bench: Bench) -> None:
    await bench.start()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    await bench.order_when(order.order_id, lambda o: not o.is_open)
    bench.exchange.tell(
        ExecutionReport(
            exec_type=ExecType.TRADE,
            venue_client_order_id=order.venue_client_order_id,
            trade_id=TradeId("late"),
            last_qty=Decimal("0.5"),
            last_px=Decimal(100),
        )
    )
    revived = await bench.order_when(order.order_id, lambda o: o.cum_qty)
    assert revived.ord_status is OrdStatus.PARTIALLY_FILLED
    assert "REVIVED" in await bench.events(order)
    assert order.order_id in {o.order_id for o in bench.account().book}
    assert [f.trade_id for f in await bench.fills()] == ["late"]


# --- refused, not sent -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason", "kind"),
    [
        (Fault.REFUSE, "SCRIPTED_REFUSAL", EvidenceKind.VENUE_REPORT),
        (Fault.THROTTLE, "VENUE_RATE_LIMITED", EvidenceKind.VENUE_REPORT),
        (Fault.NOT_SENT, "NEVER_REACHED_VENUE", EvidenceKind.NOT_SENT),
    ],
)
async def test_a_refusal_is_an_answer(
    bench: Bench, fault: Fault, reason: str, kind: EvidenceKind
) -> None:
    await bench.start()
    bench.exchange.script(NEW, fault)
    order = await bench.place()
    assert (order.ord_status, order.reason) == (OrdStatus.REJECTED, reason)
    assert order.closed_by is kind
    assert not order.in_doubt
    assert not bench.exchange.orders


async def test_a_refusal_of_an_order_that_the_stream_has_shown_closes_nothing(
    bench: Bench,
) -> None:
    """A client that repeats inside the plugin is told "duplicate": that must not lose the order."""
    await bench.start()
    bench.exchange.script(NEW, Fault.REFUSE_AFTER)
    order = await bench.place()
    assert order.is_open
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.ord_status is OrdStatus.NEW
    await bench.check_ledger()


async def test_what_was_not_sent_in_time_is_not_sent(bench: Bench) -> None:
    bench.exchange.request_validity_s = -1.0
    await bench.start()
    order = await bench.place()
    assert (order.ord_status, order.reason) == (OrdStatus.REJECTED, "NEVER_REACHED_VENUE")
    assert not bench.exchange.requests


async def test_what_was_journaled_too_slowly_is_not_sent(bench: Bench) -> None:
    """`send_by`: an order that has waited too long for the journal is not what the caller wants now."""
    bench.exchange.request_validity_s = 60.0
    await bench.start()
    bench.store.subscribe(lambda events: bench.clock.turn(11))
    order = await bench.place()
    assert (order.ord_status, order.closed_by) == (OrdStatus.REJECTED, EvidenceKind.NOT_SENT)
    assert not bench.exchange.requests


async def test_after_a_reset_the_new_instance_proves_what_was_sent_to_it(bench: Bench) -> None:
    await bench.start()
    bench.exchange.reset("instance-2")
    await bench.clock.until(lambda: bench.account().record.instance_id == "instance-2")
    await bench.ready()
    bench.exchange.script(NEW, Fault.LOSE_REQUEST)
    order = await bench.place()
    await bench.restart()
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.closed_by is EvidenceKind.ABSENT_AFTER_EXPIRY


# --- cancels ---------------------------------------------------------------------------------------


async def test_a_cancel_waits_for_the_placement_that_is_on_its_way(bench: Bench) -> None:
    await bench.start()
    bench.exchange.hold()
    bench.exchange.script(NEW, Fault.HANG)
    placing = bench.later(bench.place(client_order_id="c"))
    await bench.clock.until(lambda: bench.exchange.requests, step_s=0)
    cancelled = await bench.gateway.cancel_order(account="paper", client_order_id="c")
    assert (await placing).in_doubt
    assert cancelled.ord_status is OrdStatus.CANCELED
    assert [r.command for r in bench.exchange.requests] == [NEW, CANCEL]
    bench.exchange.release()
    await bench.check_ledger()


async def test_cancels_at_once_send_one(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    answers = await asyncio.gather(
        *(bench.gateway.cancel_order(order.order_id) for _ in range(5)), return_exceptions=True
    )
    assert {a.ord_status for a in answers if not isinstance(a, BaseException)} == {
        OrdStatus.CANCELED
    }
    assert len(bench.exchange.sent(CANCEL)) == 1


@pytest.mark.parametrize("fault", SILENT)
async def test_a_cancel_whose_answer_is_lost_is_found_done(bench: Bench, fault: Fault) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.drops = True
    bench.exchange.script(CANCEL, fault)
    asked = await bench.gateway.cancel_order(order.order_id)
    assert asked.ord_status is OrdStatus.PENDING_CANCEL
    assert [d.command for d in asked.in_doubt] == [CANCEL]
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.ord_status is OrdStatus.CANCELED
    assert not closed.in_doubt


async def test_a_cancel_that_never_arrived_is_settled_after_its_validity(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.script(CANCEL, Fault.LOSE_REQUEST)
    await bench.gateway.cancel_order(order.order_id)
    await bench.turn(5.5)
    assert (await bench.stored(order)).in_doubt
    stood = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert stood.ord_status is OrdStatus.NEW
    assert "CANCEL_REJECTED" in await bench.events(order)


async def test_a_cancel_in_doubt_can_be_repeated(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.script(CANCEL, Fault.LOSE_REQUEST)
    await bench.gateway.cancel_order(order.order_id)
    closed = await bench.gateway.cancel_order(order.order_id)
    assert closed.ord_status is OrdStatus.CANCELED
    assert not closed.in_doubt


async def test_a_second_cancel_in_flight_is_not_settled_by_the_end_of_the_first(
    bench: Bench,
) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.script(CANCEL, Fault.LOSE_REQUEST, Fault.LOSE_REQUEST)
    await bench.gateway.cancel_order(order.order_id)
    await bench.turn(4)
    await bench.gateway.cancel_order(order.order_id)
    await bench.turn(4)
    # The first can no longer be taken; the second still can.
    assert (await bench.stored(order)).in_doubt
    await bench.order_when(order.order_id, lambda o: not o.in_doubt)


async def test_a_refused_cancel_leaves_the_order_live(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.script(CANCEL, Fault.REFUSE)
    stood = await bench.gateway.cancel_order(order.order_id)
    assert (stood.ord_status, stood.in_doubt) == (OrdStatus.NEW, ())
    assert "CANCEL_REJECTED" in await bench.events(order)


async def test_a_refused_cancel_asks_what_became_of_the_order(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.drops = True
    bench.exchange.fill(bench.exchange.placed(order.venue_client_order_id))
    stood = await bench.gateway.cancel_order(order.order_id)
    assert stood.is_open
    filled = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert filled.ord_status is OrdStatus.FILLED
    await bench.check_ledger()


async def test_a_fill_is_faster_than_the_cancel(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.hold()
    bench.exchange.fill(bench.exchange.placed(order.venue_client_order_id))
    stood = await bench.gateway.cancel_order(order.order_id)
    assert stood.is_open
    bench.exchange.release()
    filled = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert filled.ord_status is OrdStatus.FILLED
    await bench.check_ledger()


async def test_fills_before_a_lost_cancel_are_not_lost(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.drops = True
    bench.exchange.fill(bench.exchange.placed(order.venue_client_order_id), "0.3")
    bench.exchange.script(CANCEL, Fault.LOSE_ANSWER)
    await bench.gateway.cancel_order(order.order_id)
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert (closed.ord_status, closed.cum_qty) == (OrdStatus.CANCELED, Decimal("0.3"))
    await bench.check_ledger()


async def test_a_cancel_of_a_placement_in_doubt(bench: Bench) -> None:
    """The venue may not know the order yet; its refusal of the cancel says nothing of the placement."""
    await bench.start()
    bench.exchange.script(NEW, Fault.DELAY)
    order = await bench.place()
    stood = await bench.gateway.cancel_order(order.order_id)
    assert stood.is_open
    assert NEW in {d.command for d in stood.in_doubt}
    bench.exchange.deliver()
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert found.ord_status is OrdStatus.NEW
    await bench.check_ledger()


# --- replaces --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", SILENT)
async def test_a_replace_whose_answer_is_lost_is_found_done(bench: Bench, fault: Fault) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.drops = True
    bench.exchange.script(REPLACE, fault)
    asked = await bench.gateway.replace_order(order.order_id, price="101", order_qty="2")
    assert asked.ord_status is OrdStatus.PENDING_REPLACE
    assert [d.command for d in asked.in_doubt] == [REPLACE]
    found = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert (found.price, found.order_qty) == (Decimal(101), Decimal(2))
    assert found.ord_status is OrdStatus.NEW


async def test_a_replace_that_never_arrived_is_settled_after_its_validity(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.script(REPLACE, Fault.LOSE_REQUEST)
    await bench.gateway.replace_order(order.order_id, price="101")
    await bench.turn(5.5)
    assert (await bench.stored(order)).in_doubt
    stood = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert (stood.price, stood.ord_status) == (Decimal(100), OrdStatus.NEW)


async def test_a_late_word_of_an_earlier_replace_is_set_right_by_the_venue(bench: Bench) -> None:
    """It looks like news, and nothing shrinks on hearsay: a size too small would close a live order."""
    await bench.start()
    order = await bench.place()
    bench.exchange.hold()
    await bench.gateway.replace_order(order.order_id, order_qty="3")
    await bench.gateway.replace_order(order.order_id, order_qty="2")
    bench.exchange.release()
    await bench.order_when(order.order_id, lambda o: o.order_qty == 3)
    stood = await bench.order_when(order.order_id, lambda o: o.order_qty == 2, step_s=1.0)
    assert (stood.leaves_qty, stood.ord_status) == (Decimal(2), OrdStatus.NEW)
    last = (await bench.gateway.list_order_events(order.order_id))[-1]
    assert "the venue showed these terms at" in last.text


class SlowFills(ScriptedVenue):
    """Answers queries for fills as they stood when it was asked, once it is let."""

    asked: ClassVar[asyncio.Event]
    """Set once it was asked for the fills of one order."""
    let: ClassVar[asyncio.Event]

    async def fetch(self, query: Any) -> Page[Any]:
        page = await super().fetch(query)
        if isinstance(query, FetchFills):
            if query.venue_order_id is not None:
                self.asked.set()
            await self.let.wait()
        return page


async def start_with_slow_fills(bench: Bench) -> None:
    SlowFills.asked, SlowFills.let = asyncio.Event(), asyncio.Event()
    SlowFills.let.set()
    bench.plugin._make_venue = lambda exchange, can: SlowFills(exchange, capabilities=can)
    await bench.start()


async def look_at(bench: Bench, order: Order) -> None:
    """Begin a look at an order, of which the stream has dropped a fill. It waits for the fills."""
    SlowFills.asked.clear()
    SlowFills.let.clear()
    bench.exchange.drops = True
    bench.exchange.fill(bench.exchange.placed(order.venue_client_order_id), "0.3")
    bench.exchange.drops = False
    account = bench.engine.account("paper")

    def is_asked() -> bool:
        # An earlier look may be under way.
        account.to_ask.add(order.order_id)
        account.wake_resolver.set()
        return SlowFills.asked.is_set()

    await bench.clock.until(is_asked)
    account.to_ask.discard(order.order_id)


async def test_a_look_from_before_a_replace_takes_nothing_back(bench: Bench) -> None:
    await start_with_slow_fills(bench)
    order = await bench.place()
    await look_at(bench, order)
    await bench.gateway.replace_order(order.order_id, price="101")
    SlowFills.let.set()
    stood = await bench.order_when(order.order_id, lambda o: o.cum_qty)
    await bench.clock.until(lambda: order.order_id not in bench.engine.account("paper").to_ask)
    stood = await bench.stored(order)
    assert (stood.price, stood.cum_qty) == (Decimal(101), Decimal("0.3"))
    assert (await bench.events(order)).count("REPLACED") == 1


async def test_who_wants_to_know_during_a_look_gets_another(bench: Bench) -> None:
    await start_with_slow_fills(bench)
    order = await bench.place()
    await look_at(bench, order)
    bench.exchange.drops = True
    bench.exchange.cancel(bench.exchange.placed(order.venue_client_order_id))
    bench.engine.account("paper").to_ask.add(order.order_id)
    SlowFills.let.set()
    # Within the resolver's own waits, long before the account is compared with its venue again.
    await bench.order_when(order.order_id, lambda o: o.cum_qty)
    began_ns = bench.clock.time_ns()
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.ord_status is OrdStatus.CANCELED
    assert bench.clock.time_ns() - began_ns < 5e9


async def test_a_look_from_before_a_command_does_not_say_what_became_of_it(bench: Bench) -> None:
    await start_with_slow_fills(bench)
    order = await bench.place()
    await bench.gateway.replace_order(order.order_id, price="101")
    # What may still become of that replace is long decided.
    await bench.turn(30)
    await look_at(bench, order)
    bench.exchange.script(REPLACE, Fault.LOSE_ANSWER)
    bench.exchange.drops = True
    asking = asyncio.create_task(bench.gateway.replace_order(order.order_id, price="102"))
    await bench.clock.until(asking.done)
    SlowFills.let.set()
    await bench.order_when(order.order_id, lambda o: o.cum_qty)
    stood = await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    assert stood.price == Decimal(102)
    assert "REPLACE_REJECTED" not in await bench.events(order)


async def test_who_wants_to_know_and_is_not_told_has_it_asked_again(bench: Bench) -> None:
    """Also where it was not the resolver's own round that asked."""
    use(bench, visibility_lag_s=60.0)
    await bench.start()
    order = await bench.place()
    account = bench.engine.account("paper")
    assert account.venue is not None

    async def nothing(_: OrderId) -> None:
        pass

    bench.exchange.hidden_orders = True
    account.to_ask.add(order.order_id)
    await Resolver(account, random.Random(1), nothing).ask(account.venue, order.order_id)
    bench.exchange.hidden_orders = False
    began_ns = bench.clock.time_ns()
    await bench.clock.until(lambda: order.order_id not in account.to_ask)
    assert bench.clock.time_ns() - began_ns < 5e9


async def test_a_cancel_is_made_of_the_order_as_it_stands_when_it_is_stored(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    looking, go_on = asyncio.Event(), asyncio.Event()
    find_claim = bench.store.find_claim

    async def slowly(scope: Any, key: str) -> Any:
        if key == "slow":
            looking.set()
            await go_on.wait()
        return await find_claim(scope, key)

    bench.store.find_claim = slowly
    cancelling = asyncio.create_task(
        bench.gateway.cancel_order(order.order_id, idempotency_key="slow")
    )
    await looking.wait()
    await bench.turn(3)
    await bench.gateway.replace_order(order.order_id, price="101")
    go_on.set()
    assert (await cancelling).ord_status is OrdStatus.CANCELED
    (request,) = bench.exchange.sent(CANCEL)
    assert request.valid_until_ns == bench.clock.time_ns() + int(5e9)


async def test_a_cancel_overtakes_a_replace(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.script(REPLACE, Fault.LOSE_REQUEST)
    await bench.gateway.replace_order(order.order_id, price="101")
    closed = await bench.gateway.cancel_order(order.order_id)
    assert closed.ord_status is OrdStatus.CANCELED
    assert not closed.in_doubt


async def test_a_refused_replace_leaves_the_terms(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.script(REPLACE, Fault.REFUSE)
    stood = await bench.gateway.replace_order(order.order_id, price="101")
    assert (stood.price, stood.ord_status) == (Decimal(100), OrdStatus.NEW)
