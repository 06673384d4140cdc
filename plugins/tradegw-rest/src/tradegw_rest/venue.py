"""The venue `rest`: one account's access to the exchange that a definition describes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Final, cast
from urllib.parse import urlsplit

from tradegw import (
    ConfigError,
    ExecutionReport,
    NotFound,
    NotSent,
    RateLimited,
    TranslationError,
    VenueClientOrderId,
    VenueError,
)
from tradegw.venue import (
    Capabilities,
    Command,
    Examined,
    Feedback,
    FetchFills,
    FetchInstruments,
    FetchOrder,
    FetchServerTime,
    Page,
    Query,
    Runtime,
    StreamGap,
    StreamItem,
    StreamReady,
    TranslateContext,
    Venue,
    VenueRequest,
    Verdict,
)
from tradegw_rest.config import RestConfig
from tradegw_rest.connection import run_connection
from tradegw_rest.definition import Definition, Host
from tradegw_rest.library import load
from tradegw_rest.markets import Markets
from tradegw_rest.operations import Draft
from tradegw_rest.signers import Credentials, NonceSource, Signer, Stamp
from tradegw_rest.transport import HttpTransport, open_http
from tradegw_rest.wire import HttpRequest, HttpResponse

__all__ = ["RestVenue", "open_rest"]

_BANNED: Final = 418
_UNTOLD_WAIT_S: Final = 1.0
"""For how long a venue that says "too fast", and not until when, is left alone."""
_UNTOLD: Final = {
    "api_version": "the exchange does not tell which it runs",
    "key_permissions": "the exchange does not tell what a key may do",
}
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0


class RestVenue(Venue):
    """One account at one exchange."""

    def __init__(
        self,
        definition: Definition,
        host: Host,
        runtime: Runtime,
        transport: HttpTransport,
        *,
        credentials: Credentials | None,
        hosts: frozenset[str],
        symbols: Sequence[str] = (),
        environment: str,
    ) -> None:
        self._definition = definition
        self._environment = environment
        self._host = host
        self._runtime = runtime
        self._transport = transport
        self._hosts = hosts
        self._symbols = tuple(symbols)
        self._signer: Signer | None = None
        self._nonces = NonceSource("none")
        if credentials is not None:
            self._signer = definition.signer(credentials)
            self._nonces = _nonces_of(definition, credentials)
        self._markets = Markets()
        self._offset_ns = 0
        self._rng = random.Random()

    @property
    def capabilities(self) -> Capabilities:
        """What the exchange can do, by its definition."""
        return self._definition.capabilities

    @property
    def environment(self) -> str:
        """The definition's environment, and the host that is asked."""
        return self._environment

    def translate(self, command: Command, context: TranslateContext) -> VenueRequest:
        """Turn a command into one unsigned request."""
        return self._definition.translate(command, context)

    async def execute(self, request: VenueRequest) -> Sequence[ExecutionReport]:
        """Sign a request, send it once, and read the answer."""
        draft = request.payload
        assert isinstance(draft, Draft)
        response = await self._send(draft)
        try:
            return self._definition.reports(draft, response)
        except RateLimited as e:
            self._throttled(e, response, draft)
            raise

    async def fetch(self, query: Query) -> Page[Any]:
        """Ask the exchange.

        Where an order may be absent, the page is dated by the exchange's own clock as it stood before the
        last look: nobody's guess of it proves an absence.
        """
        drawn = Counter({budget.name: 0 for budget in self.capabilities.budgets})
        return replace(await self._found(query, drawn), cost=drawn)

    async def _found(self, query: Query, drawn: Counter[str]) -> Page[Any]:
        """Ask the exchange, and count what the requests draw."""
        if isinstance(query, FetchServerTime):
            return await self._ask_time(drawn)
        if isinstance(query, FetchFills) and query.venue_client_order_id is not None:
            return await self._ask_fills(query, query.venue_client_order_id, drawn)
        if isinstance(query, FetchOrder) and query.venue_order_id is None:
            # By our name: in doubt, and likely not there. Where looking is dear, Kraken's closed orders say,
            # two looks for each question would leave little room in the budget for an answer.
            as_of = (await self._ask_time(drawn)).as_of
            return replace(await self._ask(query, drawn), as_of=as_of)
        page = await self._ask(query, drawn)
        if isinstance(query, FetchInstruments):
            self._markets = Markets(page.items)
            return Page(items=tuple(self._markets), as_of=page.as_of)
        if isinstance(query, FetchOrder) and not page.items:
            as_of = (await self._ask_time(drawn)).as_of
            page = await self._ask(query, drawn)
            return Page(items=page.items, as_of=as_of)
        return page

    async def examine(self) -> Sequence[Examined]:
        """Compare the version of the API with the definition's, and look at what the key may do."""
        definition = self._definition
        found: list[Examined] = []
        for check, name, look in (
            ("version", "api_version", self._examine_version),
            ("permissions", "key_permissions", self._examine_permissions),
        ):
            if name not in definition.operations:
                found.append(Examined(check=check, verdict=Verdict.OK, detail=_UNTOLD[name]))
                continue
            try:
                draft = definition.plain_draft(name, self._venue_ns())
                verdict, detail = look(draft, await self._send(draft))
            except (VenueError, TranslationError) as e:
                verdict, detail = Verdict.PROBLEM, str(e)
            found.append(Examined(check=check, verdict=verdict, detail=detail))
        checked = f"checked against {definition.checked.version}, {definition.checked.date}"
        first = replace(
            found[0], detail=f"definition {definition.name}, {checked}: {found[0].detail}"
        )
        return (first, *found[1:])

    def _examine_version(self, draft: Draft, response: HttpResponse) -> tuple[Verdict, str]:
        version = self._definition.api_version(draft, response)
        if version == self._definition.checked.version:
            return Verdict.OK, "the exchange runs the same"
        return Verdict.WARNING, f"the exchange runs {version}"

    def _examine_permissions(self, draft: Draft, response: HttpResponse) -> tuple[Verdict, str]:
        trades, withdraws = self._definition.permissions(draft, response)
        if not trades:
            return Verdict.PROBLEM, "the key may not trade"
        if withdraws:
            return Verdict.WARNING, "the key may withdraw: make one that may only trade"
        return Verdict.OK, "the key may trade"

    async def stream(self, since: int) -> AsyncIterator[StreamItem]:
        """Yield what the private stream tells; after a break a gap, then ready anew."""
        recipe = self._definition.stream
        if recipe is None or not self._host.stream or self._signer is None:
            # Nothing but questions tells what happens there: the reconciler asks them.
            yield StreamReady()
            while True:
                await self._runtime.sleep(3600.0)
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                token = await self._token() if recipe.needs_token else None
                session = recipe.begin(
                    account=self._runtime.account,
                    signer=self._signer,
                    stamp=self._stamp,
                    markets=self._markets,
                    symbols=self._symbols,
                    token=token,
                )
                connection = run_connection(
                    self._host.stream,
                    session,
                    recipe,
                    hosts=self._hosts,
                    headers=self._host.headers,
                    time_ns=self._runtime.time_ns,
                )
                async with aclosing(cast("AsyncGenerator[StreamItem]", connection)) as items:
                    async for item in items:
                        if isinstance(item, StreamReady):
                            wait_s = _FIRST_WAIT_S
                        yield item
            except (VenueError, TranslationError) as e:
                yield StreamGap(why=str(e))
            # Full jitter: those whom one outage cut off do not all come back at once.
            await self._runtime.sleep(wait_s * self._rng.random())
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    # --- asking ---------------------------------------------------------------------------------

    async def _ask(self, query: Query, drawn: Counter[str]) -> Page[Any]:
        asking = self._definition.ask(
            query, markets=self._markets, account=self._runtime.account, now=self._venue_ns
        )
        response: HttpResponse | None = None
        draft: Draft | None = None
        try:
            draft = next(asking)
            while True:
                drawn.update(draft.cost)
                response = await self._send(draft)
                draft = asking.send(response)
        except StopIteration as end:
            page: Page[Any] = end.value
            return page
        except NotFound as e:
            raise VenueError(str(e), reason=e.reason) from e
        except RateLimited as e:
            assert response is not None
            assert draft is not None
            self._throttled(e, response, draft)
            raise
        finally:
            asking.close()

    async def _ask_fills(
        self, query: FetchFills, name: VenueClientOrderId, drawn: Counter[str]
    ) -> Page[Any]:
        """Ask about the fills of one order, and of no other.

        Most exchanges tell whose a fill is by their own id alone, and list everybody's where they are not
        given one.
        """
        order_id = query.venue_order_id
        if order_id is None:
            if query.symbol is None:
                raise VenueError("the fills of an order are asked for with its symbol")
            order = FetchOrder(symbol=query.symbol, venue_client_order_id=name)
            orders = await self._found(order, drawn)
            order_id = next((r.venue_order_id for r in orders.items if r.venue_order_id), None)
            if order_id is None:
                # What was never there has not filled.
                return Page(items=(), as_of=orders.as_of)
        page = await self._ask(replace(query, venue_order_id=order_id), drawn)
        return replace(
            page,
            items=tuple(
                report
                for report in page.items
                if report.venue_client_order_id == name
                or (report.venue_client_order_id is None and report.venue_order_id == order_id)
            ),
        )

    async def _ask_time(self, drawn: Counter[str]) -> Page[Any]:
        sent_ns = self._runtime.time_ns()
        page = await self._ask(FetchServerTime(), drawn)
        back_ns = self._runtime.time_ns()
        self._offset_ns = page.as_of.time_ns - (sent_ns + back_ns) // 2
        return page

    async def _token(self) -> Any:
        draft = self._definition.token_draft(self._venue_ns())
        return self._definition.token(draft, await self._send(draft))

    async def _send(self, draft: Draft) -> HttpResponse:
        if self._venue_ns() >= draft.valid_until_ns:
            raise NotSent("the request's validity ended before it could be sent")
        response = await self._transport.send(self._signed(draft))
        used = self._definition.used(draft.operation, response)
        if used:
            self._runtime.feedback(Feedback(used=used, symbol=_symbol_of(draft)))
        return response

    def _signed(self, draft: Draft) -> HttpRequest:
        if not draft.is_signed:
            request = self._definition.unsigned(draft, self._host.rest)
        elif self._signer is None:
            raise NotSent("this account has no key, and the request needs one", reason="NO_API_KEY")
        else:
            request = self._signer.sign(draft, self._host.rest, self._stamp())
        if not self._host.headers:
            return request
        return HttpRequest(
            method=request.method,
            url=request.url,
            headers={**request.headers, **dict(self._host.headers)},
            body=request.body,
        )

    def _stamp(self) -> Stamp:
        now_ns = self._venue_ns()
        return Stamp(now_ns=now_ns, nonce=self._nonces.draw(now_ns))

    def _venue_ns(self) -> int:
        return self._runtime.time_ns() + self._offset_ns

    def _throttled(self, error: RateLimited, response: HttpResponse, draft: Draft) -> None:
        wait_s = error.retry_after_s
        if wait_s is None and error.reason == "RATE_LIMITED":
            wait_s = _UNTOLD_WAIT_S
        self._runtime.feedback(
            Feedback(
                detail=str(error),
                symbol=_symbol_of(draft),
                retry_after_s=wait_s,
                # What the request does not draw on has not run out: cancels go on beside orders.
                pools=tuple(pool for pool, units in draft.cost.items() if units),
                banned=response.status == _BANNED,
            )
        )


