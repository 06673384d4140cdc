"""Request weights and order counts: what is left, and who must wait. Pure but for what it counts.

Windows are of the calendar, as Binance's are: a minute ends when the clock's minute does.

Source: binance-spot-api-docs, rest-api.md, "LIMITS"; faqs/order_count_decrement.md.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec

from tradegw_mock.binance.errors import BinanceError

__all__ = ["LimitSettings", "Limits"]

NS: Final = 1_000_000_000
_MINUTE_NS: Final = 60 * NS
_BAN_AFTER: Final = 100
"""Requests beyond the limit, within a window, that get an address banned."""
_BAN_FIRST_S: Final = 120
_BAN_MAX_S: Final = 3 * 24 * 3600
_KEPT: Final = 10_000
"""Addresses and accounts remembered; beyond, the one that came first is forgotten."""


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits; they are declared in `exchangeInfo` and in the headers, and kept unless `enforced` is off.

    Attributes:
        enforced: Refuse what is beyond them. Without it they are declared and counted all the same.
        native: Whether the native door keeps and declares them, too.
        request_weight_per_minute: Of one address.
        raw_requests_per_5_minutes: Of one address.
        orders_per_10_seconds: Of one account, filled ones aside; `orders_per_day` likewise.
    """

    enforced: bool = True
    native: bool = False
    request_weight_per_minute: int = 6000
    raw_requests_per_5_minutes: int = 300_000
    orders_per_10_seconds: int = 100
    orders_per_day: int = 200_000

    def __post_init__(self) -> None:
        for name in self.__struct_fields__[2:]:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1; found {getattr(self, name)}")


class _Window:
    """A count within the present window of the calendar."""

    __slots__ = ("count", "length_ns", "start_ns")

    def __init__(self, length_ns: int) -> None:
        self.length_ns = length_ns
        self.start_ns = 0
        self.count = 0

    def at(self, now_ns: int) -> _Window:
        start_ns = now_ns - now_ns % self.length_ns
        if start_ns != self.start_ns:
            self.start_ns, self.count = start_ns, 0
        return self

    def left_s(self, now_ns: int) -> float:
        """Seconds until the next window."""
        return (self.start_ns + self.length_ns - now_ns) / NS


class _Address:
    __slots__ = ("banned_until_ns", "bans", "beyond", "raw", "weight")

    def __init__(self) -> None:
        self.weight = _Window(_MINUTE_NS)
        self.raw = _Window(5 * _MINUTE_NS)
        self.beyond = _Window(_MINUTE_NS)
        self.bans = 0
        self.banned_until_ns = 0


class _Orders:
    __slots__ = ("day", "ten_seconds")

    def __init__(self) -> None:
        self.ten_seconds = _Window(10 * NS)
        self.day = _Window(86_400 * NS)


