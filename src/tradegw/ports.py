"""What the engine needs from the outside: a store, a clock, somebody to tell.

The store's one way to write orders is `append`: an `Entry` is stored whole or not at all, and is durable
when `append` returns. Everything else in `Store` reads, or keeps small facts beside the orders.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from tradegw.model import (
    AccountId,
    AccountName,
    Balance,
    ClientOrderId,
    Cursor,
    Fill,
    FillFilter,
    Halt,
    Instrument,
    Listing,
    NewOrder,
    Order,
    OrderEvent,
    OrderFilter,
    OrderId,
    OrdStatus,
    Position,
    ReplaceTerms,
    TradeId,
    VenueClientOrderId,
    VenueOrderId,
)

__all__ = [
    "AccountRecord",
    "CancelCommand",
    "Claim",
    "Clock",
    "Command",
    "Cursor",
    "Entry",
    "EventFilter",
    "FillFilter",
    "Halt",
    "Head",
    "InboxEntry",
    "KeyTaken",
    "Known",
    "LeaseHolder",
    "LeaseRow",
    "Leases",
    "Listing",
    "Notices",
    "OrderFilter",
    "PlaceCommand",
    "Problem",
    "ProblemKind",
    "ReplaceCommand",
    "Replayed",
    "Sink",
    "SinkFactory",
    "SinkRuntime",
    "Store",
    "Stored",
    "VenueOrderRef",
]


class Clock(Protocol):
    """Time. Tests turn it by hand."""

    def time_ns(self) -> int:
        """Return nanoseconds since the epoch, UTC."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds that only grow, for measuring durations."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


# --- what is written ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One use of an idempotency key.

    Attributes:
        scope: The account that the caller named or the order's; `*` where neither is known beforehand.
        fingerprint: Versioned digest of what the caller set.
        operation: What was asked, such as `place_order`.
        order_id: The order that it made or touched, when there is exactly one.
        result: What was answered where no order tells, as JSON text.
    """

    scope: str
    idempotency_key: str
    fingerprint: str
    operation: str
    order_id: OrderId | None = None
    result: str = ""
    created_time_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueOrderRef:
    """One incarnation of an order at the venue, under a client id that never names another.

    Attributes:
        id_scope: Within which the venue keeps client ids apart; usually `account`.
        order_qty: Size of this incarnation, in base units; None for quote-sized orders.
        valid_until_ns: Venue time after which the venue refuses its placement; None when it never does
            or measures by height.
        valid_until_height: The same as a block height.
        command_valid_until_ns: The same for the last cancel or replace of it.
        command_valid_until_height: The same as a block height.
        digest: Identifies the request in logs.
    """

    order_id: OrderId
    generation: int
    venue_client_order_id: VenueClientOrderId
    id_scope: str = "account"
    venue_order_id: VenueOrderId | None = None
    order_qty: Decimal | None = None
    valid_until_ns: int | None = None
    valid_until_height: int | None = None
    command_valid_until_ns: int | None = None
    command_valid_until_height: int | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is stored together.

    Attributes:
        events: In order; those of one order carry it as it stands after each. `seq` is given by the store.
        claim: The key that this uses. If it is taken, nothing of the entry is stored.
        is_new_order: Whether the order of the events is stored for the first time.
        ref: Incarnation to insert, or to update when one of its order and generation exists.
    """

    account_id: AccountId
    events: tuple[OrderEvent, ...] = ()
    claim: Claim | None = None
    is_new_order: bool = False
    ref: VenueOrderRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The entry is durable. Its events, numbered."""

    events: tuple[OrderEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTaken:
    """Nothing was stored: the key was used before, by this."""

    claim: Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Nothing was stored: a fill of the entry is stored already. It has no order if none is known for it."""

    order_id: OrderId | None
    trade_id: TradeId


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxEntry:
    """A message that has taken effect.

    Attributes:
        source: Where it came from: the name of the sink that took it.
        digest: Of what it held.
        order_id: The order that it made or touched.
    """

    source: str
    message_id: str
    digest: str
    order_id: OrderId | None = None
    taken_time_ns: int = 0


