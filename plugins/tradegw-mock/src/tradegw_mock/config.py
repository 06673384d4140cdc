"""What someone sets for the venue `mock`."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from tradegw import parse_decimal

__all__ = ["Liquidity", "MockConfig", "read_address"]

Liquidity = Literal["maker", "none"]


class MockConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A venue with `plugin = "mock"`, and its accounts.

    Accounts of one venue share one exchange, so they must agree on what is said of it: `durable`,
    `liquidity`, `seed`, `step_interval_s`, `replay` and `scenario` belong in the venue's section.

    Attributes:
        url: `HOST:PORT` or `tcp://HOST:PORT` of a `tradegw mock serve`. Empty: in this process.
        durable: Keep the exchange in a file beside the gateway's store, committed before it answers. In
            memory all the same where the gateway itself keeps nothing.
        exchange_account: The account's name at the exchange. Default: its name here.
        balances: What the account starts with, by asset; only when the exchange opens it. Default: as
            the exchange's own default.
        liquidity: `maker` quotes around a random walk; with `none` only the users' own orders meet.
        seed: What the maker's prices and sizes are drawn from.
        step_interval_s: Seconds between two steps of the maker's prices; 0 holds them still.
        replay: CSV file of trades and book updates that takes the maker's place.
        scenario: TOML file of faults that begin with the exchange.
    """

    url: str = ""
    durable: bool = True
    exchange_account: str = ""
    balances: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    liquidity: Liquidity = "maker"
    seed: int = 1
    step_interval_s: float = 1.0
    replay: str = ""
    scenario: str = ""

    def __post_init__(self) -> None:
        self.read_balances()
        if self.step_interval_s < 0:
            raise ValueError(f"step_interval_s must be at least 0; found {self.step_interval_s}")
        if self.url:
            read_address(self.url)
            for name in (
                "durable",
                "liquidity",
                "seed",
                "step_interval_s",
                "replay",
                "scenario",
            ):
                if getattr(self, name) != _DEFAULTS[name]:
                    raise ValueError(
                        f"{name} is for the process behind url to say, not for its client"
                    )

    def read_balances(self) -> dict[str, Decimal] | None:
        """Return what the account starts with; None for the exchange's default.

        Raises:
            ValueError: An amount is not a plain positive decimal.
        """
        if not self.balances:
            return None
        amounts = {a: parse_decimal(text, f"balances.{a}") for a, text in self.balances.items()}
        for asset, amount in amounts.items():
            if amount <= 0:
                raise ValueError(f"balances.{asset} must be above zero; found {amount}")
        return amounts


_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(MockConfig)}


def read_address(url: str) -> tuple[str, int]:
    """Read `HOST:PORT` or `tcp://HOST:PORT`.

    Raises:
        ValueError: It is neither.
    """
    scheme, found, rest = url.rpartition("://")
    host, _, port = rest.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    is_port = port.isascii() and port.isdigit() and 0 < int(port[:6]) < 2**16
    if (found and scheme != "tcp") or not host or not is_port:
        raise ValueError(f"url is HOST:PORT or tcp://HOST:PORT of a native door; found {url!r}")
    return host, int(port)
