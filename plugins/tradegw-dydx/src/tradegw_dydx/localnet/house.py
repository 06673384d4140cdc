"""The house: an account without a key that quotes around the oracle's price, so that there is a market."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Final

from tradegw_dydx.localnet.accounts import address_of
from tradegw_dydx.localnet.chain import Chain
from tradegw_dydx.localnet.ledger import Pair, Status
from tradegw_dydx.localnet.memclob import Memclob, Reason
from tradegw_dydx.localnet.terms import (
    Flags,
    Order,
    OrderId,
    Refused,
    Side,
    SubaccountId,
    TimeInForce,
)

__all__ = ["House"]

_USDC: Final = 10**12 * 10**6
_LEVELS: Final = 5
_SPACING_PPM: Final = 200
_LEVEL_VALUE: Final = 20_000 * 10**6
"""What each level is worth, in millionths of a dollar."""
_REFRESH_BLOCKS: Final = 2


class House:
    """Places its orders straight into the books: it has no key, and no limits."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        # No one's key: a hash cannot be signed for.
        self.subaccount = SubaccountId(address_of(hashlib.sha256(b"house").digest()), 0)
        chain.add_account(self.subaccount.owner, _USDC)
        self._client_id = 0
        self._quotes: dict[tuple[int, Side, int], Order] = {}

    def quote(self, books: list[Memclob]) -> None:
        """Put back what was taken, ended, or is off the oracle's price."""
        if not self._chain.settings.house:
            return
        fresh: list[Order] = []
        for pair in self._chain.pairs.values():
            for side in (Side.BUY, Side.SELL):
                for level in range(_LEVELS):
                    key = (pair.clob_pair_id, side, level)
                    held = self._quotes.get(key)
                    wanted = self._wanted(pair, side, level)
                    if held is not None and (
                        wanted is None or not self._stands(held, wanted, books)
                    ):
                        for book in books:
                            if book.find(held.order_id) is not None:
                                book.remove(held.order_id, Reason.USER_CANCELED)
                        del self._quotes[key]
                        held = None
                    if held is None and wanted is not None:
                        self._quotes[key] = wanted
                        fresh.append(wanted)
        # All old quotes are gone first: the house does not trade with itself.
        for order in fresh:
            self._place(order, books)

    def immediate(self, pair_id: int, side: Side, quantums: int, subticks: int) -> Order:
        """Return an order of the house that takes, or goes."""
        return self._order(pair_id, side, quantums, subticks, TimeInForce.IOC)

    def _place(self, order: Order, books: list[Memclob]) -> None:
        for book in books:
            try:
                book.place(order)
            except Refused:
                # Only where the house itself is short, which its means rule out.
                continue

    def _stands(self, held: Order, wanted: Order, books: list[Memclob]) -> bool:
        if held.subticks != wanted.subticks:
            return False
        if held.good_til_block <= self._chain.height + _REFRESH_BLOCKS:
            return False
        return all(
            book.find(held.order_id) is not None and book.ledger.remaining(held) * 2 > held.quantums
            for book in books
        )

    def _wanted(self, pair: Pair, side: Side, level: int) -> Order | None:
        if pair.status != Status.ACTIVE:
            return None
        away = Fraction((level + 1) * _SPACING_PPM, 1_000_000)
        price = pair.oracle_subticks * (1 - away if side is Side.BUY else 1 + away)
        ticks = price // pair.subticks_per_tick + (0 if side is Side.BUY else 1)
        subticks = max(ticks, 1) * pair.subticks_per_tick
        unit = pair.quote_quantums(pair.step_base_quantums, subticks) or 1
        steps = max(1, _LEVEL_VALUE // unit)
        return self._order(
            pair.clob_pair_id,
            side,
            steps * pair.step_base_quantums,
            subticks,
            TimeInForce.UNSPECIFIED,
        )

    def _order(
        self, pair_id: int, side: Side, quantums: int, subticks: int, time_in_force: TimeInForce
    ) -> Order:
        self._client_id = (self._client_id + 1) % 2**32
        order_id = OrderId(self.subaccount, self._client_id, Flags.SHORT_TERM, pair_id)
        return Order(
            order_id=order_id,
            side=side,
            quantums=quantums,
            subticks=subticks,
            good_til_block=self._chain.height + self._chain.settings.block_window,
            time_in_force=time_in_force,
            digest=self._client_id.to_bytes(32, "big"),
        )
