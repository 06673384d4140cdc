"""The states of all configured accounts, each as whoever serves it tells it; the rest from the record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tradegw.engine.context import REQUEST
from tradegw.engine.routing import Route
from tradegw.errors import NotFound, TradegwError
from tradegw.gateway.api import AccountStatus, VenueInfo
from tradegw.gateway.asker import Asker
from tradegw.gateway.holders import Holders
from tradegw.gateway.local import LocalGateway
from tradegw.model import AccountName
from tradegw.ports import Head

__all__ = ["States"]

log = logging.getLogger(__name__)


class States:
    """Collects the states of the accounts, whichever gateways serve them.

    Args:
        routes: Every configured account, whoever serves it.
        plugins: The plugin of each venue.
        here: Serves what is ours.
    """

    def __init__(
        self,
        routes: Mapping[AccountName, Route],
        plugins: Mapping[str, str],
        here: LocalGateway,
        holders: Holders,
        asker: Asker,
    ) -> None:
        self._routes = routes
        self._plugins = plugins
        self._here = here
        self._holders = holders
        self._asker = asker

    async def list_venues(self) -> Sequence[VenueInfo]:
        """Return the configured venues with their accounts' states; to another gateway, only of what is ours.

        Raises:
            StoreError: Who serves the accounts, or what is stored of them, cannot be read.
        """
        here = await self._here.list_venues()
        if REQUEST.get().is_forwarded:
            return here
        others, _ = await self._asker.others()
        told = await asyncio.gather(*(self._told_at(address) for address in others))
        states = {
            status.account: replace(status, holder=address)
            for address, venues in zip(others, told, strict=True)
            for venue in venues
            for status in venue.accounts
        }
        states |= {status.account: status for venue in here for status in venue.accounts}
        found: dict[str, list[AccountStatus]] = {venue: [] for venue in self._plugins}
        for name, route in self._routes.items():
            found[route.venue].append(states.get(name) or await self._unheard(route))
        return [
            VenueInfo(venue=venue, plugin=self._plugins[venue], accounts=tuple(accounts))
            for venue, accounts in sorted(found.items())
            if accounts
        ]

    async def _told_at(self, address: str) -> Sequence[VenueInfo]:
        try:
            return await self._asker.ask_state(address, lambda there: there.list_venues())
        except (TradegwError, TimeoutError) as e:
            log.info("the gateway at %s does not tell its accounts: %s", address, e)
            return ()

    async def _unheard(self, route: Route) -> AccountStatus:
        """Return what is known of an account whose holder does not speak, or that has none."""
        address = await self._holders.address_of(route.account)
        try:
            head = await self._here.engine.store.get_head(route.account)
        except NotFound:
            head = Head()
        return AccountStatus(
            account=route.account,
            venue=route.venue,
            plugin=self._plugins[route.venue],
            state="ELSEWHERE",
            why=_why_unheard(address),
            open_orders=0,
            in_doubt=0,
            head_seq=head.seq,
            holder=address or "",
        )


def _why_unheard(address: str | None) -> str:
    if address is None:
        return "no gateway holds it now"
    if not address:
        return "held by a gateway without a gRPC door, which cannot be asked"
    return f"held by the gateway at {address}, which does not answer"
