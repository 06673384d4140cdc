"""One of several gateways on one store: it takes any request, and hands on what another one serves.

What the record tells is read here, whoever serves the account. What acts on an account is asked of the one
that holds its lease, with the caller's key, over the same API that the caller used. It goes one hop: whoever
gets a forwarded request for an account that it does not hold says so, and the caller asks again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID, uuid4

from typing_extensions import Unpack, override

from tradegw.engine.context import REQUEST
from tradegw.engine.fingerprint import fingerprint
from tradegw.engine.halts import ANY_SCOPE
from tradegw.engine.requests import all_of, check_same
from tradegw.engine.routing import Route, pick_account
from tradegw.errors import (
    Conflict,
    InvalidOrder,
    NotFound,
    StoreError,
    TradegwError,
    Unavailable,
)
from tradegw.gateway.api import AccountStatus, Gateway, NewOrderFields, Number, VenueInfo
from tradegw.gateway.local import PAGE_MAX, LocalGateway, check_given_key, one_order
from tradegw.model import (
    AccountName,
    CommandKind,
    Cursor,
    Halt,
    Instrument,
    NewOrder,
    Order,
    OrderFilter,
    OrderId,
    OrdStatus,
    Origin,
    Position,
    Side,
)
from tradegw.ports import AccountRecord, Claim, Head

if TYPE_CHECKING:
    from tradegw.engine.engine import Engine
    from tradegw.gateway.holders import Holders

__all__ = ["ForwardingGateway", "Peers"]

log = logging.getLogger(__name__)

T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound=Order | TradegwError)

PEERS_MAX = 64
"""Connections to other gateways that are kept. Beyond, those that nobody uses are closed."""

_LOOK_AGAIN_S = 1.0
"""How long another gateway may be silent before we look whether it still holds the account."""

_PATIENCE_S = 2.0
"""How long a question about another gateway's state may take. The record answers then, or nobody."""

_OPEN = tuple(status for status in OrdStatus if status.is_open)


@dataclass(slots=True)
class _Connection:
    gateway: Gateway
    users: int = 0


class Peers:
    """Connections to other gateways, by their addresses; made when they are needed, and kept.

    Args:
        connect: Makes one. It does no I/O.
    """

    def __init__(self, connect: Callable[[str], Gateway]) -> None:
        self._connect = connect
        self._connections: dict[str, _Connection] = {}

    @asynccontextmanager
    async def use(self, address: str) -> AsyncGenerator[Gateway]:
        """Yield the gateway that listens at an address."""
        # Taken out and put at the end: the first is the one that was not used for longest.
        used = self._connections.pop(address, None) or _Connection(self._connect(address))
        self._connections[address] = used
        used.users += 1
        try:
            yield used.gateway
        finally:
            used.users -= 1
            while len(self._connections) > PEERS_MAX and (idle := self._idle()):
                await self._connections.pop(idle).gateway.aclose()

    def _idle(self) -> str | None:
        return next((a for a, one in self._connections.items() if not one.users), None)

    async def close(self) -> None:
        """Close them all."""
        while self._connections:
            _, one = self._connections.popitem()
            await one.gateway.aclose()


