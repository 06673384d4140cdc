"""What can go wrong on purpose: the kinds of fault, and what each one meets.

Pure values. `Chaos` (engine.py) counts and draws; doors ask it at the points where faults act.
"""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

__all__ = ["FaultKind", "FaultSpec", "Mark", "Point", "Target"]


class FaultKind(StrEnum):
    """What goes wrong. Names in scenario files, in the admin API and in the audit trail."""

    REQUEST_LOST = "REQUEST_LOST"
    """The request never arrives: no effect, no answer."""
    REQUEST_DELAYED = "REQUEST_DELAYED"
    """It arrives `delay_s` late: the client may have given it up, and it is carried out all the same."""
    ANSWER_LOST = "ANSWER_LOST"
    """It is carried out, and no answer comes."""
    ANSWER_DELAYED = "ANSWER_DELAYED"
    """It is carried out at once, and answered `delay_s` later."""
    ERROR_AFTER = "ERROR_AFTER"
    """It is carried out, and answered with `code`: an HTTP status from 500 on, or Binance's -1006, -1007."""
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
    """It is refused as too fast (429), with `retry_after_s`."""
    BANNED = "BANNED"
    """The same, for one who did not slow down (418)."""
    MAINTENANCE = "MAINTENANCE"
    """It is refused: the exchange is being mended."""
    EVENT_DROPPED = "EVENT_DROPPED"
    """An event of a stream never comes."""
    EVENT_DUPLICATED = "EVENT_DUPLICATED"
    """An event of a stream comes twice."""
    EVENT_REORDERED = "EVENT_REORDERED"
    """An event of a stream comes after the next one."""
    STREAM_SILENT = "STREAM_SILENT"
    """The stream tells nothing more until it is opened anew, and pings still flow."""
    DISCONNECT = "DISCONNECT"
    """The stream is cut: at once where it is open, else at its next event."""
    FILL_AFTER_CANCEL = "FILL_AFTER_CANCEL"
    """An order whose cancel was confirmed fills all the same, `delay_s` later."""
    CANCEL_FILLED = "CANCEL_FILLED"
    """A cancel is refused, because the order filled a moment before."""
    STALE_OPEN_ORDERS = "STALE_OPEN_ORDERS"
    """A list of open orders shows them as they were `lag_s` ago."""
    HISTORY_LAGS = "HISTORY_LAGS"
    """The fills of an order show `lag_s` late in lists of fills. The stream and the order tell at once."""
    NOT_FOUND = "NOT_FOUND"
    """An accepted order is not found, by its ids or in lists, until it is `lag_s` old."""
    CLOCK_SKEW = "CLOCK_SKEW"
    """The exchange's clock, as a request meets it, goes wrong by `offset_s` (above zero: ahead)."""
    RESTART = "RESTART"
    """Every connection is cut; with `keep_streams` false nobody can resume a stream afterwards."""


class Point(StrEnum):
    """Where a fault acts."""

    BEFORE = "BEFORE"
    AFTER = "AFTER"
    EVENT = "EVENT"
    CANCEL = "CANCEL"
    QUERY = "QUERY"
    CLOCK = "CLOCK"
    EXCHANGE = "EXCHANGE"


MUTATIONS: Final = frozenset({"place", "cancel", "replace", "cancel_all", "batch"})
STREAM: Final = "stream"
"""The operation of an event that a stream carries."""

_EVERYTHING: Final[frozenset[str] | None] = None


class _About(Struct, frozen=True):
    """What is known of a kind.

    Attributes:
        operations: What it meets when the fault names no route; None for everything.
        parameters: Its parameters beside those of every fault, with their defaults.
        can_meet: What it could ever meet, where that is less than everything.
    """

    point: Point
    operations: frozenset[str] | None
    parameters: dict[str, float | bool]
    can_meet: frozenset[str] | None = None


def _only(point: Point, *operations: str, **parameters: float | bool) -> _About:
    return _About(point, frozenset(operations), parameters, frozenset(operations))


ABOUT: Final[dict[FaultKind, _About]] = {
    # A lost or late answer is of interest where something may have been done.
    FaultKind.REQUEST_LOST: _About(Point.BEFORE, MUTATIONS, {}),
    FaultKind.REQUEST_DELAYED: _About(Point.BEFORE, MUTATIONS, {"delay_s": 30.0}),
    FaultKind.ANSWER_LOST: _About(Point.AFTER, MUTATIONS, {}),
    FaultKind.ANSWER_DELAYED: _About(Point.AFTER, MUTATIONS, {"delay_s": 30.0}),
    FaultKind.ERROR_AFTER: _About(Point.AFTER, MUTATIONS, {"code": -1007}),
    FaultKind.TOO_MANY_REQUESTS: _About(Point.BEFORE, _EVERYTHING, {"retry_after_s": 1.0}),
    FaultKind.BANNED: _About(Point.BEFORE, _EVERYTHING, {"retry_after_s": 120.0}),
    FaultKind.MAINTENANCE: _About(Point.BEFORE, _EVERYTHING, {}),
    FaultKind.EVENT_DROPPED: _only(Point.EVENT, STREAM),
    FaultKind.EVENT_DUPLICATED: _only(Point.EVENT, STREAM),
    FaultKind.EVENT_REORDERED: _only(Point.EVENT, STREAM),
    FaultKind.STREAM_SILENT: _only(Point.EVENT, STREAM),
    FaultKind.DISCONNECT: _only(Point.EVENT, STREAM),
    FaultKind.FILL_AFTER_CANCEL: _only(Point.CANCEL, "cancel", "cancel_all", delay_s=0.5),
    FaultKind.CANCEL_FILLED: _only(Point.CANCEL, "cancel"),
    FaultKind.STALE_OPEN_ORDERS: _only(Point.QUERY, "open_orders", lag_s=5.0),
    FaultKind.HISTORY_LAGS: _only(Point.QUERY, "fills", lag_s=5.0),
    FaultKind.NOT_FOUND: _only(Point.QUERY, "order", "open_orders", "orders", lag_s=2.0),
    FaultKind.CLOCK_SKEW: _About(Point.CLOCK, _EVERYTHING, {"offset_s": 10.0}),
    FaultKind.RESTART: _About(Point.EXCHANGE, frozenset(), {"keep_streams": True}, frozenset()),
}

