"""`tradegw mock serve`: the exchange in a process of its own."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from tradegw_mock.admin import routes as admin
from tradegw_mock.app import make_web_app
from tradegw_mock.binance.doors import BinanceDoors
from tradegw_mock.clocks import VirtualClock
from tradegw_mock.exchange import KeyKind
from tradegw_mock.host import Host, HostSettings, open_host
from tradegw_mock.native.limits import NativeLimits
from tradegw_mock.native.server import open_door
from tradegw_mock.requests import CreateApiKey
from tradegw_mock.settings import AccountSettings, ServeSettings
from tradegw_mock.web import serve_web

__all__ = ["ClockKind", "ServeOptions", "Serving", "ServingAccount", "serve"]


ClockKind = Literal["wall", "virtual"]

_GC_THRESHOLD: Final = 20_000
"""Objects made before cycles among them are looked for; the interpreter's default is 700."""


class ServingAccount(Struct, frozen=True, kw_only=True):
    """An account that a client may use, and its key for the Binance-compatible doors."""

    name: str
    api_key: str
    api_secret: str

    def __repr__(self) -> str:
        return f"ServingAccount({self.name!r}, {self.api_key!r})"


class Serving(Struct, frozen=True, kw_only=True):
    """What is served; with `--json` the first line on stdout.

    Attributes:
        rest: Base of the Binance-compatible REST API.
        ws_api: Its WebSocket API; `stream`: its streams.
        native: `HOST:PORT` of the native door.
    """

    rest: str
    ws_api: str
    stream: str
    admin: str
    native: str
    pid: int
    accounts: list[ServingAccount]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """See `tradegw mock serve --help`; `settings` is what its `--config` says."""

    host: str
    port: int
    seed: int
    store: Path | None
    settings: ServeSettings
    scenario: Path | None
    clock: ClockKind

    @property
    def native_port(self) -> int:
        """Port of the native door; 0 for a free one."""
        if self.settings.native_port is not None:
            return self.settings.native_port
        return self.port and self.port + 1


async def serve(options: ServeOptions, announce: Callable[[Serving], None]) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is under way, end the streams and return.

    Raises:
        ExchangeError: The file cannot be used.
        Refusal: An account cannot be opened.
        OSError: An address cannot be listened on.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings = HostSettings(
        path=options.store,
        liquidity=options.settings.liquidity,
        seed=options.seed,
        scenario=options.scenario,
        step_interval_s=options.settings.step_interval_s,
        replay=Path(options.settings.replay) if options.settings.replay else None,
    )
    virtual = VirtualClock() if options.clock == "virtual" else None
    async with open_host(
        settings,
        clock=time.time_ns if virtual is None else virtual.time_ns,
        sleep=asyncio.sleep if virtual is None else virtual.sleep,
        virtual=virtual,
    ) as host:
        accounts = [
            await _open_account(host, account, options.seed)
            for account in options.settings.accounts
        ]
        binance = BinanceDoors(host, options.settings, seed=options.seed)
        async with (
            serve_web(
                lambda cutter: make_web_app(binance.routes(cutter), admin.routes(host)),
                options.host,
                options.port,
            ) as web,
            binance.run(),
            open_door(
                host,
                options.host,
                options.native_port,
                limits=NativeLimits(binance.api.limits) if options.settings.limits.native else None,
            ) as door,
        ):
            host.faults.on_restart(web.cut_all)
            at = _shown(web.address)
            announce(
                Serving(
                    rest=f"http://{at}",
                    ws_api=f"ws://{at}/ws-api/v3",
                    stream=f"ws://{at}/ws",
                    admin=f"http://{at}/admin",
                    native=_shown(door.address),
                    pid=os.getpid(),
                    accounts=accounts,
                )
            )
            # What is there now stays; orders leave few cycles behind, and each search for them is a pause.
            gc.freeze()
            gc.set_threshold(_GC_THRESHOLD)
            await stop.wait()


async def _open_account(host: Host, account: AccountSettings, seed: int) -> ServingAccount:
    """Open an account with a key, unless it has both."""
    await host.open_account(account.name, account.read_balances())
    known = [key for key in host.exchange.api_keys(account.name) if key.kind is KeyKind.HMAC]
    if account.api_key:
        api_key, secret = account.api_key, account.api_secret
    elif known:
        return ServingAccount(
            name=account.name, api_key=known[0].api_key, api_secret=known[0].secret
        )
    else:
        # From the seed, so that a bot's configuration still fits when an exchange without a file is
        # started again. They guard play money on the loopback.
        api_key, secret = (_derive(seed, account.name, part) for part in ("key", "secret"))
    await host.carry_out(CreateApiKey(account=account.name, api_key=api_key, secret=secret))
    return ServingAccount(name=account.name, api_key=api_key, api_secret=secret)


def _derive(seed: int, account: str, part: str) -> str:
    """Make 64 hexadecimal digits, as long as Binance's keys and secrets."""
    return hmac.new(
        f"tradegw-mock:{seed}".encode(), f"{account}:{part}".encode(), hashlib.sha256
    ).hexdigest()


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
