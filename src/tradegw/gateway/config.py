"""The configuration: one TOML file, every key also as an environment variable, checked as a whole.

Later sources win: the defaults, the file, the environment (`TRADEGW__STORE__URL=...`), what the program or
the command line hands over. Unknown keys are refused with their path, because a misspelt limit is none.

The environment knows only text, and mostly capitals: names there stand for those of the file in either case,
and lists and tables may be written as JSON, lists also with commas (`BTC/USDT,ETH/USDT`).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from tradegw.engine.limits import Limits
from tradegw.errors import ConfigError
from tradegw.gateway.production import check_production
from tradegw.gateway.replicas import check_replicas
from tradegw.gateway.secrets import NO_SOURCES, Sources, read_secret
from tradegw.model import parse_decimal
from tradegw.store import shown_url
from tradegw.venue import Secret

__all__ = [
    "ENV_PREFIX",
    "SECTIONS",
    "AccountConfig",
    "Config",
    "GatewayConfig",
    "LimitsConfig",
    "LogConfig",
    "ReplicasConfig",
    "ServerConfig",
    "SinkConfig",
    "StoreConfig",
    "VenueConfig",
    "decode_plugin_config",
    "decode_sink_config",
    "load_config",
]

ENV_PREFIX = "TRADEGW__"
DEFAULT_FILE = "tradegw.toml"
PAPER = {"venues": {"mock": {"plugin": "mock"}}, "accounts": {"paper": {"venue": "mock"}}}
"""Without any venue configured: the mock exchange in process, with one funded account."""

T = TypeVar("T")

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]

# Names stand in positions (`paper:17,...`) and scopes (`account:paper`).
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gateway]`.

    Attributes:
        name: Marks our orders at the venues. Change it only when no order is open.
        environment: `development`, `staging` or `production`; shown in logs. In production a gateway refuses
            the memory store, the mock venue, doors that others reach in plaintext, and a Postgres elsewhere
            whose identity is not checked.
        drain_s: Seconds that a shut-down waits for answers.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "tradegw"
    # Not any word: a misspelt production would refuse nothing.
    environment: Literal["development", "staging", "production"] = "development"
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=3_600)] = 10.0


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[store]`.

    Attributes:
        url: `sqlite:///FILE` (relative to the working directory), `sqlite:////ABSOLUTE`,
            `postgresql://...` with all that libpq knows, or `memory://`.
        connections: The most that a gateway opens to Postgres, beside the one that holds its lock.
    """

    url: str = "sqlite:///tradegw.db"
    connections: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 10

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return shown_url(self.url)


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`. Port 0 picks a free one."""

    grpc_host: str = "127.0.0.1"
    grpc_port: Port = 50051
    http_host: str = "127.0.0.1"
    http_port: Port = 8080


class ReplicasConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[replicas]`: several gateways on one store, each of which serves some of the accounts.

    Attributes:
        enabled: Share the store with other gateways. Needs Postgres, and the same for all of them.
        address: `HOST:PORT` at which the other gateways reach our gRPC door. Empty: where it listens.
        ttl_s: Seconds for which the lease of an account is taken; it is renewed three times within them.
        margin_s: So much earlier a gateway that could not renew ceases to send. Less than half of `ttl_s`.
    """

    enabled: bool = False
    address: str = ""
    ttl_s: Annotated[float, msgspec.Meta(ge=1, le=300)] = 10.0
    margin_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0


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

    max_order_notional: str | int | None = None
    max_open_orders: Count | None = None
    max_orders_per_second: Count | None = None
    max_orders_per_day: Count | None = None
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
class SinkConfig:
    """`[sinks.NAME]`: where the events of every account go. The name keeps how far it has come.

    Attributes:
        plugin: Name of a sink that a plugin offers.
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
        owner: Whose account it is. Accounts of a venue with the same owner share what the venue grants to an
            owner; by default all have the same.
        exclusive: Nobody but this gateway trades on the account, so what the venue does to the account as a
            whole may be used.
        dead_man_s: Have the venue cancel all orders of the account when it has not heard from the gateway for
            so many seconds. Needs `exclusive`, and a venue that has such a switch. Disarmed at a shut-down in
            good order.
        options: The other keys; the plugin's own.
    """

    name: str
    venue: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    limits: Limits = field(default_factory=Limits)
    execute_timeout_s: float = 10.0
    send_by_s: float = 10.0
    owner: str = ""
    exclusive: bool = False
    dead_man_s: float | None = None
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
    replicas: ReplicasConfig = field(default_factory=ReplicasConfig)
    log: LogConfig = field(default_factory=LogConfig)
    venues: Mapping[str, VenueConfig] = field(default_factory=dict[str, VenueConfig])
    accounts: Mapping[str, AccountConfig] = field(default_factory=dict[str, AccountConfig])
    sinks: Mapping[str, SinkConfig] = field(default_factory=dict[str, SinkConfig])
    sources: Mapping[str, str] = field(default_factory=dict[str, str])


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "gateway": GatewayConfig,
    "store": StoreConfig,
    "server": ServerConfig,
    "replicas": ReplicasConfig,
    "log": LogConfig,
}
_ACCOUNT_KEYS = {
    "venue",
    "tags",
    "limits",
    "execute_timeout_s",
    "send_by_s",
    "owner",
    "exclusive",
    "dead_man_s",
}


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
        ConfigError: Names the key, what was expected, what was found, and where it came from; or says
            what production refuses.
    """
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    file = Path(DEFAULT_FILE) if path is None else Path(path)
    if path is not None or (file.exists() and overrides is None):
        _merge(merged, sources, _read(file), str(file))
    _merge(
        merged, sources, _from_environment(os.environ if environ is None else environ, merged), None
    )
    if overrides:
        _merge(merged, sources, overrides, "the program")
    if not merged.get("venues") and not merged.get("accounts"):
        _merge(merged, sources, PAPER, "the default")
    config = _check(merged, sources)
    check_production(config)
    check_replicas(config)
    return config


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as e:
        raise ConfigError(f"the configuration {file} cannot be read: {e.strerror or e}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"the configuration {file} is not TOML: {e}") from e


def _from_environment(environ: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX):
            continue
        node: dict[str, Any] = tree
        beside: Mapping[str, Any] = known
        *parents, last = name.removeprefix(ENV_PREFIX).split("__")
        for part in parents:
            key = _spelling(part, beside)
            child: Any = node.setdefault(key, {})
            if not isinstance(child, dict):
                raise ConfigError(
                    f"{name} is a key within {key}, and ${child.variable} gives {key} a value"
                )
            node = cast("dict[str, Any]", child)
            inner: Any = beside.get(key)
            within: dict[str, Any] = {}
            if isinstance(inner, Mapping):
                within.update(cast("Mapping[str, Any]", inner))
            beside = within
        text = _EnvText(value)
        text.variable = name
        node[_spelling(last, beside)] = text
    return tree


def _spelling(part: str, known: Mapping[str, Any]) -> str:
    """Return the key that a part of a variable's name stands for: one of the file's, else in lower case."""
    return next((key for key in known if key.lower() == part.lower()), part.lower())


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
    known = {*SECTIONS, "venues", "accounts", "sinks"}
    for key in tree:
        if key not in known:
            raise ConfigError(
                f"unknown section [{key}] {_whence(key, sources)}; there are {', '.join(sorted(known))}"
            )
    sections: dict[str, Any] = {
        name: _convert(tree.get(name, {}), kind, name, sources) for name, kind in SECTIONS.items()
    }
    venues = {
        name: _venue(name, node, sources) for name, node in _named("venues", tree, sources).items()
    }
    accounts = {
        name: _account(name, node, venues, sources)
        for name, node in _named("accounts", tree, sources).items()
    }
    sinks = {
        name: SinkConfig(name=name, plugin=plugin, options=options)
        for name, node in _named("sinks", tree, sources).items()
        for plugin, options in [_plugin("sinks", "sink", name, node, sources)]
    }
    return Config(**sections, venues=venues, accounts=accounts, sinks=sinks, sources=dict(sources))


def _named(
    kind: str, tree: Mapping[str, Any], sources: Mapping[str, str]
) -> Mapping[str, Mapping[str, Any]]:
    """Return the sections of a kind, by their names."""
    found = _table(tree.get(kind, {}), kind, sources)
    for name in found:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{kind}.{name}: a name is 1 to 64 letters, digits, '.', '_' and '-', and begins with a "
                f"letter or digit; found {name!r} {_whence(f'{kind}.{name}', sources)}".strip()
            )
    return {name: _table(node, f"{kind}.{name}", sources) for name, node in found.items()}


