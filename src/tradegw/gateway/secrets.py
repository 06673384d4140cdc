"""Where secrets come from. They are never in the configuration itself."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tradegw.errors import ConfigError
from tradegw.plugins import OUR_SECRETS
from tradegw.venue import Secret

__all__ = ["NO_SOURCES", "SameSecrets", "Sources", "read_secret"]


Sources = Mapping[str, Callable[[str], str]]
NO_SOURCES: Final[Sources] = MappingProxyType({})
_SERVICE: Final = "tradegw"


def read_secret(reference: object, sources: Sources = NO_SOURCES) -> Secret:
    """Return the secret that a reference names: `env:NAME`, `file:PATH`, `keyring:NAME`, or a plugin's.

    It may block: a keyring asks its owner, a vault is far away.

    Args:
        sources: What plugins offer, by the word in front of a reference.

    Raises:
        ConfigError: It is not a reference, or what it names is missing, empty, or readable by others. The
            text never holds a secret, nor what stood in a reference's place: it may be one.
    """
    kind, colon, name = reference.partition(":") if isinstance(reference, str) else ("", "", "")
    if colon and kind in sources:
        return _from_source(kind, name, sources[kind])
    if not colon or kind not in OUR_SECRETS:
        more = "".join(f", {known}:..." for known in sorted(sources))
        raise ConfigError(
            f"a secret is given as env:NAME, file:PATH or keyring:NAME{more}, never by itself",
            reason="SECRET_INLINE",
        )
    if kind == "keyring":
        return _from_source(kind, name, _from_keyring)
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


def _from_source(kind: str, name: str, read: Callable[[str], str]) -> Secret:
    try:
        value: Any = read(name)
    except ConfigError:
        raise
    except Exception as e:  # noqa: BLE001  A plugin may raise anything.
        # By its type alone, and without the error itself: its words may be the vault's answer.
        raise ConfigError(
            f"the secret {kind}:{name} cannot be read: {type(e).__name__}", reason="SECRET_MISSING"
        ) from None
    if not isinstance(value, str) or not value:
        raise ConfigError(f"there is no secret {kind}:{name}", reason="SECRET_MISSING")
    return Secret(value)


def _from_keyring(name: str) -> str:
    try:
        import keyring
    except ImportError:
        raise ConfigError(
            "a secret from the keyring needs `pip install tradegw[keyring]`",
            reason="SECRET_MISSING",
        ) from None
    return keyring.get_password(_SERVICE, name) or ""


class SameSecrets:
    """Tells which accounts have the same credentials, and keeps none of them."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._names: dict[bytes, str] = {}

    def name_of(self, options: object) -> str:
        """Return a name for the secrets in a plugin's options; empty when there are none."""
        found = [value.reveal() for value in _values(options) if isinstance(value, Secret)]
        if not found:
            return ""
        digest = hashlib.blake2b(key=self._key)
        for text in found:
            digest.update(len(text).to_bytes(8, "big") + text.encode())
        return self._names.setdefault(digest.digest(), f"key {len(self._names) + 1}")


def _values(options: Any) -> list[Any]:
    if is_dataclass(options):
        return [getattr(options, field.name) for field in fields(options)]
    return [getattr(options, name) for name in getattr(options, "__struct_fields__", ())]
