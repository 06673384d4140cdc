"""Asks Postgres what a statement takes and gives.

The types come from the extended protocol's Describe. Whether a column may be NULL comes from the
table that it is read from, and from the plan, which shows the columns that an outer join fills up.

Decimals get a second look. They are TEXT on SQLite, where `<`, `+` and `max` would give wrong
answers without a word, so each statement is also described against a copy of the tables in which
`numeric` is replaced by a type that has no operators at all. What Postgres refuses there, SQLite
would get wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq, sql

from codegen.described import PyType, Table, Value
from codegen.errors import CodegenError, SqlError
from codegen.sqlfile import Query
from codegen.sqltext import Kind, tokens

_NUMERIC_OID = 1700
_TYPES: Mapping[int, PyType] = {
    16: PyType.BOOL,
    17: PyType.BYTES,
    20: PyType.INT,
    21: PyType.INT,
    23: PyType.INT,
    25: PyType.STR,
    1043: PyType.STR,
    _NUMERIC_OID: PyType.DECIMAL,
    2950: PyType.UUID,
}
_EXPECTED = "uuid, numeric, bigint, integer, boolean, text or bytea"

_OPAQUE = "opaque_decimal"
_OPAQUE_TYPE = f"""
CREATE SCHEMA opaque;
SET search_path = opaque, public;
CREATE TYPE opaque.{_OPAQUE};
CREATE FUNCTION opaque.read_it(cstring) RETURNS opaque.{_OPAQUE}
    LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION opaque.write_it(opaque.{_OPAQUE}) RETURNS cstring
    LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE opaque.{_OPAQUE} (
    INPUT = opaque.read_it, OUTPUT = opaque.write_it, LIKE = pg_catalog.text
);
"""
_WHY_OPAQUE = (
    "decimals are TEXT on SQLite, so SQL may only store and return them: no arithmetic, "
    "comparison, ordering or aggregate, and no number in their place ('0', not 0)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    table: str
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """One column of a result, as the protocol describes it."""

    name: str
    type_oid: int
    origin: _Column | None
    """The table's column that it shows unchanged."""


