"""Accounts, instruments, balances, positions and halts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

from tests.integration.store.conftest import AnyStore, Desk, a_claim
from tradegw.model import (
    AccountId,
    AccountName,
    Balance,
    Instrument,
    InstrumentStatus,
    Position,
)
from tradegw.ports import AccountRecord, Halt, InboxEntry, KeyTaken


async def test_an_account_keeps_its_id_and_takes_the_rest(store: AnyStore) -> None:
    first = AccountRecord(
        account_id=AccountId(uuid4()),
        account=AccountName("main"),
        venue="binance",
        plugin="rest",
        created_time_ns=5,
    )
    assert await store.put_account(first) == first
    bound = replace(
        first,
        account_id=AccountId(uuid4()),
        venue_account_id="77",
        environment="https://api.example.com",
        instance_id="i1",
        created_time_ns=9,
    )
    expected = replace(bound, account_id=first.account_id, created_time_ns=5)
    assert await store.put_account(bound) == expected
    second = replace(first, account_id=AccountId(uuid4()), account=AccountName("alt"))
    await store.put_account(second)
    assert list(await store.list_accounts()) == [second, expected]


async def test_instruments_are_replaced_as_a_whole(store: AnyStore) -> None:
    btc = Instrument(
        symbol="BTC/USDT",
        venue_symbol="BTCUSDT",
        base_asset="BTC",
        quote_asset="USDT",
        tick_size=Decimal("0.10"),
        step_size=Decimal("0.00001"),
        notional_min=Decimal(10),
    )
    perpetual = replace(
        btc, symbol="BTC/USD:USDC", settle_asset="USDC", status=InstrumentStatus.CANCEL_ONLY
    )
    await store.put_instruments("mock", [btc, perpetual], time_ns=1)
    await store.put_instruments("other", [btc], time_ns=1)
    assert list(await store.list_instruments("mock")) == [perpetual, btc]
    await store.put_instruments("mock", [perpetual], time_ns=2)
    assert list(await store.list_instruments("mock")) == [perpetual]
    assert list(await store.list_instruments("other")) == [btc]
    assert list(await store.list_instruments("nowhere")) == []


async def test_instruments_that_came_first_leave_the_plugin_to_the_account(
    store: AnyStore,
) -> None:
    await store.put_instruments("mock", [], time_ns=1)
    desk = await Desk.open(store)
    await store.put_instruments("mock", [], time_ns=1)
    assert desk.record.plugin == "mock"
    assert (await store.list_accounts())[0].plugin == "mock"


async def test_balances_and_positions_are_updated_one_by_one(desk: Desk) -> None:
    btc = Balance(
        account=desk.account, asset="BTC", free=Decimal(1), held=Decimal("0.5"), time_ns=1
    )
    usd = replace(btc, asset="USD")
    await desk.store.put_balances(desk.account_id, [btc, usd])
    less = replace(btc, free=Decimal("0.10"), time_ns=2)
    await desk.store.put_balances(desk.account_id, [less])
    assert list(await desk.store.list_balances(desk.account_id)) == [less, usd]
    short = Position(account=desk.account, symbol="BTC/USD:USDC", qty=Decimal(-2), time_ns=1)
    await desk.store.put_positions(desk.account_id, [short])
    flat = replace(short, qty=Decimal(0), entry_px=Decimal("65000.5"))
    await desk.store.put_positions(desk.account_id, [flat])
    assert list(await desk.store.list_positions(desk.account_id)) == [flat]


async def test_client_numbers_are_given_once(desk: Desk) -> None:
    store, account_id = desk.store, desk.account_id
    assert await store.take_client_numbers(account_id, count=10, first=500) == range(500, 510)
    assert await store.take_client_numbers(account_id, count=3, first=1) == range(510, 513)
    taken = await asyncio.gather(
        *(store.take_client_numbers(account_id, count=5, first=0) for _ in range(10))
    )
    numbers = [n for block in taken for n in block]
    assert sorted(numbers) == list(range(513, 563))


async def test_halts_are_replaced_and_ended(store: AnyStore) -> None:
    halt = Halt(scope="*", why="news", by="ops", since_ns=1)
    assert await store.put_halt(halt, a_claim("h1", scope="*")) is None
    later = replace(halt, why="more news", since_ns=2)
    assert await store.put_halt(later) is None
    scoped = replace(halt, scope="symbol:BTC/USDT")
    await store.put_halt(scoped)
    assert list(await store.list_halts()) == [later, scoped]
    assert await store.delete_halt("*", a_claim("h2", scope="*")) is None
    assert list(await store.list_halts()) == [scoped]


async def test_a_halt_whose_key_was_used_changes_nothing(store: AnyStore) -> None:
    claim = a_claim("h1", scope="*")
    halt = Halt(scope="*", why="news", by="ops", since_ns=1)
    await store.put_halt(halt, claim)
    taken = await store.put_halt(replace(halt, why="other"), replace(claim, operation="other"))
    assert taken == KeyTaken(claim=claim)
    assert await store.delete_halt("*", claim) == KeyTaken(claim=claim)
    assert list(await store.list_halts()) == [halt]


async def test_the_store_answers(store: AnyStore) -> None:
    await store.ping()


async def test_an_outbox_cursor_never_goes_back(store: AnyStore, desk: Desk) -> None:
    assert await store.get_outbox_cursor("rabbit", desk.account_id) == 0
    await store.put_outbox_cursor("rabbit", desk.account_id, seq=7)
    await store.put_outbox_cursor("rabbit", desk.account_id, seq=5)
    assert await store.get_outbox_cursor("rabbit", desk.account_id) == 7
    assert await store.get_outbox_cursor("other", desk.account_id) == 0


async def test_the_inbox_remembers_the_first(store: AnyStore) -> None:
    first = InboxEntry(source="rabbit", message_id="m1", digest="a", taken_time_ns=1)
    assert await store.find_inbox("rabbit", "m1") is None
    assert await store.put_inbox(first) is None
    assert await store.put_inbox(replace(first, digest="b")) == first
    assert await store.find_inbox("rabbit", "m1") == first
    assert await store.find_inbox("other", "m1") is None
