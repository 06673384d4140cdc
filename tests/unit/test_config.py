"""The configuration: every key from everywhere, every mistake named with its path and source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tradegw.errors import ConfigError
from tradegw.gateway.config import (
    Config,
    GatewayConfig,
    LimitsConfig,
    LogConfig,
    ServerConfig,
    StoreConfig,
    decode_plugin_config,
    load_config,
)
from tradegw.venue import Secret

FILE = """
[venues.binance]
plugin = "rest"
definition = "binance-spot"
[accounts.Main]
venue = "binance"
api_key = "env:KEY"
limits = { max_order_notional = "50000", max_open_orders = 50 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tradegw.toml"
    path.write_text(FILE)
    return path


def read(path: Path | None = None, /, **variables: str) -> Config:
    environ = {f"TRADEGW__{name}": value for name, value in variables.items()}
    return load_config(path, environ=environ, overrides=None if path else {})


# --- where values come from ------------------------------------------------------------------------


def test_without_anything_there_is_a_paper_account() -> None:
    config = load_config(environ={}, overrides={})
    assert list(config.accounts) == ["paper"]
    assert config.venues["mock"].plugin == "mock"
    assert config.store.url == "sqlite:///tradegw.db"
    assert config.server.grpc_host == config.server.http_host == "127.0.0.1"


def test_a_file_is_read_with_its_sources(file: Path) -> None:
    config = read(file)
    assert config.accounts["Main"].limits.max_order_notional == Decimal(50000)
    assert config.accounts["Main"].options == {"api_key": "env:KEY"}
    assert config.venues["binance"].options == {"definition": "binance-spot"}
    assert config.sources["accounts.Main.venue"] == str(file)


SAMPLES: dict[str, tuple[str, Any]] = {
    "gateway.name": ("mine", "mine"),
    "gateway.environment": ("staging", "staging"),
    "gateway.drain_s": ("2.5", 2.5),
    "store.url": ("memory://", "memory://"),
    "store.connections": ("12", 12),
    "server.grpc_host": ("0.0.0.0", "0.0.0.0"),
    "server.grpc_port": ("0", 0),
    "server.http_host": ("::1", "::1"),
    "server.http_port": ("65535", 65535),
    "log.level": ("DEBUG", "DEBUG"),
    "log.format": ("json", "json"),
}
LIMITS: dict[str, tuple[str, Any]] = {
    "max_order_notional": ("0.1", Decimal("0.1")),
    "max_open_orders": ("5", 5),
    "max_orders_per_second": ("6", 6),
    "max_orders_per_day": ("7", 7),
    "price_collar_bps": ("12.5", Decimal("12.5")),
    "symbols": ("BTC/USDT, ETH/USDT", frozenset({"BTC/USDT", "ETH/USDT"})),
    "reduce_only": ("true", True),
}


def test_the_tables_above_have_every_key() -> None:
    sections: dict[str, type[msgspec.Struct]] = {
        "gateway": GatewayConfig,
        "store": StoreConfig,
        "server": ServerConfig,
        "log": LogConfig,
    }
    keys = {f"{s}.{f.name}" for s, k in sections.items() for f in msgspec.structs.fields(k)}
    assert keys == set(SAMPLES)
    assert {f.name for f in msgspec.structs.fields(LimitsConfig)} == set(LIMITS)
    assert {f.name for f in fields(Config)} >= {*sections, "venues", "accounts", "sources"}


@pytest.mark.parametrize("key", SAMPLES)
def test_every_key_can_be_a_variable(key: str) -> None:
    text, expected = SAMPLES[key]
    section, _, name = key.partition(".")
    variable = f"{section}__{name}".upper()
    config = read(**{variable: text})
    assert getattr(getattr(config, section), name) == expected
    assert config.sources[key] == f"$TRADEGW__{variable}"


@pytest.mark.parametrize("key", LIMITS)
def test_every_limit_can_be_a_variable(file: Path, key: str) -> None:
    text, expected = LIMITS[key]
    config = read(file, **{f"ACCOUNTS__MAIN__LIMITS__{key.upper()}": text})
    assert getattr(config.accounts["Main"].limits, key) == expected


@pytest.mark.parametrize(
    ("variable", "text", "path"),
    [
        ("ACCOUNTS__MAIN__TAGS__DESK", "a", ("accounts", "Main", "tags", {"desk": "a"})),
        ("ACCOUNTS__MAIN__TAGS", '{"Desk": "a"}', ("accounts", "Main", "tags", {"Desk": "a"})),
        ("ACCOUNTS__MAIN__EXECUTE_TIMEOUT_S", "3", ("accounts", "Main", "execute_timeout_s", 3.0)),
        ("ACCOUNTS__MAIN__SEND_BY_S", "4", ("accounts", "Main", "send_by_s", 4.0)),
        ("VENUES__BINANCE__PLUGIN", "mock", ("venues", "binance", "plugin", "mock")),
        (
            "VENUES__BINANCE__DEFINITION",
            "x",
            ("venues", "binance", "options", {"definition": "x"}),
        ),
    ],
)
def test_accounts_and_venues_can_be_variables(
    file: Path, variable: str, text: str, path: tuple[str, str, str, Any]
) -> None:
    section, name, key, expected = path
    config = read(file, **{variable: text})
    assert getattr(getattr(config, section)[name], key) == expected


def test_a_whole_gateway_can_be_variables() -> None:
    config = read(
        VENUES__X__PLUGIN="mock", ACCOUNTS__A__VENUE="x", ACCOUNTS__A__LIMITS__SYMBOLS='["B/U"]'
    )
    assert list(config.accounts) == ["a"]
    assert config.accounts["a"].limits.symbols == frozenset({"B/U"})


def test_later_sources_win(file: Path) -> None:
    environ = {"TRADEGW__STORE__URL": "memory://", "TRADEGW__LOG__LEVEL": "ERROR", "OTHER": "x"}
    config = load_config(file, environ=environ, overrides={"log": {"level": "DEBUG"}})
    assert (config.store.url, config.log.level) == ("memory://", "DEBUG")
    assert config.sources["log.level"] == "the program"


def test_a_file_that_lies_about_is_not_read_by_a_program_that_brings_its_own(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    assert list(load_config(environ={}).accounts) == ["Main"]
    assert list(load_config(environ={}, overrides={}).accounts) == ["paper"]


# --- what is wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[gatway]\nname='x'", "unknown section [gatway]"),
        ("[gateway]\nnme='x'", "unknown key gateway.nme"),
        ("[store]\nurl=5", "store.url: Expected `str`, got `int`"),
        ("[server]\ngrpc_port='x'", "server.grpc_port"),
        ("[server]\ngrpc_port=70000", "server.grpc_port: Expected `int` <= 65535"),
        ("[gateway]\ndrain_s=-1", "gateway.drain_s"),
        ("[gateway]\ndrain_s=nan", "gateway.drain_s"),
        ("[gateway]\ndrain_s=inf", "gateway.drain_s"),
        ("[gateway]\nname=''", "gateway.name"),
        ("gateway = 5", "gateway must be a section"),
        ("accounts = 'x'", "accounts must be a section"),
        ("[accounts]\na = 'x'", "accounts.a must be a section"),
        ("[accounts.a]\nvenue='v'", "accounts.a.venue must name a configured venue"),
        ("[venues.v]\nx=1", "venues.v.plugin must name a venue that a plugin offers"),
        ("[venues.'a b']\nplugin='mock'", "venues.a b: a name is"),
        ("[venues.v]\nplugin='mock'\n[accounts.'*']\nvenue='v'", "accounts.*: a name is"),
        ("[venues.v]\nplugin='mock'\n[accounts.'a:1']\nvenue='v'", "accounts.a:1: a name is"),
    ],
)
def test_a_mistake_is_named_with_its_path_and_its_file(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = tmp_path / "some.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as wrong:
        load_config(path, environ={})
    assert expected in str(wrong.value)
    assert "some.toml" in str(wrong.value)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ("max_open_order = 5", "unknown key accounts.a.limits.max_open_order"),
        ("max_open_orders = 'many'", "accounts.a.limits.max_open_orders"),
        ("max_open_orders = -1", "accounts.a.limits.max_open_orders"),
        ("max_order_notional = 0.1", "accounts.a.limits.max_order_notional"),
        ("max_order_notional = '1e5'", "accounts.a.limits.max_order_notional"),
        ("max_order_notional = '-5'", "accounts.a.limits.max_order_notional"),
        ("max_order_notional = 'NaN'", "accounts.a.limits.max_order_notional"),
        ("price_collar_bps = 1.5", "write decimals as text"),
        ("symbols = 5", "accounts.a.limits.symbols"),
    ],
)
def test_a_misspelt_limit_is_not_no_limit(tmp_path: Path, limits: str, expected: str) -> None:
    path = tmp_path / "some.toml"
    path.write_text(
        f"[venues.v]\nplugin='mock'\n[accounts.a]\nvenue='v'\nlimits = {{ {limits} }}\n"
    )
    with pytest.raises(ConfigError) as wrong:
        load_config(path, environ={})
    assert expected in str(wrong.value)
    assert "some.toml" in str(wrong.value)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SERVER__GRPC_PORT": "x"}, ["server.grpc_port", "$TRADEGW__SERVER__GRPC_PORT"]),
        ({"STORE__UURL": "x"}, ["store.uurl", "$TRADEGW__STORE__UURL"]),
        ({"NOTHING": "x"}, ["[nothing]", "$TRADEGW__NOTHING"]),
        (
            {"STORE": "x", "STORE__URL": "y"},
            ["TRADEGW__STORE__URL", "$TRADEGW__STORE"],
        ),
        ({"STORE": "x"}, ["store must be a section", "$TRADEGW__STORE"]),
    ],
)
def test_a_mistake_in_a_variable_is_named_with_it(
    variables: Mapping[str, str], expected: list[str]
) -> None:
    with pytest.raises(ConfigError) as wrong:
        read(**variables)
    for text in expected:
        assert text in str(wrong.value)