class Limits:
    """All that is counted."""

    def __init__(self, settings: LimitSettings) -> None:
        self.settings = settings
        self._addresses: dict[str, _Address] = {}
        self._accounts: dict[str, _Orders] = {}

    # --- by address -----------------------------------------------------------------------------

    def charge(self, address: str, weight: int, now_ns: int) -> None:
        """Charge a request to where it comes from.

        Raises:
            BinanceError: 429 beyond the limit, 418 for one who goes on all the same.
        """
        known = self._address(address)
        if known.banned_until_ns > now_ns and self.settings.enforced:
            raise _banned(known.banned_until_ns, now_ns)
        used = known.weight.at(now_ns)
        used.count += weight
        raw = known.raw.at(now_ns)
        raw.count += 1
        if not self.settings.enforced:
            return
        limit = self.settings.request_weight_per_minute
        if used.count > limit:
            self._count_beyond(known, now_ns)
            raise BinanceError(
                -1003,
                f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
                "Please use WebSocket Streams for live updates to avoid polling the API.",
                status=HTTPStatus.TOO_MANY_REQUESTS,
                retry_after_s=used.left_s(now_ns),
            )
        limit = self.settings.raw_requests_per_5_minutes
        if raw.count > limit:
            self._count_beyond(known, now_ns)
            raise BinanceError(
                -1003,
                f"Too many requests; current limit is {limit} requests per 5 MINUTE. "
                "Please use WebSocket Streams for live updates to avoid polling the API.",
                status=HTTPStatus.TOO_MANY_REQUESTS,
                retry_after_s=raw.left_s(now_ns),
            )

    def refund(self, address: str, weight: int, now_ns: int) -> None:
        """Give back what a request was charged, because it succeeded and is free then."""
        used = self._address(address).weight.at(now_ns)
        used.count = max(used.count - weight, 0)

    def _count_beyond(self, known: _Address, now_ns: int) -> None:
        beyond = known.beyond.at(now_ns)
        beyond.count += 1
        if beyond.count > _BAN_AFTER:
            length_s = min(_BAN_FIRST_S * 2**known.bans, _BAN_MAX_S)
            known.bans = min(known.bans + 1, 32)
            known.banned_until_ns = now_ns + length_s * NS
            raise _banned(known.banned_until_ns, now_ns)

    def used_weight(self, address: str, now_ns: int) -> int:
        """Give the weight used in the present minute."""
        return self._address(address).weight.at(now_ns).count

    def _address(self, address: str) -> _Address:
        known = self._addresses.get(address)
        if known is None:
            known = self._addresses[address] = _Address()
            if len(self._addresses) > _KEPT:
                del self._addresses[next(iter(self._addresses))]
        return known

    # --- by account -----------------------------------------------------------------------------

    def check_orders(self, account: str, now_ns: int) -> None:
        """Refuse another order of an account that has too many unfilled ones.

        Raises:
            BinanceError: 429 beyond the limit.
        """
        if not self.settings.enforced:
            return
        known = self._orders(account)
        for window, limit, words in (
            (known.ten_seconds, self.settings.orders_per_10_seconds, "10 SECOND"),
            (known.day, self.settings.orders_per_day, "1 DAY"),
        ):
            if window.at(now_ns).count >= limit:
                raise BinanceError(
                    -1015,
                    f"Too many new orders; current limit is {limit} orders per {words}.",
                    status=HTTPStatus.TOO_MANY_REQUESTS,
                    retry_after_s=window.left_s(now_ns),
                )

    def ordered(self, account: str, now_ns: int) -> None:
        """Count an order."""
        known = self._orders(account)
        known.ten_seconds.at(now_ns).count += 1
        known.day.at(now_ns).count += 1

    def filled(self, account: str, now_ns: int) -> None:
        """Take an order off the count, because it filled for the first time."""
        known = self._accounts.get(account)
        if known is not None:
            for window in (known.ten_seconds.at(now_ns), known.day.at(now_ns)):
                window.count = max(window.count - 1, 0)

    def order_counts(self, account: str, now_ns: int) -> tuple[int, int]:
        """Give the unfilled orders of the present ten seconds and day."""
        known = self._orders(account)
        return known.ten_seconds.at(now_ns).count, known.day.at(now_ns).count

    def _orders(self, account: str) -> _Orders:
        known = self._accounts.get(account)
        if known is None:
            known = self._accounts[account] = _Orders()
            if len(self._accounts) > _KEPT:
                del self._accounts[next(iter(self._accounts))]
        return known

    # --- as they are told -----------------------------------------------------------------------

    def declared(self) -> list[dict[str, Any]]:
        """Give the limits as `exchangeInfo` lists them."""
        settings = self.settings
        return [
            _declare("REQUEST_WEIGHT", "MINUTE", 1, settings.request_weight_per_minute),
            _declare("ORDERS", "SECOND", 10, settings.orders_per_10_seconds),
            _declare("ORDERS", "DAY", 1, settings.orders_per_day),
            _declare("RAW_REQUESTS", "MINUTE", 5, settings.raw_requests_per_5_minutes),
        ]

    def order_limits(self, account: str, now_ns: int) -> list[dict[str, Any]]:
        """Give the limits of an account with their present counts."""
        ten_seconds, day = self.order_counts(account, now_ns)
        settings = self.settings
        return [
            _declare("ORDERS", "SECOND", 10, settings.orders_per_10_seconds)
            | {"count": ten_seconds},
            _declare("ORDERS", "DAY", 1, settings.orders_per_day) | {"count": day},
        ]

    def weight_limit(self, address: str, now_ns: int) -> dict[str, Any]:
        """Give the limit of an address with its present count."""
        limit = self.settings.request_weight_per_minute
        used = self.used_weight(address, now_ns)
        return _declare("REQUEST_WEIGHT", "MINUTE", 1, limit) | {"count": used}


def _declare(kind: str, interval: str, number: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _banned(until_ns: int, now_ns: int) -> BinanceError:
    until_ms = until_ns // 1_000_000
    return BinanceError(
        -1003,
        f"Way too much request weight used; IP banned until {until_ms}. "
        "Please use WebSocket Streams for live updates to avoid bans.",
        status=HTTPStatus.IM_A_TEAPOT,
        retry_after_s=(until_ns - now_ns) / NS,
    )
