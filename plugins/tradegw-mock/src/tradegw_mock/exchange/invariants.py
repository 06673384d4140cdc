"""What must always hold of the books, checked from scratch."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from .engine import Engine
from .history import History
from .market import Market
from .model import ZERO, Order, OrdStatus, Side

_PAGE: Final = 1000
_EVERYTHING: Final = 1 << 62


def violations(engine: Engine, history: History) -> list[str]:
    """List every broken invariant in words; an empty list means that all hold.

    Funds are conserved and never negative, holds are those of the open orders, no book is
    crossed or out of step with the orders, fills sum to their orders. The last is checked for
    all orders that memory or the archive knows, unless fills were lost to the bound.
    """
    found = violations_now(engine)
    if not history.lost:
        found += _fills(engine, history)
    return found


def violations_now(engine: Engine) -> list[str]:
    """List what is wrong with funds, holds and books as they stand; of the past nothing is read."""
    found = [*_conservation(engine), *_holds(engine)]
    for market in engine.markets.values():
        found += _book(engine, market)
    return found


def _conservation(engine: Engine) -> Iterator[str]:
    totals: dict[str, Decimal] = {}
    for account in engine.ledger:
        for wallet in account.wallets.values():
            if wallet.free < 0 or wallet.held < 0:
                yield (
                    f"{account.name} has {wallet.free} {wallet.asset} free and {wallet.held} held"
                )
            total = wallet.free + wallet.held
            totals[wallet.asset] = totals.get(wallet.asset, ZERO) + total
    funding = engine.ledger.funding
    for asset in sorted(totals.keys() | funding.keys()):
        has, got = totals.get(asset, ZERO), funding.get(asset, ZERO)
        if has != got:
            yield f"accounts have {has} {asset}, and {got} was deposited less withdrawals"


def _holds(engine: Engine) -> Iterator[str]:
    held: dict[tuple[str, str], Decimal] = {}
    for order in engine.open.values():
        instrument = engine.markets[order.symbol].instrument
        asset = instrument.quote if order.side is Side.BUY else instrument.base
        held[order.account, asset] = held.get((order.account, asset), ZERO) + order.held
        expected = order.leaves_qty
        if order.side is Side.BUY:
            expected *= order.price or order.trigger_price or ZERO
        if order.quote_qty is None and order.held != expected:
            yield f"order {order.order_id} holds {order.held} {asset}, expected {expected}"
        if order.leaves_qty <= 0 and order.quote_qty is None:
            yield f"order {order.order_id} is open and leaves {order.leaves_qty}"
    for account in engine.ledger:
        for wallet in account.wallets.values():
            expected = held.pop((account.name, wallet.asset), ZERO)
            if wallet.held != expected:
                yield (
                    f"{account.name} holds {wallet.held} {wallet.asset}, its open orders {expected}"
                )
    for (name, asset), amount in held.items():
        if amount:
            yield f"orders of {name} hold {amount} {asset}, which it does not have"


def _book(engine: Engine, market: Market) -> Iterator[str]:
    symbol = market.instrument.symbol
    bid, ask = market.bids.best(), market.asks.best()
    if bid is not None and ask is not None and bid.price >= ask.price:
        yield f"{symbol} is crossed: bid {bid.price}, ask {ask.price}"
    resting = 0
    for side in (market.bids, market.asks):
        before: Decimal | None = None
        for level in side.levels():
            total, priority = ZERO, 0
            if before is not None and (level.price >= before) is side.is_bid:
                yield f"{symbol} has level {level.price} after {before}"
            before = level.price
            for entry in level:
                resting += 1
                total += entry.leaves
                order = engine.open.get(entry.order_id)
                if order is None or order.price != level.price or order.leaves_qty != entry.leaves:
                    yield f"{symbol} has {entry.leaves} at {level.price} of order {order}"
                elif order.priority <= priority:
                    yield f"order {order.order_id} is out of its place at {level.price}"
                else:
                    priority = order.priority
            if total != level.total:
                yield f"{symbol} shows {level.total} at {level.price}, orders leave {total}"
    waiting = sum(order.is_waiting for order in engine.open.values() if order.symbol == symbol)
    working = sum(order.symbol == symbol for order in engine.open.values()) - waiting
    if waiting != len(market.triggers) or working != resting:
        yield (
            f"{symbol} has {resting} orders in the book and {len(market.triggers)} waiting, "
            f"expected {working} and {waiting}"
        )


def _fills(engine: Engine, history: History) -> Iterator[str]:
    after = 0
    open_orders = list(engine.open.values())
    while orders := history.list_orders(
        open_orders, account=None, symbol=None, since_ns=0, after=after, limit=_PAGE
    ):
        after = orders[-1].order_id
        for order in orders:
            yield from _fills_of(order, history)


def _fills_of(order: Order, history: History) -> Iterator[str]:
    fills = history.list_fills(
        account=None, symbol=None, order_id=order.order_id, after=0, limit=_EVERYTHING
    )
    qty = sum((fill.qty for fill in fills), ZERO)
    quote = sum((fill.quote_qty for fill in fills), ZERO)
    if qty != order.cum_qty or quote != order.cum_quote:
        yield (
            f"fills of order {order.order_id} sum to {qty} for {quote}, "
            f"the order says {order.cum_qty} for {order.cum_quote}"
        )
    if any(fill.qty * fill.price != fill.quote_qty for fill in fills):
        yield f"a fill of order {order.order_id} is not price times quantity"
    if (order.cum_qty == order.order_qty) != (order.ord_status is OrdStatus.FILLED) and (
        order.order_qty is not None
    ):
        yield f"order {order.order_id} is {order.ord_status} at {order.cum_qty}"