def _symbol_of(draft: Draft) -> str | None:
    instrument = draft.inputs.instrument
    return None if instrument is None else instrument.symbol


# Accounts with one key share its nonces: each must be above the last that the venue saw.
_NONCES: Final[dict[tuple[str, str], NonceSource]] = {}


def _nonces_of(definition: Definition, credentials: Credentials) -> NonceSource:
    # The key is no secret; it is sent in clear with each request.
    name = (definition.name, credentials.key.reveal())
    found = _NONCES.get(name)
    if found is None:
        found = _NONCES[name] = NonceSource(definition.nonce)
    return found


@asynccontextmanager
async def open_rest(config: RestConfig, runtime: Runtime) -> AsyncGenerator[RestVenue]:
    """Open an account at the exchange of a definition. Nothing is sent yet.

    Raises:
        ConfigError: The key will not do.
    """
    definition = load(config.definition)
    host = definition.hosts[config.environment]
    host = Host(
        rest=config.rest_url.rstrip("/") or host.rest,
        # Never half of each: another server's orders are not told by this one's stream.
        stream=config.stream_url or ("" if config.rest_url else host.stream),
        headers=host.headers,
    )
    hosts = frozenset(urlsplit(url).netloc for url in (host.rest, host.stream) if url)
    async with open_http(hosts, runtime.time_ns) as transport:
        yield RestVenue(
            definition,
            host,
            runtime,
            transport,
            credentials=_credentials(config, definition),
            hosts=hosts,
            symbols=config.symbols,
            environment=f"{config.environment} {urlsplit(host.rest).netloc}",
        )


def _credentials(config: RestConfig, definition: Definition) -> Credentials | None:
    if definition.is_public:
        return None
    if config.api_key is None or config.api_secret is None:
        raise ConfigError(
            f"{definition.name} needs api_key and api_secret, as env:NAME or file:PATH",
            reason="SECRET_MISSING",
        )
    return Credentials(key=config.api_key, secret=config.api_secret, passphrase=config.passphrase)
