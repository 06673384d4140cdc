"""How orders meet: matching by price and time, moving the funds, closing what is done."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from decimal import Decimal

from msgspec.structs import replace

from .accounts import HOUSE, Account, Ledger, fee_on
from .book import Walk, affordable, walk
from .errors import Refusal, RefusalCode
from .market import Draft, Market
from .model import (
    ZERO,
    AccountKind,
    ExecType,
    Fill,
    Instrument,
    Liquidity,
    Order,
    OrderRequest,
    OrdStatus,
    OrdType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from .rules import LIMIT_TYPES, STOP_TYPES

_BUY = Side.BUY
_MAKER = Liquidity.MAKER
_TAKER = Liquidity.TAKER
_FOK = TimeInForce.FOK
_IOC = TimeInForce.IOC
_FILLED = OrdStatus.FILLED
_PARTIALLY_FILLED = OrdStatus.PARTIALLY_FILLED


class Reason:
    """Why an order closed other than by complete fill, as `Order.reason` says it."""

    USER_CANCEL = "USER_CANCEL"
    EXPIRE_TIME = "EXPIRE_TIME"
    IOC_REMAINDER = "IOC_REMAINDER"
    FOK_NOT_FILLABLE = "FOK_NOT_FILLABLE"
    NO_LIQUIDITY = "NO_LIQUIDITY"
    QUOTE_BELOW_ONE_STEP = "QUOTE_BELOW_ONE_STEP"
    SELF_TRADE_PREVENTION = "SELF_TRADE_PREVENTION"
    INSUFFICIENT_FUNDS_AT_TRIGGER = "INSUFFICIENT_FUNDS_AT_TRIGGER"
    QUOTE_WITHDRAWN = "QUOTE_WITHDRAWN"


class Matching:
    """The markets over one ledger, and what happens when orders meet.

    Every method that may refuse does so before it changes anything.
    """

    def __init__(self, instruments: Mapping[str, Instrument], ledger: Ledger) -> None:
        self.ledger = ledger
        self.markets = {symbol: Market(item) for symbol, item in instruments.items()}
        self.open: dict[int, Order] = {}
        self.trade_id: int = 0
        self.priority = 0
        self._expiries: list[tuple[int, int]] = []

    @property
    def _house(self) -> Account:
        return self.ledger.accounts[HOUSE]

    # Funds

    def _hold_for(self, market: Market, account: Account, request: OrderRequest | Order) -> Decimal:
        """Bound what an order can cost: quote units for a buy, base units for a sell.

        Exact for an order with a limit. For a market order what the book would take, and the
        part that finds nobody at the worst price seen; for a waiting stop the trigger price.
        """
        qty, quote = request.order_qty, request.quote_qty
        buy = request.side is _BUY
        if request.price is not None:
            assert qty is not None
            return qty * request.price if buy else qty
        if buy and quote is not None:
            return quote
        if not buy and qty is not None:
            return qty
        step = market.instrument.lot_step
        at = request.trigger_price
        if at is not None and not (isinstance(request, Order) and request.triggered):
            got = Walk(qty=ZERO, quote=ZERO, worst=at, complete=False)
        else:
            got = self._walk(market, account, request)
        worst = got.worst or market.last_price or ZERO
        if qty is not None:
            return got.quote + (qty - got.qty) * worst
        assert quote is not None
        if got.complete or not worst:
            return got.qty
        return got.qty + affordable(quote - got.quote, worst, step)

    def _walk(self, market: Market, account: Account, order: OrderRequest | Order) -> Walk:
        return walk(
            market.other_side(order.side),
            account=account.name,
            prevention=order.self_trade_prevention,
            limit=order.price,
            qty=order.order_qty,
            quote=order.quote_qty,
            step=market.instrument.lot_step,
        )

    def _refuse_crossing(self, market: Market, side: Side, price: Decimal | None) -> None:
        assert price is not None
        if market.other_side(side).crossed_by(price):
            raise Refusal(
                RefusalCode.WOULD_CROSS, f"post_only {side} at {price:f} would take liquidity"
            )

    # Trading

    def _work(self, draft: Draft, market: Market, account: Account, order: Order) -> None:
        """Let an order trade as taker; rest what may rest, close what may not."""
        fill_or_kill = order.time_in_force is _FOK
        if fill_or_kill and not self._walk(market, account, order).complete:
            self._close(draft, order, OrdStatus.EXPIRED, Reason.FOK_NOT_FILLABLE)
            return
        order, reason = self._match(draft, market, account, order)
        if not order.is_open:
            return
        if reason is not None:
            self._close(draft, order, OrdStatus.EXPIRED, reason)
        elif order.ord_type not in LIMIT_TYPES:
            self._close(draft, order, OrdStatus.EXPIRED, Reason.NO_LIQUIDITY)
        elif order.time_in_force is _IOC:
            self._close(draft, order, OrdStatus.EXPIRED, Reason.IOC_REMAINDER)
        else:
            price = order.price
            assert price is not None
            self.priority += 1
            order = replace(order, priority=self.priority)
            self.open[order.order_id] = draft.orders[order.order_id] = order
            market.own_side(order.side).add(order.order_id, account.name, price, order.leaves_qty)

    def _match(
        self, draft: Draft, market: Market, account: Account, order: Order
    ) -> tuple[Order, str | None]:
        """Trade an order against the book; give it as it stands, and why it must end if so."""
        side = market.other_side(order.side)
        limit, quote_qty = order.price, order.quote_qty
        step = market.instrument.lot_step
        while (level := side.best()) is not None:
            if limit is not None and not side.crossed_by(limit):
                break
            entry = level.first
            assert entry is not None
            if entry.account == account.name:
                prevention = order.self_trade_prevention
                if prevention in (
                    SelfTradePrevention.EXPIRE_MAKER,
                    SelfTradePrevention.EXPIRE_BOTH,
                ):
                    resting = self.open[entry.order_id]
                    self._withdraw(resting)
                    self._close(draft, resting, OrdStatus.EXPIRED, Reason.SELF_TRADE_PREVENTION)
                if prevention is SelfTradePrevention.EXPIRE_MAKER:
                    continue
                if prevention is not SelfTradePrevention.NONE:
                    return order, Reason.SELF_TRADE_PREVENTION
            if quote_qty is None:
                assert order.order_qty is not None
                wanted = order.order_qty - order.cum_qty
            else:
                wanted = affordable(quote_qty - order.cum_quote, level.price, step)
                if not wanted:
                    return order, Reason.QUOTE_BELOW_ONE_STEP
            qty = min(wanted, entry.leaves)
            price = level.price
            resting_id = entry.order_id
            side.reduce(entry, qty)
            order = self._trade(draft, market, account, order, self.open[resting_id], price, qty)
            if not order.is_open:
                return order, None
        return order, None

    def _trade(
        self,
        draft: Draft,
        market: Market,
        account: Account,
        taker: Order,
        maker: Order,
        price: Decimal,
        qty: Decimal,
    ) -> Order:
        """Exchange the funds of one trade and note both fills; give the taker as it stands."""
        quote = price * qty
        counterparty = self.ledger.accounts[maker.account]
        self.trade_id += 1
        self._fill(draft, market, counterparty, maker, price, qty, quote, _MAKER)
        taker = self._fill(draft, market, account, taker, price, qty, quote, _TAKER)
        self._print(draft, market, price)
        return taker

    def _fill(
        self,
        draft: Draft,
        market: Market,
        account: Account,
        order: Order,
        price: Decimal,
        qty: Decimal,
        quote: Decimal,
        liquidity: Liquidity,
    ) -> Order:
        ledger, instrument = self.ledger, market.instrument
        rate = account.maker_fee if liquidity is _MAKER else account.taker_fee
        base_wallet = ledger.touch(account, instrument.base)
        quote_wallet = ledger.touch(account, instrument.quote)
        if order.side is _BUY:
            fee, fee_asset = fee_on(qty, rate), instrument.base
            # What was held at the limit beyond the price of the trade is free again.
            used = quote if order.price is None else order.price * qty
            quote_wallet.held -= used
            quote_wallet.free += used - quote
            base_wallet.free += qty - fee
        else:
            fee, fee_asset = fee_on(quote, rate), instrument.quote
            used = qty
            base_wallet.held -= qty
            quote_wallet.free += quote - fee
        if fee:
            ledger.touch(self._house, fee_asset).free += fee
        held = order.held - used
        cum_qty = order.cum_qty + qty
        cum_quote = order.cum_quote + quote
        if order.quote_qty is None:
            done = cum_qty == order.order_qty
        else:
            # Done when not one step more could be had at this price.
            step = instrument.lot_step
            done = not affordable(order.quote_qty - cum_quote, price, step)
        if done and held:
            # A market order's hold was a bound.
            wallet = quote_wallet if order.side is _BUY else base_wallet
            wallet.held -= held
            wallet.free += held
            held = ZERO
        order = replace(
            order,
            ord_status=_FILLED if done else _PARTIALLY_FILLED,
            cum_qty=cum_qty,
            cum_quote=cum_quote,
            held=held,
            updated_time_ns=draft.time_ns,
        )
        fill = Fill(
            trade_id=self.trade_id,
            order_id=order.order_id,
            client_order_id=order.client_order_id,
            account=account.name,
            symbol=order.symbol,
            side=order.side,
            price=price,
            qty=qty,
            quote_qty=quote,
            fee=fee,
            fee_asset=fee_asset,
            liquidity=liquidity,
            time_ns=draft.time_ns,
        )
        draft.fills.append(fill)
        if done:
            self._forget(account, order)
        else:
            self.open[order.order_id] = order
        draft.record(account, ExecType.TRADE, order, fill)
        return order

    def _print(self, draft: Draft, market: Market, price: Decimal) -> None:
        market.last_price = price
        symbol = market.instrument.symbol
        draft.markets[symbol] = market
        if market.triggers:
            low, high = draft.prints.get(symbol, (price, price))
            draft.prints[symbol] = (min(low, price), max(high, price))

    # Endings

    def _withdraw(self, order: Order) -> None:
        """Take an open order off the book or out of the waiting stops."""
        market = self.markets[order.symbol]
        if order.is_waiting:
            assert order.trigger_price is not None
            rising = fires_rising(order.side, order.ord_type)
            market.triggers.remove(order.order_id, order.trigger_price, rising=rising)
        else:
            market.own_side(order.side).remove(order.order_id)

    def _close(self, draft: Draft, order: Order, status: OrdStatus, reason: str) -> None:
        """End an order that is in no book any more; what was held for it is free again."""
        account = self.ledger.accounts[order.account]
        instrument = self.markets[order.symbol].instrument
        asset = instrument.quote if order.side is _BUY else instrument.base
        self.ledger.hold(account, asset, -order.held)
        order = replace(
            order, ord_status=status, reason=reason, held=ZERO, updated_time_ns=draft.time_ns
        )
        self._forget(account, order)
        if account.kind is AccountKind.MAKER and not order.cum_qty:
            draft.orders.pop(order.order_id, None)
            draft.forgotten.append(order.order_id)
        else:
            draft.record(account, _EXEC_TYPES[status], order)

    def _forget(self, account: Account, order: Order) -> None:
        del self.open[order.order_id]
        account.closed(order)
        if order.expire_time_ns is not None:
            at = bisect_left(self._expiries, (order.expire_time_ns, order.order_id))
            del self._expiries[at]


_EXEC_TYPES = {
    OrdStatus.CANCELED: ExecType.CANCELED,
    OrdStatus.REJECTED: ExecType.REJECTED,
    OrdStatus.EXPIRED: ExecType.EXPIRED,
}


def fires_rising(side: Side, ord_type: OrdType) -> bool:
    """Tell whether a trigger is reached from below."""
    return (side is _BUY) == (ord_type in STOP_TYPES)
