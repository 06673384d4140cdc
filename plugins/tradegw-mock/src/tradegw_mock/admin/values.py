"""What the admin API is asked and what it answers. The fields' docstrings become its documentation."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from tradegw_mock.chaos import FaultKind, FaultSpec
from tradegw_mock.exchange import (
    AccountKind,
    AuditRecord,
    Balance,
    Fill,
    Instrument,
    KeyKind,
    Order,
)

__all__ = [
    "AccountAsked",
    "AccountNamed",
    "AccountShown",
    "Accounts",
    "Advance",
    "Amount",
    "AuditAsked",
    "AuditPage",
    "Book",
    "BookAsked",
    "Empty",
    "FaultNamed",
    "FaultShown",
    "Faults",
    "Fees",
    "Fingerprint",
    "Instruments",
    "Invariants",
    "KeyAsked",
    "KeyNamed",
    "KeyShown",
    "Keys",
    "Level",
    "NewAccount",
    "OrdersAsked",
    "OrdersPage",
    "Overview",
    "OverviewAsked",
    "Price",
    "Prices",
    "Problem",
    "ScenarioAsked",
    "SetPrice",
    "Status",
    "Steps",
    "TradesAsked",
    "TradesPage",
]

LIMIT_MAX = 1000


class Asked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is asked."""


class Shown(Struct, frozen=True, kw_only=True):
    """Base of what is answered."""


class Empty(Asked, frozen=True):
    """Nothing further."""


class Paged(Asked, frozen=True):
    """Which part of a list: what comes after a number, at most so many."""

    after: int = 0
    limit: int = 500

    def __post_init__(self) -> None:
        if not 0 < self.limit <= LIMIT_MAX:
            raise ValueError(f"limit is 1 to {LIMIT_MAX}; found {self.limit}")
        if not 0 <= self.after < 2**63:
            raise ValueError(f"after is at least 0; found {self.after}")


class Problem(Shown, frozen=True):
    """Why it was not done."""

    code: str
    text: str


# --- accounts -------------------------------------------------------------------------------------


class NewAccount(Asked, frozen=True):
    """An account to open. `balances`: what it starts with, by asset; without: the default of all."""

    name: str
    balances: dict[str, Decimal] | None = None


class AccountNamed(Asked, frozen=True):
    """An account, by its name."""

    name: str


class AccountAsked(Asked, frozen=True):
    """Of one account; without: of all."""

    account: str = ""


class Amount(Asked, frozen=True):
    """An amount of an asset."""

    asset: str
    amount: Decimal


class Fees(Asked, frozen=True):
    """What an account pays from now on, as fractions of what it receives."""

    maker_fee: Decimal
    taker_fee: Decimal


class KeyAsked(Asked, frozen=True):
    """An API key to give. Without key and secret they are made up. Of ED25519 and RSA the secret is the
    public key in PEM."""

    api_key: str = ""
    secret: str = ""
    kind: KeyKind = KeyKind.HMAC
    can_trade: bool = True


class KeyNamed(Asked, frozen=True):
    """An API key of an account."""

    name: str
    api_key: str


class KeyShown(Shown, frozen=True):
    """An API key. The secret is shown: it guards play money, and a test needs it."""

    api_key: str
    secret: str
    kind: KeyKind
    can_trade: bool


class Keys(Shown, frozen=True):
    """API keys, oldest first."""

    keys: list[KeyShown]


class AccountShown(Shown, frozen=True):
    """An account with its funds."""

    name: str
    kind: AccountKind
    maker_fee: Decimal
    taker_fee: Decimal
    open_orders: int
    balances: list[Balance]


class Accounts(Shown, frozen=True):
    """Accounts, oldest first; those of the exchange itself included."""

    accounts: list[AccountShown]


# --- orders, trades, the trail --------------------------------------------------------------------


class OrdersAsked(Paged, frozen=True):
    """Which orders: of an account, of a symbol, only those that are open."""

    account: str = ""
    symbol: str = ""
    open: bool = False


class OrdersPage(Shown, frozen=True):
    """Orders by rising id; `next_after` goes on from here, null at the end."""

    orders: list[Order]
    next_after: int | None = None


