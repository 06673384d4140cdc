"""The exchange's own values: instruments, orders, fills, events and the record of a change.

The exchange is a ledger independent of the gateway, so it shares no type with it. Values are
frozen `msgspec.Struct`s: an engine that makes several of them for each order needs them cheap
(a replace costs 0.2 µs, ten times less than a frozen dataclass), and the store encodes them.

Money and size are exact decimals with at most eight places (`AMOUNT_PLACES`); times are
nanoseconds since the epoch by the exchange's own clock.
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, localcontext
from enum import StrEnum
from typing import Final

from msgspec import Struct

ZERO: Final = Decimal(0)
AMOUNT_PLACES: Final = 8
AMOUNT_STEP: Final = Decimal("1E-8")

# Every sum of the engine is made in this context. Amounts have at most 15 + 8 digits, so a result
# that does not fit is a defect, and raises instead of losing a satoshi.
EXACT: Final = Context(prec=60, traps=[InvalidOperation, Inexact])


class Side(StrEnum):
    """Which way an order goes."""

    BUY = "BUY"
    SELL = "SELL"


class OrdType(StrEnum):
    """How an order meets the book. STOP and TAKE_PROFIT become market orders when triggered."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"
    TAKE_PROFIT = "TAKE_PROFIT"
    TAKE_PROFIT_LIMIT = "TAKE_PROFIT_LIMIT"


class TimeInForce(StrEnum):
    """How long an order stands. A market order never rests, whichever it names."""

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTD = "GTD"


class OrdStatus(StrEnum):
    """Where an order stands. Untriggered stops are NEW with `triggered` False."""

    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    """Accepted earlier, impossible when its trigger fired: funds were short."""
    EXPIRED = "EXPIRED"
    """Ended by its own terms: time, IOC or FOK, an empty book, self-trade prevention."""


class SelfTradePrevention(StrEnum):
    """What happens when an order would trade with one of the same account."""

    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"
    NONE = "NONE"


class Liquidity(StrEnum):
    """Which side of a trade an order was on."""

    MAKER = "MAKER"
    TAKER = "TAKER"


class AccountKind(StrEnum):
    """Whose account it is. Only USER accounts get events."""

    USER = "USER"
    MAKER = "MAKER"
    """The synthetic maker: its unfilled quotes are forgotten when they are withdrawn."""
    HOUSE = "HOUSE"
    """Where fees go."""


class ExecType(StrEnum):
    """What just happened to an order."""

    NEW = "NEW"
    TRADE = "TRADE"
    TRIGGERED = "TRIGGERED"
    REPLACED = "REPLACED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class KeyKind(StrEnum):
    """How requests are signed with a key."""

    HMAC = "HMAC"
    """HMAC-SHA256 with a secret that both sides know."""
    ED25519 = "ED25519"
    RSA = "RSA"


class Operation(StrEnum):
    """A request that may change something."""

    CREATE_ACCOUNT = "CREATE_ACCOUNT"
    CREATE_API_KEY = "CREATE_API_KEY"
    DELETE_API_KEY = "DELETE_API_KEY"
    SET_FEES = "SET_FEES"
    DEPOSIT = "DEPOSIT"
    WITHDRAW = "WITHDRAW"
    PLACE = "PLACE"
    CANCEL = "CANCEL"
    REPLACE = "REPLACE"
    CANCEL_ALL = "CANCEL_ALL"
    EXPIRE_DUE = "EXPIRE_DUE"
    MAKER_STEP = "MAKER_STEP"
    SET_PRICE = "SET_PRICE"
    REPLAY = "REPLAY"
    FILL_OUTSIDE = "FILL_OUTSIDE"
    """An order traded with someone outside the book; only faults bring that about."""
    FAULT_GIVEN = "FAULT_GIVEN"
    FAULT_TAKEN_BACK = "FAULT_TAKEN_BACK"
    FAULT_HIT = "FAULT_HIT"


class Value(Struct, frozen=True, kw_only=True, gc=False):
    """Base of all values here: compared by field, never edited.

    None can be part of a cycle, so the garbage collector need not look at them; otherwise it
    would spend a third of the engine's time on the history.
    """


class Instrument(Value, frozen=True):
    """A pair that trades, and the grid that its orders keep to.

    `min_notional` is in quote units and is checked against the limit price, else the trigger,
    else the last price.
    """

    symbol: str
    base: str
    quote: str
    tick_size: Decimal
    lot_step: Decimal
    min_qty: Decimal
    max_qty: Decimal
    min_notional: Decimal
    max_price: Decimal

    def __post_init__(self) -> None:
        # A price times a quantity must be a whole number of 1E-8, or balances would be rounded.
        with localcontext(EXACT):
            if (self.tick_size * self.lot_step) % AMOUNT_STEP:
                raise ValueError(
                    f"{self.symbol}: tick_size times lot_step must have at most {AMOUNT_PLACES} "
                    f"places, found {self.tick_size} and {self.lot_step}"
                )


