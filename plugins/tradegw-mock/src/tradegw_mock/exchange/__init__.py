"""A spot exchange in miniature, free of any transport.

It is a real exchange, with a ledger of its own that knows nothing of the gateway: whoever tests
against it has an independent witness. `default_exchange` sets one up; doors (in process, native,
Binance-compatible) call `Exchange` and forward what its listeners hear.
"""

from .accounts import HOUSE
from .defaults import BALANCES, INSTRUMENTS, START_PRICES, MockExchange, default_exchange
from .errors import ExchangeBroken, ExchangeError, Refusal, RefusalCode, StoreError, StoreInUse
from .exchange import Exchange
from .history import Archive
from .maker import MAKER, Maker
from .matching import Reason
from .model import (
    AccountKind,
    AccountState,
    AuditRecord,
    Balance,
    BalanceChange,
    BalanceEvent,
    BalanceRecord,
    Change,
    Counters,
    Depth,
    Event,
    ExecType,
    Fill,
    FillRecord,
    Instrument,
    Liquidity,
    MarketState,
    Operation,
    Order,
    OrderEvent,
    OrderPage,
    OrderRequest,
    OrdStatus,
    OrdType,
    ReferencePrice,
    RequestRecord,
    SelfTradePrevention,
    Side,
    State,
    TimeInForce,
)
from .store import Store

__all__ = [
    "BALANCES",
    "HOUSE",
    "INSTRUMENTS",
    "MAKER",
    "START_PRICES",
    "AccountKind",
    "AccountState",
    "Archive",
    "AuditRecord",
    "Balance",
    "BalanceChange",
    "BalanceEvent",
    "BalanceRecord",
    "Change",
    "Counters",
    "Depth",
    "Event",
    "Exchange",
    "ExchangeBroken",
    "ExchangeError",
    "ExecType",
    "Fill",
    "FillRecord",
    "Instrument",
    "Liquidity",
    "Maker",
    "MarketState",
    "MockExchange",
    "Operation",
    "OrdStatus",
    "OrdType",
    "Order",
    "OrderEvent",
    "OrderPage",
    "OrderRequest",
    "Reason",
    "ReferencePrice",
    "Refusal",
    "RefusalCode",
    "RequestRecord",
    "SelfTradePrevention",
    "Side",
    "State",
    "Store",
    "StoreError",
    "StoreInUse",
    "TimeInForce",
    "default_exchange",
]
