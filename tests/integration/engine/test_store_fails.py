"""The store fails at its boundary: nothing is sent that is not stored, callers are told the truth."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from functools import partial

import pytest

from tests.integration.engine.bench import Bench, FaultyStore, StoreFault
from tradegw.engine.account import AccountState
from tradegw.errors import CommitUnknown, Unavailable
from tradegw.model import CommandKind, EvidenceKind, OrdStatus
from tradegw.ports import Entry
from tradegw.testing import Fault

NEW, CANCEL = CommandKind.NEW, CommandKind.CANCEL
ALL = list(StoreFault)


def tells(event_type: str) -> object:
    def fits(entry: Entry) -> bool:
        return any(event.event_type == event_type for event in entry.events)

    return fits


# --- the intent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [StoreFault.BEFORE, StoreFault.LOST])
async def test_an_intent_that_is_not_stored_is_not_sent(bench: Bench, fault: StoreFault) -> None:
    await bench.start()
    bench.store.fail(fault, tells("INTENT"))  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await bench.place(idempotency_key="k")
    assert not bench.exchange.requests
    await bench.ready()
    # Nothing was stored, and the key is free: the same call is carried out now.
    order = await bench.place(idempotency_key="k")
    assert order.ord_status is OrdStatus.NEW
    assert len(bench.exchange.orders) == 1
    await bench.check_ledger()


async def test_an_intent_that_is_stored_after_all_is_answered_and_not_sent(bench: Bench) -> None:
    await bench.start()
    bench.store.fail(StoreFault.KEPT, tells("INTENT"))  # type: ignore[arg-type]
    order = await bench.place(idempotency_key="k")
    assert (order.ord_status, order.closed_by) == (OrdStatus.REJECTED, EvidenceKind.NOT_SENT)
    assert order.reason == "NEVER_REACHED_VENUE"
    assert not bench.exchange.requests
    await bench.ready()
    assert (await bench.place(idempotency_key="k")).order_id == order.order_id
    assert not bench.exchange.requests
    assert (await bench.place(idempotency_key="next")).ord_status is OrdStatus.NEW
    await bench.check_ledger()


@pytest.mark.parametrize("fault", ALL)
async def test_intents_beside_the_one_that_failed_are_stored_or_refused(
    bench: Bench, fault: StoreFault
) -> None:
    await bench.start()
    seen = 0

    def fifth(entry: Entry) -> bool:
        nonlocal seen
        seen += any(event.event_type == "INTENT" for event in entry.events)
        return seen == 5

    bench.store.fail(fault, fifth)
    results = await asyncio.gather(
        *(bench.place(idempotency_key=f"k{i}") for i in range(10)), return_exceptions=True
    )
    assert bench.store.has_failed
    for result in results:
        assert isinstance(result, Unavailable) or result.venue_client_order_id  # type: ignore[union-attr]
    await bench.ready()
    orders = await asyncio.gather(*(bench.place(idempotency_key=f"k{i}") for i in range(10)))
    assert len({order.order_id for order in orders}) == 10
    sent = {request.client_id for request in bench.exchange.requests}
    for order in orders:
        was_sent = order.venue_client_order_id in sent
        assert was_sent == (order.closed_by is not EvidenceKind.NOT_SENT)
    await bench.check_ledger()


@pytest.mark.parametrize("fault", ALL)
async def test_a_refusal_that_is_not_stored_is_not_told(bench: Bench, fault: StoreFault) -> None:
    await bench.start()
    await bench.gateway.halt(why="test", by="me")
    bench.store.fail(fault, tells("REJECTED"))  # type: ignore[arg-type]
    if fault is StoreFault.KEPT:
        order = await bench.place(idempotency_key="k")
        assert order.reason == "HALTED"
    else:
        with pytest.raises(Unavailable):
            await bench.place(idempotency_key="k")
    await bench.ready()
    assert (await bench.place(idempotency_key="k")).reason == "HALTED"
    assert not bench.exchange.requests


# --- the answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ALL)
async def test_an_answer_that_is_not_stored_is_asked_for(bench: Bench, fault: StoreFault) -> None:
    await bench.start()
    bench.exchange.drops = True
    bench.store.fail(fault, tells("NEW"))  # type: ignore[arg-type]
    order = await bench.place(idempotency_key="k")
    # The caller is told what is stored, and no error: the order is live.
    assert order.is_open
    found = await bench.order_when(
        order.order_id, lambda o: o.ord_status is OrdStatus.NEW and not o.in_doubt
    )
    assert found.venue_order_id == "v1"
    assert len(bench.exchange.orders) == 1
    await bench.ready()
    await bench.check_ledger()


@pytest.mark.parametrize("fault", ALL)
async def test_a_venues_refusal_that_is_not_stored_is_proven_anew(
    bench: Bench, fault: StoreFault
) -> None:
    await bench.start()
    bench.exchange.script(NEW, Fault.REFUSE)
    bench.store.fail(fault, tells("REJECTED"))  # type: ignore[arg-type]
    order = await bench.place(idempotency_key="k")
    assert order.is_open == (fault is not StoreFault.KEPT)
    closed = await bench.order_when(order.order_id, lambda o: not o.is_open)
    assert closed.ord_status is OrdStatus.REJECTED
    await bench.ready()
    await bench.check_ledger()


@pytest.mark.parametrize("fault", ALL)
async def test_a_doubt_that_is_not_stored_is_recorded_when_the_store_is_back(
    bench: Bench, fault: StoreFault
) -> None:
    await bench.start()
    bench.exchange.visibility_lag_s = 0.5
    bench.exchange.drops = True
    bench.exchange.script(NEW, Fault.LOSE_ANSWER)
    bench.store.fail(fault, tells("SENT_UNANSWERED"))  # type: ignore[arg-type]
    order = await bench.place()
    assert order.in_doubt
    await bench.order_when(order.order_id, lambda o: not o.in_doubt)
    await bench.ready()
    await bench.check_ledger()


# --- the stream -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ALL)
async def test_a_fill_that_is_not_stored_is_stored_when_the_store_is_back(
    bench: Bench, fault: StoreFault
) -> None:
    await bench.start()
    order = await bench.place()
    bench.store.fail(fault, tells("TRADE"))  # type: ignore[arg-type]
    for _ in range(4):
        bench.exchange.fill(bench.exchange.orders[0], "0.25")
    await bench.order_when(order.order_id, lambda o: not o.is_open)
    await bench.ready()
    await bench.check_ledger()


@pytest.mark.parametrize("fault", ALL)
async def test_nothing_is_decided_on_what_was_never_stored(bench: Bench, fault: StoreFault) -> None:
    """While the account is read anew, reports go on coming, from the stream and in answers."""
    await bench.start()
    orders = [await bench.place() for _ in range(5)]
    for round_ in range(4):
        bench.store.fail(fault, tells("TRADE"))  # type: ignore[arg-type]
        for placed in bench.exchange.orders[:5]:
            bench.exchange.fill(placed, "0.1")
        more = [bench.later(bench.place(idempotency_key=f"{round_}-{i}")) for i in range(3)]
        await asyncio.wait(more)
    for order in orders:
        await bench.order_when(order.order_id, lambda o: o.cum_qty == Decimal("0.4"))
    await bench.ready()
    await bench.check_ledger()


@pytest.mark.parametrize("fault", ALL)
async def test_an_unmatched_fill_is_stored_once(bench: Bench, fault: StoreFault) -> None:
    from tradegw.model import Side
    from tradegw.testing import a_trade

    await bench.start()
    bench.store.fail(fault, tells("UNMATCHED_FILL"))  # type: ignore[arg-type]
    bench.exchange.tell(
        a_trade("x", "1", symbol="BTC/USDT", side=Side.BUY, venue_order_id="foreign")
    )
    await bench.clock.until(lambda: bench.store.has_failed)
    await bench.ready()
    await bench.turn(1)
    assert [f.trade_id for f in await bench.fills()] == ["x"]


# --- cancels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [StoreFault.BEFORE, StoreFault.LOST])
async def test_a_cancel_that_is_not_stored_is_not_sent(bench: Bench, fault: StoreFault) -> None:
    await bench.start()
    order = await bench.place()
    bench.store.fail(fault, tells("PENDING_CANCEL"))  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await bench.gateway.cancel_order(order.order_id, idempotency_key="x")
    assert not bench.exchange.sent(CANCEL)
    await bench.ready()
    closed = await bench.gateway.cancel_order(order.order_id, idempotency_key="x")
    assert closed.ord_status is OrdStatus.CANCELED


async def test_a_cancel_that_is_stored_after_all_is_answered_and_not_sent(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.store.fail(StoreFault.KEPT, tells("PENDING_CANCEL"))  # type: ignore[arg-type]
    stood = await bench.gateway.cancel_order(order.order_id, idempotency_key="x")
    assert stood.ord_status is OrdStatus.NEW, "told that it did not happen, at once"
    assert not stood.in_doubt
    assert not bench.exchange.sent(CANCEL)
    assert "CANCEL_REJECTED" in await bench.events(order)


# --- reading --------------------------------------------------------------------------------------


async def test_a_store_that_cannot_be_read_does_not_stop_the_loop(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    await bench.gateway.cancel_order(order.order_id)
    # The order is forgotten; a late fill has to be looked up.
    bench.store.reads_fail = 3
    bench.exchange.fill(bench.exchange.orders[0], "0.4")
    await bench.order_when(order.order_id, lambda o: o.cum_qty)
    await bench.ready()
    await bench.check_ledger()


async def test_a_store_that_is_away_takes_no_orders_and_comes_back(bench: Bench) -> None:
    await bench.start()
    order = await bench.place()
    bench.store.is_away = True
    with pytest.raises(Unavailable):
        await bench.place(idempotency_key="k")
    bench.exchange.fill(bench.exchange.orders[0], "0.5")
    await bench.clock.until(lambda: bench.state() is AccountState.STOPPED)
    with pytest.raises(Unavailable):
        await bench.gateway.cancel_order(order.order_id)
    await bench.turn(10)
    assert bench.state() is AccountState.STOPPED
    bench.store.is_away = False
    await bench.ready()
    assert (await bench.place(idempotency_key="k")).ord_status is OrdStatus.NEW
    await bench.order_when(order.order_id, lambda o: o.cum_qty)
    await bench.check_ledger()


async def test_the_stream_goes_on_after_a_commit_of_unknown_outcome(bench: Bench) -> None:
    await bench.start()
    seen: list[int] = []

    async def follow() -> None:
        async for batch in bench.gateway.stream_orders(accounts=["paper"]):
            for item in batch.orders:
                assert item.prev_seq == (seen[-1] if seen else 0)
                seen.append(item.seq)

    reading = bench.later(follow())
    await bench.place()
    bench.store.fail(StoreFault.KEPT, tells("INTENT"))  # type: ignore[arg-type]
    await bench.place()
    await bench.ready()
    await bench.place()
    head = (await bench.store.get_head("paper")).seq
    await bench.clock.until(lambda: seen and seen[-1] == head)
    assert seen == list(range(1, head + 1))
    reading.cancel()


# --- what is stored beside the orders ---------------------------------------------------------------


async def test_whoever_cancels_all_is_told_to_ask_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.start()
    order = await bench.place()
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "put_claim", _unknown, raising=False)
        with pytest.raises(Unavailable):
            await bench.gateway.cancel_all_orders(account="paper", idempotency_key="k")
    await bench.gateway.cancel_all_orders(account="paper", idempotency_key="k")
    assert (await bench.stored(order)).ord_status is OrdStatus.CANCELED


async def test_a_halt_that_is_stored_though_nobody_knew_is_in_force(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.start()

    async def kept(*args: object) -> None:
        await bench.store.inner.put_halt(*args)  # type: ignore[arg-type]
        await _unknown()

    halt = partial(bench.gateway.halt, why="test", by="me", idempotency_key="h")
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "put_halt", kept, raising=False)
        with pytest.raises(Unavailable):
            await halt()
    await halt()
    assert (await bench.place()).reason == "HALTED"


async def _unknown(*args: object) -> None:
    raise CommitUnknown("the answer to COMMIT was lost")


async def test_a_start_that_cannot_store_its_doubts_reads_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.start()
    bench.exchange.script(NEW, Fault.HANG)
    bench.exchange.drops = True
    bench.later(bench.place(idempotency_key="k"))
    await bench.clock.until(lambda: bench.exchange.orders, step_s=0)
    await bench.crash()
    bench.exchange.drops = False
    appended = FaultyStore.append
    failures = [CommitUnknown("the answer to COMMIT was lost")]

    async def append(store: FaultyStore, entry: Entry) -> object:
        if failures:
            store._stopped.add(entry.account_id)
            raise failures.pop()
        return await appended(store, entry)

    monkeypatch.setattr(FaultyStore, "append", append)
    await bench.start()
    assert not failures
    order = await bench.place(idempotency_key="k")
    assert (await bench.order_when(order.order_id, lambda o: not o.in_doubt)).acknowledged
    await bench.check_ledger()