# --- what is read ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord:
    """An account as it was bound at its first connection.

    Attributes:
        venue_account_id: The venue's own id of the account; empty until the venue said.
        environment: Host and environment that the account was bound to.
        instance_id: Incarnation of the venue that was last seen.
    """

    account_id: AccountId
    account: AccountName
    venue: str
    plugin: str
    venue_account_id: str = ""
    environment: str = ""
    instance_id: str = ""
    created_time_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that the store knows of one order: itself with `trade_ids` and `inferred`, and its incarnations."""

    order: Order
    refs: tuple[VenueOrderRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of an account's stream: number and hash of its last event; 0 and empty at the start."""

    seq: int = 0
    hash: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events of one account: those after `after_seq`, of one order if it is given."""

    account: AccountName
    after_seq: int = 0
    order_id: OrderId | None = None


class ProblemKind(enum.StrEnum):
    """What `verify` can find."""

    GAP = "GAP"
    HASH = "HASH"
    PAYLOAD = "PAYLOAD"
    ORDER_DIFFERS = "ORDER_DIFFERS"
    ORDER_MISSING = "ORDER_MISSING"
    FILL_DIFFERS = "FILL_DIFFERS"
    FILL_MISSING = "FILL_MISSING"
    UNEXPECTED_ROW = "UNEXPECTED_ROW"
    ARCHIVE = "ARCHIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One contradiction in the record."""

    kind: ProblemKind
    account: AccountName
    detail: str
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseHolder:
    """A gateway process that may hold leases.

    Attributes:
        holder: Names this run of it, and no other.
        address: Where its gRPC door listens; empty until it does.
        host: The machine, with its boot and the space of its pids.
        process_start: When the process began, by that machine: pids are used again.
    """

    holder: str
    host: str
    pid: int
    process_start: int
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRow:
    """A lease as it is stored.

    Attributes:
        by: Who holds it, or held it last. Its `holder` is empty once it was released.
        requests_expire: Whether nothing that was sent under the token outlives its time: the venue refuses
            old requests, or none was sent yet.
        is_expired: By the store's clock, when it was read.
    """

    account_id: AccountId
    token: int
    by: LeaseHolder
    requests_expire: bool
    is_expired: bool


class Leases(Protocol):
    """Which of several gateways on one store serves each account.

    Every method may raise `StoreUnavailable`.
    """

    async def take(
        self,
        account_id: AccountId,
        by: LeaseHolder,
        *,
        ttl_s: float,
        may_take: Callable[[LeaseRow], bool],
    ) -> LeaseRow:
        """Return the lease: ours under a new token if it was free, else as it stands.

        What the old holder was writing is stored, or never will be, when this returns. Send nothing before
        `renew` has said what the venue does with old requests.

        Args:
            may_take: Whether a lease that is there is free. Asked again while nobody else can change it.
        """
        ...

    async def renew(
        self,
        held: Mapping[AccountId, int],
        by: LeaseHolder,
        *,
        ttl_s: float,
        requests_expire: frozenset[AccountId],
    ) -> frozenset[AccountId]:
        """Prolong leases by their tokens. Returns those that are ours still; the others are lost for good.

        Args:
            requests_expire: Those accounts of which old requests are refused by their venues, or for which
                none was sent yet.
        """
        ...

    async def release(self, held: Mapping[AccountId, int]) -> None:
        """Give leases back: nothing of theirs is under way, and nothing will be sent."""
        ...

    async def list(self, account_ids: Sequence[AccountId]) -> Sequence[LeaseRow]:
        """Return the leases of accounts as they stand; of those that never had one, nothing."""
        ...

    async def release_expired(self, row: LeaseRow) -> bool:
        """Give back in its holder's name a lease that has expired: somebody says that the holder is gone.

        Returns:
            Whether it was done. Not if the lease was prolonged or changed hands since it was read.
        """
        ...

    async def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        ...


class Notices(Protocol):
    """What gateways on one store tell each other at once. Hints: any of them may be lost."""

    async def send(self, notes: Sequence[str]) -> None:
        """Tell everybody who listens, ourselves as well.

        Raises:
            StoreUnavailable: Nobody may have heard of it.
        """
        ...

    def listen(self) -> AsyncGenerator[str | None]:
        """Yield None once what is told from now on is heard, then what is told.

        What was told between two calls was heard by neither.

        Raises:
            StoreUnavailable: Nothing is heard any more.
        """
        ...

    async def close(self) -> None:
        """Let go of the connections. Safe to call twice."""
        ...


