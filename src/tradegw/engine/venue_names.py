"""Gives orders their names at a venue, in the form that the venue takes."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from tradegw.engine.venue_ids import hex32
from tradegw.errors import StoreError, Unavailable
from tradegw.model import AccountId, AccountName, OrderId, VenueClientOrderId
from tradegw.ports import Clock, Store
from tradegw.venue import ClientIdCodec

__all__ = ["Nonces", "VenueNames"]

_BLOCK: Final = 1_000
_NUMBER_MAX: Final = 2**32 - 1
_EPOCH_S: Final = 1_767_225_600
"""2026 began. An account that never took a number begins later the later it is, so that one whose store was
lost does not give the names of its old orders again: ahead of whoever placed fewer than 16 a second. Another
gateway, or another account, begins elsewhere: some share what they trade with."""
_FIRST_PER_S: Final = 16
_FIRST_MAX: Final = 2**31


class VenueNames:
    """The names of one account's orders."""

    def __init__(
        self, account_id: AccountId, account: AccountName, tag: str, store: Store, clock: Clock
    ) -> None:
        self._account_id = account_id
        digest = hashlib.sha256(f"{tag}/{account}".encode()).digest()
        self._offset = int.from_bytes(digest[:8], "big")
        self._tag = tag
        self._store = store
        self._clock = clock
        self._numbers: range = range(0)
        self._taking = asyncio.Lock()

    async def take(
        self, codec: ClientIdCodec, order_id: OrderId, generation: int
    ) -> VenueClientOrderId:
        """Return a name that no other order of the account has, nor another incarnation of this one.

        Raises:
            Unavailable: The store gives no numbers, or all are used up. Nothing was stored of the order.
        """
        match codec:
            case ClientIdCodec.HEX32:
                return hex32(self._tag, order_id, generation)
            case ClientIdCodec.UINT32:
                return VenueClientOrderId(str(await self._number()))

    async def _number(self) -> int:
        while not self._numbers:
            async with self._taking:
                if not self._numbers:
                    self._numbers = await self._block()
        number, self._numbers = self._numbers[0], self._numbers[1:]
        return number

    async def _block(self) -> range:
        since_s = max(0, self._clock.time_ns() // 1_000_000_000 - _EPOCH_S)
        first = (self._offset + since_s * _FIRST_PER_S) % _FIRST_MAX
        try:
            numbers = await self._store.take_client_numbers(
                self._account_id, count=_BLOCK, first=first
            )
        except StoreError as e:
            raise Unavailable(str(e), reason=e.reason) from e
        if numbers.stop > _NUMBER_MAX:
            raise Unavailable(
                "this account has used all 4294967295 names that its venue has for orders; trade on under "
                "another account name",
                reason="NAMES_USED_UP",
            )
        return numbers


class Nonces:
    """Milliseconds that rise with each call, for all accounts of a gateway: some share a key."""

    def __init__(self) -> None:
        self._last = 0

    def next(self, time_ns: int) -> int:
        """Return a nonce at or just after `time_ns`."""
        self._last = max(self._last + 1, time_ns // 1_000_000)
        return self._last
