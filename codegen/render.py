"""Decides what the generated query code says; the templates only lay it out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from codegen.describe import Description
from codegen.described import Described, PyType, Value
from codegen.errors import CodegenError
from codegen.migrations import Migration
from codegen.sqlfile import Result

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A dataclass for the rows of one or several queries."""

    name: str
    doc: str
    fields: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One query as a method of each class."""

    name: str
    constant: str
    doc: str
    parameters: tuple[Value, ...]
    result: str
    row: str
    returns: str
    postgres_sql: str
    postgres_values: str
    sqlite_sql: str
    sqlite_values: str
    sqlite_row: str


def environment() -> jinja2.Environment:
    """Return the templates' environment: a name that Python did not give is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Python, not HTML.
    )


def render_queries(description: Description) -> Mapping[str, str]:
    """Return the files of the package `queries`, by name, not yet formatted.

    Raises:
        CodegenError: Two rows would have one name.
    """
    rows = _rows(description)
    names = {described.query.name: row.name for described, row in rows if row is not None}
    distinct = {row.name: row for _, row in rows if row is not None}
    methods = [_method(d, names.get(d.query.name, "")) for d in description.queries]
    templates = environment()

    def types_of(values: Iterable[Value]) -> list[str]:
        return sorted({v.type.value for v in values if v.type in {PyType.UUID, PyType.DECIMAL}})

    parameters = [p for m in methods for p in m.parameters]
    columns = [c for d in description.queries for c in d.columns]
    context = {
        "rows": list(distinct.values()),
        "row_names": sorted(distinct),
        "methods": methods,
        "row_types": types_of(f for row in distinct.values() for f in row.fields),
        "parameter_types": types_of(parameters),
        "sqlite_types": types_of([*parameters, *columns]),
        # Names that a type checker alone needs are imported for it alone.
        "sqlite_run_time": types_of(columns),
    }
    files = ("__init__.py", "rows.py", "protocol.py", "postgres.py", "sqlite.py")
    return {name: templates.get_template(f"queries/{name}.j2").render(context) for name in files}


def render_migrations(engines: Sequence[tuple[str, Sequence[Migration]]]) -> str:
    """Return the module that carries the migrations of each engine, not yet formatted."""
    template = environment().get_template("migrations.py.j2")
    return template.render(engines=engines, literal=_literal)


def _rows(description: Description) -> list[tuple[Described, Row | None]]:
    """Name the shape of each query's rows: after its table when it is the table's, else its own."""
    tables = {t.columns: t.name for t in description.tables}
    found: list[tuple[Described, Row | None]] = []
    known: dict[str, tuple[Value, ...]] = {}
    for described in description.queries:
        if not described.columns:
            found.append((described, None))
            continue
        if (table := tables.get(described.columns)) is not None:
            name, doc = f"{_camel(table)}Row", f"A row of `{table}`."
        else:
            name, doc = f"{_camel(described.query.name)}Row", f"A row of `{described.query.name}`."
        if known.setdefault(name, described.columns) != described.columns:
            raise CodegenError(f"{described.query.name}: {name} is the row of something else too")
        found.append((described, Row(name=name, doc=doc, fields=described.columns)))
    return found


def _method(described: Described, row: str) -> Method:
    query = described.query
    types = {p.name: p for p in described.parameters}
    match query.result:
        case Result.ONE:
            returns = f"{row} | None"
        case Result.MANY:
            returns = f"list[{row}]"
        case Result.EXEC:
            returns = "None"
        case Result.EXECROWS:
            returns = "int"
    return Method(
        name=query.name,
        constant=f"_{query.name.upper()}",
        doc=_docstring(query.doc),
        parameters=described.parameters,
        result=query.result.value,
        row=row,
        returns=returns,
        postgres_sql=_literal(query.postgres.compact),
        postgres_values=_tuple(query.postgres.parameters),
        sqlite_sql=_literal(query.sqlite.compact),
        sqlite_values=_tuple([_to_sqlite(types[name]) for name in query.sqlite.parameters]),
        sqlite_row=", ".join(_from_sqlite(f"row[{i}]", c) for i, c in enumerate(described.columns)),
    )


def _to_sqlite(value: Value) -> str:
    """Write the expression that turns a parameter into what the sqlite3 module stores."""
    match value.type:
        case PyType.UUID:
            plain = f"str({value.name})"
        case PyType.DECIMAL:
            # Never with an exponent, which another reader of the file might not expect.
            plain = f'format({value.name}, "f")'
        case _:
            return value.name  # bool is an int already.
    return f"None if {value.name} is None else {plain}" if value.nullable else plain


def _from_sqlite(source: str, value: Value) -> str:
    match value.type:
        case PyType.UUID:
            plain = f"UUID({source})"
        case PyType.DECIMAL:
            plain = f"Decimal({source})"
        case PyType.BOOL:
            plain = f"{source} != 0"
        case _:
            return source
    return f"None if {source} is None else {plain}" if value.nullable else plain


def _tuple(items: Sequence[str]) -> str:
    if not items:
        return ""
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


def _docstring(lines: Sequence[str]) -> str:
    text = "\n".join(lines).strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if text.endswith('"'):
        text += " "
    if "\n" not in text:
        return f'"""{text}"""'
    indented = "\n".join(f"        {line}".rstrip() for line in text.splitlines()).lstrip()
    return f'"""{indented}\n        """'


def _literal(sql: str) -> str:
    text = sql.strip("\n").replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    # On lines of its own, so that a quote at the end does not run into the closing ones.
    return f'"""\n{text}\n"""'


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in re.split("_+", name))
