"""Paths into JSON: a strict subset of JMESPath, compiled to closures.

The grammar. A path means what JMESPath means by it, and everything else is refused:

    path    = step *( "." step / index / filter ) [ " | [0]" ]
    step    = name / '"' quoted name '"'
    index   = "[" whole number "]"
    filter  = "[?" name ( "==" / "!=" ) "'" text "'" "]"

A filter yields a list, and steps after it go into each of its members (a projection), those without the step
being left out. `@` alone is the row itself.
"""

# Decoded JSON is what it is: narrowing it yields "dict of unknown".
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

__all__ = ["PathError", "compile_path"]

Get = Callable[..., Any]

_NAME = r'(?:[A-Za-z_][A-Za-z0-9_]*|"(?:[^"\\\x00-\x1f]+)")'
_STEP = re.compile(
    rf"(?P<dot>\.?)(?P<name>{_NAME})|\[(?P<index>\d{{1,6}})\]"
    rf"|\[\?(?P<key>{_NAME})(?P<op>==|!=)'(?P<text>[^'\\]*)'\](?:\.(?P<rest>{_NAME}(?:\.{_NAME})*))?",
    re.ASCII,
)
_FIRST = re.compile(r" \| \[0\]$")


class PathError(ValueError):
    """Not a path of the subset."""


def compile_path(text: str) -> Get:
    """Compile a path. The result takes decoded JSON, and returns what stands there, or None.

    It takes the inputs of a value too, and ignores them: so a path is a value without a call around it.

    Raises:
        PathError: It is outside the subset.
    """
    if text == "@":
        return _itself
    body = _FIRST.sub("", text)
    takes_first = body != text
    steps: list[Get] = []
    names: list[str] = []
    at = 0
    is_projected = False
    while at < len(body):
        found = _STEP.match(body, at)
        if found is None or is_projected:
            raise PathError(
                f"not a path of the subset of JMESPath: {text[:80]!r}, at {body[at:][:20]!r}"
            )
        if (name := found["name"]) is not None:
            if bool(found["dot"]) == (at == 0):
                raise PathError(f"not a path of the subset of JMESPath: {text[:80]!r}, at {at}")
            names.append(_unquote(name))
            steps.append(_field(_unquote(name)))
        elif (index := found["index"]) is not None:
            steps.append(_index(int(index)))
        else:
            rest = [_unquote(part) for part in re.findall(_NAME, found["rest"] or "")]
            steps.append(_filter(_unquote(found["key"]), found["op"] == "==", found["text"], rest))
            is_projected = True
        at = found.end()
    if not steps:
        raise PathError("expected a path, found nothing")
    if takes_first:
        if not is_projected:
            raise PathError(f"' | [0]' needs a filter before it: {text[:80]!r}")
        steps.append(_index(0))
    if len(steps) == 1:
        return steps[0]
    if len(steps) == 2:
        return _pair(*steps)
    chain = tuple(steps)

    def get(row: Any, inputs: object = None) -> Any:
        for step in chain:
            row = step(row)
        return row

    return get


def _itself(row: Any, inputs: object = None) -> Any:
    return row


def _pair(one: Get, two: Get) -> Get:
    def get(row: Any, inputs: object = None) -> Any:
        return two(one(row))

    return get


def _unquote(name: str) -> str:
    return name[1:-1] if name.startswith('"') else name


def _field(name: str) -> Get:
    def get(row: Any, inputs: object = None) -> Any:
        return row.get(name) if type(row) is dict else None

    return get


def _index(index: int) -> Get:
    def get(row: Any, inputs: object = None) -> Any:
        return row[index] if type(row) is list and index < len(row) else None

    return get


def _filter(key: str, wants_equal: bool, text: str, rest: list[str]) -> Get:
    def get(row: Any, inputs: object = None) -> Any:
        if type(row) is not list:
            return None
        found: list[Any] = []
        for member in row:
            value = member.get(key) if type(member) is dict else None
            if (type(value) is str and value == text) is not wants_equal:
                continue
            for step in rest:
                member = member.get(step) if type(member) is dict else None  # noqa: PLW2901
            if member is not None:
                found.append(member)
        return found

    return get
