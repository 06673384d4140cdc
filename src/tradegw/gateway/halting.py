"""Halts, where several gateways serve the accounts: every one of them is asked, and each has to confirm.

A halt is stored first, and whoever holds an account looks into the store by himself; so one that is not
confirmed is obeyed within moments all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from uuid import uuid4

from tradegw.engine.context import REQUEST
from tradegw.engine.halts import ANY_SCOPE
from tradegw.engine.routing import Route
from tradegw.errors import StoreError, TradegwError, Unavailable
from tradegw.gateway.api import Gateway
from tradegw.gateway.asker import Asker
from tradegw.gateway.cancelling import list_open
from tradegw.gateway.holders import Holders
from tradegw.gateway.local import LocalGateway
from tradegw.model import AccountName, CommandKind, Halt, Order

__all__ = ["Halting"]


class Halting:
    """Has every gateway that holds an account obey a halt, and its end.

    Args:
        routes: Every configured account, whoever serves it.
        here: Serves what is ours.
    """

    def __init__(
        self,
        routes: Mapping[AccountName, Route],
        here: LocalGateway,
        holders: Holders,
        asker: Asker,
    ) -> None:
        self._routes = routes
        self._here = here
        self._holders = holders
        self._asker = asker

    async def halt(
        self, *, scope: str, why: str, by: str, cancel_open: bool, key: str | None
    ) -> Halt:
        """Refuse new orders from now on, at every gateway that holds an account.

        Raises:
            Unavailable: The halt is stored, and one of them did not say that it obeys, or open orders of its
                scope are not being cancelled though that was asked; reason `HALT_UNCONFIRMED`. New orders are
                refused within moments all the same; the same key asks for the rest again.
        """
        key = key or uuid4().hex

        def ask(there: Gateway) -> Awaitable[Halt]:
            return there.halt(
                scope=scope, why=why, by=by, cancel_open=cancel_open, idempotency_key=key
            )

        missing: list[str] = []
        ours = frozenset(filter(self._holders.is_ours, self._routes))
        try:
            halt = await ask(self._here)
        except Unavailable as e:
            stored = self._here.engine.halts.get(scope)
            if stored is None or REQUEST.get().is_forwarded:
                raise
            # Not all is cancelled here, and the others are to cancel theirs all the same.
            halt = stored
            missing.append(f"all of it by this gateway: {e}")
        missing += await self._everywhere(ask, scope)
        if cancel_open and not REQUEST.get().is_forwarded:
            missing += await self._check_cancelled(scope, ours)
        _confirm("the halt is in force here and stored", missing)
        return halt

    async def resume(self, *, scope: str, by: str, key: str | None) -> None:
        """Lift a halt, at every gateway that holds an account.

        Raises:
            Unavailable: It is lifted in the record, and one of them did not say that it knows; reason
                `HALT_UNCONFIRMED`. It will within moments.
        """
        key = key or uuid4().hex

        def ask(there: Gateway) -> Awaitable[None]:
            return there.resume(scope=scope, by=by, idempotency_key=key)

        await self._here.engine.halts.read()
        await ask(self._here)
        _confirm("the halt is lifted here and in the record", await self._everywhere(ask, scope))

    async def _everywhere(
        self, ask: Callable[[Gateway], Awaitable[object]], scope: str
    ) -> Sequence[str]:
        """Ask every other gateway that holds an account, unless another one asks us.

        Returns:
            Who did not say that it obeys, and why not, as far as it matters to a halt of this scope.
        """
        if REQUEST.get().is_forwarded:
            return []

        async def at(address: str, account: AccountName) -> str | None:
            try:
                await self._asker.ask_at(address, account, ask)
            except TradegwError as e:
                return f"{address}: {e}"
            return None

        try:
            others, doorless = await self._asker.others()
        except StoreError as e:
            return [f"who else holds accounts, which cannot be looked up: {e}"]
        found = await asyncio.gather(*(at(address, name) for address, name in others.items()))
        in_scope = self._in_scope(scope)
        return [text for text in found if text] + [
            f"the holder of account {name}, which has no gRPC door"
            for name in doorless
            if name in in_scope
        ]

    async def _check_cancelled(self, scope: str, ours: Collection[AccountName]) -> Sequence[str]:
        """Say which accounts of others have open orders in a halt's scope that nobody is cancelling.

        Whatever their holders answered: one may have lost an account before it came to it, and an account
        that nobody holds has nobody to answer for it.

        Args:
            ours: What was ours when the halt began. One that we took meanwhile was nobody's to cancel.
        """
        kind, _, name = scope.partition(":")
        elsewhere = [
            one
            for one in self._in_scope(scope)
            if one not in ours or not self._holders.is_ours(one)
        ]
        if not elsewhere:
            return []
        try:
            found = await list_open(
                self._here, elsewhere, symbol=name if kind == "symbol" else None
            )
        except StoreError as e:
            return [f"whether open orders elsewhere are cancelled cannot be read: {e}"]
        left: dict[AccountName, int] = {}
        for order in found:
            if not _is_being_cancelled(order):
                left[order.account] = left.get(order.account, 0) + 1
        return [f"{count} open orders of account {one}" for one, count in sorted(left.items())]

    def _in_scope(self, scope: str) -> Sequence[AccountName]:
        """Return the configured accounts that a halt concerns."""
        kind, _, name = scope.partition(":")
        return [
            account
            for account, route in self._routes.items()
            if scope == ANY_SCOPE
            or kind == "symbol"
            or name == (account if kind == "account" else route.venue)
        ]


def _confirm(done: str, missing: Sequence[str]) -> None:
    """Raise what was not confirmed, if something was not."""
    if missing:
        raise Unavailable(f"{done}; not confirmed: {'; '.join(missing)}", reason="HALT_UNCONFIRMED")


def _is_being_cancelled(order: Order) -> bool:
    return order.pending is CommandKind.CANCEL or any(
        doubt.command is CommandKind.CANCEL for doubt in order.in_doubt
    )
