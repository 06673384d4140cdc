"""The definitions that ship with this package, and those of users."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from tradegw import ConfigError
from tradegw_rest.compiling import compile_source
from tradegw_rest.definition import Definition
from tradegw_rest.source import DefinitionError

__all__ = ["load", "names", "source_of"]

_SUFFIX = ".yaml"


def names() -> tuple[str, ...]:
    """Return the names of the definitions that ship."""
    found = (entry.name for entry in files("tradegw_rest.definitions").iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


def source_of(which: str) -> tuple[str, str]:
    """Return the text of a definition, and a name of its file for messages.

    Args:
        which: Name of one that ships, or the path of a file. What holds a `/` or ends in `.yaml` is a path.

    Raises:
        ConfigError: There is none.
    """
    if "/" in which or which.endswith((_SUFFIX, ".yml")):
        try:
            return Path(which).read_text(encoding="utf-8"), which
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"definition {which!r} cannot be read: {e}") from e
    if which not in names():
        raise ConfigError(
            f"no definition {which!r}; {', '.join(names())} ship, and a path names a file of yours"
        )
    return files("tradegw_rest.definitions").joinpath(which + _SUFFIX).read_text(
        "utf-8"
    ), f"{which}.yaml"


def load(which: str) -> Definition:
    """Compile a definition, by name or path.

    Raises:
        ConfigError: There is none.
        DefinitionError: Something in it is wrong.
    """
    text, file = source_of(which)
    return _compiled(text, file)


@lru_cache(maxsize=32)
def _compiled(text: str, file: str) -> Definition:
    # Accounts of one venue share it: it holds no state.
    definition = compile_source(text, file)
    if not definition.operations:
        raise DefinitionError(f"{file}: it has no operations")
    return definition
