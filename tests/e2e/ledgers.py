"""What three parties say of the same orders: the gateway's record, its streams, the exchange's books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from tradegw_mock.testing import Ledger

from tests.terms import are_terms_of
from tradegw import Fill, FillFilter, Gateway, Order, OrderFilter
from tradegw.gateway.config import load_config
from tradegw.gateway.record import Record, open_record

PAGE = 1000

Trade = tuple[str, str, Decimal, Decimal, Decimal | None, str | None]
"""Trade id, side, quantity, price, fee, asset of the fee."""


async def all_orders(source: Gateway | Record, where: OrderFilter | None = None) -> list[Order]:
    """List every order, newest first."""
    orders: list[Order] = []
    token = None
    while True:
        page = await source.list_orders(where, page_size=PAGE, page_token=token)
        orders.extend(page.items)
        token = page.next_cursor
        if token is None:
            return orders


async def all_fills(source: Gateway | Record, where: FillFilter | None = None) -> list[Fill]:
    """List every fill, newest first."""
    fills: list[Fill] = []
    token = None
    while True:
        page = await source.list_fills(where, page_size=PAGE, page_token=token)
        fills.extend(page.items)
        token = page.next_cursor
        if token is None:
            return fills


async def recorded_orders(config: Path) -> list[Order]:
    """Read every order from the file, as it is stored: no gateway needed."""
    async with open_record(load_config(config, environ={})) as record:
        return await all_orders(record)


async def recorded_fills(config: Path) -> list[Fill]:
    """Read every fill from the file."""
    async with open_record(load_config(config, environ={})) as record:
        return await all_fills(record)


def trade_of(fill: Fill) -> Trade:
    return (fill.trade_id, fill.side, fill.last_qty, fill.last_px, fill.fee, fill.fee_asset)


def told_trades(fills: Iterable[Fill]) -> Counter[Trade]:
    """Count the gateway's fills, by all that both sides know of them."""
    return Counter(trade_of(fill) for fill in fills)


def exchange_trades(ledger: Ledger) -> Counter[Trade]:
    """Count the exchange's fills in the same terms."""
    return Counter(
        (str(f.trade_id), f.side.value, f.qty, f.price, f.fee, f.fee_asset) for f in ledger.fills
    )


@dataclass
class Folded:
    """Folds a stream of fills, across any number of connections, and finds gaps in it.

    Attributes:
        position: Where to resume.
    """

    fills: list[Fill] = field(default_factory=list[Fill])
    position: dict[str, int] = field(default_factory=dict[str, int])

    async def read(
        self, gateway: Gateway, *, to_head: bool = False, accounts: Sequence[str] | None = None
    ) -> None:
        """Resume, and read without end, or until the gateway says that this is all."""
        # The first item follows what was resumed after, be that a fill or not.
        last = dict(self.position)
        async for batch in gateway.stream_fills(accounts=accounts, after=dict(self.position)):
            for item in batch.fills:
                held = last.get(item.account, 0)
                assert item.prev_seq == held, f"a gap: held {held}, next follows {item.prev_seq}"
                assert item.seq > held
                last[item.account] = item.seq
                self.fills.append(item.fill)
            self.position.update(batch.position)
            if to_head and batch.caught_up:
                return


@dataclass(frozen=True)
class Claim:
    """What a check of the claim counted."""

    orders: int
    at_exchange: int
    never_arrived: int
    fills: int


def check_claim(orders: Sequence[Order], ledger: Ledger) -> Claim:
    """Hold the record to the exchange's own books.

    At most one venue order for each order and generation; exactly one where the record holds a venue's
    acknowledgement or fill; none where it closed without. And nothing at the venue that the record lacks.
    """
    held = Counter(order.client_order_id for order in ledger.orders)
    twice = {name: count for name, count in held.items() if count > 1}
    assert not twice, f"placed more than once: {twice}"
    at_venue = {order.client_order_id: order for order in ledger.orders}
    ours: Mapping[str | None, Order] = {order.venue_client_order_id: order for order in orders}
    assert len(ours) == len(orders)
    strangers = set(at_venue) - set(ours)
    assert not strangers, f"at the exchange, and not in the record: {strangers}"
    never_arrived = 0
    for name, order in ours.items():
        theirs = at_venue.get(name)
        if theirs is None:
            never_arrived += 1
            assert not order.acknowledged, f"acknowledged, and not at the exchange: {order}"
            assert order.cum_qty == 0, f"filled, and not at the exchange: {order}"
            assert not order.is_open or order.in_doubt, f"open, and not at the exchange: {order}"
            continue
        assert order.acknowledged or order.in_doubt, f"closed, and at the exchange: {order}"
        if not order.in_doubt:
            assert order.ord_status.value == theirs.ord_status.value, (order, theirs)
            assert order.cum_qty == theirs.cum_qty, (order, theirs)
            assert are_terms_of(order, theirs.order_qty, theirs.price), (order, theirs)
    return Claim(len(orders), len(at_venue), never_arrived, len(ledger.fills))
