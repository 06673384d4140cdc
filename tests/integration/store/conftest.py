"""A store of each engine, and a desk that fills it: orders with their events, as the engine makes them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from tradegw.model import (
    AccountId,
    AccountName,
    ClientOrderId,
    ExecType,
    ExecutionReport,
    Order,
    OrderEvent,
    OrderId,
    OrdType,
    Side,
    TimeInForce,
    TradeId,
    VenueClientOrderId,
    VenueOrderId,
)
from tradegw.model.lifecycle import apply, record_intent
from tradegw.ports import AccountRecord, Claim, Entry, Stored, VenueOrderRef
from tradegw.store import SqliteStore, SqlStore, open_sqlite, open_store

START_NS = 1_700_000_000_000_000_000
_NAMES = UUID("b7c1c1de-39a4-4f2b-8a8e-5b0f7c0d9a11")

AnyStore = SqlStore


class StillClock:
    """Time that stands still: nothing in the store depends on its passing."""

    def time_ns(self) -> int:
        return START_NS

    def monotonic_ns(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the store never sleeps")


def an_order(name: str = "c1", *, account: str = "paper", at: int = 0, **changes: Any) -> Order:
    """An order, new; `name` makes its ids, `at` its time in seconds."""
    order = Order(
        order_id=OrderId(uuid5(_NAMES, f"{account}/{name}")),
        account=AccountName(account),
        venue="mock",
        symbol="BTC/USDT",
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        time_in_force=TimeInForce.GTC,
        order_qty=Decimal("0.01"),
        leaves_qty=Decimal("0.01"),
        price=Decimal(65000),
        client_order_id=ClientOrderId(name),
        idempotency_key=f"key-{name}",
        venue_client_order_id=VenueClientOrderId(f"v-{name}"),
        created_time_ns=START_NS + at * 10**9,
        updated_time_ns=START_NS + at * 10**9,
    )
    return replace(order, **changes)


def a_claim(key: str, *, scope: str = "paper", **changes: Any) -> Claim:
    claim = Claim(scope=scope, idempotency_key=key, fingerprint="v1:f00d", operation="place_order")
    return replace(claim, created_time_ns=START_NS, **changes)


def a_trade(order: Order, trade_id: str, qty: str = "0.01", **changes: Any) -> ExecutionReport:
    report = ExecutionReport(
        exec_type=ExecType.TRADE,
        venue_order_id=VenueOrderId(f"x-{order.client_order_id}"),
        trade_id=TradeId(trade_id),
        last_qty=Decimal(qty),
        last_px=Decimal("64999.50"),
        fee=Decimal("0.65"),
        fee_asset="USDT",
        transact_time_ns=order.created_time_ns + 1,
        received_time_ns=order.created_time_ns + 2,
    )
    return replace(report, **changes)


class Desk:
    """An account of a store."""

    def __init__(self, store: AnyStore, record: AccountRecord) -> None:
        self.store = store
        self.record = record
        self.account_id = record.account_id
        self.account = record.account

    @classmethod
    async def open(cls, store: AnyStore, account: str = "paper") -> Desk:
        """The account of that name, stored if it is new."""
        return cls(store, await store.put_account(cls.record_of(account)))

    @staticmethod
    def record_of(account: str) -> AccountRecord:
        return AccountRecord(
            account_id=AccountId(uuid5(_NAMES, account)),
            account=AccountName(account),
            venue="mock",
            plugin="mock",
            created_time_ns=START_NS,
        )

    def intent(self, order: Order, **changes: Any) -> Entry:
        """The entry that stores a new order."""
        _, events = record_intent(order, request_id="r1")
        ref = VenueOrderRef(
            order_id=order.order_id,
            generation=order.generation,
            venue_client_order_id=order.venue_client_order_id or VenueClientOrderId(""),
            order_qty=order.order_qty,
            valid_until_ns=order.created_time_ns + 10**10,
            digest="d1",
        )
        entry = Entry(
            account_id=self.account_id,
            events=events,
            claim=a_claim(
                f"key-{order.client_order_id}", scope=self.account, order_id=order.order_id
            ),
            is_new_order=True,
            ref=ref,
        )
        return replace(entry, **changes)

    async def place(self, name: str = "c1", **changes: Any) -> Order:
        """Store a new order, and return it as stored."""
        order = an_order(name, account=self.account, **changes)
        return _last_order(await self.append(self.intent(order)))

    async def report(self, order: Order, report: ExecutionReport) -> Order:
        """Apply a report to an order as the store knows it, and store what follows."""
        known = await self.store.find_known(self.account_id, order_id=order.order_id)
        assert known is not None
        _, events = apply(known.order, report)
        return _last_order(await self.append(Entry(account_id=self.account_id, events=events)))

    async def append(self, entry: Entry) -> Stored:
        result = await self.store.append(entry)
        assert isinstance(result, Stored), result
        return result


def _last_order(stored: Stored) -> Order:
    order = stored.events[-1].order
    assert order is not None
    return order


async def all_events(desk: Desk) -> list[OrderEvent]:
    from tradegw.ports import EventFilter

    return list(await desk.store.list_events(EventFilter(account=desk.account), limit=10_000))


def tamper(path: Path, *statements: str) -> None:
    """Change a store's file as somebody with a shell would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for (trigger,) in connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, statement


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def open_file(path: Path) -> Callable[..., SqliteStore]:
    """Opens the test's file."""

    def opens(**options: Any) -> SqliteStore:
        return open_sqlite(path, clock=StillClock(), **options)

    return opens


@pytest.fixture(params=["sqlite", "memory", "postgres18", "postgres15"])
async def store(
    request: pytest.FixtureRequest, path: Path, postgres_store: Callable[[str], str]
) -> AsyncIterator[AnyStore]:
    """An empty store of each engine."""
    url = {"memory": "memory://", "sqlite": f"sqlite:///{path}"}.get(request.param)
    if url is None:
        url = postgres_store(request.param)
    opened = await open_store(url, clock=StillClock())
    yield opened
    await opened.close()


@pytest.fixture
async def desk(store: AnyStore) -> Desk:
    return await Desk.open(store)


@pytest.fixture
async def file_store(open_file: Callable[..., SqliteStore]) -> AsyncIterator[SqliteStore]:
    opened = open_file()
    yield opened
    await opened.close()
