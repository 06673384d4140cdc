"""Which kind of order the chain gets for what a caller asks, and its message. Pure.

The chain has short-term orders (in the validators' memory, gone at a block height), long-term orders (in
its state, gone at a block time) and conditional ones (long-term, waiting for the oracle price).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Final, Protocol

from tradegw import (
    InvalidOrder,
    OrdType,
    Side,
    TimeInForce,
    TriggerBy,
    UnsupportedOrder,
)
from tradegw.venue import VenueTime
from tradegw_dydx.markets import Market
from tradegw_dydx.wire import messages as wire

__all__ = [
    "BLOCK_WINDOW_MAX",
    "CLIENT_ID_MAX",
    "ChainOrder",
    "ChainOrderId",
    "Given",
    "OrderFlags",
    "Owner",
    "Policy",
    "Terms",
    "batch_cancel_message",
    "cancel_height",
    "cancel_message",
    "choose",
    "good_til_time_max_s",
]

NS_PER_S: Final = 1_000_000_000
CLIENT_ID_MAX: Final = 2**32 - 1
BLOCK_WINDOW_MAX: Final = 40
"""No chain takes a good-til-block further ahead. Older ones stop at 20 blocks, and say so (code 11)."""
BATCH_CANCEL_MAX: Final = 100
_STATEFUL_WINDOW_S: Final = 95 * 86_400
_STATEFUL_MARGIN_S: Final = 600
"""The chain measures from its previous block's time, which may be behind what we take for now."""
_BPS_MAX: Final = Decimal(10_000)


class OrderFlags(IntEnum):
    """The kinds of order; part of an order's name."""

    SHORT_TERM = 0
    CONDITIONAL = 32
    LONG_TERM = 64


class _TimeInForce(IntEnum):
    UNSPECIFIED = 0
    IOC = 1
    POST_ONLY = 2


class _Condition(IntEnum):
    NONE = 0
    STOP_LOSS = 1
    TAKE_PROFIT = 2


_SIDES: Final = {Side.BUY: 1, Side.SELL: 2}
_CONDITIONS: Final = {
    OrdType.STOP: _Condition.STOP_LOSS,
    OrdType.STOP_LIMIT: _Condition.STOP_LOSS,
    OrdType.TAKE_PROFIT: _Condition.TAKE_PROFIT,
    OrdType.TAKE_PROFIT_LIMIT: _Condition.TAKE_PROFIT,
}
_MARKET_TYPES: Final = frozenset({OrdType.MARKET, OrdType.STOP, OrdType.TAKE_PROFIT})


