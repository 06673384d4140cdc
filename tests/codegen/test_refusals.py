"""Queries that generation refuses, with the words that it finds for it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from codegen import postgres
from codegen.describe import describe
from codegen.described import Described
from codegen.errors import CodegenError, SqlError
from codegen.sqlfile import parse

POSTGRES = """
CREATE TABLE thing (
    thing_id uuid PRIMARY KEY, px numeric NOT NULL, qty numeric, n bigint NOT NULL, flag boolean,
    name text NOT NULL, at timestamptz_ns
);
"""
SQLITE = """
CREATE TABLE thing (
    thing_id TEXT NOT NULL PRIMARY KEY, px TEXT NOT NULL, qty TEXT, n INTEGER NOT NULL,
    flag INTEGER, name TEXT NOT NULL, at INTEGER
) STRICT;
"""
DOMAIN = "CREATE DOMAIN timestamptz_ns AS bigint;"


@dataclass
class Generation:
    """Runs one query through both databases."""

    server_url: str
    schema: Path

    def __call__(
        self, query: str, *, result: str = "many", pg: str = DOMAIN + POSTGRES, lite: str = SQLITE
    ) -> Described:
        (self.schema / "postgres.sql").write_text(pg)
        (self.schema / "sqlite.sql").write_text(lite)
        queries = parse(f"-- name: q :{result}\n-- Doc.\n{query}", Path("q.sql"))
        with postgres.database(self.server_url) as url:
            return describe(queries, schema=self.schema, postgres_url=url).queries[0]


@pytest.fixture
def generation(server_url: str, tmp_path: Path) -> Generation:
    return Generation(server_url, tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("SELECT px + px AS s FROM thing", id="addition"),
        pytest.param("SELECT px * :by AS s FROM thing", id="multiplication by a parameter"),
        pytest.param("SELECT -px AS s FROM thing", id="negation"),
        pytest.param("SELECT abs(px) AS s FROM thing", id="abs"),
        pytest.param("SELECT n FROM thing WHERE px < :px", id="less"),
        pytest.param("SELECT n FROM thing WHERE qty >= px", id="two columns"),
        pytest.param("SELECT n FROM thing WHERE px = :px", id="equality"),
        pytest.param("SELECT n FROM thing WHERE px BETWEEN :a AND :b", id="between"),
        pytest.param("SELECT n FROM thing WHERE px IN ('1', '2')", id="in"),
        pytest.param("SELECT n FROM thing WHERE px > 0", id="a number"),
        pytest.param("SELECT n FROM thing ORDER BY px", id="order by"),
        pytest.param("SELECT px AS p FROM thing ORDER BY p", id="order by another name"),
        pytest.param("SELECT px, n FROM thing ORDER BY 1", id="order by position"),
        pytest.param("SELECT sum(px) AS s FROM thing", id="sum"),
        pytest.param("SELECT max(px) AS s FROM thing", id="max"),
        pytest.param("SELECT min(t.px) AS s FROM thing AS t", id="min"),
        pytest.param("SELECT avg(qty) AS s FROM thing", id="avg"),
        pytest.param("SELECT px, count(*) AS c FROM thing GROUP BY px", id="group by"),
        pytest.param("SELECT DISTINCT px FROM thing", id="distinct"),
        pytest.param("SELECT coalesce(qty, 0) AS q FROM thing", id="a number for a decimal"),
        pytest.param("SELECT n FROM (SELECT n, px AS y FROM thing) x WHERE y > '1'", id="renamed"),
    ],
)
def test_decimals_are_not_computed_in_sql(generation: Generation, body: str) -> None:
    with pytest.raises(SqlError, match=r"^q\.sql:3: q: .*decimals are TEXT on SQLite"):
        generation(body)


@pytest.mark.parametrize(
    ("body", "result"),
    [
        pytest.param("UPDATE thing SET px = px + :by", "exec", id="update by addition"),
        pytest.param(
            "INSERT INTO thing (thing_id, px, n, name) VALUES (:thing_id, 0, 1, 'a')",
            "exec",
            id="a number into a decimal",
        ),
    ],
)
def test_decimals_are_not_computed_in_writes(
    generation: Generation, body: str, result: str
) -> None:
    with pytest.raises(SqlError, match="decimals are TEXT on SQLite"):
        generation(body, result=result)


@pytest.mark.parametrize(
    ("body", "result"),
    [
        pytest.param("SELECT px, qty FROM thing ORDER BY n", "many", id="returned"),
        pytest.param("SELECT n FROM thing WHERE qty IS NULL", "many", id="absent"),
        pytest.param("SELECT coalesce(qty, '0') AS q FROM thing", "many", id="text in its place"),
        pytest.param("SELECT max(n) AS m, min(name) AS s FROM thing", "one", id="other columns"),
        pytest.param("UPDATE thing SET px = :px, qty = px", "execrows", id="stored"),
        pytest.param("UPDATE thing SET qty = :px::numeric", "execrows", id="stored with a cast"),
        pytest.param(
            "INSERT INTO thing (thing_id, px, n, name) VALUES (:thing_id, :px, 1, 'a')\n"
            "ON CONFLICT (thing_id) DO UPDATE SET px = excluded.px",
            "exec",
            id="stored again",
        ),
    ],
)
def test_decimals_are_stored_and_returned(generation: Generation, body: str, result: str) -> None:
    assert generation(body, result=result).query.name == "q"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("SELECT t.px * 2 AS n FROM thing AS t", id="arithmetic"),
        pytest.param("SELECT n FROM thing WHERE px < '1'", id="less"),
        pytest.param("SELECT n FROM thing WHERE px = :px", id="equality"),
        pytest.param("SELECT n FROM thing ORDER BY n, px", id="order by"),
        pytest.param("SELECT max(t.px) AS n FROM thing AS t", id="max"),
    ],
)
def test_decimals_are_not_computed_in_a_dialect(generation: Generation, body: str) -> None:
    shared = "SELECT n FROM thing WHERE name <> CAST(:px AS text)"
    with pytest.raises(SqlError, match=r"^q\.sql:5: q: .*px.* in the SQLite text"):
        generation(f"{shared}\n-- dialect: sqlite\n{body}")


def test_a_dialect_may_store_decimals(generation: Generation) -> None:
    body = "UPDATE thing SET px = :px, qty = thing.px WHERE n = :n"
    assert generation(f"{body}\n-- dialect: sqlite\n{body}", result="exec").columns == ()


@pytest.mark.parametrize(
    ("body", "result", "line", "problem"),
    [
        pytest.param("SELECT\n nope FROM thing", "one", 4, 'column "nope" does not', id="column"),
        pytest.param("SELECT :a IS NULL AS b", "one", 3, "say it with :name::type", id="no type"),
        pytest.param("SELECT sum(n) AS s FROM thing", "one", 1, "AS bigint", id="sum of integers"),
        pytest.param("SELECT 1.5 AS s", "one", 1, "a numeric that the database", id="a fraction"),
        pytest.param("UPDATE thing SET n = 1", "one", 1, "returns none", id=":one without columns"),
        pytest.param("SELECT n FROM thing", "exec", 1, "found :exec", id=":exec with columns"),
        pytest.param(
            "SELECT n, n FROM thing", "one", 1, "2 columns are named n", id="a name twice"
        ),
        pytest.param("SELECT n + 1 FROM thing", "one", 1, "name it with AS", id="no name"),
        pytest.param("SELECT n AS class FROM thing", "one", 1, "name it with AS", id="a keyword"),
        pytest.param("SELECT now() AS t", "one", 1, "timestamp with time zone", id="a type"),
        pytest.param("SELECT n FROM thing FOR UPDATE", "one", 3, "SQLite refuses", id="one engine"),
        pytest.param(
            "SELECT CAST(name AS uuid) AS u FROM thing", "one", 3, "a number of anything", id="cast"
        ),
        pytest.param(
            "SELECT n FROM thing\n-- dialect: sqlite\nSELECT n, name FROM thing",
            "one",
            1,
            "Postgres n; SQLite n, name",
            id="other columns",
        ),
        pytest.param(
            "SELECT n, name FROM thing\n-- dialect: sqlite\nSELECT name, n FROM thing",
            "one",
            1,
            "Postgres n, name; SQLite name, n",
            id="another order",
        ),
        pytest.param(
            "SELECT n FROM thing\n-- dialect: sqlite\nSELECT name AS n FROM thing",
            "one",
            1,
            "column n is int on Postgres, so SQLite must declare it INT, INTEGER; it says TEXT",
            id="another type",
        ),
        pytest.param(
            "SELECT px FROM thing\n-- dialect: sqlite\nSELECT qty AS px FROM thing",
            "one",
            1,
            "column px cannot be NULL on Postgres; on SQLite thing.qty can",
            id="another nullability",
        ),
    ],
)
def test_what_else_is_refused(
    generation: Generation, body: str, result: str, line: int, problem: str
) -> None:
    with pytest.raises(SqlError) as caught:
        generation(body, result=result)
    assert str(caught.value).startswith(f"q.sql:{line}: q: ")
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("pg", "lite", "problem"),
    [
        pytest.param("CREATE TABLE t (a jsonb);", "", r"t\.a is jsonb", id="a type"),
        pytest.param("CREATE TABL t (a text);", "", "Postgres refuses", id="Postgres refuses"),
        pytest.param("", "CREATE TABLE t (a NOPE) STRICT;", "SQLite refuses", id="SQLite refuses"),
        pytest.param(
            "CREATE TABLE t (a numeric UNIQUE);", "", "an index of t orders", id="an index"
        ),
    ],
)
def test_schemas_that_are_refused(generation: Generation, pg: str, lite: str, problem: str) -> None:
    with pytest.raises(CodegenError, match=problem):
        generation("SELECT 1 AS one", pg=pg, lite=lite)


def test_a_domain_is_its_type(generation: Generation) -> None:
    (column,) = generation("SELECT at FROM thing").columns
    assert column.annotation == "int | None"
