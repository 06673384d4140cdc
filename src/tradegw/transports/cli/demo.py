"""`tradegw demo`: the main job in a minute, with real processes, really killed, and every claim counted."""

from __future__ import annotations

import asyncio
import json as json_module
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from tradegw.errors import ConfigError, TradegwError
from tradegw.gateway.api import Gateway
from tradegw.gateway.extensions import CrashPoint, list_plugins
from tradegw.model import EventType, Fill, Order, plain
from tradegw.transports.cli.asking import Json
from tradegw.transports.cli.exits import ExitCode
from tradegw.transports.cli.explain import tell
from tradegw.transports.cli.show import console, print_json, show_table
from tradegw.transports.cli.values import clean

__all__ = ["demo"]

_START_S: Final = 30.0
_SETTLE_S: Final = 30.0
_STOP_S: Final = 15.0
_ASK_AGAIN_S: Final = 0.05
_CONFIG: Final = """\
[venues.exchange]
plugin = "mock"
url = "{url}"

[accounts.paper]
venue = "exchange"
"""


async def demo(
    *, directory: Annotated[Path | None, Parameter(name="--dir")] = None, json: Json = False
) -> int:
    """Place, fill and cancel at an exchange in another process; kill the gateway mid-order; count.

    It starts a mock exchange and a gateway, each a process of its own, trades, and lets the gateway be
    killed (SIGKILL) when an order has left and its answer has not been read. Then it starts the gateway
    again, sends the same key again, and compares the gateway's record with the exchange's own ledger. It
    takes less than a minute, and exits with 1 if any number disagrees.

    For example:

        tradegw demo

        tradegw demo --dir /tmp/demo

    Args:
        directory: Where the stores and logs are kept. Default: a temporary directory, removed at the end.
    """
    found = {info.name: info for info in list_plugins()}
    if "mock" not in found or found["mock"].error:
        raise ConfigError("the demo needs the mock exchange: pip install tradegw-mock")
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C: the children are ended, and the directory is removed.
        signal.signal(number, _as_ctrl_c)
    async with AsyncExitStack() as stack:
        if directory is None:
            made = tempfile.TemporaryDirectory(prefix="tradegw-demo-")
            directory = Path(stack.enter_context(made))
        else:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise ConfigError(
                    f"--dir must be empty, for the numbers to be its own: {directory}"
                )
        show = _Show(quiet=json)
        started = time.monotonic()
        checks = await _play(directory, show)
        seconds = time.monotonic() - started
    ok = all(check.ok for check in checks)
    if json:
        rows = [
            {"what": c.what, "gateway": c.ours, "exchange": c.theirs, "ok": c.ok} for c in checks
        ]
        print_json({"ok": ok, "seconds": f"{seconds:.1f}", "checks": rows})
    else:
        _show_checks(checks, ok=ok, seconds=seconds)
    return ExitCode.OK if ok else ExitCode.REFUSED


