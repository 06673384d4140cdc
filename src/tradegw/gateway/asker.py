"""Asks whoever serves an account: this gateway, or the other one that holds the account's lease.

It goes one hop. Whoever gets a forwarded request for an account that it does not hold says so, and the caller
asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from tradegw.engine.context import REQUEST
from tradegw.errors import StoreError, TradegwError, Unavailable
from tradegw.gateway.api import Gateway
from tradegw.gateway.holders import Holders
from tradegw.gateway.peers import Peers
from tradegw.model import AccountName, Order

__all__ = ["Asker"]

T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound=Order | TradegwError)

_LOOK_AGAIN_S = 1.0
"""How long another gateway may be silent before we look whether it still holds the account."""

_PATIENCE_S = 2.0
"""How long a question about another gateway's state may take. The record answers then, or nobody."""


class Asker:
    """Knows who holds each account, and how to ask there.

    Args:
        accounts: Every configured one, whoever serves it.
        here: Serves what is ours.
    """

    def __init__(
        self, accounts: Collection[AccountName], here: Gateway, holders: Holders, peers: Peers
    ) -> None:
        self._accounts = accounts
        self._here = here
        self._holders = holders
        self._peers = peers

    # --- who serves it --------------------------------------------------------------------------

    async def elsewhere(self, account: str | None) -> str | None:
        """Return where an account is served, if that is not here; "" where nobody can be asked.

        A forwarded request is answered here.

        Raises:
            StoreUnavailable: It cannot be looked up.
        """
        name = AccountName(account or "")
        if REQUEST.get().is_forwarded or name not in self._accounts or self._holders.is_ours(name):
            return None
        return await self._holders.address_of(name)

    async def others(self) -> tuple[Mapping[str, AccountName], Sequence[AccountName]]:
        """Return the other gateways that hold accounts: their addresses, and one account of each.

        Beside them the accounts whose holders have no door.

        Raises:
            StoreUnavailable: They cannot be looked up.
        """
        found: dict[str, AccountName] = {}
        doorless: list[AccountName] = []
        for name in self._accounts:
            address = None if self._holders.is_ours(name) else await self._holders.address_of(name)
            if address:
                found.setdefault(address, name)
            elif address == "":
                doorless.append(name)
        return found, doorless

    # --- asking ---------------------------------------------------------------------------------

    async def ask(self, account: str | None, ask: Callable[[Gateway], Awaitable[T]]) -> T:
        """Ask whoever serves an account; ourselves where nobody does, who say so."""
        name = AccountName(account or "")
        address = await self.elsewhere(account)
        if address:
            return await self.ask_at(address, name, ask)
        try:
            # Also where the holder has no door: the record answers for a key that is known.
            return await ask(self._here)
        except Unavailable as e:
            if address is None:
                raise
            raise _without_door(name, e) from e

    async def ask_at(
        self, address: str, account: AccountName, ask: Callable[[Gateway], Awaitable[T]]
    ) -> T:
        """Ask another gateway for as long as it holds the account.

        Raises:
            Unavailable: It holds it no more, and has not answered; reason `OUTCOME_UNKNOWN`.
        """
        async with self._peers.use(address) as there:
            asking = asyncio.ensure_future(ask(there))
            try:
                while not (await asyncio.wait([asking], timeout=_LOOK_AGAIN_S))[0]:
                    if await self._is_held_at(account, address):
                        continue
                    raise Unavailable(
                        f"the gateway at {address} was asked about account {account}, and lost it before "
                        "it answered; ask again with the same key",
                        reason="OUTCOME_UNKNOWN",
                    )
                return asking.result()
            finally:
                if asking.cancel():
                    await asyncio.wait([asking])

    async def _is_held_at(self, account: AccountName, address: str) -> bool:
        try:
            return await self._holders.address_of(account) == address
        except StoreError:
            return True  # Nobody can tell, and it may still answer.

    async def ask_state(self, address: str, ask: Callable[[Gateway], Awaitable[T]]) -> T:
        """Ask another gateway for what it knows, and not for long: without it the record is told.

        Raises:
            TradegwError, TimeoutError: It does not tell.
        """
        async with asyncio.timeout(_PATIENCE_S), self._peers.use(address) as there:
            return await ask(there)

    # --- answers --------------------------------------------------------------------------------

    async def explain(
        self, account: AccountName | None, answers: Sequence[Order | TradegwError]
    ) -> Sequence[Order | TradegwError]:
        """Say more of answers that only tell that the account is served elsewhere."""
        if any(map(_is_not_holder, answers)) and await self._is_doorless(account):
            return [_without_door(account, answer) for answer in answers]
        return answers

    async def _is_doorless(self, account: AccountName | None) -> bool:
        try:
            return await self.elsewhere(account) == ""
        except StoreError:
            return False


def _is_not_holder(answer: Order | TradegwError) -> bool:
    return isinstance(answer, Unavailable) and answer.reason == "NOT_HOLDER"


def _without_door(account: AccountName | None, answer: AnswerT) -> AnswerT | Unavailable:
    """Say more of an answer that only tells that the account is served elsewhere."""
    if not _is_not_holder(answer):
        return answer
    return Unavailable(
        f"account {account} is held by a gateway without a gRPC door, such as one inside a program, or one "
        "that is starting: nobody can hand a request on to it",
        reason="HOLDER_WITHOUT_DOOR",
    )
