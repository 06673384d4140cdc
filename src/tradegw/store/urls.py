"""What the URL of a store says, and how it is shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

__all__ = ["is_postgres", "shown_url", "sqlite_path"]

# To the last @: in a URL that nobody can read, a password may hold what it should have quoted.
_USER: Final = re.compile(r"//([^/?#:@]*):.*@", re.DOTALL)
_PARAMETER: Final = re.compile(r"([?&](?:ssl)?password=)[^&]*", re.IGNORECASE)
_CONNINFO: Final = re.compile(
    r"(\b(?:ssl)?password\s*=\s*)(?:'(?:[^'\\]|\\.)*'?|(?:\\.|[^\s\\])*)",
    re.IGNORECASE | re.DOTALL,
)


def is_postgres(url: str) -> bool:
    """Whether a URL names a store in Postgres."""
    return url.startswith(("postgres://", "postgresql://"))


def sqlite_path(url: str) -> Path | None:
    """Return the file that a `sqlite:///` URL names; None for any other URL."""
    name = url.removeprefix("sqlite:///")
    return Path(name) if name not in {url, ""} else None


def shown_url(url: str) -> str:
    """Return the URL of a store as it may be shown: without passwords.

    Also where it is none, such as libpq's `host=... password=...`: an error tells what was found.
    """
    if sqlite_path(url) is not None:
        return url
    if "://" not in url:
        return _CONNINFO.sub(r"\1***", url)
    return _PARAMETER.sub(r"\1***", _USER.sub(r"//\1:***@", url))
