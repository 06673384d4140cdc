"""What would be sent: an operation of a definition, built and signed, with nothing sent.

The order is JSON in the field names of the gateway: `symbol side ord_type order_qty price ...`. Its name at
the venue is `venue_client_order_id`, or else `client_order_id` as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from tradegw import (
    AccountName,
    ConfigError,
    Instrument,
    InvalidOrder,
    Order,
    OrderId,
    OrdType,
    ReplaceTerms,
    Side,
    TimeInForce,
    TriggerBy,
    VenueClientOrderId,
    parse_decimal,
)
from tradegw.venue import (
    Cancel,
    CancelAll,
    Command,
    FetchBalances,
    FetchFills,
    FetchHistory,
    FetchInstruments,
    FetchOpenOrders,
    FetchOrder,
    FetchReferencePrice,
    Query,
    Replace,
    Submit,
    TranslateContext,
    VenueTime,
)
from tradegw_rest.compiling import read_instrument
from tradegw_rest.definition import Definition
from tradegw_rest.markets import Listed, Markets
from tradegw_rest.operations import COMMANDS, OPERATIONS, Draft
from tradegw_rest.signers import Credentials, NonceSource, Stamp
from tradegw_rest.source import Spot
from tradegw_rest.wire import HttpRequest

__all__ = ["build", "operation_named", "read_order", "render"]

_NOBODY: Final = AccountName("render")
_NUMBERS: Final = (
    "order_qty",
    "quote_qty",
    "price",
    "trigger_price",
    "trailing_offset",
    "max_slippage_bps",
)
_FLAGS: Final = ("post_only", "reduce_only")
_INSTANTS: Final = ("expire_time_ns", "created_time_ns")
_TEXTS: Final = (
    "venue_client_order_id",
    "client_order_id",
    "venue_order_id",
    "account",
    "idempotency_key",
)
_ENUMS: Final = {
    "side": Side,
    "ord_type": OrdType,
    "time_in_force": TimeInForce,
    "trigger_by": TriggerBy,
}


def operation_named(text: str) -> str:
    """Return an operation's name, written with dashes or underscores, in either case.

    Raises:
        ConfigError: There is none.
    """
    name = text.lower().replace("-", "_")
    if name not in OPERATIONS:
        raise ConfigError(f"operation is one of {', '.join(OPERATIONS)}; found {text[:40]!r}")
    return name


def read_order(fields: Mapping[str, Any]) -> Order:
    """Read an order. What is left out: `BUY`, `LIMIT` where it has a price, else `MARKET`, and `GTC`.

    Raises:
        InvalidOrder: A field is unknown, or is not what it should be.
    """
    known = (*_NUMBERS, *_FLAGS, *_INSTANTS, *_TEXTS, *_ENUMS, "symbol", "tags")
    read: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in known:
            raise InvalidOrder(f"unknown field {name[:40]!r}; expected some of {', '.join(known)}")
        if value is None or name == "tags":
            continue
        try:
            if name in _NUMBERS:
                read[name] = parse_decimal(value, name)
            elif name in _ENUMS:
                read[name] = _ENUMS[name].of(str(value))
            elif name in _FLAGS:
                if not isinstance(value, bool):
                    raise ValueError(f"{name} is true or false; found {value!r:.40}")
                read[name] = value
            elif name in _INSTANTS:
                read[name] = int(value)
            else:
                read[name] = str(value)
        except ValueError as e:
            raise InvalidOrder(f"{name}: {e}") from e
    if not read.get("symbol"):
        raise InvalidOrder("symbol is missing, such as BTC/USDT")
    client_id = read.get("venue_client_order_id") or read.get("client_order_id")
    asked: dict[str, Any] = {
        "account": _NOBODY,
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT if "price" in read else OrdType.MARKET,
        "time_in_force": TimeInForce.GTC,
        **read,
        "venue_client_order_id": None if client_id is None else VenueClientOrderId(client_id),
    }
    return Order(order_id=OrderId(UUID(int=0)), venue="render", **asked)


def find_instrument(
    definition: Definition, symbol: str, fields: Mapping[str, Any] | None
) -> Listed:
    """Return a market: from `fields`, or a sample of the definition.

    Raises:
        ConfigError: Neither has it.
    """
    if fields is not None:
        spots = {
            name: Spot(str(value), "--instrument", 1, name)
            for name, value in {"symbol": symbol, **fields}.items()
        }
        return Listed(instrument=read_instrument(Spot(spots, "--instrument", 1, "")))
    found = definition.samples.find(symbol)
    if found is None:
        known = ", ".join(instrument.symbol for instrument in definition.samples) or "none"
        raise ConfigError(
            f"no sample of {symbol[:40]!r} in {definition.name}, which has {known}; give --instrument"
        )
    return Listed(instrument=found, aliases=definition.samples.aliases(symbol))


_ALONE: Final = frozenset(("stream_token", "api_version", "key_permissions", "server_time"))
"""Operations whose request is always the same."""


def build(
    definition: Definition, operation: str, order: Order | None, market: Listed | None, now_ns: int
) -> Draft:
    """Build the request of an operation, unsigned.

    Raises:
        InvalidOrder: The venue cannot do this.
    """
    markets = Markets(() if market is None else (market,))
    if operation in _ALONE:
        return definition.plain_draft(operation, now_ns)
    if operation in COMMANDS:
        if market is None:
            raise ConfigError(f"{operation} needs --order with a symbol")
        command = _command(operation, order, market.instrument)
        context = TranslateContext(instrument=market.instrument, now=VenueTime(time_ns=now_ns))
        draft = definition.translate(command, context).payload
        assert isinstance(draft, Draft)
        return draft
    asking = definition.ask(
        _query(operation, order), markets=markets, account=_NOBODY, now=lambda: now_ns
    )
    return next(asking)


def _command(operation: str, order: Order | None, instrument: Instrument) -> Command:
    if operation == "cancel_all":
        return CancelAll(symbol=instrument.symbol)
    assert order is not None
    match operation:
        case "place":
            return Submit(order=order)
        case "cancel":
            return Cancel(order=order)
        case _:
            terms = ReplaceTerms(
                order_qty=order.order_qty, price=order.price, trigger_price=order.trigger_price
            )
            return Replace(order=order, terms=terms)


def _query(operation: str, order: Order | None) -> Query:
    symbol = None if order is None else order.symbol
    if operation in {"order", "reference_price"} and symbol is None:
        raise ConfigError(f"{operation} needs --order with a symbol")
    match operation:
        case "order":
            assert order is not None
            return FetchOrder(
                symbol=order.symbol,
                venue_client_order_id=order.venue_client_order_id,
                venue_order_id=order.venue_order_id,
            )
        case "open_orders":
            return FetchOpenOrders(symbol=symbol)
        case "history":
            return FetchHistory(symbol=symbol)
        case "fills":
            return FetchFills(
                symbol=symbol, venue_order_id=None if order is None else order.venue_order_id
            )
        case "balances":
            return FetchBalances()
        case "instruments":
            return FetchInstruments()
        case "reference_price":
            assert symbol is not None
            return FetchReferencePrice(symbol=symbol)
        case _:
            raise AssertionError(f"{operation} is no query")


def render(
    definition: Definition,
    operation: str,
    *,
    order: Mapping[str, Any] | None,
    instrument: Mapping[str, Any] | None,
    credentials: Credentials,
    clock_ms: int,
    nonce: str | None = None,
    host: str = "live",
) -> HttpRequest:
    """Build and sign the request of an operation.

    Raises:
        ConfigError: The definition, the key or the market will not do.
        InvalidOrder: The venue cannot do this.
    """
    if host not in definition.hosts:
        raise ConfigError(
            f"{definition.name} has {', '.join(definition.hosts)}; found {host[:40]!r}"
        )
    now_ns = clock_ms * 1_000_000
    asked = None if order is None else read_order(order)
    market = None if asked is None else find_instrument(definition, asked.symbol, instrument)
    draft = build(definition, operation, asked, market, now_ns)
    return sign(definition, draft, credentials, now_ns=now_ns, nonce=nonce, host=host)


def sign(
    definition: Definition,
    draft: Draft,
    credentials: Credentials,
    *,
    now_ns: int,
    nonce: str | None,
    host: str = "live",
) -> HttpRequest:
    """Sign a draft, for one of the definition's environments."""
    base = definition.hosts[host]
    if not draft.is_signed:
        request = definition.unsigned(draft, base.rest)
    else:
        if nonce is None:
            nonce = NonceSource(definition.nonce).draw(now_ns)
        request = definition.signer(credentials).sign(
            draft, base.rest, Stamp(now_ns=now_ns, nonce=nonce)
        )
    if not base.headers:
        return request
    return _with_headers(request, dict(base.headers))


def _with_headers(request: HttpRequest, more: Mapping[str, str]) -> HttpRequest:
    return HttpRequest(
        method=request.method,
        url=request.url,
        headers={**request.headers, **more},
        body=request.body,
    )
