"""Turns the engine's commands into messages of the chain. Pure.

What it depends on besides the command and the context stands in `Facts`: a snapshot of what the venue knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from tradegw import (
    CommandKind,
    InvalidOrder,
    NewOrder,
    Order,
    UnsupportedOrder,
    VenueClientOrderId,
)
from tradegw.venue import (
    Cancel,
    CancelBatch,
    Command,
    Replace,
    Submit,
    TranslateContext,
    VenueRequest,
    VenueTime,
)
from tradegw_dydx.markets import Market, ticker_of
from tradegw_dydx.orders import (
    BATCH_CANCEL_MAX,
    CLIENT_ID_MAX,
    ChainOrder,
    ChainOrderId,
    Given,
    OrderFlags,
    Owner,
    Policy,
    batch_cancel_message,
    cancel_height,
    cancel_message,
    choose,
    good_til_time_max_s,
)
from tradegw_dydx.tx import SignedTx

__all__ = ["ChainRequest", "Facts", "Member", "flags_of", "translate"]

NS_PER_S: Final = 1_000_000_000
NONCE_WINDOW_NS: Final = 30 * NS_PER_S
"""The chain takes a timestamp nonce that is at most so far from its previous block's time."""
ORACLE_AGE_MAX_NS: Final = 60 * NS_PER_S
_NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a translation depends on.

    Attributes:
        is_numbered_by_time: Whether stateful transactions bear timestamp nonces.
    """

    owner: Owner
    policy: Policy
    markets: Mapping[str, Market]
    is_numbered_by_time: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One order that a request is about."""

    order_id: ChainOrderId
    name: VenueClientOrderId
    symbol: str


@dataclass(slots=True, kw_only=True)
class ChainRequest:
    """The payload of a request: an unsigned transaction of one message.

    Attributes:
        placed: The order that it places, if it places one.
        nonce: Timestamp nonce in milliseconds; None for short-term messages, and with account sequences.
        good_til_block: After this height the chain refuses it; None for stateful messages.
        signed: The one signature that it ever gets: another could be carried out beside the first.
    """

    command: CommandKind
    message: Message
    members: tuple[Member, ...]
    placed: ChainOrder | None = None
    nonce: int | None = None
    good_til_block: int | None = None
    signed: SignedTx | None = None

    @property
    def is_stateful(self) -> bool:
        """Whether it goes into a block, and has a sequence."""
        return self.good_til_block is None


def translate(command: Command, context: TranslateContext, facts: Facts) -> VenueRequest:
    """Turn a command into one unsigned transaction.

    Raises:
        UnsupportedOrder: The chain cannot do this.
        InvalidOrder: The order does not fit the market, or cannot be expressed.
    """
    match command:
        case Submit():
            return _place(command.order, context, facts)
        case Replace():
            return _replace(command, context, facts)
        case Cancel():
            return _cancel(command.order, context, facts)
        case CancelBatch():
            return _cancel_batch(command.orders, context, facts)
        case _:
            raise UnsupportedOrder(f"dYdX has no {type(command).__name__}")


def flags_of(order: Order, placed_until: VenueTime | None) -> OrderFlags:
    """Return an order's kind, from what its placement was valid until: a height or a time."""
    if order.ord_type.has_trigger:
        return OrderFlags.CONDITIONAL
    if placed_until is not None and placed_until.height is not None:
        return OrderFlags.SHORT_TERM
    return OrderFlags.LONG_TERM


def _place(order: Order, context: TranslateContext, facts: Facts) -> VenueRequest:
    name = context.venue_client_order_ids[0]
    market = _market(order.symbol, facts)
    is_fresh = context.now.time_ns - market.oracle_time_ns <= ORACLE_AGE_MAX_NS
    placed = choose(
        order,
        owner=facts.owner,
        client_id=_client_id(name),
        market=market,
        now=context.now,
        policy=facts.policy,
        reference_px=market.oracle_price if is_fresh else None,
    )
    payload = ChainRequest(
        command=CommandKind.NEW,
        message=placed.to_message(),
        members=(Member(order_id=placed.order_id, name=name, symbol=order.symbol),),
        placed=placed,
        good_til_block=placed.good_til_block,
    )
    return _request(payload, context, facts, digest=f"place {_shown(placed.order_id)}")


def _replace(command: Replace, context: TranslateContext, facts: Facts) -> VenueRequest:
    """Place again under the same name: the chain counts what was filled against the new size."""
    order, terms = command.order, command.terms
    until = context.placed_until[0] if context.placed_until else None
    if flags_of(order, until) is not OrderFlags.SHORT_TERM or until is None or until.height is None:
        raise UnsupportedOrder(
            "dYdX replaces short-term orders alone (GTD within the block window); cancel this one and "
            "place another"
        )
    if terms.trigger_price is not None:
        raise UnsupportedOrder("a short-term order of dYdX has no trigger_price")
    now = context.now
    if now.height is None:
        raise InvalidOrder("the chain's height is not known yet", reason="NO_BLOCK_HEIGHT")
    # The chain takes the one of two that ends later; with the same end, chance decides.
    height = until.height + 1
    if height > now.height + facts.policy.block_window:
        raise InvalidOrder(
            f"the order ends at block {until.height}, as late as the chain allows at {now.height}: a "
            "replacement must end later; try again after the next block",
            reason="INVALID_FIELD",
        )
    name = context.venue_client_order_ids[0]
    asked = NewOrder(
        symbol=order.symbol,
        side=order.side,
        ord_type=order.ord_type,
        time_in_force=order.time_in_force,
        order_qty=order.order_qty if terms.order_qty is None else terms.order_qty,
        price=order.price if terms.price is None else terms.price,
        expire_time_ns=order.expire_time_ns,
        post_only=order.post_only,
        reduce_only=order.reduce_only,
    )
    placed = choose(
        asked,
        owner=facts.owner,
        client_id=_client_id(name),
        market=_market(order.symbol, facts),
        now=now,
        policy=facts.policy,
        given=Given(flags=OrderFlags.SHORT_TERM, good_til_block=height),
    )
    payload = ChainRequest(
        command=CommandKind.REPLACE,
        message=placed.to_message(),
        members=(Member(order_id=placed.order_id, name=name, symbol=order.symbol),),
        placed=placed,
        good_til_block=height,
    )
    return _request(payload, context, facts, digest=f"replace {_shown(placed.order_id)}")


