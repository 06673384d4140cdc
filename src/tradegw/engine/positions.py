"""Positions are the venue's. Here they are compared with the fold of fills, and never repaired with fills.

What the venue holds beyond the fills of the record is an *offset*: what an account held before its first
fill, or what nobody told of, such as a liquidation. The offset that is found first is the base. Where a later
one differs and stays, the record does not explain the position, and a person has to look.

A fill may reach the record sooner or later than the position. So an offset counts only when two looks found
it the same, further apart than the venue's visibility lag.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from tradegw.engine.account import NS_PER_S, Account
from tradegw.engine.resolver import within
from tradegw.errors import InvalidOrder
from tradegw.model import Fill, Position, Side, plain
from tradegw.model.numbers import CONTEXT, ZERO
from tradegw.plugins import AccountPlugins
from tradegw.venue import FetchPositions

__all__ = ["PositionCheck", "Positions"]

log = logging.getLogger(__name__)

_PAGE = 1000


@dataclass(slots=True)
class _Seen:
    offset: Decimal
    since_ns: int


class PositionCheck:
    """The comparison of one account. Pure; its base is found anew by each process."""

    def __init__(self) -> None:
        self._folds: dict[str, Decimal] = {}
        self._seen: dict[str, _Seen] = {}
        self._base: dict[str, Decimal] = {}
        self._begun_ns: int | None = None
        self._last_ns = 0

    def count(self, fills: Iterable[Fill]) -> None:
        """Count fills of the record, corrections among them, each once."""
        for fill in fills:
            qty = fill.last_qty if fill.side is Side.BUY else fill.last_qty.copy_negate()
            self._folds[fill.symbol] = CONTEXT.add(self._folds.get(fill.symbol, ZERO), qty)

    def compare(
        self, told: Iterable[Position], *, time_ns: int, lag_ns: int
    ) -> tuple[Mapping[str, Decimal], frozenset[str]]:
        """Compare what the venue holds with the fills counted so far.

        Args:
            told: All that the venue holds; of what is not among it, it holds nothing.
            time_ns: When the venue told, by its clock.
            lag_ns: For so long the venue may show a position and not yet its fill, or the reverse.

        Returns:
            What is held beyond what the fills explain, by symbol, and where such a difference is new.
        """
        held = {position.symbol: position.qty for position in told}
        if self._begun_ns is None:
            self._begun_ns = self._last_ns = time_ns
        unexplained: dict[str, Decimal] = {}
        fresh: set[str] = set()
        for symbol in held.keys() | self._folds.keys() | self._seen.keys():
            offset = CONTEXT.subtract(held.get(symbol, ZERO), self._folds.get(symbol, ZERO))
            seen = self._seen.get(symbol)
            if seen is None:
                # Until now nothing of it was held or filled.
                seen = self._seen[symbol] = _Seen(ZERO, self._begun_ns)
                if self._last_ns - self._begun_ns > lag_ns:
                    self._base[symbol] = ZERO
            if seen.offset != offset:
                seen.offset, seen.since_ns = offset, time_ns
            is_settled = time_ns - seen.since_ns > lag_ns
            if is_settled:
                self._base.setdefault(symbol, offset)
            base = self._base.get(symbol, offset)
            if offset == base:
                continue
            if is_settled:
                unexplained[symbol] = CONTEXT.subtract(offset, base)
            else:
                fresh.add(symbol)
        self._last_ns = time_ns
        return unexplained, frozenset(fresh)


class Positions:
    """Asks the venue for the positions of one account, and says what the record does not explain."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._check = PositionCheck()
        self._read_until: int | None = None

    async def look(self, venue: AccountPlugins) -> None:
        """Compare once; `account.unexplained` has what came of it.

        Raises:
            VenueError: The venue does not tell.
            StoreError: The store failed.
        """
        account = self._account
        if not venue.account.capabilities.positions:
            return
        if self._read_until is None:
            self._read_until = (await account.store.get_head(account.account)).seq
        await self._count_new()
        page = await within(venue.fetch(FetchPositions()))
        if await self._count_new():
            # Nobody knows whether the venue's answer has these in it. There will be a quieter moment.
            return
        unexplained, fresh = self._check.compare(
            page.items,
            time_ns=page.as_of.time_ns,
            lag_ns=int(venue.account.capabilities.visibility_lag_s * NS_PER_S),
        )
        # Before anybody is alarmed, the fills are read: they may be all that was missed.
        account.touched.update(dict.fromkeys(fresh, account.venue_now().time_ns))
        self._tell(unexplained)

    async def _count_new(self) -> bool:
        account = self._account
        assert self._read_until is not None
        is_any = False
        head = await account.store.get_head(account.account)
        while True:
            try:
                fills = await account.store.list_stream_fills(
                    account.account, after_seq=self._read_until, limit=_PAGE
                )
            except InvalidOrder as e:
                log.warning("account %s: positions are compared anew: %s", account.account, e)
                self._check, self._read_until = PositionCheck(), head.seq
                return True
            self._check.count(fills)
            if fills:
                is_any, self._read_until = True, fills[-1].seq
            if len(fills) < _PAGE:
                # Events without fills too: what lies behind us may be archived.
                self._read_until = max(self._read_until, head.seq)
                return is_any

    def _tell(self, unexplained: Mapping[str, Decimal]) -> None:
        account = self._account
        for symbol in account.unexplained.keys() - unexplained.keys():
            log.warning(
                "account %s: its position of %s is explained again", account.account, symbol
            )
        for symbol, qty in unexplained.items():
            if account.unexplained.get(symbol) != qty:
                log.error(
                    "ALARM account %s: POSITION_MISMATCH: the venue's position of %s differs by %s from "
                    "what the fills explain",
                    account.account,
                    symbol,
                    plain(qty),
                )
        account.unexplained = unexplained
