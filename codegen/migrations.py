"""Reads `sql/migrations/<engine>/NNNN_what.{up,down}.sql`, and proves that they are right.

Right means: all the way up from nothing gives `sql/schema/<engine>.sql`, and every way down gives
back exactly what stood before its way up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
import psycopg

from codegen.errors import CodegenError, SqlError
from codegen.sqltext import normalised

ENGINES = ("sqlite", "postgres")

_FILE = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z][a-z0-9_]*)\.(?P<way>up|down)\.sql")
_OLDEST = re.compile(r"-- oldest-release: (?P<release>\d+\.\d+\.\d+)\s*")

_DIFFERENCES_SHOWN = 30

_Catalog = frozenset[tuple[object, ...]]
"""What a database holds, as facts that can be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of a schema, both ways."""

    number: int
    name: str
    oldest_release: str
    """The oldest release that may run on a schema with this step taken."""
    up: str
    down: str
    up_path: Path
    down_path: Path


def read_migrations(directory: Path, *, relative_to: Path) -> tuple[Migration, ...]:
    """Read one engine's migrations, in the order of their numbers.

    Raises:
        CodegenError: A file has another name, a way is missing, or a number is.
        SqlError: An up file does not begin with its oldest release.
    """
    ways: dict[tuple[int, str], dict[str, Path]] = {}
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.name.startswith("."):
            continue
        match = _FILE.fullmatch(path.name)
        shown = path.relative_to(relative_to)
        if match is None:
            raise CodegenError(f"{shown}: expected NNNN_what.up.sql or NNNN_what.down.sql")
        ways.setdefault((int(match["number"]), match["name"]), {})[match["way"]] = path
    found: list[Migration] = []
    for expected, ((number, name), paths) in enumerate(sorted(ways.items()), 1):
        shown = directory.relative_to(relative_to)
        if number != expected:
            raise CodegenError(f"{shown}: expected number {expected:04}, found {number:04}_{name}")
        if missing := {"up", "down"} - paths.keys():
            raise CodegenError(f"{shown}: {number:04}_{name}.{min(missing)}.sql is missing")
        up = paths["up"].read_text(encoding="utf-8")
        up_path = paths["up"].relative_to(relative_to)
        first = up.partition("\n")[0]
        match = _OLDEST.fullmatch(first)
        if match is None:
            raise SqlError(up_path, 1, f"expected '-- oldest-release: N.N.N', found {first!r}")
        found.append(
            Migration(
                number=number,
                name=name,
                oldest_release=match["release"],
                up=up,
                down=paths["down"].read_text(encoding="utf-8"),
                up_path=up_path,
                down_path=paths["down"].relative_to(relative_to),
            )
        )
    return tuple(found)


def verify_on_sqlite(migrations: Sequence[Migration], schema: str) -> None:
    """Prove one engine's migrations, in memory.

    Raises:
        CodegenError: They do not add up to the schema, or a way down leaves something else behind.
    """
    whole = apsw.Connection(":memory:")
    stepwise = apsw.Connection(":memory:")
    try:
        whole.execute(schema)
        _verify(
            "sqlite",
            migrations,
            run=stepwise.execute,
            catalog=lambda: _sqlite_catalog(stepwise),
            schema=_sqlite_catalog(whole),
        )
    except apsw.Error as e:
        raise CodegenError(f"sql/schema/sqlite.sql: {e}") from e
    finally:
        whole.close()
        stepwise.close()


def verify_on_postgres(
    migrations: Sequence[Migration], schema: str, *, whole_url: str, stepwise_url: str
) -> None:
    """Prove one engine's migrations, in two empty databases.

    Raises:
        CodegenError: They do not add up to the schema, or a way down leaves something else behind.
    """
    with (
        psycopg.connect(whole_url, autocommit=True) as whole,
        psycopg.connect(stepwise_url, autocommit=True) as stepwise,
    ):
        try:
            whole.execute(schema.encode())
        except psycopg.Error as e:
            raise CodegenError(f"sql/schema/postgres.sql: {e}") from e
        _verify(
            "postgres",
            migrations,
            run=lambda sql: stepwise.execute(sql.encode()),
            catalog=lambda: _postgres_catalog(stepwise),
            schema=_postgres_catalog(whole),
        )


def _verify(
    engine: str,
    migrations: Sequence[Migration],
    *,
    run: Callable[[str], object],
    catalog: Callable[[], _Catalog],
    schema: _Catalog,
) -> None:
    before = [catalog()]
    for migration in migrations:
        _run(run, migration.up, migration.up_path)
        before.append(catalog())
    if difference := _difference(before.pop(), schema):
        raise CodegenError(
            f"the migrations of {engine} do not add up to sql/schema/{engine}.sql "
            f"(- only by migrating, + only in the schema):\n{difference}"
        )
    for migration in reversed(migrations):
        _run(run, migration.down, migration.down_path)
        if difference := _difference(catalog(), before.pop()):
            raise CodegenError(
                f"{migration.down_path} does not undo {migration.up_path} "
                f"(- left behind, + lost):\n{difference}"
            )


def _run(run: Callable[[str], object], sql: str, path: Path) -> None:
    try:
        run(sql)
    except (apsw.Error, psycopg.Error) as e:
        raise CodegenError(f"{path}: {e}") from e


def _difference(found: _Catalog, expected: _Catalog) -> str:
    lines = [f"- {' '.join(map(str, item))}" for item in sorted(found - expected, key=str)]
    lines += [f"+ {' '.join(map(str, item))}" for item in sorted(expected - found, key=str)]
    shown = lines[:_DIFFERENCES_SHOWN]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    return "\n".join(shown)


def _sqlite_catalog(connection: apsw.Connection) -> _Catalog:
    found: set[tuple[object, ...]] = set()
    for kind, name, text in connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    ):
        if kind != "table":
            found.add((kind, name, " ".join(normalised(text))))
            continue
        # ALTER TABLE writes its columns behind the constraints, so the definitions are compared
        # one by one, and the order of the columns for itself.
        definitions, options = _definitions(text)
        found.update((kind, name, definition) for definition in definitions)
        found.add((kind, name, "options", *options))
        columns = connection.execute("SELECT name FROM pragma_table_info(?)", (name,))
        found.add((kind, name, "columns", *(column for (column,) in columns)))
    return frozenset(found)


def _definitions(create_table: str) -> tuple[list[str], list[str]]:
    """Split CREATE TABLE at its top commas: the definitions, and what follows the brackets."""
    parts: list[list[str]] = [[]]
    depth = 0
    for word in normalised(create_table):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if (depth, word) in {(0, ")"), (1, "("), (1, ",")}:
            parts.append([])
        else:
            parts[-1].append(word)
    # First comes CREATE TABLE name, last what stands behind the closing bracket.
    return [" ".join(part) for part in parts[1:-1]], parts[-1]


def _postgres_catalog(connection: psycopg.Connection) -> _Catalog:
    rows = connection.execute(
        """
        SELECT 'column', c.relname::text, a.attname::text,
               row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum)::text,
               format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
               coalesce(pg_get_expr(d.adbin, d.adrelid), ''),
               a.attidentity::text || a.attgenerated::text
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
          AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        -- NOT NULL ('n') is told by the column; its constraint's name is nobody's business.
        SELECT 'constraint', coalesce(c.relname, t.typname)::text, k.conname::text,
               pg_get_constraintdef(k.oid), '', '', '', ''
        FROM pg_constraint k
        LEFT JOIN pg_class c ON c.oid = k.conrelid
        LEFT JOIN pg_type t ON t.oid = k.contypid
        WHERE k.connamespace = 'public'::regnamespace AND k.contype <> 'n'
        UNION ALL
        SELECT 'index', tablename::text, indexname::text, indexdef, '', '', '', ''
        FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL
        SELECT 'trigger', c.relname::text, t.tgname::text, pg_get_triggerdef(t.oid), '', '', '', ''
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal
        UNION ALL
        SELECT 'function', p.proname::text, '', pg_get_functiondef(p.oid), '', '', '', ''
        FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
        UNION ALL
        SELECT 'type', t.typname::text, t.typtype::text, format_type(t.typbasetype, t.typtypmod),
               coalesce((SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder)
                         FROM pg_enum e WHERE e.enumtypid = t.oid), ''), '', '', ''
        FROM pg_type t
        WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('d', 'e')
        UNION ALL
        SELECT 'relation', c.relname::text, c.relkind::text, '', '', '', '', ''
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind NOT IN ('i', 'I', 't')
        """
    )
    return frozenset(tuple(row) for row in rows)
