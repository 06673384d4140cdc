"""What can be asked of the exchange, and what it answers: the same values in process and on the wire.

Each request carries the account on whose behalf it is made, and an `id` that the native door's
answers repeat.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, TypeVar

from msgspec import Struct, field

from tradegw_mock.exchange import (
    AccountState,
    AuditRecord,
    Balance,
    Fill,
    Instrument,
    KeyKind,
    Order,
    OrderEvent,
    OrderRequest,
    ReferencePrice,
)

__all__ = [
    "Answer",
    "AnswerError",
    "Batch",
    "BatchDone",
    "BatchItem",
    "Cancel",
    "CancelAll",
    "CreateApiKey",
    "DeleteApiKey",
    "Done",
    "GetBalances",
    "GetInstruments",
    "GetLimits",
    "GetOrder",
    "GetPrice",
    "GetTime",
    "LimitShown",
    "ListAccounts",
    "ListAudit",
    "ListFills",
    "ListOpenOrders",
    "ListOrders",
    "Listed",
    "Mutation",
    "OpenAccount",
    "Opened",
    "Place",
    "Question",
    "Replace",
    "Request",
    "expected_answer",
]

PAGE: Final = 500
"""Items of a list, unless another `limit` is asked for, up to the next."""
PAGE_MAX: Final = 1000
BATCH_MAX: Final = 100


class Request(
    Struct, frozen=True, kw_only=True, tag_field="op", forbid_unknown_fields=True, gc=False
):
    """Base of all requests.

    Attributes:
        witness: Ask as one who wants to know what really happened: no fault acts on the request.
    """

    id: int = 0
    account: str = ""
    witness: bool = False


# --- requests that may change something -----------------------------------------------------------


class OpenAccount(Request, frozen=True, kw_only=True, tag="open_account"):
    """Open and fund the account, if it is not open; otherwise it is left as it is.

    Attributes:
        balances: What it starts with; None for the default.
    """

    balances: dict[str, Decimal] | None = None


class CreateApiKey(Request, frozen=True, kw_only=True, tag="create_api_key"):
    """Let whoever holds a key act for the account. The same key with the same secret twice is fine."""

    api_key: str
    secret: str
    kind: KeyKind = KeyKind.HMAC
    can_trade: bool = True

    def __repr__(self) -> str:
        return f"CreateApiKey({self.account!r}, {self.api_key!r})"


class DeleteApiKey(Request, frozen=True, kw_only=True, tag="delete_api_key"):
    """Take a key of the account away."""

    api_key: str


class Place(Request, frozen=True, kw_only=True, tag="place"):
    """Place an order. Refused when the exchange's clock is past `valid_until_ns`."""

    order: OrderRequest
    valid_until_ns: int | None = None


class Cancel(Request, frozen=True, kw_only=True, tag="cancel"):
    """Cancel an open order, named by either id or by both."""

    order_id: int | None = None
    client_order_id: str | None = None
    valid_until_ns: int | None = None


class Replace(Request, frozen=True, kw_only=True, tag="replace"):
    """Change an open order, which keeps its id; `order_qty` is the new total, fills included."""

    order_id: int | None = None
    client_order_id: str | None = None
    order_qty: Decimal | None = None
    price: Decimal | None = None
    new_client_order_id: str | None = None
    valid_until_ns: int | None = None


class CancelAll(Request, frozen=True, kw_only=True, tag="cancel_all"):
    """Cancel the open orders of the account, of one symbol or of all."""

    symbol: str | None = None
    valid_until_ns: int | None = None


class Batch(Request, frozen=True, kw_only=True, tag="batch"):
    """Several requests of the account, carried out in order; one refused does not stop the next."""

    items: tuple[Place | Cancel, ...]


Mutation = OpenAccount | CreateApiKey | DeleteApiKey | Place | Cancel | Replace | CancelAll | Batch


# --- requests that only ask -----------------------------------------------------------------------


class GetTime(Request, frozen=True, kw_only=True, tag="time"):
    """Ask for the exchange's clock."""


class GetInstruments(Request, frozen=True, kw_only=True, tag="instruments"):
    """Ask what trades."""


class GetPrice(Request, frozen=True, kw_only=True, tag="price"):
    """Ask for the last price and the touch of a symbol."""

    symbol: str


class GetOrder(Request, frozen=True, kw_only=True, tag="order"):
    """Ask for one order, by either id or by both. Answered by a list of one order, or of none."""

    order_id: int | None = None
    client_order_id: str | None = None


