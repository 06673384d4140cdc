"""What a query file may say, and what is refused."""

from pathlib import Path

import pytest

from codegen.errors import SqlError
from codegen.sqlfile import Query, Result, parse, read_queries

PATH = Path("sql/queries/sample.sql")


def one(source: str) -> Query:
    (query,) = parse(source, PATH)
    return query


def test_a_block_is_read() -> None:
    first, second = parse(
        """\
-- About this file.

-- name: insert_fill :one
-- Store one fill, once.
--
-- No row means a replay.
INSERT INTO fill (a, b) VALUES (:a, :b?)
-- A remark inside.
ON CONFLICT DO NOTHING RETURNING a;

-- name: count_fills :many
-- How many.
SELECT count(*) AS fills FROM fill
""",
        PATH,
    )
    assert (first.name, first.result, first.line) == ("insert_fill", Result.ONE, 3)
    assert first.doc == ("Store one fill, once.", "", "No row means a replay.")
    assert first.nullable_parameters == {"b"}
    assert first.postgres.parameters == ("a", "b")
    assert first.postgres.compact == (
        "INSERT INTO fill (a, b) VALUES ($1, $2)\nON CONFLICT DO NOTHING RETURNING a"
    )
    assert first.sqlite.compact == (
        "INSERT INTO fill (a, b) VALUES (?, ?)\nON CONFLICT DO NOTHING RETURNING a"
    )
    assert (second.name, second.result, second.line) == ("count_fills", Result.MANY, 11)
    assert second.postgres.parameters == ()


@pytest.mark.parametrize(
    ("body", "postgres", "sqlite"),
    [
        pytest.param("SELECT :a", "SELECT $1", "SELECT ?", id="a placeholder"),
        pytest.param("SELECT :b, :a, :b", "SELECT $1, $2, $1", "SELECT ?, ?, ?", id="twice"),
        pytest.param("SELECT :a::text", "SELECT $1::text", "SELECT ?", id="with a cast"),
        pytest.param("SELECT :a?::text", "SELECT $1::text", "SELECT ?", id="nullable, with a cast"),
        pytest.param(
            "SELECT :a::numeric(38, 18)", "SELECT $1::numeric(38, 18)", "SELECT ?", id="precision"
        ),
        pytest.param("SELECT ':a', :a", "SELECT ':a', $1", "SELECT ':a', ?", id="in a string"),
        pytest.param("SELECT 'it''s :a'", "SELECT 'it''s :a'", "SELECT 'it''s :a'", id="quotes"),
        pytest.param('SELECT 1 AS ":a"', 'SELECT 1 AS ":a"', 'SELECT 1 AS ":a"', id="in a name"),
        pytest.param("SELECT 1 -- :a\n, 2", "SELECT 1\n, 2", "SELECT 1\n, 2", id="in a comment"),
        pytest.param("SELECT /* :a\n */ 1", "SELECT\n 1", "SELECT\n 1", id="in a long comment"),
        pytest.param(
            "SELECT 'a\n\n -- b'", "SELECT 'a\n\n -- b'", "SELECT 'a\n\n -- b'", id="text"
        ),
    ],
)
def test_placeholders(body: str, postgres: str, sqlite: str) -> None:
    query = one(f"-- name: q :many\n-- Doc.\n{body};")
    assert query.postgres.compact == postgres
    assert query.sqlite.compact == sqlite


def test_sqlite_values_stand_in_the_order_of_their_marks() -> None:
    query = one("-- name: q :many\n-- Doc.\nSELECT :b, :a, :b")
    assert query.postgres.parameters == ("b", "a")
    assert query.sqlite.parameters == ("b", "a", "b")


def test_a_dialect_has_its_own_text() -> None:
    query = one(
        "-- name: q :many\n-- Doc.\nSELECT a::text FROM t WHERE b = :b AND c = :c?;\n"
        "-- dialect: sqlite\nSELECT a FROM t WHERE c = :c? AND b = :b;"
    )
    assert not query.shared
    assert query.postgres.compact == "SELECT a::text FROM t WHERE b = $1 AND c = $2"
    assert query.sqlite.compact == "SELECT a FROM t WHERE c = ? AND b = ?"
    assert query.sqlite.parameters == ("c", "b")
    assert query.nullable_parameters == {"c"}
    assert query.sqlite.line == 5


HEAD = "-- name: q :many\n-- Doc.\n"


@pytest.mark.parametrize(
    ("source", "line", "problem"),
    [
        pytest.param("SELECT 1;\n" + HEAD + "SELECT 1", 1, "before SQL", id="SQL without a name"),
        pytest.param("-- name: q\n-- Doc.\nSELECT 1", 1, "expected '-- name:", id="no result"),
        pytest.param("-- name q :one\n-- Doc.\nSELECT 1", 1, "expected '-- name:", id="no colon"),
        pytest.param("-- name: q :all\n-- Doc.\nSELECT 1", 1, "found :all", id="unknown result"),
        pytest.param("-- name: getX :one\n-- D.\nSELECT 1", 1, "snake_case", id="camel case"),
        pytest.param("-- name: class :one\n-- D.\nSELECT 1", 1, "snake_case", id="keyword"),
        pytest.param("-- name: q :one\nSELECT 1", 1, "docstring", id="no comment"),
        pytest.param("\n" + HEAD, 4, "found nothing", id="no SQL"),
        pytest.param(HEAD + "SELECT 1; SELECT 2;", 3, "one statement", id="two statements"),
        pytest.param(HEAD + "SELECT\n'open", 4, "never closed", id="an open string"),
        pytest.param(HEAD + "SELECT\n  $1", 4, "found $1", id="Postgres' own placeholder"),
        pytest.param(HEAD + "SELECT ?", 3, "found ?", id="SQLite's own placeholder"),
        pytest.param(HEAD + "SELECT\n\n@a", 5, "written :name", id="another placeholder"),
        pytest.param(HEAD + "SELECT :self", 3, "name of a parameter", id="self"),
        pytest.param(HEAD + "SELECT :from", 3, "name of a parameter", id="a keyword's name"),
        pytest.param(HEAD + "SELECT :orderId", 3, "name of a parameter", id="camel case name"),
        pytest.param(HEAD + "SELECT\na::text FROM t", 4, "CAST", id="a cast in shared text"),
        pytest.param(
            HEAD + "SELECT 1\n-- dialect: mysql\nSELECT 1", 4, "dialect: sqlite", id="other dialect"
        ),
        pytest.param(
            HEAD + "SELECT 1\n-- dialect: sqlite\nSELECT 1\n-- dialect: sqlite\nSELECT 1",
            6,
            "expected one",
            id="the dialect twice",
        ),
        pytest.param(
            HEAD + "SELECT 1\n-- dialect: sqlite\nSELECT :a", 5, ":a stands", id="untyped parameter"
        ),
        pytest.param(HEAD + "SELECT 1\n-- dialect: sqlite\n", 5, "nothing", id="empty dialect"),
    ],
)
def test_what_is_refused(source: str, line: int, problem: str) -> None:
    with pytest.raises(SqlError) as caught:
        parse(source, PATH)
    assert str(caught.value).startswith(f"{PATH}:{line}: ")
    assert problem in caught.value.problem


def test_a_name_is_used_once(tmp_path: Path) -> None:
    for name in ("a.sql", "b.sql"):
        (tmp_path / name).write_text(HEAD + "SELECT 1")
    with pytest.raises(SqlError, match=r"b\.sql:1: q: the name is taken by a\.sql:1"):
        read_queries(tmp_path, relative_to=tmp_path)
