"""Where secrets come from. They are never in the configuration itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tradegw.errors import ConfigError
from tradegw.venue import Secret

__all__ = ["read_secret"]


def read_secret(reference: object) -> Secret:
    """Return the secret that a reference names: `env:NAME` or `file:PATH`.

    Raises:
        ConfigError: It is not a reference, or what it names is missing, empty, or readable by others. The
            text never holds a secret, nor what stood in a reference's place: it may be one.
    """
    kind, colon, name = reference.partition(":") if isinstance(reference, str) else ("", "", "")
    if not colon or kind not in ("env", "file"):
        raise ConfigError(
            "a secret is given as env:NAME or file:PATH, never by itself", reason="SECRET_INLINE"
        )
    if kind == "env":
        value = os.environ.get(name, "")
        if not value:
            raise ConfigError(
                f"the environment has no variable {name}, or it is empty", reason="SECRET_MISSING"
            )
        return Secret(value)
    path = Path(name)
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}); `chmod 600` it",
                reason="SECRET_EXPOSED",
            )
        value = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(
            f"the secret {path} cannot be read: {type(e).__name__}", reason="SECRET_MISSING"
        ) from e
    if not value:
        raise ConfigError(f"the secret {path} is empty", reason="SECRET_MISSING")
    return Secret(value)