class OrderRequest(Value, frozen=True):
    """What a caller asks for. Exactly one of `order_qty` (base) and `quote_qty` is given."""

    symbol: str
    side: Side
    ord_type: OrdType
    order_qty: Decimal | None = None
    quote_qty: Decimal | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    expire_time_ns: int | None = None
    client_order_id: str | None = None
    self_trade_prevention: SelfTradePrevention = SelfTradePrevention.EXPIRE_TAKER


class Order(Value, frozen=True):
    """An accepted order, as it stood at one moment.

    `order_qty` is None for a market order by `quote_qty`. `held` is what the account's funds are
    held for this order: quote units for a buy, base units for a sell. `priority` rises with each
    entry into the book; `reason` says why an order closed other than by complete fill.
    """

    order_id: int
    account: str
    symbol: str
    client_order_id: str | None
    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce
    order_qty: Decimal | None
    quote_qty: Decimal | None
    price: Decimal | None
    trigger_price: Decimal | None
    triggered: bool
    post_only: bool
    expire_time_ns: int | None
    self_trade_prevention: SelfTradePrevention
    ord_status: OrdStatus
    cum_qty: Decimal
    cum_quote: Decimal
    held: Decimal
    priority: int
    created_time_ns: int
    updated_time_ns: int
    working_time_ns: int | None
    reason: str | None = None

    @property
    def is_open(self) -> bool:
        """Tell whether the order may still trade."""
        return self.ord_status is _NEW or self.ord_status is _PARTIALLY_FILLED

    @property
    def is_waiting(self) -> bool:
        """Tell whether the order waits for its trigger."""
        return self.trigger_price is not None and not self.triggered and self.is_open

    @property
    def leaves_qty(self) -> Decimal:
        """Give the base quantity that may still trade; zero when closed or sized by quote."""
        if self.order_qty is None or not self.is_open:
            return ZERO
        return self.order_qty - self.cum_qty


# A member's lookup on its enumeration costs more than the comparison.
_NEW: Final = OrdStatus.NEW
_PARTIALLY_FILLED: Final = OrdStatus.PARTIALLY_FILLED


class Fill(Value, frozen=True):
    """One side of a trade. Both sides carry the same `trade_id`; `fee` is in the received asset."""

    trade_id: int
    order_id: int
    client_order_id: str | None
    account: str
    symbol: str
    side: Side
    price: Decimal
    qty: Decimal
    quote_qty: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: Liquidity
    time_ns: int


class Print(Value, frozen=True):
    """A trade among others: it moves the last price and no account. Shares its ids with `Fill`.

    `side` is the taker's.
    """

    trade_id: int
    symbol: str
    side: Side
    price: Decimal
    qty: Decimal
    time_ns: int


class Balance(Value, frozen=True):
    """What an account has of one asset."""

    asset: str
    free: Decimal
    held: Decimal


class BalanceChange(Value, frozen=True):
    """How one change moved one balance, and where it stands since."""

    account: str
    asset: str
    free: Decimal
    held: Decimal
    free_delta: Decimal
    held_delta: Decimal


class OrderEvent(Value, frozen=True, tag="order"):
    """An order as one step left it, and the fill if the step was a trade.

    `seq` rises by one with each event of the account, balance events included.
    """

    account: str
    seq: int
    time_ns: int
    exec_type: ExecType
    order: Order
    fill: Fill | None = None


class BalanceEvent(Value, frozen=True, tag="balance"):
    """The balances that one change moved, and where they stand after it; last of its events.

    `is_funding` tells deposits and withdrawals from what trading moved.
    """

    account: str
    seq: int
    time_ns: int
    balances: tuple[BalanceChange, ...]
    is_funding: bool = False


Event = OrderEvent | BalanceEvent


class ApiKey(Value, frozen=True):
    """Lets whoever holds it act for an account at the doors that ask for one.

    `secret` is what signatures are checked with: the shared secret of an HMAC key, the public key
    in PEM of the others. It is never logged nor audited.
    """

    api_key: str
    account: str
    kind: KeyKind
    secret: str
    can_trade: bool
    created_time_ns: int

    def __repr__(self) -> str:
        return f"ApiKey({self.api_key!r}, {self.account!r}, {self.kind})"


class AccountState(Value, frozen=True):
    """An account without its balances. `last_event` numbers its latest event."""

    name: str
    kind: AccountKind
    maker_fee: Decimal
    taker_fee: Decimal
    created_time_ns: int
    last_event: int


