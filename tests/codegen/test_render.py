"""What is decided before the templates lay it out."""

from pathlib import Path

import pytest

from codegen.describe import Description
from codegen.described import Described, PyType, Table, Value
from codegen.errors import CodegenError
from codegen.render import render_queries
from codegen.sqlfile import parse

ID = Value(name="order_id", type=PyType.UUID, nullable=False)
PX = Value(name="px", type=PyType.DECIMAL, nullable=True)


def described(name: str, *columns: Value) -> Described:
    (query,) = parse(f"-- name: {name} :many\n-- Doc.\nSELECT 1", Path("q.sql"))
    return Described(query=query, parameters=(), columns=columns)


def rows_of(*queries: Described) -> str:
    tables = (Table(name="order", columns=(ID, PX)),)
    return render_queries(Description(queries=queries, tables=tables))["rows.py"]


def test_a_whole_row_is_named_after_its_table_and_shared() -> None:
    rows = rows_of(described("list_a", ID, PX), described("list_b", ID, PX))
    assert rows.count("@dataclass(") == 1
    assert "class OrderRow:" in rows


def test_another_shape_is_named_after_its_query() -> None:
    rows = rows_of(described("list_a", ID, PX), described("list_b", PX, ID))
    assert "class OrderRow:" in rows
    assert "class ListBRow:" in rows


def test_two_shapes_never_share_a_name() -> None:
    with pytest.raises(CodegenError, match="OrderRow"):
        rows_of(described("list_a", ID, PX), described("order", ID))
