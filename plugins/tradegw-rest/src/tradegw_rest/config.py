"""What someone sets for the venue `rest`."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import msgspec

from tradegw import ConfigError
from tradegw.venue import Secret
from tradegw_rest.library import load

__all__ = ["RestConfig"]

_PLAIN = {"https": "http", "wss": "ws"}


class RestConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A venue with `plugin = "rest"`, and its accounts.

    Attributes:
        definition: Name of a definition that ships, or the path of a file of yours.
        environment: Which of the definition's hosts: `live`, or what else it has.
        rest_url: `https://host` of another server that speaks the same, such as a mock exchange. Nothing is
            connected to but this and the definition's hosts.
        stream_url: The same for the private stream, `wss://host/path`.
        symbols: Markets to subscribe to, where the venue's stream wants each one named.
    """

    definition: str
    environment: str = "live"
    api_key: Secret | None = None
    api_secret: Secret | None = None
    passphrase: Secret | None = None
    rest_url: str = ""
    stream_url: str = ""
    symbols: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.definition:
            raise ValueError("definition names a definition that ships, or a file")
        try:
            # A slip in somebody's own file is found before anything opens, and by `tradegw config check`.
            hosts = load(self.definition).hosts
        except ConfigError as e:
            raise ValueError(str(e)) from e
        if self.environment not in hosts:
            known = ", ".join(sorted(hosts))
            raise ValueError(
                f"{self.definition} has no environment {self.environment!r}; it has {known}"
            )
        for name, scheme in (("rest_url", "https"), ("stream_url", "wss")):
            url: str = getattr(self, name)
            if url:
                _check_url(url, name, scheme)
        if self.rest_url and urlsplit(self.rest_url).path.strip("/"):
            raise ValueError(f"rest_url is a host without a path; found {self.rest_url!r}")


def _check_url(url: str, name: str, scheme: str) -> None:
    """Refuse what is not encrypted, except where nobody else can listen.

    Raises:
        ValueError: It is no such URL.
    """
    parts = urlsplit(url)
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError(f"{name} is {scheme}://HOST[:PORT]; found {url!r}")
    if parts.scheme == scheme:
        return
    if parts.scheme != _PLAIN[scheme] or not _is_loopback(parts.hostname):
        raise ValueError(
            f"{name} must be {scheme}://; without encryption only the loopback; found {url!r}"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