class ForwardingGateway(LocalGateway):
    """A gateway that serves some of the configured accounts, and knows who serves the others.

    Args:
        routes: Every configured account, whoever serves it.
        plugins: The plugin of each venue.
    """

    def __init__(
        self, routes: Sequence[Route], plugins: Mapping[str, str], holders: Holders, peers: Peers
    ) -> None:
        super().__init__()
        self._here = LocalGateway()
        self._routes = {route.account: route for route in routes}
        self._plugins = plugins
        self._holders = holders
        self._peers = peers
        self._records: dict[AccountName, AccountRecord] = {}

    @override
    def attach(self, engine: Engine) -> None:
        """Begin to serve with an engine whose store is open."""
        self._here.attach(engine)
        super().attach(engine)

    @override
    async def hang_up(self) -> None:
        """Let go of the connections to other gateways."""
        await self._peers.close()

    @override
    def detach(self, why: str, *, for_good: bool = False) -> None:
        """Cease to serve, and tell whoever asks why."""
        super().detach(why, for_good=for_good)
        self._here.detach(why, for_good=for_good)

    # --- orders ---------------------------------------------------------------------------------

    @override
    async def place_order(
        self, order: NewOrder | None = None, /, **fields: Unpack[NewOrderFields]
    ) -> Order:
        """Place one order, once, wherever its account is served."""
        new = one_order(order, fields)
        return await self._at(self._route(new), lambda there: there.place_order(new))

    @override
    async def place_orders(self, orders: Sequence[NewOrder]) -> Sequence[Order | TradegwError]:
        """Place several orders; those of one account go together."""
        parts: dict[AccountName | None, list[int]] = {}
        for i, new in enumerate(orders):
            parts.setdefault(self._route(new), []).append(i)
        answers: dict[int, Order | TradegwError] = {}

        async def place(account: AccountName | None, numbers: Sequence[int]) -> None:
            part = [orders[i] for i in numbers]
            placed: Sequence[Order | TradegwError]
            try:
                placed = await self._at(account, lambda there: there.place_orders(part))
            except TradegwError as e:
                placed = [e] * len(part)
            if any(map(_is_not_holder, placed)) and await self._is_doorless(account):
                placed = [_without_door(account, answer) for answer in placed]
            answers.update(zip(numbers, placed, strict=True))

        await asyncio.gather(*(place(account, numbers) for account, numbers in parts.items()))
        return [answers[i] for i in range(len(orders))]

    @override
    async def cancel_order(
        self,
        order_id: OrderId | None = None,
        *,
        account: str | None = None,
        client_order_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Cancel an order, wherever its account is served."""
        if order_id is not None:
            order = await self.get_order(order_id)
        elif account is not None and client_order_id is not None:
            order = await self._by_client_id(account, client_order_id)
        else:
            raise InvalidOrder(
                "give order_id, or account and client_order_id", reason="INVALID_FIELD"
            )
        return await self._at(
            order.account,
            lambda there: there.cancel_order(order.order_id, idempotency_key=idempotency_key),
        )

    @override
    async def cancel_all_orders(
        self,
        *,
        account: str | None = None,
        symbol: str | None = None,
        side: Side | None = None,
        idempotency_key: str | None = None,
    ) -> Sequence[Order]:
        """Cancel our open orders that match, wherever their accounts are served."""
        if account is None:
            return await self._cancel_everywhere(symbol, side, idempotency_key)
        return await self._at(
            account,
            lambda there: there.cancel_all_orders(
                account=account, symbol=symbol, side=side, idempotency_key=idempotency_key
            ),
        )

    async def _cancel_everywhere(
        self, symbol: str | None, side: Side | None, key: str | None
    ) -> Sequence[Order]:
        """Choose by the record, once for the key, then cancel each where its account is served."""
        check_given_key(key)
        key = key or uuid4().hex
        digest = fingerprint(
            "cancel_all_orders", {"account": None, "venue": None, "symbol": symbol, "side": side}
        )
        engine = self.engine
        chosen = await self._list_open(symbol, side, self._names())
        claim = Claim(
            scope="*",
            idempotency_key=key,
            fingerprint=digest,
            operation="cancel_all_orders",
            result=json.dumps([str(order.order_id) for order in chosen]),
            created_time_ns=engine.clock.time_ns(),
        )
        taken = await engine.see_through(engine.store.put_claim(claim))
        if taken is not None:
            # The same orders as the first time.
            claim = taken.claim
            check_same(claim, digest)

        async def one(order_id: OrderId) -> Order:
            order = await self.get_order(order_id)
            if not order.is_open:
                return order
            try:
                return await self.cancel_order(order_id, idempotency_key=_derived(key, order_id))
            except Conflict:
                return await self.get_order(order_id)

        return await all_of(one(OrderId(UUID(text))) for text in json.loads(claim.result))

    async def _list_open(
        self, symbol: str | None, side: Side | None, accounts: Iterable[AccountName]
    ) -> Sequence[Order]:
        where = OrderFilter(accounts=tuple(accounts), symbol=symbol, side=side, statuses=_OPEN)
        found: list[Order] = []
        cursor: Cursor | None = None
        while True:
            page = await self.list_orders(where, page_size=PAGE_MAX, page_token=cursor)
            found += (order for order in page.items if order.origin is Origin.GATEWAY)
            cursor = page.next_cursor
            if cursor is None:
                return found

    @override
    async def replace_order(
        self,
        order_id: OrderId,
        *,
        order_qty: Number | None = None,
        price: Number | None = None,
        trigger_price: Number | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """Give an order other terms, wherever its account is served."""
        return await self._at(
            (await self.get_order(order_id)).account,
            lambda there: there.replace_order(
                order_id,
                order_qty=order_qty,
                price=price,
                trigger_price=trigger_price,
                idempotency_key=idempotency_key,
            ),
        )

    @override
    async def resolve(
        self,
        order_id: OrderId,
        *,
        outcome: str,
        by: str,
        why: str,
        idempotency_key: str | None = None,
    ) -> Order:
        """Decide an order in doubt by hand, wherever its account is served."""
        return await self._at(
            (await self.get_order(order_id)).account,
            lambda there: there.resolve(
                order_id, outcome=outcome, by=by, why=why, idempotency_key=idempotency_key
            ),
        )

    @override
    async def adopt(
        self,
        account: str,
        venue_order_ids: Sequence[str] = (),
        *,
        by: str,
        why: str,
        idempotency_key: str | None = None,
    ) -> Sequence[Order]:
        """Make open orders at the venue ours, wherever the account is served."""
        return await self._at(
            account,
            lambda there: there.adopt(
                account, venue_order_ids, by=by, why=why, idempotency_key=idempotency_key
            ),
        )

    @override
    async def close_position(
        self, account: str, symbol: str, *, idempotency_key: str | None = None
    ) -> Order | None:
        """Close a position, wherever the account is served."""
        return await self._at(
            account,
            lambda there: there.close_position(account, symbol, idempotency_key=idempotency_key),
        )

    # --- halts ----------------------------------------------------------------------------------

    @override
    async def halt(
        self,
        *,
        scope: str = "*",
        why: str,
        by: str,
        cancel_open: bool = False,
        idempotency_key: str | None = None,
    ) -> Halt:
        """Refuse new orders from now on, at every gateway that holds an account.

        Raises:
            Unavailable: The halt is stored, and one of them did not say that it obeys, or open orders of its
                scope are not being cancelled though that was asked; reason `HALT_UNCONFIRMED`. New orders are
                refused within moments all the same; the same key asks for the rest again.
        """
        key = idempotency_key or uuid4().hex

        def ask(there: Gateway) -> Awaitable[Halt]:
            return there.halt(
                scope=scope, why=why, by=by, cancel_open=cancel_open, idempotency_key=key
            )

        missing: list[str] = []
        ours = frozenset(filter(self._holders.is_ours, self._routes))
        try:
            halt = await ask(self._here)
        except Unavailable as e:
            stored = self.engine.halts.get(scope)
            if stored is None or REQUEST.get().is_forwarded:
                raise
            # Not all is cancelled here, and the others are to cancel theirs all the same.
            halt = stored
            missing.append(f"all of it by this gateway: {e}")
        missing += await self._everywhere(ask, scope)
        if cancel_open and not REQUEST.get().is_forwarded:
            missing += await self._check_cancelled(scope, ours)
        _confirm("the halt is in force here and stored", missing)
        return halt

    async def _check_cancelled(self, scope: str, ours: Collection[AccountName]) -> Sequence[str]:
        """Say which accounts of others have open orders in a halt's scope that nobody is cancelling.

        Whatever their holders answered: one may have lost an account before it came to it, and an account
        that nobody holds has nobody to answer for it.

        Args:
            ours: What was ours when the halt began. One that we took meanwhile was nobody's to cancel.
        """
        kind, _, name = scope.partition(":")
        elsewhere = [
            one
            for one in self._in_scope(scope)
            if one not in ours or not self._holders.is_ours(one)
        ]
        if not elsewhere:
            return []
        try:
            found = await self._list_open(name if kind == "symbol" else None, None, elsewhere)
        except StoreError as e:
            return [f"whether open orders elsewhere are cancelled cannot be read: {e}"]
        left: dict[AccountName, int] = {}
        for order in found:
            if not _is_being_cancelled(order):
                left[order.account] = left.get(order.account, 0) + 1
        return [f"{count} open orders of account {one}" for one, count in sorted(left.items())]

    @override
    async def resume(
        self, *, scope: str = "*", by: str, idempotency_key: str | None = None
    ) -> None:
        """Lift a halt, at every gateway that holds an account.

        Raises:
            Unavailable: It is lifted in the record, and one of them did not say that it knows; reason
                `HALT_UNCONFIRMED`. It will within moments.
        """
        key = idempotency_key or uuid4().hex

        def ask(there: Gateway) -> Awaitable[None]:
            return there.resume(scope=scope, by=by, idempotency_key=key)

        await self.engine.halts.read()
        await ask(self._here)
        _confirm("the halt is lifted here and in the record", await self._everywhere(ask, scope))

    @override
    async def list_halts(self) -> Sequence[Halt]:
        """Return the halts in force."""
        await self.engine.halts.read()
        return await super().list_halts()

    async def _everywhere(
        self, ask: Callable[[Gateway], Awaitable[object]], scope: str
    ) -> Sequence[str]:
        """Ask every other gateway that holds an account, unless another one asks us.

        Returns:
            Who did not say that it obeys, and why not, as far as it matters to a halt of this scope.
        """
        if REQUEST.get().is_forwarded:
            return []

        async def at(account: AccountName, address: str) -> str | None:
            try:
                await self._ask(account, address, ask)
            except TradegwError as e:
                return f"{address}: {e}"
            return None

        try:
            others, doorless = await self._others()
        except StoreError as e:
            return [f"who else holds accounts, which cannot be looked up: {e}"]
        found = await asyncio.gather(*(at(a, h) for h, a in others.items()))
        in_scope = self._in_scope(scope)
        return [text for text in found if text] + [
            f"the holder of account {name}, which has no gRPC door"
            for name in doorless
            if name in in_scope
        ]

    def _in_scope(self, scope: str) -> Sequence[AccountName]:
        """Return the configured accounts that a halt concerns."""
        kind, _, name = scope.partition(":")
        return [
            account
            for account, route in self._routes.items()
            if scope == ANY_SCOPE
            or kind == "symbol"
            or name == (account if kind == "account" else route.venue)
        ]

    # --- accounts -------------------------------------------------------------------------------

    @override
    def _names(self) -> Sequence[AccountName]:
        return tuple(self._routes)

    @override
    async def _record(self, account: str) -> AccountRecord:
        name = AccountName(account)
        if name not in self._routes or self._held(name) is not None:
            return await super()._record(account)
        record = self._records.get(name)
        if record is None:
            stored = {one.account: one for one in await self.engine.store.list_accounts()}
            record = stored.get(name)
            if record is None:
                raise Unavailable(
                    f"account {account} has not been served by any gateway yet", reason="NOT_HOLDER"
                )
            self._records[name] = record
        return record

    @override
    async def _read_heads(self, names: Sequence[AccountName]) -> None:
        hub = self.engine.hub
        for name in names:
            if self._held(name) is None:
                head = await self.engine.store.get_head(name)
                hub.add_account(name)
                hub.advance(name, head)

    @override
    async def list_positions(self, account: str) -> Sequence[Position]:
        """Return the positions as the holder knows them, or as they were last stored."""
        record = await self._record(account)
        address = await self._elsewhere(account)
        if address == "":
            log.info(
                "the positions of %s are told from the record: its holder has no door", account
            )
            return await self.engine.store.list_positions(record.account_id)
        if address is not None:
            try:
                async with asyncio.timeout(_PATIENCE_S), self._peers.use(address) as there:
                    return await there.list_positions(account)
            except (Unavailable, TimeoutError) as e:
                log.info("the positions of %s are told from the record: %s", account, e)
                return await self.engine.store.list_positions(record.account_id)
        return await super().list_positions(account)

    @override
    async def list_instruments(self, venue: str) -> Sequence[Instrument]:
        """Return what can be traded at a venue."""
        is_here = any(account.record.venue == venue for account in self.engine.accounts)
        if is_here or venue not in self._plugins:
            return await super().list_instruments(venue)
        return await self.engine.store.list_instruments(venue)

    @override
    async def list_venues(self) -> Sequence[VenueInfo]:
        """Return the configured venues with their accounts' states, as whoever serves each tells them."""
        here = await self.list_held()
        if REQUEST.get().is_forwarded:
            return here

        async def at(address: str) -> Sequence[VenueInfo]:
            try:
                async with asyncio.timeout(_PATIENCE_S), self._peers.use(address) as there:
                    return await there.list_venues()
            except (TradegwError, TimeoutError) as e:
                log.info("the gateway at %s does not tell its accounts: %s", address, e)
                return ()

        others, _ = await self._others()
        told = await asyncio.gather(*(at(address) for address in others))
        states = {
            status.account: replace(status, holder=address)
            for address, venues in zip(others, told, strict=True)
            for venue in venues
            for status in venue.accounts
        }
        states |= {status.account: status for venue in here for status in venue.accounts}
        found: dict[str, list[AccountStatus]] = {venue: [] for venue in self._plugins}
        for name, route in self._routes.items():
            found[route.venue].append(states.get(name) or await self._unheard(route))
        return [
            VenueInfo(venue=venue, plugin=self._plugins[venue], accounts=tuple(accounts))
            for venue, accounts in sorted(found.items())
            if accounts
        ]

    @override
    async def list_held(self) -> Sequence[VenueInfo]:
        """Return the states of the accounts that this process serves, from memory."""
        return await self._here.list_venues()

    async def _unheard(self, route: Route) -> AccountStatus:
        """Return what is known of an account whose holder does not speak, or that has none."""
        address = await self._holders.address_of(route.account)
        try:
            head = await self.engine.store.get_head(route.account)
        except NotFound:
            head = Head()
        return AccountStatus(
            account=route.account,
            venue=route.venue,
            plugin=self._plugins[route.venue],
            state="ELSEWHERE",
            why=_why_unheard(address),
            open_orders=0,
            in_doubt=0,
            head_seq=head.seq,
            holder=address or "",
        )

    # --- who serves it --------------------------------------------------------------------------

    def _route(self, new: NewOrder) -> AccountName | None:
        """Return which account an order is for; None when it is for none, which the engine explains."""
        try:
            return pick_account(new, self._routes.values())
        except InvalidOrder:
            return None

    async def _elsewhere(self, account: str | None) -> str | None:
        """Return where an account is served, if that is not here; "" where nobody can be asked.

        A forwarded request is answered here.
        """
        name = AccountName(account or "")
        if REQUEST.get().is_forwarded or name not in self._routes or self._holders.is_ours(name):
            return None
        return await self._holders.address_of(name)

    async def _is_doorless(self, account: AccountName | None) -> bool:
        try:
            return await self._elsewhere(account) == ""
        except StoreError:
            return False

    async def _others(self) -> tuple[Mapping[str, AccountName], Sequence[AccountName]]:
        """Return the other gateways that hold accounts: their addresses, and one account of each.

        Beside them the accounts whose holders have no door.
        """
        found: dict[str, AccountName] = {}
        doorless: list[AccountName] = []
        for name in self._routes:
            address = None if self._holders.is_ours(name) else await self._holders.address_of(name)
            if address:
                found.setdefault(address, name)
            elif address == "":
                doorless.append(name)
        return found, doorless

    async def _at(self, account: str | None, ask: Callable[[Gateway], Awaitable[T]]) -> T:
        """Ask whoever serves an account; ourselves where nobody does, who say so."""
        name = AccountName(account or "")
        address = await self._elsewhere(account)
        if address:
            return await self._ask(name, address, ask)
        try:
            # Also where the holder has no door: the record answers for a key that is known.
            return await ask(self._here)
        except Unavailable as e:
            if address is None:
                raise
            raise _without_door(name, e) from e

    async def _ask(
        self, account: AccountName, address: str, ask: Callable[[Gateway], Awaitable[T]]
    ) -> T:
        """Ask another gateway for as long as it holds the account.

        Raises:
            Unavailable: It holds it no more, and has not answered; reason `OUTCOME_UNKNOWN`.
        """
        async with self._peers.use(address) as there:
            asking = asyncio.ensure_future(ask(there))
            try:
                while not (await asyncio.wait([asking], timeout=_LOOK_AGAIN_S))[0]:
                    if await self._is_held_at(account, address):
                        continue
                    raise Unavailable(
                        f"the gateway at {address} was asked about account {account}, and lost it before "
                        "it answered; ask again with the same key",
                        reason="OUTCOME_UNKNOWN",
                    )
                return asking.result()
            finally:
                if asking.cancel():
                    await asyncio.wait([asking])

    async def _is_held_at(self, account: AccountName, address: str) -> bool:
        try:
            return await self._holders.address_of(account) == address
        except StoreError:
            return True  # Nobody can tell, and it may still answer.


def _derived(key: str, order_id: OrderId) -> str:
    """Return the key of one order's part: the same for the same request, and fit for the wire."""
    return hashlib.sha256(f"{key}\x1f{order_id}".encode()).hexdigest()


def _confirm(done: str, missing: Sequence[str]) -> None:
    """Raise what was not confirmed, if something was not."""
    if missing:
        raise Unavailable(f"{done}; not confirmed: {'; '.join(missing)}", reason="HALT_UNCONFIRMED")


def _is_being_cancelled(order: Order) -> bool:
    return order.pending is CommandKind.CANCEL or any(
        doubt.command is CommandKind.CANCEL for doubt in order.in_doubt
    )


def _is_not_holder(answer: Order | TradegwError) -> bool:
    return isinstance(answer, Unavailable) and answer.reason == "NOT_HOLDER"


def _without_door(account: AccountName | None, answer: AnswerT) -> AnswerT | Unavailable:
    """Say more of an answer that only tells that the account is served elsewhere."""
    if not _is_not_holder(answer):
        return answer
    return Unavailable(
        f"account {account} is held by a gateway without a gRPC door, such as one inside a program, or one "
        "that is starting: nobody can hand a request on to it",
        reason="HOLDER_WITHOUT_DOOR",
    )


def _why_unheard(address: str | None) -> str:
    if address is None:
        return "no gateway holds it now"
    if not address:
        return "held by a gateway without a gRPC door, which cannot be asked"
    return f"held by the gateway at {address}, which does not answer"
