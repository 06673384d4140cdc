"""A value that must not be seen."""

from __future__ import annotations

from typing import final

__all__ = ["Secret"]


@final
class Secret:
    """A secret that `repr`, `str`, logs and pickles do not show. `reveal` hands it out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself. Call it where it is used, and keep it nowhere."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled")