def _table(node: object, path: str, sources: Mapping[str, str]) -> Mapping[str, Any]:
    if not isinstance(node, Mapping):
        raise ConfigError(
            f"{path} must be a section; found a {type(node).__name__} {_whence(path, sources)}".strip()
        )
    return node  # pyright: ignore[reportUnknownVariableType]


def _venue(name: str, node: Mapping[str, Any], sources: Mapping[str, str]) -> VenueConfig:
    plugin, options = _plugin("venues", "venue", name, node, sources)
    return VenueConfig(name=name, plugin=plugin, options=options)


def _plugin(
    kind: str, what: str, name: str, node: Mapping[str, Any], sources: Mapping[str, str]
) -> tuple[str, dict[str, Any]]:
    """Return the plugin that a section names, and the other keys."""
    plugin = node.get("plugin")
    if not isinstance(plugin, str):
        raise ConfigError(
            f"{kind}.{name}.plugin must name a {what} that a plugin offers (see `tradegw plugins`); "
            f"found {plugin!r} {_whence(f'{kind}.{name}', sources)}".strip()
        )
    return plugin, {key: value for key, value in node.items() if key != "plugin"}


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
        raise ConfigError(
            f"{path}.venue must name a configured venue ({have}); found {venue!r} "
            f"{_whence(path, sources)}".strip()
        )
    common = {key: node[key] for key in _ACCOUNT_KEYS & set(node) if key not in ("venue", "limits")}
    checked = _convert(common, _AccountCommon, path, sources)
    if checked.dead_man_s is not None and not checked.exclusive:
        raise ConfigError(
            f"{path}.dead_man_s cancels every order of the account, whoever placed it: it needs "
            f"{path}.exclusive = true {_whence(f'{path}.dead_man_s', sources)}".strip()
        )
    limits = _convert(node.get("limits", {}), LimitsConfig, f"{path}.limits", sources)
    return AccountConfig(
        name=name,
        venue=str(venue),
        tags=checked.tags,
        execute_timeout_s=checked.execute_timeout_s,
        send_by_s=checked.send_by_s,
        owner=checked.owner,
        exclusive=checked.exclusive,
        dead_man_s=checked.dead_man_s,
        limits=_limits(limits, f"{path}.limits", sources),
        options={key: value for key, value in node.items() if key not in _ACCOUNT_KEYS},
    )