def _cancel(order: Order, context: TranslateContext, facts: Facts) -> VenueRequest:
    until = context.placed_until[0] if context.placed_until else None
    member = _member(order, context, 0, facts)
    if member.order_id.flags is OrderFlags.SHORT_TERM:
        height = cancel_height(None if until is None else until.height, context.now, facts.policy)
        message = cancel_message(member.order_id, good_til_block=height)
    else:
        height = None
        latest_s = good_til_time_max_s(context.now)
        message = cancel_message(member.order_id, good_til_block_time=latest_s)
    payload = ChainRequest(
        command=CommandKind.CANCEL,
        message=message,
        members=(member,),
        good_til_block=height,
    )
    return _request(payload, context, facts, digest=f"cancel {_shown(member.order_id)}")


def _cancel_batch(orders: Sequence[Order], context: TranslateContext, facts: Facts) -> VenueRequest:
    if len(orders) > BATCH_CANCEL_MAX:
        raise UnsupportedOrder(
            f"dYdX cancels at most {BATCH_CANCEL_MAX} orders at once; found {len(orders)}"
        )
    members = tuple(_member(order, context, i, facts) for i, order in enumerate(orders))
    if any(member.order_id.flags is not OrderFlags.SHORT_TERM for member in members):
        raise UnsupportedOrder("dYdX cancels short-term orders alone in a batch")
    height = max(
        cancel_height(None if until is None else until.height, context.now, facts.policy)
        for until in context.placed_until
    )
    by_market: dict[int, list[int]] = {}
    for member in members:
        by_market.setdefault(member.order_id.clob_pair_id, []).append(member.order_id.client_id)
    payload = ChainRequest(
        command=CommandKind.CANCEL,
        message=batch_cancel_message(facts.owner, by_market, height),
        members=members,
        good_til_block=height,
    )
    return _request(payload, context, facts, digest=f"cancel {len(members)} at once")


def _member(order: Order, context: TranslateContext, index: int, facts: Facts) -> Member:
    name = (
        context.venue_client_order_ids[index]
        if context.venue_client_order_ids
        else order.venue_client_order_id
    )
    if name is None:
        raise UnsupportedOrder(
            f"order {order.order_id} is not ours, and dYdX cancels by the client id"
        )
    until = context.placed_until[index] if context.placed_until else None
    return Member(
        order_id=ChainOrderId(
            owner=facts.owner.address,
            subaccount=facts.owner.subaccount,
            client_id=_client_id(name),
            flags=flags_of(order, until),
            clob_pair_id=_market(order.symbol, facts).clob_pair_id,
        ),
        name=name,
        symbol=order.symbol,
    )


def _request(
    payload: ChainRequest, context: TranslateContext, facts: Facts, *, digest: str
) -> VenueRequest:
    now = context.now
    if payload.good_til_block is not None:
        valid_until = VenueTime(time_ns=now.time_ns, height=payload.good_til_block)
        digest = f"{digest} until block {payload.good_til_block}"
    elif facts.is_numbered_by_time:
        nonce = now.time_ns // _NS_PER_MS if context.nonce is None else context.nonce
        payload.nonce = nonce
        valid_until = VenueTime(time_ns=nonce * _NS_PER_MS + NONCE_WINDOW_NS)
    elif payload.placed is not None:
        assert payload.placed.good_til_block_time is not None
        valid_until = VenueTime(time_ns=payload.placed.good_til_block_time * NS_PER_S)
    else:
        valid_until = VenueTime(time_ns=good_til_time_max_s(now) * NS_PER_S)
    return VenueRequest(
        payload=payload,
        valid_until=valid_until,
        digest=digest,
        safe_to_repeat=payload.command is CommandKind.CANCEL,
    )


def _market(symbol: str, facts: Facts) -> Market:
    market = facts.markets.get(ticker_of(symbol))
    if market is None:
        raise InvalidOrder(f"dYdX has no market {symbol}", reason="UNKNOWN_SYMBOL")
    return market


def _client_id(name: VenueClientOrderId) -> int:
    if not (name.isascii() and name.isdigit()) or int(name) > CLIENT_ID_MAX:
        raise UnsupportedOrder(f"a client id of dYdX is 0 to {CLIENT_ID_MAX}; found {name!r}")
    return int(name)


def _shown(order_id: ChainOrderId) -> str:
    return f"{order_id.client_id} ({order_id.flags.name.lower()}) in {order_id.clob_pair_id}"
