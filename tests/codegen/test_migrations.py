"""Migrations add up to the schema, and every way down undoes its way up, or they are refused."""

from pathlib import Path

import pytest

from codegen import postgres
from codegen.errors import CodegenError
from codegen.migrations import (
    Migration,
    read_migrations,
    verify_on_postgres,
    verify_on_sqlite,
)


def step(number: int, up: str, down: str) -> Migration:
    name = f"{number:04}_step"
    return Migration(
        number=number,
        name="step",
        oldest_release="0.1.0",
        up=up,
        down=down,
        up_path=Path(f"{name}.up.sql"),
        down_path=Path(f"{name}.down.sql"),
    )


SCHEMA = "CREATE TABLE t (a integer NOT NULL, b text);"
ONE = step(1, "CREATE TABLE t (a integer NOT NULL);", "DROP TABLE t;")
TWO = step(2, "ALTER TABLE t ADD COLUMN b text;", "ALTER TABLE t DROP COLUMN b;")

CASES = [
    pytest.param([ONE, TWO], SCHEMA, None, id="they add up"),
    pytest.param([], "", None, id="nothing adds up to nothing"),
    pytest.param([ONE], SCHEMA, "do not add up", id="a column is missing"),
    pytest.param([ONE, TWO], SCHEMA.replace(" NOT NULL", ""), "do not add up", id="NOT NULL"),
    pytest.param(
        [ONE, TWO], SCHEMA.replace("b text", "b text CHECK (b <> '')"), "do not add up", id="CHECK"
    ),
    pytest.param([ONE, TWO], SCHEMA + "CREATE INDEX i ON t (a);", "do not add up", id="an index"),
    pytest.param(
        [ONE, TWO], "CREATE TABLE t (b text, a integer NOT NULL);", "do not add up", id="the order"
    ),
    pytest.param(
        [ONE, step(2, TWO.up, "SELECT 1;")],
        SCHEMA,
        r"0002_step\.down\.sql does not undo",
        id="down",
    ),
    pytest.param(
        [step(1, ONE.up, "SELECT 1;"), TWO],
        SCHEMA,
        r"0001_step\.down\.sql does not undo",
        id="last",
    ),
    pytest.param([step(1, "CREATE TABEL t;", "")], "", r"0001_step\.up\.sql: ", id="up is refused"),
    pytest.param([step(1, ONE.up, "DROP t;")], ONE.up, r"down\.sql: ", id="down is refused"),
]


@pytest.mark.parametrize(("migrations", "schema", "problem"), CASES)
def test_on_sqlite(migrations: list[Migration], schema: str, problem: str | None) -> None:
    if problem is None:
        verify_on_sqlite(migrations, schema)
        return
    with pytest.raises(CodegenError, match=problem):
        verify_on_sqlite(migrations, schema)


@pytest.mark.parametrize(("migrations", "schema", "problem"), CASES)
def test_on_postgres(
    migrations: list[Migration], schema: str, problem: str | None, server_url: str
) -> None:
    with postgres.database(server_url) as whole, postgres.database(server_url) as stepwise:
        urls = {"whole_url": whole, "stepwise_url": stepwise}
        if problem is None:
            verify_on_postgres(migrations, schema, **urls)
            return
        with pytest.raises(CodegenError, match=problem):
            verify_on_postgres(migrations, schema, **urls)


def test_sqlite_tables_differ_by_their_options() -> None:
    with pytest.raises(CodegenError, match="strict"):
        verify_on_sqlite([ONE, TWO], SCHEMA.replace(";", " STRICT;"))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param(
            "function",
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;",
            id="function",
        ),
        pytest.param("type", "CREATE DOMAIN d AS text;", id="domain"),
        pytest.param("relation", "CREATE SEQUENCE s;", id="sequence"),
    ],
)
def test_postgres_tells_more_than_tables(kind: str, text: str, server_url: str) -> None:
    with postgres.database(server_url) as whole, postgres.database(server_url) as stepwise:
        with pytest.raises(CodegenError, match=rf"\+ {kind} "):
            verify_on_postgres([], text, whole_url=whole, stepwise_url=stepwise)


UP = "-- oldest-release: 0.1.0\nSELECT 1;\n"


def test_files_are_read_in_order(tmp_path: Path) -> None:
    for name in ("0002_b.up.sql", "0001_a.up.sql"):
        (tmp_path / name).write_text(UP.replace("0.1.0", f"0.{name[3]}.0"))
        (tmp_path / name.replace("up", "down")).write_text("SELECT 2;\n")
    first, second = read_migrations(tmp_path, relative_to=tmp_path)
    assert (first.number, first.name, first.oldest_release) == (1, "a", "0.1.0")
    assert (second.number, second.name, second.oldest_release) == (2, "b", "0.2.0")
    assert second.down == "SELECT 2;\n"


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        pytest.param({"1_a.up.sql": UP}, "expected NNNN_what", id="another name"),
        pytest.param({"0001_a.up.sql": UP}, r"0001_a\.down\.sql is missing", id="no way down"),
        pytest.param({"0001_a.down.sql": ""}, r"0001_a\.up\.sql is missing", id="no way up"),
        pytest.param(
            {"0002_a.up.sql": UP, "0002_a.down.sql": ""}, "expected number 0001", id="a gap"
        ),
        pytest.param(
            {f"0001_{n}.{w}.sql": UP for n in "ab" for w in ("up", "down")},
            "expected number 0002, found 0001_b",
            id="a number twice",
        ),
        pytest.param(
            {"0001_a.up.sql": "SELECT 1;", "0001_a.down.sql": ""},
            r"0001_a\.up\.sql:1: expected '-- oldest-release",
            id="no release",
        ),
    ],
)
def test_files_that_are_refused(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CodegenError, match=problem):
        read_migrations(tmp_path, relative_to=tmp_path)
