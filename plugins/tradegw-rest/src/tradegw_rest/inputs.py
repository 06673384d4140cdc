"""What a definition may ask for by `$name`: the command or query at hand, and its surroundings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final

from tradegw import (
    Instrument,
    Order,
    OrdType,
    ReplaceTerms,
    Side,
    TimeInForce,
    TriggerBy,
)
from tradegw_rest.markets import Markets

__all__ = ["DOMAINS", "INPUTS", "NOTHING", "WITH_PATH", "Inputs", "Read"]

NOTHING: Final = ReplaceTerms()


class Inputs:
    """The values behind every `$name`.

    Attributes:
        order: The order that a command is about.
        terms: What a replace asks for; None leaves a term as it is.
        now_ns: The venue's clock.
        valid_until_ns: When the venue will refuse the request; 0 when it never does.
        root: The whole answer, while one is read.
        key: The key of an entry, while a mapping of rows is read.
        token: What the operation `stream_token` yielded: text or an object.
        login: What the signer yields for a stream's login.
    """

    __slots__ = (
        "cursor",
        "instrument",
        "key",
        "login",
        "markets",
        "now_ns",
        "order",
        "root",
        "since_ns",
        "terms",
        "token",
        "valid_until_ns",
        "venue_client_order_id",
        "venue_order_id",
    )

    def __init__(
        self,
        *,
        now_ns: int,
        valid_until_ns: int = 0,
        order: Order | None = None,
        instrument: Instrument | None = None,
        terms: ReplaceTerms = NOTHING,
        venue_client_order_id: str | None = None,
        venue_order_id: str | None = None,
        since_ns: int = 0,
        cursor: str | None = None,
        markets: Markets | None = None,
        token: Any = None,
        login: Mapping[str, Any] | None = None,
    ) -> None:
        self.now_ns = now_ns
        self.valid_until_ns = valid_until_ns
        self.order = order
        self.instrument = instrument
        self.terms = terms
        self.venue_client_order_id = venue_client_order_id
        self.venue_order_id = venue_order_id
        self.since_ns = since_ns
        self.cursor = cursor
        self.markets = markets
        self.token = token
        self.login = login
        self.root: Any = None
        self.key: str | None = None

    def reading(self, root: Any) -> Inputs:
        """Return a copy for reading the answer `root`."""
        copy = object.__new__(Inputs)
        copy.now_ns = self.now_ns
        copy.valid_until_ns = self.valid_until_ns
        copy.order = self.order
        copy.instrument = self.instrument
        copy.terms = self.terms
        copy.venue_client_order_id = self.venue_client_order_id
        copy.venue_order_id = self.venue_order_id
        copy.since_ns = self.since_ns
        copy.cursor = self.cursor
        copy.markets = self.markets
        copy.token = self.token
        copy.login = self.login
        copy.root = root
        copy.key = None
        return copy


Read = Callable[[Any, Inputs], Any]


def _of_order(name: str) -> Read:
    def read(row: Any, inputs: Inputs) -> Any:
        return None if inputs.order is None else getattr(inputs.order, name)

    return read


def _of_terms(name: str) -> Read:
    get = attrgetter(name)

    def read(row: Any, inputs: Inputs) -> Any:
        order = inputs.order
        asked = None if inputs.terms is NOTHING else get(inputs.terms)
        return asked if asked is not None or order is None else get(order)

    return read


def _of_instrument(name: str) -> Read:
    def read(row: Any, inputs: Inputs) -> Any:
        return None if inputs.instrument is None else getattr(inputs.instrument, name)

    return read


def _own(name: str) -> Read:
    def read(row: Any, inputs: Inputs) -> Any:
        return getattr(inputs, name)

    return read


def _known(name: str) -> Read:
    # Zero is the absence of an instant.
    def read(row: Any, inputs: Inputs) -> Any:
        return getattr(inputs, name) or None

    return read


def _market(index: int) -> Read:
    def read(row: Any, inputs: Inputs) -> Any:
        if inputs.instrument is None or inputs.markets is None:
            return None
        names = inputs.markets.aliases(inputs.instrument.symbol)
        return names[index] if index < len(names) else None

    return read


INPUTS: Final[Mapping[str, tuple[Read, str]]] = {
    "side": (_of_order("side"), "`BUY` or `SELL`"),
    "ord_type": (_of_order("ord_type"), "`MARKET`, `LIMIT`, `STOP` ..."),
    "time_in_force": (_of_order("time_in_force"), "`GTC IOC FOK GTD DAY`"),
    "order_qty": (_of_terms("order_qty"), "size in base units; of a replace the new total"),
    "quote_qty": (_of_order("quote_qty"), "size in quote units"),
    "price": (_of_terms("price"), "limit price; of a replace the new one"),
    "trigger_price": (_of_terms("trigger_price"), "trigger; of a replace the new one"),
    "trigger_by": (_of_order("trigger_by"), "`LAST MARK INDEX`"),
    "trailing_offset": (_of_order("trailing_offset"), "distance of a trailing stop"),
    "expire_time_ns": (_of_order("expire_time_ns"), "when a GTD order ends"),
    "post_only": (_of_order("post_only"), "`true` or `false`"),
    "reduce_only": (_of_order("reduce_only"), "`true` or `false`"),
    "cum_qty": (_of_order("cum_qty"), "filled so far, base units"),
    "created_time_ns": (_of_order("created_time_ns"), "when the order was made, by our clock"),
    "venue_client_order_id": (_own("venue_client_order_id"), "our name of the order at the venue"),
    "venue_order_id": (_own("venue_order_id"), "the venue's id of the order"),
    "symbol": (_of_instrument("symbol"), "unified, `BTC/USDT`"),
    "venue_symbol": (_of_instrument("venue_symbol"), "what the venue calls the market"),
    "venue_alias": (_market(0), "the first alias of the market, where instruments have some"),
    "base_asset": (_of_instrument("base_asset"), "`BTC`"),
    "quote_asset": (_of_instrument("quote_asset"), "`USDT`"),
    "tick_size": (_of_instrument("tick_size"), "grid of prices"),
    "step_size": (_of_instrument("step_size"), "grid of quantities"),
    "now_ns": (_own("now_ns"), "the venue's clock"),
    "valid_until_ns": (_known("valid_until_ns"), "when the venue will refuse the request"),
    "since_ns": (_known("since_ns"), "from when on a listing is asked for"),
    "cursor": (_own("cursor"), "where a listing goes on"),
    "token": (_own("token"), "in frames: what `stream_token` yielded; a path may follow"),
    "login": (_own("login"), "in frames: what the signer yields, such as `$login.signature`"),
    "key": (_own("key"), "key of the entry that is read"),
    "root": (_own("root"), "the whole answer; a path may follow: `$root.a.b`"),
}
"""Every input, how it is read, and what it is."""

WITH_PATH: Final = frozenset(("root", "token", "login"))
"""Inputs that are JSON, so that a path may follow."""

DOMAINS: Final[Mapping[str, frozenset[str]]] = {
    "side": frozenset(Side),
    "ord_type": frozenset(OrdType),
    "time_in_force": frozenset(TimeInForce),
    "trigger_by": frozenset(TriggerBy),
    "post_only": frozenset(("true", "false")),
    "reduce_only": frozenset(("true", "false")),
}
"""What inputs with few values can be, so that a slip in a condition is found at load."""
