"""Whatever is altered behind the gateway's back is found, and named."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.store.conftest import AnyStore, Desk, a_trade, an_order, tamper
from tradegw.ports import Problem, ProblemKind
from tradegw.store import SqliteStore

_ORDER = str(an_order("c1").order_id)
_SECOND = str(an_order("c2").order_id)


async def _trade_a_little(store: AnyStore) -> Desk:
    """Events 1 to 6: two intents, one order acknowledged and filled in two parts, then the other filled."""
    desk = await Desk.open(store)
    first = await desk.place("c1")
    second = await desk.place("c2", at=1)
    first = await desk.report(first, a_trade(first, "t1", "0.004"))
    first = await desk.report(first, a_trade(first, "t2", "0.006"))
    await desk.report(second, a_trade(second, "t1"))
    return desk


async def _problems(store: AnyStore) -> list[Problem]:
    return [problem async for problem in store.verify()]


async def test_what_the_gateway_wrote_is_sound(store: AnyStore) -> None:
    desk = await _trade_a_little(store)
    assert await _problems(store) == []
    assert (await store.get_head(desk.account)).seq == 5


async def test_an_empty_store_is_sound(store: AnyStore) -> None:
    assert await _problems(store) == []


async def test_more_events_than_one_chunk(store: AnyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from tradegw.store import verify

    monkeypatch.setattr(verify, "_CHUNK", 2)
    await _trade_a_little(store)
    await _trade_a_little_elsewhere(store)
    assert await _problems(store) == []


async def _trade_a_little_elsewhere(store: AnyStore) -> None:
    other = await Desk.open(store, "second")
    for i in range(5):
        order = await other.place(f"c{i}")
        await other.report(order, a_trade(order, "t1"))


K = ProblemKind
_FORGED_PAYLOAD = (
    "UPDATE order_event SET"
    " payload = CAST(replace(CAST(payload AS TEXT), '65000', '65001') AS BLOB) WHERE seq = 1"
)
_FORGED_FILL = (
    "INSERT INTO fill SELECT account_id, order_id, 'forged', 1, venue, symbol, side, last_qty,"
    " last_px, client_order_id, venue_order_id, fee, fee_asset, liquidity, inferred, corrects,"
    " transact_time_ns, received_time_ns FROM fill WHERE seq = 3"
)


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        pytest.param(
            [_FORGED_PAYLOAD],
            [(K.HASH, 1)],
            id="a digit of a payload that is history",
        ),
        pytest.param(
            ["UPDATE order_event SET payload = CAST('{}' AS BLOB) WHERE seq = 2"],
            [(K.HASH, 2), (K.PAYLOAD, 2)],
            id="a payload that is none",
        ),
        pytest.param(
            ["UPDATE order_event SET event_type = 'EXPIRED' WHERE seq = 3"],
            [(K.PAYLOAD, 3)],
            id="a column of an event",
        ),
        pytest.param(
            ["UPDATE order_event SET hash = zeroblob(32) WHERE seq = 2"],
            [(K.HASH, 2), (K.HASH, 3)],
            id="a hash",
        ),
        pytest.param(
            ["DELETE FROM fill WHERE seq = 3", "DELETE FROM order_event WHERE seq = 3"],
            [(K.GAP, 4)],
            id="an event from the middle, with its fill",
        ),
        pytest.param(
            ["DELETE FROM fill WHERE seq = 5", "DELETE FROM order_event WHERE seq = 5"],
            [(K.ORDER_DIFFERS, 5)],
            id="the last event, with its fill",
        ),
        pytest.param(
            ["DELETE FROM order_event WHERE seq = 5"],
            [(K.UNEXPECTED_ROW, 5), (K.ORDER_DIFFERS, 5)],
            id="the last event",
        ),
        pytest.param(
            [f"UPDATE orders SET ord_status = 'CANCELED' WHERE order_id = '{_SECOND}'"],
            [(K.ORDER_DIFFERS, 5)],
            id="a status",
        ),
        pytest.param(
            [f"UPDATE orders SET price = '65000.01' WHERE order_id = '{_ORDER}'"],
            [(K.ORDER_DIFFERS, 4)],
            id="a price",
        ),
        pytest.param(
            [f"UPDATE orders SET seq = 1 WHERE order_id = '{_ORDER}'"],
            [(K.ORDER_DIFFERS, 1)],
            id="the number of an order's last event",
        ),
        pytest.param(
            ["UPDATE fill SET last_px = '64999.6' WHERE seq = 3"],
            [(K.FILL_DIFFERS, 3)],
            id="the price of a fill",
        ),
        pytest.param(
            ["DELETE FROM fill WHERE seq = 4"], [(K.FILL_MISSING, 4)], id="a fill taken away"
        ),
        pytest.param(
            [_FORGED_FILL],
            [(K.UNEXPECTED_ROW, 1)],
            id="a forged fill",
        ),
        pytest.param(
            [f"DELETE FROM orders WHERE order_id = '{_SECOND}'"],
            [(K.ORDER_MISSING, 2), (K.ORDER_MISSING, 5)],
            id="an order taken away",
        ),
        pytest.param(
            [f"UPDATE order_event SET order_id = NULL WHERE order_id = '{_ORDER}'"],
            [(K.PAYLOAD, 1), (K.PAYLOAD, 3), (K.PAYLOAD, 4), (K.UNEXPECTED_ROW, 4)],
            id="an order without events",
        ),
    ],
)
async def test_an_alteration_is_found(
    open_file: Callable[..., SqliteStore],
    path: Path,
    statements: list[str],
    expected: list[tuple[ProblemKind, int]],
) -> None:
    store = open_file()
    await _trade_a_little(store)
    await store.close()
    tamper(path, *statements)
    reopened = open_file(read_only=True)
    try:
        found = await _problems(reopened)
    finally:
        await reopened.close()
    assert [(problem.kind, problem.seq) for problem in found] == expected
    assert all(problem.account == "paper" and problem.detail for problem in found)


async def test_a_gateway_may_write_while_its_record_is_verified(
    file_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tradegw.store import verify

    monkeypatch.setattr(verify, "_CHUNK", 1)
    desk = await _trade_a_little(file_store)
    placed = 0

    async def read(work: Any) -> Any:
        """Store something more between any two chunks."""
        nonlocal placed
        if placed < 6:
            placed += 1
            order = await desk.place(f"more{placed}", at=placed)
            await desk.report(order, a_trade(order, "t1"))
        return await file_store._read(work)

    assert [problem async for problem in verify.verify(read)] == []
    assert placed == 6


@pytest.mark.parametrize("table", ["order_event", "fill"])
@pytest.mark.parametrize("change", ["UPDATE {} SET seq = seq", "DELETE FROM {}"])
async def test_the_ledger_refuses_changes(
    open_file: Callable[..., SqliteStore], path: Path, table: str, change: str
) -> None:
    store = open_file()
    await _trade_a_little(store)
    await store.close()
    connection = sqlite3.connect(path)
    try:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(change.format(table))
    finally:
        connection.close()
