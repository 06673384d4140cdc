"""What production refuses: what would lose the record, or trade with whoever asks."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tradegw.errors import ConfigError
from tradegw.store import is_postgres

if TYPE_CHECKING:
    from tradegw.gateway.config import Config

__all__ = ["check_doors", "check_production", "is_loopback"]


def check_production(config: Config) -> None:
    """Refuse what a gateway in production must not run with; of other environments nothing is asked.

    Raises:
        ConfigError: `STORE_FORGETS`, `PLAINTEXT_STORE`, `MOCK_IN_PRODUCTION` or `PLAINTEXT_DOOR`.
    """
    if config.gateway.environment != "production":
        return
    url = config.store.url
    if url == "memory://":
        raise ConfigError(
            "store.url is memory://, which forgets every order at its end: not in production",
            reason="STORE_FORGETS",
        )
    if is_postgres(url):
        _check_postgres(url)
    for venue in config.venues.values():
        if venue.plugin == "mock":
            raise ConfigError(
                f"venues.{venue.name}.plugin is mock, where nothing is real: not in production",
                reason="MOCK_IN_PRODUCTION",
            )
    check_doors(
        config.gateway.environment,
        {
            "server.grpc_host": config.server.grpc_host,
            "server.http_host": config.server.http_host,
        },
    )


def check_doors(environment: str, hosts: Mapping[str, str]) -> None:
    """Refuse doors in production that others than this machine reach.

    The doors speak plaintext and ask nobody who they are: whoever reaches one can trade.

    Args:
        hosts: Addresses to listen on, by the setting that named each.

    Raises:
        ConfigError: `PLAINTEXT_DOOR`.
    """
    if environment != "production":
        return
    for setting, host in hosts.items():
        if not is_loopback(host):
            raise ConfigError(
                f"{setting} is {host!r}, where others reach it; the door speaks plaintext and asks nobody "
                "who they are, so in production it listens on 127.0.0.1 or ::1, behind a proxy that "
                "does both",
                reason="PLAINTEXT_DOOR",
            )


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_postgres(url: str) -> None:
    """Refuse a server elsewhere whose identity is not checked."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        said: Mapping[str, Any] = conninfo_to_dict(url)
    except ProgrammingError:
        return  # Whoever opens the store says what is wrong with it.
    named = said.get("hostaddr") or said.get("host") or os.environ.get("PGHOST", "")
    # Without a host, and with a path, it is a socket of this machine.
    away = [
        host
        for host in str(named).split(",")
        if host and not host.startswith(("/", "@")) and not is_loopback(host)
    ]
    mode = said.get("sslmode") or os.environ.get("PGSSLMODE", "prefer")
    if away and mode != "verify-full":
        raise ConfigError(
            f"store.url leads to {', '.join(away)} with sslmode={mode}, which does not prove who answers: "
            "in production it is sslmode=verify-full",
            reason="PLAINTEXT_STORE",
        )
