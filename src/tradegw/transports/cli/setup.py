"""Commands that set up: init, config, migrate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final, cast

from tradegw.errors import ConfigError
from tradegw.gateway.config import Config, load_config
from tradegw.gateway.extensions import check_config
from tradegw.gateway.schema import check_schema, list_steps, move_schema
from tradegw.transports.cli.asking import Json
from tradegw.transports.cli.show import console, instant, print_json, show_table
from tradegw.transports.cli.values import jsonable

__all__ = [
    "DEFAULT_CONFIG",
    "config_check",
    "config_print_default",
    "init",
    "migrate_check",
    "migrate_down",
    "migrate_status",
    "migrate_up",
]

DEFAULT_CONFIG: Final = """\
# The configuration of tradegw. What is commented out shows the default.
#
# Every key is also an environment variable: [store] url is TRADEGW__STORE__URL.
# `tradegw config check` says what is in force, and from where.

[gateway]
# Marks our orders at the venues. Change it only when no order is open.
# name = "tradegw"
# development, staging or production, which refuses what would lose orders or trade with whoever asks.
# environment = "development"
# Seconds that a shut-down waits for answers.
# drain_s = 10.0

[store]
# A file below the working directory; sqlite:////var/lib/tradegw.db is absolute.
# url = "sqlite:///tradegw.db"

[server]
# Whoever reaches a door can trade: keep them on this machine. Port 0 takes a free one.
# grpc_host = "127.0.0.1"
# grpc_port = 50051
# http_host = "127.0.0.1"
# http_port = 8080

[log]
# DEBUG, INFO, WARNING or ERROR.
# level = "INFO"
# json, text, or auto: text on a terminal.
# format = "auto"

# A venue: a name of yours, and the plugin that speaks to it (`tradegw plugins`).
[venues.mock]
plugin = "mock"

