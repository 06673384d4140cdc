"""Queries as both databases describe them: what the templates lay out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from codegen.sqlfile import Query


class PyType(Enum):
    """A Python type that a column or parameter has in the generated code."""

    UUID = "UUID"
    DECIMAL = "Decimal"
    INT = "int"
    BOOL = "bool"
    STR = "str"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A parameter or a result column."""

    name: str
    type: PyType
    nullable: bool

    @property
    def annotation(self) -> str:
        """Return the type as Python writes it."""
        return f"{self.type.value} | None" if self.nullable else self.type.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the schema, with all its columns."""

    name: str
    columns: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A query with its types."""

    query: Query
    parameters: tuple[Value, ...]
    columns: tuple[Value, ...]
