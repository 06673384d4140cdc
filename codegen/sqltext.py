"""SQL as a row of tokens: as much of it as placeholders, casts and comments need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from codegen.errors import CodegenError

_TOKEN = re.compile(
    r"""
      (?P<comment>     --[^\n]* | /\*.*?\*/ )
    | (?P<string>      '(?:[^']|'')*' )
    | (?P<quoted>      "(?:[^"]|"")*" )
    | (?P<cast>        ::\s*[a-zA-Z_]\w*(?:\s*\(\s*\d+(?:\s*,\s*\d+)?\s*\))?(?:\[\])? )
    | (?P<placeholder> :[a-zA-Z_]\w*\?? )
    | (?P<numbered>    \$\d+ | \? )
    | (?P<word>        [a-zA-Z_]\w* )
    | (?P<number>      \d+(?:\.\d+)? )
    | (?P<space>       \s+ )
    | (?P<operator>    <= | >= | <> | != | \|\| | ->> | -> | [-+*/%<>=(),.;\[\]&|~^] )
    | (?P<unknown>     . )
    """,
    re.VERBOSE | re.DOTALL,
)


class Kind(Enum):
    """What a token is."""

    COMMENT = "comment"
    STRING = "string"
    QUOTED = "quoted"
    CAST = "cast"
    PLACEHOLDER = "placeholder"
    NUMBERED = "numbered"
    """An engine's own placeholder, `$1` or `?`."""
    WORD = "word"
    NUMBER = "number"
    SPACE = "space"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A piece of SQL, and the line that it starts on, counted from 0."""

    kind: Kind
    text: str
    line: int


class UnreadableSql(CodegenError):
    """A character that neither engine, or only one of them, understands."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


_HINTS = {
    "$": "'$' is understood by one engine only; placeholders are written :name",
    "'": "this string is never closed",
    '"': "this name is never closed",
    "@": "placeholders are written :name",
}


def tokens(sql: str) -> Iterator[Token]:
    """Split SQL into tokens; joined, they give the SQL back.

    Raises:
        UnreadableSql: Something that is not SQL for both engines.
    """
    line = 0
    for match in _TOKEN.finditer(sql):
        text = match.group()
        assert match.lastgroup is not None
        if match.lastgroup == "unknown":
            raise UnreadableSql(line, _HINTS.get(text, f"unexpected character {text!r}"))
        yield Token(kind=Kind(match.lastgroup), text=text, line=line)
        line += text.count("\n")


def compact(sql: str) -> str:
    """Drop comments, blank lines and trailing spaces; keep the other line breaks."""
    parts: list[str] = []
    space = ""
    for token in tokens(sql):
        if token.kind is Kind.SPACE:
            space += token.text
        elif token.kind is not Kind.COMMENT:
            if parts:
                parts.append("\n" + space.rpartition("\n")[2] if "\n" in space else space)
            parts.append(token.text)
            space = ""
    return "".join(parts)


def normalised(sql: str) -> tuple[str, ...]:
    """Return the words of SQL without layout: equal for texts that say the same thing."""
    return tuple(
        _plain(token) for token in tokens(sql) if token.kind not in {Kind.COMMENT, Kind.SPACE}
    )


def _plain(token: Token) -> str:
    if token.kind is Kind.QUOTED:
        return token.text.strip('"')
    return token.text if token.kind is Kind.STRING else token.text.lower()
