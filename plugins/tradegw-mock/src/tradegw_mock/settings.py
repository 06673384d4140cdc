"""What someone sets for `tradegw mock serve`, beyond its options: the file that `--config` names.

```toml
native_port = 8101
liquidity = "maker"
step_interval_s = 1.0

[limits]
orders_per_10_seconds = 100

[[accounts]]
name = "account-1"
balances = { BTC = "10", USDT = "1000000" }
```
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec

from tradegw import parse_decimal
from tradegw_mock.binance.limits import LimitSettings
from tradegw_mock.config import Liquidity

__all__ = ["AccountSettings", "ServeSettings", "SettingsError", "read_settings"]


class SettingsError(Exception):
    """A file of settings cannot be read, or says what cannot be; the text names both."""


class AccountSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account to open and fund, unless the exchange's file has it.

    Attributes:
        balances: What it starts with, by asset. Default: as the exchange's own default.
        api_key: Its HMAC key for the Binance-compatible doors; with `api_secret`. Default: one that is
            made, and stays the same as long as the seed or the file does.
    """

    name: str
    balances: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    api_key: str = ""
    api_secret: str = ""

    def __post_init__(self) -> None:
        if bool(self.api_key) != bool(self.api_secret):
            raise ValueError("api_key and api_secret go together")
        self.read_balances()

    def __repr__(self) -> str:
        return f"AccountSettings({self.name!r})"

    def read_balances(self) -> dict[str, Decimal] | None:
        """Return what the account starts with; None for the exchange's default.

        Raises:
            ValueError: An amount is not a plain positive decimal.
        """
        if not self.balances:
            return None
        return {a: parse_decimal(text, f"balances.{a}") for a, text in self.balances.items()}


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file as a whole.

    Attributes:
        native_port: Port of the native door. Default: the one after `--port`; a free one beside a free one.
        liquidity: `maker` quotes around a random walk; with `none` only the users' own orders meet.
        step_interval_s: Seconds between two steps of the maker's prices; 0 holds them still.
        listen_keys: Whether user data streams open by listen key, too. Binance ended that on 2026-02-20;
            off, they are answered 410 as they are there.
        limits: The limits of the Binance-compatible doors.
        replay: CSV file of trades and book updates that takes the maker's place; see README.md.
        accounts: Accounts to open and fund.
    """

    native_port: int | None = None
    liquidity: Liquidity = "maker"
    step_interval_s: float = 1.0
    listen_keys: bool = True
    limits: LimitSettings = LimitSettings()
    replay: str = ""
    accounts: tuple[AccountSettings, ...] = (
        AccountSettings(name="account-1"),
        AccountSettings(name="account-2"),
    )

    def __post_init__(self) -> None:
        if self.native_port is not None and not 0 <= self.native_port < 2**16:
            raise ValueError(f"native_port is 0 to 65535; found {self.native_port}")
        if self.step_interval_s < 0:
            raise ValueError(f"step_interval_s must be at least 0; found {self.step_interval_s}")


def read_settings(path: Path) -> ServeSettings:
    """Read a file of settings.

    Raises:
        SettingsError: It is missing, no TOML, or says what cannot be.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=ServeSettings)
    except (OSError, msgspec.DecodeError, ValueError) as e:
        raise SettingsError(f"{path}: {e}") from e
