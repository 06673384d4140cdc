"""The configuration: one TOML file, every key also as an environment variable, checked as a whole.

Later sources win: the defaults, the file, the environment (`TRADEGW__STORE__URL=...`), what the program or
the command line hands over. Unknown keys are refused with their path, because a misspelt limit is none.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tradegw.engine.limits import Limits
from tradegw.errors import ConfigError
from tradegw.gateway.secrets import read_secret
from tradegw.model import parse_decimal
from tradegw.venue import Secret

__all__ = [
    "AccountConfig",
    "Config",
    "GatewayConfig",
    "LimitsConfig",
    "LogConfig",
    "ServerConfig",
    "StoreConfig",
    "VenueConfig",
    "decode_plugin_config",
    "load_config",
]

ENV_PREFIX = "TRADEGW__"
DEFAULT_FILE = "tradegw.toml"
PAPER = {"venues": {"mock": {"plugin": "mock"}}, "accounts": {"paper": {"venue": "mock"}}}
"""Without any venue configured: the mock exchange in process, with one funded account."""

T = TypeVar("T")


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gateway]`.

    Attributes:
        name: Marks our orders at the venues. Change it only when no order is open.
        environment: Shown in logs.
        drain_s: Seconds that a shut-down waits for answers.
    """

    name: str = "tradegw"
    environment: str = "development"
    drain_s: float = 10.0


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[store]`.

    Attributes:
        url: `sqlite:///FILE` (relative to the working directory), `sqlite:////ABSOLUTE`, or `memory://`.
    """

    url: str = "sqlite:///tradegw.db"


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`. Port 0 picks a free one."""

    grpc_host: str = "127.0.0.1"
    grpc_port: int = 50051
    http_host: str = "127.0.0.1"
    http_port: int = 8080


class LogConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`.

    Attributes:
        level: `DEBUG INFO WARNING ERROR`.
        format: `json` for programs, `text` for people, `auto` for text on a terminal.
    """

    level: str = "INFO"
    format: str = "auto"


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`limits = {...}` of an account; see `tradegw.engine.limits.Limits`. Decimals are written as text."""

    max_order_notional: str | None = None
    max_open_orders: int | None = None
    max_orders_per_second: int | None = None
    max_orders_per_day: int | None = None
    price_collar_bps: str | int | None = None
    symbols: list[str] | None = None
    reduce_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueConfig:
    """`[venues.NAME]`.

    Attributes:
        plugin: Name of a venue that a plugin offers.
        options: The other keys; the plugin's own.
    """

    name: str
    plugin: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountConfig:
    """`[accounts.NAME]`.

    Attributes:
        venue: Name of a configured venue.
        tags: For routing.
        execute_timeout_s: How long a venue's answer is awaited before the order is in doubt.
        send_by_s: After its intent an order is sent within this time or not at all.
        options: The other keys; the plugin's own.
    """

    name: str
    venue: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    limits: Limits = field(default_factory=Limits)
    execute_timeout_s: float = 10.0
    send_by_s: float = 10.0
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All of it.

    Attributes:
        sources: For each key that is set, by its dotted path, where its value came from.
    """

    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    log: LogConfig = field(default_factory=LogConfig)
    venues: Mapping[str, VenueConfig] = field(default_factory=dict[str, VenueConfig])
    accounts: Mapping[str, AccountConfig] = field(default_factory=dict[str, AccountConfig])
    sources: Mapping[str, str] = field(default_factory=dict[str, str])


_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "gateway": GatewayConfig,
    "store": StoreConfig,
    "server": ServerConfig,
    "log": LogConfig,
}
_ACCOUNT_KEYS = {"venue", "tags", "limits", "execute_timeout_s", "send_by_s"}


def load_config(
    path: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Read the configuration.

    Args:
        path: The file. None means `tradegw.toml` in the working directory, if there is one and no
            `overrides` are given.
        overrides: Sections and keys that win over everything, as in the file.

    Raises:
        ConfigError: Names the key, what was expected, what was found, and where it came from.
    """
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    file = Path(DEFAULT_FILE) if path is None else Path(path)
    if path is not None or (file.exists() and overrides is None):
        _merge(merged, sources, _read(file), str(file))
    _merge(merged, sources, _from_environment(os.environ if environ is None else environ), None)
    if overrides:
        _merge(merged, sources, overrides, "the program")
    if not merged.get("venues") and not merged.get("accounts"):
        _merge(merged, sources, PAPER, "the default")
    return _check(merged, sources)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as e:
        raise ConfigError(f"the configuration {file} cannot be read: {e.strerror or e}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"the configuration {file} is not TOML: {e}") from e


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX):
            continue
        path = [part.lower() for part in name.removeprefix(ENV_PREFIX).split("__")]
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        text = _EnvText(value)
        text.variable = name
        node[path[-1]] = text
    return tree


class _EnvText(str):  # noqa: SLOT000
    """A value from the environment, with the variable that it came from."""

    # A str with attributes cannot have slots beside its own; there are a handful of these at start.
    variable = ""


def _merge(
    into: dict[str, Any],
    sources: dict[str, str],
    tree: Mapping[str, Any],
    source: str | None,
    path: str = "",
) -> None:
    for key, value in tree.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            node = into.setdefault(key, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{here} is a value in one source and a section in another")
            _merge(node, sources, value, source, here)  # pyright: ignore[reportUnknownArgumentType]
        else:
            into[key] = str(value) if isinstance(value, _EnvText) else value
            sources[here] = f"${value.variable}" if isinstance(value, _EnvText) else source or "?"


def _check(tree: Mapping[str, Any], sources: Mapping[str, str]) -> Config:
    known = {*_SECTIONS, "venues", "accounts"}
    for key in tree:
        if key not in known:
            raise ConfigError(
                f"unknown section [{key}] {_whence(key, sources)}; there are {', '.join(sorted(known))}"
            )
    sections: dict[str, Any] = {
        name: _convert(tree.get(name, {}), kind, name, sources) for name, kind in _SECTIONS.items()
    }
    venues = {
        name: _venue(name, _table(node, f"venues.{name}"))
        for name, node in _table(tree.get("venues", {}), "venues").items()
    }
    accounts = {
        name: _account(name, _table(node, f"accounts.{name}"), venues, sources)
        for name, node in _table(tree.get("accounts", {}), "accounts").items()
    }
    return Config(**sections, venues=venues, accounts=accounts, sources=dict(sources))


def _table(node: object, path: str) -> Mapping[str, Any]:
    if not isinstance(node, Mapping):
        raise ConfigError(f"{path} must be a section; found {node!r}")
    return node  # pyright: ignore[reportUnknownVariableType]


def _venue(name: str, node: Mapping[str, Any]) -> VenueConfig:
    plugin = node.get("plugin")
    if not isinstance(plugin, str):
        raise ConfigError(
            f"venues.{name}.plugin must name a venue that a plugin offers (see `tradegw plugins`); "
            f"found {plugin!r}"
        )
    options = {key: value for key, value in node.items() if key != "plugin"}
    return VenueConfig(name=name, plugin=plugin, options=options)


def _account(
    name: str,
    node: Mapping[str, Any],
    venues: Mapping[str, VenueConfig],
    sources: Mapping[str, str],
) -> AccountConfig:
    path = f"accounts.{name}"
    venue = node.get("venue")
    if venue not in venues:
        have = ", ".join(sorted(venues)) or "none"
        raise ConfigError(f"{path}.venue must name a configured venue ({have}); found {venue!r}")
    common = {key: node[key] for key in _ACCOUNT_KEYS & set(node) if key not in ("venue", "limits")}
    checked = _convert(common, _AccountCommon, path, sources)
    limits = _convert(node.get("limits", {}), LimitsConfig, f"{path}.limits", sources)
    return AccountConfig(
        name=name,
        venue=str(venue),
        tags=checked.tags,
        execute_timeout_s=checked.execute_timeout_s,
        send_by_s=checked.send_by_s,
        limits=_limits(limits, f"{path}.limits"),
        options={key: value for key, value in node.items() if key not in _ACCOUNT_KEYS},
    )


class _AccountCommon(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tags: dict[str, str] = {}
    execute_timeout_s: float = 10.0
    send_by_s: float = 10.0


def _limits(config: LimitsConfig, path: str) -> Limits:
    def decimal(name: str, value: str | int | None) -> Decimal | None:
        try:
            return None if value is None else parse_decimal(value, f"{path}.{name}")
        except ValueError as e:
            raise ConfigError(str(e)) from e

    return Limits(
        max_order_notional=decimal("max_order_notional", config.max_order_notional),
        max_open_orders=config.max_open_orders,
        max_orders_per_second=config.max_orders_per_second,
        max_orders_per_day=config.max_orders_per_day,
        price_collar_bps=decimal("price_collar_bps", config.price_collar_bps),
        symbols=None if config.symbols is None else frozenset(config.symbols),
        reduce_only=config.reduce_only,
    )


def _convert(node: Any, kind: type[T], path: str, sources: Mapping[str, str]) -> T:
    try:
        # Not strict: the environment knows only text.
        return msgspec.convert(node, kind, strict=False)
    except msgspec.ValidationError as e:
        text = str(e)
        _, _, key = text.rstrip("`").partition("`$.")
        here = f"{path}.{key}" if key else path
        raise ConfigError(f"{here}: {text} {_whence(here, sources)}".strip()) from e


def _whence(path: str, sources: Mapping[str, str]) -> str:
    found = {s for p, s in sources.items() if p == path or p.startswith(f"{path}.")}
    return f"(from {', '.join(sorted(found))})" if found else ""


def decode_plugin_config(
    kind: type[T], venue: VenueConfig, account: AccountConfig, sources: Mapping[str, str]
) -> T:
    """Decode what the configuration says to a plugin: the venue's options, then the account's.

    Raises:
        ConfigError: A key is unknown to the plugin, missing or malformed.
    """
    options = {**venue.options, **account.options}
    known = _field_names(kind)
    for key in options:
        if key not in known:
            where = "accounts" if key in account.options else "venues"
            name = account.name if key in account.options else venue.name
            path = f"{where}.{name}.{key}"
            raise ConfigError(
                f"unknown key {path} {_whence(path, sources)}; plugin {venue.plugin} has "
                f"{', '.join(sorted(known)) or 'none'}"
            )
    try:
        return msgspec.convert(options, kind, strict=False, dec_hook=_decode_special)
    except msgspec.ValidationError as e:
        raise ConfigError(
            f"accounts.{account.name} with venues.{venue.name} (plugin {venue.plugin}): {e}"
        ) from e


def _field_names(kind: type[Any]) -> set[str]:
    if is_dataclass(kind):
        return {f.name for f in fields(kind)}
    return {f.encode_name for f in msgspec.structs.fields(kind)}


def _decode_special(kind: type[Any], value: Any) -> Any:
    if kind is Secret:
        return read_secret(value)
    raise NotImplementedError(kind)