class Store(Protocol):
    """A durable record of orders.

    Every method may raise `StoreUnavailable` (nothing happened) and `StoreCorrupt`; `append` and the other
    writers also `CommitUnknown` (it may be stored: `reload` before anyone is answered).

    Cancellation: a write that was cancelled may be stored.
    """

    def subscribe(self, listener: Callable[[Sequence[OrderEvent]], None]) -> None:
        """Call `listener` on the event loop with the events of each commit, in the order of commits.

        It runs before the `append` calls of the commit return, and must not block or raise.
        """
        ...

    async def append(self, entry: Entry) -> Stored | KeyTaken | Replayed:
        """Store an entry, durably, whole or not at all. Concurrent entries share a commit.

        Entries of an account are stored in the order of the calls: an implementation puts the entry in
        its queue before it suspends for the first time.

        Raises:
            DuplicateClientOrderId: The account has an order with that client order id.
            StoreUnavailable: Nothing was stored.
            CommitUnknown: It may or may not be stored.
        """
        ...

    def readmit(self, account_id: AccountId) -> None:
        """Take entries of an account again, after a commit that it was part of failed.

        From such a failure on, every entry of the account is refused with `StoreUnavailable`: it was made
        from a state that was never stored. Whoever calls this has dropped what it remembered, and reads.
        """
        ...

    async def put_account(self, record: AccountRecord) -> AccountRecord:
        """Store an account, or update the one of that name, and return it as stored with its own id."""
        ...

    async def list_accounts(self) -> Sequence[AccountRecord]: ...

    async def put_instruments(
        self, venue: str, instruments: Sequence[Instrument], *, time_ns: int
    ) -> None:
        """Replace what is known of a venue's instruments."""
        ...

    async def take_client_numbers(self, account_id: AccountId, *, count: int, first: int) -> range:
        """Take `count` numbers that no order of the account was ever named by, durably.

        Args:
            first: Where the numbers of an account begin that never took any.
        """
        ...

    async def put_balances(self, account_id: AccountId, balances: Sequence[Balance]) -> None: ...

    async def put_positions(self, account_id: AccountId, positions: Sequence[Position]) -> None: ...

    async def put_watermark(
        self, account_id: AccountId, symbol: str, *, read_until_ns: int
    ) -> None:
        """Remember until when, by the venue's clock, the fills of a symbol were read."""
        ...

    async def list_watermarks(self, account_id: AccountId) -> Mapping[str, int]:
        """Return until when fills were read, by symbol."""
        ...

    async def put_outbox_cursor(self, sink: str, account_id: AccountId, *, seq: int) -> None:
        """Remember up to which event a sink has confirmed. It never goes back."""
        ...

    async def get_outbox_cursor(self, sink: str, account_id: AccountId) -> int:
        """Return up to which event a sink has confirmed; 0 before the first."""
        ...

    async def put_inbox(self, entry: InboxEntry) -> InboxEntry | None:
        """Remember that a message has taken effect. Returns what was remembered before, if it was."""
        ...

    async def find_inbox(self, source: str, message_id: str) -> InboxEntry | None: ...

    async def list_unmatched_fills(
        self, account_id: AccountId, *, after_seq: int, limit: int
    ) -> Sequence[Fill]:
        """Return fills that have found no order yet, those with numbers above `after_seq`, in that order."""
        ...

    async def put_halt(self, halt: Halt, claim: Claim | None = None) -> KeyTaken | None:
        """Store a halt, and the key that asked for it. A halt of the same scope is replaced."""
        ...

    async def delete_halt(self, scope: str, claim: Claim | None = None) -> KeyTaken | None: ...

    async def put_claim(self, claim: Claim) -> KeyTaken | None:
        """Store the use of a key that made no order. Returns the earlier use, if there is one."""
        ...

    async def list_halts(self) -> Sequence[Halt]: ...

    async def list_balances(self, account_id: AccountId) -> Sequence[Balance]: ...

    async def list_positions(self, account_id: AccountId) -> Sequence[Position]: ...

    async def list_instruments(self, venue: str) -> Sequence[Instrument]: ...

    async def find_claim(self, scope: str, idempotency_key: str) -> Claim | None: ...

    async def find_order(self, order_id: OrderId) -> Order | None: ...

    async def find_order_by_client_id(
        self, account_id: AccountId, client_order_id: ClientOrderId
    ) -> Order | None: ...

    async def find_known(
        self,
        account_id: AccountId,
        *,
        order_id: OrderId | None = None,
        venue_client_order_id: VenueClientOrderId | None = None,
        venue_order_id: VenueOrderId | None = None,
    ) -> Known | None:
        """Return an order with all that applying a report to it needs, by the first id that is given."""
        ...

    async def list_known_open(self, account_id: AccountId) -> Sequence[Known]:
        """Return every open order of the account, for a start."""
        ...

    async def list_orders(
        self, where: OrderFilter, *, limit: int, cursor: Cursor | None = None
    ) -> Listing[Order]:
        """Return orders, newest first.

        Raises:
            InvalidOrder: The cursor is not one of ours; reason `INVALID_PAGE_TOKEN`.
        """
        ...

    async def list_fills(
        self, where: FillFilter, *, limit: int, cursor: Cursor | None = None
    ) -> Listing[Fill]:
        """Return fills, newest first."""
        ...

    async def list_events(self, where: EventFilter, *, limit: int) -> Sequence[OrderEvent]:
        """Return events in the order of their numbers; of an order, those that are not archived.

        Raises:
            InvalidOrder: The event after `after_seq` is archived; reason `OUT_OF_RANGE`.
        """
        ...

    async def list_stream_fills(
        self, account: AccountName, *, after_seq: int, limit: int
    ) -> Sequence[Fill]:
        """Return the account's fills whose event has a number above `after_seq`, in that order.

        The replay of a fill stream; read by index from `fill`, without decoding events.

        Raises:
            InvalidOrder: The event after `after_seq` is archived; reason `OUT_OF_RANGE`.
        """
        ...

    async def list_event_hashes(
        self, account: AccountName, *, after_seq: int, limit: int
    ) -> Sequence[tuple[int, bytes]]:
        """Return numbers and hashes of events, for anchors."""
        ...

    async def get_head(self, account: AccountName) -> Head:
        """Return the committed end of the account's stream."""
        ...

    async def get_checkpoint(self, account: AccountName) -> Head:
        """Return the last event of the account that was archived: its stream begins after it."""
        ...

    async def count_orders(self) -> Mapping[OrdStatus, int]:
        """Count the orders by status."""
        ...

    async def ping(self) -> None:
        """Run a real query.

        Raises:
            StoreError: It failed.
        """
        ...

    def verify(self, archives: Sequence[Path] = ()) -> AsyncIterator[Problem]:
        """Check every chain, rebuild orders and fills from the events, and yield what contradicts.

        Args:
            archives: Files with what was archived; chains whose files are given are checked from their
                beginning, others from their checkpoint.
        """
        ...

    async def close(self) -> None:
        """Finish what was appended, and let go of the store. Safe to call twice."""
        ...


