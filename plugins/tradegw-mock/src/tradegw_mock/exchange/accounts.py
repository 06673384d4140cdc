"""Accounts and their funds: what is free, what is held, and that nothing appears or vanishes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import ROUND_DOWN, Context, Decimal
from typing import Final

from .errors import Refusal, RefusalCode
from .model import (
    AMOUNT_STEP,
    ZERO,
    AccountKind,
    AccountState,
    Balance,
    BalanceChange,
    Order,
)

HOUSE: Final = "house"
OUTSIDE: Final = "outside"
"""Who trades with an order outside the book. Brings in what it gives, so that the sums stay true."""
DEFAULT_FEE: Final = Decimal("0.001")
MAX_AMOUNT: Final = Decimal("1E15")

_NAME: Final = re.compile(r"[\w.:@/-]{1,64}", re.ASCII)
_FEE_ROUNDING: Final = Context(prec=60, rounding=ROUND_DOWN, traps=[])


class Wallet:
    """One account's funds in one asset."""

    __slots__ = ("account", "asset", "free", "held", "touched")

    def __init__(self, account: str, asset: str) -> None:
        self.account = account
        self.asset = asset
        self.free = ZERO
        self.held = ZERO
        self.touched = False


class Account:
    """An account: fees, funds, and the ids of its open orders."""

    __slots__ = (
        "by_client_id",
        "created_time_ns",
        "kind",
        "last_event",
        "maker_fee",
        "name",
        "open_ids",
        "taker_fee",
        "wallets",
    )

    def __init__(self, state: AccountState) -> None:
        self.name = state.name
        self.kind = state.kind
        self.maker_fee = state.maker_fee
        self.taker_fee = state.taker_fee
        self.created_time_ns = state.created_time_ns
        self.last_event = state.last_event
        self.wallets: dict[str, Wallet] = {}
        self.open_ids: dict[int, None] = {}
        self.by_client_id: dict[str, int] = {}

    def state(self) -> AccountState:
        """Give the account as a value."""
        return AccountState(
            name=self.name,
            kind=self.kind,
            maker_fee=self.maker_fee,
            taker_fee=self.taker_fee,
            created_time_ns=self.created_time_ns,
            last_event=self.last_event,
        )

    def opened(self, order: Order) -> None:
        """Remember an open order."""
        self.open_ids[order.order_id] = None
        if order.client_order_id is not None:
            self.by_client_id[order.client_order_id] = order.order_id

    def closed(self, order: Order) -> None:
        """Forget an order that closed; its client order id is free again."""
        del self.open_ids[order.order_id]
        if order.client_order_id is not None:
            del self.by_client_id[order.client_order_id]


class Ledger:
    """All accounts. Wallets that change are noted until `take_changes`."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.funding: dict[str, Decimal] = {}
        """Deposits minus withdrawals of each asset, which all balances must add up to."""
        self._touched: list[tuple[Wallet, Decimal, Decimal]] = []

    def __iter__(self) -> Iterator[Account]:
        return iter(self.accounts.values())

    def account(self, name: str) -> Account:
        """Give an account.

        Raises:
            Refusal: UNKNOWN_ACCOUNT.
        """
        try:
            return self.accounts[name]
        except KeyError:
            raise Refusal(
                RefusalCode.UNKNOWN_ACCOUNT, f"no account is named {name[:80]!r}"
            ) from None

    def touch(self, account: Account, asset: str) -> Wallet:
        """Give a wallet about to change."""
        wallet = account.wallets.get(asset)
        if wallet is None:
            wallet = account.wallets[asset] = Wallet(account.name, asset)
        if not wallet.touched:
            wallet.touched = True
            self._touched.append((wallet, wallet.free, wallet.held))
        return wallet

    def free(self, account: Account, asset: str) -> Decimal:
        """Give what an account may spend."""
        wallet = account.wallets.get(asset)
        return ZERO if wallet is None else wallet.free

    def require(self, account: Account, asset: str, amount: Decimal) -> None:
        """Refuse unless an amount is free.

        Raises:
            Refusal: INSUFFICIENT_FUNDS.
        """
        free = self.free(account, asset)
        if free < amount:
            raise Refusal(
                RefusalCode.INSUFFICIENT_FUNDS,
                f"{account.name} needs {amount:f} {asset} and has {free:f} free",
            )

    def hold(self, account: Account, asset: str, amount: Decimal) -> None:
        """Move an amount from free to held; a negative one moves back."""
        if amount:
            wallet = self.touch(account, asset)
            wallet.free -= amount
            wallet.held += amount
            assert wallet.free >= 0 <= wallet.held

    def fund(self, account: Account, asset: str, amount: Decimal) -> None:
        """Let an amount enter the exchange; a negative one leaves it."""
        wallet = self.touch(account, asset)
        wallet.free += amount
        self.funding[asset] = self.funding.get(asset, ZERO) + amount

    def take_changes(self) -> tuple[BalanceChange, ...]:
        """Give the balances that moved since the last call, in the order of their first touch."""
        changes: list[BalanceChange] = []
        for wallet, free, held in self._touched:
            wallet.touched = False
            if wallet.free != free or wallet.held != held:
                changes.append(
                    BalanceChange(
                        account=wallet.account,
                        asset=wallet.asset,
                        free=wallet.free,
                        held=wallet.held,
                        free_delta=wallet.free - free,
                        held_delta=wallet.held - held,
                    )
                )
        self._touched.clear()
        return tuple(changes)

    def restore(self, state: AccountState, balances: tuple[Balance, ...]) -> None:
        """Take an account over from a store."""
        account = self.accounts[state.name] = Account(state)
        for balance in balances:
            wallet = account.wallets[balance.asset] = Wallet(state.name, balance.asset)
            wallet.free, wallet.held = balance.free, balance.held

    def add(
        self, name: str, kind: AccountKind, maker_fee: Decimal, taker_fee: Decimal, time_ns: int
    ) -> Account:
        """Open an account without funds.

        Raises:
            Refusal: BAD_ACCOUNT_NAME, ACCOUNT_EXISTS.
        """
        if not _NAME.fullmatch(name):
            raise Refusal(
                RefusalCode.BAD_ACCOUNT_NAME,
                f"a name has 1 to 64 letters, digits or ._:@/-, found {name[:80]!r}",
            )
        if name in self.accounts:
            raise Refusal(RefusalCode.ACCOUNT_EXISTS, f"an account named {name!r} exists")
        account = self.accounts[name] = Account(
            AccountState(
                name=name,
                kind=kind,
                maker_fee=maker_fee,
                taker_fee=taker_fee,
                created_time_ns=time_ns,
                last_event=0,
            )
        )
        return account


def fee_on(amount: Decimal, rate: Decimal) -> Decimal:
    """Compute a fee, rounded down to eight places in the payer's favour."""
    if not rate:
        return ZERO
    return _FEE_ROUNDING.quantize(amount * rate, AMOUNT_STEP)


def check_amount(amount: Decimal) -> None:
    """Refuse an amount that no balance could show.

    Raises:
        Refusal: AMOUNT_INVALID.
    """
    if not amount.is_finite() or not 0 < amount <= MAX_AMOUNT or amount % AMOUNT_STEP:
        raise Refusal(
            RefusalCode.AMOUNT_INVALID,
            f"an amount is above 0, at most {MAX_AMOUNT:f} and a multiple of {AMOUNT_STEP:f}, "
            f"found {amount}",
        )
