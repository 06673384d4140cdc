"""`tradegw serve`: the gateway with its doors, until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tradegw.errors import ConfigError, TradegwError
from tradegw.gateway.clock import SystemClock
from tradegw.gateway.config import Config, load_config
from tradegw.gateway.metrics import tradegw_version
from tradegw.gateway.open import run_gateway
from tradegw.gateway.production import check_doors, is_loopback
from tradegw.gateway.replicas import check_forwarding
from tradegw.transports.cli.asking import Json
from tradegw.transports.cli.exits import ExitCode
from tradegw.transports.cli.logs import set_up_logging
from tradegw.transports.cli.show import print_json
from tradegw.transports.cli.workers import (
    is_worker,
    reserved,
    run_workers,
    when_starter_ends,
)
from tradegw.transports.grpc.peer import Peer
from tradegw.transports.grpc.server import serve as serve_grpc
from tradegw.transports.http.server import serve_http

__all__ = ["serve"]

log = logging.getLogger(__name__)

_PORT_MAX = 65_535


async def serve(
    *,
    config: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    http_port: int | None = None,
    workers: int = 1,
    json: Json = False,
) -> int:
    """Run the gateway until SIGTERM or Ctrl-C.

    Without a configuration it runs the mock exchange with the funded account paper, and keeps everything in
    tradegw.db in the working directory. With --json the first line of stdout is one JSON object that tells
    where the doors listen: grpc, http, pid, store. Logs go to stderr.

    For example:
        tradegw serve

        tradegw serve --config tradegw.toml --json --port 0

        tradegw serve --workers 4

    A signal takes readiness off and refuses new orders; cancels are still taken, and answers on their way
    are awaited for gateway.drain_s. A second Ctrl-C ends it at once, with exit code 130.

    Args:
        config: Configuration. Default: tradegw.toml in the working directory, if there is one.
        host: Address of both doors, instead of server.grpc_host and server.http_host.
        port: Port of the gRPC door. 0 takes free ports for both doors, unless --http-port is given.
        http_port: Port of the HTTP door.
        workers: Processes that share the doors' ports and the accounts; one that ends is started anew. More
            than one needs a store in Postgres.
    """
    if workers < 1:
        raise ConfigError(f"--workers is 1 or more; found {workers}")
    environ = dict(os.environ)
    if workers > 1:
        environ["TRADEGW__REPLICAS__ENABLED"] = "true"
    settings = load_config(config, environ=environ)
    set_up_logging(settings)
    stop = _Stop()
    stop.listen()
    free = port == 0 and http_port is None
    doors = _Doors(
        grpc_host=host or settings.server.grpc_host,
        grpc_port=settings.server.grpc_port if port is None else port,
        http_host=host or settings.server.http_host,
        http_port=(0 if free else settings.server.http_port) if http_port is None else http_port,
        host=host,
    )
    # The configuration is checked; --host comes after it.
    check_doors(settings.gateway.environment, {"--host": host or "127.0.0.1"})
    if workers > 1:
        return await _serve_by_workers(settings, config, doors, workers, stop, as_json=json)
    if not is_worker():
        check_forwarding(settings, doors.grpc_host)
    try:
        await _run(settings, doors, stop, as_json=json)
    except BaseExceptionGroup as group:
        # From the gateway's task group. What ended it is one of our errors, or a defect.
        expected = group.subgroup(TradegwError)
        if expected is not None and group.subgroup(lambda e: not _is_ours(e)) is None:
            raise _first(expected) from None
        raise
    return ExitCode.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doors:
    grpc_host: str
    grpc_port: int
    http_host: str
    http_port: int
    host: str | None = None

    def __post_init__(self) -> None:
        for name in ("grpc_port", "http_port"):
            port = getattr(self, name)
            # gRPC itself would take a larger one, and listen on what is left of it.
            if not 0 <= port <= _PORT_MAX:
                raise ConfigError(f"server.{name} is 0 to {_PORT_MAX}; found {port}")


async def _serve_by_workers(
    settings: Config, config: Path | None, doors: _Doors, count: int, stop: _Stop, *, as_json: bool
) -> int:
    with (
        reserved(doors.grpc_host, doors.grpc_port, "gRPC") as grpc_port,
        reserved(doors.http_host, doors.http_port, "HTTP") as http_port,
    ):
        addresses = {
            "grpc": f"{doors.grpc_host}:{grpc_port}",
            "http": f"{doors.http_host}:{http_port}",
        }
        words = ["serve", "--json", "--port", str(grpc_port), "--http-port", str(http_port)]
        words += [] if config is None else ["--config", str(config)]
        words += [] if doors.host is None else ["--host", doors.host]

        def announce(pids: Sequence[int]) -> None:
            log.info("%d workers listen", count, extra=addresses)
            _announce(settings, addresses, as_json=as_json, workers=pids)

        code = await run_workers(words, count, stop=stop.asked, announce=announce)
    log.info("stopped")
    return code


async def _run(config: Config, doors: _Doors, stop: _Stop, *, as_json: bool) -> None:
    own_host = None
    if is_worker():
        when_starter_ends(lambda: stop.ask("its starter ended"))
        own_host = config.replicas.address.rpartition(":")[0] or "127.0.0.1"
        check_doors(config.gateway.environment, {"replicas.address": own_host})
    async with run_gateway(
        config, clock=SystemClock(), wait_for_store=True, connect=Peer
    ) as running:
        async with (
            serve_grpc(
                running.gateway,
                doors.grpc_host,
                doors.grpc_port,
                operations=running.gateway,
                metrics=running.metrics,
                own_host=own_host,
            ) as grpc,
            serve_http(
                running.gateway,
                doors.http_host,
                doors.http_port,
                metrics=running.metrics,
                is_shared=own_host is not None,
            ) as http,
        ):
            addresses = {"grpc": grpc.address, "http": http.address}
            forward = {"forward": grpc.own_address} if grpc.own_address else {}
            running.publish_addresses({**addresses, **forward})
            log.info("listening", extra=addresses)
            if not (is_loopback(doors.grpc_host) and is_loopback(doors.http_host)):
                log.warning("the doors ask nobody for a key: whoever reaches them can trade")
            _announce(config, addresses, as_json=as_json)
            await stop.asked.wait()
            log.info("%s: no new orders from now on, waiting for answers", stop.why)
            await grpc.set_not_serving()
            http.set_not_serving()
            # Before the doors close: they take cancels meanwhile, and hand the answers out.
            await running.drain()
    log.info("stopped")


class _Stop:
    """The wish to end, as signals bring it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.why = ""

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # `nohup` had it ignored, for a reason.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._ask, number)

    def _ask(self, number: signal.Signals) -> None:
        if self.asked.is_set() and number is signal.SIGINT:
            sys.stderr.write(
                "tradegw: ended at once; what was unanswered is in doubt at the next start\n"
            )
            sys.stderr.flush()
            os._exit(ExitCode.INTERRUPTED)
        self.ask(number.name)

    def ask(self, why: str) -> None:
        """Wish to end."""
        self.why = why
        self.asked.set()


