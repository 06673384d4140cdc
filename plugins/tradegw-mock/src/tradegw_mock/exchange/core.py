"""The frame of every request: time, the engine, one sealed change, the journal, the listeners."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from decimal import localcontext
from typing import Protocol

from .accounts import HOUSE, Ledger
from .engine import Engine
from .errors import ExchangeBroken, Refusal, RefusalCode
from .history import Archive, History
from .market import Draft
from .model import (
    EXACT,
    ZERO,
    AccountKind,
    AccountState,
    ApiKey,
    Change,
    Counters,
    Instrument,
    Operation,
    Order,
    OrderRequest,
    RequestRecord,
    State,
)
from .sealing import seal

Listener = Callable[[Change], None]


class LiquidityProvider(Protocol):
    """What refills the book; the synthetic maker is one."""

    def refill(self, engine: Engine, draft: Draft) -> None:
        """Put back what the trades of a request took."""
        ...


class Core:
    """What an exchange is made of, and how it runs one request as a whole."""

    def __init__(
        self,
        instruments: Iterable[Instrument],
        *,
        clock: Callable[[], int],
        state: State | None = None,
        archive: Archive | None = None,
        journal: Listener | None = None,
        history_bound: int | None = None,
    ) -> None:
        self._instruments = {instrument.symbol: instrument for instrument in instruments}
        self._assets = {i.base for i in self._instruments.values()} | {
            i.quote for i in self._instruments.values()
        }
        self._clock = clock
        self._ledger = Ledger()
        self._engine = Engine(self._instruments, self._ledger)
        self._history = History(archive, history_bound)
        self._journal = journal
        self._api_keys: dict[str, ApiKey] = {}
        self._listeners: list[Listener] = []
        self._provider: LiquidityProvider | None = None
        self._change_number = 0
        self._audit_number = 0
        self._broken: str | None = None
        self._busy = False
        state = state or new_state(clock())
        self.instance_id = state.instance_id
        self._restore(state)

    # Listening

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Hear of each change, in order, from now on; call the result to stop.

        The listener runs inside the mutating call and must not make another.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def committed(self, change_number: int) -> None:
        """Learn that the archive has all changes up to a number, and memory may let them go."""
        self._history.committed(change_number)

    def provide_liquidity(self, provider: LiquidityProvider | None) -> None:
        """Let a provider refill the book after each request that traded."""
        self._provider = provider

    def run_internal(
        self,
        operation: Operation,
        account: str,
        act: Callable[[Draft, Engine], None],
        *,
        arguments: dict[str, str] | None = None,
    ) -> Change:
        """Let a part of the exchange itself, like the maker, work on the engine as one request.

        Raises:
            Refusal: From `act`, which refuses before it changes anything.
        """
        engine = self._engine
        return self._run(operation, account, lambda draft: act(draft, engine), arguments=arguments)

    def _run(
        self,
        operation: Operation,
        account: str | None,
        act: Callable[[Draft], Order | None],
        *,
        client_order_id: str | None = None,
        request: OrderRequest | None = None,
        arguments: dict[str, str] | None = None,
        valid_until_ns: int | None = None,
        order_id: int | None = None,
    ) -> Change:
        """Run one request as a whole: check its time, act, seal, commit, tell."""
        if self._broken is not None:
            raise ExchangeBroken(f"stopped by an earlier failure: {self._broken}")
        if self._busy:
            raise RuntimeError("a listener must not call the exchange's mutating methods")
        self._busy = True
        record = RequestRecord(
            operation=operation,
            client_order_id=client_order_id,
            arguments=arguments or {},
            order=request,
            valid_until_ns=valid_until_ns,
            order_id=order_id,
        )
        refusal: Refusal | None = None
        order: Order | None = None
        try:
            with localcontext(EXACT):
                now_ns = self._clock()
                draft = Draft(now_ns)
                self._engine.expire_due(draft)
                try:
                    if valid_until_ns is not None and now_ns > valid_until_ns:
                        raise Refusal(
                            RefusalCode.REQUEST_EXPIRED,
                            f"valid until {valid_until_ns}, and it is {now_ns}",
                        )
                    order = act(draft)
                    self._engine.fire_triggers(draft)
                except Refusal as e:
                    refusal = e
                if self._provider is not None and draft.fills:
                    self._provider.refill(self._engine, draft)
                change = seal(
                    draft,
                    self._engine,
                    record,
                    number=self._change_number + 1,
                    audit_number=self._audit_number,
                    account=account,
                    order=order,
                    refusal=refusal,
                )
                self._change_number = change.number
                self._audit_number = change.counters.audit
            if self._journal is not None:
                self._journal(change)
            self._history.add(change)
            if self._journal is not None:
                self._history.committed(change.number)
            for listener in tuple(self._listeners):
                listener(change)
        except BaseException as e:
            self._broken = repr(e)
            raise
        finally:
            self._busy = False
        if refusal is not None:
            refusal.change = change
            raise refusal
        return change

    def _restore(self, state: State) -> None:
        counters = state.counters
        self._change_number, self._audit_number = counters.change, counters.audit
        engine = self._engine
        engine.order_id, engine.trade_id = counters.order_id, counters.trade_id
        engine.priority = counters.priority
        for account in state.accounts:
            self._ledger.restore(account, state.balances.get(account.name, ()))
        self._ledger.funding = dict(state.funding)
        self._api_keys = {key.api_key: key for key in state.api_keys}
        for market in state.markets:
            if market.symbol in engine.markets:
                engine.markets[market.symbol].restore(market)
        for order in sorted(state.open_orders, key=lambda order: order.priority):
            if order.symbol not in engine.markets:
                raise ValueError(
                    f"order {order.order_id} is open in {order.symbol}, not traded here"
                )
            engine.restore(order)


def new_state(time_ns: int) -> State:
    """Make the state of an exchange that was never used: a new instance, and the house."""
    house = AccountState(
        name=HOUSE,
        kind=AccountKind.HOUSE,
        maker_fee=ZERO,
        taker_fee=ZERO,
        created_time_ns=time_ns,
        last_event=0,
    )
    return State(
        instance_id=str(uuid.uuid4()),
        counters=Counters(),
        accounts=(house,),
        balances={},
        open_orders=(),
        markets=(),
        funding={},
    )
