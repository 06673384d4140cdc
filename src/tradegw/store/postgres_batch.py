"""What a group of entries writes, as one statement: rows are collected by table, and sent as JSON.

A statement for each row costs the server and us several times what the row does.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString, cast

from tradegw._generated.queries import PostgresQueries
from tradegw.store.postgres_connections import Connection, Cursor, FreshCursors

__all__ = ["Batch"]

_Row = dict[str, Any]


@dataclass(slots=True)
class _Table:
    """Rows for one part of the statement, each under its key: of two, the later stands."""

    part: str
    rows: dict[Any, _Row] = field(default_factory=dict[Any, _Row])


# `{columns}` and `{values}` are the row's, `{changes}` those of it that are not its key. The names are those
# of the generated queries' parameters, which are the columns'.
_PARTS = {
    "command": """
INSERT INTO command ({columns})
SELECT {values} FROM json_populate_recordset(NULL::command, {rows}::json) AS v
ON CONFLICT (scope, idempotency_key) DO NOTHING RETURNING 1""",
    "new_order": """
INSERT INTO orders ({columns})
SELECT {values} FROM json_populate_recordset(NULL::orders, {rows}::json) AS v
ON CONFLICT (account_id, client_order_id) DO NOTHING RETURNING 1""",
    "old_order": """
UPDATE orders AS o SET {changes}
FROM json_populate_recordset(NULL::orders, {rows}::json) AS v
WHERE o.order_id = v.order_id AND o.account_id = v.account_id RETURNING 1""",
    "ref": """
INSERT INTO venue_order_ref ({columns})
SELECT {values} FROM json_populate_recordset(NULL::venue_order_ref, {rows}::json) AS v
ON CONFLICT (order_id, generation) DO UPDATE SET
    venue_order_id = excluded.venue_order_id,
    order_qty = excluded.order_qty,
    valid_until_ns = excluded.valid_until_ns,
    valid_until_height = excluded.valid_until_height,
    command_valid_until_ns = excluded.command_valid_until_ns,
    command_valid_until_height = excluded.command_valid_until_height,
    digest = excluded.digest
RETURNING 1""",
    "event": """
INSERT INTO order_event ({columns})
SELECT {values} FROM json_populate_recordset(NULL::order_event, {rows}::json) AS v RETURNING 1""",
    "fill": """
INSERT INTO fill ({columns})
SELECT {values} FROM json_populate_recordset(NULL::fill, {rows}::json) AS v
WHERE NOT EXISTS (
    SELECT 1 FROM archived_fill AS a
    WHERE a.account_id = v.account_id AND a.order_id = v.order_id AND a.trade_id = v.trade_id
)
ON CONFLICT (account_id, order_id, trade_id) DO NOTHING RETURNING 1""",
}


class Batch(PostgresQueries):
    """The queries of a transaction that is sent as a pipeline.

    What an entry writes is kept until `send`, and taken to concern one row. Everything else is sent at once;
    where its row count is taken to be one, `guessed` has whose it was.
    """

    __slots__ = ("_connection", "_tables", "guessed")

    def __init__(self, connection: Connection) -> None:
        self.guessed: list[Cursor] = []
        super().__init__(cast("Cursor", _Guessing(connection, self.guessed)))
        self._connection = connection
        self._tables = {part: _Table(part) for part in _PARTS}

    async def send(self) -> None:
        """Send what was kept. The statement fails as data do unless each row of it was written."""
        tables = [table for table in self._tables.values() if table.rows]
        if not tables:
            return
        # psycopg wants literals: ours is made of names in this program.
        text: Any = _statement(
            tuple((table.part, tuple(next(iter(table.rows.values())))) for table in tables)
        )
        parameters: list[Any] = []
        for table in tables:
            rows = list(table.rows.values())
            parameters += json.dumps(rows, default=_text), len(rows)
        await self._connection.execute(text, parameters)

    def _keep(self, part: str, key: Any, row: _Row) -> int:
        self._tables[part].rows[key] = row
        return 1

    async def insert_command(self, **row: Any) -> int:
        """Keep it. A second use of the key in one group is another row, that is not written."""
        return self._keep("command", len(self._tables["command"].rows), row)

    async def insert_order(self, **row: Any) -> int:
        """Keep it. Its twin would be another row, that is not written."""
        return self._keep("new_order", len(self._tables["new_order"].rows), row)

    async def update_order(self, **row: Any) -> int:
        """Keep it: each has everything that the one before had."""
        return self._keep("old_order", (row["account_id"], row["order_id"]), row)

    async def put_venue_order_ref(self, **row: Any) -> None:
        """Keep it: each has everything that the one before had."""
        self._keep("ref", (row["order_id"], row["generation"]), row)

    async def insert_order_event(self, **row: Any) -> None:
        """Keep it."""
        self._keep("event", len(self._tables["event"].rows), row)

    async def insert_fill(self, **row: Any) -> int:
        """Keep it. A replay in one group is another row, that is not written."""
        return self._keep("fill", len(self._tables["fill"].rows), row)


def _text(value: object) -> str:
    """Write what JSON has no form for as Postgres reads it: a decimal, a UUID, bytes."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


@functools.lru_cache(maxsize=64)  # As many as there are kinds of groups: a few.
def _statement(parts: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    """Return the text for parts, each with the columns of its rows. Prepared once for each connection."""
    written: list[str] = []
    are_all: list[str] = []
    for i, (part, columns) in enumerate(parts):
        keys = {"order_id", "account_id"}
        text = _PARTS[part].format(
            columns=", ".join(columns),
            values=", ".join(f"v.{column}" for column in columns),
            changes=", ".join(f"{column} = v.{column}" for column in columns if column not in keys),
            rows=f"${2 * i + 1}",
        )
        written.append(f"{part} AS ({text}\n)")
        are_all.append(f"(SELECT count(*) FROM {part}) = ${2 * i + 2}")  # noqa: S608  Names of our own.
    # The root of -1 is an error, and COMMIT behind it in the pipeline is not carried out.
    return f"WITH {', '.join(written)}\nSELECT sqrt(({' AND '.join(are_all)})::int - 1)"


class _Guessing(FreshCursors):
    """Takes each row count to be one, and remembers whose."""

    def __init__(self, connection: Connection, guessed: list[Cursor]) -> None:
        super().__init__(connection)
        self._guessed = guessed

    async def execute(self, query: LiteralString, params: Sequence[Any] | None = None) -> Cursor:
        """Send a statement."""
        return cast("Cursor", _Guess(await super().execute(query, params), self._guessed))


class _Guess:
    def __init__(self, cursor: Cursor, guessed: list[Cursor]) -> None:
        self._cursor = cursor
        self._guessed = guessed
        self.fetchone = cursor.fetchone
        self.fetchall = cursor.fetchall

    @property
    def rowcount(self) -> int:
        self._guessed.append(self._cursor)
        return 1