_SECONDS: Final = ("delay_s", "lag_s", "retry_after_s")
_DAY_S: Final = 86_400.0


class Target(Struct, frozen=True, kw_only=True):
    """What comes by a point where faults act: a request, or an event of a stream.

    Attributes:
        operation: The native door's word for it: `place`, `cancel`, `replace`, `cancel_all`, `batch`,
            `order`, `open_orders`, `orders`, `fills`, `balances`, `price`, `instruments`, `time`,
            `subscribe`; `stream` for an event. Other doors use the same words where there is one.
        route: The door's own name for it, such as `POST /api/v3/order` or `order.place`.
        client_order_id: For the audit trail; so is `order_id`.
    """

    operation: str
    account: str = ""
    symbol: str = ""
    route: str = ""
    client_order_id: str | None = None
    order_id: int | None = None


class FaultSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A fault as someone asks for it, in a scenario file or through the admin API.

    Without `times`, `probability` and `for_s` it acts once.

    Attributes:
        account: Only on this account; empty: on any.
        symbol: Only on this symbol, such as `BTC/USDT`; empty: on any.
        route: Only on this operation or route; `*` and `?` match as in file names. Empty: on what the
            kind is about: lost and late answers on what changes orders, the rest wherever they can act.
        times: How often it acts; 0 for without end.
        probability: How likely it acts when it could, above 0 and at most 1.
        start_s: Seconds until it begins, from when it was given, or a scenario from its start.
        for_s: Seconds for which it lasts from then on; None: until it has acted `times` times.
        code, delay_s, lag_s, retry_after_s, offset_s, keep_streams: As the kind says.

    Raises:
        ValueError: A value is out of its range, or is for other kinds.
    """

    kind: FaultKind
    account: str = ""
    symbol: str = ""
    route: str = ""
    times: int | None = None
    probability: float = 1.0
    start_s: float = 0.0
    for_s: float | None = None
    code: int | None = None
    delay_s: float | None = None
    lag_s: float | None = None
    retry_after_s: float | None = None
    offset_s: float | None = None
    keep_streams: bool | None = None

    def __post_init__(self) -> None:
        known = ABOUT[self.kind].parameters
        for name in _PARAMETERS:
            value = getattr(self, name)
            if value is not None and name not in known:
                raise ValueError(f"{name} is not for {self.kind}; it takes {_listed(known)}")
            if value is not None and name in _SECONDS and not 0 <= value <= _DAY_S:
                raise ValueError(f"{name} is at least 0 and at most a day; found {value}")
        if self.offset_s is not None and not -_DAY_S <= self.offset_s <= _DAY_S:
            raise ValueError(f"offset_s is at most a day either way; found {self.offset_s}")
        if self.code is not None and self.code not in (-1006, -1007) and not 500 <= self.code < 600:
            raise ValueError(f"code is 500 to 599, -1006 or -1007; found {self.code}")
        if self.times is not None and self.times < 0:
            raise ValueError(f"times is at least 0; found {self.times}")
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability is above 0 and at most 1; found {self.probability}")
        if not 0 <= self.start_s <= 365 * _DAY_S:
            raise ValueError(f"start_s is at least 0; found {self.start_s}")
        if self.for_s is not None and not 0 < self.for_s <= 365 * _DAY_S:
            raise ValueError(f"for_s is above 0; found {self.for_s}")

    @property
    def limit(self) -> int | None:
        """How often it may act; None for without end."""
        if self.times is not None:
            return self.times or None
        return 1 if self.probability == 1 and self.for_s is None else None

    def parameter(self, name: str) -> float:
        """Return a parameter of its kind, or the default."""
        value: float | None = getattr(self, name)
        return ABOUT[self.kind].parameters[name] if value is None else value

    def meets(self, target: Target) -> bool:
        """Whether it is about such a target, whatever its time and count."""
        if self.account and self.account != target.account:
            return False
        if self.symbol and self.symbol != target.symbol:
            return False
        about = ABOUT[self.kind]
        if about.can_meet is not None and target.operation not in about.can_meet:
            return False
        if not self.route:
            return about.operations is None or target.operation in about.operations
        return fnmatchcase(target.operation, self.route) or fnmatchcase(target.route, self.route)


_PARAMETERS: Final = tuple(dict.fromkeys(n for a in ABOUT.values() for n in a.parameters))


def _listed(names: dict[str, float | bool]) -> str:
    return ", ".join(names) or "no parameter"


class Mark(Struct, frozen=True, kw_only=True):
    """That a fault acted, and on what, for the audit trail."""

    fault_id: int
    kind: FaultKind
    target: Target
