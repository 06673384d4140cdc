"""The accounts that a gateway serves: each is opened, run and removed without disturbing the others."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

from tradegw.engine.account import Account, AccountSettings, AccountState, Meter
from tradegw.engine.external import Externals
from tradegw.engine.feed import run_account
from tradegw.engine.guard import AccountGuard, Lane, Traffic
from tradegw.engine.holding import HoldingDesk
from tradegw.engine.hub import Hub
from tradegw.engine.limits import start_of_day_ns
from tradegw.engine.outbox import NamedSink, Outbox
from tradegw.engine.outbox import end as end_outboxes
from tradegw.engine.queue import Queue
from tradegw.engine.requests import end
from tradegw.engine.routing import Route
from tradegw.engine.tenure import Tenure
from tradegw.engine.venue_names import Nonces
from tradegw.errors import InvalidOrder, NotFound, Unavailable
from tradegw.model import (
    AccountId,
    AccountName,
    EvidenceKind,
    Halt,
    Order,
    OrderFilter,
    OrdStatus,
    Origin,
)
from tradegw.plugins import Plugins
from tradegw.ports import AccountRecord, Clock, Store
from tradegw.venue import Feedback, Venue

__all__ = ["AccountPlan", "Member", "Members"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPlan:
    """How to run one account.

    Attributes:
        plugin: Name of the venue's factory.
        key_id: Names its credentials, without telling them; accounts with the same share what a venue grants
            to a key. Empty: it shares with nobody.
        owner: Names who it belongs to; accounts of one owner share what a venue grants to an owner.
        listen: Has the plugin's feedback handed to a listener.
    """

    route: Route
    plugin: str
    settings: AccountSettings
    open_venue: Callable[[], AbstractAsyncContextManager[Venue]]
    key_id: str = ""
    owner: str = ""
    listen: Callable[[Callable[[Feedback], None]], None] | None = None


@dataclass(slots=True)
class Member:
    """An account that is served, and what serves it."""

    plan: AccountPlan
    account: Account
    desk: HoldingDesk
    externals: Externals
    task: asyncio.Task[None]
    outboxes: list[tuple[Outbox, asyncio.Task[None]]]
    requests: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])

    async def carry_out(self, work: Awaitable[T]) -> T:
        """Await work on the account in the present task, which ends before the account is removed."""
        task = asyncio.current_task()
        assert task is not None
        self.requests.add(task)
        try:
            return await work
        finally:
            self.requests.discard(task)


class Members:
    """The accounts of one gateway."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        plugins: Plugins,
        hub: Hub,
        group: asyncio.TaskGroup,
        rng: random.Random,
        meter: Meter,
        sinks: Sequence[NamedSink],
        find_halt: Callable[[AccountName, str, str], Halt | None],
        routes: Sequence[Route] = (),
    ) -> None:
        """Serve none yet.

        Args:
            routes: Every configured account, where other gateways may serve some of them.
        """
        self._store = store
        self._clock = clock
        self._plugins = plugins
        self._hub = hub
        self._group = group
        self._rng = rng
        self._meter = meter
        self._sinks = tuple(sinks)
        self._find_halt = find_halt
        self._configured = {route.account: route for route in routes}
        self._all: dict[AccountName, Member] = {}
        self._opening: set[AccountName] = set()
        self._traffic: dict[str, Traffic] = {}
        self._sharers = 1
        self._nonces = Nonces()

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._all.values()))

    @property
    def routes(self) -> Sequence[Route]:
        """Where orders may go. Not hanging on who is asked: what others serve is among them."""
        if not self._configured:
            return [member.plan.route for member in self]
        return tuple(
            {**self._configured, **{n: m.plan.route for n, m in self._all.items()}}.values()
        )

    def knows(self, name: str) -> bool:
        """Whether an account is served here, or may be by another gateway."""
        return name in self._all or name in self._configured

    async def register(self, plan: AccountPlan) -> AccountRecord:
        """Return an account as it is stored; it is stored now if it was not.

        Raises:
            InvalidOrder: It was bound to another venue; reason `ACCOUNT_MISMATCH`.
            StoreError: The store cannot be used.
        """
        name = plan.route.account
        stored = {record.account: record for record in await self._store.list_accounts()}
        record = stored.get(name)
        if record is None:
            return await self._store.put_account(
                AccountRecord(
                    account_id=AccountId(uuid4()),
                    account=name,
                    venue=plan.route.venue,
                    plugin=plan.plugin,
                    created_time_ns=self._clock.time_ns(),
                )
            )
        if (record.venue, record.plugin) != (plan.route.venue, plan.plugin):
            raise InvalidOrder(
                f"account {name!r} was bound to venue {record.venue} ({record.plugin}); its orders are "
                f"there. The configuration says {plan.route.venue} ({plan.plugin}): use another name",
                reason="ACCOUNT_MISMATCH",
            )
        return record

    async def add(self, plan: AccountPlan, tenure: Tenure | None = None) -> None:
        """Begin to serve an account; the others are not disturbed.

        Args:
            tenure: Until when, where several gateways share the store.

        Raises:
            InvalidOrder: There is one of that name; reason `DUPLICATE_ACCOUNT`.
            StoreError: The store cannot be used.
        """
        name = plan.route.account
        if name in self._all or name in self._opening:
            raise InvalidOrder(f"there is an account {name!r} already", reason="DUPLICATE_ACCOUNT")
        self._opening.add(name)
        try:
            await self._open_account(plan, tenure)
        finally:
            self._opening.discard(name)

    async def _open_account(self, plan: AccountPlan, tenure: Tenure | None) -> None:
        name = plan.route.account
        record = await self.register(plan)
        account = Account(
            record,
            plan.settings,
            store=self._store,
            clock=self._clock,
            plugins=self._plugins,
            find_halt=self._find_halt,
            on_head=self._hub.advance,
            meter=self._meter,
            guard=self._guard(plan, record.venue, lambda: account.venue_now().time_ns, tenure),
            nonces=self._nonces,
        )
        if plan.listen is not None:
            plan.listen(account.guard.on_feedback)
        self._hub.add_account(name)
        try:
            await account.load()
        except Unavailable as e:
            if not account.failed.is_set():
                raise
            # It was read, and what that left in doubt could not be stored: it is read anew until it can.
            log.warning("account %s is read again: %s", name, e)
        if plan.settings.limits.max_orders_per_day is not None:
            await self._count_today(account)
        desk = HoldingDesk(account)
        externals = Externals(account)
        account.guard.on_close(account.wake_all)
        task = self._group.create_task(
            run_account(
                account,
                plugin=plan.plugin,
                open_venue=plan.open_venue,
                rng=self._rng,
                queue=Queue(account, desk, self._rng).run,
                resend=desk.resend,
                externals=externals,
            ),
            name=f"account {name}",
        )
        self._all[name] = Member(
            plan=plan,
            account=account,
            desk=desk,
            externals=externals,
            task=task,
            outboxes=[self._start_outbox(sink, record) for sink in self._sinks],
        )

    def _start_outbox(
        self, sink: NamedSink, record: AccountRecord
    ) -> tuple[Outbox, asyncio.Task[None]]:
        outbox = Outbox(
            sink, record, store=self._store, hub=self._hub, clock=self._clock, rng=self._rng
        )
        name = f"outbox of {record.account} to {sink.name}"
        return outbox, self._group.create_task(outbox.run(), name=name)

    async def _count_today(self, account: Account) -> None:
        """Count the orders of today that may have reached the venue: a restart forgives nothing."""
        now_ns = self._clock.time_ns()
        where = OrderFilter(accounts=(account.account,), created_from_ns=start_of_day_ns(now_ns))
        count, cursor = 0, None
        while True:
            page = await self._store.list_orders(where, limit=1000, cursor=cursor)
            count += sum(_was_granted(order) for order in page.items)
            cursor = page.next_cursor
            if cursor is None:
                break
        account.limits.restore(count, now_ns=now_ns)

    def _guard(
        self,
        plan: AccountPlan,
        venue: str,
        venue_time_ns: Callable[[], int],
        tenure: Tenure | None,
    ) -> AccountGuard:
        traffic = self._traffic.get(venue)
        if traffic is None:
            traffic = self._traffic[venue] = Traffic(self._clock, self._group.create_task)
            traffic.divide(self._sharers)
        name = plan.route.account
        return AccountGuard(
            name,
            Lane(
                traffic,
                account=name,
                key_id=plan.key_id or f"account {name}",
                owner=plan.owner,
                venue_time_ns=venue_time_ns,
            ),
            clock=self._clock,
            rng=self._rng,
            send_within_s=plan.settings.send_by_s,
            tenure=tenure,
        )

    def divide(self, sharers: int) -> None:
        """Leave to others their part of the rate budgets that are wider than an account.

        Args:
            sharers: How many gateways trade with the configured accounts now, ourselves included.
        """
        self._sharers = sharers
        for traffic in self._traffic.values():
            traffic.divide(sharers)

    async def remove(self, name: AccountName) -> None:
        """Cease to serve an account. Its orders stay as they are; what is on its way ends in doubt.

        Returns when nothing of it is under way any more, so that it may be added anew.

        Raises:
            NotFound: There is none of that name.
        """
        member = self._all.get(name)
        if member is None or name in self._opening:
            raise NotFound(f"there is no account {name!r}", reason="UNKNOWN_ACCOUNT")
        # Until the end nobody else may add an account of that name: two would decide on its orders.
        self._opening.add(name)
        try:
            del self._all[name]
            member.account.set_state(AccountState.CLOSING, "the account is removed")
            await end(member.requests)
            member.task.cancel()
            await asyncio.wait([member.task])
            await end_outboxes([task for _, task in member.outboxes], 0.0)
        finally:
            self._opening.discard(name)

    def get(self, name: str) -> Member:
        """Return an account and what serves it.

        Raises:
            NotFound: There is none of that name.
            Unavailable: Another gateway serves it, or none; reason `NOT_HOLDER`.
        """
        member = self._all.get(AccountName(name))
        if member is None:
            if name in self._configured:
                raise Unavailable(
                    f"account {name} is not served by this gateway now", reason="NOT_HOLDER"
                )
            known = ", ".join(sorted(self._all)) or "none"
            raise NotFound(
                f"there is no account {name!r}; there are {known}", reason="UNKNOWN_ACCOUNT"
            )
        return member

    async def close(self) -> None:
        """End the accounts' tasks, and then what goes out of them."""
        for member in self:
            member.task.cancel()
        for traffic in self._traffic.values():
            traffic.close()
        if self._all:
            await asyncio.wait([member.task for member in self])
        # Their streams end after what is stored, so a sink that is there gets all of it.
        outboxes = [task for member in self for _, task in member.outboxes]
        await end_outboxes(outboxes, _PATIENCE_S)


def _was_granted(order: Order) -> bool:
    """Whether an order passed its checks, so that the limits were charged with it."""
    is_denied = (
        order.ord_status is OrdStatus.REJECTED
        and order.closed_by is EvidenceKind.NOT_SENT
        and order.reason != "NEVER_REACHED_VENUE"
    )
    return order.origin is Origin.GATEWAY and not is_denied
