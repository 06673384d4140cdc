"""Describes all queries by asking both databases."""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codegen.described import Described, PyType, Table
from codegen.pgdescribe import PostgresOracle
from codegen.sqlfile import Query, Result
from codegen.sqlitecheck import SqliteCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """All that the templates need to know of the databases."""

    queries: tuple[Described, ...]
    tables: tuple[Table, ...]


def describe(queries: Sequence[Query], *, schema: Path, postgres_url: str) -> Description:
    """Describe queries; both engines agree, or it raises.

    Args:
        queries: What `sqlfile.read_queries` gave.
        schema: Directory with `postgres.sql` and `sqlite.sql`.
        postgres_url: An empty database, for this alone.

    Raises:
        CodegenError: A schema is refused.
        SqlError: A query is refused, or the engines disagree; names file, line, query and column.
    """
    oracle = PostgresOracle(postgres_url, (schema / "postgres.sql").read_text(encoding="utf-8"))
    try:
        check = SqliteCheck((schema / "sqlite.sql").read_text(encoding="utf-8"))
        try:
            tables = oracle.tables()
            decimals = frozenset(
                c.name for t in tables for c in t.columns if c.type is PyType.DECIMAL
            )
            described: list[Described] = []
            for query in queries:
                parameters, columns = oracle.describe(query)
                one = Described(query=query, parameters=parameters, columns=columns)
                _check_shape(one)
                check.check(one, decimals)
                described.append(one)
        finally:
            check.close()
    finally:
        oracle.close()
    return Description(queries=tuple(described), tables=tables)


def _check_shape(described: Described) -> None:
    query = described.query
    result = f":{query.result.value}"
    if query.result.has_rows and not described.columns:
        raise query.error(f"{result} expects columns, and the statement returns none")
    if not query.result.has_rows and described.columns:
        wanted = f":{Result.ONE.value} or :{Result.MANY.value}"
        raise query.error(f"the statement returns columns; expected {wanted}, found {result}")
    for name, count in Counter(c.name for c in described.columns).items():
        if count > 1:
            raise query.error(f"{count} columns are named {name}; tell them apart with AS")
        if not name.isidentifier() or keyword.iskeyword(name):
            raise query.error(f"column {name!r} cannot be a field; name it with AS")
