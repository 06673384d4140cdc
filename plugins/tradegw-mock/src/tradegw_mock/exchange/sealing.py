"""How the notes of a request become its one `Change`, with balances, events and audit lines."""

from __future__ import annotations

from msgspec.structs import replace

from .accounts import Ledger
from .engine import Engine
from .errors import Refusal
from .market import Draft
from .model import (
    AccountKind,
    BalanceChange,
    BalanceEvent,
    Change,
    Counters,
    Operation,
    Order,
    RequestRecord,
)


def seal(
    draft: Draft,
    engine: Engine,
    request: RequestRecord,
    *,
    number: int,
    audit_number: int,
    account: str | None,
    order: Order | None,
    refusal: Refusal | None,
) -> Change:
    """Make the change of a request; `audit_number` is the last before it."""
    ledger = engine.ledger
    balances = ledger.take_changes()
    _tell_balances(draft, ledger, balances, is_funding=request.operation in _FUNDING)
    if order is not None:
        order = draft.orders.get(order.order_id, order)
        request = replace(request, order_id=order.order_id)
    if refusal is not None:
        account = _clean(account)
        request = _refused(request, refusal)
    elif request.operation is Operation.FAULT_HIT:
        # It may be of a request that nobody looked at.
        account = _clean(account)
        request = _bounded(request)
    audited = tuple([item for item in balances if not _is_idle(ledger, item)])
    moved = [item.asset for item in balances] if request.operation in _FUNDING else ()
    return Change(
        number=number,
        time_ns=draft.time_ns,
        account=account,
        request=request,
        order=order,
        orders=tuple(draft.orders.values()),
        forgotten=tuple(draft.forgotten),
        fills=tuple(draft.fills),
        balances=balances,
        audited_balances=audited,
        events=tuple(draft.events),
        accounts=tuple([item.state() for item in draft.accounts.values()]),
        markets=tuple([market.state() for market in draft.markets.values()]),
        funding={asset: ledger.funding[asset] for asset in moved if asset in ledger.funding},
        counters=Counters(
            change=number,
            order_id=engine.order_id,
            trade_id=engine.trade_id,
            priority=engine.priority,
            audit=audit_number + 1 + len(draft.fills) + len(audited),
        ),
        api_keys=tuple(draft.api_keys),
        deleted_api_keys=tuple(draft.deleted_api_keys),
        prints=tuple(draft.tape),
    )


_FUNDING = (
    Operation.CREATE_ACCOUNT,
    Operation.DEPOSIT,
    Operation.WITHDRAW,
    Operation.FILL_OUTSIDE,
)
_MAKER = AccountKind.MAKER
_USER = AccountKind.USER


def _is_idle(ledger: Ledger, item: BalanceChange) -> bool:
    """Tell whether the maker only re-quoted, which it does without end: not worth a line."""
    return ledger.accounts[item.account].kind is _MAKER and item.free_delta == -item.held_delta


def _refused(request: RequestRecord, refusal: Refusal) -> RequestRecord:
    request = _bounded(request)
    order = request.order
    if order is not None:
        symbol = _clean(order.symbol) or ""
        order = replace(order, symbol=symbol, client_order_id=request.client_order_id)
    return replace(request, order=order, code=refusal.code, text=refusal.text)


def _bounded(request: RequestRecord) -> RequestRecord:
    # Nobody has checked these texts; what is recorded must be bounded and storable.
    return replace(
        request,
        client_order_id=_clean(request.client_order_id),
        arguments={name: _clean(item) or "" for name, item in request.arguments.items()},
    )


def _clean(text: str | None) -> str | None:
    return text and text[:100].encode(errors="backslashreplace").decode()


def _tell_balances(
    draft: Draft, ledger: Ledger, balances: tuple[BalanceChange, ...], *, is_funding: bool
) -> None:
    """End each user's events with one of the balances that moved."""
    by_account: dict[str, list[BalanceChange]] = {}
    for item in balances:
        by_account.setdefault(item.account, []).append(item)
    for name, moved in by_account.items():
        account = ledger.accounts[name]
        if account.kind is _USER:
            account.last_event += 1
            draft.accounts[name] = account
            draft.events.append(
                BalanceEvent(
                    account=name,
                    seq=account.last_event,
                    time_ns=draft.time_ns,
                    balances=tuple(moved),
                    is_funding=is_funding,
                )
            )
