"""What the engine works on: one symbol's market, and the notes of one request in progress."""

from __future__ import annotations

from decimal import Decimal

from .accounts import Account
from .book import BookSide, Triggers
from .model import (
    AccountKind,
    ApiKey,
    Event,
    ExecType,
    Fill,
    Instrument,
    MarketState,
    Order,
    OrderEvent,
    Print,
    Side,
)

# Looking a member up on its enumeration costs more than comparing does.
_BUY = Side.BUY
_USER = AccountKind.USER


class Market:
    """One symbol: its book, its waiting stops, its last price."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.bids = BookSide(is_bid=True)
        self.asks = BookSide(is_bid=False)
        self.triggers = Triggers()
        self.last_price: Decimal | None = None
        self.path_price: Decimal | None = None
        self.path_step = 0
        self.quotes: dict[tuple[Side, Decimal], int] = {}
        """The open orders of the synthetic maker, of which each level has one."""

    def own_side(self, side: Side) -> BookSide:
        """Give the side on which an order would rest."""
        return self.bids if side is _BUY else self.asks

    def other_side(self, side: Side) -> BookSide:
        """Give the side from which an order would take."""
        return self.asks if side is _BUY else self.bids

    def state(self) -> MarketState:
        """Give what is remembered beside the orders."""
        return MarketState(
            symbol=self.instrument.symbol,
            last_price=self.last_price,
            path_price=self.path_price,
            path_step=self.path_step,
        )

    def restore(self, state: MarketState) -> None:
        """Take over what was remembered beside the orders."""
        self.last_price = state.last_price
        self.path_price = state.path_price
        self.path_step = state.path_step


class Draft:
    """Notes of one request in progress."""

    def __init__(self, time_ns: int) -> None:
        self.time_ns = time_ns
        self.orders: dict[int, Order] = {}
        self.fills: list[Fill] = []
        self.events: list[Event] = []
        self.forgotten: list[int] = []
        self.accounts: dict[str, Account] = {}
        self.markets: dict[str, Market] = {}
        self.api_keys: list[ApiKey] = []
        self.deleted_api_keys: list[str] = []
        self.tape: list[Print] = []
        # Lowest and highest print of each symbol since its triggers were looked at.
        self.prints: dict[str, tuple[Decimal, Decimal]] = {}

    def record(
        self, account: Account, exec_type: ExecType, order: Order, fill: Fill | None = None
    ) -> None:
        """Note an order's new state; a user's account gets an event of it."""
        self.orders[order.order_id] = order
        if account.kind is _USER:
            account.last_event += 1
            self.accounts[account.name] = account
            self.events.append(
                OrderEvent(
                    account=account.name,
                    seq=account.last_event,
                    time_ns=self.time_ns,
                    exec_type=exec_type,
                    order=order,
                    fill=fill,
                )
            )
