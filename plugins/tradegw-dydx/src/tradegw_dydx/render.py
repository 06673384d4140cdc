"""What `tradegw dydx render` prints: the bytes of an order, without a network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from tradegw import (
    InvalidOrder,
    NewOrder,
    OrdType,
    Side,
    TimeInForce,
    TriggerBy,
    parse_decimal,
)
from tradegw.venue import VenueTime
from tradegw_dydx.markets import SAMPLES, Market, read_market, ticker_of
from tradegw_dydx.orders import (
    ChainOrderId,
    Given,
    OrderFlags,
    Owner,
    Policy,
    cancel_height,
    cancel_message,
    choose,
    good_til_time_max_s,
)
from tradegw_dydx.tx import TxTerms, sign
from tradegw_dydx.wallet import Wallet

__all__ = ["Rendered", "TxNumbers", "read_mnemonic", "render_cancel", "render_place"]

_SUBACCOUNT_MAX: Final = 128_000
_UINT32_MAX: Final = 2**32 - 1


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """Hex of three things: the order itself (of a cancel: its id), what is signed, and the transaction."""

    order: str
    sign_bytes: str
    tx: str


class OrderJson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order in the gateway's field names, and what the chain adds."""

    symbol: str
    venue_client_order_id: int | str
    side: str = ""
    ord_type: str = "LIMIT"
    time_in_force: str = "GTC"
    order_qty: Decimal | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    trigger_by: str | None = None
    max_slippage_bps: Decimal | None = None
    expire_time_ns: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    client_order_id: str | None = None
    account: str | None = None
    order_flags: int | None = None
    good_til_block: int | None = None
    good_til_block_time: int | None = None
    subaccount: int = 0
    client_metadata: int = 0
    memo: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TxNumbers:
    """What the network would have told."""

    account_number: int
    sequence: int
    height: int
    chain_id: str


def render_place(
    order_json: str, instrument_json: str | None, wallet: Wallet, numbers: TxNumbers
) -> Rendered:
    """Render the placement of an order.

    Raises:
        InvalidOrder: The order, or the instrument, cannot be read or cannot be placed.
    """
    order = _read(order_json)
    market = _market(order, instrument_json)
    chain_order = choose(
        _terms(order),
        owner=Owner(
            address=wallet.address,
            subaccount=_bounded(order.subaccount, "subaccount", _SUBACCOUNT_MAX),
            metadata=_bounded(order.client_metadata, "client_metadata", _UINT32_MAX),
        ),
        client_id=_client_id(order),
        market=market,
        now=_now(numbers),
        policy=Policy(),
        reference_px=market.oracle_price,
        given=_given(order),
    )
    message = chain_order.to_message()
    signed = sign([message], _tx_terms(order, numbers), wallet)
    return Rendered(
        order=message.order.SerializeToString(deterministic=True).hex(),
        sign_bytes=signed.sign_bytes.hex(),
        tx=signed.tx_bytes.hex(),
    )


def render_cancel(
    order_json: str, instrument_json: str | None, wallet: Wallet, numbers: TxNumbers
) -> Rendered:
    """Render the cancel of an order; it needs `symbol`, `venue_client_order_id` and `order_flags` alone.

    Without `order_flags` the order's kind is that which `render_place` chooses for the same fields.

    Raises:
        InvalidOrder: As for `render_place`.
    """
    order = _read(order_json)
    market = _market(order, instrument_json)
    given = _given(order)
    flags = given.flags
    if flags is None and order.good_til_block is not None:
        flags = OrderFlags.SHORT_TERM
    if flags is None:
        flags = OrderFlags.CONDITIONAL if order.trigger_price is not None else OrderFlags.LONG_TERM
    order_id = ChainOrderId(
        owner=wallet.address,
        subaccount=_bounded(order.subaccount, "subaccount", _SUBACCOUNT_MAX),
        client_id=_client_id(order),
        flags=flags,
        clob_pair_id=market.clob_pair_id,
    )
    now = _now(numbers)
    if flags is OrderFlags.SHORT_TERM:
        until = order.good_til_block
        if until is None:
            until = cancel_height(None, now, Policy())
        message = cancel_message(order_id, good_til_block=until)
    else:
        until = order.good_til_block_time or good_til_time_max_s(now)
        message = cancel_message(order_id, good_til_block_time=until)
    signed = sign([message], _tx_terms(order, numbers), wallet)
    return Rendered(
        order=message.order_id.SerializeToString(deterministic=True).hex(),
        sign_bytes=signed.sign_bytes.hex(),
        tx=signed.tx_bytes.hex(),
    )


