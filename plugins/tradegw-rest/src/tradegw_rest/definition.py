"""A definition, compiled: the one thing that a transport needs to speak with an exchange.

A transport sends bytes and reads bytes; everything else stands here, pure.

- A command: `translate` gives a `VenueRequest` whose payload is a `Draft`; `signer(...).sign(draft, base,
  stamp)` gives the `HttpRequest` to send; `reports(draft, response)` reads the answer or raises what
  `Venue.execute` may raise.
- A query: `ask(...)` is a generator that yields each `Draft` to sign and send, takes its `HttpResponse`, and
  returns the `Page`.
- The private stream: `stream.begin(...)` gives a `StreamSession` (see `tradegw_rest.streams`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from tradegw import (
    AccountName,
    ExecutionReport,
    Instrument,
    InvalidOrder,
    Order,
    OutcomeUnknown,
    TranslationError,
    VenueError,
)
from tradegw.venue import (
    Cancel,
    CancelAll,
    Capabilities,
    Command,
    ExpiryKind,
    FetchBalances,
    FetchFills,
    FetchHistory,
    FetchInstruments,
    FetchOpenOrders,
    FetchOrder,
    FetchPositions,
    FetchReferencePrice,
    FetchServerTime,
    Page,
    Query,
    Replace,
    Submit,
    TranslateContext,
    VenueRequest,
    VenueTime,
)
from tradegw_rest.failures import ErrorTable
from tradegw_rest.inputs import NOTHING, Inputs
from tradegw_rest.markets import Markets
from tradegw_rest.operations import OPERATIONS, Draft, Operation, refuse_unsupported
from tradegw_rest.signers import SIGNERS, Credentials, Signer, plain_request
from tradegw_rest.streams import StreamRecipe
from tradegw_rest.values import to_text
from tradegw_rest.wire import HttpRequest, HttpResponse, read_json

__all__ = ["Checked", "Definition", "Host", "Usage"]

_QUESTION_VALID_NS: Final = 10_000_000_000
"""How long a question is good for, and a command where the venue has no request expiry of its own."""
_PAGES_MAX: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One of the venue's environments.

    Attributes:
        rest: `https://host`, without a path.
        stream: `wss://host/path` of the private stream; `""` when there is none.
        headers: Sent with every request to it (OKX's demo).
    """

    rest: str
    stream: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Against what the definition was checked."""

    version: str
    date: str
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Where the venue says how much of a budget is used, or left.

    Attributes:
        operations: In the answers to which; None: to all.
    """

    pool: str
    header: str
    left_of: int | None = None
    operations: frozenset[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One exchange.

    Attributes:
        name: Such as `binance-spot`.
        hosts: By environment: `live`, and `test` where there is one.
        signer_name: Which signer; `signer` makes one for a key.
        operations: Each with its alternatives.
        samples: Markets to try things out with, when the venue has not been asked.
    """

    name: str
    title: str
    checked: Checked
    hosts: Mapping[str, Host]
    capabilities: Capabilities
    client_id: re.Pattern[str]
    signer_name: str
    nonce: str
    key_header: str
    operations: Mapping[str, tuple[Operation, ...]]
    errors: ErrorTable
    usage: tuple[Usage, ...]
    stream: StreamRecipe | None
    samples: Markets

    # --- keys -------------------------------------------------------------------------------------

    def signer(self, credentials: Credentials) -> Signer:
        """Make the signer of one key.

        Raises:
            ConfigError: The key is none of this venue's.
        """
        return SIGNERS[self.signer_name](credentials, key_header=self.key_header)

    def unsigned(self, draft: Draft, base: str) -> HttpRequest:
        """Return the request of a draft that needs no key, as it is to be sent."""
        return plain_request(draft, base)

    # --- commands ---------------------------------------------------------------------------------

    def translate(self, command: Command, context: TranslateContext) -> VenueRequest:
        """Turn a command into one unsigned request, whose payload is a `Draft`.

        Raises:
            UnsupportedOrder: The venue cannot do this.
            InvalidOrder: A number is off its grid.
        """
        now_ns = context.now.time_ns
        names = context.venue_client_order_ids
        instrument: Instrument | None = context.instrument
        order: Order | None = None
        terms = NOTHING
        match command:
            case Submit():
                name, order = "place", command.order
            case Cancel():
                name, order = "cancel", command.order
            case Replace():
                name, order, terms = "replace", command.order, command.terms
            case CancelAll():
                name = "cancel_all"
                if command.symbol is None:
                    instrument = None
            case _:
                raise refuse_unsupported(type(command).__name__, None)
        client_id = names[0] if names else (None if order is None else order.venue_client_order_id)
        if client_id is not None and not self.client_id.fullmatch(client_id):
            raise InvalidOrder(
                f"{self.name} takes client order ids that match {self.client_id.pattern}; "
                f"found {client_id[:80]!r}"
            )
        capabilities = self.capabilities
        inputs = Inputs(
            now_ns=now_ns,
            order=order,
            instrument=instrument,
            terms=terms,
            venue_client_order_id=client_id,
            venue_order_id=None if order is None else order.venue_order_id,
        )
        operation = self._chosen(name, inputs)
        valid_s = capabilities.expiry_s if operation.valid_s is None else operation.valid_s
        has_expiry = capabilities.expiry is ExpiryKind.TIME and not operation.never_expires
        until_ns = now_ns + (int(valid_s * 1e9) if has_expiry else _QUESTION_VALID_NS)
        inputs.valid_until_ns = until_ns if has_expiry else 0
        draft = operation.draft(inputs, valid_until_ns=until_ns)
        return VenueRequest(
            payload=draft,
            valid_until=VenueTime(time_ns=until_ns) if has_expiry else None,
            digest=f"{name} {client_id or inputs.venue_order_id or context.instrument.symbol}",
            cost=dict(draft.cost),
            safe_to_repeat=name in {"cancel", "cancel_all"},
        )

    def _chosen(self, name: str, inputs: Inputs) -> Operation:
        for operation in self.operations.get(name, ()):
            if operation.test is None or operation.test(None, inputs):
                return operation
        raise refuse_unsupported(name, inputs.order)

    def reports(self, draft: Draft, response: HttpResponse) -> tuple[ExecutionReport, ...]:
        """Read the answer to a command.

        Raises:
            VenueRejected: The venue said no.
            RateLimited: It did not take it.
            OutcomeUnknown: Anything else, an acceptance that cannot be read included.
        """
        operation, inputs = draft.operation, draft.inputs
        try:
            answer = read_json(response.body)
        except TranslationError:
            answer = None
        # One answer is read at a time: the inputs of the request serve, without a copy.
        inputs.root = answer
        if (
            answer is not None
            and 200 <= response.status < 300
            and not self.errors.is_error(answer, inputs)
            and operation.ok is not None
            and operation.ok(answer, inputs)
        ):
            try:
                return operation.reports(answer, inputs, response.received_time_ns)
            except TranslationError as e:
                raise OutcomeUnknown(f"{operation.name}: {e}", reason=e.reason) from e
        failure = self.errors.classify(operation.name, response, answer, inputs)
        failure.raise_for_command()
        raise AssertionError("a failure always raises")

    # --- queries ----------------------------------------------------------------------------------

    def ask(
        self, query: Query, *, markets: Markets, account: AccountName, now: Callable[[], int]
    ) -> Generator[Draft, HttpResponse, Page[Any]]:
        """Ask a query: yields each request, takes its answer, returns the page.

        ```python
        asking = definition.ask(query, markets=markets, account=account, now=venue_time_ns)
        draft = next(asking)
        while True:
            draft = asking.send(await send(draft))  # StopIteration carries the page
        ```

        Listings of orders and fills return one page of the venue's, with the cursor of the next. One order is
        looked for in every place that the definition names, one after the other. Balances and instruments are
        read to their end. The page of `FetchInstruments` holds `Listed`: make `Markets` of them.

        Args:
            now: The venue's clock, for dating each request.

        Raises:
            VenueError: No answer, or one that says nothing.
            NotFound: There is no such market.
        """
        if isinstance(query, FetchPositions):
            return Page(items=(), as_of=VenueTime(time_ns=now()))
        if (
            isinstance(query, FetchFills)
            and query.venue_order_id is None
            and query.venue_client_order_id is not None
            and query.symbol is not None
            and not all(place.by_client_id for place in self.operations.get("fills", ()))
        ):
            # Its fills do not name our order: they would look like ours, whosoever they are.
            order = FetchOrder(
                symbol=query.symbol, venue_client_order_id=query.venue_client_order_id
            )
            found = yield from self.ask(order, markets=markets, account=account, now=now)
            if not found.items:
                return found
            query = replace(query, venue_order_id=found.items[0].venue_order_id)
        name = _OPERATION_OF[type(query)]
        cursor = getattr(query, "cursor", None)
        if isinstance(query, FetchOrder) or not hasattr(query, "cursor"):
            items: list[Any] = []
            first: VenueTime | None = None
            for _ in range(_PAGES_MAX):
                page = yield from self._one_page(name, query, cursor, markets, account, now)
                items.extend(page.items)
                # What is absent was absent at the first look already.
                first = first or page.as_of
                cursor = page.next_cursor
                if cursor is None or (items and isinstance(query, FetchOrder)):
                    return Page(items=tuple(items), as_of=first)
            raise VenueError(f"{name}: more than {_PAGES_MAX} pages")
        return (yield from self._one_page(name, query, cursor, markets, account, now))

    def _one_page(
        self,
        name: str,
        query: Query,
        cursor: str | None,
        markets: Markets,
        account: AccountName,
        now: Callable[[], int],
    ) -> Generator[Draft, HttpResponse, Page[Any]]:
        index, inner = _read_cursor(cursor)
        inputs = _inputs_of(query, markets, now(), inner)
        places = [
            operation
            for operation in self.operations.get(name, ())
            if operation.test is None or operation.test(None, inputs)
        ]
        if index >= len(places):
            raise VenueError(
                f"{self.name} cannot be asked for {name} in this way", reason="UNSUPPORTED"
            )
        operation = places[index]
        draft = operation.draft(inputs, valid_until_ns=inputs.now_ns + self._question_valid_ns())
        page = self.page(draft, (yield draft), account)
        if page.next_cursor is not None:
            return Page(
                items=page.items, as_of=page.as_of, next_cursor=f"{index}:{page.next_cursor}"
            )
        if index + 1 < len(places):
            return Page(items=page.items, as_of=page.as_of, next_cursor=f"{index + 1}:")
        return page

    def _question_valid_ns(self) -> int:
        if self.capabilities.expiry is ExpiryKind.TIME:
            return int(self.capabilities.expiry_s * 1e9)
        return _QUESTION_VALID_NS

    def page(self, draft: Draft, response: HttpResponse, account: AccountName) -> Page[Any]:
        """Read the answer to one request of `ask`.

        Raises:
            VenueError: It says nothing.
        """
        operation, asked = draft.operation, draft.inputs
        inputs = asked.reading(None)
        try:
            answer = read_json(response.body)
        except TranslationError:
            answer = None
        inputs.root = answer
        is_ok = 200 <= response.status < 300 and answer is not None
        if is_ok and not self.errors.is_error(answer, inputs):
            is_ok = operation.ok is None or operation.ok(answer, inputs)
        else:
            is_ok = False
        if not is_ok:
            failure = self.errors.classify(operation.name, response, answer, inputs)
            if operation.name == "order" and failure.error_class == "UNKNOWN_ORDER":
                return Page(items=(), as_of=VenueTime(time_ns=draft.now_ns))
            failure.raise_for_query()
        try:
            return self._read_page(operation, answer, inputs, draft.now_ns, response, account)
        except TranslationError as e:
            raise VenueError(f"{operation.name}: {e}", reason=e.reason) from e

    def _read_page(
        self,
        operation: Operation,
        answer: Any,
        inputs: Inputs,
        asked_ns: int,
        response: HttpResponse,
        account: AccountName,
    ) -> Page[Any]:
        as_of = operation.time(answer, inputs, asked_ns)
        assert operation.rows is not None
        if operation.name == "server_time":
            return Page(items=(), as_of=as_of)
        if operation.price is not None:
            price = operation.reference_price(answer, inputs, asked_ns)
            return Page(items=() if price is None else (price,), as_of=as_of)
        rows = operation.rows.all(answer)
        cursor = operation.pager(answer, rows, inputs)
        items: list[Any]
        if operation.balance is not None:
            items = [
                operation.balance(row, inputs, account, as_of.time_ns)
                for row in operation.rows.kept(rows, inputs)
            ]
        elif operation.instrument is not None:
            items = [operation.instrument(row, inputs) for row in operation.rows.kept(rows, inputs)]
        else:
            items = list(operation.listed(rows, inputs, response.received_time_ns))
        return Page(items=tuple(items), as_of=as_of, next_cursor=cursor)

    # --- streams and budgets ----------------------------------------------------------------------

    def token_draft(self, now_ns: int) -> Draft:
        """Return the request for a stream's token, where `stream.needs_token`."""
        return self.plain_draft("stream_token", now_ns)

    def plain_draft(self, name: str, now_ns: int) -> Draft:
        """Return the request of an operation that needs to know nothing."""
        inputs = Inputs(now_ns=now_ns)
        return self._chosen(name, inputs).draft(
            inputs, valid_until_ns=now_ns + self._question_valid_ns()
        )

    def token(self, draft: Draft, response: HttpResponse) -> Any:
        """Read the answer to `token_draft`: what `stream.begin` takes as its token.

        Raises:
            VenueError: There is none in it.
        """
        assert draft.operation.token is not None
        answer, inputs = self._accepted(draft, response)
        token = draft.operation.token(answer, inputs)
        if not token:
            self._refuse(draft, response, answer, inputs)
        return token

    def api_version(self, draft: Draft, response: HttpResponse) -> str:
        """Read the answer to `plain_draft("api_version")`.

        Raises:
            VenueError: There is none in it.
        """
        assert draft.operation.version is not None
        answer, inputs = self._accepted(draft, response)
        version = to_text(draft.operation.version(answer, inputs))
        if not version:
            self._refuse(draft, response, answer, inputs)
        return version or ""

    def permissions(self, draft: Draft, response: HttpResponse) -> tuple[bool, bool]:
        """Read the answer to `plain_draft("key_permissions")`: may the key trade, may it withdraw.

        Raises:
            VenueError: It does not say.
        """
        operation = draft.operation
        assert operation.may_trade is not None
        answer, inputs = self._accepted(draft, response)
        withdraws = operation.may_withdraw is not None and operation.may_withdraw(answer, inputs)
        return operation.may_trade(answer, inputs), withdraws

    def _accepted(self, draft: Draft, response: HttpResponse) -> tuple[Any, Inputs]:
        """Return what a question's answer says.

        Raises:
            VenueError: It is no acceptance.
        """
        inputs = draft.inputs.reading(None)
        try:
            answer = read_json(response.body)
        except TranslationError:
            answer = None
        inputs.root = answer
        ok = draft.operation.ok
        if (
            not 200 <= response.status < 300
            or answer is None
            or self.errors.is_error(answer, inputs)
            or (ok is not None and not ok(answer, inputs))
        ):
            self._refuse(draft, response, answer, inputs)
        return answer, inputs

    def _refuse(self, draft: Draft, response: HttpResponse, answer: Any, inputs: Inputs) -> None:
        self.errors.classify(draft.operation.name, response, answer, inputs).raise_for_query()

    def used(self, operation: Operation, response: HttpResponse) -> dict[str, int]:
        """Return what the answer's headers say of the budgets, for `Runtime.feedback`."""
        found: dict[str, int] = {}
        for usage in self.usage:
            if usage.operations is not None and operation.name not in usage.operations:
                continue
            text = response.headers.get(usage.header, "")
            if text.isascii() and text.isdigit() and len(text) < 12:
                number = int(text)
                found[usage.pool] = (
                    number if usage.left_of is None else max(0, usage.left_of - number)
                )
        return found

    @property
    def is_public(self) -> bool:
        """Whether it signs nothing."""
        return self.signer_name == "none"

    def allowed_hosts(self) -> frozenset[str]:
        """Return the hosts that may be connected to, with their ports where they name one."""
        urls = [url for host in self.hosts.values() for url in (host.rest, host.stream) if url]
        return frozenset(urlsplit(url).netloc for url in urls)


_OPERATION_OF: Final[Mapping[type[Any], str]] = {
    FetchOrder: "order",
    FetchOpenOrders: "open_orders",
    FetchHistory: "history",
    FetchFills: "fills",
    FetchBalances: "balances",
    FetchInstruments: "instruments",
    FetchReferencePrice: "reference_price",
    FetchServerTime: "server_time",
}
assert set(_OPERATION_OF.values()) < set(OPERATIONS)


def _read_cursor(cursor: str | None) -> tuple[int, str | None]:
    if cursor is None:
        return 0, None
    index, found, inner = cursor.partition(":")
    if not (found and index.isascii() and index.isdigit() and len(index) < 3):
        raise VenueError(f"not a cursor of ours: {cursor[:40]!r}")
    return int(index), inner or None


def _inputs_of(query: Query, markets: Markets, now_ns: int, cursor: str | None) -> Inputs:
    symbol = getattr(query, "symbol", None)
    return Inputs(
        now_ns=now_ns,
        instrument=None if symbol is None else markets.get(symbol),
        venue_client_order_id=getattr(query, "venue_client_order_id", None),
        venue_order_id=getattr(query, "venue_order_id", None),
        since_ns=getattr(query, "since_ns", 0),
        cursor=cursor,
        markets=markets,
    )
