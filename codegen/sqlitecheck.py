"""Checks on SQLite what Postgres has described.

Two SQLites look at each statement: the new one inside apsw, which tells the declared type and the
origin of each result column, and the one that this Python is linked with, which is older and so
refuses what many users' SQLite would refuse. Neither runs anything.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import pairwise

import apsw
import apsw.ext

from codegen.described import Described, PyType, Value
from codegen.errors import CodegenError
from codegen.sqlfile import Query
from codegen.sqltext import Kind, Token, tokens

_DECLARED = {
    PyType.UUID: {"TEXT"},
    PyType.DECIMAL: {"TEXT"},
    PyType.STR: {"TEXT"},
    PyType.INT: {"INTEGER", "INT"},
    PyType.BOOL: {"INTEGER", "INT"},
    PyType.BYTES: {"BLOB"},
}
_COMPUTES = {"+", "-", "*", "/", "%", "<", ">", "<=", ">=", "=", "<>", "!=", "BETWEEN", "IN"}
_AGGREGATES = {"SUM", "MAX", "MIN", "AVG", "TOTAL", "ABS", "ROUND"}


class SqliteCheck:
    """Prepares statements in databases that hold the schema.

    Args:
        schema: The text of `sql/schema/sqlite.sql`.

    Raises:
        CodegenError: SQLite refuses the schema.
    """

    def __init__(self, schema: str) -> None:
        self._new = apsw.Connection(":memory:")
        self._linked = sqlite3.connect(":memory:", isolation_level=None)
        try:
            self._new.execute(schema)
            self._linked.executescript(schema)
        except (apsw.Error, sqlite3.Error) as e:
            self.close()
            raise CodegenError(f"SQLite refuses sql/schema/sqlite.sql: {e}") from e

    def close(self) -> None:
        """Close the databases."""
        self._new.close()
        self._linked.close()

    def check(self, described: Described, decimals: frozenset[str]) -> None:
        """Refuse a query that SQLite does not understand as Postgres does.

        Args:
            described: What Postgres said.
            decimals: Names of columns that hold decimals in some table.

        Raises:
            SqlError: SQLite refuses the statement, or gives other columns or types.
        """
        query = described.query
        text = query.sqlite.text
        _refuse_numeric_casts(query)
        if not query.shared:
            _refuse_arithmetic(query, decimals)
        try:
            self._linked.execute(f"EXPLAIN {text}", [None] * len(query.sqlite.parameters)).close()
            found = apsw.ext.query_info(self._new, text)
        except (sqlite3.Error, apsw.Error) as e:
            raise query.error(f"SQLite refuses it: {e}", line=query.sqlite.line) from e
        full = found.description_full
        assert full is not None, "apsw is built without SQLITE_ENABLE_COLUMN_METADATA"
        names = [name.removesuffix("!").removesuffix("?") for name, _ in found.description]
        expected = [column.name for column in described.columns]
        if names != expected:
            raise query.error(
                f"the engines give different columns: Postgres {_listed(expected)}; "
                f"SQLite {_listed(names)}"
            )
        for i, column in enumerate(described.columns):
            _, declared, _, table, origin = full[i]
            if declared is not None and declared.upper() not in _DECLARED[column.type]:
                raise query.error(
                    f"column {column.name} is {column.type.value} on Postgres, so SQLite must "
                    f"declare it {_listed(sorted(_DECLARED[column.type]))}; it says {declared}"
                )
            if table is not None and origin is not None:
                self._check_null(query, column, table, origin)

    def _check_null(self, query: Query, column: Value, table: str, origin: str) -> None:
        if column.nullable:
            return
        _, _, not_null, primary, _ = self._new.column_metadata("main", table, origin)
        # A sole INTEGER PRIMARY KEY is the row's number and never NULL; other keys may be.
        if not (not_null or (primary and column.type is PyType.INT)):
            raise query.error(
                f"column {column.name} cannot be NULL on Postgres; on SQLite {table}.{origin} can"
            )


def _refuse_numeric_casts(query: Query) -> None:
    """Refuse casts that SQLite would take for numeric: CAST('ab' AS uuid) is 0 there."""
    words = _meaningful(query.sqlite.text)
    for i, token in enumerate(words):
        if token.text.upper() != "CAST":
            continue
        kind = _cast_type(words[i + 1 :])
        if kind and not any(part in kind for part in ("INT", "CHAR", "TEXT", "BLOB")):
            raise query.error(
                f"on SQLite, CAST(... AS {kind.lower()}) makes a number of anything; for a "
                f"parameter write :name::{kind.lower()}, which SQLite never sees",
                line=query.sqlite.line + token.line,
            )


def _cast_type(words: Sequence[Token]) -> str:
    depth = 0
    for word, after in pairwise(words):
        depth += {"(": 1, ")": -1}.get(word.text, 0)
        if depth == 1 and word.text.upper() == "AS":
            return after.text.upper()
        if depth == 0:
            break
    return ""


def _refuse_arithmetic(query: Query, decimals: frozenset[str]) -> None:
    """Refuse computing with decimals in a text that Postgres never sees.

    Coarser than what Postgres does for shared text: it looks at the neighbours of names.
    """
    words = _meaningful(query.sqlite.text)
    for i, first, after in _uses(words, decimals):
        before = words[first - 1].text if first else ""
        around = {before.upper(), after.upper()}
        # `SET price = excluded.price` stores; everywhere else `=` compares.
        if _clause(words, i) == "SET":
            around.discard("=")
        if found := around & _COMPUTES:
            problem = f"{words[i].text} stands beside {min(found)}"
        elif before == "(" and first > 1 and words[first - 2].text.upper() in _AGGREGATES:
            problem = f"{words[first - 2].text}({words[i].text})"
        elif _clause(words, i) == "ORDER":
            problem = f"{words[i].text} stands in ORDER BY"
        else:
            continue
        raise query.error(
            f"{problem} in the SQLite text: decimals are TEXT there, so SQL may only store and "
            "return them",
            line=query.sqlite.line + words[i].line,
        )


def _uses(words: Sequence[Token], decimals: frozenset[str]) -> Iterator[tuple[int, int, str]]:
    """Yield where a decimal is named: its place, that of its qualifier, the word behind it."""
    for i, token in enumerate(words):
        if token.kind in {Kind.WORD, Kind.QUOTED} and token.text.strip('"') in decimals:
            first = i - 2 if i > 1 and words[i - 1].text == "." else i
            yield i, first, words[i + 1].text if i + 1 < len(words) else ""


def _clause(words: Sequence[Token], i: int) -> str:
    """Return the word that opens the clause around position `i`, at the same depth."""
    depth = 0
    for token in reversed(words[:i]):
        depth += {")": 1, "(": -1}.get(token.text, 0)
        opens = {"SELECT", "SET", "WHERE", "ORDER", "FROM", "VALUES", "RETURNING", "LIMIT", "ON"}
        if depth <= 0 and token.text.upper() in opens:
            return token.text.upper()
    return ""


def _meaningful(text: str) -> list[Token]:
    return [t for t in tokens(text) if t.kind not in {Kind.SPACE, Kind.COMMENT}]


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) or "none"
