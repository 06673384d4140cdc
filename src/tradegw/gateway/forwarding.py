"""One of several gateways on one store: it takes any request, and hands on what another one serves.

What the record tells is read here, whoever serves the account. What acts on an account is asked of the one
that holds its lease, with the caller's key, over the same API that the caller used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from typing_extensions import Unpack, override

from tradegw.engine.routing import Route, pick_account
from tradegw.errors import InvalidOrder, TradegwError, Unavailable
from tradegw.gateway.api import NewOrderFields, Number, VenueInfo
from tradegw.gateway.asker import Asker
from tradegw.gateway.cancelling import cancel_everywhere
from tradegw.gateway.halting import Halting
from tradegw.gateway.local import LocalGateway, one_order
from tradegw.gateway.states import States
from tradegw.model import (
    AccountName,
    Halt,
    Instrument,
    NewOrder,
    Order,
    OrderId,
    Position,
    Side,
)
from tradegw.ports import AccountRecord

if TYPE_CHECKING:
    from tradegw.engine.engine import Engine
    from tradegw.gateway.holders import Holders
    from tradegw.gateway.peers import Peers

__all__ = ["ForwardingGateway"]

log = logging.getLogger(__name__)


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
        self._peers = peers
        self._asker = Asker(self._routes, self._here, holders, peers)
        self._halting = Halting(self._routes, self._here, holders, self._asker)
        self._states = States(self._routes, plugins, self._here, holders, self._asker)
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
        return await self._asker.ask(self._route(new), lambda there: there.place_order(new))

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
                placed = await self._asker.ask(account, lambda there: there.place_orders(part))
            except TradegwError as e:
                placed = [e] * len(part)
            placed = await self._asker.explain(account, placed)
            answers.update(zip(numbers, placed, strict=True))

        await asyncio.gather(*(place(account, numbers) for account, numbers in parts.items()))
        return [answers[i] for i in range(len(orders))]

    def _route(self, new: NewOrder) -> AccountName | None:
        """Return which account an order is for; None when it is for none, which the engine explains."""
        try:
            return pick_account(new, self._routes.values())
        except InvalidOrder:
            return None

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
        return await self._asker.ask(
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
            return await cancel_everywhere(
                self, self._routes, symbol=symbol, side=side, key=idempotency_key
            )
        return await self._asker.ask(
            account,
            lambda there: there.cancel_all_orders(
                account=account, symbol=symbol, side=side, idempotency_key=idempotency_key
            ),
        )

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
        return await self._asker.ask(
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
        return await self._asker.ask(
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
        return await self._asker.ask(
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
        return await self._asker.ask(
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
        """Refuse new orders everywhere; see `Halting.halt`."""
        return await self._halting.halt(
            scope=scope, why=why, by=by, cancel_open=cancel_open, key=idempotency_key
        )

    @override
    async def resume(
        self, *, scope: str = "*", by: str, idempotency_key: str | None = None
    ) -> None:
        """Lift a halt everywhere; see `Halting.resume`."""
        await self._halting.resume(scope=scope, by=by, key=idempotency_key)

    @override
    async def list_halts(self) -> Sequence[Halt]:
        """Return the halts in force."""
        await self.engine.halts.read()
        return await super().list_halts()

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
        address = await self._asker.elsewhere(account)
        if address == "":
            log.info(
                "the positions of %s are told from the record: its holder has no door", account
            )
            return await self.engine.store.list_positions(record.account_id)
        if address is not None:
            try:
                return await self._asker.ask_state(
                    address, lambda there: there.list_positions(account)
                )
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
        return await self._states.list_venues()

    @override
    async def list_held(self) -> Sequence[VenueInfo]:
        """Return the states of the accounts that this process serves, from memory."""
        return await self._here.list_venues()
