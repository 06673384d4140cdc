"""Every query, by the plan that each engine makes for it: none that runs often reads more than it returns.

A new query fails here until it is classified.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from types import ModuleType
from typing import Any, Final

import psycopg
import pytest

from tradegw._generated.migrations import SQLITE
from tradegw._generated.queries import postgres, sqlite
from tradegw.store.connections import open_memory

HOT: Final[dict[str, set[str]]] = {
    "find_checkpoint": {"chain_checkpoint_pkey"},
    "find_command": {"command_pkey"},
    "find_head": {"order_event_pkey"},
    "find_inbox": {"inbox_pkey"},
    "find_last_event_of_order": {"order_event_story"},
    "find_order": {"orders_pkey"},
    "find_order_id_at_venue": {"orders_at_venue"},
    "find_order_id_by_client_order_id": {"orders_account_id_client_order_id_key"},
    "find_order_id_by_venue_client_order_id": {"venue_order_ref_named", "orders_pkey"},
    "find_order_id_by_venue_order_id": {"venue_order_ref_at_venue", "orders_pkey"},
    "find_outbox_cursor": {"outbox_cursor_pkey"},
    "find_unmatched_fill": {"unmatched_fill_account_id_seq_key"},
    "insert_fill": {"archived_fill_pkey"},
    "list_archived_fills_after": {"archived_fill_account_id_seq_key"},
    "list_attached_fills_after": {"fill_account_id_seq_key", "unmatched_fill_account_id_seq_key"},
    "list_balances": {"balance_pkey"},
    "list_event_hashes": {"order_event_pkey"},
    "list_events_of_order": {"order_event_story"},
    "list_fills": {"fill_newest"},
    "list_fills_after": {"fill_account_id_seq_key", "unmatched_fill_account_id_seq_key"},
    "list_fills_counted": {"fill_pkey", "archived_fill_pkey"},
    "list_fills_of_order": {"fill_pkey"},
    "list_instruments": {"instrument_pkey"},
    "list_open_orders": {"orders_standing"},
    "list_order_events": {"order_event_pkey"},
    "list_orders": {"orders_newest"},
    "list_orders_after": {"orders_pkey"},
    "list_positions": {"position_pkey"},
    "list_unattached_fills_after": {
        "unmatched_fill_account_id_seq_key",
        "fill_account_id_seq_key",
        "archived_fill_account_id_seq_key",
    },
    "list_unmatched_fills_after": {"unmatched_fill_account_id_seq_key"},
    "list_venue_order_refs": {"venue_order_ref_pkey"},
    "list_watermarks": {"watermark_pkey"},
    "update_order": {"orders_pkey"},
}
"""With the indexes that Postgres reads for them, each from a place that the question names."""

WRITES: Final = {
    *("insert_command", "insert_inbox", "insert_instrument", "insert_order", "insert_order_event"),
    *("insert_schema_migration", "insert_unmatched_fill", "put_account", "put_balance"),
    *("put_checkpoint", "put_halt", "put_outbox_cursor", "put_position", "put_venue"),
    *("put_venue_order_ref", "put_watermark", "take_client_numbers"),
}
"""One row, found by the key that it must be unique by."""

FEW: Final = {
    *("list_accounts", "list_halts", "list_schema_migrations", "ping", "delete_halt"),
    *("delete_instruments", "delete_schema_migration", "list_outbox_cursors"),
}
"""Tables that do not grow with orders."""

SELDOM: Final = {
    "count_orders": "read for the metrics: all of an index, where there is one entry for each order",
    "list_event_orders_missing": "`verify` reads everything",
    "find_first_event_of_open": "once an archive: the open orders, sorted",
    "find_first_event_since": "once an archive: from the first event on, as far as it goes",
    "keep_fill_keys": "an archive's batch: from the first fill on, and those are deleted",
    "delete_archived_fills": "the same",
    "delete_archived_events": "the same",
}

SORTED: Final = {
    # Few rows, whatever the size of the table: one order's, or the open ones.
    *("find_order_id_at_venue", "find_order_id_by_venue_client_order_id"),
    *("find_order_id_by_venue_order_id", "list_fills_of_order", "list_open_orders"),
    "list_fills_counted",
    "list_unattached_fills_after",  # At a start; by when they came.
}

_ROWS = 2000
_ONE = "00000000-0000-0000-0000-000000000001"


def queries(module: ModuleType) -> dict[str, str]:
    return {
        name[1:].lower(): text
        for name, text in vars(module).items()
        if re.fullmatch("_[A-Z_]+", name) and isinstance(text, str)
    }


@pytest.mark.parametrize("module", [postgres, sqlite], ids=["postgres", "sqlite"])
def test_every_query_is_classified(module: ModuleType) -> None:
    kinds = [*HOT, *WRITES, *FEW, *SELDOM]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == queries(module).keys()


def test_on_sqlite() -> None:
    with closing(open_memory()) as connection:
        for migration in SQLITE:
            connection.executescript(migration.up)
        for name, text in queries(sqlite).items():
            if name not in HOT:
                continue
            steps = [
                step
                for *_, step in connection.execute(
                    f"EXPLAIN QUERY PLAN {text}", [None] * text.count("?")
                )
            ]
            scans = [
                step for step in steps if step.startswith("SCAN") and "VIRTUAL TABLE" not in step
            ]
            assert scans in ([], ["SCAN CONSTANT ROW"]), (name, steps)
            is_sorted = any("TEMP B-TREE" in step for step in steps)
            assert not is_sorted or name in SORTED, (name, steps)
            # Something beside the account, of which one may have nearly all rows.
            for step in steps:
                by_account_alone = step.endswith("(account_id=?)")
                assert not by_account_alone or name in BY_ACCOUNT, (name, steps)


BY_ACCOUNT: Final = {
    *("list_balances", "list_positions", "list_watermarks", "find_checkpoint"),
    "find_head",  # From the end, one row.
}


@pytest.fixture(scope="module")
def filled(server_store: str) -> Iterator[psycopg.Connection[Any]]:
    """A store with some thousand rows in each table, as Postgres sees them: of no meaning."""
    with psycopg.connect(server_store, autocommit=True) as connection:
        fill_every_table(connection)
        connection.execute("SET plan_cache_mode = force_generic_plan")
        # A table of some pages is read whole whatever indexes there are.
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET enable_bitmapscan = off")
        yield connection


@pytest.fixture(scope="module", params=["postgres18", "postgres15"])
def server_store(
    request: pytest.FixtureRequest, postgres_server: Callable[[str], Any]
) -> Iterator[str]:
    with postgres_server(request.param).store() as url:
        yield url


def fill_every_table(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SET session_replication_role = replica")
    for table, name in connection.execute(
        "SELECT conrelid::regclass::text, conname FROM pg_constraint"
        " WHERE contype = 'c' AND connamespace = 'public'::regnamespace AND conrelid <> 0"
    ).fetchall():
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
    for (table,) in connection.execute(
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"
    ).fetchall():
        columns = connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_name = %s AND table_schema = 'public'",
            (table,),
        ).fetchall()
        values = ", ".join(_value(table, *column) for column in columns)
        names = ", ".join(name for name, _ in columns)
        connection.execute(
            f"INSERT INTO {table} ({names}) SELECT {values} FROM generate_series(1, {_ROWS}) AS i"
            " ON CONFLICT DO NOTHING".encode()
        )
        connection.execute(f"ANALYZE {table}".encode())


def _value(table: str, column: str, kind: str) -> str:
    if column == "account_id" and table != "account":
        return f"'{_ONE}'"
    if column == "ord_status":
        return "CASE WHEN i % 1000 = 0 THEN 'NEW' ELSE 'FILLED' END"
    if column == "id_scope":
        return "''"
    return {
        "uuid": "md5(i::text)::uuid",
        "bigint": "i",
        "numeric": "1",
        "boolean": "false",
        "bytea": "''",
    }.get(kind, "'t' || i")


def plan_of(connection: psycopg.Connection[Any], text: str) -> list[dict[str, Any]]:
    """The nodes of a query's plan, made without knowing what it will be asked."""
    count = max((int(n) for n in re.findall(r"\$(\d+)", text)), default=0)
    connection.execute(f"PREPARE asked AS {text}".encode())
    arguments = f"({', '.join(['NULL'] * count)})" if count else ""
    row = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE asked{arguments}".encode()).fetchone()
    connection.execute("DEALLOCATE asked")
    assert row is not None
    plans = json.loads(row[0]) if isinstance(row[0], str) else row[0]
    return list(_nodes(plans[0]["Plan"]))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


def test_on_postgres(filled: psycopg.Connection[Any]) -> None:
    wrong: list[str] = []
    for name, text in queries(postgres).items():
        if name not in HOT:
            continue
        nodes = plan_of(filled, text)
        indexes = {node["Index Name"] for node in nodes if "Index Cond" in node}
        whole = [
            node
            for node in nodes
            if node["Node Type"] == "Seq Scan"
            or ("Index Name" in node and "Index Cond" not in node)
        ]
        is_sorted = any(node["Node Type"] in {"Sort", "Incremental Sort"} for node in nodes)
        if indexes != HOT[name] or whole or (is_sorted and name not in SORTED):
            wrong.append(f"{name}: {sorted(indexes)}, whole {whole}, sorted {is_sorted}")
    assert not wrong, "\n".join(wrong)


def test_a_missing_index_is_seen(filled: psycopg.Connection[Any]) -> None:
    """Without its index a query is wrong here, and not only slow."""
    with filled.transaction(force_rollback=True):
        filled.execute("DROP INDEX venue_order_ref_named")
        nodes = plan_of(filled, queries(postgres)["find_order_id_by_venue_client_order_id"])
        assert "venue_order_ref_named" not in {node.get("Index Name") for node in nodes}