class PostgresOracle:
    """Describes statements against a database that holds the schema.

    Args:
        url: An empty database, for this alone.
        schema: The text of `sql/schema/postgres.sql`.

    Raises:
        CodegenError: Postgres refuses the schema.
    """

    def __init__(self, url: str, schema: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        try:
            self._connection.execute(schema.encode())
            self._columns = dict(self._read_columns())
            self._base_types = self._read_domains()
            self._make_opaque_copy()
        except psycopg.Error as e:
            self._connection.close()
            raise CodegenError(f"Postgres refuses sql/schema/postgres.sql: {e}") from e
        except CodegenError:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def tables(self) -> tuple[Table, ...]:
        """Return the tables of the schema, in the order of their names."""
        columns: dict[str, list[Value]] = {}
        for column in self._columns.values():
            columns.setdefault(column.table, []).append(column.value)
        return tuple(Table(name=name, columns=tuple(columns[name])) for name in sorted(columns))

    def describe(self, query: Query) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """Return the parameters of a query and the columns of its result.

        Raises:
            SqlError: Postgres refuses the statement, or a type has no place in this project.
        """
        statement = query.postgres
        parameter_oids, fields = self._describe(query, statement.text, "public")
        parameters = tuple(
            Value(
                name=name,
                type=self._type(oid, query, f"parameter :{name}"),
                nullable=name in query.nullable_parameters,
            )
            for name, oid in zip(statement.parameters, parameter_oids, strict=True)
        )
        if not fields:
            self._look_for_arithmetic(query)
            return parameters, ()
        plan = self._plan(query)
        outputs = [str(o) for o in plan.get("Output", ())]
        filled_up = _Nullability(plan)
        columns: list[Value] = []
        for i, field in enumerate(fields):
            output = outputs[i] if i < len(outputs) else ""
            nullable = (
                field.origin.value.nullable or filled_up.may_fill(output)
                if field.origin
                else _may_be_null(_words(output), parameters)
            )
            name = field.name
            if name.endswith(("!", "?")):
                name, nullable = name[:-1], name.endswith("?")
            kind = self._type(field.type_oid, query, f"column {name}")
            columns.append(Value(name=name, type=kind, nullable=nullable))
        self._look_for_arithmetic(query)
        return parameters, tuple(columns)

    def _describe(
        self, query: Query, text: str, search_path: str
    ) -> tuple[tuple[int, ...], tuple[_Field, ...]]:
        self._connection.execute("SELECT set_config('search_path', %s, false)", (search_path,))
        raw = self._connection.pgconn
        self._check(raw.prepare(b"", text.encode()), query, text)
        result = self._check(raw.describe_prepared(b""), query, text)
        parameters = tuple(result.param_type(i) for i in range(result.nparams))
        fields: list[_Field] = []
        for i in range(result.nfields):
            name = result.fname(i)
            assert name is not None
            fields.append(
                _Field(
                    name=name.decode(),
                    type_oid=result.ftype(i),
                    origin=self._columns.get((result.ftable(i), result.ftablecol(i))),
                )
            )
        return parameters, tuple(fields)

    def _check(self, result: pq.abc.PGresult, query: Query, text: str) -> pq.abc.PGresult:
        if result.status in {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}:
            return result
        raise self._refusal(result, query, text)

    def _refusal(self, result: pq.abc.PGresult, query: Query, text: str) -> SqlError:
        message = _field(result, pq.DiagnosticField.MESSAGE_PRIMARY)
        for extra in (pq.DiagnosticField.MESSAGE_DETAIL, pq.DiagnosticField.MESSAGE_HINT):
            if more := _field(result, extra):
                message += f" ({more})"
        position = int(_field(result, pq.DiagnosticField.STATEMENT_POSITION) or 1)
        line = query.postgres.line + text.count("\n", 0, position - 1)
        if "could not determine data type" in message:
            message += "; say it with :name::type, which SQLite never sees"
        return query.error(f"Postgres refuses it: {message}", line=line)

    def _plan(self, query: Query) -> dict[str, Any]:
        self._connection.execute("SET search_path = public")
        text = f"EXPLAIN (GENERIC_PLAN, VERBOSE, FORMAT JSON) {query.postgres.text}"
        # The simple protocol, because EXPLAIN takes no parameters where their values are missing.
        result = self._check(self._connection.pgconn.exec_(text.encode()), query, text)
        value = result.get_value(0, 0)
        assert value is not None
        plan: dict[str, Any] = json.loads(value)[0]["Plan"]
        return plan

    def _type(self, oid: int, query: Query, what: str) -> PyType:
        try:
            return _TYPES[self._base_types.get(oid, oid)]
        except KeyError:
            found = self._connection.execute("SELECT %s::regtype::text", (oid,)).fetchone()
            name = found[0] if found else oid
            raise query.error(f"{what} is {name}; expected {_EXPECTED}") from None

    def _look_for_arithmetic(self, query: Query) -> None:
        text = _without_numeric(query.postgres.text)
        try:
            _, fields = self._describe(query, text, "opaque, public")
        except SqlError as e:
            raise SqlError(e.path, e.line, f"{e.problem}; {_WHY_OPAQUE}") from e
        for field in fields:
            if self._base_types.get(field.type_oid, field.type_oid) == _NUMERIC_OID:
                raise query.error(
                    f"column {field.name} is a numeric that the database computes, which SQLite "
                    "cannot; if it is a whole number, write CAST(... AS bigint)"
                )

    def _make_opaque_copy(self) -> None:
        self._connection.execute(_OPAQUE_TYPE.encode())
        for table in self.tables():
            name = sql.Identifier(table.name)
            self._connection.execute(
                sql.SQL("CREATE TABLE opaque.{} (LIKE public.{} INCLUDING INDEXES)").format(
                    name, name
                )
            )
            for column in table.columns:
                if column.type is not PyType.DECIMAL:
                    continue
                try:
                    self._connection.execute(
                        sql.SQL(
                            "ALTER TABLE opaque.{} ALTER COLUMN {} TYPE opaque.{} USING NULL"
                        ).format(name, sql.Identifier(column.name), sql.Identifier(_OPAQUE))
                    )
                except psycopg.Error as e:
                    raise CodegenError(
                        f"sql/schema/postgres.sql: an index of {table.name} orders or compares "
                        f"{column.name} ({e}); {_WHY_OPAQUE}"
                    ) from e

    def _read_columns(self) -> Iterator[tuple[tuple[int, int], _Column]]:
        rows = self._connection.execute(
            """
            SELECT c.oid, a.attnum, c.relname, a.attname, a.attnotnull, t.oid, t.typbasetype,
                   t.typname
            FROM pg_attribute a
            JOIN pg_class c ON c.oid = a.attrelid
            JOIN pg_type t ON t.oid = a.atttypid
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
              AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY c.relname, a.attnum
            """
        )
        for oid, number, table, name, not_null, type_oid, base, type_name in rows:
            kind = _TYPES.get(base or type_oid)
            if kind is None:
                raise CodegenError(
                    f"sql/schema/postgres.sql: {table}.{name} is {type_name}; expected {_EXPECTED}"
                )
            value = Value(name=name, type=kind, nullable=not not_null)
            yield (oid, number), _Column(table=table, value=value)

    def _read_domains(self) -> dict[int, int]:
        rows = self._connection.execute("SELECT oid, typbasetype FROM pg_type WHERE typtype = 'd'")
        return dict(rows.fetchall())


class _Nullability:
    """Which tables of a plan an outer join may fill up with NULL."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._sound: set[str] = set()
        self._filled: set[str] = set()
        self._walk(plan, filled=False)

    def may_fill(self, output: str) -> bool:
        """Tell whether an output column, `alias.name`, may be NULL for the sake of a join."""
        if not self._filled:
            return False
        alias = _words(output)[0] if output else ""
        return alias in self._filled or alias not in self._sound

    def _walk(self, node: Mapping[str, Any], *, filled: bool) -> None:
        if alias := node.get("Alias"):
            # What a subquery gives may have been filled up inside it.
            derived = node["Node Type"] in {"Subquery Scan", "CTE Scan"}
            (self._filled if filled or derived else self._sound).add(alias)
        join = str(node.get("Join Type", ""))
        for child in node.get("Plans", ()):
            side = child.get("Parent Relationship")
            self._walk(
                child,
                filled=filled
                or join == "Full"
                or (side == "Inner" and join in {"Left", "Anti"})
                # The planner swaps sides where the other order is cheaper.
                or (side == "Outer" and join in {"Right", "Right Anti"}),
            )


def _may_be_null(words: list[str], parameters: tuple[Value, ...]) -> bool:
    """Judge an expression as EXPLAIN writes it: only what is plain to see is not NULL."""
    while _closes_last(words, 0):
        words = words[1:-1]
    match words:
        case ["count", "(", *_] if _closes_last(words, 1):
            return False
        case ["COALESCE", "(", *_] if _closes_last(words, 1):
            return _may_be_null(_last_argument(words[2:-1]), parameters)
        case [*value, cast] if cast.startswith("::"):
            return _may_be_null(value, parameters)
        case [value]:
            pass
        case _:
            return True
    if re.fullmatch(r"\$\d+", value):
        return parameters[int(value[1:]) - 1].nullable
    return not (value[0] == "'" or value[0].isdigit() or value in {"true", "false"})


def _closes_last(words: list[str], start: int) -> bool:
    """Tell whether the bracket that opens at `start` closes at the very end."""
    depth = 0
    for i, word in enumerate(words[start:], start):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if depth == 0:
            return word == ")" and i == len(words) - 1
    return False


def _last_argument(words: list[str]) -> list[str]:
    depth, start = 0, 0
    for i, word in enumerate(words):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if word == "," and depth == 0:
            start = i + 1
    return words[start:]


def _words(expression: str) -> list[str]:
    """Split an expression of EXPLAIN; `$1` is one word, names lose their quotes."""
    pattern = r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\$\d+|::[\w ]+(?:\[\])?|\w+|\S"""
    return [word.strip('"') for word in re.findall(pattern, expression)]


def _without_numeric(text: str) -> str:
    """Replace the type `numeric` in a statement by the type without operators."""
    parts: list[str] = []
    for token in tokens(text):
        if token.kind is Kind.WORD and token.text.lower() in {"numeric", "decimal"}:
            parts.append(_OPAQUE)
        elif token.kind is Kind.CAST:
            parts.append(re.sub(r"(?i)\b(numeric|decimal)\b", _OPAQUE, token.text))
        else:
            parts.append(token.text)
    return "".join(parts)


def _field(result: pq.abc.PGresult, field: pq.DiagnosticField) -> str:
    return (result.error_field(field) or b"").decode()
