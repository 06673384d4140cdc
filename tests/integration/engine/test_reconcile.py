"""What the stream kept from us is found, counted once, and nothing is closed by silence."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.engine.bench import Bench, capabilities
from tradegw.engine.feed import RECONCILE_EVERY_S, SILENT_EVERY_S
from tradegw.errors import Conflict, IdempotencyKeyReused, InvalidOrder, NotFound
from tradegw.model import (
    CommandKind,
    EvidenceKind,
    ExecutionReport,
    FillFilter,
    Order,
    OrderFilter,
    OrdStatus,
    Origin,
    VenueClientOrderId,
)
from tradegw.testing import Fault, ScriptedExchange, ScriptedPlugin
from tradegw.testing.exchange import Request
from tradegw.testing.venue import ScriptedVenue
from tradegw.venue import (
    Capabilities,
    FetchFills,
    FetchOpenOrders,
    FetchOrder,
    FillReporting,
    Page,
    Query,
)

NEW, CANCEL = CommandKind.NEW, CommandKind.CANCEL


def use(bench: Bench, make_venue: Any = None, **changes: Any) -> None:
    """Let the venue have other capabilities."""
    bench.accounts["paper"] = bench.plugin = ScriptedPlugin(
        bench.exchange, capabilities=capabilities(**changes), make_venue=make_venue
    )


def placed_elsewhere(bench: Bench, client_id: str = "by hand", qty: str = "1") -> Any:
    """Place an order at the exchange as some other program would."""
    bench.exchange.arrive(
        Request(
            command=NEW,
            client_id=VenueClientOrderId(client_id),
            valid_until_ns=None,
            symbol="BTC/USDT",
            order_qty=Decimal(qty),
            price=Decimal(100),
        )
    )
    return bench.exchange.placed(client_id)


async def the_external(bench: Bench) -> Order:
    """Turn the clock until an order of others is known, and return it."""
    while not (found := await external(bench)):
        await bench.turn(0.1)
    (order,) = found
    return order


async def gap(bench: Bench) -> None:
    """Say that something was missed, and wait until all was asked."""
    asked = len(bench.exchange.queries)
    bench.exchange.gap()
    await bench.clock.until(
        lambda: any(isinstance(q, FetchOpenOrders) for q in bench.exchange.queries[asked:])
    )
    await bench.ready()
    await bench.turn(1)


async def external(bench: Bench, **where: Any) -> list[Order]:
    listing = await bench.gateway.list_orders(OrderFilter(**where))
    return [order for order in listing.items if order.origin is Origin.EXTERNAL]


# --- fills since the watermark -----------------------------------------------------------------------


async def test_a_fill_after_the_close_that_the_stream_dropped_is_found(bench: Bench) -> None:
    """Nobody asks about a closed order: its late fill is read from the venue's list of fills."""
    await bench.start()
    order = await bench.place()
    await bench.gateway.cancel_order(order.order_id)
    bench.exchange.drops = True
    bench.exchange.fill(bench.exchange.orders[0], "0.4")
    bench.exchange.calm()
    await gap(bench)
    late = await bench.order_when(order.order_id, lambda o: o.cum_qty)
    assert (late.ord_status, late.cum_qty) == (OrdStatus.CANCELED, Decimal("0.4"))
    await bench.check_ledger()


async def test_a_late_fill_is_found_by_a_stream_that_looks_healthy(bench: Bench) -> None:
    """The fills of its symbol were read since the cancel; they are read again for a while."""
    await bench.start()
    order = await bench.place()
    # A fill that shows later than the overlap is nobody's: on a slow machine a whole period could be longer.
    await bench.turn(RECONCILE_EVERY_S / 2, step_s=1.0)
    await bench.gateway.cancel_order(order.order_id)
    asked = len(bench.exchange.queries)
    await bench.clock.until(
        lambda: any(isinstance(q, FetchFills) for q in bench.exchange.queries[asked:])
    )
    bench.exchange.drops = True
    bench.exchange.fill(bench.exchange.orders[0], "0.4")
    bench.exchange.calm()
    late = await bench.order_when(order.order_id, lambda o: o.cum_qty)
    assert (late.ord_status, late.cum_qty) == (OrdStatus.CANCELED, Decimal("0.4"))
    await bench.turn(3 * RECONCILE_EVERY_S, step_s=1.0)
    asked = len(bench.exchange.queries)
    await bench.turn(3 * RECONCILE_EVERY_S, step_s=1.0)
    assert not any(isinstance(q, FetchFills) for q in bench.exchange.queries[asked:])
    await bench.check_ledger()


