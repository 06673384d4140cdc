"""What must hold when a history is over: the record, the stream and the exchange's own books say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from tradegw_mock import exchange as mock

import tradegw
from tests.simulation.bots import describe
from tests.terms import are_terms_of
from tradegw import EventType, Fill, Order, OrderFilter
from tradegw.ports import EventFilter

if TYPE_CHECKING:
    from tests.simulation.world import World

PAGE = 1000
Trade = tuple[str, str, str, Decimal, Decimal, Decimal | None, str | None]


async def check(world: World) -> list[Order]:
    """Hold the end to the promises; what breaks one becomes a violation. Returns the orders on record."""
    from tests.simulation.world import ACCOUNTS

    unsettled = world.unsettled()
    if unsettled:
        world.violate(f"the faults are over, time has passed, and {unsettled}")
    gateway = world.gateway
    if gateway is None:
        return []
    orders: list[Order] = []
    token = None
    while True:
        page = await gateway.list_orders(OrderFilter(), page_size=PAGE, page_token=token)
        orders.extend(page.items)
        token = page.next_cursor
        if token is None:
            break
    for account in ACCOUNTS:
        check_orders(world, account, [o for o in orders if o.account == account])
        await check_stream(world, account)
        await check_balances(world, account)
    check_keys(world, orders)
    assert world.engine is not None
    async for problem in world.engine.store.verify():
        world.violate(f"verify: {problem}")
    return orders


def check_orders(world: World, account: str, orders: Iterable[Order]) -> None:
    """At most one venue order for each of ours; exactly one where the record holds a word of the venue."""
    exchange = world.network.exchange
    there: dict[str, mock.Order] = {}
    cursor = 0
    while True:
        page = exchange.order_history(account, symbol=None, since_ns=0, cursor=cursor, limit=500)
        for theirs in page.orders:
            name = theirs.client_order_id or ""
            if name in there:
                world.violate(f"doubled: {name} stands at the exchange more than once")
            there[name] = theirs
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    for order in orders:
        name = order.venue_client_order_id or ""
        found = there.pop(name, None)
        if found is None:
            if order.acknowledged or order.cum_qty:
                world.violate(f"on record, and not at the exchange: {describe(order)}")
            elif order.is_open:
                world.violate(f"open, and not at the exchange: {describe(order)}")
            continue
        if not order.acknowledged:
            world.violate(f"lost: {describe(order)}; at the exchange {found.ord_status.value}")
        ours = (order.ord_status.value, order.cum_qty)
        theirs_ = (found.ord_status.value, found.cum_qty)
        if ours != theirs_ or not are_terms_of(order, found.order_qty, found.price):
            world.violate(f"{describe(order)}; at the exchange {found}")
    for name in there:
        world.violate(f"at the exchange, and not on record: {name}")


async def check_stream(world: World, account: str) -> None:
    """The stream has no gap, reaches the head, and folds to the exchange's fills."""
    gateway = world.gateway
    assert gateway is not None
    assert world.engine is not None
    head = await world.engine.store.get_head(tradegw_name(account))
    numbers = [event.seq for event in world.events if event.account == account]
    if numbers != list(range(1, head.seq + 1)):
        world.violate(f"the stream of {account} told {len(numbers)} events of {head.seq}")
    stored = await world.engine.store.list_events(
        EventFilter(account=tradegw_name(account)), limit=100_000
    )
    if [e.seq for e in stored] != numbers:
        world.violate(f"the stream of {account} is not what is stored")
    for event in world.events:
        if event.account == account and event.event_type is EventType.REVIVED:
            world.violate(f"closed on evidence that was none, and REVIVED: {event.order}")
    told = Counter(_trade(fill) for fill in world.fills if fill.account == account)
    happened: Counter[Trade] = Counter()
    after = 0
    while True:
        fills = world.network.exchange.fills(account, since_trade_id=after, limit=500)
        happened.update(_their_trade(world, fill) for fill in fills)
        if len(fills) < 500:
            break
        after = fills[-1].trade_id
    for trade in (told - happened) + (happened - told):
        world.violate(f"{trade}: told {told[trade]} times, and happened {happened[trade]} times")


def _trade(fill: Fill) -> Trade:
    return (
        str(fill.trade_id),
        fill.symbol,
        fill.side.value,
        fill.last_qty,
        fill.last_px,
        fill.fee,
        fill.fee_asset,
    )


def _their_trade(world: World, fill: mock.Fill) -> Trade:
    return (
        world.network.trade_name(fill.symbol, fill.trade_id),
        fill.symbol,
        fill.side.value,
        fill.qty,
        fill.price,
        fill.fee,
        fill.fee_asset,
    )


async def check_balances(world: World, account: str) -> None:
    """Balances are the exchange's, and what the fills made of the first ones."""
    from tests.simulation.world import BALANCES

    gateway = world.gateway
    assert gateway is not None
    ours = {b.asset: (b.free, b.held) for b in await gateway.list_balances(account)}
    held = world.network.exchange.balances(account)
    theirs = {asset: (b.free, b.held) for asset, b in held.items()}
    if ours != theirs:
        wrong = {a: (ours.get(a), theirs.get(a)) for a in theirs if ours.get(a) != theirs.get(a)}
        world.violate(f"balances of {account}, here and there: {wrong}")
    folded = dict(BALANCES)
    for fill in world.fills:
        if fill.account != account:
            continue
        base, quote = fill.symbol.split("/")
        sign = 1 if fill.side == "BUY" else -1
        folded[base] += sign * fill.last_qty
        folded[quote] -= sign * fill.last_qty * fill.last_px
        if fill.fee is not None and fill.fee_asset is not None:
            folded[fill.fee_asset] -= fill.fee
    for asset, amount in folded.items():
        if asset in held and held[asset].free + held[asset].held != amount:
            world.violate(f"{account} folds to {amount} {asset}; the exchange has {held[asset]}")


def check_keys(world: World, orders: Iterable[Order]) -> None:
    """A key stands for one order, and was never answered with another."""
    by_key: dict[str, Order] = {}
    for order in orders:
        key = str(order.idempotency_key)
        if key in by_key:
            world.violate(f"key {key} made two orders")
        by_key[key] = order
    for bot in world.bots:
        for key, order_id in bot.answers.items():
            order = by_key.get(key)
            if order is None or order.order_id != order_id:
                world.violate(f"key {key} was answered with {order_id}, which is not on record")
        for key in bot.keys:
            if key in by_key and by_key[key].account != bot.account:
                world.violate(f"key {key} made an order of another account")


def tradegw_name(account: str) -> tradegw.AccountName:
    return tradegw.AccountName(account)