def read_mnemonic(path: Path) -> str:
    """Read a mnemonic from a file that nobody else can read.

    Raises:
        ValueError: Others can read it.
        OSError: It cannot be read.
    """
    mode = path.stat().st_mode
    if mode & 0o077:
        raise ValueError(f"{path} may be read by others (mode {mode & 0o777:o}): chmod 600 {path}")
    return path.read_text(encoding="utf-8").strip()


def _read(text: str) -> OrderJson:
    try:
        return msgspec.json.decode(text, type=OrderJson)
    except (msgspec.DecodeError, UnicodeError) as e:
        raise InvalidOrder(f"--order cannot be read: {e}") from e


def _market(order: OrderJson, instrument_json: str | None) -> Market:
    ticker = ticker_of(order.symbol)
    if instrument_json is not None:
        try:
            told: Mapping[str, Any] = msgspec.json.decode(instrument_json, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeError) as e:
            raise InvalidOrder(f"--instrument cannot be read: {e}") from e
        # Either one market, or the indexer's whole answer.
        markets: Any = told.get("markets")
        if markets is not None:
            if not isinstance(markets, dict) or ticker not in markets:
                raise InvalidOrder(f"--instrument has no market {ticker}")
            told = cast("dict[str, dict[str, Any]]", markets)[ticker]
        return read_market({"ticker": ticker, **told})
    if ticker not in SAMPLES:
        raise InvalidOrder(
            f"no sample of {order.symbol}; there are {', '.join(m.symbol for m in SAMPLES.values())}. "
            "Give its --instrument, as the indexer's /v4/perpetualMarkets shows it"
        )
    return SAMPLES[ticker]


def _terms(order: OrderJson) -> NewOrder:
    try:
        return NewOrder(
            symbol=order.symbol,
            side=Side.of(order.side),
            ord_type=OrdType.of(order.ord_type),
            time_in_force=TimeInForce.of(order.time_in_force),
            trigger_by=None if order.trigger_by is None else TriggerBy.of(order.trigger_by),
            expire_time_ns=order.expire_time_ns,
            post_only=order.post_only,
            reduce_only=order.reduce_only,
            order_qty=_number(order.order_qty, "order_qty"),
            price=_number(order.price, "price"),
            trigger_price=_number(order.trigger_price, "trigger_price"),
            max_slippage_bps=_number(order.max_slippage_bps, "max_slippage_bps"),
        )
    except ValueError as e:
        raise InvalidOrder(f"--order: {e}", reason="INVALID_FIELD") from e


def _number(value: Decimal | None, name: str) -> Decimal | None:
    return None if value is None else parse_decimal(value, name)


def _given(order: OrderJson) -> Given:
    flags = order.order_flags
    known = [f.value for f in OrderFlags]
    if flags is not None and flags not in known:
        raise InvalidOrder(f"order_flags is one of {known}; found {flags}")
    if order.good_til_block is not None and order.good_til_block_time is not None:
        raise InvalidOrder("give good_til_block or good_til_block_time; found both")
    until = order.good_til_block or order.good_til_block_time
    if until is not None:
        _bounded(until, "good_til_block and good_til_block_time", _UINT32_MAX)
    if flags is None and order.good_til_block is not None:
        flags = OrderFlags.SHORT_TERM
    is_short_term = flags == OrderFlags.SHORT_TERM
    if flags is not None and (
        (order.good_til_block_time if is_short_term else order.good_til_block) is not None
    ):
        wanted = "good_til_block" if is_short_term else "good_til_block_time"
        raise InvalidOrder(f"order_flags {int(flags)} goes with {wanted}; found the other")
    return Given(
        flags=None if flags is None else OrderFlags(flags),
        good_til_block=order.good_til_block,
        good_til_block_time=order.good_til_block_time,
    )


def _client_id(order: OrderJson) -> int:
    text = str(order.venue_client_order_id)
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _UINT32_MAX):
        raise InvalidOrder(f"venue_client_order_id is 0 to {_UINT32_MAX}; found {text[:80]!r}")
    return int(text)


def _bounded(value: int, name: str, most: int) -> int:
    if not 0 <= value <= most:
        raise InvalidOrder(f"{name} is 0 to {most}; found {value}")
    return value


def _now(numbers: TxNumbers) -> VenueTime:
    return VenueTime(time_ns=time.time_ns(), height=numbers.height)


def _tx_terms(order: OrderJson, numbers: TxNumbers) -> TxTerms:
    return TxTerms(
        chain_id=numbers.chain_id,
        account_number=numbers.account_number,
        sequence=numbers.sequence,
        memo=order.memo,
    )