def _as_ctrl_c(number: int, frame: object) -> None:
    signal.raise_signal(signal.SIGINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """One number, as two sides know it."""

    what: str
    ours: str
    theirs: str

    @property
    def ok(self) -> bool:
        return self.ours == self.theirs


class _Show:
    """Tells the story while it happens."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._step = 0

    def step(self, text: str) -> None:
        self._step += 1
        if not self._quiet:
            console().print(f"{self._step}. {clean(text)}", style="bold")

    def note(self, text: str) -> None:
        if not self._quiet:
            console().print(f"   {clean(text, limit=1000)}")

    def order(self, order: Order) -> None:
        px = "" if order.avg_px is None else f" at {plain(order.avg_px)}"
        size = "-" if order.order_qty is None else plain(order.order_qty)
        self.note(
            f"{order.side} {size} {order.symbol} {order.ord_type}: {order.ord_status}, filled "
            f"{plain(order.cum_qty)}{px}" + (", in doubt" if order.in_doubt else "")
        )


@dataclass(slots=True)
class _Folded:
    """The stream of fills, read so far."""

    fills: list[Fill] = field(default_factory=list[Fill])
    position: dict[str, int] = field(default_factory=dict[str, int])

    async def read_on(self, gateway: Gateway) -> int:
        """Resume where it was, read to the head, and return how many fills came."""
        before = len(self.fills)
        async for batch in gateway.stream_fills(after=dict(self.position)):
            self.fills.extend(item.fill for item in batch.fills)
            self.position.update({str(name): seq for name, seq in batch.position.items()})
            if batch.caught_up:
                break
        return len(self.fills) - before


async def _play(directory: Path, show: _Show) -> list[_Check]:
    folded = _Folded()
    serve = ["serve", "--config", "tradegw.toml", "--json", "--port", "0"]
    async with AsyncExitStack() as stack:
        show.step("An exchange, in a process of its own")
        exchange = await stack.enter_async_context(
            _process(
                "exchange",
                ["mock", "serve", "--store", "exchange.db", "--port", "0", "--json"],
                directory,
            )
        )
        url = str(exchange.told["native"])
        show.note(f"process {exchange.pid} at {url}")
        (directory / "tradegw.toml").write_text(_CONFIG.format(url=url), "utf-8")

        ask_ledger = ["mock", "ledger", "--url", url, "--account", "paper", "--json"]

        show.step("A gateway, in another, that trades there")
        async with _process("gateway", serve, directory) as first, _connected(first) as gateway:
            show.note(f"process {first.pid} at {first.told['grpc']}")
            await _until("the account takes orders", lambda: _is_ready(gateway))
            placed = await _trade(gateway, show)
            count = await folded.read_on(gateway)
            show.note(f"its stream of fills: {count} read; we stop reading at {_at(folded)}")

        show.step("The same gateway, which will be killed when its next order has left")
        crash = {"TRADEGW_CRASH_AT": "SENT_UNANSWERED:1"}
        async with _process("gateway-killed", serve, directory, crash) as doomed:
            async with _connected(doomed) as gateway:
                await _until("the account takes orders", lambda: _is_ready(gateway))
                asking = asyncio.create_task(_place_last(gateway))
                code = await asyncio.wait_for(doomed.process.wait(), _SETTLE_S)
                asking.cancel()
                with suppress(asyncio.CancelledError, TradegwError):
                    await asking
        show.note(
            f"process {doomed.pid} died by {_signal_name(code)}; the caller has no answer, only its key"
        )
        show.step("Started again; the caller sends the same key again")
        async with (
            _process("gateway-again", serve, directory) as again,
            _connected(again) as gateway,
        ):
            show.note(f"process {again.pid} at {again.told['grpc']}")
            await _until("the account takes orders", lambda: _is_ready(gateway))
            answer = await _place_last(gateway)
            show.order(answer)
            await _until("the doubt is settled", lambda: _is_settled(gateway, answer))
            last = await gateway.get_order(answer.order_id)
            events = await gateway.list_order_events(answer.order_id)
            count = await folded.read_on(gateway)
            show.note(
                f"the stream, resumed where we stopped: {count} more fills, now at {_at(folded)}"
            )
            show.note("the story of the order under the kill, from the record:")
            for event in events:
                show.note(f"  {event.seq:>3}  {tell(event)}")
            ours = {str(o.order_id): o for o in (await gateway.list_orders()).items}
            # The fills are in; what they did to the balances arrives with the next word of the exchange.
            ledger = await _run_json(ask_ledger, directory)
            with suppress(TradegwError):
                await _until("the balances", lambda: _has_balances(gateway, ledger))
            balances = await _balances(gateway)

        show.step("What the exchange's own ledger says, and the record by itself")
        ledger = await _run_json(ask_ledger, directory)
        verified = await _run_json(["verify", "--config", "tradegw.toml", "--json"], directory)
    show.note(f"{len(ledger['orders'])} orders, {len(ledger['fills'])} fills")
    return [
        _Check(what="how the gateway died", ours=_signal_name(code), theirs="SIGKILL"),
        _Check(what="where it died", ours=_crash_point(directory), theirs="SENT_UNANSWERED"),
        _Check(
            what="the order's first events in the record",
            ours=", ".join(event.event_type for event in events[:2]),
            theirs=f"{EventType.INTENT}, {EventType.SENT_UNANSWERED}",
        ),
        *_compare(ours, [*placed, last], last, ledger),
        *_compare_fills(folded.fills, ledger),
        *_compare_balances(balances, ledger),
        _Check(
            what=f"verify: problems in {_events_of(verified)} events",
            ours=str(len(verified["problems"])),
            theirs="0",
        ),
    ]


async def _trade(gateway: Gateway, show: _Show) -> list[Order]:
    bought = await gateway.place_order(
        account="paper",
        symbol="BTC/USDT",
        side="buy",
        ord_type="market",
        order_qty="0.25",
        idempotency_key="demo-1",
    )
    show.order(bought)
    resting = await gateway.place_order(
        account="paper",
        symbol="ETH/USDT",
        side="buy",
        ord_type="limit",
        order_qty="1",
        price="100",
        idempotency_key="demo-2",
    )
    show.order(resting)
    canceled = await gateway.cancel_order(resting.order_id, idempotency_key="demo-3")
    show.order(canceled)
    return [bought, canceled]


async def _place_last(gateway: Gateway) -> Order:
    return await gateway.place_order(
        account="paper",
        symbol="BTC/USDT",
        side="buy",
        ord_type="market",
        order_qty="0.5",
        idempotency_key="demo-killed",
    )


# --- what is compared -----------------------------------------------------------------------------


def _compare(
    ours: Mapping[str, Order], expected: Sequence[Order], last: Order, ledger: Mapping[str, Any]
) -> list[_Check]:
    theirs: list[dict[str, Any]] = ledger["orders"]
    of_last = [o for o in theirs if o["client_order_id"] == last.venue_client_order_id]
    known = {o.venue_client_order_id for o in ours.values()}
    strangers = [o for o in theirs if o["client_order_id"] not in known]
    status = of_last[0]["ord_status"] if len(of_last) == 1 else "?"
    filled = Decimal(of_last[0]["cum_qty"]) if len(of_last) == 1 else Decimal(-1)
    return [
        _Check(what="orders in all", ours=str(len(ours)), theirs=str(len(theirs))),
        _Check(what="orders that we asked for", ours=str(len(expected)), theirs=str(len(theirs))),
        _Check(what="orders for the key that was sent twice", ours="1", theirs=str(len(of_last))),
        _Check(what="orders there that nobody asked for", ours="0", theirs=str(len(strangers))),
        _Check(what="status of the order under the kill", ours=last.ord_status, theirs=status),
        _Check(what="its quantity filled", ours=_number(last.cum_qty), theirs=_number(filled)),
        _Check(what="orders in doubt at the end", ours=_doubts(ours), theirs="0"),
    ]


def _doubts(orders: Mapping[str, Order]) -> str:
    return str(sum(1 for order in orders.values() if order.in_doubt))


def _compare_fills(folded: Sequence[Fill], ledger: Mapping[str, Any]) -> list[_Check]:
    theirs: list[dict[str, Any]] = ledger["fills"]
    ids_ours = sorted(str(fill.trade_id) for fill in folded)
    ids_theirs = sorted(str(fill["trade_id"]) for fill in theirs)
    quote_ours = sum((f.last_px * f.last_qty for f in folded), Decimal(0))
    quote_theirs = sum((Decimal(f["price"]) * Decimal(f["qty"]) for f in theirs), Decimal(0))
    fees_theirs = sum((Decimal(f["fee"]) for f in theirs), Decimal(0))
    return [
        _Check(
            what="fills in the resumed stream",
            ours=f"{len(ids_ours)}: trades {_short(ids_ours)}",
            theirs=f"{len(ids_theirs)}: trades {_short(ids_theirs)}",
        ),
        _Check(
            what="their quantity, summed",
            ours=_sum(f.last_qty for f in folded),
            theirs=_sum(Decimal(f["qty"]) for f in theirs),
        ),
        _Check(
            what="their value, summed",
            ours=_number(quote_ours),
            theirs=_number(quote_theirs),
        ),
        _Check(
            what="their fees, summed",
            ours=_sum(f.fee or Decimal(0) for f in folded),
            theirs=_number(fees_theirs),
        ),
    ]


def _compare_balances(ours: Mapping[str, Decimal], ledger: Mapping[str, Any]) -> list[_Check]:
    theirs = _ledger_balances(ledger)
    return [
        _Check(
            what=f"balance of {asset}",
            ours=_number(ours.get(asset, Decimal(0))),
            theirs=_number(theirs[asset]),
        )
        for asset in ("BTC", "USDT")
    ]


def _ledger_balances(ledger: Mapping[str, Any]) -> dict[str, Decimal]:
    balances: dict[str, dict[str, str]] = ledger["balances"]["paper"]
    return {asset: Decimal(b["free"]) + Decimal(b["held"]) for asset, b in balances.items()}


async def _balances(gateway: Gateway) -> dict[str, Decimal]:
    return {b.asset: b.free + b.held for b in await gateway.list_balances("paper")}


async def _has_balances(gateway: Gateway, ledger: Mapping[str, Any]) -> bool:
    return await _balances(gateway) == _ledger_balances(ledger)


def _crash_point(directory: Path) -> str:
    """Return where the gateway says that it was killed, in its last word."""
    words = (directory / "gateway-killed.log").read_text("utf-8", "replace").split()
    found = [word for word in words if word in set(CrashPoint)]
    return found[-1] if found else "nowhere that it told"


def _number(value: Decimal) -> str:
    return plain(value.normalize())


def _sum(values: Iterable[Decimal]) -> str:
    return _number(sum(values, Decimal(0)))


def _short(ids: Sequence[str]) -> str:
    return ",".join(ids) if len(ids) <= 6 else f"{ids[0]},...,{ids[-1]}"


def _events_of(verified: Mapping[str, Any]) -> int:
    return sum(int(head["seq"]) for head in verified["accounts"].values())


def _show_checks(checks: Sequence[_Check], *, ok: bool, seconds: float) -> None:
    from rich.text import Text

    rows: list[list[str | Text]] = [
        [
            c.what,
            c.ours,
            c.theirs,
            Text("equal", style="green") if c.ok else Text("DIFFERS", style="bold red"),
        ]
        for c in checks
    ]
    console().print()
    show_table(["checked", "gateway", "exchange, or expected", ""], rows)
    console().print()
    agreeing = sum(1 for c in checks if c.ok)
    told = f"{agreeing} of {len(checks)} numbers agree, in {seconds:.1f} s."
    if ok:
        told += " No order was lost, none was doubled."
    console().print(told, style="bold green" if ok else "bold red")


# --- processes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    """A child that told where it listens."""

    process: asyncio.subprocess.Process
    told: Mapping[str, Any]

    @property
    def pid(self) -> int:
        return self.process.pid


@asynccontextmanager
async def _process(
    name: str, arguments: Sequence[str], directory: Path, extra: Mapping[str, str] | None = None
) -> AsyncGenerator[_Process]:
    """Run a command of ours in a process of its own; end it on leaving, whatever happens."""
    log = directory / f"{name}.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *_command(arguments),
            cwd=directory,
            env=_environment(extra),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            # Ctrl-C is for us, who then end the children.
            start_new_session=True,
        )
    try:
        yield _Process(process=process, told=await _first_line(process, name, log))
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), _STOP_S)
    finally:
        # Nobody needs the children's last words when this ends early.
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _first_line(
    process: asyncio.subprocess.Process, name: str, log: Path
) -> Mapping[str, Any]:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _START_S)
        told: Mapping[str, Any] = json_module.loads(line)
    except (TimeoutError, ValueError) as e:
        raise TradegwError(
            f"the {name} did not start: {_last_words(log)}", reason="DEMO_FAILED"
        ) from e
    return told


def _last_words(log: Path) -> str:
    return " | ".join(log.read_text("utf-8", "replace").strip().splitlines()[-3:]) or "no word"


async def _run_json(arguments: Sequence[str], directory: Path) -> Mapping[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *_command(arguments),
        cwd=directory,
        env=_environment(None),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        told: Mapping[str, Any] = json_module.loads(out)
    except ValueError as e:
        raise TradegwError(
            f"`tradegw {' '.join(arguments)}` failed: {errors.decode(errors='replace')[-500:]}",
            reason="DEMO_FAILED",
        ) from e
    return told


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "tradegw.transports.cli", *arguments]


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    # What the user's shell sets for another gateway must not reach this one.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRADEGW_")}
    return {**kept, **(extra or {})}


@asynccontextmanager
async def _connected(process: _Process) -> AsyncGenerator[Gateway]:
    from tradegw.transports.grpc.client import connect

    async with connect(str(process.told["grpc"]), timeout_s=_SETTLE_S) as gateway:
        yield gateway


async def _is_ready(gateway: Gateway) -> bool:
    return all(s.state == "READY" for v in await gateway.list_venues() for s in v.accounts)


async def _is_settled(gateway: Gateway, order: Order) -> bool:
    now = await gateway.get_order(order.order_id)
    return not now.in_doubt and not now.is_open


async def _until(what: str, ask: Callable[[], Awaitable[bool]]) -> None:
    try:
        async with asyncio.timeout(_SETTLE_S):
            while not await ask():  # noqa: ASYNC110  Another process decides.
                await asyncio.sleep(_ASK_AGAIN_S)
    except TimeoutError:
        raise TradegwError(f"{what}: not within {_SETTLE_S:g} s", reason="DEMO_FAILED") from None


def _signal_name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit {code}"


def _at(folded: _Folded) -> str:
    return (
        ", ".join(f"{name}:{seq}" for name, seq in sorted(folded.position.items())) or "the start"
    )