async def test_a_late_fill_is_found_by_the_next_start(bench: Bench) -> None:
    """Its symbol was never read, and no open order names it; the mark from before its order does."""
    await bench.start()
    order = await bench.place()
    await bench.gateway.cancel_order(order.order_id)
    bench.exchange.drops = True
    bench.exchange.fill(bench.exchange.orders[0], "0.4")
    bench.exchange.calm()
    await bench.crash()
    await bench.start()
    await bench.order_when(order.order_id, lambda o: o.cum_qty)
    await bench.check_ledger()


async def test_watermarks_are_kept_and_overlap(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    await bench.gateway.cancel_order(order.order_id)
    await gap(bench)
    account_id = bench.account().record.account_id
    marks = await bench.store.list_watermarks(account_id)
    assert set(marks) == {"BTC/USDT"}
    await bench.turn(120, step_s=1.0)
    marks = await bench.store.list_watermarks(account_id)
    # It happened before the mark, and shows only now.
    bench.exchange.drops = True
    bench.exchange.fill(bench.exchange.orders[0], "0.4")
    mark_ns = marks["BTC/USDT"]
    bench.exchange.trades[-1] = replace(
        bench.exchange.trades[-1], transact_time_ns=mark_ns - 30_000_000_000
    )
    bench.exchange.calm()
    asked = len(bench.exchange.queries)
    await bench.restart()

    def since() -> list[int]:
        fills = [q for q in bench.exchange.queries[asked:] if isinstance(q, FetchFills)]
        return [q.since_ns for q in fills if q.symbol == "BTC/USDT" and q.since_ns]

    await bench.clock.until(since)
    assert since()[0] == mark_ns - 61_000_000_000
    await bench.order_when(order.order_id, lambda o: o.cum_qty)
    await bench.check_ledger()


async def test_away_for_longer_than_the_venue_remembers_is_told(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    use(bench, closed_order_retention_s=300.0)
    await bench.start()
    order = await bench.place()
    await bench.gateway.cancel_order(order.order_id)
    await gap(bench)
    await bench.crash()
    bench.clock.turn(301)
    await bench.start()
    await bench.turn(1)
    events = await bench.store.inner.list_events(_all(), limit=1000)
    assert [e.event_type for e in events].count("HISTORY_GAP") == 1  # type: ignore[arg-type]
    assert "ALARM" in caplog.text
    await gap(bench)
    events = await bench.store.inner.list_events(_all(), limit=1000)
    assert [e.event_type for e in events].count("HISTORY_GAP") == 1  # type: ignore[arg-type]


def _all() -> Any:
    from tradegw.ports import EventFilter

    return EventFilter(account="paper")  # type: ignore[arg-type]


async def test_a_silent_stream_is_checked_more_often(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    await gap(bench)

    async def pause_s() -> float:
        """Return how long nothing is asked for, from the next time that something is."""

        def asked() -> int:
            return sum(isinstance(q, FetchOpenOrders) for q in bench.exchange.queries)

        begun: list[int] = []
        for _ in range(2):
            before = asked()
            await bench.clock.until(lambda: asked() > before, step_s=0.5)  # noqa: B023
            begun.append(bench.clock.time_ns())
        return (begun[1] - begun[0]) / 1e9

    await pause_s()
    assert SILENT_EVERY_S - 1 < await pause_s() < RECONCILE_EVERY_S - 10
    # Whatever comes on the stream says that it lives.
    for _ in range(3):
        bench.exchange.fill(bench.exchange.orders[0], "0.1")
        await bench.turn(7)
    assert await pause_s() > SILENT_EVERY_S - 1
    assert (await bench.stored(order)).cum_qty == Decimal("0.3")


async def test_an_empty_list_by_mistake_closes_nothing(bench: Bench) -> None:
    await bench.start()
    orders = [await bench.place() for _ in range(3)]
    other = placed_elsewhere(bench)
    await gap(bench)
    bench.exchange.empty_listings = True
    bench.exchange.hidden_fills = True
    await gap(bench)
    await bench.turn(130, step_s=1.0)
    assert all([(await bench.stored(order)).is_open for order in orders])
    assert not any([(await bench.stored(order)).in_doubt for order in orders])
    (shown,) = await external(bench)
    assert shown.is_open
    assert shown.venue_order_id == other.venue_order_id


async def test_an_order_proven_absent_that_is_listed_is_revived(bench: Bench) -> None:
    await bench.start()
    bench.exchange.drops = True
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    bench.exchange.visibility_lag_s = 1000.0
    order = await bench.place()
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.closed_by is EvidenceKind.ABSENT_AFTER_EXPIRY
    bench.exchange.visibility_lag_s = 0.0
    bench.exchange.calm()
    await gap(bench)
    revived = await bench.order_when(order.order_id, lambda o: o.is_open)
    assert revived.ord_status is OrdStatus.NEW
    assert "REVIVED" in await bench.events(order)
    assert await external(bench) == []


# --- fills that match no order ------------------------------------------------------------------------


def _nameless(report: ExecutionReport) -> ExecutionReport:
    return replace(report, venue_client_order_id=None)


async def test_a_fill_that_came_before_its_orders_name_is_attached(bench: Bench) -> None:
    await bench.start()
    bench.exchange.hold()
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    # Queries fail: nothing but the stream tells.
    bench.exchange.query_errors.extend([OSError("no")] * 3)
    order = await bench.place()
    trade_id = bench.exchange.fill(bench.exchange.orders[0], "0.4")
    ack, trade = bench.exchange.held or []
    assert isinstance(trade, ExecutionReport)
    bench.exchange.release([_nameless(trade)])
    await bench.clock.until(lambda: len(bench.account().unmatched), step_s=0)
    bench.exchange.tell(ack)
    attached = await bench.order_when(order.order_id, lambda o: o.cum_qty)
    assert (attached.ord_status, attached.cum_qty) == (OrdStatus.PARTIALLY_FILLED, Decimal("0.4"))
    assert not len(bench.account().unmatched)
    # The fill entered the stream once, before anyone knew whose it was; the order has it now.
    (fill,) = await bench.fills()
    assert (fill.trade_id, fill.order_id) == (trade_id, None)
    (listed,) = (await bench.gateway.list_fills(FillFilter(order_id=order.order_id))).items
    assert listed == replace(fill, order_id=order.order_id)
    events = await bench.gateway.list_order_events(order.order_id)
    (event,) = [e for e in events if e.event_type == "FILL_ATTACHED"]
    assert event.fill is None
    assert event.attaches == fill.seq
    # Told again, with the name, nothing moves.
    bench.exchange.tell(trade)
    await gap(bench)
    await bench.check_ledger()
    await bench.restart()
    assert (await bench.stored(order)).cum_qty == Decimal("0.4")
    # Read from the record, the stream is what it was.
    assert await bench.fills() == [fill]


async def test_the_venue_is_asked_whose_a_fill_is(bench: Bench) -> None:
    await bench.start()
    bench.exchange.hold()
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    bench.exchange.query_errors.extend([OSError("no")] * 2)
    order = await bench.place()
    bench.exchange.fill(bench.exchange.orders[0])
    trade = (bench.exchange.held or [])[-1]
    assert isinstance(trade, ExecutionReport)
    bench.exchange.release([_nameless(trade)])
    filled = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert filled.ord_status is OrdStatus.FILLED
    await bench.check_ledger()


async def test_a_fill_of_nobody_stays_as_it_is(bench: Bench) -> None:
    await bench.start()
    other = placed_elsewhere(bench)
    bench.exchange.fill(other, "0.5")
    bench.exchange.cancel(other)
    await bench.clock.until(lambda: len(bench.account().unmatched))
    await bench.restart()
    assert len(bench.account().unmatched) == 1
    await gap(bench)
    (fill,) = await bench.fills()
    assert fill.order_id is None


# --- orders of others -----------------------------------------------------------------------------------


async def test_orders_of_others_are_shown_and_left_alone(bench: Bench) -> None:
    await bench.start()
    ours = await bench.place()
    other = placed_elsewhere(bench)
    await gap(bench)
    (shown,) = await external(bench, accounts=["paper"])
    assert (shown.venue_order_id, shown.price) == (other.venue_order_id, Decimal(100))
    assert await bench.events(shown) == ["EXTERNAL"]
    with pytest.raises(Conflict) as caught:
        await bench.gateway.cancel_order(shown.order_id)
    assert caught.value.reason == "EXTERNAL_ORDER"
    with pytest.raises(Conflict):
        await bench.gateway.replace_order(shown.order_id, price="101")
    await bench.gateway.cancel_all_orders(account="paper")
    await bench.gateway.halt(scope="*", why="test", by="ops", cancel_open=True)
    assert not (await bench.stored(ours)).is_open
    assert other.is_open
    (status,) = (await bench.gateway.list_venues())[0].accounts
    assert status.open_orders == 0
    # Seen again, also after a restart, it is the same order.
    await bench.restart()
    await gap(bench)
    assert [o.order_id for o in await external(bench)] == [shown.order_id]


async def test_orders_of_others_are_followed_to_their_end(bench: Bench) -> None:
    await bench.start()
    other = placed_elsewhere(bench)
    bench.exchange.drops = True
    bench.exchange.fill(other, "0.25")
    bench.exchange.calm()
    await gap(bench)
    shown = await the_external(bench)
    shown = await bench.order_when(shown.order_id, lambda o: o.cum_qty)
    assert (shown.ord_status, shown.cum_qty) == (OrdStatus.PARTIALLY_FILLED, Decimal("0.25"))
    bench.exchange.drops = True
    bench.exchange.fill(other, "0.25")
    bench.exchange.cancel(other)
    bench.exchange.calm()
    await gap(bench)
    shown = await bench.order_when(shown.order_id, lambda o: not o.is_open)
    assert (shown.ord_status, shown.cum_qty) == (OrdStatus.CANCELED, Decimal("0.5"))
    assert sum(f.last_qty for f in await bench.fills()) == Decimal("0.5")


# --- adoption ---------------------------------------------------------------------------------------------


async def test_ownership_is_rebuilt_from_the_venue_alone(bench: Bench) -> None:
    await bench.start()
    lost = [await bench.place(order_qty="2") for _ in range(3)]
    bench.exchange.fill(bench.exchange.orders[0], "0.5")
    other = placed_elsewhere(bench)
    await bench.lose_record()
    adopted = await bench.gateway.adopt("paper", by="ops", why="the disk is gone")
    assert {o.venue_client_order_id for o in adopted} == {o.venue_client_order_id for o in lost}
    assert not {o.order_id for o in adopted} & {o.order_id for o in lost}
    assert all(o.origin is Origin.GATEWAY for o in adopted)
    assert [o.venue_order_id for o in await external(bench)] == [other.venue_order_id]
    partly = next(o for o in adopted if o.venue_order_id == "v1")
    filled = await bench.order_when(partly.order_id, lambda o: o.cum_qty)
    assert (filled.cum_qty, filled.leaves_qty) == (Decimal("0.5"), Decimal("1.5"))
    events = await bench.gateway.list_order_events(partly.order_id)
    (evidence,) = [e.evidence for e in events if e.event_type == "ADOPTED"]
    assert evidence is not None
    assert evidence.detail == "ops: the disk is gone"
    # From here on they are ours: cancelled, filled, counted.
    assert await bench.gateway.adopt("paper", by="ops", why="once more") == []
    stood = await bench.gateway.cancel_order(partly.order_id)
    assert stood.ord_status is OrdStatus.CANCELED
    await bench.gateway.cancel_all_orders(account="paper")
    assert [o.is_open for o in bench.exchange.orders] == [False, False, False, True]
    await bench.restart()
    assert {(await bench.stored(o)).ord_status for o in adopted} == {OrdStatus.CANCELED}


async def test_an_order_of_others_is_adopted_by_name(bench: Bench) -> None:
    await bench.start()
    other, third = placed_elsewhere(bench), placed_elsewhere(bench, "third")
    asked = {"by": "ops", "why": "placed by hand", "idempotency_key": "k"}
    (adopted,) = await bench.gateway.adopt("paper", [other.venue_order_id], **asked)
    (again,) = await bench.gateway.adopt("paper", [other.venue_order_id], **asked)
    assert again.order_id == adopted.order_id
    with pytest.raises(IdempotencyKeyReused):
        await bench.gateway.adopt("paper", [third.venue_order_id], **asked)
    bench.exchange.fill(other)
    filled = await bench.order_when(adopted.order_id, lambda o: not o.is_open)
    assert filled.ord_status is OrdStatus.FILLED
    with pytest.raises(NotFound):
        await bench.gateway.adopt("paper", ["nowhere"], by="ops", why="so")
    with pytest.raises(InvalidOrder):
        await bench.gateway.adopt("paper", by="", why="so")
    assert third.is_open


# --- inferred fills ---------------------------------------------------------------------------------


async def test_a_venue_that_counts_alone_has_its_fills_inferred(bench: Bench) -> None:
    use(bench, fills=FillReporting.CUMULATIVE)
    await bench.start()
    order = await bench.place(order_qty="2")
    bench.exchange.drops = True
    bench.exchange.hidden_fills = True
    for _ in range(2):
        bench.exchange.fill(bench.exchange.orders[0], "0.5")
        cum_qty = bench.exchange.orders[0].cum_qty
        bench.exchange.drops = False
        bench.exchange.tell(bench.exchange.status_of(bench.exchange.orders[0]))
        bench.exchange.drops = True
        await bench.order_when(order.order_id, lambda o: o.cum_qty == cum_qty)  # noqa: B023
    fills = await bench.fills()
    assert [(f.trade_id, f.last_qty, f.inferred) for f in fills] == [
        ("inferred:0:0.5", Decimal("0.5"), True),
        ("inferred:0.5:1", Decimal("0.5"), True),
    ]


async def test_a_fill_that_the_venue_never_shows_is_inferred_after_a_while_and_corrected(
    bench: Bench,
) -> None:
    await bench.start()
    order = await bench.place()
    bench.exchange.drops = True
    bench.exchange.hidden_fills = True
    bench.exchange.fill(bench.exchange.orders[0], "1", px="99")
    await gap_or_ask(bench, order)
    await bench.turn(25, step_s=0.5)
    assert not (await bench.stored(order)).cum_qty
    filled = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert (filled.ord_status, filled.avg_px) == (OrdStatus.FILLED, Decimal(100))
    # The real one comes after all: what was inferred is taken back in the same transaction.
    seq = filled.seq
    bench.exchange.calm()
    bench.exchange.hidden_fills = False
    bench.exchange.tell(bench.exchange.trades[0])
    real = await bench.order_when(order.order_id, lambda o: o.seq > seq)
    assert (real.cum_qty, real.avg_px) == (Decimal(1), Decimal(99))
    fills = await bench.fills()
    assert [(f.last_qty, f.inferred, f.corrects) for f in fills] == [
        (Decimal(1), True, None),
        (Decimal(-1), True, "inferred:0:1"),
        (Decimal(1), False, None),
    ]
    entry = next(
        e for e in bench.store.entries if any(x.event_type == "TRADE_CORRECT" for x in e.events)
    )
    assert [str(x.event_type) for x in entry.events] == ["TRADE_CORRECT", "TRADE"]
    # And again changes nothing, nor does a restart in between.
    await bench.restart()
    bench.exchange.tell(bench.exchange.trades[0])
    await gap(bench)
    assert len(await bench.fills()) == 3


async def gap_or_ask(bench: Bench, order: Order) -> None:
    bench.account().to_ask.add(order.order_id)
    bench.account().wake_resolver.set()
    await bench.turn(0.5)


class _Averaging(ScriptedVenue):
    """A venue that tells the average price of what is filled."""

    async def fetch(self, query: Query) -> Page[Any]:
        page = await super().fetch(query)
        if not isinstance(query, FetchOrder):
            return page
        return replace(page, items=tuple(replace(r, avg_px=Decimal("98.5")) for r in page.items))


async def test_an_inferred_fill_has_the_venues_average(bench: Bench) -> None:
    def make(exchange: ScriptedExchange, can: Capabilities) -> ScriptedVenue:
        return _Averaging(exchange, capabilities=can)

    use(bench, make_venue=make, fills=FillReporting.CUMULATIVE)
    await bench.start()
    order = await bench.place()
    bench.exchange.drops = True
    bench.exchange.hidden_fills = True
    bench.exchange.fill(bench.exchange.orders[0], "0.5", px="98.5")
    await gap_or_ask(bench, order)
    stood = await bench.order_when(order.order_id, lambda o: o.cum_qty)
    assert stood.avg_px == Decimal("98.5")