def test_a_value_here_and_a_section_there_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="section"):
        read(file, ACCOUNTS__MAIN__API_KEY__X="y")


@pytest.mark.parametrize("content", [None, b"[gateway", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "missing.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        load_config(path, environ={})


# --- what belongs to a plugin ----------------------------------------------------------------------


class Options(msgspec.Struct, frozen=True, kw_only=True):
    definition: str = ""
    api_key: Secret | None = None
    port: int = 1
    hosts: list[str] = []
    depth: dict[str, int] = {}


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    definition: str = ""
    api_key: Secret | None = None
    port: int = 1
    hosts: tuple[str, ...] = ()
    depth: dict[str, int] = field(default_factory=dict[str, int])


@pytest.fixture(params=[Options, DataOptions], ids=["struct", "dataclass"])
def kind(request: pytest.FixtureRequest) -> type[Any]:
    found: type[Any] = request.param
    return found


def decode(kind: type[Any], config: Config, name: str = "Main") -> Any:
    account = config.accounts[name]
    return decode_plugin_config(kind, config.venues[account.venue], account, config.sources)


def test_a_plugin_gets_its_options_typed(
    file: Path, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "s3cret")
    config = read(
        file,
        VENUES__BINANCE__PORT="7",
        VENUES__BINANCE__HOSTS="a,b",
        ACCOUNTS__MAIN__DEPTH='{"x": 1}',
        ACCOUNTS__MAIN__DEFINITION="the account's own wins",
    )
    options = decode(kind, config)
    assert options.api_key.reveal() == "s3cret"
    assert (options.port, list(options.hosts), options.depth) == (7, ["a", "b"], {"x": 1})
    assert options.definition == "the account's own wins"


@pytest.mark.parametrize(
    ("variable", "text", "path"),
    [
        ("VENUES__BINANCE__PROT", "7", "venues.binance.prot"),
        ("ACCOUNTS__MAIN__PROT", "7", "accounts.Main.prot"),
        ("VENUES__BINANCE__PORT", "x", "venues.binance.port"),
        ("ACCOUNTS__MAIN__DEPTH", '{"x": "y"}', "accounts.Main.depth"),
    ],
)
def test_a_mistake_in_a_plugins_options_is_named(
    file: Path,
    kind: type[Any],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    text: str,
    path: str,
) -> None:
    monkeypatch.setenv("KEY", "s3cret")
    with pytest.raises(ConfigError) as wrong:
        decode(kind, read(file, **{variable: text}))
    assert path in str(wrong.value)
    assert f"$TRADEGW__{variable}" in str(wrong.value)
    assert "s3cret" not in str(wrong.value)


@pytest.mark.parametrize("value", ["s3cret", "env:NO_SUCH", "vault:x", "file:/no/such/file"])
def test_a_secret_that_is_no_reference_is_refused_and_not_shown(
    file: Path, kind: type[Any], value: str
) -> None:
    config = read(file, ACCOUNTS__MAIN__API_KEY=value)
    with pytest.raises(ConfigError) as wrong:
        decode(kind, config)
    assert "accounts.Main.api_key" in str(wrong.value)
    assert "s3cret" not in str(wrong.value)
    assert "$TRADEGW__ACCOUNTS__MAIN__API_KEY" in str(wrong.value)


def test_secrets_are_not_shown(
    file: Path, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "s3cret")
    config = read(file)
    options = decode(kind, config)
    assert "s3cret" not in f"{config!r} {options!r} {options.api_key} {config.sources}"


# --- the account's switch and its owner ---------------------------------------------------------------


def test_a_dead_mans_switch_needs_an_account_that_nobody_else_trades_on(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"accounts\.Main\.exclusive = true"):
        read(file, ACCOUNTS__MAIN__DEAD_MAN_S="60")
    account = read(
        file, ACCOUNTS__MAIN__DEAD_MAN_S="60", ACCOUNTS__MAIN__EXCLUSIVE="true"
    ).accounts["Main"]
    assert (account.dead_man_s, account.exclusive) == (60.0, True)
    plain = read(file).accounts["Main"]
    assert (plain.dead_man_s, plain.exclusive, plain.owner) == (None, False, "")


def test_who_owns_an_account_is_said_in_the_configuration(file: Path) -> None:
    assert read(file, ACCOUNTS__MAIN__OWNER="client 7").accounts["Main"].owner == "client 7"
