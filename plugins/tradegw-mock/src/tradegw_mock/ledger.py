"""The exchange's own books, as the native door shows them: a witness that knows nothing of the gateway."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from tradegw_mock.config import read_address
from tradegw_mock.exchange import AccountState, AuditRecord, Balance, Fill, Order
from tradegw_mock.native.protocol import decode_answer, decode_frame, encode
from tradegw_mock.requests import (
    AnswerError,
    GetBalances,
    ListAccounts,
    ListAudit,
    Listed,
    ListFills,
    ListOrders,
    Question,
)

__all__ = ["Ledger", "LedgerClient"]

TIMEOUT_S = 30.0


class Ledger(Struct, frozen=True, kw_only=True):
    """All that the exchange has on record, of one account or of all users.

    Taken page by page, so it is a picture of one moment only while nobody trades.

    Attributes:
        orders: By rising id, open and closed.
        fills: By rising trade id; of two users who traded both sides.
        balances: By account, then by asset.
    """

    instance_id: str
    time_ns: int
    accounts: tuple[AccountState, ...]
    orders: tuple[Order, ...]
    fills: tuple[Fill, ...]
    balances: dict[str, dict[str, Balance]]


class LedgerClient:
    """Reads the ledger through a native door. Synchronous, for tests and for people.

    Raises:
        OSError: From every method: no connection, or it broke.
        AnswerError: From every method: the exchange refused, such as an unknown account.
    """

    def __init__(self, url: str) -> None:
        """Connect to `HOST:PORT`."""
        self._socket = socket.create_connection(read_address(url), timeout=TIMEOUT_S)
        self._lines = self._socket.makefile("rb")

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def read(self, account: str = "") -> Ledger:
        """Read everything of an account, or (without) of all users: neither maker nor house."""
        listed = self._ask(ListAccounts())
        users = [a for a in listed.accounts if a.kind == "USER" and account in ("", a.name)]
        names = [account] if account else [a.name for a in users]
        return Ledger(
            instance_id=listed.instance_id,
            time_ns=listed.time_ns,
            accounts=tuple(users),
            orders=tuple(order for name in names for order in self.orders(name)),
            fills=tuple(fill for name in names for fill in self.fills(name)),
            balances={name: self.balances(name) for name in names},
        )

    def orders(self, account: str = "") -> Iterator[Order]:
        """Read all orders by rising id; without account the maker's with fills, too."""
        for page in self._pages(ListOrders(account=account)):
            yield from page.orders

    def fills(self, account: str = "") -> Iterator[Fill]:
        """Read all fills by rising trade id; without account the maker's, too."""
        for page in self._pages(ListFills(account=account)):
            yield from page.fills

    def balances(self, account: str) -> dict[str, Balance]:
        """Read the balances of an account, by asset."""
        return {b.asset: b for b in self._ask(GetBalances(account=account)).balances}

    def audit(self, account: str = "") -> Iterator[AuditRecord]:
        """Read the audit trail by rising number."""
        for page in self._pages(ListAudit(account=account)):
            yield from page.audit

    def _pages(self, request: ListOrders | ListFills | ListAudit) -> Iterator[Listed]:
        after: int | None = 0
        while after is not None:
            page = self._ask(replace(request, after=after))
            yield page
            after = page.next_after

    def _ask(self, request: Question) -> Listed:
        self._socket.sendall(encode(replace(request, id=1, witness=True)))
        line = self._lines.readline()
        if not line:
            raise ConnectionResetError("the mock exchange closed the connection")
        frame = decode_frame(line)
        if frame.error is not None:
            raise AnswerError(frame.error.code, frame.error.text)
        if not bytes(frame.ok):
            raise ValueError("an answer has ok or error; found neither")
        return decode_answer(frame.ok, Listed)
