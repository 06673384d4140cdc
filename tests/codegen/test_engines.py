"""What is generated, against both real engines: the same calls give equal values."""

import importlib.util
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import pytest
from psycopg.types.numeric import Int8Dumper

SAMPLE = Path(__file__).parent / "golden" / "types"
T = TypeVar("T")

FULL = {
    "thing_id": UUID("00000000-0000-4000-8000-00000000000a"),
    "amount": Decimal("0.10"),
    "name": "a 'name' with % and \\ and ☃",
    "flag": True,
    "at_ns": 1_700_000_000_123_456_789,
    "payload": b"\x00\xff",
    "maybe_id": UUID("ffffffff-ffff-4fff-bfff-ffffffffffff"),
    "maybe_amount": Decimal("-12345678901234567890.123456789012345678"),
    "maybe_name": "",
    "maybe_flag": False,
    "maybe_at_ns": 0,
    "maybe_payload": b"",
}
SPARSE = {
    **{name: None for name in FULL if name.startswith("maybe_")},
    "thing_id": UUID("00000000-0000-4000-8000-00000000000b"),
    "amount": Decimal("1E+3"),
    "name": "it's :nobody",
    "flag": False,
    "at_ns": -(2**63),
    "payload": b"",
}


@pytest.fixture(scope="module")
def generated() -> Iterator[ModuleType]:
    """The sample's generated package, which test_golden proves to be what is generated."""
    name = "codegen_sample_types"
    package = SAMPLE / "expected" / "queries"
    spec = importlib.util.spec_from_file_location(
        name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    for loaded in [m for m in sys.modules if m.startswith(name)]:
        del sys.modules[loaded]


@pytest.fixture
def on_sqlite(generated: ModuleType) -> Iterator[Any]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript((SAMPLE / "sql/schema/sqlite.sql").read_text())
    yield generated.SqliteQueries(connection)
    connection.close()


@pytest.fixture
async def on_postgres(generated: ModuleType, database_url: str) -> AsyncIterator[Any]:
    connection = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
    connection.adapters.register_dumper(int, Int8Dumper)
    async with connection:
        await connection.execute((SAMPLE / "sql/schema/postgres.sql").read_bytes())
        yield generated.PostgresQueries(psycopg.AsyncRawCursor(connection))


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end in one step, as the store's worker thread does."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError(f"{coroutine} suspends")


async def test_both_engines_give_equal_values(on_sqlite: Any, on_postgres: Any) -> None:
    """Every query of the sample, in one story; sets of values are compared at each step."""

    async def both(query: str, **values: Any) -> Any:
        lite = drive(getattr(on_sqlite, query)(**values))
        real = await getattr(on_postgres, query)(**values)
        assert lite == real
        if isinstance(lite, list):
            assert [type_names(a) for a in lite] == [type_names(b) for b in real]
        elif lite is not None and not isinstance(lite, int):
            assert type_names(lite) == type_names(real)
        return lite

    empty = await both("count_things")
    assert (empty.things, empty.last_ns, empty.last_or_zero_ns) == (0, None, 0)
    assert await both("find_thing", thing_id=FULL["thing_id"]) is None

    assert await both("insert_thing", **FULL) == 1
    assert await both("insert_thing", **FULL) == 0, "a replay stores nothing"
    assert await both("insert_thing", **SPARSE) == 1

    for expected in (FULL, SPARSE):
        row = await both("find_thing", thing_id=expected["thing_id"])
        assert {name: getattr(row, name) for name in expected} == expected

    things = await both("list_things", name=None, flag=None, limit_rows=10)
    assert [t.thing_id for t in things] == [FULL["thing_id"], SPARSE["thing_id"]]
    assert [t.flag for t in await both("list_things", name=None, flag=False, limit_rows=9)] == [
        False
    ]
    assert len(await both("list_things", name=FULL["name"], flag=True, limit_rows=9)) == 1
    assert len(await both("list_things", name=None, flag=None, limit_rows=1)) == 1

    assert await both("put_amount", amount=Decimal(7), thing_id=FULL["thing_id"]) is None
    changed = await both("find_thing", thing_id=FULL["thing_id"])
    assert (changed.amount, changed.maybe_amount) == (Decimal(7), Decimal(7))

    quoted = await both("find_quoted", thing_id=FULL["thing_id"])
    assert quoted.text_literal == ':name -- $1 ? \\ """'
    assert await both("find_quoted", thing_id=SPARSE["thing_id"]) is None

    ids = json.dumps([str(FULL["thing_id"]), str(FULL["maybe_id"])])
    assert [t.thing_id for t in await both("list_things_of", ids=ids)] == [FULL["thing_id"]]
    full = await both("count_things")
    assert (full.things, full.last_ns) == (2, FULL["at_ns"])


async def test_sqlite_stores_plain_decimals(on_sqlite: Any) -> None:
    """The text in the file has no exponent, whatever the value came as."""
    drive(on_sqlite.insert_thing(**{**SPARSE, "maybe_amount": Decimal("1E-18")}))
    row = on_sqlite._execute("SELECT amount, maybe_amount FROM thing").fetchone()
    assert row == ("1000", "0.000000000000000001")


def type_names(row: Any) -> list[str]:
    return [type(getattr(row, name)).__name__ for name in row.__dataclass_fields__]