class MarketState(Value, frozen=True):
    """What a symbol remembers beside its orders: last trade, and where the price path stands."""

    symbol: str
    last_price: Decimal | None
    path_price: Decimal | None
    path_step: int


class Counters(Value, frozen=True):
    """The last number given of each kind; numbers are never used twice."""

    change: int = 0
    order_id: int = 0
    trade_id: int = 0
    priority: int = 0
    audit: int = 0


class RequestRecord(Value, frozen=True, tag="request"):
    """A request with all its arguments, and what was decided.

    `code` is None when it was accepted. `order_id` is the order that it made or named.
    """

    operation: Operation
    client_order_id: str | None
    arguments: dict[str, str]
    order: OrderRequest | None
    valid_until_ns: int | None
    code: str | None = None
    text: str | None = None
    order_id: int | None = None


class FillRecord(Value, frozen=True, tag="fill"):
    """A side of a trade, in the audit trail."""

    fill: Fill


class BalanceRecord(Value, frozen=True, tag="balance"):
    """A balance that moved, in the audit trail."""

    balance: BalanceChange


AuditDetail = RequestRecord | FillRecord | BalanceRecord


class AuditRecord(Value, frozen=True):
    """One line of the append-only trail. `change` groups the lines of one request."""

    number: int
    change: int
    time_ns: int
    account: str | None
    detail: AuditDetail


class Change(Value, frozen=True):
    """All that one request touched, to be committed as a whole before its answer leaves.

    `orders` are final states, each order once; `forgotten` are orders of a maker that closed
    without a fill, of which no trace is kept. `funding` is the net of deposits and withdrawals
    of each asset since the beginning, where this change moved it. Of a refused request
    (`request.code`) the rest tells only what was due anyway, like expiries.
    """

    number: int
    time_ns: int
    account: str | None
    request: RequestRecord
    order: Order | None
    orders: tuple[Order, ...]
    forgotten: tuple[int, ...]
    fills: tuple[Fill, ...]
    balances: tuple[BalanceChange, ...]
    audited_balances: tuple[BalanceChange, ...]
    events: tuple[Event, ...]
    accounts: tuple[AccountState, ...]
    markets: tuple[MarketState, ...]
    funding: dict[str, Decimal]
    counters: Counters
    api_keys: tuple[ApiKey, ...] = ()
    deleted_api_keys: tuple[str, ...] = ()
    prints: tuple[Print, ...] = ()

    def fills_of(self, order_id: int) -> tuple[Fill, ...]:
        """Give the fills of one order that this change made."""
        return tuple(fill for fill in self.fills if fill.order_id == order_id)

    @property
    def audit_size(self) -> int:
        """Count the lines of `audit`."""
        return 1 + len(self.fills) + len(self.audited_balances)

    def audit(self) -> list[AuditRecord]:
        """Write the lines of the audit trail: the request, each fill, each balance moved."""
        details: list[tuple[str | None, AuditDetail]] = [(self.account, self.request)]
        details += [(fill.account, FillRecord(fill=fill)) for fill in self.fills]
        details += [(item.account, BalanceRecord(balance=item)) for item in self.audited_balances]
        return [
            AuditRecord(
                number=number,
                change=self.number,
                time_ns=self.time_ns,
                account=account,
                detail=detail,
            )
            for number, (account, detail) in enumerate(
                details, self.counters.audit - self.audit_size + 1
            )
        ]


class State(Value, frozen=True):
    """A whole exchange at rest, as a store rebuilds it. Closed orders stay in the store."""

    instance_id: str
    counters: Counters
    accounts: tuple[AccountState, ...]
    balances: dict[str, tuple[Balance, ...]]
    open_orders: tuple[Order, ...]
    markets: tuple[MarketState, ...]
    funding: dict[str, Decimal]
    api_keys: tuple[ApiKey, ...] = ()


class ReferencePrice(Value, frozen=True):
    """Prices that a rule may lean on; None where the market has none."""

    symbol: str
    last: Decimal | None
    bid: Decimal | None
    ask: Decimal | None

    @property
    def mid(self) -> Decimal | None:
        """Give the middle of the touch, exact; None when a side is empty."""
        if self.bid is None or self.ask is None:
            return None
        with localcontext(EXACT):
            return (self.bid + self.ask) / 2


class Depth(Value, frozen=True):
    """Price levels as (price, quantity), best first."""

    symbol: str
    bids: tuple[tuple[Decimal, Decimal], ...]
    asks: tuple[tuple[Decimal, Decimal], ...]


class OrderPage(Value, frozen=True):
    """Orders by rising id, and the cursor of the next page, None at the end."""

    orders: tuple[Order, ...]
    next_cursor: int | None