class TradesAsked(Paged, frozen=True):
    """Which fills: of an account, of a symbol, of an order. `after` is a trade id."""

    account: str = ""
    symbol: str = ""
    order_id: int | None = None


class TradesPage(Shown, frozen=True):
    """Fills by rising trade id, both sides of a trade; `next_after` goes on from here, null at the end."""

    fills: list[Fill]
    next_after: int | None = None


class AuditAsked(Paged, frozen=True):
    """Which lines: of an account; of an operation, such as PLACE or FAULT_HIT."""

    account: str = ""
    operation: str = ""


class AuditPage(Shown, frozen=True):
    """Lines of the trail by rising number; `next_after` goes on from here, null at the end."""

    records: list[AuditRecord]
    next_after: int | None = None


class Fingerprint(Shown, frozen=True):
    """SHA-256 over the logical fields of the trail: all but times, clients' names for orders, and texts."""

    sha256: str
    lines: int


# --- the market -----------------------------------------------------------------------------------


class Instruments(Shown, frozen=True):
    """What trades."""

    instruments: list[Instrument]


class Price(Shown, frozen=True):
    """Prices of a symbol; null where there is none."""

    symbol: str
    last: Decimal | None
    bid: Decimal | None
    ask: Decimal | None


class Prices(Shown, frozen=True):
    """Prices of all symbols."""

    prices: list[Price]


class SetPrice(Asked, frozen=True):
    """Where a price shall be: whoever rests there or beyond trades, stops fire, the path goes on."""

    symbol: str
    price: Decimal


class Steps(Asked, frozen=True):
    """How many steps the prices' paths shall go on."""

    count: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.count <= LIMIT_MAX:
            raise ValueError(f"count is 1 to {LIMIT_MAX}; found {self.count}")


class BookAsked(Asked, frozen=True):
    """A symbol, and how many levels of each side."""

    symbol: str
    limit: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.limit <= LIMIT_MAX:
            raise ValueError(f"limit is 1 to {LIMIT_MAX}; found {self.limit}")


class Level(Shown, frozen=True):
    """What rests at a price, and how much of it is users'."""

    price: Decimal
    qty: Decimal
    users_qty: Decimal


class Book(Shown, frozen=True):
    """A symbol's book, best levels first."""

    symbol: str
    bids: list[Level]
    asks: list[Level]


# --- faults ---------------------------------------------------------------------------------------


class FaultNamed(Asked, frozen=True):
    """A fault, by its number."""

    fault_id: int


class FaultShown(Shown, frozen=True):
    """A fault that was given: what was asked for, since when, how often it acted, how often it may."""

    fault_id: int
    kind: FaultKind
    spec: FaultSpec
    begins_ns: int
    ends_ns: int | None
    hits: int
    left: int | None


class Faults(Shown, frozen=True):
    """Faults that are active, or will be."""

    faults: list[FaultShown]


class ScenarioAsked(Asked, frozen=True):
    """Faults to give at once, as a scenario file has them."""

    name: str = ""
    fault: tuple[FaultSpec, ...] = ()


# --- the whole ------------------------------------------------------------------------------------


class Advance(Asked, frozen=True):
    """By how many seconds a virtual clock shall move on."""

    seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 600:
            raise ValueError(f"seconds is above 0 and at most 600; found {self.seconds}")


class Invariants(Shown, frozen=True):
    """What the exchange found when it checked itself; `violations` is empty when all is well."""

    ok: bool
    violations: list[str]
    checked_ns: int
    conserved: dict[str, Decimal]


class Status(Shown, frozen=True):
    """How the exchange is.

    `instance_id` names this incarnation: an exchange without a file has a new one after each start.
    """

    instance_id: str
    time_ns: int
    clock: str
    seed: int
    liquidity: str
    durable: bool
    ok: bool
    audit_lines: int


class OverviewAsked(Asked, frozen=True):
    """Which symbol's book to show."""

    symbol: str = "BTC/USDT"


class Overview(Shown, frozen=True):
    """What the page shows, in one answer."""

    status: Status
    prices: list[Price]
    book: Book
    trades: list[Fill]
    accounts: list[AccountShown]
    orders: list[Order]
    faults: list[FaultShown]
    hits: list[AuditRecord]
    invariants: Invariants
