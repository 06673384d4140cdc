"""A definition's text: YAML in which every scalar is text, and every part knows its line.

YAML would read `no` as false, `1e3` as a number and `0123` as an octal one. A definition is about exact text,
so nothing is converted here; whoever reads a part says what it must be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NoReturn

import yaml

from tradegw import ConfigError, parse_decimal

__all__ = ["DefinitionError", "Spot", "read_source"]

_DEPTH_MAX = 40
# The same reader in C, ten times faster, wherever PyYAML was built with it.
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_SIZE_MAX = 1_000_000


class DefinitionError(ConfigError):
    """A definition is wrong. The text names its file, line and path."""

    reason = "DEFINITION_INVALID"


class Spot:
    """One part of a definition: its value, and where it stands.

    Attributes:
        value: A dict of spots, a list of spots, or text.
        path: From the top, such as `operations.place.params`.
    """

    __slots__ = ("file", "line", "path", "value")

    def __init__(self, value: Any, file: str, line: int, path: str) -> None:
        self.value = value
        self.file = file
        self.line = line
        self.path = path

    def fail(self, text: str) -> NoReturn:
        """Raise a `DefinitionError` that names this place."""
        raise DefinitionError(f"{self.file}:{self.line}: {self.path or 'definition'}: {text}")

    @property
    def is_text(self) -> bool:
        """Whether it is a scalar."""
        return isinstance(self.value, str)

    @property
    def is_map(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.value, list)

    def text(self) -> str:
        """Return the text that stands here."""
        if not isinstance(self.value, str):
            self.fail(f"expected text, found {self._kind()}")
        return self.value

    def items(self) -> dict[str, Spot]:
        """Return the mapping that stands here."""
        if not self.is_map:
            self.fail(f"expected a mapping, found {self._kind()}")
        found: dict[str, Spot] = self.value
        return found

    def list(self) -> Sequence[Spot]:
        """Return the list that stands here."""
        if not self.is_list:
            self.fail(f"expected a list, found {self._kind()}")
        found: Sequence[Spot] = self.value
        return found

    def each(self) -> Iterator[Spot]:
        """Iterate over the list that stands here; anything else is a list of one."""
        return iter(self.list() if self.is_list else (self,))

    def keys(self, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Spot]:
        """Return the mapping that stands here, whose keys must be these."""
        items = self.items()
        for key, spot in items.items():
            if key not in required and key not in optional:
                known = ", ".join(sorted({*required, *optional}))
                spot.fail(f"unknown key; expected one of {known}")
        for key in required:
            if key not in items:
                self.fail(f"{key} is missing")
        return items

    def one_of(self, choices: Iterable[str]) -> str:
        """Return the text that stands here, which must be one of `choices`."""
        text = self.text()
        choices = frozenset(map(str, choices))
        if text not in choices:
            self.fail(f"expected one of {', '.join(sorted(choices))}; found {text[:60]!r}")
        return text

    def number(self, *, least: Decimal | None = Decimal(0)) -> Decimal:
        """Return the decimal that stands here."""
        try:
            number = parse_decimal(self.text())
        except ValueError as e:
            self.fail(str(e))
        if least is not None and number < least:
            self.fail(f"expected at least {least}, found {number}")
        return number

    def seconds(self) -> float:
        """Return the duration that stands here."""
        return float(self.number())

    def whole(self) -> int:
        """Return the whole number that stands here."""
        text = self.text()
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            self.fail(f"expected a whole number, found {text[:60]!r}")
        return int(text)

    def flag(self) -> bool:
        """Return the truth value that stands here, written `true` or `false`."""
        return self.one_of(("true", "false")) == "true"

    def plain(self) -> Any:
        """Return what stands here as plain dicts, lists and text."""
        match self.value:
            case dict():
                return {key: spot.plain() for key, spot in self.items().items()}
            case list():
                return [spot.plain() for spot in self.list()]
            case text:
                return text

    def _kind(self) -> str:
        match self.value:
            case dict():
                return "a mapping"
            case list():
                return "a list"
            case _:
                return "text"


def read_source(text: str, file: str) -> Spot:
    """Read a definition's text.

    Raises:
        DefinitionError: It is not YAML, names a key twice, or uses an anchor or a tag.
    """
    if len(text) > _SIZE_MAX:
        raise DefinitionError(f"{file}: expected at most {_SIZE_MAX} characters, found {len(text)}")
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            # Aliases make a small text a huge tree, tags make objects: no definition needs either.
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                line = 1 + (event.start_mark.line if event.start_mark else 0)
                raise DefinitionError(f"{file}:{line}: anchors, aliases and tags are not allowed")
        node = yaml.compose(text, Loader=_LOADER)
    except (yaml.YAMLError, RecursionError) as e:
        mark = getattr(e, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark is not None else file
        raise DefinitionError(f"{where}: not YAML: {getattr(e, 'problem', None) or e}") from e
    if node is None:
        raise DefinitionError(f"{file}:1: expected a definition, found nothing")
    return _spot(node, file, "", 0)


def _spot(node: yaml.Node, file: str, path: str, depth: int) -> Spot:
    spot = Spot("", file, node.start_mark.line + 1, path)
    if depth > _DEPTH_MAX:
        spot.fail(f"expected at most {_DEPTH_MAX} levels")
    match node:
        case yaml.ScalarNode():
            spot.value = str(node.value)
        case yaml.SequenceNode():
            spot.value = [
                _spot(part, file, f"{path}[{index}]", depth + 1)
                for index, part in enumerate(node.value)
            ]
        case yaml.MappingNode():
            spot.value = _mapping(node, file, path, depth)
        case _:
            spot.fail("expected a mapping, a list or text")
    return spot


def _mapping(node: yaml.MappingNode, file: str, path: str, depth: int) -> dict[str, Spot]:
    found: dict[str, Spot] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
        inner = f"{path}.{key}" if path else key
        spot = Spot("", file, key_node.start_mark.line + 1, inner)
        if not key:
            spot.fail("expected text as a key")
        if key in found:
            spot.fail("the key stands here twice")
        found[key] = _spot(value_node, file, inner, depth + 1)
        if found[key].is_text:
            found[key].line = spot.line
    return found