class _AccountCommon(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tags: dict[str, str] = {}
    execute_timeout_s: Seconds = 10.0
    send_by_s: Seconds = 10.0
    owner: str = ""
    exclusive: bool = False
    dead_man_s: Seconds | None = None


def _limits(config: LimitsConfig, path: str, sources: Mapping[str, str]) -> Limits:
    def decimal(name: str, value: str | int | None) -> Decimal | None:
        try:
            number = None if value is None else parse_decimal(value, f"{path}.{name}")
            if number is not None and number < 0:
                raise ValueError(f"{path}.{name} must not be negative; found {value}")
        except ValueError as e:
            raise ConfigError(f"{e} {_whence(f'{path}.{name}', sources)}".strip()) from e
        return number

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
    table = _table(node, path, sources)
    known = _fields(kind)
    for key in table:
        if key not in known:
            here = f"{path}.{key}"
            raise ConfigError(
                f"unknown key {here} {_whence(here, sources)}; [{path}] has {', '.join(sorted(known))}"
            )
    try:
        # Not strict: the environment knows only text.
        return msgspec.convert(_unfolded(table, known), kind, strict=False)
    except msgspec.ValidationError as e:
        raise _invalid(e, path, sources) from e


def _invalid(error: msgspec.ValidationError, path: str, sources: Mapping[str, str]) -> ConfigError:
    text, _, key = str(error).rstrip("`").partition(" - at `$.")
    here = f"{path}.{key}" if key else path
    # The number that was meant is not the one that a binary float holds.
    hint = "; write decimals as text" if "got `float`" in text and "str" in text else ""
    return ConfigError(f"{here}: {text}{hint} {_whence(here, sources)}".strip())


def _unfolded(table: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Read lists and tables that stand as text, as they do in the environment."""
    return {
        key: _unfold(value, known[key]) if isinstance(value, str) else value
        for key, value in table.items()
    }


def _unfold(text: str, kind: Any) -> Any:
    is_union = get_origin(kind) in (Union, UnionType)
    kinds = {get_origin(part) or part for part in (get_args(kind) if is_union else (kind,))}
    if str in kinds or not kinds & {list, tuple, set, frozenset, dict, Mapping, Sequence}:
        return text
    if text.lstrip().startswith(("[", "{")):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    return [part.strip() for part in text.split(",") if part.strip()]


def _whence(path: str, sources: Mapping[str, str]) -> str:
    found = {s for p, s in sources.items() if p == path or p.startswith(f"{path}.")}
    return f"(from {', '.join(sorted(found))})" if found else ""


def decode_plugin_config(
    kind: type[T],
    venue: VenueConfig,
    account: AccountConfig,
    sources: Mapping[str, str],
    secrets: Sources = NO_SOURCES,
) -> T:
    """Decode what the configuration says to a plugin: the venue's options, then the account's.

    Args:
        secrets: What plugins offer as sources of secrets.

    Raises:
        ConfigError: A key is unknown to the plugin, missing or malformed.
    """
    options = {**venue.options, **account.options}
    paths = {
        key: f"accounts.{account.name}.{key}"
        if key in account.options
        else f"venues.{venue.name}.{key}"
        for key in options
    }
    whole = f"accounts.{account.name} with venues.{venue.name}"
    return _decode_options(kind, venue.plugin, options, paths, whole, sources, secrets)


def decode_sink_config(
    kind: type[T], sink: SinkConfig, sources: Mapping[str, str], secrets: Sources = NO_SOURCES
) -> T:
    """Decode what the configuration says to a sink.

    Raises:
        ConfigError: As `decode_plugin_config`.
    """
    whole = f"sinks.{sink.name}"
    paths = {key: f"{whole}.{key}" for key in sink.options}
    return _decode_options(kind, sink.plugin, sink.options, paths, whole, sources, secrets)


def _decode_options(
    kind: type[T],
    plugin: str,
    given: Mapping[str, Any],
    paths: Mapping[str, str],
    whole: str,
    sources: Mapping[str, str],
    secrets: Sources,
) -> T:
    options = dict(given)
    known = _fields(kind)
    for key, path in paths.items():
        if key not in known:
            raise ConfigError(
                f"unknown key {path} {_whence(path, sources)}; plugin {plugin} has "
                f"{', '.join(sorted(known)) or 'none'}"
            )
        if Secret in (known[key], *get_args(known[key])):
            try:
                options[key] = read_secret(options[key], secrets)
            except ConfigError as e:
                raise ConfigError(
                    f"{path}: {e} {_whence(path, sources)}".strip(), reason=e.reason
                ) from e
    try:
        return msgspec.convert(
            _unfolded(options, known), kind, strict=False, dec_hook=_decode_special
        )
    except msgspec.ValidationError as e:
        text, _, rest = str(e).rstrip("`").partition(" - at `$.")
        key = rest.partition(".")[0].partition("[")[0]
        path = paths.get(key, whole)
        within = rest.removeprefix(key)
        raise ConfigError(
            f"{path}{within} (plugin {plugin}): {text} {_whence(path, sources)}".strip()
        ) from e


def _fields(kind: type[Any]) -> dict[str, Any]:
    """Return the keys of a section with their types."""
    hints = get_type_hints(kind)
    if is_dataclass(kind):
        return {f.name: hints[f.name] for f in fields(kind)}
    return {f.encode_name: hints[f.name] for f in msgspec.structs.fields(kind)}


def _decode_special(kind: type[Any], value: Any) -> Any:
    if kind is Secret and isinstance(value, Secret):
        return value
    raise NotImplementedError(kind)
