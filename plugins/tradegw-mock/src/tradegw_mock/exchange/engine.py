"""The engine: takes requests, lets orders wait, work and rest. Single-threaded and without I/O.

Every method either refuses before it changes anything, or does all that it names. Notes of what
changed go to a `Draft`, from which the exchange makes one `Change` for each request.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Mapping
from decimal import Decimal

from msgspec.structs import replace

from .accounts import OUTSIDE, Account, Ledger
from .errors import Refusal, RefusalCode
from .market import Draft, Market
from .matching import Matching, Reason, fires_rising
from .model import (
    ZERO,
    AccountKind,
    ExecType,
    Instrument,
    Liquidity,
    Order,
    OrderRequest,
    OrdStatus,
    OrdType,
    Print,
    Side,
    TimeInForce,
)
from .rules import (
    check_client_order_id,
    check_notional,
    check_price,
    check_qty,
    check_request,
)

_BUY = Side.BUY
_MAKER = Liquidity.MAKER
_TAKER = Liquidity.TAKER


def can_fill_outside(order: Order) -> bool:
    """Tell whether an order could have met someone outside the book: it has a limit, and it worked."""
    if order.price is None or order.order_qty is None or order.order_qty == order.cum_qty:
        return False
    if order.trigger_price is not None and not order.triggered:
        return False
    return order.is_open or order.ord_status is OrdStatus.CANCELED


class Engine(Matching):
    """All markets of the exchange."""

    def __init__(self, instruments: Mapping[str, Instrument], ledger: Ledger) -> None:
        super().__init__(instruments, ledger)
        self.order_id = 0

    def market(self, symbol: str) -> Market:
        """Give a market.

        Raises:
            Refusal: UNKNOWN_SYMBOL.
        """
        try:
            return self.markets[symbol]
        except KeyError:
            raise Refusal(RefusalCode.UNKNOWN_SYMBOL, f"no symbol {symbol[:40]!r} trades") from None

    # Requests

    def place(self, draft: Draft, account: Account, request: OrderRequest) -> Order:
        """Accept an order, and let it trade, wait or rest.

        Raises:
            Refusal: Nothing changed.
        """
        market = self.market(request.symbol)
        instrument = market.instrument
        last = market.last_price
        check_request(instrument, request, now_ns=draft.time_ns, last_price=last)
        if request.client_order_id is not None:
            self._refuse_duplicate(account, request.client_order_id)
        trigger = request.trigger_price
        if trigger is not None and last is not None:
            rising = fires_rising(request.side, request.ord_type)
            if last >= trigger if rising else last <= trigger:
                raise Refusal(
                    RefusalCode.TRIGGER_WOULD_FIRE,
                    f"the last price {last:f} is past trigger_price {trigger:f} already",
                )
        if request.post_only:
            self._refuse_crossing(market, request.side, request.price)
        held = self._hold_for(market, account, request)
        asset = instrument.quote if request.side is _BUY else instrument.base
        self.ledger.require(account, asset, held)
        self.ledger.hold(account, asset, held)
        self.order_id += 1
        order = Order(
            order_id=self.order_id,
            account=account.name,
            symbol=request.symbol,
            client_order_id=request.client_order_id,
            side=request.side,
            ord_type=request.ord_type,
            time_in_force=request.time_in_force,
            order_qty=request.order_qty,
            quote_qty=request.quote_qty,
            price=request.price,
            trigger_price=trigger,
            triggered=False,
            post_only=request.post_only,
            expire_time_ns=request.expire_time_ns,
            self_trade_prevention=request.self_trade_prevention,
            ord_status=OrdStatus.NEW,
            cum_qty=ZERO,
            cum_quote=ZERO,
            held=held,
            priority=0,
            created_time_ns=draft.time_ns,
            updated_time_ns=draft.time_ns,
            working_time_ns=None if trigger is not None else draft.time_ns,
        )
        self.open[order.order_id] = order
        account.opened(order)
        if order.expire_time_ns is not None:
            insort(self._expiries, (order.expire_time_ns, order.order_id))
        draft.record(account, ExecType.NEW, order)
        if trigger is not None:
            self._wait(market, order, trigger)
        else:
            self._work(draft, market, account, order)
        return order

    def cancel(self, draft: Draft, order: Order, *, reason: str = Reason.USER_CANCEL) -> None:
        """Close an open order at its owner's wish."""
        self._withdraw(order)
        self._close(draft, order, OrdStatus.CANCELED, reason)

    def replace(
        self,
        draft: Draft,
        account: Account,
        order: Order,
        *,
        order_qty: Decimal | None,
        price: Decimal | None,
        new_client_order_id: str | None = None,
    ) -> None:
        """Change total quantity or price of an open order, which keeps its id.

        It keeps its place in the queue only when the price stays and the quantity does not grow.

        Raises:
            Refusal: Nothing changed.
        """
        market = self.markets[order.symbol]
        instrument = market.instrument
        if order.order_qty is None:
            raise Refusal(RefusalCode.MALFORMED, "an order sized by quote_qty cannot be replaced")
        if price is not None and order.price is None:
            raise Refusal(RefusalCode.MALFORMED, f"a {order.ord_type} order has no price")
        new_qty = order.order_qty if order_qty is None else order_qty
        new_price = order.price if price is None else price
        check_qty(instrument, new_qty)
        if new_price is not None:
            check_price(instrument, new_price, "price")
        expected = new_price or order.trigger_price
        assert expected is not None
        check_notional(instrument, new_qty * expected)
        if new_qty <= order.cum_qty:
            raise Refusal(
                RefusalCode.QTY_NOT_ABOVE_FILLED,
                f"order_qty is the total, fills included: {order.cum_qty:f} is filled, "
                f"found {new_qty:f}",
            )
        if order.post_only:
            self._refuse_crossing(market, order.side, new_price)
        client_order_id = order.client_order_id
        if new_client_order_id is not None and new_client_order_id != client_order_id:
            client_order_id = new_client_order_id
            check_client_order_id(client_order_id)
            self._refuse_duplicate(account, client_order_id)
        leaves = new_qty - order.cum_qty
        buy = order.side is _BUY
        asset = instrument.quote if buy else instrument.base
        held = leaves * expected if buy else leaves
        if held > order.held:
            self.ledger.require(account, asset, held - order.held)

        self.ledger.hold(account, asset, held - order.held)
        keeps_place = new_price == order.price and new_qty <= order.order_qty
        changed = replace(
            order,
            client_order_id=client_order_id,
            order_qty=new_qty,
            price=new_price,
            held=held,
            updated_time_ns=draft.time_ns,
        )
        if client_order_id != order.client_order_id:
            account.closed(order)
            account.opened(changed)
        self.open[order.order_id] = changed
        draft.record(account, ExecType.REPLACED, changed)
        if order.is_waiting:
            return
        side = market.own_side(order.side)
        if keeps_place:
            entry = side.entry(order.order_id)
            side.reduce(entry, entry.leaves - leaves)
        else:
            side.remove(order.order_id)
            self._work(draft, market, account, changed)

    def fill_outside(self, draft: Draft, order: Order) -> Order:
        """Fill the rest of an order at its own price, with someone outside the book.

        The order is open, or was canceled. Nobody else's order and no price takes part.

        Raises:
            Refusal: ORDER_CLOSED: it cannot trade any more; INSUFFICIENT_FUNDS: it was canceled, and
                its funds are spent.
        """
        market = self.markets[order.symbol]
        instrument = market.instrument
        account = self.ledger.accounts[order.account]
        if not can_fill_outside(order):
            raise Refusal(RefusalCode.ORDER_CLOSED, f"order {order.order_id} cannot trade any more")
        assert order.order_qty is not None
        assert order.price is not None
        qty, price = order.order_qty - order.cum_qty, order.price
        buy = order.side is _BUY
        if order.is_open:
            self._withdraw(order)
        else:
            asset, held = (instrument.quote, qty * price) if buy else (instrument.base, qty)
            self.ledger.require(account, asset, held)
            self.ledger.hold(account, asset, held)
            order = replace(order, held=held, reason=None)
            self.open[order.order_id] = order
            if order.expire_time_ns is not None:
                insort(self._expiries, (order.expire_time_ns, order.order_id))
        # Its client order id may have been given to another order meanwhile.
        namesake = account.by_client_id.get(order.client_order_id or "")
        account.opened(order)
        outside = self._open_outside(draft, order, qty, price)
        self.trade_id += 1
        taker = self.ledger.accounts[OUTSIDE]
        filled = self._fill(draft, market, account, order, price, qty, qty * price, _MAKER)
        self._fill(draft, market, taker, outside, price, qty, qty * price, _TAKER)
        if namesake is not None and namesake != order.order_id:
            assert order.client_order_id is not None
            account.by_client_id[order.client_order_id] = namesake
        return filled

    def _open_outside(self, draft: Draft, order: Order, qty: Decimal, price: Decimal) -> Order:
        """Open the other side's order, with funds that it brings."""
        account = self.ledger.accounts.get(OUTSIDE)
        if account is None:
            account = self.ledger.add(OUTSIDE, AccountKind.MAKER, ZERO, ZERO, draft.time_ns)
            draft.accounts[OUTSIDE] = account
        instrument = self.markets[order.symbol].instrument
        buy = order.side is not _BUY
        asset, held = (instrument.quote, qty * price) if buy else (instrument.base, qty)
        self.ledger.fund(account, asset, held)
        self.ledger.hold(account, asset, held)
        self.order_id += 1
        other = replace(
            order,
            order_id=self.order_id,
            account=OUTSIDE,
            client_order_id=None,
            side=Side.BUY if buy else Side.SELL,
            ord_type=OrdType.LIMIT,
            time_in_force=TimeInForce.IOC,
            order_qty=qty,
            trigger_price=None,
            triggered=False,
            post_only=False,
            expire_time_ns=None,
            ord_status=OrdStatus.NEW,
            cum_qty=ZERO,
            cum_quote=ZERO,
            held=held,
            priority=0,
            created_time_ns=draft.time_ns,
            updated_time_ns=draft.time_ns,
            working_time_ns=draft.time_ns,
            reason=None,
        )
        self.open[other.order_id] = other
        account.opened(other)
        return other

    def expire_due(self, draft: Draft) -> None:
        """Close the orders whose time has come."""
        while self.has_due(draft.time_ns):
            order = self.open[self._expiries[0][1]]
            self._withdraw(order)
            self._close(draft, order, OrdStatus.EXPIRED, Reason.EXPIRE_TIME)

    def has_due(self, time_ns: int) -> bool:
        """Tell whether an order's time has come."""
        return bool(self._expiries) and self._expiries[0][0] <= time_ns

    def mark(
        self, draft: Draft, market: Market, price: Decimal, *, side: Side, qty: Decimal
    ) -> None:
        """Let a trade among others print: the last price moves, no account does.

        Args:
            side: The taker's.
        """
        self.trade_id += 1
        draft.tape.append(
            Print(
                trade_id=self.trade_id,
                symbol=market.instrument.symbol,
                side=side,
                price=price,
                qty=qty,
                time_ns=draft.time_ns,
            )
        )
        self._print(draft, market, price)

    def fire_triggers(self, draft: Draft) -> None:
        """Let the stops that prints have reached go to work, in order of acceptance.

        Those that their trades reach in turn queue behind them.
        """
        fired: deque[int] = deque()
        while draft.prints or fired:
            for symbol, (low, high) in draft.prints.items():
                fired.extend(self.markets[symbol].triggers.take(low, high))
            draft.prints.clear()
            if fired:
                self._trigger(draft, self.open[fired.popleft()])

    def restore(self, order: Order) -> None:
        """Take an open order over from a store; call in order of `priority`."""
        self.open[order.order_id] = order
        account = self.ledger.accounts[order.account]
        account.opened(order)
        market = self.markets[order.symbol]
        if order.expire_time_ns is not None:
            insort(self._expiries, (order.expire_time_ns, order.order_id))
        if order.is_waiting:
            assert order.trigger_price is not None
            self._wait(market, order, order.trigger_price)
        else:
            assert order.price is not None
            market.own_side(order.side).add(
                order.order_id, order.account, order.price, order.leaves_qty
            )
            if account.kind is AccountKind.MAKER:
                market.quotes[order.side, order.price] = order.order_id

    def _refuse_duplicate(self, account: Account, client_order_id: str) -> None:
        if client_order_id in account.by_client_id:
            raise Refusal(
                RefusalCode.DUPLICATE_CLIENT_ORDER_ID,
                f"client order id {client_order_id!r} belongs to open order "
                f"{account.by_client_id[client_order_id]}",
            )

    def _wait(self, market: Market, order: Order, trigger: Decimal) -> None:
        rising = fires_rising(order.side, order.ord_type)
        market.triggers.add(order.order_id, trigger, rising=rising)

    def _trigger(self, draft: Draft, order: Order) -> None:
        market = self.markets[order.symbol]
        account = self.ledger.accounts[order.account]
        order = replace(
            order,
            triggered=True,
            updated_time_ns=draft.time_ns,
            working_time_ns=draft.time_ns,
        )
        asset = market.instrument.quote if order.side is _BUY else market.instrument.base
        held = order.held if order.price is not None else self._hold_for(market, account, order)
        short = held - order.held > self.ledger.free(account, asset)
        if not short:
            self.ledger.hold(account, asset, held - order.held)
            order = replace(order, held=held)
        self.open[order.order_id] = order
        draft.record(account, ExecType.TRIGGERED, order)
        if short:
            self._close(draft, order, OrdStatus.REJECTED, Reason.INSUFFICIENT_FUNDS_AT_TRIGGER)
        else:
            self._work(draft, market, account, order)