def _announce(
    config: Config, addresses: Mapping[str, str], *, as_json: bool, workers: Sequence[int] = ()
) -> None:
    if as_json:
        told = {**addresses, "pid": os.getpid(), "store": config.store.shown_url}
        print_json({**told, "workers": workers} if workers else told)
        return
    from tradegw.gateway.config import ServerConfig

    usual = f"{ServerConfig().grpc_host}:{ServerConfig().grpc_port}"
    target = "" if addresses["grpc"] == usual else f" --target {addresses['grpc']}"
    accounts = ", ".join(f"{a.name} at {a.venue}" for a in config.accounts.values()) or "none"
    lines = [
        f"tradegw {tradegw_version()} is running, process {os.getpid()}"
        + (f" with {len(workers)} workers" if workers else ""),
        "",
        f"  gRPC      {addresses['grpc']}",
        f"  HTTP      http://{addresses['http']}  (/healthz /readyz /metrics /orders/count)",
        f"  store     {config.store.shown_url}",
        f"  accounts  {accounts}",
        "",
    ]
    if config.accounts:
        account = next(iter(config.accounts))
        lines += [
            "Place an order from another terminal:",
            "",
            f"  tradegw order place{target} {_EXAMPLE.format(account)}",
            "",
        ]
    print("\n".join([*lines, "Ctrl-C stops."]), flush=True)


_EXAMPLE = "--account {} --symbol BTC/USDT --side buy --type market --qty 0.01"


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, (TradegwError, BaseExceptionGroup))


def _first(group: BaseExceptionGroup[TradegwError]) -> TradegwError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # pyright: ignore[reportUnknownMemberType]
    assert isinstance(error, TradegwError)
    return error
