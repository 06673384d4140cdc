"""Reads `sql/queries/<noun>.sql`.

A file is a row of blocks, one for each query:

    -- name: insert_fill :one
    -- Store one fill, once. No row means a replay.
    INSERT INTO fill (account_id, trade_id, note) VALUES (:account_id, :trade_id, :note?)
    ON CONFLICT DO NOTHING RETURNING fill_id;
    -- dialect: sqlite
    ...the same for SQLite, only where the two must differ...

The comment under the name becomes the docstring. `:name` is a parameter, `:name?` one that may be
NULL. `:name::type` tells Postgres a type that it cannot infer; SQLite never sees it. A result
column that is an expression may be NULL, unless it is named `AS "name!"`; a column that cannot be
NULL by its table may be declared so with `AS "name?"`.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from codegen.errors import SqlError
from codegen.sqltext import Kind, Token, UnreadableSql, compact, tokens

_NAME = re.compile(r"--\s*name\b")
_NAME_LINE = re.compile(r"-- name: (?P<name>\S+) :(?P<result>\w+)\s*")
_DIALECT = re.compile(r"--\s*dialect\b")
_DIALECT_LINE = re.compile(r"-- dialect: sqlite\s*")
_SNAKE = re.compile(r"[a-z][a-z0-9_]*")


class Result(Enum):
    """What a query gives back, in sqlc's words."""

    ONE = "one"
    MANY = "many"
    EXEC = "exec"
    EXECROWS = "execrows"

    @property
    def has_rows(self) -> bool:
        """Tell whether rows come back."""
        return self in {Result.ONE, Result.MANY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One engine's text of a query.

    `text` keeps the line breaks of the file, so that an engine's complaint can be given a line;
    `compact` is what the generated code carries.
    """

    text: str
    line: int
    """Line of the file on which `text` begins."""
    parameters: tuple[str, ...]
    """Postgres: the name of `$1`, of `$2`, ... SQLite: the name for each `?`, with repetitions."""

    @property
    def compact(self) -> str:
        """Return the text without comments and blank lines."""
        return compact(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One block of a file."""

    name: str
    result: Result
    doc: tuple[str, ...]
    path: Path
    line: int
    nullable_parameters: frozenset[str]
    postgres: Statement
    sqlite: Statement
    shared: bool
    """Whether both engines run the same text."""

    def error(self, problem: str, *, line: int | None = None) -> SqlError:
        """Make an error that names file, line and query."""
        return SqlError(self.path, line or self.line, f"{self.name}: {problem}")


def read_queries(directory: Path, *, relative_to: Path) -> tuple[Query, ...]:
    """Read all files of a directory, in the order of their names.

    Args:
        directory: Where the `.sql` files are.
        relative_to: Root of the repository; paths in messages start here.

    Raises:
        SqlError: A block is malformed, or two queries share a name.
    """
    queries: dict[str, Query] = {}
    for path in sorted(directory.glob("*.sql")):
        for query in parse(path.read_text(encoding="utf-8"), path.relative_to(relative_to)):
            if (other := queries.get(query.name)) is not None:
                raise query.error(f"the name is taken by {other.path}:{other.line}")
            queries[query.name] = query
    return tuple(queries.values())


def parse(source: str, path: Path) -> tuple[Query, ...]:
    """Read the queries of one file's text.

    Raises:
        SqlError: A block is malformed; names the file and the line.
    """
    lines = source.splitlines()
    starts = [i for i, line in enumerate(lines) if _NAME.match(line)]
    for i, line in enumerate(lines[: starts[0] if starts else len(lines)]):
        if line.strip() and not line.startswith("--"):
            raise SqlError(path, i + 1, f"expected '-- name: ...' before SQL, found {line!r}")
    ends = [*starts[1:], len(lines)]
    return tuple(
        _block(lines[start:end], start + 1, path) for start, end in zip(starts, ends, strict=True)
    )


def _block(lines: Sequence[str], first: int, path: Path) -> Query:
    name, result = _name_line(lines[0], first, path)
    body = 1
    doc: list[str] = []
    while body < len(lines) and lines[body].startswith("--") and not _DIALECT.match(lines[body]):
        doc.append(lines[body].removeprefix("--").strip())
        body += 1
    if not any(doc):
        raise SqlError(path, first, f"{name}: expected a comment under the name: the docstring")
    dialects = [i for i, line in enumerate(lines) if _DIALECT.match(line)]
    for i in dialects:
        if not _DIALECT_LINE.fullmatch(lines[i]) or i != dialects[0]:
            raise SqlError(
                path, first + i, f"{name}: expected one '-- dialect: sqlite', found {lines[i]!r}"
            )
    split = dialects[0] if dialects else len(lines)
    shared = _Body(lines[body:split], first + body, path, name)
    own = _Body(lines[split + 1 :], first + split + 1, path, name) if dialects else None
    if own is None:
        shared.refuse_casts()
    elif unknown := own.names - shared.names:
        raise SqlError(
            path,
            own.line,
            f"{name}: :{min(unknown)} stands in the SQLite text alone; types come from Postgres, "
            "so every parameter must stand in the shared text",
        )
    return Query(
        name=name,
        result=result,
        doc=tuple(doc),
        path=path,
        line=first,
        nullable_parameters=shared.nullable | (own.nullable if own else frozenset[str]()),
        postgres=shared.for_postgres(),
        sqlite=(own or shared).for_sqlite(),
        shared=own is None,
    )


def _name_line(line: str, number: int, path: Path) -> tuple[str, Result]:
    match = _NAME_LINE.fullmatch(line)
    words = " ".join(f":{r.value}" for r in Result)
    if match is None:
        raise SqlError(path, number, f"expected '-- name: some_name {words}', found {line!r}")
    name = match["name"]
    if not _SNAKE.fullmatch(name) or keyword.iskeyword(name):
        raise SqlError(path, number, f"expected a name in snake_case, found {name!r}")
    try:
        return name, Result(match["result"])
    except ValueError:
        raise SqlError(
            path, number, f"{name}: expected one of {words}, found :{match['result']}"
        ) from None


class _Body:
    """The SQL of a block, before it is told apart for the engines."""

    def __init__(self, lines: Sequence[str], line: int, path: Path, name: str) -> None:
        self.line = line
        self._path = path
        self._name = name
        self._tokens = self._read("\n".join(lines))
        marks = [t for t in self._tokens if t.kind is Kind.PLACEHOLDER]
        for mark in marks:
            plain = mark.text[1:].removesuffix("?")
            if not _SNAKE.fullmatch(plain) or keyword.iskeyword(plain) or plain == "self":
                raise self._error(mark, f"{mark.text} cannot be the name of a parameter")
        self._order = tuple(dict.fromkeys(t.text[1:].removesuffix("?") for t in marks))
        self.names = frozenset(self._order)
        self.nullable = frozenset(t.text[1:-1] for t in marks if t.text.endswith("?"))

    def _read(self, sql: str) -> list[Token]:
        try:
            found = [
                Token(kind=Kind.SPACE, text="\n" * t.text.count("\n") or " ", line=t.line)
                if t.kind is Kind.COMMENT
                else t
                for t in tokens(sql)
            ]
        except UnreadableSql as e:
            raise SqlError(self._path, self.line + e.line, f"{self._name}: {e.problem}") from e
        while found and (found[-1].kind is Kind.SPACE or found[-1].text == ";"):
            found.pop()
        if not found:
            raise SqlError(self._path, self.line, f"{self._name}: expected SQL, found nothing")
        for token in found:
            if token.text == ";":
                raise self._error(token, "expected one statement, found more after ';'")
            if token.kind is Kind.NUMBERED:
                raise self._error(token, f"expected a placeholder :name, found {token.text}")
        return found

    def refuse_casts(self) -> None:
        """Refuse `::type` where it is no note to a placeholder: SQLite would not read it."""
        for before, token in zip([None, *self._tokens], self._tokens, strict=False):
            if token.kind is not Kind.CAST:
                continue
            if before is None or before.kind is not Kind.PLACEHOLDER:
                raise self._error(
                    token,
                    f"{token.text} stands after something that is no placeholder, and SQLite does "
                    "not know it; write CAST(... AS type), or a '-- dialect: sqlite' body",
                )

    def for_postgres(self) -> Statement:
        numbers = {name: f"${i}" for i, name in enumerate(self._order, 1)}
        text = "".join(
            numbers[t.text[1:].removesuffix("?")] if t.kind is Kind.PLACEHOLDER else t.text
            for t in self._tokens
        )
        return Statement(text=text, line=self.line, parameters=self._order)

    def for_sqlite(self) -> Statement:
        # Plain '?', one value for each: Python 3.12.0 to 3.12.3 mistake '?1' for a named
        # placeholder, and warn at every call (python/cpython issue 117995).
        parts: list[str] = []
        names: list[str] = []
        before: Token | None = None
        for token in self._tokens:
            if token.kind is Kind.PLACEHOLDER:
                names.append(token.text[1:].removesuffix("?"))
                parts.append("?")
            elif token.kind is Kind.CAST and before and before.kind is Kind.PLACEHOLDER:
                parts.append("\n" * token.text.count("\n"))
            else:
                parts.append(token.text)
            before = token
        return Statement(text="".join(parts), line=self.line, parameters=tuple(names))

    def _error(self, token: Token, problem: str) -> SqlError:
        return SqlError(self._path, self.line + token.line, f"{self._name}: {problem}")
