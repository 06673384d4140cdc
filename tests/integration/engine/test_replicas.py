"""Several gateways on one store: who serves an account, and that nobody sends for one that is another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest

from tests.integration.engine.bench import capabilities
from tests.integration.engine.fleet import PATIENCE_S, TENURE_S, TERMS, Fleet, Replica, a_fleet
from tradegw.engine.guard import GuardedPlugins
from tradegw.errors import (
    ConfigError,
    Conflict,
    InvalidOrder,
    NotSent,
    StoreUnavailable,
    Unavailable,
)
from tradegw.gateway import lease_table, serving
from tradegw.gateway.config import load_config
from tradegw.gateway.leases import LeaseState, list_leases, release_lease
from tradegw.model import (
    AccountId,
    AccountName,
    CommandKind,
    EvidenceKind,
    Order,
    OrdStatus,
    VenueClientOrderId,
)
from tradegw.store.postgres import PostgresStore
from tradegw.store.postgres_leases import PostgresLeases
from tradegw.testing.exchange import Fault
from tradegw.venue import Cancel, ExpiryKind, Operation, TranslateContext

NEW = CommandKind.NEW
PAPER = AccountName("paper")


@pytest.fixture
async def fleet(postgres_store: Callable[[str], str]) -> AsyncIterator[Fleet]:
    async with a_fleet(postgres_store("postgres18")) as fleet:
        yield fleet


async def taken_over(fleet: Fleet, old: Replica, new: Replica) -> None:
    """Let `old`, which stands still, lose its lease to `new`."""
    await fleet.expire()
    new.look()
    await new.ready()
    assert old.held == {"paper"}, "it has not heard of it"


# --- holding ---------------------------------------------------------------------------------------


async def test_one_of_two_serves_an_account_and_the_other_knows_where_it_is(fleet: Fleet) -> None:
    one = await (await fleet.start("one")).ready()
    two = await fleet.start("two")
    order = await one.place(idempotency_key="k")
    assert order.ord_status is OrdStatus.NEW
    assert (one.held, two.held) == ({"paper"}, set())
    assert await two.keeper.address_of(PAPER) == "one:50051"
    assert await one.keeper.address_of(PAPER) == "one:50051"
    with pytest.raises(Unavailable) as refused:
        await two.place()
    assert refused.value.reason == "NOT_HOLDER"
    # What is stored is known everywhere; what is not configured, nowhere.
    assert await two.place(idempotency_key="k") == order
    with pytest.raises(InvalidOrder, match="no account 'other'"):
        await two.place(account="other")
    assert await two.keeper.address_of(AccountName("other")) is None


async def test_a_holder_without_a_door_is_a_holder(fleet: Fleet) -> None:
    one = await (await fleet.start("one")).ready()
    two = await fleet.start("two")
    one.keeper.listen_at("")
    async with asyncio.timeout(PATIENCE_S):
        while await fleet.lease("address"):  # noqa: ASYNC110  Nobody tells.
            await asyncio.sleep(0.01)
    await two.rest()
    two.look()
    assert await two.keeper.address_of(PAPER) == ""
    assert await one.keeper.address_of(PAPER) == ""
    await fleet.stop(one)
    await two.rest()
    two.look()
    await two.ready()


async def test_a_holder_that_renews_keeps_its_account(fleet: Fleet) -> None:
    one = await (await fleet.start("one")).ready()
    two = await fleet.start("two")
    for _ in range(8):
        await one.rest()
        one.clock.turn(TERMS.ttl_s / 3 + 0.01)
        await one.rest()
        assert _left_ns(one) > TENURE_S * 0.9e9
        two.look()
        await two.rest()
    assert await fleet.lease("token") == 1
    assert one.is_ready()
    assert two.held == set()
    assert (await one.place()).ord_status is OrdStatus.NEW


async def test_a_look_that_nobody_answers_holds_up_no_renewal(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await (await fleet.start("one")).ready()
    two = await fleet.start("two")
    looked = asyncio.Event()

    async def hang(self: PostgresLeases, _: object) -> None:
        async with self._lock:
            looked.set()
            await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(lease_table, "READ_WITHIN_S", PATIENCE_S)
        patch.setattr(PostgresLeases, "list", hang)
        one.look()
        await looked.wait()
        asking = asyncio.create_task(one.keeper.address_of(AccountName("paper")))
        one.clock.turn(TERMS.ttl_s / 3)
        await fleet.until(lambda: _left_ns(one) > TENURE_S * 0.9e9)
        assert (await one.place()).ord_status is OrdStatus.NEW
        assert await asking == "one:50051", "what is ours is known without a look"
        # One that waits for the look is told so, and the look ends.
        patch.setattr(lease_table, "READ_WITHIN_S", 0.01)
        two.look()
        with pytest.raises(StoreUnavailable, match="in time"):
            await two.keeper.address_of(PAPER)
    assert await two.keeper.address_of(PAPER) == "one:50051"


async def test_an_account_is_handed_over_at_a_shut_down(fleet: Fleet) -> None:
    one = await (await fleet.start("one")).ready()
    order = await one.place()
    two = await fleet.start("two")
    await fleet.stop(one)
    await two.rest()
    two.look()
    await two.ready()
    assert await fleet.lease("token") == 2
    stood = await two.gateway.cancel_order(order.order_id)
    assert stood.ord_status is OrdStatus.CANCELED
    assert not (await two.gateway.get_order(order.order_id)).in_doubt


async def test_the_free_accounts_of_a_start_are_spread(fleet: Fleet) -> None:
    fleet.accounts = ["a", "b", "c", "d"]
    one = await fleet.start("one")
    await fleet.until(lambda: len(one.held) == 2)
    two = await fleet.start("two")
    await fleet.until(lambda: len(two.held) == 2)
    for replica in (one, two, one):
        replica.look()
        await replica.rest()
    assert len(one.held) == len(two.held) == 2
    assert one.held | two.held == set(fleet.accounts)
    # What a gateway that leaves gives back goes to those who are left, a hesitation later.
    await fleet.stop(two)
    for _ in range(4):
        one.look()
        await one.rest()
    await fleet.until(lambda: one.held == set(fleet.accounts))


async def test_a_gateway_may_shut_down_while_it_opens_an_account(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tradegw.engine.account import Account

    opening = asyncio.Event()

    async def load(_: Account) -> None:
        opening.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(Account, "load", load)
        one = await fleet.start("one")
        await opening.wait()
        assert one.held == set()
        await one.keeper.cease_taking()
        await fleet.stop(one)
    assert await fleet.lease("holder") == "", "given back all the same"
    two = await (await fleet.start("two")).ready()
    assert (await two.place()).ord_status is OrdStatus.NEW


async def test_the_first_round_ends_when_what_is_ours_to_take_was_tried(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tradegw.engine.account import Account

    fleet.accounts = ["a", "b"]
    may_load = asyncio.Event()
    load = Account.load

    async def slow(account: Account) -> None:
        await may_load.wait()
        if account.account == "a":
            raise StoreUnavailable("the store is away")
        await load(account)

    with monkeypatch.context() as patch:
        patch.setattr(Account, "load", slow)
        one = await fleet.start("one")
        opened = asyncio.create_task(one.keeper.opened())
        await fleet.until(lambda: len(one.keeper._held) == 1)
        assert not opened.done(), "there is another one, which is left to others for a moment"
        for _ in range(3):
            one.look()
            await one.rest()
        await fleet.until(lambda: len(one.keeper._held) == 2)
        assert not opened.done(), "they are being opened"
        may_load.set()
        async with asyncio.timeout(PATIENCE_S):
            await opened
    assert one.held == {"b"}
    # What another gateway holds is not waited for.
    two = await fleet.start("two")
    one.keeper._look_out._free_until_ns.clear()
    two.look()
    async with asyncio.timeout(PATIENCE_S):
        await two.keeper.opened()


async def test_what_cannot_be_given_back_keeps_nothing_else(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.accounts = ["a", "b"]
    one = await fleet.start("one")
    await fleet.until(lambda: len(one.keeper._held) == 1)
    for _ in range(3):
        one.look()
        await one.rest()
    await fleet.until(lambda: one.held == {"a", "b"})
    (stuck,) = (lease.account_id for lease in one.keeper._held if lease.name == "a")
    fence = PostgresStore.fence

    async def hang(store: PostgresStore, account_id: AccountId, token: int | None) -> None:
        if account_id == stuck and token is None:
            await asyncio.Event().wait()
        await fence(store, account_id, token)

    with monkeypatch.context() as patch:
        patch.setattr(serving, "GIVE_BACK_WITHIN_S", 0.3)
        patch.setattr(PostgresStore, "fence", hang)
        await fleet.stop(one)
    two = await fleet.start("two")
    rows = {row.account_id: row for row in await two.keeper._table._leases.list([stuck])}
    assert rows[stuck].by.holder == "one", "nobody knows what was written last"
    await fleet.until(lambda: len(two.held) == 1)
    assert two.held == {"b"}


@pytest.mark.parametrize("failure", [ConfigError("synchronous_commit is off"), None])
async def test_a_release_that_fails_or_hangs_keeps_nobody_from_closing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    one = await (await fleet.start("one")).ready()

    async def release(*_: object) -> None:
        if failure is not None:
            raise failure
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(serving, "GIVE_BACK_WITHIN_S", 0.05)
        patch.setattr(PostgresLeases, "release", release)
        async with asyncio.timeout(PATIENCE_S):
            await fleet.stop(one)
    connections = one.keeper._connections
    assert [getattr(one, "_connection", "?") for one in connections] == [None] * 3
    assert await fleet.lease("holder") == "one", "it expires"


# --- losing ----------------------------------------------------------------------------------------


async def test_nothing_leaves_after_the_tenure_has_ended(fleet: Fleet) -> None:
    """The store still believes in us, and nobody has told us otherwise; time has."""
    one = await (await fleet.start("one")).ready()
    order = await one.place()
    one.clock._now_ns += int(TENURE_S * 1e9)  # It was stopped: nothing that sleeps has woken yet.
    sent = len(fleet.exchange.requests)
    with pytest.raises(Unavailable) as refused:
        await one.place()
    assert refused.value.reason == "NOT_HOLDER"
    account = one.engine.account("paper")
    venue = account.venue
    assert isinstance(venue, GuardedPlugins)
    # Past every other check, on every way: this is the last one.
    request = venue.translate(
        Cancel(order=order),
        TranslateContext(
            instrument=account.instruments["BTC/USDT"],
            now=account.venue_now(),
            venue_client_order_ids=(VenueClientOrderId("any"),),
        ),
    )
    for way in (
        lambda: venue.execute(request),
        lambda: venue.execute_in_turn(request, Operation.DEAD_MAN),
    ):
        with pytest.raises(NotSent) as kept:
            await way()
        assert kept.value.reason == "NOT_HOLDER"
    assert not account.guard.breaker.is_failing, "that says nothing of the venue"
    cancelled = await one.gateway.cancel_order(order.order_id)
    assert cancelled.queued, "it waits for whoever serves the account next"
    assert len(fleet.exchange.requests) == sent


async def test_an_intent_whose_tenure_ended_before_it_was_sent_is_closed_as_never_sent(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tradegw.engine import desk
    from tradegw.engine.crash import CrashPoint

    one = await (await fleet.start("one")).ready()

    def stop_here(point: CrashPoint) -> None:
        if point is CrashPoint.JOURNALED_UNSENT:
            one.clock._now_ns += int(TENURE_S * 1e9)

    monkeypatch.setattr(desk, "reach", stop_here)
    order = await one.place()
    assert (order.ord_status, order.closed_by) == (OrdStatus.REJECTED, EvidenceKind.NOT_SENT)
    assert order.reason == "NEVER_REACHED_VENUE"
    assert fleet.exchange.requests == []


async def test_a_lease_that_cannot_be_renewed_in_time_is_given_up_and_taken_anew(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await (await fleet.start("one")).ready()

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(one.keeper._renewer._leases, "renew", away)
        patch.setattr(one.keeper._table._leases, "list", away)
        one.gate.clear()
        waiting = asyncio.create_task(one.place(idempotency_key="k"))
        await fleet.until(lambda: one.at_gate == 1)
        await one.clock.until(lambda: not one.keeper._held, patience_s=PATIENCE_S)
        # Whoever waited for an answer waits no more: nobody here knows what becomes of it.
        order = (await asyncio.gather(waiting, return_exceptions=True))[0]
        assert isinstance(order, Unavailable) or (isinstance(order, Order) and order.in_doubt)
    one.gate.set()
    assert one.keeper.lost == 1
    assert one.engine.accounts == []
    one.look()
    await one.ready()
    assert await fleet.lease("token") == 2
    assert fleet.exchange.requests == [], "cancelled at the gate"
    order = await one.place(idempotency_key="k")
    assert [doubt.command for doubt in order.in_doubt] == [NEW]
    closed = await fleet.order_when(order, lambda o: not o.is_open, step_s=0.1)
    assert closed.closed_by is EvidenceKind.ABSENT_AFTER_EXPIRY


async def test_a_holder_that_lost_its_lease_ceases_without_a_further_send(fleet: Fleet) -> None:
    one = await (await fleet.start("one")).ready()
    two = await fleet.start("two")
    resting = await one.place()
    await taken_over(fleet, one, two)
    sent = len(fleet.exchange.requests)
    with pytest.raises(Unavailable):
        await one.place(idempotency_key="late")
    assert len(fleet.exchange.requests) == sent, "what cannot be stored is not sent"
    # That it could not be stored is reason enough to look, long before a renewal is due.
    await fleet.until(lambda: not one.keeper._held)
    assert (one.held, one.keeper.lost) == (set(), 1)
    assert await one.keeper.address_of(PAPER) == "two:50051"
    assert await fleet.lease("holder") == "two", "what is another's is not given back"
    placed = await two.place(idempotency_key="late")
    assert placed.ord_status is OrdStatus.NEW
    stood = await two.gateway.cancel_order(resting.order_id)
    assert stood.ord_status is OrdStatus.CANCELED
    assert len(fleet.exchange.orders) == 2


# --- what an old holder may have sent ---------------------------------------------------------------


@pytest.mark.parametrize("wakes", ["in time", "too late"])
async def test_a_holder_that_was_stopped_between_its_last_check_and_the_first_byte(
    fleet: Fleet, wakes: str
) -> None:
    """Only the venue can refuse what it sends then; so nobody says that nothing was sent before it would."""
    fleet.exchange.request_validity_s = 60.0
    one = await (await fleet.start("one")).ready()
    two = await fleet.start("two")
    one.gate.clear()
    waiting = asyncio.create_task(one.place(idempotency_key="k"))
    await fleet.until(lambda: one.at_gate == 1)
    await taken_over(fleet, one, two)
    order = await two.place(idempotency_key="k")
    assert [doubt.command for doubt in order.in_doubt] == [NEW], "two cannot know"
    # However often it asks: the request is still good.
    asked = len(fleet.exchange.queries)
    await fleet.until(lambda: len(fleet.exchange.queries) > asked + 6, step_s=0.5)
    still = await two.gateway.get_order(order.order_id)
    assert still.is_open
    assert still.in_doubt
    if wakes == "in time":
        one.gate.set()
        found = await fleet.order_when(order, lambda o: o.acknowledged, step_s=0.1)
        assert (found.ord_status, found.in_doubt) == (OrdStatus.NEW, ())
        assert len(fleet.exchange.orders) == 1
    else:
        closed = await fleet.order_when(order, lambda o: not o.is_open, step_s=0.5)
        assert closed.closed_by is EvidenceKind.ABSENT_AFTER_EXPIRY
        one.gate.set()
        await fleet.until(lambda: len(fleet.exchange.requests) == 1)
        assert fleet.exchange.orders == [], "the venue refused it: it was too old"
    # Nobody hears from one any more, until it notices that it holds nothing.
    one.clock.turn(TERMS.ttl_s / 3 + 0.01)
    outcome = (await asyncio.gather(waiting, return_exceptions=True))[0]
    assert isinstance(outcome, Unavailable) or (
        isinstance(outcome, Order) and outcome.order_id == order.order_id
    )
    stood = await two.gateway.get_order(order.order_id)
    assert len(fleet.exchange.orders) == (1 if wakes == "in time" else 0)
    assert stood.is_open is (wakes == "in time")


async def test_what_the_old_holder_sent_and_nobody_answered_is_found_by_the_next(
    fleet: Fleet,
) -> None:
    one = await (await fleet.start("one")).ready()
    two = await fleet.start("two")
    fleet.exchange.script(NEW, Fault.HANG)
    waiting = asyncio.create_task(one.place(idempotency_key="k", order_qty=Decimal(2)))
    await fleet.until(lambda: len(fleet.exchange.orders) == 1)
    await taken_over(fleet, one, two)
    order = await two.place(idempotency_key="k", order_qty=Decimal(2))
    found = await fleet.order_when(order, lambda o: o.acknowledged and not o.in_doubt, step_s=0.1)
    assert found.ord_status is OrdStatus.NEW
    assert len(fleet.exchange.orders) == 1
    one.clock.turn(TERMS.ttl_s / 3 + 0.01)
    await asyncio.gather(waiting, return_exceptions=True)


# --- a venue that refuses nothing for its age --------------------------------------------------------


@pytest.fixture
async def lenient(postgres_store: Callable[[str], str]) -> AsyncIterator[Fleet]:
    """A fleet at a venue that takes requests however old they are."""
    can = capabilities(expiry=ExpiryKind.NONE, expiry_s=0.0)
    async with a_fleet(postgres_store("postgres18"), can) as fleet:
        fleet.exchange.request_validity_s = None
        yield fleet


async def test_silence_alone_does_not_take_an_account_whose_requests_never_expire(
    lenient: Fleet,
) -> None:
    one = await (await lenient.start("one")).ready()
    assert not await lenient.lease("requests_expire")
    two = await lenient.start("two")
    await lenient.expire()
    for _ in range(3):
        await two.rest()
        two.look()
    await two.rest()
    assert await lenient.lease("token") == 1, "two has looked, and left it"
    assert await two.keeper.address_of(PAPER) is None, "nobody holds it for certain"
    # Its process is known to have ended: nothing of it can be sent any more.
    lenient.gone.add("one")
    two.look()
    await two.ready()
    one.clock.turn(TERMS.ttl_s / 3 + 0.01)
    await lenient.until(lambda: not one.held)


async def test_an_operator_may_say_that_the_holder_is_gone(lenient: Fleet) -> None:
    one = await (await lenient.start("one")).ready()
    two = await lenient.start("two")
    config = load_config(
        environ={},
        overrides={
            "store": {"url": lenient.url},
            "venues": {"scripted": {"plugin": "mock"}},
            "accounts": {"paper": {"venue": "scripted"}},
        },
    )
    assert [lease.state for lease in await list_leases(config)] == [LeaseState.HELD]
    with pytest.raises(Conflict) as refused:
        await release_lease(config, "paper")
    assert refused.value.reason == "LEASE_HELD"
    await lenient.expire()
    assert [lease.state for lease in await list_leases(config)] == [LeaseState.STUCK]
    await release_lease(config, "paper")
    assert [lease.state for lease in await list_leases(config)] == [LeaseState.FREE]
    two.look()
    await two.ready()
    one.clock.turn(TERMS.ttl_s / 3 + 0.01)
    await lenient.until(lambda: not one.held)


async def test_nothing_is_sent_before_the_store_knows_what_the_venue_does_with_old_requests(
    lenient: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder that died at once would otherwise leave an account that silence may take, and must not."""

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(PostgresLeases, "renew", away)
        one = await lenient.start("one")
        await lenient.until(lambda: one.engine.accounts and one.engine.accounts[0].state == "READY")
        assert await lenient.lease("requests_expire")
        with pytest.raises(Unavailable) as refused:
            await one.place()
        assert refused.value.reason == "NOT_HOLDER"
    one.clock.turn(TERMS.ttl_s / 12 + 0.01)
    await one.ready()
    assert not await lenient.lease("requests_expire")
    assert (await one.place()).ord_status is OrdStatus.NEW


# --- beside the orders -------------------------------------------------------------------------------


async def test_a_halt_that_one_was_asked_for_stops_all(fleet: Fleet) -> None:
    one = await (await fleet.start("one")).ready()
    two = await fleet.start("two")
    await two.gateway.halt(why="a test", by="us")
    one.look()
    await fleet.until(lambda: one.engine.halts.all)
    order = await one.place()
    assert (order.ord_status, order.reason) == (OrdStatus.REJECTED, "HALTED")
    await one.gateway.resume(by="us")
    two.look()
    await fleet.until(lambda: not two.engine.halts.all)


def _left_ns(replica: Replica) -> int:
    (lease,) = replica.keeper._held
    return lease.tenure.left_ns