# --- somebody to tell -----------------------------------------------------------------------------


class Sink(Protocol):
    """Where the events of every account go, such as a broker."""

    async def publish(self, events: Sequence[OrderEvent]) -> None:
        """Publish events of one account, in their order; return when the receiver has confirmed them all.

        Called off the order path, for one batch of an account at a time and for several accounts at once.
        Whatever it raises, the same events come again later, with a backoff; so each needs a name by which a
        receiver can tell that it has it: account and `seq`. It connects, and connects anew, by itself.

        Cancellation: some may be published; they come again at the next start.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceCommand:
    """Place an order. Without a key of its own it gets one from the message's id."""

    order: NewOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelCommand:
    """Cancel an order, by our id, or by account and client order id."""

    order_id: OrderId | None = None
    account: str | None = None
    client_order_id: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceCommand:
    """Give an order other terms."""

    order_id: OrderId
    terms: ReplaceTerms
    idempotency_key: str | None = None


Command = PlaceCommand | CancelCommand | ReplaceCommand


class SinkRuntime(Protocol):
    """What a sink gets from the gateway.

    Attributes:
        name: Of the sink in the configuration.
    """

    name: str

    def sent(self) -> None:
        """Say that events are on their way, and not confirmed. A test may end the process here."""
        ...

    async def carry_out(
        self,
        command: Command,
        *,
        message_id: str,
        digest: str,
        request_id: str = "",
        trace_id: str = "",
    ) -> OrderId | None:
        """Carry out a command that came as a message, once, however often the message comes.

        When it returns, the effect is durable, and so is that the message had it: acknowledge it then.

        Args:
            message_id: Names the message for ever: 1 to 128 printable ASCII characters without spaces.
            digest: Of what it holds.
            request_id: For the events that follow, by which their receiver knows whose they are. One that is
                not 1 to 128 printable ASCII characters is replaced by `message_id`.
            trace_id: W3C trace id for those events; whatever is none is left out.

        Raises:
            Unavailable: Nothing was stored; the same message may have its effect later.
            TradegwError: Nothing was stored, and coming again would not help: the command is refused, or
                another message had this id (`IdempotencyKeyReused`).

        Cancellation: the command may be carried out. The same message gets the same effect.
        """
        ...


ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFactory(Generic[ConfigT]):
    """How to open a sink.

    Attributes:
        name: What `plugin = ...` says in the configuration.
        config_type: A `msgspec.Struct` or dataclass; the section of the sink is decoded into it, and unknown
            keys are refused. Fields whose value may be secret are of type `tradegw.venue.Secret`.
        open: Entered once, before any account is served; does not wait for the receiver, which may be away.
    """

    name: str
    config_type: type[ConfigT]
    open: Callable[[ConfigT, SinkRuntime], AbstractAsyncContextManager[Sink]]