class ListOpenOrders(Request, frozen=True, kw_only=True, tag="open_orders"):
    """Ask for the open orders of the account."""

    symbol: str | None = None


class ListOrders(Request, frozen=True, kw_only=True, tag="orders"):
    """Ask for orders, open and closed, by rising id; without account for those of all.

    Attributes:
        newest: The last ones rather than the first; no page follows then.
    """

    symbol: str | None = None
    since_ns: int = 0
    after: int = 0
    limit: int = PAGE
    newest: bool = False


class ListFills(Request, frozen=True, kw_only=True, tag="fills"):
    """Ask for fills by rising trade id; without account for those of all.

    Attributes:
        client_order_id: Only of that order; like `order_id`, for an account.
        since_ns: Only of this time or later; a page may then hold few of them, and still not be the last.
        newest: The last ones rather than the first; no page follows then.
    """

    symbol: str | None = None
    order_id: int | None = None
    client_order_id: str | None = None
    since_ns: int = 0
    after: int = 0
    limit: int = PAGE
    newest: bool = False


class GetBalances(Request, frozen=True, kw_only=True, tag="balances"):
    """Ask for the account's balances."""


class GetLimits(Request, frozen=True, kw_only=True, tag="limits"):
    """Ask how much may be asked for in a time; nothing is declared where there is no limit."""


class ListAccounts(Request, frozen=True, kw_only=True, tag="accounts"):
    """Ask for all accounts, the house's and the maker's included."""


class ListAudit(Request, frozen=True, kw_only=True, tag="audit"):
    """Ask for the audit trail after a number, of one account or of all."""

    after: int = 0


Question = (
    GetTime
    | GetInstruments
    | GetPrice
    | GetOrder
    | ListOpenOrders
    | ListOrders
    | ListFills
    | GetBalances
    | GetLimits
    | ListAccounts
    | ListAudit
)


# --- answers --------------------------------------------------------------------------------------


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """Base of all answers. `time_ns` is the exchange's clock when it answered."""

    time_ns: int


class Opened(Answer, frozen=True, kw_only=True):
    """The account is open. `instance_id` names this incarnation of the exchange."""

    instance_id: str
    account: str


class Done(Answer, frozen=True, kw_only=True):
    """A request was carried out.

    Attributes:
        order: How the order stands after it; None for `CancelAll` and for API keys.
        events: What happened to it, immediate fills included, in order; of `CancelAll` every order.
    """

    order: Order | None
    events: tuple[OrderEvent, ...]


class BatchItem(Struct, frozen=True, kw_only=True, gc=False):
    """What came of one member: `done`, or the `code` and `text` of its refusal."""

    done: Done | None = None
    code: str = ""
    text: str = ""


class BatchDone(Answer, frozen=True, kw_only=True):
    """What came of each member of a batch, in order."""

    items: tuple[BatchItem, ...]


class LimitShown(Struct, frozen=True, kw_only=True):
    """At most `limit` units in each window of `window_s` seconds of the clock.

    Attributes:
        scope: Who shares it: `IP` or `ACCOUNT`.
        costs: Units that an operation draws at most, where that is not `cost`.
    """

    name: str
    scope: str
    limit: int
    window_s: float
    costs: dict[str, int]
    cost: int


class Listed(Answer, frozen=True, kw_only=True):
    """What was asked for; `next_after` goes on from here, None at the end."""

    instance_id: str
    orders: tuple[Order, ...] = ()
    fills: tuple[Fill, ...] = ()
    balances: tuple[Balance, ...] = ()
    instruments: tuple[Instrument, ...] = ()
    accounts: tuple[AccountState, ...] = ()
    audit: tuple[AuditRecord, ...] = ()
    prices: tuple[ReferencePrice, ...] = ()
    limits: tuple[LimitShown, ...] = ()
    next_after: int | None = field(default=None)


class AnswerError(Exception):
    """The exchange answered, and not with what was asked for.

    Attributes:
        code: A `RefusalCode`, or one of the door's own.
        retry_after_s: When to come back, where it says so.
    """

    def __init__(self, code: str, text: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.retry_after_s = retry_after_s


AnswerT = TypeVar("AnswerT", bound=Answer)


def expected_answer(request: Request) -> type[Answer]:
    """Return what a request is answered with."""
    match request:
        case OpenAccount():
            return Opened
        case CreateApiKey() | DeleteApiKey() | Place() | Cancel() | Replace() | CancelAll():
            return Done
        case Batch():
            return BatchDone
        case _:
            return Listed
