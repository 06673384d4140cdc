"""The exchange: one object that takes requests, answers queries and tells what changed.

Synchronous and deterministic: time comes from the clock it is given, and nothing else from
outside. One thread at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, localcontext
from itertools import islice
from typing import Final

from .accounts import DEFAULT_FEE, OUTSIDE, Account, check_amount
from .core import Core
from .errors import Refusal, RefusalCode
from .invariants import violations, violations_now
from .market import Draft
from .model import (
    EXACT,
    AccountKind,
    AccountState,
    ApiKey,
    AuditRecord,
    Balance,
    Change,
    Depth,
    Fill,
    Instrument,
    KeyKind,
    MarketState,
    Operation,
    Order,
    OrderPage,
    OrderRequest,
    ReferencePrice,
)
from .rules import check_request

_API_KEY: Final = re.compile(r"[a-zA-Z0-9_-]{8,128}")
_SECRET_MAX: Final = 4000
"""Characters; a public key in PEM is the longest."""


class Exchange(Core):
    """A spot exchange in miniature.

    Each mutating method returns the one `Change` that it made, after the journal has committed
    it (where there is one) and every listener has seen it; or raises `Refusal`, whose `change`
    is on record too, and which had no effect. A mutating method that raises anything else has
    left the exchange in a state that nobody can vouch for: every later one raises
    `ExchangeBroken`.

    Args:
        instruments: What trades.
        clock: Nanoseconds since the epoch.
        state: Where to go on from, as a store loaded it; None for a new exchange.
        archive: Where the past beyond memory is; see `History`.
        journal: Called with each change before anyone hears of it. For group commit leave it
            out: listen, commit in batches, call `committed`, and only then answer.
        history_bound: Closed orders kept in memory.
    """

    # Accounts

    def create_account(
        self,
        name: str,
        *,
        kind: AccountKind = AccountKind.USER,
        balances: Mapping[str, Decimal] | None = None,
        maker_fee: Decimal = DEFAULT_FEE,
        taker_fee: Decimal = DEFAULT_FEE,
    ) -> Change:
        """Open an account and deposit its first funds, in one change.

        Raises:
            Refusal: BAD_ACCOUNT_NAME, ACCOUNT_EXISTS, UNKNOWN_ASSET, AMOUNT_INVALID, MALFORMED.
        """
        funds = dict(balances or {})

        def act(draft: Draft) -> None:
            for asset, amount in funds.items():
                self._check_funding(asset, amount)
            _check_fees(maker_fee, taker_fee)
            account = self._ledger.add(name, kind, maker_fee, taker_fee, draft.time_ns)
            draft.accounts[name] = account
            for asset, amount in funds.items():
                self._ledger.fund(account, asset, amount)

        arguments = {"kind": str(kind), "maker_fee": str(maker_fee), "taker_fee": str(taker_fee)}
        arguments |= {asset: str(amount) for asset, amount in funds.items()}
        return self._run(Operation.CREATE_ACCOUNT, name, act, arguments=arguments)

    def set_fees(self, account: str, *, maker_fee: Decimal, taker_fee: Decimal) -> Change:
        """Change what an account pays from its next trade on, as fractions of what it receives.

        Raises:
            Refusal: UNKNOWN_ACCOUNT, MALFORMED.
        """

        def act(draft: Draft) -> None:
            found = self._ledger.account(account)
            _check_fees(maker_fee, taker_fee)
            found.maker_fee, found.taker_fee = maker_fee, taker_fee
            draft.accounts[account] = found

        arguments = {"maker_fee": str(maker_fee), "taker_fee": str(taker_fee)}
        return self._run(Operation.SET_FEES, account, act, arguments=arguments)

    def deposit(self, account: str, asset: str, amount: Decimal) -> Change:
        """Add funds.

        Raises:
            Refusal: UNKNOWN_ACCOUNT, UNKNOWN_ASSET, AMOUNT_INVALID.
        """

        def act(draft: Draft) -> None:
            found = self._ledger.account(account)
            self._check_funding(asset, amount)
            self._ledger.fund(found, asset, amount)

        arguments = {"asset": asset, "amount": str(amount)}
        return self._run(Operation.DEPOSIT, account, act, arguments=arguments)

    def withdraw(self, account: str, asset: str, amount: Decimal) -> Change:
        """Take free funds out.

        Raises:
            Refusal: As `deposit`, and INSUFFICIENT_FUNDS.
        """

        def act(draft: Draft) -> None:
            found = self._ledger.account(account)
            self._check_funding(asset, amount)
            self._ledger.require(found, asset, amount)
            self._ledger.fund(found, asset, -amount)

        arguments = {"asset": asset, "amount": str(amount)}
        return self._run(Operation.WITHDRAW, account, act, arguments=arguments)

    def create_api_key(
        self,
        account: str,
        *,
        api_key: str,
        secret: str,
        kind: KeyKind = KeyKind.HMAC,
        can_trade: bool = True,
    ) -> Change:
        """Let whoever holds a key act for an account. The same key with the same secret twice is fine.

        Args:
            secret: What signatures are checked with; see `ApiKey`.

        Raises:
            Refusal: UNKNOWN_ACCOUNT, BAD_API_KEY.
        """

        def act(draft: Draft) -> None:
            self._ledger.account(account)
            if not _API_KEY.fullmatch(api_key):
                raise Refusal(
                    RefusalCode.BAD_API_KEY,
                    f"an API key has 8 to 128 letters, digits or _-, found {len(api_key)} characters",
                )
            if not 0 < len(secret) <= _SECRET_MAX:
                raise Refusal(
                    RefusalCode.BAD_API_KEY, f"a secret has 1 to {_SECRET_MAX} characters"
                )
            known = self._api_keys.get(api_key)
            key = ApiKey(
                api_key=api_key,
                account=account,
                kind=kind,
                secret=secret,
                can_trade=can_trade,
                created_time_ns=draft.time_ns if known is None else known.created_time_ns,
            )
            if known == key:
                return
            if known is not None:
                raise Refusal(RefusalCode.BAD_API_KEY, f"API key {api_key} is in use")
            self._api_keys[api_key] = key
            draft.api_keys.append(key)

        arguments = {"api_key": api_key, "kind": str(kind), "can_trade": str(can_trade)}
        return self._run(Operation.CREATE_API_KEY, account, act, arguments=arguments)

    def delete_api_key(self, account: str, *, api_key: str) -> Change:
        """Take a key away.

        Raises:
            Refusal: UNKNOWN_ACCOUNT, UNKNOWN_API_KEY.
        """

        def act(draft: Draft) -> None:
            self._ledger.account(account)
            known = self._api_keys.get(api_key)
            if known is None or known.account != account:
                raise Refusal(
                    RefusalCode.UNKNOWN_API_KEY, f"{account!r} has no API key {api_key[:40]!r}"
                )
            del self._api_keys[api_key]
            draft.deleted_api_keys.append(api_key)

        arguments = {"api_key": api_key}
        return self._run(Operation.DELETE_API_KEY, account, act, arguments=arguments)

    # Orders

    def place(
        self, account: str, request: OrderRequest, *, valid_until_ns: int | None = None
    ) -> Change:
        """Accept an order; `Change.order` is how it stands after it has worked.

        An order that the book cannot serve (IOC, FOK, an empty book) is accepted and EXPIRED.

        Raises:
            Refusal: Nothing was accepted. REQUEST_EXPIRED when the clock is past
                `valid_until_ns`; otherwise the first rule that the request breaks.
        """

        def act(draft: Draft) -> Order:
            found = self._ledger.account(account)
            return self._engine.place(draft, found, request)

        return self._run(
            Operation.PLACE,
            account,
            act,
            client_order_id=request.client_order_id,
            request=request,
            valid_until_ns=valid_until_ns,
        )

    def check_order(self, account: str, request: OrderRequest) -> None:
        """Refuse what could not be an order on any state of book and funds, without placing it.

        Raises:
            Refusal: UNKNOWN_ACCOUNT, UNKNOWN_SYMBOL, or the first rule that the request breaks.
        """
        self._ledger.account(account)
        market = self._engine.market(request.symbol)
        with localcontext(EXACT):
            check_request(
                market.instrument, request, now_ns=self._clock(), last_price=market.last_price
            )

    def cancel(
        self,
        account: str,
        *,
        order_id: int | None = None,
        client_order_id: str | None = None,
        valid_until_ns: int | None = None,
    ) -> Change:
        """Cancel an open order, named by either id or by both.

        Raises:
            Refusal: UNKNOWN_ORDER (a stranger's included), ORDER_CLOSED, REQUEST_EXPIRED.
        """

        def act(draft: Draft) -> Order:
            order = self._open_order(account, order_id, client_order_id)
            self._engine.cancel(draft, order)
            return order

        return self._run(
            Operation.CANCEL,
            account,
            act,
            client_order_id=client_order_id,
            arguments=_given(order_id=order_id),
            valid_until_ns=valid_until_ns,
        )

    def replace(
        self,
        account: str,
        *,
        order_id: int | None = None,
        client_order_id: str | None = None,
        order_qty: Decimal | None = None,
        price: Decimal | None = None,
        new_client_order_id: str | None = None,
        valid_until_ns: int | None = None,
    ) -> Change:
        """Change price or total quantity (fills included) of an open order, which keeps its id.

        It keeps its place in the queue only when the price stays and the quantity does not grow.

        Args:
            new_client_order_id: What it is called from now on; None for as before.

        Raises:
            Refusal: The order stands as it was.
        """

        def act(draft: Draft) -> Order:
            order = self._open_order(account, order_id, client_order_id)
            found = self._ledger.account(account)
            self._engine.replace(
                draft,
                found,
                order,
                order_qty=order_qty,
                price=price,
                new_client_order_id=new_client_order_id,
            )
            return order

        return self._run(
            Operation.REPLACE,
            account,
            act,
            client_order_id=client_order_id,
            arguments=_given(
                order_id=order_id,
                order_qty=order_qty,
                price=price,
                new_client_order_id=new_client_order_id,
            ),
            valid_until_ns=valid_until_ns,
        )

    def cancel_all(
        self, account: str, *, symbol: str | None = None, valid_until_ns: int | None = None
    ) -> Change:
        """Cancel the open orders of an account, of one symbol or of all; none is fine too.

        Raises:
            Refusal: UNKNOWN_ACCOUNT, UNKNOWN_SYMBOL, REQUEST_EXPIRED.
        """

        def act(draft: Draft) -> None:
            found = self._ledger.account(account)
            if symbol is not None:
                self._engine.market(symbol)
            for order in self._open_orders(found, symbol):
                self._engine.cancel(draft, order)

        return self._run(
            Operation.CANCEL_ALL,
            account,
            act,
            arguments=_given(symbol=symbol),
            valid_until_ns=valid_until_ns,
        )

    def fill_outside(self, account: str, *, order_id: int) -> Change:
        """Fill the rest of an order at its own price, with someone outside the book.

        For faults: what happens is real, to the last digit of every balance, but no other order and
        no price of the market takes part. The order is open, or was canceled.

        Raises:
            Refusal: UNKNOWN_ORDER; ORDER_CLOSED: it cannot trade any more; INSUFFICIENT_FUNDS: it was
                canceled, and its funds are spent; BAD_ACCOUNT_NAME: a user has the name `outside`.
        """

        def act(draft: Draft) -> Order:
            order = self._find_order(self._ledger.account(account), order_id, None)
            if order is None:
                raise _unknown_order(account, order_id, None)
            outside = self._ledger.accounts.get(OUTSIDE)
            if outside is not None and outside.kind is not AccountKind.MAKER:
                raise Refusal(RefusalCode.BAD_ACCOUNT_NAME, f"a user has the name {OUTSIDE!r}")
            return self._engine.fill_outside(draft, order)

        return self._run(Operation.FILL_OUTSIDE, account, act, arguments=_given(order_id=order_id))

    def note_fault(
        self,
        operation: Operation,
        account: str | None,
        *,
        client_order_id: str | None = None,
        order_id: int | None = None,
        arguments: Mapping[str, str],
    ) -> Change:
        """Write a line about a fault to the audit trail; nothing else changes.

        Args:
            operation: FAULT_GIVEN, FAULT_TAKEN_BACK or FAULT_HIT.
            order_id: The order that it hit.
            arguments: What there is to say: fault, kind and what came by.
        """
        assert operation in (Operation.FAULT_GIVEN, Operation.FAULT_TAKEN_BACK, Operation.FAULT_HIT)
        said = dict(arguments)
        if order_id is not None:
            said["order_id"] = str(order_id)
        return self._run(
            operation,
            account,
            lambda draft: None,
            client_order_id=client_order_id,
            arguments=said,
            order_id=order_id,
        )

    def expire_due(self) -> Change | None:
        """Close the orders whose time has come; None when there are none.

        Every mutating call does so first. A host calls this on a timer, so that orders end
        when nothing else happens.
        """
        if not self._engine.has_due(self._clock()):
            return None
        return self._run(Operation.EXPIRE_DUE, None, lambda draft: None)

    # Queries

    def get_order(
        self, account: str, *, order_id: int | None = None, client_order_id: str | None = None
    ) -> Order:
        """Give an order; of a client order id used again, the open one, else the latest.

        Raises:
            Refusal: UNKNOWN_ACCOUNT, UNKNOWN_ORDER.
        """
        order = self._find_order(self._ledger.account(account), order_id, client_order_id)
        if order is None:
            raise _unknown_order(account, order_id, client_order_id)
        return order

    def open_orders(self, account: str, *, symbol: str | None = None) -> list[Order]:
        """List the open orders of an account by rising id.

        Raises:
            Refusal: UNKNOWN_ACCOUNT.
        """
        return self._open_orders(self._ledger.account(account), symbol)

    def order_history(
        self,
        account: str | None,
        *,
        symbol: str | None = None,
        since_ns: int = 0,
        cursor: int = 0,
        limit: int = 500,
        newest: bool = False,
    ) -> OrderPage:
        """List orders, open and closed, by rising id, of one account or (None) of all.

        Args:
            since_ns: Only orders updated at or after this time.
            cursor: Only orders with an id above; a page's `next_cursor` goes on from it.
            newest: The last ones rather than the first; no page follows then.
        """
        if account is None:
            open_orders = list(self._engine.open.values())
        else:
            open_orders = self._open_orders(self._ledger.account(account), symbol)
        orders = self._history.list_orders(
            open_orders,
            account=account,
            symbol=symbol,
            since_ns=since_ns,
            after=cursor,
            limit=limit if newest else limit + 1,
            newest=newest,
        )
        more = len(orders) > limit
        orders = orders[:limit]
        return OrderPage(orders=tuple(orders), next_cursor=orders[-1].order_id if more else None)

    def fills(
        self,
        account: str | None,
        *,
        symbol: str | None = None,
        order_id: int | None = None,
        since_trade_id: int = 0,
        limit: int = 500,
        newest: bool = False,
    ) -> list[Fill]:
        """List the first fills, or the newest, with a trade id above `since_trade_id`, by rising id.

        For all accounts (None) both sides of a trade are listed, and never parted: one more than
        `limit` may come.
        """
        if account is not None:
            self._ledger.account(account)
        return self._history.list_fills(
            account=account,
            symbol=symbol,
            order_id=order_id,
            after=since_trade_id,
            limit=limit,
            newest=newest,
        )

    def balances(self, account: str) -> dict[str, Balance]:
        """Give the funds of an account by asset.

        Raises:
            Refusal: UNKNOWN_ACCOUNT.
        """
        wallets = self._ledger.account(account).wallets.values()
        return {w.asset: Balance(asset=w.asset, free=w.free, held=w.held) for w in wallets}

    def accounts(self) -> list[AccountState]:
        """List all accounts, those of the house and the maker included."""
        return [account.state() for account in self._ledger]

    def find_api_key(self, api_key: str) -> ApiKey | None:
        """Find a key, whose ever it is."""
        return self._api_keys.get(api_key)

    def api_keys(self, account: str) -> list[ApiKey]:
        """List the keys of an account, oldest first.

        Raises:
            Refusal: UNKNOWN_ACCOUNT.
        """
        self._ledger.account(account)
        return [key for key in self._api_keys.values() if key.account == account]

    def instruments(self) -> list[Instrument]:
        """List what trades."""
        return list(self._instruments.values())

    @property
    def last_change(self) -> int:
        """Number of the latest change."""
        return self._change_number

    @property
    def last_trade_id(self) -> int:
        """Id of the latest trade."""
        return self._engine.trade_id

    def count_open_orders(self, account: str) -> int:
        """Count the open orders of an account.

        Raises:
            Refusal: UNKNOWN_ACCOUNT.
        """
        return len(self._ledger.account(account).open_ids)

    def reference_price(self, symbol: str) -> ReferencePrice:
        """Give the last price and the touch.

        Raises:
            Refusal: UNKNOWN_SYMBOL.
        """
        market = self._engine.market(symbol)
        bid, ask = market.bids.best(), market.asks.best()
        return ReferencePrice(
            symbol=symbol,
            last=market.last_price,
            bid=None if bid is None else bid.price,
            ask=None if ask is None else ask.price,
        )

    def depth(self, symbol: str, *, limit: int = 100) -> Depth:
        """Give the best levels of both sides.

        Raises:
            Refusal: UNKNOWN_SYMBOL.
        """
        market = self._engine.market(symbol)
        bids, asks = (
            tuple((level.price, level.total) for level in islice(side.levels(), limit))
            for side in (market.bids, market.asks)
        )
        return Depth(symbol=symbol, bids=bids, asks=asks)

    def audit(self, *, after: int = 0) -> Iterator[AuditRecord]:
        """Walk the audit trail: every request with its decision, every fill and balance moved.

        Numbers rise without gaps. Without a store the oldest lines go when the bound of
        `History` is reached.
        """
        return self._history.audit(after)

    @property
    def audit_lines(self) -> int:
        """How many lines the audit trail has."""
        return self._audit_number

    def funding(self) -> dict[str, Decimal]:
        """Give what was deposited less withdrawals, by asset: what all accounts together have."""
        return dict(self._ledger.funding)

    def check_invariants(self) -> list[str]:
        """List what is wrong with the books: nothing, ever."""
        with localcontext(EXACT):
            return violations(self._engine, self._history)

    def check_books(self) -> list[str]:
        """List what is wrong with funds, holds and books as they stand, without the past: it is quick."""
        with localcontext(EXACT):
            return violations_now(self._engine)

    @property
    def has_forgotten(self) -> bool:
        """Whether something of the past is gone that no archive has: not found says little then."""
        return self._history.lost

    def market_state(self, symbol: str) -> MarketState:
        """Give what a symbol remembers beside its orders.

        Raises:
            Refusal: UNKNOWN_SYMBOL.
        """
        return self._engine.market(symbol).state()

    def _check_funding(self, asset: str, amount: Decimal) -> None:
        if asset not in self._assets:
            raise Refusal(RefusalCode.UNKNOWN_ASSET, f"no instrument has the asset {asset[:40]!r}")
        check_amount(amount)

    def _open_orders(self, account: Account, symbol: str | None) -> list[Order]:
        orders = [self._engine.open[order_id] for order_id in sorted(account.open_ids)]
        return [order for order in orders if symbol is None or order.symbol == symbol]

    def _find_order(
        self, account: Account, order_id: int | None, client_order_id: str | None
    ) -> Order | None:
        if order_id is not None:
            order = self._engine.open.get(order_id) or self._history.find_order(order_id)
        elif client_order_id is not None:
            open_id = account.by_client_id.get(client_order_id)
            if open_id is not None:
                return self._engine.open[open_id]
            order = self._history.find_latest(account.name, client_order_id)
        else:
            raise Refusal(RefusalCode.MALFORMED, "order_id or client_order_id is expected")
        if order is None or order.account != account.name:
            return None
        if client_order_id is not None and order.client_order_id != client_order_id:
            return None
        return order

    def _open_order(self, account: str, order_id: int | None, client_order_id: str | None) -> Order:
        order = self._find_order(self._ledger.account(account), order_id, client_order_id)
        if order is None:
            raise _unknown_order(account, order_id, client_order_id)
        if not order.is_open:
            raise Refusal(
                RefusalCode.ORDER_CLOSED, f"order {order.order_id} is {order.ord_status} already"
            )
        return order


def _unknown_order(account: str, order_id: int | None, client_order_id: str | None) -> Refusal:
    named = _given(order_id=order_id, client_order_id=client_order_id)
    return Refusal(RefusalCode.UNKNOWN_ORDER, f"{account[:80]!r} has no order with {named}")


def _check_fees(*fees: Decimal) -> None:
    for fee in fees:
        if not fee.is_finite() or not 0 <= fee < 1:
            raise Refusal(RefusalCode.MALFORMED, f"a fee is at least 0 and below 1, found {fee}")


def _given(**arguments: object) -> dict[str, str]:
    return {name: str(value) for name, value in arguments.items() if value is not None}
