"""A small market for tests: two or three accounts, a clock that tests turn."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from tradegw_mock.exchange import (
    Change,
    Exchange,
    Fill,
    Instrument,
    Order,
    OrderRequest,
    OrdType,
    Refusal,
    RefusalCode,
    Side,
)

D = Decimal
SYMBOL = "BTC/USDT"
ZERO = D(0)
START_NS = 1_700_000_000_000_000_000

BTC_USDT = Instrument(
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    tick_size=D("0.5"),
    lot_step=D("0.01"),
    min_qty=D("0.01"),
    max_qty=D("10000"),
    min_notional=D("1"),
    max_price=D("1000000"),
)
FUNDS = {"BTC": D(100), "USDT": D(10_000)}


class Clock:
    """Stands still until turned."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, ns: int) -> None:
        self.now_ns += ns


class World:
    """An exchange without fees where `alice` and `bob` trade, and all that its listeners heard."""

    def __init__(
        self,
        accounts: Iterable[str] = ("alice", "bob"),
        *,
        maker_fee: Decimal = ZERO,
        taker_fee: Decimal = ZERO,
    ) -> None:
        self.clock = Clock()
        self.exchange = Exchange([BTC_USDT], clock=self.clock)
        for name in accounts:
            self.exchange.create_account(
                name, balances=FUNDS, maker_fee=maker_fee, taker_fee=taker_fee
            )
        self.heard: list[Change] = []
        self.exchange.listen(self.heard.append)

    def place(
        self,
        account: str,
        side: str,
        qty: str | None = None,
        price: str | None = None,
        **more: object,
    ) -> Order:
        """Place an order and give it as it stands after it has worked."""
        change = self.exchange.place(account, a_request(side, qty, price, **more))
        assert change.order is not None
        return change.order

    def order(self, order: Order) -> Order:
        """Give an order as it stands now."""
        return self.exchange.get_order(order.account, order_id=order.order_id)

    def fills(self, order: Order) -> list[Fill]:
        return self.exchange.fills(order.account, order_id=order.order_id)

    def funds(self, account: str) -> dict[str, tuple[Decimal, Decimal]]:
        """Give free and held of each asset."""
        balances = self.exchange.balances(account)
        return {asset: (item.free, item.held) for asset, item in balances.items()}

    def depth(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        depth = self.exchange.depth(SYMBOL)
        bids, asks = (
            [(f"{price:f}", f"{qty:f}") for price, qty in side] for side in (depth.bids, depth.asks)
        )
        return bids, asks

    def print_at(self, price: str) -> None:
        """Let strangers trade at a price, which no better order in the book may prevent."""
        for name in ("seller", "buyer"):
            if name not in {account.name for account in self.exchange.accounts()}:
                self.exchange.create_account(name, balances={"BTC": D(1), "USDT": D(100_000)})
        if self.place("seller", "SELL", "0.01", price).is_open:
            self.place("buyer", "BUY", "0.01", price)
        printed = [fill.price for change in self.heard[-2:] for fill in change.fills]
        assert D(price) in printed


def a_request(
    side: str = "BUY", qty: str | None = None, price: str | None = None, **more: object
) -> OrderRequest:
    """Make a request: LIMIT with a price, else MARKET, unless `ord_type` says."""
    fields: dict[str, object] = {
        "symbol": SYMBOL,
        "ord_type": OrdType.MARKET if price is None else OrdType.LIMIT,
        "side": Side(side),
        "order_qty": None if qty is None else D(qty),
        "price": None if price is None else D(price),
    }
    return OrderRequest(**(fields | more))  # type: ignore[arg-type]


def refusal_of(exchange: Exchange, account: str, request: OrderRequest) -> RefusalCode | None:
    """Place an order; give the code of its refusal."""
    try:
        exchange.place(account, request)
    except Refusal as e:
        return e.code
    return None