# An account at a venue. Secrets are never written here: api_key = "env:NAME" or "file:PATH".
[accounts.paper]
venue = "mock"
# For routing orders that name no account.
# tags = { desk = "one" }
# limits = { max_order_notional = "50000", max_open_orders = 50, max_orders_per_second = 10 }
# How long a venue's answer is awaited before the order is in doubt, in seconds.
# execute_timeout_s = 10.0
# After its intent is stored, an order is sent within this time or not at all, in seconds.
# send_by_s = 10.0
"""


def init(file: Path = Path("tradegw.toml"), /) -> None:
    """Write a configuration with comments. A file that is there is never overwritten.

    For example:

        tradegw init

    Args:
        file: Where to. Default: tradegw.toml in the working directory.
    """
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(DEFAULT_CONFIG)
    except FileExistsError:
        raise ConfigError(
            f"{file} is there already, and stays as it is", reason="FILE_EXISTS"
        ) from None
    except OSError as e:
        raise ConfigError(f"{file} cannot be written: {e.strerror or e}") from e
    console().print(f"wrote {file}; `tradegw serve` uses it, `tradegw config check` explains it")


def config_print_default() -> None:
    """Print the configuration that `tradegw init` writes.

    For example:

        tradegw config print-default > tradegw.toml
    """
    print(DEFAULT_CONFIG, end="")


def config_check(*, config: Path | None = None, json: Json = False) -> None:
    """Read the configuration as `serve` would; print what is in force, and from where.

    For example:

        tradegw config check

        tradegw config check --config other.toml --json

    Args:
        config: Configuration. Default: tradegw.toml in the working directory, if there is one.
    """
    settings = load_config(config)
    check_config(settings)
    rows = [
        {"key": key, "value": value, "source": settings.sources.get(key, "the default")}
        for key, value in _settings(settings)
    ]
    if json:
        print_json({"settings": rows})
    else:
        show_table(
            ["key", "value", "from"], [[r["key"], _plain(r["value"]), r["source"]] for r in rows]
        )


def _settings(config: Config) -> Iterator[tuple[str, Any]]:
    for section in ("gateway", "store", "server", "log"):
        struct = getattr(config, section)
        for name in struct.__struct_fields__:
            shown = getattr(struct, f"shown_{name}", None)
            yield f"{section}.{name}", getattr(struct, name) if shown is None else shown
    for kind in ("venues", "accounts"):
        for name, entry in getattr(config, kind).items():
            for field in fields(entry):
                value = getattr(entry, field.name)
                if field.name == "options":
                    yield from _flat(f"{kind}.{name}", value)
                elif field.name == "limits":
                    yield from (
                        (key, v)
                        for key, v in _flat(f"{kind}.{name}.limits", value)
                        if v is not None
                    )
                elif field.name != "name":
                    yield f"{kind}.{name}.{field.name}", jsonable(value)


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _flat(f"{path}.{field.name}", getattr(value, field.name))
    elif isinstance(value, dict):
        for key, item in cast("dict[str, Any]", value).items():
            yield from _flat(f"{path}.{key}", item)
    elif isinstance(value, frozenset):
        yield path, sorted(cast("frozenset[str]", value))
    else:
        yield path, jsonable(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


async def migrate_status(*, config: Path | None = None, json: Json = False) -> None:
    """Show which schema migrations the store has taken.

    For example:

        tradegw migrate status

    Args:
        config: Configuration that tells where the store is.
    """
    steps = await list_steps(load_config(config))
    if json:
        print_json({"steps": steps})
        return
    show_table(
        ["number", "name", "taken", "oldest release", "note"],
        [
            [
                str(step.number),
                step.name,
                instant(step.applied_time_ns),
                step.oldest_release,
                "" if step.known else "of a newer release",
            ]
            for step in steps
        ],
        right=["number"],
    )


async def migrate_check(*, config: Path | None = None) -> None:
    """Say whether this release can run on the store. Exits with 5 when it cannot.

    For example:

        tradegw migrate check

    Args:
        config: Configuration that tells where the store is.
    """
    await check_schema(load_config(config))
    console().print("the store's schema is one that this release runs on", style="green")


async def migrate_up(
    *,
    config: Path | None = None,
    to: int | None = None,
    grant_to: str | None = None,
    json: Json = False,
) -> None:
    """Take the store's schema forwards.

    A file's while no gateway runs on it; `serve` does so by itself. In Postgres as the role that owns the
    tables: gateways run as another, and never change them.

    For example:

        tradegw migrate up

        TRADEGW__STORE__URL=postgresql://owner@db/tradegw tradegw migrate up --grant-to tradegw_gateway

    Args:
        config: Configuration that tells where the store is.
        to: Up to this migration. Default: the newest that this release knows.
        grant_to: Role in Postgres that is given what a gateway needs of the tables, and no more.
    """
    settings = load_config(config)
    at = await _version(settings)
    if to is not None and to < at:
        raise ConfigError(
            f"the store's schema is version {at}; `migrate down` goes back to {to}",
            reason="INVALID_FIELD",
        )
    _report(await move_schema(settings, to, grant_to=grant_to), "taken", as_json=json)


async def migrate_down(
    *, to: int, config: Path | None = None, yes: bool = False, json: Json = False
) -> None:
    """Take the store's schema back. What later steps added is lost.

    A file's while no gateway runs on it; in Postgres while none of a newer release does.

    For example:

        tradegw migrate down --to 1 --yes

    Args:
        to: Back to this migration. 0 removes every table, and the record with them.
        config: Configuration that tells where the store is.
        yes: Needed, because this deletes: make a copy of the store first.
    """
    settings = load_config(config)
    at = await _version(settings)
    if not 0 <= to <= at:
        raise ConfigError(
            f"the store's schema is version {at}; --to is 0 to {at}, found {to}",
            reason="INVALID_FIELD",
        )
    if not yes:
        raise ConfigError(
            "going back deletes what later versions stored: copy the store, then add --yes",
            reason="NOT_CONFIRMED",
        )
    _report(await move_schema(settings, to), "taken back", as_json=json)


async def _version(config: Config) -> int:
    steps = await list_steps(config)
    return max((s.number for s in steps if s.applied_time_ns is not None), default=0)


def _report(numbers: Any, done: str, *, as_json: bool) -> None:
    steps: list[int] = list(numbers)
    if as_json:
        print_json({"steps": steps})
    elif steps:
        console().print(f"{done}: {', '.join(map(str, steps))}", style="green")
    else:
        console().print("nothing to do")
