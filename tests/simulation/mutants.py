"""Deliberate defects of the engine, one at a time, each with seeds whose histories catch it.

A mutant is a patch; it changes what the engine does, and nothing of what is checked. Its seeds were found by
`nox -s simulate -- --mutant NAME --seeds 1000 --first-seed 1`, and are to be found anew when the drawing of
histories changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.simulation.exchange import VISIBILITY_LAG_S
from tradegw.engine import account as account_module
from tradegw.engine import reconciler as reconciler_module
from tradegw.engine import resolver as resolver_module
from tradegw.engine.account import Account
from tradegw.engine.feed import _Feed
from tradegw.engine.hub import Hub
from tradegw.engine.reconciler import Reconciler
from tradegw.engine.resolver import Resolver
from tradegw.engine.sending import SendingDesk
from tradegw.errors import NotSent, OutcomeUnknown, VenueRejected
from tradegw.model import CommandKind, ExecType, ExecutionReport, OrdStatus, lifecycle
from tradegw.ports import Entry, Stored
from tradegw.store.sqlstore import SqlStore
from tradegw.venue import VenueTime

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutant:
    """One defect.

    Attributes:
        seeds: Histories that catch it. More than one, because a change of the engine may move the moment.
        test: A test that catches it, where what it takes comes together in one history of thousands.
    """

    name: str
    make: Callable[[Patch], None]
    seeds: tuple[int, ...] = ()
    test: str | None = None

    @contextmanager
    def at_large(self) -> Generator[None]:
        """Let the engine have the defect for a while."""
        with pytest.MonkeyPatch.context() as patch:
            self.make(patch)
            yield


def _around(patch: Patch, owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Replace a method by `wrapper(original, self, ...)`."""
    original = getattr(owner, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapper(original, self, *args, **kwargs)

    patch.setattr(owner, name, method)


# --- what an answer means ---------------------------------------------------------------------------


def timeout_read_as_refusal(patch: Patch) -> None:
    """Silence closes the order."""

    async def execute(original: Any, self: SendingDesk, *args: Any) -> Any:
        try:
            return await original(self, *args)
        except OutcomeUnknown as e:
            raise VenueRejected(str(e), reason="TIMEOUT") from e

    _around(patch, SendingDesk, "_execute", execute)


def cut_connection_read_as_not_sent(patch: Patch) -> None:
    """A connection that breaks counts as one that was never made."""

    async def execute(original: Any, self: SendingDesk, *args: Any) -> Any:
        try:
            return await original(self, *args)
        except OutcomeUnknown as e:
            if "no answer within" in str(e):
                raise
            raise NotSent(str(e)) from e

    _around(patch, SendingDesk, "_execute", execute)


def submit_retried(patch: Patch) -> None:
    """An order without an answer is sent again."""

    async def execute(
        original: Any, self: SendingDesk, command: CommandKind, request: Any, *more: Any
    ) -> Any:
        try:
            return await original(self, command, request, *more)
        except OutcomeUnknown:
            if command is not CommandKind.NEW:
                raise
            return await original(self, command, request, *more)

    _around(patch, SendingDesk, "_execute", execute)


def cancel_of_unknown_order_means_gone(patch: Patch) -> None:
    """ "Unknown order" as the answer to a cancel closes the order."""

    async def execute(original: Any, self: SendingDesk, command: CommandKind, *more: Any) -> Any:
        try:
            return await original(self, command, *more)
        except OutcomeUnknown as e:
            if command is CommandKind.CANCEL and ("ORDER_CLOSED" in str(e) or "UNKNOWN" in str(e)):
                return [ExecutionReport(exec_type=ExecType.CANCELED, command=command)]
            raise

    _around(patch, SendingDesk, "_execute", execute)


# --- what is sent -----------------------------------------------------------------------------------


def sent_after_valid_until(patch: Patch) -> None:
    """Nobody looks whether the request is still valid."""

    async def execute(
        original: Any, self: SendingDesk, command: CommandKind, request: Any, *more: Any
    ) -> Any:
        return await original(self, command, replace(request, valid_until=None), *more)

    _around(patch, SendingDesk, "_execute", execute)


def sent_before_it_is_stored(patch: Patch) -> None:
    """The intent goes to the store while the order is already on its way."""
    kept: set[asyncio.Task[Any]] = set()

    async def put(original: Any, self: Account, entry: Entry) -> Any:
        if not entry.is_new_order or entry.ref is None:
            return await original(self, entry)
        kept.add(asyncio.ensure_future(original(self, entry)))
        return Stored(events=entry.events)

    _around(patch, Account, "put", put)


# --- keys, and what is remembered -------------------------------------------------------------------


def key_released_on_unknown(patch: Patch) -> None:
    """The key of an order in doubt is free again."""

    async def doubt(original: Any, self: Account, order_id: Any, *args: Any) -> Any:
        order = await original(self, order_id, *args)
        await self.store._write(lambda q: _release(q, order.idempotency_key))  # type: ignore[attr-defined]
        return order

    async def _release(queries: Any, key: str) -> None:
        queries._execute(
            "UPDATE command SET idempotency_key = 'released-' || idempotency_key "
            "WHERE idempotency_key = ?",
            (key,),
        )

    _around(patch, Account, "doubt", doubt)


def doubts_forgotten_at_restart(patch: Patch) -> None:
    """A start remembers only orders that the venue has acknowledged."""

    async def list_known_open(original: Any, self: SqlStore, account_id: Any) -> Any:
        return [k for k in await original(self, account_id) if k.order.acknowledged]

    _around(patch, SqlStore, "list_known_open", list_known_open)


def failed_commit_does_not_stop_the_account(patch: Patch) -> None:
    """Whoever decided on what was not stored goes on deciding on it."""
    patch.setattr(Account, "fail", lambda self, error: None)
    from tradegw.store.groups import GroupCommit

    async def append(inner: Any, self: GroupCommit, entry: Entry) -> Any:
        self.readmit(entry.account_id)
        return await inner(self, entry)

    _around(patch, GroupCommit, "append", append)


# --- what proves absence ----------------------------------------------------------------------------


def not_found_closes_at_once(patch: Patch) -> None:
    """One "not found" closes the order, whether or not its request can still arrive."""
    patch.setattr(resolver_module, "counts", lambda *_, **__: True)
    patch.setattr(resolver_module, "proves_absence", _unheard_of)


def _unheard_of(order: Any, ref: Any, seen: Any, **_: Any) -> bool:
    return bool(seen) and not order.acknowledged and not order.cum_qty


def absence_judged_by_our_clock(patch: Patch) -> None:
    """Our own clock says whether the request can still arrive."""

    async def not_found(
        original: Any, self: Resolver, venue: Any, order: Any, ref: Any, as_of: Any
    ) -> Any:
        return await original(self, venue, order, ref, _now(self))

    async def fetch_fills(original: Any, self: Resolver, *args: Any) -> Any:
        fills, _ = await original(self, *args)
        return fills, _now(self)

    def _now(resolver: Resolver) -> VenueTime:
        return VenueTime(time_ns=resolver._account.clock.time_ns())

    _around(patch, Resolver, "_not_found", not_found)
    _around(patch, Resolver, "_fetch_fills", fetch_fills)


def absence_at_the_first_look(patch: Patch) -> None:
    """One look right after the request's end is enough, however late the venue shows orders."""
    patch.setattr(
        resolver_module,
        "counts",
        lambda order, ref, seen, **_: seen.as_of.time_ns > ref.valid_until_ns,
    )
    patch.setattr(resolver_module, "proves_absence", _unheard_of)


# --- what reports do --------------------------------------------------------------------------------


def late_acknowledgement_reopens(patch: Patch) -> None:
    """An acknowledgement that comes after the close opens the order again."""
    reopens = lifecycle._reopens
    patch.setattr(
        lifecycle,
        "_reopens",
        lambda order, report, evidence: (
            report.exec_type is ExecType.NEW
            or (report.exec_type is ExecType.ORDER_STATUS and report.ord_status is OrdStatus.NEW)
            or reopens(order, report, evidence)
        ),
    )


def fill_key_without_the_order(patch: Patch) -> None:
    """A fill's number is taken for its account's, though the venue counts for each symbol anew."""

    async def apply_received(
        original: Any, self: Account, order_id: Any, reports: Sequence[Any], **more: Any
    ) -> Any:
        seen: dict[str, Any] = self.__dict__.setdefault("seen_fills", {})
        kept = [
            r
            for r in reports
            if r.trade_id is None or seen.setdefault(r.trade_id, order_id) == order_id
        ]
        return await original(self, order_id, kept, **more)

    _around(patch, Account, "apply_received", apply_received)


def fill_counted_again_when_seen_again(patch: Patch) -> None:
    """A fill is known by when it came, not by the venue's number."""

    def received(original: Any, self: Account, report: Any) -> Any:
        told = original(self, report)
        if told.trade_id is None or "@" in told.trade_id:
            return told
        return replace(told, trade_id=f"{told.trade_id}@{self.clock.time_ns()}")

    _around(patch, Account, "received", received)


def closes_without_missing_fills(patch: Patch) -> None:
    """A close is believed though the venue counts more fills than were seen, and none is read later."""

    async def read_fills(self: Reconciler, venue: Any) -> None:
        pass

    patch.setattr(Reconciler, "_read_fills", read_fills)
    for module in (lifecycle, resolver_module, account_module):
        patch.setattr(module, "is_missing_fills", lambda order, report: False)


def told_before_the_commit(patch: Patch) -> None:
    """Streams show an event while it is on its way to the store."""

    async def put(original: Any, self: Account, entry: Entry) -> Any:
        hub: Hub = self._on_head.__self__  # type: ignore[attr-defined]
        head = hub.head(self.account)
        early = [replace(event, seq=head + i) for i, event in enumerate(entry.events, 1)]
        publish(hub, early)
        return await original(self, entry)

    publish = Hub._publish

    def again(self: Hub, events: Sequence[Any]) -> None:
        publish(self, [e for e in events if e.seq > self.head(e.account)])

    _around(patch, Account, "put", put)
    patch.setattr(Hub, "_publish", again)


def balances_believed_in_any_order(patch: Patch) -> None:
    """A balance that was overtaken replaces the later one, and nobody asks again."""

    def take(self: _Feed, balance: Any) -> None:
        account = self._account
        account.balances[balance.asset] = replace(balance, account=account.account)

    async def load(original: Any, self: _Feed, plugins: Any) -> None:
        if self._account.state is not account_module.AccountState.READY:
            await original(self, plugins)

    patch.setattr(_Feed, "_take_balance", take)
    _around(patch, _Feed, "_load_balances", load)


def open_orders_asked_about_no_more(patch: Patch) -> None:
    """An order that the stream forgot is never asked about again while it is not in doubt."""

    async def ask_all(original: Any, self: Reconciler, venue: Any) -> None:
        if self._account.state is not account_module.AccountState.READY:
            await original(self, venue)

    _around(patch, Reconciler, "ask_all", ask_all)


def watermark_without_overlap(patch: Patch) -> None:
    """Fills are read from the watermark on: one that shows late, with a time before it, is passed over."""
    query = reconciler_module.FetchFills

    def fetch_fills(**fields: Any) -> Any:
        if fields.get("since_ns"):
            overlap_s = reconciler_module.OVERLAP_S + VISIBILITY_LAG_S
            fields["since_ns"] += int(overlap_s * 1_000_000_000)
        return query(**fields)

    patch.setattr(reconciler_module, "FetchFills", fetch_fills)


def late_fills_of_closed_orders_not_read_again(patch: Patch) -> None:
    """One reading of the fills after an order has closed is taken for all that will ever come."""

    async def read_fills_of(
        original: Any, self: Reconciler, venue: Any, symbol: str, mark_ns: Any
    ) -> Any:
        touched = self._account.touched
        before_ns = touched.get(symbol)
        as_of = await original(self, venue, symbol, mark_ns)
        if touched.get(symbol) == before_ns:
            touched.pop(symbol, None)
        return as_of

    _around(patch, Reconciler, "_read_fills_of", read_fills_of)


def waiting_cancel_forgotten_when_its_replace_is_refused(patch: Patch) -> None:
    """A cancel that waits here waits no more once the replace that it overtook is refused."""
    refuse = lifecycle._HANDLERS[ExecType.REPLACE_REJECTED]

    def handle(steps: Any, report: Any) -> None:
        if steps.order.pending_terms is not None:
            steps.change(queued=False)
        refuse(steps, report)

    patch.setitem(lifecycle._HANDLERS, ExecType.REPLACE_REJECTED, handle)


MUTANTS = [
    Mutant(make.__name__, make, seeds)
    for make, seeds in (
        (timeout_read_as_refusal, (1,)),
        (cut_connection_read_as_not_sent, (1,)),
        (submit_retried, (1,)),
        (cancel_of_unknown_order_means_gone, (4,)),
        (sent_after_valid_until, (39,)),
        (sent_before_it_is_stored, (1,)),
        (key_released_on_unknown, (1,)),
        (doubts_forgotten_at_restart, (1,)),
        (failed_commit_does_not_stop_the_account, (3,)),
        (not_found_closes_at_once, (2,)),
        (absence_judged_by_our_clock, (63,)),
        (absence_at_the_first_look, (2,)),
        (late_acknowledgement_reopens, (1,)),
        (fill_counted_again_when_seen_again, (1,)),
        (told_before_the_commit, (1,)),
        (balances_believed_in_any_order, (7,)),
        (fill_key_without_the_order, (2,)),
        (closes_without_missing_fills, (1,)),
        (open_orders_asked_about_no_more, (2,)),
        (watermark_without_overlap, (29,)),
        (late_fills_of_closed_orders_not_read_again, (29,)),
    )
]
MUTANTS.append(
    Mutant(
        waiting_cancel_forgotten_when_its_replace_is_refused.__name__,
        waiting_cancel_forgotten_when_its_replace_is_refused,
        test="tests/unit/test_lifecycle.py::"
        "test_cancel_that_waits_here_goes_on_waiting_when_the_replace_it_overtook_is_refused",
    )
)