class Terms(Protocol):
    """What of an order decides its kind; both `NewOrder` and `Order` have it."""

    @property
    def side(self) -> Side: ...
    @property
    def ord_type(self) -> OrdType: ...
    @property
    def time_in_force(self) -> TimeInForce: ...
    @property
    def order_qty(self) -> Decimal | None: ...
    @property
    def price(self) -> Decimal | None: ...
    @property
    def trigger_price(self) -> Decimal | None: ...
    @property
    def trigger_by(self) -> TriggerBy | None: ...
    @property
    def expire_time_ns(self) -> int | None: ...
    @property
    def post_only(self) -> bool: ...
    @property
    def reduce_only(self) -> bool: ...
    @property
    def max_slippage_bps(self) -> Decimal | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose orders they are.

    Attributes:
        address: Of the account that holds the money, also when another key signs.
        subaccount: 0 to 128000.
        metadata: 32 bits that come back with each order and fill; they mark the gateway's own.
    """

    address: str
    subaccount: int = 0
    metadata: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How heights are chosen.

    Attributes:
        ioc_blocks: How many blocks an immediate order has to reach the validators.
        block_window: How far ahead the chain takes a good-til-block.
        block_time_s: Expected time between blocks, which turns a `GTD` order's end into a height.
        slippage_bps: Bound of market orders that bring none.
    """

    ioc_blocks: int = 5
    block_window: int = BLOCK_WINDOW_MAX
    block_time_s: float = 0.6
    slippage_bps: Decimal = Decimal(500)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOrderId:
    """The whole name of an order on the chain; price and size are no part of it."""

    owner: str
    subaccount: int
    client_id: int
    flags: OrderFlags
    clob_pair_id: int

    def to_message(self) -> wire.OrderId:
        """Return the message."""
        return wire.OrderId(
            subaccount_id=wire.SubaccountId(owner=self.owner, number=self.subaccount),
            client_id=self.client_id,
            order_flags=int(self.flags),
            clob_pair_id=self.clob_pair_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOrder:
    """An order in the chain's terms. Exactly one of the two ends is set: a height, or a time in seconds.

    Attributes:
        order_qty: `quantums` in base units, for reports.
        price: `subticks` in quote units, for reports.
    """

    order_id: ChainOrderId
    side: int
    quantums: int
    subticks: int
    good_til_block: int | None = None
    good_til_block_time: int | None = None
    time_in_force: int = 0
    reduce_only: bool = False
    client_metadata: int = 0
    condition_type: int = 0
    trigger_subticks: int = 0
    order_qty: Decimal | None = None
    price: Decimal | None = None

    def to_message(self) -> wire.MsgPlaceOrder:
        """Return the message that places it."""
        return wire.MsgPlaceOrder(
            order=wire.Order(
                order_id=self.order_id.to_message(),
                side=self.side,
                quantums=self.quantums,
                subticks=self.subticks,
                good_til_block=self.good_til_block,
                good_til_block_time=self.good_til_block_time,
                time_in_force=self.time_in_force,
                reduce_only=self.reduce_only,
                client_metadata=self.client_metadata,
                condition_type=self.condition_type,
                conditional_order_trigger_subticks=self.trigger_subticks,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What someone decides who knows the chain; None leaves the choice to us."""

    flags: OrderFlags | None = None
    good_til_block: int | None = None
    good_til_block_time: int | None = None


_NOTHING_GIVEN: Final = Given()


def choose(
    terms: Terms,
    *,
    owner: Owner,
    client_id: int,
    market: Market,
    now: VenueTime,
    policy: Policy,
    reference_px: Decimal | None = None,
    given: Given = _NOTHING_GIVEN,
) -> ChainOrder:
    """Put an order into the chain's terms.

    Args:
        now: Time and height of the chain.
        reference_px: The oracle's price, from which the bound of a market order is measured.

    Raises:
        UnsupportedOrder: The chain has no such order.
        InvalidOrder: It is off the grid, or its end cannot be expressed.
    """
    _check(terms, client_id)
    flags = _flags(terms, now, policy) if given.flags is None else given.flags
    if terms.reduce_only and not (_is_immediate(terms) and flags is not OrderFlags.LONG_TERM):
        raise UnsupportedOrder(
            "dYdX takes reduce_only with immediate orders alone: MARKET, IOC, and the triggered STOP "
            f"and TAKE_PROFIT; found {terms.ord_type} {terms.time_in_force}"
        )
    if flags is OrderFlags.LONG_TERM and _is_immediate(terms):
        raise UnsupportedOrder("a long-term order of dYdX cannot be immediate")
    assert terms.order_qty is not None
    until_height = until_time_s = None
    if flags is OrderFlags.SHORT_TERM:
        until_height = given.good_til_block
        if until_height is None:
            until_height = _good_til_block(terms, now, policy)
    else:
        until_time_s = given.good_til_block_time
        if until_time_s is None:
            until_time_s = _good_til_time_s(terms, now)
    price = _price(terms, market, policy, reference_px)
    return ChainOrder(
        order_id=ChainOrderId(
            owner=owner.address,
            subaccount=owner.subaccount,
            client_id=client_id,
            flags=flags,
            clob_pair_id=market.clob_pair_id,
        ),
        side=_SIDES[terms.side],
        quantums=market.quantums(terms.order_qty),
        subticks=market.subticks(price),
        good_til_block=until_height,
        good_til_block_time=until_time_s,
        time_in_force=_time_in_force(terms),
        reduce_only=terms.reduce_only,
        client_metadata=owner.metadata,
        condition_type=_CONDITIONS.get(terms.ord_type, _Condition.NONE),
        trigger_subticks=0
        if terms.trigger_price is None
        else market.subticks(terms.trigger_price, "trigger_price"),
        order_qty=terms.order_qty,
        price=price,
    )


def _check(terms: Terms, client_id: int) -> None:
    if not 0 <= client_id <= CLIENT_ID_MAX:
        raise InvalidOrder(f"a client id of dYdX is 0 to {CLIENT_ID_MAX}; found {client_id}")
    if terms.time_in_force is TimeInForce.FOK:
        raise UnsupportedOrder("dYdX has no fill-or-kill orders any more; IOC is the nearest")
    if terms.ord_type is OrdType.TRAILING_STOP:
        raise UnsupportedOrder("dYdX has no trailing stops")
    if terms.order_qty is None:
        raise UnsupportedOrder("orders of dYdX are sized in base units: give order_qty")
    if terms.trigger_by is TriggerBy.LAST:
        raise UnsupportedOrder("triggers of dYdX look at the oracle's price; found LAST")
    if terms.max_slippage_bps is not None and terms.max_slippage_bps >= _BPS_MAX:
        raise InvalidOrder(
            f"max_slippage_bps must be below {_BPS_MAX}; found {terms.max_slippage_bps}"
        )


def _is_immediate(terms: Terms) -> bool:
    return terms.ord_type in _MARKET_TYPES or terms.time_in_force is TimeInForce.IOC


def _flags(terms: Terms, now: VenueTime, policy: Policy) -> OrderFlags:
    if terms.ord_type in _CONDITIONS:
        return OrderFlags.CONDITIONAL
    if _is_immediate(terms):
        return OrderFlags.SHORT_TERM
    if terms.expire_time_ns is not None:
        left_s = (terms.expire_time_ns - now.time_ns) / NS_PER_S
        if left_s <= policy.block_window * policy.block_time_s:
            return OrderFlags.SHORT_TERM
    return OrderFlags.LONG_TERM


def _good_til_block(terms: Terms, now: VenueTime, policy: Policy) -> int:
    if now.height is None:
        raise InvalidOrder(
            "the chain's height is not known yet, so no good-til-block can be chosen",
            reason="NO_BLOCK_HEIGHT",
        )
    if _is_immediate(terms) or terms.expire_time_ns is None:
        return now.height + policy.ioc_blocks
    left_s = (terms.expire_time_ns - now.time_ns) / NS_PER_S
    blocks = int(left_s / policy.block_time_s)
    if blocks < 1:
        raise InvalidOrder(
            f"expire_time_ns is {left_s:.3f} s away, less than a block of {policy.block_time_s} s",
            reason="INVALID_FIELD",
        )
    return now.height + min(blocks, policy.block_window)


def good_til_time_max_s(now: VenueTime) -> int:
    """Return the latest end that the chain surely takes, in seconds since the epoch."""
    return now.time_ns // NS_PER_S + _STATEFUL_WINDOW_S - _STATEFUL_MARGIN_S


def _good_til_time_s(terms: Terms, now: VenueTime) -> int:
    latest_s = good_til_time_max_s(now)
    if terms.time_in_force is TimeInForce.DAY:
        # The field's day: until midnight, UTC.
        return (now.time_ns // NS_PER_S // 86_400 + 1) * 86_400
    if terms.expire_time_ns is None:
        return latest_s
    ends_s = terms.expire_time_ns // NS_PER_S
    if ends_s <= now.time_ns // NS_PER_S:
        raise InvalidOrder("expire_time_ns has passed by the chain's clock", reason="INVALID_FIELD")
    if ends_s > latest_s:
        raise InvalidOrder(
            f"dYdX keeps an order for 95 days at most: expire_time_ns may be {latest_s * NS_PER_S} at "
            f"the latest; found {terms.expire_time_ns}",
            reason="INVALID_FIELD",
        )
    return ends_s


def _time_in_force(terms: Terms) -> int:
    if _is_immediate(terms):
        return _TimeInForce.IOC
    return _TimeInForce.POST_ONLY if terms.post_only else _TimeInForce.UNSPECIFIED


def _price(terms: Terms, market: Market, policy: Policy, reference_px: Decimal | None) -> Decimal:
    if terms.price is not None:
        return terms.price
    # A triggered market order trades where its trigger stands, whatever the price is now.
    reference = terms.trigger_price if terms.trigger_price is not None else reference_px
    if reference is None:
        raise InvalidOrder(
            f"a market order needs a bound, and the oracle's price of {market.ticker} is not known; "
            "send a LIMIT order with IOC instead",
            reason="NO_REFERENCE_PRICE",
        )
    bps = policy.slippage_bps if terms.max_slippage_bps is None else terms.max_slippage_bps
    return market.worst_price(reference, bps, is_buy=terms.side is Side.BUY)


# --- cancelling -----------------------------------------------------------------------------------


def cancel_height(order_good_til_block: int | None, now: VenueTime, policy: Policy) -> int:
    """Return the good-til-block of a cancel of a short-term order.

    Never below the order's own: the chain takes such a cancel without a word, and the order stays.

    Args:
        order_good_til_block: The order's; None when it is not known, which takes the latest possible.
    """
    if now.height is None:
        raise InvalidOrder(
            "the chain's height is not known yet, so nothing short-term can be cancelled",
            reason="NO_BLOCK_HEIGHT",
        )
    latest = now.height + policy.block_window
    if order_good_til_block is None:
        return latest
    return max(order_good_til_block, min(now.height + policy.ioc_blocks, latest))


def cancel_message(
    order_id: ChainOrderId,
    *,
    good_til_block: int | None = None,
    good_til_block_time: int | None = None,
) -> wire.MsgCancelOrder:
    """Return the message that cancels one order, of any kind."""
    return wire.MsgCancelOrder(
        order_id=order_id.to_message(),
        good_til_block=good_til_block,
        good_til_block_time=good_til_block_time,
    )


def batch_cancel_message(
    owner: Owner, client_ids: dict[int, list[int]], good_til_block: int
) -> wire.MsgBatchCancel:
    """Return the message that cancels many short-term orders.

    Args:
        client_ids: For each market's number the client ids, at most 100 in all.
    """
    return wire.MsgBatchCancel(
        subaccount_id=wire.SubaccountId(owner=owner.address, number=owner.subaccount),
        short_term_cancels=[
            wire.OrderBatch(clob_pair_id=pair, client_ids=ids) for pair, ids in client_ids.items()
        ],
        good_til_block=good_til_block,
    )
