"""Copies of frozen values with some fields changed, for the path of every order.

`dataclasses.replace` looks up every field and calls `__init__` with all of them: three to four times as slow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar

__all__ = ["copier", "setters"]

ValueT = TypeVar("ValueT")


def setters(cls: type[Any]) -> dict[str, Callable[[Any, object], None]]:
    """Return what writes each field of a slotted class, frozen or not. For copies that nobody else holds."""
    return {field.name: getattr(cls, field.name).__set__ for field in fields(cls)}


def copier(cls: type[ValueT]) -> Callable[..., ValueT]:
    """Return a function that copies a value of exactly this class, with the fields that it is given changed.

    The class is a slotted dataclass of several fields without `__post_init__`.
    """
    by_name = setters(cls)
    read: Callable[[object], tuple[object, ...]] = attrgetter(*by_name)
    writes = tuple(by_name.values())
    new = object.__new__

    def copy(value: ValueT, **changes: object) -> ValueT:
        made = new(cls)
        for write, item in zip(writes, read(value), strict=True):
            write(made, item)
        for name, item in changes.items():
            by_name[name](made, item)
        return made

    return copy
