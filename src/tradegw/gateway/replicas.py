"""What several gateways on one store need, and what they refuse."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING

from tradegw.errors import ConfigError, StoreUnavailable
from tradegw.model import AccountName
from tradegw.store import is_postgres

if TYPE_CHECKING:
    from tradegw.gateway.config import Config
    from tradegw.gateway.keeper import Keeper

__all__ = ["Replicas", "check_forwarding", "check_replicas"]


class Replicas:
    """Who holds the accounts (`Holders`), from before the store was opened until after it was closed."""

    def __init__(self) -> None:
        self._address = ""
        self._keeper: Keeper | None = None
        self._is_attached = asyncio.Event()

    def attach(self, keeper: Keeper) -> None:
        """Ask this keeper from now on."""
        self._keeper = keeper
        self._is_attached.set()
        if self._address:
            keeper.listen_at(self._address)

    async def opened(self) -> None:
        """Wait until the opening of what this gateway takes was tried; see `Keeper.opened`."""
        await self._is_attached.wait()
        if self._keeper is not None:
            await self._keeper.opened()

    def listen_at(self, address: str) -> None:
        """Say where others reach our gRPC door."""
        self._address = address
        if self._keeper is not None:
            self._keeper.listen_at(self._address)

    async def cease_taking(self) -> None:
        """Take no further account."""
        if self._keeper is not None:
            await self._keeper.cease_taking()

    async def close(self) -> None:
        """Give back what is held, once the engine has closed."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.close()

    def is_ours(self, account: AccountName) -> bool:
        """Whether this gateway serves the account, and may still send for it; see `Holders`."""
        return self._keeper is not None and self._keeper.is_ours(account)

    async def address_of(self, account: AccountName) -> str | None:
        """Return where the holder's gRPC door listens; see `Holders`."""
        if self._keeper is None:
            raise StoreUnavailable("the store is not open")
        return await self._keeper.address_of(account)


def check_replicas(config: Config) -> None:
    """Refuse what gateways that share a store cannot run with.

    Raises:
        ConfigError: `REPLICAS_NEED_POSTGRES`, `MOCK_IN_PROCESS`, or a setting is wrong.
    """
    replicas = config.replicas
    if not replicas.enabled:
        return
    if not is_postgres(config.store.url):
        raise ConfigError(
            f'replicas.enabled needs a store that gateways can share: store.url = "postgresql://..."; '
            f"found {config.store.shown_url}",
            reason="REPLICAS_NEED_POSTGRES",
        )
    for venue in config.venues.values():
        if venue.plugin == "mock" and not venue.options.get("url"):
            raise ConfigError(
                f"venues.{venue.name} is the mock exchange in this process, and each replica would have one "
                f"of its own: run `tradegw mock serve` and set venues.{venue.name}.url",
                reason="MOCK_IN_PROCESS",
            )
    if replicas.margin_s >= replicas.ttl_s / 2:
        raise ConfigError(
            f"replicas.margin_s must be less than half of replicas.ttl_s ({replicas.ttl_s:g}); found "
            f"{replicas.margin_s:g}"
        )
    if replicas.address:
        host, _, port = replicas.address.rpartition(":")
        if not host or not port.isdecimal():
            raise ConfigError(f"replicas.address is HOST:PORT; found {replicas.address!r}")


def check_forwarding(config: Config, grpc_host: str) -> None:
    """Refuse a door of which nobody else could say where it is.

    Args:
        grpc_host: What the gRPC door listens on.

    Raises:
        ConfigError: It listens on every address of the machine, and `replicas.address` names none.
    """
    if config.replicas.enabled and not config.replicas.address and _is_any(grpc_host):
        raise ConfigError(
            f"the gRPC door listens on {grpc_host}: say in replicas.address where the other replicas reach it"
        )


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return not host
